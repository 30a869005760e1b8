//! The hand-over contract, field by field: the main kernel is a guest of our own that prints how it was entered.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use config::Arch::{self, Arm64, X86_64};
use guest_entry::contract::{self, Expected};
use guest_entry::facts::Facts;
use guest_entry::image;
use mkinitramfs::cpio::{Entry, archive};
use qemu::chain::Initrd;
use qemu::guests;
use qemu::machine::Firmware::{self, Direct, UBoot, Uefi};
use qemu::scenario::{Context, Scenario};
use qemu::setup::Suite::{self, Bookworm, Trixie};

/// Bytes the guest claims to be: more than one page table's worth.
const GUEST_BYTES: u64 = 5 << 20;

#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    arch: Arch,
    firmware: Firmware,
    machine: Option<&'static str>,
    cpu: Option<&'static str>,
    /// arm64's exception level.
    level: Option<u64>,
    /// x86_64's five-level paging.
    la57: Option<bool>,
    long: bool,
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    let arm = Case {
        name: "el1",
        arch: Arm64,
        firmware: Direct,
        machine: None,
        cpu: None,
        level: Some(1),
        la57: None,
        long: false,
    };
    let x86 = Case {
        name: "5-level",
        arch: X86_64,
        level: None,
        la57: Some(true),
        ..arm
    };
    let el2 = Some("virt,gic-version=3,virtualization=on");
    let cases = [
        arm,
        Case {
            name: "el1-u-boot",
            firmware: UBoot,
            long: true,
            ..arm
        },
        Case {
            name: "el1-uefi",
            firmware: Uefi,
            long: true,
            ..arm
        },
        Case {
            name: "el2-nvhe",
            machine: el2,
            level: Some(2),
            ..arm
        },
        Case {
            name: "el2-vhe",
            machine: el2,
            cpu: Some("max,lpa2=off"),
            level: Some(2),
            ..arm
        },
        x86,
        Case {
            name: "4-level",
            cpu: Some("max,la57=off"),
            la57: Some(false),
            ..x86
        },
        Case {
            name: "uefi",
            firmware: Uefi,
            cpu: Some("max,la57=off"),
            la57: Some(false),
            ..x86
        },
    ];
    let mut all = Vec::new();
    for case in cases {
        for service in [Bookworm, Trixie] {
            let name = format!("contract/{}/{}/from-{}", case.arch, case.name, service.series());
            let scenario = Scenario::new(name, move |context| entered_as_promised(context, case, service));
            all.push(scenario.long_if(case.long || service == Bookworm));
        }
    }
    all
}

fn entered_as_promised(context: &Context, case: Case, service: Suite) -> Result<()> {
    let guest = context.folder.join("guest");
    fs::write(
        &guest,
        image::build(&fs::read(guests::entry(case.arch)?)?, case.arch, GUEST_BYTES)?,
    )?;
    let initrd = context.folder.join("initrd");
    let noise: Vec<u8> = (0..750_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let mut bytes = archive([Entry::file("noise", noise)])?;
    bytes.push(0); // An odd length.
    fs::write(&initrd, &bytes)?;

    let mut chain = context.chain(case.arch, service, service)?;
    chain.machine.firmware = case.firmware;
    chain.machine.machine = case.machine.map(str::to_owned);
    chain.machine.cpu = case.cpu.map(str::to_owned);
    chain.kernel = guest;
    chain.release = None;
    chain.initrd = Initrd::File(initrd);
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    vm.forbid(r"cato\[ *[0-9.]+\] prompt: no ")?;
    vm.wait_for("entry: (done|fault)", Duration::from_mins(2))?;

    let problem = ready.wanted.arena_problem(&vm.lines());
    ensure!(problem.is_none(), vm.failure(&problem.unwrap_or_default()));
    let text: Vec<String> = vm.lines().into_iter().map(|line| line.text).collect();
    let facts = Facts::parse(&text.join("\n"));
    let words: Vec<&str> = chain.cmdline.split_ascii_whitespace().collect();
    let expected = Expected {
        cmdline_has: &words,
        initrd: Some(&bytes),
        level: case.level,
        stub: case.firmware == Uefi,
        la57: case.la57,
        efi: (case.arch == X86_64).then_some(case.firmware == Uefi),
        ..Expected::default()
    };
    let violations = match case.arch {
        Arm64 => contract::arm64(&facts, &expected),
        X86_64 => contract::x86_64(&facts, &expected),
    };
    let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
    ensure!(list.is_empty(), vm.failure(&list.join("\n")));
    Ok(())
}
