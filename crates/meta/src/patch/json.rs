//! JSON patch (RFC 6902), with upstream's liberties: negative array positions count from the end, and testing an
//! absent value for null succeeds.

use crate::status::{Details, Result, Status};
use json_patch::PatchOperation;
use serde_json::Value;

/// Upstream's limit on operations of one patch.
const OPERATIONS_MAX: usize = 10_000;
/// What all copies of one patch may add, bytes (upstream's `AccumulatedCopySizeLimit`): each may double the document.
const COPIED_MAX: usize = 3 << 20;
/// What all moves of one patch may carry, bytes.
const MOVED_MAX: usize = 64 << 20;
/// How deep an operation may nest what it puts. Deeper documents would be refused, and exhaust the stack before.
const DEPTH_MAX: usize = 200;

/// Errors: 400 when the patch is no list of operations, 413 when it is too long, 422 when an operation can't be
/// done. Upstream hides the operation's own error behind one text.
pub fn apply(original: &Value, patch: &Value) -> Result<Value> {
    let Value::Array(operations) = patch else {
        return Err(Status::bad_request(
            "json: cannot unmarshal object into Go value of type jsonpatch.Patch".to_string(),
        ));
    };
    if operations.len() > OPERATIONS_MAX {
        return Err(Status::too_large(format!(
            "Request entity too large: The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            operations.len()
        )));
    }
    let mut doc = original.clone();
    let mut left = Budget { copied: COPIED_MAX, moved: MOVED_MAX };
    for operation in operations {
        one(&mut doc, operation, &mut left).ok_or_else(refused)?;
    }
    Ok(doc)
}

/// 422 without a reason, as upstream answers what a patch can't do.
pub(super) fn refused() -> Status {
    let mut s = Status::new(422, "Invalid", "the server rejected our request due to an error in our request");
    s.details = Some(Box::new(Details::default()));
    s
}

/// What is left for the rest of a patch, bytes.
struct Budget {
    copied: usize,
    moved: usize,
}

/// Takes a value's approximate size from the budget; `None` when it is too large or too deep.
fn weigh(value: &Value, levels: usize, budget: &mut usize) -> Option<()> {
    let own = match value {
        Value::String(s) => s.len() + 2,
        Value::Object(o) => o.keys().map(|k| k.len() + 4).sum(),
        _ => 4,
    };
    *budget = budget.checked_sub(own)?;
    let levels = levels.checked_sub(1)?;
    match value {
        Value::Object(o) => o.values().try_for_each(|v| weigh(v, levels, budget)),
        Value::Array(a) => a.iter().try_for_each(|v| weigh(v, levels, budget)),
        _ => Some(()),
    }
}

fn one(doc: &mut Value, operation: &Value, left: &mut Budget) -> Option<()> {
    let mut operation = operation.clone();
    for pointer in ["path", "from"] {
        if let Some(Value::String(text)) = operation.get_mut(pointer) {
            *text = from_the_end(doc, text);
        }
    }
    if operation.get("op")? == "test" && operation.get("value").is_none_or(Value::is_null) {
        let at = doc.pointer(operation.get("path")?.as_str()?);
        return at.is_none_or(Value::is_null).then_some(());
    }
    let depth = operation.get("path").and_then(Value::as_str).map_or(0, |p| p.split('/').count());
    let levels = DEPTH_MAX.checked_sub(depth)?;
    let source = operation.get("from").and_then(Value::as_str).and_then(|from| doc.pointer(from));
    match (operation.get("op").and_then(Value::as_str), source) {
        (Some("copy"), Some(v)) => weigh(v, levels, &mut left.copied)?,
        (Some("move"), Some(v)) => weigh(v, levels, &mut left.moved)?,
        _ => {}
    }
    let operation: PatchOperation = serde_json::from_value(operation).ok()?;
    json_patch::patch(doc, &[operation]).ok()
}

/// The pointer with negative array positions counted out.
fn from_the_end(doc: &Value, pointer: &str) -> String {
    let mut at = Some(doc);
    let mut out = String::new();
    for (i, token) in pointer.split('/').enumerate() {
        if i == 0 {
            out.push_str(token);
            continue;
        }
        let name = token.replace("~1", "/").replace("~0", "~");
        let token = match (at, name.strip_prefix('-').and_then(|n| n.parse::<usize>().ok())) {
            (Some(Value::Array(items)), Some(back)) if back <= items.len() => (items.len() - back).to_string(),
            _ => token.to_string(),
        };
        at = match at {
            Some(Value::Object(map)) => map.get(&name),
            Some(Value::Array(items)) => token.parse::<usize>().ok().and_then(|i| items.get(i)),
            _ => None,
        };
        out.push('/');
        out.push_str(&token);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_patch_grows_without_bound() {
        let doc = json!({"data": {"a": "x".repeat(1000)}, "d": {}});
        // Each copy doubles what is there.
        let copies: Vec<Value> =
            (0..60).map(|i| json!({"op": "copy", "from": "/data", "path": format!("/data/k{i}")})).collect();
        assert_eq!(apply(&doc, &copies.into()).unwrap_err().code, 422);
        // Each round of moves nests the document one deeper.
        let round = [
            json!({"op": "add", "path": "/t", "value": {}}),
            json!({"op": "move", "from": "/d", "path": "/t/d"}),
            json!({"op": "move", "from": "/t", "path": "/d"}),
        ];
        let moves: Vec<Value> = round.iter().cycle().take(9_999).cloned().collect();
        assert_eq!(apply(&doc, &moves.into()).unwrap_err().code, 422);
        let some: Vec<Value> = round.iter().cycle().take(300).cloned().collect();
        assert!(apply(&doc, &some.into()).is_ok());
    }

    #[test]
    fn operations() {
        let doc = json!({"a": [1, 2, 3], "m": {"x/y": 1}});
        for (patch, want) in [
            (json!([{"op": "add", "path": "/a/-", "value": 4}]), Ok(json!({"a": [1, 2, 3, 4], "m": {"x/y": 1}}))),
            (json!([{"op": "replace", "path": "/a/-1", "value": 9}]), Ok(json!({"a": [1, 2, 9], "m": {"x/y": 1}}))),
            (json!([{"op": "remove", "path": "/m/x~1y"}]), Ok(json!({"a": [1, 2, 3], "m": {}}))),
            (json!([{"op": "move", "from": "/m", "path": "/n"}]), Ok(json!({"a": [1, 2, 3], "n": {"x/y": 1}}))),
            (json!([{"op": "test", "path": "/a/0", "value": 1}]), Ok(doc.clone())),
            (json!([{"op": "test", "path": "/none", "value": null}]), Ok(doc.clone())),
            (json!([{"op": "test", "path": "/a/0", "value": 2}]), Err(422)),
            (json!([{"op": "test", "path": "/a/0", "value": null}]), Err(422)),
            (json!([{"op": "remove", "path": "/none"}]), Err(422)),
            (json!([{"op": "replace", "path": "/none", "value": 1}]), Err(422)),
            (json!([{"op": "add", "path": "/x/y", "value": 1}]), Err(422)),
            (json!([{"op": "odd", "path": "/a"}]), Err(422)),
            (json!({}), Err(400)),
            (json!(vec![json!({"op": "test", "path": "/z"}); 10_001]), Err(413)),
        ] {
            assert_eq!(apply(&doc, &patch).map_err(|s| s.code), want);
        }
    }
}
