//! The assignment of cores: the load generator and the origin share one, the proxy has the others.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::{Context, Error, Result};

/// The assignment of this machine's cores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cores {
    /// The core of the load generator, the origin and the benchmark itself.
    pub(crate) load: usize,
    /// The cores of the proxy, in the order in which workers use them.
    pub(crate) proxy: Vec<usize>,
}

impl Cores {
    /// Assigns the cores that this process may use.
    pub(crate) fn of_this_machine() -> Result<Self> {
        let set = sched_getaffinity(None).context(|| "sched_getaffinity".into())?;
        let usable: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|&core| set.is_set(core))
            .collect();
        Self::divide(&usable)
    }

    fn divide(usable: &[usize]) -> Result<Self> {
        match usable {
            [] | [_] => Err(Error::Usage(
                "two cores are needed: one for the load, one for the proxy".into(),
            )),
            [load, proxy @ ..] => Ok(Self {
                load: *load,
                proxy: proxy.to_vec(),
            }),
        }
    }

    /// The number of cores.
    pub(crate) const fn count(&self) -> usize {
        1 + self.proxy.len()
    }

    /// The cores of a proxy with this many workers. With too few cores, the proxy gets the load's
    /// core too.
    pub(crate) fn of_workers(&self, workers: usize) -> Vec<usize> {
        let mut cores: Vec<usize> = self.proxy.iter().copied().take(workers).collect();
        if cores.len() < workers {
            cores.push(self.load);
        }
        cores
    }
}

/// Binds the calling thread, and what it starts, to these cores.
pub(crate) fn pin(cores: &[usize]) -> Result<()> {
    sched_setaffinity(None, &set_of(cores)).context(|| format!("sched_setaffinity to {cores:?}"))
}

/// Binds all threads of another process to these cores. A thread that has ended is left out.
pub(crate) fn pin_process(pid: u32, cores: &[usize]) {
    let set = set_of(cores);
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    for thread in threads.into_iter().flatten().flatten() {
        let id = thread.file_name().to_str().and_then(|id| id.parse().ok());
        // Without an id it would be the calling thread.
        if let Some(id) = id.and_then(Pid::from_raw) {
            let _ = sched_setaffinity(Some(id), &set);
        }
    }
}

fn set_of(cores: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_has_the_first_core_and_the_proxy_the_others() {
        let cores = Cores::divide(&[0, 1, 2]).unwrap();
        assert_eq!(cores.load, 0);
        assert_eq!(cores.of_workers(1), [1]);
        assert_eq!(cores.of_workers(2), [1, 2]);
    }

    #[test]
    fn a_second_worker_shares_the_loads_core_on_two_cores() {
        let cores = Cores::divide(&[0, 1]).unwrap();
        assert_eq!(cores.of_workers(2), [1, 0]);
    }

    #[test]
    fn one_core_is_too_few() {
        assert!(Cores::divide(&[3]).is_err());
    }
}
