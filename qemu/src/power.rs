//! File systems as a power cut leaves them: written to and synced by a Debian kernel, in a machine that is then switched off.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use mkinitramfs::cpio::Entry;
use mkinitramfs::disk::Filesystem;
use mkinitramfs::modules::ModuleTree;

use crate::board::board;
use crate::guests;
use crate::machine::{DirectKernel, Drive, Machine};
use crate::setup::Kernel;
use crate::vm::{Vm, Watch};

/// How long writing a few bytes may take, a boot included.
const LIMIT: Duration = Duration::from_mins(3);

/// Lets `kernel` append `update` to the file `which` of the file system in `image` and sync it, and switches it off.
pub fn cut_power(kernel: &Kernel, filesystem: Filesystem, image: &Path, update: &[u8]) -> Result<()> {
    let folder = image.parent().unwrap_or(Path::new("."));
    let names = ["virtio_pci", "virtio_blk", filesystem.name()].map(str::to_owned);
    let modules = ModuleTree::open(&kernel.modules, kernel.arch)?.resolve(&names)?;
    let paths: Vec<&str> = modules.files.iter().map(|(path, _)| path.as_str()).collect();
    let mut entries = vec![
        Entry::program("/init", fs::read(guests::write(kernel.arch)?)?),
        Entry::file("/modules", paths.join("\n")),
        Entry::file("/kind", filesystem.name()),
        Entry::file("/update", update),
        Entry::dir("/dev"),
        Entry::char("/dev/console", 5, 1),
    ];
    entries.extend(
        modules
            .files
            .iter()
            .map(|(path, bytes)| Entry::file(path, bytes.clone())),
    );
    let initrd = folder.join("write-initrd");
    fs::write(&initrd, mkinitramfs::archive(entries)?)?;
    let machine = Machine {
        kernel: Some(DirectKernel {
            kernel: kernel.image.clone(),
            initrd: Some(initrd),
            cmdline: board(kernel.arch).console.to_owned(),
        }),
        drives: vec![Drive::raw(image)],
        ..Machine::new(kernel.arch)
    };
    let log = Some(folder.join("write.log"));
    let mut vm = Vm::start(&machine, LIMIT, &Watch { print: false, log })?;
    vm.forbid("Kernel panic - not syncing")?;
    vm.forbid("write: failed")?;
    vm.wait_for("write: synced", LIMIT)?;
    vm.stop();
    Ok(())
}
