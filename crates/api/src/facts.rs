//! Upstream's types and resources as data: parsed once, at first use, from the checked-in tables in `facts/`.
//!
//! The tables are made by `tools/facts.py`. Their grammar, one thing a line:
//!
//! ```text
//! api.core.v1.Probe [atomic] [gvk=group/version/Kind]      a struct
//!  periodSeconds i32 o 4 [map=k1,k2|set] [atomic] [merge=key]   a field: name, type, flags, protobuf number
//!  + api.core.v1.ProbeHandler 1                                an inlined struct and its protobuf number
//! ```
//!
//! Types: `str bool i32 i64 f64 bytes any`, special ones (`quantity`, `time`, …), names of structs, each
//! possibly after `[]` or `map:`. Flags: `r` required, `p` Go pointer, `o` omitempty, `k` retainKeys, `s` patches replace,
//! `w` the innermost list is wrapped in a message of its own in protobuf (`ExtraValue`, `Verbs`), `-` none.
//!
//! `enums.txt` has the fields whose values upstream names, made by `tools/enums.py`: type, field, a tab, the values
//! between `|`.

use meta::schema::{Field, List, Shape, Struct, Topology, Type, TypeId, Types};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

/// The release of Kubernetes that the facts are of, for example `1.36.0`.
pub const VERSION: &str = include_str!("../facts/version.txt");

const TYPES: &str = include_str!("../facts/types.txt");
const RESOURCES: &str = include_str!("../facts/resources.txt");
pub const ENUMS: &str = include_str!("../facts/enums.txt");

/// The name of the type of every object's metadata.
pub const OBJECT_META: &str = "apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The whole fact table.
#[derive(Debug)]
pub struct Facts {
    pub types: Arc<Types>,
    /// Structs that a Go struct inlines, which JSON doesn't show but protobuf does. Their fields are also in the
    /// outer struct, there with protobuf number 0.
    pub inlines: HashMap<TypeId, Vec<Inline>>,
    /// List types that are a message of their own in protobuf, `items = 1`.
    pub wrapped: HashSet<TypeId>,
    /// JSON schema's unions, which are messages in protobuf.
    pub unions: HashMap<TypeId, Union>,
    /// Group, version and kind of top-level types.
    pub gvk: HashMap<TypeId, Gvk>,
    pub resources: Vec<ResourceFact>,
    kinds: HashMap<(String, String, String), TypeId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gvk {
    pub group: String,
    pub version: String,
    pub kind: String,
}

#[derive(Debug, Clone, Copy)]
pub struct Inline {
    pub ty: TypeId,
    /// Protobuf field number of the inlined message; 0 where there is none.
    pub proto: u32,
}

/// A value that is either a schema or something simpler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Union {
    SchemaOrBool,
    SchemaOrArray,
    SchemaOrStrings,
}

/// One served path.
#[derive(Debug, Clone)]
pub struct ResourceFact {
    pub group: String,
    pub version: String,
    pub plural: String,
    pub kind: String,
    pub namespaced: bool,
    pub verbs: Vec<String>,
    pub type_id: TypeId,
    pub subresources: Vec<SubresourceFact>,
}

#[derive(Debug, Clone)]
pub struct SubresourceFact {
    pub name: String,
    pub group: String,
    pub version: String,
    pub kind: String,
    /// As in discovery, but `connect:get` for the HTTP verbs of connecting subresources.
    pub verbs: Vec<String>,
}

static FACTS: LazyLock<Facts> = LazyLock::new(|| {
    // The tables are part of the program: that they parse is proved by the tests below.
    parse(TYPES, RESOURCES).unwrap_or_else(|e| panic!("the built-in fact tables are broken: {e}"))
});

pub fn facts() -> &'static Facts {
    &FACTS
}

/// The arena of all built-in types.
pub fn types() -> &'static Arc<Types> {
    &FACTS.types
}

/// Types that aren't the API's, of a table in the same grammar: those of configuration files.
pub fn types_of(table: &str) -> Result<Arc<Types>, String> {
    parse(table, "").map(|facts| facts.types)
}

impl Facts {
    /// The type of a kind, for example `("apps", "v1", "Deployment")`.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<TypeId> {
        self.kinds.get(&(group.to_string(), version.to_string(), kind.to_string())).copied()
    }
}

/// `apps/v1` and `v1` to group and version.
/// By type, the fields of which upstream names all values, and those.
pub fn enums() -> HashMap<&'static str, Vec<(&'static str, Vec<&'static str>)>> {
    let mut out: HashMap<_, Vec<_>> = HashMap::new();
    for line in ENUMS.lines() {
        if let Some((place, values)) = line.split_once('\t')
            && let Some((ty, field)) = place.split_once(' ')
        {
            out.entry(ty).or_default().push((field, values.split('|').collect()));
        }
    }
    out
}

pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

fn split_gvk(text: &str) -> Result<Gvk, String> {
    let (gv, kind) = text.rsplit_once('/').ok_or_else(|| format!("not a kind: {text}"))?;
    let (group, version) = split_api_version(gv);
    Ok(Gvk { group: group.into(), version: version.into(), kind: kind.into() })
}

/// Anonymous types that many fields share.
#[derive(Default)]
struct Shared {
    scalars: HashMap<&'static str, TypeId>,
    lists: HashMap<(TypeId, String, bool), TypeId>,
    maps: HashMap<(TypeId, bool), TypeId>,
}

struct Parser {
    types: Types,
    shared: Shared,
    wrapped: HashSet<TypeId>,
    unions: HashMap<TypeId, Union>,
}

impl Parser {
    fn anonymous(&mut self, shape: Shape) -> TypeId {
        self.types.push(Type { name: String::new(), shape })
    }

    fn scalar(&mut self, token: &str) -> Option<TypeId> {
        const SCHEMA: &str = "apiextensions_apiserver.pkg.apis.apiextensions.v1.";
        let (token, name, shape, union): (&'static str, String, Shape, Option<Union>) = match token {
            "str" => ("str", String::new(), Shape::String, None),
            "bool" => ("bool", String::new(), Shape::Bool, None),
            "i32" => ("i32", String::new(), Shape::Int32, None),
            "i64" => ("i64", String::new(), Shape::Int64, None),
            "f64" => ("f64", String::new(), Shape::Double, None),
            "bytes" => ("bytes", String::new(), Shape::Bytes, None),
            "any" => ("any", String::new(), Shape::Any, None),
            "quantity" => ("quantity", "apimachinery.pkg.api.resource.Quantity".into(), Shape::Quantity, None),
            "intstr" => ("intstr", "apimachinery.pkg.util.intstr.IntOrString".into(), Shape::IntOrString, None),
            "time" => ("time", "apimachinery.pkg.apis.meta.v1.Time".into(), Shape::Time, None),
            "microtime" => ("microtime", "apimachinery.pkg.apis.meta.v1.MicroTime".into(), Shape::MicroTime, None),
            "duration" => ("duration", "apimachinery.pkg.apis.meta.v1.Duration".into(), Shape::Duration, None),
            "fields" => ("fields", "apimachinery.pkg.apis.meta.v1.FieldsV1".into(), Shape::FieldsV1, None),
            "raw" => ("raw", "apimachinery.pkg.runtime.RawExtension".into(), Shape::RawExtension, None),
            "json" => ("json", format!("{SCHEMA}JSON"), Shape::Any, None),
            "schemaorbool" => {
                ("schemaorbool", format!("{SCHEMA}JSONSchemaPropsOrBool"), Shape::Any, Some(Union::SchemaOrBool))
            }
            "schemaorarray" => {
                ("schemaorarray", format!("{SCHEMA}JSONSchemaPropsOrArray"), Shape::Any, Some(Union::SchemaOrArray))
            }
            "schemaorstrings" => (
                "schemaorstrings",
                format!("{SCHEMA}JSONSchemaPropsOrStringArray"),
                Shape::Any,
                Some(Union::SchemaOrStrings),
            ),
            _ => return None,
        };
        if let Some(id) = self.shared.scalars.get(token) {
            return Some(*id);
        }
        let id = self.types.push(Type { name, shape });
        self.shared.scalars.insert(token, id);
        if let Some(u) = union {
            self.unions.insert(id, u);
        }
        Some(id)
    }

    /// `extra` describes the outermost list or map; anything inside is plain.
    fn reference(&mut self, token: &str, extra: &[&str], wrapped: bool) -> Result<TypeId, String> {
        if let Some(rest) = token.strip_prefix("[]") {
            let item = self.reference(rest, &[], wrapped)?;
            let mut list = List { item, topology: Topology::Atomic, patch_merge: false, merge_key: None };
            for x in extra {
                if let Some(keys) = x.strip_prefix("map=") {
                    list.topology = Topology::Map { keys: keys.split(',').map(String::from).collect() };
                } else if *x == "set" {
                    list.topology = Topology::Set;
                } else if let Some(key) = x.strip_prefix("merge=") {
                    list.patch_merge = true;
                    list.merge_key = (!key.is_empty()).then(|| key.to_string());
                } else {
                    return Err(format!("unknown list attribute {x}"));
                }
            }
            // Only the innermost list is wrapped.
            let wrapped = wrapped && !rest.starts_with("[]") && !rest.starts_with("map:");
            let key = (item, extra.join(" "), wrapped);
            if let Some(id) = self.shared.lists.get(&key) {
                return Ok(*id);
            }
            let id = self.anonymous(Shape::List(list));
            self.shared.lists.insert(key, id);
            if wrapped {
                self.wrapped.insert(id);
            }
            return Ok(id);
        }
        if let Some(rest) = token.strip_prefix("map:") {
            let value = self.reference(rest, &[], wrapped)?;
            let atomic = extra.contains(&"atomic");
            if let Some(id) = self.shared.maps.get(&(value, atomic)) {
                return Ok(*id);
            }
            let id = self.anonymous(Shape::Map { value, atomic });
            self.shared.maps.insert((value, atomic), id);
            return Ok(id);
        }
        if let Some(id) = self.scalar(token) {
            return Ok(id);
        }
        self.types.named(token).ok_or_else(|| format!("unknown type {token}"))
    }
}

fn parse(types: &str, resources: &str) -> Result<Facts, String> {
    let lines = || types.lines().filter(|l| !l.starts_with('#') && !l.is_empty());
    let mut p =
        Parser { types: Types::default(), shared: Shared::default(), wrapped: HashSet::new(), unions: HashMap::new() };
    let mut gvk = HashMap::new();
    let mut kinds = HashMap::new();
    // First every name, since structs refer to one another and to themselves.
    for line in lines().filter(|l| !l.starts_with(' ')) {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default().to_string();
        let mut s = Struct::default();
        let mut kind = None;
        for w in words {
            match w.strip_prefix("gvk=") {
                Some(text) => kind = Some(split_gvk(text)?),
                None if w == "atomic" => s.atomic = true,
                None => return Err(format!("unknown struct attribute {w}")),
            }
        }
        let id = p.types.push(Type { name, shape: Shape::Struct(s) });
        if let Some(k) = kind {
            kinds.insert((k.group.clone(), k.version.clone(), k.kind.clone()), id);
            gvk.insert(id, k);
        }
    }
    // Then their fields; inlined structs are remembered and flattened last.
    enum Member {
        Field(Box<Field>),
        Inline(Inline),
    }
    let mut members: HashMap<TypeId, Vec<Member>> = HashMap::new();
    let mut current = TypeId(0);
    for line in lines() {
        let Some(body) = line.strip_prefix(' ') else {
            let name = line.split(' ').next().unwrap_or_default();
            current = p.types.named(name).ok_or("a struct without a name")?;
            continue;
        };
        let words: Vec<&str> = body.split(' ').collect();
        let member = match words.as_slice() {
            ["+", name, proto] => Member::Inline(Inline {
                ty: p.types.named(name).ok_or_else(|| format!("unknown inlined type {name}"))?,
                proto: proto.parse().map_err(|_| format!("bad number in: {line}"))?,
            }),
            [name, ty, flags, proto, extra @ ..] => {
                let id = p.reference(ty, extra, flags.contains('w'))?;
                Member::Field(Box::new(Field {
                    name: name.to_string(),
                    ty: id,
                    required: flags.contains('r'),
                    pointer: flags.contains('p'),
                    omitempty: flags.contains('o'),
                    proto: proto.parse().map_err(|_| format!("bad number in: {line}"))?,
                    retain_keys: flags.contains('k'),
                    patch_replaces: flags.contains('s'),
                }))
            }
            _ => return Err(format!("not a field: {line}")),
        };
        members.entry(current).or_default().push(member);
    }
    fn flatten(members: &HashMap<TypeId, Vec<Member>>, id: TypeId, outer: bool, out: &mut Vec<Field>) {
        for m in members.get(&id).into_iter().flatten() {
            match m {
                Member::Field(f) => {
                    let mut f = (**f).clone();
                    if !outer {
                        f.proto = 0;
                    }
                    out.push(f);
                }
                Member::Inline(i) => flatten(members, i.ty, false, out),
            }
        }
    }
    let mut inlines: HashMap<TypeId, Vec<Inline>> = HashMap::new();
    for (id, list) in &members {
        let mut fields = Vec::with_capacity(list.len());
        flatten(&members, *id, true, &mut fields);
        for m in list {
            if let Member::Inline(i) = m {
                inlines.entry(*id).or_default().push(*i);
            }
        }
        if let Shape::Struct(s) = &mut p.types.types[id.0 as usize].shape {
            s.by_name = fields.iter().enumerate().map(|(i, f)| (f.name.clone(), i as u32)).collect();
            s.fields = fields;
        }
    }
    let mut rows: Vec<ResourceFact> = Vec::new();
    for line in resources.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let words: Vec<&str> = line.trim_start().split(' ').collect();
        let list = |v: &str| v.split(',').map(String::from).collect::<Vec<_>>();
        match (line.starts_with(' '), words.as_slice()) {
            (true, [name, kind, verbs]) => {
                let k = split_gvk(kind)?;
                let owner = rows.last_mut().ok_or("a subresource before any resource")?;
                owner.subresources.push(SubresourceFact {
                    name: name.to_string(),
                    group: k.group,
                    version: k.version,
                    kind: k.kind,
                    verbs: list(verbs),
                });
            }
            (false, [gv, plural, kind, scope, verbs, ty]) => {
                let (group, version) = split_api_version(gv);
                rows.push(ResourceFact {
                    group: group.into(),
                    version: version.into(),
                    plural: plural.to_string(),
                    kind: kind.to_string(),
                    namespaced: *scope == "namespaced",
                    verbs: list(verbs),
                    type_id: p.types.named(ty).ok_or_else(|| format!("unknown type {ty}"))?,
                    subresources: Vec::new(),
                });
            }
            _ => return Err(format!("not a resource: {line}")),
        }
    }
    p.types.types.shrink_to_fit();
    Ok(Facts { types: Arc::new(p.types), inlines, wrapped: p.wrapped, unions: p.unions, gvk, resources: rows, kinds })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn structure(name: &str) -> &'static Struct {
        match types().shape(types().named(name).unwrap()) {
            Shape::Struct(s) => s,
            other => panic!("{name} is {other:?}"),
        }
    }

    #[test]
    fn lists_know_their_topology_and_merge_key() {
        let f = structure("api.core.v1.Container").field("ports").unwrap();
        let Shape::List(l) = types().shape(f.ty) else { panic!() };
        assert_eq!(l.topology, Topology::Map { keys: vec!["containerPort".into(), "protocol".into()] });
        assert_eq!((l.patch_merge, l.merge_key.as_deref()), (true, Some("containerPort")));
        let f = structure("apimachinery.pkg.apis.meta.v1.ObjectMeta").field("finalizers").unwrap();
        let Shape::List(l) = types().shape(f.ty) else { panic!() };
        assert_eq!((&l.topology, l.patch_merge, &l.merge_key), (&Topology::Set, true, &None));
    }

    #[test]
    fn inlined_structs_are_flattened_for_json_and_kept_for_protobuf() {
        let volume = structure("api.core.v1.Volume");
        assert!(volume.field("emptyDir").is_some_and(|f| f.proto == 0 && f.pointer));
        let inner = &facts().inlines[&types().named("api.core.v1.Volume").unwrap()];
        assert_eq!(inner.len(), 1);
        assert_eq!(inner[0].proto, 2);
        let probe = &facts().inlines[&types().named("api.core.v1.Probe").unwrap()];
        assert_eq!(probe[0].proto, 1);
    }

    #[test]
    fn flags_follow_go() {
        let spec = structure("api.apps.v1.DeploymentSpec");
        let f = |n: &str| spec.field(n).map(|f| (f.pointer, f.omitempty, f.required, f.proto)).unwrap();
        assert_eq!(f("replicas"), (true, true, false, 1));
        assert_eq!(f("paused"), (false, true, false, 7));
        assert_eq!(f("template"), (false, false, true, 3));
        assert!(spec.field("strategy").is_some_and(|f| f.retain_keys));
        assert_eq!(spec.fields[0].name, "replicas");
    }

    #[test]
    fn every_resource_has_a_struct_with_metadata_or_is_virtual() {
        for r in &facts().resources {
            let Shape::Struct(s) = types().shape(r.type_id) else { panic!("{}", r.kind) };
            assert!(s.field("metadata").is_some(), "{}", r.kind);
            assert_eq!(facts().kind(&r.group, &r.version, &r.kind), Some(r.type_id));
        }
        assert!(facts().resources.len() > 60);
    }

    #[test]
    fn kinds_without_a_path_are_known_too() {
        for (group, kind) in [
            ("meta.k8s.io", "PartialObjectMetadataList"),
            ("", "DeleteOptions"),
            ("admission.k8s.io", "AdmissionReview"),
            ("", "Status"),
        ] {
            assert!(facts().kind(group, "v1", kind).is_some(), "{kind}");
        }
    }
}
