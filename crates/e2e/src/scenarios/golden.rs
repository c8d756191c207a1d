//! Upstream's golden objects through the served endpoints: what lies in the store is answered byte for byte, and what
//! is sent in one encoding is understood as in the other.
//!
//! The objects are filled with a value of its own in each field, which makes most of them invalid: nobody could create
//! them. So they are put into etcd, beside a server that has no controllers to clean them up; and they are sent as dry
//! runs, which either answer with what was sent, or refuse both encodings in the same words, value by value.

use super::encodings::{fields, object, resources};
use super::etcd;
use crate::cluster::Cluster;
use crate::wire::{Connection, Who};
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::Duration;

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// Kinds that have no path: they are parts of requests, of answers, or of what other servers store. Their pairs are
/// shown by the codecs' own tests (`api/tests/golden.rs`).
const NO_PATH: [&str; 13] = [
    "admission.k8s.io.v1.AdmissionReview",
    "core.v1.APIVersions",
    "core.v1.CreateOptions",
    "core.v1.GetOptions",
    "core.v1.ListOptions",
    "core.v1.PatchOptions",
    "core.v1.PodAttachOptions",
    "core.v1.PodLogOptions",
    "core.v1.PodProxyOptions",
    "core.v1.RangeAllocation",
    "core.v1.SerializedReference",
    "core.v1.Status",
    "core.v1.WatchEvent",
];
/// Kinds that lie in the store as another version, or aren't stored at all.
const NOT_STORED: [&str; 6] = [
    "authentication.k8s.io.v1.TokenRequest",
    "authorization.k8s.io.v1.LocalSubjectAccessReview",
    "authorization.k8s.io.v1.SelfSubjectRulesReview",
    "autoscaling.v1.HorizontalPodAutoscaler",
    "core.v1.ComponentStatus",
    "events.k8s.io.v1.Event",
];

/// Its status is written by the server itself, as soon as it sees the object.
const TYPE_CHECKED: &str = "admissionregistration.k8s.io.v1.ValidatingAdmissionPolicy";

struct Golden {
    name: String,
    json: Value,
    protobuf: Vec<u8>,
    /// `/api/v1/namespaces/NS/PLURAL`, and what etcd calls it.
    collection: String,
    key: String,
}

impl Golden {
    fn object_name(&self) -> &str {
        self.json["metadata"]["name"].as_str().unwrap_or_default()
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection, self.object_name())
    }

    fn json_at(&self, version: &str) -> Value {
        let mut v = self.json.clone();
        v["metadata"]["resourceVersion"] = version.into();
        v
    }
}

/// The message with another `metadata.resourceVersion`; all other bytes stay.
fn with_version(envelope: &[u8], version: &str) -> Result<Vec<u8>> {
    let body = envelope.strip_prefix(b"k8s\0").context("no protobuf")?;
    // runtime.Unknown.raw → metadata → resourceVersion
    let out = replaced(body, &[2, 1, 6], version.as_bytes())?;
    Ok([&b"k8s\0"[..], &out].concat())
}

/// Replaces the content of one field with a length, by its path of numbers.
fn replaced(message: &[u8], path: &[u64], content: &[u8]) -> Result<Vec<u8>> {
    let (first, rest) = path.split_first().context("no path")?;
    let mut out = Vec::new();
    let mut done = false;
    let mut at = 0;
    for (number, value, end) in spans(message)? {
        if number == *first && !done {
            done = true;
            let new = if rest.is_empty() { content.to_vec() } else { replaced(value, rest, content)? };
            varint(number << 3 | 2, &mut out);
            varint(new.len() as u64, &mut out);
            out.extend(new);
        } else {
            out.extend(&message[at..end]);
        }
        at = end;
    }
    ensure!(done, "no field {first}");
    Ok(out)
}

/// Fields with where they end.
fn spans(message: &[u8]) -> Result<Vec<(u64, &[u8], usize)>> {
    let mut out = Vec::new();
    let mut ends = Vec::new();
    // Each field is found again as the rest of the message gets shorter.
    let all = fields(message)?;
    let mut at = 0;
    for (_, value) in &all {
        let start = value.as_ptr() as usize - message.as_ptr() as usize;
        at = at.max(start + value.len());
        ends.push(at);
    }
    for ((number, value), end) in all.into_iter().zip(ends) {
        out.push((number, value, end));
    }
    Ok(out)
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// As Skiff stores it: apiVersion, kind and metadata in front, without resourceVersion.
fn stored(object: &Value) -> Result<String> {
    let mut rest: Map<String, Value> = object.as_object().context("no object")?.clone();
    let mut head = String::from("{");
    for key in ["apiVersion", "kind", "metadata"] {
        let mut v = rest.remove(key).with_context(|| format!("no {key}"))?;
        if let Some(meta) = v.as_object_mut() {
            meta.remove("resourceVersion");
        }
        head.push_str(&format!("{}{}:{v}", if key == "apiVersion" { "" } else { "," }, json!(key)));
    }
    let tail = Value::Object(rest).to_string();
    let tail = tail.trim_start_matches('{');
    Ok(format!("{head}{}{tail}", if tail == "}" { "" } else { "," }))
}

async fn load(connection: &mut Connection) -> Result<Vec<Golden>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/tests/golden");
    let mut roots = std::collections::BTreeMap::new();
    for r in resources(connection, &["create"]).await? {
        let list = object(connection, &r.root).await?;
        for found in list["resources"].as_array().into_iter().flatten().filter(|f| f["name"] == r.plural.as_str()) {
            let kind = found["kind"].as_str().unwrap_or_default().to_string();
            roots.insert((r.root.clone(), kind), (r.plural.clone(), r.namespaced));
        }
    }
    let mut out = Vec::new();
    let mut without = Vec::new();
    let mut files: Vec<_> = std::fs::read_dir(&folder)?.flatten().map(|e| e.path()).collect();
    files.sort();
    for path in files.into_iter().filter(|p| p.extension().is_some_and(|e| e == "json")) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let json: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        let protobuf = std::fs::read(path.with_extension("pb"))?;
        let api_version = json["apiVersion"].as_str().unwrap_or_default();
        let root =
            if api_version.contains('/') { format!("/apis/{api_version}") } else { format!("/api/{api_version}") };
        let kind = json["kind"].as_str().unwrap_or_default().to_string();
        let namespace = json["metadata"]["namespace"].as_str().unwrap_or_default();
        let found = match kind.as_str() {
            "TokenRequest" => {
                Some((format!("serviceaccounts/{}/token", json["metadata"]["name"].as_str().unwrap_or_default()), true))
            }
            "ComponentStatus" => Some(("componentstatuses".to_string(), false)),
            _ => roots.get(&(root.clone(), kind)).cloned(),
        };
        let Some((plural, namespaced)) = found else {
            without.push(name);
            continue;
        };
        let root = if plural.ends_with("/token") { "/api/v1".to_string() } else { root };
        let scope = if namespaced { format!("namespaces/{namespace}/") } else { String::new() };
        let group = api_version.split_once('/').map_or(String::new(), |(g, _)| format!(".{g}"));
        let within = if namespaced { format!("{namespace}/") } else { String::new() };
        let key =
            format!("/registry/{plural}{group}/{within}{}", json["metadata"]["name"].as_str().unwrap_or_default());
        out.push(Golden { name, json, protobuf, collection: format!("{root}/{scope}{plural}"), key });
    }
    ensure!(without == NO_PATH, "kinds without a path: {without:?}");
    Ok(out)
}

/// Puts a value into etcd, by its JSON gateway.
async fn put(key: &str, value: &str) -> Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let body = json!({"key": STANDARD.encode(key), "value": STANDARD.encode(value)}).to_string();
    let mut tcp = tokio::net::TcpStream::connect("127.0.0.1:2379").await.context("etcd")?;
    let head = "POST /v3/kv/put HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Type: application/json\r\n";
    tcp.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "etcd: {answer}");
    Ok(())
}

/// What lies in the store is answered byte for byte.
async fn answered(connection: &mut Connection, g: &Golden) -> Result<()> {
    put(&g.key, &stored(&g.json)?).await?;
    let until = std::time::Instant::now() + Duration::from_secs(5);
    let got = loop {
        let r = connection.send("GET", &g.path(), &[("accept", JSON)], "").await?;
        if r.code == 200 {
            break r.json();
        }
        ensure!(std::time::Instant::now() < until, "GET: {} {}", r.code, r.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let version = got["metadata"]["resourceVersion"].as_str().context("no resourceVersion")?.to_string();
    let want = g.json_at(&version);
    if g.name == TYPE_CHECKED {
        // Who writes a status is in managed fields.
        let metadata = |o: &Value| {
            let mut metadata = o["metadata"].clone();
            metadata.as_object_mut().map(|m| m.remove("managedFields"));
            metadata
        };
        ensure!(got["spec"] == want["spec"] && metadata(&got) == metadata(&want), "as JSON it is\n{got}\nnot\n{want}");
        return understood(connection, g, "PUT", &g.path(), &version).await;
    }
    ensure!(got == want, "as JSON it is\n{got}\nnot\n{want}");
    let r = connection.send("GET", &g.path(), &[("accept", PROTOBUF)], "").await?;
    let want = with_version(&g.protobuf, &version)?;
    ensure!(r.code == 200 && r.body == want, "the protobuf differs: {} and {} bytes", r.body.len(), want.len());
    // In a list it is the same message.
    let list = connection.send("GET", &g.collection, &[("accept", PROTOBUF)], "").await?;
    let (_, raw, _) = spans(&want[4..])?.into_iter().find(|f| f.0 == 2).context("no message")?;
    ensure!(list.body.windows(raw.len()).any(|w| w == raw), "the list has other bytes");
    understood(connection, g, "PUT", &g.path(), &version).await
}

/// What is sent is understood alike in both encodings.
async fn understood(connection: &mut Connection, g: &Golden, method: &str, path: &str, version: &str) -> Result<()> {
    let path = format!("{path}?dryRun=All&fieldValidation=Strict");
    let mut said = Vec::new();
    let binary = if version.is_empty() { g.protobuf.clone() } else { with_version(&g.protobuf, version)? };
    let text = if version.is_empty() { g.json.clone() } else { g.json_at(version) };
    for (content_type, body) in [(JSON, text.to_string().into_bytes()), (PROTOBUF, binary)] {
        let r = connection.send(method, &path, &[("content-type", content_type), ("accept", JSON)], body).await?;
        ensure!(r.code < 500 && r.code != 415, "{method} as {content_type}: {} {}", r.code, r.text());
        let mut answer = r.json();
        // What two requests can't have in common.
        for volatile in ["creationTimestamp", "uid", "managedFields"] {
            answer["metadata"].as_object_mut().map(|m| m.remove(volatile));
        }
        said.push((r.code, answer));
    }
    ensure!(said[0] == said[1], "{method}: as JSON it is\n{:?}\nas protobuf\n{:?}", said[0], said[1]);
    ensure!(
        !said[0].1["message"].as_str().is_some_and(|m| m.contains("cannot be handled as")),
        "{method}: {:?}",
        said[0]
    );
    println!("     {}: {method} {}", g.name, said[0].0);
    Ok(())
}

pub fn golden_objects(c: &Cluster) -> Result<()> {
    let Some(etcd) = etcd::ready(c)? else { return Ok(()) };
    c.serve(&["--datastore-endpoint", etcd::URL, "--disable-agent", "--disable=dns,proxy,scheduler,controllers"])?;
    c.wait_api()?;
    c.access()?.inside(async |access| {
        let mut connection = access.http1(&Who::Admin).await?;
        // Nobody could make a namespace of that name.
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "namespaceValue", "uid": "u"},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        put("/registry/namespaces/namespaceValue", &stored(&namespace)?).await?;
        let all = load(&mut connection).await?;
        let mut failed = Vec::new();
        for g in &all {
            let done = if NOT_STORED.contains(&g.name.as_str()) {
                if g.name.ends_with("ComponentStatus") {
                    // It can only be read, and is made up as it is read.
                    continue;
                }
                understood(&mut connection, g, "POST", &g.collection, "").await
            } else {
                answered(&mut connection, g).await
            };
            if let Err(e) = done {
                failed.push(format!("{}: {e:#}", g.name));
            }
        }
        ensure!(all.len() + NO_PATH.len() >= 45, "only {} kinds have a path", all.len());
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        Ok(())
    })?;
    c.stop_server(libc::SIGTERM)?;
    drop(etcd);
    Ok(())
}
