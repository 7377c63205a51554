//! Figures in tables: one row for each figure, one column for each measurement, or for the median and each
//! time where a measurement was made several times.

use comfy_table::{CellAlignment, ContentArrangement, Table};
use owo_colors::OwoColorize as _;

use super::{duration, one_line, size};
use crate::cli::bench::figures::Figures;
use crate::cli::bench::report::{Measured, Report, ScenarioReport};

/// Columns of measurements that stand side by side.
const SIDE_BY_SIDE: usize = 5;

/// All scenarios, each under its name.
pub(in crate::cli) fn lines(report: &Report) -> Vec<String> {
    report.scenarios.iter().flat_map(scenario).collect()
}

/// Some figures in one line.
pub(in crate::cli) fn line(title: &str, figures: &Figures) -> String {
    let figures = figures.iter().map(|(name, figure)| format!("{} {}", label(name), value(name, figure)));
    [title.to_owned()].into_iter().chain(figures).collect::<Vec<_>>().join("  ")
}

fn scenario(found: &ScenarioReport) -> Vec<String> {
    let mut lines = vec![found.scenario.bold().to_string()];
    for together in alike(&found.measurements) {
        lines.extend(table(together));
        lines.push(String::new());
    }
    for measured in &found.measurements {
        for (kind, count) in &measured.errors {
            lines.push(format!("{} {}: {count} × {}", "errors".red(), measured.name, one_line(kind)));
        }
    }
    lines
}

/// Measurements that fit beside each other: of the same figures, made once, not too many.
fn alike(measurements: &[Measured]) -> Vec<&[Measured]> {
    let names = |measured: &Measured| measured.figures.iter().map(|(name, _)| name.to_owned()).collect();
    let is_alike = |a: &Measured, b: &Measured| {
        let (a_names, b_names): (Vec<String>, Vec<String>) = (names(a), names(b));
        a.repeats.len() == 1 && a_names == b_names
    };
    measurements.chunk_by(is_alike).flat_map(|group| group.chunks(SIDE_BY_SIDE)).collect()
}

fn table(together: &[Measured]) -> Vec<String> {
    let Some(first) = together.first() else { return Vec::new() };
    let columns: Vec<_> = match together {
        [one] if one.repeats.len() > 1 => {
            let median = [(format!("{}: median", one.name), &one.figures)];
            let times = one.repeats.iter().enumerate();
            let times = times.map(|(number, figures)| (format!("{}", number + 1), figures));
            median.into_iter().chain(times).collect()
        }
        several => several.iter().map(|one| (one.name.clone(), &one.figures)).collect(),
    };
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header([String::new()].into_iter().chain(columns.iter().map(|(title, _)| title.clone())));
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for (name, _) in first.figures.iter() {
        let values = columns.iter().map(|(_, figures)| value(name, figures.get(name)));
        table.add_row([label(name)].into_iter().chain(values));
    }
    let lines = table.lines().enumerate().map(|(number, line)| {
        let line = format!("  {}", line.trim_end());
        if number == 0 { line.dimmed().to_string() } else { line }
    });
    lines.collect()
}

/// A figure's name without its unit, for people.
fn label(name: &str) -> String {
    if let Some(compared) = name.strip_suffix("_ratio") {
        return format!("{} ratio", label(compared));
    }
    let plain = ["_ms", "_us", "_bytes"].into_iter().find_map(|unit| name.strip_suffix(unit));
    let plain = plain
        .map_or_else(|| name.replace("_us_per_", "_per_").replace("_bytes_per_", "_per_"), str::to_owned);
    plain.replace("_per_second", "/s").replace("_per_", " per ").replace('_', " ").replace("cpu", "CPU")
}

/// A figure with its unit, for people.
fn value(name: &str, value: Option<f64>) -> String {
    let Some(value) = value else { return "-".to_owned() };
    if name.ends_with("_ratio") {
        return format!("{value:.2}");
    }
    let whole = value.round() as u64;
    if name.ends_with("_bytes") || name.contains("_bytes_per_") {
        return size(whole);
    }
    if name.contains("_us_per_") {
        return format!("{} µs", number(value));
    }
    if name.ends_with("_us") {
        return format!("{:.3} ms", value / 1_000.0);
    }
    if name.ends_with("_ms") {
        return duration(whole);
    }
    number(value)
}

/// A number with as many digits as can be trusted, in groups of three: `8,012`, `12.5`.
fn number(value: f64) -> String {
    if value.fract() != 0.0 && value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{}", value.round() as i64);
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |digits| ("-", digits));
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    format!("{sign}{}", groups.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        let shown = [
            ("orders_per_second", Some(8_012.4)),
            ("orders_per_flush", Some(12.5)),
            ("p50_us", Some(1_234.0)),
            ("host_cpu_ms", Some(2_350.0)),
            ("host_cpu_us_per_order", Some(231.7)),
            ("host_peak_memory_bytes", Some(157_286_400.0)),
            ("written_bytes", None),
            ("flushes", Some(1_234_567.0)),
            ("host_cpu_us_per_order_ratio", Some(1.0)),
            ("input_bytes_per_second", Some(2_097_152.0)),
        ];
        let lines: Vec<String> =
            shown.iter().map(|(name, figure)| format!("{}: {}", label(name), value(name, *figure))).collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        orders/s: 8,012
        orders per flush: 12.50
        p50: 1.234 ms
        host CPU: 2.35 s
        host CPU per order: 232 µs
        host peak memory: 150.0 MB
        written: -
        flushes: 1,234,567
        host CPU per order ratio: 1.00
        input/s: 2.0 MB
        ");
    }
}
