//! What a schema says of which values are the same, for rules that are judged here without whoever compiles schemas.

use cel::rules::Structure;
use serde_json::Value;
use std::collections::HashMap;

pub struct Described {
    properties: HashMap<String, Described>,
    additional: Option<Box<Described>>,
    items: Option<Box<Described>>,
    keys: Option<Vec<String>>,
}

pub fn described(schema: &Value) -> Described {
    let below = |key: &str| schema.get(key).filter(|s| s.is_object()).map(|s| Box::new(described(s)));
    let properties = schema["properties"].as_object().into_iter().flatten();
    let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
    Described {
        properties: properties.map(|(name, s)| (name.clone(), described(s))).collect(),
        additional: below("additionalProperties"),
        items: below("items"),
        keys: (schema["x-kubernetes-list-type"] == "map")
            .then(|| keys.filter_map(|k| k.as_str().map(String::from)).collect()),
    }
}

impl Structure for Described {
    fn member(&self, name: &str) -> Option<&dyn Structure> {
        let additional = || self.additional.as_deref();
        self.properties.get(name).or_else(additional).map(|s| s as _)
    }

    fn item(&self) -> Option<&dyn Structure> {
        self.items.as_deref().map(|s| s as _)
    }

    fn keys(&self) -> Option<&[String]> {
        self.keys.as_deref()
    }
}
