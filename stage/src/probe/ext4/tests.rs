//! Journals made by hand against a model, and journals made by debugfs against e2fsck.
#![expect(clippy::arithmetic_side_effects, reason = "small numbers of the tests' own")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::jbd2::{crc32c, replay};
use super::*;

/// Bytes in a block, first block of the data, and how many of them.
const BLOCK: usize = 1024;
const DATA: u64 = 200;
const DATA_BLOCKS: u64 = 8;
/// The journal's blocks, and where they are: in two pieces, the second before the first.
const JOURNAL: u32 = 64;
const MAGIC: u32 = 0xC03B_3998;

fn physical(logical: u32) -> u64 {
    if logical < 20 {
        100 + u64::from(logical)
    } else {
        u64::from(logical)
    }
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    to[at..at + bytes.len()].copy_from_slice(bytes);
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    wide: bool,
    csum: u8,
    extents: bool,
    start: u32,
    sequence: u32,
}

impl Shape {
    fn incompat(self) -> u32 {
        1 | u32::from(self.wide) << 1 | [0, 0, 8, 16][usize::from(self.csum)]
    }
}

#[derive(Debug, Clone)]
struct Tx {
    /// Block, first byte of its content, and whether it begins with the journal's magic.
    writes: Vec<(u64, u8, bool)>,
    revokes: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Clean,
    NoCommit,
    TornCommit,
    StaleSequence,
}

fn content(first: u8, magic: bool) -> Vec<u8> {
    let mut bytes = vec![first; BLOCK];
    if magic {
        put(&mut bytes, 0, &MAGIC.to_be_bytes());
    }
    bytes
}

/// A volume with nothing but what leads to the journal, and the journal.
struct Volume {
    bytes: Vec<u8>,
    shape: Shape,
    at: u32,
    uuid: [u8; 16],
}

impl Volume {
    fn new(shape: Shape) -> Self {
        let mut bytes = vec![0; 256 * BLOCK];
        for block in DATA..DATA + DATA_BLOCKS {
            put(&mut bytes, usize::try_from(block).unwrap() * BLOCK, &content(1, false));
        }
        let sb = BLOCK;
        put(&mut bytes, sb + 0x14, &1_u32.to_le_bytes()); // first data block
        put(&mut bytes, sb + 0x28, &64_u32.to_le_bytes()); // inodes per group
        put(&mut bytes, sb + 0x38, &0xEF53_u16.to_le_bytes());
        put(&mut bytes, sb + 0x58, &128_u16.to_le_bytes()); // inode size
        put(&mut bytes, sb + 0xE0, &8_u32.to_le_bytes()); // journal inode
        put(&mut bytes, 2 * BLOCK + 8, &5_u32.to_le_bytes()); // inode table
        let inode = 5 * BLOCK + 7 * 128;
        if shape.extents {
            put(&mut bytes, inode + 0x20, &0x8_0000_u32.to_le_bytes());
            put(&mut bytes, inode + 0x28, &[0x0A, 0xF3, 2, 0, 4, 0, 0, 0]);
            for (i, (from, length)) in [(0_u32, 20_u16), (20, 44)].into_iter().enumerate() {
                let at = inode + 0x28 + 12 * (i + 1);
                put(&mut bytes, at, &from.to_le_bytes());
                put(&mut bytes, at + 4, &length.to_le_bytes());
                put(
                    &mut bytes,
                    at + 8,
                    &u32::try_from(physical(from)).unwrap().to_le_bytes(),
                );
            }
        } else {
            let number = |logical| u32::try_from(physical(logical)).unwrap().to_le_bytes();
            for logical in 0..12 {
                put(&mut bytes, inode + 0x28 + 4 * logical as usize, &number(logical));
            }
            put(&mut bytes, inode + 0x28 + 48, &90_u32.to_le_bytes());
            for logical in 12..JOURNAL {
                put(&mut bytes, 90 * BLOCK + 4 * (logical as usize - 12), &number(logical));
            }
        }
        let mut volume = Self {
            bytes,
            shape,
            at: shape.start,
            uuid: [0x5A; 16],
        };
        let mut log = vec![0; BLOCK];
        for (at, value) in [
            (0x00, MAGIC),
            (0x04, 4),
            (0x0C, u32::try_from(BLOCK).unwrap()),
            (0x10, JOURNAL),
            (0x14, 1),
            (0x18, shape.sequence),
            (0x1C, shape.start),
            (0x28, shape.incompat()),
        ] {
            put(&mut log, at, &value.to_be_bytes());
        }
        put(&mut log, 0x30, &volume.uuid);
        let csum = crc32c(&[&log]).to_be_bytes();
        put(&mut log, 0xFC, &csum);
        volume.store(0, &log);
        volume
    }

    fn store(&mut self, logical: u32, block: &[u8]) {
        put(
            &mut self.bytes,
            usize::try_from(physical(logical)).unwrap() * BLOCK,
            block,
        );
    }

    /// Puts a block at the log's end, which runs into its begin.
    fn append(&mut self, block: &[u8]) {
        self.store(self.at, block);
        self.at = if self.at + 1 == JOURNAL { 1 } else { self.at + 1 };
    }

    fn header(kind: u32, sequence: u32) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        for (at, value) in [(0, MAGIC), (4, kind), (8, sequence)] {
            put(&mut block, at, &value.to_be_bytes());
        }
        block
    }

    fn seal(&self, block: &mut [u8], at: usize) {
        if self.shape.csum != 0 {
            let csum = crc32c(&[&self.uuid, block]).to_be_bytes();
            put(block, at, &csum);
        }
    }

    fn transaction(&mut self, sequence: u32, tx: &Tx, end: End) {
        if !tx.revokes.is_empty() {
            let mut block = Self::header(5, sequence);
            let mut at = 16;
            for number in &tx.revokes {
                let long = number.to_be_bytes();
                let bytes = if self.shape.wide { &long[..] } else { &long[4..] };
                put(&mut block, at, bytes);
                at += bytes.len();
            }
            put(&mut block, 12, &u32::try_from(at).unwrap().to_be_bytes());
            self.seal(&mut block, BLOCK - 4);
            self.append(&block);
        }
        if !tx.writes.is_empty() {
            let mut block = Self::header(1, sequence);
            let mut at = 12;
            let mut stored = Vec::new();
            for (i, (number, first, magic)) in tx.writes.iter().enumerate() {
                let mut data = content(*first, *magic);
                if *magic {
                    put(&mut data, 0, &[0; 4]);
                }
                let csum = crc32c(&[&self.uuid, &sequence.to_be_bytes(), &data]);
                let last = if i + 1 == tx.writes.len() { 8_u16 } else { 0 };
                let same = if i == 0 { 0 } else { 2 };
                let flags = u16::from(*magic) | same | last;
                put(&mut block, at, &u32::try_from(*number).unwrap().to_be_bytes());
                if self.shape.csum == 3 {
                    put(&mut block, at + 4, &u32::from(flags).to_be_bytes());
                    put(&mut block, at + 12, &csum.to_be_bytes());
                    at += 16;
                } else {
                    if self.shape.csum == 2 {
                        put(&mut block, at + 4, &csum.to_be_bytes()[2..]);
                    }
                    put(&mut block, at + 6, &flags.to_be_bytes());
                    at += 8 + if self.shape.wide { 4 } else { 0 } + if self.shape.csum == 2 { 2 } else { 0 };
                }
                if same == 0 {
                    put(&mut block, at, &self.uuid);
                    at += 16;
                }
                stored.push(data);
            }
            self.seal(&mut block, BLOCK - 4);
            self.append(&block);
            for data in stored {
                self.append(&data);
            }
        }
        let mut commit = Self::header(
            2,
            if end == End::StaleSequence {
                sequence ^ 5
            } else {
                sequence
            },
        );
        self.seal(&mut commit, 16);
        if end == End::TornCommit {
            commit[500] ^= 1;
        }
        if end != End::NoCommit {
            self.append(&commit);
        }
    }
}

fn any_tx() -> impl Strategy<Value = Tx> {
    let block = DATA..DATA + DATA_BLOCKS;
    (
        prop::collection::vec((block.clone(), 2..255_u8, any::<bool>()), 0..5),
        prop::collection::vec(block, 0..3),
    )
        .prop_map(|(writes, revokes)| Tx { writes, revokes })
}

fn any_shape() -> impl Strategy<Value = Shape> {
    let sequence = prop_oneof![Just(u32::MAX - 1), Just(1), any::<u32>()];
    (
        any::<bool>(),
        prop::sample::select(vec![0, 2, 3]),
        any::<bool>(),
        1..JOURNAL,
        sequence,
    )
        .prop_map(|(wide, csum, extents, start, sequence)| Shape {
            wide,
            csum,
            extents,
            start,
            sequence,
        })
}

/// What a block contains after recovery: its last write that no revocation of the same or a later transaction takes
/// back, else what it had.
fn model(committed: &[Tx], block: u64) -> Vec<u8> {
    let last_revoked = committed.iter().rposition(|tx| tx.revokes.contains(&block));
    let after = last_revoked.map_or(0, |i| i + 1);
    let writes = committed[after..].iter().flat_map(|tx| &tx.writes);
    match writes.rev().find(|(b, ..)| *b == block) {
        Some((_, first, magic)) => content(*first, *magic),
        None => content(1, false),
    }
}

fn replayed(volume: Vec<u8>) -> Result<Replayed<Vec<u8>>, ReplayError> {
    Ok(Replayed {
        replay: replay(&volume)?,
        volume,
        block_size: BLOCK as u64,
    })
}

proptest! {
    #[test]
    fn a_replay_gives_what_the_model_says(
        shape in any_shape(),
        txs in prop::collection::vec(any_tx(), 0..6),
        last in any_tx(),
        end in prop::sample::select(vec![End::Clean, End::NoCommit, End::TornCommit, End::StaleSequence]),
    ) {
        let mut volume = Volume::new(shape);
        let mut sequence = shape.sequence;
        for tx in &txs {
            volume.transaction(sequence, tx, End::Clean);
            sequence = sequence.wrapping_add(1);
        }
        volume.transaction(sequence, &last, end);
        // Without checksums a commit block with other reserved bytes is a commit block.
        let last_counts = end == End::Clean || end == End::TornCommit && shape.csum == 0;
        let mut committed = txs;
        if last_counts {
            committed.push(last);
        }
        let replayed = replayed(volume.bytes).unwrap();
        prop_assert_eq!(replayed.replay.transactions as usize, committed.len());
        for block in DATA..DATA + DATA_BLOCKS {
            let mut got = vec![0; BLOCK];
            replayed.read_at(&mut got, block * BLOCK as u64).unwrap();
            prop_assert!(got == model(&committed, block), "block {}", block);
        }
        // The same in one read that starts and ends within blocks.
        let mut got = vec![0; 7 * BLOCK];
        replayed.read_at(&mut got, DATA * BLOCK as u64 + 512).unwrap();
        let whole: Vec<u8> = (DATA..DATA + DATA_BLOCKS).flat_map(|b| model(&committed, b)).collect();
        prop_assert!(got == whole[512..512 + got.len()]);
    }

    #[test]
    fn a_damaged_copy_is_an_error_where_there_are_checksums(csum in 2..=3_u8, flip in 0..BLOCK) {
        let shape = Shape { wide: true, csum, extents: true, start: 1, sequence: 7 };
        let mut volume = Volume::new(shape);
        volume.transaction(7, &Tx { writes: vec![(DATA, 9, false)], revokes: vec![] }, End::Clean);
        volume.bytes[usize::try_from(physical(2)).unwrap() * BLOCK + flip] ^= 1;
        let error = replay(&volume.bytes).unwrap_err();
        prop_assert!(matches!(error, ReplayError::Content { block: DATA, sequence: 7 }), "{}", error);
    }

    #[test]
    fn no_bytes_make_it_panic(
        shape in any_shape(),
        txs in prop::collection::vec(any_tx(), 0..4),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        header in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut volume = Volume::new(Shape { csum: 0, ..shape });
        for (i, tx) in (0_u32..).zip(&txs) {
            volume.transaction(shape.sequence.wrapping_add(i), tx, End::Clean);
        }
        let mut bytes = volume.bytes;
        for (at, value) in flips {
            let at = at.index(170 * BLOCK);
            bytes[at] = value;
        }
        for (at, value) in header {
            let at = at.index(128); // of the journal's superblock
            bytes[100 * BLOCK + at] = value;
        }
        let _ = replay(&bytes);
        let _ = open(bytes, &mut |_| ());
    }
}

#[test]
fn unknown_features_and_other_devices_are_refused() {
    let shape = Shape {
        wide: false,
        csum: 0,
        extents: true,
        start: 1,
        sequence: 1,
    };
    let mut volume = Volume::new(shape).bytes;
    put(&mut volume, 100 * BLOCK + 0x28, &0x45_u32.to_be_bytes());
    assert!(matches!(replay(&volume).unwrap_err(), ReplayError::Features(0x44)));
    put(&mut volume, BLOCK + 0xE4, &1_u32.to_le_bytes());
    assert!(matches!(replay(&volume).unwrap_err(), ReplayError::External));
}

#[test]
fn a_replayed_superblock_needs_nothing_any_more_and_its_checksum_is_right() {
    let mut superblock = [7; 1024];
    put(
        &mut superblock,
        0x60,
        &(0x2 | 0x4 | 0x40 | 0x100 | 0x400_u32).to_le_bytes(),
    );
    put(&mut superblock, 0x64, &0x400_u32.to_le_bytes());
    as_replayed(&mut superblock);
    assert_eq!(superblock[0x60..0x64], 0x42_u32.to_le_bytes());
    assert_eq!(superblock[0x3FC..], crc32c(&[&superblock[..0x3FC]]).to_le_bytes());
}

/// A journal of that many blocks that takes no memory: behind its superblock the same block again and again.
struct Endless {
    head: Vec<u8>,
    block: Vec<u8>,
}

impl Endless {
    fn of(kind: u32, fill: impl FnOnce(&mut [u8])) -> Self {
        let blocks = 1_u32 << 21;
        let shape = Shape {
            wide: false,
            csum: 0,
            extents: true,
            start: 1,
            sequence: 1,
        };
        let mut head = Volume::new(shape).bytes;
        head.truncate(128 * BLOCK);
        put(&mut head, 100 * BLOCK + 0x10, &blocks.to_be_bytes());
        // Extents of 32768 blocks, in a leaf of their own; all but the superblock's are beyond the head.
        let inode = 5 * BLOCK + 7 * 128;
        put(&mut head, inode + 0x28, &[0x0A, 0xF3, 1, 0, 4, 0, 1, 0]);
        put(&mut head, inode + 0x34, &[0; 12]);
        put(&mut head, inode + 0x34 + 4, &90_u32.to_le_bytes());
        let extents = u16::try_from(blocks >> 15).unwrap();
        put(&mut head, 90 * BLOCK, &[0x0A, 0xF3]);
        put(&mut head, 90 * BLOCK + 2, &(extents + 1).to_le_bytes());
        put(&mut head, 90 * BLOCK + 4, &(extents + 1).to_le_bytes());
        for i in 0..=extents {
            let (from, length, at) = match i {
                0 => (0, 1_u16, 100_u32),
                i => (((u32::from(i) - 1) << 15) + 1, 1 << 15, 1000),
            };
            let entry = 90 * BLOCK + 12 * (usize::from(i) + 1);
            put(&mut head, entry, &from.to_le_bytes());
            put(&mut head, entry + 4, &length.to_le_bytes());
            put(&mut head, entry + 8, &at.to_le_bytes());
        }
        let mut block = Volume::header(kind, 1);
        fill(&mut block);
        Self { head, block }
    }
}

impl ReadAt for Endless {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        match self.head.get(at..at + buf.len()) {
            Some(bytes) => buf.copy_from_slice(bytes),
            None => buf.copy_from_slice(&self.block[..buf.len()]),
        }
        Ok(())
    }
}

#[test]
fn a_transaction_without_end_is_refused_before_it_fills_the_memory() {
    let revocations = Endless::of(5, |block| put(block, 12, &1024_u32.to_be_bytes()));
    let error = replay(&revocations).unwrap_err().to_string();
    assert!(error.contains("number of revocations"), "{error}");
    // Tags without an end, each with the same UUID.
    let tags = Endless::of(1, |block| {
        for tag in block[12..].as_chunks_mut::<8>().0 {
            tag[7] = 2;
        }
    });
    let error = replay(&tags).unwrap_err().to_string();
    assert!(error.contains("number of changes"), "{error}");
}

/// Runs a tool of e2fsprogs; None (said) where it is not installed.
fn tool(program: &str, args: &[&str], image: &Path) -> Option<String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let out = Command::new(program).args(args).arg(image).env("PATH", path).output();
    match out {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            eprintln!("skipped: {program} is not installed");
            None
        }
        out => {
            let out = out.unwrap();
            // e2fsck: 1 is "errors corrected".
            assert!(
                out.status.code().unwrap() <= 1,
                "{}",
                String::from_utf8_lossy(&out.stderr)
            );
            Some(String::from_utf8(out.stdout).unwrap())
        }
    }
}

fn read_to_end(tree: &ReplayedTree, path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    tree.open(path).unwrap().reader.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn e2fsck_gives_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("boot")).unwrap();
    let big: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(tree.join("boot/kernel"), &big).unwrap();
    fs::write(tree.join("which"), "old").unwrap();
    fs::write(tree.join("kept"), "kept").unwrap();
    std::os::unix::fs::symlink("boot/kernel", tree.join("vmlinuz")).unwrap();
    std::os::unix::fs::symlink("nowhere", tree.join("dangling")).unwrap();
    nix::unistd::mkfifo(&tree.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (block_size, features, journal) in [
        ("1024", "^64bit,^metadata_csum", "jo"),
        ("1024", "metadata_csum,64bit", "jo -c -v 2"),
        ("4096", "metadata_csum,64bit,ea_inode", "jo -c -v 3"),
        ("4096", "^extents,^64bit,^metadata_csum,^flex_bg", "jo"),
    ] {
        let image = dir.path().join("image");
        let _ = fs::remove_file(&image);
        fs::write(&image, "").unwrap();
        fs::File::options()
            .write(true)
            .open(&image)
            .unwrap()
            .set_len(32 << 20)
            .unwrap();
        let from = tree.to_str().unwrap();
        let args = ["-q", "-F", "-t", "ext4", "-b", block_size, "-O", features, "-d", from];
        if tool("mke2fs", &args, &image).is_none() {
            return;
        }
        let block_of = |path: &str| {
            let said = tool("debugfs", &["-R", &format!("blocks {path}")], &image).unwrap();
            said.split_whitespace().next().unwrap().to_owned()
        };
        let (which, kept) = (block_of("which"), block_of("kept"));
        let size: usize = block_size.parse().unwrap();
        let block = |name: &str, text: &[u8]| {
            let mut bytes = text.to_vec();
            bytes.resize(size, 0);
            fs::write(dir.path().join(name), bytes).unwrap();
            dir.path().join(name).display().to_string()
        };
        // Once and again; one that is revoked; one that begins with the magic; one that has no commit.
        let script = dir.path().join("script");
        let lines = [
            journal.to_owned(),
            format!("jw -b {which} {}", block("1", b"mid")),
            format!("jw -b {kept} {}", block("2", b"gone")),
            format!("jw -r {kept}"),
            format!("jw -b {which} {}", block("3", b"\xC0\x3B\x39\x98")),
            format!("jw -b {which} {}", block("4", b"new")),
            format!("jw -b {which} -c {}", block("5", b"bad")),
            "jc".to_owned(),
        ];
        fs::write(&script, lines.join("\n")).unwrap();
        tool("debugfs", &["-w", "-f", script.to_str().unwrap()], &image);

        let before = fs::read(&image).unwrap();
        let found = super::super::superblock::identify(&before).unwrap().unwrap();
        assert!(found.needs_recovery, "{features}");
        let mut said = Vec::new();
        let opened = open(before.clone(), &mut |line| said.push(line.to_owned())).unwrap();
        assert!(said[0].contains("of 5 transactions replayed"), "{said:?}");
        assert_eq!(read_to_end(&opened, "which"), b"new");
        assert_eq!(read_to_end(&opened, "kept"), b"kept");
        assert!(read_to_end(&opened, "boot/kernel") == big);
        assert!(read_to_end(&opened, "vmlinuz") == big);
        let refused = |path: &str| opened.open(path).unwrap_err().to_string();
        assert_eq!(refused("boot"), "is a directory, not a regular file");
        assert_eq!(refused("fifo"), "is a device, FIFO or socket, not a regular file");
        assert_eq!(refused("absent"), "no such file");
        assert_eq!(refused("dangling"), "is a link to nowhere, which does not exist");
        assert_eq!(refused("../which"), "leads out of its source");

        // Block by block, what e2fsck makes of it. Statistics of the superblock and what is the journal's own aside.
        tool("e2fsck", &["-f", "-y"], &image).unwrap();
        let after = fs::read(&image).unwrap();
        let replay = replay(&before).unwrap();
        assert!(!replay.blocks.is_empty());
        let expected: BTreeMap<u64, Vec<u8>> = replay
            .blocks
            .keys()
            .map(|b| {
                let at = usize::try_from(*b).unwrap() * size;
                (*b, after[at..at + size].to_vec())
            })
            .collect();
        let volume = Replayed {
            volume: before,
            replay,
            block_size: size as u64,
        };
        for (number, wanted) in expected {
            let mut got = vec![0; size];
            volume.read_at(&mut got, number * size as u64).unwrap();
            assert!(got == wanted, "{features}: block {number}");
        }
    }
}
