//! The tree of an expression. Macros (`has`, `all`, `map`, ...) are already expanded in it, into the very
//! shapes that upstream's have, since costs are counted on them.

use std::sync::Arc;

/// Number of a node; index into [`Ast::offsets`] and the checker's tables.
pub type Id = u32;

#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub id: Id,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Const(Const),
    Ident(Arc<str>),
    /// `operand.field`; `test`: `has(operand.field)`.
    Select {
        operand: Box<Expr>,
        field: Arc<str>,
        test: bool,
    },
    Call(Box<Call>),
    /// `optional`: positions of elements written `?e`.
    List {
        elements: Vec<Expr>,
        optional: Vec<usize>,
    },
    Map(Vec<Entry>),
    Struct {
        name: Arc<str>,
        fields: Vec<Field>,
    },
    Comprehension(Box<Comprehension>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub function: Arc<str>,
    pub target: Option<Expr>,
    pub args: Vec<Expr>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: Expr,
    pub value: Expr,
    pub optional: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub id: Id,
    pub name: Arc<str>,
    pub value: Expr,
    pub optional: bool,
}

/// The one loop of the language.
#[derive(Clone, Debug, PartialEq)]
pub struct Comprehension {
    pub range: Expr,
    pub var: Arc<str>,
    /// With two variables the first is the index or key, the second the value.
    pub var2: Option<Arc<str>>,
    pub accu: Arc<str>,
    pub init: Expr,
    pub condition: Expr,
    pub step: Expr,
    pub result: Expr,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Const {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Ast {
    pub source: String,
    pub root: Expr,
    /// Byte offset of every node.
    pub offsets: Vec<u32>,
}

/// Names of operators as functions, as upstream's texts show them.
pub mod op {
    pub const CONDITIONAL: &str = "_?_:_";
    pub const AND: &str = "_&&_";
    pub const OR: &str = "_||_";
    pub const NOT: &str = "!_";
    pub const EQUALS: &str = "_==_";
    pub const NOT_EQUALS: &str = "_!=_";
    pub const LESS: &str = "_<_";
    pub const LESS_EQUALS: &str = "_<=_";
    pub const GREATER: &str = "_>_";
    pub const GREATER_EQUALS: &str = "_>=_";
    pub const ADD: &str = "_+_";
    pub const SUBTRACT: &str = "_-_";
    pub const MULTIPLY: &str = "_*_";
    pub const DIVIDE: &str = "_/_";
    pub const MODULO: &str = "_%_";
    pub const NEGATE: &str = "-_";
    pub const INDEX: &str = "_[_]";
    pub const OPT_INDEX: &str = "_[?_]";
    pub const OPT_SELECT: &str = "_?._";
    pub const IN: &str = "@in";
    pub const NOT_STRICTLY_FALSE: &str = "@not_strictly_false";
    pub const MAP_INSERT: &str = "cel.@mapInsert";
    /// The accumulator of macros.
    pub const ACCUMULATOR: &str = "@result";
}

impl Expr {
    pub fn children(&self) -> Vec<&Expr> {
        match &self.kind {
            Kind::Const(_) | Kind::Ident(_) => Vec::new(),
            Kind::Select { operand, .. } => vec![operand],
            Kind::Call(c) => c.target.iter().chain(&c.args).collect(),
            Kind::List { elements, .. } => elements.iter().collect(),
            Kind::Map(entries) => entries.iter().flat_map(|e| [&e.key, &e.value]).collect(),
            Kind::Struct { fields, .. } => fields.iter().map(|f| &f.value).collect(),
            Kind::Comprehension(c) => vec![&c.range, &c.init, &c.condition, &c.step, &c.result],
        }
    }

    /// `a.b.c` of plain selections.
    pub fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.to_string()),
            Kind::Select { operand, field, test: false } => {
                let mut name = operand.qualified_name()?;
                name.push('.');
                name.push_str(field);
                Some(name)
            }
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&Arc<str>> {
        match &self.kind {
            Kind::Const(Const::String(s)) => Some(s),
            _ => None,
        }
    }
}
