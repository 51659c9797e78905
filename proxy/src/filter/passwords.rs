//! Passwords are compared with hashes, which are made to take long: in a thread of their own, so that no
//! worker stands still meanwhile.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, LazyLock};
use std::thread;

use admin_api::{Argon2Hash, Argon2Kind, PasswordHash};
use argon2::{Algorithm, Argon2, Params, Version};
use subtle::ConstantTimeEq;
use tokio::sync::oneshot;

use crate::table::filter::basic_auth::{BasicAuth, Unproven};

/// How many passwords may wait. Those of one client are a matter of `limits.requests`.
const WAITING: usize = 64;

/// A password, and who waits for what comes of it.
struct Job {
    auth: Arc<BasicAuth>,
    unproven: Unproven,
    done: oneshot::Sender<(Unproven, bool)>,
}

/// The way to the thread; `None`: there is none.
static JOBS: LazyLock<Option<SyncSender<Job>>> = LazyLock::new(|| {
    let (sender, receiver) = sync_channel(WAITING);
    let thread = thread::Builder::new().name("passwords".into());
    let begun = thread.spawn(move || work(&receiver));
    match begun {
        Ok(_) => Some(sender),
        Err(error) => {
            tracing::error!("no password can be checked: {error}");
            None
        }
    }
});

/// Begins to compare a password with its hash, and remembers it where it is right. Gives it back where
/// too many wait.
pub(super) fn prove(
    auth: Arc<BasicAuth>,
    unproven: Unproven,
) -> Result<oneshot::Receiver<(Unproven, bool)>, Box<Unproven>> {
    let (done, proven) = oneshot::channel();
    let job = Job {
        auth,
        unproven,
        done,
    };
    let Some(jobs) = JOBS.as_ref() else {
        return Err(Box::new(job.unproven));
    };
    match jobs.try_send(job) {
        Ok(()) => Ok(proven),
        Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
            Err(Box::new(job.unproven))
        }
    }
}

fn work(jobs: &Receiver<Job>) {
    for Job {
        auth,
        unproven,
        done,
    } in jobs
    {
        // Its client may have left.
        if done.is_closed() {
            continue;
        }
        // Many requests may bring the same password before the first of them is proven.
        let is_right = auth.knows(&unproven)
            || matches(&unproven.password, &unproven.hash) && unproven.is_user;
        if is_right {
            auth.learn(&unproven);
        }
        // It may have left by now, too.
        let _ = done.send((unproven, is_right));
    }
}

fn matches(password: &[u8], hash: &PasswordHash) -> bool {
    match hash {
        PasswordHash::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
        PasswordHash::Argon2(hash) => matches_argon2(password, hash).unwrap_or(false),
    }
}

fn matches_argon2(password: &[u8], of: &Argon2Hash) -> Option<bool> {
    let algorithm = match of.kind {
        Argon2Kind::D => Algorithm::Argon2d,
        Argon2Kind::I => Algorithm::Argon2i,
        Argon2Kind::Id => Algorithm::Argon2id,
    };
    let params = Params::new(of.memory, of.passes, of.lanes, Some(of.hash.len())).ok()?;
    let argon2 = Argon2::new(algorithm, Version::V0x13, params);
    let mut hash = vec![0; of.hash.len()];
    argon2
        .hash_password_into(password, &of.salt, &mut hash)
        .ok()?;
    Some(hash.ct_eq(&of.hash).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As crypt(3) and the argon2 program write them.
    const USERS: &str = "\
        b:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n\
        a:$argon2i$v=19$m=65536,t=2,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaJObG\n";

    #[test]
    fn a_password_is_right_or_wrong() {
        let users = admin_api::read_users(USERS).unwrap();
        for (user, right) in users.iter().zip(["secret", "password"]) {
            assert!(matches(right.as_bytes(), &user.hash), "{user:?}");
            assert!(!matches(b"Secret", &user.hash), "{user:?}");
        }
        for wrong in ["secret ", "", "secre", "password"] {
            assert!(!matches(wrong.as_bytes(), &users[0].hash), "{wrong}");
        }
    }
}
