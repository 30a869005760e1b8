//! Service kernel, Cato and command line in the one file or folder that a firmware finds by itself, as `--output-kind` makes it.

use config::Arch::{Arm64, X86_64};
use mkinitramfs::bootable::Kind::{Disk, Esp, Fit};
use qemu::machine::Firmware::{UBoot, Uefi};
use qemu::scenario::Scenario;
use qemu::setup::Suite::{Bookworm, Trixie};

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (arch, kind, firmware) in [
        (X86_64, Esp, Uefi),
        (Arm64, Esp, Uefi),
        (Arm64, Fit, UBoot),
        (X86_64, Disk, Uefi),
        (Arm64, Disk, Uefi),
        (Arm64, Disk, UBoot),
    ] {
        for service in [Bookworm, Trixie] {
            let name = format!("bootable/{arch}/{firmware}/{kind}/{}", service.series());
            let scenario = Scenario::new(name, move |context| {
                let mut chain = context.chain(arch, service, Trixie)?;
                chain.machine.firmware = firmware;
                chain.service.kind = kind;
                context.boots(&chain)?;
                Ok(())
            });
            // An EFI program is an EFI program, wherever it is.
            let is_long = service == Trixie || kind == Disk && arch == Arm64;
            all.push(scenario.long_if(is_long));
        }
    }
    all
}
