//! What is under way when the server stops, and when it is full: nobody who plays by the rules loses anything.

use crate::cluster::Cluster;
use crate::wire::Who;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A write whose body is still coming, a command in a container, a log that is followed.
pub fn open_requests_are_finished(c: &Cluster) -> Result<()> {
    c.stop_server(libc::SIGTERM)?;
    c.serve(&["--shutdown-delay-duration=3s"])?;
    c.wait_ready()?;
    c.apply(
        &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "shop/backend:v1"}]}})
        .to_string(),
    )?;
    c.kubectl(&["wait", "--for=condition=Ready", "pod/p", "--timeout=30s"])?;
    let exec = c
        .command(&c.tools.kubectl)
        .args(["exec", "p", "--", "sh", "-c", "echo begun; sleep 2; echo through"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let pid = c.server_pid().context("no server")?;
    c.access()?.inside(async |access| {
        let object = json!({"metadata": {"name": "slow"}, "data": {"a": "b"}}).to_string();
        let mut slow = access.tls(&Who::Admin, "http/1.1").await?;
        let head = format!(
            "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            object.len()
        );
        let (first, rest) = object.split_at(10);
        slow.write_all(format!("{head}{first}").as_bytes()).await?;
        slow.flush().await?;
        // Long enough for the command to have begun.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGTERM)?;
        // After the delay the server drains: nobody new is let in.
        let began = Instant::now();
        while access.tcp().await.is_ok() {
            ensure!(began.elapsed() < Duration::from_secs(10), "a draining server takes connections");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ensure!(began.elapsed() > Duration::from_millis(2500), "it didn't wait: {:?}", began.elapsed());
        slow.write_all(rest.as_bytes()).await?;
        let mut answer = [0u8; 12];
        tokio::time::timeout(Duration::from_secs(5), slow.read_exact(&mut answer)).await.context("no answer")??;
        ensure!(&answer == b"HTTP/1.1 201", "{}", String::from_utf8_lossy(&answer));
        Ok(())
    })?;
    let d = exec.wait_with_output()?;
    let out = String::from_utf8_lossy(&d.stdout).into_owned();
    ensure!(
        d.status.success() && out == "begun\nthrough\n",
        "the command: {:?} {out:?} {}",
        d.status,
        String::from_utf8_lossy(&d.stderr)
    );
    c.stop_server(libc::SIGTERM)?;
    c.serve(&["--disable-agent"])?;
    c.wait_api()?;
    ensure!(c.kubectl(&["get", "configmap", "slow", "-o", "jsonpath={.data.a}"])? == "b", "the write was lost");
    Ok(())
}

/// kubectl is told to come again, and does.
pub fn kubectl_comes_again(c: &Cluster) -> Result<()> {
    c.serve(&["--disable-agent", "--enable-priority-and-fairness=false", "--max-mutating-requests-inflight=1"])?;
    c.wait_api()?;
    // Administrators are never refused.
    c.kubectl(&["create", "rolebinding", "jane", "--clusterrole=edit", "--user=jane"])?;
    let mut kubectl = c.command(&c.tools.kubectl);
    kubectl
        .args(["--as=jane", "create", "configmap", "patient", "--from-literal=a=b"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    c.access()?.inside(async |access| {
        let mut held = access.tls(&Who::Admin, "http/1.1").await?;
        held.write_all(
            b"POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
              impersonate-user: jane\r\ncontent-length: 100\r\n\r\n",
        )
        .await?;
        held.flush().await?;
        let mut api = access.http1(&Who::Admin).await?;
        let began = Instant::now();
        let refused = loop {
            let object = json!({"metadata": {"generateName": "x-"}}).to_string();
            let headers = [("content-type", "application/json"), ("impersonate-user", "jane")];
            let r = api.send("POST", "/api/v1/namespaces/default/configmaps", &headers, object.clone()).await?;
            let admin = api.send("POST", "/api/v1/namespaces/default/configmaps", &headers[..1], object).await?;
            ensure!(admin.code == 201, "an administrator was refused: {}", admin.code);
            if r.code == 429 {
                break r;
            }
            ensure!(began.elapsed() < Duration::from_secs(10), "the limit is never reached: {}", r.code);
        };
        ensure!(refused.headers.get("retry-after").is_some_and(|v| v == "1"), "{:?}", refused.headers);
        ensure!(refused.text() == "Too many requests, please try again later.\n", "{}", refused.text());
        ensure!(api.get("/api/v1/namespaces").await?.code == 200, "reads have a limit of their own");
        let kubectl = kubectl.spawn()?;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        drop(held);
        let done = tokio::task::spawn_blocking(move || kubectl.wait_with_output()).await??;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        ensure!(began.elapsed() > Duration::from_secs(2), "it wasn't held up at all");
        Ok(())
    })?;
    c.stop_server(libc::SIGTERM)
}
