//! [`Attributes`] as a `SubjectAccessReview` asks about them, both ways. Pure.

use super::Attributes;
use meta::selector::{FieldSelector, Operator, Requirement, Selector};
use serde_json::{Map, Value, json};

/// The spec of a review that asks what `a` asks. `version`: `v1` or `v1beta1` of `authorization.k8s.io`.
pub fn spec_of(a: &Attributes, version: &str) -> Value {
    let mut spec = json!({});
    let mut put = |key: &str, value: Value, empty: bool| {
        if !empty {
            spec[key] = value;
        }
    };
    if a.is_resource {
        let mut resource = Map::new();
        for (key, value) in [
            ("namespace", &a.namespace),
            ("verb", &a.verb),
            ("group", &a.group),
            ("version", &a.version),
            ("resource", &a.resource),
            ("subresource", &a.subresource),
            ("name", &a.name),
        ] {
            if !value.is_empty() {
                resource.insert(key.to_string(), value.as_str().into());
            }
        }
        // Selectors that make no sense are left out: whoever decides sees a wider question.
        for (key, requirements) in [
            ("fieldSelector", field_requirements(&a.field_selector)),
            ("labelSelector", label_requirements(&a.label_selector)),
        ] {
            if let Ok(Some(requirements)) = requirements {
                resource.insert(key.to_string(), json!({"requirements": requirements}));
            }
        }
        put("resourceAttributes", resource.into(), false);
    } else {
        put("nonResourceAttributes", json!({"path": a.path, "verb": a.verb}), false);
    }
    put("user", a.user.name.as_str().into(), a.user.name.is_empty());
    put("uid", a.user.uid.as_str().into(), a.user.uid.is_empty());
    let groups = if version == "v1beta1" { "group" } else { "groups" };
    put(groups, json!(a.user.groups), a.user.groups.is_empty());
    put("extra", json!(a.user.extra), a.user.extra.is_empty());
    spec
}

/// Everything that a match condition may look at, empty fields too, so that expressions needn't ask whether they are
/// there.
pub fn request_of(a: &Attributes) -> Value {
    let sparse = spec_of(a, "v1");
    let mut request = json!({
        "user": a.user.name, "uid": a.user.uid, "groups": a.user.groups, "extra": a.user.extra,
    });
    if a.is_resource {
        let mut resource = json!({
            "namespace": a.namespace, "verb": a.verb, "group": a.group, "version": a.version,
            "resource": a.resource, "subresource": a.subresource, "name": a.name,
        });
        for key in ["fieldSelector", "labelSelector"] {
            if let Some(selector) = sparse["resourceAttributes"].get(key) {
                resource[key] = selector.clone();
            }
        }
        request["resourceAttributes"] = resource;
    } else {
        request["nonResourceAttributes"] = sparse["nonResourceAttributes"].clone();
    }
    request
}

/// `None`: there is no selector.
fn field_requirements(raw: &str) -> Result<Option<Vec<Value>>, String> {
    let selector = FieldSelector::parse(raw)?;
    let all: Vec<Value> = selector
        .terms
        .iter()
        .map(|t| json!({"key": t.field, "operator": if t.not { "NotIn" } else { "In" }, "values": [t.value]}))
        .collect();
    Ok((!all.is_empty()).then_some(all))
}

fn label_requirements(raw: &str) -> Result<Option<Vec<Value>>, String> {
    let selector = Selector::parse(raw)?;
    let all: Vec<Value> = selector
        .requirements
        .iter()
        .filter_map(|r| {
            let operator = match r.operator {
                Operator::In | Operator::Equals => "In",
                Operator::NotIn | Operator::NotEquals => "NotIn",
                Operator::Exists => "Exists",
                Operator::DoesNotExist => "DoesNotExist",
                // Reviews have no words for these.
                Operator::GreaterThan | Operator::LessThan => return None,
            };
            let mut requirement = json!({"key": r.key, "operator": operator});
            if !r.values.is_empty() {
                requirement["values"] = r.values.clone().into();
            }
            Some(requirement)
        })
        .collect();
    Ok((!all.is_empty()).then_some(all))
}

/// A review's selector, in the query's notation, and upstream's remark when not all of it counts.
pub fn selector_of(v: &Value, field: &str) -> (String, Option<String>) {
    let ignored = || Some(format!("spec.resourceAttributes.{field} ignored due to parse error"));
    let partially = || Some(format!("spec.resourceAttributes.{field} partially ignored due to parse error"));
    let labels = field == "labelSelector";
    if let Some(raw) = v["rawSelector"].as_str().filter(|r| !r.is_empty()) {
        let good = if labels { Selector::parse(raw).is_ok() } else { FieldSelector::parse(raw).is_ok() };
        return if good { (raw.to_string(), None) } else { (String::new(), ignored()) };
    }
    let requirements = v["requirements"].as_array().map(Vec::as_slice).unwrap_or_default();
    let terms: Vec<String> =
        requirements.iter().filter_map(|r| if labels { label_term(r) } else { field_term(r) }).collect();
    let remark = match terms.len() {
        n if n == requirements.len() => None,
        0 => ignored(),
        _ => partially(),
    };
    (terms.join(","), remark)
}

fn parts(r: &Value) -> Option<(&str, &str, Vec<String>)> {
    let values = r["values"].as_array().map(|a| a.iter().filter_map(|v| v.as_str().map(str::to_string)).collect());
    Some((r["key"].as_str()?, r["operator"].as_str()?, values.unwrap_or_default()))
}

/// Field selectors know `=` and `!=` only.
fn field_term(r: &Value) -> Option<String> {
    let (key, operator, values) = parts(r)?;
    let [value] = values.as_slice() else { return None };
    let not = match operator {
        "In" => false,
        "NotIn" => true,
        _ => return None,
    };
    Some(meta::selector::FieldTerm { field: key.to_string(), value: value.clone(), not }.to_string())
}

fn label_term(r: &Value) -> Option<String> {
    let (key, operator, values) = parts(r)?;
    let operator = match operator {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        _ => return None,
    };
    Requirement::new(key, operator, values.clone()).ok()?;
    let list = values.join(",");
    Some(match operator {
        Operator::In => format!("{key} in ({list})"),
        Operator::NotIn => format!("{key} notin ({list})"),
        Operator::Exists => key.to_string(),
        _ => format!("!{key}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::User;

    #[test]
    fn questions_are_asked_with_their_selectors() {
        let user = User { uid: "u".into(), ..User::new("jane", &["dev"]) };
        let mut a = Attributes::resource(&user, "list", "", "pods", "d", "");
        a.version = "v1".into();
        a.field_selector = "spec.nodeName=n1,status.phase!=Failed".into();
        a.label_selector = "app in (a,b),!gone,tier,x!=y".into();
        assert_eq!(
            spec_of(&a, "v1"),
            json!({"user":"jane","uid":"u","groups":["dev"],"resourceAttributes":{
                "namespace":"d","verb":"list","version":"v1","resource":"pods",
                "fieldSelector":{"requirements":[
                    {"key":"spec.nodeName","operator":"In","values":["n1"]},
                    {"key":"status.phase","operator":"NotIn","values":["Failed"]}]},
                "labelSelector":{"requirements":[
                    {"key":"app","operator":"In","values":["a","b"]},
                    {"key":"gone","operator":"DoesNotExist"},
                    {"key":"tier","operator":"Exists"},
                    {"key":"x","operator":"NotIn","values":["y"]}]}}})
        );
        assert_eq!(spec_of(&a, "v1beta1")["group"], json!(["dev"]));
        assert_eq!(request_of(&a)["resourceAttributes"]["name"], "");
        a.label_selector = "((".into();
        assert_eq!(spec_of(&a, "v1")["resourceAttributes"].get("labelSelector"), None);
        let path = Attributes { verb: "get".into(), path: "/metrics".into(), ..Attributes::default() };
        assert_eq!(spec_of(&path, "v1"), json!({"nonResourceAttributes":{"path":"/metrics","verb":"get"}}));
    }

    #[test]
    fn selectors_of_reviews_are_read_as_far_as_they_make_sense() {
        let one =
            |key: &str, operator: &str, values: &[&str]| json!({"key": key, "operator": operator, "values": values});
        for (field, selector, expected, remark) in [
            ("fieldSelector", json!({"rawSelector": "a=b"}), "a=b", ""),
            ("fieldSelector", json!({"rawSelector": "a~b"}), "", "ignored due to"),
            (
                "fieldSelector",
                json!({"requirements": [one("a", "In", &["b"]), one("c", "NotIn", &["d,e"])]}),
                "a=b,c!=d\\,e",
                "",
            ),
            (
                "fieldSelector",
                json!({"requirements": [one("a", "In", &["b", "c"]), one("c", "NotIn", &["d"])]}),
                "c!=d",
                "partially",
            ),
            ("fieldSelector", json!({"requirements": [one("a", "Exists", &[])]}), "", "ignored due to"),
            (
                "labelSelector",
                json!({"requirements": [one("a", "In", &["b", "c"]), one("d", "Exists", &[])]}),
                "a in (b,c),d",
                "",
            ),
            ("labelSelector", json!({"requirements": [one("a", "Odd", &["b"])]}), "", "ignored due to"),
            ("labelSelector", json!({"rawSelector": "a in (b"}), "", "ignored due to"),
            ("labelSelector", Value::Null, "", ""),
        ] {
            let (got, told) = selector_of(&selector, field);
            assert_eq!(got, expected, "{selector}");
            assert!(
                told.as_deref().unwrap_or_default().contains(remark) && told.is_some() != remark.is_empty(),
                "{told:?}"
            );
        }
    }
}
