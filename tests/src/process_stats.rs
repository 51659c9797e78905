//! What a process costs, by `/proc`.

use std::time::Duration;

/// What a process has cost so far.
#[derive(Debug, Clone, Copy)]
pub struct ProcessStats {
    /// The most memory that it has had at any time, in bytes.
    pub peak_memory: u64,
    /// The memory of its own that it has now, in bytes: without the pages of files, such as the
    /// program's own. Those are shared, and how many of them the kernel maps, and when it takes them
    /// back, depends on the page cache: 11 MiB or 28 of one program on one machine.
    pub private_memory: u64,
    /// The processor time of all its threads.
    pub cpu: Duration,
}

impl ProcessStats {
    /// Of a process that runs.
    pub fn of(pid: u32) -> Self {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
        };
        let status = read("status");
        let memory = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            kib.unwrap_or_else(|| panic!("{name} is in the status of every process")) * 1024
        };
        // The program's name, in parentheses, may have spaces in it.
        let stat = read("stat");
        let fields = stat.rsplit(") ").next().unwrap_or_default();
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        let each = rustix::param::clock_ticks_per_second();
        Self {
            peak_memory: memory("VmHWM:"),
            private_memory: memory("RssAnon:"),
            cpu: Duration::from_millis(ticks * 1000 / each),
        }
    }

    /// Fails if memory has grown by more than so many MiB since `before`.
    #[track_caller]
    pub fn expect_growth_below(&self, mib: u64, before: Self) {
        let grown = self.peak_memory - before.peak_memory;
        let grown_mib = grown >> 20;
        assert!(
            grown_mib < mib,
            "memory grew by {grown_mib} MiB, the limit is {mib}"
        );
    }
}
