//! Named formats: `!format.dns1123Label().validate(self.name).hasValue()`.

use super::Row;
use crate::eval::{Evaluated, Frame, no_overload};
use crate::value::Value;
use base64::Engine;
use meta::names;

type Rule = fn(&str) -> Vec<String>;

/// Of each format its name and its rule, which says what is wrong with a text.
const FORMATS: &[(&str, Rule)] = &[
    ("dns1123Label", names::dns1123_label),
    ("dns1123Subdomain", names::dns1123_subdomain),
    ("dns1035Label", names::dns1035_label),
    ("qualifiedName", names::qualified_name),
    ("dns1123LabelPrefix", |s| names::prefix_of(names::dns1123_label, s)),
    ("dns1123SubdomainPrefix", |s| names::prefix_of(names::dns1123_subdomain, s)),
    ("dns1035LabelPrefix", |s| names::prefix_of(names::dns1035_label, s)),
    ("labelValue", names::label_value),
    ("uri", uri),
    ("uuid", uuid),
    ("byte", byte),
    ("date", date),
    ("datetime", datetime),
];

macro_rules! format_row {
    ($function:literal, $name:literal) => {
        ($function, &["() kubernetes.NamedFormat"], |_, _| Ok(Value::Format($name)))
    };
}

pub const ROWS: &[Row] = &[
    format_row!("format.dns1123Label", "dns1123Label"),
    format_row!("format.dns1123Subdomain", "dns1123Subdomain"),
    format_row!("format.dns1035Label", "dns1035Label"),
    format_row!("format.qualifiedName", "qualifiedName"),
    format_row!("format.dns1123LabelPrefix", "dns1123LabelPrefix"),
    format_row!("format.dns1123SubdomainPrefix", "dns1123SubdomainPrefix"),
    format_row!("format.dns1035LabelPrefix", "dns1035LabelPrefix"),
    format_row!("format.labelValue", "labelValue"),
    format_row!("format.uri", "uri"),
    format_row!("format.uuid", "uuid"),
    format_row!("format.byte", "byte"),
    format_row!("format.date", "date"),
    format_row!("format.datetime", "datetime"),
    ("format.named", &["(string) optional(kubernetes.NamedFormat)"], named),
    ("validate", &["kubernetes.NamedFormat.(string) optional(list(string))"], validate),
];

fn rule(name: &str) -> Option<(&'static str, Rule)> {
    FORMATS.iter().find(|(n, _)| *n == name).copied()
}

fn named<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [Value::String(s)] => Ok(match rule(s) {
            Some((name, _)) => Value::some(Value::Format(name)),
            None => Value::Optional(None),
        }),
        _ => no_overload(),
    }
}

fn validate<'v>(f: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    let [Value::Format(name), Value::String(text)] = args else { return no_overload() };
    f.charge(crate::cost::text(text.len() as u64))?;
    let wrong = rule(name).map(|(_, rule)| rule(text)).unwrap_or_default();
    if wrong.is_empty() {
        return Ok(Value::Optional(None));
    }
    Ok(Value::some(Value::list(wrong.into_iter().map(Value::string).collect())))
}

fn uri(text: &str) -> Vec<String> {
    let absolute = text.starts_with('/') || url::Url::parse(text).is_ok();
    if absolute { Vec::new() } else { vec![format!("parse {text:?}: invalid URI for request")] }
}

fn uuid(text: &str) -> Vec<String> {
    let shape = |part: &str, len: usize| part.len() == len && part.bytes().all(|b| b.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split('-').collect();
    let lengths = [8, 4, 4, 4, 12];
    if parts.len() == 5 && parts.iter().zip(lengths).all(|(p, l)| shape(p, l)) {
        Vec::new()
    } else {
        vec!["does not match the UUID format".to_string()]
    }
}

fn byte(text: &str) -> Vec<String> {
    match base64::engine::general_purpose::STANDARD.decode(text) {
        Ok(_) => Vec::new(),
        Err(_) => vec!["invalid base64".to_string()],
    }
}

fn date(text: &str) -> Vec<String> {
    if crate::time::parse_date(text).is_some() { Vec::new() } else { vec!["invalid date".to_string()] }
}

fn datetime(text: &str) -> Vec<String> {
    if crate::time::parse_timestamp(text).is_some() { Vec::new() } else { vec!["invalid datetime".to_string()] }
}
