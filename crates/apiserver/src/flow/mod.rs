//! Whether there is room for a request: API priority and fairness, or plain limits on requests in flight.
//!
//! Streams hold no seat; a watch holds one until its first events are gathered.

pub mod borrowing;
pub mod config;
pub mod dump;
pub mod estimate;
pub mod fairness;
pub mod keeper;
pub mod level;
pub mod metrics;
pub mod queue_set;
pub mod sharding;

use crate::authn::{MASTERS, User};
use crate::request_info::RequestInfo;
use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub struct Options {
    /// `--enable-priority-and-fairness`
    pub fair: bool,
    /// `--max-requests-inflight`; 0 is without limit.
    pub reading: usize,
    /// `--max-mutating-requests-inflight`; 0 is without limit.
    pub mutating: usize,
    /// `--request-timeout`; a quarter of it may be spent waiting.
    pub request_timeout: Duration,
}

pub enum Flow {
    Fair(Box<fairness::Fairness>),
    InFlight(InFlight),
}

pub struct InFlight {
    reading: Option<Arc<Semaphore>>,
    mutating: Option<Arc<Semaphore>>,
}

/// Held while a request is served; dropping it makes room.
pub enum Seat {
    None,
    Fair(level::Seat),
    InFlight(OwnedSemaphorePermit),
}

/// Of what decided about a request; told to the client.
#[derive(Clone, Debug)]
pub struct Uids {
    pub schema: HeaderValue,
    pub level: HeaderValue,
}

impl Default for Uids {
    fn default() -> Uids {
        let none = HeaderValue::from_static("");
        Uids { schema: none.clone(), level: none }
    }
}

impl Uids {
    pub fn tell(&self, headers: &mut HeaderMap) {
        const SCHEMA: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
        const LEVEL: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");
        headers.insert(SCHEMA, self.schema.clone());
        headers.insert(LEVEL, self.level.clone());
    }
}

/// No room: the client should come again.
pub struct Refused;

impl Flow {
    pub fn new(options: &Options, store: Arc<dyn Store>) -> Flow {
        // Without any limit there is nothing to share.
        let total = options.reading.saturating_add(options.mutating).min(1 << 20) as u32;
        if options.fair && total > 0 {
            return Flow::Fair(Box::new(fairness::Fairness::new(total, options.request_timeout / 4, store)));
        }
        let pool = |n: usize| (n > 0).then(|| Arc::new(Semaphore::new(n.min(Semaphore::MAX_PERMITS))));
        Flow::InFlight(InFlight { reading: pool(options.reading), mutating: pool(options.mutating) })
    }

    /// `stream`: exec, logs and the like, which last for as long as they please.
    pub async fn enter(
        &self,
        info: &RequestInfo,
        query: &str,
        user: &User,
        stream: bool,
    ) -> (Option<Uids>, Result<Seat, Refused>) {
        if stream {
            return (None, Ok(Seat::None));
        }
        match self {
            Flow::Fair(fairness) => {
                let (uids, got) = fairness.enter(info, query, user).await;
                (Some(uids), got.map(Seat::Fair).map_err(|_| Refused))
            }
            Flow::InFlight(limits) => (None, limits.enter(info, user)),
        }
    }

    /// Counts a watch while it is open.
    pub fn watching(&self, info: &RequestInfo) -> Option<estimate::Watching> {
        match self {
            Flow::Fair(fairness) => fairness.watches().opened(info),
            Flow::InFlight(_) => None,
        }
    }

    pub fn fairness(&self) -> Option<&fairness::Fairness> {
        match self {
            Flow::Fair(f) => Some(f),
            Flow::InFlight(_) => None,
        }
    }
}

impl InFlight {
    fn enter(&self, info: &RequestInfo, user: &User) -> Result<Seat, Refused> {
        let pool = match info.verb.as_str() {
            // Watches last, and are bounded elsewhere.
            "watch" => return Ok(Seat::None),
            "get" | "list" => &self.reading,
            _ => &self.mutating,
        };
        let Some(pool) = pool else { return Ok(Seat::None) };
        match pool.clone().try_acquire_owned() {
            Ok(permit) => Ok(Seat::InFlight(permit)),
            // Administrators must be able to look at what is going on.
            Err(_) if user.in_group(MASTERS) => Ok(Seat::None),
            Err(_) => Err(Refused),
        }
    }
}

/// 429, as upstream's filter writes it: not a `Status`.
pub fn too_many_requests() -> Response<Body> {
    let mut r = Response::new(Body::from("Too many requests, please try again later.\n"));
    *r.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    let headers = r.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    r
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    #[tokio::test]
    async fn plain_limits_count_reads_and_writes_apart_and_spare_administrators() {
        let options = Options { fair: false, reading: 1, mutating: 0, request_timeout: Duration::from_secs(60) };
        let flow = Flow::new(&options, store::memory::open());
        let get = RequestInfo::parse(&Method::GET, "/api/v1/namespaces/d/pods/p", "");
        let put = RequestInfo::parse(&Method::PUT, "/api/v1/namespaces/d/pods/p", "");
        let watch = RequestInfo::parse(&Method::GET, "/api/v1/pods", "watch=1");
        let (jane, admin) = (User::new("jane", &[]), User::new("root", &[MASTERS]));
        let first = flow.enter(&get, "", &jane, false).await.1;
        assert!(first.is_ok());
        assert!(flow.enter(&get, "", &jane, false).await.1.is_err());
        for (info, user) in [(&get, &admin), (&put, &jane), (&watch, &jane)] {
            assert!(flow.enter(info, "", user, false).await.1.is_ok());
        }
        drop(first);
        assert!(flow.enter(&get, "", &jane, false).await.1.is_ok());
    }
}
