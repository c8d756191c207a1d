//! Encryption at rest beyond the first key: turned on later, with a KMS plugin that comes and goes, in etcd.

use crate::cluster::Cluster;
use crate::kms::Plugin;
use crate::scenarios::etcd;
use crate::scenarios::storage_migration::migrate;
use crate::wire::Who;
use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::path::PathBuf;
use std::time::Duration;

const PLAIN: &str = "not-for-strangers";
/// Of the server's interest in files and plugins.
const PATIENCE: Duration = Duration::from_secs(40);

/// Whether any file of the store holds the text.
pub fn on_disk(c: &Cluster, text: &[u8]) -> Result<bool> {
    for entry in std::fs::read_dir(c.data_dir().join("store"))? {
        // What was removed in between isn't there.
        let Ok(bytes) = std::fs::read(entry?.path()) else { continue };
        if bytes.windows(text.len()).any(|w| w == text) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn configure(c: &Cluster, providers: &str) -> Result<PathBuf> {
    let (file, new) = (c.dir().join("encryption.yaml"), c.dir().join("encryption.yaml.new"));
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n{providers}"
    );
    std::fs::write(&new, text)?;
    std::fs::rename(&new, &file)?;
    Ok(file)
}

fn keyed(kind: &str, name: &str, byte: u8) -> String {
    format!("  - {kind}: {{keys: [{{name: {name}, secret: {}}}]}}\n", STANDARD.encode([byte; 32]))
}

fn stored() -> String {
    STANDARD.encode(PLAIN)
}

/// Secrets that are there, that were changed, that are gone: all of them lie in the store's files.
fn past(c: &Cluster) -> Result<()> {
    for name in ["kept", "changed", "gone"] {
        create(c, name)?;
    }
    let other = format!("{{\"data\":{{\"a\":\"{}\"}}}}", STANDARD.encode("something-else"));
    c.kubectl(&["patch", "secret", "changed", "-p", &other])?;
    c.kubectl(&["delete", "secret", "gone"])?;
    ensure!(on_disk(c, stored().as_bytes())?, "without encryption they lie there plain");
    Ok(())
}

fn nothing_plain(c: &Cluster) -> Result<()> {
    c.wait(PATIENCE, "the plain values to leave the disk", || Ok(!on_disk(c, stored().as_bytes())?))
}

fn create(c: &Cluster, name: &str) -> Result<String> {
    c.kubectl(&["create", "secret", "generic", name, &format!("--from-literal=a={PLAIN}")])
}

/// Everything once more, as upstream's guide has it.
fn rewrite(c: &Cluster) -> Result<String> {
    let all = c.kubectl(&["get", "secrets", "-A", "-o", "json"])?;
    c.kubectl_input(&["replace", "-f", "-"], &all)
}

fn read(c: &Cluster, name: &str) -> Result<String> {
    c.kubectl(&["get", "secret", name, "-o", "jsonpath={.data.a}"])
}

/// At a start, by a changed file while running, off again, and after everything was written again.
pub fn turned_on_later(c: &Cluster) -> Result<()> {
    c.serve(&["--disable-agent"])?;
    c.wait_api()?;
    past(c)?;
    c.stop_server(libc::SIGTERM)?;
    let file = configure(c, &(keyed("aescbc", "one", 1) + "  - identity: {}\n"))?;
    let flags = ["--disable-agent", "--encryption-provider-config-automatic-reload", "--encryption-provider-config"];
    let flags = [&flags[..], &[file.to_str().context("path")?]].concat();
    c.serve(&flags)?;
    c.wait_api()?;
    nothing_plain(c)?;
    ensure!(on_disk(c, b"k8s:enc:aescbc:v1:one:")?, "encrypted instead");
    ensure!(read(c, "kept")? == stored() && read(c, "changed")? == STANDARD.encode("something-else"), "all is read");
    c.stop_server(libc::SIGKILL)?;
    c.serve(&flags)?;
    c.wait_api()?;
    ensure!(read(c, "kept")? == stored() && !on_disk(c, stored().as_bytes())?, "after a crash");

    // Off again: identity first.
    configure(c, &format!("  - identity: {{}}\n{}", keyed("aescbc", "one", 1)))?;
    let taken = |n: usize| {
        c.wait(PATIENCE, "the changed file to be taken over", || {
            Ok(std::fs::read_to_string(c.log())?.matches("took over the changed encryption configuration").count() == n)
        })
    };
    taken(1)?;
    c.wait(PATIENCE, "all to be plain, as the administrator wishes", || {
        Ok(on_disk(c, stored().as_bytes())? && !on_disk(c, b"k8s:enc:")?)
    })?;
    ensure!(read(c, "kept")? == stored(), "plain and read");
    // And on with another key, while the server runs.
    configure(c, &(keyed("secretbox", "two", 2) + "  - identity: {}\n" + &keyed("aescbc", "one", 1)))?;
    taken(2)?;
    nothing_plain(c)?;
    ensure!(!on_disk(c, b"k8s:enc:aescbc:v1:one:")?, "nor under the old key");
    migrate(c, "onward", "secrets")?;
    ensure!(read(c, "kept")? == stored() && !on_disk(c, stored().as_bytes())?, "after a migration");
    // The old key can go.
    c.stop_server(libc::SIGTERM)?;
    configure(c, &keyed("secretbox", "two", 2))?;
    c.serve(&flags)?;
    c.wait_api()?;
    ensure!(read(c, "kept")? == stored(), "without the old key");
    let log = std::fs::read_to_string(c.log())?;
    ensure!(!log.contains("can't be decrypted"), "something wasn't readable");
    Ok(())
}

/// The checks of an endpoint that fail.
fn failing(c: &Cluster, endpoint: &str) -> Result<Vec<String>> {
    c.access()?.inside(async |access| {
        let text = access.http1(&Who::Nobody).await?.get(&format!("/{endpoint}?verbose")).await?.text();
        Ok(text.lines().filter(|l| l.starts_with("[-]")).map(str::to_string).collect())
    })
}

pub fn a_kms_plugin_keeps_the_keys(c: &Cluster) -> Result<()> {
    let socket = c.dir().join("kms.sock");
    let mut plugin = Plugin::new(&socket);
    let file = configure(
        c,
        &format!("  - kms: {{apiVersion: v2, name: plug, endpoint: 'unix://{}', timeout: 2s}}\n", socket.display()),
    )?;
    let flags = ["--disable-agent", "--encryption-provider-config", file.to_str().context("path")?];
    // The plugin comes after the server, which waits for it.
    c.serve(&flags)?;
    std::thread::sleep(Duration::from_secs(2));
    plugin.start()?;
    c.wait_api()?;
    create(c, "first")?;
    ensure!(on_disk(c, b"k8s:enc:kms:v2:plug:")? && !on_disk(c, stored().as_bytes())?, "the stored form");
    ensure!(on_disk(c, b"key-one")?, "the key's id is stored beside it");
    ensure!(plugin.state().asked.get("Encrypt") == Some(&1), "one seed, not one per value: {:?}", plugin.state().asked);

    // It says that it isn't well: not ready, but serving.
    let sick = |wanted: bool| {
        c.wait(PATIENCE, if wanted { "the check to fail" } else { "the check to pass" }, || {
            Ok(failing(c, "readyz")?.iter().any(|l| l == "[-]kms-provider-0 failed: reason withheld") == wanted)
        })
    };
    plugin.state().healthz = "the HSM is on fire".into();
    sick(true)?;
    ensure!(failing(c, "livez")?.is_empty(), "a restart wouldn't help");
    create(c, "while-unwell")?;
    ensure!(read(c, "while-unwell")? == stored(), "served nevertheless");
    plugin.state().healthz = "ok".into();
    sick(false)?;
    // It dies and comes back.
    plugin.stop();
    sick(true)?;
    create(c, "while-away")?;
    ensure!(read(c, "first")? == stored() && read(c, "while-away")? == stored(), "served nevertheless");
    plugin.start()?;
    sick(false)?;

    // A new key: values are written anew under it, and a rewrite as upstream's guide has it does something, too.
    let version = || c.kubectl(&["get", "secret", "first", "-o", "jsonpath={.metadata.resourceVersion}"]);
    let before = version()?;
    plugin.add_key("key-two");
    c.wait(PATIENCE, "values under the new key", || Ok(on_disk(c, b"key-two")? && !on_disk(c, b"key-one")?))?;
    rewrite(c)?;
    ensure!(version()? != before, "the rewrite wrote nothing");
    plugin.forget_key("key-one");
    c.stop_server(libc::SIGTERM)?;
    // Away at a start that needs it.
    plugin.stop();
    c.serve(&flags)?;
    std::thread::sleep(Duration::from_secs(3));
    ensure!(!c.kubectl_run(&["get", "--raw", "/readyz"])?.ok, "ready without its keys");
    plugin.start()?;
    c.wait_api()?;
    for name in ["first", "while-unwell", "while-away"] {
        ensure!(read(c, name)? == stored(), "{name} under the new key");
    }
    ensure!(!on_disk(c, stored().as_bytes())?, "something was plain");
    // It is there at the start but opens nothing yet: all else goes on, and what it opens later is read later.
    c.stop_server(libc::SIGTERM)?;
    plugin.state().refuses = true;
    c.serve(&flags)?;
    c.wait_api()?;
    let said = c.kubectl_fails(&["get", "secret", "first"])?;
    ensure!(said.contains("unable to transform key"), "{said}");
    plugin.state().refuses = false;
    c.wait(PATIENCE, "the values to be read", || Ok(c.kubectl_run(&["get", "secret", "first"])?.ok))?;
    ensure!(c.kubectl(&["get", "secrets", "-o", "name"])?.lines().count() == 3, "all of them");
    c.stop_server(libc::SIGTERM)
}

/// With a new key in front, a StorageVersionMigration takes every Secret from under the old one, which can go then.
pub fn a_migration_leaves_the_old_key(c: &Cluster) -> Result<()> {
    let Some(_etcd) = etcd::ready(c)? else { return Ok(()) };
    let file = configure(c, &keyed("secretbox", "one", 1))?;
    let flags = ["--disable-agent", "--datastore-endpoint", etcd::URL, "--encryption-provider-config"];
    let flags = [&flags[..], &[file.to_str().context("path")?]].concat();
    // Name and stored form of every Secret, asked of etcd itself.
    let held = || -> Result<Vec<(String, Vec<u8>)>> {
        let (from, to) = (STANDARD.encode("/registry/secrets/"), STANDARD.encode("/registry/secrets0"));
        let question = format!("{{\"key\":\"{from}\",\"range_end\":\"{to}\"}}");
        let text = c.must(&["curl", "-sf", "-d", &question, &format!("{}/v3/kv/range", etcd::URL)])?;
        let answer: serde_json::Value = serde_json::from_str(&text)?;
        let decoded = |v: &serde_json::Value| anyhow::Ok(STANDARD.decode(v.as_str().context("no text")?)?);
        answer["kvs"]
            .as_array()
            .with_context(|| format!("etcd has no Secrets: {text}"))?
            .iter()
            .map(|kv| Ok((String::from_utf8(decoded(&kv["key"])?)?, decoded(&kv["value"])?)))
            .collect()
    };
    let all_under = |key: &str| -> Result<usize> {
        let all = held()?;
        for (name, value) in &all {
            let form = String::from_utf8_lossy(&value[..value.len().min(40)]).into_owned();
            ensure!(form.starts_with(&format!("k8s:enc:secretbox:v1:{key}:")), "{name} isn't under key {key}: {form}");
        }
        Ok(all.len())
    };
    c.serve(&flags)?;
    c.wait_api()?;
    c.kubectl(&["create", "namespace", "other"])?;
    for (namespace, name) in [("default", "a"), ("default", "b"), ("other", "a")] {
        let literal = format!("--from-literal=a={PLAIN}");
        c.kubectl(&["create", "secret", "generic", name, "-n", namespace, &literal])?;
    }
    ensure!(all_under("one")? >= 3, "three Secrets were made");
    c.stop_server(libc::SIGTERM)?;

    configure(c, &(keyed("secretbox", "two", 2) + &keyed("secretbox", "one", 1)))?;
    c.serve(&flags)?;
    c.wait_api()?;
    let of_a = ["get", "secret", "a", "-o", "jsonpath={.metadata.uid} {.metadata.managedFields} {.data}"];
    let before = c.kubectl(&of_a)?;
    ensure!(all_under("one")? >= 3, "what isn't written stays under its key");
    migrate(c, "to-two", "secrets")?;
    ensure!(all_under("two")? >= 3, "no Secret is gone");
    ensure!(c.kubectl(&of_a)? == before, "the migration changed more than the key");
    c.stop_server(libc::SIGTERM)?;

    configure(c, &keyed("secretbox", "two", 2))?;
    c.serve(&flags)?;
    c.wait_api()?;
    ensure!(read(c, "a")? == stored() && read(c, "b")? == stored(), "without the old key");
    c.stop_server(libc::SIGTERM)
}

pub fn etcd_holds_what_is_sealed(c: &Cluster) -> Result<()> {
    let Some(_etcd) = etcd::ready(c)? else { return Ok(()) };
    let endpoint = ["--disable-agent", "--datastore-endpoint", etcd::URL];
    // What etcd holds for a Secret, asked of etcd itself.
    let held = |name: &str| -> Result<Vec<u8>> {
        let key = STANDARD.encode(format!("/registry/secrets/default/{name}"));
        let text =
            c.must(&["curl", "-sf", "-d", &format!("{{\"key\":\"{key}\"}}"), &format!("{}/v3/kv/range", etcd::URL)])?;
        let answer: serde_json::Value = serde_json::from_str(&text)?;
        Ok(STANDARD
            .decode(answer["kvs"][0]["value"].as_str().with_context(|| format!("etcd has no {name}: {text}"))?)?)
    };
    c.serve(&endpoint)?;
    c.wait_api()?;
    create(c, "plain")?;
    let contains = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    ensure!(contains(&held("plain")?, &stored()), "not encrypted yet");
    c.stop_server(libc::SIGTERM)?;

    let file = configure(c, &(keyed("aesgcm", "one", 1) + "  - identity: {}\n"))?;
    let flags = [&endpoint[..], &["--encryption-provider-config", file.to_str().context("path")?]].concat();
    c.serve(&flags)?;
    c.wait_api()?;
    create(c, "sealed")?;
    let sealed = held("sealed")?;
    ensure!(sealed.starts_with(b"k8s:enc:aesgcm:v1:one:") && !contains(&sealed, &stored()), "a new one is sealed");
    ensure!(contains(&held("plain")?, &stored()), "an old one stays until it is written");
    ensure!(read(c, "plain")? == stored() && read(c, "sealed")? == stored(), "both are read");
    rewrite(c)?;
    ensure!(held("plain")?.starts_with(b"k8s:enc:aesgcm:v1:one:"), "the rewrite sealed it");
    c.stop_server(libc::SIGTERM)?;

    // Rotation by a KMS plugin in front, and what another server's key sealed can't be taken for something else.
    let mut plugin = Plugin::new(&c.dir().join("kms.sock"));
    plugin.start()?;
    let kms =
        format!("  - kms: {{apiVersion: v2, name: plug, endpoint: 'unix://{}'}}\n", c.dir().join("kms.sock").display());
    configure(c, &(kms.clone() + &keyed("aesgcm", "one", 1)))?;
    c.serve(&flags)?;
    c.wait_api()?;
    rewrite(c)?;
    for name in ["plain", "sealed"] {
        ensure!(held(name)?.starts_with(b"k8s:enc:kms:v2:plug:"), "{name} isn't the plugin's");
    }
    plugin.add_key("key-two");
    c.wait(PATIENCE, "the new key to be taken", || Ok(std::fs::read_to_string(c.log())?.contains("key-two")))?;
    c.wait(PATIENCE, "a rewrite under the new key", || {
        rewrite(c)?;
        Ok(contains(&held("plain")?, "key-two"))
    })?;
    c.stop_server(libc::SIGTERM)?;
    plugin.forget_key("key-one");
    configure(c, &kms)?;
    c.serve(&flags)?;
    c.wait_api()?;
    ensure!(read(c, "plain")? == stored() && read(c, "sealed")? == stored(), "under the plugin's second key alone");
    c.stop_server(libc::SIGTERM)
}
