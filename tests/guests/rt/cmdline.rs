//! The command line, as each protocol passes it.

use crate::{entry, io};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

static AT: AtomicU64 = AtomicU64::new(0);
static PROTOCOL: AtomicU64 = AtomicU64::new(0);
const MOST: usize = 2048;

pub(crate) fn init(protocol: u64, info: u64) {
    let at = match protocol {
        // multiboot_info.flags bit 2 and cmdline, hvm_start_info.cmdline_paddr, boot_params.hdr.cmd_line_ptr
        entry::MULTIBOOT if io::number(info, 4) & 4 != 0 => io::number(info + 16, 4),
        entry::PVH => io::number(info + 24, 8),
        entry::LINUX => io::number(info + 0x228, 4),
        _ => 0,
    };
    AT.store(at, Relaxed);
    PROTOCOL.store(protocol, Relaxed);
}

/// How this guest was booted.
pub fn protocol() -> &'static str {
    match PROTOCOL.load(Relaxed) {
        entry::MULTIBOOT => "Multiboot",
        entry::PVH => "PVH",
        _ => "Linux 64-bit entry",
    }
}

/// Whether one of the line's words is this.
pub fn has(word: &str) -> bool {
    let at = AT.load(Relaxed);
    let line = if at == 0 { &[] } else { io::bytes(at, MOST) };
    let end = line.iter().position(|&b| b == 0).unwrap_or(line.len());
    line[..end].split(|&b| b == b' ').any(|w| w == word.as_bytes())
}
