//! Expressions over claims and users, as `AuthenticationConfiguration` has them. Source: KEP-3331.

use cel::{Budget, CompileError, Env, Program, Type, Value, Vars};
use serde_json::Value as Json;
use std::sync::{Arc, LazyLock};

/// What an expression is for: what it may read, and what it must come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Claims {
    /// A part of the user, from `claims`.
    Mapping,
    /// Whether `claims` are good.
    Rule,
    /// Whether `user` is good.
    UserRule,
}

#[derive(Clone, Debug)]
pub struct Expression(Arc<Program>);

static CLAIMS: LazyLock<Env> = LazyLock::new(|| Env::new().with("claims", Type::map(Type::String, Type::Dyn)));
static USER: LazyLock<Env> = LazyLock::new(|| {
    let mut types = cel::types::Objects::default();
    types.add(
        "kubernetes.UserInfo",
        &[
            ("username", "string"),
            ("uid", "string"),
            ("groups", "list(string)"),
            ("extra", "map(string, list(string))"),
        ],
    );
    Env::new().with("user", Type::named("kubernetes.UserInfo")).with_types(Arc::new(types))
});

impl Expression {
    pub fn compile(text: &str, kind: Claims) -> Result<Expression, String> {
        let (env, wanted): (&Env, &[Type]) = match kind {
            Claims::Mapping => (&CLAIMS, &[]),
            Claims::Rule => (&CLAIMS, &[Type::Bool]),
            Claims::UserRule => (&USER, &[Type::Bool]),
        };
        cel::compile(text, env, wanted).map(|p| Expression(Arc::new(p))).map_err(|e| match e {
            // Here upstream doesn't say of which type it is.
            CompileError::WrongType(..) => "must evaluate to bool".to_string(),
            e => e.to_string(),
        })
    }

    /// Whether it reads this claim by its name.
    pub fn reads_claim(&self, claim: &str) -> bool {
        self.0.selects("claims", claim)
    }

    pub fn text(&self) -> &str {
        self.0.source()
    }

    /// The result for these claims, as JSON.
    pub fn of_claims(&self, claims: &Json) -> Result<Json, String> {
        self.eval("claims", claims)
    }

    /// The result for this `UserInfo`, as JSON.
    pub fn of_user(&self, user: &Json) -> Result<Json, String> {
        self.eval("user", user)
    }

    fn eval(&self, name: &'static str, value: &Json) -> Result<Json, String> {
        let vars = Vars::new().with(name, Value::json(value));
        let mut budget = Budget::new(cel::POLICY_BUDGET);
        let result = cel::eval(&self.0, &vars, &mut budget).map_err(|e| e.to_string())?;
        result.to_json(&mut 1_000_000).ok_or_else(|| "the result is nothing that a user has".to_string())
    }
}
