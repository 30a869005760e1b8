//! The cross builds work on this machine, with a program of three lines.
//!
//! Cold, this builds the standard library for two targets: about a minute each. The results stay under `target/`.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, also in its helpers")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use config::Arch;
use goblin::elf::Elf;
use goblin::elf::header::{EM_AARCH64, EM_X86_64};
use goblin::elf::program_header::PT_INTERP;
use mkinitramfs::cross::{self, TargetKind};

fn workspace(name: &str, main: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(dir.join("src")).unwrap();
    fs::write(
        dir.join("Cargo.toml"),
        "[package]\nname = \"hello\"\nedition = \"2024\"\n[workspace]\n[profile.release]\npanic = \"abort\"\nopt-level = \"z\"\n",
    )
    .unwrap();
    fs::write(dir.join("src/main.rs"), main).unwrap();
    dir
}

#[test]
fn a_static_program_for_both_machines() {
    let workspace = workspace(
        "hello",
        "fn main() {\n    std::panic::set_hook(Box::new(|p| println!(\"hook: {p}\")));\n    \
         println!(\"hello\");\n    if std::env::args().count() > 1 { panic!(\"as asked\") }\n}\n",
    );
    for arch in Arch::ALL {
        let path = cross::build(&workspace, "hello", "hello", arch, TargetKind::Musl, "release", &[]).unwrap();
        let bytes = fs::read(&path).unwrap();
        let elf = Elf::parse(&bytes).unwrap();
        let machine = match arch {
            Arch::Arm64 => EM_AARCH64,
            Arch::X86_64 => EM_X86_64,
        };
        assert_eq!(elf.header.e_machine, machine);
        assert!(elf.program_headers.iter().all(|p| p.p_type != PT_INTERP));
        assert!(elf.syms.is_empty() && bytes.len() < 700_000, "{} bytes", bytes.len());
        let workspace = workspace.to_str().unwrap().as_bytes();
        assert!(
            !bytes.windows(workspace.len()).any(|w| w == workspace),
            "a path of this machine is in the program"
        );
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
        assert_eq!(String::from_utf8_lossy(&run.output().unwrap().stdout), "hello\n");
        let out = run.arg("panic").env("RUST_BACKTRACE", "1").output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(
            text.contains("hook: ") && text.contains("as asked"),
            "the panic hook did not run: {text}"
        );
        assert!(!out.status.success());
    }
}

#[test]
fn a_bare_program_for_both_machines() {
    let workspace = workspace(
        "bare",
        "#![no_std]\n#![no_main]\nuse core::panic::PanicInfo;\n\
         #[panic_handler]\nfn panic(_: &PanicInfo<'_>) -> ! { loop {} }\n\
         #[unsafe(no_mangle)]\npub extern \"C\" fn _start(p: &mut [u8; 512]) -> ! { *p = core::hint::black_box([0; 512]); loop {} }\n",
    );
    for arch in Arch::ALL {
        let path = cross::build(&workspace, "hello", "hello", arch, TargetKind::Bare, "release", &[]).unwrap();
        let bytes = fs::read(&path).unwrap();
        let elf = Elf::parse(&bytes).unwrap();
        assert!(elf.program_headers.iter().all(|p| p.p_type != PT_INTERP));
        assert!(elf.dynrelas.is_empty());
    }
}
