//! What is on the partition that a firmware starts a kernel from by itself, beside Cato's own UKI: U-Boot's `extlinux.conf` and
//! FIT, and systemd-boot.

use std::path::Path;

use anyhow::Result;
use config::Arch;
use mkinitramfs::disk::{Files, Filesystem, Partition};
use mkinitramfs::uki::{self, efi_name};

use crate::workspace;

/// The partition a firmware looks on.
pub fn partition(name: &str, filesystem: Filesystem, files: Files) -> Partition {
    Partition {
        bootable: true,
        ..Partition::new(name, filesystem, files)
    }
}

/// Image and initramfs beside an `extlinux.conf`.
pub fn extlinux(image: Vec<u8>, initramfs: &Path, cmdline: &str) -> Files {
    let conf = format!("default cato\nlabel cato\n  kernel /Image\n  initrd /initramfs\n  append {cmdline}\n");
    Files::new()
        .with_bytes("extlinux/extlinux.conf", conf)
        .with_bytes("Image", image)
        .with_file("initramfs", initramfs)
}

/// A FIT beside the script that starts it.
pub fn fit(made: &Path, cmdline: &str) -> Files {
    // Behind the start of RAM, where U-Boot puts the kernel.
    let at = "${ramdisk_addr_r}";
    let script = format!(
        "setenv bootargs {cmdline}\nload ${{devtype}} ${{devnum}}:${{distro_bootpart}} {at} /cato.itb\n\
         bootm {at}#cato {at}#cato ${{fdtcontroladdr}}\n"
    );
    Files::new()
        .with_bytes("boot.scr", u_boot_script(&script))
        .with_file("cato.itb", made)
}

/// systemd-boot where UEFI looks by itself, with kernel and initramfs as its only entry.
///
/// # Errors
/// What apt says, where it is to be fetched.
pub fn systemd_boot(kernel: Vec<u8>, initramfs: &Path, cmdline: &str) -> Result<Files> {
    let arch = Arch::X86_64;
    let name = efi_name(arch);
    let program = uki::from_systemd(
        &workspace::root(),
        arch,
        &format!("systemd-boot{}.efi", name.to_ascii_lowercase()),
    )?;
    let entry = format!("title cato\nlinux /linux\ninitrd /initramfs\noptions {cmdline}\n");
    Ok(Files::new()
        .with_bytes(&format!("EFI/BOOT/BOOT{name}.EFI"), program)
        .with_bytes("loader/loader.conf", "timeout 0\ndefault cato.conf\n")
        .with_bytes("loader/entries/cato.conf", entry)
        .with_bytes("linux", kernel)
        .with_file("initramfs", initramfs))
}

/// A script in the header that U-Boot wants (include/image.h, `struct legacy_img_hdr`).
fn u_boot_script(text: &str) -> Vec<u8> {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
    let sum = |bytes: &[u8]| {
        let mut sum = flate2::Crc::new();
        sum.update(bytes);
        sum.sum().to_be_bytes()
    };
    // The lengths of all scripts in it, up to a zero.
    let content = [&number(text.len()), &number(0), text.as_bytes()].concat();
    // Linux, arm64, script, not compressed; then the name.
    let (kind, name) = ([5, 22, 6, 0], [0; 32]);
    let header = |own: [u8; 4]| {
        let numbers = [
            0x2705_1956_u32.to_be_bytes(),
            own,
            [0; 4],
            number(content.len()),
            [0; 4],
            [0; 4],
        ]
        .concat();
        [numbers, sum(&content).to_vec(), kind.to_vec(), name.to_vec()].concat()
    };
    [header(sum(&header([0; 4]))), content.clone()].concat()
}
