//! Roles and bindings as administrators keep them: `kubectl auth reconcile`, and refusals that kubectl understands.

use super::namespace::Namespace;
use crate::cluster::Cluster;
use crate::wire::Who;
use anyhow::{Result, ensure};
use serde_json::{Value, json};

fn rules(ns: &Namespace<'_>) -> Result<Vec<String>> {
    let role: Value = serde_json::from_str(&ns.must("get role keeper -o json")?)?;
    let list = |v: &Value| {
        v.as_array().map(|a| a.iter().filter_map(|x| x.as_str()).collect::<Vec<_>>().join(",")).unwrap_or_default()
    };
    let rules = role["rules"].as_array().cloned().unwrap_or_default();
    let mut all: Vec<String> =
        rules.iter().map(|r| format!("{} {}", list(&r["verbs"]), list(&r["resources"]))).collect();
    all.sort();
    Ok(all)
}

pub fn roles_are_reconciled(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "reconcile")?;
    let wanted = |verbs: &[&str], subject: &str, role: &str| {
        json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "keeper", "namespace": ns.name(),
                "labels": {"kept": "yes"}}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": verbs}]},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "keeper", "namespace": ns.name()},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
                "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": subject}]},
        ]})
        .to_string()
    };
    let reconcile =
        |text: &str, more: &[&str]| c.kubectl_input(&[&["auth", "reconcile", "-f", "-"], more].concat(), text);
    let subjects = || ns.must("get rolebinding keeper -o jsonpath={.subjects[*].name}");
    // Made where they aren't.
    let said = reconcile(&wanted(&["get", "list"], "jane", "keeper"), &[])?;
    ensure!(
        said.contains("role.rbac.authorization.k8s.io/keeper reconciled") && said.contains("rolebinding"),
        "{said}"
    );
    ensure!(rules(&ns)? == ["get,list pods"] && subjects()? == "jane", "{:?}", rules(&ns)?);
    ensure!(c.kubectl_run(&["auth", "can-i", "list", "pods", "-n", ns.name(), "--as=jane"])?.ok, "jane may");
    // What is missing is added, what is more stays.
    reconcile(&wanted(&["watch"], "john", "keeper"), &[])?;
    let now = rules(&ns)?.join("; ");
    ensure!(["get", "list", "watch"].iter().all(|v| now.contains(v)), "{now}");
    ensure!(subjects()?.split(' ').collect::<Vec<_>>() == ["jane", "john"], "{}", subjects()?);
    // Dry runs change nothing.
    let before = ns.must("get role keeper -o jsonpath={.metadata.resourceVersion}")?;
    reconcile(&wanted(&["delete"], "jane", "keeper"), &["--dry-run=client"])?;
    ensure!(ns.must("get role keeper -o jsonpath={.metadata.resourceVersion}")? == before, "a dry run wrote");
    // Unless it shall go.
    reconcile(&wanted(&["get"], "john", "keeper"), &["--remove-extra-permissions", "--remove-extra-subjects"])?;
    ensure!(rules(&ns)? == ["get pods"] && subjects()? == "john", "{:?} {}", rules(&ns)?, subjects()?);
    ensure!(!c.kubectl_run(&["auth", "can-i", "get", "pods", "-n", ns.name(), "--as=jane"])?.ok, "jane may no more");
    // A binding to another role can't be changed, so it is made anew.
    let uid = || ns.must("get rolebinding keeper -o jsonpath={.metadata.uid}");
    let first = uid()?;
    reconcile(&wanted(&["get"], "john", "other"), &[])?;
    ensure!(uid()? != first && ns.must("get rolebinding keeper -o jsonpath={.roleRef.name}")? == "other", "the role");
    // Nobody gives what they haven't got.
    ns.must("create rolebinding roles --clusterrole=admin --user=jane")?;
    let mut more = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "keeper", "namespace": ns.name()},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    let file = ns.file("more.json", &more.to_string())?;
    let said = c.kubectl_fails(&["auth", "reconcile", "-f", &file, "--as=jane"])?;
    ensure!(said.contains("is attempting to grant RBAC permissions not currently held"), "{said}");
    more["rules"] = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    let file = ns.file("less.json", &more.to_string())?;
    ensure!(c.kubectl_run(&["auth", "reconcile", "-f", &file, "--as=jane"])?.ok, "what she has she may give");
    Ok(())
}

/// A right to things by name is none to others, however the selector that names them is written.
pub fn rights_to_names(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "names")?;
    for name in ["mine", "other"] {
        ns.must(&format!("create configmap {name}"))?;
    }
    ns.must("create role one --resource=configmaps --resource-name=mine --verb=list,deletecollection")?;
    ns.must("create rolebinding one --role=one --user=jane")?;
    let path = |selectors: &str| format!("/api/v1/namespaces/{}/configmaps?{selectors}", ns.name());
    let get = |selectors: &str| c.kubectl_run(&["get", "--raw", &path(selectors), "--as=jane"]);
    let mine = get("fieldSelector=metadata.name%3Dmine")?;
    ensure!(mine.ok && mine.stdout.contains("\"mine\"") && !mine.stdout.contains("\"other\""), "{}", mine.stdout);
    for selectors in [
        "",
        "fieldSelector=metadata.name%3Dother",
        // The first of several counts, for the one who judges as for the one who selects.
        "fieldSelector=&fieldSelector=metadata.name%3Dmine",
        "fieldSelector=metadata.name!%3Dx&fieldSelector=metadata.name%3Dmine",
        // One term, about a namespace with a comma in its name.
        "fieldSelector=metadata.namespace!%3Dx%5C%2Cmetadata.name%3Dmine",
    ] {
        let d = get(selectors)?;
        ensure!(!d.ok && d.stderr.contains("Forbidden"), "list {selectors}: {}{}", d.stdout, d.stderr);
        let d = c.kubectl_run(&["delete", "--raw", &path(selectors), "--as=jane"])?;
        ensure!(!d.ok && d.stderr.contains("Forbidden"), "delete {selectors}: {}{}", d.stdout, d.stderr);
    }
    ns.must("get configmap other mine")?;
    ns.delete()
}

/// Acting as somebody else: each part of the other identity needs its own right, and RBAC judges the other one.
pub fn people_act_as_others(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "impersonate")?;
    let whoami = |args: &[&str]| -> Result<Value> {
        let d = c.kubectl_run(&[&["auth", "whoami", "-o", "json"], args].concat())?;
        ensure!(d.ok, "{args:?}: {}", d.stderr);
        Ok(serde_json::from_str::<Value>(&d.stdout)?["status"]["userInfo"].clone())
    };
    let full = [
        "--as=jane",
        "--as-uid=u-1",
        "--as-group=dev",
        "--as-group=ops",
        "--as-user-extra=example.org/scope=view",
        "--as-user-extra=example.org/scope=edit",
    ];
    ensure!(
        whoami(&full)?
            == json!({"username": "jane", "uid": "u-1", "groups": ["dev", "ops", "system:authenticated"],
                      "extra": {"example.org/scope": ["view", "edit"]}}),
        "{}",
        whoami(&full)?
    );
    ensure!(whoami(&["--as=jürgen"])?["username"] == "jürgen", "names are not ASCII alone");
    let account = whoami(&["--as=system:serviceaccount:default:bot"])?;
    ensure!(
        account["groups"]
            == json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]),
        "{account}"
    );
    // Who is nobody may not even ask that.
    ensure!(!c.kubectl_run(&["auth", "whoami", "--as=system:anonymous"])?.ok, "anonymous");
    // A group without a user is a mistake that kubectl itself tells.
    let said = c.kubectl_fails(&["get", "--raw", "/api", "--as-group=dev"])?;
    ensure!(said.contains("without impersonating a user"), "{said}");

    // Of many groups, each in a header of its own.
    let groups: Vec<String> = (0..300).map(|i| format!("group-{i}")).collect();
    c.access()?.inside(async |access| {
        let mut headers: Vec<(&str, &str)> = groups.iter().map(|g| ("impersonate-group", g.as_str())).collect();
        headers.extend([("impersonate-user", "jane"), ("content-type", "application/json")]);
        for mut api in [access.http1(&Who::Admin).await?, access.http2(&Who::Admin).await?] {
            let r = api.send("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", &headers, "{}").await?;
            let told = r.json()["status"]["userInfo"]["groups"].as_array().map(Vec::len);
            ensure!(r.code == 201 && told == Some(301), "{} {told:?}", r.code);
        }
        Ok(())
    })?;

    // Who may act as jane may not act as anybody, in her groups, or with her other properties.
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": ns.name()},
    "rules": [
        {"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"], "resourceNames": ["jane"]},
        {"apiGroups": [""], "resources": ["groups"], "verbs": ["impersonate"], "resourceNames": ["dev"]},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scope"], "verbs": ["impersonate"], "resourceNames": ["view"]},
        // KEP-5284: jim, and only for this.
        {"apiGroups": ["authentication.k8s.io"], "resources": ["users"], "verbs": ["impersonate:user-info"], "resourceNames": ["jim"]},
        {"nonResourceURLs": ["/api"], "verbs": ["impersonate-on:user-info:get"]},
    ]});
    c.apply(&role.to_string())?;
    c.kubectl(&["create", "serviceaccount", "boss", "-n", ns.name()])?;
    let boss = format!("--serviceaccount={}:boss", ns.name());
    c.kubectl(&["create", "clusterrolebinding", ns.name(), &format!("--clusterrole={}", ns.name()), &boss])?;
    let token = c.kubectl(&["create", "token", "boss", "-n", ns.name()])?.trim().to_string();
    let user = format!("system:serviceaccount:{}:boss", ns.name());
    c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Token(token)).await?;
        for (headers, code, part) in [
            // The first mode that might have been tells what it lacks,
            (&[("impersonate-user", "john")][..], 403, "cannot impersonate:user-info resource \\\"users\\\""),
            (&[("impersonate-user", "jane")], 200, ""),
            (
                &[("impersonate-user", "jane"), ("impersonate-group", "dev"), ("impersonate-extra-scope", "view")],
                200,
                "",
            ),
            // and that which worked last is the first.
            (&[("impersonate-user", "john")], 403, "cannot impersonate resource \\\"users\\\""),
            (
                &[("impersonate-user", "jane"), ("impersonate-group", "system:masters")],
                403,
                "cannot impersonate resource \\\"groups\\\"",
            ),
            (
                &[("impersonate-user", "jane"), ("impersonate-extra-scope", "edit")],
                403,
                "cannot impersonate resource \\\"userextras/scope\\\"",
            ),
            (
                &[("impersonate-user", "jane"), ("impersonate-uid", "u-1")],
                403,
                "cannot impersonate resource \\\"uids\\\"",
            ),
            (
                &[("impersonate-user", "system:serviceaccount:kube-system:x")],
                403,
                "cannot impersonate resource \\\"serviceaccounts\\\"",
            ),
        ] {
            let r = api.send("GET", "/api", headers, "").await?;
            ensure!(r.code == code && r.text().contains(part), "{headers:?}: {} {}", r.code, r.text());
            ensure!(code == 200 || r.text().contains(&user), "who tried is told: {}", r.text());
        }
        for (path, code) in [("/api", 200), ("/apis", 403)] {
            let r = api.send("GET", path, &[("impersonate-user", "jim")], "").await?;
            ensure!(r.code == code, "as jim: {path}: {} {}", r.code, r.text());
        }
        Ok(())
    })?;
    c.kubectl(&["delete", "clusterrolebinding,clusterrole", ns.name()])?;

    // A review about a selector is judged like the request with that selector (KEP-4601); RBAC looks at neither.
    ns.must("create rolebinding view --clusterrole=view --user=jane")?;
    for selector in [
        json!({"fieldSelector": {"rawSelector": "spec.nodeName=n1"}}),
        json!({"labelSelector": {"requirements": [{"key": "app", "operator": "In", "values": ["web"]}]}}),
    ] {
        let mut asked = json!({"namespace": ns.name(), "verb": "list", "resource": "pods", "version": "v1"});
        for (k, v) in selector.as_object().into_iter().flatten() {
            asked[k] = v.clone();
        }
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": "jane", "resourceAttributes": asked}});
        let said = c.kubectl_input(&["create", "-o", "json", "-f", "-"], &review.to_string())?;
        let said: Value = serde_json::from_str(&said)?;
        ensure!(said["status"]["allowed"] == true && said["spec"]["resourceAttributes"] == asked, "{said}");
    }
    Ok(())
}
