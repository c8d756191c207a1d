//! What an expression may mention: variables with their types, named types, optional libraries.

use crate::library::Function;
use crate::types::{Provider, Type};
use std::sync::Arc;

/// The environment that an expression is compiled in. Cheap to copy.
#[derive(Clone, Default)]
pub struct Env {
    variables: Vec<(Arc<str>, Type)>,
    providers: Vec<Arc<dyn Provider>>,
    constructible: Option<fn(&str) -> bool>,
    json_patch: bool,
}

impl Env {
    pub fn new() -> Env {
        Env::default()
    }

    /// Declares a variable; a later declaration of the same name wins.
    pub fn with(mut self, name: &str, t: Type) -> Env {
        self.variables.push((name.into(), t));
        self
    }

    /// Named types are looked up here, the last given first.
    pub fn with_types(mut self, provider: Arc<dyn Provider>) -> Env {
        self.providers.push(provider);
        self
    }

    /// `Object{...}`, `Object.spec{...}`, `JSONPatch{...}` and `jsonpatch.escapeKey`, as mutations have them.
    pub fn with_mutation(mut self) -> Env {
        self.providers.push(Arc::new(crate::mutation::MutationTypes));
        self.constructible = Some(crate::mutation::constructible);
        self.json_patch = true;
        self
    }

    pub fn variable(&self, name: &str) -> Option<(Arc<str>, Type)> {
        self.variables.iter().rev().find(|(n, _)| &**n == name).cloned()
    }

    pub fn field(&self, type_name: &str, field: &str) -> Option<Option<Type>> {
        self.providers.iter().rev().find_map(|p| p.field(type_name, field))
    }

    pub fn constructible(&self, type_name: &str) -> bool {
        self.constructible.is_some_and(|f| f(type_name))
    }

    pub(crate) fn has(&self, function: &Function) -> bool {
        self.json_patch || !function.name.starts_with("jsonpatch.")
    }
}
