//! `skiff kubeconfig`: prints the administrator's kubeconfig.

use crate::layout::{DATA_DIR, Layout};
use anyhow::{Context, Result};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    #[arg(long, short = 'd', default_value = DATA_DIR)]
    data_dir: PathBuf,
}

pub fn main(args: Args) -> Result<()> {
    let path = Layout::new(&args.data_dir).data_dir.join("pki").join("admin.kubeconfig");
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("failed to read {}; has `skiff server` been started on this data directory?", path.display())
    })?;
    print!("{text}");
    Ok(())
}
