//! The clock, its three interrupts and the CMOS memory against the MC146818A's data sheet.

use super::*;
use crate::bus::Wires;
use proptest::prelude::*;

const MS: u64 = 1_000_000;
/// Friday, 31 December 1999, 23:59:58 UTC.
const PARTY: u64 = 946_684_798 * Ns::SECOND;

const AIE: u8 = ALARM;
const UIE: u8 = UPDATE;
const PIE: u8 = PERIODIC;

fn rtc_at(unix_ns: u64) -> (Rtc, Wires) {
    let wires = Wires::default();
    let line = wires.line(8).expect("wire 8");
    (Rtc::new(line, unix_ns, &Cmos::default()), wires)
}

fn get(rtc: &mut Rtc, now: u64, place: usize) -> u8 {
    select(rtc, now, place);
    match rtc.port_read(Ns(now), 0x71, Width::Byte) {
        Access::Done(value) => value as u8,
        other => panic!("{other:?}"),
    }
}

fn put(rtc: &mut Rtc, now: u64, place: usize, value: u8) {
    select(rtc, now, place);
    assert_eq!(
        rtc.port_write(Ns(now), 0x71, Width::Byte, value.into()),
        Access::Done(())
    );
}

fn select(rtc: &mut Rtc, now: u64, place: usize) {
    assert_eq!(
        rtc.port_write(Ns(now), 0x70, Width::Byte, place as u32),
        Access::Done(())
    );
}

/// Century, year, month, day, day of the week, hours, minutes, seconds.
fn shown(rtc: &mut Rtc, now: u64) -> [u8; 8] {
    [
        at::CENTURY,
        at::YEAR,
        at::MONTH,
        at::DAY,
        at::DAY_OF_WEEK,
        at::HOURS,
        at::MINUTES,
        at::SECONDS,
    ]
    .map(|place| get(rtc, now, place))
}

#[test]
fn the_clock_shows_the_boards_time_and_goes_on() {
    let (mut rtc, _) = rtc_at(PARTY + 250 * MS);
    let before = [0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59];
    assert_eq!(shown(&mut rtc, 0)[..7], before);
    assert_eq!(get(&mut rtc, 749 * MS, at::SECONDS), 0x58);
    assert_eq!(
        get(&mut rtc, 750 * MS, at::SECONDS),
        0x59,
        "the second ends where the wall's does"
    );
    assert_eq!(shown(&mut rtc, 1750 * MS), [0x20, 0, 1, 1, 7, 0, 0, 0]);
    let year = 366 * 86_400 * Ns::SECOND;
    assert_eq!(
        shown(&mut rtc, 1750 * MS + year),
        [0x20, 1, 1, 1, 2, 0, 0, 0],
        "2000 was a leap year"
    );
}

#[test]
fn the_guest_sets_the_clock_in_the_format_of_register_b() {
    // Register B without SET; hours, minutes, seconds written; the same a second later.
    for (b, written, later) in [
        (0x00, [0x91, 0x59, 0x59], [0x12, 0x00, 0x00]), // 11:59:59 pm
        (0x02, [0x23, 0x59, 0x59], [0x00, 0x00, 0x00]),
        (0x04, [0x8b, 59, 59], [0x0c, 0, 0]),
        (0x06, [23, 59, 59], [0, 0, 0]),
        (0x00, [0x11, 0x59, 0x59], [0x92, 0x00, 0x00]), // noon
        (0x02, [0x09, 0x09, 0x09], [0x09, 0x09, 0x10]),
    ] {
        let (mut rtc, _) = rtc_at(PARTY);
        let places = [at::HOURS, at::MINUTES, at::SECONDS];
        put(&mut rtc, 0, B, SET | b);
        for (place, value) in places.into_iter().zip(written) {
            put(&mut rtc, 0, place, value);
        }
        let still = 10 * Ns::SECOND;
        assert_eq!(
            places.map(|place| get(&mut rtc, still, place)),
            written,
            "SET holds the clock"
        );
        put(&mut rtc, still, B, b);
        let after = still + Ns::SECOND;
        assert_eq!(
            places.map(|place| get(&mut rtc, after, place)),
            later,
            "B {b:#x} {written:x?}"
        );
    }
}

#[test]
fn uip_leads_every_update_and_falls_with_it() {
    let (mut rtc, _) = rtc_at(PARTY);
    let lead = (UPDATE_CYCLE + BEFORE_UPDATE) as u64;
    let uip = |rtc: &mut Rtc, now| get(rtc, now, A) & UIP != 0;
    for second in [1, 2, 100] {
        let update = second * Ns::SECOND;
        for (now, expected) in [
            (update - lead - 1, false),
            (update - lead, true),
            (update - 1, true),
            (update, false),
        ] {
            assert_eq!(uip(&mut rtc, now), expected, "{now}");
        }
    }
    let busy = 200 * Ns::SECOND - 1;
    assert!(uip(&mut rtc, busy));
    put(&mut rtc, busy, B, SET | HOURS_24);
    assert!(!uip(&mut rtc, busy), "SET aborts the update");
    put(&mut rtc, busy, B, HOURS_24);
    put(&mut rtc, busy, A, 0xff);
    assert_eq!(
        get(&mut rtc, busy, A),
        0x7f,
        "UIP cannot be written, nor is it up while the divider is held"
    );
}

#[test]
fn the_first_update_cycle_begins_half_a_second_after_the_divider_is_released() {
    let (mut rtc, _) = rtc_at(PARTY + 123 * MS);
    put(&mut rtc, 0, A, 0x76);
    let release = 5 * Ns::SECOND + 777;
    assert_eq!(get(&mut rtc, release, at::SECONDS), 0x58, "held");
    assert_eq!(get(&mut rtc, release, C), 0, "no periods either");
    put(&mut rtc, release, A, 0x26);
    let update = release + 500 * MS + UPDATE_CYCLE as u64;
    assert_eq!(get(&mut rtc, update - 1, at::SECONDS), 0x58);
    assert_eq!(get(&mut rtc, update, at::SECONDS), 0x59);
    assert_eq!(get(&mut rtc, update + Ns::SECOND, at::SECONDS), 0x00);
}

/// "Periodic Interrupt Rate", column 32.768 kHz: rate select and interrupts a second.
#[test]
fn periodic_interrupts_come_at_the_selected_rate() {
    for (rate, hz) in [
        (0, 0),
        (1, 256),
        (2, 128),
        (3, 8192),
        (4, 4096),
        (5, 2048),
        (6, 1024),
        (7, 512),
        (8, 256),
        (9, 128),
        (10, 64),
        (11, 32),
        (12, 16),
        (13, 8),
        (14, 4),
        (15, 2),
    ] {
        let (mut rtc, wires) = rtc_at(PARTY);
        put(&mut rtc, 0, A, 0x20 | rate);
        put(&mut rtc, 0, B, PIE | HOURS_24);
        let mut interrupts = 0;
        while let Some(at) = rtc.deadline().filter(|&at| at <= Ns(Ns::SECOND)) {
            rtc.advance(Ns(at.0 - 1));
            assert!(!wires.level(8), "rate {rate}: not a nanosecond early");
            rtc.advance(at);
            assert!(wires.level(8), "rate {rate}");
            interrupts += 1;
            assert_eq!(get(&mut rtc, at.0, C) & (IRQF | PERIODIC), IRQF | PERIODIC);
            assert!(!wires.level(8), "reading C lets the line go");
        }
        assert_eq!(interrupts, hz, "rate {rate}");
    }
}

#[test]
fn missed_periods_are_one_interrupt_and_keep_the_phase() {
    let (mut rtc, wires) = rtc_at(PARTY - 3600 * Ns::SECOND);
    put(&mut rtc, 0, A, 0x2f);
    put(&mut rtc, 0, B, PIE | HOURS_24);
    rtc.advance(Ns(7 * Ns::SECOND + 100 * MS));
    assert_eq!(rtc.deadline(), None, "one is pending: nothing to add");
    assert_eq!(wires.take().filter(|change| change.rose).count(), 1);
    assert_eq!(
        get(&mut rtc, 7 * Ns::SECOND + 200 * MS, C),
        IRQF | PERIODIC | UPDATE
    );
    assert_eq!(rtc.deadline(), Some(Ns(7 * Ns::SECOND + 500 * MS)));
    assert_eq!(get(&mut rtc, 7 * Ns::SECOND + 200 * MS, C), 0, "read-clear");
}

/// Flags are set whether enabled or not; IRQF and the line need both.
#[test]
fn irqf_is_any_flag_with_its_enable() {
    for enables in [0, PIE, AIE, UIE, PIE | UIE, EVENTS] {
        let (mut rtc, wires) = rtc_at(PARTY);
        for alarm in [at::SECONDS_ALARM, at::MINUTES_ALARM, at::HOURS_ALARM] {
            put(&mut rtc, 0, alarm, 0xff);
        }
        put(&mut rtc, 0, B, enables | HOURS_24);
        assert_eq!(rtc.deadline().is_some(), enables != 0);
        rtc.advance(Ns(Ns::SECOND));
        assert_eq!(wires.level(8), enables != 0, "{enables:#x}");
        let irqf = if enables != 0 { IRQF } else { 0 };
        assert_eq!(get(&mut rtc, Ns::SECOND, C), irqf | EVENTS, "{enables:#x}");
    }
    let (mut rtc, wires) = rtc_at(PARTY);
    rtc.advance(Ns(Ns::SECOND));
    put(&mut rtc, Ns::SECOND, B, UIE | HOURS_24);
    assert!(wires.level(8), "enabling a flag that is set interrupts at once");
    put(&mut rtc, Ns::SECOND, B, HOURS_24);
    assert!(!wires.level(8));
}

#[test]
fn setting_set_disables_the_update_interrupt() {
    let (mut rtc, _) = rtc_at(PARTY);
    put(&mut rtc, 0, B, UIE | HOURS_24);
    put(&mut rtc, 0, B, SET | UIE | AIE | HOURS_24);
    assert_eq!(get(&mut rtc, 0, B), SET | AIE | HOURS_24);
    put(&mut rtc, 0, B, SET | UIE | HOURS_24);
    assert_eq!(get(&mut rtc, 0, B), SET | UIE | HOURS_24, "only its rise does");
    assert_eq!(rtc.deadline(), None, "no updates while SET");
}

#[test]
fn the_alarm_rings_once_a_match_and_its_deadline_says_when() {
    // Hour, minute, second of the alarm; seconds from 23:59:58 to the first and to the second match.
    for (alarm, first, second) in [
        ([0x00, 0x00, 0x00], 2, 86_402),
        ([0x23, 0x59, 0x59], 1, 86_401),
        ([0x23, 0x59, 0x58], 86_400, 172_800),
        ([0xff, 0x00, 0x30], 32, 3632),
        ([0xc0, 0xff, 0x00], 2, 62),
        ([0x12, 0xff, 0xff], 43_202, 43_203),
    ] {
        let (mut rtc, wires) = rtc_at(PARTY);
        for (place, value) in [at::HOURS_ALARM, at::MINUTES_ALARM, at::SECONDS_ALARM]
            .into_iter()
            .zip(alarm)
        {
            put(&mut rtc, 0, place, value);
        }
        put(&mut rtc, 0, B, AIE | HOURS_24);
        for seconds in [first, second] {
            let at = Ns(seconds * Ns::SECOND);
            assert_eq!(rtc.deadline(), Some(at), "{alarm:x?}");
            rtc.advance(Ns(at.0 - 1));
            assert!(!wires.level(8));
            rtc.advance(at);
            assert!(wires.level(8));
            assert_eq!(get(&mut rtc, at.0, C) & ALARM, ALARM);
        }
    }
    let (mut rtc, _) = rtc_at(PARTY);
    put(&mut rtc, 0, at::HOURS_ALARM, 0x24);
    put(&mut rtc, 0, B, AIE | HOURS_24);
    assert_eq!(rtc.deadline(), None, "a time the clock never shows");
}

#[test]
fn registers_keep_their_read_only_bits() {
    let (mut rtc, _) = rtc_at(PARTY);
    assert_eq!(
        [A, B, C, D].map(|place| get(&mut rtc, 0, place)),
        [0x26, 0x02, 0, 0x80]
    );
    for (place, written, reads) in [
        (C, 0xff, 0x00),
        (D, 0x00, 0x80),
        (A, 0xa6, 0x26),
        (at::SECONDS, 0xd8, 0x58),
        (0x0e, 0xa5, 0xa5),
        (0x7f, 0x5a, 0x5a),
    ] {
        put(&mut rtc, 0, place, written);
        assert_eq!(get(&mut rtc, 0, place), reads, "register {place:#x}");
    }
}

#[test]
fn index_ports_are_write_only_and_the_banks_are_apart() {
    let (mut rtc, _) = rtc_at(PARTY);
    for port in [0x70, 0x72] {
        assert_eq!(rtc.port_read(Ns(0), port, Width::Byte), Access::Done(0xff));
    }
    put(&mut rtc, 0, 0x40, 0x11);
    assert!(!rtc.nmi_masked());
    for (port, value) in [(0x72, 0xc0), (0x73, 0x22)] {
        assert_eq!(rtc.port_write(Ns(0), port, Width::Byte, value), Access::Done(()));
    }
    assert_eq!(rtc.port_read(Ns(0), 0x73, Width::Byte), Access::Done(0x22));
    assert_eq!(
        get(&mut rtc, 0, 0xc0),
        0x11,
        "bit 7 is the NMI mask, not an address"
    );
    assert!(rtc.nmi_masked());
    assert_eq!(rtc.port_read(Ns(0), 0x70, Width::Word), Access::Bad);
    assert_eq!(rtc.port_write(Ns(0), 0x74, Width::Byte, 0), Access::Bad);
}

#[test]
fn reset_stops_interrupts_but_neither_clock_nor_memory() {
    let (mut rtc, wires) = rtc_at(PARTY);
    put(&mut rtc, 0, 0x0f, 0x05);
    put(&mut rtc, 0, B, EVENTS | SQWE | HOURS_24);
    rtc.advance(Ns(Ns::SECOND));
    assert!(wires.level(8));
    rtc.reset();
    assert!(!wires.level(8));
    assert_eq!(get(&mut rtc, Ns::SECOND, C), 0);
    assert_eq!(get(&mut rtc, Ns::SECOND, B), HOURS_24);
    assert_eq!(
        get(&mut rtc, Ns::SECOND, 0x0f),
        0x05,
        "the shutdown status is there to outlive a reset"
    );
    assert_eq!(get(&mut rtc, 2 * Ns::SECOND, at::YEAR), 0x00);
}

proptest! {
    /// The phase of the wall clock, of the divider and of late calls must not matter to what is shown.
    #[test]
    fn looking_in_between_changes_nothing(
        start in 0..4_000_000_000_000_000_000u64,
        looks in proptest::collection::vec(0..5_000_000_000u64, 1..20),
    ) {
        let (mut often, _) = rtc_at(start);
        let (mut once, _) = rtc_at(start);
        let mut now = 0;
        for step in looks {
            now += step;
            shown(&mut often, now);
        }
        prop_assert_eq!(shown(&mut often, now), shown(&mut once, now));
    }

    #[test]
    fn survives_any_port_stream(
        start: u64,
        ops in proptest::collection::vec((0..8u8, any::<u8>(), 0..64u32, any::<u64>()), 0..300),
    ) {
        let (mut rtc, wires) = rtc_at(start);
        let mut now = Ns(0);
        for (what, value, shift, step) in ops {
            now = now.after(step >> shift);
            match what {
                // The registers proper, far more often than chance would.
                0..=2 => put(&mut rtc, now.0, usize::from(value >> 4), value.rotate_left(3)),
                3 => drop(get(&mut rtc, now.0, C)),
                4 => prop_assert_eq!(
                    rtc.port_write(now, 0x70 + u16::from(value & 3), Width::Byte, value.into()),
                    Access::Done(())
                ),
                5 => drop(get(&mut rtc, now.0, value.into())),
                6 => put(&mut rtc, now.0, B, value),
                _ => rtc.advance(now),
            }
            if let Some(deadline) = rtc.deadline() {
                prop_assert!(deadline > now);
                prop_assert!(!wires.level(8));
            }
        }
    }
}
