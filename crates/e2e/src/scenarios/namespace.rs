//! A namespace for one scenario, with a name that no other run has.

use super::super::cluster::{Cluster, Done};
use anyhow::{Result, bail};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub struct Namespace<'c> {
    pub c: &'c Cluster,
    name: String,
    /// For threads, where the cluster itself can't go.
    kubectl: Vec<String>,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl<'c> Namespace<'c> {
    pub fn new(c: &'c Cluster, base: &str) -> Result<Namespace<'c>> {
        let name = format!("e2e-{base}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        // A failed attempt may have left it.
        c.kubectl_run(&["delete", "namespace", &name, "--ignore-not-found", "--timeout=60s"])?;
        c.kubectl(&["create", "namespace", &name])?;
        c.wait(Duration::from_secs(10), "the default service account", || {
            Ok(c.kubectl_run(&["-n", &name, "get", "serviceaccount", "default"])?.ok)
        })?;
        let command = c.command(&c.tools.kubectl);
        let mut kubectl = vec![command.get_program().to_string_lossy().into_owned()];
        kubectl.extend(command.get_args().map(|a| a.to_string_lossy().into_owned()));
        kubectl.push(format!("--kubeconfig={}", c.kubeconfig().display()));
        kubectl.push(format!("--namespace={name}"));
        Ok(Namespace { c, name, kubectl })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn kubectl_path(&self) -> String {
        self.c.tools.kubectl.display().to_string()
    }

    pub fn kubectl(&self, args: &[&str]) -> Result<Done> {
        self.c.kubectl_run(&[&["-n", self.name.as_str()], args].concat())
    }

    /// A command line that must succeed; gives stdout. Single quotes keep words together.
    pub fn must(&self, line: &str) -> Result<String> {
        let args = super::kubectl::words(line);
        let d = self.kubectl(&args.iter().map(String::as_str).collect::<Vec<_>>())?;
        if !d.ok {
            bail!("kubectl {line} failed:\n{}{}", d.stdout, d.stderr);
        }
        Ok(d.stdout)
    }

    /// A command's parts, for a thread of its own.
    pub fn line(&self, line: &str) -> Vec<String> {
        let mut all = self.kubectl.clone();
        all.extend(super::kubectl::words(line));
        all
    }

    /// Writes a file that commands in the cluster can read; gives its path.
    pub fn file(&self, name: &str, text: &str) -> Result<String> {
        let dir = self.c.dir().join(&self.name);
        std::fs::create_dir_all(&dir)?;
        let path = dir.join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    /// Ends the scenario: everything in the namespace goes, and is not waited for.
    pub fn delete(self) -> Result<()> {
        self.c.kubectl(&["delete", "namespace", &self.name, "--wait=false"]).map(|_| ())
    }
}
