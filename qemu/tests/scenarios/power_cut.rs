//! What was synced before a power cut is what boots, whatever the file system, and the disk stays as it was (design T14).

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use config::Arch::{self, Arm64, X86_64};
use mkinitramfs::cpio::Entry;
use mkinitramfs::disk::{Filesystem, Partition, journal};
use qemu::chain::Chain;
use qemu::machine::Firmware::Direct;
use qemu::power;
use qemu::scenario::{Context, LIMIT, Scenario};
use qemu::setup::Suite::{self, Bookworm, Trixie};
use sha2::{Digest as _, Sha256};
use stage::text::quoted;

/// Features that a reader of ext4 has to know, all at once.
const FEATURES: &str = "-O casefold,encrypt,large_dir,inline_data,meta_bg,^resize_inode";

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (arch, service, long) in [
        (Arm64, Bookworm, false),
        (Arm64, Trixie, true),
        (X86_64, Bookworm, true),
        (X86_64, Trixie, false),
    ] {
        let name = |what: &str| format!("power-cut/{arch}/{what}/{}", service.series());
        let scenario = Scenario::new(name("every-feature"), move |context| {
            every_feature(context, arch, service)
        });
        all.push(scenario.long_if(long || arch == X86_64));
        for filesystem in [Filesystem::Ext4, Filesystem::Xfs, Filesystem::Btrfs] {
            let scenario = Scenario::new(name(filesystem.name()), move |context| {
                written_by_a_kernel(context, arch, service, filesystem)
            });
            all.push(scenario.long_if(long || filesystem != Filesystem::Xfs || arch == Arm64));
        }
    }
    for arch in Arch::ALL {
        let long = arch == X86_64;
        let name = |what: &str| format!("power-cut/{arch}/{what}");
        let without = Scenario::new(name("no-device-mapper"), move |context| no_device_mapper(context, arch));
        // Blocks that are reserved and still have old bytes in them.
        let unwritten = Scenario::new(name("unwritten-extent"), move |context| {
            let garbage = ["fallocate /holes 1 1", "zap_block -f /holes -p 165 1"];
            holes(context, arch, 8192, "-b 4096", &garbage)
        });
        // The whole first indirect block is missing.
        let sparse = Scenario::new(name("indirect-hole"), move |context| {
            holes(context, arch, 5 << 20, "-b 4096 -O ^extents,^64bit", &[])
        });
        let hostile = Scenario::new(name("hostile"), move |context| hostile(context, arch));
        let full = Scenario::new(name("more-than-memory"), move |context| more_than_memory(context, arch));
        all.extend([without.long_if(!long), unwritten.long_if(long), sparse.long_if(true)]);
        all.extend([hostile.long_if(long), full.long_if(true)]);
    }
    all
}

/// A chain whose only disk is what the scenario makes of it.
fn chain(context: &Context, arch: Arch, service: Suite) -> Result<Chain> {
    let mut chain = context.chain(arch, service, Bookworm)?;
    chain.machine.firmware = Direct;
    Ok(chain)
}

/// An archive whose nonce comes over that of the archives before it.
fn archive(nonce: &str) -> Result<Vec<u8>> {
    mkinitramfs::archive([Entry::file("/nonce", format!("{nonce}\n"))])
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// What no report may show.
const OLD: &str = "the-one-before--";

/// `order` and the entries: name, PARTLABEL, kernel, further initrds.
fn config(chain: &Chain, entries: &[(&str, &str, &str, &[&str])]) -> String {
    let names: Vec<String> = entries.iter().map(|(name, ..)| quoted(name)).collect();
    let mut text = format!(
        "version = 1\norder = [{}]\n[console]\ncountdown = 0\n",
        names.join(", ")
    );
    for (name, label, kernel, more) in entries {
        let initrds: Vec<String> = ["initrd"].iter().chain(*more).map(|name| quoted(name)).collect();
        // A String takes every write.
        let _ = writeln!(
            text,
            "[entry.{name}]\nsource = \"PARTLABEL={label}\"\nkernel = {}\ninitrd = [{}]\ncmdline = {}",
            quoted(kernel),
            initrds.join(", "),
            quoted(&chain.cmdline)
        );
    }
    text
}

/// Boots; each of `says` must be said before, in this order, and nothing may be written to the disk.
fn boots(context: &Context, chain: &Chain, says: &[&str]) -> Result<()> {
    let ready = context.prepare(chain)?;
    let disk = context.folder.join("disk.img");
    let before = digest(&disk)?;
    let mut vm = context.start(&ready.machine)?;
    vm.forbid("Kernel panic - not syncing")?;
    vm.forbid(r"cato\[ *[0-9.]+\] prompt: no ")?;
    for line in says {
        vm.wait_for(&format!(r"cato\[ *[0-9.]+\] {line}"), LIMIT)?;
    }
    context.reports(&ready, &mut vm)?;
    drop(vm);
    ensure!(digest(&disk)? == before, "the disk was written to");
    Ok(())
}

fn digest(file: &Path) -> Result<Vec<u8>> {
    let mut digest = Sha256::new();
    let (mut file, mut part) = (File::open(file)?, vec![0; 1 << 20]);
    loop {
        match file.read(&mut part)? {
            0 => return Ok(digest.finalize().to_vec()),
            n => digest.update(part.get(..n).unwrap_or_default()),
        }
    }
}

const REPLAYED: &str = "probe: vda1 .*: not cleanly unmounted; its journal is replayed in memory";

/// The same volume again, after an entry that failed with it mounted.
const TWICE: [&str; 3] = [
    REPLAYED,
    r#"entry: entry "missing": kernel: not-there: no such file; trying "a""#,
    REPLAYED,
];

fn every_feature(context: &Context, arch: Arch, service: Suite) -> Result<()> {
    let mut chain = chain(context, arch, service)?;
    let initrd = chain.make_initrd(&context.folder)?;
    let (old, new) = (archive(OLD)?, archive(&chain.nonce)?);
    ensure!(
        old.len() == new.len() && old.len() <= 1024,
        "the archives are not alike"
    );
    // An archive of nothing is small enough to be in the inode.
    let inline = mkinitramfs::archive([])?;
    let files = chain
        .main_files(initrd.as_deref())
        .with_bytes("which", old)
        .with_bytes("inline", inline);
    chain.partitions = Some(vec![Partition {
        mkfs: words(FEATURES),
        unreplayed: vec![("which".into(), new)],
        ..Partition::new("boot-a", Filesystem::Ext4, files)
    }]);
    let (missing, a) = (
        ("missing", "boot-a", "not-there", &[][..]),
        ("a", "boot-a", "kernel", &["inline", "which"][..]),
    );
    chain.config = Some(config(&chain, &[missing, a]));
    boots(context, &chain, &TWICE)
}

fn written_by_a_kernel(context: &Context, arch: Arch, service: Suite, filesystem: Filesystem) -> Result<()> {
    let mut chain = chain(context, arch, service)?;
    let initrd = chain.make_initrd(&context.folder)?;
    let files = chain.main_files(initrd.as_deref()).with_bytes("which", archive(OLD)?);
    let image = context.folder.join("boot-a.img");
    let partition = Partition::new("boot-a", filesystem, files);
    partition.format(&image, &context.folder.join("staged"), uuid::Uuid::from_u128(1))?;
    power::cut_power(
        &context.kernel(arch, service)?,
        filesystem,
        &image,
        &archive(&chain.nonce)?,
    )?;
    chain.partitions = Some(vec![Partition {
        image: Some(image),
        ..partition
    }]);
    let (missing, a) = (
        ("missing", "boot-a", "not-there", &[][..]),
        ("a", "boot-a", "kernel", &["which"][..]),
    );
    chain.config = Some(config(&chain, &[missing, a]));
    boots(context, &chain, &TWICE)
}

/// Without the snapshot's modules a volume that was unmounted boots with a warning; one that was not is refused.
fn no_device_mapper(context: &Context, arch: Arch) -> Result<()> {
    let mut chain = chain(context, arch, Bookworm)?;
    let modules = context.folder.join("modules");
    let all = chain
        .service
        .modules
        .as_deref()
        .context("Debian's kernel has modules")?;
    linked(all, &modules, &|name| name.starts_with("dm-snapshot.ko"))?;
    chain.service.modules = Some(modules);
    let initrd = chain.make_initrd(&context.folder)?;
    let files = chain.main_files(initrd.as_deref()).with_bytes("which", "old!");
    chain.partitions = Some(vec![
        Partition {
            unreplayed: vec![("which".into(), b"new!".to_vec())],
            ..Partition::new("boot-a", Filesystem::Ext4, files.clone())
        },
        Partition::new("boot-b", Filesystem::Ext4, files),
    ]);
    chain.config = Some(config(
        &chain,
        &[("a", "boot-a", "kernel", &[]), ("b", "boot-b", "kernel", &[])],
    ));
    let says = [
        r#"entry: entry "a": .*vda1 .*: not cleanly unmounted.*no device-mapper.*--module dm_snapshot.*; trying "b""#,
        "probe: warning: vda2 .*: after a power cut it could not be read: .*no device-mapper",
    ];
    boots(context, &chain, &says)
}

/// A folder of hard links to all files in another but some.
fn linked(from: &Path, to: &Path, left_out: &dyn Fn(&str) -> bool) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, name) = entry.map(|e| (e.path(), e.file_name()))?;
        if path.is_symlink() || left_out(&name.to_string_lossy()) {
            continue;
        }
        let to = to.join(&name);
        if path.is_dir() {
            linked(&path, &to, left_out)?;
        } else if fs::hard_link(&path, &to).is_err() {
            fs::copy(&path, &to)?;
        }
    }
    Ok(())
}

/// What was never written reads as zeros: here between two archives, where the main kernel passes over zeros and nothing else.
fn holes(context: &Context, arch: Arch, hole: usize, mke2fs: &'static str, debugfs: &[&str]) -> Result<()> {
    let mut chain = chain(context, arch, Trixie)?;
    let initrd = chain.make_initrd(&context.folder)?;
    let mut bytes = archive(OLD)?;
    ensure!(bytes.len() <= 4096, "an archive is longer than a block");
    bytes.resize(hole, 0);
    bytes.extend(archive(&chain.nonce)?);
    let files = chain
        .main_files(initrd.as_deref())
        .with_bytes("which", "old!")
        .with_bytes("holes", bytes);
    chain.partitions = Some(vec![Partition {
        mkfs: words(mke2fs),
        debugfs: debugfs.iter().map(|&command| command.to_owned()).collect(),
        unreplayed: vec![("which".into(), b"new!".to_vec())],
        ..Partition::new("boot-a", Filesystem::Ext4, files)
    }]);
    chain.config = Some(config(&chain, &[("a", "boot-a", "kernel", &["holes"])]));
    boots(context, &chain, &[REPLAYED])
}

/// File systems that lie cost their own entries, and the next one boots.
fn hostile(context: &Context, arch: Arch) -> Result<()> {
    let mut chain = chain(context, arch, Bookworm)?;
    let initrd = chain.make_initrd(&context.folder)?;
    let files = chain.main_files(initrd.as_deref());
    let small = mkinitramfs::disk::Files::new()
        .with_bytes("kernel", "kernel")
        .with_bytes("initrd", "initrd");
    let bad = |label: &str, mke2fs, debugfs: &[&str]| Partition {
        mkfs: words(mke2fs),
        debugfs: debugfs.iter().map(|&command| command.to_owned()).collect(),
        ..Partition::new(label, Filesystem::Ext4, small.clone())
    };
    // Its superblock, from byte 1024: 2^32-1 blocks (at 4), one in each group (at 32).
    let groups = bad("groups", "-O ^metadata_csum,^64bit", &[]);
    let image = context.folder.join("groups.img");
    groups.format(&image, &context.folder.join("staged"), uuid::Uuid::from_u128(2))?;
    let raw = File::options().write(true).open(&image)?;
    raw.write_all_at(&u32::MAX.to_le_bytes(), 1024 + 4)?;
    raw.write_all_at(&1_u32.to_le_bytes(), 1024 + 32)?;
    chain.partitions = Some(vec![
        Partition {
            image: Some(image),
            ..groups
        },
        bad(
            "symlink",
            "",
            &["symlink /link kernel", "set_inode_field /link size 137438953472"],
        ),
        // The journal's inode: an extent tree of depth 5 whose next node is the superblock of the file system.
        bad(
            "journal",
            "",
            &[
                "set_inode_field <8> block[0] 0x0001f30a",
                "set_inode_field <8> block[1] 0x00050004",
                "set_inode_field <8> block[2] 0",
                "set_inode_field <8> block[3] 0",
                "set_inode_field <8> block[4] 1",
                "set_inode_field <8> block[5] 0",
                "feature needs_recovery",
            ],
        ),
        // Damage that the superblock wants a panic for.
        bad("panic", "-e panic", &["set_inode_field /kernel block[0] 0x12345678"]),
        Partition::new("boot-a", Filesystem::Ext4, files),
    ]);
    let entries: [(&str, &str, &str, &[&str]); 5] = [
        ("groups", "groups", "kernel", &[]),
        ("symlink", "symlink", "link", &[]),
        ("journal", "journal", "kernel", &[]),
        ("panic", "panic", "kernel", &[]),
        ("a", "boot-a", "kernel", &[]),
    ];
    chain.config = Some(config(&chain, &entries));
    let says = [
        r#"entry: entry "groups": .*vda1 .*Invalid argument.*; trying "symlink""#,
        r#"entry: entry "symlink": kernel: link: .*; trying "journal""#,
        r#"entry: entry "journal": .*vda3 .*; trying "panic""#,
        r#"entry: entry "panic": kernel: kernel: .*; trying "a""#,
    ];
    boots(context, &chain, &says)
}

/// A journal with more in it than half of the memory.
fn more_than_memory(context: &Context, arch: Arch) -> Result<()> {
    let mut chain = chain(context, arch, Bookworm)?;
    chain.machine.memory_mib = 512;
    // Less is quicker: what is left is about 240 MiB.
    let reserved = match arch {
        Arm64 => 0x5000_0000,
        X86_64 => 0x800_0000,
    };
    chain.reserved = vec![(reserved, 192 << 20)];
    let initrd = chain.make_initrd(&context.folder)?;
    let files = chain.main_files(initrd.as_deref());
    let full = Partition {
        // Blocks 90,000 to 141,200: what is replayed must not go over the journal itself.
        mkfs: words("-b 4096 -J size=200,location=90000"),
        ..Partition::new(
            "full",
            Filesystem::Ext4,
            mkinitramfs::disk::Files::new().with("room", mkinitramfs::disk::Content::Hole(700 << 20)),
        )
    };
    let image = context.folder.join("full.img");
    full.format(&image, &context.folder.join("staged"), uuid::Uuid::from_u128(3))?;
    journal::fill(&image, 33_000, 38_000)?;
    chain.partitions = Some(vec![
        Partition {
            image: Some(image),
            ..full
        },
        Partition::new("boot-a", Filesystem::Ext4, files),
    ]);
    chain.config = Some(config(
        &chain,
        &[("full", "full", "kernel", &[]), ("a", "boot-a", "kernel", &[])],
    ));
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    vm.forbid("Kernel panic - not syncing")?;
    let full = r#"cato\[.*entry: entry "full": .*vda1 .*takes more than half of the free memory; trying "a""#;
    vm.wait_for(full, LIMIT)?;
    // What it says of its memory lacks what is reserved.
    vm.wait_for("report: done", LIMIT).map(drop)
}
