//! Policies and bindings as they are stored, made ready for use once per change.

use crate::admission::matching::Criteria;
use crate::authz::followed::{Index, names};
use cel::admission::{Compiler, Conditions, Purpose};
use cel::{Program, Type};
use meta::selector::Selector;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use store::Entry;

pub struct Policy {
    pub name: String,
    pub criteria: Criteria,
    pub param_kind: Option<ParamKind>,
    /// `failurePolicy: Ignore`
    pub fails_open: bool,
    pub conditions: Conditions,
    pub variables: Vec<(Arc<str>, Result<Program, String>)>,
    pub validations: Vec<Validation>,
    pub audit_annotations: Vec<(String, Expression)>,
    pub mutations: Vec<Mutation>,
    /// `reinvocationPolicy: IfNeeded`
    pub reinvoked: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ParamKind {
    pub api_version: String,
    pub kind: String,
}

impl ParamKind {
    pub fn read(given: &Value) -> Option<ParamKind> {
        given.is_object().then(|| ParamKind { api_version: text(&given["apiVersion"]), kind: text(&given["kind"]) })
    }
}

pub struct Expression {
    pub text: String,
    pub program: Result<Program, String>,
}

pub struct Validation {
    pub condition: Expression,
    pub message: String,
    pub message_expression: Option<Expression>,
    /// Empty for `Invalid`.
    pub reason: String,
}

pub struct Mutation {
    pub expression: Expression,
    /// Else it gives a JSON patch.
    pub applies: bool,
}

pub struct Binding {
    pub name: String,
    pub policy: String,
    /// `matchResources`
    pub criteria: Option<Criteria>,
    pub params: Option<ParamRef>,
    /// `validationActions`
    pub actions: Vec<String>,
}

pub struct ParamRef {
    pub name: String,
    pub namespace: String,
    pub selector: Option<Result<Selector, String>>,
    /// `parameterNotFoundAction: Deny`
    pub denies_when_missing: bool,
}

fn text(v: &Value) -> String {
    v.as_str().unwrap_or_default().to_string()
}

fn list(v: &Value) -> impl Iterator<Item = &Value> {
    v.as_array().into_iter().flatten()
}

impl Policy {
    fn new(name: &str, stored: &Value) -> Policy {
        let spec = &stored["spec"];
        let mut compiler = Compiler::new();
        let param_kind = ParamKind::read(&spec["paramKind"]);
        if param_kind.is_some() {
            compiler = compiler.with_params(Type::Dyn);
        }
        let conditions = Conditions::new(&spec["matchConditions"], &compiler);
        let mut compiler = compiler.with_variables();
        let variables = list(&spec["variables"])
            .map(|v| {
                let name = v["name"].as_str().unwrap_or_default();
                let program = compiler.variable(name, v["expression"].as_str().unwrap_or_default());
                (Arc::from(name), program.map_err(|e| e.to_string()))
            })
            .collect();
        let expression = |v: &Value, purpose: Purpose| Expression {
            text: text(v),
            program: compiler.compile(v.as_str().unwrap_or_default(), purpose).map_err(|e| e.to_string()),
        };
        Policy {
            name: name.to_string(),
            criteria: Criteria::of_policy(&spec["matchConstraints"]),
            param_kind,
            fails_open: spec["failurePolicy"] == "Ignore",
            conditions,
            validations: list(&spec["validations"])
                .map(|v| Validation {
                    condition: expression(&v["expression"], Purpose::Condition),
                    message: text(&v["message"]).trim().to_string(),
                    message_expression: v["messageExpression"]
                        .as_str()
                        .filter(|e| !e.is_empty())
                        .map(|_| expression(&v["messageExpression"], Purpose::Message)),
                    reason: text(&v["reason"]),
                })
                .collect(),
            audit_annotations: list(&spec["auditAnnotations"])
                .map(|v| (text(&v["key"]), expression(&v["valueExpression"], Purpose::AuditAnnotation)))
                .collect(),
            mutations: list(&spec["mutations"])
                .map(|m| {
                    let applies = m["patchType"] == "ApplyConfiguration";
                    let expression = if applies {
                        expression(&m["applyConfiguration"]["expression"], Purpose::ApplyConfiguration)
                    } else {
                        expression(&m["jsonPatch"]["expression"], Purpose::JsonPatch)
                    };
                    Mutation { expression, applies }
                })
                .collect(),
            reinvoked: spec["reinvocationPolicy"] == "IfNeeded",
            variables,
        }
    }
}

impl Binding {
    fn new(name: &str, stored: &Value) -> Binding {
        let spec = &stored["spec"];
        let r = &spec["paramRef"];
        Binding {
            name: name.to_string(),
            policy: text(&spec["policyName"]),
            criteria: spec["matchResources"].is_object().then(|| Criteria::of_policy(&spec["matchResources"])),
            params: r.is_object().then(|| ParamRef {
                name: text(&r["name"]),
                namespace: text(&r["namespace"]),
                selector: r["selector"].is_object().then(|| Selector::from_label_selector(&r["selector"])),
                denies_when_missing: r["parameterNotFoundAction"] == "Deny",
            }),
            actions: list(&spec["validationActions"]).map(text).collect(),
        }
    }
}

/// Policies of one kind that have bindings, in the order in which they are applied.
pub type Bound = Arc<Vec<(Arc<Policy>, Vec<Arc<Binding>>)>>;

/// All policies and bindings: validating, mutating.
#[derive(Default)]
pub struct Definitions {
    policies: [BTreeMap<String, Arc<Policy>>; 2],
    bindings: [BTreeMap<String, Arc<Binding>>; 2],
    bound: [Bound; 2],
}

impl Definitions {
    pub fn bound(&self, mutating: bool) -> Bound {
        self.bound[usize::from(mutating)].clone()
    }

    fn join(&mut self, kind: usize) {
        let of = |name: &str| -> Vec<Arc<Binding>> {
            self.bindings[kind].values().filter(|b| b.policy == name).cloned().collect()
        };
        let bound = self.policies[kind].iter().map(|(name, p)| (p.clone(), of(name))).filter(|(_, b)| !b.is_empty());
        self.bound[kind] = Arc::new(bound.collect());
    }
}

impl Index for Definitions {
    const RESOURCES: &'static [(&'static str, &'static str)] = &[
        ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"),
    ];

    fn put(&mut self, which: usize, entry: &Entry) {
        let stored: Value = serde_json::from_slice(&entry.value).unwrap_or(Value::Null);
        let name = names(entry, false).1;
        let kind = which % 2;
        if which < 2 {
            self.policies[kind].insert(name.to_string(), Arc::new(Policy::new(name, &stored)));
        } else {
            self.bindings[kind].insert(name.to_string(), Arc::new(Binding::new(name, &stored)));
        }
        self.join(kind);
    }

    fn delete(&mut self, which: usize, entry: &Entry) {
        let name = names(entry, false).1;
        let kind = which % 2;
        if which < 2 {
            self.policies[kind].remove(name);
        } else {
            self.bindings[kind].remove(name);
        }
        self.join(kind);
    }
}
