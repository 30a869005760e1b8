//! The machines that are not the default one: interrupt controllers, exception levels, page table depths, sizes.

use std::time::Duration;

use anyhow::{Result, ensure};
use config::Arch::{self, Arm64, X86_64};
use mkinitramfs::disk::{Filesystem, Partition};
use qemu::chain::Chain;
use qemu::machine::Firmware::{Direct, Uefi};
use qemu::scenario::{Context, Scenario};
use qemu::service;
use qemu::setup::Suite::{Bookworm, Trixie};

const GIC_V3: &str = "virt,gic-version=3";
const NO_LPI: &str = "irqchip.gicv3_nolpi=1";

pub(crate) fn scenarios() -> Vec<Scenario> {
    [interrupts(), exception_levels(), page_tables(), sizes()]
        .into_iter()
        .flatten()
        .collect()
}

/// A chain that starts at once: what comes before the service kernel is not what is tried here.
fn direct(context: &Context, arch: Arch) -> Result<Chain> {
    let mut chain = context.chain(arch, Bookworm, Trixie)?;
    chain.machine.firmware = Direct;
    Ok(chain)
}

/// Design T4: a GICv3 with ITS keeps writing to tables in ordinary memory, which nobody but EFI keeps reserved.
fn interrupts() -> Vec<Scenario> {
    vec![
        Scenario::new("gic/arm64/v3-its", |context| {
            let mut chain = direct(context, Arm64)?;
            chain.machine.machine = Some(GIC_V3.into());
            context.boots(&chain)?;
            Ok(())
        }),
        Scenario::new("gic/arm64/v3-its-uefi-with-lpis", |context| {
            let mut chain = direct(context, Arm64)?;
            chain.machine.firmware = Uefi;
            chain.machine.machine = Some(GIC_V3.into());
            chain.service.cmdline = service::command_line_without(Arm64, &[NO_LPI], &[]);
            context.boots(&chain)?;
            Ok(())
        }),
        Scenario::new("gic/arm64/v3-its-with-lpis-is-refused", |context| {
            let mut chain = direct(context, Arm64)?;
            chain.machine.machine = Some(GIC_V3.into());
            chain.service.cmdline = service::command_line_without(Arm64, &[NO_LPI], &[]);
            let ready = context.prepare(&chain)?;
            let mut vm = context.start(&ready.machine)?;
            vm.forbid("Bye!")?;
            vm.wait_for(
                r#"cato\[.*entry "a": .*irqchip\.gicv3_nolpi=1.*; no other entry can do better"#,
                Duration::from_mins(1),
            )?;
            vm.wait_for(r"cato\[.*prompt: no entry left", Duration::from_mins(1))?;
            Ok(())
        }),
    ]
}

/// The level the service kernel runs at is the one the purgatory is entered at and leaves at.
fn exception_levels() -> Vec<Scenario> {
    // contract/ looks at these levels every day, and says how each is left.
    let machines = [
        ("el1", "virt,gic-version=3", "cortex-a72", "EL1"),
        ("el2-nvhe", "virt,gic-version=3,virtualization=on", "cortex-a72", "EL2"),
        ("el2-vhe", "virt,gic-version=3,virtualization=on", "max,lpa2=off", "EL2"),
        ("el1-neoverse-n1", "virt,gic-version=3", "neoverse-n1", "EL1"),
    ];
    let scenario = |(name, machine, cpu, level): (&str, &'static str, &'static str, &'static str)| {
        let body = move |context: &Context| {
            let mut chain = direct(context, Arm64)?;
            chain.machine.machine = Some(machine.into());
            chain.machine.cpu = Some(cpu.into());
            let (report, vm) = context.boots(&chain)?;
            let got = report.get("el").unwrap_or("none");
            ensure!(
                got == level,
                vm.failure(&format!("the main kernel was entered at {got}, not at {level}"))
            );
            Ok(())
        };
        Scenario::new(format!("level/arm64/{name}"), body).long_if(true)
    };
    machines.into_iter().map(scenario).collect()
}

fn page_tables() -> Vec<Scenario> {
    let scenario = |(name, cpu, la57): (&str, &'static str, &'static str)| {
        let scenario = Scenario::new(format!("paging/x86_64/{name}"), move |context| {
            let mut chain = direct(context, X86_64)?;
            chain.machine.cpu = Some(cpu.into());
            let (report, vm) = context.boots(&chain)?;
            let got = report.get("la57").unwrap_or("unknown");
            ensure!(
                got == la57,
                vm.failure(&format!("5-level paging in the main kernel: {got}, not {la57}"))
            );
            Ok(())
        });
        // contract/x86_64/5-level and 4-level look every day.
        scenario.long_if(true)
    };
    [("4-level", "max,la57=off", "no"), ("5-level", "max,la57=on", "yes")]
        .into_iter()
        .map(scenario)
        .collect()
}

fn sizes() -> Vec<Scenario> {
    let mut all = Vec::new();
    for arch in Arch::ALL {
        for (name, memory_mib, cpus) in [("512M-1cpu", 512, 1), ("8G-4cpus", 8192, 4)] {
            let scenario = Scenario::new(format!("size/{arch}/{name}"), move |context| {
                let mut chain = direct(context, arch)?;
                chain.machine.memory_mib = memory_mib;
                chain.machine.cpus = cpus;
                context.boots(&chain)?;
                Ok(())
            });
            // Memory above 4 GiB matters more on x86_64, little memory more on arm64.
            let every_day = (arch == X86_64) == (memory_mib > 4096);
            all.push(scenario.long_if(!every_day));
        }
        let scenario = Scenario::new(format!("size/{arch}/too-little"), move |context| {
            too_little(context, arch)
        });
        all.push(scenario.long_if(true));
    }
    all
}

/// A payload that does not fit is refused, not tried: what is smaller boots, or the prompt waits.
fn too_little(context: &Context, arch: Arch) -> Result<()> {
    let mut chain = direct(context, arch)?;
    let files = chain.main_files(chain.make_initrd(&context.folder)?.as_deref());
    let large = files.clone().with_bytes("large", vec![0; 300 << 20]);
    chain.partitions = Some(vec![
        Partition::new("boot-a", Filesystem::Ext4, large),
        Partition::new("boot-b", Filesystem::Ext4, files),
    ]);
    let config = chain.usual_config();
    chain.config = Some(config.replacen("[\"initrd\"]", "[\"initrd\", \"large\"]", 1));
    let mut ended = Vec::new();
    for memory_mib in [128, 160, 192, 256, 384] {
        chain.machine.memory_mib = memory_mib;
        let ready = context.prepare(&chain)?;
        let mut vm = context.start(&ready.machine)?;
        vm.forbid("Kernel panic - not syncing|Killed process")?;
        vm.wait_for(
            r#"cato\[.*entry "a": payload: .*; use a smaller initrd or more memory.*; trying "b""#,
            Duration::from_mins(1),
        )?;
        let end = vm.wait_for(r"report: done|cato\[.*prompt: no entry left", Duration::from_mins(1))?;
        let word = if end.text.contains("report") {
            "booted"
        } else {
            "refused"
        };
        ended.push(format!("{memory_mib} MiB {word}"));
    }
    println!("size/{arch}/too-little: {}", ended.join(", "));
    Ok(())
}
