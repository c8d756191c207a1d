//! What an expression can cost at most, before it ever runs: by the limits that a schema sets on its values.
//!
//! In: a checked [`Program`] and the [`Decl`] of `self`, or whatever else knows how large values get. Out: a [`Range`] of cost. The estimate decides which rules a
//! CustomResourceDefinition may have, so it follows upstream's (KEP-2876) step by step; what it can't know is
//! unbounded.

use crate::ast::*;
use crate::cost::{self, CHECK, NAMED_FORMAT_LENGTH_MAX, REGEX_FACTOR, STRING_FACTOR};
use crate::library::Overload;
use crate::program::Program;
use crate::schema::Decl;
use crate::types::Type;
use std::collections::HashMap;
use std::sync::Arc;

/// Of costs or of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub min: u64,
    pub max: u64,
}

impl Range {
    pub const UNKNOWN: Range = Range { min: 0, max: u64::MAX };
    pub const ZERO: Range = Range { min: 0, max: 0 };

    pub fn fixed(n: u64) -> Range {
        Range { min: n, max: n }
    }

    fn add(self, other: Range) -> Range {
        Range { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    fn times(self, other: Range) -> Range {
        Range { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    fn scaled(self, factor: f64) -> Range {
        // Casts from float saturate.
        let scale = |n: u64| if n == u64::MAX { u64::MAX } else { (n as f64 * factor).ceil() as u64 };
        Range { min: scale(self.min), max: scale(self.max) }
    }

    fn union(self, other: Range) -> Range {
        Range { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// The worst and the best case of a rule whose `self` has this schema.
pub fn estimate(program: &Program, root: &Decl) -> Range {
    estimate_by(program, &|path| {
        // Upstream takes the first step for `self` without a look. What is iterated over that has no path of its own, as
        // `(has(self.a) ? self.a : [])`, so has items of the size of `self`, which is none for objects. Istio's
        // definitions live by that.
        let (_, rest) = path.split_first()?;
        if rest.last().is_some_and(|l| &**l == "@keys") {
            return Some(0);
        }
        root.at(rest).map(|decl| decl.elements_max.max(0) as u64)
    })
}

/// As [`estimate`], for variables of other types: `size_max` says how large a value can be, told by the variable and
/// the steps from there: names of fields, `@items`, `@keys`, `@values`.
pub fn estimate_by(program: &Program, size_max: &dyn Fn(&[Arc<str>]) -> Option<u64>) -> Range {
    let mut e = Estimator {
        program,
        size_max,
        paths: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        locals: Vec::new(),
    };
    e.cost(&program.ast.root)
}

type Path = Vec<Arc<str>>;

/// Sizes of keys (or indexes) and values of a container.
#[derive(Clone, Copy)]
struct Entries {
    list: bool,
    key: Range,
    value: Range,
}

impl Entries {
    fn union(self, other: Entries) -> Entries {
        Entries { list: self.list, key: self.key.union(other.key), value: self.value.union(other.value) }
    }
}

struct Local {
    name: Arc<str>,
    path: Path,
    size: Option<Range>,
    entries: Option<Entries>,
}

struct Estimator<'a> {
    program: &'a Program,
    size_max: &'a dyn Fn(&[Arc<str>]) -> Option<u64>,
    /// Where in the schema a node's value comes from.
    paths: HashMap<Id, Path>,
    sizes: HashMap<Id, Range>,
    entries: HashMap<Id, Entries>,
    locals: Vec<Local>,
}

struct Estimate {
    cost: Range,
    size: Option<Range>,
}

fn costs(cost: Range) -> Estimate {
    Estimate { cost, size: None }
}

impl Estimator<'_> {
    fn type_of(&self, e: &Expr) -> &Type {
        self.program.checked.of(e)
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|l| &*l.name == name)
    }

    fn path(&self, e: &Expr) -> Path {
        if let Kind::Ident(name) = &e.kind
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&e.id).cloned().unwrap_or_default()
    }

    fn cost(&mut self, e: &Expr) -> Range {
        match &e.kind {
            Kind::Const(_) => Range::ZERO,
            Kind::Ident(name) => {
                let path = self.local(name).map_or_else(|| vec![name.clone()], |l| l.path.clone());
                self.paths.insert(e.id, path);
                Range::fixed(1)
            }
            Kind::Select { operand, field, test } => self.select(e, operand, field, *test),
            Kind::Call(call) => self.call(e, call),
            Kind::List { elements, .. } => self.list(e, elements),
            Kind::Map(entries) => self.map(e, entries),
            Kind::Struct { fields, .. } => fields.iter().fold(Range::fixed(40), |sum, f| sum.add(self.cost(&f.value))),
            Kind::Comprehension(c) => self.comprehension(e, c),
        }
    }

    fn select(&mut self, e: &Expr, operand: &Expr, field: &Arc<str>, test: bool) -> Range {
        let mut sum = self.cost(operand);
        if test {
            return sum;
        }
        if matches!(self.type_of(operand), Type::Map(..) | Type::Named(_) | Type::Param(_)) {
            sum = sum.add(Range::fixed(1));
        }
        let mut path = self.path(operand);
        path.push(field.clone());
        self.paths.insert(e.id, path);
        sum
    }

    fn list(&mut self, e: &Expr, elements: &[Expr]) -> Range {
        let mut sum = Range::ZERO;
        let mut item = if elements.is_empty() { Range::ZERO } else { Range { min: u64::MAX, max: 0 } };
        for element in elements {
            sum = sum.add(self.cost(element));
            item = item.union(self.size_or_unknown(element));
        }
        self.entries.insert(e.id, Entries { list: true, key: Range::fixed(1), value: item });
        sum.add(Range::fixed(10))
    }

    fn map(&mut self, e: &Expr, entries: &[Entry]) -> Range {
        let mut sum = Range::ZERO;
        let start = if entries.is_empty() { Range::ZERO } else { Range { min: u64::MAX, max: 0 } };
        let (mut key, mut value) = (start, start);
        for entry in entries {
            sum = sum.add(self.cost(&entry.key)).add(self.cost(&entry.value));
            key = key.union(self.size_or_unknown(&entry.key));
            value = value.union(self.size_or_unknown(&entry.value));
        }
        self.entries.insert(e.id, Entries { list: false, key, value });
        sum.add(Range::fixed(30))
    }

    fn comprehension(&mut self, e: &Expr, c: &Comprehension) -> Range {
        let bind = matches!(&c.range.kind, Kind::List { elements, .. } if elements.is_empty())
            && matches!(c.condition.kind, Kind::Const(Const::Bool(false)));
        let mut sum = self.cost(&c.range).add(self.cost(&c.init));
        let depth = self.locals.len();
        let local = Local {
            name: c.accu.clone(),
            path: self.path(&c.init),
            size: self.size(&c.init),
            entries: self.entry_sizes(&c.init),
        };
        self.locals.push(local);
        if bind {
            sum = sum.add(self.cost(&c.result));
            self.locals.truncate(depth);
            self.copy_sizes(e, &c.result);
            return sum;
        }
        self.push_iteration(c);
        let each = self.cost(&c.condition).add(self.cost(&c.step));
        self.locals.truncate(depth + 1);
        sum = sum.add(self.cost(&c.result));
        self.locals.truncate(depth);
        let count = self.size_or_unknown(&c.range);
        match &c.init.kind {
            Kind::Const(_) => {
                if let Some(size) = self.size(&c.init) {
                    self.sizes.insert(e.id, size);
                }
            }
            Kind::List { .. } | Kind::Map(_) => {
                self.sizes.insert(e.id, count);
                if let Some(entries) = self.entry_sizes(&c.step) {
                    self.entries.insert(e.id, entries);
                }
            }
            _ => {}
        }
        sum.add(count.times(each))
    }

    fn push_iteration(&mut self, c: &Comprehension) {
        let entries = self.entry_sizes(&c.range);
        let list = entries.map_or(matches!(self.type_of(&c.range), Type::List(_)), |e| e.list);
        let below = |part: &str| {
            let mut path = self.path(&c.range);
            path.push(part.into());
            path
        };
        let (key, value) = if list { ("@indices", "@items") } else { ("@keys", "@values") };
        let of_key = |name: &Arc<str>| Local {
            name: name.clone(),
            path: below(key),
            size: entries.map(|e| e.key),
            entries: None,
        };
        let of_value = |name: &Arc<str>| Local {
            name: name.clone(),
            path: below(value),
            size: entries.map(|e| e.value),
            entries: None,
        };
        let locals = match &c.var2 {
            Some(second) => vec![of_key(&c.var), of_value(second)],
            None if list => vec![of_value(&c.var)],
            None => vec![of_key(&c.var)],
        };
        self.locals.extend(locals);
    }

    fn call(&mut self, e: &Expr, call: &Call) -> Range {
        if &*call.function == "dyn" && call.target.is_none() && call.args.len() == 1 {
            let cost = self.cost(&call.args[0]);
            self.copy_sizes(e, &call.args[0]);
            return cost.add(Range::fixed(1));
        }
        let arg_costs: Vec<Range> = call.args.iter().map(|a| self.cost(a)).collect();
        let overloads = self.program.checked.overloads[e.id as usize].clone();
        if overloads.is_empty() {
            return Range::ZERO;
        }
        let namespaced = self.program.namespaced.contains(&e.id);
        let target = call.target.as_ref().filter(|_| !namespaced);
        let sum = target.map_or(Range::ZERO, |t| self.cost(t));
        let mut cost = Range { min: u64::MAX, max: 0 };
        let mut size: Option<Range> = None;
        for overload in overloads {
            let one = self.overload(e, call, target, overload, &arg_costs);
            cost = cost.union(one.cost);
            if let Some(s) = one.size {
                size = Some(size.map_or(s, |known| known.union(s)));
            }
            if matches!(&*call.function, op::INDEX | op::OPT_INDEX) {
                size = self.entry_sizes(&call.args[0]).map(|e| e.value);
                let part = if matches!(overload.args.first(), Some(Type::List(_))) { "@items" } else { "@values" };
                let mut path = self.path(&call.args[0]);
                path.push(part.into());
                self.paths.insert(e.id, path);
            }
            if size.is_none() {
                size = self.size(e);
            }
        }
        if let Some(size) = size {
            self.sizes.insert(e.id, size);
        }
        sum.add(cost)
    }

    fn overload(
        &mut self,
        e: &Expr,
        call: &Call,
        target: Option<&Expr>,
        overload: &Overload,
        arg_costs: &[Range],
    ) -> Estimate {
        let all = arg_costs.iter().fold(Range::ZERO, |sum, c| sum.add(*c));
        if let Some(mut known) = self.of_library(call, target) {
            known.cost = known.cost.add(all);
            return known;
        }
        let size = |this: &Self, i: usize| call.args.get(i).map_or(Range::UNKNOWN, |a| this.size_or_unknown(a));
        let first = overload.args.first().unwrap_or(&Type::Dyn);
        match (&*call.function, target) {
            ("format", Some(t)) => {
                let (template, args) = (self.size_or_unknown(t), size(self, 0));
                Estimate { cost: template.scaled(STRING_FACTOR).add(all), size: Some(template.add(args)) }
            }
            ("bytes", None) if *first == Type::String => {
                let s = size(self, 0);
                let four = Range { min: s.min, max: s.max.saturating_mul(4) };
                Estimate { cost: s.scaled(STRING_FACTOR).add(all), size: Some(four) }
            }
            ("string", None) if *first == Type::Bytes => {
                let s = size(self, 0);
                Estimate { cost: s.scaled(STRING_FACTOR).add(all), size: Some(Range { min: s.min / 4, max: s.max }) }
            }
            ("strings.quote", _) => {
                let s = size(self, 0);
                let quoted = Range { min: s.min.saturating_add(2), max: s.max.saturating_mul(2).saturating_add(2) };
                Estimate { cost: s.scaled(STRING_FACTOR).add(all), size: Some(quoted) }
            }
            ("startsWith" | "endsWith", Some(_)) => costs(size(self, 0).scaled(STRING_FACTOR).add(all)),
            (op::IN, _) if matches!(overload.args.get(1), Some(Type::List(_))) => {
                costs(size(self, 1).scaled(1.0).add(all))
            }
            ("matches", Some(t)) => {
                let walk = self.size_or_unknown(t).add(Range::fixed(1)).scaled(STRING_FACTOR);
                costs(walk.times(size(self, 0).scaled(REGEX_FACTOR)).add(all))
            }
            ("contains", Some(t)) => {
                let walk = self.size_or_unknown(t).scaled(STRING_FACTOR);
                costs(walk.times(size(self, 0).scaled(STRING_FACTOR)).add(all))
            }
            (op::AND | op::OR, _) => {
                let (left, right) = (arg_costs[0], arg_costs[1]);
                costs(Range { min: left.min, max: left.add(right).max })
            }
            (op::CONDITIONAL, _) => {
                let s = size(self, 1).union(size(self, 2));
                if let (Some(yes), Some(no)) = (self.entry_sizes(&call.args[1]), self.entry_sizes(&call.args[2])) {
                    self.entries.insert(e.id, yes.union(no));
                }
                Estimate { cost: arg_costs[0].add(arg_costs[1].union(arg_costs[2])), size: Some(s) }
            }
            (op::ADD, _) if matches!(first, Type::String | Type::Bytes | Type::List(_)) => {
                let result = size(self, 0).add(size(self, 1));
                if let (Some(a), Some(b)) = (self.entry_sizes(&call.args[0]), self.entry_sizes(&call.args[1])) {
                    self.entries.insert(e.id, a.union(b));
                }
                let cost = if matches!(first, Type::List(_)) { Range::fixed(1) } else { result.scaled(STRING_FACTOR) };
                Estimate { cost: cost.add(all), size: Some(result) }
            }
            (op::EQUALS | op::NOT_EQUALS, _) => costs(smaller(size(self, 0), size(self, 1)).add(all)),
            (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, _)
                if matches!(first, Type::String | Type::Bytes) =>
            {
                costs(smaller(size(self, 0), size(self, 1)).add(all))
            }
            _ => costs(Range::fixed(1).add(all)),
        }
    }

    /// Kubernetes' own functions, without the costs of their arguments.
    fn of_library(&self, call: &Call, target: Option<&Expr>) -> Option<Estimate> {
        let on = |e: &Expr| self.size_or_unknown(e);
        let arg = |i: usize| call.args.get(i).map(on);
        let one = Some(costs(Range::fixed(1)));
        match (&*call.function, target) {
            ("check", Some(_)) => Some(costs(Range::fixed(CHECK))),
            (
                "serviceAccount" | "path" | "group" | "resource" | "subresource" | "namespace" | "name" | "allowed"
                | "reason" | "error" | "errored",
                Some(_),
            ) => one,
            ("fieldSelector" | "labelSelector", Some(_)) => {
                arg(0).map(|s| costs(Range { min: cost::selector(s.min), max: cost::selector(s.max) }))
            }
            ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(t)) => match self.type_of(t) {
                Type::List(item) => {
                    let mut each = Range::fixed(1);
                    if matches!(**item, Type::String | Type::Bytes) {
                        each = each.add(self.item_size(t).scaled(STRING_FACTOR));
                    }
                    Some(costs(on(t).times(each)))
                }
                _ => Some(costs(on(t).scaled(STRING_FACTOR))),
            },
            ("url" | "jsonpatch.escapeKey", None) => {
                arg(0).map(|s| Estimate { cost: s.scaled(STRING_FACTOR), size: Some(s) })
            }
            ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(t)) => {
                Some(Estimate { cost: on(t).scaled(STRING_FACTOR), size: Some(on(t)) })
            }
            ("replace", Some(t)) => Some(replaced(on(t), arg(0)?, arg(1)?)),
            ("split", Some(t)) => {
                let max = match call.args.get(1).map(|a| &a.kind) {
                    Some(Kind::Const(Const::Int(n))) => *n as u64,
                    _ => on(t).max,
                };
                Some(Estimate { cost: on(t).scaled(2.0 * STRING_FACTOR), size: Some(Range { min: 0, max }) })
            }
            ("join", Some(t)) => {
                let list = on(t);
                let mut size = list.times(self.item_size(t));
                if let Some(separator) = arg(0) {
                    let gaps = Range { min: list.min.saturating_sub(1), max: list.max.saturating_sub(1) };
                    size = size.add(separator.times(gaps));
                }
                Some(Estimate { cost: size.scaled(STRING_FACTOR), size: Some(size) })
            }
            ("find" | "findAll", Some(t)) => {
                let walk = on(t).add(Range::fixed(1)).scaled(STRING_FACTOR);
                let cost = walk.times(arg(0)?.scaled(REGEX_FACTOR));
                Some(Estimate { cost, size: Some(Range { min: 0, max: on(t).max }) })
            }
            ("ip", Some(_)) => one,
            ("cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver", None) => {
                arg(0).map(|s| costs(s.scaled(STRING_FACTOR)))
            }
            ("ip.isCanonical", _) => arg(0).map(|s| costs(s.scaled(2.0 * STRING_FACTOR))),
            ("containsIP" | "containsCIDR", Some(_)) => {
                let address = Range { min: 4, max: 16 };
                let mut cost = address.add(address).scaled(STRING_FACTOR);
                if &*call.function == "containsCIDR" {
                    cost = cost.add(address.scaled(STRING_FACTOR)).add(Range::fixed(1));
                }
                if *self.type_of(&call.args[0]) == Type::String {
                    cost = cost.add(arg(0)?.scaled(STRING_FACTOR));
                }
                Some(costs(cost))
            }
            ("validate", Some(_)) => {
                arg(0).map(|s| costs(s.scaled(STRING_FACTOR).scaled(NAMED_FORMAT_LENGTH_MAX * REGEX_FACTOR)))
            }
            (op::EQUALS, None) => {
                let (Type::Named(left), right) = (self.type_of(&call.args[0]), self.type_of(&call.args[1])) else {
                    return None;
                };
                if !matches!(right, Type::Named(right) if right == left) {
                    return None;
                }
                match &**left {
                    "kubernetes.NamedFormat" => Some(costs(Range { min: 1, max: 64 }.scaled(STRING_FACTOR))),
                    "kubernetes.URL" => {
                        let max = self.size(&call.args[1]).map_or(1, |s| s.max);
                        Some(costs(Range { min: 1, max }.scaled(STRING_FACTOR)))
                    }
                    name if ["kubernetes.", "net.", "authorization."].iter().any(|p| name.starts_with(p)) => one,
                    _ => None,
                }
            }
            ("sets.contains" | "sets.intersects", _) => Some(costs(arg(0)?.times(arg(1)?).add(Range::fixed(1)))),
            ("sets.equivalent", _) => Some(costs(arg(0)?.times(arg(1)?).times(Range::fixed(2)).add(Range::fixed(1)))),
            _ => None,
        }
    }

    /// Of the items of a list.
    fn item_size(&self, list: &Expr) -> Range {
        let mut path = self.path(list);
        if path.is_empty() {
            return self.entry_sizes(list).map_or(Range::UNKNOWN, |e| e.value);
        }
        path.push("@items".into());
        self.by_path(&path).unwrap_or(Range::UNKNOWN)
    }

    /// What the schema says.
    fn by_path(&self, path: &[Arc<str>]) -> Option<Range> {
        (self.size_max)(path).map(|max| Range { min: 0, max })
    }

    fn size(&self, e: &Expr) -> Option<Range> {
        if let Some(size) = self.sizes.get(&e.id) {
            return Some(*size);
        }
        let known = match &e.kind {
            Kind::Const(Const::String(s)) => Some(s.chars().count()),
            Kind::Const(Const::Bytes(b)) => Some(b.len()),
            Kind::Const(_) => Some(1),
            Kind::List { elements, .. } => Some(elements.len()),
            Kind::Map(entries) => Some(entries.len()),
            _ => None,
        };
        if let Some(n) = known {
            return Some(Range::fixed(n as u64));
        }
        if let Some(size) = self.by_path(&self.path(e)) {
            return Some(size);
        }
        let scalar = matches!(
            self.type_of(e),
            Type::Bool | Type::Int | Type::Uint | Type::Double | Type::Timestamp | Type::Duration
        );
        if scalar {
            return Some(Range::fixed(1));
        }
        match &e.kind {
            Kind::Ident(name) => self.local(name).and_then(|l| l.size),
            _ => None,
        }
    }

    fn size_or_unknown(&self, e: &Expr) -> Range {
        self.size(e).unwrap_or(Range::UNKNOWN)
    }

    fn entry_sizes(&self, e: &Expr) -> Option<Entries> {
        if let Some(entries) = self.entries.get(&e.id) {
            return Some(*entries);
        }
        match &e.kind {
            Kind::Ident(name) => self.local(name).and_then(|l| l.entries),
            _ => None,
        }
    }

    fn copy_sizes(&mut self, to: &Expr, from: &Expr) {
        if let Some(size) = self.size(from) {
            self.sizes.insert(to.id, size);
        }
        if let Some(entries) = self.entry_sizes(from) {
            self.entries.insert(to.id, entries);
        }
    }
}

/// Comparing stops at the end of the smaller.
fn smaller(a: Range, b: Range) -> Range {
    let max = a.max.min(b.max);
    Range { min: max.min(1), max }.scaled(STRING_FACTOR)
}

fn replaced(text: Range, old: Range, new: Range) -> Estimate {
    let (mut count, mut kept) = (Range::ZERO, Range::ZERO);
    if old.min == 0 {
        count.max = text.max.saturating_add(1);
        kept.max = text.max;
    } else if new.max <= old.min {
        kept.max = text.max;
    } else {
        count.max = text.max.div_ceil(old.min);
    }
    if old.max == 0 {
        count.min = text.min.saturating_add(1);
        kept.min = text.min;
    } else if old.max <= new.min {
        kept.min = text.min;
    } else {
        count.min = text.min.div_ceil(old.max);
    }
    Estimate { cost: text.scaled(2.0 * STRING_FACTOR), size: Some(count.times(new).add(kept)) }
}
