//! WATCH: a cursor over the store's history, filtered and framed for one client.
//!
//! Nothing is queued for a watcher: a slow client reads late, and when history has been compacted away under
//! it, it gets an ERROR event with 410 and lists again. Source: API concepts, "Efficient detection of changes".

use super::selection::Selection;
use super::stored::{self, Facets};
use super::{Answer, Call, get, list, parse_version, store_error};
use api::catalogue::Resource;
use meta::status::{Result, Status};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use store::{Change, Entry, Event, Revision, Watcher};
use tokio::time::Instant;

/// What one frame tells.
pub enum Frame {
    Added(Entry),
    Modified(Entry),
    /// The last version, with the revision of its deletion.
    Deleted(Entry, Revision),
    /// `initial`: ends the initial events of a streaming list.
    Bookmark {
        revision: Revision,
        initial: bool,
    },
    Error(Status),
}

/// An open watch.
pub struct Stream {
    row: Arc<Resource>,
    storage: Arc<Resource>,
    selection: Selection,
    watcher: Box<dyn Watcher>,
    ready: VecDeque<Frame>,
    bookmarks: bool,
    /// The revision that the client has been told of.
    told: Revision,
    next_bookmark: Instant,
    deadline: Instant,
    finished: bool,
}

const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// Events taken from the history at once.
const BATCH: usize = 256;

pub async fn watch(mut call: Call<'_>) -> Result<(Answer, Vec<String>)> {
    // A watch of one named object is a watch with that name as its field selector.
    if !call.info.name.is_empty() {
        let term = format!("metadata.name={}", call.info.name);
        call.options.field_selector = match call.options.field_selector.as_str() {
            "" => term,
            other => format!("{other},{term}"),
        };
    }
    call.options.watch = true;
    call.options.check_list()?;
    let o = &call.options;
    let selection = Selection::parse(&call.row, &o.label_selector, &o.field_selector)?;
    let store = call.registry.store.clone();
    let asked = parse_version(&o.resource_version)?;
    let initial =
        o.send_initial_events == Some(true) || (o.send_initial_events.is_none() && matches!(asked, None | Some(0)));

    let mut ready = VecDeque::new();
    let after = if initial {
        match asked {
            None => {
                store.barrier().await.map_err(store_error)?;
            }
            Some(0) => {}
            Some(v) => get::wait_for(store.as_ref(), v).await?,
        }
        let mut snapshot = o.clone();
        snapshot.watch = false;
        snapshot.send_initial_events = None;
        snapshot.resource_version_match = None;
        snapshot.resource_version = "0".into();
        snapshot.limit = 0;
        snapshot.continue_token = String::new();
        let listing = list::select(&Call {
            registry: call.registry,
            row: call.row.clone(),
            info: call.info,
            user: call.user,
            options: snapshot,
            accept: call.accept.clone(),
            user_agent: call.user_agent,
            warnings: Vec::new(),
            audit: call.audit,
            told: call.told.clone(),
            internal: call.internal,
        })
        .await?;
        ready.extend(listing.entries.into_iter().map(Frame::Added));
        if o.send_initial_events == Some(true) && o.allow_watch_bookmarks {
            ready.push_back(Frame::Bookmark { revision: listing.revision, initial: true });
        }
        listing.revision
    } else {
        match asked {
            None | Some(0) => store.revision(),
            Some(v) => {
                get::wait_for(store.as_ref(), v).await?;
                Revision(v)
            }
        }
    };

    let single = selection.single_name().filter(|_| !call.row.namespaced || !call.scope().is_empty());
    let prefix = match single {
        Some(name) => call.key(name),
        None => call.prefix(),
    };
    let watcher = store.watch(&prefix, after).map_err(|e| match e {
        store::Error::Compacted { asked, compacted } => too_old(asked, compacted),
        e => store_error(e),
    })?;
    let now = Instant::now();
    // Upstream picks 30 to 60 minutes when the client names none, so that watches don't end in step.
    let seconds = o.timeout_seconds.filter(|s| *s > 0).unwrap_or_else(|| 1800 + rand::random_range(0..1800));
    let stream = Stream {
        storage: call.storage_row(),
        row: call.row.clone(),
        selection,
        watcher,
        ready,
        bookmarks: o.allow_watch_bookmarks,
        told: after,
        next_bookmark: now + BOOKMARK_INTERVAL,
        deadline: now + Duration::from_secs(seconds.min(86_400 * 365)),
        finished: false,
    };
    Ok((Answer::Watch(Box::new(stream)), call.warnings))
}

fn too_old(asked: Revision, compacted: Revision) -> Status {
    Status::expired(format!("too old resource version: {} ({})", asked.0, compacted.0 + 1))
}

impl Stream {
    pub fn row(&self) -> &Arc<Resource> {
        &self.row
    }

    pub fn storage(&self) -> &Arc<Resource> {
        &self.storage
    }

    /// The next frames; `None` when the watch has ended.
    pub async fn next(&mut self) -> Option<Vec<Frame>> {
        loop {
            if !self.ready.is_empty() {
                return Some(self.ready.drain(..).collect());
            }
            if self.finished {
                return None;
            }
            let bookmark_at = if self.bookmarks { self.next_bookmark } else { self.deadline };
            tokio::select! {
                biased;
                got = self.watcher.next(BATCH) => match got {
                    Ok(events) => {
                        for e in events {
                            self.told = e.revision;
                            if let Some(f) = self.frame(e) {
                                self.ready.push_back(f);
                            }
                        }
                    }
                    Err(store::Error::Compacted { asked, compacted }) => {
                        self.finished = true;
                        self.ready.push_back(Frame::Error(too_old(asked, compacted)));
                    }
                    Err(_) => self.finished = true,
                },
                _ = tokio::time::sleep_until(bookmark_at.min(self.deadline)) => {
                    let position = self.watcher.position();
                    if self.bookmarks && position > self.told {
                        self.told = position;
                        self.ready.push_back(Frame::Bookmark { revision: position, initial: false });
                    }
                    self.next_bookmark = Instant::now() + BOOKMARK_INTERVAL;
                    if Instant::now() >= self.deadline {
                        self.finished = true;
                    }
                }
            }
        }
    }

    /// How a change looks through the selector: leaving it is a deletion, entering it an addition.
    fn frame(&self, event: Event) -> Option<Frame> {
        let matches =
            |e: &Entry| self.selection.is_all() || self.selection.matches(&Facets::stored(&self.row, &self.storage, e));
        match event.change {
            Change::Put { entry, prev } => {
                let before = prev.as_ref().is_some_and(matches);
                match (before, matches(&entry)) {
                    (true, true) => Some(Frame::Modified(entry)),
                    (false, true) => Some(Frame::Added(entry)),
                    // The object as it is now, so that the client sees why it left.
                    (true, false) => prev.map(|p| Frame::Deleted(p, event.revision)),
                    (false, false) => None,
                }
            }
            Change::Delete { prev } => matches(&prev).then_some(Frame::Deleted(prev, event.revision)),
        }
    }
}

impl Frame {
    pub fn kind(&self) -> &'static str {
        match self {
            Frame::Added(_) => "ADDED",
            Frame::Modified(_) => "MODIFIED",
            Frame::Deleted(..) => "DELETED",
            Frame::Bookmark { .. } => "BOOKMARK",
            Frame::Error(_) => "ERROR",
        }
    }

    /// The frame's object in the row's version.
    pub fn object(&self, row: &Resource, storage: &Resource) -> Value {
        match self {
            Frame::Added(e) | Frame::Modified(e) => stored::decode_as(row, e, storage),
            Frame::Deleted(e, revision) => {
                let v = stored::decode_at(e, *revision);
                if stored::is_storage(row) { v } else { api::convert::to(&v, storage, row) }
            }
            Frame::Bookmark { revision, initial } => {
                let mut v = json!({
                    "apiVersion": row.api_version(), "kind": row.kind,
                    "metadata": {"resourceVersion": revision.0.to_string()},
                });
                if *initial {
                    v["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
                }
                v
            }
            Frame::Error(s) => s.to_value(),
        }
    }
}
