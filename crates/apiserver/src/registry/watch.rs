//! WATCH: a cursor over the store's history, filtered and framed for one client.
//!
//! Nothing is queued for a watcher: a slow client reads late, and when history has been compacted away under
//! it, it gets an ERROR event with 410 and lists again. Source: API concepts, "Efficient detection of changes".

use super::in_step::{Member, Span};
use super::selection::Selection;
use super::view::{Item, View};
use super::{Answer, Call, get, list, parse_version, store_error};
use crate::accept::Shape;
use api::catalogue::Resource;
use bytes::Bytes;
use meta::selector::FieldSelector;
use meta::status::{Result, Status};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use store::{Change, Event, Revision, Watcher};
use tokio::time::{Instant, Sleep};

/// What one frame tells.
pub enum Frame {
    Added(Item),
    Modified(Item),
    /// The last version, with the revision of its deletion.
    Deleted(Item, Revision),
    /// `initial`: ends the initial events of a streaming list.
    Bookmark {
        revision: Revision,
        initial: bool,
    },
    Error(Status),
}

/// What a client is told next.
pub enum Told {
    /// To be encoded. Where they are all frames of a piece of history, the bytes may be left to others there.
    Frames(Vec<Frame>, Option<Span>),
    /// What another watcher had encoded.
    Encoded(Bytes),
}

/// An open watch.
pub struct Stream {
    view: View,
    /// Ends a watch of a custom resource whose definition has changed: its client lists again, under the new one.
    redefined: Option<tokio::sync::watch::Receiver<u64>>,
    selection: Selection,
    /// `None` when the watch has ended.
    watcher: Option<Box<dyn Watcher>>,
    /// Initial events and how a watch ends, which aren't anybody else's.
    ready: VecDeque<Frame>,
    /// Those who are told the same bytes; `None` where the form depends on what was told before.
    others: Option<Member>,
    bookmarks: bool,
    /// The revision that the client has been told of, or asked to begin behind.
    told: Revision,
    /// Nothing is told before, see [`Member::rest`].
    rests_until: Option<Instant>,
    next_bookmark: Instant,
    deadline: Instant,
    /// Goes off at the earlier of both. Kept from one frame to the next: a new timer for each would cost more than the frame.
    timer: Pin<Box<Sleep>>,
}

const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// A last bookmark comes so long before the end, so that the next watch begins there.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// A watch that names no time of its own lasts this long, seconds, and up to as much again, so that watches don't end
/// in step (upstream's `--min-request-timeout`).
const LASTS_SECONDS: u64 = 1800;
/// Bytes of objects framed at once, roughly.
const BATCH_BYTES: usize = 256 * 1024;

pub async fn watch(mut call: Call<'_>) -> Result<(Answer, Vec<String>)> {
    // A watch of one named object is a watch with that name as its field selector.
    if !call.info.name.is_empty() {
        match call.options.field_selector.as_str() {
            "" => call.options.field_selector = format!("metadata.name={}", call.info.name),
            other => {
                let selected = FieldSelector::parse(other).map_err(Status::bad_request)?;
                if selected.exact("metadata.name") != Some(call.info.name.as_str()) {
                    return Err(Status::bad_request("fieldSelector metadata.name doesn't match requested name"));
                }
            }
        }
    }
    call.options.watch = true;
    call.options.check_list()?;
    let o = &call.options;
    let selection = Selection::parse(&call.row, &o.label_selector, &o.field_selector)?;
    let asked = parse_version(&o.resource_version)?;
    let now = Instant::now();
    let deadline = match o.timeout_seconds {
        None | Some(0) => now + Duration::from_secs(LASTS_SECONDS + rand::random_range(0..LASTS_SECONDS)),
        Some(n) => now + Duration::from_secs(u64::try_from(n).unwrap_or(0).min(86_400 * 365)),
    };
    let mut stream = Stream {
        redefined: call.row.custom.as_ref().map(|d| call.registry.custom.redefined(d)),
        view: call.view(),
        selection,
        watcher: None,
        ready: VecDeque::new(),
        others: None,
        bookmarks: o.allow_watch_bookmarks,
        told: Revision(0),
        rests_until: None,
        next_bookmark: next_bookmark(now, deadline),
        deadline,
        timer: Box::pin(tokio::time::sleep_until(deadline)),
    };
    // What is wrong with the place where the watch is to begin is told by the watch itself, as in upstream: clients
    // get one answer for a revision that is gone, whether it went before or during the watch.
    if let Err(status) = begin(&mut stream, &call, asked).await {
        stream.ready = VecDeque::from([Frame::Error(status)]);
        stream.watcher = None;
    }
    if !matches!(call.accept.shape, Shape::Table { .. }) {
        stream.others = Some(call.registry.watching.join(form(&call)));
    }
    Ok((Answer::Watch(Box::new(stream)), std::mem::take(&mut call.warnings)))
}

/// Takes the initial state where it is asked for, and follows from there.
async fn begin(stream: &mut Stream, call: &Call<'_>, asked: Option<u64>) -> Result<()> {
    let o = &call.options;
    let store = &call.registry.store;
    let initial =
        o.send_initial_events == Some(true) || (o.send_initial_events.is_none() && matches!(asked, None | Some(0)));
    let after = if initial {
        match asked {
            None => {
                store.barrier().await.map_err(store_error)?;
            }
            Some(0) => {}
            Some(v) => get::wait_for(store.as_ref(), v).await?,
        }
        let listing = list::current(call, &stream.selection).await?;
        stream.ready.extend(listing.items.into_iter().map(Frame::Added));
        if o.send_initial_events == Some(true) && o.allow_watch_bookmarks {
            stream.ready.push_back(Frame::Bookmark { revision: listing.revision, initial: true });
        }
        listing.revision
    } else {
        match asked {
            None | Some(0) => store.revision(),
            Some(v) => Revision(v),
        }
    };
    let single = stream.selection.single_name().filter(|_| !call.row.namespaced || !call.scope().is_empty());
    let prefix = match single {
        Some(name) => call.key(name),
        None => call.prefix(),
    };
    // A revision that is yet to come is waited for.
    let from = after.min(store.revision());
    stream.watcher = Some(store.watch(&prefix, from).map_err(|e| match e {
        store::Error::Compacted { asked, compacted } => too_old(asked, compacted),
        e => store_error(e),
    })?);
    stream.told = after;
    Ok(())
}

/// All that the bytes of a watch depend on, but for the history.
fn form(call: &Call<'_>) -> String {
    let (o, row) = (&call.options, &call.row);
    let definition = row.custom.as_ref().map(|d| d.serial);
    let selected = (&o.label_selector, &o.field_selector);
    format!("{} {} {} {definition:?} {selected:?} {:?}", call.prefix(), row.api_version(), row.plural, call.accept)
}

fn too_old(asked: Revision, compacted: Revision) -> Status {
    Status::expired(format!("too old resource version: {} ({})", asked.0, compacted.0))
}

fn next_bookmark(now: Instant, deadline: Instant) -> Instant {
    let regular = now + BOOKMARK_INTERVAL;
    match deadline.checked_sub(BOOKMARK_BEFORE_END) {
        Some(last) if last > now => last.min(regular),
        _ => regular,
    }
}

impl Stream {
    pub fn row(&self) -> &Arc<Resource> {
        &self.view.row
    }

    /// What comes next; `None` when the watch has ended.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            if !self.ready.is_empty() {
                return Some(Told::Frames(self.some_ready(), None));
            }
            let watcher = self.watcher.as_mut()?;
            if let Some(until) = self.rests_until.take() {
                self.timer.as_mut().reset(until);
                self.timer.as_mut().await;
            }
            let due = if self.bookmarks { self.next_bookmark.min(self.deadline) } else { self.deadline };
            if self.timer.deadline() != due {
                self.timer.as_mut().reset(due);
            }
            tokio::select! {
                biased;
                news = watcher.ready() => {
                    if news.is_ok() && let Some((last, frames)) = self.others.as_ref().and_then(|o| o.find(self.told)) {
                        watcher.pass(last);
                        self.told = last;
                        if !frames.is_empty() {
                            self.rest(frames.len());
                            return Some(Told::Encoded(frames));
                        }
                        continue;
                    }
                    match news.and_then(|()| watcher.take(BATCH_BYTES)) {
                        Ok(events) => {
                            if let Some(told) = self.tell(events).await {
                                return Some(told);
                            }
                        }
                        Err(store::Error::Compacted { asked, compacted }) => {
                            self.watcher = None;
                            self.ready.push_back(Frame::Error(too_old(asked, compacted)));
                        }
                        Err(_) => self.watcher = None,
                    }
                }
                _ = redefinition(&mut self.redefined) => self.watcher = None,
                _ = self.timer.as_mut() => {
                    let position = watcher.position();
                    let now = Instant::now();
                    // None at the very end, as in upstream: the last one came shortly before.
                    if self.bookmarks && now < self.deadline && position > self.told {
                        self.told = position;
                        self.ready.push_back(Frame::Bookmark { revision: position, initial: false });
                    }
                    self.next_bookmark = next_bookmark(now, self.deadline);
                    if now >= self.deadline {
                        self.watcher = None;
                    }
                }
            }
        }
    }

    /// What the client is to know of changes; `None` when that is nothing.
    async fn tell(&mut self, events: Vec<Event>) -> Option<Told> {
        let (after, mut frames, mut first) = (self.told, Vec::with_capacity(events.len()), None);
        // Of a watch that begins at a revision to come, some may be of no concern.
        for e in events.into_iter().filter(|e| e.revision > after) {
            first.get_or_insert(e.revision);
            self.told = e.revision;
            match frame(&self.view, &self.selection, e).await {
                Ok(f) => frames.extend(f),
                Err(s) => {
                    self.watcher = None;
                    frames.push(Frame::Error(s));
                    return Some(Told::Frames(frames, None));
                }
            }
        }
        let span = Span { after, first: first?, last: self.told };
        if frames.is_empty() {
            self.leave(span, Bytes::new());
            return None;
        }
        self.rest(frames.iter().map(Frame::size).sum());
        Some(Told::Frames(frames, Some(span)))
    }

    fn rest(&mut self, told_bytes: usize) {
        self.rests_until = self.others.as_ref().and_then(|o| o.rest(told_bytes)).map(|rest| Instant::now() + rest);
    }

    /// Leaves bytes to those who will be told the same.
    pub fn leave(&self, span: Span, frames: Bytes) {
        if let Some(others) = &self.others {
            others.leave(span, frames);
        }
    }

    /// As many frames as are worth a chunk.
    fn some_ready(&mut self) -> Vec<Frame> {
        let mut bytes = 0;
        let full = self.ready.iter().position(|f| {
            bytes += f.size();
            bytes >= BATCH_BYTES
        });
        let n = full.map_or(self.ready.len(), |i| i + 1);
        self.ready.drain(..n).collect()
    }
}

/// How a change looks through the selector: leaving it is a deletion, entering it an addition.
async fn frame(view: &View, selection: &Selection, event: Event) -> Result<Option<Frame>> {
    let matches = |i: &Item| selection.is_all() || selection.matches(&i.facets(&view.row));
    Ok(match event.change {
        Change::Put { entry, prev } => {
            let item = view.see_one(entry).await?;
            // What was before matters only where not everything is looked at.
            let prev = match prev {
                Some(p) if !selection.is_all() => Some(view.see_one(p).await?),
                Some(_) => return Ok(Some(Frame::Modified(item))),
                None => None,
            };
            match (prev.filter(matches), matches(&item)) {
                (Some(_), true) => Some(Frame::Modified(item)),
                (None, true) => Some(Frame::Added(item)),
                // The object as the client knew it, at the revision at which it left.
                (Some(before), false) => Some(Frame::Deleted(before, event.revision)),
                (None, false) => None,
            }
        }
        Change::Delete { prev } => {
            let item = view.see_one(prev).await?;
            matches(&item).then_some(Frame::Deleted(item, event.revision))
        }
    })
}

/// Resolves when the definition has changed; never for built-in kinds.
async fn redefinition(receiver: &mut Option<tokio::sync::watch::Receiver<u64>>) {
    match receiver {
        Some(r) => {
            let _ = r.wait_for(|gone| *gone != 0).await;
        }
        None => std::future::pending().await,
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

    /// Bytes of its object, about.
    pub fn size(&self) -> usize {
        self.item().map_or(256, Item::size)
    }

    fn item(&self) -> Option<&Item> {
        match self {
            Frame::Added(i) | Frame::Modified(i) | Frame::Deleted(i, _) => Some(i),
            Frame::Bookmark { .. } | Frame::Error(_) => None,
        }
    }

    /// The frame's object in the row's version.
    pub fn object(&self, row: &Resource) -> Value {
        match self {
            Frame::Added(i) | Frame::Modified(i) => i.object(),
            Frame::Deleted(i, revision) => i.object_at(*revision),
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

#[cfg(test)]
mod tests {
    use super::*;
    use store::{Cas, STRIDE, Store};

    async fn following(store: &Arc<dyn Store>, deadline: Duration, bookmarks: bool) -> Stream {
        let rows = api::catalogue::builtin();
        let row = rows.iter().find(|r| r.plural == "configmaps").unwrap().clone();
        let now = Instant::now();
        Stream {
            view: View::plain(&row, store),
            redefined: None,
            selection: Selection::parse(&row, "", "").unwrap(),
            watcher: Some(store.watch("/registry/configmaps/", store.revision()).unwrap()),
            ready: VecDeque::new(),
            others: None,
            bookmarks,
            told: store.revision(),
            rests_until: None,
            next_bookmark: next_bookmark(now, now + deadline),
            deadline: now + deadline,
            timer: Box::pin(tokio::time::sleep_until(now + deadline)),
        }
    }

    fn frames(told: Option<Told>) -> Option<Vec<Frame>> {
        match told? {
            Told::Frames(frames, _) => Some(frames),
            Told::Encoded(_) => panic!("there is nobody else"),
        }
    }

    async fn write(store: &Arc<dyn Store>, times: usize) {
        let key = "/registry/configmaps/a/m";
        let bytes =
            bytes::Bytes::from_static(b"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"m\"}}");
        let mut at = store.get(key).map(|e| e.mod_revision);
        for _ in 0..times {
            let done = match at {
                None => store.create(key, bytes.clone(), None).await,
                Some(at) => store.update(key, bytes.clone(), at, None).await,
            };
            let Ok(Cas::Done { revision, .. }) = done else { panic!("{done:?}") };
            at = Some(revision);
        }
    }

    #[tokio::test]
    async fn a_client_that_reads_late_gets_all_of_it_in_pieces() {
        let store = store::memory::open();
        let mut stream = following(&store, Duration::from_secs(60), false).await;
        const EVENTS: usize = 10_000;
        write(&store, EVENTS).await;
        assert_eq!(stream.ready.len(), 0, "nothing is queued for it");
        let (mut seen, mut last) = (0, Revision(0));
        while seen < EVENTS {
            let frames = frames(stream.next().await).unwrap();
            assert!(frames.len() <= STRIDE as usize);
            for f in &frames {
                let revision = f.item().unwrap().entry.mod_revision;
                assert!(revision > last);
                last = revision;
            }
            seen += frames.len();
            assert!(stream.ready.len() <= STRIDE as usize);
        }
    }

    #[tokio::test]
    async fn watchers_in_step_are_told_what_one_of_them_had_encoded() {
        let store = store::memory::open();
        let groups = super::super::in_step::Groups::default();
        let (mut one, mut two) = (
            following(&store, Duration::from_secs(60), false).await,
            following(&store, Duration::from_secs(60), false).await,
        );
        for stream in [&mut one, &mut two] {
            stream.others = Some(groups.join("configmaps".into()));
        }
        write(&store, 3).await;
        let Some(Told::Frames(all, Some(span))) = one.next().await else { panic!("nobody was before it") };
        assert_eq!((all.len(), span), (3, Span { after: Revision(0), first: Revision(1), last: Revision(3) }));
        one.leave(span, Bytes::from_static(b"three"));
        let Some(Told::Encoded(bytes)) = two.next().await else { panic!("it is there") };
        assert_eq!(bytes, "three");
        // Both are at the same place now, whoever comes first.
        write(&store, 1).await;
        let Some(Told::Frames(_, Some(span))) = two.next().await else { panic!("one change") };
        two.leave(span, Bytes::from_static(b"the fourth"));
        let Some(Told::Encoded(bytes)) = one.next().await else { panic!("it is there") };
        assert_eq!((bytes, one.told, two.told), (Bytes::from_static(b"the fourth"), Revision(4), Revision(4)));
    }

    /// What a client of [`no_change_is_left_out_or_told_twice`] was told: revisions.
    struct Client {
        stream: Stream,
        from: Revision,
        /// Of the one object that it looks at; empty: of all.
        name: &'static str,
        seen: Vec<u64>,
    }

    impl Client {
        async fn new(store: &Arc<dyn Store>, groups: &super::super::in_step::Groups, name: &'static str) -> Client {
            let mut stream = following(store, Duration::from_secs(600), false).await;
            if !name.is_empty() {
                stream.selection = Selection::parse(&stream.view.row, "", &format!("metadata.name={name}")).unwrap();
            }
            stream.others = Some(groups.join(name.into()));
            Client { from: stream.told, stream, name, seen: Vec::new() }
        }

        /// False: there is nothing for it now.
        fn hears(&mut self) -> bool {
            let bytes = match futures::FutureExt::now_or_never(self.stream.next()) {
                None => return false,
                Some(None) => panic!("the watch has ended"),
                Some(Some(Told::Encoded(bytes))) => bytes,
                Some(Some(Told::Frames(frames, span))) => {
                    let revision = |f: &Frame| format!("{} ", f.item().unwrap().entry.mod_revision.0);
                    let bytes = Bytes::from(frames.iter().map(revision).collect::<String>());
                    self.stream.leave(span.unwrap(), bytes.clone());
                    bytes
                }
            };
            let text = std::str::from_utf8(&bytes).unwrap();
            self.seen.extend(text.split_whitespace().map(|r| r.parse::<u64>().unwrap()));
            true
        }
    }

    /// Whoever is ahead, behind or new, and whatever of it others had encoded.
    #[tokio::test]
    async fn no_change_is_left_out_or_told_twice() {
        let store = store::memory::open();
        let groups = super::super::in_step::Groups::default();
        // A generator of its own, so that a failure can be repeated.
        let mut state = 7u64;
        let mut random = move |n: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % n
        };
        let mut written: Vec<(u64, &str)> = Vec::new();
        let mut clients = Vec::new();
        for i in 0..12 {
            clients.push(Client::new(&store, &groups, ["", "", "m"][i % 3]).await);
        }
        for _ in 0..4_000 {
            let any = random(clients.len() as u64) as usize;
            match random(20) {
                0..4 => {
                    for _ in 0..=random(40) {
                        let (kind, name) =
                            [("configmaps", "m"), ("configmaps", "n"), ("pods", "p")][random(3) as usize];
                        let key = format!("/registry/{kind}/a/{name}");
                        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
                        let bytes = Bytes::from(object.to_string());
                        let done = match store.get(&key) {
                            None => store.create(&key, bytes, None).await,
                            Some(e) => store.update(&key, bytes, e.mod_revision, None).await,
                        };
                        let Ok(Cas::Done { revision, .. }) = done else { panic!("{done:?}") };
                        if kind == "configmaps" {
                            written.push((revision.0, name));
                        }
                    }
                }
                4 => clients[any] = Client::new(&store, &groups, clients[any].name).await,
                _ => drop(clients[any].hears()),
            }
        }
        for mut client in clients {
            while client.hears() {}
            let mine = written.iter().filter(|(r, name)| *r > client.from.0 && [*name, ""].contains(&client.name));
            assert_eq!(client.seen, mine.map(|w| w.0).collect::<Vec<_>>(), "{:?} from {:?}", client.name, client.from);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn members_of_a_large_group_rest_after_they_were_told_much() {
        let store = store::memory::open();
        let groups = super::super::in_step::Groups::default();
        let mut stream = following(&store, Duration::from_secs(60), false).await;
        for (others, changes, want) in [(1, 50, [0, 0]), (100_000, 1, [0, 0]), (100_000, 50, [0, 100])] {
            let _others: Vec<Member> = (0..others).map(|_| groups.join(others.to_string())).collect();
            stream.others = Some(groups.join(others.to_string()));
            // Whoever has rested long enough is told at once.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut waits = Vec::new();
            for _ in 0..2 {
                write(&store, changes).await;
                let began = Instant::now();
                let told = stream.told;
                while stream.told.0 < told.0 + changes as u64 {
                    assert!(stream.next().await.is_some());
                }
                waits.push(began.elapsed().as_millis());
            }
            assert_eq!(waits, want, "{others} others, {changes} changes at once");
        }
    }

    #[tokio::test]
    async fn a_client_that_reads_too_late_is_told_so_and_left() {
        let store = store::memory::open();
        let mut stream = following(&store, Duration::from_secs(60), false).await;
        write(&store, 2_000).await;
        store.compact(Revision(1_000)).await.unwrap();
        let frames = frames(stream.next().await).unwrap();
        let [Frame::Error(status)] = frames.as_slice() else { panic!("{} frames", frames.len()) };
        assert_eq!((status.code, status.reason), (410, "Expired"));
        assert!(status.message.starts_with("too old resource version: 0 ("), "{}", status.message);
        assert!(stream.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn bookmarks_come_by_the_minute_and_before_the_end() {
        let store = store::memory::open();
        let mut stream = following(&store, Duration::from_secs(150), true).await;
        let began = Instant::now();
        let mut told = Vec::new();
        // Changes elsewhere, and none of them any more after the first.
        store.create("/registry/secrets/a/s", bytes::Bytes::from_static(b"{}"), None).await.unwrap();
        let mut more = 0;
        while let Some(frames) = frames(stream.next().await) {
            for f in frames {
                let Frame::Bookmark { revision, initial: false } = f else { panic!("{}", f.kind()) };
                told.push((began.elapsed().as_secs(), revision.0));
            }
            more += 1;
            store.create(&format!("/registry/secrets/a/{more}"), bytes::Bytes::from_static(b"{}"), None).await.unwrap();
        }
        assert_eq!(told, [(60, 1), (120, 2), (148, 3)]);
        assert_eq!(began.elapsed().as_secs(), 150);
    }
}
