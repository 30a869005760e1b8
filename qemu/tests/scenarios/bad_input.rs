//! Everything that can be wrong with an entry: each is refused by name, with the cause and what happens next, and the
//! chain goes on to the entry that is right.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use config::Arch::{self, Arm64, X86_64};
use mkinitramfs::disk::{Content, Files, Filesystem, Partition};
use mkinitramfs::{Compress, compress};
use qemu::chain::Chain;
use qemu::machine::Firmware::Direct;
use qemu::scenario::Scenario;
use qemu::setup::Suite::{Bookworm, Trixie};
use stage::text::quoted;

use crate::initrd::mkimage;

/// An entry that must be refused.
struct Bad {
    name: &'static str,
    /// Lines of its table, instead of the right ones.
    source: &'static str,
    kernel: &'static str,
    more: String,
    /// What Cato must say, behind `entry "name": `.
    says: &'static str,
}

fn bad_entries(arch: Arch) -> Vec<Bad> {
    let bad = |name, kernel, says| Bad {
        name,
        source: "PARTLABEL=boot-a",
        kernel,
        more: String::new(),
        says,
    };
    let initrd = |name, says| Bad {
        more: format!("initrd = \"{name}\"\n"),
        ..bad(name, "kernel", says)
    };
    // The kernel is half there, by a header that says how long it is.
    let truncated = "kernel: truncated: truncated \\([0-9]+ of [0-9]+ bytes\\)";
    let other = match arch {
        Arm64 => "kernel: other: an x86 bzImage, but this machine is arm64",
        X86_64 => "kernel: other: an arm64 Image, but this machine is x86_64",
    };
    vec![
        Bad {
            source: "PARTLABEL=not-there",
            ..bad("no-disk", "kernel", "source PARTLABEL=not-there: not found")
        },
        bad("no-file", "not-there", "kernel: not-there: no such file"),
        bad("folder", "folder", "kernel: folder: a directory"),
        bad("pipe", "pipe", "kernel: pipe: a FIFO"),
        bad("empty", "empty", "kernel: empty: empty"),
        bad(
            "link-out",
            "link-out",
            r"kernel: link-out: the link link-out points to .*/proc/version.*, which does not exist",
        ),
        bad("truncated", "truncated", truncated),
        bad("other-machine", "other", other),
        bad(
            "no-kernel",
            "initrd",
            "kernel: initrd: a cpio archive, .*name it as initrd",
        ),
        initrd(
            "u-kernel",
            "initrd: u-kernel: U-Boot image of a kernel, not of a ramdisk",
        ),
        initrd(
            "u-damaged",
            "initrd: u-damaged: U-Boot image with a data checksum mismatch",
        ),
        initrd("u-packed", "initrd: u-packed: a U-Boot image inside gzip"),
        initrd("fit", "initrd: fit: a FIT image or a device tree, not an initramfs"),
        initrd("squashfs", "initrd: squashfs: a squashfs image, not an initramfs"),
        initrd(
            "odc",
            "initrd: odc: a cpio archive in the old portable format, not an initramfs",
        ),
        initrd("half", "initrd: half: truncated"),
        Bad {
            more: format!("sha256 = {{ kernel = \"{}\" }}\n", "0123456789abcdef".repeat(4)),
            ..bad("digest", "kernel", "kernel: kernel: sha256 mismatch")
        },
        Bad {
            more: format!("cmdline = {}\n", quoted(&"x=0123456789 ".repeat(180))),
            ..bad("long-cmdline", "kernel", "cmdline: 2[0-9]{3} bytes")
        },
    ]
}

fn config(chain: &Chain, bad: &[Bad]) -> String {
    let names: Vec<String> = bad.iter().map(|bad| bad.name).chain(["good"]).map(quoted).collect();
    let mut text = format!(
        "version = 1\norder = [{}]\n[console]\ncountdown = 0\n",
        names.join(", ")
    );
    for entry in bad {
        let Bad {
            name,
            source,
            kernel,
            more,
            ..
        } = entry;
        let cmdline = if more.starts_with("cmdline") {
            ""
        } else {
            "cmdline = \"x\"\n"
        };
        let _ = write!(
            text,
            "[entry.{name}]\nsource = \"{source}\"\nkernel = \"{kernel}\"\n{cmdline}{more}"
        );
    }
    let cmdline = quoted(&chain.cmdline);
    let _ = write!(
        text,
        "[entry.good]\nsource = \"PARTLABEL=boot-a\"\nkernel = \"kernel\"\ninitrd = [\"initrd\"]\ncmdline = {cmdline}\n"
    );
    text
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    let scenario = |arch: Arch| {
        Scenario::new(
            format!("bad-input/{arch}/each-is-refused-and-the-last-boots"),
            move |context| {
                let mut chain = context.chain(arch, Bookworm, Trixie)?;
                chain.machine.firmware = Direct;
                let other = context.kernel(if arch == Arm64 { X86_64 } else { Arm64 }, Bookworm)?;
                let kernel = fs::read(&chain.kernel)?;
                let initrd = chain.make_initrd(&context.folder)?;
                let whole = fs::read(initrd.as_deref().context("no initrd")?)?;
                let mut damaged = mkimage(3, &whole);
                damaged.truncate(damaged.len() - 1);
                damaged.push(0x55);
                let files: Files = chain
                    .main_files(initrd.as_deref())
                    .with("folder", Content::Folder)
                    .with("pipe", Content::Pipe)
                    .with_bytes("empty", "")
                    .with("link-out", Content::Link("../../../../proc/version".into()))
                    .with_bytes("truncated", kernel.get(..kernel.len() / 2).unwrap_or_default())
                    .with_bytes("u-kernel", mkimage(2, b"kernel"))
                    .with_bytes("u-damaged", damaged)
                    .with_bytes("u-packed", compress(&mkimage(3, &whole), Compress::Gzip)?)
                    .with_bytes("fit", b"\xd0\x0d\xfe\xed\0\0\x10\0")
                    .with_bytes("squashfs", [&b"hsqs"[..], &[7; 4096]].concat())
                    .with_bytes("odc", b"070707000001000002100644")
                    .with_bytes("half", whole.get(..whole.len() / 2).unwrap_or_default())
                    .with_file("other", other.image);
                chain.partitions = Some(vec![Partition::new("boot-a", Filesystem::Ext4, files)]);
                let bad = bad_entries(arch);
                chain.config = Some(config(&chain, &bad));

                let ready = context.prepare(&chain)?;
                let mut vm = context.start(&ready.machine)?;
                vm.forbid("Kernel panic - not syncing")?;
                let next = bad.iter().skip(1).map(|bad| bad.name).chain(["good"]);
                for (entry, next) in bad.iter().zip(next) {
                    let line = format!(r#"cato\[.*entry "{}": {}.*; trying "{next}""#, entry.name, entry.says);
                    vm.wait_for(&line, Duration::from_mins(1))?;
                }
                context.reports(&ready, &mut vm)?;
                Ok(())
            },
        )
    };
    Arch::ALL.into_iter().map(scenario).collect()
}
