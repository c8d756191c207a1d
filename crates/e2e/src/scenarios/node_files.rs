//! Files that the node writes for pods: names and resolvers, to the letter as upstream's kubelet writes them, and logs
//! that don't fill the disk.

use super::namespace::Namespace;
use super::pods::{PATIENCE, apply, shell};
use crate::cluster::Cluster;
use anyhow::{Result, ensure};
use std::time::Duration;

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: plain}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: shop/backend:v1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: named}
spec:
  terminationGracePeriodSeconds: 1
  hostname: me
  subdomain: sub
  setHostnameAsFQDN: true
  dnsConfig: {searches: [more.example], nameservers: [192.0.2.53], options: [{name: ndots, value: "2"}, {name: rotate}]}
  hostAliases: [{ip: 192.0.2.9, hostnames: [nine, neuf]}, {ip: "2001:db8::9", hostnames: [six]}]
  containers: [{name: c, image: shop/backend:v1}]
---
apiVersion: v1
kind: Pod
metadata: {name: host}
spec:
  terminationGracePeriodSeconds: 1
  hostNetwork: true
  hostAliases: [{ip: 192.0.2.9, hostnames: [nine]}]
  containers: [{name: c, image: shop/backend:v1, command: [sleep, "1000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: hostfirst}
spec:
  terminationGracePeriodSeconds: 1
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  containers: [{name: c, image: shop/backend:v1, command: [sleep, "1000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: nodes}
spec: {terminationGracePeriodSeconds: 1, dnsPolicy: Default, containers: [{name: c, image: shop/backend:v1}]}
"#;

pub fn names_and_resolvers(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "files")?;
    apply(&ns, PODS)?;
    for pod in ["plain", "named", "host", "hostfirst", "nodes"] {
        ns.must(&format!("wait --for=condition=Ready pod/{pod} --timeout=30s"))?;
    }
    let space = ns.name();
    let ip = |pod: &str| ns.must(&format!("get pod {pod} -o jsonpath={{.status.podIP}}"));
    let head = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
        fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
    let of_machine = |path: &str| c.must(&["cat", path]);
    let servers: String = of_machine("/etc/resolv.conf")?
        .lines()
        .filter(|l| l.starts_with("nameserver"))
        .map(|l| format!("{l}\n"))
        .collect();
    let cluster = format!("search {space}.svc.cluster.local svc.cluster.local cluster.local");
    // The machine's own domains follow the cluster's.
    let machine = of_machine("/etc/resolv.conf")?;
    let own =
        machine.lines().find_map(|l| l.strip_prefix("search ")).map(|s| format!(" {}", s.trim())).unwrap_or_default();
    let hosts: &[(&str, String)] = &[
        ("plain", format!("{head}{}\tplain\n", ip("plain")?)),
        (
            "named",
            format!(
                "{head}{}\tme.sub.{space}.svc.cluster.local\tme\n\n# Entries added by HostAliases.\n192.0.2.9\tnine\tneuf\n2001:db8::9\tsix\n",
                ip("named")?
            ),
        ),
        (
            "host",
            format!(
                "# Kubernetes-managed hosts file (host network).\n{}\n# Entries added by HostAliases.\n192.0.2.9\tnine\n",
                of_machine("/etc/hosts")?
            ),
        ),
    ];
    for (pod, want) in hosts {
        let got = shell(&ns, pod, "c", "cat /etc/hosts")?;
        ensure!(got == *want, "{pod}: /etc/hosts:\n{got}\nwanted:\n{want}");
    }
    let resolvers: &[(&str, String)] = &[
        ("plain", format!("{cluster}{own}\nnameserver 10.43.0.10\noptions ndots:5\n")),
        ("hostfirst", format!("{cluster}{own}\nnameserver 10.43.0.10\noptions ndots:5\n")),
        (
            "named",
            format!(
                "{cluster}{own} more.example\nnameserver 10.43.0.10\nnameserver 192.0.2.53\noptions ndots:2 rotate\n"
            ),
        ),
    ];
    for (pod, want) in resolvers {
        let got = shell(&ns, pod, "c", "cat /etc/resolv.conf")?;
        ensure!(got == *want, "{pod}: /etc/resolv.conf:\n{got}\nwanted:\n{want}");
    }
    for pod in ["host", "nodes"] {
        let got = shell(&ns, pod, "c", "cat /etc/resolv.conf")?;
        ensure!(servers.lines().all(|s| got.contains(s)) && !got.contains("cluster.local"), "{pod}: resolvers:\n{got}");
    }
    for (pod, want) in [
        ("plain", "plain\n".to_string()),
        ("named", format!("me.sub.{space}.svc.cluster.local\n")),
        ("host", of_machine("/proc/sys/kernel/hostname")?),
    ] {
        let got = shell(&ns, pod, "c", "hostname")?;
        ensure!(got == want, "{pod}: hostname: {got:?}, wanted {want:?}");
    }
    ns.delete()
}

/// A container that writes much keeps five files of ten mebibytes at most, and who follows misses nothing.
pub fn logs_are_rotated(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "rotation")?;
    // 150,000 lines of 100 bytes are more than one file holds; then a line each second.
    let script = "i=0; while [ $i -lt 1500 ]; do cat /tmp/hundred; i=$((i+1)); done; i=0; while true; do echo tick $i; i=$((i+1)); sleep 0.2; done";
    let line = "x".repeat(99);
    apply(
        &ns,
        &format!(
            r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "loud"}}, "spec": {{"terminationGracePeriodSeconds": 1,
              "containers": [{{"name": "c", "image": "shop/backend:v1", "command": ["sh", "-c",
                "i=0; while [ $i -lt 100 ]; do echo {line} >> /tmp/hundred; i=$((i+1)); done; {script}"]}}]}}}}"#
        ),
    )?;
    ns.must("wait --for=condition=Ready pod/loud --timeout=30s")?;
    let uid = ns.must("get pod loud -o jsonpath={.metadata.uid}")?;
    let dir = c.data_dir().join("logs/pods").join(format!("{}_loud_{uid}", ns.name())).join("c");
    let files = || -> Result<Vec<(String, u64)>> {
        let mut all: Vec<(String, u64)> = Vec::new();
        for f in std::fs::read_dir(&dir)?.flatten() {
            all.push((f.file_name().to_string_lossy().into_owned(), f.metadata()?.len()));
        }
        all.sort();
        Ok(all)
    };
    let follow = ns.line("logs -f loud --tail=1");
    let follower =
        std::process::Command::new("timeout").arg("25").args(&follow).stdout(std::process::Stdio::piped()).spawn()?;
    c.wait(PATIENCE, "the log to be rotated", || Ok(files()?.iter().any(|(name, _)| name.starts_with("0.log."))))?;
    c.wait(Duration::from_secs(10), "lines in the new file", || {
        Ok(ns.must("logs loud --tail=1")?.starts_with("tick "))
    })?;
    let now = files()?;
    ensure!(
        now.iter().all(|(n, size)| n != "0.log" || *size < 10 << 20),
        "the new log is as long as the old one: {now:?}"
    );
    let followed = String::from_utf8_lossy(&follower.wait_with_output()?.stdout).into_owned();
    let ticks: Vec<u64> = followed.lines().filter_map(|l| l.strip_prefix("tick ")?.parse().ok()).collect();
    ensure!(ticks.len() > 20, "only {} ticks were followed over the rotation", ticks.len());
    ensure!(ticks.windows(2).all(|w| w[1] == w[0] + 1), "ticks are missing or doubled: {ticks:?}");
    ns.delete()
}
