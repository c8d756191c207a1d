//! Errors of single fields, worded as upstream words them, because tools and people match on the text.
//!
//! Source: the API conventions and `metav1.StatusCause`. A [`Path`] prints as
//! `spec.template.spec.containers[0].ports[1].name` or `metadata.labels[app]`.

use serde_json::Value;
use std::collections::HashSet;
use std::fmt;

/// Where in an object.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Path(String);

impl Path {
    pub fn root() -> Path {
        Path(String::new())
    }

    pub fn new(name: &str) -> Path {
        Path(name.to_string())
    }

    /// `self.name`; dots in `name` are kept, so `child("spec.ports")` works.
    pub fn child(&self, name: &str) -> Path {
        if self.0.is_empty() { Path(name.to_string()) } else { Path(format!("{}.{name}", self.0)) }
    }

    pub fn index(&self, i: usize) -> Path {
        Path(format!("{}[{i}]", self.0))
    }

    pub fn key(&self, key: &str) -> Path {
        Path(format!("{}[{key}]", self.0))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// `reason` of a `metav1.StatusCause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
    /// `Invalid` whose value is not shown (Go's `OmitValueType`).
    InvalidOmitted,
    /// `Duplicate` whose value is not shown.
    DuplicateOmitted,
}

impl Reason {
    /// `StatusCause.reason`, for example `FieldValueInvalid`.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::NotFound => "FieldValueNotFound",
            Reason::Required => "FieldValueRequired",
            Reason::Duplicate | Reason::DuplicateOmitted => "FieldValueDuplicate",
            Reason::Invalid | Reason::InvalidOmitted => "FieldValueInvalid",
            Reason::NotSupported => "FieldValueNotSupported",
            Reason::Forbidden => "FieldValueForbidden",
            Reason::TooLong => "FieldValueTooLong",
            Reason::TooMany => "FieldValueTooMany",
            Reason::Internal => "InternalError",
            Reason::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Reason::NotFound => "Not found",
            Reason::Required => "Required value",
            Reason::Duplicate | Reason::DuplicateOmitted => "Duplicate value",
            Reason::Invalid | Reason::TypeInvalid | Reason::InvalidOmitted => "Invalid value",
            Reason::NotSupported => "Unsupported value",
            Reason::Forbidden => "Forbidden",
            Reason::TooLong => "Too long",
            Reason::TooMany => "Too many",
            Reason::Internal => "Internal error",
        }
    }
}

/// One field's fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    pub reason: Reason,
    pub path: Path,
    /// The offending value; `Null` where upstream prints none.
    pub value: Value,
    pub detail: String,
}

impl Error {
    /// What upstream's `ErrorBody` prints: all but the field's path.
    pub fn body(&self) -> String {
        let words = self.reason.words();
        let head = match self.reason {
            Reason::Required
            | Reason::Forbidden
            | Reason::TooLong
            | Reason::Internal
            | Reason::InvalidOmitted
            | Reason::DuplicateOmitted => words.to_string(),
            _ => format!("{words}: {}", shown(&self.value)),
        };
        if self.detail.is_empty() { head } else { format!("{head}: {}", self.detail) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// `1 item`, `2 items`
fn plural(n: usize, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

/// Go prints strings quoted, scalars bare, the rest as JSON; null as "null".
fn shown(v: &Value) -> String {
    match v {
        Value::Null => "null".to_string(),
        Value::String(s) => format!("{s:?}"),
        Value::Number(n) if n.is_f64() => go_float(n.as_f64().unwrap_or_default()),
        // As Go's encoder writes what might stand in a web page.
        other => other.to_string().replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e"),
    }
}

/// A float as Go's `%v` prints it: `1.5`, `1e+06`.
pub fn go_float(n: f64) -> String {
    let scientific = format!("{n:e}");
    match scientific.split_once('e').and_then(|(digits, e)| Some((digits, e.parse::<i32>().ok()?))) {
        Some((digits, e)) if !(-4..6).contains(&e) => {
            format!("{digits}e{}{:02}", if e < 0 { '-' } else { '+' }, e.abs())
        }
        _ => n.to_string(),
    }
}

/// All faults of one object, in order of discovery; and apart from them those that are let pass, of which the client is
/// only warned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Errors(pub Vec<Error>, Vec<Error>);

impl Errors {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lets pass what was found last, from the fault with this index on.
    pub fn let_pass(&mut self, from: usize) {
        self.1.extend(self.0.drain(from..));
    }

    /// What to warn of.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.1.iter().map(ToString::to_string)
    }

    fn push(&mut self, reason: Reason, path: Path, value: Value, detail: impl Into<String>) {
        self.0.push(Error { reason, path, value, detail: detail.into() });
    }

    pub fn required(&mut self, path: Path, detail: impl Into<String>) {
        self.push(Reason::Required, path, Value::Null, detail);
    }

    /// As `invalid`, for values that are too big or too secret to show.
    pub fn invalid_omitted(&mut self, path: Path, detail: impl Into<String>) {
        self.push(Reason::InvalidOmitted, path, Value::Null, detail);
    }

    pub fn invalid(&mut self, path: Path, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(Reason::Invalid, path, value.into(), detail);
    }

    pub fn type_invalid(&mut self, path: Path, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(Reason::TypeInvalid, path, value.into(), detail);
    }

    /// `supported values: "A", "B"`; the values are printed in the order given.
    pub fn not_supported(&mut self, path: Path, value: impl Into<Value>, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        self.push(Reason::NotSupported, path, value.into(), format!("supported values: {}", list.join(", ")));
    }

    pub fn duplicate(&mut self, path: Path, value: impl Into<Value>) {
        self.push(Reason::Duplicate, path, value.into(), "");
    }

    /// As `duplicate`, for values that are too big to show.
    pub fn duplicate_omitted(&mut self, path: Path) {
        self.push(Reason::DuplicateOmitted, path, Value::Null, "");
    }

    pub fn internal(&mut self, path: Path, detail: impl Into<String>) {
        self.push(Reason::Internal, path, Value::Null, detail);
    }

    pub fn not_found(&mut self, path: Path, value: impl Into<Value>) {
        self.push(Reason::NotFound, path, value.into(), "");
    }

    pub fn forbidden(&mut self, path: Path, detail: impl Into<String>) {
        self.push(Reason::Forbidden, path, Value::Null, detail);
    }

    pub fn too_long(&mut self, path: Path, bytes_max: usize) {
        self.push(Reason::TooLong, path, Value::Null, format!("may not be more than {}", plural(bytes_max, "byte")));
    }

    pub fn too_many(&mut self, path: Path, actual: usize, max: usize) {
        self.push(Reason::TooMany, path, Value::from(actual), format!("must have at most {}", plural(max, "item")));
    }

    /// The text after `is invalid: `: one error bare, several in brackets, as Go's aggregate prints them.
    pub fn joined(&self) -> String {
        match self.0.as_slice() {
            [one] => one.to_string(),
            many => {
                // A hostile object has a hundred thousand faults.
                let mut told = HashSet::new();
                let mut texts: Vec<String> = many.iter().map(ToString::to_string).collect();
                texts.retain(|t| told.insert(t.clone()));
                if texts.len() == 1 { texts.remove(0) } else { format!("[{}]", texts.join(", ")) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn floats_print_as_in_go() {
        for (n, text) in [
            (0.0, "0"),
            (3.0, "3"),
            (0.5, "0.5"),
            (123456.0, "123456"),
            (1e6, "1e+06"),
            (-1234567.5, "-1.2345675e+06"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e100, "1e+100"),
        ] {
            assert_eq!(go_float(n), text);
        }
    }

    #[test]
    fn shown_values_are_safe_in_a_page() {
        let mut errors = Errors::default();
        errors.invalid(Path::new("a"), json!(["<b>&"]), "");
        errors.invalid(Path::new("a"), "<b>&", "");
        assert_eq!(errors.joined(), r#"[a: Invalid value: ["\u003cb\u003e\u0026"], a: Invalid value: "<b>&"]"#);
    }

    #[test]
    fn faults_read_as_upstreams() {
        let at = Path::new("spec").child("containers").index(0).child("ports").key("a");
        assert_eq!(at.as_str(), "spec.containers[0].ports[a]");
        let mut e = Errors::default();
        e.invalid(at.clone(), "x\"y", "no");
        assert_eq!(e.joined(), r#"spec.containers[0].ports[a]: Invalid value: "x\"y": no"#);
        e.required(Path::new("b"), "");
        e.required(Path::new("b"), "");
        e.too_many(Path::new("d"), 2, 1);
        e.too_long(Path::new("d"), 1);
        e.duplicate_omitted(Path::new("d"));
        e.not_supported(Path::new("c"), json!(1), &["A", "B"]);
        assert_eq!(
            e.joined(),
            r#"[spec.containers[0].ports[a]: Invalid value: "x\"y": no, b: Required value, d: Too many: 2: must have at most 1 item, d: Too long: may not be more than 1 byte, d: Duplicate value, c: Unsupported value: 1: supported values: "A", "B"]"#
        );
    }
}
