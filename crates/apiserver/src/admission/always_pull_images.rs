//! AlwaysPullImages: every pod pulls its images anew, so that nobody runs a private image that somebody else pulled.
//! Off by default.

use super::{Attributes, Operation, Plugin};
use async_trait::async_trait;
use meta::field::{Errors, Path};
use meta::status::Status;
use serde_json::Value;

pub struct AlwaysPullImages;

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// An update that changes no image leaves old pods as they are.
fn applies(a: &Attributes<'_>) -> bool {
    let pods = a.resource.group.is_empty() && a.resource.plural == "pods";
    let part = matches!(a.subresource, "" | "ephemeralcontainers");
    match a.operation {
        Operation::Create => pods && a.subresource.is_empty(),
        Operation::Update => pods && part && a.old.is_none_or(|old| images(old) != images(a.object)),
        _ => false,
    }
}

fn images(pod: &Value) -> Vec<&Value> {
    let of_list = |l: &str| pod["spec"][l].as_array().into_iter().flatten().map(|c| &c["image"]);
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten().map(|v| &v["image"]["reference"]);
    LISTS.iter().flat_map(|l| of_list(l)).chain(volumes).collect()
}

#[async_trait]
impl Plugin for AlwaysPullImages {
    fn name(&self) -> &'static str {
        "AlwaysPullImages"
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if !applies(a) {
            return Ok(());
        }
        for list in LISTS {
            for c in a.object["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                c["imagePullPolicy"] = "Always".into();
            }
        }
        for v in a.object["spec"].get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
            if v["image"].is_object() {
                v["image"]["pullPolicy"] = "Always".into();
            }
        }
        Ok(())
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        if !applies(a) {
            return Ok(());
        }
        let mut errors = Errors::default();
        for list in LISTS {
            for (i, c) in a.object["spec"][list].as_array().into_iter().flatten().enumerate() {
                let policy = c["imagePullPolicy"].as_str().unwrap_or_default();
                if policy != "Always" {
                    let path = Path::new("spec").child(list).index(i).child("imagePullPolicy");
                    errors.not_supported(path, policy, &["Always"]);
                }
            }
        }
        match errors.is_empty() {
            true => Ok(()),
            false => Err(super::forbidden(a, errors.joined())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use serde_json::json;

    #[tokio::test]
    async fn every_image_is_pulled_always() {
        let pod = |policy: &str| {
            json!({"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"a","imagePullPolicy":policy}],
            "volumes":[{"name":"i","image":{"reference":"x"}}]}})
        };
        let got = Write::create("", "pods", "d", pod("Never")).run(&AlwaysPullImages).await.unwrap();
        assert_eq!(got["spec"]["containers"][0]["imagePullPolicy"], "Always");
        assert_eq!(got["spec"]["volumes"][0]["image"]["pullPolicy"], "Always");
        let e = Write::create("", "pods", "d", pod("Never")).validate(&AlwaysPullImages).await.unwrap_err();
        assert!(e.message.contains("spec.containers[0].imagePullPolicy: Unsupported value: \"Never\""), "{e}");
        let same = Write::update("", "pods", "d", pod("Never"), pod("Never")).run(&AlwaysPullImages).await.unwrap();
        assert_eq!(same["spec"]["containers"][0]["imagePullPolicy"], "Never");
    }
}
