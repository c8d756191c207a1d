"""An operator on kopf: each Greeting gets a ConfigMap that it owns, its status says so, and its end is noted."""

import kopf
from kubernetes import client, config


@kopf.on.startup()
def start(settings: kopf.OperatorSettings, **_):
    config.load_kube_config()
    settings.posting.level = 20


@kopf.on.create("kopf.example.com", "v1", "greetings")
@kopf.on.update("kopf.example.com", "v1", "greetings", field="spec")
def greet(spec, name, namespace, **_):
    wanted = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"greeting-{name}"},
        "data": {"text": f"hello {spec['who']}"},
    }
    kopf.adopt(wanted)
    core = client.CoreV1Api()
    try:
        core.create_namespaced_config_map(namespace, wanted)
    except client.exceptions.ApiException as e:
        if e.status != 409:
            raise
        core.patch_namespaced_config_map(wanted["metadata"]["name"], namespace, {"data": wanted["data"]})
    return {"said": wanted["data"]["text"]}


@kopf.on.delete("kopf.example.com", "v1", "greetings")
def farewell(name, namespace, **_):
    client.CoreV1Api().create_namespaced_config_map(
        namespace, {"metadata": {"name": f"farewell-{name}"}, "data": {"text": "bye"}}
    )
