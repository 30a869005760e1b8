use super::*;
use dtoolkit::memreserve::MemoryReservation;

const GIB: u64 = 1 << 30;

fn set(node: &mut DeviceTreeNode, name: &str, value: &[u8]) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value.to_vec()));
}

fn child<'a>(node: &'a mut DeviceTreeNode, name: &str) -> &'a mut DeviceTreeNode {
    node.add_child_mut(DeviceTreeNode::new_unchecked(name))
}

fn cells(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

/// Adds a memory node of two cells each.
fn memory<'a>(root: &'a mut DeviceTreeNode, name: &str, start: u64, size: u64) -> &'a mut DeviceTreeNode {
    let node = child(root, name);
    set(node, "device_type", b"memory\0");
    set(node, "reg", &[start.to_be_bytes(), size.to_be_bytes()].concat());
    child(root, name)
}

/// A board's tree without memory, changed by `change`.
fn board(change: impl FnOnce(&mut DeviceTreeNode)) -> Tree {
    let mut tree = Tree {
        tree: dtoolkit::model::DeviceTree::new(),
        size: 0,
    };
    let root = &mut tree.tree.root;
    set(root, "#address-cells", &cells(&[2]));
    set(root, "#size-cells", &cells(&[2]));
    set(root, "compatible", b"maker,board\0maker,chip\0");
    child(root, "soc");
    change(root);
    Tree::parse(&tree.to_dtb().unwrap()).unwrap()
}

/// A machine with 1 GiB from 1 GiB on.
fn running(change: impl FnOnce(&mut DeviceTreeNode)) -> Tree {
    board(|root| {
        memory(root, "memory@40000000", GIB, GIB);
        change(root);
    })
}

fn taken(names: &[&str]) -> Vec<Correction> {
    vec![Correction::Taken(names.iter().map(|n| (*n).to_owned()).collect())]
}

/// The file, as the machine corrects it, read again.
fn corrected(mut file: Tree, running: &Tree) -> (Tree, Vec<Correction>) {
    let said = file.correct(Some(running), &[]).unwrap();
    (Tree::parse(&file.to_dtb().unwrap()).unwrap(), said)
}

fn value(tree: &Tree, path: &str, name: &str) -> Option<Vec<u8>> {
    Some(tree.tree.find_node(path)?.property(name)?.value().to_vec())
}

type Change = fn(&mut DeviceTreeNode);

#[test]
fn memory_is_the_machine_s() {
    let machine = running(|root| set(child(root, "memory@40000000"), "numa-node-id", &cells(&[0])));
    let wrong: [(Change, u64); 6] = [
        (|_| (), 0),
        (|root| _ = memory(root, "memory@40000000", GIB, 2 * GIB), 2 * GIB),
        (|root| _ = memory(root, "memory@40000000", GIB, GIB / 2), GIB / 2),
        (|root| _ = memory(root, "memory", 2 * GIB, GIB), GIB),
        (|root| _ = memory(root, "memory@0", 0, 0), 0),
        (
            |root| {
                memory(root, "memory@40000000", GIB, GIB);
                memory(root, "memory@100000000", 4 * GIB, 4 * GIB);
            },
            5 * GIB,
        ),
    ];
    for (change, says) in wrong {
        let (tree, said) = corrected(board(change), &machine);
        assert_eq!(said, [Correction::Memory { says, has: GIB }]);
        assert_eq!(tree.memory(), machine.memory());
        assert_eq!(tree.memory_nodes().count(), 1);
        assert!(value(&tree, "/memory@40000000", "numa-node-id").is_some());
        assert!(tree.tree.root.child("soc").is_some());
    }
}

#[test]
fn memory_that_is_right_is_left_alone() {
    let machine = running(|_| ());
    for file in [
        board(|root| _ = memory(root, "memory@80000000", GIB, GIB)),
        // Two nodes of NUMA, one bank.
        board(|root| {
            memory(root, "memory@40000000", GIB, GIB / 2);
            memory(root, "memory@60000000", GIB + GIB / 2, GIB / 2);
        }),
        board(|root| {
            let node = memory(root, "memory@40000000", GIB, 8 * GIB);
            set(
                node,
                "linux,usable-memory",
                &[GIB.to_be_bytes(), GIB.to_be_bytes()].concat(),
            );
        }),
        // QEMU's with a secure world: memory, and not for the kernel.
        board(|root| {
            memory(root, "memory@40000000", GIB, GIB);
            set(
                memory(root, "secram@e000000", 0x0e00_0000, 0x100_0000),
                "status",
                b"disabled\0",
            );
        }),
    ] {
        let before = file.to_dtb().unwrap();
        let (tree, said) = corrected(file, &machine);
        assert_eq!((said, tree.to_dtb().unwrap()), (vec![], before));
    }
}

#[test]
fn memory_is_written_in_the_cells_of_the_file() {
    let small = |root: &mut DeviceTreeNode| {
        set(root, "#address-cells", &cells(&[1]));
        set(root, "#size-cells", &cells(&[1]));
    };
    let (tree, _) = corrected(board(small), &running(|_| ()));
    assert_eq!(
        value(&tree, "/memory@40000000", "reg").unwrap(),
        cells(&[1 << 30, 1 << 30])
    );
    let large = running(|root| _ = memory(root, "memory@100000000", 4 * GIB, GIB));
    assert_eq!(
        board(small).correct(Some(&large), &[]).unwrap_err(),
        DtbError::Cells {
            value: 4 * GIB,
            cells: 1
        }
    );
}

#[test]
fn without_memory_in_the_running_tree_it_is_system_ram() {
    let ram = [Span {
        start: GIB,
        end: 2 * GIB,
    }];
    for running in [None, Some(board(|_| ()))] {
        let mut file = board(|root| _ = memory(root, "memory@40000000", GIB, 4 * GIB));
        let said = file.correct(running.as_ref(), &ram).unwrap();
        assert_eq!((file.memory().unwrap(), said.len()), (ram.to_vec(), 1));
    }
}

#[test]
fn efi_and_acpi_know_memory_better() {
    let efi = board(|root| set(child(root, "chosen"), "linux,uefi-mmap-start", &[0; 8]));
    let file = || board(|root| _ = memory(root, "memory@40000000", GIB, 2 * GIB));
    let (tree, said) = corrected(file(), &efi);
    assert_eq!((said, tree.has_efi_map()), (vec![], true));
    // A tree that was saved under EFI, for a machine without.
    let saved = board(|root| set(child(root, "chosen"), "linux,uefi-mmap-start", &[0; 8]));
    let (tree, said) = corrected(saved, &running(|_| ()));
    assert_eq!(
        (said.len(), tree.has_efi_map(), tree.memory().is_some()),
        (1, false, true)
    );
    // A stub for a machine with ACPI: any other node would turn ACPI off.
    let stub = || Tree::parse(include_bytes!("../samples/stub.dtb")).unwrap();
    let mut tree = stub();
    tree.correct(Some(&stub()), &[]).unwrap();
    assert!(tree.is_stub());
    // For any other it describes nothing.
    assert_eq!(stub().correct(Some(&running(|_| ())), &[]), Err(DtbError::Stub));
}

#[test]
fn what_a_saved_tree_says_of_its_boot_is_forgotten() {
    let mut file = board(|root| {
        let chosen = child(root, "chosen");
        set(chosen, "linux,initrd-start", &cells(&[0x4800_0000]));
        set(chosen, "linux,initrd-end", &cells(&[0x4810_0000]));
        set(chosen, "linux,elfcorehdr", &[0; 16]);
    });
    file.tree.memory_reservations = vec![
        MemoryReservation::new(0x4800_0000, 0x10_0000),
        MemoryReservation::new(0x4900_0000, 0x1000),
    ];
    let (tree, _) = corrected(file, &running(|_| ()));
    assert_eq!(
        tree.tree.memory_reservations,
        [MemoryReservation::new(0x4900_0000, 0x1000)]
    );
    assert_eq!(value(&tree, "/chosen", "linux,elfcorehdr"), None);
}

#[test]
fn another_machine_s_tree_is_refused_and_another_board_s_is_said() {
    let machine = running(|_| ());
    let compatible = |names: &'static [u8]| board(|root| set(root, "compatible", names));
    assert_eq!(
        compatible(b"other,board\0other,chip\0")
            .correct(Some(&machine), &[])
            .unwrap_err(),
        DtbError::Board {
            says: "other,board".into(),
            runs: "maker,board".into()
        }
    );
    let (_, said) = corrected(compatible(b"maker,rev\x1b2\0maker,chip\0"), &machine);
    assert_eq!(
        said[0],
        Correction::Board {
            says: r"maker,rev\u{1b}2".into(),
            runs: "maker,board".into()
        }
    );
    // No names, no quarrel.
    assert_eq!(corrected(compatible(b"\0"), &machine).1.len(), 1);
}

#[test]
fn serial_number_and_addresses_are_firmware_s() {
    const MAC: [u8; 6] = [2, 0, 0, 1, 2, 3];
    let machine = running(|root| {
        set(root, "serial-number", b"C-4711\0");
        set(child(root, "aliases"), "ethernet0", b"/soc/ethernet@a\0");
        set(child(child(root, "soc"), "ethernet@a"), "local-mac-address", &MAC);
        set(child(child(root, "soc"), "wifi@c"), "local-mac-address", &MAC);
        set(child(child(root, "soc"), "empty@d"), "local-mac-address", &[0; 6]);
        set(child(child(root, "soc"), "bluetooth"), "local-bd-address", &MAC);
    });
    let file = |number: &'static [u8]| {
        board(move |root| {
            memory(root, "memory@40000000", GIB, GIB);
            set(root, "serial-number", number);
            set(child(root, "aliases"), "ethernet0", b"/soc/ethernet@b\0");
            // The kernel takes this one first.
            set(child(child(root, "soc"), "ethernet@b"), "mac-address", &[9; 6]);
            child(child(root, "soc"), "wifi@c");
            child(child(root, "soc"), "empty@d");
        })
    };
    let (tree, said) = corrected(file(b"of-the-workshop\0"), &machine);
    assert_eq!(
        said,
        taken(&[
            "serial-number",
            "local-mac-address of ethernet0",
            "local-mac-address of /soc/wifi@c"
        ])
    );
    assert_eq!(value(&tree, "/", "serial-number").unwrap(), b"C-4711\0");
    assert_eq!(value(&tree, "/soc/ethernet@b", "local-mac-address").unwrap(), MAC);
    assert_eq!(value(&tree, "/soc/ethernet@b", "mac-address"), None);
    assert_eq!(value(&tree, "/soc/empty@d", "local-mac-address"), None);
    assert!(tree.tree.find_node("/soc/bluetooth").is_none());
    assert_eq!(corrected(tree, &machine).1, [], "nothing twice");
}

/// A region of `/reserved-memory`.
fn region<'a>(root: &'a mut DeviceTreeNode, name: &str, start: u64, no_map: bool) -> &'a mut DeviceTreeNode {
    let parent = child(root, "reserved-memory");
    set(parent, "#address-cells", &cells(&[2]));
    set(parent, "#size-cells", &cells(&[2]));
    set(parent, "ranges", &[]);
    let node = child(parent, name);
    set(node, "reg", &[start.to_be_bytes(), 0x1000_u64.to_be_bytes()].concat());
    if no_map {
        set(node, "no-map", &[]);
    }
    child(child(root, "reserved-memory"), name)
}

#[test]
fn what_firmware_keeps_is_kept() {
    let machine = running(|root| {
        region(root, "same@50000000", 0x5000_0000, true);
        region(root, "secure@51000000", 0x5100_0000, true);
        region(root, "moved", 0x5200_0000, false);
        set(region(root, "new@53000000", 0x5300_0000, true), "phandle", &cells(&[7]));
    });
    let (tree, said) = corrected(
        board(|root| {
            memory(root, "memory@40000000", GIB, GIB);
            region(root, "other-name@50000000", 0x5000_0000, true);
            region(root, "mapped@51000000", 0x5100_0000, false);
            set(region(root, "moved", 0x6200_0000, true), "phandle", &cells(&[3]));
            region(root, "own@54000000", 0x5400_0000, false);
        }),
        &machine,
    );
    assert_eq!(
        said,
        taken(&[
            "/reserved-memory/mapped@51000000",
            "/reserved-memory/moved",
            "/reserved-memory/new@53000000"
        ])
    );
    let places: Vec<u64> = tree
        .regions()
        .flat_map(|n| tree.cells().reg(n))
        .map(|s| s.start)
        .collect();
    assert_eq!(
        places,
        [0x5000_0000, 0x5100_0000, 0x5200_0000, 0x5400_0000, 0x5300_0000]
    );
    let at = |name: &str, property: &str| value(&tree, &format!("/reserved-memory/{name}"), property);
    assert!(at("mapped@51000000", "no-map").is_some());
    assert_eq!(
        (at("moved", "no-map"), at("moved", "phandle")),
        (None, Some(cells(&[3])))
    );
    assert_eq!(at("new@53000000", "phandle"), None, "here that is some other node's");
}

#[test]
fn regions_the_kernel_would_ignore_are_refused() {
    let machine = running(|root| _ = region(root, "new@53000000", 0x5300_0000, true));
    let mut file = board(|root| {
        region(root, "own@54000000", 0x5400_0000, false);
        set(child(root, "reserved-memory"), "#size-cells", &cells(&[1]));
    });
    assert_eq!(file.correct(Some(&machine), &[]).unwrap_err(), DtbError::RegionCells);
    // Also where the machine has no region to add.
    let mut alone = board(|root| {
        region(root, "own@54000000", 0x5400_0000, false);
        set(child(root, "reserved-memory"), "#size-cells", &cells(&[1]));
    });
    let plain = running(|_| ());
    assert_eq!(alone.correct(Some(&plain), &[]).unwrap_err(), DtbError::RegionCells);
}

#[test]
fn regions_the_kernel_would_ignore_for_want_of_ranges_get_them() {
    let file = board(|root| {
        memory(root, "memory@40000000", GIB, GIB);
        region(root, "own@54000000", 0x5400_0000, false);
        child(root, "reserved-memory").remove_property("ranges");
    });
    let (tree, said) = corrected(file, &running(|_| ()));
    assert_eq!(said, [Correction::Ranges]);
    assert_eq!(value(&tree, "/reserved-memory", "ranges"), Some(Vec::new()));
}

/// An overlay and a FIT image are device trees as well, and booted without a word of the main kernel.
#[test]
fn what_is_no_machine_is_refused() {
    let bare = |change: fn(&mut DeviceTreeNode)| {
        let mut tree = Tree {
            tree: dtoolkit::model::DeviceTree::new(),
            size: 0,
        };
        change(&mut tree.tree.root);
        Tree::parse(&tree.to_dtb().unwrap()).unwrap()
    };
    let one = |root: &mut DeviceTreeNode| _ = cpu(root, "cpu@0");
    let machine = running(one);
    for (mut file, says) in [
        (
            bare(|root| _ = child(child(root, "fragment@0"), "__overlay__")),
            "a device tree overlay, not a machine's device tree",
        ),
        (
            bare(|root| {
                child(root, "images");
                child(root, "configurations");
            }),
            "a FIT image, not a machine's device tree",
        ),
        (board(|_| ()), "describes no CPU; name this board's device tree"),
    ] {
        let error = file.correct(Some(&machine), &[]).unwrap_err().to_string();
        assert!(error.starts_with(says), "{error}");
    }
    board(one).correct(Some(&machine), &[]).unwrap();
    // A machine that names none either.
    board(|_| ()).correct(Some(&running(|_| ())), &[]).unwrap();
}

fn cpu<'a>(root: &'a mut DeviceTreeNode, name: &str) -> &'a mut DeviceTreeNode {
    let node = child(child(root, "cpus"), name);
    set(node, "device_type", b"cpu\0");
    node
}

#[test]
fn firmware_is_called_as_it_can_be() {
    let machine = running(|root| {
        set(child(root, "psci"), "method", b"smc\0");
        child(child(root, "firmware"), "optee");
        set(cpu(root, "cpu@0"), "enable-method", b"psci\0");
        set(cpu(root, "cpu@1"), "enable-method", b"psci\0");
    });
    let file = |change: fn(&mut DeviceTreeNode)| {
        board(move |root| {
            memory(root, "memory@40000000", GIB, GIB);
            set(cpu(root, "cpu@0"), "enable-method", b"spin-table\0");
            cpu(root, "cpu@1");
            change(root);
        })
    };
    let cpus = ["enable-method of cpu@0", "enable-method of cpu@1"];
    let (tree, said) = corrected(file(|_| ()), &machine);
    assert_eq!(said, taken(&["/psci", "/firmware/optee", cpus[0], cpus[1]]));
    assert_eq!(value(&tree, "/psci", "method").unwrap(), b"smc\0");
    assert_eq!(value(&tree, "/cpus/cpu@0", "enable-method").unwrap(), b"psci\0");
    let (_, said) = corrected(
        file(|root| {
            set(child(root, "psci"), "method", b"hvc\0");
            child(child(root, "firmware"), "optee");
            cpu(root, "cpu@2");
        }),
        &machine,
    );
    assert_eq!(said[0], Correction::Cpus { says: 3, runs: 2 });
    assert_eq!(said[1..], taken(&["method of /psci", cpus[0], cpus[1]]));
}

#[test]
fn each_is_said_in_words() {
    let memory = |says, has| Correction::Memory { says, has };
    let cpus = |says, runs| Correction::Cpus { says, runs };
    let board = Correction::Board {
        says: "a,b".into(),
        runs: "a,c".into(),
    };
    for (correction, words) in [
        (
            memory(2 * GIB, GIB),
            "describes 2 GiB of memory; corrected to this machine's 1 GiB",
        ),
        (memory(0, GIB), "describes no memory; corrected to this machine's 1 GiB"),
        (
            memory(GIB, GIB),
            "describes 1 GiB of memory, but at other addresses than this machine's; corrected",
        ),
        (
            board,
            "warning: made for a,b, but this machine is a,c; is it the right file?",
        ),
        (
            cpus(1, 4),
            "warning: describes 1 of this machine's 4 CPUs; the others stay off",
        ),
        (
            cpus(4, 2),
            "warning: describes 4 CPUs, but this machine has 2; the others will not start",
        ),
    ] {
        assert_eq!(correction.to_string(), words);
    }
}

/// 16,000 nodes took minutes when each was taken out by itself.
#[test]
fn many_empty_memory_nodes_cost_no_more_than_their_size() {
    let many = |count: u32| {
        let mut tree = board(|_| ());
        for n in 0..count {
            set(
                child(&mut tree.tree.root, &format!("m@{n:x}")),
                "device_type",
                b"memory\0",
            );
        }
        tree.tree.to_dtb()
    };
    let (tree, said) = corrected(Tree::parse(&many(16_000)).unwrap(), &running(|_| ()));
    assert_eq!((tree.memory_nodes().count(), said.len()), (1, 1));
    let refused = Tree::parse(&many(50_000)).unwrap_err();
    assert!(matches!(refused, DtbError::TooMany { what: "nodes", .. }), "{refused}");
}

#[test]
fn more_spans_than_a_machine_has_are_refused() {
    let spans = cells(&[1, 0, 0, 4096]).repeat(2000);
    let memory = board(|root| _ = memory(root, "memory", 0, 0));
    let mut tree = memory.tree.clone();
    set(tree.root.child_mut("memory").unwrap(), "reg", &spans);
    let regions = board(|root| _ = region(root, "many", 0, false));
    let mut reserved = regions.tree.clone();
    set(
        child(child(&mut reserved.root, "reserved-memory"), "many"),
        "reg",
        &spans,
    );
    let mut unplaced = regions.tree.clone();
    let node = child(child(&mut unplaced.root, "reserved-memory"), "many");
    node.remove_property("reg");
    set(node, "size", &cells(&[0, 4096]));
    set(node, "alloc-ranges", &spans);
    let mut entries = board(|_| ()).tree;
    entries.memory_reservations = vec![MemoryReservation::new(4096, 4096); 2000];
    for (tree, words) in [
        (tree, "more than 1024 memory ranges"),
        (reserved, "more than 1024 reserved-memory ranges"),
        (unplaced, "more than 1024 alloc-ranges of reserved-memory"),
        (entries, "more than 1024 memory reservations"),
    ] {
        assert_eq!(Tree::parse(&tree.to_dtb()).unwrap_err().to_string(), words);
    }
}
