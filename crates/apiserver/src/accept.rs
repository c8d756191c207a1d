//! Content negotiation: in which format, and as what, a client wants its answer.
//!
//! Source: API concepts, "Alternate representations of resources" and "Receiving resources as Tables".

use meta::status::{Result, Status};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
    Protobuf,
}

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Yaml => "application/yaml",
            Format::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

/// The representation that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    Plain,
    /// `meta.k8s.io` Table of this version.
    Table {
        version: String,
    },
    /// PartialObjectMetadata of this version, or a list of them.
    Partial {
        version: String,
        list: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    pub format: Format,
    pub shape: Shape,
    /// JSON for human eyes.
    pub pretty: bool,
}

pub const JSON: Accept = Accept { format: Format::Json, shape: Shape::Plain, pretty: false };

/// What an endpoint can answer.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// Whether Table and PartialObjectMetadata make sense.
    pub tables: bool,
    /// Whether its objects have a protobuf form. Metadata alone always has one.
    pub protobuf: bool,
    pub watch: bool,
}

impl Endpoint {
    /// Anything that has no rows: errors, reviews, subresources of other kinds.
    pub const BARE: Endpoint = Endpoint { tables: false, protobuf: true, watch: false };
}

const SUPPORTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const SUPPORTED_PAGES: &str = "application/json, application/yaml, text/plain";
const SUPPORTED_STREAMS: &str = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

/// One range of an `Accept` header.
struct Range<'a> {
    kind: &'a str,
    subkind: &'a str,
    params: Vec<(&'a str, &'a str)>,
    q: f32,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Range<'a>> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subkind) = match parts.next()?.split_once('/') {
            Some((kind, subkind)) => (kind.trim(), subkind.trim()),
            None => return None,
        };
        let params: Vec<(&str, &str)> =
            parts.filter_map(|p| p.split_once('=')).map(|(k, v)| (k.trim(), v.trim().trim_matches('"'))).collect();
        let q = params.iter().find(|(k, _)| *k == "q").map_or(1.0, |(_, v)| v.parse().unwrap_or(1.0));
        Some(Range { kind, subkind, params, q })
    }

    fn wildcards(&self) -> u8 {
        u8::from(self.kind == "*") + u8::from(self.subkind == "*")
    }

    fn takes(&self, subkind: &str) -> bool {
        match (self.kind, self.subkind) {
            ("*", "*") | ("application", "*") => true,
            ("application", s) => s == subkind || (subkind == "yaml" && s == "x-yaml"),
            ("text", "yaml") => subkind == "yaml",
            _ => false,
        }
    }
}

/// Those of a header, the best first: by weight, then by how exact they are, then in order.
fn ranges(header: &str) -> Vec<Range<'_>> {
    let mut ranges: Vec<Range<'_>> = header.split(',').filter_map(|t| Range::parse(t.trim())).collect();
    ranges.sort_by(|a, b| b.q.total_cmp(&a.q).then(a.wildcards().cmp(&b.wildcards())));
    ranges
}

/// The best range of the header that the endpoint can serve.
pub fn negotiate(header: Option<&str>, endpoint: Endpoint) -> Result<Accept> {
    let header = header.unwrap_or("").trim();
    if header.is_empty() {
        return Ok(JSON);
    }
    for range in &ranges(header) {
        for (subkind, format) in
            [("json", Format::Json), ("yaml", Format::Yaml), ("vnd.kubernetes.protobuf", Format::Protobuf)]
        {
            if range.takes(subkind)
                && let Some(accept) = take(range, format, endpoint)
            {
                if endpoint.watch && format == Format::Yaml {
                    break;
                }
                return Ok(accept);
            }
        }
    }
    let types = if endpoint.watch { SUPPORTED_STREAMS } else { SUPPORTED };
    Err(Status::not_acceptable(format!("only the following media types are accepted: {types}")))
}

/// How `/statusz` and `/flagz` are to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    Text,
    Structured { version: String, format: Accept },
}

/// The form of such a page: text unless the object `kind` is asked for with its group and version.
pub fn page(header: &str, kind: &str) -> Result<Page> {
    if header.trim().is_empty() {
        return Ok(Page::Text);
    }
    for range in ranges(header) {
        let param = |name: &str| range.params.iter().find(|(k, _)| *k == name).map_or("", |(_, v)| *v);
        let (group, version, asked) = (param("g"), param("v"), param("as"));
        if !param("stream").is_empty() {
            continue;
        }
        if group == "config.k8s.io" && matches!(version, "v1alpha1" | "v1beta1") && asked == kind {
            for (subkind, format) in [("json", Format::Json), ("yaml", Format::Yaml)] {
                if range.takes(subkind) {
                    let format = Accept { format, shape: Shape::Plain, pretty: param("pretty") == "1" };
                    return Ok(Page::Structured { version: version.to_string(), format });
                }
            }
        }
        let text = matches!((range.kind, range.subkind), ("*", "*") | ("text", "*" | "plain"));
        if text && group.is_empty() && version.is_empty() && asked.is_empty() {
            return Ok(Page::Text);
        }
    }
    Err(Status::not_acceptable(format!("only the following media types are accepted: {SUPPORTED_PAGES}")))
}

fn take(range: &Range<'_>, format: Format, endpoint: Endpoint) -> Option<Accept> {
    let (mut group, mut version, mut kind, mut pretty) = ("", "", "", false);
    for (k, v) in &range.params {
        match *k {
            "g" => group = v,
            "v" => version = v,
            "as" => kind = v,
            "pretty" => pretty = *v == "1",
            "stream" if !v.is_empty() && (*v != "watch" || format == Format::Yaml) => return None,
            _ => {}
        }
    }
    let shape = match (kind, group, version) {
        ("", "", "") => Shape::Plain,
        // A Table's cells can be anything, which protobuf can't say.
        ("Table", "meta.k8s.io", "v1" | "v1beta1") if endpoint.tables && format != Format::Protobuf => {
            Shape::Table { version: version.to_string() }
        }
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1" | "v1beta1") if endpoint.tables => {
            Shape::Partial { version: version.to_string(), list: kind.ends_with("List") }
        }
        _ => return None,
    };
    if format == Format::Protobuf && !endpoint.protobuf && shape == Shape::Plain {
        return None;
    }
    Some(Accept { format, shape, pretty })
}

/// Whether JSON is to be indented: by `?pretty=`, or because a person sits behind the client.
pub fn is_pretty(parameter: Option<bool>, user_agent: &str) -> bool {
    parameter.unwrap_or_else(|| ["curl", "Wget", "Mozilla/5.0"].iter().any(|p| user_agent.starts_with(p)))
}

/// Whether the client takes gzip. Weights don't count, as in upstream.
pub fn takes_gzip(accept_encoding: Option<&str>) -> bool {
    accept_encoding.is_some_and(|v| v.split(',').any(|t| t.trim() == "gzip"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Endpoint = Endpoint { tables: true, protobuf: true, watch: false };

    fn table(v: &str) -> Shape {
        Shape::Table { version: v.to_string() }
    }

    fn partial(list: bool) -> Shape {
        Shape::Partial { version: "v1".to_string(), list }
    }

    #[test]
    fn pages_are_text_unless_their_object_is_asked_for() {
        let beta = |kind: &str| format!("application/json;v=v1beta1;g=config.k8s.io;as={kind}");
        for (header, expected) in [
            ("", "text"),
            ("text/plain", "text"),
            ("*/*", "text"),
            ("text/*;q=0.1", "text"),
            (&beta("Statusz"), "v1beta1 Json"),
            ("application/yaml;g=config.k8s.io;v=v1alpha1;as=Statusz", "v1alpha1 Yaml"),
            (&format!("application/json;v=foo;g=config.k8s.io;as=Statusz,{}", "*/*"), "text"),
            (&format!("text/plain;q=0.5,{}", beta("Statusz")), "v1beta1 Json"),
            (&beta("Flagz"), "406"),
            ("application/json", "406"),
            ("application/json;v=v1beta1;g=config.k8s.io", "406"),
            ("application/vnd.kubernetes.protobuf;v=v1beta1;g=config.k8s.io;as=Statusz", "406"),
            ("application/xml", "406"),
        ] {
            let got = match page(header, "Statusz") {
                Ok(Page::Text) => "text".to_string(),
                Ok(Page::Structured { version, format }) => format!("{version} {:?}", format.format),
                Err(e) => e.code.to_string(),
            };
            assert_eq!(got, expected, "{header}");
        }
    }

    #[test]
    fn the_best_servable_range_wins() {
        use Format::*;
        use Shape::Plain;
        for (header, want) in [
            (None, Some((Json, Plain))),
            (Some("*/*"), Some((Json, Plain))),
            (Some("application/*"), Some((Json, Plain))),
            (Some("application/yaml"), Some((Yaml, Plain))),
            (
                Some(
                    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                ),
                Some((Json, table("v1"))),
            ),
            (Some("application/json;as=Table;v=v9;g=meta.k8s.io,application/json"), Some((Json, Plain))),
            (Some("application/vnd.kubernetes.protobuf, application/json"), Some((Protobuf, Plain))),
            (Some("application/vnd.kubernetes.protobuf;q=0.5, application/json"), Some((Json, Plain))),
            (Some("application/json;q=0.8,application/yaml;q=0.9,*/*;q=0.1"), Some((Yaml, Plain))),
            (Some("*/*, application/yaml"), Some((Yaml, Plain))),
            (Some("text/html, */*;q=0.1"), Some((Json, Plain))),
            // No protobuf of a Table: the next range, or none.
            (
                Some("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json"),
                Some((Json, Plain)),
            ),
            (Some("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io"), None),
            (
                Some("application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
                Some((Protobuf, partial(true))),
            ),
            (Some("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"), Some((Json, partial(false)))),
            (Some("application/json;stream=watch"), Some((Json, Plain))),
            (Some("application/json;stream=other"), None),
            (Some("text/html"), None),
            (Some("application/json;as=Table;v=v9;g=meta.k8s.io"), None),
            (Some("nonsense"), None),
        ] {
            let got = negotiate(header, ALL).ok().map(|a| (a.format, a.shape));
            assert_eq!(got, want, "{header:?}");
        }
        assert!(negotiate(Some("application/json;pretty=1"), ALL).unwrap().pretty);
    }

    #[test]
    fn a_table_where_tables_make_no_sense_is_not_acceptable() {
        let s = negotiate(Some("application/json;as=Table;v=v1;g=meta.k8s.io"), Endpoint::BARE).unwrap_err();
        assert_eq!((s.code, s.reason), (406, "NotAcceptable"));
        assert_eq!(
            s.message,
            "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        );
    }

    #[test]
    fn custom_resources_have_no_protobuf_but_of_their_metadata() {
        let e = Endpoint { protobuf: false, ..ALL };
        let got = negotiate(Some("application/vnd.kubernetes.protobuf,application/json"), e).unwrap();
        assert_eq!(got, JSON);
        assert!(negotiate(Some("application/vnd.kubernetes.protobuf"), e).is_err());
        let header = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        assert_eq!(negotiate(Some(header), e).unwrap().format, Format::Protobuf);
    }

    #[test]
    fn watches_have_no_yaml() {
        let e = Endpoint { watch: true, ..ALL };
        let s = negotiate(Some("application/yaml"), e).unwrap_err();
        assert_eq!(s.message, format!("only the following media types are accepted: {SUPPORTED_STREAMS}"));
        assert_eq!(negotiate(Some("application/json;stream=watch"), e).unwrap(), JSON);
    }

    #[test]
    fn people_get_indented_json_and_gzip_is_asked_for_by_name() {
        for (parameter, agent, want) in [
            (None, "kubectl/v1.36", false),
            (None, "curl/8", true),
            (Some(false), "curl/8", false),
            (Some(true), "kubectl", true),
            (None, "Mozilla/5.0 (X11)", true),
        ] {
            assert_eq!(is_pretty(parameter, agent), want, "{agent}");
        }
        for (header, want) in [
            (None, false),
            (Some("gzip"), true),
            (Some("br, gzip"), true),
            (Some("gzip;q=0"), false),
            (Some("identity"), false),
        ] {
            assert_eq!(takes_gzip(header), want, "{header:?}");
        }
    }
}
