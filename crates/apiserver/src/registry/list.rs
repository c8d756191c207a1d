//! LIST: consistent pages from the store's memory.
//!
//! Source: API concepts, "Resource versions" (the table of `resourceVersion`, `resourceVersionMatch` and `limit`)
//! and "Retrieving large results sets in chunks".

use super::selection::Selection;
use super::view::Item;
use super::{Answer, Call, get, parse_version, store_error};
use crate::options::{Options, VersionMatch};
use api::catalogue::Resource;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use meta::status::{Result, Status};
use serde_json::json;
use store::{Entry, ListOptions, Revision};

/// A page, ready to be written.
pub struct Listing {
    pub items: Vec<Item>,
    pub revision: Revision,
    pub continue_token: String,
    /// `None` where it isn't known (selectors) or nothing remains.
    pub remaining: Option<u64>,
}

/// Where a chunked list goes on. `revision` 0: at whatever is current (after an expired token).
struct Token {
    revision: u64,
    start: String,
}

impl Token {
    fn encode(&self) -> String {
        let rv: i64 = if self.revision == 0 { -1 } else { self.revision as i64 };
        URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": rv, "start": self.start}).to_string())
    }

    fn decode(text: &str) -> Result<Token> {
        let bad = |why: String| Status::bad_request(format!("invalid continue token: continue key is not valid{why}"));
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|e| {
            let at = match e {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                _ => text.len(),
            };
            bad(format!(": illegal base64 data at input byte {at}"))
        })?;
        let (v, _) = api::codec::json::parse(&bytes).map_err(|e| bad(format!(": {e}")))?;
        let version = v["v"].as_str().unwrap_or("");
        if version != "meta.k8s.io/v1" {
            return Err(bad(format!(": server does not recognize this encoded version {version}")));
        }
        let revision = match v["rv"].as_i64() {
            Some(n) if n < 0 => 0,
            Some(n) if n > 0 => n as u64,
            _ => return Err(bad(": incorrect encoded start resourceVersion (version meta.k8s.io/v1)".into())),
        };
        let start = v["start"].as_str().unwrap_or_default().to_string();
        if start.is_empty() {
            return Err(bad(": encoded start key empty (version meta.k8s.io/v1)".into()));
        }
        // Names of objects have none of these; a token that we didn't make might.
        if start.starts_with('/') || start.split('/').any(|s| s.is_empty() || s == "." || s == "..") {
            return Err(bad(format!(": {start}")));
        }
        Ok(Token { revision, start })
    }
}

const INCONSISTENT: &str = "The provided continue parameter is too old to display a consistent list result. \
You can start a new list without the continue parameter, or use the continue token in this response to retrieve \
the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that \
were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

pub async fn list(mut call: Call<'_>) -> Result<(Answer, Vec<String>)> {
    let listing = select(&call).await?;
    Ok((Answer::List(listing), std::mem::take(&mut call.warnings)))
}

/// The page that a call asks for.
pub async fn select(call: &Call<'_>) -> Result<Listing> {
    let o = &call.options;
    o.check_list()?;
    let store = &call.registry.store;
    let selection = Selection::parse(&call.row, &o.label_selector, &o.field_selector)?;
    let prefix = call.prefix();
    let limit = limit(&call.row, o);
    let mut start_after = None;
    let mut revision = None;
    // With which a list whose snapshot has gone can still be finished.
    let mut fresh = None;
    if !o.continue_token.is_empty() {
        let token = Token::decode(&o.continue_token)?;
        if !matches!(o.resource_version.as_str(), "" | "0") {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        start_after = Some(format!("{prefix}{}", token.start));
        if token.revision != 0 {
            revision = Some(Revision(token.revision));
            fresh = Some(Token { revision: 0, start: token.start }.encode());
        } else {
            store.barrier().await.map_err(store_error)?;
        }
    } else {
        let asked = parse_version(&o.resource_version)?;
        let exact = o.resource_version_match == Some(VersionMatch::Exact)
            || (o.resource_version_match.is_none() && o.limit > 0 && asked.is_some_and(|v| v > 0));
        match asked {
            None => {
                store.barrier().await.map_err(store_error)?;
            }
            Some(0) => {}
            Some(v) => {
                get::wait_for(store.as_ref(), v).await?;
                if exact {
                    revision = Some(Revision(v));
                }
            }
        }
    }
    let failed = |e: store::Error| match (e, &fresh) {
        (store::Error::Compacted { .. }, Some(token)) => expired_with(token.clone()),
        (e, _) => store_error(e),
    };

    let one = selection.single_name().is_some() && (!call.row.namespaced || !call.scope().is_empty());
    if one && revision.is_none() && start_after.is_none() {
        return current(call, &selection).await;
    }

    if selection.is_all() {
        let page = store.list(&prefix, &ListOptions { start_after, limit, revision }).map_err(failed)?;
        let token = match page.entries.last() {
            Some(last) if page.remaining > 0 => next_token(&prefix, last, page.revision),
            _ => String::new(),
        };
        let remaining = (page.remaining > 0).then_some(page.remaining);
        let items = call.view().see(page.entries).await?;
        return Ok(Listing { items, revision: page.revision, continue_token: token, remaining });
    }

    // With a selector, pages are filled from as many keys as it takes.
    let mut items: Vec<Item> = Vec::new();
    let mut token = String::new();
    let mut at = revision;
    loop {
        let chunk = if limit == 0 { 0 } else { limit.max(500) };
        let page = store
            .list(&prefix, &ListOptions { start_after: start_after.clone(), limit: chunk, revision: at })
            .map_err(&failed)?;
        at = Some(page.revision);
        let count = page.entries.len();
        for (i, item) in call.view().see(page.entries).await?.into_iter().enumerate() {
            start_after = Some(item.key().to_string());
            if !selection.matches(&item.facets(&call.row)) {
                continue;
            }
            let last_of_all = page.remaining == 0 && i + 1 == count;
            items.push(item);
            if limit > 0 && items.len() == limit {
                if !last_of_all && let Some(last) = items.last() {
                    token = next_token(&prefix, &last.entry, page.revision);
                }
                return Ok(Listing { items, revision: page.revision, continue_token: token, remaining: None });
            }
        }
        if page.remaining == 0 {
            return Ok(Listing { items, revision: page.revision, continue_token: token, remaining: None });
        }
    }
}

/// Who takes any version gets everything at once, as upstream's watch cache answers; it keeps no events.
fn limit(row: &Resource, options: &Options) -> usize {
    let is_event = row.kind == "Event" && matches!(row.group.as_str(), "" | "events.k8s.io");
    if options.resource_version == "0" && !is_event { 0 } else { options.limit }
}

/// All that matches, as it is now.
pub async fn current(call: &Call<'_>, selection: &Selection) -> Result<Listing> {
    let matches = |i: &Item| selection.is_all() || selection.matches(&i.facets(&call.row));
    let store = &call.registry.store;
    if let Some(name) = selection.single_name()
        && (!call.row.namespaced || !call.scope().is_empty())
    {
        let revision = store.revision();
        let entry = store.get_at(&call.key(name), revision).map_err(store_error)?;
        let mut items = call.view().see(entry.into_iter().collect()).await?;
        items.retain(matches);
        return Ok(Listing { items, revision, continue_token: String::new(), remaining: None });
    }
    let page = store.list(&call.prefix(), &ListOptions::default()).map_err(store_error)?;
    let mut items = call.view().see(page.entries).await?;
    items.retain(matches);
    Ok(Listing { items, revision: page.revision, continue_token: String::new(), remaining: None })
}

fn next_token(prefix: &str, last: &Entry, revision: Revision) -> String {
    Token { revision: revision.0, start: last.key[prefix.len()..].to_string() }.encode()
}

/// 410 whose ListMeta carries a token with which the list can go on, inconsistently.
fn expired_with(continue_token: String) -> Status {
    let mut s = Status::expired(INCONSISTENT);
    s.continue_token = continue_token;
    s
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn who_takes_any_version_gets_everything_but_events() {
        let rows = api::catalogue::builtin();
        let limit_of = |plural: &str, query: &str| {
            let row = rows.iter().find(|r| r.plural == plural).unwrap();
            limit(row, &Options::parse(query).unwrap())
        };
        assert_eq!(limit_of("pods", "limit=2&resourceVersion=0"), 0);
        assert_eq!(limit_of("pods", "limit=2&resourceVersion=0&resourceVersionMatch=NotOlderThan"), 0);
        assert_eq!(limit_of("pods", "limit=2&resourceVersion=7&resourceVersionMatch=NotOlderThan"), 2);
        assert_eq!(limit_of("pods", "limit=2"), 2);
        assert_eq!(limit_of("events", "limit=2&resourceVersion=0"), 2);
    }

    #[test]
    fn tokens_round_trip_and_bad_ones_are_refused() {
        let t = Token::decode(&Token { revision: 7, start: "default/a".into() }.encode()).unwrap();
        assert_eq!((t.revision, t.start.as_str()), (7, "default/a"));
        let t = Token::decode(&Token { revision: 0, start: "a".into() }.encode()).unwrap();
        assert_eq!(t.revision, 0);
        let made = |v: Value| URL_SAFE_NO_PAD.encode(v.to_string());
        for (bad, why) in [
            ("%%%".to_string(), ": illegal base64 data at input byte 0"),
            ("aWk".to_string(), ": invalid character 'i' looking for beginning of value"),
            (made(json!({})), ": server does not recognize this encoded version "),
            (made(json!({"v": "meta.k8s.io/v2"})), ": server does not recognize this encoded version meta.k8s.io/v2"),
            (
                made(json!({"v": "meta.k8s.io/v1", "rv": 0, "start": "a"})),
                ": incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ),
            (
                made(json!({"v": "meta.k8s.io/v1", "rv": 5, "start": ""})),
                ": encoded start key empty (version meta.k8s.io/v1)",
            ),
            (made(json!({"v": "meta.k8s.io/v1", "rv": 5, "start": "../secrets/a"})), ": ../secrets/a"),
        ] {
            let s = Token::decode(&bad).err().unwrap();
            assert_eq!((s.code, s.message), (400, format!("invalid continue token: continue key is not valid{why}")));
        }
    }
}
