use super::*;
use crate::admission::testing::Write;
use crate::outbound::testing::{Peer, json as answer};
use crate::testing::{put, reader, remove};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::Response;
use parking_lot::Mutex;
use serde_json::json;

struct Nobody;
#[async_trait]
impl Authorizer for Nobody {
    async fn authorize(&self, _: &crate::authz::Attributes) -> crate::authz::Decision {
        crate::authz::Decision::NoOpinion(String::new())
    }
}

/// A webhook server that answers each request by a closure over (path, request), and what it was asked.
struct World {
    peer: Peer,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    /// The queries of those requests, and as whom they came.
    heads: Arc<Mutex<Vec<(String, String)>>>,
    reader: Reader,
    plugins: Vec<Arc<dyn Plugin>>,
    hooks: Arc<Webhooks>,
}

impl World {
    async fn new(decide: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> World {
        World::with([AuthInfos::default(), AuthInfos::default()], decide).await
    }

    async fn with(
        credentials: [AuthInfos; 2],
        decide: impl Fn(&str, &Value) -> Value + Send + Sync + 'static,
    ) -> World {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (seen, heard) = (asked.clone(), heads.clone());
        let decide = Arc::new(decide);
        let peer = Peer::start(&["127.0.0.1"], move |r| {
            let review: Value = serde_json::from_slice(r.body()).unwrap();
            let path = r.uri().path().to_string();
            let who = r.headers().get("authorization").and_then(|v| v.to_str().ok()).unwrap_or("").to_string();
            heard.lock().push((r.uri().query().unwrap_or("").to_string(), who));
            let mut response = decide(&path, &review["request"]);
            seen.lock().push((path, review["request"].clone()));
            async move {
                if response["hang"] == true {
                    std::future::pending::<()>().await;
                }
                if let Some(code) = response["http"].as_u64() {
                    return Response::builder().status(code as u16).body(Bytes::from("broken")).unwrap();
                }
                if response.get("uid").is_none() {
                    response["uid"] = review["request"]["uid"].clone();
                }
                let version =
                    response.as_object_mut().and_then(|o| o.remove("as")).unwrap_or(review["apiVersion"].clone());
                answer(200, &json!({"apiVersion": version, "kind": "AdmissionReview", "response": response}))
            }
        })
        .await;
        let reader = reader(&[]).await;
        let outbound = outbound::Client::new(reader.clone());
        let nobody: Arc<dyn Authorizer> = Arc::new(Nobody);
        let hooks = Arc::new(Webhooks::new(&reader, &nobody, &outbound, &Arc::default(), credentials));
        let plugins: Vec<Arc<dyn Plugin>> =
            vec![Arc::new(Mutating(hooks.clone())), Arc::new(Validating(hooks.clone()))];
        World { peer, asked, heads, reader, plugins, hooks }
    }

    fn hook(&self, path: &str, more: Value) -> Value {
        let mut hook = json!({
            "name": format!("{}.example.com", path.trim_start_matches('/')),
            "clientConfig": {"url": self.peer.url(path), "caBundle": STANDARD.encode(&self.peer.ca_pem)},
            "rules": [{"operations":["*"],"apiGroups":["*"],"apiVersions":["*"],"resources":["*/*"]}],
            "admissionReviewVersions": ["v1"], "sideEffects": "None", "timeoutSeconds": 1, "failurePolicy": "Fail",
        });
        for (k, v) in more.as_object().into_iter().flatten() {
            hook[k] = v.clone();
        }
        hook
    }

    async fn configure(&self, kind: &str, name: &str, hooks: &[Value]) {
        put(&self.reader, &configuration(kind, name, hooks)).await;
    }

    async fn mutating(&self, hooks: &[Value]) {
        self.configure("MutatingWebhookConfiguration", "m", hooks).await;
    }

    async fn validating(&self, hooks: &[Value]) {
        self.configure("ValidatingWebhookConfiguration", "v", hooks).await;
    }

    async fn send(&self, mut write: Write) -> Result<Value> {
        write.through(&self.plugins).await
    }

    fn paths(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock()).into_iter().map(|(p, _)| p).collect()
    }
}

fn configuration(kind: &str, name: &str, hooks: &[Value]) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "webhooks": hooks,
    })
}

fn patch(operations: Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string())})
}

fn config_map(data: Value) -> Write {
    let object = json!({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"d"},"data":data});
    Write::create("", "configmaps", "d", object).served()
}

#[tokio::test]
async fn the_question_says_all_that_is_known() {
    let w = World::new(|_, _| json!({"allowed": true})).await;
    w.validating(&[w.hook("/v", json!({}))]).await;
    let user = crate::authn::User::new("jane", &["devs"]);
    w.send(config_map(json!({"a": "b"})).by(&user).dry_run()).await.unwrap();
    let (_, mut asked) = w.asked.lock().remove(0);
    assert!(asked["uid"].as_str().unwrap().len() == 36);
    asked["uid"] = Value::Null;
    let (kind, resource) = (
        json!({"group": "", "version": "v1", "kind": "ConfigMap"}),
        json!({"group": "", "version": "v1", "resource": "configmaps"}),
    );
    assert_eq!(
        asked,
        json!({
            "uid": null, "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
            "name": "c", "namespace": "d", "operation": "CREATE",
            "userInfo": {"username": "jane", "groups": ["devs"]},
            "object": {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"d"},"data":{"a":"b"}},
            "oldObject": null, "dryRun": true, "options": null,
        })
    );
    let pod = json!({"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"d"}});
    let eviction = json!({"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"p"}});
    w.send(Write::create("", "pods", "d", eviction).served().sub("eviction", "p")).await.unwrap();
    w.send(Write::delete("", "pods", "d", pod.clone()).served()).await.unwrap();
    let asked = std::mem::take(&mut *w.asked.lock());
    assert_eq!(asked[0].1["kind"], json!({"group": "policy", "version": "v1", "kind": "Eviction"}));
    assert_eq!((&asked[0].1["subResource"], &asked[0].1["resource"]["resource"]), (&json!("eviction"), &json!("pods")));
    assert_eq!((&asked[1].1["object"], &asked[1].1["oldObject"]), (&Value::Null, &pod));
    // Without configurations nobody is asked.
    remove(&w.reader, &configuration("ValidatingWebhookConfiguration", "v", &[])).await;
    w.send(config_map(json!({}))).await.unwrap();
    assert!(w.paths().is_empty());
}

#[tokio::test]
async fn refusals_carry_the_webhooks_own_words() {
    let w = World::new(|_, r| {
        let said = r["object"]["data"].clone();
        let mut response = json!({"allowed": false});
        if let Some(status) = said["status"].as_str() {
            response["status"] = serde_json::from_str(status).unwrap();
        }
        response
    })
    .await;
    w.validating(&[w.hook("/v", json!({}))]).await;
    let by = "admission webhook \"v.example.com\" denied the request";
    for (status, code, reason, message) in [
        (json!(null), 400, "", format!("{by} without explanation")),
        (json!({"message": "no", "code": 200}), 400, "", format!("{by}: no")),
        (json!({"message": "no", "code": 403, "reason": "Forbidden"}), 403, "Forbidden", format!("{by}: no")),
        (json!({"reason": "my own reason"}), 400, "my own reason", format!("{by}: my own reason")),
    ] {
        let data = if status.is_null() { json!({}) } else { json!({"status": status.to_string()}) };
        let s = w.send(config_map(data)).await.unwrap_err();
        assert_eq!((s.code, s.reason, s.message), (code, reason, message), "{status}");
    }
}

#[tokio::test]
async fn failures_are_told_or_ignored() {
    let w = World::new(|path, _| match path {
        "/hang" => json!({"hang": true}),
        "/gone" => json!({"http": 404}),
        "/broken" => json!({"http": 500}),
        "/uid" => json!({"allowed": true, "uid": "x"}),
        "/old" => json!({"allowed": true, "as": "admission.k8s.io/v1beta1"}),
        "/nameless" => json!({"allowed": true, "as": null}),
        "/mangled" => json!({"allowed": true, "patch": "!!!!", "patchType": "JSONPatch"}),
        _ => json!({"allowed": true, "patch": "W10=", "patchType": "JSONPatch"}),
    })
    .await;
    for (path, want) in [
        (
            "/hang",
            format!("failed to call webhook: Post \"{}?timeout=1s\": context deadline exceeded", w.peer.url("/hang")),
        ),
        ("/gone", "failed to call webhook: the server could not find the requested resource".into()),
        (
            "/broken",
            "failed to call webhook: an error on the server (\"broken\") has prevented the request from succeeding"
                .into(),
        ),
        (
            "/old",
            "failed to call webhook: converting (v1beta1.AdmissionReview) to (v1.AdmissionReview): unknown conversion".into(),
        ),
        (
            "/nameless",
            "received invalid webhook response: expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=AdmissionReview".into(),
        ),
        ("/mangled", "failed to call webhook: illegal base64 data at input byte 0".into()),
        ("/patching", "received invalid webhook response: validating webhook may not return response.patch".into()),
    ] {
        let name = format!("{}.example.com", &path[1..]);
        w.validating(&[w.hook(path, json!({}))]).await;
        let s = w.send(config_map(json!({}))).await.unwrap_err();
        assert_eq!((s.code, s.reason), (500, "InternalError"));
        assert_eq!(s.message, format!("Internal error occurred: failed calling webhook {name:?}: {want}"));
        w.validating(&[w.hook(path, json!({"failurePolicy": "Ignore"}))]).await;
        w.send(config_map(json!({}))).await.unwrap();
    }
    w.validating(&[w.hook("/uid", json!({}))]).await;
    let s = w.send(config_map(json!({}))).await.unwrap_err();
    assert!(s.message.contains("received invalid webhook response: expected response.uid=\""), "{}", s.message);
    let mut rendered = String::new();
    w.hooks.metrics.render(&mut rendered);
    for line in [
        "apiserver_admission_webhook_rejection_count{error_type=\"calling_webhook_error\",name=\"hang.example.com\",operation=\"CREATE\",rejection_code=\"503\",type=\"validating\"} 1",
        "apiserver_admission_webhook_fail_open_count{name=\"gone.example.com\",type=\"validating\"} 1",
        "apiserver_admission_webhook_request_total{code=\"500\",name=\"broken.example.com\",operation=\"CREATE\",type=\"validating\"} 2",
        "apiserver_admission_webhook_admission_duration_seconds_count{name=\"uid.example.com\",operation=\"CREATE\",rejected=\"true\",type=\"validating\"} 1",
    ] {
        assert!(rendered.contains(line), "{line}\n{rendered}");
    }
}

#[tokio::test]
async fn dry_runs_ask_only_webhooks_without_side_effects() {
    let w = World::new(|_, r| json!({"allowed": r["dryRun"] == true})).await;
    for (effects, want) in [("None", 0), ("NoneOnDryRun", 0), ("Some", 400), ("Unknown", 400)] {
        w.validating(&[w.hook("/v", json!({"sideEffects": effects}))]).await;
        let got = w.send(config_map(json!({})).dry_run()).await;
        assert_eq!(got.as_ref().err().map_or(0, |s| s.code), want, "{effects}");
        if let Err(s) = got {
            assert_eq!(s.message, "admission webhook \"v.example.com\" does not support dry run");
        }
    }
}

#[tokio::test]
async fn patches_are_applied_in_order_and_pruned() {
    let w = World::new(|path, r| match path {
        "/one" => {
            patch(json!([{"op": "add", "path": "/data/one", "value": "1"}, {"op":"add","path":"/bogus","value":1}]))
        }
        "/two" if r["object"]["data"]["one"] == "1" => patch(json!([{"op": "add", "path": "/data/two", "value": "2"}])),
        "/bad" => patch(json!([{"op": "replace", "path": "/nothing/here", "value": 1}])),
        "/typed" => patch(json!([{"op": "add", "path": "/data", "value": [1]}])),
        _ => json!({"allowed": true}),
    })
    .await;
    w.configure("MutatingWebhookConfiguration", "b", &[w.hook("/two", json!({}))]).await;
    w.configure("MutatingWebhookConfiguration", "a", &[w.hook("/one", json!({}))]).await;
    let new = w.send(config_map(json!({"x": "y"}))).await.unwrap();
    assert_eq!(new["data"], json!({"x": "y", "one": "1", "two": "2"}));
    assert!(new.get("bogus").is_none());
    for path in ["/bad", "/typed"] {
        w.configure("MutatingWebhookConfiguration", "c", &[w.hook(path, json!({}))]).await;
        let s = w.send(config_map(json!({}))).await.unwrap_err();
        assert_eq!(s.code, 500, "{}", s.message);
    }
    // Defaults are filled in again.
    w.configure("MutatingWebhookConfiguration", "c", &[]).await;
    let w = World::new(|_, _| {
        patch(json!([{"op":"add","path":"/spec/initContainers","value":[{"name":"i","image":"x"}]}]))
    })
    .await;
    w.mutating(&[w.hook("/m", json!({}))]).await;
    let pod = json!({"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"d"},
        "spec":{"containers":[{"name":"c","image":"x"}]}});
    let new = w.send(Write::create("", "pods", "d", pod).served()).await.unwrap();
    assert_eq!(new["spec"]["initContainers"][0]["terminationMessagePolicy"], "File");
}

#[tokio::test]
async fn webhooks_that_ask_for_it_are_asked_again_after_a_change() {
    let w = World::new(|path, r| match path {
        // Adds a mark whenever it sees none.
        "/late" if r["object"]["data"]["late"].is_null() => {
            patch(json!([{"op":"add","path":"/data/late","value":"x"}]))
        }
        _ => json!({"allowed": true}),
    })
    .await;
    let early = |policy: &str| w.hook("/early", json!({"reinvocationPolicy": policy}));
    for (policy, want) in [("Never", vec!["/early", "/late"]), ("IfNeeded", vec!["/early", "/late", "/early"])] {
        w.mutating(&[early(policy), w.hook("/late", json!({"reinvocationPolicy": "Never"}))]).await;
        w.send(config_map(json!({}))).await.unwrap();
        assert_eq!(w.paths(), want, "{policy}");
    }
    // Nothing changed: nobody is asked again.
    w.mutating(&[early("IfNeeded")]).await;
    w.send(config_map(json!({}))).await.unwrap();
    assert_eq!(w.paths(), ["/early"]);
}

#[tokio::test]
async fn objects_are_shown_in_the_version_that_a_rule_names() {
    let w = World::new(|_, r| {
        assert_eq!(r["object"]["apiVersion"], "events.k8s.io/v1");
        patch(json!([{"op": "add", "path": "/note", "value": "changed"}]))
    })
    .await;
    let rules = json!([{"operations":["*"],"apiGroups":["events.k8s.io"],"apiVersions":["v1"],"resources":["events"]}]);
    w.mutating(&[w.hook("/m", json!({"rules": rules}))]).await;
    let event = json!({"apiVersion":"v1","kind":"Event","metadata":{"name":"e","namespace":"d"},"message":"m",
        "involvedObject":{"kind":"Pod","namespace":"d","name":"p"}});
    let new = w.send(Write::create("", "events", "d", event).served()).await.unwrap();
    assert_eq!((&new["message"], &new["apiVersion"]), (&json!("changed"), &json!("v1")));
    let asked = w.asked.lock().remove(0).1;
    assert_eq!(asked["kind"], json!({"group": "events.k8s.io", "version": "v1", "kind": "Event"}));
    assert_eq!(asked["requestKind"], json!({"group": "", "version": "v1", "kind": "Event"}));
    assert_eq!(asked["requestResource"], json!({"group": "", "version": "v1", "resource": "events"}));
}

#[tokio::test]
async fn warnings_come_with_either_answer_and_configurations_are_left_alone() {
    let w = World::new(|_, r| {
        json!({"allowed": r["object"]["data"]["ok"] == "1", "warnings": ["mind the gap"], "auditAnnotations": {"k": "v"}})
    })
    .await;
    w.validating(&[w.hook("/v", json!({}))]).await;
    for ok in ["0", "1"] {
        let mut write = config_map(json!({"ok": ok}));
        assert_eq!(write.through(&w.plugins).await.is_ok(), ok == "1");
        assert_eq!(write.warned(), ["mind the gap"]);
    }
    let own = configuration("ValidatingWebhookConfiguration", "other", &[]);
    let write = Write::create("admissionregistration.k8s.io", "validatingwebhookconfigurations", "", own).served();
    w.send(write).await.unwrap();
    assert_eq!(w.paths().len(), 2);
}

#[tokio::test]
async fn validating_webhooks_are_asked_at_once() {
    let w = World::new(|path, _| json!({"allowed": path != "/b" && path != "/c"})).await;
    w.validating(&[w.hook("/a", json!({})), w.hook("/b", json!({})), w.hook("/c", json!({}))]).await;
    let s = w.send(config_map(json!({}))).await.unwrap_err();
    assert!(s.message.starts_with("admission webhook \"b.example.com\" denied"), "{}", s.message);
    assert_eq!(w.paths().len(), 3);
}

#[tokio::test]
async fn webhooks_are_told_how_long_they_may_take() {
    let w = World::new(|_, _| json!({"allowed": true})).await;
    w.mutating(&[w.hook("/m", json!({"timeoutSeconds": 20})), w.hook("/n", json!({"timeoutSeconds": 5}))]).await;
    w.validating(&[w.hook("/v", json!({"timeoutSeconds": 30}))]).await;
    let heard = |w: &World| std::mem::take(&mut *w.heads.lock()).into_iter().map(|(q, _)| q).collect::<Vec<_>>();
    w.send(config_map(json!({})).within(Duration::from_secs(10))).await.unwrap();
    assert_eq!(heard(&w), ["timeout=10s", "timeout=5s", "timeout=10s"]);
    w.send(config_map(json!({}))).await.unwrap();
    assert_eq!(heard(&w), ["timeout=20s", "timeout=5s", "timeout=30s"]);
}

#[tokio::test]
async fn each_plugin_has_its_own_credentials() {
    let file = std::env::temp_dir().join(format!("skiff-webhook-users-{}", std::process::id()));
    std::fs::write(&file, "users: [{name: '*', user: {token: secret}}]").unwrap();
    let infos = [AuthInfos::default(), AuthInfos::read(&file).unwrap()];
    std::fs::remove_file(&file).unwrap();
    let w = World::with(infos, |_, _| json!({"allowed": true})).await;
    w.mutating(&[w.hook("/m", json!({}))]).await;
    w.validating(&[w.hook("/v", json!({}))]).await;
    w.send(config_map(json!({}))).await.unwrap();
    let who: Vec<String> = w.heads.lock().iter().map(|(_, who)| who.clone()).collect();
    assert_eq!(who, ["", "Bearer secret"]);
}

#[tokio::test]
async fn a_patch_that_is_none_is_judged_by_the_failure_policy() {
    let raw = |text: &str| json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(text)});
    let w = World::new(move |path, _| match path {
        "/object" => raw("{}"),
        "/text" => raw("nonsense"),
        "/null" => raw("null"),
        "/items" => raw("[1]"),
        "/kind" => json!({"allowed": true, "patchType": "Merge", "patch": STANDARD.encode(r#"[{"op":"remove"}]"#)}),
        _ => raw(r#"[{"op":"remove","path":"/data/z"}]"#),
    })
    .await;
    let start = "Internal error occurred: failed calling webhook";
    for (path, want) in [
        ("/object", "json: cannot unmarshal object into Go value of type jsonpatch.Patch"),
        ("/text", "invalid character 'o' in literal null (expecting 'u')"),
        ("/items", "json: cannot unmarshal number into Go value of type jsonpatch.Operation"),
        ("/kind", ""),
    ] {
        w.mutating(&[w.hook(path, json!({}))]).await;
        let name = format!("{}.example.com", &path[1..]);
        let s = w.send(config_map(json!({}))).await.unwrap_err();
        let why = match want {
            "" => "unsupported patch type \"Merge\"".to_string(),
            why => format!("received undecodable patch in webhook response: {why}"),
        };
        assert_eq!((s.code, s.message), (500, format!("{start} {name:?}: {why}")));
        w.mutating(&[w.hook(path, json!({"failurePolicy": "Ignore"}))]).await;
        w.send(config_map(json!({}))).await.unwrap();
    }
    w.mutating(&[w.hook("/null", json!({}))]).await;
    w.send(config_map(json!({}))).await.unwrap();
    // What can't be done is nobody's failure to call.
    w.mutating(&[w.hook("/missing", json!({"failurePolicy": "Ignore"}))]).await;
    let s = w.send(config_map(json!({}))).await.unwrap_err();
    let why = "error in remove for path: '/data/z': Unable to remove nonexistent key: z: missing value";
    assert_eq!((s.code, s.message), (500, format!("Internal error occurred: {why}")));
}

#[tokio::test]
async fn auditors_hear_of_every_call() {
    let w = World::new(|path, _| match path {
        "/adds" => {
            let mut response = patch(json!([{"op": "add", "path": "/data/a", "value": "b"}]));
            response["auditAnnotations"] = json!({"k": "v", "no key": "x", "a/b": "x"});
            response
        }
        "/tests" => patch(json!([{"op": "test", "path": "/kind", "value": "ConfigMap"}])),
        "/broken" => json!({"http": 500}),
        _ => json!({"allowed": false}),
    })
    .await;
    w.mutating(&[
        w.hook("/adds", json!({})),
        w.hook("/tests", json!({})),
        w.hook("/broken", json!({"failurePolicy": "Ignore"})),
        w.hook("/no", json!({})),
    ])
    .await;
    let mut write = config_map(json!({"x": "y"})).audited();
    write.through(&w.plugins).await.unwrap_err();
    let told = write.annotations();
    let told: Vec<String> = told.into_iter().map(|(k, v)| format!("{k} {v}")).collect();
    let call = |webhook: &str, changed: bool| {
        format!(r#"{{"configuration":"m","webhook":"{webhook}.example.com","mutated":{changed}}}"#)
    };
    let patched = |webhook: &str, patch: &str| {
        format!(r#"{{"configuration":"m","webhook":"{webhook}.example.com","patch":{patch},"patchType":"JSONPatch"}}"#)
    };
    assert_eq!(
        told,
        [
            "adds.example.com/k v".to_string(),
            "failed-open.mutation.webhook.admission.k8s.io/round_0_index_2 broken.example.com".to_string(),
            format!("mutation.webhook.admission.k8s.io/round_0_index_0 {}", call("adds", true)),
            format!("mutation.webhook.admission.k8s.io/round_0_index_1 {}", call("tests", false)),
            format!("mutation.webhook.admission.k8s.io/round_0_index_2 {}", call("broken", false)),
            format!("mutation.webhook.admission.k8s.io/round_0_index_3 {}", call("no", false)),
            format!(
                "patch.webhook.admission.k8s.io/round_0_index_0 {}",
                patched("adds", r#"[{"op":"add","path":"/data/a","value":"b"}]"#)
            ),
            format!(
                "patch.webhook.admission.k8s.io/round_0_index_1 {}",
                patched("tests", r#"[{"op":"test","path":"/kind","value":"ConfigMap"}]"#)
            ),
        ]
    );
}
