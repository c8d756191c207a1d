//! What one request's audit events will say. Filled by the steps that the request passes.

use super::event::{Event, ResponseStatus};
use super::policy::Evaluated;
use super::{Inner as Audit, Level, Stage};
use crate::authn::impersonation::Impersonated;
use meta::status::Status;
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;

/// Shared by all that handle the request; every method is a no-op where nothing is recorded.
#[derive(Clone, Default)]
pub struct Record(Option<Arc<Inner>>);

struct Inner {
    audit: Arc<Audit>,
    rule: Evaluated,
    state: Mutex<State>,
}

struct State {
    event: Event,
    finished: bool,
}

impl Record {
    /// Of a request that isn't audited.
    pub const OFF: Record = Record(None);

    pub(super) fn new(audit: Arc<Audit>, rule: Evaluated, event: Event) -> Record {
        Record(Some(Arc::new(Inner { audit, rule, state: Mutex::new(State { event, finished: false }) })))
    }

    /// Whether it is worth to put together what to record.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    pub fn wants_request(&self) -> bool {
        self.0.as_ref().is_some_and(|r| r.rule.level >= Level::Request)
    }

    pub fn wants_response(&self) -> bool {
        self.0.as_ref().is_some_and(|r| r.rule.level >= Level::RequestResponse)
    }

    /// As [`Record::annotate`], where at least so much of the request is recorded.
    pub fn annotate_at(&self, level: Level, key: impl Into<String>, value: impl Into<String>) {
        if self.0.as_ref().is_some_and(|r| r.rule.level >= level) {
            self.annotate(key, value);
        }
    }

    #[cfg(test)]
    pub fn annotations(&self) -> std::collections::BTreeMap<String, String> {
        self.0.as_ref().map(|r| r.state.lock().event.annotations.clone()).unwrap_or_default()
    }

    /// Adds an annotation. As upstream, the first value of a key stays.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        if let Some(r) = &self.0 {
            r.state.lock().event.annotations.entry(key.into()).or_insert_with(|| value.into());
        }
    }

    pub fn impersonated(&self, other: &Impersonated) {
        if let Some(r) = &self.0 {
            r.state.lock().event.impersonated(other);
        }
    }

    /// The object that was sent, decoded; of a patch the document.
    pub fn request_object(&self, object: &Value) {
        let Some(r) = &self.0 else { return };
        let mut state = r.state.lock();
        if let Some(reference) = &mut state.event.object_ref {
            reference.complete(object);
        }
        if r.rule.level >= Level::Request {
            state.event.request_object = Some(r.shown(object));
        }
    }

    pub fn response_object(&self, object: &Value) {
        if let Some(r) = self.0.as_ref().filter(|r| r.rule.level >= Level::RequestResponse) {
            r.state.lock().event.response_object = Some(r.shown(object));
        }
    }

    pub(super) fn received(&self) -> bool {
        self.stage(Stage::RequestReceived, |_| {})
    }

    pub(super) fn refused(&self, why: String) {
        self.stage(Stage::ResponseStarted, |e| {
            e.response_status = Some(ResponseStatus::message(401, why));
        });
    }

    /// A watch or stream has begun.
    pub fn started(&self, code: u16) {
        self.stage(Stage::ResponseStarted, |e| e.response_status = Some(ResponseStatus::new(code, None)));
    }

    /// All was answered. Only the first end counts.
    pub fn complete(&self, code: u16, failure: Option<&Status>) {
        if self.finish() {
            self.stage(Stage::ResponseComplete, |e| {
                e.response_status = Some(ResponseStatus::new(code, failure));
                if let (Some(s), Level::RequestResponse) = (failure, self.level()) {
                    e.response_object = Some(s.to_value());
                }
            });
        }
    }

    pub fn panicked(&self) {
        if self.finish() {
            let s = Status::internal("APIServer panic'd");
            self.stage(Stage::Panic, |e| e.response_status = Some(ResponseStatus::new(500, Some(&s))));
        }
    }

    /// Completes the record when it is dropped: when a stream ends.
    pub fn completion(&self, code: u16) -> Completion {
        Completion { record: self.clone(), code }
    }

    fn level(&self) -> Level {
        self.0.as_ref().map_or(Level::None, |r| r.rule.level)
    }

    fn finish(&self) -> bool {
        self.0.as_ref().is_some_and(|r| !std::mem::replace(&mut r.state.lock().finished, true))
    }

    fn stage(&self, stage: Stage, change: impl FnOnce(&mut Event)) -> bool {
        let Some(r) = &self.0 else { return true };
        let mut state = r.state.lock();
        change(&mut state.event);
        if !r.rule.records(stage) {
            return true;
        }
        state.event.at(stage);
        r.audit.send(&state.event)
    }
}

impl Inner {
    fn shown(&self, object: &Value) -> Value {
        let mut shown = object.clone();
        if self.rule.omit_managed_fields {
            omit_managed_fields(&mut shown);
            for item in shown["items"].as_array_mut().into_iter().flatten() {
                omit_managed_fields(item);
            }
        }
        if shown.get("items").is_some_and(Value::is_null) {
            // Looking made it.
            if let Some(o) = shown.as_object_mut() {
                o.remove("items");
            }
        }
        shown
    }
}

fn omit_managed_fields(object: &mut Value) {
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
    }
}

/// See [`Record::completion`].
pub struct Completion {
    record: Record,
    code: u16,
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.record.complete(self.code, None);
    }
}
