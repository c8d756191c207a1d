//! What is refused on create, and in which words.

use super::check_create;
use expect_test::expect;

#[test]
fn pod_containers() {
    check_create(
        "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: d}
spec:
  containers:
  - {name: A_b, image: ''}
  - {name: two, image: nginx, ports: [{containerPort: 0}, {name: UPPER, containerPort: 70000, protocol: ICMP}]}
  - {name: two, image: ' nginx'}
",
        expect![[r#"
            spec.containers[0].name: Invalid value: "A_b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.containers[0].image: Required value
            spec.containers[1].ports[0].containerPort: Required value
            spec.containers[1].ports[1].name: Invalid value: "UPPER": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
            spec.containers[1].ports[1].name: Invalid value: "UPPER": must contain at least one letter (a-z)
            spec.containers[1].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive
            spec.containers[1].ports[1].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"
            spec.containers[2].name: Duplicate value: "two"
            spec.containers[2].image: Invalid value: " nginx": must not have leading or trailing whitespace
        "#]],
    );
    check_create(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: d}\nspec: {}",
        expect![[r#"
        spec.containers: Required value
    "#]],
    );
}

#[test]
fn pod_resources() {
    check_create(
        "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: d}
spec:
  containers:
  - {name: a, image: a, resources: {requests: {cpu: 200m, memory: -1}, limits: {cpu: 100m, gpu: 1}}}
  - {name: b, image: a, resources: {requests: {nvidia.com/gpu: 1}, limits: {hugepages-2Mi: 4Mi}}}
",
        expect![[r#"
            spec.containers[0].resources.limits[gpu]: Invalid value: "gpu": must be a standard resource type or fully qualified
            spec.containers[0].resources.limits[gpu]: Invalid value: "gpu": must be a standard resource for containers
            spec.containers[0].resources.requests: Invalid value: "200m": must be less than or equal to cpu limit of 100m
            spec.containers[0].resources.requests[gpu]: Invalid value: "gpu": must be a standard resource type or fully qualified
            spec.containers[0].resources.requests[gpu]: Invalid value: "gpu": must be a standard resource for containers
            spec.containers[0].resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0
            spec.containers[1].resources.limits: Required value: Limit must be set for non overcommitable resources
            spec.containers[1].resources: Forbidden: HugePages require cpu or memory
        "#]],
    );
}

#[test]
fn pod_volumes_and_mounts() {
    check_create(
        "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: d}
spec:
  volumes:
  - {name: a, hostPath: {path: ../x, type: Nope}}
  - {name: a, secret: {}}
  - {name: two, emptyDir: {}, configMap: {name: c}}
  - {name: m, configMap: {name: c, defaultMode: 1000, items: [{key: k, path: /abs}]}}
  containers:
  - name: a
    image: a
    volumeMounts:
    - {name: x, mountPath: /a}
    - {name: m, mountPath: /a, subPath: ../b}
",
        expect![[r#"
            spec.volumes[0].hostPath.path: Invalid value: "../x": must not contain '..'
            spec.volumes[0].hostPath.type: Unsupported value: "Nope": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"
            spec.volumes[1].secret.secretName: Required value
            spec.volumes[2].configMap: Forbidden: may not specify more than 1 volume type
            spec.volumes[3].configMap.defaultMode: Invalid value: 1000: must be a number between 0 and 0777 (octal), both inclusive
            spec.volumes[3].configMap.items[0].path: Invalid value: "/abs": must be a relative path
            spec.containers[0].volumeMounts[0].name: Not found: "x"
            spec.containers[0].volumeMounts[1].name: Not found: "m"
            spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique
            spec.containers[0].volumeMounts.subPath: Invalid value: "../b": must not contain '..'
        "#]],
    );
}

#[test]
fn pod_env_and_probes() {
    check_create(
        "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: d}
spec:
  containers:
  - name: a
    image: a
    env:
    - {name: '', value: x}
    - {name: 'a=b'}
    - {name: B, value: x, valueFrom: {secretKeyRef: {name: s, key: k}}}
    - {name: C, valueFrom: {fieldRef: {fieldPath: spec.nope}}}
    - {name: D, valueFrom: {fieldRef: {fieldPath: status.phase}}}
    - {name: E, valueFrom: {}}
    livenessProbe: {successThreshold: 2, httpGet: {port: 0}, exec: {command: [a]}}
    readinessProbe: {periodSeconds: -1}
  initContainers:
  - {name: i, image: i, readinessProbe: {tcpSocket: {port: 1}}}
",
        expect![[r#"
            spec.containers[0].env[0].name: Required value
            spec.containers[0].env[1].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='
            spec.containers[0].env[2].valueFrom: Invalid value: "": may not be specified when `value` is not empty
            spec.containers[0].env[3].valueFrom.fieldRef.fieldPath: Invalid value: "spec.nope": error converting fieldPath: field label not supported: spec.nope
            spec.containers[0].env[4].valueFrom.fieldRef.fieldPath: Unsupported value: "status.phase": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"
            spec.containers[0].env[5].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`
            spec.containers[0].livenessProbe.httpGet: Forbidden: may not specify more than 1 handler type
            spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
            spec.containers[0].readinessProbe: Required value: must specify a handler type
            spec.containers[0].readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0
            spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always
        "#]],
    );
}

#[test]
fn pod_spec_fields() {
    check_create(
        "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: d}
spec:
  restartPolicy: Sometimes
  dnsPolicy: None
  hostNetwork: true
  hostPID: true
  shareProcessNamespace: true
  nodeName: n1
  schedulingGates: [{name: a}, {name: a}]
  activeDeadlineSeconds: 0
  tolerations: [{operator: Equal}, {key: a, effect: NoSchedule, tolerationSeconds: 1}, {key: a, operator: Is}]
  topologySpreadConstraints: [{maxSkew: 0, whenUnsatisfiable: Maybe}]
  securityContext: {runAsUser: -1, sysctls: [{name: 'A B'}], seccompProfile: {type: Localhost}}
  ephemeralContainers: [{name: e, image: e}]
  containers: [{name: a, image: a, ports: [{containerPort: 80, hostPort: 81}], securityContext: {privileged: true, allowPrivilegeEscalation: false}}]
",
        expect![[r#"
            spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"privileged":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true
            spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true
            spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"
            spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive
            spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled
            spec.securityContext.sysctls[0].name: Invalid value: "A B": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$
            spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost
            spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None
            spec.schedulingGates[1]: Duplicate value: "a"
            spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero
            spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty
            spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "Maybe": supported values: "DoNotSchedule", "ScheduleAnyway"
            spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive
            spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys"
            spec.tolerations[1].effect: Invalid value: "NoSchedule": effect must be 'NoExecute' when `tolerationSeconds` is set
            spec.tolerations[2].operator: Unsupported value: "Is": supported values: "Equal", "Exists"
            spec.ephemeralContainers: Forbidden: cannot be set on create
            spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared
        "#]],
    );
}

#[test]
fn metadata() {
    check_create(
        "
apiVersion: v1
kind: ConfigMap
metadata:
  name: Upper
  namespace: d
  labels: {'a b': c, ok: 'no way!'}
  annotations: {'/': x}
  finalizers: [mine]
  ownerReferences:
  - {apiVersion: v1, kind: Pod, name: a, uid: u, controller: true}
  - {apiVersion: apps/, kind: '', name: b, uid: v, controller: true}
",
        expect![[r#"
            metadata.name: Invalid value: "Upper": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            metadata.labels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            metadata.labels: Invalid value: "no way!": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
            metadata.annotations: Invalid value: "/": prefix part must be non-empty
            metadata.annotations: Invalid value: "/": name part must be non-empty
            metadata.annotations: Invalid value: "/": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            metadata.ownerReferences.apiVersion: Invalid value: "apps/": version must not be empty
            metadata.ownerReferences.kind: Invalid value: "": must not be empty
            metadata.ownerReferences: Invalid value: [{"apiVersion":"v1","controller":true,"kind":"Pod","name":"a","uid":"u"},{"apiVersion":"apps/","controller":true,"kind":"","name":"b","uid":"v"}]: Only one reference can have Controller set to true. Found "true" in references for Pod/a and /b
            metadata.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified
        "#]],
    );
    check_create(
        &format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}}}", "a".repeat(64)),
        expect![[r#"
            metadata.name: Invalid value: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": must be no more than 63 characters
            metadata.labels: Invalid value: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": must be no more than 63 characters
        "#]],
    );
}

#[test]
fn services() {
    check_create(
        "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: d}\nspec: {}",
        expect![[r#"
        spec.ports: Required value
    "#]],
    );
    check_create(
        "
apiVersion: v1
kind: Service
metadata: {name: s, namespace: d}
spec:
  type: ClusterIP
  sessionAffinity: Sometimes
  externalIPs: [127.0.0.1, x]
  clusterIP: 300.1.1.1
  ports: [{port: 80, nodePort: 30000}, {name: a, port: 80, targetPort: 99999}, {name: a, port: 1, protocol: tcp}]
",
        expect![[r#"
            spec.ports[0].name: Required value
            spec.ports[1].targetPort: Invalid value: 99999: must be between 1 and 65535, inclusive
            spec.ports[2].name: Duplicate value: "a"
            spec.ports[2].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"
            spec.sessionAffinity: Unsupported value: "Sometimes": supported values: "ClientIP", "None"
            spec.clusterIPs[0]: Invalid value: "300.1.1.1": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
            spec.externalIPs[1]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'
            spec.ports[1]: Duplicate value: {"port":80,"protocol":"TCP"}
        "#]],
    );
    check_create(
        "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: d}\nspec: {type: ExternalName}",
        expect![[r#"
            spec.externalName: Required value
        "#]],
    );
}

#[test]
fn workloads() {
    check_create(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {name: w, namespace: d}
spec:
  replicas: -1
  strategy: {type: Recreate, rollingUpdate: {}}
  progressDeadlineSeconds: 5
  minReadySeconds: 10
  selector: {matchLabels: {app: a}}
  template: {metadata: {labels: {app: b}}, spec: {restartPolicy: Never, containers: [{name: c, image: ''}]}}
",
        expect![[r#"
            spec.replicas: Invalid value: -1: must be greater than or equal to 0
            spec.template.metadata.labels: Invalid value: {"app":"b"}: `selector` does not match template `labels`
            spec.template.spec.containers[0].image: Required value
            spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
            spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'
            spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds
        "#]],
    );
    check_create(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: w, namespace: d}\nspec: {strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0%}}, template: {spec: {containers: []}}}",
        expect![[r#"
            spec.selector: Required value
            spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`
            spec.template.spec.containers: Required value
            spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0
        "#]],
    );
    check_create(
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: w.x, namespace: d}\nspec: {podManagementPolicy: Any, updateStrategy: {type: OnDelete, rollingUpdate: {partition: 1}}, selector: {}, template: {spec: {containers: [{name: c, image: i}]}}}",
        expect![[r#"
            metadata.name: Invalid value: "w.x": must not contain dots
            spec.podManagementPolicy: Invalid value: "Any": must be 'OrderedReady' or 'Parallel'
            spec.updateStrategy.rollingUpdate: Invalid value: {"MaxUnavailable":null,"Partition":1}: only allowed for updateStrategy 'RollingUpdate'
            spec.selector: Invalid value: {}: empty selector is invalid for statefulset
        "#]],
    );
    check_create(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j, namespace: d}\nspec: {completionMode: Indexed, parallelism: -1, template: {spec: {containers: [{name: c, image: i}]}}}",
        expect![[r#"
            spec.parallelism: Invalid value: -1: must be greater than or equal to 0
            spec.completions: Required value: when completion mode is Indexed
            spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
        "#]],
    );
    check_create(
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: j, namespace: d}\nspec: {schedule: '* * * *', timeZone: Mars/Base, jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}}",
        expect![[r#"
            spec.schedule: Invalid value: "* * * *": expected exactly 5 fields, found 4: [* * * *]
            spec.timeZone: Invalid value: "Mars/Base": unknown time zone Mars/Base
        "#]],
    );
}

#[test]
fn configuration() {
    check_create(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: d}\ndata: {'a/b': x, k: y}\nbinaryData: {k: AA==}",
        expect![[r#"
            data[a/b]: Invalid value: "a/b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
            data[k]: Invalid value: "k": duplicate of key present in binaryData
        "#]],
    );
    check_create(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: c, namespace: d}\ntype: kubernetes.io/tls\ndata: {tls.crt: AA==}",
        expect![[r#"
            data[tls.key]: Required value
        "#]],
    );
    check_create(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: c, namespace: d}\ntype: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: nope}",
        expect![[r#"
            data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": invalid character 'o' in literal null (expecting 'u')
        "#]],
    );
    check_create(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: c, namespace: d}\ntype: kubernetes.io/dockercfg\nstringData: {.dockercfg: '[]'}",
        expect![[r#"
            data[.dockercfg]: Invalid value: "<secret contents redacted>": json: cannot unmarshal array into Go value of type map[string]interface {}
        "#]],
    );
}

#[test]
fn access() {
    check_create(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: a/b, namespace: d}\nrules: [{}, {verbs: [get], nonResourceURLs: [/x], resources: [pods]}]",
        expect![[r#"
            metadata.name: Invalid value: "a/b": may not contain '/'
            rules[0].verbs: Required value: verbs must contain at least one value
            rules[0].apiGroups: Required value: resource rules must supply at least one api group
            rules[0].resources: Required value: resource rules must supply at least one resource
            rules[1].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs
            rules[1].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular resources and non-resource URLs
        "#]],
    );
    check_create(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: b}\nroleRef: {kind: Role}\nsubjects: [{kind: ServiceAccount, name: x}, {kind: Robot, name: y}, {kind: User, apiGroup: x, name: z}]",
        expect![[r#"
            roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"
            roleRef.name: Required value
            subjects[0].namespace: Required value
            subjects[1].name: Required value
            subjects[1].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"
            subjects[2].apiGroup: Unsupported value: "x": supported values: "rbac.authorization.k8s.io"
        "#]],
    );
}

#[test]
fn endpoints_and_nodes() {
    check_create(
        "apiVersion: v1\nkind: Endpoints\nmetadata: {name: e, namespace: d}\nsubsets: [{}, {addresses: [{ip: 127.0.0.1}, {ip: x}], ports: [{port: 0}, {port: 80, protocol: XYZ}]}]",
        expect![[r#"
            subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`
            subsets[1].addresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
            subsets[1].addresses[1].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            subsets[1].addresses[1].ip: Invalid value: "x": must be a valid IP address
            subsets[1].ports[0].name: Required value
            subsets[1].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
            subsets[1].ports[1].name: Required value
            subsets[1].ports[1].protocol: Unsupported value: "XYZ": supported values: "SCTP", "TCP", "UDP"
        "#]],
    );
    check_create(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: e, namespace: d}\naddressType: IPv4\nendpoints: [{addresses: []}, {addresses: ['fe80::1']}]\nports: [{port: 1}, {port: 2}]",
        expect![[r#"
            ports[1].name: Duplicate value: ""
            endpoints[0].addresses: Required value: must contain at least 1 address
            endpoints[1].addresses: Invalid value: "fe80::1": must be an IPv4 address
            endpoints[1].addresses[0]: Invalid value: "fe80::1": may not be in the link-local range (169.254.0.0/16, fe80::/10)
        "#]],
    );
    check_create(
        "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nspec: {taints: [{key: a, effect: NoSchedule}, {key: a, effect: NoSchedule, value: x}, {key: b, effect: Sometimes}]}",
        expect![[r#"
            metadata.taints[1]: Duplicate value: {"effect":"NoSchedule","key":"a","value":"x"}: taints must be unique by key and effect pair
            metadata.taints[2].effect: Unsupported value: "Sometimes": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
        "#]],
    );
    check_create(
        "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: n1, namespace: d}\nspec: {leaseDurationSeconds: 0, leaseTransitions: -1}",
        expect![[r#"
            spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0
            spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0
        "#]],
    );
}

#[test]
fn others() {
    check_create(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: i, namespace: d}\nspec: {rules: [{host: 1.2.3.4, http: {paths: [{path: x, pathType: Prefix, backend: {}}, {backend: {service: {name: s}}}]}}]}",
        expect![[r#"
            spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address
            spec.rules[0].http.paths[0].path: Invalid value: "x": must be an absolute path
            spec.rules[0].http.paths[0].backend: Invalid value: "": resource or service backend is required
            spec.rules[0].http.paths[1].pathType: Required value: pathType must be specified
        "#]],
    );
    check_create(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: i, namespace: d}\nspec: {accessModes: [ReadWriteOncePod, Any]}",
        expect![[r#"
            spec.accessModes: Unsupported value: "Any": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"
            spec.resources[storage]: Required value
        "#]],
    );
    check_create(
        "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: system-mine}\nvalue: 1",
        expect![[r#"
            metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-mine is not a known system priority class
        "#]],
    );
    check_create(
        "apiVersion: v1\nkind: LimitRange\nmetadata: {name: l, namespace: d}\nspec: {limits: [{type: Container, min: {cpu: 2}, max: {cpu: 1}}]}",
        expect![[r#"
            spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1
            spec.limits[0].defaultRequest[cpu]: Invalid value: "1": min value 2 is greater than default request value 1
            spec.limits[0].default[cpu]: Invalid value: "2": min value 2 is greater than default value 1
        "#]],
    );
}

/// What `kubectl create`, `run` and `expose` send, and the usual manifests of add-ons.
#[test]
fn what_people_send_is_accepted() {
    for text in [
        "apiVersion: v1\nkind: Pod\nmetadata: {creationTimestamp: null, labels: {run: sh}, name: sh, namespace: d}\nspec: {containers: [{image: busybox, name: sh, resources: {}, stdin: true, stdinOnce: true, tty: true}], dnsPolicy: ClusterFirst, restartPolicy: Always}\nstatus: {}",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {creationTimestamp: null, labels: {app: web}, name: web, namespace: d}\nspec: {replicas: 1, selector: {matchLabels: {app: web}}, strategy: {}, template: {metadata: {creationTimestamp: null, labels: {app: web}}, spec: {containers: [{image: nginx, name: nginx, resources: {}}]}}}\nstatus: {}",
        "apiVersion: v1\nkind: Service\nmetadata: {labels: {app: web}, name: web, namespace: d}\nspec: {ports: [{name: 80-8080, port: 80, protocol: TCP, targetPort: 8080}], selector: {app: web}, type: ClusterIP}\nstatus: {loadBalancer: {}}",
        "apiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: d}\nspec: {clusterIP: None, selector: {app: db}, ports: [{port: 6379, name: redis}]}",
        "apiVersion: v1\nkind: Service\nmetadata: {name: 'no', namespace: d}\nspec: {clusterIP: None, selector: {app: db}}",
        "apiVersion: v1\nkind: Service\nmetadata: {name: out, namespace: d}\nspec: {type: ExternalName, externalName: example.com.}",
        "apiVersion: batch/v1\nkind: Job\nmetadata: {creationTimestamp: null, name: pi, namespace: d}\nspec: {template: {metadata: {creationTimestamp: null}, spec: {containers: [{command: [perl], image: perl, name: pi, resources: {}}], restartPolicy: Never}}}\nstatus: {}",
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: redis, namespace: d}\nspec: {serviceName: redis, replicas: 3, selector: {matchLabels: {app: redis}}, template: {metadata: {labels: {app: redis}}, spec: {containers: [{name: redis, image: 'redis:7', volumeMounts: [{name: data, mountPath: /data}]}]}}, volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]}",
        "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: ne, namespace: d}\nspec: {selector: {matchLabels: {app: ne}}, template: {metadata: {labels: {app: ne}}, spec: {hostNetwork: true, hostPID: true, tolerations: [{operator: Exists}], containers: [{name: ne, image: ne, ports: [{containerPort: 9100}], securityContext: {privileged: true}, volumeMounts: [{name: root, mountPath: /host, mountPropagation: HostToContainer, readOnly: true}]}], volumes: [{name: root, hostPath: {path: /, type: Directory}}]}}}",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: reg, namespace: d}\ntype: kubernetes.io/dockerconfigjson\ndata: {.dockerconfigjson: eyJhdXRocyI6e319}",
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: i, namespace: d}\nspec: {rules: [{host: '*.example.com', http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}]}}]}",
        "apiVersion: v1\nkind: Event\nmetadata: {name: n1.17a, namespace: default}\ninvolvedObject: {kind: Node, name: n1}\nreason: Ready\ntype: Normal\nmessage: m\nfirstTimestamp: null\nlastTimestamp: null",
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: 'system:controller:x'}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:controller:x'}\nsubjects: [{kind: ServiceAccount, name: x, namespace: kube-system}]",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kube-root-ca.crt, namespace: d}\ndata: {ca.crt: x, .y: y, _a: ''}",
    ] {
        check_create(text, expect![""]);
    }
}

#[test]
fn annotations_of_nodes() {
    let node = |note: &str, value: &str| {
        format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: node, annotations: {{scheduler.alpha.kubernetes.io/{note}: '{value}'}}}}"
        )
    };
    check_create(
        &node("taints", r#"[{"key": "a", "effect": "No"}]"#),
        expect![[r#"
            metadata.annotations.scheduler.alpha.kubernetes.io/taints[0].effect: Unsupported value: "No": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
        "#]],
    );
    let avoid = r#"{"preferAvoidPods": [{"podSignature": {"podController": {"controller": true}}}, {"podSignature": {"podController": {"controller": false}}}, {"podSignature": {}}]}"#;
    check_create(
        &node("preferAvoidPods", avoid),
        expect![[r#"
            metadata.annotations.scheduler.alpha.kubernetes.io/preferAvoidPods[1].PodSignature.PodController.Controller: Invalid value: false: must point to a controller
            metadata.annotations.scheduler.alpha.kubernetes.io/preferAvoidPods[2].PodSignature: Required value
        "#]],
    );
}

#[test]
fn names_of_events_and_finalizers() {
    // An event is named after what it is about.
    check_create(
        "apiVersion: v1\nkind: Event\nmetadata: {name: 'system:Node.17f', namespace: default, finalizers: [mine]}\ninvolvedObject: {kind: ClusterRole, name: 'system:Node'}",
        expect![[r#""#]],
    );
    check_create(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: d, finalizers: ['a b']}",
        expect![[r#"
            metadata.finalizers: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            metadata.finalizers[0]: Invalid value: "a b": name is neither a standard finalizer name nor is it fully qualified
        "#]],
    );
}

#[test]
fn topologies_differ() {
    let class = |terms: &str| {
        format!(
            "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {{name: c}}\nprovisioner: a.io/b\nvolumeBindingMode: ''\nallowedTopologies: {terms}"
        )
    };
    check_create(
        &class("[{}]"),
        expect![[r#"
            volumeBindingMode: Unsupported value: "": supported values: "Immediate", "WaitForFirstConsumer"
            allowedTopologies[0].matchLabelExpressions: Duplicate value: ""
        "#]],
    );
    // In whichever order expressions and values come.
    check_create(
        &class("[{matchLabelExpressions: [{key: a, values: [x, y]}, {key: b, values: [z]}]}, {matchLabelExpressions: [{key: b, values: [z]}, {key: a, values: [y, x]}]}]").replace("volumeBindingMode: ''\n", ""),
        expect![[r#"
            allowedTopologies[1].matchLabelExpressions: Duplicate value: ""
        "#]],
    );
}

#[test]
fn roles_and_bindings() {
    check_create(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: r}\naggregationRule: {clusterRoleSelectors: [{matchExpressions: [{key: a, operator: Like}]}]}",
        expect![[r#"
            aggregationRule.clusterRoleSelectors[0].matchExpressions[0].operator: Invalid value: "Like": not a valid selector operator
            aggregationRule.clusterRoleSelectors[0]: Invalid value: null: invalid label selector.
        "#]],
    );
    check_create(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: b, namespace: d}",
        expect![[r#"
            roleRef.kind: Unsupported value: "": supported values: "Role", "ClusterRole"
            roleRef.name: Required value
        "#]],
    );
}

#[test]
fn endpoints_by_name() {
    check_create(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: e, namespace: d}\naddressType: FQDN\nendpoints: [{addresses: ['', a.b., 'A_.b.', a]}]",
        expect![[r#"
            endpoints[0].addresses[0]: Required value
            endpoints[0].addresses[2]: Invalid value: "A_.b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            endpoints[0].addresses[3]: Invalid value: "a": should be a domain with at least two segments separated by dots
        "#]],
    );
}
