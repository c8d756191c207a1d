//! Parts of the server that fail on their own: what becomes of the others, and what the operator sees.

use crate::cluster::Cluster;
use anyhow::{Context, Result, ensure};
use std::process::Stdio;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// The cluster DNS can't listen, since its port is taken. Everything else works, `/readyz`, `/metrics` and the node's
/// events say what is wrong, and it comes up by itself once it can.
pub fn a_part_that_ends_is_started_again(c: &Cluster) -> Result<()> {
    let mut squatter = c
        .command(&c.tools.skiff)
        .args(["hello", "--listen", "0.0.0.0:10053"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("a program on the DNS's port")?;
    let result = taken(c);
    let _ = squatter.kill();
    let _ = squatter.wait();
    result?;
    c.wait(2 * PATIENCE, "the DNS to be back", || {
        let d = c.kubectl_run(&["get", "--raw", "/readyz?verbose"])?;
        Ok(d.ok && d.stdout.contains("[+]component/dns ok"))
    })?;
    let metrics = c.kubectl(&["get", "--raw", "/metrics"])?;
    ensure!(metrics.contains("skiff_component_up{component=\"dns\"} 1"), "{metrics}");
    ensure!(metrics.contains("skiff_component_restarts_total{component=\"kubelet\"} 0"), "{metrics}");
    ensure!(metrics.contains("skiff_panics_total 0"), "{metrics}");
    Ok(())
}

fn taken(c: &Cluster) -> Result<()> {
    std::thread::sleep(Duration::from_millis(300));
    c.serve(&[])?;
    c.wait_ready()?;
    c.wait(PATIENCE, "/readyz to tell of the DNS", || {
        let d = c.kubectl_run(&["get", "--raw", "/readyz?verbose"])?;
        Ok(!d.ok && d.stderr.contains("[-]component/dns failed"))
    })?;
    let metrics = c.kubectl(&["get", "--raw", "/metrics"])?;
    ensure!(metrics.contains("skiff_component_up{component=\"dns\"} 0"), "{metrics}");
    ensure!(metrics.contains("skiff_component_up{component=\"deployment-controller\"} 1"), "{metrics}");
    c.wait(PATIENCE, "an event about it", || {
        let said = c.kubectl(&["describe", "node", "node1"])?;
        Ok(said.contains("ComponentFailed") && said.contains("dns: listen for DNS on 10.42.0.1:10053"))
    })?;
    // Everything else goes on.
    c.kubectl(&["create", "deployment", "web", "--image=skiff.local/hello"])?;
    c.kubectl(&["rollout", "status", "deployment/web", "--timeout=30s"])?;
    c.kubectl(&["delete", "deployment", "web"]).map(|_| ())
}
