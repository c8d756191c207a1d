//! A whole kubelet against an API server and a runtime in memory.

use kubelet::testing::{api::FakeApi, runtime::FakeRuntime};
use kubelet::{KubeletOptions, run};
use serde_json::{Value, json};
use std::sync::Arc;
use stdx::Shutdown;

struct World {
    api: FakeApi,
    runtime: FakeRuntime,
    dir: tempfile::TempDir,
    shutdown: Shutdown,
}

const PODS: &str = "/api/v1/namespaces/ns/pods";

impl World {
    fn without_kubelet() -> World {
        let world = World {
            api: FakeApi::default(),
            runtime: FakeRuntime::default(),
            dir: tempfile::tempdir().unwrap(),
            shutdown: Shutdown::new(),
        };
        world.runtime.add_image("app:1");
        world
    }

    fn new() -> World {
        let world = World::without_kubelet();
        world.start(&world.shutdown);
        world
    }

    fn start(&self, shutdown: &Shutdown) -> tokio::task::JoinHandle<()> {
        let mut options = KubeletOptions::new("n1", self.dir.path());
        options.cgroup_root = None;
        options.node_ips = vec!["192.0.2.1".parse().unwrap()];
        options.cluster_dns = vec!["10.43.0.10".parse().unwrap()];
        let runtime = Arc::new(self.runtime.clone());
        let (client, shutdown) = (self.api.client(), shutdown.clone());
        tokio::spawn(async move { run(client, runtime.clone(), runtime, options, shutdown).await.unwrap() })
    }

    fn pod(&self, name: &str, mut spec: Value) -> String {
        spec["nodeName"] = json!("n1");
        for list in ["containers", "initContainers"] {
            for c in spec[list].as_array_mut().into_iter().flatten() {
                if c["image"].is_null() {
                    c["image"] = json!("app:1");
                }
            }
        }
        self.api.put(PODS, json!({"metadata": {"name": name, "labels": {"a": "1"}}, "spec": spec}));
        format!("{PODS}/{name}")
    }

    async fn phase(&self, path: &str, phase: &str) -> Value {
        self.api.wait(path, phase, |p| p.is_some_and(|p| p["status"]["phase"] == phase)).await.unwrap()
    }

    async fn event(&self, reason: &str, message: &str) {
        for _ in 0..100 {
            if self
                .api
                .list("/api/v1/events")
                .iter()
                .any(|e| e["reason"] == reason && e["message"].as_str().unwrap().contains(message))
            {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let all: Vec<String> =
            self.api.list("/api/v1/events").iter().map(|e| format!("{}: {}", e["reason"], e["message"])).collect();
        panic!("no event {reason} {message:?} in {all:#?}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn condition(pod: &Value, kind: &str) -> String {
    pod["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["type"] == kind)
        .map(|c| c["status"].as_str().unwrap().to_owned())
        .unwrap_or_default()
}

fn waiting(pod: &Value, i: usize) -> String {
    pod["status"]["containerStatuses"][i]["state"]["waiting"]["reason"].as_str().unwrap_or_default().to_owned()
}

async fn eventually(what: &str, check: impl Fn() -> bool) {
    for _ in 0..200 {
        if check() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("not so within ten seconds: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn node_registers_and_renews_its_lease() {
    let w = World::new();
    let node = w.api.wait("/api/v1/nodes/n1", "registered", |n| n.is_some()).await.unwrap();
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
    assert_eq!(node["status"]["capacity"]["pods"], "110");
    let ready = node["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready").unwrap();
    assert_eq!(ready["status"], "True");
    let lease = w
        .api
        .wait("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", "leased", |l| l.is_some())
        .await
        .unwrap();
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_and_is_deleted() {
    let w = World::new();
    w.api.put("/api/v1/namespaces/ns/configmaps", json!({"metadata": {"name": "cm"}, "data": {"k": "v1"}}));
    w.api.put(
        "/api/v1/namespaces/default/services",
        json!({"metadata": {"name": "kubernetes"}, "spec": {"clusterIP": "10.43.0.1", "ports": [{"port": 443}]}}),
    );
    let path = w.pod(
        "p",
        json!({"containers": [{"name": "c", "command": ["run", "$(K)"], "env": [{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}],
               "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "t", "mountPath": "/t"}], "lifecycle": {"preStop": {"exec": {"command": ["bye"]}}}}],
               "volumes": [{"name": "v", "configMap": {"name": "cm"}}, {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]}),
    );
    let pod = w
        .api
        .wait(&path, "ready", |p| {
            p.is_some_and(|p| p["status"]["phase"] == "Running" && condition(p, "Ready") == "True")
        })
        .await
        .unwrap();
    assert!(pod["status"]["podIP"].as_str().unwrap().starts_with("10.42."));
    assert_eq!(pod["status"]["hostIP"], "192.0.2.1");
    assert_eq!(pod["status"]["qosClass"], "BestEffort");
    let c = &pod["status"]["containerStatuses"][0];
    assert!(c["containerID"].as_str().unwrap().starts_with("fake://c"));
    assert_eq!(
        (c["imageID"].as_str(), c["ready"].as_bool(), c["started"].as_bool(), c["restartCount"].as_i64()),
        (Some("app:1@sha256:d"), Some(true), Some(true), Some(0))
    );
    let config = w.runtime.config("c").unwrap();
    assert_eq!(config.command, ["run", "v1"]);
    assert!(config.envs.contains(&("KUBERNETES_SERVICE_HOST".into(), "10.43.0.1".into())));
    let host = |path: &str| config.mounts.iter().find(|m| m.container_path == path).unwrap().host_path.clone();
    assert_eq!(std::fs::read_to_string(format!("{}/token", host("/t"))).unwrap(), "token-of-default");
    assert!(std::fs::read_to_string(host("/etc/hosts")).unwrap().contains("\tp\n"));
    // A change of the ConfigMap reaches the running container.
    let file = format!("{}/k", host("/v"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "v1");
    w.api.put("/api/v1/namespaces/ns/configmaps", json!({"metadata": {"name": "cm"}, "data": {"k": "v2"}}));
    eventually("the changed file", || std::fs::read_to_string(&file).is_ok_and(|t| t == "v2")).await;
    for (reason, text) in [
        ("Pulled", "already present on machine"),
        ("Created", "Created container: c"),
        ("Started", "Started container c"),
    ] {
        w.event(reason, text).await;
    }
    w.api.delete(&path, 30);
    w.api.wait(&path, "gone", |p| p.is_none()).await;
    assert_eq!(&w.runtime.calls()[1..], ["exec bye", "stop c"]);
    w.event("Killing", "Stopping container c").await;
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    eventually("the pod's directory is gone", || !w.dir.path().join("kubelet/pods").join(uid).exists()).await;
}

/// Of a running pod: what its containers have of the volume that fails stays, and the others go on being refreshed.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_fails_holds_up_no_other() {
    let w = World::new();
    let maps = "/api/v1/namespaces/ns/configmaps";
    for name in ["a", "z"] {
        w.api.put(maps, json!({"metadata": {"name": name}, "data": {"k": "v1"}}));
    }
    let path = w.pod(
        "p",
        json!({"containers": [{"name": "c", "volumeMounts": [{"name": "a", "mountPath": "/a"}, {"name": "z", "mountPath": "/z"}]}],
            "volumes": [{"name": "a", "configMap": {"name": "a"}}, {"name": "z", "configMap": {"name": "z"}}]}),
    );
    w.phase(&path, "Running").await;
    let config = w.runtime.config("c").unwrap();
    let says = |path: &str, text: &str| {
        let host = &config.mounts.iter().find(|m| m.container_path == path).unwrap().host_path;
        std::fs::read_to_string(format!("{host}/k")).is_ok_and(|t| t == text)
    };
    assert!(says("/a", "v1") && says("/z", "v1"));
    w.api.delete(&format!("{maps}/a"), 0);
    w.event("FailedMount", "MountVolume.SetUp failed for volume \"a\" : configmap \"a\" not found").await;
    w.api.put(maps, json!({"metadata": {"name": "z"}, "data": {"k": "v2"}}));
    eventually("the other volume's new file", || says("/z", "v2")).await;
    assert!(says("/a", "v1"));
    w.api.put(maps, json!({"metadata": {"name": "a"}, "data": {"k": "v3"}}));
    eventually("the volume is well again", || says("/a", "v3")).await;
    assert_eq!(w.api.get(&path).unwrap()["status"]["containerStatuses"][0]["restartCount"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_a_running_pod_are_renewed() {
    let w = World::new();
    w.api.put("/api/v1/namespaces/ns/serviceaccounts", json!({"metadata": {"name": "default"}}));
    w.api.wait("/api/v1/nodes/n1", "registered", |n| n.is_some()).await;
    let path = w.pod(
        "p",
        json!({"containers": [{"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [{"name": "v", "projected": {"defaultMode": 0o400, "sources": [{"podCertificate":
                {"signerName": "a.b/c", "keyType": "ED25519", "keyPath": "key", "certificateChainPath": "chain"}}]}}]}),
    );
    // A signer whose certificates are good for three seconds, each with its number in it.
    let api = w.api.clone();
    let signer = tokio::spawn(async move {
        let mut signed = 0;
        loop {
            for mut request in api.list("/apis/certificates.k8s.io/v1beta1/podcertificaterequests") {
                if request["status"].is_null() {
                    signed += 1;
                    let at = |s: i64| {
                        jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_secs(s)).unwrap().to_string()
                    };
                    let block = ["AQ==", "Ag==", "Aw=="].get(signed - 1).unwrap_or(&"BA==");
                    request["status"] = json!({"beginRefreshAt": at(1), "notBefore": at(0), "notAfter": at(3),
                        "certificateChain": format!("-----BEGIN CERTIFICATE-----\n{block}\n-----END CERTIFICATE-----\n"),
                        "conditions": [{"type": "Issued", "status": "True", "reason": "R", "message": "", "lastTransitionTime": at(0)}]});
                    api.put("/apis/certificates.k8s.io/v1beta1/namespaces/ns/podcertificaterequests", request);
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    w.phase(&path, "Running").await;
    let config = w.runtime.config("c").unwrap();
    let host = config.mounts.iter().find(|m| m.container_path == "/v").unwrap().host_path.clone();
    let read = |name: &str| std::fs::read_to_string(format!("{host}/{name}")).unwrap_or_default();
    assert!(read("chain").contains("\nAQ==\n"), "{}", read("chain"));
    let key = read("key");
    assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"), "{key}");
    for number in ["Ag==", "Aw=="] {
        eventually("the next certificate", || read("chain").contains(number)).await;
    }
    assert_ne!(read("key"), key, "each certificate has a key of its own");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(format!("{host}/key")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o400);
    assert_eq!(w.api.get(&path).unwrap()["status"]["containerStatuses"][0]["restartCount"], 0);
    signer.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn init_containers_in_order_then_success() {
    let w = World::new();
    let path = w.pod("p", json!({"restartPolicy": "Never", "initContainers": [{"name": "i1"}, {"name": "i2"}], "containers": [{"name": "c"}]}));
    let running = |name: &'static str| {
        move |p: Option<&Value>| {
            p.is_some_and(|p| {
                p["status"]["initContainerStatuses"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .chain(p["status"]["containerStatuses"].as_array().into_iter().flatten())
                    .any(|c| c["name"] == name && !c["state"]["running"].is_null())
            })
        }
    };
    let pod = w.api.wait(&path, "i1 running", running("i1")).await.unwrap();
    assert_eq!(
        (pod["status"]["phase"].as_str(), waiting(&pod, 0).as_str(), condition(&pod, "Initialized").as_str()),
        (Some("Pending"), "PodInitializing", "False")
    );
    w.runtime.exit("i1", 0);
    w.api.wait(&path, "i2 running", running("i2")).await;
    w.runtime.exit("i2", 0);
    w.api.wait(&path, "c running", running("c")).await;
    w.runtime.exit("c", 0);
    let pod = w.phase(&path, "Succeeded").await;
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    assert_eq!(w.runtime.calls(), ["start i1", "start i2", "start c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_restart_then_back_off() {
    let w = World::new();
    let path = w.pod("p", json!({"containers": [{"name": "c"}]}));
    w.phase(&path, "Running").await;
    w.runtime.exit("c", 3);
    let pod = w
        .api
        .wait(&path, "restarted", |p| {
            p.is_some_and(|p| {
                p["status"]["containerStatuses"][0]["restartCount"] == 1
                    && !p["status"]["containerStatuses"][0]["state"]["running"].is_null()
            })
        })
        .await
        .unwrap();
    assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 3);
    w.runtime.exit("c", 4);
    let pod =
        w.api.wait(&path, "backing off", |p| p.is_some_and(|p| waiting(p, 0) == "CrashLoopBackOff")).await.unwrap();
    let c = &pod["status"]["containerStatuses"][0];
    assert_eq!(
        (
            c["restartCount"].as_i64(),
            c["lastState"]["terminated"]["exitCode"].as_i64(),
            pod["status"]["phase"].as_str()
        ),
        (Some(1), Some(4), Some("Running"))
    );
    assert!(
        c["state"]["waiting"]["message"]
            .as_str()
            .unwrap()
            .starts_with("back-off 10s restarting failed container=c pod=p_ns(")
    );
    w.event("BackOff", "Back-off restarting failed container c in pod p_ns(").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_is_told() {
    let w = World::new();
    let image = w.pod("image", json!({"containers": [{"name": "c", "image": "nowhere:1"}]}));
    let env = w.pod("env", json!({"containers": [{"name": "c", "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]}));
    let mount = w.pod(
        "mount",
        json!({"containers": [{"name": "c"}], "volumes": [{"name": "v", "configMap": {"name": "later"}}]}),
    );
    let start =
        w.pod("start", json!({"restartPolicy": "Never", "containers": [{"name": "c", "command": ["/missing"]}]}));
    let never = w.pod("never", json!({"containers": [{"name": "c", "image": "other:1", "imagePullPolicy": "Never"}]}));
    let name = w.pod("name", json!({"containers": [{"name": "c", "image": "BAD NAME"}]}));
    for (path, reason) in [
        (&image, "ErrImagePull"),
        (&image, "ImagePullBackOff"),
        (&env, "CreateContainerConfigError"),
        (&mount, "ContainerCreating"),
        (&never, "ErrImageNeverPull"),
        (&name, "InvalidImageName"),
    ] {
        w.api.wait(path, reason, |p| p.is_some_and(|p| waiting(p, 0) == reason)).await;
    }
    w.event("FailedMount", "MountVolume.SetUp failed for volume \"v\" : configmap \"later\" not found").await;
    w.event("Failed", "Error: secret \"s\" not found").await;
    let pod = w.phase(&start, "Failed").await;
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"], "StartError");
    // What was missing comes, and the pods go on without waiting for a timer.
    w.api.put("/api/v1/namespaces/ns/configmaps", json!({"metadata": {"name": "later"}, "data": {}}));
    w.api.put("/api/v1/namespaces/ns/secrets", json!({"metadata": {"name": "s"}, "data": {"k": "dg=="}}));
    w.phase(&mount, "Running").await;
    w.phase(&env, "Running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_kubelet_adopts_and_misses_nothing() {
    let w = World::without_kubelet();
    let first = Shutdown::new();
    let task = w.start(&first);
    let stays = w.pod("stays", json!({"containers": [{"name": "a"}]}));
    let ends = w.pod("ends", json!({"restartPolicy": "Never", "containers": [{"name": "b"}]}));
    let goes = w.pod("goes", json!({"containers": [{"name": "g"}]}));
    for p in [&stays, &ends, &goes] {
        w.phase(p, "Running").await;
    }
    let before = w.api.get(&stays).unwrap();
    first.cancel();
    task.await.unwrap();
    w.runtime.exit("b", 5);
    w.api.delete(&goes, 0);
    w.start(&w.shutdown);
    let pod = w.phase(&ends, "Failed").await;
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 5);
    for _ in 0..100 {
        if w.runtime.config("g").is_none() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(w.runtime.config("g").is_none(), "a pod that was deleted meanwhile is cleaned up");
    let after = w.api.get(&stays).unwrap();
    assert_eq!(after["status"], before["status"], "nothing changed for a pod that just went on");
    assert_eq!(w.runtime.calls().iter().filter(|c| *c == "start a").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_start_first_and_stop_last() {
    let w = World::new();
    let path = w.pod("p", json!({"initContainers": [{"name": "s1", "restartPolicy": "Always"}, {"name": "s2", "restartPolicy": "Always"}], "containers": [{"name": "c"}]}));
    w.phase(&path, "Running").await;
    w.api.delete(&path, 30);
    w.api.wait(&path, "gone", |p| p.is_none()).await;
    assert_eq!(w.runtime.calls(), ["start s1", "start s2", "start c", "stop c", "stop s2", "stop s1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_decide_readiness_and_restarts() {
    let w = World::new();
    let probe = |command: &str| json!({"exec": {"command": [command]}, "periodSeconds": 1, "failureThreshold": 1});
    let path = w.pod("p", json!({"containers": [{"name": "c", "readinessProbe": probe("true")}, {"name": "d", "readinessProbe": probe("false")}]}));
    let pod = w
        .api
        .wait(&path, "c ready", |p| p.is_some_and(|p| p["status"]["containerStatuses"][0]["ready"] == true))
        .await
        .unwrap();
    assert_eq!(
        (pod["status"]["containerStatuses"][1]["ready"].as_bool(), condition(&pod, "Ready").as_str()),
        (Some(false), "False")
    );
    w.event("Unhealthy", "Readiness probe failed: false").await;
    let path = w.pod("q", json!({"containers": [{"name": "l", "livenessProbe": probe("false")}]}));
    w.api
        .wait(&path, "restarted", |p| p.is_some_and(|p| p["status"]["containerStatuses"][0]["restartCount"] == 1))
        .await;
    w.event("Killing", "Container l failed liveness probe, will be restarted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_panics_starts_again_and_adopts_what_runs() {
    let w = World::new();
    let path = w.pod("p", json!({"containers": [{"name": "c"}, {"name": "d"}]}));
    w.phase(&path, "Running").await;
    // The worker goes down while it looks at the end of a container.
    w.runtime.set_trap("c");
    w.runtime.exit("c", 3);
    w.api
        .wait(&path, "c restarted", |p| p.is_some_and(|p| p["status"]["containerStatuses"][0]["restartCount"] == 1))
        .await;
    let starts = |name: &str| w.runtime.calls().iter().filter(|c| **c == format!("start {name}")).count();
    assert_eq!((starts("c"), starts("d")), (2, 1), "{:?}", w.runtime.calls());
    // A pod that is deleted while it has no worker goes, too.
    w.runtime.set_trap("d");
    w.runtime.exit("d", 0);
    w.api.delete(&path, 0);
    w.api.wait(&path, "gone", |p| p.is_none()).await;
    for _ in 0..200 {
        if w.runtime.config("d").is_none() && w.runtime.config("c").is_none() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("containers were left behind: {:?}", w.runtime.calls());
}

/// Prints how long a pod takes from its creation until a client can see it running, with nothing real behind it: what
/// the node agent itself adds.
#[tokio::test(flavor = "multi_thread")]
async fn latency() {
    let w = World::new();
    w.api.wait("/api/v1/nodes/n1", "registered", |n| n.is_some()).await;
    let mut took = Vec::new();
    for i in 0..20 {
        let began = std::time::Instant::now();
        let path =
            w.pod(&format!("p{i}"), json!({"containers": [{"name": "c"}], "volumes": [{"name": "e", "emptyDir": {}}]}));
        w.phase(&path, "Running").await;
        took.push(began.elapsed());
    }
    took.sort();
    println!("create to Running: p50 {:?}, max {:?}", took[10], took[19]);
}
