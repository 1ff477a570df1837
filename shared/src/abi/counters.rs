//! Statistics both sides keep in shared memory, readable live by `vmapp status`.
//!
//! A counter is a relaxed `u64` written by one side only. The names are the public names: they appear in
//! `vmapp status --json` and in benchmark records, so a rename is a change of interface.

macro_rules! counters {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(usize)]
        pub enum $name { $($(#[$doc])* $variant,)* }
        impl $name {
            /// Every counter, in the order of the shared memory.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
            /// The public name: `group.what`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
        const _: () = assert!($name::ALL.len() * 8 <= super::PAGE);
    };
}

counters! {
    /// Kept by the vmm, at [`super::VMM_COUNTERS_AT`].
    VmmCounter {
        /// Guest port reads and writes that left the engine.
        ExitPort = "exits.port",
        /// Guest accesses to memory-mapped registers.
        ExitMmio = "exits.mmio",
        /// Model-specific registers that belong to a device (local APIC).
        ExitMsr = "exits.msr",
        /// HLT.
        ExitHalt = "exits.halt",
        /// The guest became able to take an interrupt we wanted to inject.
        ExitWindow = "exits.window",
        /// The engine was told to look up (kick, timer, IRQ bitmap).
        ExitKicked = "exits.kicked",
        /// Triple fault.
        ExitShutdown = "exits.shutdown",
        /// Breakpoint or single step for a debugger.
        ExitDebug = "exits.debug",
        /// The engine could not go on.
        ExitFailed = "exits.failed",
        /// Interrupts injected into the vCPU.
        Interrupts = "irq.injected",
        /// World switches: doorbells rung for console output.
        SwitchConsole = "world_switches.console",
        /// World switches: doorbells rung for the control channel.
        SwitchControl = "world_switches.control",
        /// World switches: doorbells rung for network frames.
        SwitchNet = "world_switches.net",
        /// World switches: doorbells rung for disk requests.
        SwitchDisk = "world_switches.disk",
        /// World switches: synchronous calls.
        SwitchSync = "world_switches.sync",
        /// Publications that needed no doorbell because vmapp was awake.
        DoorbellsSaved = "doorbells.saved",
        /// Times the vmm slept for a halted guest.
        Sleeps = "halt.sleeps",
        /// Nanoseconds asleep for a halted guest.
        SleepNs = "halt.ns",
        /// Spins before sleep that found work (no sleep needed).
        SpinHits = "halt.spin_hits",
        /// Spins before sleep that ran out.
        SpinMisses = "halt.spin_misses",
        /// Console bytes the guest wrote.
        ConsoleOut = "console.bytes_out",
        /// Console bytes the guest was given.
        ConsoleIn = "console.bytes_in",
        /// Times console output waited because vmapp had not drained the ring.
        ConsoleStalls = "console.stalls",
        /// Wrong words, lengths or ids from vmapp, each ignored.
        PeerErrors = "peer.errors",
        /// Accesses to ports or addresses nobody claims.
        BusUnclaimed = "bus.unclaimed",
        /// Guest instructions run, brought up to date at every exit. Zero on an engine that does not count them.
        Instructions = "guest.instructions",
    }
}

counters! {
    /// Kept by the I/O worker, at [`super::APP_COUNTERS_AT`].
    AppCounter {
        /// Doorbells rung because the vmm slept.
        DoorbellsRung = "doorbells.rung",
        /// Kicks because the vmm ran guest code that does not look.
        KicksRung = "doorbells.kicks",
        /// Publications that needed no doorbell.
        DoorbellsSaved = "doorbells.saved",
        /// Times round the wait loop.
        Wakeups = "loop.wakeups",
        /// Times the wait loop slept.
        Sleeps = "loop.sleeps",
        /// Console bytes written to the host.
        ConsoleOut = "console.bytes_out",
        /// Console bytes read from the host.
        ConsoleIn = "console.bytes_in",
        /// Console bytes dropped because nobody was connected.
        ConsoleDropped = "console.bytes_dropped",
        /// Wrong words, lengths or ids from the vmm, each ignored.
        PeerErrors = "peer.errors",
    }
}
