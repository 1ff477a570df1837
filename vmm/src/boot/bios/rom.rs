//! The ROM image: 16-bit code and data of the BIOS, assembled with this crate, handed out as bytes.
//!
//! The sources are the `.s` files beside this one; nothing here runs on the host. Its last 16 bytes are the reset vector
//! and the model byte of a PC. Numbers that Rust and the code share are given to the assembler below.
#![allow(
    unsafe_code,
    reason = "names bytes that the assembler makes; an assembly block and a foreign static are unsafe to write"
)]

use crate::dev::chipset::pm::Pm;
use crate::dev::uart::Uart;
use std::arch::global_asm;

/// Guest-physical address of the image.
pub(super) const AT: u64 = 0xf_e000;
/// Segment it runs in.
pub(super) const SEGMENT: u16 = 0xf000;
/// Size of the image.
pub(super) const BYTES: usize = 0x2000;
/// Offset in [`SEGMENT`] of the entry.
pub(super) const ENTRY: u16 = 0xe400;
/// Offset in the image of a word: free memory from 1 MiB up, in KiB, for INT 15h AH=88h.
pub(super) const EXTENDED: usize = 0;
/// Offset in the image of the memory map: a word with the number of entries, the entries of 20 bytes.
pub(super) const MAP: usize = 2;
/// Entries there is room for in front of the code.
pub(super) const MAP_MOST: usize = 50;

const _: () = assert!(
    MAP + 2 + MAP_MOST * 20 <= ENTRY as usize - 0xe000 && AT + BYTES as u64 == super::super::place::EXTENDED
);

global_asm!(
    r#"
    .section .rodata.worldswitch_bios, "a"
    .code16
    .globl worldswitch_bios
    .hidden worldswitch_bios
worldswitch_bios:
    .set EXTENDED, {extended} + 0xe000
    .set MAP, {map} + 0xe000
    .set COM1, {com1}
    .set TIMER, {timer}
    .set PM_CONTROL, {control}
    .set CENTURY, 0x32
    .org {entry} - 0xe000               // behind the memory map
    jmp post
    "#,
    include_str!("frame.s"),
    include_str!("post.s"),
    include_str!("serial.s"),
    include_str!("video.s"),
    include_str!("keyboard.s"),
    include_str!("system.s"),
    include_str!("clock.s"),
    include_str!("pci.s"),
    include_str!("ends.s"),
    r#"
    .code64
    .text
    "#,
    entry = const ENTRY,
    extended = const EXTENDED,
    map = const MAP,
    com1 = const *Uart::PORTS.start(),
    timer = const Pm::TIMER,
    control = const Pm::CONTROL,
);

// SAFETY: the block above defines the symbol, in read-only data, and its last `.org` makes it exactly BYTES long.
unsafe extern "C" {
    #[link_name = "worldswitch_bios"]
    pub(super) safe static IMAGE: [u8; BYTES];
}
