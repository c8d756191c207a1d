//! An audit event, and its forms on the wire.

use super::{Arrival, Level, Stage};
use crate::authn::User;
use crate::authn::impersonation::Impersonated;
use crate::request_info::RequestInfo;
use base64::Engine;
use bytes::Bytes;
use meta::status::Status;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// audit.k8s.io/v1 Event, its fields in upstream's order.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    kind: &'static str,
    api_version: &'static str,
    level: &'static str,
    #[serde(rename = "auditID")]
    pub audit_id: String,
    pub stage: &'static str,
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    pub verb: String,
    pub user: UserInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    impersonated_user: Option<UserInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication_metadata: Option<AuthenticationMetadata>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    pub source_ips: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<ObjectReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_status: Option<ResponseStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_object: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_object: Option<Value>,
    request_received_timestamp: String,
    stage_timestamp: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// How one user came to be another.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct AuthenticationMetadata {
    impersonation_constraint: String,
}

#[derive(Clone, Default, Serialize)]
pub struct UserInfo {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    #[serde(skip_serializing_if = "String::is_empty")]
    resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subresource: String,
}

/// The bounded fields of a Status.
#[derive(Clone, Default, Serialize)]
pub struct ResponseStatus {
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Value>,
    pub code: u16,
}

impl Event {
    pub fn new(level: Level, arrival: &Arrival<'_>, user: &User) -> Event {
        let header = |name: &str| arrival.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let now = now();
        Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: level.as_str(),
            audit_id: arrival.id.to_string(),
            stage: "",
            request_uri: arrival.uri.path_and_query().map(|p| p.to_string()).unwrap_or_default(),
            verb: arrival.info.verb.clone(),
            user: UserInfo::of(user),
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: source_ips(&header, arrival.connection.peer.map(|p| p.ip())),
            user_agent: header("user-agent").chars().take(1024).collect(),
            object_ref: arrival.info.is_resource.then(|| ObjectReference::of(arrival.info)),
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: now.clone(),
            stage_timestamp: now,
            annotations: BTreeMap::new(),
        }
    }

    pub fn impersonated(&mut self, other: &Impersonated) {
        self.impersonated_user = Some(UserInfo::of(&other.user));
        if !other.constraint.is_empty() {
            let impersonation_constraint = other.constraint.clone();
            self.authentication_metadata = Some(AuthenticationMetadata { impersonation_constraint });
        }
    }

    pub fn at(&mut self, stage: Stage) {
        self.stage = stage.as_str();
        self.stage_timestamp = now();
    }

    pub fn line(&self) -> Bytes {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line.into()
    }

    /// `--audit-log-format=legacy`
    pub fn legacy(&self) -> String {
        let list = |groups: &[String]| {
            let quoted: Vec<String> = groups.iter().map(|g| format!("{g:?}")).collect();
            format!("{:?}", quoted.join(","))
        };
        let none = UserInfo { username: "<none>".into(), ..UserInfo::default() };
        let own = UserInfo { username: "<self>".into(), ..UserInfo::default() };
        let who = if self.user.username.is_empty() { &none } else { &self.user };
        let other = self.impersonated_user.as_ref().unwrap_or(&own);
        let groups = |u: &UserInfo, none: &str| if u.groups.is_empty() { format!("{none:?}") } else { list(&u.groups) };
        let namespace = self.object_ref.as_ref().map(|o| o.namespace.as_str()).filter(|n| !n.is_empty());
        let response = self.response_status.as_ref().map_or("<deferred>".to_string(), |s| s.code.to_string());
        format!(
            "{} AUDIT: id={:?} stage={:?} ip={:?} method={:?} user={:?} groups={} as={:?} asgroups={} user-agent={:?} namespace={:?} uri={:?} response=\"{response}\"\n",
            self.stage_timestamp,
            self.audit_id,
            self.stage,
            self.source_ips.first().map_or("<unknown>", String::as_str),
            self.verb,
            who.username,
            groups(who, "<none>"),
            other.username,
            groups(other, "<lookup>"),
            self.user_agent,
            namespace.unwrap_or("<none>"),
            self.request_uri,
        )
    }
}

impl UserInfo {
    pub fn of(user: &User) -> UserInfo {
        UserInfo {
            username: user.name.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
        }
    }
}

impl ObjectReference {
    fn of(info: &RequestInfo) -> ObjectReference {
        ObjectReference {
            resource: info.resource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            api_group: info.group.clone(),
            api_version: info.version.clone(),
            subresource: info.subresource.clone(),
            ..ObjectReference::default()
        }
    }

    /// What the path doesn't say, the object does.
    pub fn complete(&mut self, object: &Value) {
        let meta = &object["metadata"];
        for (field, key) in [
            (&mut self.namespace, "namespace"),
            (&mut self.name, "name"),
            (&mut self.uid, "uid"),
            (&mut self.resource_version, "resourceVersion"),
        ] {
            if field.is_empty() {
                *field = meta[key].as_str().unwrap_or_default().to_string();
            }
        }
    }
}

impl ResponseStatus {
    pub fn message(code: u16, message: String) -> ResponseStatus {
        ResponseStatus { message, code, ..ResponseStatus::default() }
    }

    pub fn new(code: u16, failure: Option<&Status>) -> ResponseStatus {
        let Some(s) = failure else { return ResponseStatus { code, ..ResponseStatus::default() } };
        let details = s.to_value().get("details").cloned();
        ResponseStatus {
            status: "Failure",
            message: s.message.clone(),
            reason: s.reason,
            details,
            code,
            ..ResponseStatus::default()
        }
    }
}

/// `metav1.MicroTime`
fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

/// Proxies' words first, the peer last, as upstream has it.
fn source_ips<'a>(header: &impl Fn(&str) -> &'a str, peer: Option<IpAddr>) -> Vec<String> {
    let mut ips: Vec<IpAddr> = header("x-forwarded-for").split(',').filter_map(|p| p.trim().parse().ok()).collect();
    if ips.is_empty() {
        ips.extend(header("x-real-ip").trim().parse::<IpAddr>().ok());
    }
    // The server's own parts come over no network.
    let peer = peer.unwrap_or(IpAddr::from([127, 0, 0, 1]));
    if ips.last() != Some(&peer) {
        ips.push(peer);
    }
    ips.iter().map(IpAddr::to_string).collect()
}

/// Which credentials were tried in vain.
pub fn credentials(arrival: &Arrival<'_>) -> String {
    let mut tried = Vec::new();
    let header = arrival.headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default().trim();
    match header.split_once(' ') {
        Some((kind, rest)) if kind.eq_ignore_ascii_case("basic") => {
            let pair = base64::engine::general_purpose::STANDARD.decode(rest.trim()).unwrap_or_default();
            if pair.contains(&b':') {
                tried.push("basic");
            }
        }
        Some((kind, _)) if kind.eq_ignore_ascii_case("bearer") => tried.push("bearer"),
        _ => {}
    }
    if arrival.connection.client_certificate.is_some() {
        tried.push("x509");
    }
    match tried.is_empty() {
        true => "Authentication failed, no credentials provided".into(),
        false => format!("Authentication failed, attempted: {}", tried.join(", ")),
    }
}
