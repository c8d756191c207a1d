//! Which IP families a Service has, from what it says of addresses, families and policy and from what the cluster has.
//! Pure. Upstream: `initIPFamilyFields`.

use api::kinds::service::{self, headless};
use api::validation::access::*;
use meta::field::{Errors, Path};
use meta::status::{Result, Status};
use serde_json::Value;

pub const V4: &str = "IPv4";
pub const V6: &str = "IPv6";

pub fn family_of(ip: &str) -> &'static str {
    if ip.contains(':') { V6 } else { V4 }
}

fn other(family: &str) -> &'static str {
    if family == V4 { V6 } else { V4 }
}

/// Fills in `ipFamilyPolicy` and `ipFamilies`, or refuses. `cluster`: its families, that of Services that don't care first.
pub fn settle(object: &mut Value, old: Option<&Value>, cluster: &[&str]) -> Result<()> {
    let name = text_at(object, &["metadata", "name"]).to_string();
    let before = old.map(|o| field(o, "spec"));
    let spec = field(object, "spec");
    if text(spec, "type") == "ExternalName" || before.is_some_and(|b| prefers_as_before(spec, b)) {
        return Ok(());
    }
    let free = headless(spec) && is_zero(field(spec, "selector"));
    if !has(spec, "ipFamilyPolicy") {
        let policy = match before.map(|b| text(b, "ipFamilyPolicy")).unwrap_or_default() {
            // Whoever writes the endpoints decides.
            "" if free => "RequireDualStack",
            "" => "SingleStack",
            policy => policy,
        };
        let policy = policy.to_string();
        if let Some(spec) = object_mut(object, "spec") {
            set(spec, "ipFamilyPolicy", policy);
        }
    }
    let mut errors = Errors::default();
    service::check_cluster_ips(object, old.unwrap_or(&Value::Null), &mut errors);
    refuse(&name, &errors)?;

    let Some(spec) = object_mut(object, "spec") else { return Ok(()) };
    let policy = text(spec, "ipFamilyPolicy").to_string();
    let single = policy == "SingleStack";
    let fault = |errors: &mut Errors, why: &str| errors.invalid(Path::new("spec.ipFamilyPolicy"), policy.as_str(), why);
    if let Some(before) = before {
        for (key, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
            let (now, was) = (list(spec, key), list(before, key));
            if single && now == was && now.len() > 1 {
                let first = now[..1].to_vec();
                set(spec, key, first);
            } else if !single && !now.is_empty() && now.len() < was.len() {
                fault(&mut errors, &format!("must be 'SingleStack' to release the secondary {what}"));
            }
        }
    }
    for (key, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
        if single && list(spec, key).len() == 2 {
            let why = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            fault(&mut errors, &why);
        }
    }
    let mut families: Vec<String> = texts(spec, "ipFamilies").into_iter().map(str::to_string).collect();
    let ips = texts(spec, "clusterIPs");
    for (i, ip) in ips.iter().enumerate().skip(families.len()).take_while(|(_, ip)| **ip != "None") {
        let family = family_of(ip);
        if cluster.contains(&family) {
            families.push(family.to_string());
        } else {
            let why = format!("{family} is not configured on this cluster");
            errors.invalid(Path::new("spec.clusterIPs").index(i), list(spec, "clusterIPs").to_vec(), why);
        }
    }
    refuse(&name, &errors)?;

    if !free {
        if policy == "RequireDualStack" && cluster.len() < 2 {
            fault(&mut errors, "this cluster is not configured for dual-stack services");
        }
        for (i, family) in families.iter().enumerate().filter(|(_, f)| !cluster.contains(&f.as_str())) {
            errors.invalid(Path::new("spec.ipFamilies").index(i), family.as_str(), "not configured on this cluster");
        }
        refuse(&name, &errors)?;
    }
    if families.is_empty() {
        families.extend(cluster.first().map(|f| f.to_string()));
    }
    if !single && families.len() == 1 && (free || cluster.len() == 2) {
        let second = other(&families[0]).to_string();
        families.push(second);
    }
    set(spec, "ipFamilies", families);
    Ok(())
}

/// Services that prefer two stacks don't get or lose one because the cluster did.
fn prefers_as_before(spec: &Value, before: &Value) -> bool {
    const PREFER: &str = "PreferDualStack";
    let same = |key: &str| list(spec, key) == list(before, key);
    text(spec, "ipFamilyPolicy") == PREFER
        && ["", PREFER].contains(&text(before, "ipFamilyPolicy"))
        && text(spec, "type") == text(before, "type")
        && same("clusterIPs")
        && same("ipFamilies")
}

fn refuse(name: &str, errors: &Errors) -> Result<()> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("", "Service", name, errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settled(cluster: &[&str], spec: &Value, old: Option<&Value>) -> String {
        let mut service = json!({"metadata": {"name": "s"}, "spec": {"type": "ClusterIP"}});
        let mut before = service.clone();
        let write = |o: &mut Value, spec: &Value| {
            for (key, value) in spec.as_object().unwrap() {
                o["spec"][key] = value.clone();
            }
        };
        write(&mut service, spec);
        let old = old.map(|spec| {
            write(&mut before, spec);
            &before
        });
        match settle(&mut service, old, cluster) {
            Ok(()) => {
                let spec = &service["spec"];
                let families: Vec<String> = texts(spec, "ipFamilies").iter().map(|f| f.replace("IPv", "")).collect();
                let more =
                    if spec["clusterIPs"].is_array() { format!(" {}", spec["clusterIPs"]) } else { String::new() };
                format!("{} {}{more}", text(spec, "ipFamilyPolicy"), families.join(","))
            }
            Err(s) => s.message.strip_prefix("Service \"s\" is invalid: ").unwrap().to_string(),
        }
    }

    const NOT_DUAL: &str = r#"spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services"#;

    #[test]
    fn new_services() {
        let dual = |p: &str| json!({"ipFamilyPolicy": p, "selector": {"a": "b"}});
        const TWO_IPS: &str = r#"spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified"#;
        let not_configured = |i: usize, family: &str| {
            format!(
                r#"spec.clusterIPs[{i}]: Invalid value: ["10.0.0.1","fd00::1"]: {family} is not configured on this cluster"#
            )
        };
        // What is asked for, then what comes of it in a cluster of IPv4, of IPv6, and of IPv4 and IPv6.
        let cases = [
            (json!({}), ["SingleStack 4", "SingleStack 6", "SingleStack 4"]),
            (dual("SingleStack"), ["SingleStack 4", "SingleStack 6", "SingleStack 4"]),
            (dual("PreferDualStack"), ["PreferDualStack 4", "PreferDualStack 6", "PreferDualStack 4,6"]),
            (dual("RequireDualStack"), [NOT_DUAL, NOT_DUAL, "RequireDualStack 4,6"]),
            (
                json!({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "PreferDualStack"}),
                [
                    r#"spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster"#,
                    "PreferDualStack 6",
                    "PreferDualStack 6,4",
                ],
            ),
            (
                json!({"ipFamilies": ["IPv6", "IPv4"]}),
                [r#"spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"#;
                    3],
            ),
            (
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]}),
                [
                    &format!("[{TWO_IPS}, {}]", not_configured(1, V6)),
                    &format!("[{TWO_IPS}, {}]", not_configured(0, V4)),
                    TWO_IPS,
                ],
            ),
            (
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilyPolicy": "PreferDualStack"}),
                [&not_configured(1, V6), &not_configured(0, V4), r#"PreferDualStack 4,6 ["10.0.0.1","fd00::1"]"#],
            ),
            (
                json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}),
                [
                    &format!(
                        "[{NOT_DUAL}, spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster]"
                    ),
                    NOT_DUAL,
                    "RequireDualStack 6,4",
                ],
            ),
            (
                json!({"ipFamilyPolicy": "Both"}),
                [r#"spec.ipFamilyPolicy: Unsupported value: "Both": supported values: "PreferDualStack", "RequireDualStack", "SingleStack""#;
                    3],
            ),
            (
                json!({"clusterIPs": ["10.0.0.1"]}),
                [r#"spec.clusterIPs: Invalid value: ["10.0.0.1"]: must be empty when `clusterIP` is not specified"#; 3],
            ),
            // Headless: with a selector like any other, without one both.
            (
                json!({"clusterIP": "None", "clusterIPs": ["None"], "selector": {"a": "b"}}),
                [r#"SingleStack 4 ["None"]"#, r#"SingleStack 6 ["None"]"#, r#"SingleStack 4 ["None"]"#],
            ),
            (
                json!({"clusterIP": "None", "clusterIPs": ["None"], "selector": {"a": "b"}, "ipFamilyPolicy": "RequireDualStack"}),
                [NOT_DUAL, NOT_DUAL, r#"RequireDualStack 4,6 ["None"]"#],
            ),
            (
                json!({"clusterIP": "None", "clusterIPs": ["None"]}),
                [
                    r#"RequireDualStack 4,6 ["None"]"#,
                    r#"RequireDualStack 6,4 ["None"]"#,
                    r#"RequireDualStack 4,6 ["None"]"#,
                ],
            ),
            (
                json!({"clusterIP": "None", "clusterIPs": ["None"], "ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"}),
                [r#"SingleStack 6 ["None"]"#; 3],
            ),
            (json!({"type": "ExternalName", "externalName": "x"}), [" "; 3]),
        ];
        for (spec, expected) in cases {
            for (cluster, expected) in [&[V4][..], &[V6], &[V4, V6]].into_iter().zip(expected) {
                assert_eq!(settled(cluster, &spec, None), expected, "{spec} in {cluster:?}");
            }
        }
    }

    #[test]
    fn changes() {
        let one = json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"});
        let two = |policy: &str| json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": policy});
        let with = |spec: &Value, key: &str, value: Value| {
            let mut spec = spec.clone();
            spec[key] = value;
            spec
        };
        let prefer = with(&one, "ipFamilyPolicy", json!("PreferDualStack"));
        let named = json!({"type": "ExternalName", "externalName": "x"});
        let to_single = json!({"type": "ClusterIP"});
        let release = |what: &str, policy: &str| {
            format!(
                r#"spec.ipFamilyPolicy: Invalid value: "{policy}": must be 'SingleStack' to release the secondary {what}"#
            )
        };
        let (v4, both) = (&[V4][..], &[V4, V6][..]);
        let cases = [
            // The policy stays when an update doesn't name it.
            (
                both,
                two("RequireDualStack"),
                with(&two("RequireDualStack"), "ipFamilyPolicy", Value::Null),
                r#"RequireDualStack 4,6 ["10.0.0.1","fd00::1"]"#.to_string(),
            ),
            // One more and one less, because the policy says so.
            (
                both,
                one.clone(),
                with(&one, "ipFamilyPolicy", json!("RequireDualStack")),
                r#"RequireDualStack 4,6 ["10.0.0.1"]"#.into(),
            ),
            (both, one.clone(), prefer.clone(), r#"PreferDualStack 4,6 ["10.0.0.1"]"#.into()),
            (v4, one.clone(), prefer.clone(), r#"PreferDualStack 4 ["10.0.0.1"]"#.into()),
            (v4, one.clone(), with(&one, "ipFamilyPolicy", json!("RequireDualStack")), NOT_DUAL.into()),
            (both, two("RequireDualStack"), two("SingleStack"), r#"SingleStack 4 ["10.0.0.1"]"#.into()),
            // Not because the cluster has another family now.
            (both, prefer.clone(), prefer.clone(), r#"PreferDualStack 4 ["10.0.0.1"]"#.into()),
            (
                v4,
                two("PreferDualStack"),
                two("PreferDualStack"),
                r#"PreferDualStack 4,6 ["10.0.0.1","fd00::1"]"#.into(),
            ),
            // Two can't become one by leaving it out.
            (
                both,
                two("PreferDualStack"),
                with(&two("PreferDualStack"), "ipFamilies", json!(["IPv4"])),
                release("IP family", "PreferDualStack"),
            ),
            (
                both,
                two("RequireDualStack"),
                with(&two("RequireDualStack"), "clusterIPs", json!(["10.0.0.1"])),
                release("cluster IP", "RequireDualStack"),
            ),
            // To and from a name.
            (both, named.clone(), to_single, "SingleStack 4".into()),
            (
                both,
                named,
                json!({"type": "NodePort", "ipFamilyPolicy": "PreferDualStack"}),
                "PreferDualStack 4,6".into(),
            ),
        ];
        for (cluster, old, new, expected) in cases {
            assert_eq!(settled(cluster, &new, Some(&old)), expected, "{old} to {new} in {cluster:?}");
        }
    }
}
