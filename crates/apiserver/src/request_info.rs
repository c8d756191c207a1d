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
    /// Whether the path leads through a namespace to what it holds.
    pub within_namespace: bool,
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
                info.within_namespace = true;
            }
        }
        let mut it = segments.into_iter();
        info.resource = it.next().unwrap_or_default();
        info.name = it.next().unwrap_or_default();
        info.subresource = it.next().unwrap_or_default();
        info.rest = it.collect::<Vec<_>>().join("/");

        let mut watch = legacy_watch;
        // What is judged must be what is done: as `Options` reads them, the first of several counts.
        for (k, v) in first_pairs(query) {
            match k.as_str() {
                "watch" => watch |= crate::options::flag(&v),
                "fieldSelector" => info.field_selector = v,
                "labelSelector" => info.label_selector = v,
                _ => {}
            }
        }
        info.verb = match info.verb.as_str() {
            // The old path of watches is for nothing else, whatever the method.
            _ if legacy_watch => "watch",
            "post" => "create",
            "put" => "update",
            "patch" => "patch",
            "delete" if info.name.is_empty() => "deletecollection",
            "delete" => "delete",
            // A name is read, whatever `watch` says; one object is watched by a field selector or the old path.
            "get" | "head" if watch && info.name.is_empty() => "watch",
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

/// Of each key, the first pair: of a parameter that is given several times, the first counts, as in upstream.
pub fn first_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let mut seen: Vec<String> = Vec::new();
    form_pairs(query).filter(move |(k, _)| {
        let first = !seen.contains(k);
        if first {
            seen.push(k.clone());
        }
        first
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

#[cfg(test)]
mod tests {
    use super::*;

    /// In order: method, path and query, then the verb, what is named (group/version namespace resource/subresource
    /// name rest). What isn't a resource has its verb only.
    #[test]
    fn paths_are_taken_apart_as_upstream_does() {
        for (method, path, want) in [
            ("GET", "/api/v1/namespaces", "list /v1 - namespaces -"),
            ("GET", "/api/v1/namespaces/other", "get /v1 other namespaces other"),
            ("PUT", "/api/v1/namespaces/other/finalize", "update /v1 other namespaces/finalize other"),
            ("PATCH", "/api/v1/namespaces/other/status", "patch /v1 other namespaces/status other"),
            ("GET", "/api/v1/namespaces/other/pods", "list /v1 other pods -"),
            ("GET", "/api/v1/namespaces/other/pods/", "list /v1 other pods -"),
            ("GET", "/api/v1/namespaces/other/pods/foo", "get /v1 other pods foo"),
            ("HEAD", "/api/v1/namespaces/other/pods/foo", "get /v1 other pods foo"),
            ("GET", "/api/v1/pods", "list /v1 - pods -"),
            ("HEAD", "/api/v1/pods", "list /v1 - pods -"),
            ("POST", "/api/v1/pods", "create /v1 - pods -"),
            ("POST", "/api/v1/namespaces/other/pods", "create /v1 other pods -"),
            ("PUT", "/api/v1/namespaces/other/pods/foo", "update /v1 other pods foo"),
            ("PATCH", "/api/v1/namespaces/other/pods/foo", "patch /v1 other pods foo"),
            ("DELETE", "/api/v1/namespaces/other/pods/foo", "delete /v1 other pods foo"),
            ("DELETE", "/api/v1/namespaces/other/pods", "deletecollection /v1 other pods -"),
            ("DELETE", "/api/v1/nodes", "deletecollection /v1 - nodes -"),
            ("GET", "/api/v1/namespaces/other/pods/foo/log", "get /v1 other pods/log foo"),
            ("GET", "/api/v1/namespaces/other/pods/foo/proxy/a/b", "get /v1 other pods/proxy foo a/b"),
            ("OPTIONS", "/api/v1/namespaces/other/pods", "options /v1 other pods -"),
            ("GET", "/apis/apps/v1/namespaces/other/deployments/foo/scale", "get apps/v1 other deployments/scale foo"),
            ("GET", "/apis/apps/v1/deployments", "list apps/v1 - deployments -"),
            ("GET", "/apis/custom.example.com/v2/things/foo", "get custom.example.com/v2 - things foo"),
            // Watches, in both their forms.
            ("GET", "/api/v1/pods?watch=true", "watch /v1 - pods -"),
            ("GET", "/api/v1/pods?watch", "watch /v1 - pods -"),
            ("GET", "/api/v1/pods?watch=1", "watch /v1 - pods -"),
            ("GET", "/api/v1/pods?watch=yes", "watch /v1 - pods -"),
            ("GET", "/api/v1/pods?watch=0", "list /v1 - pods -"),
            ("GET", "/api/v1/pods?watch=False", "list /v1 - pods -"),
            ("GET", "/api/v1/pods?watch=false&watch=true", "list /v1 - pods -"),
            ("GET", "/api/v1/pods/foo?watch=true", "get /v1 - pods foo"),
            ("GET", "/api/v1/watch/pods", "watch /v1 - pods -"),
            ("GET", "/api/v1/watch/namespaces/other/pods", "watch /v1 other pods -"),
            ("GET", "/api/v1/watch/namespaces/other/pods/foo", "watch /v1 other pods foo"),
            ("GET", "/apis/apps/v1/watch/namespaces/other/deployments", "watch apps/v1 other deployments -"),
            // The old form is for reading alone: what else comes there is refused as a watch, not done as what it looks like.
            ("DELETE", "/api/v1/watch/namespaces/other/pods", "watch /v1 other pods -"),
            ("POST", "/api/v1/watch/namespaces/other/pods", "watch /v1 other pods -"),
            ("PUT", "/api/v1/watch/namespaces/other/pods/foo", "watch /v1 other pods foo"),
            ("GET", "/api/v1/watch/namespaces/other/pods/foo/proxy/x", "watch /v1 other pods/proxy foo x"),
            ("GET", "/api/v1/watch/namespaces", "watch /v1 - namespaces -"),
            ("GET", "/api/v1/watch/namespaces/other", "watch /v1 other namespaces other"),
            // What is written isn't watched.
            ("POST", "/api/v1/namespaces/other/pods?watch=true", "create /v1 other pods -"),
            ("DELETE", "/api/v1/namespaces/other/pods?watch=true", "deletecollection /v1 other pods -"),
            // Names are what they mean, not what they look like.
            ("GET", "/api/v1/namespaces/other/pods/a%2Fb", "get /v1 other pods a/b"),
            ("GET", "/api/v1/namespaces/o%74her/p%6fds", "list /v1 other pods -"),
            // No resources.
            ("GET", "/", "get"),
            ("GET", "/api", "get"),
            ("GET", "/api/v1", "get"),
            ("GET", "/apis", "get"),
            ("GET", "/apis/apps", "get"),
            ("GET", "/apis/apps/v1", "get"),
            ("POST", "/healthz/ping", "post"),
            ("GET", "/apiz/v1/pods", "get"),
        ] {
            let (only, query) = path.split_once('?').unwrap_or((path, ""));
            let i = RequestInfo::parse(&http::Method::from_bytes(method.as_bytes()).unwrap(), only, query);
            let or = |s: &str| if s.is_empty() { "-".to_string() } else { s.to_string() };
            let mut got = i.verb.clone();
            if i.is_resource {
                let sub = if i.subresource.is_empty() { String::new() } else { format!("/{}", i.subresource) };
                let (ns, name) = (or(&i.namespace), or(&i.name));
                got = format!("{got} {}/{} {ns} {}{sub} {name} {}", i.group, i.version, i.resource, i.rest);
            }
            assert_eq!(got.trim_end(), want, "{method} {path}");
        }
    }

    #[test]
    fn what_is_judged_is_what_is_done() {
        for query in [
            "fieldSelector=a%3D1&fieldSelector=b%3D2&labelSelector=c&labelSelector=d&watch=1&watch=0",
            "fieldSelector=&fieldSelector=metadata.name%3Dmine&labelSelector=&labelSelector=d",
            "watch=&watch=0&fieldSelector",
        ] {
            let info = RequestInfo::parse(&http::Method::GET, "/api/v1/pods", query);
            let options = crate::options::Options::parse(query).unwrap();
            assert_eq!(info.field_selector, options.field_selector, "{query}");
            assert_eq!(info.label_selector, options.label_selector, "{query}");
            assert_eq!(info.verb == "watch", options.watch, "{query}");
        }
    }
}
