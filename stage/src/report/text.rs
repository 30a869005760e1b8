//! The report for people.

use std::fmt::Write as _;

use super::{Report, check, entry, payload, total};
use crate::handover::{megabytes, milliseconds};

/// A few lines of what was booted, then the table of spans, then what is not in it.
pub(crate) fn text(report: &Report) -> String {
    let h = &report.handover;
    let payload = format!("{}; {} read from the source", payload(report), megabytes(h.read));
    let arena = format!("{}; {} copied by the service kernel", h.arena, megabytes(h.copied));
    let mut out = String::new();
    // A String takes every write. The record's texts may hold anything.
    for (key, value) in [
        ("cato", &format!("{}, {}", h.cato, report.arch)),
        ("entry", &format!("{}: {}", entry(report), h.why)),
        ("payload", &payload),
        ("arena", &arena),
        ("check", &check(report)),
        ("total", &total(report)),
    ] {
        let _ = writeln!(out, "{key:<8} {}", clean(value));
    }
    let _ = writeln!(
        out,
        "\n{:<34} {:<14} {:>11} {:>11}",
        "phase", "whose", "from ms", "took ms"
    );
    for span in &report.timeline.spans {
        let line = format!(
            "{:<34} {:<14} {:>11} {:>11}  {}",
            clean(&span.label),
            span.owner.name(),
            milliseconds(span.start_us),
            milliseconds(span.took_us()),
            clean(&span.note)
        );
        let _ = writeln!(out, "{}", line.trim_end());
    }
    for (n, missing) in report.timeline.missing.iter().enumerate() {
        let lead = if n == 0 { "\nnot known  " } else { "           " };
        let _ = writeln!(out, "{lead}{}", clean(missing));
    }
    out
}

fn clean(text: &str) -> String {
    text.replace(char::is_control, " ")
}
