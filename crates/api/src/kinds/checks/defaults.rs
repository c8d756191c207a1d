//! What is filled in, as whole objects.

use super::created;
use expect_test::expect;

fn check(text: &str, expect: expect_test::Expect) {
    let obj = created(text);
    expect.assert_eq(&crate::codec::yaml::to_string(&obj["spec"]).expect("prints"));
}

#[test]
fn pod() {
    check(
        "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: d}
spec:
  hostNetwork: true
  serviceAccount: robot
  containers:
  - name: c
    image: registry:5000/a
    ports: [{containerPort: 80}]
    livenessProbe: {httpGet: {port: 80}}
    env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
    resources: {limits: {cpu: 1}}
  volumes: [{name: e}, {name: s, secret: {secretName: s}}, {name: h, hostPath: {path: /}}]
",
        expect![[r#"
            containers:
            - env:
              - name: A
                valueFrom:
                  fieldRef:
                    apiVersion: v1
                    fieldPath: metadata.name
              image: registry:5000/a
              imagePullPolicy: Always
              livenessProbe:
                failureThreshold: 3
                httpGet:
                  path: /
                  port: 80
                  scheme: HTTP
                periodSeconds: 10
                successThreshold: 1
                timeoutSeconds: 1
              name: c
              ports:
              - containerPort: 80
                hostPort: 80
                protocol: TCP
              resources:
                limits:
                  cpu: 1
                requests:
                  cpu: 1
              terminationMessagePath: /dev/termination-log
              terminationMessagePolicy: File
            dnsPolicy: ClusterFirst
            enableServiceLinks: true
            hostNetwork: true
            restartPolicy: Always
            schedulerName: default-scheduler
            securityContext: {}
            serviceAccount: robot
            serviceAccountName: robot
            terminationGracePeriodSeconds: 30
            volumes:
            - emptyDir: {}
              name: e
            - name: s
              secret:
                defaultMode: 420
                secretName: s
            - hostPath:
                path: /
                type: ""
              name: h
        "#]],
    );
}

#[test]
fn deployment() {
    check(
        super::samples::DEPLOYMENT,
        expect![[r#"
        progressDeadlineSeconds: 600
        replicas: 3
        revisionHistoryLimit: 10
        selector:
          matchExpressions:
          - key: tier
            operator: NotIn
            values:
            - db
          matchLabels:
            app: web
        strategy:
          rollingUpdate:
            maxSurge: 25%
            maxUnavailable: 25%
          type: RollingUpdate
        template:
          metadata:
            labels:
              app: web
          spec:
            containers:
            - image: nginx
              imagePullPolicy: Always
              name: c
              resources: {}
              terminationMessagePath: /dev/termination-log
              terminationMessagePolicy: File
            dnsPolicy: ClusterFirst
            restartPolicy: Always
            schedulerName: default-scheduler
            securityContext: {}
            terminationGracePeriodSeconds: 30
    "#]],
    );
}

#[test]
fn statefulset() {
    check(
        super::samples::STATEFULSET,
        expect![[r#"
        persistentVolumeClaimRetentionPolicy:
          whenDeleted: Retain
          whenScaled: Retain
        podManagementPolicy: OrderedReady
        replicas: 1
        revisionHistoryLimit: 10
        selector:
          matchLabels:
            app: db
        serviceName: db
        template:
          metadata:
            labels:
              app: db
          spec:
            containers:
            - image: redis:7
              imagePullPolicy: IfNotPresent
              name: c
              resources: {}
              terminationMessagePath: /dev/termination-log
              terminationMessagePolicy: File
              volumeMounts:
              - mountPath: /data
                name: data
            dnsPolicy: ClusterFirst
            restartPolicy: Always
            schedulerName: default-scheduler
            securityContext: {}
            terminationGracePeriodSeconds: 30
        updateStrategy:
          rollingUpdate:
            partition: 0
          type: RollingUpdate
        volumeClaimTemplates:
        - apiVersion: v1
          kind: PersistentVolumeClaim
          metadata:
            name: data
          spec:
            accessModes:
            - ReadWriteOnce
            resources:
              requests:
                storage: 1Gi
            volumeMode: Filesystem
          status:
            phase: Pending
    "#]],
    );
}

#[test]
fn services() {
    check(
        "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: d}\nspec: {type: LoadBalancer, sessionAffinity: ClientIP, ports: [{port: 80}]}",
        expect![[r#"
            allocateLoadBalancerNodePorts: true
            externalTrafficPolicy: Cluster
            internalTrafficPolicy: Cluster
            ports:
            - port: 80
              protocol: TCP
              targetPort: 80
            sessionAffinity: ClientIP
            sessionAffinityConfig:
              clientIP:
                timeoutSeconds: 10800
            type: LoadBalancer
        "#]],
    );
}

#[test]
fn job() {
    check(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j, namespace: d}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: 'a:1'}]}}}",
        expect![[r#"
            backoffLimit: 6
            completionMode: NonIndexed
            completions: 1
            manualSelector: false
            parallelism: 1
            podReplacementPolicy: TerminatingOrFailed
            selector:
              matchLabels:
                batch.kubernetes.io/controller-uid: 8ff7d4b1-9a4c-4c9e-8a1c-0d5a1f0e2b11
            suspend: false
            template:
              metadata:
                labels:
                  batch.kubernetes.io/controller-uid: 8ff7d4b1-9a4c-4c9e-8a1c-0d5a1f0e2b11
                  batch.kubernetes.io/job-name: j
                  controller-uid: 8ff7d4b1-9a4c-4c9e-8a1c-0d5a1f0e2b11
                  job-name: j
              spec:
                containers:
                - image: a:1
                  imagePullPolicy: IfNotPresent
                  name: c
                  resources: {}
                  terminationMessagePath: /dev/termination-log
                  terminationMessagePolicy: File
                dnsPolicy: ClusterFirst
                restartPolicy: Never
                schedulerName: default-scheduler
                securityContext: {}
                terminationGracePeriodSeconds: 30
        "#]],
    );
}

#[test]
fn pull_policies() {
    for (image, policy) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1", "IfNotPresent"),
        ("reg:5000/nginx", "Always"),
        ("reg:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:abc", "IfNotPresent"),
    ] {
        assert_eq!(crate::kinds::pod::defaults::pull_policy(image), policy, "{image}");
    }
}

#[test]
fn addresses_and_their_plurals_are_one() {
    let pod = created(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: d}\nspec: {containers: [{name: c, image: i}]}",
    );
    let s = super::strategy_of(&pod);
    for (status, ip, ips) in [
        (r#"{"podIP": "10.0.0.1"}"#, "10.0.0.1", r#"[{"ip":"10.0.0.1"}]"#),
        (
            r#"{"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}"#,
            "10.0.0.1",
            r#"[{"ip":"10.0.0.1"},{"ip":"fd00::1"}]"#,
        ),
        (r#"{"podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.1"}]}"#, "10.0.0.2", r#"[{"ip":"10.0.0.2"}]"#),
    ] {
        let mut new = pod.clone();
        new["status"] = serde_json::from_str(status).expect("JSON");
        s.defaults(&mut new);
        assert_eq!(new["status"]["podIP"], ip);
        assert_eq!(new["status"]["podIPs"].to_string(), ips);
    }
    let mut node = super::parse(
        "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nspec: {podCIDR: 10.42.0.0/24}\nstatus: {capacity: {cpu: '2'}}",
    );
    super::strategy_of(&node).defaults(&mut node);
    assert_eq!(node["spec"]["podCIDRs"].to_string(), r#"["10.42.0.0/24"]"#);
    assert_eq!(node["status"]["allocatable"].to_string(), r#"{"cpu":"2"}"#);
}

#[test]
fn secrets_take_plain_text() {
    let mut secret = super::parse(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: eA==, b: eQ==}\nstringData: {b: hunter2}",
    );
    super::strategy_of(&secret).defaults(&mut secret);
    assert_eq!(secret["data"].to_string(), r#"{"a":"eA==","b":"aHVudGVyMg=="}"#);
    assert_eq!(secret.get("stringData"), None);
    assert_eq!(secret["type"], "Opaque");
}

/// Upstream's `SetDefaults_…`, a row each: the least that is written, and what is read back. `-` means that nothing
/// is filled in. A template of pods stands for all kinds that have one; see the next test.
#[rustfmt::skip] // A table reads better with a row a line.
const ROWS: &[(&str, &str, &str, &[(&str, &str)])] = &[
    // core/v1
    ("v1", "ConfigMap", "{}", &[("/data", "-")]),
    ("v1", "Endpoints", "{subsets: [{ports: [{port: 80}]}]}", &[("/subsets/0/ports/0/protocol", "TCP")]),
    ("v1", "LimitRange", "{spec: {limits: [{type: Container, max: {cpu: 2, memory: 1Gi}, default: {cpu: 1}, min: {ephemeral-storage: 1Gi}}]}}", &[
        ("/spec/limits/0/default", r#"{"cpu":1,"memory":"1Gi"}"#),
        ("/spec/limits/0/defaultRequest", r#"{"cpu":1,"ephemeral-storage":"1Gi","memory":"1Gi"}"#)]),
    ("v1", "LimitRange", "{spec: {limits: [{type: Pod, max: {cpu: 2}}]}}", &[("/spec/limits/0/default", "-"), ("/spec/limits/0/defaultRequest", "-")]),
    ("v1", "LimitRange", "{spec: {limits: [{type: Pod, max: {cpu: 100u}, maxLimitRequestRatio: {cpu: 1500u}}]}}", &[("/spec/limits/0/max/cpu", "1m"), ("/spec/limits/0/maxLimitRequestRatio/cpu", "2m")]),
    ("v1", "ServiceAccount", "{secrets: [{name: a, namespace: b, kind: Secret}, {kind: Secret}]}", &[("/secrets", r#"[{"name":"a"},{}]"#)]),
    // What upstream's gates keep off is dropped.
    ("v1", "Pod", "{spec: {schedulingGroup: {podGroupName: g}, containers: [{name: c, image: i, lifecycle: {stopSignal: SIGUSR1, preStop: {exec: {command: [a]}}}}]}}", &[
        ("/spec/schedulingGroup", "-"), ("/spec/containers/0/lifecycle", r#"{"preStop":{"exec":{"command":["a"]}}}"#)]),
    ("v1", "Pod", "{spec: {containers: [{name: c, lifecycle: {stopSignal: SIGUSR1}}, {name: d, lifecycle: {}}]}}", &[
        ("/spec/containers/0/lifecycle", "-"), ("/spec/containers/1/lifecycle", "{}")]),
    ("v1", "PersistentVolumeClaim", "{spec: {dataSourceRef: {kind: PersistentVolumeClaim, name: a, namespace: other}}}", &[("/spec/dataSourceRef", "-"), ("/spec/dataSource", "-")]),
    ("v1", "PersistentVolumeClaim", "{spec: {dataSourceRef: {kind: PersistentVolumeClaim, name: a}}}", &[("/spec/dataSource", r#"{"kind":"PersistentVolumeClaim","name":"a"}"#)]),
    ("v1", "Namespace", "{metadata: {name: prod}}", &[("/metadata/labels", r#"{"kubernetes.io/metadata.name":"prod"}"#), ("/status/phase", "Active"), ("/spec/finalizers", r#"["kubernetes"]"#)]),
    ("v1", "PersistentVolume", "{spec: {capacity: {storage: 1500u}, hostPath: {path: /a}}}", &[
        ("/spec/persistentVolumeReclaimPolicy", "Retain"), ("/spec/volumeMode", "Filesystem"), ("/spec/capacity/storage", "2m"), ("/spec/hostPath/type", ""), ("/status/phase", "Pending")]),
    ("v1", "PersistentVolume", "{spec: {iscsi: {iqn: a}}}", &[("/spec/iscsi/iscsiInterface", "default")]),
    ("v1", "PersistentVolume", "{spec: {rbd: {image: a}}}", &[("/spec/rbd", r#"{"image":"a","keyring":"/etc/ceph/keyring","pool":"rbd","user":"admin"}"#)]),
    ("v1", "PersistentVolume", "{spec: {azureDisk: {diskName: a}}}", &[("/spec/azureDisk", r#"{"cachingMode":"ReadWrite","diskName":"a","fsType":"ext4","kind":"Shared","readOnly":false}"#)]),
    ("v1", "PersistentVolume", "{spec: {scaleIO: {gateway: a}}}", &[("/spec/scaleIO", r#"{"fsType":"xfs","gateway":"a","storageMode":"ThinProvisioned"}"#)]),
    ("v1", "PersistentVolumeClaim", "{spec: {resources: {requests: {storage: 1500u}}}}", &[("/spec/volumeMode", "Filesystem"), ("/spec/resources/requests/storage", "2m"), ("/status/phase", "Pending")]),
    ("v1", "PersistentVolumeClaim", "{spec: {dataSource: {kind: PersistentVolumeClaim, name: b}}}", &[("/spec/dataSourceRef", r#"{"kind":"PersistentVolumeClaim","name":"b"}"#)]),
    ("v1", "Pod", "{spec: {containers: [{name: c, image: a}]}}", &[
        ("/spec/enableServiceLinks", "true"), ("/spec/dnsPolicy", "ClusterFirst"), ("/spec/restartPolicy", "Always"), ("/spec/schedulerName", "default-scheduler"),
        ("/spec/securityContext", "{}"), ("/spec/terminationGracePeriodSeconds", "30"), ("/spec/hostNetwork", "-"), ("/spec/preemptionPolicy", "-"),
        ("/spec/containers/0/imagePullPolicy", "Always"), ("/spec/containers/0/terminationMessagePath", "/dev/termination-log"),
        ("/spec/containers/0/terminationMessagePolicy", "File"), ("/spec/containers/0/resources", "{}"), ("/spec/containers/0/securityContext", "-")]),
    ("v1", "Pod", "{spec: {initContainers: [{name: i, image: 'a:1', resources: {limits: {cpu: 1500u}}}], containers: [{name: c, resources: {limits: {cpu: 2, memory: 1Gi}, requests: {cpu: 1}}}]}}", &[
        ("/spec/initContainers/0/imagePullPolicy", "IfNotPresent"), ("/spec/initContainers/0/resources", r#"{"limits":{"cpu":"2m"},"requests":{"cpu":"2m"}}"#),
        ("/spec/containers/0/resources/requests", r#"{"cpu":1,"memory":"1Gi"}"#)]),
    ("v1", "Pod", "{spec: {containers: [{name: c, resources: {limits: {cpu: 1}}}]}}", &[("/status/qosClass", "Burstable"), ("/status/phase", "Pending")]),
    ("v1", "Pod", "{spec: {overhead: {cpu: 1n}, containers: [{name: c}]}}", &[("/spec/overhead/cpu", "1m")]),
    ("v1", "Pod", "{spec: {hostNetwork: true, initContainers: [{name: i, ports: [{containerPort: 81}]}], containers: [{name: c, ports: [{containerPort: 80}, {containerPort: 82, hostPort: 83, protocol: UDP}]}]}}", &[
        ("/spec/initContainers/0/ports/0", r#"{"containerPort":81,"hostPort":81,"protocol":"TCP"}"#),
        ("/spec/containers/0/ports/0", r#"{"containerPort":80,"hostPort":80,"protocol":"TCP"}"#),
        ("/spec/containers/0/ports/1", r#"{"containerPort":82,"hostPort":83,"protocol":"UDP"}"#)]),
    ("v1", "Pod", "{spec: {containers: [{name: c, livenessProbe: {httpGet: {port: 80}}, readinessProbe: {grpc: {port: 80}, timeoutSeconds: 5}, startupProbe: {exec: {}}}]}}", &[
        ("/spec/containers/0/livenessProbe", r#"{"failureThreshold":3,"httpGet":{"path":"/","port":80,"scheme":"HTTP"},"periodSeconds":10,"successThreshold":1,"timeoutSeconds":1}"#),
        ("/spec/containers/0/readinessProbe", r#"{"failureThreshold":3,"grpc":{"port":80,"service":""},"periodSeconds":10,"successThreshold":1,"timeoutSeconds":5}"#),
        ("/spec/containers/0/startupProbe", r#"{"exec":{},"failureThreshold":3,"periodSeconds":10,"successThreshold":1,"timeoutSeconds":1}"#)]),
    ("v1", "Pod", "{spec: {containers: [{name: c, lifecycle: {postStart: {httpGet: {port: 80}}, preStop: {sleep: {seconds: 1}}}}]}}", &[
        ("/spec/containers/0/lifecycle", r#"{"postStart":{"httpGet":{"path":"/","port":80,"scheme":"HTTP"}},"preStop":{"sleep":{"seconds":1}}}"#)]),
    ("v1", "Pod", "{spec: {containers: [{name: c, env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: B, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}, {name: C, valueFrom: {fileKeyRef: {key: k}}}]}]}}", &[
        ("/spec/containers/0/env/0/valueFrom/fieldRef/apiVersion", "v1"), ("/spec/containers/0/env/1/valueFrom/resourceFieldRef/divisor", "0"),
        ("/spec/containers/0/env/2/valueFrom/fileKeyRef/optional", "false")]),
    ("v1", "Pod", "{spec: {serviceAccount: robot, containers: []}}", &[("/spec/serviceAccountName", "robot")]),
    ("v1", "Pod", "{spec: {containers: [], volumes: [{name: a}, {name: b, secret: {}}, {name: c, configMap: {}}, {name: d, downwardAPI: {items: [{path: p, fieldRef: {fieldPath: metadata.name}}]}}, {name: e, hostPath: {path: /}}, {name: f, image: {reference: 'a:1'}}, {name: g, image: {reference: a}}]}}", &[
        ("/spec/volumes/0/emptyDir", "{}"), ("/spec/volumes/1/secret/defaultMode", "420"), ("/spec/volumes/2/configMap/defaultMode", "420"),
        ("/spec/volumes/3/downwardAPI", r#"{"defaultMode":420,"items":[{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.name"},"path":"p"}]}"#),
        ("/spec/volumes/4/hostPath/type", ""), ("/spec/volumes/5/image/pullPolicy", "IfNotPresent"), ("/spec/volumes/6/image/pullPolicy", "Always")]),
    ("v1", "Pod", "{spec: {containers: [], volumes: [{name: a, projected: {sources: [{serviceAccountToken: {path: t}}, {downwardAPI: {items: [{path: p, resourceFieldRef: {resource: limits.cpu}}]}}, {clusterTrustBundle: {path: b}}, {podCertificate: {keyType: ED25519}}]}}]}}", &[
        ("/spec/volumes/0/projected/defaultMode", "420"), ("/spec/volumes/0/projected/sources/0/serviceAccountToken/expirationSeconds", "3600"),
        ("/spec/volumes/0/projected/sources/1/downwardAPI/items/0/resourceFieldRef/divisor", "0"),
        ("/spec/volumes/0/projected/sources/2/clusterTrustBundle", r#"{"path":"b"}"#), ("/spec/volumes/0/projected/sources/3/podCertificate", r#"{"keyType":"ED25519"}"#)]),
    ("v1", "Pod", "{spec: {containers: [], volumes: [{name: a, ephemeral: {volumeClaimTemplate: {spec: {resources: {requests: {storage: 1500u}}}}}}, {name: b, iscsi: {iqn: a}}]}}", &[
        ("/spec/volumes/0/ephemeral/volumeClaimTemplate/spec", r#"{"resources":{"requests":{"storage":"2m"}},"volumeMode":"Filesystem"}"#),
        ("/spec/volumes/1/iscsi/iscsiInterface", "default")]),
    ("v1", "Pod", "{spec: {resources: {limits: {cpu: 2}}, containers: [{name: c, resources: {requests: {cpu: 1}}}]}}", &[("/spec/resources/requests/cpu", "1")]),
    ("v1", "Pod", "{spec: {resources: {limits: {memory: 1Gi}}, containers: [{name: c}]}}", &[("/spec/resources/requests/memory", "1Gi")]),
    ("v1", "ReplicationController", "{spec: {template: {metadata: {labels: {a: b}}}}}", &[("/spec/selector", r#"{"a":"b"}"#), ("/metadata/labels", r#"{"a":"b"}"#), ("/spec/replicas", "1")]),
    ("v1", "ReplicationController", "{metadata: {labels: {c: d}}, spec: {replicas: 0, selector: {e: f}, template: {metadata: {labels: {a: b}}}}}", &[("/spec/selector", r#"{"e":"f"}"#), ("/metadata/labels", r#"{"c":"d"}"#), ("/spec/replicas", "0")]),
    ("v1", "ReplicationController", "{spec: {}}", &[("/spec/selector", "-"), ("/spec/template", "-")]),
    ("v1", "ResourceQuota", "{spec: {hard: {cpu: 1500u}}}", &[("/spec/hard/cpu", "2m")]),
    ("v1", "Secret", "{}", &[("/type", "Opaque")]),
    ("v1", "Service", "{spec: {ports: [{port: 80}, {port: 81, protocol: UDP, targetPort: web}]}}", &[
        ("/spec/type", "ClusterIP"), ("/spec/sessionAffinity", "None"), ("/spec/internalTrafficPolicy", "Cluster"), ("/spec/externalTrafficPolicy", "-"), ("/spec/allocateLoadBalancerNodePorts", "-"),
        ("/spec/ports/0", r#"{"port":80,"protocol":"TCP","targetPort":80}"#), ("/spec/ports/1/targetPort", "web")]),
    ("v1", "Service", "{spec: {externalIPs: [192.0.2.1]}}", &[("/spec/externalTrafficPolicy", "Cluster")]),
    ("v1", "Service", "{spec: {type: NodePort}}", &[("/spec/externalTrafficPolicy", "Cluster"), ("/spec/internalTrafficPolicy", "Cluster"), ("/spec/allocateLoadBalancerNodePorts", "-")]),
    ("v1", "Service", "{spec: {type: LoadBalancer}}", &[("/spec/externalTrafficPolicy", "Cluster"), ("/spec/internalTrafficPolicy", "Cluster"), ("/spec/allocateLoadBalancerNodePorts", "true")]),
    ("v1", "Service", "{spec: {type: ExternalName, externalName: a.test}}", &[("/spec/sessionAffinity", "None"), ("/spec/internalTrafficPolicy", "-"), ("/spec/externalTrafficPolicy", "-")]),
    ("v1", "Service", "{spec: {sessionAffinity: ClientIP}}", &[("/spec/sessionAffinityConfig", r#"{"clientIP":{"timeoutSeconds":10800}}"#)]),
    ("v1", "Service", "{spec: {sessionAffinity: None, sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}}}", &[("/spec/sessionAffinityConfig", "-")]),
    // admissionregistration.k8s.io/v1
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "{webhooks: [{clientConfig: {service: {name: s}}, rules: [{}]}]}", &[
        ("/webhooks/0", r#"{"clientConfig":{"service":{"name":"s","port":443}},"failurePolicy":"Fail","matchPolicy":"Equivalent","namespaceSelector":{},"objectSelector":{},"reinvocationPolicy":"Never","rules":[{"scope":"*"}],"timeoutSeconds":10}"#)]),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "{webhooks: [{rules: [{}]}]}", &[
        ("/webhooks/0", r#"{"failurePolicy":"Fail","matchPolicy":"Equivalent","namespaceSelector":{},"objectSelector":{},"rules":[{"scope":"*"}],"timeoutSeconds":10}"#)]),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "{spec: {matchConstraints: {resourceRules: [{}], excludeResourceRules: [{}]}}}", &[
        ("/spec", r#"{"failurePolicy":"Fail","matchConstraints":{"excludeResourceRules":[{"scope":"*"}],"matchPolicy":"Equivalent","namespaceSelector":{},"objectSelector":{},"resourceRules":[{"scope":"*"}]}}"#)]),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "{spec: {paramRef: {name: p}, matchResources: {}}}", &[
        ("/spec", r#"{"matchResources":{"matchPolicy":"Equivalent","namespaceSelector":{},"objectSelector":{}},"paramRef":{"name":"p"}}"#)]),
    ("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicy", "{spec: {}}", &[("/spec", r#"{"failurePolicy":"Fail"}"#)]),
    ("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicyBinding", "{spec: {matchResources: {}}}", &[("/spec/matchResources/matchPolicy", "Equivalent")]),
    ("apiregistration.k8s.io/v1", "APIService", "{spec: {service: {name: s}}}", &[("/spec/service/port", "443")]),
    // apps/v1
    ("apps/v1", "DaemonSet", "{spec: {}}", &[("/spec/updateStrategy", r#"{"rollingUpdate":{"maxSurge":0,"maxUnavailable":1},"type":"RollingUpdate"}"#), ("/spec/revisionHistoryLimit", "10")]),
    ("apps/v1", "DaemonSet", "{spec: {updateStrategy: {type: OnDelete}}}", &[("/spec/updateStrategy", r#"{"type":"OnDelete"}"#)]),
    ("apps/v1", "Deployment", "{spec: {}}", &[("/spec/replicas", "1"), ("/spec/strategy", r#"{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":"25%"},"type":"RollingUpdate"}"#),
        ("/spec/revisionHistoryLimit", "10"), ("/spec/progressDeadlineSeconds", "600"), ("/spec/minReadySeconds", "-"), ("/spec/paused", "-")]),
    ("apps/v1", "Deployment", "{spec: {strategy: {type: Recreate}}}", &[("/spec/strategy", r#"{"type":"Recreate"}"#)]),
    ("apps/v1", "ReplicaSet", "{spec: {}}", &[("/spec/replicas", "1"), ("/spec/selector", "-")]),
    ("apps/v1", "StatefulSet", "{spec: {volumeClaimTemplates: [{spec: {resources: {requests: {storage: 1500u}}}}]}}", &[
        ("/spec/podManagementPolicy", "OrderedReady"), ("/spec/replicas", "1"), ("/spec/revisionHistoryLimit", "10"),
        ("/spec/updateStrategy", r#"{"rollingUpdate":{"partition":0},"type":"RollingUpdate"}"#),
        ("/spec/persistentVolumeClaimRetentionPolicy", r#"{"whenDeleted":"Retain","whenScaled":"Retain"}"#),
        ("/spec/volumeClaimTemplates/0", r#"{"apiVersion":"v1","kind":"PersistentVolumeClaim","spec":{"resources":{"requests":{"storage":"2m"}},"volumeMode":"Filesystem"},"status":{"phase":"Pending"}}"#)]),
    ("apps/v1", "StatefulSet", "{spec: {updateStrategy: {type: RollingUpdate}}}", &[("/spec/updateStrategy", r#"{"type":"RollingUpdate"}"#)]),
    ("apps/v1", "StatefulSet", "{spec: {updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 2}}}}", &[("/spec/updateStrategy/rollingUpdate", r#"{"maxUnavailable":2,"partition":0}"#)]),
    ("apps/v1", "StatefulSet", "{spec: {updateStrategy: {type: OnDelete}}}", &[("/spec/updateStrategy", r#"{"type":"OnDelete"}"#)]),
    // autoscaling
    ("autoscaling/v1", "HorizontalPodAutoscaler", "{spec: {maxReplicas: 3}}", &[("/spec", r#"{"maxReplicas":3,"minReplicas":1}"#)]),
    ("autoscaling/v2", "HorizontalPodAutoscaler", "{spec: {maxReplicas: 3}}", &[("/spec/minReplicas", "1"), ("/spec/behavior", "-"),
        ("/spec/metrics", r#"[{"resource":{"name":"cpu","target":{"averageUtilization":80,"type":"Utilization"}},"type":"Resource"}]"#)]),
    ("autoscaling/v2", "HorizontalPodAutoscaler", "{spec: {behavior: {}}}", &[
        ("/spec/behavior/scaleUp", r#"{"policies":[{"periodSeconds":15,"type":"Pods","value":4},{"periodSeconds":15,"type":"Percent","value":100}],"selectPolicy":"Max","stabilizationWindowSeconds":0}"#),
        ("/spec/behavior/scaleDown", r#"{"policies":[{"periodSeconds":15,"type":"Percent","value":100}],"selectPolicy":"Max"}"#)]),
    // batch/v1
    ("batch/v1", "CronJob", "{spec: {jobTemplate: {spec: {podFailurePolicy: {rules: [{onPodConditions: [{type: T}]}]}}}}}", &[
        ("/spec/concurrencyPolicy", "Allow"), ("/spec/suspend", "false"), ("/spec/successfulJobsHistoryLimit", "3"), ("/spec/failedJobsHistoryLimit", "1"),
        // The Jobs get theirs when they are made.
        ("/spec/jobTemplate/spec/backoffLimit", "-"), ("/spec/jobTemplate/spec/podFailurePolicy/rules/0/onPodConditions/0/status", "True")]),
    ("batch/v1", "Job", "{spec: {manualSelector: true}}", &[("/spec/completions", "1"), ("/spec/parallelism", "1"), ("/spec/backoffLimit", "6"), ("/spec/completionMode", "NonIndexed"),
        ("/spec/suspend", "false"), ("/spec/podReplacementPolicy", "TerminatingOrFailed")]),
    ("batch/v1", "Job", "{spec: {parallelism: 3, backoffLimitPerIndex: 1}}", &[("/spec/manualSelector", "false"), ("/spec/completions", "-"), ("/spec/parallelism", "3"), ("/spec/backoffLimit", "2147483647")]),
    ("batch/v1", "Job", "{spec: {manualSelector: true, podFailurePolicy: {rules: [{onPodConditions: [{type: T}]}]}, template: {metadata: {labels: {a: b}}}}}", &[
        ("/spec/podReplacementPolicy", "Failed"), ("/spec/podFailurePolicy/rules/0/onPodConditions/0/status", "True"), ("/metadata/labels", r#"{"a":"b"}"#)]),
    ("certificates.k8s.io/v1beta1", "PodCertificateRequest", "{spec: {}}", &[("/spec/maxExpirationSeconds", "86400")]),
    ("discovery.k8s.io/v1", "EndpointSlice", "{ports: [{port: 80}]}", &[("/ports/0", r#"{"name":"","port":80,"protocol":"TCP"}"#)]),
    // flowcontrol.apiserver.k8s.io/v1
    ("flowcontrol.apiserver.k8s.io/v1", "FlowSchema", "{spec: {}}", &[("/spec/matchingPrecedence", "1000")]),
    ("flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration", "{spec: {limited: {limitResponse: {type: Queue, queuing: {}}}}}", &[
        ("/spec/limited", r#"{"lendablePercent":0,"limitResponse":{"queuing":{"handSize":8,"queueLengthLimit":50,"queues":64},"type":"Queue"},"nominalConcurrencyShares":30}"#)]),
    ("flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration", "{spec: {limited: {nominalConcurrencyShares: 0}, exempt: {}}}", &[
        ("/spec/limited/nominalConcurrencyShares", "0"), ("/spec/exempt", r#"{"lendablePercent":0,"nominalConcurrencyShares":0}"#)]),
    // networking.k8s.io/v1
    ("networking.k8s.io/v1", "Ingress", "{spec: {}}", &[("/spec", "{}")]),
    ("networking.k8s.io/v1", "IngressClass", "{spec: {parameters: {name: p}}}", &[("/spec/parameters/scope", "Cluster")]),
    ("networking.k8s.io/v1", "NetworkPolicy", "{spec: {ingress: [{ports: [{port: 80}]}]}}", &[("/spec/policyTypes", r#"["Ingress"]"#), ("/spec/ingress/0/ports/0/protocol", "TCP")]),
    ("networking.k8s.io/v1", "NetworkPolicy", "{spec: {egress: [{}]}}", &[("/spec/policyTypes", r#"["Ingress","Egress"]"#)]),
    ("networking.k8s.io/v1", "NetworkPolicy", "{spec: {egress: [{}], policyTypes: [Egress]}}", &[("/spec/policyTypes", r#"["Egress"]"#)]),
    ("node.k8s.io/v1", "RuntimeClass", "{overhead: {podFixed: {cpu: 1500u}}}", &[("/overhead/podFixed/cpu", "2m"), ("/scheduling", "-")]),
    ("policy/v1", "PodDisruptionBudget", "{spec: {}}", &[("/spec/minAvailable", "-"), ("/spec/unhealthyPodEvictionPolicy", "-")]),
    // rbac.authorization.k8s.io/v1
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "{roleRef: {kind: Role}, subjects: [{kind: User}, {kind: Group}, {kind: ServiceAccount}, {kind: Other}]}", &[
        ("/roleRef/apiGroup", "rbac.authorization.k8s.io"), ("/subjects/0/apiGroup", "rbac.authorization.k8s.io"), ("/subjects/1/apiGroup", "rbac.authorization.k8s.io"),
        ("/subjects/2/apiGroup", "-"), ("/subjects/3/apiGroup", "-")]),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "{roleRef: {kind: ClusterRole}}", &[("/roleRef/apiGroup", "rbac.authorization.k8s.io")]),
    // resource.k8s.io/v1
    ("resource.k8s.io/v1", "ResourceClaim", "{spec: {devices: {requests: [{exactly: {}}, {exactly: {allocationMode: All}}, {firstAvailable: [{count: 2}, {}]}]}}}", &[
        ("/spec/devices/requests/0/exactly", r#"{"allocationMode":"ExactCount","count":1}"#), ("/spec/devices/requests/1/exactly", r#"{"allocationMode":"All"}"#),
        ("/spec/devices/requests/2/firstAvailable", r#"[{"allocationMode":"ExactCount","count":2},{"allocationMode":"ExactCount","count":1}]"#)]),
    ("resource.k8s.io/v1", "ResourceClaimTemplate", "{spec: {spec: {devices: {requests: [{exactly: {}}]}}}}", &[("/spec/spec/devices/requests/0/exactly/count", "1")]),
    ("scheduling.k8s.io/v1", "PriorityClass", "{}", &[("/preemptionPolicy", "PreemptLowerPriority"), ("/globalDefault", "-")]),
    // storage.k8s.io/v1
    ("storage.k8s.io/v1", "CSIDriver", "{}", &[("/spec", r#"{"attachRequired":true,"fsGroupPolicy":"ReadWriteOnceWithFSType","podInfoOnMount":false,"requiresRepublish":false,"seLinuxMount":false,"storageCapacity":false,"volumeLifecycleModes":["Persistent"]}"#)]),
    ("storage.k8s.io/v1", "StorageClass", "{}", &[("/reclaimPolicy", "Delete"), ("/volumeBindingMode", "Immediate"), ("/allowVolumeExpansion", "-")]),
];

#[test]
fn upstreams_defaults() {
    for (api_version, kind, body, expected) in ROWS {
        let mut obj = super::parse(body);
        obj["apiVersion"] = (*api_version).into();
        obj["kind"] = (*kind).into();
        let obj = created(&obj.to_string());
        for (pointer, value) in *expected {
            let shown = match obj.pointer(pointer) {
                None => "-".to_string(),
                Some(v) => v.as_str().map_or_else(|| v.to_string(), str::to_string),
            };
            assert_eq!(shown, *value, "{pointer} of {kind} {body}");
        }
    }
}

#[test]
fn every_template_of_pods_gets_what_templates_get() {
    let spec = "{hostNetwork: true, containers: [{name: c, image: 'a:1', ports: [{containerPort: 80}], resources: {limits: {cpu: 1500u}}}]}";
    for (api_version, kind, path) in [
        ("apps/v1", "DaemonSet", "/spec/template/spec"),
        ("apps/v1", "Deployment", "/spec/template/spec"),
        ("apps/v1", "ReplicaSet", "/spec/template/spec"),
        ("apps/v1", "StatefulSet", "/spec/template/spec"),
        ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template/spec"),
        ("batch/v1", "Job", "/spec/template/spec"),
        ("v1", "PodTemplate", "/template/spec"),
        ("v1", "ReplicationController", "/spec/template/spec"),
    ] {
        let steps: Vec<&str> = path[1..].split('/').collect();
        let body = steps.iter().rev().fold(super::parse(spec), |inner, step| serde_json::json!({ *step: inner }));
        let mut obj = body;
        obj["apiVersion"] = api_version.into();
        obj["kind"] = kind.into();
        let obj = created(&obj.to_string());
        let pods = obj.pointer(path).unwrap_or(&serde_json::Value::Null);
        assert_eq!(pods["dnsPolicy"], "ClusterFirst", "{kind}");
        assert_eq!(pods["securityContext"].to_string(), "{}", "{kind}");
        assert_eq!(pods["schedulerName"], "default-scheduler", "{kind}");
        assert_eq!(pods["containers"][0]["imagePullPolicy"], "IfNotPresent", "{kind}");
        // What only pods themselves get.
        assert!(pods["enableServiceLinks"].is_null(), "{kind}");
        assert_eq!(pods["containers"][0]["ports"].to_string(), r#"[{"containerPort":80,"protocol":"TCP"}]"#, "{kind}");
        assert_eq!(pods["containers"][0]["resources"].to_string(), r#"{"limits":{"cpu":"2m"}}"#, "{kind}");
    }
}

#[test]
fn status_has_defaults_too() {
    for (text, pointer, value) in [
        (
            "{apiVersion: v1, kind: Node, status: {capacity: {cpu: 1500u, memory: 1Gi}}}",
            "/status/allocatable",
            r#"{"cpu":"2m","memory":"1Gi"}"#,
        ),
        (
            "{apiVersion: v1, kind: PersistentVolumeClaim, status: {capacity: {storage: 1n}}}",
            "/status/capacity/storage",
            "\"1m\"",
        ),
        (
            "{apiVersion: v1, kind: ResourceQuota, status: {used: {cpu: 1500u}, hard: {cpu: -1500u}}}",
            "/status",
            r#"{"hard":{"cpu":"-2m"},"used":{"cpu":"2m"}}"#,
        ),
        (
            "{apiVersion: v1, kind: Pod, status: {containerStatuses: [{allocatedResources: {cpu: 1n}, resources: {requests: {cpu: 1n}}}]}}",
            "/status/containerStatuses/0",
            r#"{"allocatedResources":{"cpu":"1m"},"resources":{"requests":{"cpu":"1m"}}}"#,
        ),
        (
            "{apiVersion: v1, kind: Service, spec: {type: LoadBalancer}, status: {loadBalancer: {ingress: [{ip: 192.0.2.1}, {hostname: a}]}}}",
            "/status/loadBalancer/ingress",
            r#"[{"ip":"192.0.2.1","ipMode":"VIP"},{"hostname":"a"}]"#,
        ),
    ] {
        let mut obj = super::parse(text);
        super::strategy_of(&obj).defaults(&mut obj);
        assert_eq!(obj.pointer(pointer).map(|v| v.to_string()).as_deref(), Some(value), "{text}");
    }
}
