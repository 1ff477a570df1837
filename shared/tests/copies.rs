//! The opaque copies: every length around the change of method, at every alignment, moves exactly its bytes.

use shared::mem::{Mapped, Memory};
use std::panic::AssertUnwindSafe;

#[test]
fn copies_move_their_bytes_and_no_others() {
    let mem = Mapped::heap(1024);
    for len in (0..80).chain(250..262).chain([300, 511, 512]) {
        for at in 64..80 {
            let source: Vec<u8> = (0..len).map(|n| (n * 7 + at) as u8 | 1).collect();
            mem.write(0, &[0; 1024]);
            mem.write(at, &source);
            let mut all = vec![0xff; 1024];
            mem.read(0, &mut all);
            let (before, rest) = all.split_at(at);
            let (copied, after) = rest.split_at(len);
            assert_eq!(copied, source, "{len} bytes at {at}");
            assert!(before.iter().chain(after).all(|&b| b == 0), "{len} bytes at {at}");
            let mut vec = vec![0xee; 33];
            mem.read_vec(at, len, &mut vec);
            assert_eq!(vec, source, "{len} bytes at {at}");
        }
    }
}

#[test]
fn an_offset_outside_the_memory_is_refused() {
    for (at, len) in [(0, 65), (64, 1), (usize::MAX, 2), (1, 64)] {
        let mem = Mapped::heap(64);
        let refused = std::panic::catch_unwind(AssertUnwindSafe(|| mem.read(at, &mut vec![0; len])));
        assert!(refused.is_err(), "{len} bytes at {at:#x} of 64");
    }
}
