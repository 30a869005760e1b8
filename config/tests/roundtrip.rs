//! Any configuration, written as TOML, is read back as itself.

use std::time::Duration;

use config::{
    Access, Arena, Check, Config, Console, Entry, Purgatory, ReasonStore, Sha256, SlotName, Slots, Source, Terminal,
    Unbind, WantedDigests,
};
use proptest::prelude::*;

/// A TOML basic string: JSON's escapes are a part of TOML's.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn list<T>(items: &[T], one: impl Fn(&T) -> String) -> String {
    format!("[{}]", items.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn written(config: &Config) -> String {
    let mut lines = vec![
        "version = 1".to_owned(),
        format!("order = {}", list(&config.order, |name| quoted(name))),
        "[console]".to_owned(),
        format!("countdown = {}", config.console.countdown.as_secs()),
        format!("retry = {}", config.console.retry.as_secs()),
        format!("devices = {}", list(&config.console.devices, |name| quoted(name))),
        format!("stop = {}", quoted(&config.console.stop)),
        format!("menu_timeout = {}", config.console.menu_timeout.as_secs()),
        format!("terminal = \"{}\"", config.console.terminal),
        format!("access = \"{}\"", config.console.access),
        match &config.console.access {
            Access::Password(hash) => format!("password = {}", quoted(hash)),
            _ => String::new(),
        },
        "[purgatory]".to_owned(),
        format!("console = {}", config.purgatory.console),
    ];
    lines.extend((config.purgatory.reason.iter()).map(|reason| format!("reason = \"{reason}\"")));
    lines.extend(["[slots]".to_owned(), format!("tries = {}", config.slots.tries)]);
    lines.extend((config.slots.trial.iter()).map(|trial| format!("trial = \"{}s\"", trial.as_secs())));
    let timeout = config.watchdog.map_or(0, |timeout| timeout.as_secs());
    lines.extend(["[watchdog]".to_owned(), format!("timeout = {timeout}")]);
    lines.push("[quiesce]".to_owned());
    lines.push(format!("unbind = {}", list(&config.unbind, |u| quoted(&u.to_string()))));
    for e in &config.entries {
        lines.push(format!("[entry.{}]", quoted(&e.name)));
        lines.push(format!("title = {}", quoted(&e.title)));
        lines.extend(e.slot.iter().map(|slot| format!("slot = \"{slot}\"")));
        lines.push(format!("source = {}", quoted(&e.source.to_string())));
        lines.push(format!("kernel = {}", quoted(&e.kernel)));
        lines.push(format!("initrd = {}", list(&e.initrd, |path| quoted(path))));
        lines.extend(e.dtb.iter().map(|dtb| format!("dtb = {}", quoted(dtb))));
        lines.push(format!("cmdline = {}", quoted(&e.cmdline)));
        lines.push(format!("cmdline_extra = {}", e.cmdline_extra));
        lines.push(format!("check = \"{}\"", e.check));
        lines.push(format!("arena = \"{}\"", e.arena));
        let digest = |digest: &Option<Sha256>| format!("\"{}\"", digest.map(|d| d.to_string()).unwrap_or_default());
        lines.push(format!("sha256.initrd = {}", list(&e.sha256.initrd, digest)));
        lines.extend(
            e.sha256
                .kernel
                .iter()
                .map(|digest| format!("sha256.kernel = \"{digest}\"")),
        );
        lines.extend(e.sha256.dtb.iter().map(|digest| format!("sha256.dtb = \"{digest}\"")));
    }
    lines.join("\n")
}

fn text() -> impl Strategy<Value = String> {
    "[\\PC&&[^\u{7f}]]{0,60}"
}

fn path() -> impl Strategy<Value = String> {
    "[a-zäß \"'\\\\#=]{1,8}(/[a-z.]{0,2}[A-Z]{1,8}){0,3}"
}

fn source() -> impl Strategy<Value = Source> {
    prop_oneof![
        "[a-zA-Z0-9 ä_-]{1,36}".prop_map(Source::PartLabel),
        "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}".prop_map(Source::PartUuid),
        "[0-9a-f]{8}-[0-9a-f]{2}".prop_map(Source::PartUuid),
        "[a-zA-Z0-9 ä=/_-]{1,36}".prop_map(Source::Label),
        "[0-9a-f]{4}-[0-9a-f]{4}".prop_map(Source::Uuid),
        "/([a-z]{1,8}(/[a-z]{1,8}){0,2})?"
            .prop_filter("a device", |path| !path.starts_with("/dev/"))
            .prop_map(Source::Initramfs),
    ]
}

fn digest() -> impl Strategy<Value = Option<Sha256>> {
    prop::option::of(any::<[u8; 32]>().prop_map(Sha256))
}

fn reason() -> impl Strategy<Value = ReasonStore> {
    prop_oneof![
        (1_u64..1 << 35).prop_map(|page| ReasonStore::Memory(page << 12)),
        (0x30_u8..=0x7f).prop_map(ReasonStore::Cmos),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let files = (
        source(),
        path(),
        prop::collection::vec(path(), 0..4),
        prop::option::of(path()),
    );
    let slot = prop::option::of("[ABC1]|system[.]0");
    let rest = (
        slot,
        text(),
        text(),
        any::<bool>(),
        prop::sample::select(vec![Check::Fast, Check::Sha256, Check::Off]),
        prop::sample::select(vec![Arena::Auto, Arena::Segments]),
    );
    let digests = (digest(), prop::collection::vec(digest(), 0..4), digest());
    (files, rest, digests).prop_map(
        |((source, kernel, initrd, dtb), (slot, title, cmdline, cmdline_extra, check, arena), digests)| {
            let mut sha256 = WantedDigests {
                kernel: digests.0,
                initrd: digests.1,
                dtb: digests.2,
            };
            sha256.initrd.truncate(initrd.len());
            let closed = if cmdline.matches('"').count() % 2 == 0 {
                ""
            } else {
                "\""
            };
            sha256.dtb = sha256.dtb.filter(|_| dtb.is_some());
            Entry {
                name: String::new(),
                title,
                slot: slot.and_then(|slot| slot.parse::<SlotName>().ok()),
                source,
                kernel,
                initrd,
                dtb,
                cmdline: cmdline + closed,
                cmdline_extra,
                check,
                arena,
                sha256,
            }
        },
    )
}

fn unbind() -> impl Strategy<Value = Unbind> {
    prop_oneof![
        "[a-z_-]{1,20}".prop_map(Unbind::Driver),
        ("[a-z]{3}", "[0-9a-f:.]{3,12}").prop_map(|(bus, address)| Unbind::Device { bus, address }),
        "(/[a-z0-9@,]{1,8}){1,4}".prop_map(Unbind::Node),
    ]
}

fn access() -> impl Strategy<Value = Access> {
    let hash = (
        32_u32..=65536,
        1..=16,
        1..=4,
        "([A-Za-z0-9+/]{4}){3,16}",
        "([A-Za-z0-9+/]{4}){4,16}",
    );
    let hash = hash.prop_map(|(m, t, p, salt, hash)| format!("$argon2id$v=19$m={m},t={t},p={p}${salt}${hash}"));
    prop_oneof![
        Just(Access::Open),
        Just(Access::Menu),
        Just(Access::Locked),
        hash.prop_map(Access::Password),
    ]
}

prop_compose! {
    fn configs()(
        entries in prop::collection::btree_map("[a-zA-Z0-9._-]{1,32}", entry(), 1..5),
        pick in prop::collection::vec(any::<prop::sample::Index>(), 1..5),
        countdown in 0_u64..=3600,
        retry in 1_u64..=86400,
        (stop, menu_timeout) in ("[ -~]{2,32}", 10_u64..=86400),
        devices in prop::collection::btree_set("[A-Za-z0-9_-]{1,31}", 0..4),
        access in access(),
        terminal in prop::sample::select(vec![Terminal::Auto, Terminal::Plain, Terminal::Vt100]),
        (tries, trial) in (1_u8..=100, prop::option::of(10_u64..=86400)),
        watchdog in prop::option::of(10_u64..=3600),
        unbind in prop::collection::vec(unbind(), 0..4),
        console in any::<bool>(),
        reason in prop::option::of(reason()),
    ) -> Config {
        let entries: Vec<Entry> = entries.into_iter().map(|(name, entry)| Entry { name, ..entry }).collect();
        let mut order: Vec<String> = pick.iter().map(|index| index.get(&entries).name.clone()).collect();
        order.sort();
        order.dedup();
        order.reverse();
        let purgatory = Purgatory { console, reason };
        let console = Console {
            countdown: Duration::from_secs(countdown),
            retry: Duration::from_secs(retry),
            devices: devices.into_iter().filter(|name| name != "console").collect(),
            stop,
            menu_timeout: Duration::from_secs(menu_timeout),
            terminal,
            access,
        };
        let slots = Slots { tries, trial: trial.map(Duration::from_secs) };
        let watchdog = watchdog.map(Duration::from_secs);
        let mut entries = entries;
        // Four are the most.
        entries.iter_mut().skip(4).for_each(|entry| entry.slot = None);
        Config { order, console, purgatory, slots, watchdog, unbind, entries }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(config in configs(), crlf in any::<bool>(), mark in any::<bool>()) {
        let mut text = written(&config);
        if crlf {
            text = text.replace('\n', "\r\n");
        }
        if mark {
            text.insert(0, '\u{feff}');
        }
        match config::parse(&text) {
            Ok(read) => prop_assert_eq!(read, config),
            Err(problems) => prop_assert!(false, "{}", config::render("boot.toml", &text, &problems)),
        }
    }
}
