"""The official Python client, typed and dynamic, against a cluster: python_client.py NAMESPACE IMAGE

Exits with 0 and prints one line per part that worked.
"""

import sys
import threading
import time

from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward, stream

NAMESPACE, IMAGE = sys.argv[1], sys.argv[2]


def done(what):
    print(what, flush=True)


def version():
    v = client.VersionApi().get_code()
    assert v.major.isdigit() and v.minor.isdigit(), v


def writes():
    """Create, read, replace, three patch types, conflicts, delete."""
    core = client.CoreV1Api()
    made = core.create_namespaced_config_map(
        NAMESPACE, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="written", labels={"by": "python"}), data={"a": "1"})
    )
    assert made.metadata.uid and made.metadata.creation_timestamp.tzinfo
    stale = core.read_namespaced_config_map("written", NAMESPACE)
    stale.data["a"] = "2"
    core.replace_namespaced_config_map("written", NAMESPACE, stale)
    stale.data["a"] = "3"
    try:
        core.replace_namespaced_config_map("written", NAMESPACE, stale)
        raise AssertionError("a stale replace went through")
    except ApiException as e:
        assert e.status == 409, e
    core.patch_namespaced_config_map("written", NAMESPACE, {"data": {"b": "4"}})
    core.patch_namespaced_config_map("written", NAMESPACE, [{"op": "remove", "path": "/data/a"}])
    now = core.read_namespaced_config_map("written", NAMESPACE)
    assert now.data == {"b": "4"}, now.data
    core.delete_namespaced_config_map("written", NAMESPACE)
    try:
        core.read_namespaced_config_map("written", NAMESPACE)
        raise AssertionError("it is still there")
    except ApiException as e:
        assert e.status == 404 and '"reason":"NotFound"' in e.body.replace(" ", ""), e.body


def pages_and_watches():
    core = client.CoreV1Api()
    for i in range(7):
        core.create_namespaced_config_map(
            NAMESPACE, client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"page-{i}", labels={"paged": "yes"}))
        )
    names, token, pages = [], None, 0
    while True:
        page = core.list_namespaced_config_map(NAMESPACE, limit=3, _continue=token)
        names += [i.metadata.name for i in page.items]
        pages += 1
        token = page.metadata._continue
        if not token:
            break
    assert pages >= 3 and len([n for n in names if n.startswith("page-")]) == 7, (pages, names)

    start = core.list_namespaced_config_map(NAMESPACE, label_selector="paged=yes").metadata.resource_version
    seen = []

    def follow():
        w = watch.Watch()
        for event in w.stream(
            core.list_namespaced_config_map,
            NAMESPACE,
            label_selector="paged=yes",
            resource_version=start,
            timeout_seconds=20,
        ):
            seen.append((event["type"], event["object"].metadata.name))
            if event["type"] == "DELETED":
                w.stop()

    t = threading.Thread(target=follow)
    t.start()
    core.patch_namespaced_config_map("page-0", NAMESPACE, {"data": {"x": "y"}})
    core.delete_namespaced_config_map("page-0", NAMESPACE)
    t.join(30)
    assert seen == [("MODIFIED", "page-0"), ("DELETED", "page-0")], seen
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="paged=yes")
    assert not core.list_namespaced_config_map(NAMESPACE, label_selector="paged=yes").items


def pods():
    """A pod that runs, its log, commands in it, a connection to it."""
    core = client.CoreV1Api()
    core.create_namespaced_pod(
        NAMESPACE,
        {
            "metadata": {"name": "py", "labels": {"app": "py"}},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [
                    {"name": "c", "image": IMAGE, "command": ["/bin/sh", "-c", "echo started; exec httpd -f -p 8080 -h /etc"]}
                ],
            },
        },
    )
    for event in watch.Watch().stream(core.list_namespaced_pod, NAMESPACE, label_selector="app=py", timeout_seconds=60):
        if event["object"].status.phase == "Running":
            break
    for _ in range(100):
        if "started" in core.read_namespaced_pod_log("py", NAMESPACE):
            break
        time.sleep(0.1)
    else:
        raise AssertionError("no log")
    said = stream(
        core.connect_get_namespaced_pod_exec,
        "py",
        NAMESPACE,
        command=["/bin/sh", "-c", "echo out; echo err >&2"],
        stderr=True,
        stdin=False,
        stdout=True,
        tty=False,
    )
    assert "out" in said and "err" in said, said
    shell = stream(
        core.connect_get_namespaced_pod_exec,
        "py",
        NAMESPACE,
        command=["/bin/sh"],
        stderr=True,
        stdin=True,
        stdout=True,
        tty=False,
        _preload_content=False,
    )
    shell.write_stdin("exit 7\n")
    shell.run_forever(timeout=10)
    assert shell.returncode == 7, shell.returncode
    forward = portforward(core.connect_get_namespaced_pod_portforward, "py", NAMESPACE, ports="8080")
    sock = forward.socket(8080)
    sock.setblocking(True)
    sock.sendall(b"GET /hostname HTTP/1.0\r\n\r\n")
    answer = b""
    while chunk := sock.recv(4096):
        answer += chunk
    sock.close()
    assert answer.rstrip().endswith(b"py"), answer
    core.delete_namespaced_pod("py", NAMESPACE)


def apps():
    apps = client.AppsV1Api()
    labels = {"app": "py-app"}
    apps.create_namespaced_deployment(
        NAMESPACE,
        client.V1Deployment(
            metadata=client.V1ObjectMeta(name="py-app"),
            spec=client.V1DeploymentSpec(
                replicas=0,
                selector=client.V1LabelSelector(match_labels=labels),
                template=client.V1PodTemplateSpec(
                    metadata=client.V1ObjectMeta(labels=labels),
                    spec=client.V1PodSpec(containers=[client.V1Container(name="c", image=IMAGE)]),
                ),
            ),
        ),
    )
    scale = apps.read_namespaced_deployment_scale("py-app", NAMESPACE)
    assert scale.spec.replicas == 0
    apps.delete_namespaced_deployment("py-app", NAMESPACE, propagation_policy="Foreground")


def anything():
    """The dynamic client: discovery, server-side apply, a custom resource."""
    d = dynamic.DynamicClient(client.ApiClient())
    maps = d.resources.get(api_version="v1", kind="ConfigMap")
    applied = maps.server_side_apply(
        namespace=NAMESPACE,
        name="applied",
        body={"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"k": "v"}},
        field_manager="python",
    )
    assert [m.manager for m in applied.metadata.managedFields] == ["python"], applied.metadata.managedFields
    maps.delete(name="applied", namespace=NAMESPACE)

    kind = f"Py{int(time.time() * 1000)}"
    plural = kind.lower() + "s"
    crds = d.resources.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
    name = f"{plural}.python.example.com"
    crds.create(
        body={
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": name},
            "spec": {
                "group": "python.example.com",
                "scope": "Namespaced",
                "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {
                            "openAPIV3Schema": {
                                "type": "object",
                                "properties": {
                                    "spec": {"type": "object", "properties": {"size": {"type": "integer", "default": 3}}}
                                },
                            }
                        },
                    }
                ],
            },
        }
    )
    try:
        for _ in range(100):
            if any(c.type == "Established" and c.status == "True" for c in crds.get(name=name).status.conditions or []):
                break
            time.sleep(0.05)
        d.resources.invalidate_cache()
        things = d.resources.get(api_version="python.example.com/v1", kind=kind)
        made = things.create(
            namespace=NAMESPACE,
            body={"apiVersion": "python.example.com/v1", "kind": kind, "metadata": {"name": "one"}, "spec": {}},
        )
        assert made.spec.size == 3, made
        assert [t.metadata.name for t in things.get(namespace=NAMESPACE).items] == ["one"]
    finally:
        crds.delete(name=name)


config.load_kube_config()
for part in (version, writes, pages_and_watches, pods, apps, anything):
    part()
    done(part.__name__)
