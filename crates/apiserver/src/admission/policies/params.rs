//! The objects that a policy's expressions see as `params`, once for each of which the policy is applied.

use super::definition::{Binding, ParamKind, Policy};
use crate::reader::Reader;
use crate::registry::Catalogue;
use api::catalogue::Resource;
use serde_json::Value;
use std::sync::Arc;

/// Null stands for a binding without parameters. Errors are upstream's texts.
pub fn collect(
    policy: &Policy,
    binding: &Binding,
    namespace: &str,
    catalogue: &Catalogue,
    reader: &Reader,
) -> Result<Vec<Value>, String> {
    let Some(kind) = &policy.param_kind else { return Ok(vec![Value::Null]) };
    let Some(wanted) = &binding.params else { return Ok(vec![Value::Null]) };
    let Some(row) = row_of(kind, catalogue) else { return Err(unknown(kind)) };
    let namespace = match (row.namespaced, wanted.namespace.as_str()) {
        (true, "") if namespace.is_empty() => {
            return Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".into());
        }
        (true, "") => namespace,
        (true, given) => given,
        (false, "") => "",
        (false, _) => return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into()),
    };
    let owner = catalogue.storage_of(&row);
    let found: Vec<Value> = match (&wanted.selector, wanted.name.as_str()) {
        (Some(_), name) if !name.is_empty() => {
            return Err("paramRef.name and paramRef.selector are mutually exclusive".into());
        }
        (None, "") => return Err("one of name or selector must be provided".into()),
        (None, name) => reader
            .get(&owner.group, &owner.plural, namespace, name)
            .into_iter()
            .map(|o| shown(&o, &owner, &row))
            .collect(),
        (Some(selector), _) => {
            let selector = selector.as_ref().map_err(Clone::clone)?;
            let all = reader.list(&owner.group, &owner.plural, namespace).map_err(|s| s.message)?;
            all.iter().map(|o| shown(o, &owner, &row)).filter(|o| selector.matches_object(o)).collect()
        }
    };
    if found.is_empty() && wanted.denies_when_missing {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    Ok(found)
}

/// Whether what the policy calls its `paramKind` is served.
pub fn check(policy: &Policy, catalogue: &Catalogue) -> Result<(), String> {
    match &policy.param_kind {
        Some(kind) if row_of(kind, catalogue).is_none() => Err(unknown(kind)),
        _ => Ok(()),
    }
}

fn unknown(kind: &ParamKind) -> String {
    let (group, version) = meta::object::split_api_version(&kind.api_version);
    format!("failed to find resource referenced by paramKind: '{group}/{version}, Kind={}'", kind.kind)
}

pub(super) fn row_of(kind: &ParamKind, catalogue: &Catalogue) -> Option<Arc<Resource>> {
    catalogue.rows.iter().find(|r| r.kind == kind.kind && r.api_version() == kind.api_version).cloned()
}

/// In the version that the policy asks for.
fn shown(stored: &crate::reader::Object, owner: &Resource, row: &Resource) -> Value {
    let value = stored.value();
    if (&owner.group, &owner.version) == (&row.group, &row.version) {
        return value.as_ref().clone();
    }
    api::convert::to(&value, owner, row)
}
