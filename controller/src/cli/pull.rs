//! Pulls what a verb needs before it begins: bars on a terminal, plain lines elsewhere. On standard
//! error, since what the verb itself says is the result.

use std::collections::HashMap;
use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::lines::Lines;
use crate::api::{PullLine, PullRequest};
use crate::client::ControllerClient;
use crate::error::{Error, Result};
use crate::print::Output;
use crate::runtime::PullStep;

/// Pulls what is not there, and shows how it goes.
pub(super) async fn pull(
    client: &ControllerClient,
    request: &PullRequest,
    output: Output,
) -> Result<()> {
    let mut shown = Shown::new(output);
    let mut lines = Lines::new(|line: &[u8]| {
        shown.take(serde_json::from_slice(line)?);
        Ok(())
    });
    client.copy("pull", request, &mut lines).await?;
    match shown.failed {
        Some(failed) => Err(failed),
        None => Ok(()),
    }
}

/// How it goes, and how it ended.
struct Shown {
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

impl Shown {
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
                self.screen.say(&format!("{image} is on this host"));
            }
            PullLine::Failed(failure) => {
                self.screen.clear();
                self.failed = Some(failure.into());
            }
        }
    }
}

impl Screen {
    fn say(&self, text: &str) {
        match self {
            Self::None => {}
            Self::Plain => eprintln!("{text}"),
            // A terminal that has gone away does no harm.
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
    fn the_last_line_says_how_it_ended() {
        let mut shown = Shown::new(Output::Json);
        shown.take(PullLine::Begins {
            image: "web:2".into(),
        });
        shown.take(PullLine::Step(PullStep::default()));
        assert!(shown.failed.is_none());
        shown.take(PullLine::Failed(Failure {
            exit: 1,
            message: "it broke off".into(),
        }));
        let failed = shown.failed.expect("it failed");
        assert_eq!(
            (failed.exit().code(), failed.to_string().as_str()),
            (1, "it broke off")
        );
    }
}
