//! The house rules that no compiler or lint checks, as tests over the source text of the whole tree.
//!
//! Each rule is a test that lists every offender. An exception is a line in a table here, where a reader sees it.

use shared::abi::counters::{AppCounter, VmmCounter};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::Path;

/// The folders with Rust in them.
const FOLDERS: &[&str] = &["shared", "vmdriver-shim", "vmm", "vmapp", "tests", "bench"];
/// Where `unsafe` may be allowed: files, and folders with all below them. The architecture's list, and the tests that
/// need loom's cells or run code on the host's CPU.
const UNSAFE: &[&str] = &[
    "shared/src/mem.rs",
    "shared/tests/loom.rs",
    "vmm/tests/differential/",
    "vmdriver-shim/src/",
    "vmdriver-shim/tests/jail.rs",
    "vmdriver-shim/tests/walls/",
    "vmm/src/boot/bios/rom.rs",
    "vmm/src/engine/",
    "vmm/src/mem/",
];
const MOST_LINES: usize = 800;
/// Files that are one table, which may be longer. None is yet.
const TABLES: &[&str] = &[];

/// In two pieces, so that this file does not break its own rules.
const UNSAFE_LINT: &str = concat!("unsafe", "_code");
const UNFINISHED: &[&str] = &[
    concat!("to", "do!"),
    concat!("un", "implemented!"),
    concat!("d", "bg!"),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
];

struct Source {
    /// From the root of the tree.
    path: String,
    text: String,
}

impl Source {
    /// Whether it is linked into the product.
    fn is_product(&self) -> bool {
        let of_the_product = ["vmdriver-shim/src/", "vmm/src/", "vmapp/src/"];
        of_the_product.iter().any(|folder| self.path.starts_with(folder)) && !self.path.contains("tests")
    }
}

/// Every Rust file of the tree.
fn sources() -> Vec<Source> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<Source>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                walk(root, &path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root).unwrap().display().to_string();
                found.push(Source { path, text });
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for folder in FOLDERS {
        walk(root, &root.join(folder), &mut found);
    }
    assert!(found.len() > 100, "only {} files found", found.len());
    found
}

/// Fails with all offenders if there are any.
fn nobody<O: Debug>(offenders: impl IntoIterator<Item = O>, does: &str) {
    let offenders: Vec<String> = offenders
        .into_iter()
        .map(|offender| format!("{offender:?}"))
        .collect();
    assert!(offenders.is_empty(), "{does}:\n{}", offenders.join("\n"));
}

#[test]
fn unsafe_is_allowed_for_a_whole_file_with_a_reason_and_only_where_the_architecture_says() {
    let permission = format!("#![allow({UNSAFE_LINT},reason=\"");
    let offends = |source: &Source| {
        let code = source
            .text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let code: String = code.flat_map(str::split_whitespace).collect();
        let mentions = code.matches(UNSAFE_LINT).count();
        let home = UNSAFE.iter().any(|home| source.path.starts_with(home));
        mentions > usize::from(home) || mentions != code.matches(&permission).count()
    };
    let sources = sources();
    nobody(
        sources
            .iter()
            .filter(|source| offends(source))
            .map(|source| &source.path),
        "allows unsafe code in the wrong place, or without a reason",
    );
}

#[test]
fn a_file_is_one_idea_and_has_its_end_in_sight() {
    let sources = sources();
    let long = sources
        .iter()
        .filter(|source| source.text.lines().count() > MOST_LINES && !TABLES.contains(&source.path.as_str()));
    nobody(
        long.map(|source| &source.path),
        "longer than 800 lines and no table",
    );
}

#[test]
fn every_module_opens_with_what_it_is_for() {
    let sources = sources();
    let silent = sources.iter().filter(|source| !source.text.starts_with("//! "));
    nobody(
        silent.map(|source| &source.path),
        "does not begin with a module comment",
    );
}

#[test]
fn nothing_is_left_unfinished() {
    let sources = sources();
    let marks = sources.iter().flat_map(|source| {
        let marks = UNFINISHED.iter().filter(|mark| source.text.contains(**mark));
        marks.map(move |mark| (&source.path, mark))
    });
    nobody(marks, "left unfinished");
}

#[test]
fn the_table_of_bug_classes_names_tests_that_exist() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, table) = readme.split_once("## Bug classes").unwrap();
    let (table, _) = table.split_once("| variable |").unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).collect();
    assert!(rows.len() > 15, "only {} rows", rows.len());
    let sources = sources();
    let exists = |name: &str| {
        let function = format!("fn {name}(");
        let file = [format!("/{name}.rs"), format!("/{name}/mod.rs")];
        (sources.iter()).any(|source| {
            source.text.contains(&function) || file.iter().any(|file| source.path.ends_with(file))
        })
    };
    let named = rows.iter().flat_map(|row| row.split('`').skip(1).step_by(2));
    let missing = named.filter(|name| {
        let last = name.rsplit("::").next().unwrap_or(name);
        (last.contains('_') || name.contains("::")) && !last.contains(['/', '=']) && !exists(last)
    });
    nobody(missing, "named in tests/README.md, and not there");
}

#[test]
fn every_counter_is_counted_somewhere_in_the_product() {
    let mut sources = sources();
    sources.retain(Source::is_product);
    nobody(
        uncounted("VmmCounter", VmmCounter::ALL, &sources),
        "a counter of the vmm that stays zero",
    );
    nobody(
        uncounted("AppCounter", AppCounter::ALL, &sources),
        "a counter of vmapp that stays zero",
    );
}

/// The counters no file names, by the type's name or by what a `use` there calls it.
fn uncounted<'a, C: Debug>(of: &str, all: &'a [C], sources: &[Source]) -> impl Iterator<Item = &'a C> {
    let mut named = BTreeSet::new();
    for Source { text, .. } in sources {
        let alias = text.split_once(&format!("{of} as ")).map(|(_, rest)| word(rest));
        let path = format!("{}::", alias.unwrap_or(of));
        named.extend(text.split(&path).skip(1).map(|rest| word(rest).to_owned()));
    }
    all.iter()
        .filter(move |counter| !named.contains(&format!("{counter:?}")))
}

/// The identifier a text begins with.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    end.map_or(text, |end| &text[..end])
}
