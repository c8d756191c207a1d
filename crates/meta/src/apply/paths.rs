//! Paths of fields and sets of them, and their two written forms: `FieldsV1` in `managedFields`, and
//! `.spec.containers[name="web"].image` in messages.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One step of a path. Values inside are canonical JSON text, so that steps compare as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Elem {
    /// A field of a struct or a key of a map.
    Field(String),
    /// An item of an associative list, by its keys: `{"containerPort":80,"protocol":"TCP"}`.
    Key(String),
    /// An item of a set, by its value.
    Value(String),
    /// An item of a list, by position. Upstream can write it but no list of the API is tracked so.
    Index(i64),
}

impl Elem {
    pub fn field(name: impl Into<String>) -> Elem {
        Elem::Field(name.into())
    }

    /// Keys in any order; they are sorted here.
    pub fn key<'a>(keys: impl IntoIterator<Item = (&'a str, Value)>) -> Elem {
        let sorted: BTreeMap<&str, String> = keys.into_iter().map(|(k, v)| (k, canonical(&v))).collect();
        let parts: Vec<String> = sorted.iter().map(|(k, v)| format!("{}:{v}", Value::from(*k))).collect();
        Elem::Key(format!("{{{}}}", parts.join(",")))
    }

    pub fn value(v: &Value) -> Elem {
        Elem::Value(canonical(v))
    }

    /// `f:name`, `k:{…}`, `v:…` or `i:…`.
    fn encode(&self) -> String {
        match self {
            Elem::Field(name) => format!("f:{name}"),
            Elem::Key(json) => format!("k:{json}"),
            Elem::Value(json) => format!("v:{json}"),
            Elem::Index(i) => format!("i:{i}"),
        }
    }

    fn decode(text: &str) -> Result<Elem, String> {
        let Some((tag, rest)) = text.split_once(':') else {
            return Err(format!("missing colon: {text:?}"));
        };
        match tag {
            "f" => Ok(Elem::field(rest)),
            "k" => match serde_json::from_str(rest) {
                Ok(Value::Object(keys)) => Ok(Elem::key(keys.iter().map(|(k, v)| (k.as_str(), v.clone())))),
                Ok(_) => Err(format!("key is not an object: {rest}")),
                Err(e) => Err(e.to_string()),
            },
            "v" => serde_json::from_str(rest).map(|v: Value| Elem::value(&v)).map_err(|e| e.to_string()),
            "i" => rest.parse().map(Elem::Index).map_err(|e| format!("{e}: {rest:?}")),
            _ => Err(format!("unknown path element type {tag:?}")),
        }
    }
}

/// JSON with sorted keys, and whole numbers without a fraction: one text for one meaning.
fn canonical(v: &Value) -> String {
    match v {
        Value::Number(n) => match n.as_f64() {
            Some(f) if !n.is_i64() && !n.is_u64() && f.fract() == 0.0 && f.abs() < 9e15 => (f as i64).to_string(),
            _ => n.to_string(),
        },
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            let parts: Vec<String> =
                sorted.iter().map(|(k, v)| format!("{}:{}", Value::from(k.as_str()), canonical(v))).collect();
            format!("{{{}}}", parts.join(","))
        }
        other => other.to_string(),
    }
}

impl fmt::Display for Elem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Elem::Field(name) => write!(f, ".{name}"),
            Elem::Key(json) => {
                let keys: BTreeMap<String, Value> = serde_json::from_str(json).unwrap_or_default();
                let parts: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
                write!(f, "[{}]", parts.join(","))
            }
            Elem::Value(json) => write!(f, "[={json}]"),
            Elem::Index(i) => write!(f, "[{i}]"),
        }
    }
}

/// Where in an object, from its root.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(pub Vec<Elem>);

impl Path {
    pub fn join(&self, elem: Elem) -> Path {
        let mut elems = self.0.clone();
        elems.push(elem);
        Path(elems)
    }

    /// A path of plain fields.
    pub fn fields(names: &[&str]) -> Path {
        Path(names.iter().map(|n| Elem::field(*n)).collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|e| e.fmt(f))
    }
}

/// A set of paths, as a tree. A path can be a member and have members below it (`.` in FieldsV1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    pub members: BTreeSet<Elem>,
    /// Never holds empty sets.
    pub children: BTreeMap<Elem, Set>,
}

impl Set {
    pub fn new() -> Set {
        Set::default()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    pub fn insert(&mut self, path: &[Elem]) {
        if let Some((last, parents)) = path.split_last() {
            let mut set = self;
            for elem in parents {
                set = set.children.entry(elem.clone()).or_default();
            }
            set.members.insert(last.clone());
        }
    }

    pub fn has(&self, path: &[Elem]) -> bool {
        match path {
            [] => false,
            [last] => self.members.contains(last),
            [first, rest @ ..] => self.children.get(first).is_some_and(|c| c.has(rest)),
        }
    }

    /// What is below one step; empty when nothing is.
    pub fn below(&self, elem: &Elem) -> Option<&Set> {
        self.children.get(elem)
    }

    pub fn union(&self, other: &Set) -> Set {
        let mut out = self.clone();
        out.add(other);
        out
    }

    pub fn add(&mut self, other: &Set) {
        self.members.extend(other.members.iter().cloned());
        for (elem, set) in &other.children {
            self.children.entry(elem.clone()).or_default().add(set);
        }
    }

    pub fn intersection(&self, other: &Set) -> Set {
        let members = self.members.intersection(&other.members).cloned().collect();
        let children = self
            .children
            .iter()
            .filter_map(|(elem, set)| {
                let both = set.intersection(other.children.get(elem)?);
                (!both.is_empty()).then(|| (elem.clone(), both))
            })
            .collect();
        Set { members, children }
    }

    pub fn difference(&self, other: &Set) -> Set {
        let members = self.members.difference(&other.members).cloned().collect();
        let children = self
            .children
            .iter()
            .filter_map(|(elem, set)| {
                let left = match other.children.get(elem) {
                    Some(o) => set.difference(o),
                    None => set.clone(),
                };
                (!left.is_empty()).then(|| (elem.clone(), left))
            })
            .collect();
        Set { members, children }
    }

    /// Without the paths of `other` and everything below them.
    pub fn recursive_difference(&self, other: &Set) -> Set {
        let members = self.members.difference(&other.members).cloned().collect();
        let children = self
            .children
            .iter()
            .filter(|(elem, _)| !other.members.contains(*elem))
            .filter_map(|(elem, set)| {
                let left = match other.children.get(elem) {
                    Some(o) => set.recursive_difference(o),
                    None => set.clone(),
                };
                (!left.is_empty()).then(|| (elem.clone(), left))
            })
            .collect();
        Set { members, children }
    }

    /// What lies at a path or below it. It is of names of fields, or `*` for any element.
    pub fn within(&self, path: &[&str]) -> Set {
        let [first, rest @ ..] = path else {
            return self.clone();
        };
        let meant = |e: &Elem| *first == "*" || *e == Elem::field(*first);
        let members = self.members.iter().filter(|e| rest.is_empty() && meant(e)).cloned().collect();
        let children = self.children.iter().filter(|(e, _)| meant(e)).map(|(e, set)| (e.clone(), set.within(rest)));
        Set { members, children: children.filter(|(_, set)| !set.is_empty()).collect() }
    }

    /// All member paths, in order.
    pub fn paths(&self) -> Vec<Path> {
        let mut out = Vec::new();
        self.collect(&Path::default(), &mut out);
        out
    }

    fn collect(&self, at: &Path, out: &mut Vec<Path>) {
        let elems: BTreeSet<&Elem> = self.members.iter().chain(self.children.keys()).collect();
        for elem in elems {
            let path = at.join(elem.clone());
            if self.members.contains(elem) {
                out.push(path.clone());
            }
            if let Some(below) = self.children.get(elem) {
                below.collect(&path, out);
            }
        }
    }

    /// `metadata.managedFields[].fieldsV1`.
    pub fn to_fields_v1(&self) -> Value {
        let mut out = Map::new();
        let elems: BTreeSet<&Elem> = self.members.iter().chain(self.children.keys()).collect();
        for elem in elems {
            let mut below = match self.children.get(elem).map(Set::to_fields_v1) {
                Some(Value::Object(map)) => map,
                _ => Map::new(),
            };
            if !below.is_empty() && self.members.contains(elem) {
                below.insert(".".to_string(), Value::Object(Map::new()));
            }
            out.insert(elem.encode(), Value::Object(below));
        }
        Value::Object(out)
    }

    pub fn from_fields_v1(v: &Value) -> Result<Set, String> {
        match v {
            Value::Null => Ok(Set::new()),
            Value::Object(map) => Set::decode(map, 0),
            other => Err(format!("expected a map, got {other}")),
        }
    }

    fn decode(map: &Map<String, Value>, depth: usize) -> Result<Set, String> {
        if depth > DEPTH_MAX {
            return Err("nested too deeply".to_string());
        }
        let mut out = Set::new();
        for (text, below) in map {
            // The dot is the parent's business, see below.
            if text == "." {
                continue;
            }
            let elem = Elem::decode(text)?;
            let Value::Object(below) = below else {
                return Err(format!("expected a map at {text:?}, got {below}"));
            };
            if below.is_empty() || below.contains_key(".") {
                out.members.insert(elem.clone());
            }
            let set = Set::decode(below, depth + 1)?;
            if !set.is_empty() {
                out.children.insert(elem, set);
            }
        }
        Ok(out)
    }
}

/// Client-made `fieldsV1` may not exhaust our stack.
const DEPTH_MAX: usize = 256;
