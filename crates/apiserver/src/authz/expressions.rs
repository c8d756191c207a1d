//! Match conditions of authorization webhooks: expressions over `request`, a SubjectAccessReview's spec.

use cel::{Budget, Env, Program, Type, Value, Vars};
use serde_json::Value as Json;
use std::sync::{Arc, LazyLock};

#[derive(Clone, Debug)]
pub struct Condition {
    program: Arc<Program>,
    text: String,
}

static REQUEST: LazyLock<Env> = LazyLock::new(|| {
    let mut types = cel::types::Objects::default();
    types.add(
        "kubernetes.SubjectAccessReviewSpec",
        &[
            ("resourceAttributes", "kubernetes.ResourceAttributes"),
            ("nonResourceAttributes", "kubernetes.NonResourceAttributes"),
            ("user", "string"),
            ("groups", "list(string)"),
            ("extra", "map(string, list(string))"),
            ("uid", "string"),
        ],
    );
    types.add(
        "kubernetes.ResourceAttributes",
        &[
            ("namespace", "string"),
            ("verb", "string"),
            ("group", "string"),
            ("version", "string"),
            ("resource", "string"),
            ("subresource", "string"),
            ("name", "string"),
            ("fieldSelector", "kubernetes.SelectorAttributes"),
            ("labelSelector", "kubernetes.SelectorAttributes"),
        ],
    );
    types.add(
        "kubernetes.SelectorAttributes",
        &[("rawSelector", "string"), ("requirements", "list(kubernetes.SelectorRequirement)")],
    );
    types.add(
        "kubernetes.SelectorRequirement",
        &[("key", "string"), ("operator", "string"), ("values", "list(string)")],
    );
    types.add("kubernetes.NonResourceAttributes", &[("path", "string"), ("verb", "string")]);
    Env::new().with("request", Type::named("kubernetes.SubjectAccessReviewSpec")).with_types(Arc::new(types))
});

impl Condition {
    pub fn compile(text: &str) -> Result<Condition, String> {
        cel::compile(text, &REQUEST, &[Type::Bool])
            .map(|p| Condition { program: Arc::new(p), text: text.to_string() })
            .map_err(|e| e.to_string())
    }

    /// `request`: as `question::request_of` makes it.
    pub fn holds(&self, request: &Json) -> Result<bool, String> {
        let vars = Vars::new().with("request", Value::json(request));
        let result = cel::eval(&self.program, &vars, &mut Budget::new(cel::POLICY_BUDGET));
        let result =
            result.map_err(|e| format!("cel evaluation error: expression '{}' resulted in error: {e}", self.text))?;
        Ok(result == Value::Bool(true))
    }
}
