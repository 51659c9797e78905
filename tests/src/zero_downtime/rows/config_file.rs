//! The config file is rewritten 20 times a second, in all the ways in which files are written;
//! one time in three what is written is broken.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Row, times_a_second};
use crate::zero_downtime::admin::Admin;
use crate::zero_downtime::outcome::{Limit, Outcome};
use crate::zero_downtime::test_env::{TestEnv, origin};
use crate::zero_downtime::traffic::{Plan, Traffic};
use crate::{TestProxy, wait_until};

/// How long a file is half-written.
const HALF_WRITTEN: Duration = Duration::from_millis(20);

pub(super) async fn run(env: &TestEnv, time: Duration) -> Outcome {
    let limits = env.limits;
    let witness = env.new_witness();
    let (one, two) = (origin(1, &witness).await, origin(2, &witness).await);
    let services = |weight: u32| {
        let endpoint = |origin: &super::super::Origin, version: u32| {
            let address = origin.address;
            format!("[[services.endpoints]]\naddress = \"{address}\"\nversion = \"{version}\"\n")
        };
        format!(
            "[[services]]\nname = \"other\"\nhosts = [\"other.example\"]\n{}\n[[services]]\nname = \"web\"\nsplit = {{ 1 = {weight}, 2 = 100 }}\n{}{}",
            endpoint(&one, 1),
            endpoint(&one, 1),
            endpoint(&two, 2),
        )
    };
    let proxy = TestProxy::with_config(&services(1)).await;
    let file = proxy.config_file();
    let text = std::fs::read_to_string(&file).expect("its config");
    let with = |weight: u32| text.replace(&services(1), &services(weight));

    let mut admin = Admin::new(proxy.admin);
    let before = admin.generation().await;
    let plan = Plan::usual(proxy.address, limits.rate);
    let traffic = Traffic::start(&plan, &witness, None);
    let (began, mut clock) = (Instant::now(), times_a_second(20));
    let mut written = 0;
    while began.elapsed() < time {
        clock.tick().await;
        written += 1;
        let text = with(1 + written % 1_000);
        if written % 3 == 0 {
            break_it(&file, &text, written / 3);
        } else {
            write_it(&file, &text, written).await;
        }
    }
    let elapsed = began.elapsed();
    // What was written last is good, and is what is in force soon.
    write_it(&file, &with(2_000), 0).await;
    wait_until("the last config is in force", || async {
        let web = proxy.must("GET", "/v1/services/web", Value::Null).await;
        web["split"]["1"] == 2_000
    })
    .await;
    let taken_up = admin.generation().await - before;
    let seen = traffic.stop().await;
    let findings = witness.judge(|_| false);
    Outcome::new(Row::ConfigFile.title(), witness.requests(), findings)
        .with_traffic(&seen, limits.responses)
        .with(
            "written",
            f64::from(written) / elapsed.as_secs_f64(),
            "/s",
            Limit::AtLeast(20.0 * limits.changes),
        )
        .with(
            "taken up",
            taken_up as f64 / elapsed.as_secs_f64(),
            "/s",
            Limit::AtLeast(1.0),
        )
}

/// A good config, in one of the ways in which files are written.
async fn write_it(file: &Path, text: &str, number: u32) {
    let of_ours = "the folder is ours";
    match number % 3 {
        0 => {
            let beside = file.with_extension("new");
            std::fs::write(&beside, text).expect(of_ours);
            std::fs::rename(&beside, file).expect(of_ours);
        }
        1 => std::fs::write(file, text).expect(of_ours),
        _ => {
            // Cut where it would be a good config without the service that all clients ask for.
            let half = text.rfind("[[services]]").expect("two services");
            let mut open = File::create(file).expect(of_ours);
            open.write_all(&text.as_bytes()[..half]).expect(of_ours);
            tokio::time::sleep(HALF_WRITTEN).await;
            open.write_all(&text.as_bytes()[half..]).expect(of_ours);
        }
    }
}

/// Something that is no good config.
fn break_it(file: &Path, text: &str, number: u32) {
    let of_ours = "the folder is ours";
    let broken = match number % 6 {
        0 => text.replace("127.0.0.1:", "127.0.0.1-"),
        1 => text[..text.len() - 3].to_owned(),
        2 => text.replace("split =", "splitt ="),
        3 => text.replace("[[services]]", "[services]"),
        4 => String::new(),
        _ => {
            std::fs::remove_file(file).expect(of_ours);
            return;
        }
    };
    std::fs::write(file, broken).expect(of_ours);
}
