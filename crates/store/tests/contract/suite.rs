//! What every engine must do: one function a behaviour. Nothing here knows which engine it runs on.
//!
//! Revisions are compared relative to where the store is, because etcd begins at 1 and others at 0.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use store::{Cas, Change, Entry, Error, Event, ListOptions, Revision, STRIDE, Store, Watcher};

pub type TheStore = Arc<dyn Store>;

/// Calls `$each!(name)` for every behaviour.
#[macro_export]
macro_rules! behaviours {
    ($each:ident) => {
        $each!(create_then_get);
        $each!(create_of_an_existing_key_conflicts);
        $each!(update_needs_the_right_revision);
        $each!(delete_needs_the_right_revision);
        $each!(a_key_can_come_back);
        $each!(empty_and_large_values);
        $each!(revisions_are_one_sequence);
        $each!(lists_are_sorted_and_stay_within_the_prefix);
        $each!(pages_stay_at_their_revision);
        $each!(old_states_can_be_listed);
        $each!(future_and_compacted_revisions_are_refused);
        $each!(the_latest_state_survives_any_compaction);
        $each!(watch_sees_each_change_once_in_order);
        $each!(watch_resumes_anywhere);
        $each!(watch_of_a_namespace_and_of_a_key);
        $each!(watch_of_everything);
        $each!(watch_batches_are_bounded);
        $each!(a_quiet_watch_keeps_its_position_current);
        $each!(a_watch_is_woken_by_nothing_when_nothing_happens);
        $each!(an_overtaken_watch_ends_with_compacted);
        $each!(a_quiet_watch_is_not_overtaken);
        $each!(a_watch_of_changes_sleeps_through_those_of_others);
        $each!(watchers_that_are_behind_come_to_the_same_places);
        $each!(many_writers_one_key);
        $each!(many_writers_many_keys_are_all_seen);
        $each!(keys_expire_with_an_event);
        $each!(an_update_takes_the_expiry_along);
        $each!(shutdown_ends_writes_and_watches);
    };
}

const POD: &str = "/registry/pods/default/web";

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[track_caller]
fn done(cas: store::Result<Cas>) -> (Entry, Revision) {
    match cas.expect("write") {
        Cas::Done { entry, revision } => (entry, revision),
        Cas::Conflict(current) => panic!("unexpected conflict with {current:?}"),
    }
}

#[track_caller]
fn conflict(cas: store::Result<Cas>) -> Option<Entry> {
    match cas.expect("write") {
        Cas::Conflict(current) => current,
        Cas::Done { entry, .. } => panic!("unexpected success, {entry:?}"),
    }
}

fn all() -> ListOptions {
    ListOptions::default()
}

fn at(revision: Revision) -> ListOptions {
    ListOptions { revision: Some(revision), ..ListOptions::default() }
}

fn keys(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|e| &*e.key).collect()
}

async fn put(store: &TheStore, key: &str, text: &str) -> Revision {
    match store.get(key) {
        None => done(store.create(key, value(text), None).await).1,
        Some(e) => done(store.update(key, value(text), e.mod_revision, None).await).1,
    }
}

/// Waits for the next answer that isn't empty.
async fn some(watcher: &mut Box<dyn Watcher>) -> Vec<Event> {
    loop {
        let events = soon(watcher.next(100)).await.expect("watch");
        if !events.is_empty() {
            return events;
        }
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time")
}

fn show(event: &Event) -> String {
    let r = event.revision.0;
    match &event.change {
        Change::Put { entry, prev: None } => format!("{r} + {} {:?}", entry.key, entry.value),
        Change::Put { entry, prev: Some(p) } => format!("{r} ~ {} {:?} was {:?}", entry.key, entry.value, p.value),
        Change::Delete { prev } => format!("{r} - {} was {:?}", prev.key, prev.value),
    }
}

pub async fn create_then_get(store: TheStore) {
    let before = store.revision();
    let (entry, revision) = done(store.create(POD, value("1"), None).await);
    assert_eq!(revision.0, before.0 + 1);
    assert_eq!((entry.create_revision, entry.mod_revision), (revision, revision));
    assert_eq!(store.revision(), revision);
    let got = store.get(POD).expect("exists");
    assert_eq!((&*got.key, &got.value, got.mod_revision), (POD, &value("1"), revision));
    assert!(store.get("/registry/pods/default/we").is_none());
    assert!(store.get("/registry/nothing/here").is_none());
    assert!(store.barrier().await.expect("barrier") >= revision);
}

pub async fn create_of_an_existing_key_conflicts(store: TheStore) {
    let (_, first) = done(store.create(POD, value("1"), None).await);
    let current = conflict(store.create(POD, value("2"), None).await).expect("exists");
    assert_eq!((&current.value, current.mod_revision), (&value("1"), first));
    assert_eq!(store.revision(), first, "a conflict takes no revision");
}

pub async fn update_needs_the_right_revision(store: TheStore) {
    assert!(conflict(store.update(POD, value("0"), Revision(1), None).await).is_none());
    let (_, first) = done(store.create(POD, value("1"), None).await);
    let (entry, second) = done(store.update(POD, value("2"), first, None).await);
    assert_eq!((entry.create_revision, entry.mod_revision, second.0), (first, second, first.0 + 1));
    let current = conflict(store.update(POD, value("3"), first, None).await).expect("exists");
    assert_eq!((&current.value, current.mod_revision, current.create_revision), (&value("2"), second, first));
    assert_eq!(store.get(POD).expect("exists").value, value("2"));
    assert_eq!(store.revision(), second);
}

pub async fn delete_needs_the_right_revision(store: TheStore) {
    assert!(conflict(store.delete(POD, None).await).is_none());
    let (_, first) = done(store.create(POD, value("1"), None).await);
    assert!(conflict(store.delete(POD, Some(Revision(first.0 + 7))).await).is_some());
    let (gone, second) = done(store.delete(POD, Some(first)).await);
    assert_eq!((gone.mod_revision, second.0), (first, first.0 + 1));
    assert!(store.get(POD).is_none());
    assert!(conflict(store.delete(POD, None).await).is_none());
    assert_eq!(store.revision(), second);
}

pub async fn a_key_can_come_back(store: TheStore) {
    let (_, first) = done(store.create(POD, value("1"), None).await);
    done(store.delete(POD, None).await);
    let (entry, third) = done(store.create(POD, value("3"), None).await);
    assert_eq!((entry.create_revision, third.0), (third, first.0 + 2));
    assert_eq!(store.get_at(POD, first).expect("get").expect("existed").value, value("1"));
    assert!(store.get_at(POD, Revision(first.0 + 1)).expect("get").is_none());
    assert_eq!(store.get_at(POD, third).expect("get").expect("exists").value, value("3"));
}

pub async fn empty_and_large_values(store: TheStore) {
    let large = Bytes::from((0..1_400_000u32).map(|i| i as u8).collect::<Vec<_>>());
    done(store.create("/registry/secrets/a/empty", Bytes::new(), None).await);
    done(store.create("/registry/secrets/a/large", large.clone(), None).await);
    assert_eq!(store.get("/registry/secrets/a/empty").expect("exists").value.len(), 0);
    assert_eq!(store.get("/registry/secrets/a/large").expect("exists").value, large);
}

pub async fn revisions_are_one_sequence(store: TheStore) {
    let mut last = store.revision();
    for i in 0..20 {
        let key = format!("/registry/{}/ns/{i}", ["pods", "nodes", "foos.example.com"][i % 3]);
        let (_, revision) = done(store.create(&key, value("x"), None).await);
        assert_eq!(revision.0, last.0 + 1);
        last = revision;
    }
}

pub async fn lists_are_sorted_and_stay_within_the_prefix(store: TheStore) {
    for key in ["pods/b/2", "pods/a/9", "pods/b/10", "pods/ab/1", "pods.x/b/1", "podsets/b/1", "pods/b/1"] {
        put(&store, &format!("/registry/{key}"), "x").await;
    }
    let page = store.list("/registry/pods/", &all()).expect("list");
    let want = [
        "/registry/pods/a/9",
        "/registry/pods/ab/1",
        "/registry/pods/b/1",
        "/registry/pods/b/10",
        "/registry/pods/b/2",
    ];
    assert_eq!(keys(&page.entries), want);
    assert_eq!((page.remaining, page.revision), (0, store.revision()));
    assert_eq!(keys(&store.list("/registry/pods/b/", &all()).expect("list").entries), want[2..]);
    assert_eq!(keys(&store.list("/registry/pods/a/", &all()).expect("list").entries), want[..1]);
    assert_eq!(store.list("/registry/none/", &all()).expect("list").entries.len(), 0);
    assert_eq!(store.list("/registry/none/", &all()).expect("list").revision, store.revision());
    for (prefix, n) in [("/registry/pods/", 5), ("/registry/pods/b/", 3), ("/registry/none/", 0), ("/registry/", 7)] {
        assert_eq!(store.count(prefix), n, "{prefix}");
    }
    let everything = store.list("/registry/", &ListOptions { limit: 3, ..all() }).expect("list");
    assert_eq!(keys(&everything.entries), ["/registry/pods.x/b/1", want[0], want[1]]);
    assert_eq!(everything.remaining, 4);
    done(store.delete("/registry/pods/b/10", None).await);
    assert_eq!(store.count("/registry/pods/b/"), 2);
}

pub async fn pages_stay_at_their_revision(store: TheStore) {
    let key = |i: usize| format!("/registry/pods/ns{}/{i:04}", i % 3);
    let mut expected = BTreeMap::new();
    for i in 0..1000 {
        put(&store, &key(i), "old").await;
        expected.insert(key(i), "old");
    }
    let mut options = ListOptions { limit: 77, ..all() };
    let mut got = Vec::new();
    let mut pages = 0;
    loop {
        let page = store.list("/registry/pods/", &options).expect("list");
        assert_eq!(page.remaining as usize, expected.len() - got.len() - page.entries.len());
        assert_eq!(options.revision.unwrap_or(page.revision), page.revision);
        options.revision = Some(page.revision);
        options.start_after = page.entries.last().map(|e| e.key.to_string());
        got.extend(page.entries);
        if page.remaining == 0 {
            break;
        }
        // Everything changes between pages, but not what they show.
        for i in (pages * 40)..(pages * 40 + 40) {
            match i % 3 {
                0 => drop(done(store.delete(&key(i), None).await)),
                1 => drop(put(&store, &key(i), "new").await),
                _ => drop(put(&store, &format!("{}-new", key(i)), "new").await),
            }
        }
        pages += 1;
    }
    assert_eq!(keys(&got), expected.keys().collect::<Vec<_>>());
    assert!(got.iter().all(|e| e.value == "old"));
    let exactly = ListOptions { limit: 10, ..all() };
    for i in 0..10 {
        put(&store, &format!("/registry/nodes/{i}"), "x").await;
    }
    assert_eq!(store.list("/registry/nodes/", &exactly).expect("list").remaining, 0);
}

pub async fn old_states_can_be_listed(store: TheStore) {
    let start = store.revision();
    let mut states: Vec<(Revision, BTreeMap<String, String>)> = vec![(start, BTreeMap::new())];
    for i in 0..60 {
        let key = format!("/registry/pods/ns/{}", i * 7 % 10);
        let mut state = states.last().expect("state").1.clone();
        let revision = if i % 5 == 4 && state.contains_key(&key) {
            state.remove(&key);
            done(store.delete(&key, None).await).1
        } else {
            state.insert(key.clone(), i.to_string());
            put(&store, &key, &i.to_string()).await
        };
        states.push((revision, state));
    }
    for (revision, state) in states.iter().skip(1) {
        let page = store.list("/registry/pods/", &at(*revision)).expect("list");
        let got: BTreeMap<_, _> =
            page.entries.iter().map(|e| (e.key.to_string(), String::from_utf8_lossy(&e.value).into_owned())).collect();
        assert_eq!(&got, state, "at {revision:?}");
        assert_eq!(page.revision, *revision);
    }
}

pub async fn future_and_compacted_revisions_are_refused(store: TheStore) {
    let mut revisions = Vec::new();
    for i in 0..10 {
        revisions.push(put(&store, POD, &i.to_string()).await);
    }
    let future = Revision(store.revision().0 + 1);
    assert!(matches!(store.list("/registry/pods/", &at(future)), Err(Error::Future { .. })));
    assert!(matches!(store.get_at(POD, future), Err(Error::Future { .. })));
    assert!(matches!(store.compact(future).await, Err(Error::Future { .. })));
    store.compact(revisions[4]).await.expect("compact");
    assert_eq!(store.compacted(), revisions[4]);
    for revision in &revisions[..5] {
        assert!(matches!(store.list("/registry/pods/", &at(*revision)), Err(Error::Compacted { .. })));
        assert!(matches!(store.get_at(POD, *revision), Err(Error::Compacted { .. })));
        // Behind the last change that was forgotten, or of a resource that didn't change, nothing is missing.
        let complete = *revision == revisions[4];
        assert_eq!(store.watch("/registry/pods/", *revision).is_ok(), complete);
        assert!(store.watch("/registry/none/", *revision).is_ok());
        assert!(matches!(store.list("/registry/none/", &at(*revision)), Err(Error::Compacted { .. })));
    }
    for (i, revision) in revisions.iter().enumerate().skip(5) {
        assert_eq!(store.get_at(POD, *revision).expect("get").expect("exists").value, i.to_string());
    }
    store.compact(revisions[2]).await.expect("compacting less is no error");
    assert_eq!(store.compacted(), revisions[4]);
}

pub async fn the_latest_state_survives_any_compaction(store: TheStore) {
    for i in 0..5 {
        put(&store, POD, &i.to_string()).await;
    }
    done(store.create("/registry/pods/default/gone", value("x"), None).await);
    done(store.delete("/registry/pods/default/gone", None).await);
    let last = store.revision();
    store.compact(last).await.expect("compact");
    let page = store.list("/registry/pods/", &at(last)).expect("the latest revision can always be listed");
    assert_eq!(keys(&page.entries), [POD]);
    assert_eq!(store.count("/registry/pods/"), 1);
    store.watch("/registry/pods/", last).expect("and watched from");
}

pub async fn watch_sees_each_change_once_in_order(store: TheStore) {
    let start = store.revision();
    let mut watcher = store.watch("/registry/pods/", start).expect("watch");
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for i in 0..200 {
                put(&store, &format!("/registry/pods/ns/{}", i % 7), &i.to_string()).await;
                if i % 3 == 0 {
                    put(&store, "/registry/nodes/n", &i.to_string()).await;
                }
                if i % 10 == 9 {
                    done(store.delete(&format!("/registry/pods/ns/{}", i % 7), None).await);
                }
            }
        })
    };
    let mut live = BTreeMap::new();
    let mut last = start;
    let mut n = 0;
    while n < 220 {
        for event in some(&mut watcher).await {
            assert!(event.revision > last, "in order and once");
            last = event.revision;
            n += 1;
            match event.change {
                Change::Put { entry, prev } => {
                    assert_eq!(entry.mod_revision, last);
                    let was: Option<Entry> = live.insert(entry.key.clone(), entry.clone());
                    assert_eq!(was.map(|e| e.mod_revision), prev.map(|e| e.mod_revision));
                }
                Change::Delete { prev } => {
                    let was = live.remove(&prev.key).expect("it was there");
                    assert_eq!(was.mod_revision, prev.mod_revision);
                }
            }
        }
        assert!(watcher.position() >= last);
    }
    writer.await.expect("writer");
    let page = store.list("/registry/pods/", &all()).expect("list");
    assert_eq!(keys(&page.entries), live.keys().map(|k| &**k).collect::<Vec<_>>());
}

pub async fn watch_resumes_anywhere(store: TheStore) {
    let start = store.revision();
    for i in 0..30 {
        put(&store, &format!("/registry/pods/ns/{}", i % 4), &i.to_string()).await;
    }
    let mut full = Vec::new();
    let mut watcher = store.watch("/registry/pods/", start).expect("watch");
    while full.len() < 30 {
        full.extend(some(&mut watcher).await.iter().map(show));
    }
    for skip in 0..30 {
        let mut watcher = store.watch("/registry/pods/", Revision(start.0 + skip as u64)).expect("watch");
        let mut got = Vec::new();
        while got.len() < 30 - skip {
            got.extend(soon(watcher.next(7)).await.expect("next").iter().map(show));
        }
        assert_eq!(got, full[skip..], "after {skip}");
    }
}

pub async fn watch_of_a_namespace_and_of_a_key(store: TheStore) {
    let start = store.revision();
    let mut namespace = store.watch("/registry/pods/a/", start).expect("watch");
    let mut key = store.watch("/registry/pods/a/x", start).expect("watch");
    for name in ["ab/x", "a/x", "a/xy", "b/x"] {
        put(&store, &format!("/registry/pods/{name}"), "1").await;
    }
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(some(&mut namespace).await.iter().map(|e| e.change.key().to_string()));
    }
    assert_eq!(seen, ["/registry/pods/a/x", "/registry/pods/a/xy"]);
    assert_eq!(some(&mut key).await.len(), 1);
    put(&store, "/registry/pods/a/xy", "2").await;
    put(&store, "/registry/pods/a/x", "2").await;
    let events = some(&mut key).await;
    assert_eq!(events.len(), 1);
    assert_eq!(&**events[0].change.key(), "/registry/pods/a/x");
}

pub async fn watch_of_everything(store: TheStore) {
    let start = store.revision();
    let mut watcher = store.watch("/registry/", start).expect("watch");
    for i in 0..50 {
        put(&store, &format!("/registry/kind{}/ns/{i}", i % 5), "x").await;
    }
    let mut revisions = Vec::new();
    while revisions.len() < 50 {
        let events = soon(watcher.next(7)).await.expect("next");
        assert!(events.len() <= 7);
        revisions.extend(events.iter().map(|e| e.revision.0 - start.0));
    }
    assert_eq!(revisions, (1..=50).collect::<Vec<_>>());
}

pub async fn watch_batches_are_bounded(store: TheStore) {
    let start = store.revision();
    for i in 0..25 {
        put(&store, POD, &i.to_string()).await;
    }
    let mut watcher = store.watch(POD, start).expect("watch");
    for want in [10, 10, 5] {
        let events = soon(watcher.next(10)).await.expect("next");
        assert_eq!(events.len(), want);
        assert!(watcher.position() >= events[want - 1].revision);
    }
    assert_eq!(watcher.position(), store.revision());
}

pub async fn a_quiet_watch_keeps_its_position_current(store: TheStore) {
    put(&store, "/registry/pods/a/x", "1").await;
    let mut watcher = store.watch("/registry/pods/a/", store.revision()).expect("watch");
    let other = put(&store, "/registry/pods/b/x", "1").await;
    assert_eq!(watcher.position(), other, "read without waiting");
    let empty = soon(watcher.next(10)).await.expect("next");
    assert_eq!((empty.len(), watcher.position()), (0, other));
    // More of the same is told within about a second, not each time.
    let last = put(&store, "/registry/nodes/n", "1").await;
    let mut answers = 0;
    while soon(watcher.next(10)).await.expect("next").is_empty() {
        answers += 1;
        if watcher.position() >= last {
            break;
        }
    }
    assert!(answers <= 2, "{answers}");
    let mine = put(&store, "/registry/pods/a/x", "2").await;
    assert!(watcher.position() < mine, "not before it was returned");
    assert_eq!(some(&mut watcher).await.len(), 1);
}

pub async fn a_watch_is_woken_by_nothing_when_nothing_happens(store: TheStore) {
    put(&store, POD, "1").await;
    let mut watcher = store.watch("/registry/pods/", store.revision()).expect("watch");
    let quiet = tokio::time::timeout(Duration::from_millis(1300), watcher.next(10)).await;
    assert!(quiet.is_err(), "{quiet:?}");
    // Dropped in the middle of waiting, and nothing is lost.
    put(&store, POD, "2").await;
    assert_eq!(some(&mut watcher).await.len(), 1);
}

pub async fn an_overtaken_watch_ends_with_compacted(store: TheStore) {
    let start = put(&store, POD, "0").await;
    let mut watcher = store.watch("/registry/pods/", start).expect("watch");
    for i in 0..20 {
        put(&store, POD, &i.to_string()).await;
    }
    store.compact(Revision(store.revision().0 - 3)).await.expect("compact");
    let result = soon(watcher.next(100)).await;
    assert!(matches!(result, Err(Error::Compacted { .. })), "{result:?}");
}

pub async fn a_quiet_watch_is_not_overtaken(store: TheStore) {
    put(&store, "/registry/nodes/n", "1").await;
    let mut watcher = store.watch("/registry/nodes/", store.revision()).expect("watch");
    for i in 0..20 {
        put(&store, POD, &i.to_string()).await;
    }
    store.compact(Revision(store.revision().0 - 3)).await.expect("compact");
    // It missed nothing: none of its own changes were dropped.
    put(&store, "/registry/nodes/n", "2").await;
    assert_eq!(some(&mut watcher).await.len(), 1);
}

pub async fn a_watch_of_changes_sleeps_through_those_of_others(store: TheStore) {
    put(&store, "/registry/pods/a/x", "1").await;
    let mut watcher = store.watch("/registry/pods/a/", store.revision()).expect("watch");
    for i in 0..20 {
        put(&store, "/registry/pods/b/x", &i.to_string()).await;
    }
    let quiet = tokio::time::timeout(Duration::from_millis(1300), watcher.changes()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    let position = watcher.position();
    assert_eq!(position, store.revision());
    for i in 0..20 {
        put(&store, "/registry/pods/b/x", &i.to_string()).await;
    }
    // Behind its back, and nothing of its own is among it.
    store.compact(Revision(store.revision().0 - 3)).await.expect("compact");
    let mine = put(&store, "/registry/pods/a/x", "2").await;
    let events = soon(watcher.changes()).await.expect("changes");
    assert_eq!(events.iter().map(|e| e.revision).collect::<Vec<_>>(), [mine]);
    // Its own are missed.
    put(&store, "/registry/pods/a/x", "3").await;
    for i in 0..20 {
        put(&store, "/registry/pods/b/x", &i.to_string()).await;
    }
    store.compact(Revision(store.revision().0 - 3)).await.expect("compact");
    let result = soon(watcher.changes()).await;
    assert!(matches!(result, Err(Error::Compacted { .. })), "{result:?}");
}

pub async fn watchers_that_are_behind_come_to_the_same_places(store: TheStore) {
    let begin = store.revision().0;
    for i in 0..3 * STRIDE {
        put(&store, "/registry/pods/a/x", &i.to_string()).await;
    }
    let end = store.revision().0;
    let expected: Vec<u64> = (begin + 1..=end).filter(|r| r % STRIDE == 0 || *r == end).collect();
    for after in [begin, begin + 1, begin + 100] {
        let mut watcher = store.watch("/registry/pods/a/", Revision(after)).expect("watch");
        let (mut ends, mut next) = (Vec::new(), after + 1);
        while next <= end {
            let events = watcher.take(usize::MAX).expect("take");
            let seen: Vec<u64> = events.iter().map(|e| e.revision.0).collect();
            assert_eq!(seen, (next..next + events.len() as u64).collect::<Vec<_>>(), "all of them, in order");
            next += events.len() as u64;
            ends.push(next - 1);
        }
        assert_eq!(ends, expected, "from {after}");
        assert!(watcher.take(usize::MAX).expect("take").is_empty());
    }
    // One at a time, where each fills the share.
    let mut watcher = store.watch("/registry/pods/a/", Revision(end - 3)).expect("watch");
    for _ in 0..3 {
        assert_eq!(watcher.take(1).expect("take").len(), 1);
    }
    // What was had from elsewhere isn't told again.
    let mut watcher = store.watch("/registry/pods/a/", Revision(begin)).expect("watch");
    watcher.pass(Revision(end - 1));
    assert_eq!(watcher.take(usize::MAX).expect("take").len(), 1);
}

pub async fn many_writers_one_key(store: TheStore) {
    done(store.create(POD, value("0"), None).await);
    let writer = |_| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut won = 0;
            while won < 20 {
                let current = store.get(POD).expect("exists");
                let n: u64 = std::str::from_utf8(&current.value).expect("text").parse().expect("number");
                let next = value(&(n + 1).to_string());
                match store.update(POD, next, current.mod_revision, None).await.expect("update") {
                    Cas::Done { .. } => won += 1,
                    Cas::Conflict(now) => {
                        assert!(now.expect("exists").mod_revision > current.mod_revision)
                    }
                }
            }
        })
    };
    for result in futures::future::join_all((0..8).map(writer)).await {
        result.expect("writer");
    }
    assert_eq!(store.get(POD).expect("exists").value, "160", "no increment was lost");
}

pub async fn many_writers_many_keys_are_all_seen(store: TheStore) {
    let start = store.revision();
    let mut watcher = store.watch("/registry/configmaps/", start).expect("watch");
    let writer = |w: usize| {
        let store = store.clone();
        tokio::spawn(async move {
            for i in 0..40 {
                let (entry, revision) =
                    done(store.create(&format!("/registry/configmaps/ns{w}/{i}"), value("x"), None).await);
                assert!(store.revision() >= revision, "visible when acknowledged");
                assert_eq!(store.get(&entry.key).expect("visible").mod_revision, revision);
            }
        })
    };
    for result in futures::future::join_all((0..16).map(writer)).await {
        result.expect("writer");
    }
    let mut revisions = Vec::new();
    while revisions.len() < 640 {
        revisions.extend(some(&mut watcher).await.iter().map(|e| e.revision.0));
    }
    assert_eq!(revisions, (start.0 + 1..=start.0 + 640).collect::<Vec<_>>());
}

pub async fn keys_expire_with_an_event(store: TheStore) {
    let mut watcher = store.watch("/registry/events/", store.revision()).expect("watch");
    // Two seconds, because etcd's leases have whole seconds.
    let ttl = Some(Duration::from_secs(2));
    let (_, created) = done(store.create("/registry/events/a/1", value("x"), ttl).await);
    put(&store, "/registry/events/a/stays", "x").await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(some(&mut watcher).await);
    }
    let Change::Delete { prev } = &seen[2].change else { panic!("{seen:?}") };
    assert_eq!((&*prev.key, prev.mod_revision), ("/registry/events/a/1", created));
    assert!(store.get("/registry/events/a/1").is_none());
    assert_eq!(store.count("/registry/events/"), 1);
    assert!(store.revision() >= seen[2].revision);
}

pub async fn an_update_takes_the_expiry_along(store: TheStore) {
    let key = "/registry/events/a/1";
    let (_, first) = done(store.create(key, value("x"), Some(Duration::from_secs(1))).await);
    let (_, second) = done(store.update(key, value("y"), first, None).await);
    tokio::time::sleep(Duration::from_millis(2600)).await;
    assert_eq!(store.get(key).expect("lives on").mod_revision, second);
}

pub async fn shutdown_ends_writes_and_watches(store: TheStore) {
    let start = store.revision();
    let mut watcher = store.watch("/registry/pods/", start).expect("watch");
    let mut other = store.watch("/registry/nodes/", start).expect("watch");
    put(&store, POD, "1").await;
    store.shutdown().await;
    // First what there still is, then the end.
    assert_eq!(some(&mut watcher).await.len(), 1);
    for watcher in [&mut watcher, &mut other] {
        let end = loop {
            match soon(watcher.next(10)).await {
                Ok(events) => assert!(events.is_empty()),
                Err(error) => break error,
            }
        };
        assert!(matches!(end, Error::Closed), "{end:?}");
    }
    let refused = soon(store.create("/registry/pods/default/late", value("x"), None)).await;
    assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
}
