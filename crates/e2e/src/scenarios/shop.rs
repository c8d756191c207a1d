//! The sample application: nginx in front, a backend of several replicas, redis with a volume.

use crate::cluster::Cluster;
use anyhow::{Result, bail, ensure};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const MANIFEST: &str = include_str!("../../../../examples/shop/shop.yaml");
const PATIENCE: Duration = Duration::from_secs(90);

/// Deploys the shop unless it is there, and waits until it answers.
pub fn deployed(c: &Cluster) -> Result<()> {
    if c.kubectl_run(&["get", "deployment", "front"])?.ok {
        return Ok(());
    }
    // The volume must live below the test's own directory.
    let volume = c.dir().join("redis");
    c.apply(&MANIFEST.replace("/var/lib/skiff-shop/redis", &volume.display().to_string()))?;
    for what in ["statefulset/redis", "deployment/backend", "deployment/front"] {
        c.kubectl(&["rollout", "status", what, "--timeout=90s"])?;
    }
    c.wait(PATIENCE, "the shop to answer", || Ok(order(c)?.is_some()))
}

/// One request through the front's NodePort.
fn order(c: &Cluster) -> Result<Option<String>> {
    let d = c.run(&["curl", "-sf", "--max-time", "5", "http://192.0.2.2:30080/"])?;
    Ok(d.ok.then_some(d.stdout))
}

fn must_order(c: &Cluster) -> Result<String> {
    match order(c)? {
        Some(text) => Ok(text),
        None => bail!("the shop does not answer"),
    }
}

pub fn answers(c: &Cluster) -> Result<()> {
    deployed(c)?;
    let text = must_order(c)?;
    ensure!(text.contains("taken by backend-") && text.contains("running v1"), "unexpected answer: {text}");
    // Through the ClusterIP and the name, from inside a pod.
    let pod = first(c, "app=backend")?;
    // nginx takes a closed sending side for a client that has gone.
    let ask = "(printf 'GET / HTTP/1.0\\r\\n\\r\\n'; sleep 1) | nc front.default.svc.cluster.local 80";
    let inside = c.kubectl(&["exec", &pod, "--", "sh", "-c", ask])?;
    ensure!(inside.contains("running v1"), "from inside: {inside}");
    Ok(())
}

pub fn spreads(c: &Cluster) -> Result<()> {
    deployed(c)?;
    let mut seen = BTreeSet::new();
    for _ in 0..60 {
        let text = must_order(c)?;
        if let Some(pod) = text.split_whitespace().find(|w| w.starts_with("backend-")) {
            seen.insert(pod.to_string());
        }
    }
    ensure!(seen.len() == 3, "60 requests reached {seen:?}, expected all three replicas");
    Ok(())
}

/// A pod that matches and is not on its way out.
fn first(c: &Cluster, selector: &str) -> Result<String> {
    let list = c.json(&["get", "pods", "-l", selector])?;
    let pods = list["items"].as_array().into_iter().flatten();
    let mut staying = pods.filter(|p| p["metadata"]["deletionTimestamp"].is_null());
    match staying.next().and_then(|p| p["metadata"]["name"].as_str()) {
        Some(name) => Ok(name.to_string()),
        None => bail!("no pod matches {selector}"),
    }
}

/// Requests, one after another, until told to stop. Gives how many there were and what went wrong.
fn load(c: &Cluster, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<(usize, Vec<String>)> {
    let script = "curl -s -o /dev/null -w '%{http_code} %{errormsg}' --max-time 10 http://192.0.2.2:30080/";
    let mut command = c.command("sh");
    let file = c.dir().join("load.stop");
    let _ = std::fs::remove_file(&file);
    command.arg("-c").arg(format!("while [ ! -e {0} ]; do {script}; echo; done", file.display()));
    command.stdout(std::process::Stdio::piped());
    std::thread::spawn(move || {
        let Ok(child) = command.spawn() else { return (0, vec!["load did not start".into()]) };
        let waiter = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = std::fs::write(&file, "");
        });
        let out = child.wait_with_output();
        let _ = waiter.join();
        let text = out.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let bad = lines.iter().filter(|l| !l.starts_with("200")).map(|l| l.to_string()).collect();
        (lines.len(), bad)
    })
}

pub fn rolls_out_under_load(c: &Cluster) -> Result<()> {
    deployed(c)?;
    let stop = Arc::new(AtomicBool::new(false));
    let traffic = load(c, stop.clone());
    let work = || -> Result<()> {
        c.kubectl(&["scale", "deployment/backend", "--replicas=5"])?;
        c.kubectl(&["rollout", "status", "deployment/backend", "--timeout=60s"])?;
        c.kubectl(&["set", "image", "deployment/backend", "backend=shop/backend:v2"])?;
        c.kubectl(&["rollout", "status", "deployment/backend", "--timeout=90s"])?;
        ensure!(must_order(c)?.contains("running v2"), "the new version does not answer");
        c.kubectl(&["rollout", "undo", "deployment/backend"])?;
        c.kubectl(&["rollout", "status", "deployment/backend", "--timeout=90s"])?;
        ensure!(must_order(c)?.contains("running v1"), "the old version does not answer after undo");
        c.kubectl(&["scale", "deployment/backend", "--replicas=3"])?;
        c.kubectl(&["rollout", "status", "deployment/backend", "--timeout=60s"])?;
        std::thread::sleep(Duration::from_secs(3));
        Ok(())
    };
    let result = work();
    stop.store(true, Ordering::Relaxed);
    let (count, bad) = traffic.join().map_err(|_| anyhow::anyhow!("the load panicked"))?;
    result?;
    ensure!(count > 50, "only {count} requests were made");
    ensure!(bad.is_empty(), "{} of {count} requests failed: {:?}", bad.len(), &bad[..bad.len().min(5)]);
    println!("     {count} requests during scaling, rollout and undo, none failed");
    Ok(())
}

pub fn heals(c: &Cluster) -> Result<()> {
    deployed(c)?;
    // A container whose process dies is started again in its pod.
    let pod = first(c, "app=backend")?;
    let restarts = || c.kubectl(&["get", "pod", &pod, "-o", "jsonpath={.status.containerStatuses[0].restartCount}"]);
    let before: u32 = restarts()?.parse()?;
    let pid = container_pid(c, &pod)?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)?;
    c.wait(PATIENCE, "the container to be restarted", || Ok(restarts()?.parse::<u32>()? == before + 1))?;
    let last = c.kubectl(&[
        "get",
        "pod",
        &pod,
        "-o",
        "jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}",
    ])?;
    ensure!(last == "137", "exit code of the killed container: {last:?}");
    // A deleted pod is replaced by another.
    c.kubectl(&["delete", "pod", &pod, "--wait=false"])?;
    c.wait(PATIENCE, "the pod to be replaced", || {
        let names = c.kubectl(&["get", "pods", "-l", "app=backend", "-o", "jsonpath={.items[*].metadata.name}"])?;
        let ready = c.kubectl(&["get", "deployment", "backend", "-o", "jsonpath={.status.readyReplicas}"])?;
        Ok(!names.split(' ').any(|n| n == pod) && ready == "3")
    })
}

/// The process of a pod's first container, found by its cgroup.
fn container_pid(c: &Cluster, pod: &str) -> Result<i32> {
    let uid = c.kubectl(&["get", "pod", pod, "-o", "jsonpath={.metadata.uid}"])?;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let group = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if group.contains(&uid) && command.contains("httpd") {
            return Ok(pid);
        }
    }
    bail!("no process of pod {pod} found below {}", Path::new("/proc").display())
}

pub fn keeps_data(c: &Cluster) -> Result<()> {
    deployed(c)?;
    let number = |text: String| -> Result<u64> { Ok(text.split_whitespace().nth(1).unwrap_or("").parse()?) };
    let before = number(must_order(c)?)?;
    c.kubectl(&["delete", "pod", "redis-0"])?;
    c.kubectl(&["rollout", "status", "statefulset/redis", "--timeout=60s"])?;
    c.wait(PATIENCE, "redis to answer again", || Ok(order(c)?.is_some()))?;
    let after = number(must_order(c)?)?;
    ensure!(after > before, "orders went from {before} to {after}");
    Ok(())
}
