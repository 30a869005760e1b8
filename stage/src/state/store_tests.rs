#![expect(
    clippy::arithmetic_side_effects,
    clippy::large_types_passed_by_value,
    clippy::print_stdout,
    reason = "small numbers, and figures that are to be published"
)]

use proptest::prelude::*;

use super::*;
use crate::state::block::SIZE;
use crate::state::slots::{Now, Rules};
use crate::state::{Reset, State};
use crate::{cause::Cause, step::Step};

/// What a cut leaves of the block that was being written, behind the bytes that were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tear {
    /// What was there before.
    Old,
    /// Anything.
    Garbage,
    /// A sector that can't be read.
    Unreadable,
}

const TEARS: [Tear; 3] = [Tear::Old, Tear::Garbage, Tear::Unreadable];

/// A device that loses power after so many bytes.
struct Disk {
    blocks: [Option<Block>; 2],
    left: Option<usize>,
    tear: Tear,
    writes: usize,
}

impl Disk {
    fn new(blocks: [Option<Block>; 2]) -> Self {
        Self {
            blocks,
            left: None,
            tear: Tear::Old,
            writes: 0,
        }
    }

    fn block(&mut self, copy: Copy) -> &mut Option<Block> {
        match copy {
            Copy::First => &mut self.blocks[0],
            Copy::Second => &mut self.blocks[1],
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("no power")
}

impl Copies for Disk {
    fn read(&mut self, copy: Copy) -> io::Result<Block> {
        if self.left == Some(0) {
            return Err(gone());
        }
        self.block(copy).ok_or_else(gone)
    }

    fn write(&mut self, copy: Copy, block: &Block) -> io::Result<()> {
        self.writes += 1;
        let (left, tear) = (self.left, self.tear);
        match left {
            Some(0) => return Err(gone()),
            Some(left) if left < SIZE => {
                let old = self.block(copy).unwrap_or([0; SIZE]);
                let mut torn = *block;
                for (at, byte) in torn.iter_mut().enumerate().skip(left) {
                    *byte = match tear {
                        Tear::Garbage => 0x5a ^ u8::try_from(at % 251).unwrap(),
                        _ => old[at],
                    };
                }
                *self.block(copy) = (tear != Tear::Unreadable).then_some(torn);
                self.left = Some(0);
                return Err(gone());
            }
            Some(left) => self.left = Some(left - SIZE),
            None => {}
        }
        *self.block(copy) = Some(*block);
        Ok(())
    }

    fn blocks(&self) -> u64 {
        BLOCKS
    }
}

/// What any of these has room for.
const BLOCKS: u64 = 1024;

fn name(name: &str) -> config::SlotName {
    name.parse().unwrap()
}

fn rules() -> Rules {
    Rules {
        slots: vec![name("A"), name("B")],
        tries: 3,
        ..Rules::default()
    }
}

/// A call that changes a state, by name.
type Call = (&'static str, fn(&mut State));

/// Every one of them.
fn calls() -> Vec<Call> {
    vec![
        ("wake", |state| state.wake(&rules(), 7, Reset::Watchdog, Now::default())),
        ("jump", |state| state.jump(&name("A"), 9, Now::default())),
        ("failed", |state| {
            state.failed(&name("A"), Step::Load, Cause::Io, Now::default());
        }),
        ("mark-good", |state| {
            state.mark_good(&name("A"), Now::default()).unwrap();
        }),
        ("mark-booted-good", |state| {
            state.jump(&name("A"), 9, Now::default());
            state.mark_booted_good(&name("A"), 9, Now::default()).unwrap();
        }),
        ("mark-bad", |state| state.mark_bad(&name("A"), Now::default()).unwrap()),
        ("set-primary", |state| {
            state.set_primary(&name("B"), Now::default()).unwrap();
        }),
        ("set-once", |state| {
            // Refused once it is bad.
            let _ = state.set_once(&name("B"), Now::default());
        }),
        ("trial-over", |state| {
            state.jump(&name("B"), 9, Now::default());
            state.trial_over(&name("B"), 9, Now::default()).unwrap();
        }),
    ]
}

/// A device with a state on both copies.
fn healthy() -> Disk {
    let mut disk = Disk::new([None, None]);
    let mut stored = Stored::new(State::new(&rules()));
    assert!(stored.save(&mut disk).unwrap().is_none());
    disk
}

#[test]
fn both_copies_are_equal_after_each_save_with_one_write_each() {
    let mut disk = healthy();
    for (what, call) in calls() {
        let mut stored = load(&mut disk).unwrap();
        assert!(stored.damage.is_none());
        call(&mut stored.state);
        disk.writes = 0;
        assert!(stored.save(&mut disk).unwrap().is_none(), "{what}");
        assert_eq!((disk.blocks[0], disk.writes), (disk.blocks[1], 2), "{what}");
        assert_eq!(load(&mut disk).unwrap().state, stored.state, "{what}");
    }
}

/// PC-1: a cut at every byte of every write of every call.
#[test]
fn power_cut_at_any_byte_leaves_the_old_state_or_the_new_one() {
    let mut cuts = 0;
    for (what, call) in calls() {
        for tear in TEARS {
            // What is behind the cut is equally bad wherever that is, unless it is the old.
            let step = if tear == Tear::Old { 1 } else { 61 };
            for left in (0..=2 * SIZE).step_by(step) {
                let mut disk = healthy();
                let mut stored = load(&mut disk).unwrap();
                let old = stored.state.clone();
                call(&mut stored.state);
                let new = stored.state.clone();
                (disk.left, disk.tear) = (Some(left), tear);
                let saved = stored.save(&mut disk);
                disk.left = None;
                let found = load(&mut disk)
                    .unwrap_or_else(|e| panic!("{what} {tear:?} {left}: {e}"))
                    .state;
                assert!(found == old || found == new, "{what} {tear:?} {left}");
                // What was said to be kept is.
                assert!(saved.is_err() || found == new, "{what} {tear:?} {left}");
                // The next save makes both equal again.
                let mut next = load(&mut disk).unwrap();
                assert!(next.save(&mut disk).unwrap().is_none());
                assert_eq!(disk.blocks[0], disk.blocks[1], "{what} {tear:?} {left}");
                cuts += 1;
            }
        }
    }
    println!("{cuts} of {cuts} cuts left the old state or the new one");
}

/// A call, and the power fails in the middle of writing what it changed.
fn cut(disk: &mut Disk, (what, call): Call, left: usize, tear: Tear) {
    let mut stored = load(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let old = stored.state.clone();
    call(&mut stored.state);
    (disk.left, disk.tear) = (Some(left), tear);
    let saved = stored.save(disk);
    disk.left = None;
    let found = load(disk).unwrap_or_else(|error| panic!("{what} {left} {tear:?}: {error}"));
    let is_new = found.state == stored.state;
    assert!(is_new || found.state == old && saved.is_err(), "{what} {left} {tear:?}");
}

/// PC-2: the power fails again while what the last time left is being mended.
#[test]
fn power_cut_after_a_power_cut_leaves_the_old_state_or_the_new_one() {
    let at = [0, 100, SIZE, SIZE + 100, 2 * SIZE];
    let cuts: Vec<(usize, Tear)> = at.into_iter().flat_map(|left| TEARS.map(|tear| (left, tear))).collect();
    let mut pairs = 0;
    for first in calls() {
        for &(left, tear) in &cuts {
            let mut after = healthy();
            cut(&mut after, first, left, tear);
            for second in calls() {
                for &(left, tear) in &cuts {
                    let mut disk = Disk::new(after.blocks);
                    cut(&mut disk, second, left, tear);
                    pairs += 1;
                }
            }
        }
    }
    println!("{pairs} of {pairs} pairs of cuts left the old state or the new one");
}

proptest! {
    /// The same five times in a row.
    #[test]
    fn power_cut_after_power_cut(
        cuts in proptest::collection::vec((0..calls().len(), 0..=2 * SIZE, 0..TEARS.len()), 5)
    ) {
        let mut disk = healthy();
        for (call, left, tear) in cuts {
            cut(&mut disk, calls()[call], left, TEARS[tear]);
        }
    }
}

/// Each sector of each copy goes bad after a save.
#[test]
fn one_copy_is_enough_whatever_becomes_of_the_other() {
    for copy in [Copy::First, Copy::Second] {
        for sector in 0..SIZE / 512 {
            for unreadable in [false, true] {
                let mut disk = healthy();
                let before = load(&mut disk).unwrap().state;
                let mut block = disk.block(copy).unwrap();
                block[sector * 512..][..512].fill(0xff);
                *disk.block(copy) = (!unreadable).then_some(block);
                let mut stored = load(&mut disk).unwrap();
                assert_eq!(stored.state, before);
                assert!(stored.damage.is_some());
                stored.save(&mut disk).unwrap();
                assert_eq!(disk.blocks[0], disk.blocks[1]);
            }
        }
    }
}

#[test]
fn lost_and_newer_are_told_apart() {
    // What can't be read now may be another time.
    for second in [None, Some([0xff; SIZE])] {
        let error = load(&mut Disk::new([None, second])).unwrap_err();
        assert!(matches!(error, LoadError::Unreadable { .. }) && !error.is_empty());
    }
    let zeros = load(&mut Disk::new([Some([0; SIZE]); 2])).unwrap_err();
    assert_eq!(
        zeros.to_string(),
        "both copies of the state are lost (first: all zeros; second: all zeros)"
    );
    assert!(zeros.is_empty());
    let mut disk = healthy();
    let mut newer = disk.blocks[1].unwrap();
    newer[8] = 2;
    newer[12..16].fill(0);
    let sum = crate::memory::crc::crc32([&newer]);
    newer[12..16].copy_from_slice(&sum.to_le_bytes());
    disk.blocks[1] = Some(newer);
    assert!(matches!(load(&mut disk), Err(LoadError::Newer(2))));
}

/// The factory's image is smaller than the partition, and is written to a machine that has run for long: what is in the middle of
/// the partition is not its second copy.
#[test]
fn an_image_that_is_written_over_it_counts_from_then_on() {
    let mut disk = healthy();
    for _ in 0..5 {
        let mut stored = load(&mut disk).unwrap();
        stored.state.mark_bad(&name("A"), Now::default()).unwrap();
        stored.save(&mut disk).unwrap();
    }
    let factory = State::factory(&[name("A")]);
    disk.blocks[0] = Some(encode(&factory, 1, BLOCKS / 4));
    let mut stored = load(&mut disk).unwrap();
    assert_eq!(stored.state, factory);
    assert_eq!(
        stored.damage.as_deref(),
        Some("it is of an older state: an image of another size was written over the first copy")
    );
    // The power fails in the middle of writing the second one.
    disk.left = Some(SIZE);
    assert!(stored.clone().save(&mut disk).is_err());
    disk.left = None;
    assert_eq!(load(&mut disk).unwrap().state, factory);
    stored.state.wake(&rules(), 7, Reset::PowerOn, Now::default());
    assert!(stored.save(&mut disk).unwrap().is_none());
    assert_eq!(disk.blocks[0], disk.blocks[1]);
    assert!(load(&mut disk).unwrap().damage.is_none());
}

#[test]
fn a_device_that_keeps_nothing_is_found() {
    struct Deaf;
    impl Copies for Deaf {
        fn read(&mut self, _: Copy) -> io::Result<Block> {
            Ok([0; SIZE])
        }
        fn write(&mut self, _: Copy, _: &Block) -> io::Result<()> {
            Ok(())
        }
        fn blocks(&self) -> u64 {
            BLOCKS
        }
    }
    let saved = Stored::new(State::new(&rules())).save(&mut Deaf);
    assert!(matches!(saved, Err(SaveError::NotKept)));
}

/// What spoils each write spoils one copy and not the other, however often it is started.
#[test]
fn a_device_that_mangles_what_it_is_given_keeps_the_old_state() {
    struct Mangles(Disk);
    impl Copies for Mangles {
        fn read(&mut self, copy: Copy) -> io::Result<Block> {
            self.0.read(copy)
        }
        fn write(&mut self, copy: Copy, block: &Block) -> io::Result<()> {
            let mut mangled = *block;
            mangled[700] ^= 1;
            self.0.write(copy, &mangled)
        }
        fn blocks(&self) -> u64 {
            BLOCKS
        }
    }
    let mut disk = Mangles(healthy());
    let old = load(&mut disk).unwrap().state;
    for _ in 0..3 {
        let mut stored = load(&mut disk).unwrap();
        assert_eq!(stored.state, old);
        stored.state.wake(&rules(), 7, Reset::PowerOn, Now::default());
        assert!(matches!(stored.save(&mut disk), Err(SaveError::NotKept)));
    }
}

/// A sector that is worn out: the state goes on in the other copy, and says so each time.
#[test]
fn a_copy_that_can_not_be_written_any_more_is_done_without() {
    /// Its first copy can't be written, or not even read.
    struct Worn(Disk, bool);
    impl Copies for Worn {
        fn read(&mut self, copy: Copy) -> io::Result<Block> {
            if copy == Copy::First && !self.1 {
                return Err(gone());
            }
            self.0.read(copy)
        }
        fn write(&mut self, copy: Copy, block: &Block) -> io::Result<()> {
            if copy == Copy::First {
                return Err(gone());
            }
            self.0.write(copy, block)
        }
        fn blocks(&self) -> u64 {
            BLOCKS
        }
    }
    for is_readable in [false, true] {
        let mut worn = Worn(healthy(), is_readable);
        for boots in 1..4 {
            let mut stored = load(&mut worn).unwrap();
            assert_eq!(stored.damage.is_none(), is_readable);
            stored.state.wake(&rules(), 7, Reset::PowerOn, Now::default());
            assert!(stored.save(&mut worn).unwrap().is_some(), "told each time");
            assert_eq!(load(&mut worn).unwrap().state.boots, boots);
        }
    }
}
