//! Another user of this machine speaks on the sockets on which listening sockets are passed on.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tests::{On, Running, Settings, TestProject, get, program};

/// The id of a user who owns nothing here.
const STRANGER: u32 = 65_534;

/// A project's folders and sockets are its user's alone. Were they not, the sockets know who speaks.
#[tokio::test]
async fn a_stranger_gets_no_socket_of_the_keeper_and_none_of_the_proxy() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tried: only root can be another user");
        return;
    }
    let project = TestProject::up(On::Processes, &Settings::default()).await;
    let proxy = project.state().join("proxy");
    for socket in ["keeper.sock", "handover.sock"] {
        let path = proxy.join(socket);
        assert_eq!(mode(&path), 0o600, "{socket}");
        open_to_all(&path, 0o666);
    }
    let home = project.file().parent().unwrap().to_owned();
    for folder in [&home, &project.state(), &proxy] {
        open_to_all(folder, 0o755);
    }
    let theirs = tempfile::tempdir().unwrap();
    open_to_all(theirs.path(), 0o777);
    let copy = theirs.path().join("crossfade-proxy");
    std::fs::copy(program("crossfade-proxy"), &copy).unwrap();

    let socket = |name: &str| proxy.join(name).display().to_string();
    let own = theirs.path().join("own.sock").display().to_string();
    let user = format!("user {STRANGER} is neither root nor this process's user 0");
    for (handover, keeper, complaint) in [
        (own, Some(socket("keeper.sock")), "handover.keeper"),
        (socket("handover.sock"), None, "did not hand over"),
    ] {
        let file = theirs.path().join("proxy.toml");
        let keeper = keeper.map(|keeper| format!("keeper = {keeper:?}\n"));
        let name = keeper.as_ref().map(|_| "name = \"web\"\n");
        let config = format!(
            "[handover]\nsocket = {handover:?}\n{}[[listeners]]\naddress = \"127.0.0.1:0\"\n{}",
            keeper.as_deref().unwrap_or_default(),
            name.unwrap_or_default()
        );
        std::fs::write(&file, config).unwrap();
        let flags = ["--config", file.to_str().unwrap()];
        let finished = Running::start_as(STRANGER, &copy, &flags).finished().await;
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.stderr.contains(complaint), "{finished:?}");
    }
    let keeper = std::fs::read_to_string(project.state().join("controller.log")).unwrap();
    assert!(keeper.contains(&user), "{keeper}");
    let proxy = project.must(&["logs", "--proxy"]).await;
    assert!(proxy.contains(&user), "{proxy}");
    assert_eq!(get(project.address, "/").await.status, 200);
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn open_to_all(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}
