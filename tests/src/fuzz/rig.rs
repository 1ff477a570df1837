//! The rig a device is fuzzed in: it knows the device's ports and registers and which bus traits it has, and
//! turns bytes into accesses, passing time and resets, as a guest and a run loop would cause them, only worse.
//!
//! Asserted for every device: it does not panic; a value fits the width it was read with; after
//! [`Timed::advance`] the next deadline is in the future; and all of it takes bounded time, with leaps of the
//! clock from nothing to a year. What else a device promises, its own `also` and `check` assert.

use super::input::Input;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};
use vmm::bus::{Access, Mmio, PortIo, Resettable, Timed, Width};
use vmm::time::Ns;

/// Most steps of one input.
const MOST_STEPS: usize = 4096;
/// What all of them may take, in a debug build with sanitizers on a busy host: far more than they do.
const MOST_TIME: Duration = Duration::from_secs(20);
/// The clock goes no further (146 years), so that adding to it cannot saturate.
const MOST_NS: u64 = 1 << 62;

/// Units of the time that passes in one step, in nanoseconds.
pub const SCALES: [u64; 6] = [
    1,
    1_000,
    100_000,
    10_000_000,
    1_000_000_000,
    1_000_000_000_000_000,
];

/// A device seen as one of its traits.
type As<D, T> = for<'a> fn(&'a mut D) -> &'a mut T;

/// The ports of each claim.
type Ranges = &'static [RangeInclusive<u16>];

/// What bytes do to a device's other side, and what was seen there.
type Act<D> = dyn FnMut(&mut D, Ns, &mut Input<'_>) -> String;

/// What must hold after every step.
type Check<D> = dyn FnMut(&mut D);

/// A device and what is known of it.
pub struct Rig<D> {
    device: D,
    ports: Option<(As<D, dyn PortIo>, Ranges)>,
    mmio: Option<(As<D, dyn Mmio>, u64)>,
    timed: Option<As<D, dyn Timed>>,
    reset: Option<As<D, dyn Resettable>>,
    also: Option<Box<Act<D>>>,
    check: Option<Box<Check<D>>>,
    now: Ns,
    seen: DefaultHasher,
}

impl<D: 'static> Rig<D> {
    pub fn new(device: D) -> Self {
        Self {
            device,
            ports: None,
            mmio: None,
            timed: None,
            reset: None,
            also: None,
            check: None,
            now: Ns(0),
            seen: DefaultHasher::new(),
        }
    }

    /// It answers these ports.
    pub fn ports(mut self, ranges: Ranges) -> Self
    where
        D: PortIo,
    {
        self.ports = Some((|device| device, ranges));
        self
    }

    /// It has a region of so many bytes.
    pub fn mmio(mut self, bytes: u64) -> Self
    where
        D: Mmio,
    {
        self.mmio = Some((|device| device, bytes));
        self
    }

    /// It does something by itself.
    pub fn timed(mut self) -> Self
    where
        D: Timed,
    {
        self.timed = Some(|device| device);
        self
    }

    /// It can be reset.
    pub fn resettable(mut self) -> Self
    where
        D: Resettable,
    {
        self.reset = Some(|device| device);
        self
    }

    /// It has another side, which bytes can drive, too: pins, channels, MSRs. Says what was seen there.
    pub fn also(mut self, act: impl FnMut(&mut D, Ns, &mut Input<'_>) -> String + 'static) -> Self {
        self.also = Some(Box::new(act));
        self
    }

    /// Asserted after every step.
    pub fn check(mut self, check: impl FnMut(&mut D) + 'static) -> Self {
        self.check = Some(Box::new(check));
        self
    }

    /// Lets the bytes loose; gives the digest of what was read.
    pub fn run(mut self, bytes: &[u8]) -> u64 {
        let started = Instant::now();
        let mut input = Input::new(bytes);
        for _ in 0..MOST_STEPS {
            if input.is_empty() {
                break;
            }
            self.step(&mut input);
            if let Some(check) = &mut self.check {
                check(&mut self.device);
            }
        }
        let took = started.elapsed();
        assert!(took < MOST_TIME, "{} bytes took {took:?}", bytes.len());
        self.seen.finish()
    }

    /// First byte: bits 0-2 what, bits 3-4 width, bits 5-7 which range, 7 being none.
    fn step(&mut self, input: &mut Input<'_>) {
        let first = input.byte();
        let width = [Width::Byte, Width::Word, Width::Dword, Width::Qword][usize::from(first >> 3 & 3)];
        let range = usize::from(first >> 5);
        match first & 7 {
            0 | 1 if self.ports.is_some() => self.port(input, width.min(Width::Dword), range, first & 1 != 0),
            2 | 3 if self.mmio.is_some() => self.register(input, width, range, first & 1 != 0),
            4 => self.pass(input, first >> 3),
            5 if range == 7 => {
                if let Some(reset) = self.reset {
                    reset(&mut self.device).reset();
                }
            }
            _ => {
                if let Some(also) = &mut self.also {
                    let seen = also(&mut self.device, self.now, input);
                    self.note(&seen);
                }
            }
        }
    }

    fn port(&mut self, input: &mut Input<'_>, width: Width, range: usize, write: bool) {
        let Some((device, ranges)) = self.ports else {
            return;
        };
        let port = match (range, ranges.len()) {
            (7, _) | (_, 0) => input.number(2) as u16,
            (range, count) => {
                let (first, last) = (ranges[range % count].start(), ranges[range % count].end());
                let offset = u32::from(input.byte()) % u32::from(last - first + 1);
                first + offset as u16
            }
        };
        let device = device(&mut self.device);
        if write {
            let value = input.number(width.bytes().into()) as u32;
            let done = device.port_write(self.now, port, width, value);
            self.note(&done);
        } else {
            let value = device.port_read(self.now, port, width);
            fits(width, value, port);
            self.note(&value);
        }
    }

    fn register(&mut self, input: &mut Input<'_>, width: Width, range: usize, write: bool) {
        let Some((device, bytes)) = self.mmio else { return };
        let offset = match range {
            7 => input.number(8),
            0..=3 => (input.number(2) & !3) % bytes,
            _ => input.number(2) % bytes,
        };
        let device = device(&mut self.device);
        if write {
            let value = input.number(width.bytes().into());
            let done = device.mmio_write(self.now, offset, width, value);
            self.note(&done);
        } else {
            let value = device.mmio_read(self.now, offset, width);
            fits(width, value, offset);
            self.note(&value);
        }
    }

    /// Time passes: a small or large step, or to the deadline. A run loop then calls `advance`, punctual or late.
    fn pass(&mut self, input: &mut Input<'_>, scale: u8) {
        let deadline = self.timed.and_then(|timed| timed(&mut self.device).deadline());
        let to = match (SCALES.get(usize::from(scale & 7)), deadline) {
            (Some(scale), _) => self.now.after(scale * u64::from(input.byte())),
            (None, Some(deadline)) => deadline.max(self.now),
            (None, None) => self.now,
        };
        self.now = to.min(Ns(MOST_NS));
        let Some(timed) = self.timed else { return };
        let device = timed(&mut self.device);
        device.advance(self.now);
        let next = device.deadline();
        assert!(
            next.is_none_or(|next| next > self.now || self.now.0 == MOST_NS),
            "deadline {next:?} after advance to {:?}",
            self.now
        );
        self.note(&next);
    }

    fn note(&mut self, what: &impl Debug) {
        format!("{what:?}").hash(&mut self.seen);
    }
}

/// A value read has no bits beyond its width.
fn fits<T: Into<u64>>(width: Width, value: Access<T>, at: impl Into<u64>) {
    if let Access::Done(value) = value {
        let (value, at) = (value.into(), at.into());
        assert_eq!(
            value & !width.ones(),
            0,
            "{width:?} read of {at:#x} gave {value:#x}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wrong in the way its field says.
    #[derive(Default)]
    struct Wrong {
        too_wide: bool,
        stuck: bool,
        panics: bool,
    }

    impl PortIo for Wrong {
        fn port_read(&mut self, _now: Ns, port: u16, _width: Width) -> Access<u32> {
            assert!(
                (0x60..=0x64).contains(&port),
                "the rig stays in the ranges it was told"
            );
            Access::Done(if self.too_wide { 0x100 } else { 0 })
        }
        fn port_write(&mut self, _now: Ns, _port: u16, _width: Width, _value: u32) -> Access {
            assert!(!self.panics, "device panics");
            Access::Bad
        }
    }

    impl Timed for Wrong {
        fn deadline(&self) -> Option<Ns> {
            self.stuck.then_some(Ns(1))
        }
        fn advance(&mut self, _now: Ns) {}
    }

    const READ: u8 = 0;
    const WRITE: u8 = 1;
    const PASS: u8 = 4;

    fn drive(device: Wrong) -> u64 {
        let rig = Rig::new(device).ports(&[0x60..=0x60, 0x64..=0x64]).timed();
        rig.run(&[READ, 0x20 | READ, 9, WRITE, 0, 0, PASS, 77])
    }

    #[test]
    fn a_right_device_passes_and_is_seen_the_same_twice() {
        assert_eq!(drive(Wrong::default()), drive(Wrong::default()));
    }

    #[test]
    #[should_panic(expected = "Byte read of 0x60 gave 0x100")]
    fn a_value_too_wide_is_caught() {
        let too_wide = true;
        drive(Wrong {
            too_wide,
            ..Wrong::default()
        });
    }

    #[test]
    #[should_panic(expected = "deadline Some(Ns(1)) after advance to Ns(77)")]
    fn a_deadline_in_the_past_is_caught() {
        let stuck = true;
        drive(Wrong {
            stuck,
            ..Wrong::default()
        });
    }

    #[test]
    #[should_panic(expected = "device panics")]
    fn a_panic_is_caught() {
        let panics = true;
        drive(Wrong {
            panics,
            ..Wrong::default()
        });
    }
}
