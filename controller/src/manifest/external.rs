//! A service whose endpoints are not containers of this project: addresses that others look after, or
//! none, where every request gets a response of the proxy's own.

use std::collections::BTreeMap;
use std::fmt;

use admin_api::strict::InputError;
use admin_api::{EndpointSpec, ServiceSpec, TrafficSettings, VersionSpec};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The version of addresses that are written without one.
const ONLY_VERSION: &str = "1";

/// An endpoint: its address alone, or with its version and weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EndpointEntry {
    address: String,
    version: Option<String>,
    weight: u32,
}

impl<'de> Deserialize<'de> for EndpointEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;

        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = EndpointEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address, such as \"10.0.0.5:8080\", or a table with `address`")
            }

            fn visit_str<E: Error>(self, address: &str) -> Result<EndpointEntry, E> {
                Ok(EndpointEntry {
                    address: address.to_owned(),
                    version: None,
                    weight: 1,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EndpointEntry, A::Error> {
                let spec = EndpointSpec::deserialize(MapAccessDeserializer::new(map))?;
                Ok(EndpointEntry {
                    address: spec.address,
                    version: Some(spec.version),
                    weight: spec.weight,
                })
            }
        }

        deserializer.deserialize_any(EntryVisitor)
    }
}

/// What is put together of it. `spec` has the rest; all of its versions are reached like this.
pub(super) fn service(
    endpoints: Vec<EndpointEntry>,
    split: BTreeMap<String, u32>,
    transport: &VersionSpec,
    spec: ServiceSpec,
) -> ServiceSpec {
    let endpoints: Vec<EndpointSpec> = endpoints
        .into_iter()
        .map(|entry| EndpointSpec {
            address: entry.address,
            version: entry.version.unwrap_or_else(|| ONLY_VERSION.to_owned()),
            weight: entry.weight,
        })
        .collect();
    let mut versions = BTreeMap::new();
    if *transport != VersionSpec::default() {
        let labels = endpoints.iter().map(|one| one.version.clone());
        versions.extend(labels.map(|label| (label, transport.clone())));
    }
    // As the proxy shows it.
    let mut split = split;
    if let (true, Some(one)) = (split.is_empty(), endpoints.first()) {
        split.insert(one.version.clone(), 1);
    }
    ServiceSpec {
        endpoints,
        split,
        versions,
        ..spec
    }
}

/// Checks that there is something that requests get.
pub(super) fn check_reply(
    has_no_endpoint: bool,
    traffic: &TrafficSettings,
) -> Result<(), InputError> {
    if has_no_endpoint && traffic.redirect.is_none() && traffic.respond.is_none() {
        return Err(InputError::of_field(
            "image",
            "is missing: a service has an `image`, or `endpoints` that run elsewhere, or `redirect` or `respond`",
        ));
    }
    Ok(())
}

/// Checks that requests get a response. What the proxy has to say of the rest, it says itself.
pub(super) fn check(spec: &ServiceSpec) -> Result<(), InputError> {
    check_reply(spec.endpoints.is_empty(), &spec.traffic)?;
    let versions = spec.endpoints.iter().map(|one| &one.version);
    match versions.clone().find(|one| !spec.split.contains_key(*one)) {
        Some(version) => {
            let message = format!(
                "has no weight for version {version}: it divides requests over the versions of `endpoints`"
            );
            Err(InputError::of_field("split", message))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::manifest::Manifest;

    fn parse(keys: &str) -> Result<Manifest, admin_api::strict::InputError> {
        Manifest::parse(&format!("[[services]]\nname = \"web\"\n{keys}\n"))
    }

    #[test]
    fn a_service_needs_no_image_where_its_requests_get_a_response() {
        let of = |keys: &str| parse(keys).expect(keys).external.remove(0);
        let spec = of("endpoints = [\"10.0.0.5:80\", \"unix:/run/php.sock\"]\nhealth.path = \"/\"");
        assert_eq!(spec.endpoints.len(), 2);
        assert_eq!((&*spec.endpoints[1].version, spec.split["1"]), ("1", 1));
        assert!(spec.traffic.health.is_some());
        let spec = of("protocol = \"h2\"\nsplit = { \"1\" = 9, \"2\" = 1 }\n\
            endpoints = [\"a:1\", { address = \"b:1\", version = \"2\", weight = 3 }]");
        assert_eq!((spec.endpoints[1].weight, spec.split["2"]), (3, 1));
        assert_eq!(spec.versions.len(), 2);
        assert!(
            of("redirect.to = \"https://b.test$request_uri\"")
                .endpoints
                .is_empty()
        );
        assert!(of("respond = {}").split.is_empty());
    }

    #[test]
    fn what_such_a_service_cannot_have_is_named_with_its_field() {
        for (keys, field, says) in [
            (
                "",
                "image",
                "is missing: a service has an `image`, or `endpoints`",
            ),
            (
                "respond = {}\nreplicas = 1",
                "replicas",
                "belongs to containers",
            ),
            (
                "respond = {}\nenv = { A = \"1\" }",
                "env",
                "belongs to containers",
            ),
            (
                "respond = {}\nrollout = { bake = \"1s\" }",
                "rollout",
                "belongs to containers",
            ),
            ("endpoints = [5]", "endpoints[0]", "an address, such as"),
            (
                "endpoints = [{ addres = \"a\" }]",
                "endpoints[0].addres",
                "did you mean `address`?",
            ),
            (
                "endpoints = [\"a:1\", { address = \"b:1\", version = \"2\" }]",
                "split",
                "has no weight for version 2",
            ),
            (
                "image = \"a:1\"\nendpoints = [\"a:1\"]",
                "endpoints",
                "is for a service without `image`",
            ),
            (
                "image = \"a:1\"\nsplit = { \"1\" = 1 }",
                "split",
                "is for a service without `image`",
            ),
            ("image = \"\"", "image", "an image is needed"),
            (
                "respond = {}\nhosts = [\"a b\"]",
                "hosts[0]",
                "is not a host",
            ),
        ] {
            let error = parse(keys).expect_err(keys);
            let field = format!("services[0].{field}");
            assert_eq!(error.field.as_deref(), Some(&*field), "{error}");
            assert!(error.message.contains(says), "{error}");
        }
        let twice = "respond = {}\n[[services]]\nname = \"web\"\nimage = \"a:1\"";
        let error = parse(twice).expect_err("the same name");
        assert!(
            error.message.contains("another service has the name"),
            "{error}"
        );
        let same = "respond = {}\n[[services]]\nname = \"b\"\nimage = \"a:1\"";
        let error = parse(same).expect_err("the same routes");
        assert!(
            error.message.contains("`web` has the same hosts and path"),
            "{error}"
        );
    }
}
