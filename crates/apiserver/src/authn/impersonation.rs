//! Acting as another user: `Impersonate-User`, `-Group`, `-Uid` and `-Extra-<key>` headers, each of which needs
//! the right to `impersonate` that user, group, uid or extra value.

use super::request_header::extra_in;
use super::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User};
use crate::authz::{Attributes, Authorizer, forbidden};
use meta::status::Status;
use std::collections::BTreeMap;

const AUTHENTICATION: &str = "authentication.k8s.io";

/// The user that the request shall be served as, or `None` when it doesn't ask for another.
pub async fn impersonate(
    user: &User,
    headers: &http::HeaderMap,
    authorizer: &dyn Authorizer,
) -> Result<Option<User>, Status> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_string();
    let (name, uid) = (text("impersonate-user"), text("impersonate-uid"));
    let groups: Vec<String> =
        headers.get_all("impersonate-group").iter().filter_map(|v| v.to_str().ok().map(str::to_string)).collect();
    let extra: BTreeMap<String, Vec<String>> = extra_in(headers, "impersonate-extra-");
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(None);
        }
        let mut asked: Vec<String> = groups.iter().map(|g| format!("{{Group    {g}  }}")).collect();
        asked.extend(extra.iter().flat_map(|(k, vs)| vs.iter().map(move |v| format!("{{UserExtra {v} {k}}}"))));
        if !uid.is_empty() {
            asked.push(format!("{{UID {uid}}}"));
        }
        return Err(Status::internal(format!("requested [{}] without impersonating a user", asked.join(" "))));
    }

    let ask = |group: &str, resource: &str, namespace: &str, name: &str| Attributes {
        version: "v1".to_string(),
        ..Attributes::resource(user, "impersonate", group, resource, namespace, name)
    };
    let account = service_account(&name);
    let mut questions = vec![match account {
        Some((namespace, account)) => ask("", "serviceaccounts", namespace, account),
        None => ask("", "users", "", &name),
    }];
    questions.extend(groups.iter().map(|g| ask("", "groups", "", g)));
    for (key, values) in &extra {
        questions.extend(
            values.iter().map(|v| Attributes { subresource: key.clone(), ..ask(AUTHENTICATION, "userextras", "", v) }),
        );
    }
    if !uid.is_empty() {
        questions.push(ask(AUTHENTICATION, "uids", "", &uid));
    }
    for question in &questions {
        let decision = authorizer.authorize(question).await;
        if !decision.allowed() {
            return Err(forbidden(question, decision.reason()));
        }
    }

    let mut target = User { name, uid, groups, extra };
    if let (Some((namespace, _)), true) = (account_owned(&target.name), target.groups.is_empty()) {
        target.groups = vec!["system:serviceaccounts".to_string(), format!("system:serviceaccounts:{namespace}")];
    }
    if target.name == ANONYMOUS {
        if !target.in_group(UNAUTHENTICATED) {
            target.groups.push(UNAUTHENTICATED.to_string());
        }
    } else if !target.in_group(AUTHENTICATED) && !target.in_group(UNAUTHENTICATED) {
        target.groups.push(AUTHENTICATED.to_string());
    }
    Ok(Some(target))
}

/// Namespace and name of `system:serviceaccount:<namespace>:<name>`.
pub fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

fn account_owned(user: &str) -> Option<(String, String)> {
    service_account(user).map(|(a, b)| (a.to_string(), b.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::Decision;
    use async_trait::async_trait;

    /// Allows exactly the listed `resource[/sub]:name`.
    struct Only(&'static [&'static str]);

    #[async_trait]
    impl Authorizer for Only {
        async fn authorize(&self, a: &Attributes) -> Decision {
            let mut asked = a.resource.clone();
            if !a.subresource.is_empty() {
                asked = format!("{asked}/{}", a.subresource);
            }
            let asked = format!("{asked}:{}", a.name);
            if a.verb == "impersonate" && self.0.contains(&asked.as_str()) {
                Decision::Allow(String::new())
            } else {
                Decision::NoOpinion(String::new())
            }
        }
    }

    async fn run(headers: &[(&'static str, &str)], allowed: &'static [&'static str]) -> Result<Option<User>, Status> {
        let mut map = http::HeaderMap::new();
        for (k, v) in headers {
            map.append(*k, v.parse().unwrap());
        }
        impersonate(&User::new("boss", &[]), &map, &Only(allowed)).await
    }

    #[tokio::test]
    async fn every_part_of_another_identity_needs_its_own_right() {
        assert_eq!(run(&[], &[]).await, Ok(None));
        let jane = run(&[("impersonate-user", "jane")], &["users:jane"]).await.unwrap().unwrap();
        assert_eq!(jane, User::new("jane", &["system:authenticated"]));

        let all = [
            ("impersonate-user", "jane"),
            ("impersonate-group", "dev"),
            ("impersonate-uid", "u1"),
            ("impersonate-extra-example.org%2fscope", "all"),
        ];
        let full: &[&str] = &["users:jane", "groups:dev", "uids:u1", "userextras/example.org/scope:all"];
        let jane = run(&all, full).await.unwrap().unwrap();
        assert_eq!((jane.uid.as_str(), jane.extra["example.org/scope"].as_slice()), ("u1", &["all".to_string()][..]));
        let e = run(&all, &["users:jane", "groups:dev", "uids:u1"]).await.unwrap_err();
        assert_eq!(
            e.message,
            "userextras.authentication.k8s.io \"all\" is forbidden: User \"boss\" cannot impersonate resource \
             \"userextras/example.org/scope\" in API group \"authentication.k8s.io\" at the cluster scope"
        );
        let e = run(&[("impersonate-user", "jane")], &[]).await.unwrap_err();
        assert_eq!(
            e.message,
            "users \"jane\" is forbidden: User \"boss\" cannot impersonate resource \"users\" in API group \"\" at \
             the cluster scope"
        );
        assert_eq!(run(&[("impersonate-group", "dev")], &["groups:dev"]).await.unwrap_err().code, 500);
    }

    #[tokio::test]
    async fn service_accounts_come_with_their_groups() {
        let headers = [("impersonate-user", "system:serviceaccount:ns:sa")];
        let sa = run(&headers, &["serviceaccounts:sa"]).await.unwrap().unwrap();
        assert_eq!(sa.groups, ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]);
        let anonymous = run(&[("impersonate-user", ANONYMOUS)], &["users:system:anonymous"]).await.unwrap().unwrap();
        assert_eq!(anonymous.groups, [UNAUTHENTICATED]);
    }
}
