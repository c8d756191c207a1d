//! Parts of timestamps and durations.

use super::Row;
use crate::eval::{EvalError, Evaluated, Frame, no_overload};
use crate::time;
use crate::value::Value;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const OF_TIME: &[&str] = &["timestamp.() int", "timestamp.(string) int"];
const OF_BOTH: &[&str] = &["timestamp.() int", "timestamp.(string) int", "duration.() int"];

pub const ROWS: &[Row] = &[
    ("getFullYear", OF_TIME, |_, a| of(a, |z| i64::from(z.year()), None)),
    ("getMonth", OF_TIME, |_, a| of(a, |z| i64::from(z.month()) - 1, None)),
    ("getDate", OF_TIME, |_, a| of(a, |z| i64::from(z.day()), None)),
    ("getDayOfMonth", OF_TIME, |_, a| of(a, |z| i64::from(z.day()) - 1, None)),
    ("getDayOfWeek", OF_TIME, |_, a| of(a, |z| i64::from(z.weekday().to_sunday_zero_offset()), None)),
    ("getDayOfYear", OF_TIME, |_, a| of(a, |z| i64::from(z.day_of_year()) - 1, None)),
    ("getHours", OF_BOTH, |_, a| of(a, |z| i64::from(z.hour()), Some(3_600_000_000_000))),
    ("getMinutes", OF_BOTH, |_, a| of(a, |z| i64::from(z.minute()), Some(60_000_000_000))),
    ("getSeconds", OF_BOTH, |_, a| of(a, |z| i64::from(z.second()), Some(1_000_000_000))),
    ("getMilliseconds", OF_BOTH, milliseconds),
];

fn milliseconds<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    of(args, |z| i64::from(z.millisecond()), Some(1_000_000))
}

/// A part of a timestamp in its zone, or whole units of a duration.
fn of<'v>(args: &[Value<'v>], part: fn(&DateTime) -> i64, unit: Option<i64>) -> Evaluated<'v> {
    match (args, unit) {
        ([Value::Timestamp(t)], _) => Ok(Value::Int(part(&t.at(&TimeZone::UTC)))),
        ([Value::Timestamp(t), Value::String(zone)], _) => {
            let zone = time::zone(zone).map_err(EvalError::new)?;
            Ok(Value::Int(part(&t.at(&zone))))
        }
        ([Value::Duration(d)], Some(unit)) => Ok(Value::Int(d / unit)),
        _ => no_overload(),
    }
}
