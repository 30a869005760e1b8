//! The report for programs: one object on one line.

use super::Report;
use crate::handover::decimal::Decimal;
use crate::handover::{Anchor, Payload};
use crate::text::quoted;

/// Everything in the record, the spans, and what is missing of them.
pub fn json(report: &Report) -> String {
    let h = &report.handover;
    let s = &report.stamps;
    let mut out = Object::new();
    out.text("arch", &report.arch.to_string());
    for (key, value) in [
        ("cato", &h.cato),
        ("entry", &h.entry),
        ("title", &h.title),
        ("why", &h.why),
        ("arena", &h.arena),
        ("check", &h.check),
    ] {
        out.text(key, value);
    }
    let Payload { kernel, initrd, dtb } = h.payload;
    let mut payload = Object::new();
    for (key, bytes) in [("kernel", kernel), ("initrd", initrd), ("dtb", dtb)] {
        payload.raw(key, &bytes.to_string());
    }
    out.raw("payload", &payload.end());
    out.raw("copied", &h.copied.to_string());
    out.raw("read", &h.read.to_string());
    let counter = h.counter.map(|Anchor { at, ms }| {
        let mut anchor = Object::new();
        anchor.raw("at", &at.to_string());
        anchor.number("ms", Some(ms));
        anchor.end()
    });
    out.raw("counter", &counter.unwrap_or_else(null));
    out.number("firmware_ms", h.firmware_ms);
    let phases = h.phases.iter().map(|phase| {
        let mut object = Object::new();
        object.text("name", &phase.name);
        object.number("ms", Some(phase.ms));
        object.end()
    });
    out.raw("phases", &list(phases));
    let mut stamps = Object::new();
    stamps.raw("written", if s.written() { "true" } else { "false" });
    for (key, value) in [
        ("jump", s.jump),
        ("hz", s.hz),
        ("entered", s.entered),
        ("checked", s.checked),
        ("left", s.left),
        ("bytes", s.bytes),
        ("flags", s.flags),
    ] {
        stamps.raw(key, &value.to_string());
    }
    out.raw("stamps", &stamps.end());
    out.number("check_ms", s.check_ms());
    out.number("check_mb_s", s.check_rate());
    out.raw(
        "from_power_on",
        if report.timeline.from_power_on { "true" } else { "false" },
    );
    out.number("total_ms", Some(report.timeline.total_ms()));
    let spans = report.timeline.spans.iter().map(|span| {
        let mut object = Object::new();
        object.text("name", &span.name);
        object.text("label", &span.label);
        object.text("owner", span.owner.name());
        object.number("start_ms", Some(span.start_ms));
        object.number("end_ms", Some(span.end_ms));
        object.number("took_ms", Some(span.took_ms()));
        object.text("note", &span.note);
        object.end()
    });
    out.raw("spans", &list(spans));
    out.raw("missing", &list(report.timeline.missing.iter().map(|m| quoted(m))));
    out.end()
}

fn null() -> String {
    "null".to_owned()
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

struct Object(String);

impl Object {
    fn new() -> Self {
        Self(String::from("{"))
    }

    fn raw(&mut self, key: &str, value: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&quoted(key));
        self.0.push(':');
        self.0.push_str(value);
    }

    fn text(&mut self, key: &str, value: &str) {
        self.raw(key, &quoted(value));
    }

    fn number(&mut self, key: &str, value: Option<f64>) {
        // JSON has neither infinity nor NaN.
        let value = value
            .filter(|v| v.is_finite())
            .map_or_else(null, |v| Decimal(v, 3).to_string());
        self.raw(key, &value);
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}
