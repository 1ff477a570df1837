//! The program at the measured end: the same static binary in a guest and, natively, in a network namespace of its own.
//!
//! `agent ADDRESS:PORT` connects to `bench`, which sends a command a line and gets an answer a line: `ok` and what the agent
//! measured by its own clock, or `error` and why. So one boot serves many measurements, and a stream is timed at both ends.
//! It uses nothing but the standard library, so that `build.rs` can make it with the toolchain alone.
//!
//! It trusts who commands it: `bench`, on a network of its own.

mod disk;
mod kernels;
mod net;
mod usage;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// How long the network may take to come up.
const PATIENCE: Duration = Duration::from_secs(120);

/// All of it is for the reader of the other end's terminal.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// What was measured: names and values, as they go onto the line.
pub type Answer = Vec<(&'static str, f64)>;

/// A command's `key=value` words.
pub struct Fields<'a>(HashMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    fn of(words: impl Iterator<Item = &'a str>) -> Self {
        Self(words.filter_map(|word| word.split_once('=')).collect())
    }

    /// The value of a key that must be there.
    pub fn get<T: FromStr>(&self, key: &str) -> Outcome<T> {
        let text = self.0.get(key).ok_or_else(|| format!("no {key}="))?;
        text.parse()
            .map_err(|_| format!("{key}={text}: what is that?").into())
    }

    /// A length of time, given in seconds.
    pub fn seconds(&self, key: &str) -> Outcome<Duration> {
        Ok(Duration::try_from_secs_f64(self.get(key)?)?)
    }
}

fn main() -> ExitCode {
    let Some(to) = std::env::args().nth(1) else {
        eprintln!("agent ADDRESS:PORT");
        return ExitCode::FAILURE;
    };
    match connect(&to).and_then(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agent: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Until somebody answers: the interface may just have come up.
fn connect(to: &str) -> Outcome<TcpStream> {
    let began = Instant::now();
    loop {
        match TcpStream::connect(to) {
            Ok(stream) => return Ok(stream),
            Err(error) if began.elapsed() > PATIENCE => return Err(format!("{to}: {error}").into()),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Commands one after the other, until whoever sends them hangs up.
fn serve(mut control: TcpStream) -> Outcome<()> {
    control.set_nodelay(true)?;
    let mut lines = BufReader::new(control.try_clone()?);
    let mut line = String::new();
    while {
        line.clear();
        lines.read_line(&mut line)? != 0
    } {
        let answer = match command(&line) {
            Ok(values) => values.iter().fold("ok".to_owned(), |text, (name, value)| {
                format!("{text} {name}={value}")
            }),
            Err(error) => format!("error {error}").replace('\n', " "),
        };
        control.write_all(format!("{answer}\n").as_bytes())?;
    }
    Ok(())
}

fn command(line: &str) -> Outcome<Answer> {
    let mut words = line.split_whitespace();
    let verb = words.next().unwrap_or_default();
    let fields = Fields::of(words);
    let usage = usage::Usage::now()?;
    let mut answer = match verb {
        "send" => net::send(&fields),
        "receive" => net::receive(&fields),
        "datagrams-out" => net::datagrams_out(&fields),
        "datagrams-in" => net::datagrams_in(&fields),
        "ask" => net::ask(&fields),
        "idle" => {
            std::thread::sleep(fields.seconds("seconds")?);
            Ok(Answer::new())
        }
        "disk" => disk::run(&fields),
        "kernel" => kernels::run(&fields),
        _ => Err(format!("unknown command {verb:?}").into()),
    }?;
    answer.extend(usage::Usage::now()?.since(&usage));
    Ok(answer)
}
