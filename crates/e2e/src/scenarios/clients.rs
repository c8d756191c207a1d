//! Programs that people write against Kubernetes: the Python client, operators on kopf and on kube.

use super::namespace::Namespace;
use crate::cluster::Cluster;
use anyhow::{Context, Result, ensure};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const GREETINGS: &str = include_str!("../../testdata/clients/greetings.yaml");

/// Reads, writes, watches, streams and custom resources through the official Python client.
pub fn python(c: &Cluster) -> Result<()> {
    let Some(mut python) = interpreter(c) else { return Ok(()) };
    let ns = Namespace::new(c, "python")?;
    let script = ns.file("client.py", include_str!("../../testdata/clients/python_client.py"))?;
    let out = python.args([&script, ns.name(), "shop/backend:v1"]).stdin(Stdio::null()).output()?;
    ensure!(
        out.status.success(),
        "the script failed after {:?}:\n{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    ns.delete()
}

pub fn kopf_operator(c: &Cluster) -> Result<()> {
    let Some(mut python) = interpreter(c) else { return Ok(()) };
    let ns = Namespace::new(c, "kopf")?;
    let script = ns.file("operator.py", include_str!("../../testdata/clients/kopf_operator.py"))?;
    python.args(["-m", "kopf", "run", "--standalone", "--namespace", ns.name(), &script]);
    operate(ns, "kopf.example.com", python, "greet.said")
}

pub fn kube_operator(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "kube")?;
    let mut command = c.command(std::env::current_exe()?);
    command.args(["operator", "kube.example.com", ns.name()]);
    operate(ns, "kube.example.com", command, "said")
}

/// `kubectl proxy` on a port that it chooses and on a unix socket, both asked with curl.
pub fn kubectl_proxy(c: &Cluster) -> Result<()> {
    let socket = c.dir().join("proxy.sock");
    // An earlier one's, which nobody listens at any more.
    let _ = std::fs::remove_file(&socket);
    let log = c.dir().join("proxy.log");
    let start = |args: &[&str]| -> Result<Running> {
        let file = std::fs::File::create(&log)?;
        let mut command = c.command(&c.tools.kubectl);
        command.arg("proxy").args(args).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Ok(Running(command.spawn()?))
    };
    let said = || std::fs::read_to_string(&log).unwrap_or_default();

    let port = start(&["--port=0", "--disable-filter=true"])?;
    c.wait(PATIENCE, "kubectl proxy to listen", || Ok(said().contains("Starting to serve on 127.0.0.1:")))?;
    let address = said().trim().rsplit(' ').next().unwrap_or_default().to_string();
    let answer = c.must(&["curl", "-sS", &format!("http://{address}/api/")])?;
    ensure!(answer.contains("\"versions\"") && answer.contains("\"v1\""), "by port: {answer}");
    drop(port);

    let socket = socket.display().to_string();
    let _by_socket = start(&[&format!("--unix-socket={socket}")])?;
    c.wait(PATIENCE, "the socket", || Ok(std::path::Path::new(&socket).exists()))?;
    let answer = c.must(&["curl", "-sS", "--unix-socket", &socket, "http://localhost/api/"])?;
    ensure!(answer.contains("\"versions\"") && answer.contains("\"v1\""), "by socket: {answer}");
    Ok(())
}

/// Starts an operator and sees it create, follow changes, take its status, heal and clean up.
fn operate(ns: Namespace<'_>, group: &str, mut operator: Command, said: &str) -> Result<()> {
    let c = ns.c;
    c.apply(&GREETINGS.replace("GROUP", group))?;
    c.kubectl(&["wait", "--for=condition=Established", &format!("crd/greetings.{group}"), "--timeout=20s"])?;
    let log = c.dir().join(format!("{}.log", ns.name()));
    let file = std::fs::File::create(&log)?;
    let mut running =
        Running(operator.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn().context("the operator")?);
    let worked = watch_it_work(&ns, group, said);
    running.end();
    worked.with_context(|| format!("the operator said:\n{}", std::fs::read_to_string(&log).unwrap_or_default()))?;
    c.kubectl(&["delete", "crd", &format!("greetings.{group}"), "--timeout=30s"])?;
    ns.delete()
}

fn watch_it_work(ns: &Namespace<'_>, group: &str, said: &str) -> Result<()> {
    let c = ns.c;
    let greeting = |who: &str| {
        format!(
            "{{apiVersion: {group}/v1, kind: Greeting, metadata: {{name: one, namespace: {}}}, spec: {{who: {who}}}}}",
            ns.name()
        )
    };
    let text = || ns.kubectl(&["get", "configmap", "greeting-one", "-o", "jsonpath={.data.text}"]).map(|d| d.stdout);
    ensure!(c.apply(&greeting("''")).is_err(), "an empty name was taken");
    c.apply(&greeting("world"))?;
    c.wait(PATIENCE, "the operator's ConfigMap", || Ok(text()? == "hello world"))?;
    let path = format!("jsonpath={{.status.{said}}}");
    c.wait(PATIENCE, "the operator's status", || {
        Ok(ns.must(&format!("get greetings.{group} one -o {path}"))?.trim() == "hello world")
    })?;
    c.apply(&greeting("moon"))?;
    c.wait(PATIENCE, "the operator to follow a change", || Ok(text()? == "hello moon"))?;
    ns.must(&format!("delete greetings.{group} one --timeout=60s"))?;
    ns.must("get configmap farewell-one")?;
    c.wait(PATIENCE, "the owned ConfigMap to be collected", || {
        Ok(!ns.kubectl(&["get", "configmap", "greeting-one"])?.ok)
    })
}

/// Python in the cluster's namespaces, with the packages that `tools/setup tests` has installed.
fn interpreter(c: &Cluster) -> Option<Command> {
    let Some(packages) = &c.tools.python else {
        println!("     (no --python was given)");
        return None;
    };
    let mut command = c.command("python3");
    command.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1");
    Some(command)
}

/// A program that ends with its scenario.
struct Running(Child);

impl Running {
    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
