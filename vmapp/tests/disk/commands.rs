//! `vmapp disk` as the user types it.

use crate::files::patiently;
use assert_cmd::Command;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use vmapp::back::disk::Image;
use vmapp::back::disk::medium::HostFile;
use vmapp::back::disk::open::{identity, open, open_overlay, overlay_path};
use vmapp::back::disk::overlay::{BootId, Overlay};
use vmapp::back::disk::raw::Raw;

/// Runs `vmapp disk` in `folder`: exit status, standard output, standard error.
fn disk_once(folder: &Path, words: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_vmapp"))
        .arg("disk")
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// The same, as soon as what it needs is free, as [`patiently`].
fn disk(folder: &Path, words: &[&str]) -> (i32, String, String) {
    let begun = Instant::now();
    loop {
        let done = disk_once(folder, words);
        if !done.2.contains("has this image open") || begun.elapsed() > Duration::from_secs(20) {
            return done;
        }
    }
}

/// A VM's work: writes sector `lba` through the overlay of `path`.
fn write_through_overlay(path: &Path, lba: u64, byte: u8) {
    let (base, sectors) = patiently(|| open(path, false)).unwrap();
    let file = patiently(|| open_overlay(&overlay_path(path), path, &base, sectors)).unwrap();
    let known = identity(&base, sectors).unwrap();
    let base = Raw::new(HostFile::new(base).unwrap(), sectors, true);
    let file = HostFile::new(file).unwrap();
    let mut disk = Overlay::open(base, file, known, BootId::current().unwrap()).unwrap();
    disk.write(lba, &[byte; 512]).unwrap();
}

fn byte_of(path: &Path, lba: u64) -> u8 {
    let mut byte = [0];
    File::open(path)
        .unwrap()
        .read_exact_at(&mut byte, lba * 512)
        .unwrap();
    byte[0]
}

#[test]
fn create_info_commit_and_discard_do_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    let say = |words: &[&str]| disk(folder.path(), words);
    assert_eq!(
        say(&["create", "a.img", "1M"]),
        (0, "a.img: 1048576 bytes, empty\n".into(), "".into())
    );
    assert_eq!(fs::read(&path).unwrap(), vec![0; 1 << 20]);
    let (status, out, _) = say(&["info", "a.img"]);
    assert_eq!((status, out.lines().count()), (0, 1), "{out}");

    write_through_overlay(&path, 9, 1);
    let (_, out, _) = say(&["info", "a.img"]);
    assert!(
        out.ends_with("a.img.overlay: overlay, 1 of 2048 sectors changed (512 bytes)\n"),
        "{out}"
    );
    let committed = say(&["commit", "a.img"]);
    assert_eq!(
        committed,
        (0, "a.img: 1 sectors written to it\n".into(), "".into())
    );
    assert_eq!(byte_of(&path, 9), 1);
    assert_eq!(
        say(&["commit", "a.img"]).1,
        "a.img: 0 sectors written to it\n",
        "again is no harm"
    );

    write_through_overlay(&path, 9, 2);
    assert_eq!(say(&["discard", "a.img"]).0, 0);
    assert_eq!(byte_of(&path, 9), 1);
    let (_, out, _) = say(&["info", "a.img", "--overlay", "a.img.overlay"]);
    assert!(out.contains("0 of 2048 sectors changed"), "{out}");
    write_through_overlay(&path, 3, 3);
}

#[test]
fn a_wrong_command_says_so_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    fs::write(&path, [7; 1024]).unwrap();
    fs::write(folder.path().join("b"), "mine").unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["create", "a.img", "1M"], 2, "there is such a file already"),
        (&["create", "c.img", "1000"], 2, "multiple of 512"),
        (&["create", "no/where", "1M"], 1, "No such file or directory"),
        (&["info", "none"], 2, "vmapp disk create none"),
        (&["commit", "a.img"], 2, "a.img.overlay: no such file"),
        (&["commit", "a.img", "--overlay", "b"], 2, "no overlay file"),
        (&["discard", "a.img", "--overlay", "b"], 2, "no overlay file"),
        (&["discard", "none"], 2, "vmapp disk create none"),
    ];
    for (words, status, text) in cases {
        let (got, out, err) = disk(folder.path(), words);
        assert_eq!((got, out.as_str()), (*status, ""), "{words:?}: {err}");
        assert!(
            err.starts_with("error: ") && err.contains(text),
            "{words:?}: {err}"
        );
    }
    assert_eq!(fs::read(&path).unwrap(), [7; 1024]);
    assert_eq!(fs::read(folder.path().join("b")).unwrap(), b"mine");
}

#[test]
fn a_running_machines_image_is_neither_committed_nor_discarded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    assert_eq!(disk(folder.path(), &["create", "a.img", "64K"]).0, 0);
    let (base, sectors) = open(&path, false).unwrap();
    let overlay = open_overlay(&overlay_path(&path), &path, &base, sectors).unwrap();
    for word in ["commit", "discard"] {
        let (status, _, err) = disk_once(folder.path(), &[word, "a.img"]);
        assert_eq!(status, 2, "{err}");
        assert!(err.contains("another VM or program has this image open"), "{err}");
    }
    assert_eq!(disk(folder.path(), &["info", "a.img"]).0, 0);
    drop((base, overlay));
    assert_eq!(disk(folder.path(), &["commit", "a.img"]).0, 0);
}
