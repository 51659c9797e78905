//! What the journal keeps over a restart, and who can read it.

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::journal::Phase;
use crate::manifest::{ContainerTemplate, RuntimeChoice};
use crate::plan::RolloutSettings;

impl Journal {
    /// The disk is full: nothing more can be written, and all can be read.
    pub(crate) fn fill_disk(&self) {
        let connection = self.lock();
        connection
            .execute_batch("PRAGMA max_page_count = 1")
            .expect("as large as it is");
        // What is left of room in its pages goes, too.
        for size in [1000, 100, 10, 0] {
            let filler = "x".repeat(size);
            let fill = "INSERT INTO events (at, kind, text) VALUES (0, 'filler', ?)";
            while connection.execute(fill, [&filler]).is_ok() {}
        }
    }

    /// What is written down was written by a clock that was so much ahead of this one.
    pub(crate) fn jump(&self, millis: i64) {
        let update = "UPDATE rollouts SET created = created + ?1, phase_since = phase_since + ?1";
        self.lock().execute(update, [millis]).expect("written");
    }

    /// There is room again.
    pub(crate) fn make_room(&self) {
        let batch = "PRAGMA max_page_count = 1000000; DELETE FROM events WHERE kind = 'filler'";
        self.lock().execute_batch(batch).expect("there is room");
    }
}

fn open(dir: &TempDir) -> Journal {
    Journal::open(&dir.path().join(FILE)).expect("a journal")
}

pub(super) fn version(label: &str) -> NewVersion {
    NewVersion {
        service: "web".into(),
        version: label.into(),
        image: format!("web:{label}"),
        resolved: format!("id-of-{label}"),
        pull_name: None,
        template: ContainerTemplate {
            command: vec!["--fast".into()],
            env: [("A".to_owned(), "1".to_owned())].into(),
            port: 8080,
            ..ContainerTemplate::default()
        },
        by_hand: Some([("A".to_owned(), "1".to_owned())].into()),
    }
}

pub(super) fn begun(journal: &Journal) -> RolloutRecord {
    journal
        .add_service(&version("1.0.0"), 4, 1)
        .expect("recorded");
    let stable = journal.service("web").expect("read").expect("there").stable;
    let settings = RolloutSettings::default();
    let steps = settings.strategy.steps(4);
    let new = NewRollout {
        from: stable.id,
        to: version("2.0.0"),
        settings,
        steps,
        who: Some("ann".into()),
        requested: None,
    };
    journal.begin_rollout(&new, 2).expect("recorded")
}

/// Of the journal and the files that SQLite has beside it.
fn files(dir: &TempDir) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|suffix| dir.path().join(format!("{FILE}{suffix}")))
}

#[track_caller]
fn check_private(dir: &TempDir) {
    for file in files(dir) {
        let mode = fs::metadata(&file).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

#[test]
fn the_journal_is_its_owners_alone_whatever_the_folder_is() {
    let dir = TempDir::new().expect("a folder");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("opened to all");
    let journal = open(&dir);
    begun(&journal);
    check_private(&dir);
}

#[test]
fn a_journal_that_others_could_read_is_taken_from_them() {
    let dir = TempDir::new().expect("a folder");
    // As one leaves it that is killed.
    let killed = open(&dir);
    begun(&killed);
    for file in files(&dir) {
        fs::set_permissions(file, Permissions::from_mode(0o644)).expect("opened to all");
    }
    let journal = open(&dir);
    check_private(&dir);
    assert_eq!(journal.unfinished().expect("read").len(), 1);
}

#[test]
fn what_is_wanted_survives_a_restart() {
    let dir = TempDir::new().expect("a folder");
    let applied = Applied {
        kept: Vec::new(),
        text: "project = \"x\"".into(),
        path: "/etc/crossfade.toml".into(),
        runtime: RuntimeChoice::Process,
        boot: "a".into(),
        project: "shop".into(),
    };
    {
        let journal = open(&dir);
        assert_eq!(journal.applied().expect("read"), None);
        journal.apply(&applied, 1).expect("recorded");
        journal
            .add_service(&version("1.0.0"), 4, 1)
            .expect("recorded");
        journal.set_replicas("web", 5).expect("recorded");
    }
    let journal = open(&dir);
    assert_eq!(journal.applied().expect("read"), Some(applied));
    let web = journal.service("web").expect("read").expect("there");
    assert_eq!((web.replicas, web.stable.image.as_str()), (5, "web:1.0.0"));
    assert_eq!(web.stable.template.env["A"], "1");
    assert_eq!(web.split, Split::from([("1.0.0".into(), 100)]));
}

#[test]
fn a_rollout_is_read_back_as_it_was_written() {
    let dir = TempDir::new().expect("a folder");
    let journal = open(&dir);
    let begun = begun(&journal);
    let shifting = Transition {
        stats: Some(serde_json::json!({"tries": 50})),
        ..Transition::new(Phase::Shifting, 1, "50%")
    };
    let shifting = journal.enter(&begun, &shifting, 3).expect("recorded");
    let by_hand = Split::from([("1.0.0".into(), 1), ("2.0.0".into(), 1)]);
    let paused = Transition {
        paused: Some("split set by hand".into()),
        hand_split: Some(by_hand.clone()),
        kind: "paused",
        ..Transition::new(Phase::Shifting, 1, "half")
    };
    journal.enter(&shifting, &paused, 4).expect("recorded");
    drop(journal);

    let journal = open(&dir);
    let [read] = <[_; 1]>::try_from(journal.unfinished().expect("read")).expect("one");
    assert_eq!(
        (read.phase, read.step, read.phase_since),
        (Phase::Shifting, 1, 4)
    );
    assert_eq!(read.hand_split, Some(by_hand));
    assert_eq!(
        (read.settings, read.steps, read.to),
        (begun.settings, begun.steps, begun.to)
    );
    let filter = EventFilter {
        rollout: Some(read.id),
        ..EventFilter::default()
    };
    let events = journal.events(filter).expect("read");
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["began", "shifting", "paused"]);
    assert_eq!(events[1].stats, Some(serde_json::json!({"tries": 50})));
}

#[test]
fn a_service_has_one_rollout_at_a_time() {
    let dir = TempDir::new().expect("a folder");
    let journal = open(&dir);
    let first = begun(&journal);
    let new = NewRollout {
        from: first.from.id,
        to: version("3.0.0"),
        settings: first.settings.clone(),
        steps: first.steps.clone(),
        who: None,
        requested: None,
    };
    assert!(journal.begin_rollout(&new, 3).is_err());
    assert_eq!(
        journal.labels("web").expect("read"),
        ["1.0.0", "2.0.0"],
        "nothing half-written"
    );
    let over = Transition {
        why: Some("it was bad".into()),
        ..Transition::new(Phase::RolledBack, 0, "gone")
    };
    journal.enter(&first, &over, 4).expect("recorded");
    journal.begin_rollout(&new, 5).expect("the first is over");
    let rollouts = journal.rollouts(Some("web"), 10).expect("read");
    assert_eq!(rollouts.len(), 2);
    assert_eq!(rollouts[1].why.as_deref(), Some("it was bad"));
    assert_eq!(rollouts[1].ended, Some(4));
}

#[test]
fn nothing_is_wanted_after_clear_and_the_history_stays() {
    let dir = TempDir::new().expect("a folder");
    let journal = open(&dir);
    begun(&journal);
    journal.clear("crossfade down", 9).expect("recorded");
    assert_eq!(journal.services().expect("read"), []);
    assert_eq!(journal.unfinished().expect("read"), []);
    let rollouts = journal.rollouts(None, 10).expect("read");
    assert_eq!(rollouts[0].why.as_deref(), Some("crossfade down"));
}

#[test]
fn a_container_is_retired_once_and_keeps_its_address() {
    let dir = TempDir::new().expect("a folder");
    let journal = open(&dir);
    let of = |address: Option<&str>| Retired {
        name: "web-1".into(),
        service: "web".into(),
        version: "1.0.0".into(),
        address: address.map(str::to_owned),
    };
    journal
        .retire(&[of(Some("10.0.0.1:80"))])
        .expect("recorded");
    journal.retire(&[of(None)]).expect("recorded");
    assert_eq!(journal.retired().expect("read"), [of(Some("10.0.0.1:80"))]);
    journal.forget_retired("web-1").expect("recorded");
    assert_eq!(journal.retired().expect("read"), []);
}

#[test]
fn a_journal_of_a_newer_release_is_refused() {
    let dir = TempDir::new().expect("a folder");
    open(&dir)
        .lock()
        .pragma_update(None, "user_version", 999)
        .expect("written");
    let error = Journal::open(&dir.path().join(FILE)).expect_err("too new");
    assert!(error.to_string().contains("newer release"), "{error}");
}

#[test]
fn a_task_that_waits_for_news_is_notified() {
    let dir = TempDir::new().expect("a folder");
    let journal = open(&dir);
    let mut news = journal.news();
    news.mark_unchanged();
    begun(&journal);
    assert!(news.has_changed().expect("open"));
}

#[test]
fn the_caller_is_in_the_history_and_raises_the_generation() {
    let dir = TempDir::new().expect("a folder");
    let journal = open(&dir);
    begun(&journal);
    let began = journal.events_after(Some("web"), 0, 10).expect("read");
    assert_eq!(began[0].who.as_deref(), Some("ann"));
    let note = |kind| NewEvent {
        rollout: None,
        service: Some("web"),
        who: None,
        kind,
        text: "",
        stats: None,
    };
    let generation = || journal.generation("web").expect("read");
    let before = generation();
    journal.note(&note("healed"), 5).expect("written");
    assert_eq!(generation(), before, "nothing was changed");
    journal.note(&note("scale"), 6).expect("written");
    assert!(generation() > before);
    assert_eq!(journal.generation("api").expect("read"), 0);
}

#[test]
fn a_journal_of_an_older_release_is_copied_before_it_is_brought_to_this_one() {
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join(FILE);
    let older = Connection::open(&path).expect("opened");
    schema::make_older(&older, 9);
    older.close().expect("closed");
    open(&dir);
    let copy = Connection::open(dir.path().join(format!("{FILE}.good"))).expect("there");
    let found: usize = copy
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .expect("read");
    assert_eq!(found, 9);
}

#[test]
fn a_journal_is_not_opened_through_a_link() {
    let dir = TempDir::new().expect("a folder");
    let real = dir.path().join("real");
    fs::create_dir(&real).expect("made");
    drop(Journal::open(&real.join(FILE)).expect("a journal"));
    // The folder may be reached by one.
    let folder = dir.path().join("folder");
    std::os::unix::fs::symlink(&real, &folder).expect("made");
    drop(Journal::open(&folder.join(FILE)).expect("the same journal"));
    let link = dir.path().join(FILE);
    std::os::unix::fs::symlink(real.join(FILE), &link).expect("made");
    Journal::open(&link).expect_err("a link");
}
