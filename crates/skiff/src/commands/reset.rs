//! `skiff reset`: stops everything that belongs to a data directory, and removes it.

use crate::layout::{DATA_DIR, Layout};
use crate::pid_file;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub struct Args {
    #[arg(long, short = 'd', default_value = DATA_DIR)]
    data_dir: PathBuf,
    /// Don't ask.
    #[arg(long, short = 'y')]
    yes: bool,
}

pub fn main(args: Args) -> Result<()> {
    let layout = Layout::new(&args.data_dir);
    if layout.data_dir.parent().is_none() {
        bail!("refusing to reset the root directory");
    }
    if !args.yes {
        print!(
            "This stops all pods of the cluster in {} and deletes all its data. Go on? [y/N] ",
            layout.data_dir.display()
        );
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            bail!("nothing was changed");
        }
    }
    stop_server(&layout)?;
    runtime::reset(&layout.runtime(), &layout.state_dir).context("failed to remove containers")?;
    remove_cgroups(&layout).context("failed to remove control groups")?;
    proxy::reset(&layout.service_table()).context("failed to remove the Services' nftables table")?;
    podnet::Bridge::reset(&network(&layout)?).context("failed to remove the pod network")?;
    remove(&layout.data_dir)?;
    remove(&layout.state_dir)?;
    if layout.kubeconfig.exists() {
        std::fs::remove_file(&layout.kubeconfig)
            .with_context(|| format!("failed to remove {}", layout.kubeconfig.display()))?;
        // Its directory was made for it, unless somebody keeps a configuration there.
        let _ = layout.kubeconfig.parent().map(std::fs::remove_dir);
    }
    println!("nothing of {} is left", layout.data_dir.display());
    Ok(())
}

/// Pods' groups, which the kubelet made.
fn remove_cgroups(layout: &Layout) -> Result<()> {
    let manager = sys::cgroup::Manager::detect(&layout.name)?;
    let root = format!("/{}", layout.name);
    manager.kill(&root, Duration::from_secs(10))?;
    manager.remove(&root)?;
    Ok(())
}

/// The network by its names; ranges don't matter for removing it.
fn network(layout: &Layout) -> Result<podnet::BridgeOptions> {
    Ok(podnet::BridgeOptions {
        bridge: layout.bridge(),
        pod_cidrs: vec!["10.42.0.0/24".parse()?],
        cluster_cidrs: vec!["10.42.0.0/16".parse()?],
        service_cidrs: vec!["10.43.0.0/16".parse()?],
        mtu: None,
        state_dir: layout.network(),
        table: layout.network_table(),
    })
}

fn remove(dir: &Path) -> Result<()> {
    sys::mount::unmount_below(dir).with_context(|| format!("failed to unmount below {}", dir.display()))?;
    match std::fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        // A file system that its user has mounted there: emptied, and otherwise not ours.
        Err(e) if e.raw_os_error() == Some(libc::EBUSY) && is_empty(dir) => Ok(()),
        Err(e) => Err(e).with_context(|| format!("failed to remove {}", dir.display())),
    }
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

/// Ends a server that runs on this data directory.
fn stop_server(layout: &Layout) -> Result<()> {
    let Some(pid) = pid_file::holder(&layout.pid_file())? else { return Ok(()) };
    sys::process::signal(pid, libc::SIGTERM).context("failed to stop the server")?;
    let patience = Instant::now() + Duration::from_secs(20);
    while runs(pid) {
        if Instant::now() > patience {
            sys::process::signal(pid, libc::SIGKILL).context("failed to kill the server")?;
            std::thread::sleep(Duration::from_millis(200));
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A process that has ended may wait for its parent to read that: it doesn't run any more.
fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state comes behind the name, which may hold anything but ends with the last parenthesis.
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}
