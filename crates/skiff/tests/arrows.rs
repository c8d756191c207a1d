//! Which crate may know which: the table in `ARCHITECTURE.md` against `cargo metadata`. And that the document's paths
//! exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Crate → Skiff's own crates that it depends on.
type Arrows = BTreeMap<String, BTreeSet<String>>;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Rows of the section "Crates": `| `name` | `uses` `uses` | … |`.
fn documented(text: &str) -> Arrows {
    let section = text.split("\n## Crates\n").nth(1).expect("ARCHITECTURE.md has a section \"Crates\"");
    let section = section.split("\n## ").next().unwrap_or(section);
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_string).collect::<Vec<_>>();
    section
        .lines()
        .filter(|l| l.starts_with("| `"))
        .map(|l| {
            let cells: Vec<&str> = l.split('|').collect();
            (names(cells[1]).remove(0), names(cells[2]).into_iter().collect())
        })
        .collect()
}

/// What cargo says. Dependencies of tests alone don't count: they don't end up in the program.
fn actual() -> Arrows {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo metadata runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).expect("cargo metadata prints JSON");
    let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_string();
    let packages = metadata["packages"].as_array().expect("packages");
    let ours: BTreeSet<String> = packages.iter().map(|p| text(&p["name"])).collect();
    packages
        .iter()
        .map(|p| {
            let uses = p["dependencies"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|d| d["kind"].as_str() != Some("dev"))
                .map(|d| text(&d["name"]))
                .filter(|n| ours.contains(n))
                .collect();
            (text(&p["name"]), uses)
        })
        .collect()
}

#[test]
fn the_crate_table_of_the_architecture_is_true() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let (said, is) = (documented(&text), actual());
    assert_eq!(
        said.keys().collect::<Vec<_>>(),
        is.keys().collect::<Vec<_>>(),
        "crates in the table, crates that exist"
    );
    let wrong: Vec<String> = said
        .iter()
        .filter(|(name, uses)| is[*name] != **uses)
        .map(|(name, uses)| format!("{name}: the table says {uses:?}, Cargo.toml says {:?}", is[name]))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What "must not know" comes down to, whatever somebody writes into the table.
#[test]
fn layers_stay_layers() {
    let is = actual();
    let reaches = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut todo = vec![from.to_string()];
        while let Some(name) = todo.pop() {
            for next in &is[&name] {
                if seen.insert(next.clone()) {
                    todo.push(next.clone());
                }
            }
        }
        seen
    };
    for component in ["controllers", "scheduler", "kubelet", "proxy", "dns", "client"] {
        let known = reaches(component);
        for secret in ["apiserver", "store", "api", "runtime", "podnet", "skiff"] {
            // What an object uses of a quota is counted the same way by admission and by the controller.
            if (component, secret) == ("controllers", "api") {
                continue;
            }
            assert!(!known.contains(secret), "{component} must not know {secret}");
        }
    }
    for bottom in ["runtime", "podnet", "cri", "sys"] {
        let known = reaches(bottom);
        for secret in ["meta", "client", "kubelet", "api"] {
            assert!(!known.contains(secret), "{bottom} must not know {secret}: it knows no Kubernetes objects");
        }
    }
    for pure in ["stdx", "meta", "sys", "cri"] {
        assert!(is[pure].is_empty(), "{pure} stands on its own");
    }
}

/// Paths as they stand in the document: `crate/…`, below `crates/`.
fn paths(text: &str, crates: &BTreeSet<String>) -> Vec<String> {
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|t| !t.contains('<') && t.split_once('/').is_some_and(|(head, _)| crates.contains(head)))
        .flat_map(|t| match t.split_once('{').and_then(|(a, rest)| Some((a, rest.split_once('}')?))) {
            Some((before, (names, after))) => names.split(',').map(|n| format!("{before}{n}{after}")).collect(),
            None => vec![t.to_string()],
        })
        .collect()
}

#[test]
fn paths_in_the_architecture_exist() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let named = paths(&text, &actual().into_keys().collect());
    assert!(named.len() > 40, "only {} paths were found: {named:?}", named.len());
    let missing: Vec<_> = named.iter().filter(|p| !root().join("crates").join(p).exists()).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names what isn't there: {missing:?}");
    let two = paths("see `a/src/{x,y}.rs`, `b`, `c/z` and `a/<k>`", &BTreeSet::from(["a".to_string()]));
    assert_eq!(two, ["a/src/x.rs", "a/src/y.rs"]);
}

#[test]
fn a_wrong_table_is_noticed() {
    let table = "# A\n\n## Crates\n\n| crate | uses |\n|---|---|\n| `a` | `b` `c` | x |\n| `b` | | `c` |\n\n## Next\n| `d` | |\n";
    let got = documented(table);
    assert_eq!(got.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(got["a"].iter().collect::<Vec<_>>(), ["b", "c"]);
    assert!(got["b"].is_empty());
}
