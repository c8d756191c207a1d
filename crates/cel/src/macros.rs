//! Macros: calls that become other expressions while parsing. Shapes are upstream's, since costs depend on them.

use crate::ast::*;
use crate::parse::Parser;
use crate::source::Issues;
use std::sync::Arc;

pub enum Expansion {
    Done(Expr),
    /// No macro: the parts are given back.
    No(Expr, Vec<Expr>),
}

pub enum Global {
    Done(Expr),
    No(Vec<Expr>),
}

pub fn global(p: &mut Parser<'_>, at: usize, name: &str, mut args: Vec<Expr>) -> Result<Global, Issues> {
    if name != "has" || args.len() != 1 {
        return Ok(Global::No(args));
    }
    let Some(arg) = args.pop() else { return Ok(Global::No(args)) };
    match arg.kind {
        Kind::Select { operand, field, test: false } => {
            Ok(Global::Done(p.node(at, Kind::Select { operand, field, test: true })))
        }
        _ => p.fail(p.offset_of(&arg), "invalid argument to has() macro"),
    }
}

pub fn member(p: &mut Parser<'_>, at: usize, target: Expr, name: &str, args: Vec<Expr>) -> Result<Expansion, Issues> {
    let m = Macro { at };
    let done = match (name, args.len()) {
        ("all", 2) => m.all(p, target, args, 1)?,
        ("all", 3) => m.all(p, target, args, 2)?,
        ("exists", 2) => m.exists(p, target, args, 1)?,
        ("exists", 3) => m.exists(p, target, args, 2)?,
        ("exists_one" | "existsOne", 2) => m.exists_one(p, target, args, 1)?,
        ("exists_one" | "existsOne", 3) => m.exists_one(p, target, args, 2)?,
        ("map", 2 | 3) => m.map(p, target, args, 1)?,
        ("transformList", 3 | 4) => m.map(p, target, args, 2)?,
        ("filter", 2) => m.filter(p, target, args)?,
        ("transformMap", 3 | 4) => m.transform_map(p, target, args)?,
        ("transformMapEntry", 3 | 4) => m.transform_map_entry(p, target, args)?,
        ("optMap", 2) => m.opt_map(p, target, args, true)?,
        ("optFlatMap", 2) => m.opt_map(p, target, args, false)?,
        ("bind", 3) if target.qualified_name().as_deref() == Some("cel") => m.bind(p, args)?,
        _ => return Ok(Expansion::No(target, args)),
    };
    Ok(Expansion::Done(done))
}

struct Macro {
    at: usize,
}

/// Parts of a comprehension with the usual accumulator.
struct Loop {
    range: Expr,
    vars: (Arc<str>, Option<Arc<str>>),
    init: Expr,
    condition: Expr,
    step: Expr,
    result: Expr,
}

impl Macro {
    fn accu(&self, p: &mut Parser<'_>) -> Expr {
        p.node(self.at, Kind::Ident(op::ACCUMULATOR.into()))
    }

    fn constant(&self, p: &mut Parser<'_>, value: Const) -> Expr {
        p.node(self.at, Kind::Const(value))
    }

    fn call(&self, p: &mut Parser<'_>, function: &str, args: Vec<Expr>) -> Expr {
        p.call(self.at, function, args)
    }

    fn list(&self, p: &mut Parser<'_>, elements: Vec<Expr>) -> Expr {
        p.node(self.at, Kind::List { elements, optional: Vec::new() })
    }

    fn fold(&self, p: &mut Parser<'_>, l: Loop) -> Expr {
        let comprehension = Comprehension {
            range: l.range,
            var: l.vars.0,
            var2: l.vars.1,
            accu: op::ACCUMULATOR.into(),
            init: l.init,
            condition: l.condition,
            step: l.step,
            result: l.result,
        };
        p.node(self.at, Kind::Comprehension(Box::new(comprehension)))
    }

    /// Takes the first `count` arguments as names of variables.
    fn variables(
        &self,
        p: &Parser<'_>,
        args: &mut Vec<Expr>,
        count: usize,
    ) -> Result<(Arc<str>, Option<Arc<str>>), Issues> {
        let mut names = Vec::new();
        for e in args.drain(..count) {
            match e.kind {
                Kind::Ident(ref name) if &**name == op::ACCUMULATOR || &**name == "__result__" => {
                    return p.fail(p.offset_of(&e), "iteration variable overwrites accumulator variable");
                }
                Kind::Ident(name) => names.push(name),
                _ => return p.fail(p.offset_of(&e), "argument must be a simple name"),
            }
        }
        let second = if count == 2 { names.pop() } else { None };
        let first = names.pop().unwrap_or_else(|| "_".into());
        if second.as_ref() == Some(&first) {
            return p.fail(self.at, "duplicate variable name: ".to_string() + &first);
        }
        Ok((first, second))
    }

    fn all(&self, p: &mut Parser<'_>, range: Expr, mut args: Vec<Expr>, vars: usize) -> Result<Expr, Issues> {
        let vars = self.variables(p, &mut args, vars)?;
        let Some(predicate) = args.pop() else { return p.fail(self.at, "missing predicate") };
        let init = self.constant(p, Const::Bool(true));
        let accu = self.accu(p);
        let condition = self.call(p, op::NOT_STRICTLY_FALSE, vec![accu]);
        let accu = self.accu(p);
        let step = self.call(p, op::AND, vec![accu, predicate]);
        let result = self.accu(p);
        Ok(self.fold(p, Loop { range, vars, init, condition, step, result }))
    }

    fn exists(&self, p: &mut Parser<'_>, range: Expr, mut args: Vec<Expr>, vars: usize) -> Result<Expr, Issues> {
        let vars = self.variables(p, &mut args, vars)?;
        let Some(predicate) = args.pop() else { return p.fail(self.at, "missing predicate") };
        let init = self.constant(p, Const::Bool(false));
        let accu = self.accu(p);
        let not = self.call(p, op::NOT, vec![accu]);
        let condition = self.call(p, op::NOT_STRICTLY_FALSE, vec![not]);
        let accu = self.accu(p);
        let step = self.call(p, op::OR, vec![accu, predicate]);
        let result = self.accu(p);
        Ok(self.fold(p, Loop { range, vars, init, condition, step, result }))
    }

    fn exists_one(&self, p: &mut Parser<'_>, range: Expr, mut args: Vec<Expr>, vars: usize) -> Result<Expr, Issues> {
        let vars = self.variables(p, &mut args, vars)?;
        let Some(predicate) = args.pop() else { return p.fail(self.at, "missing predicate") };
        let init = self.constant(p, Const::Int(0));
        let condition = self.constant(p, Const::Bool(true));
        let (accu, one) = (self.accu(p), self.constant(p, Const::Int(1)));
        let more = self.call(p, op::ADD, vec![accu, one]);
        let accu = self.accu(p);
        let step = self.call(p, op::CONDITIONAL, vec![predicate, more, accu]);
        let (accu, one) = (self.accu(p), self.constant(p, Const::Int(1)));
        let result = self.call(p, op::EQUALS, vec![accu, one]);
        Ok(self.fold(p, Loop { range, vars, init, condition, step, result }))
    }

    /// `accu + [transform]`, where the filter, if any, holds.
    fn map(&self, p: &mut Parser<'_>, range: Expr, mut args: Vec<Expr>, vars: usize) -> Result<Expr, Issues> {
        let vars = self.variables(p, &mut args, vars)?;
        let Some(transform) = args.pop() else { return p.fail(self.at, "missing transform") };
        let init = self.list(p, Vec::new());
        let condition = self.constant(p, Const::Bool(true));
        let (accu, one) = (self.accu(p), self.list(p, vec![transform]));
        let step = self.call(p, op::ADD, vec![accu, one]);
        let step = self.filtered(p, args.pop(), step);
        let result = self.accu(p);
        Ok(self.fold(p, Loop { range, vars, init, condition, step, result }))
    }

    fn filtered(&self, p: &mut Parser<'_>, filter: Option<Expr>, step: Expr) -> Expr {
        match filter {
            None => step,
            Some(filter) => {
                let accu = self.accu(p);
                self.call(p, op::CONDITIONAL, vec![filter, step, accu])
            }
        }
    }

    fn filter(&self, p: &mut Parser<'_>, range: Expr, mut args: Vec<Expr>) -> Result<Expr, Issues> {
        let vars = self.variables(p, &mut args, 1)?;
        let name = vars.0.clone();
        let Some(predicate) = args.pop() else { return p.fail(self.at, "missing predicate") };
        let init = self.list(p, Vec::new());
        let condition = self.constant(p, Const::Bool(true));
        let element = p.node(self.at, Kind::Ident(name));
        let (accu, one) = (self.accu(p), self.list(p, vec![element]));
        let step = self.call(p, op::ADD, vec![accu, one]);
        let step = self.filtered(p, Some(predicate), step);
        let result = self.accu(p);
        Ok(self.fold(p, Loop { range, vars, init, condition, step, result }))
    }

    fn transform_map(&self, p: &mut Parser<'_>, range: Expr, mut args: Vec<Expr>) -> Result<Expr, Issues> {
        let vars = self.variables(p, &mut args, 2)?;
        let Some(transform) = args.pop() else { return p.fail(self.at, "missing transform") };
        let init = p.node(self.at, Kind::Map(Vec::new()));
        let condition = self.constant(p, Const::Bool(true));
        let key = p.node(self.at, Kind::Ident(vars.0.clone()));
        let accu = self.accu(p);
        let step = self.call(p, op::MAP_INSERT, vec![accu, key, transform]);
        let step = self.filtered(p, args.pop(), step);
        let result = self.accu(p);
        Ok(self.fold(p, Loop { range, vars, init, condition, step, result }))
    }

    fn transform_map_entry(&self, p: &mut Parser<'_>, range: Expr, mut args: Vec<Expr>) -> Result<Expr, Issues> {
        let vars = self.variables(p, &mut args, 2)?;
        let Some(transform) = args.pop() else { return p.fail(self.at, "missing transform") };
        let init = p.node(self.at, Kind::Map(Vec::new()));
        let condition = self.constant(p, Const::Bool(true));
        let accu = self.accu(p);
        let step = self.call(p, op::MAP_INSERT, vec![accu, transform]);
        let step = self.filtered(p, args.pop(), step);
        let result = self.accu(p);
        Ok(self.fold(p, Loop { range, vars, init, condition, step, result }))
    }

    /// `bind(@t, target, @t.hasValue() ? optional.of(bind(v, @t.value(), transform)) : optional.none())`
    // Differs from upstream: the target is bound first. Upstream repeats it, and a chain of these grows without bound.
    fn opt_map(&self, p: &mut Parser<'_>, target: Expr, mut args: Vec<Expr>, wrap: bool) -> Result<Expr, Issues> {
        let (name, _) = self.variables(p, &mut args, 1)?;
        let Some(transform) = args.pop() else { return p.fail(self.at, "missing transform") };
        let held: Arc<str> = "@target".into();
        let on = |p: &mut Parser<'_>, function: &str| {
            let target = p.node(self.at, Kind::Ident(held.clone()));
            let call = Call { function: function.into(), target: Some(target), args: Vec::new() };
            p.node(self.at, Kind::Call(Box::new(call)))
        };
        let asked = on(p, "hasValue");
        let value = on(p, "value");
        let bound = self.bound(p, name, value, transform);
        let some = if wrap { self.call(p, "optional.of", vec![bound]) } else { bound };
        let none = self.call(p, "optional.none", Vec::new());
        let chosen = self.call(p, op::CONDITIONAL, vec![asked, some, none]);
        Ok(self.bound(p, held, target, chosen))
    }

    fn bind(&self, p: &mut Parser<'_>, mut args: Vec<Expr>) -> Result<Expr, Issues> {
        let (name, _) = self.variables(p, &mut args, 1)?;
        let (Some(result), Some(value)) = (args.pop(), args.pop()) else { return p.fail(self.at, "missing arguments") };
        Ok(self.bound(p, name, value, result))
    }

    /// A loop over nothing, whose accumulator is the variable.
    fn bound(&self, p: &mut Parser<'_>, name: Arc<str>, value: Expr, result: Expr) -> Expr {
        let range = self.list(p, Vec::new());
        let condition = self.constant(p, Const::Bool(false));
        let step = p.node(self.at, Kind::Ident(name.clone()));
        let comprehension = Comprehension {
            range,
            var: "#unused".into(),
            var2: None,
            accu: name,
            init: value,
            condition,
            step,
            result,
        };
        p.node(self.at, Kind::Comprehension(Box::new(comprehension)))
    }
}
