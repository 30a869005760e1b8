//! What a kernel says as it dies, and what the service kernel says as it leaves, in memory that a reset keeps (ramoops).

use anyhow::Result;
use config::Arch;
use qemu::scenario::{Context, Scenario};

use crate::slots::{Plan, each};

/// Away from what QEMU and firmware load again at a reset.
const PLACE: [(Arch, u64); 2] = [(Arch::Arm64, 0x6000_0000), (Arch::X86_64, 0x2000_0000)];
const LENGTH: u64 = 0x10_0000;

pub(crate) fn scenarios() -> Vec<Scenario> {
    PLACE
        .into_iter()
        .map(|(arch, place)| {
            Scenario::new(format!("last-words/{arch}/panic"), move |context| {
                panic(context, arch, place)
            })
            .long_if(true)
        })
        .collect()
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
    let mut chain = plan.chain(context, arch)?;
    chain.reserved.push((place, LENGTH));
    let words = format!(
        " ramoops.mem_address={place:#x} ramoops.mem_size={LENGTH:#x} ramoops.record_size=0x20000 ramoops.console_size=0"
    );
    let memmap = match arch {
        Arch::Arm64 => String::new(),
        Arch::X86_64 => format!(" memmap={LENGTH:#x}${place:#x}"),
    };
    let own = words.clone() + &memmap;
    chain.service.cmdline.push_str(&words);
    let config = chain.config.take().unwrap_or_default();
    chain.config = Some(config.replace(" panic=1 ", &format!("{own} panic=1 ")));
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    each(
        &vm,
        &[
            r#"cato: select: entry "a""#,
            "Kernel panic - not syncing",
            "cato: slots: last words: .*Kernel panic - not syncing: sysrq triggered crash",
            "cato: slots: slot A: booted, but not marked good: its kernel panicked",
            r#"cato: select: entry "b""#,
            "report: run=last-words: exit 0: .*Kernel panic - not syncing",
            "report: run=status: exit 0: .*its kernel panicked",
        ],
    )?;
    context.reports(&ready, &mut vm).map(drop)
}
