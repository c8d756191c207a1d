//! Watchers in step: what was framed for one of them serves all that look at the same things in the same form.
//!
//! A change that a thousand clients watch is selected and encoded once, and the same bytes go to each of them. Watchers
//! that look at the same are a [`Group`]. It keeps the newest pieces of frames, each with the place in the history that
//! it stands for; whoever comes to such a place takes the piece, anybody else frames what it needs by itself and leaves
//! it here. So nobody waits for others, and what is kept is bounded, whatever a slow one does.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use store::Revision;

/// Bytes of frames that a group keeps: a few times what a watcher takes at once.
const KEPT_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that all groups keep together. Whoever opens pairs of watches with ever other selectors gets no further; groups
/// that find no room frame for each watcher.
const KEPT_BYTES_TOTAL_MAX: usize = 64 * 1024 * 1024;
/// Pieces that a group keeps, most of them of one change or few.
const KEPT_MAX: usize = 128;
/// Bytes up to which small pieces are joined.
const JOINED_BYTES_MAX: usize = 64 * 1024;
/// What a core may be busy with for one member, on average, before the member is told more. To send a chunk costs a few
/// microseconds, however little is in it, and as much again where the client runs on the same machine.
const REST_MICROS: u64 = 40;
const REST_MAX: Duration = Duration::from_millis(100);
/// Whoever is told less than this at once keeps up without rest.
const MUCH_BYTES: usize = 4 * 1024;

static CORES: LazyLock<u64> = LazyLock::new(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u64));

/// Which changes a piece of frames tells of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// All of them come after this revision,
    pub after: Revision,
    /// and this is the first's,
    pub first: Revision,
    /// the last's.
    pub last: Revision,
}

/// All groups of this server, by what their members look at.
#[derive(Clone, Debug, Default)]
pub struct Groups(Arc<All>);

#[derive(Debug, Default)]
struct All {
    groups: Mutex<HashMap<String, Arc<Group>>>,
    /// Kept by all of them.
    bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct Group(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    members: usize,
    bytes: usize,
    /// Oldest first.
    pieces: VecDeque<(Span, Bytes)>,
}

/// One watcher's place in its group.
#[derive(Debug)]
pub struct Member {
    groups: Groups,
    key: String,
    group: Arc<Group>,
}

impl Groups {
    /// `key` names all that the bytes depend on, but for the history.
    pub fn join(&self, key: String) -> Member {
        let mut groups = self.0.groups.lock();
        let group = groups.entry(key.clone()).or_default().clone();
        // Before the others may go: the last of them takes the group with it.
        group.0.lock().members += 1;
        drop(groups);
        Member { groups: self.clone(), key, group }
    }
}

impl Member {
    /// What comes after `told`, if somebody had it framed: up to which revision it goes, and the frames, which may be
    /// none.
    pub fn find(&self, told: Revision) -> Option<(Revision, Bytes)> {
        let mut kept = self.group.0.lock();
        let (mut span, frames) = kept.at(told)?;
        let Some((_, more)) = kept.at(span.last) else { return Some((span.last, frames)) };
        if frames.len() + more.len() > JOINED_BYTES_MAX {
            return Some((span.last, frames));
        }
        // What came in small pieces is sent in one: each costs sender and receiver more than its bytes do. The others
        // who are at this place find it joined.
        let mut joined = Vec::with_capacity(JOINED_BYTES_MAX);
        joined.extend_from_slice(&frames);
        while let Some((next, more)) = kept.at(span.last)
            && joined.len() + more.len() <= JOINED_BYTES_MAX
        {
            joined.extend_from_slice(&more);
            span.last = next.last;
        }
        joined.shrink_to_fit();
        let joined = Bytes::from(joined);
        kept.add(span, joined.clone(), &self.groups.0.bytes);
        Some((span.last, joined))
    }

    /// How long a member waits after it was told so much, so that what a large group is told comes in chunks that are
    /// worth their sending; none where that keeps no core busy anyway.
    pub fn rest(&self, told_bytes: usize) -> Option<Duration> {
        if told_bytes < MUCH_BYTES {
            return None;
        }
        let members = self.group.0.lock().members as u64;
        let rest = Duration::from_micros(members * REST_MICROS / *CORES).min(REST_MAX);
        // Timers are no finer.
        (rest >= Duration::from_millis(1)).then_some(rest)
    }

    /// Leaves it to the others, where there are any.
    pub fn leave(&self, span: Span, frames: Bytes) {
        let mut kept = self.group.0.lock();
        if kept.members > 1 {
            kept.add(span, frames, &self.groups.0.bytes);
        }
    }
}

impl Kept {
    /// The newest piece that begins where somebody is who was told of everything up to `told`.
    fn at(&self, told: Revision) -> Option<(Span, Bytes)> {
        // There is nothing between the place where a piece begins and its first change.
        let begins = |span: &Span| span.after <= told && told < span.first;
        self.pieces.iter().rev().find(|(span, _)| begins(span)).cloned()
    }

    fn add(&mut self, span: Span, frames: Bytes, total: &AtomicUsize) {
        if frames.len() > KEPT_BYTES_MAX {
            return;
        }
        self.bytes += frames.len();
        total.fetch_add(frames.len(), Relaxed);
        self.pieces.push_back((span, frames));
        while self.bytes > KEPT_BYTES_MAX
            || self.pieces.len() > KEPT_MAX
            || (self.bytes > 0 && total.load(Relaxed) > KEPT_BYTES_TOTAL_MAX)
        {
            self.forget_oldest(total);
        }
    }

    fn forget_oldest(&mut self, total: &AtomicUsize) {
        if let Some((_, oldest)) = self.pieces.pop_front() {
            self.bytes -= oldest.len();
            total.fetch_sub(oldest.len(), Relaxed);
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut groups = self.groups.0.groups.lock();
        let mut kept = self.group.0.lock();
        kept.members -= 1;
        if kept.members == 0 {
            groups.remove(&self.key);
        } else if kept.members == 1 {
            while !kept.pieces.is_empty() {
                kept.forget_oldest(&self.groups.0.bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(after: u64, first: u64, last: u64) -> Span {
        Span { after: Revision(after), first: Revision(first), last: Revision(last) }
    }

    #[test]
    fn whoever_comes_to_the_same_place_gets_the_same() {
        let groups = Groups::default();
        let (a, b, other) = (groups.join("x".into()), groups.join("x".into()), groups.join("y".into()));
        a.leave(span(5, 8, 9), Bytes::from_static(b"eight and nine\n"));
        a.leave(span(9, 10, 12), Bytes::new());
        for (told, want) in [
            (4, None),
            // The piece behind it has nothing to tell, and is behind it, too.
            (5, Some((12, "eight and nine\n"))),
            (7, Some((12, "eight and nine\n"))),
            // It has the first of them.
            (8, None),
            (9, Some((12, ""))),
            (10, None),
            (12, None),
        ] {
            let found = b.find(Revision(told));
            let found = found.as_ref().map(|(last, frames)| (last.0, std::str::from_utf8(frames).unwrap()));
            assert_eq!(found, want, "told of {told}");
            assert!(other.find(Revision(told)).is_none());
        }
    }

    #[test]
    fn small_pieces_are_joined_once() {
        let groups = Groups::default();
        let (a, b) = (groups.join("x".into()), groups.join("x".into()));
        for i in 0..5 {
            a.leave(span(i, i + 1, i + 1), Bytes::from(format!("{}\n", i + 1)));
        }
        let (last, frames) = b.find(Revision(2)).unwrap();
        assert_eq!((last, frames.as_ref()), (Revision(5), b"3\n4\n5\n".as_ref()));
        let (_, again) = a.find(Revision(2)).unwrap();
        assert_eq!(again.as_ptr(), frames.as_ptr(), "the same bytes");
        // More comes behind what was joined.
        a.leave(span(5, 6, 6), Bytes::from_static(b"6\n"));
        assert_eq!(b.find(Revision(2)).unwrap(), (Revision(6), Bytes::from_static(b"3\n4\n5\n6\n")));
        a.leave(span(6, 7, 7), Bytes::from(vec![b'x'; JOINED_BYTES_MAX]));
        assert_eq!(b.find(Revision(2)).unwrap().0, Revision(6), "large ones stay as they are");
    }

    #[test]
    fn what_is_kept_is_bounded_and_goes_with_the_members() {
        let groups = Groups::default();
        let a = groups.join("x".into());
        a.leave(span(0, 1, 1), Bytes::from_static(b"for nobody"));
        assert!(a.find(Revision(0)).is_none());
        let b = groups.join("x".into());
        let large = Bytes::from(vec![b'x'; KEPT_BYTES_MAX / 4]);
        for i in 0..9 {
            a.leave(span(i, i + 1, i + 1), large.clone());
        }
        assert!(b.find(Revision(4)).is_none() && b.find(Revision(5)).is_some() && b.find(Revision(8)).is_some());
        a.leave(span(9, 10, 10), Bytes::from(vec![b'x'; KEPT_BYTES_MAX + 1]));
        assert!(b.find(Revision(9)).is_none() && b.find(Revision(8)).is_some());
        for i in 10..10 + KEPT_MAX as u64 {
            a.leave(span(i, i + 1, i + 1), Bytes::new());
        }
        assert!(b.find(Revision(8)).is_none() && b.find(Revision(10)).is_some());
        drop(b);
        assert!(a.find(Revision(10)).is_none());
        drop(a);
        assert!(groups.0.groups.lock().is_empty());
        assert_eq!(groups.0.bytes.load(Relaxed), 0);
    }

    #[test]
    fn all_groups_together_are_bounded() {
        let groups = Groups::default();
        let piece = Bytes::from(vec![b'x'; KEPT_BYTES_MAX]);
        let enough = KEPT_BYTES_TOTAL_MAX / KEPT_BYTES_MAX;
        let members: Vec<[Member; 2]> = (0..enough + 10).map(|i| [0, 1].map(|_| groups.join(i.to_string()))).collect();
        let kept = |[_, b]: &[Member; 2]| b.find(Revision(0)).is_some();
        for [a, _] in &members {
            a.leave(span(0, 1, 1), piece.clone());
        }
        assert_eq!(groups.0.bytes.load(Relaxed), KEPT_BYTES_TOTAL_MAX);
        assert!(members[..enough].iter().all(kept) && !members[enough..].iter().any(kept));
        // There is room again where others go.
        drop(members);
        assert_eq!(groups.0.bytes.load(Relaxed), 0);
    }

    #[test]
    fn who_joins_while_others_go_is_where_the_next_one_will_be() {
        let groups = Groups::default();
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for _ in 0..50_000 {
                        let member = groups.join("x".into());
                        let found = groups.0.groups.lock().get("x").cloned();
                        assert!(found.is_some_and(|group| Arc::ptr_eq(&group, &member.group)));
                    }
                });
            }
        });
        assert!(groups.0.groups.lock().is_empty());
    }
}
