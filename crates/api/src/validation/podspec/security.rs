//! `securityContext` of pods and containers.

use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::values;
use meta::field::{Errors, Path};
use regex::Regex;
use serde_json::Value;
use std::sync::LazyLock;

const ID_MAX: i64 = i32::MAX as i64;
const SYSCTL: &str = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
static SYSCTL_RE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(&format!("^{SYSCTL}$")).ok());

pub fn pod(spec: &Value, spec_path: &Path, errors: &mut Errors) {
    let sc = field(spec, "securityContext");
    let path = spec_path.child("securityContext");
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(field(sc, key), path.child(key), errors);
    }
    for (i, g) in list(sc, "supplementalGroups").iter().enumerate() {
        id(g, path.child("supplementalGroups").index(i), errors);
    }
    // A field of the spec itself in v1, but part of the security context in upstream's internal type.
    if flag(spec, "hostPID") && flag(spec, "shareProcessNamespace") {
        let text = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(path.child("shareProcessNamespace"), true, text);
    }
    sysctls(spec, list(sc, "sysctls"), &path.child("sysctls"), errors);
    let one_of = |key: &str, supported: &[&str], errors: &mut Errors| {
        if has(sc, key) {
            values::one_of(text(sc, key), supported, path.child(key), errors);
        }
    };
    one_of("fsGroupChangePolicy", &["Always", "OnRootMismatch"], errors);
    seccomp(field(sc, "seccompProfile"), &path.child("seccompProfile"), errors);
    windows(field(sc, "windowsOptions"), &path.child("windowsOptions"), errors);
    apparmor(field(sc, "appArmorProfile"), &path.child("appArmorProfile"), errors);
    one_of("supplementalGroupsPolicy", &["Merge", "Strict"], errors);
    one_of("seLinuxChangePolicy", &["MountOption", "Recursive"], errors);
}

fn id(v: &Value, path: Path, errors: &mut Errors) {
    if let Some(n) = v.as_i64() {
        user_id(n, path, errors);
    }
}

pub fn user_id(n: i64, path: Path, errors: &mut Errors) {
    if !(0..=ID_MAX).contains(&n) {
        errors.invalid(path, n, values::between(0, ID_MAX));
    }
}

pub fn group_id(n: i64, path: Path, errors: &mut Errors) {
    user_id(n, path, errors);
}

fn sysctls(spec: &Value, sysctls: &[Value], path: &Path, errors: &mut Errors) {
    let mut seen: Seen<&str> = Seen::default();
    for (i, s) in sysctls.iter().enumerate() {
        let p = path.index(i).child("name");
        let name = text(s, "name");
        let again = seen.again(name);
        if name.is_empty() {
            errors.required(p.clone(), "");
        } else if name.len() > 253 || !SYSCTL_RE.as_ref().is_some_and(|r| r.is_match(name)) {
            errors.invalid(p.clone(), name, format!("must have at most 253 characters and match regex ^{SYSCTL}$"));
        } else if again {
            errors.duplicate(p.clone(), name);
        }
        // Of two separators the first one in the name is the one that is meant.
        let slashes = name.find(['.', '/']).is_some_and(|at| name[at..].starts_with('/'));
        let plain = if slashes { name.replace('/', ".") } else { name.to_string() };
        let ipc =
            ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|s| plain.starts_with(s)) || plain == "kernel.sem";
        if flag(spec, "hostNetwork") && plain.starts_with("net.") {
            errors.invalid(p, name, "may not be specified when 'hostNetwork' is true");
        } else if flag(spec, "hostIPC") && ipc {
            errors.invalid(p, name, "may not be specified when 'hostIPC' is true");
        }
    }
}

fn seccomp(profile: &Value, path: &Path, errors: &mut Errors) {
    if profile.is_null() {
        return;
    }
    let kind = text(profile, "type");
    if kind.is_empty() {
        errors.required(path.child("type"), "type is required when seccompProfile is set");
    } else {
        values::one_of(kind, &["Localhost", "RuntimeDefault", "Unconfined"], path.child("type"), errors);
    }
    let (p, given) = (path.child("localhostProfile"), has(profile, "localhostProfile"));
    match (kind, given) {
        ("Localhost", false) => errors.required(p, "must be set when seccomp type is Localhost"),
        ("Localhost", true) => values::descending_path(text(profile, "localhostProfile"), &p, errors),
        (_, true) => errors.invalid(p, profile.clone(), "can only be set when seccomp type is Localhost"),
        (_, false) => {}
    }
}

pub fn apparmor(profile: &Value, path: &Path, errors: &mut Errors) {
    if profile.is_null() {
        return;
    }
    const REQUIRED: &str = "must be set when AppArmor type is Localhost";
    // The longest path of a file, without the zero at its end.
    const PATH_MAX: usize = 4095;
    let (p, local) = (path.child("localhostProfile"), text(profile, "localhostProfile"));
    match text(profile, "type") {
        "" => errors.required(path.child("type"), "type is required when appArmorProfile is set"),
        "Localhost" if !has(profile, "localhostProfile") => errors.required(p, REQUIRED),
        "Localhost" => {
            if local.trim() != local {
                errors.invalid(p.clone(), local, "must not be padded with whitespace");
            } else if local.is_empty() {
                errors.required(p.clone(), REQUIRED);
            }
            if local.len() > PATH_MAX {
                errors.too_long(p, PATH_MAX);
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if has(profile, "localhostProfile") {
                errors.invalid(p, local, "can only be set when AppArmor type is Localhost");
            }
        }
        other => errors.not_supported(path.child("type"), other, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}

static WINDOWS_DOMAIN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    const LABEL: &str = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?";
    Regex::new(&format!(r#"^(?:[^\\/:\*\?"<>|\.][^\\/:\*\?"<>|]{{0,14}}|{LABEL}(?:\.{LABEL})*)$"#)).ok()
});

fn windows(options: &Value, path: &Path, errors: &mut Errors) {
    if has(options, "gmsaCredentialSpecName") {
        values::dns_subdomain(text(options, "gmsaCredentialSpecName"), &path.child("gmsaCredentialSpecName"), errors);
    }
    if has(options, "gmsaCredentialSpec") {
        let (p, spec) = (path.child("gmsaCredentialSpec"), text(options, "gmsaCredentialSpec"));
        if spec.is_empty() {
            errors.invalid(p, spec, "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > 64 * 1024 {
            errors.invalid(p, spec, "gmsaCredentialSpec size must be under 64 KiB");
        }
    }
    if has(options, "runAsUserName") {
        let name = text(options, "runAsUserName");
        for m in windows_user(name) {
            errors.invalid(path.child("runAsUserName"), name, m);
        }
    }
}

/// `user` or `DOMAIN\user`.
fn windows_user(name: &str) -> Vec<&'static str> {
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string"];
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters"];
    }
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match parts.as_slice() {
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => return vec!["runAsUserName cannot contain more than one backslash"],
    };
    let mut out = Vec::new();
    if domain.is_some_and(|d| d.len() >= 256) {
        out.push("runAsUserName's Domain length must be under 256 characters");
    }
    if domain.is_some_and(|d| !WINDOWS_DOMAIN.as_ref().is_some_and(|r| r.is_match(d))) {
        out.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    }
    if user.is_empty() {
        out.push("runAsUserName's User cannot be empty");
    } else if user.len() > 104 {
        out.push("runAsUserName's User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ') {
        out.push("runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        out.push("runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]");
    }
    out
}

/// A container's; `host_users` is the pod's `hostUsers`.
pub fn container(sc: &Value, host_users: bool, path: &Path, errors: &mut Errors) {
    if sc.is_null() {
        return;
    }
    for key in ["runAsUser", "runAsGroup"] {
        id(field(sc, key), path.child(key), errors);
    }
    if has(sc, "procMount") {
        let mount = text(sc, "procMount");
        values::one_of(mount, &["Default", "Unmasked"], path.child("procMount"), errors);
        if mount == "Unmasked" && host_users {
            errors.invalid(path.child("procMount"), mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(field(sc, "seccompProfile"), &path.child("seccompProfile"), errors);
    if field(sc, "allowPrivilegeEscalation").as_bool() == Some(false) {
        if flag(sc, "privileged") {
            let text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(path.clone(), sc.clone(), text);
        }
        for _ in texts(field(sc, "capabilities"), "add").iter().filter(|c| **c == "CAP_SYS_ADMIN") {
            let text = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(path.clone(), sc.clone(), text);
        }
    }
    windows(field(sc, "windowsOptions"), &path.child("windowsOptions"), errors);
    apparmor(field(sc, "appArmorProfile"), &path.child("appArmorProfile"), errors);
}
