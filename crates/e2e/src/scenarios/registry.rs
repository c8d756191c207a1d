//! Images from a private registry (Debian's `docker-registry`, with passwords), through the kubelet: pull secrets of the
//! pod and of its service account, wrong and missing ones, and a mirror over TLS from `registries.yaml`.

use crate::cluster::Cluster;
use anyhow::{Context, Result, bail, ensure};
use std::process::{Child, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(40);
/// Of the user `me`; the password is `secret`.
const BCRYPT: &str = "$2b$04$2rGLQ7VHS9s8Qg7TtLFtN.vsjE1VqqbzMcpzg.uSoARF7oJHRRhw6";
const PLAIN: &str = "127.0.0.1:5055";
const TLS: &str = "192.0.2.2:5056";

/// Ends with the scenario.
struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn registry(c: &Cluster, address: &str, tls: &str) -> Result<Registry> {
    let dir = c.dir().display().to_string();
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {dir}/registry}}}}\n\
         http:\n  addr: {address}\n{tls}auth: {{htpasswd: {{realm: test, path: {dir}/htpasswd}}}}\n"
    );
    let file = c.dir().join(format!("registry-{address}.yaml"));
    std::fs::write(&file, config)?;
    let child = c
        .command("docker-registry")
        .arg("serve")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("docker-registry")?;
    let scheme = if tls.is_empty() { "http" } else { "https" };
    let registry = Registry(child);
    c.wait(Duration::from_secs(10), "the registry to listen", || {
        Ok(c.run(&["curl", "-ks", "-o", "/dev/null", &format!("{scheme}://{address}/v2/")])?.ok)
    })?;
    Ok(registry)
}

pub fn private_images_are_pulled(c: &Cluster) -> Result<()> {
    for tool in ["docker-registry", "skopeo", "openssl"] {
        if !c.run(&["sh", "-c", &format!("command -v {tool}")])?.ok {
            // `tools/setup tests` installs them.
            println!("{tool} isn't here: no private registry is tried");
            return Ok(());
        }
    }
    let dir = c.dir().display().to_string();
    std::fs::write(c.dir().join("htpasswd"), format!("me:{BCRYPT}\n"))?;
    let certificates = format!(
        "cd {dir}; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.crt; \
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=mirror -keyout tls.key -out tls.csr; \
         printf 'subjectAltName=IP:192.0.2.2\\nbasicConstraints=CA:FALSE\\n' > ext; \
         openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out tls.crt"
    );
    c.must(&["sh", "-ec", &certificates])?;
    let _plain = registry(c, PLAIN, "")?;
    let _tls = registry(c, TLS, &format!("  tls: {{certificate: {dir}/tls.crt, key: {dir}/tls.key}}\n"))?;
    let archive = format!("docker-archive:{}", c.tools.images.join("shop_backend_v1.tar").display());
    let target = format!("docker://{PLAIN}/team/app:v1");
    c.must(&["skopeo", "copy", "-q", "--dest-tls-verify=false", "--dest-creds=me:secret", &archive, &target])?;

    let registries = c.dir().join("registries.yaml");
    std::fs::write(
        &registries,
        format!(
            "mirrors:\n  images.example:\n    endpoint: [https://{TLS}]\n\
             configs:\n  {TLS}:\n    auth: {{username: me, password: secret}}\n    tls: {{ca_file: {dir}/ca.crt}}\n"
        ),
    )?;
    c.serve(&["--private-registry", &registries.display().to_string()])?;
    c.wait_ready()?;
    for (name, server, password) in
        [("right", PLAIN, "secret"), ("wrong", PLAIN, "guessed"), ("other", "registry.example", "secret")]
    {
        c.kubectl(&[
            "create",
            "secret",
            "docker-registry",
            name,
            &format!("--docker-server={server}"),
            "--docker-username=me",
            &format!("--docker-password={password}"),
        ])?;
    }
    let pod = |name: &str, image: &str, secret: &str, account: &str| {
        let secrets = if secret.is_empty() { "[]".into() } else { format!(r#"[{{"name":"{secret}"}}]"#) };
        c.apply(&format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}"}},"spec":{{"terminationGracePeriodSeconds":0,
              "serviceAccountName":"{account}","imagePullSecrets":{secrets},
              "containers":[{{"name":"c","image":"{image}","imagePullPolicy":"Always"}}]}}}}"#
        ))
    };
    let app = format!("{PLAIN}/team/app:v1");
    // First those that may not: nothing of the image is on the node yet.
    for (name, secret) in
        [("with-wrong", "wrong"), ("with-other", "other"), ("with-none", ""), ("with-missing", "nobody")]
    {
        pod(name, &app, secret, "default")?;
    }
    let mut told = Vec::new();
    for name in ["with-wrong", "with-other", "with-none", "with-missing"] {
        c.wait(PATIENCE, &format!("{name} to be told why"), || {
            let p = c.json(&["get", "pod", name])?;
            let waiting = &p["status"]["containerStatuses"][0]["state"]["waiting"];
            let reason = waiting["reason"].as_str().unwrap_or_default();
            if !["ErrImagePull", "ImagePullBackOff"].contains(&reason) {
                bail!("{waiting}");
            }
            let said = c.kubectl(&["describe", "pod", name])?;
            told.push(format!("{name}: {said}"));
            Ok(said.contains(&format!("Failed to pull image \"{app}\"")) && said.contains("pull access denied"))
        })
        .with_context(|| told.last().cloned().unwrap_or_default())?;
    }
    c.wait(PATIENCE, "a back-off", || Ok(c.kubectl(&["describe", "pod", "with-wrong"])?.contains("ImagePullBackOff")))?;
    let said = c.kubectl(&["describe", "pod", "with-missing"])?;
    ensure!(
        said.contains(
            "Unable to retrieve some image pull secrets (nobody); attempting to pull the image may not succeed."
        ),
        "a pull secret that isn't there is told: {said}"
    );
    // The right one, in the pod and in its service account; and a mirror, whose password the node knows.
    c.kubectl(&["create", "serviceaccount", "puller"])?;
    c.kubectl(&["patch", "serviceaccount", "puller", "-p", r#"{"imagePullSecrets":[{"name":"right"}]}"#])?;
    pod("with-right", &app, "right", "default")?;
    pod("by-account", &app, "", "puller")?;
    pod("by-mirror", "images.example/team/app:v1", "", "default")?;
    for name in ["with-right", "by-account", "by-mirror"] {
        c.kubectl(&["wait", &format!("pod/{name}"), "--for=condition=Ready", "--timeout=60s"])?;
        let events = c.kubectl(&["describe", "pod", name])?;
        ensure!(events.contains("Successfully pulled image"), "{name}: {events}");
    }
    // The secret is mended: the pod goes on by itself, at its next try.
    c.kubectl(&["delete", "secret", "wrong"])?;
    c.kubectl(&[
        "create",
        "secret",
        "docker-registry",
        "wrong",
        &format!("--docker-server={PLAIN}"),
        "--docker-username=me",
        "--docker-password=secret",
    ])?;
    c.kubectl(&["wait", "pod/with-wrong", "--for=condition=Ready", "--timeout=90s"]).map(|_| ())
}
