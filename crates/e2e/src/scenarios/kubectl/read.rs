//! Looking: tables, descriptions, formats, selectors, watches, discovery.

use super::{PATIENCE, run, watching};
use crate::cluster::Cluster;
use crate::scenarios::namespace::Namespace;
use anyhow::{Result, ensure};
use std::process::Stdio;
use std::time::Duration;

/// Every generator of `kubectl create`, then each object as a table and described.
pub fn creates_and_describes(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "create")?;
    let n = ns.name();
    let cluster_wide = |kind: &str| format!("{kind} {n}");
    run(
        &ns,
        &[
            ("create configmap cm --from-literal=color=blue", &["configmap/cm created"]),
            ("create secret generic sec --from-literal=p=q", &["secret/sec created"]),
            (
                "create secret docker-registry reg --docker-username=a --docker-password=b --docker-email=c@d",
                &["secret/reg created"],
            ),
            (
                "create deployment dep --image=example.com/app:1 --replicas=0 --port=8080",
                &["deployment.apps/dep created"],
            ),
            ("create service clusterip one --tcp=80:8080", &["service/one created"]),
            ("create service nodeport two --tcp=80:8080", &["service/two created"]),
            ("create service loadbalancer three --tcp=80:8080", &["service/three created"]),
            ("create service externalname four --external-name=four.example.com", &["service/four created"]),
            ("create role reader --verb=get,list --resource=pods,deployments.apps", &["reader created"]),
            (
                "create rolebinding readers --role=reader --serviceaccount=default:default --user=jane --group=staff",
                &["readers created"],
            ),
            ("create job work --image=example.com/app:1 -- true", &["job.batch/work created"]),
            (
                "create cronjob nightly --image=example.com/app:1 --schedule='0 3 * * *' -- true",
                &["cronjob.batch/nightly created"],
            ),
            ("create job by-hand --from=cronjob/nightly", &["job.batch/by-hand created"]),
            ("create quota limit --hard=pods=10,services=20,secrets=30", &["resourcequota/limit created"]),
            (
                "create ingress door --rule=example.com/path*=one:80,tls=cert",
                &["ingress.networking.k8s.io/door created"],
            ),
            ("create pdb keep --selector=app=dep --min-available=1", &["poddisruptionbudget.policy/keep created"]),
            ("create serviceaccount robot", &["serviceaccount/robot created"]),
            ("create token robot --duration=20m", &["ey"]),
            ("autoscale deployment dep --min=1 --max=3 --cpu-percent=50", &["dep autoscaled"]),
            (&format!("create clusterrole {n} --verb=get --resource=nodes"), &["created"]),
            (&format!("create clusterrolebinding {n} --clusterrole={n} --user=jane"), &["created"]),
            (&format!("create priorityclass {n} --value=7 --description=seven"), &["created"]),
            ("!create configmap cm", &["configmaps \"cm\" already exists"]),
            ("!create configmap Bad_Name", &["a lowercase RFC 1123 subdomain must consist of"]),
            ("!create service clusterip one --tcp=80", &["services \"one\" already exists"]),
            // Tables.
            ("get configmap cm", &["NAME   DATA   AGE", "cm     1"]),
            (
                "get secret",
                &[
                    "NAME   TYPE                             DATA   AGE",
                    "reg    kubernetes.io/dockerconfigjson   1",
                    "sec    Opaque",
                ],
            ),
            (
                "get service -o wide",
                &[
                    "TYPE           CLUSTER-IP",
                    "SELECTOR",
                    "ExternalName   <none>",
                    "four.example.com",
                    "<pending>",
                    "80:3",
                ],
            ),
            (
                "get deployment -o wide",
                &[
                    "READY   UP-TO-DATE   AVAILABLE   AGE   CONTAINERS   IMAGES",
                    "dep    0/0",
                    "example.com/app:1   app=dep",
                ],
            ),
            ("get job", &["NAME      STATUS", "COMPLETIONS   DURATION   AGE", "0/1"]),
            (
                "get cronjob",
                &["SCHEDULE    TIMEZONE   SUSPEND   ACTIVE   LAST SCHEDULE   AGE", "0 3 * * *   <none>     False"],
            ),
            ("get ingress", &["CLASS    HOSTS         ADDRESS   PORTS", "<none>   example.com             80, 443"]),
            ("get pdb", &["MIN AVAILABLE   MAX UNAVAILABLE   ALLOWED DISRUPTIONS   AGE", "keep   1               N/A"]),
            ("get hpa", &["REFERENCE        TARGETS", "Deployment/dep   cpu: <unknown>/50%   1         3"]),
            ("get role", &["CREATED AT", "reader"]),
            (
                "get rolebinding -o wide",
                &["ROLE          AGE   USERS   GROUPS   SERVICEACCOUNTS", "jane    staff    default/default"],
            ),
            ("get endpoints", &["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"]),
            ("get serviceaccount", &["robot", "default"]),
            (
                &format!("get priorityclass {n} -o wide"),
                &["VALUE   GLOBAL-DEFAULT", "PREEMPTIONPOLICY", "7       false"],
            ),
            ("get all", &["service/one", "deployment.apps/dep", "job.batch/work", "cronjob.batch/nightly"]),
            (
                "get namespace,node,storageclass,ingressclass,flowschema,clusterrole",
                &["namespace/default", "node/node1", "clusterrole.rbac.authorization.k8s.io/cluster-admin"],
            ),
            // Descriptions.
            ("describe configmap cm", &["color:\n----\nblue"]),
            ("describe secret sec", &["p:  1 bytes"]),
            (
                "describe deployment dep",
                &["0 desired", "25% max unavailable, 25% max surge", "Port:          8080/TCP"],
            ),
            (
                "describe service two",
                &["NodePort:", "TargetPort:               8080/TCP", "Session Affinity:         None"],
            ),
            ("describe role reader", &["deployments.apps  []                 []              [get list]"]),
            ("describe rolebinding readers", &["ServiceAccount  default  default"]),
            ("describe job work", &["Backoff Limit:    6", "batch.kubernetes.io/job-name=work"]),
            ("describe cronjob nightly", &["Concurrency Policy:            Allow"]),
            ("describe ingress door", &["/path   one:80 ()", "cert terminates example.com"]),
            ("describe pdb keep", &["Min available:  1"]),
            ("describe quota limit", &["Name:       limit"]),
            ("describe serviceaccount robot", &["Image pull secrets:  <none>"]),
            ("describe hpa dep", &["resource cpu on pods  (as a percentage of request):  <unknown> / 50%"]),
            (&format!("describe namespace {n}"), &["Status:       Active", "Name:     limit"]),
            (&format!("describe priorityclass {n}"), &["Description:       seven"]),
            (
                "describe node node1",
                &["Roles:              control-plane", "Ready            True", "PodCIDR:", "Allocated resources:"],
            ),
        ],
    )?;
    for kind in ["clusterrole", "clusterrolebinding", "priorityclass"] {
        run(&ns, &[(&format!("delete {}", cluster_wide(kind)), &["deleted"])])?;
    }
    ns.delete()
}

/// All that can be listed is, as a table of people's and machines' kinds.
pub fn lists_every_kind(c: &Cluster) -> Result<()> {
    let names = c.kubectl(&["api-resources", "--verbs=list", "-o", "name"])?;
    let names: Vec<&str> = names.lines().collect();
    ensure!(names.len() > 45, "only {} kinds: {names:?}", names.len());
    c.kubectl(&["get", &names.join(","), "-A", "-o", "wide"])?;
    let all = c.kubectl(&["get", &names.join(","), "-A", "-o", "name"])?;
    for want in ["namespace/default", "lease.coordination.k8s.io/node1", "clusterrole.rbac.authorization.k8s.io/view"] {
        ensure!(all.contains(want), "no {want} in all objects");
    }
    Ok(())
}

/// An object of each kind that has no generator: applied, printed, described, deleted.
pub fn takes_every_kind(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "kinds")?;
    let text = include_str!("../../../testdata/kinds.yaml").replace("NAMESPACE", ns.name());
    let file = ns.file("kinds.yaml", &text)?;
    let kinds = text.matches("\nkind: ").count();
    let applied = ns.must(&format!("apply -f {file}"))?;
    ensure!(
        applied.lines().filter(|l| l.ends_with(" created")).count() == kinds,
        "not all {kinds} were created:\n{applied}"
    );
    // Older kubectls ask for these in versions that are gone.
    const NOT_DESCRIBED: [&str; 3] = ["kind: VolumeAttributesClass", "kind: ServiceCIDR", "kind: IPAddress"];
    let describable: Vec<&str> = text.split("---\n").filter(|t| !NOT_DESCRIBED.iter().any(|k| t.contains(k))).collect();
    let described = ns.kubectl(&["describe", "-f", &ns.file("describable.yaml", &describable.join("---\n"))?])?;
    let count = described.stdout.lines().filter(|l| l.starts_with("Name:")).count();
    let result = run(
        &ns,
        &[(
            &format!("get -f {file} -o wide"),
            &[
                "DESIRED   CURRENT   READY   UP-TO-DATE   AVAILABLE   NODE SELECTOR",
                "CONTROLLER   REVISION   AGE",
                "STATUS    VOLUME   CAPACITY   ACCESS MODES   STORAGECLASS",
                "POD-SELECTOR   AGE",
                "Deployment/d   memory: <unknown>/10Mi   1         3",
                "N/A             25%",
                "ADDRESSTYPE   PORTS   ENDPOINTS",
                "192.0.2.8:81",
                "PROVISIONER        RECLAIMPOLICY   VOLUMEBINDINGMODE",
                "ATTACHREQUIRED   PODINFOONMOUNT",
                "CONTROLLER          PARAMETERS",
                "services/default/kinds",
                "VALUE   GLOBAL-DEFAULT",
                "WEBHOOKS   AGE",
                "PRIORITYLEVEL   MATCHINGPRECEDENCE",
                "NOMINALCONCURRENCYSHARES   QUEUES",
            ],
        )],
    );
    // The cluster-wide ones belong to everybody: they go whatever was found.
    ns.must(&format!("delete -f {file} --timeout=30s"))?;
    result?;
    ensure!(
        described.ok && count >= kinds - NOT_DESCRIBED.len(),
        "{count} of {kinds} are described:\n{}{}",
        described.stdout,
        described.stderr
    );
    ns.delete()
}

pub fn selects_and_formats(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "select")?;
    run(
        &ns,
        &[
            ("create configmap a --from-literal=k=1", &[]),
            ("create configmap b --from-literal=k=2 --from-literal=l=3", &[]),
            ("create configmap z --from-literal=k=0", &[]),
            ("label configmap a tier=front env=test", &["configmap/a labeled"]),
            ("label configmap b tier=back", &["labeled"]),
            ("get configmap -l tier=front -o name", &["configmap/a"]),
            ("get configmap -l 'tier in (front,back),!env' --show-labels", &["tier=back"]),
            ("get configmap -L tier,env", &["TIER    ENV", "front   test"]),
            ("get configmap --field-selector metadata.name!=a -o name", &["configmap/b", "configmap/z"]),
            ("!get configmap --field-selector data.k=1", &["is not a known field selector"]),
            ("!get configmap -l 'tier in'", &["unable to parse"]),
            ("get configmap a -o yaml", &["apiVersion: v1\ndata:\n  k: \"1\"\nkind: ConfigMap"]),
            ("get configmap a -o jsonpath={.metadata.labels.tier}", &["front"]),
            ("get configmap a b -o go-template='{{range .items}}{{.metadata.name}}-{{end}}'", &["a-b-"]),
            ("get configmap a -o custom-columns=WHO:.metadata.name,VALUE:.data.k", &["WHO   VALUE\na     1"]),
            (
                "get configmap -A --chunk-size=1 --no-headers -o custom-columns=:.metadata.name",
                &["kube-root-ca.crt", "z"],
            ),
            ("get configmap nope --ignore-not-found", &[]),
            ("!get configmap nope", &["Error from server (NotFound): configmaps \"nope\" not found"]),
            ("!get nothing", &["the server doesn't have a resource type \"nothing\""]),
            (
                "get configmap a --show-managed-fields -o json",
                &["\"manager\": \"kubectl-create\"", "\"manager\": \"kubectl-label\"", "f:tier"],
            ),
            ("get --raw /apis/apps/v1", &["\"kind\":\"APIResourceList\""]),
        ],
    )?;
    let sorted =
        ns.must("get configmap --sort-by=.data.k -o name -l '!x' --field-selector metadata.name!=kube-root-ca.crt")?;
    ensure!(sorted.split_whitespace().eq(["configmap/z", "configmap/a", "configmap/b"]), "sorted by .data.k: {sorted}");
    // A watch shows what is there, then what changes, until its time is over.
    let line = ns.line("get configmap --watch --output-watch-events --request-timeout=3s");
    let watch = std::process::Command::new(&line[0]).args(&line[1..]).stdout(Stdio::piped()).spawn()?;
    std::thread::sleep(Duration::from_millis(1200));
    run(&ns, &[("label configmap z seen=yes", &[]), ("delete configmap z", &[])])?;
    let watched = String::from_utf8_lossy(&watch.wait_with_output()?.stdout).into_owned();
    let events: Vec<&str> =
        watched.lines().filter(|l| l.contains(" z ")).filter_map(|l| l.split_whitespace().next()).collect();
    ensure!(events == ["ADDED", "MODIFIED", "DELETED"], "the watch saw {events:?} of z:\n{watched}");
    ns.delete()
}

/// What there is, in which versions, with which fields.
pub fn discovers(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "discover")?;
    run(
        &ns,
        &[
            ("version", &["Server Version: v1.36"]),
            ("api-versions", &["apps/v1", "batch/v1", "networking.k8s.io/v1", "resource.k8s.io/v1", "\nv1\n"]),
            ("api-resources", &["deployments", "deploy", "apps/v1", "Deployment", "persistentvolumeclaims", "pvc"]),
            (
                "api-resources --api-group=batch -o wide",
                &["CronJob", "create,delete,deletecollection,get,list,patch,update,watch", "all"],
            ),
            ("api-resources --namespaced=false -o name", &["nodes", "clusterroles.rbac.authorization.k8s.io"]),
            ("explain deployment.spec.strategy.rollingUpdate", &["GROUP:      apps", "maxSurge", "maxUnavailable"]),
            ("explain pod.spec.containers.imagePullPolicy", &["ENUM:\n    Always\n    IfNotPresent\n    Never"]),
            ("explain pod --recursive", &["containers", "-required-", "livenessProbe", "initialDelaySeconds"]),
            ("explain cronjob --api-version=batch/v1", &["VERSION:    v1"]),
            (
                "explain pod.spec.containers",
                &["FIELD: containers <[]Container>", "List of containers belonging to the pod", "Entrypoint array."],
            ),
            ("explain pod.spec.containers.resources", &["limits\t<map[string]Quantity>", "Limits describes"]),
            ("explain service.spec.ports.targetPort", &["<IntOrString>", "Number or name of the port"]),
            ("explain configmap.metadata.labels", &["<map[string]string>", "Map of string keys and values"]),
            (
                "explain pod.spec --output=plaintext-openapiv2",
                &["RESOURCE: spec <Object>", "List of containers belonging to the pod"],
            ),
            ("!explain pod.spec.nope", &["field \"nope\" does not exist"]),
            ("config view --minify", &["server: https://127.0.0.1:6443", "DATA+OMITTED"]),
            ("config current-context", &["default"]),
            ("get --raw /readyz?verbose", &["[+]", "readyz check passed"]),
            ("get --raw /livez", &["ok"]),
            ("get --raw /openapi/v3", &["apis/apps/v1"]),
            ("!get --raw /nope", &["the server could not find the requested resource"]),
            ("!top node", &["Metrics API not available"]),
        ],
    )?;
    let info = c.kubectl(&["cluster-info"])?;
    ensure!(info.contains("https://127.0.0.1:6443") && info.contains("CoreDNS"), "cluster-info: {info}");
    // kubectl proxy, for a moment.
    let script = format!(
        "{} proxy --port=8901 >/dev/null & trap \"kill $!\" EXIT; \
         for i in 1 2 3 4 5 6 7 8 9 10; do curl -sf http://127.0.0.1:8901/api/v1/namespaces/default && exit 0; sleep 0.2; done; exit 1",
        ns.kubectl_path()
    );
    let said = c.must(&["sh", "-c", &script])?;
    // curl is taken for a person, who gets it pretty.
    ensure!(said.contains("\"kind\": \"Namespace\""), "through kubectl proxy: {said}");
    ns.delete()
}

/// `get -w`, `events --watch`, and every way of `wait`, on pods that come, change and go.
pub fn watches_and_waits(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "watch")?;
    let pod = |name: &str| format!("run {name} --image=shop/backend:v1 --restart=Never --command -- sleep 1000");
    // One that is there already tells when the watch has begun.
    ns.must(&pod("zero"))?;
    ns.must("wait --for=condition=Ready pod/zero --timeout=30s")?;
    let watched = c.dir().join(ns.name()).join("watched");
    let seen = watching(
        &ns,
        "get pods --watch",
        || {
            c.wait(PATIENCE, "the watch to begin", || Ok(std::fs::read_to_string(&watched)?.contains("zero")))?;
            ns.must(&pod("one"))?;
            ns.must("wait --for=condition=Ready pod/one --timeout=30s")?;
            ns.must("delete pod one --grace-period=1")?;
            Ok(())
        },
        &["Terminating"],
    )?;
    let states: Vec<&str> =
        seen.lines().filter(|l| l.starts_with("one ")).filter_map(|l| l.split_whitespace().nth(2)).collect();
    let at = |state: &str| states.iter().position(|s| *s == state);
    ensure!(seen.starts_with("NAME   READY   STATUS"), "no heading:\n{seen}");
    ensure!(seen.matches("READY").count() == 1, "more than one heading:\n{seen}");
    ensure!(
        at("Pending") < at("Running") && at("Running") < at("Terminating") && at("ContainerCreating").is_some(),
        "states of a pod: {states:?}"
    );
    // Events: all there are, then those that come.
    let work = || ns.must(&pod("two")).map(|_| ());
    let seen = watching(&ns, "get events --watch", work, &["pod/two", "Started container two"])?;
    ensure!(seen.lines().next().is_some_and(|l| l.starts_with("LAST SEEN   TYPE     REASON")), "{seen}");
    watching(&ns, "events --watch --for=pod/three", || ns.must(&pod("three")).map(|_| ()), &["Started"])?;
    run(
        &ns,
        &[
            ("events --types=Normal", &["LAST SEEN", "Normal   Scheduled", "Pod/two"]),
            ("events --types=Warning", &["No events found"]),
            ("get events --sort-by=.lastTimestamp --field-selector=involvedObject.name=two", &["pod/two"]),
            ("get events -o wide", &["SUBOBJECT", "SOURCE", "spec.containers{two}", "kubelet, node1"]),
            ("wait --for=jsonpath={.status.phase}=Running pod/two --timeout=20s", &["pod/two condition met"]),
            ("wait --for=jsonpath={.status.podIP} pod/two --timeout=20s", &["pod/two condition met"]),
            ("wait --for=condition=Ready=true pod --all --timeout=20s", &["pod/two condition met", "pod/three"]),
            (
                "!wait --for=condition=Ready=false pod/two --timeout=1s",
                &["timed out waiting for the condition on pods/two"],
            ),
            ("!wait --for=delete pod/two --timeout=1s", &["timed out waiting for the condition on pods/two"]),
            ("!wait --for=condition=Ready pod/nobody --timeout=1s", &["pods \"nobody\" not found"]),
            ("wait --for=delete pod/nobody --timeout=5s", &[]),
            ("get pods --sort-by=.metadata.name -o name", &["pod/three\npod/two"]),
            ("get events --sort-by={.metadata.creationTimestamp} --no-headers", &["Started container two"]),
            ("get pods --no-headers", &["two     1/1   Running   0"]),
            ("get pod two -o go-template={{.spec.nodeName}}", &["node1"]),
            ("get pod two -o jsonpath-as-json={.status.phase}", &["[\n    \"Running\"\n]"]),
            (
                "get pods,serviceaccounts",
                &["NAME        READY   STATUS", "NAME                     ", "serviceaccount/default"],
            ),
        ],
    )?;
    // A schedule that never comes is told of, and a pod that has no node has said nothing.
    let never = || ns.must("create cronjob never --schedule='59 23 31 2 *' --image=shop/backend:v1").map(|_| ());
    watching(&ns, "events --watch --for=cronjob/never", never, &["InvalidSchedule"])?;
    run(
        &ns,
        &[
            (
                r#"run lost --image=shop/backend:v1 --overrides='{"spec":{"nodeSelector":{"no":"where"}}}'"#,
                &["created"],
            ),
            ("logs lost", &[]),
            ("!exec lost -- true", &["pod lost does not have a host assigned"]),
        ],
    )?;
    // What isn't there yet is waited for, too.
    let late = ns.line("wait --for=create pod/late --timeout=20s");
    let waiter = std::process::Command::new(&late[0]).args(&late[1..]).stdout(Stdio::piped()).spawn()?;
    std::thread::sleep(Duration::from_millis(500));
    ns.must(&pod("late"))?;
    let out = waiter.wait_with_output()?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    ensure!(out.status.success() && said.contains("pod/late condition met"), "wait --for=create: {said}");
    // A watch of one object, in other formats, ends with the object's end in sight.
    let work = || ns.must("delete pod late --grace-period=1").map(|_| ());
    let seen = watching(&ns, "get pod late -w -o jsonpath={.status.phase}{\"\\n\"}", work, &["Running"])?;
    ensure!(seen.contains("Running\n"), "{seen}");
    ns.delete()
}
