//! Defaults must be values that their own schema takes as they are. Upstream: `structuraldefaulting.ValidateDefaults`.

use crate::custom::embedded::{self, Malformed};
use crate::custom::schema::Schema;
use crate::custom::{prune, validate as values};
use crate::validation::access::*;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

/// The defaults of a structural schema. `pruned`: none may have fields that the schema doesn't know.
pub(super) fn validate(schema: &Value, path: &Path, pruned: bool, errors: &mut Errors) {
    let around = Around { resource: schema, steps: Vec::new() };
    node(schema, true, path, &around, false, pruned, errors);
}

/// The innermost whole object around a node, and the way from there.
#[derive(Clone)]
struct Around<'s> {
    resource: &'s Value,
    steps: Vec<Step<'s>>,
}

#[derive(Clone, Copy)]
enum Step<'s> {
    Member(&'s str),
    Item,
}

impl<'s> Around<'s> {
    fn with(&self, step: Step<'s>) -> Around<'s> {
        let mut steps = self.steps.clone();
        steps.push(step);
        Around { resource: self.resource, steps }
    }

    /// An object that holds nothing but this value.
    fn object(&self, value: &Value) -> Value {
        let mut whole = self.steps.iter().rev().fold(value.clone(), |v, step| match step {
            Step::Member(name) => json!({*name: v}),
            Step::Item => json!([v]),
        });
        for (key, text) in [("apiVersion", "validation/v1"), ("kind", "Validation")] {
            fill(&mut whole, key, text);
        }
        whole
    }
}

fn node<'s>(
    s: &'s Value,
    resource: bool,
    path: &Path,
    around: &Around<'s>,
    inside_metadata: bool,
    pruned: bool,
    errors: &mut Errors,
) {
    let own = Around { resource: s, steps: Vec::new() };
    let (around, inside_metadata) = if resource { (&own, false) } else { (around, inside_metadata) };
    if let Some(value) = s.get("default").filter(|v| !v.is_null()) {
        let at = path.child("default");
        let mut found = Errors::default();
        match inside_metadata {
            true => in_metadata(value, around, &at, &mut found),
            false => in_object(s, value, resource, pruned, &at, &mut found, errors),
        }
        if found.is_empty() {
            values::validate(&Schema::compile(s), value, None, &at, &mut found);
        }
        if found.is_empty()
            && let Some(rules) = cel::rules::Rules::of_value(s, resource)
        {
            // A default can come with a write that changes nothing, and with one that creates the object.
            rules.judge(&at, value, Some(value), &mut found);
            if found.is_empty() {
                rules.judge(&at, value, None, &mut found);
            }
        }
        errors.0.extend(found.0);
    }
    let embedded = |s: &Value| flag(s, "x-kubernetes-embedded-resource");
    if let items @ Value::Object(_) = field(s, "items") {
        let around = around.with(Step::Item);
        node(items, embedded(items), &path.child("items"), &around, inside_metadata, pruned, errors);
    }
    for (name, p) in entries(s, "properties") {
        let inside = inside_metadata || resource && prune::META_FIELDS.contains(&name);
        let around = around.with(Step::Member(name));
        node(p, embedded(p), &path.child("properties").key(name), &around, inside, pruned, errors);
    }
}

/// A default of metadata is sound where an object with it is.
fn in_metadata(value: &Value, around: &Around, at: &Path, found: &mut Errors) {
    let mut whole = around.object(value);
    let mut resource = around.resource.clone();
    set(&mut resource, "x-kubernetes-embedded-resource", true);
    let schema = Schema::compile(&resource);
    let why = match embedded::coerce_value(&mut whole, &schema, Malformed::Refuse) {
        Err(misfit) => Some(misfit.to_string()),
        Ok(()) => {
            let mut faults = Errors::default();
            embedded::validate_value(&schema, &whole, true, &Path::root(), &mut faults);
            (!faults.is_empty()).then(|| faults.joined())
        }
    };
    if let Some(why) = why {
        found.invalid(at.clone(), value.clone(), format!("must result in valid metadata: {why}"));
    }
}

/// `errors`: what is told beside anything else.
fn in_object(
    s: &Value,
    value: &Value,
    resource: bool,
    pruned: bool,
    at: &Path,
    found: &mut Errors,
    errors: &mut Errors,
) {
    let mut s = s.clone();
    if resource {
        set(&mut s, "x-kubernetes-embedded-resource", true);
    }
    let schema = Schema::compile(&s);
    if pruned && is_unpruned(value, &schema) {
        errors.invalid(at.clone(), value.clone(), "must not have unknown fields");
    }
    match embedded::coerce_value(&mut value.clone(), &schema, Malformed::Refuse) {
        Err(misfit) => found.invalid(at.child(&misfit.path), misfit.value, misfit.why),
        Ok(()) => embedded::validate_value(&schema, value, resource, at, found),
    }
}

fn is_unpruned(value: &Value, schema: &Schema) -> bool {
    let mut unknown = Vec::new();
    prune::prune_value(&mut value.clone(), schema, schema.embedded_resource, &mut unknown);
    !unknown.is_empty()
}

/// Whether any default of a schema has fields that it doesn't know.
pub(super) fn any_unpruned(s: &Value) -> bool {
    has(s, "default") && is_unpruned(field(s, "default"), &Schema::compile(s))
        || super::structural::parts(s).any(any_unpruned)
}
