//! Runs compiled expressions, and stops those that cost too much.
//!
//! Costs are counted as upstream counts them (KEP-2876): one for a name, a selection or a call, more where a call
//! walks over text or lists. Over and above, work that upstream takes for free but that is not bounded by what the
//! expression paid (comparing values that share parts, long results) is limited.

use crate::ast::*;
use crate::authorizer::{Answers, Check};
use crate::library::Function;
use crate::program::Program;
use crate::value::*;
use regex::Regex;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Upstream's limit for one expression.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// Upstream's limit for all rules of a custom resource that one write makes run.
pub const RULES_BUDGET: i64 = 10_000_000;
/// Upstream's limit for all expressions of one policy with one binding, and for all match conditions of a webhook.
pub const POLICY_BUDGET: i64 = 10_000_000;
/// Steps of comparisons that a million of cost buys.
const FREE_STEPS: u64 = 2_000_000;

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// As upstream words it: `no such key: x`, `division by zero`.
    #[error("{0}")]
    Failed(String),
    /// The expression costs more than one may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CallCost,
    /// All expressions together cost more than they may.
    #[error("validation failed due to running out of cost budget, no further validation rules will be run")]
    Budget,
    /// The answer of an authorizer is needed; see [`crate::authorizer`].
    #[error("an authorizer has to be asked")]
    Unanswered(Box<Check>),
}

impl EvalError {
    pub fn new(message: impl Into<String>) -> EvalError {
        EvalError::Failed(message.into())
    }

    /// Neither `||` nor `&&` may hide it.
    fn ends_all(&self) -> bool {
        !matches!(self, EvalError::Failed(_))
    }
}

pub fn no_overload<T>() -> Result<T, EvalError> {
    Err(EvalError::new("no such overload"))
}

pub type Evaluated<'v> = Result<Value<'v>, EvalError>;

/// What all expressions of one kind of one request may cost together.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub remaining: i64,
}

impl Budget {
    pub fn new(cost: i64) -> Budget {
        Budget { remaining: cost }
    }
}

/// Variables of an evaluation.
#[derive(Default)]
pub struct Vars<'v> {
    values: Vec<(&'static str, Value<'v>)>,
    lazy: Option<Lazy<'v>>,
    answers: Option<&'v Answers>,
}

/// `variables.NAME`: expressions that are computed when they are first used.
struct Lazy<'v> {
    programs: &'v [(Arc<str>, Result<Program, String>)],
    memo: RefCell<HashMap<Arc<str>, Memo<'v>>>,
}

enum Memo<'v> {
    Running,
    Done(Evaluated<'v>),
}

impl<'v> Vars<'v> {
    pub fn new() -> Vars<'v> {
        Vars::default()
    }

    pub fn with(mut self, name: &'static str, value: Value<'v>) -> Vars<'v> {
        self.values.push((name, value));
        self
    }

    /// Adds `variables`, whose entries are these programs.
    pub fn with_variables(mut self, programs: &'v [(Arc<str>, Result<Program, String>)]) -> Vars<'v> {
        self.values.push(("variables", Value::Map(Map::Lazy)));
        self.lazy = Some(Lazy { programs, memo: RefCell::default() });
        self
    }

    /// Adds `authorizer`, which knows these answers.
    pub fn with_authorizer(mut self, answers: &'v Answers) -> Vars<'v> {
        self.answers = Some(answers);
        self.with("authorizer", Value::Check(Arc::default()))
    }

    fn get(&self, name: &str) -> Option<&Value<'v>> {
        self.values.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| v)
    }
}

/// Evaluates `program`, which may cost [`PER_CALL_LIMIT`] and not more than what is left of `budget`.
pub fn eval<'v>(program: &Program, vars: &Vars<'v>, budget: &mut Budget) -> Evaluated<'v> {
    let limit = PER_CALL_LIMIT.min(budget.remaining.max(0) as u64);
    let mut frame = Frame { program, vars, locals: Vec::new(), cost: 0, limit, steps: FREE_STEPS };
    let mut result = frame.eval(&program.ast.root);
    if result == Err(EvalError::CallCost) && limit < PER_CALL_LIMIT {
        result = Err(EvalError::Budget);
    }
    budget.remaining = budget.remaining.saturating_sub_unsigned(frame.cost);
    result
}

impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        equal(self, other, &mut u64::MAX.clone()).unwrap_or(false)
    }
}

pub struct Frame<'a, 'v> {
    program: &'a Program,
    pub vars: &'a Vars<'v>,
    locals: Vec<(Arc<str>, Value<'v>)>,
    cost: u64,
    limit: u64,
    steps: u64,
}

impl<'v> Frame<'_, 'v> {
    pub fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit { Err(EvalError::CallCost) } else { Ok(()) }
    }

    /// There must be room for a result of this many bytes or items, before it is made.
    pub fn room(&mut self, len: u64) -> Result<(), EvalError> {
        if self.cost.saturating_add(len / 10) > self.limit { Err(EvalError::CallCost) } else { Ok(()) }
    }

    pub fn equal(&mut self, a: &Value<'v>, b: &Value<'v>) -> Result<bool, EvalError> {
        equal(a, b, &mut self.steps).map_err(|TooLarge| EvalError::CallCost)
    }

    pub fn contains(&mut self, list: &List<'v>, wanted: &Value<'v>) -> Result<bool, EvalError> {
        contains(list, wanted, &mut self.steps).map_err(|TooLarge| EvalError::CallCost)
    }

    pub fn same_keys(&mut self, a: &Value<'v>, b: &Value<'v>, keys: &[Arc<str>]) -> Result<bool, EvalError> {
        same_keys(a, b, keys, &mut self.steps).map_err(|TooLarge| EvalError::CallCost)
    }

    /// Copying and walking that costs nothing by upstream's rules.
    pub fn step(&mut self, count: u64) -> Result<(), EvalError> {
        self.steps = self.steps.checked_sub(count).ok_or(EvalError::CallCost)?;
        Ok(())
    }

    pub fn answers(&self) -> Option<&'v Answers> {
        self.vars.answers
    }

    /// A pattern, compiled with the program when it is a literal.
    pub fn regex(&self, pattern: &str) -> Result<Regex, EvalError> {
        match self.program.patterns.get(pattern) {
            Some(regex) => Ok(regex.clone()),
            None => crate::pattern::compile(pattern).map_err(|e| EvalError::new(format!("error parsing regexp: {e}"))),
        }
    }

    fn eval(&mut self, e: &Expr) -> Evaluated<'v> {
        match &e.kind {
            Kind::Const(c) => Ok(constant(c)),
            Kind::Ident(name) => self.ident(e, name),
            Kind::Select { operand, field, test } => self.select(e, operand, field, *test),
            Kind::Call(call) => self.call(e, call),
            Kind::List { elements, optional } => self.list(elements, optional),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { name, fields } => self.structure(name, fields),
            Kind::Comprehension(c) => self.comprehension(c),
        }
    }

    fn ident(&mut self, e: &Expr, name: &str) -> Evaluated<'v> {
        self.charge(1)?;
        if let Some((_, v)) = self.locals.iter().rev().find(|(n, _)| &**n == name) {
            return match v {
                Value::Failed(why) => Err(EvalError::new(&**why)),
                v => Ok(v.clone()),
            };
        }
        if let Some(t) = self.program.type_names.get(&e.id) {
            return Ok(Value::Type(Str::Shared(t.clone())));
        }
        match self.vars.get(name) {
            Some(v) => Ok(v.clone()),
            None => Err(EvalError::new(format!("no such attribute(s): {name}"))),
        }
    }

    fn select(&mut self, e: &Expr, operand: &Expr, field: &Arc<str>, test: bool) -> Evaluated<'v> {
        if let Some(t) = self.program.type_names.get(&e.id) {
            self.charge(1)?;
            return Ok(Value::Type(Str::Shared(t.clone())));
        }
        let target = self.eval(operand)?;
        if test {
            return self.presence(target, field);
        }
        self.charge(1)?;
        self.field(target, field)
    }

    fn presence(&mut self, target: Value<'v>, field: &Arc<str>) -> Evaluated<'v> {
        match target {
            Value::Map(Map::Lazy) => Ok(Value::Bool(self.lazy(field).is_some())),
            Value::Map(m) => Ok(Value::Bool(m.field(field).is_some())),
            Value::Struct(s) => Ok(Value::Bool(s.fields.contains_key(field))),
            Value::Optional(None) => Ok(Value::Bool(false)),
            Value::Optional(Some(v)) => self.presence(v.as_ref().clone(), field),
            Value::List(_) => Err(EvalError::new("unsupported index type 'string' in list")),
            // Nothing else has members.
            _ => Ok(Value::Bool(false)),
        }
    }

    /// `target.field`
    fn field(&mut self, target: Value<'v>, field: &Arc<str>) -> Evaluated<'v> {
        match &target {
            Value::Map(Map::Lazy) => match self.lazy(field) {
                Some(v) => v,
                None => Err(EvalError::new(format!("no such key: {field}"))),
            },
            Value::Optional(_) => self.optional_field(target, field),
            Value::Check(_) if &**field == "requestResource" => match self.vars.get("authorizer.requestResource") {
                Some(v) => Ok(v.clone()),
                None => no_overload(),
            },
            _ => match member(&target, field)? {
                Some(v) => Ok(v),
                None => Err(EvalError::new(format!("no such key: {field}"))),
            },
        }
    }

    /// `target.?field`
    fn optional_field(&mut self, target: Value<'v>, field: &Arc<str>) -> Evaluated<'v> {
        let target = match target {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(v)) => v.as_ref().clone(),
            v => v,
        };
        if let Value::Map(Map::Lazy) = target {
            return Ok(match self.lazy(field) {
                Some(v) => Value::some(v?),
                None => Value::Optional(None),
            });
        }
        if !matches!(target, Value::Map(_) | Value::Struct(_) | Value::List(_)) {
            return Ok(Value::Optional(None));
        }
        Ok(match member(&target, field)? {
            Some(v) => Value::some(v),
            None => Value::Optional(None),
        })
    }

    /// `variables.name`, computed at its first use.
    fn lazy(&mut self, name: &Arc<str>) -> Option<Evaluated<'v>> {
        let lazy = self.vars.lazy.as_ref()?;
        match lazy.memo.borrow().get(name) {
            Some(Memo::Done(v)) => return Some(v.clone()),
            // The checker lets a variable see only those before it.
            Some(Memo::Running) => return Some(Err(EvalError::new(format!("variable {name} refers to itself")))),
            None => {}
        }
        let (_, program) = lazy.programs.iter().find(|(n, _)| n == name)?;
        let program = match program {
            Ok(p) => p,
            Err(why) => return Some(Err(EvalError::new(why.clone()))),
        };
        lazy.memo.borrow_mut().insert(name.clone(), Memo::Running);
        let (limit, cost, steps) = (self.limit, self.cost, self.steps);
        let mut inner = Frame { program, vars: self.vars, locals: Vec::new(), cost, limit, steps };
        let result = inner.eval(&program.ast.root);
        (self.cost, self.steps) = (inner.cost, inner.steps);
        lazy.memo.borrow_mut().insert(name.clone(), Memo::Done(result.clone()));
        Some(result)
    }

    fn list(&mut self, elements: &[Expr], optional: &[usize]) -> Evaluated<'v> {
        let mut items = Vec::with_capacity(elements.len());
        for (i, e) in elements.iter().enumerate() {
            let v = self.eval(e)?;
            if !optional.contains(&i) {
                items.push(v);
                continue;
            }
            match v {
                Value::Optional(None) => {}
                Value::Optional(Some(v)) => items.push(v.as_ref().clone()),
                _ => return no_overload(),
            }
        }
        self.charge(10)?;
        Ok(Value::list(items))
    }

    fn map(&mut self, entries: &[Entry]) -> Evaluated<'v> {
        let mut map = BTreeMap::new();
        for entry in entries {
            let key = self.eval(&entry.key)?;
            let Some(key) = Key::of(&key).filter(|_| !matches!(key, Value::Double(_))) else {
                return Err(EvalError::new(format!("unsupported key type: {}", key.type_name())));
            };
            let mut value = self.eval(&entry.value)?;
            if entry.optional {
                match value {
                    Value::Optional(None) => continue,
                    Value::Optional(Some(v)) => value = v.as_ref().clone(),
                    _ => return no_overload(),
                }
            }
            let shown = key.text();
            if map.insert(key, value).is_some() {
                return Err(EvalError::new(format!("Failed with repeated key: {shown}")));
            }
        }
        self.charge(30)?;
        Ok(Value::map(map))
    }

    fn structure(&mut self, name: &Arc<str>, fields: &[Field]) -> Evaluated<'v> {
        let mut made = BTreeMap::new();
        for field in fields {
            let mut value = self.eval(&field.value)?;
            if field.optional {
                match value {
                    Value::Optional(None) => continue,
                    Value::Optional(Some(v)) => value = v.as_ref().clone(),
                    _ => return no_overload(),
                }
            }
            made.insert(field.name.clone(), value);
        }
        self.charge(40)?;
        Ok(Value::Struct(Arc::new(Struct { name: name.clone(), fields: made })))
    }

    fn call(&mut self, e: &Expr, call: &Call) -> Evaluated<'v> {
        match &*call.function {
            op::AND => return self.logic(&call.args, false),
            op::OR => return self.logic(&call.args, true),
            op::CONDITIONAL => {
                return match self.eval(&call.args[0])? {
                    Value::Bool(true) => self.eval(&call.args[1]),
                    Value::Bool(false) => self.eval(&call.args[2]),
                    _ => no_overload(),
                };
            }
            op::NOT_STRICTLY_FALSE => {
                return match self.eval(&call.args[0]) {
                    Ok(Value::Bool(b)) => Ok(Value::Bool(b)),
                    Err(e) if e.ends_all() => Err(e),
                    _ => Ok(Value::Bool(true)),
                };
            }
            op::OPT_SELECT => {
                let target = self.eval(&call.args[0])?;
                self.charge(1)?;
                let Some(field) = call.args[1].as_str() else { return no_overload() };
                return self.optional_field(target, field);
            }
            op::INDEX | op::OPT_INDEX => return self.index(call),
            "or" | "orValue" if call.target.is_some() && call.args.len() == 1 => return self.alternative(call),
            _ => {}
        }
        self.function(e, call)
    }

    fn function(&mut self, e: &Expr, call: &Call) -> Evaluated<'v> {
        let Some(function) = self.program.functions[e.id as usize] else { return no_overload() };
        let mut args = Vec::with_capacity(call.args.len() + 1);
        if let Some(target) = &call.target
            && !self.program.namespaced.contains(&e.id)
        {
            args.push(self.eval(target)?);
        }
        for arg in &call.args {
            args.push(self.eval(arg)?);
        }
        self.run(function, args)
    }

    pub fn run(&mut self, function: &'static Function, args: Vec<Value<'v>>) -> Evaluated<'v> {
        self.charge(crate::cost::of_call(function.name, &args))?;
        (function.run)(self, &args)
    }

    /// `&&` (`decisive` false) and `||` (true): the decisive value wins over an error on the other side.
    fn logic(&mut self, args: &[Expr], decisive: bool) -> Evaluated<'v> {
        let left = match self.eval(&args[0]) {
            Ok(Value::Bool(b)) if b == decisive => return Ok(Value::Bool(b)),
            Ok(Value::Bool(_)) => None,
            Ok(_) => Some(EvalError::new("no such overload")),
            Err(e) if e.ends_all() => return Err(e),
            Err(e) => Some(e),
        };
        let right = match self.eval(&args[1]) {
            Ok(Value::Bool(b)) if b == decisive => return Ok(Value::Bool(b)),
            Ok(Value::Bool(_)) => None,
            Ok(_) => Some(EvalError::new("no such overload")),
            Err(e) if e.ends_all() => return Err(e),
            Err(e) => Some(e),
        };
        match left.or(right) {
            Some(e) => Err(e),
            None => Ok(Value::Bool(!decisive)),
        }
    }

    fn alternative(&mut self, call: &Call) -> Evaluated<'v> {
        let Some(target) = &call.target else { return no_overload() };
        let target = self.eval(target)?;
        self.charge(1)?;
        match (target, &*call.function) {
            (Value::Optional(Some(v)), "orValue") => Ok(v.as_ref().clone()),
            (v @ Value::Optional(Some(_)), _) => Ok(v),
            (Value::Optional(None), _) => self.eval(&call.args[0]),
            _ => no_overload(),
        }
    }

    fn index(&mut self, call: &Call) -> Evaluated<'v> {
        let optional = &*call.function == op::OPT_INDEX;
        let mut target = self.eval(&call.args[0])?;
        let index = self.eval(&call.args[1])?;
        self.charge(1)?;
        let mut wrap = optional;
        if let Value::Optional(inner) = target {
            let Some(inner) = inner else { return Ok(Value::Optional(None)) };
            target = inner.as_ref().clone();
            wrap = true;
        }
        let found = match (&target, &index) {
            (Value::List(list), i) => {
                let at = match Key::of(i) {
                    Some(Key::Int(i)) => usize::try_from(i).ok(),
                    Some(Key::Uint(u)) => usize::try_from(u).ok(),
                    _ => return Err(EvalError::new(format!("unsupported index type '{}' in list", i.type_name()))),
                };
                at.and_then(|at| list.get(at)).ok_or_else(|| format!("index out of bounds: {}", shown(i)))
            }
            (Value::Map(Map::Lazy), Value::String(name)) => match self.lazy(&Arc::from(&**name)) {
                Some(v) => Ok(v?),
                None => Err(format!("no such key: {}", &**name)),
            },
            (Value::Map(map), key) => match Key::of(key) {
                Some(k) => map.get(&k).ok_or_else(|| format!("no such key: {}", k.text())),
                None => return Err(EvalError::new(format!("unsupported key type: {}", key.type_name()))),
            },
            (Value::Struct(s), Value::String(name)) => {
                s.fields.get(&**name).cloned().ok_or_else(|| format!("no such key: {}", &**name))
            }
            (Value::Struct(_), _) => return no_overload(),
            _ if wrap => return Ok(Value::Optional(None)),
            _ => return no_overload(),
        };
        match found {
            Ok(v) if wrap => Ok(Value::some(v)),
            Ok(v) => Ok(v),
            Err(_) if wrap => Ok(Value::Optional(None)),
            Err(e) => Err(EvalError::new(e)),
        }
    }

    fn comprehension(&mut self, c: &Comprehension) -> Evaluated<'v> {
        let range = self.eval(&c.range)?;
        let depth = self.locals.len();
        let accu = self.eval(&c.init)?;
        self.locals.push((c.accu.clone(), accu));
        let result = self.iterate(c, &range, depth);
        self.locals.truncate(depth + 1);
        let result = result.and_then(|()| self.eval(&c.result));
        self.locals.truncate(depth);
        result
    }

    fn iterate(&mut self, c: &Comprehension, range: &Value<'v>, depth: usize) -> Result<(), EvalError> {
        let two = c.var2.is_some();
        match range {
            Value::List(list) => {
                for i in 0..list.len() {
                    let Some(item) = list.get(i) else { break };
                    let (first, second) = if two { (Value::Int(i as i64), Some(item)) } else { (item, None) };
                    if !self.turn(c, depth, first, second)? {
                        break;
                    }
                }
                Ok(())
            }
            Value::Map(map) => {
                let keys = map.keys();
                self.step(keys.len() as u64)?;
                for key in keys {
                    let value = if two { map.get(&key) } else { None };
                    if !self.turn(c, depth, key.value(), value)? {
                        break;
                    }
                }
                Ok(())
            }
            _ => no_overload(),
        }
    }

    /// One turn of a loop; false ends it.
    fn turn(
        &mut self,
        c: &Comprehension,
        depth: usize,
        first: Value<'v>,
        second: Option<Value<'v>>,
    ) -> Result<bool, EvalError> {
        self.step(1)?;
        self.locals.truncate(depth + 1);
        self.locals.push((c.var.clone(), first));
        if let (Some(name), Some(v)) = (&c.var2, second) {
            self.locals.push((name.clone(), v));
        }
        match self.eval(&c.condition) {
            Ok(Value::Bool(true)) => {}
            Ok(_) => return Ok(false),
            Err(e) => return Err(e),
        }
        let next = match self.grow(c, depth) {
            Some(grown) => {
                grown?;
                return Ok(true);
            }
            None => self.eval(&c.step),
        };
        // `all` and `exists` go on after an error: a later item may decide.
        match next {
            Ok(v) => self.locals[depth].1 = v,
            Err(e) if e.ends_all() => return Err(e),
            Err(EvalError::Failed(why)) if matches!(c.init.kind, Kind::Const(Const::Bool(_))) => {
                self.locals[depth].1 = Value::Failed(why.into());
            }
            Err(e) => return Err(e),
        }
        Ok(true)
    }

    /// Steps of `map`, `filter` and the transforms, whose accumulator is extended in place: building a new list for
    /// each item would take quadratic time.
    fn grow(&mut self, c: &Comprehension, depth: usize) -> Option<Result<(), EvalError>> {
        let is_accu = |e: &Expr| matches!(&e.kind, Kind::Ident(n) if *n == c.accu && &**n == op::ACCUMULATOR);
        let Kind::Call(step) = &c.step.kind else { return None };
        let (filter, step) = match &*step.function {
            op::CONDITIONAL if is_accu(&step.args[2]) => match &step.args[1].kind {
                Kind::Call(inner) => (Some(&step.args[0]), inner),
                _ => return None,
            },
            _ => (None, step),
        };
        if !step.args.first().is_some_and(is_accu) {
            return None;
        }
        let append = match &step.args.get(1)?.kind {
            Kind::List { elements, optional } if &*step.function == op::ADD && optional.is_empty() => elements.first(),
            _ if &*step.function == op::MAP_INSERT => None,
            _ => return None,
        };
        if let Some(filter) = filter {
            match self.eval(filter) {
                Ok(Value::Bool(true)) => {}
                Ok(Value::Bool(false)) => return Some(self.charge(1)),
                Ok(_) => return Some(no_overload()),
                Err(e) => return Some(Err(e)),
            }
        }
        Some(match append {
            Some(element) => self.append(element, depth),
            None => self.insert(&step.args[1..], depth),
        })
    }

    fn append(&mut self, element: &Expr, depth: usize) -> Result<(), EvalError> {
        let v = self.eval(element)?;
        // The accumulator's name, the list of one, the addition.
        self.charge(12)?;
        match &mut self.locals[depth].1 {
            Value::List(List::Owned(items)) => Arc::make_mut(items).push(v),
            _ => return no_overload(),
        }
        Ok(())
    }

    fn insert(&mut self, args: &[Expr], depth: usize) -> Result<(), EvalError> {
        let mut given = Vec::new();
        for arg in args {
            given.push(self.eval(arg)?);
        }
        self.charge(2)?;
        let entries = match given.as_slice() {
            [key, value] => match Key::of(key) {
                Some(k) => vec![(k, value.clone())],
                None => return Err(EvalError::new(format!("unsupported key type: {}", key.type_name()))),
            },
            [Value::Map(map)] => map.keys().into_iter().filter_map(|k| map.get(&k).map(|v| (k, v))).collect(),
            _ => return no_overload(),
        };
        self.step(entries.len() as u64)?;
        let Value::Map(Map::Owned(map)) = &mut self.locals[depth].1 else { return no_overload() };
        let map = Arc::make_mut(map);
        for (key, value) in entries {
            let shown = key.text();
            if map.insert(key, value).is_some() {
                return Err(EvalError::new(format!("insert failed: key {shown} already exists")));
            }
        }
        Ok(())
    }
}

fn constant<'v>(c: &Const) -> Value<'v> {
    match c {
        Const::Null => Value::Null,
        Const::Bool(b) => Value::Bool(*b),
        Const::Int(i) => Value::Int(*i),
        Const::Uint(u) => Value::Uint(*u),
        Const::Double(d) => Value::Double(*d),
        Const::String(s) => Value::String(Str::Shared(s.clone())),
        Const::Bytes(b) => Value::Bytes(b.clone()),
    }
}

fn shown(v: &Value<'_>) -> String {
    Key::of(v).map_or_else(|| v.type_name().to_string(), |k| k.text())
}

/// A field of a map or object; None: it has none of that name.
fn member<'v>(target: &Value<'v>, field: &str) -> Result<Option<Value<'v>>, EvalError> {
    match target {
        Value::Map(m) => Ok(m.field(field)),
        Value::Struct(s) => Ok(s.fields.get(field).cloned()),
        Value::Null => Err(EvalError::new(format!("no such key: {field}"))),
        other => Err(EvalError::new(format!("unsupported type for field selection: {}", other.type_name()))),
    }
}
