//! Which values of a list were there before.
//!
//! Most lists have no limit but a request's three MiB, which is a hundred thousand items and more. So nothing may look
//! through all earlier items for each one; it asks a [`Seen`] instead.

use std::collections::HashSet;
use std::hash::Hash;

/// The values that were met so far.
pub struct Seen<T>(HashSet<T>);

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Seen(HashSet::new())
    }
}

impl<T: Eq + Hash> Seen<T> {
    /// Notes a value, and tells whether it was noted before.
    pub fn again(&mut self, value: T) -> bool {
        !self.0.insert(value)
    }

    /// Whether a value was noted, which asking doesn't do.
    pub fn has(&self, value: &T) -> bool {
        self.0.contains(value)
    }
}

impl<T: Eq + Hash> FromIterator<T> for Seen<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        Seen(all.into_iter().collect())
    }
}

/// Whether a value is there twice.
pub fn repeats<T: Eq + Hash>(all: impl IntoIterator<Item = T>) -> bool {
    let mut seen = Seen::default();
    all.into_iter().any(|value| seen.again(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_was_there_before() {
        let mut seen = Seen::default();
        assert!(!seen.has(&"a") && !seen.again("a") && seen.has(&"a") && seen.again("a") && !seen.again("b"));
        let before: Seen<&str> = ["x", "y"].into_iter().collect();
        assert!(before.has(&"y") && !before.has(&"z"));
        assert!(repeats([1, 2, 1]) && !repeats([1, 2, 3]) && !repeats::<u8>([]));
    }
}
