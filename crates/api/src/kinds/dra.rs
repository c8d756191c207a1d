//! Dynamic resource allocation (resource.k8s.io): DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice.

mod claim;
mod common;
mod slice;
mod status;

use super::columns;
use crate::strategy::{AGE, Column, METADATA, NAME, Now, Strategy, column, column_of};
use crate::validation::access::*;
use crate::validation::{objectmeta, values};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub use slice::date_taints;

pub struct DeviceClass;
pub struct ResourceClaim;
pub struct ResourceClaimTemplate;
pub struct ResourceSlice;

/// What namespaces are labelled with, as `true`, whose claims may ask for devices that others use already.
pub const ADMIN_ACCESS_LABEL: &str = "resource.kubernetes.io/admin-access";

/// The first field by which a write asks for administrative access, if any does (upstream: `AuthorizedForAdmin` and
/// `AuthorizedForAdminStatus`). What an older version of the object has was allowed then, and doesn't change.
pub fn asks_for_admin_access(kind: &str, new: &Value, old: Option<&Value>) -> Option<Path> {
    let results = |v| list_at(v, &["status", "allocation", "devices", "results"]);
    let granted = |v| results(v).iter().position(|r| flag(r, "adminAccess"));
    if let Some(old) = old {
        let at = (kind == "ResourceClaim" && granted(old).is_none()).then(|| granted(new))??;
        return Some(Path::new("status.allocation.devices.results").index(at).child("adminAccess"));
    }
    let spec: &[&str] = match kind {
        "ResourceClaim" => &["spec", "devices", "requests"],
        "ResourceClaimTemplate" => &["spec", "spec", "devices", "requests"],
        _ => return None,
    };
    let at = list_at(new, spec).iter().position(|r| flag(field(r, "exactly"), "adminAccess"))?;
    // Upstream names this field for templates, too.
    Some(Path::new("spec.devices.requests").index(at).child("adminAccess"))
}

const NAME_AND_AGE: &[Column] = &[NAME, AGE];

impl Strategy for DeviceClass {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        claim::class_spec(field(obj, "spec"), &Value::Null, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        claim::class_spec(field(new, "spec"), field(old, "spec"), errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        NAME_AND_AGE
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        vec![columns::name(obj), columns::age_cell(obj, now)]
    }
}

impl Strategy for ResourceClaim {
    fn status_keeps(&self) -> &'static [&'static str] {
        METADATA
    }

    fn defaults(&self, obj: &mut Value) {
        if let Some(spec) = object_mut(obj, "spec") {
            claim::defaults(spec);
        }
        if let Some(devices) = object_at_mut(obj, &["status", "allocation", "devices"]) {
            items_mut(devices, "results").for_each(claim::tolerations);
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        claim::spec(field(obj, "spec"), &Path::new("spec"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        values::immutable(field(new, "spec"), field(old, "spec"), Path::new("spec"), errors);
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        status::prepare(new, old);
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        status::update(new, old, errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("State", "string", 0, "What has become of the claim: pending, allocated, reserved, deleted."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let deleted = has(field(obj, "metadata"), "deletionTimestamp");
        let mut states = Vec::new();
        if deleted {
            states.push("deleted");
        }
        if !at(obj, &["status", "allocation"]).is_object() {
            if !deleted {
                states.push("pending");
            }
        } else {
            states.push("allocated");
            if !list_at(obj, &["status", "reservedFor"]).is_empty() {
                states.push("reserved");
            }
        }
        vec![columns::name(obj), json!(states.join(",")), columns::age_cell(obj, now)]
    }
}

impl Strategy for ResourceClaimTemplate {
    fn defaults(&self, obj: &mut Value) {
        if let Some(spec) = object_at_mut(obj, &["spec", "spec"]) {
            claim::defaults(spec);
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        objectmeta::template_meta(field(obj, "spec"), &Path::new("spec.metadata"), errors);
        claim::spec(at(obj, &["spec", "spec"]), &Path::new("spec.spec"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
        values::immutable(field(new, "spec"), field(old, "spec"), Path::new("spec"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        NAME_AND_AGE
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        vec![columns::name(obj), columns::age_cell(obj, now)]
    }
}

impl Strategy for ResourceSlice {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        slice::spec(field(obj, "spec"), &Value::Null, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        slice::spec(field(new, "spec"), field(old, "spec"), errors);
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let driver = text_at(new, &["spec", "driver"]);
        if driver.chars().any(char::is_uppercase) {
            return vec![format!(
                "spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters"
            )];
        }
        Vec::new()
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        vec![
            ("spec.nodeName", text_at(obj, &["spec", "nodeName"]).to_string()),
            ("spec.driver", text_at(obj, &["spec", "driver"]).to_string()),
        ]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column_of("Node", "string", 0, "api.resource.v1.ResourceSliceSpec.nodeName"),
            column_of("Driver", "string", 0, "api.resource.v1.ResourceSliceSpec.driver"),
            column_of("Pool", "string", 0, "api.resource.v1.ResourcePool.name"),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let spec = field(obj, "spec");
        vec![
            columns::name(obj),
            json!(text(spec, "nodeName")),
            json!(text(spec, "driver")),
            json!(text_at(spec, &["pool", "name"])),
            columns::age_cell(obj, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::checks::{check_create, created};
    use expect_test::expect;

    #[test]
    fn claims_ask_for_one_device_unless_told() {
        let obj = created(
            r#"{"apiVersion":"resource.k8s.io/v1","kind":"ResourceClaim","metadata":{"name":"c"},
            "spec":{"devices":{"requests":[{"name":"gpu","exactly":{"deviceClassName":"gpu.example.com"}}]}}}"#,
        );
        assert_eq!(
            obj["spec"]["devices"]["requests"][0]["exactly"],
            json!({"deviceClassName":"gpu.example.com","allocationMode":"ExactCount","count":1})
        );
        let tolerant = created(
            r#"{"apiVersion":"resource.k8s.io/v1","kind":"ResourceClaimTemplate","metadata":{"name":"c"},"spec":{"spec":{"devices":{"requests":[
            {"name":"a","exactly":{"deviceClassName":"c","tolerations":[{"key":"k"},{"operator":"Exists"}]}},
            {"name":"b","firstAvailable":[{"name":"x","deviceClassName":"c","tolerations":[{"key":"k"}]}]}]}}}}"#,
        );
        let requests = &tolerant["spec"]["spec"]["devices"]["requests"];
        assert_eq!(
            requests[0]["exactly"]["tolerations"],
            json!([{"key":"k","operator":"Equal"},{"operator":"Exists"}])
        );
        assert_eq!(requests[1]["firstAvailable"][0]["tolerations"], json!([{"key":"k","operator":"Equal"}]));
        let mut allocated = json!({"status":{"allocation":{"devices":{"results":[{"tolerations":[{"key":"k"}]}]}}}});
        ResourceClaim.defaults(&mut allocated);
        let tolerations = &allocated["status"]["allocation"]["devices"]["results"][0]["tolerations"];
        assert_eq!(*tolerations, json!([{"key":"k","operator":"Equal"}]));
        check_create(
            r#"{"apiVersion":"resource.k8s.io/v1","kind":"ResourceClaim","metadata":{"name":"c"},
            "spec":{"devices":{"requests":[{"name":"gpu"},{"name":"gpu","exactly":{"allocationMode":"All","count":2}}],
            "constraints":[{"requests":["tpu"]}]}}}"#,
            expect![[r#"
                spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required
                spec.devices.requests[1].exactly.deviceClassName: Required value
                spec.devices.requests[1].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'
                spec.devices.requests[1]: Duplicate value: "gpu"
                spec.devices.constraints[0].requests[0]: Invalid value: "tpu": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
                spec.devices.constraints[0]: Required value: exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set
            "#]],
        );
        check_create(
            r#"{"apiVersion":"resource.k8s.io/v1","kind":"ResourceSlice","metadata":{"name":"s"},
            "spec":{"driver":"d.example.com","nodeName":"n","allNodes":true,"pool":{"name":"p"},"devices":[{"name":"a"},{"name":"a"}]}}"#,
            expect![[r#"
                spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero
                spec: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set
                spec.devices[1]: Duplicate value: "a"
            "#]],
        );
    }

    #[test]
    fn what_claims_and_classes_may_say() {
        check_create(
            r#"{"apiVersion":"resource.k8s.io/v1","kind":"ResourceClaim","metadata":{"name":"c"},"spec":{"devices":{
            "requests":[{"name":"a","firstAvailable":[
                {"name":"x","deviceClassName":"c","tolerations":[{"key":"k","operator":"Exists","value":"v"},{"operator":"Like","effect":"No"},{}]},
                {"name":"x","deviceClassName":"A_"}]}],
            "constraints":[{"requests":["a/x","a/x","a/y","a/b/c"],"matchAttribute":"nodomain"},{"distinctAttribute":"d.example.com/a-b"},{}],
            "config":[{},{"opaque":{"driver":"d.example.com","parameters":[]}},{"opaque":{"driver":""}}]}}}"#,
            expect![[r#"
                spec.devices.requests[0].firstAvailable[0].tolerations[0].value: Invalid value: "v": must be empty for operator `Exists`
                spec.devices.requests[0].firstAvailable[0].tolerations[1].operator: Unsupported value: "Like": supported values: "Equal", "Exists"
                spec.devices.requests[0].firstAvailable[0].tolerations[1].effect: Unsupported value: "No": supported values: "NoExecute", "NoSchedule", "None"
                spec.devices.requests[0].firstAvailable[1].deviceClassName: Invalid value: "A_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.devices.requests[0].firstAvailable[1]: Duplicate value: "x"
                spec.devices.constraints[0].requests[2]: Invalid value: "a/y": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
                spec.devices.constraints[0].requests[3]: Invalid value: "a/b/c": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
                spec.devices.constraints[0].requests[1]: Duplicate value: "a/x"
                spec.devices.constraints[0].matchAttribute: Invalid value: "nodomain": a fully qualified name must be a domain and a name separated by a slash
                spec.devices.constraints[1].distinctAttribute: Invalid value: "a-b": a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')
                spec.devices.constraints[2]: Required value: exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set
                spec.devices.config[0].opaque: Required value
                spec.devices.config[1].opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON object
                spec.devices.config[2].opaque.driver: Required value
                spec.devices.config[2].opaque.driver: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.devices.config[2].opaque.parameters: Required value
            "#]],
        );
        check_create(
            r#"{"apiVersion":"resource.k8s.io/v1","kind":"DeviceClass","metadata":{"name":"c"},"spec":{"extendedResourceName":"cpu",
            "selectors":[{},{"cel":{"expression":"device.driver == 'a' && device.attributes['a'].b > 1 && device.capacity['a'].c.compareTo(quantity('1Gi')) > 0"}},
            {"cel":{"expression":"device.name == 'a'"}},{"cel":{"expression":"device.driver"}}]}}"#,
            expect![[r#"
                spec.selectors[0].cel: Required value
                spec.selectors[2].cel.expression: Invalid value: "device.name == 'a'": compilation failed: ERROR: <input>:1:7: undefined field 'name'
                 | device.name == 'a'
                 | ......^
                spec.selectors[3].cel.expression: Invalid value: "device.driver": must evaluate to bool or the unknown type, not string
                spec.extendedResourceName: Invalid value: "cpu": must be a valid extended resource name
            "#]],
        );
        check_create(
            r#"{"apiVersion":"resource.k8s.io/v1","kind":"ResourceClaimTemplate","metadata":{"name":"c"},"spec":{"metadata":{"labels":{"a b":"c"}},"spec":{"devices":{"requests":[{"name":""}]}}}}"#,
            expect![[r#"
                spec.metadata.labels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
                spec.spec.devices.requests[0].name: Invalid value: "": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                spec.spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required
            "#]],
        );
    }

    /// Upstream's own examples of what is cheap enough and what isn't.
    #[test]
    fn selectors_cost_no_more_than_a_million() {
        let told = |expression: &str| {
            let class = json!({"spec": {"selectors": [{"cel": {"expression": expression}}]}});
            let mut errors = Errors::default();
            DeviceClass.validate_create(&class, &mut errors);
            let said = if errors.is_empty() { String::new() } else { errors.joined() };
            // A class that is there already may keep it.
            DeviceClass.validate_update(&class, &class, &mut errors);
            assert!(errors.0.len() <= 1);
            said
        };
        let nested = |levels: usize| {
            let mut text = "int('1'.find('[0-9]*')) < 100".to_string();
            for level in 0..levels {
                text = format!("[1, 2, 3, 4, 5, 6, 7, 8, 9, 10].all(x{level}, {text})");
            }
            text
        };
        const TOO_MUCH: &str = "spec.selectors[0].cel.expression: Forbidden: too complex, exceeds cost limit";
        for good in [
            r#"device.attributes["dra.example.com"].name == "fish""#,
            r#"device.attributes["dra.example.com"].name.matches("^a.*b$") && device.driver.startsWith("x")"#,
            r#"device.attributes.all(d, device.attributes[d].all(n, device.attributes[d][n] == "a"))"#,
            r#"cel.bind(dra, device.attributes["dra.example.com"], dra.a && dra.b)"#,
            "device.capacity['a'].c.compareTo(quantity('1Gi')) > 0 && device.allowMultipleAllocations",
            &nested(3),
        ] {
            assert_eq!(told(good), "", "{good}");
        }
        assert_eq!(told(&nested(7)), TOO_MUCH);
        let all = |text: &str| {
            format!(
                "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, device.attributes.all(d, {text}))))"
            )
        };
        assert_eq!(told(&all("a == b && c == d")), TOO_MUCH);
    }

    #[test]
    fn administrative_access_is_asked_for_by_requests_and_results() {
        let asks = |kind: &str, new: Value, old: Option<Value>| {
            asks_for_admin_access(kind, &new, old.as_ref()).map(|p| p.to_string())
        };
        let wanted = json!({"devices": {"requests": [{"firstAvailable": [{}]}, {"exactly": {"adminAccess": false}}, {"exactly": {"adminAccess": true}}]}});
        let path = Some("spec.devices.requests[2].adminAccess".to_string());
        assert_eq!(asks("ResourceClaim", json!({"spec": wanted}), None), path);
        assert_eq!(asks("ResourceClaimTemplate", json!({"spec": {"spec": wanted}}), None), path);
        assert_eq!(asks("DeviceClass", json!({"spec": wanted}), None), None);
        let result = |access: bool| json!({"spec": wanted, "status": {"allocation": {"devices": {"results": [{"adminAccess": access}]}}}});
        let path = Some("status.allocation.devices.results[0].adminAccess".to_string());
        assert_eq!(asks("ResourceClaim", result(true), Some(json!({"spec": wanted}))), path);
        assert_eq!(asks("ResourceClaim", result(true), Some(result(true))), None);
        assert_eq!(asks("ResourceClaim", result(false), Some(json!({}))), None);
    }

    #[test]
    fn taints_are_dated_once() {
        let mut slice = json!({"spec": {"devices": [{"taints": [{"key": "a"}, {"key": "b", "timeAdded": "2026-01-01T00:00:00Z"}]}, {}]}});
        date_taints(&mut slice, "2026-02-02T00:00:00Z");
        let taints = &slice["spec"]["devices"][0]["taints"];
        assert_eq!(
            (&taints[0]["timeAdded"], &taints[1]["timeAdded"]),
            (&json!("2026-02-02T00:00:00Z"), &json!("2026-01-01T00:00:00Z"))
        );
    }

    #[test]
    fn what_drivers_may_tell_of_devices() {
        check_create(
            r#"{"apiVersion":"resource.k8s.io/v1","kind":"ResourceSlice","metadata":{"name":"s"},"spec":{"driver":"d.example.com",
            "nodeName":"","allNodes":false,"perDeviceNodeSelection":true,"pool":{"name":"a//b","resourceSliceCount":1,"generation":-1},
            "sharedCounters":[{"name":"c"}],"devices":[
            {"name":"a","attributes":{"x-y":{"int":1},"/z":{"bool":true,"int":1},"v":{"version":"1.0"},"w":{}},"capacity":{"m":{"value":"1","requestPolicy":{"default":"1"}}},
             "taints":[{"key":"","effect":"Maybe"}],"bindingConditions":["b","b"],"consumesCounters":[{"counterSet":"c","counters":{"n":{"value":"1"}}},{}]},
            {"name":"b","nodeName":"n","allNodes":true,"bindingFailureConditions":["f"]},
            {"name":"c","nodeName":"n","allowMultipleAllocations":true,"capacity":{
              "m":{"value":"10","requestPolicy":{"default":"7","validRange":{"min":"2","max":"12","step":"2"}}},
              "n":{"value":"10","requestPolicy":{"default":"5","validValues":["4","2","20"]}},
              "o":{"value":"10","requestPolicy":{"validRange":{"min":"1"}}}}}]}}"#,
            expect![[r#"
                spec.pool.name: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.pool.generation: Invalid value: -1: must be greater than or equal to zero
                spec.nodeName: Invalid value: "": must be either unset or set to a non-empty string
                spec.allNodes: Invalid value: false: must be either unset or set to true
                spec: Invalid value: "": only one of `sharedCounters` or `devices` is allowed
                spec.devices[0].attributes[/z]: Invalid value: "": the domain must not be empty
                spec.devices[0].attributes[/z]: Invalid value: {"bool":true,"int":1}: exactly one value must be specified
                spec.devices[0].attributes[v].version: Invalid value: "1.0": must be a string compatible with semver.org spec 2.0.0
                spec.devices[0].attributes[w]: Invalid value: "": exactly one value must be specified
                spec.devices[0].attributes[x-y]: Invalid value: "x-y": a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')
                spec.devices[0].capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true
                spec.devices[0].taints[0].key: Invalid value: "": name part must be non-empty
                spec.devices[0].taints[0].key: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
                spec.devices[0].taints[0].effect: Unsupported value: "Maybe": supported values: "NoExecute", "NoSchedule", "None"
                spec.devices[0].consumesCounters[1].counterSet: Required value
                spec.devices[0].consumesCounters[1].counters: Required value
                spec.devices[0]: Required value: exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec
                spec.devices[0].bindingConditions[1]: Duplicate value: "b"
                spec.devices[0].bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions
                spec.devices[1]: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec
                spec.devices[1].bindingConditions: Invalid value: null: bindingConditions are required to use bindingFailureConditions
                spec.devices[2].capacity[m].requestPolicy.validRange.max: Invalid value: "12": max is larger than capacity value: 10
                spec.devices[2].capacity[m].requestPolicy.validRange.step: Invalid value: "7": value is not a multiple of a given step (2) from (2)
                spec.devices[2].capacity[n].requestPolicy.validValues[1]: Invalid value: "2": values must be sorted in ascending order
                spec.devices[2].capacity[n].requestPolicy.validValues[2]: Invalid value: "20": option is larger than capacity value: 10
                spec.devices[2].capacity[n].requestPolicy.validValues: Invalid value: "5": default value is not valid according to the requestPolicy
                spec.devices[2].capacity[o].requestPolicy.default: Required value: required when validRange is defined
                spec.sharedCounters[0].counters: Required value
            "#]],
        );
    }

    #[test]
    fn what_status_may_say_of_a_claim() {
        let claim = |status: Value| {
            json!({"metadata": {"name": "c"}, "status": status,
                "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "c"}}]}}})
        };
        let told = |old: &Value, new: &Value| {
            let mut errors = Errors::default();
            ResourceClaim.validate_status_update(new, old, &mut errors);
            errors.0.iter().map(|e| format!("{e}\n")).collect::<String>()
        };
        let result = json!({"request": "gpu", "driver": "d.example.com", "pool": "p", "device": "a"});
        let free = claim(json!({}));
        let taken = claim(json!({"allocation": {"devices": {"results": [result]}}, "devices": [
            {"driver": "d.example.com", "pool": "p", "device": "a", "networkData": {"ips": ["10.0.0.1/8", "10.0.0.01/8", "x"]}}]}));
        expect![[r#"
            status.devices[0].networkData.ips[1]: Invalid value: "10.0.0.01/8": must be in canonical form ("10.0.0.1/8")
            status.devices[0].networkData.ips[2]: Invalid value: "x": must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)
        "#]].assert_eq(&told(&free, &taken));
        let reserved = claim(json!({"reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}, {"uid": "u"}]}));
        expect![[r#"
            status.reservedFor[1].resource: Required value
            status.reservedFor[1].name: Required value
            status.reservedFor[1]: Duplicate value: "u"
            status.reservedFor: Forbidden: may not be specified when `allocated` is not set
        "#]]
        .assert_eq(&told(&free, &reserved));
        let bad = claim(json!({"allocation": {"devices": {"config": [{"source": "X"}], "results": [
            {"request": "tpu", "driver": "d", "pool": "", "device": "B", "shareID": "1"}]}}}));
        expect![[r#"
            status.allocation.devices.results[0].request: Invalid value: "tpu": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
            status.allocation.devices.results[0].pool: Required value
            status.allocation.devices.results[0].device: Invalid value: "B": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            status.allocation.devices.results[0].shareID: Invalid value: "1": error validating uid: invalid UUID length: 1
            status.allocation.devices.config[0].source: Unsupported value: "X": supported values: "FromClaim", "FromClass"
            status.allocation.devices.config[0].opaque: Required value
        "#]].assert_eq(&told(&free, &bad));
        expect![[r#"
            status.allocation: Invalid value: {"devices":{"config":[{"source":"X"}],"results":[{"device":"B","driver":"d","pool":"","request":"tpu","shareID":"1"}]}}: field is immutable
        "#]].assert_eq(&told(&taken, &bad));
        // A device that is taken away takes its status along.
        let mut after = taken.clone();
        after["status"]["allocation"] = Value::Null;
        ResourceClaim.prepare_status_update(&mut after, &taken);
        assert_eq!(after["status"]["devices"], Value::Null);
    }

    #[test]
    fn states_of_a_claim() {
        let state = |obj: Value| ResourceClaim.row(&obj, Now(jiff::Timestamp::UNIX_EPOCH))[1].clone();
        assert_eq!(state(json!({})), "pending");
        assert_eq!(state(json!({"status":{"allocation":{},"reservedFor":[{}]}})), "allocated,reserved");
        assert_eq!(state(json!({"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"}})), "deleted");
    }
}
