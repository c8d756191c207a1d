//! Which resources the server has, for the controllers that handle all of them: namespaces and garbage.

use crate::ownership;
use client::Client;
use kube::core::ApiResource;

/// One resource, in its group's preferred version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    pub resource: ApiResource,
    pub namespaced: bool,
    verbs: Vec<String>,
}

impl Found {
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// As errors and conditions name it: `deployments.apps`, and `pods.` in the core group.
    pub fn group_resource(&self) -> String {
        format!("{}.{}", self.resource.plural, self.resource.group)
    }
}

/// Every resource that could be found, and what could not be asked: one broken aggregated API must not hide the rest.
pub async fn resources(client: &Client) -> (Vec<Found>, Vec<String>) {
    let mut found = Vec::new();
    let mut failures = Vec::new();
    match client.list_core_api_resources("v1").await {
        Ok(list) => add("", "v1", list, &mut found),
        Err(e) => failures.push(failure("v1", &e)),
    }
    let groups = match client.list_api_groups().await {
        Ok(g) => g.groups,
        Err(e) => {
            failures.push(e.to_string());
            return (found, failures);
        }
    };
    for group in groups {
        let preferred = group.preferred_version.or_else(|| group.versions.first().cloned());
        let Some(preferred) = preferred else { continue };
        // A resource that only another version has is found there.
        let mut versions = group.versions;
        versions.sort_by_key(|v| v.version != preferred.version);
        for version in versions {
            match client.list_api_group_resources(&version.group_version).await {
                Ok(list) => add(&group.name, &version.version, list, &mut found),
                Err(e) => failures.push(failure(&version.group_version, &e)),
            }
        }
    }
    (found, failures)
}

/// As conditions tell it. What an aggregated API's server doesn't answer for is stale.
fn failure(group_version: &str, error: &kube::Error) -> String {
    match ownership::code(error) {
        Some(503) => format!("{group_version}: stale GroupVersion discovery: {group_version}"),
        _ => format!("{group_version}: {}", ownership::message(error)),
    }
}

fn add(
    group: &str,
    version: &str,
    list: k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList,
    found: &mut Vec<Found>,
) {
    for r in list.resources {
        let known = found.iter().any(|f| f.resource.group == group && f.resource.plural == r.name);
        if r.name.contains('/') || known {
            continue;
        }
        let api_version = if group.is_empty() { version.to_string() } else { format!("{group}/{version}") };
        found.push(Found {
            resource: ApiResource {
                group: group.into(),
                version: version.into(),
                api_version,
                kind: r.kind,
                plural: r.name,
            },
            namespaced: r.namespaced,
            verbs: r.verbs,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    #[test]
    fn failures_are_told_in_the_words_of_clients() {
        let api = |code, message: &str| {
            kube::Error::Api(Box::new(Status { code, message: message.into(), ..Status::default() }))
        };
        for (error, want) in [
            (api(503, "service unavailable"), "metrics.k8s.io/v1: stale GroupVersion discovery: metrics.k8s.io/v1"),
            (api(403, "forbidden: no"), "metrics.k8s.io/v1: forbidden: no"),
        ] {
            assert_eq!(failure("metrics.k8s.io/v1", &error), want);
        }
    }
}
