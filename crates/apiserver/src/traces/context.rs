//! W3C Trace Context: `traceparent` and `tracestate` headers. Pure.

use http::{HeaderMap, HeaderValue};
use std::sync::Arc;

pub const SAMPLED: u8 = 1;
/// Of `tracestate`, which is carried and never looked into.
const STATE_BYTES_MAX: usize = 512;

/// Where in which trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Context {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub sampled: bool,
    pub state: Option<Arc<str>>,
}

impl Context {
    /// What a client says it is part of. Anything malformed counts as nothing, as the standard has it.
    pub fn of(headers: &HeaderMap) -> Option<Context> {
        let mut values = headers.get_all("traceparent").iter();
        let text = values.next()?.to_str().ok()?;
        if values.next().is_some() {
            return None;
        }
        let lower = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
        let mut parts = text.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let more = parts.next().is_some();
        if version.len() != 2 || !lower(version) || version == "ff" || (version == "00" && more) {
            return None;
        }
        if flags.len() != 2 || !lower(trace) || !lower(span) || !lower(flags) {
            return None;
        }
        let (mut trace_id, mut span_id, mut flag) = ([0; 16], [0; 8], [0; 1]);
        hex::decode_to_slice(trace, &mut trace_id).ok()?;
        hex::decode_to_slice(span, &mut span_id).ok()?;
        hex::decode_to_slice(flags, &mut flag).ok()?;
        if trace_id == [0; 16] || span_id == [0; 8] {
            return None;
        }
        let state = headers.get("tracestate").and_then(|v| v.to_str().ok());
        let state = state.filter(|s| !s.is_empty() && s.len() <= STATE_BYTES_MAX).map(Arc::from);
        Some(Context { trace_id, span_id, sampled: flag[0] & SAMPLED != 0, state })
    }

    /// Tells whoever is called what its work is part of.
    pub fn inject(&self, headers: &mut HeaderMap) {
        let text = format!(
            "00-{}-{}-{:02x}",
            hex::encode(self.trace_id),
            hex::encode(self.span_id),
            if self.sampled { SAMPLED } else { 0 }
        );
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert("traceparent", value);
        }
        match self.state.as_deref().and_then(|s| HeaderValue::from_str(s).ok()) {
            Some(value) => headers.insert("tracestate", value),
            None => headers.remove("tracestate"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(parent: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::header::HeaderName::from_static("traceparent"), parent.parse().unwrap())])
    }

    #[test]
    fn contexts_are_read_and_written() {
        // The example of the standard.
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut h = headers(text);
        h.insert("tracestate", "congo=t61rcWkgMzE".parse().unwrap());
        let c = Context::of(&h).unwrap();
        assert!(c.sampled && c.span_id == [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        let mut out = HeaderMap::new();
        c.inject(&mut out);
        assert_eq!((&out["traceparent"], &out["tracestate"]), (&h["traceparent"], &h["tracestate"]));
        assert!(!Context::of(&headers(&text.replace("-01", "-00"))).unwrap().sampled);
        // Later versions may say more.
        assert!(Context::of(&headers(&format!("01{}-more", &text[2..]))).is_some());
        for bad in [
            "",
            "00",
            &text[..54],
            &format!("{text}-more"),
            &format!("ff{}", &text[2..]),
            &text.to_uppercase(),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
            "zz-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Context::of(&headers(bad)), None, "{bad}");
        }
        let mut twice = headers(text);
        twice.append("traceparent", text.parse().unwrap());
        assert_eq!(Context::of(&twice), None);
    }
}
