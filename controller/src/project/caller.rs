//! Who asks the controller for something, and what they believe they are changing.

use std::fs;

use tokio::net::UnixStream;

use crate::journal::NewEvent;

/// The user that a command comes from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    /// The user at the other end of the socket, as the kernel knows it.
    pub(crate) who: Option<String>,
    /// The generation that they have seen: what is newer is not to be overwritten.
    pub(crate) if_generation: Option<i64>,
}

impl Caller {
    /// The user of the process that connected.
    pub(crate) fn of(stream: &UnixStream) -> Self {
        let who = stream.peer_cred().ok().map(|peer| name_of(peer.uid()));
        Self {
            who,
            if_generation: None,
        }
    }

    /// For the history.
    pub(crate) fn who(&self) -> Option<&str> {
        self.who.as_deref()
    }

    /// Something that they requested, and no rollout, for the history.
    pub(crate) fn event<'a>(
        &'a self,
        service: Option<&'a str>,
        kind: &'a str,
        text: &'a str,
    ) -> NewEvent<'a> {
        NewEvent {
            rollout: None,
            service,
            who: self.who(),
            kind,
            text,
            stats: None,
        }
    }
}

/// The user's name; its number where it has none here.
pub(crate) fn name_of(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    find(&users, uid).map_or_else(|| format!("uid {uid}"), str::to_owned)
}

fn find(users: &str, uid: u32) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbroken\n";
        assert_eq!(find(users, 0), Some("root"));
        assert_eq!(find(users, 1000), Some("ann"));
        assert_eq!(find(users, 7), None);
    }

    #[tokio::test]
    async fn the_caller_is_who_the_kernel_says() {
        let (stream, _other) = UnixStream::pair().expect("a pair");
        let own = name_of(rustix::process::getuid().as_raw());
        assert_eq!(Caller::of(&stream).who, Some(own));
    }
}
