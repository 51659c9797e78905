//! A certificate authority under test, and clients that trust it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{Reply, within};

/// A certificate authority with a folder for what it signs.
pub struct TestCa {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl TestCa {
    /// A new one, whose own certificate is in `ca.pem`.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut params = CertificateParams::new(Vec::new()).expect("no names, no mistake");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("its own signature");
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("ours");
        Self {
            folder,
            issuer: Issuer::new(params, key),
            certificate: certificate.der().clone(),
        }
    }

    /// The path of one of its files.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Writes `file`.pem and `file`.key, for this name until the end of a year. Gives what the
    /// config says of them: `{ cert = …, key = … }`.
    pub fn issue(&self, file: &str, name: &str, year: i32) -> String {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let (cert_file, key_file) = self.files(file);
        replace(&cert_file, &certificate.pem());
        replace(&key_file, &key.serialize_pem());
        format!("{{ cert = {cert_file:?}, key = {key_file:?} }}")
    }

    /// The paths of a certificate and its key.
    pub fn files(&self, file: &str) -> (PathBuf, PathBuf) {
        (
            self.path(&format!("{file}.pem")),
            self.path(&format!("{file}.key")),
        )
    }

    /// A server with a certificate for this name, which offers these protocols.
    pub fn server(&self, name: &str, alpn: &[&str]) -> TlsAcceptor {
        self.issue(name, name, 2100);
        let (cert, key) = self.files(name);
        let cert = CertificateDer::from_pem_file(cert).expect("ours");
        let key = PrivateKeyDer::from_pem_file(key).expect("ours");
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .expect("they belong together");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// A client that trusts it, and offers these protocols.
    pub fn client(&self, alpn: &[&str]) -> TlsClient {
        self.client_with(None, alpn)
    }

    /// The same with a certificate of its own for this name.
    pub fn client_as(&self, name: &str, alpn: &[&str]) -> TlsClient {
        self.issue(name, name, 2100);
        let (cert, key) = self.files(name);
        let cert = CertificateDer::from_pem_file(cert).expect("ours");
        let key = PrivateKeyDer::from_pem_file(key).expect("ours");
        self.client_with(Some((cert, key)), alpn)
    }

    fn client_with(
        &self,
        own: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
        alpn: &[&str],
    ) -> TlsClient {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("our own");
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_root_certificates(roots);
        let mut config = match own {
            None => config.with_no_client_auth(),
            Some((cert, key)) => config
                .with_client_auth_cert(vec![cert], key)
                .expect("they belong together"),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsClient(Arc::new(config))
    }
}

impl Default for TestCa {
    fn default() -> Self {
        Self::new()
    }
}

/// Replaces a file as programs do that renew certificates: it is whole at every moment.
fn replace(file: &Path, text: &str) {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text).expect("the folder is ours");
    std::fs::rename(&beside, file).expect("the folder is ours");
}

/// A client that speaks TLS.
#[derive(Clone)]
pub struct TlsClient(Arc<ClientConfig>);

/// A connection of one, on which requests can be sent one after the other.
pub struct TlsConnection {
    sender: SendRequest<Full<Bytes>>,
    /// What the server has shown of itself.
    pub certificate: CertificateDer<'static>,
    /// It goes on with the session of an earlier connection.
    pub is_resumed: bool,
}

impl TlsClient {
    /// Shakes hands with the server at `address`, which has to be `name`.
    pub async fn connect(
        &self,
        address: SocketAddr,
        name: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let handshake = TlsConnector::from(self.0.clone()).connect(name, stream);
        within("a handshake", handshake).await
    }

    /// A port whose connections are carried over TLS to the server at `address`, for clients that
    /// do not speak it themselves.
    pub async fn tunnel(&self, address: SocketAddr, name: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound");
        let client = self.clone();
        tokio::spawn(async move {
            while let Ok((mut plain, _)) = listener.accept().await {
                let client = client.clone();
                tokio::spawn(async move {
                    let mut tls = client.connect(address, name).await?;
                    tokio::io::copy_bidirectional(&mut plain, &mut tls).await
                });
            }
        });
        port
    }

    /// A connection for HTTP/1.1.
    pub async fn open(&self, address: SocketAddr, name: &str) -> io::Result<TlsConnection> {
        let stream = self.connect(address, name).await?;
        let shown = stream.get_ref().1.peer_certificates();
        let certificate = shown.and_then(|shown| shown.first().cloned());
        let kind = stream.get_ref().1.handshake_kind();
        let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(driver);
        Ok(TlsConnection {
            sender,
            certificate: certificate.ok_or(io::ErrorKind::InvalidData)?,
            is_resumed: kind == Some(HandshakeKind::Resumed),
        })
    }
}

impl TlsConnection {
    /// Sends a request, and reads its response.
    pub async fn send(&mut self, method: &str, path: &str, body: &str) -> io::Result<Reply> {
        let request = Request::builder().method(method).uri(path);
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        let request = request.header("host", "web.test").body(body);
        let request = request.map_err(io::Error::other)?;
        let exchange = async {
            let response = self.sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            Ok::<_, hyper::Error>((head, body.collect().await?.to_bytes()))
        };
        let (head, body) = within("a response", exchange)
            .await
            .map_err(io::Error::other)?;
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }
}
