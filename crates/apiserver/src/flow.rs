//! How many requests are served at once (`--max-requests-inflight`, `--max-mutating-requests-inflight`).
//!
//! Watches and streams hold no seat. The control plane's own and the administrators' requests always find one.

use crate::authn::User;
use crate::request_info::RequestInfo;
use meta::status::{Result, Status};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub struct Flow {
    reading: Arc<Semaphore>,
    mutating: Arc<Semaphore>,
}

/// Held while a request is served.
pub struct Seat(#[expect(dead_code, reason = "dropping it frees the seat")] Option<OwnedSemaphorePermit>);

impl Flow {
    pub fn new(reading: usize, mutating: usize) -> Flow {
        Flow { reading: Arc::new(Semaphore::new(reading)), mutating: Arc::new(Semaphore::new(mutating)) }
    }

    pub fn enter(&self, info: &RequestInfo, user: &User, long_running: bool) -> Result<Seat> {
        if long_running || user.in_group("system:masters") {
            return Ok(Seat(None));
        }
        let pool = match info.verb.as_str() {
            "get" | "list" | "head" | "options" => &self.reading,
            _ => &self.mutating,
        };
        match pool.clone().try_acquire_owned() {
            Ok(p) => Ok(Seat(Some(p))),
            Err(_) => Err(Status::too_many_requests("Too many requests, please try again later.", 1)),
        }
    }
}
