#![expect(
    clippy::arithmetic_side_effects,
    clippy::large_types_passed_by_value,
    clippy::print_stdout,
    reason = "small numbers, and figures that are to be published"
)]

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

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
    /// The other way round: what is behind the cut was written, and in front of it is what was there before.
    Front,
    /// What an erased sector has, of one kind.
    Zeros,
    /// And of the other.
    Ones,
    /// Anything.
    Garbage,
    /// A sector that can't be read.
    Unreadable,
}

const TEARS: [Tear; 6] = [
    Tear::Old,
    Tear::Front,
    Tear::Zeros,
    Tear::Ones,
    Tear::Garbage,
    Tear::Unreadable,
];

impl Tear {
    /// What becomes of the block `old` where `new` is cut after so many bytes.
    fn of(self, old: &Block, new: &Block, left: usize) -> Option<Block> {
        let mut torn = *new;
        let missing = match self {
            Self::Front => 0..left,
            _ => left..SIZE,
        };
        for at in missing {
            torn[at] = match self {
                Self::Zeros => 0,
                Self::Ones => 0xff,
                Self::Garbage => 0x5a ^ u8::try_from(at % 251).unwrap(),
                _ => old[at],
            };
        }
        (self != Self::Unreadable).then_some(torn)
    }
}

/// Where the two writes of a change are cut, as bytes that were written: the ends of sectors, and what is `step` apart.
fn places(step: usize) -> impl Iterator<Item = usize> {
    (0..=2 * SIZE).filter(move |left| left.is_multiple_of(512) || left.is_multiple_of(step))
}

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
                *self.block(copy) = tear.of(&old, block, left);
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
        ("another machine", |state| {
            state.machine = 6;
            state.wake(&rules(), 7, Reset::PowerOn, Now::default());
        }),
        ("stopped", |state| {
            state.stopped(Now::default());
        }),
        ("damaged", |state| {
            state.wake(&rules(), 7, Reset::PowerOn, Now::default());
            state.damaged(Now::default());
        }),
        ("leave", |state| state.leave(false, Now::default())),
        ("test", |state| state.leave(true, Now::default())),
        ("init", |state| *state = State::factory(&[name("A"), name("B")])),
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

/// What a change may find on the device, by name: two good copies, a state that has no room for another event, a copy that is lost,
/// and an image that was written over the first one.
fn starts() -> Vec<(&'static str, [Option<Block>; 2])> {
    let [first, second] = healthy().blocks;
    let mut full = healthy();
    let mut stored = load(&mut full).unwrap();
    for boot in 0..40 {
        stored.state.wake(&rules(), 7, Reset::Unknown, Now::default());
        stored.state.jump(&name("A"), boot, Now::default());
    }
    stored.save(&mut full).unwrap();
    let image = encode(&State::factory(&[name("A"), name("B")]), 1, BLOCKS / 4);
    vec![
        ("healthy", [first, second]),
        ("full", full.blocks),
        ("first copy unreadable", [None, second]),
        ("first copy lost", [Some([0xff; SIZE]), second]),
        ("second copy unreadable", [first, None]),
        ("second copy lost", [first, Some([0; SIZE])]),
        ("an image over it", [Some(image), full.blocks[1]]),
    ]
}

/// Cuts `call` at each of `places`; how often.
fn cut_each(start: &[Option<Block>; 2], call: Call, tear: Tear, places: impl Iterator<Item = usize>) -> usize {
    places
        .map(|left| {
            let mut disk = Disk::new(*start);
            cut(&mut disk, call, left, tear);
            // The next save makes both equal again.
            let mut next = load(&mut disk).unwrap();
            assert!(next.save(&mut disk).unwrap().is_none());
            assert_eq!(disk.blocks[0], disk.blocks[1], "{} {tear:?} {left}", call.0);
        })
        .count()
}

/// PC-1: a cut at every byte of every write of every call.
fn cut_at_any_byte(tears: &[Tear]) {
    let start = healthy().blocks;
    let mut cuts = 0;
    for call in calls() {
        for &tear in tears {
            // What is behind the cut is equally bad wherever that is, unless it is the old.
            let step = if matches!(tear, Tear::Old | Tear::Front) { 1 } else { 13 };
            cuts += cut_each(&start, call, tear, places(step));
        }
    }
    println!("{cuts} of {cuts} cuts ({tears:?}) left the old state or the new one");
}

#[test]
fn power_cut_at_any_byte_leaves_the_old_state_or_the_new_one() {
    cut_at_any_byte(&[Tear::Old, Tear::Zeros, Tear::Ones, Tear::Garbage, Tear::Unreadable]);
}

#[test]
fn power_cut_that_leaves_the_end_of_a_block_leaves_the_old_state_or_the_new_one() {
    cut_at_any_byte(&[Tear::Front]);
}

#[test]
fn power_cut_of_what_is_damaged_or_full_leaves_the_old_state_or_the_new_one() {
    let mut cuts = 0;
    for (what, start) in starts() {
        for call in calls() {
            for tear in TEARS {
                cuts += cut_each(&start, (what, call.1), tear, places(97));
            }
        }
    }
    println!("{cuts} of {cuts} cuts of what is damaged or full left the old state or the new one");
}

/// There is no old state then: the new one is there, or still none.
#[test]
fn power_cut_over_nothing_leaves_the_new_state_or_nothing() {
    let mut lost = State::lost(&rules(), Now::default());
    lost.wake(&rules(), 7, Reset::PowerOn, Now::default());
    let mut cuts = 0;
    for (what, new) in [("init", State::factory(&[name("A")])), ("lost", lost)] {
        for byte in [Some(0), Some(0xff), Some(0xa5), None] {
            let nothing = byte.map(|byte| [byte; SIZE]);
            for tear in TEARS {
                for left in places(7) {
                    let mut disk = Disk::new([nothing; 2]);
                    (disk.left, disk.tear) = (Some(left), tear);
                    let saved = Stored::new(new.clone()).save(&mut disk);
                    disk.left = None;
                    let mut next = match load(&mut disk) {
                        Ok(found) => found,
                        Err(LoadError::Newer(_)) => panic!("{what} {tear:?} {left}: never written"),
                        Err(_) => {
                            assert!(saved.is_err(), "{what} {tear:?} {left}: said to be kept");
                            Stored::new(new.clone())
                        }
                    };
                    assert_eq!(next.state, new, "{what} {tear:?} {left}");
                    assert!(next.save(&mut disk).unwrap().is_none());
                    assert_eq!(disk.blocks[0], disk.blocks[1], "{what} {tear:?} {left}");
                    assert_eq!(load(&mut disk).unwrap().state, new, "{what} {tear:?} {left}");
                    cuts += 1;
                }
            }
        }
    }
    println!("{cuts} of {cuts} cuts over nothing left the new state or nothing");
}

/// A call, and the power fails in the middle of writing what it changed.
fn cut(disk: &mut Disk, call: Call, left: usize, tear: Tear) {
    cut_after(disk, &mut Vec::new(), call, left, tear);
}

/// The same after others: what each was about to write is in `unfinished`. Where the end of a block is written and not its front, that
/// may be all that such a one lacked.
fn cut_after(disk: &mut Disk, unfinished: &mut Vec<State>, (what, call): Call, left: usize, tear: Tear) {
    let mut stored = load(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let old = stored.state.clone();
    call(&mut stored.state);
    (disk.left, disk.tear) = (Some(left), tear);
    let saved = stored.save(disk);
    disk.left = None;
    let found = load(disk).unwrap_or_else(|error| panic!("{what} {left} {tear:?}: {error}"));
    // An image counts until the first copy is written over it.
    let first = disk.blocks[0].and_then(|block| decode(&block).ok());
    let is_image = first.is_some_and(|first| first.blocks != BLOCKS);
    // What was said to be kept is.
    let is_new = found.state == stored.state;
    let is_old = found.state == old && (saved.is_err() || is_image);
    let is_finished = tear == Tear::Front && unfinished.contains(&found.state);
    assert!(is_new || is_old || is_finished, "{what} {left} {tear:?}");
    unfinished.push(stored.state);
}

/// PC-2: the power fails again while what the last time left is being mended.
#[test]
fn power_cut_after_a_power_cut_leaves_the_old_state_or_the_new_one() {
    // Between two writes nothing is torn.
    let between = [0, SIZE, 2 * SIZE].map(|left| (left, Tear::Old));
    let within = [100, SIZE + 100]
        .into_iter()
        .flat_map(|left| TEARS.map(|tear| (left, tear)));
    let cuts: Vec<(usize, Tear)> = between.into_iter().chain(within).collect();
    let (start, calls) = (healthy().blocks, calls());
    let mut pairs = 0;
    for &first in &calls {
        for &(left, tear) in &cuts {
            let (mut after, mut unfinished) = (Disk::new(start), Vec::new());
            cut_after(&mut after, &mut unfinished, first, left, tear);
            for &second in &calls {
                for &(left, tear) in &cuts {
                    let mut disk = Disk::new(after.blocks);
                    cut_after(&mut disk, &mut unfinished, second, left, tear);
                    unfinished.truncate(1);
                    pairs += 1;
                }
            }
        }
    }
    println!("{pairs} of {pairs} pairs of cuts left the old state or the new one");
}

/// The same five times in a row.
#[test]
fn power_cut_after_power_cut() {
    const ROWS: u32 = 10_000;
    let (starts, calls) = (starts(), calls());
    let cuts = proptest::collection::vec((0..calls.len(), 0..=2 * SIZE, 0..TEARS.len()), 5);
    let config = ProptestConfig {
        cases: ROWS,
        ..ProptestConfig::with_source_file(file!())
    };
    let row = |(start, cuts): (usize, Vec<(usize, usize, usize)>)| {
        let (mut disk, mut unfinished) = (Disk::new(starts[start].1), Vec::new());
        for (call, left, tear) in cuts {
            cut_after(&mut disk, &mut unfinished, calls[call], left, TEARS[tear]);
        }
        Ok(())
    };
    let ran = TestRunner::new(config).run(&(0..starts.len(), cuts), row);
    ran.unwrap_or_else(|error| panic!("{error}"));
    println!("{ROWS} of {ROWS} rows of five cuts left the old state or the new one");
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
    // An image of another size was written over it: its first copy counts, whatever was in the middle.
    let image = encode(&State::default(), 1, 64);
    disk.blocks[0] = Some(image);
    assert!(load(&mut disk).is_ok());
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
    // What an image has counts as long as it is there: nothing is kept then.
    let image = State::factory(&[name("A")]);
    let mut worn = Worn(healthy(), true);
    worn.0.blocks[0] = Some(encode(&image, 1, BLOCKS / 4));
    for _ in 0..2 {
        let mut stored = load(&mut worn).unwrap();
        assert_eq!(stored.state, image);
        stored.state.wake(&rules(), 7, Reset::PowerOn, Now::default());
        for _ in 0..2 {
            assert!(stored.save(&mut worn).is_err());
        }
    }
}
