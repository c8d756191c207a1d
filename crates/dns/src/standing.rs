//! What is known of upstream resolvers: who answers, who doesn't, and so how long a question may wait. Pure: time comes in.
//!
//! A resolver that answers gets time for names that take long. One of which nothing is known gets little, and one that
//! just failed none: names outside of the cluster then fail at once rather than to hold a program up for seconds. A
//! question a second goes to dead resolvers all the same, so that they are noticed when they are back.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long an answer speaks for a resolver.
const ALIVE: Duration = Duration::from_secs(30);
/// How long a failure speaks against it.
const DEAD: Duration = Duration::from_secs(10);
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Stub resolvers give up after five seconds, and ask again.
const PATIENCE_ALIVE: Duration = Duration::from_millis(2500);
const PATIENCE_UNKNOWN: Duration = Duration::from_millis(800);

#[derive(Clone, Copy, Default)]
struct Record {
    answered: Option<Instant>,
    failed: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Alive,
    Unknown,
    Dead,
}

impl Record {
    fn standing(&self, now: Instant) -> Standing {
        let within = |t: Option<Instant>, d: Duration| t.filter(|t| now.saturating_duration_since(*t) < d);
        match (within(self.answered, ALIVE), within(self.failed, DEAD)) {
            (Some(answered), Some(failed)) if failed > answered => Standing::Dead,
            (Some(_), _) => Standing::Alive,
            (None, Some(_)) => Standing::Dead,
            (None, None) => Standing::Unknown,
        }
    }
}

#[derive(Default)]
pub(crate) struct Standings {
    records: HashMap<SocketAddr, Record>,
    probed: Option<Instant>,
}

impl Standings {
    pub(crate) fn answered(&mut self, server: SocketAddr, now: Instant) {
        self.records.entry(server).or_default().answered = Some(now);
    }

    pub(crate) fn failed(&mut self, server: SocketAddr, now: Instant) {
        self.records.entry(server).or_default().failed = Some(now);
    }

    /// A question that began at `since` got no answer in time: that speaks against a server only if it has answered
    /// nobody else meanwhile. A name that its own servers don't answer is none of its faults.
    pub(crate) fn silent(&mut self, server: SocketAddr, since: Instant, now: Instant) {
        let record = self.records.entry(server).or_default();
        if record.answered.is_none_or(|a| a < since) {
            record.failed = Some(now);
        }
    }

    /// Whom to ask, the best first, and how long whoever asked waits. `None`: it fails at once.
    pub(crate) fn plan(&mut self, mut servers: Vec<SocketAddr>, now: Instant) -> Option<(Vec<SocketAddr>, Duration)> {
        self.records.retain(|s, _| servers.contains(s));
        let of = |s: &SocketAddr| self.records.get(s).copied().unwrap_or_default().standing(now);
        servers.sort_by_key(of);
        let patience = match of(servers.first()?) {
            Standing::Alive => PATIENCE_ALIVE,
            Standing::Unknown => PATIENCE_UNKNOWN,
            Standing::Dead if self.probed.is_some_and(|p| now.saturating_duration_since(p) < PROBE_EVERY) => {
                return None;
            }
            Standing::Dead => {
                self.probed = Some(now);
                PATIENCE_UNKNOWN
            }
        };
        Some((servers, patience))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_failures_decide_whom_to_ask_and_how_long() {
        let (a, b): (SocketAddr, SocketAddr) = ("192.0.2.1:53".parse().unwrap(), "192.0.2.2:53".parse().unwrap());
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut s = Standings::default();
        assert_eq!(s.plan(vec![], at(0)), None);
        assert_eq!(s.plan(vec![a, b], at(0)), Some((vec![a, b], PATIENCE_UNKNOWN)));
        s.answered(b, at(10));
        assert_eq!(s.plan(vec![a, b], at(20)), Some((vec![b, a], PATIENCE_ALIVE)));
        s.failed(a, at(30));
        // A question that was slow, while others were answered, speaks against nobody.
        s.silent(b, at(5), at(1000));
        assert_eq!(s.plan(vec![a, b], at(1000)), Some((vec![b, a], PATIENCE_ALIVE)));
        s.silent(b, at(100), at(1100));
        // Both dead: one question a second.
        assert_eq!(s.plan(vec![a, b], at(1200)), Some((vec![a, b], PATIENCE_UNKNOWN)));
        assert_eq!(s.plan(vec![a, b], at(1300)), None);
        assert_eq!(s.plan(vec![a, b], at(2300)), Some((vec![a, b], PATIENCE_UNKNOWN)));
        // Back again.
        s.answered(a, at(2400));
        assert_eq!(s.plan(vec![a, b], at(2500)), Some((vec![a, b], PATIENCE_ALIVE)));
        // Forgiven in time.
        assert_eq!(s.plan(vec![b], at(40_000)), Some((vec![b], PATIENCE_UNKNOWN)));
    }
}
