//! Prints what any server makes of the cases of HTTP/2:
//! `cargo run -p tests --example http2_conformance 127.0.0.1:8080`. What it has to be like for
//! that is said in `tests::http2`.

use std::process::ExitCode;

use tests::http2::{self, Report, cases};

fn main() -> ExitCode {
    let address = std::env::args().nth(1);
    let Some(address) = address.and_then(|address| address.parse().ok()) else {
        eprintln!("usage: http2_conformance IP:PORT");
        return ExitCode::from(64);
    };
    let mut all = Report::default();
    for (section, cases) in cases::SECTIONS {
        let report = http2::run(address, cases);
        print!("{section}: {report}");
        all.add(report);
    }
    let (cases, failed) = (all.cases, all.failures.len());
    let others = all.other_codes.len();
    println!(
        "{} of {cases} pass, {others} with another code",
        cases - failed
    );
    ExitCode::from(u8::from(failed > 0))
}
