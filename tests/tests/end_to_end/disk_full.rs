//! The disk of the state folder is full.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{On, Settings, TestProject, get};

/// A file system of its own, which is small. Taken away when this is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where none can be mounted.
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs"]);
        let mounted = mount.arg(at).output();
        match mounted {
            Ok(done) if done.status.success() => Some(Self(at.to_owned())),
            why => {
                eprintln!("ignored: no file system can be mounted here: {why:?}");
                None
            }
        }
    }

    /// Until not one byte can be written.
    fn fill(&self) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.0.join("filling"))
            .unwrap();
        for size in [64 * 1024, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(done.is_ok_and(|done| done.success()) || std::thread::panicking());
    }
}

async fn serves_and_goes_down(keeps_reserve: bool) {
    let project = TestProject::new(On::Processes, &Settings::default());
    let Some(disk) = SmallDisk::mount(&project.state()) else {
        return;
    };
    project.must(&["up"]).await;
    let reserve = project.state().join("reserve");
    tests::wait_until("room is reserved", || async { reserve.exists() }).await;
    disk.fill();
    if !keeps_reserve {
        fs::remove_file(&reserve).unwrap();
        disk.fill();
    }
    let serving = project.serving("1.0.0");
    assert_eq!(serving.len(), 2);
    if !keeps_reserve {
        let says = ["disk is full"];
        project.refused(&["scale", "web", "3"], 1, &says).await;
        project
            .refused(&project.deploy("2.0.0", &[]), 1, &says)
            .await;
    }
    let runs = |web: &serde_json::Value| {
        let version = &web["versions"][0];
        version["version"] == "1.0.0" && version["healthy"] == 2 && version["endpoints"] == 2
    };
    project.until("it is said to run", runs).await;
    // The next controller finds it all as it is, too.
    project.kill_controller();
    project.until("it is said to run", runs).await;
    assert_eq!(get(project.address, "/").await.status, 200);
    assert_eq!(project.serving("1.0.0"), serving);

    let removed = format!("{} is down: 3 containers removed", project.name);
    if keeps_reserve {
        assert_eq!(project.must(&["down"]).await.trim(), removed);
    } else {
        // Nothing runs any more, and it is said what is missing to that.
        let says = [
            removed.as_str(),
            "disk is full",
            "run `crossfade down` once more",
        ];
        project.refused(&["down"], 1, &says).await;
        assert_eq!(project.serving("1.0.0"), [""; 0]);
        fs::remove_file(project.state().join("filling")).unwrap();
        project.must(&["down"]).await;
    }
    project.until_nothing_is_left().await;
    // It stays so: the journal has it.
    let says = ["no project is up here"];
    project.refused(&["status"], 1, &says).await;
    project.until_nothing_is_left().await;
    drop(disk);
}

#[tokio::test]
async fn with_a_full_disk_all_is_said_to_run_that_runs_and_down_works() {
    serves_and_goes_down(true).await;
}

#[tokio::test]
async fn where_nothing_is_reserved_down_takes_all_away_and_says_what_it_could_not_write() {
    serves_and_goes_down(false).await;
}
