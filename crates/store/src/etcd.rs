//! The engine over a real etcd, for clusters of several servers.
//!
//! In: writes, as etcd transactions. Out: the index, filled by one watch of etcd ([`mirror`]). A store revision is
//! etcd's revision. A write is answered when its change has come back through the watch, so that its writer can
//! read it here; [`Store::barrier`] asks etcd for its revision and waits until the index has it.

mod client;
mod mirror;
mod proto;

use crate::contract::*;
use crate::engine::{Engine, Write};
use crate::history::History;
use crate::index::Index;
use async_trait::async_trait;
use bytes::Bytes;
use client::{Client, read_error, write_error};
use parking_lot::Mutex;
use proto::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, PutRequest, RangeRequest, Request, RequestOp, Response,
    TxnRequest, TxnResponse,
};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use stdx::Shutdown;
use tonic::Code;

#[derive(Clone, Debug, Default)]
pub struct EtcdOptions {
    /// `http://host:port` or `https://host:port`.
    pub endpoints: Vec<String>,
    /// PEM of the authority that signed etcd's certificate.
    pub ca: Option<Vec<u8>>,
    /// PEM of the client's certificate and key.
    pub cert: Option<Vec<u8>>,
    pub key: Option<Vec<u8>>,
    /// Put before every key, so that several clusters can share one etcd. Usually empty.
    pub prefix: String,
    /// Encryption of what is written.
    pub transformer: Option<Arc<dyn Transformer>>,
    /// How long history is kept before etcd is asked to drop it, as the Kubernetes API server does; zero: it never is.
    pub history_window: Duration,
}

const HISTORY_REVISIONS_MIN: u64 = 1;
/// When the watch hasn't brought a revision by then, it may have been someone else's key.
const GAP_PATIENCE: Duration = Duration::from_millis(100);
/// A write's change should have come back by then.
const VISIBLE_WITHIN: Duration = Duration::from_secs(30);

/// Connects, reads everything, and begins to follow. [`Error::Unavailable`] when etcd doesn't answer.
pub async fn open(options: EtcdOptions) -> Result<Arc<dyn Store>> {
    let client = Client::new(&options)?;
    let shutdown = Shutdown::new();
    let etcd = Arc::new(Etcd {
        options,
        client,
        index: Arc::default(),
        applying: Mutex::default(),
        leases: tokio::sync::Mutex::default(),
        gap: tokio::sync::Mutex::default(),
        shutdown: shutdown.clone(),
    });
    mirror::first_list(&etcd).await?;
    tokio::spawn(mirror::run(Arc::downgrade(&etcd), shutdown.clone()));
    tokio::spawn(compact_when_old(Arc::downgrade(&etcd), etcd.index.clone(), shutdown));
    Ok(etcd)
}

struct Etcd {
    options: EtcdOptions,
    client: Client,
    index: Arc<Index>,
    /// The index takes changes from one at a time: the mirror, or who found a gap to be empty.
    applying: Mutex<()>,
    leases: tokio::sync::Mutex<Option<Lease>>,
    gap: tokio::sync::Mutex<()>,
    shutdown: Shutdown,
}

/// Shared by keys that are written shortly after each other with the same time to live.
struct Lease {
    id: i64,
    ttl: Duration,
    granted: Instant,
}

impl Etcd {
    fn key(&self, key: &str) -> Vec<u8> {
        format!("{}{key}", self.options.prefix).into_bytes()
    }

    /// All keys that begin with `/`, after the prefix.
    fn range_start(&self) -> Vec<u8> {
        self.key("/")
    }

    fn range_end(&self) -> Vec<u8> {
        // What follows `/` in ASCII.
        self.key("0")
    }

    /// A key is gone, and with it all that its value was stored as.
    fn gone(&self, kv: &proto::KeyValue) {
        if let (Some(t), Ok(key)) = (&self.options.transformer, std::str::from_utf8(&kv.key)) {
            t.settled(key);
        }
    }

    /// A key's value as it came from etcd, made plain.
    fn made_plain(&self, kv: &mut proto::KeyValue) {
        if let (Some(t), Ok(key)) = (&self.options.transformer, std::str::from_utf8(&kv.key)) {
            kv.value = t.open(key, std::mem::take(&mut kv.value).into()).into();
        }
    }

    fn sealed(&self, key: &[u8], value: Bytes) -> Result<Bytes> {
        let Some(t) = &self.options.transformer else { return Ok(value) };
        let sealed = t.seal(&String::from_utf8_lossy(key), &value).map_err(Error::Unavailable)?;
        Ok(sealed.unwrap_or(value))
    }

    fn apply(&self, plan: impl FnOnce(&Index) -> (Vec<Event>, Revision)) {
        let _one = self.applying.lock();
        let (events, visible) = plan(&self.index);
        self.index.apply(events, visible);
    }

    /// Waits until the index has etcd's revision.
    async fn catch_up(&self, revision: Revision) -> Result<()> {
        let whole = async {
            loop {
                if let Ok(result) = tokio::time::timeout(GAP_PATIENCE, self.index.reached(revision)).await {
                    return result;
                }
                self.skip_gap().await;
            }
        };
        match tokio::time::timeout(VISIBLE_WITHIN, whole).await {
            Ok(result) => result,
            Err(_) => Err(Error::Unavailable(format!("etcd's watch did not bring revision {}", revision.0))),
        }
    }

    /// Revisions of keys that aren't ours never come through the watch. Where nothing of ours changed since the
    /// index's revision, the index can take over etcd's.
    ///
    /// etcd's own progress requests would do, but before 3.4.25 and 3.5.8 their answers may overtake changes.
    async fn skip_gap(&self) {
        let _one = self.gap.lock().await;
        let seen = self.index.revision();
        let request = RangeRequest {
            key: self.range_start(),
            range_end: self.range_end(),
            min_mod_revision: seen.0 as i64 + 1,
            keys_only: true,
            limit: 1,
            ..RangeRequest::default()
        };
        let Ok(response) = self.client.range(request).await else {
            return;
        };
        let current = Revision(response.header.map_or(0, |h| h.revision as u64));
        self.apply(|index| {
            // No key is newer, and none is missing: so nothing was put and nothing deleted in between.
            let unchanged =
                index.revision() == seen && response.kvs.is_empty() && response.count as u64 == index.count("/");
            (Vec::new(), if unchanged { current.max(seen) } else { index.revision() })
        });
    }

    async fn lease(&self, ttl: Option<Duration>) -> Result<i64> {
        let Some(ttl) = ttl else { return Ok(0) };
        // As the Kubernetes API server does it: keys may live a little longer, and far fewer leases are needed.
        let shared_for = (ttl / 20).min(Duration::from_secs(60));
        let mut lease = self.leases.lock().await;
        if let Some(lease) = lease.as_ref().filter(|l| l.ttl == ttl && l.granted.elapsed() < shared_for) {
            return Ok(lease.id);
        }
        let granted = Instant::now();
        let seconds = (ttl + shared_for).as_secs_f64().ceil() as i64;
        // No key was written yet, so whatever happened here, nothing has.
        let unavailable = |why: String| Error::Unavailable(format!("etcd: grant a lease: {why}"));
        let grant = self.client.grant(seconds).await.map_err(|s| unavailable(s.message().into()))?;
        if !grant.error.is_empty() {
            return Err(unavailable(grant.error));
        }
        *lease = Some(Lease { id: grant.id, ttl, granted });
        Ok(grant.id)
    }

    async fn commit(&self, key: &str, write: Write) -> Result<(bool, TxnResponse)> {
        let id = self.key(key);
        let put = |value, lease| Request::Put(PutRequest { key: id.clone(), value, lease });
        let delete = Request::DeleteRange(DeleteRangeRequest { key: id.clone(), prev_kv: true });
        let (result, revision, request) = match write {
            Write::Create { value, ttl } => {
                (CompareResult::Equal, Revision(0), put(self.sealed(&id, value)?, self.lease(ttl).await?))
            }
            Write::Update { value, expected, ttl } => {
                (CompareResult::Equal, expected, put(self.sealed(&id, value)?, self.lease(ttl).await?))
            }
            Write::Delete { expected: Some(expected) } => (CompareResult::Equal, expected, delete),
            Write::Delete { expected: None } => (CompareResult::NotEqual, Revision(0), delete),
        };
        let compare = Compare {
            result: result as i32,
            target: CompareTarget::Mod as i32,
            key: id.clone(),
            mod_revision: Some(revision.0 as i64),
        };
        let read = Request::Range(RangeRequest { key: id, ..RangeRequest::default() });
        let is_put = matches!(request, Request::Put(_));
        let txn = TxnRequest {
            compare: vec![compare],
            success: vec![RequestOp { request: Some(request) }],
            failure: vec![RequestOp { request: Some(read) }],
        };
        let response = self.client.txn(txn).await.map_err(|status| {
            if status.code() == Code::NotFound {
                // The lease ran out or was revoked: the next write gets a new one.
                if let Ok(mut lease) = self.leases.try_lock() {
                    *lease = None;
                }
            }
            write_error(&status)
        })?;
        Ok((is_put, response))
    }
}

#[async_trait]
impl Engine for Etcd {
    fn index(&self) -> &Arc<Index> {
        &self.index
    }

    async fn barrier(&self) -> Result<Revision> {
        if self.index.is_closed() {
            return Err(Error::Closed);
        }
        // Linearizable, as all reads are unless they ask not to be.
        let request = RangeRequest { key: self.range_start(), limit: 1, count_only: true, ..RangeRequest::default() };
        let response = self.client.range(request).await.map_err(|s| read_error(&s))?;
        self.catch_up(Revision(response.header.map_or(0, |h| h.revision as u64))).await?;
        Ok(self.index.revision())
    }

    async fn write(&self, key: &str, write: Write) -> Result<Cas> {
        if self.index.is_closed() {
            return Err(Error::Closed);
        }
        // An update to revision 0 would be a creation to etcd.
        if matches!(write, Write::Update { expected: Revision(0), .. } | Write::Delete { expected: Some(Revision(0)) })
        {
            return Ok(Cas::Conflict(self.index.get(key)));
        }
        let (is_put, response) = self.commit(key, write).await?;
        let revision = Revision(response.header.map_or(0, |h| h.revision as u64));
        let unseen = |why: Error| Error::Unknown(format!("it was written at revision {}, but {why}", revision.0));
        let mut kvs = match response.responses.into_iter().next().and_then(|op| op.response) {
            Some(Response::Range(range)) => range.kvs,
            Some(Response::DeleteRange(deleted)) => deleted.prev_kvs,
            _ => Vec::new(),
        };
        let told = kvs.pop().map(|mut kv| {
            self.made_plain(&mut kv);
            mirror::entry_of(kv, key.into())
        });
        if !response.succeeded {
            // Whoever tries again reads from the index, so it must have what made this fail.
            self.catch_up(revision).await?;
            return Ok(Cas::Conflict(told));
        }
        self.catch_up(revision).await.map_err(unseen)?;
        // The index's own entry, so that what is memoized on it is shared.
        let at = if is_put { revision } else { Revision(revision.0 - 1) };
        let ours = self.index.get_at(key, at).ok().flatten();
        match ours.filter(|e| !is_put || e.mod_revision == revision).or(told) {
            Some(entry) => Ok(Cas::Done { entry, revision }),
            None => Err(unseen(Error::Unavailable("it was overwritten and compacted since".into()))),
        }
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        let current = self.index.revision();
        if revision > current {
            return Err(Error::Future { asked: revision, current });
        }
        // The latest state can always be listed.
        let to = revision.0.min(current.0.saturating_sub(1));
        match self.client.compact(to as i64).await {
            Ok(_) => {}
            // Someone else did it already.
            Err(status) if status.code() == Code::OutOfRange => {}
            Err(status) => return Err(read_error(&status)),
        }
        self.index.compact(Revision(to));
        Ok(())
    }

    fn opened(&self, key: &str, stored: Bytes) -> Bytes {
        match &self.options.transformer {
            Some(t) => t.open(&format!("{}{key}", self.options.prefix), stored),
            None => stored,
        }
    }

    /// etcd's disk isn't ours; etcd has its own metrics.
    fn disk_bytes(&self) -> u64 {
        0
    }

    async fn shutdown(&self) {
        self.shutdown.cancel();
        self.index.close();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.index.close();
    }
}

/// Asks etcd to drop what is older than the window, or too much, and drops it from the index. Sleeps while nothing changes.
async fn compact_when_old(etcd: Weak<Etcd>, index: Arc<Index>, shutdown: Shutdown) {
    let window = etcd.upgrade().map_or(Duration::ZERO, |e| e.options.history_window);
    let mut history = History::new(window, HISTORY_REVISIONS_MIN, crate::history::BYTES_MAX);
    loop {
        let current = index.revision();
        let wake = history.look(Instant::now(), current, index.superseded_bytes());
        if let Some(to) = wake.compact_to.filter(|to| *to > index.compacted()) {
            let Some(etcd) = etcd.upgrade() else { return };
            if let Err(error) = Engine::compact(&*etcd, to).await {
                tracing::warn!(%error, "failed to compact etcd; history stays longer");
            }
        }
        // A flood of changes is noticed within a second.
        let flood = async {
            let _ = index.reached(Revision(current.0 + 1)).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        let next = async {
            match wake.next {
                Some(at) => tokio::select! { () = tokio::time::sleep_until(at.into()) => {} () = flood => {} },
                None => drop(index.reached(Revision(current.0 + 1)).await),
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = next => {}
        }
    }
}
