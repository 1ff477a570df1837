//! What both of the workers that play a script write to their standard error. Never waits: what finds no room is lost.
//!
//! | step | does |
//! |---|---|
//! | `says TEXT` | a line |
//! | `shout N` | N numbered lines with an escape sequence in each |
//! | `drone BYTES` | so many bytes and no end of a line |
//! | `panic TEXT` | panics |
//! | `await FILE`, `touch FILE` | waits until FILE is there; makes it |

use std::io::Write;

/// Plays a step, if it is one of these.
pub fn play(word: &str, rest: &str) -> bool {
    let number = || rest.parse::<usize>().unwrap();
    match word {
        "says" => put(format!("{rest}\n").as_bytes()),
        "shout" => (0..number()).for_each(|n| put(format!("\x1b[31mline {n}\n").as_bytes())),
        "drone" => (0..number()).step_by(4096).for_each(|_| put(&[b'm'; 4096])),
        "panic" => panic!("{rest}"),
        "await" => crate::stage::eventually(rest, || std::path::Path::new(rest).exists().then_some(())),
        "touch" => drop(std::fs::File::create(rest).unwrap()),
        _ => return false,
    }
    true
}

fn put(bytes: &[u8]) {
    std::io::stderr().write_all(bytes).ok();
}
