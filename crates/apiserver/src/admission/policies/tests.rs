use super::*;
use crate::admission::Plugin;
use crate::admission::testing::Write;
use crate::authn::User;
use crate::authz::masters::Masters;
use crate::testing::{put, reader, remove};
use meta::status::Status;
use serde_json::json;

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion":"admissionregistration.k8s.io/v1","kind":kind,"metadata":{"name":name},"spec":spec})
}

fn constraints(group: &str, resource: &str) -> Value {
    json!({"resourceRules":[{"apiGroups":[group],"apiVersions":["v1"],"operations":["CREATE","UPDATE"],"resources":[resource]}]})
}

fn validating(validations: Value, more: Value) -> Value {
    let mut spec =
        json!({"failurePolicy":"Fail","matchConstraints":constraints("apps", "deployments"),"validations":validations});
    for (k, v) in more.as_object().into_iter().flatten() {
        spec[k] = v.clone();
    }
    object("ValidatingAdmissionPolicy", "p", spec)
}

fn binding(more: Value) -> Value {
    let mut spec = json!({"policyName":"p","validationActions":["Deny"]});
    for (k, v) in more.as_object().into_iter().flatten() {
        spec[k] = v.clone();
    }
    object("ValidatingAdmissionPolicyBinding", "b", spec)
}

fn namespace() -> Value {
    json!({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"d","labels":{"env":"test"}}})
}

fn deployment(replicas: i64) -> Write {
    let labels = json!({"app": "web"});
    Write::create(
        "apps",
        "deployments",
        "d",
        json!({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"d"},"spec":{
            "replicas":replicas,"selector":{"matchLabels":labels},
            "template":{"metadata":{"labels":labels},"spec":{"containers":[{"name":"c","image":"i"}]}}}}),
    )
    .served()
}

async fn validate(objects: &[Value], write: Write) -> Result<()> {
    let r = reader(objects).await;
    let authorizer: Arc<dyn Authorizer> = Arc::new(Masters);
    write.validate(&Validating(Arc::new(Policies::new(&r, &authorizer)))).await
}

async fn told(objects: &[Value], write: Write) -> String {
    match validate(objects, write).await {
        Ok(()) => "passed".into(),
        Err(Status { code, reason, message, .. }) => format!("{code} {reason} {message}"),
    }
}

#[tokio::test]
async fn policies_see_bindings_and_tokens_and_never_reviews() {
    let never = |more: Value| [namespace(), validating(json!([{"expression":"false"}]), more), binding(json!({}))];
    let rule = |group: &str| never(json!({"matchConstraints": constraints(group, "*")}));
    for (group, plural, passes) in [
        ("authentication.k8s.io", "tokenreviews", true),
        ("authorization.k8s.io", "subjectaccessreviews", true),
        ("authorization.k8s.io", "localsubjectaccessreviews", true),
        ("", "bindings", false),
    ] {
        let write = Write::create(group, plural, "d", json!({"metadata":{"name":"x"}})).served();
        assert_eq!(validate(&rule(group), write).await.is_ok(), passes, "{plural}");
    }
}

#[tokio::test]
async fn a_policy_refuses_with_its_message_and_reason() {
    let with = |v: Value| [namespace(), validating(json!([v]), json!({})), binding(json!({}))];
    let start = "deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request:";
    for (validation, replicas, want) in [
        (json!({"expression":"object.spec.replicas <= 5"}), 5, "passed".to_string()),
        (
            json!({"expression":"object.spec.replicas <= 5"}),
            6,
            format!("422 Invalid {start} failed expression: object.spec.replicas <= 5"),
        ),
        (
            json!({"expression":"object.spec.replicas <= 5","message":"too many","reason":"Forbidden"}),
            6,
            format!("403 Forbidden {start} too many"),
        ),
        (
            json!({"expression":"object.spec.replicas <= 5","message":"x","messageExpression":"'has ' + string(object.spec.replicas)"}),
            6,
            format!("422 Invalid {start} has 6"),
        ),
        (
            json!({"expression":"object.spec.replicas <= 5","message":"x","messageExpression":"string(object.nope)"}),
            6,
            format!("422 Invalid {start} x"),
        ),
        (
            json!({"expression":"object.spec.nope <= 5"}),
            1,
            format!("422 Invalid {start} expression 'object.spec.nope <= 5' resulted in error: no such key: nope"),
        ),
        (
            json!({"expression":"namespaceObject.metadata.labels.env == 'test' && request.operation == 'CREATE' && oldObject == null"}),
            1,
            "passed".to_string(),
        ),
        (
            json!({"expression":"request.name == 'web' && request.namespace == 'd' && request.kind.kind == 'Deployment'"}),
            1,
            "passed".to_string(),
        ),
    ] {
        let shown = validation.to_string();
        assert_eq!(told(&with(validation), deployment(replicas)).await, want, "{shown}");
    }
}

#[tokio::test]
async fn policies_without_bindings_and_other_writes_pass() {
    let policy = validating(json!([{"expression":"false"}]), json!({}));
    assert_eq!(told(&[namespace(), policy.clone()], deployment(1)).await, "passed");
    let elsewhere = binding(json!({"matchResources":{"namespaceSelector":{"matchLabels":{"env":"prod"}}}}));
    assert_eq!(told(&[namespace(), policy.clone(), elsewhere], deployment(1)).await, "passed");
    let excluded = validating(
        json!([{"expression":"false"}]),
        json!({"matchConditions":[{"name":"c","expression":"request.userInfo.username != 'jane'"}]}),
    );
    let by_jane = || deployment(1).by(&User::new("jane", &[]));
    assert_eq!(told(&[namespace(), excluded.clone(), binding(json!({}))], by_jane()).await, "passed");
    assert_ne!(
        told(&[namespace(), excluded, binding(json!({}))], deployment(1).by(&User::new("joe", &[]))).await,
        "passed"
    );
    let ignored = validating(json!([{"expression":"object.nope"}]), json!({"failurePolicy":"Ignore"}));
    assert_eq!(told(&[namespace(), ignored, binding(json!({}))], deployment(1)).await, "passed");
    let itself =
        Write::create("admissionregistration.k8s.io", "validatingadmissionpolicies", "", policy.clone()).served();
    let mut all = policy;
    all["spec"]["matchConstraints"] =
        json!({"resourceRules":[{"apiGroups":["*"],"apiVersions":["*"],"operations":["*"],"resources":["*"]}]});
    let by = |group: &str, plural: &str, kind: &str| {
        let object = json!({"apiVersion":format!("{group}/v1"),"kind":kind,"metadata":{"name":"x"}});
        Write::create(group, plural, "", object).served()
    };
    assert_eq!(told(&[namespace(), all.clone(), binding(json!({}))], itself).await, "passed");
    let review = by("authentication.k8s.io", "tokenreviews", "TokenReview");
    assert_eq!(told(&[namespace(), all.clone(), binding(json!({}))], review).await, "passed");
    let webhook =
        by("admissionregistration.k8s.io", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration");
    assert_ne!(told(&[namespace(), all, binding(json!({}))], webhook).await, "passed");
}

#[tokio::test]
async fn params_come_by_name_or_selector() {
    let param = |name: &str, max: &str, label: &str| json!({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":name,"namespace":"d","labels":{"for":label}},"data":{"max":max}});
    let policy = validating(
        json!([{"expression":"object.spec.replicas <= int(params.data.max)","messageExpression":"'at most ' + params.data.max"}]),
        json!({"paramKind":{"apiVersion":"v1","kind":"ConfigMap"}}),
    );
    let objects = |r: Value| {
        vec![namespace(), policy.clone(), binding(json!({"paramRef":r})), param("a", "3", "x"), param("b", "2", "x")]
    };
    let start = "422 Invalid deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request:";
    for (r, replicas, want) in [
        (json!({"name":"a","parameterNotFoundAction":"Deny"}), 3, "passed".to_string()),
        (json!({"name":"a","parameterNotFoundAction":"Deny"}), 4, format!("{start} at most 3")),
        (
            json!({"selector":{"matchLabels":{"for":"x"}},"parameterNotFoundAction":"Deny"}),
            3,
            format!("{start} at most 2"),
        ),
        (json!({"name":"none","parameterNotFoundAction":"Allow"}), 9, "passed".to_string()),
        (
            json!({"name":"none","parameterNotFoundAction":"Deny"}),
            1,
            format!(
                "{start} failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
            ),
        ),
    ] {
        assert_eq!(told(&objects(r), deployment(replicas)).await, want);
    }
    let unknown =
        validating(json!([{"expression":"true"}]), json!({"paramKind":{"apiVersion":"x.io/v1","kind":"Nope"}}));
    let all = [namespace(), unknown, binding(json!({"paramRef":{"name":"a","parameterNotFoundAction":"Deny"}}))];
    assert_eq!(
        told(&all, deployment(1)).await,
        format!(
            "422 Invalid deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: failed to find resource referenced by paramKind: 'x.io/v1, Kind=Nope'"
        )
    );
}

#[tokio::test]
async fn without_a_parameter_there_is_null() {
    for (expression, want) in [
        (
            "object.metadata.name.startsWith(params.metadata.name)",
            "expression 'object.metadata.name.startsWith(params.metadata.name)' resulted in error: no such key: metadata",
        ),
        ("has(params.metadata) && true", "failed expression: has(params.metadata) && true"),
        (
            "params != null && object.metadata.name == params.metadata.name",
            "failed expression: params != null && object.metadata.name == params.metadata.name",
        ),
    ] {
        let param = json!({"paramKind":{"apiVersion":"v1","kind":"ConfigMap"}});
        let policy = validating(json!([{"expression":expression}]), param);
        let said = told(&[namespace(), policy, binding(json!({}))], deployment(1)).await;
        assert!(said.ends_with(&format!("denied request: {want}")), "{said}");
    }
}

#[tokio::test]
async fn variables_warnings_and_the_authorizer() {
    let policy = validating(
        json!([{"expression":"variables.small || authorizer.requestResource.check('scale').allowed()"}]),
        json!({"variables":[{"name":"n","expression":"object.spec.replicas"},{"name":"small","expression":"variables.n < 3"}]}),
    );
    let r = reader(&[namespace(), policy, binding(json!({"validationActions":["Warn","Audit"]}))]).await;
    let authorizer: Arc<dyn Authorizer> = Arc::new(Masters);
    let plugin = Validating(Arc::new(Policies::new(&r, &authorizer)));
    let mut write = deployment(9);
    let plugins: [Arc<dyn Plugin>; 1] = [Arc::new(plugin)];
    write.through(&plugins).await.unwrap();
    assert_eq!(
        write.warned(),
        [
            "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': failed expression: variables.small || authorizer.requestResource.check('scale').allowed()"
        ]
    );
    let mut by_master = deployment(9).by(&User::new("root", &["system:masters"]));
    by_master.through(&plugins).await.unwrap();
    assert_eq!(by_master.warned(), Vec::<String>::new());
}

#[tokio::test]
async fn changes_count_at_once() {
    let r = reader(&[namespace()]).await;
    let authorizer: Arc<dyn Authorizer> = Arc::new(Masters);
    let plugin = Validating(Arc::new(Policies::new(&r, &authorizer)));
    deployment(1).validate(&plugin).await.unwrap();
    put(&r, &validating(json!([{"expression":"false"}]), json!({}))).await;
    deployment(1).validate(&plugin).await.unwrap();
    put(&r, &binding(json!({}))).await;
    deployment(1).validate(&plugin).await.unwrap_err();
    put(&r, &validating(json!([{"expression":"true"}]), json!({}))).await;
    deployment(1).validate(&plugin).await.unwrap();
    put(&r, &validating(json!([{"expression":"false"}]), json!({}))).await;
    deployment(1).validate(&plugin).await.unwrap_err();
    remove(&r, &binding(json!({}))).await;
    deployment(1).validate(&plugin).await.unwrap();
}

async fn mutated(mutations: Value, more: Value, write: Write) -> Result<Value> {
    let mut spec = json!({"failurePolicy":"Fail","reinvocationPolicy":"Never","matchConstraints":constraints("apps", "deployments"),"mutations":mutations});
    for (k, v) in more.as_object().into_iter().flatten() {
        spec[k] = v.clone();
    }
    let r = reader(&[
        namespace(),
        object("MutatingAdmissionPolicy", "p", spec),
        object("MutatingAdmissionPolicyBinding", "b", json!({"policyName":"p"})),
    ])
    .await;
    let authorizer: Arc<dyn Authorizer> = Arc::new(Masters);
    write.admit(&Mutating(Arc::new(Policies::new(&r, &authorizer)))).await
}

fn apply(expression: &str) -> Value {
    json!([{"patchType":"ApplyConfiguration","applyConfiguration":{"expression":expression}}])
}

fn patch(expression: &str) -> Value {
    json!([{"patchType":"JSONPatch","jsonPatch":{"expression":expression}}])
}

#[tokio::test]
async fn mutations_apply_and_patch() {
    let done = mutated(
        apply("Object{metadata: Object.metadata{labels: {'a': 'b'}}, spec: Object.spec{replicas: object.spec.replicas + 1,
            template: Object.spec.template{spec: Object.spec.template.spec{initContainers: [
                Object.spec.template.spec.initContainers{name: 'side', image: 'busybox', restartPolicy: 'Always'}],
                containers: [Object.spec.template.spec.containers{name: 'c', image: 'other'}]}}}}"),
        json!({}),
        deployment(2),
    )
    .await
    .unwrap();
    assert_eq!((&done["spec"]["replicas"], &done["metadata"]["labels"]), (&json!(3), &json!({"a":"b"})));
    let pod = &done["spec"]["template"]["spec"];
    assert_eq!(pod["initContainers"][0]["name"], "side");
    assert_eq!(
        (pod["containers"].as_array().map(Vec::len), &pod["containers"][0]["image"]),
        (Some(1), &json!("other"))
    );

    let done = mutated(
        patch("[JSONPatch{op: 'test', path: '/spec/replicas', value: 2}, JSONPatch{op: 'add', path: '/metadata/annotations', value: {'x': 'y'}},
            JSONPatch{op: 'replace', path: '/metadata/annotations/x', value: 'z' + variables.v}]"),
        json!({"variables":[{"name":"v","expression":"string(object.spec.replicas)"}]}),
        deployment(2),
    )
    .await
    .unwrap();
    assert_eq!(done["metadata"]["annotations"], json!({"x":"z2"}));

    // Both, in order: the second sees what the first did.
    let both = json!([
        apply("Object{spec: Object.spec{replicas: 7}}")[0],
        patch("[JSONPatch{op: 'add', path: '/spec/minReadySeconds', value: object.spec.replicas}]")[0]
    ]);
    assert_eq!(mutated(both, json!({}), deployment(2)).await.unwrap()["spec"]["minReadySeconds"], 7);

    let skipped = json!({"matchConditions":[{"name":"c","expression":"object.spec.replicas > 100"}]});
    assert_eq!(
        mutated(apply("Object{spec: Object.spec{replicas: 7}}"), skipped, deployment(2)).await.unwrap()["spec"]["replicas"],
        2
    );
}

#[tokio::test]
async fn mutations_that_fail_deny_unless_told_to_be_ignored() {
    let start = "policy 'p' with binding 'b' denied request:";
    for (mutations, want) in [
        (
            apply("Object{spec: Object.spec{replicas: object.nope}}"),
            "expression 'Object{spec: Object.spec{replicas: object.nope}}' resulted in error: no such key: nope",
        ),
        (
            apply("Object{spec: Object.status{replicas: 1}}"),
            "type mismatch: unexpected type name \"Object.status\", expected \"Object.spec\", which matches field name path from root Object type",
        ),
        (
            apply(
                "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{nodeSelector: {'a': 'b'}}}}}",
            ),
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.template.spec.nodeSelector",
        ),
        (
            apply("Object{spec: Object.spec{replicasx: 1}}"),
            "error applying patch: failed to convert patch object to typed object: .spec.replicasx: field not declared in schema",
        ),
        (
            apply("Object{spec: Object.status{replicas: 1, template: Object.x{}}}"),
            "type mismatch: unexpected type name \"Object.status\", expected \"Object.spec\", which matches field name path from root Object type\nunexpected type name \"Object.x\", expected \"Object.spec.template\", which matches field name path from root Object type",
        ),
        (apply("'x'"), "must evaluate to Object but got string"),
        (patch("[JSONPatch{path: '/a', value: 1}]"), "JSON Patch: Unexpected kind: "),
        (
            patch("[JSONPatch{op: 'replace', path: '/spec/x/y', value: 1}]"),
            "JSON Patch: replace operation does not apply: doc is missing path: /spec/x/y: missing value",
        ),
        (
            patch("[JSONPatch{op: 'add', path: '/spec/template/spec', value: Object.spec{a: Object.spec.b{}}}]"),
            "type mismatch: unexpected type name \"Object.spec.b\", expected \"Object.spec.a\", which matches field name path from root Object type",
        ),
    ] {
        let e = mutated(mutations.clone(), json!({}), deployment(1)).await.unwrap_err();
        assert_eq!((e.code, e.reason, e.message.clone()), (403, "Invalid", format!("{start} {want}")));
        let causes = e.details.map(|d| d.causes).unwrap_or_default();
        assert_eq!(causes.last().map(|c| c.message.clone()), Some(e.message));
        assert!(mutated(mutations, json!({"failurePolicy":"Ignore"}), deployment(1)).await.is_ok());
    }
}

#[tokio::test]
async fn patches_must_fit_the_type_whatever_the_failure_policy() {
    for (value, why) in [
        ("{'foo': 1}", "strict decoding error: unknown field \"spec.strategy.foo\""),
        (
            "'x'",
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.strategy of type v1.DeploymentStrategy",
        ),
    ] {
        let patch = patch(&format!("[JSONPatch{{op: 'add', path: '/spec/strategy', value: {value}}}]"));
        let e = mutated(patch, json!({"failurePolicy":"Ignore"}), deployment(1)).await.unwrap_err();
        assert_eq!((e.code, e.message), (500, format!("Internal error occurred: {why}")));
    }
}

#[tokio::test]
async fn mutating_policies_that_are_configured_badly_forbid() {
    let none = || apply("Object{}");
    let e = mutated(none(), json!({"paramKind":{"apiVersion":"v1","kind":"Nope"}}), deployment(1)).await.unwrap_err();
    assert_eq!(
        (e.code, e.reason, e.message.as_str()),
        (
            403,
            "Forbidden",
            "policy \"p\" denied request: failed to configure policy: failed to find resource referenced by paramKind: '/v1, Kind=Nope'"
        )
    );
    let selector = json!({"matchLabels":{"a":"b"}});
    let matched =
        json!({"resourceRules":constraints("apps", "deployments")["resourceRules"],"namespaceSelector":selector});
    let elsewhere = Write::create("apps", "deployments", "gone", json!({"metadata":{"name":"x"}})).served();
    let e = mutated(none(), json!({"matchConstraints": matched}), elsewhere).await.unwrap_err();
    assert_eq!(
        (e.code, e.message.as_str()),
        (403, "policy \"p\" denied request: failed to configure policy: namespaces \"gone\" not found")
    );
}

#[tokio::test]
async fn what_is_deleted_is_not_mutated() {
    let all = json!({"resourceRules":[{"apiGroups":["*"],"apiVersions":["*"],"operations":["*"],"resources":["*"]}]});
    let more = json!({"matchConstraints":all,"matchConditions":[{"name":"c","expression":"object.nope == 1"}]});
    let old = json!({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"d"}});
    let done = mutated(apply("Object{}"), more, Write::delete("", "configmaps", "d", old).served()).await;
    assert_eq!(done, Ok(Value::Null));
}

#[tokio::test]
async fn a_policy_that_wants_it_is_applied_again_after_itself() {
    let more = json!({"reinvocationPolicy":"IfNeeded"});
    let counting = apply("Object{spec: Object.spec{replicas: object.spec.replicas + 1}}");
    let r = reader(&[
        namespace(),
        object("MutatingAdmissionPolicy", "p", {
            let mut spec = json!({"failurePolicy":"Fail","matchConstraints":constraints("apps", "deployments"),"mutations":counting});
            spec["reinvocationPolicy"] = more["reinvocationPolicy"].clone();
            spec
        }),
        object("MutatingAdmissionPolicyBinding", "b", json!({"policyName":"p"})),
    ])
    .await;
    let authorizer: Arc<dyn Authorizer> = Arc::new(Masters);
    let plugins: [Arc<dyn Plugin>; 1] = [Arc::new(Mutating(Arc::new(Policies::new(&r, &authorizer))))];
    assert_eq!(deployment(1).through(&plugins).await.unwrap()["spec"]["replicas"], 3);
}

#[tokio::test]
async fn auditors_hear_of_all_denials_at_once() {
    let r = reader(&[
        namespace(),
        validating(
            json!([{"expression":"true"},{"expression":"false"},{"expression":"false","message":"m"}]),
            json!({}),
        ),
        binding(json!({"validationActions":["Audit"]})),
    ])
    .await;
    let authorizer: Arc<dyn Authorizer> = Arc::new(Masters);
    let plugins: [Arc<dyn Plugin>; 1] = [Arc::new(Validating(Arc::new(Policies::new(&r, &authorizer))))];
    let mut write = deployment(1).audited();
    write.through(&plugins).await.unwrap();
    let one = |index: usize, message: &str| {
        format!(
            r#"{{"message":"{message}","policy":"p","binding":"b","expressionIndex":{index},"validationActions":["Audit"]}}"#
        )
    };
    assert_eq!(
        write.annotations().get("validation.policy.admission.k8s.io/validation_failure"),
        Some(&format!("[{},{}]", one(1, "failed expression: false"), one(2, "m")))
    );
}

#[tokio::test]
async fn match_conditions_see_no_namespace() {
    let conditions = json!({"matchConditions":[{"name":"c","expression":"namespaceObject == null"}]});
    let policy = validating(json!([{"expression":"namespaceObject == null"}]), conditions);
    let said = told(&[namespace(), policy, binding(json!({}))], deployment(1)).await;
    assert!(said.ends_with("failed expression: namespaceObject == null"), "{said}");
}

#[tokio::test]
async fn what_policies_do_is_counted() {
    let named = |mut o: Value, name: &str| {
        o["metadata"]["name"] = name.into();
        if o["spec"].get("policyName").is_some() {
            o["spec"]["policyName"] = "counted".into();
        }
        o
    };
    for (policy, action) in [
        (validating(json!([{"expression":"true"},{"expression":"false"}]), json!({})), "Audit"),
        (validating(json!([{"expression":"object.nope == 1"}]), json!({"failurePolicy":"Ignore"})), "Deny"),
    ] {
        let objects =
            [namespace(), named(policy, "counted"), named(binding(json!({"validationActions":[action]})), "counting")];
        validate(&objects, deployment(1)).await.unwrap();
    }
    mutated(apply("Object{}"), json!({"reinvocationPolicy":"Never"}), deployment(1)).await.unwrap();
    let mut shown = String::new();
    crate::metrics::figures::render(&mut shown);
    let labels = "error_type=\"invalid_error\",policy=\"counted\",policy_binding=\"counting\"";
    for line in [
        format!("apiserver_validating_admission_policy_check_total{{enforcement_action=\"audit\",{labels}}} 1\n"),
        format!("apiserver_validating_admission_policy_check_total{{enforcement_action=\"allow\",{labels}}} 1\n"),
        format!(
            "apiserver_validating_admission_policy_check_duration_seconds_count{{enforcement_action=\"allow\",{labels}}} 1\n"
        ),
        "apiserver_mutating_admission_policy_check_total{error_type=\"no_error\",policy=\"p\",policy_binding=\"b\"} "
            .to_string(),
    ] {
        assert!(shown.contains(&line), "{line}");
    }
}
