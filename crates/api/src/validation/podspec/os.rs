//! Fields that make sense on one operating system alone: `spec.os`, and Windows' HostProcess containers.

use crate::validation::access::*;
use meta::field::{Errors, Path};
use serde_json::Value;

const LINUX_POD: &[&str] = &[
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
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
const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

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
                if !is_zero_list(at(spec, &["securityContext", key])) {
                    errors.forbidden(security.child(key), TEXT);
                }
            }
            for key in ["hostPID", "hostIPC"] {
                if flag(spec, key) {
                    errors.forbidden(security.child(key), TEXT);
                }
            }
            for key in ["shareProcessNamespace", "hostUsers"] {
                if has(spec, key) {
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

fn is_zero_list(v: &Value) -> bool {
    v.is_null() || v.as_array().is_some_and(Vec::is_empty)
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
