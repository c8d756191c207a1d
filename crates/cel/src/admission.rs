//! Expressions of admission: match conditions, validations, mutations, with the variables that they may mention.
//!
//! In: texts of a policy or webhook. Out: programs, or errors in upstream's words. Source: API reference,
//! `admissionregistration.k8s.io/v1`, "CEL expressions"; KEP-3488, KEP-3716, KEP-3962.

use crate::eval::{Budget, EvalError, Vars, eval};
use crate::program::{CompileError, Program, compile};
use crate::types::{Objects, Provider, Type};
use crate::value::Value;
use crate::{Answers, Check, Env};
use serde_json::Value as Json;
use std::sync::{Arc, LazyLock};

/// Upstream's limit for all match conditions of one webhook or policy.
pub const MATCH_CONDITIONS_BUDGET: i64 = 2_500_000;
/// Longest message that an expression may give, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 5 * 1024;

const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
const RESOURCE_CHECK: &str = "kubernetes.authorization.ResourceCheck";
const VARIABLES: &str = "kubernetes.variables";

/// What an expression is for, which decides its type and whether it may ask the authorizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Match conditions and validations.
    Condition,
    Message,
    AuditAnnotation,
    Variable,
    ApplyConfiguration,
    JsonPatch,
}

impl Purpose {
    fn wanted(self) -> Vec<Type> {
        match self {
            Purpose::Condition => vec![Type::Bool],
            Purpose::Message => vec![Type::String],
            Purpose::AuditAnnotation => vec![Type::String, Type::Null],
            Purpose::Variable => Vec::new(),
            Purpose::ApplyConfiguration => vec![Type::named(crate::mutation::OBJECT)],
            Purpose::JsonPatch => vec![Type::list(Type::named(crate::mutation::JSON_PATCH))],
        }
    }
}

/// Compiles the expressions of one policy or webhook.
#[derive(Clone, Default)]
pub struct Compiler {
    params: Option<Type>,
    object: Option<Type>,
    types: Vec<Arc<dyn Provider>>,
    variables: Vec<(Arc<str>, Type)>,
    composed: bool,
}

impl Compiler {
    pub fn new() -> Compiler {
        Compiler::default()
    }

    /// The policy has a `paramKind`: `params` may be used.
    pub fn with_params(mut self, t: Type) -> Compiler {
        self.params = Some(t);
        self
    }

    /// `object` and `oldObject` are of this type rather than anything; used for warnings about policies.
    pub fn with_object(mut self, t: Type, types: Arc<dyn Provider>) -> Compiler {
        self.object = Some(t);
        self.types.push(types);
        self
    }

    /// Where the type of `params` is looked up.
    pub fn with_types(mut self, types: Arc<dyn Provider>) -> Compiler {
        self.types.push(types);
        self
    }

    /// Expressions may use `variables`; each one those that were compiled before it.
    pub fn with_variables(mut self) -> Compiler {
        self.composed = true;
        self
    }

    pub fn variable(&mut self, name: &str, text: &str) -> Result<Program, CompileError> {
        let compiled = self.compile(text, Purpose::Variable);
        let t = compiled.as_ref().map_or(Type::Dyn, |p| p.result_type().clone());
        self.variables.push((name.into(), t));
        compiled
    }

    pub fn compile(&self, text: &str, purpose: Purpose) -> Result<Program, CompileError> {
        compile(text, &self.env(purpose), &purpose.wanted())
    }

    fn env(&self, purpose: Purpose) -> Env {
        let object = self.object.clone().unwrap_or(Type::Dyn);
        let mut objects = Objects::default();
        let mut env = Env::new()
            .with_types(REQUEST_TYPES.clone())
            .with("object", object.clone())
            .with("oldObject", object)
            .with("request", Type::named("kubernetes.AdmissionRequest"))
            .with("namespaceObject", Type::named("kubernetes.Namespace"));
        for types in &self.types {
            env = env.with_types(types.clone());
        }
        if let Some(t) = &self.params {
            env = env.with("params", t.clone());
        }
        if purpose != Purpose::Message {
            env = env.with("authorizer", Type::named(AUTHORIZER));
        }
        if self.composed {
            objects.0.insert(VARIABLES.into(), self.variables.iter().cloned().collect());
            env = env.with("variables", Type::named(VARIABLES));
        }
        if matches!(purpose, Purpose::ApplyConfiguration | Purpose::JsonPatch) {
            env = env.with_mutation();
        }
        env.with_types(Arc::new(objects))
    }
}

static REQUEST_TYPES: LazyLock<Arc<Objects>> = LazyLock::new(|| {
    let mut o = Objects::default();
    o.add("kubernetes.GroupVersionKind", &[("group", "string"), ("version", "string"), ("kind", "string")]);
    o.add("kubernetes.GroupVersionResource", &[("group", "string"), ("version", "string"), ("resource", "string")]);
    o.add(
        "kubernetes.UserInfo",
        &[
            ("username", "string"),
            ("uid", "string"),
            ("groups", "list(string)"),
            ("extra", "map(string, list(string))"),
        ],
    );
    o.add(
        "kubernetes.AdmissionRequest",
        &[
            ("kind", "kubernetes.GroupVersionKind"),
            ("resource", "kubernetes.GroupVersionResource"),
            ("subResource", "string"),
            ("requestKind", "kubernetes.GroupVersionKind"),
            ("requestResource", "kubernetes.GroupVersionResource"),
            ("requestSubResource", "string"),
            ("name", "string"),
            ("namespace", "string"),
            ("operation", "string"),
            ("userInfo", "kubernetes.UserInfo"),
            ("dryRun", "bool"),
            ("options", "dyn"),
        ],
    );
    o.add(
        "kubernetes.NamespaceMetadata",
        &[
            ("name", "string"),
            ("generateName", "string"),
            ("namespace", "string"),
            ("labels", "map(string, string)"),
            ("annotations", "map(string, string)"),
            ("UID", "string"),
            ("creationTimestamp", "timestamp"),
            ("deletionGracePeriodSeconds", "int"),
            ("deletionTimestamp", "timestamp"),
            ("generation", "int"),
            ("resourceVersion", "string"),
            ("finalizers", "list(string)"),
        ],
    );
    o.add("kubernetes.NamespaceSpec", &[("finalizers", "list(string)")]);
    o.add("kubernetes.NamespaceStatus", &[("phase", "string")]);
    o.add(
        "kubernetes.Namespace",
        &[
            ("metadata", "kubernetes.NamespaceMetadata"),
            ("spec", "kubernetes.NamespaceSpec"),
            ("status", "kubernetes.NamespaceStatus"),
        ],
    );
    o.add(AUTHORIZER, &[("requestResource", RESOURCE_CHECK)]);
    Arc::new(o)
});

/// What the expressions of one write see.
#[derive(Clone, Copy)]
pub struct Input<'v> {
    pub object: &'v Json,
    pub old_object: &'v Json,
    /// `AdmissionRequest`, without objects.
    pub request: &'v Json,
    /// None where the policy has no `paramKind`; null where a binding brings none.
    pub params: Option<&'v Json>,
    pub namespace: &'v Json,
    pub answers: &'v Answers,
    /// What `authorizer.requestResource` asks about.
    pub resource: &'v Check,
    pub variables: &'v [(Arc<str>, Result<Program, String>)],
}

impl<'v> Input<'v> {
    /// What match conditions see of it: upstream gives them no namespace.
    pub fn for_conditions(&self) -> Input<'v> {
        Input { namespace: &Json::Null, ..*self }
    }

    pub fn vars(&self) -> Vars<'v> {
        let vars = Vars::new()
            .with("object", Value::json(self.object))
            .with("oldObject", Value::json(self.old_object))
            .with("request", Value::json(self.request))
            .with("namespaceObject", Value::json(self.namespace))
            .with("authorizer.requestResource", Value::Check(Arc::new(self.resource.clone())))
            .with_authorizer(self.answers)
            .with_variables(self.variables);
        match self.params {
            Some(p) => vars.with("params", Value::json(p)),
            None => vars,
        }
    }
}

/// Why an expression gave no result.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// This one failed, in upstream's words; others may go on.
    Failed(String),
    /// All of them have to stop.
    Budget,
    /// Ask, then evaluate everything again.
    Unanswered(Box<Check>),
}

impl Failure {
    /// The text for a client; None for a question.
    pub fn text(&self) -> Option<String> {
        match self {
            Failure::Failed(text) => Some(text.clone()),
            Failure::Budget => Some(EvalError::Budget.to_string()),
            Failure::Unanswered(_) => None,
        }
    }
}

/// Evaluates one expression. `text`: as it was written, for the error.
pub fn run<'v>(
    program: &Result<Program, String>,
    text: &str,
    vars: &Vars<'v>,
    budget: &mut Budget,
) -> Result<Value<'v>, Failure> {
    let program = program.as_ref().map_err(|why| Failure::Failed(format!("compilation error: {why}")))?;
    match eval(program, vars, budget) {
        Ok(v) => Ok(v),
        Err(EvalError::Budget) => Err(Failure::Budget),
        Err(EvalError::Unanswered(check)) => Err(Failure::Unanswered(check)),
        Err(e) => Err(Failure::Failed(format!("expression '{text}' resulted in error: {e}"))),
    }
}

/// Conditions that all must hold.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    all: Vec<Condition>,
}

#[derive(Clone, Debug)]
struct Condition {
    name: String,
    text: String,
    program: Result<Program, String>,
}

/// What conditions say about a write.
#[derive(Clone, Debug, PartialEq)]
pub enum Matched {
    Yes,
    /// The name of the first that doesn't hold.
    No(String),
}

impl Conditions {
    /// Of `matchConditions`. Those that don't compile fail when they are asked.
    pub fn new(conditions: &Json, compiler: &Compiler) -> Conditions {
        let text = |v: &Json| v.as_str().unwrap_or("").to_string();
        let one = |c: &Json| {
            let expression = text(&c["expression"]);
            let program = compiler.compile(&expression, Purpose::Condition).map_err(|e| e.to_string());
            Condition { name: text(&c["name"]), text: expression, program }
        };
        Conditions { all: conditions.as_array().into_iter().flatten().map(one).collect() }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// A false condition counts more than one that can't be evaluated.
    pub fn evaluate(&self, vars: &Vars<'_>) -> Result<Matched, Failure> {
        let mut budget = Budget::new(MATCH_CONDITIONS_BUDGET);
        let mut failed = Vec::new();
        for c in &self.all {
            match run(&c.program, &c.text, vars, &mut budget) {
                Ok(Value::Bool(true)) => {}
                Ok(_) => return Ok(Matched::No(c.name.clone())),
                Err(Failure::Failed(why)) => failed.push(why),
                Err(other) => return Err(other),
            }
        }
        match failed.as_slice() {
            [] => Ok(Matched::Yes),
            [one] => Err(Failure::Failed(one.clone())),
            many => Err(Failure::Failed(format!("[{}]", many.join(", ")))),
        }
    }
}

/// A message as an expression gave it; None where it can't be used.
pub fn message(value: &Value<'_>) -> Option<String> {
    let text = value.as_str()?.trim();
    (!text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n')).then(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorizer::Verdict;
    use serde_json::json;

    fn matched(conditions: Json, answers: &Answers) -> Result<Matched, Failure> {
        let compiler = Compiler::new();
        let conditions = Conditions::new(&conditions, &compiler);
        let resource = Check { resource: "pods".into(), stage: crate::authorizer::Stage::Resource, ..Check::default() };
        let input = Input {
            object: &json!({"metadata":{"name":"a","namespace":"d"}}),
            old_object: &Json::Null,
            request: &json!({"operation":"CREATE","userInfo":{"username":"jane","groups":["g"]}}),
            params: None,
            namespace: &json!({"metadata":{"name":"d","labels":{"team":"x"}}}),
            answers,
            resource: &resource,
            variables: &[],
        };
        conditions.evaluate(&input.vars())
    }

    #[test]
    fn conditions_all_have_to_hold() {
        let none = Answers::new();
        let c = |all: &[&str]| {
            let list: Vec<Json> =
                all.iter().enumerate().map(|(i, e)| json!({"name":format!("c{i}"),"expression":e})).collect();
            matched(list.into(), &none)
        };
        assert_eq!(
            c(&["object.metadata.name == 'a'", "request.userInfo.groups.exists(g, g == 'g')"]),
            Ok(Matched::Yes)
        );
        assert_eq!(c(&["object.x == 1", "oldObject != null"]), Ok(Matched::No("c1".into())));
        assert_eq!(
            c(&["object.x == 1", "true"]),
            Err(Failure::Failed("expression 'object.x == 1' resulted in error: no such key: x".into()))
        );
        assert_eq!(
            c(&["object.x == 1", "object.y == 1"]),
            Err(Failure::Failed("[expression 'object.x == 1' resulted in error: no such key: x, expression 'object.y == 1' resulted in error: no such key: y]".into()))
        );
        assert_eq!(c(&["namespaceObject.metadata.labels.team == 'x' && !has(request.dryRun)"]), Ok(Matched::Yes));
        let Err(Failure::Unanswered(check)) = c(&["authorizer.requestResource.check('get').allowed()"]) else {
            panic!()
        };
        assert_eq!((check.resource.as_str(), check.verb.as_str()), ("pods", "get"));
        let answers = Answers::from([(*check, Verdict { allowed: true, ..Verdict::default() })]);
        let one = json!([{"name":"c","expression":"authorizer.requestResource.check('get').allowed()"}]);
        assert_eq!(matched(one, &answers), Ok(Matched::Yes));
    }

    #[test]
    fn texts_that_do_not_compile_are_told() {
        let mut c = Compiler::new().with_variables();
        c.variable("n", "object.spec.replicas").unwrap();
        c.variable("s", "'a' + string(variables.n)").unwrap();
        let told = |text: &str, p| c.compile(text, p).map_or_else(|e| e.to_string(), |_| "compiles".to_string());
        assert_eq!(told("variables.n > 1 && variables.s == 'x'", Purpose::Condition), "compiles");
        assert_eq!(
            told("variables.s > 1", Purpose::Condition).lines().next(),
            Some(
                "compilation failed: ERROR: <input>:1:13: found no matching overload for '_>_' applied to '(string, int)'"
            )
        );
        assert_eq!(
            told("variables.m", Purpose::Condition).lines().next(),
            Some("compilation failed: ERROR: <input>:1:10: undefined field 'm'")
        );
        assert_eq!(
            told("params.x == 1", Purpose::Condition).lines().next(),
            Some("compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')")
        );
        assert_eq!(
            told("request.foo", Purpose::Condition).lines().next(),
            Some("compilation failed: ERROR: <input>:1:8: undefined field 'foo'")
        );
        assert_eq!(told("1", Purpose::Message), "must evaluate to string but got int");
        assert_eq!(told("object == null ? null : 'x'", Purpose::AuditAnnotation).lines().count(), 3);
        assert_eq!(told("Object{spec: Object.spec{replicas: 3}}", Purpose::ApplyConfiguration), "compiles");
        assert_eq!(
            told("[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b/c'), value: 1}]", Purpose::JsonPatch),
            "compiles"
        );
        assert_eq!(
            told("[JSONPatch{operation: 'add'}]", Purpose::JsonPatch).lines().next(),
            Some("compilation failed: ERROR: <input>:1:21: undefined field 'operation'")
        );
        for purpose in [Purpose::Condition, Purpose::Variable] {
            assert_eq!(
                told("Object{}", purpose).lines().next(),
                Some("compilation failed: ERROR: <input>:1:7: undeclared reference to 'Object' (in container '')")
            );
        }
    }
}
