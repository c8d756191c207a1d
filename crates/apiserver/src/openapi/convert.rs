//! An OpenAPI v2 document as v3, for extension servers that publish v2 alone. Pure.
//!
//! Schemas say the same in both; what moves is where they stand: bodies and answers get a schema per media type, and
//! the type of a parameter gets a schema of its own.

use serde_json::{Map, Value, json};

/// What the fields of a v2 parameter are called inside a v3 parameter's schema.
const OF_SCHEMA: [&str; 16] = [
    "type",
    "format",
    "items",
    "default",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "enum",
    "multipleOf",
];

/// The whole document.
pub fn v2_to_v3(v2: &Value) -> Value {
    let defaults = Media { consumes: media(&v2["consumes"]), produces: media(&v2["produces"]) };
    let paths: Map<String, Value> =
        object(&v2["paths"]).map(|(path, item)| (path.clone(), path_item(item, &defaults))).collect();
    let schemas: Map<String, Value> = object(&v2["definitions"]).map(|(name, s)| (name.clone(), schema(s))).collect();
    let mut out = json!({"openapi": "3.0.0", "paths": paths, "components": {"schemas": schemas}});
    out["info"] = match v2["info"].is_object() {
        true => v2["info"].clone(),
        false => json!({"title": "", "version": ""}),
    };
    out
}

/// Media types that an operation doesn't name itself.
struct Media {
    consumes: Vec<String>,
    produces: Vec<String>,
}

fn media(v: &Value) -> Vec<String> {
    v.as_array().into_iter().flatten().filter_map(|m| m.as_str().map(String::from)).collect()
}

fn object(v: &Value) -> impl Iterator<Item = (&String, &Value)> {
    v.as_object().into_iter().flatten()
}

fn path_item(item: &Value, defaults: &Media) -> Value {
    let mut out = Map::new();
    let (shared, shared_body) = parameters(&item["parameters"]);
    for (key, v) in object(item) {
        match key.as_str() {
            "get" | "put" | "post" | "delete" | "options" | "head" | "patch" => {
                out.insert(key.clone(), operation(v, shared_body, defaults));
            }
            "parameters" if !shared.is_empty() => {
                out.insert(key.clone(), shared.clone().into());
            }
            k if k.starts_with("x-") || k == "$ref" => {
                out.insert(key.clone(), v.clone());
            }
            _ => {}
        }
    }
    Value::Object(out)
}

/// Those that stay parameters, and the body.
fn parameters(v2: &Value) -> (Vec<Value>, Option<&Value>) {
    let (mut out, mut body) = (Vec::new(), None);
    for p in v2.as_array().into_iter().flatten() {
        if p["in"] == "body" {
            body = Some(p);
        } else if p["in"] != "formData" {
            let mut stays = Map::new();
            let mut inner = Map::new();
            for (key, v) in object(p) {
                match OF_SCHEMA.contains(&key.as_str()) {
                    true => inner.insert(key.clone(), v.clone()),
                    // How lists are written in a query is the default in v3, and another word.
                    false if key == "collectionFormat" => None,
                    false => stays.insert(key.clone(), v.clone()),
                };
            }
            stays.insert("schema".into(), schema(&Value::Object(inner)));
            out.push(Value::Object(stays));
        }
    }
    (out, body)
}

fn operation(v2: &Value, shared_body: Option<&Value>, defaults: &Media) -> Value {
    let mut out = Map::new();
    let own = |key: &str, default: &[String]| match media(&v2[key]) {
        none if none.is_empty() && default.is_empty() => vec!["*/*".to_string()],
        none if none.is_empty() => default.to_vec(),
        some => some,
    };
    let content = |types: Vec<String>, s: &Value| -> Value {
        types.into_iter().map(|t| (t, json!({"schema": schema(s)}))).collect::<Map<_, _>>().into()
    };
    for (key, v) in object(v2) {
        match key.as_str() {
            "parameters" | "consumes" | "produces" | "schemes" => {}
            "responses" => {
                let responses = object(v).map(|(code, r)| {
                    let mut answer = Map::new();
                    answer.insert("description".into(), r["description"].as_str().unwrap_or("").into());
                    if r["schema"].is_object() {
                        answer.insert("content".into(), content(own("produces", &defaults.produces), &r["schema"]));
                    }
                    (code.clone(), Value::Object(answer))
                });
                out.insert(key.clone(), responses.collect::<Map<_, _>>().into());
            }
            _ => {
                out.insert(key.clone(), v.clone());
            }
        }
    }
    let (stay, body) = parameters(&v2["parameters"]);
    if !stay.is_empty() {
        out.insert("parameters".into(), stay.into());
    }
    if let Some(body) = body.or(shared_body) {
        let mut request = json!({"content": content(own("consumes", &defaults.consumes), &body["schema"])});
        for key in ["description", "required"] {
            if !body[key].is_null() {
                request[key] = body[key].clone();
            }
        }
        out.insert("requestBody".into(), request);
    }
    Value::Object(out)
}

/// A schema with its references where v3 keeps what they name.
fn schema(v2: &Value) -> Value {
    let Value::Object(old) = v2 else { return v2.clone() };
    let mut out = Map::new();
    for (key, v) in old {
        let new = match key.as_str() {
            "properties" | "definitions" => {
                object(v).map(|(k, v)| (k.clone(), schema(v))).collect::<Map<_, _>>().into()
            }
            "allOf" => v.as_array().into_iter().flatten().map(schema).collect::<Vec<_>>().into(),
            "items" | "additionalProperties" => schema(v),
            "$ref" => match v.as_str().and_then(|r| r.strip_prefix("#/definitions/")) {
                Some(name) => format!("#/components/schemas/{name}").into(),
                None => v.clone(),
            },
            "type" if v == "file" => "string".into(),
            // An object in v3.
            "discriminator" => continue,
            _ => v.clone(),
        };
        out.insert(key.clone(), new);
    }
    // Nothing may stand beside a reference in v3.
    if out.len() > 1
        && let Some(r) = out.remove("$ref")
    {
        out.insert("allOf".into(), json!([{"$ref": r}]));
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_answers_and_parameters_get_their_schemas() {
        let v3 = v2_to_v3(&json!({
            "swagger": "2.0", "info": {"title": "t", "version": "1"}, "produces": ["application/json"],
            "paths": {"/apis/x/v1/foos": {
                "parameters": [{"name": "pretty", "in": "query", "type": "string", "uniqueItems": true, "description": "d"}],
                "post": {
                    "operationId": "createFoo", "consumes": ["application/yaml"], "schemes": ["https"],
                    "x-kubernetes-action": "post",
                    "parameters": [{"name": "body", "in": "body", "required": true, "schema": {"$ref": "#/definitions/Foo"}}],
                    "responses": {"201": {"description": "Created", "schema": {"$ref": "#/definitions/Foo"}},
                        "401": {"description": "Unauthorized"}}}}},
            "definitions": {"Foo": {"type": "object", "properties": {
                "meta": {"description": "m", "$ref": "#/definitions/Meta"},
                "all": {"type": "array", "items": {"$ref": "#/definitions/Foo"}}}}, "Meta": {"type": "object"}},
        }));
        let foo = json!({"schema": {"$ref": "#/components/schemas/Foo"}});
        assert_eq!(
            v3["paths"]["/apis/x/v1/foos"],
            json!({
                "parameters": [{"name": "pretty", "in": "query", "description": "d",
                    "schema": {"type": "string", "uniqueItems": true}}],
                "post": {"operationId": "createFoo", "x-kubernetes-action": "post",
                    "requestBody": {"required": true, "content": {"application/yaml": foo}},
                    "responses": {"201": {"description": "Created", "content": {"application/json": foo}},
                        "401": {"description": "Unauthorized"}}}})
        );
        assert_eq!(
            v3["components"]["schemas"]["Foo"]["properties"],
            json!({"meta": {"description": "m", "allOf": [{"$ref": "#/components/schemas/Meta"}]},
                "all": {"type": "array", "items": {"$ref": "#/components/schemas/Foo"}}})
        );
        assert_eq!((&v3["openapi"], &v3["info"]["title"]), (&json!("3.0.0"), &json!("t")));
    }

    #[test]
    fn oddities_are_no_trouble() {
        for odd in
            [json!(null), json!([]), json!({"paths": 1, "definitions": []}), json!({"paths": {"/": {"get": []}}})]
        {
            assert_eq!(v2_to_v3(&odd)["openapi"], "3.0.0");
        }
    }

    /// Our own document in v2, brought to v3, is one that clients can follow.
    #[test]
    fn the_result_is_closed_under_references() {
        let v2 = super::super::tests::v2_json(&api::catalogue::builtin());
        let v3 = v2_to_v3(&v2);
        super::super::tests::check_closed(&v3);
        assert_eq!(v3["paths"].as_object().map(Map::len), v2["paths"].as_object().map(Map::len),);
    }
}
