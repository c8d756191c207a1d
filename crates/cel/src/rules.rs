//! `x-kubernetes-validations`: rules of custom resources.
//!
//! In: an `openAPIV3Schema` as a CustomResourceDefinition has it. Out: [`check`], what is wrong with its rules, and
//! [`Rules`], which judge objects: all rules of a write share one budget, transition rules see the old value, and what
//! an update leaves as it was is let pass with a warning (ratcheting). Texts are upstream's.
//! Sources: KEP-2876, KEP-4008; API reference, `ValidationRule`.

use crate::Env;
use crate::estimate::{self, Range};
use crate::eval::{Budget, EvalError, RULES_BUDGET, Vars, eval};
use crate::program::{CompileError, Program, compile};
use crate::schema::Decl;
use crate::types::{Objects, Type};
use crate::value::Value;
use meta::field::{Errors, Path};
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Of one rule.
const COST_MAX: u64 = 10_000_000;
/// Of all rules of a schema.
const TOTAL_COST_MAX: u64 = 100_000_000;
/// So many of the most expensive rules are named when the total is too much.
const NAMED_MAX: usize = 4;
const REQUEST_BYTES_MAX: u64 = 3 * 1024 * 1024;
const MESSAGE_BYTES_MAX: usize = 5 * 1024;
const REASONS: &[&str] = &["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// The rules of a schema.
pub struct Rules {
    root: Node,
}

/// A schema's node that has rules, or below which there are some.
struct Node {
    decl: Option<Decl>,
    /// The schema's `type`, which errors show as the value.
    type_name: String,
    rules: Vec<Rule>,
    items: Option<Box<Node>>,
    properties: BTreeMap<String, Node>,
    additional: Option<Box<Node>>,
    all_of: Vec<Node>,
    /// Keys of a list of type `map`, whose items are found again by them.
    keys: Option<Vec<String>>,
}

struct Rule {
    program: Result<Program, String>,
    text: String,
    message: String,
    message_expression: Option<(String, Program)>,
    reason: String,
    /// As errors show it; empty for the node itself.
    field: String,
    optional_old: bool,
}

fn text<'j>(v: &'j Json, key: &str) -> &'j str {
    v[key].as_str().unwrap_or("")
}

fn rules_of(schema: &Json) -> &[Json] {
    schema["x-kubernetes-validations"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// What expressions on a schema may mention. None where rules aren't supported.
fn environment(schema: &Json, root: bool, optional_old: bool) -> Option<(Decl, Env)> {
    let mut decl = Decl::of(schema, root)?;
    let mut objects = Objects::default();
    decl.name("selfType", &mut objects);
    let t = decl.cel_type.clone();
    let old = if optional_old { Type::optional(t.clone()) } else { t.clone() };
    let env = Env::new().with_types(Arc::new(objects)).with("self", t).with("oldSelf", old);
    Some((decl, env))
}

fn compile_rule(rule: &Json, env: &Env) -> Result<Program, String> {
    compile(text(rule, "rule"), env, &[Type::Bool]).map_err(|e| match e {
        CompileError::WrongType(..) => "cel expression must evaluate to a bool".to_string(),
        e => e.to_string(),
    })
}

fn compile_message(rule: &Json, env: &Env) -> Option<Result<Program, String>> {
    let expression = text(rule, "messageExpression");
    if expression.trim().is_empty() {
        return None;
    }
    Some(compile(expression, env, &[Type::String]).map_err(|e| match e {
        CompileError::WrongType(..) => "messageExpression must evaluate to a string".to_string(),
        CompileError::Issues(i) => format!("messageExpression compilation failed: {i}"),
    }))
}

fn is_root(schema: &Json) -> bool {
    schema["x-kubernetes-embedded-resource"].as_bool() == Some(true)
}

impl Rules {
    /// None where the schema has no rules.
    pub fn new(schema: &Json) -> Option<Rules> {
        Rules::of_value(schema, true)
    }

    /// Rules on a part of a schema; `resource`: its values are whole objects.
    pub fn of_value(schema: &Json, resource: bool) -> Option<Rules> {
        Node::new(schema, schema, resource).map(|root| Rules { root })
    }

    /// Judges a value somewhere in an object, whatever it was before: nothing is let be because it is old.
    pub fn judge(&self, path: &Path, new: &Json, old: Option<&Json>, errors: &mut Errors) {
        let mut judge = Judge { budget: Budget::new(RULES_BUDGET), errors };
        judge.node(&self.root, path, new, old, Correlation::default());
    }

    /// Judges an object whose structure is sound. `schema`: that of these rules; `old`: on an update.
    pub fn validate(&self, schema: &dyn Structure, new: &Json, old: Option<&Json>, errors: &mut Errors) {
        let mut judge = Judge { budget: Budget::new(RULES_BUDGET), errors };
        let known = old.map(|old| (schema, unchanged(schema, new, old)));
        judge.node(&self.root, &Path::root(), new, old, Correlation { known, parent_same: false, root: true });
    }
}

impl Node {
    /// `rules`: the schema whose rules these are; `schema`: the one that says what values are. They differ in `allOf`.
    fn new(rules: &Json, schema: &Json, root: bool) -> Option<Node> {
        let below = |key: &str| match (&rules[key], &schema[key]) {
            (r @ Json::Object(_), s @ Json::Object(_)) => Node::new(r, s, is_root(s)).map(Box::new),
            _ => None,
        };
        let mut properties = BTreeMap::new();
        for (name, r) in rules["properties"].as_object().into_iter().flatten() {
            let s = &schema["properties"][name];
            if s.is_object()
                && let Some(node) = Node::new(r, s, is_root(s))
            {
                properties.insert(name.clone(), node);
            }
        }
        let all_of = rules["allOf"].as_array().into_iter().flatten().filter_map(|r| Node::new(r, schema, root));
        let mut node = Node {
            decl: None,
            type_name: text(schema, "type").to_string(),
            rules: Vec::new(),
            items: below("items"),
            additional: below("additionalProperties"),
            properties,
            all_of: all_of.collect(),
            keys: list_keys(schema),
        };
        for rule in rules_of(rules) {
            let optional_old = rule["optionalOldSelf"].as_bool() == Some(true);
            let Some((decl, env)) = environment(schema, root, optional_old) else { continue };
            node.decl = Some(decl);
            node.rules.push(Rule {
                program: compile_rule(rule, &env),
                text: text(rule, "rule").trim().to_string(),
                message: text(rule, "message").trim().to_string(),
                message_expression: compile_message(rule, &env)
                    .and_then(Result::ok)
                    .map(|p| (text(rule, "messageExpression").to_string(), p)),
                reason: text(rule, "reason").to_string(),
                field: field_path(text(rule, "fieldPath"), schema, true).map(|(shown, _)| shown).unwrap_or_default(),
                optional_old,
            });
        }
        let nothing = node.rules.is_empty()
            && node.items.is_none()
            && node.additional.is_none()
            && node.properties.is_empty()
            && node.all_of.is_empty();
        (!nothing).then_some(node)
    }
}

/// Whether a value can be told to be as it was.
#[derive(Clone, Copy, Default)]
struct Correlation<'s> {
    /// Where the old value is known: what the schema says of it, and whether it is the same.
    known: Option<(&'s dyn Structure, bool)>,
    /// Whether what holds the value, or the nearest thing around it whose old value is known, is the same.
    parent_same: bool,
    root: bool,
}

impl<'s> Correlation<'s> {
    fn is_same(self) -> bool {
        self.known.map_or(self.parent_same, |(_, same)| same)
    }

    /// Of what `allOf` says of the same value: it counts as something whose old value isn't known.
    fn nested(self) -> Correlation<'s> {
        Correlation { known: None, ..self }
    }

    /// Of a member or an item; `schema`: which part of this value's schema is about it.
    fn below(
        self,
        schema: impl Fn(&'s dyn Structure) -> Option<&'s dyn Structure>,
        new: &Json,
        old: Option<&Json>,
    ) -> Correlation<'s> {
        let Some((own, same)) = self.known else { return self };
        let known = schema(own).zip(old).map(|(s, old)| (s, same || unchanged(s, new, old)));
        Correlation { known, parent_same: same, root: false }
    }
}

/// Of what a value consists: all of it, whether there are rules for it or not.
pub trait Structure {
    /// What there is to say of a member.
    fn member(&self, name: &str) -> Option<&dyn Structure>;
    /// What there is to say of items.
    fn item(&self) -> Option<&dyn Structure>;
    /// What tells the items of a list of type map apart.
    fn keys(&self) -> Option<&[String]>;
}

fn list_keys(schema: &Json) -> Option<Vec<String>> {
    (schema["x-kubernetes-list-type"] == "map").then(|| {
        let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
        keys.filter_map(|k| k.as_str().map(String::from)).collect()
    })
}

/// Whether a value is what it was, as far as the schema says which part of it is which (upstream's `CorrelatedObject`):
/// items of a list with keys may have changed places; what the schema doesn't know can't be told to be the same.
fn unchanged(schema: &dyn Structure, new: &Json, old: &Json) -> bool {
    match (new, old) {
        (Json::Array(items), Json::Array(others)) => {
            let Some((keys, item)) = schema.keys().zip(schema.item()) else { return new == old };
            let before = ByKeys::of(others, keys);
            items.len() == others.len() && items.iter().all(|n| before.find(n).is_some_and(|o| unchanged(item, n, o)))
        }
        (Json::Object(new), Json::Object(old)) => {
            new.len() == old.len()
                && new
                    .iter()
                    .all(|(name, n)| schema.member(name).zip(old.get(name)).is_some_and(|(s, o)| unchanged(s, n, o)))
        }
        _ => new == old,
    }
}

/// The items of a list by what its keys say of them; of several that are the same the first.
struct ByKeys<'a> {
    keys: &'a [String],
    items: HashMap<Vec<&'a Json>, &'a Json>,
}

impl<'a> ByKeys<'a> {
    fn of(items: &'a [Json], keys: &'a [String]) -> ByKeys<'a> {
        let mut by_keys = ByKeys { keys, items: HashMap::with_capacity(items.len()) };
        for item in items {
            by_keys.items.entry(by_keys.key(item)).or_insert(item);
        }
        by_keys
    }

    fn key<'i>(&self, item: &'i Json) -> Vec<&'i Json> {
        self.keys.iter().map(|k| &item[k]).collect()
    }

    fn find(&self, like: &Json) -> Option<&'a Json> {
        self.items.get(&self.key(like)).copied()
    }
}

struct Judge<'e> {
    budget: Budget,
    errors: &'e mut Errors,
}

impl Judge<'_> {
    /// False: the budget is spent.
    fn node(&mut self, node: &Node, path: &Path, new: &Json, old: Option<&Json>, c: Correlation<'_>) -> bool {
        if new.is_null() {
            return true;
        }
        let old = old.filter(|o| !o.is_null());
        if !self.rules(node, path, new, old, c) {
            return false;
        }
        for one in &node.all_of {
            if !self.node(one, path, new, old, c.nested()) {
                return false;
            }
        }
        match new {
            Json::Array(items) => self.list(node, path, items, old, c),
            Json::Object(fields) => self.object(node, path, fields, old, c),
            _ => true,
        }
    }

    fn list(&mut self, node: &Node, path: &Path, items: &[Json], old: Option<&Json>, c: Correlation<'_>) -> bool {
        let Some(below) = &node.items else { return true };
        let before = match (&node.keys, old) {
            (Some(keys), Some(Json::Array(old))) => Some(ByKeys::of(old, keys)),
            _ => None,
        };
        items.iter().enumerate().all(|(i, item)| {
            let before = before.as_ref().and_then(|b| b.find(item));
            self.node(below, &path.index(i), item, before, c.below(|s| s.item(), item, before))
        })
    }

    fn object(
        &mut self,
        node: &Node,
        path: &Path,
        fields: &serde_json::Map<String, Json>,
        old: Option<&Json>,
        c: Correlation<'_>,
    ) -> bool {
        let before = |name: &str| old.and_then(|o| o.get(name));
        let below = |name: &str, v: &Json| match name {
            // Both were made of one version, so that changes of these can't be seen.
            "apiVersion" | "kind" if c.root => Correlation::default(),
            _ => c.below(|s| s.member(name), v, before(name)),
        };
        if let Some(additional) = &node.additional {
            for (name, v) in fields {
                if !self.node(additional, &path.key(name), v, before(name), below(name, v)) {
                    return false;
                }
            }
        }
        for (name, v) in fields {
            if let Some(n) = node.properties.get(name)
                && !self.node(n, &path.child(name), v, before(name), below(name, v))
            {
                return false;
            }
        }
        true
    }

    fn rules(&mut self, node: &Node, path: &Path, new: &Json, old: Option<&Json>, c: Correlation<'_>) -> bool {
        let Some(decl) = &node.decl else { return true };
        for rule in &node.rules {
            let shown = if rule.message.is_empty() { &rule.text } else { &rule.message };
            let told = &node.type_name;
            let program = match &rule.program {
                Ok(p) => p,
                Err(why) => {
                    self.errors.invalid(path.clone(), told.as_str(), format!("rule compile error: {why}"));
                    continue;
                }
            };
            let transition = program.uses("oldSelf");
            if transition && old.is_none() && !rule.optional_old {
                continue;
            }
            let mut vars = Vars::new().with("self", Value::typed(new, decl));
            let before = old.map(|o| Value::typed(o, decl));
            if rule.optional_old {
                vars = vars.with("oldSelf", before.map_or(Value::Optional(None), Value::some));
            } else if let Some(v) = before {
                vars = vars.with("oldSelf", v);
            }
            let why = match eval(program, &vars, &mut self.budget) {
                Ok(Value::Bool(true)) => continue,
                Ok(_) => None,
                Err(EvalError::Budget) => {
                    self.errors.invalid(path.clone(), told.as_str(), EvalError::Budget.to_string());
                    return false;
                }
                Err(e @ EvalError::CallCost) => {
                    let text = format!(
                        "'{e}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}"
                    );
                    self.errors.invalid(path.clone(), told.as_str(), text);
                    return false;
                }
                Err(e) => Some(e.to_string()),
            };
            if let Some(why) = why {
                let text = if why.starts_with("no such overload") {
                    format!(
                        "'{why}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
                    )
                } else {
                    format!("{why} evaluating rule: {shown}")
                };
                self.errors.invalid(path.clone(), told.as_str(), text);
                continue;
            }
            let told_before = self.errors.0.len();
            let at = if rule.field.is_empty() { path.clone() } else { path.child(&rule.field) };
            // Scalars are shown; objects and lists would be too long.
            let omitted = matches!(node.type_name.as_str(), "object" | "array");
            let detail = self.message(rule, &vars);
            let spent = detail.is_err();
            match (detail, rule.reason.as_str()) {
                (Err(why), _) => self.errors.invalid(at, told.as_str(), why),
                (Ok(detail), "FieldValueForbidden") => self.errors.forbidden(at, detail),
                (Ok(detail), "FieldValueRequired") => self.errors.required(at, detail),
                (Ok(_), "FieldValueDuplicate") if omitted => self.errors.duplicate_omitted(at),
                (Ok(_), "FieldValueDuplicate") => self.errors.duplicate(at, new.clone()),
                (Ok(detail), _) if omitted => self.errors.invalid_omitted(at, detail),
                (Ok(detail), _) => self.errors.invalid(at, new.clone(), detail),
            }
            // What stays as it was may stay, unless the rule is about the change.
            if !transition && c.is_same() {
                self.errors.let_pass(told_before);
            }
            if spent {
                return false;
            }
        }
        true
    }

    /// What to tell of a rule that doesn't hold. Errors end everything.
    fn message(&mut self, rule: &Rule, vars: &Vars<'_>) -> Result<String, String> {
        if let Some((source, program)) = &rule.message_expression {
            match eval(program, vars, &mut self.budget) {
                Err(EvalError::Budget) => {
                    return Err("messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run".into());
                }
                Err(EvalError::CallCost) => {
                    return Err(format!(
                        "no further validation rules will be run due to call cost exceeds limit for messageExpression: {source:?}"
                    ));
                }
                Ok(v) => {
                    let text = v.as_str().unwrap_or("").trim();
                    if !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n') {
                        return Ok(text.to_string());
                    }
                }
                Err(_) => {}
            }
        }
        if rule.message.is_empty() { Ok(format!("failed rule: {}", rule.text)) } else { Ok(rule.message.clone()) }
    }
}

/// Tells what is wrong with the expressions of a schema's rules. `path`: where the schema is. `is_sound`: whether nothing
/// else is wrong at a node or below; rules on others aren't looked at. `lenient`: a single rule may cost any amount, as
/// the schema was taken before.
pub fn check(schema: &Json, path: &Path, is_sound: &dyn Fn(&Path) -> bool, lenient: bool, errors: &mut Errors) {
    let mut checker = Checker { errors, is_sound, lenient, total: 0, expensive: Vec::new(), depth: 0 };
    checker.node(schema, path, true, Some(1), None);
    let Checker { total, mut expensive, .. } = checker;
    if total > TOTAL_COST_MAX {
        // Cheap ones don't matter.
        expensive.retain(|(cost, _)| *cost >= TOTAL_COST_MAX / 100);
        expensive.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        for (_, at) in expensive.into_iter().take(NAMED_MAX) {
            errors.forbidden(
                at,
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema",
            );
        }
        let name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.forbidden(path.clone(), too_much(name, total, TOTAL_COST_MAX));
    }
}

/// Tells what is wrong with the rules of one node, but for their expressions.
pub fn check_form(schema: &Json, path: &Path, errors: &mut Errors) {
    for (i, rule) in rules_of(schema).iter().enumerate() {
        form(rule, schema, &path.child("x-kubernetes-validations").index(i), errors);
    }
}

fn too_much(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let shown = match factor {
        f if f > 100.0 => "more than 100x".to_string(),
        f if f < 1.5 => format!("{f:.6}x"),
        f => format!("{f:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {shown} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

struct Checker<'e> {
    errors: &'e mut Errors,
    is_sound: &'e dyn Fn(&Path) -> bool,
    lenient: bool,
    total: u64,
    expensive: Vec<(u64, Path)>,
    depth: usize,
}

impl Checker<'_> {
    /// `times`: how often the node's values can occur in an object; None for any number. `uncorrelated`: where above
    /// old values can't be found.
    fn node(&mut self, schema: &Json, path: &Path, root: bool, times: Option<u64>, uncorrelated: Option<&Path>) {
        self.depth += 1;
        // JSON doesn't nest deeper.
        if self.depth <= 200 {
            self.below(schema, path, times, uncorrelated);
            self.rules(schema, path, root, times, uncorrelated);
        }
        self.depth -= 1;
    }

    fn below(&mut self, schema: &Json, path: &Path, times: Option<u64>, uncorrelated: Option<&Path>) {
        let limited = |key: &str| schema[key].as_u64().and_then(|n| times.map(|t| t.saturating_mul(n)));
        for (name, p) in schema["properties"].as_object().into_iter().flatten() {
            self.node(p, &path.child("properties").key(name), is_root(p), times, uncorrelated);
        }
        let additional = &schema["additionalProperties"];
        if additional.is_object() {
            let at = path.child("additionalProperties");
            self.node(additional, &at, is_root(additional), limited("maxProperties"), uncorrelated);
        }
        let items = &schema["items"];
        if items.is_object() {
            let own = (schema["x-kubernetes-list-type"] != "map").then_some(path);
            self.node(items, &path.child("items"), is_root(items), limited("maxItems"), uncorrelated.or(own));
        }
    }

    fn rules(&mut self, schema: &Json, path: &Path, root: bool, times: Option<u64>, uncorrelated: Option<&Path>) {
        if rules_of(schema).is_empty() || !(self.is_sound)(path) {
            return;
        }
        for (i, rule) in rules_of(schema).iter().enumerate() {
            let at = path.child("x-kubernetes-validations").index(i);
            let optional_old = rule["optionalOldSelf"].as_bool() == Some(true);
            let Some((decl, env)) = environment(schema, root, optional_old) else {
                let text = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations";
                return self.errors.internal(path.child("x-kubernetes-validations"), text);
            };
            let times = times.unwrap_or(REQUEST_BYTES_MAX / (decl.size_min.max(0) as u64 + 1));
            let program = match compile_rule(rule, &env) {
                Ok(program) => program,
                Err(why) => {
                    self.errors.invalid(at.child("rule"), rule.clone(), why);
                    continue;
                }
            };
            let cost = estimate::estimate(&program, &decl).max.saturating_mul(times);
            self.charge("estimated rule cost", cost, at.child("rule"));
            match compile_message(rule, &env) {
                None => {}
                Some(Err(why)) => self.errors.invalid(at.child("messageExpression"), rule.clone(), why),
                Some(Ok(program)) => {
                    let Range { max, .. } = estimate::estimate(&program, &decl);
                    self.charge("estimated messageExpression cost", max, at.child("messageExpression"));
                }
            }
            let transition = program.uses("oldSelf");
            if let (true, Some(within)) = (transition, uncorrelated) {
                let text = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {}",
                    within.as_str()
                );
                self.errors.invalid(at.child("rule"), self::text(rule, "rule"), text);
            }
            if !transition && let Some(given) = rule.get("optionalOldSelf").filter(|v| !v.is_null()) {
                let text = "may not be set if oldSelf is not used in rule";
                self.errors.invalid(at.child("optionalOldSelf"), given.clone(), text);
            }
        }
    }

    fn charge(&mut self, what: &str, cost: u64, at: Path) {
        if cost > COST_MAX && !self.lenient {
            self.errors.forbidden(at.clone(), too_much(what, cost, COST_MAX));
        }
        self.total = self.total.saturating_add(cost);
        self.expensive.push((cost, at));
    }
}

/// Everything but the expressions.
fn form(rule: &Json, schema: &Json, at: &Path, errors: &mut Errors) {
    let has_newlines = |t: &str| t.contains(['\n', '\r']);
    let (expression, message) = (text(rule, "rule").trim(), text(rule, "message"));
    if expression.is_empty() {
        errors.required(at.child("rule"), "rule is not specified");
    } else if !message.is_empty() && message.trim().is_empty() {
        errors.invalid(at.child("message"), message, "must be non-empty if specified");
    } else if has_newlines(message.trim()) {
        errors.invalid(at.child("message"), message, "must not contain line breaks");
    } else if has_newlines(expression) && message.trim().is_empty() {
        errors.required(at.child("message"), "message must be specified if rule contains line breaks");
    }
    let shown = text(rule, "messageExpression");
    if !shown.is_empty() && shown.trim().is_empty() {
        errors.required(at.child("messageExpression"), "messageExpression must be non-empty if specified");
    }
    if let Some(reason) = rule["reason"].as_str()
        && !REASONS.contains(&reason)
    {
        errors.not_supported(at.child("reason"), reason, REASONS);
    }
    let field = text(rule, "fieldPath");
    if field.is_empty() {
        return;
    }
    if field.trim().is_empty() {
        errors.invalid(at.child("fieldPath"), field, "must be non-empty if specified");
    }
    if has_newlines(field) {
        errors.invalid(at.child("fieldPath"), field, "must not contain line breaks");
    }
    if field_path(field, schema, true).is_err() {
        errors.invalid(at.child("fieldPath"), field, "must be a valid path");
    }
}

/// A field path of a rule or of a selectable field: as errors show it, and the schema that it leads to. `arrays`: whether
/// `['name']` may be written. The error is upstream's.
pub fn field_path<'s>(given: &str, schema: &'s Json, arrays: bool) -> Result<(String, &'s Json), String> {
    const NOWHERE: &str = "does not refer to a valid field";
    let (mut out, mut schema) = (String::new(), schema);
    let mut tokens = tokens(given).into_iter();
    while let Some(token) = tokens.next() {
        let name = match token {
            "[" if !arrays => return Err("array notation is not allowed".into()),
            "[" | "." => tokens.next().ok_or("unexpected end of JSON path")?,
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        let name = match token {
            "[" if name.len() < 2 || !name.starts_with('\'') || !name.ends_with('\'') => {
                return Err(format!("expected single quoted string but got {name}"));
            }
            "[" => unescape(&name[1..name.len() - 1]).map_err(|e| format!("invalid string literal: {e}"))?,
            _ => name.to_string(),
        };
        if let Some(properties) = schema["properties"].as_object() {
            schema = properties.get(&name).ok_or(NOWHERE)?;
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(&name);
        } else if schema["additionalProperties"].is_object() {
            schema = &schema["additionalProperties"];
            out.push_str(&format!("[{name}]"));
        } else {
            return Err(NOWHERE.into());
        }
        if token == "[" {
            match tokens.next() {
                Some("]") => {}
                Some(other) => return Err(format!("expected ] but got {other}")),
                None => return Err("unexpected end of JSON path".into()),
            }
        }
    }
    Ok((out, schema))
}

/// Splits at `.`, `[` and `]`, which are tokens of their own; quoted text is one.
fn tokens(path: &str) -> Vec<&str> {
    let (mut out, mut rest) = (Vec::new(), path);
    while !rest.is_empty() {
        let end = if rest.starts_with('\'') {
            let bytes = rest.as_bytes();
            (1..bytes.len()).find(|i| bytes[*i] == b'\'' && bytes[i - 1] != b'\\').map_or(rest.len(), |i| i + 1)
        } else {
            rest.find(['.', '[', ']']).map_or(rest.len(), |i| i.max(1))
        };
        out.push(&rest[..end]);
        rest = &rest[end..];
    }
    out
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next() {
                Some('a') => '\u{7}',
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('v') => '\u{b}',
                Some(c @ ('\'' | '\\')) => c,
                other => return Err(format!("invalid escape char \\{}", other.map(String::from).unwrap_or_default())),
            },
            c => c,
        });
    }
    Ok(out)
}
