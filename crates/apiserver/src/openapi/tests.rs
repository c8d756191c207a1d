use super::*;
use api::catalogue::{Typed, builtin};
use api::strategy::Strategy;
use meta::schema::{Field, Shape, Struct, Type, Types};

/// A custom resource whose strategy keeps its schema.
struct Custom(Option<Arc<Value>>);

impl Strategy for Custom {
    fn openapi_schema(&self) -> Option<Arc<Value>> {
        self.0.clone()
    }
}

fn custom(schema: Option<Value>) -> Arc<Resource> {
    let mut types = Types::default();
    let text = types.push(Type { name: String::new(), shape: Shape::String });
    let field = Field {
        name: "bar".into(),
        ty: text,
        required: true,
        pointer: false,
        omitempty: false,
        proto: 0,
        retain_keys: false,
        patch_replaces: false,
    };
    let root = types.push(Type {
        name: String::new(),
        shape: Shape::Struct(Struct {
            by_name: [("bar".to_string(), 0)].into_iter().collect(),
            fields: vec![field],
            ..Default::default()
        }),
    });
    let pods = api::catalogue::find(&builtin(), "", "v1", "pods").unwrap().clone();
    Arc::new(Resource {
        group: "stable.example.com".into(),
        version: "v1".into(),
        plural: "foos".into(),
        singular: "foo".into(),
        kind: "Foo".into(),
        list_kind: "FooList".into(),
        typed: Typed::As(Arc::new(types), root),
        strategy: Arc::new(Custom(schema.map(Arc::new))),
        storage: ("stable.example.com".into(), "v1".into()),
        subresources: Vec::new(),
        short_names: Vec::new(),
        categories: Vec::new(),
        ..(*pods).clone()
    })
}

/// Every `$ref` of a document.
fn references(v: &Value, out: &mut Vec<String>) {
    match v {
        Value::Object(o) => {
            if let Some(Value::String(r)) = o.get("$ref") {
                out.push(r.clone());
            }
            o.values().for_each(|v| references(v, out));
        }
        Value::Array(a) => a.iter().for_each(|v| references(v, out)),
        _ => {}
    }
}

pub fn check_closed(document: &Value) {
    let mut refs = Vec::new();
    references(document, &mut refs);
    // Those about tokens' keys answer with text.
    assert!(refs.len() > 3 || document["paths"].as_object().is_some_and(|p| p.len() == 1));
    for r in refs {
        let target = document.pointer(r.trim_start_matches('#'));
        assert!(target.is_some_and(Value::is_object), "{r}");
    }
}

pub fn v2_json(rows: &[Arc<Resource>]) -> Value {
    serde_json::from_slice(&build_v2(rows, &[], Form::Json).body).unwrap()
}

fn v3_json(rows: &[Arc<Resource>], path: &str) -> Value {
    serde_json::from_slice(&v3(&Cache::default(), rows, path, "").unwrap().body).unwrap()
}

#[test]
fn every_document_is_closed_under_references() {
    let mut rows = builtin();
    rows.push(custom(None));
    check_closed(&v2_json(&rows));
    for path in documents(&rows).keys() {
        check_closed(&v3_json(&rows, path));
    }
}

#[test]
fn kubectl_finds_what_it_applies_by() {
    let doc = v3_json(&builtin(), "apis/apps/v1");
    let patch = &doc["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    for p in ["dryRun", "fieldValidation", "fieldManager", "force"] {
        assert!(patch["parameters"].as_array().unwrap().iter().any(|q| q["name"] == p), "{p}");
    }
    let schemas = &doc["components"]["schemas"];
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(
        (&containers["x-kubernetes-patch-merge-key"], &containers["x-kubernetes-patch-strategy"]),
        (&json!("name"), &json!("merge"))
    );
    assert_eq!(
        schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["volumes"]["x-kubernetes-patch-strategy"],
        "merge,retainKeys"
    );
    let strategy = &schemas["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["strategy"];
    assert_eq!(
        (&strategy["allOf"], &strategy["x-kubernetes-patch-strategy"]),
        (&json!([{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentStrategy"}]), &json!("retainKeys"))
    );
    assert!(strategy["description"].as_str().is_some_and(|d| d.contains("replace existing pods")), "{strategy}");
    assert_eq!(
        schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "version": "v1", "kind": "Deployment"}])
    );
    assert!(doc["paths"]["/apis/apps/v1/deployments"]["get"]["x-kubernetes-action"] == "list");
}

#[test]
fn what_extension_servers_serve_stands_beside_what_is_ours() {
    let status = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
    let theirs = json!({
        "paths": {"/apis/x.test/v1/foos": {"get": {"operationId": "listFoos"}}},
        "definitions": {"test.x.Foo": {"type": "object"}, status: {"description": "theirs"}},
    });
    let part = ("etag".to_string(), vec![Arc::new(theirs)]);
    let json = v2(&Cache::default(), &builtin(), "application/json", &part).unwrap();
    let document: Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(document["paths"]["/apis/x.test/v1/foos"], part.1[0]["paths"]["/apis/x.test/v1/foos"]);
    assert_eq!(document["definitions"]["test.x.Foo"], json!({"type": "object"}));
    assert_ne!(document["definitions"][status]["description"], "theirs");
    let protobuf = v2(&Cache::default(), &builtin(), V2_PROTOBUF, &part).unwrap().body;
    let has = |text: &str| protobuf.windows(text.len()).any(|w| w == text.as_bytes());
    assert!(has("listFoos") && has("test.x.Foo") && !has("theirs"));
}

#[test]
fn operation_ids_are_unique() {
    let mut rows = builtin();
    // Groups that begin alike are told apart.
    rows.push(custom(None));
    rows.push(Arc::new(Resource { group: "stable.example.org".into(), ..(*custom(None)).clone() }));
    let doc = v2_json(&rows);
    let mut ids: Vec<&str> = doc["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|p| p.as_object().unwrap().values())
        .filter_map(|o| o.get("operationId")?.as_str())
        .collect();
    // As upstream's clients call them.
    for id in [
        "createAppsV1NamespacedDeployment",
        "listCoreV1PodForAllNamespaces",
        "createRbacAuthorizationV1ClusterRole",
        "readFlowcontrolApiserverV1FlowSchema",
        "createStableExampleComV1NamespacedFoo",
        "getCoreAPIVersions",
        "getAPIVersions",
        "getCodeVersion",
        "getRbacAuthorizationAPIGroup",
        "getAppsV1APIResources",
        "getCoreV1APIResources",
        "deleteCoreV1CollectionNamespacedConfigMap",
        "deleteStableExampleComV1CollectionNamespacedFoo",
        "connectCoreV1GetNamespacedPodExec",
        "connectCoreV1PatchNodeProxyWithPath",
        "watchCoreV1NamespacedPod",
        "watchCoreV1NamespacedPodList",
        "watchCoreV1PodListForAllNamespaces",
        "watchCoreV1NodeList",
    ] {
        assert!(ids.contains(&id), "{id}");
    }
    assert!(doc["paths"]["/apis/stable.example.com/v1/"].is_null());
    let of_group = &v3_json(&rows, "apis/apps/v1")["paths"];
    assert_eq!(of_group["/apis/apps/v1/"]["get"]["operationId"], "getAppsV1APIResources");
    assert!(of_group["/apis/"].is_null());
    for (path, id) in [
        ("api", "getCoreAPIVersions"),
        ("apis", "getAPIVersions"),
        ("apis/apps", "getAppsAPIGroup"),
        ("version", "getCodeVersion"),
        ("openid/v1/jwks", "getServiceAccountIssuerOpenIDKeyset"),
        (".well-known/openid-configuration", "getServiceAccountIssuerOpenIDConfiguration"),
    ] {
        let document = v3_json(&rows, path);
        check_closed(&document);
        assert_eq!(document["paths"].as_object().unwrap().len(), 1, "{path}");
        assert_eq!(document["paths"][&format!("/{path}/")]["get"]["operationId"], id);
        assert_eq!(doc["paths"][&format!("/{path}/")]["get"]["operationId"], id);
    }
    assert!(v3(&Cache::default(), &rows, "apis/stable.example.com", "").is_none());
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    assert_eq!(doc["paths"][path]["post"]["tags"], json!(["rbacAuthorization_v1"]));
    let parameters = |path: &str| -> Vec<(String, String)> {
        let all = doc["paths"][path]["get"]["parameters"].as_array().unwrap();
        all.iter().map(|p| (p["name"].as_str().unwrap().into(), p["type"].as_str().unwrap().into())).collect()
    };
    let pod = "/api/v1/namespaces/{namespace}/pods/{name}";
    assert_eq!(doc["paths"][&format!("{pod}/status")]["put"]["description"], "replace status of the specified Pod");
    let exec = [("command", "string"), ("container", "string"), ("stderr", "boolean"), ("stdin", "boolean")];
    assert_eq!(parameters(&format!("{pod}/exec"))[..4], exec.map(|(n, t)| (n.to_string(), t.to_string())));
    assert!(parameters(&format!("{pod}/log")).contains(&("tailLines".into(), "integer".into())));
    ids.sort_unstable();
    let twice: Vec<_> = ids.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0]).collect();
    assert_eq!(twice, Vec::<&str>::new());
}

#[test]
fn what_tells_of_the_rest_has_documents_of_its_own() {
    let mut rows = builtin();
    rows.push(custom(None));
    for (document, id, answer) in [
        ("api", "getCoreAPIVersions", "APIVersions"),
        ("apis", "getAPIVersions", "APIGroupList"),
        ("apis/apps", "getAppsAPIGroup", "APIGroup"),
        ("apis/apps/v1", "getAppsV1APIResources", "APIResourceList"),
        ("version", "getCodeVersion", "Info"),
        (".well-known/openid-configuration", "getServiceAccountIssuerOpenIDConfiguration", ""),
        ("openid/v1/jwks", "getServiceAccountIssuerOpenIDKeyset", ""),
    ] {
        let all = v3_json(&rows, document);
        let get = &all["paths"][format!("/{document}/")]["get"];
        assert_eq!(get["operationId"], id, "{document}");
        let content = get["responses"]["200"]["content"].as_object().unwrap();
        let schema = &content.values().next().unwrap()["schema"];
        match schema["$ref"].as_str() {
            Some(r) => {
                assert!(r.ends_with(answer) && all.pointer(r.trim_start_matches('#')).is_some(), "{document}: {r}")
            }
            None => assert_eq!((answer, &schema["type"]), ("", &json!("string"))),
        }
        let own = document == "apis/apps/v1";
        assert_eq!(all["paths"].as_object().unwrap().len() > 1, own, "{document}");
    }
    let index: Value = serde_json::from_slice(&v3_index(&Cache::default(), &rows).body).unwrap();
    let listed = |path: &str| index["paths"].get(path).is_some();
    assert!(listed("version") && listed("apis/apps") && listed("apis/stable.example.com/v1"));
    assert!(!listed("apis/stable.example.com"), "upstream has none of these");
}

#[test]
fn parameters_and_lists_say_what_they_are_for() {
    let mut rows = builtin();
    rows.push(custom(None));
    let mut silent = std::collections::BTreeSet::new();
    let said = |v: &Value| v["description"].as_str().is_some_and(|d| d.len() > 10);
    let document = v2_json(&rows);
    for item in document["paths"].as_object().unwrap().values() {
        let shared = item["parameters"].as_array().into_iter().flatten();
        let own = item.as_object().unwrap().values().filter_map(|op| op["parameters"].as_array()).flatten();
        for p in shared.chain(own).filter(|p| p["in"] != "body" && !said(p)) {
            silent.insert(p["name"].to_string());
        }
    }
    let lists = document["definitions"].as_object().unwrap().iter().filter(|(name, _)| name.ends_with("List"));
    for (name, list) in lists {
        let fields = list["properties"].as_object().unwrap();
        silent.extend(fields.iter().filter(|f| !said(f.1)).map(|f| format!("{name}.{}", f.0)));
        if !said(list) {
            silent.insert(name.clone());
        }
    }
    assert_eq!(silent.into_iter().collect::<Vec<_>>(), Vec::<String>::new());
    let delete = &document["paths"]["/api/v1/nodes/{name}"]["delete"]["parameters"];
    let dry_run = delete.as_array().unwrap().iter().find(|p| p["name"] == "dryRun").unwrap();
    let field = &document["definitions"]["io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"]["properties"]["dryRun"];
    assert_eq!(dry_run["description"], field["description"]);
}

#[test]
fn custom_resources_are_published_with_their_descriptions() {
    let schema = json!({"type": "object", "description": "Foo CRD for Testing", "properties": {
        "spec": {"type": "object", "description": "Specification of Foo", "nullable": true, "properties": {"a": {"type": "string"}}},
        "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}}});
    let rows = vec![custom(Some(schema))];
    let doc = v3_json(&rows, "apis/stable.example.com/v1");
    let foo = &doc["components"]["schemas"]["com.example.stable.v1.Foo"];
    assert_eq!(foo["description"], "Foo CRD for Testing");
    assert_eq!(foo["properties"]["spec"]["properties"]["a"]["type"], "string");
    assert!(foo["properties"]["metadata"]["allOf"][0]["$ref"].is_string());
    let doc = v2_json(&rows);
    let foo = &doc["definitions"]["com.example.stable.v1.Foo"];
    assert_eq!(foo["properties"]["spec"], json!({"description": "Specification of Foo"}));
    assert_eq!(foo["properties"]["port"], json!({"x-kubernetes-int-or-string": true}));
    assert!(doc["definitions"]["com.example.stable.v1.FooList"]["properties"]["items"].is_object());
}

#[test]
fn the_cache_follows_the_rows_and_hashes_follow_the_documents() {
    let cache = Cache::default();
    let mut rows = builtin();
    let first: Value = serde_json::from_slice(&v3_index(&cache, &rows).body).unwrap();
    rows.push(custom(None));
    let second: Value = serde_json::from_slice(&v3_index(&cache, &rows).body).unwrap();
    let url = |v: &Value, path: &str| v["paths"][path]["serverRelativeURL"].as_str().map(String::from);
    assert_eq!(url(&first, "apis/apps/v1"), url(&second, "apis/apps/v1"));
    let before = url(&second, "apis/stable.example.com/v1").unwrap();
    assert!(before.ends_with(&v3(&cache, &rows, "apis/stable.example.com/v1", "").unwrap().etag));
    rows.pop();
    rows.push(custom(Some(json!({"type": "object", "description": "new"}))));
    let third: Value = serde_json::from_slice(&v3_index(&cache, &rows).body).unwrap();
    assert_ne!(before, url(&third, "apis/stable.example.com/v1").unwrap());
    assert!(v3(&cache, &rows, "apis/nope/v1", "").is_none());
}

/// Finds the first occurrence of each field on the way down.
fn walk<'a>(mut bytes: &'a [u8], path: &[u32]) -> Option<&'a [u8]> {
    fn varint(b: &mut &[u8]) -> Option<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = b.split_first()?;
            *b = rest;
            n |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Some(n);
            }
        }
        None
    }
    let Some((wanted, rest)) = path.split_first() else {
        return Some(bytes);
    };
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let content = match key & 7 {
            0 => {
                varint(&mut bytes)?;
                continue;
            }
            1 => {
                bytes = bytes.get(8..)?;
                continue;
            }
            _ => {
                let len = varint(&mut bytes)? as usize;
                let (head, tail) = bytes.split_at_checked(len)?;
                bytes = tail;
                head
            }
        };
        if key >> 3 == u64::from(*wanted)
            && let Some(found) = walk(content, rest)
        {
            return Some(found);
        }
    }
    None
}

#[test]
fn kubectl_reads_v2_as_protobuf() {
    let rows = builtin();
    let document =
        v2(&Cache::default(), &rows, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf", &Default::default())
            .unwrap();
    assert_eq!(document.content_type, V2_PROTOBUF);
    let body = &document.body;
    let text = |path: &[u32]| walk(body, path).map(|b| String::from_utf8_lossy(b).into_owned());
    assert_eq!(text(&[1]).as_deref(), Some("2.0"));
    assert_eq!(text(&[2, 1]).as_deref(), Some("Kubernetes"));
    // What the first patch says of itself.
    assert_eq!(text(&[8, 2, 2, 8, 13, 1]).as_deref(), Some("x-kubernetes-action"));
    assert_eq!(text(&[8, 2, 2, 8, 13, 2, 2]).as_deref(), Some("\"patch\"\n"));
    // A query parameter of a patch, behind its body.
    assert_eq!(text(&[8, 2, 2, 8, 8, 1, 2, 3, 4]).as_deref(), Some("dryRun"));
    // The name of the first definition, and its type.
    assert!(text(&[9, 1, 1]).unwrap().starts_with("io.k8s.api."));
    assert_eq!(text(&[9, 1, 2, 22, 1]).as_deref(), Some("object"));
    let json = v2(&Cache::default(), &rows, "application/json", &Default::default()).unwrap();
    assert_eq!(json.content_type, JSON);
    assert!(body.len() > 100_000 && json.body.len() > body.len());
}

#[test]
fn types_and_fields_say_what_they_are_for() {
    let v2 = v2_json(&builtin());
    let v3 = v3_json(&builtin(), "api/v1");
    for (schemas, flavor) in [(&v2["definitions"], "v2"), (&v3["components"]["schemas"], "v3")] {
        for (ty, field, has) in [
            ("api.core.v1.Pod", "", "collection of containers"),
            ("api.core.v1.PodSpec", "containers", "List of containers"),
            ("api.core.v1.PodSpec", "securityContext", "SecurityContext holds pod-level"),
            ("apimachinery.pkg.apis.meta.v1.ObjectMeta", "labels", "Map of string keys"),
        ] {
            let mut at = &schemas[format!("io.k8s.{ty}")];
            if !field.is_empty() {
                at = &at["properties"][field];
            }
            assert!(at["description"].as_str().is_some_and(|d| d.contains(has)), "{flavor} {ty}.{field}: {at}");
        }
    }
}

#[test]
fn idle_documents_are_forgotten_and_their_hashes_kept() {
    let cache = Cache::default();
    let rows = vec![custom(None)];
    let path = "apis/stable.example.com/v1";
    let first = v3(&cache, &rows, path, "").unwrap();
    assert!(cache.forget(Duration::from_secs(60)), "just used");
    assert!(!cache.forget(Duration::ZERO));
    let never = || -> Document { panic!("the hash is known") };
    assert_eq!(cache.etag(path, &rows, never), first.etag);
    let again = v3(&cache, &rows, path, "").unwrap();
    assert_eq!((again.etag, again.body), (first.etag, first.body));
}

#[test]
fn what_went_leaves_the_cache() {
    let paths = |c: &Cache| c.0.lock().by_path.keys().cloned().collect::<std::collections::BTreeSet<_>>();
    let cache = Cache::default();
    let always = builtin();
    let part = |n: u32| (format!("etag of part {n}"), vec![Arc::new(json!({"paths": {}, "definitions": {}}))]);
    v2(&cache, &always, "", &part(0)).unwrap();
    for n in 0..20 {
        // A definition comes, is read about, and goes; so do parts that extension servers serve.
        let mut rows = always.clone();
        rows.push(custom(Some(json!({"type": "object", "description": n.to_string()}))));
        v3(&cache, &rows, "apis/stable.example.com/v1", "").unwrap();
        v3_index(&cache, &rows);
        v2(&cache, &always, "", &part(n)).unwrap();
        assert_eq!(paths(&cache).into_iter().collect::<Vec<_>>(), ["apis/stable.example.com/v1", "v2", "v3"], "{n}");
    }
    cache.forget(Duration::from_secs(60));
    assert_eq!(paths(&cache).into_iter().collect::<Vec<_>>(), ["v2"], "its rows are all there");
    // What was asked for last counts, not what was there first.
    let same = |n, m| {
        let built = std::cell::Cell::new(false);
        v2(&cache, &always, "", &part(n)).unwrap();
        cache.get("v2", &always, &part(m).0, || {
            built.set(true);
            Document::new(JSON, Vec::new())
        });
        !built.get()
    };
    assert!(same(19, 19));
    assert!(!same(19, 18));
}

#[test]
fn fields_name_the_values_that_they_may_have() {
    let rows = builtin();
    let v3 = v3_json(&rows, "api/v1");
    for all in [&v2_json(&rows)["definitions"], &v3["components"]["schemas"]] {
        let field = |ty: &str, field: &str| all[&format!("io.k8s.api.core.v1.{ty}")]["properties"][field].clone();
        assert_eq!(field("Container", "imagePullPolicy")["enum"], json!(["Always", "IfNotPresent", "Never"]));
        assert_eq!(field("EphemeralContainer", "imagePullPolicy")["type"], "string");
        assert_eq!(field("EphemeralContainer", "imagePullPolicy")["enum"].as_array().unwrap().len(), 3);
        assert_eq!(field("ServiceSpec", "ipFamilies")["items"]["enum"], json!(["", "IPv4", "IPv6"]));
        assert!(field("ServiceSpec", "ipFamilies")["enum"].is_null());
        let statuses = &field("PersistentVolumeClaimStatus", "allocatedResourceStatuses")["additionalProperties"];
        assert_eq!(statuses["enum"].as_array().unwrap().len(), 5);
    }
    let types = api::facts::types();
    for (ty, fields) in api::facts::enums() {
        let found = types.get(types.named(ty).unwrap_or_else(|| panic!("{ty}")));
        let meta::schema::Shape::Struct(s) = &found.shape else { panic!("{ty}") };
        for (field, values) in fields {
            assert!(s.fields.iter().any(|f| f.name == field) && !values.is_empty(), "{ty}.{field}");
        }
    }
}
