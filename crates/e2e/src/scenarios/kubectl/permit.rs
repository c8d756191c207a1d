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
