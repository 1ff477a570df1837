//! A read that never waits, whatever the open file's flags say and whoever else holds it: preadv2(2) with `RWF_NOWAIT`.
#![allow(
    unsafe_code,
    reason = "nix has no preadv2, the only read with a flag of its own"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Reads from position `at`, or from where the file stands: how many bytes were there at once. Less than asked for, or
/// `EAGAIN`: the rest would take a wait, or is not there. `EOPNOTSUPP`: the file knows no such read.
pub fn read(fd: BorrowedFd<'_>, at: Option<u64>, into: &mut [u8]) -> io::Result<usize> {
    let at = match at {
        Some(at) => i64::try_from(at).map_err(|_| io::ErrorKind::InvalidInput)?,
        None => -1,
    };
    let into = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    // SAFETY: one vector, of bytes that are borrowed for the call and may hold any value.
    let read = unsafe { libc::preadv2(fd.as_raw_fd(), &raw const into, 1, at, libc::RWF_NOWAIT) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_there_is_read_and_what_is_not_is_not_waited_for() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"sectors").unwrap();
        let mut into = [0; 4];
        assert_eq!(read(file.as_fd(), Some(1), &mut into).unwrap(), 4);
        assert_eq!(&into, b"ecto");
        assert_eq!(read(file.as_fd(), Some(5), &mut into).unwrap(), 2);
        assert_eq!(read(file.as_fd(), Some(7), &mut into).unwrap(), 0);

        let (reader, mut writer) = nix::unistd::pipe()
            .map(|(reader, writer)| (reader, std::fs::File::from(writer)))
            .unwrap();
        let nothing = read(reader.as_fd(), None, &mut into).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        writer.write_all(b"ab").unwrap();
        assert_eq!(read(reader.as_fd(), None, &mut into).unwrap(), 2);
    }
}
