//! ResourceQuotas, LimitRanges, and what keeps objects that are in use, with kubectl.

use super::namespace::Namespace;
use super::pods::{PATIENCE, apply};
use crate::cluster::Cluster;
use anyhow::{Result, ensure};
use serde_json::Value;

/// Waits until `status.used` of a quota has these amounts.
fn used(ns: &Namespace<'_>, quota: &str, want: &[(&str, &str)]) -> Result<()> {
    let mut last = String::new();
    let waited = ns.c.wait(PATIENCE, "usage", || {
        last = ns.kubectl(&["get", "resourcequota", quota, "-o", "jsonpath={.status.used}"])?.stdout;
        let now: Value = serde_json::from_str(&last).unwrap_or_default();
        Ok(want.iter().all(|(name, amount)| now[*name] == *amount))
    });
    waited.map_err(|e| e.context(format!("quota {quota} uses {last}, not {want:?}")))
}

fn refused(ns: &Namespace<'_>, line: &str, text: &str) -> Result<()> {
    let words = super::kubectl::words(line);
    let d = ns.kubectl(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
    ensure!(!d.ok && d.stderr.contains(text), "kubectl {line}: {:?}, not {text:?}", d.stderr);
    Ok(())
}

fn refused_manifest(ns: &Namespace<'_>, manifest: &str, text: &str) -> Result<()> {
    let file = ns.file("refused.yaml", manifest)?;
    refused(ns, &format!("create -f {file}"), text)
}

/// Usage follows what is made and deleted; what goes beyond is refused.
pub fn counts_objects(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "quota")?;
    let started = std::time::Instant::now();
    ns.must(
        "create quota q --hard=configmaps=3,secrets=1,services=3,services.nodeports=1,services.loadbalancers=1,\
         replicationcontrollers=1,count/replicasets.apps=1,count/deployments.apps=1,persistentvolumeclaims=1,\
         requests.storage=2Gi,gold.storageclass.storage.k8s.io/requests.storage=1Gi,resourcequotas=2",
    )?;
    // The namespace's own ConfigMap and this quota are there already.
    used(&ns, "q", &[("configmaps", "1"), ("secrets", "0"), ("resourcequotas", "1"), ("services", "0")])?;
    ensure!(started.elapsed().as_secs() < 5, "a new quota was counted after {:?}", started.elapsed());
    let hard = ns.must("get quota q -o jsonpath={.status.hard.configmaps}")?;
    ensure!(hard == "3", "status.hard: {hard}");

    ns.must("create configmap a --from-literal=x=y")?;
    ns.must("create secret generic s --from-literal=x=y")?;
    used(&ns, "q", &[("configmaps", "2"), ("secrets", "1")])?;
    refused(
        &ns,
        "create secret generic t",
        "secrets \"t\" is forbidden: exceeded quota: q, requested: secrets=1, used: secrets=1, limited: secrets=1",
    )?;
    ns.must("delete secret s")?;
    ns.must("delete configmap a")?;
    used(&ns, "q", &[("configmaps", "1"), ("secrets", "0")])?;

    ns.must("create service clusterip c --tcp=80")?;
    ns.must("create service nodeport n --tcp=80")?;
    used(&ns, "q", &[("services", "2"), ("services.nodeports", "1"), ("services.loadbalancers", "0")])?;
    refused(&ns, "create service loadbalancer l --tcp=80", "exceeded quota: q, requested: services.nodeports=1")?;
    ns.must("delete service n")?;
    used(&ns, "q", &[("services", "1"), ("services.nodeports", "0")])?;
    ns.must("create service loadbalancer l --tcp=80")?;
    used(&ns, "q", &[("services", "2"), ("services.nodeports", "1"), ("services.loadbalancers", "1")])?;
    ns.must("delete service c l")?;
    used(&ns, "q", &[("services", "0"), ("services.nodeports", "0"), ("services.loadbalancers", "0")])?;

    let set = |kind: &str, version: &str, selector: &str| {
        format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: r}}\nspec: {{replicas: 0, selector: {selector}, \
             template: {{metadata: {{labels: {{a: b}}}}, spec: {{containers: [{{name: c, image: shop/backend:v1}}]}}}}}}\n"
        )
    };
    apply(&ns, &set("ReplicaSet", "apps/v1", "{matchLabels: {a: b}}"))?;
    apply(&ns, &set("ReplicationController", "v1", "{a: b}"))?;
    used(&ns, "q", &[("count/replicasets.apps", "1"), ("replicationcontrollers", "1")])?;
    ns.must("delete rs/r rc/r")?;
    used(&ns, "q", &[("count/replicasets.apps", "0"), ("replicationcontrollers", "0")])?;

    let claim = |name: &str, class: &str, size: &str| {
        format!(
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec: {{storageClassName: '{class}', \
             accessModes: [ReadWriteOnce], resources: {{requests: {{storage: {size}}}}}}}\n"
        )
    };
    refused_manifest(
        &ns,
        &claim("big", "gold", "2Gi"),
        "requested: gold.storageclass.storage.k8s.io/requests.storage=2Gi",
    )?;
    apply(&ns, &claim("p", "gold", "1Gi"))?;
    let gold = "gold.storageclass.storage.k8s.io/requests.storage";
    used(&ns, "q", &[("persistentvolumeclaims", "1"), ("requests.storage", "1Gi"), (gold, "1Gi")])?;
    ns.must("delete pvc p")?;
    used(&ns, "q", &[("persistentvolumeclaims", "0"), ("requests.storage", "0"), (gold, "0")])?;
    ns.delete()
}

/// cpu, memory, ephemeral storage and extended resources are charged; containers must say what they take.
pub fn counts_pods(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "quota-pods")?;
    ns.must(
        "create quota q --hard=pods=2,cpu=1,memory=500Mi,requests.ephemeral-storage=30Gi,requests.example.com/dongle=3",
    )?;
    used(&ns, "q", &[("pods", "0"), ("cpu", "0")])?;
    let pod = |name: &str, resources: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{nodeSelector: {{no: where}}, terminationGracePeriodSeconds: 0, \
             containers: [{{name: c, image: shop/backend:v1, resources: {{{resources}}}}}]}}\n"
        )
    };
    let fits = "requests: {cpu: 500m, memory: 252Mi, ephemeral-storage: 30Gi, example.com/dongle: '2'}, limits: {example.com/dongle: '2'}";
    apply(&ns, &pod("a", fits))?;
    used(
        &ns,
        "q",
        &[
            ("pods", "1"),
            ("cpu", "500m"),
            ("memory", "252Mi"),
            ("requests.ephemeral-storage", "30Gi"),
            ("requests.example.com/dongle", "2"),
        ],
    )?;
    let small = "requests: {cpu: 1m, memory: 1Mi, ephemeral-storage: '0'";
    refused_manifest(
        &ns,
        &pod("b", "requests: {cpu: 600m, memory: 1Mi, ephemeral-storage: '0'}"),
        "pods \"b\" is forbidden: exceeded quota: q, requested: cpu=600m, used: cpu=500m, limited: cpu=1",
    )?;
    refused_manifest(
        &ns,
        &pod("b", &format!("{small}, example.com/dongle: '2'}}, limits: {{example.com/dongle: '2'}}")),
        "requested: requests.example.com/dongle=2, used: requests.example.com/dongle=2, limited: requests.example.com/dongle=3",
    )?;
    refused_manifest(&ns, &pod("b", "requests: {cpu: 1m}"), "failed quota: q: must specify memory for: c")?;
    // Of many at once no more than fit get in, whoever comes first.
    apply(&ns, &pod("b", &format!("{small}}}")))?;
    let waves: Vec<_> = (0..8)
        .map(|i| {
            let file = ns.file(&format!("w{i}.yaml"), &pod(&format!("w{i}"), &format!("{small}}}")))?;
            let line = ns.line(&format!("create -f {file}"));
            Ok(std::thread::spawn(move || {
                std::process::Command::new(&line[0]).args(&line[1..]).output().is_ok_and(|o| o.status.success())
            }))
        })
        .collect::<Result<_>>()?;
    let made = waves.into_iter().map(|w| w.join().unwrap_or(true)).filter(|ok| *ok).count();
    ensure!(made == 0, "{made} pods got in beyond the quota");
    used(&ns, "q", &[("pods", "2")])?;
    ns.must("delete pod a b")?;
    used(&ns, "q", &[("pods", "0"), ("cpu", "0"), ("requests.example.com/dongle", "0")])?;
    ns.delete()
}

/// Scopes: quality of service, deadlines and priority decide which quota pays.
pub fn keeps_scopes_apart(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "quota-scopes")?;
    for (name, scope) in
        [("best", "BestEffort"), ("not-best", "NotBestEffort"), ("ends", "Terminating"), ("stays", "NotTerminating")]
    {
        ns.must(&format!("create quota {name} --hard=pods=5 --scopes={scope}"))?;
    }
    let by_priority = r#"
apiVersion: v1
kind: ResourceQuota
metadata: {name: critical}
spec:
  hard: {pods: "5"}
  scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [E2E]}]}
"#;
    let class = format!("{}-high", ns.name());
    apply(&ns, &by_priority.replace("E2E", &class))?;
    c.kubectl(&["create", "priorityclass", &class, "--value=1000"])?;
    for quota in ["best", "not-best", "ends", "stays", "critical"] {
        used(&ns, quota, &[("pods", "0")])?;
    }
    let pod = |name: &str, more: &str, resources: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{nodeSelector: {{no: where}}, terminationGracePeriodSeconds: 0, {more} \
             containers: [{{name: c, image: shop/backend:v1, resources: {{{resources}}}}}]}}\n"
        )
    };
    let expect = |best: &str, not_best: &str, ends: &str, stays: &str, critical: &str| -> Result<()> {
        let all = [("best", best), ("not-best", not_best), ("ends", ends), ("stays", stays), ("critical", critical)];
        all.iter().try_for_each(|(quota, n)| used(&ns, quota, &[("pods", n)]))
    };
    apply(&ns, &pod("a", "", ""))?;
    expect("1", "0", "0", "1", "0")?;
    apply(&ns, &pod("b", "activeDeadlineSeconds: 3600,", "requests: {cpu: 1m}"))?;
    expect("1", "1", "1", "1", "0")?;
    apply(&ns, &pod("c", &format!("priorityClassName: {class},"), "limits: {memory: 1Mi}"))?;
    expect("1", "2", "1", "2", "1")?;
    ns.must("delete pod a b c")?;
    expect("0", "0", "0", "0", "0")?;
    c.kubectl(&["delete", "priorityclass", &class])?;
    ns.delete()
}

/// The object itself: its status apart from its spec, and its verbs.
pub fn is_an_object(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "quota-object")?;
    ns.must("create quota q --hard=pods=2,secrets=3")?;
    ns.must("label quota q e2e=quota")?;
    used(&ns, "q", &[("pods", "0")])?;
    ns.must(r#"patch quota q --type=merge -p {"spec":{"hard":{"pods":"7"}}}"#)?;
    c.wait(PATIENCE, "the new hard limit", || {
        Ok(ns.kubectl(&["get", "quota", "q", "-o", "jsonpath={.status.hard.pods}"])?.stdout == "7")
    })?;
    // A write to the status changes nothing else, one to the object no status.
    ns.must(r#"patch quota q --subresource=status --type=merge -p {"spec":{"hard":{"pods":"9"}},"status":{"used":{"secrets":"0"}}}"#)?;
    ns.must(r#"patch quota q --type=merge -p {"status":{"used":{"pods":"99"}}}"#)?;
    let now = ns.must("get quota q -o jsonpath={.spec.hard.pods}/{.status.used.pods}")?;
    ensure!(now == "7/0", "{now}");
    let all = c.kubectl(&["get", "quota", "-A", "-l", "e2e=quota", "-o", "name"])?;
    ensure!(all.trim() == "resourcequota/q", "{all}");
    let table = ns.must("get quota")?;
    let words: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    ensure!(words == ["NAME", "REQUEST", "LIMIT", "AGE"], "{table}");
    ensure!(table.contains("pods: 0/7, secrets: 0/3"), "{table}");
    refused(&ns, "create quota bad --hard=bananas=1", "must be a standard resource type or fully qualified")?;
    ns.must("delete quota -l e2e=quota")?;
    let left = ns.must("get quota -o name")?;
    ensure!(left.is_empty(), "{left}");
    ns.delete()
}

/// LimitRanges fill in what containers leave open, and bound what they say.
pub fn limit_ranges(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "limits")?;
    apply(
        &ns,
        r#"
apiVersion: v1
kind: LimitRange
metadata: {name: l}
spec:
  limits:
  - {type: Container, min: {cpu: 50m}, max: {cpu: 500m}, default: {cpu: 300m}, defaultRequest: {cpu: 100m}, maxLimitRequestRatio: {cpu: "4"}}
  - {type: Pod, max: {cpu: 800m}}
  - {type: PersistentVolumeClaim, max: {storage: 2Gi}}
"#,
    )?;
    let pod = |containers: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{nodeSelector: {{no: where}}, containers: [{containers}]}}\n"
        )
    };
    let one = |name: &str, r: &str| format!("{{name: {name}, image: shop/backend:v1, resources: {{{r}}}}}");
    apply(&ns, &pod(&one("a", "")))?;
    let got = ns.must(
        "get pod p -o jsonpath={.spec.containers[0].resources.requests.cpu}/{.spec.containers[0].resources.limits.cpu}",
    )?;
    ensure!(got == "100m/300m", "{got}");
    let note = ns.must(r"get pod p -o jsonpath={.metadata.annotations.kubernetes\.io/limit-ranger}")?;
    ensure!(note == "LimitRanger plugin set: cpu request for container a; cpu limit for container a", "{note}");
    ns.must("delete pod p --grace-period=0 --force")?;
    let cpu = |request: &str, limit: &str| format!("requests: {{cpu: {request}}}, limits: {{cpu: {limit}}}");
    for (containers, text) in [
        (one("a", &cpu("10m", "40m")), "minimum cpu usage per Container is 50m, but request is 10m"),
        (one("a", &cpu("500m", "600m")), "maximum cpu usage per Container is 500m, but limit is 600m"),
        (one("a", &cpu("50m", "400m")), "cpu max limit to request ratio per Container is 4, but provided ratio is 8"),
        (
            format!("{}, {}", one("a", &cpu("450m", "450m")), one("b", &cpu("450m", "450m"))),
            "maximum cpu usage per Pod is 800m, but limit is 900m",
        ),
    ] {
        refused_manifest(&ns, &pod(&containers), text)?;
    }
    ns.delete()
}

/// A claim that a pod uses, and a volume that a claim uses, go when they are free.
pub fn in_use_stays(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "in-use")?;
    let volume = format!("{}-pv", ns.name());
    apply(
        &ns,
        &format!(
            "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: {volume}}}\nspec: {{capacity: {{storage: 1Gi}}, accessModes: [ReadWriteOnce], \
             storageClassName: '', hostPath: {{path: /tmp}}}}\n"
        ),
    )?;
    apply(
        &ns,
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: c}\nspec: {storageClassName: '', accessModes: [ReadWriteOnce], \
         resources: {requests: {storage: 1Gi}}}\n",
    )?;
    let finalizers = ns.must("get pvc c -o jsonpath={.metadata.finalizers}")?;
    ensure!(finalizers == r#"["kubernetes.io/pvc-protection"]"#, "{finalizers}");
    // Bound to a node that doesn't run it: such a pod counts as a user.
    apply(
        &ns,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {nodeName: node1, terminationGracePeriodSeconds: 0, containers: [{name: c, image: \
         shop/backend:v1, command: [sleep, '1000']}], volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]}\n",
    )?;
    ns.must("delete pvc c --wait=false")?;
    std::thread::sleep(std::time::Duration::from_millis(700));
    let status = ns.must("get pvc c --no-headers")?;
    ensure!(status.contains("Terminating"), "{status}");
    ns.must("delete pod p --grace-period=0 --force")?;
    ns.must("wait --for=delete pvc/c --timeout=20s")?;

    let patch = r#"{"status":{"phase":"Bound"}}"#;
    c.kubectl(&["patch", "pv", &volume, "--subresource=status", "--type=merge", "-p", patch])?;
    c.kubectl(&["delete", "pv", &volume, "--wait=false"])?;
    std::thread::sleep(std::time::Duration::from_millis(700));
    let status = c.kubectl(&["get", "pv", &volume, "--no-headers"])?;
    ensure!(status.contains("Terminating"), "{status}");
    let patch = r#"{"status":{"phase":"Released"}}"#;
    c.kubectl(&["patch", "pv", &volume, "--subresource=status", "--type=merge", "-p", patch])?;
    c.kubectl(&["wait", "--for=delete", &format!("pv/{volume}"), "--timeout=20s"])?;
    ns.delete()
}

/// Evictions spend the budget and are refused when it is used up.
pub fn disruption_budgets(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "budgets")?;
    apply(
        &ns,
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 2, selector: {matchLabels: {app: web}}, template: \
         {metadata: {labels: {app: web}}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: shop/backend:v1, command: \
         [sleep, '1000']}]}}}\n",
    )?;
    ns.must("rollout status deployment web --timeout=60s")?;
    ns.must("create pdb keep --selector=app=web --max-unavailable=1")?;
    let allowed = |want: &str| {
        let mut last = String::new();
        let ask = [
            "get",
            "pdb",
            "keep",
            "-o",
            "jsonpath={.status.disruptionsAllowed}/{.status.currentHealthy}/{.status.desiredHealthy}/{.status.expectedPods}",
        ];
        c.wait(PATIENCE, "the budget", || {
            last = ns.kubectl(&ask)?.stdout;
            Ok(last == want)
        })
        .map_err(|e| e.context(format!("the budget says {last}, not {want}")))
    };
    allowed("1/2/1/2")?;
    let table = ns.must("get pdb")?;
    ensure!(table.contains("MIN AVAILABLE") && table.contains("ALLOWED DISRUPTIONS"), "{table}");
    ns.must("create pdb all --selector=app=none --min-available=100%")?;
    ns.must("delete pdb keep")?;
    ns.must("create pdb keep --selector=app=web --min-available=2")?;
    allowed("0/2/2/2")?;
    let pod = ns.must("get pods -l app=web -o jsonpath={.items[0].metadata.name}")?;
    let eviction = format!(
        r#"{{"apiVersion":"policy/v1","kind":"Eviction","metadata":{{"name":"{pod}","namespace":"{}"}}}}"#,
        ns.name()
    );
    let file = ns.file("eviction.json", &eviction)?;
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", ns.name());
    refused(
        &ns,
        &format!("create --raw {path} -f {file}"),
        "Cannot evict pod as it would violate the pod's disruption budget.",
    )?;
    ns.must(r#"patch pdb keep --type=merge -p {"spec":{"minAvailable":1}}"#)?;
    allowed("1/2/1/2")?;
    ns.must(&format!("create --raw {path} -f {file}"))?;
    ns.must(&format!("wait --for=delete pod/{pod} --timeout=20s"))?;
    // Another takes its place, and one more may go.
    allowed("1/2/1/2")?;
    let condition = ns.must("get pdb keep -o jsonpath={.status.conditions[0].type}={.status.conditions[0].reason}")?;
    ensure!(condition == "DisruptionAllowed=SufficientPods", "{condition}");
    // Which of two budgets shall pay, nobody says.
    ns.must("create pdb too --selector=app=web --min-available=1")?;
    let pod = ns.must("get pods -l app=web -o jsonpath={.items[0].metadata.name}")?;
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", ns.name());
    let eviction = serde_json::json!({"metadata": {"name": pod}}).to_string();
    c.access()?.inside(async |access| {
        let json = [("content-type", "application/json")];
        let r = access.http1(&crate::wire::Who::Admin).await?.send("POST", &path, &json, eviction).await?;
        let s = r.json();
        ensure!(
            r.code == 201 && s["status"] == "Failure" && s["code"] == 500 && s.get("reason").is_none(),
            "{} {s}",
            r.code
        );
        ensure!(s["message"].as_str().is_some_and(|m| m.contains("more than one PodDisruptionBudget")), "{s}");
        Ok(())
    })?;
    ns.delete()
}
