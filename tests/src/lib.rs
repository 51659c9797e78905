//! The language in which the end-to-end tests are written: a real proxy, real endpoints, a
//! client that sees every failure, and waiting for conditions in place of sleeping.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by panicking, and all of this is for tests"
)]

mod admin_port;
mod blackhole;
mod certificates;
pub mod controller_kills;
mod demo;
mod endpoint;
mod fault_injection;
mod grpc;
pub mod http2;
pub mod latency_limits;
pub mod listening;
mod load;
pub mod manifests;
pub mod neighbour;
mod ports;
mod process_stats;
mod program;
mod project;
mod proxy;
mod proxy_kills;
pub mod recovery;
mod reply;
pub mod scenarios;
mod scripted;
mod streams;
mod traces;
pub mod upgrades;
mod wait;
pub mod zero_downtime;

pub use admin_port::AdminPort;
pub use blackhole::Blackhole;
pub use certificates::{TestCa, TlsClient};
pub use demo::TestDemo;
pub use endpoint::TestEndpoint;
pub use grpc::GrpcHealth;
pub use load::{Load, Seen};
pub use ports::free_address;
pub use process_stats::ProcessStats;
pub use program::{Finished, Running, bin_dir, from_workspace, program};
pub use project::{On, Settings, TestProject, traces_of};
pub use proxy::TestProxy;
pub use proxy_kills::FIRST_RESPONSE;
pub use reply::{Reply, get, raw, send, try_send};
pub use scripted::{Heard, ScriptedEndpoint};
pub use streams::{MAX_STREAMS, StreamClient, StreamEndpoint, StreamReply, read_out, send_out};
pub use traces::{Process, podman, processes_of};
pub use wait::{DEADLINE, wait_until, within};
