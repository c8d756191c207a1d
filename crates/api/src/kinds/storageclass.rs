//! StorageClass.

use super::columns;
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column_of};
use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

pub struct StorageClass;

const DEFAULT_ANNOTATIONS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

impl Strategy for StorageClass {
    fn defaults(&self, obj: &mut Value) {
        fill(obj, "reclaimPolicy", "Delete");
        fill(obj, "volumeBindingMode", "Immediate");
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        match text(obj, "provisioner") {
            "" => errors.required(Path::new("provisioner"), ""),
            p => values::each(errors, &Path::new("provisioner"), p, meta::names::qualified_name(&p.to_lowercase())),
        }
        parameters(obj, true, errors);
        let policy = text(obj, "reclaimPolicy");
        if !policy.is_empty() {
            values::one_of(policy, &["Delete", "Retain"], Path::new("reclaimPolicy"), errors);
        }
        let modes = ["Immediate", "WaitForFirstConsumer"];
        match field(obj, "volumeBindingMode").as_str() {
            None => errors.required(Path::new("volumeBindingMode"), ""),
            Some(mode) => values::one_of(mode, &modes, Path::new("volumeBindingMode"), errors),
        }
        topologies(obj, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
        for key in ["parameters", "provisioner", "reclaimPolicy"] {
            if !same(field(new, key), field(old, key)) {
                errors.forbidden(Path::new(key), format!("updates to {key} are forbidden."));
            }
        }
        let mode = "volumeBindingMode";
        values::immutable(field(new, mode), field(old, mode), Path::new(mode), errors);
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        for (i, term) in list(new, "allowedTopologies").iter().enumerate() {
            for (j, e) in list(term, "matchLabelExpressions").iter().enumerate() {
                if let Some(why) = super::pod::warnings::deprecated_node_label(text(e, "key")) {
                    let p = Path::new("allowedTopologies").index(i).child("matchLabelExpressions").index(j);
                    out.push(format!("{}: {why}", p.child("key")));
                }
            }
        }
        out
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column_of("Provisioner", "string", 0, "api.storage.v1.StorageClass.provisioner"),
            column_of("ReclaimPolicy", "string", 0, "api.storage.v1.StorageClass.reclaimPolicy"),
            column_of("VolumeBindingMode", "string", 0, "api.storage.v1.StorageClass.volumeBindingMode"),
            column_of("AllowVolumeExpansion", "string", 0, "api.storage.v1.StorageClass.allowVolumeExpansion"),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let annotations = at(obj, &["metadata", "annotations"]);
        let default = DEFAULT_ANNOTATIONS.iter().any(|a| text(annotations, a) == "true");
        let name = text_at(obj, &["metadata", "name"]);
        vec![
            json!(if default { format!("{name} (default)") } else { name.to_string() }),
            json!(text(obj, "provisioner")),
            json!(text(obj, "reclaimPolicy")),
            json!(text(obj, "volumeBindingMode")),
            json!(flag(obj, "allowVolumeExpansion")),
            columns::age_cell(obj, now),
        ]
    }
}

fn topologies(obj: &Value, errors: &mut Errors) {
    let all = list(obj, "allowedTopologies");
    // Upstream begins with as many empty terms as there are terms, which makes an empty one a duplicate.
    let mut terms: HashMap<_, usize> = HashMap::from([(BTreeMap::new(), all.len())]);
    for (i, term) in all.iter().enumerate() {
        let path = Path::new("allowedTopologies").index(i);
        let expressions = list(term, "matchLabelExpressions");
        let mut keys = Seen::default();
        for (j, e) in expressions.iter().enumerate() {
            let p = path.child("matchLabelExpressions").index(j);
            let vs = texts(e, "values");
            if vs.is_empty() {
                errors.required(p.child("values"), "");
            }
            let mut values_seen = Seen::default();
            for (k, v) in vs.iter().enumerate() {
                if values_seen.again(*v) {
                    errors.duplicate(p.child("values").index(k), *v);
                }
            }
            values::qualified_name(text(e, "key"), &p.child("key"), errors);
            if keys.again(text(e, "key")) {
                errors.duplicate(p.child("key"), text(e, "key"));
            }
        }
        let whole: BTreeMap<&str, BTreeSet<&str>> =
            expressions.iter().map(|e| (text(e, "key"), texts(e, "values").into_iter().collect())).collect();
        let before = terms.entry(whole).or_default();
        for _ in 0..*before {
            errors.duplicate(path.child("matchLabelExpressions"), "");
        }
        *before += 1;
    }
}

/// What a driver is told about volumes; also of a VolumeAttributesClass, where there must be some.
pub fn parameters(obj: &Value, may_be_empty: bool, errors: &mut Errors) {
    const COUNT_MAX: usize = 512;
    const BYTES_MAX: usize = 256 * 1024;
    let (all, p) = (pairs(obj, "parameters"), Path::new("parameters"));
    if all.len() > COUNT_MAX {
        return errors.too_long(p, COUNT_MAX);
    }
    for (key, _) in all.iter().filter(|(k, _)| k.is_empty()) {
        errors.invalid(p.clone(), *key, "field can not be empty.");
    }
    if all.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() > BYTES_MAX {
        errors.too_long(p.clone(), BYTES_MAX);
    }
    if !may_be_empty && all.is_empty() {
        errors.required(p, "must contain at least one key/value pair");
    }
}
