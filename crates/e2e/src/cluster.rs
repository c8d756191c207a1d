//! A Skiff in namespaces of its own.
//!
//! A holder process keeps a network and a mount namespace alive; the server and every command run in them by
//! `nsenter`. So a server that is killed and started again finds the mounts of before, nothing can reach the outside
//! (there is no route out), and the end of it all is one `skiff reset`.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Programs and files that tests need.
#[derive(Clone, Debug)]
pub struct Tools {
    pub skiff: PathBuf,
    pub images: PathBuf,
    pub kubectl: PathBuf,
    /// Optional: its scenario passes without it.
    pub helm: Option<PathBuf>,
    /// Python packages (`kubernetes`, `kopf`); their scenarios pass without them.
    pub python: Option<PathBuf>,
}

impl Tools {
    pub fn new(skiff: &Path, images: &Path, kubectl: &Path) -> Result<Tools> {
        let found = |p: &Path| p.canonicalize().with_context(|| format!("{} is missing", p.display()));
        Ok(Tools { skiff: found(skiff)?, images: found(images)?, kubectl: found(kubectl)?, helm: None, python: None })
    }

    /// Adds what isn't everywhere.
    pub fn with(mut self, helm: Option<&Path>, python: Option<&Path>) -> Result<Tools> {
        let found = |p: &Path| p.canonicalize().with_context(|| format!("{} is missing", p.display()));
        self.helm = helm.map(found).transpose()?;
        self.python = python.map(found).transpose()?;
        Ok(self)
    }

    /// The same with other clients; without a helm of that age, none.
    pub fn older(mut self, kubectl: &Path, helm: Option<&Path>) -> Result<Tools> {
        let found = |p: &Path| p.canonicalize().with_context(|| format!("{} is missing", p.display()));
        self.kubectl = found(kubectl)?;
        self.helm = helm.map(found).transpose()?;
        Ok(self)
    }
}

pub struct Cluster {
    pub tools: Tools,
    dir: TempDir,
    holder: Child,
    server: RefCell<Option<Child>>,
}

/// What a command did.
pub struct Done {
    pub ok: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Cluster {
    /// Namespaces, a link with an address, and a running server with the shop's images.
    pub fn start(tools: &Tools) -> Result<Cluster> {
        let cluster = Cluster::empty(tools)?;
        let mut images: Vec<PathBuf> = std::fs::read_dir(&tools.images)?
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|x| x == "tar"))
            .collect();
        images.sort();
        let mut args = vec!["images".to_string(), "import".to_string()];
        args.extend(images.iter().map(|p| p.display().to_string()));
        cluster.skiff(&args)?;
        cluster.serve(&[])?;
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// Namespaces only.
    pub fn empty(tools: &Tools) -> Result<Cluster> {
        let dir = tempfile::Builder::new().prefix("skiff-e2e-").tempdir()?;
        let holder = Command::new("unshare")
            .args(["--mount", "--net", "--uts", "--propagation", "private", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .context("failed to make namespaces (unshare)")?;
        let cluster = Cluster { tools: tools.clone(), dir, holder, server: RefCell::new(None) };
        cluster.wait(Duration::from_secs(5), "the namespaces", || {
            let own = std::fs::read_link("/proc/self/ns/net")?;
            let theirs = std::fs::read_link(format!("/proc/{}/ns/net", cluster.holder.id()))?;
            Ok(own != theirs)
        })?;
        cluster.must(&[
            "sh",
            "-ec",
            "ip link set lo up; ip link add up0 type veth peer name up1; ip addr add 192.0.2.2/24 dev up0; \
             ip link set up0 up; ip link set up1 up; ip route add default via 192.0.2.1; \
             hostname node1; mount -t tmpfs tmpfs /etc/skiff 2>/dev/null || true",
        ])?;
        Ok(cluster)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("kubeconfig.yaml")
    }

    pub fn log(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }

    /// One for each kubectl: what one has cached of discovery hours ago misleads the other, as it would any user's.
    fn home(&self) -> PathBuf {
        let kubectl = self.tools.kubectl.file_name().unwrap_or_default().to_string_lossy();
        self.dir.path().join(format!("home-{kubectl}"))
    }

    /// A command in the cluster's namespaces.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut c = Command::new("nsenter");
        c.args(["--target", &self.holder.id().to_string(), "--mount", "--net", "--uts", "--"]);
        c.arg(program.as_ref()).env("KUBECONFIG", self.kubeconfig()).env("HOME", self.home());
        c
    }

    pub fn run(&self, args: &[&str]) -> Result<Done> {
        let out = self.command(args[0]).args(&args[1..]).stdin(Stdio::null()).output()?;
        Ok(done(out))
    }

    /// Runs a command that must succeed; gives its output.
    pub fn must(&self, args: &[&str]) -> Result<String> {
        let d = self.run(args)?;
        if !d.ok {
            bail!("{args:?} failed:\n{}{}", d.stdout, d.stderr);
        }
        Ok(d.stdout)
    }

    /// Starts the server with the given flags more.
    pub fn serve(&self, flags: &[&str]) -> Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log())?;
        let child = self
            .command(&self.tools.skiff)
            .args(["server", "--node-name", "node1", "--data-dir"])
            .arg(self.data_dir())
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("failed to start skiff server")?;
        *self.server.borrow_mut() = Some(child);
        Ok(())
    }

    /// The server's process id (nsenter execs, so it is the child's own).
    pub fn server_pid(&self) -> Option<u32> {
        self.server.borrow().as_ref().map(Child::id)
    }

    /// The process whose namespaces the cluster lives in.
    pub fn holder(&self) -> u32 {
        self.holder.id()
    }

    /// A start that must end by itself, soon and badly; gives what it said.
    pub fn start_fails(&self, flags: &[&str]) -> Result<String> {
        let mut command = self.command("timeout");
        command.args(["--signal=KILL", "20"]).arg(&self.tools.skiff).args([
            "server",
            "--node-name",
            "node1",
            "--data-dir",
        ]);
        let d = done(command.arg(self.data_dir()).args(flags).stdin(Stdio::null()).output()?);
        if d.ok {
            bail!("skiff server {flags:?} should have failed, but said:\n{}{}", d.stdout, d.stderr);
        }
        Ok(format!("{}{}", d.stdout, d.stderr))
    }

    /// What a client of our own needs to reach the API server.
    pub fn access(&self) -> Result<crate::wire::Access> {
        crate::wire::Access::new(self.holder.id(), &self.data_dir().join("pki"), 6443)
    }

    /// As [`Cluster::access`], where the certificates lie behind a mount.
    pub fn access_with(&self, pki: &Path) -> Result<crate::wire::Access> {
        crate::wire::Access::new(self.holder.id(), pki, 6443)
    }

    /// The server answers `/readyz`; its node may not be there yet.
    pub fn wait_api(&self) -> Result<()> {
        self.wait(Duration::from_secs(30), "the API server to be ready", || {
            Ok(self.kubectl_run(&["get", "--raw", "/readyz"])?.ok)
        })
    }

    /// Ends the server by a signal and waits for it. Containers stay.
    pub fn stop_server(&self, signal: i32) -> Result<()> {
        let Some(mut child) = self.server.borrow_mut().take() else { return Ok(()) };
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(child.id() as i32),
            nix::sys::signal::Signal::try_from(signal)?,
        )?;
        child.wait()?;
        Ok(())
    }

    pub fn wait_ready(&self) -> Result<()> {
        self.wait(Duration::from_secs(60), "node1 to be Ready", || {
            let d = self.kubectl_run(&[
                "get",
                "node",
                "node1",
                "-o",
                "jsonpath={.status.conditions[?(@.type=='Ready')].status}",
            ])?;
            Ok(d.ok && d.stdout == "True")
        })
    }

    pub fn skiff(&self, args: &[String]) -> Result<String> {
        let out = self.command(&self.tools.skiff).args(args).arg("--data-dir").arg(self.data_dir()).output()?;
        let d = done(out);
        if !d.ok {
            bail!("skiff {args:?} failed:\n{}{}", d.stdout, d.stderr);
        }
        Ok(d.stdout)
    }

    pub fn kubectl_run(&self, args: &[&str]) -> Result<Done> {
        let out = self.command(&self.tools.kubectl).args(args).stdin(Stdio::null()).output()?;
        Ok(done(out))
    }

    /// kubectl that must succeed; gives stdout.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        let d = self.kubectl_run(args)?;
        if !d.ok {
            bail!("kubectl {} failed:\n{}{}", args.join(" "), d.stdout, d.stderr);
        }
        Ok(d.stdout)
    }

    /// kubectl that must fail; gives stderr.
    pub fn kubectl_fails(&self, args: &[&str]) -> Result<String> {
        let d = self.kubectl_run(args)?;
        if d.ok {
            bail!("kubectl {} should have failed, but said:\n{}", args.join(" "), d.stdout);
        }
        Ok(d.stderr)
    }

    /// `kubectl apply -f -`
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.kubectl_input(&["apply", "-f", "-"], manifest)
    }

    pub fn kubectl_input(&self, args: &[&str], input: &str) -> Result<String> {
        use std::io::Write;
        let mut child = self
            .command(&self.tools.kubectl)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that has read enough may close its end.
            let _ = stdin.write_all(input.as_bytes());
        }
        let d = done(child.wait_with_output()?);
        if !d.ok {
            bail!("kubectl {} failed:\n{}{}", args.join(" "), d.stdout, d.stderr);
        }
        Ok(d.stdout)
    }

    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let mut all = args.to_vec();
        all.extend(["-o", "json"]);
        Ok(serde_json::from_str(&self.kubectl(&all)?)?)
    }

    /// Polls until `check` is true.
    pub fn wait(&self, patience: Duration, what: &str, mut check: impl FnMut() -> Result<bool>) -> Result<()> {
        let until = Instant::now() + patience;
        let mut last = String::new();
        loop {
            match check() {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(e) => last = format!(" (last: {e:#})"),
            }
            if Instant::now() > until {
                bail!("waited {}s in vain for {what}{last}", patience.as_secs());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What a reader of a failure wants to see.
    pub fn diagnosis(&self) -> String {
        let mut out = String::from("--- state of the cluster\n");
        for args in [vec!["get", "pods", "-A", "-o", "wide"], vec!["get", "events", "-A", "--sort-by=.lastTimestamp"]] {
            if let Ok(d) = self.kubectl_run(&args) {
                out.push_str(&tail(&format!("{}{}", d.stdout, d.stderr), 15));
            }
        }
        out.push_str("--- server.log\n");
        out.push_str(&tail(&std::fs::read_to_string(self.log()).unwrap_or_default(), 25));
        out
    }

    pub fn how_to_enter(&self) -> String {
        format!(
            "cluster kept; enter it with: nsenter -t {} -m -n -u env KUBECONFIG={} bash",
            self.holder.id(),
            self.kubeconfig().display()
        )
    }

    /// Removes everything.
    pub fn finish(self) {}
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.stop_server(libc::SIGTERM);
        let reset = self.skiff(&["reset".to_string(), "--yes".to_string()]);
        if let Err(e) = reset {
            eprintln!("reset: {e:#}");
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn done(out: Output) -> Done {
    Done {
        ok: out.status.success(),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    let mut out = all[all.len().saturating_sub(lines)..].join("\n");
    out.push('\n');
    out
}
