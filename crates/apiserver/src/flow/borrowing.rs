//! How many seats each priority level has right now: what it is due, less what it lends, plus what it borrows.
//!
//! Pure. Source: KEP-1040, "Seat borrowing"; "API Priority and Fairness", "Seat Borrowing".

use super::queue_set::Demand;

/// How much of an old demand is still believed in after [`PERIOD_SECONDS`].
const SMOOTHING: f64 = 0.977;
pub const PERIOD_SECONDS: f64 = 10.0;

/// What a level's configuration says, seats.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Limits {
    pub nominal: u32,
    /// What it keeps however idle it is.
    pub min: u32,
    /// What it has at most, borrowed seats included.
    pub max: u32,
    pub exempt: bool,
}

/// `shares` of `total`, out of the `sum` of all levels' shares.
pub fn limits(total: u32, shares: u32, sum: u64, lendable: u32, borrowing: Option<u32>, exempt: bool) -> Limits {
    let nominal = match sum {
        0 => 0,
        _ => (u64::from(total) * u64::from(shares)).div_ceil(sum).min(u64::from(u32::MAX)) as u32,
    };
    let part = |percent: u32| (f64::from(nominal) * f64::from(percent) / 100.0).round() as u32;
    let max = match borrowing {
        Some(percent) => nominal.saturating_add(part(percent)),
        None => nominal.saturating_add(total),
    };
    Limits { nominal, min: nominal - part(lendable.min(100)), max, exempt }
}

/// The remembered demand of a level.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Smoothed {
    pub latest: Demand,
    /// Rises at once, falls slowly.
    pub smoothed: f64,
}

impl Smoothed {
    pub fn update(&mut self, demand: Demand, seconds: f64) {
        let envelope = demand.high.min(demand.average + demand.deviation);
        let keep = SMOOTHING.powf((seconds / PERIOD_SECONDS).clamp(0.0, 100.0));
        self.smoothed = match envelope >= self.smoothed {
            true => envelope,
            false => keep * self.smoothed + (1.0 - keep) * envelope,
        };
        self.latest = demand;
    }
}

/// Seats of each level now, and the fair fraction of their targets that all get. Sums to no more than the nominal
/// limits unless exempt levels need it.
pub fn allocate(levels: &[(Limits, Smoothed)]) -> (Vec<u32>, f64) {
    let total: f64 = levels.iter().map(|(l, _)| f64::from(l.nominal)).sum();
    let bounds: Vec<(f64, f64, f64)> = levels
        .iter()
        .map(|(l, d)| {
            let high = d.latest.high;
            let lower = match l.exempt {
                // Nothing holds an exempt level back, so what it used others can't have.
                true => high.max(f64::from(l.min)),
                false => f64::from(l.min).max(f64::from(l.nominal).min(high)),
            };
            let upper = if l.exempt { f64::INFINITY } else { f64::from(l.max).max(lower) };
            (lower, upper, lower.max(d.smoothed))
        })
        .collect();
    let spent =
        |fraction: f64| -> f64 { bounds.iter().map(|(lo, up, target)| (fraction * target).clamp(*lo, *up)).sum() };
    let fraction = match spent(0.0) >= total {
        true => 0.0,
        false => {
            // The sum grows with the fraction, up to where all are at their upper bounds.
            let (mut low, mut high) = (0.0f64, 1.0f64);
            while spent(high) < total && high < 1e9 {
                high *= 2.0;
            }
            for _ in 0..60 {
                let middle = (low + high) / 2.0;
                if spent(middle) < total { low = middle } else { high = middle }
            }
            low
        }
    };
    let seats = bounds
        .iter()
        .zip(levels)
        .map(|((lo, up, target), (l, _))| match l.exempt {
            true => l.nominal,
            false => (fraction * target).clamp(*lo, *up).round() as u32,
        })
        .collect();
    (seats, fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(nominal: u32, min: u32, max: u32, demand: f64) -> (Limits, Smoothed) {
        let latest = Demand { average: demand, deviation: 0.0, high: demand };
        (Limits { nominal, min, max, exempt: false }, Smoothed { latest, smoothed: demand })
    }

    #[test]
    fn shares_become_seats() {
        // The documentation's defaults: 600 seats, 245 shares.
        let got = limits(600, 100, 245, 90, None, false);
        assert_eq!(got, Limits { nominal: 245, min: 24, max: 845, exempt: false });
        assert_eq!(limits(600, 5, 245, 0, Some(0), false), Limits { nominal: 13, min: 13, max: 13, exempt: false });
        assert_eq!(limits(600, 0, 0, 0, None, false).nominal, 0);
    }

    #[test]
    fn idle_seats_go_where_they_are_wanted_and_come_back() {
        // One level busy, the other idle and lending half.
        let (seats, _) = allocate(&[level(10, 5, 100, 40.0), level(10, 5, 100, 0.0)]);
        assert_eq!(seats, [15, 5]);
        // Both busy: each has its own.
        let (seats, _) = allocate(&[level(10, 5, 100, 40.0), level(10, 5, 100, 40.0)]);
        assert_eq!(seats, [10, 10]);
        // A limit on borrowing holds.
        let (seats, _) = allocate(&[level(10, 5, 12, 40.0), level(10, 5, 100, 1.0)]);
        assert_eq!(seats[0], 12);
        // Nothing lent, nothing borrowed.
        let (seats, _) = allocate(&[level(10, 10, 100, 40.0), level(10, 10, 100, 0.0)]);
        assert_eq!(seats, [10, 10]);
    }

    #[test]
    fn no_level_falls_below_its_floor_nor_do_all_together_exceed_the_sum() {
        for a in [0.0, 3.0, 11.0, 70.0] {
            for b in [0.0, 5.0, 30.0, 500.0] {
                for c in [0.0, 1.0, 19.0, 99.0] {
                    let levels = [level(10, 5, 100, a), level(30, 3, 60, b), level(20, 20, 25, c)];
                    let (seats, _) = allocate(&levels);
                    let sum: u32 = seats.iter().sum();
                    // Rounding may add up to half a seat each.
                    assert!(sum <= 62, "{a} {b} {c}: {seats:?}");
                    for ((l, d), s) in levels.iter().zip(&seats) {
                        assert!(*s >= l.min && *s <= l.max, "{seats:?}");
                        // Whoever wants no more than its nominal share gets what it wants.
                        assert!(f64::from(*s) + 0.5 >= d.smoothed.min(f64::from(l.nominal)), "{seats:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn demand_rises_at_once_and_falls_slowly() {
        let mut s = Smoothed::default();
        s.update(Demand { average: 8.0, deviation: 4.0, high: 10.0 }, 10.0);
        assert_eq!(s.smoothed, 10.0);
        s.update(Demand::default(), 10.0);
        assert!((s.smoothed - 9.77).abs() < 1e-9);
    }
}
