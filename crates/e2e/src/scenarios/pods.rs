//! What a pod gets from its node, and how it ends.

use super::namespace::Namespace;
use crate::cluster::Cluster;
use anyhow::{Result, ensure};
use std::time::Duration;

pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until a pod's field is as wanted; says what it was instead.
pub fn until(ns: &Namespace<'_>, pod: &str, path: &str, want: &str) -> Result<()> {
    let mut last = String::new();
    let waited = ns.c.wait(PATIENCE, &format!("{pod}: {path}"), || {
        last = ns.kubectl(&["get", "pod", pod, "-o", &format!("jsonpath={{{path}}}")])?.stdout;
        Ok(last == want)
    });
    waited.map_err(|e| e.context(format!("pod {pod}: {path} is {last:?}, not {want:?}")))
}

pub fn apply(ns: &Namespace<'_>, manifest: &str) -> Result<()> {
    ns.c.kubectl_input(&["-n", ns.name(), "apply", "-f", "-"], manifest).map(|_| ())
}

/// What a shell in a pod's container prints.
pub fn shell(ns: &Namespace<'_>, pod: &str, container: &str, script: &str) -> Result<String> {
    let d = ns.kubectl(&["exec", pod, "-c", container, "--", "/bin/busybox", "sh", "-c", script])?;
    ensure!(d.ok, "exec in {pod}: {script}:\n{}{}", d.stdout, d.stderr);
    Ok(d.stdout)
}

/// Each line of `script` prints what is wanted of it.
fn shows(ns: &Namespace<'_>, pod: &str, container: &str, table: &[(&str, &str)]) -> Result<()> {
    let script: Vec<&str> = table.iter().map(|(command, _)| *command).collect();
    let out = shell(ns, pod, container, &script.join("\necho ----\n"))?;
    let mut answers = out.split("----\n");
    for (command, want) in table {
        let got = answers.next().unwrap_or_default().trim_end();
        ensure!(got == *want, "in {pod}/{container}: {command}: {got:?}, not {want:?}");
    }
    Ok(())
}

pub fn gets_what_it_asks_for(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "pods")?;
    apply(&ns, include_str!("../../testdata/pods.yaml"))?;
    for pod in ["box", "locked"] {
        ns.must(&format!("wait --for=condition=Ready pod/{pod} --timeout=30s"))?;
    }
    let ip = ns.must("get pod box -o jsonpath={.status.podIP}")?;
    let hosts = format!("{ip}\tboxh.sub.{}.svc.cluster.local\tboxh", ns.name());
    let search = format!("search {0}.svc.cluster.local svc.cluster.local cluster.local", ns.name());
    shows(
        &ns,
        "box",
        "c",
        &[
            ("echo $KEY $PW $NODE $LABEL $MILLI $MIB $P_b", "alpha s3cret node1 t1 200 64 beta"),
            ("echo \"$REFS\"", "alpha-$(KEY)-$(NOPE)"),
            ("echo $IP", &ip),
            ("echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT", "10.43.0.1:443"),
            ("hostname; cat /etc/hostname", "boxh\nboxh"),
            ("grep boxh /etc/hosts", &hosts),
            ("grep foo /etc/hosts", "1.2.3.4\tfoo"),
            ("grep search /etc/resolv.conf", &search),
            ("grep nameserver /etc/resolv.conf", "nameserver 10.43.0.10"),
            ("cat /e/init", "data"),
            ("busybox stat -c %a:%g /e", "2777:2000"),
            ("grep ' /m ' /proc/mounts", "tmpfs /m tmpfs rw,relatime,size=8192k 0 0"),
            ("cat /cm/a /cm/b /sub/b /some/x/y", "alphabetabetaalpha"),
            ("busybox stat -Lc %a:%g /cm", "2777:2000"),
            ("busybox stat -Lc %a /some/x/y /sec/pw", "740\n440"),
            ("cat /sec/pw /all/pw", "s3crets3cret"),
            ("cat /all/labels", "tier=\"t1\""),
            ("test -s /all/token && ls /all", "labels\npw\ntoken"),
            ("busybox readlink /cm/a", "..data/a"),
            ("touch /cm/x 2>&1 | cut -d: -f3", " Read-only file system"),
            ("cat /img/www/version", "v2"),
            ("touch /img/x 2>&1 | cut -d: -f3", " Read-only file system"),
            ("echo there > /expr/f; cat /e/node1/d/f", "there"),
        ],
    )?;
    shows(
        &ns,
        "locked",
        "c",
        &[
            ("id", "uid=1000 gid=3000 groups=3000,4000"),
            ("touch /x 2>&1 | cut -d: -f3", " Read-only file system"),
            ("grep CapBnd /proc/self/status | cut -f2", "0000000000000400"),
            ("grep NoNewPrivs /proc/self/status | cut -f2", "1"),
            ("grep Seccomp: /proc/self/status | cut -f2", "2"),
            ("cat /etc/resolv.conf", "search a.b\nnameserver 9.9.9.9\noptions ndots:3"),
            ("cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "77"),
            ("ps | grep -c 'sleep 200000$'", "1"),
        ],
    )?;
    shows(
        &ns,
        "locked",
        "p",
        &[
            ("grep Seccomp: /proc/self/status | cut -f2", "0"),
            ("busybox mkdir -p /t && busybox mount -t tmpfs x /t && echo mounted", "mounted"),
        ],
    )?;
    limits_are_the_kernels(&ns)?;
    // The token is good for the API, through the Service's address and the mounted CA.
    let dir = "/var/run/secrets/kubernetes.io/serviceaccount";
    let token = shell(&ns, "locked", "p", &format!("cat {dir}/token"))?;
    let ca = ns.file("ca.crt", &shell(&ns, "locked", "p", &format!("cat {dir}/ca.crt"))?)?;
    let header = format!("Authorization: Bearer {}", token.trim());
    let url = format!("https://10.43.0.1/api/v1/namespaces/{}/pods", ns.name());
    let said = c.must(&["curl", "-s", "--max-time", "10", "--cacert", &ca, "-H", &header, &url])?;
    let who = format!("system:serviceaccount:{}:default", ns.name());
    ensure!(said.contains("Forbidden") && said.contains(&who), "the API said {said}");
    // What changes in the API changes in the pod.
    ns.must("patch cm cm -p '{\"data\":{\"a\":\"ALPHA\"}}'")?;
    ns.must("label pod box more=yes")?;
    c.wait(PATIENCE, "mounted objects to follow", || {
        Ok(shell(&ns, "box", "c", "cat /cm/a /all/labels")? == "ALPHAmore=\"yes\"\ntier=\"t1\"")
    })?;
    ns.delete()
}

/// Requests and limits, as the kernel has them.
fn limits_are_the_kernels(ns: &Namespace<'_>) -> Result<()> {
    let uid = ns.must("get pod box -o jsonpath={.metadata.uid}")?;
    let id = ns.must("get pod box -o jsonpath={.status.containerStatuses[0].containerID}")?;
    let id = id.split("//").nth(1).unwrap_or_default();
    let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let files = if unified {
        [("", "memory.max", "67108864"), ("", "cpu.max", "20000 100000")]
    } else {
        [("memory", "memory.limit_in_bytes", "67108864"), ("cpu", "cpu.cfs_quota_us", "20000")]
    };
    for (controller, file, want) in files {
        let command = format!("cat $(find /sys/fs/cgroup/{controller} -path '*pod{uid}/{id}/{file}')");
        let got = ns.c.must(&["sh", "-c", &command])?;
        ensure!(got.trim() == want, "{file} is {got:?}, not {want}");
    }
    Ok(())
}

pub fn ends_as_it_should(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "ends")?;
    apply(&ns, include_str!("../../testdata/ends.yaml"))?;
    let first = |what: &str| format!(".status.containerStatuses[0].{what}");
    let table: &[(&str, &str, &str)] = &[
        ("crash", &first("state.waiting.reason"), "CrashLoopBackOff"),
        ("crash", &first("lastState.terminated.exitCode"), "3"),
        ("crash", &first("lastState.terminated.message"), "bye\n"),
        ("both", ".status.phase", "Failed"),
        ("both", ".status.containerStatuses[*].state.terminated.reason", "Completed Error"),
        ("both", ".status.containerStatuses[*].state.terminated.exitCode", "0 7"),
        ("both", ".status.containerStatuses[1].state.terminated.message", "bad\n"),
        ("oom", &first("state.terminated.reason"), "OOMKilled"),
        ("oom", &first("state.terminated.exitCode"), "137"),
        ("images", ".status.containerStatuses[?(@.name=='refused')].state.waiting.reason", "ImagePullBackOff"),
        ("images", ".status.containerStatuses[?(@.name=='never')].state.waiting.reason", "ErrImageNeverPull"),
        ("images", ".status.containerStatuses[?(@.name=='bad')].state.waiting.reason", "InvalidImageName"),
        ("config", ".status.containerStatuses[?(@.name=='root')].state.waiting.reason", "CreateContainerConfigError"),
        ("config", ".status.containerStatuses[?(@.name=='ref')].state.waiting.message", "configmap \"zzz\" not found"),
        ("config", ".status.containerStatuses[?(@.name=='absent')].lastState.terminated.reason", "StartError"),
        ("config", ".status.containerStatuses[?(@.name=='absent')].lastState.terminated.exitCode", "128"),
        ("deadline", ".status.reason", "DeadlineExceeded"),
        ("deadline", ".status.phase", "Failed"),
        ("init", ".status.phase", "Failed"),
        ("init", ".status.initContainerStatuses[0].state.terminated.exitCode", "4"),
        ("init", &first("state.waiting.reason"), "PodInitializing"),
        ("onfailure", ".status.phase", "Succeeded"),
        ("onfailure", &first("restartCount"), "1"),
        ("volume", &first("state.waiting.reason"), "ContainerCreating"),
    ];
    for (pod, path, want) in table {
        until(&ns, pod, path, want)?;
    }
    let message = ns.must("get pod config -o jsonpath={.status.containerStatuses[0].state.waiting.message}")?;
    ensure!(message.starts_with("container has runAsNonRoot and image will run as root"), "{message}");
    c.wait(PATIENCE, "the event of a missing volume", || {
        Ok(ns.must("get events")?.contains("MountVolume.SetUp failed for volume \"v\" : configmap \"late\" not found"))
    })?;
    ns.must("create configmap late --from-literal=k=v")?;
    ns.must("wait --for=condition=Ready pod/volume --timeout=30s")?;
    ns.delete()
}

pub fn is_probed(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "probes")?;
    apply(&ns, include_str!("../../testdata/probes.yaml"))?;
    let ready = |p: &str, want: &str| until(&ns, p, ".status.containerStatuses[0].ready", want);
    until(&ns, "ready", ".status.containerStatuses[0].started", "true")?;
    ready("ready", "false")?;
    shell(&ns, "ready", "c", "touch /tmp/ready")?;
    ready("ready", "true")?;
    shell(&ns, "ready", "c", "rm /tmp/ready")?;
    ready("ready", "false")?;
    until(&ns, "ready", ".status.containerStatuses[0].restartCount", "0")?;
    for pod in ["live", "startup"] {
        until(&ns, pod, ".status.containerStatuses[0].lastState.terminated.exitCode", "137")?;
    }
    ready("grpc", "false")?;
    ready("grpc-well", "true")?;
    ready("grpc-unknown", "false")?;
    let events = ns.must("get events")?;
    for want in [
        "Container c failed liveness probe, will be restarted",
        "Container c failed startup probe, will be restarted",
        "Startup probe failed: HTTP probe failed with statuscode: 404",
        "Liveness probe failed: cat: can't open '/ok'",
        "Readiness probe failed: health rpc failed: unknown service",
    ] {
        ensure!(events.contains(want), "no event {want:?} in\n{events}");
    }
    ns.delete()
}

pub fn is_told_before_it_ends(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "grace")?;
    let volume = c.dir().join("grace");
    apply(
        &ns,
        &format!(
            r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "grace"}}, "spec": {{
              "terminationGracePeriodSeconds": 20,
              "containers": [{{"name": "c", "image": "shop/backend:v1",
                "command": ["sh", "-c", "trap 'echo term >> /h/log; exit 0' TERM; while true; do sleep 0.1; done"],
                "lifecycle": {{
                  "postStart": {{"exec": {{"command": ["sh", "-c", "echo post >> /h/log"]}}}},
                  "preStop": {{"exec": {{"command": ["sh", "-c", "echo pre >> /h/log; sleep 0.3"]}}}}}},
                "volumeMounts": [{{"name": "h", "mountPath": "/h"}}]}}],
              "volumes": [{{"name": "h", "hostPath": {{"path": "{}", "type": "DirectoryOrCreate"}}}}]}}}}"#,
            volume.display()
        ),
    )?;
    ns.must("wait --for=condition=Ready pod/grace --timeout=30s")?;
    let began = std::time::Instant::now();
    ns.must("delete pod grace --timeout=30s")?;
    ensure!(began.elapsed() < Duration::from_secs(10), "the pod ended by force");
    let log = std::fs::read_to_string(volume.join("log"))?;
    ensure!(log == "post\npre\nterm\n", "order of hooks: {log:?}");
    ns.delete()
}
