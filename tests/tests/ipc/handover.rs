//! A supervisor that hands over the wrong thing: each worker says in words what is wrong with it, and ends.

use crate::vmm;
use crate::worker;
use memory::{image, sealed};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use shared::msg::handover::{FdRole, FromApp, FromVmm, Outcome, ToApp, ToVmm};
use shared::spec::Notify;
use std::fs::File;
use std::io::{IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use tests::product::{GUESTS, LIMIT};
use vmdriver_shim::handover::Socket;
use vmdriver_shim::spawn::Death;

/// Memory that is wrong in one way.
mod memory {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use shared::abi::Header;
    use shared::mem::Memory;
    use std::fs::File;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::FileExt;
    use zerocopy::{FromBytes, IntoBytes};

    pub const ALL: SealFlag = SealFlag::F_SEAL_SHRINK
        .union(SealFlag::F_SEAL_GROW)
        .union(SealFlag::F_SEAL_SEAL);

    /// The header of the memory an honest supervisor makes.
    pub fn image() -> Header {
        let memory = vmdriver_shim::memory::SharedMemory::create(&crate::worker::spec().channels());
        let mut bytes = [0; size_of::<Header>()];
        memory.expect("shared memory").mem().read(0, &mut bytes);
        Header::read_from_bytes(&bytes).expect("a header")
    }

    /// A memfd of this size with this header and these seals.
    pub fn sealed(header: &Header, bytes: u64, seals: SealFlag) -> OwnedFd {
        let fd = memfd_create("bad", MFdFlags::MFD_ALLOW_SEALING).expect("a memfd");
        let file = File::from(fd);
        file.set_len(bytes).expect("a size");
        let header = header.as_bytes();
        let fits = header.len().min(bytes as usize);
        file.write_all_at(&header[..fits], 0).expect("room");
        fcntl(file.as_fd(), FcntlArg::F_ADD_SEALS(seals)).expect("seals");
        file.into()
    }
}

/// One of the two workers, told nothing yet.
enum Told {
    Vmm(vmm::Spawned),
    App(worker::Spawned),
}

impl Told {
    fn both() -> [Self; 2] {
        [Self::Vmm(vmm::Spawned::new()), Self::App(worker::Spawned::new())]
    }

    fn socket(&self) -> &Socket {
        match self {
            Self::Vmm(process) => &process.socket,
            Self::App(process) => &process.socket,
        }
    }

    /// It ends with these words, as one that failed.
    fn fails(mut self, words: &[&str], what: &str) {
        let (said, death) = match &mut self {
            Self::Vmm(process) => match process.word() {
                Some(FromVmm::Ended(Outcome::Failed(said))) => (said, process.child.wait()),
                other => panic!("{what}: {other:?}"),
            },
            Self::App(process) => match process.word() {
                Some(FromApp::Failed(said)) => (said, process.child.wait()),
                other => panic!("{what}: {other:?}"),
            },
        };
        for word in words {
            assert!(said.contains(word), "{what}: {said:?} says nothing of {word:?}");
        }
        assert_eq!(death, Death::Exited(1), "{what}: {said}");
    }
}

/// Hands over what an honest supervisor would, but for what `change` does to it, to both workers; both end with `words`.
fn refused(
    what: &str,
    words: &[&str],
    change: impl for<'a> Fn(&mut Vec<(FdRole, BorrowedFd<'a>)>, &[BorrowedFd<'a>]),
    extra: &[OwnedFd],
) {
    let means = worker::Means::new();
    let kernel = File::open(format!("{GUESTS}/hello.elf")).expect("the guest is built");
    let extra: Vec<BorrowedFd> = extra.iter().map(AsFd::as_fd).collect();
    for told in Told::both() {
        let mut given = means.descriptors();
        if let Told::Vmm(_) = told {
            given.truncate(4);
            given.push((FdRole::Kernel, kernel.as_fd()));
        }
        change(&mut given, &extra);
        let (roles, fds): (Vec<_>, Vec<_>) = given.into_iter().unzip();
        let sent = match &told {
            Told::Vmm(process) => process.socket.send(
                &ToVmm::Start {
                    spec: Box::new(vmm::spec("", Notify::Bitmap)),
                    fds: roles,
                },
                &fds,
            ),
            Told::App(process) => process.socket.send(&worker::start(roles), &fds),
        };
        sent.expect("it listens");
        told.fails(words, what);
    }
}

#[test]
fn memory_that_is_cut_unsealed_of_another_size_or_make_is_refused() {
    let good = image();
    let size = good.total_bytes;
    let with = |change: &dyn Fn(&mut shared::abi::Header)| {
        let mut header = good;
        change(&mut header);
        sealed(&header, size, memory::ALL)
    };
    use nix::fcntl::SealFlag as Seal;
    let cases: [(&str, &[&str], OwnedFd); 12] = [
        (
            "truncated",
            &["header says", "descriptor has"],
            sealed(&good, size - 4096, memory::ALL),
        ),
        ("empty", &["has 0 bytes"], sealed(&good, 0, memory::ALL)),
        (
            "longer",
            &["header says"],
            sealed(&good, size + 4096, memory::ALL),
        ),
        (
            "not sealed",
            &["not sealed against shrinking"],
            sealed(&good, size, Seal::empty()),
        ),
        (
            "free to grow",
            &["not sealed against growing"],
            sealed(&good, size, Seal::F_SEAL_SHRINK | Seal::F_SEAL_SEAL),
        ),
        (
            "free to be sealed further",
            &["not sealed against further sealing"],
            sealed(&good, size, Seal::F_SEAL_SHRINK | Seal::F_SEAL_GROW),
        ),
        (
            "other magic",
            &["Worldswitch magic"],
            with(&|header| header.magic ^= 1),
        ),
        (
            "other version",
            &["ABI version", "one build"],
            with(&|header| header.version += 1),
        ),
        (
            "no channels",
            &["0 channels announced"],
            with(&|header| header.channels = 0),
        ),
        (
            "too many channels",
            &["65 channels announced"],
            with(&|header| header.channels = 65),
        ),
        (
            "slots for ever",
            &["channel 1", "slots"],
            with(&|header| header.table[1].down_slots = 1 << 31),
        ),
        (
            "a ring on a ring",
            &["channel 1", "announced at"],
            with(&|header| header.table[1].up_at = 0x4000),
        ),
    ];
    for (what, words, memory) in cases {
        refused(what, words, |given, extra| given[0].1 = extra[0], &[memory]);
    }
}

#[test]
fn memory_with_other_channels_than_the_machine_is_refused_or_of_no_harm() {
    let mut header = image();
    header.channels = 2;
    // The rings of the two are where they were; what follows them is nobody's.
    let layout_end = header.table[2].down_at;
    header.total_bytes = layout_end;
    let memory = sealed(&header, layout_end, memory::ALL);
    refused(
        "two channels",
        &["there is no channel"],
        |given, extra| given[0].1 = extra[0],
        &[memory],
    );
}

#[test]
fn descriptors_too_many_too_few_and_of_other_kinds_are_refused() {
    let socket = || OwnedFd::from(std::os::unix::net::UnixStream::pair().expect("a pair").0);
    let file = || OwnedFd::from(File::open("/dev/null").expect("it is there"));
    let bell = || {
        let bell = vmdriver_shim::doorbell::Doorbell::new().expect("a doorbell");
        vmm::clear_nonblock(&bell);
        bell.as_fd().try_clone_to_owned().expect("a descriptor")
    };
    refused(
        "a socket as memory",
        &["not a memfd"],
        |given, extra| given[0].1 = extra[0],
        &[socket()],
    );
    refused(
        "a file as memory",
        &["not a memfd"],
        |given, extra| given[0].1 = extra[0],
        &[file()],
    );
    refused(
        "a file as doorbell",
        &["/dev/null", "not an eventfd"],
        |given, extra| given[1].1 = extra[0],
        &[file()],
    );
    refused(
        "memory as doorbell",
        &["not an eventfd"],
        |given, _| given[2].1 = given[0].1,
        &[],
    );
    refused(
        "a doorbell as memory",
        &["not a memfd"],
        |given, _| given[0].1 = given[1].1,
        &[],
    );
    refused(
        "a doorbell that blocks",
        &["blocking"],
        |given, extra| given[3].1 = extra[0],
        &[bell()],
    );
    for at in 0..5 {
        refused(
            "one missing",
            &["missing"],
            move |given, _| {
                given.remove(at);
            },
            &[],
        );
    }
    refused(
        "one that nobody asked for",
        &["Module", "not expected"],
        |given, extra| given.push((FdRole::Module(0), extra[0])),
        &[file()],
    );
    refused("one twice", &["came twice"], |given, _| given.push(given[0]), &[]);
}

/// Sends what [`Socket::send`] would not.
fn raw(socket: &Socket, bytes: &[u8], fds: &[BorrowedFd]) {
    let fds: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &rights[..0] } else { &rights[..] };
    let parts = [IoSlice::new(bytes)];
    let sent = sendmsg::<()>(
        socket.as_fd().as_raw_fd(),
        &parts,
        control,
        MsgFlags::empty(),
        None,
    );
    assert_eq!(sent, Ok(bytes.len()));
}

#[test]
fn a_first_record_that_is_no_start_is_refused() {
    let null = File::open("/dev/null").expect("it is there");
    let many = vec![null.as_fd(); 65];
    let cases: [(&str, &[u8], &[BorrowedFd], &str); 6] = [
        ("no JSON", b"\0\xff{", &[], "does not say what it must"),
        ("other JSON", b"{\"start\":{}}", &[], "does not say what it must"),
        ("deep JSON", &[b'['; 60_000], &[], "does not say what it must"),
        ("too long", &[b' '; (64 << 10) + 1], &[], "longer than"),
        ("too many descriptors", b"{}", &many, "65 descriptors"),
        ("another word", b"\"stop\"", &[], ""),
    ];
    for (what, bytes, fds, words) in cases {
        for told in Told::both() {
            raw(told.socket(), bytes, fds);
            told.fails(&[words], what);
        }
    }
}

#[test]
fn roles_and_descriptors_that_do_not_pair_up_are_refused() {
    for told in Told::both() {
        let roles = vec![FdRole::Memory, FdRole::AppDoorbell];
        let text = match &told {
            Told::Vmm(_) => serde_json::to_vec(&ToVmm::Start {
                spec: Box::new(vmm::spec("", Notify::Bitmap)),
                fds: roles,
            }),
            Told::App(_) => serde_json::to_vec(&worker::start(roles)),
        };
        let null = File::open("/dev/null").expect("it is there");
        raw(told.socket(), &text.expect("JSON"), &[null.as_fd()]);
        told.fails(&["2 roles named, 1 descriptors"], "one role more");
    }
}

#[test]
fn a_second_start_is_ignored_by_the_vmm_and_ends_the_worker() {
    let mut vmm = vmm::Vmm::start("hello.elf", "echo", Notify::Bitmap);
    let again = ToVmm::Start {
        spec: Box::new(vmm::spec("", Notify::Bitmap)),
        fds: Vec::new(),
    };
    vmm.process.socket.send(&again, &[]).expect("it listens");
    let mut console = vmm.console();
    console.until(|text| text.contains("echo until q"), || {});
    vmm.process.stop("a second start");

    let worker = worker::Worker::start();
    let again: ToApp = worker::start(Vec::new());
    worker.process.socket.send(&again, &[]).expect("it listens");
    Told::App(worker.process).fails(&["did not say Start"], "a second start");
}

#[test]
fn a_record_that_is_none_in_the_middle_of_it_ends_either_worker() {
    let vmm = vmm::Vmm::start("hello.elf", "echo", Notify::Bitmap);
    raw(&vmm.process.socket, b"?", &[]);
    assert_eq!(vmm.process.word(), Some(FromVmm::Ended(Outcome::Stopped)));
    let worker = worker::Worker::start();
    raw(&worker.process.socket, b"?", &[]);
    Told::App(worker.process).fails(&["does not say what it must"], "no JSON");
}

#[test]
fn a_console_client_comes_with_one_connection_and_where_there_is_no_socket_it_is_hung_up_on() {
    let null = File::open("/dev/null").expect("it is there");
    for count in [0, 2] {
        let worker = worker::Worker::start();
        let fds = vec![null.as_fd(); count];
        raw(&worker.process.socket, b"\"console-client\"", &fds);
        let words = format!("1 roles named, {count} descriptors");
        Told::App(worker.process).fails(&[&words], "a client");
    }
    let mut worker = worker::Worker::start();
    let (mut client, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    client.set_read_timeout(Some(LIMIT)).expect("a limit");
    let word = &ToApp::ConsoleClient;
    worker
        .process
        .socket
        .send(word, &[theirs.as_fd()])
        .expect("it listens");
    drop(theirs);
    assert_eq!(client.read(&mut [0]).expect("its end"), 0);
    worker.lives("a client of no socket");
}

/// Everything of a `Start` in place of which something else may stand: its place, by keys and indices.
fn places(value: &serde_json::Value, at: &str, found: &mut Vec<String>) {
    found.push(at.into());
    match value {
        serde_json::Value::Object(fields) => {
            for (key, field) in fields {
                places(field, &format!("{at}/{key}"), found);
            }
        }
        serde_json::Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                places(item, &format!("{at}/{n}"), found);
            }
        }
        _ => {}
    }
}

/// What is accepted of either worker's start is a machine whose memory can be laid out.
fn judged(text: &str) -> bool {
    let specs = [
        serde_json::from_str(text).ok().and_then(|start| match start {
            ToVmm::Start { spec, .. } => Some(spec),
            _ => None,
        }),
        serde_json::from_str(text).ok().and_then(|start| match start {
            ToApp::Start { spec, .. } => Some(spec),
            _ => None,
        }),
    ];
    let mut accepted = false;
    for spec in specs.into_iter().flatten().filter(|spec| spec.check().is_ok()) {
        let layout = shared::abi::Layout::plan(&spec.channels());
        assert!(layout.is_ok(), "{text}: {layout:?}");
        accepted = true;
    }
    accepted
}

#[test]
fn every_field_of_a_start_with_anything_in_its_place_is_judged_and_never_a_panic() {
    use serde_json::{Value, json};
    let vmm = ToVmm::Start {
        spec: Box::new(vmm::spec("", Notify::Bitmap)),
        fds: vec![FdRole::Memory],
    };
    let app = worker::start(vec![FdRole::Disk(0)]);
    let starts = [serde_json::to_value(vmm), serde_json::to_value(app)].map(|start| start.expect("JSON"));
    let anything = [
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("x".repeat(5000)),
        json!("a\0b"),
        json!([]),
        json!(vec![0; 300]),
        json!({}),
        json!({"start": {}}),
    ];
    let (mut tried, mut accepted) = (0, 0);
    for start in starts {
        assert!(judged(&start.to_string()), "the honest one");
        let mut all = Vec::new();
        places(&start, "", &mut all);
        for place in all {
            for other in &anything {
                let mut changed = start.clone();
                *changed.pointer_mut(&place).expect("a place of it") = other.clone();
                tried += 1;
                accepted += usize::from(judged(&changed.to_string()));
            }
        }
    }
    // A few may be anything: names, a serial number, switches.
    println!("{accepted} of {tried} changed starts are machines, too");
    assert!(tried > 500 && accepted < tried / 4, "{accepted} of {tried}");
}
