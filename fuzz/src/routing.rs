//! What a request is routed by: its path, and the address of its client.

use std::net::IpAddr;

use proxy::fuzz::{ReadPath, client, path};

use crate::strict;

/// What is stripped.
const PREFIX: &str = "/api";
/// The networks of the trusted proxies.
const TRUSTED: [&str; 2] = ["10.0.0.0/8", "fd00::/8"];

/// A path has the normal form that it has to have. What an endpoint gets has the same, begins with one
/// slash where a prefix was stripped, and stays below that.
pub fn check_path(input: &[u8]) {
    let target = [b"/", input].concat();
    let end = target.iter().position(|byte| *byte == b'?');
    let original = &target[..end.unwrap_or(target.len())];
    let Some(ReadPath {
        normal,
        sent,
        stripped,
    }) = path(&target, PREFIX)
    else {
        assert_eq!(
            strict::normal_path(original),
            None,
            "{}",
            target.escape_ascii()
        );
        return;
    };
    assert_eq!(Some(&normal), strict::normal_path(original).as_ref());
    let again = path(&normal, PREFIX).expect("a normal form");
    assert_eq!(normal, again.normal, "normalised twice");
    for sent in sent {
        assert_eq!(Some(&normal), strict::normal_path(&sent).as_ref());
    }
    for stripped in stripped.iter().flatten() {
        assert!(stripped.starts_with(b"/") && !stripped.starts_with(b"//"));
        let whole = strict::normal_path(&[PREFIX.as_bytes(), stripped].concat());
        let whole = whole.expect("what is left stays below the prefix");
        // `/api` and `/api/` are both `/` then.
        let without_slash = |path: &[u8]| path.strip_suffix(b"/").unwrap_or(path).to_vec();
        assert_eq!(without_slash(&whole), without_slash(&normal));
    }
}

/// Whatever is in `X-Forwarded-For`, no client is taken for a trusted proxy that is not said to be one by
/// a trusted proxy behind him.
pub fn check_client(list: &[u8]) {
    if list.iter().any(|byte| matches!(byte, 0..=0x1f | 0x7f)) {
        return;
    }
    let is_trusted = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 10,
        IpAddr::V6(ip) => ip.octets()[0] == 0xfd,
    };
    let found = client("10.0.0.1", &TRUSTED, list);
    let elements = list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    // Whatever comes before a stranger, or before what is no address, does not count.
    for stranger in [
        "203.0.113.9",
        "203.0.113.9:80",
        "[2001:db8::9]:80",
        "unknown",
        "_a",
        "",
    ] {
        let forged = [list, b",", stranger.as_bytes(), b",10.0.0.2"].concat();
        let found = client("10.0.0.1", &TRUSTED, &forged);
        assert!(
            found.is_none_or(|ip| !is_trusted(ip)),
            "{}",
            forged.escape_ascii()
        );
    }
    match found {
        // All of it was read, and is of trusted proxies.
        Some(ip) if is_trusted(ip) => {
            let mut all = elements.clone().map(one);
            assert!(all.all(|ip| ip.is_some_and(is_trusted)));
        }
        Some(ip) => assert!(elements.clone().any(|element| one(element) == Some(ip))),
        None => assert!(elements.clone().any(|element| one(element).is_none())),
    }
    // A stranger is who he is.
    let stranger = client("203.0.113.9", &TRUSTED, list);
    assert_eq!(stranger, "203.0.113.9".parse().ok());
}

/// The address that an element is.
fn one(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?;
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if text.parse::<IpAddr>().is_err() && !text.ends_with(']') => {
            (host, Some(port))
        }
        _ => (text, None),
    };
    if let Some(port) = port {
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        port.parse::<u16>().ok().filter(|_| digits)?;
    }
    let ip: IpAddr = match host.strip_prefix('[') {
        Some(host) => IpAddr::V6(host.strip_suffix(']')?.parse().ok()?),
        None if port.is_some() => IpAddr::V4(host.parse().ok()?),
        None => host.parse().ok()?,
    };
    Some(ip.to_canonical())
}
