//! The type checker: finds out what every name and call means, and refuses what can't be meant.
//!
//! In: an [`Ast`] and an [`Env`]. Out: a type per node, an overload list per call, or upstream's error texts.
//! The algorithm is the one of CEL's specification: unification with type variables, `dyn` accepts everything.

use crate::ast::*;
use crate::env::Env;
use crate::library::{self, Overload};
use crate::source::{Issue, Issues};
use crate::types::{Param, Type};
use std::collections::HashMap;
use std::sync::Arc;

/// Larger types are `dyn`.
const TYPE_SIZE_MAX: usize = 200;
/// Errors after this many say nothing new.
const ISSUES_MAX: usize = 100;

/// What the checker found out about a tree.
#[derive(Clone, Debug)]
pub struct Checked {
    /// By node.
    pub types: Vec<Type>,
    pub overloads: Vec<Vec<&'static Overload>>,
    /// Qualified names (`google.protobuf.Duration`) that stand for a type.
    pub type_names: HashMap<Id, Type>,
    /// Calls whose target is but the first part of the function's name (`sets.contains`).
    pub namespaced: HashMap<Id, &'static library::Function>,
    /// Variables that the environment declares and the expression uses.
    pub used: Vec<Arc<str>>,
}

impl Checked {
    pub fn of(&self, e: &Expr) -> &Type {
        &self.types[e.id as usize]
    }
}

pub fn check(ast: &Ast, env: &Env) -> Result<Checked, Issues> {
    let nodes = ast.offsets.len();
    let mut checker = Checker {
        env,
        ast,
        scopes: Vec::new(),
        issues: Vec::new(),
        mapping: Mapping::default(),
        fresh: 0,
        out: Checked {
            types: vec![Type::Dyn; nodes],
            overloads: vec![Vec::new(); nodes],
            type_names: HashMap::new(),
            namespaced: HashMap::new(),
            used: Vec::new(),
        },
    };
    checker.check(&ast.root);
    let Checker { mut issues, mut mapping, mut out, .. } = checker;
    for t in &mut out.types {
        *t = substitute(&mut mapping, t, true);
    }
    if issues.is_empty() {
        crate::literals::validate(ast, &out, &mut issues);
    }
    if issues.is_empty() {
        return Ok(out);
    }
    issues.sort_by_key(|i| i.offset);
    Err(Issues { source: ast.source.clone(), issues })
}

struct Checker<'a> {
    env: &'a Env,
    ast: &'a Ast,
    scopes: Vec<(Arc<str>, Type)>,
    issues: Vec<Issue>,
    mapping: Mapping,
    fresh: u32,
    out: Checked,
}

/// What type variables stand for, with a trail, so that a trial that fails can be taken back.
#[derive(Default)]
struct Mapping {
    bound: HashMap<u32, Type>,
    trail: Vec<(u32, Option<Type>)>,
}

impl Mapping {
    fn insert(&mut self, variable: u32, t: Type) {
        let before = self.bound.insert(variable, t);
        self.trail.push((variable, before));
    }

    fn undo_to(&mut self, mark: usize) {
        while self.trail.len() > mark {
            match self.trail.pop() {
                Some((variable, Some(t))) => self.bound.insert(variable, t),
                Some((variable, None)) => self.bound.remove(&variable),
                None => None,
            };
        }
    }

    /// The last variable of a chain of variables that stand for each other.
    fn root(&mut self, variable: u32) -> u32 {
        let mut root = variable;
        while let Some(Type::Param(Param::Fresh(next))) = self.bound.get(&root) {
            root = *next;
        }
        let mut at = variable;
        while at != root {
            let next = match self.bound.get(&at) {
                Some(Type::Param(Param::Fresh(next))) => *next,
                _ => root,
            };
            if next != root {
                self.insert(at, Type::Param(Param::Fresh(root)));
            }
            at = next;
        }
        root
    }
}

impl Checker<'_> {
    fn error(&mut self, id: Id, message: String) {
        if self.issues.len() < ISSUES_MAX {
            self.issues.push(Issue { offset: self.ast.offsets[id as usize] as usize, message });
        }
    }

    fn set(&mut self, id: Id, t: Type) -> Type {
        self.out.types[id as usize] = t.clone();
        t
    }

    fn fresh(&mut self) -> Type {
        self.fresh += 1;
        Type::Param(Param::Fresh(self.fresh))
    }

    fn shown(&mut self, t: &Type) -> Type {
        substitute(&mut self.mapping, t, true)
    }

    fn check(&mut self, e: &Expr) -> Type {
        let t = match &e.kind {
            Kind::Const(c) => match c {
                Const::Null => Type::Null,
                Const::Bool(_) => Type::Bool,
                Const::Int(_) => Type::Int,
                Const::Uint(_) => Type::Uint,
                Const::Double(_) => Type::Double,
                Const::String(_) => Type::String,
                Const::Bytes(_) => Type::Bytes,
            },
            Kind::Ident(name) => self.ident(e, name),
            Kind::Select { operand, field, test } => self.select(e, operand, field, *test),
            Kind::Call(call) => self.call(e, call),
            Kind::List { elements, optional } => self.list(elements, optional),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { name, fields } => self.structure(e, name, fields),
            Kind::Comprehension(c) => self.comprehension(c),
        };
        self.set(e.id, t)
    }

    fn variable(&mut self, name: &str) -> Option<Type> {
        if let Some((_, t)) = self.scopes.iter().rev().find(|(n, _)| &**n == name) {
            return Some(t.clone());
        }
        let (name, t) = self.env.variable(name)?;
        if !self.out.used.contains(&name) {
            self.out.used.push(name);
        }
        Some(t)
    }

    fn ident(&mut self, e: &Expr, name: &str) -> Type {
        if let Some(t) = self.variable(name) {
            return t;
        }
        if let Some(t) = type_name(name) {
            self.out.type_names.insert(e.id, t.clone());
            return Type::Type(Arc::new(t));
        }
        self.error(e.id, format!("undeclared reference to '{name}' (in container '')"));
        Type::Error
    }

    fn select(&mut self, e: &Expr, operand: &Expr, field: &str, test: bool) -> Type {
        if !test
            && let Some(name) = e.qualified_name()
            && self.root_is_free(e)
            && let Some(t) = type_name(&name)
        {
            self.out.type_names.insert(e.id, t.clone());
            return Type::Type(Arc::new(t));
        }
        let target = self.check(operand);
        let t = self.field_of(e.id, &target, field, false);
        if test { Type::Bool } else { self.shown_keeping_params(&t) }
    }

    /// No variable is named like the first part of the qualified name.
    fn root_is_free(&self, e: &Expr) -> bool {
        let mut e = e;
        loop {
            match &e.kind {
                Kind::Select { operand, .. } => e = operand,
                Kind::Ident(name) => {
                    return !self.scopes.iter().any(|(n, _)| n == name) && self.env.variable(name).is_none();
                }
                _ => return false,
            }
        }
    }

    fn shown_keeping_params(&mut self, t: &Type) -> Type {
        substitute(&mut self.mapping, t, false)
    }

    fn field_of(&mut self, id: Id, target: &Type, field: &str, optional: bool) -> Type {
        match self.shown_keeping_params(target) {
            Type::Error => Type::Error,
            Type::Dyn => Type::Dyn,
            Type::Optional(inner) if !optional => {
                let t = self.field_of(id, &inner, field, true);
                Type::optional(t)
            }
            Type::Map(_, value) => value.as_ref().clone(),
            Type::Named(name) => match self.env.field(&name, field) {
                Some(Some(t)) => t,
                Some(None) => {
                    self.error(id, format!("undefined field '{field}'"));
                    Type::Error
                }
                None => {
                    self.error(id, format!("type '{name}' does not support field selection"));
                    Type::Error
                }
            },
            p @ Type::Param(_) => {
                self.assignable(&Type::Dyn, &p);
                Type::Dyn
            }
            other => {
                let text = format!("type '{}' does not support field selection", self.shown(&other));
                self.error(id, text);
                Type::Error
            }
        }
    }

    fn call(&mut self, e: &Expr, call: &Call) -> Type {
        if &*call.function == op::OPT_SELECT {
            let target = self.check(&call.args[0]);
            self.check(&call.args[1]);
            let field = call.args[1].as_str().cloned().unwrap_or_else(|| "".into());
            let t = self.field_of(e.id, &target, &field, false);
            self.out.overloads[e.id as usize] = library::overloads(op::OPT_SELECT);
            return match t {
                t @ Type::Optional(_) => t,
                t => Type::optional(t),
            };
        }
        let Some(target) = &call.target else {
            let Some(function) = library::function(&call.function).filter(|f| self.env.has(f)) else {
                for arg in &call.args {
                    self.check(arg);
                }
                self.error(e.id, format!("undeclared reference to '{}' (in container '')", call.function));
                return Type::Error;
            };
            let args: Vec<Type> = call.args.iter().map(|a| self.check(a)).collect();
            return self.resolve(e, function, None, args);
        };
        if let Some(prefix) = target.qualified_name()
            && self.root_is_free(target)
            && let Some(function) =
                library::function(&format!("{prefix}.{}", call.function)).filter(|f| self.env.has(f))
        {
            let args: Vec<Type> = call.args.iter().map(|a| self.check(a)).collect();
            self.out.namespaced.insert(e.id, function);
            return self.resolve(e, function, None, args);
        }
        let on = self.check(target);
        let args: Vec<Type> = match (&*call.function, call.args.as_slice()) {
            // What is formatted may be of any types.
            ("format", [Expr { id, kind: Kind::List { elements, optional } }]) if optional.is_empty() => {
                for e in elements {
                    self.check(e);
                }
                vec![self.set(*id, Type::list(Type::Dyn))]
            }
            (_, args) => args.iter().map(|a| self.check(a)).collect(),
        };
        match library::function(&call.function).filter(|f| self.env.has(f)) {
            Some(function) => self.resolve(e, function, Some(on), args),
            None => {
                self.error(e.id, format!("undeclared reference to '{}' (in container '')", call.function));
                Type::Error
            }
        }
    }

    fn resolve(
        &mut self,
        e: &Expr,
        function: &'static library::Function,
        target: Option<Type>,
        args: Vec<Type>,
    ) -> Type {
        let member = target.is_some();
        let given: Vec<Type> = target.into_iter().chain(args).collect();
        let mut result: Option<Type> = None;
        let mut found = Vec::new();
        for overload in &function.overloads {
            if overload.member != member || overload.args.len() != given.len() {
                continue;
            }
            let mut names: HashMap<char, u32> = HashMap::new();
            let mut next = self.fresh;
            let mut fresh = |c: char| {
                *names.entry(c).or_insert_with(|| {
                    next += 1;
                    next
                })
            };
            let wanted: Vec<Type> = overload.args.iter().map(|t| t.instantiate(&mut fresh)).collect();
            let gives = overload.result.instantiate(&mut fresh);
            self.fresh = next;
            if !self.all_assignable(&given, &wanted) {
                continue;
            }
            found.push(overload);
            let gives = self.shown_keeping_params(&gives);
            result = Some(match result {
                None => gives,
                Some(t) if t.is_dyn() || t == gives => t,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            if given.contains(&Type::Error) {
                return Type::Error;
            }
            let shown: Vec<String> = given.iter().map(|t| self.shown(t).to_string()).collect();
            let applied = match shown.split_first() {
                Some((on, rest)) if member => format!("{on}.({})", rest.join(", ")),
                _ => format!("({})", shown.join(", ")),
            };
            self.error(e.id, format!("found no matching overload for '{}' applied to '{applied}'", function.name));
            return Type::Error;
        };
        self.out.overloads[e.id as usize] = found;
        result
    }

    fn list(&mut self, elements: &[Expr], optional: &[usize]) -> Type {
        let mut item: Option<Type> = None;
        for (i, e) in elements.iter().enumerate() {
            let mut t = self.check(e);
            if optional.contains(&i) {
                t = self.unwrapped(e, t);
            }
            item = Some(self.join(e, item, t));
        }
        small(Type::list(item.unwrap_or_else(|| self.fresh())))
    }

    fn map(&mut self, entries: &[Entry]) -> Type {
        let (mut key, mut value): (Option<Type>, Option<Type>) = (None, None);
        for entry in entries {
            let k = self.check(&entry.key);
            key = Some(self.join(&entry.key, key, k));
            let mut v = self.check(&entry.value);
            if entry.optional {
                v = self.unwrapped(&entry.value, v);
            }
            value = Some(self.join(&entry.value, value, v));
        }
        let (key, value) = (key.unwrap_or_else(|| self.fresh()), value.unwrap_or_else(|| self.fresh()));
        small(Type::map(key, value))
    }

    /// Of `?element`: what the optional holds.
    fn unwrapped(&mut self, e: &Expr, t: Type) -> Type {
        match self.shown_keeping_params(&t) {
            Type::Optional(inner) => inner.as_ref().clone(),
            Type::Dyn | Type::Error | Type::Param(_) => Type::Dyn,
            other => {
                let text = format!("expected type 'optional_type({})' but found '{}'", other, other);
                self.error(e.id, text);
                Type::Error
            }
        }
    }

    /// Elements of one list or map must be of one type.
    fn join(&mut self, e: &Expr, previous: Option<Type>, current: Type) -> Type {
        let Some(previous) = previous else { return current };
        if self.assignable(&current, &previous) {
            return most_general(previous, current);
        }
        let text = format!("expected type '{}' but found '{}'", self.shown(&previous), self.shown(&current));
        self.error(e.id, text);
        previous
    }

    fn structure(&mut self, e: &Expr, name: &Arc<str>, fields: &[Field]) -> Type {
        let known = self.env.constructible(name);
        if !known {
            self.error(e.id, format!("undeclared reference to '{name}' (in container '')"));
        }
        for field in fields {
            let mut given = self.check(&field.value);
            if field.optional {
                given = self.unwrapped(&field.value, given);
            }
            if !known {
                continue;
            }
            match self.env.field(name, &field.name).flatten() {
                None => self.error(field.id, format!("undefined field '{}'", field.name)),
                Some(wanted) => {
                    if !self.assignable(&given, &wanted) {
                        let text = format!(
                            "expected type of field '{}' is '{}' but provided type is '{}'",
                            field.name,
                            wanted,
                            self.shown(&given)
                        );
                        self.error(field.id, text);
                    }
                }
            }
        }
        if known { Type::Named(name.clone()) } else { Type::Error }
    }

    fn comprehension(&mut self, c: &Comprehension) -> Type {
        let range = self.check(&c.range);
        let accu = self.check(&c.init);
        let (first, second) = match self.shown_keeping_params(&range) {
            Type::List(item) => {
                let item = item.as_ref().clone();
                if c.var2.is_some() { (Type::Int, item) } else { (item, Type::Dyn) }
            }
            Type::Map(key, value) => (key.as_ref().clone(), value.as_ref().clone()),
            t @ (Type::Dyn | Type::Error | Type::Param(_)) => {
                self.assignable(&t, &Type::Dyn);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let text = format!(
                    "expression of type '{}' cannot be range of a comprehension (must be list, map, or dynamic)",
                    self.shown(&other)
                );
                self.error(c.range.id, text);
                (Type::Error, Type::Error)
            }
        };
        let depth = self.scopes.len();
        self.scopes.push((c.accu.clone(), accu.clone()));
        self.scopes.push((c.var.clone(), first));
        if let Some(var) = &c.var2 {
            self.scopes.push((var.clone(), second));
        }
        let condition = self.check(&c.condition);
        self.must_be(&c.condition, condition, &Type::Bool);
        let step = self.check(&c.step);
        self.must_be(&c.step, step, &accu);
        self.scopes.truncate(depth + 1);
        let result = self.check(&c.result);
        self.scopes.truncate(depth);
        self.shown_keeping_params(&result)
    }

    fn must_be(&mut self, e: &Expr, given: Type, wanted: &Type) {
        if !self.assignable(&given, wanted) {
            let text = format!("expected type '{}' but found '{}'", self.shown(wanted), self.shown(&given));
            self.error(e.id, text);
        }
    }

    fn assignable(&mut self, from: &Type, to: &Type) -> bool {
        self.all_assignable(std::slice::from_ref(from), std::slice::from_ref(to))
    }

    fn all_assignable(&mut self, from: &[Type], to: &[Type]) -> bool {
        self.mapping.trail.clear();
        let m = &mut self.mapping;
        let fits = from.iter().zip(to).all(|(f, t)| assignable(m, f, t));
        if !fits {
            m.undo_to(0);
        }
        fits
    }
}

/// Names of types as expressions write them.
fn type_name(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "double" => Type::Double,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "string" => Type::String,
        "null_type" => Type::Null,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "type" => Type::Type(Arc::new(Type::Dyn)),
        "google.protobuf.Timestamp" => Type::Timestamp,
        "google.protobuf.Duration" => Type::Duration,
        "optional_type" => Type::optional(Type::Dyn),
        "net.IP" | "net.CIDR" | "kubernetes.URL" | "kubernetes.Quantity" | "kubernetes.Semver" => Type::named(name),
        _ => return None,
    })
}

/// The type, or `dyn` in place of parts that are too large to reason about.
fn small(t: Type) -> Type {
    match t {
        t if !t.larger_than(TYPE_SIZE_MAX) => t,
        Type::List(_) => Type::list(Type::Dyn),
        _ => Type::map(Type::Dyn, Type::Dyn),
    }
}

fn most_general(a: Type, b: Type) -> Type {
    if less_specific(&a, &b) { a } else { b }
}

/// `a` says no more than `b`.
fn less_specific(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Dyn | Type::Error | Type::Param(_), _) => true,
        (_, Type::Dyn | Type::Error | Type::Param(_)) => false,
        (Type::List(x), Type::List(y)) | (Type::Optional(x), Type::Optional(y)) => less_specific(x, y),
        (Type::Map(k, v), Type::Map(l, w)) => less_specific(k, l) && less_specific(v, w),
        (Type::Type(_), Type::Type(_)) => true,
        (a, b) => a == b,
    }
}

fn substitute(m: &mut Mapping, t: &Type, params_are_dyn: bool) -> Type {
    match t {
        Type::Param(Param::Fresh(n)) => {
            let root = m.root(*n);
            match m.bound.get(&root).cloned() {
                Some(t) => substitute(m, &t, params_are_dyn),
                None if params_are_dyn => Type::Dyn,
                None => Type::Param(Param::Fresh(root)),
            }
        }
        Type::Param(Param::Declared(_)) if params_are_dyn => Type::Dyn,
        Type::List(x) => Type::list(substitute(m, x, params_are_dyn)),
        Type::Optional(x) => Type::optional(substitute(m, x, params_are_dyn)),
        Type::Type(x) => Type::Type(Arc::new(substitute(m, x, params_are_dyn))),
        Type::Map(k, v) => Type::map(substitute(m, k, params_are_dyn), substitute(m, v, params_are_dyn)),
        t => t.clone(),
    }
}

/// The variable occurs in the type.
fn occurs(m: &mut Mapping, variable: u32, t: &Type) -> bool {
    match t {
        Type::Param(Param::Fresh(n)) => {
            let root = m.root(*n);
            if root == variable {
                return true;
            }
            match m.bound.get(&root).cloned() {
                Some(t) => occurs(m, variable, &t),
                None => false,
            }
        }
        Type::List(x) | Type::Optional(x) | Type::Type(x) => occurs(m, variable, x),
        Type::Map(k, v) => occurs(m, variable, k) || occurs(m, variable, v),
        _ => false,
    }
}

fn bind(m: &mut Mapping, variable: u32, t: &Type) -> bool {
    if let Type::Param(Param::Fresh(n)) = t
        && m.root(*n) == variable
    {
        return true;
    }
    if occurs(m, variable, t) {
        return false;
    }
    let t = substitute(m, t, false);
    m.insert(variable, if t.larger_than(TYPE_SIZE_MAX) { Type::Dyn } else { t });
    true
}

/// A type that a variable stands for and a type that it shall stand for, too.
fn refine(m: &mut Mapping, variable: u32, bound: &Type, given: &Type) {
    if less_specific(given, bound) && !occurs(m, variable, given) {
        m.insert(variable, given.clone());
    }
}

fn assignable(m: &mut Mapping, from: &Type, to: &Type) -> bool {
    if let Type::Param(Param::Fresh(n)) = to {
        let n = m.root(*n);
        let Some(bound) = m.bound.get(&n).cloned() else { return bind(m, n, from) };
        if !assignable(m, from, &bound) {
            return false;
        }
        refine(m, n, &bound, from);
        return true;
    }
    if let Type::Param(Param::Fresh(n)) = from {
        let n = m.root(*n);
        let Some(bound) = m.bound.get(&n).cloned() else { return bind(m, n, to) };
        if !assignable(m, &bound, to) {
            return false;
        }
        refine(m, n, &bound, to);
        return true;
    }
    match (from, to) {
        (Type::Dyn | Type::Error, _) | (_, Type::Dyn | Type::Error) => true,
        (Type::Null, Type::Null) => true,
        (Type::Null, nullable) | (nullable, Type::Null) => {
            matches!(nullable, Type::Named(_) | Type::Optional(_) | Type::Timestamp | Type::Duration)
        }
        (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => assignable(m, a, b),
        (Type::Map(k, v), Type::Map(l, w)) => assignable(m, k, l) && assignable(m, v, w),
        (Type::Type(_), Type::Type(_)) => true,
        (a, b) => a == b,
    }
}
