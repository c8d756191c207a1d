//! What types and fields are for, in upstream's words.
//!
//! In: the blob that `build.rs` makes. Out: a lookup by definition and field. It is unpacked for a document that is being
//! built and dropped with the builder, so that an idle server doesn't hold it.

use api::strategy::{About, Strategy};
use std::collections::HashMap;
use std::io::Read;
use std::sync::LazyLock;

static BLOB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.deflate"));

/// Changes when any text does.
pub fn fingerprint() -> &'static str {
    static HASH: LazyLock<String> = LazyLock::new(|| super::etag(BLOB));
    &HASH
}

/// What OpenAPI says of a field that a table shows: `api.core.v1.PodStatus.podIP`. Unlike the rest these few texts are kept,
/// because tables are asked for all the time.
pub fn of_column(field: &'static str) -> &'static str {
    static TEXTS: LazyLock<HashMap<&'static str, String>> = LazyLock::new(|| {
        let all = Descriptions::unpack();
        let rows = api::catalogue::builtin();
        let of_rows = rows.iter().flat_map(|r| r.strategy.columns());
        let of_scales = [true, false].map(|custom| api::kinds::scale::Scale { custom });
        let columns = of_rows.chain(of_scales.iter().flat_map(|s| s.columns()));
        let fields = columns.filter_map(|c| if let About::Field(field) = c.about { Some(field) } else { None });
        let text = |field: &'static str| {
            let (definition, name) = field.rsplit_once('.')?;
            Some((field, all.of(&format!("io.k8s.{definition}")).get(name)?.to_string()))
        };
        fields.filter_map(text).collect()
    });
    TEXTS.get(field).map_or("", String::as_str)
}

/// Texts by definition (`io.k8s.api.core.v1.Pod`), then by field; the empty field is the definition itself.
pub struct Descriptions {
    text: String,
    /// Where each definition's entries are in `text`.
    definitions: HashMap<String, (usize, usize)>,
}

impl Descriptions {
    pub fn unpack() -> Descriptions {
        let mut text = String::new();
        if let Err(error) = flate2::read::DeflateDecoder::new(BLOB).read_to_string(&mut text) {
            // The program's own file is damaged; documents without prose are better than none.
            tracing::error!(%error, "the texts of the API's fields can't be read");
        }
        let mut definitions: HashMap<String, (usize, usize)> = HashMap::new();
        let mut at = 0;
        for entry in text.split_inclusive('\x1e') {
            let end = at + entry.len();
            if let Some((name, _)) = entry.split_once('\x1f') {
                definitions.entry(name.to_string()).or_insert((at, end)).1 = end;
            }
            at = end;
        }
        Descriptions { text, definitions }
    }

    /// The texts of one definition: of itself (under the empty name) and of its fields.
    pub fn of(&self, definition: &str) -> HashMap<&str, &str> {
        // A version that this release has as a beta alone, and the next as v1, means the same.
        let beta = || self.definitions.get(&definition.replace(".v1.", ".v1beta1."));
        let Some((start, end)) = self.definitions.get(definition).or_else(beta) else {
            return HashMap::new();
        };
        let entries = self.text[*start..*end].split_terminator('\x1e');
        entries.filter_map(|e| e.split_once('\x1f')?.1.split_once('\x1f')).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::facts::types;
    use meta::schema::Shape;

    #[test]
    fn every_field_of_every_kind_has_a_text() {
        let all = Descriptions::unpack();
        let types = types();
        let mut missing = Vec::new();
        let mut seen = 0;
        for gvk in api::catalogue::builtin() {
            let ty = types.get(gvk.types().1);
            let Shape::Struct(s) = &ty.shape else { continue };
            let texts = all.of(&format!("io.k8s.{}", ty.name.replace('_', "-")));
            for field in s.fields.iter().map(|f| f.name.as_str()).chain([""]) {
                seen += 1;
                if !texts.get(field).is_some_and(|t| t.len() > 5) {
                    missing.push(format!("{}.{field}", ty.name));
                }
            }
        }
        // Upstream has none for this one either.
        assert_eq!(missing, ["api.certificates.v1.CertificateSigningRequest.metadata"]);
        assert!(seen > 300, "{seen}");
    }

    #[test]
    fn every_column_says_what_it_shows() {
        let mut silent = Vec::new();
        for row in api::catalogue::builtin() {
            for column in row.strategy.columns() {
                let text = match &column.about {
                    About::Text(text) => text,
                    About::Field(field) => of_column(field),
                };
                if text.len() < 10 {
                    silent.push(format!("{} {}", row.plural, column.name));
                }
            }
        }
        // Nor has upstream's.
        assert_eq!(silent, ["runtimeclasses Handler"]);
        assert!(of_column("api.core.v1.PodStatus.podIP").contains("IP address"));
        assert!(of_column(api::strategy::NAMED).starts_with("Name must be unique"));
    }

    #[test]
    fn fields_of_nested_and_meta_types_too() {
        let all = Descriptions::unpack();
        for (definition, field, has) in [
            ("io.k8s.api.core.v1.Container", "image", "Container image name"),
            ("io.k8s.api.core.v1.Pod", "", "collection of containers"),
            ("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "labels", "Map of string keys"),
            ("io.k8s.apimachinery.pkg.api.resource.Quantity", "", "fixed-point"),
        ] {
            let texts = all.of(definition);
            assert!(texts.get(field).is_some_and(|t| t.contains(has)), "{definition}.{field}: {:?}", texts.get(field));
        }
        assert!(all.of("io.k8s.api.core.v1.Nothing").is_empty());
    }
}
