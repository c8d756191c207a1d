//! CustomResourceDefinition (apiextensions.k8s.io): names, versions, and what makes a schema structural.

mod consistency;

use super::admissionregistration::client_config;
use super::columns;
use crate::custom::names;
use crate::strategy::{Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct CustomResourceDefinition;

/// Groups that only upstream may add to, unless an annotation points to the approval.
const PROTECTED: [&str; 2] = [".k8s.io", ".kubernetes.io"];
const APPROVED_ANNOTATION: &str = "api-approved.kubernetes.io";
/// Schemas nest; a JSON body can't nest deeper than this anyway.
const DEPTH_MAX: usize = 128;
const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];

/// Every storage version that there ever was, until a migration takes it out of `status`.
fn remember_storage_version(obj: &mut Value) {
    let stored =
        list_at(obj, &["spec", "versions"]).iter().find(|v| flag(v, "storage")).map(|v| text(v, "name").to_string());
    let Some(stored) = stored else { return };
    let Some(status) = ensure_object(obj, "status") else {
        return;
    };
    if !texts(status, "storedVersions").contains(&stored.as_str()) {
        let mut all = list(status, "storedVersions").to_vec();
        all.push(stored.into());
        set(status, "storedVersions", all);
    }
}

impl Strategy for CustomResourceDefinition {
    fn defaults(&self, obj: &mut Value) {
        let Some(spec) = ensure_object(obj, "spec") else {
            return;
        };
        if let Some(names) = ensure_object(spec, "names") {
            let kind = text(names, "kind").to_string();
            if !kind.is_empty() {
                fill_zero(names, "singular", kind.to_lowercase());
                fill_zero(names, "listKind", format!("{kind}List"));
            }
        }
        if !has(spec, "conversion") {
            set(spec, "conversion", json!({"strategy": "None"}));
        }
        if let Some(service) = object_at_mut(spec, &["conversion", "webhook", "clientConfig", "service"]) {
            fill(service, "port", 443);
        }
    }

    fn prepare_create(&self, obj: &mut Value, _has_status: bool) {
        remove(obj, "status");
        remember_storage_version(obj);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _has_status: bool) {
        copy_field(new, old, "status");
        remember_storage_version(new);
    }

    fn prepare_delete(&self, obj: &mut Value, now: jiff::Timestamp) {
        let Some(meta) = ensure_object(obj, "metadata") else { return };
        if !texts(meta, "finalizers").contains(&names::FINALIZER) {
            let mut all = list(meta, "finalizers").to_vec();
            all.push(names::FINALIZER.into());
            set(meta, "finalizers", all);
        }
        if let Some(status) = ensure_object(obj, "status") {
            names::terminating(
                status,
                "True",
                "InstanceDeletionPending",
                "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
                &meta::object::time(now),
            );
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        validate(obj, errors);
        let group = text_at(obj, &["spec", "group"]);
        let protected = PROTECTED.iter().any(|p| group.ends_with(p)) || group == "k8s.io" || group == "kubernetes.io";
        let approved = text(at(obj, &["metadata", "annotations"]), APPROVED_ANNOTATION);
        if protected && approved.is_empty() {
            errors.required(
                Path::new("metadata.annotations").key(APPROVED_ANNOTATION),
                "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
            );
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate(new, errors);
        let mut fixed: Vec<&[&str]> = vec![&["group"], &["names", "plural"]];
        let established = list_at(old, &["status", "conditions"])
            .iter()
            .any(|c| text(c, "type") == "Established" && text(c, "status") == "True");
        if established {
            fixed.push(&["scope"]);
            fixed.push(&["names", "kind"]);
        }
        // One that was broken may stay so, or nothing else could be changed.
        if names::has_sound_ca_bundle(old) && !names::has_sound_ca_bundle(new) {
            errors.invalid(
                Path::new("spec.conversion.webhookClientConfig.caBundle"),
                text_at(new, &["spec", "conversion", "webhook", "clientConfig", "caBundle"]),
                "unable to load root certificates: unable to parse bytes as PEM block",
            );
        }
        for keys in fixed {
            let of = |v| at(field(v, "spec"), keys);
            values::immutable(of(new), of(old), Path::new("spec").child(&keys.join(".")), errors);
        }
        let served = list_at(new, &["spec", "versions"]);
        for (i, stored) in texts(field(new, "status"), "storedVersions").into_iter().enumerate() {
            if !served.iter().any(|v| text(v, "name") == stored) {
                let detail = format!(
                    "missing from spec.versions; {stored} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {stored} and removes {stored} from status.storedVersions"
                );
                errors.invalid(Path::new("status.storedVersions").index(i), stored, detail);
            }
        }
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let stored = texts(field(new, "status"), "storedVersions");
        let path = Path::new("status.storedVersions");
        if stored.is_empty() {
            errors.invalid(path, json!([]), "must have at least one stored version");
            return;
        }
        let current = list_at(new, &["spec", "versions"]).iter().find(|v| flag(v, "storage")).map(|v| text(v, "name"));
        if let Some(current) = current
            && !stored.contains(&current)
        {
            errors.invalid(path, json!(stored), format!("must have the storage version {current}"));
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, column("Created At", "date", 0)];
        COLUMNS
    }

    fn row(&self, obj: &Value, _now: Now) -> Vec<Value> {
        vec![columns::name(obj), at(obj, &["metadata", "creationTimestamp"]).clone()]
    }
}

fn validate(obj: &Value, errors: &mut Errors) {
    let (spec, path) = (field(obj, "spec"), Path::new("spec"));
    let names = field(spec, "names");
    let (group, plural) = (text(spec, "group"), text(names, "plural"));
    if text_at(obj, &["metadata", "name"]) != format!("{plural}.{group}") {
        errors.invalid(
            Path::new("metadata.name"),
            text_at(obj, &["metadata", "name"]),
            "must be spec.names.plural+\".\"+spec.group",
        );
    }
    if group.is_empty() {
        errors.required(path.child("group"), "");
    } else {
        values::dns_subdomain(group, &path.child("group"), errors);
        if !group.contains('.') {
            errors.invalid(path.child("group"), group, "should be a domain with at least one dot");
        }
    }
    values::required_one_of(text(spec, "scope"), &["Cluster", "Namespaced"], path.child("scope"), errors);
    if flag(spec, "preserveUnknownFields") {
        errors.invalid(
            path.child("preserveUnknownFields"),
            true,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        );
    }
    validate_names(names, &path.child("names"), errors);
    validate_versions(list(spec, "versions"), &path.child("versions"), errors);
    validate_conversion(field(spec, "conversion"), &path.child("conversion"), errors);
}

fn validate_names(names: &Value, path: &Path, errors: &mut Errors) {
    for (key, lower) in [("plural", true), ("singular", true), ("kind", false), ("listKind", false)] {
        let name = text(names, key);
        if name.is_empty() {
            if key != "singular" {
                errors.required(path.child(key), "");
            }
            continue;
        }
        // Kinds are DNS labels too, but for the case of their letters.
        let checked = if lower { name.to_string() } else { name.to_lowercase() };
        values::each(errors, &path.child(key), name, meta::names::dns1035_label(&checked));
    }
    if !text(names, "kind").is_empty() && text(names, "kind") == text(names, "listKind") {
        errors.invalid(path.child("listKind"), text(names, "listKind"), "kind and listKind may not be the same");
    }
    for key in ["shortNames", "categories"] {
        for (i, name) in texts(names, key).into_iter().enumerate() {
            values::dns1035_label(name, &path.child(key).index(i), errors);
        }
    }
}

fn validate_versions(versions: &[Value], path: &Path, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (i, v) in versions.iter().enumerate() {
        let (path, name) = (path.index(i), text(v, "name"));
        values::dns1035_label(name, &path.child("name"), errors);
        if seen.contains(&name) {
            errors.invalid(path.child("name"), name, "must be unique");
        }
        seen.push(name);
        let (schema, at) = (at(v, &["schema", "openAPIV3Schema"]), path.child("schema.openAPIV3Schema"));
        if !schema.is_object() {
            errors.required(at, "schemas are required");
        } else {
            if text(schema, "type") != "object" {
                errors.invalid(at.child("type"), text(schema, "type"), "must be object at the root");
            }
            let before = errors.0.len();
            structural(schema, Some(Level::Root), &at, 0, errors);
            // Upstream holds a schema that all versions have once, and tells its faults there.
            let shared =
                versions.iter().all(|o| crate::validation::access::at(o, &["schema", "openAPIV3Schema"]) == schema);
            match (errors.0.len() > before, shared) {
                (true, _) => {}
                (false, false) => cel::rules::check(schema, &at, errors),
                (false, true) if i == 0 => {
                    cel::rules::check(schema, &Path::new("spec.validation.openAPIV3Schema"), errors);
                }
                (false, true) => {}
            }
        }
        let scale = at_scale(v);
        if scale.is_object() {
            let path = path.child("subresources.scale");
            for (key, under, required) in [
                ("specReplicasPath", ".spec.", true),
                ("statusReplicasPath", ".status.", true),
                ("labelSelectorPath", ".", false),
            ] {
                let value = text(scale, key);
                if value.is_empty() {
                    if required {
                        errors.required(path.child(key), "");
                    }
                } else if !value.starts_with(under) || value.contains(['[', ']']) {
                    let detail = format!("should be a json path under {under}");
                    errors.invalid(path.child(key), value, detail.trim_end_matches('.').to_string());
                }
            }
        }
        for (j, c) in list(v, "additionalPrinterColumns").iter().enumerate() {
            let path = path.child("additionalPrinterColumns").index(j);
            if text(c, "name").is_empty() {
                errors.required(path.child("name"), "");
            }
            let types = ["boolean", "date", "integer", "number", "string"];
            values::required_one_of(text(c, "type"), &types, path.child("type"), errors);
            match text(c, "jsonPath") {
                "" => errors.required(path.child("jsonPath"), ""),
                p if !p.starts_with('.') => {
                    errors.invalid(path.child("jsonPath"), p, "must be a simple json path starting with .")
                }
                _ => {}
            }
            consistency::column(c, &path, errors);
        }
        consistency::selectable_fields(v, &path, errors);
        if has(v, "deprecationWarning") && !flag(v, "deprecated") {
            let warning = text(v, "deprecationWarning");
            errors.invalid(path.child("deprecationWarning"), warning, "can only be set for deprecated versions");
        }
    }
    match versions.iter().filter(|v| flag(v, "storage")).count() {
        _ if versions.is_empty() => errors.required(path.clone(), "must have at least one version"),
        1 => {}
        _ => errors.invalid(path.clone(), json!(seen), "must have exactly one version marked as storage version"),
    }
}

fn at_scale(version: &Value) -> &Value {
    at(version, &["subresources", "scale"])
}

fn validate_conversion(conversion: &Value, path: &Path, errors: &mut Errors) {
    values::required_one_of(text(conversion, "strategy"), &["None", "Webhook"], path.child("strategy"), errors);
    let webhook = field(conversion, "webhook");
    match (text(conversion, "strategy"), webhook.is_object()) {
        ("Webhook", false) => {
            errors.required(path.child("webhook.clientConfig"), "required when strategy is set to Webhook");
        }
        ("Webhook", true) => {
            client_config(field(webhook, "clientConfig"), &path.child("webhook.clientConfig"), errors);
            let versions = texts(webhook, "conversionReviewVersions");
            if !versions.iter().any(|v| matches!(*v, "v1" | "v1beta1")) {
                errors.invalid(
                    path.child("webhook.conversionReviewVersions"),
                    json!(versions),
                    "must include at least one of v1, v1beta1",
                );
            }
        }
        (_, true) => errors.forbidden(path.child("webhook"), "should not be set when strategy is not set to Webhook"),
        _ => {}
    }
}

/// Where in a schema a node is, for the messages.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Property,
    Item,
}

/// What keeps the schemas of a CRD from being structural.
pub fn structural_errors(crd: &Value, errors: &mut Errors) {
    for (i, v) in list_at(crd, &["spec", "versions"]).iter().enumerate() {
        let path = Path::new("spec.versions").index(i).child("schema.openAPIV3Schema");
        structural(at(v, &["schema", "openAPIV3Schema"]), Some(Level::Root), &path, 0, errors);
    }
}

/// The rules of structural schemas (KEP-1693): every node says its type, and nothing is said twice.
/// `level` is `None` below `anyOf` and its like, where nodes may only restrict.
fn structural(schema: &Value, level: Option<Level>, path: &Path, depth: usize, errors: &mut Errors) {
    if depth > DEPTH_MAX {
        errors.invalid(path.clone(), Value::Null, "must not nest deeper");
        return;
    }
    let kind = text(schema, "type");
    let int_or_string = flag(schema, "x-kubernetes-int-or-string");
    let preserve = flag(schema, "x-kubernetes-preserve-unknown-fields");
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.not_supported(path.child("type"), kind, TYPES);
    }
    match level {
        Some(level) if kind.is_empty() && !int_or_string && !preserve => errors.required(
            path.child("type"),
            match level {
                Level::Root => "must not be empty at the root",
                Level::Property => "must not be empty for specified object fields",
                Level::Item => "must not be empty for specified array items",
            },
        ),
        Some(_) if int_or_string && !kind.is_empty() => {
            errors.invalid(path.child("type"), kind, "must be empty if x-kubernetes-int-or-string is true");
        }
        None if !kind.is_empty() && !int_or_string => {
            errors.forbidden(path.child("type"), "must be empty to be structural")
        }
        _ => {}
    }
    for (key, allowed) in
        [("$ref", false), ("definitions", false), ("dependencies", false), ("patternProperties", false)]
    {
        if has(schema, key) && !allowed {
            errors.forbidden(path.child(key), format!("{key} is not supported"));
        }
    }
    if flag(schema, "uniqueItems") {
        errors.forbidden(
            path.child("uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        );
    }
    match level {
        Some(level) => consistency::node(schema, level == Level::Root, path, errors),
        None => consistency::restriction(schema, int_or_string, path, errors),
    }
    let additional = field(schema, "additionalProperties");
    if additional == &json!(false) {
        errors.forbidden(path.child("additionalProperties"), "additionalProperties cannot be set to false");
    }
    if !additional.is_null() && entries(schema, "properties").next().is_some() {
        errors
            .forbidden(path.child("additionalProperties"), "additionalProperties and properties are mutual exclusive");
    }
    let items = field(schema, "items");
    if items.is_array() {
        errors.forbidden(path.child("items"), "items must be a schema object and not an array");
    }
    if kind == "array" && items.is_null() && level.is_some() {
        errors.required(path.child("items"), "must be specified");
    }
    if preserve && level.is_some() && !matches!(kind, "" | "object") {
        errors.invalid(path.child("type"), kind, "must be object if x-kubernetes-preserve-unknown-fields is true");
    }
    if flag(schema, "x-kubernetes-embedded-resource") {
        if kind != "object" {
            errors.invalid(path.child("type"), kind, "must be object if x-kubernetes-embedded-resource is true");
        }
        if entries(schema, "properties").next().is_none() && !preserve {
            errors.required(
                path.child("properties"),
                "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            );
        }
    }
    let pattern = text(schema, "pattern");
    if !pattern.is_empty()
        && let Err(e) = regex::Regex::new(pattern)
    {
        let why = e.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
        errors.invalid(path.child("pattern"), pattern, format!("must be a valid regular expression, but isn't: {why}"));
    }
    list_type(schema, kind, path, errors);

    for (name, child) in entries(schema, "properties") {
        let below = level.map(|_| Level::Property);
        structural(child, below, &path.child("properties").key(name), depth + 1, errors);
    }
    if additional.is_object() {
        structural(additional, level.map(|_| Level::Property), &path.child("additionalProperties"), depth + 1, errors);
    }
    if items.is_object() {
        structural(items, level.map(|_| Level::Item), &path.child("items"), depth + 1, errors);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for (i, child) in list(schema, key).iter().enumerate() {
            let path = path.child(key).index(i);
            // The one place where a type is allowed there: both halves of an int-or-string.
            let half = int_or_string && matches!(text(child, "type"), "integer" | "string");
            if !half {
                structural(child, None, &path, depth + 1, errors);
            }
        }
    }
    if field(schema, "not").is_object() {
        structural(field(schema, "not"), None, &path.child("not"), depth + 1, errors);
    }
}

/// `x-kubernetes-list-type` and `x-kubernetes-map-type`, which server-side apply goes by.
fn list_type(schema: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let list_type = text(schema, "x-kubernetes-list-type");
    let keys = texts(schema, "x-kubernetes-list-map-keys");
    if !list_type.is_empty() {
        if kind != "array" {
            errors.invalid(path.child("type"), kind, "must be array if x-kubernetes-list-type is specified");
        }
        values::one_of(list_type, &["atomic", "map", "set"], path.child("x-kubernetes-list-type"), errors);
    }
    if list_type == "map" {
        if keys.is_empty() {
            errors.required(
                path.child("x-kubernetes-list-map-keys"),
                "must not be empty if x-kubernetes-list-type is map",
            );
        }
        let item = field(schema, "items");
        for (i, key) in keys.iter().enumerate() {
            let property = at(item, &["properties", key]);
            let at = path.child("x-kubernetes-list-map-keys").index(i);
            if !property.is_object() {
                errors.invalid(at, *key, "entries must all be names of item properties");
            } else if !texts(item, "required").contains(key) && field(property, "default").is_null() {
                errors.required(
                    path.child("items.properties").key(key).child("default"),
                    "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                );
            }
        }
    } else if !keys.is_empty() {
        errors
            .forbidden(path.child("x-kubernetes-list-map-keys"), "must be empty if x-kubernetes-list-type is not map");
    }
    let map_type = text(schema, "x-kubernetes-map-type");
    if !map_type.is_empty() {
        if kind != "object" {
            errors.invalid(path.child("type"), kind, "must be object if x-kubernetes-map-type is specified");
        }
        values::one_of(map_type, &["atomic", "granular"], path.child("x-kubernetes-map-type"), errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::checks::{check_create, check_update, created};
    use expect_test::expect;

    fn crd(schema: &str, extra: &str) -> String {
        format!(
            r#"{{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{{"name":"foos.example.com"}},
            "spec":{{"group":"example.com","scope":"Namespaced","names":{{"plural":"foos","kind":"Foo"}}{extra},
            "versions":[{{"name":"v1","served":true,"storage":true,"schema":{{"openAPIV3Schema":{schema}}}}}]}}}}"#
        )
    }

    #[test]
    fn names_and_storage_versions_are_filled_in() {
        let mut obj = created(&crd(r#"{"type":"object"}"#, ""));
        CustomResourceDefinition.prepare_create(&mut obj, true);
        assert_eq!(obj["spec"]["names"]["singular"], "foo");
        assert_eq!(obj["spec"]["names"]["listKind"], "FooList");
        assert_eq!(obj["spec"]["conversion"]["strategy"], "None");
        assert_eq!(obj["status"]["storedVersions"], json!(["v1"]));
        let mut new = obj.clone();
        new["spec"]["versions"][0]["name"] = "v2".into();
        CustomResourceDefinition.prepare_update(&mut new, &obj, true);
        assert_eq!(new["status"]["storedVersions"], json!(["v1", "v2"]));
    }

    #[test]
    fn schemas_must_be_structural() {
        check_create(
            &crd(
                r#"{"type":"object","properties":{"spec":{"x-kubernetes-preserve-unknown-fields":true},
            "port":{"x-kubernetes-int-or-string":true,"anyOf":[{"type":"integer"},{"type":"string"}]}}}"#,
                "",
            ),
            expect![[""]],
        );
        check_create(
            &crd(
                r#"{"type":"object","properties":{"a":{},"b":{"type":"array"},"c":{"type":"object","additionalProperties":{"type":"string"},
                "properties":{"x":{"type":"string"}}},"d":{"type":"array","x-kubernetes-list-type":"map","items":{"type":"object"}},
                "e":{"type":"string","pattern":"("},"f":{"type":"object","anyOf":[{"type":"object"}]}}}"#,
                "",
            ),
            expect![[r#"
                spec.versions[0].schema.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields
                spec.versions[0].schema.openAPIV3Schema.properties[b].items: Required value: must be specified
                spec.versions[0].schema.openAPIV3Schema.properties[c].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive
                spec.versions[0].schema.openAPIV3Schema.properties[d].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map
                spec.versions[0].schema.openAPIV3Schema.properties[e].pattern: Invalid value: "(": must be a valid regular expression, but isn't: unclosed group
                spec.versions[0].schema.openAPIV3Schema.properties[f].anyOf[0].type: Forbidden: must be empty to be structural
            "#]],
        );
        check_create(
            &crd(r#"{"type":"string"}"#, r#","preserveUnknownFields":true"#),
            expect![[r#"
            spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead
            spec.versions[0].schema.openAPIV3Schema.type: Invalid value: "string": must be object at the root
        "#]],
        );
    }

    #[test]
    fn parts_agree() {
        check_create(
            &crd(
                r#"{"type":"object","default":{},"properties":{
                "metadata":{"type":"object","properties":{"name":{"type":"string"},"labels":{"type":"object"}}},
                "a":{"type":"string","default":1},"b":{"type":"object","default":{"x":1},"properties":{"y":{"type":"string"}}},
                "good":{"type":"object","default":{},"required":["y"],"properties":{"y":{"type":"string","default":"z"}}},
                "s":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"object"}},
                "m":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],
                    "items":{"type":"object","required":["k"],"properties":{"k":{"type":"array","items":{"type":"string"}}}}},
                "o":{"type":"object","anyOf":[{"default":1,"nullable":true}]}}}"#,
                "",
            ),
            expect![[r#"
                spec.versions[0].schema.openAPIV3Schema.default: Forbidden: must not be set at the root
                spec.versions[0].schema.openAPIV3Schema.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified
                spec.versions[0].schema.openAPIV3Schema.properties[a].default: Invalid value: "integer":  in body must be of type string: "integer"
                spec.versions[0].schema.openAPIV3Schema.properties[b].default: Invalid value: {"x":1}: must not have unknown fields
                spec.versions[0].schema.openAPIV3Schema.properties[m].items.properties[k].type: Invalid value: "array": must be a scalar type if parent array's x-kubernetes-list-type is map
                spec.versions[0].schema.openAPIV3Schema.properties[o].anyOf[0].default: Forbidden: must be undefined to be structural
                spec.versions[0].schema.openAPIV3Schema.properties[o].anyOf[0].nullable: Forbidden: must be false to be structural
                spec.versions[0].schema.openAPIV3Schema.properties[s].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set
            "#]],
        );
    }

    #[test]
    fn selectable_fields_are_scalars_of_the_schema() {
        let version = serde_json::json!({"schema":{"openAPIV3Schema":{"type":"object","properties":{
            "spec":{"type":"object","properties":{"a":{"type":"string"},"l":{"type":"array","items":{"type":"string"}}}}}}},
            "selectableFields":[{"jsonPath":".spec.a"},{"jsonPath":".spec.a"},{"jsonPath":".spec.l"},{"jsonPath":".spec.no"},
                {"jsonPath":"spec.a"},{"jsonPath":".metadata.name"}]});
        let mut errors = Errors::default();
        consistency::selectable_fields(&version, &Path::new("v"), &mut errors);
        let text: String = errors.0.iter().map(|e| format!("{e}\n")).collect();
        expect![[r#"
            v.selectableFields[1].jsonPath: Duplicate value: ".spec.a"
            v.selectableFields[2].jsonPath: Invalid value: ".spec.l": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed. (it is "array")
            v.selectableFields[3].jsonPath: Invalid value: ".spec.no": is an invalid path: does not refer to a valid field
            v.selectableFields[4].jsonPath: Invalid value: "spec.a": must be a simple json path starting with .
            v.selectableFields[5].jsonPath: Invalid value: ".metadata.name": must not point to fields in metadata
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn a_sound_ca_bundle_stays_sound() {
        let with = |bundle: &str| {
            let webhook = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
                "clientConfig": {"url": "https://h.test/", "caBundle": bundle}}});
            let mut v: Value = serde_json::from_str(&crd(r#"{"type":"object"}"#, "")).unwrap();
            v["spec"]["conversion"] = webhook;
            v.to_string()
        };
        // A line feed, as operators' manifests have it until the real one is known.
        check_create(&with("Cg=="), expect![""]);
        check_update(&with("Cg=="), &with("Cg=="), expect![""]);
        check_update(
            &with(""),
            &with("Cg=="),
            expect![[r#"
            spec.conversion.webhookClientConfig.caBundle: Invalid value: "Cg==": unable to load root certificates: unable to parse bytes as PEM block
        "#]],
        );
    }

    #[test]
    fn identity_is_fixed() {
        let old = crd(r#"{"type":"object"}"#, "");
        check_update(
            &old,
            &old.replace("\"plural\":\"foos\"", "\"plural\":\"bars\""),
            expect![[r#"
            metadata.name: Invalid value: "foos.example.com": must be spec.names.plural+"."+spec.group
            spec.names.plural: Invalid value: "bars": field is immutable
        "#]],
        );
        check_create(
            &old.replace("\"storage\":true", "\"storage\":false").replace("example.com", "k8s.io"),
            expect![[r#"
            spec.versions: Invalid value: ["v1"]: must have exactly one version marked as storage version
            metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation "api-approved.kubernetes.io", see https://github.com/kubernetes/enhancements/pull/1111
        "#]],
        );
    }
}
