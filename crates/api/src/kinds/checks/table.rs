//! Rows as `kubectl get -o wide` shows them.

use super::{check_row, samples};
use expect_test::expect;

fn pod(status: &str, extra: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: d{extra}}}\nspec: {{nodeName: n1, containers: [{{name: a}}, {{name: b}}], initContainers: [{{name: i}}]}}\nstatus: {status}"
    )
}

/// READY, STATUS and RESTARTS.
fn check_pod(status: &str, extra: &str, expected: &str) {
    let obj = super::with_meta(super::parse(&pod(status, extra)));
    let now = crate::strategy::Now("2026-01-01T01:00:00Z".parse().expect("a time"));
    let row = super::strategy_of(&obj).row(&obj, now);
    let cells: Vec<&str> = row[1..4].iter().map(|c| c.as_str().unwrap_or("?")).collect();
    assert_eq!(cells.join(" "), expected, "{status}");
}

#[test]
fn pod_status() {
    let ok = "state: {running: {}}, ready: true";
    check_pod("{phase: Pending}", "", "0/2 Pending 0");
    check_pod(
        &format!(
            "{{phase: Running, containerStatuses: [{{name: a, {ok}}}, {{name: b, {ok}, restartCount: 3, lastState: {{terminated: {{finishedAt: '2026-01-01T00:55:00Z'}}}}}}]}}"
        ),
        "",
        "2/2 Running 3 (5m ago)",
    );
    check_pod(
        &format!(
            "{{phase: Running, containerStatuses: [{{name: a, {ok}}}, {{name: b, state: {{waiting: {{reason: CrashLoopBackOff}}}}, restartCount: 7}}]}}"
        ),
        "",
        "1/2 CrashLoopBackOff 7",
    );
    check_pod("{phase: Pending, initContainerStatuses: [{name: i, state: {running: {}}}]}", "", "0/2 Init:0/1 0");
    check_pod(
        "{phase: Pending, initContainerStatuses: [{name: i, state: {terminated: {exitCode: 1, reason: Error}}, restartCount: 1}]}",
        "",
        "0/2 Init:Error 1",
    );
    check_pod(
        "{phase: Pending, initContainerStatuses: [{name: i, state: {waiting: {reason: ImagePullBackOff}}}]}",
        "",
        "0/2 Init:ImagePullBackOff 0",
    );
    check_pod("{phase: Running}", ", deletionTimestamp: '2026-01-01T00:00:00Z'", "0/2 Terminating 0");
    check_pod(
        "{phase: Succeeded, containerStatuses: [{name: a, state: {terminated: {exitCode: 0, reason: Completed}}}, {name: b, state: {terminated: {exitCode: 0, reason: Completed}}}]}",
        "",
        "0/2 Completed 0",
    );
    check_pod(
        &format!(
            "{{phase: Running, containerStatuses: [{{name: a, state: {{terminated: {{reason: Completed}}}}}}, {{name: b, {ok}}}]}}"
        ),
        "",
        "1/2 NotReady 0",
    );
    check_pod(
        "{phase: Failed, containerStatuses: [{name: a, state: {terminated: {exitCode: 137, signal: 9}}}]}",
        "",
        "0/2 Signal:9 0",
    );
    check_pod("{phase: Failed, reason: Evicted}", "", "0/2 Evicted 0");
    check_pod(
        "{phase: Pending, conditions: [{type: PodScheduled, reason: SchedulingGated}]}",
        "",
        "0/2 SchedulingGated 0",
    );
}

#[test]
fn rows_of_finished_pods_say_so() {
    let done = |reason: &str, message: &str| {
        Some(serde_json::json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
    };
    for (phase, want) in [
        ("Pending", None),
        ("Running", None),
        ("Unknown", None),
        ("Succeeded", done("Succeeded", "The pod has completed successfully.")),
        ("Failed", done("Failed", "The pod failed.")),
    ] {
        let obj = super::with_meta(super::parse(&pod(&format!("{{phase: {phase}}}"), "")));
        assert_eq!(super::strategy_of(&obj).row_conditions(&obj), want, "{phase}");
    }
}

#[test]
fn every_sample() {
    let mut all = String::new();
    for sample in samples::ALL {
        let obj = super::created(sample);
        let s = super::strategy_of(&obj);
        let now = crate::strategy::Now("2026-01-01T01:00:00Z".parse().expect("a time"));
        let head: Vec<&str> = s.columns().iter().map(|c| c.name.as_ref()).collect();
        let cells: Vec<String> =
            s.row(&obj, now).iter().map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_string)).collect();
        all.push_str(&format!("{}\n{}\n\n", head.join("|"), cells.join("|")));
    }
    expect![[r#"
        Name|Ready|Status|Restarts|Age|IP|Node|Nominated Node|Readiness Gates
        web|0/2|Pending|0|60m|<none>|<none>|<none>|0/1

        Name|Status|Age
        prod|Active|60m

        Name|Status|Roles|Age|Version|Internal-IP|External-IP|OS-Image|Kernel-Version|Container-Runtime
        n1|Ready|control-plane|60m|v1.36.0|10.0.0.1|<none>|<unknown>|<unknown>|<unknown>

        Name|Type|Cluster-IP|External-IP|Port(s)|Age|Selector
        web|NodePort|<none>|<none>|80:30080/TCP,53/UDP|60m|app=web

        Name|Endpoints|Age
        web|10.42.0.5:80|60m

        Name|AddressType|Ports|Endpoints|Age
        web-x|IPv4|80|10.42.0.5|60m

        Name|Data|Age
        c|2|60m

        Name|Type|Data|Age
        s|Opaque|1|60m

        Name|Age
        robot|60m

        Last Seen|Type|Reason|Object|Subobject|Source|Message|First Seen|Count|Name
        60s|Normal|Pulled|pod/p||kubelet, n1|ok|<unknown>|2|e

        Last Seen|Type|Reason|Object|Subobject|Source|Message|First Seen|Count|Name
        60s|Normal|Pulled|pod/p||skiff.io/kubelet, n1|ok|60s|1|e

        Name|Holder|Age
        n1|n1|60m

        Name|Ready|Up-to-date|Available|Age|Containers|Images|Selector
        web|0/3|0|0|60m|c|nginx|app=web,tier notin (db)

        Name|Desired|Current|Ready|Age|Containers|Images|Selector
        web-1|1|0|0|60m|c|nginx:1|app=web

        Name|Ready|Age|Containers|Images
        db|0/1|60m|c|redis:7

        Name|Desired|Current|Ready|Up-to-date|Available|Node Selector|Age|Containers|Images|Selector
        agent|0|0|0|0|0|<none>|60m|c|a|app=a

        Name|Desired|Current|Ready|Age|Containers|Images|Selector
        old|1|0|0|60m|c|a|app=a

        Name|Status|Completions|Duration|Age|Containers|Images|Selector
        once|Running|0/3||60m|c|a|batch.kubernetes.io/controller-uid=8ff7d4b1-9a4c-4c9e-8a1c-0d5a1f0e2b11

        Name|Schedule|Timezone|Suspend|Active|Last Schedule|Age|Containers|Images|Selector
        often|*/5 * * * *|Etc/UTC|False|0|<none>|60m|c|a|<none>

        Name|Containers|Images|Pod Labels
        t|c|a|a=b

        Name|Controller|Revision|Age
        r|statefulset.apps/db|3|60m

        Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|Reason|Age|VolumeMode
        pv|1Gi|RWO|Retain|Pending|d/c||<unset>||60m|Filesystem

        Name|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age|VolumeMode
        c|Pending|pv|0||fast|<unset>|60m|Filesystem

        Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion|Age
        fast (default)|skiff.io/local|Delete|Immediate|false|60m

        Name|Created At
        r:x|2026-01-01T00:00:00Z

        Name|Created At
        system:x|2026-01-01T00:00:00Z

        Name|Role|Age|Users|Groups|ServiceAccounts
        b|Role/r|60m|jane||d/robot

        Name|Role|Age|Users|Groups|ServiceAccounts
        b|ClusterRole/r|60m||system:masters|

        Name|Min Available|Max Unavailable|Allowed Disruptions|Age
        web|50%|N/A|0|60m

        Name|Reference|Targets|MinPods|MaxPods|Replicas|Age
        web|Deployment/web|cpu: <unknown>/80%|1|5|0|60m

        Name|Created At
        l|2026-01-01T00:00:00Z

        Name|Request|Limit|Age
        q|||60m

        Name|Value|Global-Default|Age|PreemptionPolicy
        high|1000|false|60m|PreemptLowerPriority

        Name|Class|Hosts|Address|Ports|Age
        web|skiff|a.example.com||80, 443|60m

        Name|Pod-Selector|Age
        np|app=web|60m

        Name|Created At
        req|2026-01-01T00:00:00Z

        Name|SignerName
        e.com:a:v1|e.com/a

        Name|Resource
        m|deployments.apps

    "#]]
    .assert_eq(&all);
}

#[test]
fn with_status() {
    check_row(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 3, selector: {matchLabels: {app: web}}, template: {spec: {containers: [{name: a, image: i}, {name: b, image: j}]}}}\nstatus: {readyReplicas: 2, updatedReplicas: 3, availableReplicas: 1}",
        expect![[r#"
            Name: web
            Ready: 2/3
            Up-to-date: 3
            Available: 1
            Age: 60m
            Containers: a,b
            Images: i,j
            Selector: app=web
        "#]],
    );
    check_row(
        "apiVersion: v1\nkind: Service\nmetadata: {name: lb}\nspec: {type: LoadBalancer, clusterIP: 10.43.0.9, clusterIPs: [10.43.0.9], selector: {a: b}, ports: [{port: 80, nodePort: 30001, protocol: TCP}]}",
        expect![[r#"
            Name: lb
            Type: LoadBalancer
            Cluster-IP: 10.43.0.9
            External-IP: <pending>
            Port(s): 80:30001/TCP
            Age: 60m
            Selector: a=b
        "#]],
    );
    check_row(
        "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {node-role.kubernetes.io/worker: '', kubernetes.io/role: edge}}\nspec: {unschedulable: true}\nstatus: {conditions: [{type: Ready, status: 'False'}], addresses: [{type: InternalIP, address: 10.0.0.1}], nodeInfo: {kubeletVersion: v1.36.0, osImage: Debian, kernelVersion: '6', containerRuntimeVersion: 'skiff://1'}}",
        expect![[r#"
            Name: n1
            Status: NotReady,SchedulingDisabled
            Roles: edge,worker
            Age: 60m
            Version: v1.36.0
            Internal-IP: 10.0.0.1
            External-IP: <none>
            OS-Image: Debian
            Kernel-Version: 6
            Container-Runtime: skiff://1
        "#]],
    );
    check_row(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec: {completions: 2, parallelism: 1, template: {spec: {containers: [{name: a, image: i}]}}}\nstatus: {succeeded: 2, startTime: '2026-01-01T00:10:00Z', completionTime: '2026-01-01T00:11:30Z', conditions: [{type: Complete, status: 'True'}]}",
        expect![[r#"
            Name: j
            Status: Complete
            Completions: 2/2
            Duration: 90s
            Age: 60m
            Containers: a
            Images: i
            Selector: <none>
        "#]],
    );
}
