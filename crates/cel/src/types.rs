//! Types of expressions, as the checker reasons about them and as texts show them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Anything; checked when it runs.
    Dyn,
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List(Arc<Type>),
    Map(Arc<Type>, Arc<Type>),
    Optional(Arc<Type>),
    /// The type of a type.
    Type(Arc<Type>),
    /// A variable of a generic signature: upper-case letter, or a number once it is instantiated.
    Param(Param),
    /// A named type: an object with fields (see [`Provider`]), or an opaque one of a library (`kubernetes.URL`).
    Named(Arc<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Param {
    Declared(char),
    Fresh(u32),
}

impl Type {
    pub fn list(item: Type) -> Type {
        Type::List(Arc::new(item))
    }

    pub fn map(key: Type, value: Type) -> Type {
        Type::Map(Arc::new(key), Arc::new(value))
    }

    pub fn optional(of: Type) -> Type {
        Type::Optional(Arc::new(of))
    }

    pub fn named(name: &str) -> Type {
        Type::Named(name.into())
    }

    pub fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn | Type::Error)
    }

    /// `list(string)`, `map(string, A)`, `kubernetes.URL`: how the tables of functions write types.
    pub fn parse(text: &str) -> Type {
        let text = text.trim();
        if let Some((name, inner)) = text.strip_suffix(')').and_then(|t| t.split_once('(')) {
            return match name {
                "list" => Type::list(Type::parse(inner)),
                "optional" => Type::optional(Type::parse(inner)),
                "type" => Type::Type(Arc::new(Type::parse(inner))),
                _ => match split(inner).as_slice() {
                    [key, value] => Type::map(Type::parse(key), Type::parse(value)),
                    _ => Type::Error,
                },
            };
        }
        match text {
            "dyn" => Type::Dyn,
            "null" => Type::Null,
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "timestamp" => Type::Timestamp,
            "duration" => Type::Duration,
            t => match t.chars().next() {
                Some(c) if t.len() == 1 && c.is_ascii_uppercase() => Type::Param(Param::Declared(c)),
                _ => Type::named(t),
            },
        }
    }

    /// Every variable replaced by a fresh one.
    pub fn instantiate(&self, fresh: &mut impl FnMut(char) -> u32) -> Type {
        match self {
            Type::Param(Param::Declared(c)) => Type::Param(Param::Fresh(fresh(*c))),
            Type::List(t) => Type::list(t.instantiate(fresh)),
            Type::Map(k, v) => Type::map(k.instantiate(fresh), v.instantiate(fresh)),
            Type::Optional(t) => Type::optional(t.instantiate(fresh)),
            Type::Type(t) => Type::Type(Arc::new(t.instantiate(fresh))),
            t => t.clone(),
        }
    }

    /// Has more than `limit` parts. Types are trees with shared branches, which can be small and yet endless to walk.
    pub fn larger_than(&self, limit: usize) -> bool {
        fn walk(t: &Type, left: &mut usize) -> bool {
            if *left == 0 {
                return true;
            }
            *left -= 1;
            match t {
                Type::List(t) | Type::Optional(t) | Type::Type(t) => walk(t, left),
                Type::Map(k, v) => walk(k, left) || walk(v, left),
                _ => false,
            }
        }
        walk(self, &mut limit.clone())
    }
}

/// Parts of `a, map(b, c), d`.
pub fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    if !text[start..].trim().is_empty() {
        parts.push(&text[start..]);
    }
    parts
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn => f.write_str("dyn"),
            Type::Error => f.write_str("!error!"),
            Type::Null => f.write_str("null"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Uint => f.write_str("uint"),
            Type::Double => f.write_str("double"),
            Type::String => f.write_str("string"),
            Type::Bytes => f.write_str("bytes"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Duration => f.write_str("duration"),
            Type::List(t) => write!(f, "list({t})"),
            Type::Map(k, v) => write!(f, "map({k}, {v})"),
            Type::Optional(t) => write!(f, "optional_type({t})"),
            Type::Type(t) => write!(f, "type({t})"),
            Type::Param(Param::Declared(c)) => write!(f, "{c}"),
            Type::Param(Param::Fresh(n)) => write!(f, "_var{n}"),
            Type::Named(n) => f.write_str(n),
        }
    }
}

/// What named types are: the schema of a custom resource, of a built-in kind, of the policies' own objects.
pub trait Provider: Send + Sync {
    /// None: no such type. `Some(None)`: the type has no such field.
    fn field(&self, type_name: &str, field: &str) -> Option<Option<Type>>;
}

/// Named types that are listed.
#[derive(Clone, Debug, Default)]
pub struct Objects(pub HashMap<Arc<str>, HashMap<Arc<str>, Type>>);

impl Provider for Objects {
    fn field(&self, type_name: &str, field: &str) -> Option<Option<Type>> {
        self.0
            .get(type_name)
            .map(|fields| fields.get(field).or_else(|| fields.get(&*crate::schema::escape_reserved(field)?)).cloned())
    }
}

impl Objects {
    /// Adds a type whose fields are written `name: type`.
    pub fn add(&mut self, name: &str, fields: &[(&str, &str)]) {
        self.0.insert(name.into(), fields.iter().map(|(n, t)| ((*n).into(), Type::parse(t))).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_written_and_read() {
        for text in ["list(string)", "map(string, list(map(int, A)))", "kubernetes.URL", "dyn"] {
            assert_eq!(Type::parse(text).to_string(), text);
        }
        assert_eq!(Type::parse("optional(B)").to_string(), "optional_type(B)");
    }
}
