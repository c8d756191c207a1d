//! Dynamic resource allocation (resource.k8s.io): DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice.

use super::{columns, csi};
use crate::strategy::{Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct DeviceClass;
pub struct ResourceClaim;
pub struct ResourceClaimTemplate;
pub struct ResourceSlice;

const REQUESTS_MAX: usize = 32;
const DEVICES_MAX: usize = 128;
const NAME_AND_AGE: &[Column] = &[NAME, column("Age", "string", 0)];

/// One device unless a request says otherwise.
fn default_claim(spec: &mut Value) {
    fn exact(request: &mut Value) {
        fill_zero(request, "allocationMode", "ExactCount");
        if text(request, "allocationMode") == "ExactCount" {
            fill_zero(request, "count", 1);
        }
    }
    let Some(devices) = object_mut(spec, "devices") else {
        return;
    };
    for request in items_mut(devices, "requests") {
        if let Some(e) = object_mut(request, "exactly") {
            exact(e);
        }
        for sub in items_mut(request, "firstAvailable") {
            exact(sub);
        }
    }
}

fn validate_selectors(owner: &Value, path: &Path, errors: &mut Errors) {
    for (i, s) in list(owner, "selectors").iter().enumerate() {
        if text_at(s, &["cel", "expression"]).trim().is_empty() {
            errors.required(path.child("selectors").index(i).child("cel"), "");
        }
    }
}

fn validate_request(request: &Value, path: &Path, errors: &mut Errors) {
    match text(request, "deviceClassName") {
        "" => errors.required(path.child("deviceClassName"), ""),
        name => values::dns_subdomain(name, &path.child("deviceClassName"), errors),
    }
    validate_selectors(request, path, errors);
    let count = int(request, "count").unwrap_or(0);
    match text(request, "allocationMode") {
        "ExactCount" if count <= 0 => errors.invalid(path.child("count"), count, "must be greater than zero"),
        "ExactCount" => {}
        "All" if count != 0 => {
            errors.invalid(path.child("count"), count, "must not be specified when allocationMode is 'All'")
        }
        "All" => {}
        mode => errors.not_supported(path.child("allocationMode"), mode, &["All", "ExactCount"]),
    }
}

fn validate_claim(spec: &Value, path: &Path, errors: &mut Errors) {
    let (devices, path) = (field(spec, "devices"), path.child("devices"));
    let requests = list(devices, "requests");
    if requests.len() > REQUESTS_MAX {
        errors.too_many(path.child("requests"), requests.len(), REQUESTS_MAX);
    }
    let mut names: Vec<String> = Vec::new();
    for (i, request) in requests.iter().enumerate() {
        let (path, name) = (path.child("requests").index(i), text(request, "name"));
        values::dns_label(name, &path.child("name"), errors);
        if names.iter().any(|n| n == name) {
            errors.duplicate(path.child("name"), name);
        }
        names.push(name.to_string());
        let (exactly, first) = (field(request, "exactly"), list(request, "firstAvailable"));
        match (exactly.is_object(), first.is_empty()) {
            (false, true) => errors.required(path, "exactly one of `exactly` or `firstAvailable` is required"),
            (true, false) => errors.invalid(
                path,
                Value::Null,
                "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
            ),
            (true, true) => validate_request(exactly, &path.child("exactly"), errors),
            (false, false) => {
                for (j, sub) in first.iter().enumerate() {
                    let path = path.child("firstAvailable").index(j);
                    values::dns_label(text(sub, "name"), &path.child("name"), errors);
                    validate_request(sub, &path, errors);
                    names.push(format!("{name}/{}", text(sub, "name")));
                }
            }
        }
    }
    for key in ["constraints", "config"] {
        for (i, owner) in list(devices, key).iter().enumerate() {
            for (j, name) in texts(owner, "requests").into_iter().enumerate() {
                if !names.iter().any(|n| n == name) {
                    errors.invalid(
                        path.child(key).index(i).child("requests").index(j),
                        name,
                        "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
                    );
                }
            }
        }
    }
}

impl Strategy for DeviceClass {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        validate_selectors(spec, &path, errors);
        for (i, c) in list(spec, "config").iter().enumerate() {
            let at = path.child("config").index(i).child("opaque");
            match field(c, "opaque") {
                Value::Object(_) => {
                    csi::driver_name(text_at(c, &["opaque", "driver"]), &at.child("driver"), errors);
                }
                _ => errors.required(at, ""),
            }
        }
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        NAME_AND_AGE
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        vec![columns::name(obj), columns::age_cell(obj, now)]
    }
}

impl Strategy for ResourceClaim {
    fn defaults(&self, obj: &mut Value) {
        if let Some(spec) = object_mut(obj, "spec") {
            default_claim(spec);
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        validate_claim(field(obj, "spec"), &Path::new("spec"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        values::immutable(field(new, "spec"), field(old, "spec"), Path::new("spec"), errors);
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let status = field(new, "status");
        let allocated = field(status, "allocation").is_object();
        let path = Path::new("status");
        if !list(status, "reservedFor").is_empty() && !allocated {
            errors.forbidden(path.child("reservedFor"), "may not be specified when `allocated` is not set");
        }
        let before = at(old, &["status", "allocation"]);
        if before.is_object() && allocated {
            values::immutable(field(status, "allocation"), before, path.child("allocation"), errors);
        }
        if before.is_object() && !allocated && !list_at(new, &["status", "reservedFor"]).is_empty() {
            errors.forbidden(path.child("allocation"), "deallocation not allowed while the claim is in use");
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, column("State", "string", 0), column("Age", "string", 0)];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let deleted = has(field(obj, "metadata"), "deletionTimestamp");
        let mut states = Vec::new();
        if deleted {
            states.push("deleted");
        }
        if !at(obj, &["status", "allocation"]).is_object() {
            if !deleted {
                states.push("pending");
            }
        } else {
            states.push("allocated");
            if !list_at(obj, &["status", "reservedFor"]).is_empty() {
                states.push("reserved");
            }
        }
        vec![columns::name(obj), json!(states.join(",")), columns::age_cell(obj, now)]
    }
}

impl Strategy for ResourceClaimTemplate {
    fn defaults(&self, obj: &mut Value) {
        if let Some(spec) = object_at_mut(obj, &["spec", "spec"]) {
            default_claim(spec);
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        validate_claim(at(obj, &["spec", "spec"]), &Path::new("spec.spec"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        values::immutable(field(new, "spec"), field(old, "spec"), Path::new("spec"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        NAME_AND_AGE
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        vec![columns::name(obj), columns::age_cell(obj, now)]
    }
}

impl Strategy for ResourceSlice {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        csi::driver_name(text(spec, "driver"), &path.child("driver"), errors);
        let pool = field(spec, "pool");
        if text(pool, "name").is_empty() {
            errors.required(path.child("pool.name"), "");
        }
        if int(pool, "resourceSliceCount").unwrap_or(0) <= 0 {
            let n = int(pool, "resourceSliceCount").unwrap_or(0);
            errors.invalid(path.child("pool.resourceSliceCount"), n, "must be greater than zero");
        }
        let targets = [
            !text(spec, "nodeName").is_empty(),
            field(spec, "nodeSelector").is_object(),
            flag(spec, "allNodes"),
            flag(spec, "perDeviceNodeSelection"),
        ];
        match targets.iter().filter(|t| **t).count() {
            1 => {}
            0 => errors.required(
                path.clone(),
                "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
            ),
            _ => errors.invalid(
                path.clone(),
                Value::Null,
                "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
            ),
        }
        let devices = list(spec, "devices");
        if devices.len() > DEVICES_MAX {
            errors.too_many(path.child("devices"), devices.len(), DEVICES_MAX);
        }
        let mut names = Vec::new();
        for (i, d) in devices.iter().enumerate() {
            let (at, name) = (path.child("devices").index(i).child("name"), text(d, "name"));
            values::dns_label(name, &at, errors);
            if names.contains(&name) {
                errors.duplicate(at, name);
            }
            names.push(name);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
        for keys in [["driver"].as_slice(), &["pool", "name"], &["nodeName"]] {
            let of = |v| at(field(v, "spec"), keys);
            values::immutable(of(new), of(old), Path::new("spec").child(&keys.join(".")), errors);
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        vec![
            ("spec.nodeName", text_at(obj, &["spec", "nodeName"]).to_string()),
            ("spec.driver", text_at(obj, &["spec", "driver"]).to_string()),
        ]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Node", "string", 0),
            column("Driver", "string", 0),
            column("Pool", "string", 0),
            column("Age", "string", 0),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let spec = field(obj, "spec");
        let node = match text(spec, "nodeName") {
            "" => "<unset>",
            n => n,
        };
        vec![
            columns::name(obj),
            json!(node),
            json!(text(spec, "driver")),
            json!(text_at(spec, &["pool", "name"])),
            columns::age_cell(obj, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::checks::{check_create, created};
    use expect_test::expect;

    #[test]
    fn claims_ask_for_one_device_unless_told() {
        let obj = created(
            r#"{"apiVersion":"resource.k8s.io/v1","kind":"ResourceClaim","metadata":{"name":"c"},
            "spec":{"devices":{"requests":[{"name":"gpu","exactly":{"deviceClassName":"gpu.example.com"}}]}}}"#,
        );
        assert_eq!(
            obj["spec"]["devices"]["requests"][0]["exactly"],
            json!({"deviceClassName":"gpu.example.com","allocationMode":"ExactCount","count":1})
        );
        check_create(
            r#"{"apiVersion":"resource.k8s.io/v1","kind":"ResourceClaim","metadata":{"name":"c"},
            "spec":{"devices":{"requests":[{"name":"gpu"},{"name":"gpu","exactly":{"allocationMode":"All","count":2}}],
            "constraints":[{"requests":["tpu"]}]}}}"#,
            expect![[r#"
                spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required
                spec.devices.requests[1].name: Duplicate value: "gpu"
                spec.devices.requests[1].exactly.deviceClassName: Required value
                spec.devices.requests[1].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'
                spec.devices.constraints[0].requests[0]: Invalid value: "tpu": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
            "#]],
        );
        check_create(
            r#"{"apiVersion":"resource.k8s.io/v1","kind":"ResourceSlice","metadata":{"name":"s"},
            "spec":{"driver":"d.example.com","nodeName":"n","allNodes":true,"pool":{"name":"p"},"devices":[{"name":"a"},{"name":"a"}]}}"#,
            expect![[r#"
                spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero
                spec: Invalid value: null: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set
                spec.devices[1].name: Duplicate value: "a"
            "#]],
        );
    }

    #[test]
    fn states_of_a_claim() {
        let state = |obj: Value| ResourceClaim.row(&obj, Now(jiff::Timestamp::UNIX_EPOCH))[1].clone();
        assert_eq!(state(json!({})), "pending");
        assert_eq!(state(json!({"status":{"allocation":{},"reservedFor":[{}]}})), "allocated,reserved");
        assert_eq!(state(json!({"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"}})), "deleted");
    }
}
