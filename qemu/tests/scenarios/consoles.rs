//! Consoles that nobody can read: none at all, and one that takes no further character. Neither holds anything up.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use config::Arch;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use qemu::board::board;
use qemu::scenario::{Context, Scenario};

use crate::slots::{Plan, SOON, state_of};

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for arch in Arch::ALL {
        let scenario = Scenario::new(format!("console/{arch}/none"), move |context| none(context, arch));
        all.push(scenario.long_if(true));
        let scenario = Scenario::new(format!("console/{arch}/never-drains"), move |context| {
            never_drains(context, arch)
        });
        all.push(scenario.long_if(true));
    }
    all
}

/// No kernel has a console. The main system, which is up, marks its slot good.
fn none(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan {
        words: ["report.run=mark-good", ""],
        has_cato: true,
        state_disk: Some(&[
            "-blockdev",
            "driver=file,node-name=state,filename=STATE",
            "-device",
            "virtio-blk-pci,drive=state",
        ]),
        ..Plan::default()
    };
    let mut chain = plan.chain(context, arch)?;
    // A port that no machine has.
    for text in [&mut chain.service.cmdline].into_iter().chain(&mut chain.config) {
        *text = text.replace(board(arch).console, "console=ttyS9");
    }
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    vm.wait_end(Duration::from_mins(2))?;
    let state = state_of(&fs::read(context.folder.join("state-disk.img"))?, &context.folder)?;
    ensure!(state.contains(r#""name":"A","condition":"good""#), "{state}");
    Ok(())
}

/// The service kernel's console is a serial line whose other end is full. The main system has another one.
fn never_drains(context: &Context, arch: Arch) -> Result<()> {
    let mut chain = Plan::default().chain(context, arch)?;
    let pipe = context.folder.join("full");
    let _kept_full = full(&pipe)?;
    let stuck = match arch {
        Arch::Arm64 => ["-device", "pci-serial,chardev=stuck"],
        Arch::X86_64 => ["-serial", "chardev:stuck"],
    };
    let console = match arch {
        Arch::Arm64 => "quiet console=ttyS0",
        Arch::X86_64 => "quiet console=ttyS1",
    };
    chain.service.cmdline = chain.service.cmdline.replace(board(arch).console, console);
    let pipe = format!("pipe,id=stuck,path={}", pipe.display());
    chain
        .machine
        .extra
        .extend(["-chardev", &pipe, stuck[0], stuck[1]].map(str::to_owned));
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    // None of it may be where it can be read, or the other console was not Cato's.
    vm.forbid(r"cato\[")?;
    vm.wait_for(&format!("report: initrd-nonce={}", chain.nonce), SOON)?;
    vm.wait_for("report: done", SOON).map(drop)
}

/// QEMU's `-chardev pipe` is two named pipes. Nothing more fits in the one that it writes to, as long as this is kept.
fn full(path: &Path) -> Result<File> {
    let (to, from) = (path.with_extension("in"), path.with_extension("out"));
    for pipe in [&to, &from] {
        mkfifo(pipe, Mode::S_IRUSR | Mode::S_IWUSR)?;
    }
    let mut from = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(from)?;
    loop {
        match from.write(b".") {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(Errno::EAGAIN as i32) => return Ok(from),
            Err(error) => return Err(error.into()),
        }
    }
}
