//! The escape key of a console on a terminal: a pure state machine between what the user types and what the guest gets.
//!
//! Called by the terminal back end with every byte read. It must never hold back more than the escape byte itself, and
//! never let a command's bytes reach the guest. As in QEMU's multiplexer, the escape byte followed by a byte that is no
//! command is dropped together with it, and the escape byte typed twice is sent once.

use shared::msg::handover::Escape;

/// What one typed byte amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed {
    /// Goes to the guest.
    Guest(u8),
    /// A command for the supervisor.
    Ask(Escape),
    /// Print the list of commands.
    Help,
    /// Part of an escape sequence, or no command.
    Nothing,
}

/// The state: whether the last byte was the escape byte.
#[derive(Clone, Copy, Debug)]
pub struct EscapeKey {
    key: Option<u8>,
    armed: bool,
}

impl EscapeKey {
    /// With `key` as the escape byte; `None` passes everything.
    pub fn new(key: Option<u8>) -> Self {
        Self { key, armed: false }
    }

    /// Takes one byte.
    pub fn typed(&mut self, byte: u8) -> Typed {
        let Some(key) = self.key else {
            return Typed::Guest(byte);
        };
        if !std::mem::take(&mut self.armed) {
            if byte == key {
                self.armed = true;
                return Typed::Nothing;
            }
            return Typed::Guest(byte);
        }
        // The escape byte itself first: a key set to a command's letter still types it.
        match byte {
            _ if byte == key => Typed::Guest(key),
            b'x' | b'X' => Typed::Ask(Escape::End),
            b'p' | b'P' => Typed::Ask(Escape::PowerButton),
            b'h' | b'H' | b'?' => Typed::Help,
            _ => Typed::Nothing,
        }
    }
}

/// The key as a user reads it: `C-a` for 1.
pub fn key_name(key: u8) -> String {
    match key {
        0..=26 => format!("C-{}", (key | 0x60) as char),
        27..=31 => format!("C-{}", (key | 0x40) as char),
        127 => "C-?".to_owned(),
        _ => (key as char).to_string(),
    }
}

/// The commands in one line each, for a terminal in raw mode.
pub fn help(key: u8) -> String {
    let k = key_name(key);
    format!(
        "\r\n{k} x  end the VM now, as if the power were cut\r\n{k} p  press the power button\r\n\
         {k} h  this list\r\n{k} {k}  send {k} to the guest\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_all(key: Option<u8>, text: &[u8]) -> Vec<Typed> {
        let mut escape = EscapeKey::new(key);
        text.iter()
            .map(|&byte| escape.typed(byte))
            .filter(|t| *t != Typed::Nothing)
            .collect()
    }

    #[test]
    fn each_command_and_nothing_else_is_kept_from_the_guest() {
        use Typed::{Ask, Guest, Help};
        let table: &[(&[u8], &[Typed])] = &[
            (b"ab", &[Guest(b'a'), Guest(b'b')]),
            (b"\x01x", &[Ask(Escape::End)]),
            (b"\x01p", &[Ask(Escape::PowerButton)]),
            (b"\x01h\x01?", &[Help, Help]),
            (b"\x01\x01", &[Guest(1)]),
            (b"\x01\x01x", &[Guest(1), Guest(b'x')]),
            (b"\x01q.", &[Guest(b'.')]),
            (b"a\x01", &[Guest(b'a')]),
        ];
        for (text, wanted) in table {
            assert_eq!(&type_all(Some(1), text), wanted, "typed {text:?}");
        }
    }

    #[test]
    fn without_a_key_every_byte_passes() {
        let all: Vec<u8> = (0..=255).collect();
        let got: Vec<u8> = type_all(None, &all)
            .iter()
            .map(|t| match t {
                Typed::Guest(byte) => *byte,
                other => panic!("{other:?} without an escape key"),
            })
            .collect();
        assert_eq!(got, all);
    }

    #[test]
    fn a_printable_escape_key_that_is_a_command_letter_can_still_be_typed() {
        assert_eq!(type_all(Some(b'x'), b"xx"), [Typed::Guest(b'x')]);
    }

    #[test]
    fn keys_are_named_as_users_write_them() {
        for (key, name) in [(1, "C-a"), (0x1d, "C-]"), (b'~', "~"), (127, "C-?")] {
            assert_eq!(key_name(key), name);
        }
    }
}
