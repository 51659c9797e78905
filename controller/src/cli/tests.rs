//! The command line: its verbs, help, defaults and errors.

use clap::Parser;

use super::*;
use crate::error::Exit;

#[test]
fn the_command_line_is_well_formed() {
    Args::command().debug_assert();
}

/// Every verb, with those before it: `proxy upgrade`.
fn verbs(command: &clap::Command, before: &str) -> Vec<(String, clap::Command)> {
    let of = |verb: &clap::Command| {
        let name = format!("{before}{}", verb.get_name());
        let mut found = verbs(verb, &format!("{name} "));
        found.push((name, verb.clone()));
        found
    };
    command.get_subcommands().flat_map(of).collect()
}

#[test]
fn every_verb_has_examples_that_can_be_written_and_says_what_each_flag_is() {
    for (name, verb) in verbs(&Args::command(), "") {
        let after = verb.get_after_help().map(ToString::to_string);
        let after = after.unwrap_or_default();
        let examples = after
            .lines()
            .filter(|line| line.starts_with("  crossfade "));
        let examples: Vec<&str> = examples.collect();
        assert!(after.contains("Exit codes:"), "{name}");
        assert!(examples.iter().any(|one| one.contains(&name)), "{name}");
        for example in examples {
            let line = example.split(" > ").next().unwrap_or(example);
            let parsed = Args::try_parse_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{example}: {parsed:?}");
        }
        for arg in verb.get_arguments() {
            let help = arg.get_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            let flag = arg.get_id();
            assert!(!help.is_empty(), "{name}: {flag}");
            let unit = arg.get_value_names().and_then(|names| names.first());
            let unit = unit.map_or("", |unit| unit.as_str());
            if ["DURATION", "COUNT", "PERCENT", "LINES"].contains(&unit) {
                assert!(help.contains("[default: "), "{name}: {flag}");
            }
        }
    }
}

#[test]
fn the_help_has_what_people_need_first_and_exit_codes_where_they_apply() {
    let command = Args::command();
    let names: Vec<&str> = command
        .get_subcommands()
        .map(clap::Command::get_name)
        .collect();
    assert_eq!(names[..5], ["init", "up", "deploy", "status", "explain"]);
    for (name, verb) in verbs(&command, "") {
        let after = verb.get_after_help().map(ToString::to_string);
        let codes: Vec<String> = after
            .unwrap_or_default()
            .lines()
            .skip_while(|line| *line != "Exit codes:")
            .skip(1)
            .map_while(|line| line.split_whitespace().next().map(str::to_owned))
            .collect();
        let waits = verb.get_arguments().any(|arg| arg.get_id() == "wait");
        let reads = [
            "init",
            "status",
            "explain",
            "logs",
            "history",
            "events",
            "config",
            "doctor",
            "demo",
            "serve",
            "completions",
        ];
        let want: &[&str] = match (waits, reads.contains(&name.as_str())) {
            (true, _) => &["0", "1", "2", "3", "4", "64", "69"],
            (false, true) => &["0", "1", "64", "69"],
            (false, false) => &["0", "1", "4", "64", "69"],
        };
        assert_eq!(codes, want, "{name}");
    }
}

#[test]
fn the_defaults_in_the_help_are_those_that_hold() {
    let defaults = crate::plan::RolloutSettings::default();
    let deploy = Args::command();
    let deploy = deploy.find_subcommand("deploy").expect("a verb");
    for (flag, default) in [
        ("strategy", "canary".to_owned()),
        ("step_min_duration", defaults.step_min_duration.to_string()),
        ("min_requests", defaults.min_requests.to_string()),
        ("max_hold", defaults.max_hold.to_string()),
        ("after_max_hold", defaults.after_max_hold.to_string()),
        ("success_rate", defaults.success_rate.to_string()),
        ("latency_p99", defaults.latency_p99.to_string()),
        ("bake", defaults.bake.to_string()),
        ("min_healthy_time", defaults.min_healthy_time.to_string()),
        ("start_timeout", defaults.start_timeout.to_string()),
    ] {
        let mut arguments = deploy.get_arguments();
        let arg = arguments.find(|arg| arg.get_id() == flag).expect(flag);
        let help = arg.get_help().expect(flag).to_string();
        let want = format!("[default: the manifest's, else {default}]");
        assert!(help.contains(&want), "{flag}: {help}, not {want}");
    }
}

#[test]
fn an_error_is_json_where_that_was_requested() {
    let requested = |line: &str| Output::of_line(line.split(' ').map(Into::into));
    assert_eq!(requested("status --ouput json"), Output::Table);
    assert_eq!(requested("--output json sttus"), Output::Json);
    assert_eq!(requested("sttus --output=json"), Output::Json);
    assert_eq!(complaint(Output::Table, "no", 1), "error: no");
    let said = complaint(Output::Json, "error: a \"name\"\n", 64);
    assert_eq!(said, r#"{"error":{"exit":64,"message":"a \"name\""}}"#);
}

#[track_caller]
fn check_split(weights: &[&str], says: Option<&str>) {
    let weights: Vec<String> = weights.iter().map(|pair| (*pair).to_owned()).collect();
    match (read_split(&weights), says) {
        (Ok(_), None) => {}
        (Err(error), Some(says)) => {
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(error.exit(), Exit::USAGE);
        }
        (got, want) => panic!("{got:?}, not {want:?}"),
    }
}

#[test]
fn weights_are_whole_numbers_each_with_its_version() {
    check_split(&["1.0.0=90", "2.0.0=10"], None);
    check_split(&["1.0.0=-1"], Some("1.0.0=-1: a weight is a whole number"));
    check_split(&["1.0.0=ten"], Some("a whole number"));
    check_split(&["1.0.0=1.5"], Some("a whole number"));
    check_split(&["1.0.0"], Some("VERSION=WEIGHT"));
    check_split(&["=5"], Some("VERSION=WEIGHT"));
    check_split(&["1=5", "1=6"], Some("twice"));
}

#[test]
fn a_negative_weight_is_not_taken_for_a_flag() {
    let args = Args::try_parse_from(["crossfade", "split", "web", "1.0.0=-1"]);
    assert!(args.is_ok(), "{args:?}");
}

#[test]
fn since_is_how_long_ago_or_a_moment() {
    let now = 1_738_326_605_000;
    let read = |text| read_since(text, now).map_err(|error| (error.exit(), error.to_string()));
    assert_eq!(read("10m"), Ok(now - 600_000));
    assert_eq!(read("2025-01-31T12:30:05Z"), Ok(now));
    assert_eq!(read("2025-01-31 12:30:00"), Ok(now - 5000));
    let (exit, error) = read("yesterday").expect_err("neither");
    assert_eq!(exit, Exit::USAGE);
    assert!(
        error.starts_with("--since yesterday: write how long ago, such as 10m"),
        "{error}"
    );
}
