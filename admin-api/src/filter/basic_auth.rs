//! Names and passwords (RFC 7617), as `htpasswd` writes them.

use std::collections::HashSet;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::strict::InputError;
use crate::traffic::Setting;

/// How many users a list may have.
const MAX_USERS: usize = 10_000;
/// How long a name may be.
const MAX_NAME: usize = 255;
/// What bcrypt may cost: at 14, a password takes about a second.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=14;
/// Memory that Argon2 may take, in KiB.
const MAX_ARGON2_MEMORY: u32 = 256 * 1024;
const MAX_ARGON2_PASSES: u32 = 16;
const MAX_ARGON2_LANES: u32 = 16;

/// Requests need a name and its password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BasicAuthSpec {
    /// Lines as `htpasswd -B` writes them: a name, `:`, and a hash by bcrypt or Argon2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<String>,
    /// A file with such lines, in place of `users`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// What browsers show. Default: the service's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
}

/// A user of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Without `:`.
    pub name: String,
    /// Of the password.
    pub hash: PasswordHash,
}

/// The hash of a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordHash {
    /// As bcrypt writes it: `$2y$05$…`.
    Bcrypt(String),
    /// By Argon2.
    Argon2(Argon2Hash),
}

/// What `$argon2id$v=19$m=19456,t=2,p=1$…$…` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argon2Hash {
    /// `argon2id`, `argon2i` or `argon2d`.
    pub kind: Argon2Kind,
    /// In KiB.
    pub memory: u32,
    /// How often it goes through it.
    pub passes: u32,
    /// How many lanes it has.
    pub lanes: u32,
    /// The salt.
    pub salt: Vec<u8>,
    /// The hash itself.
    pub hash: Vec<u8>,
}

/// The variants of Argon2 (RFC 9106).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argon2Kind {
    /// Argon2d.
    D,
    /// Argon2i.
    I,
    /// Argon2id.
    Id,
}

impl Setting for BasicAuthSpec {
    fn check(&self) -> Result<(), InputError> {
        match (&self.users, &self.file) {
            (None, None) => return Err(InputError::of_whole("needs `users` or `file`")),
            (Some(_), Some(_)) => {
                let message = "`users` is set, too: leave one of the two out";
                return Err(InputError::of_field("file", message));
            }
            (Some(users), None) => {
                read_users(users).map_err(|error| error.inside("users"))?;
            }
            (None, Some(_)) => {}
        }
        let is_wrong = |c: char| !matches!(c, ' '..='~') || matches!(c, '"' | '\\');
        if let Some(realm) = self.realm.as_ref().filter(|realm| realm.contains(is_wrong)) {
            let message =
                format!("{realm:?} cannot be shown: use printable ASCII without `\"` and `\\`");
            return Err(InputError::of_field("realm", message));
        }
        Ok(())
    }
}

/// Reads lines of users. Those that are empty, or begin with `#`, are none. An error names the line.
pub fn read_users(text: &str) -> Result<Vec<User>, InputError> {
    let mut users = Vec::new();
    let mut seen = HashSet::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |says: String| InputError::of_whole(format!("line {}: {says}", at + 1));
        let user = read_user(line).map_err(wrong)?;
        if !seen.insert(user.name.clone()) {
            return Err(wrong(format!("`{}` is listed twice", user.name)));
        }
        users.push(user);
    }
    match users.len() {
        0 => Err(InputError::of_whole(
            "has no user: add lines such as `htpasswd -nB NAME` writes them",
        )),
        1..=MAX_USERS => Ok(users),
        count => Err(InputError::of_whole(format!(
            "has {count} users: at most {MAX_USERS}"
        ))),
    }
}

/// Says nothing of a hash: errors are logged.
fn read_user(line: &str) -> Result<User, String> {
    let Some((name, hash)) = line.split_once(':') else {
        return Err("has no `:` between a name and a hash".into());
    };
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(format!(
            "its name has from 1 to {MAX_NAME} bytes, and none of control"
        ));
    }
    let hash = match hash {
        _ if ["$2y$", "$2b$", "$2a$"]
            .iter()
            .any(|kind| hash.starts_with(kind)) =>
        {
            check_bcrypt(hash).map(|()| PasswordHash::Bcrypt(hash.to_owned()))
        }
        _ if hash.starts_with("$argon2") => read_argon2(hash).map(PasswordHash::Argon2),
        _ => Err("the hash is not one of bcrypt (`htpasswd -B`) or Argon2".to_owned()),
    };
    let hash = hash.map_err(|says| format!("`{name}`: {says}"))?;
    let name = name.to_owned();
    Ok(User { name, hash })
}

/// `$2y$`, two digits, `$`, and 53 characters of salt and hash.
fn check_bcrypt(hash: &str) -> Result<(), String> {
    let broken = || "its bcrypt hash is broken off, or was changed".to_owned();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"./".contains(&byte);
    let (cost, rest) = hash[4..].split_once('$').ok_or_else(broken)?;
    if cost.len() != 2 || rest.len() != 53 || !rest.bytes().all(allowed) {
        return Err(broken());
    }
    let cost: u32 = cost.parse().map_err(|_| broken())?;
    if !BCRYPT_COSTS.contains(&cost) {
        let (least, most) = BCRYPT_COSTS.into_inner();
        return Err(format!("bcrypt's cost is {cost}: from {least} to {most}"));
    }
    Ok(())
}

fn read_argon2(text: &str) -> Result<Argon2Hash, String> {
    let broken = || "its Argon2 hash is broken off, or was changed".to_owned();
    let parts: Vec<&str> = text.split('$').collect();
    let [_, kind, version, costs, salt, hash] = parts[..] else {
        return Err(broken());
    };
    let kind = match kind {
        "argon2d" => Argon2Kind::D,
        "argon2i" => Argon2Kind::I,
        "argon2id" => Argon2Kind::Id,
        _ => return Err(broken()),
    };
    if version != "v=19" {
        return Err("of Argon2, only version 1.3 (`v=19`) is known".into());
    }
    let (mut memory, mut passes, mut lanes) = (0, 0, 0);
    for cost in costs.split(',') {
        let (key, value) = cost.split_once('=').ok_or_else(broken)?;
        let to = match key {
            "m" => &mut memory,
            "t" => &mut passes,
            "p" => &mut lanes,
            _ => return Err(broken()),
        };
        *to = value.parse().map_err(|_| broken())?;
    }
    let is_allowed = (1..=MAX_ARGON2_PASSES).contains(&passes)
        && (1..=MAX_ARGON2_LANES).contains(&lanes)
        && (8 * lanes..=MAX_ARGON2_MEMORY).contains(&memory);
    if !is_allowed {
        return Err(format!(
            "Argon2 has m={memory},t={passes},p={lanes}: m from 8 for each of p to {MAX_ARGON2_MEMORY} (KiB), t from 1 to {MAX_ARGON2_PASSES}, p from 1 to {MAX_ARGON2_LANES}"
        ));
    }
    let decode = |text: &str| STANDARD_NO_PAD.decode(text).map_err(|_| broken());
    let (salt, hash) = (decode(salt)?, decode(hash)?);
    if !(8..=64).contains(&salt.len()) || !(16..=64).contains(&hash.len()) {
        return Err(broken());
    }
    Ok(Argon2Hash {
        kind,
        memory,
        passes,
        lanes,
        salt,
        hash,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::testing::check_refused;

    const BCRYPT: &str = "$2y$04$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234";
    const ARGON2: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn a_list_is_read_as_htpasswd_writes_it() {
        let text = format!("# ours\nalice:{BCRYPT}\r\n\nb\u{f6}b:{ARGON2}\n");
        let users = read_users(&text).expect("users");
        assert_eq!(users[0].name, "alice");
        assert_eq!(users[0].hash, PasswordHash::Bcrypt(BCRYPT.into()));
        let PasswordHash::Argon2(hash) = &users[1].hash else {
            panic!("{users:?}");
        };
        assert_eq!((&*hash.salt, hash.memory), (&b"somesalt"[..], 8));
    }

    #[test]
    fn a_bad_line_is_named_and_its_hash_is_not_shown() {
        let long = "x".repeat(256);
        for (line, says) in [
            ("alice", "has no `:`"),
            (":x", "its name has from 1"),
            (&*format!("{long}:{BCRYPT}"), "its name has from 1"),
            ("alice:secret", "not one of bcrypt"),
            ("alice:$apr1$abc$def", "not one of bcrypt"),
            ("alice:{SHA}secret", "not one of bcrypt"),
            ("alice:$2y$04$secret", "its bcrypt hash is broken off"),
            (
                &BCRYPT.replace("$2y$04", "alice:$2y$31"),
                "bcrypt's cost is 31: from 4 to 14",
            ),
            (
                &BCRYPT.replace("$2y$04", "alice:$2y$0x"),
                "its bcrypt hash is broken off",
            ),
            (
                "alice:$argon2id$v=19$m=8,t=1$secret",
                "its Argon2 hash is broken off",
            ),
            (
                &*format!("alice:{}", ARGON2.replace("v=19", "v=16")),
                "only version 1.3",
            ),
            (
                &*format!("alice:{}", ARGON2.replace("m=8", "m=99999999")),
                "m=99999999,t=1,p=1",
            ),
            (
                &*format!("alice:{}", ARGON2.replace("t=1", "t=0")),
                "t from 1 to 16",
            ),
            (&*format!("bob:{BCRYPT}"), "`bob` is listed twice"),
        ] {
            let text = format!("bob:{BCRYPT}\n# a comment\n{line}\n");
            let error = read_users(&text).expect_err(line);
            assert!(error.message.starts_with("line 3: "), "{error}");
            assert!(error.message.contains(says), "{error}");
            assert!(!error.message.contains("secret"), "{error}");
        }
        check_refused("basic_auth = {}", "basic_auth", "needs `users` or `file`");
        check_refused(
            "basic_auth.users = \"# none\"",
            "basic_auth.users",
            "has no user",
        );
        check_refused(
            "basic_auth = { users = \"\", file = \"a\" }",
            "basic_auth.file",
            "leave one of the two out",
        );
        check_refused(
            &format!("basic_auth = {{ users = 'a:{BCRYPT}', realm = 'a\"b' }}"),
            "basic_auth.realm",
            "cannot be shown",
        );
    }
}
