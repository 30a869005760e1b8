//! The hand-over record: what the main system's `cato report` says of the boot that the console shows.

use std::time::Duration;

use anyhow::{Result, ensure};
use config::Arch::{self, Arm64, X86_64};
use config::Arena;
use qemu::chain::Initrd;
use qemu::console::Line;
use qemu::machine::Firmware::{self, Direct, UBoot, Uefi};
use qemu::scenario::{Context, Scenario};
use qemu::setup::Suite::{Bookworm, Trixie};
use qemu::timeline::Timeline;
use serde_json::Value;

/// What the machine takes before its counter runs, and what the console's times are late by.
const SLACK_MS: f64 = 1500.0;

#[derive(Debug, Clone, Copy)]
struct Case {
    arch: Arch,
    firmware: Firmware,
    check: &'static str,
    arena: &'static str,
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    let cases = [
        ("fast", Arm64, Direct, "fast", false),
        ("sha256", Arm64, Direct, "sha256", true),
        ("off", Arm64, Direct, "off", true),
        ("u-boot", Arm64, UBoot, "fast", true),
        // ACPI: the record is in a tree that has nothing but /chosen.
        ("uefi", Arm64, Uefi, "fast", true),
        ("fast", X86_64, Direct, "fast", false),
        ("sha256", X86_64, Direct, "sha256", true),
        ("uefi", X86_64, Uefi, "fast", true),
    ];
    let mut all = Vec::new();
    for (name, arch, firmware, check, long) in cases {
        for arena in ["auto", "segments"] {
            let name = format!("report/{arch}/{name}/{arena}");
            let case = Case {
                arch,
                firmware,
                check,
                arena,
            };
            let scenario = Scenario::new(name, move |context| said_of_itself(context, case));
            all.push(scenario.long_if(long || arena == "segments"));
        }
    }
    all
}

fn said_of_itself(context: &Context, case: Case) -> Result<()> {
    let mut chain = context.chain(case.arch, Bookworm, Trixie)?;
    chain.machine.firmware = case.firmware;
    chain.initrd = Initrd::ReportWithCato;
    if case.arena == "segments" {
        chain.arena = Arena::Segments;
    }
    let keys = format!("\ncheck = \"{}\"\ncmdline = ", case.check);
    chain.config = Some(chain.usual_config().replace("\ncmdline = ", &keys));
    let (report, mut vm) = context.boots(&chain)?;
    // It powers off by itself; one that does not has reported all the same.
    let _ = vm.wait_end(Duration::from_secs(10));
    let said = report.get("handover").map(serde_json::from_str::<Value>);
    let said = match said {
        Some(Ok(value)) => value,
        Some(Err(error)) => return Err(vm.failure(&format!("`cato report --json` is no JSON: {error}"))),
        None => {
            let why = report.get("handover-error").unwrap_or("nothing");
            return Err(vm.failure(&format!("`cato report` said {why}")));
        }
    };
    let mut problems = Problems::default();
    problems.fields(&said, case);
    problems.stamps(&said, case);
    problems.spans(&said, case);
    problems.against_console(&said, &vm.lines());
    for form in ["handover-text", "handover-svg"] {
        problems.form(&said, form, report.get(form).unwrap_or_default());
    }
    ensure!(
        problems.0.is_empty(),
        vm.failure(&format!("{}\n{said}", problems.0.join("\n")))
    );
    Ok(())
}

/// What is not as the scenario and the console have it.
#[derive(Debug, Default)]
struct Problems(Vec<String>);

impl Problems {
    fn expect(&mut self, is: bool, what: impl Into<String>) {
        if !is {
            self.0.push(what.into());
        }
    }

    fn fields(&mut self, said: &Value, case: Case) {
        let text = |key: &str| said[key].as_str().unwrap_or_default();
        let arena = if case.arena == "auto" { "in place" } else { "segments" };
        for (key, wanted) in [("arch", &*case.arch.to_string()), ("entry", "a"), ("check", case.check)] {
            self.expect(text(key) == wanted, format!("{key}: {:?}, not {wanted:?}", text(key)));
        }
        self.expect(
            text("arena").starts_with(arena),
            format!("arena: {:?}, not {arena:?}", text("arena")),
        );
        self.expect(!text("why").is_empty(), "no word of why this entry");
        self.expect(
            sizes(said).iter().all(|n| *n > 1_000_000),
            format!("payload: {}", said["payload"]),
        );
    }

    fn stamps(&mut self, said: &Value, case: Case) {
        let stamps = &said["stamps"];
        let stamp = |key: &str| stamps[key].as_u64().unwrap_or(0);
        self.expect(stamps["written"] == true, "the purgatory wrote no stamps");
        self.expect(stamp("hz") >= 1_000_000, format!("hz: {}", stamp("hz")));
        // The jump can't be stamped where the record is copied before it.
        let order = ["jump", "entered", "checked", "left"].map(stamp);
        self.expect(order.is_sorted() && stamp("entered") != 0, format!("stamps: {order:?}"));
        let (bytes, payload) = (stamp("bytes"), sizes(said).iter().sum::<u64>());
        if case.check == "off" {
            self.expect(bytes == 0, format!("{bytes} bytes checked by \"off\""));
        } else {
            self.expect(bytes > payload / 2, format!("{bytes} bytes checked of {payload}"));
            self.expect(number(&said["check_mb_s"]) > 0.0, "the check's rate is not known");
        }
    }

    fn spans(&mut self, said: &Value, case: Case) {
        let spans = spans(said);
        for name in [
            "service", "start", "select", "probe", "load", "layout", "check", "exit", "early", "main",
        ] {
            let is = spans.iter().any(|s| s.name == name);
            self.expect(is, format!("no span {name:?}; missing: {}", said["missing"]));
        }
        let way = if case.arena == "auto" { "leave" } else { "hand-off" };
        let is = spans.iter().any(|s| s.name == way);
        self.expect(is, format!("no span {way:?}; missing: {}", said["missing"]));
        let mut before = 0.0;
        for Span { name, start, end } in &spans {
            self.expect(
                *start >= before - 0.002 && end >= start,
                format!("{name}: from {start} to {end} ms, after {before} ms"),
            );
            before = *end;
        }
        // QEMU's counters start with the machine.
        self.expect(said["from_power_on"] == true, "the firmware's time is not known");
        let (took, least) = (
            number(&said["firmware_ms"]),
            if case.firmware == Direct { 0.0 } else { 300.0 },
        );
        self.expect(
            took >= least,
            format!("the firmware took {took} ms, not {least} or more"),
        );
    }

    /// Table and picture have every span, and nothing is cut off.
    fn form(&mut self, said: &Value, form: &str, text: &str) {
        for span in said["spans"].as_array().into_iter().flatten() {
            let label = span["label"].as_str().unwrap_or("?");
            self.expect(text.contains(label), format!("{form}: no {label:?}"));
        }
        let whole = text.starts_with("<svg ") && text.ends_with("</svg>");
        self.expect(
            form != "handover-svg" || whole,
            format!("{form} is no picture: {text:.80}"),
        );
    }

    /// The console's times begin with QEMU's process and end with the main system's report.
    fn against_console(&mut self, said: &Value, lines: &[Line]) {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of one boot")]
        let ms = |at: Option<u64>| at.map_or(f64::NAN, |ms| ms as f64);
        let console = Timeline::last(lines);
        let (total, end) = (number(&said["total_ms"]), ms(console.report));
        self.expect(
            total > 0.0 && total < end + SLACK_MS,
            format!("{total} ms in all, by the console {end}"),
        );
        let inside = ["check", "exit"];
        let purgatory: f64 = spans(said)
            .iter()
            .filter(|s| inside.contains(&s.name.as_str()))
            .map(|s| s.end - s.start)
            .sum();
        let dead = ms(console.main) - ms(console.bye.or(console.jump));
        self.expect(
            purgatory <= dead + SLACK_MS,
            format!("{purgatory} ms in the purgatory, by the console {dead} ms without a kernel"),
        );
    }
}

#[derive(Debug)]
struct Span {
    name: String,
    start: f64,
    end: f64,
}

fn spans(said: &Value) -> Vec<Span> {
    let all = said["spans"].as_array().into_iter().flatten();
    all.map(|span| Span {
        name: span["name"].as_str().unwrap_or_default().to_owned(),
        start: number(&span["start_ms"]),
        end: number(&span["end_ms"]),
    })
    .collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// Kernel and initrd, bytes.
fn sizes(said: &Value) -> [u64; 2] {
    let payload = &said["payload"];
    [&payload["kernel"], &payload["initrd"]].map(|n| n.as_u64().unwrap_or(0))
}
