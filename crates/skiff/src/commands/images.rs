//! `skiff images`: the node's images, whether or not a server is running.

use crate::layout::{DATA_DIR, Layout};
use anyhow::{Context, Result};
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
    Import { archives: Vec<PathBuf> },
    /// List images.
    #[command(alias = "ls")]
    List,
    /// Remove images by name or id.
    Rm { images: Vec<String> },
}

pub fn main(args: Args) -> Result<()> {
    let layout = Layout::new(&args.data_dir);
    let store = runtime::image::Store::open(&layout.runtime())
        .with_context(|| format!("failed to open the images in {}", layout.runtime().display()))?;
    match args.command {
        Command::Import { archives } => {
            for path in archives {
                let records = runtime::image::archive::import(&store, &path)
                    .with_context(|| format!("failed to import {}", path.display()))?;
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
            for image in images {
                store.remove(&image).with_context(|| format!("failed to remove image {image}"))?;
                println!("removed {image}");
            }
        }
    }
    Ok(())
}
