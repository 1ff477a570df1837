//! Choosing the engine: the one asked for, or the fastest that works; never silently another.
//!
//! Called once at start by the machine. An engine is one row of `ENGINES`.

use super::cpu_model::CpuModel;
use super::interp::engine::InterpEngine;
use super::interp::thunk;
use super::kvm::{KvmEngine, probe};
use super::soft::state_io::software_model;
use super::soft::system::host;
use super::{Engine, EngineError};
use crate::mem::GuestMemory;
use shared::spec::EngineChoice;
use std::sync::Arc;

/// What [`select`] found.
pub struct Selected {
    /// The engine, its vCPU in the RESET state, bound to the calling thread.
    pub engine: Box<dyn Engine>,
    /// The CPU it shows: the model asked for, less what it lacks.
    pub model: CpuModel,
    /// Why this engine and how fast it is: follows its name in the line every run begins with.
    pub why: String,
    /// What the guest has to do without on this host.
    pub warnings: Vec<String>,
}

/// Millions of instructions a second from which guest kernel code counts as native: silicon does thousands,
/// interpreters hundreds at best.
const NATIVE_MIPS: u32 = 1000;
/// What the interpreter does, or more, on every host known. Only compared with a KVM that interprets, which does less
/// than ten.
const INTERP_MIPS: u32 = 100;

type Make = fn(Arc<GuestMemory>, CpuModel) -> Result<Made, EngineError>;

/// An engine as its row makes it.
struct Made {
    engine: Box<dyn Engine>,
    model: CpuModel,
    warnings: Vec<String>,
    /// For the line: what it is and how fast.
    about: String,
    /// Speed of guest kernel code, in millions of instructions a second.
    mips: u32,
}

/// The engines, in the order `auto` tries them: the first native one, else the fastest.
const ENGINES: &[(EngineChoice, Make)] =
    &[(EngineChoice::Kvm, make_kvm), (EngineChoice::Interp, make_interp)];

/// Makes the engine for a machine. Errors name the engine and what would help.
pub fn select(
    choice: EngineChoice,
    memory: &Arc<GuestMemory>,
    model: &CpuModel,
) -> Result<Selected, EngineError> {
    let make = |make: &Make| make(Arc::clone(memory), model.clone());
    if choice != EngineChoice::Auto {
        let row = ENGINES.iter().find(|(row, _)| *row == choice);
        let (_, row) = row.ok_or_else(|| not_in_this_version(choice))?;
        return make(row).map(|made| made.selected("as configured"));
    }
    let mut best: Option<Made> = None;
    let mut slower = Vec::new();
    for (_, row) in ENGINES {
        match make(row) {
            Ok(made) => {
                let native = made.mips >= NATIVE_MIPS;
                if best.as_ref().is_none_or(|best| made.mips > best.mips) {
                    slower.extend(best.replace(made).map(|made| made.why_not()));
                } else {
                    slower.push(made.why_not());
                }
                if native {
                    break;
                }
            }
            Err(error) => slower.push(error.to_string()),
        }
    }
    let why = if slower.is_empty() {
        "the fastest here".to_owned()
    } else {
        slower.join("; ")
    };
    best.map(|made| made.selected(&why))
        .ok_or(EngineError::Unavailable {
            engine: "auto",
            why: format!("no engine works here: {why}"),
        })
}

impl Made {
    /// Another engine was faster.
    fn why_not(&self) -> String {
        format!("{} is {}", self.engine.name(), self.about)
    }

    fn selected(self, why: &str) -> Selected {
        Selected {
            why: format!("{}; {why}", self.about),
            engine: self.engine,
            model: self.model,
            warnings: self.warnings,
        }
    }
}

fn not_in_this_version(choice: EngineChoice) -> EngineError {
    let engine = match choice {
        EngineChoice::Bt => "bt",
        EngineChoice::Interp => "interp",
        EngineChoice::Kvm => "kvm",
        EngineChoice::Auto => "auto",
    };
    EngineError::Unavailable {
        engine,
        why: "not in this version; write engine = \"interp\", \"kvm\" or \"auto\"".to_owned(),
    }
}

fn make_kvm(memory: Arc<GuestMemory>, model: CpuModel) -> Result<Made, EngineError> {
    let kvm = probe::open()?;
    let mips = probe::kernel_mode_mips(&kvm, &model)?;
    let engine = KvmEngine::new(&kvm, memory, model)?;
    Ok(Made {
        model: engine.model().clone(),
        warnings: engine.warnings().to_vec(),
        engine: Box::new(engine),
        about: describe(mips),
        mips,
    })
}

fn make_interp(memory: Arc<GuestMemory>, model: CpuModel) -> Result<Made, EngineError> {
    let asked = model.clone();
    let mut model = software_model(model);
    model.set_tsc_khz(host::tsc_khz());
    let lost = asked.lost_in(&model);
    if !lost.is_empty() {
        tracing::debug!("interp shows a CPU without {}", lost.join(", "));
    }
    // Now: the jail lets nobody make memory that can be run.
    let warnings = if thunk::prepare() {
        Vec::new()
    } else {
        vec!["this host refuses memory for native code: no x87, MMX or SSE instruction will run".to_owned()]
    };
    Ok(Made {
        engine: Box::new(InterpEngine::new(memory, model.clone())),
        model,
        warnings,
        about: "decoded-trace interpreter".to_owned(),
        mips: INTERP_MIPS,
    })
}

fn describe(mips: u32) -> String {
    let speed = thousands(mips);
    if mips >= NATIVE_MIPS {
        format!("hardware virtualization; {speed} MIPS in guest kernel mode")
    } else {
        format!("present, but interprets guest kernel code: {speed} MIPS")
    }
}

/// 3100 as "3 100".
fn thousands(number: u32) -> String {
    let digits = number.to_string();
    let mut spaced = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            spaced.push(' ');
        }
        spaced.push(digit);
    }
    spaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_read_well() {
        for (mips, text) in [
            (2, "present, but interprets guest kernel code: 2 MIPS"),
            (3100, "hardware virtualization; 3 100 MIPS in guest kernel mode"),
        ] {
            assert_eq!(describe(mips), text);
        }
        assert_eq!(thousands(1_234_567), "1 234 567");
        assert_eq!(thousands(999), "999");
    }

    #[test]
    fn engines_that_are_not_there_are_refused_by_name() {
        let memory = Arc::new(GuestMemory::new(1 << 20).unwrap());
        let error = select(EngineChoice::Bt, &memory, &CpuModel::default_level())
            .err()
            .unwrap();
        assert!(
            error.to_string().starts_with("bt: not in this version"),
            "{error}"
        );
    }

    #[test]
    fn the_reason_says_what_keeps_it_from_kvm() {
        let memory = Arc::new(GuestMemory::new(1 << 20).unwrap());
        let selected = select(EngineChoice::Interp, &memory, &CpuModel::default_level()).unwrap();
        assert_eq!(selected.why, "decoded-trace interpreter; as configured");
        assert!(selected.model.tsc_khz() > 100_000);
        let selected = select(EngineChoice::Auto, &memory, &CpuModel::default_level()).unwrap();
        let why = &selected.why;
        match selected.engine.name() {
            "kvm" => assert!(why.starts_with("hardware"), "{why}"),
            "interp" => assert!(why.contains("kvm"), "{why}"),
            other => panic!("{other}: {why}"),
        }
    }
}
