//! One layer's tar stream into a directory that overlayfs can use.
//!
//! The stream is hostile until its digest is known to be right, and even then: every name is resolved by the
//! kernel inside the layer's directory (`openat2` with `RESOLVE_IN_ROOT`), nothing is followed out of it.

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, makedev, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use tar::EntryType;

/// Symlinks of lower layers that are followed one after another before we call it a loop.
const LINKS_MAX: usize = 40;

struct Target<'a> {
    root: OwnedFd,
    /// Directories of the layers below, topmost first.
    lowers: &'a [PathBuf],
    /// The last parent, since archives go directory by directory.
    parent: Option<(PathBuf, OwnedFd)>,
}

/// Attributes that apply to whatever kind of entry.
struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: TimeSpec,
    xattrs: Vec<(String, Vec<u8>)>,
}

/// Unpacks into `directory`, which exists and is empty. Returns the bytes of all files.
pub fn unpack(stream: &mut dyn Read, directory: &Path, lowers: &[PathBuf]) -> io::Result<u64> {
    let root = open_directory(directory)?;
    let mut target = Target { root, lowers, parent: None };
    // Writing into a directory changes its time, so directories get theirs last.
    let mut directory_times = Vec::new();
    let mut size = 0;
    let mut archive = tar::Archive::new(stream);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let raw = PathBuf::from(OsString::from_vec(entry.path_bytes().into_owned()));
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", raw.display()));
        size += target.apply(&mut entry, &raw, &mut directory_times).map_err(named)?;
    }
    for (path, mtime) in directory_times.into_iter().rev() {
        if let Some(name) = path.file_name() {
            let parent = target.directory(path.parent().unwrap_or(Path::new("")), 0)?;
            let _ = utimensat(&parent, name, &mtime, &mtime, UtimensatFlags::NoFollowSymlink);
        }
    }
    Ok(size)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(AT_FDCWD, path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// Below the root and without `.`; `..` is refused rather than resolved.
fn clean(path: &Path) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::other("path leaves the layer"));
            }
        }
    }
    Ok(clean)
}

impl Target<'_> {
    fn apply<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        raw: &Path,
        directory_times: &mut Vec<(PathBuf, TimeSpec)>,
    ) -> io::Result<u64> {
        let kind = entry.header().entry_type();
        if matches!(
            kind,
            EntryType::XGlobalHeader | EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink
        ) {
            return Ok(0);
        }
        let path = clean(raw)?;
        let attributes = attributes(entry)?;
        let Some(name) = path.file_name() else {
            // The root itself.
            if kind == EntryType::Directory {
                fchownat(
                    &self.root,
                    "",
                    Some(attributes.uid.into()),
                    Some(attributes.gid.into()),
                    AtFlags::AT_EMPTY_PATH,
                )?;
                let proc = PathBuf::from(format!("/proc/self/fd/{}", self.root.as_raw_fd()));
                std::fs::set_permissions(proc, std::os::unix::fs::PermissionsExt::from_mode(attributes.mode))?;
            }
            return Ok(0);
        };
        let parent_path = path.parent().unwrap_or(Path::new("")).to_owned();
        let parent = self.parent(&parent_path)?;

        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            match hidden {
                b".wh..opq" => set_opaque(&parent, None)?,
                b"" | b"." | b".." => return Err(io::Error::other("whiteout of nothing")),
                // aufs' own records.
                _ if hidden.starts_with(b".wh.") => {}
                _ => {
                    let hidden = OsStr::from_bytes(hidden);
                    if fstatat(&parent, hidden, AtFlags::AT_SYMLINK_NOFOLLOW) == Err(Errno::ENOENT) {
                        mknodat(&parent, hidden, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0))?;
                    }
                }
            }
            return Ok(0);
        }

        let mut opaque = false;
        if let Ok(stat) = fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            let is_dir = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
            if !(is_dir && kind == EntryType::Directory) {
                // A whiteout of this same layer hides what is below; a directory that takes its place must too.
                opaque = is_whiteout(&stat);
                remove(&parent, name, is_dir)?;
                self.parent = None;
            }
        }
        let mut size = 0;
        let mut set_mode = true;
        match kind {
            EntryType::Directory => {
                match mkdirat(&parent, name, Mode::from_bits_truncate(0o700)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(e) => return Err(e.into()),
                }
                if opaque {
                    set_opaque(&parent, Some(name))?;
                }
                directory_times.push((path.clone(), attributes.mtime));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let mut file = File::from(openat(&parent, name, flags, Mode::from_bits_truncate(0o600))?);
                size = io::copy(entry, &mut file)?;
            }
            EntryType::Link => {
                let link =
                    entry.link_name_bytes().ok_or_else(|| io::Error::other("hard link without a target"))?.into_owned();
                let source = clean(&PathBuf::from(OsString::from_vec(link)))?;
                let source_name =
                    source.file_name().ok_or_else(|| io::Error::other("hard link to the root"))?.to_owned();
                let source_parent = self.directory(source.parent().unwrap_or(Path::new("")), 0)?;
                linkat(&source_parent, source_name.as_os_str(), &parent, name, AtFlags::empty())?;
                // Attributes belong to the file, which has them already.
                return Ok(0);
            }
            EntryType::Symlink => {
                let link = entry.link_name_bytes().ok_or_else(|| io::Error::other("symlink without a target"))?;
                symlinkat(OsStr::from_bytes(&link), &parent, name)?;
                set_mode = false;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let kind = match kind {
                    EntryType::Char => SFlag::S_IFCHR,
                    EntryType::Block => SFlag::S_IFBLK,
                    _ => SFlag::S_IFIFO,
                };
                let major = entry.header().device_major()?.unwrap_or(0);
                let minor = entry.header().device_minor()?.unwrap_or(0);
                if kind == SFlag::S_IFCHR && major == 0 && minor == 0 {
                    return Err(io::Error::other("character device 0:0 is reserved for whiteouts"));
                }
                mknodat(&parent, name, kind, Mode::from_bits_truncate(0o600), makedev(major.into(), minor.into()))?;
            }
            _ => return Ok(0),
        }
        // In this order: chown clears setuid bits and file capabilities.
        fchownat(
            &parent,
            name,
            Some(attributes.uid.into()),
            Some(attributes.gid.into()),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )?;
        if set_mode {
            fchmodat(&parent, name, Mode::from_bits_truncate(attributes.mode & 0o7777), FchmodatFlags::FollowSymlink)?;
        }
        let by_fd = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name);
        for (key, value) in &attributes.xattrs {
            match sys::filesystem::set_xattr(&by_fd, key, value) {
                // A file system without such attributes: the image still works, as under other runtimes.
                Err(e) if e.raw_os_error() == Some(libc::ENOTSUP) => {}
                other => other?,
            }
        }
        if kind != EntryType::Directory {
            utimensat(&parent, name, &attributes.mtime, &attributes.mtime, UtimensatFlags::NoFollowSymlink)?;
        }
        Ok(size)
    }

    /// The directory as a descriptor of its own, from the cache if it is the last one.
    fn parent(&mut self, path: &Path) -> io::Result<OwnedFd> {
        if let Some((cached, fd)) = &self.parent
            && cached == path
        {
            return fd.try_clone();
        }
        let fd = self.directory(path, 0)?;
        self.parent = Some((path.to_owned(), fd.try_clone()?));
        Ok(fd)
    }

    /// Opens a directory of this layer, made like the one below where the archive has no entry for it.
    fn directory(&self, path: &Path, depth: usize) -> io::Result<OwnedFd> {
        if path.as_os_str().is_empty() {
            return self.root.try_clone();
        }
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        match openat2(&self.root, path, how) {
            Ok(fd) => return Ok(fd),
            Err(Errno::ENOENT) if depth < LINKS_MAX => {}
            Err(e) => return Err(e.into()),
        }
        let parent_path = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().ok_or(Errno::EINVAL)?;
        let parent = self.directory(parent_path, depth + 1)?;
        if let Ok(link) = readlinkat(&parent, name) {
            // A symlink of this layer whose end isn't there yet.
            let end = resolve_link(parent_path, Path::new(&link))?;
            return self.directory(&end, depth + 1);
        }
        match self.below(path) {
            Some((_, stat, Some(link))) if stat.st_mode & libc::S_IFMT == libc::S_IFLNK => {
                symlinkat(link.as_os_str(), &parent, name)?;
                let end = resolve_link(parent_path, &link)?;
                return self.directory(&end, depth + 1);
            }
            Some((_, stat, None)) if stat.st_mode & libc::S_IFMT == libc::S_IFDIR => {
                mkdirat(&parent, name, Mode::from_bits_truncate(0o700))?;
                fchownat(
                    &parent,
                    name,
                    Some(stat.st_uid.into()),
                    Some(stat.st_gid.into()),
                    AtFlags::AT_SYMLINK_NOFOLLOW,
                )?;
                fchmodat(&parent, name, Mode::from_bits_truncate(stat.st_mode & 0o7777), FchmodatFlags::FollowSymlink)?;
            }
            _ => {
                // A whiteout in this layer may sit where a directory now must be.
                match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
                    Err(Errno::EEXIST) => {
                        let stat = fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                        if !is_whiteout(&stat) {
                            return Err(io::ErrorKind::NotADirectory.into());
                        }
                        remove(&parent, name, false)?;
                        mkdirat(&parent, name, Mode::from_bits_truncate(0o755))?;
                        set_opaque(&parent, Some(name))?;
                    }
                    result => result?,
                }
                // The process' umask is not the image's business.
                fchmodat(&parent, name, Mode::from_bits_truncate(0o755), FchmodatFlags::FollowSymlink)?;
            }
        }
        self.directory(path, depth + 1)
    }

    /// What the layers below have at `path`: the topmost one that has anything, with a symlink's target.
    fn below(&self, path: &Path) -> Option<(PathBuf, FileStat, Option<PathBuf>)> {
        for lower in self.lowers {
            let root = open_directory(lower).ok()?;
            let how = OpenHow::new()
                .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
                .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
            if let Ok(fd) = openat2(&root, path, how) {
                let stat = nix::sys::stat::fstat(&fd).ok()?;
                let link = readlinkat(&fd, "").ok().map(PathBuf::from);
                return Some((lower.clone(), stat, link));
            }
        }
        None
    }
}

/// Where a symlink in `parent` leads, as a path below the root.
fn resolve_link(parent: &Path, link: &Path) -> io::Result<PathBuf> {
    let joined = if link.is_absolute() { link.to_owned() } else { parent.join(link) };
    let mut end = PathBuf::new();
    for component in joined.components() {
        match component {
            Component::Normal(part) => end.push(part),
            // At the root `..` stays there, as in a chroot.
            Component::ParentDir => drop(end.pop()),
            _ => {}
        }
    }
    Ok(end)
}

fn is_whiteout(stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == 0
}

fn set_opaque(parent: &OwnedFd, name: Option<&OsStr>) -> io::Result<()> {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd()));
    match name {
        Some(name) => path.push(name),
        // lsetxattr on the magic link itself would fail; the dot goes through it.
        None => path.push("."),
    }
    sys::filesystem::set_xattr(&path, "trusted.overlay.opaque", b"y")
}

fn remove(parent: &OwnedFd, name: &OsStr, is_dir: bool) -> io::Result<()> {
    if is_dir {
        // Does not follow symlinks, and the descriptor pins where it begins.
        return std::fs::remove_dir_all(PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name));
    }
    Ok(unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?)
}

fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Attributes> {
    let header = entry.header();
    let mut found = Attributes {
        mode: header.mode()?,
        uid: header.uid()? as u32,
        gid: header.gid()? as u32,
        mtime: TimeSpec::new(header.mtime()? as i64, 0),
        xattrs: Vec::new(),
    };
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            let Ok(key) = extension.key() else { continue };
            let value = extension.value_bytes();
            let number = || std::str::from_utf8(value).ok().and_then(|v| v.parse::<u32>().ok());
            match key {
                "uid" => found.uid = number().unwrap_or(found.uid),
                "gid" => found.gid = number().unwrap_or(found.gid),
                "mtime" => {
                    let text = std::str::from_utf8(value).unwrap_or_default();
                    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
                    if let Ok(seconds) = seconds.parse() {
                        let nanos = format!("{fraction:0<9}").get(..9).and_then(|f| f.parse().ok()).unwrap_or(0);
                        found.mtime = TimeSpec::new(seconds, nanos);
                    }
                }
                _ => {
                    // An archive must not be able to forge overlayfs' own marks.
                    if let Some(name) = key.strip_prefix("SCHILY.xattr.")
                        && !name.starts_with("trusted.overlay.")
                        && !name.starts_with("user.overlay.")
                    {
                        found.xattrs.push((name.to_owned(), value.to_vec()));
                    }
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    /// Name, kind, content or link target.
    fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(if *kind == EntryType::Directory { 0o1777 } else { 0o4755 });
            header.set_uid(33);
            header.set_gid(34);
            header.set_mtime(1_000_000);
            // Raw, because the builder would refuse the hostile names that we want.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            if matches!(kind, EntryType::Link | EntryType::Symlink) {
                header.as_gnu_mut().unwrap().linkname[..content.len()].copy_from_slice(content.as_bytes());
                header.set_size(0);
                header.set_cksum();
                builder.append(&header, io::empty()).unwrap();
            } else {
                header.set_size(content.len() as u64);
                header.set_cksum();
                builder.append(&header, content.as_bytes()).unwrap();
            }
        }
        builder.into_inner().unwrap()
    }

    fn run(entries: &[(&str, EntryType, &str)], lowers: &[PathBuf]) -> (tempfile::TempDir, io::Result<u64>) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("fs");
        std::fs::create_dir(&root).unwrap();
        let result = unpack(&mut archive(entries).as_slice(), &root, lowers);
        (dir, result)
    }

    use EntryType::{Directory, Link, Regular, Symlink};

    #[test]
    fn files_keep_owner_mode_and_links() {
        let (dir, result) = run(
            &[
                ("bin/", Directory, ""),
                ("bin/su", Regular, "data"),
                ("bin/sudo", Link, "bin/su"),
                ("sh", Symlink, "bin/su"),
            ],
            &[],
        );
        assert_eq!(result.unwrap(), 4);
        let root = dir.path().join("fs");
        let su = root.join("bin/su").metadata().unwrap();
        assert_eq!((su.uid(), su.gid(), su.mode() & 0o7777, su.mtime(), su.nlink()), (33, 34, 0o4755, 1_000_000, 2));
        assert_eq!(root.join("bin").metadata().unwrap().mode() & 0o7777, 0o1777);
        assert_eq!(root.join("bin").metadata().unwrap().mtime(), 1_000_000);
        assert_eq!(root.join("sh").read_link().unwrap(), Path::new("bin/su"));
    }

    #[test]
    fn whiteouts_become_overlay_marks() {
        let (dir, result) = run(
            &[
                ("a/", Directory, ""),
                ("a/.wh.gone", Regular, ""),
                ("b/", Directory, ""),
                ("b/.wh..wh..opq", Regular, ""),
                (".wh.c", Regular, ""),
                ("c/", Directory, ""),
            ],
            &[],
        );
        result.unwrap();
        let root = dir.path().join("fs");
        let gone = root.join("a/gone").symlink_metadata().unwrap();
        assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
        assert_eq!(sys::filesystem::get_xattr(&root.join("b"), "trusted.overlay.opaque").unwrap(), b"y");
        assert_eq!(sys::filesystem::get_xattr(&root.join("c"), "trusted.overlay.opaque").unwrap(), b"y");
        assert!(!root.join("b/.wh..wh..opq").exists());
    }

    #[test]
    fn nothing_leaves_the_layer() {
        let outside = tempfile::tempdir().unwrap();
        let victim = outside.path().join("victim");
        std::fs::write(&victim, "safe").unwrap();
        let outside_text = outside.path().to_str().unwrap();
        for entries in [
            vec![("../escape", Regular, "x")],
            vec![("link", Symlink, outside_text), ("link/victim", Regular, "x")],
            vec![("up", Symlink, "../../../../../../../.."), ("up/tmp/escape-of-unpack", Regular, "x")],
            vec![("hard", Link, "../../../etc/passwd")],
        ] {
            let (_dir, _result) = run(&entries, &[]);
            assert_eq!(std::fs::read_to_string(&victim).unwrap(), "safe");
            assert!(!Path::new("/tmp/escape-of-unpack").exists());
        }
        assert!(run(&[("../escape", Regular, "x")], &[]).1.is_err());
        assert!(run(&[("hard", Link, "../../../etc/passwd")], &[]).1.is_err());
    }

    #[test]
    fn missing_parents_are_made_as_below() {
        let (lower, result) =
            run(&[("tmp/", Directory, ""), ("usr/lib/", Directory, ""), ("lib", Symlink, "usr/lib")], &[]);
        result.unwrap();
        let (dir, result) = run(&[("tmp/x", Regular, "x"), ("lib/y", Regular, "y")], &[lower.path().join("fs")]);
        result.unwrap();
        let root = dir.path().join("fs");
        let tmp = root.join("tmp").metadata().unwrap();
        assert_eq!((tmp.uid(), tmp.mode() & 0o7777), (33, 0o1777));
        assert_eq!(std::fs::read_to_string(root.join("usr/lib/y")).unwrap(), "y");
        assert_eq!(root.join("lib").read_link().unwrap(), Path::new("usr/lib"));
    }
}
