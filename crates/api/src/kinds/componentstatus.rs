//! ComponentStatus: the health of the control plane's parts, as upstream printed it before `/readyz`. Read only.

use super::columns;
use crate::strategy::{Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use serde_json::{Value, json};

pub struct ComponentStatus;

impl Strategy for ComponentStatus {
    fn deprecation(&self) -> Option<&str> {
        Some("v1 ComponentStatus is deprecated in v1.19+")
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Status", "string", 0, "Whether the component is healthy."),
            column("Message", "string", 0, "What the component says of itself."),
            column("Error", "string", 0, "What went wrong when it was asked."),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, _now: Now) -> Vec<Value> {
        let conditions = field(obj, "conditions").as_array();
        let healthy = conditions.into_iter().flatten().find(|c| text(c, "type") == "Healthy");
        let status = match healthy.map(|c| text(c, "status")) {
            Some("True") => "Healthy",
            Some("False") => "Unhealthy",
            _ => "Unknown",
        };
        let of = |key: &str| healthy.map(|c| text(c, key)).unwrap_or_default();
        vec![columns::name(obj), json!(status), json!(of("message")), json!(of("error"))]
    }
}
