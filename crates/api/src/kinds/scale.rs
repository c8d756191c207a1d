//! Scale, as which kinds with replicas are shown by their `scale` subresource.

use super::columns;
use crate::strategy::{Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use serde_json::Value;

pub struct Scale {
    /// Of a custom resource: upstream's two tables differ in their types.
    pub custom: bool,
}

impl Strategy for Scale {
    fn columns(&self) -> &'static [Column] {
        const DESIRED: Column = column("Desired", "integer", 0);
        const AVAILABLE: Column = column("Available", "integer", 0);
        const BUILTIN: &[Column] = &[column("Name", "string", 0), DESIRED, AVAILABLE, column("Age", "string", 0)];
        const CUSTOM: &[Column] = &[NAME, DESIRED, AVAILABLE, column("Age", "date", 0)];
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
