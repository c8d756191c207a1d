//! Writes a set of files so that readers see all of the old ones or all of the new ones.
//!
//! The layout is upstream's, because applications watch for it: a time-stamped directory holds the files, `..data` is a
//! symlink to it that is swapped by rename, and the names that users see are symlinks through `..data`.

use super::{Payload, VolumeError, io, ownership};
use std::collections::BTreeSet;
use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Whether something was written. Paths of the payload have been checked to stay inside.
pub fn write(dir: &Path, payload: &Payload, group: Option<i64>) -> Result<bool, VolumeError> {
    std::fs::create_dir_all(dir).map_err(io("mkdir", dir))?;
    // The volume's root belongs to the group too, and files made in it would.
    let setgid = if group.is_some() { 0o2000 } else { 0 };
    if let Some(gid) = group.and_then(|g| u32::try_from(g).ok()) {
        std::os::unix::fs::chown(dir, None, Some(gid)).map_err(io("chown", dir))?;
    }
    std::fs::set_permissions(dir, Permissions::from_mode(setgid | 0o777)).map_err(io("chmod", dir))?;
    let data = dir.join(DATA);
    let old = std::fs::read_link(&data).ok();
    remove_leftovers(dir, old.as_deref());
    if let Some(old) = &old
        && same(&dir.join(old), payload, group)
        && links(dir) == top_names(payload)
    {
        return Ok(false);
    }
    let fresh = new_directory(dir)?;
    for (path, file) in payload {
        let target = dir.join(&fresh).join(path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(io("mkdir", parent))?;
        }
        write_file(&target, &file.data, file.mode & 0o7777)?;
    }
    if let Some(group) = group {
        ownership::apply(&dir.join(&fresh), group, true, "Always")?;
    }
    let swap = dir.join(DATA_NEW);
    let _ = std::fs::remove_file(&swap);
    symlink(&fresh, &swap).map_err(io("symlink", &swap))?;
    std::fs::rename(&swap, &data).map_err(io("rename", &data))?;

    // Only now do new names appear and old ones go, so that none ever dangles into missing data.
    let wanted = top_names(payload);
    let present = links(dir);
    for name in wanted.difference(&present) {
        let link = dir.join(name);
        let _ = std::fs::remove_file(&link);
        symlink(Path::new(DATA).join(name), &link).map_err(io("symlink", &link))?;
    }
    for name in present.difference(&wanted) {
        let link = dir.join(name);
        std::fs::remove_file(&link).map_err(io("unlink", &link))?;
    }
    remove_leftovers(dir, Some(&fresh));
    Ok(true)
}

/// Directories that aren't in use: the one before, and what a writer that was killed has left.
fn remove_leftovers(dir: &Path, used: Option<&Path>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let stamped = name.as_encoded_bytes().starts_with(b"..") && entry.file_type().is_ok_and(|t| t.is_dir());
        if stamped && used != Some(Path::new(&name)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// At no time does anybody get to read what the mode forbids: a key may be in it.
fn write_file(path: &Path, data: &[u8], mode: u32) -> Result<(), VolumeError> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode & 0o600).open(path).map_err(io("create", path))?;
    file.write_all(data).map_err(io("write", path))?;
    // Explicitly: the umask must not narrow what the user asked for.
    file.set_permissions(Permissions::from_mode(mode)).map_err(io("chmod", path))
}

fn new_directory(dir: &Path) -> Result<PathBuf, VolumeError> {
    let stamp = jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S").to_string();
    loop {
        let name = PathBuf::from(format!("..{stamp}.{}", rand::random::<u32>()));
        let path = dir.join(&name);
        match std::fs::create_dir(&path) {
            Ok(()) => {
                std::fs::set_permissions(&path, Permissions::from_mode(0o755)).map_err(io("chmod", &path))?;
                return Ok(name);
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(io("mkdir", &path)(e)),
        }
    }
}

fn top_names(payload: &Payload) -> BTreeSet<String> {
    payload.keys().map(|p| p.split('/').next().unwrap_or(p).to_owned()).collect()
}

fn links(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| !n.starts_with("..")).collect()
}

fn same(dir: &Path, payload: &Payload, group: Option<i64>) -> bool {
    let mut found = BTreeSet::new();
    collect(dir, dir, &mut found);
    let wanted: BTreeSet<String> = payload.keys().cloned().collect();
    found == wanted
        && payload.iter().all(|(path, file)| {
            let path = dir.join(path);
            let mode_is = std::fs::metadata(&path).map(|m| m.mode() & 0o7777).ok();
            let mode_should = if group.is_some() { file.mode & 0o7777 | 0o440 } else { file.mode & 0o7777 };
            mode_is == Some(mode_should) && std::fs::read(&path).is_ok_and(|data| data == file.data)
        })
}

fn collect(root: &Path, dir: &Path, out: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, out);
        } else if let Some(name) = path.strip_prefix(root).ok().and_then(|p| p.to_str()) {
            out.insert(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::FileEntry;
    use super::*;

    fn payload(files: &[(&str, &str, u32)]) -> Payload {
        files.iter().map(|(p, d, m)| (p.to_string(), FileEntry { data: d.as_bytes().to_vec(), mode: *m })).collect()
    }

    #[test]
    fn swaps_everything_at_once_and_leaves_no_old_files() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("v");
        let read = |p: &str| std::fs::read_to_string(dir.join(p)).ok();
        assert!(write(&dir, &payload(&[("a", "1", 0o644), ("d/x", "2", 0o400)]), None).unwrap());
        let first = std::fs::read_link(dir.join(DATA)).unwrap();
        assert_eq!((read("a").unwrap(), read("d/x").unwrap()), ("1".into(), "2".into()));
        assert_eq!(std::fs::read_link(dir.join("a")).unwrap(), Path::new("..data/a"));
        assert_eq!(std::fs::metadata(dir.join("d/x")).unwrap().mode() & 0o777, 0o400);
        assert!(!write(&dir, &payload(&[("a", "1", 0o644), ("d/x", "2", 0o400)]), None).unwrap(), "unchanged");
        assert_eq!(std::fs::read_link(dir.join(DATA)).unwrap(), first);

        assert!(write(&dir, &payload(&[("a", "new", 0o644), ("b", "3", 0o644)]), None).unwrap());
        assert_eq!((read("a"), read("b"), read("d/x")), (Some("new".into()), Some("3".into()), None));
        assert!(!dir.join(&first).exists());
        assert!(
            write(&dir, &payload(&[("a", "new", 0o600), ("b", "3", 0o644)]), None).unwrap(),
            "a mode counts as a change"
        );
        assert!(write(&dir, &Payload::new(), None).unwrap());
        assert_eq!(read("a"), None);
    }

    #[test]
    fn what_a_killed_writer_left_goes() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("v");
        let names = || {
            let all = std::fs::read_dir(&dir).unwrap().flatten().map(|e| e.file_name().into_string().unwrap());
            let mut all: Vec<String> = all.map(|n| if n.starts_with("..2") { "stamp".into() } else { n }).collect();
            all.sort();
            all
        };
        let leave = || {
            std::fs::create_dir_all(dir.join("..2026_01_01_00_00_00.1/d")).unwrap();
            std::fs::write(dir.join("..2026_01_01_00_00_00.1/d/key"), "half").unwrap();
            let _ = symlink("..2026_01_01_00_00_00.1", dir.join(DATA_NEW));
        };
        leave();
        let files = payload(&[("a", "1", 0o644)]);
        assert!(write(&dir, &files, None).unwrap());
        assert_eq!(names(), ["..data", "a", "stamp"]);
        // Also when nothing has changed.
        leave();
        assert!(!write(&dir, &files, None).unwrap());
        assert!(!dir.join("..2026_01_01_00_00_00.1").exists());
        assert!(write(&dir, &payload(&[("a", "2", 0o644)]), None).unwrap());
        assert_eq!(names(), ["..data", "a", "stamp"]);
    }

    #[test]
    fn modes_are_what_was_asked_for_whoever_may_write() {
        let tmp = tempfile::tempdir().unwrap();
        for mode in [0o000, 0o400, 0o440, 0o600, 0o644, 0o755, 0o777] {
            let path = tmp.path().join(format!("{mode:o}"));
            write_file(&path, b"text", mode).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, mode);
            assert_eq!(std::fs::metadata(&path).unwrap().len(), 4);
            assert!(write_file(&path, b"more", mode).is_err(), "what is there isn't written over");
        }
    }

    #[test]
    fn a_reader_never_sees_a_missing_file() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("v");
        write(&dir, &payload(&[("a", "0", 0o644)]), None).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                for i in 0..200 {
                    write(&dir, &payload(&[("a", &i.to_string(), 0o644)]), None).unwrap();
                }
                stop.store(true, std::sync::atomic::Ordering::SeqCst);
            });
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                // Between resolving `..data` and opening, the old directory may go; a second look must find the new one.
                let seen = (0..5).find_map(|_| std::fs::read_to_string(dir.join("a")).ok());
                assert!(seen.is_some_and(|t| t.parse::<u32>().is_ok()));
            }
        });
    }
}
