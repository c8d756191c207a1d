//! The cluster's own certificates are renewed while the server runs.
//!
//! In: the certificates as they are, and how to make those anew that have less than a quarter of their life left. Out:
//! servers that show the new ones to new connections, clients that use them, files and kubeconfig that hold them.

use anyhow::Result;
use apiserver::pki::{Pki, ServingCert};
use apiserver::server::Server;
use std::sync::Arc;
use std::time::Duration;
use stdx::Shutdown;
use tracing::{info, warn};

/// Looked at this often even when nothing is due: clocks jump, and machines sleep.
const LOOK_EVERY: Duration = Duration::from_secs(600);
const RETRY: Duration = Duration::from_secs(30);

/// Who shows or uses a certificate.
pub struct Users {
    pub server: Arc<Server>,
    pub apiserver: Arc<ServingCert>,
    pub kubelet: Arc<ServingCert>,
}

impl Users {
    fn replace(&self, pki: &Pki) -> Result<()> {
        self.apiserver.replace(&pki.apiserver)?;
        self.kubelet.replace(&pki.kubelet_server)?;
        self.server.proxy.replace_identity(&pki.apiserver_kubelet_client);
        self.server.aggregator.replace_identity(&pki.front_proxy_client);
        Ok(())
    }
}

/// Until the next look at the clock, but no less than `least`. Times are Unix seconds.
fn wait(renew_at: i64, now: i64, least: Duration) -> Duration {
    let left = u64::try_from(renew_at.saturating_sub(now)).unwrap_or(0);
    Duration::from_secs(left).min(LOOK_EVERY).max(least)
}

/// Until shutdown. `renew` makes what is due at a time (Unix seconds), files and kubeconfig included.
pub async fn run<F>(mut renew_at: i64, renew: F, users: Users, shutdown: Shutdown)
where
    F: Fn(i64) -> Result<Pki> + Send + Sync + 'static,
{
    let renew = Arc::new(renew);
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            _ = shutdown.cancelled() => return,
            _ = tokio::time::sleep(wait(renew_at, jiff::Timestamp::now().as_second(), pause)) => {}
        }
        let now = jiff::Timestamp::now().as_second();
        if now < renew_at {
            continue;
        }
        let renew = renew.clone();
        let made = tokio::task::spawn_blocking(move || renew(now)).await.map_err(anyhow::Error::from).flatten();
        match made.and_then(|pki| users.replace(&pki).map(|()| pki)) {
            Ok(pki) => {
                renew_at = pki.renew_at();
                pause = Duration::from_secs(1);
                info!("the cluster's certificates were renewed");
            }
            Err(error) => {
                pause = RETRY;
                warn!(
                    error = format!("{error:#}"),
                    "the cluster's certificates could not be renewed; it is tried again"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_when_something_is_due_and_often_enough_for_clocks_that_jump() {
        // (due, now, least, wait)
        for (renew_at, now, least, want) in [
            (100, 90, 0, 10),
            (100, 100, 0, 0),
            (100, 5_000, 0, 0),
            (100, 5_000, 30, 30),
            (100, 95, 30, 30),
            (1_000_000, 0, 0, 600),
            (1_000_000, 0, 30, 600),
            (i64::MAX, i64::MIN, 1, 600),
            (i64::MIN, i64::MAX, 1, 1),
        ] {
            let got = wait(renew_at, now, Duration::from_secs(least));
            assert_eq!(got, Duration::from_secs(want), "{renew_at} {now} {least}");
        }
    }
}
