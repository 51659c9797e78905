//! A number of bytes as people write it: `"64KiB"`, `"10MiB"`.

use std::fmt;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::strict::InputError;
use crate::traffic::Setting;

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// A number of bytes, written `"64KiB"` or `"1500B"` in JSON and TOML. It is written without a
/// loss: in the largest unit of which it is a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut number, mut unit) = (self.0, 0);
        while number > 0 && number % 1024 == 0 {
            (number, unit) = (number / 1024, unit + 1);
        }
        write!(f, "{number}{}", UNITS[unit])
    }
}

impl Setting for Size {
    fn check(&self) -> Result<(), InputError> {
        Ok(())
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ByteSize::deserialize(deserializer).map(|size| Self(size.as_u64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_written_as_it_can_be_read_again() {
        for (bytes, text) in [
            (0, "0B"),
            (1_000_001, "1000001B"),
            (1024, "1KiB"),
            (10 << 20, "10MiB"),
            (1 << 63, "8EiB"),
            (u64::MAX, "18446744073709551615B"),
        ] {
            let json = serde_json::to_string(&Size(bytes)).expect("JSON");
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Size>(&json).ok(), Some(Size(bytes)));
        }
    }
}
