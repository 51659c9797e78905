//! Keys of the JSON output that got a new name. For one release the old key stands beside the new
//! one, and either is read, so that scripts keep working and a client and a controller of two
//! releases understand each other.

/// A module for `#[serde(flatten, with = "…")]`: writes and reads an optional value under two keys.
macro_rules! renamed {
    ($new:ident, $old:ident, $value:ty) => {
        pub(crate) mod $new {
            use serde::{Deserialize, Deserializer, Serialize, Serializer};

            #[derive(Serialize)]
            struct Written<'v> {
                #[serde(skip_serializing_if = "Option::is_none")]
                $new: Option<&'v $value>,
                #[serde(skip_serializing_if = "Option::is_none")]
                $old: Option<&'v $value>,
            }

            #[derive(Deserialize)]
            struct Read {
                $new: Option<$value>,
                $old: Option<$value>,
            }

            pub(crate) fn serialize<S: Serializer>(
                value: &Option<$value>,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                let value = value.as_ref();
                let written = Written {
                    $new: value,
                    $old: value,
                };
                written.serialize(serializer)
            }

            #[expect(
                clippy::allow_attributes,
                reason = "not every renamed key is read by this program"
            )]
            #[allow(dead_code, reason = "not every renamed key is read by this program")]
            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Option<$value>, D::Error> {
                let read = Read::deserialize(deserializer)?;
                Ok(read.$new.or(read.$old))
            }
        }
    };
}

renamed!(last_error, trouble, String);
renamed!(stats, figures, serde_json::Value);

/// The number of responses of a version.
pub(crate) mod responses {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Both {
        responses: Option<u64>,
        answers: Option<u64>,
    }

    pub(crate) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        let both = Both {
            responses: Some(*value),
            answers: Some(*value),
        };
        both.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let both = Both::deserialize(deserializer)?;
        Ok(both.responses.or(both.answers).unwrap_or_default())
    }
}

/// What to do about a finding.
pub(crate) mod fix {
    use serde::{Serialize, Serializer};

    #[derive(Serialize)]
    struct Both<'v> {
        #[serde(skip_serializing_if = "Option::is_none")]
        fix: Option<&'v String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        mend: Option<&'v String>,
    }

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let value = value.as_ref();
        Both {
            fix: value,
            mend: value,
        }
        .serialize(serializer)
    }
}
