//! The chart in RESULTS.md: CPU time of each proxy relative to nginx, by workload.

use std::path::Path;

use plotters::prelude::*;

use crate::error::{Error, Result};
use crate::peers::Peer;
use crate::results::{Results, Workload};

/// Workloads that compare proxies. The others compare crossfade with itself.
const SHOWN: [&str; 10] = [
    "small",
    "small512",
    "medium",
    "large",
    "post",
    "connect",
    "rate",
    "tls",
    "handshake",
    "h2",
];
/// The ratio at which bars are cut off. The label has the actual ratio.
const MOST: f64 = 3.0;
const BAR: i32 = 16;
const GAP: i32 = 18;
const LEFT: i32 = 110;
const WIDTH: i32 = 760;
const TOP: i32 = 60;

/// Draws the chart into a file. Without ratios to nginx it writes no file.
pub(crate) fn draw(results: &Results, file: &Path) -> Result<()> {
    let shown: Vec<&Workload> = results
        .workloads
        .iter()
        .filter(|workload| {
            SHOWN.contains(&workload.name.as_str()) && workload.base == Peer::Nginx.name()
        })
        .collect();
    if shown.is_empty() {
        return Ok(());
    }
    let bars: i32 = shown
        .iter()
        .map(|workload| workload.rows.len() as i32)
        .sum();
    let height = TOP + bars * BAR + shown.len() as i32 * GAP + 30;
    chart(&shown, height, file).map_err(|error| Error::Plot(error.to_string()))
}

fn chart(
    shown: &[&Workload],
    height: i32,
    file: &Path,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(file, (WIDTH as u32, height as u32)).into_drawing_area();
    // The page around it may be dark.
    root.fill(&WHITE)?;
    let font = |size: u32| ("sans-serif", size).into_font();
    let title = "CPU time of the proxy relative to nginx (shorter is better)";
    root.draw(&Text::new(title, (10, 10), font(20).color(&BLACK)))?;

    let scale = f64::from(WIDTH - LEFT - 120) / MOST;
    let x = |ratio: f64| LEFT + (ratio.min(MOST) * scale) as i32;
    let mut y = TOP;
    for workload in shown {
        root.draw(&Text::new(
            workload.name.as_str(),
            (10, y),
            font(17).color(&BLACK),
        ))?;
        for row in &workload.rows {
            let Some(cpu) = row.estimates.cpu.filter(|cpu| cpu.ratio.is_finite()) else {
                continue;
            };
            let corners = [(LEFT, y + 1), (x(cpu.ratio), y + BAR - 1)];
            root.draw(&Rectangle::new(corners, colour(row.peer).filled()))?;
            let label = format!("{} {:.2}", row.label, cpu.ratio);
            let at = (x(cpu.ratio) + 5, y + 2);
            root.draw(&Text::new(label, at, font(14).color(&BLACK)))?;
            y += BAR;
        }
        y += GAP;
    }
    let line = [(x(1.0), TOP - 10), (x(1.0), y - GAP + 5)];
    root.draw(&PathElement::new(line, BLACK.mix(0.5)))?;
    root.draw(&Text::new(
        "nginx",
        (x(1.0) - 14, TOP - 24),
        font(15).color(&BLACK),
    ))?;
    root.present()?;
    Ok(())
}

const fn colour(peer: Peer) -> RGBColor {
    match peer {
        Peer::Crossfade => RGBColor(214, 73, 51),
        Peer::HaproxyTcp | Peer::Origin => RGBColor(205, 205, 205),
        _ => RGBColor(120, 144, 168),
    }
}
