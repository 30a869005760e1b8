use std::fs;

use proptest::prelude::*;

use super::*;
use crate::handover::{Anchor, Payload, Phase, Pid1};
use purgatory::Record;
use zerocopy::IntoBytes as _;

/// A record as it comes out of a boot; its counter has 62.5 MHz.
fn record() -> (Record, Handover) {
    let phases = [
        ("service", 0),
        ("start", 1_487_200),
        ("select", 1_509_800),
        ("probe", 1_512_500),
        ("budget", 1_702_300),
        ("reserve", 1_704_100),
        ("load", 1_822_600),
        ("verify", 2_131_900),
        ("layout", 2_132_200),
        ("kexec", 2_140_700),
    ];
    let at = |us: u64| us * 125 / 2 + 31_250_000;
    let handover = Handover {
        cato: "0.1.0".into(),
        entry: "a".into(),
        title: "appliance 2.4.1 <beta> & \"more\"".into(),
        why: "first in order".into(),
        slot: "B".into(),
        nonce: String::new(),
        passed_over: String::new(),
        kexecs: 1,
        arena: "in place".into(),
        check: "fast".into(),
        payload: Payload {
            kernel: 37_719_552,
            initrd: 64_123_904,
            dtb: 65_544,
        },
        copied: 49_152,
        read: 78_211_072,
        counter: Some(Anchor {
            at: at(2_140_000),
            us: 2_140_000,
        }),
        firmware_us: Some(500_000),
        phases: phases
            .into_iter()
            .map(|(name, us)| Phase { name: name.into(), us })
            .collect(),
    };
    let stamps = Record {
        jump: at(2_152_900),
        hz: 62_500_000,
        entered: at(2_160_600),
        checked: at(2_195_700),
        left: at(2_197_900),
        bytes: 101_908_480,
        flags: 1,
        ..Record::default()
    };
    (stamps, handover)
}

fn main_linux() -> Main {
    Main {
        counter: 31_250_000 + 62_500 * (2197 + 61 + 20_000),
        hz: None,
        uptime_us: 20_000_000,
        error_us: 0,
        pid1: Some(Pid1 {
            us: 1_893_400,
            by: "PID 1 by the kernel's log",
        }),
    }
}

fn bytes(stamps: &Record, handover: &Handover) -> Vec<u8> {
    let mut bytes = handover.to_bytes(handover.room());
    bytes[..Record::SIZE].copy_from_slice(stamps.as_bytes());
    bytes
}

/// A root folder of an x86_64 machine that has `record` as a setup_data node.
fn root(record: &[u8]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let node = root.path().join("sys/kernel/boot_params/setup_data/3");
    fs::create_dir_all(&node).unwrap();
    fs::write(node.join("type"), "0x4f544143\n").unwrap();
    fs::write(node.join("data"), record).unwrap();
    root
}

fn sample() -> Report {
    let (stamps, handover) = record();
    report(root(&bytes(&stamps, &handover)).path(), main_linux).unwrap()
}

#[test]
fn the_table_has_every_phase_and_the_rate() {
    let text = text(&sample());
    for line in [
        "cato     0.1.0, x86_64",
        "entry    \"a\" (appliance 2.4.1 <beta> & \"more\"): first in order",
        "arena    in place; 49.2 kB copied by the service kernel",
        "check    fast: 101.9 MB in 35.1 ms (2903 MB/s)",
        "total    4.651 s from power-on to the main Linux' PID 1",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
    }
    let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    assert!(rows.iter().any(|r| r[..]
        == [
            "check",
            "purgatory",
            "2660.600",
            "35.100",
            "101.9",
            "MB,",
            "2903",
            "MB/s"
        ]));
    assert_eq!(
        text.lines().skip_while(|l| !l.starts_with("phase")).count(),
        17,
        "{text}"
    );
    assert!(!text.contains("not known"));
}

#[test]
fn the_object_is_json_with_everything() {
    let value: serde_json::Value = serde_json::from_str(&json(&sample())).unwrap();
    assert_eq!(value["entry"], "a");
    assert_eq!(value["title"], "appliance 2.4.1 <beta> & \"more\"");
    assert_eq!(value["payload"]["initrd"], 64_123_904);
    assert_eq!(value["stamps"]["written"], true);
    assert_eq!(value["stamps"]["hz"], 62_500_000);
    assert_eq!(value["firmware_ms"], 500.0);
    assert_eq!(value["check_ms"], 35.1);
    assert_eq!(value["phases"].as_array().unwrap().len(), 10);
    assert_eq!(value["counter"]["ms"], 2140.0);
    let spans = value["spans"].as_array().unwrap();
    assert_eq!(spans.len(), 16);
    assert_eq!(
        (spans[12]["name"].as_str(), spans[12]["owner"].as_str()),
        (Some("check"), Some("purgatory"))
    );
    assert_eq!(value["missing"], serde_json::json!([]));
}

#[test]
fn a_bare_record_is_a_report_too() {
    let report = report(
        root(&bytes(&Record::default(), &Handover::default())).path(),
        main_linux,
    )
    .unwrap();
    let value: serde_json::Value = serde_json::from_str(&json(&report)).unwrap();
    assert_eq!(
        (&value["counter"], &value["firmware_ms"]),
        (&serde_json::Value::Null, &serde_json::Value::Null)
    );
    assert_eq!(value["spans"], serde_json::json!([]));
    assert!(text(&report).contains("not known"));
    assert!(svg(&report).contains("not known"));
}

#[test]
fn no_record_and_no_sense_are_said() {
    let empty = tempfile::tempdir().unwrap();
    let said = |root: &Path| report(root, main_linux).unwrap_err().to_string();
    assert!(said(empty.path()).starts_with("no hand-over record: Cato did not start this kernel"));
    assert!(said(root(b"junk").path()).contains("4 bytes"));
}

/// Where the picture can be looked at: `CATO_SVG=FOLDER`.
#[test]
fn the_picture_has_every_phase_and_the_enlarged_part() {
    let report = sample();
    let picture = svg(&report);
    if let Some(folder) = std::env::var_os("CATO_SVG") {
        fs::write(Path::new(&folder).join("report.svg"), &picture).unwrap();
    }
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    for span in &report.timeline.spans {
        assert!(picture.contains(&format!(">{}</text>", span.label)), "{}", span.label);
    }
    assert!(picture.contains("between the kernels") && picture.contains("2903 MB/s"));
    assert!(picture.contains("appliance 2.4.1 &lt;beta&gt; &amp; &quot;more&quot;"));
    assert_eq!(picture.matches("<svg").count(), 1);
}

proptest! {
    #[test]
    fn whatever_a_record_holds_all_forms_are_whole(
        texts in prop::array::uniform4(any::<String>()),
        phases in prop::collection::vec((any::<String>(), any::<i64>()), 0..6),
        counter in any::<u64>(),
        words in prop::array::uniform7(any::<u64>()),
    ) {
        let [entry, title, arena, why] = texts;
        let (_, whole) = record();
        let handover = Handover {
            entry, title, arena, why,
            phases: phases.into_iter().map(|(name, us)| Phase { name, us }).chain(whole.phases.clone()).collect(),
            ..whole
        };
        let [jump, hz, entered, checked, left, bytes, flags] = words;
        let stamps = Record { jump, hz, entered, checked, left, bytes, flags, ..Record::default() };
        let main = Main { counter, ..main_linux() };
        let timeline = Timeline::new(&stamps, &handover, Some(&main));
        let report = Report { arch: Arch::Arm64, handover, stamps, timeline };
        prop_assert!(serde_json::from_str::<serde_json::Value>(&json(&report)).is_ok());
        let picture = svg(&report);
        prop_assert_eq!(picture.matches('<').count(), picture.matches('>').count());
        prop_assert!(text(&report).lines().count() < 100);
    }
}
