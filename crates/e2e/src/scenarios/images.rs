//! `skiff images`, beside a server and without one: archives of every kind, and what is none.

use super::pods::PATIENCE;
use crate::cluster::{Cluster, Done};
use anyhow::{Context, Result, ensure};

fn images(c: &Cluster, args: &[&str]) -> Result<Done> {
    let data = c.data_dir().display().to_string();
    let skiff = c.tools.skiff.display().to_string();
    c.run(&[&[skiff.as_str(), "images"], args, &["--data-dir", &data]].concat())
}

/// Fails, says `want`, and no more than a person can read.
fn refused(c: &Cluster, args: &[&str], want: &str) -> Result<()> {
    let d = images(c, args)?;
    ensure!(!d.ok, "images {args:?} should have failed, but said:\n{}", d.stdout);
    ensure!(d.stderr.contains(want), "images {args:?}: wanted {want:?} in:\n{}", d.stderr);
    ensure!(d.stderr.lines().count() < 12 && !d.stderr.contains("panicked"), "images {args:?}:\n{}", d.stderr);
    Ok(())
}

pub fn archives(c: &Cluster) -> Result<()> {
    let docker = c.tools.images.join("shop_backend_v1.tar").display().to_string();
    let dir = c.dir().join("archives");
    std::fs::create_dir_all(&dir)?;
    let at = |name: &str| dir.join(name).display().to_string();
    let sh = |script: &str| {
        let script = format!("set -e; cd {}; D={docker}; {script}", dir.display());
        c.must(&["sh", "-c", &script]).with_context(|| script.clone())
    };
    // Nothing is there, and looking makes nothing.
    refused(c, &["list"], "there are no images in")?;
    ensure!(!c.data_dir().exists(), "images list made a data directory");

    sh(
        "skopeo --insecure-policy copy -q docker-archive:$D oci:layout:shop/backend:oci && tar -C layout -cf oci.tar . && gzip -k oci.tar",
    )?;
    sh("cp $D plain.tar; gzip -kc plain.tar > docker.tar.gz; tar -C layout -cf - . | gzip > oci.tgz")?;
    for (archive, name) in [
        (docker.clone(), "docker.io/shop/backend:v1"),
        (at("docker.tar.gz"), "docker.io/shop/backend:v1"),
        (at("layout"), "docker.io/shop/backend:oci"),
        (at("oci.tar"), "docker.io/shop/backend:oci"),
        (at("oci.tar.gz"), "docker.io/shop/backend:oci"),
        (at("oci.tgz"), "docker.io/shop/backend:oci"),
    ] {
        let d = images(c, &["import", &archive])?;
        ensure!(
            d.ok && d.stdout.contains("imported ") && d.stdout.contains(name),
            "{archive}: {}{}",
            d.stdout,
            d.stderr
        );
        let listed = images(c, &["list"])?.stdout;
        ensure!(listed.starts_with("IMAGE ") && listed.contains(name), "{archive}: {listed}");
        let d = images(c, &["rm", name])?;
        ensure!(d.ok && d.stdout == format!("removed {name}\n"), "rm {name}: {}{}", d.stdout, d.stderr);
        ensure!(!images(c, &["ls"])?.stdout.contains(name), "{name} is still listed");
    }

    // Two images in one archive: both, or with a broken second one neither.
    let other = c.tools.images.join("shop_backend_v2.tar").display().to_string();
    let images_dir = c.data_dir().join("runtime/images");
    let left = || -> Result<usize> {
        let count = |dir: &str| anyhow::Ok(std::fs::read_dir(images_dir.join(dir))?.count());
        Ok(count("layers")? + count("blobs/sha256")? + count("tmp")?)
    };
    ensure!(left()? == 0, "removed images have left something");
    sh(&format!(
        "mkdir -p one two both; tar -C one -xf $D; tar -C two -xf {other}; for i in one two; do mv $i/layer.tar both/$i.tar; \
        rm $i/manifest.json; mv $i/*.json both/$i.config; done; cd both; \
        echo '[{{\"Config\":\"one.config\",\"RepoTags\":[\"shop/backend:v1\"],\"Layers\":[\"one.tar\"]}},{{\"Config\":\"two.config\",\"RepoTags\":[\"shop/backend:v2\"],\"Layers\":[\"two.tar\"]}}]' > manifest.json; \
        tar -cf ../both.tar *; printf Z | dd of=two.tar bs=1 seek=2000 conv=notrunc 2>/dev/null; tar -cf ../half.tar *"
    ))?;
    refused(c, &["import", &at("half.tar")], "expected sha256:")?;
    ensure!(images(c, &["list"])?.stdout.lines().count() == 1 && left()? == 0, "half an archive was taken");
    let d = images(c, &["import", &at("both.tar")])?;
    ensure!(d.ok && d.stdout.lines().count() == 2, "both.tar: {}{}", d.stdout, d.stderr);
    let listed = images(c, &["list"])?.stdout;
    for name in ["docker.io/shop/backend:v1", "docker.io/shop/backend:v2"] {
        ensure!(listed.contains(name), "{listed}");
    }
    ensure!(images(c, &["rm", "shop/backend:v2"])?.ok && left()? == 2, "rm of one of both");
    // What is refused takes nothing of what is there.
    refused(c, &["import", &at("half.tar")], "expected sha256:")?;
    let listed = images(c, &["list"])?.stdout;
    ensure!(listed.lines().count() == 2 && listed.contains("backend:v1") && left()? == 2, "{listed}");
    ensure!(images(c, &["rm", "shop/backend:v1"])?.ok && left()? == 0, "rm of the other");

    std::fs::write(dir.join("empty.tar"), "")?;
    std::fs::write(dir.join("text.tar"), "this is no archive, whatever its name says\n".repeat(100))?;
    sh(
        "head -c 1000000 $D > cut.tar; gzip -kc $D | head -c 500000 > cut.tar.gz; mkdir -p nothing other; echo x > other/file; tar -cf none.tar other",
    )?;
    sh(
        "gzip -kc $D > bad.tar.gz; printf 'XXXXXXXXXXXXXXXX' | dd of=bad.tar.gz bs=1 seek=300000 conv=notrunc 2>/dev/null",
    )?;
    // Wholly right but for the one thing that is said.
    sh("mkdir -p w && tar -C w -xf $D && cd w && \
        for i in *.json; do [ $i = manifest.json ] || C=$i; done && \
        sed 's/\"architecture\":\"[a-z0-9]*\"/\"architecture\":\"s390x\"/' $C > foreign.json && \
        sed \"s/$C/foreign.json/\" manifest.json > m && cp manifest.json right && mv m manifest.json && tar -cf ../foreign.tar manifest.json foreign.json layer.tar && \
        cp right manifest.json && cp layer.tar good && printf Z | dd of=layer.tar bs=1 seek=2000 conv=notrunc 2>/dev/null && tar -cf ../digest.tar manifest.json $C layer.tar && \
        tar -cf ../layerless.tar manifest.json $C && \
        echo '[{\"Config\":' > manifest.json && tar -cf ../syntax.tar manifest.json && \
        echo '[{\"Config\":\"../../etc/passwd\",\"RepoTags\":null,\"Layers\":[]}]' > manifest.json && tar -cf ../escape.tar manifest.json && \
        sed 's|shop/backend:v1|Shop//Bad:Name:x|' right > manifest.json && cp good layer.tar && tar -cf ../name.tar manifest.json $C layer.tar")?;
    for (file, want) in [
        ("empty.tar", "not an image archive"),
        ("text.tar", "failed to import"),
        ("cut.tar", "failed to import"),
        ("cut.tar.gz", "failed to import"),
        ("bad.tar.gz", "failed to import"),
        ("none.tar", "neither manifest.json nor index.json: not an image archive"),
        ("nothing", "neither manifest.json nor index.json: not an image archive"),
        ("missing.tar", "No such file or directory"),
        ("foreign.tar", "s390x"),
        ("digest.tar", "expected sha256:"),
        ("layerless.tar", "archive has no layer.tar"),
        ("syntax.tar", "manifest.json"),
        ("escape.tar", "archive has no etc/passwd"),
        ("name.tar", "couldn't parse image name"),
    ] {
        refused(c, &["import", &at(file)], want).with_context(|| file.to_string())?;
    }
    ensure!(images(c, &["list"])?.stdout.lines().count() == 1, "{}", images(c, &["list"])?.stdout);
    ensure!(left()? == 0, "what was refused has left something");
    refused(c, &["rm", "shop/nobody:v1"], "there is no such image")?;
    refused(c, &["import"], "required")?;
    refused(c, &["rm"], "required")?;

    // Beside a server: what was refused above hurts nothing, what is built in stays, what runs keeps its layers.
    c.serve(&[])?;
    c.wait_ready()?;
    c.wait(PATIENCE, "the built-in image", || Ok(images(c, &["list"])?.stdout.contains("skiff.local/hello")))?;
    refused(c, &["rm", "skiff.local/hello"], "part of Skiff")?;
    ensure!(images(c, &["import", &docker])?.ok, "import beside a server");
    c.wait(PATIENCE, "the default service account", || Ok(c.kubectl_run(&["get", "sa", "default"])?.ok))?;
    c.kubectl(&["run", "user", "--image=shop/backend:v1"])?;
    c.kubectl(&["wait", "--for=condition=Ready", "pod/user", "--timeout=30s"])?;
    ensure!(images(c, &["rm", "shop/backend:v1"])?.ok, "rm of an image in use");
    let said = c.kubectl(&["exec", "user", "--", "cat", "/www/version"])?;
    ensure!(said == "v1\n", "a pod lost its files: {said}");
    c.kubectl(&["delete", "pod", "user", "--grace-period=1"])?;
    // A pod that waits goes on once the image is there.
    c.kubectl(&["run", "waits", "--image=shop/backend:v1", "--image-pull-policy=Never"])?;
    c.wait(PATIENCE, "the pod to say what it lacks", || {
        let why =
            c.kubectl(&["get", "pod", "waits", "-o", "jsonpath={.status.containerStatuses[0].state.waiting.reason}"])?;
        Ok(why == "ErrImageNeverPull")
    })?;
    ensure!(images(c, &["import", &docker])?.ok, "import for a pod that waits");
    c.kubectl(&["wait", "--for=condition=Ready", "pod/waits", "--timeout=60s"])?;
    c.kubectl(&["delete", "pod", "waits", "--grace-period=1"])?;
    Ok(())
}

/// `skiff reset` asks, and takes only a yes for one; `kubeconfig` and `version` say what they are asked for.
pub fn other_commands(c: &Cluster) -> Result<()> {
    let skiff = c.tools.skiff.display().to_string();
    let data = c.data_dir().display().to_string();
    let d = c.run(&[&skiff, "kubeconfig", "--data-dir", &data])?;
    ensure!(!d.ok && d.stderr.contains("has `skiff server` been started on this data directory?"), "{}", d.stderr);
    // Settings of the file hold, and a flag's win over them.
    let config = c.dir().join("config.yaml").display().to_string();
    std::fs::write(
        &config,
        "write-kubeconfig-mode: \"640\"\nnode-label: [disk=ssd, zone=cellar]\nmax-pods: 7\ntls-san:\n  - cluster.example\n",
    )?;
    c.serve(&["--config", &config, "--max-pods", "11"])?;
    c.wait_ready()?;
    let node = c.json(&["get", "node", "node1"])?;
    ensure!(node["metadata"]["labels"]["disk"] == "ssd" && node["metadata"]["labels"]["zone"] == "cellar", "{node}");
    ensure!(
        node["status"]["capacity"]["pods"] == "11",
        "a flag doesn't win over the file: {}",
        node["status"]["capacity"]
    );
    let ca = c.data_dir().join("pki/ca.crt").display().to_string();
    let at = ["--resolve", "cluster.example:6443:127.0.0.1", "--max-time", "5", "https://cluster.example:6443/livez"];
    ensure!(c.must(&[&["curl", "-s", "--cacert", &ca][..], &at[..]].concat())? == "ok", "tls-san of the file");
    let printed = c.must(&[&skiff, "kubeconfig", "--data-dir", &data])?;
    ensure!(
        printed == std::fs::read_to_string(c.kubeconfig())?,
        "kubeconfig prints something else than the file:\n{printed}"
    );
    let mode = c.must(&["stat", "-c", "%a", &c.kubeconfig().display().to_string()])?;
    ensure!(mode == "640\n", "mode of the kubeconfig: {mode}");
    let version = c.must(&[&skiff, "version"])?;
    ensure!(version.contains("Skiff") || version.contains("skiff"), "version: {version}");
    ensure!(version.contains("1.36"), "version: {version}");
    for (path, want) in [
        ("/version", "\"gitVersion\""),
        ("/readyz", "ok"),
        ("/livez", "ok"),
        ("/healthz", "ok"),
        ("/metrics", "apiserver_request_total"),
    ] {
        let said = c.kubectl(&["get", "--raw", path])?;
        ensure!(said.contains(want), "{path}: {said}");
    }
    for path in ["/version", "/readyz", "/livez", "/healthz", "/livez?verbose"] {
        let d = c.run(&["curl", "-sfk", "--max-time", "5", &format!("https://127.0.0.1:6443{path}")])?;
        ensure!(d.ok && !d.stdout.is_empty(), "{path} without credentials: {}{}", d.stdout, d.stderr);
    }
    let d = c.run(&[
        "curl",
        "-sk",
        "--max-time",
        "5",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "https://127.0.0.1:6443/metrics",
    ])?;
    ensure!(d.stdout == "401" || d.stdout == "403", "/metrics without credentials: {}", d.stdout);
    for answer in ["", "n", "no", "nonsense", "Y E S"] {
        let script = format!("printf '%s\\n' '{answer}' | {skiff} reset --data-dir {data}");
        let d = c.run(&["sh", "-c", &script])?;
        ensure!(!d.ok, "reset took {answer:?} for a yes: {}", d.stdout);
        ensure!(
            d.stdout.contains("Go on? [y/N]") && d.stderr.contains("nothing was changed"),
            "{}{}",
            d.stdout,
            d.stderr
        );
        ensure!(c.kubectl_run(&["get", "nodes"])?.ok, "the server is gone after {answer:?}");
    }
    let d = c.run(&[&skiff, "reset", "--data-dir", &data])?;
    ensure!(!d.ok, "reset went on without an answer");
    let d = c.run(&["sh", "-c", &format!("echo y | {skiff} reset --data-dir {data}")])?;
    ensure!(d.ok && d.stdout.contains("is left"), "{}{}", d.stdout, d.stderr);
    ensure!(!c.data_dir().exists(), "reset left the data directory");
    c.stop_server(libc::SIGKILL)
}
