//! StorageVersionMigrations: every object of a resource is written once more, as it is, so that it lies in the store in
//! the version, and under the key, that are in force now.
//!
//! In: migrations, discovery, the objects' metadata. Out: empty applies to objects that are older than the migration, its
//! conditions, and for custom resources `status.storedVersions` of their definition. Upstream has three controllers for
//! this; here they are the steps of one. One migration of a resource runs at a time, the oldest first.

use crate::discovery::{self, Found};
use crate::{Context, ownership};
use client::{Change, Client, Queue};
use jiff::Timestamp;
use k8s_openapi::api::storagemigration::v1beta1::StorageVersionMigration;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, GroupResource, Time};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "storage-version-migrator-controller";
const MIGRATING: &str = "StorageMigrating";
const PAGE: u32 = 500;
/// How long a resource may be missing before its migration fails: custom ones may have been defined just now.
const MISSING_SECONDS_MAX: i64 = 60;

fn key_of(migration: &StorageVersionMigration) -> String {
    migration.spec.as_ref().map(|s| format!("{}/{}", s.resource.group, s.resource.resource)).unwrap_or_default()
}

fn is_true(m: &StorageVersionMigration, kind: &str) -> bool {
    let conditions = m.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == kind && c.status == "True")
}

/// Which of one resource's migrations is to go on: the one that runs, else the oldest that hasn't ended.
pub fn next(all: &[Arc<StorageVersionMigration>]) -> Option<&Arc<StorageVersionMigration>> {
    all.iter()
        .filter(|m| !is_true(m, "Succeeded") && !is_true(m, "Failed") && m.metadata.deletion_timestamp.is_none())
        .min_by_key(|m| (!is_true(m, "Running"), m.metadata.creation_timestamp.as_ref().map(|t| t.0), m.name_any()))
}

/// The migration with the condition; one that ended no longer runs.
pub fn with_condition(
    m: &StorageVersionMigration,
    kind: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> StorageVersionMigration {
    let mut new = m.clone();
    let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    let conditions = new.status.get_or_insert_default().conditions.get_or_insert_default();
    if kind != "Running"
        && let Some(running) = conditions.iter_mut().find(|c| c.type_ == "Running" && c.status == "True")
    {
        running.status = "False".into();
        running.reason = "MigrationCompleted".into();
        running.message = "Migration completed".into();
        running.last_transition_time = now.clone();
    }
    conditions.retain(|c| c.type_ != kind);
    conditions.push(Condition {
        type_: kind.into(),
        status: "True".into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: now,
        observed_generation: None,
    });
    new
}

/// Whether an object was written after the migration began, and so is stored as it should be.
pub fn is_newer(object_version: &str, began_at: &str) -> bool {
    let number = |v: &str| v.parse::<u64>().ok();
    number(object_version).zip(number(began_at)).is_some_and(|(object, began)| object > began)
}

/// How an object's migration ended.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// Also when somebody else wrote or deleted it meanwhile.
    Done,
    TryAgain,
    Fail(String),
}

pub fn outcome(result: &Result<(), kube::Error>) -> Outcome {
    let Err(e) = result else { return Outcome::Done };
    match ownership::code(e) {
        Some(404) if names_an_object(e) => Outcome::Done,
        Some(409) => Outcome::Done,
        Some(429 | 500 | 503 | 504) | None => Outcome::TryAgain,
        Some(_) => Outcome::Fail(unhandled(e)),
    }
}

/// Whether it is an object that isn't there, rather than its resource.
fn names_an_object(e: &kube::Error) -> bool {
    matches!(e, kube::Error::Api(s) if s.details.as_ref().is_some_and(|d| !d.name.is_empty()))
}

/// Upstream's text for what ends a migration.
fn unhandled(e: &kube::Error) -> String {
    format!("migration encountered unhandled error: {}", ownership::message(e))
}

pub async fn run(context: Context) {
    let migrations = context.informers.of::<StorageVersionMigration>();
    let queue = Queue::new();
    let q = queue.clone();
    // Also deletions: the next one of the resource may begin.
    migrations.on_change(move |c: &Change<_>| q.add(key_of(c.object())));
    migrations.wait_synced().await;
    let client = context.client(NAME);
    queue
        .run("storage-version-migrator", 5, context.shutdown.clone(), move |key| {
            let (client, migrations) = (client.clone(), migrations.clone());
            async move {
                let all: Vec<_> = migrations.list().into_iter().filter(|m| key_of(m) == key).collect();
                let Some(migration) = next(&all) else { return Ok(None) };
                let worker = Worker { client, found: None };
                match worker.migrate(migration).await {
                    Ok(written) => {
                        let missing = written.is_none();
                        written.into_iter().for_each(|w| migrations.remember(w));
                        // Another one may wait; or the resource, to be defined.
                        Ok(missing.then_some(Duration::from_secs(2)))
                    }
                    // The migration itself; its resource's end is told in its status.
                    Err(e) if ownership::gone(&e) => Ok(None),
                    Err(e) => Err(e),
                }
            }
        })
        .await;
}

struct Worker {
    client: Client,
    found: Option<Found>,
}

impl Worker {
    fn objects(&self, namespace: Option<&str>) -> Option<Api<DynamicObject>> {
        let resource = &self.found.as_ref()?.resource;
        Some(match namespace {
            Some(ns) => Api::namespaced_with(self.client.clone(), ns, resource),
            None => Api::all_with(self.client.clone(), resource),
        })
    }

    async fn write(&self, new: &StorageVersionMigration) -> Result<StorageVersionMigration, kube::Error> {
        let api: Api<StorageVersionMigration> = Api::all(self.client.clone());
        api.replace_status(&new.name_any(), &PostParams::default(), new).await
    }

    /// The migration at its end; `None` while its resource isn't there.
    async fn migrate(
        mut self,
        migration: &StorageVersionMigration,
    ) -> Result<Option<StorageVersionMigration>, kube::Error> {
        let Some(what) = migration.spec.as_ref().map(|s| &s.resource) else { return Ok(None) };
        let (all, unknown) = discovery::resources(&self.client).await;
        self.found = all.into_iter().find(|f| f.resource.group == what.group && f.resource.plural == what.resource);
        let now = Timestamp::now();
        let fail = |m: &StorageVersionMigration, why: &str| {
            with_condition(m, "Failed", "StorageVersionMigrationFailed", why, Timestamp::now())
        };
        let Some(found) = &self.found else {
            let born = migration.metadata.creation_timestamp.as_ref().map_or(0, |t| t.0.as_second());
            if now.as_second() - born < MISSING_SECONDS_MAX || !unknown.is_empty() {
                return Ok(None);
            }
            let why = "migration encountered unhandled error: unable to obtain GVR from discovery";
            return self.write(&fail(migration, why)).await.map(Some);
        };
        if !found.can("list") || !found.can("patch") {
            let why = format!(
                "migration encountered unhandled error: {} can't be listed and patched",
                found.group_resource()
            );
            return self.write(&fail(migration, &why)).await.map(Some);
        }

        let mut migration = migration.clone();
        let definition = self.definition(what).await?;
        if !is_true(&migration, "Running") {
            let Some(objects) = self.objects(None) else { return Ok(None) };
            let list = match objects.list_metadata(&ListParams::default().limit(1)).await {
                Ok(list) => list,
                // It went since it was found: as if it hadn't been.
                Err(e) if ownership::gone(&e) => return Ok(None),
                Err(e) => return Err(e),
            };
            let mut new =
                with_condition(&migration, "Running", "MigrationRunning", "The migration is running", Timestamp::now());
            let status = new.status.get_or_insert_default();
            if status.resource_version.as_ref().is_none_or(String::is_empty) {
                status.resource_version = list.metadata.resource_version;
            }
            if let Some(definition) = &definition {
                let message = format!("Migration {} is running", new.name_any());
                self.tell(definition, "True", "MigrationRunning", &message, None).await?;
            }
            migration = self.write(&new).await?;
        }
        let ended = match self.write_all(&migration).await? {
            Ok(()) => with_condition(&migration, "Succeeded", "StorageVersionMigrationSucceeded", "", Timestamp::now()),
            Err(why) => fail(&migration, &why),
        };
        if let Some(definition) = self.definition(what).await? {
            self.finish(&definition, is_true(&ended, "Succeeded")).await?;
        }
        self.write(&ended).await.map(Some)
    }

    /// Every object that is older than the migration.
    async fn write_all(&self, migration: &StorageVersionMigration) -> Result<Result<(), String>, kube::Error> {
        let (Some(found), Some(all)) = (&self.found, self.objects(None)) else { return Ok(Ok(())) };
        let began_at = migration.status.as_ref().and_then(|s| s.resource_version.as_deref()).unwrap_or_default();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = match all.list_metadata(&page).await {
                Ok(list) => list,
                Err(e) if ownership::gone(&e) => return Ok(Err(unhandled(&e))),
                Err(e) => return Err(e),
            };
            for object in &list.items {
                let (uid, version) = (object.uid(), object.resource_version().unwrap_or_default());
                if is_newer(&version, began_at) {
                    continue;
                }
                let Some(one) = self.objects(object.metadata.namespace.as_deref()) else { continue };
                // With both, an object that was deleted or written meanwhile is a conflict, and nothing is created.
                let empty = json!({"apiVersion": found.resource.api_version, "kind": found.resource.kind,
                    "metadata": {"uid": uid, "resourceVersion": version}});
                let options = PatchParams { field_manager: Some(NAME.into()), ..PatchParams::default() };
                let result = one.patch(&object.name_any(), &options, &Patch::Apply(&empty)).await.map(drop);
                match (outcome(&result), result) {
                    (Outcome::Fail(why), _) => return Ok(Err(why)),
                    (Outcome::TryAgain, Err(e)) => return Err(e),
                    _ => {}
                }
            }
            match list.metadata.continue_.filter(|c| !c.is_empty()) {
                Some(more) => page = page.continue_token(&more),
                None => return Ok(Ok(())),
            }
        }
    }

    /// The definition of a custom resource.
    async fn definition(&self, what: &GroupResource) -> Result<Option<CustomResourceDefinition>, kube::Error> {
        if what.group.is_empty() {
            return Ok(None);
        }
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        api.get_opt(&format!("{}.{}", what.resource, what.group)).await
    }

    /// Sets the condition of the definition, and perhaps its stored versions, unless somebody wrote it meanwhile.
    async fn tell(
        &self,
        definition: &CustomResourceDefinition,
        status: &str,
        reason: &str,
        message: &str,
        stored: Option<Vec<String>>,
    ) -> Result<(), kube::Error> {
        let mut new = definition.clone();
        let of = new.status.get_or_insert_default();
        if let Some(stored) = stored {
            of.stored_versions = Some(stored);
        }
        let conditions = of.conditions.get_or_insert_default();
        conditions.retain(|c| c.type_ != MIGRATING);
        let now = Timestamp::now();
        conditions.push(CustomResourceDefinitionCondition {
            type_: MIGRATING.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_transition_time: Some(Time(Timestamp::from_second(now.as_second()).unwrap_or(now))),
            observed_generation: definition.metadata.generation,
        });
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        match api.replace_status(&definition.name_any(), &PostParams::default(), &new).await {
            // Nobody is there to be told.
            Err(e) if ownership::gone(&e) => Ok(()),
            other => other.map(drop),
        }
    }

    async fn finish(&self, definition: &CustomResourceDefinition, succeeded: bool) -> Result<(), kube::Error> {
        if !succeeded {
            return self.tell(definition, "False", "MigrationFailed", "The migration has failed", None).await;
        }
        let stored = stored_versions(definition);
        let message = match stored {
            Some(_) => "The migration has succeeded and the stored versions have been updated",
            None => {
                "The migration has succeeded but the stored versions have not been updated due to a generation mismatch"
            }
        };
        self.tell(definition, "False", "MigrationSucceeded", message, stored).await
    }
}

/// The only version that objects are stored in now, if the definition is still the one that the migration began with.
pub fn stored_versions(definition: &CustomResourceDefinition) -> Option<Vec<String>> {
    let conditions = definition.status.as_ref()?.conditions.as_deref()?;
    let begun = conditions.iter().find(|c| c.type_ == MIGRATING)?;
    if begun.observed_generation != definition.metadata.generation {
        return None;
    }
    Some(definition.spec.versions.iter().filter(|v| v.storage).map(|v| v.name.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn migration(name: &str, created: &str, kinds: &[&str]) -> Arc<StorageVersionMigration> {
        let conditions: Vec<Value> = kinds
            .iter()
            .map(|k| json!({"type": k, "status": "True", "reason": "R", "message": "", "lastTransitionTime": created}))
            .collect();
        let v = json!({"metadata": {"name": name, "creationTimestamp": created},
            "spec": {"resource": {"group": "", "resource": "secrets"}}, "status": {"conditions": conditions}});
        Arc::new(serde_json::from_value(v).unwrap())
    }

    #[test]
    fn one_runs_at_a_time_and_the_oldest_is_next() {
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let name = |all: &[Arc<StorageVersionMigration>]| next(all).map(|m| m.name_any());
        let (a, b, c) = (migration("a", late, &[]), migration("b", early, &[]), migration("c", early, &[]));
        assert_eq!(name(&[a.clone(), c, b.clone()]).as_deref(), Some("b"));
        assert_eq!(name(&[migration("z", late, &["Running"]), b]).as_deref(), Some("z"));
        assert_eq!(name(&[migration("s", early, &["Succeeded"]), a]).as_deref(), Some("a"));
        assert_eq!(name(&[migration("f", early, &["Failed"])]), None);
    }

    #[test]
    fn an_end_ends_running() {
        let m = migration("a", "2026-01-01T00:00:00Z", &["Running"]);
        let done = with_condition(&m, "Succeeded", "R", "", Timestamp::UNIX_EPOCH);
        assert!(is_true(&done, "Succeeded") && !is_true(&done, "Running"));
        let conditions = done.status.unwrap().conditions.unwrap();
        assert_eq!((conditions[0].status.as_str(), conditions[0].reason.as_str()), ("False", "MigrationCompleted"));
        let again = with_condition(&m, "Running", "R2", "", Timestamp::UNIX_EPOCH);
        assert_eq!(again.status.unwrap().conditions.unwrap().len(), 1);
    }

    #[test]
    fn what_others_wrote_is_done_and_what_is_busy_is_tried_again() {
        let failed = |code: u16, name: &str| {
            let status = json!({"code": code, "message": "why", "details": {"name": name}});
            outcome(&Err(kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()))))
        };
        assert_eq!(outcome(&Ok(())), Outcome::Done);
        assert_eq!([failed(404, "o"), failed(409, "o")], [Outcome::Done, Outcome::Done]);
        assert_eq!([failed(429, "o"), failed(503, "")], [Outcome::TryAgain, Outcome::TryAgain]);
        let end = Outcome::Fail("migration encountered unhandled error: why".into());
        assert_eq!([&failed(422, "o"), &failed(404, "")], [&end, &end], "the second one's resource is gone");
        assert!(is_newer("12", "9") && !is_newer("9", "9") && !is_newer("x", "9"));
    }

    #[test]
    fn stored_versions_are_only_cut_for_the_definition_that_was_migrated() {
        let crd = |observed: i64| -> CustomResourceDefinition {
            let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage});
            serde_json::from_value(json!({"metadata": {"name": "a.b.c", "generation": 2},
                "spec": {"group": "b.c", "names": {"kind": "A", "plural": "a"}, "scope": "Namespaced",
                    "versions": [version("v1", false), version("v2", true)]},
                "status": {"storedVersions": ["v1", "v2"], "conditions": [
                    {"type": MIGRATING, "status": "True", "observedGeneration": observed}]}}))
            .unwrap()
        };
        assert_eq!(stored_versions(&crd(2)), Some(vec!["v2".to_string()]));
        assert_eq!(stored_versions(&crd(1)), None);
    }
}
