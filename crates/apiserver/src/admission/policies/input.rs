//! What expressions see of a write, and how an authorizer is asked on their behalf.
//!
//! Shared by policies and by match conditions of webhooks.

use crate::admission::matching::{kind_of, namespace_of};
use crate::admission::{Attributes, webhooks};
use crate::authn::User;
use crate::authz::{self, Authorizer};
use crate::reader::Reader;
use api::catalogue::Resource;
use cel::authorizer::Stage;
use cel::{Answers, Check, Verdict};
use meta::status::{Result, Status};
use serde_json::{Value, json};
use std::sync::Arc;

/// `request`: an `AdmissionRequest` without its objects. `row`: the resource as which the write matched.
pub fn request(a: &Attributes<'_>, row: &Resource) -> Value {
    let kind = |row: &Resource| {
        let (group, version, kind) = kind_of(row, a.subresource);
        json!({"group": group, "version": version, "kind": kind})
    };
    let resource = |row: &Resource| json!({"group": row.group, "version": row.version, "resource": row.plural});
    let mut request = json!({
        "kind": kind(row),
        "resource": resource(row),
        "requestKind": kind(a.resource),
        "requestResource": resource(a.resource),
        "operation": a.operation.word(),
        "userInfo": webhooks::user_info(a.user),
        "dryRun": a.dry_run,
        "options": a.options,
    });
    if let Some(r) = request.as_object_mut() {
        // Those that are empty aren't there, as in a review.
        for (key, value) in [
            ("subResource", a.subresource),
            ("requestSubResource", a.subresource),
            ("name", a.name),
            ("namespace", &namespace_of(a)),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        {
            r.insert(key.into(), value.into());
        }
    }
    request
}

/// `authorizer.requestResource`
pub fn request_resource(a: &Attributes<'_>) -> Check {
    Check {
        stage: Stage::Resource,
        group: a.resource.group.clone(),
        resource: a.resource.plural.clone(),
        subresource: a.subresource.to_string(),
        namespace: a.namespace.to_string(),
        name: a.name.to_string(),
        ..Check::default()
    }
}

/// `namespaceObject`: null at cluster scope, and for Namespaces themselves.
pub fn namespace(a: &Attributes<'_>, reader: &Reader) -> Result<Value> {
    let of_namespaces = a.resource.group.is_empty() && a.resource.kind == "Namespace";
    if a.namespace.is_empty() || of_namespaces {
        return Ok(Value::Null);
    }
    match reader.get("", "namespaces", "", a.namespace) {
        Some(n) => Ok(n.value().as_ref().clone()),
        None => Err(Status::not_found("", "namespaces", a.namespace)),
    }
}

/// Evaluates until no question is open. `evaluate` gives the result, or the question that it can't go on without.
/// Questions end because each costs: an expression can pay for no more than a few.
pub async fn answered<T>(
    authorizer: &Arc<dyn Authorizer>,
    user: &User,
    answers: &mut Answers,
    mut evaluate: impl FnMut(&Answers) -> std::result::Result<T, Box<Check>>,
) -> T {
    loop {
        let check = match evaluate(answers) {
            Ok(done) => return done,
            Err(check) => check,
        };
        let decision = authorizer.authorize(&attributes(&check, user)).await;
        let (reason, error) = (decision.reason().to_string(), decision.error().to_string());
        let verdict = Verdict { allowed: decision.allowed(), reason, error };
        answers.insert(*check, verdict);
    }
}

fn attributes(check: &Check, user: &User) -> authz::Attributes {
    let user = match &check.service_account {
        None => user.clone(),
        Some((namespace, name)) => User::new(
            &format!("system:serviceaccount:{namespace}:{name}"),
            &["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
        ),
    };
    authz::Attributes {
        user,
        verb: check.verb.clone(),
        is_resource: check.stage == Stage::Resource,
        path: check.path.clone(),
        group: check.group.clone(),
        version: "*".to_string(),
        resource: check.resource.clone(),
        subresource: check.subresource.clone(),
        namespace: check.namespace.clone(),
        name: check.name.clone(),
        field_selector: check.field_selector.clone(),
        label_selector: check.label_selector.clone(),
    }
}
