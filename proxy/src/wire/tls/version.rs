//! TLS to the endpoints of one version: whom they are believed to be.

use std::fmt;
use std::io;
use std::sync::Arc;

use admin_api::strict::InputError;
use admin_api::{Protocol, TlsSpec};
use rustls::client::UnbufferedClientConnection;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;

use super::certificate::read_roots;
use super::settings::provider;
use super::stream::TlsStream;
use crate::wire::address::{Address, LOCALHOST};

/// A connection to an endpoint.
pub(crate) type EndpointTls = TlsStream<UnbufferedClientConnection>;

/// TLS to the endpoints of one version.
pub(crate) struct VersionTls {
    spec: TlsSpec,
    /// Who may sign the endpoints' certificates: when that changes, so do the endpoints.
    roots: RootCertStore,
    config: Arc<ClientConfig>,
    /// `None`: each endpoint has its own.
    name: Option<ServerName<'static>>,
    protocol: Protocol,
}

impl fmt::Debug for VersionTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(f)
    }
}

impl PartialEq for VersionTls {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
            && self.protocol == other.protocol
            && self.roots.roots == other.roots.roots
    }
}

impl Eq for VersionTls {}

impl VersionTls {
    /// Reads what the settings name. The error's field begins with `tls`.
    pub(crate) fn load(spec: &TlsSpec, protocol: Protocol) -> Result<Self, InputError> {
        if !spec.verify && spec.ca.is_some() {
            return Err(InputError::of_field(
                "tls.ca",
                "has no effect with `verify = false`: leave one of them out",
            ));
        }
        let roots = match (&spec.ca, spec.verify) {
            (Some(file), _) => read_roots("ca", file).map_err(|error| error.at("tls"))?,
            (None, true) => system_roots()?,
            (None, false) => RootCertStore::empty(),
        };
        let name = spec.server_name.as_ref().map(|name| {
            ServerName::try_from(name.clone()).map_err(|_| {
                InputError::of_field(
                    "tls.server_name",
                    format!("`{name}` is neither a host name nor an IP address"),
                )
            })
        });
        let cannot = |error: rustls::Error| InputError::of_field("tls", error.to_string());
        let builder = ClientConfig::builder_with_provider(provider().clone())
            .with_safe_default_protocol_versions()
            .map_err(cannot)?;
        let mut config = if spec.verify {
            builder.with_root_certificates(roots.clone())
        } else {
            let everybody = Arc::new(Everybody);
            builder
                .dangerous()
                .with_custom_certificate_verifier(everybody)
        }
        .with_no_client_auth();
        config.alpn_protocols = vec![match protocol {
            Protocol::Http1 => b"http/1.1".to_vec(),
            Protocol::H2 => b"h2".to_vec(),
        }];
        Ok(Self {
            spec: spec.clone(),
            roots,
            config: Arc::new(config),
            name: name.transpose()?,
            protocol,
        })
    }

    /// As it was asked for.
    pub(crate) fn spec(&self) -> &TlsSpec {
        &self.spec
    }

    /// Shakes hands with the endpoint that is at `address`.
    pub(crate) async fn connect(
        &self,
        tcp: TcpStream,
        address: &Address,
    ) -> io::Result<EndpointTls> {
        let name = match (&self.name, address) {
            (Some(name), _) => name.clone(),
            (None, Address::Ip(address)) => ServerName::IpAddress(address.ip().into()),
            (None, Address::Unix(_)) => {
                ServerName::try_from(LOCALHOST).map_err(io::Error::other)?
            }
            (None, Address::Name(name, _)) => {
                ServerName::try_from(name.to_string()).map_err(io::Error::other)?
            }
        };
        let client = UnbufferedClientConnection::new(self.config.clone(), name);
        let stream = TlsStream::handshake(tcp, client.map_err(io::Error::other)?).await?;
        if self.protocol == Protocol::H2 && !stream.speaks_h2() {
            return Err(io::Error::other("it does not offer HTTP/2 (ALPN)"));
        }
        Ok(stream)
    }
}

/// Who the system trusts.
fn system_roots() -> Result<RootCertStore, InputError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(InputError::of_field(
            "tls.ca",
            "is missing: this system has no CA certificates, so name the endpoints' CA, such as tls = { ca = \"ca.pem\" }",
        ));
    }
    Ok(roots)
}

/// Believes whatever an endpoint says that it is: for `verify = false`.
#[derive(Debug)]
struct Everybody;

impl ServerCertVerifier for Everybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
