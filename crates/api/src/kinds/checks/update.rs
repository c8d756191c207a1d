//! What may not change, and in which words.

use super::{check_update, created, parse, samples, strategy_of};
use expect_test::expect;
use meta::field::Errors;
use serde_json::json;

fn pod(image: &str, node: &str, tolerations: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: d}}\nspec: {{nodeName: {node}, tolerations: [{tolerations}], containers: [{{name: c, image: '{image}'}}]}}"
    )
}

#[test]
fn pods() {
    let old = pod("nginx:1", "n1", "{key: a, operator: Exists}");
    // The image may change, tolerations may be added.
    check_update(
        &old,
        &pod("nginx:2", "n1", "{key: a, operator: Exists}, {key: b, operator: Exists}"),
        expect![[r#""#]],
    );
    check_update(
        &old,
        &pod("nginx:1", "n2", "{key: b, operator: Exists}"),
        expect![[r#"
        spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds
        spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
          core.PodSpec{
        - 	nodeName: "n1",
        + 	nodeName: "n2",
          }

    "#]],
    );
    check_update(
        &old,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: d}\nspec: {nodeName: n1, containers: [{name: c, image: a}, {name: d, image: a}]}",
        expect![[r#"
            spec.containers: Forbidden: pod updates may not add or remove containers
        "#]],
    );
}

#[test]
fn metadata() {
    check_update(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: d, deletionTimestamp: '2026-01-01T00:00:00Z'}",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, namespace: e, uid: other, finalizers: [a/b], deletionTimestamp: '2026-01-01T00:00:00Z'}",
        expect![[r#"
            metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"a/b"}
            metadata.name: Invalid value: "b": field is immutable
            metadata.namespace: Invalid value: "e": field is immutable
            metadata.uid: Invalid value: "other": field is immutable
        "#]],
    );
}

#[test]
fn workloads() {
    check_update(
        samples::STATEFULSET,
        &samples::STATEFULSET.replace("serviceName: db", "serviceName: other"),
        expect![[r#"
            spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden
        "#]],
    );
    check_update(samples::STATEFULSET, &samples::STATEFULSET.replace("redis:7", "redis:8"), expect![[r#""#]]);
    check_update(
        samples::DEPLOYMENT,
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: d}\nspec: {selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x}}, spec: {containers: [{name: c, image: i}]}}}",
        expect![[r#"
            spec.selector: Invalid value: {"matchLabels":{"app":"x"}}: field is immutable
        "#]],
    );
}

#[test]
fn configuration() {
    let c = |v: &str, immutable: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c, namespace: d}}\ndata: {{a: {v}}}\nimmutable: {immutable}"
        )
    };
    check_update(
        &c("b", "true"),
        &c("x", "false"),
        expect![[r#"
        immutable: Forbidden: field is immutable when `immutable` is set
        data: Forbidden: field is immutable when `immutable` is set
    "#]],
    );
    check_update(&c("b", "false"), &c("x", "true"), expect![[r#""#]]);
    let s = |t: &str| format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: d}}\ntype: {t}");
    check_update(
        &s("Opaque"),
        &s("example.com/x"),
        expect![[r#"
        type: Invalid value: "example.com/x": field is immutable
    "#]],
    );
}

#[test]
fn services_keep_what_was_allocated() {
    let old = created(
        "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: d}\nspec: {type: NodePort, clusterIP: 10.43.0.7, ports: [{port: 80, nodePort: 30080}]}",
    );
    let s = strategy_of(&old);
    let mut new = created(
        "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: d}\nspec: {type: NodePort, ports: [{port: 80}]}",
    );
    s.prepare_update(&mut new, &old, true);
    assert_eq!(new["spec"]["clusterIPs"], json!(["10.43.0.7"]));
    assert_eq!(new["spec"]["ports"][0]["nodePort"], json!(30080));

    // To ClusterIP: the node port that came along unchanged goes.
    let mut new = old.clone();
    new["spec"]["type"] = json!("ClusterIP");
    s.prepare_update(&mut new, &old, true);
    assert_eq!(new["spec"]["ports"][0].get("nodePort"), None);
    assert_eq!(new["spec"]["clusterIP"], json!("10.43.0.7"));

    // The change of one of clusterIP and clusterIPs, and what becomes of both.
    for (ip, ips, expected) in [
        ("10.43.0.7", json!([]), ("10.43.0.7", json!(["10.43.0.7"]))),
        ("10.43.0.8", json!([]), ("10.43.0.8", json!(["10.43.0.8"]))),
        ("10.43.0.8", json!(["10.43.0.7"]), ("10.43.0.8", json!(["10.43.0.8"]))),
        ("10.43.0.7", json!(["10.43.0.8"]), ("10.43.0.7", json!(["10.43.0.8"]))),
        ("", json!(["10.43.0.8"]), ("10.43.0.7", json!(["10.43.0.8"]))),
    ] {
        let mut new = old.clone();
        (new["spec"]["clusterIP"], new["spec"]["clusterIPs"]) = (json!(ip), ips);
        s.prepare_update(&mut new, &old, true);
        assert_eq!((&new["spec"]["clusterIP"], &new["spec"]["clusterIPs"]), (&json!(expected.0), &expected.1));
    }

    // Who has no load balancer any more has no address of one.
    let mut balanced = old.clone();
    balanced["spec"]["type"] = json!("LoadBalancer");
    balanced["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    for (kind, expected) in [("LoadBalancer", &balanced["status"]), ("NodePort", &json!({"loadBalancer": {}}))] {
        let mut new = balanced.clone();
        new["spec"]["type"] = json!(kind);
        s.prepare_update(&mut new, &balanced, true);
        assert_eq!(&new["status"], expected);
    }
    check_update(
        "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: d}\nspec: {clusterIP: 10.43.0.7, ports: [{port: 80}]}",
        "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: d}\nspec: {clusterIP: 10.43.0.8, clusterIPs: [10.43.0.8], ports: [{port: 80}]}",
        expect![[r#"
            spec.clusterIPs[0]: Invalid value: ["10.43.0.8"]: may not change once set
        "#]],
    );
}

#[test]
fn bindings_keep_their_role() {
    let b = |r: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: b, namespace: d}}\nroleRef: {{kind: Role, name: {r}}}"
        )
    };
    check_update(
        &b("r"),
        &b("s"),
        expect![[r#"
            roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":"s"}: cannot change roleRef
        "#]],
    );
}

#[test]
fn resize_changes_only_cpu_and_memory() {
    let old = created(samples::POD);
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut new = old.clone();
        change(&mut new["spec"]["containers"][0]);
        let mut errors = Errors::default();
        strategy_of(&old).validate_subresource_update("resize", &new, &old, &mut errors);
        errors.joined()
    };
    assert_eq!(refused(&|c| c["resources"]["requests"]["cpu"] = json!("200m")), "[]");
    for (change, text) in [
        (
            &(|c: &mut serde_json::Value| c["resources"]["requests"]["ephemeral-storage"] = json!("1Gi"))
                as &dyn Fn(&mut serde_json::Value),
            "only cpu and memory resources are mutable",
        ),
        (&|c| c["image"] = json!("other"), "only cpu and memory resources are mutable"),
        (&|c| c["resources"]["requests"]["cpu"] = json!("2"), "must be less than or equal to cpu limit of 500m"),
        (
            &|c| {
                c["resources"]["requests"].as_object_mut().map(|r| r.remove("cpu"));
            },
            "resource requests cannot be removed",
        ),
    ] {
        assert!(refused(change).contains(text), "{text}: {}", refused(change));
    }
    // Init containers are resized as well, where that is no restart.
    let init = |policy: &str, cpu: &str, image: &str| {
        created(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: d}}\nspec: {{containers: [{{name: c, image: i, resources: {{requests: {{memory: 1Gi}}}}}}], initContainers: [{{name: i, image: {image}, resizePolicy: [{{resourceName: cpu, restartPolicy: {policy}}}], resources: {{requests: {{cpu: {cpu}}}}}}}]}}"
        ))
    };
    for (policy, image, text) in [
        ("NotRequired", "i", "[]"),
        (
            "NotRequired",
            "j",
            "spec.initContainers[0]: Forbidden: only cpu and memory resources for init or sidecar containers are mutable",
        ),
        (
            "RestartContainer",
            "i",
            "spec.initContainers[0]: Forbidden: non-sidecar init containers with a resize policy of RestartContainer cannot be resized",
        ),
    ] {
        let (old, new) = (init(policy, "1", "i"), init(policy, "2", image));
        let mut errors = Errors::default();
        strategy_of(&old).validate_subresource_update("resize", &new, &old, &mut errors);
        assert_eq!(errors.joined(), text, "{policy} {image}");
    }
    // What the whole pod has stays as it is; its containers may change.
    let whole = created(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: d}\nspec: {resources: {requests: {cpu: 2}, limits: {cpu: 4}}, containers: [{name: c, image: i, resources: {requests: {cpu: 500m}}}]}",
    );
    for (at, text) in [
        ("/spec/containers/0/resources/requests/cpu", "[]"),
        (
            "/spec/resources/requests/cpu",
            "[]: Forbidden: resize of pods with pod-level resources is forbidden when InPlacePodLevelResourcesVerticalScalingEnabled feature gate is disabled",
        ),
    ] {
        let mut new = whole.clone();
        *new.pointer_mut(at).unwrap() = json!("1");
        let mut errors = Errors::default();
        strategy_of(&whole).validate_subresource_update("resize", &new, &whole, &mut errors);
        assert_eq!(errors.joined(), text, "{at}");
    }
    // A lone container with equal requests and limits would become Guaranteed.
    let old = created(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: d}\nspec: {containers: [{name: c, image: i, resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 500m, memory: 1Gi}}}]}",
    );
    let mut new = old.clone();
    new["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("1");
    let mut errors = Errors::default();
    strategy_of(&old).validate_subresource_update("resize", &new, &old, &mut errors);
    assert!(errors.joined().contains("Pod QOS Class may not change as a result of resizing"), "{}", errors.joined());
}

#[test]
fn ephemeral_containers_are_only_added() {
    let old = created(samples::POD);
    let mut one = old.clone();
    one["spec"]["ephemeralContainers"] = json!([{"name": "dbg", "image": "busybox", "targetContainerName": "main"}]);
    let s = strategy_of(&old);
    s.defaults(&mut one);
    let mut errors = Errors::default();
    s.validate_subresource_update("ephemeralcontainers", &one, &old, &mut errors);
    assert_eq!(errors.joined(), "[]");

    s.validate_subresource_update("ephemeralcontainers", &old, &one, &mut errors);
    let mut changed = one.clone();
    changed["spec"]["ephemeralContainers"][0]["image"] = json!("other");
    changed["spec"]["ephemeralContainers"][0]["ports"] = json!([{"containerPort": 1, "protocol": "TCP"}]);
    s.validate_subresource_update("ephemeralcontainers", &changed, &one, &mut errors);
    expect![[r#"
        spec.ephemeralContainers: Forbidden: existing ephemeral containers "dbg" may not be removed

        spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container
        spec.ephemeralContainers: Forbidden: existing ephemeral containers "dbg" may not be changed
        - 	image: "busybox",
        + 	image: "other",
        + 	ports: [{"containerPort":1,"protocol":"TCP"}],

    "#]]
    .assert_eq(&errors.0.iter().map(|e| format!("{e}\n")).collect::<String>());
}

#[test]
fn status_of_a_finished_container_stays() {
    let old = created(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: d}\nspec: {restartPolicy: Never, containers: [{name: c, image: i}]}",
    );
    let with = |state: serde_json::Value| {
        let mut pod = old.clone();
        pod["status"]["containerStatuses"] = json!([{"name": "c", "state": state}]);
        pod
    };
    let (done, running) = (with(json!({"terminated": {"exitCode": 1}})), with(json!({"running": {}})));
    let mut errors = Errors::default();
    strategy_of(&old).validate_status_update(&done, &running, &mut errors);
    assert_eq!(errors.joined(), "[]");
    strategy_of(&old).validate_status_update(&running, &done, &mut errors);
    expect!["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]
        .assert_eq(&errors.joined());

    let ns = created("apiVersion: v1\nkind: Namespace\nmetadata: {name: prod}");
    let mut gone = ns.clone();
    gone["status"]["phase"] = json!("Terminating");
    let mut errors = Errors::default();
    strategy_of(&ns).validate_status_update(&gone, &ns, &mut errors);
    expect![[r#"status.Phase: Invalid value: "Terminating": may only be 'Active' if `deletionTimestamp` is empty"#]]
        .assert_eq(&errors.joined());
}

#[test]
fn warnings() {
    let pod = created(
        "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: d}
spec:
  nodeSelector: {beta.kubernetes.io/os: linux}
  volumes: [{name: g, gitRepo: {repository: r}}]
  containers:
  - name: c
    image: i
    env: [{name: A, value: a}, {name: A, value: b}, {name: A, value: $(A)c}]
    ports: [{containerPort: 80}, {name: x, containerPort: 80}]
    resources: {limits: {memory: 500m}}
",
    );
    expect![[r#"
        spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead
        spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+
        spec.containers[0].resources.limits[memory]: fractional byte value "500m" is invalid, must be an integer
        spec.containers[0].resources.requests[memory]: fractional byte value "500m" is invalid, must be an integer
        spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply
        spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]"#]]
    .assert_eq(&strategy_of(&pod).warnings(&pod, None).join("\n"));
}

const SLICE: &str = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: e, namespace: d, labels: {}, annotations: {}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1], deprecatedTopology: {zone: a}}]
";

#[test]
fn the_topology_of_the_beta_is_not_written() {
    let slice = created(SLICE);
    assert_eq!(slice["endpoints"], json!([{"addresses": ["10.0.0.1"]}]));
    let mut stored = slice.clone();
    stored["endpoints"][0]["deprecatedTopology"] = json!({"zone": "a"});
    let (mut same, mut other) = (stored.clone(), stored.clone());
    other["endpoints"][0]["zone"] = json!("b");
    for new in [&mut same, &mut other] {
        strategy_of(&stored).prepare_update(new, &stored, false);
    }
    assert_eq!(same, stored);
    assert_eq!(other["endpoints"], json!([{"addresses": ["10.0.0.1"], "zone": "b"}]));
}

#[test]
fn annotations_that_become_fields_are_warned_of() {
    let pod = |profile: &str, note: &str| {
        parse(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, annotations: {{container.apparmor.security.beta.kubernetes.io/c: {note}}}}}\nspec: {{securityContext: {profile}, containers: [{{name: c, image: i}}]}}"
        ))
    };
    let told = "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the \"appArmorProfile\" field instead";
    for (profile, note, warned) in [
        ("{}", "unconfined", true),
        ("{}", "localhost/", true),
        ("{appArmorProfile: {type: RuntimeDefault}}", "unconfined", true),
        ("{appArmorProfile: {type: Unconfined}}", "unconfined", false),
    ] {
        let pod = pod(profile, note);
        let warnings = strategy_of(&pod).arrival_warnings(&pod);
        assert_eq!(warnings, if warned { vec![told.to_string()] } else { vec![] }, "{profile} {note}");
        // What it becomes is warned of no more.
        let pod = created(&pod.to_string());
        assert!(strategy_of(&pod).warnings(&pod, None).is_empty());
    }
    let account = parse(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a, annotations: {kubernetes.io/enforce-mountable-secrets: 'true'}}",
    );
    let s = strategy_of(&account);
    assert_eq!((s.warnings(&account, None).len(), s.warnings(&account, Some(&account)).len()), (1, 0));
}

#[test]
fn generation() {
    for (sample, change, bumps) in [
        (samples::DEPLOYMENT, "/spec/replicas", true),
        (samples::DEPLOYMENT, "/metadata/annotations/a", true),
        (samples::DEPLOYMENT, "/metadata/labels/a", false),
        (samples::STATEFULSET, "/metadata/annotations/a", false),
        (SLICE, "/metadata/labels/a", true),
        (SLICE, "/metadata/annotations/a", false),
        (samples::POD, "/spec/nodeName", false),
        (samples::POD, "/spec/containers/0/image", true),
        (samples::POD, "/status/phase", false),
    ] {
        let old = created(sample);
        let mut new = old.clone();
        if let Some(v) = new.pointer_mut(change) {
            *v = json!("changed");
        } else {
            let (parent, key) = change.rsplit_once('/').expect("a path");
            let (above, map) = parent.rsplit_once('/').expect("a path");
            let above = new.pointer_mut(above).expect("an object");
            above[map][key] = json!("changed");
        }
        assert_eq!(strategy_of(&old).bumps_generation(&new, &old), bumps, "{change}");
    }
    let class = parse("apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: p}\nvalue: 1");
    let (s, mut other) = (strategy_of(&class), class.clone());
    other["description"] = json!("changed");
    assert!(s.has_generation() && !s.bumps_generation(&other, &class));
}

/// Addresses are read strictly, but those that were accepted before may stay.
#[test]
fn old_addresses_survive() {
    let service = |ip: &str, name: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: d, labels: {{a: {name}}}}}\nspec: {{externalIPs: ['{ip}'], type: LoadBalancer, loadBalancerSourceRanges: ['{ip}/8'], ports: [{{port: 1}}]}}"
        )
    };
    check_update(&service("010.1.2.3", "x"), &service("010.1.2.3", "y"), expect![[""]]);
    check_update(
        &service("010.1.2.3", "x"),
        &service("010.1.2.4", "x"),
        expect![[r#"
            spec.externalIPs[0]: Invalid value: "010.1.2.4": must not have leading 0s
            spec.LoadBalancerSourceRanges[0]: Invalid value: "010.1.2.4/8": must not have leading 0s in IP or prefix length
        "#]],
    );
    let policy = |except: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: n, namespace: d}}\nspec: {{podSelector: {{}}, ingress: [{{from: [{{ipBlock: {{cidr: 10.0.0.1/8, except: [{except}]}}}}]}}]}}"
        )
    };
    check_update(&policy("10.1.0.0/16"), &policy("10.2.0.0/16"), expect![[""]]);
    let endpoints = |port: u16| {
        format!(
            "apiVersion: v1\nkind: Endpoints\nmetadata: {{name: e, namespace: d}}\nsubsets: [{{addresses: [{{ip: 010.1.2.3}}], ports: [{{port: {port}}}]}}]"
        )
    };
    check_update(&endpoints(1), &endpoints(1), expect![[""]]);
    check_update(
        &endpoints(1),
        &endpoints(2),
        expect![[r#"
            subsets[0].addresses[0].ip: Invalid value: "010.1.2.3": must not have leading 0s
        "#]],
    );
}

#[test]
fn pods_of_a_suspended_job_may_get_other_resources_and_places() {
    let job = |status: &str, change: &str| {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: j, namespace: d}}\nstatus: {status}\nspec: {{suspend: true, template: {{spec: {{restartPolicy: Never, {change}}}}}}}"
        )
    };
    let faults = |status: &str, change: &str| {
        let plain = "containers: [{name: c, image: i}]";
        let mut old = created(&job("{}", plain));
        old["status"] = parse(status);
        let mut new = old.clone();
        new["spec"]["template"]["spec"] = parse(&job("{}", change))["spec"]["template"]["spec"].clone();
        let s = strategy_of(&new);
        s.defaults(&mut new);
        let mut errors = Errors::default();
        s.validate_update(&new, &old, &mut errors);
        errors.0.iter().map(|e| e.path.to_string()).collect::<Vec<_>>().join(" ")
    };
    let resources = "containers: [{name: c, image: i, resources: {requests: {cpu: 2}}}]";
    let place = "containers: [{name: c, image: i}], nodeSelector: {a: b}";
    let (started, marked) = ("startTime: 2026-01-01T00:00:00Z", "conditions: [{type: Suspended, status: 'True'}]");
    for (status, change, want) in [
        ("{}".to_string(), resources, ""),
        ("{}".to_string(), place, ""),
        ("{}".to_string(), "containers: [{name: c, image: other}]", "spec.template.spec"),
        (format!("{{{started}}}"), resources, "spec.template"),
        (format!("{{{started}, {marked}}}"), resources, ""),
        (format!("{{{started}, {marked}}}"), place, ""),
        (format!("{{{started}, {marked}, active: 1}}"), place, "spec.template"),
    ] {
        assert_eq!(faults(&status, change), want, "{status} {change}");
    }
}

#[test]
fn odd_scopes_and_resize_policies_of_old_objects_survive() {
    let quota = |scopes: &str| {
        format!(
            "apiVersion: v1\nkind: ResourceQuota\nmetadata: {{name: q, namespace: d}}\nspec: {{scopes: [{scopes}]}}"
        )
    };
    check_update(&quota("Terminating"), &quota("Terminating, Terminating"), expect![[r#""#]]);
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: d}\nspec: {containers: [{name: c, image: i}], initContainers: [{name: i, image: i, resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}]}]}";
    check_update(pod, pod, expect![[r#""#]]);
}

#[test]
fn what_the_status_of_a_pod_says_of_devices_and_claims() {
    let old = created(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: d}\nspec: {resourceClaims: [{name: a, resourceClaimName: b}], containers: [{name: c, image: i, resources: {claims: [{name: a}]}}]}",
    );
    let mut new = old.clone();
    new["status"]["resourceClaimStatuses"] = json!([{"name": "a", "resourceClaimName": "A"}]);
    let device = |id: &str, message: &str| json!({"resourceID": id, "health": "Healthy", "message": message});
    new["status"]["containerStatuses"] = json!([{"name": "c", "allocatedResourcesStatus": [
        {"name": "claim:a", "resources": [device("x", ""), device("y", "fine"), device("z", &"m".repeat(1025))]},
    ]}]);
    let mut errors = Errors::default();
    strategy_of(&old).validate_status_update(&new, &old, &mut errors);
    let lines: Vec<String> = errors.0.iter().map(|e| e.to_string().chars().take(110).collect()).collect();
    expect![[r#"
        status.resourceClaimStatuses[0].resourceClaimName: Invalid value: "A": a lowercase RFC 1123 subdomain must con
        status.containerStatuses[0].allocatedResourcesStatus[0].resources[0].message: Required value: must be non-empt
        status.containerStatuses[0].allocatedResourcesStatus[0].resources[2].message: Too long: may not be more than 1
    "#]]
    .assert_eq(&(lines.join("\n") + "\n"));
}

#[test]
fn these_are_judged_whole_again() {
    let topologies = |terms: &str| {
        format!(
            "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {{name: s}}\nprovisioner: a/b\nallowedTopologies: [{terms}]"
        )
    };
    check_update(
        &topologies("{matchLabelExpressions: [{key: z, values: [a]}]}"),
        &topologies("{matchLabelExpressions: [{key: z, values: []}]}"),
        expect![[r#"
            allowedTopologies[0].matchLabelExpressions[0].values: Required value
        "#]],
    );
    let class = |overhead: &str| {
        format!(
            "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {{name: r}}\nhandler: h\noverhead: {{podFixed: {{cpu: '{overhead}'}}}}"
        )
    };
    check_update(
        &class("1"),
        &class("-1"),
        expect![[r#"
            overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0
        "#]],
    );
    let address = |name: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: IPAddress\nmetadata: {{name: 10.0.0.1}}\nspec: {{parentRef: {{resource: services, name: {name}}}}}"
        )
    };
    check_update(
        &address("a"),
        &address("''"),
        expect![[r#"
            spec.parentRef.name: Required value
            spec.parentRef: Invalid value: {"name":"","resource":"services"}: field is immutable
        "#]],
    );
    let template = |name: &str| {
        format!(
            "apiVersion: resource.k8s.io/v1\nkind: ResourceClaimTemplate\nmetadata: {{name: t, namespace: d}}\nspec: {{spec: {{devices: {{requests: [{{name: r, exactly: {{deviceClassName: {name}}}}}]}}}}}}"
        )
    };
    check_update(
        &template("a"),
        &template("''"),
        expect![[r#"
            spec.spec.devices.requests[0].exactly.deviceClassName: Required value
            spec: Invalid value: {"spec":{"devices":{"requests":[{"exactly":{"allocationMode":"ExactCount","count":1,"deviceClassName":""},"name":"r"}]}}}: field is immutable
        "#]],
    );
    let capacity = |amount: &str| {
        format!(
            "apiVersion: storage.k8s.io/v1\nkind: CSIStorageCapacity\nmetadata: {{name: c, namespace: d}}\nstorageClassName: s\ncapacity: {amount}"
        )
    };
    check_update(
        &capacity("1Gi"),
        &capacity("-1Gi"),
        expect![[r#"
            capacity: Invalid value: "-1Gi": must be greater than or equal to 0
        "#]],
    );
}

#[test]
fn a_suspended_job_keeps_the_labels_of_its_pods() {
    let mut old = created(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j, namespace: d}\nspec: {suspend: true, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}",
    );
    // As the first Jobs had it.
    old["spec"]["selector"] = json!({"matchLabels": {"controller-uid": old["metadata"]["uid"]}});
    let s = strategy_of(&old);
    let faults = |had: &[&str], has: &[&str]| {
        let without = |keys: &[&str]| {
            let mut job = old.clone();
            let labels = job["spec"]["template"]["metadata"]["labels"].as_object_mut().expect("labels");
            labels.retain(|k, _| keys.contains(&k.as_str()));
            job
        };
        let mut errors = Errors::default();
        s.validate_update(&without(has), &without(had), &mut errors);
        errors.0.iter().map(|e| e.path.to_string()).collect::<Vec<_>>().join(" ")
    };
    let all = ["job-name", "controller-uid", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"];
    for (had, has, want) in [
        (&all[..], &all[..], ""),
        (&all, &all[1..], "spec.template.metadata.labels[job-name]"),
        (&all, &all[..3], "spec.template.metadata.labels[batch.kubernetes.io/job-name]"),
        (&all[..2], &all[..2], ""),
    ] {
        assert_eq!(faults(had, has), want, "{had:?} {has:?}");
    }
}

#[test]
fn a_cron_job_is_warned_of_its_time_zone() {
    let job = |schedule: &str| {
        created(&format!(
            "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: c, namespace: d}}\nspec: {{schedule: '{schedule}', jobTemplate: {{spec: {{template: {{spec: {{containers: [{{name: c, image: i}}], restartPolicy: Never}}}}}}}}}}"
        ))
    };
    let warnings = |schedule: &str, old: bool| {
        let job = job(schedule);
        strategy_of(&job).warnings(&job, old.then_some(&job)).join("\n")
    };
    expect!["cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"]
        .assert_eq(&warnings("TZ=UTC * * * * *", true));
    assert_eq!(warnings("TZ=UTC * * * * *", false) + &warnings("* * * * *", true), "");
}
