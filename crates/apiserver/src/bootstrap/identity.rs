//! The Lease by which an API server says that it is there: `kube-system/apiserver-<hash>` (KEP-1965).
//!
//! Whoever wants to know how many API servers there are and where they run counts these. The name is made of the
//! host's, so that a server that starts again finds its own.

use super::run::{one, send};
use crate::server::Server;
use http::Method;
use jiff::Timestamp;
use meta::status::Result;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use stdx::Shutdown;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const IDENTITY: &str = "apiserver.kubernetes.io/identity";
const SERVER: &str = "kube-apiserver";
const DURATION_SECONDS: i64 = 3600;
/// Differs from upstream, which renews every 10 seconds what lasts for an hour: each time is a write to disk.
const RENEW_EVERY: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_secs(10);

/// `apiserver-` and a hash of the host's name and of what serves there.
pub fn lease_name(hostname: &str) -> String {
    let mut hash = Sha256::new();
    for part in [hostname, SERVER] {
        hash.update((part.len() as u16).to_be_bytes());
        hash.update(part);
    }
    format!("apiserver-{}", base32(&hash.finalize()[..16]))
}

/// RFC 4648, in lower case, without padding.
fn base32(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let (mut out, mut bits, mut held) = (String::new(), 0u32, 0u32);
    let mut digit = |value: u32| out.push(char::from(DIGITS[(value & 31) as usize]));
    for byte in bytes {
        (bits, held) = ((bits << 8) | u32::from(*byte), held + 8);
        while held >= 5 {
            held -= 5;
            digit(bits >> held);
        }
    }
    if held > 0 {
        digit(bits << (5 - held));
    }
    out
}

fn lease(hostname: &str, holder: &str, now: Timestamp) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"namespace": "kube-system", "name": lease_name(hostname),
                     "labels": {IDENTITY: SERVER, "kubernetes.io/hostname": hostname}},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": DURATION_SECONDS, "renewTime": format!("{now:.6}")},
    })
}

/// Renews until shutdown, and removes Leases of servers that are gone.
pub async fn keep(server: Arc<Server>, hostname: String, shutdown: Shutdown) {
    let holder = format!("{}_{}", lease_name(&hostname), uuid::Uuid::new_v4());
    loop {
        let now = Timestamp::now();
        let done = async {
            one(&server, lease(&hostname, &holder, now)).await?;
            remove_expired(&server, now).await
        };
        let again = match done.await {
            Ok(()) => RENEW_EVERY,
            Err(error) => {
                tracing::warn!(%error, "the API server's Lease could not be renewed; it is tried again");
                RETRY
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(again) => {}
        }
    }
}

async fn remove_expired(server: &Arc<Server>, now: Timestamp) -> Result<()> {
    let leases = send(server, Method::GET, &format!("{LEASES}?labelSelector={IDENTITY}%3D{SERVER}"), None).await?;
    for name in leases["items"].as_array().into_iter().flatten().filter_map(|l| expired(l, now)) {
        match send(server, Method::DELETE, &format!("{LEASES}/{name}"), None).await {
            Err(s) if s.code != 404 => return Err(s),
            _ => {}
        }
    }
    Ok(())
}

/// The name of a Lease that nobody renews any more.
fn expired(lease: &Value, now: Timestamp) -> Option<&str> {
    let renewed: Option<Timestamp> = lease["spec"]["renewTime"].as_str().and_then(|t| t.parse().ok());
    let lasts = lease["spec"]["leaseDurationSeconds"].as_i64().unwrap_or(0);
    let gone = renewed.is_none_or(|at| now.as_second() - at.as_second() > lasts);
    gone.then(|| lease["metadata"]["name"].as_str()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_upstreams() {
        // `printf '\0\2n1\0\16kube-apiserver' | sha256sum`, the first half of it in base 32.
        for (hostname, name) in [
            ("n1", "apiserver-2ccjftmartb4phpgou7e2uomw4"),
            ("kind-control-plane", "apiserver-c7uylvfxlbqccnk6myfkwetzze"),
        ] {
            assert_eq!(lease_name(hostname), name);
        }
        assert_eq!(base32(b"foobar"), "mzxw6ytboi", "RFC 4648");
    }

    #[test]
    fn leases_of_servers_that_are_gone_go() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        for (renewed, gone) in
            [("2026-01-01T11:59:00Z", false), ("2026-01-01T11:00:00Z", false), ("2026-01-01T10:59:59Z", true)]
        {
            let old = lease("n1", "h", renewed.parse().unwrap());
            assert_eq!(expired(&old, now).is_some(), gone, "{renewed}");
        }
        assert_eq!(lease("n1", "h", now)["spec"]["renewTime"], "2026-01-01T12:00:00.000000Z");
    }
}
