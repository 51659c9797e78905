//! What is counted, by each worker for itself: claims, and what came of them.

pub(crate) mod age;
pub(crate) mod claim;
pub(crate) mod kept;
pub(crate) mod remote;
pub(crate) mod stats;
pub(crate) mod sync;
pub(crate) mod values;
