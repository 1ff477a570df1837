//! Paths of the configuration: where they start, and whether they will do.
//!
//! A path that will not do is refused before anything is started, and the message names it as resolved, because the
//! folder it starts at is the usual surprise. What must never happen here: creating, changing or removing anything.

use super::device::DiskImage;
use super::nearest::nearest;
use super::source::shown_path;
use crate::back::disk::open::{self, WrongSize};
use shared::msg::disk::SECTOR;
use shared::spec::MAX_SECTORS;
use std::fs::{self, File};
use std::io::{ErrorKind, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Longest path a Unix socket can be bound to: `sun_path` of `sockaddr_un` without its zero (unix(7)).
const MAX_SOCKET_PATH: usize = 107;
/// Most neighbours looked at for a suggestion.
const MAX_NEIGHBOURS: usize = 1000;

/// What is wrong, and what to do.
type Refusal = (String, String);

/// The folder that relative paths of a configuration start at: the file's own.
pub fn folder_of(file: &Path) -> PathBuf {
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf())
}

fn resolve(folder: &Path, text: &str) -> Result<PathBuf, Refusal> {
    if text.is_empty() {
        return Err(("the path is empty".into(), "write the name of a file".into()));
    }
    if text.contains('\0') {
        return Err((
            "a path holds no zero byte".into(),
            "write the name of a file".into(),
        ));
    }
    // Lexical: removes "." but follows nothing.
    Ok(folder.join(text).components().collect())
}

/// A regular file that can be opened for reading.
pub fn readable_file(folder: &Path, text: &str) -> Result<PathBuf, Refusal> {
    let path = resolve(folder, text)?;
    let shown = shown_path(&path);
    let file = match fs::metadata(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err((format!("no file {shown}"), advice(&path, text)));
        }
        Err(error) => return Err((format!("{shown}: {error}"), "name a file that can be read".into())),
    };
    if file.is_dir() {
        return Err((format!("{shown} is a directory"), "name a file in it".into()));
    }
    if !file.is_file() {
        return Err((
            format!("{shown} is not a regular file"),
            "copy its contents to a file and name that".into(),
        ));
    }
    match File::open(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err((
            format!("cannot read {shown}: {error}"),
            "name a file that the user who starts the VM may read".into(),
        )),
    }
}

/// What may help who named a file that is not there.
fn advice(path: &Path, text: &str) -> String {
    if text.starts_with("~/") {
        return "~ is a shell's word: write the whole path".into();
    }
    let neighbours: Vec<String> = path
        .parent()
        .and_then(|folder| fs::read_dir(folder).ok())
        .map(|entries| {
            let names = entries
                .take(MAX_NEIGHBOURS)
                .flatten()
                .map(|entry| entry.file_name());
            names.filter_map(|name| name.into_string().ok()).collect()
        })
        .unwrap_or_default();
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy())
        .unwrap_or_default();
    match nearest(&name, neighbours.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {}?", shown_path(&path.with_file_name(near))),
        None => "paths start at the folder of the configuration file; write an existing one".into(),
    }
}

/// A place for a listening socket: a folder that is there, and nothing at the name but an old socket.
pub fn new_socket(folder: &Path, text: &str) -> Result<PathBuf, Refusal> {
    let path = in_existing_folder(folder, text)?;
    let shown = shown_path(&path);
    let bytes = path.as_os_str().as_bytes().len();
    if bytes > MAX_SOCKET_PATH {
        return Err((
            format!("socket path of {bytes} bytes: at most {MAX_SOCKET_PATH} fit"),
            "write a shorter path, such as \"socket:/run/vm.sock\"".into(),
        ));
    }
    match fs::symlink_metadata(&path) {
        Ok(found) if !found.file_type().is_socket() => Err((
            format!("{shown} is there and is not a socket"),
            "name a new file".into(),
        )),
        _ => Ok(path),
    }
}

/// A file to write to: a folder that is there, and no folder at the name.
pub fn output_file(folder: &Path, text: &str) -> Result<PathBuf, Refusal> {
    let path = in_existing_folder(folder, text)?;
    if path.is_dir() {
        return Err((
            format!("{} is a directory", shown_path(&path)),
            "name a file in it".into(),
        ));
    }
    Ok(path)
}

/// A file or block device of whole sectors that can be opened for reading.
pub fn disk_image(folder: &Path, text: &str) -> Result<DiskImage, Refusal> {
    let path = resolve(folder, text)?;
    let shown = shown_path(&path);
    let file = match fs::metadata(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let create = format!("to make an empty disk: vmapp disk create {shown} 1G");
            return Err((
                format!("no file {shown}"),
                format!("{}; {create}", advice(&path, text)),
            ));
        }
        Err(error) => return Err((format!("{shown}: {error}"), "name a file that can be read".into())),
    };
    if !file.is_file() && !file.file_type().is_block_device() {
        return Err((
            format!("{shown} is neither a regular file nor a block device"),
            "name a disk image".into(),
        ));
    }
    // A seek finds the size of a block device too, which its metadata does not tell.
    let bytes = File::open(&path)
        .and_then(|mut file| file.seek(SeekFrom::End(0)))
        .map_err(|error| {
            (
                format!("cannot read {shown}: {error}"),
                "name a file that the user who starts the VM may read".into(),
            )
        })?;
    match open::sectors(bytes) {
        Ok(sectors) => Ok(DiskImage { path, sectors }),
        Err(WrongSize::Ragged) => {
            let whole = bytes.div_ceil(SECTOR as u64).max(1) * SECTOR as u64;
            Err((
                format!("{shown} has {bytes} bytes, which is not a whole number of {SECTOR}-byte sectors"),
                format!("a disk image it must be; to lengthen it: truncate -s {whole} {shown}"),
            ))
        }
        Err(WrongSize::TooLarge) => Err((
            format!("{shown} has {bytes} bytes, more than an IDE disk"),
            format!("name an image of at most {} bytes", MAX_SECTORS * SECTOR as u64),
        )),
    }
}

fn in_existing_folder(folder: &Path, text: &str) -> Result<PathBuf, Refusal> {
    let path = resolve(folder, text)?;
    match path.parent() {
        Some(parent) if !parent.is_dir() => Err((
            format!("no folder {}", shown_path(parent)),
            "create the folder first, or name another; paths start at the folder of the configuration file"
                .into(),
        )),
        _ => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn relative_paths_start_at_the_folder_of_the_file_and_become_absolute() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(folder_of(Path::new("vm.toml")), here);
        assert_eq!(folder_of(Path::new("machines/vm.toml")), here.join("machines"));
        assert_eq!(folder_of(Path::new("/machines/vm.toml")), Path::new("/machines"));
        assert_eq!(
            resolve(Path::new("/machines"), "./a/../b").unwrap(),
            Path::new("/machines/a/../b")
        );
        assert_eq!(resolve(Path::new("/machines"), "/b").unwrap(), Path::new("/b"));
        assert!(resolve(Path::new("/machines"), "").is_err());
        assert!(resolve(Path::new("/machines"), "a\0b").is_err());
    }

    #[test]
    fn a_socket_path_must_fit_the_address_and_be_free_or_a_socket() {
        let folder = tempfile::tempdir().unwrap();
        let room = MAX_SOCKET_PATH - folder.path().as_os_str().len() - 1;
        assert!(new_socket(folder.path(), &"s".repeat(room)).is_ok());
        assert!(new_socket(folder.path(), &"s".repeat(room + 1)).is_err());
        let _old = UnixListener::bind(folder.path().join("old")).unwrap();
        assert!(new_socket(folder.path(), "old").is_ok());
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(new_socket(folder.path(), "file").is_err());
        assert!(new_socket(folder.path(), "gone/socket").is_err());
    }

    #[test]
    fn an_output_file_may_be_new_or_there_but_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert!(output_file(folder.path(), "new.log").is_ok());
        fs::write(folder.path().join("old.log"), "").unwrap();
        assert!(output_file(folder.path(), "old.log").is_ok());
        assert!(output_file(folder.path(), ".").is_err());
        assert!(output_file(folder.path(), "gone/new.log").is_err());
    }
}
