//! `wardle.example.com/v1alpha1`, served behind the aggregation layer: flunders, kept in memory.
//!
//! Who asks is in headers, which are believed when the client's certificate is the front proxy's; what they may is
//! asked of the cluster (`SubjectAccessReview`). Both as the libraries for such servers do it.

use super::{Body, json, typed};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock};

pub const GROUP: &str = "wardle.example.com";
const ROOT: &str = "/apis/wardle.example.com/v1alpha1";
/// A version that is published as older servers do: discovery by itself, OpenAPI v2 alone.
const OLD_ROOT: &str = "/apis/wardle.example.com/v1beta1";

#[derive(Default)]
pub struct State {
    /// By namespace and name.
    flunders: Mutex<BTreeMap<(String, String), Value>>,
    revision: Mutex<u64>,
    /// PEM of the front proxy's authority.
    front_proxy_ca: OnceLock<String>,
}

/// Reads the cluster's trust from inside a pod, with the pod's service account.
pub async fn trust_cluster(state: &State) -> Result<()> {
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let config = ask_cluster(Method::GET, path, &Value::Null).await?;
    let ca = config["data"]["requestheader-client-ca-file"].as_str().context("no front proxy CA")?;
    let _ = state.front_proxy_ca.set(ca.to_string());
    Ok(())
}

/// One request to the cluster's API server, as the pod's service account.
async fn ask_cluster(method: Method, path: &str, body: &Value) -> Result<Value> {
    const DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let token = std::fs::read_to_string(format!("{DIR}/token"))?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(format!("{DIR}/ca.crt"))?)?;
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (host, port) = (std::env::var("KUBERNETES_SERVICE_HOST")?, std::env::var("KUBERNETES_SERVICE_PORT")?);
    let tcp = tokio::net::TcpStream::connect((host.as_str(), port.parse()?)).await?;
    let name = ServerName::try_from(host.clone())?;
    let io = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    let (mut sender, conn) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    tokio::spawn(conn);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, host)
        .header(header::AUTHORIZATION, format!("Bearer {}", token.trim()))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    let code = response.status();
    let text = response.into_body().collect().await?.to_bytes();
    ensure!(code.is_success(), "{path}: {code}: {}", String::from_utf8_lossy(&text));
    Ok(serde_json::from_slice(&text)?)
}

/// Lets everybody in; [`answer`] looks at the certificate.
#[derive(Debug)]
pub struct AnyCertificate(pub Arc<rustls::crypto::CryptoProvider>);

impl rustls::server::danger::ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::server::danger::ClientCertVerified, rustls::Error> {
        Ok(rustls::server::danger::ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Signed by the front proxy's authority?
fn is_front_proxy(certificate: &[u8], ca_pem: &str) -> bool {
    let Ok(ca) = CertificateDer::from_pem_slice(ca_pem.as_bytes()) else { return false };
    let mut roots = rustls::RootCertStore::empty();
    if roots.add(ca).is_err() {
        return false;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.is_ok_and(|v| {
        v.verify_client_cert(&CertificateDer::from(certificate), &[], rustls::pki_types::UnixTime::now()).is_ok()
    })
}

fn status(code: u16, reason: &str, message: &str) -> Response<Body> {
    let status = if code < 400 { "Success" } else { "Failure" };
    json(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": status, "code": code,
            "reason": reason, "message": message}),
    )
}

pub async fn answer(mut request: Request<Incoming>, certificate: Option<Vec<u8>>, state: &State) -> Response<Body> {
    let trusted = match (&certificate, state.front_proxy_ca.get()) {
        (Some(c), Some(ca)) => is_front_proxy(c, ca),
        _ => false,
    };
    let text = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_string();
    let user = text("x-remote-user");
    if !trusted || user.is_empty() {
        return status(401, "Unauthorized", "Unauthorized");
    }
    let groups: Vec<String> =
        request.headers().get_all("x-remote-group").iter().filter_map(|v| v.to_str().ok().map(String::from)).collect();
    let uid = text("x-remote-uid");
    let extra: Vec<String> = request
        .headers()
        .iter()
        .filter_map(|(k, v)| Some(format!("{}={}", k.as_str().strip_prefix("x-remote-extra-")?, v.to_str().ok()?)))
        .collect();
    let extra = extra.join(" ");
    let path = request.uri().path().trim_end_matches('/').to_string();
    let accept = text("accept");
    if let Some(documents) = documents(&path, &accept) {
        return documents;
    }
    let Some(rest) = path.strip_prefix(&format!("{ROOT}/")) else { return status(404, "NotFound", "no such path") };
    let parts: Vec<String> = rest.split('/').map(String::from).collect();
    let (namespace, name, sub) = match parts.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["flunders"] => ("", "", ""),
        ["namespaces", ns, "flunders"] => (*ns, "", ""),
        ["namespaces", ns, "flunders", name] => (*ns, *name, ""),
        ["namespaces", ns, "flunders", name, sub] => (*ns, *name, *sub),
        _ => return status(404, "NotFound", "no such resource"),
    };
    let (namespace, name, sub) = (namespace.to_string(), name.to_string(), sub.to_string());
    let watching = request.uri().query().unwrap_or("").contains("watch=");
    let verb = match *request.method() {
        Method::POST => "create",
        Method::DELETE => "delete",
        Method::PUT => "update",
        Method::PATCH => "patch",
        _ if watching => "watch",
        _ if name.is_empty() => "list",
        _ => "get",
    };
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": user, "groups": groups,
        "resourceAttributes": {"group": GROUP, "version": "v1alpha1", "resource": "flunders", "namespace": namespace,
            "name": name, "verb": verb, "subresource": sub}}});
    match ask_cluster(Method::POST, "/apis/authorization.k8s.io/v1/subjectaccessreviews", &review).await {
        Ok(v) if v["status"]["allowed"] == true => {}
        Ok(_) => {
            return status(403, "Forbidden", &format!("flunders.{GROUP} is forbidden: User {user:?} cannot {verb} it"));
        }
        Err(e) => return status(500, "InternalError", &format!("{e:#}")),
    }
    if sub == "shout" {
        return super::pages::upgrade(&mut request);
    }
    let matching = |all: &BTreeMap<(String, String), Value>| -> Vec<Value> {
        all.iter().filter(|((ns, _), _)| namespace.is_empty() || *ns == namespace).map(|(_, v)| v.clone()).collect()
    };
    let Ok(revision) = state.revision.lock().map(|mut r| {
        if matches!(verb, "create" | "delete") {
            *r += 1;
        }
        *r
    }) else {
        return status(500, "InternalError", "poisoned");
    };
    match verb {
        "create" => {
            let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
            let Ok(mut object) = serde_json::from_slice::<Value>(&body) else {
                return status(400, "BadRequest", "no JSON");
            };
            let name = object["metadata"]["name"].as_str().unwrap_or("").to_string();
            object["metadata"]["namespace"] = namespace.as_str().into();
            object["metadata"]["resourceVersion"] = revision.to_string().into();
            object["metadata"]["uid"] = format!("00000000-0000-0000-0000-{revision:012}").into();
            object["metadata"]["annotations"] =
                json!({"created-by": user, "groups": groups.join(","), "uid": uid, "extra": extra});
            let Ok(mut all) = state.flunders.lock() else { return status(500, "InternalError", "poisoned") };
            all.insert((namespace, name), object.clone());
            json(201, &object)
        }
        "list" => {
            let items = state.flunders.lock().map(|a| matching(&a)).unwrap_or_default();
            json(
                200,
                &json!({"kind": "FlunderList", "apiVersion": format!("{GROUP}/v1alpha1"),
                    "metadata": {"resourceVersion": revision.to_string()}, "items": items}),
            )
        }
        "watch" => {
            let items = state.flunders.lock().map(|a| matching(&a)).unwrap_or_default();
            let added = futures::stream::iter(items).map(|o| {
                let line = format!("{}\n", json!({"type": "ADDED", "object": o}));
                Ok::<_, Infallible>(Frame::data(Bytes::from(line)))
            });
            let mut r = Response::new(BodyExt::boxed_unsync(StreamBody::new(added.chain(futures::stream::pending()))));
            r.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
            r
        }
        "get" => match state.flunders.lock().ok().and_then(|a| a.get(&(namespace, name.clone())).cloned()) {
            Some(v) => json(200, &v),
            None => status(404, "NotFound", &format!("flunders.{GROUP} {name:?} not found")),
        },
        "delete" => match state.flunders.lock().ok().and_then(|mut a| a.remove(&(namespace, name.clone()))) {
            Some(_) => status(200, "", ""),
            None => status(404, "NotFound", &format!("flunders.{GROUP} {name:?} not found")),
        },
        _ => status(405, "MethodNotAllowed", "the server does not allow this method on the requested resource"),
    }
}

/// Discovery and OpenAPI.
fn documents(path: &str, accept: &str) -> Option<Response<Body>> {
    let verbs = json!(["create", "delete", "get", "list", "watch"]);
    let schema = json!({
        "type": "object", "description": "A flunder is what this test server keeps.",
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
            "spec": {"type": "object", "description": "What it is.", "properties": {"reference": {"type": "string", "description": "Whom it refers to."}}},
        },
        "x-kubernetes-group-version-kind": [{"group": GROUP, "version": "v1alpha1", "kind": "Flunder"}],
    });
    let operation = json!({
        "operationId": "createWardleV1alpha1NamespacedFlunder", "x-kubernetes-action": "post",
        "x-kubernetes-group-version-kind": {"group": GROUP, "version": "v1alpha1", "kind": "Flunder"},
        "responses": {"201": {"description": "Created"}},
    });
    let fleet = json!({
        "type": "object", "description": "A fleet is many flunders.",
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"},
            "metadata": {"description": "Of the fleet.", "$ref": "#/definitions/com.example.wardle.v1beta1.Meta"},
            "ships": {"type": "integer", "description": "How many it has."},
        },
        "x-kubernetes-group-version-kind": [{"group": GROUP, "version": "v1beta1", "kind": "Fleet"}],
    });
    let fleets = json!({"get": {
        "operationId": "listWardleV1beta1NamespacedFleet", "produces": ["application/json"],
        "x-kubernetes-action": "list", "x-kubernetes-group-version-kind": {"group": GROUP, "version": "v1beta1", "kind": "Fleet"},
        "parameters": [{"$ref": "#/parameters/limit-1NfNmdNH"}],
        "responses": {"200": {"$ref": "#/responses/fleet"}},
    }});
    let flunders = format!("{ROOT}/namespaces/{{namespace}}/flunders");
    let definition = "com.example.wardle.v1alpha1.Flunder";
    Some(match path {
        "/apis" if accept.contains("as=APIGroupDiscoveryList") => typed(
            200,
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            json!({
                "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
                "items": [{"metadata": {"name": GROUP}, "versions": [{"version": "v1alpha1", "freshness": "Current", "resources": [{
                    "resource": "flunders", "singularResource": "flunder", "scope": "Namespaced", "verbs": verbs,
                    "shortNames": ["fl"], "responseKind": {"group": GROUP, "version": "v1alpha1", "kind": "Flunder"},
                }]}]}],
            })
            .to_string(),
        ),
        ROOT => json(
            200,
            &json!({
                "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/v1alpha1"),
                "resources": [{"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder",
                    "shortNames": ["fl"], "verbs": verbs}],
            }),
        ),
        OLD_ROOT => json(
            200,
            &json!({
                "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/v1beta1"),
                "resources": [{"name": "fleets", "singularName": "fleet", "namespaced": true, "kind": "Fleet",
                    "verbs": ["list"]}],
            }),
        ),
        "/openapi/v3" => json(
            200,
            &json!({"paths": {format!("apis/{GROUP}/v1alpha1"): {
                "serverRelativeURL": format!("/openapi/v3/apis/{GROUP}/v1alpha1?hash=1")}}}),
        ),
        "/openapi/v3/apis/wardle.example.com/v1alpha1" => json(
            200,
            &json!({
                "openapi": "3.0.0", "info": {"title": "wardle", "version": "1"},
                "paths": {flunders: {"post": operation}},
                "components": {"schemas": {definition: schema}},
            }),
        ),
        "/openapi/v2" => json(
            200,
            &json!({
                "swagger": "2.0", "info": {"title": "wardle", "version": "1"},
                "paths": {format!("{OLD_ROOT}/namespaces/{{namespace}}/fleets"): fleets, flunders: {"post": {
                    "operationId": operation["operationId"], "responses": {"201": {
                        "description": "Created", "schema": {"$ref": format!("#/definitions/{definition}")}}}}}},
                "parameters": {"limit-1NfNmdNH": {"name": "limit", "in": "query", "type": "integer"}},
                "responses": {"fleet": {"description": "OK",
                    "schema": {"$ref": "#/definitions/com.example.wardle.v1beta1.Fleet"}}},
                "definitions": {definition: schema, "com.example.wardle.v1beta1.Fleet": fleet,
                    "com.example.wardle.v1beta1.Meta": {"type": "object"}},
            }),
        ),
        _ => return None,
    })
}
