//! Service accounts as the conformance tests of sig-auth look at them.

use crate::cluster::Cluster;
use crate::wire::Who;
use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(15);

/// "ServiceAccount lifecycle test", "ServiceAccount, update", "RootCA ConfigMap test".
pub fn live_from_creation_to_deletion(c: &Cluster) -> Result<()> {
    let ns = "sa-life";
    c.kubectl(&["create", "namespace", ns])?;
    let path = format!("/api/v1/namespaces/{ns}/serviceaccounts");
    c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Admin).await?;
        let made = api.json("POST", &path, &json!({"metadata": {"name": "life", "labels": {"e2e": "life"}}})).await?;
        ensure!(made.code == 201, "{}", made.text());
        let rv = made.json()["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_string();
        let one = format!("{path}/life");
        let strategic = [("content-type", "application/strategic-merge-patch+json")];
        let r = api.send("PATCH", &one, &strategic, r#"{"automountServiceAccountToken":false}"#).await?.json();
        ensure!(r["automountServiceAccountToken"] == false, "{r}");
        let mut update = r;
        update["automountServiceAccountToken"] = true.into();
        let r = api.json("PUT", &one, &update).await?.json();
        ensure!(r["automountServiceAccountToken"] == true, "{r}");
        let all = api.get("/api/v1/serviceaccounts?labelSelector=e2e%3Dlife").await?.json();
        ensure!(all["items"].as_array().is_some_and(|a| a.len() == 1), "{all}");
        ensure!(api.send("DELETE", &format!("{path}?labelSelector=e2e%3Dlife"), &[], "").await?.code == 200);
        let watched =
            api.get(&format!("{path}?watch=1&labelSelector=e2e%3Dlife&resourceVersion={rv}&timeoutSeconds=1")).await?;
        let kinds: Vec<Value> = watched
            .text()
            .lines()
            .filter_map(|l| serde_json::from_str::<Value>(l).ok())
            .map(|e| e["type"].clone())
            .collect();
        ensure!(kinds == ["MODIFIED", "MODIFIED", "DELETED"], "{kinds:?}");
        Ok(())
    })?;
    // Every namespace has an account to run as, and the authority to check the API server by.
    let map = |field: &str| {
        c.kubectl_run(&["get", "configmap", "kube-root-ca.crt", "-n", ns, "-o", &format!("jsonpath={field}")])
            .map(|d| d.stdout)
    };
    c.wait(PATIENCE, "the root CA", || Ok(map(r"{.data.ca\.crt}")?.contains("BEGIN CERTIFICATE")))?;
    c.wait(PATIENCE, "the default account", || Ok(c.kubectl_run(&["get", "serviceaccount", "default", "-n", ns])?.ok))?;
    c.kubectl(&["delete", "configmap", "kube-root-ca.crt", "-n", ns])?;
    c.wait(PATIENCE, "the root CA to come back", || Ok(map(r"{.data.ca\.crt}")?.contains("BEGIN CERTIFICATE")))?;
    c.kubectl(&["patch", "configmap", "kube-root-ca.crt", "-n", ns, "-p", r#"{"data":{"ca.crt":"spoilt"}}"#])?;
    c.wait(PATIENCE, "the root CA to be put right", || Ok(map(r"{.data.ca\.crt}")?.contains("BEGIN CERTIFICATE")))?;
    c.kubectl(&["delete", "namespace", ns, "--wait=false"])?;
    Ok(())
}

/// "Service accounts tokens auto mount optionally": the pod's word beats the account's.
pub fn tokens_are_mounted_as_asked(c: &Cluster) -> Result<()> {
    let ns = "sa-mount";
    c.kubectl(&["create", "namespace", ns])?;
    for (name, setting) in [("unset", Value::Null), ("yes", json!(true)), ("no", json!(false))] {
        let mut account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": ns}});
        account["automountServiceAccountToken"] = setting;
        c.kubectl_input(&["create", "-f", "-"], &account.to_string())?;
    }
    for (account, by_account) in [("unset", None), ("yes", Some(true)), ("no", Some(false))] {
        for by_pod in [None, Some(true), Some(false)] {
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": ns},
                "spec": {"serviceAccountName": account, "automountServiceAccountToken": by_pod,
                         "containers": [{"name": "c", "image": "skiff.local/hello"}]}});
            let made = c.kubectl_input(&["create", "--dry-run=server", "-o", "json", "-f", "-"], &pod.to_string())?;
            let made: Value = serde_json::from_str(&made)?;
            let mounts = made["spec"]["containers"][0]["volumeMounts"].as_array().cloned().unwrap_or_default();
            let mounted = mounts.iter().any(|m| m["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount");
            ensure!(mounted == by_pod.or(by_account).unwrap_or(true), "account {account}, pod {by_pod:?}: {mounted}");
        }
    }
    c.kubectl(&["delete", "namespace", ns, "--wait=false"])?;
    Ok(())
}

/// "Must AutoMount", "TokenRequestProjection", "create and review token", "OIDC Discovery": what a pod finds, and
/// what others can make of it.
pub fn tokens_can_be_verified_by_others(c: &Cluster) -> Result<()> {
    let ns = "sa-oidc";
    c.kubectl(&["create", "namespace", ns])?;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": ns}, "spec": {
        "terminationGracePeriodSeconds": 0,
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "c", "image": "skiff.local/hello", "imagePullPolicy": "Never",
                        "volumeMounts": [{"name": "vault", "mountPath": "/vault"}]}],
        "volumes": [{"name": "vault", "projected": {"sources": [{"serviceAccountToken":
            {"path": "t", "audience": "vault", "expirationSeconds": 600}}]}}]}});
    c.wait(PATIENCE, "the default account", || Ok(c.kubectl_run(&["get", "serviceaccount", "default", "-n", ns])?.ok))?;
    c.kubectl_input(&["create", "-f", "-"], &pod.to_string())?;
    c.kubectl(&["wait", "pod/p", "-n", ns, "--for=condition=Ready", "--timeout=60s"])?;
    let uid = c.kubectl(&["get", "pod", "p", "-n", ns, "-o", "jsonpath={.metadata.uid}"])?;
    let volumes = format!("{}/kubelet/pods/{uid}/volumes/kubernetes.io~projected", c.data_dir().display());
    let read = |pattern: &str| c.must(&["sh", "-c", &format!("cat {volumes}/{pattern}")]);
    ensure!(
        read("kube-api-access-*/namespace")? == ns && read("kube-api-access-*/ca.crt")?.contains("BEGIN CERTIFICATE")
    );
    let (own, vault) = (read("kube-api-access-*/token")?, read("vault/t")?);
    let claims = |token: &str| -> Result<Value> {
        Ok(serde_json::from_slice(&B64.decode(token.split('.').nth(1).unwrap_or_default())?)?)
    };
    let vault_claims = claims(&vault)?;
    ensure!(
        vault_claims["aud"] == json!(["vault"]) && vault_claims["kubernetes.io"]["pod"]["uid"] == uid.as_str(),
        "{vault_claims}"
    );
    ensure!(vault_claims["kubernetes.io"]["node"]["name"] == "node1", "{vault_claims}");

    // The pod asks for issuer and keys with its own token, and checks that token by them.
    let (document, keys) = c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Token(own.trim().to_string())).await?;
        let document = api.get("/.well-known/openid-configuration").await?;
        let keys = api.get("/openid/v1/jwks").await?;
        ensure!(document.code == 200 && keys.code == 200, "{} {}", document.code, keys.code);
        ensure!(keys.headers["content-type"] == "application/jwk-set+json");
        ensure!(access.http1(&Who::Nobody).await?.get("/openid/v1/jwks").await?.code == 401);
        Ok((document.json(), keys.json()))
    })?;
    ensure!(document["issuer"] == claims(&own)?["iss"], "{document}");
    ensure!(document["id_token_signing_alg_values_supported"] == json!(["ES256"]), "{document}");
    for token in [own.trim(), vault.trim()] {
        let (signed, signature) = token.rsplit_once('.').context("token")?;
        let header: Value = serde_json::from_slice(&B64.decode(signed.split('.').next().unwrap_or_default())?)?;
        let key =
            keys["keys"].as_array().and_then(|k| k.iter().find(|k| k["kid"] == header["kid"])).context("the key")?;
        let coordinate = |name: &str| B64.decode(key[name].as_str().unwrap_or_default());
        let point = [&[4][..], &coordinate("x")?, &coordinate("y")?].concat();
        ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, point)
            .verify(signed.as_bytes(), &B64.decode(signature)?)
            .map_err(|_| anyhow::anyhow!("the token can't be verified by the published key"))?;
    }
    // A review tells whose it is, and for whom.
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {"name": "x"},
                        "spec": {"token": vault.trim(), "audiences": ["vault"]}});
    let status: Value =
        serde_json::from_str(&c.kubectl_input(&["create", "-o", "json", "-f", "-"], &review.to_string())?)?;
    let status = &status["status"];
    ensure!(
        status["authenticated"] == true && status["user"]["username"] == format!("system:serviceaccount:{ns}:default"),
        "{status}"
    );
    ensure!(status["user"]["extra"]["authentication.kubernetes.io/pod-name"] == json!(["p"]), "{status}");
    c.kubectl(&["delete", "namespace", ns, "--wait=false"])?;
    Ok(())
}

/// "SubjectReview, API Operations": reviews say what happens.
pub fn reviews_agree_with_what_happens(c: &Cluster) -> Result<()> {
    let ns = "sa-review";
    c.kubectl(&["create", "namespace", ns])?;
    c.kubectl(&["create", "serviceaccount", "e2e", "-n", ns])?;
    let user = format!("system:serviceaccount:{ns}:e2e");
    c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Admin).await?;
        for allowed in [false, true] {
            if allowed {
                let binding = json!({"metadata": {"name": "e2e"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
                                     "subjects": [{"kind": "ServiceAccount", "name": "e2e", "namespace": ns}]});
                let path = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}/rolebindings");
                let r = api.json("POST", &path, &binding).await?;
                ensure!(r.code == 201, "{}", r.text());
            }
            let spec = json!({"user": user, "groups": ["system:authenticated"], "resourceAttributes": {"verb": "list", "resource": "configmaps", "namespace": ns, "version": "v1"}});
            for path in ["subjectaccessreviews".to_string(), format!("namespaces/{ns}/localsubjectaccessreviews")] {
                let r = api.json("POST", &format!("/apis/authorization.k8s.io/v1/{path}"), &json!({"metadata": {"namespace": if path.starts_with('n') { ns } else { "" }}, "spec": spec})).await?;
                ensure!(r.code == 201 && r.json()["status"]["allowed"] == allowed, "{path}: {}", r.text());
            }
            let headers = [("impersonate-user", user.as_str())];
            let r = api.send("GET", &format!("/api/v1/namespaces/{ns}/configmaps"), &headers, "").await?;
            ensure!(r.code == if allowed { 200 } else { 403 }, "{}", r.text());
        }
        // Questions that make no sense are told so.
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        for (spec, part) in [
            (json!({"user": "x"}), "exactly one of nonResourceAttributes or resourceAttributes must be specified"),
            (json!({"resourceAttributes": {"verb": "get"}}), "at least one of user or group must be specified"),
            (json!({"user": "x", "resourceAttributes": {"verb": "list", "labelSelector": {}}}), "requirements or rawSelector is required"),
        ] {
            let r = api.json("POST", path, &json!({"spec": spec})).await?;
            ensure!(r.code == 422 && r.text().contains(part), "{}", r.text());
        }
        let named = json!({"metadata": {"name": "n"}, "spec": {"user": "x", "resourceAttributes": {"verb": "list"}}});
        let r = api.json("POST", path, &named).await?;
        ensure!(r.code == 422 && r.text().contains("must be empty"), "{}", r.text());
        let elsewhere = json!({"metadata": {"namespace": "default"}, "spec": {"user": "x"}});
        for (path, code) in [("", 404), ("namespaces/kube-system/", 400)] {
            let path = format!("/apis/authorization.k8s.io/v1/{path}localsubjectaccessreviews");
            let r = api.json("POST", &path, &elsewhere).await?;
            ensure!(r.code == code, "{path}: {}", r.text());
        }
        let odd = json!({"spec": {"user": "x", "resourceAttributes": {"verb": "list", "fieldSelector": {"rawSelector": "a~b"}}}});
        let r = api.json("POST", path, &odd).await?.json();
        ensure!(r["status"]["evaluationError"] == "spec.resourceAttributes.fieldSelector ignored due to parse error", "{r}");
        Ok(())
    })?;
    c.kubectl(&["delete", "namespace", ns, "--wait=false"])?;
    Ok(())
}
