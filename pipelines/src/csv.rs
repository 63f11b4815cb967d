//! One line of CSV: its fields.

use std::borrow::Cow;

/// Why a line is no CSV.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum BadCsv {
    #[error("not UTF-8")]
    NotText,
    #[error("a quoted field does not end as it should")]
    Quotes,
}

/// The fields of one record, as RFC 4180 has them, but that a record is one line. A parser of whole
/// files would mend what is broken here; a dead letter needs to know that it is.
pub(crate) fn split(line: &[u8]) -> Result<Vec<Cow<'_, str>>, BadCsv> {
    let text = std::str::from_utf8(line).map_err(|_| BadCsv::NotText)?;
    let mut rest = Some(text.strip_suffix('\r').unwrap_or(text));
    let mut fields = Vec::new();
    while let Some(from) = rest {
        let (field, after) = match from.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = from.find(',').unwrap_or(from.len());
                (Cow::Borrowed(&from[..end]), &from[end..])
            }
        };
        fields.push(field);
        rest = after.strip_prefix(',');
    }
    Ok(fields)
}

/// A field behind its opening quote, with doubled quotes undone, and what follows its closing one.
fn unquote(quoted: &str) -> Result<(Cow<'_, str>, &str), BadCsv> {
    let mut from = 0;
    loop {
        let end = from + quoted[from..].find('"').ok_or(BadCsv::Quotes)?;
        let after = &quoted[end + 1..];
        if after.starts_with('"') {
            from = end + 2;
        } else if after.is_empty() || after.starts_with(',') {
            let field = &quoted[..end];
            let field = if from == 0 {
                Cow::Borrowed(field)
            } else {
                Cow::Owned(field.replace("\"\"", "\""))
            };
            return Ok((field, after));
        } else {
            return Err(BadCsv::Quotes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_split_and_quotes_undone() {
        let fields = |line: &str| split(line.as_bytes()).map(|fields| fields.join("|"));
        for (line, expected) in [
            ("", ""),
            ("a,b", "a|b"),
            (",a,", "|a|"),
            ("a,b\r", "a|b"),
            ("\"a,b\",c", "a,b|c"),
            ("\"\",\"\"\"\"", "|\""),
            ("\"a \"\"b\"\", c\"", "a \"b\", c"),
            ("a\"b,c", "a\"b|c"),
        ] {
            assert_eq!(fields(line).as_deref(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn quotes_that_do_not_end_are_told() {
        for line in ["\"", "a,\"b", "\"a\"b", "\"a\"\"", "\"a\" ,b"] {
            assert_eq!(split(line.as_bytes()), Err(BadCsv::Quotes), "{line}");
        }
        assert_eq!(split(b"\xff"), Err(BadCsv::NotText));
    }
}
