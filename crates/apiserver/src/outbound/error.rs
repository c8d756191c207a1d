//! Why a call failed, as Go's `net/http` and client-go say it.

use super::target::Target;
use http::Method;
use hyper_util::client::legacy;
use std::error::Error as _;
use std::fmt;

/// `Post "https://…": context deadline exceeded`
#[derive(Debug)]
pub struct Error {
    pub method: String,
    pub url: String,
    pub cause: Cause,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Cause {
    #[error("context deadline exceeded")]
    Timeout,
    /// No connection: no endpoint, no address, refused.
    #[error("{0}")]
    Dial(String),
    /// The handshake failed, or can't begin with what is configured.
    #[error("{0}")]
    Tls(String),
    /// The peer broke off, or speaks something else.
    #[error("{0}")]
    Protocol(String),
    #[error("{0}")]
    Credentials(String),
    #[error("invalid URL: {0}")]
    Url(String),
    #[error("http: response body too large")]
    TooLarge,
}

impl Error {
    pub fn new(method: &Method, target: &Target, path: &str, query: &str, cause: Cause) -> Error {
        // Go writes methods like headlines.
        let mut word = method.as_str().to_ascii_lowercase();
        if let Some(first) = word.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        Error { method: word, url: target.url.with(path, query), cause }
    }

    pub fn is_timeout(&self) -> bool {
        self.cause == Cause::Timeout
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.method, self.url, self.cause)
    }
}

impl std::error::Error for Error {}

/// Why the pool gave no answer.
pub fn cause(e: &legacy::Error) -> Cause {
    let mut at: Option<&(dyn std::error::Error + 'static)> = e.source();
    while let Some(e) = at {
        if let Some(c) = e.downcast_ref::<Cause>() {
            return c.clone();
        }
        at = e.source();
    }
    Cause::Protocol(e.source().map_or_else(|| e.to_string(), protocol))
}

/// A broken conversation.
pub fn protocol(e: &(dyn std::error::Error + 'static)) -> String {
    let mut at = Some(e);
    while let Some(e) = at {
        if let Some(io) = e.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::UnexpectedEof => "EOF".into(),
                std::io::ErrorKind::ConnectionReset => "read: connection reset by peer".into(),
                std::io::ErrorKind::BrokenPipe => "write: broken pipe".into(),
                _ => io.to_string(),
            };
        }
        if let Some(h) = e.downcast_ref::<hyper::Error>()
            && (h.is_incomplete_message() || h.is_closed() || h.is_canceled())
        {
            return "EOF".into();
        }
        if let Some(t) = e.downcast_ref::<rustls::Error>() {
            return super::tls::explain(t);
        }
        at = e.source();
    }
    e.to_string()
}

/// An answer that is no success, as client-go words it (`NewGenericServerResponse`): the message of the `Status` in
/// the body where there is one, else a sentence by the code.
pub fn refusal(code: u16, body: &[u8]) -> String {
    if let Ok(v) = serde_json::from_slice::<serde_json::Value>(body)
        && v["kind"] == "Status"
        && v["apiVersion"] == "v1"
        && let Some(m) = v["message"].as_str().filter(|m| !m.is_empty())
    {
        return m.to_string();
    }
    let text = String::from_utf8_lossy(body);
    // As Go's client, which reads this much of an error's body.
    let said: String = text.trim().chars().take(2048).collect();
    match code {
        400 => "the server rejected our request for an unknown reason".into(),
        401 => "the server has asked for the client to provide credentials".into(),
        403 | 406 | 415 if !said.is_empty() => said,
        403 => "forbidden".into(),
        404 => "the server could not find the requested resource".into(),
        405 => "the server does not allow this method on the requested resource".into(),
        409 => "the server reported a conflict".into(),
        422 => "the server rejected our request due to an error in our request".into(),
        429 => "the server has received too many requests and has asked us to try again later".into(),
        503 => "the server is currently unable to handle the request".into(),
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
                .into()
        }
        500.. => format!("an error on the server ({said:?}) has prevented the request from succeeding"),
        _ => format!("the server responded with the status code {code} but did not return more information"),
    }
}
