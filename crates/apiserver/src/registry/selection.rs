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
                let builtin = row.is_builtin();
                let known = row.strategy.selectable_fields(&serde_json::Value::Null);
                // Upstream's list of this kind lacks it.
                let unselected =
                    (row.group.as_str(), row.kind.as_str()) == ("certificates.k8s.io", "PodCertificateRequest");
                let by_namespace = (row.namespaced && !unselected) || known.is_empty();
                for term in &parsed.terms {
                    let name = match (row.group.as_str(), row.kind.as_str(), term.field.as_str()) {
                        // What old clients call it.
                        ("", "Pod", "spec.host") => "spec.nodeName",
                        (.., name) => name,
                    };
                    looked_at.push(match known.iter().position(|(k, _)| *k == name) {
                        _ if name == "metadata.name" => Field::Name,
                        _ if name == "metadata.namespace" && by_namespace => Field::Namespace,
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

#[cfg(test)]
mod tests {
    use super::*;

    const META: &[&str] = &["metadata.name", "metadata.namespace"];

    /// Upstream's `AddFieldLabelConversionFunc`, a row a kind that has one: group, kind, what it takes, how it says no.
    #[rustfmt::skip] // A table reads better with a row a line.
    const KINDS: &[(&str, &str, &[&str], &str)] = &[
        ("", "Event", &["involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
            "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason",
            "reportingComponent", "source", "type"], "field label not supported: nope"),
        ("", "Namespace", &["status.phase"], "field label not supported: nope"),
        ("", "Node", &["spec.unschedulable"], "field label not supported: nope"),
        ("", "Pod", &["spec.nodeName", "spec.host", "spec.restartPolicy", "spec.schedulerName",
            "spec.serviceAccountName", "spec.hostNetwork", "status.phase", "status.podIP", "status.podIPs",
            "status.nominatedNodeName"], "field label not supported: nope"),
        ("", "ReplicationController", &["status.replicas"], "field label not supported: nope"),
        ("", "Secret", &["type"], "field label not supported: nope"),
        ("", "Service", &["spec.clusterIP", "spec.type"], "field label not supported: nope"),
        ("batch", "Job", &["status.successful"], "field label \"nope\" not supported for Job"),
        ("certificates.k8s.io", "CertificateSigningRequest", &["spec.signerName"], "field label not supported: nope"),
        ("certificates.k8s.io", "ClusterTrustBundle", &["spec.signerName"], "field label not supported: nope"),
        ("certificates.k8s.io", "PodCertificateRequest", &["spec.signerName", "spec.podName", "spec.nodeName"],
            "field label not supported: nope"),
        ("events.k8s.io", "Event", &["regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid",
            "regarding.apiVersion", "regarding.resourceVersion", "regarding.fieldPath", "reason",
            "reportingController", "type"], "field label not supported: nope"),
        ("resource.k8s.io", "ResourceSlice", &["spec.nodeName", "spec.driver"],
            "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: nope"),
    ];

    fn taken(row: &Resource, field: &str) -> std::result::Result<(), String> {
        Selection::parse(row, "", &format!("{field}=x")).map(drop).map_err(|s| s.message)
    }

    #[test]
    fn every_kind_takes_upstreams_fields_and_no_others() {
        for row in api::catalogue::builtin() {
            let known = KINDS.iter().find(|k| k.0 == row.group && k.1 == row.kind);
            assert_eq!(taken(&row, "metadata.name"), Ok(()), "{row:?}");
            match known {
                Some((_, _, fields, refusal)) => {
                    for field in *fields {
                        assert_eq!(taken(&row, field), Ok(()), "{row:?} {field}");
                    }
                    // Those of the other kinds aren't.
                    for field in KINDS.iter().flat_map(|k| k.2).filter(|f| !fields.contains(f)) {
                        assert!(taken(&row, field).is_err(), "{row:?} {field}");
                    }
                    assert_eq!(taken(&row, "nope"), Err(refusal.to_string()), "{row:?}");
                    let by_namespace = row.namespaced && row.kind != "PodCertificateRequest";
                    assert_eq!(taken(&row, "metadata.namespace").is_ok(), by_namespace, "{row:?}");
                }
                None => {
                    for field in META {
                        assert_eq!(taken(&row, field), Ok(()), "{row:?} {field}");
                    }
                    let refusal =
                        "\"nope\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"";
                    assert_eq!(taken(&row, "nope"), Err(refusal.to_string()), "{row:?}");
                }
            }
        }
    }

    #[test]
    fn one_event_answers_to_both_names_of_a_field() {
        let rows = api::catalogue::builtin();
        let event = serde_json::json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "d"},
            "involvedObject": {"kind": "Pod", "name": "p"}, "reportingComponent": "kubelet", "type": "Normal",
            "source": {"component": "old"}});
        let of = |group: &str| api::catalogue::find(&rows, group, "v1", "events").unwrap();
        // Stored once, as core has it.
        let facets = Facets::of(of(""), &event);
        for (group, selector, found) in [
            ("", "involvedObject.name=p,type=Normal", true),
            ("", "source=old", true),
            ("", "source=kubelet", false),
            ("events.k8s.io", "regarding.name=p,regarding.kind=Pod", true),
            ("events.k8s.io", "reportingController=kubelet,type=Normal", true),
            ("events.k8s.io", "regarding.name=q", false),
        ] {
            let selection = Selection::parse(of(group), "", selector).unwrap();
            assert_eq!(selection.matches(&facets), found, "{selector}");
        }
    }
}
