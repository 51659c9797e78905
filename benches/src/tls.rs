//! TLS: a certificate for the run, and a client that offers one choice only, so that all proxies do
//! the same work: TLS 1.3, X25519, AES-128-GCM, a P-256 key.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use crate::error::{Context, Error, Result};

/// The host of the requests.
pub(crate) const HOST: &str = "bench.example";

/// Writes a certificate: `cert.pem`, `key.pem`, and both in `both.pem`.
pub(crate) fn write_certificate(folder: &Path) -> Result<()> {
    let made = rcgen::generate_simple_self_signed([HOST.to_owned()])
        .map_err(|error| Error::Usage(format!("certificate: {error}")))?;
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    for (name, text) in [
        ("cert.pem", cert.clone()),
        ("key.pem", key.clone()),
        ("both.pem", cert + &key),
    ] {
        let path: PathBuf = folder.join(name);
        fs::write(&path, text).context(|| path.display().to_string())?;
    }
    Ok(())
}

/// The handshakes of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshakes {
    /// A full handshake on every connection.
    Full,
    /// Resumption of the session of an earlier connection, if there is one.
    Resumed,
}

/// The TLS config of the load generator.
pub(crate) fn client(protocol: &str, handshakes: Handshakes) -> Result<Arc<ClientConfig>> {
    let mut provider = default_provider();
    provider.cipher_suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| Error::Usage(format!("TLS: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.into()];
    config.resumption = match handshakes {
        Handshakes::Full => Resumption::disabled(),
        Handshakes::Resumed => Resumption::in_memory_sessions(1024),
    };
    Ok(Arc::new(config))
}

/// Accepts every certificate: traffic is on loopback, and verifying signatures would make the load
/// generator the limit.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::rc::Rc;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::{Receiver, channel};

    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;
    use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

    use crate::load::Load;
    use crate::plan::{Closing, End, Outcome, Pace, Plan, Requests};

    /// A server that sends this many responses on each connection, then closes it. It reports the
    /// kind of each handshake.
    fn server(responses: usize) -> (SocketAddr, Receiver<HandshakeKind>) {
        let folder = tempfile::tempdir().unwrap();
        write_certificate(folder.path()).unwrap();
        let file = folder.path().join("both.pem");
        let cert = CertificateDer::from_pem_file(&file).unwrap();
        let key = PrivateKeyDer::from_pem_file(&file).unwrap();
        let provider = Arc::new(default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (report, handshakes) = channel();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let connection = ServerConnection::new(config.clone()).unwrap();
                let mut stream = StreamOwned::new(connection, socket.unwrap());
                let report = report.clone();
                std::thread::spawn(move || {
                    let mut buffer = [0; 1024];
                    for _ in 0..responses {
                        if stream.read(&mut buffer).unwrap_or(0) == 0 {
                            return;
                        }
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                    }
                    let _ = report.send(stream.conn.handshake_kind().unwrap());
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                });
            }
        });
        (address, handshakes)
    }

    fn run_load(target: SocketAddr, handshakes: Handshakes, reconnect: bool, requests: u64) {
        let plan = Plan {
            target,
            connections: 2,
            requests: Requests::Http1(Rc::new([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()])),
            tls: Some(client("http/1.1", handshakes).unwrap()),
            pace: Pace::Closed,
            upload: 0,
            closing: match reconnect {
                true => Closing::ByServer,
                false => Closing::Never,
            },
        };
        let interrupted = AtomicBool::new(false);
        let mut load = Load::new(plan, &interrupted).unwrap();
        let end = load.run(End::Requests(requests), &mut |request| {
            let succeeded =
                matches!(request.outcome, Outcome::Response(response) if response.status == 200);
            assert!(succeeded, "{request:?}");
        });
        end.unwrap();
    }

    #[test]
    fn many_requests_share_one_connection() {
        let (target, handshakes) = server(usize::MAX);
        run_load(target, Handshakes::Full, false, 100);
        assert!(handshakes.try_recv().is_err());
    }

    #[test]
    fn handshakes_are_full_unless_sessions_are_resumed() {
        let kinds = |wanted| {
            let (target, handshakes) = server(1);
            run_load(target, wanted, true, 20);
            handshakes.try_iter().collect::<Vec<_>>()
        };
        let full = kinds(Handshakes::Full);
        assert!(full.len() >= 18 && full.iter().all(|kind| *kind == HandshakeKind::Full));
        let resumed = kinds(Handshakes::Resumed);
        let again = |kind: &&HandshakeKind| **kind == HandshakeKind::Resumed;
        // All but the first on each of two connections.
        assert!(resumed.iter().filter(again).count() >= 16, "{resumed:?}");
    }
}
