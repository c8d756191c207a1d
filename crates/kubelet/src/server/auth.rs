//! Who may use the node API: client certificates name user and groups, tokens go to TokenReview, permissions to
//! SubjectAccessReview.

use crate::{Identity, NodeAuth, NodeRequest};
use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

pub fn verb(method: &http::Method) -> &'static str {
    match *method {
        http::Method::POST => "create",
        http::Method::PUT => "update",
        http::Method::PATCH => "patch",
        http::Method::DELETE => "delete",
        _ => "get",
    }
}

/// Of the node, that a path needs; the fine-grained one first, then the one that allows everything.
pub fn subresources(path: &str) -> Vec<String> {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let names: &[&str] = match first {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "spec" => &["spec"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    };
    names.iter().map(|n| (*n).to_owned()).collect()
}

/// Common name is the user, organizations are the groups. The chain was verified by TLS.
pub fn identity_of_certificate(der: &[u8]) -> Option<Identity> {
    use x509_parser::prelude::FromDer;
    let (_, cert) = x509_parser::certificate::X509Certificate::from_der(der).ok()?;
    let user = cert.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut groups: Vec<String> =
        cert.subject().iter_organization().filter_map(|o| o.as_str().ok().map(str::to_owned)).collect();
    groups.push("system:authenticated".into());
    Some(Identity { user, uid: String::new(), groups })
}

/// Asks the API server.
pub struct ApiAuth {
    client: Client,
}

impl ApiAuth {
    pub fn new(client: Client) -> ApiAuth {
        ApiAuth { client }
    }
}

#[async_trait]
impl NodeAuth for ApiAuth {
    async fn authenticate_token(&self, token: &str) -> Option<Identity> {
        let review =
            TokenReview { spec: TokenReviewSpec { token: token.to_owned(), audiences: None }, ..Default::default() };
        let answer = Api::<TokenReview>::all(self.client.clone()).create(&PostParams::default(), &review).await;
        let status = match answer {
            Ok(review) => review.status?,
            Err(error) => {
                tracing::warn!(%error, "a token couldn't be reviewed");
                return None;
            }
        };
        let user = status.user.filter(|_| status.authenticated == Some(true))?;
        Some(Identity {
            user: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
        })
    }

    async fn authorize(&self, identity: &Identity, request: &NodeRequest) -> bool {
        for subresource in &request.subresources {
            let review = SubjectAccessReview {
                spec: SubjectAccessReviewSpec {
                    user: Some(identity.user.clone()),
                    uid: Some(identity.uid.clone()).filter(|u| !u.is_empty()),
                    groups: Some(identity.groups.clone()),
                    resource_attributes: Some(ResourceAttributes {
                        verb: Some(request.verb.clone()),
                        version: Some("v1".into()),
                        resource: Some("nodes".into()),
                        subresource: Some(subresource.clone()),
                        name: Some(request.node.clone()),
                        ..Default::default()
                    }),
                    ..Default::default()
                },
                ..Default::default()
            };
            match Api::<SubjectAccessReview>::all(self.client.clone()).create(&PostParams::default(), &review).await {
                Ok(answer) if answer.status.as_ref().is_some_and(|s| s.allowed) => return true,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "a request of the node API couldn't be authorized")
                }
            }
        }
        false
    }
}
