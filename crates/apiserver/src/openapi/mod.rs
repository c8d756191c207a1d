//! OpenAPI documents: v2 (`/openapi/v2`, JSON and protobuf) and v3 (`/openapi/v3`, a document per group version).
//!
//! In: the rows of the catalogue. Out: bytes with an ETag, built at the first request and kept until a row of
//! theirs changes or nobody has asked for a while (together they are some ten MB). `kubectl explain`, client-side apply, diff and validation go by these.
//!
//! * [`definitions`]: types as schemas.
//! * [`convert`]: v2 documents of others as v3.
//! * [`custom`]: what custom resources say of themselves.
//! * [`descriptions`]: what types and fields are for.
//! * [`paths`]: rows as operations.
//! * [`gnostic`]: the v2 document as protobuf.
//! * [`pieces`]: documents in the making.

mod convert;
mod custom;
mod definitions;
mod descriptions;
mod gnostic;
mod paths;
mod pieces;

pub use convert::v2_to_v3;
pub use descriptions::of_column;

use api::catalogue::Resource;
use bytes::Bytes;
use definitions::{Definitions, Flavor};
use meta::status::Result;
use parking_lot::Mutex;
use pieces::{Form, Pieces};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

const JSON: &str = "application/json";
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// A document, ready to send.
#[derive(Clone, Debug)]
pub struct Document {
    pub content_type: &'static str,
    pub body: Bytes,
    /// Without quotes.
    pub etag: String,
}

impl Document {
    pub fn new(content_type: &'static str, body: Vec<u8>) -> Document {
        Document { content_type, etag: etag(&body), body: body.into() }
    }
}

/// Hash of a body, in upper-case hex.
pub fn etag(body: &[u8]) -> String {
    hex::encode_upper(Sha256::digest(body))
}

/// How long a document stays in memory after it was asked for. Clients keep what they got by its ETag, and building
/// one anew takes some ten milliseconds.
const IDLE: Duration = Duration::from_secs(30);

/// A document, and what it was made from.
struct Cached {
    /// Not kept alive by this: a document whose rows went is of no use to anybody.
    rows: Vec<Weak<Resource>>,
    /// Says which documents of extension servers are in it.
    others: String,
    etag: String,
    /// `None`: nobody has asked for it for [`IDLE`].
    document: Option<Document>,
    used: Instant,
}

impl Cached {
    fn fits(&self, rows: &[Arc<Resource>], others: &str) -> bool {
        let same = |(a, b): (&Weak<Resource>, &Arc<Resource>)| std::ptr::eq(a.as_ptr(), Arc::as_ptr(b));
        self.others == others && self.rows.len() == rows.len() && self.rows.iter().zip(rows).all(same)
    }

    /// Some of its rows exist no more, so nobody will ask for it in this form again.
    fn is_past(&self) -> bool {
        self.rows.iter().any(|r| r.strong_count() == 0)
    }
}

/// Documents by path. Holds what has been asked for lately.
#[derive(Default, Clone)]
pub struct Cache(Arc<Mutex<Documents>>);

#[derive(Default)]
struct Documents {
    by_path: HashMap<String, Cached>,
    /// A task waits to forget what nobody asks for.
    forgetting: bool,
}

impl Cache {
    /// The document of a path, built unless it is there and still true.
    fn get(&self, path: &str, rows: &[Arc<Resource>], others: &str, build: impl FnOnce() -> Document) -> Document {
        if let Some(c) = self.0.lock().by_path.get_mut(path)
            && c.fits(rows, others)
            && let Some(document) = &c.document
        {
            c.used = Instant::now();
            return document.clone();
        }
        let document = build();
        let cached = Cached {
            rows: rows.iter().map(Arc::downgrade).collect(),
            others: others.to_string(),
            etag: document.etag.clone(),
            document: Some(document.clone()),
            used: Instant::now(),
        };
        let mut documents = self.0.lock();
        documents.by_path.retain(|_, c| !c.is_past());
        documents.by_path.insert(path.to_string(), cached);
        if !documents.forgetting
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            documents.forgetting = true;
            let cache = self.clone();
            runtime.spawn(async move {
                while cache.forget(IDLE) {
                    tokio::time::sleep(IDLE).await;
                }
            });
        }
        document
    }

    /// The hash of a path's document, which is known longer than the document is held.
    fn etag(&self, path: &str, rows: &[Arc<Resource>], build: impl FnOnce() -> Document) -> String {
        if let Some(c) = self.0.lock().by_path.get(path)
            && c.fits(rows, "")
        {
            return c.etag.clone();
        }
        self.get(path, rows, "", build).etag
    }

    /// Drops documents that nobody has asked for that long, and all there is of those whose rows went; `false`: no
    /// document is left.
    fn forget(&self, idle: Duration) -> bool {
        let mut documents = self.0.lock();
        documents.by_path.retain(|_, c| !c.is_past());
        for c in documents.by_path.values_mut().filter(|c| c.used.elapsed() >= idle) {
            c.document = None;
        }
        documents.forgetting = documents.by_path.values().any(|c| c.document.is_some());
        documents.forgetting
    }
}

/// `/openapi/v2`, as protobuf where the client asks for that.
/// `others` is what extension servers serve, and a text that changes when that does.
pub fn v2(
    cache: &Cache,
    rows: &[Arc<Resource>],
    accept: &str,
    (others, parts): &(String, Vec<Arc<Value>>),
) -> Result<Document> {
    let protobuf = accept.split(',').any(|r| {
        let media_type = r.split(';').next().unwrap_or("").trim();
        media_type == V2_PROTOBUF || media_type == "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    });
    Ok(if protobuf {
        cache.get("v2.pb", rows, others, || build_v2(rows, parts, Form::Protobuf))
    } else {
        cache.get("v2", rows, others, || build_v2(rows, parts, Form::Json))
    })
}

/// `/openapi/v3`: where each document is, with a hash that changes when the document does.
pub fn v3_index(cache: &Cache, rows: &[Arc<Resource>]) -> Document {
    cache.get("v3", rows, "", || {
        let paths: Map<String, Value> = documents(rows)
            .into_iter()
            .map(|(path, served)| {
                let hash = v3_hash(cache, &path, &served, rows);
                let url = format!("/openapi/v3/{path}?hash={hash}");
                (path, json!({"serverRelativeURL": url}))
            })
            .collect();
        Document::new(JSON, json!({"paths": paths}).to_string().into_bytes())
    })
}

/// One document: of a group version (`api/v1`, `apis/apps/v1`), or of a path of discovery (`apis`, `version`).
pub fn v3(cache: &Cache, rows: &[Arc<Resource>], path: &str, _accept: &str) -> Option<Document> {
    let path = path.trim_matches('/');
    let served = documents(rows).remove(path)?;
    let hash = v3_hash(cache, path, &served, rows);
    let mut document = cache.get(path, &served, "", || build_v3(path, &served, rows));
    document.etag = hash;
    Some(document)
}

/// Built-in documents only change with the program, so their hash needs no document.
fn v3_hash(cache: &Cache, path: &str, served: &[Arc<Resource>], rows: &[Arc<Resource>]) -> String {
    if served.iter().any(|r| !r.is_builtin()) {
        return cache.etag(path, served, || build_v3(path, served, rows));
    }
    let names: Vec<&str> = served.iter().map(|r| r.plural.as_str()).collect();
    let (program, texts) = (env!("CARGO_PKG_VERSION"), descriptions::fingerprint());
    let facts = format!("{}\0{}", api::facts::VERSION, api::facts::ENUMS);
    etag(format!("{program}\0{path}\0{facts}\0{texts}\0{}", names.join(",")).as_bytes())
}

/// The documents of version 3, and whose rows are in each.
fn documents(rows: &[Arc<Resource>]) -> BTreeMap<String, Vec<Arc<Resource>>> {
    let mut out: BTreeMap<String, Vec<Arc<Resource>>> =
        paths::discovery(rows).into_iter().map(|d| (d.document, Vec::new())).collect();
    for r in rows {
        out.entry(paths::root(r)).or_default().push(r.clone());
    }
    out
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": format!("v{}", api::facts::VERSION)})
}

/// Paths and definitions of rows, and of what tells of them.
fn pieces(
    rows: &[Arc<Resource>],
    discovery: impl IntoIterator<Item = paths::Discovery>,
    flavor: Flavor,
    form: Form,
) -> (Pieces, Pieces) {
    let mut definitions = Definitions::new(flavor, form);
    let mut all = Pieces::new();
    for r in rows {
        paths::add(r, &mut definitions, &mut all);
    }
    for d in discovery {
        d.add(&mut definitions, &mut all);
    }
    (all, definitions.finish())
}

/// `others`: documents of extension servers. What both have stays as ours.
fn build_v2(rows: &[Arc<Resource>], others: &[Arc<Value>], form: Form) -> Document {
    let (mut paths, mut definitions) = pieces(rows, paths::discovery(rows), Flavor::V2, form);
    for theirs in others {
        let members = |part: &str| theirs[part].as_object().into_iter().flatten();
        for (name, item) in members("paths") {
            paths.entry(name.clone()).or_insert_with(|| form.path(item));
        }
        for (name, schema) in members("definitions") {
            definitions.entry(name.clone()).or_insert_with(|| form.definition(schema));
        }
    }
    if form == Form::Protobuf {
        return Document::new(V2_PROTOBUF, gnostic::document(&info(), paths, definitions));
    }
    let mut out = Vec::new();
    out.extend_from_slice(br#"{"definitions":"#);
    pieces::object(&mut out, definitions);
    out.extend_from_slice(format!(r#","info":{},"paths":"#, info()).as_bytes());
    pieces::object(&mut out, paths);
    let security = json!({"BearerToken": bearer()});
    let rest = format!(r#","security":[{{"BearerToken":[]}}],"securityDefinitions":{security},"swagger":"2.0"}}"#);
    out.extend_from_slice(rest.as_bytes());
    Document::new(JSON, out)
}

/// `served`: what of all `rows` is in the document.
fn build_v3(document: &str, served: &[Arc<Resource>], rows: &[Arc<Resource>]) -> Document {
    let discovery = paths::discovery(rows).into_iter().filter(|d| d.document == document);
    let (paths, definitions) = pieces(served, discovery, Flavor::V3, Form::Json);
    let mut out = Vec::new();
    out.extend_from_slice(br#"{"components":{"schemas":"#);
    pieces::object(&mut out, definitions);
    let security = json!({"BearerToken": bearer()});
    let middle = format!(r#","securitySchemes":{security}}},"info":{},"openapi":"3.0.0","paths":"#, info());
    out.extend_from_slice(middle.as_bytes());
    pieces::object(&mut out, paths);
    out.push(b'}');
    Document::new(JSON, out)
}

/// How clients say who they are.
fn bearer() -> Value {
    json!({"type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication"})
}

#[cfg(test)]
mod tests;
