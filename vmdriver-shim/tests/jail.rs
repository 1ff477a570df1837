//! The jail tried from inside: in each role and each thread's part, calls that must not work, and those that must.
//!
//! Not under the test harness: a process is jailed once and has one thread then, so this program is its own prisoner,
//! started again for each attempt. The jail of the real workers is read from outside in the product's tests.
#![allow(
    unsafe_code,
    reason = "asks for memory of kinds that have no safe wrapper, and sends to an address that is none"
)]

mod walls;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, fcntl, open, openat};
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::mman::{MRemapFlags, MapFlags, ProtFlags, mmap_anonymous, mremap};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockType, SockaddrIn, bind, listen, sendmsg,
};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, Uid, UnlinkatFlags, getppid};
use std::ffi::CStr;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio, exit};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::time::Duration;
use vmdriver_shim::doorbell::Doorbell;
use vmdriver_shim::handover::Socket;
use vmdriver_shim::jail::{self, Cell, Io, Role, Room, Thread};
use vmdriver_shim::spawn::{self, Child, Death};

const LIMIT: Duration = Duration::from_secs(20);
const ROOM: Room = Room {
    descriptors: 8,
    memory: 64 << 20,
    threads: 0,
    largest_file: Some(4096),
};
/// Memory far beyond that room, in bytes.
const MUCH: NonZeroUsize = NonZeroUsize::new(512 << 20).unwrap();
/// How a prisoner ends that did what it tried.
const DID_IT: i32 = 0;
/// How one ends whose jail is not whole on this host: the walls asked for are told on standard error.
const NOT_JAILED: i32 = 98;
/// How one ends that was refused: this, and the error's number. A panic's 101 lies below.
const REFUSED: i32 = 110;

type Attempt = fn() -> Result<(), Errno>;
type AttemptAt = fn(&OwnedFd) -> Result<(), Errno>;

/// What no thread of either worker may do, and whether another wall stops it should the filter of system calls fall.
const NEVER: &[(&str, bool, Attempt)] = &[
    ("open a file", true, || {
        open("/etc/passwd", OFlag::O_RDONLY, Mode::empty()).map(drop)
    }),
    ("make a file", true, || {
        open("/tmp/escaped", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRWXU).map(drop)
    }),
    ("list a folder", true, || {
        std::fs::read_dir("/").map(drop).map_err(errno)
    }),
    ("run a program", true, || {
        let nothing: [&CStr; 0] = [];
        nix::unistd::execve(c"/bin/true", &nothing, &nothing).map(|never| match never {})
    }),
    ("start a process", true, || {
        Command::new("/proc/self/exe").spawn().map(drop).map_err(errno)
    }),
    ("fork", false, || {
        // SAFETY: the child, if there is one, ends as the parent does.
        Errno::result(unsafe { libc::fork() }).map(drop)
    }),
    ("trace its parent", true, || ptrace::attach(parent())),
    ("be traced", false, ptrace::traceme),
    // Signal 0 asks only whether it may.
    ("signal its parent", true, || kill(parent(), None)),
    ("signal init", true, || kill(Pid::from_raw(1), None)),
    ("become root", true, || nix::unistd::setuid(Uid::from_raw(0))),
    ("make a namespace", false, || unshare(CloneFlags::CLONE_NEWUSER)),
    ("mount", true, || {
        let none = None::<&str>;
        nix::mount::mount(none, "/", Some("tmpfs"), nix::mount::MsFlags::empty(), none)
    }),
    ("make code", false, || {
        let rights = ProtFlags::PROT_READ | ProtFlags::PROT_EXEC;
        map(NonZeroUsize::MIN, rights, MapFlags::empty())
    }),
    // A stack, which the limit of memory does not count.
    ("map what grows down", true, || {
        map(MUCH, READ_WRITE, MapFlags::MAP_GROWSDOWN)
    }),
    ("map the host's huge pages", true, || {
        map(MUCH, READ_WRITE, MapFlags::MAP_HUGETLB)
    }),
    ("make a shared descriptor block", false, || {
        fcntl(io::stdin().as_fd(), FcntlArg::F_SETFL(OFlag::empty())).map(drop)
    }),
    ("be dumped", false, || nix::sys::prctl::set_dumpable(true)),
    ("make a Unix socket", false, || {
        make(AddressFamily::Unix, SockType::Stream, 0).map(drop)
    }),
    ("make a raw socket", true, || {
        make(AddressFamily::Inet, SockType::Raw, 0).map(drop)
    }),
    ("make an MPTCP socket", false, || {
        make(AddressFamily::Inet, SockType::Stream, libc::IPPROTO_MPTCP).map(drop)
    }),
    ("make a UDP-Lite socket", false, || {
        make(AddressFamily::Inet6, SockType::Datagram, libc::IPPROTO_UDPLITE).map(drop)
    }),
    ("ask the routing table", false, || {
        make(AddressFamily::Netlink, SockType::Datagram, 0).map(drop)
    }),
    // The filter sees the call: whatever the socket, no descriptor leaves this process.
    ("pass a descriptor on", false, || {
        let rights = [ControlMessage::ScmRights(&[0])];
        let text = [io::IoSlice::new(b"look")];
        sendmsg::<()>(0, &text, &rights, MsgFlags::empty(), None).map(drop)
    }),
    ("wait for clients", true, || {
        let socket = make(AddressFamily::Inet, SockType::Stream, 0)?;
        bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0))?;
        listen(&socket, Backlog::MAXALLOWABLE)
    }),
];

/// What no worker may do through the descriptor of a folder that anybody may write, should one ever slip in: an empty root
/// does not stop it. The folder holds [`FILE`].
const THROUGH: &[(&str, AttemptAt)] = &[
    ("read a file", |folder| at(folder, FILE, OFlag::O_RDONLY)),
    ("write a file", |folder| at(folder, FILE, OFlag::O_WRONLY)),
    ("empty a file", |folder| {
        at(folder, FILE, OFlag::O_WRONLY | OFlag::O_TRUNC)
    }),
    ("make a file", |folder| {
        at(folder, "new", OFlag::O_WRONLY | OFlag::O_CREAT)
    }),
    ("list it", |folder| at(folder, ".", OFlag::O_DIRECTORY)),
    ("make a folder", |folder| {
        nix::sys::stat::mkdirat(folder, "new", Mode::S_IRWXU)
    }),
    ("make a link", |folder| {
        nix::unistd::symlinkat("/etc/passwd", folder, "new")
    }),
    ("move a file", |folder| {
        nix::fcntl::renameat(folder, FILE, folder, "new")
    }),
    ("remove a file", |folder| {
        nix::unistd::unlinkat(folder, FILE, UnlinkatFlags::NoRemoveDir)
    }),
    ("run a program", |folder| {
        let nothing: [&CStr; 0] = [];
        nix::unistd::execveat(folder, c"file", &nothing, &nothing, AtFlags::empty())
            .map(|never| match never {})
    }),
];
/// A file that anybody may read, write and run.
const FILE: &str = "file";

/// What every thread may do.
const ALWAYS: &[(&str, Attempt)] = &[
    ("take memory and give it back", || {
        let mut block = vec![1u8; 8 << 20];
        block.resize(16 << 20, 2);
        std::hint::black_box(block);
        Ok(())
    }),
    ("sleep", || {
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    }),
    ("make a hash table", || {
        let table: std::collections::HashMap<u32, u32> = [(1, 2)].into();
        std::hint::black_box(table);
        Ok(())
    }),
];

const LOOP: Io = Io {
    network: false,
    terminal: false,
};
const NAT: Io = Io {
    network: true,
    terminal: false,
};

/// The parts, by name. Of `walls` the thread may make any call that the process may.
const PARTS: &[(&str, Role, bool, Option<Thread>)] = &[
    ("vmm-walls", Role::Vmm, false, None),
    ("app-walls", Role::App, false, None),
    ("nat-walls", Role::App, true, None),
    ("vcpu", Role::Vmm, false, Some(Thread::Vcpu { kvm: false })),
    ("vcpu-kvm", Role::Vmm, false, Some(Thread::Vcpu { kvm: true })),
    ("ear", Role::Vmm, false, Some(Thread::Ear)),
    ("wait-loop", Role::App, false, Some(Thread::WaitLoop(LOOP))),
    ("wait-loop-nat", Role::App, true, Some(Thread::WaitLoop(NAT))),
    ("disk", Role::App, false, Some(Thread::Disk)),
    ("attach", Role::App, true, Some(Thread::Attach(NAT))),
];
/// Those of them without a filter.
const WALLS: [&str; 3] = ["vmm-walls", "app-walls", "nat-walls"];

const READ_WRITE: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

fn map(len: NonZeroUsize, rights: ProtFlags, flags: MapFlags) -> Result<(), Errno> {
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    unsafe { mmap_anonymous(None, len, rights, flags | MapFlags::MAP_PRIVATE) }.map(drop)
}

/// Writes until that is refused; a block more than there is room for, at most.
fn fill(mut file: fs::File) -> Result<(), Errno> {
    const BLOCK: [u8; 512] = [1; 512];
    let blocks = ROOM.largest_file.unwrap() / BLOCK.len() as u64;
    (0..=blocks).try_for_each(|_| file.write_all(&BLOCK).map_err(errno))
}

/// Moves a page of the stack to where it has room, and stretches it there. It stays a stack to the kernel.
fn stretch_the_stack() -> Result<(), Errno> {
    const PAGE: usize = 4096;
    let mut pages = [0u8; 3 * PAGE];
    let first = std::hint::black_box(&raw mut pages).cast::<u8>();
    let at = NonNull::new(first.wrapping_add(first.align_offset(PAGE))).ok_or(Errno::EFAULT)?;
    // SAFETY: the page lies wholly within an array of which nothing is read or written from here on.
    let stretched = unsafe { mremap(at.cast(), PAGE, MUCH.get(), MRemapFlags::MREMAP_MAYMOVE, None) };
    stretched.map(drop)
}

fn make(family: AddressFamily, kind: SockType, protocol: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: three numbers.
    let made = unsafe { libc::socket(family as i32, kind as i32, protocol) };
    // SAFETY: a new descriptor that nothing else knows.
    Errno::result(made).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The supervisor's process id, asked before the jail: no list has getppid, and what is to be tried is another call.
static PARENT: OnceLock<Pid> = OnceLock::new();

fn parent() -> Pid {
    *PARENT.get().unwrap()
}

fn limit(process: Pid, what: libc::__rlimit_resource_t) -> Result<(), Errno> {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: reads a live local; nothing is written.
    let done = unsafe { libc::prlimit(process.as_raw(), what, &raw const none, std::ptr::null_mut()) };
    Errno::result(done).map(drop)
}

fn at(folder: &OwnedFd, name: &str, flags: OFlag) -> Result<(), Errno> {
    openat(folder, name, flags, Mode::S_IRWXU).map(drop)
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, flag, part, attempt @ ..] = &args[..]
        && flag == "--part"
    {
        return prisoner(part, &attempt.join(" "));
    }
    let tests: [(&str, fn()); 10] = [
        (
            "a_thread_is_killed_for_a_call_outside_its_list",
            a_thread_is_killed_for_a_call_outside_its_list,
        ),
        (
            "without_the_filter_the_other_walls_stand",
            without_the_filter_the_other_walls_stand,
        ),
        (
            "a_plain_users_worker_has_the_same_walls",
            a_plain_users_worker_has_the_same_walls,
        ),
        (
            "through_a_folders_descriptor_no_file_is_reached",
            through_a_folders_descriptor_no_file_is_reached,
        ),
        ("what_a_thread_needs_it_may_do", what_a_thread_needs_it_may_do),
        (
            "only_a_nat_card_reaches_the_network",
            only_a_nat_card_reaches_the_network,
        ),
        (
            "who_starts_threads_limits_nobody_else",
            who_starts_threads_limits_nobody_else,
        ),
        (
            "memory_descriptors_and_files_end_where_the_room_does",
            memory_descriptors_and_files_end_where_the_room_does,
        ),
        ("a_bad_end_is_told_as_what_it_is", a_bad_end_is_told_as_what_it_is),
        (
            "a_wall_that_is_missing_is_an_error_where_all_are_required",
            a_wall_that_is_missing_is_an_error_where_all_are_required,
        ),
    ];
    // As the harness does: a name on the command line selects, options are not for us.
    let filter = args.get(1).filter(|arg| !arg.starts_with('-'));
    for (name, test) in tests {
        if filter.is_none_or(|filter| name.contains(filter.as_str())) {
            test();
            println!("test {name} ... ok");
        }
    }
}

/// The prisoner: jails itself, tries, and ends as it went.
fn prisoner(part: &str, attempt: &str) {
    if part == "supervisor" {
        // Of a prisoner whose standard error somebody reads.
        let (thread, attempt) = attempt.split_once(' ').expect("a part and an attempt");
        let Death::Exited(status) = put_in(thread, attempt) else {
            exit(NOT_JAILED);
        };
        exit(status);
    }
    spawn::die_with_parent().unwrap();
    PARENT.set(getppid()).unwrap();
    let socket = spawn::inherited_socket().unwrap();
    let bell = Doorbell::new().unwrap();
    let (_, role, network, thread) = PARTS.iter().find(|(name, ..)| *name == part).unwrap();
    let file = attempt.strip_prefix("fill ").map(|path| {
        let file = fs::OpenOptions::new().append(true).open(path);
        file.unwrap()
    });
    // As if one had slipped in: before the jail.
    let folder = attempt.strip_prefix("through ").map(|rest| {
        let (folder, what) = rest.split_once(' ').unwrap();
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        (open(folder, flags, Mode::empty()).unwrap(), what)
    });
    let cell = Cell {
        role: *role,
        network: *network,
        room: ROOM,
        required: true,
    };
    if let Err(error) = jail::enter(&cell) {
        eprintln!("{error}");
        exit(NOT_JAILED);
    }
    if let Some(thread) = thread {
        jail::confine(*thread).unwrap();
    }
    let tried = match (&folder, attempt.split_once(' ')) {
        (None, Some(("fill", _))) => fill(file.unwrap()),
        (Some((folder, what)), _) => {
            let (_, attempt) = THROUGH.iter().find(|(name, _)| name == what).unwrap();
            attempt(folder)
        }
        (None, Some(("connect", port))) => TcpStream::connect(("127.0.0.1", port.parse().unwrap()))
            .map(drop)
            .map_err(errno),
        _ => attempts(attempt, &bell, &socket),
    };
    exit(match tried {
        Ok(()) => DID_IT,
        Err(errno) => REFUSED + errno as i32,
    });
}

fn attempts(attempt: &str, bell: &Doorbell, supervisor: &Socket) -> Result<(), Errno> {
    match attempt {
        "say a word" => {
            supervisor.send(&"a word", &[]).unwrap();
            Ok(())
        }
        // Its lower half is zero: a filter that looks at that alone takes it for no address.
        "send to an address" => {
            let address = (1_u64 << 32) as *const nix::libc::sockaddr;
            // SAFETY: the kernel reads what is there, or fails.
            let sent = unsafe { nix::libc::sendto(0, [0].as_ptr().cast(), 1, 0, address, 16) };
            Errno::result(sent).map(drop)
        }
        "ring" => {
            bell.ring().unwrap();
            if bell.drain() { Ok(()) } else { Err(Errno::EAGAIN) }
        }
        "panic" => panic!("a word on the way out"),
        "abort" => std::process::abort(),
        "kill itself" => raise(Signal::SIGKILL),
        "take too much memory" => {
            let block = vec![1u8; ROOM.memory as usize + 1];
            std::hint::black_box(block);
            Ok(())
        }
        "stretch the stack" => stretch_the_stack(),
        "make a ping socket" => make(AddressFamily::Inet, SockType::Datagram, libc::IPPROTO_ICMP).map(drop),
        "start no threads" => limit(Pid::from_raw(0), libc::RLIMIT_NPROC),
        "let its parent start none" => limit(parent(), libc::RLIMIT_NPROC),
        "limit itself otherwise" => limit(Pid::from_raw(0), libc::RLIMIT_NOFILE),
        "take too many descriptors" => {
            let more: Result<Vec<_>, _> = (0..2 * ROOM.descriptors).map(|_| bell.try_clone()).collect();
            more.map(drop).map_err(|_| Errno::EMFILE)
        }
        _ => {
            let never = NEVER.iter().map(|(name, _, attempt)| (*name, *attempt));
            let mut all = never.chain(ALWAYS.iter().copied());
            let (_, attempt) = all.find(|(name, _)| *name == attempt).unwrap();
            attempt()
        }
    }
}

/// How a prisoner of this part ends that tries this.
fn put_in(part: &str, attempt: &str) -> Death {
    let (_ours, theirs) = Socket::pair().unwrap();
    let program = std::env::current_exe().unwrap();
    let mut child = Child::spawn(program, ["--part", part, attempt], theirs, Stdio::inherit()).unwrap();
    let mut fds = [nix::poll::PollFd::new(
        child.pidfd(),
        nix::poll::PollFlags::POLLIN,
    )];
    let limit = nix::poll::PollTimeout::try_from(LIMIT).unwrap();
    assert_eq!(
        nix::poll::poll(&mut fds, limit),
        Ok(1),
        "{part} still alive: {attempt}"
    );
    child.try_wait().expect("the pidfd says it is dead")
}

/// Whether this host can build all walls; says so if it cannot. Where it can, so must the jail.
fn whole(test: &str) -> bool {
    if let Some(why) = walls::missing(None) {
        println!("skipped: {test}: {why}");
        return false;
    }
    for part in WALLS {
        assert_eq!(put_in(part, "ring"), Death::Exited(DID_IT), "{part}: not jailed");
    }
    true
}

/// The threads of a worker at work: not the one that still starts others, whose list is wider.
fn threads() -> impl Iterator<Item = &'static str> {
    PARTS
        .iter()
        .filter(|(.., thread)| thread.is_some_and(|thread| !matches!(thread, Thread::Attach(_))))
        .map(|(name, ..)| *name)
}

fn a_thread_is_killed_for_a_call_outside_its_list() {
    if !whole("filters") {
        return;
    }
    for part in threads() {
        for (attempt, ..) in NEVER {
            assert_eq!(
                put_in(part, attempt),
                Death::Signalled(Signal::SIGSYS as i32),
                "{part}: {attempt}"
            );
        }
    }
}

fn without_the_filter_the_other_walls_stand() {
    if !whole("walls") {
        return;
    }
    for part in WALLS {
        for (attempt, _, _) in NEVER.iter().filter(|(_, stopped, _)| *stopped) {
            match put_in(part, attempt) {
                Death::Exited(status) if status > REFUSED => {}
                other => panic!("{part}: {attempt}: {other}"),
            }
        }
    }
}

/// Whose user is its supervisor's too, so that signals and traces are refused by Landlock alone.
fn a_plain_users_worker_has_the_same_walls() {
    const NAME: &str = "a plain user's walls";
    const USER: u32 = 1000;
    if !Uid::effective().is_root() {
        return println!("skipped: {NAME}: only root becomes one");
    }
    if let Some(why) = walls::missing(Some(USER)) {
        return println!("skipped: {NAME}: {why}");
    }
    if landlock() < 6 {
        return println!("skipped: {NAME}: this host's Landlock knows no signals (Linux 6.12 does)");
    }
    for part in WALLS {
        for (attempt, ..) in NEVER.iter().filter(|(_, stopped, _)| *stopped) {
            let told = Command::new(std::env::current_exe().unwrap())
                .args(["--part", "supervisor", part, attempt])
                .uid(USER)
                .gid(USER)
                .output();
            let told = match told {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return println!("skipped: {NAME}: user {USER} may not run this program");
                }
                told => told.unwrap(),
            };
            assert!(told.status.code() > Some(REFUSED), "{part}: {attempt}: {told:?}");
        }
    }
}

/// By Landlock alone, and it says so: the root, the user and the file's rights would let all of it pass.
fn through_a_folders_descriptor_no_file_is_reached() {
    if !whole("folders") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    fs::write(&file, "untouched").unwrap();
    for path in [folder.path(), &file] {
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
    for part in WALLS {
        for (what, _) in THROUGH {
            let attempt = format!("through {} {what}", folder.path().display());
            let refused = Death::Exited(REFUSED + Errno::EACCES as i32);
            assert_eq!(put_in(part, &attempt), refused, "{part}: {what}");
        }
    }
    assert_eq!(fs::read(file).unwrap(), b"untouched");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// The version of this host's Landlock; 4 knows TCP, 6 signals.
fn landlock() -> i64 {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_int = 1;
    // SAFETY: asks for a number.
    unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    }
}

fn what_a_thread_needs_it_may_do() {
    if !whole("lists") {
        return;
    }
    for part in threads() {
        let all = ALWAYS.iter().map(|(name, _)| *name);
        for attempt in all.chain(["ring", "say a word"]) {
            assert_eq!(put_in(part, attempt), Death::Exited(DID_IT), "{part}: {attempt}");
        }
    }
}

fn only_a_nat_card_reaches_the_network() {
    if !whole("network") {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = format!("connect {}", listener.local_addr().unwrap().port());
    for part in threads() {
        let expected = if part == "wait-loop-nat" {
            Death::Exited(DID_IT)
        } else {
            Death::Signalled(Signal::SIGSYS as i32)
        };
        assert_eq!(put_in(part, &connect), expected, "{part}");
        let expected = if part == "wait-loop-nat" {
            // Of standard input, which is none.
            Death::Exited(REFUSED + Errno::ENOTSOCK as i32)
        } else {
            Death::Signalled(Signal::SIGSYS as i32)
        };
        assert_eq!(put_in(part, "send to an address"), expected, "{part}");
    }
    // Whom net.ipv4.ping_group_range leaves out is refused by the host, and not killed.
    let ping = put_in("wait-loop-nat", "make a ping socket");
    let allowed = [DID_IT, REFUSED + Errno::EACCES as i32].map(Death::Exited);
    assert!(allowed.contains(&ping), "{ping}");
    // Landlock is asked first, where it knows TCP.
    let unreachable = if landlock() >= 4 {
        Errno::EACCES
    } else {
        Errno::ENETUNREACH
    };
    for part in ["vmm-walls", "app-walls"] {
        let refused = Death::Exited(REFUSED + unreachable as i32);
        assert_eq!(put_in(part, &connect), refused, "{part}");
    }
}

/// A plain user's worker reads the files of overlays in that part, and its supervisor and the vmm have its user.
fn who_starts_threads_limits_nobody_else() {
    if !whole("attach") {
        return;
    }
    assert_eq!(put_in("attach", "start no threads"), Death::Exited(DID_IT));
    for attempt in ["let its parent start none", "limit itself otherwise"] {
        let killed = Death::Signalled(Signal::SIGSYS as i32);
        assert_eq!(put_in("attach", attempt), killed, "{attempt}");
    }
}

fn memory_descriptors_and_files_end_where_the_room_does() {
    if !whole("limits") {
        return;
    }
    for part in threads() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let filled = put_in(part, &format!("fill {}", file.path().display()));
        assert_eq!(filled, Death::Exited(REFUSED + Errno::EFBIG as i32), "{part}");
        assert_eq!(file.path().metadata().unwrap().len(), ROOM.largest_file.unwrap());
    }
    for part in threads() {
        let greedy = put_in(part, "take too much memory");
        assert_eq!(greedy, Death::Signalled(Signal::SIGABRT as i32), "{part}");
        let greedy = put_in(part, "stretch the stack");
        assert_eq!(greedy, Death::Exited(REFUSED + Errno::ENOMEM as i32), "{part}");
        let greedy = put_in(part, "take too many descriptors");
        assert_eq!(greedy, Death::Exited(REFUSED + Errno::EMFILE as i32), "{part}");
    }
}

/// Not as SIGSYS, which would name the jail for what is a fault of our own; and a panic says where, with a backtrace
/// asked for that nobody here can make.
fn a_bad_end_is_told_as_what_it_is() {
    if !whole("ends") {
        return;
    }
    for part in threads() {
        assert_eq!(
            put_in(part, "abort"),
            Death::Signalled(Signal::SIGABRT as i32),
            "{part}"
        );
        assert_eq!(
            put_in(part, "kill itself"),
            Death::Signalled(Signal::SIGKILL as i32),
            "{part}"
        );
        let told = Command::new(std::env::current_exe().unwrap())
            .args(["--part", "supervisor", part, "panic"])
            .env("RUST_BACKTRACE", "1")
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&told.stderr);
        assert_eq!(told.status.code(), Some(101), "{part}: {message}");
        assert!(
            message.contains("thread main panicked at") && message.contains("a word on the way out"),
            "{part}: {message}"
        );
    }
}

/// Namespaces are what can be taken away here: by a limit of none, inside a user namespace of the test's own.
fn a_wall_that_is_missing_is_an_error_where_all_are_required() {
    if !whole("required") {
        return;
    }
    let here = std::env::current_exe().unwrap();
    let told = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg("echo 0 >/proc/sys/user/max_net_namespaces && exec \"$0\" --part supervisor vcpu ring")
        .arg(here)
        .output();
    let Ok(told) = told else {
        return println!("skipped: required: no unshare(1) here");
    };
    let message = String::from_utf8_lossy(&told.stderr);
    if message.contains("unshare:") || message.contains("sh:") {
        return println!("skipped: required: {message}");
    }
    assert_eq!(told.status.code(), Some(NOT_JAILED), "{message}");
    for word in ["--require-jail", "namespaces", "max_*_namespaces"] {
        assert!(message.contains(word), "no {word} in: {message}");
    }
}
