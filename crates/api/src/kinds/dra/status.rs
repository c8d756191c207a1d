//! Status of a claim: which devices it got, who uses them, how they are.

use super::{claim, common};
use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::{conditions, podspec, values};
use meta::field::{Errors, Path};
use serde_json::Value;

const RESERVED_FOR_MAX: usize = 256;
const RESULTS_MAX: usize = 32;
const CONDITIONS_MAX: usize = 8;
const IPS_MAX: usize = 16;
const INTERFACE_NAME_BYTES_MAX: usize = 256;
const HARDWARE_ADDRESS_BYTES_MAX: usize = 128;

/// `driver/pool/device`, with the share where a device is shared.
fn device_id(v: &Value) -> String {
    let id = format!("{}/{}/{}", text(v, "driver"), text(v, "pool"), text(v, "device"));
    match text(v, "shareID") {
        "" => id,
        share => format!("{id}/{share}"),
    }
}

fn allocated(claim: &Value) -> Seen<String> {
    list_at(claim, &["status", "allocation", "devices", "results"]).iter().map(device_id).collect()
}

/// Metadata is not written here, and devices that the claim lost have no status any more.
pub fn prepare(new: &mut Value, old: &Value) {
    let (was, is) = (allocated(old), allocated(new));
    let gone = |v: &Value| was.has(&device_id(v)) && !is.has(&device_id(v));
    if let Some(status) = object_mut(new, "status") {
        let kept: Vec<Value> = list(status, "devices").iter().filter(|d| !gone(d)).cloned().collect();
        if kept.is_empty() {
            remove(status, "devices");
        } else if kept.len() < list(status, "devices").len() {
            set(status, "devices", kept);
        }
    }
}

pub fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let (status, was, path) = (field(new, "status"), field(old, "status"), Path::new("status"));
    let reserved = list(status, "reservedFor");
    let at = path.child("reservedFor");
    let uid = |v: &Value| text(v, "uid").to_string();
    common::set(reserved, RESERVED_FOR_MAX, uid, &at, errors, |user, path, errors| {
        for key in ["resource", "name", "uid"] {
            if text(user, key).is_empty() {
                errors.required(path.child(key), "");
            }
        }
    });
    let ids = allocated(new);
    let devices = list(status, "devices");
    common::set(devices, usize::MAX, device_id, &path.child("devices"), errors, |d, path, errors| {
        device(d, &ids, path, errors);
    });
    let allocation = field(status, "allocation");
    if !reserved.is_empty() {
        if allocation.is_null() {
            errors.forbidden(at, "may not be specified when `allocated` is not set");
        } else if has(field(new, "metadata"), "deletionTimestamp")
            && reserved.iter().any(|r| !list(was, "reservedFor").contains(r))
        {
            let text = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.forbidden(at, text);
        }
    }
    let (before, at) = (field(was, "allocation"), path.child("allocation"));
    if !before.is_null() && !allocation.is_null() {
        values::immutable(allocation, before, at, errors);
    } else if !allocation.is_null() {
        result(allocation, &claim::names(field(field(new, "spec"), "devices")), &at, errors);
    }
}

fn result(allocation: &Value, asked: &claim::Names<'_>, path: &Path, errors: &mut Errors) {
    let (devices, at) = (field(allocation, "devices"), path.child("devices"));
    common::each(list(devices, "results"), RESULTS_MAX, &at.child("results"), errors, |r, path, errors| {
        claim::request_name(text(r, "request"), asked, &path.child("request"), errors);
        podspec::csi_driver_name(text(r, "driver"), &path.child("driver"), errors);
        common::pool_name(text(r, "pool"), &path.child("pool"), errors);
        values::dns_label(text(r, "device"), &path.child("device"), errors);
        common::binding_conditions(r, path, errors);
        common::tolerations(r, path, errors);
        if let Some(share) = field(r, "shareID").as_str() {
            common::uid(share, &path.child("shareID"), errors);
        }
    });
    // Of classes and of the claim.
    common::each(list(devices, "config"), 2 * claim::CONFIGS_MAX, &at.child("config"), errors, |c, path, errors| {
        const SOURCES: &[&str] = &["FromClaim", "FromClass"];
        values::required_one_of(text(c, "source"), SOURCES, path.child("source"), errors);
        claim::request_names(c, asked, path, errors);
        common::configuration(c, path, errors);
    });
    let nodes = field(allocation, "nodeSelector");
    if !nodes.is_null() {
        podspec::node_selector(nodes, &path.child("nodeSelector"), false, errors);
    }
}

fn device(d: &Value, allocated: &Seen<String>, path: &Path, errors: &mut Errors) {
    podspec::csi_driver_name(text(d, "driver"), &path.child("driver"), errors);
    common::pool_name(text(d, "pool"), &path.child("pool"), errors);
    values::dns_label(text(d, "device"), &path.child("device"), errors);
    if let Some(share) = field(d, "shareID").as_str() {
        common::uid(share, &path.child("shareID"), errors);
    }
    let id = device_id(d);
    if !allocated.has(&id) {
        errors.invalid(path.clone(), id, "must be an allocated device in the claim");
    }
    let (all, at) = (list(d, "conditions"), path.child("conditions"));
    if all.len() > CONDITIONS_MAX {
        errors.too_many(at.clone(), all.len(), CONDITIONS_MAX);
    }
    conditions::conditions(all, &at, errors);
    if !field(d, "data").is_null() {
        common::raw(field(d, "data"), &path.child("data"), errors);
    }
    let (network, path) = (field(d, "networkData"), path.child("networkData"));
    for (key, max) in [("interfaceName", INTERFACE_NAME_BYTES_MAX), ("hardwareAddress", HARDWARE_ADDRESS_BYTES_MAX)] {
        if text(network, key).len() > max {
            errors.too_long(path.child(key), max);
        }
    }
    common::set(list(network, "ips"), IPS_MAX, common::itself, &path.child("ips"), errors, |ip, path, errors| {
        interface_address(ip.as_str().unwrap_or_default(), path, errors);
    });
}

/// An address with the length of its network's prefix, written as one would.
fn interface_address(value: &str, path: &Path, errors: &mut Errors) {
    let Some(network) = values::sloppy_cidr(value) else {
        let text = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
        return errors.invalid(path.clone(), value, text);
    };
    // An IPv4 address in IPv6 form keeps its number of bits: such a value isn't canonical in any case.
    let canonical = format!("{}/{}", network.addr().to_canonical(), network.prefix_len());
    if value != canonical {
        errors.invalid(path.clone(), value, format!("must be in canonical form ({canonical:?})"));
    }
}
