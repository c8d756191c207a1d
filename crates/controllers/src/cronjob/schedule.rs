//! When a CronJob is due.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp, Zoned};

pub enum Schedule {
    /// `@every 90s`: from the last time, in whole seconds.
    Every(SignedDuration),
    Cron(Box<Cron>, TimeZone),
}

/// Times that were missed, as far as anybody wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    pub latest: Timestamp,
    /// Counted up to [`MANY`].
    pub count: usize,
}

/// More than this means that clocks or deadlines are wrong.
pub const MANY: usize = 100;

impl Schedule {
    /// The API server has let the text pass already; a `timeZone` of none is the server's own.
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Schedule, String> {
        if let Some(every) = text.strip_prefix("@every ") {
            let every: SignedDuration = every.trim().parse().map_err(|e| format!("{text}: {e}"))?;
            return Ok(Schedule::Every(SignedDuration::from_secs(every.as_secs().max(1))));
        }
        let zone = match zone {
            Some(name) => TimeZone::get(name).map_err(|_| format!("unknown time zone {name}"))?,
            None => TimeZone::system(),
        };
        let text = match text {
            "@midnight" => "@daily",
            "@annually" => "@yearly",
            other => other,
        };
        let cron = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build()
            .parse(&text.replace('?', "*"))
            .map_err(|e| e.to_string())?;
        Ok(Schedule::Cron(Box::new(cron), zone))
    }

    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Schedule::Every(d) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(*d).ok()
            }
            Schedule::Cron(cron, zone) => {
                let start = Zoned::new(after, zone.clone());
                cron.find_next_occurrence(&start, false).ok().map(|z| z.timestamp())
            }
        }
    }

    /// Times after `since` up to and with `now`.
    pub fn missed(&self, since: Timestamp, now: Timestamp) -> Option<Missed> {
        let first = self.next(since).filter(|t| *t <= now)?;
        let (mut latest, mut count) = (first, 1);
        while let Some(t) = self.next(latest).filter(|t| *t <= now) {
            if count == MANY {
                // Not one by one from here on.
                return Some(Missed { latest: self.latest(first, now)?, count: MANY + 1 });
            }
            (latest, count) = (t, count + 1);
        }
        Some(Missed { latest, count })
    }

    fn latest(&self, first: Timestamp, now: Timestamp) -> Option<Timestamp> {
        match self {
            Schedule::Every(d) => {
                let passed = now.duration_since(first).as_secs();
                first.checked_add(SignedDuration::from_secs(passed - passed % d.as_secs().max(1))).ok()
            }
            Schedule::Cron(cron, zone) => {
                let end = Zoned::new(now, zone.clone());
                cron.find_previous_occurrence(&end, true).ok().map(|z| z.timestamp())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn next_times() {
        for (schedule, zone, after, want) in [
            ("*/15 * * * *", "UTC", "2026-01-01T00:07:30Z", "2026-01-01T00:15:00Z"),
            ("0 3 * * *", "Europe/Berlin", "2026-07-01T00:00:00Z", "2026-07-01T01:00:00Z"),
            ("0 0 29 2 ?", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 12 * jan mon-fri", "UTC", "2026-01-02T12:00:00Z", "2026-01-05T12:00:00Z"),
            ("@hourly", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
            ("@midnight", "UTC", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("@every 90s", "UTC", "2026-01-01T00:00:00.5Z", "2026-01-01T00:01:30Z"),
        ] {
            let s = Schedule::parse(schedule, Some(zone)).unwrap();
            assert_eq!(s.next(at(after)), Some(at(want)), "{schedule}");
        }
        let never = Schedule::parse("59 23 31 2 *", Some("UTC")).unwrap();
        assert_eq!(never.next(at("2026-01-01T00:00:00Z")), None);
        assert!(Schedule::parse("* * * *", None).is_err());
        assert!(Schedule::parse("* * * * *", Some("Nowhere/City")).is_err());
    }

    #[test]
    fn missed_times() {
        let s = Schedule::parse("*/10 * * * *", Some("UTC")).unwrap();
        let missed = |since: &str, now: &str| s.missed(at(since), at(now)).map(|m| (m.latest, m.count));
        assert_eq!(missed("2026-01-01T00:00:00Z", "2026-01-01T00:09:59Z"), None);
        let ten = at("2026-01-01T00:10:00Z");
        assert_eq!(missed("2026-01-01T00:00:00Z", "2026-01-01T00:10:00Z"), Some((ten, 1)));
        assert_eq!(missed("2026-01-01T00:00:00Z", "2026-01-01T00:35:00Z"), Some((at("2026-01-01T00:30:00Z"), 3)));
        let long = missed("2020-01-01T00:00:00Z", "2026-01-01T00:35:00Z");
        assert_eq!(long, Some((at("2026-01-01T00:30:00Z"), MANY + 1)));
        let every = Schedule::parse("@every 1s", None).unwrap();
        let m = every.missed(at("2020-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z")).unwrap();
        assert_eq!((m.latest, m.count), (at("2026-01-01T00:00:00Z"), MANY + 1));
    }
}
