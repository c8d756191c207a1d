//! Literals whose text is wrong are told when the expression is compiled: patterns, durations, timestamps.

use crate::ast::{Ast, Kind};
use crate::check::Checked;
use crate::source::Issue;

pub fn validate(ast: &Ast, checked: &Checked, issues: &mut Vec<Issue>) {
    let mut all = vec![&ast.root];
    while let Some(e) = all.pop() {
        all.extend(e.children());
        let Kind::Call(call) = &e.kind else { continue };
        if checked.namespaced.contains_key(&e.id) {
            continue;
        }
        let Some(last) = call.args.last() else { continue };
        let Some(text) = last.as_str() else { continue };
        let wrong = match &*call.function {
            "duration" if call.target.is_none() => {
                crate::time::parse_duration(text).err().map(|_| "invalid duration argument".to_string())
            }
            "timestamp" if call.target.is_none() => match crate::time::parse_timestamp(text) {
                Some(_) => None,
                None => Some("invalid timestamp argument".to_string()),
            },
            "matches" => crate::pattern::compile(text).err().map(|_| "invalid matches argument".to_string()),
            _ => None,
        };
        if let Some(message) = wrong {
            issues.push(Issue { offset: ast.offsets[last.id as usize] as usize, message });
        }
    }
}
