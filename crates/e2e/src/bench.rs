//! `e2e --bench`: the figures of a whole node, printed beside the design's goals. Judges nothing: the machine is shared.

use crate::cluster::{Cluster, Tools};
use crate::scenarios::shop;
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;

pub fn run(tools: &Tools) -> Result<()> {
    println!("{:<58} {:>12} {:>16}", "figure", "measured", "goal");
    let size = std::fs::metadata(&tools.skiff)?.len() as f64 / 1e6;
    row("binary", format!("{size:.1} MB"), "< 40 MB");

    let c = Cluster::start(tools)?;
    row("empty directory → API ready", after(&c, "API server is ready", 0)?, "0.3 s");
    row("empty directory → node Ready", after(&c, "node is Ready", 0)?, "< 1 s");
    for (what, signal) in [("SIGTERM", libc::SIGTERM), ("kill -9", libc::SIGKILL)] {
        let before = log(&c)?.matches("node is Ready").count();
        c.stop_server(signal)?;
        c.serve(&[])?;
        c.wait(Duration::from_secs(30), "the node after a restart", || {
            Ok(log(&c)?.matches("node is Ready").count() > before)
        })?;
        row(&format!("restart after {what} → node Ready"), after(&c, "node is Ready", before)?, "");
    }
    shop::deployed(&c)?;

    // Let start-up work, probes' first rounds and page caches settle.
    std::thread::sleep(Duration::from_secs(15));
    let pids = pids(&c)?;
    let server = c.server_pid().context("no server")?;
    let (cpu_all, cpu_server) = (cpu(&pids), cpu(&[server]));
    let written = written(server);
    std::thread::sleep(Duration::from_secs(60));
    let idle = |before: f64, now: f64| format!("{:.2} %", (now - before) / 60.0 * 100.0);
    row("idle CPU with the shop, 60 s: server", idle(cpu_server, cpu(&[server])), "< 0.5 %");
    row("idle CPU with the shop, 60 s: server and shims", idle(cpu_all, cpu(&pids)), "< 0.5 %");
    row("written to disk in those 60 s", format!("{} KiB", (self::written(server) - written) / 1024), "");
    row("memory (PSS) with the shop: server", format!("{:.1} MiB", pss(&[server])), "< 100 MiB");
    row(
        &format!("memory (PSS) with the shop: server and {} shims", pids.len() - 1),
        format!("{:.1} MiB", pss(&pids)),
        "< 100 MiB",
    );

    load(&c, server, &[])?;
    c.finish();
    // A cluster of its own, so that memory per object isn't blurred by what the first load has left.
    let c = Cluster::start(tools)?;
    let server = c.server_pid().context("no server")?;
    load(&c, server, &["--objects=100000", "--seconds=1", "--watchers=0", "--pods=0"])
}

fn load(c: &Cluster, server: u32, more: &[&str]) -> Result<()> {
    println!();
    let out = c
        .command(&c.tools.skiff)
        .args(["bench", "--pid", &server.to_string(), "--kubeconfig"])
        .arg(c.kubeconfig())
        .args(more)
        .stdout(std::process::Stdio::inherit())
        .stderr(std::process::Stdio::inherit())
        .status()?;
    anyhow::ensure!(out.success(), "skiff bench failed");
    row("memory (PSS) after the load: server", format!("{:.1} MiB", pss(&[server])), "");
    Ok(())
}

fn row(what: &str, measured: String, goal: &str) {
    println!("{what:<58} {measured:>12} {goal:>16}");
}

fn log(c: &Cluster) -> Result<String> {
    Ok(std::fs::read_to_string(c.log())?)
}

/// `after_ms=` of the n-th log line with this text.
fn after(c: &Cluster, text: &str, n: usize) -> Result<String> {
    let log = log(c)?;
    let line =
        log.lines().filter(|l| l.contains(text)).nth(n).with_context(|| format!("no line {text:?} in the log"))?;
    let plain: String = strip(line);
    let ms = plain.rsplit("after_ms=").next().unwrap_or("?").split(' ').next().unwrap_or("?").to_string();
    Ok(format!("{ms} ms"))
}

/// Without terminal colours.
fn strip(line: &str) -> String {
    let mut out = String::new();
    let mut chars = line.chars();
    while let Some(ch) = chars.next() {
        if ch == '\u{1b}' {
            chars.by_ref().take_while(|c| *c != 'm').for_each(drop);
        } else {
            out.push(ch);
        }
    }
    out
}

/// The server and its shims.
fn pids(c: &Cluster) -> Result<Vec<u32>> {
    let mut out: Vec<u32> = c.server_pid().into_iter().collect();
    let shim = format!("{}\0shim\0", c.tools.skiff.display());
    for e in std::fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = e.file_name().to_string_lossy().parse::<u32>() else { continue };
        let command = std::fs::read_to_string(e.path().join("cmdline")).unwrap_or_default();
        if command.starts_with(&shim) {
            out.push(pid);
        }
    }
    Ok(out)
}

/// Seconds of CPU that processes have used.
fn cpu(pids: &[u32]) -> f64 {
    let ticks: u64 = pids
        .iter()
        .filter_map(|p| {
            let stat = std::fs::read_to_string(format!("/proc/{p}/stat")).ok()?;
            let rest = stat.rsplit(')').next()?.to_string();
            let f: Vec<&str> = rest.split_whitespace().collect();
            Some(f.get(11)?.parse::<u64>().ok()? + f.get(12)?.parse::<u64>().ok()?)
        })
        .sum();
    ticks as f64 / 100.0
}

fn written(pid: u32) -> u64 {
    std::fs::read_to_string(format!("/proc/{pid}/io"))
        .ok()
        .and_then(|t| t.lines().find_map(|l| l.strip_prefix("write_bytes: ")?.parse().ok()))
        .unwrap_or(0)
}

/// Proportional set size, MiB.
fn pss(pids: &[u32]) -> f64 {
    let kib: u64 = pids
        .iter()
        .filter_map(|p| {
            let text = std::fs::read_to_string(Path::new("/proc").join(p.to_string()).join("smaps_rollup")).ok()?;
            text.lines().find_map(|l| l.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        })
        .sum();
    kib as f64 / 1024.0
}
