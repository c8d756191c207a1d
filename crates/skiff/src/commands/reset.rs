//! `skiff reset`: stops everything that belongs to a data directory, and removes it.

use crate::layout::{DATA_DIR, Layout};
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
    /// Keep images, so that the next start needs no import or pull.
    #[arg(long)]
    keep_images: bool,
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
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    rt.block_on(async {
        runtime::reset(&layout.runtime(), &layout.state_dir, &format!("/{}", layout.name), args.keep_images)
            .await
            .context("failed to remove containers")
    })?;
    proxy::reset(&layout.service_table()).context("failed to remove the Services' nftables table")?;
    podnet::reset(&layout.bridge(), &layout.network_table()).context("failed to remove the pod network")?;
    for dir in [layout.kubelet(), layout.logs(), layout.network(), layout.store(), layout.pki()] {
        remove(&dir)?;
    }
    if !args.keep_images {
        remove(&layout.data_dir)?;
    }
    remove(&layout.state_dir)?;
    if layout.kubeconfig.exists() {
        std::fs::remove_file(&layout.kubeconfig)
            .with_context(|| format!("failed to remove {}", layout.kubeconfig.display()))?;
    }
    println!("nothing of {} is left", layout.data_dir.display());
    Ok(())
}

fn remove(dir: &Path) -> Result<()> {
    sys::mount::unmount_below(dir).with_context(|| format!("failed to unmount below {}", dir.display()))?;
    match std::fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e).with_context(|| format!("failed to remove {}", dir.display())),
    }
}

/// Ends a server that runs on this data directory.
fn stop_server(layout: &Layout) -> Result<()> {
    let Ok(text) = std::fs::read_to_string(layout.pid_file()) else { return Ok(()) };
    let Ok(pid) = text.trim().parse::<i32>() else { return Ok(()) };
    // The number may belong to another program by now.
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    if !exe.to_string_lossy().contains("skiff") {
        return Ok(());
    }
    sys::process::signal(pid, sys::process::TERM).context("failed to stop the server")?;
    let patience = Instant::now() + Duration::from_secs(20);
    while Path::new(&format!("/proc/{pid}")).exists() {
        if Instant::now() > patience {
            sys::process::signal(pid, sys::process::KILL).context("failed to kill the server")?;
            std::thread::sleep(Duration::from_millis(200));
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
