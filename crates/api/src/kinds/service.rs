//! Service. Cluster IPs and node ports themselves are handed out by the API server's allocators.

use super::columns;
use crate::strategy::{AGE, Column, NAME, NameRule, Now, Strategy, column_of};
use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::{labels, values};
use meta::field::{Errors, Path};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

pub struct Service;

const AFFINITY_SECONDS: i64 = 10_800;
const AFFINITY_SECONDS_MAX: i64 = 86_400;

fn kind(spec: &Value) -> &str {
    text(spec, "type")
}

pub fn headless(spec: &Value) -> bool {
    match list(spec, "clusterIPs") {
        [] => text(spec, "clusterIP") == "None",
        [one] => *one == "None",
        _ => false,
    }
}

fn needs_cluster_ip(spec: &Value) -> bool {
    ["ClusterIP", "NodePort", "LoadBalancer"].contains(&kind(spec))
}

pub fn needs_node_port(spec: &Value) -> bool {
    kind(spec) == "NodePort"
        || kind(spec) == "LoadBalancer" && field(spec, "allocateLoadBalancerNodePorts").as_bool() != Some(false)
}

pub fn needs_health_check_port(spec: &Value) -> bool {
    kind(spec) == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

/// Reachable from outside through the cluster's nodes.
fn external(spec: &Value) -> bool {
    matches!(kind(spec), "NodePort" | "LoadBalancer")
        || kind(spec) == "ClusterIP" && !list(spec, "externalIPs").is_empty()
}

impl Strategy for Service {
    fn defaults(&self, obj: &mut Value) {
        let Some(spec) = ensure_object(obj, "spec") else {
            return;
        };
        fill_zero(spec, "sessionAffinity", "None");
        match text(spec, "sessionAffinity") {
            "None" => remove(spec, "sessionAffinityConfig"),
            "ClientIP" => {
                if let Some(c) = ensure_object(spec, "sessionAffinityConfig").and_then(|c| ensure_object(c, "clientIP"))
                {
                    fill(c, "timeoutSeconds", AFFINITY_SECONDS);
                }
            }
            _ => {}
        }
        fill_zero(spec, "type", "ClusterIP");
        for p in items_mut(spec, "ports") {
            fill_zero(p, "protocol", "TCP");
            let port = field(p, "port").clone();
            if !port.is_null() {
                fill_zero(p, "targetPort", port);
            }
        }
        if external(spec) {
            fill_zero(spec, "externalTrafficPolicy", "Cluster");
        }
        if needs_cluster_ip(spec) {
            fill(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind(spec) == "LoadBalancer" {
            fill(spec, "allocateLoadBalancerNodePorts", true);
        }
        if text_at(obj, &["spec", "type"]) == "LoadBalancer"
            && let Some(lb) = object_at_mut(obj, &["status", "loadBalancer"])
        {
            for i in items_mut(lb, "ingress") {
                if !text(i, "ip").is_empty() {
                    fill(i, "ipMode", "VIP");
                }
            }
        }
    }

    fn prepare_create(&self, obj: &mut Value, _has_status: bool) {
        set(obj, "status", json!({"loadBalancer": {}}));
        normalize_cluster_ips(obj, None);
        drop_internal_policy(obj);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _has_status: bool) {
        copy_field(new, old, "status");
        if let Some(spec) = object_mut(new, "spec") {
            keep_allocated(spec, field(old, "spec"));
        }
        normalize_cluster_ips(new, Some(field(old, "spec")));
        if let Some(spec) = object_mut(new, "spec") {
            drop_type_dependent(spec, field(old, "spec"));
        }
        if text_at(new, &["spec", "type"]) != "LoadBalancer"
            && let Some(status) = object_mut(new, "status")
        {
            set(status, "loadBalancer", json!({}));
        }
        drop_internal_policy(new);
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        service(obj, &Value::Null, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let (n, o) = (field(new, "spec"), field(old, "spec"));
        if kind(n) != "ExternalName" && kind(o) != "ExternalName" {
            changed_cluster_ips(n, o, errors);
            changed_families(n, o, errors);
        }
        let class = |s: &Value| field(s, "loadBalancerClass").clone();
        if kind(n) == "LoadBalancer" && kind(o) == "LoadBalancer" && class(n) != class(o) {
            errors.invalid(Path::new("spec.loadBalancerClass"), class(n), "may not change once set");
        }
        load_balancer_class(n, errors);
        let port = |s: &Value| int(s, "healthCheckNodePort").unwrap_or(0);
        if needs_health_check_port(n) && needs_health_check_port(o) && port(n) != port(o) {
            errors.forbidden(Path::new("spec.healthCheckNodePort"), values::IMMUTABLE);
        }
        service(new, old, errors);
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        load_balancer_status(new, old, errors);
    }

    fn status_warnings(&self, new: &Value, _old: &Value) -> Vec<String> {
        let mut out = Vec::new();
        for (i, e) in list_at(new, &["status", "loadBalancer", "ingress"]).iter().enumerate() {
            values::ip_warnings(text(e, "ip"), &Path::new("status.loadBalancer.ingress").index(i), &mut out);
        }
        out
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings(new)
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        vec![
            ("spec.clusterIP", text_at(obj, &["spec", "clusterIP"]).to_string()),
            ("spec.type", text_at(obj, &["spec", "type"]).to_string()),
        ]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column_of("Type", "string", 0, "api.core.v1.ServiceSpec.type"),
            column_of("Cluster-IP", "string", 0, "api.core.v1.ServiceSpec.clusterIP"),
            column_of("External-IP", "string", 0, "api.core.v1.ServiceSpec.externalIPs"),
            column_of("Port(s)", "string", 0, "api.core.v1.ServiceSpec.ports"),
            AGE,
            column_of("Selector", "string", 1, "api.core.v1.ServiceSpec.selector"),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let spec = field(obj, "spec");
        let cluster_ip = texts(spec, "clusterIPs").first().copied().unwrap_or(text(spec, "clusterIP"));
        vec![
            columns::name(obj),
            json!(kind(spec)),
            columns::or_none(cluster_ip),
            json!(external_ip(obj)),
            json!(ports_cell(spec)),
            columns::age_cell(obj, now),
            columns::labels(field(spec, "selector")),
        ]
    }

    fn name_rule(&self) -> NameRule {
        // Relaxed in 1.36 (KEP-5311) from a label that starts with a letter.
        NameRule::Label
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

/// Upstream: `GetWarningsForService`.
fn warnings(obj: &Value) -> Vec<String> {
    let (spec, path, mut out) = (field(obj, "spec"), Path::new("spec"), Vec::new());
    let external = texts(spec, "externalIPs");
    if has(at(obj, &["metadata", "annotations"]), "service.kubernetes.io/topology-aware-hints") {
        out.push(
            "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead"
                .to_string(),
        );
    }
    let headless = kind(spec) == "ClusterIP" && headless(spec);
    if headless {
        if !text(spec, "loadBalancerIP").is_empty() {
            out.push("spec.loadBalancerIP is ignored for headless services".to_string());
        }
        if !external.is_empty() {
            out.push("spec.externalIPs is ignored for headless services".to_string());
        }
        if text(spec, "sessionAffinity") != "None" {
            out.push("spec.SessionAffinity is ignored for headless services".to_string());
        }
    } else {
        for (i, ip) in texts(spec, "clusterIPs").iter().enumerate() {
            values::ip_warnings(ip, &path.child("clusterIPs").index(i), &mut out);
        }
    }
    for (i, ip) in external.iter().enumerate() {
        values::ip_warnings(ip, &path.child("externalIPs").index(i), &mut out);
    }
    let by_name = kind(spec) == "ExternalName";
    if !external.is_empty() && !headless && !by_name {
        out.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_string());
    }
    values::ip_warnings(text(spec, "loadBalancerIP"), &path.child("loadBalancerIP"), &mut out);
    for (i, range) in texts(spec, "loadBalancerSourceRanges").iter().enumerate() {
        values::cidr_warnings(range, &path.child("loadBalancerSourceRanges").index(i), &mut out);
    }
    if by_name && !external.is_empty() {
        out.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_string());
    }
    if !by_name && !text(spec, "externalName").is_empty() {
        out.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_string());
    }
    if text(spec, "trafficDistribution") == "PreferClose" {
        out.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_string());
    }
    out
}

fn external_ip(service: &Value) -> String {
    let spec = field(service, "spec");
    let ips = texts(spec, "externalIPs").join(",");
    match kind(spec) {
        "ClusterIP" | "NodePort" => {
            if ips.is_empty() {
                "<none>".to_string()
            } else {
                ips
            }
        }
        "LoadBalancer" => {
            let mut all: Vec<&str> = list_at(service, &["status", "loadBalancer", "ingress"])
                .iter()
                .map(|i| if text(i, "ip").is_empty() { text(i, "hostname") } else { text(i, "ip") })
                .filter(|s| !s.is_empty())
                .collect();
            all.sort_unstable();
            all.dedup();
            all.extend(texts(spec, "externalIPs"));
            if all.is_empty() { "<pending>".to_string() } else { all.join(",") }
        }
        "ExternalName" => text(spec, "externalName").to_string(),
        _ => "<unknown>".to_string(),
    }
}

fn ports_cell(spec: &Value) -> String {
    let all: Vec<String> = list(spec, "ports")
        .iter()
        .map(|p| {
            let (port, protocol) = (int(p, "port").unwrap_or(0), text(p, "protocol"));
            match int(p, "nodePort").unwrap_or(0) {
                0 => format!("{port}/{protocol}"),
                node => format!("{port}:{node}/{protocol}"),
            }
        })
        .collect();
    if all.is_empty() { "<none>".to_string() } else { all.join(",") }
}

/// Who knows only `clusterIP` means the first of `clusterIPs`; who knows both says both.
fn normalize_cluster_ips(obj: &mut Value, old: Option<&Value>) {
    let Some(spec) = object_mut(obj, "spec") else {
        return;
    };
    let ip = text(spec, "clusterIP").to_string();
    let Some(old) = old else {
        if !ip.is_empty() && list(spec, "clusterIPs").is_empty() {
            set(spec, "clusterIPs", json!([ip]));
        }
        return;
    };
    if ip == text(old, "clusterIP") {
        if list(spec, "clusterIPs").is_empty() {
            copy_field(spec, old, "clusterIPs");
        }
    } else if list(spec, "clusterIPs") == list(old, "clusterIPs") {
        match ip.is_empty() {
            true => remove(spec, "clusterIPs"),
            false => set(spec, "clusterIPs", json!([ip])),
        }
    }
}

/// What was allocated stays when an update just leaves it out (a replayed manifest).
fn keep_allocated(spec: &mut Value, old: &Value) {
    if kind(spec) != "ExternalName" && kind(old) != "ExternalName" {
        for key in ["clusterIP", "clusterIPs"] {
            if is_zero(field(spec, key)) {
                copy_field(spec, old, key);
            }
        }
    }
    if needs_node_port(spec) && needs_node_port(old) {
        let used: HashSet<i64> = list(spec, "ports").iter().filter_map(|p| int(p, "nodePort")).collect();
        // Of two ports of one name, which validation won't have, the last one tells.
        let given: HashMap<&str, i64> =
            list(old, "ports").iter().map(|p| (text(p, "name"), int(p, "nodePort").unwrap_or(0))).collect();
        for p in items_mut(spec, "ports").filter(|p| is_zero(field(p, "nodePort"))) {
            let was = given.get(text(p, "name")).copied().unwrap_or(0);
            if was != 0 && !used.contains(&was) {
                set(p, "nodePort", was);
            }
        }
    }
    if needs_health_check_port(spec) && needs_health_check_port(old) && is_zero(field(spec, "healthCheckNodePort")) {
        copy_field(spec, old, "healthCheckNodePort");
    }
}

/// What ExternalNames have no use for, though it is their default.
fn drop_internal_policy(obj: &mut Value) {
    if let Some(spec) = object_mut(obj, "spec")
        && kind(spec) == "ExternalName"
    {
        remove(spec, "internalTrafficPolicy");
    }
}

/// A change of type drops fields of the old type that the client left as they were.
fn drop_type_dependent(spec: &mut Value, old: &Value) {
    let kept = |spec: &Value, key: &str| same(field(spec, key), field(old, key));
    if kind(old) != "ExternalName" && kind(spec) == "ExternalName" {
        if kept(spec, "clusterIP") && kept(spec, "clusterIPs") {
            remove(spec, "clusterIP");
            remove(spec, "clusterIPs");
        }
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if kept(spec, key) {
                remove(spec, key);
            }
        }
    }
    let by_node = |spec: &Value| ["NodePort", "LoadBalancer"].contains(&kind(spec));
    if by_node(old) && !by_node(spec) {
        let ports = |s: &Value| list(s, "ports").iter().filter_map(|p| int(p, "nodePort")).collect::<HashSet<i64>>();
        let before = ports(old);
        if ports(spec).iter().all(|n| *n == 0 || before.contains(n)) {
            items_mut(spec, "ports").for_each(|p| remove(p, "nodePort"));
        }
    }
    let left = |was: fn(&Value) -> bool| was(old) && !was(spec);
    let balanced = |s: &Value| kind(s) == "LoadBalancer";
    let gone: Vec<&str> = [
        (left(needs_health_check_port), "healthCheckNodePort"),
        (left(balanced) && has(spec, "allocateLoadBalancerNodePorts"), "allocateLoadBalancerNodePorts"),
        (left(balanced), "loadBalancerClass"),
        (left(external), "externalTrafficPolicy"),
    ]
    .into_iter()
    .filter(|(gone, key)| *gone && kept(spec, key))
    .map(|g| g.1)
    .collect();
    gone.into_iter().for_each(|key| remove(spec, key));
}

fn changed_cluster_ips(n: &Value, o: &Value, errors: &mut Errors) {
    if headless(n) && headless(o) {
        return;
    }
    const SET: &str = "may not change once set";
    let (is, was, p) = (texts(n, "clusterIPs"), texts(o, "clusterIPs"), Path::new("spec.clusterIPs"));
    let shown = || Value::Array(list(n, "clusterIPs").to_vec());
    if is.len() == was.len() {
        for (i, _) in is.iter().zip(&was).enumerate().filter(|(_, (a, b))| a != b) {
            errors.invalid(p.index(i), shown(), SET);
        }
        return;
    }
    if is.is_empty() {
        errors.invalid(p.index(0), shown(), "primary clusterIP can not be unset");
    }
    if let (Some(a), Some(b)) = (is.first(), was.first())
        && a != b
    {
        errors.invalid(p.index(0), shown(), SET);
    }
    if was.len() > is.len() && is.len() == 1 {
        single_stack(n, "clusterIP", errors);
    }
}

fn changed_families(n: &Value, o: &Value, errors: &mut Errors) {
    if headless(n) || headless(o) {
        return;
    }
    const SET: &str = "may not change once set";
    let (is, was, p) = (texts(n, "ipFamilies"), texts(o, "ipFamilies"), Path::new("spec.ipFamilies").index(0));
    let shown = |key: &str| Value::Array(list(n, key).to_vec());
    if is.len() == was.len() {
        for _ in is.iter().zip(&was).filter(|(a, b)| a != b) {
            errors.invalid(p.clone(), shown("ipFamilies"), SET);
        }
        return;
    }
    if was.len() > is.len() && list(n, "clusterIPs").is_empty() {
        errors.invalid(p.clone(), shown("ipFamilies"), "primary ipFamily can not be unset");
    }
    if let (Some(a), Some(b)) = (is.first(), was.first())
        && a != b
    {
        // The addresses, not the families, are what upstream shows here.
        errors.invalid(p, shown("clusterIPs"), SET);
    }
    if was.len() > is.len() && is.len() == 1 {
        single_stack(n, "ipFamily", errors);
    }
}

fn single_stack(n: &Value, what: &str, errors: &mut Errors) {
    if text(n, "ipFamilyPolicy") != "SingleStack" {
        let text = format!("must be set to 'SingleStack' when releasing the secondary {what}");
        errors.invalid(Path::new("spec.ipFamilyPolicy"), field(n, "ipFamilyPolicy").clone(), text);
    }
}

/// Also of Ingresses, in a form of their own there.
fn load_balancer_status(new: &Value, old: &Value, errors: &mut Errors) {
    let ingress = list_at(new, &["status", "loadBalancer", "ingress"]);
    let before: Seen<&str> =
        list_at(old, &["status", "loadBalancer", "ingress"]).iter().map(|e| text(e, "ip")).collect();
    let p = Path::new("status.loadBalancer.ingress");
    if !ingress.is_empty() && text_at(new, &["spec", "type"]) != "LoadBalancer" {
        errors.forbidden(p, "may only be used when `spec.type` is 'LoadBalancer'");
        return;
    }
    for (i, entry) in ingress.iter().enumerate() {
        let (ip, host, p) = (text(entry, "ip"), text(entry, "hostname"), p.index(i));
        if !ip.is_empty() {
            values::ip_or_old(ip, &before, &p.child("ip"), errors);
        }
        let q = p.child("ipMode");
        match (has(entry, "ipMode"), ip.is_empty()) {
            (false, false) => errors.required(q, "must be specified when `ip` is set"),
            (true, true) => errors.forbidden(q, "may not be specified when `ip` is not set"),
            (true, false) => values::one_of(text(entry, "ipMode"), &["Proxy", "VIP"], q, errors),
            (false, true) => {}
        }
        if !host.is_empty() {
            values::host_name(host, &p.child("hostname"), errors);
        }
    }
}

/// `old`: the older version, or null. What it held of addresses may stay as it is.
fn service(obj: &Value, old: &Value, errors: &mut Errors) {
    let (spec, path) = (field(obj, "spec"), Path::new("spec"));
    let notes = at(obj, &["metadata", "annotations"]);
    let (hints, mode) = ("service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode");
    if has(notes, hints) && has(notes, mode) && field(notes, hints) != field(notes, mode) {
        let text = format!("must match annotations[{hints}] when both are specified");
        errors.invalid(Path::new("metadata.annotations").key(mode), field(notes, mode).clone(), text);
    }
    let (kind, ports) = (kind(spec), list(spec, "ports"));
    let ports_path = path.child("ports");
    if ports.is_empty() && !headless(spec) && kind != "ExternalName" {
        errors.required(ports_path.clone(), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" => {
            if headless(spec) {
                let text = format!("may not be set to 'None' for {kind} services");
                errors.invalid(path.child("clusterIPs").index(0), "None", text);
            }
        }
        "ExternalName" => external_name(spec, &path, errors),
        _ => {}
    }
    let mut names: Seen<&str> = Seen::default();
    for (i, p) in ports.iter().enumerate() {
        port(p, ports.len() > 1, &mut names, &ports_path.index(i), errors);
    }
    labels::labels(field(spec, "selector"), &path.child("selector"), errors);
    affinity(spec, &path, errors);
    check_cluster_ips(obj, old, errors);
    let before: Seen<&str> = texts(field(old, "spec"), "externalIPs").into_iter().collect();
    for (i, ip) in texts(spec, "externalIPs").iter().enumerate() {
        let p = path.child("externalIPs").index(i);
        let faults = errors.0.len();
        values::ip_or_old(ip, &before, &p, errors);
        if errors.0.len() == faults {
            values::non_special_ip(ip, &p, errors);
        }
    }
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    values::required_one_of(kind, &types, path.child("type"), errors);
    port_uniqueness(kind, ports, &ports_path, errors);
    source_ranges(obj, old, errors);
    if kind == "LoadBalancer" && !has(spec, "allocateLoadBalancerNodePorts") {
        errors.required(Path::new("allocateLoadBalancerNodePorts"), "");
    } else if kind != "LoadBalancer" && has(spec, "allocateLoadBalancerNodePorts") {
        errors.forbidden(path.child("allocateLoadBalancerNodePorts"), ONLY_BALANCED);
    }
    load_balancer_class(spec, errors);
    traffic_policies(spec, &path, errors);
}

fn external_name(spec: &Value, path: &Path, errors: &mut Errors) {
    for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if !is_zero(field(spec, key)) {
            errors.forbidden(path.child(key), "may not be set for ExternalName services");
        }
    }
    // A trailing dot marks a fully qualified name.
    let name = text(spec, "externalName");
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errors.required(path.child("externalName"), ""),
        name => values::dns_subdomain(name, &path.child("externalName"), errors),
    }
}

fn port<'a>(p: &'a Value, named: bool, names: &mut Seen<&'a str>, path: &Path, errors: &mut Errors) {
    let name = text(p, "name");
    if name.is_empty() {
        if named {
            errors.required(path.child("name"), "");
        }
    } else {
        values::dns_label(name, &path.child("name"), errors);
        if names.again(name) {
            errors.duplicate(path.child("name"), name);
        }
    }
    values::port_number(int(p, "port").unwrap_or(0), path.child("port"), errors);
    values::required_one_of(text(p, "protocol"), &["SCTP", "TCP", "UDP"], path.child("protocol"), errors);
    values::port_or_name(field(p, "targetPort"), path.child("targetPort"), errors);
    if has(p, "appProtocol") {
        values::qualified_name(text(p, "appProtocol"), &path.child("appProtocol"), errors);
    }
}

fn affinity(spec: &Value, path: &Path, errors: &mut Errors) {
    let kind = text(spec, "sessionAffinity");
    values::required_one_of(kind, &["ClientIP", "None"], path.child("sessionAffinity"), errors);
    let config = field(spec, "sessionAffinityConfig");
    let p = path.child("sessionAffinityConfig");
    if kind == "ClientIP" {
        const TEXT: &str = "when session affinity type is ClientIP";
        let seconds = p.child("clientIP.timeoutSeconds");
        match int(field(config, "clientIP"), "timeoutSeconds") {
            None if config.is_null() => errors.required(p, TEXT),
            None if !has(config, "clientIP") => errors.required(p.child("clientIP"), TEXT),
            None => errors.required(seconds, TEXT),
            Some(n) if n <= 0 || n > AFFINITY_SECONDS_MAX => {
                let text = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
                errors.invalid(seconds, n, text);
            }
            Some(_) => {}
        }
    } else if kind == "None" && !config.is_null() {
        errors.forbidden(p, "must not be set when session affinity is None");
    }
}

/// `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy`; also before addresses are given out.
pub fn check_cluster_ips(obj: &Value, old: &Value, errors: &mut Errors) {
    let (spec, path) = (field(obj, "spec"), Path::new("spec"));
    if kind(spec) == "ExternalName" {
        return;
    }
    let before: Seen<&str> = texts(field(old, "spec"), "clusterIPs").into_iter().collect();
    let p = path.child("clusterIPs");
    let ips = texts(spec, "clusterIPs");
    let ip = text(spec, "clusterIP");
    let shown = || field(spec, "clusterIPs").clone();
    match (ip.is_empty(), ips.first()) {
        (false, None) => errors.required(p.clone(), ""),
        (false, Some(first)) if *first != ip => {
            errors.invalid(p.clone(), shown(), "first value must match `clusterIP`")
        }
        (true, Some(_)) => errors.invalid(p.clone(), shown(), "must be empty when `clusterIP` is not specified"),
        _ => {}
    }
    let families = texts(spec, "ipFamilies");
    let mut seen = Seen::default();
    for (i, f) in families.iter().enumerate() {
        let p = path.child("ipFamilies").index(i);
        values::one_of(f, &["IPv4", "IPv6"], p.clone(), errors);
        if seen.again(f) {
            errors.duplicate(p, *f);
        }
    }
    if has(spec, "ipFamilyPolicy") {
        let supported = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        values::one_of(text(spec, "ipFamilyPolicy"), &supported, path.child("ipFamilyPolicy"), errors);
    }
    let faults = errors.0.len();
    for (i, ip) in ips.iter().enumerate() {
        if i == 0 && *ip == "None" {
            if ips.len() > 1 {
                errors.invalid(p.clone(), shown(), "'None' must be the first and only value");
            }
            continue;
        }
        values::ip_or_old(ip, &before, &p.index(i), errors);
    }
    let readable = errors.0.len() == faults;
    if ips.len() > 2 {
        errors.invalid(p.clone(), shown(), "may only hold up to 2 values");
    }
    if !readable {
        return;
    }
    // Of more than two, more than one is of a family, too.
    let v6 = |ip: &str| ip.contains(':');
    if ips.len() > 1 && !(ips.iter().any(|a| v6(a)) && ips.iter().any(|a| !v6(a))) {
        errors.invalid(p.clone(), shown(), "may specify no more than one IP for each IP family");
    }
    if headless(spec) {
        return;
    }
    for (i, (ip, family)) in ips.iter().zip(&families).enumerate() {
        if (*family == "IPv4" && v6(ip)) || (*family == "IPv6" && !v6(ip)) {
            errors.invalid(p.index(i), *ip, format!("expected an {family} value as indicated by `ipFamilies[{i}]`"));
        }
    }
}

fn port_uniqueness(kind: &str, ports: &[Value], path: &Path, errors: &mut Errors) {
    let node = |p: &Value| int(p, "nodePort").unwrap_or(0);
    for (i, _) in ports.iter().enumerate().filter(|(_, p)| kind == "ClusterIP" && node(p) != 0) {
        errors.forbidden(path.index(i).child("nodePort"), "may not be used when `type` is 'ClusterIP'");
    }
    let (mut node_ports, mut own) = (Seen::default(), Seen::default());
    for (i, p) in ports.iter().enumerate() {
        if node(p) != 0 && node_ports.again((text(p, "protocol"), node(p))) {
            errors.duplicate(path.index(i).child("nodePort"), node(p));
        }
    }
    for (i, p) in ports.iter().enumerate() {
        if own.again((text(p, "protocol"), int(p, "port"))) {
            errors.duplicate(path.index(i), json!({"port": field(p, "port"), "protocol": text(p, "protocol")}));
        }
    }
}

const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";

/// Who may use a load balancer, by the field or by the annotation of old.
fn source_ranges(obj: &Value, old: &Value, errors: &mut Errors) {
    const NOTE: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let spec = field(obj, "spec");
    let ranges = texts(spec, "loadBalancerSourceRanges");
    let balanced = kind(spec) == "LoadBalancer";
    if !ranges.is_empty() {
        // Upstream writes it with a capital.
        let p = Path::new("spec.LoadBalancerSourceRanges");
        if !balanced {
            errors.forbidden(p.clone(), ONLY_BALANCED);
        }
        let before: Seen<&str> =
            texts(field(old, "spec"), "loadBalancerSourceRanges").into_iter().map(str::trim).collect();
        for (i, r) in ranges.iter().enumerate() {
            values::cidr_or_old(r.trim(), &before, &p.index(i), errors);
        }
        return;
    }
    let note = |o: &Value| at(o, &["metadata", "annotations", NOTE]).as_str().map(str::to_string);
    let Some(value) = note(obj) else {
        return;
    };
    let p = Path::new("metadata.annotations").key(NOTE);
    if !balanced {
        errors.forbidden(p.clone(), ONLY_BALANCED);
    }
    if note(old).as_ref() != Some(&value) && !value.trim().is_empty() {
        for range in value.split(',') {
            values::cidr(range.trim(), &p, errors);
        }
    }
}

fn load_balancer_class(spec: &Value, errors: &mut Errors) {
    if !has(spec, "loadBalancerClass") {
        return;
    }
    let p = Path::new("spec.loadBalancerClass");
    if kind(spec) == "LoadBalancer" {
        values::qualified_name(text(spec, "loadBalancerClass"), &p, errors);
    } else {
        errors.forbidden(p, ONLY_BALANCED);
    }
}

fn traffic_policies(spec: &Value, path: &Path, errors: &mut Errors) {
    let outer = text(spec, "externalTrafficPolicy");
    let p = path.child("externalTrafficPolicy");
    if outer.is_empty() {
        if external(spec) {
            errors.required(p, "");
        }
    } else if !external(spec) {
        errors.invalid(p, outer, "may only be set for externally-accessible services");
    } else {
        values::one_of(outer, &["Cluster", "Local"], p, errors);
    }
    let health = int(spec, "healthCheckNodePort").unwrap_or(0);
    if health != 0 && !needs_health_check_port(spec) {
        let text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.invalid(path.child("healthCheckNodePort"), health, text);
    } else if health != 0 {
        values::port_number(health, path.child("healthCheckNodePort"), errors);
    }
    let p = path.child("internalTrafficPolicy");
    if has(spec, "internalTrafficPolicy") {
        values::one_of(text(spec, "internalTrafficPolicy"), &["Cluster", "Local"], p, errors);
    } else if needs_cluster_ip(spec) {
        errors.required(p, "");
    }
    if has(spec, "trafficDistribution") {
        let supported = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        values::one_of(text(spec, "trafficDistribution"), &supported, path.child("trafficDistribution"), errors);
    }
}
