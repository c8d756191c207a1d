//! Label selectors and field selectors.
//!
//! In: the string of a query (`app=web,tier in (a,b),!old`), or a `metav1.LabelSelector` object.
//! Out: requirements that say whether a set of labels matches. Errors are worded as upstream's, which clients see.

use crate::field::{Errors, Path};
use crate::names;
use serde_json::{Map, Value};
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operator {
    In,
    NotIn,
    /// `=`; one value.
    Equals,
    /// `!=`; one value; also matches where the key is absent.
    NotEquals,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    /// Sorted, without duplicates.
    pub values: Vec<String>,
}

impl Requirement {
    /// Checks key, operator and values against each other; the error is upstream's.
    pub fn new(key: &str, operator: Operator, values: Vec<String>) -> Result<Requirement, String> {
        let mut errors = Errors::default();
        let path = Path::root();
        check_key(key, &path, &mut errors);
        let at = path.child("values");
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                errors.invalid(at, Value::Array(vec![]), "for 'in', 'notin' operators, values set can't be empty");
            }
            Operator::Equals | Operator::NotEquals if values.len() != 1 => {
                errors.invalid(at, values.clone(), "exact-match compatibility requires one single value");
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                errors.invalid(at, values.clone(), "values set must be empty for exists and does not exist");
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
                errors.invalid(at, values.clone(), "for 'Gt', 'Lt' operators, exactly one value is required");
            }
            Operator::GreaterThan | Operator::LessThan => {
                for (i, v) in values.iter().enumerate().filter(|(_, v)| v.parse::<i64>().is_err()) {
                    errors.invalid(at.index(i), v.as_str(), "for 'Gt', 'Lt' operators, the value must be an integer");
                }
            }
            _ => {}
        }
        for (i, v) in values.iter().enumerate() {
            let wrong = names::label_value(v);
            if !wrong.is_empty() {
                errors.invalid(path.child("values").index(i).key(key), v.as_str(), wrong.join("; "));
            }
        }
        if errors.is_empty() {
            let mut values = values;
            values.sort();
            values.dedup();
            Ok(Requirement { key: key.to_string(), operator, values })
        } else {
            Err(errors.joined())
        }
    }

    pub fn matches(&self, labels: &Map<String, Value>) -> bool {
        self.matches_value(labels.get(&self.key).and_then(Value::as_str))
    }

    /// `label` is the value of this key, if the labels have it.
    pub fn matches_value(&self, label: Option<&str>) -> bool {
        let listed = |l: &str| self.values.iter().any(|v| v == l);
        let compared = |ok: fn(i64, i64) -> bool| {
            let ours = self.values.first().and_then(|v| v.parse().ok());
            matches!((label.and_then(|l| l.parse().ok()), ours), (Some(a), Some(b)) if ok(a, b))
        };
        match self.operator {
            Operator::In | Operator::Equals => label.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !label.is_some_and(listed),
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::GreaterThan => compared(|a, b| a > b),
            Operator::LessThan => compared(|a, b| a < b),
        }
    }
}

fn check_key(key: &str, path: &Path, errors: &mut Errors) {
    let wrong = names::qualified_name(key);
    if !wrong.is_empty() {
        errors.invalid(path.child("key"), key, wrong.join("; "));
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values.join(",");
        let key = &self.key;
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// All requirements must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    /// Sorted by key.
    pub requirements: Vec<Requirement>,
    nothing: bool,
}

impl Selector {
    /// Matches all labels.
    pub fn everything() -> Selector {
        Selector { requirements: Vec::new(), nothing: false }
    }

    /// Matches no labels.
    pub fn nothing() -> Selector {
        Selector { requirements: Vec::new(), nothing: true }
    }

    pub fn from_requirements(mut requirements: Vec<Requirement>) -> Selector {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Selector { requirements, nothing: false }
    }

    /// From a query's `labelSelector`. Empty matches everything.
    pub fn parse(text: &str) -> Result<Selector, String> {
        Parser { tokens: lex(text), at: 0 }.selector().map(Selector::from_requirements)
    }

    /// From a `metav1.LabelSelector`: null matches nothing, empty matches everything.
    pub fn from_label_selector(v: &Value) -> Result<Selector, String> {
        let Value::Object(map) = v else {
            return Ok(Selector::nothing());
        };
        let mut out = Vec::new();
        for (key, value) in map.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let value = value.as_str().unwrap_or("").to_string();
            // Upstream compares these as `in` with one value, and prints them as `key=value`.
            out.push(Requirement::new(key, Operator::Equals, vec![value])?);
        }
        for e in map.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            let text = |name: &str| e.get(name).and_then(Value::as_str).unwrap_or("");
            let operator = match text("operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(format!("{other:?} is not a valid label selector operator")),
            };
            let values = e.get("values").and_then(Value::as_array).into_iter().flatten();
            let values = values.filter_map(Value::as_str).map(str::to_string).collect();
            out.push(Requirement::new(text("key"), operator, values)?);
        }
        Ok(Selector::from_requirements(out))
    }

    /// From a plain map (`spec.selector` of a Service or ReplicationController). Not checked, as upstream.
    pub fn from_map(map: &Map<String, Value>) -> Selector {
        Selector::from_requirements(
            map.iter()
                .map(|(k, v)| Requirement {
                    key: k.clone(),
                    operator: Operator::Equals,
                    values: vec![v.as_str().unwrap_or("").to_string()],
                })
                .collect(),
        )
    }

    pub fn matches(&self, labels: &Map<String, Value>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels))
    }

    /// As [`Selector::matches`], on an object's `metadata.labels`.
    pub fn matches_object(&self, obj: &Value) -> bool {
        match crate::object::labels(obj) {
            Some(labels) => self.matches(labels),
            None => self.matches(&Map::new()),
        }
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// The one value that this selector demands of a key, for indexes.
    pub fn required_value(&self, key: &str) -> Option<&str> {
        self.requirements
            .iter()
            .find(|r| r.key == key && matches!(r.operator, Operator::Equals | Operator::In) && r.values.len() == 1)
            .and_then(|r| r.values.first())
            .map(String::as_str)
    }
}

impl fmt::Display for Selector {
    /// The string form, which parses back; empty for both everything and nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            write!(f, "{}{r}", if i > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// Faults of a `metav1.LabelSelector` in an object (upstream: `ValidateLabelSelector`).
pub fn validate_label_selector(v: &Value, path: &Path, errors: &mut Errors) {
    let labels = path.child("matchLabels");
    for (key, value) in v.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
        let wrong = names::qualified_name(key);
        for why in wrong {
            errors.invalid(labels.clone(), key.as_str(), why);
        }
        let value = value.as_str().unwrap_or("");
        for why in names::label_value(value) {
            errors.invalid(labels.key(key), value, why);
        }
    }
    for (i, e) in v.get("matchExpressions").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let at = path.child("matchExpressions").index(i);
        let text = |name: &str| e.get(name).and_then(Value::as_str).unwrap_or("");
        let values = e.get("values").and_then(Value::as_array).map(Vec::as_slice).unwrap_or(&[]);
        match text("operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(at.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.forbidden(
                    at.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(at.child("operator"), other, "not a valid selector operator"),
        }
        for why in names::qualified_name(text("key")) {
            errors.invalid(at.child("key"), text("key"), why);
        }
        for (j, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or("");
            for why in names::label_value(value) {
                errors.invalid(at.child("values").index(j), value, why);
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Identifier,
    In,
    NotIn,
    Symbol(&'static str),
    Error,
    End,
}

/// Longest first, so that `==` isn't two `=`.
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

fn lex(text: &str) -> Vec<(Token, String)> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    let special = |c: char| "=!(),<>".contains(c);
    while let Some(first) = rest.chars().next() {
        let (token, len) = if special(first) {
            // Upstream reads all special characters that form a known symbol together.
            match SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
                Some(s) => (Token::Symbol(s), s.len()),
                None => (Token::Error, first.len_utf8()),
            }
        } else {
            let len = rest.find(|c: char| special(c) || matches!(c, ' ' | '\t' | '\r' | '\n')).unwrap_or(rest.len());
            let token = match &rest[..len] {
                "in" => Token::In,
                "notin" => Token::NotIn,
                _ => Token::Identifier,
            };
            // Other white space than the four above is part of a word.
            (token, len.max(1))
        };
        out.push((token, rest[..len].to_string()));
        rest = rest[len..].trim_start_matches([' ', '\t', '\r', '\n']);
    }
    out
}

struct Parser {
    tokens: Vec<(Token, String)>,
    at: usize,
}

impl Parser {
    /// The next token. Where a value is expected, `in` and `notin` are words like any other.
    fn look(&self, words: bool) -> (Token, &str) {
        match self.tokens.get(self.at) {
            None => (Token::End, ""),
            Some((Token::In | Token::NotIn, text)) if words => (Token::Identifier, text),
            Some((token, text)) => (token.clone(), text),
        }
    }

    fn next(&mut self, words: bool) -> (Token, String) {
        let (token, text) = self.look(words);
        let out = (token, text.to_string());
        self.at += 1;
        out
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, String> {
        let mut out = Vec::new();
        loop {
            match self.look(true) {
                (Token::Identifier | Token::Symbol("!"), _) => {
                    let r = self.requirement().map_err(|e| format!("unable to parse requirement: {e}"))?;
                    out.push(r);
                    match self.next(true) {
                        (Token::End, _) => return Ok(out),
                        (Token::Symbol(","), _) => match self.look(true) {
                            (Token::Identifier | Token::Symbol("!"), _) => {}
                            (_, text) => {
                                return Err(format!("found '{text}', expected: identifier after ','"));
                            }
                        },
                        (_, text) => {
                            return Err(format!("found '{text}', expected: ',' or 'end of string'"));
                        }
                    }
                }
                (Token::End, _) => return Ok(out),
                (_, text) => {
                    return Err(format!("found '{text}', expected: !, identifier, or 'end of string'"));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (mut token, mut key) = self.next(true);
        let absent = token == Token::Symbol("!");
        if absent {
            (token, key) = self.next(true);
        }
        if token != Token::Identifier {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let mut errors = Errors::default();
        check_key(&key, &Path::root(), &mut errors);
        if !errors.is_empty() {
            return Err(errors.joined());
        }
        if absent {
            return Requirement::new(&key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.look(true).0, Token::End | Token::Symbol(",")) {
            return Requirement::new(&key, Operator::Exists, Vec::new());
        }
        let (token, text) = self.next(false);
        let operator = match token {
            Token::In => Operator::In,
            Token::NotIn => Operator::NotIn,
            Token::Symbol("=" | "==") => Operator::Equals,
            Token::Symbol("!=") => Operator::NotEquals,
            Token::Symbol(">") => Operator::GreaterThan,
            Token::Symbol("<") => Operator::LessThan,
            _ => {
                return Err(format!("found '{text}', expected: in, notin, =, ==, !=, gt, lt"));
            }
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?],
        };
        Requirement::new(&key, operator, values)
    }

    fn exact_value(&mut self) -> Result<String, String> {
        if matches!(self.look(true).0, Token::End | Token::Symbol(",")) {
            return Ok(String::new());
        }
        match self.next(true) {
            (Token::Identifier, text) => Ok(text),
            (_, text) => Err(format!("found '{text}', expected: identifier")),
        }
    }

    /// `(a,b)`; empty places between commas are empty values.
    fn values(&mut self) -> Result<Vec<String>, String> {
        match self.next(true) {
            (Token::Symbol("("), _) => {}
            (_, text) => return Err(format!("found '{text}' expected: '('")),
        }
        let mut out = Vec::new();
        // Whether a value has to come, or else the place is an empty one.
        let mut open = true;
        loop {
            match self.next(true) {
                (Token::Identifier, text) if open => {
                    out.push(text);
                    open = false;
                }
                (Token::Symbol(","), _) => {
                    if open {
                        out.push(String::new());
                    }
                    open = true;
                }
                (Token::Symbol(")"), _) => {
                    if open {
                        out.push(String::new());
                    }
                    out.sort();
                    out.dedup();
                    return Ok(out);
                }
                (_, text) if out.is_empty() => {
                    return Err(format!("found '{text}', expected: ',', ')' or identifier"));
                }
                (_, text) if open => {
                    return Err(format!("found '{text}', expected: ',', or identifier"));
                }
                (_, text) => return Err(format!("found '{text}', expected: ',' or ')'")),
            }
        }
    }
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldTerm {
    /// For example `metadata.name`.
    pub field: String,
    pub value: String,
    /// `!=`
    pub not: bool,
}

impl FieldTerm {
    pub fn matches(&self, value: &str) -> bool {
        (self.value == value) != self.not
    }
}

impl fmt::Display for FieldTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.field, if self.not { "!=" } else { "=" })?;
        for c in self.value.chars() {
            if matches!(c, '\\' | ',' | '=') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        Ok(())
    }
}

/// All terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    pub terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// From a query's `fieldSelector`: `a=b,c==d,e!=f`; `\`, `,` and `=` in values are escaped by a backslash.
    pub fn parse(text: &str) -> Result<FieldSelector, String> {
        let mut terms = Vec::new();
        for part in split_terms(text) {
            if part.is_empty() {
                continue;
            }
            let Some((field, operator, value)) = split_term(part) else {
                return Err(format!("invalid selector: '{text}'; can't understand '{part}'"));
            };
            let value = unescape(value)?;
            terms.push(FieldTerm { field: field.to_string(), value, not: operator == "!=" });
        }
        Ok(FieldSelector { terms })
    }

    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The one value that a field must have.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.field == field && !t.not).map(|t| t.value.as_str())
    }

    /// `lookup` gives a field's value; absent fields are empty.
    pub fn matches<'a>(&self, lookup: impl Fn(&str) -> &'a str) -> bool {
        self.terms.iter().all(|t| t.matches(lookup(&t.field)))
    }

    /// The value that a term demands of a field, for lookups by name.
    pub fn required_value(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.field == field && !t.not).map(|t| t.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, t) in self.terms.iter().enumerate() {
            write!(f, "{}{t}", if i > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// At commas that aren't escaped.
fn split_terms(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

fn split_term(term: &str) -> Option<(&str, &str, &str)> {
    term.char_indices().find_map(|(i, _)| {
        let operator = ["!=", "==", "="].into_iter().find(|o| term[i..].starts_with(o))?;
        Some((&term[..i], operator, &term[i + operator.len()..]))
    })
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(e @ ('\\' | ',' | '=')) => out.push(e),
                Some(e) => {
                    return Err(format!("invalid field selector: invalid escape sequence: {}", format_args!("\\{e}")));
                }
                None => {
                    return Err("invalid field selector: invalid escape sequence: \\".to_string());
                }
            },
            ',' | '=' => {
                return Err(format!("invalid field selector: unescaped character in value: {c}"));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn labels(v: Value) -> Map<String, Value> {
        v.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn selectors_parse_print_and_match() {
        let web = labels(json!({"app": "web", "tier": "front", "n": "5", "x.y/z": ""}));
        for (text, printed, matches) in [
            ("", "", true),
            ("app=web", "app=web", true),
            ("app == web", "app=web", true),
            (" app = api ", "app=api", false),
            ("app!=web", "app!=web", false),
            ("none!=web", "none!=web", true),
            ("app", "app", true),
            ("!app", "!app", false),
            ("! none", "!none", true),
            ("app in (web,api)", "app in (api,web)", true),
            ("app in (web , web)", "app in (web)", true),
            ("app notin (web)", "app notin (web)", false),
            ("none notin (web)", "none notin (web)", true),
            ("n>4", "n>4", true),
            ("n>5", "n>5", false),
            ("n<6,app", "app,n<6", true),
            ("app>1", "app>1", false),
            ("x.y/z=", "x.y/z=", true),
            ("x.y/z in ()", "x.y/z in ()", true),
            ("x.y/z in (,a)", "x.y/z in (,a)", true),
            ("in=in,notin", "in=in,notin", false),
            ("tier=front,app=web", "app=web,tier=front", true),
        ] {
            let s = Selector::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(s.to_string(), printed, "{text}");
            assert_eq!(s.matches(&web), matches, "{text}");
            assert_eq!(Selector::parse(printed).as_ref(), Ok(&s), "{printed}");
        }
    }

    #[test]
    fn faults_are_worded_as_upstream() {
        for (text, why) in [
            ("a=b,", "found '', expected: identifier after ','"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            (",a", "found ',', expected: !, identifier, or 'end of string'"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            (
                "a>b",
                "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
        ] {
            assert_eq!(Selector::parse(text).map(|s| s.to_string()), Err(why.to_string()), "{text}");
        }
        let bad = Selector::parse("-a=b").expect_err("a key");
        assert!(bad.starts_with("unable to parse requirement: key: Invalid value: \"-a\": name part must"), "{bad}");
        let bad = Selector::parse("a=-b").expect_err("a value");
        assert!(bad.contains("values[0][a]: Invalid value: \"-b\": a valid label must be"), "{bad}");
    }

    #[test]
    fn label_selector_objects() {
        let s = |v: Value| Selector::from_label_selector(&v);
        assert_eq!(s(Value::Null), Ok(Selector::nothing()));
        assert!(!Selector::nothing().matches(&Map::new()));
        assert!(s(json!({})).is_ok_and(|s| s.is_everything() && s.matches(&Map::new())));
        let both = s(json!({"matchLabels": {"b": "1"}, "matchExpressions": [
            {"key": "a", "operator": "In", "values": ["y", "x"]}, {"key": "c", "operator": "DoesNotExist"}]}));
        assert_eq!(both.as_ref().map(Selector::to_string).as_deref(), Ok("a in (x,y),b=1,!c"));
        assert!(both.is_ok_and(|s| s.matches(&labels(json!({"a": "x", "b": "1"})))));
        assert_eq!(
            s(json!({"matchExpressions": [{"key": "a", "operator": "Like"}]})),
            Err("\"Like\" is not a valid label selector operator".to_string())
        );
        assert!(s(json!({"matchExpressions": [{"key": "a", "operator": "In"}]})).is_err());
    }

    #[test]
    fn label_selectors_are_validated() {
        let mut errors = Errors::default();
        let v = json!({"matchLabels": {"-": "-"}, "matchExpressions": [
            {"key": "a", "operator": "In"}, {"key": "a", "operator": "Exists", "values": ["b"]}, {"key": "", "operator": "X"}]});
        validate_label_selector(&v, &Path::new("spec.selector"), &mut errors);
        let at: Vec<&str> = errors.0.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(
            at,
            [
                "spec.selector.matchLabels",
                "spec.selector.matchLabels[-]",
                "spec.selector.matchExpressions[0].values",
                "spec.selector.matchExpressions[1].values",
                "spec.selector.matchExpressions[2].operator",
                "spec.selector.matchExpressions[2].key",
                "spec.selector.matchExpressions[2].key",
            ]
        );
    }

    #[test]
    fn field_selectors() {
        let f = |t: &str| FieldSelector::parse(t).map(|s| s.to_string());
        assert_eq!(f("metadata.name=a,spec.x!=b,c==d"), Ok("metadata.name=a,spec.x!=b,c=d".into()));
        assert_eq!(f(""), Ok(String::new()));
        assert_eq!(f("a=x\\,y\\=\\\\"), Ok("a=x\\,y\\=\\\\".into()));
        assert_eq!(f("a"), Err("invalid selector: 'a'; can't understand 'a'".into()));
        assert!(f("a=b=c").is_err());
        assert!(f("a=b\\c").is_err());
        let s = FieldSelector::parse("a=1,b!=2").expect("a selector");
        assert!(s.matches(|k| if k == "a" { "1" } else { "" }));
        assert!(!s.matches(|k| if k == "a" { "1" } else { "2" }));
        assert_eq!((s.required_value("a"), s.required_value("b")), (Some("1"), None));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "[a-c=!(),<> \\\\é]{0,12}") {
            let _ = FieldSelector::parse(&text);
            if let Ok(s) = Selector::parse(&text) {
                prop_assert_eq!(Selector::parse(&s.to_string()), Ok(s));
            }
        }
    }
}
