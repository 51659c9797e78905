//! What every row has in common: its limits, the programs it needs, the witness of its run.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::origin::Origin;
use super::witness::Witness;

/// Where rows are run.
#[derive(Debug)]
pub struct TestEnv {
    /// The program that is an origin in a process of its own: see [`super::run_origin`].
    pub origin_program: PathBuf,
    /// What is asked for, and what is to be reached.
    pub limits: Limits,
    witness: Mutex<Arc<Witness>>,
}

/// What is asked for, and what is to be reached.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests a second that clients send.
    pub rate: f64,
    /// Requests a second that have to get a response.
    pub responses: f64,
    /// Milliseconds from the sending of a change until no request goes the old way.
    pub lag: f64,
    /// Milliseconds from the start of a proxy until its first good response.
    pub first_response: f64,
    /// The same from the death of a proxy that has a standby.
    pub standby_response: f64,
    /// The part of the changes meant for a second that has to be made in it.
    pub changes: f64,
}

impl Limits {
    /// The numbers that are promised, on a machine that has nothing else to do.
    pub const PROMISED: Self = Self {
        rate: 2_400.0,
        responses: 2_000.0,
        lag: 5.0,
        first_response: 100.0,
        standby_response: 150.0,
        changes: 0.95,
    };

    /// For a machine that does other things meanwhile: what it is slow at is no failure, what a
    /// client loses is.
    pub const SHARED: Self = Self {
        rate: 1_000.0,
        responses: 300.0,
        lag: 250.0,
        first_response: 2_000.0,
        standby_response: 1_000.0,
        changes: 0.1,
    };
}

impl TestEnv {
    /// An environment in which nothing has run yet.
    pub fn new(origin_program: PathBuf, limits: Limits) -> Self {
        Self {
            origin_program,
            limits,
            witness: Mutex::default(),
        }
    }

    /// The witness of the row that is being run, to say how far it has come.
    pub fn witness(&self) -> Arc<Witness> {
        self.witness
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A witness for the row that begins.
    pub(super) fn new_witness(&self) -> Arc<Witness> {
        let witness = Arc::new(Witness::default());
        *self.witness.lock().unwrap_or_else(PoisonError::into_inner) = witness.clone();
        witness
    }
}

/// An origin that tells this witness.
pub(super) async fn origin(number: u32, witness: &Arc<Witness>) -> Origin {
    let witness = witness.clone();
    let saw = move |number, sight| witness.saw(number, sight);
    Origin::start(number, 0, saw).await.expect("a free port")
}
