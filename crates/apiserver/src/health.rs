//! Whether the server lives and is ready; each check has a name, as upstream's have.

use crate::draining::Draining;
use parking_lot::RwLock;

type Verdict = Result<(), String>;

/// Checks by name, in the order in which they were first named. One that nobody has set yet fails with "not finished".
#[derive(Default)]
pub struct Health {
    checks: RwLock<Vec<Check>>,
    draining: Draining,
}

struct Check {
    name: String,
    /// Failing it doesn't mean that a restart would help.
    ready_only: bool,
    result: Verdict,
}

impl Health {
    /// `draining` fails readiness as soon as the stop is announced.
    pub fn new(draining: Draining) -> Health {
        let h = Health { draining, ..Health::default() };
        for name in ["ping", "log", "etcd"] {
            h.set_live(name, Ok(()));
        }
        h.set_ready("etcd-readiness", Ok(()));
        h
    }

    /// A check of readiness that must pass before `/readyz` does.
    pub fn expect(&self, name: &str) {
        let mut checks = self.checks.write();
        if !checks.iter().any(|c| c.name == name) {
            checks.push(Check { name: name.into(), ready_only: true, result: Err("not finished".into()) });
        }
    }

    pub fn set_ready(&self, name: &str, result: Verdict) {
        self.set(name, true, result);
    }

    pub fn set_live(&self, name: &str, result: Verdict) {
        self.set(name, false, result);
    }

    fn set(&self, name: &str, ready_only: bool, result: Verdict) {
        let mut checks = self.checks.write();
        match checks.iter_mut().find(|c| c.name == name) {
            Some(c) => c.result = result,
            None => checks.push(Check { name: name.into(), ready_only, result }),
        }
    }

    pub fn is_ready(&self) -> bool {
        self.checks("readyz").iter().all(|(_, r)| r.is_ok())
    }

    pub fn checks(&self, endpoint: &str) -> Vec<(String, Verdict)> {
        let checks = self.checks.read();
        let shown = checks.iter().filter(|c| !c.ready_only || endpoint != "livez");
        // Of the old endpoint, only `/readyz` knows whether etcd is ready.
        let shown = shown.filter(|c| c.name != "etcd-readiness" || endpoint == "readyz");
        let mut out: Vec<(String, Verdict)> = shown.map(|c| (c.name.clone(), c.result.clone())).collect();
        if endpoint == "readyz" {
            let stopping = self.draining.is_announced();
            out.push(("shutdown".into(), if stopping { Err("process is shutting down".into()) } else { Ok(()) }));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_that_is_announced_fails_readiness_alone() {
        let draining = Draining::default();
        let h = Health::new(draining.clone());
        h.expect("hook");
        assert!(!h.is_ready());
        h.set_ready("hook", Ok(()));
        assert!(h.is_ready());
        draining.announce();
        assert!(!h.is_ready() && h.checks("livez").iter().all(|(_, r)| r.is_ok()));
        let names: Vec<String> = h.checks("readyz").into_iter().map(|(n, _)| n).collect();
        assert_eq!(names, ["ping", "log", "etcd", "etcd-readiness", "hook", "shutdown"]);
    }
}
