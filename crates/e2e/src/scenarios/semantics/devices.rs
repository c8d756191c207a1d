//! Claims for devices that others use already: only where an administrator labelled the namespace.

use super::{JSON, MERGE, with};
use crate::cluster::Cluster;
use anyhow::{Result, ensure};
use serde_json::json;

pub fn admin_access(c: &Cluster) -> Result<()> {
    with(c, "devices", async |api, _| {
        let claims = api.core.replace("/api/v1/", "/apis/resource.k8s.io/v1/") + "/resourceclaims";
        let templates = claims.replace("resourceclaims", "resourceclaimtemplates");
        let claim = |name: &str, admin: bool| {
            let exactly = json!({"deviceClassName": "gpu", "adminAccess": admin, "tolerations": [{"key": "broken"}]});
            let spec = json!({"devices": {"requests": [{"name": "r", "exactly": exactly}]}});
            json!({"metadata": {"name": name}, "spec": spec})
        };
        let template = |name: &str| json!({"metadata": {"name": name}, "spec": {"spec": claim(name, true)["spec"]}});
        const WHY: &str = "Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace";
        let asked = format!("spec.devices.requests[0].adminAccess: {WHY}");
        for (path, body) in [(&claims, claim("a", true)), (&templates, template("a"))] {
            api.refused(("POST", path, JSON, &body.to_string()), (422, "Invalid", &asked)).await?;
        }
        let plain = api.must("POST", &claims, JSON, &claim("plain", false)).await?;
        let tolerations = &plain["spec"]["devices"]["requests"][0]["exactly"]["tolerations"];
        ensure!(*tolerations == json!([{"key": "broken", "operator": "Equal"}]), "{plain}");
        let result =
            json!({"request": "r", "driver": "d.example.com", "pool": "p", "device": "d", "adminAccess": true});
        let status = json!({"status": {"allocation": {"devices": {"results": [result]}}}}).to_string();
        let path = format!("{claims}/plain/status");
        let granted = format!("status.allocation.devices.results[0].adminAccess: {WHY}");
        api.refused(("PATCH", &path, MERGE, &status), (422, "Invalid", &granted)).await?;

        let core = api.core.clone();
        let label = json!({"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}});
        api.must("PATCH", &core, MERGE, &label).await?;
        api.must("POST", &claims, JSON, &claim("a", true)).await?;
        api.must("POST", &templates, JSON, &template("a")).await?;
        api.must("PATCH", &path, MERGE, &serde_json::from_str(&status)?).await?;

        // What was allowed stays so when the label goes.
        let unlabel = json!({"metadata": {"labels": {"resource.kubernetes.io/admin-access": null}}});
        api.must("PATCH", &core, MERGE, &unlabel).await?;
        let touched = json!({"metadata": {"labels": {"a": "b"}}});
        for path in [format!("{claims}/a"), format!("{templates}/a")] {
            api.must("PATCH", &path, MERGE, &touched).await?;
        }
        let reserved = json!({"status": {"reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]}});
        api.must("PATCH", &path, MERGE, &reserved).await?;
        Ok(())
    })
}
