//! Every served resource, a row each.

use crate::strategy::Strategy;
use meta::schema::{Shape, TypeId, Types};
use std::sync::Arc;

/// A served resource in one version. Custom resources are rows too, made at run time.
#[derive(Clone)]
pub struct Resource {
    pub group: String,
    pub version: String,
    /// `deployments`
    pub plural: String,
    /// `deployment`
    pub singular: String,
    pub kind: String,
    /// `DeploymentList`; empty for virtual kinds that can't be listed.
    pub list_kind: String,
    pub namespaced: bool,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    /// Of the main resource: `create`, `delete`, `deletecollection`, `get`, `list`, `patch`, `update`, `watch`.
    pub verbs: Vec<String>,
    pub subresources: Vec<Subresource>,
    pub typed: Typed,
    pub strategy: Arc<dyn Strategy>,
    /// Where objects are stored: (group, version) of the row that owns the storage; a row of another version or
    /// group (`events.k8s.io` Events, `autoscaling/v1`) converts to and from it.
    pub storage: (String, String),
    /// What a CustomResourceDefinition says of all its versions; `None` for built-in kinds.
    pub custom: Option<Arc<crate::custom::Definition>>,
}

/// How objects are built.
#[derive(Clone)]
pub enum Typed {
    /// By a type of an arena.
    As(Arc<Types>, TypeId),
    /// By a definition's schema, which becomes types when they are asked for.
    Custom(Arc<crate::custom::Version>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Subresource {
    /// `status`
    pub name: String,
    /// Of the object that is sent and answered, for `status` the parent's.
    pub group: String,
    pub version: String,
    pub kind: String,
    /// `get`, `patch`, `update`, `create`; for connect-style ones (exec, proxy) the HTTP verbs as upstream's discovery lists them.
    pub verbs: Vec<String>,
    pub connect: bool,
}

impl Resource {
    /// A field that Go always writes: a struct that is no pointer. JSON patches count on it.
    pub fn always_has(&self, field: &str) -> bool {
        let Typed::As(types, id) = &self.typed else { return false };
        match types.shape(*id) {
            Shape::Struct(s) => s
                .field(field)
                .is_some_and(|f| !f.pointer && f.proto > 0 && matches!(types.shape(f.ty), Shape::Struct(_))),
            _ => false,
        }
    }

    /// The arena that has the type of the row's objects, and which it is.
    pub fn types(&self) -> (Arc<Types>, TypeId) {
        match &self.typed {
            Typed::As(types, id) => (types.clone(), *id),
            Typed::Custom(version) => version.types(),
        }
    }

    /// Whether its type is one of the built-in ones.
    pub fn is_builtin(&self) -> bool {
        matches!(&self.typed, Typed::As(types, _) if Arc::ptr_eq(types, crate::facts::types()))
    }

    /// `apps/v1` or `v1`
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.plural, self.api_version())
    }
}

/// Singular, short names and categories that `kubectl` accepts. Rows that aren't here have none.
const NAMES: &[(&str, &str, &[&str], &[&str])] = &[
    ("", "componentstatuses", &["cs"], &[]),
    ("", "configmaps", &["cm"], &[]),
    ("", "endpoints", &["ep"], &[]),
    ("", "events", &["ev"], &[]),
    ("", "limitranges", &["limits"], &[]),
    ("", "namespaces", &["ns"], &[]),
    ("", "nodes", &["no"], &[]),
    ("", "persistentvolumeclaims", &["pvc"], &[]),
    ("", "persistentvolumes", &["pv"], &[]),
    ("", "pods", &["po"], &["all"]),
    ("", "replicationcontrollers", &["rc"], &["all"]),
    ("", "resourcequotas", &["quota"], &[]),
    ("", "serviceaccounts", &["sa"], &[]),
    ("", "services", &["svc"], &["all"]),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies", &[], &["api-extensions"]),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings", &[], &["api-extensions"]),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", &[], &["api-extensions"]),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies", &[], &["api-extensions"]),
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings", &[], &["api-extensions"]),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations", &[], &["api-extensions"]),
    ("apiextensions.k8s.io", "customresourcedefinitions", &["crd", "crds"], &["api-extensions"]),
    ("apiregistration.k8s.io", "apiservices", &[], &["api-extensions"]),
    ("apps", "daemonsets", &["ds"], &["all"]),
    ("apps", "deployments", &["deploy"], &["all"]),
    ("apps", "replicasets", &["rs"], &["all"]),
    ("apps", "statefulsets", &["sts"], &["all"]),
    ("autoscaling", "horizontalpodautoscalers", &["hpa"], &["all"]),
    ("batch", "cronjobs", &["cj"], &["all"]),
    ("batch", "jobs", &[], &["all"]),
    ("certificates.k8s.io", "certificatesigningrequests", &["csr"], &[]),
    ("events.k8s.io", "events", &["ev"], &[]),
    ("networking.k8s.io", "ingresses", &["ing"], &[]),
    ("networking.k8s.io", "ipaddresses", &["ip"], &[]),
    ("networking.k8s.io", "networkpolicies", &["netpol"], &[]),
    ("policy", "poddisruptionbudgets", &["pdb"], &[]),
    ("scheduling.k8s.io", "priorityclasses", &["pc"], &[]),
    ("storage.k8s.io", "storageclasses", &["sc"], &[]),
    ("storage.k8s.io", "volumeattributesclasses", &["vac"], &[]),
];

/// Rows that are stored as another version or group of themselves: group, version, plural, storage.
const STORED_ELSEWHERE: &[(&str, &str, &str, (&str, &str))] = &[
    ("autoscaling", "v1", "horizontalpodautoscalers", ("autoscaling", "v2")),
    // The beta can say more: what was asked for without a PKCS #10 request.
    ("certificates.k8s.io", "v1", "clustertrustbundles", ("certificates.k8s.io", "v1beta1")),
    ("certificates.k8s.io", "v1", "podcertificaterequests", ("certificates.k8s.io", "v1beta1")),
    ("storagemigration.k8s.io", "v1", "storageversionmigrations", ("storagemigration.k8s.io", "v1beta1")),
    ("events.k8s.io", "v1", "events", ("", "v1")),
];

/// The object that a connecting subresource takes its options from, which is what discovery shows.
const CONNECT_KINDS: &[(&str, &str, &str)] = &[
    ("pods", "attach", "PodAttachOptions"),
    ("pods", "exec", "PodExecOptions"),
    ("pods", "portforward", "PodPortForwardOptions"),
    ("pods", "proxy", "PodProxyOptions"),
    ("services", "proxy", "ServiceProxyOptions"),
    ("nodes", "proxy", "NodeProxyOptions"),
];

/// Every built-in resource in every GA version, and a few betas (`tools/facts.py` lists them), sorted by group, version and plural.
pub fn builtin() -> Vec<Arc<Resource>> {
    static ROWS: std::sync::LazyLock<Vec<Arc<Resource>>> =
        std::sync::LazyLock::new(|| crate::facts::facts().resources.iter().map(|f| Arc::new(row(f))).collect());
    ROWS.clone()
}

/// The row that serves a path.
pub fn find<'a>(rows: &'a [Arc<Resource>], group: &str, version: &str, plural: &str) -> Option<&'a Arc<Resource>> {
    rows.iter().find(|r| r.plural == plural && r.version == version && r.group == group)
}

/// The row of a kind.
pub fn by_kind<'a>(rows: &'a [Arc<Resource>], group: &str, version: &str, kind: &str) -> Option<&'a Arc<Resource>> {
    rows.iter().find(|r| r.kind == kind && r.version == version && r.group == group)
}

fn row(fact: &crate::facts::ResourceFact) -> Resource {
    let facts = crate::facts::facts();
    let names = NAMES.iter().find(|n| n.0 == fact.group && n.1 == fact.plural);
    let strings = |l: &[&str]| l.iter().map(|s| s.to_string()).collect::<Vec<_>>();
    let list_kind = format!("{}List", fact.kind);
    let storage = STORED_ELSEWHERE
        .iter()
        .find(|s| s.0 == fact.group && s.1 == fact.version && s.2 == fact.plural)
        .map_or((fact.group.clone(), fact.version.clone()), |s| (s.3.0.to_string(), s.3.1.to_string()));
    Resource {
        group: fact.group.clone(),
        version: fact.version.clone(),
        plural: fact.plural.clone(),
        singular: fact.kind.to_lowercase(),
        list_kind: match facts.kind(&fact.group, &fact.version, &list_kind) {
            Some(_) => list_kind,
            None => String::new(),
        },
        kind: fact.kind.clone(),
        namespaced: fact.namespaced,
        short_names: names.map(|n| strings(n.2)).unwrap_or_default(),
        categories: names.map(|n| strings(n.3)).unwrap_or_default(),
        verbs: fact.verbs.clone(),
        subresources: fact.subresources.iter().map(|s| subresource(&fact.plural, s)).collect(),
        typed: Typed::As(facts.types.clone(), fact.type_id),
        strategy: crate::kinds::strategy(&fact.group, &fact.kind),
        storage,
        custom: None,
    }
}

fn subresource(plural: &str, fact: &crate::facts::SubresourceFact) -> Subresource {
    let connect = fact.verbs.iter().any(|v| v.starts_with("connect:"));
    let mut verbs: Vec<String> = fact
        .verbs
        .iter()
        .filter_map(|v| match v.strip_prefix("connect:") {
            None => Some(v.clone()),
            Some("post") => Some("create".to_string()),
            Some("put") => Some("update".to_string()),
            Some(v @ ("get" | "delete" | "patch")) => Some(v.to_string()),
            Some(_) => None,
        })
        .collect();
    verbs.sort();
    verbs.dedup();
    let kind = CONNECT_KINDS.iter().find(|c| c.0 == plural && c.1 == fact.name).map_or(fact.kind.as_str(), |c| c.2);
    Subresource {
        name: fact.name.clone(),
        group: fact.group.clone(),
        version: fact.version.clone(),
        kind: kind.to_string(),
        verbs,
        connect,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_fields_are_always_written() {
        let rows = builtin();
        let of = |g: &str, p: &str| find(&rows, g, "v1", p).unwrap();
        assert!(of("apps", "deployments").always_has("status"));
        assert!(of("", "pods").always_has("status"));
        assert!(!of("", "configmaps").always_has("status"), "it has none");
        assert!(!of("", "configmaps").always_has("data"), "a map is left out when empty");
    }

    #[test]
    fn deprecated_kinds_say_what_to_use() {
        let rows = builtin();
        let told = find(&rows, "", "v1", "endpoints").unwrap().strategy.deprecation().unwrap();
        assert!(told.contains("use discovery.k8s.io/v1 EndpointSlice"), "{told}");
        assert_eq!(find(&rows, "discovery.k8s.io", "v1", "endpointslices").unwrap().strategy.deprecation(), None);
    }

    #[test]
    fn rows_hold_what_kubectl_needs() {
        let rows = builtin();
        let d = find(&rows, "apps", "v1", "deployments").unwrap();
        assert_eq!((d.singular.as_str(), d.list_kind.as_str()), ("deployment", "DeploymentList"));
        assert_eq!((&d.short_names, &d.categories), (&vec!["deploy".to_string()], &vec!["all".to_string()]));
        assert!(d.namespaced && d.has_verb("deletecollection") && d.has_status());
        assert_eq!(d.subresource("scale").map(|s| (s.group.as_str(), s.kind.as_str())), Some(("autoscaling", "Scale")));
        let exec = find(&rows, "", "v1", "pods").unwrap().subresource("exec").unwrap().clone();
        assert_eq!(
            (exec.kind.as_str(), exec.connect, exec.verbs),
            ("PodExecOptions", true, vec!["create".into(), "get".into()])
        );
        assert!(by_kind(&rows, "", "v1", "Binding").unwrap().list_kind.is_empty());
        let betas: Vec<&str> = rows.iter().filter(|r| r.version.contains('b')).map(|r| r.plural.as_str()).collect();
        assert_eq!(betas, ["clustertrustbundles", "podcertificaterequests", "storageversionmigrations"]);
        assert!(rows.iter().all(|r| !r.version.contains("alpha")));
    }

    /// What upstream's registries say (`ShortNames`, `Categories`, who implements which verb): rows without either and
    /// with all eight verbs are left out.
    #[test]
    fn names_and_verbs_are_upstreams() {
        let mut out = String::new();
        for r in builtin() {
            let verbs = match r.verbs.len() {
                8 => "all",
                _ => &r.verbs.join(","),
            };
            if verbs != "all" || !r.short_names.is_empty() || !r.categories.is_empty() {
                let (short, categories) = (r.short_names.join(","), r.categories.join(","));
                out.push_str(&format!("{} {} [{short}] [{categories}] {verbs}\n", r.api_version(), r.plural));
            }
        }
        expect_test::expect![[r#"
            v1 bindings [] [] create
            v1 componentstatuses [cs] [] get,list
            v1 configmaps [cm] [] all
            v1 endpoints [ep] [] all
            v1 events [ev] [] all
            v1 limitranges [limits] [] all
            v1 namespaces [ns] [] create,delete,get,list,patch,update,watch
            v1 nodes [no] [] all
            v1 persistentvolumeclaims [pvc] [] all
            v1 persistentvolumes [pv] [] all
            v1 pods [po] [all] all
            v1 replicationcontrollers [rc] [all] all
            v1 resourcequotas [quota] [] all
            v1 serviceaccounts [sa] [] all
            v1 services [svc] [all] all
            admissionregistration.k8s.io/v1 mutatingadmissionpolicies [] [api-extensions] all
            admissionregistration.k8s.io/v1 mutatingadmissionpolicybindings [] [api-extensions] all
            admissionregistration.k8s.io/v1 mutatingwebhookconfigurations [] [api-extensions] all
            admissionregistration.k8s.io/v1 validatingadmissionpolicies [] [api-extensions] all
            admissionregistration.k8s.io/v1 validatingadmissionpolicybindings [] [api-extensions] all
            admissionregistration.k8s.io/v1 validatingwebhookconfigurations [] [api-extensions] all
            apiextensions.k8s.io/v1 customresourcedefinitions [crd,crds] [api-extensions] all
            apiregistration.k8s.io/v1 apiservices [] [api-extensions] all
            apps/v1 daemonsets [ds] [all] all
            apps/v1 deployments [deploy] [all] all
            apps/v1 replicasets [rs] [all] all
            apps/v1 statefulsets [sts] [all] all
            authentication.k8s.io/v1 selfsubjectreviews [] [] create
            authentication.k8s.io/v1 tokenreviews [] [] create
            authorization.k8s.io/v1 localsubjectaccessreviews [] [] create
            authorization.k8s.io/v1 selfsubjectaccessreviews [] [] create
            authorization.k8s.io/v1 selfsubjectrulesreviews [] [] create
            authorization.k8s.io/v1 subjectaccessreviews [] [] create
            autoscaling/v1 horizontalpodautoscalers [hpa] [all] all
            autoscaling/v2 horizontalpodautoscalers [hpa] [all] all
            batch/v1 cronjobs [cj] [all] all
            batch/v1 jobs [] [all] all
            certificates.k8s.io/v1 certificatesigningrequests [csr] [] all
            events.k8s.io/v1 events [ev] [] all
            networking.k8s.io/v1 ingresses [ing] [] all
            networking.k8s.io/v1 ipaddresses [ip] [] all
            networking.k8s.io/v1 networkpolicies [netpol] [] all
            policy/v1 poddisruptionbudgets [pdb] [] all
            scheduling.k8s.io/v1 priorityclasses [pc] [] all
            storage.k8s.io/v1 storageclasses [sc] [] all
            storage.k8s.io/v1 volumeattributesclasses [vac] [] all
        "#]]
        .assert_eq(&out);
    }

    #[test]
    fn every_named_row_exists_and_every_storage_row_too() {
        let rows = builtin();
        for (group, plural, ..) in NAMES {
            assert!(rows.iter().any(|r| r.group == *group && r.plural == *plural), "{plural}.{group}");
        }
        for r in &rows {
            assert!(find(&rows, &r.storage.0, &r.storage.1, &r.plural).is_some(), "{r:?}");
        }
    }
}
