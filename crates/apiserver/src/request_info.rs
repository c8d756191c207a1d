//! What a request is about, from its method, path and query alone.

/// Source: API concepts, "Resource URIs" and "Request attributes".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestInfo {
    /// `/api/v1/…` or `/apis/<group>/<version>/…` beyond discovery.
    pub is_resource: bool,
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `proxy`-like `connect`
    /// verbs are `get`/`create` as upstream has it; the lower-case HTTP method for non-resource requests.
    pub verb: String,
    pub group: String,
    pub version: String,
    /// Empty for cluster scope. For requests on a Namespace object itself, that namespace.
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// Path segments after the subresource (proxy paths).
    pub rest: String,
    pub field_selector: String,
    pub label_selector: String,
}

impl RequestInfo {
    pub fn parse(method: &http::Method, path: &str, query: &str) -> RequestInfo {
        let mut info = RequestInfo {
            path: path.to_string(),
            verb: method.as_str().to_ascii_lowercase(),
            ..RequestInfo::default()
        };
        let mut segments: Vec<String> =
            path.split('/').filter(|s| !s.is_empty()).map(crate::request_info::decode).collect();
        match segments.first().map(String::as_str) {
            Some("api") if segments.len() >= 3 => {
                info.version = segments[1].clone();
                segments.drain(..2);
            }
            Some("apis") if segments.len() >= 4 => {
                info.group = segments[1].clone();
                info.version = segments[2].clone();
                segments.drain(..3);
            }
            _ => return info,
        }
        info.is_resource = true;
        let mut legacy_watch = false;
        if segments.first().is_some_and(|s| s == "watch") && segments.len() > 1 {
            legacy_watch = true;
            segments.remove(0);
        }
        if segments[0] == "namespaces" && segments.len() > 1 {
            info.namespace = segments[1].clone();
            // `namespaces/NAME/status` and `/finalize` are subresources of the Namespace itself.
            if segments.len() > 2 && !(segments.len() == 3 && matches!(segments[2].as_str(), "status" | "finalize")) {
                segments.drain(..2);
            }
        }
        let mut it = segments.into_iter();
        info.resource = it.next().unwrap_or_default();
        info.name = it.next().unwrap_or_default();
        info.subresource = it.next().unwrap_or_default();
        info.rest = it.collect::<Vec<_>>().join("/");

        let mut watch = legacy_watch;
        for (k, v) in form_pairs(query) {
            match k.as_str() {
                "watch" => watch |= v.is_empty() || v == "1" || v.eq_ignore_ascii_case("true"),
                "fieldSelector" => info.field_selector = v,
                "labelSelector" => info.label_selector = v,
                _ => {}
            }
        }
        info.verb = match info.verb.as_str() {
            "post" => "create",
            "put" => "update",
            "patch" => "patch",
            "delete" if info.name.is_empty() => "deletecollection",
            "delete" => "delete",
            "get" | "head" if watch && (info.name.is_empty() || info.subresource.is_empty()) => "watch",
            "get" | "head" if info.name.is_empty() => "list",
            "get" | "head" => "get",
            other => other,
        }
        .to_string();
        info
    }
}

/// Query pairs, percent-decoded.
pub fn form_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|p| !p.is_empty()).map(|p| {
        let (k, v) = p.split_once('=').unwrap_or((p, ""));
        (decode(&k.replace('+', " ")), decode(&v.replace('+', " ")))
    })
}

fn decode(s: &str) -> String {
    let bytes = s.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex =
            (bytes[i] == b'%').then(|| s.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok())).flatten();
        match hex {
            Some(b) => {
                out.push(b);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
