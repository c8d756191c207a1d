//! `/statusz` and `/flagz`: what this server is, since when it runs, and with which settings.
//!
//! In: an `Accept` header. Out: text for people, or the structured forms `config.k8s.io` `Statusz` and `Flagz`. Source:
//! KEP-4827, KEP-4828; both are on by default in 1.36.

use crate::accept::{self, Page};
use crate::respond;
use axum::body::Body;
use http::{HeaderValue, Response, header};
use meta::status::Result;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const COMPONENT: &str = "kube-apiserver";
const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.";
/// They tell nobody how the server does.
const NOT_FOR_DEBUGGING: [&str; 5] = ["apis", "api", "openid", "openapi", ".well-known"];

/// What the pages tell.
pub struct About {
    pub started: jiff::Timestamp,
    /// Every flag without its dashes, with its value in force.
    pub flags: BTreeMap<String, String>,
}

/// A client that reads pages.
pub struct Asker<'a> {
    pub accept: &'a str,
    pub pretty: bool,
}

/// `version`: the document of `/version`; `paths`: all that the server lists.
pub fn statusz(
    about: &About,
    version: &Value,
    paths: &[Value],
    now: jiff::Timestamp,
    asker: &Asker<'_>,
) -> Result<Response<Body>> {
    let said = |key: &str| version[key].as_str().unwrap_or("");
    let seconds = now.duration_since(about.started).as_secs().max(0);
    let binary = said("gitVersion").trim_start_matches('v');
    let binary = binary.split('+').next().unwrap_or(binary);
    let emulation = format!("{}.{}", said("emulationMajor"), said("emulationMinor"));
    let first = |p: &Value| p.as_str()?.split('/').nth(1).filter(|s| !s.is_empty()).map(str::to_string);
    let folders: BTreeSet<String> = paths.iter().filter_map(first).collect();
    let folders: Vec<String> =
        folders.iter().filter(|f| !NOT_FOR_DEBUGGING.contains(&f.as_str())).map(|f| format!("/{f}")).collect();
    let text = || {
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        [
            format!("\n{COMPONENT} statusz\n{WARNING}\n"),
            format!("Started: {}", about.started.strftime("%a %b %e %H:%M:%S UTC %Y")),
            format!("Up: {hours} hr {minutes:02} min {:02} sec", seconds % 60),
            format!("Go version: {}", said("goVersion")),
            format!("Binary version: {binary}"),
            format!("Emulation version: {emulation}"),
            format!("Paths: {}\n", folders.join(" ")),
        ]
        .join("\n")
    };
    let fields = json!({
        "startTime": about.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), "uptimeSeconds": seconds,
        "goVersion": said("goVersion"), "binaryVersion": binary, "emulationVersion": emulation, "paths": folders,
    });
    answer("Statusz", fields, text, asker)
}

pub fn flagz(about: &About, asker: &Asker<'_>) -> Result<Response<Body>> {
    let text = || {
        let mut out = format!("\n{COMPONENT} flagz\n{WARNING}\n");
        for (flag, value) in &about.flags {
            let _ = writeln!(out, "{flag}: {value}");
        }
        out
    };
    answer("Flagz", json!({"flags": about.flags}), text, asker)
}

fn answer(kind: &str, fields: Value, text: impl FnOnce() -> String, asker: &Asker<'_>) -> Result<Response<Body>> {
    let (version, mut format) = match accept::page(asker.accept, kind)? {
        Page::Text => return Ok(respond::bytes(200, "text/plain; charset=utf-8", text().into())),
        Page::Structured { version, format } => (version, format),
    };
    let mut object = json!({
        "kind": kind, "apiVersion": format!("config.k8s.io/{version}"), "metadata": {"name": COMPONENT},
    });
    for (key, value) in fields.as_object().into_iter().flatten() {
        object[key] = value.clone();
    }
    format.pretty |= asker.pretty;
    let mut response = respond::value_response(200, &object, &format);
    if version == "v1alpha1" {
        let page = kind.to_ascii_lowercase();
        let warning =
            format!("299 - \"This version of the {page} endpoint is deprecated. Please use a newer version.\"");
        if let Ok(value) = HeaderValue::try_from(warning) {
            response.headers_mut().insert(header::WARNING, value);
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn body(response: Response<Body>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    fn about() -> About {
        let flags = [("https-listen-port", "6443"), ("debug", "false")];
        About {
            started: "2026-01-05T00:00:00Z".parse().unwrap(),
            flags: flags.map(|(k, v)| (k.to_string(), v.to_string())).into(),
        }
    }

    #[tokio::test]
    async fn people_read_text_and_programs_objects() {
        let version = json!({"gitVersion": "v1.36.0+skiff0.1.0", "goVersion": "none", "emulationMajor": "1", "emulationMinor": "36"});
        let paths = ["/api", "/apis/apps/v1", "/healthz", "/healthz/etcd", "/metrics", "/"].map(Value::from);
        let now = "2026-01-05T01:01:05Z".parse().unwrap();
        let asked = |accept| statusz(&about(), &version, &paths, now, &Asker { accept, pretty: false });
        let text = body(asked("").unwrap()).await;
        let expected = "\nkube-apiserver statusz\nWarning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n\nStarted: Mon Jan  5 00:00:00 UTC 2026\nUp: 1 hr 01 min 05 sec\nGo version: none\nBinary version: 1.36.0\nEmulation version: 1.36\nPaths: /healthz /metrics\n";
        assert_eq!(text, expected);
        let response = asked("application/json;v=v1beta1;g=config.k8s.io;as=Statusz").unwrap();
        assert!(response.headers().get(header::WARNING).is_none());
        let object: Value = serde_json::from_str(&body(response).await).unwrap();
        assert_eq!(
            object,
            json!({
                "kind": "Statusz", "apiVersion": "config.k8s.io/v1beta1", "metadata": {"name": "kube-apiserver"},
                "startTime": "2026-01-05T00:00:00Z", "uptimeSeconds": 3665, "goVersion": "none",
                "binaryVersion": "1.36.0", "emulationVersion": "1.36", "paths": ["/healthz", "/metrics"],
            })
        );
        let old = asked("application/json;v=v1alpha1;g=config.k8s.io;as=Statusz").unwrap();
        let warning = old.headers()[header::WARNING].to_str().unwrap().to_string();
        assert_eq!(
            warning,
            "299 - \"This version of the statusz endpoint is deprecated. Please use a newer version.\""
        );
        let e = asked("application/json").unwrap_err();
        assert_eq!((e.code, e.reason), (406, "NotAcceptable"));
    }

    #[tokio::test]
    async fn flags_are_sorted() {
        let asked = |accept| flagz(&about(), &Asker { accept, pretty: false });
        let text = body(asked("*/*").unwrap()).await;
        assert!(text.starts_with("\nkube-apiserver flagz\nWarning: "), "{text}");
        assert!(text.ends_with("\ndebug: false\nhttps-listen-port: 6443\n"), "{text}");
        let yaml = body(asked("application/yaml;v=v1beta1;g=config.k8s.io;as=Flagz").unwrap()).await;
        assert!(yaml.contains("kind: Flagz\n") && yaml.contains("  debug: \"false\"\n"), "{yaml}");
    }
}
