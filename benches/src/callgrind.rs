//! Instructions per request, which do not depend on the load of the machine. The proxy runs under
//! callgrind twice, with different numbers of requests; the difference belongs to the requests.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::contender::Contender;
use crate::error::{Context, Error, Result};
use crate::load::Load;
use crate::peers::{Installed, Peer};
use crate::plan::{End, Outcome, Plan};
use crate::table::Table;
use crate::test_env::TestEnv;
use crate::work::Work;

/// The requests of the shorter run, and the additional requests of the longer one.
const FEW: u64 = 1_000;
const MORE: u64 = 10_000;
/// The workloads that can be counted: their work is the same for each request.
const COUNTED: [Work; 7] = [
    Work::Small,
    Work::Medium,
    Work::Large,
    Work::Post,
    Work::Connect,
    Work::Tls,
    Work::H2,
];
/// The number of connections: few, so that both runs open the same ones.
const CONNECTIONS: usize = 8;

/// Counts for each workload, and prints a table.
pub(crate) fn run(env: &TestEnv, works: &[Work], proxies: &[Installed]) -> Result<()> {
    let mut table = Table::new(&["user instructions", "a request"]);
    for &work in works.iter().filter(|work| COUNTED.contains(work)) {
        for contender in work.contenders(proxies) {
            let instructions = instructions(env, work, &contender)?;
            table.row(vec![
                format!("{} {}", contender.label, work.name()),
                crate::report::thousands(instructions as f64),
            ]);
        }
    }
    println!("{}", table.plain());
    Ok(())
}

/// The instructions of one request.
pub(crate) fn instructions(env: &TestEnv, work: Work, contender: &Contender) -> Result<u64> {
    // nginx's worker, which runs as another user if root starts it, writes a file too.
    fs::set_permissions(env.folder(), fs::Permissions::from_mode(0o777))
        .context(|| env.folder().display().to_string())?;
    let few = count(env, work, contender, FEW)?;
    let many = count(env, work, contender, FEW + MORE)?;
    Ok(many.saturating_sub(few) / MORE)
}

/// Counts all instructions of a run with this many requests.
fn count(env: &TestEnv, work: Work, contender: &Contender, requests: u64) -> Result<u64> {
    env.check_interrupted()?;
    let setup = env.setup(0, contender)?;
    let output = env.folder().join("callgrind.out");
    // One file for each process: nginx's worker is a child.
    for old in outputs(env.folder())? {
        fs::remove_file(&old).context(|| old.display().to_string())?;
    }
    let missing = || Error::Usage(format!("{} cannot be counted", contender.label));
    let mut command: Vec<OsString> = [
        "valgrind".to_owned(),
        "--tool=callgrind".into(),
        "--trace-children=yes".into(),
        format!("--callgrind-out-file={}.%p", output.display()),
    ]
    .map(OsString::from)
    .into();
    command.extend(contender.installed.command(&setup)?.ok_or_else(missing)?);
    let started = env.start_command(&setup, contender, &command)?;

    let plan = Plan {
        connections: CONNECTIONS,
        ..work.plan(contender, started.target)?
    };
    let mut failed = 0;
    Load::new(plan, &env.interrupted)?.run(End::Requests(requests), &mut |request| {
        if !matches!(request.outcome, Outcome::Response(response) if response.status == 200) {
            failed += 1;
        }
    })?;
    // callgrind writes its counts when the program ends.
    drop(started);
    if failed > 0 {
        let label = &contender.label;
        return Err(Error::Usage(format!("{label}: {failed} requests failed")));
    }
    let mut all = 0;
    for file in outputs(env.folder())? {
        let text = fs::read_to_string(&file).context(|| file.display().to_string())?;
        all += total(&text).unwrap_or(0);
    }
    if all == 0 {
        return Err(Error::Program {
            name: contender.label.clone(),
            why: "callgrind wrote no counts".into(),
        });
    }
    Ok(all)
}

fn outputs(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(folder).context(|| folder.display().to_string())?;
    let of_callgrind = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("callgrind.out");
    Ok(entries
        .flatten()
        .filter(|entry| of_callgrind(&entry.file_name()))
        .map(|entry| entry.path())
        .collect())
}

/// The line `totals: N`, or `summary: N` if the run was cut short.
fn total(text: &str) -> Option<u64> {
    ["totals: ", "summary: "].iter().find_map(|name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    })
}

/// Whether a proxy can be counted.
pub(crate) const fn can_count(peer: Peer) -> bool {
    matches!(
        peer,
        Peer::Crossfade | Peer::Nginx | Peer::Haproxy | Peer::HaproxyTcp
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found_in_callgrinds_file() {
        assert_eq!(
            total("events: Ir\nsummary: 5\n\ntotals: 12345\n"),
            Some(12_345)
        );
        assert_eq!(total("events: Ir\nsummary: 5\n"), Some(5));
        assert_eq!(total("nothing"), None);
    }
}
