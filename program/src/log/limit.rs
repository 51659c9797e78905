//! Which events become lines. An event's source is the place in the code that it comes from: what
//! clients send cannot make more of those.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::text::grouped;

/// Lines of one source in a window.
pub(crate) const LINES: u32 = 5;
const WINDOW: Duration = Duration::from_secs(1);
/// No error is left out while the program starts.
pub(crate) const START: Duration = Duration::from_secs(10);

thread_local! {
    /// This thread says how much was left out.
    static IS_SUMMARY: Cell<bool> = const { Cell::new(false) };
}

/// The limit of all sources.
pub(crate) struct Limit {
    began: Instant,
    sources: Mutex<HashMap<Identifier, Source>>,
    /// Of a source, the first event was left out since it was last said.
    left_out: Condvar,
}

/// The limit, as a part of the subscriber.
pub(crate) struct Limited(pub(crate) Arc<Limit>);

/// One place in the code, and what it has logged lately.
struct Source {
    metadata: &'static Metadata<'static>,
    window: Window,
    /// The first event that was left out since it was last said.
    example: String,
}

/// What one source has logged lately.
#[derive(Debug)]
struct Window {
    began: Instant,
    lines: u32,
    left_out: u64,
}

impl Window {
    fn new(now: Instant) -> Self {
        Self {
            began: now,
            lines: 0,
            left_out: 0,
        }
    }

    /// Whether an event becomes a line.
    fn takes(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.began) >= WINDOW {
            (self.began, self.lines) = (now, 0);
        }
        let is_taken = self.lines < LINES;
        if is_taken {
            self.lines += 1;
        } else {
            self.left_out += 1;
        }
        is_taken
    }
}

impl Limit {
    /// Of a program that began at this time.
    pub(crate) fn new(began: Instant) -> Self {
        Self {
            began,
            sources: Mutex::default(),
            left_out: Condvar::new(),
        }
    }

    /// Says from time to time how much was left out, for as long as the program runs.
    pub(crate) fn run(&self) {
        loop {
            let nothing = |sources: &mut HashMap<Identifier, Source>| {
                sources.values().all(|source| source.window.left_out == 0)
            };
            let waited = self.left_out.wait_while(self.sources(), nothing);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            std::thread::sleep(WINDOW);
            self.say_what_was_left_out();
        }
    }

    /// Says how much was left out since it was last said.
    pub(crate) fn say_what_was_left_out(&self) {
        let mut texts = Vec::new();
        for source in self.sources().values_mut() {
            let count = std::mem::take(&mut source.window.left_out);
            if count > 0 {
                let (count, example) = (
                    grouped(&count.to_string()),
                    std::mem::take(&mut source.example),
                );
                let text = format!("… and {count} more like this: {example}");
                texts.push((source.metadata, text));
            }
        }
        IS_SUMMARY.set(true);
        for (metadata, text) in texts {
            say(metadata, &text);
        }
        IS_SUMMARY.set(false);
    }

    fn takes(&self, event: &Event<'_>, now: Instant) -> bool {
        let metadata = event.metadata();
        let is_start = now.saturating_duration_since(self.began) < START;
        // Levels above that of information are for those who ask for them.
        if *metadata.level() > Level::INFO
            || is_start && *metadata.level() == Level::ERROR
            || IS_SUMMARY.get()
        {
            return true;
        }
        let id = metadata.callsite();
        let new = || Source {
            metadata,
            window: Window::new(now),
            example: String::new(),
        };
        let mut sources = self.sources();
        let window = &mut sources.entry(id.clone()).or_insert_with(new).window;
        let is_taken = window.takes(now);
        let is_first = !is_taken && window.left_out == 1;
        drop(sources);
        if is_first {
            // Not under the lock: what is shown may log by itself.
            let mut example = Example::default();
            event.record(&mut example);
            if let Some(source) = self.sources().get_mut(&id) {
                source.example = example.text();
            }
            self.left_out.notify_one();
        }
        is_taken
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<Identifier, Source>> {
        // A source is whole at any time.
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Limited {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.0.takes(event, Instant::now())
    }
}

/// An event's message and fields, as text.
#[derive(Default)]
struct Example {
    message: String,
    fields: String,
}

impl Example {
    fn text(self) -> String {
        self.message + &self.fields
    }
}

impl Visit for Example {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// Logs a text as the source of these metadata does.
fn say(metadata: &'static Metadata<'static>, text: &str) {
    let fields = metadata.fields();
    let Some(field) = fields.field("message") else {
        tracing::warn!(source = metadata.target(), "{text}");
        return;
    };
    let value: &dyn tracing::Value = &text;
    Event::dispatch(metadata, &fields.value_set(&[(&field, Some(value))]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_a_few_lines_in_each_window() {
        let start = Instant::now();
        let mut window = Window::new(start);
        let mut taken = |after: Duration| {
            let all = (0..1_000).filter(|_| window.takes(start + after));
            (all.count(), window.left_out)
        };
        assert_eq!(taken(Duration::ZERO), (5, 995));
        assert_eq!(taken(WINDOW / 2), (0, 1_995));
        assert_eq!(taken(WINDOW), (5, 2_990));
    }
}
