//! The operations of a store, and their names in metrics and logs.

/// An operation of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Get,
    Put,
    PutIfAbsent,
    CompareAndSet,
    WriteInOrder,
    CompareAndDelete,
    Scan,
    Append,
    LogAfter,
    Ping,
    /// Belongs to [`super::SharedRates`]. It is the last one because not every store has it.
    Acquire,
}

impl Operation {
    /// The steps of every [`super::Store`], in the order of their numbers.
    pub(super) const STEPS: [Self; 10] = [
        Self::Get,
        Self::Put,
        Self::PutIfAbsent,
        Self::CompareAndSet,
        Self::WriteInOrder,
        Self::CompareAndDelete,
        Self::Scan,
        Self::Append,
        Self::LogAfter,
        Self::Ping,
    ];

    /// Its name in metrics and logs.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::PutIfAbsent => "put_if_absent",
            Self::CompareAndSet => "compare_and_set",
            Self::WriteInOrder => "write_in_order",
            Self::CompareAndDelete => "compare_and_delete",
            Self::Scan => "scan",
            Self::Append => "append",
            Self::LogAfter => "log_after",
            Self::Ping => "ping",
            Self::Acquire => "admit",
        }
    }
}
