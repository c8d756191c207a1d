//! Stored objects as a reader of some version sees them.
//!
//! In: entries of the store. Out: [`Item`]s in the version of a row. A built-in kind's bytes are what its readers see.
//! A custom resource's objects may have been stored in another version, or under another schema: they are converted,
//! pruned and defaulted on their way out. Whether an object needs that is found once and kept with the entry, so that
//! lists and watches of those that don't are copies of bytes, too.

use super::Call;
use super::stored::{self, Facets, Splice};
use crate::custom::{Custom, conversion};
use api::catalogue::Resource;
use api::custom::Definition;
use bytes::Bytes;
use meta::status::{Result, Status};
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;
use store::{Entry, Revision};

/// A stored object, seen.
#[derive(Clone, Debug)]
pub struct Item {
    pub entry: Entry,
    /// In the row's version, without resourceVersion; `None` where the entry's bytes are just that.
    value: Option<Arc<Value>>,
}

impl Item {
    pub fn key(&self) -> &str {
        &self.entry.key
    }

    /// The object, with the resourceVersion of its last write.
    pub fn object(&self) -> Value {
        self.object_at(self.entry.mod_revision)
    }

    pub fn object_at(&self, revision: Revision) -> Value {
        let Some(value) = &self.value else { return stored::decode_at(&self.entry, revision) };
        let mut v = (**value).clone();
        stored::set_version(&mut v, revision);
        v
    }

    /// What selectors look at.
    pub fn facets(&self, row: &Resource) -> Arc<Facets> {
        match (&self.value, &row.custom) {
            (Some(v), _) => Arc::new(Facets::of(row, v)),
            (None, None) => Facets::stored(row, &self.entry),
            (None, Some(definition)) => {
                let memo = Memo::of(&self.entry);
                if let Some(f) = memo.find(definition, row).and_then(|s| s.facets) {
                    return f;
                }
                let facets = Arc::new(Facets::of(row, &stored::decode(&self.entry)));
                memo.put(Seen { facets: Some(facets.clone()), ..Seen::new(definition, row, Kept::AsStored) });
                facets
            }
        }
    }

    /// Bytes of the answer, about.
    pub fn size(&self) -> usize {
        self.entry.value.len() + 48
    }

    /// Appends the whole object as JSON.
    pub fn write(&self, splice: &Splice, out: &mut Vec<u8>, revision: Revision) {
        match &self.value {
            None => splice.object(out, &self.entry, revision),
            Some(_) => out.extend_from_slice(self.object_at(revision).to_string().as_bytes()),
        }
    }

    /// Appends the object as an item of a list.
    pub fn write_item(&self, splice: &Splice, out: &mut Vec<u8>) {
        match &self.value {
            None => splice.item(out, &self.entry),
            Some(_) => {
                let mut v = self.object();
                splice.untyped(&mut v);
                out.extend_from_slice(v.to_string().as_bytes());
            }
        }
    }
}

/// What was found out about a custom object, under one definition, for readers of one version.
#[derive(Clone)]
struct Seen {
    /// [`Definition::serial`]
    serial: u64,
    version: String,
    kept: Kept,
    facets: Option<Arc<Facets>>,
}

#[derive(Clone)]
enum Kept {
    /// The bytes are what its readers see.
    AsStored,
    /// They aren't, and making it anew is cheap.
    Derived,
    /// A webhook made it.
    Converted(Arc<Value>),
}

impl Seen {
    fn new(definition: &Definition, row: &Resource, kept: Kept) -> Seen {
        Seen { serial: definition.serial, version: row.version.clone(), kept, facets: None }
    }
}

#[derive(Default)]
struct Memo(Mutex<Vec<Seen>>);

impl Memo {
    fn of(entry: &Entry) -> Arc<Memo> {
        let memo = entry.memo.get_or_init(|| Arc::new(Memo::default()));
        // A memo of another kind can't be there: an entry's key says which rows read it.
        memo.clone().downcast().unwrap_or_default()
    }

    fn find(&self, definition: &Definition, row: &Resource) -> Option<Seen> {
        self.0.lock().iter().find(|s| s.serial == definition.serial && s.version == row.version).cloned()
    }

    fn put(&self, seen: Seen) {
        let mut all = self.0.lock();
        // What was found under older definitions is of no use any more.
        all.retain(|s| s.serial == seen.serial && s.version != seen.version);
        all.push(seen);
    }
}

/// Who reads: by which row, and with what is needed to get there.
#[derive(Clone)]
pub struct View {
    pub row: Arc<Resource>,
    /// The row that a built-in kind is stored by.
    storage: Arc<Resource>,
    custom: Custom,
}

impl View {
    /// Of a built-in kind by its own row, for unit tests.
    #[cfg(test)]
    pub fn plain(row: &Arc<Resource>, store: &Arc<dyn store::Store>) -> View {
        let outbound = crate::outbound::Client::new(crate::reader::Reader::new(store.clone()));
        let custom = Custom::new(outbound);
        View { row: row.clone(), storage: row.clone(), custom }
    }

    /// One entry. Costs nothing where a built-in kind's bytes are what its readers see.
    pub async fn see_one(&self, entry: Entry) -> Result<Item> {
        readable(&entry)?;
        if self.row.custom.is_none() && stored::is_storage(&self.row) {
            return Ok(Item { entry, value: None });
        }
        let seen = self.see(vec![entry]).await?.pop();
        seen.ok_or_else(|| Status::internal("an entry was lost"))
    }

    /// Entries in the version of the row, in their order.
    pub async fn see(&self, entries: Vec<Entry>) -> Result<Vec<Item>> {
        entries.iter().try_for_each(readable)?;
        if let Some(definition) = &self.row.custom {
            return see_custom(&self.custom, &self.row, definition, entries).await;
        }
        if stored::is_storage(&self.row) {
            return Ok(entries.into_iter().map(|entry| Item { entry, value: None }).collect());
        }
        let items = entries.into_iter().map(|entry| {
            let value = api::convert::to(&stored::parse(&entry), &self.storage, &self.row);
            Item { entry, value: Some(Arc::new(value)) }
        });
        Ok(items.collect())
    }
}

/// What can't be decrypted can't be seen, and no list that should have it is whole.
fn readable(entry: &Entry) -> Result<()> {
    match entry.is_sealed() {
        true => Err(crate::encryption::unreadable(&entry.key)),
        false => Ok(()),
    }
}

async fn see_custom(
    custom: &Custom,
    row: &Arc<Resource>,
    definition: &Arc<Definition>,
    entries: Vec<Entry>,
) -> Result<Vec<Item>> {
    let mut items: Vec<Item> = Vec::with_capacity(entries.len());
    // Positions of those that the webhook must convert, and what they are.
    let (mut at, mut waiting) = (Vec::new(), Vec::new());
    for entry in entries {
        let memo = Memo::of(&entry);
        let value = match memo.find(definition, row).map(|s| s.kept) {
            Some(Kept::AsStored) => None,
            Some(Kept::Converted(v)) => Some(v),
            known => {
                let mut object = stored::parse(&entry);
                let from = definition.version_of(&object);
                if let Some(from) = from {
                    from.read(&mut object);
                }
                if object["apiVersion"] == row.api_version() {
                    if known.is_none() && *api::codec::json::canonical(&object) == *entry.value {
                        memo.put(Seen::new(definition, row, Kept::AsStored));
                        items.push(Item { entry, value: None });
                        continue;
                    }
                    memo.put(Seen::new(definition, row, Kept::Derived));
                    Some(Arc::new(object))
                } else if definition.conversion == api::custom::Conversion::None {
                    conversion::rewrite(definition, &mut object, &row.version);
                    Some(Arc::new(object))
                } else {
                    at.push(items.len());
                    waiting.push(object);
                    None
                }
            }
        };
        items.push(Item { entry, value });
    }
    if !waiting.is_empty() {
        let converted = conversion::convert(custom, definition, waiting, &row.version).await?;
        for (i, value) in at.into_iter().zip(converted) {
            let value = Arc::new(value);
            Memo::of(&items[i].entry).put(Seen::new(definition, row, Kept::Converted(value.clone())));
            items[i].value = Some(value);
        }
    }
    Ok(items)
}

impl Call<'_> {
    pub fn view(&self) -> View {
        View { row: self.row.clone(), storage: self.storage_row(), custom: self.registry.custom.clone() }
    }

    /// One stored object as this request sees it.
    pub async fn see(&self, entry: &Entry) -> Result<Item> {
        self.view().see_one(entry.clone()).await
    }

    /// Bytes to store for an object in the row's version.
    pub async fn encode(&self, object: &Value) -> Result<Bytes> {
        let row = &self.row;
        // A definition may have got another storage version while this request waited, for a webhook say. Objects of the
        // old one that came after a migration would be left behind by it.
        let live = row
            .custom
            .as_ref()
            .and_then(|_| self.registry.catalogue.load().find(&row.group, &row.version, &row.plural));
        let row = live.as_ref().unwrap_or(row);
        if stored::is_storage(row) {
            return Ok(stored::encode(object));
        }
        if let Some(definition) = &row.custom {
            let mut all =
                conversion::convert(&self.registry.custom, definition, vec![object.clone()], &definition.storage)
                    .await?;
            return Ok(stored::encode(&all.pop().unwrap_or_default()));
        }
        Ok(stored::encode(&api::convert::to(object, row, &self.storage_row())))
    }
}
