//! `authorizer`: builds questions and reads answers; see [`crate::authorizer`] for how they are asked.

use super::Row;
use crate::authorizer::{Check, Stage};
use crate::eval::{EvalError, Evaluated, Frame, no_overload};
use crate::value::Value;
use std::sync::Arc;

const RESOURCE: &[&str] = &["kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck"];

pub const ROWS: &[Row] = &[
    ("path", &["kubernetes.authorization.Authorizer.(string) kubernetes.authorization.PathCheck"], |_, a| {
        if matches!(a, [_, Value::String(p)] if p.is_empty()) {
            return Err(EvalError::new("path must not be empty"));
        }
        built(a, Stage::Authorizer, |c, text| {
            c.stage = Stage::Path;
            c.path = text;
        })
    }),
    ("group", &["kubernetes.authorization.Authorizer.(string) kubernetes.authorization.GroupCheck"], |_, a| {
        built(a, Stage::Authorizer, |c, text| {
            c.stage = Stage::Group;
            c.group = text;
        })
    }),
    (
        "serviceAccount",
        &["kubernetes.authorization.Authorizer.(string, string) kubernetes.authorization.Authorizer"],
        service_account,
    ),
    ("resource", &["kubernetes.authorization.GroupCheck.(string) kubernetes.authorization.ResourceCheck"], |_, a| {
        built(a, Stage::Group, |c, text| {
            c.stage = Stage::Resource;
            c.resource = text;
        })
    }),
    ("subresource", RESOURCE, |_, a| built(a, Stage::Resource, |c, text| c.subresource = text)),
    ("namespace", RESOURCE, |_, a| built(a, Stage::Resource, |c, text| c.namespace = text)),
    ("name", RESOURCE, |_, a| built(a, Stage::Resource, |c, text| c.name = text)),
    ("fieldSelector", RESOURCE, |_, a| built(a, Stage::Resource, |c, text| c.field_selector = text)),
    ("labelSelector", RESOURCE, |_, a| built(a, Stage::Resource, |c, text| c.label_selector = text)),
    (
        "check",
        &[
            "kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.Decision",
            "kubernetes.authorization.PathCheck.(string) kubernetes.authorization.Decision",
        ],
        check,
    ),
    ("allowed", &["kubernetes.authorization.Decision.() bool"], |_, a| match a {
        [Value::Verdict(v)] => Ok(Value::Bool(v.allowed)),
        _ => no_overload(),
    }),
    ("reason", &["kubernetes.authorization.Decision.() string"], |_, a| match a {
        [Value::Verdict(v)] => Ok(Value::string(&*v.reason)),
        _ => no_overload(),
    }),
    ("errored", &["kubernetes.authorization.Decision.() bool"], |_, a| match a {
        [Value::Verdict(v)] => Ok(Value::Bool(!v.error.is_empty())),
        _ => no_overload(),
    }),
    ("error", &["kubernetes.authorization.Decision.() string"], |_, a| match a {
        [Value::Verdict(v)] => Ok(Value::string(&*v.error)),
        _ => no_overload(),
    }),
];

fn built<'v>(args: &[Value<'v>], stage: Stage, set: impl Fn(&mut Check, String)) -> Evaluated<'v> {
    match args {
        [Value::Check(c), Value::String(text)] if c.stage == stage => {
            let mut check = c.as_ref().clone();
            set(&mut check, text.to_string());
            Ok(Value::Check(Arc::new(check)))
        }
        _ => no_overload(),
    }
}

fn service_account<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    let [Value::Check(c), Value::String(namespace), Value::String(name)] = args else { return no_overload() };
    if c.stage != Stage::Authorizer {
        return no_overload();
    }
    if !meta::names::dns1123_subdomain(name).is_empty() {
        return Err(EvalError::new("Invalid service account name"));
    }
    if !meta::names::dns1123_label(namespace).is_empty() {
        return Err(EvalError::new("Invalid service account namespace"));
    }
    let mut check = c.as_ref().clone();
    check.service_account = Some((namespace.to_string(), name.to_string()));
    Ok(Value::Check(Arc::new(check)))
}

fn check<'v>(f: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    let [Value::Check(c), Value::String(verb)] = args else { return no_overload() };
    if !matches!(c.stage, Stage::Path | Stage::Resource) {
        return no_overload();
    }
    let mut asked = c.as_ref().clone();
    asked.verb = verb.to_string();
    match f.answers().and_then(|a| a.get(&asked)) {
        Some(verdict) => Ok(Value::Verdict(Arc::new(verdict.clone()))),
        None => Err(EvalError::Unanswered(Box::new(asked))),
    }
}
