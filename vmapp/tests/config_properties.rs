//! Properties of the configuration over texts nobody wrote: no text makes it panic, every mistake lies inside the file,
//! and the effective configuration means the same machine.

use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vmapp::config::{Config, MAX_SHOWN, Report};

fn right(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/right")
        .join(name)
}

const FULL: &str = include_str!("right/full.toml");

/// Every place is inside the text, and the rendering is bounded and holds no control character.
fn well_placed(text: &str, report: &Report) -> Result<(), TestCaseError> {
    let lines: Vec<&str> = text.split('\n').collect();
    for (line, column) in report.positions() {
        prop_assert!(
            (1..=lines.len()).contains(&line),
            "line {line} of {}",
            lines.len()
        );
        prop_assert!(
            (1..=lines[line - 1].chars().count() + 1).contains(&column),
            "column {column}"
        );
    }
    let shown = report.to_string();
    prop_assert!(shown.matches("\n = help: ").count() + shown.matches("  = help: ").count() >= 1);
    prop_assert!(shown.lines().count() <= 7 * MAX_SHOWN + 1);
    prop_assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    Ok(())
}

fn judge(text: &str, sets: &[String]) -> Result<(), TestCaseError> {
    match Config::parse(&right("full.toml"), text.to_owned(), sets) {
        Ok(config) => prop_assert_eq!(config.spec.check(), Ok(())),
        Err(report) if sets.is_empty() => well_placed(text, &report)?,
        Err(report) => prop_assert!(!report.to_string().is_empty()),
    }
    Ok(())
}

/// Pieces that look like a configuration, so that random texts get past the first character.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n"),
        Just(" = "),
        Just("="),
        Just("."),
        Just("\""),
        Just("'"),
        Just("\"\"\""),
        Just("["),
        Just("]"),
        Just("[["),
        Just("]]"),
        Just("{"),
        Just("}"),
        Just(","),
        Just("#"),
        Just("\\"),
        Just("\r"),
        Just("\u{feff}"),
        Just("\u{1b}"),
        Just("é"),
        Just("name"),
        Just("machine"),
        Just("boot"),
        Just("console"),
        Just("io"),
        Just("net"),
        Just("[[net]]\n"),
        Just("[[disk]]\npath"),
        Just("\"disk.img\""),
        Just("forward"),
        Just("\"1 -> 2\""),
        Just("memory"),
        Just("kernel"),
        Just("modules"),
        Just("serial"),
        Just("\"vmlinuz\""),
        Just("\"512M\""),
        Just("\"G\""),
        Just("\"9é\""),
        Just("\"socket:x\""),
        Just("512"),
        Just("0x"),
        Just("-1"),
        Just("1e9"),
        Just("true"),
        Just("1979-05-27"),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// Replaces the characters `at..at + gone` of a text.
fn mutated(text: &str, at: usize, gone: usize, new: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let at = at % characters.len();
    let rest = characters.iter().skip(at + gone);
    characters
        .iter()
        .take(at)
        .copied()
        .chain(new.chars())
        .chain(rest.copied())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_judged_without_a_panic(text in any::<String>()) {
        judge(&text, &[])?;
    }

    #[test]
    fn any_pieces_are_judged_without_a_panic(text in pieces()) {
        judge(&text, &[])?;
    }

    #[test]
    fn any_set_is_judged_without_a_panic(sets in prop::collection::vec(prop_oneof![any::<String>(), pieces()], 1..4)) {
        judge(FULL, &sets)?;
    }

    #[test]
    fn any_mutation_of_a_right_file_is_right_or_has_its_mistakes_inside(
        edits in prop::collection::vec((any::<usize>(), 0usize..8, prop_oneof![any::<String>(), pieces()]), 1..4)
    ) {
        let mut text = FULL.to_owned();
        for (at, gone, new) in edits {
            text = mutated(&text, at, gone, &new);
            if text.is_empty() {
                text.push('\n');
            }
        }
        judge(&text, &[])?;
    }

    #[test]
    fn effective_configuration_is_a_right_file_of_the_same_machine(
        name in "[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,63}",
        pages in 256u64..1 << 20,
        cmdline in "[^\\x00]{0,60}",
        flat in any::<bool>(),
        engine in prop_oneof![Just("auto"), Just("kvm"), Just("bt"), Just("interp")],
        serial in prop_oneof![Just("stdio"), Just("pty"), Just("none"), Just("file:a b.log"), Just("socket:s")],
        spin in 0u32..=1000,
    ) {
        let boot = if flat { "boot.image='guest.bin'".into() } else {
            format!("boot.kernel = 'vmlinuz'\nboot.cmdline = {}", toml::Value::String(cmdline))
        };
        let text = format!("name = '{name}'\nmachine.memory = {}\n{boot}", pages * 4096);
        let sets = [
            format!("machine.engine={engine}"), format!("console.serial={serial}"), format!("io.spin_us={spin}"),
        ];
        let first = Config::parse(&right("x.toml"), text, &sets)
            .map_err(|report| TestCaseError::fail(report.to_string()))?;
        let effective = first.effective();
        let second = Config::parse(&right("x.toml"), effective.clone(), &[])
            .map_err(|report| TestCaseError::fail(format!("{report}\n{effective}")))?;
        prop_assert_eq!(first.spec, second.spec);
        prop_assert_eq!(first.host, second.host);
    }
}

#[test]
fn effective_configuration_of_every_right_file_is_the_same_machine() {
    for (name, text) in [
        ("full.toml", FULL),
        ("minimal.toml", include_str!("right/minimal.toml")),
        ("image.toml", include_str!("right/image.toml")),
    ] {
        let first = Config::parse(&right(name), text.to_owned(), &[]).unwrap();
        let second = Config::parse(&right(name), first.effective(), &[]).unwrap();
        assert_eq!((first.spec, first.host), (second.spec, second.host), "{name}");
    }
}

#[test]
fn a_large_file_of_mistakes_is_judged_in_bounded_time_and_text() {
    let distinct: String = (0..50_000).map(|n| format!("k{n}=1\n")).collect();
    let cases = [
        ("broken lines", "x=\n".repeat(300_000)),
        ("repeated section", "[machine]\n".repeat(100_000)),
        ("one long word", "a".repeat(1 << 20)),
        ("one long line of slips", format!("a = [{}", "1 ".repeat(500_000))),
        ("unknown keys", distinct.clone()),
        ("keys given twice", distinct.repeat(2)),
        (
            "unknown keys between broken lines",
            distinct.replace("\n", "\nx=\n"),
        ),
        ("deep nesting", "[".repeat(1 << 20)),
    ];
    for (name, text) in cases {
        let started = Instant::now();
        let report = Config::parse(Path::new("big.toml"), text, &[])
            .unwrap_err()
            .to_string();
        assert!(report.lines().count() <= 7 * MAX_SHOWN + 1, "{name}");
        // Generous, for a busy machine: the point is that no case is quadratic in the file.
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{name}: {:?}",
            started.elapsed()
        );
    }
}

#[test]
fn command_lines_that_would_not_fit_the_start_record_are_refused() {
    let machine = |modules: usize, bytes: usize| {
        let module = format!("'guest.bin {}', ", "x".repeat(bytes));
        format!(
            "name = 'm'\nboot.kernel = 'vmlinuz'\nboot.modules = [{}]\n",
            module.repeat(modules)
        )
    };
    let judge = |modules, bytes| Config::parse(&right("x.toml"), machine(modules, bytes), &[]);
    assert!(judge(32, 1000).is_ok());
    for (modules, bytes, words) in [
        (32, 2000, "come to"),
        (33, 10, "33 modules"),
        (1, 2040, "2050 bytes"),
    ] {
        let report = judge(modules, bytes).unwrap_err().to_string();
        assert!(
            report.contains(words) && report.contains("boot.modules"),
            "{report}"
        );
    }
}
