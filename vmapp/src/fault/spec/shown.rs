//! A fault as text: what [`Spec`](super::Spec) reads, with what is not said left out.

use super::{DISK_OPS, PARTS};
use shared::msg::fault::{Action, DiskFault, DiskOp, Fault, Pace};
use std::fmt;

/// A fault as [`Spec`](super::Spec) reads it.
pub struct Shown<'f>(pub &'f Fault);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = self.0;
        f.write_str(fault.action.name())?;
        match fault.action {
            Action::Delay { ms } | Action::Stall { ms } => write!(f, " ms={ms}")?,
            Action::Corrupt { part, bits } => {
                write!(f, " part={} bits={bits}", word_of(&PARTS, part))?;
            }
            Action::Truncate { to: Some(to) } => write!(f, " to={to}")?,
            Action::DiskError { error, op, lba } => disk_error(f, error, op, lba)?,
            Action::Kill { at } => write!(f, " at={}", at.name())?,
            Action::Stop { at, ms } => write!(f, " at={} ms={ms}", at.name())?,
            Action::VmmKill { after_ms } if after_ms != 0 => write!(f, " after_ms={after_ms}")?,
            _ => {}
        }
        if let Some(channel) = fault.channel {
            write!(f, " channel={channel}")?;
        }
        if let Some(dir) = fault.dir {
            write!(f, " dir={}", dir.name())?;
        }
        match fault.pace {
            Pace::Every(1) => {}
            Pace::Every(every) => write!(f, " every={every}")?,
            Pace::Millionths(1_000_000) => f.write_str(" rate=1")?,
            Pace::Millionths(rate) => {
                let digits = format!("{rate:06}");
                write!(f, " rate=0.{}", digits.trim_end_matches('0'))?;
            }
        }
        if fault.after != 0 {
            write!(f, " after={}", fault.after)?;
        }
        if let Some(count) = fault.count {
            write!(f, " count={count}")?;
        }
        match fault.seed {
            Some(seed) => write!(f, " seed={seed}"),
            None => Ok(()),
        }
    }
}

fn disk_error(
    f: &mut fmt::Formatter<'_>,
    error: DiskFault,
    op: Option<DiskOp>,
    lba: Option<(u64, u64)>,
) -> fmt::Result {
    f.write_str(match error {
        DiskFault::Eio => " error=EIO",
        DiskFault::Enospc => " error=ENOSPC",
        DiskFault::ShortWrite => " error=short-write",
        DiskFault::Slow { .. } => " error=slow",
    })?;
    if let Some(op) = op {
        write!(f, " op={}", word_of(&DISK_OPS, op))?;
    }
    if let Some((from, to)) = lba {
        write!(f, " lba={from}-{to}")?;
    }
    match error {
        DiskFault::Slow { ms } => write!(f, " ms={ms}"),
        _ => Ok(()),
    }
}

fn word_of<T: PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words
        .iter()
        .find(|(_, known)| *known == value)
        .map_or("", |(word, _)| word)
}
