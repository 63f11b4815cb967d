//! Times on a command line, and in what it prints.

/// A time, or so long ago.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moment {
    /// Milliseconds since 1970.
    At(i64),
    /// Milliseconds ago.
    Ago(i64),
}

impl Moment {
    /// In milliseconds since 1970.
    pub(crate) fn ms(self, now_ms: i64) -> i64 {
        match self {
            Moment::At(at) => at,
            Moment::Ago(ago) => now_ms.saturating_sub(ago),
        }
    }
}

pub(crate) fn parse(text: &str) -> Result<Moment, String> {
    let moment = match text.parse() {
        Ok(at) => Some(Moment::At(at)),
        Err(_) => ago(text)
            .map(Moment::Ago)
            .or_else(|| utc(text).map(Moment::At)),
    };
    moment.ok_or_else(|| {
        "no time, such as 1772368200000, 2026-03-01T12:30:00Z, 90s, 30m, 12h or 7d".to_owned()
    })
}

fn ago(text: &str) -> Option<i64> {
    let (count, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let ms = match unit {
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let count: i64 = count.parse().ok()?;
    (count >= 0).then(|| count.saturating_mul(ms))
}

/// `2026-03-01`, or with `T12:30:00Z` behind it, or with `.250` before the `Z`.
fn utc(text: &str) -> Option<i64> {
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, time.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let (year, month, day) = three(date, '-')?;
    let (time, ms) = match time.split_once('.') {
        Some((time, ms)) if ms.len() == 3 => (time, ms.parse::<i64>().ok()?),
        Some(_) => return None,
        None => (time, 0),
    };
    let (hour, minute, second) = three(time, ':')?;
    let is_valid = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second)
        && ms >= 0;
    if !is_valid {
        return None;
    }
    let before: i64 = (1970..year)
        .map(|year| 365 + i64::from(is_leap(year)))
        .sum();
    let months: i64 = (1..month).map(|month| days_of(year, month)).sum();
    let days = before + months + day - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + ms)
}

fn three(text: &str, between: char) -> Option<(i64, i64, i64)> {
    let mut numbers = text.split(between).map(|part| part.parse().ok());
    match (
        numbers.next(),
        numbers.next(),
        numbers.next(),
        numbers.next(),
    ) {
        (Some(Some(one)), Some(Some(two)), Some(Some(three)), None) => Some((one, two, three)),
        _ => None,
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// As `2026-03-01T12:30:00.250Z`.
pub(crate) fn shown(ms: i64) -> String {
    let (mut days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let mut year = 1970;
    if !(0..3_000_000).contains(&days) {
        return ms.to_string();
    }
    while days >= 365 + i64::from(is_leap(year)) {
        days -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    while days >= days_of(year, month) {
        days -= days_of(year, month);
        month += 1;
    }
    let (second, ms) = (rest / 1000, rest % 1000);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!(
        "{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z",
        days + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_shown() {
        for (text, ms) in [
            ("1970-01-01", 0),
            ("2000-02-29T23:59:59Z", 951_868_799_000),
            ("2026-03-01T12:30:00.250Z", 1_772_368_200_250),
            ("1772368200250", 1_772_368_200_250),
        ] {
            assert_eq!(parse(text), Ok(Moment::At(ms)), "{text}");
        }
        assert_eq!(shown(1_772_368_200_250), "2026-03-01T12:30:00.250Z");
        assert_eq!(shown(951_868_799_000), "2000-02-29T23:59:59.000Z");
        assert_eq!(parse("90s"), Ok(Moment::Ago(90_000)));
        assert_eq!(Moment::Ago(1000).ms(5000), 4000);
        for text in [
            "",
            "s",
            "-1h",
            "1w",
            "2026-02-29",
            "2026-13-01",
            "2026-01-01T24:00:00Z",
            "2026-01-01T10:00:00",
            "2026-01",
            "é",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
