//! Whether the server lives and is ready; each check has a name, as upstream's have.

use parking_lot::RwLock;
use std::collections::BTreeMap;

/// Checks by name. A check that nobody has set yet fails with "not finished".
#[derive(Default)]
pub struct Health {
    live: RwLock<BTreeMap<String, Result<(), String>>>,
    ready: RwLock<BTreeMap<String, Result<(), String>>>,
}

impl Health {
    pub fn new() -> Health {
        let h = Health::default();
        h.set_live("ping", Ok(()));
        h
    }

    /// A check of readiness that must pass before `/readyz` does.
    pub fn expect(&self, name: &str) {
        self.ready.write().entry(name.to_string()).or_insert_with(|| Err("not finished".into()));
    }

    pub fn set_ready(&self, name: &str, result: Result<(), String>) {
        self.ready.write().insert(name.to_string(), result);
    }

    pub fn set_live(&self, name: &str, result: Result<(), String>) {
        self.live.write().insert(name.to_string(), result);
    }

    pub fn is_ready(&self) -> bool {
        self.checks("readyz").iter().all(|(_, r)| r.is_ok())
    }

    pub fn checks(&self, endpoint: &str) -> Vec<(String, Result<(), String>)> {
        let mut out: Vec<(String, Result<(), String>)> =
            self.live.read().iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        if endpoint != "livez" {
            out.extend(self.ready.read().iter().map(|(k, v)| (k.clone(), v.clone())));
        }
        out
    }
}
