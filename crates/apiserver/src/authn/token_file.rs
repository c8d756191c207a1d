//! Fixed tokens from a file (`--token-auth-file`), for tests and for getting started: lines of
//! `token,user,uid[,"group1,group2"]`. Read once, at the start. Source: "Static Token File".

use super::User;
use super::bearer::{TokenAuthenticator, TokenOutcome};
use async_trait::async_trait;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

pub struct TokenFile {
    /// By the token's hash, so that looking one up tells nothing of how much of it is right.
    users: HashMap<[u8; 32], User>,
}

impl TokenFile {
    /// The error names the line.
    pub fn parse(text: &str) -> Result<TokenFile, String> {
        let mut users = HashMap::new();
        for (i, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let fail = |why: &str| Err(format!("line {}: {why}", i + 1));
            let Some(fields) = fields(line) else { return fail("a quote isn't closed") };
            let [token, name, uid, rest @ ..] = fields.as_slice() else {
                return fail(&format!(
                    "expected at least 3 columns (token, user name, user uid), found {}",
                    fields.len()
                ));
            };
            if token.is_empty() {
                return fail("the token is empty");
            }
            let groups = rest.first().map(String::as_str).unwrap_or_default();
            let user = User {
                name: name.clone(),
                uid: uid.clone(),
                groups: groups.split(',').filter(|g| !g.is_empty()).map(str::to_string).collect(),
                ..User::default()
            };
            if users.insert(Sha256::digest(token.as_bytes()).into(), user).is_some() {
                tracing::warn!(line = i + 1, "the token file has a token twice; the later line counts");
            }
        }
        Ok(TokenFile { users })
    }
}

/// A line of comma-separated values with double quotes (RFC 4180); spaces before a field don't count.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut out = Vec::new();
    let mut chars = line.trim_end().chars().peekable();
    loop {
        while chars.next_if(|c| *c == ' ').is_some() {}
        let mut field = String::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next()? {
                    '"' if chars.next_if_eq(&'"').is_some() => field.push('"'),
                    '"' => break,
                    c => field.push(c),
                }
            }
        }
        while let Some(c) = chars.next_if(|c| *c != ',') {
            field.push(c);
        }
        out.push(field);
        if chars.next().is_none() {
            return Some(out);
        }
    }
}

#[async_trait]
impl TokenAuthenticator for TokenFile {
    async fn authenticate_token(&self, token: &str, audiences: &[String]) -> TokenOutcome {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        match self.users.get(&hash) {
            Some(user) => TokenOutcome::Authenticated { user: user.clone(), audiences: audiences.to_vec() },
            None => TokenOutcome::Skip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_line_is_a_token_with_its_user() {
        let file = TokenFile::parse("abc,jane,u1,\"dev,ops\"\n\nd\"ef, \"joe \"\"x\"\"\",u2\n").unwrap();
        let who = async |token: &str| match file.authenticate_token(token, &[]).await {
            TokenOutcome::Authenticated { user, .. } => format!("{} {} {:?}", user.name, user.uid, user.groups),
            _ => "nobody".to_string(),
        };
        assert_eq!(who("abc").await, r#"jane u1 ["dev", "ops"]"#);
        assert_eq!(who("d\"ef").await, r#"joe "x" u2 []"#);
        for other in ["", "ab", "abcd", "jane"] {
            assert_eq!(who(other).await, "nobody");
        }
    }

    #[test]
    fn mistakes_name_the_line() {
        for (text, expected) in [
            ("a,b,c\na,b", "line 2: expected at least 3 columns (token, user name, user uid), found 2"),
            (",b,c", "line 1: the token is empty"),
            ("a,\"b,c", "line 1: a quote isn't closed"),
        ] {
            assert_eq!(TokenFile::parse(text).err().as_deref(), Some(expected));
        }
    }
}
