//! Where things lie and what they are called, all derived from the data directory, so that several clusters can live
//! on one machine.

use std::path::{Path, PathBuf};

pub const DATA_DIR: &str = "/var/lib/skiff";

#[derive(Clone, Debug)]
pub struct Layout {
    pub data_dir: PathBuf,
    /// Sockets and network namespaces; gone after a reboot.
    pub state_dir: PathBuf,
    /// Of links, nftables tables and cgroups: `skiff`, or `skiff-1a2b3c` for another data directory.
    pub name: String,
    pub kubeconfig: PathBuf,
}

impl Layout {
    pub fn new(data_dir: &Path) -> Layout {
        let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_path_buf());
        if data_dir == Path::new(DATA_DIR) {
            return Layout {
                state_dir: "/run/skiff".into(),
                name: "skiff".into(),
                kubeconfig: "/etc/skiff/kubeconfig.yaml".into(),
                data_dir,
            };
        }
        let name = format!("skiff-{}", short_hash(&data_dir.to_string_lossy()));
        Layout {
            state_dir: Path::new("/run").join(&name),
            kubeconfig: data_dir.join("kubeconfig.yaml"),
            name,
            data_dir,
        }
    }

    pub fn store(&self) -> PathBuf {
        self.data_dir.join("store")
    }

    pub fn pki(&self) -> PathBuf {
        self.data_dir.join("pki")
    }

    pub fn runtime(&self) -> PathBuf {
        self.data_dir.join("runtime")
    }

    pub fn network(&self) -> PathBuf {
        self.data_dir.join("network")
    }

    pub fn kubelet(&self) -> PathBuf {
        self.data_dir.join("kubelet")
    }

    pub fn logs(&self) -> PathBuf {
        self.data_dir.join("logs")
    }

    pub fn pid_file(&self) -> PathBuf {
        self.state_dir.join("skiff.pid")
    }

    /// Which node this directory is.
    pub fn node_name(&self) -> PathBuf {
        self.data_dir.join("node-name")
    }

    /// At most 15 bytes, as the kernel wants it.
    pub fn bridge(&self) -> String {
        match self.name.strip_prefix("skiff-") {
            None => "skiff0".into(),
            Some(hash) => format!("sk{hash}0"),
        }
    }

    /// nftables tables for pods' network and for Services.
    pub fn network_table(&self) -> String {
        format!("{}-net", self.name)
    }

    pub fn service_table(&self) -> String {
        format!("{}-svc", self.name)
    }
}

/// FNV-1a, six hexadecimal digits: the same name after every restart and in every version.
fn short_hash(text: &str) -> String {
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    for b in text.bytes() {
        h = (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
    }
    format!("{:06x}", h & 0xff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_differ_by_directory() {
        let (a, b) = (Layout::new(Path::new("/tmp/a")), Layout::new(Path::new("/tmp/b")));
        assert_ne!(a.bridge(), b.bridge());
        assert!(a.bridge().len() <= 15);
        assert_eq!(Layout::new(Path::new(DATA_DIR)).bridge(), "skiff0");
    }
}
