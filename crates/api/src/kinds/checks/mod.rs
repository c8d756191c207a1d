//! Tests of all kinds in one way: an object in YAML goes through the hooks as a request would, and what
//! comes out is compared as text.

mod create;
mod defaults;
mod fuzz;
mod rules;
pub mod samples;
mod table;
mod update;

use crate::codec::yaml;
use crate::facts;
use crate::strategy::{Now, Strategy};
use crate::validation::objectmeta;
use meta::field::Errors;
use serde_json::{Value, json};
use std::sync::Arc;

pub fn parse(text: &str) -> Value {
    yaml::parse(text.as_bytes()).expect("a test's YAML is right").value
}

pub fn strategy_of(obj: &Value) -> Arc<dyn Strategy> {
    let (group, _) = facts::split_api_version(obj["apiVersion"].as_str().unwrap_or(""));
    super::strategy(group, obj["kind"].as_str().unwrap_or(""))
}

/// What the engine fills in before the hooks run.
pub fn with_meta(mut obj: Value) -> Value {
    let meta = obj.as_object_mut().expect("an object").entry("metadata").or_insert(json!({}));
    let meta = meta.as_object_mut().expect("metadata is an object");
    meta.entry("name").or_insert(json!("x"));
    meta.entry("uid").or_insert(json!("8ff7d4b1-9a4c-4c9e-8a1c-0d5a1f0e2b11"));
    meta.entry("creationTimestamp").or_insert(json!("2026-01-01T00:00:00Z"));
    obj
}

pub fn created(text: &str) -> Value {
    let mut obj = with_meta(parse(text));
    let s = strategy_of(&obj);
    s.defaults(&mut obj);
    s.prepare_create(&mut obj, true);
    s.defaults(&mut obj);
    obj
}

fn lines_of(errors: &Errors) -> Vec<String> {
    errors.0.iter().map(|e| e.to_string()).collect()
}

fn lines(errors: &Errors) -> String {
    errors.0.iter().map(|e| format!("{e}\n")).collect()
}

/// Faults on create, a line each.
pub fn check_create(text: &str, expect: expect_test::Expect) {
    let obj = created(text);
    let s = strategy_of(&obj);
    let mut errors = Errors::default();
    objectmeta::object_meta(&obj, !obj["metadata"]["namespace"].is_null(), s.name_rule(), &mut errors);
    if !s.free_finalizers() {
        objectmeta::standard_finalizers(&obj, &mut errors);
    }
    s.validate_create(&obj, &mut errors);
    expect.assert_eq(&lines(&errors));
}

/// Faults of replacing one object by another.
pub fn check_update(old: &str, new: &str, expect: expect_test::Expect) {
    let old = created(old);
    let mut new = with_meta(parse(new));
    let s = strategy_of(&new);
    s.defaults(&mut new);
    s.prepare_update(&mut new, &old, true);
    let mut errors = Errors::default();
    objectmeta::object_meta_update(&new, &old, &mut errors);
    if !s.free_finalizers() {
        objectmeta::standard_finalizers(&new, &mut errors);
    }
    s.validate_update(&new, &old, &mut errors);
    expect.assert_eq(&lines(&errors));
}

/// The wide table of one object at 2026-01-01T01:00:00Z, `column: cell` per line.
pub fn check_row(text: &str, expect: expect_test::Expect) {
    let obj = with_meta(parse(text));
    let s = strategy_of(&obj);
    let now = Now("2026-01-01T01:00:00Z".parse().expect("a time"));
    let row = s.row(&obj, now);
    assert_eq!(row.len(), s.columns().len(), "a cell per column");
    let text: String = s
        .columns()
        .iter()
        .zip(row)
        .map(|(c, cell)| format!("{}: {}\n", c.name, cell.as_str().map_or_else(|| cell.to_string(), str::to_string)))
        .collect();
    expect.assert_eq(&text);
}
