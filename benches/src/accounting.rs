//! CPU time and memory of a tree of processes, and the load of each core, read from `/proc`.

use std::collections::HashSet;
use std::fs;

use rustix::param::clock_ticks_per_second;

use crate::error::{Context, Result};

/// CPU time of a tree of processes since each of them started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CpuTime {
    /// Time on a core, as the scheduler counts it. Exact, but threads that have ended are missing.
    scheduled_ns: u64,
    /// User mode. Counted in ticks, so coarse over a second.
    user_ticks: u64,
    /// Kernel mode. Counted in ticks.
    system_ticks: u64,
    /// Minor page faults.
    page_faults: u64,
    /// The number of threads that were counted.
    threads: usize,
}

impl CpuTime {
    /// Reads the CPU time of a process and its descendants.
    pub(crate) fn of_tree(root: u32) -> Result<Self> {
        let mut total = Self::default();
        for pid in tree(root)? {
            // The process has ended meanwhile.
            let Some(stat) = read_stat(pid) else { continue };
            total.user_ticks += stat.user_ticks;
            total.system_ticks += stat.system_ticks;
            total.page_faults += stat.page_faults;
            for thread in numbers_in(&format!("/proc/{pid}/task")).unwrap_or_default() {
                let path = format!("/proc/{pid}/task/{thread}/schedstat");
                let text = fs::read_to_string(path).unwrap_or_default();
                total.scheduled_ns += parse_schedstat(&text).unwrap_or(0);
                total.threads += 1;
            }
        }
        Ok(total)
    }

    /// CPU seconds since an earlier reading.
    pub(crate) fn seconds_since(&self, earlier: &Self) -> f64 {
        let ticks = (self.user_ticks + self.system_ticks)
            .saturating_sub(earlier.user_ticks + earlier.system_ticks);
        let by_tick = ticks as f64 / clock_ticks_per_second() as f64;
        // If a thread has ended in between, only the ticks contain its time.
        if self.scheduled_ns == 0 || self.threads < earlier.threads {
            return by_tick;
        }
        self.scheduled_ns.saturating_sub(earlier.scheduled_ns) as f64 / 1e9
    }

    /// Minor page faults since an earlier reading.
    pub(crate) const fn page_faults_since(&self, earlier: &Self) -> u64 {
        self.page_faults.saturating_sub(earlier.page_faults)
    }

    /// The share of user mode since an earlier reading, from 0 to 1.
    pub(crate) fn user_share_since(&self, earlier: &Self) -> f64 {
        let user = self.user_ticks.saturating_sub(earlier.user_ticks) as f64;
        let system = self.system_ticks.saturating_sub(earlier.system_ticks) as f64;
        if user + system == 0.0 {
            return 0.0;
        }
        user / (user + system)
    }
}

/// PSS of a tree of processes in KiB: its own pages, and its share of pages that it shares.
pub(crate) fn pss_kib(root: u32) -> Result<u64> {
    let mut total = 0;
    for pid in tree(root)? {
        let path = format!("/proc/{pid}/smaps_rollup");
        // A process that has ended has no file. One of another user is an error.
        match fs::read_to_string(&path) {
            Ok(text) => total += parse_pss(&text).unwrap_or(0),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(error).context(|| format!("{path} (try as root)"));
            }
            Err(_) => {}
        }
    }
    Ok(total)
}

/// A process and all its descendants.
pub(crate) fn tree(root: u32) -> Result<Vec<u32>> {
    let parents: Vec<(u32, u32)> = numbers_in("/proc")
        .context(|| "/proc".into())?
        .into_iter()
        .filter_map(|pid| read_stat(pid).map(|stat| (pid, stat.parent)))
        .collect();
    Ok(descendants(root, &parents))
}

fn descendants(root: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![root];
    let mut known = HashSet::from([root]);
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        for &(pid, its_parent) in parents {
            if its_parent == parent && known.insert(pid) {
                found.push(pid);
            }
        }
        next += 1;
    }
    found
}

/// The busy and idle time of a core, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CoreTime {
    busy: u64,
    idle: u64,
}

impl CoreTime {
    /// Reads the times of every core, by its number.
    pub(crate) fn of_all() -> Result<Vec<Self>> {
        let text = fs::read_to_string("/proc/stat").context(|| "/proc/stat".into())?;
        Ok(parse_core_times(&text))
    }

    /// The share of busy time since an earlier reading, from 0 to 1.
    pub(crate) fn busy_since(&self, earlier: &Self) -> f64 {
        let busy = self.busy.saturating_sub(earlier.busy) as f64;
        let idle = self.idle.saturating_sub(earlier.idle) as f64;
        if busy + idle == 0.0 {
            return 0.0;
        }
        busy / (busy + idle)
    }
}

/// How many cores were busy with other programs, or stolen by other virtual machines, on average
/// over these seconds.
pub(crate) fn busy_elsewhere(
    cores: (&[CoreTime], &[CoreTime]),
    ours: (&CpuTime, &CpuTime),
    seconds: f64,
) -> f64 {
    let (before, after) = cores;
    let ticks: u64 = before
        .iter()
        .zip(after)
        .map(|(before, after)| after.busy.saturating_sub(before.busy))
        .sum();
    let busy = ticks as f64 / clock_ticks_per_second() as f64;
    let (before, after) = ours;
    ((busy - after.seconds_since(before)) / seconds).max(0.0)
}

struct Stat {
    parent: u32,
    page_faults: u64,
    user_ticks: u64,
    system_ticks: u64,
}

fn read_stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `PID (name) STATE PARENT …`. The name may contain spaces and parentheses.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        page_faults: fields.get(7)?.parse().ok()?,
        user_ticks: fields.get(11)?.parse().ok()?,
        system_ticks: fields.get(12)?.parse().ok()?,
    })
}

/// `NANOSECONDS_ON_CORE NANOSECONDS_WAITING SLICES`.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

fn parse_pss(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Lines `cpuN user nice system idle iowait irq softirq steal …`.
fn parse_core_times(text: &str) -> Vec<CoreTime> {
    let mut cores = Vec::new();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let Some(core) = fields.next().and_then(|name| name.strip_prefix("cpu")) else {
            continue;
        };
        let Ok(core) = core.parse::<usize>() else {
            continue;
        };
        let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
        let idle = ticks.iter().skip(3).take(2).sum();
        // The guest ticks after steal are already part of user.
        let all: u64 = ticks.iter().take(8).sum();
        if cores.len() <= core {
            cores.resize(core + 1, CoreTime::default());
        }
        if let Some(slot) = cores.get_mut(core) {
            *slot = CoreTime {
                busy: all.saturating_sub(idle),
                idle,
            };
        }
    }
    cores
}

fn numbers_in(folder: &str) -> std::io::Result<Vec<u32>> {
    let entries = fs::read_dir(folder)?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_past_a_name_with_brackets() {
        let text = "42 (a ) b) (c) S 7 42 42 0 -1 4194560 100 0 0 0 31 17 2 3 20 0 4 0 100 1 1";
        let stat = parse_stat(text).unwrap();
        assert_eq!(
            (
                stat.parent,
                stat.page_faults,
                stat.user_ticks,
                stat.system_ticks
            ),
            (7, 100, 31, 17)
        );
        assert!(parse_stat("42 (cut").is_none());
    }

    #[test]
    fn schedstat_and_pss_are_read() {
        assert_eq!(parse_schedstat("405338 0 3\n"), Some(405_338));
        let rollup = "1-2 ---p 0 00:00 0 [rollup]\nRss:  1772 kB\nPss:   317 kB\nPss_Dirty: 1 kB\n";
        assert_eq!(parse_pss(rollup), Some(317));
    }

    #[test]
    fn a_core_is_busy_when_it_is_neither_idle_nor_waiting() {
        let before = "cpu  9 9 9 9\ncpu0 10 0 10 100 0 0 0 0 0 0\ncpu1 1 1 1 1 1 1 1 1 0 0\n";
        let after = "cpu  9 9 9 9\ncpu0 30 0 20 160 10 0 0 0 5 0\nintr 5\n";
        let before = parse_core_times(before);
        let after = parse_core_times(after);
        assert_eq!(before.len(), 2);
        assert!((after[0].busy_since(&before[0]) - 0.3).abs() < 1e-9);
    }

    #[test]
    fn a_tree_is_a_process_and_all_below_it() {
        let parents = [(1, 0), (5, 1), (9, 7), (7, 5), (8, 5), (6, 1)];
        assert_eq!(descendants(5, &parents), [5, 7, 8, 9]);
    }

    #[test]
    fn other_programs_used_the_rest_of_the_cores_time() {
        let core = |busy| CoreTime { busy, idle: 0 };
        let ours = |scheduled_ns| CpuTime {
            scheduled_ns,
            threads: 1,
            ..CpuTime::default()
        };
        let tick = clock_ticks_per_second();
        let cores = ([core(0), core(tick)], [core(tick), core(3 * tick)]);
        let elsewhere =
            |ns: u64| busy_elsewhere((&cores.0, &cores.1), (&ours(1), &ours(1 + ns)), 2.0);
        assert!((elsewhere(2_000_000_000) - 0.5).abs() < 1e-6);
        // Ticks are coarse: a difference below 0 counts as 0.
        assert!(elsewhere(3_010_000_000) < 1e-9);
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let before = CpuTime::of_tree(std::process::id()).unwrap();
        let sum = (0..20_000_000_u64).fold(0, |sum, n| std::hint::black_box(sum ^ n));
        std::hint::black_box(sum);
        let after = CpuTime::of_tree(std::process::id()).unwrap();
        assert!(after.seconds_since(&before) > 0.0);
        assert!((0.0..=1.0).contains(&after.user_share_since(&before)));
        assert!(pss_kib(std::process::id()).unwrap() > 0);
    }

    #[test]
    fn the_time_of_ended_threads_comes_from_the_ticks() {
        let of = |scheduled_ns, user_ticks, threads| CpuTime {
            scheduled_ns,
            user_ticks,
            system_ticks: 0,
            page_faults: 0,
            threads,
        };
        let earlier = of(5_000_000_000, 0, 2);
        assert!((of(6_000_000_000, 50, 2).seconds_since(&earlier) - 1.0).abs() < 1e-9);
        let tick = clock_ticks_per_second() as f64;
        assert!((of(1_000_000_000, 50, 1).seconds_since(&earlier) - 50.0 / tick).abs() < 1e-9);
    }
}
