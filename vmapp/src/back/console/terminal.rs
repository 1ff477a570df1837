//! A terminal's modes: saved, made raw, put back.
//!
//! Used by the supervisor, which owns the user's terminal for the time of a run, and by the I/O worker, which puts it
//! back should the supervisor vanish. Must never touch a terminal of which we are not the foreground job, and never
//! overwrite modes somebody else has set since.

use nix::sys::termios::{
    self, ControlFlags, InputFlags, LocalFlags, OutputFlags, SetArg, SpecialCharacterIndices, Termios,
};
use nix::unistd::{getpgrp, tcgetpgrp};
use shared::msg::handover::TerminalModes;
use std::os::fd::AsFd;

/// The present modes.
pub fn modes(terminal: impl AsFd) -> nix::Result<TerminalModes> {
    Ok(from_termios(&termios::tcgetattr(terminal)?))
}

/// Whether this process belongs to the terminal's foreground job. False as well when it is not our controlling
/// terminal: then nobody told us that its modes are ours to change.
pub fn is_foreground(terminal: impl AsFd) -> bool {
    tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp())
}

/// Raw mode: every key goes to the guest, Ctrl-C included, without echo.
///
/// Output processing stays as the user had it, as in QEMU: supervisor, vmm and worker print whole lines on the same
/// terminal, and a bare line feed from a simple guest still starts a new line.
pub fn make_raw(terminal: impl AsFd, saved: &TerminalModes) -> nix::Result<()> {
    set(terminal, &raw_of(saved))
}

/// Puts `saved` back, if the terminal is still as [`make_raw`] left it.
pub fn restore(terminal: impl AsFd, saved: &TerminalModes) -> nix::Result<()> {
    if modes(&terminal)? == raw_of(saved) {
        set(terminal, saved)?;
    }
    Ok(())
}

fn raw_of(saved: &TerminalModes) -> TerminalModes {
    let mut raw = saved.clone();
    raw.input &= !(InputFlags::IGNBRK
        | InputFlags::BRKINT
        | InputFlags::PARMRK
        | InputFlags::ISTRIP
        | InputFlags::INLCR
        | InputFlags::IGNCR
        | InputFlags::ICRNL
        | InputFlags::IXON)
        .bits();
    raw.local &=
        !(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ICANON | LocalFlags::ISIG | LocalFlags::IEXTEN)
            .bits();
    raw.control &= !(ControlFlags::CSIZE | ControlFlags::PARENB).bits();
    raw.control |= ControlFlags::CS8.bits();
    for (index, value) in [
        (SpecialCharacterIndices::VMIN, 1),
        (SpecialCharacterIndices::VTIME, 0),
    ] {
        if let Some(char) = raw.chars.get_mut(index as usize) {
            *char = value;
        }
    }
    raw
}

fn from_termios(termios: &Termios) -> TerminalModes {
    TerminalModes {
        input: termios.input_flags.bits(),
        output: termios.output_flags.bits(),
        control: termios.control_flags.bits(),
        local: termios.local_flags.bits(),
        chars: termios.control_chars.to_vec(),
    }
}

fn set(terminal: impl AsFd, modes: &TerminalModes) -> nix::Result<()> {
    let mut termios = termios::tcgetattr(&terminal)?;
    termios.input_flags = InputFlags::from_bits_retain(modes.input);
    termios.output_flags = OutputFlags::from_bits_retain(modes.output);
    termios.control_flags = ControlFlags::from_bits_retain(modes.control);
    termios.local_flags = LocalFlags::from_bits_retain(modes.local);
    for (char, value) in termios.control_chars.iter_mut().zip(&modes.chars) {
        *char = *value;
    }
    // Now, not drained: a terminal stopped with Ctrl-S must not keep us from ending.
    termios::tcsetattr(terminal, SetArg::TCSANOW, &termios)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::openpty;

    #[test]
    fn raw_mode_is_undone_exactly() {
        let pty = openpty(None, None).unwrap();
        let before = modes(&pty.slave).unwrap();
        make_raw(&pty.slave, &before).unwrap();
        let raw = modes(&pty.slave).unwrap();
        assert_eq!(
            raw.local & (LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG).bits(),
            0
        );
        assert_eq!(raw.output, before.output, "output processing is the user's");
        restore(&pty.slave, &before).unwrap();
        assert_eq!(modes(&pty.slave).unwrap(), before);
    }

    #[test]
    fn modes_somebody_else_set_meanwhile_are_left_alone() {
        let pty = openpty(None, None).unwrap();
        let before = modes(&pty.slave).unwrap();
        make_raw(&pty.slave, &before).unwrap();
        let mut theirs = before.clone();
        theirs.local &= !LocalFlags::ECHO.bits();
        set(&pty.slave, &theirs).unwrap();
        restore(&pty.slave, &before).unwrap();
        assert_eq!(modes(&pty.slave).unwrap(), theirs);
    }

    #[test]
    fn a_terminal_that_is_not_ours_is_never_foreground() {
        let pty = openpty(None, None).unwrap();
        assert!(!is_foreground(&pty.slave));
    }
}
