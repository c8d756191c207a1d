//! What the runtime is told when it opens.

use crate::image::pull::Registries;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Clone)]
pub struct RuntimeOptions {
    /// Images and containers: `<data-dir>/runtime`. Survives a reboot.
    pub root: PathBuf,
    /// Sockets, network namespaces, shared memory: `/run/skiff…`.
    pub state: PathBuf,
    pub network: Arc<dyn cri::PodNetwork>,
    /// The executable whose `shim` subcommand calls [`crate::shim::main`].
    pub shim_exe: PathBuf,
    /// Arguments before `--sandbox`: `["shim"]` for Skiff's own binary.
    pub shim_args: Vec<String>,
    pub registries: Registries,
}

impl RuntimeOptions {
    pub fn new(
        root: impl Into<PathBuf>,
        state: impl Into<PathBuf>,
        network: Arc<dyn cri::PodNetwork>,
        shim_exe: impl Into<PathBuf>,
    ) -> RuntimeOptions {
        RuntimeOptions {
            root: root.into(),
            state: state.into(),
            network,
            shim_exe: shim_exe.into(),
            shim_args: vec!["shim".to_owned()],
            registries: Registries::default(),
        }
    }
}
