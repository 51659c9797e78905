//! What belongs to others is left alone, whatever its name.

use tests::{On, Settings, TestProject, podman};

const IMAGE: &str = "localhost/crossfade-sample-server:1.0.0";

/// A container of another owner, without any label of ours.
struct Neighbour(String);

impl Neighbour {
    fn start(name: &str) -> Self {
        let arguments = [
            "run",
            "--detach",
            "--network",
            "none",
            "--name",
            name,
            IMAGE,
        ];
        podman(&arguments).unwrap();
        Self(name.to_owned())
    }

    fn state(&self) -> String {
        podman(&["inspect", "--format", "{{.State.Status}}", &self.0]).unwrap()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = podman(&["rm", "--force", "--time", "0", &self.0]);
    }
}

/// All containers and networks of this machine, but for those of projects that other people's
/// controllers made meanwhile.
fn everything(project: &str) -> Vec<String> {
    let mut found = Vec::new();
    for list in [&["ps", "--all"][..], &["network", "ls"]] {
        let list = podman(&[list, &["--format", "json"]].concat()).unwrap();
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        for one in list.as_array().unwrap() {
            let labels = one.get("Labels").or_else(|| one.get("labels"));
            let owner = labels.and_then(|labels| labels["io.crossfade.project"].as_str());
            if owner.is_some_and(|owner| owner != project) {
                continue;
            }
            let id = one.get("Id").or_else(|| one.get("id")).unwrap();
            found.push(format!("{id} {} {}", one["Names"], one["name"]));
        }
    }
    found.sort();
    found
}

pub(crate) async fn down_leaves_everything_as_it_was_before_up_a_container_with_a_look_alike_name_too()
 {
    let project = TestProject::new(On::Podman, &Settings::default());
    // As a ninth container of the first version would be called, and nearly as the proxy.
    let alike = ["web-1.0.0-1-9", "proxy-1"].map(|name| format!("{}-{name}", project.name));
    let neighbours = alike.map(|name| Neighbour::start(&name));
    let before = everything(&project.name);
    project.must(&["up"]).await;
    assert_ne!(everything(&project.name), before);
    project.must(&["scale", "web", "3"]).await;
    project.must(&["down"]).await;
    project.until_nothing_is_left().await;
    assert_eq!(everything(&project.name), before);
    for neighbour in &neighbours {
        assert_eq!(neighbour.state(), "running");
    }
}

pub(crate) async fn a_name_that_another_container_has_is_an_error_and_nothing_is_left() {
    let project = TestProject::new(On::Podman, &Settings::default());
    let name = format!("{}-proxy", project.name);
    let neighbour = Neighbour::start(&name);
    let before = everything(&project.name);
    let says = format!("a container named `{name}` exists that is not of this project");
    project.refused(&["up"], 1, &[&says]).await;
    project.until_nothing_is_left().await;
    assert_eq!(everything(&project.name), before);
    assert_eq!(neighbour.state(), "running");
}
