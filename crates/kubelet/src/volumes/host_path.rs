//! `hostPath` and the checks that its `type` asks for.

use super::{Mounted, VolumeError, io};
use k8s_openapi::api::core::v1::HostPathVolumeSource;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

pub fn set_up(source: &HostPathVolumeSource) -> Result<Mounted, VolumeError> {
    let path = Path::new(&source.path);
    let found = std::fs::metadata(path).ok().map(|m| m.file_type());
    let wrong = |wanted| VolumeError::HostPathType { path: source.path.clone(), wanted };
    match source.type_.as_deref().unwrap_or("") {
        "DirectoryOrCreate" => match found {
            None => {
                std::fs::create_dir_all(path).map_err(io("mkdir", path))?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).map_err(io("chmod", path))?;
            }
            Some(t) if !t.is_dir() => return Err(wrong("a directory")),
            _ => {}
        },
        "FileOrCreate" => match found {
            None => {
                std::fs::write(path, "").map_err(io("create", path))?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).map_err(io("chmod", path))?;
            }
            Some(t) if !t.is_file() => return Err(wrong("a file")),
            _ => {}
        },
        "Directory" if !found.is_some_and(|t| t.is_dir()) => return Err(wrong("a directory")),
        "File" if !found.is_some_and(|t| t.is_file()) => return Err(wrong("a file")),
        "Socket" if !found.is_some_and(|t| t.is_socket()) => return Err(wrong("a socket file")),
        "CharDevice" if !found.is_some_and(|t| t.is_char_device()) => {
            return Err(wrong("a character device"));
        }
        "BlockDevice" if !found.is_some_and(|t| t.is_block_device()) => {
            return Err(wrong("a block device"));
        }
        // No check; as container runtimes do, a path that isn't there becomes a directory.
        "" if found.is_none() => std::fs::create_dir_all(path).map_err(io("mkdir", path))?,
        _ => {}
    }
    Ok(Mounted::Path { host_path: path.to_owned(), read_only: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "").unwrap();
        let check = |path: &Path, kind: &str| {
            set_up(&HostPathVolumeSource { path: path.to_str().unwrap().into(), type_: Some(kind.into()) })
                .map_err(|e| e.to_string())
        };
        assert!(check(dir.path(), "Directory").is_ok() && check(&file, "File").is_ok());
        assert_eq!(
            check(&file, "Directory").unwrap_err(),
            format!("hostPath type check failed: {} is not a directory", file.display())
        );
        assert!(check(dir.path(), "Socket").unwrap_err().ends_with("is not a socket file"));
        assert!(check(&dir.path().join("a/b"), "DirectoryOrCreate").is_ok() && dir.path().join("a/b").is_dir());
        assert!(check(&dir.path().join("g"), "FileOrCreate").is_ok() && dir.path().join("g").is_file());
        assert!(check(&dir.path().join("h"), "File").is_err());
    }
}
