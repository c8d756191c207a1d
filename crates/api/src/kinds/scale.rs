//! Scale, as which kinds with replicas are shown by their `scale` subresource.

use super::columns;
use crate::strategy::{AGE, CREATED, Column, NAME, NAMED, Now, Strategy, column_of};
use crate::validation::access::*;
use serde_json::Value;

pub struct Scale {
    /// Of a custom resource: upstream's two tables differ in their types.
    pub custom: bool,
}

impl Strategy for Scale {
    fn columns(&self) -> &'static [Column] {
        const DESIRED: Column = column_of("Desired", "integer", 0, "api.autoscaling.v1.ScaleSpec.replicas");
        const AVAILABLE: Column = column_of("Available", "integer", 0, "api.autoscaling.v1.ScaleStatus.replicas");
        const BUILTIN: &[Column] = &[column_of("Name", "string", 0, NAMED), DESIRED, AVAILABLE, AGE];
        const CUSTOM: &[Column] = &[NAME, DESIRED, AVAILABLE, column_of("Age", "date", 0, CREATED)];
        if self.custom { CUSTOM } else { BUILTIN }
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        vec![
            columns::name(obj),
            columns::number(field(obj, "spec"), "replicas"),
            columns::number(field(obj, "status"), "replicas"),
            columns::age_cell(obj, now),
        ]
    }
}
