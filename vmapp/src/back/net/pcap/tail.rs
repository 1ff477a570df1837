//! The end of a capture that another worker wrote: one that was killed in a write, or found no room for the rest, may have
//! left a part of a block, in which a reader would lose everything that is appended.
//!
//! A block has its length at both ends (draft-ietf-opsawg-pcapng, section 3.1), so whole ones are found from the end. What
//! lies in a frame may look like blocks as well, if it is a capture that is being sent: so they are believed only in a row
//! that is longer than any frame.
//!
//! What must never happen here: a whole block cut off, a file touched that is not made of whole blocks up to somewhere near
//! its end, or a look that takes long. The file may be anything.

use super::{ENHANCED_PACKET, INTERFACE, SECTION_HEADER};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// Bytes looked at.
const WINDOW: usize = 256 << 10;
/// Longer than a block of any frame.
const ROW: usize = 128 << 10;
/// The smallest block: type, length, length.
const SMALLEST: usize = 12;

/// Cuts off what follows the last whole block, if that is less than a block; how many bytes that was. Only of a regular file,
/// open for reading and writing.
pub fn mend(mut file: &File) -> io::Result<u64> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Ok(0);
    }
    let length = meta.len();
    // Blocks are multiples of 32 bits, and so is where each begins.
    let from = length.saturating_sub(WINDOW as u64).next_multiple_of(4);
    let mut bytes = vec![0; usize::try_from(length - from.min(length)).unwrap_or(WINDOW)];
    file.read_exact_at(&mut bytes, from)?;
    let Some(end) = whole(&bytes, from == 0) else {
        return Ok(0);
    };
    let cut = (bytes.len() - end) as u64;
    if cut > 0 {
        file.set_len(length - cut)?;
        // All workers write at the same place, which lies behind the end now.
        file.seek(SeekFrom::End(0))?;
    }
    Ok(cut)
}

/// Where the last row of blocks in `bytes` ends; `first`: the file begins with them.
fn whole(bytes: &[u8], first: bool) -> Option<usize> {
    let last = bytes.len() - bytes.len() % 4;
    (0..=last)
        .rev()
        .step_by(4)
        .take(ROW / 4)
        .find(|&end| is_row(bytes, end, first))
}

/// Whether blocks lie before `end` one after the other, for [`ROW`] bytes or from the beginning of the file on.
fn is_row(bytes: &[u8], end: usize, first: bool) -> bool {
    let mut start = end;
    while end - start < ROW {
        if start == 0 {
            return first && end > 0;
        }
        match block_before(bytes, start) {
            Some(before) => start = before,
            None => return false,
        }
    }
    true
}

/// Where the block that ends at `end` begins.
fn block_before(bytes: &[u8], end: usize) -> Option<usize> {
    let word = |at: usize| {
        let bytes = bytes.get(at..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*bytes))
    };
    let length = word(end.checked_sub(4)?)?;
    let start = end.checked_sub(usize::try_from(length).ok()?)?;
    let known = [SECTION_HEADER, INTERFACE, ENHANCED_PACKET].contains(&word(start)?);
    let fits = length as usize >= SMALLEST && length.is_multiple_of(4) && word(start + 4)? == length;
    (known && fits).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::super::{Direction, enhanced_packet, interface, section_header};
    use super::*;
    use std::io::Write;
    use std::time::Duration;

    fn beginning() -> Vec<u8> {
        let mut bytes = Vec::new();
        section_header(&mut bytes);
        interface(&mut bytes, "net 0");
        bytes
    }

    /// `count` frames of growing length.
    fn frames(into: &mut Vec<u8>, count: usize) {
        for length in 0..count {
            let frame = vec![length as u8; 60 + length % 1455];
            enhanced_packet(into, Duration::from_secs(9), Direction::Inbound, &frame);
        }
    }

    /// What is left of a file of these bytes, and what was said.
    fn mended(bytes: &[u8]) -> (Vec<u8>, u64) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let cut = mend(file.as_file()).unwrap();
        let left = std::fs::read(file.path()).unwrap();
        file.write_all(b"more").unwrap();
        let more = std::fs::read(file.path()).unwrap();
        assert_eq!(
            more,
            [&left, &b"more"[..]].concat(),
            "what follows, follows at once"
        );
        (left, cut)
    }

    #[test]
    fn whole_blocks_are_left_alone_and_a_part_of_one_is_cut_off() {
        for count in [0, 1, 3, 2000] {
            let mut whole = beginning();
            frames(&mut whole, count);
            assert!(mended(&whole) == (whole.clone(), 0), "{count}");
            let mut more = whole.clone();
            let ends = [0, 1, 2].map(|n| {
                let frame = vec![n; 60 + 700 * usize::from(n)];
                enhanced_packet(&mut more, Duration::ZERO, Direction::Outbound, &frame);
                more.len()
            });
            for length in (whole.len()..more.len()).step_by(7) {
                let kept = ends
                    .into_iter()
                    .rfind(|&end| end <= length)
                    .unwrap_or(whole.len());
                let left = mended(&more[..length]);
                assert!(left.0 == more[..kept], "{count} frames, {length} bytes");
                assert_eq!(left.1, (length - kept) as u64);
            }
        }
    }

    #[test]
    fn a_capture_inside_a_frame_is_not_taken_for_the_file() {
        let mut inner = beginning();
        frames(&mut inner, 8);
        inner.truncate(1400);
        let mut file = beginning();
        frames(&mut file, 2000);
        let whole = file.len();
        enhanced_packet(&mut file, Duration::ZERO, Direction::Outbound, &inner);
        for part in (whole..file.len()).step_by(4) {
            assert_eq!(mended(&file[..part]).0.len(), whole, "{part}");
        }
    }

    #[test]
    fn what_is_no_capture_is_left_alone() {
        for bytes in [&b""[..], b"x", b"hello, world", &[0; 300_000], &[0xff; 300_001]] {
            assert!(mended(bytes) == (bytes.to_vec(), 0));
        }
        let mut long = beginning();
        frames(&mut long, 100);
        long.extend([7; WINDOW]);
        assert!(mended(&long) == (long.clone(), 0), "more than a part of a block");
        let (read, _write) = nix::unistd::pipe().unwrap();
        assert_eq!(mend(&File::from(read)).unwrap(), 0);
    }
}
