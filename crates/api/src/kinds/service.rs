//! Service. Cluster IPs and node ports themselves are handed out by the API server's allocators.

use super::columns;
use crate::strategy::{Column, NAME, NameRule, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::{labels, values};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct Service;

const AFFINITY_SECONDS: i64 = 10_800;
const AFFINITY_SECONDS_MAX: i64 = 86_400;
/// Where kubelets listen; a load balancer on it would expose them.
const KUBELET_PORT: i64 = 10250;

fn kind(spec: &Value) -> &str {
    text(spec, "type")
}

fn headless(spec: &Value) -> bool {
    texts(spec, "clusterIPs").first().copied().unwrap_or(text(spec, "clusterIP")) == "None"
}

fn needs_cluster_ip(spec: &Value) -> bool {
    ["ClusterIP", "NodePort", "LoadBalancer"].contains(&kind(spec))
}

fn needs_node_port(spec: &Value) -> bool {
    kind(spec) == "NodePort"
        || kind(spec) == "LoadBalancer" && field(spec, "allocateLoadBalancerNodePorts").as_bool() != Some(false)
}

fn needs_health_check_port(spec: &Value) -> bool {
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
        if let Some(lb) = object_mut(obj, "status").and_then(|s| object_mut(s, "loadBalancer")) {
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
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _has_status: bool) {
        copy_field(new, old, "status");
        normalize_cluster_ips(new, Some(field(old, "spec")));
        if let Some(spec) = object_mut(new, "spec") {
            keep_allocated(spec, field(old, "spec"));
            drop_type_dependent(spec, field(old, "spec"));
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        service(obj, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let (n, o) = (field(new, "spec"), field(old, "spec"));
        if needs_cluster_ip(n) && needs_cluster_ip(o) {
            let (nips, oips) = (texts(n, "clusterIPs"), texts(o, "clusterIPs"));
            let p = Path::new("spec.clusterIPs");
            match (nips.first(), oips.first()) {
                (None, Some(_)) => {
                    errors.invalid(p.clone(), field(n, "clusterIPs").clone(), "primary clusterIP can not be unset")
                }
                (Some(a), Some(b)) if a != b && !b.is_empty() => {
                    errors.invalid(p.index(0), field(n, "clusterIPs").clone(), "may not change once set")
                }
                _ => {}
            }
            if let (Some(a), Some(b)) = (nips.get(1), oips.get(1))
                && a != b
            {
                errors.invalid(p.index(1), field(n, "clusterIPs").clone(), "may not change once set");
            }
            let (nf, of) = (texts(n, "ipFamilies"), texts(o, "ipFamilies"));
            let p = Path::new("spec.ipFamilies");
            let shown = || field(n, "ipFamilies").clone();
            match (nf.first(), of.first()) {
                (None, Some(_)) => errors.invalid(p.clone(), shown(), "primary ipFamily can not be unset"),
                (Some(a), Some(b)) if a != b => errors.invalid(p.index(0), shown(), "may not change once set"),
                _ => {}
            }
            if let (Some(a), Some(b)) = (nf.get(1), of.get(1))
                && a != b
            {
                errors.invalid(p.index(1), shown(), "may not change once set");
            }
        }
        let class = |s: &Value| field(s, "loadBalancerClass").clone();
        if kind(n) == "LoadBalancer" && kind(o) == "LoadBalancer" && class(n) != class(o) {
            errors.invalid(Path::new("spec.loadBalancerClass"), class(n), "may not change once set");
        }
        let port = |s: &Value| int(s, "healthCheckNodePort").unwrap_or(0);
        if needs_health_check_port(n) && needs_health_check_port(o) && port(n) != port(o) {
            errors.forbidden(Path::new("spec.healthCheckNodePort"), values::IMMUTABLE);
        }
        service(new, errors);
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let ingress = list_at(new, &["status", "loadBalancer", "ingress"]);
        let p = Path::new("status.loadBalancer.ingress");
        if !ingress.is_empty() && text_at(new, &["spec", "type"]) != "LoadBalancer" {
            errors.forbidden(p.clone(), "may only be used when `spec.type` is \"LoadBalancer\"");
        }
        for (i, entry) in ingress.iter().enumerate() {
            let (ip, host) = (text(entry, "ip"), text(entry, "hostname"));
            if !ip.is_empty() {
                values::ip(ip, &p.index(i).child("ip"), errors);
            }
            let (mode, q) = (text(entry, "ipMode"), p.index(i).child("ipMode"));
            if ip.is_empty() && !mode.is_empty() {
                errors.forbidden(q, "may not be specified when `ip` is not set");
            } else if !ip.is_empty() && mode.is_empty() {
                errors.required(q, "must be specified when `ip` is set");
            } else if !mode.is_empty() {
                values::one_of(mode, &["Proxy", "VIP"], q, errors);
            }
            if !host.is_empty() {
                values::dns_subdomain(host, &p.index(i).child("hostname"), errors);
                if host.parse::<std::net::IpAddr>().is_ok() {
                    errors.invalid(p.index(i).child("hostname"), host, "must be a DNS name, not an IP address");
                }
            }
        }
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
            column("Type", "string", 0),
            column("Cluster-IP", "string", 0),
            column("External-IP", "string", 0),
            column("Port(s)", "string", 0),
            column("Age", "string", 0),
            column("Selector", "string", 1),
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

/// `clusterIP` and `clusterIPs[0]` are one value; a client that knows only one of them is right about it.
fn normalize_cluster_ips(obj: &mut Value, old: Option<&Value>) {
    let Some(spec) = object_mut(obj, "spec") else {
        return;
    };
    let (ip, ips) = (text(spec, "clusterIP").to_string(), texts(spec, "clusterIPs").len());
    match old {
        None => {
            if !ip.is_empty() && ips == 0 {
                set(spec, "clusterIPs", json!([ip]));
            } else if ip.is_empty() && ips > 0 {
                let first = texts(spec, "clusterIPs")[0].to_string();
                set(spec, "clusterIP", first);
            }
        }
        Some(old) => {
            let old_ip = text(old, "clusterIP");
            let ips_same = field(spec, "clusterIPs") == field(old, "clusterIPs");
            if old_ip.is_empty() && !ip.is_empty() && ips == 0 {
                set(spec, "clusterIPs", json!([ip]));
            } else if !old_ip.is_empty() && ip.is_empty() && ips_same {
                remove(spec, "clusterIPs");
            } else if !old_ip.is_empty() && ip != old_ip && !ip.is_empty() && ips_same {
                let mut all = list(spec, "clusterIPs").to_vec();
                if let Some(first) = all.first_mut() {
                    *first = json!(ip);
                }
                set(spec, "clusterIPs", Value::Array(all));
            }
        }
    }
}

/// What was allocated stays when an update just leaves it out (a replayed manifest).
fn keep_allocated(spec: &mut Value, old: &Value) {
    if needs_cluster_ip(spec) && needs_cluster_ip(old) {
        if text(spec, "clusterIP").is_empty() {
            copy_field(spec, old, "clusterIP");
        }
        if list(spec, "clusterIPs").is_empty() && text(spec, "clusterIP") == text(old, "clusterIP") {
            copy_field(spec, old, "clusterIPs");
        }
    }
    if needs_cluster_ip(spec) && needs_cluster_ip(old) {
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if is_zero(field(spec, key)) {
                copy_field(spec, old, key);
            }
        }
    }
    if needs_node_port(spec) && needs_node_port(old) {
        let mut used: Vec<i64> = list(spec, "ports").iter().filter_map(|p| int(p, "nodePort")).collect();
        for p in items_mut(spec, "ports") {
            if int(p, "nodePort").unwrap_or(0) != 0 {
                continue;
            }
            let was = list(old, "ports")
                .iter()
                .find(|o| text(o, "protocol") == text(p, "protocol") && int(o, "port") == int(p, "port"));
            if let Some(n) = was.and_then(|o| int(o, "nodePort"))
                && n != 0
                && !used.contains(&n)
            {
                used.push(n);
                set(p, "nodePort", n);
            }
        }
    }
    if needs_health_check_port(spec) && needs_health_check_port(old) && is_zero(field(spec, "healthCheckNodePort")) {
        copy_field(spec, old, "healthCheckNodePort");
    }
}

/// A change of type drops fields of the old type that the client left as they were.
fn drop_type_dependent(spec: &mut Value, old: &Value) {
    if needs_cluster_ip(old) && !needs_cluster_ip(spec) {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if same(field(spec, key), field(old, key)) {
                remove(spec, key);
            }
        }
    }
    if needs_node_port(old) && !needs_node_port(spec) {
        let before: Vec<Option<i64>> = list(old, "ports").iter().map(|p| int(p, "nodePort")).collect();
        let after: Vec<Option<i64>> = list(spec, "ports").iter().map(|p| int(p, "nodePort")).collect();
        if before == after {
            items_mut(spec, "ports").for_each(|p| remove(p, "nodePort"));
        }
    }
    let drop_when = [
        (needs_health_check_port(old) && !needs_health_check_port(spec), "healthCheckNodePort"),
        (external(old) && !external(spec), "externalTrafficPolicy"),
        (needs_cluster_ip(old) && !needs_cluster_ip(spec), "internalTrafficPolicy"),
        (kind(old) == "LoadBalancer" && kind(spec) != "LoadBalancer", "allocateLoadBalancerNodePorts"),
        (kind(old) == "LoadBalancer" && kind(spec) != "LoadBalancer", "loadBalancerClass"),
    ];
    for (drop, key) in drop_when {
        if drop && same(field(spec, key), field(old, key)) {
            remove(spec, key);
        }
    }
}

fn service(obj: &Value, errors: &mut Errors) {
    let (spec, path) = (field(obj, "spec"), Path::new("spec"));
    let (kind, ports) = (kind(spec), list(spec, "ports"));
    let ports_path = path.child("ports");
    if ports.is_empty() && !headless(spec) && kind != "ExternalName" {
        errors.required(ports_path.clone(), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" => {
            for (i, p) in ports.iter().enumerate() {
                if kind == "LoadBalancer" && int(p, "port") == Some(KUBELET_PORT) {
                    let text = "may not expose port 10250 externally since it is used by kubelet";
                    errors.invalid(ports_path.index(i), KUBELET_PORT, text);
                }
            }
            if headless(spec) {
                let text = format!("may not be set to 'None' for {kind} services");
                errors.invalid(path.child("clusterIPs").index(0), "None", text);
            }
        }
        "ExternalName" => external_name(spec, &path, errors),
        _ => {}
    }
    let mut names: Vec<&str> = Vec::new();
    for (i, p) in ports.iter().enumerate() {
        port(p, ports.len() > 1, &mut names, &ports_path.index(i), errors);
    }
    labels::labels(field(spec, "selector"), &path.child("selector"), errors);
    affinity(spec, &path, errors);
    cluster_ips(spec, &path, errors);
    for (i, ip) in texts(spec, "externalIPs").iter().enumerate() {
        let p = path.child("externalIPs").index(i);
        values::ip(ip, &p, errors);
        values::non_special_ip(ip, &p, errors);
    }
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    values::required_one_of(kind, &types, path.child("type"), errors);
    port_uniqueness(kind, ports, &ports_path, errors);
    load_balancer(spec, &path, errors);
    traffic_policies(spec, &path, errors);
}

fn external_name(spec: &Value, path: &Path, errors: &mut Errors) {
    for (key, what) in [
        ("clusterIPs", "may not be set for ExternalName services"),
        ("ipFamilies", "may not be set for ExternalName services"),
        ("ipFamilyPolicy", "may not be set for ExternalName services"),
    ] {
        if !is_zero(field(spec, key)) {
            errors.forbidden(path.child(key), what);
        }
    }
    // A trailing dot marks a fully qualified name.
    let name = text(spec, "externalName");
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errors.required(path.child("externalName"), ""),
        name => values::dns_subdomain(name, &path.child("externalName"), errors),
    }
}

fn port<'a>(p: &'a Value, named: bool, names: &mut Vec<&'a str>, path: &Path, errors: &mut Errors) {
    let name = text(p, "name");
    if name.is_empty() {
        if named {
            errors.required(path.child("name"), "");
        }
    } else {
        values::dns_label(name, &path.child("name"), errors);
        if names.contains(&name) {
            errors.duplicate(path.child("name"), name);
        }
        names.push(name);
    }
    values::port_number(int(p, "port").unwrap_or(0), path.child("port"), errors);
    values::required_one_of(text(p, "protocol"), &["SCTP", "TCP", "UDP"], path.child("protocol"), errors);
    values::port_or_name(field(p, "targetPort"), path.child("targetPort"), errors);
    if has(p, "appProtocol") {
        values::qualified_name(text(p, "appProtocol"), &path.child("appProtocol"), errors);
    }
    match int(p, "nodePort").unwrap_or(0) {
        0 => {}
        n => values::port_number(n, path.child("nodePort"), errors),
    }
}

fn affinity(spec: &Value, path: &Path, errors: &mut Errors) {
    let kind = text(spec, "sessionAffinity");
    values::required_one_of(kind, &["ClientIP", "None"], path.child("sessionAffinity"), errors);
    let config = field(spec, "sessionAffinityConfig");
    let p = path.child("sessionAffinityConfig");
    if kind == "ClientIP" {
        match int(field(config, "clientIP"), "timeoutSeconds") {
            None => errors.required(p, "when session affinity type is ClientIP"),
            Some(n) if n <= 0 || n > AFFINITY_SECONDS_MAX => {
                let text = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
                errors.invalid(p.child("clientIP.timeoutSeconds"), n, text);
            }
            Some(_) => {}
        }
    } else if !config.is_null() {
        errors.forbidden(p, "must not be set when session affinity is None");
    }
}

fn cluster_ips(spec: &Value, path: &Path, errors: &mut Errors) {
    if kind(spec) == "ExternalName" {
        return;
    }
    let p = path.child("clusterIPs");
    let ips = texts(spec, "clusterIPs");
    let ip = text(spec, "clusterIP");
    if !ip.is_empty() && ips.is_empty() {
        errors.required(p.clone(), "");
    } else if let Some(first) = ips.first()
        && *first != ip
    {
        errors.invalid(p.clone(), field(spec, "clusterIPs").clone(), "first value must match `clusterIP`");
    }
    if ips.len() > 2 {
        errors.invalid(p.clone(), field(spec, "clusterIPs").clone(), "may only hold up to 2 values");
    }
    for (i, ip) in ips.iter().enumerate() {
        if i > 0 && *ip == "None" {
            errors.invalid(
                p.index(i),
                *ip,
                "this must be empty or an IP address; 'None' may be given in the first value only",
            );
        }
        if *ip != "None" {
            values::ip(ip, &p.index(i), errors);
        }
    }
    if let [a, b] = ips[..]
        && let (Ok(x), Ok(y)) = (a.parse::<std::net::IpAddr>(), b.parse::<std::net::IpAddr>())
        && x.is_ipv4() == y.is_ipv4()
    {
        let text = "may specify no more than one IP for each IP family";
        errors.invalid(p, field(spec, "clusterIPs").clone(), text);
    }
    let families = texts(spec, "ipFamilies");
    for (i, f) in families.iter().enumerate() {
        let p = path.child("ipFamilies").index(i);
        values::one_of(f, &["IPv4", "IPv6"], p.clone(), errors);
        if families.iter().take(i).any(|o| o == f) {
            errors.duplicate(p, *f);
        }
    }
    if has(spec, "ipFamilyPolicy") {
        let supported = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        values::one_of(text(spec, "ipFamilyPolicy"), &supported, path.child("ipFamilyPolicy"), errors);
    }
}

fn port_uniqueness(kind: &str, ports: &[Value], path: &Path, errors: &mut Errors) {
    for (i, p) in ports.iter().enumerate() {
        let node = int(p, "nodePort").unwrap_or(0);
        if node != 0 && kind == "ClusterIP" {
            errors.forbidden(path.index(i).child("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
        let before = || ports.iter().take(i).filter(|o| text(o, "protocol") == text(p, "protocol"));
        if node != 0 && before().any(|o| int(o, "nodePort") == Some(node)) {
            errors.duplicate(path.index(i).child("nodePort"), node);
        }
        if before().any(|o| int(o, "port") == int(p, "port")) {
            errors.duplicate(path.index(i), json!({"port": field(p, "port"), "protocol": text(p, "protocol")}));
        }
    }
}

fn load_balancer(spec: &Value, path: &Path, errors: &mut Errors) {
    let is = kind(spec) == "LoadBalancer";
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    let ranges = texts(spec, "loadBalancerSourceRanges");
    let p = path.child("loadBalancerSourceRanges");
    if !ranges.is_empty() && !is {
        errors.forbidden(p.clone(), ONLY);
    }
    for (i, r) in ranges.iter().enumerate() {
        values::cidr(r.trim(), &p.index(i), errors);
    }
    if is && !has(spec, "allocateLoadBalancerNodePorts") {
        errors.required(path.child("allocateLoadBalancerNodePorts"), "field is required when `type` is LoadBalancer");
    } else if !is && has(spec, "allocateLoadBalancerNodePorts") {
        errors.forbidden(path.child("allocateLoadBalancerNodePorts"), ONLY);
    }
    if has(spec, "loadBalancerClass") {
        if is {
            values::qualified_name(text(spec, "loadBalancerClass"), &path.child("loadBalancerClass"), errors);
        } else {
            errors.forbidden(path.child("loadBalancerClass"), ONLY);
        }
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
    }
    if needs_cluster_ip(spec) {
        let inner = text(spec, "internalTrafficPolicy");
        values::required_one_of(inner, &["Cluster", "Local"], path.child("internalTrafficPolicy"), errors);
    }
    if has(spec, "trafficDistribution") {
        let supported = ["PreferClose", "PreferSameNode", "PreferSameZone"];
        values::one_of(text(spec, "trafficDistribution"), &supported, path.child("trafficDistribution"), errors);
    }
}
