//! Label and field selectors of a list or watch.

use super::stored::Facets;
use api::catalogue::Resource;
use meta::selector::{FieldSelector, Selector};
use meta::status::{Result, Status};

/// Parsed once for a request.
#[derive(Clone, Debug)]
pub struct Selection {
    labels: Option<Selector>,
    fields: Option<FieldSelector>,
    /// What each term of `fields` looks at.
    looked_at: Vec<Field>,
}

#[derive(Clone, Copy, Debug)]
enum Field {
    Name,
    Namespace,
    /// Position among the strategy's selectable fields.
    Own(usize),
}

impl Selection {
    pub fn parse(row: &Resource, labels: &str, fields: &str) -> Result<Selection> {
        let labels = match labels.trim() {
            "" => None,
            text => Some(Selector::parse(text).map_err(Status::bad_request)?),
        };
        let mut looked_at = Vec::new();
        let fields = match fields.trim() {
            "" => None,
            text => {
                let parsed = FieldSelector::parse(text).map_err(Status::bad_request)?;
                let builtin = std::sync::Arc::ptr_eq(&row.types, api::facts::types());
                let known = row.strategy.selectable_fields(&serde_json::Value::Null);
                for term in &parsed.terms {
                    let name = term.field.as_str();
                    looked_at.push(match known.iter().position(|(k, _)| *k == name) {
                        _ if name == "metadata.name" => Field::Name,
                        _ if name == "metadata.namespace" && (row.namespaced || known.is_empty()) => Field::Namespace,
                        Some(i) => Field::Own(i),
                        None => return Err(Status::bad_request(unsupported(row, builtin && known.is_empty(), name))),
                    });
                }
                Some(parsed)
            }
        };
        Ok(Selection { labels, fields, looked_at })
    }

    pub fn is_all(&self) -> bool {
        self.labels.is_none() && self.fields.is_none()
    }

    /// The one object that `metadata.name=x` asks for.
    pub fn single_name(&self) -> Option<&str> {
        self.fields.as_ref()?.terms.iter().find(|t| t.field == "metadata.name" && !t.not).map(|t| t.value.as_str())
    }

    pub fn matches(&self, facets: &Facets) -> bool {
        if let Some(l) = &self.labels
            && !l.matches(&facets.labels)
        {
            return false;
        }
        if let Some(f) = &self.fields {
            return f.terms.iter().zip(&self.looked_at).all(|(t, field)| {
                t.matches(match field {
                    Field::Name => &facets.name,
                    Field::Namespace => &facets.namespace,
                    Field::Own(i) => facets.fields.get(*i).map_or("", String::as_str),
                })
            });
        }
        true
    }
}

/// Upstream words it by who converts the field's name.
fn unsupported(row: &Resource, plain: bool, name: &str) -> String {
    match (plain, row.group.as_str(), row.kind.as_str()) {
        (true, ..) => {
            format!("{name:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
        (_, "batch", "Job") => format!("field label {name:?} not supported for Job"),
        (_, "resource.k8s.io", "ResourceSlice") => {
            format!("field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: {name}")
        }
        _ => format!("field label not supported: {name}"),
    }
}
