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
    /// PartialObjectMetadata(List) of this version.
    Partial {
        version: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    pub format: Format,
    pub shape: Shape,
}

pub const JSON: Accept = Accept { format: Format::Json, shape: Shape::Plain };

const SUPPORTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// Takes the first range of the header that the server can serve; `tables` says whether Table and
/// PartialObjectMetadata make sense for this request.
pub fn negotiate(header: Option<&str>, tables: bool, watch: bool) -> Result<Accept> {
    let header = header.unwrap_or("*/*").trim();
    if header.is_empty() {
        return Ok(JSON);
    }
    for range in header.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let format = match parts.next().unwrap_or("") {
            "application/json" | "application/*" | "*/*" => Format::Json,
            "application/json;stream=watch" => Format::Json,
            "application/yaml" | "application/x-yaml" | "text/yaml" if !watch => Format::Yaml,
            "application/vnd.kubernetes.protobuf" => Format::Protobuf,
            _ => continue,
        };
        let (mut group, mut version, mut kind) = ("", "", "");
        for p in parts {
            match p.split_once('=') {
                Some(("g", v)) => group = v,
                Some(("v", v)) => version = v,
                Some(("as", v)) => kind = v,
                _ => {}
            }
        }
        let shape = match (kind, group, version) {
            ("", _, _) => Shape::Plain,
            ("Table", "meta.k8s.io", "v1" | "v1beta1") if tables => Shape::Table { version: version.to_string() },
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1" | "v1beta1") if tables => {
                Shape::Partial { version: version.to_string() }
            }
            _ => continue,
        };
        return Ok(Accept { format, shape });
    }
    Err(Status::not_acceptable(format!("only the following media types are accepted: {SUPPORTED}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_servable_range_wins() {
        let table = |v: &str| Shape::Table { version: v.to_string() };
        for (header, want) in [
            (None, Some((Format::Json, Shape::Plain))),
            (Some("*/*"), Some((Format::Json, Shape::Plain))),
            (Some("application/yaml"), Some((Format::Yaml, Shape::Plain))),
            (
                Some(
                    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                ),
                Some((Format::Json, table("v1"))),
            ),
            (Some("application/json;as=Table;v=v9;g=meta.k8s.io,application/json"), Some((Format::Json, Shape::Plain))),
            (Some("application/vnd.kubernetes.protobuf, application/json"), Some((Format::Protobuf, Shape::Plain))),
            (Some("text/html"), None),
            (Some("application/json;as=Table;v=v9;g=meta.k8s.io"), None),
        ] {
            let got = negotiate(header, true, false).ok().map(|a| (a.format, a.shape));
            assert_eq!(got, want, "{header:?}");
        }
    }

    #[test]
    fn a_table_where_tables_make_no_sense_is_not_acceptable() {
        let s = negotiate(Some("application/json;as=Table;v=v1;g=meta.k8s.io"), false, false).unwrap_err();
        assert_eq!((s.code, s.reason), (406, "NotAcceptable"));
    }
}
