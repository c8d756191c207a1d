//! A conversion webhook between v1 (`hostPort`) and v2 (`host` and `port`). What it does wrong is told by the host, so
//! that a test reads like its objects.

use serde_json::{Value, json};

/// The answer to a `ConversionReview`.
pub fn convert(review: &Value) -> Value {
    let request = &review["request"];
    let wanted = request["desiredAPIVersion"].as_str().unwrap_or("");
    let mut failed = None;
    let mut objects: Vec<Value> = request["objects"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|o| {
            let mut o = o.clone();
            o["apiVersion"] = wanted.into();
            let Some(m) = o.as_object_mut() else { return o };
            let part = |v: Option<Value>| v.and_then(|v| v.as_str().map(String::from)).unwrap_or_default();
            let host = if wanted.ends_with("/v2") {
                let text = m.remove("hostPort");
                let given = text.is_some();
                let text = part(text);
                let (host, port) = text.split_once(':').unwrap_or((&text, ""));
                if given {
                    m.insert("host".into(), host.into());
                    m.insert("port".into(), port.into());
                }
                host.to_string()
            } else {
                let (host, port) = (m.remove("host"), m.remove("port"));
                let given = host.is_some() || port.is_some();
                let (host, port) = (part(host), part(port));
                if given {
                    m.insert("hostPort".into(), format!("{host}:{port}").into());
                }
                host
            };
            match host.as_str() {
                "fail" => failed = Some("the webhook refuses"),
                "rename" => o["metadata"]["name"] = "renamed".into(),
                "move" => o["metadata"]["namespace"] = "elsewhere".into(),
                "rekind" => o["kind"] = "Gadget".into(),
                "stay" => o["apiVersion"] = "example.com/v9".into(),
                "mislabel" => o["metadata"]["labels"] = json!({"not a label": "x"}),
                "relabel" => {
                    o["metadata"]["labels"] = json!({"by": "webhook"});
                    o["metadata"]["annotations"] = json!({"by": "webhook"});
                    o["metadata"]["generation"] = 77.into();
                    o["metadata"]["finalizers"] = json!(["example.com/webhook"]);
                }
                _ => {}
            }
            o
        })
        .collect();
    objects.retain(|o| !o.to_string().contains("\"lose"));
    let result = match failed {
        Some(why) => json!({"status": "Failed", "message": why}),
        None => json!({"status": "Success"}),
    };
    json!({"kind": "ConversionReview", "apiVersion": review["apiVersion"],
        "response": {"uid": request["uid"], "convertedObjects": objects, "result": result}})
}
