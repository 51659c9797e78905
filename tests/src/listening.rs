//! The sockets on which clients reach a project, which are the host's: what clients' addresses are,
//! which addresses there are, and who keeps them.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::manifests::with;
use crate::neighbour::Neighbour;
use crate::proxy_kills::FIRST_RESPONSE;
use crate::{AdminPort, On, Settings, TestProject, free_address, proxy_kills, wait_until};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Clients are known by their own addresses, of IPv4 and of IPv6, also while both have one port.
pub async fn clients_are_known_by_their_own_addresses(on: On) {
    let project = TestProject::new(on, &Settings::default());
    let port = project.address.port();
    let v4 = project.address;
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let listen = format!("[\"{v4}\"]");
    let manifest = project.manifest(&Settings::default());
    let any = format!("[\"0.0.0.0:{port}\", \"[::]:{port}\"]");
    project.write_manifest(&manifest.replace(&listen, &any));
    project.must(&["up"]).await;
    for (from, to) in [("127.0.0.1", v4), ("127.0.0.9", v4), ("::1", v6)] {
        let from: IpAddr = from.parse().expect("an address");
        let response = get(from, to, "/headers").expect("a response");
        let want = format!("[\"x-real-ip\",\"{from}\"]");
        assert!(response.contains(&want), "no {want} in {response}");
    }
    let status = project.status().await;
    assert_eq!(status["published"], serde_json::Value::Null, "{status:#}");
}

/// Clients of another network are known by their own addresses to all that asks for them: header
/// fields, `force`, limits, and the balance by address.
pub async fn clients_of_another_network_are_known_by_their_own_addresses(on: On) {
    let neighbour = Neighbour::find().expect("a network of the test's own");
    let project = TestProject::new(on, &Settings::default());
    let port = project.address.port();
    let [v4, v6] = neighbour.hosts().map(|host| SocketAddr::new(host, port));
    let tester = neighbour.clients().next().expect("there are clients");
    let v6_tester = neighbour.v6_client();
    let keys = format!(
        "balance = {{ hash = \"address\" }}\n\
         force = {{ header = \"x-version\", from = [\"{tester}/32\", \"{v6_tester}/128\"] }}"
    );
    let manifest = with(&project, &Settings::default(), &keys);
    let service = "[[services]]\nname = \"limited\"\nhosts = [\"limited.test\"]\n\
                   limits = { requests = { rate = \"2/h\" } }\n";
    let image = manifest.lines().find(|line| line.starts_with("image = "));
    let version = "version = \"1.0.0\"";
    let listen = format!("[\"{}\"]", project.address);
    let manifest = manifest.replace(&listen, &format!("[\"{v4}\", \"{v6}\"]"));
    let image = image.expect("it has one");
    project.write_manifest(&format!("{manifest}\n{service}{image}\n{version}\n"));
    project.must(&["up"]).await;

    let admin = AdminPort::of(&project);
    for (from, to) in [(tester, v4), (v6_tester, v6)] {
        let get = |path: &str, head: &str| {
            let response = neighbour.get(from, to, path, head);
            response.unwrap_or_else(|error| panic!("{from} to {to}: {error}"))
        };
        let headers = get("/headers", "Host: a\r\n");
        for name in ["x-real-ip", "x-forwarded-for"] {
            let want = format!("[\"{name}\",\"{from}\"]");
            assert!(headers.contains(&want), "no {want} in {headers}");
        }
        for want in ["200", "200", "429"] {
            let response = get("/", "Host: limited.test\r\n");
            let start = format!("HTTP/1.1 {want} ");
            assert!(response.starts_with(&start), "not {want}: {response}");
        }
        let before = forced(&admin).await;
        get("/", "Host: a\r\nX-Version: 1.0.0\r\n");
        assert_eq!(forced(&admin).await, before + 1, "{from} may choose");
    }
    let before = forced(&admin).await;
    let mut used = BTreeSet::new();
    for other in neighbour.clients().skip(1) {
        let mut own = BTreeSet::new();
        for _ in 0..3 {
            let taken = requests(&admin).await;
            let head = "Host: a\r\nX-Version: 1.0.0\r\n";
            let response = neighbour.get(other, v4, "/", head).expect("a response");
            assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
            let now = requests(&admin).await;
            own.extend((0..now.len()).filter(|at| now[*at] != taken[*at]));
        }
        assert_eq!(own.len(), 1, "{other} has one endpoint");
        used.extend(own);
    }
    assert_eq!(used.len(), 2, "clients are divided");
    assert_eq!(forced(&admin).await, before, "others may not choose");
    let limited = neighbour.clients().nth(1).expect("there are more");
    let head = "Host: limited.test\r\n";
    let response = neighbour.get(limited, v4, "/", head).expect("a response");
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
}

/// Requests of service `web` whose clients have chosen the version.
async fn forced(admin: &AdminPort) -> u64 {
    let stats = admin.get("/v1/services/web/stats").await;
    let stats: admin_api::ServiceStats = serde_json::from_value(stats).expect("stats");
    stats.versions["1.0.0"].forced.responses.success
}

/// How many requests each of its endpoints has had.
async fn requests(admin: &AdminPort) -> Vec<u64> {
    let web = admin.get("/v1/services/web").await;
    let web: admin_api::ServiceView = serde_json::from_value(web).expect("a service");
    let endpoints = web.versions["1.0.0"].endpoints.iter();
    endpoints.map(|endpoint| endpoint.requests).collect()
}

/// An `up` adds an address and takes one away, and no client of the others notices.
pub async fn addresses_come_and_go_without_a_down(on: On) {
    let project = TestProject::up(on, &Settings::default()).await;
    let load = project.load();
    let (first, second) = (project.address, free_address());
    let manifest = project.manifest(&Settings::default());
    let listen = |addresses: &str| {
        let before = format!("listen = [\"{first}\"]");
        project.write_manifest(&manifest.replace(&before, &format!("listen = [{addresses}]")));
    };
    let is_served = |address: SocketAddr| get(address.ip(), address, "/").is_ok();
    assert!(!is_served(second));
    listen(&format!("\"{second}\", \"{first}\""));
    project.must(&["up"]).await;
    assert!(is_served(first) && is_served(second));
    listen(&format!("\"{first}\""));
    project.must(&["up"]).await;
    // The process before has it as long as it finishes requests.
    wait_until("it is closed", || async { !is_served(second) }).await;
    assert!(is_served(first));

    let taken = std::net::TcpListener::bind(second).expect("the port is free");
    listen(&format!("\"{second}\", \"{first}\""));
    let who = format!("(process {})", std::process::id());
    let says = ["is taken by ", who.as_str()];
    project.refused(&["up"], 1, &says).await;
    drop(taken);
    load.stop().await.expect_no_failure();
}

/// A controller that was killed has left the sockets in the proxy. The next one asks for them, and
/// keeps them when the proxy is killed.
pub async fn a_new_controller_gets_its_sockets_back_from_the_proxy(on: On) {
    let project = TestProject::up(on, &Settings::default()).await;
    let load = project.load();
    project.kill_controller();
    project.must(&["status"]).await;
    wait_until("it has the sockets", || async { has_sockets(&project) }).await;
    load.stop().await.expect_no_failure();
    let killed = proxy_kills::kill(&project, proxy_kills::BESIDE_OTHERS).await;
    assert_eq!(killed.refused, 0, "{killed:#?}");
    assert!(killed.failed.is_empty(), "{killed:#?}");
}

/// Nothing is refused, nothing fails but what was in flight, and the standby serves at once. Its own
/// standby does so after it.
pub async fn clients_of_a_killed_proxy_wait_for_the_next_one(on: On) {
    let project = TestProject::up(on, &Settings::default()).await;
    for _ in 0..2 {
        let killed = proxy_kills::kill(&project, proxy_kills::BESIDE_OTHERS).await;
        assert_eq!(killed.refused, 0, "{killed:#?}");
        assert!(killed.failed.is_empty(), "{killed:#?}");
        assert!(killed.requests > killed.in_flight, "{killed:#?}");
        assert!(killed.first_response <= FIRST_RESPONSE, "{killed:#?}");
    }
    // By then the controller knows which proxy is in force.
    project.until_standby().await;
    let events = project.events().await;
    let succeeded = |event: &&String| event.contains("its standby, serves in its place");
    assert_eq!(events.iter().filter(succeeded).count(), 2, "{events:#?}");
}

/// Whether the controller has a socket that listens on the project's port.
fn has_sockets(project: &TestProject) -> bool {
    let port = format!(":{:04X}", project.address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let inodes = table.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let listens = cells.get(1)?.ends_with(&port) && *cells.get(3)? == "0A";
        listens.then(|| format!("socket:[{}]", cells[9]))
    });
    let inodes: Vec<String> = inodes.collect();
    let files = std::fs::read_dir(format!("/proc/{}/fd", project.controller()));
    let mut files = files.into_iter().flatten().flatten();
    files.any(|file| {
        let target = std::fs::read_link(file.path()).unwrap_or_default();
        inodes
            .iter()
            .any(|inode| target.as_os_str() == inode.as_str())
    })
}

/// A response to a client with this address.
fn get(from: IpAddr, to: SocketAddr, path: &str) -> io::Result<String> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    (&socket).write_all(request.as_bytes())?;
    let mut response = String::new();
    (&socket).read_to_string(&mut response)?;
    match response.starts_with("HTTP/1.1 200 ") {
        true => Ok(response),
        false => Err(io::Error::other(response)),
    }
}
