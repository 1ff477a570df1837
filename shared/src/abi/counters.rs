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
        /// World switches: doorbells rung for network frames, at once.
        SwitchNet = "world_switches.net",
        /// World switches: doorbells rung for network frames because as many waited as may.
        SwitchNetLimit = "world_switches.net_limit",
        /// World switches: doorbells rung for network frames that had waited for the tick.
        SwitchNetTick = "world_switches.net_tick",
        /// World switches: doorbells rung for network frames that waited when the guest halted.
        SwitchNetHalt = "world_switches.net_halt",
        /// World switches: doorbells rung for disk requests.
        SwitchDisk = "world_switches.disk",
        /// World switches: synchronous calls.
        SwitchSync = "world_switches.sync",
        /// Publications that needed no doorbell because vmapp was awake.
        DoorbellsSaved = "doorbells.saved",
        /// Frames that waited for a crossing (send combining).
        CombineHeld = "combine.held",
        /// Frames that waited and were carried by a crossing for another reason: console, disk, synchronous call.
        CombineCarried = "combine.carried",
        /// Frames that waited until vmapp was found awake, or found to have looked.
        CombineFound = "combine.found_awake",
        /// Doorbells after which 1 frame had been published since the one before.
        Frames1 = "frames_per_crossing.1",
        /// The same, 2 frames.
        Frames2 = "frames_per_crossing.2",
        /// The same, 3 frames.
        Frames3 = "frames_per_crossing.3",
        /// The same, 4 to 7 frames.
        Frames4 = "frames_per_crossing.4_to_7",
        /// The same, 8 to 15 frames.
        Frames8 = "frames_per_crossing.8_to_15",
        /// The same, 16 to 63 frames.
        Frames16 = "frames_per_crossing.16_to_63",
        /// The same, more.
        Frames64 = "frames_per_crossing.64_up",
        /// Frames that waited less than 10 us. An upper bound: for a vmapp found awake, until it was looked.
        Delay0 = "combine_delay_us.0_to_9",
        /// The same, 10 to 49 us.
        Delay10 = "combine_delay_us.10_to_49",
        /// The same, 50 to 99 us.
        Delay50 = "combine_delay_us.50_to_99",
        /// The same, 100 to 249 us.
        Delay100 = "combine_delay_us.100_to_249",
        /// The same, 250 to 499 us.
        Delay250 = "combine_delay_us.250_to_499",
        /// The same, 500 to 999 us.
        Delay500 = "combine_delay_us.500_to_999",
        /// The same, longer.
        Delay1000 = "combine_delay_us.1000_up",
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
        /// Frames the guest transmitted that went into the ring.
        NetTx = "net.tx_frames",
        /// Their bytes, frame check sequence not included.
        NetTxBytes = "net.tx_bytes",
        /// Frames the guest transmitted that were lost: no room in the ring, or nothing Ethernet carries.
        NetTxDropped = "net.tx_dropped",
        /// Frames written to the guest.
        NetRx = "net.rx_frames",
        /// Their bytes, frame check sequence not included.
        NetRxBytes = "net.rx_bytes",
        /// Frames that arrived and did not pass the card's address filters, or met a card that does not receive.
        NetRxFiltered = "net.rx_filtered",
        /// Frames lost because the guest had no free buffer.
        NetRxMissed = "net.rx_missed",
        /// Interrupts raised by network cards.
        NetIrqs = "net.irqs",
        /// Disk requests made: reads.
        DiskReads = "disk.reads",
        /// Disk requests made: writes.
        DiskWrites = "disk.writes",
        /// Disk requests made: flushes.
        DiskFlushes = "disk.flushes",
        /// Sectors moved by good requests.
        DiskSectors = "disk.sectors",
        /// Requests that ended in an error told to the guest.
        DiskErrors = "disk.errors",
        /// Guest instructions run, brought up to date at every exit. Zero on an engine that does not count them.
        Instructions = "guest.instructions",
        /// Times a running guest looked away from vmapp's signals for a while, because looks had taken their share of its time.
        LooksPutOff = "irq.looks_put_off",
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
        /// Frames of the guest taken from the rings.
        NetTxTaken = "net.tx_taken",
        /// Of them those a worker that died may or may not have sent.
        NetTxPossiblyLost = "net.tx_possibly_lost",
        /// Frames given to the network back ends.
        NetTx = "net.tx_frames",
        /// Times frames were given to them: as many frames as the host takes in one call are given together.
        NetTxBursts = "net.tx_bursts",
        /// Frames the back ends could not send: nobody there, or no room on the host.
        NetTxDropped = "net.tx_dropped",
        /// Frames put into the rings for the guest.
        NetRx = "net.rx_frames",
        /// Reads of a tap that gave something: several frames of one flow, where `net.gso` lets them come together.
        NetRxReads = "net.rx_reads",
        /// Frames for the guest lost for want of receive credit.
        NetRxNoCredit = "net.rx_no_credit",
        /// Frames from the host no guest can be given: too long or too short.
        NetRxRefused = "net.rx_refused",
        /// Frames not captured: the capture file could not be written.
        PcapLost = "net.pcap_lost",
        /// Disk requests done.
        DiskRequests = "disk.requests",
        /// Disk requests that failed on the host.
        DiskErrors = "disk.errors",
    }
}
