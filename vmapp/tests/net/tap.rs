//! Real taps: what is opened, what is refused with which words, and what the cable does when the interface goes.

use crate::service::{Got, Stage};
use crate::{in_namespace, in_namespace_or_skip};
use shared::msg::handover::Joins;
use shared::msg::net::MAX_FRAME;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};
use vmapp::back::net::tap::{Tap, TapError, open};
use vmapp::back::net::{Net, Received, Sent, Wanted};
use vmapp::serve::service::Service;

const LONG: Duration = Duration::from_secs(20);
/// Which tap a test program started again is to open.
const TO_OPEN: &str = "WORLDSWITCH_TEST_TAP";

/// Runs `ip`; what it says.
pub fn ip(words: &str) -> String {
    let done = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(
        done.status.success(),
        "ip {words}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).unwrap()
}

/// An IPv6-free tap, up, of this namespace.
pub fn new_tap(name: &str) -> Tap {
    make_tap(name);
    attached(name, true)
}

/// [`new_tap`] without anybody attached.
pub fn make_tap(name: &str) {
    ip(&format!("tuntap add dev {name} mode tap"));
    std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1").ok();
    ip(&format!("link set {name} up"));
}

pub fn attached(name: &str, gso: bool) -> Tap {
    let (fd, joins) = open(name, gso).unwrap();
    assert_eq!(joins.any(), gso);
    Tap::new(fd, joins)
}

pub fn until<T>(mut there: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = there() {
            return found;
        }
        assert!(begun.elapsed() < LONG, "never happened");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The next frame of ethertype 88b5 (IEEE local experimental) or ARP; others are the kernel's own business.
fn next_frame(tap: &mut Tap, into: &mut [u8]) -> usize {
    until(|| match tap.receive(into) {
        Received::Frame(bytes) if [[0x88, 0xb5], [0x08, 0x06]].contains(&[into[12], into[13]]) => Some(bytes),
        _ => None,
    })
}

#[test]
fn a_name_no_interface_has_is_refused() {
    for name in [
        "",
        ".",
        "..",
        "a/b",
        "with space",
        "a:b",
        "tap%d",
        "sixteen-letters-",
        "tab\t",
        "nul\0",
    ] {
        let error = open(name, true).unwrap_err();
        assert_eq!(error, TapError::Name(name.to_owned()), "{name:?}");
    }
    assert!(
        TapError::Name("x y".into())
            .to_string()
            .contains("tap = \"tap0\"")
    );
}

#[test]
fn each_refusal_says_what_to_type() {
    let make = "ip tuntap add dev tap7 mode tap user me && ip link set tap7 up";
    let [name, user, other] = ["tap7", "me", "tap8"].map(str::to_owned);
    let cases = [
        (TapError::NoDriver { name: name.clone() }, "modprobe tun"),
        (
            TapError::NoAccess { name: name.clone() },
            "chmod 0666 /dev/net/tun",
        ),
        (
            TapError::Missing {
                name: name.clone(),
                user: user.clone(),
            },
            make,
        ),
        (
            TapError::Foreign {
                name: name.clone(),
                user: user.clone(),
            },
            "ip tuntap del dev tap7 mode tap && ip tuntap add dev tap7 mode tap user me",
        ),
        (
            TapError::Busy {
                name: name.clone(),
                other: other.clone(),
                user: user.clone(),
            },
            "ip tuntap add dev tap8 mode tap user me && ip link set tap8 up",
        ),
        (TapError::NotTap { name, other, user }, "tap = \"tap8\""),
    ];
    for (error, words) in cases {
        assert!(error.to_string().starts_with("tap tap7: "), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_tap_is_opened_or_made_and_not_kept() {
    in_namespace_or_skip("a_tap_is_opened_or_made_and_not_kept", || {
        let made = open("made0", true).unwrap().0;
        let flags = nix::fcntl::fcntl(&made, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert_ne!(flags & libc::O_NONBLOCK, 0);
        let flags = nix::fcntl::fcntl(&made, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_ne!(flags & libc::FD_CLOEXEC, 0);
        assert!(
            Tap::new(made.try_clone().unwrap(), Joins::default()).link(),
            "one we made is up"
        );
        let error = open("made0", true).unwrap_err();
        assert!(
            matches!(&error, TapError::Busy { other, .. } if other == "tap0"),
            "{error}"
        );
        assert!(made.as_raw_fd() > 2);
        drop(made);
        let gone = Command::new("ip")
            .args(["link", "show", "made0"])
            .output()
            .unwrap();
        assert!(!gone.status.success(), "it went with its descriptor");

        ip("tuntap add dev tun0 mode tun");
        ip("tuntap add dev many0 mode tap multi_queue");
        for name in ["tun0", "many0", "lo"] {
            let error = open(name, true).unwrap_err();
            assert!(matches!(error, TapError::NotTap { .. }), "{name}: {error}");
        }
        ip("tuntap add dev kept0 mode tap");
        drop(open("kept0", true).unwrap());
        ip("link show kept0");
    });
}

/// Not a test by itself: what this program does when started again without the right to make interfaces.
#[test]
fn opens_as_told() {
    if let Ok(name) = std::env::var(TO_OPEN) {
        match open(&name, true) {
            Ok(_) => println!("opened {name}"),
            Err(error) => println!("{error:?}"),
        }
    }
}

#[test]
fn without_rights_a_tap_must_be_there_and_be_ours() {
    let test = "without_rights_a_tap_must_be_there_and_be_ours";
    let tested = in_namespace(|| {
        ip("tuntap add dev ours0 mode tap user 0");
        ip("tuntap add dev theirs0 mode tap user 12345");
        let open_without = |name: &str| {
            let child = Command::new("setpriv")
                .args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", "tap::opens_as_told", "--nocapture"])
                .env(TO_OPEN, name)
                .output()
                .ok()?;
            Some(String::from_utf8(child.stdout).unwrap())
        };
        let cases = [
            ("ours0", "opened ours0"),
            ("theirs0", "Foreign {"),
            ("none0", "Missing {"),
        ];
        cases.map(|(name, words)| Some((open_without(name)?, words)))
    });
    let Some([Some(ours), Some(theirs), Some(none)]) = tested else {
        println!("skipped: {test}: it takes root and setpriv");
        return;
    };
    for (said, words) in [ours, theirs, none] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn frames_go_out_and_come_in_and_what_no_guest_takes_is_dropped() {
    in_namespace_or_skip(
        "frames_go_out_and_come_in_and_what_no_guest_takes_is_dropped",
        || {
            let mut tap = new_tap("tap0");
            assert!(tap.link());
            ip("addr add 10.9.8.1/24 dev tap0");
            // An ARP request for the host's address: what comes back shows that what went out was whole.
            let mut ask = vec![0xff; 6];
            ask.extend([2, 0, 0, 0, 0, 1, 0x08, 0x06]);
            ask.extend([0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 9, 8, 2]);
            ask.extend([0, 0, 0, 0, 0, 0, 10, 9, 8, 1]);
            assert_eq!(tap.send(&ask), Sent::Out);
            let mut frame = [0; MAX_FRAME];
            let length = next_frame(&mut tap, &mut frame);
            assert_eq!(
                (&frame[..6], &frame[20..22]),
                (&[2, 0, 0, 0, 0, 1][..], &[0, 2][..]),
                "{length}"
            );
            assert_eq!(tap.receive(&mut frame), Received::Nothing);
            // Bug classes 3 and 4: sizes no Ethernet frame has.
            for length in [0, 13, MAX_FRAME + 1, 9000, 65_536] {
                assert_eq!(tap.send(&vec![0; length]), Sent::Dropped, "{length}");
            }
            assert_eq!(tap.send(&[0; MAX_FRAME]), Sent::Out);
        },
    );
}

/// Bug class 3: frames of a host with a larger MTU, sent by a packet socket of a neighbour.
#[test]
fn a_jumbo_frame_is_dropped_whole_and_the_next_one_comes() {
    in_namespace_or_skip("a_jumbo_frame_is_dropped_whole_and_the_next_one_comes", || {
        let mut tap = new_tap("tap0");
        ip("link set tap0 mtu 9000");
        ip("addr add 10.9.8.1/24 dev tap0");
        ip("neigh add 10.9.8.2 lladdr 02:00:00:00:00:01 dev tap0");
        let socket = std::net::UdpSocket::bind("10.9.8.1:0").unwrap();
        let mut frame = [0; MAX_FRAME];
        for (payload, expected) in [
            (1476, Some(MAX_FRAME)),
            (1477, None),
            (8000, None),
            (100, Some(142)),
        ] {
            socket.send_to(&vec![7; payload], "10.9.8.2:9").unwrap();
            let got = until(|| match tap.receive(&mut frame) {
                Received::Nothing => None,
                got => Some(got),
            });
            let expected = expected.map_or(Received::Dropped, Received::Frame);
            assert_eq!(got, expected, "{payload}");
        }
    });
}

#[test]
fn the_cable_follows_the_interface() {
    in_namespace_or_skip("the_cable_follows_the_interface", || {
        let mut tap = new_tap("tap0");
        assert!(tap.link());
        ip("link set tap0 down");
        assert_eq!(tap.send(&[0; 60]), Sent::Dropped);
        assert!(!tap.link(), "a frame found out at once");
        let waits = tap.interests(Wanted { frames: true });
        let events = waits.fds[0].as_ref().unwrap().events;
        assert!(
            events.contains(nix::poll::PollFlags::POLLOUT),
            "it waits to come up"
        );
        ip("link set tap0 up");
        assert!(until(|| tap.link().then_some(true)));
        ip("link set tap0 down");
        until(|| (!tap.link()).then_some(()));
        assert_eq!(tap.trouble(), None);

        ip("link del tap0");
        let mut frame = [0; MAX_FRAME];
        assert_eq!(tap.receive(&mut frame), Received::Nothing);
        assert!(!tap.link());
        assert!(tap.trouble().unwrap().contains("deleted"));
        assert_eq!(
            (tap.send(&[0; 60]), tap.trouble()),
            (Sent::Dropped, None),
            "told once"
        );
        let waits = tap.interests(Wanted { frames: true });
        assert!(
            waits.fds[0].is_none() && waits.within.is_none(),
            "it would be ready for ever"
        );
        // A new interface of the same name is another one.
        ip("tuntap add dev tap0 mode tap");
        assert!(!tap.link());
    });
}

#[test]
fn a_flooded_card_is_not_deaf_afterwards() {
    in_namespace_or_skip("a_flooded_card_is_not_deaf_afterwards", || {
        let tap = new_tap("tap0");
        ip("addr add 10.9.8.1/24 dev tap0");
        ip("neigh add 10.9.8.2 lladdr 02:00:00:00:00:01 dev tap0");
        let socket = std::net::UdpSocket::bind("10.9.8.1:0").unwrap();
        let mut stage = Stage::new();
        let (mut service, crossing) = stage.worker(tap);
        let mut go = || {
            crossing.look();
            let interests = service.interests();
            let watches = interests.fds.iter().flatten();
            let watches: Vec<_> = watches
                .into_iter()
                .map(|one| vmdriver_shim::crossing::Watch::read(one.fd))
                .collect();
            let woken = crossing
                .sleep_on(Some(Duration::from_millis(1)), &watches)
                .unwrap();
            service.turn(woken.ready != 0).unwrap();
        };
        // The guest reads nothing.
        for _ in 0..3000 {
            socket.send_to(&[1; 64], "10.9.8.2:9").unwrap();
            go();
        }
        use shared::abi::counters::AppCounter;
        assert!(crossing.app_counters().get(AppCounter::NetRxNoCredit) > 100);
        stage.got();
        let last = [0xee; 99];
        let found = until(|| {
            socket.send_to(&last, "10.9.8.2:9").unwrap();
            go();
            let got = stage.got();
            got.into_iter().find_map(|got| match got {
                Got::Frame(frame) if frame.ends_with(&last) => Some(frame.len()),
                _ => None,
            })
        });
        assert_eq!(found, 14 + 28 + last.len());
    });
}
