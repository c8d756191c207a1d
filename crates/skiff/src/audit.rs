//! Flags of audit, and the backends that they ask for. Names and defaults are kube-apiserver's.

use anyhow::{Context, Result, anyhow, bail};
use apiserver::audit::{Audit, Policy, Sink, batch, log, webhook};
use apiserver::outbound;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use stdx::Shutdown;
use tokio::task::JoinHandle;

#[derive(Clone, Debug, clap::Args)]
pub struct AuditArgs {
    /// What is recorded (audit.k8s.io/v1 Policy). Nothing without it.
    #[arg(long, value_name = "FILE")]
    pub audit_policy_file: Option<PathBuf>,
    /// Where events are written; - is standard output.
    #[arg(long, value_name = "FILE")]
    pub audit_log_path: Option<PathBuf>,
    /// Days that rotated files are kept; 0 keeps them.
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    pub audit_log_maxage: u64,
    /// Rotated files that are kept; 0 keeps all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub audit_log_maxbackup: usize,
    /// Megabytes at which the file is rotated; 0 is 100.
    #[arg(long, value_name = "MB", default_value_t = 0)]
    pub audit_log_maxsize: u64,
    /// Rotated files are compressed.
    #[arg(long)]
    pub audit_log_compress: bool,
    #[arg(long, value_name = "FORMAT", default_value = "json", value_parser = ["json", "legacy"])]
    pub audit_log_format: String,
    #[arg(long, value_name = "MODE", default_value = "blocking", value_parser = ["batch", "blocking", "blocking-strict"])]
    pub audit_log_mode: String,
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub audit_log_batch_buffer_size: usize,
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub audit_log_batch_max_size: usize,
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = crate::config::duration)]
    pub audit_log_batch_max_wait: Duration,
    /// Kubeconfig of a webhook that gets events.
    #[arg(long, value_name = "FILE")]
    pub audit_webhook_config_file: Option<PathBuf>,
    #[arg(long, value_name = "MODE", default_value = "batch", value_parser = ["batch", "blocking", "blocking-strict"])]
    pub audit_webhook_mode: String,
    /// Pause before the second try.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = crate::config::duration)]
    pub audit_webhook_initial_backoff: Duration,
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub audit_webhook_batch_buffer_size: usize,
    #[arg(long, value_name = "N", default_value_t = 400)]
    pub audit_webhook_batch_max_size: usize,
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = crate::config::duration)]
    pub audit_webhook_batch_max_wait: Duration,
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub audit_webhook_batch_throttle_enable: bool,
    /// Batches a second.
    #[arg(long, value_name = "QPS", default_value_t = 10.0)]
    pub audit_webhook_batch_throttle_qps: f64,
    #[arg(long, value_name = "N", default_value_t = 15)]
    pub audit_webhook_batch_throttle_burst: u32,
}

impl AuditArgs {
    pub fn check(&self) -> Result<()> {
        let sinks = self.audit_log_path.is_some() || self.audit_webhook_config_file.is_some();
        if sinks && self.audit_policy_file.is_none() {
            bail!(
                "--audit-log-path and --audit-webhook-config-file need --audit-policy-file, which says what to record"
            );
        }
        if self.audit_webhook_batch_throttle_enable && self.audit_webhook_batch_throttle_qps <= 0.0 {
            bail!("--audit-webhook-batch-throttle-qps must be positive");
        }
        for (flag, n) in [
            ("--audit-log-batch-max-size", self.audit_log_batch_max_size),
            ("--audit-log-batch-buffer-size", self.audit_log_batch_buffer_size),
            ("--audit-webhook-batch-max-size", self.audit_webhook_batch_max_size),
            ("--audit-webhook-batch-buffer-size", self.audit_webhook_batch_buffer_size),
        ] {
            if n == 0 {
                bail!("{flag} must be positive");
            }
        }
        Ok(())
    }

    /// The tasks end, with everything sent, when `shutdown` is cancelled.
    pub fn open(&self, client: &outbound::Client, shutdown: &Shutdown) -> Result<(Audit, Vec<JoinHandle<()>>)> {
        let Some(path) = &self.audit_policy_file else { return Ok((Audit::default(), Vec::new())) };
        let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
        let policy = Policy::parse(&text)
            .map_err(|e| anyhow!("loading audit policy file: {e}: from file {}", path.display()))?;
        let mut sinks: Vec<Arc<dyn Sink>> = Vec::new();
        let mut tasks = Vec::new();
        let mut batched = |delivery, options, legacy| {
            let (sink, task) = batch::start(delivery, options, legacy, shutdown.clone());
            tasks.push(task);
            sink
        };
        if let Some(path) = &self.audit_log_path {
            let legacy = self.audit_log_format == "legacy";
            let file = log::Log::open(log::Options {
                path: path.clone(),
                max_age: self.audit_log_maxage,
                max_backup: self.audit_log_maxbackup,
                max_size: self.audit_log_maxsize,
                compress: self.audit_log_compress,
                format: if legacy { log::Format::Legacy } else { log::Format::Json },
                strict: self.audit_log_mode == "blocking-strict",
            })
            .with_context(|| format!("failed to open --audit-log-path={}", path.display()))?;
            sinks.push(match self.audit_log_mode.as_str() {
                "batch" => batched(
                    Arc::new(file),
                    batch::Options {
                        buffer_size: self.audit_log_batch_buffer_size,
                        max_size: self.audit_log_batch_max_size,
                        max_wait: self.audit_log_batch_max_wait,
                        throttle: None,
                    },
                    legacy,
                ),
                _ => Arc::new(file),
            });
        }
        if let Some(path) = &self.audit_webhook_config_file {
            let target = outbound::Target::from_kubeconfig(path)
                .with_context(|| format!("--audit-webhook-config-file={}", path.display()))?;
            let hook = Arc::new(webhook::Webhook::new(client.clone(), target, self.audit_webhook_initial_backoff));
            sinks.push(match self.audit_webhook_mode.as_str() {
                "batch" => batched(
                    hook,
                    batch::Options {
                        buffer_size: self.audit_webhook_batch_buffer_size,
                        max_size: self.audit_webhook_batch_max_size,
                        max_wait: self.audit_webhook_batch_max_wait,
                        throttle: self.audit_webhook_batch_throttle_enable.then_some((
                            self.audit_webhook_batch_throttle_qps,
                            self.audit_webhook_batch_throttle_burst,
                        )),
                    },
                    false,
                ),
                mode => Arc::new(webhook::Blocking { webhook: hook, strict: mode == "blocking-strict" }),
            });
        }
        Ok((Audit::new(policy, sinks), tasks))
    }
}
