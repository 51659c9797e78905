//! The state file, whole and damaged; and what is left of it when the process is killed.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::Mutex as SyncMutex;

use admin_api::{HoldSpec, ServiceSpec};

use super::writer::Disk;
use super::*;
use crate::control::desired::Desired;
use crate::table::hold::Hold;

/// What the admin API has set, and what of it is not saved.
#[derive(Default)]
struct Wanted {
    generation: u64,
    desired: Desired,
    holds: BTreeMap<String, Arc<Hold>>,
    unsaved: BTreeSet<String>,
    /// Whether everything was taken, at each save.
    taken: Vec<bool>,
}

impl Wanted {
    fn set(&mut self, name: &str, prefix: &str) {
        let json = format!(r#"{{"name":"{name}","path_prefix":"{prefix}"}}"#);
        let spec: ServiceSpec = admin_api::strict::from_json(json.as_bytes()).unwrap();
        self.desired.set(name, Some(spec));
        self.changed(name);
    }

    fn delete(&mut self, name: &str) {
        self.desired.set(name, None);
        self.changed(name);
    }

    fn hold(&mut self, name: &str) {
        let hold = Hold::new(HoldSpec::default());
        self.holds.insert(name.to_owned(), hold);
        self.changed(name);
    }

    fn release(&mut self, name: &str) {
        self.holds.remove(name);
        self.changed(name);
    }

    fn changed(&mut self, name: &str) {
        self.unsaved.insert(name.to_owned());
        self.generation += 1;
    }

    fn saved(&self) -> Saved {
        let saved = self.desired.to_save(self.generation);
        saved.with_holds(&self.holds)
    }

    fn take_changes(&mut self) -> SavedChanges {
        let names = std::mem::take(&mut self.unsaved);
        let services = names.into_iter().map(|name| {
            let mut kept = self.desired.kept(&name);
            kept.hold = self.holds.get(&name).map(|hold| hold.spec().clone());
            (name, kept)
        });
        SavedChanges {
            generation: self.generation,
            services: services.collect(),
            cookie_key: None,
        }
    }
}

impl StateSource for SyncMutex<Wanted> {
    fn all(&self) -> Saved {
        let mut wanted = self.lock().unwrap();
        wanted.unsaved.clear();
        wanted.taken.push(true);
        wanted.saved()
    }

    fn changes(&self) -> Option<SavedChanges> {
        let mut wanted = self.lock().unwrap();
        wanted.taken.push(false);
        Some(wanted.take_changes())
    }
}

/// Some changes, one after the other.
const STEPS: [fn(&mut Wanted); 9] = [
    |wanted| wanted.set("a", "/1"),
    |wanted| wanted.set("b", "/2"),
    |wanted| wanted.hold("b"),
    |wanted| wanted.set("a", "/3"),
    |wanted| wanted.delete("b"),
    |wanted| wanted.release("b"),
    |wanted| wanted.set("c", "/4"),
    |wanted| wanted.hold("a"),
    |wanted| wanted.set("b", "/5"),
];

/// A file with a record for each of the steps behind the first two, what it says after each of
/// them, and where each record begins.
fn file_of_steps() -> (Vec<u8>, Vec<Saved>, Vec<usize>) {
    let mut wanted = Wanted::default();
    STEPS[..2].iter().for_each(|step| step(&mut wanted));
    wanted.take_changes();
    let mut states = vec![wanted.saved()];
    let mut file = text::snapshot(&wanted.saved()).unwrap();
    let mut begins = vec![file.len() + 1];
    text::seal(&mut file).unwrap();
    for step in &STEPS[2..] {
        step(&mut wanted);
        begins.push(file.len());
        file.extend(text::record(&wanted.take_changes()).unwrap());
        states.push(wanted.saved());
    }
    (file, states, begins)
}

#[test]
fn a_file_that_is_cut_anywhere_says_what_its_whole_records_say() {
    let (file, states, begins) = file_of_steps();
    let read = text::read(&file);
    assert_eq!((&read.saved, read.faults), (&states[7], vec![]));
    let snapshot = begins[0] - 1;
    for length in 0..file.len() {
        let Read { saved, faults } = text::read(&file[..length]);
        if length < snapshot {
            assert_eq!(saved, Saved::default(), "{length} bytes");
            let kind = &faults[0].kind;
            assert!(matches!(kind, FaultKind::Snapshot(_)), "{length} bytes");
            continue;
        }
        // The first record says nothing, but for the snapshot.
        let whole = begins.iter().filter(|begin| **begin <= length).count();
        assert_eq!(saved, states[whole.saturating_sub(2)], "{length} bytes");
        let last = begins[..whole].last().copied().unwrap_or(length);
        let torn = (last < length).then_some(Fault {
            offset: last,
            length: length - last,
            kind: FaultKind::Torn,
        });
        assert_eq!(faults, Vec::from_iter(torn), "{length} bytes");
    }
}

#[test]
fn a_byte_that_is_wrong_costs_its_record_alone_and_is_never_believed() {
    let (file, states, begins) = file_of_steps();
    let ends = |number: usize| begins.get(number + 1).copied().unwrap_or(file.len());
    for at in 0..file.len() {
        for wrong in [
            0x01,
            0x20,
            0x80,
            file[at] ^ b'\n',
            file[at] ^ b'+',
            file[at],
        ] {
            if wrong == 0 {
                continue;
            }
            let mut file = file.clone();
            file[at] ^= wrong;
            let Read { saved, faults } = text::read(&file);
            let what = format!("byte {at} is {:#x}: {faults:?}", file[at]);
            assert!(!faults.is_empty(), "{what}");
            // With its mark, the first record would be a part of the snapshot.
            if at <= begins[0] {
                assert!(
                    matches!(faults.last().unwrap().kind, FaultKind::Snapshot(_)),
                    "{what}"
                );
                continue;
            }
            let damaged = begins.partition_point(|begin| *begin <= at) - 1;
            assert_eq!(faults[0].offset, begins[damaged], "{what}");
            // Where two lines have become one, the next is lost with it.
            let lost = if at + 1 == ends(damaged) {
                damaged + 1
            } else {
                damaged
            };
            let want = without(&states, damaged.max(1) - 1..lost.min(begins.len() - 1));
            assert_eq!(saved, want, "{what}");
        }
    }
}

/// What the steps say, but for those with these numbers behind the snapshot.
fn without(states: &[Saved], lost: std::ops::Range<usize>) -> Saved {
    let mut wanted = Wanted::default();
    STEPS[..2].iter().for_each(|step| step(&mut wanted));
    let mut saved = states[0].clone();
    wanted.take_changes();
    for (number, step) in STEPS[2..].iter().enumerate() {
        step(&mut wanted);
        let changes = wanted.take_changes();
        if !lost.contains(&number) {
            saved.take_in(changes);
        }
    }
    saved
}

#[test]
fn a_record_of_an_older_file_is_not_believed() {
    let (mut file, states, _) = file_of_steps();
    let mut older = Wanted::default();
    older.set("c", "/old");
    file.extend(text::record(&older.take_changes()).unwrap());
    let Read { saved, faults } = text::read(&file);
    assert_eq!((&saved, faults.len()), (&states[7], 1));
}

/// A disk in a process that is killed after so many steps: each write is one for each byte.
struct Killed(Cell<usize>);

impl Killed {
    fn step(&self) -> io::Result<()> {
        let left = self.0.get().checked_sub(1);
        self.0.set(left.unwrap_or(0));
        left.map(drop).ok_or_else(|| io::Error::other("killed"))
    }
}

impl Disk for Killed {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.step()?;
        File::create(path)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        use std::io::Write as _;
        let written = self.0.get().min(bytes.len());
        file.write_all(&bytes[..written])?;
        self.0.set(self.0.get() - written);
        if written < bytes.len() {
            return Err(io::Error::other("killed"));
        }
        Ok(())
    }

    fn sync(&self, _: &File) -> io::Result<()> {
        self.step()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        std::fs::rename(from, to)
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        self.step()
    }
}

/// Makes changes until the process is killed, and writes the whole file at some of them. Gives
/// what was confirmed last, and what was being written then; `None`: it was not killed.
fn changes_until_killed(path: &Path, after: usize) -> Option<(Saved, Saved)> {
    let mut writer = Writer::new(path.to_owned(), Killed(Cell::new(after)));
    let mut wanted = Wanted::default();
    let mut confirmed = Saved::default();
    for (number, step) in STEPS.iter().enumerate() {
        step(&mut wanted);
        let changes = wanted.take_changes();
        let written = match number {
            0 | 5 => writer.rewrite(&wanted.saved(), Form::Log),
            8 => writer.rewrite(&wanted.saved(), Form::Plain),
            _ => writer.append(&changes),
        };
        if written.is_err() {
            return Some((confirmed, wanted.saved()));
        }
        confirmed = wanted.saved();
    }
    None
}

#[test]
fn what_was_confirmed_is_there_after_a_kill_at_any_step() {
    let mut after = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let Some((confirmed, last)) = changes_until_killed(&path, after) else {
            break;
        };
        let saved = StateFile::new(path).load().unwrap();
        assert!(
            saved == confirmed || saved == last,
            "killed after {after} steps: {saved:?}, not {confirmed:?}"
        );
        let aside =
            ["unreadable", "damaged"].map(|end| beside(&folder.path().join("state.json"), end));
        assert!(
            !aside.iter().any(|path| path.exists()),
            "after {after} steps"
        );
        after += 1;
    }
    assert!(after > 1_000, "so many steps at which it is killed");
}

/// A state file in a folder of its own, and what is wanted.
fn opened() -> (tempfile::TempDir, StateFile, SyncMutex<Wanted>) {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFile::new(folder.path().join("state.json"));
    state.open();
    (folder, state, SyncMutex::default())
}

async fn save(state: &StateFile, wanted: &SyncMutex<Wanted>) -> Result<(), String> {
    let generation = wanted.lock().unwrap().generation;
    state.save(generation, wanted).await
}

#[tokio::test]
async fn what_was_saved_is_loaded_again_and_only_the_first_save_writes_everything() {
    let (_folder, state, wanted) = opened();
    assert_eq!(state.load().unwrap(), Saved::default());
    for step in STEPS {
        step(&mut wanted.lock().unwrap());
        save(&state, &wanted).await.unwrap();
        assert_eq!(state.load().unwrap(), wanted.lock().unwrap().saved());
    }
    save(&state, &wanted).await.unwrap();
    let mut taken = vec![false; STEPS.len()];
    taken[0] = true;
    assert_eq!(
        wanted.lock().unwrap().taken,
        taken,
        "nothing is saved twice"
    );
}

#[tokio::test]
async fn changes_that_come_while_the_disk_works_share_a_record() {
    let (_folder, state, wanted) = opened();
    wanted.lock().unwrap().set("a", "/");
    save(&state, &wanted).await.unwrap();
    let held = state.writer.clone().lock_owned().await;
    let saves: Vec<_> = (0..100)
        .map(|number| {
            wanted.lock().unwrap().set(&format!("s{number}"), "/s");
            save(&state, &wanted)
        })
        .collect();
    let all = futures_util::future::join_all(saves);
    let ((), results) = tokio::join!(async { drop(held) }, all);
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(wanted.lock().unwrap().taken, [true, false]);
    assert_eq!(state.load().unwrap(), wanted.lock().unwrap().saved());
}

#[tokio::test(start_paused = true)]
async fn many_callers_share_records_and_one_alone_does_not_wait() {
    const CALLERS: u32 = 16;
    const CALLS: u32 = 50;
    let (_folder, state, wanted) = opened();
    let began = Instant::now();
    for number in 0..CALLS {
        wanted.lock().unwrap().set(&format!("alone{number}"), "/s");
        save(&state, &wanted).await.unwrap();
    }
    assert!(began.elapsed().is_zero(), "{:?}", began.elapsed());
    assert_eq!(wanted.lock().unwrap().taken.len(), CALLS as usize);
    wanted.lock().unwrap().taken.clear();
    // 1,000 changes a second, always two at once: here the disk takes no time.
    let (state, wanted) = (&state, &wanted);
    let calls = (0..CALLERS).map(|caller| async move {
        let interval = std::time::Duration::from_millis(CALLERS.into());
        let first = began + interval * (caller / 2) / (CALLERS / 2);
        for number in 0..CALLS {
            tokio::time::sleep_until(first + interval * number).await;
            wanted.lock().unwrap().set(&format!("s{caller}"), "/s");
            let called = Instant::now();
            save(state, wanted).await.unwrap();
            assert!(called.elapsed() <= 2 * interval, "{:?}", called.elapsed());
        }
    });
    futures_util::future::join_all(calls).await;
    let records = wanted.lock().unwrap().taken.len();
    assert!(
        records < (CALLERS * CALLS / 4) as usize,
        "{records} records"
    );
    assert_eq!(state.load().unwrap(), wanted.lock().unwrap().saved());
}

#[tokio::test]
async fn a_file_whose_records_have_become_long_is_written_anew() {
    let (folder, state, wanted) = opened();
    let path = folder.path().join("state.json");
    let long = "/x".repeat(50_000);
    for number in 0..40 {
        wanted.lock().unwrap().set("a", &format!("{long}{number}"));
        save(&state, &wanted).await.unwrap();
        let length = std::fs::metadata(&path).unwrap().len();
        assert!(length < 1_400_000, "{length} bytes after {number} changes");
    }
    let taken = wanted.lock().unwrap().taken.clone();
    let rewritten = taken.iter().filter(|all| **all).count();
    assert!((2..=5).contains(&rewritten), "{taken:?}");
    assert_eq!(state.load().unwrap(), wanted.lock().unwrap().saved());
}

#[tokio::test]
async fn a_file_that_someone_has_changed_or_removed_is_written_anew() {
    let (folder, state, wanted) = opened();
    let path = folder.path().join("state.json");
    let damage: [fn(&Path); 4] = [
        |path| std::fs::write(path, "{").unwrap(),
        |path| std::fs::remove_file(path).unwrap(),
        |path| {
            let copy = std::fs::read(path).unwrap();
            std::fs::remove_file(path).unwrap();
            std::fs::write(path, copy).unwrap();
        },
        |_| {},
    ];
    for (number, damage) in damage.into_iter().enumerate() {
        wanted.lock().unwrap().set("a", &format!("/{number}"));
        save(&state, &wanted).await.unwrap();
        damage(&path);
        wanted.lock().unwrap().set("b", &format!("/{number}"));
        save(&state, &wanted).await.unwrap();
        assert_eq!(
            state.load().unwrap(),
            wanted.lock().unwrap().saved(),
            "{number}"
        );
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_written_says_so_and_has_everything_once_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("not there yet");
    let state = StateFile::new(inside.join("state.json"));
    state.open();
    let wanted = SyncMutex::<Wanted>::default();
    wanted.lock().unwrap().set("a", "/");
    assert!(
        save(&state, &wanted)
            .await
            .unwrap_err()
            .contains("state.json: ")
    );
    std::fs::create_dir(&inside).unwrap();
    wanted.lock().unwrap().set("b", "/b");
    save(&state, &wanted).await.unwrap();
    assert_eq!(state.load().unwrap(), wanted.lock().unwrap().saved());
}

#[tokio::test]
async fn a_file_that_another_process_has_is_not_written_and_one_that_was_settled_has_no_records() {
    let (folder, state, wanted) = opened();
    let path = folder.path().join("state.json");
    let is_plain = || !std::fs::read(&path).unwrap().contains(&b'\n');
    for step in STEPS {
        step(&mut wanted.lock().unwrap());
        save(&state, &wanted).await.unwrap();
    }
    assert!(!is_plain());
    state.close(&wanted).await;
    assert!(is_plain());
    assert_eq!(state.load().unwrap(), wanted.lock().unwrap().saved());

    let before = wanted.lock().unwrap().saved();
    wanted.lock().unwrap().set("a", "/later");
    assert!(save(&state, &wanted).await.is_err());
    assert_eq!(state.load().unwrap(), before);
    state.open();
    save(&state, &wanted).await.unwrap();
    assert_eq!(state.load().unwrap(), wanted.lock().unwrap().saved());
}

#[test]
fn a_snapshot_that_is_damaged_is_put_aside_and_the_changes_after_it_are_used() {
    let (mut file, _, begins) = file_of_steps();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    file[begins[0] / 2] ^= 1;
    std::fs::write(&path, &file).unwrap();
    let saved = StateFile::new(path.clone()).load().unwrap();
    assert_eq!(saved.services.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(!path.exists() && beside(&path, "unreadable").exists());
}

#[test]
fn a_file_of_a_release_without_records_that_is_cut_off_anywhere_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let whole = include_bytes!("../../../tests/old_formats/state.json");
    let end = whole.trim_ascii_end().len();
    for length in 0..end {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(
            StateFile::new(path.clone()).load().unwrap(),
            Saved::default(),
            "{length} bytes"
        );
        assert!(!path.exists() && beside(&path, "unreadable").exists());
    }
}
