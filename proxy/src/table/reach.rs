//! How the endpoints of a version are reached: what they speak, and whether over TLS.

use std::io;
use std::time::Duration;

use admin_api::strict::InputError;
use admin_api::{Protocol, VersionSpec};

use crate::table::endpoint::Endpoint;
use crate::wire::alarm::Alarm;
use crate::wire::connection::connect;
use crate::wire::socket::Bytestream;
use crate::wire::tls::VersionTls;

/// A checked [`VersionSpec`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) protocol: Protocol,
    pub(crate) tls: Option<VersionTls>,
}

impl Reach {
    /// Checks the settings of a version, and reads the files that they name. The error's field
    /// is relative to them.
    pub(crate) fn check(spec: &VersionSpec) -> Result<Self, InputError> {
        let tls = spec.tls.as_ref();
        let tls = tls.map(|tls| VersionTls::load(tls, spec.protocol));
        Ok(Self {
            protocol: spec.protocol,
            tls: tls.transpose()?,
        })
    }

    /// As it was asked for.
    pub(crate) fn spec(&self) -> VersionSpec {
        VersionSpec {
            protocol: self.protocol,
            tls: self.tls.as_ref().map(|tls| tls.spec().clone()),
        }
    }
}

/// Connects to an endpoint, within so much time for each step.
pub(crate) async fn open(
    endpoint: &Endpoint,
    alarm: &Alarm,
    within: Duration,
) -> io::Result<Bytestream> {
    let tcp = connect(endpoint.target, alarm, within).await?;
    let Some(tls) = &endpoint.reach.tls else {
        return Ok(Bytestream::Plain(tcp));
    };
    let mut handshake = std::pin::pin!(tls.connect(tcp, &endpoint.address));
    let stream = alarm.wait(within, |cx| handshake.as_mut().poll(cx)).await?;
    let stream = stream.inspect_err(|error| {
        let (version, address) = (&*endpoint.version, endpoint.target);
        tracing::warn!(version, %address, %error, "no TLS handshake with an endpoint");
    })?;
    Ok(Bytestream::ToEndpoint(Box::new(stream)))
}
