//! Audit: a record of who asked what, and what came of it (audit.k8s.io/v1).
//!
//! In: requests, and a [`Policy`] that says how much of which is recorded. Out: events, a JSON object each, to a log file
//! ([`log`]) or a webhook ([`webhook`]), at once or in batches ([`batch`]). A request carries its [`Record`] through the
//! pipeline; steps on the way annotate it. A record of a request that the policy leaves out, or of any request while audit
//! is off, is empty and costs a test of a pointer. Source: "Auditing".

pub mod batch;
pub mod event;
pub mod log;
mod policy;
mod record;
mod remarks;
pub mod webhook;

pub use policy::{Level, Policy, Stage};
pub use record::{Completion, Record};
pub use remarks::{Remarks, remark};

use crate::authn::{Connection, User};
use crate::metrics::figures;
use crate::request_info::RequestInfo;
use bytes::Bytes;
use event::Event;
use http::HeaderMap;
use meta::status::Status;
use std::sync::Arc;

/// Where events go. A line of JSON is made once for all.
pub trait Sink: Send + Sync + 'static {
    /// False: the event is lost, and `strict` callers must not go on.
    fn take(&self, event: &Event, line: &Bytes) -> bool;
    /// `blocking-strict`: a request whose arrival can't be recorded is refused.
    fn is_strict(&self) -> bool {
        false
    }
}

/// The policy and where its events go; nothing while audit is off.
#[derive(Clone, Default)]
pub struct Audit(Option<Arc<Inner>>);

struct Inner {
    policy: Policy,
    sinks: Vec<Arc<dyn Sink>>,
}

/// What a request's events say of how it came.
pub struct Arrival<'a> {
    pub id: &'a str,
    pub uri: &'a http::Uri,
    pub headers: &'a HeaderMap,
    pub info: &'a RequestInfo,
    pub connection: &'a Connection,
}

impl Audit {
    pub fn new(policy: Policy, sinks: Vec<Arc<dyn Sink>>) -> Audit {
        Audit((!sinks.is_empty()).then(|| Arc::new(Inner { policy, sinks })))
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The record of a request of `user`, with its first event sent. `remarks`: of its authentication.
    pub fn begin(&self, arrival: &Arrival<'_>, user: &User, remarks: Remarks) -> Result<Record, Status> {
        let Some(inner) = &self.0 else { return Ok(Record::OFF) };
        let rule = inner.policy.evaluate(user, arrival.info);
        figures::AUDIT_LEVELS.add(format!("level=\"{}\"", rule.level.as_str()));
        if rule.level == Level::None {
            return Ok(Record::OFF);
        }
        let mut event = Event::new(rule.level, arrival, user);
        event.annotations.extend(remarks.into_iter().map(|(key, value)| (key.to_string(), value)));
        let record = Record::new(inner.clone(), rule, event);
        match record.received() {
            true => Ok(record),
            false => {
                figures::AUDIT_REJECTIONS.add(String::new());
                Err(Status::internal("failed to process the audit event of the request"))
            }
        }
    }

    /// Nobody vouched for this request's credentials.
    pub fn unauthenticated(&self, arrival: &Arrival<'_>) {
        let Some(inner) = &self.0 else { return };
        let nobody = User::default();
        let rule = inner.policy.evaluate(&nobody, arrival.info);
        if rule.level == Level::None {
            return;
        }
        let record = Record::new(inner.clone(), rule, Event::new(rule.level, arrival, &nobody));
        record.refused(event::credentials(arrival));
    }
}

impl Inner {
    fn send(&self, event: &Event) -> bool {
        figures::AUDIT_EVENTS.add(String::new());
        let line = event.line();
        let mut strict = true;
        for sink in &self.sinks {
            strict &= sink.take(event, &line) || !sink.is_strict();
        }
        strict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::impersonation::Impersonated;
    use http::Method;
    use parking_lot::Mutex;
    use serde_json::{Value, json};

    #[derive(Default)]
    struct Kept(Mutex<Vec<Value>>, bool);
    impl Sink for Kept {
        fn take(&self, _: &Event, line: &Bytes) -> bool {
            self.0.lock().push(serde_json::from_slice(line).unwrap());
            !self.1
        }
        fn is_strict(&self) -> bool {
            self.1
        }
    }

    fn audit(rules: Value, kept: &Arc<Kept>) -> Audit {
        let policy = json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules});
        Audit::new(Policy::parse(&policy.to_string()).unwrap(), vec![kept.clone()])
    }

    fn request(audit: &Audit, method: Method, path: &str, user: &User) -> Result<Record, Status> {
        let uri: http::Uri = path.parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", "test/1".parse().unwrap());
        headers.insert("x-forwarded-for", "192.0.2.9, junk".parse().unwrap());
        let connection = Connection { peer: Some("192.0.2.1:7".parse().unwrap()), ..Connection::default() };
        let info = RequestInfo::parse(&method, uri.path(), uri.query().unwrap_or(""));
        let arrival = Arrival { id: "id-1", uri: &uri, headers: &headers, info: &info, connection: &connection };
        audit.begin(&arrival, user, Remarks::new())
    }

    #[tokio::test]
    async fn what_authentication_remarks_is_in_every_event() {
        let kept = Arc::new(Kept::default());
        let audit = audit(json!([{"level": "Metadata"}]), &kept);
        remark("nobody/listens", || panic!("it isn't even put together"));
        let (done, remarks) = audit
            .hearing(async {
                remark("some/key", || Some("value".into()));
                remark("some/other", || None);
                7
            })
            .await;
        assert_eq!((done, &remarks), (7, &vec![("some/key", "value".to_string())]));
        let (headers, connection) = (HeaderMap::new(), Connection::default());
        let (uri, info) = (http::Uri::from_static("/version"), RequestInfo::parse(&Method::GET, "/version", ""));
        let arrival = Arrival { id: "", uri: &uri, headers: &headers, info: &info, connection: &connection };
        audit.begin(&arrival, &User::default(), remarks).unwrap().complete(200, None);
        let events = kept.0.lock();
        assert_eq!(events.len(), 2);
        assert!(events.iter().all(|e| e["annotations"] == json!({"some/key": "value"})), "{events:?}");
        let (_, unheard) = Audit::default().hearing(async { remark("some/key", || Some("value".into())) }).await;
        assert!(unheard.is_empty(), "audit is off");
    }

    #[test]
    fn events_tell_who_what_and_how_it_ended() {
        let kept = Arc::new(Kept::default());
        let audit = audit(json!([{"level": "RequestResponse"}]), &kept);
        let jane = User::new("jane", &["system:authenticated"]);
        let r = request(&audit, Method::POST, "/api/v1/namespaces/d/pods?dryRun=All", &jane).unwrap();
        r.annotate("authorization.k8s.io/decision", "allow");
        r.annotate("authorization.k8s.io/decision", "second is ignored");
        let constraint = "impersonate:user-info".to_string();
        r.impersonated(&Impersonated { user: User::new("joe", &[]), constraint });
        r.request_object(&json!({"kind": "Pod", "metadata": {"name": "p", "uid": "u", "managedFields": [1]}}));
        r.response_object(&json!({"kind": "Pod", "metadata": {"name": "p"}}));
        r.complete(201, None);
        let events = kept.0.lock();
        assert_eq!(events.len(), 2);
        assert_eq!((&events[0]["stage"], &events[1]["stage"]), (&json!("RequestReceived"), &json!("ResponseComplete")));
        let e = &events[1];
        assert_eq!(e["kind"], "Event");
        assert_eq!(e["user"], json!({"username": "jane", "groups": ["system:authenticated"]}));
        assert_eq!(e["impersonatedUser"]["username"], "joe");
        assert_eq!(e["authenticationMetadata"], json!({"impersonationConstraint": "impersonate:user-info"}));
        assert_eq!(e["sourceIPs"], json!(["192.0.2.9", "192.0.2.1"]));
        assert_eq!(e["requestURI"], "/api/v1/namespaces/d/pods?dryRun=All");
        assert_eq!(
            e["objectRef"],
            json!({"resource": "pods", "namespace": "d", "name": "p", "uid": "u", "apiVersion": "v1"})
        );
        assert_eq!(e["responseStatus"], json!({"metadata": {}, "code": 201}));
        assert_eq!(e["annotations"], json!({"authorization.k8s.io/decision": "allow"}));
        assert_eq!(e["requestObject"]["metadata"]["managedFields"], json!([1]));
        assert_eq!(e["requestReceivedTimestamp"].as_str().unwrap().len(), "2020-01-01T00:00:00.000000Z".len());
        assert!(events[0]["responseStatus"].is_null() && events[0]["requestObject"].is_null());
    }

    #[test]
    fn levels_stages_and_managed_fields_are_as_the_rule_says() {
        let kept = Arc::new(Kept::default());
        let rules = json!([
            {"level": "None", "users": ["quiet"]},
            {"level": "Request", "omitStages": ["RequestReceived"], "omitManagedFields": true, "verbs": ["create"]},
            {"level": "Metadata"},
        ]);
        let audit = audit(rules, &kept);
        assert!(!request(&audit, Method::GET, "/api/v1/pods", &User::new("quiet", &[])).unwrap().is_on());
        let jane = User::new("jane", &[]);
        let r = request(&audit, Method::POST, "/api/v1/namespaces/d/pods", &jane).unwrap();
        assert!(r.wants_request() && !r.wants_response());
        r.request_object(&json!({"metadata": {"managedFields": [1]}}));
        r.response_object(&json!({"x": 1}));
        r.complete(403, Some(&Status::forbidden("", "pods", "", "no")));
        let r = request(&audit, Method::GET, "/api/v1/pods", &jane).unwrap();
        assert!(!r.wants_request());
        r.panicked();
        r.complete(500, None);
        let events = kept.0.lock();
        let stages: Vec<&str> = events.iter().map(|e| e["stage"].as_str().unwrap()).collect();
        assert_eq!(stages, ["ResponseComplete", "RequestReceived", "Panic"]);
        assert_eq!(events[0]["requestObject"], json!({"metadata": {}}));
        assert!(events[0]["responseObject"].is_null());
        let status = &events[0]["responseStatus"];
        assert_eq!(
            (&status["status"], &status["reason"], &status["code"]),
            (&json!("Failure"), &json!("Forbidden"), &json!(403))
        );
    }

    #[test]
    fn watches_have_a_start_and_an_end_and_failed_logins_one_event() {
        let kept = Arc::new(Kept::default());
        let audit = audit(json!([{"level": "Metadata", "omitStages": ["RequestReceived"]}]), &kept);
        let r = request(&audit, Method::GET, "/api/v1/pods?watch=1", &User::new("jane", &[])).unwrap();
        r.started(200);
        let completion = r.completion(200);
        assert_eq!(kept.0.lock().len(), 1);
        drop(completion);
        let uri: http::Uri = "/api/v1/pods".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer x".parse().unwrap());
        let info = RequestInfo::parse(&Method::GET, "/api/v1/pods", "");
        let connection = Connection::default();
        audit.unauthenticated(&Arrival { id: "", uri: &uri, headers: &headers, info: &info, connection: &connection });
        let events = kept.0.lock();
        let stages: Vec<&str> = events.iter().map(|e| e["stage"].as_str().unwrap()).collect();
        assert_eq!(stages, ["ResponseStarted", "ResponseComplete", "ResponseStarted"]);
        assert_eq!(events[2]["responseStatus"]["message"], "Authentication failed, attempted: bearer");
        assert_eq!(events[2]["responseStatus"]["code"], 401);
    }

    #[test]
    fn strict_sinks_refuse_what_they_cannot_record() {
        let kept = Arc::new(Kept(Mutex::default(), true));
        let audit = audit(json!([{"level": "Metadata"}]), &kept);
        let e = request(&audit, Method::GET, "/api/v1/pods", &User::default()).err().unwrap();
        assert_eq!(e.code, 500);
    }
}
