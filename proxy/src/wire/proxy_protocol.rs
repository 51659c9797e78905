//! The header that a balancer of connections sends before all else, so that the client's address is
//! known behind it: the PROXY protocol, versions 1 and 2.
//!
//! It is read where the peer is in one of the networks that are known to send it, and is required
//! there: to guess whether it comes would let a client say what it likes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// With what version 2 begins (2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1 (2.1).
const MAX_LINE: usize = 107;
/// What version 2 may have at most behind its first 16 bytes: addresses, and what else is said of them.
const MAX_REST: usize = 4_096;

/// Reads the header, and nothing behind it. Gives the address of the client; `None`: the balancer itself
/// is the client, or does not know who is.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    // The shortest header of either version is longer.
    let mut begins = [0; SIGNATURE.len()];
    stream.read_exact(&mut begins).await?;
    if begins == SIGNATURE {
        return read_v2(stream).await;
    }
    if !begins.starts_with(b"PROXY ") {
        return Err(wrong("it begins with no PROXY header"));
    }
    let mut line = begins.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= MAX_LINE {
            return Err(wrong("its PROXY line has no end"));
        }
        // Byte by byte: what follows is not ours. It has come in one packet.
        line.push(stream.read_u8().await?);
    }
    line_of(&line[..line.len() - 2]).ok_or_else(|| wrong("its PROXY line is broken"))
}

/// What a line of version 1 says, without its end. `None`: it is broken.
fn line_of(line: &[u8]) -> Option<Option<IpAddr>> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split(' ');
    let (proxy, family) = (words.next()?, words.next()?);
    if proxy != "PROXY" {
        return None;
    }
    if family == "UNKNOWN" {
        // Whatever follows (2.1).
        return Some(None);
    }
    let is_v4 = match family {
        "TCP4" => true,
        "TCP6" => false,
        _ => return None,
    };
    let (source, destination) = (words.next()?, words.next()?);
    let ports = [words.next()?, words.next()?];
    let is_port = |text: &&str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        digits && text.parse::<u16>().is_ok() && (*text == "0" || !text.starts_with('0'))
    };
    if words.next().is_some() || !ports.iter().all(is_port) {
        return None;
    }
    let read = |text: &str| match is_v4 {
        true => text.parse().map(IpAddr::V4).ok(),
        false => text.parse().map(IpAddr::V6).ok(),
    };
    read(destination)?;
    read(source).map(Some)
}

async fn read_v2(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut fixed = [0; 4];
    stream.read_exact(&mut fixed).await?;
    let [version_command, family, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_REST {
        return Err(wrong("its PROXY header is too long"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    v2_of(version_command, family, &rest).ok_or_else(|| wrong("its PROXY header is broken"))
}

/// What a header of version 2 says. `None`: it is broken.
fn v2_of(version_command: u8, family: u8, rest: &[u8]) -> Option<Option<IpAddr>> {
    match version_command {
        // LOCAL: a connection of the balancer's own, such as a health check.
        0x20 => return Some(None),
        0x21 => {}
        _ => return None,
    }
    match family {
        // TCP over IPv4: two addresses, two ports.
        0x11 => {
            let source: [u8; 4] = rest.get(..12)?[..4].try_into().ok()?;
            Some(Some(IpAddr::V4(Ipv4Addr::from(source))))
        }
        // TCP over IPv6.
        0x21 => {
            let source: [u8; 16] = rest.get(..36)?[..16].try_into().ok()?;
            Some(Some(IpAddr::V6(Ipv6Addr::from(source))))
        }
        // Not specified, or a unix socket.
        0x00 | 0x31 => Some(None),
        _ => None,
    }
}

fn wrong(says: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, says)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of these bytes, and how many of them are left.
    fn read_all(bytes: &[u8]) -> (Option<Option<IpAddr>>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().unwrap();
        let mut rest = bytes;
        let read = runtime.block_on(read(&mut rest));
        (read.ok(), rest.len())
    }

    #[track_caller]
    fn check(bytes: &[u8], want: Option<Option<&str>>) {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let want = want.map(|client| client.map(ip));
        let mut all = bytes.to_vec();
        all.extend_from_slice(b"GET / HTTP/1.1\r\n");
        let (read, left) = read_all(&all);
        assert_eq!(read, want, "{bytes:?}");
        if read.is_some() {
            assert_eq!(left, 16, "what follows is left alone: {bytes:?}");
        }
    }

    #[test]
    fn a_line_of_version_1_says_who_the_client_is() {
        for (line, want) in [
            (
                "PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n",
                Some(Some("192.0.2.1")),
            ),
            (
                "PROXY TCP6 2001:db8::1 ::1 1 65535\r\n",
                Some(Some("2001:db8::1")),
            ),
            ("PROXY UNKNOWN\r\n", Some(None)),
            ("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", Some(None)),
            ("PROXY TCP4 2001:db8::1 ::1 1 2\r\n", None),
            ("PROXY TCP4 192.0.2.1 10.0.0.1 1 65536\r\n", None),
            ("PROXY TCP4 192.0.2.1 10.0.0.1 1\r\n", None),
            ("PROXY TCP4 192.0.2.1 10.0.0.1 1 2 3\r\n", None),
            ("PROXY TCP4 192.0.2.1 10.0.0.1 +1 2\r\n", None),
            ("PROXY TCP4 192.0.2.1  10.0.0.1 1 2\r\n", None),
            ("PROXY TCP4 192.0.2.1 localhost 1 2\r\n", None),
            ("PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n", None),
            ("PROXY TCP4 192.0.2.1 10.0.0.1 1 2\n", None),
            ("proxy TCP4 192.0.2.1 10.0.0.1 1 2\r\n", None),
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", None),
        ] {
            check(line.as_bytes(), want);
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
        check(long.as_bytes(), None);
        assert_eq!(read_all(b"PROXY TCP4 1").0, None, "it breaks off");
    }

    fn v2(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[version_command, family], &length, rest].concat()
    }

    #[test]
    fn a_header_of_version_2_says_who_the_client_is() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 1, 0, 2, 0];
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets());
        let more = [&v4[..], &[3, 0, 4, 1, 2, 3, 4]].concat();
        for (header, want) in [
            (v2(0x21, 0x11, &v4), Some(Some("192.0.2.1"))),
            (v2(0x21, 0x21, &v6), Some(Some("2001:db8::1"))),
            (v2(0x21, 0x11, &more), Some(Some("192.0.2.1"))),
            (v2(0x20, 0x00, &[]), Some(None)),
            (v2(0x20, 0x11, &v4), Some(None)),
            (v2(0x21, 0x00, &[]), Some(None)),
            (v2(0x21, 0x31, &[0; 216]), Some(None)),
            (v2(0x21, 0x11, &v4[..11]), None),
            (v2(0x21, 0x21, &v6[..35]), None),
            (v2(0x21, 0x12, &v4), None),
            (v2(0x11, 0x11, &v4), None),
            (v2(0x22, 0x11, &v4), None),
            (v2(0x21, 0x00, &[0; 4_097]), None),
        ] {
            check(&header, want);
        }
        assert_eq!(
            read_all(&v2(0x21, 0x11, &v4)[..20]).0,
            None,
            "it breaks off"
        );
    }
}
