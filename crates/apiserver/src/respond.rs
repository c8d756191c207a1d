//! Answers become HTTP responses: the only place where objects are encoded, and where errors become `Status`.

use crate::accept::{self, Accept, Format, Shape};
use crate::openapi;
use crate::registry::Answer;
use crate::registry::list::Listing;
use crate::registry::stored::Splice;
use crate::registry::view::Item;
use crate::registry::watch::{Frame, Stream, Told};
use api::catalogue::Resource;
use api::kinds::scale::Scale;
use api::strategy::{About, Now, Strategy};
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use meta::schema::TypeId;
use meta::status::{Result, Status};
use serde_json::{Value, json};
use std::sync::Arc;

/// Bytes of a list that are put together at once.
const CHUNK: usize = 256 * 1024;
/// Larger bodies are compressed when the client takes gzip (upstream's threshold, bytes).
const GZIP_MIN: usize = 128 * 1024;

/// What a response needs to know of its request.
pub struct Request<'a> {
    pub accept: &'a Accept,
    pub row: &'a Arc<Resource>,
    pub include_object: &'a str,
    pub gzip: bool,
}

pub fn status(s: &Status, accept: &Accept) -> Response<Body> {
    let value = s.to_value();
    let mut response = value_response(s.code, &value, accept);
    if let Some(d) = &s.details
        && d.retry_after_seconds > 0
    {
        response.headers_mut().insert(header::RETRY_AFTER, d.retry_after_seconds.into());
    }
    response
}

/// A JSON document with no type of its own (discovery, OpenAPI, version).
pub fn json(code: u16, value: &Value) -> Response<Body> {
    bytes(code, "application/json", value.to_string().into())
}

/// Nothing that a browser could take for a tag.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What upstream's plain handlers say to people.
pub fn text(code: u16, body: &str) -> Response<Body> {
    let mut r = bytes(code, "text/plain; charset=utf-8", body.to_string().into());
    r.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    r
}

/// Of a path that nobody knows.
pub fn nowhere() -> Response<Body> {
    text(404, "404 page not found\n")
}

pub fn empty(code: StatusCode) -> Response<Body> {
    let mut r = Response::new(Body::empty());
    *r.status_mut() = code;
    r
}

pub fn bytes(code: u16, content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut r = Response::new(Body::from(body));
    *r.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    r.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    r
}

/// Any object in the negotiated format.
pub fn value_response(code: u16, value: &Value, accept: &Accept) -> Response<Body> {
    match encode(value, accept) {
        Ok(b) => bytes(code, accept.format.content_type(), b),
        Err(s) => bytes(s.code, "application/json", s.to_value().to_string().into()),
    }
}

fn encode(value: &Value, accept: &Accept) -> Result<Bytes> {
    match accept.format {
        Format::Json if accept.pretty => serde_json::to_vec_pretty(value).map(Bytes::from).map_err(Status::internal),
        Format::Json => {
            let mut text = value.to_string();
            text.push('\n');
            Ok(text.into())
        }
        Format::Yaml => Ok(api::codec::yaml::to_string(value).map_err(Status::internal)?.into()),
        Format::Protobuf => {
            let ty = protobuf_type(value)?;
            api::codec::protobuf::encode(ty, value).map(Bytes::from).map_err(|e| Status::not_acceptable(e.to_string()))
        }
    }
}

/// The type that describes an object on the wire. Custom resources have none: they are JSON only.
fn protobuf_type(value: &Value) -> Result<TypeId> {
    let facts = api::facts::facts();
    let (api_version, kind) = (value["apiVersion"].as_str().unwrap_or(""), value["kind"].as_str().unwrap_or(""));
    let (group, version) = api::facts::split_api_version(api_version);
    facts
        .kind(group, version, kind)
        .or_else(|| facts.types.named(&format!("apimachinery.pkg.apis.meta.v1.{kind}")))
        .ok_or_else(|| {
            Status::not_acceptable(format!("{kind} in version {api_version:?} can't be encoded as protobuf"))
        })
}

fn protobuf_frame(event: &str, object: &Value) -> Result<Vec<u8>> {
    api::codec::protobuf::watch_frame(event, protobuf_type(object)?, object).map_err(Status::internal)
}

pub fn answer(a: Answer, q: &Request<'_>) -> Response<Body> {
    match a {
        Answer::Status(s) => status(&s, q.accept),
        Answer::Object { code, value } => {
            let response = match &q.accept.shape {
                Shape::Plain => value_response(code, &value, q.accept),
                // A deletion's Status has no rows.
                _ if value["kind"] == "Status" && value["apiVersion"] == "v1" => value_response(code, &value, q.accept),
                Shape::Partial { list: true, .. } => {
                    status(&unlike("PartialObjectMetadataList", "not a list"), q.accept)
                }
                shape => value_response(code, &reshape(&value, q.row, shape, q.include_object), q.accept),
            };
            finish(response, q.gzip)
        }
        Answer::Item(item) => {
            if q.accept == &accept::JSON {
                let mut out = Vec::with_capacity(item.size());
                item.write(&Splice::new(q.row, true), &mut out, item.entry.mod_revision);
                out.push(b'\n');
                return finish(bytes(200, "application/json", out.into()), q.gzip);
            }
            answer(Answer::ok(item.object()), q)
        }
        Answer::List(listing) => list(listing, q),
        Answer::Watch(stream) => watch(*stream, q),
    }
}

/// One object where many are asked for, or the reverse.
fn unlike(asked: &str, what: &str) -> Status {
    Status::not_acceptable(format!("you requested {asked}, but the requested object is {what}"))
}

/// The object as a one-row Table or as PartialObjectMetadata.
fn reshape(value: &Value, row: &Resource, shape: &Shape, include: &str) -> Value {
    match shape {
        Shape::Plain => value.clone(),
        Shape::Partial { version, .. } => partial(value, version),
        Shape::Table { version } => {
            let of_scale = Scale { custom: row.custom.is_some() };
            let is_scale = value["kind"] == "Scale" && value["apiVersion"] == "autoscaling/v1";
            let printer: &dyn Strategy = if is_scale { &of_scale } else { &*row.strategy };
            let mut t = table_head(printer, version);
            t["metadata"] = json!({"resourceVersion": value["metadata"]["resourceVersion"]});
            t["rows"] = json!([table_row(printer, value, version, include)]);
            t
        }
    }
}

fn partial(value: &Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": value["metadata"],
    })
}

fn table_head(printer: &dyn Strategy, version: &str) -> Value {
    let columns: Vec<Value> = printer
        .columns()
        .iter()
        .map(|c| {
            let text = match &c.about {
                About::Text(text) => text,
                About::Field(field) => openapi::of_column(field),
            };
            json!({"name": c.name, "type": c.kind, "format": c.format, "description": text, "priority": c.priority})
        })
        .collect();
    json!({"kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "columnDefinitions": columns})
}

fn table_row(printer: &dyn Strategy, value: &Value, version: &str, include: &str) -> Value {
    let mut printed = json!({"cells": printer.row(value, Now(jiff::Timestamp::now()))});
    if let Some(conditions) = printer.row_conditions(value) {
        printed["conditions"] = conditions;
    }
    printed["object"] = match include {
        "None" => Value::Null,
        "Object" => value.clone(),
        _ => partial(value, version),
    };
    printed
}

/// Rows of a list that is sorted by name.
fn table_rows(row: &Resource, objects: impl Iterator<Item = Value>, version: &str, include: &str) -> Value {
    let mut rows: Vec<(i64, Value)> =
        objects.map(|o| (row.strategy.row_order(&o), table_row(&*row.strategy, &o, version, include))).collect();
    rows.sort_by_key(|(order, _)| *order);
    rows.into_iter().map(|(_, row)| row).collect()
}

fn list_meta(l: &Listing) -> Value {
    let mut m = json!({"resourceVersion": l.revision.0.to_string()});
    if !l.continue_token.is_empty() {
        m["continue"] = l.continue_token.as_str().into();
    }
    if let Some(n) = l.remaining {
        m["remainingItemCount"] = n.into();
    }
    m
}

fn list(l: Listing, q: &Request<'_>) -> Response<Body> {
    match &q.accept.shape {
        Shape::Plain if q.accept == &accept::JSON => spliced_list(l, q),
        Shape::Plain => {
            let items: Vec<Value> = l
                .items
                .iter()
                .map(|i| {
                    let mut v = i.object();
                    if let Some(o) = v.as_object_mut().filter(|_| is_builtin(q.row)) {
                        o.remove("kind");
                        o.remove("apiVersion");
                    }
                    v
                })
                .collect();
            let v = json!({
                "kind": q.row.list_kind, "apiVersion": q.row.api_version(), "metadata": list_meta(&l), "items": items,
            });
            finish(value_response(200, &v, q.accept), q.gzip)
        }
        Shape::Partial { list: false, .. } => status(&unlike("PartialObjectMetadata", "a list"), q.accept),
        Shape::Partial { version, .. } => {
            let items: Vec<Value> = l.items.iter().map(|i| partial(&i.object(), version)).collect();
            let v = json!({
                "kind": "PartialObjectMetadataList", "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": list_meta(&l), "items": items,
            });
            finish(value_response(200, &v, q.accept), q.gzip)
        }
        Shape::Table { version } => {
            let mut t = table_head(&*q.row.strategy, version);
            t["metadata"] = list_meta(&l);
            t["rows"] = table_rows(q.row, l.items.iter().map(Item::object), version, q.include_object);
            finish(value_response(200, &t, q.accept), q.gzip)
        }
    }
}

/// Built-in kinds: their list items carry neither kind nor apiVersion.
fn is_builtin(row: &Resource) -> bool {
    row.is_builtin()
}

/// JSON lists are spliced from stored bytes, a chunk at a time, so that no second copy of a large list exists.
fn spliced_list(l: Listing, q: &Request<'_>) -> Response<Body> {
    let splice = Splice::new(q.row, !is_builtin(q.row));
    let mut head = format!(
        "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{},\"items\":[",
        Value::from(q.row.list_kind.as_str()),
        Value::from(q.row.api_version()),
        list_meta(&l)
    )
    .into_bytes();
    let total: usize = l.items.iter().map(Item::size).sum();
    if total <= CHUNK || (q.gzip && total >= GZIP_MIN) {
        head.reserve(total);
        for (i, item) in l.items.iter().enumerate() {
            if i > 0 {
                head.push(b',');
            }
            item.write_item(&splice, &mut head);
        }
        head.extend_from_slice(b"]}\n");
        return finish(bytes(200, "application/json", head.into()), q.gzip);
    }
    let items = l.items;
    let mut at = 0;
    let mut pending = Some(head);
    let chunks = std::iter::from_fn(move || {
        let mut out = match pending.take() {
            Some(h) => h,
            None if at > items.len() => return None,
            None => Vec::with_capacity(CHUNK + 4096),
        };
        while at < items.len() && out.len() < CHUNK {
            if at > 0 {
                out.push(b',');
            }
            items[at].write_item(&splice, &mut out);
            at += 1;
        }
        if at == items.len() {
            out.extend_from_slice(b"]}\n");
            at += 1;
        }
        Some(Ok::<_, std::convert::Infallible>(Bytes::from(out)))
    });
    let mut r = Response::new(Body::from_stream(futures::stream::iter(chunks)));
    r.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    r
}

/// Compresses a large body when the client takes it.
pub fn finish(response: Response<Body>, gzip: bool) -> Response<Body> {
    use http_body::Body as _;
    let size = response.body().size_hint().exact().unwrap_or(0) as usize;
    if !gzip || size < GZIP_MIN {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    let compressed = async move {
        use http_body_util::BodyExt;
        let raw = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        tokio::task::spawn_blocking(move || {
            use std::io::Write;
            let mut z = flate2::write::GzEncoder::new(Vec::with_capacity(raw.len() / 6), flate2::Compression::fast());
            z.write_all(&raw)?;
            z.finish()
        })
        .await
        .map_err(std::io::Error::other)?
        .map(Bytes::from)
    };
    Response::from_parts(parts, Body::from_stream(futures::stream::once(compressed)))
}

/// An endless body of frames.
fn watch(stream: Stream, q: &Request<'_>) -> Response<Body> {
    let content_type = match q.accept.format {
        Format::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        _ => "application/json",
    };
    let framer = Framer {
        splice: Splice::new(stream.row(), true),
        accept: q.accept.clone(),
        include: q.include_object.to_string(),
        told_columns: false,
    };
    let body = futures::stream::unfold((stream, framer), |(mut stream, mut framer)| async move {
        let bytes = match stream.next().await? {
            Told::Encoded(bytes) => bytes,
            Told::Frames(frames, span) => {
                let mut out = Vec::with_capacity(frames.iter().map(|f| f.size() + 128).sum());
                for f in &frames {
                    framer.write(&mut out, f, stream.row());
                }
                let bytes = Bytes::from(out);
                if let Some(span) = span {
                    stream.leave(span, bytes.clone());
                }
                bytes
            }
        };
        Some((Ok::<_, std::convert::Infallible>(bytes), (stream, framer)))
    });
    let mut r = Response::new(Body::from_stream(body));
    r.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    r
}

struct Framer {
    splice: Splice,
    accept: Accept,
    include: String,
    /// A watch as Table names its columns in the first frame only.
    told_columns: bool,
}

impl Framer {
    fn write(&mut self, out: &mut Vec<u8>, f: &Frame, row: &Resource) {
        if self.accept.format == Format::Json && self.accept.shape == Shape::Plain {
            let (item, revision) = match f {
                Frame::Added(i) | Frame::Modified(i) => (i, i.entry.mod_revision),
                Frame::Deleted(i, r) => (i, *r),
                Frame::Bookmark { .. } | Frame::Error(_) => {
                    let v = json!({"type": f.kind(), "object": f.object(row)});
                    out.extend_from_slice(v.to_string().as_bytes());
                    return out.push(b'\n');
                }
            };
            out.extend_from_slice(b"{\"type\":\"");
            out.extend_from_slice(f.kind().as_bytes());
            out.extend_from_slice(b"\",\"object\":");
            item.write(&self.splice, out, revision);
            return out.extend_from_slice(b"}\n");
        }
        let object = f.object(row);
        let shaped = match (&self.accept.shape, f) {
            (_, Frame::Error(_)) | (Shape::Plain, _) => object,
            (Shape::Partial { version, .. }, _) => partial(&object, version),
            (Shape::Table { version }, Frame::Bookmark { .. }) => {
                let mut t = table_head(&*row.strategy, version);
                t["columnDefinitions"] = Value::Null;
                t["metadata"] = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                // Clients find the annotation of the end of initial events on the row's object.
                t["rows"] = json!([{"cells": [], "object": partial(&object, version)}]);
                t
            }
            (shape @ Shape::Table { .. }, _) => {
                let mut t = reshape(&object, row, shape, &self.include);
                if self.told_columns {
                    t["columnDefinitions"] = Value::Null;
                }
                self.told_columns = true;
                t
            }
        };
        match self.accept.format {
            Format::Protobuf => match protobuf_frame(f.kind(), &shaped) {
                Ok(b) => out.extend_from_slice(&b),
                Err(e) => tracing::warn!(kind = row.kind, error = %e, "watch frame dropped"),
            },
            _ => {
                let v = json!({"type": f.kind(), "object": shaped});
                out.extend_from_slice(v.to_string().as_bytes());
                out.push(b'\n');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_lists_have_upstreams_order_and_conditions() {
        let rows = api::catalogue::builtin();
        let printed = |group: &str, plural: &str, objects: Vec<Value>| {
            let row = api::catalogue::find(&rows, group, "v1", plural).unwrap();
            table_rows(row, objects.into_iter(), "v1", "Metadata")
        };
        let schema = |name: &str, precedence: i64| json!({"metadata": {"name": name}, "spec": {"matchingPrecedence": precedence}});
        let schemas = printed(
            "flowcontrol.apiserver.k8s.io",
            "flowschemas",
            vec![
                schema("catch-all", 10000),
                schema("exempt", 1),
                schema("mine", 200),
                schema("probes", 2),
                schema("yours", 200),
            ],
        );
        let schemas = schemas.as_array().unwrap();
        let order: Vec<&str> = schemas.iter().filter_map(|r| r["cells"][0].as_str()).collect();
        assert_eq!(order, ["exempt", "probes", "mine", "yours", "catch-all"]);
        assert!(
            schemas.iter().all(|r| r["cells"][0] == r["object"]["metadata"]["name"] && r.get("conditions").is_none())
        );

        let pod = |name: &str, phase: &str| json!({"metadata": {"name": name}, "status": {"phase": phase}});
        let pods = printed("", "pods", vec![pod("a", "Succeeded"), pod("b", "Running"), pod("c", "Failed")]);
        let said: Vec<&Value> = (0..3).map(|i| &pods[i]["conditions"][0]["reason"]).collect();
        assert_eq!(said, [&json!("Succeeded"), &Value::Null, &json!("Failed")]);
        assert_eq!(pods[0]["cells"][0], "a");

        let deployments = api::catalogue::find(&rows, "apps", "v1", "deployments").unwrap();
        let scale = json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {"name": "a"}, "spec": {"replicas": 3}, "status": {"replicas": 2}});
        let table = reshape(&scale, deployments, &Shape::Table { version: "v1".into() }, "None");
        let names: Vec<&str> =
            table["columnDefinitions"].as_array().unwrap().iter().filter_map(|c| c["name"].as_str()).collect();
        assert_eq!(names, ["Name", "Desired", "Available", "Age"]);
        assert_eq!(table["rows"][0]["cells"], json!(["a", 3, 2, "<unknown>"]));
    }
}
