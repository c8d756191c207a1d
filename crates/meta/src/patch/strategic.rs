//! Strategic merge patch: a merge patch that knows which lists merge, and by which key.
//!
//! In: the structure of the kind. Directives: `$patch` (`replace`, `delete`, `merge`), `$retainKeys`,
//! `$deleteFromPrimitiveList/<list>` and `$setElementOrder/<list>`.
//! Source: upstream's `apimachinery/pkg/util/strategicpatch` and "Update API Objects in Place Using kubectl patch".

use crate::schema::{Shape, TypeId, Types};
use crate::status::{Result, Status};
use serde_json::{Map, Value};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

/// Applies a patch to an object of type `ty`. Errors: 400 for a patch whose form or directives make no sense.
pub fn apply(types: &Types, ty: TypeId, original: &Value, patch: &Value) -> Result<Value> {
    let Value::Object(patch) = patch else {
        return Err(bad("invalid JSON document"));
    };
    let none = Map::new();
    merge_map(types, Some(ty), original.as_object().unwrap_or(&none), patch, 0).map(Value::Object)
}

fn bad(why: impl std::fmt::Display) -> Status {
    Status::bad_request(why.to_string())
}

fn unknown_directive(directive: &str, map: &Map<String, Value>) -> Status {
    bad(format!("unknown patch type: {directive} in map: {}", shown(map)))
}

fn shown(map: &Map<String, Value>) -> String {
    crate::apply::go_text(&Value::Object(map.clone()))
}

/// Go's name of a JSON value's type, as upstream's errors have it.
fn go_type(v: &Value) -> &'static str {
    match v {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn list_of(v: &Value) -> Result<&[Value]> {
    v.as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| bad(format!("expected a []interface {{}}, but received a {}", go_type(v))))
}

/// What a field's type says about merging. Unknown fields merge as plain JSON.
#[derive(Clone, Copy, Default)]
struct Rule<'a> {
    ty: Option<TypeId>,
    replaces: bool,
    item: Option<TypeId>,
    merge_list: bool,
    merge_key: Option<&'a str>,
}

fn rule<'a>(types: &'a Types, ty: Option<TypeId>, name: &str) -> Rule<'a> {
    let (ty, replaces) = match ty.map(|t| types.shape(t)) {
        Some(Shape::Struct(s)) => s.field(name).map_or((None, false), |f| (Some(f.ty), f.patch_replaces)),
        Some(Shape::Map { value, .. }) => (Some(*value), false),
        _ => (None, false),
    };
    match ty.map(|t| types.shape(t)) {
        Some(Shape::List(l)) => Rule {
            ty,
            replaces,
            item: Some(l.item),
            merge_list: l.patch_merge,
            merge_key: l.merge_key.as_deref().filter(|k| !k.is_empty()),
        },
        _ => Rule { ty, replaces, ..Rule::default() },
    }
}

const DEPTH_MAX: usize = 200;

fn merge_map(
    types: &Types,
    ty: Option<TypeId>,
    original: &Map<String, Value>,
    patch: &Map<String, Value>,
    depth: usize,
) -> Result<Map<String, Value>> {
    if depth > DEPTH_MAX {
        return Err(bad("patch is nested too deeply"));
    }
    match patch.get(DIRECTIVE) {
        None => {}
        Some(Value::String(d)) if d == "replace" => return Ok(clean_map(patch)),
        Some(Value::String(d)) if d == "delete" => return Ok(Map::new()),
        Some(other) => return Err(unknown_directive(&text(other), patch)),
    }
    let mut out = original.clone();
    if let Some(keep) = patch.get(RETAIN_KEYS) {
        retain_keys(&mut out, patch, keep)?;
    }
    // Lists whose order is given are merged and ordered before anything else, as upstream does: what is deleted from
    // a list of scalars goes even if the same patch adds it.
    let mut done: Vec<&str> = Vec::new();
    for (name, order) in patch {
        if let Some(list) = name.strip_prefix(ORDER) {
            ordered_list(types, ty, &mut out, patch, list, list_of(order)?, depth)?;
            done.push(list);
        }
    }
    // Deletions last, whatever the lists of the same patch are called.
    let (gone, rest): (Vec<_>, Vec<_>) = patch.iter().partition(|(name, _)| name.starts_with(DELETE_PRIMITIVES));
    for (name, value) in rest.into_iter().filter(|(n, _)| !is_directive(n) && !done.contains(&n.as_str())) {
        let r = rule(types, ty, name);
        let merged = match (out.get(name), value) {
            (_, Value::Null) => None,
            (Some(Value::Object(_)), Value::Object(new)) if r.replaces => Some(Value::Object(clean_map(new))),
            (Some(Value::Object(old)), Value::Object(new)) => {
                Some(Value::Object(merge_map(types, r.ty, old, new, depth + 1)?))
            }
            (Some(Value::Array(old)), Value::Array(new)) if r.merge_list => {
                Some(Value::Array(merge_list(types, &r, old, new, None, depth + 1)?))
            }
            // Nothing to merge with: directives address what isn't there.
            (_, new) => added(new),
        };
        match merged {
            Some(merged) => out.insert(name.clone(), merged),
            None => out.remove(name),
        };
    }
    for (name, gone) in gone {
        let list = name.strip_prefix(DELETE_PRIMITIVES).unwrap_or_default();
        if let Some(Value::Array(items)) = out.get_mut(list) {
            let gone = list_of(gone)?;
            same_types(items, gone)?;
            items.retain(|i| !gone.contains(i));
        }
    }
    Ok(out)
}

/// Leaves only the named fields of the original; the patch may not set others.
fn retain_keys(out: &mut Map<String, Value>, patch: &Map<String, Value>, keep: &Value) -> Result<()> {
    let Value::Array(keep) = keep else {
        return Err(bad("invalid patch format of retainKeys"));
    };
    let kept = |name: &str| keep.iter().any(|k| k == name);
    for (name, value) in patch {
        let parallel = name == RETAIN_KEYS || name.starts_with(DELETE_PRIMITIVES) || name.starts_with(ORDER);
        if !value.is_null() && !parallel && !kept(name) {
            return Err(bad("invalid patch format of retainKeys"));
        }
    }
    out.retain(|name, _| kept(name));
    Ok(())
}

/// Merges one list of the patch, if it has it, and sorts it as `order` says.
fn ordered_list(
    types: &Types,
    ty: Option<TypeId>,
    out: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    list: &str,
    order: &[Value],
    depth: usize,
) -> Result<()> {
    let r = rule(types, ty, list);
    let server = out.get(list).map(list_of).transpose()?.map(<[Value]>::to_vec);
    let new = patch.get(list).map(list_of).transpose()?;
    fits_order(new.unwrap_or(&[]), order, r.merge_key)?;
    let merged = match (&server, new) {
        (None, None) => return Ok(()),
        (Some(server), None) => in_order(server.clone(), server, order, r.merge_key)?,
        (None, Some(new)) => in_order(new.iter().filter_map(added).collect(), &[], order, r.merge_key)?,
        (Some(server), Some(new)) if r.merge_list => merge_list(types, &r, server, new, Some(order), depth + 1)?,
        (Some(server), Some(new)) => in_order(new.iter().map(clean).collect(), server, order, r.merge_key)?,
    };
    out.insert(list.to_string(), Value::Array(merged));
    Ok(())
}

/// What a patch changes must be named by the order that it gives, in that order.
fn fits_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<()> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let id = |v: &Value| match key {
        Some(key) => match v {
            Value::Object(m) => m.get(key).cloned().ok_or_else(|| bad(missing(v, key))),
            _ => Err(bad(format!("expected a map[string]interface {{}}, but received a {}", go_type(v)))),
        },
        None => Ok(v.clone()),
    };
    let mut rest = order.iter();
    for item in patch.iter().filter(|i| i.get(DIRECTIVE).is_none()) {
        let wanted = id(item)?;
        loop {
            let Some(next) = rest.next() else {
                let all = |items: &[Value]| crate::apply::go_text(&Value::Array(items.to_vec()));
                return Err(bad(format!(
                    "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                    all(patch),
                    all(order)
                )));
            };
            if id(next)? == wanted {
                break;
            }
        }
    }
    Ok(())
}

/// A value that stands where nothing was, or something else: without nulls and directives. A map that carries a
/// directive is about something that isn't there, and adds nothing, even if it says `replace`.
fn added(v: &Value) -> Option<Value> {
    match v {
        Value::Object(map) if map.contains_key(DIRECTIVE) => None,
        Value::Object(map) => Some(Value::Object(
            map.iter()
                .filter(|(name, v)| !v.is_null() && !is_directive(name))
                .filter_map(|(name, v)| Some((name.clone(), added(v)?)))
                .collect(),
        )),
        Value::Array(items) => Some(Value::Array(items.iter().filter_map(added).collect())),
        other => Some(other.clone()),
    }
}

/// A value that replaces: without directives and nulls, whatever it holds.
// Differs from upstream, which lets them stay and complains of unknown fields, or stores what they look like.
fn clean(v: &Value) -> Value {
    match v {
        Value::Object(map) => Value::Object(clean_map(map)),
        Value::Array(items) => Value::Array(items.iter().map(clean).collect()),
        other => other.clone(),
    }
}

fn clean_map(map: &Map<String, Value>) -> Map<String, Value> {
    map.iter()
        .filter(|(name, v)| !v.is_null() && !is_directive(name))
        .map(|(name, v)| (name.clone(), clean(v)))
        .collect()
}

fn is_directive(name: &str) -> bool {
    name == DIRECTIVE || name == RETAIN_KEYS || name.starts_with(DELETE_PRIMITIVES) || name.starts_with(ORDER)
}

/// Lists merge only when all their items are of one type, and no lists themselves.
fn same_types(a: &[Value], b: &[Value]) -> Result<()> {
    let mut types = a.iter().chain(b).map(go_type);
    let Some(first) = types.next() else { return Ok(()) };
    if first == "[]interface {}" {
        // Upstream: 422, the reason hidden behind one text.
        return Err(crate::patch::json::refused());
    }
    if types.any(|t| t != first) {
        let all: Value = [a, b].iter().map(|l| Value::Array(l.to_vec())).collect();
        return Err(bad(format!("list element types are not identical: {}", crate::apply::go_text(&all))));
    }
    Ok(())
}

fn merge_list(
    types: &Types,
    r: &Rule,
    original: &[Value],
    patch: &[Value],
    order: Option<&[Value]>,
    depth: usize,
) -> Result<Vec<Value>> {
    same_types(original, patch)?;
    let mut out: Vec<Value> = original.to_vec();
    // Items that the patch names, in its order, for the order of the result.
    let mut patched: Vec<Value> = Vec::new();
    if patch.iter().chain(original).any(Value::is_object) {
        let Some(key) = r.merge_key else {
            let name = r.item.map_or("", |t| types.get(t).name.as_str());
            return Err(bad(format!("cannot merge lists without merge key for {name}")));
        };
        let mut replace = false;
        for item in patch {
            let Value::Object(map) = item else { continue };
            match map.get(DIRECTIVE).map(text).as_deref() {
                None => patched.push(item.clone()),
                Some("replace") => replace = true,
                Some("delete") => {
                    let id = map.get(key).ok_or_else(|| bad(missing(item, key)))?;
                    out.retain(|o| o.get(key) != Some(id));
                }
                Some("merge") => return Err(bad("merging lists cannot yet be specified in the patch")),
                Some(odd) => return Err(unknown_directive(odd, map)),
            }
        }
        if replace {
            // The directive stands in an item of its own and makes the rest the whole list.
            let out = patched.iter().map(clean).collect();
            return in_order(out, original, order.unwrap_or(&[]), r.merge_key);
        }
        for item in &patched {
            let Value::Object(new) = item else { continue };
            let id = new.get(key).ok_or_else(|| bad(missing(item, key)))?;
            match out.iter().position(|o| o.get(key) == Some(id)) {
                Some(i) => {
                    let none = Map::new();
                    let merged = merge_map(types, r.item, out[i].as_object().unwrap_or(&none), new, depth)?;
                    out[i] = Value::Object(merged);
                }
                None => out.extend(added(item)),
            }
        }
    } else {
        for item in patch {
            if !out.contains(item) {
                out.push(item.clone());
            }
            patched.push(item.clone());
        }
    }
    match order {
        // Upstream has what is added stand, for its neighbours, where what was deleted has made room.
        Some(order) => {
            let places = out.iter().take(original.len()).cloned().collect::<Vec<_>>();
            in_order(out, &places, order, r.merge_key)
        }
        // The patch's own order holds for the items that it names; new ones come first.
        None => in_order(out, original, &patched, r.merge_key),
    }
}

fn missing(item: &Value, key: &str) -> String {
    format!("map: {} does not contain declared merge key: {key}", crate::apply::go_text(item))
}

/// Sorts the items that `order` names as it names them; the others keep their place among their neighbours of the
/// server's list.
fn in_order(items: Vec<Value>, server: &[Value], order: &[Value], key: Option<&str>) -> Result<Vec<Value>> {
    let id = |v: &Value| -> Value {
        match (key, v) {
            (Some(k), Value::Object(m)) => m.get(k).cloned().unwrap_or(Value::Null),
            _ => v.clone(),
        }
    };
    let order: Vec<Value> = order.iter().map(&id).collect();
    let server: Vec<Value> = server.iter().map(&id).collect();
    let (mut named, others): (Vec<Value>, Vec<Value>) = items.into_iter().partition(|i| order.contains(&id(i)));
    named.sort_by_key(|i| order.iter().position(|o| *o == id(i)));
    let place = |v: &Value| server.iter().position(|s| *s == id(v));
    // Merge two sorted runs: one of the server's own items goes first where the server has it before.
    let mut out = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for item in named {
        if let Some(at) = place(&item) {
            while let Some(other) = others.next_if(|o| place(o).is_some_and(|p| p < at)) {
                out.push(other);
            }
        }
        out.push(item);
    }
    out.extend(others);
    Ok(out)
}

fn text(v: &Value) -> String {
    v.as_str().map_or_else(|| v.to_string(), str::to_string)
}

#[cfg(test)]
mod tests;
