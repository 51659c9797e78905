//! Who can reach what.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use libtest_mimic::Completion;
use tests::{On, Settings, TestProject, podman};

pub(crate) async fn nothing_is_published_but_an_admin_port_on_loopback_by_request() -> Completion {
    let project = TestProject::up(On::Podman, &Settings::default()).await;
    let infra = format!("{}-holder", project.name);
    let ports = podman(&["port", &infra]).unwrap();
    assert_eq!(
        ports, "",
        "clients and the controller come by sockets of the host"
    );
    project.must(&["down"]).await;
    let manifest = project.manifest(&Settings::default());
    project.write_manifest(&project.with_admin_port(&manifest));
    project.must(&["up"]).await;
    let ports = podman(&["port", &infra]).unwrap();
    let published: Vec<&str> = ports
        .lines()
        .filter_map(|line| line.split(" -> ").nth(1))
        .collect();
    // Clients come by sockets of the host.
    assert_eq!(published, [project.admin.to_string()]);
    // An address of this machine that others can reach; nothing is sent to find it out.
    let outward = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    let Some(outward) = outward
        .ok()
        .filter(|address| !address.ip().is_unspecified())
    else {
        return Completion::ignored_with("this machine has no address but loopback to try");
    };
    let address = SocketAddr::new(outward.ip(), project.admin.port());
    let reached = TcpStream::connect_timeout(&address, Duration::from_secs(2));
    assert!(reached.is_err(), "{address} responds");
    Completion::Completed
}
