//! The text of a fault: `ACTION [KEY=VALUE]...`, read for `vmapp fault` and `[faults]`, written for `vmapp fault NAME list` and
//! the log.
//!
//! One table, [`ACTIONS`], knows every action with its keys. Reading and writing are inverse. What must never happen here:
//! a word that is passed over, or a refusal without a way out for its reader.

mod actions;
mod shown;

pub use actions::{ACTIONS, ActionFacts};
pub use shown::Shown;

use super::arm::can_fail;
use crate::config::{nearest, quoted};
use shared::msg::fault::{
    Action, Dir, DiskFault, DiskOp, Fault, MAX_BITS, MAX_MS, Pace, Part, Point, Scope, Target,
};
use std::collections::BTreeMap;
use std::str::FromStr;
use thiserror::Error;

/// Longest text of one fault, in bytes.
pub const MAX_SPEC: usize = 256;
/// Most devices of a kind a channel's name may count to.
const MAX_DEVICE: u8 = 63;
/// Largest `every`, `after` and `count`.
const MAX_COUNT: u64 = u32::MAX as u64;

/// What a text asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spec {
    /// Arm this.
    Arm(Fault),
    /// All off.
    Clear,
    /// Show what is armed.
    List,
}

/// Why a text is no fault.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SpecError {
    /// No word.
    #[error("there is no action")]
    Empty,
    /// Longer than [`MAX_SPEC`].
    #[error("a fault of {0} bytes")]
    TooLong(usize),
    /// The first word is none.
    #[error("there is no action `{word}`")]
    Action {
        /// What was written.
        word: String,
        /// What was meant.
        nearest: Option<&'static str>,
    },
    /// Neither the first word nor `key=value`.
    #[error("`{0}` is not KEY=VALUE")]
    Bare(String),
    /// The action has no such key.
    #[error("{action} has no key `{key}`")]
    Key {
        /// The action.
        action: &'static str,
        /// What was written.
        key: String,
        /// What was meant.
        nearest: Option<&'static str>,
        /// What it has.
        known: &'static [&'static str],
    },
    /// A key twice.
    #[error("`{0}` is there twice")]
    Twice(String),
    /// A key that must be there is not.
    #[error("{action} needs `{key}`")]
    Missing {
        /// The action.
        action: &'static str,
        /// The key.
        key: &'static str,
        /// How it is written.
        form: &'static str,
    },
    /// A value that is none of its key's.
    #[error("`{key}` takes {takes}, not `{value}`")]
    Value {
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
        /// What it takes.
        takes: String,
        /// What was meant.
        nearest: Option<&'static str>,
    },
    /// No such point.
    #[error("there is no point `{value}`")]
    Point {
        /// What was written.
        value: String,
        /// What was meant.
        nearest: Option<&'static str>,
    },
    /// Two keys that exclude each other.
    #[error("`{0}` and `{1}` exclude each other")]
    Both(&'static str, &'static str),
    /// Two values that do not go together.
    #[error("{0}")]
    Together(String, String),
}

impl SpecError {
    /// What to write instead.
    pub fn help(&self) -> String {
        let meant = |nearest: &Option<&str>, otherwise: String| match nearest {
            Some(word) => format!("did you mean `{word}`?"),
            None => otherwise,
        };
        match self {
            Self::Empty => "write an action and its keys: drop channel=net0 rate=0.01".into(),
            Self::TooLong(_) => format!("write at most {MAX_SPEC} bytes"),
            Self::Action { nearest, .. } => {
                let all: Vec<&str> = ACTIONS.iter().map(|action| action.name).collect();
                meant(nearest, format!("write one of {}", all.join(", ")))
            }
            Self::Bare(word) => format!("write {word}=VALUE, or remove it"),
            Self::Key {
                nearest, known: [], ..
            } => meant(nearest, "remove it".into()),
            Self::Key { nearest, known, .. } => meant(nearest, format!("it has {}", known.join(", "))),
            Self::Twice(_) => "remove one of them".into(),
            Self::Missing { action, form, .. } => format!("write {action} {form}"),
            Self::Value { key, nearest, .. } => match nearest {
                Some(word) => format!("did you mean {key}={word}?"),
                None => format!("write {key}={}", example(key)),
            },
            Self::Point { nearest, .. } => meant(
                nearest,
                "`vmapp fault --list` shows numbers and names of all".into(),
            ),
            Self::Both(one, _) => format!("remove `{one}`, or the other"),
            Self::Together(_, help) => help.clone(),
        }
    }
}

/// The words of one text by key, as far as they are not read yet.
struct Words<'t> {
    facts: &'static ActionFacts,
    values: BTreeMap<&'t str, &'t str>,
}

impl<'t> Words<'t> {
    fn split(text: &'t str) -> Result<Self, SpecError> {
        if text.len() > MAX_SPEC {
            return Err(SpecError::TooLong(text.len()));
        }
        let mut words = text.split_whitespace();
        let first = words.next().ok_or(SpecError::Empty)?;
        let facts = ACTIONS
            .iter()
            .find(|action| action.name == first)
            .ok_or_else(|| SpecError::Action {
                word: quoted(first),
                nearest: nearest(first, ACTIONS.iter().map(|action| action.name)),
            })?;
        let mut values = BTreeMap::new();
        for word in words {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| SpecError::Bare(quoted(word)))?;
            if !facts.keys.contains(&key) {
                return Err(SpecError::Key {
                    action: facts.name,
                    key: quoted(key),
                    nearest: nearest(key, facts.keys.iter().copied()),
                    known: facts.keys,
                });
            }
            if values.insert(key, value).is_some() {
                return Err(SpecError::Twice(key.into()));
            }
        }
        Ok(Self { facts, values })
    }

    fn needed<T>(&self, key: &'static str, value: Option<T>) -> Result<T, SpecError> {
        value.ok_or(SpecError::Missing {
            action: self.facts.name,
            key,
            form: self.facts.form,
        })
    }

    fn number(&mut self, key: &'static str, min: u64, max: u64) -> Result<Option<u64>, SpecError> {
        let Some(value) = self.values.remove(key) else {
            return Ok(None);
        };
        decimal(value)
            .filter(|number| (min..=max).contains(number))
            .map(Some)
            .ok_or_else(|| wrong(key, value, format!("a number from {min} to {max}")))
    }

    fn small(&mut self, key: &'static str, min: u32, max: u32) -> Result<Option<u32>, SpecError> {
        let number = self.number(key, min.into(), max.into())?;
        Ok(number.and_then(|number| u32::try_from(number).ok()))
    }

    fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &'static [(&'static str, T)],
    ) -> Result<Option<T>, SpecError> {
        let Some(value) = self.values.remove(key) else {
            return Ok(None);
        };
        if let Some((_, choice)) = words.iter().find(|(word, _)| *word == value) {
            return Ok(Some(*choice));
        }
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        Err(SpecError::Value {
            key,
            value: quoted(value),
            takes: all.join(", "),
            nearest: words
                .iter()
                .map(|(word, _)| *word)
                .find(|word| word.eq_ignore_ascii_case(value))
                .or_else(|| nearest(value, all)),
        })
    }

    fn channel(&mut self) -> Result<Option<Target>, SpecError> {
        let Some(value) = self.values.remove("channel") else {
            return Ok(None);
        };
        let number = |digits: &str| {
            decimal(digits)
                .and_then(|number| u8::try_from(number).ok())
                .filter(|&number| number <= MAX_DEVICE)
        };
        let target = match value {
            "control" => Some(Target::Control),
            "console" => Some(Target::Console),
            _ => match (value.strip_prefix("net"), value.strip_prefix("disk")) {
                (Some(digits), _) => number(digits).map(Target::Net),
                (_, Some(digits)) => number(digits).map(Target::Disk),
                _ => None,
            },
        };
        match target {
            Some(target) => Ok(Some(target)),
            None => Err(SpecError::Value {
                key: "channel",
                value: quoted(value),
                takes: "control, console, net0, net1 ..., disk0, disk1 ...".into(),
                nearest: nearest(value, ["control", "console", "net0", "disk0"]),
            }),
        }
    }

    fn point(&mut self) -> Result<Point, SpecError> {
        let value = self.values.remove("at");
        let value = self.needed("at", value)?;
        let by_number = decimal(value)
            .and_then(|number| u8::try_from(number).ok())
            .and_then(Point::from_number);
        by_number
            .or_else(|| Point::ALL.iter().copied().find(|point| point.name() == value))
            .ok_or_else(|| SpecError::Point {
                value: quoted(value),
                nearest: nearest(value, Point::ALL.iter().map(|point| point.name())),
            })
    }

    fn pace(&mut self) -> Result<Pace, SpecError> {
        let every = self.number("every", 1, MAX_COUNT)?;
        let Some(value) = self.values.remove("rate") else {
            return Ok(Pace::Every(every.unwrap_or(1)));
        };
        if every.is_some() {
            return Err(SpecError::Both("rate", "every"));
        }
        millionths(value).map(Pace::Millionths).ok_or_else(|| {
            wrong(
                "rate",
                value,
                "a probability above 0 and up to 1, with at most six decimals".into(),
            )
        })
    }

    fn sectors(&mut self) -> Result<Option<(u64, u64)>, SpecError> {
        let Some(value) = self.values.remove("lba") else {
            return Ok(None);
        };
        let range = match value.split_once('-') {
            Some((from, to)) => decimal(from).zip(decimal(to)),
            None => decimal(value).map(|sector| (sector, sector)),
        };
        range.filter(|(from, to)| from <= to).map(Some).ok_or_else(|| {
            wrong(
                "lba",
                value,
                "a sector, or the first and the last of a range as 0-2047".into(),
            )
        })
    }

    fn disk_error(&mut self) -> Result<Action, SpecError> {
        const SLOW: DiskFault = DiskFault::Slow { ms: 0 };
        let error = self.choice(
            "error",
            &[
                ("EIO", DiskFault::Eio),
                ("ENOSPC", DiskFault::Enospc),
                ("short-write", DiskFault::ShortWrite),
                ("slow", SLOW),
            ],
        )?;
        let op = self.choice("op", &DISK_OPS)?;
        let (lba, ms) = (self.sectors()?, self.small("ms", 1, MAX_MS)?);
        let together = |what: &str, help: &str| Err(SpecError::Together(what.into(), help.into()));
        let error = match (self.needed("error", error)?, ms) {
            (SLOW, Some(ms)) => DiskFault::Slow { ms },
            (SLOW, None) => return together("error=slow needs `ms`", "write error=slow ms=N"),
            (_, Some(_)) => return together("`ms` is error=slow's", "remove it"),
            (error, None) => error,
        };
        if op.is_some_and(|op| !can_fail(error, op)) {
            return match error {
                DiskFault::ShortWrite => {
                    together("only a write can be short", "write op=write, or remove it")
                }
                _ => together("a read needs no room", "write op=write or op=flush"),
            };
        }
        if op == Some(DiskOp::Flush) && lba.is_some() {
            return together("a flush has no sectors", "remove `lba`");
        }
        Ok(Action::DiskError { error, op, lba })
    }

    fn action(&mut self) -> Result<Action, SpecError> {
        Ok(match self.facts.name {
            "drop" => Action::Drop,
            "delay" => Action::Delay { ms: self.ms(1)? },
            "duplicate" => Action::Duplicate,
            "reorder" => Action::Reorder,
            "corrupt" => Action::Corrupt {
                part: self.choice("part", &PARTS)?.unwrap_or(Part::Payload),
                bits: self.small("bits", 1, MAX_BITS)?.unwrap_or(1),
            },
            "truncate" => Action::Truncate {
                to: self.small("to", 0, 1 << 20)?,
            },
            "stall" => Action::Stall { ms: self.ms(1)? },
            "disk-error" => self.disk_error()?,
            "doorbell-lost" => Action::DoorbellLost,
            "irq-lost" => Action::IrqLost,
            "irq-spurious" => Action::IrqSpurious,
            "kill" => Action::Kill { at: self.point()? },
            "stop" => Action::Stop {
                at: self.point()?,
                ms: self.ms(1)?,
            },
            _ => Action::VmmKill {
                after_ms: self.small("after_ms", 0, MAX_MS)?.unwrap_or(0),
            },
        })
    }

    fn ms(&mut self, min: u32) -> Result<u32, SpecError> {
        let ms = self.small("ms", min, MAX_MS)?;
        self.needed("ms", ms)
    }
}

const PARTS: [(&str, Part); 2] = [("payload", Part::Payload), ("header", Part::Header)];
const DIRS: [(&str, Dir); 2] = [("down", Dir::Down), ("up", Dir::Up)];
const DISK_OPS: [(&str, DiskOp); 3] = [
    ("read", DiskOp::Read),
    ("write", DiskOp::Write),
    ("flush", DiskOp::Flush),
];

/// Whether a channel can have the fault at all.
fn fits(action: &Action, channel: Target) -> Result<(), SpecError> {
    let scope = match action {
        Action::DiskError { .. } => Scope::Disk,
        _ => action.point().map_or(Scope::Channel, |point| point.facts().scope),
    };
    if scope.has(channel) {
        return Ok(());
    }
    let what = action.point().map_or(action.name(), Point::name);
    let (whose, help) = match scope {
        Scope::Worker | Scope::Channel => ("of no channel", "remove `channel`"),
        Scope::Net => ("a network card's", "write channel=net0, or remove it"),
        Scope::Disk => ("a disk's", "write channel=disk0, or remove it"),
        Scope::Console => ("the console's", "write channel=console, or remove it"),
    };
    Err(SpecError::Together(
        format!("{what} is {whose}, not {channel}'s"),
        help.into(),
    ))
}

impl FromStr for Spec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut words = Words::split(text)?;
        match words.facts.name {
            "clear" => return Ok(Self::Clear),
            "list" => return Ok(Self::List),
            _ => {}
        }
        let action = words.action()?;
        let channel = words.channel()?;
        if let Some(channel) = channel {
            fits(&action, channel)?;
        }
        Ok(Self::Arm(Fault {
            action,
            channel,
            dir: words.choice("dir", &DIRS)?,
            pace: words.pace()?,
            after: words.number("after", 0, MAX_COUNT)?.unwrap_or(0),
            count: words.number("count", 1, MAX_COUNT)?,
            seed: words.number("seed", 0, u64::MAX)?,
        }))
    }
}

/// A right value.
fn example(key: &str) -> &'static str {
    match key {
        "rate" => "0.01",
        "lba" => "0-2047",
        "channel" => "net0",
        "error" => "EIO",
        "op" => "write",
        "part" => "payload",
        "dir" => "up",
        "seed" | "bits" | "count" | "after_ms" => "1",
        _ => "100",
    }
}

fn wrong(key: &'static str, value: &str, takes: String) -> SpecError {
    SpecError::Value {
        key,
        value: quoted(value),
        takes,
        nearest: None,
    }
}

/// Digits alone: no sign, no space.
fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// "0.01", ".5", "1", "1.0": above 0, up to 1, in millionths.
fn millionths(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let whole = if whole.is_empty() { 0 } else { decimal(whole)? };
    if fraction.len() > 6 {
        return None;
    }
    let fraction = decimal(&format!("{fraction:0<6}"))?;
    let rate = whole.checked_mul(1_000_000)?.checked_add(fraction)?;
    u32::try_from(rate)
        .ok()
        .filter(|rate| (1..=1_000_000).contains(rate))
}

#[cfg(test)]
mod tests;
