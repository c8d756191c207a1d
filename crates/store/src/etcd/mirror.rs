//! Keeps the index equal to etcd: one listing at start, then one watch. After a broken connection the watch goes on
//! behind the last revision that was seen; when etcd has compacted that away, a listing is compared with the index
//! and the difference is told as changes.

use super::Etcd;
use super::client::read_error;
use super::proto::{EventType, KeyValue, RangeRequest, WatchCreateRequest, WatchResponse};
use crate::contract::*;
use crate::engine::entry;
use crate::index::Index;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use stdx::Shutdown;
use stdx::backoff::Backoff;

const PAGE_KEYS: i64 = 2000;

/// Why the watch ended.
enum End {
    /// Go on behind the last revision.
    Broken(String),
    /// The revisions to go on from are gone.
    Compacted,
}

/// Runs until shutdown, or until the store is dropped.
pub(super) async fn run(etcd: Weak<Etcd>, shutdown: Shutdown) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    let mut list_first = false;
    loop {
        let Some(this) = etcd.upgrade() else { return };
        let before = this.index.revision();
        let attempt = async {
            if list_first {
                relist(&this).await.map_err(|e| End::Broken(e.to_string()))?;
            }
            follow(this, &etcd).await
        };
        let end = tokio::select! {
            () = shutdown.cancelled() => return,
            Err(end) = attempt => end,
        };
        list_first = match end {
            End::Compacted => true,
            End::Broken(why) => {
                tracing::warn!(%why, "lost the watch of etcd; connecting again");
                list_first && etcd.upgrade().is_some_and(|e| e.index.revision() == before)
            }
        };
        if etcd.upgrade().is_some_and(|e| e.index.revision() > before) {
            backoff.reset();
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(backoff.next_delay()) => {}
        }
    }
}

/// Applies what the watch says, until it ends. Doesn't keep the store alive.
async fn follow(etcd: Arc<Etcd>, weak: &Weak<Etcd>) -> std::result::Result<std::convert::Infallible, End> {
    let broken = |status: tonic::Status| End::Broken(read_error(&status).to_string());
    let create = WatchCreateRequest {
        key: etcd.range_start(),
        range_end: etcd.range_end(),
        start_revision: etcd.index.revision().0 as i64 + 1,
        progress_notify: true,
    };
    let mut stream = etcd.client.watch(create).await.map_err(broken)?;
    drop(etcd);
    loop {
        let Some(mut response) = stream.message().await.map_err(broken)? else {
            return Err(End::Broken("etcd ended the watch".into()));
        };
        if response.compact_revision > 0 {
            return Err(End::Compacted);
        }
        if response.canceled {
            return Err(End::Broken(format!("etcd canceled the watch: {}", response.cancel_reason)));
        }
        let Some(etcd) = weak.upgrade() else {
            return Err(End::Broken("closed".into()));
        };
        for event in &mut response.events {
            let deleted = event.r#type == EventType::Delete as i32;
            match event.kv.as_mut() {
                // Has no value to open.
                Some(kv) if deleted => etcd.gone(kv),
                Some(kv) => etcd.made_plain(kv),
                None => {}
            }
        }
        etcd.apply(|index| plan(index, response, &etcd.options.prefix));
    }
}

/// The changes that a watch's answer stands for, and the revision up to which it is complete.
fn plan(index: &Index, response: WatchResponse, prefix: &str) -> (Vec<Event>, Revision) {
    let seen = index.revision();
    if response.events.is_empty() {
        // The first answer's revision says nothing of what is still to come; a progress notice's does.
        let progress = response.header.filter(|_| !response.created).map_or(0, |h| h.revision as u64);
        return (Vec::new(), seen.max(Revision(progress)));
    }
    let mut pending: HashMap<Arc<str>, Option<Entry>> = HashMap::new();
    let mut events = Vec::new();
    let mut last = seen;
    for event in response.events {
        let Some(kv) = event.kv else { continue };
        let revision = Revision(kv.mod_revision as u64);
        if revision <= seen {
            continue;
        }
        last = last.max(revision);
        let Some(key) = own_key(&kv, prefix) else {
            continue;
        };
        let prev = match pending.get(key) {
            Some(pending) => pending.clone(),
            None => index.newest(key),
        };
        let key: Arc<str> = prev.as_ref().map_or_else(|| key.into(), |p| p.key.clone());
        let change = if event.r#type == EventType::Delete as i32 {
            pending.insert(key, None);
            let Some(prev) = prev else { continue };
            Change::Delete { prev }
        } else {
            let entry = entry_of(kv, key.clone());
            pending.insert(key, Some(entry.clone()));
            Change::Put { entry, prev }
        };
        events.push(Event { revision, change });
    }
    (events, last)
}

pub(super) fn own_key<'a>(kv: &'a KeyValue, prefix: &str) -> Option<&'a str> {
    let key = std::str::from_utf8(&kv.key).ok().and_then(|k| k.strip_prefix(prefix));
    if key.is_none() {
        tracing::warn!(key = ?kv.key, "skipped a key in etcd that isn't text");
    }
    key
}

pub(super) fn entry_of(kv: KeyValue, key: Arc<str>) -> Entry {
    entry(key, kv.value.into(), Revision(kv.create_revision as u64), Revision(kv.mod_revision as u64))
}

/// Fills an empty index.
pub(super) async fn first_list(etcd: &Etcd) -> Result<()> {
    let (kvs, revision) = list(etcd).await?;
    for kv in kvs {
        if let Some(key) = own_key(&kv, &etcd.options.prefix).map(Arc::from) {
            etcd.index.load(entry_of(kv, key));
        }
    }
    etcd.index.apply(Vec::new(), revision);
    etcd.index.raise_floor(revision);
    Ok(())
}

/// Brings an index up to date that missed changes.
async fn relist(etcd: &Etcd) -> Result<()> {
    let (kvs, revision) = list(etcd).await?;
    if revision < etcd.index.revision() {
        let ours = etcd.index.revision().0;
        tracing::error!(ours, theirs = revision.0, "etcd went back in time; was it restored? restart this server");
        return Err(Error::Corrupt("etcd went back in time".into()));
    }
    tracing::info!(revision = revision.0, keys = kvs.len(), "listed etcd anew, because it was compacted");
    etcd.apply(|index| {
        let events = difference(index, kvs, revision, &etcd.options.prefix);
        // What happened in between isn't all known, so no one may begin there. Watchers that are under way see the
        // difference.
        index.raise_floor(revision);
        (events, revision)
    });
    Ok(())
}

/// What must have happened at least, between the index's state and a listing at `revision`. In revision order.
fn difference(index: &Index, kvs: Vec<KeyValue>, revision: Revision, prefix: &str) -> Vec<Event> {
    let seen = index.revision();
    let mut gone: HashMap<Arc<str>, Entry> = HashMap::new();
    let all = index.export::<Error>(seen, |entries| {
        gone.extend(entries.into_iter().map(|e| (e.key.clone(), e)));
        Ok(())
    });
    // The visible revision can always be read.
    debug_assert!(all.is_ok());
    let mut events = Vec::new();
    for kv in kvs {
        let Some(key) = own_key(&kv, prefix) else {
            continue;
        };
        let mut prev = gone.remove(key);
        if Revision(kv.mod_revision as u64) <= seen {
            continue;
        }
        let key: Arc<str> = prev.as_ref().map_or_else(|| key.into(), |p| p.key.clone());
        let entry = entry_of(kv, key);
        if let Some(old) = prev.take_if(|p| p.create_revision != entry.create_revision) {
            // Deleted and created again; the deletion was before the creation.
            let revision = Revision(entry.create_revision.0 - 1);
            events.push(Event { revision, change: Change::Delete { prev: old } });
        }
        events.push(Event { revision: entry.mod_revision, change: Change::Put { entry, prev } });
    }
    events.extend(gone.into_values().map(|prev| Event { revision, change: Change::Delete { prev } }));
    // Stable, so that a key's deletion stays before its creation.
    events.sort_by_key(|e| e.revision);
    events
}

/// All keys as of one revision.
async fn list(etcd: &Etcd) -> Result<(Vec<KeyValue>, Revision)> {
    let mut kvs: Vec<KeyValue> = Vec::new();
    let mut revision = 0;
    let mut key = etcd.range_start();
    loop {
        let request =
            RangeRequest { key, range_end: etcd.range_end(), limit: PAGE_KEYS, revision, ..RangeRequest::default() };
        let page = etcd.client.range(request).await.map_err(|s| read_error(&s))?;
        if revision == 0 {
            revision = page.header.map_or(0, |h| h.revision);
        }
        let more = page.more;
        kvs.extend(page.kvs.into_iter().map(|mut kv| {
            etcd.made_plain(&mut kv);
            kv
        }));
        match kvs.last() {
            Some(last) if more => {
                key = last.key.clone();
                key.push(0);
            }
            _ => return Ok((kvs, Revision(revision as u64))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::proto;

    fn kv(key: &str, create: i64, modified: i64) -> KeyValue {
        KeyValue {
            key: format!("/p{key}").into(),
            create_revision: create,
            mod_revision: modified,
            value: format!("v{modified}").into(),
        }
    }

    fn show(events: &[Event]) -> Vec<String> {
        let show = |e: &Event| match &e.change {
            Change::Put { entry, prev } => {
                format!("{} put {} was {:?}", e.revision.0, entry.key, prev.as_ref().map(|p| p.mod_revision.0))
            }
            Change::Delete { prev } => format!("{} delete {} was {}", e.revision.0, prev.key, prev.mod_revision.0),
        };
        events.iter().map(show).collect()
    }

    fn index() -> Index {
        let index = Index::default();
        for (key, revision) in [("/r/a/same", 3), ("/r/a/changed", 4), ("/r/a/gone", 5), ("/r/a/again", 6)] {
            index.load(entry(key.into(), Default::default(), Revision(revision), Revision(revision)));
        }
        index.apply(Vec::new(), Revision(10));
        index
    }

    #[test]
    fn a_listing_becomes_changes_in_order() {
        let listed =
            vec![kv("/r/a/again", 15, 16), kv("/r/a/changed", 4, 12), kv("/r/a/new", 13, 14), kv("/r/a/same", 3, 3)];
        let events = difference(&index(), listed, Revision(20), "/p");
        assert_eq!(
            show(&events),
            [
                "12 put /r/a/changed was Some(4)",
                "14 delete /r/a/again was 6",
                "14 put /r/a/new was None",
                "16 put /r/a/again was None",
                "20 delete /r/a/gone was 5",
            ]
        );
    }

    #[test]
    fn an_answer_of_the_watch_becomes_changes() {
        let event = |r#type: EventType, kv| proto::Event { r#type: r#type as i32, kv: Some(kv) };
        let response = WatchResponse {
            events: vec![
                event(EventType::Put, kv("/r/a/same", 3, 9)),
                event(EventType::Put, kv("/r/a/x", 11, 11)),
                event(EventType::Delete, kv("/r/a/x", 0, 12)),
                event(EventType::Put, kv("/r/a/x", 13, 13)),
            ],
            ..WatchResponse::default()
        };
        let (events, last) = plan(&index(), response, "/p");
        assert_eq!(show(&events), ["11 put /r/a/x was None", "12 delete /r/a/x was 11", "13 put /r/a/x was None"]);
        assert_eq!(last, Revision(13));
        let header = Some(proto::ResponseHeader { cluster_id: 0, revision: 30 });
        let progress = WatchResponse { header: header.clone(), ..WatchResponse::default() };
        assert_eq!(plan(&index(), progress, "/p").1, Revision(30));
        let created = WatchResponse { header, created: true, ..WatchResponse::default() };
        assert_eq!(plan(&index(), created, "/p").1, Revision(10));
    }
}
