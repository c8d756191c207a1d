//! Tokens into a tree, by recursive descent along CEL's grammar.
//!
//! In: text of a client, of any length and shape. Out: an [`Ast`] whose depth is bounded by [`DEPTH_MAX`], so that
//! nothing that walks it can run out of stack.

use crate::ast::*;
use crate::macros;
use crate::source::Issues;
use crate::token::{Spanned, Token, tokens};
use std::sync::Arc;

/// Upstream's limit on the length of an expression, in code points.
const CODE_POINTS_MAX: usize = 100_000;
/// Levels of nesting in text and tree. Upstream allows 250 in the text; chains of `.`, `[]` and `+` count here
/// too, which upstream leaves to Go's growing stacks.
pub const DEPTH_MAX: usize = 250;

/// Words that can't name anything, those of the grammar included.
pub const RESERVED_WORDS: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

const PRIMARY: &str =
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

pub fn parse(source: &str) -> Result<Ast, Issues> {
    if source.chars().count() > CODE_POINTS_MAX {
        let text = format!(
            "expression code point size exceeds limit: size: {}, limit {CODE_POINTS_MAX}",
            source.chars().count()
        );
        return Err(Issues::one("", 0, text));
    }
    let mut parser = Parser { source, tokens: tokens(source)?, at: 0, offsets: Vec::new(), depth: 0 };
    let root = parser.expr()?;
    if *parser.token() != Token::End {
        return parser.unexpected(Expected::End);
    }
    let Parser { offsets, .. } = parser;
    if depth(&root) > DEPTH_MAX {
        return Err(too_deep(source));
    }
    Ok(Ast { source: source.to_string(), root, offsets })
}

fn too_deep(source: &str) -> Issues {
    Issues::one(source, 0, format!("expression recursion limit exceeded: {DEPTH_MAX}"))
}

/// Levels of the tree, without recursion.
fn depth(root: &Expr) -> usize {
    let mut level = vec![root];
    let mut depth = 0;
    while !level.is_empty() && depth <= DEPTH_MAX {
        level = level.into_iter().flat_map(Expr::children).collect();
        depth += 1;
    }
    depth
}

enum Expected {
    Primary,
    End,
    Sign(&'static str),
    Identifier,
}

pub struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Spanned>,
    at: usize,
    offsets: Vec<u32>,
    depth: usize,
}

impl Parser<'_> {
    pub fn node(&mut self, offset: usize, kind: Kind) -> Expr {
        let id = self.offsets.len() as Id;
        self.offsets.push(offset as u32);
        Expr { id, kind }
    }

    pub fn call(&mut self, offset: usize, function: &str, args: Vec<Expr>) -> Expr {
        self.node(offset, Kind::Call(Box::new(Call { function: function.into(), target: None, args })))
    }

    pub fn offset_of(&self, e: &Expr) -> usize {
        self.offsets[e.id as usize] as usize
    }

    pub fn fail<T>(&self, offset: usize, message: impl Into<String>) -> Result<T, Issues> {
        Err(Issues::one(self.source, offset, message))
    }

    fn token(&self) -> &Token {
        &self.tokens[self.at].token
    }

    fn start(&self) -> usize {
        self.tokens[self.at].start
    }

    fn advance(&mut self) {
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.token(), Token::Sign(s) if *s == sign)
    }

    /// Takes the sign and says where it was.
    fn eat(&mut self, sign: &str) -> Option<usize> {
        let start = self.start();
        self.is(sign).then(|| {
            self.advance();
            start
        })
    }

    fn expect(&mut self, sign: &'static str) -> Result<usize, Issues> {
        match self.eat(sign) {
            Some(at) => Ok(at),
            None => self.unexpected(Expected::Sign(sign)),
        }
    }

    fn unexpected<T>(&self, expected: Expected) -> Result<T, Issues> {
        let spanned = &self.tokens[self.at];
        let shown = match spanned.token {
            Token::End => "<EOF>",
            _ => &self.source[spanned.start..spanned.end],
        };
        let message = match expected {
            Expected::Primary => format!("Syntax error: mismatched input '{shown}' expecting {PRIMARY}"),
            Expected::End => format!("Syntax error: extraneous input '{shown}' expecting <EOF>"),
            Expected::Sign(s) if spanned.token == Token::End => format!("Syntax error: missing '{s}' at '<EOF>'"),
            Expected::Sign(s) => format!("Syntax error: mismatched input '{shown}' expecting '{s}'"),
            Expected::Identifier => format!("Syntax error: mismatched input '{shown}' expecting IDENTIFIER"),
        };
        self.fail(spanned.start, message)
    }

    fn expr(&mut self) -> Result<Expr, Issues> {
        self.depth += 1;
        if self.depth > DEPTH_MAX / 2 {
            return Err(too_deep(self.source));
        }
        let result = self.conditional();
        self.depth -= 1;
        result
    }

    fn conditional(&mut self) -> Result<Expr, Issues> {
        let condition = self.logical("||", op::OR)?;
        let Some(at) = self.eat("?") else { return Ok(condition) };
        let yes = self.logical("||", op::OR)?;
        self.expect(":")?;
        let no = self.expr()?;
        Ok(self.call(at, op::CONDITIONAL, vec![condition, yes, no]))
    }

    /// `a || b || c`: a balanced tree, as upstream builds it.
    fn logical(&mut self, sign: &'static str, function: &str) -> Result<Expr, Issues> {
        let mut terms = vec![if sign == "||" { self.logical("&&", op::AND)? } else { self.relation()? }];
        let mut signs = Vec::new();
        while let Some(at) = self.eat(sign) {
            signs.push(at);
            terms.push(if sign == "||" { self.logical("&&", op::AND)? } else { self.relation()? });
        }
        Ok(self.balance(function, &mut terms.into_iter().map(Some).collect::<Vec<_>>(), &signs, 0, signs.len()))
    }

    /// Terms `low..=high`, joined by `signs[low..high]`.
    fn balance(
        &mut self,
        function: &str,
        terms: &mut [Option<Expr>],
        signs: &[usize],
        low: usize,
        high: usize,
    ) -> Expr {
        if low == high {
            return match terms[low].take() {
                Some(term) => term,
                None => unreachable!("each term is taken once"),
            };
        }
        let middle = (low + high - 1).div_ceil(2);
        let left = self.balance(function, terms, signs, low, middle);
        let right = self.balance(function, terms, signs, middle + 1, high);
        self.call(signs[middle], function, vec![left, right])
    }

    fn chain(
        &mut self,
        signs: &[(&'static str, &str)],
        next: fn(&mut Self) -> Result<Expr, Issues>,
    ) -> Result<Expr, Issues> {
        let mut left = next(self)?;
        let mut length = 0;
        'more: loop {
            for (sign, function) in signs {
                if let Some(at) = self.eat(sign) {
                    let right = next(self)?;
                    left = self.call(at, function, vec![left, right]);
                    length += 1;
                    if length > DEPTH_MAX {
                        return Err(too_deep(self.source));
                    }
                    continue 'more;
                }
            }
            return Ok(left);
        }
    }

    fn relation(&mut self) -> Result<Expr, Issues> {
        const SIGNS: &[(&str, &str)] = &[
            ("==", op::EQUALS),
            ("!=", op::NOT_EQUALS),
            ("<=", op::LESS_EQUALS),
            (">=", op::GREATER_EQUALS),
            ("<", op::LESS),
            (">", op::GREATER),
            ("in", op::IN),
        ];
        self.chain(SIGNS, Self::sum)
    }

    fn sum(&mut self) -> Result<Expr, Issues> {
        self.chain(&[("+", op::ADD), ("-", op::SUBTRACT)], Self::product)
    }

    fn product(&mut self) -> Result<Expr, Issues> {
        self.chain(&[("*", op::MULTIPLY), ("/", op::DIVIDE), ("%", op::MODULO)], Self::unary)
    }

    fn unary(&mut self) -> Result<Expr, Issues> {
        for (sign, function) in [("!", op::NOT), ("-", op::NEGATE)] {
            let Some(first) = self.eat(sign) else { continue };
            // A minus right before a number is the number's.
            if sign == "-" && matches!(self.token(), Token::Int(_) | Token::Double(_)) {
                let number = self.negative(first)?;
                return self.member(number);
            }
            let mut odd = true;
            while self.eat(sign).is_some() {
                odd = !odd;
            }
            let primary = self.primary()?;
            let operand = self.member(primary)?;
            return Ok(if odd { self.call(first, function, vec![operand]) } else { operand });
        }
        let primary = self.primary()?;
        self.member(primary)
    }

    fn negative(&mut self, at: usize) -> Result<Expr, Issues> {
        let value = match *self.token() {
            Token::Int(v) if v <= i64::MAX as u64 => Const::Int(-(v as i64)),
            Token::Int(v) if v == i64::MAX as u64 + 1 => Const::Int(i64::MIN),
            Token::Double(v) => Const::Double(-v),
            _ => return self.fail(at, "invalid int literal"),
        };
        self.advance();
        Ok(self.node(at, Kind::Const(value)))
    }

    /// What follows a primary: `.f`, `.f(...)`, `[i]`, `.?f`, `[?i]`, `{...}`.
    fn member(&mut self, mut e: Expr) -> Result<Expr, Issues> {
        let mut length = 0;
        loop {
            length += 1;
            if length > DEPTH_MAX {
                return Err(too_deep(self.source));
            }
            if let Some(at) = self.eat(".") {
                let optional = self.eat("?").is_some();
                let field = self.identifier()?;
                if optional {
                    let name = self.node(at, Kind::Const(Const::String(field)));
                    e = self.call(at, op::OPT_SELECT, vec![e, name]);
                } else if self.is("(") {
                    let open = self.start();
                    let args = self.arguments()?;
                    e = self.member_call(open, e, field, args)?;
                } else {
                    e = self.node(at, Kind::Select { operand: Box::new(e), field, test: false });
                }
            } else if let Some(at) = self.eat("[") {
                let optional = self.eat("?").is_some();
                let index = self.expr()?;
                self.expect("]")?;
                e = self.call(at, if optional { op::OPT_INDEX } else { op::INDEX }, vec![e, index]);
            } else if self.is("{")
                && let Some(name) = e.qualified_name()
            {
                e = self.structure(name.into())?;
            } else {
                return Ok(e);
            }
        }
    }

    fn member_call(&mut self, at: usize, target: Expr, name: Arc<str>, args: Vec<Expr>) -> Result<Expr, Issues> {
        match macros::member(self, at, target, &name, args)? {
            macros::Expansion::Done(e) => Ok(e),
            macros::Expansion::No(target, args) => {
                Ok(self.node(at, Kind::Call(Box::new(Call { function: name, target: Some(target), args }))))
            }
        }
    }

    fn identifier(&mut self) -> Result<Arc<str>, Issues> {
        match self.token().clone() {
            Token::Ident(name) => {
                self.advance();
                Ok(name)
            }
            _ => self.unexpected(Expected::Identifier),
        }
    }

    /// `( a, b )`
    fn arguments(&mut self) -> Result<Vec<Expr>, Issues> {
        self.expect("(")?;
        let mut args = Vec::new();
        while !self.is(")") {
            args.push(self.expr()?);
            if self.eat(",").is_none() {
                break;
            }
        }
        self.expect(")")?;
        Ok(args)
    }

    fn primary(&mut self) -> Result<Expr, Issues> {
        let at = self.start();
        let token = self.token().clone();
        let constant = match token {
            Token::Ident(name) => {
                self.advance();
                if self.is("(") {
                    let open = self.start();
                    let args = self.arguments()?;
                    return match macros::global(self, open, &name, args)? {
                        macros::Global::Done(e) => Ok(e),
                        macros::Global::No(args) => Ok(self.call(open, &name, args)),
                    };
                }
                if RESERVED_WORDS.contains(&&*name) {
                    return self.fail(at, format!("reserved identifier: {name}"));
                }
                return Ok(self.node(at, Kind::Ident(name)));
            }
            Token::Sign("(") => {
                self.advance();
                let inner = self.expr()?;
                self.expect(")")?;
                return Ok(inner);
            }
            Token::Sign("[") => return self.list(),
            Token::Sign("{") => return self.map(),
            Token::Sign(".") => {
                // `.name`: from the root; there is only one container here.
                self.advance();
                let name = self.identifier()?;
                if self.is("(") {
                    let open = self.start();
                    let args = self.arguments()?;
                    return Ok(self.call(open, &name, args));
                }
                return Ok(self.node(at, Kind::Ident(name)));
            }
            Token::Sign("true") => Const::Bool(true),
            Token::Sign("false") => Const::Bool(false),
            Token::Sign("null") => Const::Null,
            Token::Int(v) => match i64::try_from(v) {
                Ok(v) => Const::Int(v),
                Err(_) => return self.fail(at, "invalid int literal"),
            },
            Token::Uint(v) => Const::Uint(v),
            Token::Double(v) => Const::Double(v),
            Token::String(v) => Const::String(v),
            Token::Bytes(v) => Const::Bytes(v),
            Token::Sign("-") | Token::Sign("!") => {
                self.depth += 1;
                if self.depth > DEPTH_MAX / 2 {
                    return Err(too_deep(self.source));
                }
                let e = self.unary();
                self.depth -= 1;
                return e;
            }
            Token::Sign(_) | Token::End => return self.unexpected(Expected::Primary),
        };
        self.advance();
        Ok(self.node(at, Kind::Const(constant)))
    }

    fn list(&mut self) -> Result<Expr, Issues> {
        let at = self.expect("[")?;
        let (mut elements, mut optional) = (Vec::new(), Vec::new());
        while !self.is("]") {
            if self.eat("?").is_some() {
                optional.push(elements.len());
            }
            elements.push(self.expr()?);
            if self.eat(",").is_none() {
                break;
            }
        }
        self.expect("]")?;
        Ok(self.node(at, Kind::List { elements, optional }))
    }

    fn map(&mut self) -> Result<Expr, Issues> {
        let at = self.expect("{")?;
        let mut entries = Vec::new();
        while !self.is("}") {
            let optional = self.eat("?").is_some();
            let key = self.expr()?;
            self.expect(":")?;
            let value = self.expr()?;
            entries.push(Entry { key, value, optional });
            if self.eat(",").is_none() {
                break;
            }
        }
        self.expect("}")?;
        Ok(self.node(at, Kind::Map(entries)))
    }

    fn structure(&mut self, name: Arc<str>) -> Result<Expr, Issues> {
        let at = self.expect("{")?;
        let mut fields = Vec::new();
        while !self.is("}") {
            let optional = self.eat("?").is_some();
            let name = self.identifier()?;
            let colon = self.expect(":")?;
            let value = self.expr()?;
            let id = self.offsets.len() as Id;
            self.offsets.push(colon as u32);
            fields.push(Field { id, name, value, optional });
            if self.eat(",").is_none() {
                break;
            }
        }
        self.expect("}")?;
        Ok(self.node(at, Kind::Struct { name, fields }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text)
            .map(|_| "parsed".to_string())
            .unwrap_or_else(|e| e.to_string().lines().next().unwrap_or("").to_string())
    }

    #[test]
    fn wrong_text_is_told_as_upstream_tells_it() {
        let all = "expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
        for (text, told) in [
            ("1 +", format!("ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' {all}")),
            ("", format!("ERROR: <input>:1:1: Syntax error: mismatched input '<EOF>' {all}")),
            ("1 2", "ERROR: <input>:1:3: Syntax error: extraneous input '2' expecting <EOF>".into()),
            ("(1", "ERROR: <input>:1:3: Syntax error: missing ')' at '<EOF>'".into()),
            ("a #", "ERROR: <input>:1:3: Syntax error: token recognition error at: '#'".into()),
            ("for", "ERROR: <input>:1:1: reserved identifier: for".into()),
            ("9223372036854775808", "ERROR: <input>:1:1: invalid int literal".into()),
            ("-9223372036854775808", "parsed".into()),
            ("'abc", "ERROR: <input>:1:1: Syntax error: token recognition error at: ''abc'".into()),
            ("has(a)", "ERROR: <input>:1:5: invalid argument to has() macro".into()),
            ("a.namespace.for", "parsed".into()),
            ("[1, 2,].all(x, x in {'a': 1,})", "parsed".into()),
            ("Object{spec: Object.spec{?a: 1}}", "parsed".into()),
        ] {
            assert_eq!(error(text), told, "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        for text in [
            "(".repeat(5_000),
            "[".repeat(90_000),
            "-(".repeat(5_000),
            "! - ".repeat(20_000),
            "a?".repeat(9_000),
            format!("1{}", "+1".repeat(9_000)),
            format!("a{}", ".b".repeat(9_000)),
            format!("a{}", "[0]".repeat(9_000)),
            format!("a{}", ".all(x,x".repeat(300)),
            format!("{}1{}", "[".repeat(200), "]".repeat(200)),
        ] {
            assert!(parse(&text).is_err());
        }
        assert!(error(&format!("1{}", "+1".repeat(9_000))).contains("expression recursion limit exceeded: 250"));
        assert_eq!(error(&format!("true{}", " && true".repeat(5_000))), "parsed");
        assert_eq!(error(&format!("{}1{}", "(".repeat(100), ")".repeat(100))), "parsed");
    }
}
