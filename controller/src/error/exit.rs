//! The exit codes of the program.

/// The exit code that tells a script how a verb ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(u8);

impl Exit {
    /// The verb failed, or was refused.
    pub const FAILED: Self = Self(1);
    /// The candidate was rolled back.
    pub const ROLLED_BACK: Self = Self(2);
    /// The rollout is paused, and goes on by a verb.
    pub const PAUSED: Self = Self(3);
    /// The service is not at the generation that was named.
    pub const STALE: Self = Self(4);
    /// Wrong flags, names or manifest.
    pub const USAGE: Self = Self(64);
    /// Something that is needed is not available.
    pub const UNAVAILABLE: Self = Self(69);

    /// The number that the process ends with.
    pub const fn code(self) -> u8 {
        self.0
    }
}

/// The code that another process, the controller, has chosen.
impl From<u8> for Exit {
    fn from(code: u8) -> Self {
        Self(code)
    }
}
