//! A cluster whose objects live in etcd, and an etcd that dies.

use crate::cluster::Cluster;
use anyhow::{Context, Result, ensure};
use std::process::{Child, Stdio};
use std::time::Duration;

const ETCD: &str = "/usr/bin/etcd";

/// Ends with the scenario.
pub struct Etcd(Child);

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(c: &Cluster) -> Result<Etcd> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(c.dir().join("etcd.log"))?;
    let child = c
        .command(ETCD)
        .args(["--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls", "http://127.0.0.1:2379"])
        .args(["--listen-peer-urls", "http://127.0.0.1:2380", "--data-dir"])
        .arg(c.dir().join("etcd"))
        .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("failed to start etcd")?;
    Ok(Etcd(child))
}

pub const URL: &str = "http://127.0.0.1:2379";

/// An etcd that answers; `None`, and told, where there is no etcd.
pub fn ready(c: &Cluster) -> Result<Option<Etcd>> {
    if !std::path::Path::new(ETCD).exists() {
        println!("     skipped: {ETCD} is not installed (Debian's package etcd-server)");
        return Ok(None);
    }
    let etcd = start(c)?;
    let health = format!("{URL}/health");
    c.wait(Duration::from_secs(10), "etcd", || Ok(c.run(&["curl", "-sf", &health])?.ok))?;
    Ok(Some(etcd))
}

const APP: &str = r#"
{"apiVersion":"v1","kind":"List","items":[
{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":2,"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"terminationGracePeriodSeconds":1,"containers":[{"name":"c","image":"skiff.local/hello","imagePullPolicy":"Never","ports":[{"containerPort":8080}],"readinessProbe":{"httpGet":{"path":"/","port":8080},"periodSeconds":1}}]}}}},
{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"selector":{"app":"web"},"ports":[{"port":80,"targetPort":8080}]}}]}"#;

pub fn the_cluster_lives_in_etcd(c: &Cluster) -> Result<()> {
    let Some(mut etcd) = ready(c)? else { return Ok(()) };
    let endpoint = ["--datastore-endpoint", URL];
    c.serve(&endpoint)?;
    c.wait_ready()?;
    c.apply(APP)?;
    c.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    let ip = c.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])?;
    let answers = || {
        c.wait(Duration::from_secs(20), "the Service to answer", || {
            Ok(c.run(&["curl", "-sf", "-m", "3", &format!("http://{ip}/")])?.ok)
        })
    };
    answers()?;
    c.kubectl(&["scale", "deployment/web", "--replicas=3"])?;
    c.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;

    // etcd dies: what runs goes on, writes are refused as unavailable, nothing panics.
    drop(etcd);
    answers()?;
    let said = c.kubectl_run(&["create", "configmap", "while-down", "--request-timeout=20s"])?;
    ensure!(!said.ok, "a write was acknowledged without etcd: {}", said.stdout);
    ensure!(!said.stderr.contains("InternalError") && !said.stderr.contains("panic"), "{}", said.stderr);
    etcd = start(c)?;
    c.wait(Duration::from_secs(40), "writes after etcd came back", || {
        let d = c.kubectl_run(&["create", "configmap", "after", "--request-timeout=10s"])?;
        Ok(d.ok || d.stderr.contains("already exists"))
    })?;
    // Watches go on: a controller, the scheduler and the kubelet hear of a change.
    c.kubectl(&["scale", "deployment/web", "--replicas=1"])?;
    c.wait(Duration::from_secs(40), "one pod to be left", || {
        Ok(c.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"])?.lines().count() == 1)
    })?;
    c.kubectl(&["rollout", "restart", "deployment/web"])?;
    c.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    answers()?;

    // Skiff dies: all is in etcd.
    c.stop_server(libc::SIGKILL)?;
    c.serve(&endpoint)?;
    c.wait_ready()?;
    c.kubectl(&["get", "configmap", "after"])?;
    answers()?;
    ensure!(!c.data_dir().join("store").join("FORMAT").exists(), "a store was made besides etcd");
    let log = std::fs::read_to_string(c.log())?;
    ensure!(!log.contains("panicked"), "the server panicked");
    // The server goes first, so that it can end in order.
    c.kubectl(&["delete", "deployment/web", "service/web"])?;
    c.stop_server(libc::SIGTERM)?;
    drop(etcd);
    Ok(())
}
