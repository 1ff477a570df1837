//! Statuses for a person: the list of VMs, and one VM in full, with rates when there are two looks to compare.

use super::report::{Groups, Report};
use std::fmt::Write;
use std::time::Duration;

/// What a group of counters is called, in the order shown; groups not named here follow under their own name.
const TITLES: [(&str, &str); 9] = [
    ("guest", "guest, where the engine counts"),
    ("exits", "exits"),
    ("irq", "interrupts"),
    ("world_switches", "world switches"),
    ("doorbells", "doorbells"),
    ("halt", "halt"),
    ("console", "console"),
    ("bus", "bus"),
    ("peer", "peer"),
];

/// The running VMs; `None` for one that does not answer.
pub fn list(rows: &[(String, Option<Report>)]) -> String {
    let wide = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(4);
    let mut text = format!(
        "{:wide$}  {:12}  {:8}  {:>10}  PID\n",
        "NAME", "STATE", "ENGINE", "UPTIME"
    );
    for (name, report) in rows {
        let row = match report {
            Some(r) => format!(
                "{name:wide$}  {:12}  {:8}  {:>10}  {}",
                r.state,
                r.engine.as_deref().unwrap_or("-"),
                uptime(r.uptime_s),
                r.pid
            ),
            None => format!("{name:wide$}  does not answer"),
        };
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// One VM; with an earlier look and the time between, also what happens each second.
pub fn status(report: &Report, before: Option<(&Report, Duration)>) -> String {
    let mut text = String::new();
    for (what, value) in facts(report) {
        line(&mut text, &format!("{what:15} {value}"));
    }
    // After a reset the counters start anew: nothing to compare.
    let before = before.filter(|(earlier, _)| earlier.resets == report.resets);
    let earlier = |of: fn(&Report) -> &Groups| before.map(|(earlier, time)| (of(earlier), time));
    groups(&mut text, "", &report.vmm, earlier(|r| &r.vmm));
    groups(
        &mut text,
        "io worker: ",
        &report.io_worker,
        earlier(|r| &r.io_worker),
    );
    text
}

fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("name", report.name.clone()),
        ("state", report.state.clone()),
        ("pid", report.pid.to_string()),
    ];
    if let (Some(engine), Some(why)) = (&report.engine, &report.engine_why) {
        facts.push(("engine", format!("{engine}: {why}")));
    }
    facts.push(("uptime", uptime(report.uptime_s)));
    facts.push(("memory", size(report.memory_bytes)));
    facts.push(("resets", report.resets.to_string()));
    let restarts = match (&report.io_last_death, report.io_restarts) {
        (Some(how), 1) => format!("; replaced once: it {how}"),
        (Some(how), count @ 2..) => format!("; replaced {count} times, last because it {how}"),
        _ => String::new(),
    };
    let worker = format!("{}, process {}{restarts}", report.io_state, report.io_worker_pid);
    facts.push(("I/O worker", worker));
    if let Some(at) = &report.console_at {
        facts.push(("console at", at.clone()));
    }
    facts
}

fn groups(text: &mut String, prefix: &str, now: &Groups, before: Option<(&Groups, Duration)>) {
    let named = TITLES
        .iter()
        .filter_map(|(group, title)| Some((*group, *title, now.get(*group)?)));
    let others = now
        .iter()
        .filter(|(group, _)| TITLES.iter().all(|(known, _)| known != group))
        .map(|(group, members)| (group.as_str(), group.as_str(), members));
    for (group, title, members) in named.chain(others) {
        let total: u64 = members.values().fold(0, |sum, n| sum.saturating_add(*n));
        line(text, "");
        line(text, &format!("{prefix}{title}"));
        if total == 0 {
            line(text, "  none");
        }
        for (member, &value) in members.iter().filter(|(_, value)| **value > 0) {
            let rate = before.and_then(|(groups, time)| {
                let was = *groups.get(group)?.get(member)?;
                Some(value.saturating_sub(was) as f64 / time.as_secs_f64().max(1e-3))
            });
            let row = match rate {
                Some(rate) => format!("  {member:15} {value:>16} {rate:>14.0}/s"),
                None => format!("  {member:15} {value:>16}"),
            };
            line(text, &row);
        }
    }
}

fn line(text: &mut String, row: &str) {
    text.push_str(row.trim_end());
    text.push('\n');
}

fn uptime(seconds: f64) -> String {
    let whole = seconds as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    let mut text = String::new();
    // Writing to a string does not fail.
    if days > 0 {
        write!(text, "{days}d ").ok();
    }
    write!(text, "{hours}:{minutes:02}:{:02}", whole % 60).ok();
    text
}

fn size(bytes: u64) -> String {
    for (shift, unit) in [(30, "G"), (20, "M"), (10, "K")] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::sample;
    use super::*;

    #[test]
    fn every_counter_with_a_value_is_shown_once_and_no_other() {
        let report = sample();
        let text = status(&report, None);
        for (group, members) in report.vmm.iter().chain(&report.io_worker) {
            for (member, value) in members {
                let row = format!("  {member:15} {value:>16}\n");
                assert_eq!(text.contains(&row), *value > 0, "{group}.{member}");
            }
        }
        assert!(text.contains("memory          512M\n"));
    }

    #[test]
    fn rates_compare_two_looks_and_not_across_a_reset() {
        let (before, mut now) = (sample(), sample());
        *now.vmm.get_mut("exits").unwrap().get_mut("halt").unwrap() += 500;
        let second = Duration::from_secs(1);
        assert!(status(&now, Some((&before, second))).contains(" 500/s\n"));
        now.resets = 1;
        assert!(!status(&now, Some((&before, second))).contains("/s"));
    }

    #[test]
    fn the_list_says_who_does_not_answer() {
        let rows = [("demo".to_owned(), Some(sample())), ("deaf".to_owned(), None)];
        let text = list(&rows);
        assert!(
            text.contains("demo  running       interp       0:00:12  4711\n"),
            "{text}"
        );
        assert!(text.contains("deaf  does not answer\n"));
        assert_eq!(list(&[]).lines().count(), 1);
    }

    #[test]
    fn uptimes_read_as_a_clock() {
        for (seconds, text) in [(0.4, "0:00:00"), (3661.0, "1:01:01"), (90_000.0, "1d 1:00:00")] {
            assert_eq!(uptime(seconds), text);
        }
    }
}
