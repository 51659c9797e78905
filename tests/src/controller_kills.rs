//! Rollouts whose controller is killed (SIGKILL) again and again, and started again each time. A
//! client asks all the while.
//!
//! ```text
//!   deploy ─► life ─► kill ─► life ─► kill ─► … ─► the rollout ends ─► all is as it has to be
//!              │ until a moment of the dice, an event in the journal, or the n-th write to it
//! ```
//!
//! However often it was killed, the rollout ends as it would have, no request fails for it, and
//! no container is left, nor an endpoint of the proxy's, that is left over.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rusqlite::{Connection, OpenFlags};

use crate::project::kill_to_the_end;
use crate::{DEADLINE, Load, On, Running, Seen, Settings, TestProject};

/// How long a rollout may take when it is not killed any more. Containers are slow.
const TIME_LIMIT: Duration = Duration::from_secs(90);
/// How often the controller of one rollout is killed at random at most.
const KILLS_EACH: usize = 5;
/// The share of its responses that the bad release fails, and what makes it.
const FAILING: &str = "ERROR_RATE=0.33";

/// What came of all the kills.
#[derive(Debug)]
pub struct Survived {
    /// How often the controller was killed.
    pub kills: usize,
    /// The rollouts that it was killed in, each of which ended as it had to.
    pub rollouts: usize,
    /// What the client saw.
    pub seen: Seen,
}

impl Survived {
    /// Requests that failed, other than by the responses of a release that was made to fail.
    pub fn lost(&self) -> u64 {
        let own = |((version, status), count): (&(String, u64), &u64)| {
            (version.ends_with("-failing") && *status == 500).then_some(*count)
        };
        let own: u64 = self.seen.responses.iter().filter_map(own).sum();
        self.seen.failed() - own
    }
}

/// What a release is like, and so how its rollout ends.
#[derive(Debug, Clone, Copy)]
enum Release {
    Good,
    /// A third of its responses are errors.
    Failing,
    /// It never responds to its health check.
    Sick,
}

/// Kills the controller as soon as anything has happened to a rollout: one that goes all the way,
/// and one that is rolled back.
pub async fn at_every_event(on: On) -> Survived {
    let mut killer = Killer::new(on, "at every event").await;
    for release in [Release::Good, Release::Failing] {
        killer.deploy(release).await;
        let mut known = killer.journal().newest_event();
        while !killer.is_over() {
            let journal = killer.journal();
            killer
                .live_until(|| journal.newest_event() > known || journal.is_over())
                .await;
            killer.kill();
            known = killer.journal().newest_event();
        }
        killer.check(release).await;
    }
    killer.end().await
}

/// Kills the controller at the first write to the journal of a rollout; in the next one at the
/// second; and so on, until a rollout has no more of them.
pub async fn at_every_write(on: On) -> Survived {
    let mut killer = Killer::new(on, "at every write").await;
    for release in [Release::Good, Release::Failing] {
        for nth in 1.. {
            let journal = killer.journal();
            let (mut version, mut writes) = (journal.version(), 0);
            killer.deploy(release).await;
            let is_reached = || {
                let now = journal.version();
                writes += usize::from(now != version);
                version = now;
                writes >= nth || journal.is_over()
            };
            killer.live_until(is_reached).await;
            let was_over = killer.is_over();
            killer.kill();
            killer.check(release).await;
            if was_over {
                break;
            }
        }
    }
    killer.end().await
}

/// Kills the controller so many times, at moments that the dice choose; also while it starts, and
/// while it takes up what the one before has left.
pub async fn at_random_moments(on: On, kills: usize, seed: u64) -> Survived {
    let mut killer = Killer::new(on, &format!("at random, by seed {seed}")).await;
    let mut dice = StdRng::seed_from_u64(seed);
    // About what a controller needs to start and to take the next step.
    let longest = match on {
        On::Processes => 1_000,
        On::Podman => 2_500,
    };
    let releases = [
        Release::Good,
        Release::Failing,
        Release::Good,
        Release::Sick,
    ];
    for release in releases.into_iter().cycle() {
        if killer.kills >= kills {
            break;
        }
        killer.deploy(release).await;
        let last = kills.min(killer.kills + KILLS_EACH);
        while killer.kills < last && !killer.is_over() {
            let moment = Instant::now() + Duration::from_millis(dice.random_range(0..longest));
            killer.live_until(|| Instant::now() >= moment).await;
            killer.kill();
        }
        killer.check(release).await;
    }
    killer.end().await
}

/// A project, its client, and what was done to its controller.
struct Killer {
    project: TestProject,
    load: Load,
    what: String,
    /// What is there while no rollout runs: containers, or processes.
    parts: usize,
    kills: usize,
    rollouts: usize,
    stable: String,
    /// The verb that has started the controller which lives now.
    starter: Option<Running>,
}

impl Killer {
    async fn new(on: On, what: &str) -> Self {
        let settings = Settings {
            step: "200ms",
            bake: "200ms",
            ..Settings::default()
        };
        let project = TestProject::up(on, &settings).await;
        project.until_standby().await;
        Self {
            load: Load::start(project.address, &["--rate", "300", "--connections", "8"]),
            parts: project.parts().len(),
            project,
            what: what.to_owned(),
            kills: 0,
            rollouts: 0,
            stable: "1.0.0".to_owned(),
            starter: None,
        }
    }

    fn journal(&self) -> Journal {
        Journal::of(&self.project)
    }

    fn is_over(&self) -> bool {
        self.journal().is_over()
    }

    /// Begins a rollout by a controller that lives.
    async fn deploy(&mut self, release: Release) {
        self.rollouts += 1;
        let version = self.candidate(release);
        let flags: &[&str] = match release {
            Release::Good => &[],
            Release::Failing => &["--env", FAILING],
            Release::Sick => &["--env", "READY_AFTER=1h", "--start-timeout", "1s"],
        };
        self.project
            .must(&self.project.deploy(&version, flags))
            .await;
    }

    fn candidate(&self, release: Release) -> String {
        let word = format!("{release:?}").to_lowercase();
        format!("2.0.{}-{word}", self.rollouts)
    }

    /// Lets a controller live until this holds; starts one where none does.
    async fn live_until(&mut self, mut holds: impl FnMut() -> bool) {
        if !self.lives() {
            self.start().await;
        }
        let start = Instant::now();
        while !holds() {
            assert!(
                start.elapsed() < TIME_LIMIT,
                "{}: {}",
                self.what,
                self.story()
            );
            // Often enough to come between two writes.
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }

    /// Every request starts a controller; its response does not matter here.
    async fn start(&mut self) {
        let before = self.project.controller();
        self.starter = Some(self.project.start(&["status"]));
        let begun = async {
            while self
                .project
                .try_controller()
                .is_none_or(|pid| pid == before)
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if tokio::time::timeout(DEADLINE, begun).await.is_err() {
            let starter = self.starter.take().expect("it was started");
            let said = starter.finished_within(Duration::ZERO).await;
            panic!("no controller was started by one that said: {said:?}");
        }
    }

    fn lives(&self) -> bool {
        let alive = |pid: i32| std::path::Path::new(&format!("/proc/{pid}/fd/1")).exists();
        self.project.try_controller().is_some_and(alive)
    }

    fn kill(&mut self) {
        kill_to_the_end(self.project.controller());
        self.starter = None;
        self.kills += 1;
    }

    /// Lets the rollout come to its end, and looks whether all is as it has to be.
    async fn check(&mut self, release: Release) {
        let version = self.candidate(release);
        let journal = self.journal();
        self.live_until(|| journal.is_over()).await;
        let phase = journal.phase();
        let wanted = match release {
            Release::Good => "done",
            Release::Failing | Release::Sick => "rolled-back",
        };
        assert_eq!(
            phase,
            wanted,
            "{version}, killed {}: {}",
            self.what,
            self.story()
        );
        if phase == "done" {
            self.stable = version.clone();
        }
        self.project.until_whole(&[(&self.stable, 2)]).await;
        let start = Instant::now();
        while self.project.parts().len() != self.parts {
            let parts = self.project.parts();
            assert!(
                start.elapsed() < TIME_LIMIT,
                "{version}, killed {}: {} parts are wanted, and there are {parts:#?}",
                self.what,
                self.parts
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn story(&self) -> String {
        self.journal().story()
    }

    async fn end(self) -> Survived {
        Survived {
            kills: self.kills,
            rollouts: self.rollouts,
            seen: self.load.stop().await,
        }
    }
}

/// The controller's journal, read by another process.
struct Journal(Connection);

impl Journal {
    fn of(project: &TestProject) -> Self {
        let file = project.state().join("state.db");
        let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let connection = connection.expect("a journal");
        let patient = connection.busy_timeout(Duration::from_secs(10));
        patient.expect("a connection");
        Self(connection)
    }

    /// Another number after each write to it.
    fn version(&self) -> i64 {
        let version = self
            .0
            .pragma_query_value(None, "data_version", |row| row.get(0));
        version.expect("it can be read")
    }

    fn newest_event(&self) -> i64 {
        // That a controller has begun is no reason to kill it.
        self.one("SELECT max(id) FROM events WHERE kind <> 'controller'")
    }

    fn is_over(&self) -> bool {
        self.one::<i64>("SELECT count(*) FROM rollouts WHERE ended IS NULL") == 0
    }

    /// Of the newest rollout.
    fn phase(&self) -> String {
        self.one("SELECT phase FROM rollouts ORDER BY id DESC LIMIT 1")
    }

    /// What has happened in the newest rollout, a line each.
    fn story(&self) -> String {
        let lines = "SELECT group_concat(kind || ': ' || text, char(10)) FROM events
                     WHERE rollout = (SELECT max(id) FROM rollouts)";
        self.one(lines)
    }

    fn one<T: rusqlite::types::FromSql>(&self, query: &str) -> T {
        let found = self.0.query_row(query, [], |row| row.get(0));
        found.unwrap_or_else(|error| panic!("{query}: {error}"))
    }
}
