//! Shuffle sharding: a flow's hand of queues, dealt from all of them by the flow's hash alone.
//!
//! Two flows share a queue easily and a whole hand hardly ever, so a flow that floods its hand leaves others at least one
//! quiet queue. Pure. Source: KEP-1040, "Assignment of requests to queues".

/// Hands are at most this large: more would need more bits than a hash has.
pub const HAND_MAX: usize = 10;

/// Calls `pick` with each of `hand` different queues out of `deck`. `deck` and `hand` must be at least 1.
pub fn deal(mut hash: u64, deck: usize, hand: usize, mut pick: impl FnMut(usize)) {
    let hand = hand.min(deck).min(HAND_MAX);
    // Sorted, so that each draw can step over the cards that are gone.
    let mut gone = [0usize; HAND_MAX];
    for dealt in 0..hand {
        let left = (deck - dealt) as u64;
        let mut card = (hash % left) as usize;
        hash /= left;
        let mut at = 0;
        while at < dealt && gone[at] <= card {
            card += 1;
            at += 1;
        }
        gone.copy_within(at..dealt, at + 1);
        gone[at] = card;
        pick(card);
    }
}

/// A flow is a FlowSchema and what it distinguishes by.
pub fn flow_hash(schema: &str, distinguisher: &str) -> u64 {
    use std::hash::{Hash, Hasher};
    // The same in every process, so that a flow's queues can be named in dumps.
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    (schema, distinguisher).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn hand(hash: u64, deck: usize, size: usize) -> Vec<usize> {
        let mut out = Vec::new();
        deal(hash, deck, size, |c| out.push(c));
        out
    }

    #[test]
    fn hands_hold_different_cards_of_the_deck() {
        for deck in [1, 2, 5, 64, 128] {
            for size in [1, 2, 6, 8, 20] {
                for i in 0..500u64 {
                    let h = hand(flow_hash("s", &i.to_string()), deck, size);
                    assert_eq!(h.len(), size.min(deck).min(HAND_MAX));
                    assert!(h.iter().all(|c| *c < deck), "{h:?}");
                    assert_eq!(h.iter().collect::<BTreeSet<_>>().len(), h.len(), "{h:?}");
                }
            }
        }
    }

    #[test]
    fn every_queue_is_dealt_about_equally_often() {
        let mut counts = [0u32; 64];
        for i in 0..20_000u64 {
            for c in hand(flow_hash("s", &i.to_string()), 64, 6) {
                counts[c] += 1;
            }
        }
        let mean = 20_000.0 * 6.0 / 64.0;
        assert!(counts.iter().all(|n| (f64::from(*n) - mean).abs() < mean * 0.15), "{counts:?}");
    }

    #[test]
    fn an_elephant_rarely_covers_a_mouse() {
        let elephant: BTreeSet<usize> = hand(flow_hash("s", "elephant"), 128, 6).into_iter().collect();
        let covered = (0..20_000u64)
            .filter(|i| hand(flow_hash("s", &format!("mouse-{i}")), 128, 6).iter().all(|c| elephant.contains(c)))
            .count();
        // The documentation's table says 1.8e-10 for these numbers.
        assert_eq!(covered, 0);
    }
}
