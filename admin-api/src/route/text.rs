//! How a path, or what a value has to be, is written: a text, or a table with a regular expression.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::route::{PathSpec, Pattern, ValueTest};

/// As it stands in a table: `{ regex = "…" }`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Matches {
    regex: Pattern,
}

impl Serialize for ValueTest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Is(text) => serializer.serialize_str(text),
            Self::Present(wanted) => serializer.serialize_bool(*wanted),
            Self::Matches(pattern) => write(pattern, serializer),
        }
    }
}

impl Serialize for PathSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Is(path) => serializer.serialize_str(path),
            Self::Matches(pattern) => write(pattern, serializer),
        }
    }
}

fn write<S: Serializer>(pattern: &Pattern, serializer: S) -> Result<S::Ok, S::Error> {
    let regex = pattern.clone();
    Matches { regex }.serialize(serializer)
}

/// Reads either of the two. Only the one of values takes a boolean.
struct TestVisitor {
    takes_bool: bool,
}

impl<'de> Visitor<'de> for TestVisitor {
    type Value = ValueTest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.takes_bool {
            true => "a text, true, false or { regex = \"…\" }",
            false => "a text or { regex = \"…\" }",
        })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ValueTest, E> {
        Ok(ValueTest::Is(text.to_owned()))
    }

    fn visit_bool<E: Error>(self, wanted: bool) -> Result<ValueTest, E> {
        match self.takes_bool {
            true => Ok(ValueTest::Present(wanted)),
            false => Err(E::invalid_type(Unexpected::Bool(wanted), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ValueTest, A::Error> {
        let Matches { regex } = Matches::deserialize(MapAccessDeserializer::new(map))?;
        Ok(ValueTest::Matches(regex))
    }
}

impl<'de> Deserialize<'de> for ValueTest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TestVisitor { takes_bool: true })
    }
}

impl<'de> Deserialize<'de> for PathSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = TestVisitor { takes_bool: false };
        match deserializer.deserialize_any(visitor)? {
            ValueTest::Matches(pattern) => Ok(Self::Matches(pattern)),
            ValueTest::Is(path) => Ok(Self::Is(path)),
            ValueTest::Present(_) => Err(D::Error::custom("a text or { regex = \"…\" }")),
        }
    }
}
