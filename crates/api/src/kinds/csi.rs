//! CSIDriver, CSINode and CSIStorageCapacity (storage.k8s.io).

use super::columns;
use crate::strategy::{Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::{selector, values};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct CSIDriver;
pub struct CSINode;
pub struct CSIStorageCapacity;

const DRIVER_NAME_BYTES_MAX: usize = 63;
const NODE_ID_BYTES_MAX: usize = 256;

/// Names of drivers are DNS names of at most 63 bytes.
pub fn driver_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path.clone(), "");
    }
    if name.len() > DRIVER_NAME_BYTES_MAX {
        errors.too_long(path.clone(), DRIVER_NAME_BYTES_MAX);
    }
    values::dns_subdomain(&name.to_lowercase(), path, errors);
}

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
        driver_name(text_at(obj, &["metadata", "name"]), &Path::new("metadata.name"), errors);
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        let policies = ["ReadWriteOnceWithFSType", "File", "None"];
        values::required_one_of(text(spec, "fsGroupPolicy"), &policies, path.child("fsGroupPolicy"), errors);
        for (i, mode) in texts(spec, "volumeLifecycleModes").into_iter().enumerate() {
            values::one_of(mode, &["Persistent", "Ephemeral"], path.child("volumeLifecycleModes").index(i), errors);
        }
        let mut audiences = Vec::new();
        for (i, request) in list(spec, "tokenRequests").iter().enumerate() {
            let path = path.child("tokenRequests").index(i);
            let audience = text(request, "audience");
            if audiences.contains(&audience) {
                errors.duplicate(path.child("audience"), audience);
            }
            audiences.push(audience);
            if let Some(seconds) = int(request, "expirationSeconds") {
                if seconds < 600 {
                    errors.invalid(
                        path.child("expirationSeconds"),
                        seconds,
                        "may not specify a duration less than 10 minutes",
                    );
                } else if seconds > 1 << 32 {
                    errors.invalid(
                        path.child("expirationSeconds"),
                        seconds,
                        "may not specify a duration larger than 2^32 seconds",
                    );
                }
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
        for key in ["attachRequired", "volumeLifecycleModes"] {
            let of = |v| at(v, &["spec", key]);
            values::immutable(of(new), of(old), Path::new("spec").child(key), errors);
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("AttachRequired", "boolean", 0),
            column("PodInfoOnMount", "boolean", 0),
            column("StorageCapacity", "boolean", 0),
            column("TokenRequests", "string", 0),
            column("RequiresRepublish", "boolean", 0),
            column("Modes", "string", 0),
            column("Age", "string", 0),
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
        let mut names = Vec::new();
        for (i, driver) in list_at(obj, &["spec", "drivers"]).iter().enumerate() {
            let path = Path::new("spec.drivers").index(i);
            let name = text(driver, "name");
            driver_name(name, &path.child("name"), errors);
            if names.contains(&name) {
                errors.duplicate(path.child("name"), name);
            }
            names.push(name);
            match text(driver, "nodeID") {
                "" => errors.required(path.child("nodeID"), ""),
                id if id.len() > NODE_ID_BYTES_MAX => {
                    errors.invalid(path.child("nodeID"), id, format!("must be {NODE_ID_BYTES_MAX} characters or less"));
                }
                _ => {}
            }
            let mut keys = Vec::new();
            for (j, key) in texts(driver, "topologyKeys").into_iter().enumerate() {
                let path = path.child("topologyKeys").index(j);
                values::qualified_name(key, &path, errors);
                if keys.contains(&key) {
                    errors.duplicate(path, key);
                }
                keys.push(key);
            }
            values::non_negative(at(driver, &["allocatable", "count"]), path.child("allocatable.count"), errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
        // A driver may come and go, but not change while it is there.
        for driver in list_at(new, &["spec", "drivers"]) {
            let before = list_at(old, &["spec", "drivers"]).iter().find(|d| text(d, "name") == text(driver, "name"));
            for key in ["nodeID", "topologyKeys"] {
                if before.is_some_and(|b| !same(field(b, key), field(driver, key))) {
                    let path = Path::new("spec.drivers").key(text(driver, "name")).child(key);
                    errors.invalid(path, field(driver, key).clone(), values::IMMUTABLE);
                }
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, column("Drivers", "integer", 0), column("Age", "string", 0)];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let drivers = list_at(obj, &["spec", "drivers"]).len();
        vec![columns::name(obj), json!(drivers), columns::age_cell(obj, now)]
    }
}

impl Strategy for CSIStorageCapacity {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        match text(obj, "storageClassName") {
            "" => errors.required(Path::new("storageClassName"), ""),
            name => values::dns_subdomain(name, &Path::new("storageClassName"), errors),
        }
        for key in ["capacity", "maximumVolumeSize"] {
            let quantity = field(obj, key);
            if meta::quantity::Quantity::from_value(quantity).is_ok_and(|q| q.sign() < 0) {
                errors.invalid(Path::new(key), quantity.clone(), values::NEGATIVE);
            }
        }
        let topology = field(obj, "nodeTopology");
        if topology.is_object() {
            selector::label_selector(topology, &Path::new("nodeTopology"), errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
        for key in ["nodeTopology", "storageClassName"] {
            values::immutable(field(new, key), field(old, key), Path::new(key), errors);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, column("StorageClassName", "string", 0), column("Capacity", "string", 0)];
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
