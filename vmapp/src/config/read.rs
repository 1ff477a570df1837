//! One value to one field: type, form and range by its row's [`Kind`].
//!
//! A value is stored into a blank [`Draft`] first and that machine put through [`MachineSpec::check`]: what the vmm
//! would refuse is refused here, at the key's own place, and no wrong key hides another.
//!
//! [`MachineSpec::check`]: shared::spec::MachineSpec::check

use super::device::{self, Forward, MAX_FORWARDS};
use super::draft::{CONSOLE_FORMS, ConsoleBackend, Draft, Module};
use super::gather::Entry;
use super::nearest::nearest;
use super::paths;
use super::report::{Findings, quoted};
use super::schema::{Choice, Kind, Row, in_units};
use crate::fault::spec::Spec;
use shared::msg::fault::{Fault, MAX_ORDERS};
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeInteger, DeValue};

/// Stores an accepted value.
type Store = Box<dyn Fn(&mut Draft)>;

/// A refused value: the wrong part, what is wrong, what to write.
struct Wrong {
    span: Range<usize>,
    message: String,
    help: String,
}

impl Wrong {
    fn new(span: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
            help: help.into(),
        }
    }
}

/// Reads one entry into the draft, or adds what is wrong with it. Paths start at `folder`.
pub fn entry(entry: &Entry<'_>, folder: &Path, draft: &mut Draft, findings: &mut Findings) {
    if let Kind::NotYet(why, instead) = &entry.row.kind {
        return findings.add(entry.key.clone(), *why, *instead);
    }
    match accept(entry.row, &entry.value, folder) {
        Ok(store) => store(draft),
        Err(all) => {
            for wrong in all {
                findings.add(entry.place(wrong.span), wrong.message, wrong.help);
            }
        }
    }
}

/// Stores a row's default, given as TOML. Defaults are right: a test reads them all.
pub fn default(row: &Row, text: &str, draft: &mut Draft) {
    if let Ok(value) = DeValue::parse(text)
        && let Ok(store) = form(row, &value, Path::new("."))
    {
        store(draft);
    }
}

fn accept(row: &Row, value: &Spanned<DeValue<'_>>, folder: &Path) -> Result<Store, Vec<Wrong>> {
    let store = form(row, value, folder)?;
    let mut probe = Draft::blank();
    probe.open(row.section());
    store(&mut probe);
    if let Err(error) = probe.spec().check() {
        return Err(Wrong::new(value.span(), error.to_string(), write_example(row)).into());
    }
    Ok(store)
}

/// Type, form and range of one value.
fn form(row: &Row, value: &Spanned<DeValue<'_>>, folder: &Path) -> Result<Store, Vec<Wrong>> {
    match &row.kind {
        &Kind::Text(store) => {
            let text = string(row, value)?.to_owned();
            Ok(Box::new(move |draft| store(draft, text.clone())))
        }
        &Kind::Size { min, max, store } => {
            let bytes = size(row, value, min, max)?;
            Ok(Box::new(move |draft| store(draft, bytes)))
        }
        &Kind::Integer { min, max, store } => {
            let number = integer(row, value, min, max)?;
            Ok(Box::new(move |draft| store(draft, number)))
        }
        &Kind::Boolean(store) => match value.get_ref().as_bool() {
            Some(on) => Ok(Box::new(move |draft| store(draft, on))),
            None => Err(wrong_type(row, value).into()),
        },
        &Kind::Port(store) => {
            let port = integer(row, value, 0, u16::MAX.into())?;
            // In range by the line above.
            Ok(Box::new(move |draft| store(draft, port as u16)))
        }
        &Kind::Choice(words) => Ok(Box::new(choice(row, value, words)?)),
        &Kind::Path(store) => {
            let path = named(row, value, |text| paths::readable_file(folder, text))?;
            Ok(Box::new(move |draft| store(draft, path.clone())))
        }
        &Kind::Output(store) => {
            let path = named(row, value, |text| paths::output_file(folder, text))?;
            Ok(Box::new(move |draft| store(draft, path.clone())))
        }
        &Kind::Image(store) => {
            let image = named(row, value, |text| paths::disk_image(folder, text))?;
            Ok(Box::new(move |draft| store(draft, image.clone())))
        }
        &Kind::Interface(store) => {
            let name = named(row, value, device::interface)?;
            Ok(Box::new(move |draft| store(draft, name.clone())))
        }
        &Kind::Mac(store) => {
            let mac = named(row, value, device::mac)?;
            Ok(Box::new(move |draft| store(draft, mac)))
        }
        &Kind::Network(store) => {
            let network = named(row, value, device::network)?;
            Ok(Box::new(move |draft| store(draft, network)))
        }
        &Kind::Forwards(store) => {
            let forwards = forwards(row, value)?;
            Ok(Box::new(move |draft| store(draft, forwards.clone())))
        }
        &Kind::Faults(store) => {
            let faults = faults(row, value)?;
            Ok(Box::new(move |draft| store(draft, faults.clone())))
        }
        &Kind::Modules(store) => {
            let modules = modules(row, value, folder)?;
            Ok(Box::new(move |draft| store(draft, modules.clone())))
        }
        &Kind::Console(store) => {
            let console = console(row, value, folder)?;
            Ok(Box::new(move |draft| store(draft, console.clone())))
        }
        &Kind::ControlKey(store) => {
            let key = control_key(row, value)?;
            Ok(Box::new(move |draft| store(draft, key)))
        }
        Kind::NotYet(why, instead) => Err(Wrong::new(value.span(), *why, *instead).into()),
    }
}

/// One wrong part is a list of one; an array may have more.
impl From<Wrong> for Vec<Wrong> {
    fn from(wrong: Wrong) -> Self {
        vec![wrong]
    }
}

fn write_example(row: &Row) -> String {
    format!("write {}", row.example_line())
}

fn wrong_type(row: &Row, value: &Spanned<DeValue<'_>>) -> Wrong {
    let found = match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a section",
    };
    let message = format!("`{}` takes {}, not {found}", row.key, row.kind.noun());
    Wrong::new(value.span(), message, write_example(row))
}

fn string<'v>(row: &Row, value: &'v Spanned<DeValue<'_>>) -> Result<&'v str, Wrong> {
    value.get_ref().as_str().ok_or_else(|| wrong_type(row, value))
}

/// The number, unless it is beyond any range or (as `0x` alone) no number at all.
fn parsed(integer: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn integer(row: &Row, value: &Spanned<DeValue<'_>>, min: u32, max: u32) -> Result<u32, Wrong> {
    let DeValue::Integer(integer) = value.get_ref() else {
        return Err(wrong_type(row, value));
    };
    parsed(integer)
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| {
            let message = format!(
                "`{}` takes {}, not {}",
                row.key,
                row.kind.range(),
                quoted(&integer.to_string())
            );
            Wrong::new(value.span(), message, write_example(row))
        })
}

fn size(row: &Row, value: &Spanned<DeValue<'_>>, min: u64, max: u64) -> Result<u64, Wrong> {
    let (bytes, written) = match value.get_ref() {
        DeValue::Integer(integer) => (parsed(integer), integer.to_string()),
        DeValue::String(text) => match with_unit(text) {
            Some(bytes) => (Some(bytes), text.to_string()),
            None => return Err(malformed_size(row, value.span(), text)),
        },
        _ => return Err(wrong_type(row, value)),
    };
    bytes
        .and_then(|bytes| u64::try_from(bytes).ok())
        .filter(|bytes| (min..=max).contains(bytes))
        .ok_or_else(|| {
            let (min, max) = (in_units(min), in_units(max));
            let message = format!("`{}` takes {min} to {max}, not {}", row.key, quoted(&written));
            Wrong::new(value.span(), message, write_example(row))
        })
}

/// Bytes of "512M"; numbers too large for any machine saturate.
fn with_unit(text: &str) -> Option<i128> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| i128::from(digits.parse::<u64>().unwrap_or(u64::MAX)) << shift)
}

fn malformed_size(row: &Row, span: Range<usize>, text: &str) -> Wrong {
    let message = format!("`{}`: \"{}\" is not a size", row.key, quoted(text));
    let digits: String = text
        .trim()
        .chars()
        .take_while(char::is_ascii_digit)
        .take(12)
        .collect();
    let unit = text.trim()[digits.len()..].trim_start().to_uppercase();
    let meant = ["K", "M", "G"]
        .into_iter()
        .find(|known| [*known, &format!("{known}B"), &format!("{known}IB")].contains(&unit.as_str()));
    let help = match meant {
        Some(unit) if !digits.is_empty() => format!("write \"{digits}{unit}\""),
        _ => format!("write a whole number with K, M or G: {}", row.example_line()),
    };
    Wrong::new(span, message, help)
}

fn choice(
    row: &Row,
    value: &Spanned<DeValue<'_>>,
    words: &'static [Choice],
) -> Result<fn(&mut Draft), Wrong> {
    let text = string(row, value)?;
    if let Some(&(_, store)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(store);
    }
    let all = words
        .iter()
        .map(|(word, _)| format!("\"{word}\""))
        .collect::<Vec<_>>()
        .join(" or ");
    let help = match nearest(text, words.iter().map(|(word, _)| *word)) {
        Some(word) => format!("did you mean \"{word}\"?"),
        None => write_example(row),
    };
    let message = format!("`{}` takes {all}, not \"{}\"", row.key, quoted(text));
    Err(Wrong::new(value.span(), message, help))
}

/// A string that must have a form, or name something that will do.
fn named<T>(
    row: &Row,
    value: &Spanned<DeValue<'_>>,
    form: impl FnOnce(&str) -> Result<T, (String, String)>,
) -> Result<T, Wrong> {
    form(string(row, value)?).map_err(|refusal| refused(row, value, refusal))
}

fn refused(row: &Row, value: &Spanned<DeValue<'_>>, (message, help): (String, String)) -> Wrong {
    Wrong::new(value.span(), format!("`{}`: {message}", row.key), help)
}

/// Every element of an array by itself, so that each wrong one is told.
fn each<T>(
    row: &Row,
    value: &Spanned<DeValue<'_>>,
    element: impl Fn(&Spanned<DeValue<'_>>) -> Result<T, Wrong>,
) -> Result<Vec<T>, Vec<Wrong>> {
    let DeValue::Array(array) = value.get_ref() else {
        return Err(wrong_type(row, value).into());
    };
    let mut right = Vec::new();
    let mut wrong = Vec::new();
    for part in array.iter() {
        match element(part) {
            Ok(part) => right.push(part),
            Err(error) => wrong.push(error),
        }
    }
    if wrong.is_empty() { Ok(right) } else { Err(wrong) }
}

fn forwards(row: &Row, value: &Spanned<DeValue<'_>>) -> Result<Vec<Forward>, Vec<Wrong>> {
    let forwards = each(row, value, |element| named(row, element, device::forward))?;
    if forwards.len() > MAX_FORWARDS {
        let message = format!(
            "`{}`: {} ways in, at most {MAX_FORWARDS}",
            row.key,
            forwards.len()
        );
        return Err(Wrong::new(value.span(), message, "remove some").into());
    }
    Ok(forwards)
}

fn faults(row: &Row, value: &Spanned<DeValue<'_>>) -> Result<Vec<Fault>, Vec<Wrong>> {
    let faults = each(row, value, |element| {
        named(row, element, |text| match text.parse() {
            Ok(Spec::Arm(fault)) => Ok(fault),
            Ok(Spec::Clear | Spec::List) => Err((
                "`clear` and `list` are for a VM that runs".to_owned(),
                "remove it".to_owned(),
            )),
            Err(error) => Err((error.to_string(), error.help())),
        })
    })?;
    if faults.len() > MAX_ORDERS {
        let message = format!("`{}`: {} faults, at most {MAX_ORDERS}", row.key, faults.len());
        return Err(Wrong::new(value.span(), message, "remove some").into());
    }
    Ok(faults)
}

fn modules(row: &Row, value: &Spanned<DeValue<'_>>, folder: &Path) -> Result<Vec<Module>, Vec<Wrong>> {
    each(row, value, |element| {
        let text = string(row, element)?;
        let file = text.split(' ').next().unwrap_or_default();
        Ok(Module {
            path: paths::readable_file(folder, file).map_err(|refusal| refused(row, element, refusal))?,
            cmdline: text.to_owned(),
        })
    })
}

fn console(row: &Row, value: &Spanned<DeValue<'_>>, folder: &Path) -> Result<ConsoleBackend, Wrong> {
    let text = string(row, value)?;
    let refuse = |refusal| refused(row, value, refusal);
    match text.split_once(':') {
        None if text == "stdio" => Ok(ConsoleBackend::Stdio),
        None if text == "pty" => Ok(ConsoleBackend::Pty),
        None if text == "none" => Ok(ConsoleBackend::None),
        Some(("socket", path)) => paths::new_socket(folder, path)
            .map(ConsoleBackend::Socket)
            .map_err(refuse),
        Some(("file", path)) => paths::output_file(folder, path)
            .map(ConsoleBackend::File)
            .map_err(refuse),
        _ => {
            let word = text.split(':').next().unwrap_or_default();
            let forms = CONSOLE_FORMS
                .iter()
                .map(|form| form.split(':').next().unwrap_or(form));
            let help = match nearest(word, forms) {
                Some("socket") => "did you mean \"socket:PATH\"? Write a path after the colon".into(),
                Some("file") => "did you mean \"file:PATH\"? Write a path after the colon".into(),
                Some(word) => format!("did you mean \"{word}\"?"),
                None => format!("write serial = \"stdio\", or one of {}", CONSOLE_FORMS.join(", ")),
            };
            let message = format!("`{}`: \"{}\" is not a console", row.key, quoted(text));
            Err(Wrong::new(value.span(), message, help))
        }
    }
}

fn control_key(row: &Row, value: &Spanned<DeValue<'_>>) -> Result<Option<u8>, Wrong> {
    let text = string(row, value)?;
    match text.strip_prefix("ctrl-").map(str::as_bytes) {
        // The control characters are the letters' last five bits (ECMA-48).
        Some(&[letter @ b'a'..=b'z']) => Ok(Some(letter & 0x1f)),
        None if text == "none" => Ok(None),
        _ => {
            let message = format!(
                "`{}` takes {}, not \"{}\"",
                row.key,
                row.kind.range(),
                quoted(text)
            );
            Err(Wrong::new(value.span(), message, write_example(row)))
        }
    }
}
