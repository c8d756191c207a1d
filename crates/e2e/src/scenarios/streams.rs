//! logs, exec, attach, cp, port-forward, run and debug, with the real kubectl over WebSocket and over SPDY.

use super::namespace::Namespace;
use super::pods::{PATIENCE, apply, shell, until};
use crate::cluster::Cluster;
use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

/// What a command printed, given input, and its exit code.
struct Said {
    out: Vec<u8>,
    err: String,
    code: Option<i32>,
}

impl Said {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// kubectl with input and environment of its own.
fn talk(ns: &Namespace<'_>, args: &[&str], input: &[u8], env: &[(&str, &str)]) -> Result<Said> {
    let mut child =
        ns.c.command("timeout")
            .args(["30", &ns.kubectl_path(), "-n", ns.name()])
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    let input = input.to_vec();
    // A thread: output has to be read while input is written.
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let out = child.wait_with_output()?;
    let _ = feeder.join();
    Ok(Said { out: out.stdout, err: String::from_utf8_lossy(&out.stderr).into_owned(), code: out.status.code() })
}

/// kubectl on a terminal of 33 rows and 99 columns.
fn on_terminal(ns: &Namespace<'_>, line: &str) -> Result<String> {
    let command = format!("stty rows 33 cols 99; {} -n {} {line}; echo \"code=$?\"", ns.kubectl_path(), ns.name());
    ns.c.must(&["timeout", "30", "script", "-qc", &command, "/dev/null"])
}

pub fn logs(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "logs")?;
    apply(&ns, include_str!("../../testdata/streams.yaml"))?;
    // Followed from the start to the end of the container, which ends the command.
    until(&ns, "once", ".status.phase", "Running")?;
    ensure!(ns.must("logs -f once")? == "1\n2\n", "logs -f");
    ns.must("wait --for=condition=Ready pod/ticker --timeout=30s")?;
    c.wait(PATIENCE, "four lines", || Ok(ns.must("logs ticker -c a")?.lines().count() == 4))?;
    let tail = ns.must("logs ticker -c a --tail=1")?;
    ensure!(tail == "a2\n" || tail == "e\n", "--tail=1: {tail:?}");
    ensure!(ns.must("logs ticker -c a --limit-bytes=2")?.len() == 2, "--limit-bytes");
    ensure!(ns.must("logs ticker -c a --since=1h")?.lines().count() == 4, "--since=1h");
    ensure!(ns.must("logs ticker -c a --since-time=2099-01-01T00:00:00Z")?.is_empty(), "--since-time in the future");
    let stamped = ns.must("logs ticker -c a --timestamps")?;
    ensure!(
        stamped.lines().all(|l| l.split(' ').next().is_some_and(|t| t.len() == 30 && t.ends_with('Z'))),
        "{stamped}"
    );
    ensure!(ns.must("logs ticker --all-containers --prefix")?.contains("[pod/ticker/a] a0"), "--prefix");
    until(&ns, "crash", ".status.containerStatuses[0].state.waiting.reason", "CrashLoopBackOff")?;
    for line in ["logs crash", "logs crash -p"] {
        ensure!(ns.must(line)? == "going down\n", "{line}");
    }
    let refused = [
        ("logs ticker -p -c a", "previous terminated container \"a\" in pod \"ticker\" not found"),
        ("logs ticker -c zz", "container zz is not valid for pod ticker"),
        ("logs nobody", "pods \"nobody\" not found"),
    ];
    for (line, want) in refused {
        let d = ns.kubectl(&super::kubectl::words(line).iter().map(String::as_str).collect::<Vec<_>>())?;
        ensure!(!d.ok && d.stderr.contains(want), "{line}: {}", d.stderr);
    }
    ns.delete()
}

pub fn exec_attach_cp(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "exec")?;
    apply(&ns, include_str!("../../testdata/streams.yaml"))?;
    ns.must("wait --for=condition=Ready pod/ticker --timeout=30s")?;
    let noise: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for env in [&[][..], &[("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false")][..]] {
        let exec = |command: &[&str], input: &[u8]| {
            talk(&ns, &[&["exec", "-i", "ticker", "-c", "a", "--"], command].concat(), input, env)
        };
        let s = exec(&["sh", "-c", "echo out; echo err >&2; exit 9"], b"")?;
        ensure!(s.text() == "out\n" && s.err == "err\ncommand terminated with exit code 9\n", "{}{}", s.text(), s.err);
        ensure!(s.code == Some(9), "exit code {:?}", s.code);
        let s = exec(&["cat"], &noise)?;
        ensure!(
            s.code == Some(0) && s.err.is_empty() && s.out == noise,
            "cat: {:?} {} bytes, {}",
            s.code,
            s.out.len(),
            s.err
        );
        let s = exec(&["nope"], b"")?;
        ensure!(s.code == Some(1) && s.err.contains("exec: \"nope\": executable file not found in $PATH"), "{}", s.err);
    }
    let d = ns.kubectl(&["exec", "crash", "--", "true"])?;
    ensure!(!d.ok, "exec in a container that doesn't run");
    // A terminal, of the client's size, and the exit code through it.
    let said = on_terminal(&ns, "exec -it ticker -c a -- sh -c 'tty; /bin/busybox stty size; exit 4'")?;
    ensure!(said.contains("/dev/pts/") && said.contains("33 99") && said.contains("code=4"), "terminal: {said}");
    // Attached: input goes in; what comes out is in the log too.
    let line = format!("(echo one; sleep 1) | timeout 3 {} -n {} attach -i ticker -c b", ns.kubectl_path(), ns.name());
    let said = c.run(&["sh", "-c", &line])?;
    ensure!(said.stdout == "got one\n", "attach: {}{}", said.stdout, said.stderr);
    c.wait(PATIENCE, "attached input", || Ok(ns.must("logs ticker -c b")?.starts_with("got one\n")))?;
    // Both ways, with the container's own tar.
    shell(&ns, "ticker", "a", "busybox ln -s busybox /bin/tar")?;
    let dir = ns.file("note", "a note")?.trim_end_matches("/note").to_string();
    std::fs::write(format!("{dir}/noise"), &noise)?;
    ns.must(&format!("cp {dir} ticker:/tmp/tree -c a"))?;
    ensure!(shell(&ns, "ticker", "a", "cat /tmp/tree/note")? == "a note", "a tree copied in");
    ns.must(&format!("cp ticker:/tmp/tree/noise {dir}/back -c a"))?;
    ensure!(std::fs::read(format!("{dir}/back"))? == noise, "what comes back differs");
    ns.delete()
}

pub fn port_forward(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "forward")?;
    apply(&ns, include_str!("../../testdata/streams.yaml"))?;
    ns.must("wait --for=condition=Ready pod/ticker --timeout=30s")?;
    ns.must("label pod ticker app=ticker")?;
    ns.must("create service clusterip web --tcp=80:8080")?;
    ns.must("patch service web -p '{\"spec\":{\"selector\":{\"app\":\"ticker\"}}}'")?;
    for (target, port, websocket) in [
        ("pod/ticker", "18080:8080", "true"),
        ("service/web", "18081:80", "true"),
        ("pod/ticker", "18082:8080", "false"),
    ] {
        let local = port.split(':').next().unwrap_or_default();
        let mut child = c
            .command(&c.tools.kubectl)
            .args(["-n", ns.name(), "port-forward", target, port])
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websocket)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let url = format!("http://127.0.0.1:{local}/version");
        let answered = c.wait(Duration::from_secs(10), &format!("{target} at {port}"), || {
            Ok(c.run(&["curl", "-s", "--max-time", "2", &url])?.stdout == "v1\n")
        });
        // Many at once, over one connection to the API server.
        let many = format!("for i in $(seq 20); do curl -s --max-time 10 {url} & done; wait");
        let all = c.run(&["sh", "-c", &many])?.stdout;
        child.kill()?;
        child.wait()?;
        answered?;
        ensure!(all == "v1\n".repeat(20), "{} of 20 requests at once were answered", all.lines().count());
    }
    ns.delete()
}

pub fn run_and_debug(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "run")?;
    let run = |name: &str, script: &str, input: &str| {
        let args = [
            "run",
            name,
            "--rm",
            "-i",
            "--restart=Never",
            "--image=shop/backend:v1",
            "--command",
            "--",
            "sh",
            "-c",
            script,
        ];
        talk(&ns, &args, input.as_bytes(), &[])
    };
    for i in 0..3 {
        // However soon it ends, its output comes whole, and once.
        let s = run(&format!("quick{i}"), "echo out", "")?;
        ensure!(
            s.text().starts_with("out\npod ") && s.text().matches("out").count() == 1,
            "run: {}{}",
            s.text(),
            s.err
        );
        ensure!(s.code == Some(0) && !s.err.contains("couldn't attach"), "run: {:?} {}", s.code, s.err);
    }
    let s = run("code", "read x; echo got $x; exit 3", "word\n")?;
    ensure!(s.text().starts_with("got word\n") && s.code == Some(3), "run: {:?} {}{}", s.code, s.text(), s.err);
    ensure!(!s.err.contains("couldn't attach"), "run: {}", s.err);
    let said = on_terminal(
        &ns,
        "run tty --rm -it --restart=Never --image=shop/backend:v1 --command -- sh -c 'sleep 1; tty; exit 0'",
    )?;
    ensure!(said.contains("/dev/pts/0") && said.contains("code=0"), "run -it: {said}");
    ns.must("run target --image=shop/backend:v1")?;
    ns.must("wait --for=condition=Ready pod/target --timeout=30s")?;
    let s = talk(
        &ns,
        &[
            "debug",
            "target",
            "-i",
            "--image=shop/backend:v2",
            "--target=target",
            "--",
            "sh",
            "-c",
            "cat /www/version; ps",
        ],
        b"",
        &[],
    )?;
    ensure!(
        s.code == Some(0) && s.text().contains("v2") && s.text().contains("httpd -f -p 8080"),
        "debug: {}{}",
        s.text(),
        s.err
    );
    until(&ns, "target", ".status.ephemeralContainerStatuses[0].state.terminated.exitCode", "0")?;
    let s = talk(
        &ns,
        &["debug", "node/node1", "-i", "--image=shop/backend:v1", "--", "cat", "/host/etc/hostname"],
        b"",
        &[],
    )?;
    ensure!(s.code == Some(0), "debug of the node: {}{}", s.text(), s.err);
    ns.delete()
}
