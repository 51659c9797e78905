//! A network of the tests' own beside this machine's: clients in it reach this machine by a cable, with
//! addresses that are theirs alone. It takes root to make one; a thread in it sends requests for
//! tests that run as any user.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

/// Where another process has one: its number and the socket of its thread.
pub const VARIABLE: &str = "CROSSFADE_NEIGHBOUR";
/// In its folder.
const SOCKET: &str = "clients.sock";
/// How many addresses of IPv4 clients have there.
const CLIENTS: u8 = 16;
const TIMEOUT: Duration = Duration::from_secs(10);

/// The network, as tests use it.
pub struct Neighbour {
    number: u8,
    socket: PathBuf,
    /// Of the one who has made it.
    _made: Option<Made>,
}

struct Made {
    name: String,
    folder: TempDir,
}

/// A request for the thread in the network.
#[derive(Serialize, Deserialize)]
struct Request {
    from: IpAddr,
    to: SocketAddr,
    text: String,
}

impl Neighbour {
    /// The network that this process was told of, or one that it makes. The error says why there is
    /// none.
    pub fn find() -> Result<Self, String> {
        match std::env::var(VARIABLE) {
            Ok(told) => {
                let (number, socket) = told.split_once(' ').ok_or("no number and socket")?;
                Ok(Self {
                    number: number.parse().map_err(|_| "no number")?,
                    socket: socket.into(),
                    _made: None,
                })
            }
            Err(_) => Self::make(),
        }
    }

    fn make() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, next) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let number = u8::try_from((process + next) % 250).unwrap_or_default() + 1;
        let name = format!("cf-{process}-{next}");
        ip(&format!("netns add {name}"))?;
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let socket = folder.path().join(SOCKET);
        let neighbour = Self {
            number,
            socket,
            _made: Some(Made {
                name: name.clone(),
                folder,
            }),
        };
        let (here, there) = (
            format!("cfh{process}-{next}"),
            format!("cfn{process}-{next}"),
        );
        ip(&format!(
            "link add {here} type veth peer name {there} netns {name}"
        ))?;
        let (v4, v6) = (neighbour.v4(1), neighbour.v6(1));
        ip(&format!("addr add {v4}/24 dev {here}"))?;
        ip(&format!("addr add {v6}/64 dev {here} nodad"))?;
        ip(&format!("link set {here} up"))?;
        for client in 0..CLIENTS {
            let v4 = neighbour.v4(client + 2);
            ip(&format!("-n {name} addr add {v4}/24 dev {there}"))?;
        }
        let v6 = neighbour.v6(2);
        ip(&format!("-n {name} addr add {v6}/64 dev {there} nodad"))?;
        ip(&format!("-n {name} link set {there} up"))?;
        let started = send_from(&name, &neighbour.socket);
        started.map_err(|error| format!("no thread in the network: {error}"))?;
        Ok(neighbour)
    }

    /// What another process is told in [`VARIABLE`].
    pub fn told(&self) -> String {
        format!("{} {}", self.number, self.socket.display())
    }

    /// This machine's addresses in the network, of IPv4 and of IPv6.
    pub fn hosts(&self) -> [IpAddr; 2] {
        [self.v4(1).into(), self.v6(1).into()]
    }

    /// The clients' addresses of IPv4.
    pub fn clients(&self) -> impl Iterator<Item = IpAddr> {
        (0..CLIENTS).map(move |client| self.v4(client + 2).into())
    }

    /// A client's address of IPv6.
    pub fn v6_client(&self) -> IpAddr {
        self.v6(2).into()
    }

    /// The whole response to a client with this address, whose head has this beside `Host`.
    pub fn get(&self, from: IpAddr, to: SocketAddr, path: &str, head: &str) -> io::Result<String> {
        let text = format!("GET {path} HTTP/1.1\r\n{head}Connection: close\r\n\r\n");
        let request = Request { from, to, text };
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(2 * TIMEOUT))?;
        writeln!(stream, "{}", serde_json::to_string(&request)?)?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        Ok(response)
    }

    /// From the range for benchmarks (RFC 2544).
    fn v4(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.number, host)
    }

    fn v6(&self, host: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfdcf, self.number.into(), 0, 0, 0, 0, 0, host)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // Told nothing, the thread ends, and the network with it, and the cable.
        drop(UnixStream::connect(self.folder.path().join(SOCKET)));
        if let Err(error) = ip(&format!("netns delete {}", self.name)) {
            eprintln!("{error}");
        }
    }
}

/// Starts a thread in the network, which sends what it is told behind this socket, until it is told
/// nothing.
fn send_from(name: &str, socket: &Path) -> io::Result<()> {
    let network = File::open(Path::new("/run/netns").join(name))?;
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, PermissionsExt::from_mode(0o666))?;
    if let Some(folder) = socket.parent() {
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755))?;
    }
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let network_type = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(network.as_fd(), network_type).expect("root may");
            // The network is gone once nothing holds it.
            drop(network);
            for stream in listener.incoming().flatten() {
                match send(&stream) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => eprintln!("a client in another network: {error}"),
                }
            }
        })?;
    Ok(())
}

/// Whether it was told anything.
fn send(mut told: &UnixStream) -> io::Result<bool> {
    let mut line = String::new();
    if BufReader::new(told).read_line(&mut line)? == 0 {
        return Ok(false);
    }
    let Request { from, to, text } = serde_json::from_str(&line)?;
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    (&socket).write_all(text.as_bytes())?;
    let mut response = Vec::new();
    (&socket).read_to_end(&mut response)?;
    told.write_all(&response)?;
    Ok(true)
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {arguments}: {}", said.trim()))
}
