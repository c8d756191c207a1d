//! Import of image archives: `docker save`, OCI layouts as tar (also compressed) or as a directory. An archive is taken
//! whole or refused whole: its images are looked at, then all layers unpacked, then all images named at once.

use super::manifest::{self, Config, Descriptor, DockerEntry, Manifest};
use super::store::{Hashed, decompressed};
use super::{Error, Record, Reference, Result, Store, io};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// Small JSON files of an archive may not be larger than this.
const JSON_BYTES_MAX: u64 = 32 << 20;

/// Where an archive's parts are.
enum Source {
    Directory(PathBuf),
    /// Offset and length of each member.
    Tar {
        file: File,
        members: BTreeMap<String, (u64, u64)>,
    },
}

/// An image of an archive, whose layers aren't unpacked yet.
struct Found {
    config: Vec<u8>,
    tags: Vec<Reference>,
    digests: Vec<String>,
    /// Digest of each layer's plain bytes, and where they are.
    layers: Vec<(String, Part)>,
}

enum Part {
    File(String),
    /// By its digest.
    Blob(String),
}

impl Found {
    /// Refuses what no unpacking could make right.
    fn new(config: Vec<u8>, tags: Vec<Reference>, digests: Vec<String>, parts: Vec<Part>) -> Result<Found> {
        let parsed: Config = manifest::parse("image config", &config)?;
        parsed.fits()?;
        let diff_ids = parsed.rootfs.diff_ids;
        if parts.len() != diff_ids.len() {
            return Err(Error::Corrupt(format!(
                "mismatched image rootfs and manifest layers: {} and {}",
                diff_ids.len(),
                parts.len()
            )));
        }
        Ok(Found { config, tags, digests, layers: diff_ids.into_iter().zip(parts).collect() })
    }

    /// Unpacks the layers in order.
    fn unpack(self, store: &Store, source: &Source) -> Result<Record> {
        let mut chains: Vec<String> = Vec::new();
        for (diff_id, part) in &self.layers {
            let mut stream = match part {
                Part::File(name) => source.open(name)?,
                Part::Blob(digest) => source.open_blob(digest)?,
            };
            let chain = store.add_layer(&chains, diff_id, &mut stream)?;
            chains.push(chain);
        }
        store.describe(&self.config, &chains, &self.tags, &self.digests, false)
    }
}

/// Imports every image of an archive for this platform. Returns their records; an image without a name can be
/// used by its id.
pub fn import(store: &Store, path: &Path) -> Result<Vec<Record>> {
    let lease = store.lease()?;
    let result = open(store, path).and_then(|source| {
        let images = look(&source, path)?;
        let records = images.into_iter().map(|i| i.unpack(store, &source)).collect::<Result<Vec<_>>>()?;
        store.commit(records)
    });
    drop(lease);
    // What was unpacked before the error.
    if result.is_err()
        && let Err(error) = store.collect()
    {
        tracing::warn!(%error, "layers of a refused archive could not be removed; the next start does");
    }
    result
}

fn look(source: &Source, path: &Path) -> Result<Vec<Found>> {
    let stem = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let stem = stem.split('.').next().unwrap_or_default();
    if source.has("manifest.json") {
        look_docker(source)
    } else if source.has("index.json") {
        look_oci(source, stem)
    } else {
        Err(Error::Corrupt(format!("{}: neither manifest.json nor index.json: not an image archive", path.display())))
    }
}

fn look_docker(source: &Source) -> Result<Vec<Found>> {
    let entries: Vec<DockerEntry> = manifest::parse("manifest.json", &source.bytes("manifest.json")?)?;
    let mut images = Vec::new();
    for entry in entries {
        let config = source.bytes(&entry.config)?;
        let tags =
            entry.repo_tags.unwrap_or_default().iter().map(|t| Reference::parse(t)).collect::<Result<Vec<_>>>()?;
        let parts = entry.layers.unwrap_or_default().into_iter().map(Part::File).collect();
        images.push(Found::new(config, tags, Vec::new(), parts)?);
    }
    Ok(images)
}

fn look_oci(source: &Source, stem: &str) -> Result<Vec<Found>> {
    let index: Manifest = manifest::parse("index.json", &source.bytes("index.json")?)?;
    // Several entries of one name are its platforms.
    let mut by_name: BTreeMap<Option<String>, Vec<&Descriptor>> = BTreeMap::new();
    for entry in &index.manifests {
        by_name.entry(name_of(entry, stem)).or_default().push(entry);
    }
    let mut images = Vec::new();
    for (name, entries) in by_name {
        let label = name.clone().unwrap_or_else(|| stem.to_owned());
        // Without names every entry is an image of its own, unless they differ in platform.
        let chosen = if name.is_none() && entries.iter().all(|e| e.platform.is_none()) {
            entries
        } else {
            vec![manifest::choose(&label, entries)?]
        };
        for mut descriptor in chosen.into_iter().cloned() {
            let top = descriptor.digest.clone();
            let mut depth = 0;
            let manifest = loop {
                let manifest: Manifest = manifest::parse("manifest", &source.blob(&descriptor.digest)?)?;
                if manifest.config.is_some() {
                    break manifest;
                }
                depth += 1;
                if depth > 4 {
                    return Err(Error::Corrupt("image index is nested too deeply".to_owned()));
                }
                descriptor = manifest::choose(&label, &manifest.manifests)?.clone();
            };
            let config_digest = manifest.config.map(|c| c.digest).unwrap_or_default();
            let config = source.blob(&config_digest)?;
            let tags: Vec<Reference> = name.as_deref().map(Reference::parse).transpose()?.into_iter().collect();
            let parts = manifest.layers.into_iter().map(|l| Part::Blob(l.digest)).collect();
            let digests = tags.iter().map(|t| format!("{}@{top}", t.name())).collect();
            images.push(Found::new(config, tags, digests, parts)?);
        }
    }
    Ok(images)
}

/// The full name, from whichever annotation a tool writes; a bare tag belongs to the archive's own name.
fn name_of(entry: &Descriptor, stem: &str) -> Option<String> {
    if let Some(full) = entry.annotations.get("io.containerd.image.name") {
        return Some(full.clone());
    }
    let name = entry.annotations.get("org.opencontainers.image.ref.name")?;
    let is_bare_tag = !name.contains(['/', ':', '@']);
    Some(if is_bare_tag && !stem.is_empty() { format!("{}:{name}", stem.to_ascii_lowercase()) } else { name.clone() })
}

fn open(store: &Store, path: &Path) -> Result<Source> {
    if path.is_dir() {
        return Ok(Source::Directory(path.to_owned()));
    }
    let mut file = File::open(path).map_err(io("open", path.display()))?;
    let mut head = [0; 4];
    let read = file.read(&mut head).map_err(io("read", path.display()))?;
    file.seek(SeekFrom::Start(0)).map_err(io("seek", path.display()))?;
    let compressed = head.get(..read).is_some_and(|h| h.starts_with(&[0x1f, 0x8b]) || h == [0x28, 0xb5, 0x2f, 0xfd]);
    if compressed {
        // Members are needed out of order, so the plain archive goes to a nameless file first.
        let mut plain = nameless_file(store)?;
        let mut stream = decompressed(file).map_err(io("decompress", path.display()))?;
        std::io::copy(&mut stream, &mut plain).map_err(io("decompress", path.display()))?;
        plain.seek(SeekFrom::Start(0)).map_err(io("seek", path.display()))?;
        file = plain;
    }
    let members = members(&file).map_err(io("read archive", path.display()))?;
    Ok(Source::Tar { file, members })
}

fn nameless_file(store: &Store) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let dir = store.path().join("tmp");
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .mode(0o600)
        .open(&dir)
        .map_err(io("create in", dir.display()))
}

fn members(file: &File) -> std::io::Result<BTreeMap<String, (u64, u64)>> {
    let mut members = BTreeMap::new();
    let mut links = Vec::new();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let name = normal(&entry.path()?);
        if entry.header().entry_type().is_symlink() || entry.header().entry_type().is_hard_link() {
            // Old `docker save` writes a layer that two images share as a link.
            if let Some(target) = entry.link_name()? {
                let base = if entry.header().entry_type().is_symlink() {
                    Path::new(&name).parent().unwrap_or(Path::new("")).to_owned()
                } else {
                    PathBuf::new()
                };
                links.push((name, normal(&base.join(target))));
            }
        } else if entry.header().entry_type().is_file() {
            members.insert(name, (entry.raw_file_position(), entry.size()));
        }
    }
    for (name, target) in links {
        if let Some(at) = members.get(&target).copied() {
            members.insert(name, at);
        }
    }
    Ok(members)
}

/// Without `.` and with `..` resolved within the archive.
fn normal(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    parts.join("/")
}

impl Source {
    fn has(&self, name: &str) -> bool {
        match self {
            Source::Directory(dir) => dir.join(name).is_file(),
            Source::Tar { members, .. } => members.contains_key(name),
        }
    }

    fn open<'a>(&'a self, name: &str) -> Result<Box<dyn Read + 'a>> {
        let name = normal(Path::new(name));
        match self {
            Source::Directory(dir) => {
                let path = dir.join(&name);
                Ok(Box::new(File::open(&path).map_err(io("open", path.display()))?))
            }
            Source::Tar { file, members } => {
                let (offset, length) =
                    members.get(&name).copied().ok_or_else(|| Error::Corrupt(format!("archive has no {name}")))?;
                Ok(Box::new(Section { file, offset, left: length }))
            }
        }
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(name)?.take(JSON_BYTES_MAX).read_to_end(&mut bytes).map_err(io("read", name))?;
        Ok(bytes)
    }

    fn open_blob<'a>(&'a self, digest: &str) -> Result<Box<dyn Read + 'a>> {
        if !super::reference::is_digest(digest) {
            return Err(Error::Corrupt(format!("unsupported digest {digest:?}")));
        }
        let stream = self.open(&format!("blobs/{}", digest.replace(':', "/")))?;
        Ok(Box::new(Verified { inner: Hashed { inner: stream, hash: Sha256::new() }, digest: digest.to_owned() }))
    }

    fn blob(&self, digest: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open_blob(digest)?.take(JSON_BYTES_MAX).read_to_end(&mut bytes).map_err(io("read", digest))?;
        Ok(bytes)
    }
}

/// A part of a file, read at its own position.
struct Section<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n =
            std::os::unix::fs::FileExt::read_at(self.file, buffer.get_mut(..want).unwrap_or_default(), self.offset)?;
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// Fails at the end of a stream whose digest is wrong.
pub(super) struct Verified<R> {
    pub inner: Hashed<R>,
    pub digest: String,
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        if n == 0 && !buffer.is_empty() {
            let found = format!("sha256:{}", hex::encode(self.inner.hash.clone().finalize()));
            if found != self.digest {
                return Err(std::io::Error::other(format!("content has digest {found}, expected {}", self.digest)));
            }
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(1);
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// As `docker save` writes it, with an image of each name; the last one's layer may be something else.
    fn docker(names: &[&str], last_layer: Option<&[u8]>) -> Vec<u8> {
        let mut files = Vec::new();
        let mut entries = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let layer = tar_of(&[("file", name.as_bytes())]);
            let config = format!(
                "{{\"architecture\":\"{}\",\"os\":\"linux\",\"rootfs\":{{\"diff_ids\":[\"sha256:{}\"]}}}}",
                crate::image::architecture(),
                hex::encode(Sha256::digest(&layer))
            );
            entries.push(
                serde_json::json!({"Config": format!("{i}.json"), "RepoTags": [name], "Layers": [format!("{i}.tar")]}),
            );
            files.push((format!("{i}.json"), config.into_bytes()));
            files.push((format!("{i}.tar"), layer));
        }
        if let (Some(bytes), Some(last)) = (last_layer, files.last_mut()) {
            last.1 = bytes.to_vec();
        }
        files.push(("manifest.json".into(), serde_json::to_vec(&entries).unwrap()));
        tar_of(&files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect::<Vec<_>>())
    }

    /// Everything below the store's directory but directories, locks and the index.
    fn holds(store: &Store) -> Vec<String> {
        let mut all = Vec::new();
        for dir in ["", "blobs/sha256", "layers", "tmp"] {
            for entry in fs::read_dir(store.path().join(dir)).unwrap().flatten() {
                let name = entry.file_name().into_string().unwrap();
                if !["blobs", "layers", "tmp", "index.json", "index.lock", "layers.lock"].contains(&name.as_str()) {
                    all.push(format!("{dir}/{name}"));
                }
            }
        }
        all
    }

    #[test]
    fn an_archive_is_taken_whole_or_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let path = dir.path().join("a.tar");
        for (bytes, why) in [
            (docker(&["first:1", "second:1"], Some(b"no layer at all")), "unpack layer"),
            (docker(&["first:1", "second:1"], Some(&tar_of(&[("file", b"other")]))), "wrong diff id"),
            (docker(&["first:1", "Second:1"], None), "couldn't parse image name"),
            (docker(&["first:1"], None).into_iter().take(1_000).collect(), ""),
        ] {
            fs::write(&path, bytes).unwrap();
            let error = import(&store, &path).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert_eq!((holds(&store), store.list().unwrap().len()), (Vec::new(), 0), "{error}");
        }

        fs::write(&path, docker(&["first:1", "second:1"], None)).unwrap();
        let made = import(&store, &path).unwrap();
        assert_eq!(made.len(), 2);
        let before = holds(&store);
        assert_eq!(before.len(), 4, "two layers and two configs: {before:?}");
        // One more that is broken takes nothing of what is there.
        fs::write(&path, docker(&["first:1", "third:1"], Some(b"no layer at all"))).unwrap();
        import(&store, &path).unwrap_err();
        assert_eq!((holds(&store), store.list().unwrap().len()), (before, 2));

        store.remove("first:1").unwrap();
        assert_eq!(holds(&store).len(), 2);
        // What a killed import leaves.
        for name in [".index.json.1.tmp", "blobs/sha256/0123", "blobs/sha256/.4567.1.tmp", "tmp/half", "layers/89ab"] {
            fs::write(store.path().join(name), "").unwrap();
        }
        store.sweep().unwrap();
        assert_eq!(holds(&store).len(), 2, "{:?}", holds(&store));
        assert_eq!(store.list().unwrap().len(), 1);
    }
}
