//! logs, exec, attach, cp, port-forward, run and debug, with the real kubectl over WebSocket and over SPDY.

use super::namespace::Namespace;
use super::pods::{PATIENCE, apply, shell, until};
use crate::cluster::Cluster;
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
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
    // As a page in a browser reads a log and watches: over a WebSocket, with the token among its protocols.
    ns.must(&format!("create rolebinding viewer --clusterrole=view --serviceaccount={}:default", ns.name()))?;
    let token = URL_SAFE_NO_PAD.encode(ns.must("create token default")?.trim());
    let protocols = format!("base64.binary.k8s.io, base64url.bearer.authorization.k8s.io.{token}");
    let page = |path: &str| -> Result<String> {
        let url = format!("https://127.0.0.1:6443/api/v1/namespaces/{}/{path}", ns.name());
        let mut command = vec!["curl", "-sk", "--http1.1", "--max-time", "2"];
        let protocols = format!("Sec-WebSocket-Protocol: {protocols}");
        let handshake = [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            &protocols,
        ];
        command.extend(handshake.iter().flat_map(|h| ["-H", h]));
        command.push(&url);
        Ok(c.run(&command)?.stdout)
    };
    let log = page("pods/once/log")?;
    ensure!(log.contains("MQoyCg==") || (log.contains("MQo=") && log.contains("Mgo=")), "{log}");
    let events = page("pods?watch=1&fieldSelector=metadata.name%3Donce")?;
    ensure!(events.contains("{\"type\":\"ADDED\",\"object\":{"), "{events}");
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

/// Logs of many pods, of workloads, and what is wrong with a question.
pub fn logs_of_many(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "manylogs")?;
    apply(
        &ns,
        r#"{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "many"}, "spec": {"replicas": 2,
          "selector": {"matchLabels": {"app": "many"}}, "template": {"metadata": {"labels": {"app": "many"}}, "spec": {
            "terminationGracePeriodSeconds": 1,
            "initContainers": [{"name": "first", "image": "shop/backend:v1", "command": ["sh", "-c", "echo initial"]}],
            "containers": [{"name": "x", "image": "shop/backend:v1", "command": ["sh", "-c", "echo early; sleep 2; echo late; sleep 1000"]},
                           {"name": "y", "image": "shop/backend:v1", "command": ["sleep", "1000"]}]}}}}"#,
    )?;
    ns.must("rollout status deployment/many --timeout=60s")?;
    c.wait(PATIENCE, "late lines", || Ok(ns.must("logs -l app=many -c x --tail=-1")?.matches("late").count() == 2))?;
    let said = ns.kubectl(&["logs", "deployment/many"])?;
    ensure!(
        said.stdout.starts_with("early\n") && said.stderr.contains("Found 2 pods"),
        "{}{}",
        said.stdout,
        said.stderr
    );
    ensure!(said.stderr.contains("Defaulted container \"x\" out of: x, y, first (init)"), "{}", said.stderr);
    ensure!(ns.must("logs deployment/many -c first")? == "initial\n", "an init container's log");
    // What a program leaves without an end of line when it ends is a line.
    ns.must("run half --image=shop/backend:v1 --restart=Never --command -- printf half")?;
    until(&ns, "half", ".status.phase", "Succeeded")?;
    ensure!(ns.must("logs half")?.trim_end() == "half", "half a line: {:?}", ns.must("logs half")?);
    let said = ns.must("logs -l app=many --all-containers --prefix --tail=-1")?;
    ensure!(said.matches("/first] initial").count() == 2 && said.matches("/x] early").count() == 2, "{said}");
    // A selector shows ten lines of each unless told otherwise.
    let pod = ns.must("get pods -l app=many -o name")?.lines().next().unwrap_or_default().to_string();
    ensure!(ns.must(&format!("logs {pod} -c x --since=1h"))? == "early\nlate\n", "--since=1h");
    c.wait(PATIENCE, "lines to be older than a second", || {
        Ok(ns.must(&format!("logs {pod} -c x --since=1s"))?.is_empty())
    })?;
    let from = ns.must(&format!("logs {pod} -c x --timestamps"))?;
    let time = from.lines().nth(1).and_then(|l| l.split(' ').next()).unwrap_or_default().to_string();
    let late = ns.must(&format!("logs {pod} -c x --since-time={time}"))?;
    ensure!(late == "late\n", "--since-time={time}: {late:?}");
    ensure!(ns.must(&format!("logs {pod} -c x --tail=0"))?.is_empty(), "--tail=0");
    ensure!(ns.must(&format!("logs {pod} -c x --tail=100 --limit-bytes=7"))? == "early\nl", "--limit-bytes over lines");
    let followed = ns.line(&format!("logs -f {pod} -c x --tail=1 --pod-running-timeout=5s"));
    let out = std::process::Command::new("timeout").arg("2").args(&followed).output()?;
    ensure!(out.stdout == b"late\n", "-f --tail=1: {:?}", String::from_utf8_lossy(&out.stdout));
    let refused: &[(&str, &str)] = &[
        (
            "logs -f -l app=many --all-containers --max-log-requests=2",
            "you are attempting to follow 6 log streams, but maximum allowed concurrency is 2",
        ),
        ("logs deployment/nobody", "deployments.apps \"nobody\" not found"),
        (
            "logs half --since=1s --since-time=2020-01-01T00:00:00Z",
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
        ("logs service/nobody", "services \"nobody\" not found"),
    ];
    for (line, want) in refused {
        let d = ns.kubectl(&super::kubectl::words(line).iter().map(String::as_str).collect::<Vec<_>>())?;
        ensure!(!d.ok && d.stderr.contains(want), "{line}: {}{}", d.stdout, d.stderr);
    }
    // Before a container has started there is nothing to read, and it is said why.
    ns.must("run waiting --image=shop/absent:v9 --image-pull-policy=Never")?;
    until(&ns, "waiting", ".status.containerStatuses[0].state.waiting.reason", "ErrImageNeverPull")?;
    let d = ns.kubectl(&["logs", "waiting"])?;
    ensure!(
        !d.ok
            && d.stderr.contains(
                "Error from server (BadRequest): container \"waiting\" in pod \"waiting\" is waiting to start"
            ),
        "{}",
        d.stderr
    );
    ns.delete()
}

/// Copies of whole trees, a terminal that is attached to, ports of a Deployment.
pub fn more_ways_in(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "waysin")?;
    apply(&ns, include_str!("../../testdata/streams.yaml"))?;
    ns.must("wait --for=condition=Ready pod/ticker --timeout=30s")?;
    let space = ns.name();
    // Out of the pod: a tree with links, a name with spaces, an empty directory; then single files by both spellings.
    shell(
        &ns,
        "ticker",
        "a",
        "busybox ln -s busybox /bin/tar; mkdir -p '/data/deep/a dir/empty'; echo x > '/data/deep/a dir/a file'; busybox ln -s 'a dir' /data/deep/link",
    )?;
    let here = c.dir().join(space).join("out");
    std::fs::create_dir_all(&here)?;
    let here = here.display().to_string();
    ns.must(&format!("cp {space}/ticker:/data/deep {here}/tree -c a"))?;
    ensure!(std::fs::read_to_string(format!("{here}/tree/a dir/a file"))? == "x\n", "a tree copied out");
    ensure!(std::path::Path::new(&format!("{here}/tree/a dir/empty")).is_dir(), "an empty directory copied out");
    std::fs::write(format!("{here}/in"), "inwards")?;
    ns.must(&format!("cp {here}/in ticker:/tmp/renamed -c a"))?;
    ensure!(shell(&ns, "ticker", "a", "cat /tmp/renamed")? == "inwards", "a file copied in under another name");
    ns.must(&format!("cp {here}/tree ticker:/tmp -c a --no-preserve"))?;
    ensure!(shell(&ns, "ticker", "a", "cat '/tmp/tree/a dir/a file'")? == "x\n", "a tree copied into a directory");
    // Tar says that it isn't there; some kubectls don't wait for that.
    ns.kubectl(&["cp", "ticker:/no/such", &format!("{here}/none"), "-c", "a"])?;
    ensure!(!std::path::Path::new(&format!("{here}/none")).exists(), "a copy of what isn't there");
    let d = ns.kubectl(&["cp", &format!("{here}/nothing"), "ticker:/tmp/x", "-c", "a"])?;
    ensure!(!d.ok && d.stderr.contains("doesn't exist in local filesystem"), "{}", d.stderr);
    // exec chooses the first container, says so, and takes workloads.
    let d = ns.kubectl(&["exec", "ticker", "--", "hostname"])?;
    ensure!(
        d.stdout == "ticker\n" && d.stderr.contains("Defaulted container \"a\" out of: a, b, web"),
        "{}{}",
        d.stdout,
        d.stderr
    );
    // Attached to a terminal that the container owns, both ways.
    ns.must("run shell --image=shop/backend:v1 -it --command --attach=false -- sh")
        .or_else(|_| ns.must("run shell --image=shop/backend:v1 --stdin --tty --attach=false --command -- sh"))?;
    ns.must("wait --for=condition=Ready pod/shell --timeout=30s")?;
    let typed = format!(
        "(sleep 1; printf 'stty_said=$(/bin/busybox stty size); echo \"size $stty_said\"\\n'; sleep 1; printf 'exit 0\\n'; sleep 1) | \
         timeout 20 script -qc 'stty rows 33 cols 99; {} -n {space} attach -it shell' /dev/null",
        ns.kubectl_path()
    );
    let said = c.run(&["sh", "-c", &typed])?.stdout;
    ensure!(said.contains("size 33 99"), "attach -it: {said}");
    // Its end is the end of the command; the pod goes on with another container.
    until(&ns, "shell", ".status.containerStatuses[0].restartCount", "1")?;
    // Ports of a Deployment, chosen by the machine, by name, on another address.
    ns.must("create deployment web --image=shop/backend:v1 --port=8080")?;
    ns.must("rollout status deployment/web --timeout=60s")?;
    let forward = |what: &str, ports: &str, more: &[&str]| -> Result<(std::process::Child, String)> {
        let file = std::path::PathBuf::from(ns.file("forward", "")?);
        let out = std::fs::File::create(&file)?;
        let child = c
            .command(&c.tools.kubectl)
            .args(["-n", space, "port-forward", what, ports])
            .args(more)
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        let mut said = String::new();
        let told = c.wait(Duration::from_secs(10), "port-forward to tell its port", || {
            said = std::fs::read_to_string(&file)?;
            Ok(said.contains("Forwarding from"))
        });
        told.map(|()| (child, said))
    };
    let (mut child, said) = forward("deployment/web", ":8080", &["--address=127.0.0.1"])?;
    let port: String =
        said.split("127.0.0.1:").nth(1).unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
    let answer = c.run(&["curl", "-s", "--max-time", "5", &format!("http://127.0.0.1:{port}/version")])?.stdout;
    ensure!(answer == "v1\n", "port-forward deployment/web at {port}: {answer:?}");
    // The pod goes: the command says so and ends.
    ns.must("scale deployment/web --replicas=0")?;
    ns.must("delete pod -l app=web --grace-period=1 --timeout=30s")?;
    let _ = c.run(&["curl", "-s", "--max-time", "2", &format!("http://127.0.0.1:{port}/version")])?;
    let ended = c.wait(Duration::from_secs(10), "port-forward to end with its pod", || Ok(child.try_wait()?.is_some()));
    let _ = child.kill();
    child.wait()?;
    ended?;
    // Nobody listens there: the connection ends, and kubectl says why.
    let (mut child, _) = forward("pod/ticker", "18099:9", &[])?;
    let refused = c.run(&["curl", "-s", "--max-time", "5", "http://127.0.0.1:18099/"])?;
    let told = c.wait(Duration::from_secs(10), "port-forward to tell that nobody listens", || {
        let said = std::fs::read_to_string(ns.c.dir().join(space).join("forward"))?;
        Ok(said.contains("Handling connection for 18099") && said.to_lowercase().contains("connection refused"))
    });
    let _ = child.kill();
    child.wait()?;
    told?;
    ensure!(!refused.ok && refused.stdout.is_empty(), "a port that nobody listens at answered: {}", refused.stdout);
    let d = ns.kubectl(&["port-forward", "deployment/web", "18098:8080", "--pod-running-timeout=1s"])?;
    ensure!(!d.ok && d.stderr.contains("error"), "port-forward without a pod: {}", d.stderr);
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
    // A copy of the pod, with another image, another command, and one more container that sees its processes.
    ns.must("debug target --copy-to=copied --set-image=*=shop/backend:v2 --share-processes")?;
    ns.must("wait --for=condition=Ready pod/copied --timeout=30s")?;
    ensure!(shell(&ns, "copied", "target", "cat /www/version")? == "v2\n", "the copy's image");
    let s = talk(
        &ns,
        &[
            "debug",
            "target",
            "-i",
            "--copy-to=beside",
            "--image=shop/backend:v1",
            "--share-processes",
            "--container=dbg",
            "--",
            "sh",
            "-c",
            "until ps | grep '[h]ttpd -f'; do sleep 0.1; done",
        ],
        b"",
        &[],
    )?;
    ensure!(s.text().contains("httpd -f -p 8080"), "a copy's processes: {}{}", s.text(), s.err);
    for (profile, capabilities) in [("general", "a80c25fb"), ("baseline", "a80425fb"), ("netadmin", "a80435fb")] {
        let mut args = vec!["debug", "target", "-i", "--image=shop/backend:v1", "--target=target"];
        let flag = format!("--profile={profile}");
        // Said before the client is there to hear it, which is told it once, to the half of a line.
        let script = "grep CapEff /proc/self/status; echo err >&2; printf 'name? '; read x; echo hello $x";
        args.extend([flag.as_str(), "--", "sh", "-c", script]);
        let s = talk(&ns, &args, b"you\n", &[])?;
        ensure!(
            s.text().matches("CapEff").count() == 1
                && s.text().ends_with("\nname? hello you\n")
                && s.err.contains("err\n"),
            "debug: {}{}",
            s.text(),
            s.err
        );
        ensure!(s.text().contains(capabilities), "debug --profile={profile}: {}{}", s.text(), s.err);
    }
    let d = ns.kubectl(&["debug", "nobody", "--image=x"])?;
    ensure!(!d.ok && d.stderr.contains("pods \"nobody\" not found"), "{}", d.stderr);
    ns.delete()
}
