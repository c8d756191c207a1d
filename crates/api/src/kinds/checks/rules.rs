//! One row per rule: a bad object and what is said about it. An object is its kind's smallest good one with a change.

use super::{created, lines_of, strategy_of};
use crate::validation::objectmeta;
use meta::field::Errors;
use serde_json::{Value, json};

/// Good objects, by the name that rows use.
fn base(name: &str) -> Value {
    let pod = json!({"containers": [{"name": "c", "image": "i"}]});
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod});
    let once = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let selector = json!({"matchLabels": {"a": "b"}});
    let pods = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]});
    let (version, kind, spec) = match name {
        "pod" => ("v1", "Pod", pod),
        "deployment" => ("apps/v1", "Deployment", json!({"selector": selector, "template": template})),
        "replicaset" => ("apps/v1", "ReplicaSet", json!({"selector": selector, "template": template})),
        "statefulset" => ("apps/v1", "StatefulSet", json!({"selector": selector, "template": template})),
        "daemonset" => ("apps/v1", "DaemonSet", json!({"selector": selector, "template": template})),
        "rc" => ("v1", "ReplicationController", json!({"selector": {"a": "b"}, "template": template})),
        "job" => ("batch/v1", "Job", json!({"template": once})),
        "indexed" => ("batch/v1", "Job", json!({"completionMode": "Indexed", "completions": 3, "template": once})),
        "cronjob" => {
            ("batch/v1", "CronJob", json!({"schedule": "@daily", "jobTemplate": {"spec": {"template": once}}}))
        }
        "service" => ("v1", "Service", json!({"ports": [{"port": 80}]})),
        "lb" => ("v1", "Service", json!({"type": "LoadBalancer", "ports": [{"port": 80}]})),
        "ingress" => (
            "networking.k8s.io/v1",
            "Ingress",
            json!({"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}),
        ),
        "ingressclass" => ("networking.k8s.io/v1", "IngressClass", json!({"controller": "a.io/b"})),
        "netpol" => ("networking.k8s.io/v1", "NetworkPolicy", json!({"podSelector": {}})),
        "servicecidr" => ("networking.k8s.io/v1", "ServiceCIDR", json!({"cidrs": ["10.0.0.0/16"]})),
        "pdb" => ("policy/v1", "PodDisruptionBudget", json!({"minAvailable": 1, "selector": {}})),
        "hpa" => (
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            json!({"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}),
        ),
        "quota" => ("v1", "ResourceQuota", json!({"hard": {"pods": "1"}})),
        "limits" => ("v1", "LimitRange", json!({"limits": [{"type": "Container"}]})),
        "pv" => (
            "v1",
            "PersistentVolume",
            json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/a"}}),
        ),
        "pvc" => (
            "v1",
            "PersistentVolumeClaim",
            json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}),
        ),
        "lease" => ("coordination.k8s.io/v1", "Lease", json!({})),
        "attachment" => (
            "storage.k8s.io/v1",
            "VolumeAttachment",
            json!({"attacher": "a.io", "nodeName": "n", "source": {"persistentVolumeName": "pv"}}),
        ),
        "csidriver" => ("storage.k8s.io/v1", "CSIDriver", json!({})),
        "csinode" => ("storage.k8s.io/v1", "CSINode", json!({"drivers": []})),
        "flowschema" => {
            ("flowcontrol.apiserver.k8s.io/v1", "FlowSchema", json!({"priorityLevelConfiguration": {"name": "p"}}))
        }
        "level" => (
            "flowcontrol.apiserver.k8s.io/v1",
            "PriorityLevelConfiguration",
            json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}),
        ),
        "policy" => (
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicy",
            json!({"matchConstraints": {"resourceRules": [pods]}, "validations": [{"expression": "true"}]}),
        ),
        "mutating" => (
            "admissionregistration.k8s.io/v1",
            "MutatingAdmissionPolicy",
            json!({"matchConstraints": {"resourceRules": [pods]}, "reinvocationPolicy": "Never",
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'remove', path: '/a'}]"}}]}),
        ),
        "policybinding" => (
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicyBinding",
            json!({"policyName": "p", "validationActions": ["Deny"]}),
        ),
        "claim" => (
            "resource.k8s.io/v1",
            "ResourceClaim",
            json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}),
        ),
        "slice" => (
            "resource.k8s.io/v1",
            "ResourceSlice",
            json!({"driver": "d.example.com", "nodeName": "n", "pool": {"name": "p", "resourceSliceCount": 1}}),
        ),
        "node" => ("v1", "Node", json!({})),
        other => panic!("no base {other}"),
    };
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "d"}, "spec": spec})
}

/// Sets what `change` has, at any depth; null removes.
fn merge(into: &mut Value, change: &Value) {
    match change {
        Value::Object(c) => {
            if !into.is_object() {
                *into = json!({});
            }
            for (k, v) in c {
                if v.is_null() {
                    into.as_object_mut().map(|o| o.remove(k));
                } else {
                    merge(&mut into[k], v);
                }
            }
        }
        other => *into = other.clone(),
    }
}

/// (base, change of the spec in JSON, what is said: a line each, each a prefix)
#[rustfmt::skip]
const ROWS: &[(&str, &str, &[&str])] = &[
    // Pod: containers
    ("pod", r#"{"containers":[]}"#, &["spec.containers: Required value"]),
    ("pod", r#"{"containers":[{"image":"i"}]}"#, &["spec.containers[0].name: Required value"]),
    ("pod", r#"{"containers":[{"name":"c"}]}"#, &["spec.containers[0].image: Required value"]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","imagePullPolicy":"Maybe"}]}"#, &[r#"spec.containers[0].imagePullPolicy: Unsupported value: "Maybe": supported values: "Always", "IfNotPresent", "Never""#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","terminationMessagePolicy":"X"}]}"#, &[r#"spec.containers[0].terminationMessagePolicy: Unsupported value: "X""#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","ports":[{"containerPort":1,"name":"a"},{"containerPort":2,"name":"a"}]}]}"#, &[r#"spec.containers[0].ports[1].name: Duplicate value: "a""#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","ports":[{"containerPort":1,"hostPort":9},{"containerPort":2,"hostPort":9}]}]}"#, &[r#"spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//9""#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","envFrom":[{}]}]}"#, &["spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`"]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","envFrom":[{"prefix":"a=","configMapRef":{"name":"x"}}]}]}"#, &[r#"spec.containers[0].envFrom[0].prefix: Invalid value: "a=""#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","env":[{"name":"A","valueFrom":{"secretKeyRef":{"name":"s","key":"a/b"}}}]}]}"#, &[r#"spec.containers[0].env[0].valueFrom.secretKeyRef.key: Invalid value: "a/b""#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","env":[{"name":"A","valueFrom":{"resourceFieldRef":{"resource":"limits.gpu"}}}]}]}"#, &[r#"spec.containers[0].env[0].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.gpu""#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","env":[{"name":"A","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu","divisor":"2"}}}]}]}"#, &["spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource"]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","env":[{"name":"A","valueFrom":{"fieldRef":{"fieldPath":"spec.nodeName['a']"}}}]}]}"#, &[r#"spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.nodeName['a']": error converting fieldPath: field label does not support subscript: spec.nodeName['a']"#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","livenessProbe":{"exec":{}}}]}"#, &["spec.containers[0].livenessProbe.exec.command: Required value"]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","livenessProbe":{"httpGet":{"port":80,"scheme":"FTP"}}}]}"#, &[r#"spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: "FTP""#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","readinessProbe":{"tcpSocket":{"port":1},"terminationGracePeriodSeconds":1}}]}"#, &["spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes"]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","livenessProbe":{"grpc":{"port":0}}}]}"#, &["spec.containers[0].livenessProbe.grpc.port: Invalid value: 0: must be between 1 and 65535, inclusive"]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","lifecycle":{"preStop":{"sleep":{"seconds":31}}}}]}"#, &["spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)"]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","lifecycle":{"postStart":{}}}]}"#, &["spec.containers[0].lifecycle.postStart: Required value: must specify a handler type"]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","resources":{"requests":{"cpu":"2"},"limits":{"cpu":"1"}}}]}"#, &[r#"spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1"#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","resources":{"limits":{"example.com/gpu":"1500m"}}}]}"#, &[r#"spec.containers[0].resources.limits[example.com/gpu]: Invalid value: "1500m": must be an integer"#, r#"spec.containers[0].resources.requests[example.com/gpu]: Invalid value: "1500m": must be an integer"#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","resources":{"claims":[{"name":"no"}]}}]}"#, &[r#"spec.containers[0].resources.claims[0]: Not found: "no": must be one of the names in pod.spec.resourceClaims which is empty"#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","resizePolicy":[{"resourceName":"cpu","restartPolicy":"X"}]}]}"#, &[r#"spec.containers[0].resizePolicy: Unsupported value: "X": supported values: "NotRequired", "RestartContainer""#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"In","values":[1]}}]}]}"#, &["spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used"]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","restartPolicy":"Never","restartPolicyRules":[{"action":"Restart"}]}]}"#, &["spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified"]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","securityContext":{"runAsUser":-1}}]}"#, &["spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive"]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","securityContext":{"procMount":"Unmasked"}}]}"#, &["spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`"]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","securityContext":{"appArmorProfile":{"type":"Localhost"}}}]}"#, &["spec.containers[0].securityContext.appArmorProfile.localhostProfile: Required value: must be set when AppArmor type is Localhost"]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","volumeDevices":[{"name":"v","devicePath":"/d"}]}],"volumes":[{"name":"v","emptyDir":{}}]}"#, &["spec.containers[0].volumeDevices[0].name: Invalid value: \"v\": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","volumeMounts":[{"name":"v","mountPath":"/m","mountPropagation":"Bidirectional"}]}],"volumes":[{"name":"v","emptyDir":{}}]}"#, &["spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers"]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","volumeMounts":[{"name":"v","mountPath":"/m","recursiveReadOnly":"Enabled"}]}],"volumes":[{"name":"v","emptyDir":{}}]}"#, &["spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true"]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","volumeMounts":[{"name":"v","mountPath":"/m","subPath":"a","subPathExpr":"b"}]}],"volumes":[{"name":"v","emptyDir":{}}]}"#, &["spec.containers[0].volumeMounts[0].subPathExpr: Invalid value: \"b\": subPathExpr and subPath are mutually exclusive"]),
    ("pod", r#"{"initContainers":[{"name":"c","image":"i"}]}"#, &[r#"spec.initContainers[0].name: Duplicate value: "c""#]),
    ("pod", r#"{"initContainers":[{"name":"i","image":"i","lifecycle":{"preStop":{"exec":{"command":["a"]}}}}]}"#, &["spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always"]),
    ("pod", r#"{"initContainers":[{"name":"i","image":"i","restartPolicy":"Sometimes"}]}"#, &[r#"spec.initContainers[0].restartPolicy: Unsupported value: "Sometimes""#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","restartPolicy":"Never","restartPolicyRules":[{"action":"Exit","exitCodes":{"operator":"In"}}]}]}"#, &[r#"spec.containers[0].restartPolicyRules[0].action: Unsupported value: "Exit": supported values: "Restart", "RestartAllContainers""#]),
    ("pod", r#"{"initContainers":[{"name":"i","image":"i","resizePolicy":[{"resourceName":"cpu","restartPolicy":"NotRequired"},{"resourceName":"memory","restartPolicy":"RestartContainer"}]},{"name":"s","image":"i","restartPolicy":"Always","resizePolicy":[{"resourceName":"memory","restartPolicy":"RestartContainer"}]}]}"#, &[r#"spec.initContainers[0].resizePolicy[1].restartPolicy: Invalid value: "RestartContainer": must not be set to 'RestartContainer' for non-sidecar initContainers"#]),
    ("deployment", r#"{"template":{"spec":{"initContainers":[{"name":"i","image":"i","resizePolicy":[{"resourceName":"cpu","restartPolicy":"RestartContainer"}]}]}}}"#, &[r#"spec.template.spec.initContainers[0].resizePolicy[0].restartPolicy: Invalid value: "RestartContainer": must not be set"#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","env":[{"name":"A","valueFrom":{"resourceFieldRef":{"resource":"x.cpu","divisor":"2"}}}]}]}"#, &[r#"spec.containers[0].env[0].valueFrom.resourceFieldRef.resource: Unsupported value: "x.cpu""#]),
    ("pod", r#"{"ephemeralContainers":[{"name":"e","image":"i","restartPolicy":"","lifecycle":{}}]}"#, &["spec.ephemeralContainers[0].restartPolicy: Forbidden: cannot be set", "spec.ephemeralContainers[0].lifecycle: Forbidden: cannot be set", "spec.ephemeralContainers: Forbidden: cannot be set on create"]),
    ("pod", r#"{"tolerations":[{"key":"a","operator":"Gt","value":"5"},{"key":"a","operator":"Ge"}]}"#, &[r#"spec.tolerations[0].operator: Unsupported value: "Gt": supported values: "Equal", "Exists", "Lt", "Gt""#, r#"spec.tolerations[1].operator: Unsupported value: "Ge": supported values: "Equal", "Exists""#]),
    ("pod", r#"{"volumes":[{"name":"v","projected":{"sources":[{"clusterTrustBundle":{"signerName":"","path":"p"}}]}}]}"#, &["spec.volumes[0].projected.sources[0].clusterTrustBundle.signerName: Required value: must be a valid signer name", "spec.volumes[0].projected.sources[0].clusterTrustBundle.signerName: Required value"]),
    ("pod", r#"{"volumes":[{"name":"v","projected":{"sources":[{"podCertificate":{"signerName":"e.com/a","keyType":"ED25519","keyPath":"/k","certificateChainPath":"/k"}}]}}]}"#, &[r#"spec.volumes[0].projected.sources[0].podCertificate.keyPath: Invalid value: "/k": must be a relative path"#, r#"spec.volumes[0].projected.sources[0].podCertificate.certificateChainPath: Invalid value: "/k": must be a relative path"#, r#"spec.volumes[0].projected: Invalid value: "/k": conflicting duplicate paths"#]),
    ("pv", r#"{"flexVolume":{"driver":"d"}}"#, &[]),
    ("pv", r#"{"persistentVolumeReclaimPolicy":"Recycle","hostPath":{"path":"/a/.."}}"#, &[r#"spec.hostPath.path: Invalid value: "/a/..": must not contain '..'"#, "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"]),
    ("pv", r#"{"persistentVolumeReclaimPolicy":"Recycle","hostPath":{"path":"./."}}"#, &[]),
    ("pv", r#"{"hostPath":null,"iscsi":{"iqn":"x","initiatorName":"y","secretRef":{}}}"#, &["spec.iscsi.targetPortal: Required value", r#"spec.iscsi.iqn: Invalid value: "x": must be valid format"#, "spec.iscsi.secretRef.name: Required value", r#"spec.iscsi.initiatorname: Invalid value: "y": must be valid format"#]),
    ("service", r#"{"internalTrafficPolicy":""}"#, &[r#"spec.internalTrafficPolicy: Unsupported value: "": supported values: "Cluster", "Local""#]),
    ("lb", r#"{"externalTrafficPolicy":"Local","healthCheckNodePort":70000}"#, &["spec.healthCheckNodePort: Invalid value: 70000: must be between 1 and 65535, inclusive"]),
    // Read from upstream rule by rule, in 1.35
    ("pod", r#"{"restartPolicy":"Never","containers":[{"name":"c","image":"i","resizePolicy":[{"resourceName":"cpu","restartPolicy":"RestartContainer"}]}]}"#, &[r#"spec.containers[0].resizePolicy: Invalid value: "RestartContainer": must be 'NotRequired' when pod `restartPolicy` is 'Never'"#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","env":[{"name":"A","valueFrom":{"fileKeyRef":{"volumeName":"v","path":"f","key":"k"}}}]}]}"#, &[r#"spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName: Not found: "v""#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","env":[{"name":"A","valueFrom":{"fieldRef":{"apiVersion":"v2","fieldPath":"metadata.name"}}}]}]}"#, &[r#"spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "metadata.name": error converting fieldPath: unsupported pod version: v2"#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","env":[{"name":"A","valueFrom":{"configMapKeyRef":{"name":"A","key":"k"}}}]}]}"#, &[r#"spec.containers[0].env[0].valueFrom.configMapKeyRef.name: Invalid value: "A": a lowercase RFC 1123 subdomain"#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","resources":{"limits":{"hugepages-2Mi":"1Mi","cpu":"1"}}}]}"#, &[r#"spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: "1Mi": 1Mi is not positive integer multiple of hugepages-2Mi"#, r#"spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: "1Mi": 1Mi is not positive integer multiple of hugepages-2Mi"#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","securityContext":{"windowsOptions":{"runAsUserName":"a\\b\\c"}}}]}"#, &[r#"spec.containers[0].securityContext.windowsOptions.runAsUserName: Invalid value: "a\\b\\c": runAsUserName cannot contain more than one backslash"#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","securityContext":{"appArmorProfile":{"type":"Localhost","localhostProfile":" x"}}}]}"#, &[r#"spec.containers[0].securityContext.appArmorProfile.localhostProfile: Invalid value: " x": must not be padded with whitespace"#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","volumeDevices":[{"name":"v","devicePath":"/a/../b"}]}],"volumes":[{"name":"v","persistentVolumeClaim":{"claimName":"x"}}]}"#, &[r#"spec.containers[0].volumeDevices[0].devicePath: Invalid value: "/a/../b": can not contain backsteps ('..')"#]),
    ("pod", r#"{"containers":[{"name":"c","image":"i","volumeDevices":[{"name":"v","devicePath":"/d"}],"volumeMounts":[{"name":"v","mountPath":"/d"}]}],"volumes":[{"name":"v","persistentVolumeClaim":{"claimName":"x"}}]}"#, &[r#"spec.containers[0].volumeMounts[0].name: Invalid value: "v": must not already exist in volumeDevices"#, r#"spec.containers[0].volumeMounts[0].mountPath: Invalid value: "/d": must not already exist as a path in volumeDevices"#, r#"spec.containers[0].volumeDevices[0].name: Invalid value: "v": must not already exist in volumeMounts"#, r#"spec.containers[0].volumeDevices[0].devicePath: Invalid value: "/d": must not already exist as a path in volumeMounts"#]),
    ("pod", r#"{"initContainers":[{"name":"i","image":"i","restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"In","values":[1]}}]}]}"#, &["spec.initContainers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used"]),
    ("pod", r#"{"hostnameOverride":"A","hostNetwork":true}"#, &["spec.hostnameOverride: Forbidden: may not be specified when hostNetwork is true", r#"spec.hostnameOverride: Invalid value: "A": a lowercase RFC 1123 subdomain"#]),
    ("pod", r#"{"securityContext":{"seLinuxChangePolicy":"X"}}"#, &[r#"spec.securityContext.seLinuxChangePolicy: Unsupported value: "X": supported values: "MountOption", "Recursive""#]),
    ("pod", r#"{"volumes":[{"name":"v","csi":{}}]}"#, &["spec.volumes[0].csi.driver: Required value", r#"spec.volumes[0].csi.driver: Invalid value: "": a lowercase RFC 1123 subdomain"#]),
    ("pod", r#"{"volumes":[{"name":"v","iscsi":{"targetPortal":"p","iqn":"x","lun":300}}]}"#, &[r#"spec.volumes[0].iscsi.iqn: Invalid value: "x": must be valid format starting with iqn, eui, or naa"#, "spec.volumes[0].iscsi.lun: Invalid value: 300: must be between 0 and 255, inclusive"]),
    ("pod", r#"{"volumes":[{"name":"v","fc":{}}]}"#, &["spec.volumes[0].fc.targetWWNs: Required value: must specify either targetWWNs or wwids, but not both"]),
    ("pod", r#"{"volumes":[{"name":"v","gcePersistentDisk":{"pdName":"d","partition":256}}]}"#, &["spec.volumes[0].persistentDisk.partition: Invalid value: 256: must be between 1 and 255, inclusive"]),
    ("pod", r#"{"volumes":[{"name":"v","flexVolume":{"driver":"d","options":{"a.kubernetes.io/b":"x"}}}]}"#, &[r#"spec.volumes[0].flexVolume.options[a.kubernetes.io/b]: Invalid value: "a.kubernetes.io/b": kubernetes.io and k8s.io namespaces are reserved"#]),
    ("pod", r#"{"volumes":[{"name":"v","emptyDir":{},"downwardAPI":{}}]}"#, &["spec.volumes[0].downwarAPI: Forbidden: may not specify more than 1 volume type"]),
    ("deployment", r#"{"template":{"metadata":{"annotations":{"container.apparmor.security.beta.kubernetes.io/z":"x"}}}}"#, &[r#"spec.template.annotations[container.apparmor.security.beta.kubernetes.io/z]: Invalid value: "z": container not found"#, r#"spec.template.annotations[container.apparmor.security.beta.kubernetes.io/z]: Invalid value: "x": invalid AppArmor profile name: "x""#]),
    ("deployment", r#"{"template":{"metadata":{"annotations":{"controller.kubernetes.io/pod-deletion-cost":"+1"}}}}"#, &[r#"spec.template.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "+1": must be a 32bit integer"#]),
    ("deployment", r#"{"template":{"metadata":{"annotations":{"seccomp.security.alpha.kubernetes.io/pod":"unconfined"}},"spec":{"securityContext":{"seccompProfile":{"type":"RuntimeDefault"}}}}}"#, &["spec.template.spec.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match"]),
    ("pv", r#"{"hostPath":null,"csi":{"driver":"d.io","volumeHandle":"h","nodePublishSecretRef":{"name":"A","namespace":"B"}}}"#, &[r#"spec.csi.nodePublishSecretRef.name: Invalid value: "A""#, r#"spec.csi.nodePublishSecretRef.namespace: Invalid value: "B""#]),
    ("pv", r#"{"volumeAttributesClassName":""}"#, &["spec.volumeAttributesClassName: Required value: an empty string is disallowed", "spec.csi: Required value: has to be specified when using volumeAttributesClassName"]),
    ("pv", r#"{"hostPath":null,"iscsi":{"targetPortal":"p","iqn":"x"}}"#, &[r#"spec.iscsi.iqn: Invalid value: "x": must be valid format"#]),
    ("pvc", r#"{"dataSourceRef":{"apiGroup":"A","kind":"K","name":"n"}}"#, &[r#"spec.dataSource.apiGroup: Invalid value: "A": a lowercase RFC 1123 subdomain"#, r#"spec.dataSourceRef.apiGroup: Invalid value: "A": a lowercase RFC 1123 subdomain"#]),
    ("node", r#"{"podCIDRs":["10.0.0.0/24","10.0.1.0/24"]}"#, &[r#"spec.podCIDRs: Invalid value: ["10.0.0.0/24","10.0.1.0/24"]: may specify no more than one CIDR for each IP family"#]),
    ("service", r#"{"clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ipFamilies":["IPv6"]}"#, &[r#"spec.clusterIPs[0]: Invalid value: "10.0.0.1": expected an IPv6 value as indicated by `ipFamilies[0]`"#]),
    ("service", r#"{"clusterIP":"None","clusterIPs":["None","10.0.0.1"]}"#, &[r#"spec.clusterIPs: Invalid value: ["None","10.0.0.1"]: 'None' must be the first and only value"#]),
    ("job", r#"{"podReplacementPolicy":"X"}"#, &[r#"spec.podReplacementPolicy: Unsupported value: "X": supported values: "Failed", "TerminatingOrFailed""#]),
    ("job", r#"{"managedBy":""}"#, &["spec.managedBy: Required value"]),
    ("cronjob", r#"{"timeZone":"a b"}"#, &[r#"spec.timeZone: Invalid value: "a b": unknown time zone a b"#]),
    ("cronjob", r#"{"jobTemplate":{"spec":{"selector":{"matchLabels":{"a":"b"}}}}}"#, &[r#"spec.jobTemplate.spec.selector: Invalid value: {"matchLabels":{"a":"b"}}: `selector` will be auto-generated"#]),
    ("statefulset", r#"{"serviceName":"a.b"}"#, &[r#"spec.serviceName: Invalid value: "a.b": must not contain dots"#]),
    ("statefulset", r#"{"volumeClaimTemplates":[{"metadata":{"name":"v"},"spec":{}}]}"#, &["spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required", "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value"]),
    ("statefulset", r#"{"template":{"spec":{"containers":[{"name":"c","image":"i","volumeMounts":[{"name":"v","mountPath":"/v"}]}]}}}"#, &[r#"spec.template.spec.containers[0].volumeMounts[0].name: Not found: "v""#]),
    ("statefulset", r#"{"volumeClaimTemplates":[{"metadata":{"name":"v"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}],"template":{"spec":{"containers":[{"name":"c","image":"i","volumeMounts":[{"name":"v","mountPath":"/v"}]}]}}}"#, &[]),
    ("daemonset", r#"{"updateStrategy":{"rollingUpdate":{"maxUnavailable":0,"maxSurge":0}}}"#, &["spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"]),
    ("ingress", r#"{"rules":[{"host":"1.2.3.4"}]}"#, &[r#"spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address"#]),
    ("ingress", r#"{"defaultBackend":{"service":null}}"#, &[r#"spec.defaultBackend: Invalid value: "": resource or service backend is required"#]),
    ("ingress", r#"{"defaultBackend":{"service":null,"resource":{"kind":"a/b"}}}"#, &[r#"spec.defaultBackend.resource.kind: Invalid value: "a/b": may not contain '/'"#, "spec.defaultBackend.resource.name: Required value"]),
    ("ingressclass", r#"{"parameters":{"kind":"K","name":"n","scope":"X"}}"#, &[r#"spec.parameters.scope: Unsupported value: "X": supported values: "Cluster", "Namespace""#]),
    ("netpol", r#"{"ingress":[{"ports":[{"protocol":"X"}]}]}"#, &[r#"spec.ingress[0].ports[0].protocol: Unsupported value: "X": supported values: "TCP", "UDP", "SCTP""#]),
    ("netpol", r#"{"policyTypes":["X"]}"#, &[r#"spec.policyTypes[0]: Unsupported value: "X": supported values: "Ingress", "Egress""#]),
    ("servicecidr", r#"{"cidrs":["2001:DB8::/64"]}"#, &[r#"spec.cidrs[0]: Invalid value: "2001:DB8::/64": must be in canonical form ("2001:db8::/64")"#]),
    ("attachment", r#"{"source":{"persistentVolumeName":null,"inlineVolumeSpec":{"hostPath":{"path":"/a"},"accessModes":["ReadWriteOnce"]}}}"#, &["spec.source.inlineVolumeSpec.csi: Required value: has to be specified in the context of inline volumes"]),
    ("csidriver", r#"{"nodeAllocatableUpdatePeriodSeconds":5}"#, &["spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 5: must be greater than or equal to 10 seconds"]),
    ("quota", r#"{"scopeSelector":{"matchExpressions":[{"scopeName":"BestEffort","operator":"In","values":["a"]}]}}"#, &[r#"spec.scopeSelector.matchExpressions.operator: Invalid value: "In": must be 'Exists' when scope is any of"#]),
    ("limits", r#"{"limits":[{"type":"Z"}]}"#, &[r#"spec.limits[0].type: Invalid value: "Z": must be a standard limit type or fully qualified"#]),
    ("lease", r#"{"strategy":"X"}"#, &[r#"spec.strategy.strategy: Unsupported value: "X": supported values: "OldestEmulationVersion""#]),
    ("hpa", r#"{"scaleTargetRef":{"apiVersion":"v1"}}"#, &[r#"spec.scaleTargetRef.apiVersion: Invalid value: "v1": apiVersion must specify API group"#]),
    ("hpa", r#"{"metrics":[{"type":"ContainerResource","containerResource":{"name":"gpu","container":"A","target":{"type":"Utilization","averageUtilization":1}}}]}"#, &[r#"spec.metrics[0].containerResource.name: Invalid value: "gpu": must be a standard resource type or fully qualified"#, r#"spec.metrics[0].containerResource.name: Invalid value: "gpu": must be a standard resource for containers"#, r#"spec.metrics[0].containerResource.container: Invalid value: "A""#]),
    ("hpa", r#"{"behavior":{"scaleUp":{"tolerance":"-1"}}}"#, &[r#"spec.behavior.scaleUp.tolerance: Invalid value: "-1": must be greater than or equal to 0"#]),
    // Pod: volumes
    ("pod", r#"{"volumes":[{"name":"A","emptyDir":{}}]}"#, &[r#"spec.volumes[0].name: Invalid value: "A""#]),
    ("pod", r#"{"volumes":[{"emptyDir":{}}]}"#, &["spec.volumes[0].name: Required value"]),
    ("pod", r#"{"volumes":[{"name":"v","emptyDir":{"sizeLimit":"-1"}}]}"#, &["spec.volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity"]),
    ("pod", r#"{"volumes":[{"name":"v","persistentVolumeClaim":{}}]}"#, &["spec.volumes[0].persistentVolumeClaim.claimName: Required value"]),
    ("pod", r#"{"volumes":[{"name":"v","nfs":{"server":"s","path":"rel"}}]}"#, &[r#"spec.volumes[0].nfs.path: Invalid value: "rel": must be an absolute path"#]),
    ("pod", r#"{"volumes":[{"name":"v","downwardAPI":{"items":[{"path":"p"}]}}]}"#, &["spec.volumes[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required"]),
    ("pod", r#"{"volumes":[{"name":"v","projected":{"sources":[{"serviceAccountToken":{"path":"t","expirationSeconds":1}}]}}]}"#, &["spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes", "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set"]),
    ("pod", r#"{"volumes":[{"name":"v","projected":{"sources":[{"configMap":{"name":"a","items":[{"key":"k","path":"p"}]}},{"secret":{"name":"b","items":[{"key":"k","path":"p"}]}}]}}]}"#, &[r#"spec.volumes[0].projected: Invalid value: "b": conflicting duplicate paths"#]),
    ("pod", r#"{"volumes":[{"name":"v","projected":{"sources":[{"clusterTrustBundle":{"path":"p"}}]}}]}"#, &[r#"spec.volumes[0].projected.sources[0].clusterTrustBundle: Required value: either name or signerName must be specified"#]),
    ("pod", r#"{"volumes":[{"name":"v","projected":{"sources":[{"clusterTrustBundle":{"name":"a","signerName":"e.com/a","path":"p"}}]}}]}"#, &[r#"spec.volumes[0].projected.sources[0].clusterTrustBundle: Invalid value: {"name":"a""#]),
    ("pod", r#"{"volumes":[{"name":"v","projected":{"sources":[{"clusterTrustBundle":{"name":"a:b","labelSelector":{},"path":"p"}}]}}]}"#, &[r#"spec.volumes[0].projected.sources[0].clusterTrustBundle.labelSelector: Invalid value: {}: labelSelector must be unset if name is specified"#]),
    ("pod", r#"{"volumes":[{"name":"v","projected":{"sources":[{"clusterTrustBundle":{"name":"A","path":"p"}}]}}]}"#, &[r#"spec.volumes[0].projected.sources[0].clusterTrustBundle.name: Invalid value: "A": not a valid clustertrustbundlename: a lowercase RFC 1123 subdomain"#]),
    ("pod", r#"{"volumes":[{"name":"v","projected":{"sources":[{"clusterTrustBundle":{"signerName":"e.com","path":""}}]}}]}"#, &[r#"spec.volumes[0].projected.sources[0].clusterTrustBundle.signerName: Invalid value: "e.com": must be a fully qualified domain and path"#, r#"spec.volumes[0].projected.sources[0].clusterTrustBundle.path: Required value"#]),
    ("pod", r#"{"volumes":[{"name":"v","projected":{"sources":[{"podCertificate":{"signerName":"e.com/a","keyType":"RSA1024"}}]}}]}"#, &[r#"spec.volumes[0].projected.sources[0].podCertificate.keyType: Unsupported value: "RSA1024": supported values: "RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519""#, r#"spec.volumes[0].projected.sources[0].podCertificate: Required value: specify at least one of credentialBundlePath, keyPath, and certificateChainPath"#]),
    ("pod", r#"{"volumes":[{"name":"v","projected":{"sources":[{"podCertificate":{"signerName":"e.com/a","keyType":"ED25519","maxExpirationSeconds":60,"keyPath":"../k"}}]}}]}"#, &[r#"spec.volumes[0].projected.sources[0].podCertificate.maxExpirationSeconds: Invalid value: 60: if provided, maxExpirationSeconds must be >= 3600"#, r#"spec.volumes[0].projected.sources[0].podCertificate.keyPath: Invalid value: "../k""#]),
    ("pod", r#"{"volumes":[{"name":"v","projected":{"sources":[{"podCertificate":{"signerName":"kubernetes.io/a","keyType":"ED25519","maxExpirationSeconds":86401,"keyPath":"k","userAnnotations":{"a":"b"}}}]}}]}"#, &[r#"spec.volumes[0].projected.sources[0].podCertificate.userAnnotations: Invalid value: "a": must be a domain-prefixed key"#, r#"spec.volumes[0].projected.sources[0].podCertificate.maxExpirationSeconds: Invalid value: 86401: if provided, maxExpirationSeconds must be <= 86400"#]),
    ("pod", r#"{"volumes":[{"name":"v","projected":{"sources":[{"podCertificate":{"signerName":"e.com/a","keyType":"ED25519","keyPath":"k","certificateChainPath":"k"}}]}}]}"#, &[r#"spec.volumes[0].projected: Invalid value: "k": conflicting duplicate paths"#]),
    ("pod", r#"{"volumes":[{"name":"v","image":{}}]}"#, &["spec.volumes[0].image.reference: Required value"]),
    ("pod", r#"{"volumes":[{"name":"v","ephemeral":{}}]}"#, &["spec.volumes[0].ephemeral.volumeClaimTemplate: Required value"]),
    ("pod", r#"{"volumes":[{"name":"v","configMap":{"name":"c","items":[{"key":"k","path":"../x"}]}}]}"#, &[r#"spec.volumes[0].configMap.items[0].path: Invalid value: "../x": must not contain '..'"#]),
    // Pod: the rest
    ("pod", r#"{"dnsPolicy":"X"}"#, &[r#"spec.dnsPolicy: Unsupported value: "X""#]),
    ("pod", r#"{"dnsConfig":{"nameservers":["1.1.1.1","1.1.1.2","1.1.1.3","1.1.1.4"]}}"#, &["spec.dnsConfig.nameservers: Invalid value: [\"1.1.1.1\",\"1.1.1.2\",\"1.1.1.3\",\"1.1.1.4\"]: must not have more than 3 nameservers"]),
    ("pod", r#"{"dnsConfig":{"options":[{}]}}"#, &["spec.dnsConfig.options[0]: Required value: must not be empty"]),
    ("pod", r#"{"hostname":"A.b"}"#, &[r#"spec.hostname: Invalid value: "A.b""#]),
    ("pod", r#"{"nodeName":"A"}"#, &[r#"spec.nodeName: Invalid value: "A""#]),
    ("pod", r#"{"priorityClassName":"A"}"#, &[r#"spec.priorityClassName: Invalid value: "A""#]),
    ("pod", r#"{"runtimeClassName":"A"}"#, &[r#"spec.runtimeClassName: Invalid value: "A""#]),
    ("pod", r#"{"preemptionPolicy":"A"}"#, &[r#"spec.preemptionPolicy: Unsupported value: "A": supported values: "PreemptLowerPriority", "Never""#]),
    ("pod", r#"{"os":{"name":"beos"}}"#, &[r#"spec.os: Unsupported value: "beos": supported values: "linux", "windows""#]),
    ("pod", r#"{"os":{"name":"windows"},"securityContext":{"runAsUser":1}}"#, &["spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod"]),
    ("pod", r#"{"os":{"name":"windows"},"containers":[{"name":"c","image":"i","securityContext":{"privileged":true}}]}"#, &["spec.containers[0].securityContext.privileged: Forbidden: cannot be set for a windows pod"]),
    ("pod", r#"{"os":{"name":"linux"},"securityContext":{"windowsOptions":{}}}"#, &["spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod"]),
    ("pod", r#"{"securityContext":{"windowsOptions":{"hostProcess":true}}}"#, &["spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers"]),
    ("pod", r#"{"hostUsers":false,"hostPID":true}"#, &["spec.HostPID: Forbidden: when `hostUsers` is false"]),
    ("pod", r#"{"securityContext":{"fsGroupChangePolicy":"X"}}"#, &[r#"spec.securityContext.fsGroupChangePolicy: Unsupported value: "X""#]),
    ("pod", r#"{"securityContext":{"supplementalGroups":[-1]}}"#, &["spec.securityContext.supplementalGroups[0]: Invalid value: -1"]),
    ("pod", r#"{"securityContext":{"supplementalGroupsPolicy":"X"}}"#, &[r#"spec.securityContext.supplementalGroupsPolicy: Unsupported value: "X": supported values: "Merge", "Strict""#]),
    ("pod", r#"{"securityContext":{"seccompProfile":{"type":"X"}}}"#, &[r#"spec.securityContext.seccompProfile.type: Unsupported value: "X""#]),
    ("pod", r#"{"hostNetwork":true,"securityContext":{"sysctls":[{"name":"net.core.somaxconn","value":"1"}]}}"#, &["spec.securityContext.sysctls[0].name: Invalid value: \"net.core.somaxconn\": may not be specified when 'hostNetwork' is true"]),
    ("pod", r#"{"tolerations":[{"key":"a","operator":"Exists","value":"b"}]}"#, &[r#"spec.tolerations[0].operator: Invalid value: "b": value must be empty when `operator` is 'Exists'"#]),
    ("pod", r#"{"tolerations":[{"key":"a","effect":"X"}]}"#, &[r#"spec.tolerations[0].effect: Unsupported value: "X""#]),
    ("pod", r#"{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{}}}}"#, &["spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term"]),
    ("pod", r#"{"affinity":{"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":0,"preference":{}}]}}}"#, &["spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100"]),
    ("pod", r#"{"affinity":{"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{}]}}}"#, &["spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty", r#"spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must be non-empty"#, r#"spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"#]),
    ("pod", r#"{"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"ScheduleAnyway","minDomains":1}]}"#, &["spec.topologySpreadConstraints[0].minDomains: Invalid value: 1: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway"]),
    ("pod", r#"{"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"DoNotSchedule"},{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"DoNotSchedule"}]}"#, &[r#"spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: "{z, DoNotSchedule}""#]),
    ("pod", r#"{"schedulingGates":[{"name":"a b"}]}"#, &[r#"spec.schedulingGates[0]: Invalid value: "a b""#]),
    ("pod", r#"{"readinessGates":[{"conditionType":"a b"}]}"#, &[r#"spec.readinessGates[0].conditionType: Invalid value: "a b""#]),
    ("pod", r#"{"hostAliases":[{"ip":"x"}]}"#, &[r#"spec.hostAliases[0].ip: Invalid value: "x": must be a valid IP address"#]),
    ("pod", r#"{"hostAliases":[{"ip":"::ffff:1.2.3.4"}]}"#, &[r#"spec.hostAliases[0].ip: Invalid value: "::ffff:1.2.3.4": must not be an IPv4-mapped IPv6 address"#]),
    ("pod", r#"{"resourceClaims":[{"name":"a"}]}"#, &["spec.resourceClaims[0]: Invalid value: {\"name\":\"a\"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"]),
    ("pod", r#"{"resources":{"requests":{"nvidia.com/gpu":"1"}}}"#, &[r#"spec.resources.requests[nvidia.com/gpu]: Unsupported value: "nvidia.com/gpu""#, "spec.resources.limits: Required value: Limit must be set for non overcommitable resources"]),
    ("pod", r#"{"resources":{"requests":{"cpu":"1"}},"containers":[{"name":"c","image":"i","resources":{"requests":{"cpu":"2"}}}]}"#, &[r#"spec.resources.requests[cpu]: Invalid value: "1": must be greater than or equal to aggregate container requests of 2"#]),
    ("pod", r#"{"resources":{"limits":{"cpu":"1"},"requests":{"cpu":"1"}},"containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"2"},"requests":{"cpu":"1"}}}]}"#, &[r#"spec.resources.containers[0][cpu].limits: Invalid value: "2": must be less than or equal to pod limits of 1"#]),
    ("pod", r#"{"overhead":{"gpu":"1"}}"#, &[r#"spec.overhead.limits[gpu]: Invalid value: "gpu": must be a standard resource type or fully qualified"#, r#"spec.overhead.limits[gpu]: Invalid value: "gpu": must be a standard resource for containers"#]),
    ("pod", r#"{"nodeSelector":{"a":"b c"}}"#, &[r#"spec.nodeSelector: Invalid value: "b c""#]),
    // Workloads
    ("deployment", r#"{"selector":{"matchLabels":null}}"#, &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"]),
    ("deployment", r#"{"selector":{"matchExpressions":[{"key":"a","operator":"Is"}]}}"#, &[r#"spec.selector.matchExpressions[0].operator: Invalid value: "Is": not a valid selector operator"#, r#"spec.selector: Invalid value: {"matchExpressions":[{"key":"a","operator":"Is"}],"matchLabels":{"a":"b"}}: invalid label selector"#]),
    ("deployment", r#"{"strategy":{"type":"Slow"}}"#, &[r#"spec.strategy: Unsupported value: {"RollingUpdate":null,"Type":"Slow"}: supported values: "Recreate", "RollingUpdate""#]),
    ("deployment", r#"{"strategy":{"rollingUpdate":{"maxUnavailable":"150%"}}}"#, &[r#"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "150%": must not be greater than 100%"#]),
    ("deployment", r#"{"strategy":{"rollingUpdate":{"maxSurge":"x"}}}"#, &[r#"spec.strategy.rollingUpdate.maxSurge: Invalid value: "x": a valid percent string must be"#]),
    ("deployment", r#"{"revisionHistoryLimit":-1}"#, &["spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0"]),
    ("deployment", r#"{"template":{"spec":{"activeDeadlineSeconds":5}}}"#, &["spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported"]),
    ("deployment", r#"{"template":{"spec":{"ephemeralContainers":[{"name":"e","image":"e"}]}}}"#, &["spec.template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template"]),
    ("replicaset", r#"{"replicas":-1}"#, &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]),
    ("rc", r#"{"selector":{"a":"c"}}"#, &["spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`"]),
    ("statefulset", r#"{"updateStrategy":{"type":"X"}}"#, &["spec.updateStrategy: Invalid value"]),
    ("statefulset", r#"{"updateStrategy":{"rollingUpdate":{"maxUnavailable":0}}}"#, &["spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0"]),
    ("statefulset", r#"{"ordinals":{"start":-1}}"#, &["spec.ordinals.start: Invalid value: -1"]),
    ("statefulset", r#"{"persistentVolumeClaimRetentionPolicy":{"whenScaled":"Keep"}}"#, &[r#"spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: "Keep""#]),
    ("daemonset", r#"{"updateStrategy":{"rollingUpdate":{"maxUnavailable":0,"maxSurge":0}}}"#, &["spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"]),
    ("daemonset", r#"{"updateStrategy":{"rollingUpdate":{"maxUnavailable":1,"maxSurge":1}}}"#, &["spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"]),
    // Jobs
    ("job", r#"{"completionMode":"X"}"#, &[r#"spec.completionMode: Unsupported value: "X": supported values: "NonIndexed", "Indexed""#]),
    ("job", r#"{"backoffLimitPerIndex":1}"#, &["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"]),
    ("job", r#"{"successPolicy":{"rules":[]}}"#, &["spec.successPolicy: Invalid value"]),
    ("job", r#"{"managedBy":"me"}"#, &["spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")"]),
    ("job", r#"{"podReplacementPolicy":"X"}"#, &[r#"spec.podReplacementPolicy: Unsupported value: "X""#]),
    ("job", r#"{"template":{"spec":{"restartPolicy":"Always"}}}"#, &[r#"spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#]),
    ("job", r#"{"podFailurePolicy":{"rules":[{"onExitCodes":{"operator":"In","values":[1]}}]}}"#, &["spec.podFailurePolicy.rules[0].action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]"]),
    ("job", r#"{"podFailurePolicy":{"rules":[{"action":"FailIndex","onExitCodes":{"operator":"In","values":[1]}}]}}"#, &["spec.podFailurePolicy.rules[0].action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set"]),
    ("job", r#"{"podFailurePolicy":{"rules":[{"action":"Ignore"}]}}"#, &["spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required"]),
    ("job", r#"{"podFailurePolicy":{"rules":[{"action":"Ignore","onExitCodes":{"containerName":"z","operator":"In","values":[3,0]}}]}}"#, &["spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: \"z\": must be one of the container or initContainer names in the pod template", "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator", "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [3,0]: must be ordered"]),
    ("job", r#"{"podFailurePolicy":{"rules":[{"action":"Ignore","onPodConditions":[{"type":"a b","status":"Maybe"}]}]}}"#, &[r#"spec.podFailurePolicy.rules[0].onPodConditions[0].type: Invalid value: "a b""#, r#"spec.podFailurePolicy.rules[0].onPodConditions[0].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown""#]),
    ("indexed", r#"{"completions":null,"parallelism":1}"#, &["spec.completions: Required value: when completion mode is Indexed"]),
    ("indexed", r#"{"parallelism":100001}"#, &["spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed"]),
    ("indexed", r#"{"maxFailedIndexes":4,"backoffLimitPerIndex":1}"#, &["spec.maxFailedIndexes: Invalid value: 4: must be less than or equal to completions"]),
    ("indexed", r#"{"maxFailedIndexes":1}"#, &["spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified"]),
    ("indexed", r#"{"completions":100001,"backoffLimitPerIndex":1}"#, &["spec.maxFailedIndexes: Required value: must be specified when completions is above 100000"]),
    ("indexed", r#"{"successPolicy":{"rules":[{}]}}"#, &["spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified"]),
    ("indexed", r#"{"successPolicy":{"rules":[{"succeededIndexes":"3"}]}}"#, &["spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"3\": error parsing succeededIndexes: too large index: \"3\""]),
    ("indexed", r#"{"successPolicy":{"rules":[{"succeededIndexes":"1,0"}]}}"#, &["spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"1,0\": error parsing succeededIndexes: non-increasing order, previous: 1, current: 0"]),
    ("indexed", r#"{"successPolicy":{"rules":[{"succeededIndexes":"0-1","succeededCount":3}]}}"#, &["spec.successPolicy.rules[0].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)"]),
    ("cronjob", r#"{"schedule":"TZ=UTC * * * * *"}"#, &["spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead"]),
    ("cronjob", r#"{"concurrencyPolicy":"X"}"#, &[r#"spec.concurrencyPolicy: Unsupported value: "X": supported values: "Allow", "Forbid", "Replace""#]),
    ("cronjob", r#"{"timeZone":"local"}"#, &[r#"spec.timeZone: Invalid value: "local": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"#, r#"spec.timeZone: Invalid value: "local": unknown time zone local"#]),
    // Network
    ("service", r#"{"ports":[]}"#, &["spec.ports: Required value"]),
    ("service", r#"{"type":"Magic"}"#, &[r#"spec.type: Unsupported value: "Magic""#]),
    ("service", r#"{"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":0}}}"#, &["spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400"]),
    ("service", r#"{"ipFamilies":["IPv5"]}"#, &[r#"spec.ipFamilies[0]: Unsupported value: "IPv5""#]),
    ("service", r#"{"ipFamilies":["IPv4","IPv4"]}"#, &[r#"spec.ipFamilies[1]: Duplicate value: "IPv4""#]),
    ("service", r#"{"ipFamilyPolicy":"X"}"#, &[r#"spec.ipFamilyPolicy: Unsupported value: "X""#]),
    ("service", r#"{"clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1","10.0.0.2"]}"#, &["spec.clusterIPs: Invalid value: [\"10.0.0.1\",\"10.0.0.2\"]: may specify no more than one IP for each IP family"]),
    ("service", r#"{"externalTrafficPolicy":"Local"}"#, &["spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services"]),
    ("service", r#"{"internalTrafficPolicy":"X"}"#, &[r#"spec.internalTrafficPolicy: Unsupported value: "X""#]),
    ("service", r#"{"trafficDistribution":"X"}"#, &[r#"spec.trafficDistribution: Unsupported value: "X": supported values: "PreferClose", "PreferSameZone", "PreferSameNode""#]),
    ("service", r#"{"loadBalancerSourceRanges":["10.0.0.0/8"]}"#, &["spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'"]),
    ("service", r#"{"healthCheckNodePort":30000}"#, &["spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"]),
    ("service", r#"{"externalIPs":["0.0.0.0"]}"#, &["spec.externalIPs[0]: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0)"]),
    ("service", r#"{"externalIPs":["169.254.1.1"]}"#, &["spec.externalIPs[0]: Invalid value: \"169.254.1.1\": may not be in the link-local range (169.254.0.0/16, fe80::/10)"]),
    ("service", r#"{"selector":{"a":"b c"}}"#, &[r#"spec.selector: Invalid value: "b c""#]),
    ("lb", r#"{"clusterIP":"None"}"#, &["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for LoadBalancer services"]),
    ("lb", r#"{"loadBalancerClass":"a b"}"#, &[r#"spec.loadBalancerClass: Invalid value: "a b""#]),
    ("lb", r#"{"loadBalancerSourceRanges":["10.0.0.1/8"]}"#, &[r#"spec.LoadBalancerSourceRanges[0]: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length"#]),
    ("lb", r#"{"loadBalancerSourceRanges":["10.0.0.0/08"]}"#, &[r#"spec.LoadBalancerSourceRanges[0]: Invalid value: "10.0.0.0/08": must not have leading 0s in IP or prefix length"#]),
    ("ingress", r#"{"defaultBackend":null}"#, &["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"]),
    ("ingress", r#"{"defaultBackend":{"service":{"name":"s","port":{"name":"a","number":80}}}}"#, &["spec.defaultBackend: Invalid value: \"\": cannot set both port name & port number"]),
    ("ingress", r#"{"rules":[{"host":"*.*.com"}]}"#, &[r#"spec.rules[0].host: Invalid value: "*.*.com""#]),
    ("ingress", r#"{"rules":[{"http":{"paths":[{"path":"/a//b","pathType":"Exact","backend":{"service":{"name":"s","port":{"number":1}}}}]}}]}"#, &["spec.rules[0].http.paths[0].path: Invalid value: \"/a//b\": must not contain '//'"]),
    ("ingressclass", r#"{"controller":"nope"}"#, &["spec.controller: Invalid value: \"nope\": must be a domain-prefixed path (such as \"acme.io/foo\")"]),
    ("ingressclass", r#"{"parameters":{"kind":"K","name":"n","scope":"Namespace"}}"#, &["spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"]),
    ("netpol", r#"{"ingress":[{"from":[{}]}]}"#, &["spec.ingress[0].from[0]: Required value: must specify a peer"]),
    ("netpol", r#"{"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8"},"podSelector":{}}]}]}"#, &["spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer"]),
    ("netpol", r#"{"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["11.0.0.0/8"]}}]}]}"#, &["spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/8\": must be a strict subset of `cidr`"]),
    ("netpol", r#"{"egress":[{"ports":[{"endPort":1}]}]}"#, &["spec.egress[0].ports[0].endPort: Invalid value: 1: may not be specified when `port` is not specified"]),
    ("netpol", r#"{"egress":[{"ports":[{"port":5,"endPort":1}]}]}"#, &["spec.egress[0].ports[0].endPort: Invalid value: 5: must be greater than or equal to `port`"]),
    ("netpol", r#"{"policyTypes":["X"]}"#, &[r#"spec.policyTypes[0]: Unsupported value: "X": supported values: "Ingress", "Egress""#]),
    ("servicecidr", r#"{"cidrs":[]}"#, &["spec.cidrs: Required value: at least one CIDR required"]),
    ("servicecidr", r#"{"cidrs":["10.0.0.0/16","10.1.0.0/16"]}"#, &["spec.cidrs: Invalid value"]),
    // Policy, scaling
    ("pdb", r#"{"maxUnavailable":1}"#, &["spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1,\"selector\":{}}: minAvailable and maxUnavailable cannot be both set"]),
    ("pdb", r#"{"minAvailable":"101%"}"#, &["spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%"]),
    ("pdb", r#"{"unhealthyPodEvictionPolicy":"X"}"#, &[r#"spec.unhealthyPodEvictionPolicy: Unsupported value: "X""#]),
    ("hpa", r#"{"maxReplicas":0}"#, &["spec.maxReplicas: Invalid value: 0: must be greater than 0", "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`"]),
    ("hpa", r#"{"scaleTargetRef":{"name":null}}"#, &["spec.scaleTargetRef.name: Required value"]),
    ("hpa", r#"{"metrics":[{"type":"Resource"}]}"#, &["spec.metrics[0].resource: Required value: must populate information for the given metric source"]),
    ("hpa", r#"{"metrics":[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization"}}}]}"#, &["spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization"]),
    ("hpa", r#"{"metrics":[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":0}}}]}"#, &["spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0"]),
    ("hpa", r#"{"metrics":[{"type":"Pods","pods":{"metric":{"name":"m"},"target":{"type":"AverageValue"}}}]}"#, &["spec.metrics[0].pods.target.averageValue: Required value: must specify a positive target averageValue"]),
    ("hpa", r#"{"metrics":[{"type":"Pods","pods":{"metric":{"name":"m"},"target":{"type":"AverageValue","averageValue":"0"}}}]}"#, &["spec.metrics[0].pods.target.averageValue: Invalid value: \"0\": must be positive"]),
    ("hpa", r#"{"metrics":[{"type":"External","external":{"metric":{"name":"m"},"target":{"type":"Value","value":"1","averageValue":"1"}}}]}"#, &["spec.metrics[0].external.target.value: Forbidden: may not set both a target value for metric and a per-pod target"]),
    ("hpa", r#"{"behavior":{"scaleDown":{"stabilizationWindowSeconds":4000}}}"#, &["spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: 4000: must be less than or equal to 3600"]),
    ("quota", r#"{"hard":{"bananas":"1"}}"#, &["spec.hard[bananas]: Invalid value: \"bananas\": must be a standard resource type or fully qualified", "spec.hard[bananas]: Invalid value: \"bananas\": must be a standard resource for quota"]),
    ("quota", r#"{"hard":{"pods":"-1"}}"#, &["spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0"]),
    ("quota", r#"{"hard":{"pods":"1500m"}}"#, &["spec.hard[pods]: Invalid value: \"1500m\": must be an integer"]),
    ("quota", r#"{"scopes":["X"]}"#, &["spec.scopes: Invalid value: [\"X\"]: unsupported scope"]),
    ("quota", r#"{"scopes":["Terminating","NotTerminating"]}"#, &["spec.scopes: Invalid value: [\"Terminating\",\"NotTerminating\"]: conflicting scopes"]),
    ("quota", r#"{"hard":{"cpu":"1"},"scopes":["BestEffort"]}"#, &["spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource"]),
    ("quota", r#"{"scopeSelector":{"matchExpressions":[{"scopeName":"PriorityClass","operator":"In"}]}}"#, &["spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"]),
    ("quota", r#"{"scopeSelector":{"matchExpressions":[{"scopeName":"BestEffort","operator":"In","values":["a"]}]}}"#, &[r#"spec.scopeSelector.matchExpressions.operator: Invalid value: "In": must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"#]),
    ("limits", r#"{"limits":[{"type":"Pod","default":{"cpu":"1"}}]}"#, &["spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"]),
    ("limits", r#"{"limits":[{"type":"Pod"},{"type":"Pod"}]}"#, &[r#"spec.limits[1].type: Duplicate value: "Pod""#]),
    ("limits", r#"{"limits":[{"type":"PersistentVolumeClaim"}]}"#, &["spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided"]),
    ("limits", r#"{"limits":[{"type":"Pod","maxLimitRequestRatio":{"cpu":"500m"}}]}"#, &["spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1"]),
    ("limits", r#"{"limits":[{"type":"Pod","min":{"cpu":"1"},"max":{"cpu":"2"},"maxLimitRequestRatio":{"cpu":"3"}}]}"#, &["spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000"]),
    // Storage
    ("pv", r#"{"capacity":null}"#, &["spec.capacity: Required value", r#"spec.capacity: Unsupported value: {}: supported values: "storage""#]),
    ("pv", r#"{"capacity":{"storage":"0"}}"#, &["spec.capacity[storage]: Invalid value: \"0\": must be greater than zero"]),
    ("pv", r#"{"accessModes":[]}"#, &["spec.accessModes: Required value"]),
    ("pv", r#"{"hostPath":null}"#, &["spec: Required value: must specify a volume type"]),
    ("pv", r#"{"local":{"path":"/x"}}"#, &["spec.local: Forbidden: may not specify more than 1 volume type"]),
    ("pv", r#"{"hostPath":null,"local":{"path":"/x"}}"#, &["spec.nodeAffinity: Required value: Local volume requires node affinity"]),
    ("pv", r#"{"hostPath":null,"csi":{"driver":"d.io"}}"#, &["spec.csi.volumeHandle: Required value"]),
    ("pv", r#"{"persistentVolumeReclaimPolicy":"X"}"#, &[r#"spec.persistentVolumeReclaimPolicy: Unsupported value: "X": supported values: "Delete", "Recycle", "Retain""#]),
    ("pv", r#"{"persistentVolumeReclaimPolicy":"Recycle","hostPath":{"path":"/"}}"#, &["spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"]),
    ("pv", r#"{"volumeMode":"X"}"#, &[r#"spec.volumeMode: Unsupported value: "X": supported values: "Block", "Filesystem""#]),
    ("pv", r#"{"nodeAffinity":{}}"#, &["spec.nodeAffinity.required: Required value: must specify required node constraints"]),
    ("pvc", r#"{"resources":null}"#, &["spec.resources[storage]: Required value"]),
    ("pvc", r#"{"resources":{"requests":{"storage":"0"}}}"#, &["spec.resources[storage]: Invalid value: \"0\": must be greater than zero"]),
    ("pvc", r#"{"storageClassName":"A B"}"#, &[r#"spec.storageClassName: Invalid value: "A B""#]),
    ("attachment", r#"{"attacher":null}"#, &["spec.attacher: Required value", "spec.attacher: Required value", r#"spec.attacher: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#]),
    ("attachment", r#"{"source":{"persistentVolumeName":null}}"#, &["spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"]),
    ("csidriver", r#"{"fsGroupPolicy":"X"}"#, &[r#"spec.fsGroupPolicy: Unsupported value: "X""#]),
    ("csidriver", r#"{"volumeLifecycleModes":["X"]}"#, &[r#"spec.volumeLifecycleModes: Unsupported value: "X""#]),
    ("csidriver", r#"{"tokenRequests":[{"audience":"a"},{"audience":"a"}]}"#, &[r#"spec.tokenRequests[1].audience: Duplicate value: "a""#]),
    ("csinode", r#"{"drivers":[{"name":"d.io"}]}"#, &["spec.drivers[0].nodeID: Required value"]),
    // Selectors that can't be used
    ("deployment", r#"{"selector":{"matchLabels":{"a":"-"}},"template":{"spec":{"containers":[]}}}"#, &[r#"spec.selector.matchLabels: Invalid value: "-": a valid label"#, r#"spec.selector: Invalid value: {"matchLabels":{"a":"-"}}: invalid label selector"#]),
    ("replicaset", r#"{"selector":{"matchExpressions":[{"key":"a","operator":"In"}]}}"#, &["spec.selector.matchExpressions[0].values: Required value", r#"spec.selector: Invalid value: {"matchExpressions":[{"key":"a","operator":"In"}],"matchLabels":{"a":"b"}}: invalid label selector"#]),
    ("statefulset", r#"{"selector":{"matchLabels":{"a":"-"}}}"#, &[r#"spec.selector.matchLabels: Invalid value: "-": a valid label"#, r#"spec.selector: Invalid value: {"matchLabels":{"a":"-"}}"#]),
    ("daemonset", r#"{"selector":{"matchLabels":{"a":"-"}}}"#, &[r#"spec.selector.matchLabels: Invalid value: "-": a valid label"#]),
    ("job", r#"{"manualSelector":true,"selector":{"matchLabels":{"a":"-"}}}"#, &[r#"spec.selector.matchLabels: Invalid value: "-": a valid label"#]),
    ("job", r#"{"selector":{"matchLabels":{"a":"-"}}}"#, &[r#"spec.selector.matchLabels: Invalid value: "-": a valid label"#]),
    ("deployment", r#"{"strategy":{"rollingUpdate":{"maxSurge":"x","maxUnavailable":0}}}"#, &[r#"spec.strategy.rollingUpdate.maxSurge: Invalid value: "x": a valid percent string"#, "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"]),
    ("statefulset", r#"{"updateStrategy":{"type":"OnDelete","rollingUpdate":{"partition":1}}}"#, &[r#"spec.updateStrategy.rollingUpdate: Invalid value: {"MaxUnavailable":null,"Partition":1}: only allowed for updateStrategy 'RollingUpdate'"#]),
    ("job", r#"{"podFailurePolicy":{"rules":[{"action":"Ignore","onExitCodes":{"operator":"In"}}]}}"#, &["spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: null: at least one value is required"]),
    ("indexed", r#"{"successPolicy":{"rules":[{"succeededIndexes":"0,0-a"}]}}"#, &[r#"spec.successPolicy.rules[0].succeededIndexes: Invalid value: "0,0-a": error parsing succeededIndexes: cannot convert string to integer for index: "a""#]),
    ("servicecidr", r#"{"cidrs":["10.0.0.0/16","fd00::/64","10.1.0.0/16"]}"#, &[r#"spec.cidrs: Invalid value: {"CIDRs":["10.0.0.0/16","fd00::/64","10.1.0.0/16"]}: may only hold up to 2 values"#]),
    // Others
    ("lease", r#"{"preferredHolder":"a"}"#, &["spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined"]),
    ("flowschema", r#"{"matchingPrecedence":10001}"#, &["spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000"]),
    ("flowschema", r#"{"rules":[{"subjects":[{"kind":"Group","group":{"name":"g"}}],"nonResourceRules":[{"nonResourceURLs":["*","/a"],"verbs":["get"]}]}]}"#, &["spec.rules[0].nonResourceRules[0].nonResourceURLs: Invalid value: [\"*\",\"/a\"]: if '*' is present, must not specify other non-resource URLs"]),
    ("flowschema", r#"{"distinguisherMethod":{"type":"X"}}"#, &[r#"spec.distinguisherMethod.type: Unsupported value: {"Type":"X"}: supported values: "ByNamespace", "ByUser""#]),
    ("node", r#"{"podCIDRs":["x"]}"#, &[r#"spec.podCIDRs[0]: Invalid value: "x": must be a valid CIDR value"#]),
    ("node", r#"{"taints":[{"key":"a"}]}"#, &["metadata.taints[0].effect: Required value"]),
    ("level", r#"{"type":"Exempt"}"#, &[r#"spec.type: Invalid value: "Exempt": must be 'Exempt' if and only if `name` is 'exempt'"#, "spec.limited: Forbidden: must be nil if the type is not Limited"]),
    ("level", r#"{"limited":null}"#, &["spec.limited: Required value: must not be empty when type is Limited"]),
    ("level", r#"{"exempt":{}}"#, &["spec.exempt: Forbidden: must be nil if the type is Limited"]),
    ("level", r#"{"limited":{"limitResponse":{"queuing":{"queues":2,"handSize":3}}}}"#, &["spec.limited.limitResponse.queuing.handSize: Invalid value: 3: should not be greater than queues (2)"]),
    ("level", r#"{"limited":{"limitResponse":{"queuing":{"queues":10000000,"handSize":8}}}}"#, &["spec.limited.limitResponse.queuing.handSize: Invalid value: 8: required entropy bits of deckSize 10000000 and handSize 8 should not be greater than 60"]),
    ("level", r#"{"limited":{"borrowingLimitPercent":-1}}"#, &["spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer"]),
    ("policy", r#"{"failurePolicy":"Maybe"}"#, &[r#"spec.failurePolicy: Unsupported value: "Maybe": supported values: "Fail", "Ignore""#]),
    ("policy", r#"{"paramKind":{"apiVersion":"a/b/c"}}"#, &[r#"spec.paramKind.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c"#, "spec.paramKind.kind: Required value"]),
    ("policy", r#"{"paramKind":{"apiVersion":"a/","kind":"K_"}}"#, &[r#"spec.paramKind.apiVersion: Invalid value: "a/": version must be specified"#, r#"spec.paramKind.kind: Invalid value: "K_": may have mixed case, but should otherwise match: a DNS-1035 label"#]),
    ("policy", r#"{"matchConstraints":{"resourceRules":[{"apiGroups":["*","a"],"apiVersions":[""],"operations":["*","CREATE"],"resources":["a/*","a/b","*/c","d/c"],"scope":"All","resourceNames":["n","n"]}]}}"#, &[
        r#"spec.matchConstraints.resourceRules[0].resourceNames[1]: Duplicate value: "n""#,
        r#"spec.matchConstraints.resourceRules[0].operations: Invalid value: ["*","CREATE"]: if '*' is present, must not specify other operations"#,
        r#"spec.matchConstraints.resourceRules[0].apiGroups: Invalid value: ["*","a"]: if '*' is present, must not specify other API groups"#,
        "spec.matchConstraints.resourceRules[0].apiVersions[0]: Required value",
        r#"spec.matchConstraints.resourceRules[0].resources[1]: Invalid value: "a/b": if 'a/*' is present, must not specify a/b"#,
        r#"spec.matchConstraints.resourceRules[0].resources[3]: Invalid value: "d/c": if '*/c' is present, must not specify d/c"#,
        r#"spec.matchConstraints.resourceRules[0].scope: Unsupported value: "All": supported values: "*", "Cluster", "Namespaced""#,
    ]),
    ("policy", r#"{"matchConstraints":{"resourceRules":[]}}"#, &["spec.matchConstraints.resourceRules: Required value"]),
    ("policy", r#"{"matchConstraints":{"resourceRules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE"],"resources":["*","pods"]}]}}"#, &[r#"spec.matchConstraints.resourceRules[0].resources: Invalid value: ["*","pods"]: if '*' is present, must not specify other resources without subresources"#]),
    ("policy", r#"{"matchConditions":[{"name":"a","expression":"true"},{"name":"a","expression":""}]}"#, &["spec.matchConditions[1].expression: Required value", r#"spec.matchConditions[1].name: Duplicate value: "a""#]),
    ("policy", r#"{"variables":[{"name":"for","expression":"1"}]}"#, &[r#"spec.variables[0].name: Invalid value: "for": must be a valid CEL identifier"#]),
    ("policy", r#"{"validations":[{"expression":"true","message":" ","messageExpression":" ","reason":"Unauthorized"}]}"#, &[
        r#"spec.validations[0].messageExpression: Invalid value: " ": must be non-empty if specified"#,
        r#"spec.validations[0].message: Invalid value: " ": must be non-empty if specified"#,
        r#"spec.validations[0].reason: Unsupported value: "Unauthorized": supported values: "Forbidden", "Invalid", "RequestEntityTooLarge""#,
    ]),
    ("mutating", r#"{"matchConstraints":{"resourceRules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["DELETE"],"resources":["pods"]}]}}"#, &[r#"spec.matchConstraints.resourceRules.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE""#]),
    ("mutating", r#"{"mutations":[{"patchType":"ApplyConfiguration","jsonPatch":{"expression":"[]"}}]}"#, &["spec.mutations[0].applyConfiguration: Required value: must be specified when patchType is ApplyConfiguration", r#"spec.mutations[0].jsonPatch: Invalid value: "{jsonPatch}": must not be specified when patchType is ApplyConfiguration"#]),
    ("policybinding", r#"{"paramRef":{"name":"a/b","selector":{}}}"#, &[r#"spec.paramRef.name: Invalid value: "a/b": may not contain '/'"#, "spec.paramRef.name: Forbidden: name and selector are mutually exclusive", "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive", "spec.paramRef.parameterNotFoundAction: Required value"]),
    ("policybinding", r#"{"paramRef":{"parameterNotFoundAction":"Maybe"}}"#, &["spec.paramRef: Required value: one of name or selector must be specified", r#"spec.paramRef.parameterNotFoundAction: Unsupported value: "Maybe": supported values: "Deny", "Allow""#]),
    ("policybinding", r#"{"validationActions":null}"#, &["spec.validationActions: Required value: at least one validation action is required"]),
    ("claim", r#"{"devices":{"requests":[{"name":"r","exactly":{"deviceClassName":"c","selectors":[{"cel":{"expression":"1"}}]}}]}}"#, &[r#"spec.devices.requests[0].exactly.selectors[0].cel.expression: Invalid value: "1": must evaluate to bool or the unknown type, not int"#]),
    ("claim", r#"{"devices":{"requests":[{"name":"r","exactly":{"deviceClassName":"c","tolerations":[{"operator":"Exists","value":"v"}]}}]}}"#, &[r#"spec.devices.requests[0].exactly.tolerations[0].value: Invalid value: "v": must be empty for operator `Exists`"#]),
    ("slice", r#"{"nodeName":null}"#, &["spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"]),
    ("slice", r#"{"allNodes":true}"#, &[r#"spec: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set"#]),
    ("slice", r#"{"devices":[{"name":"a","nodeName":"n"}]}"#, &["spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec"]),
];

fn found(obj: &Value) -> Vec<String> {
    let s = strategy_of(obj);
    let mut errors = Errors::default();
    objectmeta::object_meta(obj, !obj["metadata"]["namespace"].is_null(), s.name_rule(), &mut errors);
    s.validate_create(obj, &mut errors);
    lines_of(&errors)
}

#[test]
fn every_rule_is_told_in_upstreams_words() {
    let mut wrong = String::new();
    for (name, change, expected) in ROWS {
        let mut obj = base(name);
        let change: Value = serde_json::from_str(change).unwrap_or_else(|e| panic!("{change}: {e}"));
        merge(&mut obj["spec"], &change);
        let got = found(&created(&obj.to_string()));
        let same = got.len() == expected.len() && got.iter().zip(*expected).all(|(g, e)| g.starts_with(e));
        if !same {
            wrong.push_str(&format!("{name} {change}\n  wanted {expected:#?}\n  got    {got:#?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_bases_are_good() {
    let mut names: Vec<&str> = ROWS.iter().map(|r| r.0).collect();
    names.dedup();
    for name in names {
        assert_eq!(found(&created(&base(name).to_string())), Vec::<String>::new(), "{name}");
    }
}

/// (object, warnings as prefixes)
#[rustfmt::skip]
const WARNED: &[(&str, &[&str])] = &[
    (r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a.b"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#, &["metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]"]),
    (r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{"template":{"metadata":{"annotations":{"seccomp.security.alpha.kubernetes.io/pod":"x"}},"spec":{"nodeSelector":{"node-role.kubernetes.io/master":""},"containers":[{"name":"c","image":"i"}]}}}}"#, &["spec.template.spec.nodeSelector[node-role.kubernetes.io/master]: use \"node-role.kubernetes.io/control-plane\" instead", "spec.template.metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+"]),
    (r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"topologySpreadConstraints":[{"topologyKey":"failure-domain.beta.kubernetes.io/zone"}],"affinity":{"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{}]}},"containers":[{"name":"c","image":"i"}]}}"#, &["spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17", "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod", "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod"]),
    (r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"terminationGracePeriodSeconds":-1,"imagePullSecrets":[{"name":"a"},{"name":"a"},{}],"containers":[{"name":"c","image":"i"}]}}"#, &["spec.imagePullSecrets[1].name: duplicate name \"a\"", "spec.imagePullSecrets[2].name: invalid empty name \"\"", "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"]),
    (r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":80,"hostPort":8080},{"containerPort":80}]},{"name":"d","image":"i","ports":[{"containerPort":80,"hostPort":8080,"hostIP":"1.2.3.4"}]}]}}"#, &["spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]", "spec.containers[1].ports[0]: dangerously ambiguous port definition with spec.containers[0].ports[0]", "spec.containers[1].ports[0]: overlapping port definition with spec.containers[0].ports[1]"]),
    (r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"s"},"spec":{"externalIPs":["001.2.3.4","FD00::1"],"trafficDistribution":"PreferClose","ports":[{"port":1}]}}"#, &["spec.externalIPs[0]: non-standard IP address \"001.2.3.4\" is invalid: use \"1.2.3.4\"", "spec.externalIPs[1]: IPv6 address \"FD00::1\" should be in RFC 5952 canonical format (\"fd00::1\")", "spec.externalIPs is deprecated", "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\""]),
    (r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"s"},"spec":{"clusterIP":"None","sessionAffinity":"ClientIP","externalName":"x"}}"#, &["spec.SessionAffinity is ignored for headless services", "spec.externalName is ignored when spec.type is not \"ExternalName\""]),
    (r#"{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"n"},"spec":{"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.1/8"}}]}]}}"#, &["spec.ingress[0].from[0].ipBlock.cidr: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)"]),
    (r#"{"apiVersion":"networking.k8s.io/v1","kind":"Ingress","metadata":{"name":"i","annotations":{"kubernetes.io/ingress.class":"x"}},"spec":{}}"#, &["annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"]),
    (r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"e"},"addressType":"FQDN"}"#, &["spec.addressType: FQDN endpoints are deprecated"]),
    (r#"{"apiVersion":"v1","kind":"PersistentVolume","metadata":{"name":"pv"},"spec":{"persistentVolumeReclaimPolicy":"Recycle","capacity":{"storage":"1500m"},"cephfs":{}}}"#, &["spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated.", "spec.cephfs: deprecated in v1.28, non-functional in v1.31+"]),
    (r#"{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"c","annotations":{"volume.beta.kubernetes.io/storage-class":"x"}},"spec":{}}"#, &["metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use \"storageClassName\" attribute instead"]),
    (r#"{"apiVersion":"storage.k8s.io/v1","kind":"StorageClass","metadata":{"name":"s"},"provisioner":"p","allowedTopologies":[{"matchLabelExpressions":[{"key":"beta.kubernetes.io/arch","values":["a"]}]}]}"#, &["allowedTopologies[0].matchLabelExpressions[0].key: deprecated since v1.14; use \"kubernetes.io/arch\" instead"]),
    (r#"{"apiVersion":"storage.k8s.io/v1","kind":"CSIStorageCapacity","metadata":{"name":"c"},"storageClassName":"s","nodeTopology":{"matchLabels":{"beta.kubernetes.io/arch":"a"},"matchExpressions":[{"key":"beta.kubernetes.io/os","operator":"Exists"}]}}"#, &[
        "nodeTopology.matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use \"kubernetes.io/os\" instead", "nodeTopology.matchLabels.beta.kubernetes.io/arch: deprecated since v1.14"]),
    (r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"s","annotations":{"kubernetes.io/enforce-mountable-secrets":"true"}}}"#, &["metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+"]),
];

#[test]
fn authors_are_warned() {
    let mut wrong = String::new();
    for (object, expected) in WARNED {
        let obj = created(object);
        let got = strategy_of(&obj).warnings(&obj, None);
        let same = got.len() == expected.len() && got.iter().zip(*expected).all(|(g, e)| g.starts_with(e));
        if !same {
            wrong.push_str(&format!("{object}\n  wanted {expected:#?}\n  got    {got:#?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
