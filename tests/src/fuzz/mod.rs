//! Fuzz targets: bytes become accesses to a device, or a peer's scribbling on shared memory, and invariants are
//! asserted.
//!
//! Everything is here, on stable Rust: `tests/tests/fuzz.rs` runs every target over the committed corpus and
//! over random bytes with each `make test`. The crate in `tests/fuzz` only puts libFuzzer's coverage guidance
//! in front of [`run`]. A new device is one function in `devices.rs`, one row in [`TARGETS`] and one `[[bin]]`
//! there.

mod board;
mod bound;
mod console;
mod devices;
mod ide;
mod input;
mod lance;
mod nat;
mod peer_app;
mod rig;
mod rings;

/// One thing that takes bytes.
pub struct Target {
    /// Its name: of the binary, of the corpus directory, and for [`run`].
    pub name: &'static str,
    /// Runs it. Panics if an invariant is broken; else gives a digest of all that was seen, the same for the
    /// same bytes.
    pub run: fn(&[u8]) -> u64,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "board",
        run: board::board,
    },
    Target {
        name: "i8042",
        run: devices::i8042,
    },
    Target {
        name: "ide",
        run: ide::ide,
    },
    Target {
        name: "interrupts",
        run: devices::interrupts,
    },
    Target {
        name: "ioapic",
        run: devices::ioapic,
    },
    Target {
        name: "lance",
        run: lance::lance,
    },
    Target {
        name: "lapic",
        run: devices::lapic,
    },
    Target {
        name: "layout",
        run: rings::layout,
    },
    Target {
        name: "nat",
        run: nat::nat,
    },
    Target {
        name: "pci",
        run: devices::pci,
    },
    Target {
        name: "peer_app",
        run: peer_app::peer_app,
    },
    Target {
        name: "peer_vmm",
        run: board::peer_vmm,
    },
    Target {
        name: "pic",
        run: devices::pic,
    },
    Target {
        name: "pit",
        run: devices::pit,
    },
    Target {
        name: "pm",
        run: devices::pm,
    },
    Target {
        name: "ring",
        run: rings::ring,
    },
    Target {
        name: "rtc",
        run: devices::rtc,
    },
    Target {
        name: "uart",
        run: console::uart,
    },
];

/// Runs the target of this name. Panics if there is none.
pub fn run(name: &str, bytes: &[u8]) -> u64 {
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        panic!("no fuzz target {name:?}");
    };
    (target.run)(bytes)
}
