//! The report for programs: one object on one line.

use super::Report;
use crate::handover::{Anchor, Payload, check_rate, check_us, milliseconds};
use crate::text::quoted;

/// Everything in the record, the spans, and what is missing of them.
pub(crate) fn json(report: &Report) -> String {
    let h = &report.handover;
    let s = &report.stamps;
    let mut out = Object::new();
    out.text("arch", &report.arch.to_string());
    for (key, value) in [
        ("cato", &h.cato),
        ("entry", &h.entry),
        ("title", &h.title),
        ("why", &h.why),
        ("slot", &h.slot),
        ("passed_over", &h.passed_over),
        ("arena", &h.arena),
        ("check", &h.check),
    ] {
        out.text(key, value);
    }
    out.raw("kexecs", &h.kexecs.to_string());
    let Payload { kernel, initrd, dtb } = h.payload;
    let mut payload = Object::new();
    for (key, bytes) in [("kernel", kernel), ("initrd", initrd), ("dtb", dtb)] {
        payload.raw(key, &bytes.to_string());
    }
    out.raw("payload", &payload.end());
    out.raw("copied", &h.copied.to_string());
    out.raw("read", &h.read.to_string());
    let counter = h.counter.map(|Anchor { at, us }| {
        let mut anchor = Object::new();
        anchor.raw("at", &at.to_string());
        anchor.time("ms", Some(us));
        anchor.end()
    });
    out.raw("counter", &counter.unwrap_or_else(null));
    out.time("firmware_ms", h.firmware_us);
    let phases = h.phases.iter().map(|phase| {
        let mut object = Object::new();
        object.text("name", &phase.name);
        object.time("ms", Some(phase.us));
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
    out.time("check_ms", check_us(s));
    out.raw("check_mb_s", &check_rate(s).map_or_else(null, |rate| rate.to_string()));
    out.raw(
        "from_power_on",
        if report.timeline.from_power_on { "true" } else { "false" },
    );
    out.time("total_ms", Some(report.timeline.total_us()));
    let spans = report.timeline.spans.iter().map(|span| {
        let mut object = Object::new();
        object.text("name", &span.name);
        object.text("label", &span.label);
        object.text("owner", span.owner.name());
        object.time("start_ms", Some(span.start_us));
        object.time("end_ms", Some(span.end_us));
        object.time("took_ms", Some(span.took_us()));
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

    /// In milliseconds, given microseconds.
    fn time(&mut self, key: &str, us: Option<i64>) {
        self.raw(key, &us.map_or_else(null, milliseconds));
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}
