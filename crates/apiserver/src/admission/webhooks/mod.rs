//! `MutatingAdmissionWebhook` and `ValidatingAdmissionWebhook`: servers of users that change or refuse writes.
//!
//! In: the stored configurations, followed in memory so that a new one counts for the very next write and none costs
//! nothing, and a write. Out: the write changed, refused or let through, as the webhooks that match it answer.
//! Mutating webhooks are called one after another, by configuration name and then in the order of the configuration;
//! validating ones all at once. Source: "Dynamic Admission Control"; API reference, `admission.k8s.io/v1`.

mod conditions;
pub mod config;
mod hook;
mod metrics;
mod review;

pub use metrics::Metrics;
pub(super) use review::{conform, user_info};

use super::{Attributes, Plugin, matching};
use crate::audit::Level;
use crate::authz::Authorizer;
use crate::authz::followed::Followed;
use crate::outbound::{self, AuthInfos};
use crate::reader::Reader;
use crate::traces;
use api::catalogue::Resource;
use async_trait::async_trait;
use hook::{Configurations, Hook};
use meta::patch::json as json_patch;
use meta::status::{Result, Status};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MUTATING: &str = "MutatingAdmissionWebhook";

/// What both plugins share.
pub struct Webhooks {
    configurations: Followed<Configurations>,
    reader: Reader,
    authorizer: Arc<dyn Authorizer>,
    outbound: outbound::Client,
    metrics: Arc<Metrics>,
    credentials: [AuthInfos; 2],
}

/// Why a webhook didn't let a write pass.
#[derive(Debug)]
enum Failure {
    /// It couldn't be asked, or answered nonsense: `failurePolicy` decides. `status`: for whoever counts.
    Calling { reason: String, status: u16 },
    /// It said no.
    Rejected(Status),
    /// Neither: the write can't be shown to it, or its patch can't be done.
    Other(Status),
}

impl Failure {
    /// `failurePolicy: Ignore`
    fn is_ignored_by(&self, hook: &Hook) -> bool {
        hook.fails_open && matches!(self, Failure::Calling { .. })
    }
}

impl Webhooks {
    /// `credentials`: of mutating and of validating webhooks.
    pub fn new(
        reader: &Reader,
        authorizer: &Arc<dyn Authorizer>,
        outbound: &outbound::Client,
        metrics: &Arc<Metrics>,
        credentials: [AuthInfos; 2],
    ) -> Webhooks {
        Webhooks {
            configurations: Followed::new(reader.clone()),
            reader: reader.clone(),
            authorizer: authorizer.clone(),
            outbound: outbound.clone(),
            metrics: metrics.clone(),
            credentials,
        }
    }

    /// As which resource `hook` is asked about the write, if it is.
    async fn invocation(&self, hook: &Hook, a: &Attributes<'_>) -> Result<Option<Arc<Resource>>> {
        let Some(row) = hook.criteria.matches(a, &self.reader)? else { return Ok(None) };
        if hook.conditions.is_empty() {
            return Ok(Some(row));
        }
        let (object, old) = versioned(a, &row).await?;
        match hook.conditions.all_hold(a, &row, &object, old.as_ref(), &self.authorizer).await {
            Ok(true) => Ok(Some(row)),
            Ok(false) => {
                self.metrics.excluded(hook, a.operation);
                Ok(None)
            }
            Err(why) => {
                self.metrics.condition_failed(hook, a.operation);
                if hook.fails_open {
                    tracing::warn!(webhook = hook.name, error = why, "match conditions failed; the webhook is skipped");
                    return Ok(None);
                }
                Err(Status::forbidden(&a.resource.group, &a.resource.plural, a.name, why))
            }
        }
    }

    /// Asks one webhook. What it warns of and annotates is passed on whatever it decides.
    async fn ask(
        &self,
        hook: &Hook,
        a: &Attributes<'_>,
        row: &Resource,
        object: &Value,
        old: Option<&Value>,
    ) -> std::result::Result<Option<review::Patch>, Failure> {
        let calling = |reason: String, status: u16| Failure::Calling { reason, status };
        if a.dry_run && !hook.dry_runs {
            return Err(Failure::Other(Status::bad_request(format!(
                "admission webhook {:?} does not support dry run",
                hook.name
            ))));
        }
        let version = hook.version.ok_or_else(|| {
            let why = "webhook does not accept known AdmissionReview versions (v1, v1beta1)";
            calling(format!("could not create admission objects: {why}"), 400)
        })?;
        let client = |e: &dyn std::fmt::Display| calling(format!("could not get REST client: {e}"), 500);
        let target = hook.target.as_ref().map_err(|e| client(e))?;
        let target = self.credentials[usize::from(!hook.mutating)].lent_to(target).map_err(|e| client(&e))?;
        let uid = uuid::Uuid::new_v4().to_string();
        let body = review::request(a, row, version, &uid, object, old);
        let span = trace(hook, a, &uid);
        let query = format!("timeout={}s", seconds(hook.timeout, a.ends));
        let answer = traces::within!(span.current(), self.outbound.post(&target, &query, &body, hook.timeout));
        drop(span);
        // What isn't the webhook's own refusal counts as one that isn't available.
        let code = answer.as_ref().ok().filter(|a| !a.is_success()).map_or(503, |a| a.code);
        let answer = answer
            .map_err(|e| e.to_string())
            .and_then(|a| a.json())
            .and_then(|a| review::unreadable(&a, version).map_or(Ok(a), Err))
            .map_err(|e| calling(format!("failed to call webhook: {e}"), code))?;
        let read = review::Response::read(&answer, &uid, version, hook.mutating)
            .map_err(|e| calling(format!("received invalid webhook response: {e}"), 503))?;
        for (key, value) in &read.audit_annotations {
            a.annotate(format!("{}/{key}", hook.name), value);
        }
        a.told.lock().extend(read.warnings);
        match read.rejection {
            Some(result) => Err(Failure::Rejected(review::denied(&hook.name, &result))),
            None => Ok(read.patch),
        }
    }

    fn count(&self, hook: &Hook, a: &Attributes<'_>, failure: Option<&Failure>, started: Instant) {
        let code = match failure {
            None => 200,
            Some(Failure::Calling { status, .. }) => *status,
            Some(Failure::Rejected(s)) => s.code,
            Some(Failure::Other(_)) => 0,
        };
        let rejected = failure.is_some_and(|f| !f.is_ignored_by(hook));
        self.metrics.answered(hook, a.operation, code);
        self.metrics.called(hook, a.operation, rejected, started.elapsed());
    }

    /// What a failure means for the write. `None`: it goes on.
    fn judge(&self, hook: &Hook, a: &Attributes<'_>, failure: Failure) -> Option<Status> {
        match failure {
            Failure::Calling { reason, status } => {
                let text = format!("failed calling webhook {:?}: {reason}", hook.name);
                if hook.fails_open {
                    tracing::warn!(webhook = hook.name, error = text, "webhook can't be called; failing open");
                    self.metrics.failed_open(hook);
                    return None;
                }
                self.metrics.rejected(hook, a.operation, "calling_webhook_error", status);
                Some(Status::internal(text))
            }
            Failure::Rejected(s) => {
                self.metrics.rejected(hook, a.operation, "no_error", s.code);
                Some(s)
            }
            Failure::Other(s) => {
                self.metrics.rejected(hook, a.operation, "apiserver_internal_error", 0);
                Some(s)
            }
        }
    }
}

/// The written object and the stored one in the version that a webhook asked for.
pub(super) async fn versioned(a: &Attributes<'_>, row: &Arc<Resource>) -> Result<(Value, Option<Value>)> {
    let object = in_version(a, a.object, a.resource, row).await?;
    let old = match a.old {
        Some(o) => Some(in_version(a, o, a.resource, row).await?),
        None => None,
    };
    Ok((object, old))
}

pub(super) async fn in_version(
    a: &Attributes<'_>,
    object: &Value,
    from: &Arc<Resource>,
    to: &Arc<Resource>,
) -> Result<Value> {
    // Objects of a subresource's own kind (Scale, Eviction) are the same in every version of their parent.
    let own_kind = matching::kind_of(from, a.subresource).2 != from.kind;
    if object.is_null() || own_kind || (from.group == to.group && from.version == to.version) {
        return Ok(object.clone());
    }
    if let (Some(definition), Some(custom)) = (&to.custom, a.custom) {
        let all = vec![object.clone()];
        let mut all = crate::custom::conversion::convert(custom, definition, all, &to.version).await?;
        return Ok(all.pop().unwrap_or_default());
    }
    Ok(api::convert::to(object, from, to))
}

pub struct Mutating(pub Arc<Webhooks>);

#[async_trait]
impl Plugin for Mutating {
    fn name(&self) -> &'static str {
        MUTATING
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<()> {
        let hooks = self.0.configurations.get().mutating();
        if hooks.is_empty() || matching::is_exempt(a) {
            return Ok(());
        }
        a.reinvocation.begin(MUTATING, a.object);
        let result = self.round(a, &hooks).await;
        a.reinvocation.end(MUTATING, a.object);
        result
    }
}

impl Mutating {
    async fn round(&self, a: &mut Attributes<'_>, hooks: &[Arc<Hook>]) -> Result<()> {
        let round = usize::from(a.reinvocation.is_second());
        for (index, hook) in hooks.iter().enumerate() {
            let Some(row) = self.0.invocation(hook, a).await? else { continue };
            if !a.reinvocation.is_due(MUTATING, &hook.uid) {
                continue;
            }
            let started = Instant::now();
            let (object, old) = versioned(a, &row).await?;
            let outcome = self.one(a, hook, &row, &object, old.as_ref()).await;
            self.0.count(hook, a, outcome.as_ref().err(), started);
            let place = format!("round_{round}_index_{index}");
            let changed = matches!(outcome, Ok(Some(Patched { changed: true, .. })));
            annotate(a, hook, &place, changed, outcome.as_ref().ok().and_then(Option::as_ref));
            if changed {
                a.reinvocation.changed(MUTATING);
            }
            if hook.reinvoked {
                a.reinvocation.invoked(MUTATING, &hook.uid);
            }
            let Err(failure) = outcome else { continue };
            if failure.is_ignored_by(hook) {
                a.audit.annotate(format!("failed-open.mutation.webhook.admission.k8s.io/{place}"), hook.name.as_str());
            }
            if let Some(s) = self.0.judge(hook, a, failure) {
                return Err(s);
            }
        }
        Ok(())
    }

    /// Asks, and applies the patch, if there is one.
    async fn one(
        &self,
        a: &mut Attributes<'_>,
        hook: &Hook,
        row: &Arc<Resource>,
        object: &Value,
        old: Option<&Value>,
    ) -> std::result::Result<Option<Patched>, Failure> {
        let Some(patch) = self.0.ask(hook, a, row, object, old).await? else { return Ok(None) };
        let undecodable = |why: String| Failure::Calling {
            reason: format!("received undecodable patch in webhook response: {why}"),
            status: 503,
        };
        let (written, _) = api::codec::json::parse(&patch.text).map_err(|e| undecodable(e.to_string()))?;
        let operations = json_patch::operations(&written).map_err(undecodable)?;
        if operations.is_empty() {
            return Ok(None);
        }
        let internal = |why: String| Failure::Other(Status::internal(why));
        if object.is_null() {
            return Err(internal(format!(
                "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
                hook.name
            )));
        }
        if patch.kind != "JSONPatch" {
            return Err(Failure::Calling { reason: format!("unsupported patch type {:?}", patch.kind), status: 400 });
        }
        let patched = json_patch::perform(object, operations).map_err(|u| internal(u.why))?;
        let new = review::conform(row, a.subresource, object, patched, false).map_err(internal)?;
        let changed = new != *object;
        *a.object = in_version(a, &new, row, a.resource).await.map_err(Failure::Other)?;
        Ok(Some(Patched { operations: written, changed }))
    }
}

/// What a webhook wanted.
struct Patched {
    operations: Value,
    /// Whether anything came of it.
    changed: bool,
}

/// The whole seconds that a webhook may take: its own time or what is left of the request's, whichever is less.
fn seconds(own: Duration, ends: Option<Instant>) -> u64 {
    let left = ends.map_or(own, |ends| own.min(ends.saturating_duration_since(Instant::now())));
    (left.as_secs() + u64::from(left.subsec_nanos() > 0)).max(1)
}

/// The span of one call.
fn trace(hook: &Hook, a: &Attributes<'_>, uid: &str) -> traces::Span {
    let mut span = traces::start(if hook.mutating { "Call mutating webhook" } else { "Call validating webhook" });
    if span.is_recording() {
        let r = a.resource;
        span.set("configuration", hook.configuration.as_str());
        span.set("webhook", hook.name.as_str());
        span.set("resource", format!("{}/{}, Resource={}", r.group, r.version, r.plural));
        span.set("subresource", a.subresource);
        span.set("operation", a.operation.word());
        span.set("UID", uid);
    }
    span
}

/// What an auditor wants to know of a mutating webhook's call, in the order in which upstream writes it.
#[derive(Serialize)]
struct Call<'a> {
    configuration: &'a str,
    webhook: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mutated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<&'a Value>,
    #[serde(rename = "patchType", skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
}

fn annotate(a: &Attributes<'_>, hook: &Hook, place: &str, changed: bool, patched: Option<&Patched>) {
    if !a.audit.is_on() {
        return;
    }
    let call = Call {
        configuration: &hook.configuration,
        webhook: &hook.name,
        mutated: Some(changed),
        patch: None,
        patch_type: None,
    };
    let told = |call: &Call<'_>| serde_json::to_string(call).unwrap_or_default();
    a.audit.annotate(format!("mutation.webhook.admission.k8s.io/{place}"), told(&call));
    if let Some(p) = patched {
        let patch = Call { mutated: None, patch: Some(&p.operations), patch_type: Some("JSONPatch"), ..call };
        // It shows what is in the object.
        a.audit.annotate_at(Level::Request, format!("patch.webhook.admission.k8s.io/{place}"), told(&patch));
    }
}

pub struct Validating(pub Arc<Webhooks>);

#[async_trait]
impl Plugin for Validating {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<()> {
        let hooks = self.0.configurations.get().validating();
        if hooks.is_empty() || matching::is_exempt(a) {
            return Ok(());
        }
        let mut relevant = Vec::new();
        for hook in hooks.iter() {
            if let Some(row) = self.0.invocation(hook, a).await? {
                relevant.push((hook.clone(), row));
            }
        }
        let calls = relevant.iter().enumerate().map(|(index, (hook, row))| async move {
            let started = Instant::now();
            let outcome = match versioned(a, row).await {
                Ok((object, old)) => self.0.ask(hook, a, row, &object, old.as_ref()).await,
                Err(s) => Err(Failure::Other(s)),
            };
            self.0.count(hook, a, outcome.as_ref().err(), started);
            let failure = outcome.err()?;
            if failure.is_ignored_by(hook) {
                let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
                a.audit.annotate(key, hook.name.as_str());
            }
            self.0.judge(hook, a, failure)
        });
        // The first by order where several refuse, so that the same write gets the same answer.
        match futures::future::join_all(calls).await.into_iter().flatten().next() {
            Some(s) => Err(s),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
