//! How far a measurement is, for whoever waits for it: one line that rewrites itself on a terminal, else a line a machine.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// See the module. Everything goes to standard error; standard output is for the tables.
#[derive(Debug)]
pub struct Progress {
    steps: usize,
    done: usize,
    began: Instant,
    terminal: bool,
}

impl Progress {
    /// Of so many steps.
    pub fn new(steps: usize) -> Self {
        Self {
            steps,
            done: 0,
            began: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// A new chapter: kept on the screen.
    pub fn chapter(&self, what: &str) {
        self.wipe();
        eprintln!("[{}/{}] {what}", self.done, self.steps);
    }

    /// What is being done now.
    pub fn step(&self, what: &str) {
        if self.terminal {
            let left = left(self.began.elapsed(), self.done, self.steps);
            eprint!("\r\x1b[K[{}/{}{left}] {what}", self.done, self.steps);
            // Progress that cannot be shown is no reason to stop.
            std::io::stderr().flush().ok();
        }
    }

    /// It is done.
    pub fn done(&mut self) {
        self.done += 1;
    }

    /// Leaves a clean line.
    pub fn wipe(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

/// What the rest will take at this pace, once there is a pace.
fn left(passed: Duration, done: usize, steps: usize) -> String {
    if done < 5 {
        return String::new();
    }
    let left = passed.as_secs_f64() / done as f64 * steps.saturating_sub(done) as f64;
    format!(", about {}:{:02} left", left as u64 / 60, left as u64 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_told_once_there_is_a_pace() {
        assert_eq!(left(Duration::from_secs(4), 4, 100), "");
        assert_eq!(left(Duration::from_secs(10), 10, 100), ", about 1:30 left");
        assert_eq!(left(Duration::from_secs(10), 10, 5), ", about 0:00 left");
    }
}
