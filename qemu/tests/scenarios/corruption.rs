//! A byte that changes between load and jump is found, named, and the machine starts again instead of the kernel.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use config::Arch;
use qemu::gdb::Gdb;
use qemu::machine::Firmware::Direct;
use qemu::scenario::{Context, Scenario};
use qemu::setup::Suite::{Bookworm, Trixie};
use qemu::vm::Vm;

/// From the main kernel's last chance to be started to the reset.
const RESET: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
enum At {
    First,
    Last,
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for arch in Arch::ALL {
        let small = if arch == Arch::Arm64 { "dtb" } else { "boot-data" };
        for (segment, at, long) in [
            ("kernel", At::First, false),
            ("kernel", At::Last, true),
            ("initrd", At::First, true),
            ("initrd", At::Last, false),
            (small, At::First, false),
            (small, At::Last, true),
        ] {
            let name = format!("corruption/{arch}/{segment}-{}", format!("{at:?}").to_lowercase());
            all.push(Scenario::new(name, move |context| is_named(context, arch, segment, at)).long_if(long));
        }
    }
    all
}

fn is_named(context: &Context, arch: Arch, segment: &str, at: At) -> Result<()> {
    let mut chain = context.chain(arch, Bookworm, Trixie)?;
    chain.machine.firmware = Direct;
    // A socket's path is short, whatever the checkout's is.
    let folder = tempfile::tempdir()?;
    chain.machine.gdb = Some(folder.path().join("gdb"));
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    vm.forbid("Kernel panic - not syncing|report: ")?;
    let mut gdb = Gdb::connect(&folder.path().join("gdb"), Duration::from_secs(10))?;
    gdb.go()?;

    let wait = Duration::from_mins(2);
    let row = vm.wait_for(&format!(r"place: {segment} +0x[0-9a-f]+ +0x[0-9a-f]+ +[0-9]+ "), wait)?;
    let (start, bytes) = numbers(&row.text).with_context(|| format!("no segment in {:?}", row.text))?;
    let entry = vm.wait_for("place: .*entry 0x[0-9a-f]+;", wait)?;
    gdb.interrupt()?;
    let entry = address_behind(&entry.text, "entry ").with_context(|| format!("no entry in {:?}", entry.text))?;
    gdb.break_at(entry)?;
    gdb.go()?;
    gdb.wait_stop(wait).map_err(|error| vm.failure(&format!("{error:#}")))?;
    gdb.clear(entry)?;
    gdb.flip(
        if matches!(at, At::First) {
            start
        } else {
            start + bytes - 1
        },
        0x10,
    )?;
    gdb.go()?;
    ended_by_a_reset(&mut vm, segment)
}

fn ended_by_a_reset(vm: &mut Vm, segment: &str) -> Result<()> {
    let began = Instant::now();
    vm.wait_for(
        &format!(r#"purgatory: segment "{segment}.*mismatch.*resetting"#),
        Duration::from_mins(1),
    )?;
    let named = Instant::now();
    vm.wait_end(Duration::from_secs(30))?;
    let took = named.elapsed();
    ensure!(
        took < RESET,
        vm.failure(&format!("the reset took {took:?}, {:?} in all", began.elapsed()))
    );
    Ok(())
}

/// Start and number of bytes of a row of the layout.
fn numbers(row: &str) -> Option<(u64, u64)> {
    let mut words = row.split_whitespace().skip_while(|word| !word.starts_with("0x"));
    let start = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    let bytes = words.nth(1)?.parse().ok()?;
    Some((start, bytes))
}

fn address_behind(text: &str, word: &str) -> Option<u64> {
    let (_, rest) = text.split_once(word)?;
    let digits = rest.strip_prefix("0x")?;
    let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
    u64::from_str_radix(digits.get(..end)?, 16).ok()
}
