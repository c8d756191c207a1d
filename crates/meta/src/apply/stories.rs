//! The stories of `stories.txt`, on a type of our own.

use super::*;
use crate::schema::{Shape, TypeId, Types};
use crate::testing::item;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// A definition of the type, as a story may change it.
fn defined(change: &str) -> (Types, TypeId) {
    let (mut types, ty) = item();
    let Shape::Struct(s) = types.shape(ty).clone() else { panic!("no struct") };
    let of = |name: &str| s.field(name).expect(name).ty;
    match change {
        "" => {}
        "parts" => {
            let Shape::Map { atomic, .. } = &mut types.types[of("unit").0 as usize].shape else { panic!("no map") };
            *atomic = false;
        }
        "units" => {
            let mut unit = s.clone();
            unit.atomic = true;
            let unit = types.push(crate::schema::Type { name: String::new(), shape: Shape::Struct(unit) });
            let Shape::Struct(s) = &mut types.types[ty.0 as usize].shape else { panic!("no struct") };
            let i = s.by_name["child"] as usize;
            s.fields[i].ty = unit;
        }
        other => panic!("{other}"),
    }
    (types, ty)
}

#[derive(Default)]
struct Story<'a> {
    title: &'a str,
    definition: &'a str,
    live: Value,
    managed: Managed,
    second: i64,
    owns: BTreeMap<&'a str, Value>,
    faults: Vec<String>,
}

impl<'a> Story<'a> {
    fn new(title: &'a str) -> Story<'a> {
        Story { title, live: json!({}), ..Story::default() }
    }

    fn tell(&mut self, line: &'a str) {
        let (first, rest) = line.split_once(' ').expect(line);
        match first {
            "now" => return self.definition = rest,
            "is" if self.live == read(rest) => return,
            "is" => return self.fault(format!("is {}", self.live)),
            _ => {}
        }
        let (verb, rest) = rest.split_once(' ').expect(line);
        let (object, conflicts) = rest.split_once(" ! ").unwrap_or((rest, ""));
        let object = read(object);
        if verb == "owns" {
            self.owns.insert(first, object);
            return;
        }
        let (types, ty) = defined(self.definition);
        let port = types.named("Port");
        let tcp = move |ty: TypeId, key: &str| (Some(ty) == port && key == "protocol").then(|| json!("TCP"));
        let s = Structure::new(&types, ty).with_key_default(&tcp);
        self.second += 1;
        let now = jiff::Timestamp::from_second(self.second).expect("in range");
        let writer = Writer { manager: first, api_version: "e/v1", subresource: "", now };
        if verb == "updates" {
            self.managed = update(&s, &self.live, &object, &self.managed, &writer);
            self.live = object;
            return;
        }
        match merge(&s, &self.live, &object, &self.managed, &writer, verb == "forces") {
            Ok(done) => {
                if !conflicts.is_empty() {
                    self.fault(format!("{line}: no conflict"));
                }
                (self.live, self.managed) = (done.object, done.managed);
            }
            Err(Failure::Conflicts(found)) => {
                let found: Vec<String> = found.iter().map(|c| format!("{} {}", c.manager.name, c.path)).collect();
                if found.join("; ") != conflicts {
                    self.fault(format!("{line}: conflicts {}", found.join("; ")));
                }
            }
            Err(Failure::Status(s)) => self.fault(format!("{line}: {}", s.message)),
        }
    }

    fn fault(&mut self, what: String) {
        self.faults.push(format!("{}: {what}", self.title));
    }

    fn end(mut self) -> Vec<String> {
        let owned: BTreeMap<&str, Value> =
            self.managed.0.iter().map(|(m, v)| (m.name.as_str(), v.set.to_fields_v1())).collect();
        if owned != self.owns {
            self.faults.push(format!("{}: owns {}", self.title, json!(owned)));
        }
        self.faults
    }
}

#[test]
fn upstreams_stories() {
    let (mut count, mut faults) = (0, Vec::new());
    let mut story: Option<Story> = None;
    for line in include_str!("stories.txt").lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if let Some(title) = line.strip_prefix("= ") {
            faults.extend(story.take().into_iter().flat_map(Story::end));
            story = Some(Story::new(title));
            count += 1;
        } else {
            story.as_mut().expect("a title").tell(line);
        }
    }
    faults.extend(story.into_iter().flat_map(Story::end));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 50, "{count}");
}
