//! Who ended a request, and in which phase: two letters, which mean what HAProxy means by them.

use crate::wire::reply::LocalReply;

/// Who ended a request, and in which phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Termination {
    pub(crate) who: Who,
    pub(crate) phase: Phase,
}

/// Who ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// None: it went to its end.
    NoSide,
    /// The client left.
    Client,
    /// The client took too long.
    ClientTimeout,
    /// The endpoint refused it or broke off.
    Endpoint,
    /// The endpoint took too long.
    EndpointTimeout,
    /// The endpoint went down.
    EndpointDown,
    /// The proxy responded itself, as it was asked to.
    Local,
    /// The proxy refused it, or what the endpoint responded.
    Proxy,
    /// The machine has run out of something.
    Resources,
    /// A drain, or the end of the process, had no more time.
    Killed,
}

/// How far it had come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its head was read and checked.
    Head,
    /// It waited: for its body, a release, an endpoint.
    #[default]
    Queue,
    /// A connection to an endpoint was made.
    Connect,
    /// The head of the response was waited for.
    Response,
    /// Bodies were passed on.
    Body,
    /// The endpoint had done its part, and the client took the rest.
    Last,
    /// It was over.
    Over,
}

impl Termination {
    /// Of a request that went to its end.
    pub(crate) const NORMAL: Self = Self {
        who: Who::NoSide,
        phase: Phase::Over,
    };

    pub(crate) fn new(who: Who, phase: Phase) -> Self {
        Self { who, phase }
    }

    /// Of a request that got this response of the proxy's own, after it had come so far.
    pub(crate) fn of(reply: LocalReply, reached: Phase) -> Self {
        let (who, phase) = match reply {
            LocalReply::BadSyntax
            | LocalReply::BadTarget
            | LocalReply::BadPath
            | LocalReply::BadHost
            | LocalReply::PlainHttp
            | LocalReply::UnknownCoding
            | LocalReply::UnknownVersion
            | LocalReply::TargetTooLong
            | LocalReply::HeadTooLong
            | LocalReply::Connect
            | LocalReply::Trace
            | LocalReply::UpgradeOverHttp2
            | LocalReply::LastTrace
            | LocalReply::AccessDenied
            | LocalReply::Unauthorized
            | LocalReply::PasswordsWait
            | LocalReply::TooManyRequests
            | LocalReply::TooManyInFlight
            | LocalReply::NoRoute => (Who::Proxy, Phase::Head),
            LocalReply::BadFraming | LocalReply::BodyTooLong => (Who::Proxy, of_body(reached)),
            LocalReply::HeadTimedOut => (Who::ClientTimeout, Phase::Head),
            LocalReply::LastOptions
            | LocalReply::HeldHealthCheck
            | LocalReply::Maintenance
            | LocalReply::Preflight
            | LocalReply::Redirected
            | LocalReply::Responded => (Who::Local, Phase::Head),
            LocalReply::NoEndpoint => (Who::Endpoint, Phase::Connect),
            LocalReply::NoEndpointInTime => (Who::EndpointTimeout, Phase::Queue),
            LocalReply::ServiceHeld => (Who::Proxy, Phase::Queue),
            LocalReply::ConnectFailed => (Who::Endpoint, Phase::Connect),
            LocalReply::ConnectTimedOut => (Who::EndpointTimeout, Phase::Connect),
            LocalReply::ResourceExhausted => (Who::Resources, Phase::Connect),
            LocalReply::ConnectionBroken => (Who::Endpoint, Phase::Response),
            LocalReply::BadResponse => (Who::Proxy, Phase::Response),
            LocalReply::TimedOut => (Who::EndpointTimeout, Phase::Response),
            LocalReply::RequestTimedOut => (Who::EndpointTimeout, reached),
            LocalReply::EndpointSilent => (Who::EndpointDown, Phase::Response),
            LocalReply::ClientStalled => (Who::ClientTimeout, Phase::Body),
            LocalReply::ClientGone => (Who::Client, reached),
            LocalReply::Cut => (Who::Killed, reached),
        };
        Self { who, phase }
    }

    /// Whether it did not go to its end, for whatever reason: such a request is always logged.
    pub(crate) fn is_broken(self) -> bool {
        !matches!(self.who, Who::NoSide | Who::Local | Who::Proxy)
    }

    /// Its two letters.
    pub(super) fn letters(self) -> [u8; 2] {
        let who = match self.who {
            Who::NoSide => b'-',
            Who::Client => b'C',
            Who::ClientTimeout => b'c',
            Who::Endpoint => b'S',
            Who::EndpointTimeout => b's',
            Who::EndpointDown => b'D',
            Who::Local => b'L',
            Who::Proxy => b'P',
            Who::Resources => b'R',
            Who::Killed => b'K',
        };
        let phase = match self.phase {
            Phase::Head => b'R',
            Phase::Queue => b'Q',
            Phase::Connect => b'C',
            Phase::Response => b'H',
            Phase::Body => b'D',
            Phase::Last => b'L',
            Phase::Over => b'-',
        };
        [who, phase]
    }
}

/// The phase of what is wrong with a body: the head says so already, or it turned out on the way.
fn of_body(reached: Phase) -> Phase {
    match reached {
        Phase::Head | Phase::Queue => Phase::Head,
        _ => Phase::Body,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_reply_has_the_letters_of_who_was_to_blame_and_when() {
        #[track_caller]
        fn check(reply: LocalReply, reached: Phase, want: &[u8; 2]) {
            let letters = Termination::of(reply, reached).letters();
            assert_eq!(&letters, want, "{reply:?}");
        }
        check(LocalReply::NoRoute, Phase::Queue, b"PR");
        check(LocalReply::HeadTimedOut, Phase::Head, b"cR");
        check(LocalReply::BodyTooLong, Phase::Queue, b"PR");
        check(LocalReply::BodyTooLong, Phase::Response, b"PD");
        check(LocalReply::ServiceHeld, Phase::Queue, b"PQ");
        check(LocalReply::ClientGone, Phase::Queue, b"CQ");
        check(LocalReply::ClientGone, Phase::Connect, b"CC");
        check(LocalReply::ClientGone, Phase::Response, b"CH");
        check(LocalReply::ConnectFailed, Phase::Connect, b"SC");
        check(LocalReply::ConnectionBroken, Phase::Response, b"SH");
        check(LocalReply::TimedOut, Phase::Response, b"sH");
        check(LocalReply::EndpointSilent, Phase::Response, b"DH");
        check(LocalReply::Cut, Phase::Response, b"KH");
        check(LocalReply::ResourceExhausted, Phase::Connect, b"RC");
    }

    #[test]
    fn the_page_explains_every_letter() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
        let page = std::fs::read_to_string(page).unwrap();
        let phases = [
            Phase::Head,
            Phase::Queue,
            Phase::Connect,
            Phase::Response,
            Phase::Body,
        ];
        let mut all = BTreeSet::from([*b"--", *b"CL", *b"cD", *b"SD", *b"sD", *b"KD"]);
        for reply in LocalReply::ALL {
            all.extend(phases.map(|phase| Termination::of(reply, phase).letters()));
        }
        for letters in all {
            for (place, letter) in [("first", letters[0]), ("second", letters[1])] {
                let row = format!("| {place} | `{}` |", letter as char);
                assert!(page.contains(&row), "docs/operations.md lacks {row}");
            }
        }
    }
}
