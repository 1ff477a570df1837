//! Landlock with no exception: no path can be opened, made, removed or run, whoever the worker is.
//!
//! Beside an empty root it looks superfluous. It holds where namespaces are refused, and it holds for descriptors of
//! folders, should one ever slip in.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError,
    RulesetStatus, Scope,
};

/// The newest interface this code was tried on; an older kernel enforces what it has. TCP is known from 4 on (Linux
/// 6.7), signals and abstract Unix sockets from 6 on (6.12).
const NEWEST: ABI = ABI::V7;

/// Restricts this thread and those it starts. With `network`, TCP connections may be made, and still no port bound.
/// Returns what the host lacks, in words.
pub(super) fn restrict(network: bool) -> Option<String> {
    match try_restrict(network) {
        Ok(RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced) => None,
        Ok(RulesetStatus::NotEnforced) => Some(
            "no Landlock: this kernel has none (Linux 5.13 and later do), or leaves it off (add landlock to the lsm= \
             boot parameter)"
                .to_owned(),
        ),
        Err(error) => Some(format!(
            "no Landlock: {error} (in a container: a seccomp profile that lets landlock_restrict_self through)"
        )),
    }
}

fn try_restrict(network: bool) -> Result<RulesetStatus, RulesetError> {
    let tcp = if network {
        AccessNet::BindTcp.into()
    } else {
        AccessNet::from_all(NEWEST)
    };
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(tcp)?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    Ok(rules.restrict_self()?.ruleset)
}
