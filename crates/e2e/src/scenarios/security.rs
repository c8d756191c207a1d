//! Who may do what: nobody, nodes, service accounts, impersonators; and who can read the keys.

use crate::cluster::Cluster;
use crate::wire::{Connection, Who};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// Fails with what was asked and answered unless the code and a part of the message are right.
async fn expect(api: &mut Connection, method: &str, path: &str, body: &Value, code: u16, part: &str) -> Result<Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let r = api.send(method, path, &[("content-type", "application/json")], body).await?;
    ensure!(
        r.code == code && r.text().contains(part),
        "{method} {path}: wanted {code} with {part:?}, got {} {}",
        r.code,
        r.text()
    );
    Ok(r.json())
}

pub fn keys_are_private(c: &Cluster) -> Result<()> {
    fn walk(dir: &Path, found: &mut Vec<String>) -> Result<()> {
        for entry in std::fs::read_dir(dir).with_context(|| format!("{}", dir.display()))? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.permissions().mode() & 0o077 != 0 {
                found.push(format!("{} has mode {:o}", entry.path().display(), meta.permissions().mode()));
            }
            if meta.is_dir() {
                walk(&entry.path(), found)?;
            }
        }
        Ok(())
    }
    let mut open = Vec::new();
    walk(&c.data_dir().join("pki"), &mut open)?;
    for file in [c.kubeconfig(), c.data_dir().join("pki"), c.data_dir().join("store")] {
        let mode = std::fs::metadata(&file)?.permissions().mode();
        if mode & 0o077 != 0 {
            open.push(format!("{} has mode {mode:o}", file.display()));
        }
    }
    ensure!(open.is_empty(), "others can read what they shouldn't: {open:?}");
    Ok(())
}

pub fn nobody_sees_health_and_version_only(c: &Cluster) -> Result<()> {
    c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Nobody).await?;
        for path in ["/livez", "/readyz", "/healthz", "/version"] {
            expect(&mut api, "GET", path, &Value::Null, 200, "").await?;
        }
        for path in [
            "/",
            "/api",
            "/apis",
            "/api/v1",
            "/metrics",
            "/openapi/v2",
            "/openapi/v3",
            "/api/v1/namespaces/default/secrets",
            "/livez/x",
            "//version/../api",
        ] {
            let r = api.get(path).await?;
            ensure!(
                matches!(r.code, 401 | 403) && r.json()["kind"] == "Status" || r.text() == "404 page not found\n",
                "{path}: {} {}",
                r.code,
                r.text()
            );
            ensure!(r.code != 404 || !path.starts_with("/api"), "{path}: {}", r.text());
        }
        expect(&mut api, "POST", "/api/v1/namespaces", &json!({"metadata": {"name": "x"}}), 401, "Unauthorized")
            .await?;
        let mut api = access.http1(&Who::Token("no-such-token".into())).await?;
        expect(&mut api, "GET", "/api", &Value::Null, 401, "Unauthorized").await?;
        // Certificates that the cluster's CA gave to servers are nobody's.
        let mut api = access.http1(&Who::Certificate("front-proxy-client")).await?;
        expect(&mut api, "GET", "/api/v1/secrets", &Value::Null, 401, "").await?;
        Ok(())
    })
}

pub fn nodes_read_what_their_pods_need(c: &Cluster) -> Result<()> {
    let ns = "sec-node";
    c.kubectl(&["create", "namespace", ns])?;
    c.kubectl(&["create", "secret", "generic", "foreign", "-n", ns, "--from-literal=a=b"])?;
    c.kubectl(&["create", "secret", "generic", "mine", "-n", ns, "--from-literal=a=b"])?;
    // Bound, but never started: its image can't be had.
    c.apply(&format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p","namespace":"{ns}"}},"spec":{{"nodeName":"node1","terminationGracePeriodSeconds":0,"containers":[{{"name":"c","image":"nowhere.invalid/x","imagePullPolicy":"Never","envFrom":[{{"secretRef":{{"name":"mine"}}}}]}}]}}}}"#
    ))?;
    c.access()?.inside(async |access| {
        let mut node = access.http1(&Who::Certificate("kubelet-client")).await?;
        let mut ask = async |method: &str, path: &str, body: Value, code: u16, part: &str| expect(&mut node, method, path, &body, code, part).await;
        ask("GET", "/api/v1/nodes/node1", Value::Null, 200, "node1").await?;
        ask("GET", &format!("/api/v1/namespaces/{ns}/secrets/mine"), Value::Null, 200, "mine").await?;
        ask("GET", &format!("/api/v1/namespaces/{ns}/secrets/foreign"), Value::Null, 403, "no relationship found between node 'node1' and this object").await?;
        ask("GET", &format!("/api/v1/namespaces/{ns}/secrets"), Value::Null, 403, "forbidden").await?;
        ask("GET", "/api/v1/secrets", Value::Null, 403, "forbidden").await?;
        ask("POST", "/api/v1/nodes", json!({"metadata": {"name": "node2"}}), 403, "node \\\"node1\\\" is not allowed to modify node \\\"node2\\\"").await?;
        ask("DELETE", "/api/v1/nodes/node1", Value::Null, 403, "forbidden").await?;
        ask("POST", &format!("/api/v1/namespaces/{ns}/pods"), json!({"metadata": {"name": "x"}, "spec": {"nodeName": "node1", "containers": [{"name": "c", "image": "x"}]}}), 403, "").await?;
        ask("PUT", "/api/v1/namespaces/kube-node-lease/leases/node2", json!({"metadata": {"name": "node2"}}), 403, "").await?;
        ask("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", json!({"metadata": {"name": "x"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}}), 403, "").await?;
        Ok(())
    })?;
    c.kubectl(&["delete", "namespace", ns, "--wait=false"])?;
    Ok(())
}

pub fn service_accounts_do_what_roles_say(c: &Cluster) -> Result<()> {
    let ns = "sec-sa";
    c.kubectl(&["create", "namespace", ns])?;
    c.kubectl(&["create", "serviceaccount", "who", "-n", ns])?;
    let token = c.kubectl(&["create", "token", "who", "-n", ns])?.trim().to_string();
    let pods = format!("/api/v1/namespaces/{ns}/pods");
    let user = format!("system:serviceaccount:{ns}:who");
    let refused = format!(
        r#"pods is forbidden: User \"{user}\" cannot list resource \"pods\" in API group \"\" in the namespace \"{ns}\""#
    );
    c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Token(token.clone())).await?;
        expect(&mut api, "GET", "/api", &Value::Null, 200, "").await?;
        expect(&mut api, "GET", &pods, &Value::Null, 403, &refused).await?;
        Ok(())
    })?;
    c.kubectl(&["create", "role", "reader", "-n", ns, "--verb=get,list,watch", "--resource=pods"])?;
    c.kubectl(&["create", "rolebinding", "reader", "-n", ns, "--role=reader", &format!("--serviceaccount={ns}:who")])?;
    c.kubectl(&["create", "role", "granter", "-n", ns, "--verb=create", "--resource=roles,rolebindings"])?;
    c.kubectl(&[
        "create",
        "rolebinding",
        "granter",
        "-n",
        ns,
        "--role=granter",
        &format!("--serviceaccount={ns}:who"),
    ])?;
    c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Token(token.clone())).await?;
        expect(&mut api, "GET", &pods, &Value::Null, 200, "PodList").await?;
        for (method, path, body) in [
            ("GET", "/api/v1/pods".to_string(), Value::Null),
            ("GET", "/api/v1/namespaces/default/pods".into(), Value::Null),
            ("GET", format!("/api/v1/namespaces/{ns}/secrets"), Value::Null),
            ("DELETE", format!("{pods}/x"), Value::Null),
            ("DELETE", pods.clone(), Value::Null),
            ("PATCH", format!("{pods}/x"), json!({})),
            ("GET", format!("{pods}/x/log"), Value::Null),
            ("POST", format!("{pods}/x/exec?command=id"), Value::Null),
            ("GET", format!("{pods}%2f..%2fsecrets/x/status"), Value::Null),
            ("GET", "/api/v1/nodes/node1/proxy/pods".into(), Value::Null),
            ("GET", "/metrics".into(), Value::Null),
        ] {
            expect(&mut api, method, &path, &body, 403, "forbidden").await?;
        }
        // Nobody gives away what he hasn't got.
        let roles = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}/roles");
        let rule = |resource: &str| json!({"metadata": {"name": format!("r-{resource}")}, "rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}]});
        expect(&mut api, "POST", &roles, &rule("pods"), 201, "").await?;
        expect(&mut api, "POST", &roles, &rule("secrets"), 403, "attempting to grant RBAC permissions not currently held").await?;
        // Nor is he somebody else.
        let r = api.send("GET", &pods, &[("impersonate-user", "jane")], "").await?;
        let want = format!(r#"pods is forbidden: User \"{user}\" cannot impersonate-on:user-info:list resource \"pods\" in API group \"\" in the namespace \"{ns}\""#);
        ensure!(r.code == 403 && r.text().contains(&want), "{} {}", r.code, r.text());
        let mine = expect(&mut api, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({}), 201, "").await?;
        ensure!(mine["status"]["userInfo"]["username"] == user.as_str(), "{mine}");

        // Who asks for a certificate is who is told to have asked.
        let mut admin = access.http1(&Who::Admin).await?;
        let csr = json!({"metadata": {"name": "sec-sa"}, "spec": {"signerName": "example.com/x", "usages": ["client auth"], "username": "system:admin", "groups": ["system:masters"],
            "request": CSR}});
        let made = expect(&mut admin, "POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests?dryRun=All", &csr, 201, "").await?;
        let me = expect(&mut admin, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({}), 201, "").await?;
        ensure!(made["spec"]["username"] == me["status"]["userInfo"]["username"] && made["spec"]["groups"] == me["status"]["userInfo"]["groups"], "{made} {me}");

        // Reviews, as components ask them.
        let review = |token: &str| json!({"spec": {"token": token}});
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let good = expect(&mut admin, "POST", path, &review(&token), 201, "").await?;
        ensure!(good["status"]["authenticated"] == true && good["status"]["user"]["username"] == user.as_str(), "{good}");
        let bad = expect(&mut admin, "POST", path, &review("nonsense"), 201, "").await?;
        ensure!(bad["status"]["authenticated"] != true, "{bad}");
        for (resource, allowed) in [("pods", true), ("secrets", false)] {
            let body = json!({"spec": {"user": user, "resourceAttributes": {"namespace": ns, "verb": "list", "resource": resource}}});
            let r = expect(&mut admin, "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", &body, 201, "").await?;
            ensure!(r["status"]["allowed"] == allowed, "{resource}: {r}");
        }
        let r = admin.send("GET", &pods, &[("impersonate-user", "jane"), ("impersonate-group", "system:authenticated")], "").await?;
        ensure!(r.code == 403 && r.text().contains(r#"User \"jane\" cannot list"#), "{} {}", r.code, r.text());
        Ok(())
    })?;
    // A token dies with its account.
    c.kubectl(&["delete", "serviceaccount", "who", "-n", ns])?;
    let access = c.access()?;
    c.wait(Duration::from_secs(15), "the token of a deleted account to be refused", || {
        access.inside(async |a| Ok(a.http1(&Who::Token(token.clone())).await?.get("/api").await?.code == 401))
    })?;
    c.kubectl(&["delete", "namespace", ns, "--wait=false"])?;
    Ok(())
}

/// The token that a pod finds in its volume does what its account may, as long as the pod is there.
pub fn pods_tokens_are_bound_to_them(c: &Cluster) -> Result<()> {
    let ns = "sec-pod";
    c.kubectl(&["create", "namespace", ns])?;
    c.kubectl(&["create", "serviceaccount", "app", "-n", ns])?;
    c.kubectl(&["create", "role", "reader", "-n", ns, "--verb=get", "--resource=configmaps"])?;
    c.kubectl(&["create", "rolebinding", "reader", "-n", ns, "--role=reader", &format!("--serviceaccount={ns}:app")])?;
    c.apply(&format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p","namespace":"{ns}"}},"spec":{{"serviceAccountName":"app","terminationGracePeriodSeconds":0,"containers":[{{"name":"c","image":"skiff.local/hello","imagePullPolicy":"Never"}}]}}}}"#
    ))?;
    c.kubectl(&["wait", "pod/p", "-n", ns, "--for=condition=Ready", "--timeout=60s"])?;
    let uid = c.kubectl(&["get", "pod", "p", "-n", ns, "-o", "jsonpath={.metadata.uid}"])?;
    let pattern = format!("cat {}/kubelet/pods/{uid}/volumes/kubernetes.io~projected/*/token", c.data_dir().display());
    let token = c.must(&["sh", "-c", &pattern])?.trim().to_string();
    let access = c.access()?;
    let user = format!("system:serviceaccount:{ns}:app");
    access.inside(async |access| {
        let mut api = access.http1(&Who::Token(token.clone())).await?;
        expect(
            &mut api,
            "GET",
            &format!("/api/v1/namespaces/{ns}/configmaps/kube-root-ca.crt"),
            &Value::Null,
            200,
            "BEGIN CERTIFICATE",
        )
        .await?;
        expect(&mut api, "GET", &format!("/api/v1/namespaces/{ns}/configmaps"), &Value::Null, 403, "forbidden").await?;
        expect(
            &mut api,
            "GET",
            "/api/v1/namespaces/default/configmaps/kube-root-ca.crt",
            &Value::Null,
            403,
            "forbidden",
        )
        .await?;
        let me =
            expect(&mut api, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({}), 201, "").await?;
        let extra = &me["status"]["userInfo"]["extra"];
        ensure!(
            me["status"]["userInfo"]["username"] == user.as_str()
                && extra["authentication.kubernetes.io/pod-name"] == json!(["p"]),
            "{me}"
        );
        // Changed in the middle of its signature, it is nobody's.
        let mut forged = token.clone();
        let last = if forged.pop() == Some('A') { 'Q' } else { 'A' };
        forged.insert(forged.len() - 20, last);
        let mut api = access.http1(&Who::Token(forged)).await?;
        expect(&mut api, "GET", "/api", &Value::Null, 401, "Unauthorized").await?;
        Ok(())
    })?;
    // The kubelet's own port: nobody gets in without a name, and this account has no business there.
    let ask = |headers: &[&str]| {
        let mut args = vec!["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "https://127.0.0.1:10250/pods"];
        args.extend(headers);
        c.must(&args)
    };
    ensure!(ask(&[])? == "401", "the kubelet answers anybody: {}", ask(&[])?);
    let bearer = format!("Authorization: Bearer {token}");
    let told = ask(&["-H", &bearer])?;
    ensure!(told == "403", "the kubelet answers an account without rights: {told}");
    c.kubectl(&["delete", "pod", "p", "-n", ns])?;
    c.wait(Duration::from_secs(15), "the token of a deleted pod to be refused", || {
        access.inside(async |a| Ok(a.http1(&Who::Token(token.clone())).await?.get("/api").await?.code == 401))
    })?;
    c.kubectl(&["delete", "namespace", ns, "--wait=false"])?;
    Ok(())
}

/// A valid request (made with openssl, P-256, CN=jane), in base64 of PEM.
pub const CSR: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIS01IRUNBUUF3RHpFTk1Bc0dBMVVFQXd3RWFtRnVaVEJaTUJNR0J5cUdTTTQ5QWdFR0NDcUdTTTQ5QXdFSApBMElBQkphc2xPY3JaZmVrdFFkUlpPeXg1SGE3UEFkUCszU3c0WFR4L0tWSlN2YXlva052SUV1TWdTQ01OU3J5CjRFSktQai9uWXR3NkJSaDBoWTZmVXM3ZzNEcWdBREFLQmdncWhrak9QUVFEQWdOSkFEQkdBaUVBM0hRQm0wS1IKTmNsSUlhZnJ2UkRFNFVQVWplV2FVL3VSamE0cW1XU24zcThDSVFDeXZjUjJFMmMxQXhBODRWVTc3VzRhRnBHTQp4dGhtNWhkbmdZZTZkYnpLSEE9PQotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K";
