//! The payload in place: kernel, initrd, and what tells the kernel about the machine are read to the addresses they are used
//! at, in huge pages of this process. The kernel then copies nothing, and its limit of half the memory is no limit.
//!
//! Given the sizes, the memory and a source of pages; responsible for taking no more pages than it must, for never bringing
//! the service Linux near the end of its memory, and for a reason in words where it does not work.

use std::fmt;
use std::io;
use std::time::Instant;

use crate::deadlines;
use crate::memory::hole::Free;
use crate::memory::range::{intersect, normalise};
use crate::memory::{Pages, Resident, Span};
use crate::place::{Ask, PlaceError, Places, Regions, Shortage, arrange};
use crate::text::Size;

/// What is left to the service Linux, bytes: with less, it was seen to panic ("System is deadlocked on memory").
pub(super) const RESERVE: u64 = 48 << 20;

/// How many pages more are asked for at first where those at hand do not do: few, since all of them are missing elsewhere
/// meanwhile.
const MORE: u64 = 4;

/// Why the payload is not read in place. Reads on after `segments: `.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WhyNot {
    /// The entry says so.
    #[error("set in boot.toml")]
    Asked,
    /// The main kernel would see ciphertext where this process sees plain text.
    #[error("the kernel encrypts this machine's memory (SME)")]
    Encrypted,
    /// A kernel from before 4.6: memory below it is lost.
    #[error("this Image must be at the start of RAM (Linux before 4.6)")]
    LowImage,
    /// The kernel has none.
    #[error("the service kernel has no huge pages of at least 2 MiB (CONFIG_HUGETLBFS, CONFIG_PROC_PAGE_MONITOR)")]
    NoPages,
    /// They would not fit.
    #[error("not enough free memory: {} for huge pages and {} for the service Linux, but only {} is free", Size(*.wanted), Size(RESERVE), Size(*.free))]
    TooLittle {
        /// Bytes of the pages.
        wanted: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// Not in one piece.
    #[error("memory is fragmented: {pages} huge {}, longest contiguous run {}", if *.pages == 1 { "page" } else { "pages" }, Size(*.longest))]
    InPieces {
        /// How many there were.
        pages: usize,
        /// The longest run, bytes.
        longest: u64,
    },
    /// The main kernel would be short of memory in one piece.
    #[error("{0} in the huge pages there are")]
    Shortage(Shortage),
    /// What is known about memory does not let it be arranged in any way.
    #[error("{0}")]
    Place(Box<PlaceError>),
    /// A call failed.
    #[error("can't get huge pages: {0}")]
    System(#[from] io::Error),
}

/// The two kinds of arena.
#[derive(Debug)]
pub(crate) enum ArenaKind {
    /// The payload is where the main kernel finds it.
    InPlace {
        /// Huge pages it is in.
        pages: u64,
        /// Bytes of one.
        size: u64,
    },
    /// The kernel copies it.
    Segments(WhyNot),
}

impl fmt::Display for ArenaKind {
    /// `in place, 53 pages of 2 MiB`, `in place, 1 page of 1 GiB`, or `segments: …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InPlace { pages, size } => {
                let plural = if *pages == 1 { "" } else { "s" };
                write!(f, "in place, {pages} page{plural} of {}", Size(*size))
            }
            Self::Segments(why) => write!(f, "segments: {why}"),
        }
    }
}

/// Memory for a payload, at its final addresses.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) places: Places,
    /// Kernel, initrd if there is one, and what tells the kernel about the machine, in this order.
    pub(super) memory: Vec<Box<dyn Resident>>,
    /// Pages it is in, and bytes of each.
    pub(super) pages: (u64, u64),
}

/// Takes pages for `ask` in `usable` that leave room for `regions`, from the first of `sources` that has enough in a row. `free` is
/// what is available to all of it, bytes.
pub(super) fn take(
    ask: &Ask,
    usable: &[Span],
    regions: &Regions,
    free: u64,
    sources: &mut [Box<dyn Pages>],
) -> Result<Taken, WhyNot> {
    let mut why = WhyNot::NoPages;
    for source in sources {
        match take_from(ask, usable, regions, free, source.as_mut()) {
            Ok(taken) => return Ok(taken),
            Err(error) => {
                source.give_back();
                why = match why {
                    // The first source is the usual one: its reason is the one to know.
                    WhyNot::NoPages => error,
                    first => first,
                };
            }
        }
    }
    Err(why)
}

fn take_from(
    ask: &Ask,
    usable: &[Span],
    regions: &Regions,
    free: u64,
    source: &mut dyn Pages,
) -> Result<Taken, WhyNot> {
    let size = source.size();
    let parts = ask.resident();
    let sum = |of: &dyn Fn(u64) -> u64| parts.iter().fold(0_u64, |sum, part| sum.saturating_add(of(*part)));
    // Parts may share pages: all of them one of 1 GiB. What is likely to do is pages of its own for each.
    let least = sum(&|part| part).div_ceil(size);
    let likely = sum(&|part| part.div_ceil(size));
    let free_pages = free.saturating_sub(RESERVE).checked_div(size).unwrap_or(0);
    let kept = source.kept();
    let most = free_pages.saturating_add(kept);
    let too_little = |pages: u64| WhyNot::TooLittle {
        wanted: pages.saturating_mul(size),
        free: free.saturating_add(kept.saturating_mul(size)),
    };
    if least > most {
        return Err(too_little(least));
    }
    // Runs were always found among two or three times as many pages; those in the room that the kernel needs are of no use.
    let with = |room: u64| {
        let pages = likely
            .saturating_mul(3)
            .saturating_add(8)
            .saturating_add(room.div_ceil(size));
        most.min(pages)
    };
    let behind = ask.room_behind_kernel();
    let mut most = with(behind);
    let begin = Instant::now();
    let mut count = likely.min(most);
    loop {
        let had = source.grow(count)?;
        let pages = source.at_hand(usable)?;
        let spans = normalise(pages.iter().filter_map(|at| Span::sized(*at, size)));
        let mut shortage = None;
        if let Ok((places, _)) = arrange(ask, &Free::with_pages(usable.to_vec(), spans.clone()), regions) {
            shortage = regions.beside(&places).err();
            if shortage.is_none() {
                let wanted = ask.resident_spans(&places);
                return Ok(Taken {
                    places,
                    memory: source.take(&wanted)?,
                    pages: (held(&wanted, size), size),
                });
            }
            most = with(behind.saturating_add(regions.bytes()));
        } else if most < likely {
            return Err(too_little(likely));
        }
        if count >= most || had < count || begin.elapsed() > deadlines::HUGE_PAGES {
            if let Some(shortage) = shortage {
                return Err(WhyNot::Shortage(shortage));
            }
            let runs = intersect(&spans, usable);
            return Err(WhyNot::InPieces {
                pages: pages.len(),
                longest: runs.iter().map(Span::len).max().unwrap_or(0),
            });
        }
        // Those in memory that is not usable are missing; a few more besides. The more were of no help, the more: where a
        // large initrd needs a row of its own, few at a time would take longer than the kernel's copying.
        let of_use = u64::try_from(pages.len()).unwrap_or(u64::MAX);
        let more = MORE.max(count.saturating_sub(likely) / 4);
        count = count.saturating_add(had.saturating_sub(of_use).max(more)).min(most);
    }
}

/// How many pages of `size` bytes `spans` touch.
fn held(spans: &[Span], size: u64) -> u64 {
    use crate::memory::range::{align_down, align_up, total};
    let whole = normalise(spans.iter().filter_map(|span| {
        Some(Span {
            start: align_down(span.start, size),
            end: align_up(span.end, size)?,
        })
    }));
    total(&whole).checked_div(size).unwrap_or(0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::devicetree::Unplaced;
    use crate::formats::{BzImage, Header, Image};

    const MIB: u64 = 1 << 20;
    const PAGE: u64 = 2 * MIB;

    /// Memory at a made-up address.
    #[derive(Debug)]
    pub(crate) struct Fake {
        pub(crate) address: u64,
        pub(crate) bytes: Vec<u8>,
    }

    impl Resident for Fake {
        fn bytes(&self) -> &[u8] {
            &self.bytes
        }
        fn bytes_mut(&mut self) -> &mut [u8] {
            &mut self.bytes
        }
        fn address(&self) -> u64 {
            self.address
        }
        fn is_still_there(&self) -> io::Result<bool> {
            Ok(true)
        }
    }

    /// A kernel that hands out pages in a certain order.
    #[derive(Debug, Default)]
    pub(crate) struct Pool {
        /// What it will hand out, addresses.
        pub(crate) order: Vec<u64>,
        pub(crate) count: u64,
        pub(crate) largest: u64,
        /// How often it was asked.
        pub(crate) times: u64,
        /// They have 1 GiB.
        pub(crate) gigantic: bool,
        pub(crate) taken: Vec<Span>,
    }

    impl Pages for Pool {
        fn size(&self) -> u64 {
            if self.gigantic { 1 << 30 } else { PAGE }
        }
        fn kept(&self) -> u64 {
            self.count
        }
        fn grow(&mut self, count: u64) -> io::Result<u64> {
            self.count = count.min(self.order.len() as u64);
            self.largest = self.largest.max(self.count);
            self.times = self.times.saturating_add(1);
            Ok(self.count)
        }
        fn at_hand(&mut self, memory: &[Span]) -> io::Result<Vec<u64>> {
            let all = &self.order[..usize::try_from(self.count).unwrap()];
            let inside = |at: &&u64| memory.iter().any(|s| s.start <= **at && **at < s.end);
            Ok(all.iter().filter(inside).copied().collect())
        }
        fn take(&mut self, spans: &[Span]) -> io::Result<Vec<Box<dyn Resident>>> {
            self.taken = spans.to_vec();
            let memory = |span: &Span| -> Box<dyn Resident> {
                Box::new(Fake {
                    address: span.start,
                    bytes: vec![0; usize::try_from(span.len()).unwrap()],
                })
            };
            Ok(spans.iter().map(memory).collect())
        }
        fn give_back(&mut self) {
            self.count = 0;
        }
    }

    fn ask() -> Ask {
        let header = Header::Image(Image {
            text_offset: 0,
            image_size: 6 * MIB,
            anywhere: true,
        });
        Ask::new(&header, 5 * MIB, Some(9 * MIB), 4096)
    }

    fn usable() -> Vec<Span> {
        vec![Span {
            start: 0x4000_0000,
            end: 0x8000_0000,
        }]
    }

    fn attempt(order: Vec<u64>, free: u64) -> (Result<Taken, WhyNot>, u64) {
        let mut pool = Pool {
            order,
            ..Pool::default()
        };
        let result = take_from(&ask(), &usable(), &Regions::default(), free, &mut pool);
        (result, pool.largest)
    }

    #[test]
    fn memory_in_one_piece_costs_no_page_more_than_the_payload() {
        let up = (0..100).map(|n| 0x4800_0000 + n * PAGE).collect();
        let down = (0..100).rev().map(|n| 0x4800_0000 + n * PAGE).collect();
        for order in [up, down] {
            let (taken, largest) = attempt(order, 512 * MIB);
            let taken = taken.unwrap();
            assert_eq!(largest, 3 + 5 + 1);
            assert_eq!(taken.pages, (9, PAGE));
            assert_eq!(taken.memory.len(), 3);
            let initrd = taken.places.initrd.unwrap();
            assert!(!initrd.overlaps(&taken.places.kernel) && !taken.places.info.overlaps(&initrd));
        }
    }

    #[test]
    fn memory_in_pieces_takes_more_pages_until_they_make_a_row() {
        let order = (0..100).map(|n| 0x4400_0000 + 2 * n * PAGE).collect();
        let (taken, largest) = attempt(order, 512 * MIB);
        assert!(matches!(taken, Err(WhyNot::InPieces { .. })));
        assert_eq!(largest, 9 * 3 + 8 + 1, "one for what the kernel needs behind its bytes");
        let order = (0..6)
            .map(|n| 0x4800_0000 + 2 * n * PAGE)
            .chain((0..30).map(|n| 0x5800_0000 + n * PAGE))
            .collect();
        assert!(attempt(order, 512 * MIB).0.is_ok());
    }

    /// Half of memory for the main kernel, where the pages come from first.
    #[test]
    fn what_the_main_kernel_wants_in_one_piece_is_left() {
        let wanted = Unplaced {
            name: "linux,cma".into(),
            size: 500 * MIB,
            align: 4 * MIB,
            within: vec![Span {
                start: 0x6000_0000,
                end: 0x8000_0000,
            }],
            is_default: true,
        };
        let regions = Regions::of(vec![wanted], usable());
        let take = |last: u64| {
            let mut pool = Pool {
                order: (1..last).map(|n| 0x8000_0000 - n * PAGE).collect(),
                ..Pool::default()
            };
            take_from(&ask(), &usable(), &regions, 1000 * MIB, &mut pool)
        };
        let taken = take(400).unwrap();
        regions.beside(&taken.places).unwrap();
        assert!(matches!(take(200), Err(WhyNot::Shortage(_))));
    }

    fn bzimage(kernel: u64, initrd: u64) -> Ask {
        let header = Header::BzImage(BzImage {
            init_size: 62 * MIB,
            ..crate::place::tests::bzimage()
        });
        Ask::new(&header, kernel, Some(initrd), 4096)
    }

    /// What a bzImage needs behind its bytes is more than all of its bytes, and the kernel hands out the top of memory first.
    #[test]
    fn room_behind_the_kernel_is_found_from_the_top_of_memory_down() {
        let mut pool = Pool {
            order: (1..200).map(|n| 0x8000_0000 - n * PAGE).collect(),
            ..Pool::default()
        };
        let taken = take_from(
            &bzimage(8 * MIB, 2 * MIB),
            &usable(),
            &Regions::default(),
            512 * MIB,
            &mut pool,
        )
        .unwrap();
        assert_eq!(taken.pages.0, 6);
    }

    /// Seven pages, one of the service kernel, all the others: the kernel fits in the seven, with its room over all the
    /// others; behind the initrd it needs no page more.
    #[test]
    fn the_kernel_goes_where_its_room_is_not_in_the_way() {
        let mut pool = Pool {
            order: (0..200).filter(|n| *n != 7).map(|n| 0x4400_0000 + n * PAGE).collect(),
            ..Pool::default()
        };
        let taken = take_from(
            &bzimage(12 * MIB, 64 * MIB),
            &usable(),
            &Regions::default(),
            1024 * MIB,
            &mut pool,
        )
        .unwrap();
        assert!(taken.places.initrd.unwrap().end <= taken.places.kernel.start);
        assert!(pool.largest <= 7 + 32 + 6 + MORE, "{}", pool.largest);
    }

    /// 300 pages, one of the service kernel, all the others, for an initrd of 334: what it needs are as many behind it.
    #[test]
    fn a_large_payload_finds_its_row_in_few_steps() {
        let mut pool = Pool {
            order: (0..900).filter(|n| *n != 300).map(|n| 0x4000_0000 + n * PAGE).collect(),
            ..Pool::default()
        };
        let ask = bzimage(12 * MIB, 667 * MIB);
        let memory = [Span {
            start: 0x4000_0000,
            end: 0x1_0000_0000,
        }];
        assert!(take_from(&ask, &memory, &Regions::default(), 2900 * MIB, &mut pool).is_ok());
        assert!(pool.times <= 20, "{} times", pool.times);
        assert!(pool.largest <= (300 + 334 + 6) * 5 / 4, "{} pages", pool.largest);
    }

    #[test]
    fn pages_in_memory_of_others_are_made_up_for() {
        let order = (0..40).map(|n| 0x3fc0_0000 + n * PAGE).collect();
        let (taken, largest) = attempt(order, 512 * MIB);
        assert!(taken.is_ok());
        assert_eq!(largest, 9 + MORE, "two were of no use");
    }

    #[test]
    fn the_service_linux_keeps_its_reserve() {
        let order: Vec<u64> = (0..100).map(|n| 0x4800_0000 + n * PAGE).collect();
        let (taken, largest) = attempt(order.clone(), RESERVE + 15 * MIB);
        assert!(matches!(taken, Err(WhyNot::TooLittle { .. })));
        assert_eq!(largest, 0, "nothing was asked for");
        let (taken, largest) = attempt(order.clone(), RESERVE + 17 * MIB);
        assert!(matches!(taken, Err(WhyNot::TooLittle { .. })));
        assert_eq!(largest, 8, "the three parts can't share eight pages");
        assert!(attempt(order.clone(), RESERVE + 18 * MIB).0.is_ok());
        // What is kept for us already takes nothing from it.
        let mut pool = Pool {
            order,
            count: 9,
            ..Pool::default()
        };
        assert!(take_from(&ask(), &usable(), &Regions::default(), 0, &mut pool).is_ok());
    }

    #[test]
    fn one_page_of_a_gib_is_enough_for_all_of_it() {
        let mut pool = Pool {
            order: vec![0x4000_0000],
            count: 1,
            gigantic: true,
            ..Pool::default()
        };
        let taken = take_from(&ask(), &usable(), &Regions::default(), RESERVE, &mut pool).unwrap();
        assert_eq!((taken.pages, taken.memory.len()), ((1, 1 << 30), 3));
    }

    #[test]
    fn the_reasons_are_sentences() {
        let (taken, _) = attempt(vec![0x4800_0000], 512 * MIB);
        assert_eq!(
            taken.unwrap_err().to_string(),
            "memory is fragmented: 1 huge page, longest contiguous run 2 MiB"
        );
        let mut none: [Box<dyn Pages>; 0] = [];
        assert!(matches!(
            take(&ask(), &usable(), &Regions::default(), 1 << 30, &mut none),
            Err(WhyNot::NoPages)
        ));
    }
}
