//! The default RBAC policy, as a table. Source: "Using RBAC Authorization", default roles and role bindings.
//!
//! A rule is one line, `groups | resources | verbs [| resource names]`, or `urls | verbs` for paths; items are
//! separated by commas, `core` is the core group.

/// Lets a role's name be the only thing to say twice.
pub struct Role {
    pub name: &'static str,
    pub rules: &'static [&'static str],
}

const fn role(name: &'static str, rules: &'static [&'static str]) -> Role {
    Role { name, rules }
}

const EVENTS: &str = "core,events.k8s.io | events | create,patch,update";

#[rustfmt::skip] // A table reads better with a row a line.
pub const CLUSTER_ROLES: &[Role] = &[
    role("cluster-admin", &["* | * | *", "* | *"]),
    role("system:discovery", &[
        "/api,/api/*,/apis,/apis/*,/healthz,/livez,/openapi,/openapi/*,/readyz,/version,/version/ | get",
    ]),
    role("system:public-info-viewer", &["/healthz,/livez,/readyz,/version,/version/ | get"]),
    role("system:monitoring", &[
        "/healthz,/healthz/*,/livez,/livez/*,/metrics,/metrics/slis,/readyz,/readyz/* | get",
        "core | nodes/metrics | get",
        "/flagz | get",
        "/statusz | get",
    ]),
    role("system:basic-user", &[
        "authorization.k8s.io | selfsubjectaccessreviews,selfsubjectrulesreviews | create",
        "authentication.k8s.io | selfsubjectreviews | create",
    ]),
    role("system:service-account-issuer-discovery", &[
        "/.well-known/openid-configuration,/.well-known/openid-configuration/,/openid/v1/jwks,/openid/v1/jwks/ | get",
    ]),
    role("system:cluster-trust-bundle-discovery", &["certificates.k8s.io | clustertrustbundles | get,list,watch"]),
    role("system:aggregate-to-admin", &[
        "authorization.k8s.io | localsubjectaccessreviews | create",
        "rbac.authorization.k8s.io | rolebindings,roles | create,delete,deletecollection,get,list,patch,update,watch",
    ]),
    role("system:aggregate-to-edit", &[
        "core | pods/attach,pods/exec,pods/portforward,pods/proxy,secrets,services/proxy | get,list,watch",
        "core | serviceaccounts | impersonate",
        "core | pods,pods/attach,pods/exec,pods/portforward,pods/proxy | create,delete,deletecollection,patch,update",
        "core | pods/eviction | create",
        "core | configmaps,persistentvolumeclaims,replicationcontrollers,replicationcontrollers/scale,secrets,\
         serviceaccounts,services,services/proxy | create,delete,deletecollection,patch,update",
        "core | serviceaccounts/token | create",
        "core,events.k8s.io | events | create,delete,deletecollection,patch,update",
        "apps | daemonsets,deployments,deployments/rollback,deployments/scale,replicasets,replicasets/scale,\
         statefulsets,statefulsets/scale | create,delete,deletecollection,patch,update",
        "autoscaling | horizontalpodautoscalers | create,delete,deletecollection,patch,update",
        "batch | cronjobs,jobs | create,delete,deletecollection,patch,update",
        "extensions | daemonsets,deployments,deployments/rollback,deployments/scale,ingresses,networkpolicies,\
         replicasets,replicasets/scale,replicationcontrollers/scale | create,delete,deletecollection,patch,update",
        "policy | poddisruptionbudgets | create,delete,deletecollection,patch,update",
        "networking.k8s.io | ingresses,networkpolicies | create,delete,deletecollection,patch,update",
        "coordination.k8s.io | leases | create,delete,deletecollection,get,list,patch,update,watch",
        "resource.k8s.io | resourceclaims,resourceclaimtemplates | create,delete,deletecollection,patch,update",
    ]),
    role("system:aggregate-to-view", &[
        "core | configmaps,endpoints,persistentvolumeclaims,persistentvolumeclaims/status,pods,\
         replicationcontrollers,replicationcontrollers/scale,serviceaccounts,services,services/status | get,list,watch",
        "core | bindings,limitranges,namespaces/status,pods/log,pods/status,replicationcontrollers/status,\
         resourcequotas,resourcequotas/status | get,list,watch",
        "core | namespaces | get,list,watch",
        "core,events.k8s.io | events | get,list,watch",
        "discovery.k8s.io | endpointslices | get,list,watch",
        "apps | controllerrevisions,daemonsets,daemonsets/status,deployments,deployments/scale,deployments/status,\
         replicasets,replicasets/scale,replicasets/status,statefulsets,statefulsets/scale,statefulsets/status \
         | get,list,watch",
        "autoscaling | horizontalpodautoscalers,horizontalpodautoscalers/status | get,list,watch",
        "batch | cronjobs,cronjobs/status,jobs,jobs/status | get,list,watch",
        "extensions | daemonsets,daemonsets/status,deployments,deployments/scale,deployments/status,ingresses,\
         ingresses/status,networkpolicies,replicasets,replicasets/scale,replicasets/status,\
         replicationcontrollers/scale | get,list,watch",
        "policy | poddisruptionbudgets,poddisruptionbudgets/status | get,list,watch",
        "networking.k8s.io | ingresses,ingresses/status,networkpolicies | get,list,watch",
        "resource.k8s.io | resourceclaims,resourceclaims/status,resourceclaimtemplates | get,list,watch",
    ]),
    role("system:auth-delegator", &[
        "authentication.k8s.io | tokenreviews | create",
        "authorization.k8s.io | subjectaccessreviews | create",
    ]),
    role("system:kube-aggregator", &["core | endpoints,services | get,list,watch"]),
    role("system:heapster", &[
        "core | events,namespaces,nodes,pods | get,list,watch",
        "extensions | deployments | get,list,watch",
    ]),
    role("system:kubelet-api-admin", &[
        "core | nodes | get,list,watch",
        "core | nodes | proxy",
        "core | nodes/log,nodes/metrics,nodes/proxy,nodes/stats | *",
        "core | nodes/configz,nodes/healthz,nodes/pods | *",
    ]),
    role("system:node-bootstrapper", &["certificates.k8s.io | certificatesigningrequests | create,get,list,watch"]),
    role("system:node-problem-detector", &["core | nodes | get", "core | nodes/status | patch", EVENTS]),
    role("system:node-proxier", &[
        "core | endpoints,services | list,watch",
        "core | nodes | get,list,watch",
        EVENTS,
        "networking.k8s.io | servicecidrs | list,watch",
        "discovery.k8s.io | endpointslices | list,watch",
    ]),
    role("system:kube-dns", &["core | endpoints,services | list,watch"]),
    role("system:persistent-volume-provisioner", &[
        "core | persistentvolumes | create,delete,get,list,watch",
        "core | persistentvolumeclaims | get,list,update,watch",
        "storage.k8s.io | storageclasses | get,list,watch",
        "core | events | watch",
        EVENTS,
    ]),
    role("system:volume-scheduler", &[
        "core | persistentvolumes | get,list,patch,update,watch",
        "storage.k8s.io | storageclasses | get,list,watch",
        "core | persistentvolumeclaims | get,list,patch,update,watch",
    ]),
    role("system:kube-controller-manager", &[
        EVENTS,
        "coordination.k8s.io | leases | create",
        "coordination.k8s.io | leases | get,update | kube-controller-manager",
        "core | secrets,serviceaccounts | create",
        "core | secrets | delete",
        "core | configmaps,namespaces,secrets,serviceaccounts | get",
        "core | secrets,serviceaccounts | update",
        "authentication.k8s.io | tokenreviews | create",
        "authorization.k8s.io | subjectaccessreviews | create",
        "* | * | list,watch",
        "core | serviceaccounts/token | create",
    ]),
    role("system:kube-scheduler", &[
        EVENTS,
        "coordination.k8s.io | leases | create",
        "coordination.k8s.io | leases | get,list,update,watch | kube-scheduler",
        "coordination.k8s.io | leasecandidates | create,delete,deletecollection,get,list,patch,update,watch",
        "core | nodes | get,list,watch",
        "core | pods | delete,get,list,watch",
        "core | bindings,pods/binding | create",
        "core | pods/status | patch,update",
        "core | replicationcontrollers,services | get,list,watch",
        "apps,extensions | replicasets | get,list,watch",
        "apps | statefulsets | get,list,watch",
        "policy | poddisruptionbudgets | get,list,watch",
        "core | persistentvolumeclaims,persistentvolumes | get,list,watch",
        "authentication.k8s.io | tokenreviews | create",
        "authorization.k8s.io | subjectaccessreviews | create",
        "storage.k8s.io | csinodes | get,list,watch",
        "storage.k8s.io | volumeattachments | get,list,watch",
        "core | namespaces | get,list,watch",
        "storage.k8s.io | csidrivers | get,list,watch",
        "storage.k8s.io | csistoragecapacities | get,list,watch",
        "resource.k8s.io | deviceclasses | get,list,watch",
        "resource.k8s.io | resourceclaims | get,list,patch,update,watch",
        "resource.k8s.io | resourceclaims/status | get,list,patch,update,watch",
        "core | pods/finalizers | update",
        "resource.k8s.io | resourceslices | get,list,watch",
        "resource.k8s.io | resourceclaims | create,delete",
        "resource.k8s.io | resourceclaims/binding | patch,update",
    ]),
    role("system:certificates.k8s.io:certificatesigningrequests:nodeclient", &[
        "certificates.k8s.io | certificatesigningrequests/nodeclient | create",
    ]),
    role("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", &[
        "certificates.k8s.io | certificatesigningrequests/selfnodeclient | create",
    ]),
    role("system:certificates.k8s.io:kube-apiserver-client-approver", &[
        "certificates.k8s.io | signers | approve | kubernetes.io/kube-apiserver-client",
    ]),
    role("system:certificates.k8s.io:kube-apiserver-client-kubelet-approver", &[
        "certificates.k8s.io | signers | approve | kubernetes.io/kube-apiserver-client-kubelet",
    ]),
    role("system:certificates.k8s.io:kubelet-serving-approver", &[
        "certificates.k8s.io | signers | approve | kubernetes.io/kubelet-serving",
    ]),
    role("system:certificates.k8s.io:legacy-unknown-approver", &[
        "certificates.k8s.io | signers | approve | kubernetes.io/legacy-unknown",
    ]),
];

/// Users, groups (`system:authenticated`…) and service accounts that hold a cluster role from the start:
/// (role, users, groups, accounts in kube-system).
pub const CLUSTER_BINDINGS: &[(&str, &[&str], &[&str], &[&str])] = &[
    ("cluster-admin", &[], &["system:masters"], &[]),
    ("system:monitoring", &[], &["system:monitoring"], &[]),
    ("system:discovery", &[], &["system:authenticated"], &[]),
    ("system:basic-user", &[], &["system:authenticated"], &[]),
    ("system:public-info-viewer", &[], &["system:authenticated", "system:unauthenticated"], &[]),
    ("system:node-proxier", &["system:kube-proxy"], &[], &[]),
    ("system:kube-controller-manager", &["system:kube-controller-manager"], &[], &[]),
    ("system:kube-dns", &[], &[], &["kube-dns"]),
    ("system:kube-scheduler", &["system:kube-scheduler"], &[], &[]),
    ("system:volume-scheduler", &["system:kube-scheduler"], &[], &[]),
    // Kept without subjects, as upstream does: nodes have their rights from the Node authorizer.
    ("system:node", &[], &[], &[]),
    ("system:service-account-issuer-discovery", &[], &["system:serviceaccounts"], &[]),
    ("system:cluster-trust-bundle-discovery", &[], &["system:serviceaccounts"], &[]),
];

/// `system:controller:<name>`, bound to the service account `<name>` in kube-system.
#[rustfmt::skip] // A table reads better with a row a line.
pub const CONTROLLERS: &[Role] = &[
    role("attachdetach-controller", &[
        "core | persistentvolumeclaims,persistentvolumes | list,watch",
        "core | nodes | get,list,watch",
        "core | nodes/status | patch,update",
        "core | pods | list,watch",
        EVENTS,
        "storage.k8s.io | volumeattachments | create,delete,get,list,watch",
        "storage.k8s.io | csidrivers | get,list,watch",
        "storage.k8s.io | csinodes | get,list,watch",
    ]),
    role("clusterrole-aggregation-controller", &[
        "rbac.authorization.k8s.io | clusterroles | escalate,get,list,patch,update,watch",
    ]),
    role("cronjob-controller", &[
        "batch | cronjobs | get,list,update,watch",
        "batch | jobs | create,delete,get,list,patch,update,watch",
        "batch | cronjobs/status | update",
        "batch | cronjobs/finalizers | update",
        "core | pods | delete,list,watch",
        EVENTS,
    ]),
    role("daemon-set-controller", &[
        "apps,extensions | daemonsets | get,list,watch",
        "apps,extensions | daemonsets/status | update",
        "apps,extensions | daemonsets/finalizers | update",
        "core | nodes | list,watch",
        "core | pods | create,delete,list,patch,watch",
        "core | pods/binding | create",
        "apps | controllerrevisions | create,delete,get,list,patch,update,watch",
        EVENTS,
    ]),
    role("deployment-controller", &[
        "apps,extensions | deployments | get,list,update,watch",
        "apps,extensions | deployments/status | update",
        "apps,extensions | deployments/finalizers | update",
        "apps,extensions | replicasets | create,delete,get,list,patch,update,watch",
        "core | pods | get,list,update,watch",
        EVENTS,
    ]),
    role("device-taint-eviction-controller", &[
        "core | pods | delete,get,list,watch",
        "core | pods/status | patch,update",
        "resource.k8s.io | resourceclaims | get,list,watch",
        "resource.k8s.io | resourceslices | get,list,watch",
        "resource.k8s.io | deviceclasses | get,list,watch",
        EVENTS,
    ]),
    role("disruption-controller", &[
        "apps,extensions | deployments | get,list,watch",
        "apps,extensions | replicasets | get,list,watch",
        "core | replicationcontrollers | get,list,watch",
        "policy | poddisruptionbudgets | get,list,watch",
        "apps | statefulsets | get,list,watch",
        "policy | poddisruptionbudgets/status | update",
        "core | pods/status | patch,update",
        "* | */scale | get",
        EVENTS,
    ]),
    role("endpoint-controller", &[
        "core | pods,services | get,list,watch",
        "core | endpoints | create,delete,get,list,update,watch",
        "core | endpoints/restricted | create",
        EVENTS,
    ]),
    role("endpointslice-controller", &[
        "core | nodes,pods,services | get,list,watch",
        "core | services/finalizers | update",
        "discovery.k8s.io | endpointslices | create,delete,get,list,update,watch",
        EVENTS,
    ]),
    role("endpointslicemirroring-controller", &[
        "core | endpoints,services | get,list,watch",
        "core | services/finalizers | update",
        "core | endpoints/finalizers | update",
        "discovery.k8s.io | endpointslices | create,delete,get,list,update,watch",
        EVENTS,
    ]),
    role("ephemeral-volume-controller", &[
        "core | pods | get,list,watch",
        "core | pods/finalizers | update",
        "core | persistentvolumeclaims | create,get,list,watch",
        EVENTS,
    ]),
    role("expand-controller", &[
        "core | persistentvolumes | get,list,patch,update,watch",
        "core | persistentvolumeclaims/status | patch,update",
        "core | persistentvolumeclaims | get,list,watch",
        EVENTS,
    ]),
    role("generic-garbage-collector", &["* | * | delete,get,list,patch,update,watch", EVENTS]),
    role("horizontal-pod-autoscaler", &[
        "autoscaling | horizontalpodautoscalers | get,list,watch",
        "autoscaling | horizontalpodautoscalers/status | update",
        "* | */scale | get,update",
        "core | pods | list,watch",
        "metrics.k8s.io | pods | list,watch",
        "custom.metrics.k8s.io | * | get,list,watch",
        "external.metrics.k8s.io | * | get,list,watch",
        EVENTS,
    ]),
    role("job-controller", &[
        "batch | jobs | get,list,patch,update,watch",
        "batch | jobs/status | update",
        "batch | jobs/finalizers | update",
        "core | pods | create,delete,list,patch,watch",
        EVENTS,
    ]),
    role("kube-apiserver-serving-clustertrustbundle-publisher", &[
        "certificates.k8s.io | signers | attest | kubernetes.io/kube-apiserver-serving",
        "certificates.k8s.io | clustertrustbundles | create,delete,list,update,watch",
        EVENTS,
    ]),
    role("legacy-service-account-token-cleaner", &[
        "core | configmaps | get | kube-apiserver-legacy-service-account-token-tracking",
        "core | secrets | delete,patch",
    ]),
    role("namespace-controller", &[
        "core | namespaces | delete,get,list,watch",
        "core | namespaces/finalize,namespaces/status | update",
        "* | * | delete,deletecollection,get,list,watch",
    ]),
    role("node-controller", &[
        "core | nodes | delete,get,list,patch,update,watch",
        "core | nodes/status | patch,update",
        "core | pods/status | patch,update",
        "core | pods | delete,get,list,watch",
        "coordination.k8s.io | leases | get,list,watch",
        EVENTS,
    ]),
    role("persistent-volume-binder", &[
        "core | persistentvolumes | create,delete,get,list,update,watch",
        "core | persistentvolumes/status | update",
        "core | persistentvolumeclaims | get,list,update,watch",
        "core | persistentvolumeclaims/status | update",
        "core | pods | create,delete,get,list,watch",
        "storage.k8s.io | storageclasses | get,list,watch",
        "core | nodes | list,watch",
        EVENTS,
        "core | events | watch",
    ]),
    role("pod-garbage-collector", &[
        "core | pods | delete,list,watch",
        "core | nodes | get,list,watch",
        "core | pods/status | patch",
    ]),
    // Upstream has no signer of this name yet, and so no role for it.
    role("pod-certificate-signer", &[
        "certificates.k8s.io | podcertificaterequests | get,list,watch",
        "certificates.k8s.io | podcertificaterequests/status | update",
        "certificates.k8s.io | signers | sign | kubernetes.io/kube-apiserver-client-pod",
        EVENTS,
    ]),
    role("podcertificaterequestcleaner", &["certificates.k8s.io | podcertificaterequests | delete,get,list,watch"]),
    role("pv-protection-controller", &["core | persistentvolumes | get,list,update,watch", EVENTS]),
    role("pvc-protection-controller", &[
        "core | persistentvolumeclaims | get,list,update,watch",
        "core | persistentvolumeclaims/status | update",
        "core | pods | get,list,watch",
        EVENTS,
    ]),
    role("replicaset-controller", &[
        "apps,extensions | replicasets | get,list,update,watch",
        "apps,extensions | replicasets/status | update",
        "apps,extensions | replicasets/finalizers | update",
        "core | pods | create,delete,list,patch,watch",
        EVENTS,
    ]),
    role("replication-controller", &[
        "core | replicationcontrollers | get,list,update,watch",
        "core | replicationcontrollers/status | update",
        "core | replicationcontrollers/finalizers | update",
        "core | pods | create,delete,list,patch,watch",
        EVENTS,
    ]),
    role("resource-claim-controller", &[
        "core | pods | get,list,watch",
        "core | pods/finalizers | update",
        "resource.k8s.io | resourceclaims | create,delete,get,list,watch",
        "resource.k8s.io | resourceclaims,resourceclaims/status | patch,update",
        "core | pods/status | patch,update",
        EVENTS,
        "resource.k8s.io | resourceclaims/binding | patch,update",
    ]),
    role("resourcequota-controller", &["* | * | list,watch", "core | resourcequotas/status | update", EVENTS]),
    role("root-ca-cert-publisher", &["core | configmaps | create,update", EVENTS]),
    role("route-controller", &["core | nodes | list,watch", "core | nodes/status | patch", EVENTS]),
    role("selinux-warning-controller", &[
        EVENTS,
        "core | persistentvolumes | get,list,watch",
        "core | persistentvolumeclaims | get,list,watch",
        "core | pods | get,list,watch",
        "storage.k8s.io | csidrivers | get,list,watch",
    ]),
    role("service-account-controller", &["core | serviceaccounts | create", EVENTS]),
    role("service-cidrs-controller", &[
        "networking.k8s.io | servicecidrs | get,list,patch,update,watch",
        "networking.k8s.io | servicecidrs/finalizers | patch,update",
        "networking.k8s.io | servicecidrs/status | patch,update",
        "networking.k8s.io | ipaddresses | get,list,watch",
        EVENTS,
    ]),
    role("service-controller", &[
        "core | services | get,list,watch",
        "core | services/status | patch,update",
        "core | nodes | list,watch",
        EVENTS,
    ]),
    role("statefulset-controller", &[
        "core | pods | list,watch",
        "apps | statefulsets | get,list,watch",
        "apps | statefulsets/status | update",
        "apps | statefulsets/finalizers | update",
        "core | pods | create,delete,get,patch,update",
        "apps | controllerrevisions | create,delete,get,list,patch,update,watch",
        "core | persistentvolumeclaims | create,get,list,watch",
        "core | persistentvolumeclaims | delete,update",
        "core | pods/finalizers | update",
        EVENTS,
    ]),
    role("storage-version-migrator-controller", &[
        "* | * | list,patch",
        "apiextensions.k8s.io | customresourcedefinitions | get",
        // Differs from upstream: stored versions are cut with an update, which fails when somebody wrote in between.
        "apiextensions.k8s.io | customresourcedefinitions/status | patch,update",
        "storagemigration.k8s.io | storageversionmigrations/status | update",
    ]),
    role("ttl-after-finished-controller", &["batch | jobs | delete,get,list,watch", EVENTS]),
    role("ttl-controller", &["core | nodes | list,patch,update,watch", EVENTS]),
    role("validatingadmissionpolicy-status-controller", &[
        "admissionregistration.k8s.io | validatingadmissionpolicies | get,list,watch",
        "admissionregistration.k8s.io | validatingadmissionpolicies/status | get,patch,update",
        EVENTS,
    ]),
    role("volumeattributesclass-protection-controller", &[
        "core | persistentvolumeclaims | get,list,watch",
        "core | persistentvolumes | get,list,watch",
        "storage.k8s.io | volumeattributesclasses | get,list,update,watch",
        EVENTS,
    ]),
    role("certificate-controller", &[
        "certificates.k8s.io | certificatesigningrequests | delete,get,list,watch",
        "certificates.k8s.io | certificatesigningrequests/approval,certificatesigningrequests/status | update",
        "certificates.k8s.io | signers | approve | kubernetes.io/kube-apiserver-client-kubelet",
        "certificates.k8s.io | signers | sign | kubernetes.io/kube-apiserver-client,\
         kubernetes.io/kube-apiserver-client-kubelet,kubernetes.io/kubelet-serving,kubernetes.io/legacy-unknown",
        "authorization.k8s.io | subjectaccessreviews | create",
        EVENTS,
    ]),
];

/// (namespace, role)
#[rustfmt::skip] // A table reads better with a row a line.
pub const NAMESPACE_ROLES: &[(&str, Role)] = &[
    ("kube-public", role("system:controller:bootstrap-signer", &[
        "core | configmaps | get,list,watch",
        "core | configmaps | update | cluster-info",
        EVENTS,
    ])),
    ("kube-system", role("extension-apiserver-authentication-reader", &[
        "core | configmaps | get,list,watch | extension-apiserver-authentication",
    ])),
    ("kube-system", role("system::leader-locking-kube-controller-manager", &[
        "coordination.k8s.io | leases | create,get,list,update,watch",
        "coordination.k8s.io | leasecandidates | create,get,list,update,watch",
    ])),
    ("kube-system", role("system::leader-locking-kube-scheduler", &[
        "coordination.k8s.io | leases | create,get,list,update,watch",
        "coordination.k8s.io | leasecandidates | create,get,list,update,watch",
    ])),
    ("kube-system", role("system:controller:bootstrap-signer", &["core | secrets | get,list,watch"])),
    ("kube-system", role("system:controller:cloud-provider", &["core | configmaps | create,get,list,watch"])),
    ("kube-system", role("system:controller:token-cleaner", &["core | secrets | delete,get,list,watch", EVENTS])),
];

/// (namespace, binding, role, users, service accounts in kube-system)
pub const NAMESPACE_BINDINGS: &[(&str, &str, &str, &[&str], &[&str])] = &[
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &[],
        &["bootstrap-signer"],
    ),
    (
        "kube-system",
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        &["system:kube-controller-manager", "system:kube-scheduler"],
        &[],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        &["system:kube-controller-manager"],
        &["kube-controller-manager", "leader-election-controller"],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        &["system:kube-scheduler"],
        &["kube-scheduler"],
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &[],
        &["bootstrap-signer"],
    ),
    ("kube-system", "system:controller:cloud-provider", "system:controller:cloud-provider", &[], &["cloud-provider"]),
    ("kube-system", "system:controller:token-cleaner", "system:controller:token-cleaner", &[], &["token-cleaner"]),
];
