//! The store: one index of images, blobs by digest (configs and manifests), layers unpacked once for each chain.
//!
//! Several processes may use it at once (`skiff images import` beside a running server). The index is replaced
//! by rename under a file lock, so that readers need no lock and a kill leaves the old one or the new one.
//! Compressed layers are not kept: what runs is the unpacked form.

use super::manifest::{self, Config, Execution};
use super::reference::is_digest;
use super::unpack::unpack;
use super::{Error, Reference, Result, io};
use crate::state::{self, Durability};
use nix::fcntl::{Flock, FlockArg};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub type ImageConfig = Execution;

/// One image.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// Digest of the config, `sha256:…`.
    pub id: String,
    /// Directory names of the layers, bottom first.
    pub layers: Vec<String>,
    /// Normalised names with tags.
    pub tags: BTreeSet<String>,
    /// Names with the digests by which registries know the image.
    pub digests: BTreeSet<String>,
    /// Of the unpacked layers.
    pub size_bytes: u64,
    pub pinned: bool,
    pub config: ImageConfig,
    pub imported_at_ns: i64,
    /// What it was made from, for images that are not imported.
    #[serde(default)]
    pub origin: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Index {
    images: BTreeMap<String, Record>,
}

impl Index {
    fn insert(&mut self, record: Record) -> Record {
        // A tag points to one image: the last one that was given it.
        for other in self.images.values_mut() {
            other.tags.retain(|tag| !record.tags.contains(tag));
        }
        let merged = match self.images.remove(&record.id) {
            Some(old) => Record {
                tags: old.tags.union(&record.tags).cloned().collect(),
                digests: old.digests.union(&record.digests).cloned().collect(),
                pinned: old.pinned || record.pinned,
                ..record
            },
            None => record,
        };
        self.images.insert(merged.id.clone(), merged.clone());
        merged
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Layer {
    chain: String,
    size_bytes: u64,
}

pub struct Store {
    root: PathBuf,
    /// Where containers' records are, whose layers must stay.
    containers: PathBuf,
    cache: Mutex<Option<(Stamp, Arc<Index>)>>,
}

/// Tells one version of the index file from another.
type Stamp = (u64, i64, i64);

/// While one lives, no layer is collected: an import's layers belong to no image until its end.
pub struct Lease(#[expect(dead_code, reason = "held for its lock")] Flock<File>);

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Store {
    /// `root` is the runtime's directory; the store lives in `images` below it.
    pub fn open(root: &Path) -> Result<Store> {
        let images = root.join("images");
        for dir in ["blobs/sha256", "layers", "tmp"] {
            let dir = images.join(dir);
            fs::create_dir_all(&dir).map_err(io("create", dir.display()))?;
        }
        Ok(Store { root: images, containers: root.join("containers"), cache: Mutex::new(None) })
    }

    pub fn layers_dir(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub fn path(&self) -> &Path {
        &self.root
    }

    // ---- reading ----------------------------------------------------------------------------------------------

    fn index(&self) -> Result<Arc<Index>> {
        let path = self.root.join("index.json");
        let mut cache = self.cache.lock();
        let Ok(meta) = fs::metadata(&path) else {
            return Ok(Arc::default());
        };
        let stamp = (meta.ino(), meta.mtime(), meta.mtime_nsec());
        if let Some((known, index)) = &*cache
            && *known == stamp
        {
            return Ok(index.clone());
        }
        let index: Arc<Index> = Arc::new(state::read(&path).map_err(io("read", path.display()))?.unwrap_or_default());
        *cache = Some((stamp, index.clone()));
        Ok(index)
    }

    pub fn list(&self) -> Result<Vec<Record>> {
        Ok(self.index()?.images.values().cloned().collect())
    }

    /// By id (also without `sha256:`, also shortened to 12 digits or more), name with tag, or name with digest.
    pub fn find(&self, name: &str) -> Result<Option<Record>> {
        let index = self.index()?;
        if let Some(found) = index.images.get(name) {
            return Ok(Some(found.clone()));
        }
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        if hex.len() >= 12 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            let full = format!("sha256:{hex}");
            if let Some((_, found)) = index.images.range(full.clone()..).next().filter(|(id, _)| id.starts_with(&full))
            {
                return Ok(Some(found.clone()));
            }
        }
        let Ok(reference) = Reference::parse(name) else {
            return Ok(None);
        };
        let by_digest = reference.digest.as_ref().map(|digest| format!("{}@{digest}", reference.name()));
        let tagged = reference.tagged();
        let matches = |record: &&Record| match &by_digest {
            Some(digest) => record.digests.contains(digest),
            None => tagged.as_ref().is_some_and(|tag| record.tags.contains(tag)),
        };
        Ok(index.images.values().find(matches).cloned())
    }

    /// Directories of an image's layers as overlay names, topmost first.
    pub fn lower(&self, record: &Record) -> Vec<String> {
        record.layers.iter().rev().cloned().collect()
    }

    // ---- writing ----------------------------------------------------------------------------------------------

    fn lock(&self, name: &str, how: FlockArg) -> Result<Option<Flock<File>>> {
        let path = self.root.join(name);
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io("open", path.display()))?;
        match Flock::lock(file, how) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, e)) => Err(io("lock", path.display())(e.into())),
        }
    }

    pub fn lease(&self) -> Result<Lease> {
        let lock = self.lock("layers.lock", FlockArg::LockShared)?;
        lock.map(Lease).ok_or_else(|| Error::Corrupt("layer lock is busy".to_owned()))
    }

    fn change<T>(&self, durability: Durability, change: impl FnOnce(&mut Index) -> Result<T>) -> Result<T> {
        let _lock = self.lock("index.lock", FlockArg::LockExclusive)?;
        let mut index = (*self.index()?).clone();
        let result = change(&mut index)?;
        let path = self.root.join("index.json");
        state::write(&path, &index, durability).map_err(io("write", path.display()))?;
        *self.cache.lock() = None;
        Ok(result)
    }

    /// Stores bytes under their digest, which is returned.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<String> {
        let hex = hex::encode(Sha256::digest(bytes));
        let path = self.root.join("blobs/sha256").join(&hex);
        if !path.exists() {
            state::write_bytes(&path, bytes, Durability::Process).map_err(io("write", path.display()))?;
        }
        Ok(format!("sha256:{hex}"))
    }

    /// The chain of a layer on top of another: as the OCI image format defines ChainID.
    pub fn chain(below: Option<&str>, diff_id: &str) -> String {
        match below {
            None => diff_id.to_owned(),
            Some(below) => format!("sha256:{}", hex::encode(Sha256::digest(format!("{below} {diff_id}")))),
        }
    }

    /// Short, because up to 127 of them must fit into one page of mount options.
    fn layer_name(chain: &str) -> String {
        chain.trim_start_matches("sha256:").chars().take(20).collect()
    }

    pub fn has_layer(&self, chain: &str) -> bool {
        let path = self.layers_dir().join(Self::layer_name(chain)).join("layer.json");
        matches!(state::read::<Layer>(&path), Ok(Some(layer)) if layer.chain == chain)
    }

    /// Unpacks a layer (plain, gzip or zstd) unless it is there; `below` are the chains beneath it, bottom first.
    /// Its bytes must have the digest `diff_id` when uncompressed.
    pub fn add_layer(&self, below: &[String], diff_id: &str, stream: &mut dyn Read) -> Result<String> {
        let chain = Self::chain(below.last().map(String::as_str), diff_id);
        if self.has_layer(&chain) {
            return Ok(chain);
        }
        let lowers: Vec<PathBuf> =
            below.iter().rev().map(|c| self.layers_dir().join(Self::layer_name(c)).join("fs")).collect();
        self.place_layer(&chain, |fs_dir| {
            let plain = decompressed(stream).map_err(io("decompress layer", diff_id))?;
            let mut hashed = Hashed { inner: plain, hash: Sha256::new() };
            let size = unpack(&mut hashed, fs_dir, &lowers).map_err(io("unpack layer", diff_id))?;
            // Padding after the archive's end belongs to the digest.
            std::io::copy(&mut hashed, &mut std::io::sink()).map_err(io("read layer", diff_id))?;
            let found = format!("sha256:{}", hex::encode(hashed.hash.finalize()));
            if found != diff_id {
                return Err(Error::Corrupt(format!(
                    "wrong diff id calculated on extraction: {found}, expected {diff_id}"
                )));
            }
            Ok(size)
        })?;
        Ok(chain)
    }

    /// Fills a layer in a temporary place and moves it to its own.
    pub(super) fn place_layer(&self, chain: &str, fill: impl FnOnce(&Path) -> Result<u64>) -> Result<()> {
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = self.root.join("tmp").join(format!("layer-{}-{unique}", std::process::id()));
        let _ = fs::remove_dir_all(&temporary);
        let fs_dir = temporary.join("fs");
        fs::create_dir_all(&fs_dir).map_err(io("create", fs_dir.display()))?;
        let result = set_mode(&fs_dir, 0o755)
            .map_err(io("chmod", fs_dir.display()))
            .and_then(|()| fill(&fs_dir))
            .and_then(|size_bytes| {
                let record = Layer { chain: chain.to_owned(), size_bytes };
                state::write(&temporary.join("layer.json"), &record, Durability::Process)
                    .map_err(io("write", "layer.json"))?;
                let target = self.layers_dir().join(Self::layer_name(chain));
                match fs::rename(&temporary, &target) {
                    Ok(()) => Ok(()),
                    // Somebody else was faster.
                    Err(_) if self.has_layer(chain) => Ok(()),
                    Err(e) => Err(io("place layer", target.display())(e)),
                }
            });
        if temporary.exists() {
            let _ = fs::remove_dir_all(&temporary);
        }
        result
    }

    /// What an image of layers that are there will be. `config` are the bytes whose digest is the id. Under a lease,
    /// which is held until [`Store::commit`] has ended.
    pub fn describe(
        &self,
        config: &[u8],
        chains: &[String],
        tags: &[Reference],
        digests: &[String],
        pinned: bool,
    ) -> Result<Record> {
        let parsed: Config = manifest::parse("image config", config)?;
        let id = self.put_blob(config)?;
        let mut record = Record {
            id,
            layers: chains.iter().map(|c| Self::layer_name(c)).collect(),
            tags: tags.iter().filter_map(Reference::tagged).collect(),
            digests: digests.iter().cloned().collect(),
            size_bytes: config.len() as u64,
            pinned,
            config: parsed.config.unwrap_or_default(),
            imported_at_ns: state::now_ns(),
            origin: String::new(),
        };
        for layer in &record.layers {
            let path = self.layers_dir().join(layer).join("layer.json");
            let layer: Option<Layer> = state::read(&path).map_err(io("read", path.display()))?;
            record.size_bytes +=
                layer.ok_or_else(|| Error::Corrupt(format!("layer {} is missing", path.display())))?.size_bytes;
        }
        Ok(record)
    }

    /// From here on there are these images, all of them or none.
    pub fn commit(&self, records: Vec<Record>) -> Result<Vec<Record>> {
        // One wait for the disk for all layers, so that the index never names what a loss of power took away.
        if let Ok(dir) = File::open(&self.root) {
            let _ = nix::unistd::syncfs(&dir);
        }
        self.change(Durability::Disk, |index| Ok(records.into_iter().map(|r| index.insert(r)).collect()))
    }

    /// Gives an image another name.
    pub fn tag(&self, image: &str, name: &Reference) -> Result<()> {
        let mut record = self.find(image)?.ok_or_else(|| Error::NotFound(image.to_owned()))?;
        record.tags.extend(name.tagged());
        self.change(Durability::Disk, |index| Ok(index.insert(record))).map(drop)
    }

    /// Removes an image and all its names; given a name of several, only that name. Succeeds when it is absent.
    pub fn remove(&self, name: &str) -> Result<()> {
        let Some(record) = self.find(name)? else {
            return Ok(());
        };
        let tag = Reference::parse(name)
            .ok()
            .and_then(|r| r.tagged())
            .filter(|tag| !is_digest(name) && record.tags.contains(tag));
        match tag {
            Some(tag) if record.tags.len() > 1 => self.change(Durability::Disk, |index| {
                if let Some(image) = index.images.get_mut(&record.id) {
                    image.tags.remove(&tag);
                }
                Ok(())
            }),
            _ => self.remove_id(&record.id),
        }
    }

    /// Removes an image whatever its names, as CRI's RemoveImage does.
    pub fn remove_id(&self, id: &str) -> Result<()> {
        self.change(Durability::Disk, |index| {
            index.images.remove(id);
            Ok(())
        })?;
        self.collect()
    }

    /// Deletes blobs that belong to no image, and layers that neither an image nor a container uses. While an import
    /// runs nothing is deleted; a later removal will.
    pub fn collect(&self) -> Result<()> {
        let Some(_lock) = self.lock("layers.lock", FlockArg::LockExclusiveNonblock)? else {
            return Ok(());
        };
        let index = self.index()?;
        let blobs = fs::read_dir(self.root.join("blobs/sha256")).map_err(io("list", "blobs"))?;
        for entry in blobs.flatten() {
            if !index.images.contains_key(&format!("sha256:{}", entry.file_name().to_string_lossy())) {
                let _ = fs::remove_file(entry.path());
            }
        }
        let mut used: BTreeSet<String> = index.images.values().flat_map(|r| r.layers.iter().cloned()).collect();
        used.extend(crate::container::layers_in_use(&self.containers));
        let layers = fs::read_dir(self.layers_dir()).map_err(io("list", "layers"))?;
        for entry in layers.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !used.contains(&name) {
                // Out of sight first: a half-deleted layer must never look whole.
                let doomed = self.root.join("tmp").join(format!("doomed-{}-{name}", std::process::id()));
                if fs::rename(entry.path(), &doomed).is_ok() {
                    let _ = fs::remove_dir_all(&doomed);
                }
            }
        }
        Ok(())
    }

    /// Removes what a killed import or removal left: halves, and layers and blobs that no image came to name. Called
    /// once at start, before any import of ours.
    pub fn sweep(&self) -> Result<()> {
        self.collect()?;
        let Some(_lock) = self.lock("layers.lock", FlockArg::LockExclusiveNonblock)? else {
            return Ok(());
        };
        for entry in fs::read_dir(self.root.join("tmp")).map_err(io("list", "tmp"))?.flatten() {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
        let _index = self.lock("index.lock", FlockArg::LockExclusive)?;
        for entry in fs::read_dir(&self.root).map_err(io("list", self.root.display()))?.flatten() {
            let name = entry.file_name();
            // An index that was being written.
            if name.as_encoded_bytes().starts_with(b".") && name.as_encoded_bytes().ends_with(b".tmp") {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// Counts a stream's digest while it is read.
pub(super) struct Hashed<R> {
    pub inner: R,
    pub hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..n).unwrap_or_default());
        Ok(n)
    }
}

/// Plain bytes of a stream that is plain, gzip or zstd: told by its first bytes, since media types lie.
pub(super) fn decompressed<'a>(mut stream: impl Read + 'a) -> std::io::Result<Box<dyn Read + 'a>> {
    let mut head = Vec::with_capacity(4);
    stream.by_ref().take(4).read_to_end(&mut head)?;
    let kind = (head.starts_with(&[0x1f, 0x8b]), head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    let whole = std::io::Cursor::new(head).chain(stream);
    Ok(match kind {
        (true, _) => Box::new(flate2::read::MultiGzDecoder::new(std::io::BufReader::with_capacity(64 * 1024, whole))),
        (_, true) => Box::new(zstd::stream::read::Decoder::new(whole)?),
        _ => Box::new(std::io::BufReader::with_capacity(64 * 1024, whole)),
    })
}
