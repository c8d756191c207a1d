//! Pods and containers from beginning to end, on this machine's kernel.

mod common;

use common::{bed, options, output, shim_exe, words};
use cri::{ContainerState, LinuxResources, RuntimeEvent, RuntimeService, SandboxState};
use runtime::Runtime;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_and_ends() {
    let Some(bed) = bed().await else { return };
    let sandbox = bed.sandbox().await;
    let status = bed.rt().pod_sandbox_status(&sandbox).await.unwrap();
    assert_eq!((status.state, status.ips), (SandboxState::Ready, vec!["10.0.0.7".to_owned()]));
    let mut events = bed.rt().events().await.unwrap();

    let script = "echo out; echo err >&2; hostname; echo $FROM $HOSTNAME; cat /proc/1/comm; printf open; exit 3";
    let id = bed.start(&sandbox, &bed.shell(script)).await;
    let status = bed.wait(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str(), status.signal), (3, "Error", 0));
    assert!(status.started_at_ns > 0 && status.finished_at_ns >= status.started_at_ns);
    assert_eq!(status.user, Some((0, 0, vec![0])));
    let log = std::fs::read_to_string(&status.log_path).unwrap();
    for line in
        ["stdout F out", "stderr F err", "stdout F test-pod", "stdout F image test-pod", "stdout F sh", "stdout F open"]
    {
        assert!(log.lines().any(|l| l.ends_with(line)), "{line:?} is not in\n{log}");
    }
    let started = RuntimeEvent::ContainerStarted { sandbox_id: sandbox.clone(), container_id: id.clone() };
    let exited = RuntimeEvent::ContainerExited { sandbox_id: sandbox.clone(), container_id: id.clone() };
    assert_eq!(events.recv().await.unwrap(), started);
    assert_eq!(events.recv().await.unwrap(), exited);
    assert!(matches!(bed.rt().start_container(&id).await, Err(cri::Error::InvalidArgument(_))));

    assert_eq!(bed.run(&sandbox, &bed.shell("exit 0")).await.0, 0);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_says_why() {
    let Some(bed) = bed().await else { return };
    let sandbox = bed.sandbox().await;
    for (command, message) in [
        ("nope", "exec: \"nope\": executable file not found in $PATH"),
        ("/no/such", "exec: \"/no/such\": stat /no/such: no such file or directory"),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
    ] {
        let mut config = bed.shell("");
        config.command = words(command);
        let id = bed.rt().create_container(&sandbox, &config).await.unwrap();
        let error = bed.rt().start_container(&id).await.unwrap_err();
        assert!(matches!(&error, cri::Error::Start(m) if m.contains(message)), "{error}");
        let status = bed.rt().container_status(&id).await.unwrap();
        assert_eq!(
            (status.state, status.exit_code, status.reason.as_str()),
            (ContainerState::Exited, 128, "StartError")
        );
        assert!(status.message.contains(message));
    }
    let mut config = bed.shell("");
    config.security.run_as_username = "ghost".into();
    let id = bed.rt().create_container(&sandbox, &config).await.unwrap();
    let error = bed.rt().start_container(&id).await.unwrap_err().to_string();
    assert!(error.contains("unable to find user ghost"), "{error}");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_asks_first_and_then_kills() {
    let Some(bed) = bed().await else { return };
    let sandbox = bed.sandbox().await;
    let polite = bed.start(&sandbox, &bed.shell("trap 'echo bye; exit 7' TERM; while true; do sleep 0.02; done")).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    bed.rt().stop_container(&polite, Duration::from_secs(10)).await.unwrap();
    let status = bed.wait(&polite).await;
    assert_eq!((status.exit_code, output(&status.log_path).as_str()), (7, "bye\n"));

    let stubborn = bed.start(&sandbox, &bed.shell("trap '' TERM; while true; do sleep 1; done")).await;
    let begin = Instant::now();
    bed.rt().stop_container(&stubborn, Duration::from_millis(300)).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(300));
    let status = bed.wait(&stubborn).await;
    assert_eq!((status.exit_code, status.signal), (137, 9));
    bed.rt().stop_container(&stubborn, Duration::from_secs(1)).await.unwrap();

    let mut config = bed.shell("trap 'exit 9' USR1; while true; do sleep 0.02; done");
    config.stop_signal = Some("SIGUSR1".into());
    let own_signal = bed.start(&sandbox, &config).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    bed.rt().stop_container(&own_signal, Duration::from_secs(10)).await.unwrap();
    assert_eq!(bed.wait(&own_signal).await.exit_code, 9);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn security_is_as_asked() {
    let Some(bed) = bed().await else { return };
    let sandbox = bed.sandbox().await;
    // The default set, as `capsh --decode` shows containerd's.
    let (_, out) = bed.run(&sandbox, &bed.shell("grep CapEff /proc/self/status")).await;
    assert!(out.contains("00000000a80425fb"), "{out}");

    let mut config = bed.shell(
        "id; grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; echo $HOME; echo again > /dev/stdout; touch /x",
    );
    config.security.run_as_user = Some(33);
    config.security.supplemental_groups = vec![99];
    config.security.drop_capabilities = words("ALL");
    config.security.add_capabilities = words("NET_BIND_SERVICE");
    config.security.no_new_privs = true;
    let (code, out) = bed.run(&sandbox, &config).await;
    assert_eq!(code, 1, "{out}");
    for part in [
        "uid=33(web) gid=34(web) groups=34(web),44(logs),99",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000400",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "/srv",
        "again",
        "Permission denied",
    ] {
        assert!(out.contains(part), "{part:?} is not in\n{out}");
    }

    let mut config = bed.shell("touch /x && echo wrote; touch /tmp/mounted/y && echo volume");
    config.security.readonly_rootfs = true;
    let volume = bed.dir.path().join("volume");
    config.mounts.push(cri::Mount {
        container_path: "/tmp/mounted".into(),
        host_path: volume.to_string_lossy().into_owned(),
        ..Default::default()
    });
    let (_, out) = bed.run(&sandbox, &config).await;
    assert!(out.contains("Read-only file system") && out.contains("volume") && !out.contains("wrote"), "{out}");
    assert!(volume.join("y").exists());

    let mut config = bed.shell("touch /ro/x; echo $?; mount -t tmpfs none /tmp; echo $?; unshare -n true; echo $?; echo 1 > /proc/sys/kernel/panic; cat /proc/kcore | wc -c");
    config.mounts.push(cri::Mount {
        container_path: "/ro".into(),
        host_path: volume.to_string_lossy().into_owned(),
        readonly: true,
        ..Default::default()
    });
    let (_, out) = bed.run(&sandbox, &config).await;
    assert!(
        out.contains("Read-only file system") && out.contains("permission denied")
            || out.contains("Operation not permitted"),
        "{out}"
    );
    // One zero: that of the bytes read; no command said that it succeeded. Where in the log it stands isn't said: the two
    // streams are read one after the other when the container was quicker than its shim.
    assert!(!volume.join("x").exists() && out.lines().filter(|l| *l == "0").count() == 1, "{out}");

    let mut config = bed.shell("mount -t tmpfs none /tmp && ls /dev | wc -l && grep CapEff /proc/self/status");
    config.security.privileged = true;
    let (code, out) = bed.run(&sandbox, &config).await;
    assert_eq!(code, 0, "{out}");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_inside() {
    let Some(bed) = bed().await else { return };
    let sandbox = bed.sandbox().await;
    let id = bed.start(&sandbox, &bed.shell("echo $$ > /tmp/pid; while true; do sleep 1; done")).await;
    let (code, out) = bed.exec(&id, "cat /tmp/pid; hostname; echo $FROM; grep -c . /proc/1/comm; exit 5").await;
    assert_eq!((code, out.as_str()), (5, "1\ntest-pod\nimage\n1\n"));
    let error = bed.rt().exec_sync(&id, &words("nope"), Duration::ZERO).await.unwrap_err().to_string();
    assert!(error.contains("exec: \"nope\": executable file not found in $PATH"), "{error}");

    let begin = Instant::now();
    let late = bed.rt().exec_sync(&id, &words("sleep 30"), Duration::from_millis(200)).await;
    assert!(matches!(late, Err(cri::Error::DeadlineExceeded(_))) && begin.elapsed() < Duration::from_secs(5));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bed.exec(&id, "ps | grep -c '[s]leep 30'").await.1, "0\n");

    // Streams: input to its end, output, exit code.
    let options = cri::ExecOptions { command: words("cat"), stdin: true, tty: false };
    let mut session = bed.rt().exec(&id, &options).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"through the pod").await.unwrap();
    drop(stdin);
    let mut text = String::new();
    session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!((text.as_str(), session.exit.await.unwrap().unwrap()), ("through the pod", 0));

    // A terminal, its size, and its end.
    let options = cri::ExecOptions { command: words("sh"), stdin: true, tty: true };
    let mut session = bed.rt().exec(&id, &options).await.unwrap();
    session.resize.as_ref().unwrap().send(cri::TerminalSize { width: 99, height: 44 }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"stty size; tty; exit 4\n").await.unwrap();
    let mut text = String::new();
    session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert!(text.contains("44 99\r\n") && text.contains("/dev/pts/0"), "{text}");
    assert_eq!(session.exit.await.unwrap().unwrap(), 4);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attaching_shares_the_first_process() {
    let Some(bed) = bed().await else { return };
    let sandbox = bed.sandbox().await;
    let mut config = bed.shell("echo ready; cat; echo done");
    (config.stdin, config.stdin_once) = (true, true);
    let id = bed.start(&sandbox, &config).await;
    let mut session = bed.rt().attach(&id, &cri::ExecOptions { stdin: true, ..Default::default() }).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"hello\n").await.unwrap();
    drop(stdin);
    let mut text = String::new();
    session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert!(text.ends_with("hello\ndone\n"), "{text}");
    assert_eq!(session.exit.await.unwrap().unwrap(), 0);
    assert_eq!(output(&bed.wait(&id).await.log_path), "ready\nhello\ndone\n");

    // What was said before the first client came is in the log, up to where it is told, or comes now.
    let mut config = bed.shell("echo out; echo err >&2; printf 'half '; sleep 0.2; read line; echo $line");
    (config.stdin, config.stdin_once) = (true, false);
    let id = bed.start(&sandbox, &config).await;
    let log_path = bed.rt().container_status(&id).await.unwrap().log_path;
    while output(&log_path).len() < 8 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let looks_on = bed.rt().attach(&id, &cri::ExecOptions::default()).await.unwrap();
    let mut first = bed.rt().attach(&id, &cri::ExecOptions { stdin: true, ..Default::default() }).await.unwrap();
    let second = bed.rt().attach(&id, &cri::ExecOptions { stdin: true, ..Default::default() }).await.unwrap();
    assert_eq!((looks_on.logged, first.logged, second.logged), (None, Some(8), None));
    first.stdin.take().unwrap().write_all(b"line\n").await.unwrap();
    for (session, want) in [(looks_on, "line\n"), (first, "half line\n"), (second, "line\n")] {
        let mut text = String::new();
        session.stdout.unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, want);
    }

    let mut config = bed.shell("read line; echo got $line; tty");
    (config.stdin, config.tty) = (true, true);
    let id = bed.start(&sandbox, &config).await;
    let mut session =
        bed.rt().attach(&id, &cri::ExecOptions { stdin: true, tty: true, ..Default::default() }).await.unwrap();
    session.stdin.as_mut().unwrap().write_all(b"tty\n").await.unwrap();
    let mut text = String::new();
    session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert!(text.contains("got tty") && text.contains("/dev/pts/0"), "{text}");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_resources() {
    let Some(bed) = bed().await else { return };
    let sandbox = bed.sandbox().await;
    let mut config = bed.shell("head -c 200m /dev/zero | tail -c 150m > /dev/null; while true; do :; done");
    config.command = words("tail -c 200m /dev/zero");
    config.resources =
        LinuxResources { memory_limit_bytes: 20 << 20, memory_swap_limit_bytes: 20 << 20, ..Default::default() };
    let id = bed.start(&sandbox, &config).await;
    let status = bed.wait(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));

    let id = bed.start(&sandbox, &bed.shell("while true; do sleep 1; done")).await;
    let stats = bed.rt().container_stats(&id).await.unwrap();
    assert!(stats.memory_usage_bytes > 0 && stats.pids >= 1, "{stats:?}");
    bed.rt()
        .update_container_resources(&id, &LinuxResources { memory_limit_bytes: 64 << 20, ..Default::default() })
        .await
        .unwrap();
    let limits = bed.rt().container_status(&id).await.unwrap().resources;
    assert_eq!(limits.memory_limit_bytes, 64 << 20);
    let cgroups = sys::cgroup::Manager::detect("skiff").unwrap();
    assert_eq!(cgroups.stats(&format!("{}/pod/{id}", bed.cgroup)).unwrap().memory_limit_bytes, 64 << 20);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_share_what_they_should() {
    let Some(bed) = bed().await else { return };
    let mut pod = bed.pod();
    pod.namespaces.pid = cri::NamespaceMode::Pod;
    pod.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
    pod.dns_config.servers = words("10.43.0.10");
    let sandbox = bed.rt().run_pod_sandbox(&pod, "").await.unwrap();
    let mut config = bed.shell("echo shared > /dev/shm/x; sleep 60 & while true; do sleep 1; done");
    config.security.namespaces.pid = cri::NamespaceMode::Pod;
    let first = bed.start(&sandbox, &config).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut config = bed.shell("cat /proc/1/comm /dev/shm/x /proc/sys/net/ipv4/ip_unprivileged_port_start; cat /etc/resolv.conf; ps | grep -c 'sleep 60$'");
    config.security.namespaces.pid = cri::NamespaceMode::Pod;
    let (_, out) = bed.run(&sandbox, &config).await;
    assert_eq!(out, "pause\nshared\n0\nnameserver 10.43.0.10\n1\n");
    // The first process' children must not survive it in the pod's namespace.
    bed.rt().stop_container(&first, Duration::ZERO).await.unwrap();
    let mut config = bed.shell("ps | grep -c 'sleep 60$'");
    config.security.namespaces.pid = cri::NamespaceMode::Pod;
    assert_eq!(bed.run(&sandbox, &config).await.1, "0\n");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_reached_from_outside() {
    let Some(bed) = bed().await else { return };
    let sandbox = bed.sandbox().await;
    let _server = bed.start(&sandbox, &bed.shell("while true; do echo answer | nc -l -p 8080; done")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut stream = bed.rt().port_forward(&sandbox, 8080).await.unwrap();
    let mut text = [0; 7];
    stream.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"answer\n");
    let error = bed.rt().port_forward(&sandbox, 9).await.err().unwrap().to_string();
    assert!(error.contains("failed to connect to localhost:9 inside namespace"), "{error}");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_runtime_finds_everything_again() {
    let Some(mut bed) = bed().await else { return };
    let sandbox = bed.sandbox().await;
    let runs = bed
        .start(&sandbox, &bed.shell("echo before; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo after; exit 6"))
        .await;
    let ends = bed.start(&sandbox, &bed.shell("sleep 0.3; exit 8")).await;
    let created = bed.rt().create_container(&sandbox, &bed.shell("exit 1")).await.unwrap();
    let pid = bed.rt().container_status(&runs).await.unwrap().pid;
    let before = bed.rt().container_status(&runs).await.unwrap();

    // As after kill -9: nothing of the old one is told anything.
    drop(bed.runtime.take());
    tokio::time::sleep(Duration::from_millis(600)).await;
    bed.runtime = Some(Runtime::open(options(bed.dir.path())).await.unwrap());
    let second = Runtime::open(options(bed.dir.path())).await;
    assert!(matches!(second, Err(cri::Error::Unavailable(_))), "two runtimes on one directory");

    let status = bed.rt().pod_sandbox_status(&sandbox).await.unwrap();
    assert_eq!((status.state, status.ips), (SandboxState::Ready, vec!["10.0.0.7".to_owned()]));
    let after = bed.rt().container_status(&runs).await.unwrap();
    assert_eq!(
        (after.state, after.pid, after.started_at_ns, after.user),
        (ContainerState::Running, pid, before.started_at_ns, before.user)
    );
    let ended = bed.rt().container_status(&ends).await.unwrap();
    assert_eq!((ended.state, ended.exit_code), (ContainerState::Exited, 8));
    assert_eq!(bed.rt().container_status(&created).await.unwrap().state, ContainerState::Created);

    let mut events = bed.rt().events().await.unwrap();
    bed.exec(&runs, "touch /tmp/go").await;
    assert_eq!(
        events.recv().await.unwrap(),
        RuntimeEvent::ContainerExited { sandbox_id: sandbox.clone(), container_id: runs.clone() }
    );
    let status = bed.rt().container_status(&runs).await.unwrap();
    assert_eq!((status.exit_code, output(&status.log_path).as_str()), (6, "before\nafter\n"));
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_shim_takes_its_pod_along() {
    let Some(bed) = bed().await else { return };
    let sandbox = bed.sandbox().await;
    let id = bed.start(&sandbox, &bed.shell("while true; do sleep 1; done")).await;
    let mut events = bed.rt().events().await.unwrap();
    for pid in common::shims(bed.dir.path()) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    while events.recv().await.unwrap() != (RuntimeEvent::SandboxStopped { sandbox_id: sandbox.clone() }) {}
    let status = bed.rt().container_status(&id).await.unwrap();
    assert_eq!((status.state, status.exit_code, status.reason.as_str()), (ContainerState::Exited, 255, "Unknown"));
    assert_eq!(bed.rt().pod_sandbox_status(&sandbox).await.unwrap().state, SandboxState::NotReady);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_reopened_and_long_lines_cut() {
    let Some(bed) = bed().await else { return };
    let sandbox = bed.sandbox().await;
    let id = bed
        .start(
            &sandbox,
            &bed.shell(
                "echo one; while [ ! -e /tmp/go ]; do sleep 0.02; done; head -c 20000 /dev/zero; echo; echo two",
            ),
        )
        .await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    let path = bed.rt().container_status(&id).await.unwrap().log_path;
    std::fs::rename(&path, format!("{path}.1")).unwrap();
    bed.rt().reopen_container_log(&id).await.unwrap();
    bed.exec(&id, "touch /tmp/go").await;
    bed.wait(&id).await;
    assert_eq!(output(&format!("{path}.1")), "one\n");
    let text = std::fs::read_to_string(&path).unwrap();
    let tags: Vec<(&str, usize)> =
        text.lines().map(|l| l.splitn(4, ' ').collect::<Vec<_>>()).map(|p| (p[2], p[3].len())).collect();
    assert_eq!(tags, [("P", 16384), ("F", 20000 - 16384), ("F", 3)]);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reset_leaves_nothing() {
    let Some(mut bed) = bed().await else { return };
    let sandbox = bed.sandbox().await;
    let _id = bed.start(&sandbox, &bed.shell("while true; do sleep 1; done")).await;
    drop(bed.runtime.take());
    let (root, state) = (bed.dir.path().join("root"), bed.dir.path().join("state"));
    for _ in 0..2 {
        runtime::reset(&root, &state).unwrap();
        assert!(!root.exists() && !state.exists());
        assert!(common::shims(bed.dir.path()).is_empty());
        assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&*bed.dir.path().to_string_lossy()));
        let cgroups = sys::cgroup::Manager::detect("skiff").unwrap();
        assert!(cgroups.pids(&bed.cgroup).unwrap().is_empty());
    }
}

/// Not a test: the process that the next one kills. Prints the ids of what it has made.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by a_killed_owner_loses_nothing"]
async fn owner() {
    let Ok(dir) = std::env::var("SKIFF_TEST_OWNER_DIR") else {
        return;
    };
    let cgroup = std::env::var("SKIFF_TEST_OWNER_CGROUP").unwrap();
    let image = std::env::var("SKIFF_TEST_OWNER_IMAGE").unwrap();
    let runtime = Runtime::open(options(std::path::Path::new(&dir))).await.unwrap();
    let mut pod = cri::PodSandboxConfig {
        cgroup_parent: cgroup,
        log_directory: format!("{dir}/logs"),
        hostname: "h".into(),
        ..Default::default()
    };
    pod.namespaces.pid = cri::NamespaceMode::Container;
    let sandbox = runtime.run_pod_sandbox(&pod, "").await.unwrap();
    let script = "i=0; while [ $i -lt 200 ]; do echo $i; i=$((i+1)); sleep 0.01; done; exit 11";
    let mut config = cri::ContainerConfig {
        image,
        command: vec!["sh".into(), "-c".into(), script.into()],
        log_path: "c.log".into(),
        ..Default::default()
    };
    config.security.namespaces.pid = cri::NamespaceMode::Container;
    let id = runtime.create_container(&sandbox, &config).await.unwrap();
    runtime.start_container(&id).await.unwrap();
    // More pods, so that the kill hits one half made.
    std::fs::write(format!("{dir}/ids"), format!("{sandbox} {id}")).unwrap();
    loop {
        let _ = runtime.run_pod_sandbox(&pod, "").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_that_nobody_waits_for_leaves_nothing() {
    let Some(bed) = bed().await else { return };
    let dir = bed.dir.path().join("alone");
    std::fs::create_dir(&dir).unwrap();
    let netns = bed.dir.path().join("alone-netns");
    let spec = runtime::spec::ShimSpec {
        sandbox: "alone".into(),
        hostname: None,
        netns: Some(netns.clone()),
        ipc: true,
        shared_pid: false,
        sysctls: Vec::new(),
    };
    std::fs::write(dir.join("shim.json"), serde_json::to_vec(&spec).unwrap()).unwrap();
    let (told, tell) = std::io::pipe().unwrap();
    // As when the kernel has closed what a killed owner had open.
    drop(told);
    let mut shim = std::process::Command::new(shim_exe()).arg("--sandbox").arg(&dir).stdout(tell).spawn().unwrap();
    assert_eq!(shim.wait().unwrap().code(), Some(1));
    assert!(!netns.exists());
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_owner_loses_nothing() {
    let Some(mut bed) = bed().await else { return };
    drop(bed.runtime.take());
    let mut owner = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner", "--ignored"])
        .env("SKIFF_TEST_OWNER_DIR", bed.dir.path())
        .env("SKIFF_TEST_OWNER_CGROUP", format!("{}/pod", bed.cgroup))
        .env("SKIFF_TEST_OWNER_IMAGE", &bed.image)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let ids = bed.dir.path().join("ids");
    let until = Instant::now() + Duration::from_secs(20);
    while !std::fs::read_to_string(&ids).is_ok_and(|t| t.len() == 129) {
        assert!(Instant::now() < until, "owner made nothing");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(120)).await;
    owner.kill().unwrap();
    owner.wait().unwrap();
    let text = std::fs::read_to_string(&ids).unwrap();
    let (sandbox, id) = text.split_once(' ').unwrap();

    bed.runtime = Some(Runtime::open(options(bed.dir.path())).await.unwrap());
    let status = bed.rt().container_status(id).await.unwrap();
    assert_eq!(status.state, ContainerState::Running);
    assert_eq!(bed.rt().pod_sandbox_status(sandbox).await.unwrap().state, SandboxState::Ready);
    let status = bed.wait(id).await;
    assert_eq!(status.exit_code, 11);
    let expected: String = (0..200).map(|i| format!("{i}\n")).collect();
    assert_eq!(output(&status.log_path), expected, "every line of before and after is there, once");
    bed.finish().await;
}
