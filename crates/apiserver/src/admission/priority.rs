//! Priority: resolves a pod's `priorityClassName` to the number and preemption policy that the scheduler goes by.

use super::{Attributes, Operation, Plugin, forbidden};
use crate::reader::Reader;
use async_trait::async_trait;
use meta::status::Status;
use serde_json::Value;

const GROUP: &str = "scheduling.k8s.io";

pub struct Priority {
    reader: Reader,
}

impl Priority {
    pub fn new(reader: Reader) -> Priority {
        Priority { reader }
    }

    /// Of several classes marked as default, the one with the lowest value.
    fn default_class(&self) -> Result<Option<Value>, Status> {
        let classes = self.reader.list(GROUP, "priorityclasses", "")?;
        Ok(classes
            .iter()
            .map(|c| c.value().as_ref().clone())
            .filter(|c| c["globalDefault"] == true)
            .min_by_key(|c| c["value"].as_i64().unwrap_or_default()))
    }

    fn admit_new_pod(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        let name = a.object["spec"]["priorityClassName"].as_str().unwrap_or_default().to_string();
        let class = if name.is_empty() {
            self.default_class()?.unwrap_or(Value::Null)
        } else {
            match self.reader.get(GROUP, "priorityclasses", "", &name) {
                Some(class) => class.value().as_ref().clone(),
                None => return Err(forbidden(a, format!("no PriorityClass with name {name} was found"))),
            }
        };
        let value = class["value"].as_i64().unwrap_or(0);
        let policy = class["preemptionPolicy"].as_str().unwrap_or("PreemptLowerPriority").to_string();
        let spec = &a.object["spec"];
        if let Some(given) = spec["priority"].as_i64()
            && given != value
        {
            return Err(forbidden(
                a,
                format!(
                    "the integer value of priority ({given}) must not be provided in pod spec; priority admission \
                     controller computed {value} from the given PriorityClass name"
                ),
            ));
        }
        if let Some(given) = spec["preemptionPolicy"].as_str()
            && given != policy
        {
            return Err(forbidden(
                a,
                format!(
                    "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority \
                     admission controller computed {policy} from the given PriorityClass name"
                ),
            ));
        }
        if name.is_empty()
            && let Some(default) = class["metadata"]["name"].as_str()
        {
            a.object["spec"]["priorityClassName"] = default.into();
        }
        a.object["spec"]["priority"] = value.into();
        a.object["spec"]["preemptionPolicy"] = policy.into();
        Ok(())
    }
}

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if !a.is_main("", "pods") {
            return Ok(());
        }
        match a.operation {
            Operation::Create => self.admit_new_pod(a),
            Operation::Update => {
                // Clients that don't know these fields send pods without them.
                for field in ["priority", "preemptionPolicy"] {
                    if a.object["spec"][field].is_null()
                        && let Some(old) = a.old.map(|o| &o["spec"][field]).filter(|v| !v.is_null())
                    {
                        a.object["spec"][field] = old.clone();
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        let write = matches!(a.operation, Operation::Create | Operation::Update);
        if !write || !a.is_main(GROUP, "priorityclasses") || a.object["globalDefault"] != true {
            return Ok(());
        }
        let own = &a.object["metadata"]["name"];
        match self.default_class()? {
            Some(other) if other["metadata"]["name"] != *own => Err(forbidden(
                a,
                format!(
                    "PriorityClass {} is already marked as default. Only one default can exist",
                    other["metadata"]["name"].as_str().unwrap_or_default()
                ),
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::testing::{put, reader};
    use serde_json::json;

    fn class(name: &str, value: i64, more: Value) -> Value {
        let mut v =
            json!({"apiVersion":"scheduling.k8s.io/v1","kind":"PriorityClass","metadata":{"name":name},"value":value});
        for (k, x) in more.as_object().unwrap() {
            v[k] = x.clone();
        }
        v
    }

    #[tokio::test]
    async fn classes_become_numbers() {
        let r = reader(&[class("high", 1000, json!({"preemptionPolicy":"Never"}))]).await;
        let p = Priority::new(r.clone());
        let ask = |spec: Value| {
            let write = Write::create("", "pods", "d", json!({"kind":"Pod","metadata":{"name":"p"},"spec":spec}));
            write.admit(&p)
        };
        let spec = ask(json!({})).await.unwrap()["spec"].clone();
        assert_eq!(spec, json!({"priority":0,"preemptionPolicy":"PreemptLowerPriority"}));
        let spec = ask(json!({"priorityClassName":"high"})).await.unwrap()["spec"].clone();
        assert_eq!(spec, json!({"priorityClassName":"high","priority":1000,"preemptionPolicy":"Never"}));
        let e = ask(json!({"priorityClassName":"none"})).await.unwrap_err();
        assert_eq!(e.message, "pods \"p\" is forbidden: no PriorityClass with name none was found");
        let e = ask(json!({"priorityClassName":"high","priority":5})).await.unwrap_err();
        assert!(e.message.contains("priority (5) must not be provided") && e.message.contains("computed 1000"));
        put(&r, &class("usual", 7, json!({"globalDefault":true}))).await;
        let spec = ask(json!({})).await.unwrap()["spec"].clone();
        assert_eq!((&spec["priorityClassName"], &spec["priority"]), (&json!("usual"), &json!(7)));
        let second = class("second", 1, json!({"globalDefault":true}));
        let e = Write::create(GROUP, "priorityclasses", "", second).validate(&p).await.unwrap_err();
        assert!(e.message.ends_with("PriorityClass usual is already marked as default. Only one default can exist"));
        let same = class("usual", 7, json!({"globalDefault":true}));
        assert!(Write::update(GROUP, "priorityclasses", "", same.clone(), same).validate(&p).await.is_ok());
    }
}
