//! What the rules about devices (`resource.k8s.io`) need of the world: the clock, and the labels of namespaces.

use super::Call;
use super::create::now_seconds;
use crate::reader::Reader;
use api::kinds::dra;
use meta::field::Errors;
use serde_json::Value;

const GROUP: &str = "resource.k8s.io";

/// Gives taints their time, which upstream does among the defaults.
pub fn date_taints(call: &Call<'_>, new: &mut Value) {
    if call.row.group == GROUP && call.row.kind == "ResourceSlice" {
        dra::date_taints(new, &now_seconds());
    }
}

/// Administrative access is for namespaces that somebody labelled for it.
pub fn check_admin_access(call: &Call<'_>, new: &Value, old: Option<&Value>, errors: &mut Errors) {
    if call.row.group != GROUP {
        return;
    }
    let Some(path) = dra::asks_for_admin_access(&call.row.kind, new, old) else { return };
    let reader = Reader::new(call.registry.store.clone());
    let allowed = reader
        .get("", "namespaces", "", &call.info.namespace)
        .is_some_and(|ns| ns.value()["metadata"]["labels"][dra::ADMIN_ACCESS_LABEL] == "true");
    if !allowed {
        let label = dra::ADMIN_ACCESS_LABEL;
        let why = format!("admin access to devices requires the `{label}: true` label on the containing namespace");
        errors.forbidden(path, why);
    }
}
