//! Limits against a service in virtual time: do they find its knee, and do they avoid what others'
//! limits are known to do?
#![allow(
    clippy::cast_sign_loss,
    clippy::float_cmp,
    clippy::unwrap_used,
    missing_docs
)]

mod converge;
mod known_failures;
mod model;
mod properties;
