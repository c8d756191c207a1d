//! `GET /containerLogs/{namespace}/{pod}/{container}`.

use crate::logs::reader::{self, LogOptions};
use crate::pods::context::Context;
use crate::pods::plan;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use cri::ContainerState;
use futures::StreamExt;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

pub fn flag(query: &HashMap<String, String>, name: &str) -> bool {
    query.get(name).is_some_and(|v| matches!(v.as_str(), "1" | "true" | "t" | "T" | "TRUE" | "True"))
}

fn options(query: &HashMap<String, String>) -> Result<LogOptions, String> {
    let number = |name: &str| match query.get(name).filter(|v| !v.is_empty()) {
        None => Ok(None),
        Some(v) => v.parse::<u64>().map(Some).map_err(|_| format!("{name} must be a number of at least 0")),
    };
    let since = match (number("sinceSeconds")?, query.get("sinceTime").filter(|v| !v.is_empty())) {
        (Some(s), _) => Timestamp::now().checked_sub(SignedDuration::from_secs(s.min(1 << 40) as i64)).ok(),
        (None, Some(t)) => Some(t.parse().map_err(|_| "sinceTime must be an RFC 3339 time".to_owned())?),
        (None, None) => None,
    };
    Ok(LogOptions {
        follow: flag(query, "follow"),
        tail: number("tailLines")?.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        since,
        timestamps: flag(query, "timestamps"),
        limit_bytes: number("limitBytes")?,
        stream: query.get("stream").cloned(),
    })
}

pub async fn container(
    State(context): State<Arc<Context>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let bad = |message: String| (StatusCode::BAD_REQUEST, message).into_response();
    let options = match options(&query) {
        Ok(options) => options,
        Err(message) => return bad(message),
    };
    let Some(view) = context.registry.find(&namespace, &pod) else {
        return (StatusCode::NOT_FOUND, format!("pod \"{pod}\" not found")).into_response();
    };
    let told = [
        &view.status.container_statuses,
        &view.status.init_container_statuses,
        &view.status.ephemeral_container_statuses,
    ]
    .into_iter()
    .flat_map(|l| l.iter().flatten())
    .find(|c| c.name == container);
    let Some(told) = told else {
        return bad(format!("container {container} is not valid for pod {pod}"));
    };
    let chosen = if flag(&query, "previous") {
        // While it waits for its next start, the one that has ended last is the previous one.
        let newest = plan::latest(&view.containers, &container);
        let waits = told.state.as_ref().is_some_and(|s| s.waiting.is_some());
        let found = newest
            .filter(|c| waits && c.state == ContainerState::Exited)
            .or_else(|| plan::previous(&view.containers, &container));
        match found {
            Some(c) => c,
            None => {
                return bad(format!("previous terminated container \"{container}\" in pod \"{pod}\" not found"));
            }
        }
    } else {
        match plan::latest(&view.containers, &container).filter(|c| c.state != ContainerState::Created) {
            Some(c) => c,
            None => {
                let waiting = told.state.as_ref().and_then(|s| s.waiting.as_ref());
                let reason = waiting.and_then(|w| w.reason.clone()).unwrap_or_default();
                return bad(match reason.as_str() {
                    "ErrImagePull" | "ImagePullBackOff" => format!(
                        "container \"{container}\" in pod \"{pod}\" is waiting to start: trying and failing to pull image"
                    ),
                    reason => format!("container \"{container}\" in pod \"{pod}\" is waiting to start: {reason}"),
                });
            }
        }
    };
    let (tx, rx) = mpsc::channel(64);
    let (path, id, uid) =
        (PathBuf::from(&chosen.log_path), chosen.id.clone(), crate::pods::spec::uid(&view.pod).to_owned());
    let registry = context.registry.clone();
    // `kubectl run -i` reads what there is of the log and then attaches: see remote::tell.
    let whole = !options.follow && !options.timestamps && options.tail.is_none() && options.since.is_none();
    let counted = whole && options.stream.is_none() && super::remote::takes_input(&view.pod, &container);
    let count = {
        let (registry, id, uid) = (registry.clone(), id.clone(), uid.clone());
        let mut total = 0_u64;
        move |part: &std::io::Result<bytes::Bytes>| {
            if let (true, Ok(data)) = (counted, part) {
                total += data.len() as u64;
                registry.tell(&uid, &id, total);
            }
        }
    };
    let ended = move || {
        let views = registry.views();
        let own = views.iter().find(|v| crate::pods::spec::uid(&v.pod) == uid);
        own.is_none_or(|v| v.containers.iter().find(|c| c.id == id).is_none_or(|c| c.state != ContainerState::Running))
    };
    tokio::spawn(reader::read(path, options, ended, tx));
    let body = axum::body::Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(rx).inspect(count));
    ([(http::header::CONTENT_TYPE, "text/plain")], body).into_response()
}
