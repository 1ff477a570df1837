//! Images on the host's own files and devices: what is opened, what is refused with which words, what a file that is
//! cut or a full disk does.

use crate::medium::SECTOR;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;
use vmapp::back::disk::medium::{HostFile, Medium};
use vmapp::back::disk::open::{DiskOpenError, identity, open, open_overlay, overlay_path};
use vmapp::back::disk::overlay::{BootId, Overlay, OverlayError};
use vmapp::back::disk::raw::Raw;
use vmapp::back::disk::{DiskError, Image};

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn image(folder: &Path, bytes: u64) -> PathBuf {
    let path = folder.join("disk.img");
    File::create(&path).unwrap().set_len(bytes).unwrap();
    path
}

/// Opens what is free: a process another test is about to start may hold our descriptors, and with them a lock, up to its
/// exec.
pub fn patiently<T>(mut open: impl FnMut() -> Result<T, DiskOpenError>) -> Result<T, DiskOpenError> {
    let begun = Instant::now();
    loop {
        match open() {
            Err(DiskOpenError::InUse { .. }) if begun.elapsed() < Duration::from_secs(20) => {
                std::thread::yield_now();
            }
            done => return done,
        }
    }
}

fn raw(path: &Path, writable: bool) -> Raw<HostFile> {
    let (fd, sectors) = patiently(|| open(path, writable)).unwrap();
    Raw::new(HostFile::new(fd).unwrap(), sectors, !writable)
}

fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn what_is_written_is_in_the_file_and_comes_back() {
    let folder = folder();
    let path = image(folder.path(), 64 << 10);
    let mut disk = raw(&path, true);
    assert_eq!(disk.sectors(), 128);
    disk.write(127, &[7; SECTOR]).unwrap();
    disk.write(2, &[9; 3 * SECTOR]).unwrap();
    disk.flush().unwrap();
    let mut back = [0; 4 * SECTOR];
    disk.read(1, &mut back).unwrap();
    assert_eq!(
        (&back[..SECTOR], &back[SECTOR..]),
        (&[0; SECTOR][..], &[9; 3 * SECTOR][..])
    );
    let bytes = fs::read(&path).unwrap();
    assert_eq!((bytes.len(), bytes[127 * SECTOR]), (64 << 10, 7));
}

#[test]
fn a_read_only_image_refuses_writes_and_stays() {
    let folder = folder();
    let path = image(folder.path(), 4096);
    let mut disk = raw(&path, false);
    assert!(matches!(disk.write(0, &[1; SECTOR]), Err(DiskError::ReadOnly)));
    disk.flush().unwrap();
    assert_eq!(fs::read(&path).unwrap(), vec![0; 4096]);
}

/// Bug class 17: bounds against the file as it is, not as it was.
#[test]
fn a_file_that_was_cut_ends_in_errors_and_never_grows() {
    let folder = folder();
    let path = image(folder.path(), 64 << 10);
    let mut disk = raw(&path, true);
    OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1000)
        .unwrap();
    let mut sector = [0; SECTOR];
    disk.read(0, &mut sector).unwrap();
    assert!(
        matches!(disk.read(1, &mut sector), Err(DiskError::Cut)),
        "half a sector"
    );
    assert!(matches!(disk.read(100, &mut sector), Err(DiskError::Cut)));
    assert!(matches!(disk.write(1, &sector), Err(DiskError::Cut)));
    assert!(matches!(disk.write(100, &sector), Err(DiskError::Cut)));
    disk.write(0, &[5; SECTOR]).unwrap();
    assert_eq!(path.metadata().unwrap().len(), 1000);
}

/// Bug class 19: what the guest writes never changes what the image is taken for.
#[test]
fn an_image_with_another_formats_header_stays_raw() {
    let folder = folder();
    let path = image(folder.path(), 64 << 10);
    let secret = folder.path().join("secret");
    fs::write(&secret, "host's own").unwrap();
    let mut qcow2 = vec![0; SECTOR];
    qcow2[..8].copy_from_slice(b"QFI\xfb\x00\x00\x00\x03");
    qcow2[8..16].copy_from_slice(&64u64.to_be_bytes());
    let name = secret.as_os_str().as_encoded_bytes();
    qcow2[64..64 + name.len()].copy_from_slice(name);
    for header in [qcow2, [&b"WSoverly\x01"[..], &[0; SECTOR - 9]].concat()] {
        raw(&path, true).write(0, &header).unwrap();
        let mut disk = raw(&path, true);
        let mut back = vec![0; SECTOR];
        disk.read(0, &mut back).unwrap();
        assert_eq!((disk.sectors(), back), (128, header));
    }
}

#[test]
fn what_holds_no_disk_is_refused_with_what_to_do() {
    let folder = folder();
    let in_folder = |name: &str| folder.path().join(name);
    let pipe = in_folder("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(in_folder("ragged"), [0; 1000]).unwrap();
    fs::write(in_folder("empty"), []).unwrap();
    let cases = [
        (in_folder("none"), "vmapp disk create"),
        (folder.path().to_owned(), "this is a folder"),
        (pipe, "this is a pipe"),
        (PathBuf::from("/dev/null"), "this is a character device"),
        (in_folder("ragged"), "truncate -s 1024"),
        (in_folder("empty"), "truncate -s 512"),
    ];
    for (path, words) in cases {
        for writable in [true, false] {
            let error = open(&path, writable).unwrap_err().to_string();
            assert!(
                error.contains(words) && error.starts_with(path.to_str().unwrap()),
                "{error}"
            );
        }
    }
}

#[test]
fn one_writes_or_many_read_and_a_lock_outlives_the_worker_that_used_it() {
    let folder = folder();
    let path = image(folder.path(), 4096);
    let (supervisors, _) = open(&path, true).unwrap();
    let workers = supervisors.try_clone().unwrap();
    drop(workers);
    for writable in [true, false] {
        let error = open(&path, writable).unwrap_err();
        assert!(matches!(error, DiskOpenError::InUse { .. }));
        assert!(
            error
                .to_string()
                .contains("disk.img: another VM or program has this image open")
        );
    }
    drop(supervisors);
    let readers = [(), ()].map(|()| patiently(|| open(&path, false)).unwrap());
    assert!(matches!(open(&path, true), Err(DiskOpenError::InUse { .. })));
    drop(readers);
    patiently(|| open(&path, true)).unwrap();
    // A link is another name, not another image.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let _held = patiently(|| open(&link, true)).unwrap();
    assert!(matches!(open(&path, true), Err(DiskOpenError::InUse { .. })));
}

#[test]
fn a_new_overlay_is_its_owners_alone_and_never_made_through_a_symlink() {
    let folder = folder();
    let path = image(folder.path(), 1 << 20);
    let (base, sectors) = patiently(|| open(&path, false)).unwrap();
    let [overlay, link, nowhere] = ["overlay", "link", "nowhere"].map(|name| folder.path().join(name));
    patiently(|| open_overlay(&overlay, &path, &base, sectors)).unwrap();
    assert_eq!(fs::metadata(&overlay).unwrap().mode() & 0o777, 0o600);
    std::os::unix::fs::symlink(&nowhere, &link).unwrap();
    assert!(open_overlay(&link, &path, &base, sectors).is_err());
    assert!(!nowhere.exists());
}

#[test]
fn an_overlay_keeps_writes_from_the_base_over_a_restart() {
    let folder = folder();
    let path = image(folder.path(), 8 << 20);
    let before = fs::read(&path).unwrap();
    let overlay = overlay_path(&path);
    assert!(overlay.ends_with("disk.img.overlay"));
    for life in 0u8..3 {
        let (base, sectors) = patiently(|| open(&path, false)).unwrap();
        let file = patiently(|| open_overlay(&overlay, &path, &base, sectors)).unwrap();
        let again = open_overlay(&overlay, &path, &base, sectors).unwrap_err();
        assert!(matches!(again, DiskOpenError::InUse { .. }), "{again}");
        let known = identity(&base, sectors).unwrap();
        let base = Raw::new(HostFile::new(base).unwrap(), sectors, true);
        let file = HostFile::new(file).unwrap();
        let mut disk = Overlay::open(base, file, known, BootId::current().unwrap()).unwrap();
        for earlier in 0..life {
            let mut back = [0; 2 * SECTOR];
            disk.read(5000 + u64::from(earlier), &mut back).unwrap();
            assert_eq!(back[0], earlier + 1);
        }
        disk.write(5000 + u64::from(life), &[life + 1; SECTOR]).unwrap();
        if life == 1 {
            disk.flush().unwrap();
        }
    }
    assert!(before == fs::read(&path).unwrap());
    let used = overlay.metadata().unwrap().blocks() * 512;
    assert!(used < 256 << 10, "{used} bytes for three sectors");
}

#[test]
fn an_overlay_that_does_not_fit_its_base_says_how_to_mend_that() {
    let folder = folder();
    let path = image(folder.path(), 1 << 20);
    let overlay = folder.path().join("over");
    let open_both = || {
        let (base, sectors) = patiently(|| open(&path, false)).unwrap();
        patiently(|| open_overlay(&overlay, &path, &base, sectors)).map(drop)
    };
    let file = File::options().write(true).open(&path).unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 42);
    file.set_modified(then).unwrap();
    open_both().unwrap();
    open_both().unwrap();

    file.set_modified(then + Duration::from_secs(1)).unwrap();
    let words = open_both().unwrap_err().to_string();
    assert!(words.contains("touch -d @1000000000.000000042 "), "{words}");
    let touched = Command::new("touch")
        .args(["-d", "@1000000000.000000042"])
        .arg(&path)
        .status();
    assert!(touched.unwrap().success());
    open_both().unwrap();

    file.set_len(2 << 20).unwrap();
    let words = open_both().unwrap_err().to_string();
    assert!(
        words.contains("put the old base back, or `vmapp disk discard "),
        "{words}"
    );
    file.set_len(1 << 20).unwrap();
    file.set_modified(then).unwrap();

    let cut = File::options().write(true).open(&overlay).unwrap();
    let whole = overlay.metadata().unwrap().len();
    cut.set_len(whole - 1).unwrap();
    let error = open_both().unwrap_err();
    assert!(
        matches!(
            error,
            DiskOpenError::Overlay {
                source: OverlayError::Cut { .. },
                ..
            }
        ),
        "{error}"
    );
    cut.set_len(0).unwrap();
    cut.write_all_at(b"something of the user's own", 0).unwrap();
    let words = open_both().unwrap_err().to_string();
    assert!(
        words.contains("this is no overlay file: name another file"),
        "{words}"
    );
}

/// A tmpfs, gone with the value.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(bytes: u64) -> Option<Self> {
        let folder = folder();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(folder.path())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _status = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn is_no_space(done: &Result<(), DiskError>) -> bool {
    matches!(done, Err(DiskError::Host(error)) if error.kind() == io::ErrorKind::StorageFull)
}

#[test]
fn a_full_host_disk_is_an_error_and_loses_nothing_acknowledged() {
    let test = "a_full_host_disk_is_an_error_and_loses_nothing_acknowledged";
    let Some(small) = root().then(|| SmallDisk::mount(256 << 10)).flatten() else {
        println!("skipped: {test}: a small tmpfs takes root");
        return;
    };
    let path = image(small.0.path(), 16 << 20);
    let elsewhere = folder();
    let base_path = image(elsewhere.path(), 16 << 20);
    for overlay in [false, true] {
        let mut disk: Box<dyn Image> = if overlay {
            let (base, sectors) = open(&base_path, false).unwrap();
            let file = open_overlay(&small.0.path().join("over"), &base_path, &base, sectors).unwrap();
            let known = identity(&base, sectors).unwrap();
            let base = Raw::new(HostFile::new(base).unwrap(), sectors, true);
            let file = HostFile::new(file).unwrap();
            Box::new(Overlay::open(base, file, known, BootId::current().unwrap()).unwrap())
        } else {
            Box::new(raw(&path, true))
        };
        let mut good = 0;
        let failed = loop {
            let done = disk.write(good * 8, &[good as u8 + 1; 8 * SECTOR]);
            if done.is_err() {
                break done;
            }
            good += 1;
        };
        assert!(is_no_space(&failed), "{failed:?}");
        assert_eq!(failed.unwrap_err().to_string(), "No space left on device");
        assert!(good > 10, "{good}");
        disk.flush().unwrap();
        for n in 0..good {
            let mut back = [0; 8 * SECTOR];
            disk.read(n * 8, &mut back).unwrap();
            assert_eq!(back, [n as u8 + 1; 8 * SECTOR]);
        }
        drop(disk);
        fs::remove_file(&path).ok();
    }
}

/// A loop device, detached with the value.
struct Loop(PathBuf);

impl Loop {
    fn attach(file: &Path) -> Option<Self> {
        let made = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(file)
            .output()
            .ok()?;
        let name = String::from_utf8(made.stdout).ok()?;
        made.status.success().then(|| Self(name.trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _status = Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

#[test]
fn a_block_device_has_its_size_and_ends_there() {
    let test = "a_block_device_has_its_size_and_ends_there";
    let folder = folder();
    let path = image(folder.path(), 1 << 20);
    let Some(device) = root().then(|| Loop::attach(&path)).flatten() else {
        println!("skipped: {test}: a loop device takes root and the driver");
        return;
    };
    let mut disk = raw(&device.0, true);
    assert_eq!(disk.sectors(), 2048);
    assert!(matches!(
        open(&device.0, true),
        Err(DiskOpenError::InUse { .. } | DiskOpenError::DeviceBusy(_))
    ));
    disk.write(2047, &[3; SECTOR]).unwrap();
    disk.flush().unwrap();
    assert!(disk.write(2048, &[3; SECTOR]).is_err());
    let mut medium = disk.into_medium();
    assert!(medium.is_device());
    assert_eq!(medium.size().unwrap(), 1 << 20);
    let mut back = [0; SECTOR];
    medium.read_at(2047 * SECTOR as u64, &mut back).unwrap();
    assert_eq!(back, [3; SECTOR]);
    assert!(medium.as_fd().try_clone_to_owned().is_ok());
}

#[test]
fn a_pipe_is_no_medium() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    File::from(writer).write_all(b"x").unwrap();
    let refused = HostFile::new(reader).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
}
