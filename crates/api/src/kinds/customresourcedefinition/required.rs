//! What a definition may go on doing because it has always done so: rules that came later hold for those alone that
//! don't break them already, or nothing else of an old definition could be changed. Upstream: `validationOptions`.

use super::schema::{TYPES, granular_item, keyed_items};
use super::{SCHEMA, consistency, defaults, structural};
use crate::custom::names;
use crate::validation::access::*;
use meta::field::{Errors, Path};
use serde_json::Value;
use std::collections::BTreeSet;

/// Which rules hold.
pub(super) struct Required {
    /// Webhooks for conversion speak a version of ConversionReview that the server does.
    pub review_versions: bool,
    /// Every version has a schema.
    pub schemas: bool,
    /// Types are those of JSON.
    pub types: bool,
    pub structural: bool,
    pub pruned_defaults: bool,
    pub atomic_sets: bool,
    pub map_lists: bool,
    /// The webhook's `caBundle` holds certificates.
    pub ca_bundle: bool,
    /// Versions whose schema is as before: their rules may cost any amount.
    pub same_schema: BTreeSet<String>,
    /// Versions that had too many selectable fields, and have the same now.
    pub many_selectable: BTreeSet<String>,
}

impl Required {
    /// Of a new definition.
    pub fn all() -> Required {
        Required {
            review_versions: true,
            schemas: true,
            types: true,
            structural: true,
            pruned_defaults: true,
            atomic_sets: true,
            map_lists: true,
            // Whoever puts the right one in (cert-manager does) makes the definition live.
            ca_bundle: false,
            same_schema: BTreeSet::new(),
            many_selectable: BTreeSet::new(),
        }
    }

    /// Of one that was there before.
    pub fn of(new: &Value, old: &Value) -> Required {
        let versions = list_at(old, &["spec", "versions"]);
        let schemas: Vec<&Value> = versions.iter().map(|v| at(v, SCHEMA)).collect();
        let sound = |broken: &dyn Fn(&Value) -> bool| !schemas.iter().any(|s| anywhere(s, broken));
        let reviews = at(old, &["spec", "conversion", "webhook"]);
        let reviews = texts(reviews, "conversionReviewVersions");
        let unchanged = |keep: &dyn Fn(&Value, &Value) -> bool| {
            let new = list_at(new, &["spec", "versions"]).iter();
            new.filter(|n| versions.iter().any(|o| text(o, "name") == text(n, "name") && keep(n, o)))
                .map(|n| text(n, "name").to_string())
                .collect()
        };
        Required {
            review_versions: reviews.is_empty() || reviews.iter().any(|v| super::is_review_version(v)),
            schemas: schemas.iter().all(|s| s.is_object()),
            types: sound(&|s| !text(s, "type").is_empty() && !TYPES.contains(&text(s, "type"))),
            structural: !schemas.iter().any(|s| {
                s.is_object() && (structural::misfit(s).is_some() || !structural::faults(s, &Path::root()).is_empty())
            }),
            pruned_defaults: !schemas.iter().any(|s| defaults::any_unpruned(s)),
            atomic_sets: sound(&|s| {
                text(s, "x-kubernetes-list-type") == "set" && granular_item(field(s, "items")).is_some()
            }),
            map_lists: sound(&|s| {
                let mut found = Errors::default();
                keyed_items(s, &Path::root(), &mut found);
                !found.is_empty()
            }),
            ca_bundle: names::condition(old, "Established") && names::has_sound_ca_bundle(old),
            same_schema: unchanged(&|n, o| same(at(n, SCHEMA), at(o, SCHEMA))),
            many_selectable: unchanged(&|n, o| {
                list(o, "selectableFields").len() > consistency::SELECTABLE_FIELDS_MAX
                    && field(n, "selectableFields") == field(o, "selectableFields")
            }),
        }
    }
}

/// Whether something holds for a node of a schema.
pub(super) fn anywhere(s: &Value, holds: &dyn Fn(&Value) -> bool) -> bool {
    s.is_object() && (holds(s) || structural::parts(s).any(|below| anywhere(below, holds)))
}
