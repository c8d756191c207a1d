//! CustomResourceDefinition (apiextensions.k8s.io): names, versions, and what makes a schema structural.

mod consistency;
mod defaults;
mod required;
mod schema;
mod structural;
#[cfg(test)]
mod tests;

use super::admissionregistration::client_config;
use super::columns;
use crate::custom::formats;
use crate::custom::names::{self, Approval};
use crate::strategy::{CREATED, Column, NAME, Now, Strategy, column_of};
use crate::validation::access::*;
use crate::validation::seen::{Seen, repeats};
use crate::validation::values;
use meta::field::{Errors, Path};
use required::Required;
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub struct CustomResourceDefinition;

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
        approval(obj, None, errors);
        preserves_nothing(obj, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let mut fixed: Vec<&[&str]> = Vec::new();
        let established = list_at(old, &["status", "conditions"])
            .iter()
            .any(|c| text(c, "type") == "Established" && text(c, "status") == "True");
        if established {
            fixed.extend::<[&[&str]; 2]>([&["scope"], &["names", "kind"]]);
        }
        fixed.extend::<[&[&str]; 2]>([&["group"], &["names", "plural"]]);
        validate_spec(new, Required::of(new, old), errors);
        for keys in fixed {
            let of = |v| at(field(v, "spec"), keys);
            values::immutable(of(new), of(old), Path::new("spec").child(&keys.join(".")), errors);
        }
        validate_names(at(new, &["status", "acceptedNames"]), &Path::new("status.acceptedNames"), errors);
        stored_versions(new, errors);
        approval(new, Some(old), errors);
        if !flag(field(old, "spec"), "preserveUnknownFields") {
            preserves_nothing(new, errors);
        }
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        validate_names(at(new, &["status", "acceptedNames"]), &Path::new("status.acceptedNames"), errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let before: BTreeSet<String> = old.map(unrecognized_formats).unwrap_or_default().into_iter().collect();
        let now = unrecognized_formats(new).into_iter().filter(|f| !before.contains(f));
        now.map(|f| format!("unrecognized format {f:?}")).collect()
    }

    fn free_finalizers(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, column_of("Created At", "date", 0, CREATED)];
        COLUMNS
    }

    fn row(&self, obj: &Value, _now: Now) -> Vec<Value> {
        vec![columns::name(obj), at(obj, &["metadata", "creationTimestamp"]).clone()]
    }
}

fn validate(obj: &Value, errors: &mut Errors) {
    let spec = field(obj, "spec");
    let (name, plural, group) =
        (text_at(obj, &["metadata", "name"]), text_at(spec, &["names", "plural"]), text(spec, "group"));
    if name != format!("{plural}.{group}") {
        errors.invalid(Path::new("metadata.name"), name, "must be spec.names.plural+\".\"+spec.group");
    }
    validate_spec(obj, Required::all(), errors);
    stored_versions(obj, errors);
}

/// Every version in which objects may be stored still is one, and the present one is among them.
fn stored_versions(obj: &Value, errors: &mut Errors) {
    let (stored, path) = (texts(field(obj, "status"), "storedVersions"), Path::new("status.storedVersions"));
    let versions = list_at(obj, &["spec", "versions"]);
    if stored.is_empty() {
        return errors.invalid(path, Value::Null, "must have at least one stored version");
    }
    let (names, listed): (Seen<&str>, Seen<&str>) =
        (versions.iter().map(|v| text(v, "name")).collect(), stored.iter().copied().collect());
    for v in versions.iter().filter(|v| flag(v, "storage") && !listed.has(&text(v, "name"))) {
        errors.invalid(path.clone(), json!(stored), format!("must have the storage version {}", text(v, "name")));
    }
    for (i, stored) in stored.iter().enumerate() {
        if !names.has(stored) {
            let detail = format!(
                "missing from spec.versions; {stored} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {stored} and removes {stored} from status.storedVersions"
            );
            errors.invalid(path.index(i), *stored, detail);
        }
    }
}

/// Groups of the community are added to by its consent alone.
fn approval(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    let (state, reason) = names::approval(obj);
    if !names::is_protected(obj) || old.is_some_and(|o| names::approval(o).0 == state) {
        return;
    }
    let path = Path::new("metadata.annotations").key(names::APPROVED_ANNOTATION);
    match state {
        Approval::Missing => errors.required(path, reason),
        Approval::Invalid => {
            let note = text(at(obj, &["metadata", "annotations"]), names::APPROVED_ANNOTATION);
            errors.invalid(path, note, reason);
        }
        Approval::Given | Approval::Bypassed => {}
    }
}

fn preserves_nothing(obj: &Value, errors: &mut Errors) {
    if flag(field(obj, "spec"), "preserveUnknownFields") {
        errors.invalid(
            Path::new("spec.preserveUnknownFields"),
            true,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        );
    }
}

/// What all versions say alike, upstream holds once, at the top; faults are told there.
fn is_shared(versions: &[Value], keys: &[&str]) -> bool {
    versions.iter().all(|v| at(v, keys) == at(&versions[0], keys))
}

fn validate_spec(crd: &Value, mut required: Required, errors: &mut Errors) {
    let (spec, path) = (field(crd, "spec"), Path::new("spec"));
    let (group, faults) = (text(spec, "group"), meta::names::dns1123_subdomain(text(spec, "group")));
    if group.is_empty() {
        errors.required(path.child("group"), "");
    } else if !faults.is_empty() {
        errors.invalid(path.child("group"), group, faults.join(","));
    } else if !group.contains('.') {
        errors.invalid(path.child("group"), group, "should be a domain with at least one dot");
    }
    values::required_one_of(text(spec, "scope"), &["Cluster", "Namespaced"], path.child("scope"), errors);

    let (versions, at_versions) = (list(spec, "versions"), path.child("versions"));
    let preserves = flag(spec, "preserveUnknownFields");
    for (i, v) in versions.iter().enumerate() {
        let at_schema = at_versions.index(i).child(&SCHEMA.join("."));
        match at(v, SCHEMA).is_object() {
            true => {}
            false if required.schemas => errors.required(at_schema, ""),
            false if !preserves && flag(v, "served") => {
                errors.required(at_schema, "because otherwise all fields are pruned");
            }
            false => {}
        }
    }
    let anywhere = |holds: &dyn Fn(&Value) -> bool| versions.iter().any(|v| required::anywhere(at(v, SCHEMA), holds));
    let has_defaults = anywhere(&|s| has(s, "default"));
    if has_defaults && preserves {
        let text = "must be false in order to use defaults in the schema";
        errors.invalid(path.child("preserveUnknownFields"), true, text);
    }
    // Pruning, defaults and extensions go by structure.
    required.structural |= !preserves || has_defaults || anywhere(&is_extended);

    let shared = Shared {
        schema: is_shared(versions, SCHEMA),
        subresources: is_shared(versions, &["subresources"]),
        columns: is_shared(versions, &["additionalPrinterColumns"]),
        selectable: is_shared(versions, &["selectableFields"]),
        any_status: versions.iter().any(has_status),
        required: &required,
    };
    for (i, v) in versions.iter().enumerate() {
        let path = at_versions.index(i);
        label(text(v, "name"), "", &path.child("name"), errors);
        for fault in deprecation_faults(v) {
            errors.invalid(path.child("deprecationWarning"), text(v, "deprecationWarning"), fault);
        }
        shared.told(v, false, &path, &path.child(&SCHEMA.join(".")), errors);
    }
    if repeats(versions.iter().map(|v| text(v, "name"))) {
        errors.invalid(at_versions.clone(), json!(versions), "must contain unique version names");
    }
    if versions.iter().filter(|v| flag(v, "storage")).count() != 1 {
        let text = "must have exactly one version marked as storage version";
        errors.invalid(at_versions, json!(versions), text);
    }
    if let Some(first) = versions.first() {
        label(text(first, "name"), "", &path.child("version"), errors);
    }
    for key in ["plural", "singular", "kind", "listKind"] {
        if text_at(spec, &["names", key]).is_empty() {
            errors.required(path.child("names").child(key), "");
        }
    }
    validate_names(field(spec, "names"), &path.child("names"), errors);
    if let Some(v) = versions.first() {
        shared.told(v, true, &path, &path.child("validation.openAPIV3Schema"), errors);
    }
    let (conversion, at_conversion) = (field(spec, "conversion"), path.child("conversion"));
    if preserves && !conversion.is_null() && text(conversion, "strategy") != "None" {
        let text = "must be None if spec.preserveUnknownFields is true";
        errors.invalid(at_conversion.child("strategy"), self::text(conversion, "strategy"), text);
    }
    validate_conversion(crd, &required, &at_conversion, errors);
}

const SCHEMA: &[&str] = &["schema", "openAPIV3Schema"];

fn is_extended(s: &Value) -> bool {
    ["x-kubernetes-embedded-resource", "x-kubernetes-int-or-string"].iter().any(|k| flag(s, k))
        || ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-list-type"].iter().any(|k| has(s, k))
        || ["x-kubernetes-list-map-keys", "x-kubernetes-validations"].iter().any(|k| !list(s, k).is_empty())
}

fn has_status(version: &Value) -> bool {
    at(version, &["subresources", "status"]).is_object()
}

/// Which parts are the same in all versions.
struct Shared<'r> {
    schema: bool,
    subresources: bool,
    columns: bool,
    selectable: bool,
    any_status: bool,
    required: &'r Required,
}

impl Shared<'_> {
    /// Checks those parts of a version that are shared, or those that aren't.
    fn told(&self, v: &Value, shared: bool, path: &Path, schema_path: &Path, errors: &mut Errors) {
        let name = text(v, "name");
        if self.schema == shared && at(v, SCHEMA).is_object() {
            let has_status = if shared { self.any_status } else { has_status(v) };
            let lenient_cost = self.required.same_schema.contains(name);
            schema::validate(at(v, SCHEMA), schema_path, has_status, lenient_cost, self.required, errors);
        }
        if self.subresources == shared {
            consistency::scale(at(v, &["subresources", "scale"]), &path.child("subresources.scale"), errors);
        }
        if self.columns == shared {
            for (i, c) in list(v, "additionalPrinterColumns").iter().enumerate() {
                consistency::column(c, &path.child("additionalPrinterColumns").index(i), errors);
            }
        }
        if self.selectable == shared {
            consistency::selectable_fields(v, self.required.many_selectable.contains(name), path, errors);
        }
    }
}

/// What keeps the schemas of a definition from being structural, for its `NonStructuralSchema` condition: what it is
/// about, and faults. An error where that can't be told.
pub fn structural_errors(crd: &Value) -> Result<Errors, String> {
    let mut errors = Errors::default();
    if flag(field(crd, "spec"), "preserveUnknownFields") {
        errors.invalid(Path::new("spec.preserveUnknownFields"), true, "must be false");
    }
    for (i, v) in list_at(crd, &["spec", "versions"]).iter().enumerate() {
        let schema = at(v, SCHEMA);
        if let Some(why) = structural::misfit(schema) {
            return Err(format!("failed to check validation schema for version {}: {why}", text(v, "name")));
        }
        if schema.is_object() {
            let path = Path::new("spec.versions").index(i).child(&SCHEMA.join("."));
            errors.0.extend(structural::faults(schema, &path).0);
        }
    }
    Ok(errors)
}

/// Formats that nothing checks, in the order in which they are met. Clients are told of new ones.
fn unrecognized_formats(crd: &Value) -> Vec<String> {
    fn collect(s: &Value, out: &mut Vec<String>) {
        let format = text(s, "format");
        if !format.is_empty() && !formats::known(text(s, "type"), format) {
            out.push(format.to_string());
        }
        structural::parts(s).for_each(|below| collect(below, out));
    }
    let versions = list_at(crd, &["spec", "versions"]);
    let own = if is_shared(versions, SCHEMA) { versions.get(..1).unwrap_or_default() } else { versions };
    let mut out = Vec::new();
    own.iter().for_each(|v| collect(at(v, SCHEMA), &mut out));
    out
}

fn deprecation_faults(version: &Value) -> Vec<String> {
    const WARNING_BYTES_MAX: usize = 256;
    let Some(warning) = field(version, "deprecationWarning").as_str() else { return Vec::new() };
    if !flag(version, "deprecated") {
        return vec!["can only be set for deprecated versions".to_string()];
    }
    let mut faults = Vec::new();
    if warning.len() > WARNING_BYTES_MAX {
        faults.push(format!("must be <= {WARNING_BYTES_MAX} characters long"));
    }
    if warning.is_empty() {
        faults.push("must not be an empty string".to_string());
    }
    let printable = |c: char| c == ' ' || !(c.is_control() || c.is_whitespace());
    if let Some((i, _)) = warning.char_indices().find(|(_, c)| !printable(*c)) {
        faults
            .push(format!("must only contain printable UTF-8 characters; non-printable character found at index {i}"));
    }
    faults
}

/// A DNS label as upstream asks for it here: all faults in one.
fn label(name: &str, before: &str, path: &Path, errors: &mut Errors) {
    // Kinds are labels too, but for the case of their letters.
    let checked = if before.is_empty() { name.to_string() } else { name.to_lowercase() };
    let faults = meta::names::dns1035_label(&checked);
    if !faults.is_empty() {
        errors.invalid(path.clone(), name, format!("{before}{}", faults.join(",")));
    }
}

fn validate_names(names: &Value, path: &Path, errors: &mut Errors) {
    const MIXED: &str = "may have mixed case, but should otherwise match: ";
    for (key, before) in [("plural", ""), ("singular", ""), ("kind", MIXED), ("listKind", MIXED)] {
        if !text(names, key).is_empty() {
            label(text(names, key), before, &path.child(key), errors);
        }
    }
    let labels = |key: &str, errors: &mut Errors| {
        for (i, name) in texts(names, key).into_iter().enumerate() {
            label(name, "", &path.child(key).index(i), errors);
        }
    };
    labels("shortNames", errors);
    if !text(names, "kind").is_empty() && text(names, "kind") == text(names, "listKind") {
        errors.invalid(path.child("listKind"), text(names, "listKind"), "kind and listKind may not be the same");
    }
    labels("categories", errors);
}

fn is_review_version(version: &str) -> bool {
    matches!(version, "v1" | "v1beta1")
}

fn validate_conversion(crd: &Value, required: &Required, path: &Path, errors: &mut Errors) {
    let conversion = at(crd, &["spec", "conversion"]);
    if conversion.is_null() {
        return;
    }
    let strategy = text(conversion, "strategy");
    values::required_one_of(strategy, &["None", "Webhook"], path.child("strategy"), errors);
    let webhook = field(conversion, "webhook");
    let (config, at) = (field(webhook, "clientConfig"), path.child("webhookClientConfig"));
    let (versions, versions_at) = (texts(webhook, "conversionReviewVersions"), path.child("conversionReviewVersions"));
    if strategy != "Webhook" {
        const TEXT: &str = "should not be set when strategy is not set to Webhook";
        if !config.is_null() {
            errors.forbidden(at, TEXT);
        }
        if !versions.is_empty() {
            errors.forbidden(versions_at, TEXT);
        }
        return;
    }
    if config.is_null() {
        errors.required(at, "required when strategy is set to Webhook");
    } else {
        client_config(config, &at, errors);
        if required.ca_bundle && !names::has_sound_ca_bundle(crd) {
            let text = "unable to load root certificates: unable to parse bytes as PEM block";
            errors.invalid(at.child("caBundle"), self::text(config, "caBundle"), text);
        }
    }
    if versions.is_empty() {
        return errors.required(versions_at, "");
    }
    for (i, v) in versions.iter().enumerate() {
        if versions[..i].contains(v) {
            errors.invalid(versions_at.index(i), *v, "duplicate version");
        } else {
            values::dns1035_label(v, &versions_at.index(i), errors);
        }
    }
    if required.review_versions && !versions.iter().any(|v| is_review_version(v)) {
        errors.invalid(versions_at, json!(versions), "must include at least one of v1, v1beta1");
    }
}
