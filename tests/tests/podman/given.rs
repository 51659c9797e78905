//! What only containers are given: volumes, limits, labels; and images that stay what they were.

use serde_json::Value;
use tests::{On, Settings, TestProject, get, podman};

const IMAGES: &str = "localhost/crossfade-sample-server";

pub(crate) async fn a_container_has_its_volumes_its_limits_and_its_labels_and_no_secret_in_sight() {
    let project = TestProject::new(On::Podman, &Settings::default());
    let folder = project.file().parent().unwrap().to_owned();
    std::fs::create_dir(folder.join("data")).unwrap();
    std::fs::write(folder.join("password"), "hunter2-9d").unwrap();
    let keys = r#"secrets = { db = "password" }
volumes = ["./data:/var/lib/web:ro"]
memory = "256MiB"
cpus = 0.5
pids = 64
user = "1000:1000"
cap_drop = ["ALL"]
read_only = true
tmpfs = ["/tmp:size=1m"]
stop_timeout = "7s"
labels = { team = "shop" }

[services.rollout]"#;
    // Where cgroups are the user's own, limits can be had; else podman says what it lacks.
    let limited = rustix::process::geteuid().is_root();
    let mut keys = keys.to_owned();
    if !limited {
        keys = keys.replace("memory = \"256MiB\"\ncpus = 0.5\npids = 64\n", "");
    }
    let manifest = project.manifest(&Settings::default());
    let given = manifest.replace("[services.rollout]", &keys);
    project.write_manifest(&given);
    project.must(&["up"]).await;
    let serving = project.serving("1.0.0");
    assert_eq!(serving.len(), 2);
    for id in &serving {
        let text = podman(&["inspect", id]).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
        let found: Value = serde_json::from_str(&text).unwrap();
        let found = &found[0];
        assert_eq!(found["Config"]["Labels"]["team"], "shop");
        let mounts = found["Mounts"].as_array().unwrap();
        let volume = mounts
            .iter()
            .find(|mount| mount["Destination"] == "/var/lib/web")
            .unwrap();
        assert_eq!(volume["Source"], folder.join("data").to_str().unwrap());
        assert_eq!(volume["RW"], false);
        assert_eq!(found["Config"]["User"], "1000:1000");
        assert_eq!(found["Config"]["StopTimeout"], 7);
        let host = &found["HostConfig"];
        assert_eq!(host["ReadonlyRootfs"], true, "{host:#}");
        assert!(host["Tmpfs"]["/tmp"].is_string(), "{host:#}");
        let effective = found["EffectiveCaps"].as_array().map(Vec::len);
        assert_eq!(effective.unwrap_or_default(), 0, "{found:#}");
        if limited {
            assert_eq!(host["Memory"], 256 << 20, "{host:#}");
            assert_eq!(host["NanoCpus"], 500_000_000, "{host:#}");
            assert_eq!(host["PidsLimit"], 64, "{host:#}");
        }
    }
    let said = project.must(&["up"]).await;
    assert!(said.ends_with("nothing to do"), "{said}");
    assert_eq!(project.serving("1.0.0"), serving);
}

pub(crate) async fn a_rollback_starts_the_image_that_was_though_its_tag_has_moved() {
    let settings = Settings {
        step: "200ms",
        bake: "0s",
        ..Settings::default()
    };
    let project = TestProject::new(On::Podman, &settings);
    let moving = format!("localhost/{}:stable", project.name);
    let _untagged = Tag(moving.clone());
    podman(&["tag", &format!("{IMAGES}:1.0.0"), &moving]).unwrap();
    let was = image_id(&moving);
    let manifest = project.manifest(&settings);
    project.write_manifest(&manifest.replace(&format!("{IMAGES}:1.0.0"), &moving));
    project.must(&["up"]).await;
    project
        .must(&project.deploy("2.0.0", &["--strategy", "all-at-once", "--wait"]))
        .await;
    project.until_phase("done").await;
    podman(&["tag", &format!("{IMAGES}:3.0.0"), &moving]).unwrap();
    assert_ne!(image_id(&moving), was);
    project.must(&["rollback", "web", "--wait"]).await;
    project.until_phase("done").await;
    for id in project.serving("1.0.0") {
        let image = podman(&["inspect", "--format", "{{.Image}}", &id]).unwrap();
        assert_eq!(image.trim(), was);
    }
    assert_eq!(get(project.address, "/").await.status, 200);
}

pub(crate) async fn a_tag_that_was_built_again_is_rolled_out_as_a_revision() {
    let settings = Settings {
        step: "200ms",
        bake: "0s",
        ..Settings::default()
    };
    let project = TestProject::new(On::Podman, &settings);
    let moving = format!("localhost/{}:latest", project.name);
    let _untagged = Tag(moving.clone());
    let build = |version: &str| {
        podman(&["tag", &format!("{IMAGES}:{version}"), &moving]).unwrap();
        image_id(&moving)
    };
    build("1.0.0");
    let manifest = project.manifest(&settings);
    let manifest = manifest.replace("steps = [10, 50, 100]", "strategy = \"all-at-once\"");
    let manifest = manifest.replace("version = \"1.0.0\"\n", "");
    project.write_manifest(&manifest.replace(&format!("{IMAGES}:1.0.0"), &moving));
    project.must(&["up"]).await;
    for verb in [&["up"][..], &["deploy", "web"]] {
        let said = project.must(verb).await;
        assert!(
            said.trim_end().ends_with("nothing to do"),
            "{verb:?}: {said}"
        );
    }

    let second = build("2.0.0");
    project.must(&["deploy", "web", "--wait"]).await;
    serves(&project, "latest+2", &second);
    let said = project.must(&["up"]).await;
    assert!(said.trim_end().ends_with("nothing to do"), "{said}");

    let third = build("3.0.0");
    project.must(&["up", "--pull", "--wait"]).await;
    serves(&project, "latest+3", &third);
    // That very image, whatever its tag stands for by now.
    project
        .must(&["rollback", "web", "--to", "latest+2", "--wait"])
        .await;
    serves(&project, "latest+2", &second);
    let said = project.must(&["up"]).await;
    assert!(
        said.trim_end().ends_with("nothing to do"),
        "it was rolled back by hand: {said}"
    );
}

/// Of the images of a service the last few stay, and those in use: no others of ours, and none of
/// anybody else.
pub(crate) async fn images_that_are_no_longer_kept_are_removed() {
    let settings = Settings {
        step: "0s",
        bake: "0s",
        ..Settings::default()
    };
    let project = TestProject::new(On::Podman, &settings);
    let image = |n: u32| format!("localhost/{}:{n}", project.name);
    let folder = project.file().parent().unwrap().to_owned();
    let build = |n: u32| {
        let file = folder.join("Containerfile");
        let text = format!("FROM {IMAGES}:2.0.0\nLABEL test={}-{n}\n", project.name);
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        podman(&["build", "--quiet", "--file", file, "--tag", &image(n)]).unwrap();
    };
    (1..=4).for_each(build);
    let manifest = project.manifest(&settings);
    let manifest = manifest.replace(&format!("{IMAGES}:1.0.0"), &image(1));
    let manifest = manifest.replace("version = \"1.0.0\"\n", "keep_images = 1\n");
    project.write_manifest(&manifest);
    project.must(&["up"]).await;
    let is_there = |n: u32| podman(&["image", "exists", &image(n)]).is_ok();
    for n in 2..=4 {
        let image = image(n);
        let args = [
            "deploy",
            "web",
            "--image",
            &image,
            "--strategy",
            "all-at-once",
        ];
        project.must(&args).await;
        project.until_phase("done").await;
    }
    // 4 is stable, and 3 is what a rollback goes to.
    tests::wait_until("the others are gone", || async {
        !is_there(1) && !is_there(2)
    })
    .await;
    assert!(is_there(3) && is_there(4));
    let base = format!("{IMAGES}:2.0.0");
    assert!(podman(&["image", "exists", &base]).is_ok(), "none of ours");
    project.must(&["rollback", "web", "--wait"]).await;
    project.must(&["down"]).await;
    for n in [3, 4] {
        let _ = podman(&["rmi", &image(n)]);
    }
}

/// Containers of this version serve, all of this image.
#[track_caller]
fn serves(project: &TestProject, version: &str, image: &str) {
    let serving = project.serving(version);
    assert!(!serving.is_empty(), "{version}");
    for id in serving {
        let of = podman(&["inspect", "--format", "{{.Image}}", &id]).unwrap();
        assert_eq!(of.trim(), image, "{version}");
    }
}

/// A tag of this test's own, taken off when it ends.
struct Tag(String);

impl Drop for Tag {
    fn drop(&mut self) {
        // Named twice: with the image alone podman takes off every tag that it has.
        let _ = podman(&["untag", &self.0, &self.0]);
    }
}

fn image_id(image: &str) -> String {
    let id = podman(&["image", "inspect", "--format", "{{.Id}}", image]).unwrap();
    id.trim().to_owned()
}
