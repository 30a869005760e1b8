//! Initrds in every form that is taken: what U-Boot wants around them, a bootconfig at the end, several joined.

use std::fs;

use anyhow::{Context as _, ensure};
use config::Arch;
use flate2::Crc;
use mkinitramfs::cpio::{Entry, archive};
use mkinitramfs::{Compress, compress};
use qemu::chain::Chain;
use qemu::machine::Firmware::Direct;
use qemu::scenario::Scenario;
use qemu::setup::Suite::{Bookworm, Trixie};

pub(crate) fn scenarios() -> Vec<Scenario> {
    let of = |arch| wrapped_and_joined(arch).long_if(arch == Arch::X86_64);
    Arch::ALL.into_iter().map(of).collect()
}

/// A `uInitrd` with a bootconfig at its end, and another initrd behind it: the kernel unpacks both, and takes the bootconfig
/// off, which it does only where size and checksum are right and nothing is behind it (init/main.c; Debian's kernels do no
/// more than that, as they are built without CONFIG_BOOT_CONFIG).
fn wrapped_and_joined(arch: Arch) -> Scenario {
    Scenario::new(format!("initrd/{arch}/u-boot-bootconfig-joined"), move |context| {
        let mut chain = context.chain(arch, Bookworm, Trixie)?;
        chain.machine.firmware = Direct;
        chain.cmdline += " retain_initrd";
        let initrd = chain.make_initrd(&context.folder)?.context("no initrd")?;
        let initrd = fs::read(initrd)?;
        let attached = bootconfig("kernel.loglevel = 7\n", initrd.len());
        let wrapped = context.folder.join("uInitrd");
        fs::write(&wrapped, mkimage(3, &[&initrd[..], &attached].concat()))?;
        let second = archive([Entry::file("etc/report/second", "second\n")])?;
        let second = compress(&second, Compress::Zstd)?;
        let files = chain.main_files(Some(&wrapped)).with_bytes("second", second.clone());
        chain.partitions = Some(Chain::usual_partitions(&files));
        chain.config = Some(chain.usual_config().replace("[\"initrd\"]", "[\"initrd\", \"second\"]"));

        let (report, vm) = context.boots(&chain)?;
        let told = vm.lines().iter().any(|line| {
            line.text
                .contains("initrd[0]: initrd: its bootconfig was moved to the end of the last initrd")
        });
        ensure!(told, vm.failure("Cato did not say that it moved the bootconfig"));
        let files = report.get("initrd-files").unwrap_or_default();
        ensure!(
            files.contains("second="),
            vm.failure("the second initrd was not unpacked")
        );
        let whole = initrd.len().next_multiple_of(4) + second.len();
        let size = report.get("initrd-size").unwrap_or_default();
        ensure!(
            size.parse::<usize>()
                .is_ok_and(|size| (whole..whole + 4).contains(&size)),
            vm.failure(&format!(
                "the kernel kept {size} bytes of initrd, not {whole}: the bootconfig is not off"
            ))
        );
        Ok(())
    })
}

/// What `mkimage -T ramdisk` (type 3) writes: include/image.h of U-Boot, legacy format.
pub(crate) fn mkimage(kind: u8, data: &[u8]) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        let mut crc = Crc::new();
        crc.update(bytes);
        crc.sum().to_be_bytes()
    };
    let mut header = vec![0_u8; 64];
    for (at, bytes) in [
        (0, &0x2705_1956_u32.to_be_bytes()[..]),
        (12, &u32::try_from(data.len()).unwrap_or_default().to_be_bytes()),
        (24, &crc(data)),
        (28, &[5, 22, kind, 1]),
        (32, b"initrd"),
    ] {
        header.splice(at..at + bytes.len(), bytes.iter().copied());
    }
    let sum = crc(&header);
    header.splice(4..8, sum);
    header.extend_from_slice(data);
    header
}

/// What `bootconfig -a` attaches to an initrd of `before` bytes: Documentation/admin-guide/bootconfig.rst.
pub(crate) fn bootconfig(text: &str, before: usize) -> Vec<u8> {
    let mut data = text.as_bytes().to_vec();
    data.push(0);
    data.resize((before + data.len()).next_multiple_of(4) - before, 0);
    let sum: u32 = data.iter().map(|b| u32::from(*b)).sum();
    let size = u32::try_from(data.len()).unwrap_or_default();
    [&data[..], &size.to_le_bytes(), &sum.to_le_bytes(), b"#BOOTCONFIG\n"].concat()
}
