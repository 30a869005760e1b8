//! What a kernel says as it dies, and what the service kernel says as it leaves, in memory that a reset keeps (ramoops).

use anyhow::{Result, ensure};
use config::Arch;
use qemu::chain::Chain;
use qemu::scenario::{Context, Scenario};
use qemu::setup::Suite::{self, Bookworm, Trixie};

use crate::slots::{Plan, each};

/// Away from what QEMU and firmware load again at a reset.
const PLACE: [(Arch, u64); 2] = [(Arch::Arm64, 0x6000_0000), (Arch::X86_64, 0x2000_0000)];
const LENGTH: u64 = 0x10_0000;

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (arch, place) in PLACE {
        let mut add = |name: &str, body: fn(&Context, Arch, u64) -> Result<()>| {
            let name = format!("last-words/{arch}/{name}");
            all.push(Scenario::new(name, move |context| body(context, arch, place)).long_if(true));
        };
        add("panic", panic);
        add("of-the-service-kernel", |context, arch, place| {
            of_the_service_kernel(context, arch, place, Bookworm)
        });
        add("of-the-service-kernel-6.12", |context, arch, place| {
            of_the_service_kernel(context, arch, place, Trixie)
        });
    }
    all
}

/// Both kernels keep records of `size` bytes in the same memory.
fn with_ramoops(plan: &Plan, context: &Context, arch: Arch, place: u64, size: u64) -> Result<Chain> {
    let mut chain = plan.chain(context, arch)?;
    chain.reserved.push((place, LENGTH));
    let words = format!(
        " ramoops.mem_address={place:#x} ramoops.mem_size={LENGTH:#x} ramoops.record_size={size:#x} ramoops.console_size=0"
    );
    let memmap = match arch {
        Arch::Arm64 => String::new(),
        Arch::X86_64 => format!(" memmap={LENGTH:#x}${place:#x}"),
    };
    let own = words.clone() + &memmap;
    chain.service.cmdline.push_str(&words);
    let config = chain.config.take().unwrap_or_default();
    chain.config = Some(config.replace(" panic=1 ", &format!("{own} panic=1 ")));
    Ok(chain)
}

/// With `ramoops.max_reason=4` (`KMSG_DUMP_SHUTDOWN`, include/linux/kmsg_dump.h) the service kernel's log is a record that the
/// main system finds, from Cato's first line to its last.
fn of_the_service_kernel(context: &Context, arch: Arch, place: u64, service: Suite) -> Result<()> {
    let plan = Plan {
        has_cato: true,
        modules: &["ramoops"],
        ..Plan::default()
    };
    let mut chain = with_ramoops(&plan, context, arch, place, 0x2_0000)?;
    chain.service.cmdline.push_str(" ramoops.max_reason=4");
    let kernel = context.kernel(arch, service)?;
    (chain.service.image, chain.service.modules) = (kernel.image, Some(kernel.modules));
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    let report = context.reports(&ready, &mut vm)?;
    let record = report.get("pstore").unwrap_or("none");
    let count = record
        .strip_prefix("dmesg-ramoops-0 Shutdown#1 Part1 ")
        .and_then(|count| count.parse::<usize>().ok());
    // From the entry's choice to the jump, without the table of segments.
    ensure!(
        count.is_some_and(|count| count >= 8),
        vm.failure(&format!("the main system finds {record}"))
    );
    Ok(())
}

/// A panics, and its last words are told by the service Linux, kept with the state, and found by B.
fn panic(context: &Context, arch: Arch, place: u64) -> Result<()> {
    let plan = Plan {
        words: ["report.panic", "report.run=last-words;status"],
        config: "[slots]\ntries = 1\n",
        has_cato: true,
        modules: &["ramoops"],
        ..Plan::default()
    };
    // So many that the driver is not done with them when it is loaded.
    let chain = with_ramoops(&plan, context, arch, place, 0x1000)?;
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    each(
        &vm,
        &[
            r#"cato: select: entry "a""#,
            "Kernel panic - not syncing",
            "cato: slots: slot A: booted, but not marked good: its kernel panicked",
            "cato: slots: last words: .*Kernel panic - not syncing: sysrq triggered crash",
            r#"cato: select: entry "b""#,
            "report: run=last-words: exit 0: .*Kernel panic - not syncing",
            "report: run=status: exit 0: .*its kernel panicked",
        ],
    )?;
    context.reports(&ready, &mut vm).map(drop)
}
