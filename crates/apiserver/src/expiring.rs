//! Answers that are remembered for a while, by the hash of the question.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

pub type Hash = [u8; 32];

/// Holds at most `max` answers; when it is full, those that are out of date go, and if none is, all do.
pub struct Expiring<V> {
    max: usize,
    answers: Mutex<HashMap<Hash, (V, Instant)>>,
}

impl<V: Clone> Expiring<V> {
    pub fn new(max: usize) -> Expiring<V> {
        Expiring { max, answers: Mutex::default() }
    }

    pub fn get(&self, question: &Hash) -> Option<V> {
        self.answers.lock().get(question).filter(|(_, until)| Instant::now() < *until).map(|(v, _)| v.clone())
    }

    pub fn put(&self, question: Hash, answer: V, ttl: Duration) {
        if ttl.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut answers = self.answers.lock();
        if answers.len() >= self.max {
            answers.retain(|_, (_, until)| now < *until);
            if answers.len() >= self.max {
                answers.clear();
            }
        }
        answers.insert(question, (answer, now + ttl));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_grow_old() {
        let e = Expiring::new(2);
        let s = Duration::from_secs;
        e.put([1; 32], 1, s(10));
        e.put([2; 32], 2, s(0));
        assert_eq!((e.get(&[1; 32]), e.get(&[2; 32])), (Some(1), None));
        tokio::time::advance(s(10)).await;
        assert_eq!(e.get(&[1; 32]), None);
        for i in 3..9 {
            e.put([i; 32], i, s(10));
            assert_eq!(e.get(&[i; 32]), Some(i));
            assert!(e.answers.lock().len() <= 2);
        }
    }
}
