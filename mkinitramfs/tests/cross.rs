//! The cross builds work on this machine, with the programs that run in the scenarios' main systems.
//!
//! Cold, this builds the standard library for both machines: about a minute each. The results stay under `target/`, where the
//! scenarios find them.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, also in its helpers")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use config::Arch;
use goblin::elf::Elf;
use goblin::elf::header::{EM_AARCH64, EM_X86_64};
use goblin::elf::program_header::PT_INTERP;
use mkinitramfs::cross::{self, TargetKind};
use mkinitramfs::errata;

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn build(program: &str, arch: Arch, kind: TargetKind) -> PathBuf {
    let profile = match kind {
        TargetKind::Musl => "release",
        TargetKind::Bare => "purgatory",
    };
    cross::build(workspace(), program, program, arch, kind, profile, &[]).unwrap()
}

#[test]
fn a_static_program_for_both_machines() {
    for arch in Arch::ALL {
        let path = build("guest-report", arch, TargetKind::Musl);
        let bytes = fs::read(&path).unwrap();
        let elf = Elf::parse(&bytes).unwrap();
        let machine = match arch {
            Arch::Arm64 => EM_AARCH64,
            Arch::X86_64 => EM_X86_64,
        };
        assert_eq!(elf.header.e_machine, machine);
        assert!(elf.program_headers.iter().all(|p| p.p_type != PT_INTERP));
        assert!(elf.syms.is_empty() && bytes.len() < 700_000, "{} bytes", bytes.len());
        let workspace = workspace().to_str().unwrap().as_bytes();
        assert!(
            !bytes.windows(workspace.len()).any(|w| w == workspace),
            "a path of this machine is in the program"
        );
        errata::none(&bytes, arch).unwrap();
        let with_symbols = fs::read(path.with_extension("sym")).unwrap();
        assert!(!Elf::parse(&with_symbols).unwrap().syms.is_empty());

        let qemu = Path::new("/usr/bin/qemu-aarch64-static");
        let mut run = match arch {
            _ if Arch::running() == Some(arch) => Command::new(&path),
            Arch::Arm64 if qemu.exists() => {
                let mut run = Command::new(qemu);
                run.arg(&path);
                run
            }
            _ => continue,
        };
        let output = run.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.ends_with("report: done\n"), "{arch}: {text}");
    }
}

#[test]
fn a_bare_program_for_both_machines() {
    for arch in Arch::ALL {
        let bytes = fs::read(build("guest-entry", arch, TargetKind::Bare)).unwrap();
        let elf = Elf::parse(&bytes).unwrap();
        assert!(elf.program_headers.iter().all(|p| p.p_type != PT_INTERP));
        assert!(elf.dynrelas.is_empty());
        errata::none(&bytes, arch).unwrap();
    }
}
