//! JSON patch (RFC 6902), with the liberties that upstream's library takes and that clients have come to rely on:
//! negative array positions count from the end, a member of a map that isn't there can be replaced, copied (it is
//! null) and found to be null, and a value that is left out is null. No crate does just this.

use crate::status::{Details, Result, Status};
use serde_json::Value;

/// Upstream's limit on operations of one patch.
const OPERATIONS_MAX: usize = 10_000;
/// What all copies of one patch may add, bytes (upstream's `AccumulatedCopySizeLimit`): each may double the document.
const COPIED_MAX: usize = 3 << 20;
/// What all moves of one patch may carry, bytes.
const MOVED_MAX: usize = 64 << 20;
/// How deep an operation may nest what it puts. Deeper documents would be refused, and exhaust the stack before.
const DEPTH_MAX: usize = 200;

/// Why an operation can't be done, in upstream's words.
#[derive(Clone, Debug, PartialEq)]
pub struct Undone {
    pub why: String,
    /// A `test` found another value: whoever wrote the patch may have meant that nothing is done then.
    pub by_test: bool,
}

impl Undone {
    fn missing(what: String) -> Undone {
        Undone::because(format!("{what}: {MISSING}"))
    }

    fn because(why: String) -> Undone {
        Undone { why, by_test: false }
    }
}

const MISSING: &str = "missing value";

type Done<T = ()> = std::result::Result<T, Undone>;

/// Errors: 400 when the patch is no list of operations, 413 when it is too long, 422 when an operation can't be
/// done. Upstream hides the operation's own error behind one text.
pub fn apply(original: &Value, patch: &Value) -> Result<Value> {
    let operations = operations(patch).map_err(Status::bad_request)?;
    if operations.len() > OPERATIONS_MAX {
        return Err(Status::too_large(format!(
            "Request entity too large: The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            operations.len()
        )));
    }
    perform(original, operations).map_err(|_| refused())
}

/// The operations of a patch. Errors are those of Go's decoder.
pub fn operations(patch: &Value) -> std::result::Result<&[Value], String> {
    let wrong = |v: &Value, wanted: &str| {
        format!("json: cannot unmarshal {} into Go value of type jsonpatch.{wanted}", json_type(v))
    };
    match patch {
        Value::Null => Ok(&[]),
        Value::Array(all) => match all.iter().find(|o| !o.is_object() && !o.is_null()) {
            None => Ok(all),
            Some(other) => Err(wrong(other, "Operation")),
        },
        other => Err(wrong(other, "Patch")),
    }
}

/// A value's type, as Go's decoder calls it.
pub fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Does the operations one after another, all or none.
pub fn perform(original: &Value, operations: &[Value]) -> Done<Value> {
    let mut doc = original.clone();
    let mut left = Budget { copied: COPIED_MAX, moved: MOVED_MAX };
    for operation in operations {
        one(&mut doc, operation, &mut left)?;
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

fn one(doc: &mut Value, operation: &Value, left: &mut Budget) -> Done {
    let text = |member: &str| operation.get(member).and_then(Value::as_str);
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    let op = text("op").unwrap_or("unknown");
    let needed = |member: &str| {
        text(member).ok_or_else(|| {
            let why = match (op, member) {
                ("add" | "remove" | "copy", "path") => String::new(),
                (_, "path") => "operation missing path field: ".into(),
                _ => "operation, missing from field: ".into(),
            };
            Undone::because(format!("{op} operation failed to decode {member}: {why}{MISSING}"))
        })
    };
    // What the library says of a place that isn't there differs from operation to operation.
    let no_place = |what: &str| Undone::missing(format!("{op} operation does not apply: {what}"));
    match op {
        "add" | "remove" => {
            let path = needed("path")?;
            let (parent, name) =
                parent(doc, path).ok_or_else(|| no_place(&format!("doc is missing path: \"{path}\"")))?;
            let done = if op == "add" { add(parent, name, value()) } else { remove(parent, &name).map(|_| ()) };
            done.map_err(|why| Undone::because(format!("error in {op} for path: '{path}': {why}")))
        }
        "replace" => replace(doc, needed("path")?, value(), no_place),
        "test" => test(doc, needed("path")?, operation.get("value"), no_place),
        "move" => {
            let from = needed("from")?;
            let (parent_of_old, old) =
                parent(doc, from).ok_or_else(|| no_place(&format!("doc is missing from path: {from}")))?;
            let moved = remove(parent_of_old, &old)
                .map_err(|why| Undone::because(format!("error in move for path: '{old}': {why}")))?;
            let path = needed("path")?;
            weigh(&moved, levels_below(path), &mut left.moved).ok_or_else(too_much)?;
            let (parent, name) =
                parent(doc, path).ok_or_else(|| no_place(&format!("doc is missing destination path: {path}")))?;
            add(parent, name, moved).map_err(|why| Undone::because(format!("error in move for path: '{path}': {why}")))
        }
        "copy" => {
            let from = needed("from")?;
            let (parent_of_old, old) =
                parent(doc, from).ok_or_else(|| no_place(&format!("doc is missing from path: {from}")))?;
            let copied = get(parent_of_old, &old)
                .map_err(|why| Undone::because(format!("error in copy for from: '{from}': {why}")))?;
            let copied = copied.cloned().unwrap_or(Value::Null);
            let path = needed("path")?;
            weigh(&copied, levels_below(path), &mut left.copied).ok_or_else(too_much)?;
            let (parent, name) =
                parent(doc, path).ok_or_else(|| no_place(&format!("doc is missing destination path: {path}")))?;
            add(parent, name, copied)
                .map_err(|why| Undone::because(format!("error while adding value during copy: {why}")))
        }
        other => Err(Undone::because(format!("Unexpected kind: {other}"))),
    }
}

fn too_much() -> Undone {
    Undone::because("Unable to complete the copy, the accumulated size increase exceeds the limit".into())
}

/// How deep what is put there may be.
fn levels_below(path: &str) -> usize {
    DEPTH_MAX.saturating_sub(path.split('/').count())
}

/// What holds the value that a pointer names, and the value's name in it. The document itself is in nothing.
fn parent<'a>(doc: &'a mut Value, pointer: &str) -> Option<(&'a mut Value, String)> {
    let (above, name) = pointer.rsplit_once('/')?;
    let mut at = doc;
    for token in above.split('/').skip(1) {
        let name = unescaped(token);
        at = match at {
            Value::Object(map) => map.get_mut(&name)?,
            Value::Array(items) => {
                let i = position(&name, items.len()).ok()?;
                items.get_mut(i)?
            }
            _ => return None,
        };
    }
    (at.is_object() || at.is_array()).then(|| (at, unescaped(name)))
}

fn unescaped(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

type Found<T> = std::result::Result<T, String>;

fn invalid_index(i: i64) -> String {
    format!("Unable to access invalid index: {i}: invalid index referenced")
}

/// An array's position among `len`; negative ones count from the end.
fn position(name: &str, len: usize) -> Found<usize> {
    let i: i64 = name.parse().map_err(|_| format!("strconv.Atoi: parsing {name:?}: invalid syntax"))?;
    let at = match i < 0 {
        true => usize::try_from(i.unsigned_abs()).ok().and_then(|i| len.checked_sub(i)),
        false => usize::try_from(i).ok().filter(|i| *i < len),
    };
    at.ok_or_else(|| invalid_index(i))
}

/// The member of that name: none of a map is no fault, but a position that an array doesn't have is.
fn get<'a>(parent: &'a Value, name: &str) -> Found<Option<&'a Value>> {
    match parent {
        Value::Object(map) => Ok(map.get(name)),
        Value::Array(items) => position(name, items.len()).map(|i| items.get(i)),
        _ => Ok(None),
    }
}

fn add(parent: &mut Value, name: String, value: Value) -> Found<()> {
    match parent {
        Value::Object(map) => {
            map.insert(name, value);
        }
        Value::Array(items) if name == "-" => items.push(value),
        Value::Array(items) => {
            // The end is a place, too: -1 is behind the last.
            let i = position(&name, items.len() + 1).map_err(|why| match name.parse::<i64>() {
                Ok(_) => why,
                Err(_) => format!("value was not a proper array index: '{name}': {why}"),
            })?;
            items.insert(i, value);
        }
        _ => {}
    }
    Ok(())
}

fn remove(parent: &mut Value, name: &str) -> Found<Value> {
    match parent {
        Value::Object(map) => {
            map.remove(name).ok_or_else(|| format!("Unable to remove nonexistent key: {name}: {MISSING}"))
        }
        Value::Array(items) => position(name, items.len()).map(|i| items.remove(i)),
        _ => Ok(Value::Null),
    }
}

fn replace(doc: &mut Value, path: &str, value: Value, no_place: impl Fn(&str) -> Undone) -> Done {
    if path.is_empty() {
        // A document is a map or a list.
        if !value.is_object() && !value.is_array() {
            return Err(Undone::because("replace operation value must be object or array".into()));
        }
        *doc = value;
        return Ok(());
    }
    let (parent, name) = parent(doc, path).ok_or_else(|| no_place(&format!("doc is missing path: {path}")))?;
    match parent {
        Value::Array(items) => {
            let i = position(&name, items.len()).map_err(|_| no_place(&format!("doc is missing key: {path}")))?;
            items[i] = value;
        }
        other => add(other, name, value).map_err(Undone::because)?,
    }
    Ok(())
}

fn test(doc: &mut Value, path: &str, want: Option<&Value>, no_place: impl Fn(&str) -> Undone) -> Done {
    let got = if path.is_empty() {
        Some(&*doc)
    } else {
        let (parent, name) = parent(doc, path).ok_or_else(|| no_place(&format!("is missing path: {path}")))?;
        get(parent, &name).map_err(|why| Undone::because(format!("error in test for path: '{path}': {why}")))?
    };
    match got.unwrap_or(&Value::Null) == want.unwrap_or(&Value::Null) {
        true => Ok(()),
        false => Err(Undone { why: format!("testing value {path} failed: test failed"), by_test: true }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{json_object, json_value};
    use proptest::prelude::*;
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
    fn what_cannot_be_done_is_told() {
        let doc = json!({"a": [1], "m": {"n": 1}});
        let told = |op: Value| perform(&doc, &[op]).map_err(|u| (u.why, u.by_test));
        for (op, want) in [
            (
                json!({"op": "add", "path": "/x/y"}),
                "add operation does not apply: doc is missing path: \"/x/y\": missing value",
            ),
            (
                json!({"op": "add", "path": "/a/7"}),
                "error in add for path: '/a/7': Unable to access invalid index: 7: invalid index referenced",
            ),
            (
                json!({"op": "add", "path": "/a/x"}),
                "error in add for path: '/a/x': value was not a proper array index: 'x': strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (json!({"op": "add"}), "add operation failed to decode path: missing value"),
            (
                json!({"op": "remove", "path": "/m/z"}),
                "error in remove for path: '/m/z': Unable to remove nonexistent key: z: missing value",
            ),
            (
                json!({"op": "replace", "path": "/x/y"}),
                "replace operation does not apply: doc is missing path: /x/y: missing value",
            ),
            (
                json!({"op": "replace", "path": "/a/3"}),
                "replace operation does not apply: doc is missing key: /a/3: missing value",
            ),
            (
                json!({"op": "replace"}),
                "replace operation failed to decode path: operation missing path field: missing value",
            ),
            (
                json!({"op": "move", "path": "/a"}),
                "move operation failed to decode from: operation, missing from field: missing value",
            ),
            (
                json!({"op": "move", "from": "/m/z", "path": "/a"}),
                "error in move for path: 'z': Unable to remove nonexistent key: z: missing value",
            ),
            (
                json!({"op": "copy", "from": "/m", "path": "/z/z"}),
                "copy operation does not apply: doc is missing destination path: /z/z: missing value",
            ),
            (
                json!({"op": "test", "path": "/x/y"}),
                "test operation does not apply: is missing path: /x/y: missing value",
            ),
            (json!({"op": "odd"}), "Unexpected kind: odd"),
        ] {
            assert_eq!(told(op.clone()), Err((want.to_string(), false)), "{op}");
        }
        let failed = json!({"op": "test", "path": "/m/n", "value": 2});
        assert_eq!(told(failed), Err(("testing value /m/n failed: test failed".to_string(), true)));
    }

    /// In order: the document, the patch, what comes out (`Null`: 422).
    fn check(rows: &[(Value, Value, Value)]) {
        for (doc, patch, want) in rows {
            let got = apply(doc, patch);
            match want {
                Value::Null => assert_eq!(got.map_err(|s| s.code), Err(422), "{doc} + {patch}"),
                want => assert_eq!(got.as_ref(), Ok(want), "{doc} + {patch}"),
            }
        }
    }

    /// The appendix of RFC 6902, by its sections.
    #[test]
    fn rfc_6902_examples() {
        let (a, q) = (json!({"foo": "bar"}), json!({"baz": "qux"}));
        check(&[
            (a.clone(), json!([{"op": "add", "path": "/baz", "value": "qux"}]), json!({"baz": "qux", "foo": "bar"})),
            (
                json!({"foo": ["bar", "baz"]}),
                json!([{"op": "add", "path": "/foo/1", "value": "qux"}]),
                json!({"foo": ["bar", "qux", "baz"]}),
            ),
            (json!({"baz": "qux", "foo": "bar"}), json!([{"op": "remove", "path": "/baz"}]), a.clone()),
            (
                json!({"foo": ["bar", "qux", "baz"]}),
                json!([{"op": "remove", "path": "/foo/1"}]),
                json!({"foo": ["bar", "baz"]}),
            ),
            (
                json!({"baz": "qux", "foo": "bar"}),
                json!([{"op": "replace", "path": "/baz", "value": "boo"}]),
                json!({"baz": "boo", "foo": "bar"}),
            ),
            (
                json!({"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}}),
                json!([{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}]),
                json!({"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}}),
            ),
            (
                json!({"foo": ["all", "grass", "cows", "eat"]}),
                json!([{"op": "move", "from": "/foo/1", "path": "/foo/3"}]),
                json!({"foo": ["all", "cows", "eat", "grass"]}),
            ),
            (
                json!({"baz": "qux", "foo": ["a", 2, "c"]}),
                json!([{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}]),
                json!({"baz": "qux", "foo": ["a", 2, "c"]}),
            ),
            (q.clone(), json!([{"op": "test", "path": "/baz", "value": "bar"}]), Value::Null),
            (
                a.clone(),
                json!([{"op": "add", "path": "/child", "value": {"grandchild": {}}}]),
                json!({"foo": "bar", "child": {"grandchild": {}}}),
            ),
            (
                a.clone(),
                json!([{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}]),
                json!({"foo": "bar", "baz": "qux"}),
            ),
            (a, json!([{"op": "add", "path": "/baz/bat", "value": "qux"}]), Value::Null),
            (
                json!({"/": 9, "~1": 10}),
                json!([{"op": "test", "path": "/~01", "value": 10}]),
                json!({"/": 9, "~1": 10}),
            ),
            (json!({"/": 9, "~1": 10}), json!([{"op": "test", "path": "/~01", "value": "10"}]), Value::Null),
            (
                json!({"foo": ["bar"]}),
                json!([{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}]),
                json!({"foo": ["bar", ["abc", "def"]]}),
            ),
        ]);
    }

    /// Where upstream's library goes beyond the RFC, and where it stops.
    #[test]
    fn upstreams_liberties() {
        let doc = json!({"a": [1, 2, 3], "m": {"x/y": 1, "n": null}});
        let one = |op: Value| Value::Array(vec![op]);
        let with_a = |items: Value| json!({"a": items, "m": doc["m"]});
        let with_m = |m: Value| json!({"a": doc["a"], "m": m});
        check(&[
            // Positions.
            (doc.clone(), one(json!({"op": "add", "path": "/a/-1", "value": 4})), with_a(json!([1, 2, 3, 4]))),
            (doc.clone(), one(json!({"op": "add", "path": "/a/-4", "value": 0})), with_a(json!([0, 1, 2, 3]))),
            (doc.clone(), one(json!({"op": "add", "path": "/a/-5", "value": 0})), Value::Null),
            (doc.clone(), one(json!({"op": "add", "path": "/a/3", "value": 4})), with_a(json!([1, 2, 3, 4]))),
            (doc.clone(), one(json!({"op": "add", "path": "/a/4", "value": 4})), Value::Null),
            (doc.clone(), one(json!({"op": "add", "path": "/a/x", "value": 4})), Value::Null),
            (doc.clone(), one(json!({"op": "replace", "path": "/a/-1", "value": 9})), with_a(json!([1, 2, 9]))),
            (doc.clone(), one(json!({"op": "replace", "path": "/a/3", "value": 9})), Value::Null),
            (doc.clone(), one(json!({"op": "replace", "path": "/a/-", "value": 9})), Value::Null),
            (doc.clone(), one(json!({"op": "remove", "path": "/a/-3"})), with_a(json!([2, 3]))),
            (doc.clone(), one(json!({"op": "remove", "path": "/a/-4"})), Value::Null),
            (doc.clone(), one(json!({"op": "move", "from": "/a/0", "path": "/a/-1"})), with_a(json!([2, 3, 1]))),
            (doc.clone(), one(json!({"op": "move", "from": "/a/0", "path": "/a/3"})), Value::Null),
            (doc.clone(), one(json!({"op": "copy", "from": "/a/0", "path": "/a/6666666666"})), Value::Null),
            // Members that aren't there.
            (
                doc.clone(),
                one(json!({"op": "replace", "path": "/m/z", "value": 1})),
                with_m(json!({"x/y": 1, "n": null, "z": 1})),
            ),
            (doc.clone(), one(json!({"op": "replace", "path": "/z/z", "value": 1})), Value::Null),
            (doc.clone(), one(json!({"op": "copy", "from": "/m/z", "path": "/m/n"})), doc.clone()),
            (doc.clone(), one(json!({"op": "move", "from": "/m/z", "path": "/m/n"})), Value::Null),
            (doc.clone(), one(json!({"op": "remove", "path": "/m/z"})), Value::Null),
            (doc.clone(), one(json!({"op": "remove", "path": "/m/n"})), with_m(json!({"x/y": 1}))),
            (doc.clone(), one(json!({"op": "remove", "path": "/m/x~1y"})), with_m(json!({"n": null}))),
            // Tests.
            (doc.clone(), one(json!({"op": "test", "path": "/m/z", "value": null})), doc.clone()),
            (doc.clone(), one(json!({"op": "test", "path": "/m/z"})), doc.clone()),
            (doc.clone(), one(json!({"op": "test", "path": "/m/n"})), doc.clone()),
            (doc.clone(), one(json!({"op": "test", "path": "/m/z", "value": 42})), Value::Null),
            (doc.clone(), one(json!({"op": "test", "path": "/m"})), Value::Null),
            (doc.clone(), one(json!({"op": "test", "path": "/a", "value": null})), Value::Null),
            (doc.clone(), one(json!({"op": "test", "path": "/a/3", "value": null})), Value::Null),
            (doc.clone(), one(json!({"op": "test", "path": "/a/0/b", "value": null})), Value::Null),
            // The whole document.
            (doc.clone(), one(json!({"op": "test", "path": "", "value": doc.clone()})), doc.clone()),
            (doc.clone(), one(json!({"op": "replace", "path": "", "value": {"b": 1}})), json!({"b": 1})),
            (doc.clone(), one(json!({"op": "replace", "path": "", "value": 1})), Value::Null),
            (doc.clone(), one(json!({"op": "add", "path": "", "value": {}})), Value::Null),
            // Values left out are null, and what lies in itself is copied before.
            (doc.clone(), one(json!({"op": "add", "path": "/m", "other": 1})), json!({"a": [1, 2, 3], "m": null})),
            (json!({"f": ["b"]}), one(json!({"op": "copy", "from": "/f", "path": "/f/0"})), json!({"f": [["b"], "b"]})),
            (doc.clone(), one(json!({"op": "move", "from": "/m", "path": "/m/n"})), Value::Null),
            // What is no operation.
            (doc.clone(), one(json!({"op": "odd", "path": "/a"})), Value::Null),
            (doc.clone(), one(json!({"op": null, "path": ""})), Value::Null),
            (doc.clone(), one(json!({"op": "add", "path": null})), Value::Null),
            (doc.clone(), one(json!({"op": "add", "value": 1})), Value::Null),
            (doc.clone(), one(json!({"op": "copy", "path": "/a/0"})), Value::Null),
            (doc.clone(), json!([null]), Value::Null),
            (doc.clone(), Value::Null, doc.clone()),
            (doc.clone(), json!([]), doc.clone()),
            // One that fails undoes those before.
            (doc.clone(), json!([{"op": "remove", "path": "/a"}, {"op": "remove", "path": "/a"}]), Value::Null),
        ]);
    }

    #[test]
    fn what_is_no_patch() {
        for (patch, code) in
            [(json!({}), 400), (json!([1]), 400), (json!(vec![json!({"op": "test", "path": "/z"}); 10_001]), 413)]
        {
            assert_eq!(apply(&json!({}), &patch).map_err(|s| s.code), Err(code));
        }
        assert_eq!(
            operations(&json!("x")).unwrap_err(),
            "json: cannot unmarshal string into Go value of type jsonpatch.Patch"
        );
        assert_eq!(
            operations(&json!([[]])).unwrap_err(),
            "json: cannot unmarshal array into Go value of type jsonpatch.Operation"
        );
    }

    /// The operations that make `to` of `from`, as a client would write them.
    fn diff(from: &Value, to: &Value, at: &str, out: &mut Vec<Value>) {
        let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
        match (from, to) {
            (a, b) if a == b => {}
            (Value::Object(a), Value::Object(b)) => {
                for name in a.keys().filter(|n| !b.contains_key(*n)) {
                    out.push(json!({"op": "remove", "path": format!("{at}/{}", escaped(name))}));
                }
                for (name, new) in b {
                    let path = format!("{at}/{}", escaped(name));
                    match a.get(name) {
                        Some(old) => diff(old, new, &path, out),
                        None => out.push(json!({"op": "add", "path": path, "value": new})),
                    }
                }
            }
            (Value::Array(a), Value::Array(b)) => {
                for (i, (old, new)) in a.iter().zip(b).enumerate() {
                    diff(old, new, &format!("{at}/{i}"), out);
                }
                out.extend(a.iter().skip(b.len()).map(|_| json!({"op": "remove", "path": format!("{at}/-1")})));
                out.extend(b.iter().skip(a.len()).map(|v| json!({"op": "add", "path": format!("{at}/-"), "value": v})));
            }
            (_, new) => out.push(json!({"op": "replace", "path": at, "value": new})),
        }
    }

    proptest! {
        #[test]
        fn a_diff_reproduces_its_target(a in json_object(), b in json_object()) {
            let mut operations = Vec::new();
            diff(&a, &b, "", &mut operations);
            prop_assert_eq!(apply(&a, &Value::Array(operations)), Ok(b));
        }

        /// A patch either does all that it says or nothing, and never panics.
        #[test]
        fn any_operations(doc in json_object(), operations in prop::collection::vec(operation(), 0..6)) {
            let got = apply(&doc, &Value::Array(operations.clone()));
            if let Err(status) = got {
                prop_assert_eq!(status.code, 422);
            } else {
                let prefix = apply(&doc, &Value::Array(operations[..operations.len() / 2].to_vec()));
                let rest = prefix.and_then(|p| apply(&p, &Value::Array(operations[operations.len() / 2..].to_vec())));
                prop_assert_eq!(got, rest);
            }
        }
    }

    fn operation() -> impl Strategy<Value = Value> {
        let pointer = || "(/([a-d]|-?[0-2]|-)){0,3}";
        ("add|remove|replace|test|move|copy|odd", pointer(), pointer(), prop::option::of(json_value())).prop_map(
            |(op, path, from, value)| {
                let mut out = json!({"op": op, "path": path, "from": from});
                value.into_iter().for_each(|v| out["value"] = v);
                out
            },
        )
    }
}
