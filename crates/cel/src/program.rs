//! Text to something that runs: parse, check, look functions up, compile literal patterns.

use crate::ast::{Ast, Expr, Id, Kind, op};
use crate::check::{self, Checked};
use crate::env::Env;
use crate::library::{self, Function};
use crate::parse::parse;
use crate::source::Issues;
use crate::types::Type;
use regex::Regex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A compiled expression. Immutable; evaluate it as often as needed, from any thread.
#[derive(Clone)]
pub struct Program {
    pub(crate) ast: Ast,
    pub(crate) checked: Checked,
    /// By node.
    pub(crate) functions: Vec<Option<&'static Function>>,
    pub(crate) namespaced: HashSet<Id>,
    pub(crate) type_names: HashMap<Id, Arc<str>>,
    pub(crate) patterns: HashMap<String, Regex>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Program").field(&self.ast.source).finish()
    }
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CompileError {
    /// As upstream's `compilation failed: ERROR: <input>:1:1: ...`.
    #[error("compilation failed: {0}")]
    Issues(Issues),
    /// Of another type than wanted; `(wanted, got)`.
    #[error("{}", wrong_type(.0, .1))]
    WrongType(Vec<Type>, Type),
}

fn wrong_type(wanted: &[Type], got: &Type) -> String {
    match wanted {
        [one] => format!("must evaluate to {one} but got {got}"),
        many => format!("must evaluate to one of [{}]", many.iter().map(Type::to_string).collect::<Vec<_>>().join(" ")),
    }
}

/// Compiles `text`. `wanted`: types that the result may have; empty for any.
pub fn compile(text: &str, env: &Env, wanted: &[Type]) -> Result<Program, CompileError> {
    let ast = parse(text).map_err(CompileError::Issues)?;
    let checked = check::check(&ast, env).map_err(CompileError::Issues)?;
    let got = checked.of(&ast.root);
    if !wanted.is_empty() && !wanted.contains(got) {
        return Err(CompileError::WrongType(wanted.to_vec(), got.clone()));
    }
    let mut program = Program {
        functions: vec![None; ast.offsets.len()],
        namespaced: checked.namespaced.keys().copied().collect(),
        type_names: checked.type_names.iter().map(|(id, t)| (*id, runtime_name(t).into())).collect(),
        patterns: HashMap::new(),
        checked,
        ast,
    };
    program.look_up();
    Ok(program)
}

impl Program {
    pub fn source(&self) -> &str {
        &self.ast.source
    }

    pub fn result_type(&self) -> &Type {
        self.checked.of(&self.ast.root)
    }

    /// The expression mentions this variable of its environment.
    pub fn uses(&self, variable: &str) -> bool {
        self.checked.used.iter().any(|v| &**v == variable)
    }

    /// The expression reads this field of this variable, as `variable.field`, `has(variable.field)` or `variable.?field`.
    pub fn selects(&self, variable: &str, field: &str) -> bool {
        let is_variable = |e: &Expr| matches!(&e.kind, Kind::Ident(name) if **name == *variable);
        let mut all = vec![&self.ast.root];
        while let Some(e) = all.pop() {
            let found = match &e.kind {
                Kind::Select { operand, field: f, .. } => **f == *field && is_variable(operand),
                Kind::Call(call) => match (&*call.function, call.args.as_slice()) {
                    (op::OPT_SELECT, [operand, f]) => f.as_str().is_some_and(|f| **f == *field) && is_variable(operand),
                    _ => false,
                },
                _ => false,
            };
            if found {
                return true;
            }
            all.extend(e.children());
        }
        false
    }

    fn look_up(&mut self) {
        let mut all = vec![&self.ast.root];
        while let Some(e) = all.pop() {
            if let Kind::Call(call) = &e.kind {
                let named = self.checked.namespaced.get(&e.id).copied();
                self.functions[e.id as usize] = named.or_else(|| library::function(&call.function));
                let pattern = match (&*call.function, call.args.as_slice()) {
                    ("matches", [p]) | ("matches", [_, p]) | ("find" | "findAll", [p, ..]) => p.as_str(),
                    _ => None,
                };
                if let Some(pattern) = pattern
                    && let Ok(regex) = crate::pattern::compile(pattern)
                {
                    self.patterns.insert(pattern.to_string(), regex);
                }
            }
            all.extend(e.children());
        }
    }
}

/// The name of a type as `string(type(x))` would show it.
fn runtime_name(t: &Type) -> String {
    match t {
        Type::Null => "null_type".to_string(),
        Type::Timestamp => "google.protobuf.Timestamp".to_string(),
        Type::Duration => "google.protobuf.Duration".to_string(),
        Type::List(_) => "list".to_string(),
        Type::Map(..) => "map".to_string(),
        Type::Optional(_) => "optional_type".to_string(),
        Type::Type(_) => "type".to_string(),
        t => t.to_string(),
    }
}
