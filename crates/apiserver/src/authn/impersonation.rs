//! Acting as another user: `Impersonate-User`, `-Group`, `-Uid` and `-Extra-<key>` headers.
//!
//! Rights come in modes (KEP-5284), which are tried in order; the first that allows everything is the one. The
//! constrained ones ask twice: whether the user may do *this request* in the mode (`impersonate-on:MODE:VERB`), and whether
//! they may be that other user in it (`impersonate:MODE`). The oldest asks for `impersonate` alone, for all requests.

use super::request_header::extra_in;
use super::{ANONYMOUS, AUTHENTICATED, MASTERS, UNAUTHENTICATED, User, header_text};
use crate::authz::{Attributes, Authorizer, forbidden};
use crate::metrics::figures::{
    Counter, Histogram, IMPERSONATION_CHECK_DURATIONS, IMPERSONATION_CHECKS, IMPERSONATION_DURATIONS, IMPERSONATIONS,
};
use meta::names;
use meta::status::Status;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

const AUTHENTICATION: &str = "authentication.k8s.io";
/// Of a service account whose token is that of a pod on some node.
pub const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// What authorizers are told in place of such an account's attributes: their names alone.
const NODE_KEYS: &str = "authentication.kubernetes.io/associated-node-keys";
const NODE_PREFIX: &str = "system:node:";
const NODES: &str = "system:nodes";
/// From so many groups or extra values on, the right to all of them is asked for first.
const MANY: usize = 4;

/// Of so many users it is remembered in which mode they last were somebody else.
const REMEMBERED_MAX: usize = 10_000;

/// The modes that worked last, by who asked: tried first, so that whoever has the oldest right pays for no other. It is a
/// matter of order alone, so users of equal hashes may share an entry.
#[derive(Default)]
pub struct LastModes(Mutex<HashMap<u64, Mode>>);

impl LastModes {
    fn key(user: &User) -> u64 {
        let mut hasher = DefaultHasher::new();
        user.name.hash(&mut hasher);
        hasher.finish()
    }

    /// All modes, in the order in which they are tried for this user.
    fn order(&self, user: &User) -> Vec<Mode> {
        let last = self.0.lock().get(&LastModes::key(user)).copied();
        let others = Mode::ALL.into_iter().filter(|mode| Some(*mode) != last);
        last.into_iter().chain(others).collect()
    }

    fn remember(&self, user: &User, mode: Mode) {
        let mut known = self.0.lock();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(LastModes::key(user), mode);
    }
}

/// Another user, and the verb that allowed to be them, if it is a constrained one.
#[derive(Clone, Debug, PartialEq)]
pub struct Impersonated {
    pub user: User,
    pub constraint: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// The node that the asking service account runs on.
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    /// Whoever is neither a node nor a service account.
    UserInfo,
    Legacy,
}

impl Mode {
    const ALL: [Mode; 5] =
        [Mode::AssociatedNode, Mode::ArbitraryNode, Mode::ServiceAccount, Mode::UserInfo, Mode::Legacy];

    fn name(self) -> &'static str {
        match self {
            Mode::AssociatedNode => "associated-node",
            Mode::ArbitraryNode => "arbitrary-node",
            Mode::ServiceAccount => "serviceaccount",
            Mode::UserInfo => "user-info",
            Mode::Legacy => "",
        }
    }

    fn verb(self) -> String {
        match self {
            Mode::Legacy => "impersonate".to_string(),
            mode => format!("impersonate:{}", mode.name()),
        }
    }

    /// Whether the mode is for such a user at all.
    fn is_for(self, wanted: &User, requestor: &User) -> bool {
        let only_name = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let (node, account) = (node_name(&wanted.name), service_account(&wanted.name));
        match self {
            Mode::AssociatedNode => only_name && node.is_some_and(|n| runs_on(requestor, n)),
            Mode::ArbitraryNode => only_name && node.is_some(),
            Mode::ServiceAccount => only_name && account.is_some(),
            Mode::UserInfo => node.is_none() && account.is_none(),
            Mode::Legacy => true,
        }
    }

    /// The other user, if all that this mode asks for is allowed. `request`: what its verb is about.
    async fn check(self, wanted: &User, request: &Attributes, authorizer: &dyn Authorizer) -> Result<User, Status> {
        let mut requestor = request.user.clone();
        if self == Mode::AssociatedNode {
            let keys = requestor.extra.keys().cloned().collect();
            requestor.extra = BTreeMap::from([(NODE_KEYS.to_string(), keys)]);
        }
        if self != Mode::Legacy {
            let verb = format!("impersonate-on:{}:{}", self.name(), request.verb);
            ask(authorizer, &Attributes { verb, user: requestor.clone(), ..request.clone() }).await?;
        }
        // Users and groups are of the core group, unless a mode is constrained.
        let group = if self == Mode::Legacy { "" } else { AUTHENTICATION };
        let about = |group: &str, resource: &str, name: &str| Attributes {
            version: "v1".to_string(),
            ..Attributes::resource(&requestor, &self.verb(), group, resource, "", name)
        };
        let mut user = wanted.clone();
        let who = match (node_name(&wanted.name), service_account(&wanted.name)) {
            (_, Some((namespace, name))) => {
                if user.groups.is_empty() {
                    user.groups =
                        vec!["system:serviceaccounts".to_string(), format!("system:serviceaccounts:{namespace}")];
                }
                Attributes { namespace: namespace.to_string(), ..about(group, "serviceaccounts", name) }
            }
            (Some(node), _) if self != Mode::Legacy => {
                user.groups = vec![NODES.to_string()];
                about(group, "nodes", if self == Mode::AssociatedNode { "*" } else { node })
            }
            _ => about(group, "users", &wanted.name),
        };
        ask(authorizer, &who).await?;
        if !wanted.uid.is_empty() {
            ask(authorizer, &about(AUTHENTICATION, "uids", &wanted.uid)).await?;
        }
        self.groups(&wanted.groups, &about(group, "groups", ""), authorizer).await?;
        self.extra(&wanted.extra, &about(AUTHENTICATION, "userextras", ""), authorizer).await?;
        if user.name == ANONYMOUS {
            if !user.in_group(UNAUTHENTICATED) {
                user.groups.push(UNAUTHENTICATED.to_string());
            }
        } else if !user.in_group(AUTHENTICATED) && !user.in_group(UNAUTHENTICATED) {
            user.groups.push(AUTHENTICATED.to_string());
        }
        Ok(user)
    }

    async fn groups(self, groups: &[String], about: &Attributes, authorizer: &dyn Authorizer) -> Result<(), Status> {
        let named = |name: &str| Attributes { name: name.to_string(), ..about.clone() };
        if self != Mode::Legacy {
            if groups.iter().any(String::is_empty) {
                return Err(forbidden(about, "impersonating the empty string group is not allowed"));
            }
            if groups.iter().any(|g| g == MASTERS) {
                let why = "impersonating the system:masters group is not allowed";
                return Err(forbidden(&named(MASTERS), why));
            }
            if groups.len() >= MANY && ask(authorizer, &named("*")).await.is_ok() {
                return Ok(());
            }
        }
        for group in groups {
            ask(authorizer, &named(group)).await?;
        }
        Ok(())
    }

    async fn extra(
        self,
        extra: &BTreeMap<String, Vec<String>>,
        about: &Attributes,
        authorizer: &dyn Authorizer,
    ) -> Result<(), Status> {
        let of = |key: &str, value: &str| Attributes {
            subresource: key.to_string(),
            name: value.to_string(),
            ..about.clone()
        };
        if self != Mode::Legacy {
            for (key, values) in extra {
                if let Some(why) = extra_fault(key, values) {
                    return Err(forbidden(about, &why));
                }
            }
            let values: usize = extra.values().map(Vec::len).sum();
            if (extra.len() >= MANY || values >= MANY) && ask(authorizer, &of("*", "*")).await.is_ok() {
                return Ok(());
            }
        }
        for (key, values) in extra {
            for value in values {
                ask(authorizer, &of(key, value)).await?;
            }
        }
        Ok(())
    }
}

/// What only the oldest mode lets pass.
fn extra_fault(key: &str, values: &[String]) -> Option<String> {
    if key.is_empty() {
        return Some("impersonating the empty string key in extra is not allowed".to_string());
    }
    let prefixed = key
        .split_once('/')
        .is_some_and(|(domain, path)| names::dns1123_subdomain(domain).is_empty() && !path.is_empty());
    if !prefixed {
        let fault = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return Some(format!(
            "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: {key:?}: {fault}"
        ));
    }
    if key.chars().any(char::is_uppercase) {
        return Some(format!("impersonating a non-lowercase key in extra is not allowed: {key:?}"));
    }
    if values.is_empty() {
        return Some("impersonating empty values in extra is not allowed".to_string());
    }
    let empty = values.iter().any(String::is_empty);
    empty.then(|| "impersonating the empty string value in extra is not allowed".to_string())
}

async fn ask(authorizer: &dyn Authorizer, question: &Attributes) -> Result<(), Status> {
    let started = Instant::now();
    let decision = authorizer.authorize(question).await;
    let mode = question.verb.strip_prefix("impersonate-on:").or_else(|| question.verb.strip_prefix("impersonate:"));
    let mode = mode.map_or("legacy", |mode| mode.split(':').next().unwrap_or_default());
    count(&IMPERSONATION_CHECKS, &IMPERSONATION_CHECK_DURATIONS, mode, decision.allowed(), started);
    if decision.allowed() {
        return Ok(());
    }
    let why = match (decision.error(), decision.reason()) {
        ("", reason) => reason.to_string(),
        (error, "") => error.to_string(),
        (error, reason) => format!("{error}: {reason}"),
    };
    Err(forbidden(question, &why))
}

fn count(counter: &Counter, durations: &Histogram<15>, mode: &str, allowed: bool, started: Instant) {
    let decision = if allowed { "allowed" } else { "denied" };
    let labels = format!("mode=\"{mode}\",decision=\"{decision}\"");
    counter.add(labels.clone());
    durations.observe(labels, started.elapsed().as_secs_f64());
}

/// The user that the request shall be served as, or `None` when it doesn't ask for another. `request`: what it is about,
/// and who asks.
pub async fn impersonate(
    headers: &http::HeaderMap,
    request: &Attributes,
    authorizer: &dyn Authorizer,
    modes: &LastModes,
) -> Result<Option<Impersonated>, Status> {
    let text = |name: &str| headers.get(name).map(header_text).unwrap_or_default();
    let wanted = User {
        name: text("impersonate-user"),
        uid: text("impersonate-uid"),
        groups: headers.get_all("impersonate-group").iter().map(header_text).collect(),
        extra: extra_in(headers, "impersonate-extra-"),
    };
    if wanted.name.is_empty() {
        return if wanted == User::default() { Ok(None) } else { Err(nobody(&wanted)) };
    }
    let started = Instant::now();
    // Who is refused in all modes is told why in the first that could have been.
    let mut first = None;
    for mode in modes.order(&request.user).into_iter().filter(|m| m.is_for(&wanted, &request.user)) {
        match mode.check(&wanted, request, authorizer).await {
            Ok(user) => {
                modes.remember(&request.user, mode);
                let (constraint, name) = match mode {
                    Mode::Legacy => (String::new(), "legacy"),
                    mode => (mode.verb(), mode.name()),
                };
                count(&IMPERSONATIONS, &IMPERSONATION_DURATIONS, name, true, started);
                return Ok(Some(Impersonated { user, constraint }));
            }
            Err(refusal) => first = first.or(Some(refusal)),
        }
    }
    count(&IMPERSONATIONS, &IMPERSONATION_DURATIONS, "", false, started);
    Err(first.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
}

/// The refusal shows the user that was asked for as Go prints one.
fn nobody(wanted: &User) -> Status {
    let list = |texts: &[String]| {
        let quoted: Vec<String> = texts.iter().map(|t| format!("{t:?}")).collect();
        format!("[]string{{{}}}", quoted.join(", "))
    };
    let groups = if wanted.groups.is_empty() { "[]string(nil)".to_string() } else { list(&wanted.groups) };
    let extra: Vec<String> = wanted.extra.iter().map(|(k, v)| format!("{k:?}:{}", list(v))).collect();
    let extra = match extra.as_slice() {
        [] => "map[string][]string(nil)".to_string(),
        pairs => format!("map[string][]string{{{}}}", pairs.join(", ")),
    };
    Status::bad_request(format!(
        "requested &user.DefaultInfo{{Name:\"\", UID:{:?}, Groups:{groups}, Extra:{extra}}} without impersonating a user name",
        wanted.uid
    ))
}

/// The node of `system:node:<name>`.
fn node_name(user: &str) -> Option<&str> {
    user.strip_prefix(NODE_PREFIX).filter(|name| names::dns1123_subdomain(name).is_empty())
}

/// A service account whose token is that of a pod on the node.
pub fn runs_on(user: &User, node: &str) -> bool {
    service_account(&user.name).is_some() && user.extra.get(NODE_NAME).is_some_and(|nodes| *nodes == [node])
}

/// Namespace and name of `system:serviceaccount:<namespace>:<name>`.
pub fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
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
        let request = Attributes::resource(&User::new("boss", &[]), "list", "", "pods", "d", "");
        impersonate(&map, &request, &Only(allowed), &LastModes::default()).await.map(|i| i.map(|i| i.user))
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
        // The first mode that could have been tells why not.
        for lacking in [&["users:jane", "groups:dev", "uids:u1"][..], &[]] {
            assert_eq!(
                run(&all, lacking).await.unwrap_err().message,
                "pods is forbidden: User \"boss\" cannot impersonate-on:user-info:list resource \"pods\" in API group \
                 \"\" in the namespace \"d\""
            );
        }
        let nobody = [("impersonate-group", "dev"), ("impersonate-uid", "7"), ("impersonate-extra-a", "b")];
        let refused = run(&nobody, &["groups:dev"]).await.unwrap_err();
        assert_eq!(
            (refused.code, refused.message.as_str()),
            (
                400,
                r#"requested &user.DefaultInfo{Name:"", UID:"7", Groups:[]string{"dev"}, Extra:map[string][]string{"a":[]string{"b"}}} without impersonating a user name"#
            )
        );
    }

    #[tokio::test]
    async fn names_are_not_ascii_alone() {
        let map = |value: &[u8]| {
            let value = http::HeaderValue::from_bytes(value).unwrap();
            http::HeaderMap::from_iter([("impersonate-user".parse().unwrap(), value)])
        };
        let request = Attributes::resource(&User::new("boss", &[]), "list", "", "pods", "d", "");
        let act = async |map| impersonate(&map, &request, &Only(&["users:jürgen"]), &LastModes::default()).await;
        assert_eq!(act(map("jürgen".as_bytes())).await.unwrap().unwrap().user.name, "jürgen");
        // Not UTF-8: nobody's name, but never that of who asks.
        assert_eq!(act(map(b"j\xfcrgen")).await.unwrap_err().code, 403);
    }

    #[tokio::test]
    async fn the_mode_that_worked_last_is_tried_first() {
        let modes = LastModes::default();
        let request = Attributes::resource(&User::new("boss", &[]), "list", "", "pods", "d", "");
        let act = async |name: &'static str| {
            let map = http::HeaderMap::from_iter([("impersonate-user".parse().unwrap(), name.parse().unwrap())]);
            impersonate(&map, &request, &Only(&["users:jane"]), &modes).await
        };
        let constrained = act("joe").await.unwrap_err().message;
        assert!(constrained.contains("cannot impersonate-on:user-info:list resource"), "{constrained}");
        assert!(act("jane").await.is_ok());
        assert_eq!(
            act("joe").await.unwrap_err().message,
            r#"users "joe" is forbidden: User "boss" cannot impersonate resource "users" in API group "" at the cluster scope"#
        );
    }

    #[tokio::test]
    async fn service_accounts_come_with_their_groups() {
        let headers = [("impersonate-user", "system:serviceaccount:ns:sa")];
        let sa = run(&headers, &["serviceaccounts:sa"]).await.unwrap().unwrap();
        assert_eq!(sa.groups, ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]);
        let anonymous = run(&[("impersonate-user", ANONYMOUS)], &["users:system:anonymous"]).await.unwrap().unwrap();
        assert_eq!(anonymous.groups, [UNAUTHENTICATED]);
    }

    /// Allows exactly the listed `verb group/resource[/sub]:name`, and remembers what it was asked.
    struct Constrained(Vec<String>, parking_lot::Mutex<Vec<String>>);

    #[async_trait]
    impl Authorizer for Constrained {
        async fn authorize(&self, a: &Attributes) -> Decision {
            let sub = if a.subresource.is_empty() { String::new() } else { format!("/{}", a.subresource) };
            let namespace = if a.namespace.is_empty() { String::new() } else { format!("{} ", a.namespace) };
            let asked = format!("{} {namespace}{}/{}{sub}:{}", a.verb, a.group, a.resource, a.name);
            let allowed = self.0.contains(&asked);
            if a.user.extra.contains_key(NODE_KEYS) {
                assert_eq!(a.user.extra.len(), 1, "{asked}");
            }
            self.1.lock().push(asked);
            if allowed { Decision::Allow(String::new()) } else { Decision::NoOpinion(String::new()) }
        }
    }

    #[tokio::test]
    async fn constrained_modes_ask_for_the_request_and_for_the_user() {
        let on = "authentication.k8s.io";
        let many: Vec<String> = (0..4).map(|i| format!("impersonate-group: g{i}")).collect();
        let many: Vec<&str> =
            std::iter::once("impersonate-user: jane").chain(many.iter().map(String::as_str)).collect();
        let daemon = User {
            extra: BTreeMap::from([(NODE_NAME.to_string(), vec!["n1".to_string()]), ("x/y".to_string(), vec![])]),
            ..User::new("system:serviceaccount:d:daemon", &[])
        };
        let boss = User::new("boss", &[]);
        let jane = "impersonate-user: jane";
        let (node, account) = ("impersonate-user: system:node:n1", "impersonate-user: system:serviceaccount:ns:sa");
        let pods = |mode: &str| format!("impersonate-on:{mode}:list d /pods:");
        // Who asks, the headers, what is allowed; the groups that they get and the constraint, or the refusal.
        let cases: Vec<(&User, Vec<&str>, Vec<String>, Result<(&str, &str), &str>)> = vec![
            (
                &boss,
                vec![jane],
                vec![pods("user-info"), format!("impersonate:user-info {on}/users:jane")],
                Ok(("system:authenticated", "impersonate:user-info")),
            ),
            // The old right still is enough, and isn't a constrained one.
            (&boss, vec![jane], vec!["impersonate /users:jane".into()], Ok(("system:authenticated", ""))),
            (
                &boss,
                vec![jane],
                vec![pods("user-info")],
                Err(
                    "users.authentication.k8s.io \"jane\" is forbidden: User \"boss\" cannot impersonate:user-info resource \"users\"",
                ),
            ),
            (
                &boss,
                vec![jane],
                vec![format!("impersonate:user-info {on}/users:jane")],
                Err("cannot impersonate-on:user-info:list resource \"pods\""),
            ),
            (
                &boss,
                many.clone(),
                vec![
                    pods("user-info"),
                    format!("impersonate:user-info {on}/users:jane"),
                    format!("impersonate:user-info {on}/groups:*"),
                ],
                Ok(("g0,g1,g2,g3,system:authenticated", "impersonate:user-info")),
            ),
            (
                &boss,
                vec![jane, "impersonate-group: system:masters"],
                vec![
                    pods("user-info"),
                    format!("impersonate:user-info {on}/users:jane"),
                    format!("impersonate:user-info {on}/groups:system:masters"),
                ],
                Err("impersonating the system:masters group is not allowed"),
            ),
            (
                &boss,
                vec![jane, "impersonate-extra-scope: x"],
                vec![pods("user-info"), format!("impersonate:user-info {on}/users:jane")],
                Err("impersonating an invalid key in extra is not allowed: "),
            ),
            (
                &boss,
                vec![account],
                vec![pods("serviceaccount"), format!("impersonate:serviceaccount ns {on}/serviceaccounts:sa")],
                Ok((
                    "system:serviceaccounts,system:serviceaccounts:ns,system:authenticated",
                    "impersonate:serviceaccount",
                )),
            ),
            (
                &boss,
                vec![node],
                vec![pods("arbitrary-node"), format!("impersonate:arbitrary-node {on}/nodes:n1")],
                Ok(("system:nodes,system:authenticated", "impersonate:arbitrary-node")),
            ),
            (
                &daemon,
                vec![node],
                vec![pods("associated-node"), format!("impersonate:associated-node {on}/nodes:*")],
                Ok(("system:nodes,system:authenticated", "impersonate:associated-node")),
            ),
            // Of another node, and with more than a name.
            (
                &daemon,
                vec!["impersonate-user: system:node:n2"],
                vec![pods("associated-node"), format!("impersonate:associated-node {on}/nodes:*")],
                Err("cannot impersonate-on:arbitrary-node:list"),
            ),
            (
                &boss,
                vec![node, "impersonate-group: g"],
                vec![pods("arbitrary-node"), format!("impersonate:arbitrary-node {on}/nodes:n1")],
                Err("users \"system:node:n1\" is forbidden: User \"boss\" cannot impersonate resource \"users\""),
            ),
        ];
        for (who, headers, allowed, expected) in cases {
            let mut map = http::HeaderMap::new();
            for header in &headers {
                let (name, value) = header.split_once(": ").unwrap();
                map.append(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
            }
            let request = Attributes::resource(who, "list", "", "pods", "d", "");
            let authorizer = Constrained(allowed, parking_lot::Mutex::default());
            let got = impersonate(&map, &request, &authorizer, &LastModes::default()).await;
            let asked = authorizer.1.lock().join(", ");
            match (got, expected) {
                (Ok(Some(i)), Ok((groups, constraint))) => {
                    assert_eq!(
                        (i.user.groups.join(","), i.constraint.as_str()),
                        (groups.to_string(), constraint),
                        "{headers:?}"
                    );
                }
                (Err(e), Err(text)) => assert!(e.message.contains(text), "{headers:?}: {e}\n{asked}"),
                (got, expected) => panic!("{headers:?}: {got:?}, not {expected:?}\n{asked}"),
            }
        }
    }
}
