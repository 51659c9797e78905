//! The manifest: its defaults, and the line and field that each error names.

use super::*;

const SMALLEST: &str = "[[services]]\nname = \"web\"\nimage = \"localhost/web:1.0.0\"\n";

#[test]
fn the_smallest_manifest_has_every_default() {
    let manifest = Manifest::parse(SMALLEST).expect("a manifest");
    assert_eq!(manifest.project, "crossfade");
    assert_eq!(manifest.runtime, RuntimeChoice::Auto);
    assert_eq!(
        manifest.proxy.listeners,
        [Listener::plain("0.0.0.0:8080".parse().expect("an address"))]
    );
    assert_eq!(manifest.proxy.admin_port, None);
    assert!(manifest.proxy.standby);
    let web = manifest.service("web").expect("the service");
    assert_eq!(
        (web.version.as_str(), web.replicas, web.port),
        ("1.0.0", 1, 8080)
    );
    assert_eq!(web.rollout, RolloutSettings::default());
}

#[test]
fn the_commented_example_is_a_manifest() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/crossfade.toml");
    let text = std::fs::read_to_string(path).expect("the example");
    Manifest::parse(&text).expect("a manifest");

    // Every key that is commented out is a key that exists, at its default.
    let uncommented: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") || rest.starts_with('[') => rest,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    Manifest::parse(&uncommented).expect("a manifest with every key");
}

#[track_caller]
fn check_wrong(text: &str, line: usize, field: &str, says: &str) {
    let error = Manifest::parse(text).expect_err("this manifest is wrong");
    assert_eq!(error.line, Some(line), "{error}");
    assert_eq!(error.field.as_deref(), Some(field), "{error}");
    assert!(error.message.contains(says), "{error}");
}

fn with(more: &str) -> String {
    format!("{SMALLEST}{more}\n")
}

#[test]
fn what_is_wrong_with_a_service_is_named_with_field_and_line() {
    check_wrong(
        &with("replcas = 3"),
        4,
        "services[0].replcas",
        "did you mean `replicas`?",
    );
    check_wrong(
        &with("replicas = 1001"),
        4,
        "services[0].replicas",
        "from 0 to 1000",
    );
    check_wrong(
        &with("path_prefix = \"api\""),
        4,
        "services[0].path_prefix",
        "begin with `/`",
    );
    check_wrong(
        &with("hosts = [\"münchen.example.\", \"http://a\"]"),
        4,
        "services[0].hosts[1]",
        "without scheme",
    );
    check_wrong(
        &with("version = \"a b\""),
        4,
        "services[0].version",
        "cannot name a version",
    );
    check_wrong(
        &with("protocol = \"h3\""),
        4,
        "services[0].protocol",
        "`http/1.1` or `h2`",
    );
    check_wrong(
        &with("tls = { ca = \"ca.pem\", verify = false }"),
        4,
        "services[0].tls.ca",
        "has no effect with `verify = false`",
    );
    check_wrong(
        &with("tls = { server = \"web\" }"),
        4,
        "services[0].tls.server",
        "`server_name`",
    );
    check_wrong(
        &with("health = { path = \"ok\" }"),
        4,
        "services[0].health.path",
        "begin with `/`",
    );
    check_wrong(
        &with(SMALLEST),
        5,
        "services[1].name",
        "another service has the name `web`",
    );
}

#[test]
fn what_is_wrong_with_what_containers_are_given_is_named_with_field_and_line() {
    check_wrong(
        &with("secrets = { \"1st\" = \"a\" }"),
        4,
        "services[0].secrets.1st",
        "a letter first",
    );
    check_wrong(
        &with("secrets = { a-b = \"a\", \"a.b\" = \"b\" }"),
        4,
        "services[0].secrets.\"a.b\"",
        "`A_B_FILE` already",
    );
    check_wrong(
        &with("volumes = [\"data:/data\"]"),
        4,
        "services[0].volumes[0]",
        "begins with `/`, `./` or `../`",
    );
    check_wrong(
        &with("volumes = [\"./a:/data\", \"./b:/data\"]"),
        4,
        "services[0].volumes[1]",
        "another volume has the path /data",
    );
    check_wrong(
        &with("memory = \"1MiB\""),
        4,
        "services[0].memory",
        "at least 6MiB",
    );
    check_wrong(&with("cpus = 0"), 4, "services[0].cpus", "from 0.01");
    check_wrong(&with("pids = 0"), 4, "services[0].pids", "from 1 on");
    check_wrong(
        &with("labels = { \"io.crossfade.role\" = \"proxy\" }"),
        4,
        "services[0].labels.\"io.crossfade.role\"",
        "reserved for the controller",
    );
}

#[test]
fn what_is_wrong_with_a_rollout_is_named_with_field_and_line() {
    check_wrong(
        &with("[services.rollout]\nstrategy = \"canari\""),
        5,
        "services[0].rollout.strategy",
        "did you mean `canary`?",
    );
    check_wrong(
        &with("[services.rollout]\nsteps = [50, 10]"),
        5,
        "services[0].rollout.steps",
        "larger than the one before",
    );
    check_wrong(
        &with("[services.rollout]\nsteps = [\"10:soon\", 100]"),
        5,
        "services[0].rollout.steps[0]",
        "10:5m or 10:5m:gate",
    );
    check_wrong(
        &with("[services.rollout]\nsteps = [1.5]"),
        5,
        "services[0].rollout.steps[0]",
        "a share in percent such as 10",
    );
    check_wrong(
        &with("[services.rollout]\nmax_surge = 1"),
        5,
        "services[0].rollout.max_surge",
        "only strategy `rolling`",
    );
    check_wrong(
        &with("[services.rollout]\nstrategy = \"rolling\"\nmax_surge = \"0%\""),
        6,
        "services[0].rollout.max_surge",
        "cannot both be 0",
    );
    check_wrong(
        &with("[services.rollout]\nstrategy = \"rolling\"\nmax_unavailable = \"some\""),
        6,
        "services[0].rollout.max_unavailable",
        "25%",
    );
    check_wrong(
        &with("[services.rollout]\nsuccess_rate = 101.0"),
        5,
        "services[0].rollout.success_rate",
        "from 0 to 100",
    );
    check_wrong(
        &with("[services.rollout]\nsuccess_rate_tolerance = -0.1"),
        5,
        "services[0].rollout.success_rate_tolerance",
        "percentage points",
    );
    check_wrong(
        &with("[services.rollout]\nlatency_p99 = \"0s\""),
        5,
        "services[0].rollout.latency_p99",
        "longer than 0",
    );
    check_wrong(
        &with("[services.rollout]\nlatency_tolerance = 101"),
        5,
        "services[0].rollout.latency_tolerance",
        "percentage points",
    );
    check_wrong(
        &with("[services.rollout]\nafter_max_hold = \"procede\""),
        5,
        "services[0].rollout.after_max_hold",
        "did you mean `proceed`?",
    );
    check_wrong(
        &with("[services.rollout]\nbake = \"5\""),
        5,
        "services[0].rollout.bake",
        "500ms or 30s",
    );
}

#[test]
fn what_is_wrong_with_a_hook_is_named_with_field_and_line() {
    let hook = |keys: &str| with(&format!("[[services.rollout.hooks]]\n{keys}"));
    let query = |keys: &str| hook(&format!("on = \"confirm\"\nquery = \"up\"\n{keys}"));
    check_wrong(
        &hook("on = \"confrim\"\nurl = \"http://h/\""),
        5,
        "services[0].rollout.hooks[0].on",
        "`confirm`",
    );
    check_wrong(
        &hook("on = \"confirm\""),
        4,
        "services[0].rollout.hooks[0].command",
        "either a `command`",
    );
    check_wrong(
        &hook("on = \"confirm\"\nurl = \"localhost/x\""),
        6,
        "services[0].rollout.hooks[0].url",
        "such as http://host:port/path",
    );
    check_wrong(
        &hook("on = \"confirm\"\ncommand = [\"x\"]\ntimeout = \"0s\""),
        7,
        "services[0].rollout.hooks[0].timeout",
        "longer than 0",
    );
    check_wrong(
        &query("url = \"http://h/\""),
        4,
        "services[0].rollout.hooks[0].max",
        "the bounds of its result",
    );
    check_wrong(
        &query("max = 1"),
        4,
        "services[0].rollout.hooks[0].url",
        "URL of Prometheus",
    );
    check_wrong(
        &query("url = \"http://h/\"\nmin = 2\nmax = 1"),
        8,
        "services[0].rollout.hooks[0].min",
        "more than `max`",
    );
    check_wrong(
        &hook("on = \"confirm\"\nurl = \"http://h/\"\nmax = 1"),
        4,
        "services[0].rollout.hooks[0].query",
        "the bounds of a `query`",
    );
}

#[test]
fn what_is_wrong_with_the_proxy_is_named_with_field_and_line() {
    let listener = |keys: &str| {
        format!("[[proxy.listeners]]\naddress = \"127.0.0.1:8443\"\n{keys}\n{SMALLEST}")
    };
    check_wrong(
        &listener("tls = []"),
        3,
        "proxy.listeners[0].tls",
        "at least one certificate",
    );
    check_wrong(
        &listener("client_ca = \"ca.pem\""),
        3,
        "proxy.listeners[0].client_ca",
        "needs `tls`",
    );
    check_wrong(
        &listener("tls_min_version = \"1.1\""),
        3,
        "proxy.listeners[0].tls_min_version",
        "`1.2`",
    );
    check_wrong(
        &listener("half_close = \"keep\""),
        3,
        "proxy.listeners[0].half_close",
        "expected `abort` or `serve`",
    );
    check_wrong(
        &listener("trusted_proxies = [\"10.0.0.0/40\"]"),
        3,
        "proxy.listeners[0].trusted_proxies[0]",
        "",
    );
    check_wrong(
        &format!("[proxy]\nlisten = [\"127.0.0.1:9900\"]\nadmin_port = 9900\n{SMALLEST}"),
        2,
        "proxy.listen[0]",
        "`admin_port`",
    );
}

#[test]
fn what_is_wrong_with_a_project_or_a_webhook_is_named_with_field_and_line() {
    let webhook = "[[webhooks]]\nurl = \"http://h/a\"\nkinds = [\"done\"]\n";
    check_wrong(
        &with("[[webhooks]]\nurl = \"http://u:p@h/\""),
        5,
        "webhooks[0].url",
        "token_file",
    );
    check_wrong(
        &with(&webhook.repeat(2)),
        8,
        "webhooks[1].url",
        "webhooks[0] has this address already, at http://h: write one entry",
    );
    check_wrong(
        &format!("project = \"a/b\"\n{SMALLEST}"),
        1,
        "project",
        "letters, digits",
    );
}

#[test]
fn a_service_has_what_it_is_given_and_the_proxy_its_certificates() {
    let text = format!(
        "[[proxy.listeners]]\naddress = \"0.0.0.0:443\"\n\
         tls = [{{ cert = \"a.pem\", key = \"a.key\" }}]\n{SMALLEST}\
         secrets = {{ db = \"db.txt\" }}\nvolumes = [\"./data:/data:ro\"]\n\
         memory = \"64MiB\"\ncpus = 1.5\npids = 50\nlabels = {{ team = \"shop\" }}\n"
    );
    let manifest = Manifest::parse(&text).expect("a manifest");
    let urls: Vec<String> = manifest.proxy.listeners.iter().map(Listener::url).collect();
    assert_eq!(urls, ["https://0.0.0.0:443"], "no other than it names");
    let web = manifest.service("web").expect("the service");
    assert_eq!(web.limits.memory, Some(64 << 20));
    assert_eq!(
        (web.limits.millicpus, web.limits.pids),
        (Some(1500), Some(50))
    );
    assert!(web.volumes[0].read_only);
    assert_eq!(web.secrets["db"], Path::new("db.txt"));
    assert_eq!(web.labels["team"], "shop");
}

#[test]
fn two_services_on_one_route_are_refused() {
    let text = format!("{SMALLEST}[[services]]\nname = \"api\"\nimage = \"localhost/api:1\"\n");
    check_wrong(
        &text,
        4,
        "services[1].path_prefix",
        "`web` has the same hosts",
    );
}

#[test]
fn an_image_without_a_tag_needs_a_version() {
    let text = "[[services]]\nname = \"web\"\nimage = \"./server\"\n";
    check_wrong(text, 1, "services[0].version", "has no tag");
}

#[test]
fn containers_serve_on_a_port_or_on_a_socket_in_a_folder_of_their_own() {
    let text = format!("{SMALLEST}socket = \"/run/app/app.sock\"\n");
    let manifest = Manifest::parse(&text).expect("a manifest");
    let socket = manifest.services[0].socket.as_deref();
    assert_eq!(socket, Some(Path::new("/run/app/app.sock")));
    let long = format!("/run/{}/app.sock", "a".repeat(100));
    for (keys, says) in [
        (
            "socket = \"/run/app/app.sock\"\nport = 80",
            "leave one of the two out",
        ),
        ("socket = \"run/app.sock\"", "absolute path"),
        ("socket = \"/run/../app.sock\"", "absolute path"),
        ("socket = \"/run/app/\"", "absolute path"),
        ("socket = \"/run/a:b/app.sock\"", "without `:`"),
        ("socket = \"/app.sock\"", "folder of its own"),
        (&format!("socket = \"{long}\""), "114 bytes, and the path"),
        (
            "socket = \"/run/app/app.sock\"\nvolumes = [\"./run:/run/app\"]",
            "a volume has the path /run/app",
        ),
    ] {
        let text = format!("{SMALLEST}{keys}\n");
        let line = SMALLEST.lines().count() + 1;
        check_wrong(&text, line, "services[0].socket", says);
    }
}

#[test]
fn a_manifest_without_services_is_refused() {
    let error = Manifest::parse("project = \"x\"\n").expect_err("no services");
    assert!(error.message.contains("[[services]]"), "{error}");
}

#[track_caller]
fn check_tag(image: &str, want: Option<&str>) {
    assert_eq!(tag_of(image), want, "{image}");
}

#[test]
fn the_tag_of_an_image_is_found_after_its_registry() {
    check_tag("localhost/web:2.0.0", Some("2.0.0"));
    check_tag("registry:5000/web", None);
    check_tag("registry:5000/web:1", Some("1"));
    check_tag("web:1@sha256:abc", Some("1"));
    check_tag("web@sha256:abc", None);
    check_tag("/opt/server", None);
}

#[test]
fn a_rollout_has_the_keys_of_its_strategy() {
    let rollout = |keys: &str| {
        let text = format!("{SMALLEST}[services.rollout]\n{keys}\n");
        let manifest = Manifest::parse(&text).expect("a manifest");
        manifest.services[0].rollout.strategy.to_string()
    };
    let canary = rollout("steps = [5, \"20:10m\", \"50:gate\", 100]");
    assert_eq!(canary, "canary 5,20:10m,50:gate,100");
    let rolling = rollout("strategy = \"rolling\"\nmax_surge = 0\nmax_unavailable = \"25%\"");
    assert_eq!(rolling, "rolling, at most 0 more and 25% fewer containers");
}

#[test]
fn a_service_may_have_its_own_time_to_drain() {
    let text = "[proxy]\ndrain_timeout = \"7s\"\n\
                [[services]]\nname = \"web\"\nimage = \"web:1\"\n\
                [[services]]\nname = \"own\"\nimage = \"own:1\"\npath_prefix = \"/own\"\n\
                timeouts = { drain = \"2m\" }";
    let manifest = Manifest::parse(text).expect("a manifest");
    assert_eq!(manifest.drain_timeout("web").as_secs(), 7);
    assert_eq!(manifest.drain_timeout("own").as_secs(), 120);
}

#[test]
fn a_worker_serves_nothing_and_has_no_key_about_that() {
    let worker = format!("{SMALLEST}port = 0\nreplicas = 0\n");
    let manifest = Manifest::parse(&worker).expect("a manifest");
    assert!(manifest.services[0].is_worker());
    for key in [
        "hosts = [\"a.test\"]",
        "path_prefix = \"/jobs\"",
        "health = { path = \"/\" }",
        "protocol = \"h2\"",
    ] {
        let error = Manifest::parse(&format!("{worker}{key}\n")).expect_err(key);
        let field = format!("services[0].{}", key.split(' ').next().unwrap_or_default());
        assert_eq!(error.field, Some(field), "{error}");
        assert!(error.message.contains("a worker (port = 0)"), "{error}");
    }
    let error = Manifest::parse(&format!("{worker}strip_prefix = true\n")).expect_err("traffic");
    assert_eq!(error.field.as_deref(), Some("services[0].port"), "{error}");
    // Two of them have no route in common.
    let two = format!("{worker}{}", worker.replace("\"web\"", "\"jobs\""));
    Manifest::parse(&two).expect("two workers");
}

#[test]
fn what_confines_containers_is_checked() {
    check_wrong(
        &with("user = \"a b\""),
        4,
        "services[0].user",
        "such as app, 1000 or 1000:1000",
    );
    check_wrong(
        &with("cap_drop = [\"NET_RAW\", \"net raw\"]"),
        4,
        "services[0].cap_drop[1]",
        "such as NET_RAW",
    );
    check_wrong(
        &with("tmpfs = [\"/tmp\", \"tmp\"]"),
        4,
        "services[0].tmpfs[1]",
        "/run:size=64m",
    );
    check_wrong(
        &with("tmpfs = [\"/tmp\", \"/tmp:size=1m\"]"),
        4,
        "services[0].tmpfs[1]",
        "already",
    );
    let text = "user = \"1000\"\ncap_drop = [\"ALL\"]\nread_only = true\ntmpfs = [\"/tmp\"]\n\
                stop_timeout = \"2m\"";
    let manifest = Manifest::parse(&with(text)).expect("a manifest");
    let web = &manifest.services[0];
    assert_eq!(web.confinement.user.as_deref(), Some("1000"));
    assert_eq!(web.stop_timeout, Some(Period::from_secs(120)));
}

#[test]
fn the_proxys_timeouts_and_limits_are_checked_as_the_proxy_does() {
    let proxy =
        |text: &str| format!("[proxy]\n{text}\n[[services]]\nname = \"a\"\nimage = \"a:1\"\n");
    check_wrong(
        &proxy("limits = { header_bytes = \"1KiB\" }"),
        2,
        "proxy.limits.header_bytes",
        "such as \"64KiB\"",
    );
    check_wrong(
        &proxy("timeouts = { drain = \"1s\" }"),
        2,
        "proxy.timeouts.drain",
        "drain_timeout",
    );
    let text = proxy("timeouts = { header = \"3s\", first_byte = \"5m\" }");
    let manifest = Manifest::parse(&text).expect("a manifest");
    let timeouts = manifest.proxy.timeouts;
    assert!(timeouts.header.is_some() && timeouts.of_services.first_byte.is_some());
}
