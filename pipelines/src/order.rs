//! Decoding: one line of CSV or NDJSON is one order, or says why not.

use std::path::Path;

use forebay::class::Class;
use serde::Deserialize;
use serde_json::Value;

use crate::csv::{self, BadCsv};

/// The columns of an order, in the order they have where there is no header.
const COLUMNS: [&str; 5] = ["order_id", "user_id", "paid_on", "quantity", "amount_usd"];
const PLAIN: [usize; 5] = [0, 1, 2, 3, 4];

/// A paid order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Order {
    pub(crate) order_id: String,
    pub(crate) user_id: String,
    /// The day, ISO 8601.
    pub(crate) paid_on: String,
    pub(crate) quantity: u32,
    pub(crate) amount_cents: u64,
}

impl Order {
    /// How dear the order is: 100 and more HIGH, 20 and more MEDIUM, below LOW.
    pub(crate) fn class(&self) -> Class {
        match self.amount_cents {
            10_000.. => Class::HIGH,
            2_000.. => Class::MEDIUM,
            _ => Class::LOW,
        }
    }
}

/// Why a line is no order.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum BadOrder {
    #[error("not UTF-8")]
    NotText,
    #[error("longer than a line may be")]
    TooLong,
    #[error("an empty line")]
    Empty,
    #[error("not JSON: {0}")]
    NotJson(String),
    #[error("{found} fields instead of {expected}")]
    Fields { found: usize, expected: usize },
    #[error(transparent)]
    Csv(#[from] BadCsv),
    #[error("no {0}")]
    Missing(&'static str),
    #[error("{column} is `{text}`: {expected}")]
    Value {
        column: &'static str,
        text: String,
        expected: &'static str,
    },
    #[error("the amount is 0.00")]
    NothingPaid,
}

/// How lines are to be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// For each of [`COLUMNS`] the field it stands in, and how many fields a line has.
    Csv {
        columns: [usize; 5],
        fields: usize,
    },
    NdJson,
}

/// What the first lines of an input show.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Shown {
    pub(crate) format: Format,
    /// How many lines at the start are no orders: a header, and blank lines before it.
    pub(crate) skip: u64,
}

/// Looks at the first lines of an input, until one shows how all are to be read.
#[derive(Default, Debug)]
pub(crate) struct Look {
    lines: u64,
    /// Whether the first line that is not blank begins as JSON does.
    braces: Option<bool>,
}

impl Look {
    /// Looks at the next line. A header shows, and so does whatever is an order in one of the
    /// formats; a blank or damaged line does not.
    pub(crate) fn at(&mut self, line: &[u8]) -> Option<Shown> {
        self.lines += 1;
        let line = without_mark(line);
        if line.trim_ascii().is_empty() {
            return None;
        }
        let first = self.braces.is_none();
        self.braces
            .get_or_insert(line.trim_ascii_start().starts_with(b"{"));
        if let Some(format) = Format::header(line) {
            // Behind a damaged line it is no start of the file: it is refused as an order is.
            let skip = if first { self.lines } else { 0 };
            return Some(Shown { format, skip });
        }
        let json = !matches!(
            from_json(line),
            Err(BadOrder::NotJson(_) | BadOrder::NotText)
        );
        let format = if json {
            Format::NdJson
        } else {
            from_csv(line, &PLAIN, COLUMNS.len()).ok()?;
            Format::plain()
        };
        Some(Shown { format, skip: 0 })
    }

    /// What to go by where no line shows anything: the name, or how the first one begins.
    pub(crate) fn guess(&self, name: &Path) -> Shown {
        let packed = name.extension().is_some_and(|extension| extension == "gz");
        let name = if packed {
            name.with_extension("")
        } else {
            name.to_owned()
        };
        let json = match name.extension().and_then(|extension| extension.to_str()) {
            Some("ndjson" | "jsonl" | "json") => true,
            Some("csv") => false,
            _ => self.braces == Some(true),
        };
        Shown {
            format: if json {
                Format::NdJson
            } else {
                Format::plain()
            },
            skip: 0,
        }
    }
}

/// A line without the byte order mark that some programs begin a file with.
fn without_mark(line: &[u8]) -> &[u8] {
    line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
}

impl Format {
    /// CSV without a header.
    fn plain() -> Format {
        Format::Csv {
            columns: PLAIN,
            fields: COLUMNS.len(),
        }
    }

    /// CSV with that header, if it is one.
    fn header(line: &[u8]) -> Option<Format> {
        let names = csv::split(line).ok()?;
        let mut columns = PLAIN;
        for (column, name) in columns.iter_mut().zip(COLUMNS) {
            *column = names.iter().position(|field| field.trim() == name)?;
        }
        Some(Format::Csv {
            columns,
            fields: names.len(),
        })
    }

    /// The order on a line.
    pub(crate) fn decode(&self, line: &[u8]) -> Result<Order, BadOrder> {
        let line = without_mark(line);
        if line.trim_ascii().is_empty() {
            return Err(BadOrder::Empty);
        }
        let order = match self {
            Format::Csv { columns, fields } => from_csv(line, columns, *fields),
            Format::NdJson => from_json(line),
        }?;
        if order.amount_cents == 0 {
            return Err(BadOrder::NothingPaid);
        }
        Ok(order)
    }
}

fn from_csv(line: &[u8], columns: &[usize; 5], expected: usize) -> Result<Order, BadOrder> {
    let fields = csv::split(line)?;
    if fields.len() != expected {
        return Err(BadOrder::Fields {
            found: fields.len(),
            expected,
        });
    }
    let field = |column: usize| fields.get(columns[column]).map_or("", AsRef::as_ref).trim();
    order(field(0), field(1), field(2), field(3), field(4))
}

#[derive(Deserialize)]
struct Raw {
    order_id: Option<Value>,
    user_id: Option<Value>,
    paid_on: Option<Value>,
    quantity: Option<Value>,
    amount_usd: Option<Value>,
}

fn from_json(line: &[u8]) -> Result<Order, BadOrder> {
    let text = std::str::from_utf8(line).map_err(|_| BadOrder::NotText)?;
    let raw: Raw =
        serde_json::from_str(text).map_err(|error| BadOrder::NotJson(error.to_string()))?;
    let field = |column: usize, value: Option<Value>| match value {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(other) => Err(BadOrder::Value {
            column: COLUMNS[column],
            text: other.to_string(),
            expected: "a string or a number is needed",
        }),
        None => Err(BadOrder::Missing(COLUMNS[column])),
    };
    order(
        &field(0, raw.order_id)?,
        &field(1, raw.user_id)?,
        &field(2, raw.paid_on)?,
        &field(3, raw.quantity)?,
        &field(4, raw.amount_usd)?,
    )
}

fn order(
    order_id: &str,
    user_id: &str,
    paid_on: &str,
    quantity: &str,
    amount: &str,
) -> Result<Order, BadOrder> {
    let bad = |column: usize, text: &str, expected: &'static str| BadOrder::Value {
        column: COLUMNS[column],
        text: text.to_owned(),
        expected,
    };
    for (column, text) in [(0, order_id), (1, user_id)] {
        if text.is_empty() {
            return Err(BadOrder::Missing(COLUMNS[column]));
        }
    }
    if !is_day(paid_on) {
        return Err(bad(2, paid_on, "a day such as 1997-01-31 is needed"));
    }
    let quantity = match quantity.parse() {
        Ok(quantity) if quantity > 0 => quantity,
        _ => return Err(bad(3, quantity, "a number from 1 is needed")),
    };
    let amount_cents =
        cents(amount).ok_or_else(|| bad(4, amount, "an amount such as 11.77 is needed"))?;
    Ok(Order {
        order_id: order_id.to_owned(),
        user_id: user_id.to_owned(),
        paid_on: paid_on.to_owned(),
        quantity,
        amount_cents,
    })
}

/// Whether this is a day of the calendar, ISO 8601.
fn is_day(text: &str) -> bool {
    let shape = |(index, byte): (usize, u8)| match index {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    if text.len() != 10 || !text.bytes().enumerate().all(shape) {
        return false;
    }
    let number = |range: std::ops::Range<usize>| {
        text.get(range)
            .and_then(|part| part.parse().ok())
            .unwrap_or(0)
    };
    let (year, month, day): (u32, u32, u32) = (number(0..4), number(5..7), number(8..10));
    let leap = (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    (1..=days).contains(&day)
}

/// An amount with at most two decimals, in cents.
fn cents(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 2 {
        return None;
    }
    let scale = if part.len() == 1 { 10 } else { 1 };
    let whole: u64 = whole.parse().ok()?;
    let part: u64 = part.parse().ok()?;
    whole.checked_mul(100)?.checked_add(part * scale)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn csv() -> Format {
        shown(&["order_id,user_id,paid_on,quantity,amount_usd"], 1)
    }

    /// The format that these lines show, and that so many of them are to be passed over.
    fn shown(lines: &[&str], skip: u64) -> Format {
        let mut look = Look::default();
        let shown = lines.iter().find_map(|line| look.at(line.as_bytes()));
        let shown = shown.unwrap_or_else(|| look.guess(Path::new("-")));
        assert_eq!(shown.skip, skip, "{lines:?}");
        shown.format
    }

    #[test]
    fn a_line_of_the_orders_is_decoded_and_classified() {
        let order = csv().decode(b"2,4,1997-01-01,2,29.33").unwrap();
        assert_eq!(
            (order.order_id.as_str(), order.quantity, order.amount_cents),
            ("2", 2, 2933)
        );
        let class = |amount: &str| {
            csv()
                .decode(format!("1,1,1997-01-01,1,{amount}").as_bytes())
                .unwrap()
                .class()
        };
        let classes = ["100.00", "99.99", "20.00", "19.99", "0.01"].map(class);
        assert_eq!(
            classes,
            [
                Class::HIGH,
                Class::MEDIUM,
                Class::MEDIUM,
                Class::LOW,
                Class::LOW
            ]
        );
    }

    #[test]
    fn a_header_names_the_columns_in_any_order() {
        let format = shown(&["amount_usd,note,quantity,paid_on,user_id,order_id\r"], 1);
        let order = format
            .decode(b"1.5,\"a, \"\"b\"\"\",3,1998-02-28,u,o\r")
            .unwrap();
        assert_eq!(
            (
                order.order_id.as_str(),
                order.user_id.as_str(),
                order.amount_cents
            ),
            ("o", "u", 150)
        );
        assert_eq!(shown(&["1,1,1997-01-01,1,11.77"], 0), csv());
    }

    #[test]
    fn json_lines_are_decoded_by_name() {
        let format = shown(&[" {\"order_id\":1}"], 0);
        let line = br#"{"order_id":7,"user_id":"u","paid_on":"1997-03-01","quantity":1,"amount_usd":11.7,"x":[]}"#;
        let order = format.decode(line).unwrap();
        assert_eq!((order.order_id.as_str(), order.amount_cents), ("7", 1170));
        assert!(matches!(
            format.decode(b"{\"order_id\":7"),
            Err(BadOrder::NotJson(_))
        ));
        assert_eq!(
            format.decode(b"{\"order_id\":7}"),
            Err(BadOrder::Missing("user_id"))
        );
    }

    const CSV: &str = "1,1,1997-01-01,1,11.77";
    const JSON: &str =
        r#"{"order_id":7,"user_id":"u","paid_on":"1997-03-01","quantity":1,"amount_usd":1}"#;
    const HEADER: &str = "user_id,order_id,paid_on,quantity,amount_usd";

    #[test]
    fn the_first_line_that_is_one_shows_how_all_are_read() {
        for before in [
            &[][..],
            &[""],
            &["  \r", ""],
            &["nonsense"],
            &["", "{\"order_id\":"],
        ] {
            let opening = |line| [before, &[line]].concat();
            assert_eq!(shown(&opening(CSV), 0), csv(), "{before:?}");
            assert_eq!(shown(&opening(JSON), 0), Format::NdJson, "{before:?}");
            // Blank lines before a header are passed over with it; a damaged line is not.
            let blank = before.iter().all(|line| line.trim().is_empty());
            let skip = if blank { before.len() as u64 + 1 } else { 0 };
            let format = shown(&opening(HEADER), skip);
            assert_eq!(format.decode(b"u,7,1997-03-01,1,1").unwrap().order_id, "7");
        }
        assert_eq!(shown(&["1,1,1997-01-01,1,0.00"], 0), csv());
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_what_follows_it() {
        let marked = |line: &str| format!("\u{feff}{line}");
        assert_eq!(shown(&[&marked(JSON)], 0), Format::NdJson);
        assert_eq!(shown(&[&marked(CSV)], 0), csv());
        assert_ne!(shown(&[&marked(HEADER)], 1), csv());
        for (format, line) in [(csv(), CSV), (Format::NdJson, JSON)] {
            let plain = format.decode(line.as_bytes());
            assert!(plain.is_ok());
            assert_eq!(format.decode(marked(line).as_bytes()), plain);
        }
        assert_eq!(csv().decode("\u{feff}".as_bytes()), Err(BadOrder::Empty));
    }

    #[test]
    fn where_no_line_shows_anything_the_name_does() {
        let guess = |line: &str, name: &str| {
            let mut look = Look::default();
            assert_eq!(look.at(line.as_bytes()), None);
            look.guess(Path::new(name)).format
        };
        for name in ["a.ndjson", "a.jsonl", "a.json", "a.ndjson.gz"] {
            assert_eq!(guess("nonsense", name), Format::NdJson, "{name}");
        }
        for name in ["a.csv", "a.csv.gz"] {
            assert_eq!(guess("{nonsense", name), csv(), "{name}");
        }
        for name in ["-", "a", "a.txt"] {
            assert_eq!(guess("{nonsense", name), Format::NdJson, "{name}");
            assert_eq!(guess("nonsense", name), csv(), "{name}");
        }
    }

    #[test]
    fn every_way_to_be_no_order_has_its_reason() {
        let reason = |line: &[u8]| csv().decode(line).unwrap_err();
        assert_eq!(reason(b"1,1,1997-01-01,1,0.00"), BadOrder::NothingPaid);
        assert_eq!(reason(b" \r"), BadOrder::Empty);
        assert_eq!(
            reason(b"1,1,1997-01-01,1"),
            BadOrder::Fields {
                found: 4,
                expected: 5
            }
        );
        assert_eq!(
            reason(b"1,1,1997-01-01,1,2,3"),
            BadOrder::Fields {
                found: 6,
                expected: 5
            }
        );
        assert_eq!(
            reason(b"1,\"1,1997-01-01,1,2"),
            BadOrder::Csv(BadCsv::Quotes)
        );
        assert_eq!(
            reason(b"1,\"1\"1,1997-01-01,1,2"),
            BadOrder::Csv(BadCsv::Quotes)
        );
        assert_eq!(
            reason(b"1,\xff,1997-01-01,1,2"),
            BadOrder::Csv(BadCsv::NotText)
        );
        assert_eq!(reason(b",1,1997-01-01,1,2"), BadOrder::Missing("order_id"));
        for bad in ["1997-02-29", "1997-13-01", "97-01-01", "1997-00-10"] {
            let error = reason(format!("1,1,{bad},1,2").as_bytes());
            assert!(
                matches!(
                    error,
                    BadOrder::Value {
                        column: "paid_on",
                        ..
                    }
                ),
                "{error}"
            );
        }
        for bad in [
            "-1.00",
            "1.234",
            "",
            ".5",
            "1.",
            "1e3",
            "99999999999999999999",
        ] {
            let error = reason(format!("1,1,1997-01-01,1,{bad}").as_bytes());
            assert!(
                matches!(
                    error,
                    BadOrder::Value {
                        column: "amount_usd",
                        ..
                    }
                ),
                "{error}"
            );
        }
        for bad in ["0", "-1", "1.5", "many"] {
            let error = reason(format!("1,1,1997-01-01,{bad},2").as_bytes());
            assert!(
                matches!(
                    error,
                    BadOrder::Value {
                        column: "quantity",
                        ..
                    }
                ),
                "{error}"
            );
        }
    }
}
