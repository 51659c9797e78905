//! Which runtime a project gets.

use tests::{On, Settings, TestSite};

use crate::turns;

#[tokio::test]
async fn auto_takes_podman_where_it_works_and_says_so() {
    let Some(_turn) = turns::take().await else {
        return;
    };
    let site = TestSite::new(On::Podman, &Settings::default());
    let manifest = site.manifest(&Settings::default());
    site.write_manifest(&manifest.replace("\"podman\"", "\"auto\""));
    let said = site.must(&["up"]).await;
    assert!(said.contains("runs on podman, which works here"), "{said}");
    assert_eq!(site.status().await["runtime"], "podman");
    assert_eq!(site.serving("1.0.0").len(), 2);
}
