//! How a run ended: the exit status of `vmapp run` and the one line that says why.
//!
//! | status | meaning |
//! |---|---|
//! | 0 | the guest powered off |
//! | 1 | the VM failed, or was ended before the guest powered off |
//! | 2 | it could not be started as asked (files, console, name) |
//! | 3 | the vmm died |
//! | 4 | the guest reset with `on_reset = "exit"`, or triple-faulted |
//! | 10 + n | guest exit code n from the debug-exit port (at most 255) |

use shared::msg::handover::Outcome;

/// The guest powered off.
pub const POWERED_OFF: u8 = 0;
/// The VM failed.
pub const FAILED: u8 = 1;
/// Usage or configuration.
pub const USAGE: u8 = 2;
/// The vmm died.
pub const VMM_DIED: u8 = 3;
/// Reset or triple fault.
pub const RESET: u8 = 4;
/// Guest exit code 0.
pub const DEBUG_EXIT: u8 = 10;

/// An end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Exit status.
    pub status: u8,
    /// One line for the user.
    pub reason: String,
    /// Whether the guest asked to be started again (the supervisor decides whether it is).
    pub reset: bool,
}

impl Verdict {
    /// An end that is no reset.
    pub fn new(status: u8, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
            reset: false,
        }
    }

    /// The same without a new start: somebody wants the machine ended.
    pub fn without_reset(self) -> Self {
        Self { reset: false, ..self }
    }

    /// What the vmm's own word means. `asked` says who wanted it ended, if anybody.
    pub fn of(outcome: &Outcome, asked: Option<&str>) -> Self {
        match outcome {
            Outcome::PoweredOff => Self::new(POWERED_OFF, "guest powered off"),
            Outcome::Reset => Self {
                reset: true,
                ..Self::new(RESET, "guest reset")
            },
            Outcome::TripleFault => Self::new(RESET, "guest triple-faulted"),
            Outcome::DebugExit(code) => Self::new(
                DEBUG_EXIT.saturating_add(*code),
                format!("guest ended with exit code {code}"),
            ),
            Outcome::Stopped => Self::new(
                FAILED,
                match asked {
                    Some(asked) => format!("ended before the guest powered off: {asked}"),
                    None => "ended before the guest powered off".to_owned(),
                },
            ),
            Outcome::Failed(why) => Self::new(FAILED, format!("failed: {}", plain(why))),
        }
    }
}

/// Longest text of a worker that is shown.
const MAX_TEXT: usize = 500;

/// A worker's text made fit for a terminal and a log: one line, bounded, no control characters. The workers are not
/// trusted, and an escape sequence could make the terminal say anything.
pub fn plain(text: &str) -> String {
    let mut clean: String = text
        .chars()
        .take(MAX_TEXT)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(MAX_TEXT).is_some() {
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_documented_status() {
        let table = [
            (Outcome::PoweredOff, 0),
            (Outcome::Stopped, 1),
            (Outcome::Failed("no memory".to_owned()), 1),
            (Outcome::Reset, 4),
            (Outcome::TripleFault, 4),
            (Outcome::DebugExit(0), 10),
            (Outcome::DebugExit(3), 13),
            (Outcome::DebugExit(245), 255),
            (Outcome::DebugExit(255), 255),
        ];
        for (outcome, status) in table {
            let verdict = Verdict::of(&outcome, None);
            assert_eq!(verdict.status, status, "{outcome:?}");
            assert_eq!(verdict.reset, outcome == Outcome::Reset);
        }
    }

    #[test]
    fn a_hostile_text_cannot_drive_the_terminal() {
        let verdict = Verdict::of(
            &Outcome::Failed("\x1b]0;pwned\x07\r\n\u{9b}31m ok".to_owned()),
            None,
        );
        assert!(!verdict.reason.chars().any(char::is_control), "{verdict:?}");
        assert!(plain(&"x".repeat(1 << 20)).len() < 600);
    }
}
