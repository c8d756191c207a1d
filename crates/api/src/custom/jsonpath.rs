//! JSONPath as `additionalPrinterColumns` has it: client-go's template syntax without braces.
//!
//! `.spec.a`, `['b.c']`, `.a\.b`, `[0]`, `[-1]`, `[1:3:1]`, `[*]`, `.*`, `..name`, `[0,2]`, `['a','b']`,
//! `[?(@.type=="Ready")]` with `== != < <= > >=` and bare existence.

use serde_json::Value;

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    Recursive,
    /// Start, end, step; as in Python.
    Slice(Option<i64>, Option<i64>, Option<i64>),
    Index(i64),
    Union(Vec<Step>),
    Filter(Operand, Option<(&'static str, Operand)>),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Literal(Value),
}

impl JsonPath {
    /// Parses `.spec.replicas`. The error says what is wrong, in upstream's words where it is a common fault.
    pub fn parse(text: &str) -> Result<JsonPath, String> {
        let mut p = Parser { rest: text };
        let steps = p.steps(false)?;
        if p.rest.is_empty() {
            Ok(JsonPath(steps))
        } else {
            Err(format!("unrecognized character in action: {:?}", p.rest))
        }
    }

    /// What the path finds, in order; nothing where a part is missing.
    pub fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        eval(&self.0, vec![root])
    }
}

struct Parser<'t> {
    rest: &'t str,
}

impl<'t> Parser<'t> {
    fn take(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn steps(&mut self, inside: bool) -> Result<Vec<Step>, String> {
        let mut out = Vec::new();
        loop {
            if inside {
                let next = self.rest.trim_start();
                if next.is_empty() || next.starts_with([')', '=', '!', '<', '>']) {
                    return Ok(out);
                }
            }
            if self.rest.is_empty() {
                return Ok(out);
            }
            if self.take("..") {
                out.push(Step::Recursive);
                if self.rest.starts_with('[') {
                    continue;
                }
                let name = self.name();
                if name == "*" {
                    out.push(Step::Wildcard);
                } else if !name.is_empty() {
                    out.push(Step::Field(name));
                }
            } else if self.take(".") {
                if self.rest.starts_with('[') {
                    continue;
                }
                match self.name() {
                    n if n == "*" => out.push(Step::Wildcard),
                    n if n.is_empty() => {}
                    n => out.push(Step::Field(n)),
                }
            } else if self.take("[") {
                out.push(self.bracket()?);
            } else if self.take("$") || self.take("@") {
                // The root, or the current item.
            } else {
                let name = self.name();
                if name.is_empty() {
                    return Err(format!("unrecognized character in action: {:?}", self.rest));
                }
                out.push(Step::Field(name));
            }
        }
    }

    /// A bare name, with backslashes before special characters.
    fn name(&mut self) -> String {
        let mut out = String::new();
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((i, c)) = chars.next() {
            match c {
                '\\' => {
                    if let Some((_, c)) = chars.next() {
                        out.push(c);
                    }
                }
                '.' | '[' | ']' | ' ' | ')' | '=' | '!' | '<' | '>' | ',' | '(' | '{' | '}' => {
                    end = i;
                    break;
                }
                c => out.push(c),
            }
        }
        self.rest = &self.rest[end..];
        out
    }

    fn quoted(&mut self) -> Result<Option<String>, String> {
        let Some(quote) = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"')) else { return Ok(None) };
        let mut out = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((i, c)) = chars.next() {
            match c {
                '\\' => {
                    if let Some((_, c)) = chars.next() {
                        out.push(c);
                    }
                }
                c if c == quote => {
                    self.rest = &self.rest[i + 1..];
                    return Ok(Some(out));
                }
                c => out.push(c),
            }
        }
        Err("unterminated quoted string".into())
    }

    fn bracket(&mut self) -> Result<Step, String> {
        self.blanks();
        if self.take("?(") {
            let left = self.operand()?;
            self.blanks();
            let comparison = match ["==", "!=", "<=", ">=", "<", ">"].into_iter().find(|op| self.take(op)) {
                Some(op) => {
                    self.blanks();
                    Some((op, self.operand()?))
                }
                None => None,
            };
            self.blanks();
            if !self.take(")") {
                return Err("unterminated filter".into());
            }
            self.close()?;
            return Ok(Step::Filter(left, comparison));
        }
        let mut all = Vec::new();
        loop {
            self.blanks();
            if let Some(name) = self.quoted()? {
                all.push(Step::Field(name));
            } else if self.take("*") {
                all.push(Step::Wildcard);
            } else {
                let end = self.rest.find([',', ']']).ok_or("unterminated array")?;
                let (text, rest) = self.rest.split_at(end);
                self.rest = rest;
                all.push(index(text.trim())?);
            }
            self.blanks();
            if !self.take(",") {
                break;
            }
        }
        self.close()?;
        Ok(match all.len() {
            1 => all.remove(0),
            _ => Step::Union(all),
        })
    }

    fn close(&mut self) -> Result<(), String> {
        self.blanks();
        if self.take("]") { Ok(()) } else { Err("unterminated array".into()) }
    }

    fn operand(&mut self) -> Result<Operand, String> {
        self.blanks();
        if let Some(text) = self.quoted()? {
            return Ok(Operand::Literal(text.into()));
        }
        if self.rest.starts_with(['@', '.', '$']) {
            self.take("@");
            self.take("$");
            return self.steps(true).map(Operand::Path);
        }
        let end = self.rest.find([')', ' ', '=', '!', '<', '>']).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        serde_json::from_str(text).map(Operand::Literal).map_err(|_| format!("unrecognized identifier {text}"))
    }
}

fn index(text: &str) -> Result<Step, String> {
    let number = |t: &str| -> Result<Option<i64>, String> {
        match t.trim() {
            "" => Ok(None),
            t => t.parse().map(Some).map_err(|_| format!("invalid array index {text}")),
        }
    };
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [one] => number(one)?.map(Step::Index).ok_or_else(|| format!("invalid array index {text}")),
        [a, b] => Ok(Step::Slice(number(a)?, number(b)?, None)),
        [a, b, c] => Ok(Step::Slice(number(a)?, number(b)?, number(c)?)),
        _ => Err(format!("invalid array index {text}")),
    }
}

fn eval<'a>(steps: &[Step], mut at: Vec<&'a Value>) -> Vec<&'a Value> {
    for step in steps {
        let mut next = Vec::new();
        for value in &at {
            apply(step, value, &mut next);
        }
        at = next;
        if at.is_empty() {
            break;
        }
    }
    at
}

fn apply<'a>(step: &Step, value: &'a Value, out: &mut Vec<&'a Value>) {
    match (step, value) {
        (Step::Field(name), Value::Object(map)) => out.extend(map.get(name).filter(|v| !v.is_null())),
        (Step::Wildcard, Value::Object(map)) => out.extend(map.values()),
        (Step::Wildcard, Value::Array(items)) => out.extend(items),
        (Step::Index(i), Value::Array(items)) => {
            let at = if *i < 0 { items.len() as i64 + i } else { *i };
            out.extend(usize::try_from(at).ok().and_then(|i| items.get(i)));
        }
        (Step::Slice(from, to, step), Value::Array(items)) => {
            let len = items.len() as i64;
            let place = |n: i64| if n < 0 { (len + n).max(0) } else { n.min(len) };
            let (from, to) = (place(from.unwrap_or(0)), place(to.unwrap_or(len)));
            let step = step.unwrap_or(1).max(1) as usize;
            if from < to {
                out.extend(items[from as usize..to as usize].iter().step_by(step));
            }
        }
        (Step::Union(all), v) => {
            for s in all {
                apply(s, v, out);
            }
        }
        (Step::Recursive, v) => descend(v, out),
        (Step::Filter(left, comparison), Value::Array(items)) => {
            out.extend(items.iter().filter(|i| holds(left, comparison.as_ref(), i)));
        }
        _ => {}
    }
}

fn descend<'a>(value: &'a Value, out: &mut Vec<&'a Value>) {
    out.push(value);
    match value {
        Value::Object(map) => map.values().for_each(|v| descend(v, out)),
        Value::Array(items) => items.iter().for_each(|v| descend(v, out)),
        _ => {}
    }
}

fn holds(left: &Operand, comparison: Option<&(&'static str, Operand)>, item: &Value) -> bool {
    let read = |o: &Operand| match o {
        Operand::Literal(v) => Some(v.clone()),
        Operand::Path(steps) => eval(steps, vec![item]).first().map(|v| (*v).clone()),
    };
    let Some(a) = read(left) else { return false };
    let Some((op, right)) = comparison else { return true };
    let Some(b) = read(right) else { return false };
    let order = match (&a, &b) {
        (Value::Number(x), Value::Number(y)) => x.as_f64().zip(y.as_f64()).and_then(|(x, y)| x.partial_cmp(&y)),
        (Value::String(x), Value::String(y)) => Some(x.cmp(y)),
        (Value::Bool(x), Value::Bool(y)) => Some(x.cmp(y)),
        _ => None,
    };
    match *op {
        "==" => order.is_some_and(|o| o.is_eq()),
        "!=" => order.is_none_or(|o| o.is_ne()),
        "<" => order.is_some_and(|o| o.is_lt()),
        "<=" => order.is_some_and(|o| o.is_le()),
        ">" => order.is_some_and(|o| o.is_gt()),
        _ => order.is_some_and(|o| o.is_ge()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_find_what_kubectl_would() {
        let v = json!({"spec":{"a":1,"n":null,"list":[{"name":"x","v":1},{"name":"y","v":2}],"k.d":"dot"},
            "status":{"conditions":[{"type":"Ready","status":"True"},{"type":"Synced","status":"False"}]}});
        for (path, expected) in [
            (".spec.a", json!([1])),
            (".spec.n", json!([])),
            (".spec.missing.deeper", json!([])),
            (".spec.list[*].name", json!(["x", "y"])),
            (".spec.list[0].name", json!(["x"])),
            (".spec.list[-1].name", json!(["y"])),
            (".spec.list[0:1].v", json!([1])),
            (".spec.list[5].v", json!([])),
            (".spec['k.d']", json!(["dot"])),
            (r".spec.k\.d", json!(["dot"])),
            (r#".status.conditions[?(@.type=="Ready")].status"#, json!(["True"])),
            (".status.conditions[?(@.type=='Nope')].status", json!([])),
            (".spec.list[?(@.v > 1)].name", json!(["y"])),
            ("..name", json!(["x", "y"])),
            (".spec.list[0,1].v", json!([1, 2])),
        ] {
            let found = JsonPath::parse(path).unwrap_or_else(|e| panic!("{path}: {e}"));
            assert_eq!(json!(found.find(&v)), expected, "{path}");
        }
        for bad in [".spec[", ".spec[?(@.a==]", ".spec['a]", ".a[x]"] {
            assert!(JsonPath::parse(bad).is_err(), "{bad}");
        }
    }
}
