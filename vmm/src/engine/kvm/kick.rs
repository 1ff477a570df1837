//! Getting a running vCPU out: kicks from other threads, and the alarm clock.
//!
//! Both set `immediate_exit` in the page shared with the kernel and send [`signal`] to the vCPU's thread. The flag is
//! cleared at one place only, when `run` returns [`Exit::Kicked`](crate::engine::Exit::Kicked), so each kick is
//! answered by a `Kicked` after it (several may share one). Windows, and why each is closed:
//!
//! 1. *Kick before `run` has started*: the flag is up; KVM_RUN looks at it first and returns EINTR.
//! 2. *Kick between `run`'s announcement ([`Kicker::enter`]) and KVM_RUN's look*: as 1; the signal interrupts nothing.
//! 3. *Kick after KVM_RUN's look, before guest code*: the kernel checks for signals with interrupts off right before
//!    entry, and the signal is pending.
//! 4. *Kick while guest code runs*: the signal's IPI makes the processor exit.
//! 5. *Kick between KVM_RUN's return and the end of `run`*: the flag stays up for the next `run`, as 1, unless this
//!    one returns `Kicked`, and then it is answered.
//! 6. *The kicker reads "not running" while the vCPU enters*: flag store and thread load here, thread store and flag
//!    look there, all sequentially consistent: at least one side sees the other.
//! 7. *A second kick while the flag is up*: the first kicker will have sent its signal or seen nobody running; nothing
//!    to do. This also bounds the queue of pending signals.
//! 8. *The thread has ended and its id is another thread's*: that one runs an empty handler. Harmless.
//! 9. *The alarm rings outside KVM_RUN*: the handler itself raises the flag; then as 1.
//!
//! The signal can interrupt other blocking calls of the vCPU thread (EINTR); whoever waits there must look up anyway.
#![allow(
    unsafe_code,
    reason = "signals to one thread and a timer that signals a thread have no safe wrapper for real-time signals"
)]

use super::run_page::Mapping;
use crate::engine::{EngineError, Kick};
use nix::unistd::{Pid, getpid, gettid};
use std::io;
use std::mem::zeroed;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The signal that gets a vCPU thread out of KVM_RUN: the first real-time one, which nothing else here uses.
pub(super) fn signal() -> libc::c_int {
    libc::SIGRTMIN()
}

/// The kick handle of one vCPU.
pub(super) struct Kicker {
    page: Arc<Mapping>,
    process: Pid,
    /// Thread inside `run`, 0 for none.
    running: AtomicI32,
}

impl Kicker {
    /// Installs the signal's handler (once in the process), unblocks it in the calling thread, the vCPU's.
    pub(super) fn new(page: Arc<Mapping>) -> Result<Self, EngineError> {
        install_handler()?;
        unblock()?;
        Ok(Self {
            page,
            process: getpid(),
            running: AtomicI32::new(0),
        })
    }

    /// `run` begins, on this thread.
    pub(super) fn enter(&self, thread: Pid) {
        self.running.store(thread.as_raw(), Ordering::SeqCst);
    }

    /// KVM_RUN is over.
    pub(super) fn leave(&self) {
        self.running.store(0, Ordering::SeqCst);
    }

    /// Takes the kicks so far; true if there were any.
    pub(super) fn take(&self) -> bool {
        self.page.immediate_exit().swap(0, Ordering::SeqCst) != 0
    }

    /// Raises the flag without a signal, from the vCPU's own thread: the next KVM_RUN only finishes what is open.
    pub(super) fn raise(&self) {
        self.page.immediate_exit().store(1, Ordering::SeqCst);
    }
}

impl Kick for Kicker {
    fn kick(&self) {
        if self.page.immediate_exit().swap(1, Ordering::SeqCst) != 0 {
            return; // window 7
        }
        let thread = self.running.load(Ordering::SeqCst);
        if thread != 0 {
            // SAFETY: tgkill touches no memory. A thread that is gone gives ESRCH: then nobody has to be kicked.
            unsafe { libc::syscall(libc::SYS_tgkill, self.process.as_raw(), thread, signal()) };
        }
    }
}

/// One timer that rings on the vCPU's thread.
///
/// A POSIX timer with SIGEV_THREAD_ID: the timer interrupt queues the signal straight to the thread. The alternative,
/// a timerfd and a thread that kicks, costs a wake-up across cores (about 40 us on our hosts) and a signal (11 us) on
/// top. Measured there: `run` returns 15 us after the time asked for (13 to 21); arming is one system call, 0.6 us, and
/// none, 0.06 us, where the clock is set right already.
pub(super) struct Alarm {
    timer: libc::timer_t,
    /// When it rings.
    armed: Option<Instant>,
    /// The flag the handler raises lives here.
    _page: Arc<Mapping>,
}

/// An alarm this much before the time asked for, or [`LATE`] after, is left as it is: callers compute "from now" anew
/// before each run, and get the same instant but for the clock's noise. An early ring costs one exit.
const EARLY: Duration = Duration::from_micros(10);
/// Far below what a timer interrupt is late by itself.
const LATE: Duration = Duration::from_micros(1);

impl Alarm {
    /// A silent alarm for the calling thread. The handler must be installed ([`Kicker::new`]).
    pub(super) fn new(page: Arc<Mapping>) -> Result<Self, EngineError> {
        // SAFETY: sigevent is plain data for which zero is a value.
        let mut event: libc::sigevent = unsafe { zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal();
        event.sigev_notify_thread_id = gettid().as_raw();
        event.sigev_value.sival_ptr = page.immediate_exit().as_ptr().cast();
        let mut timer = null_mut();
        // SAFETY: both pointers are to live locals.
        let made = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) };
        check("making the vCPU's timer", made)?;
        Ok(Self {
            timer,
            armed: None,
            _page: page,
        })
    }

    /// Rings `after` from now at the latest, once; `None` silences.
    pub(super) fn set(&mut self, after: Option<Duration>) {
        let Some(after) = after else {
            if self.armed.take().is_some() {
                self.settime(Duration::ZERO);
            }
            return;
        };
        let now = Instant::now();
        let Some(due) = now.checked_add(after) else {
            return self.set(None); // beyond what the clock can tell: never
        };
        let right_already = self.armed.is_some_and(|armed| {
            armed > now && armed <= due + LATE && due.saturating_duration_since(armed) <= EARLY
        });
        if !right_already {
            self.armed = Some(due);
            // Zero would silence it.
            self.settime(after.max(Duration::from_nanos(1)));
        }
    }

    fn settime(&mut self, after: Duration) {
        // SAFETY: itimerspec is plain data for which zero is a value.
        let mut spec: libc::itimerspec = unsafe { zeroed() };
        spec.it_value.tv_sec = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
        spec.it_value.tv_nsec = after.subsec_nanos().into();
        // SAFETY: the timer is ours and alive; the specification is a live local. It cannot fail with those.
        unsafe { libc::timer_settime(self.timer, 0, &spec, null_mut()) };
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: the timer is ours, deleted once, here. A signal it has queued already is delivered to this very
        // thread (an engine does not move between threads) at the latest on return from this call, the signal
        // being unblocked here; so no handler sees the page after its last owner is gone.
        unsafe { libc::timer_delete(self.timer) };
    }
}

fn check(what: &'static str, result: libc::c_int) -> Result<(), EngineError> {
    match result {
        0 => Ok(()),
        _ => Err(EngineError::Host {
            what,
            source: io::Error::last_os_error(),
        }),
    }
}

/// Runs on the vCPU's thread, at any instruction: one atomic store at most.
extern "C" fn on_signal(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler. SI_TIMER with our signal comes from an
    // `Alarm` only, whose value is the address of a live AtomicU8 (see its Drop).
    unsafe {
        if (*info).si_code == libc::SI_TIMER {
            let flag = (*info).si_value().sival_ptr;
            AtomicU8::from_ptr(flag.cast()).store(1, Ordering::SeqCst);
        }
    }
}

fn install_handler() -> Result<(), EngineError> {
    static INSTALLED: OnceLock<i32> = OnceLock::new();
    let errno = *INSTALLED.get_or_init(|| {
        // SAFETY: sigaction is plain data for which zero is a value (empty mask, no flags).
        let mut action: libc::sigaction = unsafe { zeroed() };
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        // SAFETY: the handler is async-signal-safe (one atomic store); the action is a live local.
        match unsafe { libc::sigaction(signal(), &action, null_mut()) } {
            0 => 0,
            _ => io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL),
        }
    });
    match errno {
        0 => Ok(()),
        errno => Err(EngineError::Host {
            what: "installing the kick signal's handler",
            source: io::Error::from_raw_os_error(errno),
        }),
    }
}

fn unblock() -> Result<(), EngineError> {
    // SAFETY: sigset_t is plain data, initialized by sigemptyset; all pointers are to live locals.
    let errno = unsafe {
        let mut set: libc::sigset_t = zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal());
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, null_mut())
    };
    match errno {
        0 => Ok(()),
        errno => Err(EngineError::Host {
            what: "unblocking the kick signal",
            source: io::Error::from_raw_os_error(errno),
        }),
    }
}
