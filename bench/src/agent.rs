//! The near end of the agent's control connection: a command a line, an answer a line.
//!
//! See `agent/main.rs` for the far end. Errors name the command.

use crate::Outcome;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Longest wait for an answer: no command runs longer than a minute.
const LIMIT: Duration = Duration::from_secs(180);

/// Where agents connect.
pub struct Reception {
    listener: TcpListener,
    /// The port an agent is to connect to.
    pub port: u16,
}

impl Reception {
    /// At a free port of `at`.
    pub fn new(at: Ipv4Addr) -> Outcome<Self> {
        let listener = TcpListener::bind(SocketAddrV4::new(at, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port })
    }

    /// The next connection, within `limit`, as long as `lives` does not say why there will be none.
    pub fn accept(&self, limit: Duration, mut lives: impl FnMut() -> Outcome<()>) -> Outcome<TcpStream> {
        let began = Instant::now();
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    stream.set_read_timeout(Some(LIMIT))?;
                    stream.set_write_timeout(Some(LIMIT))?;
                    return Ok(stream);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            lives()?;
            if began.elapsed() > limit {
                return Err(format!("nobody connected within {} s", limit.as_secs()).into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// What an agent measured: values by name.
pub struct Answer(BTreeMap<String, f64>);

impl Answer {
    /// A value the command is known to answer with.
    pub fn get(&self, name: &str) -> Outcome<f64> {
        let value = self.0.get(name).copied();
        value.ok_or_else(|| format!("the agent told no {name}").into())
    }

    fn parse(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("ok") => {}
            Some("error") => return Err(line.trim().trim_start_matches("error ").to_owned()),
            _ => return Err(format!("no answer but {line:?}")),
        }
        words
            .map(|word| {
                let (name, value) = word.split_once('=')?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect::<Option<_>>()
            .map(Self)
            .ok_or_else(|| format!("an answer nobody can read: {line:?}"))
    }
}

/// An agent that has connected.
pub struct Agent {
    control: TcpStream,
    lines: BufReader<TcpStream>,
}

impl Agent {
    /// Behind an accepted connection.
    pub fn new(control: TcpStream) -> Outcome<Self> {
        control.set_nodelay(true)?;
        let lines = BufReader::new(control.try_clone()?);
        Ok(Self { control, lines })
    }

    /// Gives a command and does not wait for its end.
    pub fn tell(&mut self, command: &str) -> Outcome<()> {
        self.control.write_all(format!("{command}\n").as_bytes())?;
        Ok(())
    }

    /// The answer to the last command.
    pub fn answer(&mut self) -> Outcome<Answer> {
        let mut line = String::new();
        let count = self
            .lines
            .read_line(&mut line)
            .map_err(|error| format!("the agent: {error}"))?;
        if count == 0 {
            return Err("the agent is gone".into());
        }
        Answer::parse(&line).map_err(|why| format!("the agent: {why}").into())
    }

    /// Command and answer.
    pub fn ask(&mut self, command: &str) -> Outcome<Answer> {
        self.tell(command)?;
        self.answer()
            .map_err(|error| format!("`{command}`: {error}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_values_by_name_or_say_why_not() {
        let answer = Answer::parse("ok bytes=1500 seconds=0.25\n").unwrap();
        assert_eq!(answer.get("bytes").unwrap(), 1500.0);
        assert_eq!(answer.get("seconds").unwrap(), 0.25);
        assert!(answer.get("rounds").is_err());
        for (line, expected) in [
            ("error no write=\n", "no write="),
            ("", "no answer but"),
            ("hello", "no answer but"),
            ("ok bytes", "an answer nobody can read"),
            ("ok bytes=many", "an answer nobody can read"),
        ] {
            let why = Answer::parse(line).err().unwrap();
            assert!(why.starts_with(expected), "{why}");
        }
    }
}
