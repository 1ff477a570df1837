//! Every action with its keys and what it does: the table behind the parser, `vmapp fault --list` and the readme.

/// One action, for people.
#[derive(Clone, Copy, Debug)]
pub struct ActionFacts {
    /// The word.
    pub name: &'static str,
    /// Its own keys, as they are written; those in brackets may be left out.
    pub form: &'static str,
    /// Its own keys and the filters it takes.
    pub keys: &'static [&'static str],
    /// What happens, and what the guest should see.
    pub meaning: &'static str,
}

/// Every action, in the order of the documents.
pub const ACTIONS: &[ActionFacts] = &[
    ActionFacts {
        name: "drop",
        form: "",
        keys: &["channel", "dir", "rate", "every", "after", "count", "seed"],
        meaning: "a message is lost. A frame: TCP sends it again. A disk request or completion, console bytes: lost for good; \
                  the guest's driver times out, resets the disk and tries again",
    },
    ActionFacts {
        name: "delay",
        form: "ms=N",
        keys: &["ms", "channel", "dir", "rate", "every", "after", "count", "seed"],
        meaning: "a message arrives so much later, and those behind it not before it: a slow network or disk",
    },
    ActionFacts {
        name: "duplicate",
        form: "",
        keys: &["channel", "dir", "rate", "every", "after", "count", "seed"],
        meaning: "a message arrives twice. A frame: TCP drops the second. A disk request: done twice, its second answer passed \
                  over. Console bytes: twice",
    },
    ActionFacts {
        name: "reorder",
        form: "",
        keys: &["channel", "dir", "rate", "every", "after", "count", "seed"],
        meaning: "a message arrives after the next, or after 20 ms if there is none. Disk completions out of order break the \
                  protocol: the vmm passes over them, and the guest's driver times out",
    },
    ActionFacts {
        name: "corrupt",
        form: "[part=payload|header] [bits=N]",
        keys: &[
            "part", "bits", "channel", "dir", "rate", "every", "after", "count", "seed",
        ],
        meaning: "bits are flipped, 1 unless bits says more: in the bytes (part=payload), or in kind, flags and id (part=header). \
                  Frames have checksums; disk data have none, the guest gets or stores wrong sectors",
    },
    ActionFacts {
        name: "truncate",
        form: "[to=BYTES]",
        keys: &["to", "channel", "dir", "rate", "every", "after", "count", "seed"],
        meaning: "a message loses its end: half of it, or all after so many bytes. A disk request is refused, a frame dropped",
    },
    ActionFacts {
        name: "stall",
        form: "ms=N",
        keys: &["ms", "channel", "dir", "rate", "every", "after", "count", "seed"],
        meaning: "from a message on, a direction of its channel is not served so long: the ring fills, nothing is lost",
    },
    ActionFacts {
        name: "disk-error",
        form: "error=EIO|ENOSPC|short-write|slow [op=read|write|flush] [lba=A-B] [ms=N]",
        keys: &[
            "error", "op", "lba", "ms", "channel", "rate", "every", "after", "count", "seed",
        ],
        meaning: "the host's disk fails a request at one sector (of those from A to B), stores half of a write and is full, or takes \
                  ms longer. The guest is told which sector; after a flush that failed none succeeds until the worker is \
                  restarted",
    },
    ActionFacts {
        name: "doorbell-lost",
        form: "",
        keys: &["channel", "dir", "rate", "every", "after", "count", "seed"],
        meaning: "dir=down: a channel's bit is taken and its ring not looked at until the next, or until the worker looks unasked, \
                  a quarter of io.watchdog_ms later (0: never); dir=up: the bit is set and a vmm that sleeps is not woken. The guest sees \
                  a pause",
    },
    ActionFacts {
        name: "irq-lost",
        form: "",
        keys: &["channel", "rate", "every", "after", "count", "seed"],
        meaning: "something is published and its IRQ bit not set: seen with the channel's next, or never",
    },
    ActionFacts {
        name: "irq-spurious",
        form: "",
        keys: &["channel", "rate", "every", "after", "count", "seed"],
        meaning: "after a message either way the IRQ bit is set with nothing published: the vmm looks and finds nothing",
    },
    ActionFacts {
        name: "kill",
        form: "at=POINT",
        keys: &["at", "channel", "rate", "every", "after", "count", "seed"],
        meaning: "the I/O worker dies (SIGKILL) at a point; once, unless count says more",
    },
    ActionFacts {
        name: "stop",
        form: "at=POINT ms=N",
        keys: &["at", "ms", "channel", "rate", "every", "after", "count", "seed"],
        meaning: "the I/O worker stops (SIGSTOP) at a point and goes on after ms; once, unless count says more. Longer than \
                  io.watchdog_ms (while it starts, also than 10 s), it is taken for hung",
    },
    ActionFacts {
        name: "vmm-kill",
        form: "[after_ms=N]",
        keys: &["after_ms"],
        meaning: "the vmm dies (SIGKILL) now or after so many milliseconds: the VM ends with status 3",
    },
    ActionFacts {
        name: "clear",
        form: "",
        keys: &[],
        meaning: "everything armed is off, and what was held up, slow or stopped by it goes on",
    },
    ActionFacts {
        name: "list",
        form: "",
        keys: &[],
        meaning: "shows what is armed and how often each has struck",
    },
];
