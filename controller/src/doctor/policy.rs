//! What a security policy of this host may refuse: that the proxy's container connects to the
//! controller's socket, and uses the listening sockets that it gets there.

use super::Finding;
use crate::api::StatusReply;

/// `1`: SELinux refuses what no rule allows.
const ENFORCE: &str = "/sys/fs/selinux/enforce";
/// `Y`: AppArmor is on.
const APPARMOR: &str = "/sys/module/apparmor/parameters/enabled";
/// What this program runs as, with SELinux: `user:role:type:level`.
const CONTEXT: &str = "/proc/self/attr/current";
/// What a controller that was started by hand runs as.
const UNCONFINED: &str = "unconfined_t";

/// The policies of this host.
#[derive(Debug, Default, PartialEq, Eq)]
struct Policies {
    /// The type of this program, where SELinux enforces.
    selinux: Option<String>,
    apparmor: bool,
}

/// Looks whether the proxy has the host's sockets, and what may be in the way of that.
pub(super) fn examine(up: Option<&StatusReply>, findings: &mut Vec<Finding>) {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let policies = Policies::of(&read(ENFORCE), &read(APPARMOR), &read(CONTEXT));
    let published = up.map(|up| up.published.as_deref());
    findings.extend(policies.finding(published));
}

impl Policies {
    fn of(enforce: &str, apparmor: &str, context: &str) -> Self {
        let own = context.trim_end_matches(['\0', '\n']).split(':').nth(2);
        Self {
            selinux: (enforce.trim() == "1").then(|| own.unwrap_or(UNCONFINED).to_owned()),
            apparmor: apparmor.trim() == "Y",
        }
    }

    /// `published`: what `status` says, if the project is up: why its ports are published, if they are.
    fn finding(&self, published: Option<Option<&str>>) -> Option<Finding> {
        let allow = self.allow();
        match (published, allow) {
            (Some(None), _) => Some(Finding::ok("sockets", "the proxy has the host's sockets")),
            (Some(Some(why)), allow) => Some(Finding::warning(
                "sockets",
                format!("the proxy's ports are published: {why}"),
                match allow {
                    Some(allow) => format!("`crossfade down`; {allow}; `crossfade up`"),
                    None => "`crossfade down` and `crossfade up`, once the reason is gone".into(),
                },
            )),
            (None, Some(allow)) if self.selinux.is_some() => Some(Finding::warning(
                "sockets",
                "SELinux is enforcing: without a rule for it, a container may not connect to the \
                 controller, which passes it the host's sockets; then `up` publishes ports instead",
                allow,
            )),
            (None, _) => None,
        }
    }

    /// What has to be allowed, and how.
    fn allow(&self) -> Option<String> {
        if let Some(own) = &self.selinux {
            return Some(format!(
                "as root: `echo '(allow container_t {own} (unix_stream_socket (connectto)))\
                 (allow container_t {own} (tcp_socket (accept getattr getopt ioctl listen read setopt \
                 write)))' > crossfade.cil && semodule -i crossfade.cil` (`ausearch -m avc -ts recent` \
                 names anything more that was refused)"
            ));
        }
        self.apparmor.then(|| {
            "allow `unix,` and `network,` in the AppArmor profile of the containers (`journalctl -k \
             --grep apparmor.*DENIED` names what was refused)"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    const CONTROLLER: &str = "system_u:system_r:unconfined_service_t:s0\0";

    #[track_caller]
    fn check(policies: [&str; 2], published: Option<Option<&str>>, says: Option<(&str, &str)>) {
        let found = Policies::of(policies[0], policies[1], CONTROLLER).finding(published);
        match (found, says) {
            (None, None) => {}
            (Some(found), Some((text, fix))) => {
                assert!(found.text.contains(text), "{found:?}");
                assert!(found.fix.unwrap_or_default().contains(fix));
            }
            (found, says) => panic!("{found:?}, not {says:?}"),
        }
    }

    #[test]
    fn what_a_policy_has_to_allow_is_said_with_how() {
        let refused = Some(Some("the proxy has ended: not permitted"));
        let rule = "(allow container_t unconfined_service_t (unix_stream_socket (connectto)))";
        check(["1\n", ""], None, Some(("SELinux is enforcing", rule)));
        check(
            ["1", ""],
            refused,
            Some(("the proxy has ended: not permitted", rule)),
        );
        check(
            ["0", "Y\n"],
            refused,
            Some(("are published", "`unix,` and `network,`")),
        );
        check(
            ["", ""],
            refused,
            Some(("are published", "once the reason is gone")),
        );
    }

    #[test]
    fn where_nothing_is_in_the_way_nothing_is_to_be_done() {
        check(["", ""], None, None);
        check(["0", "Y"], None, None);
        let found = Policies::of("1", "", CONTROLLER).finding(Some(None));
        assert_eq!(found.map(|found| found.state), Some(State::Ok));
    }
}
