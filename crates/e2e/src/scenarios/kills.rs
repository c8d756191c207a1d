//! `kill -9` of the server in the middle of things, again and again: what was begun is finished or undone, what runs
//! goes on, and nothing is left that belongs to nobody.

use super::pods::PATIENCE;
use crate::cluster::Cluster;
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const STEADY: &str = "{apiVersion: v1, kind: Pod, metadata: {name: steady}, spec: {containers: [{name: c, image: \"shop/backend:v1\", \
    volumeMounts: [{name: e, mountPath: /e}]}], volumes: [{name: e, emptyDir: {medium: Memory}}]}}";

/// A pod that needs everything that a node makes for a pod: mounts of several kinds, two containers, an address.
fn pod(name: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{victim: \"yes\"}}}}, spec: {{terminationGracePeriodSeconds: 1, \
         initContainers: [{{name: i, image: \"shop/backend:v1\", command: [\"true\"]}}], containers: [\
         {{name: a, image: \"shop/backend:v1\", volumeMounts: [{{name: m, mountPath: /m}}, {{name: c, mountPath: /c}}, {{name: c, mountPath: /k, subPath: ca.crt}}]}}, \
         {{name: b, image: \"shop/backend:v2\", command: [sleep, \"1000\"]}}], \
         volumes: [{{name: m, emptyDir: {{medium: Memory}}}}, {{name: c, configMap: {{name: kube-root-ca.crt}}}}]}}}}\n---\n"
    )
}

fn identity(c: &Cluster) -> Result<String> {
    let path = "jsonpath={.status.podIP} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}";
    c.kubectl(&["get", "pod", "steady", "-o", path])
}

/// What pods have on this machine, by kind: each line belongs to some pod.
fn belongings(c: &Cluster) -> Result<Vec<String>> {
    let data = c.data_dir().display().to_string();
    let log = std::fs::read_to_string(c.log())?;
    let name = log.split("table=").nth(1).and_then(|t| t.split("-svc").next()).context("no name in the log")?;
    let script = format!(
        "ip -o link show type veth | cut -d: -f2 | grep -v ' up[01]@' || true; \
         grep -o ' \\(/run/{name}\\|{data}\\)/[^ ]*' /proc/self/mountinfo | grep -v ' /run/{name}$' || true; \
         find /sys/fs/cgroup -depth -type d -path '*/{name}/*pod*' | grep -o 'pod[0-9a-f-]\\{{36\\}}.*' | sort -u || true; \
         cd {data} && ls -d runtime/containers/* runtime/sandboxes/* runtime/trash/* runtime/images/tmp/* kubelet/pods/* network/ipam/10.* /run/{name}/netns/* \
         /run/{name}/sandboxes/* 2>/dev/null || true"
    );
    let mut all: Vec<String> = c.must(&["sh", "-c", &script])?.lines().map(String::from).collect();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(" shim ") && (command.contains(&data) || command.contains(&format!("/run/{name}/"))) {
            all.push(format!("process {}: {command}", entry.file_name().to_string_lossy()));
        }
    }
    all.sort();
    Ok(all)
}

fn import(c: &Cluster) -> Result<()> {
    let archives = ["shop_backend_v1.tar", "shop_backend_v2.tar"].map(|a| c.tools.images.join(a).display().to_string());
    let mut args = vec!["images".to_string(), "import".to_string()];
    args.extend(archives);
    c.skiff(&args).map(drop)
}

pub fn nothing_is_left_of_what_was_cut_off(c: &Cluster) -> Result<()> {
    import(c)?;
    c.serve(&[])?;
    c.wait_ready()?;
    c.wait(PATIENCE, "the default service account", || Ok(c.kubectl_run(&["get", "sa", "default"])?.ok))?;
    c.apply(STEADY)?;
    c.kubectl(&["wait", "--for=condition=Ready", "pod/steady", "--timeout=30s"])?;
    let steady = identity(c)?;
    let before = belongings(c)?;
    ensure!(before.iter().any(|l| l.starts_with("process ")), "the steady pod has no shim in {before:?}");
    ensure!(before.iter().any(|l| l.contains("kubelet/pods/")), "the steady pod has no directory in {before:?}");

    for round in 0..20u64 {
        // Ever a little later, so that each step is the one that is cut off in some round.
        let delay = Duration::from_millis(15 + 37 * round);
        let three: String = (0..3).map(|i| pod(&format!("p{round}-{i}"))).collect();
        if round % 2 == 0 {
            c.apply(&three)?;
        } else {
            c.kubectl(&["delete", "pods", "-l", "victim=yes", "--wait=false"])?;
        }
        std::thread::sleep(delay);
        c.stop_server(libc::SIGKILL)?;
        c.serve(&[])?;
        c.wait_ready().with_context(|| format!("after kill {round}, {delay:?} after the request"))?;
        let now = identity(c)?;
        ensure!(now == steady, "kill {round} changed a pod that nothing happened to: {steady} became {now}");
    }
    // What was asked for is there, whole.
    let last = c.apply(&pod("last"));
    last?;
    c.kubectl(&["wait", "--for=condition=Ready", "pod/last", "--timeout=40s"])?;
    c.kubectl(&["delete", "pods", "-l", "victim=yes", "--timeout=60s"])?;
    c.wait(PATIENCE, "everything of the killed pods to be gone", || {
        let now = belongings(c)?;
        let left: Vec<&String> = now.iter().filter(|l| !before.contains(l)).collect();
        if !left.is_empty() {
            bail!("left over:\n{}", left.iter().map(|l| l.as_str()).collect::<Vec<_>>().join("\n"));
        }
        let gone: Vec<&String> = before.iter().filter(|l| !now.contains(l)).collect();
        ensure!(gone.is_empty(), "the steady pod has lost {gone:?}");
        Ok(true)
    })?;
    ensure!(identity(c)? == steady, "the steady pod has changed");
    let log = std::fs::read_to_string(c.log())?;
    ensure!(!log.contains("panicked"), "a panic: {}", log.lines().find(|l| l.contains("panicked")).unwrap_or_default());
    Ok(())
}

/// The importing program is killed, then the server with it; then the same import works, and halves are gone.
pub fn imports_are_whole_or_absent(c: &Cluster) -> Result<()> {
    c.serve(&[])?;
    c.wait_ready()?;
    let archive = c.tools.images.join("shop_redis_v1.tar").display().to_string();
    let data = c.data_dir();
    let images = |args: &[&str]| {
        let mut all = vec!["images".to_string()];
        all.extend(args.iter().map(|a| a.to_string()));
        c.skiff(&all)
    };
    let listed = || -> Result<bool> { Ok(images(&["list"])?.contains("shop/redis:v1")) };
    c.wait(PATIENCE, "the built-in image", || Ok(images(&["list"])?.contains("skiff.local/hello")))?;
    let tmp = data.join("runtime/images/tmp");
    let mut halves = 0;
    for round in 0..12u64 {
        let mut child = c
            .command(&c.tools.skiff)
            .args(["images", "import", &archive, "--data-dir"])
            .arg(&data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // (nsenter execs, so the id is the importer's own)
        let half = tmp.join(format!("layer-{}-0", child.id()));
        if round % 2 == 0 {
            std::thread::sleep(Duration::from_millis(10 + 25 * round));
        } else {
            // In the middle of its first layer for sure.
            while !half.exists() && child.try_wait()?.is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        child.kill()?;
        child.wait()?;
        halves += usize::from(half.exists());
        if listed()? {
            ensure!(!half.exists(), "an image is listed whose layer is a half");
            images(&["rm", "shop/redis:v1"])?;
        }
        if round % 4 == 3 {
            c.stop_server(libc::SIGKILL)?;
            c.serve(&[])?;
            c.wait_ready()?;
            // The built-in image's layer is the only one.
            c.wait(PATIENCE, "halves and layers of killed imports to be gone after a start", || {
                let images = data.join("runtime/images");
                Ok(count(&tmp)? == 0
                    && count(&images.join("layers"))? == 1
                    && count(&images.join("blobs/sha256"))? == 1)
            })?;
        }
    }
    ensure!(halves > 2, "only {halves} imports were killed in the middle of a layer");
    images(&["import", &archive])?;
    ensure!(listed()?, "the import that nobody killed isn't listed");
    c.wait(PATIENCE, "the default service account", || Ok(c.kubectl_run(&["get", "sa", "default"])?.ok))?;
    c.kubectl(&["run", "redis", "--image=shop/redis:v1"])?;
    c.kubectl(&["wait", "--for=condition=Ready", "pod/redis", "--timeout=30s"])?;
    c.kubectl(&["delete", "pod", "redis", "--grace-period=1"])?;
    Ok(())
}

fn count(dir: &Path) -> Result<usize> {
    Ok(std::fs::read_dir(dir).with_context(|| format!("no {}", dir.display()))?.count())
}
