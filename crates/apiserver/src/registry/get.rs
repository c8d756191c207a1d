//! GET of one object.

use super::{Answer, Call, parse_version, store_error, too_large_version};
use meta::status::{Result, Status};
use std::time::Duration;
use store::{Revision, Store};

/// Waits for a revision that is asked for at least; a client may be ahead of a server that mirrors etcd.
pub async fn wait_for(store: &dyn Store, asked: u64) -> Result<()> {
    let patience = tokio::time::Instant::now() + Duration::from_secs(3);
    loop {
        let now = store.barrier().await.map_err(store_error)?;
        if now.0 >= asked {
            return Ok(());
        }
        if tokio::time::Instant::now() >= patience {
            return Err(too_large_version(asked, now.0));
        }
        let mut w = store.watch("/registry/", now).map_err(store_error)?;
        let _ = tokio::time::timeout_at(patience, w.next(1)).await;
        if store.revision() == Revision(now.0) && tokio::time::Instant::now() >= patience {
            return Err(too_large_version(asked, now.0));
        }
    }
}

pub async fn get(mut call: Call<'_>) -> Result<(Answer, Vec<String>)> {
    if call.options.export {
        return Err(Status::bad_request("the export parameter, deprecated since v1.14, is no longer supported"));
    }
    let store = &call.registry.store;
    match parse_version(&call.options.resource_version)? {
        None => {
            store.barrier().await.map_err(store_error)?;
        }
        Some(0) => {}
        Some(v) => wait_for(store.as_ref(), v).await?,
    }
    let name = &call.info.name;
    let entry = store.get(&call.key(name)).ok_or_else(|| call.not_found(name))?;
    Ok((Answer::Item(call.see(&entry).await?), std::mem::take(&mut call.warnings)))
}
