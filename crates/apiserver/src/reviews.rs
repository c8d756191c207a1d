//! Reviews: questions to the authenticators and authorizers, asked as objects that are answered and not stored.
//!
//! In: who asks and the review object, [`received`] and let pass by [`check`]. Out: what `create` answers.

use crate::authn::bearer::TokenOutcome;
use crate::authn::{Chain, User};
use crate::authz::question::selector_of;
use crate::authz::rules::PolicyRule;
use crate::authz::{Attributes, Authorizer, aggregate};
use crate::registry::{Call, create, managed};
use meta::field::{Errors, Path};
use meta::status::Status;
use serde_json::{Value, json};

const AUTHORIZATION: &str = "authorization.k8s.io";

fn text(v: &Value) -> String {
    v.as_str().unwrap_or_default().to_string()
}

fn strings(v: &Value) -> Vec<String> {
    v.as_array().map(|a| a.iter().filter_map(|s| s.as_str().map(str::to_string)).collect()).unwrap_or_default()
}

/// A review as it came, with metadata as those of objects that are created: in the namespace of the request, and with
/// what the client's program has set.
pub async fn received(call: &Call<'_>, object: &Value) -> Result<Value, Status> {
    create::check_namespace(call.info, object)?;
    let mut object = object.clone();
    let metadata = create::metadata(&mut object);
    for owned in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        metadata.remove(owned);
    }
    match call.info.namespace.as_str() {
        "" => metadata.remove("namespace"),
        namespace => metadata.insert("namespace".to_string(), namespace.into()),
    };
    managed::track(call, &mut object, None, managed::By::Update, "").await;
    Ok(object)
}

/// `UserInfo`, as reviews show users.
pub fn user_info(user: &User) -> Value {
    let mut v = json!({});
    if !user.name.is_empty() {
        v["username"] = user.name.clone().into();
    }
    if !user.uid.is_empty() {
        v["uid"] = user.uid.clone().into();
    }
    if !user.groups.is_empty() {
        v["groups"] = user.groups.clone().into();
    }
    if !user.extra.is_empty() {
        v["extra"] = json!(user.extra);
    }
    v
}

/// What each kind of question refuses, before anybody is asked. `kind`: of the review; `namespace`: of the request.
pub fn check(kind: &str, namespace: &str, object: &Value) -> Result<(), Status> {
    let spec = &object["spec"];
    let mut errors = Errors::default();
    match kind {
        "TokenReview" if text(&spec["token"]).is_empty() => {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        }
        "SelfSubjectRulesReview" if text(&spec["namespace"]).is_empty() => {
            return Err(Status::bad_request("no namespace on request"));
        }
        "SubjectAccessReview" | "SelfSubjectAccessReview" => {
            check_question(object, kind == "SubjectAccessReview", &mut errors);
            check_metadata(object, &[], &mut errors);
        }
        "LocalSubjectAccessReview" => {
            check_question(object, true, &mut errors);
            check_metadata(object, &["namespace"], &mut errors);
            let path = Path::new("spec");
            let asked = &spec["resourceAttributes"];
            let inside = text(&asked["namespace"]);
            if !asked.is_null() && inside != namespace {
                errors.invalid(path.child("resourceAttributes.namespace"), inside, "must match metadata.namespace");
            }
            if !spec["nonResourceAttributes"].is_null() {
                let shown = shown_url(&spec["nonResourceAttributes"]);
                errors.invalid(path.child("nonResourceAttributes"), shown, "disallowed on this kind of request");
            }
        }
        _ => {}
    }
    // Upstream has lost the kind by the time that it looks for mistakes.
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(AUTHORIZATION, "", "", &errors)) }
}

/// TokenReview: whose token is this, and is it for one of these audiences?
pub async fn token_review(chain: &Chain, object: &Value) -> Value {
    let audiences = strings(&object["spec"]["audiences"]);
    let mut answer = object.clone();
    answer["status"] = match chain.authenticate_token(&text(&object["spec"]["token"]), &audiences).await {
        TokenOutcome::Authenticated { user, audiences } => {
            let mut status = json!({"authenticated": true, "user": user_info(&user)});
            if !audiences.is_empty() {
                status["audiences"] = audiences.into();
            }
            status
        }
        TokenOutcome::Skip => json!({"user": {}, "error": "invalid bearer token"}),
        TokenOutcome::Invalid(why) => json!({"user": {}, "error": format!("[invalid bearer token, {why}]")}),
    };
    answer
}

/// SelfSubjectReview: who am I?
pub fn self_subject_review(user: &User, object: &Value) -> Value {
    let mut answer = bare(object);
    answer["metadata"] = json!({"creationTimestamp": crate::registry::create::now_seconds()});
    answer["status"] = json!({"userInfo": user_info(user)});
    answer
}

/// What is answered by an object of its own: nothing of the question but its type.
fn bare(object: &Value) -> Value {
    json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": {}})
}

/// SubjectAccessReview and LocalSubjectAccessReview: may this user do that?
pub async fn subject_access_review(authorizer: &dyn Authorizer, object: &Value) -> Value {
    answered(authorizer, subject(&object["spec"]), object).await
}

/// SelfSubjectAccessReview: may I do that?
pub async fn self_subject_access_review(authorizer: &dyn Authorizer, user: &User, object: &Value) -> Value {
    answered(authorizer, user.clone(), object).await
}

/// SelfSubjectRulesReview: what may I do in this namespace?
pub fn self_subject_rules_review(authorizer: &dyn Authorizer, user: &User, object: &Value) -> Value {
    let rules = authorizer.rules_for(user, &text(&object["spec"]["namespace"]));
    let (paths, resources): (Vec<&PolicyRule>, Vec<&PolicyRule>) =
        rules.rules.iter().partition(|r| !r.non_resource_urls.is_empty());
    let mut answer = bare(object);
    answer["spec"] = json!({});
    answer["status"] = json!({
        "resourceRules": resources.iter().map(|r| r.to_value()).collect::<Vec<_>>(),
        "nonResourceRules": paths.iter().map(|r| r.to_value()).collect::<Vec<_>>(),
        "incomplete": rules.incomplete,
    });
    if !rules.errors.is_empty() {
        answer["status"]["evaluationError"] = aggregate(&rules.errors).into();
    }
    answer
}

fn subject(spec: &Value) -> User {
    User {
        name: text(&spec["user"]),
        uid: text(&spec["uid"]),
        groups: strings(&spec["groups"]),
        extra: spec["extra"]
            .as_object()
            .map(|m| m.iter().map(|(k, v)| (k.clone(), strings(v))).collect())
            .unwrap_or_default(),
    }
}

/// Questions have no metadata, but for these keys.
fn check_metadata(object: &Value, allowed: &[&str], errors: &mut Errors) {
    let Some(metadata) = object["metadata"].as_object() else { return };
    let given = metadata.keys().any(|k| k != "managedFields" && !allowed.contains(&k.as_str()));
    if given {
        let except = allowed.first().map(|k| format!(" except for {k}")).unwrap_or_default();
        errors.invalid(Path::new("metadata"), object["metadata"].clone(), format!("must be empty{except}"));
    }
}

/// `named`: the question names its subject.
fn check_question(object: &Value, named: bool, errors: &mut Errors) {
    let (path, spec) = (Path::new("spec"), &object["spec"]);
    let (resource, url) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    match (resource.is_null(), url.is_null()) {
        (false, false) => errors.invalid(
            path.child("nonResourceAttributes"),
            shown_url(url),
            "cannot be specified in combination with resourceAttributes",
        ),
        (true, true) => errors.invalid(
            path.child("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        _ => {}
    }
    if named && text(&spec["user"]).is_empty() && strings(&spec["groups"]).is_empty() {
        errors.invalid(path.child("user"), "", "at least one of user or group must be specified");
    }
    for (field, labels) in [("fieldSelector", false), ("labelSelector", true)] {
        check_selector(&resource[field], labels, path.child("resourceAttributes").child(field), errors);
    }
}

/// Upstream shows its own type, whose fields are named as in Go.
fn shown_url(url: &Value) -> Value {
    json!({"Path": text(&url["path"]), "Verb": text(&url["verb"])})
}

/// A selector has either a raw form or requirements. Source: KEP-4601.
fn check_selector(selector: &Value, labels: bool, path: Path, errors: &mut Errors) {
    if selector.is_null() {
        return;
    }
    let raw = text(&selector["rawSelector"]);
    let requirements = selector["requirements"].as_array().map(Vec::as_slice).unwrap_or_default();
    match (raw.is_empty(), requirements.is_empty()) {
        (false, false) => {
            errors.invalid(path.child("rawSelector"), raw, "may not specified at the same time as requirements");
        }
        (true, true) => {
            let detail = format!("when {path} is specified, requirements or rawSelector is required");
            errors.required(path.child("requirements"), detail);
        }
        _ => {}
    }
    for (i, r) in requirements.iter().enumerate() {
        let path = path.child("requirements").index(i);
        if text(&r["key"]).is_empty() && !labels {
            errors.required(path.child("key"), "must be specified");
        }
        let values = strings(&r["values"]);
        match text(&r["operator"]).as_str() {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.forbidden(
                    path.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            // What newer clients may know counts as nothing that narrows the question.
            _ => {}
        }
        if labels {
            let key = text(&r["key"]);
            for fault in meta::names::qualified_name(&key) {
                errors.invalid(path.child("key"), key.clone(), fault);
            }
            for (i, value) in values.iter().enumerate() {
                for fault in meta::names::label_value(value) {
                    errors.invalid(path.child("values").index(i), value.clone(), fault);
                }
            }
        }
    }
}

fn attributes(user: User, spec: &Value) -> Attributes {
    let resource = &spec["resourceAttributes"];
    if resource.is_null() {
        let url = &spec["nonResourceAttributes"];
        return Attributes { user, verb: text(&url["verb"]), path: text(&url["path"]), ..Attributes::default() };
    }
    Attributes {
        user,
        verb: text(&resource["verb"]),
        is_resource: true,
        path: String::new(),
        group: text(&resource["group"]),
        version: Some(text(&resource["version"])).filter(|v| !v.is_empty()).unwrap_or("*".to_string()),
        resource: text(&resource["resource"]),
        subresource: text(&resource["subresource"]),
        namespace: text(&resource["namespace"]),
        name: text(&resource["name"]),
        field_selector: selector_of(&resource["fieldSelector"], "fieldSelector").0,
        label_selector: selector_of(&resource["labelSelector"], "labelSelector").0,
    }
}

async fn answered(authorizer: &dyn Authorizer, user: User, object: &Value) -> Value {
    let decision = authorizer.authorize(&attributes(user, &object["spec"])).await;
    let mut status = json!({"allowed": decision.allowed()});
    if decision.denied() {
        status["denied"] = true.into();
    }
    if !decision.reason().is_empty() {
        status["reason"] = decision.reason().into();
    }
    let resource = &object["spec"]["resourceAttributes"];
    let mut remarks: Vec<String> = vec![decision.error().to_string()];
    remarks.retain(|r| !r.is_empty());
    remarks.extend(["fieldSelector", "labelSelector"].iter().filter_map(|f| selector_of(&resource[*f], f).1));
    if !remarks.is_empty() {
        status["evaluationError"] = remarks.join("; ").into();
    }
    let mut answer = object.clone();
    answer["status"] = status;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::bearer::{Bearer, TokenAuthenticator};
    use crate::authz::Decision;
    use crate::testing::reader;
    use async_trait::async_trait;
    use std::sync::Arc;

    struct Known;

    #[async_trait]
    impl TokenAuthenticator for Known {
        async fn authenticate_token(&self, token: &str, audiences: &[String]) -> TokenOutcome {
            match token {
                "good" => TokenOutcome::Authenticated {
                    user: User { uid: "u".into(), ..User::new("jane", &["dev"]) },
                    audiences: audiences.to_vec(),
                },
                _ => TokenOutcome::Skip,
            }
        }
    }

    #[tokio::test]
    async fn tokens_are_reviewed() {
        let chain = Chain::new(vec![], Arc::new(Bearer::new(vec![Arc::new(Known)])), Arc::default());
        let chain = &chain;
        let ask = |spec: Value| async move { token_review(chain, &json!({"kind":"TokenReview","spec":spec})).await };
        let good = ask(json!({"token":"good","audiences":["a"]})).await;
        assert_eq!(
            good["status"],
            json!({"authenticated": true, "audiences": ["a"],
                   "user": {"username":"jane","uid":"u","groups":["dev","system:authenticated"]}})
        );
        assert_eq!(good["kind"], "TokenReview");
        let bad = ask(json!({"token":"bad"})).await;
        assert_eq!(bad["status"], json!({"user": {}, "error": "invalid bearer token"}));
        assert_eq!(check("TokenReview", "", &json!({"spec": {}})).unwrap_err().code, 400);
    }

    /// Tells what it was asked, and can't decide.
    struct Failing;

    #[async_trait]
    impl Authorizer for Failing {
        async fn authorize(&self, a: &Attributes) -> Decision {
            let reason = format!("{} {:?}", a.version, a.user.extra);
            Decision::Failed { denied: true, reason, error: "no answer".to_string() }
        }
    }

    #[tokio::test]
    async fn who_could_not_be_asked_is_told() {
        let asked = json!({"spec": {"user": "x", "extra": {"Scope": ["y"]}, "resourceAttributes":
            {"verb": "get", "resource": "pods", "fieldSelector": {"rawSelector": "a"}}}});
        assert_eq!(
            subject_access_review(&Failing, &asked).await["status"],
            json!({"allowed": false, "denied": true, "reason": "* {\"Scope\": [\"y\"]}",
                   "evaluationError": "no answer; spec.resourceAttributes.fieldSelector ignored due to parse error"})
        );
    }

    #[tokio::test]
    async fn access_is_reviewed() {
        let v = "rbac.authorization.k8s.io/v1";
        let r = reader(&[
            json!({"apiVersion":v,"kind":"ClusterRole","metadata":{"name":"r"},"rules":[
                {"apiGroups":[""],"resources":["pods"],"verbs":["get"]},
                {"nonResourceURLs":["/metrics"],"verbs":["get"]}]}),
            json!({"apiVersion":v,"kind":"ClusterRoleBinding","metadata":{"name":"b"},
                   "roleRef":{"kind":"ClusterRole","name":"r"},"subjects":[{"kind":"Group","name":"dev"}]}),
            // A second way to the same rules shows them twice.
            json!({"apiVersion":v,"kind":"ClusterRoleBinding","metadata":{"name":"b2"},
                   "roleRef":{"kind":"ClusterRole","name":"r"},
                   "subjects":[{"kind":"User","name":"me"},{"kind":"Group","name":"dev"}]}),
            json!({"apiVersion":v,"kind":"RoleBinding","metadata":{"name":"lost","namespace":"d"},
                   "roleRef":{"kind":"Role","name":"none"},"subjects":[{"kind":"User","name":"me"}]}),
            json!({"apiVersion":v,"kind":"RoleBinding","metadata":{"name":"lost2","namespace":"d"},
                   "roleRef":{"kind":"Role","name":"none"},"subjects":[{"kind":"User","name":"me"}]}),
        ])
        .await;
        let (chain, _) = crate::authz::Chain::standard(r);
        let pods = json!({"namespace":"d","verb":"get","resource":"pods"});
        let ask = |spec: Value| json!({"kind":"X","spec":spec});
        let by = |spec: Value| {
            let object = ask(spec);
            let chain = &chain;
            async move {
                check("SubjectAccessReview", "", &object)?;
                Ok::<_, Status>(subject_access_review(chain, &object).await)
            }
        };
        let yes = by(json!({"user":"x","groups":["dev"],"resourceAttributes":pods})).await.unwrap();
        assert_eq!(yes["status"]["allowed"], true);
        assert!(yes["status"]["reason"].as_str().unwrap().contains("ClusterRoleBinding \"b\""));
        let no = by(json!({"user":"x","resourceAttributes":pods})).await.unwrap();
        assert_eq!(no["status"], json!({"allowed": false}));
        let url = by(json!({"groups":["dev"],"nonResourceAttributes":{"path":"/metrics","verb":"get"}})).await.unwrap();
        assert_eq!(url["status"]["allowed"], true);
        for (bad, expected) in [
            (
                json!({"resourceAttributes":pods}),
                r#"spec.user: Invalid value: "": at least one of user or group must be specified"#,
            ),
            (
                json!({"user":"x"}),
                "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or \
                 resourceAttributes must be specified",
            ),
            (
                json!({"user":"x","resourceAttributes":pods,"nonResourceAttributes":{"path":"/"}}),
                "spec.nonResourceAttributes: Invalid value: {\"Path\":\"/\",\"Verb\":\"\"}: cannot be specified in combination with \
                 resourceAttributes",
            ),
        ] {
            let e = by(bad).await.unwrap_err();
            assert_eq!((e.code, e.message), (422, format!(".authorization.k8s.io \"\" is invalid: {expected}")));
        }
        let mut labelled = ask(json!({"user":"x","resourceAttributes":pods}));
        labelled["metadata"] = json!({"namespace":"d","labels":{"a":"b"},"managedFields":[]});
        let e = check("SubjectAccessReview", "", &labelled).unwrap_err();
        assert!(e.message.starts_with(".authorization.k8s.io \"\" is invalid: metadata: Invalid value: "), "{e}");
        assert!(e.message.ends_with(": must be empty"), "{e}");
        let e = check("LocalSubjectAccessReview", "d", &labelled).unwrap_err();
        assert!(e.message.ends_with(": must be empty except for namespace"), "{e}");
        labelled["metadata"].as_object_mut().unwrap().remove("labels");
        assert!(check("LocalSubjectAccessReview", "d", &labelled).is_ok());
        let selecting = |selector: Value| {
            let mut question = pods.clone();
            question["fieldSelector"] = selector;
            by(json!({"user":"x","resourceAttributes":question}))
        };
        let odd = selecting(json!({"rawSelector":"a~b"})).await.unwrap();
        assert_eq!(
            odd["status"]["evaluationError"],
            "spec.resourceAttributes.fieldSelector ignored due to parse error"
        );
        let newer = selecting(json!({"requirements":[{"key":"a","operator":"Near"}]})).await.unwrap();
        assert_eq!(newer["status"]["evaluationError"], odd["status"]["evaluationError"]);
        let good = selecting(json!({"requirements":[{"key":"a","operator":"In","values":["b"]}]})).await.unwrap();
        assert!(good["status"].get("evaluationError").is_none());
        for (bad, expected) in [
            (
                json!({}),
                "fieldSelector.requirements: Required value: when spec.resourceAttributes.fieldSelector is specified",
            ),
            (
                json!({"rawSelector":"a=b","requirements":[{"key":"a","operator":"Exists"}]}),
                "may not specified at the same time",
            ),
            (json!({"requirements":[{"key":"a","operator":"In"}]}), "must be specified when `operator` is"),
            (json!({"requirements":[{"operator":"Exists"}]}), "requirements[0].key: Required value: must be specified"),
        ] {
            let e = selecting(bad.clone()).await.unwrap_err();
            assert!(e.code == 422 && e.message.contains(expected), "{bad}: {e}");
        }
        let dev = User::new("me", &["dev"]);
        let own = self_subject_access_review(&chain, &dev, &ask(json!({"resourceAttributes":pods}))).await;
        assert_eq!(own["status"]["allowed"], true);
        let local = ask(json!({"user":"x","groups":["dev"],"resourceAttributes":pods}));
        assert!(check("LocalSubjectAccessReview", "d", &local).is_ok());
        let e = check("LocalSubjectAccessReview", "other", &local).unwrap_err();
        assert!(e.message.contains("must match metadata.namespace"), "{e}");

        let rules = self_subject_rules_review(&chain, &dev, &ask(json!({"namespace":"d"})));
        assert_eq!((&rules["kind"], &rules["spec"]), (&json!("X"), &json!({})));
        let pods = json!({"apiGroups":[""],"resources":["pods"],"verbs":["get"]});
        let metrics = json!({"nonResourceURLs":["/metrics"],"verbs":["get"]});
        assert_eq!(
            rules["status"],
            json!({"resourceRules":[pods, pods], "nonResourceRules":[metrics, metrics], "incomplete":false,
                   "evaluationError": "role.rbac.authorization.k8s.io \"none\" not found"})
        );
        assert_eq!(check("SelfSubjectRulesReview", "", &ask(json!({}))).unwrap_err().code, 400);
        assert_eq!(self_subject_review(&dev, &ask(json!({})))["status"]["userInfo"]["username"], "me");
    }
}
