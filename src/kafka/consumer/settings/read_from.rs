//! Where a partition is begun.

/// Where a partition is begun, the first time this process gets it.
///
/// All but [`Committed`](ReadFrom::Committed) are for whoever reads alone, or begins anew with all its group:
/// a process that joins others begins there as well, whatever they have done of its partitions. Partitions
/// that are made while it runs, and topics that its pattern finds later, are read from their first record
/// where it begins at `Committed` or `Latest`: nothing of them is older than its beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadFrom {
    /// Behind what its group has committed.
    Committed,
    /// At the first record that is there.
    Earliest,
    /// Behind the last record that is there.
    Latest,
    /// At this offset of each partition.
    Offset(i64),
    /// At the first record that is not older: milliseconds since 1970.
    Time(i64),
}

impl ReadFrom {
    /// There, or at the first record if there is no such position.
    #[must_use]
    pub fn or_earliest(self) -> Start {
        Start {
            from: self,
            otherwise: Otherwise::Earliest,
        }
    }

    /// There, or behind the last record if there is no such position.
    #[must_use]
    pub fn or_latest(self) -> Start {
        Start {
            from: self,
            otherwise: Otherwise::Latest,
        }
    }

    /// There; if there is no such position the run stops with [`Error::NoOffset`](crate::kafka::Error::NoOffset).
    #[must_use]
    pub fn or_stop(self) -> Start {
        Start {
            from: self,
            otherwise: Otherwise::Stop,
        }
    }
}

/// Where to begin, and where otherwise: made by the methods of [`ReadFrom`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    pub(in crate::kafka::consumer) from: ReadFrom,
    pub(super) otherwise: Otherwise,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Otherwise {
    Earliest,
    Latest,
    Stop,
}
