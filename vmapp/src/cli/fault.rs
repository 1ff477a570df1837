//! `vmapp fault`: what may be typed. What it means is [`spec`](crate::fault::spec)'s.

use super::{WRONG, complain, dispatch, print};
use crate::config::quoted;
use crate::fault::list;
use crate::fault::spec::Spec;
use clap::Args;

/// Shown below the options.
pub const AFTER: &str = "\
A fault is ACTION [KEY=VALUE]...; a word without = begins another one. `clear` takes all off, `list` shows what is
armed. Several are armed in turn, up to the first that this VM refuses. `vmapp fault --list` explains every action, filter and
point.

Examples:
  vmapp fault demo kill at=disk-done
  vmapp fault demo drop channel=net0 dir=up rate=0.01 seed=7
  vmapp fault demo disk-error error=EIO op=read lba=2048-4095 count=1
  vmapp fault demo clear

Exit status: 0 done; 1 the VM is not there or refused; 2 usage error.";

/// The arguments.
#[derive(Debug, Args)]
pub struct FaultArgs {
    /// Name of the VM
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// Faults
    #[arg(required_unless_present = "list", value_name = "SPEC")]
    spec: Vec<String>,
    /// Explain every action, filter and point
    #[arg(long, conflicts_with = "name")]
    list: bool,
    /// With --list, as Markdown tables
    #[arg(long, requires = "list")]
    markdown: bool,
}

/// Does the command; the exit status.
pub fn run(args: &FaultArgs) -> u8 {
    let Some(name) = &args.name else {
        return print(&if args.markdown {
            list::markdown()
        } else {
            list::text()
        });
    };
    let texts = texts(&args.spec.join(" "));
    // All are looked at before the first is armed.
    for text in &texts {
        if let Err(error) = text.parse::<Spec>() {
            complain(&format!(
                "error: {error}\n --> {}\n = help: {}\n",
                quoted(text),
                error.help()
            ));
            return WRONG;
        }
    }
    dispatch::fault(name, &texts)
}

/// One text for each action.
fn texts(words: &str) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for word in words.split_whitespace() {
        match texts.last_mut() {
            Some(text) if word.contains('=') => {
                text.push(' ');
                text.push_str(word);
            }
            _ => texts.push(word.to_owned()),
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_word_without_a_value_begins_another_fault() {
        assert_eq!(
            super::texts("kill at=3 count=2  drop\tstop at=4 ms=1"),
            ["kill at=3 count=2", "drop", "stop at=4 ms=1"]
        );
        assert_eq!(super::texts("at=3 kill"), ["at=3", "kill"]);
    }
}
