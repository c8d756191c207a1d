//! Pod Security, the plugins that are chosen by flags, and warnings, as kubectl shows them.

use super::namespace::Namespace;
use super::pods::apply;
use crate::cluster::Cluster;
use anyhow::{Result, ensure};

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {nodeSelector: {no: where}, hostPID: true, containers: [{name: a, image: shop/backend:v1}]}\n";

fn says(ns: &Namespace<'_>, line: &str, ok: bool, text: &str) -> Result<()> {
    let words = super::kubectl::words(line);
    let d = ns.kubectl(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
    ensure!(d.ok == ok && d.stderr.contains(text), "kubectl {line}: {:?}, not {text:?}", d.stderr);
    Ok(())
}

/// Labels of a namespace refuse, warn, and tell of the pods that are there.
pub fn labels_decide(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "pod-security")?;
    let file = ns.file("pod.yaml", POD)?;
    apply(&ns, POD)?;
    let label = |text: &str| format!("label namespace {} --overwrite pod-security.kubernetes.io/{text}", ns.name());
    let raised = format!(
        "Warning: existing pods in namespace \"{}\" violate the new PodSecurity enforce level \"baseline:latest\"",
        ns.name()
    );
    says(&ns, &label("enforce=baseline"), true, &raised)?;
    ns.must("delete pod p --grace-period=0 --force")?;
    says(
        &ns,
        &format!("create -f {file}"),
        false,
        "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)",
    )?;
    says(&ns, &label("enforce=privileged"), true, "")?;
    says(&ns, &label("warn=restricted"), true, "")?;
    let warned = "Warning: would violate PodSecurity \"restricted:latest\": host namespaces (hostPID=true), allowPrivilegeEscalation != false \
                  (container \"a\" must set securityContext.allowPrivilegeEscalation=false)";
    says(&ns, &format!("create -f {file}"), true, warned)?;
    says(
        &ns,
        "create deployment d --image=shop/backend:v1 --replicas=0",
        true,
        "Warning: would violate PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"backend\" must set",
    )?;
    // Older versions know fewer rules.
    says(&ns, &label("warn-version=v1.7"), true, "")?;
    let old = "Warning: would violate PodSecurity \"restricted:v1.7\": runAsNonRoot != true (pod or container \"backend\" must set \
               securityContext.runAsNonRoot=true)";
    says(&ns, "create deployment e --image=shop/backend:v1 --replicas=0", true, old)?;
    says(&ns, &label("enforce=strict"), false, "must be one of privileged, baseline, restricted")?;
    ns.delete()
}

/// Plugins by flag, with their configuration file.
pub fn flags_choose(c: &Cluster) -> Result<()> {
    let config = c.dir().join("admission.yaml");
    std::fs::write(
        &config,
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: PodSecurity\n  configuration:\n    apiVersion: \
         pod-security.admission.config.k8s.io/v1\n    kind: PodSecurityConfiguration\n    defaults: {enforce: baseline}\n    exemptions: \
         {namespaces: [kube-system]}\n- name: EventRateLimit\n  configuration: {limits: [{type: Namespace, qps: 1, burst: 2}]}\n",
    )?;
    c.serve(&[
        "--enable-admission-plugins=AlwaysPullImages,EventRateLimit,NamespaceAutoProvision,DenyServiceExternalIPs",
        "--disable-admission-plugins=DefaultTolerationSeconds",
        &format!("--admission-control-config-file={}", config.display()),
    ])?;
    c.wait_api()?;
    let ns = Namespace::new(c, "flags")?;
    let file = ns.file("pod.yaml", POD)?;
    says(&ns, &format!("create -f {file}"), false, "violates PodSecurity \"baseline:latest\"")?;
    says(&ns, &format!("create -n kube-system -f {file} --dry-run=server"), true, "")?;
    let plain = POD
        .replace("hostPID: true, ", "")
        .replace("image: shop/backend:v1", "image: shop/backend:v1, imagePullPolicy: Never");
    apply(&ns, &plain)?;
    let got = ns.must("get pod p -o jsonpath={.spec.containers[0].imagePullPolicy}{.spec.tolerations}")?;
    ensure!(got == "Always", "{got}");
    says(&ns, "create service clusterip s --tcp=80", true, "")?;
    let external = r#"patch service s -p {"spec":{"externalIPs":["1.2.3.4"]}}"#;
    says(&ns, external, false, "Use of external IPs is denied by admission control.")?;
    c.kubectl(&["-n", "made-by-writing", "create", "configmap", "c"])?;
    c.kubectl(&["get", "namespace", "made-by-writing"])?;
    Ok(())
}

/// What is allowed but rarely meant is told when it is written.
pub fn kubectl_shows_warnings(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "warnings")?;
    let pod = |more: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{{name: c, image: i, {more}}}]}}\n"
        )
    };
    for (name, manifest, text) in [
        (
            "env.yaml",
            pod("env: [{name: A, value: a}, {name: A, value: b}]"),
            "Warning: spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
        ),
        (
            "ports.yaml",
            pod("ports: [{containerPort: 80}, {containerPort: 80}]"),
            "Warning: spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
        ),
        (
            "service.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 1}], trafficDistribution: PreferClose}\n".to_string(),
            "Warning: spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
        ),
        (
            "ingress.yaml",
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: i, annotations: {kubernetes.io/ingress.class: x}}\nspec: \
             {defaultBackend: {service: {name: s, port: {number: 1}}}}\n"
                .to_string(),
            "Warning: annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead",
        ),
    ] {
        let file = ns.file(name, &manifest)?;
        says(&ns, &format!("create --dry-run=server -f {file}"), true, text)?;
    }
    ns.delete()
}
