//! The server dies or is replaced, and no container notices; at the end nothing is left.

use super::pods::PATIENCE;
use crate::cluster::Cluster;
use anyhow::{Context, Result, bail, ensure};
use std::time::Duration;

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: shop/backend:v1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: ticker}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: shop/backend:v1, command: [sh, -c, "i=0; while true; do echo $i; i=$((i+1)); sleep 0.2; done"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: victim}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: shop/backend:v1, command: [sleep, "54321"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: task}
spec: {restartPolicy: Never, containers: [{name: c, image: shop/backend:v1, command: [sh, -c, "until [ -e /gate/open ]; do sleep 0.1; done; exit 5"], volumeMounts: [{name: gate, mountPath: /gate}]}], volumes: [{name: gate, hostPath: {path: GATE, type: DirectoryOrCreate}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: memory}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: shop/backend:v1, volumeMounts: [{name: m, mountPath: /m}]}], volumes: [{name: m, emptyDir: {medium: Memory}}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"#;

/// Name, address, container and restarts of pods that nothing has happened to.
fn identities(c: &Cluster) -> Result<String> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.status.podIP} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    let all = c.kubectl(&["get", "pods", "-o", path])?;
    Ok(all.lines().filter(|l| !l.starts_with("victim ") && !l.starts_with("task ")).collect::<Vec<_>>().join("\n"))
}

fn field(c: &Cluster, what: &str, path: &str) -> Result<String> {
    let words: Vec<&str> = what.split(' ').collect();
    c.kubectl(&[&["get"], &words[..], &["-o", &format!("jsonpath={{{path}}}")]].concat())
}

/// The process of a pod with this command line. Others on the machine may have the same.
fn kill_process(pod_uid: &str, command: &str) -> Result<()> {
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let of = |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        if of("cmdline") == command && of("cgroup").contains(&format!("pod{pod_uid}")) {
            return Ok(nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)?);
        }
    }
    bail!("pod {pod_uid} has no process {command:?}")
}

pub fn containers_outlive_the_server(c: &Cluster) -> Result<()> {
    let gate = c.dir().join("gate");
    c.wait(PATIENCE, "the default service account", || Ok(c.kubectl_run(&["get", "sa", "default"])?.ok))?;
    c.apply(&PODS.replace("GATE", &gate.display().to_string()))?;
    for pod in ["web", "ticker", "victim", "task", "memory"] {
        c.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=30s"])?;
    }
    let before = identities(c)?;
    let service = format!("http://{}/version", field(c, "service web", ".spec.clusterIP")?);
    let serves = |when: &str| -> Result<()> {
        c.wait(Duration::from_secs(5), &format!("the Service to answer {when}"), || {
            Ok(c.run(&["curl", "-s", "--max-time", "2", &service])?.stdout == "v1\n")
        })
    };
    serves("at first")?;
    let victim = field(c, "pod victim", ".metadata.uid")?;

    // Killed. What ends meanwhile is noticed afterwards, with its exit code.
    c.stop_server(libc::SIGKILL)?;
    ensure!(c.run(&["curl", "-s", "--max-time", "2", &service])?.stdout == "v1\n", "Services work without the server");
    kill_process(&victim, "sleep\054321\0")?;
    std::fs::write(gate.join("open"), "")?;
    std::thread::sleep(Duration::from_millis(500));
    c.serve(&[])?;
    c.wait_ready()?;
    c.wait(PATIENCE, "the task's end", || {
        Ok(field(c, "pod task", ".status.containerStatuses[0].state.terminated.exitCode")? == "5")
    })?;
    c.wait(PATIENCE, "the victim's restart", || {
        Ok(field(c, "pod victim", ".status.containerStatuses[0].restartCount")? == "1")
    })?;
    let last = field(c, "pod victim", ".status.containerStatuses[0].lastState.terminated.exitCode")?;
    ensure!(last == "137", "exit code of the killed container: {last}");
    ensure!(identities(c)? == before, "after kill -9: {}\nbefore: {before}", identities(c)?);
    serves("after kill -9")?;

    // Stopped in good order.
    c.stop_server(libc::SIGTERM)?;
    c.serve(&[])?;
    c.wait_ready()?;
    ensure!(identities(c)? == before, "after SIGTERM: {}\nbefore: {before}", identities(c)?);
    // Not a line of the log is lost, and it goes on.
    let lines = |text: String| -> Vec<u64> { text.lines().filter_map(|l| l.parse().ok()).collect() };
    let seen = lines(c.kubectl(&["logs", "ticker"])?);
    ensure!(seen.iter().copied().eq(0..seen.len() as u64), "lines are missing: {seen:?}");
    c.wait(PATIENCE, "more lines", || Ok(lines(c.kubectl(&["logs", "ticker"])?).len() > seen.len()))?;
    ensure!(c.kubectl(&["exec", "web", "--", "cat", "/www/version"])? == "v1\n", "exec after a restart");
    let mut pods = vec!["delete", "pod", "--timeout=30s"];
    pods.extend(["web", "ticker", "victim", "task", "memory"]);
    c.kubectl(&pods).map(|_| ())
}

/// Everything that a cluster may leave on a machine, as lines.
fn traces(c: &Cluster) -> Result<Vec<String>> {
    let script = "ip -o link | cut -d: -f2; nft list tables 2>/dev/null; \
        cut -d' ' -f5 /proc/self/mountinfo | grep -v '^/sys/fs/cgroup'; ip route; ip rule";
    let mut all: Vec<String> = c.must(&["sh", "-c", script])?.lines().map(String::from).collect();
    // Control groups are the machine's, where other clusters may run; ours has the name of our tables.
    let log = std::fs::read_to_string(c.log()).unwrap_or_default();
    let name = log.split("table=").nth(1).and_then(|t| t.split("-svc").next());
    if let Some(name) = name {
        // Groups of others come and go meanwhile.
        let groups = format!("find /sys/fs/cgroup -type d -path '*/{name}*' 2>/dev/null; true");
        all.extend(c.must(&["sh", "-c", &groups])?.lines().map(String::from));
    }
    // Processes of this cluster only: others run on the machine.
    let data = c.data_dir().display().to_string();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let of = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let command = String::from_utf8_lossy(&of("cmdline")).replace('\0', " ");
        if command.contains(&data) || name.is_some_and(|n| command.contains(&format!("/run/{n}/"))) {
            all.push(format!("process {pid}: {command}"));
        }
    }
    Ok(all)
}

pub fn reset_leaves_nothing(c: &Cluster) -> Result<()> {
    let before = traces(c)?;
    let images = |args: &[&str]| {
        let mut all = vec!["images".to_string()];
        all.extend(args.iter().map(|a| a.to_string()));
        c.skiff(&all)
    };
    // Images come and go, with and without a server.
    let archive = |name: &str| c.tools.images.join(name).display().to_string();
    images(&["import", &archive("shop_backend_v1.tar")])?;
    c.serve(&[])?;
    c.wait_ready()?;
    images(&["import", &archive("shop_backend_v2.tar")])?;
    let listed = images(&["list"])?;
    ensure!(listed.contains("shop/backend:v1") && listed.contains("shop/backend:v2"), "images: {listed}");
    c.wait(PATIENCE, "the default service account", || Ok(c.kubectl_run(&["get", "sa", "default"])?.ok))?;
    let gate = c.dir().join("gate");
    c.apply(&PODS.replace("GATE", &gate.display().to_string()))?;
    for pod in ["web", "ticker", "victim", "task", "memory"] {
        c.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=30s"])?;
    }
    c.kubectl(&["run", "second", "--image=shop/backend:v2"])?;
    c.kubectl(&["wait", "--for=condition=Ready", "pod/second", "--timeout=30s"])?;
    c.kubectl(&["delete", "pod", "second", "--grace-period=1"])?;
    images(&["rm", "shop/backend:v2"])?;
    let listed = images(&["list"])?;
    ensure!(!listed.contains("shop/backend:v2"), "a removed image is listed: {listed}");
    let there = traces(c)?;
    for sign in ["kubepods/besteffort", " shim --sandbox ", "table ", "/pods/"] {
        ensure!(there.iter().any(|t| t.contains(sign)), "a running cluster has no {sign:?} in\n{}", there.join("\n"));
    }

    c.skiff(&["reset".to_string(), "--yes".to_string()]).context("reset of a running server")?;
    c.stop_server(libc::SIGKILL)?;
    let left: Vec<String> = traces(c)?.into_iter().filter(|t| !before.contains(t)).collect();
    ensure!(left.is_empty(), "reset has left:\n{}", left.join("\n"));
    ensure!(!c.data_dir().exists(), "the data directory is still there");
    ensure!(gate.exists(), "reset removed a directory of the user's");
    // And it can begin again.
    c.serve(&[])?;
    c.wait_ready()
}
