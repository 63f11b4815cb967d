//! How much a stage asks for.

/// How much downstream asks for: whichever is reached first ends the chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Demand {
    /// At most so many elements.
    pub items: usize,
    /// At most so many bytes, where elements were weighed.
    pub bytes: u64,
}

impl Demand {
    /// Nothing: drive what is in flight, hand over nothing but marks.
    pub const NONE: Demand = Demand { items: 0, bytes: 0 };

    /// So many elements of any size.
    #[must_use]
    pub const fn items(items: usize) -> Demand {
        Demand {
            items,
            bytes: u64::MAX,
        }
    }

    /// The smaller of this demand and so many elements.
    #[must_use]
    pub const fn at_most(self, items: usize) -> Demand {
        Demand {
            items: if items < self.items {
                items
            } else {
                self.items
            },
            bytes: self.bytes,
        }
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.items == 0
    }
}
