//! Certificates for pods, and roots to trust: PodCertificateRequests, ClusterTrustBundles, and the volumes made of them.

use super::certificates::kubeconfig;
use super::namespace::Namespace;
use crate::cluster::Cluster;
use crate::extension::certificates::Authority;
use crate::wire::Who;
use anyhow::{Context, Result, ensure};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PATIENCE: Duration = Duration::from_secs(30);
const SIGNER: &str = "kubernetes.io/kube-apiserver-client-pod";
const MERGE: [(&str, &str); 1] = [("content-type", "application/merge-patch+json")];

/// A PKCS #10 request of nobody, as nodes make them, in base64.
fn stub() -> Result<String> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(STANDARD.encode(params.serialize_request(&KeyPair::generate()?)?.der()))
}

fn request(version: &str, name: &str, signer: &str) -> Result<Value> {
    Ok(json!({"apiVersion": format!("certificates.k8s.io/{version}"), "kind": "PodCertificateRequest",
        "metadata": {"name": name, "labels": {"e2e": "pcr"}},
        "spec": {"signerName": signer, "podName": "p", "podUID": "pu", "serviceAccountName": "default",
            "serviceAccountUID": "su", "nodeName": "node1", "nodeUID": "nu", "stubPKCS10Request": stub()?}}))
}

/// sig-auth: "PodCertificateRequest API operations", in v1 and in the beta: discovery, every verb, `status`.
pub fn the_api_of_requests(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "pcr-api")?;
    let name = ns.name().to_string();
    c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Admin).await?;
        for version in ["v1", "v1beta1"] {
            let root = format!("/apis/certificates.k8s.io/{version}");
            let resources = api.get(&root).await?.text();
            for kind in ["podcertificaterequests", "podcertificaterequests/status", "clustertrustbundles"] {
                ensure!(resources.contains(&format!(r#""name":"{kind}""#)), "{version} has no {kind}: {resources}");
            }
            let path = format!("{root}/namespaces/{name}/podcertificaterequests");
            let made = api.json("POST", &path, &request(version, "a", "example.com/e2e")?).await?;
            ensure!(made.code == 201, "{}", made.text());
            let made = made.json();
            ensure!(made["spec"]["maxExpirationSeconds"] == 86400 && made["status"] == json!({}), "{made}");
            let since = made["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_string();
            let one = format!("{path}/a");
            for (selector, count) in [("spec.signerName%3Dexample.com%2Fe2e", 1), ("spec.nodeName%3Dnode1", 1), ("spec.podName%3Dq", 0)] {
                let list = api.get(&format!("{path}?fieldSelector={selector}")).await?.json();
                ensure!(list["items"].as_array().is_some_and(|a| a.len() == count), "{selector}: {list}");
            }
            let r = api.get(&format!("{path}?fieldSelector=spec.podUID%3Dpu")).await?;
            ensure!(r.code == 400 && r.text().contains("field label not supported"), "{}", r.text());

            let r = api.send("PATCH", &one, &MERGE, r#"{"metadata":{"annotations":{"patched":"yes"}}}"#).await?.json();
            ensure!(r["metadata"]["annotations"]["patched"] == "yes", "{r}");
            let mut update = r.clone();
            update["metadata"]["annotations"]["updated"] = "yes".into();
            let r = api.json("PUT", &one, &update).await?;
            ensure!(r.code == 200, "{}", r.text());
            update["metadata"]["resourceVersion"] = r.json()["metadata"]["resourceVersion"].clone();
            update["spec"]["podName"] = "other".into();
            let r = api.json("PUT", &one, &update).await?;
            ensure!(r.code == 422 && r.text().contains("field is immutable"), "{} {}", r.code, r.text());

            let status = format!("{one}/status");
            ensure!(api.get(&status).await?.code == 200);
            let denied = json!([{"type": "Denied", "status": "True", "reason": "Because", "message": "no",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
            for (body, text) in [
                (json!({"certificateChain": "x"}), "status is immutable unless transitioning"),
                (json!({"conditions": [{"type": "Ready", "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}), "supported values"),
                (json!({"conditions": denied, "certificateChain": "x"}), "non-condition status fields must be empty"),
            ] {
                let r = api.send("PATCH", &status, &MERGE, json!({"status": body}).to_string()).await?;
                ensure!(r.code == 422 && r.text().contains(text), "{text}: {} {}", r.code, r.text());
            }
            let r = api.send("PATCH", &status, &MERGE, json!({"status": {"conditions": denied}}).to_string()).await?;
            ensure!(r.code == 200 && r.json()["status"]["conditions"][0]["reason"] == "Because", "{}", r.text());
            let r = api.send("PATCH", &status, &MERGE, r#"{"status":{"conditions":[]}}"#).await?;
            ensure!(r.code == 422 && r.text().contains("immutable after PodCertificateRequest is issued"), "{}", r.text());

            ensure!(api.send("DELETE", &format!("{path}?labelSelector=e2e%3Dpcr"), &[], "").await?.code == 200);
            ensure!(api.get(&one).await?.code == 404);
            let watched = api.get(&format!("{path}?watch=1&resourceVersion={since}&timeoutSeconds=1")).await?.text();
            let kinds: Vec<String> = watched
                .lines()
                .filter_map(|l| serde_json::from_str::<Value>(l).ok())
                .filter_map(|e| e["type"].as_str().map(String::from))
                .collect();
            ensure!(kinds == ["MODIFIED", "MODIFIED", "MODIFIED", "DELETED"], "{kinds:?}");
            let mut forged = request(version, "b", "example.com/e2e")?;
            forged["spec"]["stubPKCS10Request"] = "AAEC".into();
            let r = api.json("POST", &path, &forged).await?;
            ensure!(r.code == 422 && r.text().contains("must be a valid PKCS#10 CSR"), "{}", r.text());
        }
        Ok(())
    })?;

    // Who may write statuses still signs for nobody but those that it may sign for.
    c.kubectl(&[
        "create",
        "clusterrole",
        "e2e-pcr",
        "--verb=get,patch,update",
        "--resource=podcertificaterequests,podcertificaterequests/status",
    ])?;
    c.kubectl(&["create", "clusterrolebinding", "e2e-pcr", "--clusterrole=e2e-pcr", "--user=jane"])?;
    c.kubectl_input(&["create", "-n", &name, "-f", "-"], &request("v1", "c", "example.com/e2e")?.to_string())?;
    let denied = r#"{"status":{"conditions":[{"type":"Denied","status":"True","reason":"R","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#;
    let patch = [
        "patch",
        "podcertificaterequest",
        "c",
        "-n",
        &name,
        "--subresource=status",
        "--type=merge",
        "-p",
        denied,
        "--as=jane",
    ];
    let refused = c.kubectl_fails(&patch)?;
    ensure!(refused.contains(r#"User "jane" is not permitted to "sign" for signer "example.com/e2e""#), "{refused}");
    c.apply(&on_signer("e2e-sign", "sign", "example.com/*").to_string())?;
    c.kubectl(&["create", "clusterrolebinding", "e2e-sign", "--clusterrole=e2e-sign", "--user=jane"])?;
    c.kubectl(&patch)?;
    c.kubectl(&["delete", "clusterrole,clusterrolebinding", "e2e-pcr", "e2e-sign"])?;
    ns.delete()
}

/// kubectl makes no roles about signers, which are no resource.
fn on_signer(role: &str, verb: &str, signer: &str) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": role}, "rules": [
        {"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": [signer], "verbs": [verb]}]})
}

fn pod(name: &str, sources: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "terminationGracePeriodSeconds": 0, "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "c", "image": "skiff.local/hello", "imagePullPolicy": "Never",
                        "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        "volumes": [{"name": "v", "projected": {"sources": sources}}]}})
}

/// A file of the pod's volume `v`, as it lies on the node.
fn file(ns: &Namespace<'_>, pod: &str, path: &str) -> Result<String> {
    let uid = ns.must(&format!("get pod {pod} -o jsonpath={{.metadata.uid}}"))?;
    let volumes = format!("{}/kubelet/pods/{uid}/volumes/kubernetes.io~projected", ns.c.data_dir().display());
    ns.c.must(&["cat", &format!("{volumes}/v/{path}")])
}

fn create(ns: &Namespace<'_>, object: &Value) -> Result<()> {
    ns.c.kubectl_input(&["create", "-n", ns.name(), "-f", "-"], &object.to_string()).map(drop)
}

/// What the volume holds names the pod's service account to the API server.
pub fn a_pod_is_known_by_its_certificate(c: &Cluster) -> Result<()> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let ns = Namespace::new(c, "pod-cert")?;
    let name = ns.name().to_string();
    let certificate = |kind: &str, more: Value| {
        let mut source = json!({"signerName": SIGNER, "keyType": kind, "credentialBundlePath": "bundle.pem"});
        for (key, value) in more.as_object().into_iter().flatten() {
            source[key] = value.clone();
        }
        json!([{"podCertificate": source}])
    };
    let files = json!({"keyPath": "key.pem", "certificateChainPath": "chain.pem", "maxExpirationSeconds": 3600});
    let kinds = [
        ("ed", "ED25519", files),
        ("ec", "ECDSAP384", json!({})),
        ("large", "ECDSAP521", json!({})),
        ("rsa", "RSA3072", json!({})),
    ];
    for (pod_name, kind, more) in &kinds {
        create(&ns, &pod(pod_name, certificate(kind, more.clone())))?;
    }
    for (pod_name, ..) in &kinds {
        ns.must(&format!("wait pod/{pod_name} --for=condition=Ready --timeout=120s"))?;
        let bundle = file(&ns, pod_name, "bundle.pem")?;
        let at = bundle.find("-----BEGIN CERTIFICATE").context("no certificate")?;
        let (key, chain) = bundle.split_at(at);
        ensure!(key.starts_with("-----BEGIN PRIVATE KEY-----"), "{key}");
        if *pod_name == "ed" {
            ensure!(file(&ns, "ed", "key.pem")? == key && file(&ns, "ed", "chain.pem")? == chain);
            let (_, block) = x509_parser::pem::parse_x509_pem(chain.as_bytes())?;
            let validity = block.parse_x509()?.validity().clone();
            let life = validity.not_after.timestamp() - validity.not_before.timestamp();
            ensure!(life == 3600, "it lives {life} s");
        }
        let user = json!({"client-certificate-data": STANDARD.encode(chain), "client-key-data": STANDARD.encode(key)});
        let config = kubeconfig(c, &format!("{name}-{pod_name}"), &user)?;
        let config = config.to_str().context("path")?;
        let who: Value =
            serde_json::from_str(&c.kubectl(&["--kubeconfig", config, "auth", "whoami", "-o", "json"])?)?;
        let info = &who["status"]["userInfo"];
        ensure!(info["username"] == format!("system:serviceaccount:{name}:default"), "{pod_name}: {info}");
        let groups =
            json!(["system:serviceaccounts", format!("system:serviceaccounts:{name}"), "system:authenticated"]);
        ensure!(info["groups"] == groups, "{info}");
        let uid = ns.must("get serviceaccount default -o jsonpath={.metadata.uid}")?;
        ensure!(info["uid"] == uid.as_str(), "{info}");
    }
    let requests = c.json(&["get", "podcertificaterequests", "-n", &name])?;
    let issued = |r: &Value| r["status"]["conditions"][0]["type"] == "Issued";
    let items = requests["items"].as_array().context("items")?;
    ensure!(items.len() == kinds.len() && items.iter().all(issued), "{requests}");
    ensure!(items[0]["metadata"]["ownerReferences"][0]["kind"] == "Pod", "{requests}");

    // A signer's no is final, and the pod says why.
    create(&ns, &pod("refused", certificate("ECDSAP256", json!({"userAnnotations": {"e2e.example.com/a": "b"}}))))?;
    c.wait(PATIENCE, "the refusal to be told", || {
        let events = ns.must("get events --field-selector involvedObject.name=refused,reason=FailedMount -o jsonpath={.items[*].message}")?;
        Ok(events.contains("PodCertificateRequest was permanently denied: reason=\"InvalidUnverifiedUserAnnotations\""))
    })?;

    // A node asks for its own pods alone, and in their own name.
    let mut forged = request("v1", "forged", SIGNER)?;
    let of = |what: &str, path: &str| c.kubectl(&["get", what, "-n", &name, "-o", &format!("jsonpath={{{path}}}")]);
    forged["spec"]["podName"] = "ed".into();
    forged["spec"]["podUID"] = of("pod/ed", ".metadata.uid")?.into();
    forged["spec"]["nodeUID"] = of("node/node1", ".metadata.uid")?.into();
    let node = ["create", "-n", &name, "-f", "-", "--as=system:node:node1", "--as-group=system:nodes"];
    let refused = c.kubectl_input(&node, &forged.to_string()).err().map(|e| e.to_string()).unwrap_or_default();
    ensure!(refused.contains("names service account UID \"su\""), "{refused}");
    // Others who may create requests get nothing for pods that aren't.
    forged["spec"]["podUID"] = "made-up".into();
    create(&ns, &forged)?;
    c.wait(PATIENCE, "the made-up request to fail", || {
        Ok(of("podcertificaterequest/forged", ".status.conditions[0].reason")? == "PodMismatch")
    })?;
    ns.delete()
}

/// Certificates of a running pod are asked for anew when their signer says so, each in its own time. The API server takes
/// no certificate whose refresh begins within five minutes, and nodes spread what is due over five more.
pub fn certificates_of_a_running_pod_are_renewed(c: &Cluster) -> Result<()> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    const SOURCES: usize = 8;
    let ns = Namespace::new(c, "renewed")?;
    let signer = Authority::new("e2e signer of pods")?;
    // Signs what isn't signed yet: begun as long ago as may be, to be refreshed as soon as may be.
    let sign = || -> Result<()> {
        let requests = c.json(&["get", "podcertificaterequests", "-n", ns.name()])?;
        for r in requests["items"].as_array().into_iter().flatten().filter(|r| r["status"]["conditions"].is_null()) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
            let (begin, end) = (now - 280, now - 280 + 3600);
            let request = STANDARD.decode(r["spec"]["stubPKCS10Request"].as_str().context("no request")?)?;
            let status = json!({"status": {"certificateChain": signer.sign(&request, begin, end)?,
                "notBefore": rfc3339(begin)?, "notAfter": rfc3339(end)?, "beginRefreshAt": rfc3339(begin + 600)?,
                "conditions": [{"type": "Issued", "status": "True", "reason": "E2e", "message": "", "lastTransitionTime": rfc3339(now)?}]}});
            let name = r["metadata"]["name"].as_str().context("no name")?;
            let patch =
                ["patch", "podcertificaterequest", name, "-n", ns.name(), "--subresource=status", "--type=merge", "-p"];
            c.kubectl(&[&patch[..], &[&status.to_string()]].concat())?;
        }
        Ok(())
    };
    let sources: Vec<Value> = (0..SOURCES)
        .map(|i| {
            json!({"podCertificate": {"signerName": "example.com/renewed", "keyType": "ECDSAP256",
                "credentialBundlePath": format!("{i}.pem"), "maxExpirationSeconds": 3600}})
        })
        .collect();
    create(&ns, &pod("p", sources.into()))?;
    c.wait(Duration::from_secs(120), "the pod to have its certificates", || {
        sign()?;
        Ok(ns.kubectl(&["wait", "pod/p", "--for=condition=Ready", "--timeout=1s"])?.ok)
    })?;
    let bundles = || (0..SOURCES).map(|i| file(&ns, "p", &format!("{i}.pem"))).collect::<Result<Vec<_>>>();
    let first = bundles()?;
    let asked = |count: usize| -> Result<bool> {
        let requests = c.json(&["get", "podcertificaterequests", "-n", ns.name()])?;
        Ok(requests["items"].as_array().is_some_and(|a| a.len() == count))
    };
    std::thread::sleep(Duration::from_secs(240));
    ensure!(bundles()? == first && asked(SOURCES)?, "a certificate was asked for before its time");
    let mut now = first.clone();
    c.wait(Duration::from_secs(420), "the first certificate to be renewed", || {
        std::thread::sleep(Duration::from_secs(2));
        sign()?;
        now = bundles()?;
        Ok(now != first)
    })?;
    let changed: Vec<_> = first.iter().zip(&now).filter(|(a, b)| a != b).collect();
    ensure!(changed.len() < SOURCES, "all are renewed at once");
    for (old, new) in changed {
        let parts = |text: &str| -> Result<(String, i64)> {
            let (key, chain) = text.split_at(text.find("-----BEGIN CERTIFICATE").context("no certificate")?);
            let (_, block) = x509_parser::pem::parse_x509_pem(chain.as_bytes())?;
            Ok((key.to_string(), block.parse_x509()?.validity().not_before.timestamp()))
        };
        let ((old_key, old_begin), (new_key, new_begin)) = (parts(old)?, parts(new)?);
        ensure!(
            new_key.starts_with("-----BEGIN PRIVATE KEY-----") && new_key != old_key,
            "a new key for a new certificate"
        );
        ensure!(new_begin >= old_begin + 300, "renewed {} s after the first one", new_begin - old_begin);
    }
    ensure!(ns.must("get pod p -o jsonpath={.status.containerStatuses[0].restartCount}")? == "0");
    ns.delete()
}

/// RFC 3339, as the API has times.
fn rfc3339(unix: u64) -> Result<String> {
    let seconds = i64::try_from(unix)?;
    Ok(k8s_openapi::jiff::Timestamp::from_second(seconds)?.to_string())
}

/// A bundle by name and all of a signer, in a volume that follows them.
pub fn a_pod_reads_trust_bundles(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "trust")?;
    let ca = std::fs::read_to_string(c.data_dir().join("pki/ca.crt"))?;
    let serving = "kubernetes.io/kube-apiserver-serving";
    c.wait(PATIENCE, "the API server's own bundle", || {
        Ok(!c.json(&["get", "clustertrustbundles", "--field-selector", &format!("spec.signerName={serving}")])?["items"]
            .as_array().is_none_or(Vec::is_empty))
    })?;
    let bundle = |name: &str, signer: &str, pem: &str| {
        json!({"apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle", "metadata": {"name": name, "labels": {"e2e": "trust"}},
            "spec": {"signerName": signer, "trustBundle": pem}})
    };
    let root = |name: &str| -> Result<String> {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        Ok(params.self_signed(&KeyPair::generate()?)?.pem())
    };
    let own = format!("{}-own", ns.name());
    let first = root("first")?;
    c.apply(&bundle(&own, "", &first).to_string())?;
    let shown = c.kubectl(&["get", "clustertrustbundles"])?;
    ensure!(shown.contains("SIGNERNAME") && shown.contains("<none>") && shown.contains(serving), "{shown}");
    let bad = c.kubectl_input(&["create", "-f", "-"], &bundle("a:b", "", &first).to_string());
    let bad = bad.err().map(|e| e.to_string()).unwrap_or_default();
    ensure!(bad.contains("ClusterTrustBundle without signer name must not have \":\" in its name"), "{bad}");

    let sources = json!([
        {"clusterTrustBundle": {"name": own, "path": "own.pem"}},
        {"clusterTrustBundle": {"signerName": serving, "labelSelector": {}, "path": "serving.pem"}},
        {"clusterTrustBundle": {"name": "not-there", "optional": true, "path": "none.pem"}}]);
    create(&ns, &pod("p", sources))?;
    ns.must("wait pod/p --for=condition=Ready --timeout=60s")?;
    let ders = |text: &str| -> Vec<Vec<u8>> {
        x509_parser::pem::Pem::iter_from_buffer(text.as_bytes()).flatten().map(|b| b.contents).collect()
    };
    ensure!(ders(&file(&ns, "p", "serving.pem")?) == ders(&ca), "the API server's bundle is its CA");
    ensure!(ders(&file(&ns, "p", "own.pem")?) == ders(&first) && file(&ns, "p", "none.pem")?.is_empty());
    let second = root("second")?;
    c.apply(&bundle(&own, "", &format!("{first}{second}")).to_string())?;
    c.wait(PATIENCE, "the changed bundle to arrive", || Ok(ders(&file(&ns, "p", "own.pem")?).len() == 2))?;

    // Without its bundle a pod doesn't start; it does when the bundle comes.
    let late = format!("{}-late", ns.name());
    create(&ns, &pod("late", json!([{"clusterTrustBundle": {"name": late, "path": "a.pem"}}])))?;
    c.wait(PATIENCE, "the pod to say what it lacks", || {
        let events = ns.must(
            "get events --field-selector involvedObject.name=late,reason=FailedMount -o jsonpath={.items[*].message}",
        )?;
        Ok(events.contains(&format!("clustertrustbundle.certificates.k8s.io \"{late}\" not found")))
    })?;
    c.apply(&bundle(&late, "", &first).to_string())?;
    ns.must("wait pod/late --for=condition=Ready --timeout=60s")?;

    // Only who attests for a signer writes its bundles; the publisher puts its own right.
    c.kubectl(&["create", "clusterrole", "e2e-ctb", "--verb=create", "--resource=clustertrustbundles"])?;
    c.kubectl(&["create", "clusterrolebinding", "e2e-ctb", "--clusterrole=e2e-ctb", "--user=jane"])?;
    let signed = bundle("example.com:e2e:v1", "example.com/e2e", &first).to_string();
    let as_jane = ["create", "-f", "-", "--as=jane"];
    let refused = c.kubectl_input(&as_jane, &signed).err().map(|e| e.to_string()).unwrap_or_default();
    ensure!(refused.contains("user not permitted to attest for signerName \"example.com/e2e\""), "{refused}");
    c.apply(&on_signer("e2e-attest", "attest", "example.com/e2e").to_string())?;
    c.kubectl(&["create", "clusterrolebinding", "e2e-attest", "--clusterrole=e2e-attest", "--user=jane"])?;
    c.kubectl_input(&as_jane, &signed)?;
    let false_one = bundle("kubernetes.io:kube-apiserver-serving:e2e", serving, &first).to_string();
    c.kubectl_input(&["create", "-f", "-"], &false_one)?;
    c.wait(PATIENCE, "a false bundle of the API server to go", || {
        Ok(!c.kubectl_run(&["get", "clustertrustbundle", "kubernetes.io:kube-apiserver-serving:e2e"])?.ok)
    })?;
    c.kubectl(&["delete", "clustertrustbundles", "-l", "e2e=trust"])?;
    c.kubectl(&["delete", "clusterrole,clusterrolebinding", "e2e-ctb", "e2e-attest"])?;
    ns.delete()
}
