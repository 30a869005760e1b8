//! Given what a guest said and what was asked for, lists every rule of the boot protocol that was not kept.
//!
//! Responsible for naming the rule: each violation quotes or paraphrases Documentation/arch/arm64/booting.rst or
//! Documentation/arch/x86/{boot,zero-page}.rst, and says what was found.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "host tool: ordered spans, a divisor of at least 1"
)]

use std::fmt;
use std::ops::Range;

use crate::facts::{Facts, Property, Value};
use crate::memory::sum_of;

/// A rule that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// What the guest saw.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.found)
    }
}

/// What was asked of the boot loader, on either machine.
#[derive(Debug, Clone, Default)]
pub struct Expected<'a> {
    /// The command line, exactly.
    pub cmdline: Option<&'a str>,
    /// Words that must be in the command line, for a loader that may add to it.
    pub cmdline_has: &'a [&'a str],
    /// All bytes of the initrd; `Some(&[])` for a boot without one, `None` if anything will do.
    pub initrd: Option<&'a [u8]>,
    /// arm64: the exception level the loader ran at.
    pub level: Option<u64>,
    /// arm64: the tree is ACPI's stub, of which a kernel must find `/chosen` only.
    pub stub: bool,
    /// x86_64: paging has five levels.
    pub la57: Option<bool>,
    /// x86_64: the firmware is EFI and the loader passes it on.
    pub efi: Option<bool>,
}

struct Findings<'a> {
    facts: &'a Facts,
    list: Vec<Violation>,
}

impl Findings<'_> {
    fn hold(&mut self, rule: &'static str, kept: bool, found: impl fmt::Display) {
        if !kept {
            let found = found.to_string();
            self.list.push(Violation { rule, found });
        }
    }

    /// `key` is a number for which `kept` holds.
    fn number(&mut self, rule: &'static str, key: &str, kept: impl Fn(u64) -> bool) {
        let found = format!("{key}={}", self.facts.get(key).unwrap_or("missing"));
        self.hold(rule, self.facts.number(key).is_some_and(kept), found);
    }

    /// No two of these share a byte.
    fn apart(&mut self, rule: &'static str, spans: &[(&str, Range<u64>)]) {
        for (i, (a, left)) in spans.iter().enumerate() {
            for (b, right) in spans.iter().skip(i + 1) {
                let share = left.start < right.end && right.start < left.end;
                self.hold(rule, !share, format!("{a} {} and {b} {}", hex(left), hex(right)));
            }
        }
    }

    /// The span lies in one of those.
    fn within(&mut self, rule: &'static str, name: &str, span: &Range<u64>, those: &[Range<u64>]) {
        let inside = those.iter().any(|r| r.start <= span.start && span.end <= r.end);
        self.hold(rule, inside, format!("{name} {}", hex(span)));
    }
}

fn hex(span: &Range<u64>) -> String {
    format!("[{:#x}, {:#x})", span.start, span.end)
}

/// What holds on both machines; answers the image's span.
fn common(check: &mut Findings<'_>, arch: &str, expected: &Expected<'_>) -> Range<u64> {
    let facts = check.facts;
    check.hold(
        "the guest comes to its end",
        facts.is_done() && facts.fault().is_none(),
        facts
            .fault()
            .map_or_else(|| "no `entry: done`".to_owned(), |f| format!("fault {f}")),
    );
    let found = facts.get("arch").unwrap_or("missing");
    check.hold("the guest is the one that was asked for", found == arch, found);
    let sum = facts.get("image-sum").unwrap_or("missing");
    check.hold("the image arrives unchanged", sum == "ok", sum);
    if let Some(want) = expected.initrd {
        let found = facts.initrd();
        if want.is_empty() {
            let found = found.map(|f| hex(&f)).unwrap_or_default();
            check.hold("there is no initrd when none was asked for", found.is_empty(), found);
        } else {
            let size = found.map_or(0, |f| f.end - f.start);
            let rule = "the initrd arrives with the size it had";
            check.hold(
                rule,
                size == want.len() as u64,
                format!("{size:#x}, wanted {:#x}", want.len()),
            );
            let rule = "the initrd arrives unchanged";
            check.number(rule, "initrd-sum", |sum| sum == sum_of(want));
        }
    }
    let start = facts.number("load").unwrap_or(0);
    start..facts.number("image-end").unwrap_or(start)
}

fn command_line(check: &mut Findings<'_>, found: &str, expected: &Expected<'_>) {
    if let Some(want) = expected.cmdline {
        check.hold(
            "the command line is the one that was asked for",
            found == want,
            format!("{found:?}, wanted {want:?}"),
        );
    }
    for word in expected.cmdline_has {
        let has = found.split_ascii_whitespace().any(|w| w == *word);
        check.hold(
            "the command line has the words it was asked for",
            has,
            format!("{word:?} not in {found:?}"),
        );
    }
}

/// Holds an arm64 guest's facts against booting.rst.
pub fn arm64(facts: &Facts, expected: &Expected<'_>) -> Vec<Violation> {
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    let mut check = Findings {
        facts,
        list: Vec::new(),
    };
    let image = common(&mut check, "arm64", expected);

    // "Primary CPU general-purpose register settings"
    for x in ["x1", "x2", "x3"] {
        check.number("x1, x2 and x3 are 0", x, |n| n == 0);
    }
    // "CPU mode"
    check.number("all of DAIF is masked", "daif", |n| n == 0x3c0);
    check.number("EL1 or EL2, and the one the loader ran at", "el", |n| {
        matches!(n, 1 | 2) && expected.level.is_none_or(|want| n == want)
    });
    check.number("data accesses are little endian", "big-endian", |n| n == 0);
    // "Caches, MMUs"
    check.number("the MMU is off", "mmu", |n| n == 0);
    check.number("the data cache is off", "dcache", |n| n == 0);
    // "Architected timers"
    check.number("CNTFRQ holds the timer's frequency", "cntfrq", |n| n != 0);
    if facts.number("el") == Some(2) {
        check.number(
            "CNTVOFF is the same on all CPUs: 0 from a kernel at EL2",
            "cntvoff",
            |n| n == 0,
        );
    }
    // "Call the kernel image"
    check.number(
        "the Image lies at text_offset (0) from a 2 MiB aligned base",
        "load",
        |n| n % (2 * MIB) == 0,
    );

    // "Setup the device tree"
    check.number("x0 is the device tree, 8-byte aligned", "x0", |n| n != 0 && n % 8 == 0);
    let end = facts.get("dtb-end").unwrap_or("missing");
    check.hold("the device tree can be read to its end", end == "ok", end);
    check.number("the device tree is at most 2 MiB", "dtb-size", |n| {
        (40..=2 * MIB).contains(&n)
    });
    let dtb = facts.number("x0").unwrap_or(0);
    let dtb = dtb..dtb.saturating_add(facts.number("dtb-size").unwrap_or(0));

    let mut spans = vec![("image", image.clone()), ("device tree", dtb)];
    spans.extend(facts.initrd().map(|initrd| ("initrd", initrd)));
    check.apart("image, device tree and initrd are apart", &spans);
    let banks = facts.banks();
    if expected.stub {
        let nodes: Vec<_> = facts
            .all("dtb-node")
            .filter(|n| *n != "chosen" && *n != "hypervisor")
            .collect();
        let rule = "a stub tree has no node but /chosen: any other makes the kernel turn ACPI off";
        check.hold(rule, nodes.is_empty(), nodes.join(" "));
    } else {
        check.hold("a full tree has memory", !banks.is_empty(), "no memory node with a reg");
    }
    if !banks.is_empty() {
        for (name, span) in &spans {
            check.within("everything lies in memory", name, span, &banks);
        }
    }
    // "Setup and initialise RAM", "Decompress the kernel image"
    if let Some(initrd) = facts.initrd() {
        let low = image.start.min(initrd.start) / GIB * GIB;
        let high = image.end.max(initrd.end);
        let rule = "the initrd lies with the Image in one 1 GiB aligned window of at most 32 GiB";
        check.hold(
            rule,
            high - low <= 32 * GIB,
            format!("{} and {}", hex(&image), hex(&initrd)),
        );
    }
    chosen(&mut check, expected);
    check.list
}

/// `/chosen`: kexec-abi of the kernel, chosen.yaml of dt-schema.
fn chosen(check: &mut Findings<'_>, expected: &Expected<'_>) {
    let facts = check.facts;
    let cmdline = match facts.chosen("bootargs").map(|p| p.value) {
        Some(Value::Text(text)) => text,
        _ => String::new(),
    };
    command_line(check, &cmdline, expected);
    let properties = facts.properties("chosen");
    for stale in [
        "linux,elfcorehdr",
        "linux,usable-memory-range",
        "linux,ima-kexec-buffer",
        "linux,kho-fdt",
    ] {
        let rule = "/chosen says nothing of another kernel's kexec";
        check.hold(rule, !properties.iter().any(|p| p.name == stale), stale);
    }
    let mut names: Vec<_> = properties.iter().map(|p| p.name.as_str()).collect();
    names.sort_unstable();
    let doubled = names
        .windows(2)
        .find(|w| w.first() == w.last())
        .and_then(|w| w.first().copied());
    check.hold(
        "each property of /chosen is there once",
        doubled.is_none(),
        doubled.unwrap_or_default(),
    );
    for (name, lens) in [("kaslr-seed", 8..=8), ("rng-seed", 32..=1024)] {
        let seed = properties.iter().find(|p| p.name == name);
        let kept = seed.is_some_and(|p| lens.contains(&p.len) && is_random(p));
        check.hold(
            "/chosen has fresh kaslr-seed and rng-seed",
            kept,
            format!("{name}: {seed:?}"),
        );
    }
    let both = ["linux,initrd-start", "linux,initrd-end"].map(|name| properties.iter().any(|p| p.name == name));
    let rule = "/chosen has both ends of the initrd, or neither";
    check.hold(
        rule,
        matches!(both, [true, true] | [false, false]),
        format!("start, end: {both:?}"),
    );
    if let Some(initrd) = facts.initrd() {
        for entry in facts.reservations() {
            // One of the loader's own for the new initrd is allowed.
            let shares = entry.start < initrd.end && initrd.start < entry.end;
            let covers = entry.start <= initrd.start && initrd.end <= entry.end;
            let rule = "no stale memreserve entry cuts into the initrd";
            check.hold(rule, !shares || covers, format!("{} and {}", hex(&entry), hex(&initrd)));
        }
    }
}

fn is_random(property: &Property) -> bool {
    match &property.value {
        Value::Bytes(bytes) => bytes.iter().any(|b| Some(b) != bytes.first()),
        Value::Text(_) => true,
    }
}

/// Holds an x86_64 guest's facts against boot.rst ("64-bit Boot Protocol") and zero-page.rst.
pub fn x86_64(facts: &Facts, expected: &Expected<'_>) -> Vec<Violation> {
    let mut check = Findings {
        facts,
        list: Vec::new(),
    };
    let mut image = common(&mut check, "x86_64", expected);
    let needs = image.start.saturating_add(facts.number("zp-init-size").unwrap_or(0));
    image.end = image.end.max(needs);
    cpu(&mut check, &image, expected);
    header(&mut check, &image, expected);
    memory(&mut check, &image);
    check.list
}

fn cpu(check: &mut Findings<'_>, image: &Range<u64>, expected: &Expected<'_>) {
    let facts = check.facts;
    check.number("interrupts are off", "rflags", |n| n >> 9 & 1 == 0);
    check.number("the direction flag is clear", "rflags", |n| n >> 10 & 1 == 0);
    check.number(
        "protected mode with paging (CR0.PE, PG), caches on (CD, NW)",
        "cr0",
        |n| n & (1 << 31 | 1) == 1 << 31 | 1 && n & (3 << 29) == 0,
    );
    check.number("long mode (EFER.LME, LMA)", "efer", |n| n >> 8 & 5 == 5);
    check.number("CR4.PAE, and LA57 as the machine has it", "cr4", |n| {
        n >> 5 & 1 == 1 && expected.la57.is_none_or(|la57| la57 == (n >> 12 & 1 == 1))
    });
    if facts.number("cr4").is_some_and(|n| n >> 12 & 1 == 1) {
        check.number(
            "5-level paging only for a kernel that can (xloadflags bit 5)",
            "zp-xloadflags",
            |n| n >> 5 & 1 == 1,
        );
    }
    check.number("CS is __BOOT_CS", "cs", |n| n == 0x10);
    for segment in ["ds", "es", "ss"] {
        check.number("DS, ES and SS are __BOOT_DS", segment, |n| n == 0x18);
    }
    // The bits that must be: limit, base, granularity, type; the accessed bit and AVL are free.
    let flat = |entry: u64| entry & 0x00cf_feff_ffff_ffff;
    check.number(
        "__BOOT_CS is a flat 64-bit code segment, execute and read",
        "gdt-cs",
        |n| flat(n) & !(1 << 54) == 0x008f_9a00_0000_ffff && n >> 53 & 3 == 1,
    );
    check.number(
        "__BOOT_DS is a flat 4 GiB data segment, read and write",
        "gdt-ds",
        |n| flat(n) & !(1 << 54) == 0x008f_9200_0000_ffff,
    );
    for (key, rule) in [
        ("gdt", "the descriptor table lies outside the kernel's memory"),
        ("cr3", "the page tables lie outside the kernel's memory"),
        ("rsp", "the stack lies outside the kernel's memory"),
    ] {
        check.number(rule, key, |n| !image.contains(&n));
    }
    for (key, rule) in [
        (
            "map-kernel",
            "the kernel's memory is mapped to itself, and no page table lies in it",
        ),
        ("map-zero-page", "the zero page is mapped to itself"),
        ("map-cmdline", "the command line is mapped to itself"),
    ] {
        let found = facts.get(key).unwrap_or("missing");
        check.hold(rule, found.ends_with("identity"), format!("{key}={found}"));
    }
}

fn header(check: &mut Findings<'_>, image: &Range<u64>, expected: &Expected<'_>) {
    let facts = check.facts;
    check.number("%rsi is the zero page", "rsi", |n| n != 0);
    check.number(
        "the sentinel is clear: only the header was copied",
        "zp-sentinel",
        |n| n == 0,
    );
    let magic = facts.text("zp-magic").unwrap_or_default();
    check.hold("the header was copied", magic == "HdrS", magic);
    check.number("the header was copied from boot_flag on", "zp-boot-flag", |n| {
        n == 0xaa55
    });
    check.number("the loader has a type", "zp-type-of-loader", |n| n != 0);
    check.number("the kernel is loaded high", "zp-loadflags", |n| n & 1 == 1);
    check.number("the platform is a PC", "zp-subarch", |n| n == 0);
    let alignment = facts.number("zp-kernel-alignment").unwrap_or(1).max(1);
    check.number("the load address is a multiple of kernel_alignment", "load", |n| {
        n % alignment == 0
    });
    let preferred = facts.number("zp-pref-address").unwrap_or(0);
    let relocatable = facts.number("zp-relocatable").is_some_and(|n| n != 0);
    check.number(
        "the load address is pref_address, or not below it for a relocatable kernel",
        "load",
        |n| n == preferred || (relocatable && n > preferred),
    );
    let above = facts.number("zp-xloadflags").is_some_and(|n| n >> 1 & 1 == 1);
    let limit = facts.number("zp-cmdline-size").unwrap_or(255);
    check.number(
        "the command line ends, and is no longer than cmdline_size",
        "cmdline-len",
        |n| n <= limit,
    );
    command_line(check, &facts.text("cmdline").unwrap_or_default(), expected);
    if !above {
        for key in ["load", "rsi", "cmdline-at", "initrd-at"] {
            check.number(
                "nothing lies above 4 GiB for a kernel that can't (xloadflags bit 1)",
                key,
                |n| n >> 32 == 0,
            );
        }
    }
    let end = facts.get("setup-data-end").unwrap_or("missing");
    check.hold("the setup_data list ends", end == "ok", end);
    let seed = facts.setup_data().iter().any(|node| node.kind == 9 && node.len == 32);
    check.hold(
        "there is a SETUP_RNG_SEED of 32 bytes",
        seed,
        format!("{:?}", facts.setup_data()),
    );
    if let Some(efi) = expected.efi {
        let found = facts.text("zp-efi").unwrap_or_default();
        check.hold(
            "efi_info is there with EFI, and not without",
            (found == "EL64") == efi,
            format!("{found:?}"),
        );
        if efi {
            check.number(
                "with EFI the RSDP is given: the kernel can't scan for it",
                "zp-rsdp",
                |n| n != 0,
            );
        }
    }
    let page = |at: Option<u64>, len| at.map(|at| at..at.saturating_add(len));
    let mut spans = vec![("kernel", image.clone())];
    spans.extend(page(facts.number("rsi"), 4096).map(|s| ("zero page", s)));
    let len = facts.number("cmdline-len").unwrap_or(0).saturating_add(1);
    spans.extend(page(facts.number("cmdline-at"), len).map(|s| ("command line", s)));
    spans.extend(facts.initrd().map(|s| ("initrd", s)));
    for node in facts.setup_data() {
        spans.extend(page(Some(node.at), node.len.saturating_add(16)).map(|s| ("setup_data", s)));
    }
    check.apart(
        "kernel, zero page, command line, initrd and setup_data are apart",
        &spans,
    );
}

fn memory(check: &mut Findings<'_>, image: &Range<u64>) {
    let facts = check.facts;
    check.number("e820_entries is at most 128", "e820-count", |n| (1..=128).contains(&n));
    let map = facts.e820();
    for pair in map.windows(2) {
        if let [a, b] = pair {
            let kept = a.span.end <= b.span.start;
            check.hold(
                "the E820 map is sorted and disjoint",
                kept,
                format!("{}, {}", hex(&a.span), hex(&b.span)),
            );
        }
    }
    // Neighbours of RAM are one for this purpose.
    let mut ram: Vec<Range<u64>> = Vec::new();
    for entry in map.iter().filter(|e| e.kind == 1) {
        match ram.last_mut() {
            Some(last) if last.end == entry.span.start => last.end = entry.span.end,
            _ => ram.push(entry.span.clone()),
        }
    }
    check.within("the kernel's memory is RAM in the E820 map", "kernel", image, &ram);
    if let Some(initrd) = facts.initrd() {
        check.within("the initrd is in RAM of the E820 map", "initrd", &initrd, &ram);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INITRD: &[u8] = b"an initrd of some bytes";

    fn arm64_facts() -> String {
        format!(
            "entry: arch=arm64\nentry: el=0x2\nentry: cntvoff=0x0\nentry: load=0x50000000\nentry: x0=0x5f000000\n\
             entry: x1=0x0\nentry: x2=0x0\nentry: x3=0x0\nentry: mmu=0x0\nentry: dcache=0x0\nentry: big-endian=0x0\n\
             entry: daif=0x3c0\nentry: cntfrq=0x3b9aca0\nentry: image-end=0x50008000\nentry: image-sum=ok\n\
             entry: dtb-magic=ok\nentry: dtb-size=0x2000\nentry: dtb-end=ok\n\
             entry: memory=reg 0x10 hex:00000000400000000000000020000000\n\
             entry: chosen=bootargs 0x5 \"a=b c\"\nentry: chosen=kaslr-seed 0x8 hex:0102030405060708\n\
             entry: chosen=rng-seed 0x20 hex:0102\nentry: chosen=linux,initrd-start 0x8 hex:0000000058000000\n\
             entry: chosen=linux,initrd-end 0x8 hex:0000000058000017\n\
             entry: initrd-at=0x58000000\nentry: initrd-size={:#x}\nentry: initrd-sum={:#x}\nentry: done\n",
            INITRD.len(),
            sum_of(INITRD)
        )
    }

    fn x86_64_facts() -> String {
        format!(
            "entry: arch=x86_64\nentry: load=0x20000000\nentry: rsi=0x11000000\nentry: rsp=0x10002000\n\
             entry: rflags=0x46\nentry: cr0=0x80000033\nentry: cr3=0x10001000\nentry: cr4=0x620\nentry: efer=0xd01\n\
             entry: cs=0x10\nentry: ds=0x18\nentry: es=0x18\nentry: ss=0x18\nentry: gdt=0x10000000\n\
             entry: gdt-cs=0xaf9a000000ffff\nentry: gdt-ds=0xcf93000000ffff\nentry: image-end=0x20010000\n\
             entry: image-sum=ok\nentry: zp-sentinel=0x0\nentry: zp-boot-flag=0xaa55\nentry: zp-magic=\"HdrS\"\n\
             entry: zp-type-of-loader=0xd0\nentry: zp-loadflags=0x1\nentry: zp-kernel-alignment=0x200000\n\
             entry: zp-relocatable=0x1\nentry: zp-xloadflags=0x63\nentry: zp-cmdline-size=0x7ff\n\
             entry: zp-subarch=0x0\nentry: zp-pref-address=0x1000000\nentry: zp-init-size=0x50000\nentry: zp-rsdp=0x0\n\
             entry: zp-efi=\"\"\nentry: cmdline-at=0x11001000\nentry: cmdline-len=0x5\nentry: cmdline=\"a=b c\"\n\
             entry: initrd-at=0x28000000\nentry: initrd-size={:#x}\nentry: initrd-sum={:#x}\nentry: e820-count=0x2\n\
             entry: e820=0x0 0x9fc00 0x1\nentry: e820=0x100000 0x3ff00000 0x1\n\
             entry: setup-data=0x11002000 0x9 0x20 0x77\nentry: setup-data-end=ok\n\
             entry: map-kernel=0x20000000 0x50000 identity\nentry: map-zero-page=0x11000000 0x1000 identity\n\
             entry: map-cmdline=0x11001000 0x6 identity\nentry: done\n",
            INITRD.len(),
            sum_of(INITRD)
        )
    }

    fn expected() -> Expected<'static> {
        Expected {
            cmdline: Some("a=b c"),
            cmdline_has: &["c"],
            initrd: Some(INITRD),
            level: Some(2),
            la57: Some(false),
            efi: Some(false),
            ..Expected::default()
        }
    }

    /// What one changed line breaks, and nothing else.
    fn broken(
        rules: fn(&Facts, &Expected<'_>) -> Vec<Violation>,
        good: &str,
        from: &str,
        to: &str,
    ) -> Vec<&'static str> {
        assert!(good.contains(from), "{from}");
        let facts = Facts::parse(&good.replace(from, to));
        rules(&facts, &expected()).iter().map(|v| v.rule).collect()
    }

    #[test]
    fn a_clean_entry_breaks_nothing() {
        assert_eq!(arm64(&Facts::parse(&arm64_facts()), &expected()), []);
        assert_eq!(x86_64(&Facts::parse(&x86_64_facts()), &expected()), []);
    }

    #[test]
    fn silence_breaks_nearly_everything() {
        assert!(arm64(&Facts::default(), &expected()).len() > 15);
        assert!(x86_64(&Facts::default(), &expected()).len() > 20);
    }

    #[test]
    fn each_arm64_rule_can_be_broken() {
        for (from, to, rule) in [
            ("x1=0x0", "x1=0x1", "x1, x2 and x3"),
            ("x3=0x0\n", "x3=0x8\n", "x1, x2 and x3"),
            ("daif=0x3c0", "daif=0x340", "DAIF"),
            ("el=0x2", "el=0x1", "EL1 or EL2"),
            ("big-endian=0x0", "big-endian=0x1", "little endian"),
            ("mmu=0x0", "mmu=0x1", "the MMU is off"),
            ("dcache=0x0", "dcache=0x1", "data cache"),
            ("cntfrq=0x3b9aca0", "cntfrq=0x0", "CNTFRQ"),
            ("cntvoff=0x0", "cntvoff=0x1", "CNTVOFF"),
            ("load=0x50000000", "load=0x50001000", "2 MiB aligned base"),
            ("x0=0x5f000000", "x0=0x5f000004", "8-byte aligned"),
            ("x0=0x5f000000", "x0=0x50004000", "are apart"),
            ("x0=0x5f000000", "x0=0x5ffff000", "lies in memory"),
            ("dtb-end=ok", "dtb-end=cut short", "read to its end"),
            ("dtb-size=0x2000", "dtb-size=0x200001", "at most 2 MiB"),
            ("initrd-at=0x58000000", "initrd-at=0x5effffff", "are apart"),
            ("image-sum=ok", "image-sum=bad", "image arrives unchanged"),
            ("initrd-size=0x17", "initrd-size=0x16", "the size it had"),
            ("initrd-sum=0x", "initrd-sum=0x1", "initrd arrives unchanged"),
            ("\"a=b c\"", "\"a=b c d\"", "is the one that was asked for"),
            ("\"a=b c\"", "\"a=b cc\"", "has the words"),
            (
                "chosen=kaslr-seed 0x8 hex:0102030405060708",
                "chosen=kaslr-seed 0x8 hex:0000000000000000",
                "fresh",
            ),
            ("rng-seed 0x20", "rng-seed 0x8", "fresh"),
            ("chosen=linux,initrd-end", "chosen=linux,initrd-und", "both ends"),
            (
                "entry: done",
                "entry: chosen=linux,elfcorehdr 0x10 hex:00\nentry: done",
                "another kernel's kexec",
            ),
            (
                "entry: done",
                "entry: chosen=bootargs 0x1 hex:00\nentry: done",
                "there once",
            ),
            (
                "entry: done",
                "entry: memreserve=0x58000010 0x1000\nentry: done",
                "stale memreserve",
            ),
            ("entry: done", "entry: fault=0x4\nentry: done", "comes to its end"),
        ] {
            let found = broken(arm64, &arm64_facts(), from, to);
            assert!(found.iter().any(|f| f.contains(rule)), "{from} -> {to}: {found:?}");
        }
    }

    #[test]
    fn an_initrd_too_far_from_the_image() {
        let far = arm64_facts()
            .replace(
                "hex:00000000400000000000000020000000",
                "hex:00000000400000000000002000000000",
            )
            .replace("initrd-at=0x58000000", "initrd-at=0x840000000");
        let found = arm64(&Facts::parse(&far), &expected());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].rule.contains("32 GiB"));
    }

    #[test]
    fn a_stub_tree_stays_a_stub() {
        let bank = "entry: memory=reg 0x10 hex:00000000400000000000000020000000\n";
        let stub = Expected {
            stub: true,
            ..expected()
        };
        let good = arm64_facts().replace(bank, "entry: dtb-node=chosen\n");
        assert_eq!(arm64(&Facts::parse(&good), &stub), []);
        let bad = good.replace("dtb-node=chosen\n", "dtb-node=chosen\nentry: dtb-node=memory@0\n");
        assert!(arm64(&Facts::parse(&bad), &stub)[0].rule.contains("turn ACPI off"));
        assert!(arm64(&Facts::parse(&good), &expected())[0].rule.contains("has memory"));
    }

    #[test]
    fn each_x86_64_rule_can_be_broken() {
        for (from, to, rule) in [
            ("rflags=0x46", "rflags=0x246", "interrupts"),
            ("rflags=0x46", "rflags=0x446", "direction"),
            ("cr0=0x80000033", "cr0=0xc0000033", "caches on"),
            ("efer=0xd01", "efer=0x901", "long mode"),
            ("cr4=0x620", "cr4=0x1620", "LA57"),
            ("cs=0x10", "cs=0x8", "__BOOT_CS"),
            ("ss=0x18", "ss=0x0", "__BOOT_DS"),
            ("gdt-cs=0xaf9a000000ffff", "gdt-cs=0xcf9a000000ffff", "64-bit code"),
            ("gdt-cs=0xaf9a000000ffff", "gdt-cs=none", "64-bit code"),
            ("gdt-ds=0xcf93000000ffff", "gdt-ds=0xcf91000000ffff", "read and write"),
            ("gdt=0x10000000", "gdt=0x20000100", "descriptor table"),
            ("cr3=0x10001000", "cr3=0x2004f000", "page tables lie"),
            ("rsp=0x10002000", "rsp=0x20000010", "stack"),
            (
                "0x50000 identity",
                "0x50000 hole 0x20040000",
                "kernel's memory is mapped",
            ),
            ("0x1000 identity", "0x1000 other 0x11000000", "zero page is mapped"),
            ("0x6 identity", "0x6 hole 0x11001000", "command line is mapped"),
            ("zp-sentinel=0x0", "zp-sentinel=0xff", "sentinel"),
            ("HdrS", "\\x00\\x00\\x00\\x00", "header was copied"),
            ("zp-type-of-loader=0xd0", "zp-type-of-loader=0x0", "type"),
            ("zp-loadflags=0x1", "zp-loadflags=0x80", "high"),
            ("load=0x20000000", "load=0x20100000", "kernel_alignment"),
            ("load=0x20000000", "load=0x800000", "pref_address"),
            ("cmdline-len=0x5", "cmdline-len=0x800", "cmdline_size"),
            ("\"a=b c\"", "\"a=b\"", "asked for"),
            ("setup-data-end=ok", "setup-data-end=too long", "list ends"),
            ("0x9 0x20", "0x9 0x10", "RNG_SEED"),
            ("zp-efi=\"\"", "zp-efi=\"EL64\"", "efi_info"),
            ("setup-data=0x11002000", "setup-data=0x11000ff8", "are apart"),
            ("e820=0x100000 0x3ff00000", "e820=0x90000 0x3ff70000", "sorted"),
            ("0x3ff00000 0x1", "0x3ff00000 0x2", "is RAM"),
            ("initrd-at=0x28000000", "initrd-at=0x3ffffff0", "initrd is in RAM"),
        ] {
            let found = broken(x86_64, &x86_64_facts(), from, to);
            assert!(found.iter().any(|f| f.contains(rule)), "{from} -> {to}: {found:?}");
        }
        let low = x86_64_facts()
            .replace("xloadflags=0x63", "xloadflags=0x1")
            .replace("initrd-at=0x", "initrd-at=0x1");
        let found = x86_64(&Facts::parse(&low), &expected());
        assert!(found.iter().any(|v| v.rule.contains("above 4 GiB")));
    }

    #[test]
    fn no_initrd_is_a_wish_too() {
        let none = Expected {
            initrd: Some(&[]),
            ..expected()
        };
        let found = arm64(&Facts::parse(&arm64_facts()), &none);
        assert!(found[0].to_string().contains("[0x58000000, 0x58000017)"));
    }
}
