//! The machine and the time of a run.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::network::{Network, is_tracked};

/// What a reader needs to compare results with their own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub(crate) processor: String,
    /// How many cores this process may use.
    pub(crate) cores: usize,
    /// The kernel's release, without the builder's suffix.
    pub(crate) kernel: String,
    /// The day, in UTC.
    pub(crate) date: String,
    /// The mitigations of processor vulnerabilities. Empty in results of release 0.1.0.
    #[serde(default)]
    pub(crate) mitigations: String,
    /// The frequency governor.
    #[serde(default)]
    pub(crate) governor: String,
    /// The network namespace of the run.
    #[serde(default)]
    pub(crate) network: String,
    /// Whether the kernel tracked connections; `None` if that is not known.
    #[serde(default)]
    pub(crate) conntrack: Option<bool>,
}

impl Machine {
    /// Describes this machine. The caller counts the cores, since this thread is bound to one of
    /// them.
    pub(crate) fn this(cores: usize, network: &Network) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let kernel = release.split('-').next().unwrap_or_default().to_owned();
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        Self {
            processor: processor(&cpuinfo).unwrap_or("unknown").to_owned(),
            cores,
            kernel: kernel.trim().to_owned(),
            date: now.chars().take(10).collect(),
            mitigations: mitigations(Path::new("/sys/devices/system/cpu/vulnerabilities")),
            governor: fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
                .map_or("none".into(), |text| text.trim().to_owned()),
            network: network.description(),
            conntrack: is_tracked().ok(),
        }
    }

    /// The lines of the report.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "Machine: {}, {} cores, Linux {}",
            self.processor, self.cores, self.kernel
        )];
        // Results of release 0.1.0 have no more.
        if self.network.is_empty() {
            return lines;
        }
        lines.push(format!("Mitigations: {}", self.mitigations));
        lines.push(format!("Frequency governor: {}", self.governor));
        let conntrack = match self.conntrack {
            Some(true) => "on",
            Some(false) => "off",
            None => "unknown",
        };
        lines.push(format!(
            "Network: {}; connection tracking is {conntrack}",
            self.network
        ));
        lines
    }
}

/// The vulnerabilities that affect the processor, each with its mitigation.
fn mitigations(folder: &Path) -> String {
    let Ok(entries) = fs::read_dir(folder) else {
        return "unknown".into();
    };
    let mut affected: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            let state = text.trim().split([';', ',']).next()?.to_owned();
            let state = state.strip_prefix("Mitigation: ").unwrap_or(&state);
            let name = entry.file_name().to_string_lossy().into_owned();
            (state != "Not affected").then(|| format!("{name}: {state}"))
        })
        .collect();
    affected.sort();
    match affected.is_empty() {
        true => "none needed".into(),
        false => affected.join("; "),
    }
}

fn processor(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name") || line.starts_with("Model"))?;
    Some(line.split_once(':')?.1.trim())
}

/// `Tue, 15 Nov 1994 08:12:31 GMT`: RFC 9110, section 5.6.7.
pub(crate) fn http_date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let text = humantime::format_rfc3339_seconds(at).to_string();
    let number = |from: usize, to: usize| text.get(from..to).unwrap_or("00").to_owned();
    let month: usize = number(5, 7).parse().unwrap_or(1);
    let weekday = usize::try_from(seconds / 86_400 % 7).unwrap_or(0);
    format!(
        "{}, {} {} {} {} GMT",
        DAYS.get(weekday).unwrap_or(&"Thu"),
        number(8, 10),
        MONTHS.get(month.saturating_sub(1)).unwrap_or(&"Jan"),
        number(0, 4),
        number(11, 19),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_in_the_format_of_http() {
        assert_eq!(http_date(784_887_151), "Tue, 15 Nov 1994 08:12:31 GMT");
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn mitigations_are_those_of_vulnerabilities_that_affect_the_processor() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(mitigations(folder.path()), "none needed");
        for (name, state) in [
            ("spectre_v2", "Mitigation: Retpolines; STIBP: disabled"),
            ("meltdown", "Not affected"),
            ("retbleed", "Vulnerable"),
        ] {
            fs::write(folder.path().join(name), format!("{state}\n")).unwrap();
        }
        assert_eq!(
            mitigations(folder.path()),
            "retbleed: Vulnerable; spectre_v2: Retpolines"
        );
        assert_eq!(mitigations(Path::new("/nowhere")), "unknown");
    }

    #[test]
    fn the_report_names_machine_and_network() {
        let machine = Machine::this(2, &Network::host("a test"));
        let lines = machine.lines();
        assert_eq!(lines.len(), 4);
        assert!(lines[3].starts_with(
            "Network: the network namespace of the host (a test); connection tracking is o"
        ));
    }

    #[test]
    fn the_processor_has_a_name() {
        assert_eq!(
            processor("processor : 0\nmodel name\t: Some CPU\n"),
            Some("Some CPU")
        );
        assert_eq!(processor("nothing"), None);
    }
}
