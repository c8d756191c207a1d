//! Signing requests from `openssl req` to a client that uses the certificate; renewal of the server's own.

use crate::cluster::Cluster;
use crate::wire::Who;
use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(15);
const PATH: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// A key (PEM), and a request for this common name and organization in base64 of PEM.
pub fn request(name: &str, organization: &str, sans: &[&str]) -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(sans.iter().map(|s| s.to_string()).collect::<Vec<_>>())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, organization);
    let pem = params.serialize_request(&key)?.pem()?;
    Ok((key.serialize_pem(), STANDARD.encode(pem)))
}

pub fn csr(name: &str, request: &str, signer: &str, usages: &[&str]) -> Value {
    json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {"request": request, "signerName": signer, "usages": usages, "expirationSeconds": 3600}})
}

/// A kubeconfig for this cluster with the given `user` entry.
pub fn kubeconfig(c: &Cluster, name: &str, user: &Value) -> Result<PathBuf> {
    let ca = std::fs::read(c.data_dir().join("pki/ca.crt"))?;
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443",
                      "certificate-authority-data": STANDARD.encode(ca)}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
    let path = c.dir().join(format!("{name}.kubeconfig"));
    std::fs::write(&path, config.to_string())?;
    Ok(path)
}

fn certificate_of(c: &Cluster, name: &str) -> Result<String> {
    let encoded = c.kubectl(&["get", "csr", name, "-o", "jsonpath={.status.certificate}"])?;
    Ok(String::from_utf8(STANDARD.decode(encoded)?)?)
}

/// `kubectl certificate approve`, and jane is in.
pub fn a_request_becomes_a_client(c: &Cluster) -> Result<()> {
    let (key, request) = request("jane", "dev", &[])?;
    let signer = "kubernetes.io/kube-apiserver-client";
    c.apply(&csr("jane", &request, signer, &["client auth"]).to_string())?;
    let shown = c.kubectl(&["get", "csr", "jane"])?;
    ensure!(shown.contains("Pending") && shown.contains(signer) && shown.contains("kubernetes-admin"), "{shown}");
    let shown = c.kubectl(&["certificate", "approve", "jane"])?;
    ensure!(shown.contains("certificatesigningrequest.certificates.k8s.io/jane approved"), "{shown}");
    c.wait(PATIENCE, "jane's certificate", || Ok(!certificate_of(c, "jane")?.is_empty()))?;
    ensure!(c.kubectl(&["get", "csr", "jane"])?.contains("Approved,Issued"));

    let certificate = certificate_of(c, "jane")?;
    let (_, block) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).context("the certificate's PEM")?;
    let cert = block.parse_x509()?;
    let life = cert.validity().not_after.timestamp() - cert.validity().not_before.timestamp();
    ensure!((3600..=3600 + 300).contains(&life), "the certificate lives {life} s");

    let user =
        json!({"client-certificate-data": STANDARD.encode(&certificate), "client-key-data": STANDARD.encode(&key)});
    let config = kubeconfig(c, "jane", &user)?;
    let config = config.to_str().context("path")?;
    let who = c.kubectl(&["--kubeconfig", config, "auth", "whoami", "-o", "json"])?;
    let who: Value = serde_json::from_str(&who)?;
    let info = &who["status"]["userInfo"];
    ensure!(info["username"] == "jane" && info["groups"] == json!(["dev", "system:authenticated"]), "{info}");
    let id = info["extra"]["authentication.kubernetes.io/credential-id"][0].as_str().unwrap_or_default();
    ensure!(id.starts_with("X509SHA256="), "{info}");
    let refused = c.kubectl_fails(&["--kubeconfig", config, "get", "pods"])?;
    ensure!(refused.contains(r#"User "jane" cannot list resource "pods""#), "{refused}");
    c.kubectl(&["create", "rolebinding", "dev-view", "--clusterrole=view", "--group=dev", "-n", "default"])?;
    c.kubectl(&["--kubeconfig", config, "get", "pods"])?;
    c.kubectl(&["delete", "rolebinding", "dev-view", "-n", "default"])?;
    c.kubectl(&["delete", "csr", "jane"])?;

    // A denied request stays without a certificate; one with foreign usages fails; masters aren't asked for.
    let (_, bad) = self::request("joe", "dev", &[])?;
    c.apply(&csr("joe", &bad, signer, &["client auth"]).to_string())?;
    c.kubectl(&["certificate", "deny", "joe"])?;
    ensure!(c.kubectl(&["get", "csr", "joe"])?.contains("Denied"));
    let both = c.kubectl_fails(&["certificate", "approve", "joe"])?;
    ensure!(both.contains("Denied") || both.contains("mutually exclusive"), "{both}");
    c.apply(&csr("wrong", &bad, signer, &["server auth"]).to_string())?;
    c.kubectl(&["certificate", "approve", "wrong"])?;
    c.wait(PATIENCE, "the wrong request to fail", || {
        Ok(c.kubectl(&["get", "csr", "wrong"])?.contains("Approved,Failed"))
    })?;
    let failed = c.json(&["get", "csr", "wrong"])?;
    let condition = failed["status"]["conditions"].as_array().and_then(|a| a.last()).cloned().unwrap_or_default();
    ensure!(
        condition["reason"] == "SignerValidationFailure"
            && condition["message"] == "invalid usage for client certificate: server auth",
        "{condition}"
    );
    ensure!(certificate_of(c, "joe")?.is_empty() && certificate_of(c, "wrong")?.is_empty());
    let (_, masters) = self::request("root", "system:masters", &[])?;
    let refused = c.kubectl_input(&["create", "-f", "-"], &csr("root", &masters, signer, &["client auth"]).to_string());
    let refused = refused.err().map(|e| e.to_string()).unwrap_or_default();
    ensure!(
        refused.contains("use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"),
        "{refused}"
    );
    c.kubectl(&["delete", "csr", "joe", "wrong"])?;
    Ok(())
}

/// A node renews its client certificate by itself; a new one comes in by a bootstrap token; both without a person.
pub fn kubelets_are_approved_unasked(c: &Cluster) -> Result<()> {
    let signer = "kubernetes.io/kube-apiserver-client-kubelet";
    let usages = ["digital signature", "client auth"];
    for (name, role, group) in [
        ("e2e-selfnode", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", "system:nodes"),
        ("e2e-node", "system:certificates.k8s.io:certificatesigningrequests:nodeclient", "system:bootstrappers"),
        ("e2e-bootstrap", "system:node-bootstrapper", "system:bootstrappers"),
        ("e2e-renew", "system:node-bootstrapper", "system:nodes"),
        ("e2e-ask", "system:node-bootstrapper", "e2e:askers"),
    ] {
        c.kubectl(&[
            "create",
            "clusterrolebinding",
            name,
            &format!("--clusterrole={role}"),
            &format!("--group={group}"),
        ])?;
    }
    let (_, node) = request("system:node:node9", "system:nodes", &[])?;
    let own = ["--as=system:node:node9", "--as-group=system:nodes"];
    let joining = ["--as=system:bootstrap:abcdef", "--as-group=system:bootstrappers"];
    for (name, who) in [("own", own), ("joining", joining)] {
        let mut args = vec!["create", "-f", "-"];
        args.extend(who);
        c.kubectl_input(&args, &csr(name, &node, signer, &usages).to_string())?;
        c.wait(PATIENCE, &format!("{name}'s certificate"), || Ok(!certificate_of(c, name)?.is_empty()))?;
        let object = c.json(&["get", "csr", name])?;
        ensure!(object["status"]["conditions"][0]["reason"] == "AutoApproved", "{object}");
    }
    // Nobody gets another node's: a node can't ask, and who may only ask isn't approved unasked.
    let file = c.dir().join("stranger.json");
    std::fs::write(&file, csr("stranger", &node, signer, &usages).to_string())?;
    let file = file.display().to_string();
    let told = c.kubectl_fails(&["create", "-f", &file, "--as=system:node:node8", "--as-group=system:nodes"])?;
    ensure!(told.contains("can only create a node CSR with CN=system:node:node8"), "{told}");
    c.kubectl(&["create", "-f", &file, "--as=jane", "--as-group=e2e:askers"])?;
    ensure!(c.kubectl(&["get", "csr", "stranger"])?.contains("Pending"));
    // Serving certificates are for a person (or another controller) to approve.
    let (_, serving) = request("system:node:node9", "system:nodes", &["node9", "192.0.2.9"])?;
    let serving = csr("serving", &serving, "kubernetes.io/kubelet-serving", &["digital signature", "server auth"]);
    c.kubectl_input(&["create", "-f", "-", own[0], own[1]], &serving.to_string())?;
    c.kubectl(&["certificate", "approve", "serving"])?;
    c.wait(PATIENCE, "the serving certificate", || Ok(!certificate_of(c, "serving")?.is_empty()))?;
    c.kubectl(&["delete", "csr", "own", "joining", "stranger", "serving"])?;
    c.kubectl(&["delete", "clusterrolebinding", "e2e-selfnode", "e2e-node", "e2e-bootstrap", "e2e-renew", "e2e-ask"])?;
    Ok(())
}

/// sig-auth: "CertificateSigningRequest API": discovery, every verb, both subresources.
pub fn the_api_of_signing_requests(c: &Cluster) -> Result<()> {
    let (_, request) = request("e2e", "dev", &[])?;
    let signer = "example.com/e2e";
    let certificate = STANDARD.encode(std::fs::read(c.data_dir().join("pki/admin.crt"))?);
    c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Admin).await?;
        let groups = api.get("/apis").await?.json();
        ensure!(groups.to_string().contains(r#""groupVersion":"certificates.k8s.io/v1""#), "{groups}");
        let resources = api.get("/apis/certificates.k8s.io/v1").await?.text();
        for name in ["", "/approval", "/status"] {
            ensure!(resources.contains(&format!(r#""name":"certificatesigningrequests{name}""#)), "{resources}");
        }
        let mut object = csr("e2e-api", &request, signer, &["digital signature", "key encipherment", "server auth"]);
        object["metadata"]["labels"] = json!({"e2e": "api"});
        let made = api.json("POST", PATH, &object).await?;
        ensure!(made.code == 201, "{}", made.text());
        let made = made.json();
        ensure!(made["spec"]["username"] == "kubernetes-admin" && made["status"] == json!({}), "{made}");
        let rv = made["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_string();
        let one = format!("{PATH}/e2e-api");
        ensure!(api.get(&one).await?.json()["spec"]["signerName"] == signer);
        let list = api.get(&format!("{PATH}?fieldSelector=spec.signerName%3D{signer}")).await?.json();
        ensure!(list["items"].as_array().is_some_and(|a| a.len() == 1), "{list}");

        let merge = [("content-type", "application/merge-patch+json")];
        let patched = api.send("PATCH", &one, &merge, r#"{"metadata":{"annotations":{"patched":"true"}}}"#).await?.json();
        ensure!(patched["metadata"]["annotations"]["patched"] == "true", "{patched}");
        let mut update = patched.clone();
        update["metadata"]["annotations"]["updated"] = "true".into();
        // The request itself never changes.
        update["spec"]["signerName"] = "example.com/other".into();
        let updated = api.json("PUT", &one, &update).await?.json();
        ensure!(updated["metadata"]["annotations"]["updated"] == "true", "{updated}");
        ensure!(updated["spec"]["signerName"] == signer, "{updated}");

        let approval = format!("{one}/approval");
        ensure!(api.get(&approval).await?.code == 200);
        let condition = |kind: &str, message: &str| json!({"type": kind, "status": "True", "reason": "E2E", "message": message});
        let body = json!({"metadata": {"annotations": {"patchedapproval": "true"}}, "status": {"conditions": [condition("ApprovalPatch", "a")]}});
        let r = api.send("PATCH", &approval, &merge, body.to_string()).await?.json();
        ensure!(r["status"]["conditions"][0]["message"] == "a" && r["metadata"]["annotations"]["patchedapproval"] == "true", "{r}");
        let mut update = r.clone();
        update["status"]["conditions"].as_array_mut().context("conditions")?.push(condition("Approved", "b"));
        let r = api.json("PUT", &approval, &update).await?.json();
        ensure!(r["status"]["conditions"][1]["type"] == "Approved", "{r}");
        ensure!(!r["status"]["conditions"][1]["lastUpdateTime"].is_null(), "{r}");

        let status = format!("{one}/status");
        ensure!(api.get(&status).await?.code == 200);
        let body = json!({"status": {"certificate": certificate}});
        let r = api.send("PATCH", &status, &merge, body.to_string()).await?;
        ensure!(r.code == 200 && r.json()["status"]["certificate"] == certificate.as_str(), "{}", r.text());
        let mut update = r.json();
        update["status"]["conditions"].as_array_mut().context("conditions")?.push(condition("StatusUpdate", "c"));
        let r = api.json("PUT", &status, &update).await?.json();
        ensure!(r["status"]["conditions"][2]["type"] == "StatusUpdate", "{r}");
        // An approval can't be taken back, nor a certificate replaced.
        let r = api.send("PATCH", &approval, &merge, r#"{"status":{"conditions":[]}}"#).await?;
        ensure!(r.code == 422 && r.text().contains("updates may not remove a condition of type"), "{} {}", r.code, r.text());
        let r = api.send("PATCH", &status, &merge, r#"{"status":{"certificate":""}}"#).await?;
        ensure!(r.code == 422 && r.text().contains("certificate"), "{} {}", r.code, r.text());

        let events = api.get(&format!("{PATH}?watch=1&resourceVersion={rv}&timeoutSeconds=1&labelSelector=e2e%3Dapi")).await?.text();
        ensure!(events.lines().count() >= 6 && events.contains(r#""type":"MODIFIED""#), "{events}");
        ensure!(api.send("DELETE", &one, &[], "").await?.code == 200);
        ensure!(api.get(&one).await?.code == 404);
        ensure!(api.json("POST", PATH, &object).await?.code == 201);
        ensure!(api.send("DELETE", &format!("{PATH}?labelSelector=e2e%3Dapi"), &[], "").await?.code == 200);
        ensure!(api.get(&one).await?.code == 404);
        Ok(())
    })
}

/// With certificates that live for seconds, the server goes on: new ones are shown, the kubeconfig works, the node
/// is reached, and nothing restarts.
pub fn renewed_while_the_server_runs(c: &Cluster) -> Result<()> {
    c.serve(&["--certificate-lifetime=16s"])?;
    c.wait_ready()?;
    let pid = c.server_pid();
    let shown = |port: u16| -> Result<String> {
        let script =
            format!("openssl s_client -connect 127.0.0.1:{port} </dev/null 2>/dev/null | openssl x509 -noout -serial");
        c.must(&["sh", "-c", &script])
    };
    let (api, kubelet) = (shown(6443)?, shown(10250)?);
    let config = std::fs::read_to_string(c.kubeconfig())?;
    let copy = c.dir().join("old.kubeconfig");
    std::fs::write(&copy, &config)?;
    let fronted = std::fs::read(c.data_dir().join("pki/front-proxy-client.crt"))?;
    c.wait(Duration::from_secs(40), "new certificates", || {
        Ok(shown(6443)? != api && shown(10250)? != kubelet && std::fs::read_to_string(c.kubeconfig())? != config)
    })?;
    ensure!(std::fs::read(c.data_dir().join("pki/front-proxy-client.crt"))? != fronted);
    // Beyond the first ones' end: who holds an old copy is out, everybody else goes on.
    c.wait(Duration::from_secs(40), "the old kubeconfig to end", || {
        let old = c.kubectl_run(&["--kubeconfig", copy.to_str().context("path")?, "get", "nodes"])?;
        Ok(!old.ok)
    })?;
    c.kubectl(&["get", "nodes"])?;
    // The API server shows its own new certificate to the kubelet, which shows its own.
    c.kubectl(&["get", "--raw", "/api/v1/nodes/node1/proxy/healthz"])?;
    ensure!(c.server_pid() == pid && c.kubectl(&["get", "--raw", "/readyz"])? == "ok");
    Ok(())
}
