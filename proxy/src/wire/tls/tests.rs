//! TLS between our own side and rustls' buffered one, over loopback sockets.

mod ended;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::listener::ClientTls;
use super::settings::provider;
use super::*;

/// A CA, and a folder in which the files of what it has signed are.
struct Ca {
    folder: TempDir,
    issuer: Issuer<'static, rcgen::KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Ca {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self {
            folder,
            issuer: Issuer::new(params, key),
            certificate: certificate.der().clone(),
        }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Writes `file`.pem and `file`.key for these names, the certificate valid until that year.
    fn issue_until(&self, file: &str, names: &[&str], year: i32) -> KeyPair {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = KeyPair {
            cert: self.path(&format!("{file}.pem")),
            key: self.path(&format!("{file}.key")),
        };
        std::fs::write(&files.cert, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    fn issue(&self, file: &str, names: &[&str]) -> KeyPair {
        self.issue_until(file, names, 2500)
    }

    /// A client that trusts this CA, and shows this certificate where it is asked for one.
    fn client(&self, shows: Option<&KeyPair>) -> ClientConfig {
        self.client_of(rustls::DEFAULT_VERSIONS, shows)
    }

    fn client_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        shows: Option<&KeyPair>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider().clone())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        match shows {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let chain = CertificateDer::pem_file_iter(&files.cert).unwrap();
                let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
                let chain = chain.collect::<Result<_, _>>().unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        }
    }
}

fn settings(certificates: Vec<KeyPair>) -> ListenerSettings {
    ListenerSettings {
        certificates,
        client_ca: None,
        client_auth: ClientAuth::Required,
        min_version: Version::Tls12,
    }
}

fn listener(settings: &ListenerSettings) -> ListenerTls {
    ListenerTls::load(settings, "listeners[0]").unwrap()
}

type Peer = StreamOwned<ClientConnection, TcpStream>;

/// Has `client` talk from a thread of its own to what `accept` makes of the connection here.
async fn talk<T: Send + 'static>(
    tls: &ListenerTls,
    config: ClientConfig,
    name: &str,
    client: impl FnOnce(&mut Peer) -> T + Send + 'static,
) -> (std::io::Result<ClientTls>, JoinHandle<T>) {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address: SocketAddr = socket.local_addr().unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let thread = std::thread::spawn(move || {
        let tcp = TcpStream::connect(address).unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        client(&mut StreamOwned::new(connection, tcp))
    });
    let (tcp, _) = socket.accept().unwrap();
    tcp.set_nonblocking(true).unwrap();
    let tcp = tokio::net::TcpStream::from_std(tcp).unwrap();
    let accepted = tls.accept(tcp, Duration::from_secs(10)).await;
    let stream = accepted.map(|accepted| match accepted {
        Accepted::Tls(stream) => stream,
        Accepted::Plain(_) => panic!("it begins as HTTP does"),
    });
    (stream, thread)
}

/// Asks for a byte, and gives how the handshake went and what certificate there was.
fn greet(peer: &mut Peer) -> std::io::Result<(HandshakeKind, CertificateDer<'static>)> {
    peer.write_all(b"?")?;
    peer.read_exact(&mut [0])?;
    let certificates = peer.conn.peer_certificates().unwrap();
    let (kind, certificate) = (peer.conn.handshake_kind().unwrap(), certificates[0].clone());
    peer.conn.send_close_notify();
    peer.flush()?;
    Ok((kind, certificate))
}

/// Lets a client greet us.
async fn greeted(
    tls: &ListenerTls,
    config: &ClientConfig,
    name: &str,
) -> std::io::Result<(HandshakeKind, CertificateDer<'static>)> {
    let (stream, thread) = talk(tls, config.clone(), name, greet).await;
    if let Ok(mut stream) = stream {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        stream.write_all(b"!").await?;
        stream.flush().await?;
        assert_eq!(stream.read(&mut byte).await?, 0, "it said that it was done");
    }
    thread.join().unwrap()
}

fn certificate(files: &KeyPair) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&files.cert).unwrap()
}

#[tokio::test]
async fn a_client_gets_the_certificate_of_the_name_it_requests() {
    let ca = Ca::new();
    let files = [
        ca.issue("a", &["a.test", "shared.test"]),
        ca.issue("b", &["b.test", "*.b.test", "shared.test"]),
        ca.issue("c", &["x.b.test"]),
    ];
    let tls = listener(&settings(files.to_vec()));
    for (name, want) in [
        ("a.test", 0),
        ("b.test", 1),
        ("B.Test", 1),
        ("y.b.test", 1),
        ("x.b.test", 2),
        ("shared.test", 0),
    ] {
        let (_, got) = greeted(&tls, &ca.client(None), name).await.unwrap();
        assert_eq!(got, certificate(&files[want]), "{name}");
    }
    // All others get the first, which is not for them: a wildcard stands for one label.
    for name in ["other.test", "y.x.b.test"] {
        let error = greeted(&tls, &ca.client(None), name).await.unwrap_err();
        assert!(error.to_string().contains("a.test"), "{name}: {error}");
    }
}

#[tokio::test]
async fn bytes_go_both_ways_whole_and_an_idle_connection_holds_none() {
    const SIZE: usize = 3_000_000;
    let ca = Ca::new();
    let tls = listener(&settings(vec![ca.issue("a", &["a.test"])]));
    let bytes: Vec<u8> = (0..SIZE).map(|i| (i * 7 + i / 251) as u8).collect();
    let sent = bytes.clone();
    let (stream, thread) = talk(&tls, ca.client(None), "a.test", move |peer| {
        peer.write_all(&sent).unwrap();
        peer.flush().unwrap();
        let mut got = vec![0; SIZE];
        peer.read_exact(&mut got).unwrap();
        peer.conn.send_close_notify();
        peer.flush().unwrap();
        // Its end is the end of the connection for us.
        peer.sock.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
        got
    })
    .await;
    let mut stream = stream.unwrap();
    let mut got = Vec::new();
    // Reads of every size: less than a record, and more than one.
    for size in (1..).map(|n: usize| 1 + n * n % 70_001) {
        let mut buffer = vec![0; size.min(SIZE - got.len())];
        if buffer.is_empty() {
            break;
        }
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0);
        got.extend_from_slice(&buffer[..read]);
    }
    assert!(got == bytes);
    for (i, piece) in bytes.chunks(50_000).enumerate() {
        let (head, body) = piece.split_at(i);
        let slices = [std::io::IoSlice::new(head), std::io::IoSlice::new(body)];
        let mut written = stream.write_vectored(&slices).await.unwrap();
        while written < piece.len() {
            written += stream.write(&piece[written..]).await.unwrap();
        }
    }
    stream.flush().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    assert!(stream.is_bare());
    stream.shutdown().await.unwrap();
    assert!(thread.join().unwrap() == bytes);
}

#[tokio::test]
async fn an_end_without_a_word_of_it_is_an_error() {
    let ca = Ca::new();
    let tls = listener(&settings(vec![ca.issue("a", &["a.test"])]));
    let (stream, thread) = talk(&tls, ca.client(None), "a.test", |peer| {
        peer.write_all(b"half").unwrap();
        // What is unread when a socket is closed resets the connection.
        peer.read_exact(&mut [0]).unwrap();
    })
    .await;
    let mut stream = stream.unwrap();
    let mut got = [0; 4];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"half");
    stream.write_all(b"!").await.unwrap();
    stream.flush().await.unwrap();
    let error = stream.read(&mut got).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    thread.join().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_has_ten_seconds() {
    let ca = Ca::new();
    let tls = listener(&settings(vec![ca.issue("a", &["a.test"])]));
    let start = tokio::time::Instant::now();
    let (stream, thread) = talk(&tls, ca.client(None), "a.test", |peer| {
        peer.sock.read(&mut [0]).unwrap()
    })
    .await;
    let error = stream.err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!(thread.join().unwrap(), 0, "its connection was closed");
}

#[tokio::test]
async fn a_client_that_says_nothing_of_tls_is_told_so() {
    let ca = Ca::new();
    let tls = listener(&settings(vec![ca.issue("a", &["a.test"])]));
    let (stream, thread) = talk(&tls, ca.client(None), "a.test", |peer| {
        // As SOCKS begins. Who begins as HTTP does gets a response of HTTP.
        peer.sock.write_all(b"\x05\x02\x00\x01\r\n\r\n").unwrap();
        let mut alert = Vec::new();
        // What is unread when the socket is closed may come as a reset.
        let _ = peer.sock.read_to_end(&mut alert);
        alert
    })
    .await;
    assert!(stream.is_err());
    let alert = thread.join().unwrap();
    assert_eq!(alert.first(), Some(&21), "an alert: {alert:?}");
}

#[tokio::test]
async fn a_session_is_resumed_also_after_a_certificate_was_renewed() {
    let ca = Ca::new();
    let tls = listener(&settings(vec![ca.issue("a", &["a.test"])]));
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        let client = ca.client_of(versions, None);
        let (kind, _) = greeted(&tls, &client, "a.test").await.unwrap();
        assert_eq!(kind, HandshakeKind::Full);
        ca.issue("a", &["a.test"]);
        tls.look_again();
        let (kind, _) = greeted(&tls, &client, "a.test").await.unwrap();
        assert_eq!(kind, HandshakeKind::Resumed, "{versions:?}");
    }
}

/// A listener that goes on with the tickets of another, in another process.
fn after(before: &ListenerTls, settings: &ListenerSettings) -> ListenerTls {
    let given = serde_json::to_vec(&before.tickets()).unwrap();
    let tls = listener(settings);
    tls.take_over(&serde_json::from_slice(&given).unwrap());
    tls
}

#[tokio::test]
async fn a_session_is_resumed_with_the_process_that_takes_over() {
    let ca = Ca::new();
    let settings = settings(vec![ca.issue("a", &["a.test"])]);
    let before = listener(&settings);
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        let client = ca.client_of(versions, None);
        let (kind, _) = greeted(&before, &client, "a.test").await.unwrap();
        assert_eq!(kind, HandshakeKind::Full);
        let after = after(&before, &settings);
        let (kind, _) = greeted(&after, &client, "a.test").await.unwrap();
        assert_eq!(kind, HandshakeKind::Resumed, "{versions:?}");
    }
}

#[tokio::test]
async fn whom_the_process_before_let_in_by_another_ca_comes_back_by_no_ticket() {
    let (ca, next) = (Ca::new(), Ca::new());
    let mut settings = settings(vec![ca.issue("a", &["a.test"])]);
    settings.client_ca = Some(ca.path("ca.pem"));
    let before = listener(&settings);
    let client = ca.client(Some(&ca.issue("me", &["me"])));
    greeted(&before, &client, "a.test").await.unwrap();
    // The file changes before the process notices.
    std::fs::copy(next.path("ca.pem"), ca.path("ca.pem")).unwrap();
    let after = after(&before, &settings);
    assert!(greeted(&after, &client, "a.test").await.is_err());
}

#[tokio::test]
async fn clients_show_certificates_where_they_have_to() {
    let (ca, others) = (Ca::new(), Ca::new());
    let (good, bad) = (ca.issue("me", &["me"]), others.issue("me", &["me"]));
    let mut settings = settings(vec![ca.issue("a", &["a.test"])]);
    settings.client_ca = Some(ca.path("ca.pem"));
    for (auth, shows, fine) in [
        (ClientAuth::Required, Some(&good), true),
        (ClientAuth::Required, Some(&bad), false),
        (ClientAuth::Required, None, false),
        (ClientAuth::Optional, Some(&good), true),
        (ClientAuth::Optional, Some(&bad), false),
        (ClientAuth::Optional, None, true),
    ] {
        settings.client_auth = auth;
        let tls = listener(&settings);
        let outcome = greeted(&tls, &ca.client(shows), "a.test").await;
        assert_eq!(outcome.is_ok(), fine, "{auth:?} {shows:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn whom_only_the_old_ca_let_in_comes_back_by_no_ticket() {
    let (ca, next) = (Ca::new(), Ca::new());
    let mut settings = settings(vec![ca.issue("a", &["a.test"])]);
    settings.client_ca = Some(ca.path("ca.pem"));
    let tls = listener(&settings);
    let client = ca.client(Some(&ca.issue("me", &["me"])));
    for want in [HandshakeKind::Full, HandshakeKind::Resumed] {
        assert_eq!(greeted(&tls, &client, "a.test").await.unwrap().0, want);
    }
    std::fs::copy(next.path("ca.pem"), ca.path("ca.pem")).unwrap();
    tls.look_again();
    greeted(&tls, &client, "a.test").await.unwrap_err();
}

#[tokio::test]
async fn an_old_version_is_refused_where_only_1_3_is_spoken() {
    let ca = Ca::new();
    let mut settings = settings(vec![ca.issue("a", &["a.test"])]);
    settings.min_version = Version::Tls13;
    let tls = listener(&settings);
    let old = ca.client_of(&[&rustls::version::TLS12], None);
    let error = greeted(&tls, &old, "a.test").await.unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    greeted(&tls, &ca.client(None), "a.test").await.unwrap();
}

#[tokio::test]
async fn a_wrong_file_leaves_the_certificate_that_was_there() {
    let ca = Ca::new();
    let (files, other) = (ca.issue("a", &["a.test"]), ca.issue("b", &["b.test"]));
    let tls = listener(&settings(vec![files.clone(), other]));
    let first = certificate(&files);
    let in_use = || async {
        let (_, certificate) = greeted(&tls, &ca.client(None), "a.test").await.unwrap();
        (certificate, tls.files_in_use()[0].valid)
    };
    let write = |path: &Path, bytes: &[u8]| std::fs::write(path, bytes).unwrap();
    let (cert, key) = (
        std::fs::read(&files.cert).unwrap(),
        std::fs::read(&files.key).unwrap(),
    );
    const NO_KEY: &[u8] = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let spoilt: [&dyn Fn(); 6] = [
        &|| write(&files.cert, &cert[..cert.len() / 2]),
        &|| write(&files.key, NO_KEY),
        &|| write(&files.key, &std::fs::read(ca.path("b.key")).unwrap()),
        &|| std::fs::remove_file(&files.cert).unwrap(),
        &|| std::fs::remove_file(&files.key).unwrap(),
        &|| drop(ca.issue_until("a", &["a.test"], 2021)),
    ];
    for (i, spoil) in spoilt.iter().enumerate() {
        spoil();
        tls.look_again();
        assert_eq!(in_use().await, (first.clone(), false), "{i}");
        write(&files.cert, &cert);
        write(&files.key, &key);
        tls.look_again();
        assert_eq!(in_use().await, (first.clone(), true), "{i}");
    }
    ca.issue("a", &["a.test"]);
    tls.look_again();
    assert_eq!(in_use().await, (certificate(&files), true));
    assert_ne!(certificate(&files), first);
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_field() {
    #[track_caller]
    fn check(files: KeyPair, field: &str, says: &str) {
        let error = ListenerTls::load(&settings(vec![files]), "listeners[2]").unwrap_err();
        assert_eq!(error.field.as_deref(), Some(field), "{error}");
        assert!(error.message.contains(says), "{error}");
    }
    let ca = Ca::new();
    let good = ca.issue("a", &["a.test"]);
    let (cert, key) = (good.cert.clone(), good.key.clone());
    let other = ca.issue("b", &["b.test"]);
    let with = |cert: &Path, key: &Path| KeyPair {
        cert: cert.into(),
        key: key.into(),
    };
    let missing = ca.path("missing");
    check(
        with(&missing, &key),
        "listeners[2].tls[0].cert",
        "No such file",
    );
    check(
        with(&cert, &missing),
        "listeners[2].tls[0].key",
        "No such file",
    );
    check(
        with(&key, &key),
        "listeners[2].tls[0].cert",
        "contains no certificate",
    );
    check(
        with(&cert, &cert),
        "listeners[2].tls[0].key",
        "contains no private key",
    );
    check(
        with(&cert, &other.key),
        "listeners[2].tls[0].key",
        "is not the key of",
    );
    check(
        with(ca.folder.path(), &key),
        "listeners[2].tls[0].cert",
        "is not a file",
    );
    let old = ca.issue_until("old", &["old.test"], 2021);
    let tls = listener(&settings(vec![good, old]));
    let outdated = tls.outdated(std::time::SystemTime::now());
    assert_eq!(outdated.len(), 1);
    assert_eq!(outdated[0].0, 1);
    assert!(outdated[0].1.contains("old.pem` expired "), "{outdated:?}");
}
