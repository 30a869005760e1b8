//! Targets for what the host tools read, and for the config.

use config::modules::{Index, alias_matches};
use config::{Arch, Reading};
use mkinitramfs::list::list;
use mkinitramfs::modules::modinfo::ModInfo;
use stage::fuzz::Target;

/// All of them.
pub(super) const TARGETS: &[Target] = &[
    Target::new("alias", alias),
    Target::new("config", config),
    Target::new("index", index),
    // What it unpacks may have 256 MiB, and xz a window of 128.
    Target {
        memory: 1 << 30,
        ..Target::new("list", of_list)
    },
    Target::new("module", module),
];

/// A pattern and a name, a line each.
fn alias(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (pattern, name) = text.split_once('\n').unwrap_or((&text, ""));
    let _ = alias_matches(pattern, name);
    assert!(alias_matches("*", name));
}

/// `boot.toml`: problems have a place, and can be drawn.
fn config(input: &[u8]) {
    let Reading {
        config,
        diagnostics,
        text,
    } = config::read(input);
    assert_eq!(
        config.is_none(),
        diagnostics.iter().any(|problem| !problem.is_warning())
    );
    for problem in &diagnostics {
        assert!(text.get(problem.span.clone()).is_some(), "{problem:?}");
    }
    drop(config::render("boot.toml", &text, &diagnostics));
}

/// The index of the modules: what is written is what was read.
fn index(input: &[u8]) {
    let Ok(index) = Index::parse(&String::from_utf8_lossy(input)) else {
        return;
    };
    assert_eq!(Index::parse(&index.to_string()).as_ref(), Ok(&index));
    for module in &index.modules {
        assert_eq!(index.closure(&module.name).last(), Some(&module));
    }
}

/// An initramfs of any kind.
fn of_list(input: &[u8]) {
    for line in list(input).unwrap_or_default() {
        assert!(line.to_string().bytes().all(|b| (b' '..=b'~').contains(&b)));
    }
}

/// A module's file, and as nothing but its section.
fn module(input: &[u8]) {
    for arch in Arch::ALL {
        drop(ModInfo::read(input, arch));
    }
    drop(ModInfo::parse(input));
}
