//! The three optimisations of the hosted-I/O paper (Sugerman, Venkitachalam, Lim: USENIX 2001, sections 3.3 and 3.4) and one of
//! ours as switches of our configuration: cumulative as the paper adds them, each alone, and swept. The paper's figures stand here too.

/// Settings of `[io]` and `[[net]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Io {
    local_ports: bool,
    combining: bool,
    bitmap: bool,
    max_combined: u32,
    flush_us: u32,
    gso: bool,
}

/// Our defaults; a test holds them against the product's.
pub const DEFAULT: Io = Io {
    local_ports: true,
    combining: true,
    bitmap: true,
    max_combined: 3,
    flush_us: 1000,
    gso: true,
};

/// A rung: what it is called, how we are set, and the idle share of the paper's guest in percent.
pub struct Rung {
    /// As the tables have it.
    pub name: &'static str,
    /// Ours.
    pub io: Io,
    /// Theirs: VM/PC-733, 4 KB writes at line rate.
    pub paper: Option<f64>,
}

/// The paper's native machine at the same throughput: idle share in percent.
pub const PAPER_NATIVE: f64 = 86.0;

/// Bottom to top, then each of the others alone; local ports alone are the second rung.
pub const RUNGS: [Rung; 8] = [
    rung("forwarded ports, select", [false, false, false, false], Some(0.0)),
    rung("+ local ports", [true, false, false, false], Some(2.0)),
    rung("+ send combining", [true, true, false, false], Some(17.9)),
    rung("+ IRQ bitmap", [true, true, true, false], Some(21.7)),
    rung(
        "+ joined frames (not the paper's)",
        [true, true, true, true],
        None,
    ),
    rung("send combining alone", [false, true, false, false], None),
    rung("IRQ bitmap alone", [false, false, true, false], None),
    rung("joined frames alone", [false, false, false, true], None),
];

/// How many of them are cumulative.
pub const STEPS: usize = 5;

const fn rung(name: &'static str, on: [bool; 4], paper: Option<f64>) -> Rung {
    let [local_ports, combining, bitmap, gso] = on;
    Rung {
        name,
        io: Io {
            local_ports,
            combining,
            bitmap,
            gso,
            ..DEFAULT
        },
        paper,
    }
}

/// Values of `max_combined` that are tried.
pub const MOST: [u32; 8] = [1, 2, 3, 4, 6, 8, 12, 16];
/// Values of `flush_us` that are tried.
pub const TICKS: [u32; 5] = [50, 100, 250, 500, 1000];

impl Io {
    /// Other than the default in how many frames may wait.
    pub fn most(max_combined: u32) -> Self {
        Self {
            max_combined,
            ..DEFAULT
        }
    }

    /// Other than the default in how long.
    pub fn tick(flush_us: u32) -> Self {
        Self { flush_us, ..DEFAULT }
    }

    /// What `vmapp run --set` gets.
    pub fn settings(&self) -> Vec<String> {
        let mut settings = vec![
            format!("io.ports={}", self.ports()),
            format!("io.send_combining={}", self.combining),
            format!("io.notify={}", self.notify()),
            format!("io.max_combined={}", self.max_combined),
            format!("io.flush_us={}", self.flush_us),
        ];
        // Only a tap can be told.
        if !self.gso {
            settings.push("net.0.gso=false".into());
        }
        settings
    }

    fn ports(&self) -> &'static str {
        if self.local_ports { "local" } else { "forward" }
    }

    fn notify(&self) -> &'static str {
        if self.bitmap { "bitmap" } else { "select" }
    }

    /// Its name in records: the switches, and what else is not the default.
    pub fn name(&self) -> String {
        let mut words = vec![self.ports().to_owned()];
        if self.combining {
            words.push("combining".into());
        }
        words.push(self.notify().into());
        if self.gso {
            words.push("gso".into());
        }
        if self.max_combined != DEFAULT.max_combined {
            words.push(format!("max_combined={}", self.max_combined));
        }
        if self.flush_us != DEFAULT.flush_us {
            words.push(format!("flush_us={}", self.flush_us));
        }
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::spec::{IoSpec, Notify, Ports};
    use vmapp::config::NetDraft;

    #[test]
    fn our_defaults_are_the_products() {
        let io = IoSpec::default();
        assert_eq!(
            DEFAULT,
            Io {
                local_ports: io.ports == Ports::Local,
                combining: io.send_combining,
                bitmap: io.notify == Notify::Bitmap,
                max_combined: io.max_combined,
                flush_us: io.flush_us,
                gso: NetDraft::default().gso,
            }
        );
        assert_eq!(
            RUNGS[STEPS - 1].io,
            DEFAULT,
            "the top of the ladder is how it comes"
        );
    }

    #[test]
    fn every_setting_has_a_name_of_its_own() {
        let ladder = RUNGS.iter().map(|rung| rung.io);
        let sweeps = MOST
            .iter()
            .map(|&n| Io::most(n))
            .chain(TICKS.iter().map(|&us| Io::tick(us)));
        let mut all: Vec<Io> = Vec::new();
        for io in ladder.chain(sweeps) {
            if !all.contains(&io) {
                all.push(io);
            }
        }
        let names: std::collections::BTreeSet<String> = all.iter().map(Io::name).collect();
        assert_eq!(names.len(), all.len());
        assert_eq!(DEFAULT.name(), "local combining bitmap gso");
        assert_eq!(Io::most(16).name(), "local combining bitmap gso max_combined=16");
    }
}
