//! What closed connections leave free goes back to the system. The C library keeps all that lies
//! below the last piece in use: after 8,000 connections, three times what is needed.

use std::cell::Cell;

/// Fewer connections leave nothing that is worth the time.
const MANY: usize = 1_000;

/// Knows when there is memory to give back: when most of many connections have gone.
#[derive(Default)]
pub(crate) struct MemoryTrimmer {
    most: Cell<usize>,
}

impl MemoryTrimmer {
    /// Told once a second how many connections are open.
    pub(crate) fn look(&self, open: usize) {
        if self.has_ebbed(open) {
            give_back();
        }
    }

    fn has_ebbed(&self, open: usize) -> bool {
        let most = self.most.get().max(open);
        let ebbed = most >= MANY && open <= most / 2;
        self.most.set(if ebbed { open } else { most });
        ebbed
    }
}

#[cfg(target_env = "gnu")]
#[expect(
    unsafe_code,
    reason = "the C library offers it, and no maintained crate wraps it safely"
)]
fn give_back() {
    // SAFETY: it takes a number, touches nothing but the allocator's own free memory under the
    // allocator's own locks, and may be called by any thread at any time (malloc_trim(3)).
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ebbs_once_when_half_of_many_have_gone() {
        let trimmer = MemoryTrimmer::default();
        let looks = [
            (900, false),
            (100, false),
            (8_000, false),
            (4_001, false),
            (4_000, true),
            (3_999, false),
            (2_000, true),
            (1_001, false),
            (1_000, true),
            (0, true),
            (0, false),
        ];
        for (open, ebbed) in looks {
            assert_eq!(trimmer.has_ebbed(open), ebbed, "at {open}");
        }
    }
}
