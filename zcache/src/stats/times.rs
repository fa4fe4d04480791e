//! Times as numbers of nanoseconds, for `serde`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A time, or none.
pub(super) trait Time: Sized {
    type Number: Serialize + for<'d> Deserialize<'d>;

    fn number(&self) -> Self::Number;
    fn of(number: Self::Number) -> Self;
}

impl Time for Duration {
    type Number = u64;

    fn number(&self) -> u64 {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX)
    }

    fn of(nanoseconds: u64) -> Self {
        Self::from_nanos(nanoseconds)
    }
}

impl Time for Option<Duration> {
    type Number = Option<u64>;

    fn number(&self) -> Option<u64> {
        self.map(|time| time.number())
    }

    fn of(nanoseconds: Option<u64>) -> Self {
        nanoseconds.map(Duration::from_nanos)
    }
}

pub(super) fn serialize<T: Time, S: Serializer>(time: &T, to: S) -> Result<S::Ok, S::Error> {
    time.number().serialize(to)
}

pub(super) fn deserialize<'d, T: Time, D: Deserializer<'d>>(from: D) -> Result<T, D::Error> {
    T::Number::deserialize(from).map(T::of)
}
