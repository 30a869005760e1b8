//! The manual, the schema and the example say what the parser does.

use std::time::Duration;

use config::{Access, Arena, Check, Config, Entry, ReasonStore, Source, Terminal, keys};
use serde_json::Value;

const MANUAL: &str = include_str!("../README.md");
const SCHEMA: &str = include_str!("../boot.schema.json");
const EXAMPLE: &str = include_str!("../boot.toml");

/// Where the properties of each table are in the schema, and the heading of its table in the manual.
const TABLES: [(&str, &str, &[&str]); 8] = [
    ("", "Top level", keys::ROOT),
    ("/properties/console", "`[console]`", keys::CONSOLE),
    ("/properties/purgatory", "`[purgatory]`", keys::PURGATORY),
    ("/properties/slots", "`[slots]`", keys::SLOTS),
    ("/properties/watchdog", "`[watchdog]`", keys::WATCHDOG),
    ("/properties/quiesce", "`[quiesce]`", keys::QUIESCE),
    ("/$defs/entry", "`[entry.NAME]`", keys::ENTRY),
    ("/$defs/entry/properties/sha256", "`[entry.NAME.sha256]`", keys::SHA256),
];

fn sorted<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names
}

#[test]
fn the_schema_has_exactly_the_keys_of_the_parser() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    for (pointer, _, keys) in TABLES {
        let table = schema.pointer(pointer).unwrap();
        let properties = table.get("properties").unwrap().as_object().unwrap();
        assert_eq!(
            sorted(properties.keys().map(String::as_str)),
            sorted(keys.iter().copied()),
            "{pointer}"
        );
        assert_eq!(
            table.get("additionalProperties"),
            Some(&Value::Bool(false)),
            "{pointer}"
        );
    }
}

#[test]
fn the_schema_requires_what_the_parser_requires() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let required = |pointer: &str| -> Vec<String> {
        let list = schema
            .pointer(pointer)
            .unwrap()
            .get("required")
            .map(|list| list.as_array().unwrap().clone());
        list.unwrap_or_default()
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    };
    let missing = |text: &str| {
        config::parse(text)
            .unwrap_err()
            .iter()
            .map(|p| p.message.clone())
            .collect::<String>()
    };
    for name in required("") {
        assert!(missing("").contains(&format!("no `{name}`")), "{name}");
    }
    for name in required("/$defs/entry") {
        assert!(
            missing("[entry.a]").contains(&format!("`[entry.a]` has no `{name}`")),
            "{name}"
        );
    }
    assert_eq!(config::parse("").unwrap_err().len(), required("").len());
    let both = "version = 1\norder = [\"a\"]\n[entry.a]\n";
    assert_eq!(config::parse(both).unwrap_err().len(), required("/$defs/entry").len());
}

#[test]
fn the_defaults_of_the_schema_are_those_of_the_parser() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let default = |pointer: &str| schema.pointer(pointer).unwrap().get("default").unwrap().clone();
    let config = config::parse("version=1\norder=['a']\nentry.a = {source='/a', kernel='Image'}").unwrap();
    let entry = config.entry("a").unwrap();
    assert_eq!(
        default("/properties/console/properties/countdown"),
        config.console.countdown.as_secs()
    );
    assert_eq!(
        default("/properties/console/properties/retry"),
        config.console.retry.as_secs()
    );
    let console = |key: &str| default(&format!("/properties/console/properties/{key}"));
    assert_eq!(console("stop"), config.console.stop);
    assert_eq!(console("menu_timeout"), config.console.menu_timeout.as_secs());
    assert_eq!(console("terminal"), config.console.terminal.to_string());
    assert_eq!(console("access"), config.console.access.to_string());
    assert_eq!(default("/properties/slots/properties/tries"), config.slots.tries);
    assert_eq!(entry.slot, None);
    assert_eq!(config.watchdog, None);
    let with_table =
        config::parse("version=1\norder=['a']\nwatchdog={}\nentry.a = {source='/a', kernel='Image'}").unwrap();
    let timeout = with_table.watchdog.unwrap().as_secs();
    assert_eq!(default("/properties/watchdog/properties/timeout"), timeout);
    assert_eq!(default("/$defs/entry/properties/cmdline"), entry.cmdline);
    assert_eq!(default("/$defs/entry/properties/cmdline_extra"), entry.cmdline_extra);
    assert_eq!(default("/$defs/entry/properties/check"), entry.check.to_string());
    assert_eq!(default("/$defs/entry/properties/arena"), entry.arena.to_string());
    assert_eq!(
        default("/properties/purgatory/properties/console"),
        config.purgatory.console
    );
    assert_eq!(config.purgatory.reason, None);
    assert_eq!(entry.title, "a");
}

#[test]
fn the_manual_has_a_row_for_each_key_of_each_table() {
    for (_, heading, keys) in TABLES {
        let (_, section) = MANUAL.split_once(&format!("\n## {heading}\n")).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let (_, table) = section.split_once("| key |").unwrap();
        let table = table.split("\n\n").next().unwrap();
        let rows = table
            .lines()
            .filter_map(|row| row.strip_prefix("| `")?.split_once('`'))
            .map(|(key, _)| key);
        assert_eq!(sorted(rows), sorted(keys.iter().copied()), "{heading}");
    }
}

#[test]
fn the_files_in_the_manual_are_good() {
    let blocks: Vec<&str> = MANUAL
        .split("```toml\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap())
        .collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        if let Err(problems) = config::parse(block) {
            panic!("{}", config::render("README.md", block, &problems));
        }
    }
}

#[test]
fn the_example_means_what_it_says() {
    let config: Config = config::parse(EXAMPLE).unwrap();
    assert_eq!(config.order, ["a", "b"]);
    assert_eq!(config.console.countdown, Duration::from_secs(3));
    assert_eq!(config.console.retry, Duration::from_mins(1));
    let names: Vec<&str> = config.entries.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "rescue"], "in file order");

    let a: &Entry = config.entry("a").unwrap();
    assert_eq!(a.source, Source::PartLabel("boot-a".into()));
    assert_eq!((a.kernel.as_str(), a.dtb.as_deref()), ("Image", None));
    assert_eq!(a.initrd, ["initrd.img", "config.cpio"]);
    assert_eq!(a.cmdline, "root=PARTLABEL=root-a ro");
    assert_eq!((a.check, a.cmdline_extra), (Check::Fast, true));
    assert_eq!(a.arena, Arena::Auto);
    assert!(config.purgatory.console);
    assert_eq!(config.purgatory.reason, Some(ReasonStore::Memory(0xbe0f_f000)));

    let b = config.entry("b").unwrap();
    assert_eq!(b.initrd, ["initrd.img"]);
    assert_eq!(b.dtb.as_deref(), Some("board.dtb"));
    assert_eq!(b.check, Check::Sha256);
    assert_eq!(format!("{:.8}", b.sha256.kernel.unwrap()), "9f86d081..");
    assert_eq!(format!("{:.8}", b.sha256.dtb.unwrap()), "60303ae2..");
    assert!(b.sha256.initrd.is_empty());

    let rescue = config.entry("rescue").unwrap();
    assert_eq!(rescue.source, Source::Initramfs("/rescue".into()));
    assert!(!rescue.cmdline_extra);
    assert_eq!(rescue.check, Check::Off);
}

#[test]
fn every_form_of_every_key_gives_the_value_it_stands_for() {
    let config = config::parse(include_str!("cases/good/every-key.toml")).unwrap();
    let first = config.entry("a.b-c_1").unwrap();
    assert_eq!(
        first.source,
        Source::PartUuid("0ac1d9a8-0000-4000-8000-00000000000f".into())
    );
    assert_eq!(first.kernel, "boot/Image");
    assert_eq!(first.initrd, ["boot/initrd.img", "etc/config.cpio", "last.cpio"]);
    assert_eq!(first.cmdline, "root=PARTLABEL=root-a ro console=ttyAMA0 ");
    assert!(first.sha256.kernel.is_some() && first.sha256.dtb.is_some());
    let [None, Some(second)] = first.sha256.initrd.as_slice() else {
        panic!("{:?}", first.sha256.initrd);
    };
    assert_eq!(
        *second,
        first.sha256.kernel.unwrap(),
        "upper case and lower case are the same digest"
    );
    let two = config.entry("two").unwrap();
    assert_eq!(two.source, Source::Uuid("1a2b-3c4d".into()));
    assert_eq!((two.check, two.sha256.initrd.len()), (Check::Off, 1));
    assert_eq!((first.arena, two.arena), (Arena::Segments, Arena::Auto));
    assert!(!config.purgatory.console);
    assert_eq!(config.purgatory.reason, Some(ReasonStore::Cmos(0x7f)));
    assert_eq!(config.console.countdown, Duration::ZERO);
    assert_eq!(config.console.devices, ["ttyS1", "hvc0"]);
    assert_eq!(config.console.retry, Duration::from_hours(24));
    assert_eq!(config.console.menu_timeout, Duration::from_hours(24));
    assert!(matches!(config.console.access, Access::Password(_)));
    assert_eq!(
        (config.console.stop.as_str(), config.console.terminal),
        ("~ stop", Terminal::Vt100)
    );
}
