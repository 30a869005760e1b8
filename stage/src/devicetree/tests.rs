use proptest::prelude::*;
use purgatory::Conduit;

use super::*;

const RUNNING: &[u8] = include_bytes!("samples/running.dtb");
const STUB: &[u8] = include_bytes!("samples/stub.dtb");
const NAMED: &[u8] = include_bytes!("samples/named.dtb");

const INITRD: Span = Span {
    start: 0x1_2345_6000,
    end: 0x1_2355_6789,
};

fn chosen(seed: Option<&[u8; 136]>) -> Chosen<'_> {
    Chosen {
        cmdline: "root=/dev/vda2 ro",
        initrd: Some(INITRD),
        seed,
    }
}

/// What another parser finds at a path.
fn read(blob: &[u8], path: &str, name: &str) -> Option<Vec<u8>> {
    let fdt = fdt::Fdt::new(blob).unwrap();
    fdt.find_node(path)?.property(name).map(|p| p.value.to_vec())
}

fn memreserves(tree: &Tree) -> Vec<(u64, u64)> {
    tree.tree
        .memory_reservations
        .iter()
        .map(|r| (r.address(), r.size()))
        .collect()
}

/// The blob with `name`'s property in `/chosen` blotted out with FDT_NOP, as the kernel does it.
fn blotted(blob: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = blob.to_vec();
    let at = out.windows(value.len()).position(|w| w == value).unwrap();
    for word in out[at - 12..at + value.len()].chunks_exact_mut(4) {
        word.copy_from_slice(&4u32.to_be_bytes());
    }
    out
}

const RNG_SEED: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

#[test]
fn the_running_tree_forgets_its_boot_and_learns_the_next_one() {
    let mut seed = [0u8; 136];
    for (n, byte) in (0..).zip(&mut seed) {
        *byte = n;
    }
    let mut tree = Tree::parse(RUNNING).unwrap();
    tree.forget_last_boot();
    tree.add_memory(&[Span {
        start: 0x8000_0000,
        end: 0x9000_0000,
    }])
    .unwrap();
    tree.set_chosen(&chosen(Some(&seed)));
    let blob = tree.to_dtb().unwrap();
    let get = |name: &str| read(&blob, "/chosen", name);
    assert_eq!(get("bootargs").unwrap(), b"root=/dev/vda2 ro\0");
    assert_eq!(get("linux,initrd-start").unwrap(), INITRD.start.to_be_bytes());
    assert_eq!(get("linux,initrd-end").unwrap(), INITRD.end.to_be_bytes());
    assert_eq!(get("kaslr-seed").unwrap(), seed[..8]);
    assert_eq!(get("rng-seed").unwrap(), seed[8..]);
    assert_eq!(get("stdout-path").unwrap(), b"/soc/serial@9000000:115200n8\0");
    for name in STALE {
        assert_eq!(get(name), None, "{name}");
    }
    // The initrd's reservation is gone, the spin table's stays; and so does what the firmware said of the board.
    assert_eq!(memreserves(&tree), [(0x4a00_0000, 0x1000)]);
    assert_eq!(
        read(&blob, "/memory@40000000", "reg").unwrap(),
        [0u64.to_be_bytes(), 0u64.to_be_bytes()]
            .concat()
            .iter()
            .zip([0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0])
            .map(|(a, b)| a | b)
            .collect::<Vec<u8>>()
    );
    assert_eq!(read(&blob, "/memory@80000000", "reg"), None, "it has memory of its own");
    assert!(read(&blob, "/reserved-memory/firmware@50000000", "no-map").is_some());
    assert!(read(&blob, "/soc/usb@9100000", "snps,gfladj-refclk-lpm-sel-quirk").is_some());
    assert!(blob.len() < RUNNING.len(), "packed");
}

#[test]
fn regions_with_a_size_only_are_named() {
    let cma = |name: &str, size, align, within| Unplaced {
        is_default: false,
        name: name.into(),
        size,
        align,
        within,
    };
    let span = |start, end| Span { start, end };
    let mut tree = Tree::parse(RUNNING).unwrap();
    let anywhere = vec![span(0, u64::MAX)];
    assert_eq!(
        tree.unplaced(),
        [cma("linux,cma", 0x400_0000, 4 << 20, anywhere.clone())]
    );
    let regions = tree.tree.root.child_mut("reserved-memory").unwrap();
    let mut add = |name: &str, properties: &[(&str, &[u8])]| {
        let node = regions.add_child_mut(DeviceTreeNode::new(name).unwrap());
        for (name, value) in properties {
            node.add_property(DeviceTreeProperty::new(*name, *value).unwrap());
        }
    };
    let size = (1_u64 << 20).to_be_bytes();
    let ranges = [0x4000_0000_u64, 0x1000_0000, 0x8000_0000, 0x1000]
        .map(u64::to_be_bytes)
        .concat();
    add(
        "codec",
        &[("size", &size), ("alignment", &size), ("alloc-ranges", &ranges)],
    );
    add("disabled", &[("size", &size), ("status", b"disabled\0")]);
    add("nothing", &[("size", &[0; 8])]);
    add("no-size", &[]);
    add("odd", &[("size", &[1, 2, 3]), ("alignment", &[])]);
    for n in 0..70 {
        add(&format!("more-{n}"), &[("size", &size), ("alignment", &[0xff; 8])]);
    }
    let found = tree.unplaced();
    assert_eq!(found.len(), 64);
    let within = vec![span(0x4000_0000, 0x5000_0000), span(0x8000_0000, 0x8000_1000)];
    assert_eq!(found[1], cma("codec", 1 << 20, 1 << 20, within));
    assert_eq!(found[2], cma("more-0", 1 << 20, u64::MAX, anywhere));
}

#[test]
fn without_randomness_and_initrd_nothing_stale_is_left() {
    let mut tree = Tree::parse(RUNNING).unwrap();
    tree.set_chosen(&Chosen {
        cmdline: "",
        initrd: None,
        seed: None,
    });
    let blob = tree.to_dtb().unwrap();
    for name in [
        "kaslr-seed",
        "rng-seed",
        "bootargs",
        "linux,initrd-start",
        "linux,initrd-end",
    ] {
        assert_eq!(read(&blob, "/chosen", name), None, "{name}");
    }
}

#[test]
fn what_the_kernel_blotted_out_is_passed_over() {
    let blob = blotted(RUNNING, &RNG_SEED);
    let mut tree = Tree::parse(&blob).unwrap();
    assert!(tree.chosen().unwrap().property("rng-seed").is_none());
    assert!(
        tree.chosen().unwrap().property("linux,initrd-end").is_some(),
        "it is after the hole"
    );
    tree.set_chosen(&chosen(None));
    assert!(read(&tree.to_dtb().unwrap(), "/psci", "method").is_some());
    let facts = facts(&blob).unwrap();
    assert_eq!((facts.psci, facts.its, facts.efi), (Some(Conduit::Smc), true, false));
    assert_eq!(facts.reserved.len(), 3);
}

#[test]
fn the_old_tree_s_own_reservation_is_known_by_its_length() {
    // The spin table's entry, made as long as the tree is.
    let with = |address: u64| {
        let mut blob = RUNNING.to_vec();
        let entry = [0x4a00_0000u64.to_be_bytes(), 0x1000u64.to_be_bytes()].concat();
        let at = blob.windows(16).position(|w| w == entry).unwrap();
        let len = u64::try_from(blob.len()).unwrap();
        blob[at..at + 16].copy_from_slice(&[address.to_be_bytes(), len.to_be_bytes()].concat());
        let mut tree = Tree::parse(&blob).unwrap();
        tree.forget_last_boot();
        memreserves(&tree)
    };
    assert_eq!(with(0x4b00_0000), []);
    let len = u64::try_from(RUNNING.len()).unwrap();
    assert_eq!(with(0x4a00_0000), [(0x4a00_0000, len)], "a CPU waits in it");
}

#[test]
fn an_initrd_reservation_in_whole_pages_goes_too() {
    let mut tree = Tree::parse(RUNNING).unwrap();
    for size in [0x31_3000, 0x31_4000, 0x32_0000, 0x33_0000] {
        tree.tree
            .memory_reservations
            .push(MemoryReservation::new(0x4800_0000, size));
    }
    tree.tree
        .memory_reservations
        .push(MemoryReservation::new(0x7000_0000, 0x2000));
    tree.forget_last_boot();
    assert_eq!(memreserves(&tree), [(0x4a00_0000, 0x1000), (0x4800_0000, 0x33_0000)]);
}

#[test]
fn a_stub_stays_a_stub() {
    let mut tree = Tree::parse(STUB).unwrap();
    assert!(tree.is_stub() && tree.memory().is_none());
    tree.forget_last_boot();
    tree.add_memory(&[Span {
        start: 0x4000_0000,
        end: 0x8000_0000,
    }])
    .unwrap();
    tree.set_chosen(&chosen(None));
    let blob = tree.to_dtb().unwrap();
    assert!(Tree::parse(&blob).unwrap().is_stub());
    let fdt = fdt::Fdt::new(&blob).unwrap();
    assert_eq!(fdt.all_nodes().map(|n| n.name).collect::<Vec<_>>(), ["/", "chosen"]);
    let get = |name: &str| read(&blob, "/chosen", name);
    assert_eq!(get("linux,uefi-system-table").unwrap(), 0x7bfe_0018u64.to_be_bytes());
    assert_eq!(get("linux,initrd-start").unwrap(), INITRD.start.to_be_bytes());
    let facts = facts(STUB).unwrap();
    assert_eq!((facts.psci, facts.its, facts.efi), (None, false, true));
}

#[test]
fn a_tree_from_a_disk_gets_what_the_firmware_told_the_running_one() {
    let mut running = Tree::parse(RUNNING).unwrap();
    running.forget_last_boot();
    let mut tree = Tree::parse(NAMED).unwrap();
    let said = tree.correct(Some(&running), &[]).unwrap();
    assert_eq!(said.len(), 2, "{said:?}");
    tree.set_chosen(&chosen(None));
    let blob = tree.to_dtb().unwrap();
    // In this tree's cells, and without a phandle that is somebody else's here.
    assert_eq!(
        read(&blob, "/reserved-memory/firmware@50000000", "reg").unwrap(),
        [0x50, 0, 0, 0, 0, 0x40, 0, 0]
    );
    assert_eq!(read(&blob, "/reserved-memory/firmware@50000000", "phandle"), None);
    assert!(read(&blob, "/reserved-memory/firmware@50000000", "no-map").is_some());
    assert!(read(&blob, "/reserved-memory/ramoops@5f000000", "reg").is_some());
    assert_eq!(
        read(&blob, "/reserved-memory/linux,cma", "size"),
        None,
        "each kernel finds a place of its own"
    );
    assert_eq!(memreserves(&tree), [(0x4a00_0000, 0x1000)]);
    assert_eq!(
        read(&blob, "/memory@40000000", "reg").unwrap(),
        [0x40, 0, 0, 0].repeat(2)
    );
    assert_eq!(read(&blob, "/memory@0", "reg"), None, "the empty node");
    assert_eq!(read(&blob, "/chosen", "stdout-path").unwrap(), b"serial0\0");
    assert_eq!(tree.memory().unwrap().len(), 1);
    assert_eq!(tree.reservations().len(), 3);
}

#[test]
fn a_tree_from_a_disk_finds_efi_and_its_memory_map() {
    let mut tree = Tree::parse(NAMED).unwrap();
    let ram = Span {
        start: 0x4000_0000,
        end: 0x8000_0000,
    };
    tree.correct(Some(&Tree::parse(STUB).unwrap()), &[ram]).unwrap();
    let blob = tree.to_dtb().unwrap();
    assert_eq!(
        read(&blob, "/chosen", "linux,uefi-mmap-size").unwrap(),
        0x1000u32.to_be_bytes()
    );
    assert_eq!(read(&blob, "/memory@40000000", "reg"), None, "the kernel asks EFI");
}

#[test]
fn memory_that_does_not_fit_into_the_cells_is_an_error() {
    let mut tree = Tree::parse(NAMED).unwrap();
    let error = tree
        .add_memory(&[Span {
            start: 1 << 32,
            end: 2 << 32,
        }])
        .unwrap_err();
    assert_eq!(
        error,
        DtbError::Cells {
            value: 1 << 32,
            cells: 1
        }
    );
}

#[test]
fn the_record_is_in_chosen_and_its_place_is_known() {
    let record: Vec<u8> = (0..=255).cycle().take(1000).collect();
    for sample in [RUNNING, STUB, NAMED] {
        let mut tree = Tree::parse(sample).unwrap();
        assert_eq!((tree.handover(), handover_at(sample)), (None, None));
        tree.set_handover(b"an older one");
        tree.set_handover(&record);
        tree.set_chosen(&chosen(Some(&[7; 136])));
        let mut blob = tree.to_dtb().unwrap();
        let at = handover_at(&blob).unwrap();
        assert_eq!(blob[at..at + record.len()], record);
        assert_eq!(read(&blob, "/chosen", "cato,handover").unwrap(), record);
        // Patched in place, as the stage and the purgatory do it, it is still the same tree.
        blob[at..at + 64].fill(0xaa);
        let mut patched = Tree::parse(&blob).unwrap();
        assert_eq!(patched.handover().unwrap()[..65], [&[0xaa; 64][..], &[64]].concat());
        assert_eq!(patched.is_stub(), sample == STUB);
        // The next boot of this kernel as a service kernel has nothing of it.
        patched.forget_last_boot();
        assert_eq!(handover_at(&patched.to_dtb().unwrap()), None);
    }
    assert_eq!(handover_at(b"junk"), None);
}

#[test]
fn a_tree_without_chosen_gets_one() {
    let mut tree = Tree {
        tree: DeviceTree::new(),
        size: 0,
    };
    tree.set_chosen(&chosen(None));
    assert!(read(&tree.to_dtb().unwrap(), "/chosen", "bootargs").is_some());
}

/// A blob whose structure block is these words.
fn made(words: &[u32]) -> Vec<u8> {
    let size = u32::try_from(words.len()).unwrap() * 4;
    let header = [
        0xd00d_feed,
        56 + size + 8,
        56,
        56 + size,
        40,
        17,
        16,
        0,
        8,
        size,
        0,
        0,
        0,
        0,
    ];
    header
        .iter()
        .chain(words)
        .flat_map(|w| w.to_be_bytes())
        .chain(*b"reg\0abc\0")
        .collect()
}

#[test]
fn hostile_structures_are_refused_and_say_where() {
    assert!(Tree::parse(&made(&[1, 0, 2, 9])).is_ok());
    let name = u32::from_be_bytes(*b"a\0\0\0");
    let deep: Vec<u32> = [1, 0].into_iter().chain((0..100_000).flat_map(|_| [1, name])).collect();
    assert!(matches!(
        Tree::parse(&made(&deep)),
        Err(DtbError::TooDeep { limit: 32, .. })
    ));
    for (words, what) in [
        (&[1, 0, 2][..], "structure block without FDT_END"),
        (&[9], "bad token"),
        (&[1, 0, 7], "bad token"),
        (&[1, 0, 9], "bad token"),
        (&[2, 9], "FDT_END_NODE without a node"),
        (&[1, 0, 2, 1, 0, 2, 9], "second root node"),
        (&[1, name, 2, 9], "bad node name"),
        (&[1, 0, 1, 0, 2, 2, 9], "bad node name"),
        (&[3, 0, 0, 1, 0, 2, 9], "property after a subnode or outside any node"),
        (
            &[1, 0, 1, name, 2, 3, 0, 0, 2, 9],
            "property after a subnode or outside any node",
        ),
        (&[1, 0, 3, 0, 100, 2, 9], "bad property name"),
        (&[1, 0, 3, u32::MAX, 0, 2, 9], "bad property length"),
        (&[1, 0, 3], "bad property"),
    ] {
        match Tree::parse(&made(words)) {
            Err(DtbError::Malformed { what: said, .. }) => assert_eq!(said, what, "{words:?}"),
            other => panic!("{words:?}: {other:?}"),
        }
    }
}

#[test]
fn hostile_headers_are_refused() {
    assert_eq!(
        Tree::parse(b"\xd0\x0d\xfe\xed").unwrap_err(),
        DtbError::Truncated { have: 4, need: 40 }
    );
    let said = |blob: &[u8]| Tree::parse(blob).unwrap_err().to_string();
    assert_eq!(said(b""), "truncated (0 of 40 bytes); copy it again");
    assert_eq!(
        said(&RUNNING[..39]),
        format!("truncated (39 of {} bytes); copy it again", RUNNING.len())
    );
    assert!(said(b"/dts-v1/; / { };").starts_with("not a device tree blob (begins with 2f647473"));
    assert_eq!(
        said(&vec![0; 3 << 20]),
        "too large: 3 MiB, the kernel takes at most 2 MiB"
    );
    let good = made(&[1, 0, 2, 9]);
    assert!(
        Tree::parse(&[&good[..], &[0xff; 100]].concat()).is_ok(),
        "bytes after it do not count"
    );
    assert!(matches!(
        Tree::parse(&good[..good.len() - 1]),
        Err(DtbError::Truncated { .. })
    ));
    for (at, value) in [
        (4, 3u32 << 20),
        (20, 16),
        (24, 18),
        (16, 41),
        (16, 0),
        (16, 1 << 30),
        (8, 4),
        (8, 57),
        (12, u32::MAX),
        (32, u32::MAX),
        (36, u32::MAX),
    ] {
        let mut bad = good.clone();
        bad[at..at + 4].copy_from_slice(&value.to_be_bytes());
        assert!(Tree::parse(&bad).is_err(), "{value:#x} at {at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Whatever a disk has: an error or a tree that goes all the way and is one again.
    #[test]
    fn mutated_trees_never_panic(
        which in 0usize..3,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        words in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![Just(1u32), Just(2), Just(3), Just(4), Just(9), any::<u32>()]), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        by in 0usize..3,
    ) {
        let mut blob = [RUNNING, STUB, NAMED][which].to_vec();
        for (at, value) in flips {
            let at = at.index(blob.len());
            blob[at] = value;
        }
        for (at, value) in words {
            let at = at.index(blob.len() / 4) * 4;
            blob[at..at + 4].copy_from_slice(&value.to_be_bytes());
        }
        if let Some(cut) = cut {
            blob.truncate(cut.index(blob.len()));
        }
        let _ = facts(&blob);
        if let Ok(mut tree) = Tree::parse(&blob) {
            let ram = [Span { start: 0x4000_0000, end: 0x1_0000_0000 }];
            let whole = Tree::parse([RUNNING, STUB, NAMED][by]).unwrap();
            let _ = whole.clone().correct(Some(&tree), &ram);
            if tree.correct(Some(&whole), &ram).is_ok() {
                let _ = tree.reservations();
                tree.set_chosen(&chosen(None));
                if let Ok(blob) = tree.to_dtb() {
                    prop_assert!(Tree::parse(&blob).is_ok());
                }
            }
        }
    }
}
