//! Requests that name the version they want: for testers, from networks that may.

use std::net::IpAddr;
use std::sync::Arc;

use admin_api::ForceSpec;
use admin_api::strict::InputError;
use http::HeaderName;
use ipnet::IpNet;

use crate::wire::fields::{check_cookie_name, header_name};

/// By what a request names a version, and who may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Force {
    spec: ForceSpec,
    pub(crate) header: Option<HeaderName>,
    pub(crate) cookie: Option<Arc<str>>,
    from: Vec<IpNet>,
}

impl Force {
    /// Checks the setting. The error's field is relative to the service.
    pub(crate) fn check(spec: &ForceSpec) -> Result<Self, InputError> {
        if spec.header.is_none() && spec.cookie.is_none() {
            let message = "needs `header`, `cookie` or both: by what a request names a version";
            return Err(InputError::of_field("force", message));
        }
        let header = spec.header.as_ref();
        let header = header
            .map(|name| header_name("force.header", name))
            .transpose()?;
        if let Some(name) = &spec.cookie {
            check_cookie_name(name)
                .map_err(|message| InputError::of_field("force.cookie", message))?;
        }
        if spec.from.is_empty() {
            let message = "is empty: say whose clients may, such as [\"10.0.0.0/8\"]";
            return Err(InputError::of_field("force.from", message));
        }
        let net = |(i, text): (usize, &String)| {
            let net = text
                .parse()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            net.map_err(|_| {
                let message =
                    format!("`{text}` is not a network: write it as `10.0.0.0/8` or `10.1.2.3`");
                InputError::of_field(format!("force.from[{i}]"), message)
            })
        };
        Ok(Self {
            spec: spec.clone(),
            header,
            cookie: spec.cookie.as_deref().map(Arc::from),
            from: spec
                .from
                .iter()
                .enumerate()
                .map(net)
                .collect::<Result<_, _>>()?,
        })
    }

    /// As it was asked for.
    pub(crate) fn spec(&self) -> &ForceSpec {
        &self.spec
    }

    /// Whether a client with this address may name a version.
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        self.from.iter().any(|net| net.contains(&address))
    }
}
