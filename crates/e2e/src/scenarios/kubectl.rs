//! What people type: the real kubectl's commands, one after another, and what each must say.
//!
//! A scenario is mostly a script of [`Step`]s in a namespace of its own. Where a command's output isn't the point, the
//! object that it left behind is looked at.

use super::namespace::Namespace;
use crate::cluster::Cluster;
use anyhow::{Context, Result, ensure};
use std::process::Stdio;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// A command line without `kubectl`, and texts that must be in what it prints. One that starts with `!` must fail.
type Step<'a> = (&'a str, &'a [&'a str]);

const APP: &str = include_str!("../../testdata/app.yaml");

fn run(ns: &Namespace<'_>, steps: &[Step<'_>]) -> Result<()> {
    for (line, wants) in steps {
        let (must_fail, command) = match line.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, *line),
        };
        let args = words(command);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let d = ns.kubectl(&args)?;
        let said = format!("{}{}", d.stdout, d.stderr);
        ensure!(
            d.ok != must_fail,
            "kubectl {command}: {}:\n{said}",
            if d.ok { "should have failed" } else { "failed" }
        );
        for want in *wants {
            ensure!(said.contains(want), "kubectl {command}: no {want:?} in:\n{said}");
        }
    }
    Ok(())
}

/// Splits as a shell does, with single quotes only.
pub fn words(line: &str) -> Vec<String> {
    let (mut out, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '\'' => (quoted, any) = (!quoted, true),
            ' ' if !quoted => {
                if any || !word.is_empty() {
                    out.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => word.push(c),
        }
    }
    if any || !word.is_empty() {
        out.push(word);
    }
    out
}

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
    let text = include_str!("../../testdata/kinds.yaml").replace("NAMESPACE", ns.name());
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

/// Client-side apply: create, no change, change, diff, prune, and the annotation that it lives by.
pub fn applies(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "apply")?;
    let app = ns.file("app.yaml", APP)?;
    let changed =
        ns.file("changed.yaml", &APP.replace("value: two", "value: three").replace("color: blue", "shade: dark"))?;
    run(
        &ns,
        &[
            (
                &format!("apply -f {app}"),
                &["deployment.apps/app created", "configmap/app created", "service/app created"],
            ),
            (
                &format!("apply -f {app}"),
                &["deployment.apps/app unchanged", "configmap/app unchanged", "service/app unchanged"],
            ),
            (&format!("diff -f {app}"), &[]),
            (
                &format!("!diff -f {changed}"),
                &["-          value: two", "+          value: three", "-  color: blue", "+  shade: dark"],
            ),
            (
                &format!("apply --dry-run=server -f {changed}"),
                &["configmap/app configured (server dry run)", "service/app unchanged (server dry run)"],
            ),
            ("get configmap app -o jsonpath={.data}", &["{\"color\":\"blue\"}"]),
            (
                &format!("apply -f {changed}"),
                &["deployment.apps/app configured", "configmap/app configured", "service/app unchanged"],
            ),
            ("get configmap app -o jsonpath={.data}", &["{\"shade\":\"dark\"}"]),
            (
                "get deployment app -o jsonpath={.spec.template.spec.containers[0].env}",
                &[r#"[{"name":"ONE","value":"one"},{"name":"TWO","value":"three"}]"#],
            ),
            ("apply view-last-applied configmap app", &["shade: dark"]),
            // A field that somebody else set stays.
            ("annotate configmap app by=hand", &["annotated"]),
            (&format!("apply -f {app}"), &["configmap/app configured"]),
            ("get configmap app -o jsonpath={.metadata.annotations.by}", &["hand"]),
            (&format!("replace -f {app}"), &["deployment.apps/app replaced", "service/app replaced"]),
            (&format!("replace --force -f {app}"), &["configmap \"app\" deleted", "configmap/app replaced"]),
            (&format!("delete -f {app} --wait=false"), &["deployment.apps \"app\" deleted", "service \"app\" deleted"]),
            ("!apply -f /nonexistent.yaml", &["does not exist"]),
        ],
    )?;
    // Prune removes what is labelled, was applied, and is in the manifest no more.
    let map = |name: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{set: one}}}}\n---\n")
    };
    let both = ns.file("both.yaml", &(map("stays") + &map("goes")))?;
    let one = ns.file("one.yaml", &map("stays"))?;
    run(
        &ns,
        &[
            (&format!("apply -f {both}"), &["configmap/goes created"]),
            (
                &format!("apply -f {one} --prune -l set=one --prune-allowlist=core/v1/ConfigMap"),
                &["configmap/stays unchanged", "configmap/goes pruned"],
            ),
            ("!get configmap goes", &["not found"]),
        ],
    )?;
    // Wrong manifests.
    for (name, text, want) in [
        ("unknown-field", "data: {a: b}\ndata2: {}", "unknown field \"data2\""),
        ("type", "data: [a]", "cannot unmarshal array into Go struct field ConfigMap.data of type map[string]string"),
        ("yaml", "data: {a: b", "error converting YAML to JSON"),
    ] {
        let file = ns.file(name, &format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: wrong}}\n{text}\n"))?;
        run(&ns, &[(&format!("!apply -f {file}"), &[want])])?;
    }
    let kind = ns.file("kind", "apiVersion: example.com/v1\nkind: Nonesuch\nmetadata: {name: x}\n")?;
    run(&ns, &[(&format!("!apply -f {kind}"), &["no matches for kind \"Nonesuch\" in version \"example.com/v1\""])])?;
    ns.delete()
}

/// Server-side apply: owners, conflicts, force, giving up fields, and taking over from client-side apply.
pub fn applies_on_the_server(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "ssa")?;
    let app = ns.file("app.yaml", APP)?;
    let changed = ns.file("changed.yaml", &APP.replace("value: two", "value: three"))?;
    run(
        &ns,
        &[
            (&format!("apply --server-side -f {app}"), &["deployment.apps/app serverside-applied"]),
            (&format!("diff --server-side -f {app}"), &[]),
            (&format!("!diff --server-side -f {changed}"), &["+          value: three"]),
            (
                &format!("!apply --server-side --field-manager=other -f {changed}"),
                &[
                    "Apply failed with 1 conflict: conflict with \"kubectl\": .spec.template.spec.containers[name=\"app\"].env[name=\"TWO\"].value",
                ],
            ),
            (
                &format!("apply --server-side --field-manager=other --force-conflicts -f {changed}"),
                &["serverside-applied"],
            ),
            (&format!("!apply --server-side -f {app}"), &["conflict with \"other\""]),
            ("get deployment app -o jsonpath={.spec.template.spec.containers[0].env[1].value}", &["three"]),
        ],
    )?;
    // A manager that drops a field which it alone owns removes it.
    let map = |data: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: shared}}\ndata: {data}\n");
    let (one, two, less) = (
        ns.file("1", &map("{a: left, b: mid}"))?,
        ns.file("2", &map("{b: mid, c: right}"))?,
        ns.file("3", &map("{}"))?,
    );
    run(
        &ns,
        &[
            (&format!("apply --server-side --field-manager=one -f {one}"), &[]),
            (&format!("apply --server-side --field-manager=two -f {two}"), &[]),
            (&format!("apply --server-side --field-manager=one -f {less}"), &[]),
            ("get configmap shared -o jsonpath={.data}", &[r#"{"b":"mid","c":"right"}"#]),
        ],
    )?;
    // What client-side apply owned passes to the server-side manager, so that it can be dropped there.
    let (before, after) = (
        ns.file("4", &map("{old: x}").replace("shared", "moved"))?,
        ns.file("5", &map("{new: x}").replace("shared", "moved"))?,
    );
    run(
        &ns,
        &[
            (&format!("apply -f {before}"), &["configmap/moved created"]),
            (&format!("apply --server-side -f {after}"), &["serverside-applied"]),
            ("get configmap moved -o jsonpath={.data}", &[r#"{"new":"x"}"#]),
        ],
    )?;
    ns.delete()
}

pub fn patches_and_edits(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "patch")?;
    let app = ns.file("app.yaml", APP)?;
    run(
        &ns,
        &[
            (&format!("create -f {app}"), &[]),
            // Strategic: lists merge by key. Merge: they are replaced. JSON: by position.
            (
                r#"patch deployment app -p '{"spec":{"template":{"spec":{"containers":[{"name":"app","env":[{"name":"SIX","value":"6"}]}]}}}}'"#,
                &["patched"],
            ),
            ("get deployment app -o jsonpath={.spec.template.spec.containers[0].env[*].name}", &["SIX ONE TWO"]),
            (r#"patch configmap app --type=merge -p '{"data":{"color":null,"size":"L"}}'"#, &["patched"]),
            ("get configmap app -o jsonpath={.data}", &[r#"{"size":"L"}"#]),
            (
                r#"patch configmap app --type=json -p '[{"op":"test","path":"/data/size","value":"L"},{"op":"replace","path":"/data/size","value":"M"},{"op":"add","path":"/data/new","value":"n"}]'"#,
                &["patched"],
            ),
            ("get configmap app -o jsonpath={.data}", &[r#"{"new":"n","size":"M"}"#]),
            (
                r#"!patch configmap app --type=json -p '[{"op":"test","path":"/data/size","value":"L"}]'"#,
                &["the server rejected our request due to an error in our request"],
            ),
            (r#"patch configmap app -p '{"data":{"size":"M"}}'"#, &["configmap/app patched (no change)"]),
            (
                r#"!patch configmap app -p '{"data":{"size":1}}'"#,
                &["cannot unmarshal number into Go struct field ConfigMap.data of type string"],
            ),
            (
                r#"!patch deployment app -p '{"spec":{"selector":{"matchLabels":{"app":"b"}}}}'"#,
                &["spec.selector: Invalid value", "field is immutable"],
            ),
            (
                r#"!patch service app -p '{"spec":{"clusterIP":"10.43.0.77"}}'"#,
                &["spec.clusterIPs[0]: Invalid value", "may not change once set"],
            ),
            (
                r#"patch deployment app --subresource=scale --type=merge -p '{"spec":{"replicas":0}}'"#,
                &["scale.autoscaling/app patched"],
            ),
            (
                "get deployment app --subresource=scale -o jsonpath={.kind}/{.spec.replicas}/{.status.selector}",
                &["Scale/0/app=app"],
            ),
            // Through `status` only the status changes, and through the object only the rest.
            ("create service loadbalancer lb --tcp=80", &[]),
            (
                r#"patch service lb --subresource=status --type=merge -p '{"spec":{"type":"NodePort"},"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.9"}]}}}'"#,
                &["patched"],
            ),
            (r#"patch service lb -p '{"status":{"loadBalancer":null}}'"#, &["no change"]),
            ("get service lb", &["LoadBalancer", "192.0.2.9"]),
            ("label configmap app a=1 b=2", &["labeled"]),
            ("!label configmap app a=3", &["--overwrite is false"]),
            ("label configmap app a=3 b- --overwrite", &["configmap/app"]),
            ("annotate configmap app note='two words'", &["annotated"]),
            (
                "get configmap app -o jsonpath={.metadata.labels}{.metadata.annotations.note}",
                &[r#"{"a":"3"}two words"#],
            ),
            ("!label configmap app 'a=no good'", &["invalid label value"]),
            ("set image deployment/app app=example.com/app:2", &["image updated"]),
            ("set env deployment/app SEVEN=7 ONE-", &["env updated"]),
            ("set env deployment/app --list", &["SEVEN=7"]),
            (
                "set resources deployment/app --limits=cpu=200m,memory=64Mi --requests=cpu=10m",
                &["resource requirements updated"],
            ),
            ("set serviceaccount deployment/app default", &["serviceaccount updated"]),
            ("set selector service/app tier=x", &["selector updated"]),
            (
                "get deployment app -o jsonpath={.spec.template.spec.containers[0].resources}",
                &[r#"{"limits":{"cpu":"200m","memory":"64Mi"},"requests":{"cpu":"10m"}}"#],
            ),
            ("get service app -o jsonpath={.spec.selector}", &[r#"{"tier":"x"}"#]),
            ("expose deployment app --name=exposed --port=80 --target-port=8080", &["service/exposed exposed"]),
        ],
    )?;
    // The editor is a program that changes the file.
    let edit = |script: &str, what: &str| -> Result<crate::cluster::Done> {
        let editor = ns.file("editor", &format!("#!/bin/sh\n{script}\n"))?;
        ns.c.must(&["chmod", "+x", &editor])?;
        ns.c.run(&["env", &format!("EDITOR={editor}"), &ns.kubectl_path(), "-n", ns.name(), "edit", "configmap", what])
    };
    let d = edit("sed -i 's/size: M/size: XL/' \"$1\"", "app")?;
    ensure!(d.ok && d.stdout.contains("configmap/app edited"), "{}{}", d.stdout, d.stderr);
    run(&ns, &[("get configmap app -o jsonpath={.data.size}", &["XL"])])?;
    let d = edit("true", "app")?;
    ensure!(d.stderr.contains("Edit cancelled, no changes made"), "{}{}", d.stdout, d.stderr);
    // A change that the server refuses ends where the person can take it up again.
    let d = edit("sed -i 's/size: XL/size: [1]/' \"$1\"", "app")?;
    ensure!(!d.ok && d.stderr.contains("configmaps \"app\" is invalid"), "{}{}", d.stdout, d.stderr);
    ns.delete()
}

/// `rollout`, `scale`, `set image`, with real pods.
pub fn rolls_out(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "rollout")?;
    let manifest = APP.replace("replicas: 0", "replicas: 2").replace("example.com/app:1", "shop/backend:v1");
    let app = ns.file("app.yaml", &manifest)?;
    run(
        &ns,
        &[
            (&format!("apply -f {app}"), &[]),
            ("rollout status deployment/app --timeout=60s", &["successfully rolled out"]),
            ("get pods -l app=app -o wide", &["READY   STATUS    RESTARTS   AGE   IP", "1/1     Running   0", "node1"]),
            ("get replicasets", &["DESIRED   CURRENT   READY   AGE", "2         2         2"]),
            ("wait --for=condition=Available deployment/app --timeout=30s", &["condition met"]),
            ("wait --for=jsonpath={.status.readyReplicas}=2 deployment/app --timeout=30s", &["condition met"]),
            ("set image deployment/app app=shop/backend:v2", &["image updated"]),
            ("annotate deployment/app kubernetes.io/change-cause=v2", &[]),
            ("rollout status deployment/app --timeout=60s", &["successfully rolled out"]),
            ("rollout history deployment/app", &["REVISION  CHANGE-CAUSE", "1         <none>", "2         v2"]),
            ("rollout history deployment/app --revision=2", &["shop/backend:v2"]),
            ("rollout undo deployment/app", &["rolled back"]),
            ("rollout status deployment/app --timeout=60s", &["successfully rolled out"]),
            ("get deployment app -o jsonpath={.spec.template.spec.containers[0].image}", &["shop/backend:v1"]),
            ("rollout pause deployment/app", &["paused"]),
            ("!rollout pause deployment/app", &["already paused"]),
            ("set env deployment/app PAUSED=yes", &["env updated"]),
            ("get deployment app -o jsonpath={.status.updatedReplicas}", &[]),
            ("!rollout undo deployment/app", &["cannot rollback a paused deployment"]),
            ("rollout resume deployment/app", &["resumed"]),
            ("rollout status deployment/app --timeout=60s", &["successfully rolled out"]),
            ("rollout restart deployment/app", &["restarted"]),
            ("rollout status deployment/app --timeout=60s", &["successfully rolled out"]),
            ("!rollout undo deployment/app --to-revision=99", &["unable to find specified revision 99 in history"]),
            ("scale deployment/app --replicas=3", &["deployment.apps/app scaled"]),
            ("!scale deployment/app --replicas=1 --current-replicas=7", &["Expected replicas to be 7, was 3"]),
            ("rollout status deployment/app --timeout=60s", &["successfully rolled out"]),
            ("scale deployment/app --replicas=1", &["scaled"]),
            ("describe deployment app", &["NewReplicaSetAvailable", "ScalingReplicaSet"]),
            ("events --for deployment/app", &["Scaled up replica set app-"]),
            (
                "get events --field-selector reason=ScalingReplicaSet",
                &["LAST SEEN   TYPE     REASON              OBJECT", "deployment/app"],
            ),
        ],
    )?;
    ns.c.wait(PATIENCE, "one pod to be left", || Ok(ns.must("get pods -o name")?.lines().count() == 1))?;
    // By name: the newest kubectl shows no events where many are described.
    let pod = ns.must("get pods -o name")?;
    run(
        &ns,
        &[(
            &format!("describe {}", pod.trim()),
            &[
                "Controlled By:  ReplicaSet/app-",
                "QoS Class:",
                "Scheduled",
                "Successfully assigned",
                "Started container app",
            ],
        )],
    )?;
    ns.delete()
}

/// `run`, `delete` with its ways of waiting, and what happens to dependents.
pub fn deletes(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "delete")?;
    let manifest = APP.replace("replicas: 0", "replicas: 1").replace("example.com/app:1", "shop/backend:v1");
    let app = ns.file("app.yaml", &manifest)?;
    run(
        &ns,
        &[
            ("run alone --image=shop/backend:v1 --port=8080 --env=A=b --labels=x=y", &["pod/alone created"]),
            ("wait --for=condition=Ready pod/alone --timeout=30s", &["condition met"]),
            ("expose pod alone --port=80", &["service/alone exposed"]),
            ("delete pod alone --dry-run=server", &["(server dry run)"]),
            ("delete pod alone --grace-period=1 --timeout=20s", &["deleted"]),
            ("!get pod alone", &["not found"]),
            ("run forced --image=shop/backend:v1", &["created"]),
            ("wait --for=condition=Ready pod/forced --timeout=30s", &[]),
            ("delete pod forced --force --grace-period=0", &["deleted"]),
            ("!get pod forced", &["not found"]),
            ("!delete pod nope", &["pods \"nope\" not found"]),
            ("delete pod nope --ignore-not-found", &[]),
            ("run later --image=shop/backend:v1", &["created"]),
            ("wait --for=condition=Ready pod/later --timeout=30s", &[]),
            ("delete pod later --grace-period=1 --wait=false", &["deleted"]),
            ("wait --for=delete pod/later --timeout=20s", &[]),
            // Foreground: gone only when its dependents are.
            (&format!("apply -f {app}"), &[]),
            ("rollout status deployment/app --timeout=60s", &[]),
            ("delete deployment app --cascade=foreground --timeout=40s", &["deleted"]),
        ],
    )?;
    let left = ns.must("get replicasets,pods -l app=app -o name")?;
    ensure!(left.is_empty(), "after a foreground deletion there are still {left}");
    run(
        &ns,
        &[
            // Orphan: dependents stay and have no owner.
            (&format!("apply -f {app}"), &[]),
            ("rollout status deployment/app --timeout=60s", &[]),
            ("delete deployment app --cascade=orphan --timeout=20s", &["deleted"]),
        ],
    )?;
    let owners = ns.must("get replicasets -l app=app -o jsonpath={.items[*].metadata.ownerReferences}")?;
    ensure!(owners.is_empty(), "orphans have owners: {owners}");
    ensure!(ns.must("get replicasets -l app=app -o name")?.lines().count() == 1, "the ReplicaSet should have stayed");
    // Background: the object is gone at once, dependents soon.
    run(&ns, &[("delete replicasets -l app=app --cascade=background --timeout=20s", &["deleted"])])?;
    ns.c.wait(PATIENCE, "the orphans' pods to be collected", || {
        Ok(ns.must("get pods -l app=app -o name")?.is_empty())
    })?;
    run(
        &ns,
        &[
            ("create configmap one", &[]),
            ("create configmap two", &[]),
            ("delete configmap --all", &["\"one\" deleted", "\"two\" deleted"]),
        ],
    )?;
    ns.delete()
}

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

/// `cordon`, `taint`, `drain`: for pods of our own only, the node is everybody's.
pub fn empties_a_node(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "drain")?;
    let manifest = APP.replace("replicas: 0", "replicas: 1").replace("example.com/app:1", "shop/backend:v1");
    let app = ns.file("app.yaml", &manifest)?;
    let n = ns.name().to_string();
    let result = run(
        &ns,
        &[
            (&format!("apply -f {app}"), &[]),
            ("rollout status deployment/app --timeout=60s", &[]),
            (&format!("label pods --all drain={n}"), &[]),
            ("cordon node1", &["node/node1 cordoned"]),
            ("get node node1", &["Ready,SchedulingDisabled"]),
            (&format!("drain node1 --pod-selector=drain={n} --timeout=40s"), &["evicted", "node/node1 drained"]),
            ("get pods -l app=app", &["Pending"]),
            ("uncordon node1", &["node/node1 uncordoned"]),
            ("rollout status deployment/app --timeout=60s", &["successfully rolled out"]),
            ("taint node node1 e2e=x:PreferNoSchedule", &["node/node1 tainted"]),
            ("!taint node node1 e2e=y:PreferNoSchedule", &["--overwrite is false"]),
            ("taint node node1 e2e-", &["node/node1 untainted"]),
        ],
    );
    if result.is_err() {
        let _ = ns.kubectl(&["uncordon", "node1"]);
        let _ = ns.kubectl(&["taint", "node", "node1", "e2e-"]);
    }
    result?;
    ns.delete()
}

/// A chart's life: install, upgrade, rollback, uninstall.
pub fn helm(c: &Cluster) -> Result<()> {
    let Some(helm) = c.tools.helm.as_ref().map(|p| p.display().to_string()) else {
        println!("     (no --helm was given)");
        return Ok(());
    };
    let ns = Namespace::new(c, "helm")?;
    let chart = c.dir().join("chart");
    for dir in ["templates/tests", "crds"] {
        std::fs::create_dir_all(chart.join(dir))?;
    }
    for (name, text) in [
        ("Chart.yaml", include_str!("../../testdata/chart/Chart.yaml")),
        ("values.yaml", include_str!("../../testdata/chart/values.yaml")),
        ("crds/gadgets.yaml", include_str!("../../testdata/chart/crds/gadgets.yaml")),
        ("templates/all.yaml", include_str!("../../testdata/chart/templates/all.yaml")),
        ("templates/gadget.yaml", include_str!("../../testdata/chart/templates/gadget.yaml")),
        ("templates/hooks.yaml", include_str!("../../testdata/chart/templates/hooks.yaml")),
        ("templates/rbac.yaml", include_str!("../../testdata/chart/templates/rbac.yaml")),
        ("templates/tests/answers.yaml", include_str!("../../testdata/chart/templates/tests/answers.yaml")),
    ] {
        std::fs::write(chart.join(name), text)?;
    }
    let chart = chart.display().to_string();
    let helm = |args: &[&str]| c.must(&[&[helm.as_str(), "--namespace", ns.name()], args].concat()).context("helm");
    helm(&["install", "greeter", &chart, "--wait", "--timeout", "60s"])?;
    run(
        &ns,
        &[
            ("get configmap greeter -o jsonpath={.data.greeting}", &["hello"]),
            ("get deployment greeter", &["1/1"]),
            ("get gadget greeter -o jsonpath={.spec.size}", &["1"]),
            ("get pod greeter-before", &["Completed"]),
            (&format!("auth can-i get gadgets --as=system:serviceaccount:{}:greeter", ns.name()), &["yes"]),
        ],
    )?;
    let told = helm(&["test", "greeter", "--timeout", "60s"])?;
    ensure!(told.contains("Succeeded"), "{told}");
    let refused = c.run(&[
        c.tools.helm.as_ref().map(|p| p.to_str().unwrap_or_default()).unwrap_or_default(),
        "--namespace",
        ns.name(),
        "upgrade",
        "greeter",
        &chart,
        "--set",
        "hook=exit 3",
        "--timeout",
        "30s",
    ])?;
    ensure!(!refused.ok && refused.stderr.contains("pre-upgrade hooks failed"), "{}", refused.stderr);
    helm(&["upgrade", "greeter", &chart, "--set", "greeting=welcome,replicas=2", "--wait", "--timeout", "60s"])?;
    run(
        &ns,
        &[("get configmap greeter -o jsonpath={.data.greeting}", &["welcome"]), ("get deployment greeter", &["2/2"])],
    )?;
    helm(&["rollback", "greeter", "1", "--wait", "--timeout", "60s"])?;
    run(&ns, &[("get configmap greeter -o jsonpath={.data.greeting}", &["hello"])])?;
    let history = helm(&["history", "greeter"])?;
    ensure!(history.contains("Rollback to 1") && history.lines().count() == 5, "{history}");
    helm(&["uninstall", "greeter", "--wait", "--timeout", "60s"])?;
    run(&ns, &[("!get deployment greeter", &["not found"])])?;
    ensure!(!ns.must("get secrets -o name")?.contains("sh.helm.release"), "helm left releases behind");
    // A post-delete hook has run; definitions stay, as Helm has it.
    run(&ns, &[("get configmap greeter-gone", &[]), ("delete crd gadgets.helm.example.com", &["deleted"])])?;
    ns.delete()
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(words("a  'b c' d='e f' ''"), ["a", "b c", "d=e f", ""]);
    }
}
