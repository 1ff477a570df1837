//! Filters of system calls, from the lists of [`super::allow`].
//!
//! A call outside its thread's list kills the process: one that tries is no worker any more, and a refusal it could
//! handle would only hide that. The supervisor sees SIGSYS and says so; the kernel's log names the call.
#![allow(unsafe_code, reason = "asking seccomp(2) what it can do has no safe wrapper")]

use super::allow::{Is, Row, lists};
use super::{JailError, Thread};
use nix::errno::Errno;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};
use std::collections::BTreeMap;

/// Whether this process can filter its calls.
pub(super) fn available() -> Result<(), Errno> {
    let action = libc::SECCOMP_RET_KILL_PROCESS;
    // SAFETY: reads one u32 from a live local.
    let asked = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            &raw const action,
        )
    };
    Errno::result(asked).map(drop)
}

/// In words, with the way out.
pub(super) fn refusal(errno: Errno) -> String {
    format!(
        "no filter of system calls: {} (a kernel with CONFIG_SECCOMP_FILTER has it, Linux 4.14 and later; in a container: a \
         profile that lets seccomp through)",
        errno.desc()
    )
}

/// From now on the calling thread, and those it starts, may make the calls on its list and no other.
pub(super) fn apply(thread: Thread) -> Result<(), JailError> {
    let program = compile(thread).map_err(|error| JailError::Filter(error.into()))?;
    apply_filter(&program).map_err(JailError::Filter)
}

fn compile(thread: Thread) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    // A call that one list allows whole stays so, whatever another says of its arguments.
    let rows = || lists(thread).into_iter().flatten();
    for row in rows() {
        let calls = rules.entry(row.number).or_default();
        if rows().all(|other| other.number != row.number || !other.when.is_empty()) {
            calls.extend(conditions(row)?);
        }
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?;
    filter.try_into()
}

fn conditions(row: &Row) -> Result<Vec<SeccompRule>, BackendError> {
    row.when
        .iter()
        .map(|all| {
            let conditions = all.iter().map(|is| condition(*is)).collect::<Result<_, _>>()?;
            SeccompRule::new(conditions)
        })
        .collect()
}

fn condition(is: Is) -> Result<SeccompCondition, BackendError> {
    use {SeccompCmpArgLen as Length, SeccompCmpOp as Op};
    let (argument, length, operator, value) = match is {
        Is::Equal(argument, value) => (argument, Length::Dword, Op::Eq, value),
        Is::Bits {
            argument,
            mask,
            value,
        } => (argument, Length::Dword, Op::MaskedEq(mask.into()), value),
        Is::OwnProcess(argument) => (argument, Length::Dword, Op::Eq, std::process::id()),
        Is::Null(argument) => (argument, Length::Qword, Op::Eq, 0),
    };
    SeccompCondition::new(argument, length, operator, value.into())
}
