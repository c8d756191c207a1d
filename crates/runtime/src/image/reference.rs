//! Image names: parsing and the normal form that everything else uses (source: distribution/reference).

use super::{Error, Result};
use std::fmt;

/// `docker.io/library/nginx:1.25@sha256:…`; at least one of tag and digest is set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    pub domain: String,
    pub path: String,
    pub tag: Option<String>,
    pub digest: Option<String>,
}

impl Reference {
    /// Fills in what a short name leaves out: `docker.io`, `library/`, `:latest`.
    pub fn parse(text: &str) -> Result<Reference> {
        let invalid = |why| Error::Name { name: text.to_owned(), why };
        if text.is_empty() || !text.is_ascii() {
            return Err(invalid("invalid reference format"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if let Some(digest) = digest
            && !is_digest(digest)
        {
            return Err(invalid("invalid reference format"));
        }
        // A colon after the last slash begins the tag; before it, a port.
        let slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest.get(slash..).and_then(|last| last.find(':')) {
            Some(at) => (&rest[..slash + at], Some(&rest[slash + at + 1..])),
            None => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(invalid("invalid reference format"));
        }
        let (domain, path) = match name.split_once('/') {
            Some((first, path))
                if first.contains(['.', ':'])
                    || first == "localhost"
                    || first.chars().any(|c| c.is_ascii_uppercase()) =>
            {
                (first, path.to_owned())
            }
            _ => ("docker.io", name.to_owned()),
        };
        let domain = if domain == "index.docker.io" { "docker.io" } else { domain };
        let path = if domain == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path };
        if path.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(invalid("invalid reference format: repository name must be lowercase"));
        }
        if !is_path(&path) || !is_domain(domain) {
            return Err(invalid("invalid reference format"));
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest"),
            (tag, _) => tag,
        };
        Ok(Reference {
            domain: domain.to_owned(),
            path,
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }

    /// `docker.io/library/nginx`
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// `docker.io/library/nginx:1.25`, if it has a tag.
    pub fn tagged(&self) -> Option<String> {
        self.tag.as_ref().map(|tag| format!("{}:{tag}", self.name()))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// `sha256:` and 64 lower-case hexadecimal digits; the only algorithm in use.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_path(text: &str) -> bool {
    text.len() <= 255
        && text.split('/').all(|part| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            part.bytes().next().is_some_and(plain)
                && part.bytes().last().is_some_and(plain)
                && part.bytes().all(|b| plain(b) || b".-_".contains(&b))
                && !part.contains("..")
        })
}

fn is_domain(text: &str) -> bool {
    let (host, port) = text.rsplit_once(':').map_or((text, None), |(h, p)| (h, Some(p)));
    let host_ok = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-[]:".contains(&b));
    host_ok && port.is_none_or(|p| p.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        for (short, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.25", "docker.io/library/nginx:1.25"),
            ("user/app", "docker.io/user/app:latest"),
            ("index.docker.io/library/redis", "docker.io/library/redis:latest"),
            ("skiff.local/hello", "skiff.local/hello:latest"),
            ("localhost/x:y", "localhost/x:y"),
            ("127.0.0.1:5000/a/b/c:v1", "127.0.0.1:5000/a/b/c:v1"),
        ] {
            assert_eq!(Reference::parse(short).unwrap().to_string(), full);
        }
        let digest = format!("sha256:{}", "0".repeat(64));
        let pinned = Reference::parse(&format!("nginx@{digest}")).unwrap();
        assert_eq!((pinned.tagged(), pinned.to_string()), (None, format!("docker.io/library/nginx@{digest}")));
    }

    #[test]
    fn bad_names_are_refused() {
        for bad in [
            "",
            "Nginx",
            "a:b:c",
            "nginx:",
            "nginx@sha256:12",
            "/x",
            "x/",
            "a//b",
            "a b",
            "é",
            "host:99999/x",
            "a..b",
            "-a",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }
}
