//! What definitions of custom resources cost: a cluster may have hundreds, each with a schema of a hundred kilobytes,
//! most of whose objects nobody ever makes. Run with `-- --nocapture` for the figures.

use serde_json::{Map, Value, json};
use std::sync::Arc;

const DEFINITIONS: usize = 60;

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|p| p.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// A schema with fields on fields, described as generated ones are.
fn schema(depth: usize, seed: &mut u64) -> Value {
    let mut word = || {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ["name", "image", "selector", "policy", "timeout", "replicas", "secret", "mount"][(*seed >> 60) as usize % 8]
    };
    let description: Vec<&str> = (0..24).map(|_| word()).collect();
    let description = description.join(" ");
    let names: Vec<String> = (0..6).map(|i| format!("{}{i}", word())).collect();
    if depth == 0 {
        return match description.len() % 4 {
            0 => json!({"type": "string", "description": description, "maxLength": 63, "pattern": "^[a-z]+$"}),
            _ => json!({"type": "string", "description": description}),
        };
    }
    let properties: Map<String, Value> = names.into_iter().map(|n| (n, schema(depth - 1, seed))).collect();
    json!({"type": "object", "description": description, "properties": properties,
        "x-kubernetes-validations": [{"rule": "size(self) < 10"}]})
}

#[test]
fn definitions_take_little_until_somebody_needs_them() {
    let mut spec = schema(4, &mut 7);
    spec.as_object_mut().unwrap().remove("x-kubernetes-validations");
    let names = json!({"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"});
    let crd = json!({
        "metadata": {"name": "widgets.example.com", "uid": "u"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [
            {"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}}]},
        "status": {"acceptedNames": names},
    });
    // What all definitions share is made once, and memory that was needed for a moment is there to be used again.
    let object = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {}});
    let use_it = |row: &Arc<api::catalogue::Resource>| {
        let definition = row.custom.as_ref().unwrap();
        definition.version("v1").unwrap().read(&mut object.clone());
        row.types();
    };
    api::custom::rows(&crd).iter().for_each(use_it);

    let text = crd.to_string().len() * DEFINITIONS;
    let before = resident();
    let rows: Vec<_> = (0..DEFINITIONS).flat_map(|_| api::custom::rows(&crd)).collect();
    let unused = resident().saturating_sub(before);
    rows.iter().for_each(use_it);
    let used = resident().saturating_sub(before);
    println!("{text} bytes of JSON: {unused} bytes before anybody needs them, {used} in use");
    assert!(unused < text / 2, "{unused} bytes for definitions of {text}");
    assert!(used < text * 3, "{used} bytes for definitions of {text} that are in use");

    // Used when it is looked at first, not since, and made anew for the next who comes.
    let definition = rows[0].custom.as_ref().unwrap();
    assert_eq!([definition.forget_unused(), definition.forget_unused(), definition.forget_unused()], [0, 1, 0]);
    use_it(&rows[0]);
    assert_eq!([definition.forget_unused(), definition.forget_unused()], [0, 1]);
}
