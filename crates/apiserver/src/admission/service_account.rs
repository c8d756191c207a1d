//! ServiceAccount: every pod runs as an account, gets that account's pull secrets, and finds a token, the cluster's
//! root certificate and its namespace under `/var/run/secrets/kubernetes.io/serviceaccount`.

use super::{Attributes, Operation, Plugin, forbidden};
use crate::authz::node::References;
use crate::reader::{Object, Reader, key};
use crate::tokens::WARN_ONLY_EXPIRATION_SECONDS;
use async_trait::async_trait;
use meta::status::Status;
use rand::Rng;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// An account's annotation: its pods may use no other Secrets than those that it lists.
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// In a new namespace the controller is about to make the default account.
const DEFAULT_ACCOUNT_WAIT: Duration = Duration::from_secs(1);
/// Letters of generated names: no vowels and nothing that looks alike.
const NAME_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

pub struct ServiceAccount {
    reader: Reader,
}

impl ServiceAccount {
    pub fn new(reader: Reader) -> ServiceAccount {
        ServiceAccount { reader }
    }

    async fn account(&self, namespace: &str, name: &str) -> Option<Object> {
        if let Some(found) = self.reader.get("", "serviceaccounts", namespace, name) {
            return Some(found);
        }
        if name != "default" {
            return None;
        }
        let store = self.reader.store();
        let mut watcher = store.watch(&key("", "serviceaccounts", namespace, name), store.revision()).ok()?;
        let appears = async {
            loop {
                // The account may have come between the look and the watch.
                if let Some(found) = self.reader.get("", "serviceaccounts", namespace, name) {
                    return Some(found);
                }
                watcher.next(1).await.ok()?;
            }
        };
        tokio::time::timeout(DEFAULT_ACCOUNT_WAIT, appears).await.ok().flatten()
    }
}

fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some()
}

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if !a.is_main("", "pods") || a.operation != Operation::Create {
            return Ok(());
        }
        // A pod that only mirrors a static one has no account; `validate` checks that it stays so.
        if is_mirror(a.object) {
            return Ok(());
        }
        let name = match a.object["spec"]["serviceAccountName"].as_str().unwrap_or_default() {
            "" => "default".to_string(),
            given => given.to_string(),
        };
        let Some(account) = self.account(a.namespace, &name).await else {
            return Err(forbidden(a, not_found(a.namespace, &name)));
        };
        let account = account.value();
        let spec = &mut a.object["spec"];
        spec["serviceAccountName"] = name.clone().into();
        spec["serviceAccount"] = name.into();
        let automount = spec["automountServiceAccountToken"]
            .as_bool()
            .or(account["automountServiceAccountToken"].as_bool())
            .unwrap_or(true);
        if automount {
            mount_token(spec);
        }
        let no_secrets = spec["imagePullSecrets"].as_array().is_none_or(Vec::is_empty);
        if no_secrets && account["imagePullSecrets"].as_array().is_some_and(|s| !s.is_empty()) {
            spec["imagePullSecrets"] = account["imagePullSecrets"].clone();
        }
        Ok(())
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        let new = a.is_main("", "pods") && a.operation == Operation::Create;
        let pods = a.resource.group.is_empty() && a.resource.plural == "pods";
        let debugged = pods && a.subresource == "ephemeralcontainers" && a.operation == Operation::Update;
        if new && is_mirror(a.object) {
            return mirror_is_plain(a.object).map_err(|why| forbidden(a, why));
        }
        if !new && !debugged {
            return Ok(());
        }
        // What others have made of the pod meanwhile counts.
        let spec = &a.object["spec"];
        let name = spec["serviceAccountName"].as_str().unwrap_or_default();
        let Some(account) = self.account(a.namespace, name).await else {
            return Err(forbidden(a, not_found(a.namespace, name)));
        };
        let account = account.value();
        if account["metadata"]["annotations"][ENFORCE] != "true" {
            return Ok(());
        }
        let lists: &[(&str, &str)] = match new {
            true => &[("initContainers", "init container"), ("containers", "container")],
            false => &[("ephemeralContainers", "ephemeral container")],
        };
        only_its_secrets(spec, &account, lists, new).map_err(|why| forbidden(a, why))
    }
}

fn not_found(namespace: &str, name: &str) -> String {
    format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found")
}

/// A mirror pod shows what a node runs anyway; it may not get at anything of the cluster.
fn mirror_is_plain(pod: &Value) -> Result<(), &'static str> {
    let references = References::of(pod);
    if !references.service_account.is_empty() {
        return Err("a mirror pod may not reference service accounts");
    }
    if !references.secrets.is_empty() {
        return Err("a mirror pod may not reference secrets");
    }
    let volumes = pod["spec"]["volumes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let token = |v: &Value| {
        v["projected"]["sources"].as_array().is_some_and(|s| s.iter().any(|s| !s["serviceAccountToken"].is_null()))
    };
    match volumes.iter().any(token) {
        true => Err("a mirror pod may not use ServiceAccountToken volume projections"),
        false => Ok(()),
    }
}

/// Accounts that are annotated so lend their pods only the Secrets that they list.
fn only_its_secrets(spec: &Value, account: &Value, containers: &[(&str, &str)], whole_pod: bool) -> Result<(), String> {
    let names = |list: &Value| -> BTreeSet<String> {
        list.as_array().into_iter().flatten().filter_map(|s| s["name"].as_str().map(str::to_string)).collect()
    };
    let items = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let (mountable, pull) = (names(&account["secrets"]), names(&account["imagePullSecrets"]));
    let owner = account["metadata"]["name"].as_str().unwrap_or_default();
    let not_allowed = format!("is not allowed because service account {owner} does not reference that");
    if whole_pod {
        for v in items(&spec["volumes"]) {
            if let Some(secret) = v["secret"]["secretName"].as_str().filter(|s| !mountable.contains(*s)) {
                return Err(format!("volume with secret.secretName=\"{secret}\" {not_allowed} secret"));
            }
        }
    }
    for (list, what) in containers {
        for c in items(&spec[*list]) {
            for from in items(&c["envFrom"]) {
                if let Some(secret) = from["secretRef"]["name"].as_str().filter(|s| !mountable.contains(*s)) {
                    let c = c["name"].as_str().unwrap_or_default();
                    return Err(format!(
                        "{what} {c} with envFrom referencing secret.secretName=\"{secret}\" {not_allowed} secret"
                    ));
                }
            }
            for env in items(&c["env"]) {
                let secret = env["valueFrom"]["secretKeyRef"]["name"].as_str();
                if let Some(secret) = secret.filter(|s| !mountable.contains(*s)) {
                    let (c, env) = (c["name"].as_str().unwrap_or_default(), env["name"].as_str().unwrap_or_default());
                    return Err(format!(
                        "{what} {c} with envVar {env} referencing secret.secretName=\"{secret}\" {not_allowed} secret"
                    ));
                }
            }
        }
    }
    if whole_pod {
        for (i, s) in items(&spec["imagePullSecrets"]).iter().enumerate() {
            let name = s["name"].as_str().unwrap_or_default();
            if !pull.contains(name) {
                return Err(format!("imagePullSecrets[{i}].name=\"{name}\" {not_allowed} imagePullSecret"));
            }
        }
    }
    Ok(())
}

/// Mounts the token volume in every container that has nothing at its path, and adds the volume if any does.
fn mount_token(spec: &mut Value) {
    let existing = spec["volumes"]
        .as_array()
        .and_then(|v| v.iter().filter_map(|v| v["name"].as_str()).find(|n| n.starts_with(VOLUME_PREFIX)))
        .map(str::to_string);
    let name = existing.clone().unwrap_or_else(|| volume_name(spec));
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let mounts = container["volumeMounts"].as_array();
            if mounts.is_some_and(|m| m.iter().any(|m| m["mountPath"] == MOUNT_PATH)) {
                continue;
            }
            let mount = json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH});
            match container.get_mut("volumeMounts").and_then(Value::as_array_mut) {
                Some(mounts) => mounts.push(mount),
                None => container["volumeMounts"] = json!([mount]),
            }
            needed = true;
        }
    }
    if !needed || existing.is_some() {
        return;
    }
    let volume = json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": WARN_ONLY_EXPIRATION_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}});
    match spec.get_mut("volumes").and_then(Value::as_array_mut) {
        Some(volumes) => volumes.push(volume),
        None => spec["volumes"] = json!([volume]),
    }
}

/// `kube-api-access-` and five letters, unlike any volume that is there.
fn volume_name(spec: &Value) -> String {
    let taken = |n: &str| spec["volumes"].as_array().is_some_and(|v| v.iter().any(|v| v["name"].as_str() == Some(n)));
    let mut random = rand::rng();
    loop {
        let letters: String =
            (0..5).map(|_| char::from(NAME_LETTERS[random.random_range(0..NAME_LETTERS.len())])).collect();
        let name = format!("{VOLUME_PREFIX}{letters}");
        if !taken(&name) {
            return name;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::testing::{put, reader};

    fn account(name: &str, more: Value) -> Value {
        let mut v = json!({"apiVersion":"v1","kind":"ServiceAccount","metadata":{"namespace":"d","name":name}});
        for (k, x) in more.as_object().unwrap() {
            v[k] = x.clone();
        }
        v
    }

    fn pod(spec: Value) -> Value {
        json!({"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":spec})
    }

    #[tokio::test]
    async fn a_pod_gets_the_default_account_and_its_token() {
        let r = reader(&[account("default", json!({"imagePullSecrets":[{"name":"pull"}]}))]).await;
        let p = ServiceAccount::new(r);
        let spec = json!({"initContainers":[{"name":"i"}],"containers":[{"name":"c"},
            {"name":"own","volumeMounts":[{"name":"x","mountPath":MOUNT_PATH}]}]});
        let got = Write::create("", "pods", "d", pod(spec)).admit(&p).await.unwrap();
        let spec = &got["spec"];
        assert_eq!((&spec["serviceAccountName"], &spec["serviceAccount"]), (&json!("default"), &json!("default")));
        assert_eq!(spec["imagePullSecrets"], json!([{"name":"pull"}]));
        let volume = &spec["volumes"][0];
        let name = volume["name"].as_str().unwrap();
        assert!(name.starts_with("kube-api-access-") && name.len() == 21, "{name}");
        assert_eq!(
            volume["projected"],
            json!({"defaultMode":420,"sources":[
                {"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},
                {"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},
                {"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}]})
        );
        let mount = json!([{"name":name,"readOnly":true,"mountPath":MOUNT_PATH}]);
        assert_eq!(
            (&spec["containers"][0]["volumeMounts"], &spec["initContainers"][0]["volumeMounts"]),
            (&mount, &mount)
        );
        assert_eq!(spec["containers"][1]["volumeMounts"][0]["name"], "x");
        // Running again (reinvocation) changes nothing.
        let again = Write::create("", "pods", "d", got.clone()).admit(&p).await.unwrap();
        assert_eq!(again, got);
    }

    #[tokio::test]
    async fn the_pods_automount_beats_the_accounts() {
        let r = reader(&[
            account("yes", json!({"automountServiceAccountToken":true})),
            account("no", json!({"automountServiceAccountToken":false})),
            account("nil", json!({})),
        ])
        .await;
        let p = ServiceAccount::new(r);
        for (name, own, expected) in [
            ("nil", Value::Null, true),
            ("nil", true.into(), true),
            ("nil", false.into(), false),
            ("yes", Value::Null, true),
            ("yes", true.into(), true),
            ("yes", false.into(), false),
            ("no", Value::Null, false),
            ("no", true.into(), true),
            ("no", false.into(), false),
        ] {
            let mut object = pod(json!({"serviceAccountName":name,"containers":[{"name":"c"}]}));
            if !own.is_null() {
                object["spec"]["automountServiceAccountToken"] = own.clone();
            }
            let got = Write::create("", "pods", "d", object).admit(&p).await.unwrap();
            assert_eq!(got["spec"]["volumes"].is_array(), expected, "{name} {own}");
        }
    }

    #[tokio::test]
    async fn a_missing_account_is_named_and_the_default_one_waited_for() {
        let r = reader(&[]).await;
        let p = ServiceAccount::new(r.clone());
        let object = pod(json!({"serviceAccountName":"x","containers":[]}));
        let e = Write::create("", "pods", "d", object).admit(&p).await.unwrap_err();
        assert_eq!(
            e.message,
            "pods \"p\" is forbidden: error looking up service account d/x: serviceaccount \"x\" not found"
        );
        let late = tokio::spawn(async move { put(&r, &account("default", json!({}))).await });
        let got = Write::create("", "pods", "d", pod(json!({"containers":[]}))).admit(&p).await.unwrap();
        assert_eq!(got["spec"]["serviceAccountName"], "default");
        late.await.unwrap();
    }

    #[tokio::test]
    async fn mirror_pods_have_no_account() {
        let p = ServiceAccount::new(reader(&[]).await);
        let mut object = pod(json!({"containers":[{"name":"c"}]}));
        object["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror":"x"});
        let got = Write::create("", "pods", "d", object.clone()).run(&p).await.unwrap();
        assert_eq!(got, object);
        object["spec"]["serviceAccountName"] = "default".into();
        let e = Write::create("", "pods", "d", object).run(&p).await.unwrap_err();
        assert!(e.message.ends_with("a mirror pod may not reference service accounts"), "{e}");
        for (volume, why) in [
            (json!({"secret":{"secretName":"s"}}), "a mirror pod may not reference secrets"),
            (
                json!({"projected":{"sources":[{"serviceAccountToken":{}}]}}),
                "a mirror pod may not use ServiceAccountToken volume projections",
            ),
        ] {
            let mut object = pod(json!({"containers":[{"name":"c"}],"volumes":[volume]}));
            object["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror":"x"});
            let e = Write::create("", "pods", "d", object).run(&p).await.unwrap_err();
            assert!(e.message.ends_with(why), "{e}");
        }
    }

    #[tokio::test]
    async fn an_account_may_lend_only_the_secrets_that_it_lists() {
        let lists = json!({"secrets":[{"name":"mine"}],"imagePullSecrets":[{"name":"pull"}]});
        let mut strict = account("strict", lists.clone());
        strict["metadata"]["annotations"] = json!({ENFORCE:"true"});
        let p = ServiceAccount::new(reader(&[strict, account("lax", lists)]).await);
        let env = |secret: &str| json!([{"name":"E","valueFrom":{"secretKeyRef":{"name":secret,"key":"k"}}}]);
        let because = "is not allowed because service account strict does not reference that";
        for (more, why) in [
            (
                json!({"volumes":[{"name":"v","secret":{"secretName":"mine"}}],"containers":[{"name":"c","env":env("mine")}]}),
                String::new(),
            ),
            (
                json!({"volumes":[{"name":"v","secret":{"secretName":"x"}}]}),
                format!("volume with secret.secretName=\"x\" {because} secret"),
            ),
            (
                json!({"containers":[{"name":"c","env":env("x")}]}),
                format!("container c with envVar E referencing secret.secretName=\"x\" {because} secret"),
            ),
            (
                json!({"containers":[{"name":"c","envFrom":[{"configMapRef":{"name":"x"}},{"secretRef":{"name":"x"}}]}]}),
                format!("container c with envFrom referencing secret.secretName=\"x\" {because} secret"),
            ),
            (
                json!({"initContainers":[{"name":"i","env":env("x")}]}),
                format!("init container i with envVar E referencing secret.secretName=\"x\" {because} secret"),
            ),
            (
                json!({"imagePullSecrets":[{"name":"pull"},{"name":"x"}]}),
                format!("imagePullSecrets[1].name=\"x\" {because} imagePullSecret"),
            ),
        ] {
            for name in ["strict", "lax"] {
                let mut spec = more.clone();
                spec["serviceAccountName"] = name.into();
                let got = Write::create("", "pods", "d", pod(spec)).run(&p).await.map_err(|e| e.message);
                match why.as_str() {
                    why if name == "strict" && !why.is_empty() => {
                        assert_eq!(got.unwrap_err(), format!("pods \"p\" is forbidden: {why}"));
                    }
                    _ => assert!(got.is_ok(), "{name} {got:?}"),
                }
            }
        }
        let old = pod(json!({"serviceAccountName":"strict"}));
        let mut new = old.clone();
        new["spec"]["ephemeralContainers"] = json!([{"name":"e","env":env("x")}]);
        let write = Write::update("", "pods", "d", old, new).sub("ephemeralcontainers", "p");
        let e = write.validate(&p).await.unwrap_err();
        assert!(e.message.contains("ephemeral container e with envVar E referencing"), "{e}");
    }

    #[tokio::test]
    async fn an_account_that_others_have_set_must_exist() {
        let p = ServiceAccount::new(reader(&[]).await);
        let object = pod(json!({"serviceAccountName":"x"}));
        let e = Write::create("", "pods", "d", object).validate(&p).await.unwrap_err();
        assert!(e.message.contains("error looking up service account d/x"), "{e}");
    }
}
