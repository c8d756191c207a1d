//! Between the versions of a custom resource: by a webhook at a URL, by one behind a Service, and what of it others see.

use super::{CRDS, Crd, JSON, MERGE, names, version, with};
use crate::cluster::Cluster;
use crate::extension::certificates::Authority;
use crate::extension::conversion::convert;
use crate::extension::image;
use crate::scenarios::namespace::Namespace;
use crate::scenarios::pods;
use crate::wire::{Access, Who};
use anyhow::{Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The conversion webhook at a port of the cluster's network, which counts its calls.
async fn converter(access: &Access, pki: &std::path::Path) -> Result<(u16, Arc<AtomicUsize>)> {
    let _ = access;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    // The API server's own certificate names 127.0.0.1.
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(pki.join("apiserver.crt"))?],
            PrivateKeyDer::from_pem_file(pki.join("apiserver.key"))?,
        )?;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, count) = (acceptor.clone(), count.clone());
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let service = hyper::service::service_fn(move |r: hyper::Request<hyper::body::Incoming>| {
                    let count = count.clone();
                    async move {
                        count.fetch_add(1, Ordering::Relaxed);
                        let body = r.into_body().collect().await?.to_bytes();
                        let review: Value = serde_json::from_slice(&body).unwrap_or_default();
                        let answer = convert(&review).to_string();
                        Ok::<_, hyper::Error>(hyper::Response::new(Full::new(bytes::Bytes::from(answer))))
                    }
                });
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
            });
        }
    });
    Ok((port, calls))
}

/// Objects of mixed stored versions are read in one version by one call of the webhook.
pub fn converts_by_webhook(c: &Cluster) -> Result<()> {
    let pki = c.data_dir().join("pki");
    with(c, "crd-convert", async |crd, access| {
        let (port, calls) = converter(access, &pki).await?;
        let ca = STANDARD.encode(std::fs::read(pki.join("ca.crt"))?);
        let text = json!({"type": "string"});
        let v1 = version("v1", json!({"type": "object", "properties": {"hostPort": text}}));
        let mut v2 = version("v2", json!({"type": "object", "properties": {"host": text, "port": text}}));
        v2["selectableFields"] = json!([{"jsonPath": ".host"}]);
        let mut body = crd.body(json!([v1.clone(), v2.clone()]));
        body["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
            "clientConfig": {"url": format!("https://127.0.0.1:{port}/convert"), "caBundle": ca}}});
        crd.must("POST", CRDS, JSON, body).await?;
        crd.make("v1", "one", json!({"hostPort": "a:1"})).await?;
        let two = crd.one("v2", "one").await?;
        ensure!((&two["host"], &two["port"]) == (&json!("a"), &json!("1")), "{two}");
        ensure!(two.get("hostPort").is_none() && two["apiVersion"] == format!("{}/v2", crd.group), "{two}");
        // Written as v2 while v1 is stored; then v2 is.
        crd.make("v2", "two", json!({"host": "b", "port": "2"})).await?;
        ensure!(crd.one("v1", "two").await?["hostPort"] == "b:2", "converted on its way in");
        let (mut v1, mut v2) = (v1, v2);
        (v1["storage"], v2["storage"]) = (false.into(), true.into());
        crd.redefine(json!({"spec": {"versions": [v1, v2]}})).await?;
        crd.make("v1", "three", json!({"hostPort": "c:3"})).await?;
        for i in 0..8 {
            crd.make("v1", &format!("many-{i}"), json!({"hostPort": "m:1"})).await?;
        }
        let before = calls.load(Ordering::Relaxed);
        let path = crd.objects("v2");
        crd.get(&path).await?;
        // The garbage collector reads in the preferred version, too, and so has its own calls.
        ensure!(calls.load(Ordering::Relaxed) <= before + 3, "one call for a list");
        for i in 0..8 {
            let path = format!("{path}/many-{i}");
            crd.must("DELETE", &path, JSON, Value::Null).await?;
        }
        let list = crd.get(&path).await?;
        let hosts: Vec<&str> =
            list["items"].as_array().into_iter().flatten().filter_map(|i| i["host"].as_str()).collect();
        ensure!(names(&list) == ["one", "three", "two"] && hosts == ["a", "c", "b"], "{list}");
        let some = crd.get(&format!("{path}?fieldSelector=host%3Db")).await?;
        ensure!(names(&some) == ["two"], "selected by a field that conversion makes: {some}");
        let old = crd.objects("v1");
        ensure!(names(&crd.get(&old).await?) == ["one", "three", "two"], "and as v1");
        crd.must("PATCH", &format!("{old}/one"), MERGE, json!({"hostPort": "z:9"})).await?;
        ensure!(crd.one("v2", "one").await?["host"] == "z", "patched as v1, read as v2");
        let (code, message) =
            crd.refused("POST", &old, JSON, crd.widget("v1", "bad", json!({"hostPort": "fail"}))).await?;
        ensure!(
            code == 500
                && message.contains("conversion webhook for")
                && message.contains("failed: the webhook refuses"),
            "{code} {message}"
        );
        Ok(())
    })
}

/// v1 with `hostPort`, v2 with `host` and `port`, and two fields that both have.
fn two_versions() -> Value {
    let (text, number) = (json!({"type": "string"}), json!({"type": "integer"}));
    let schema = |own: Value| {
        let mut properties = own;
        properties["note"] = text.clone();
        properties["size"] = number.clone();
        json!({"type": "object", "properties": properties})
    };
    let v1 = version("v1", schema(json!({"hostPort": text})));
    let mut v2 = version("v2", schema(json!({"host": text, "port": text})));
    v2["selectableFields"] = json!([{"jsonPath": ".host"}]);
    json!([v1, v2])
}

/// The extension server in a pod behind the Service `hook`, and a definition that it converts.
fn with_service(c: &Cluster, base: &str, work: impl AsyncFnOnce(&mut Crd) -> Result<()> + Send) -> Result<()> {
    image::import(c)?;
    let ns = Namespace::new(c, base)?;
    let ca = Authority::new("e2e conversion")?;
    let (cert, key) = ca.issue(&[&format!("hook.{}.svc", ns.name())])?;
    let (cert, key) = (ns.file("tls.crt", &cert)?, ns.file("tls.key", &key)?);
    ns.must(&format!("create secret tls certs --cert={cert} --key={key}"))?;
    pods::apply(&ns, include_str!("../../../testdata/extension.yaml"))?;
    ns.must("rollout status deployment hook --timeout=60s")?;
    let name = ns.name().to_string();
    let done = c.access()?.inside(async |access| {
        let connection = access.http1(&Who::Admin).await?;
        let mut crd = Crd { connection, group: format!("{name}.example.com"), namespace: name.clone() };
        crd.end().await?;
        let mut body = crd.body(two_versions());
        body["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
            "conversionReviewVersions": ["v2", "v1"],
            "clientConfig": {"caBundle": STANDARD.encode(&ca.cert_pem),
                "service": {"namespace": name, "name": "hook", "path": "/convert"}}}});
        crd.must("POST", CRDS, JSON, body).await?;
        let done = work(&mut crd).await;
        // A definition goes though its webhook may be away.
        crd.end().await?;
        done
    });
    done?;
    ns.delete()
}

/// Swaps which of the two versions is stored.
async fn store_v2(crd: &mut Crd) -> Result<()> {
    let mut versions = two_versions();
    (versions[0]["storage"], versions[1]["storage"]) = (false.into(), true.into());
    crd.redefine(json!({"spec": {"versions": versions}})).await?;
    Ok(())
}

/// Single objects, lists and watches of mixed stored versions, and every answer that a webhook may not give.
pub fn converts_behind_a_service(c: &Cluster) -> Result<()> {
    with_service(c, "crd-service", async |crd| {
        // Stored as v1, never converted yet.
        for host in ["fail", "rename", "move", "rekind", "stay", "mislabel", "lose", "relabel", "fine"] {
            crd.make("v1", host, json!({"hostPort": format!("{host}:1")})).await?;
        }
        let (group, v1, v2) = (crd.group.clone(), crd.objects("v1"), crd.objects("v2"));
        let place = crd.namespace.clone();
        let prefix = format!("conversion webhook for {group}/v1, Kind=Widget");
        for (name, why) in [
            ("fail", "failed: the webhook refuses".to_string()),
            (
                "rename",
                "returned invalid converted object at index 0: must have the same name: rename != renamed".into(),
            ),
            (
                "move",
                format!(
                    "returned invalid converted object at index 0: must have the same namespace: {place} != elsewhere"
                ),
            ),
            (
                "rekind",
                "returned invalid converted object at index 0: invalid kind (expected Widget, received Gadget)".into(),
            ),
            (
                "stay",
                format!(
                    "returned invalid converted object at index 0: invalid groupVersion (expected {group}/v2, received example.com/v9)"
                ),
            ),
            (
                "mislabel",
                "returned invalid metadata in object at index 0: metadata.labels: Invalid value: \"not a label\""
                    .into(),
            ),
            ("lose", "returned 0 objects, expected 1".into()),
        ] {
            let (code, message) = crd.refused("GET", &format!("{v2}/{name}"), JSON, Value::Null).await?;
            ensure!(code == 500 && message.starts_with(&format!("{prefix} {why}")), "{name}: {code} {message}");
            ensure!(crd.refused("GET", &v2, JSON, Value::Null).await?.0 == 500, "a list with {name} in it");
            ensure!(crd.one("v1", name).await?["hostPort"] == format!("{name}:1"), "{name} as it is stored");
            crd.must("DELETE", &format!("{v1}/{name}"), JSON, Value::Null).await?;
        }
        let told = crd.one("v2", "relabel").await?;
        let m = &told["metadata"];
        ensure!(m["labels"]["by"] == "webhook" && m["annotations"]["by"] == "webhook", "labels are its to change: {m}");
        ensure!(m["generation"] == 1 && m.get("finalizers").is_none(), "all other metadata isn't: {m}");
        // Mixed: one stored as v1, one as v2.
        store_v2(crd).await?;
        crd.make("v1", "late", json!({"hostPort": "late:2"})).await?;
        ensure!(crd.definition().await?["status"]["storedVersions"] == json!(["v1", "v2"]), "stored versions");
        for (path, shown) in [(&v1, "hostPort"), (&v2, "host")] {
            let list = crd.get(path).await?;
            let all = list["items"].as_array().cloned().unwrap_or_default();
            ensure!(names(&list) == ["fine", "late", "relabel"] && all.iter().all(|o| o[shown].is_string()), "{list}");
            let page = crd.get(&format!("{path}?limit=2")).await?;
            let next = page["metadata"]["continue"].as_str().unwrap_or_default();
            let rest = crd.get(&format!("{path}?limit=2&continue={next}")).await?;
            ensure!(names(&page).len() == 2 && names(&rest) == ["relabel"], "{page} {rest}");
            let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1";
            let watched = crd.send("GET", &format!("{path}?{query}"), JSON, Value::Null).await?.text();
            let seen = watched.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
            let seen: Vec<Value> = seen.filter(|e| e["type"] == "ADDED").map(|e| e["object"][shown].clone()).collect();
            ensure!(seen.len() == 3 && seen.iter().all(Value::is_string), "{watched}");
        }
        crd.must("PATCH", &format!("{v1}/fine"), MERGE, json!({"hostPort": "finer:3"})).await?;
        ensure!(crd.one("v2", "fine").await?["host"] == "finer", "patched as v1, read as v2");
        // Without the webhook, what needs no conversion goes on.
        crd.must("DELETE", &format!("/api/v1/namespaces/{place}/services/hook"), JSON, Value::Null).await?;
        ensure!(crd.one("v2", "late").await?["host"] == "late", "stored as v2");
        let (code, message) = crd.refused("POST", &v1, JSON, crd.widget("v1", "x", json!({"hostPort": "x:1"}))).await?;
        ensure!(
            code == 500
                && message.starts_with(&format!("{prefix} failed: "))
                && message.contains("service \"hook\" not found"),
            "{code} {message}"
        );
        Ok(())
    })
}

/// A write as v1 whose admission is asked about v2: policies and webhooks see it converted, and what they change comes
/// back converted.
pub fn is_admitted_in_the_version_asked_for(c: &Cluster) -> Result<()> {
    with_service(c, "crd-equivalent", async |crd| {
        let (group, mine) = (crd.group.clone(), crd.namespace.clone());
        let rules = |key: &str, policy: &str| {
            json!({"matchPolicy": policy, key: [{"apiGroups": [group], "apiVersions": ["v2"],
                "operations": ["CREATE", "UPDATE"], "resources": ["widgets"]}]})
        };
        let kind = |kind: &str, spec: Value| {
            json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": mine}, "spec": spec})
        };
        let policy = kind(
            "ValidatingAdmissionPolicy",
            json!({"matchConstraints": rules("resourceRules", "Equivalent"),
            "validations": [
                {"expression": "object.host != 'evil'", "messageExpression": "'no ' + object.host + ' by ' + request.requestKind.version + ' as ' + request.kind.version"},
                {"expression": "oldObject == null || oldObject.host != 'fixed' || object.host == 'fixed'", "message": "it is fixed"}]}),
        );
        let bound =
            kind("ValidatingAdmissionPolicyBinding", json!({"policyName": mine, "validationActions": ["Deny"]}));
        let mutation = kind(
            "MutatingAdmissionPolicy",
            json!({"matchConstraints": rules("resourceRules", "Equivalent"),
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "matchConditions": [{"name": "by-host", "expression": "object.host == 'map'"}],
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{port: '99'}"}}]}),
        );
        let mutating = kind("MutatingAdmissionPolicyBinding", json!({"policyName": mine}));
        let exact = {
            let mut p = policy.clone();
            p["metadata"]["name"] = format!("{mine}-exact").into();
            p["spec"]["matchConstraints"]["matchPolicy"] = "Exact".into();
            p["spec"]["validations"] = json!([{"expression": "false"}]);
            p
        };
        let mut exact_bound = bound.clone();
        exact_bound["metadata"]["name"] = format!("{mine}-exact").into();
        exact_bound["spec"]["policyName"] = format!("{mine}-exact").into();
        let mut hook = rules("rules", "Equivalent");
        for (k, v) in json!({"name": "port.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "matchConditions": [{"name": "by-host", "expression": "object.host == 'hook'"}],
            "clientConfig": crd.definition().await?["spec"]["conversion"]["webhook"]["clientConfig"]})
        .as_object()
        .into_iter()
        .flatten()
        {
            hook[k] = v.clone();
        }
        hook["clientConfig"]["service"]["path"] = "/webhook/port".into();
        let hooks = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": mine}, "webhooks": [hook]});
        let all = [&policy, &bound, &mutation, &mutating, &exact, &exact_bound, &hooks];
        let path = |object: &Value| {
            let plural = object["kind"].as_str().unwrap_or_default().to_lowercase().replace("policy", "policie");
            format!("/apis/admissionregistration.k8s.io/v1/{}s", plural.replace("policiebinding", "policybinding"))
        };
        for object in all {
            crd.must("POST", &path(object), JSON, object.clone()).await?;
        }
        let done = async {
            let v1 = crd.objects("v1");
            let (code, message) =
                crd.refused("POST", &v1, JSON, crd.widget("v1", "evil", json!({"hostPort": "evil:1"}))).await?;
            ensure!(code == 422 && message.contains("no evil by v1 as v2"), "{code} {message}");
            crd.make("v1", "map", json!({"hostPort": "map:1"})).await?;
            ensure!(crd.one("v1", "map").await?["hostPort"] == "map:99", "mutated as v2 by a policy");
            crd.make("v1", "hook", json!({"hostPort": "hook:1"})).await?;
            ensure!(crd.one("v1", "hook").await?["hostPort"] == "hook:7", "mutated as v2 by a webhook");
            crd.make("v1", "fixed", json!({"hostPort": "fixed:1"})).await?;
            let (code, message) =
                crd.refused("PATCH", &format!("{v1}/fixed"), MERGE, json!({"hostPort": "loose:1"})).await?;
            ensure!(
                code == 422 && message.contains("it is fixed"),
                "the stored object is converted, too: {code} {message}"
            );
            let (code, _) =
                crd.refused("POST", &crd.objects("v2"), JSON, crd.widget("v2", "exact", json!({"host": "x"}))).await?;
            ensure!(code == 422, "an exact match: {code}");
            Ok(())
        }
        .await;
        for object in all {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            crd.must("DELETE", &format!("{}/{name}", path(object)), JSON, Value::Null).await?;
        }
        done
    })
}

/// Who owns a field is known in every version: server-side apply as v1 and as v2 of one object.
pub fn is_applied_across_versions(c: &Cluster) -> Result<()> {
    with_service(c, "crd-apply", async |crd| {
        let apply = async |crd: &mut Crd, by: &str, version: &str, force: bool, body: Value| {
            let path = format!("{}/one?fieldManager={by}&force={force}", crd.objects(version));
            let body = crd.widget(version, "one", body);
            crd.send("PATCH", &path, "application/apply-patch+yaml", body).await
        };
        let owners = |o: &Value| -> Vec<String> {
            let all = o["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
            all.iter()
                .map(|m| {
                    let fields = m["fieldsV1"]
                        .as_object()
                        .into_iter()
                        .flatten()
                        .map(|f| f.0.trim_start_matches("f:").to_string());
                    let version =
                        m["apiVersion"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default().to_string();
                    format!(
                        "{} {version} {}",
                        m["manager"].as_str().unwrap_or_default(),
                        fields.collect::<Vec<_>>().join(",")
                    )
                })
                .collect()
        };
        let r = apply(crd, "a", "v1", false, json!({"hostPort": "h:1", "note": "n"})).await?;
        ensure!(r.code == 201, "{} {}", r.code, r.text());
        let r = apply(crd, "b", "v2", false, json!({"host": "z", "port": "1"})).await?;
        ensure!(
            r.code == 409 && r.text().contains(".hostPort") && r.text().contains("conflict with \\\"a\\\""),
            "{} {}",
            r.code,
            r.text()
        );
        let r = apply(crd, "b", "v2", false, json!({"note": "m"})).await?;
        ensure!(r.code == 409 && r.text().contains(".note"), "{} {}", r.code, r.text());
        // The same values are shared, others are b's own.
        let r = apply(crd, "b", "v2", false, json!({"host": "h", "port": "1", "size": 3})).await?;
        ensure!(r.code == 200, "{} {}", r.code, r.text());
        let now = crd.one("v1", "one").await?;
        ensure!(now["hostPort"] == "h:1" && now["note"] == "n" && now["size"] == 3, "{now}");
        ensure!(owners(&now) == ["a v1 hostPort,note", "b v2 host,port,size"], "{:?}", owners(&now));
        // By force: what a wrote as v1 is taken from it as v2.
        let r = apply(crd, "b", "v2", true, json!({"host": "z", "port": "9", "size": 3})).await?;
        ensure!(r.code == 200, "{} {}", r.code, r.text());
        let now = crd.one("v1", "one").await?;
        ensure!(now["hostPort"] == "z:9" && owners(&now) == ["a v1 note", "b v2 host,port,size"], "{:?}", owners(&now));
        // What b no longer wants goes, though it is called otherwise now.
        let r = apply(crd, "b", "v1", false, json!({"size": 4})).await?;
        ensure!(r.code == 200, "{} {}", r.code, r.text());
        let now = crd.one("v2", "one").await?;
        ensure!(now.get("host").is_none() && now.get("port").is_none() && now["size"] == 4, "{now}");
        ensure!(owners(&now) == ["a v1 note", "b v1 size"], "{:?}", owners(&now));
        // A write that isn't apply takes what it changes, in its own version.
        let path = format!("{}/one?fieldManager=u", crd.objects("v2"));
        crd.must("PATCH", &path, MERGE, json!({"note": "changed", "host": "u", "port": "2"})).await?;
        let now = crd.one("v1", "one").await?;
        ensure!(now["hostPort"] == "u:2" && now["note"] == "changed", "{now}");
        ensure!(owners(&now) == ["b v1 size", "u v2 host,note,port"], "{:?}", owners(&now));
        // Without the webhook, an apply fails: it has to know what u owns as v2. Any other write passes, and who owns
        // what is no longer known.
        let hook = format!("/api/v1/namespaces/{}/services/hook", crd.namespace);
        crd.must("DELETE", &hook, JSON, Value::Null).await?;
        let r = apply(crd, "b", "v1", false, json!({"size": 5})).await?;
        let why = format!("conversion webhook for {}/v1, Kind=Widget failed: ", crd.group);
        ensure!(r.code == 500 && r.text().contains(&why), "{} {}", r.code, r.text());
        let before = crd.one("v1", "one").await?;
        ensure!(before["size"] == 4 && owners(&before) == owners(&now), "{before}");
        let path = format!("{}/one?fieldManager=w", crd.objects("v1"));
        crd.must("PATCH", &path, MERGE, json!({"note": "again"})).await?;
        let after = crd.one("v1", "one").await?;
        ensure!(after["note"] == "again" && after["size"] == 4 && owners(&after).is_empty(), "{after}");
        Ok(())
    })
}
