//! Who holds a port: the kernel's list of listening sockets, and whose open files they are.

use std::fs;
use std::net::{SocketAddr, TcpListener};

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Whether something else listens there, and who: `nginx (process 812)`.
pub(crate) fn process_on(address: SocketAddr) -> Result<(), String> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            Err(process_at(address.port())
                .map_or("a process that only root can see".to_owned(), |who| who))
        }
        Err(error) => Err(format!("no process, but listening fails: {error}")),
    }
}

/// `nginx (process 812)`, as far as this user may see it.
pub(crate) fn process_at(port: u16) -> Option<String> {
    let mut inodes = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        inodes.extend(listening(&text, port));
    }
    let wanted: Vec<String> = inodes
        .iter()
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        // `self` is one of the others.
        if pid.parse::<u32>().is_err() {
            continue;
        }
        let Ok(files) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let holds = files.flatten().any(|file| {
            let target = fs::read_link(file.path()).unwrap_or_default();
            wanted
                .iter()
                .any(|socket| target.as_os_str() == socket.as_str())
        });
        if holds {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {pid})", name.trim()));
        }
    }
    None
}

/// The inodes of the sockets that listen on a port, by a table of `/proc/net`.
fn listening(table: &str, port: u16) -> Vec<String> {
    let wanted = format!(":{port:04X}");
    let rows = table.lines().skip(1).filter_map(|line| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let (address, state, inode) = (cells.get(1)?, cells.get(3)?, cells.get(9)?);
        (address.ends_with(&wanted) && *state == LISTEN).then(|| (*inode).to_owned())
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_its_process() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("bound");
        let who = process_on(address).expect_err("taken");
        assert!(
            who.contains(&format!("(process {})", std::process::id())),
            "{who}"
        );
        drop(taken);
        assert_eq!(process_on(address), Ok(()));
    }

    #[test]
    fn only_sockets_that_listen_on_the_very_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1\n\
             1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 222 1\n\
             2: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1\n";
        assert_eq!(listening(table, 8080), ["111"]);
    }
}
