//! TLS to the clients of one listener, with certificates that are taken up anew when their files
//! change.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use admin_api::strict::InputError;
use arc_swap::ArcSwap;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection, WebPkiClientVerifier};
use rustls::{ServerConfig, SupportedProtocolVersion, version};
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use tokio::net::TcpStream;

use super::certificate::{Certificate, FileError, read, read_roots, warn_if_open};
use super::names::Names;
use super::settings::{ClientAuth, KeyPair, ListenerSettings, Version, provider};
use super::stream::TlsStream;
use super::tickets::{TicketKeys, Tickets};
use crate::wire::listener_id::ListenerId;

/// Files that change one after the other, as a certificate and its key do, have to stay the
/// same for so long.
const SETTLE: Duration = Duration::from_millis(100);
/// How long a client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Whether a client begins as no handshake does, and every method of HTTP: a record of TLS has a kind
/// below 32 at its front (RFC 8446, 5.1).
async fn begins_with_letter(tcp: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    tcp.peek(&mut first).await?;
    Ok(first[0].is_ascii_alphabetic())
}

/// TLS of every listener that has it.
pub(crate) type Listening = Vec<(ListenerId, Arc<ListenerTls>)>;

/// A connection to a client.
pub(crate) type ClientTls = TlsStream<UnbufferedServerConnection>;

/// What a client turned out to speak.
pub(crate) enum Accepted {
    Tls(ClientTls),
    /// HTTP without TLS. Nothing of it was read.
    Plain(TcpStream),
}

/// TLS on one listener.
pub(crate) struct ListenerTls {
    settings: ListenerSettings,
    /// For handshakes from now on. Connections keep what they began with.
    config: ArcSwap<ServerConfig>,
    loaded: Mutex<Loaded>,
}

/// What the files had when they were last right.
struct Loaded {
    /// One for each of the settings' certificates.
    certificates: Vec<Slot>,
    client_ca: Option<ClientCa>,
    tickets: Arc<Tickets>,
    /// What the files had when they were last read: a number for each of `units`.
    seen: Vec<u64>,
}

/// One certificate of a listener.
struct Slot {
    certificate: Certificate,
    /// The files' newest text is in force.
    valid: bool,
}

struct ClientCa {
    verifier: Verifier,
    valid: bool,
}

/// Checks the certificates of clients.
#[derive(Clone)]
struct Verifier {
    check: Arc<dyn ClientCertVerifier>,
    /// A number for whom it lets in, the same in every process.
    lets_in: u64,
}

/// The keys of a listener's session tickets, as one process gives them to the next.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ListenerTickets {
    /// For whom the listener lets in: a ticket stands for a certificate that it has accepted.
    lets_in: u64,
    keys: TicketKeys,
}

/// A file, for the monitoring of certificates.
#[derive(Debug)]
pub(crate) struct FileInUse {
    pub(crate) file: PathBuf,
    /// When the certificate in it that is in use expires.
    pub(crate) not_after: Option<SystemTime>,
    /// Its newest text is in use.
    pub(crate) valid: bool,
}

impl fmt::Debug for ListenerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the keys.
        self.settings.fmt(f)
    }
}

impl ListenerTls {
    /// Reads what the settings name. The error's field begins with `place`, where the listener
    /// is in the config.
    pub(crate) fn load(settings: &ListenerSettings, place: &str) -> Result<Self, InputError> {
        let seen = look(settings);
        let mut certificates = Vec::with_capacity(settings.certificates.len());
        for (i, files) in settings.certificates.iter().enumerate() {
            let certificate =
                Certificate::load(files).map_err(|error| error.at(&format!("{place}.tls[{i}]")))?;
            certificates.push(Slot {
                certificate,
                valid: true,
            });
        }
        let verifier = verifier(settings).map_err(|error| error.at(place))?;
        let cannot = |error: rustls::Error| InputError::of_field(place, error.to_string());
        let loaded = Loaded {
            certificates,
            client_ca: verifier.map(|verifier| ClientCa {
                verifier,
                valid: true,
            }),
            tickets: new_tickets().map_err(cannot)?,
            seen,
        };
        let config = loaded.config(settings).map_err(cannot)?;
        Ok(Self {
            settings: settings.clone(),
            config: ArcSwap::from_pointee(config),
            loaded: Mutex::new(loaded),
        })
    }

    /// Shakes hands with a client, within so much time.
    pub(crate) async fn accept(&self, tcp: TcpStream, within: Duration) -> io::Result<Accepted> {
        let accepted = async {
            if begins_with_letter(&tcp).await? {
                return Ok(Accepted::Plain(tcp));
            }
            let server = UnbufferedServerConnection::new(self.config.load_full());
            let server = server.map_err(io::Error::other)?;
            let stream = TlsStream::handshake(tcp, server).await?;
            Ok(Accepted::Tls(stream))
        };
        tokio::time::timeout(within.min(HANDSHAKE), accepted)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Certificates that clients refuse at this time: the place of each, and why.
    pub(crate) fn outdated(&self, now: SystemTime) -> Vec<(usize, String)> {
        let loaded = self.loaded();
        let slots = loaded.certificates.iter().zip(&self.settings.certificates);
        slots
            .enumerate()
            .filter_map(|(at, (slot, files))| {
                let message = slot.certificate.outdated(now)?;
                Some((at, format!("`{}` {message}", files.cert.display())))
            })
            .collect()
    }

    /// Says what is not good in what was loaded, but good enough to start with.
    pub(crate) fn warn(&self) {
        for (_, message) in self.outdated(SystemTime::now()) {
            tracing::error!("{message}: clients refuse it");
        }
        for files in &self.settings.certificates {
            warn_if_open(&files.key);
        }
    }

    /// Every file that is read.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        units(&self.settings).into_iter().flatten()
    }

    /// Takes up what has changed in the files since they were last read. What is wrong or
    /// outdated leaves what there was. Blocks, until the files stay the same.
    pub(crate) fn look_again(&self) {
        let seen = self.loaded().seen.clone();
        let now = settled(&self.settings, &seen);
        if now == seen {
            return;
        }
        // Read before the lock is taken: `/metrics` must not wait for a disk.
        for at in (0..now.len()).filter(|at| now[*at] != seen[*at]) {
            match self.settings.certificates.get(at) {
                Some(files) => {
                    let new = Certificate::load(files);
                    let new = new.and_then(|new| new.valid_at(SystemTime::now(), files));
                    self.loaded().certificates[at].take_up(new, files);
                }
                None => {
                    let new = verifier(&self.settings);
                    self.loaded().take_up_client_ca(new);
                }
            }
        }
        let mut loaded = self.loaded();
        loaded.seen = now;
        match loaded.config(&self.settings) {
            Ok(config) => self.config.store(Arc::new(config)),
            Err(error) => {
                tracing::error!(%error, "the certificates cannot be used; the previous ones stay in use");
            }
        }
    }

    /// Its certificates as they are in use, and the clients' CA.
    pub(crate) fn files_in_use(&self) -> Vec<FileInUse> {
        let loaded = self.loaded();
        let slots = loaded.certificates.iter().zip(&self.settings.certificates);
        let certificates = slots.map(|(slot, files)| FileInUse {
            file: files.cert.clone(),
            not_after: Some(slot.certificate.not_after),
            valid: slot.valid,
        });
        let ca = loaded.client_ca.iter().zip(&self.settings.client_ca);
        let ca = ca.map(|(ca, file)| FileInUse {
            file: file.clone(),
            not_after: None,
            valid: ca.valid,
        });
        certificates.chain(ca).collect()
    }

    /// The keys of its session tickets, for the process that takes over.
    pub(crate) fn tickets(&self) -> ListenerTickets {
        let (lets_in, tickets) = {
            let loaded = self.loaded();
            (loaded.lets_in(), loaded.tickets.clone())
        };
        let keys = tickets.keys();
        ListenerTickets { lets_in, keys }
    }

    /// Opens the tickets of the process before, unless that let in others.
    pub(crate) fn take_over(&self, tickets: &ListenerTickets) {
        let mut loaded = self.loaded();
        if tickets.lets_in != loaded.lets_in() {
            return;
        }
        let Ok(keys) = Tickets::of_keys(&tickets.keys) else {
            return;
        };
        loaded.tickets = Arc::new(keys);
        match loaded.config(&self.settings) {
            Ok(config) => self.config.store(Arc::new(config)),
            Err(error) => {
                tracing::error!(%error, "the keys of session tickets cannot be taken over");
            }
        }
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loaded {
    fn config(&self, settings: &ListenerSettings) -> Result<ServerConfig, rustls::Error> {
        let versions: &[&SupportedProtocolVersion] = match settings.min_version {
            Version::Tls12 => &[&version::TLS13, &version::TLS12],
            Version::Tls13 => &[&version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(provider().clone())
            .with_protocol_versions(versions)?;
        let builder = match &self.client_ca {
            Some(ca) => builder.with_client_cert_verifier(ca.verifier.check.clone()),
            None => builder.with_no_client_auth(),
        };
        let certificates = self.certificates.iter().map(|slot| &slot.certificate);
        let Some(first) = certificates.clone().next() else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        let by_name = certificates.map(|certificate| (&*certificate.names, &certificate.key));
        let names = Names::new(first.key.clone(), by_name);
        let mut config = builder.with_cert_resolver(Arc::new(names));
        // Tickets resume sessions on every worker, and need no memory that they would share.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = self.tickets.clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// A number for whom the listener lets in.
    fn lets_in(&self) -> u64 {
        let ca = self.client_ca.as_ref();
        ca.map_or(0, |ca| ca.verifier.lets_in)
    }

    fn take_up_client_ca(&mut self, new: Result<Option<Verifier>, FileError>) {
        let outcome = new.map_err(|error| error.to_string()).and_then(|new| {
            // Whom only the CA before has let in may not come back by a ticket.
            let tickets = new_tickets().map_err(|error| error.to_string())?;
            Ok((new, tickets))
        });
        let Some(ca) = &mut self.client_ca else {
            return;
        };
        ca.valid = outcome.is_ok();
        match outcome {
            Ok((new, tickets)) => {
                ca.verifier = new.unwrap_or_else(|| ca.verifier.clone());
                self.tickets = tickets;
                tracing::info!("the clients' CA was reloaded");
            }
            Err(error) => tracing::error!("{error}; the previous CA stays in use"),
        }
    }
}

impl Slot {
    fn take_up(&mut self, new: Result<Certificate, FileError>, files: &KeyPair) {
        self.valid = new.is_ok();
        match new {
            Ok(certificate) => {
                tracing::info!(
                    file = %files.cert.display(),
                    names = certificate.names.join(", "),
                    "certificate reloaded"
                );
                self.certificate = certificate;
                warn_if_open(&files.key);
            }
            Err(error) => tracing::error!("{error}; the previous certificate stays in use"),
        }
    }
}

fn new_tickets() -> Result<Arc<Tickets>, rustls::Error> {
    let tickets = Tickets::new().map_err(|_| rustls::Error::FailedToGetRandomBytes)?;
    Ok(Arc::new(tickets))
}

fn verifier(settings: &ListenerSettings) -> Result<Option<Verifier>, FileError> {
    let Some(file) = &settings.client_ca else {
        return Ok(None);
    };
    let roots = Arc::new(read_roots("client_ca", file)?);
    let mut lets_in = SipHasher13::new();
    lets_in.write(&[u8::from(settings.client_auth == ClientAuth::Required)]);
    for root in &roots.roots {
        lets_in.write(&root.subject);
        lets_in.write(&root.subject_public_key_info);
    }
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider().clone());
    let builder = match settings.client_auth {
        ClientAuth::Required => builder,
        ClientAuth::Optional => builder.allow_unauthenticated(),
    };
    let check = builder
        .build()
        .map_err(|error| FileError::new("client_ca", file, format!("cannot be used: {error}")))?;
    let lets_in = lets_in.finish();
    Ok(Some(Verifier { check, lets_in }))
}

/// What is read together: each certificate with its key, then the clients' CA.
fn units(settings: &ListenerSettings) -> Vec<Vec<&Path>> {
    let pairs = settings.certificates.iter();
    pairs
        .map(|pair| vec![&*pair.cert, &*pair.key])
        .chain(settings.client_ca.iter().map(|ca| vec![&**ca]))
        .collect()
}

/// What the files have, once it stays the same; at once where it is what was `seen`.
fn settled(settings: &ListenerSettings, seen: &[u64]) -> Vec<u64> {
    let mut now = look(settings);
    while now != seen {
        std::thread::sleep(SETTLE);
        let later = look(settings);
        if later == now {
            break;
        }
        now = later;
    }
    now
}

/// What the files have, as a number for each unit.
fn look(settings: &ListenerSettings) -> Vec<u64> {
    let units = units(settings);
    units
        .iter()
        .map(|files| {
            let mut hasher = DefaultHasher::new();
            for file in files {
                // A file that is gone is a change too.
                read(file).ok().hash(&mut hasher);
            }
            hasher.finish()
        })
        .collect()
}
