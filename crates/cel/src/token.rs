//! Text into tokens (CEL's lexical grammar).

use crate::source::Issues;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Ident(Arc<str>),
    Int(u64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
    /// Operators, brackets, and the keywords `in`, `true`, `false`, `null`.
    Sign(&'static str),
    End,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Spanned {
    pub token: Token,
    pub start: usize,
    pub end: usize,
}

const SIGNS: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "+", "-", "*", "/", "%", "<", ">", "!", "?", ":", ".", ",", "(", ")", "[", "]",
    "{", "}",
];

pub fn tokens(source: &str) -> Result<Vec<Spanned>, Issues> {
    let mut lexer = Lexer { source, at: 0 };
    let mut all = Vec::new();
    loop {
        lexer.skip_blank();
        let start = lexer.at;
        let token = lexer.next()?;
        let end = token == Token::End;
        all.push(Spanned { token, start, end: lexer.at });
        if end {
            return Ok(all);
        }
    }
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.source.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    fn skip_blank(&mut self) {
        loop {
            match self.peek(0) {
                b' ' | b'\t' | b'\r' | b'\n' | 0x0c => self.at += 1,
                b'/' if self.peek(1) == b'/' => {
                    self.at += self.rest().find('\n').unwrap_or(self.rest().len());
                }
                _ => return,
            }
        }
    }

    fn fail<T>(&self, offset: usize, message: String) -> Result<T, Issues> {
        Err(Issues::one(self.source, offset, message))
    }

    fn next(&mut self) -> Result<Token, Issues> {
        let Some(c) = self.rest().chars().next() else { return Ok(Token::End) };
        if matches!(c, '\'' | '"') || self.string_prefix() {
            return self.string();
        }
        if c.is_ascii_digit() || (c == '.' && self.peek(1).is_ascii_digit()) {
            return self.number();
        }
        if c.is_ascii_alphabetic() || c == '_' {
            let len = self.rest().bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
            let word = &self.source[self.at..self.at + len];
            self.at += len;
            return Ok(match word {
                "in" => Token::Sign("in"),
                "true" => Token::Sign("true"),
                "false" => Token::Sign("false"),
                "null" => Token::Sign("null"),
                w => Token::Ident(w.into()),
            });
        }
        if let Some(sign) = SIGNS.iter().find(|s| self.rest().starts_with(**s)) {
            self.at += sign.len();
            return Ok(Token::Sign(sign));
        }
        self.fail(self.at, format!("Syntax error: token recognition error at: '{c}'"))
    }

    /// `r"`, `b'`, `br"`, `Rb'`...
    fn string_prefix(&self) -> bool {
        let kind = |b: u8| matches!(b, b'r' | b'R' | b'b' | b'B');
        let quote = |b: u8| matches!(b, b'\'' | b'"');
        kind(self.peek(0))
            && (quote(self.peek(1))
                || kind(self.peek(1)) && quote(self.peek(2)) && !self.peek(0).eq_ignore_ascii_case(&self.peek(1)))
    }

    fn string(&mut self) -> Result<Token, Issues> {
        let start = self.at;
        let (mut raw, mut bytes) = (false, false);
        loop {
            match self.peek(0) {
                b'r' | b'R' => raw = true,
                b'b' | b'B' => bytes = true,
                _ => break,
            }
            self.at += 1;
        }
        let quote = self.peek(0) as char;
        let triple = self.rest().starts_with(&quote.to_string().repeat(3));
        let close = quote.to_string().repeat(if triple { 3 } else { 1 });
        self.at += close.len();
        let mut text: Vec<u8> = Vec::new();
        loop {
            if self.rest().starts_with(close.as_str()) {
                self.at += close.len();
                break;
            }
            let Some(c) = self.rest().chars().next() else {
                return self
                    .fail(start, format!("Syntax error: token recognition error at: '{}'", &self.source[start..]));
            };
            if !triple && matches!(c, '\n' | '\r') {
                let shown = &self.source[start..self.at];
                return self.fail(start, format!("Syntax error: token recognition error at: '{shown}'"));
            }
            self.at += c.len_utf8();
            if c != '\\' {
                text.extend(c.encode_utf8(&mut [0; 4]).bytes());
            } else if raw {
                text.push(b'\\');
                // A raw string's backslash still keeps a quote from ending it.
                if let Some(next) = self.rest().chars().next() {
                    text.extend(next.encode_utf8(&mut [0; 4]).bytes());
                    self.at += next.len_utf8();
                }
            } else {
                self.escape(start, bytes, &mut text)?;
            }
        }
        if bytes {
            return Ok(Token::Bytes(text.into()));
        }
        match String::from_utf8(text) {
            Ok(s) => Ok(Token::String(s.into())),
            Err(_) => self.fail(start, "Syntax error: invalid UTF-8 in string literal".to_string()),
        }
    }

    fn escape(&mut self, start: usize, bytes: bool, text: &mut Vec<u8>) -> Result<(), Issues> {
        let bad = |l: &Lexer<'_>| {
            let end = (l.at + 1..=l.source.len()).find(|i| l.source.is_char_boundary(*i)).unwrap_or(l.source.len());
            l.fail(start, format!("Syntax error: token recognition error at: '{}'", &l.source[start..end]))
        };
        let c = self.peek(0);
        let simple = match c {
            b'a' => Some(7),
            b'b' => Some(8),
            b'f' => Some(12),
            b'n' => Some(b'\n'),
            b'r' => Some(b'\r'),
            b't' => Some(b'\t'),
            b'v' => Some(11),
            b'\\' | b'\'' | b'"' | b'`' | b'?' => Some(c),
            _ => None,
        };
        if let Some(byte) = simple {
            self.at += 1;
            text.push(byte);
            return Ok(());
        }
        let (skip, len, radix) = match c {
            b'x' | b'X' => (1, 2, 16),
            b'u' if !bytes => (1, 4, 16),
            b'U' if !bytes => (1, 8, 16),
            b'0'..=b'3' => (0, 3, 8),
            _ => return bad(self),
        };
        let digits = self.rest().get(skip..skip + len).filter(|d| d.bytes().all(|b| (b as char).is_digit(radix)));
        let Some(code) = digits.and_then(|d| u32::from_str_radix(d, radix).ok()) else { return bad(self) };
        self.at += skip + len;
        if bytes {
            text.push(code as u8);
            return Ok(());
        }
        match char::from_u32(code) {
            Some(ch) => text.extend(ch.encode_utf8(&mut [0; 4]).bytes()),
            None => return self.fail(start, "Syntax error: invalid unicode code point in string literal".to_string()),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Token, Issues> {
        let start = self.at;
        if self.peek(0) == b'0' && self.peek(1) == b'x' && self.peek(2).is_ascii_hexdigit() {
            let len = self.rest()[2..].bytes().take_while(u8::is_ascii_hexdigit).count();
            let value = u64::from_str_radix(&self.rest()[2..2 + len], 16);
            self.at += 2 + len;
            return self.integer(start, value.ok());
        }
        let digits = |l: &Lexer<'_>| l.rest().bytes().take_while(u8::is_ascii_digit).count();
        self.at += digits(self);
        let mut float = false;
        if self.peek(0) == b'.' && self.peek(1).is_ascii_digit() {
            float = true;
            self.at += 1;
            self.at += digits(self);
        }
        let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
        if matches!(self.peek(0), b'e' | b'E') && self.peek(1 + sign).is_ascii_digit() {
            float = true;
            self.at += 1 + sign;
            self.at += digits(self);
        }
        let text = &self.source[start..self.at];
        if !float {
            let value = text.parse::<u64>().ok();
            return self.integer(start, value);
        }
        match text.parse::<f64>() {
            Ok(v) if v.is_finite() => Ok(Token::Double(v)),
            _ => self.fail(start, "invalid double literal".to_string()),
        }
    }

    fn integer(&mut self, start: usize, value: Option<u64>) -> Result<Token, Issues> {
        let unsigned = matches!(self.peek(0), b'u' | b'U');
        if unsigned {
            self.at += 1;
        }
        match value {
            Some(v) if unsigned => Ok(Token::Uint(v)),
            Some(v) => Ok(Token::Int(v)),
            None if unsigned => self.fail(start, "invalid uint literal".to_string()),
            None => self.fail(start, "invalid int literal".to_string()),
        }
    }
}
