//! A setting that cannot be.

/// A value that a builder refuses.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("`{field}` is {value}, which is not within {range}")]
pub struct Invalid {
    /// Which setting.
    pub field: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it may be.
    pub range: &'static str,
}

impl Invalid {
    /// Refuses that value of that field.
    pub fn new(field: &'static str, value: impl ToString, range: &'static str) -> Invalid {
        Invalid {
            field,
            value: value.to_string(),
            range,
        }
    }

    /// Refuses the value unless it is as it should be.
    ///
    /// # Errors
    /// `Invalid` if `ok` is false.
    pub fn unless(
        ok: bool,
        field: &'static str,
        value: impl ToString,
        range: &'static str,
    ) -> Result<(), Invalid> {
        if ok {
            Ok(())
        } else {
            Err(Invalid::new(field, value, range))
        }
    }
}
