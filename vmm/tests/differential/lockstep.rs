//! Both sides, instruction by instruction.

use super::generate::Draft;
use super::groups::Group;
use super::native::{Native, SCRATCH_LEN};
use super::random::Random;
use super::state::{Bits, FLAGS, Fault, State, fx_compared};
use super::subject::Subject;
use super::undefined::Host;
use iced_x86::{Code, Instruction};
use std::fmt::Debug;

/// The encodings to choose from, by group: every group is as likely as any other.
pub struct Repertoire {
    groups: Vec<(Vec<Code>, &'static Group)>,
}

impl Repertoire {
    /// Of the groups given.
    pub fn new(bits: Bits, groups: impl Iterator<Item = &'static Group>) -> Self {
        let groups: Vec<_> = groups
            .map(|group| (group.codes(bits), group))
            .filter(|(codes, _)| !codes.is_empty())
            .collect();
        assert!(!groups.is_empty(), "no such group");
        Self { groups }
    }
}

/// The two machines.
pub struct Lockstep {
    bits: Bits,
    native: Native,
    subject: Subject,
    host: Host,
    state: State,
}

impl Lockstep {
    /// Not yet started.
    pub fn new(bits: Bits) -> Self {
        Self {
            bits,
            native: Native::new(),
            subject: Subject::new(bits),
            host: Host::here(),
            state: State {
                gprs: [0; 16],
                rflags: 2,
                rip: 0,
                fx: [0; 512],
            },
        }
    }

    /// Fills registers, flags and memory.
    pub fn start(&mut self, random: &mut Random) {
        let mask = match self.bits {
            Bits::B64 => u64::MAX,
            Bits::B32 => 0xffff_ffff,
        };
        self.state.gprs = std::array::from_fn(|_| random.value() & mask);
        self.state.rflags = random.next() & FLAGS | 0x202;
        self.state.fx.fill(0);
        self.state.fx[0..2].copy_from_slice(&0x37f_u16.to_le_bytes());
        self.state.fx[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
        self.state.fx[160..416].fill_with(|| random.next() as u8);
        self.subject.set(&self.state);
        let memory: Vec<u8> = (0..SCRATCH_LEN / 8)
            .flat_map(|_| random.value().to_le_bytes())
            .collect();
        self.native.scratch().copy_from_slice(&memory);
        for (page, from) in self
            .subject
            .scratch()
            .into_iter()
            .zip(memory.chunks(SCRATCH_LEN / 2))
        {
            page.copy_from_slice(from);
        }
    }

    /// Runs one more random instruction on both sides. The error tells the difference.
    pub fn step(&mut self, repertoire: &Repertoire, random: &mut Random) -> Result<(), String> {
        let (bytes, instr, pokes) = self.draft(repertoire, random);
        for (register, value) in pokes {
            self.state.gprs[register] = value;
            self.subject.poke(register, value);
        }
        let before = self.state.clone();
        let placed = self.native.place(&bytes, self.bits);
        let native_fault = self.native.run(placed, bytes.len(), self.bits, &mut self.state);
        let (mut subject, subject_fault) = self.subject.run(&bytes, placed.at);
        let undefined = self.host.undefined_flags(&instr);
        if native_fault.is_none() && (subject.rflags ^ self.state.rflags) & undefined != 0 {
            subject.rflags = subject.rflags & !undefined | self.state.rflags & undefined;
            self.subject.adopt_flags(subject.rflags);
        }
        let mut report = self.differences(&subject, native_fault, subject_fault);
        if report.is_empty() {
            return Ok(());
        }
        report.push(format!(
            "{:?} {bytes:02x?} at {:#x}, before: rflags {:#x}, registers {:#x?}",
            instr.code(),
            placed.at,
            before.rflags,
            before.gprs
        ));
        Err(report.join("\n"))
    }

    fn draft(
        &mut self,
        repertoire: &Repertoire,
        random: &mut Random,
    ) -> (Vec<u8>, Instruction, Vec<(usize, u64)>) {
        loop {
            let (codes, group) = &repertoire.groups[random.below(repertoire.groups.len() as u64) as usize];
            let code = random.pick(codes);
            let slot = self.native.next_slot();
            // Streams must not dry up: some registers get fresh values.
            let fresh = (random.below(16), random.value());
            let Some(mut draft) = Draft::new(random, self.bits, slot, code) else {
                continue;
            };
            if (group.adjust)(&mut draft).is_none() {
                continue;
            }
            let (Some(bytes), instr) = (draft.encode(), draft.instr) else {
                continue;
            };
            if self.host.undefined_result(&instr) {
                continue;
            }
            let mut pokes = draft.pokes;
            let number = fresh.0 as usize;
            match self.bits {
                Bits::B64 => pokes.insert(0, (number, fresh.1)),
                Bits::B32 => pokes.insert(0, (number & 7, fresh.1 & 0xffff_ffff)),
            }
            return (bytes, instr, pokes);
        }
    }

    /// What the sides do not agree in, line by line.
    fn differences(
        &mut self,
        subject: &State,
        native_fault: Option<Fault>,
        subject_fault: Option<Fault>,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        let mut differ = |what: &str, silicon: &dyn Debug, interpreter: &dyn Debug| {
            lines.push(format!(
                "{what}: silicon {silicon:#x?}, interpreter {interpreter:#x?}"
            ));
        };
        let native = &self.state;
        if native_fault != subject_fault {
            differ("exception", &native_fault, &subject_fault);
        }
        for (n, (a, b)) in native.gprs.iter().zip(&subject.gprs).enumerate() {
            if a != b {
                differ(&format!("register {n}"), a, b);
            }
        }
        let (a, b) = (native.rflags & FLAGS, subject.rflags & FLAGS);
        if a != b {
            differ(&format!("flags {:#x}", a ^ b), &a, &b);
        }
        if native.rip != subject.rip {
            differ("rip", &native.rip, &subject.rip);
        }
        if !fx_compared(&native.fx).eq(fx_compared(&subject.fx)) {
            differ("x87 and SSE", &native.fx, &subject.fx);
        }
        let half = SCRATCH_LEN / 2;
        let pages = self.native.scratch().chunks(half).zip(self.subject.scratch());
        for (n, (a, b)) in pages.enumerate() {
            if a != b {
                let at = a.iter().zip(b.iter()).position(|(a, b)| a != b).unwrap_or(0);
                let end = (at + 16).min(half);
                differ(
                    &format!("memory +{:#x}", n * half + at),
                    &&a[at..end],
                    &&b[at..end],
                );
            }
        }
        lines
    }
}
