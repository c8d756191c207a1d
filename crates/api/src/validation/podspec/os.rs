//! Fields that make sense on one operating system alone: `spec.os`, and Windows' HostProcess containers.

use super::LISTS;
use crate::validation::access::*;
use meta::field::{Errors, Path};
use serde_json::Value;

/// Upstream's order; those without a dot lie in the spec itself.
const LINUX_POD: &[&str] = &[
    "securityContext.appArmorProfile",
    "securityContext.seLinuxOptions",
    "hostUsers",
    "hostPID",
    "hostIPC",
    "securityContext.seccompProfile",
    "securityContext.fsGroup",
    "securityContext.fsGroupChangePolicy",
    "securityContext.sysctls",
    "shareProcessNamespace",
    "securityContext.runAsUser",
    "securityContext.runAsGroup",
    "securityContext.supplementalGroups",
    "securityContext.supplementalGroupsPolicy",
    "securityContext.seLinuxChangePolicy",
];
const LINUX_CONTAINER: &[&str] = &[
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// What the pod's own word on its operating system rules out.
pub fn fields(spec: &Value, os: &str, path: &Path, errors: &mut Errors) {
    let security = path.child("securityContext");
    match os {
        "linux" => {
            const TEXT: &str = "windows options cannot be set for a linux pod";
            if has(field(spec, "securityContext"), "windowsOptions") {
                errors.forbidden(security.child("windowsOptions"), TEXT);
            }
            each_container(spec, path, |c, p| {
                if has(field(c, "securityContext"), "windowsOptions") {
                    errors.forbidden(p.child("securityContext.windowsOptions"), TEXT);
                }
            });
        }
        "windows" => {
            const TEXT: &str = "cannot be set for a windows pod";
            for key in LINUX_POD {
                let parts: Vec<&str> = key.split('.').collect();
                let v = at(spec, &parts);
                let set = match *key {
                    "hostPID" | "hostIPC" => v.as_bool() == Some(true),
                    "securityContext.sysctls" => !list_at(spec, &parts).is_empty(),
                    _ => !v.is_null(),
                };
                if set {
                    errors.forbidden(path.child(key), TEXT);
                }
            }
            each_container(spec, path, |c, p| {
                for key in LINUX_CONTAINER {
                    if has(field(c, "securityContext"), key) {
                        errors.forbidden(p.child("securityContext").child(key), TEXT);
                    }
                }
            });
        }
        _ => {}
    }
}

fn each_container<'a>(spec: &'a Value, path: &Path, mut f: impl FnMut(&'a Value, Path)) {
    for key in LISTS {
        for (i, c) in list(spec, key).iter().enumerate() {
            f(c, path.child(key).index(i));
        }
    }
}

/// HostProcess containers: all or none of a pod's, and on the host's network.
pub fn host_process(spec: &Value, path: &Path, errors: &mut Errors) {
    let own = |c: &Value| at(c, &["securityContext", "windowsOptions", "hostProcess"]).as_bool();
    let pod = own(spec);
    let (mut all, mut with) = (0, 0);
    each_container(spec, path, |c, p| {
        all += 1;
        let container = own(c);
        if let (Some(pod), Some(container)) = (pod, container)
            && pod != container
        {
            errors.invalid(
                p.child("securityContext.windowsOptions.hostProcess"),
                container,
                format!("pod hostProcess value must be identical if both are specified, was {pod}"),
            );
        }
        with += usize::from(container.or(pod) == Some(true));
    });
    if with == 0 {
        return;
    }
    if with != all {
        let text = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.invalid(path.clone(), "", text);
    }
    if !flag(spec, "hostNetwork") {
        let text = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid(path.child("hostNetwork"), false, text);
    }
}
