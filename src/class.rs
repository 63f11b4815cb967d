//! Priority classes.
//!
//! A class says how dear an element is when not all can be served. It decides admission, order,
//! deferral and shedding, and every account is kept by it. Three classes are named; a pipeline may
//! declare up to [`Class::COUNT`]. A lower number is a higher priority.
//!
//! What this module does not do: it makes no decision. Policies do, and they read the class.

use std::fmt;

/// How dear an element is: 0 is served first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class(u8);

impl Class {
    /// Served first, shed last.
    pub const HIGH: Class = Class(0);
    /// The class of an element that nobody classified, where one has to be assumed.
    pub const MEDIUM: Class = Class(1);
    /// Shed first.
    pub const LOW: Class = Class(2);
    /// How many classes there can be.
    pub const COUNT: usize = 8;

    /// The last class there can be.
    pub const LOWEST: Class = Class(Class::COUNT as u8 - 1);

    /// The class of that number, or `None` past 7.
    #[must_use]
    pub const fn new(index: u8) -> Option<Class> {
        if (index as usize) < Class::COUNT {
            Some(Class(index))
        } else {
            None
        }
    }

    /// 0 for the highest priority.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The name reports use: `high`, `medium`, `low`, then `class3` and so on.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "high",
            1 => "medium",
            2 => "low",
            3 => "class3",
            4 => "class4",
            5 => "class5",
            6 => "class6",
            _ => "class7",
        }
    }
}

impl Default for Class {
    fn default() -> Self {
        Class::MEDIUM
    }
}

impl fmt::Debug for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_past_the_last_is_refused() {
        assert_eq!(Class::new(7).map(Class::name), Some("class7"));
        assert_eq!(Class::new(8), None);
        assert!(Class::HIGH < Class::LOW, "a higher priority sorts first");
    }
}
