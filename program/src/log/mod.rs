//! The log of proxy and controller, on standard error: at most a few lines a second from any one place in
//! the code, those of other crates included, and a count of what was left out.

mod journal;
mod limit;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tracing::Subscriber;
pub use tracing_subscriber::EnvFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::fmt::format::{DefaultFields, Format};
use tracing_subscriber::fmt::{FormatEvent, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use self::journal::Prefixed;
use self::limit::{Limit, Limited};
use crate::text::plain;

/// The log, once it has begun. Dropped at the end of the program, it says what it has left out.
#[must_use]
pub struct Log {
    limit: Arc<Limit>,
}

/// Begins the log: what `filter` lets through, in colours or without. systemd's journal gets each line's
/// priority in place of its level and time.
pub fn start(filter: EnvFilter, colours: bool) -> Log {
    let limit = Arc::new(Limit::new(Instant::now()));
    // Without colours, whatever steers a terminal has come from elsewhere.
    let plainly = Plainly(io::stderr);
    match colours {
        _ if journal::is_stderr() => subscriber(filter, Prefixed, false, plainly, &limit).init(),
        true => subscriber(filter, Format::default(), colours, io::stderr, &limit).init(),
        false => subscriber(filter, Format::default(), colours, plainly, &limit).init(),
    }
    let counting = limit.clone();
    let thread = std::thread::Builder::new().name("log".into());
    if let Err(error) = thread.spawn(move || counting.run()) {
        tracing::warn!(%error, "the log counts what it leaves out only at the end of the program");
    }
    Log { limit }
}

fn subscriber<W, E>(
    filter: EnvFilter,
    format: E,
    colours: bool,
    writer: W,
    limit: &Arc<Limit>,
) -> impl Subscriber + Send + Sync + use<W, E>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    E: FormatEvent<Registry, DefaultFields> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_ansi(colours)
        .event_format(format)
        .with_env_filter(filter)
        .with_writer(writer)
        .finish()
        .with(Limited(limit.clone()))
}

/// Writes lines without anything that steers a terminal, and one for each event.
struct Plainly<M>(M);

struct PlainLines<W>(W);

impl<'w, M: MakeWriter<'w>> MakeWriter<'w> for Plainly<M> {
    type Writer = PlainLines<M::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        PlainLines(self.0.make_writer())
    }
}

impl<W: io::Write> io::Write for PlainLines<W> {
    /// A whole event, with the end of its line.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let (line, end) = match text.strip_suffix('\n') {
            Some(line) => (line, "\n"),
            None => (&*text, ""),
        };
        self.0
            .write_all(format!("{}{end}", plain(line)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.limit.say_what_was_left_out();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, MutexGuard};
    use std::time::Duration;

    use super::limit::{LINES, START};
    use super::*;

    /// Where a test's log goes.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    struct Writer<'w>(MutexGuard<'w, Vec<u8>>);

    impl io::Write for Writer<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'w> MakeWriter<'w> for Written {
        type Writer = Writer<'w>;

        fn make_writer(&'w self) -> Writer<'w> {
            Writer(self.0.lock().unwrap())
        }
    }

    /// The lines that come of this, in a program that began so long ago.
    fn lines(age: Duration, filter: &str, program: impl FnOnce()) -> Vec<String> {
        let written = Written::default();
        let began = Instant::now().checked_sub(age).unwrap();
        let limit = Arc::new(Limit::new(began));
        let writer = Plainly(written.clone());
        let filter = EnvFilter::new(filter);
        let subscriber = subscriber(filter, Format::default(), false, writer, &limit);
        tracing::subscriber::with_default(subscriber, || {
            program();
            drop(Log { limit });
        });
        let bytes = written.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_flood_is_a_few_lines_and_a_count_whatever_crate_it_comes_from() {
        let said = lines(START, "info", || {
            for number in 0..10_000 {
                tracing::warn!(target: "h2::proto", number, "a stream was reset");
                tracing::error!(%number, "no");
            }
            tracing::info!("another place has its own lines");
        });
        assert_eq!(said.len(), 2 * (LINES as usize + 1) + 1, "{said:#?}");
        let is_said = |text: &str| said.iter().any(|line| line.ends_with(text));
        let resets = "WARN h2::proto: … and 9,995 more like this: a stream was reset number=5";
        assert!(is_said(resets), "{said:#?}");
        assert!(
            is_said("… and 9,995 more like this: no number=5"),
            "{said:#?}"
        );
        assert!(is_said("another place has its own lines"), "{said:#?}");
    }

    #[test]
    fn the_journal_gets_priorities_and_no_time() {
        let written = Written::default();
        let limit = Arc::new(Limit::new(Instant::now()));
        let (filter, writer) = (EnvFilter::new("debug"), Plainly(written.clone()));
        let log = subscriber(filter, Prefixed, false, writer, &limit);
        tracing::subscriber::with_default(log, || {
            tracing::error!(target: "web", port = 80, "cannot bind");
            tracing::warn!(target: "web", "slow");
            tracing::info!(target: "web", "up");
            tracing::debug!(target: "web", "two\nlines");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let want = [
            "<3>web: cannot bind port=80",
            "<4>web: slow",
            "<6>web: up",
            "<7>web: two\\nlines",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), want);
    }

    #[test]
    fn an_event_is_one_line_whatever_it_quotes() {
        let said = lines(START, "info", || {
            let output = "no\n2025-01-31 INFO all is well\u{1b}[2J\u{202e}";
            tracing::warn!("it said: {output}");
        });
        assert_eq!(said.len(), 1, "{said:#?}");
        let end = r"it said: no\n2025-01-31 INFO all is well\x1b[2J\u{202e}";
        assert!(said[0].ends_with(end), "{said:#?}");
    }

    #[test]
    fn no_error_at_the_start_is_left_out() {
        let said = lines(Duration::ZERO, "info", || {
            for number in 0..1_000 {
                tracing::error!(number, "cannot bind");
            }
        });
        assert_eq!(said.len(), 1_000);
    }

    #[test]
    fn a_log_of_all_steps_is_whole() {
        let debug = || {
            for number in 0..100 {
                tracing::debug!(number, "a step");
            }
        };
        assert_eq!(lines(START, "debug", debug).len(), 100);
        assert_eq!(lines(START, "info", debug).len(), 0);
    }

    #[test]
    fn what_is_filtered_is_not_counted() {
        let said = lines(START, "warn", || {
            for number in 0..100 {
                tracing::info!(number, "a step");
            }
        });
        assert_eq!(said, [""; 0]);
    }
}
