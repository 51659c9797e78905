//! Two types whose keys stand in one table, read strictly: `#[serde(flatten)]` that keeps
//! `deny_unknown_fields`, and the line and the field of an error.
//!
//! serde's own `flatten` reads every key that it does not know into memory first, and gives the
//! values to the inner type later, when their places are forgotten. [`Flat`] decides at each key
//! whose it is, and reads the value at once:
//!
//! ```text
//! [[services]]             ┌─ a key of the outer type ──► its derived `Deserialize`
//! name = "web"      ──► key┤
//! balance = …              └─ a key of the inner type ──► `FlatKeys::read_key`
//! ```

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

/// A type whose keys stand in the table of another type. All of them are optional.
pub trait FlatKeys: Default {
    /// Its keys.
    const KEYS: &'static [&'static str];

    /// Reads the value of `key`, which is one of [`FlatKeys::KEYS`] and was read from `map` last.
    fn read_key<'de, A: MapAccess<'de>>(
        &mut self,
        key: &'static str,
        map: &mut A,
    ) -> Result<(), A::Error>;
}

/// What the outer type is read from: a table without the keys of the inner type, which are read
/// into that on the way. A key of neither type is an error, and so is one that is there twice.
///
/// The outer type derives `Deserialize` with `#[serde(deny_unknown_fields, remote = "Self")]`, which
/// makes `deserialize` its own function, without the trait:
///
/// ```
/// use admin_api::TrafficSettings;
/// use admin_api::flat::Flat;
/// use serde::{Deserialize, Deserializer};
///
/// #[derive(Deserialize)]
/// #[serde(deny_unknown_fields, remote = "Self")]
/// struct Service {
///     name: String,
///     #[serde(skip)]
///     traffic: TrafficSettings,
/// }
///
/// impl<'de> Deserialize<'de> for Service {
///     fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
///         let mut traffic = TrafficSettings::default();
///         let service = Self::deserialize(Flat::new(deserializer, &mut traffic))?;
///         Ok(Self { traffic, ..service })
///     }
/// }
///
/// let service: Service = admin_api::strict::from_toml("name = \"web\"\nstrip_prefix = true")?;
/// assert!(service.name == "web" && service.traffic.strip_prefix);
/// # Ok::<(), admin_api::strict::InputError>(())
/// ```
#[derive(Debug)]
pub struct Flat<'i, D, Inner> {
    deserializer: D,
    inner: &'i mut Inner,
}

impl<'i, D, Inner> Flat<'i, D, Inner> {
    /// Of the table that `deserializer` has. `inner` is filled.
    pub fn new(deserializer: D, inner: &'i mut Inner) -> Self {
        Self {
            deserializer,
            inner,
        }
    }
}

impl<'de, D: Deserializer<'de>, Inner: FlatKeys> Deserializer<'de> for Flat<'_, D, Inner> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserializer.deserialize_map(Table {
            visitor,
            outer: fields,
            inner: self.inner,
        })
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.deserialize_struct("", &[], visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The visitor of the outer type, around which the keys of the inner type are taken out.
struct Table<'i, V, Inner> {
    visitor: V,
    outer: &'static [&'static str],
    inner: &'i mut Inner,
}

impl<'de, V: Visitor<'de>, Inner: FlatKeys> Visitor<'de> for Table<'_, V, Inner> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Entries {
            map,
            outer: self.outer,
            inner: self.inner,
            seen: Vec::new(),
        })
    }
}

/// The entries of the outer type. Those of the inner type are read on the way.
struct Entries<'i, A, Inner> {
    map: A,
    outer: &'static [&'static str],
    inner: &'i mut Inner,
    /// Keys of the inner type.
    seen: Vec<&'static str>,
}

impl<'de, A: MapAccess<'de>, Inner: FlatKeys> MapAccess<'de> for Entries<'_, A, Inner> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let whose = WhoseKey {
            outer: self.outer,
            inner: Inner::KEYS,
        };
        while let Some(key) = self.map.next_key_seed(whose)? {
            match key {
                Key::OfOuter(key) => {
                    let key: StrDeserializer<'_, A::Error> = key.into_deserializer();
                    return seed.deserialize(key).map(Some);
                }
                Key::OfInner(key) if self.seen.contains(&key) => {
                    return Err(A::Error::duplicate_field(key));
                }
                Key::OfInner(key) => {
                    self.seen.push(key);
                    self.inner.read_key(key, &mut self.map)?;
                }
            }
        }
        Ok(None)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

enum Key {
    OfOuter(&'static str),
    OfInner(&'static str),
}

/// Reads a key, and says whose it is.
#[derive(Clone, Copy)]
struct WhoseKey {
    outer: &'static [&'static str],
    inner: &'static [&'static str],
}

impl<'de> DeserializeSeed<'de> for WhoseKey {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for WhoseKey {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("field identifier")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Key, E> {
        let find = |keys: &'static [&'static str]| keys.iter().find(|key| **key == text);
        if let Some(key) = find(self.outer) {
            return Ok(Key::OfOuter(key));
        }
        if let Some(key) = find(self.inner) {
            return Ok(Key::OfInner(key));
        }
        let keys = self.outer.iter().chain(self.inner);
        let keys: Vec<String> = keys.map(|key| format!("`{key}`")).collect();
        // As serde says it, which takes the keys of one type only.
        Err(E::custom(format!(
            "unknown field `{text}`, expected one of {}",
            keys.join(", ")
        )))
    }
}
