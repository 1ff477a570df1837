//! The table against the roads that read it.

use super::*;
use crate::config::Config;
use shared::spec::{MAX_CMDLINE, MAX_MODULES, MAX_NAME};
use std::path::Path;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/right/vm.toml");

/// A machine with this one key, as TOML, beside what every machine must have and what the key needs.
fn machine_with(row: &Row, value: &str) -> Result<Config, String> {
    let mut text = String::new();
    if row.key != "name" {
        text.push_str("name = \"demo\"\n");
    }
    if !["boot.kernel", "boot.image"].contains(&row.key) {
        text.push_str("boot.kernel = \"vmlinuz\"\n");
    }
    if Section::find(row.section()).unwrap().is_list() {
        text.push_str(&format!("[[{}]]\n{} = {value}\n", row.section(), row.leaf()));
        if row.section() == "disk" && row.key != "disk.path" {
            text.push_str("path = \"disk.img\"\n");
        }
        text.push_str(match row.needs {
            Needs::Tap => "backend = \"tap\"\n",
            Needs::Nat => "backend = \"nat\"\n",
            Needs::Overlay => "mode = \"overlay\"\n",
            Needs::Nothing | Needs::Kernel => "",
        });
        let on_a_tap = row.needs == Needs::Tap || row.key == "net.backend" && value.contains("tap");
        if on_a_tap && row.key != "net.tap" {
            text.push_str("tap = \"tap0\"\n");
        }
    } else {
        text.push_str(&format!("{} = {value}\n", row.key));
    }
    Config::parse(Path::new(FOLDER), text, &[]).map_err(|report| report.to_string())
}

#[test]
fn every_default_is_right_and_changes_nothing() {
    for row in ROWS {
        if let Fallback::Is(text) = row.default {
            let named = machine_with(row, text).unwrap_or_else(|report| panic!("{report}"));
            // A key that is right and changes nothing, in the same section.
            let name = match row.section() {
                "net" if row.needs == Needs::Tap => ROWS.iter().find(|row| row.key == "net.tap").unwrap(),
                "net" => ROWS.iter().find(|row| row.key == "net.model").unwrap(),
                "disk" => ROWS.iter().find(|row| row.key == "disk.model").unwrap(),
                _ => &ROWS[0],
            };
            let silent = machine_with(name, name.example).unwrap_or_else(|report| panic!("{report}"));
            assert_eq!(
                (named.spec, named.host),
                (silent.spec, silent.host),
                "{}",
                row.key
            );
        }
    }
}

#[test]
fn every_example_is_right() {
    for row in ROWS.iter().filter(|row| !row.is_not_yet()) {
        machine_with(row, row.example).unwrap_or_else(|report| panic!("{report}"));
    }
}

#[test]
fn what_this_version_lacks_is_refused() {
    for row in ROWS.iter().filter(|row| row.is_not_yet()) {
        let report = machine_with(row, row.example).expect_err(row.key);
        assert!(report.contains("this version"), "{report}");
    }
}

#[test]
fn keys_are_unique_and_of_a_known_section() {
    for (index, row) in ROWS.iter().enumerate() {
        assert!(Section::find(row.section()).is_some(), "{}", row.key);
        assert!(
            ROWS[..index].iter().all(|other| other.key != row.key),
            "{}",
            row.key
        );
    }
}

#[test]
fn sizes_are_written_in_the_largest_whole_unit() {
    let cases = [
        (0, "0"),
        (1000, "1000"),
        (1 << 10, "1K"),
        (1 << 20, "1M"),
        (3 << 29, "1536M"),
        (1 << 40, "1024G"),
    ];
    for (bytes, text) in cases {
        assert_eq!(in_units(bytes), text);
    }
}

#[test]
fn limits_in_words_are_the_limits_of_the_specification() {
    let meaning = |key: &str| ROWS.iter().find(|row| row.key == key).unwrap().meaning;
    assert!(meaning("name").contains(&format!("1 to {MAX_NAME} ")));
    assert!(meaning("boot.cmdline").contains(&format!("at most {MAX_CMDLINE} bytes")));
    assert!(meaning("boot.modules").contains(&format!("at most {MAX_MODULES}.")));
}

#[test]
fn defaults_are_those_of_the_specification() {
    let draft = Draft::with_defaults();
    assert_eq!(draft.io, IoSpec::default());
    assert_eq!(draft.engine, EngineChoice::default());
    assert_eq!(draft.on_reset, OnReset::default());
}
