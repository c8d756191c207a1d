//! CustomResourceDefinitions, as far as controllers ask: which resources there are. Schemas, of which a cluster may
//! have many megabytes, aren't kept.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionCondition, CustomResourceDefinitionNames,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;

#[derive(Clone, Debug, Deserialize)]
pub struct Definition {
    #[serde(deserialize_with = "bare")]
    metadata: ObjectMeta,
    pub spec: Spec,
    #[serde(default)]
    pub status: Status,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Spec {
    pub group: String,
    pub names: CustomResourceDefinitionNames,
    scope: String,
    versions: Vec<Version>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Version {
    name: String,
    served: bool,
    storage: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    accepted_names: Option<CustomResourceDefinitionNames>,
    conditions: Option<Vec<CustomResourceDefinitionCondition>>,
}

/// Clients like to repeat the whole object in an annotation.
fn bare<'de, D: Deserializer<'de>>(d: D) -> Result<ObjectMeta, D::Error> {
    ObjectMeta::deserialize(d).map(|m| ObjectMeta { annotations: None, managed_fields: None, ..m })
}

impl Resource for Definition {
    type DynamicType = ();
    type Scope = <CustomResourceDefinition as Resource>::Scope;

    fn kind(dt: &()) -> Cow<'_, str> {
        CustomResourceDefinition::kind(dt)
    }

    fn group(dt: &()) -> Cow<'_, str> {
        CustomResourceDefinition::group(dt)
    }

    fn version(dt: &()) -> Cow<'_, str> {
        CustomResourceDefinition::version(dt)
    }

    fn plural(dt: &()) -> Cow<'_, str> {
        CustomResourceDefinition::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_served_is_kept_and_nothing_large() {
        let definition: Definition = serde_json::from_value(json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.example.com", "resourceVersion": "7",
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}},
            "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {}}}]},
        }))
        .unwrap();
        assert_eq!((definition.spec.group.as_str(), definition.spec.versions.len()), ("example.com", 1));
        assert_eq!((definition.meta().resource_version.as_deref(), &definition.meta().annotations), (Some("7"), &None));
        assert_eq!(Definition::url_path(&(), None), CustomResourceDefinition::url_path(&(), None));
    }
}
