//! `skiff images`: the node's images, whether or not a server is running.

use crate::layout::{DATA_DIR, Layout};
use anyhow::{Context, Result, anyhow, bail};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[arg(long, short = 'd', default_value = DATA_DIR, global = true)]
    data_dir: PathBuf,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Import OCI or docker archives (plain or compressed) or OCI layout directories.
    Import {
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// List images.
    #[command(alias = "ls")]
    List,
    /// Remove images by name or id.
    Rm {
        #[arg(required = true)]
        images: Vec<String>,
    },
}

pub fn main(args: Args) -> Result<()> {
    let layout = Layout::new(&args.data_dir);
    // Looking leaves nothing behind where there is no cluster.
    if !layout.runtime().exists() && !matches!(args.command, Command::Import { .. }) {
        bail!("there are no images in {}", layout.runtime().display());
    }
    let store = runtime::image::Store::open(&layout.runtime())
        .with_context(|| format!("failed to open the images in {}", layout.runtime().display()))?;
    match args.command {
        Command::Import { archives } => {
            for path in archives {
                let records = runtime::image::archive::import(&store, &path)
                    // Its text has the cause already.
                    .map_err(|e| anyhow!("failed to import {}: {e}", path.display()))?;
                for r in records {
                    let names: Vec<&str> = r.tags.iter().map(String::as_str).collect();
                    println!("imported {}", if names.is_empty() { r.id.clone() } else { names.join(" ") });
                }
            }
        }
        Command::List => {
            println!("{:<60} {:<14} {:>10}", "IMAGE", "ID", "SIZE");
            for image in store.list()? {
                let id = image.id.trim_start_matches("sha256:").chars().take(12).collect::<String>();
                let size = format!("{:.1}MB", image.size_bytes as f64 / 1e6);
                let names = if image.tags.is_empty() { &image.digests } else { &image.tags };
                for name in names {
                    println!("{name:<60} {id:<14} {size:>10}");
                }
            }
        }
        Command::Rm { images } => {
            let mut failed = 0;
            for image in &images {
                match remove(&store, image) {
                    Ok(()) => println!("removed {image}"),
                    Err(e) => {
                        eprintln!("failed to remove image {image}: {e:#}");
                        failed += 1;
                    }
                }
            }
            if failed > 0 {
                bail!("{failed} of {} images were not removed", images.len());
            }
        }
    }
    Ok(())
}

/// For people, to whom a name that isn't there is a mistake; the kubelet takes it for done.
fn remove(store: &runtime::image::Store, image: &str) -> Result<()> {
    match store.find(image)? {
        None => bail!("there is no such image; see \"skiff images list\""),
        Some(found) if found.pinned => bail!("it is part of Skiff"),
        Some(_) => Ok(store.remove(image)?),
    }
}
