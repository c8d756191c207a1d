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

#[test]
fn others() {
    for (text, path, value) in [
        (
            "kind: Namespace\napiVersion: v1\nmetadata: {name: prod}",
            "/metadata/labels/kubernetes.io~1metadata.name",
            "\"prod\"",
        ),
        ("kind: Namespace\napiVersion: v1\nmetadata: {name: prod}", "/spec/finalizers", "[\"kubernetes\"]"),
        (super::samples::POD, "/status/qosClass", "\"Burstable\""),
        (super::samples::POD, "/status/phase", "\"Pending\""),
        (
            "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: a}\nspec: {}",
            "/spec/updateStrategy/rollingUpdate",
            r#"{"maxSurge":0,"maxUnavailable":1}"#,
        ),
        (
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec: {egress: [{}]}",
            "/spec/policyTypes",
            r#"["Ingress","Egress"]"#,
        ),
        (
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: a}\nroleRef: {kind: Role, name: r}\nsubjects: [{kind: User, name: u}]",
            "/subjects/0/apiGroup",
            "\"rbac.authorization.k8s.io\"",
        ),
        (
            "apiVersion: v1\nkind: LimitRange\nmetadata: {name: a}\nspec: {limits: [{type: Container, max: {cpu: '2'}}]}",
            "/spec/limits/0/defaultRequest",
            r#"{"cpu":"2"}"#,
        ),
        (
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: a}\nspec: {maxReplicas: 3}",
            "/spec/metrics/0/resource/target/averageUtilization",
            "80",
        ),
        (
            "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: a}\nspec: {schedule: '@daily'}",
            "/spec/concurrencyPolicy",
            "\"Allow\"",
        ),
        (
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: a}\nspec: {dataSource: {kind: PersistentVolumeClaim, name: b}}",
            "/spec/dataSourceRef/name",
            "\"b\"",
        ),
    ] {
        let obj = created(text);
        assert_eq!(obj.pointer(path).map(|v| v.to_string()).as_deref(), Some(value), "{path} of {text}");
    }
}
