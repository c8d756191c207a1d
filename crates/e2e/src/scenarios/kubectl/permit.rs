//! Who may do what, and tokens that are good for just that.

use super::{PATIENCE, run, words};
use crate::cluster::Cluster;
use crate::scenarios::namespace::Namespace;
use anyhow::{Result, ensure};

/// Who am I, what may I, and tokens that are good for just that.
pub fn asks_for_permission(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "auth")?;
    let n = ns.name();
    run(
        &ns,
        &[
            ("auth whoami", &["kubernetes-admin", "system:masters", "system:authenticated"]),
            ("auth whoami --as jane --as-group staff", &["Username    jane", "[staff system:authenticated]"]),
            ("auth can-i create pods", &["yes"]),
            ("auth can-i '*' '*'", &["yes"]),
            ("auth can-i --list", &["*.*", "[/healthz]"]),
            ("!auth can-i list pods --as jane", &["no"]),
            ("create serviceaccount robot", &[]),
            ("create role reader --verb=get,list --resource=configmaps", &[]),
            (&format!("create rolebinding reader --role=reader --serviceaccount={n}:robot"), &[]),
            (&format!("auth can-i list configmaps --as system:serviceaccount:{n}:robot"), &["yes"]),
            (&format!("!auth can-i delete configmaps --as system:serviceaccount:{n}:robot"), &["no"]),
            (&format!("auth can-i --list --as system:serviceaccount:{n}:robot"), &["configmaps", "[get list]"]),
            (
                "!get pods --as jane",
                &[
                    "Error from server (Forbidden): pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace",
                ],
            ),
        ],
    )?;
    let token = ns.must("create token robot --duration=10m")?;
    let with = |args: &str| {
        let mut all = vec!["--kubeconfig=/dev/null".to_string(), "--server=https://127.0.0.1:6443".into()];
        all.push(format!("--certificate-authority={}", c.data_dir().join("pki/ca.crt").display()));
        all.push(format!("--token={}", token.trim()));
        all.extend(words(args));
        ns.kubectl(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let d = with("auth whoami")?;
    ensure!(d.ok && d.stdout.contains(&format!("system:serviceaccount:{n}:robot")), "{}{}", d.stdout, d.stderr);
    let d = with("get configmaps -o name")?;
    ensure!(d.ok && d.stdout.contains("kube-root-ca.crt"), "{}{}", d.stdout, d.stderr);
    let d = with("get secrets")?;
    ensure!(!d.ok && d.stderr.contains("Forbidden"), "{}{}", d.stdout, d.stderr);
    // A token dies with its account.
    run(&ns, &[("delete serviceaccount robot", &[])])?;
    c.wait(PATIENCE, "the token to be refused", || {
        let d = with("get configmaps")?;
        Ok(!d.ok && d.stderr.contains("Unauthorized"))
    })?;
    ns.delete()
}

/// Tokens that live as long as a pod, a Secret or a node.
pub fn binds_tokens(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "bound")?;
    let n = ns.name();
    ns.must("create serviceaccount robot")?;
    ns.must(&format!("create rolebinding robot --clusterrole=view --serviceaccount={n}:robot"))?;
    ns.must("create secret generic anchor --from-literal=a=b")?;
    let overrides = r#"{"spec":{"serviceAccountName":"robot"}}"#;
    ns.must(&format!("run bound --image=shop/backend:v1 --overrides='{overrides}'"))?;
    ns.must("wait --for=condition=Ready pod/bound --timeout=30s")?;
    let with = |token: &str, line: &str| {
        let mut all = vec!["--kubeconfig=/dev/null".to_string(), "--server=https://127.0.0.1:6443".into()];
        all.push(format!("--certificate-authority={}", c.data_dir().join("pki/ca.crt").display()));
        all.push(format!("--token={}", token.trim()));
        all.extend(words(line));
        ns.kubectl(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let uid = ns.must("get secret anchor -o jsonpath={.metadata.uid}")?;
    for (what, bound) in [
        ("pod", "--bound-object-kind=Pod --bound-object-name=bound".to_string()),
        ("secret", format!("--bound-object-kind=Secret --bound-object-name=anchor --bound-object-uid={uid}")),
    ] {
        let token = ns.must(&format!("create token robot --duration=10m {bound}"))?;
        let d = with(&token, "get configmaps -o name")?;
        ensure!(d.ok && d.stdout.contains("kube-root-ca.crt"), "bound to a {what}: {}{}", d.stdout, d.stderr);
        let name = if what == "pod" { "pod bound --grace-period=1" } else { "secret anchor" };
        ns.must(&format!("delete {name}"))?;
        c.wait(PATIENCE, &format!("the {what}'s token to be refused"), || {
            let d = with(&token, "get configmaps")?;
            Ok(!d.ok && d.stderr.contains("Unauthorized"))
        })?;
    }
    let token = ns.must("create token robot --audience=vault --audience=other --duration=11m -o json")?;
    let review: serde_json::Value = serde_json::from_str(&token)?;
    ensure!(review["kind"] == "TokenRequest" && review["spec"]["audiences"][0] == "vault", "{token}");
    ensure!(review["spec"]["expirationSeconds"] == 660, "{token}");
    let d = with(review["status"]["token"].as_str().unwrap_or_default(), "get configmaps")?;
    ensure!(!d.ok && d.stderr.contains("Unauthorized"), "a token for others was taken: {}{}", d.stdout, d.stderr);
    run(
        &ns,
        &[
            ("!create token nobody", &["serviceaccounts \"nobody\" not found"]),
            ("!create token robot --duration=1s", &["may not specify a duration less than 10 minutes"]),
            ("!create token robot --bound-object-kind=Pod --bound-object-name=nobody", &["pods \"nobody\" not found"]),
            (
                "!create token robot --bound-object-kind=Secret --bound-object-name=anchor --bound-object-uid=zz",
                &["secrets \"anchor\" not found"],
            ),
        ],
    )?;
    ns.delete()
}
