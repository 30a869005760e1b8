//! Fixture trees of both architectures, as text.

use std::fs;

use super::*;
use crate::machine::{Uart, UartKind};

/// A folder with these files in it.
fn tree(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        let path = dir.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

fn put(dir: &tempfile::TempDir, path: &str, bytes: &[u8]) {
    let path = dir.path().join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

const MEMINFO: (&str, &[u8]) = (
    "/proc/meminfo",
    b"MemTotal:        1003420 kB\nMemFree:          900000 kB\n",
);

fn pc() -> tempfile::TempDir {
    let mut params = vec![0; 4096];
    params[0x70..0x78].copy_from_slice(&0x7fe_0014u64.to_le_bytes());
    params[0x1e8] = 2;
    for (at, start, size, kind) in [(0x2d0, 0, 0x9_fc00u64, 1u32), (0x2e4, 0x10_0000, 0x3fee_0000, 1)] {
        let entry: Vec<u8> = [
            u64::to_le_bytes(start).as_slice(),
            &size.to_le_bytes(),
            &kind.to_le_bytes(),
        ]
        .concat();
        params[at..][..20].copy_from_slice(&entry);
    }
    tree(&[
        MEMINFO,
        (
            "/proc/iomem",
            b"00001000-0009fbff : System RAM\n00100000-3ffdffff : System RAM\n  01000000-01e02e66 : Kernel code\n  30000000-300000ff : reserved\n",
        ),
        ("/proc/cmdline", b"quiet console=tty0 console=ttyS0,115200\n"),
        ("/proc/cpuinfo", b"processor\t: 0\ncpu MHz\t\t: 2893.202\nflags\t\t: fpu la57 sse\n\nprocessor\t: 1\n"),
        ("/proc/consoles", b"tty0                 -WU (EC  p  )    4:1\nttyS0                -W- (E   p a)    4:64\n"),
        ("/sys/class/tty/ttyS0/type", b"4\n"),
        ("/sys/class/tty/ttyS0/io_type", b"0\n"),
        ("/sys/class/tty/ttyS0/port", b"0x3F8\n"),
        ("/sys/class/tty/ttyS0/iomem_base", b"0x0\n"),
        ("/sys/class/tty/ttyS0/iomem_reg_shift", b"0\n"),
        ("/sys/kernel/boot_params/data", &params),
    ])
}

fn span(start: u64, end: u64) -> Span {
    Span { start, end }
}

#[test]
fn a_pc_is_read() {
    let m = read(&pc().path(), Arch::X86_64).unwrap();
    assert_eq!(m.memory.total, 1_003_420 * 1024);
    assert_eq!(
        m.memory.usable,
        [
            span(0x1000, 0x9_f000),
            span(0x10_0000, 0x3000_0000),
            span(0x3000_1000, 0x3ffe_0000)
        ],
        "whole pages"
    );
    assert_eq!(m.memory.ram, [span(0x1000, 0x9_fc00), span(0x10_0000, 0x3ffe_0000)]);
    assert_eq!(
        m.memory.firmware,
        [(span(0, 0x9_fc00), 1), (span(0x10_0000, 0x3ffe_0000), 1)]
    );
    assert_eq!(m.rsdp, Some(0x7fe_0014));
    assert!(m.la57);
    assert_eq!(m.ticks_per_ms, Some(2_893_202));
    assert_eq!(
        m.uart,
        Some(Uart {
            kind: UartKind::Port16550,
            base: 0x3f8,
            reg_shift: 0
        })
    );
    assert_eq!(m.cmdline, "quiet console=tty0 console=ttyS0,115200");
    assert_eq!((m.efi, m.live_lpis, m.psci), (None, false, None));
    assert!(m.seed.is_some_and(|s| *s != [0; 136]));
}

#[test]
fn the_firmware_map_is_taken_before_the_zero_page() {
    let dir = pc();
    for (n, start, end, kind) in [
        ("10", "0x100000", "0x1fffff", "ACPI Tables"),
        ("2", "0x0", "0xfff", "System RAM"),
    ] {
        for (name, text) in [("start", start), ("end", end), ("type", kind)] {
            put(
                &dir,
                &format!("/sys/firmware/memmap/{n}/{name}"),
                format!("{text}\n").as_bytes(),
            );
        }
    }
    let m = read(&dir.path(), Arch::X86_64).unwrap();
    assert_eq!(
        m.memory.firmware,
        [(span(0, 0x1000), 1), (span(0x10_0000, 0x20_0000), 3)]
    );
}

#[test]
fn the_129th_entry_is_in_setup_data() {
    let dir = pc();
    let entry: Vec<u8> = [
        (4u64 << 30).to_le_bytes().as_slice(),
        &(1u64 << 30).to_le_bytes(),
        &7u32.to_le_bytes(),
    ]
    .concat();
    put(&dir, "/sys/kernel/boot_params/setup_data/0/type", b"0x9\n");
    put(&dir, "/sys/kernel/boot_params/setup_data/0/data", &[1; 40]);
    put(&dir, "/sys/kernel/boot_params/setup_data/1/type", b"0x1\n");
    put(&dir, "/sys/kernel/boot_params/setup_data/1/data", &entry);
    let m = read(&dir.path(), Arch::X86_64).unwrap();
    assert_eq!(m.memory.firmware.last(), Some(&(span(4 << 30, 5 << 30), 7)));
    assert_eq!(m.memory.firmware.len(), 3);
}

#[test]
fn efi_is_taken_whole_or_not_at_all() {
    let dir = pc();
    let mut params = fs::read(dir.path().join("sys/kernel/boot_params/data")).unwrap();
    params[0x70..0x78].fill(0);
    params[0x1c0..0x1c4].copy_from_slice(b"EL64");
    params[0x1c4..0x1c8].copy_from_slice(&0x3f9e_c018u32.to_le_bytes());
    params[0x1d8] = 1;
    put(&dir, "/sys/kernel/boot_params/data", &params);
    put(
        &dir,
        "/sys/firmware/efi/systab",
        b"ACPI20=0x3fb7e014\nACPI=0x3fb7e000\nSMBIOS3=0x1\nSMBIOS=0x3f9cc000\n",
    );
    put(&dir, "/sys/firmware/efi/fw_vendor", b"0x3fb8d018\n");
    put(&dir, "/sys/firmware/efi/config_table", b"0x3f9ebe98\n");
    for (n, phys) in [("0", "0x1000"), ("1", "0x2000")] {
        for (name, text) in [
            ("type", "0x5"),
            ("phys_addr", phys),
            ("virt_addr", "0xfffffffeffe00000"),
            ("num_pages", "0x3"),
            ("attribute", "0xf"),
        ] {
            put(
                &dir,
                &format!("/sys/firmware/efi/runtime-map/{n}/{name}"),
                format!("{text}\n").as_bytes(),
            );
        }
    }
    let m = read(&dir.path(), Arch::X86_64).unwrap();
    assert_eq!(m.rsdp, Some(0x3fb7_e014));
    assert_eq!(
        m.efi,
        Some(EfiInfo {
            fw_vendor: 0x3fb8_d018,
            config_table: 0x3f9e_be98,
            smbios: 0x3f9c_c000,
            systab: 0x1_3f9e_c018,
            runtime: vec![
                [5, 0x1000, 0xffff_fffe_ffe0_0000, 3, 15],
                [5, 0x2000, 0xffff_fffe_ffe0_0000, 3, 15]
            ],
        })
    );
    fs::remove_file(dir.path().join("sys/firmware/efi/runtime-map/1/attribute")).unwrap();
    assert_eq!(read(&dir.path(), Arch::X86_64).unwrap().efi, None);
}

fn board() -> tempfile::TempDir {
    tree(&[
        MEMINFO,
        (
            "/proc/iomem",
            b"40000000-7fffffff : System RAM\n  40210000-41b5ffff : Kernel code\n  48000000-480fffff : reserved\n",
        ),
        ("/proc/cmdline", b"console=ttyAMA0\n"),
        ("/proc/consoles", b"ttyAMA0              -W- (EC  p a)  204:64\n"),
        ("/sys/class/tty/ttyAMA0/type", b"32\n"),
        ("/sys/class/tty/ttyAMA0/io_type", b"3\n"),
        ("/sys/class/tty/ttyAMA0/iomem_base", b"0x9000000\n"),
        ("/sys/class/tty/ttyAMA0/iomem_reg_shift", b"0\n"),
        (
            "/sys/devices/system/cpu/cpu0/regs/identification/midr_el1",
            b"0x00000000410fd083\n",
        ),
        ("/sys/firmware/fdt", include_bytes!("../devicetree/samples/running.dtb")),
    ])
}

#[test]
fn a_board_is_read() {
    let m = read(&board().path(), Arch::Arm64).unwrap();
    assert_eq!(
        m.uart,
        Some(Uart {
            kind: UartKind::Pl011,
            base: 0x900_0000,
            reg_shift: 0
        })
    );
    assert_eq!(m.psci, Some(Conduit::Smc));
    assert_eq!(m.granules, [4096, 65536]);
    // /proc/iomem's reservation and the tree's.
    assert!(
        !m.memory
            .usable
            .iter()
            .any(|s| s.overlaps(&span(0x4800_0000, 0x4810_0000)))
    );
    assert!(
        !m.memory
            .usable
            .iter()
            .any(|s| s.overlaps(&span(0x5000_0000, 0x5040_0000)))
    );
    assert!(m.fdt.is_some());
}

#[test]
fn lpis_are_alive_unless_the_command_line_or_efi_says_otherwise() {
    let dir = board();
    assert!(read(&dir.path(), Arch::Arm64).unwrap().live_lpis);
    for (words, alive) in [
        ("irqchip.gicv3_nolpi=1", false),
        ("irqchip.gicv3_nolpi=Y", false),
        ("irqchip.gicv3_nolpi=on", false),
        ("irqchip.gicv3_nolpi=0", true),
        ("-- irqchip.gicv3_nolpi=1", true),
    ] {
        put(&dir, "/proc/cmdline", words.as_bytes());
        assert_eq!(read(&dir.path(), Arch::Arm64).unwrap().live_lpis, alive, "{words}");
    }
    put(&dir, "/proc/cmdline", b"");
    put(
        &dir,
        "/sys/firmware/fdt",
        include_bytes!("../devicetree/samples/stub.dtb"),
    );
    let mut fadt = vec![0; 276];
    fadt[129] = 3;
    put(&dir, "/sys/firmware/acpi/tables/FACP", &fadt);
    let m = read(&dir.path(), Arch::Arm64).unwrap();
    assert_eq!((m.live_lpis, m.psci), (false, Some(Conduit::Hvc)));
    fadt[129] = 1;
    put(&dir, "/sys/firmware/acpi/tables/FACP", &fadt);
    assert_eq!(read(&dir.path(), Arch::Arm64).unwrap().psci, Some(Conduit::Smc));
}

#[test]
fn consoles_the_purgatory_cannot_drive_are_passed_over() {
    let dir = board();
    put(
        &dir,
        "/proc/consoles",
        b"ttySAC0 -W- (EC  p a)  204:64\nhvc0 -W- (E) 229:0\nttyS1 -W- (E   p a) 4:65\nttyS2 -W- (E   p a) 4:66\n",
    );
    put(&dir, "/proc/cmdline", b"console=ttyS0 console=../ttyAMA0");
    for (name, kind) in [("ttySAC0", "3"), ("ttyS1", "0"), ("ttyS2", "4"), ("ttyS0", "4")] {
        for (file, text) in [
            ("type", kind),
            ("io_type", "2"),
            ("iomem_base", "0xfe201040"),
            ("iomem_reg_shift", "2"),
        ] {
            put(&dir, &format!("/sys/class/tty/{name}/{file}"), text.as_bytes());
        }
    }
    let m = read(&dir.path(), Arch::Arm64).unwrap();
    assert_eq!(
        m.uart,
        Some(Uart {
            kind: UartKind::Mmio16550,
            base: 0xfe20_1040,
            reg_shift: 2
        })
    );
    fs::remove_dir_all(dir.path().join("sys/class/tty/ttyS2")).unwrap();
    fs::remove_dir_all(dir.path().join("sys/class/tty/ttyS0")).unwrap();
    assert_eq!(read(&dir.path(), Arch::Arm64).unwrap().uart, None, "ttyS1 has type 0");
}

#[test]
fn what_is_missing_is_named() {
    let dir = board();
    fs::remove_file(dir.path().join("proc/meminfo")).unwrap();
    let text = read(&dir.path(), Arch::Arm64).unwrap_err().to_string();
    assert!(text.contains("/proc/meminfo"), "{text}");
    let dir = board();
    put(
        &dir,
        "/sys/firmware/fdt",
        b"\xd0\x0d\xfe\xedxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    );
    let text = read(&dir.path(), Arch::Arm64).unwrap_err().to_string();
    assert!(text.contains("/sys/firmware/fdt"), "{text}");
    fs::remove_file(dir.path().join("sys/firmware/fdt")).unwrap();
    assert!(read(&dir.path(), Arch::Arm64).unwrap().fdt.is_none());
}

#[test]
fn huge_pages_the_kernel_was_started_with_are_counted() {
    let dir = pc();
    assert_eq!(read(&dir.path(), Arch::X86_64).unwrap().huge_pages, 0);
    put(&dir, "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", b"3\n");
    put(
        &dir,
        "/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages",
        b"1\n",
    );
    assert_eq!(
        read(&dir.path(), Arch::X86_64).unwrap().huge_pages,
        (1 << 30) + (6 << 20)
    );
}
