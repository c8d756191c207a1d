//! CSIDriver, CSINode and CSIStorageCapacity (storage.k8s.io).

use super::{columns, pod};
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column, column_of};
use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::{podspec, selector, values};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct CSIDriver;
pub struct CSINode;
pub struct CSIStorageCapacity;

const NODE_ID_BYTES_MAX: usize = 256;

impl Strategy for CSIDriver {
    fn defaults(&self, obj: &mut Value) {
        let Some(spec) = ensure_object(obj, "spec") else {
            return;
        };
        fill(spec, "attachRequired", true);
        for key in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            fill(spec, key, false);
        }
        fill(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        if list(spec, "volumeLifecycleModes").is_empty() {
            set(spec, "volumeLifecycleModes", json!(["Persistent"]));
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        // The first of them upstream calls by a name of its own.
        for (key, shown) in [
            ("attachRequired", "attachedRequired"),
            ("podInfoOnMount", "podInfoOnMount"),
            ("storageCapacity", "storageCapacity"),
        ] {
            if !has(spec, key) {
                errors.required(path.child(shown), "");
            }
        }
        if has(spec, "fsGroupPolicy") {
            let policies = ["File", "None", "ReadWriteOnceWithFSType"];
            values::one_of(text(spec, "fsGroupPolicy"), &policies, path.child("fsGroupPolicy"), errors);
        }
        let mut audiences = Seen::default();
        for (i, request) in list(spec, "tokenRequests").iter().enumerate() {
            let p = path.child("tokenRequests").index(i);
            let audience = text(request, "audience");
            if audiences.again(audience) {
                errors.duplicate(p.child("audience"), audience);
                continue;
            }
            if let Some(seconds) = int(request, "expirationSeconds") {
                values::token_seconds(seconds, p.child("expirationSeconds"), errors);
            }
        }
        for mode in texts(spec, "volumeLifecycleModes") {
            values::one_of(mode, &["Persistent", "Ephemeral"], path.child("volumeLifecycleModes"), errors);
        }
        if !has(spec, "seLinuxMount") {
            errors.required(path.child("seLinuxMount"), "");
        }
        if let Some(n) = int(spec, "nodeAllocatableUpdatePeriodSeconds").filter(|n| *n < 10) {
            let p = path.child("nodeAllocatableUpdatePeriodSeconds");
            errors.invalid(p, n, "must be greater than or equal to 10 seconds");
        }
        if has(spec, "serviceAccountTokenInSecrets") && list(spec, "tokenRequests").is_empty() {
            let text = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
            let p = path.child("serviceAccountTokenInSecrets");
            errors.invalid(p, field(spec, "serviceAccountTokenInSecrets").clone(), text);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
        for (key, shown) in [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")] {
            let of = |v| at(v, &["spec", key]);
            values::immutable(of(new), of(old), Path::new("spec").child(shown), errors);
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column_of("AttachRequired", "boolean", 0, "api.storage.v1.CSIDriverSpec.attachRequired"),
            column_of("PodInfoOnMount", "boolean", 0, "api.storage.v1.CSIDriverSpec.podInfoOnMount"),
            column_of("StorageCapacity", "boolean", 0, "api.storage.v1.CSIDriverSpec.storageCapacity"),
            column_of("TokenRequests", "string", 0, "api.storage.v1.CSIDriverSpec.tokenRequests"),
            column_of("RequiresRepublish", "boolean", 0, "api.storage.v1.CSIDriverSpec.requiresRepublish"),
            column_of("Modes", "string", 0, "api.storage.v1.CSIDriverSpec.volumeLifecycleModes"),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let spec = field(obj, "spec");
        let audiences: Vec<&str> = list(spec, "tokenRequests").iter().map(|r| text(r, "audience")).collect();
        let tokens = if audiences.is_empty() { "<unset>".to_string() } else { audiences.join(",") };
        vec![
            columns::name(obj),
            json!(int(spec, "attachRequired").is_none() && field(spec, "attachRequired") != &json!(false)),
            json!(flag(spec, "podInfoOnMount")),
            json!(flag(spec, "storageCapacity")),
            json!(tokens),
            json!(flag(spec, "requiresRepublish")),
            columns::or_none(&texts(spec, "volumeLifecycleModes").join(",")),
            columns::age_cell(obj, now),
        ]
    }
}

impl Strategy for CSINode {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let mut names = Seen::default();
        for (i, driver) in list_at(obj, &["spec", "drivers"]).iter().enumerate() {
            let path = Path::new("spec.drivers").index(i);
            let name = text(driver, "name");
            podspec::csi_driver_name(name, &path.child("name"), errors);
            match text(driver, "nodeID") {
                "" => errors.required(path.child("nodeID"), ""),
                id if id.len() > NODE_ID_BYTES_MAX => {
                    errors.invalid(path.child("nodeID"), id, format!("must be {NODE_ID_BYTES_MAX} characters or less"));
                }
                _ => {}
            }
            values::non_negative(at(driver, &["allocatable", "count"]), path.child("allocatable.count"), errors);
            if names.again(name) {
                errors.duplicate(path.child("name"), name);
            }
            let mut keys = Seen::default();
            for key in texts(driver, "topologyKeys") {
                if key.is_empty() {
                    errors.required(path.clone(), "");
                }
                if keys.again(key) {
                    errors.duplicate(path.clone(), key);
                }
                values::qualified_name(key, &path, errors);
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
        // A driver may come and go, but while it is there only its count of volumes changes.
        let rest = |d: &Value| {
            let mut d = d.clone();
            remove(&mut d, "allocatable");
            d
        };
        let before = first_by_name(list_at(old, &["spec", "drivers"]));
        for is in list_at(new, &["spec", "drivers"]) {
            if let Some(was) = before.get(text(is, "name")) {
                values::immutable(&rest(is), &rest(was), Path::new("spec.drivers"), errors);
            }
        }
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] =
            &[NAME, column("Drivers", "integer", 0, "How many CSI drivers are on the node."), AGE];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let drivers = list_at(obj, &["spec", "drivers"]).len();
        vec![columns::name(obj), json!(drivers), columns::age_cell(obj, now)]
    }
}

/// `any_value`: the selector may have values that no label can have.
fn capacity(obj: &Value, any_value: bool, errors: &mut Errors) {
    let topology = field(obj, "nodeTopology");
    if topology.is_object() {
        selector::label_selector_with(topology, any_value, &Path::new("nodeTopology"), errors);
    }
    values::dns_subdomain(text(obj, "storageClassName"), &Path::new("storageClassName"), errors);
    if let Ok(q) = meta::quantity::Quantity::from_value(field(obj, "capacity"))
        && q.sign() < 0
    {
        errors.invalid(Path::new("capacity"), q.canonical(), values::NEGATIVE);
    }
}

impl Strategy for CSIStorageCapacity {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        capacity(obj, false, errors);
    }

    // Only the amount changes.
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        capacity(new, !selector::is_readable(field(old, "nodeTopology")), errors);
        for key in ["nodeTopology", "storageClassName"] {
            values::immutable(field(new, key), field(old, key), Path::new(key), errors);
        }
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let (topology, path, mut out) = (field(new, "nodeTopology"), Path::new("nodeTopology"), Vec::new());
        pod::warnings::node_selector_term(topology, false, &path, &mut out);
        for (label, _) in entries(topology, "matchLabels") {
            if let Some(why) = pod::warnings::deprecated_node_label(label) {
                out.push(format!("{}: {why}", path.child("matchLabels").child(label)));
            }
        }
        out
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column_of("StorageClassName", "string", 0, "api.storage.v1.CSIStorageCapacity.storageClassName"),
            column_of("Capacity", "string", 0, "api.storage.v1.CSIStorageCapacity.capacity"),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, _now: Now) -> Vec<Value> {
        let capacity = match text(obj, "capacity") {
            "" => "<unset>",
            c => c,
        };
        vec![columns::name(obj), json!(text(obj, "storageClassName")), json!(capacity)]
    }
}
