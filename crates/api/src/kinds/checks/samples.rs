//! One valid object per kind, rich enough that the hooks have something to walk.

pub const ALL: &[&str] = &[
    POD,
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: prod}",
    "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {node-role.kubernetes.io/control-plane: ''}}\nspec: {podCIDR: 10.42.0.0/24, podCIDRs: [10.42.0.0/24], taints: [{key: a, effect: NoSchedule}]}\nstatus: {capacity: {cpu: '2', memory: 4Gi, pods: '110'}, addresses: [{type: InternalIP, address: 10.0.0.1}], conditions: [{type: Ready, status: 'True'}], nodeInfo: {kubeletVersion: v1.36.0}}",
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: d}\nspec: {selector: {app: web}, type: NodePort, ports: [{name: http, port: 80, targetPort: web, nodePort: 30080}, {name: dns, port: 53, protocol: UDP}]}",
    "apiVersion: v1\nkind: Endpoints\nmetadata: {name: web, namespace: d}\nsubsets: [{addresses: [{ip: 10.42.0.5, nodeName: n1}], ports: [{name: http, port: 80}]}]",
    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-x, namespace: d}\naddressType: IPv4\nendpoints: [{addresses: [10.42.0.5], conditions: {ready: true}, nodeName: n1}]\nports: [{name: http, port: 80}]",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: d}\ndata: {a: b}\nbinaryData: {c: AAEC}",
    "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: d}\nstringData: {password: hunter2}",
    "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: robot, namespace: d}\nsecrets: [{name: t}]",
    "apiVersion: v1\nkind: Event\nmetadata: {name: e, namespace: d}\ninvolvedObject: {kind: Pod, name: p, namespace: d}\nreason: Pulled\nmessage: ok\ntype: Normal\ncount: 2\nlastTimestamp: '2026-01-01T00:59:00Z'\nsource: {component: kubelet, host: n1}",
    "apiVersion: events.k8s.io/v1\nkind: Event\nmetadata: {name: e, namespace: d}\nregarding: {kind: Pod, name: p, namespace: d}\neventTime: '2026-01-01T00:59:00.000000Z'\nreportingController: skiff.io/kubelet\nreportingInstance: n1\naction: Pull\nreason: Pulled\ntype: Normal\nnote: ok",
    "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: n1, namespace: kube-node-lease}\nspec: {holderIdentity: n1, leaseDurationSeconds: 40, renewTime: '2026-01-01T00:59:00.000000Z'}",
    DEPLOYMENT,
    "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: web-1, namespace: d}\nspec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: 'nginx:1'}]}}}",
    STATEFULSET,
    "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: agent, namespace: d}\nspec: {selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: {hostNetwork: true, containers: [{name: c, image: a, ports: [{containerPort: 9100}]}]}}}",
    "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: old, namespace: d}\nspec: {template: {metadata: {labels: {app: a}}, spec: {containers: [{name: c, image: a}]}}}",
    "apiVersion: batch/v1\nkind: Job\nmetadata: {name: once, namespace: d}\nspec: {completionMode: Indexed, completions: 3, parallelism: 2, podFailurePolicy: {rules: [{action: Ignore, onPodConditions: [{type: DisruptionTarget}]}]}, template: {spec: {restartPolicy: Never, containers: [{name: c, image: a}]}}}",
    "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: often, namespace: d}\nspec: {schedule: '*/5 * * * *', timeZone: Etc/UTC, jobTemplate: {spec: {template: {spec: {restartPolicy: OnFailure, containers: [{name: c, image: a}]}}}}}",
    "apiVersion: v1\nkind: PodTemplate\nmetadata: {name: t, namespace: d}\ntemplate: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: a}]}}",
    "apiVersion: apps/v1\nkind: ControllerRevision\nmetadata: {name: r, namespace: d, ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: db, uid: u, controller: true}]}\ndata: {spec: {}}\nrevision: 3",
    "apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: pv}\nspec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /data}, claimRef: {namespace: d, name: c}}",
    "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: c, namespace: d}\nspec: {accessModes: [ReadWriteOnce], storageClassName: fast, volumeName: pv, resources: {requests: {storage: 1Gi}}}",
    "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: fast, annotations: {storageclass.kubernetes.io/is-default-class: 'true'}}\nprovisioner: skiff.io/local\nparameters: {a: b}",
    "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: 'r:x', namespace: d}\nrules: [{apiGroups: [''], resources: [pods], verbs: [get]}]",
    "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: 'system:x'}\naggregationRule: {clusterRoleSelectors: [{matchLabels: {a: b}}]}\nrules: [{nonResourceURLs: [/healthz], verbs: [get]}]",
    "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: b, namespace: d}\nroleRef: {kind: Role, name: r}\nsubjects: [{kind: User, name: jane}, {kind: ServiceAccount, name: robot, namespace: d}]",
    "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: b}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: r}\nsubjects: [{kind: Group, name: 'system:masters'}]",
    "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: web, namespace: d}\nspec: {minAvailable: 50%, selector: {matchLabels: {app: web}}}\nstatus: {disruptionsAllowed: 1}",
    "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: web, namespace: d}\nspec: {maxReplicas: 5, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}, behavior: {scaleDown: {stabilizationWindowSeconds: 60}, scaleUp: {}}}",
    "apiVersion: v1\nkind: LimitRange\nmetadata: {name: l, namespace: d}\nspec: {limits: [{type: Container, max: {cpu: '2'}, min: {cpu: 10m}}]}",
    "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q, namespace: d}\nspec: {hard: {pods: '10', limits.cpu: '4'}, scopes: [NotTerminating]}\nstatus: {hard: {pods: '10', limits.cpu: '4'}, used: {pods: '3', limits.cpu: 500m}}",
    "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: high}\nvalue: 1000",
    "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web, namespace: d}\nspec: {ingressClassName: skiff, tls: [{hosts: [a.example.com], secretName: t}], rules: [{host: a.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}",
    "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: np, namespace: d}\nspec: {podSelector: {matchLabels: {app: web}}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], ports: [{port: 80, endPort: 90}]}]}",
    POD_CERTIFICATE_REQUEST,
    "apiVersion: certificates.k8s.io/v1beta1\nkind: ClusterTrustBundle\nmetadata: {name: 'e.com:a:v1'}\nspec: {signerName: e.com/a, trustBundle: \"-----BEGIN CERTIFICATE-----\\nMIHrMIGeoAMCAQICAQEwBQYDK2VwMBQxEjAQBgNVBAMMCXRlc3Qgcm9vdDAgFw0y\\nNjAxMDEwMDAwMDBaGA8yMDU2MDEwMTAwMDAwMFowFDESMBAGA1UEAwwJdGVzdCBy\\nb290MCowBQYDK2VwAyEAloM02vUlBmjx+fSsHvD3NhudQJu9Ikgyd9gPDBjbjr2j\\nEzARMA8GA1UdEwEB/wQFMAMBAf8wBQYDK2VwA0EAZg9v6s8GFFoxoE2g7Bs2Db2C\\nGxP13Mdgj6I7MmEe+8nLNBG8XLrTh5zQmXdGjgQWPsEbO5xd1NiYG00sUP+ACQ==\\n-----END CERTIFICATE-----\\n\"}",
    "apiVersion: storagemigration.k8s.io/v1beta1\nkind: StorageVersionMigration\nmetadata: {name: m}\nspec: {resource: {group: apps, resource: deployments}}\nstatus: {resourceVersion: '12', conditions: [{type: Running, status: 'True', reason: R, lastTransitionTime: '2026-01-01T00:00:00Z'}]}",
];

/// Keys of each kind, with an empty PKCS #10 request each, and each a proof for the pod `pod-uid`.
pub const KEYS: &str = include_str!("certs/keys.json");
/// An authority's own certificate, and one that it gave to the Ed25519 key for six hours of 2026-01-01.
pub const ANCHOR: &str = include_str!("certs/anchor.pem");
pub const LEAF: &str = include_str!("certs/leaf.pem");

/// For the Ed25519 key.
pub const POD_CERTIFICATE_REQUEST: &str = r#"{"apiVersion":"certificates.k8s.io/v1beta1","kind":"PodCertificateRequest","metadata":{"name":"req","namespace":"d"},
"spec":{"signerName":"example.com/signer","podName":"web","podUID":"pod-uid","serviceAccountName":"default",
"serviceAccountUID":"sa-uid","nodeName":"n1","nodeUID":"node-uid","maxExpirationSeconds":86400,
"stubPKCS10Request":"MH8wMwIBADAAMCowBQYDK2VwAyEAC3+9WrEgfBgn4Csaqx2Tvqp6RkdceL3IcUGGJmRYUOugADAFBgMrZXADQQBRxvcDHItOf+uzVtL+Icwez0P46Yp+I25HZe9ox0sDjdQWGahT99XygmtIXtvb7HfB72Fzih12iQP3RGF0xosC"}}"#;

pub const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: d, labels: {app: web}}
spec:
  serviceAccountName: robot
  nodeSelector: {disk: ssd}
  tolerations: [{key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 30}]
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [a]}]}]}
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: zone, labelSelector: {matchLabels: {tier: front}}, matchLabelKeys: [app]}}]
  topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}]
  dnsConfig: {nameservers: [1.1.1.1], searches: [example.com], options: [{name: ndots, value: '2'}]}
  hostAliases: [{ip: 10.0.0.9, hostnames: [db]}]
  readinessGates: [{conditionType: example.com/gate}]
  imagePullSecrets: [{name: reg}]
  securityContext: {runAsUser: 1000, fsGroup: 1000, sysctls: [{name: net.core.somaxconn, value: '1024'}], seccompProfile: {type: RuntimeDefault}}
  initContainers:
  - {name: init, image: 'busybox:1.36', command: [sh]}
  - {name: side, image: busybox, restartPolicy: Always, startupProbe: {exec: {command: ['true']}}}
  containers:
  - name: main
    image: nginx:1.27
    ports: [{name: http, containerPort: 8080}, {containerPort: 53, protocol: UDP, hostPort: 53}]
    env:
    - {name: A, value: b}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
    - {name: S, valueFrom: {secretKeyRef: {name: s, key: password}}}
    envFrom: [{prefix: P_, configMapRef: {name: c}}]
    resources: {limits: {cpu: 500m, memory: 128Mi}, requests: {cpu: 100m}}
    livenessProbe: {httpGet: {port: http}}
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
    lifecycle: {preStop: {sleep: {seconds: 1}}}
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts:
    - {name: cfg, mountPath: /etc/cfg, subPath: a/b}
    - {name: tmp, mountPath: /tmp}
    - {name: all, mountPath: /all, readOnly: true}
  volumes:
  - {name: tmp}
  - {name: cfg, configMap: {name: c, items: [{key: a, path: b}]}}
  - {name: host, hostPath: {path: /srv}}
  - {name: img, image: {reference: 'a:1'}}
  - {name: eph, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}}}
  - {name: da, downwardAPI: {items: [{path: l, fieldRef: {fieldPath: metadata.labels}}]}}
  - {name: all, projected: {sources: [{serviceAccountToken: {path: token}}, {configMap: {name: kube-root-ca.crt}}, {downwardAPI: {items: [{path: ns, fieldRef: {fieldPath: metadata.namespace}}]}}]}}
status: {phase: Running}
";

pub const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: d}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}, matchExpressions: [{key: tier, operator: NotIn, values: [db]}]}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: nginx}]}
";

pub const STATEFULSET: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: d}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: c, image: 'redis:7', volumeMounts: [{name: data, mountPath: /data}]}]}
";
