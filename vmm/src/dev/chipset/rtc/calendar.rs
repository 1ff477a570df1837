//! The ten bytes of time and date as the clock chip keeps them, and the civil calendar they count in.
//!
//! The bytes are the truth, as in the chip: they hold what the guest wrote, in the format it wrote, until the next
//! update counts them on. Counting on takes any number of seconds at once; bytes that are no time at all (a guest
//! may write anything) become some time, never an error.

/// Places of the time bytes (MC146818A, "Address Map"; the century is where PCs and the ACPI FADT have it).
pub(super) mod at {
    pub const SECONDS: usize = 0x00;
    pub const SECONDS_ALARM: usize = 0x01;
    pub const MINUTES: usize = 0x02;
    pub const MINUTES_ALARM: usize = 0x03;
    pub const HOURS: usize = 0x04;
    pub const HOURS_ALARM: usize = 0x05;
    pub const DAY_OF_WEEK: usize = 0x06;
    pub const DAY: usize = 0x07;
    pub const MONTH: usize = 0x08;
    pub const YEAR: usize = 0x09;
    pub const CENTURY: usize = 0x32;
}

const DAY_SECONDS: i64 = 86_400;
/// Register B: binary rather than BCD, and 24 rather than 12 hours.
const DM: u8 = 1 << 2;
const HOURS_24: u8 = 1 << 1;
/// Afternoon, in the hours byte of the 12-hour format.
const PM: u8 = 1 << 7;

/// How the bytes stand for numbers: the DM and 24/12 bits of register B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    binary: bool,
    hours_24: bool,
}

impl Format {
    /// As register B says.
    pub(super) fn of_register_b(b: u8) -> Self {
        Self {
            binary: b & DM != 0,
            hours_24: b & HOURS_24 != 0,
        }
    }

    /// The byte for `number` (0..=99).
    pub(super) fn encode(self, number: u8) -> u8 {
        if self.binary {
            number
        } else {
            ((number / 10) << 4) | (number % 10)
        }
    }

    /// The number a byte stands for; digits above 9 count for what they are, so up to 165 or 255.
    pub(super) fn decode(self, byte: u8) -> u8 {
        if self.binary {
            byte
        } else {
            (byte >> 4) * 10 + (byte & 15)
        }
    }

    /// The byte for `hour` (0..=23).
    pub(super) fn encode_hour(self, hour: u8) -> u8 {
        if self.hours_24 {
            return self.encode(hour);
        }
        let twelve = match hour % 12 {
            0 => 12,
            other => other,
        };
        self.encode(twelve) | if hour >= 12 { PM } else { 0 }
    }

    /// The hour a byte stands for.
    pub(super) fn decode_hour(self, byte: u8) -> u8 {
        if self.hours_24 {
            return self.decode(byte);
        }
        let twelve = self.decode(byte & !PM);
        let morning = if twelve == 12 { 0 } else { twelve };
        if byte & PM != 0 { morning + 12 } else { morning }
    }
}

/// Days from 1 January 1970 to the first of `month` (0..=11) of `year`, by the Gregorian calendar.
fn days_before(year: i64, month: i64) -> i64 {
    // Years that begin in March put the leap day at their end; the months then have lengths 31,30,31,30,31 over
    // and over, which the linear form gives.
    let march_year = if month < 2 { year - 1 } else { year };
    let march_month = (month + 10) % 12;
    let leap_days = march_year.div_euclid(4) - march_year.div_euclid(100) + march_year.div_euclid(400);
    march_year * 365 + leap_days + (march_month * 153 + 2) / 5 - 719_468
}

/// Year, month (0..=11) and day (0..=30) of a day counted from 1 January 1970.
fn date_of(days: i64) -> (i64, i64, i64) {
    // The average year comes within one of the right one; a step back corrects it.
    let mut year = 1970 + (days * 400).div_euclid(146_097);
    if days_before(year, 0) > days {
        year -= 1;
    } else if days_before(year + 1, 0) <= days {
        year += 1;
    }
    let month = (1..12)
        .take_while(|&month| days_before(year, month) <= days)
        .last()
        .unwrap_or(0);
    (year, month, days - days_before(year, month))
}

/// The time the bytes in `ram` stand for, in seconds since 1970.
fn read(ram: &[u8; 128], format: Format) -> i64 {
    let field = |place: usize| i64::from(format.decode(ram[place]));
    let year = field(at::CENTURY) * 100 + field(at::YEAR);
    let months = year * 12 + (field(at::MONTH) - 1).max(0);
    let days = days_before(months / 12, months % 12) + (field(at::DAY) - 1).max(0);
    let hour = i64::from(format.decode_hour(ram[at::HOURS]));
    days * DAY_SECONDS + hour * 3600 + field(at::MINUTES) * 60 + field(at::SECONDS)
}

/// Puts `time`, in seconds since 1970, into the bytes; the day of the week apart.
fn write(ram: &mut [u8; 128], format: Format, time: i64) {
    let (year, month, day) = date_of(time.div_euclid(DAY_SECONDS));
    let second = time.rem_euclid(DAY_SECONDS);
    ram[at::HOURS] = format.encode_hour((second / 3600) as u8);
    for (place, number) in [
        (at::SECONDS, second % 60),
        (at::MINUTES, second / 60 % 60),
        (at::DAY, day + 1),
        (at::MONTH, month + 1),
        (at::YEAR, year.rem_euclid(100)),
        (at::CENTURY, year.div_euclid(100).rem_euclid(100)),
    ] {
        ram[place] = format.encode(number as u8);
    }
}

/// Sets the clock to `time`, in seconds since 1970.
pub(super) fn set(ram: &mut [u8; 128], format: Format, time: i64) {
    write(ram, format, time);
    // 1 is Sunday; 1 January 1970 was a Thursday.
    let day_of_week = (time.div_euclid(DAY_SECONDS) + 4).rem_euclid(7) + 1;
    ram[at::DAY_OF_WEEK] = format.encode(day_of_week as u8);
}

/// Counts the clock on by `seconds`. The day of the week counts on by itself: the chip does not check it.
pub(super) fn count_on(ram: &mut [u8; 128], format: Format, seconds: u64) {
    let before = read(ram, format);
    let after = before.saturating_add_unsigned(seconds);
    write(ram, format, after);
    let days = after.div_euclid(DAY_SECONDS) - before.div_euclid(DAY_SECONDS);
    let day_of_week = i64::from(format.decode(ram[at::DAY_OF_WEEK])) - 1;
    ram[at::DAY_OF_WEEK] = format.encode((day_of_week + days).rem_euclid(7) as u8 + 1);
}

/// What an alarm byte asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// Don't care: both high bits set.
    Any,
    Exactly(i64),
    /// A byte the clock never shows.
    Never,
}

impl Wanted {
    /// `byte` decodes to `number`, which the clock, showing numbers below `limit`, would show as `shown`.
    fn of(byte: u8, number: u8, shown: u8, limit: u8) -> Self {
        if byte >= 0xc0 {
            Self::Any
        } else if number < limit && shown == byte {
            Self::Exactly(number.into())
        } else {
            Self::Never
        }
    }

    fn fits(self, number: i64) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(wanted) => wanted == number,
            Self::Never => false,
        }
    }
}

/// Seconds (1..=86400) until the clock next shows the alarm time; `None` if it never does.
pub(super) fn seconds_to_alarm(ram: &[u8; 128], format: Format) -> Option<u64> {
    let sixtieth = |byte: u8| {
        let number = format.decode(byte);
        Wanted::of(byte, number, format.encode(number % 100), 60)
    };
    let byte = ram[at::HOURS_ALARM];
    let number = format.decode_hour(byte);
    let hour = Wanted::of(byte, number, format.encode_hour(number % 24), 24);
    let minute = sixtieth(ram[at::MINUTES_ALARM]);
    let second = sixtieth(ram[at::SECONDS_ALARM]);
    if [hour, minute, second].contains(&Wanted::Never) {
        return None;
    }

    let now = read(ram, format).rem_euclid(DAY_SECONDS);
    let mut time = now + 1;
    // From unit to next unit that fits: at most 25 hours, 60 minutes, 60 seconds are looked at.
    while time <= now + DAY_SECONDS {
        time = if !hour.fits(time / 3600 % 24) {
            (time / 3600 + 1) * 3600
        } else if !minute.fits(time / 60 % 60) {
            (time / 60 + 1) * 60
        } else if !second.fits(time % 60) {
            time + 1
        } else {
            return u64::try_from(time - now).ok();
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn formats() -> impl Iterator<Item = Format> {
        [0, DM, HOURS_24, DM | HOURS_24]
            .into_iter()
            .map(Format::of_register_b)
    }

    /// MC146818A, "Time, Calendar, and Alarm Data Modes", hours.
    #[test]
    fn hours_are_as_the_table_says() {
        for (b, hour, byte) in [
            (0, 0, 0x12),
            (0, 1, 0x01),
            (0, 11, 0x11),
            (0, 12, 0x92),
            (0, 23, 0x91),
            (DM, 0, 0x0c),
            (DM, 12, 0x8c),
            (DM, 23, 0x8b),
            (HOURS_24, 0, 0x00),
            (HOURS_24, 23, 0x23),
            (DM | HOURS_24, 23, 0x17),
        ] {
            let format = Format::of_register_b(b);
            assert_eq!(format.encode_hour(hour), byte);
            assert_eq!(format.decode_hour(byte), hour);
        }
    }

    #[test]
    fn every_number_comes_back_in_every_format() {
        for format in formats() {
            assert!((0..100).all(|n| format.decode(format.encode(n)) == n));
            assert!((0..24).all(|h| format.decode_hour(format.encode_hour(h)) == h));
        }
    }

    /// Day after day by the lengths of the months, with no formula.
    #[test]
    fn dates_agree_with_a_calendar_turned_page_by_page() {
        let (mut year, mut month, mut day) = (1970i64, 0i64, 0i64);
        for days in 0..160_000 {
            assert_eq!(date_of(days), (year, month, day));
            assert_eq!(days_before(year, month) + day, days);
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month + 1 {
                4 | 6 | 9 | 11 => 30,
                2 if leap => 29,
                2 => 28,
                _ => 31,
            };
            day += 1;
            if day == length {
                day = 0;
                month += 1;
            }
            if month == 12 {
                month = 0;
                year += 1;
            }
        }
    }

    #[test]
    fn rollovers_carry_as_far_as_they_must() {
        // Unix time one second before; date, time and day of the week after.
        for (before, date, time, day_of_week) in [
            (951_782_399, [20, 0, 2, 29], [0, 0, 0], 3),    // 28 February 2000
            (951_868_799, [20, 0, 3, 1], [0, 0, 0], 4),     // 29 February 2000
            (1_709_164_799, [20, 24, 2, 29], [0, 0, 0], 5), // 28 February 2024
            (4_107_542_399, [21, 0, 3, 1], [0, 0, 0], 2),   // 28 February 2100: not a leap year
            (946_684_799, [20, 0, 1, 1], [0, 0, 0], 7),     // 31 December 1999
            (1_767_225_599, [20, 26, 1, 1], [0, 0, 0], 5),  // 31 December 2025
            (1_767_268_799, [20, 26, 1, 1], [12, 0, 0], 5), // noon
        ] {
            for format in formats() {
                let mut ram = [0; 128];
                set(&mut ram, format, before);
                count_on(&mut ram, format, 1);
                let shown = [at::CENTURY, at::YEAR, at::MONTH, at::DAY].map(|at| format.decode(ram[at]));
                assert_eq!(shown, date, "{before} {format:?}");
                let clock = [
                    format.decode_hour(ram[at::HOURS]),
                    format.decode(ram[at::MINUTES]),
                    format.decode(ram[at::SECONDS]),
                ];
                assert_eq!(clock, time, "{before} {format:?}");
                assert_eq!(
                    format.decode(ram[at::DAY_OF_WEEK]),
                    day_of_week,
                    "{before} {format:?}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn counting_on_is_setting_later(start in 0..200_000_000_000i64, seconds in 0..50_000_000_000u64, b: u8) {
            let format = Format::of_register_b(b);
            let (mut counted, mut later) = ([0; 128], [0; 128]);
            set(&mut counted, format, start);
            count_on(&mut counted, format, seconds);
            set(&mut later, format, start + seconds as i64);
            prop_assert_eq!(counted, later);
        }

        #[test]
        fn garbage_counts_on_to_some_valid_time(bytes: [u8; 11], seconds: u64, b: u8) {
            let format = Format::of_register_b(b);
            let mut ram = [0; 128];
            ram[..10].copy_from_slice(&bytes[..10]);
            ram[at::CENTURY] = bytes[10];
            let alarm = seconds_to_alarm(&ram, format);
            prop_assert!(alarm.is_none_or(|seconds| (1..=86_400).contains(&seconds)));
            count_on(&mut ram, format, seconds);
            prop_assert!(format.decode(ram[at::SECONDS]) < 60);
            prop_assert!(format.decode_hour(ram[at::HOURS]) < 24);
            prop_assert!((1..=31).contains(&format.decode(ram[at::DAY])));
            prop_assert!((1..=12).contains(&format.decode(ram[at::MONTH])));
            prop_assert!((1..=7).contains(&format.decode(ram[at::DAY_OF_WEEK])));
        }
    }

    proptest! {
        // Each case turns the clock through up to a whole day.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_alarm_is_the_first_second_whose_bytes_match(
            start in 0..4_000_000_000i64,
            alarm: [u8; 3],
            likely: [bool; 3],
            b: u8,
        ) {
            let format = Format::of_register_b(b);
            let mut ram = [0; 128];
            set(&mut ram, format, start);
            let fields = [
                (at::SECONDS, at::SECONDS_ALARM, format.encode(alarm[0] % 60)),
                (at::MINUTES, at::MINUTES_ALARM, format.encode(alarm[1] % 60)),
                (at::HOURS, at::HOURS_ALARM, format.encode_hour(alarm[2] % 24)),
            ];
            for (i, &(_, place, valid)) in fields.iter().enumerate() {
                ram[place] = if likely[i] { valid } else { alarm[i] };
            }
            let promised = seconds_to_alarm(&ram, format);
            let mut clock = ram;
            let mut seen = None;
            for second in 1..=86_400 {
                count_on(&mut clock, format, 1);
                if fields.iter().all(|&(time, alarm, _)| ram[alarm] >= 0xc0 || clock[time] == ram[alarm]) {
                    seen = Some(second);
                    break;
                }
            }
            prop_assert_eq!(promised, seen);
        }
    }
}
