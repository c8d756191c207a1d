//! Pods, Services and names: who reaches whom.

use super::namespace::Namespace;
use super::pods::{PATIENCE, apply, shell};
use crate::cluster::Cluster;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::time::Duration;

/// The body of `http://host:port/path`. By nc: wget of Debian's static busybox crashes wherever it runs.
fn get(ns: &Namespace<'_>, pod: &str, url: &str) -> Result<String> {
    let (authority, path) = url.trim_start_matches("http://").split_once('/').unwrap_or((url, ""));
    let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
    let ask = format!("/bin/busybox printf 'GET /{path} HTTP/1.0\\r\\n\\r\\n' | /bin/busybox nc -w 5 {host} {port}");
    let answer = shell(ns, pod, "c", &ask)?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_string()).unwrap_or(answer))
}

pub fn reaches(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "network")?;
    apply(&ns, include_str!("../../testdata/network.yaml"))?;
    for pod in ["one", "two", "host", "hostport", "hello"] {
        ns.must(&format!("wait --for=condition=Ready pod/{pod} --timeout=30s"))?;
    }
    let field = |what: &str, path: &str| ns.must(&format!("get {what} -o jsonpath={{{path}}}"));
    let (one, two) = (field("pod one", ".status.podIP")?, field("pod two", ".status.podIP")?);
    let address = field("service web", ".spec.clusterIP")?;
    let node = field("node node1", ".status.addresses[0].address")?;
    c.wait(PATIENCE, "both endpoints", || {
        Ok(field("endpoints web", ".subsets[0].addresses[*].ip")?.split(' ').count() == 2)
    })?;

    // Pod to pod, and from the node.
    ensure!(get(&ns, "one", &format!("http://{two}:8080/"))? == "two\n", "pod to pod");
    ensure!(c.must(&["curl", "-s", "--max-time", "5", &format!("http://{one}:8080/")])? == "one\n", "node to pod");
    // The Service, by address, short name and full name; both endpoints, the asker itself included.
    for url in
        [format!("http://{address}/"), "http://web/".into(), format!("http://web.{}.svc.cluster.local/", ns.name())]
    {
        let mut seen = BTreeSet::new();
        c.wait(PATIENCE, &format!("both pods behind {url}"), || {
            seen.insert(get(&ns, "one", &url)?);
            Ok(seen.len() == 2)
        })?;
    }
    for url in [format!("http://{node}:30177/"), "http://127.0.0.1:30177/".into(), format!("http://{address}/")] {
        let said = c.must(&["curl", "-s", "--max-time", "5", &url])?;
        ensure!(said == "one\n" || said == "two\n", "{url} from the node: {said:?}");
    }
    ensure!(
        matches!(get(&ns, "two", &format!("http://{node}:30177/"))?.as_str(), "one\n" | "two\n"),
        "NodePort from a pod"
    );
    // One client stays with one pod.
    let mut seen = BTreeSet::new();
    for _ in 0..10 {
        seen.insert(get(&ns, "one", "http://sticky/")?);
    }
    ensure!(seen.len() == 1, "sessionAffinity: ClientIP reached {seen:?}");
    // Endpoints that a user wrote.
    let by_hand = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: by-hand}}\nspec: {{ports: [{{port: 80}}]}}\n---\n\
         apiVersion: v1\nkind: Endpoints\nmetadata: {{name: by-hand}}\n\
         subsets: [{{addresses: [{{ip: {one}}}], ports: [{{port: 8080}}]}}]\n"
    );
    apply(&ns, &by_hand)?;
    c.wait(PATIENCE, "hand-made Endpoints to serve", || {
        Ok(get(&ns, "two", "http://by-hand/").is_ok_and(|said| said == "one\n"))
    })?;
    // The host's network, and its port into a pod.
    ensure!(field("pod host", ".status.podIP")? == node, "a hostNetwork pod has the node's address");
    for url in [
        format!("http://{node}:8099/version"),
        format!("http://{node}:8097/version"),
        "http://127.0.0.1:8097/version".into(),
    ] {
        ensure!(c.must(&["curl", "-s", "--max-time", "5", &url])? == "v1\n", "{url}");
    }

    let dashed = one.replace('.', "-");
    let space = ns.name();
    let names = [
        ("web", address.as_str()),
        (&format!("web.{space}.svc.cluster.local"), &address),
        (&format!("one.headless.{space}.svc.cluster.local"), &one),
        (&format!("{dashed}.{space}.pod.cluster.local"), &one),
        ("headless", &one),
        ("headless", &two),
        ("alias", "10.43.0.1"),
        ("kubernetes.default.svc.cluster.local", "10.43.0.1"),
    ];
    for (name, want) in names {
        // Searches of other domains find nothing, which nslookup takes for a failure.
        let said = shell(&ns, "two", "c", &format!("/bin/busybox nslookup {name} 2>&1 || true"))?;
        ensure!(said.lines().any(|l| l.trim_end().ends_with(&format!(" {want}"))), "{name}: no {want} in\n{said}");
    }
    let said = shell(&ns, "two", "c", "/bin/busybox nslookup nobody 2>&1 || true")?;
    ensure!(said.contains("NXDOMAIN"), "a name that nobody has: {said}");

    // Nobody reaches the resolvers here: names outside are given up soon, rather than after a program's patience.
    for name in ["a.example.org.", "b.example.org."] {
        let began = std::time::Instant::now();
        let said = shell(&ns, "two", "c", &format!("/bin/busybox nslookup -type=a {name} 2>&1 || true"))?;
        let took = began.elapsed();
        ensure!(
            took < Duration::from_millis(2500) && !said.contains("timed out") && !said.contains("NXDOMAIN"),
            "{name} took {took:?}: {said}"
        );
    }

    // The built-in image tells what it knows.
    let ip = field("pod hello", ".status.podIP")?;
    let said = c.must(&["curl", "-s", "--max-time", "5", "-H", "X-Test: yes", &format!("http://{ip}:8080/a?b=c")])?;
    let said: serde_json::Value = serde_json::from_str(&said)?;
    for (pointer, want) in [
        ("/pod", "hello"),
        ("/node", "node1"),
        ("/namespace", space),
        ("/config/~1config/word", "ahoy"),
        ("/request/headers/x-test", "yes"),
        ("/request/path", "/a?b=c"),
        ("/addresses/0", &ip),
        ("/env/NODE_NAME", "node1"),
    ] {
        ensure!(said.pointer(pointer).and_then(|v| v.as_str()) == Some(want), "{pointer} isn't {want}: {said}");
    }
    // Who goes isn't asked any more.
    ns.must("delete pod two")?;
    c.wait(PATIENCE, "the endpoint to go", || Ok(field("endpoints web", ".subsets[0].addresses[*].ip")? == one))?;
    for _ in 0..10 {
        ensure!(get(&ns, "one", "http://web/")? == "one\n", "a deleted pod was asked");
    }
    ns.delete()
}

/// A machine that no network leads out of, or to which nothing but loopback is: pods reach the API all the same. Then it
/// gets an address, and another one, and stays the node that it is.
pub fn machines_without_routes(c: &Cluster) -> Result<()> {
    let archive = c.tools.images.join("shop_backend_v1.tar").display().to_string();
    c.skiff(&["images".into(), "import".into(), archive])?;
    let field =
        |what: &[&str], path: &str| c.kubectl(&[&["get"], what, &["-o", &format!("jsonpath={{{path}}}")]].concat());
    let works = |address: &str| -> Result<()> {
        c.wait_ready().with_context(|| format!("at {address}"))?;
        c.wait(PATIENCE, "the node's address", || {
            Ok(field(&["node", "node1"], ".status.addresses[?(@.type=='InternalIP')].address")? == address)
        })?;
        c.wait(PATIENCE, "the API's endpoint", || {
            Ok(field(&["endpointslice", "kubernetes"], ".endpoints[0].addresses[0]")? == address)
        })?;
        c.wait(PATIENCE, "a pod to reach the API and names", || {
            let script =
                "nslookup kubernetes.default.svc.cluster.local | grep -q 10.43.0.1 && nc -w 2 10.43.0.1 443 </dev/null";
            Ok(c.kubectl_run(&["exec", "p", "--", "sh", "-c", script])?.ok)
        })?;
        ensure!(c.kubectl(&["logs", "p"])? == "ready\n", "logs at {address}");
        let port = field(&["service", "p"], ".spec.ports[0].nodePort")?;
        for host in [address, "127.0.0.1"] {
            let url = format!("http://{host}:{port}/version");
            ensure!(c.must(&["curl", "-s", "--max-time", "5", &url])? == "v1\n", "{url}");
        }
        Ok(())
    };
    c.must(&["sh", "-ec", "ip link del up0"])?;
    c.serve(&[])?;
    c.wait_ready()?;
    c.wait(PATIENCE, "the default service account", || Ok(c.kubectl_run(&["get", "sa", "default"])?.ok))?;
    c.kubectl(&[
        "run",
        "p",
        "--image=shop/backend:v1",
        "--command",
        "--",
        "sh",
        "-c",
        "echo ready; exec httpd -f -p 8080 -h /www",
    ])?;
    c.kubectl(&["wait", "--for=condition=Ready", "pod/p", "--timeout=30s"])?;
    c.kubectl(&["expose", "pod", "p", "--port=80", "--target-port=8080", "--type=NodePort"])?;
    let id = field(&["pod", "p"], ".status.containerStatuses[0].containerID")?;
    works("10.42.0.1")?;
    for (script, address) in [
        (
            "ip link add up0 type veth peer name up1; ip addr add 198.51.100.7/24 dev up0; ip link set up0 up; ip link set up1 up",
            "198.51.100.7",
        ),
        ("ip addr add 192.0.2.2/24 dev up0; ip route add default via 192.0.2.1", "192.0.2.2"),
    ] {
        c.stop_server(libc::SIGTERM)?;
        c.must(&["sh", "-ec", script])?;
        c.serve(&[])?;
        works(address)?;
        ensure!(
            field(&["pod", "p"], ".status.containerStatuses[0].containerID")? == id,
            "the pod was replaced at {address}"
        );
        c.wait(PATIENCE, "the pod to know its node's address", || {
            Ok(field(&["pod", "p"], ".status.hostIP")? == address)
        })?;
    }
    // Whoever deletes what the cluster itself needs gets it back.
    c.kubectl(&["delete", "ipaddress", "10.43.0.1"])?;
    c.wait(PATIENCE, "the IPAddress of a Service to come back", || {
        let parent = field(&["ipaddress", "10.43.0.1", "--ignore-not-found"], ".spec.parentRef.name")?;
        let told = c.kubectl(&["get", "events", "--field-selector=reason=ClusterIPNotAllocated", "-o=name"])?;
        Ok(parent == "kubernetes" && !told.trim().is_empty())
    })?;
    let uid = field(&["service", "kubernetes"], ".metadata.uid")?;
    let cidr = field(&["servicecidr", "kubernetes"], ".metadata.uid")?;
    // It goes once another range has the addresses that are in use.
    c.kubectl(&["delete", "servicecidr", "kubernetes", "--wait=false"])?;
    c.kubectl(&[
        "wait",
        "servicecidr/kubernetes",
        "--for=jsonpath={.status.conditions[0].reason}=Terminating",
        "--timeout=30s",
    ])?;
    c.apply(
        "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: spare}\nspec: {cidrs: [10.43.0.0/16]}\n",
    )?;
    c.kubectl(&["delete", "service,endpointslice", "kubernetes"])?;
    c.kubectl(&["-n", "kube-system", "delete", "service,endpointslice", "--all"])?;
    c.wait(PATIENCE, "the Service kubernetes to come back", || {
        let now = field(&["service", "kubernetes", "--ignore-not-found"], ".metadata.uid")?;
        Ok(!now.is_empty() && now != uid)
    })?;
    c.wait(PATIENCE, "the ServiceCIDR kubernetes to come back", || {
        let now = field(&["servicecidr", "kubernetes", "--ignore-not-found"], ".metadata.uid")?;
        Ok(!now.is_empty() && now != cidr)
    })?;
    works("192.0.2.2")?;
    c.kubectl(&["delete", "pod", "p", "--grace-period=1"]).map(|_| ())
}
