//! The configuration and the command line through the real binary: what a person sees for a wrong file, a wrong
//! `--set`, a question to `explain`, and what `config` prints for a right file.
//!
//! `wrong/*.toml` holds one mistake (or one family of them) per file; the snapshot of the same name is what the user
//! reads. Bless a wanted change with `cargo insta review`, or by running the tests with `INSTA_UPDATE=always`.

use assert_cmd::Command;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

struct Said {
    status: i32,
    out: String,
    err: String,
}

/// Runs the binary in a folder of this crate's tests, and takes that folder's own path out of what it says.
fn vmapp(name: &str, args: &[&str]) -> Said {
    let folder = folder(name);
    let mut command = Command::cargo_bin("vmapp").unwrap();
    // The width of a terminal must not decide what help looks like.
    let output = command
        .current_dir(&folder)
        .env_remove("COLUMNS")
        .args(args)
        .output()
        .unwrap();
    let plain = |bytes: Vec<u8>| {
        String::from_utf8(bytes)
            .unwrap()
            .replace(folder.to_str().unwrap(), "[folder]")
    };
    Said {
        status: output.status.code().unwrap(),
        out: plain(output.stdout),
        err: plain(output.stderr),
    }
}

fn machines(name: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    names.sort();
    names
}

#[test]
fn every_wrong_file_is_refused_with_place_and_fix() {
    let files = machines("wrong");
    assert!(files.len() >= 20, "only {} wrong files", files.len());
    for file in files {
        let said = vmapp("wrong", &["check", &file]);
        assert_eq!(said.status, 2, "{file}");
        assert_eq!(said.out, "", "{file}");
        assert!(
            said.err.contains(&format!("--> {file}:")),
            "{file} has no place:\n{}",
            said.err
        );
        assert_eq!(
            said.err.matches("error: ").count(),
            said.err.matches(" = help: ").count(),
            "{file}: every error says what to write"
        );
        insta::assert_snapshot!(format!("wrong_{}", file.trim_end_matches(".toml")), said.err);
    }
}

#[test]
fn run_and_config_refuse_a_wrong_file_as_check_does() {
    let check = vmapp("wrong", &["check", "unknown_key.toml"]);
    for command in ["run", "config"] {
        let said = vmapp("wrong", &[command, "unknown_key.toml"]);
        assert_eq!(
            (said.status, said.out, said.err),
            (2, String::new(), check.err.clone())
        );
    }
}

#[test]
fn a_wrong_set_is_shown_with_its_number_and_text() {
    let sets = [
        ("size", "machine.memory=512Q"),
        ("no_equals", "machine.memory"),
        ("empty_key", "=5"),
        ("unknown_key", "machine.memroy=1G"),
        ("leaf_only", "memory=1G"),
        ("section_only", "machine=1G"),
        ("unknown_all", "usb.tablet=true"),
        ("unclosed_string", "boot.cmdline=\"quiet"),
        ("missing_value", "io.spin_us="),
        ("wrong_type", "io.spin_us=fast"),
        ("out_of_range", "machine.debug_exit=0x10000"),
        ("element", "boot.modules=[\"server.elf\", \"gone.elf\"]"),
        ("device_without_number", "net.model=lance"),
        ("device_beyond_the_next", "net.1.model=lance"),
        ("device_key", "net.0.modle=lance"),
        ("device_value", "net.0.mac=52:54:00"),
        ("no_effect", "net.0.tap=tap0"),
        ("conflict", "boot.image=guest.bin"),
        ("two_lines", "name=a\nb"),
        ("missing_file", "boot.kernel=vmlinux"),
    ];
    let mut all = String::new();
    for (name, set) in sets {
        let said = vmapp(
            "right",
            &["check", "minimal.toml", "--set", "machine.cpus=1", "--set", set],
        );
        assert_eq!(said.status, 2, "{name}");
        assert!(
            said.err.contains("--> --set #2, column "),
            "{name}:\n{}",
            said.err
        );
        all.push_str(&format!("### {name}\n{}\n", said.err));
    }
    insta::assert_snapshot!("set", all);
}

#[test]
fn mistakes_of_the_file_come_before_those_of_set_in_order() {
    let sets = ["--set", "machine.cpus=9", "--set", "boot.initrd=gone.img"];
    let said = vmapp(
        "wrong",
        &[&["check", "choice_misspelled.toml"], &sets[..]].concat(),
    );
    let places: Vec<&str> = said.err.lines().filter(|line| line.contains("--> ")).collect();
    let expected = [
        "choice_misspelled.toml:4:",
        "choice_misspelled.toml:5:",
        "choice_misspelled.toml:11:",
        "--set #1,",
        "--set #2,",
    ];
    assert_eq!(places.len(), expected.len(), "{places:?}");
    assert!(
        places
            .iter()
            .zip(expected)
            .all(|(place, start)| place.contains(start)),
        "{places:?}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_a_configuration_error() {
    let large = tempfile::NamedTempFile::new().unwrap();
    large
        .as_file()
        .set_len(vmapp::config::MAX_FILE_BYTES + 1)
        .unwrap();
    let large = large.path().to_str().unwrap();
    for (file, words) in [
        (
            "no-such.toml",
            "cannot read no-such.toml: No such file or directory",
        ),
        ("../right", "../right is a directory"),
        (large, "is longer than 1 MiB"),
        ("/dev/zero", "/dev/zero is longer than 1 MiB"),
    ] {
        let said = vmapp("right", &["check", file]);
        assert_eq!(said.status, 2, "{file}");
        assert!(said.err.contains(words), "{file}: {}", said.err);
        assert!(said.err.contains(" = help: "), "{file}: {}", said.err);
    }
}

#[test]
fn a_right_file_is_checked_in_silence() {
    for file in machines("right") {
        let said = vmapp("right", &["check", &file]);
        assert_eq!(
            (said.status, said.out.as_str(), said.err.as_str()),
            (0, "", ""),
            "{file}"
        );
    }
}

#[test]
fn effective_configuration_names_every_key_and_where_its_value_comes_from() {
    for file in machines("right") {
        let said = vmapp(
            "right",
            &[
                "config",
                &file,
                "--set",
                "machine.memory=64M",
                "--set",
                "name=over there",
            ],
        );
        // A name with a space: not right, so nothing is printed but the error.
        assert_eq!((said.status, said.out.as_str()), (2, ""), "{file}");
        let said = vmapp(
            "right",
            &[
                "config",
                &file,
                "--set",
                "machine.memory=64M",
                "--set",
                "name=2024",
            ],
        );
        assert_eq!((said.status, said.err.as_str()), (0, ""), "{file}");
        insta::assert_snapshot!(format!("effective_{}", file.trim_end_matches(".toml")), said.out);
    }
}

#[test]
fn explain_tells_keys_sections_and_all() {
    for (name, args, status) in [
        ("all", &["explain"][..], 0),
        ("key", &["explain", "machine.memory"], 0),
        ("leaf", &["explain", "spin_us"], 0),
        ("section", &["explain", "io"], 0),
        ("engine", &["explain", "engine"], 0),
        ("not_yet", &["explain", "boot.firmware"], 0),
        ("devices", &["explain", "net"], 0),
        ("misspelled", &["explain", "machine.memroy"], 2),
    ] {
        let said = vmapp("right", args);
        assert_eq!(said.status, status, "{name}");
        insta::assert_snapshot!(format!("explain_{name}"), said.out + &said.err);
    }
}

#[test]
fn help_and_usage_errors() {
    let said = vmapp("right", &["run", "--help"]);
    assert_eq!((said.status, said.err.as_str()), (0, ""));
    insta::assert_snapshot!("help_run", said.out);
    insta::assert_snapshot!("help", vmapp("right", &["--help"]).out);
    let version = vmapp("right", &["--version"]);
    assert_eq!(
        (version.status, version.out),
        (0, format!("vmapp {}\n", env!("CARGO_PKG_VERSION")))
    );
    for wrong in [
        &[][..],
        &["start"],
        &["run"],
        &["run", "a", "b"],
        &["run", "a", "--log", "xml"],
        &["stop"],
        &["fault"],
        &["fault", "demo"],
        &["fault", "demo", "--list"],
        &["fault", "demo", "explode"],
    ] {
        assert_eq!(vmapp("right", wrong).status, 2, "{wrong:?}");
    }
}

#[test]
fn readme_holds_the_table_of_keys_as_explain_prints_it() {
    let readme = include_str!("../README.md");
    let table = vmapp("right", &["explain", "--markdown"]).out;
    assert!(
        readme.contains(&table),
        "paste the output of `vmapp explain --markdown` into vmapp/README.md:\n{table}"
    );
}

#[test]
fn faults_are_explained_and_the_readme_holds_their_tables() {
    insta::assert_snapshot!("fault_list", vmapp("right", &["fault", "--list"]).out);
    insta::assert_snapshot!("help_fault", vmapp("right", &["fault", "--help"]).out);
    insta::assert_snapshot!(
        "explain_faults",
        vmapp("right", &["explain", "faults.inject"]).out
    );
    let readme = include_str!("../README.md");
    let table = vmapp("right", &["fault", "--list", "--markdown"]).out;
    assert!(
        readme.contains(&table),
        "paste the output of `vmapp fault --list --markdown` into vmapp/README.md:\n{table}"
    );
}
