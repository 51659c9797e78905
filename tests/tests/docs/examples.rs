//! Every config that a page shows can be used as it stands.

use controller::manifest::Manifest;
use proxy::Config;

use crate::page::read;

/// The TOML examples of a page.
fn examples(page: &str) -> Vec<String> {
    let page = read(page);
    let blocks = page.split("```toml\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    blocks.map(str::to_owned).collect()
}

#[test]
fn the_manifest_of_the_readme_is_one() {
    let examples = examples("README.md");
    assert_eq!(examples.len(), 1);
    let manifest = Manifest::parse(&examples[0]).unwrap();
    assert_eq!(manifest.services[0].replicas, 2);
}

#[test]
fn the_proxys_configs_are_some() {
    let examples = examples("docs/operations.md");
    assert_eq!(examples.len(), 2);
    for example in examples {
        Config::parse(&example).unwrap();
    }
}
