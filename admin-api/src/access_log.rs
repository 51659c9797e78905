//! The access log: a line for each request that has ended.

mod format;
mod sample;

use std::path::PathBuf;

use serde::Deserialize;

pub use format::{LogFormat, Piece, Variable};
pub use sample::SampleSpec;

/// Where the lines go, and what is in them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessLogSpec {
    /// Where they go.
    #[serde(default)]
    pub to: LogTarget,
    /// What a line looks like.
    #[serde(default)]
    pub format: LogFormat,
    /// Whether lines have the query of a target.
    #[serde(default = "yes")]
    pub query: bool,
    /// Which requests have a line.
    #[serde(default)]
    pub sample: SampleSpec,
}

impl AccessLogSpec {
    /// As a table of the proxy's config file.
    pub fn table(&self) -> String {
        let text = |text: String| toml::Value::String(text);
        let mut table = format!(
            "[access_log]\nto = {}\nformat = {}\nquery = {}\n",
            text(self.to.clone().into()),
            text(self.format.clone().into()),
            self.query,
        );
        if !self.sample.is_default() {
            table.push_str(&format!("sample = {}\n", self.sample));
        }
        table
    }
}

fn yes() -> bool {
    true
}

/// Where the lines of the access log go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LogTarget {
    /// Standard output.
    #[default]
    Stdout,
    /// A file, to which they are added.
    File(PathBuf),
    /// A unix socket of syslog: each line is a datagram.
    Syslog(PathBuf),
}

/// What comes before the path of a socket.
const UNIX: &str = "unix:";
/// The kernel's 108 bytes, without the zero at the end.
const MAX_SOCKET_PATH: usize = 107;

impl TryFrom<String> for LogTarget {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "stdout" {
            return Ok(Self::Stdout);
        }
        let Some(socket) = text.strip_prefix(UNIX) else {
            // A word is a typing error sooner than a file beside the program.
            return match text.contains('/') {
                true => Ok(Self::File(text.into())),
                false => Err(format!(
                    "`{text}` is neither `stdout` nor a path: write a file as `/var/log/crossfade/access.log`, a socket of syslog as `unix:/dev/log`"
                )),
            };
        };
        if !socket.starts_with('/') || socket.len() > MAX_SOCKET_PATH {
            return Err(format!(
                "`{text}` is no socket: write an absolute path of at most {MAX_SOCKET_PATH} bytes, such as `unix:/dev/log`"
            ));
        }
        Ok(Self::Syslog(socket.into()))
    }
}

impl From<LogTarget> for String {
    fn from(target: LogTarget) -> Self {
        match target {
            LogTarget::Stdout => "stdout".to_owned(),
            LogTarget::File(path) => path.to_string_lossy().into_owned(),
            LogTarget::Syslog(path) => format!("{UNIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strict::from_toml;

    fn read(text: &str) -> AccessLogSpec {
        from_toml(text).unwrap()
    }

    #[track_caller]
    fn refused(text: &str, field: &str, part: &str) {
        let error = from_toml::<AccessLogSpec>(text).unwrap_err();
        assert_eq!(error.field.as_deref(), Some(field), "{error}");
        assert!(error.message.contains(part), "{error}");
    }

    #[test]
    fn an_empty_table_is_json_with_queries_on_standard_output() {
        let spec = read("");
        assert_eq!(spec.to, LogTarget::Stdout);
        assert_eq!(spec.format, LogFormat::Json);
        assert!(spec.query && spec.sample.is_default());
    }

    #[test]
    fn lines_go_to_standard_output_a_file_or_a_socket() {
        let file = read("to = \"/var/log/access.log\"").to;
        assert_eq!(file, LogTarget::File("/var/log/access.log".into()));
        let socket = read("to = \"unix:/dev/log\"").to;
        assert_eq!(socket, LogTarget::Syslog("/dev/log".into()));
        refused("to = \"stdot\"", "to", "neither `stdout` nor a path");
        refused("to = \"unix:dev/log\"", "to", "absolute path");
        let long = format!("to = \"unix:/{}\"", "a".repeat(107));
        refused(&long, "to", "at most 107 bytes");
    }

    #[test]
    fn what_was_read_is_written_so_that_it_is_read_again() {
        #[derive(Deserialize)]
        struct File {
            access_log: AccessLogSpec,
        }
        for text in [
            "",
            "to = \"unix:/dev/log\"\nformat = \"combined\"",
            "to = \"a/\\u200b\\\"b\"\nformat = '$status \"${request}\"x\t\\'\nquery = false",
            "sample = { 2xx = 0.25, 404 = 0 }",
            "sample = 0.5",
        ] {
            let spec = read(text);
            let again: File = from_toml(&spec.table()).unwrap();
            assert_eq!(again.access_log, spec, "{}", spec.table());
        }
    }
}
