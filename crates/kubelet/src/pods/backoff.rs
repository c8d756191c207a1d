//! How long a crashing container waits before its next start: none the first time, then 10 s, doubling to 300 s;
//! forgotten when it ran for ten minutes.

use jiff::{SignedDuration, Timestamp};

const BASE: SignedDuration = SignedDuration::from_secs(10);
const MAX: SignedDuration = SignedDuration::from_secs(300);
const FORGET_AFTER: SignedDuration = SignedDuration::from_secs(600);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrashBackoff {
    /// The delay in force and when it was set; `None` before the first restart.
    current: Option<(SignedDuration, Timestamp)>,
}

impl CrashBackoff {
    /// When a container that ended at `finished` may start again, and the delay, if that is still to come.
    pub fn wait(&self, finished: Timestamp, now: Timestamp) -> Option<(Timestamp, SignedDuration)> {
        let (delay, set_at) = self.current?;
        // The clock was set back since: it can't say how long ago the end was.
        if finished.duration_since(now) > SignedDuration::from_secs(1) {
            return None;
        }
        if finished.duration_since(set_at) > FORGET_AFTER {
            return None;
        }
        let until = finished.checked_add(delay).ok()?;
        (until > now).then_some((until, delay))
    }

    /// A restart happens now; the next one waits longer.
    pub fn restarted(&mut self, finished: Timestamp, now: Timestamp) {
        self.current = Some(match self.current {
            Some((delay, set_at)) if finished.duration_since(set_at) <= FORGET_AFTER => ((delay * 2).min(MAX), now),
            _ => (BASE, now),
        });
    }
}

/// Between restarts of Skiff the delay is kept with the container that was started last.
impl CrashBackoff {
    /// For the container that is being started; empty before the first restart.
    pub fn annotation(&self) -> String {
        self.current.map(|(delay, _)| delay.as_secs().to_string()).unwrap_or_default()
    }

    /// As it was when the container with this annotation was made.
    pub fn adopt(annotation: &str, created: Timestamp) -> CrashBackoff {
        let delay = annotation.parse().ok().filter(|s| *s > 0).map(SignedDuration::from_secs);
        CrashBackoff { current: delay.map(|d| (d.min(MAX), created)) }
    }
}

/// As Go prints durations: `10s`, `1m20s`, `5m0s`.
pub fn go_duration(d: SignedDuration) -> String {
    let s = d.as_secs();
    if s < 60 { format!("{s}s") } else { format!("{}m{}s", s / 60, s % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_restart_at_once_then_doubling_then_forgotten() {
        let t = |s: i64| Timestamp::from_second(s).unwrap();
        let mut b = CrashBackoff::default();
        let mut now = 1000;
        let mut waits = vec![];
        for _ in 0..8 {
            // Runs for one second, ends at `now`.
            let wait = b.wait(t(now), t(now)).map_or(0, |(until, _)| until.as_second() - now);
            waits.push(wait);
            b.restarted(t(now), t(now + wait));
            now += wait + 1;
        }
        let adopted = CrashBackoff::adopt(&b.annotation(), b.current.unwrap().1);
        assert_eq!(adopted, b);
        assert_eq!(CrashBackoff::adopt(&CrashBackoff::default().annotation(), t(0)), CrashBackoff::default());
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert!(b.wait(t(now), t(now)).is_some());
        assert_eq!(b.wait(t(now), t(now - 3600)), None, "the clock was set back by an hour");
        assert_eq!(b.wait(t(now + 700), t(now + 700)), None, "ran for more than ten minutes");
        b.restarted(t(now + 700), t(now + 700));
        assert_eq!(b.wait(t(now + 701), t(now + 701)).unwrap().1, BASE);
        assert_eq!([go_duration(BASE), go_duration(BASE * 8), go_duration(MAX)], ["10s", "1m20s", "5m0s"]);
    }
}
