//! Whether a server keeps to HTTP/2 (RFC 9113) and its header compression (RFC 7541): a client
//! that writes its frames byte by byte, and a case for each thing that a server can break.
//!
//! A server under test listens on TCP and speaks HTTP/2 with prior knowledge. It responds to
//! `GET /`, `HEAD /` and `POST /` with 200 and, but for `HEAD`, with a body of at least 1 KiB.
//!
//! A case passes where the server does what an RFC lets it do, which is often one of several
//! things: a stream error may be made a connection error, and a connection error may come with a
//! GOAWAY or without (9113, 5.4.1), but the connection has to end. An error with another code
//! than the RFC has for it is an error all the same: such a case passes, and is told apart. This
//! is how h2spec judges, too. Whatever the case, all that the server sends is held against the
//! rules in `heard`.

use std::fmt;
use std::net::SocketAddr;

pub mod cases;
pub mod connection;
pub mod frame;
pub mod heard;
pub mod hpack;
mod huffman;
pub mod response;

use connection::Connection;

/// What came in place of what is right.
#[derive(Debug)]
pub struct Wrong(pub String);

/// One step of a case.
pub type Step<T = ()> = Result<T, Wrong>;

/// One thing that a server can break.
pub struct Case {
    /// The RFC's section, and a number in it.
    pub name: &'static str,
    /// What is right.
    pub says: &'static str,
    run: fn(&mut Connection) -> Step,
}

/// A case of RFC 9113, or of RFC 7541 where its name says so.
const fn case(name: &'static str, says: &'static str, run: fn(&mut Connection) -> Step) -> Case {
    Case { name, says, run }
}

/// How cases went.
#[derive(Default)]
pub struct Report {
    /// How many there were.
    pub cases: usize,
    /// Those that failed, and what came in place of what is right.
    pub failures: Vec<(&'static Case, String)>,
    /// Those that passed, with an error that has another code than it should.
    pub other_codes: Vec<(&'static Case, String)>,
}

/// Runs all cases at once, each on a connection of its own.
pub fn run(address: SocketAddr, cases: &'static [Case]) -> Report {
    let mut report = Report::default();
    std::thread::scope(|scope| {
        let running = cases
            .iter()
            .map(|case| (case, scope.spawn(move || case.result(address))));
        // All of them run before the first is waited for.
        let running: Vec<_> = running.collect();
        for (case, running) in running {
            report.cases += 1;
            match running.join() {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(code))) => report.other_codes.push((case, code)),
                Ok(Err(Wrong(why))) => report.failures.push((case, why)),
                Err(_) => report.failures.push((case, "it panicked".to_owned())),
            }
        }
    });
    report
}

impl Case {
    /// The error code that came in place of the right one, if the case passes.
    fn result(&self, address: SocketAddr) -> Step<Option<String>> {
        let mut connection = Connection::connect(address)?;
        (self.run)(&mut connection).map_err(|Wrong(why)| {
            let mut sent = connection.heard.log.join(", ");
            if connection.heard.closed {
                sent.push_str(", the end");
            }
            Wrong(format!("{why}; it sent: {sent}"))
        })?;
        Ok(connection.other_code)
    }
}

impl Report {
    /// Adds the cases of another section.
    pub fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.failures.extend(other.failures);
        self.other_codes.extend(other.other_codes);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passed = self.cases - self.failures.len();
        let others = self.other_codes.len();
        writeln!(
            f,
            "{passed} of {} pass, {others} with another code",
            self.cases
        )?;
        for (case, code) in &self.other_codes {
            writeln!(f, "  {}: {}: {code}", case.name, case.says)?;
        }
        for (case, failure) in &self.failures {
            writeln!(f, "  FAILED {}: {}\n    {failure}", case.name, case.says)?;
        }
        Ok(())
    }
}
