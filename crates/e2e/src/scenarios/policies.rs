//! Policies in CEL: validating, mutating, and rules of custom resources, as kubectl meets them.

use super::namespace::Namespace;
use crate::cluster::Cluster;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;

const GROUP: &str = "admissionregistration.k8s.io/v1";
const PATIENCE: Duration = Duration::from_secs(20);

/// Cluster-scoped objects that the scenario made; they go with it, whatever happens.
struct Made<'c> {
    c: &'c Cluster,
    names: std::cell::RefCell<Vec<String>>,
}

impl<'c> Made<'c> {
    fn new(c: &'c Cluster) -> Made<'c> {
        Made { c, names: Default::default() }
    }

    fn create(&self, object: &Value) -> Result<String> {
        let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let out = self.c.kubectl_input(&["apply", "-f", "-"], &object.to_string())?;
        self.names.borrow_mut().push(format!("{kind}/{name}"));
        Ok(out)
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        for name in self.names.borrow().iter().rev() {
            let _ = self.c.kubectl(&["delete", name, "--ignore-not-found", "--wait=false"]);
        }
    }
}

/// Rules for one resource, in one namespace alone: the cluster is shared.
fn constraints(ns: &Namespace<'_>, group: &str, resource: &str) -> Value {
    json!({"resourceRules": [{"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": [resource]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns.name()}}})
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": GROUP, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn binding(name: &str, policy: &str, actions: Value, more: Value) -> Value {
    let mut spec = json!({"policyName": policy, "validationActions": actions});
    for (k, v) in more.as_object().into_iter().flatten() {
        spec[k] = v.clone();
    }
    object("ValidatingAdmissionPolicyBinding", name, spec)
}

/// Refused, and why.
fn refused(c: &Cluster, args: &[&str], input: &str) -> Result<String> {
    match c.kubectl_input(args, input) {
        Ok(out) => anyhow::bail!("{args:?} should have been refused, but: {out}"),
        Err(e) => Ok(format!("{e:#}")),
    }
}

fn contains(text: &str, wanted: &str) -> Result<()> {
    ensure!(text.contains(wanted), "expected {wanted:?} in:\n{text}");
    Ok(())
}

fn deployment(name: &str, replicas: u32) -> String {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": replicas, "paused": true,
        "selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": "shop/backend:v1"}]}}}})
    .to_string()
}

pub fn validates(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "vap")?;
    let made = Made::new(c);
    let policy = format!("{}-replicas", ns.name());
    made.create(&object(
        "ValidatingAdmissionPolicy",
        &policy,
        json!({"failurePolicy": "Fail", "matchConstraints": constraints(&ns, "apps", "deployments"),
            "variables": [{"name": "replicas", "expression": "object.spec.replicas"},
                {"name": "tooMany", "expression": "variables.replicas > 5"}],
            "validations": [{"expression": "!variables.tooMany", "messageExpression": "'at most 5, not ' + string(variables.replicas)", "reason": "Forbidden"},
                {"expression": "object.metadata.name.startsWith('web')", "message": "must be called web"}]}),
    ))?;
    // No binding, no effect.
    c.kubectl_input(&["-n", ns.name(), "apply", "-f", "-"], &deployment("free", 6))?;
    made.create(&binding(&format!("{policy}-b"), &policy, json!(["Deny"]), json!({})))?;
    let args = ["-n", ns.name(), "apply", "-f", "-"];
    let told = refused(c, &args, &deployment("web", 6))?;
    contains(
        &told,
        &format!("ValidatingAdmissionPolicy '{policy}' with binding '{policy}-b' denied request: at most 5, not 6"),
    )?;
    contains(&told, "deployments.apps \"web\" is forbidden")?;
    contains(&refused(c, &args, &deployment("db", 1))?, "denied request: must be called web")?;
    c.kubectl_input(&args, &deployment("web", 5))?;
    let told = refused(c, &["-n", ns.name(), "patch", "deployment", "web", "-p", r#"{"spec":{"replicas":9}}"#], "")?;
    contains(&told, "at most 5, not 9")?;
    // A change of the binding counts for the next write.
    made.create(&binding(&format!("{policy}-b"), &policy, json!(["Warn", "Audit"]), json!({})))?;
    // Scaling is a write to another resource, which the policy doesn't name.
    ns.must("scale deployment web --replicas=7")?;
    let out = c.kubectl_run(&["-n", ns.name(), "patch", "deployment", "web", "-p", r#"{"spec":{"replicas":8}}"#])?;
    ensure!(out.ok, "warned, not refused: {}", out.stderr);
    let out = out.stderr;
    contains(
        &out,
        &format!(
            "Warning: Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{policy}-b': at most 5, not 8"
        ),
    )?;
    Ok(())
}

pub fn validates_by_params(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "vap-params")?;
    let made = Made::new(c);
    let policy = format!("{}-p", ns.name());
    made.create(&object(
        "ValidatingAdmissionPolicy",
        &policy,
        json!({"failurePolicy": "Fail", "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "matchConstraints": constraints(&ns, "", "secrets"),
            "matchConditions": [{"name": "named", "expression": "object.metadata.name.startsWith('p-')"}],
            "validations": [{"expression": "int(params.data.max) >= object.data.size()", "messageExpression": "'more than ' + params.data.max + ' keys'"},
                {"expression": "authorizer.group('').resource('secrets').namespace(request.namespace).check('create').allowed()"}]}),
    ))?;
    let r = json!({"paramRef": {"name": "limits", "parameterNotFoundAction": "Deny"}});
    made.create(&binding(&policy, &policy, json!(["Deny"]), r))?;
    let create = |name: &str, keys: usize| {
        let args: Vec<String> = (0..keys).map(|i| format!("--from-literal=k{i}=v")).collect();
        let mut all = vec!["-n", ns.name(), "create", "secret", "generic", name];
        all.extend(args.iter().map(String::as_str));
        c.kubectl(&all).map_err(|e| format!("{e:#}"))
    };
    let told = create("p-a", 1).err().context("must be refused")?;
    contains(&told, "no params found for policy binding with `Deny` parameterNotFoundAction")?;
    ns.must("create configmap limits --from-literal=max=2")?;
    ensure!(create("p-a", 2).is_ok(), "2 keys pass");
    ensure!(create("other", 5).is_ok(), "a match condition lets others pass");
    contains(&create("p-b", 3).err().context("must be refused")?, "more than 2 keys")?;
    ns.must("patch configmap limits -p {\"data\":{\"max\":\"3\"}}")?;
    ensure!(create("p-b", 3).is_ok(), "3 keys pass now");
    Ok(())
}

/// What is wrong with a policy is told when it is written, or in its status.
pub fn wrong_expressions(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "vap-wrong")?;
    let made = Made::new(c);
    let policy = |expression: &str| {
        object(
            "ValidatingAdmissionPolicy",
            &format!("{}-w", ns.name()),
            json!({"matchConstraints": constraints(&ns, "apps", "deployments"), "validations": [{"expression": expression}]}),
        )
    };
    for (expression, told) in [
        (
            "object.spec.replicas >",
            "spec.validations[0].expression: Invalid value: \"object.spec.replicas >\": compilation failed: ERROR: <input>:1:23: Syntax error",
        ),
        ("objct.spec.replicas > 1", "undeclared reference to 'objct' (in container '')"),
        ("object.spec.replicas", "must evaluate to bool"),
        ("params.x == 1", "undeclared reference to 'params' (in container '')"),
        ("'a'.matches('[')", "compilation failed"),
    ] {
        contains(&refused(c, &["create", "-f", "-"], &policy(expression).to_string())?, told)?;
    }
    let hook = json!({"apiVersion": GROUP, "kind": "ValidatingWebhookConfiguration", "metadata": {"name": format!("{}-w", ns.name())},
        "webhooks": [{"name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://127.0.0.1:1/"},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"]}],
            "matchConditions": [{"name": "c", "expression": "object.name =="}]}]});
    contains(&refused(c, &["create", "-f", "-"], &hook.to_string())?, "compilation failed")?;
    let mutating = hook.to_string().replace("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration");
    contains(&refused(c, &["create", "-f", "-"], &mutating)?, "compilation failed")?;
    // Types show in the status.
    let name = format!("{}-w", ns.name());
    made.create(&policy("object.spec.replicas > 1 && object.spec.nonsense == 2"))?;
    c.wait(PATIENCE, "type checking to be done", || {
        let p = c.json(&["get", "validatingadmissionpolicy", &name])?;
        let warning =
            p["status"]["typeChecking"]["expressionWarnings"][0]["warning"].as_str().unwrap_or_default().to_string();
        Ok(p["status"]["observedGeneration"] == p["metadata"]["generation"]
            && warning.contains("undefined field 'nonsense'"))
    })?;
    Ok(())
}

/// An expression can't keep the server busy.
pub fn costly_expressions(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "vap-cost")?;
    let made = Made::new(c);
    let policy = format!("{}-c", ns.name());
    made.create(&object(
        "ValidatingAdmissionPolicy",
        &policy,
        json!({"matchConstraints": constraints(&ns, "", "configmaps"), "validations": [
            {"expression": "object.data.all(a, object.data.all(b, object.data.all(c, object.data.all(d, object.data.all(e, a + b + c + d + e != '')))))"}]}),
    ))?;
    made.create(&binding(&policy, &policy, json!(["Deny"]), json!({})))?;
    let data: serde_json::Map<String, Value> = (0..100).map(|i| (format!("key-{i}"), json!("v"))).collect();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "big"}, "data": data}).to_string();
    let started = std::time::Instant::now();
    let told = refused(c, &["-n", ns.name(), "create", "-f", "-"], &map)?;
    contains(&told, "operation cancelled: actual cost limit exceeded")?;
    ensure!(started.elapsed() < Duration::from_secs(20), "stopped after {:?}", started.elapsed());
    Ok(())
}

pub fn mutates(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "map")?;
    let made = Made::new(c);
    let policy = |name: &str, mutation: Value, more: Value| {
        let mut spec = json!({"failurePolicy": "Fail", "reinvocationPolicy": "Never", "mutations": [mutation],
            "matchConstraints": constraints(&ns, "apps", "deployments")});
        for (k, v) in more.as_object().into_iter().flatten() {
            spec[k] = v.clone();
        }
        object("MutatingAdmissionPolicy", &format!("{}-{name}", ns.name()), spec)
    };
    let bind = |name: &str| {
        let name = format!("{}-{name}", ns.name());
        object("MutatingAdmissionPolicyBinding", &name, json!({"policyName": name}))
    };
    let apply = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
        "Object{metadata: Object.metadata{labels: {'mutated': 'yes'}}, spec: Object.spec{template: Object.spec.template{spec: \
         Object.spec.template.spec{initContainers: [Object.spec.template.spec.initContainers{name: 'side', image: 'shop/backend:v1', \
         restartPolicy: 'Always'}]}}}}"}});
    made.create(&policy(
        "apply",
        apply,
        json!({"matchConditions": [{"name": "c", "expression": "object.metadata.name != 'plain'"}]}),
    ))?;
    made.create(&bind("apply"))?;
    let patch = json!({"patchType": "JSONPatch", "jsonPatch": {"expression":
        "has(object.metadata.annotations) ? [JSONPatch{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey('example.com/by'), value: request.userInfo.username}] \
         : [JSONPatch{op: 'add', path: '/metadata/annotations', value: {'example.com/by': request.userInfo.username}}]"}});
    made.create(&policy("patch", patch, json!({})))?;
    made.create(&bind("patch"))?;
    let args = ["-n", ns.name(), "create", "-f", "-"];
    c.kubectl_input(&args, &deployment("web", 0))?;
    c.kubectl_input(&args, &deployment("plain", 0))?;
    let web = c.json(&["-n", ns.name(), "get", "deployment", "web"])?;
    ensure!(web["metadata"]["labels"]["mutated"] == "yes", "{web}");
    ensure!(web["spec"]["template"]["spec"]["initContainers"][0]["name"] == "side", "{web}");
    ensure!(web["spec"]["template"]["spec"]["containers"][0]["image"] == "shop/backend:v1", "{web}");
    ensure!(web["metadata"]["annotations"]["example.com/by"].is_string(), "{web}");
    let plain = c.json(&["-n", ns.name(), "get", "deployment", "plain"])?;
    ensure!(
        plain["metadata"]["labels"].is_null() && plain["metadata"]["annotations"]["example.com/by"].is_string(),
        "{plain}"
    );
    // What can't be done is refused by default.
    let broken = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'remove', path: '/spec/nothing'}]"}});
    made.create(&policy("broken", broken.clone(), json!({})))?;
    made.create(&bind("broken"))?;
    let told = refused(c, &args, &deployment("late", 0))?;
    contains(&told, &format!("policy '{0}-broken' with binding '{0}-broken' denied request", ns.name()))?;
    made.create(&policy("broken", broken, json!({"failurePolicy": "Ignore"})))?;
    c.kubectl_input(&args, &deployment("late", 0))?;
    // Expressions are judged when they are written.
    let wrong = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "object.spec"}});
    let told = refused(c, &["create", "-f", "-"], &policy("wrong", wrong, json!({})).to_string())?;
    contains(&told, "spec.mutations[0].applyConfiguration.expression: Invalid value")?;
    Ok(())
}

/// Every verb on the four kinds.
pub fn policies_are_objects(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "policy-api")?;
    let made = Made::new(c);
    let resources =
        c.kubectl(&["api-resources", "--api-group=admissionregistration.k8s.io", "--no-headers", "-o", "wide"])?;
    let label = format!("run={}", ns.name());
    for (plural, kind) in [
        ("validatingadmissionpolicies", "ValidatingAdmissionPolicy"),
        ("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding"),
        ("mutatingadmissionpolicies", "MutatingAdmissionPolicy"),
        ("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding"),
    ] {
        let line = resources.lines().find(|l| l.starts_with(&format!("{plural} "))).context("is discovered")?;
        for verb in ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"] {
            contains(line, verb)?;
        }
        let spec = match kind {
            "ValidatingAdmissionPolicy" => {
                json!({"matchConstraints": constraints(&ns, "apps", "deployments"), "validations": [{"expression": "true"}]})
            }
            "MutatingAdmissionPolicy" => {
                json!({"matchConstraints": constraints(&ns, "apps", "deployments"), "reinvocationPolicy": "Never",
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'test', path: '/kind', value: 'x'}]"}}]})
            }
            "ValidatingAdmissionPolicyBinding" => json!({"policyName": "none", "validationActions": ["Deny"]}),
            _ => json!({"policyName": "none"}),
        };
        let name = format!("{}-o", ns.name());
        let mut o = object(kind, &name, spec);
        o["metadata"]["labels"] = json!({"run": ns.name()});
        made.create(&o)?;
        let got = c.json(&["get", plural, &name])?;
        ensure!(got["metadata"]["generation"] == 1, "{got}");
        c.kubectl(&["patch", plural, &name, "-p", r#"{"metadata":{"annotations":{"a":"b"}}}"#])?;
        let mut new = c.json(&["get", plural, &name])?;
        ensure!(new["metadata"]["annotations"]["a"] == "b" && new["metadata"]["generation"] == 1, "{new}");
        new["metadata"]["labels"]["more"] = "x".into();
        if let Some(m) = new["metadata"].as_object_mut() {
            // Type checking may have written meanwhile.
            m.remove("resourceVersion");
        }
        c.kubectl_input(&["replace", "-f", "-"], &new.to_string())?;
        let listed = c.json(&["get", plural, "-l", &label])?;
        ensure!(listed["items"].as_array().map(Vec::len) == Some(1), "{listed}");
        if kind == "ValidatingAdmissionPolicy" {
            let patch = r#"{"status":{"conditions":[{"type":"X","status":"True","reason":"R","message":"m","lastTransitionTime":"2024-01-01T00:00:00Z"}]}}"#;
            c.kubectl(&["patch", plural, &name, "--subresource=status", "--type=merge", "-p", patch])?;
            let got = c.json(&["get", plural, &name, "--subresource=status"])?;
            ensure!(got["status"]["conditions"][0]["type"] == "X", "{got}");
        }
        c.kubectl(&["delete", plural, "-l", &label])?;
        let listed = c.json(&["get", plural, "-l", &label])?;
        ensure!(listed["items"].as_array().is_some_and(Vec::is_empty), "{listed}");
    }
    Ok(())
}

pub fn custom_resource_rules(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "crd-rules")?;
    let made = Made::new(c);
    let group = format!("{}.example.com", ns.name());
    let crd = |spec: Value| {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("ranges.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "ranges", "singular": "range", "kind": "Range"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
                    "properties": {"spec": spec}}}}]}})
    };
    let int = json!({"type": "integer"});
    let unbounded = json!({"type": "object", "properties": {"tags": {"type": "array", "items": {"type": "string"},
        "x-kubernetes-validations": [{"rule": "self.all(x, x.contains('gpu'))"}]}}});
    let told = refused(c, &["create", "-f", "-"], &crd(unbounded).to_string())?;
    contains(&told, "Forbidden: estimated rule cost exceeds budget by factor of more than 100x")?;
    let wrong =
        json!({"type": "object", "properties": {"min": int}, "x-kubernetes-validations": [{"rule": "self.mim > 1"}]});
    contains(&refused(c, &["create", "-f", "-"], &crd(wrong).to_string())?, "undefined field 'mim'")?;
    made.create(&crd(json!({"type": "object", "properties": {"min": int, "max": int,
            "name": {"type": "string", "maxLength": 10, "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "name is immutable"}]}},
        "x-kubernetes-validations": [{"rule": "self.min <= self.max", "messageExpression": "'min %d is above max %d'.format([self.min, self.max])", "fieldPath": ".min"}]})))?;
    c.kubectl(&["wait", "--for=condition=Established", &format!("crd/ranges.{group}"), "--timeout=20s"])?;
    let range = |min: i64, max: i64, name: &str| {
        json!({"apiVersion": format!("{group}/v1"), "kind": "Range", "metadata": {"name": "r"}, "spec": {"min": min, "max": max, "name": name}}).to_string()
    };
    let args = ["-n", ns.name(), "apply", "-f", "-"];
    contains(&refused(c, &args, &range(3, 2, "a"))?, "spec.min: Invalid value: min 3 is above max 2")?;
    c.kubectl_input(&args, &range(1, 2, "a"))?;
    let patch = |spec: &str| c.kubectl_run(&["-n", ns.name(), "patch", "range", "r", "--type=merge", "-p", spec]);
    contains(&patch(r#"{"spec":{"name":"b"}}"#)?.stderr, "spec.name: Invalid value: \"b\": name is immutable")?;
    contains(&patch(r#"{"spec":{"max":0}}"#)?.stderr, "min 1 is above max 0")?;
    let done = patch(r#"{"spec":{"max":5}}"#)?;
    ensure!(done.ok, "{}", done.stderr);
    Ok(())
}
