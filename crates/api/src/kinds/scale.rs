//! Scale, as which built-in kinds with replicas are shown by their `scale` subresource.

use super::columns;
use crate::strategy::{Column, Now, Strategy, column};
use crate::validation::access::*;
use serde_json::Value;

pub struct Scale;

impl Strategy for Scale {
    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            column("Name", "string", 0),
            column("Desired", "integer", 0),
            column("Available", "integer", 0),
            column("Age", "string", 0),
        ];
        COLUMNS
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
