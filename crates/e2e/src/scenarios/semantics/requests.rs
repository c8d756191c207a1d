//! Requests that name what isn't there, in ways that don't fit, with values at the edges of their types.

use super::{APPLY, Api, JSON, MERGE, STRATEGIC, with};
use crate::cluster::Cluster;
use anyhow::{Result, ensure};
use serde_json::{Value, json};

const NOT_ALLOWED: &str = "the server does not allow this method on the requested resource";
const NOT_THERE: &str = "the server could not find the requested resource";

/// Which methods a path takes, and what it says of others.
pub fn methods(c: &Cluster) -> Result<()> {
    with(c, "methods", async |api, _| {
        let (core, apps) = (api.core.clone(), api.apps.clone());
        let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_string();
        api.map("a", json!({})).await?;
        for (method, path, allow) in [
            // All namespaces together can only be read.
            ("POST", "/api/v1/configmaps".to_string(), "GET"),
            ("PUT", "/api/v1/configmaps".to_string(), "GET"),
            ("PATCH", "/api/v1/configmaps".to_string(), "GET"),
            ("DELETE", "/api/v1/configmaps".to_string(), "GET"),
            ("DELETE", "/apis/apps/v1/deployments".to_string(), "GET"),
            ("PUT", format!("{core}/configmaps"), "GET, POST, DELETE"),
            ("PATCH", format!("{core}/configmaps"), "GET, POST, DELETE"),
            ("OPTIONS", format!("{core}/configmaps"), "GET, POST, DELETE"),
            ("POST", format!("{core}/configmaps/a"), "GET, PUT, PATCH, DELETE"),
            ("OPTIONS", format!("{core}/configmaps/a"), "GET, PUT, PATCH, DELETE"),
            ("DELETE", format!("{apps}/deployments/x/scale"), "GET, PUT, PATCH"),
            ("POST", format!("{apps}/deployments/x/status"), "GET, PUT, PATCH"),
            ("POST", format!("{core}/pods/x/log"), "GET"),
            ("GET", format!("{core}/pods/x/eviction"), "POST"),
            ("PUT", format!("{core}/pods/x/binding"), "POST"),
            ("GET", format!("{core}/serviceaccounts/default/token"), "POST"),
            ("GET", format!("{core}/bindings"), "POST"),
            ("GET", reviews.clone(), "POST"),
            ("DELETE", reviews.clone(), "POST"),
            ("PATCH", "/api/v1/componentstatuses/x".to_string(), "GET"),
            ("DELETE", "/api/v1/componentstatuses".to_string(), "GET"),
            // The old path of watches is for watches.
            ("DELETE", core.replace("/v1/", "/v1/watch/") + "/configmaps", "GET"),
            ("DELETE", core.replace("/v1/", "/v1/watch/") + "/configmaps/a", "GET"),
            ("POST", core.replace("/v1/", "/v1/watch/") + "/configmaps", "GET"),
            ("POST", "/api".to_string(), "GET"),
            ("PUT", "/apis".to_string(), "GET"),
            ("DELETE", "/api/v1".to_string(), "GET"),
            ("PATCH", "/apis/apps".to_string(), "GET"),
            ("POST", "/apis/apps/v1".to_string(), "GET"),
        ] {
            let r = api.send(method, &path, JSON, "").await?;
            let s = r.json();
            ensure!(
                r.code == 405 && s["reason"] == "MethodNotAllowed" && s["message"] == NOT_ALLOWED && s["code"] == 405,
                "{method} {path}: {}",
                r.text()
            );
            ensure!(
                r.headers.get("allow").is_some_and(|v| v == allow),
                "{method} {path}: {:?}",
                r.headers.get("allow")
            );
        }
        ensure!(api.get(&format!("{core}/configmaps/a")).await?["data"]["k"] == "v", "what was refused wasn't done");
        // Whoever is refused before the body was read may go on with the same connection.
        for _ in 0..20 {
            let r = api.send("POST", "/api/v1/configmaps", JSON, &"x".repeat(10_000)).await?;
            ensure!(r.code == 405, "{}", r.text());
        }
        // A path may end in a slash; HEAD is GET without its body.
        ensure!(api.get(&format!("{core}/configmaps/a/")).await?["data"]["k"] == "v", "with a slash");
        ensure!(api.get(&format!("{core}/configmaps/")).await?["kind"] == "ConfigMapList", "with a slash");
        // What old clients asked for is refused, unless they ask not to have it.
        let gone = "the export parameter, deprecated since v1.14, is no longer supported";
        let exported = format!("{core}/configmaps/a?export");
        api.refused(("GET", &exported, JSON, ""), (400, "BadRequest", gone)).await?;
        api.get(&format!("{exported}=false")).await?;
        let r = api.send("HEAD", &format!("{core}/configmaps/a"), JSON, "").await?;
        ensure!(r.code == 200 && r.body.is_empty() && r.headers["content-type"] == JSON, "{:?}", r.headers);
        Ok(())
    })
}

/// Names and kinds that aren't there, or don't fit each other.
pub fn names(c: &Cluster) -> Result<()> {
    with(c, "names", async |api, _| {
        let (core, apps) = (api.core.clone(), api.apps.clone());
        let maps = format!("{core}/configmaps");
        for path in [
            "/api/v1/nothing".to_string(),
            "/api/v3/pods".to_string(),
            "/api/v3".to_string(),
            "/apis/apps/v9/deployments".to_string(),
            "/apis/apps/v9".to_string(),
            "/version/x".to_string(),
            format!("{core}/nothing/x"),
            format!("{core}/nodes"),
            format!("{core}/namespaces"),
            format!("{maps}/a/status"),
            format!("{maps}/a/b/c"),
            format!("{apps}/deployments/x/none"),
            "/api/v1/configmaps/a".to_string(),
        ] {
            let s = api.refused(("GET", &path, JSON, ""), (404, "NotFound", NOT_THERE)).await?;
            ensure!(s["details"] == json!({}), "{s}");
        }
        // Outside of the server's own groups nobody knows of objects.
        for (method, path) in [
            ("GET", "/nothing"),
            ("POST", "/nothing"),
            ("GET", "/apis/none.example"),
            ("GET", "/apis/none.example/v1"),
            ("GET", "/apis/none.example/v1/things"),
            ("POST", "/apis/none.example/v1/things"),
            ("GET", "/healthz/"),
            ("GET", "/livez/nothing"),
            ("GET", "/openapi"),
        ] {
            let r = api.send(method, path, JSON, "").await?;
            let kind = r.headers.get("content-type").and_then(|v| v.to_str().ok());
            ensure!(
                (r.code, kind, r.text().as_str()) == (404, Some("text/plain; charset=utf-8"), "404 page not found\n"),
                "{method} {path}: {} {kind:?} {}",
                r.code,
                r.text()
            );
        }
        let r = api.send("GET", "/openapi/v3/apis/none.example/v1", JSON, "").await?;
        ensure!((r.code, r.text().as_str()) == (404, ""), "{} {}", r.code, r.text());
        for path in ["/healthz", "/readyz/poststarthook/rbac/bootstrap-roles"] {
            let r = api.send("POST", path, JSON, "").await?;
            ensure!((r.code, r.text().as_str()) == (200, "ok"), "any method asks for {path}: {} {}", r.code, r.text());
        }
        let r = api.send("GET", "/readyz/poststarthook", JSON, "").await?;
        ensure!(r.code == 404 && r.text().starts_with("404"), "{} {}", r.code, r.text());
        for (name, why) in [
            ("a%25b", "Name parameter invalid: \"a%b\": may not contain '%'"),
            ("a%2Fb", "Name parameter invalid: \"a/b\": may not contain '/'"),
            ("%2E%2E", "Name parameter invalid: \"..\": may not be '..'"),
        ] {
            for method in ["GET", "DELETE"] {
                api.refused((method, &format!("{maps}/{name}"), JSON, ""), (400, "BadRequest", why)).await?;
            }
        }
        let made = api.map("a", json!({})).await?;
        let one = format!("{maps}/a");
        let odd = format!("{maps}/A_B");
        api.refused(("GET", &odd, JSON, ""), (404, "NotFound", "configmaps \"A_B\" not found")).await?;
        let body = |meta: Value| json!({"metadata": meta}).to_string();
        for (method, path, content_type, sent, want) in [
            (
                "PUT",
                &one,
                JSON,
                body(json!({"name": "b"})),
                (400, "BadRequest", "the name of the object (b) does not match the name on the URL (a)"),
            ),
            ("PUT", &one, JSON, body(json!({})), (400, "BadRequest", "name must be provided")),
            (
                "PUT",
                &one,
                JSON,
                body(json!({"name": "a", "namespace": "x"})),
                (
                    400,
                    "BadRequest",
                    "the namespace of the provided object does not match the namespace sent on the request",
                ),
            ),
            (
                "PATCH",
                &one,
                MERGE,
                body(json!({"name": "b"})),
                (400, "BadRequest", "the name of the object (b) does not match the name on the URL (a)"),
            ),
            (
                "PATCH",
                &one,
                MERGE,
                body(json!({"namespace": "x"})),
                (
                    400,
                    "BadRequest",
                    "the namespace of the provided object does not match the namespace sent on the request",
                ),
            ),
            (
                "PATCH",
                &one,
                MERGE,
                body(json!({"uid": "x"})),
                (422, "Invalid", "metadata.uid: Invalid value: \"x\": field is immutable"),
            ),
            (
                "PATCH",
                &one,
                MERGE,
                body(json!({"resourceVersion": "1"})),
                (409, "Conflict", "the object has been modified"),
            ),
            (
                "PATCH",
                &one,
                MERGE,
                body(json!({"deletionTimestamp": "2000-01-01T00:00:00Z"})),
                (422, "Invalid", "metadata.deletionTimestamp: Invalid value"),
            ),
            (
                "PATCH",
                &one,
                MERGE,
                body(json!({"deletionGracePeriodSeconds": 5})),
                (422, "Invalid", "metadata.deletionGracePeriodSeconds: Invalid value: 5: field is immutable"),
            ),
        ] {
            api.refused((method, path, content_type, &sent), want).await?;
        }
        // Nor does a patch make another kind; one that knows the structure doesn't look at it.
        for (change, why) in [
            (json!({"kind": "Secret"}), "converting (v1.Secret) to (core.ConfigMap): unknown conversion"),
            (json!({"kind": "Nothing"}), "no kind \"Nothing\" is registered for version \"v1\" in scheme"),
            (json!({"apiVersion": "v2"}), "no kind \"ConfigMap\" is registered for version \"v2\" in scheme"),
        ] {
            api.refused(("PATCH", &one, MERGE, &change.to_string()), (422, "Invalid", why)).await?;
            let r = api.must("PATCH", &one, STRATEGIC, &change).await?;
            ensure!(r["kind"] == "ConfigMap" && r["apiVersion"] == "v1", "{r}");
        }
        // What only the server writes is taken back without a word.
        let kept =
            json!({"metadata": {"creationTimestamp": "2000-01-01T00:00:00Z", "generation": 7, "selfLink": "/x"}});
        let r = api.must("PATCH", &one, MERGE, &kept).await?;
        ensure!(r["metadata"] == made["metadata"], "{r}");
        Ok(())
    })
}

/// Bodies of another kind, of no kind, and values at the edges of their types.
pub fn bodies(c: &Cluster) -> Result<()> {
    with(c, "bodies", async |api, _| {
        let maps = format!("{}/configmaps?dryRun=All", api.core);
        let cannot = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: ";
        let unnamed = "metadata.name: Required value: name or generateName is required";
        for (body, code, why) in [
            (r#"{"kind":"Pod","apiVersion":"v1"}"#, 400, "Pod in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Pod) to (core.ConfigMap): unknown conversion".to_string()),
            (r#"{"kind":"ConfigMap","apiVersion":"v2","data":1}"#, 400, "ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for version \"v2\" in scheme".to_string()),
            (r#"{"kind":"Event","apiVersion":"events.k8s.io/v1beta1"}"#, 400, "converting (v1beta1.Event) to (core.ConfigMap): unknown conversion".to_string()),
            (r#"{"kind":"Nothing","apiVersion":"v1"}"#, 400, "no kind \"Nothing\" is registered for version \"v1\" in scheme".to_string()),
            ("", 400, "unexpected end of JSON input (<empty>)".to_string()),
            ("[]", 400, format!("{cannot}json: cannot unmarshal array into Go value of type v1.ConfigMap")),
            ("1", 400, format!("{cannot}json: cannot unmarshal number into Go value of type v1.ConfigMap")),
            ("null", 422, unnamed.to_string()),
            ("{}", 422, unnamed.to_string()),
            (r#"{"Metadata":{"name":"x"}}"#, 422, unnamed.to_string()),
            (r#"{"metadata":1}"#, 400, format!("{cannot}json: cannot unmarshal number into Go struct field ConfigMap.metadata of type v1.ObjectMeta")),
            (r#"{"metadata":{"name":"x"}} more"#, 400, "invalid character 'm' after top-level value".to_string()),
            (r#"{"metadata":{"name":"x"},"binaryData":{"a":"%"}}"#, 400, format!("{cannot}illegal base64 data at input byte 0")),
            (r#"{"metadata":{"name":"x","creationTimestamp":"now"}}"#, 400, format!("{cannot}parsing time \"now\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"now\" as \"2006\"")),
        ] {
            let reason = if code == 422 { "Invalid" } else { "BadRequest" };
            api.refused(("POST", &maps, JSON, body), (code, reason, &why)).await?;
        }
        // What has no name is told all that is wrong with it. A LimitRange gets one.
        let all = format!("Service \"\" is invalid: [{unnamed}, spec.ports: Required value]");
        let services = maps.replace("configmaps", "services");
        api.refused(("POST", &services, JSON, "{}"), (422, "Invalid", &all)).await?;
        let made = api.must("POST", &maps.replace("configmaps", "limitranges"), JSON, &json!({})).await?;
        ensure!(made["metadata"]["name"] == made["metadata"]["uid"], "{made}");
        let one = maps.replace("?", "/kube-root-ca.crt?");
        let other = r#"{"kind":"Status","apiVersion":"v1"}"#;
        let why = "decoded object cannot be converted to DeleteOptions";
        api.refused(("DELETE", &one, JSON, other), (400, "BadRequest", why)).await?;
        // Text is read as Go reads it.
        for (text, want) in [
            (&br#""a\u0000b""#[..], "a\0b"),
            (br#""\ud83d\ude00""#, "\u{1f600}"),
            (br#""\ud800""#, "\u{fffd}"),
            (b"\"a\xff\"", "a\u{fffd}"),
        ] {
            let body = [&br#"{"metadata":{"name":"x"},"data":{"k":"#[..], text, b"}}"].concat();
            let headers = [("content-type", JSON), ("accept", JSON)];
            let r = api.connection.send("POST", &maps, &headers, body).await?;
            ensure!(r.code == 201 && r.json()["data"]["k"] == want, "{text:?}: {}", r.text());
        }
        numbers(api).await
    })
}

async fn numbers(api: &mut Api) -> Result<()> {
    let path = format!("{}/deployments?dryRun=All", api.apps);
    let whole = json!({
        "metadata": {"name": "d"},
        "spec": {"replicas": "REPLICAS", "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"memory": "MEMORY"}}}]}}},
    })
    .to_string();
    let with = |replicas: &str, memory: &str| whole.replace("\"REPLICAS\"", replicas).replace("\"MEMORY\"", memory);
    let cannot = "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal";
    let field = "into Go struct field DeploymentSpec.spec.replicas of type int32";
    for (replicas, code, why) in [
        ("3000000000", 400, format!("{cannot} number 3000000000 {field}")),
        ("-2147483649", 400, format!("{cannot} number -2147483649 {field}")),
        ("1.0", 400, format!("{cannot} number 1.0 {field}")),
        ("1.5", 400, format!("{cannot} number 1.5 {field}")),
        ("1e3", 400, format!("{cannot} number 1e3 {field}")),
        ("1.50E+1", 400, format!("{cannot} number 1.50E+1 {field}")),
        ("99999999999999999999", 400, format!("{cannot} number 99999999999999999999 {field}")),
        ("\"1\"", 400, format!("{cannot} string {field}")),
        ("true", 400, format!("{cannot} bool {field}")),
        ("{}", 400, format!("{cannot} object {field}")),
        ("01", 400, "json parse error".to_string()),
        ("NaN", 400, "json parse error: invalid character 'N' looking for beginning of value".to_string()),
        ("-1", 422, "spec.replicas: Invalid value: -1: must be greater than or equal to 0".to_string()),
    ] {
        let reason = if code == 422 { "Invalid" } else { "BadRequest" };
        api.refused(("POST", &path, JSON, &with(replicas, "1")), (code, reason, &why)).await?;
    }
    for (memory, want) in
        [("1", "1"), ("1.5", "1500m"), ("\"1.5Gi\"", "1536Mi"), ("\"1e3\"", "1e3"), ("\"0.0001\"", "1m"), ("null", "0")]
    {
        let r = api.send("POST", &path, JSON, &with("0", memory)).await?;
        let got = &r.json()["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"];
        ensure!(r.code == 201 && *got == want, "{memory}: {}", r.text());
    }
    let r = api.send("POST", &path, JSON, &with("-0", "1")).await?;
    ensure!(r.code == 201 && r.json()["spec"]["replicas"] == 0, "-0: {}", r.text());
    Ok(())
}

/// What endpoints of an object's parts take, keep and show.
pub fn parts(c: &Cluster) -> Result<()> {
    with(c, "parts", async |api, _| {
        let (deployments, pods) = (format!("{}/deployments", api.apps), format!("{}/pods", api.core));
        let container = json!({"containers": [{"name": "c", "image": "i"}]});
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": container});
        let body = json!({"metadata": {"name": "d"}, "spec": {
            "replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template,
        }});
        api.must("POST", &deployments, JSON, &body).await?;
        let one = format!("{deployments}/d");

        // A Scale has a name, and a table of its own.
        let scale = format!("{one}/scale");
        let why = "the name of the object (d based on URL) was undeterminable: name must be provided";
        api.refused(("PUT", &scale, JSON, r#"{"spec":{"replicas":0}}"#), (400, "BadRequest", why)).await?;
        // Applied is a Scale, and nothing but it.
        let apply = format!("{scale}?fieldManager=a");
        let applied = |kind: &str, spec: Value| {
            json!({"apiVersion": "autoscaling/v1", "kind": kind, "metadata": {"name": "d"}, "spec": spec}).to_string()
        };
        let why = "invalid object type: autoscaling/v1, Kind=Deployment";
        let body = applied("Deployment", json!({"replicas": 0}));
        api.refused(("PATCH", &apply, APPLY, &body), (400, "BadRequest", why)).await?;
        let why = "failed to create typed patch object (/d; autoscaling/v1, Kind=Scale): .spec.odd: field not declared in schema";
        let body = applied("Scale", json!({"odd": 0}));
        api.refused(("PATCH", &apply, APPLY, &body), (400, "BadRequest", why)).await?;
        let table = [("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")];
        let shown = api.connection.send("GET", &scale, &table, String::new()).await?.json();
        let columns: Vec<&Value> =
            shown["columnDefinitions"].as_array().into_iter().flatten().map(|c| &c["name"]).collect();
        ensure!(columns == ["Name", "Desired", "Available", "Age"] && shown["rows"][0]["cells"][1] == 0, "{shown}");

        // Through its status a Deployment gets all metadata but labels.
        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u"});
        let change = json!({"metadata": {"labels": {"l": "1"}, "annotations": {"n": "1"}, "ownerReferences": [owner]}});
        let r = api.must("PATCH", &format!("{one}/status?dryRun=All"), MERGE, &change).await?;
        let meta = &r["metadata"];
        ensure!(meta["labels"].is_null() && meta["annotations"]["n"] == "1", "{r}");
        ensure!(meta["ownerReferences"][0]["uid"] == "u", "{r}");

        // Leases are never replaced blindly.
        let leases = format!("{}/leases", api.apps.replace("/apps/", "/coordination.k8s.io/"));
        let lease = json!({"metadata": {"name": "l"}});
        api.must("POST", &leases, JSON, &lease).await?;
        let why = "leases.coordination.k8s.io \"l\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update";
        api.refused(("PUT", &format!("{leases}/l"), JSON, &lease.to_string()), (422, "Invalid", why)).await?;

        // An eviction of a pod in the state that its client saw.
        let mut gated = json!({"metadata": {"name": "p"}, "spec": container});
        gated["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
        let pod = api.must("POST", &pods, JSON, &gated).await?;
        let evict = |version: &str| json!({"metadata": {"name": "p"}, "deleteOptions": {"preconditions": {"resourceVersion": version}}});
        let path = format!("{pods}/p/eviction");
        let why = "Operation cannot be fulfilled on Pod \"p\": the ResourceVersion in the precondition (1)";
        api.refused(("POST", &path, JSON, &evict("1").to_string()), (409, "Conflict", why)).await?;
        api.must("POST", &path, JSON, &evict(super::version(&pod))).await?;
        api.refused(("GET", &format!("{pods}/p"), JSON, ""), (404, "NotFound", "not found")).await?;
        Ok(())
    })
}
