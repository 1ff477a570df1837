//! What the host has heard of the witness in a guest (`linux/witness`): its reports, read off the console as they come.

#[path = "../../linux/witness/format.rs"]
pub mod format;

/// Values of a report, by what they count or measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Numbers of the last records acknowledged.
    pub file: u64,
    /// Of the files that take older ones' names.
    pub name: u64,
    /// Of the disk without a file system.
    pub raw: u64,
    /// Blocks the guest has sent.
    pub up: u64,
    /// Blocks it has received.
    pub down: u64,
    /// Times its network card lost the link.
    pub flaps: u64,
    /// Errors that a guest must not see.
    pub errors: u64,
    /// Longest write of late, microseconds.
    pub write: u64,
    /// Longest time between two blocks of late, microseconds.
    pub gap: u64,
}

impl Report {
    fn read<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let mut report = Self::default();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let place = match key {
                "file" => &mut report.file,
                "name" => &mut report.name,
                "raw" => &mut report.raw,
                "up" => &mut report.up,
                "down" => &mut report.down,
                "flaps" => &mut report.flaps,
                "errors" => &mut report.errors,
                "write" => &mut report.write,
                "gap" => &mut report.gap,
                _ => continue,
            };
            *place = value.parse().unwrap_or_default();
        }
        report
    }
}

/// Everything heard.
#[derive(Debug, Default)]
pub struct Heard {
    /// Bytes of the console's output already read: up to the end of a line.
    pub read: usize,
    /// The last report.
    pub report: Report,
    /// Reports so far.
    pub reports: u64,
    /// Longest waits reported since [`Heard::begin`], microseconds.
    pub write: u64,
    /// The same, of the stream.
    pub gap: u64,
    /// Errors in the guest's words.
    pub errors: Vec<String>,
    /// The last word that was said back.
    pub said: Option<u64>,
    /// The witness has ended, and its last report is the truth.
    pub ended: bool,
}

impl Heard {
    /// Forgets the longest waits so far.
    pub fn begin(&mut self) {
        (self.write, self.gap) = (0, 0);
    }

    /// Takes more of the console's output.
    pub fn hear(&mut self, output: &str) {
        let whole = output.rfind('\n').map_or(0, |at| at + 1);
        self.read += whole;
        for line in output[..whole].lines() {
            texts(line).for_each(|text| self.take(text));
        }
    }

    fn take(&mut self, text: &str) {
        let mut words = text.split(' ');
        match words.next() {
            Some("error" | "failed") => self.errors.push(text.to_owned()),
            Some("said") => self.said = words.next().and_then(|word| word.parse().ok()),
            Some(what @ ("now" | "ended")) => {
                self.ended |= what == "ended";
                self.report = Report::read(words);
                self.reports += 1;
                self.write = self.write.max(self.report.write);
                self.gap = self.gap.max(self.report.gap);
            }
            _ => {}
        }
    }
}

/// The texts of all whole lines of the witness's in a line of the console: the kernel may have written into it, and a
/// console that is served anew may repeat pieces of it.
fn texts(line: &str) -> impl Iterator<Item = &str> {
    let begun = line.match_indices('@').map(|(at, _)| &line[at + 1..]);
    begun.filter_map(|rest| {
        let (text, rest) = rest.split_once('#')?;
        let sum = u32::from_str_radix(rest.get(..8)?, 16).ok()?;
        (sum == format::sum(text)).then_some(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_heard_whole_or_not_at_all() {
        let line = |text| format::line(text);
        let mut heard = Heard::default();
        heard.hear(&format!("noise {}\r\n", line("now file=7 raw=9")));
        assert_eq!((heard.report.file, heard.report.raw, heard.reports), (7, 9, 1));
        let torn = line("now file=8 raw=10").replace("8 r", "8[  1.0] EXT4-fs r");
        heard.hear(&format!("{torn}\n"));
        assert_eq!((heard.report.file, heard.reports), (7, 1));
        // A piece twice: the whole line is in there.
        heard.hear(&format!("@now fi{}\n", line("now file=11")));
        assert_eq!((heard.report.file, heard.reports), (11, 2));
        heard.hear("@now file=99");
        assert_eq!(heard.reports, 2, "no end of the line yet");
    }
}
