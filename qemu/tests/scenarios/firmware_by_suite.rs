//! Every firmware, from every kernel to every kernel: the main system must come up with what was asked for.

use config::Arch::{Arm64, X86_64};
use qemu::machine::Firmware::{Direct, UBoot, Uefi};
use qemu::scenario::Scenario;
use qemu::setup::Suite::{Bookworm, Trixie};

pub(crate) fn scenarios() -> Vec<Scenario> {
    let machines = [
        (Arm64, Direct),
        (Arm64, UBoot),
        (Arm64, Uefi),
        (X86_64, Direct),
        (X86_64, Uefi),
    ];
    let pairs = [(Bookworm, Bookworm), (Bookworm, Trixie), (Trixie, Trixie)];
    let mut all = Vec::new();
    for (arch, firmware) in machines {
        for (service, main) in pairs {
            // Every day: each firmware once, and the latest pair. Three of these boots are in `report/`, with more asked of them.
            let usual = (service, main) == (Bookworm, Trixie);
            let reported = matches!((arch, firmware), (_, Direct) | (Arm64, Uefi));
            let both_6_1 = main == Bookworm;
            let long = if usual {
                reported
            } else {
                firmware != Direct || both_6_1
            };
            let name = format!("firmware/{arch}/{firmware}/{}-to-{}", service.series(), main.series());
            let scenario = Scenario::new(name, move |context| {
                let mut chain = context.chain(arch, service, main)?;
                chain.machine.firmware = firmware;
                context.boots(&chain)?;
                Ok(())
            });
            all.push(scenario.long_if(long));
        }
    }
    all
}
