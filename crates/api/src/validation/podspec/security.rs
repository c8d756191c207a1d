//! `securityContext` of pods and containers.

use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use regex::Regex;
use serde_json::Value;
use std::sync::LazyLock;

const ID_MAX: i64 = i32::MAX as i64;
const SYSCTL: &str = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
static SYSCTL_RE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(&format!("^{SYSCTL}$")).ok());

pub fn pod(spec: &Value, path: &Path, errors: &mut Errors) {
    let sc = field(spec, "securityContext");
    if sc.is_null() {
        return;
    }
    let path = path.child("securityContext");
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(field(sc, key), path.child(key), errors);
    }
    for (i, g) in list(sc, "supplementalGroups").iter().enumerate() {
        id(g, path.child("supplementalGroups").index(i), errors);
    }
    let policy = text(sc, "supplementalGroupsPolicy");
    if !policy.is_empty() {
        values::one_of(policy, &["Merge", "Strict"], path.child("supplementalGroupsPolicy"), errors);
    }
    let change = text(sc, "fsGroupChangePolicy");
    if !change.is_empty() {
        values::one_of(change, &["Always", "OnRootMismatch"], path.child("fsGroupChangePolicy"), errors);
    }
    sysctls(spec, list(sc, "sysctls"), &path.child("sysctls"), errors);
    seccomp(field(sc, "seccompProfile"), &path.child("seccompProfile"), errors);
    apparmor(field(sc, "appArmorProfile"), &path.child("appArmorProfile"), errors);
}

fn id(v: &Value, path: Path, errors: &mut Errors) {
    if let Some(n) = v.as_i64()
        && !(0..=ID_MAX).contains(&n)
    {
        errors.invalid(path, n, values::between(0, ID_MAX));
    }
}

fn sysctls(spec: &Value, sysctls: &[Value], path: &Path, errors: &mut Errors) {
    let mut seen: Vec<String> = Vec::new();
    for (i, s) in sysctls.iter().enumerate() {
        let p = path.index(i).child("name");
        let name = text(s, "name");
        let plain = name.replace('/', ".");
        if name.is_empty() {
            errors.required(p, "");
        } else if name.len() > 253 || !SYSCTL_RE.as_ref().is_some_and(|r| r.is_match(name)) {
            errors.invalid(p, name, format!("must have at most 253 characters and match regex {SYSCTL}"));
        } else if seen.contains(&plain) {
            errors.duplicate(p, name);
        } else {
            if flag(spec, "hostNetwork") && plain.starts_with("net.") {
                errors.invalid(p.clone(), name, "may not be specified when 'hostNetwork' is true");
            }
            if flag(spec, "hostIPC")
                && (plain.starts_with("kernel.shm")
                    || plain.starts_with("kernel.msg")
                    || plain == "kernel.sem"
                    || plain.starts_with("fs.mqueue."))
            {
                errors.invalid(p.clone(), name, "may not be specified when 'hostIPC' is true");
            }
            seen.push(plain);
        }
    }
}

fn seccomp(profile: &Value, path: &Path, errors: &mut Errors) {
    if profile.is_null() {
        return;
    }
    let kind = text(profile, "type");
    let local = text(profile, "localhostProfile");
    if kind == "Localhost" {
        if local.is_empty() {
            errors.required(path.child("localhostProfile"), "must be set when seccomp type is Localhost");
        } else {
            values::descending_path(local, &path.child("localhostProfile"), errors);
        }
    } else if !local.is_empty() {
        errors.invalid(path.child("localhostProfile"), local, "can only be set when seccomp type is Localhost");
    }
    if kind.is_empty() {
        errors.required(path.child("type"), "type is required when seccompProfile is set");
    } else {
        values::one_of(kind, &["Localhost", "RuntimeDefault", "Unconfined"], path.child("type"), errors);
    }
}

fn apparmor(profile: &Value, path: &Path, errors: &mut Errors) {
    if profile.is_null() {
        return;
    }
    let kind = text(profile, "type");
    let local = text(profile, "localhostProfile");
    match kind {
        "" => errors.required(path.child("type"), "type is required when appArmorProfile is set"),
        "Localhost" if local.is_empty() => {
            errors.required(path.child("localhostProfile"), "must be set when AppArmor type is Localhost")
        }
        "Localhost" => {}
        "RuntimeDefault" | "Unconfined" => {
            if !local.is_empty() {
                let text = "can only be set when AppArmor type is Localhost";
                errors.invalid(path.child("localhostProfile"), local, text);
            }
        }
        other => errors.not_supported(path.child("type"), other, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}

/// A container's; `host_users` is the pod's `hostUsers`.
pub fn container(sc: &Value, host_users: bool, path: &Path, errors: &mut Errors) {
    if sc.is_null() {
        return;
    }
    for key in ["runAsUser", "runAsGroup"] {
        id(field(sc, key), path.child(key), errors);
    }
    let mount = text(sc, "procMount");
    if !mount.is_empty() {
        values::one_of(mount, &["Default", "Unmasked"], path.child("procMount"), errors);
        if mount == "Unmasked" && host_users {
            errors.invalid(path.child("procMount"), mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(field(sc, "seccompProfile"), &path.child("seccompProfile"), errors);
    apparmor(field(sc, "appArmorProfile"), &path.child("appArmorProfile"), errors);
    if field(sc, "allowPrivilegeEscalation").as_bool() == Some(false) {
        if flag(sc, "privileged") {
            let text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(path.clone(), sc.clone(), text);
        }
        if texts(field(sc, "capabilities"), "add").contains(&"CAP_SYS_ADMIN") {
            let text = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(path.clone(), sc.clone(), text);
        }
    }
}
