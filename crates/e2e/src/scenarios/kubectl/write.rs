//! Changing: apply, replace, patch, edit, label, set.

use super::{APP, run};
use crate::cluster::Cluster;
use crate::scenarios::namespace::Namespace;
use anyhow::{Result, ensure};

/// Client-side apply: create, no change, change, diff, prune, and the annotation that it lives by.
pub fn applies(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "apply")?;
    let app = ns.file("app.yaml", APP)?;
    let changed =
        ns.file("changed.yaml", &APP.replace("value: two", "value: three").replace("color: blue", "shade: dark"))?;
    run(
        &ns,
        &[
            (
                &format!("apply -f {app}"),
                &["deployment.apps/app created", "configmap/app created", "service/app created"],
            ),
            (
                &format!("apply -f {app}"),
                &["deployment.apps/app unchanged", "configmap/app unchanged", "service/app unchanged"],
            ),
            (&format!("diff -f {app}"), &[]),
            (
                &format!("!diff -f {changed}"),
                &["-          value: two", "+          value: three", "-  color: blue", "+  shade: dark"],
            ),
            (
                &format!("apply --dry-run=server -f {changed}"),
                &["configmap/app configured (server dry run)", "service/app unchanged (server dry run)"],
            ),
            ("get configmap app -o jsonpath={.data}", &["{\"color\":\"blue\"}"]),
            (
                &format!("apply -f {changed}"),
                &["deployment.apps/app configured", "configmap/app configured", "service/app unchanged"],
            ),
            ("get configmap app -o jsonpath={.data}", &["{\"shade\":\"dark\"}"]),
            (
                "get deployment app -o jsonpath={.spec.template.spec.containers[0].env}",
                &[r#"[{"name":"ONE","value":"one"},{"name":"TWO","value":"three"}]"#],
            ),
            ("apply view-last-applied configmap app", &["shade: dark"]),
            // A field that somebody else set stays.
            ("annotate configmap app by=hand", &["annotated"]),
            (&format!("apply -f {app}"), &["configmap/app configured"]),
            ("get configmap app -o jsonpath={.metadata.annotations.by}", &["hand"]),
            (&format!("replace -f {app}"), &["deployment.apps/app replaced", "service/app replaced"]),
            (&format!("replace --force -f {app}"), &["configmap \"app\" deleted", "configmap/app replaced"]),
            (&format!("delete -f {app} --wait=false"), &["deployment.apps \"app\" deleted", "service \"app\" deleted"]),
            ("!apply -f /nonexistent.yaml", &["does not exist"]),
        ],
    )?;
    // Prune removes what is labelled, was applied, and is in the manifest no more.
    let map = |name: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{set: one}}}}\n---\n")
    };
    let both = ns.file("both.yaml", &(map("stays") + &map("goes")))?;
    let one = ns.file("one.yaml", &map("stays"))?;
    run(
        &ns,
        &[
            (&format!("apply -f {both}"), &["configmap/goes created"]),
            (
                &format!("apply -f {one} --prune -l set=one --prune-allowlist=core/v1/ConfigMap"),
                &["configmap/stays unchanged", "configmap/goes pruned"],
            ),
            ("!get configmap goes", &["not found"]),
        ],
    )?;
    // Wrong manifests.
    for (name, text, want) in [
        ("unknown-field", "data: {a: b}\ndata2: {}", "unknown field \"data2\""),
        ("type", "data: [a]", "cannot unmarshal array into Go struct field ConfigMap.data of type map[string]string"),
        ("yaml", "data: {a: b", "error converting YAML to JSON"),
    ] {
        let file = ns.file(name, &format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: wrong}}\n{text}\n"))?;
        run(&ns, &[(&format!("!apply -f {file}"), &[want])])?;
    }
    let kind = ns.file("kind", "apiVersion: example.com/v1\nkind: Nonesuch\nmetadata: {name: x}\n")?;
    run(&ns, &[(&format!("!apply -f {kind}"), &["no matches for kind \"Nonesuch\" in version \"example.com/v1\""])])?;
    ns.delete()
}

/// Server-side apply: owners, conflicts, force, giving up fields, and taking over from client-side apply.
pub fn applies_on_the_server(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "ssa")?;
    let app = ns.file("app.yaml", APP)?;
    let changed = ns.file("changed.yaml", &APP.replace("value: two", "value: three"))?;
    run(
        &ns,
        &[
            (&format!("apply --server-side -f {app}"), &["deployment.apps/app serverside-applied"]),
            (&format!("diff --server-side -f {app}"), &[]),
            (&format!("!diff --server-side -f {changed}"), &["+          value: three"]),
            (
                &format!("!apply --server-side --field-manager=other -f {changed}"),
                &[
                    "Apply failed with 1 conflict: conflict with \"kubectl\": .spec.template.spec.containers[name=\"app\"].env[name=\"TWO\"].value",
                ],
            ),
            (
                &format!("apply --server-side --field-manager=other --force-conflicts -f {changed}"),
                &["serverside-applied"],
            ),
            (&format!("!apply --server-side -f {app}"), &["conflict with \"other\""]),
            ("get deployment app -o jsonpath={.spec.template.spec.containers[0].env[1].value}", &["three"]),
        ],
    )?;
    // A manager that drops a field which it alone owns removes it.
    let map = |data: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: shared}}\ndata: {data}\n");
    let (one, two, less) = (
        ns.file("1", &map("{a: left, b: mid}"))?,
        ns.file("2", &map("{b: mid, c: right}"))?,
        ns.file("3", &map("{}"))?,
    );
    run(
        &ns,
        &[
            (&format!("apply --server-side --field-manager=one -f {one}"), &[]),
            (&format!("apply --server-side --field-manager=two -f {two}"), &[]),
            (&format!("apply --server-side --field-manager=one -f {less}"), &[]),
            ("get configmap shared -o jsonpath={.data}", &[r#"{"b":"mid","c":"right"}"#]),
        ],
    )?;
    // What client-side apply owned passes to the server-side manager, so that it can be dropped there.
    let (before, after) = (
        ns.file("4", &map("{old: x}").replace("shared", "moved"))?,
        ns.file("5", &map("{new: x}").replace("shared", "moved"))?,
    );
    run(
        &ns,
        &[
            (&format!("apply -f {before}"), &["configmap/moved created"]),
            (&format!("apply --server-side -f {after}"), &["serverside-applied"]),
            ("get configmap moved -o jsonpath={.data}", &[r#"{"new":"x"}"#]),
        ],
    )?;
    ns.delete()
}

pub fn patches_and_edits(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "patch")?;
    let app = ns.file("app.yaml", APP)?;
    run(
        &ns,
        &[
            (&format!("create -f {app}"), &[]),
            // Strategic: lists merge by key. Merge: they are replaced. JSON: by position.
            (
                r#"patch deployment app -p '{"spec":{"template":{"spec":{"containers":[{"name":"app","env":[{"name":"SIX","value":"6"}]}]}}}}'"#,
                &["patched"],
            ),
            ("get deployment app -o jsonpath={.spec.template.spec.containers[0].env[*].name}", &["SIX ONE TWO"]),
            (r#"patch configmap app --type=merge -p '{"data":{"color":null,"size":"L"}}'"#, &["patched"]),
            ("get configmap app -o jsonpath={.data}", &[r#"{"size":"L"}"#]),
            (
                r#"patch configmap app --type=json -p '[{"op":"test","path":"/data/size","value":"L"},{"op":"replace","path":"/data/size","value":"M"},{"op":"add","path":"/data/new","value":"n"}]'"#,
                &["patched"],
            ),
            ("get configmap app -o jsonpath={.data}", &[r#"{"new":"n","size":"M"}"#]),
            (
                r#"!patch configmap app --type=json -p '[{"op":"test","path":"/data/size","value":"L"}]'"#,
                &["the server rejected our request due to an error in our request"],
            ),
            (r#"patch configmap app -p '{"data":{"size":"M"}}'"#, &["configmap/app patched (no change)"]),
            (r#"!patch configmap app -p '{"data":{"size":1}}'"#, &["cannot convert int64 to string"]),
            (
                r#"!patch deployment app -p '{"spec":{"selector":{"matchLabels":{"app":"b"}}}}'"#,
                &["spec.selector: Invalid value", "field is immutable"],
            ),
            (
                r#"!patch service app -p '{"spec":{"clusterIP":"10.43.0.77"}}'"#,
                &["spec.clusterIPs[0]: Invalid value", "may not change once set"],
            ),
            (
                r#"patch deployment app --subresource=scale --type=merge -p '{"spec":{"replicas":0}}'"#,
                &["scale.autoscaling/app patched"],
            ),
            ("get deployment app --subresource=scale", &["NAME   DESIRED   AVAILABLE   AGE"]),
            (
                "get deployment app --subresource=scale -o jsonpath={.kind}/{.spec.replicas}/{.status.selector}",
                &["Scale/0/app=app"],
            ),
            // Through `status` only the status changes, and through the object only the rest.
            ("create service loadbalancer lb --tcp=80", &[]),
            (
                r#"patch service lb --subresource=status --type=merge -p '{"spec":{"type":"NodePort"},"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.9"}]}}}'"#,
                &["patched"],
            ),
            (r#"patch service lb -p '{"status":{"loadBalancer":null}}'"#, &["no change"]),
            ("get service lb", &["LoadBalancer", "192.0.2.9"]),
            ("label configmap app a=1 b=2", &["labeled"]),
            ("!label configmap app a=3", &["--overwrite is false"]),
            ("label configmap app a=3 b- --overwrite", &["configmap/app"]),
            ("annotate configmap app note='two words'", &["annotated"]),
            (
                "get configmap app -o jsonpath={.metadata.labels}{.metadata.annotations.note}",
                &[r#"{"a":"3"}two words"#],
            ),
            ("!label configmap app 'a=no good'", &["invalid label value"]),
            ("set image deployment/app app=example.com/app:2", &["image updated"]),
            ("set env deployment/app SEVEN=7 ONE-", &["env updated"]),
            ("set env deployment/app --list", &["SEVEN=7"]),
            (
                "set resources deployment/app --limits=cpu=200m,memory=64Mi --requests=cpu=10m",
                &["resource requirements updated"],
            ),
            ("set serviceaccount deployment/app default", &["serviceaccount updated"]),
            ("set selector service/app tier=x", &["selector updated"]),
            (
                "get deployment app -o jsonpath={.spec.template.spec.containers[0].resources}",
                &[r#"{"limits":{"cpu":"200m","memory":"64Mi"},"requests":{"cpu":"10m"}}"#],
            ),
            ("get service app -o jsonpath={.spec.selector}", &[r#"{"tier":"x"}"#]),
            ("expose deployment app --name=exposed --port=80 --target-port=8080", &["service/exposed exposed"]),
        ],
    )?;
    // The editor is a program that changes the file.
    let edit = |script: &str, what: &str| -> Result<crate::cluster::Done> {
        let editor = ns.file("editor", &format!("#!/bin/sh\n{script}\n"))?;
        ns.c.must(&["chmod", "+x", &editor])?;
        ns.c.run(&["env", &format!("EDITOR={editor}"), &ns.kubectl_path(), "-n", ns.name(), "edit", "configmap", what])
    };
    let d = edit("sed -i 's/size: M/size: XL/' \"$1\"", "app")?;
    ensure!(d.ok && d.stdout.contains("configmap/app edited"), "{}{}", d.stdout, d.stderr);
    run(&ns, &[("get configmap app -o jsonpath={.data.size}", &["XL"])])?;
    let d = edit("true", "app")?;
    ensure!(d.stderr.contains("Edit cancelled, no changes made"), "{}{}", d.stdout, d.stderr);
    // A change that the server refuses ends where the person can take it up again.
    let d = edit("sed -i 's/size: XL/size: [1]/' \"$1\"", "app")?;
    ensure!(!d.ok && d.stderr.contains("configmaps \"app\" is invalid"), "{}{}", d.stdout, d.stderr);
    ns.delete()
}
