//! Service kernel, Cato and command line in the one file or folder that a firmware finds by itself, as `--output-kind` makes it.

use config::Arch::{Arm64, X86_64};
use mkinitramfs::bootable::Kind::{Esp, Fit};
use qemu::machine::Firmware::{UBoot, Uefi};
use qemu::scenario::Scenario;
use qemu::setup::Suite::{Bookworm, Trixie};

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (arch, kind, firmware) in [(X86_64, Esp, Uefi), (Arm64, Esp, Uefi), (Arm64, Fit, UBoot)] {
        for service in [Bookworm, Trixie] {
            let name = format!("bootable/{arch}/{kind}/{}", service.series());
            let scenario = Scenario::new(name, move |context| {
                let mut chain = context.chain(arch, service, Trixie)?;
                chain.machine.firmware = firmware;
                chain.service.kind = kind;
                context.boots(&chain)?;
                Ok(())
            });
            all.push(scenario.long_if(service == Trixie));
        }
    }
    all
}
