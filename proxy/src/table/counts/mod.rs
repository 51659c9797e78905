//! What is counted, by each worker for itself: claims, and what came of them.

pub(crate) mod age;
pub(crate) mod claim;
pub(crate) mod elsewhere;
pub(crate) mod figures;
pub(crate) mod stats;
pub(crate) mod sync;
