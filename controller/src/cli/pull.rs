//! Pulls what a verb needs before it begins: bars on a terminal, plain lines elsewhere. On standard
//! error, since what the verb itself says is the result.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::Output;
use crate::api::{PullLine, PullRequest};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::runtime::PullStep;

/// Pulls what is not there, and shows how it goes.
pub(super) async fn pull(client: &Client, request: &PullRequest, output: Output) -> Result<()> {
    let mut lines = Lines::new(output);
    client.copy("pull", request, &mut lines).await?;
    match lines.failed {
        Some(failed) => Err(failed),
        None => Ok(()),
    }
}

/// What the controller tells, cut into lines.
struct Lines {
    rest: Vec<u8>,
    screen: Screen,
    failed: Option<Error>,
}

/// Where it is shown.
enum Screen {
    /// Nowhere: programs want the result alone.
    None,
    Plain,
    Bars {
        all: MultiProgress,
        by_layer: HashMap<String, ProgressBar>,
    },
}

impl Lines {
    fn new(output: Output) -> Self {
        let screen = match output {
            Output::Json => Screen::None,
            Output::Table if std::io::stderr().is_terminal() => Screen::Bars {
                all: MultiProgress::new(),
                by_layer: HashMap::new(),
            },
            Output::Table => Screen::Plain,
        };
        Self {
            rest: Vec::new(),
            screen,
            failed: None,
        }
    }

    fn take(&mut self, line: PullLine) {
        match line {
            PullLine::Begins { image } => self.screen.say(&format!("pulling {image}")),
            PullLine::Step(step) => self.screen.step(step),
            PullLine::Here { image } => {
                self.screen.clear();
                self.screen.say(&format!("{image} is here"));
            }
            PullLine::Failed(failure) => {
                self.screen.clear();
                self.failed = Some(Error::Controller {
                    exit: failure.exit,
                    message: failure.message,
                });
            }
        }
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.take(serde_json::from_slice(&line)?);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Screen {
    fn say(&self, text: &str) {
        match self {
            Self::None => {}
            Self::Plain => eprintln!("{text}"),
            // A terminal that has gone away harms nobody.
            Self::Bars { all, .. } => all.println(text).unwrap_or_default(),
        }
    }

    fn step(&mut self, step: PullStep) {
        let Self::Bars { all, by_layer } = self else {
            return;
        };
        let Some(layer) = step.layer else {
            return;
        };
        let bar = by_layer.entry(layer.clone()).or_insert_with(|| {
            let bar = all.add(ProgressBar::new(0));
            // A template that is wrong leaves the plain bar.
            let template = "  {prefix:12.12} {bar:24} {bytes:>10}/{total_bytes:<10} {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_prefix(layer);
            bar
        });
        if let Some(total) = step.total {
            bar.set_length(total);
        }
        if let Some(current) = step.current {
            bar.set_position(current);
        }
        bar.set_message(step.status);
    }

    fn clear(&mut self) {
        if let Self::Bars { by_layer, .. } = self {
            for (_, bar) in by_layer.drain() {
                bar.finish_and_clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Failure;

    #[test]
    fn lines_may_come_in_pieces_and_the_last_one_says_how_it_ended() {
        let mut lines = Lines::new(Output::Json);
        let said = [
            PullLine::Begins {
                image: "web:2".into(),
            },
            PullLine::Step(PullStep::default()),
            PullLine::Failed(Failure {
                exit: 1,
                message: "it broke off".into(),
            }),
        ];
        let text: String = said
            .iter()
            .map(|line| serde_json::to_string(line).expect("JSON") + "\n")
            .collect();
        for piece in text.as_bytes().chunks(7) {
            lines.write_all(piece).expect("taken");
        }
        let failed = lines.failed.expect("it failed");
        assert_eq!(
            (failed.exit_code(), failed.to_string().as_str()),
            (1, "it broke off")
        );
    }
}
