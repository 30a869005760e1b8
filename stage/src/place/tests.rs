//! Both boot protocols on made-up machines: every rule obeyed, or an error that says what was asked, what there is, what to
//! do. The rules are written down a second time here, in other words than in the code.

use proptest::prelude::*;

use crate::devicetree::Unplaced;
use crate::formats::{BzImage, Header, Image, SETUP_HEADER};
use crate::memory::range::subtract;
use crate::memory::range::{covers, normalise};
use crate::place::*;

const K: u64 = 1 << 10;
const M: u64 = 1 << 20;
const G: u64 = 1 << 30;

/// System RAM of real and odd machines, with reserved holes.
fn memory(base: u64) -> impl Strategy<Value = Vec<Span>> {
    let piece = (0u64..2_000_000, 1u64..300_000);
    (
        prop::collection::vec((1u64..40_000, 0u64..2_000_000), 1..4),
        prop::collection::vec(piece, 0..12),
        prop_oneof![Just(1u64), Just(16), Just(512)],
    )
        .prop_map(move |(banks, holes, scale)| {
            let mut at = base;
            let mut ram = Vec::new();
            for (len, gap) in banks {
                ram.push(Span {
                    start: at,
                    end: at + len * 4 * K * scale,
                });
                at += len * 4 * K * scale + gap * 4 * K;
            }
            let holes: Vec<Span> = holes
                .iter()
                .map(|(o, l)| Span {
                    start: base + o * 4 * K,
                    end: base + (o + l % 400) * 4 * K,
                })
                .collect();
            subtract(&normalise(ram), &holes)
        })
}

fn x86_memory() -> impl Strategy<Value = Vec<Span>> {
    prop_oneof![
        memory(0x1000),
        memory(M),
        // The hole below 4 GiB.
        (64u64..3000, 0u64..20_000).prop_map(|(low, high)| {
            normalise([
                Span {
                    start: 0x1000,
                    end: 0x9_f000,
                },
                Span {
                    start: M,
                    end: M + low * M,
                },
                Span {
                    start: 4 * G,
                    end: 4 * G + high * M,
                },
            ])
        }),
    ]
}

fn arm64_memory() -> impl Strategy<Value = Vec<Span>> {
    prop_oneof![
        memory(0),
        memory(0x4000_0000),
        memory(0x8000_0000),
        memory(0x20_8000_0000),
        // Two banks far apart.
        (64u64..3000, 64u64..3000).prop_map(|(low, high)| {
            normalise([
                Span {
                    start: 2 * G,
                    end: 2 * G + low * M,
                },
                Span {
                    start: 544 * G,
                    end: 544 * G + high * M,
                },
            ])
        }),
    ]
}

/// The error says what was asked for, what there is and what to do, and it is true that there is no such piece.
fn is_no_room(error: &PlaceError) {
    let PlaceError::NoRoom { asked, there, .. } = error else {
        panic!("{error}")
    };
    let text = error.to_string();
    assert!(
        text.contains(&asked.to_string()) && text.contains(&there.to_string()),
        "{text}"
    );
    assert!(text.contains("more memory"), "{text}");
}

fn overlap_free(spans: &[Span]) -> bool {
    spans
        .iter()
        .enumerate()
        .all(|(i, a)| spans[i + 1..].iter().all(|b| !a.overlaps(b)))
}

fn whole_pages(span: Span, page: u64) -> Span {
    Span {
        start: span.start,
        end: span.end.next_multiple_of(page),
    }
}

/// A bzImage's header.
pub(crate) fn bzimage() -> BzImage {
    BzImage {
        setup_header: [0; SETUP_HEADER],
        init_size: 0x80_0000,
        pref_address: 16 * M,
        alignment: 2 * M,
        cmdline_size: 2047,
        above_4g: true,
        efi_kexec: true,
        initrd_addr_max: 0x7fff_ffff,
        version: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn x86_64_places_obey_every_rule(
        usable in x86_memory(),
        kernel in 1u64..40 * M, more in 0u64..60 * M,
        initrd in prop::option::of(1u64..900 * M), boot_data in 4097u64..64 * K,
        above_4g: bool, pref in prop_oneof![Just(M), Just(16 * M)],
        align in prop_oneof![Just(2 * M), Just(16 * M)], max in prop_oneof![Just(0x37ff_ffffu64), Just(0x7fff_ffff)],
    ) {
        let header = BzImage {
            init_size: kernel + more, pref_address: pref, alignment: align, above_4g, initrd_addr_max: max, ..bzimage()
        };
        let ask = x86_64::Ask { header, kernel, initrd, boot_data, page: 4 * K };
        match x86_64::arrange(&ask, Free::new(usable.clone())) {
            Err(error) => is_no_room(&error),
            Ok((places, free)) => {
                let limit = if above_4g { 1 << 46 } else { 4 * G };
                prop_assert!(places.kernel.start.is_multiple_of(align) && places.kernel.start >= pref);
                prop_assert!(places.kernel.len() >= kernel + more && places.kernel.end <= limit);
                prop_assert_eq!(places.initrd.map(|i| i.len()), initrd);
                prop_assert_eq!(places.info.len(), boot_data);
                prop_assert!(places.info.end <= limit);
                if let Some(i) = places.initrd {
                    prop_assert!(above_4g || i.end - 1 <= max);
                    prop_assert!(i.end <= limit);
                }
                let all: Vec<Span> = [places.kernel, places.info].into_iter().chain(places.initrd)
                    .map(|s| whole_pages(s, 4 * K)).collect();
                prop_assert!(overlap_free(&all));
                for s in &all {
                    prop_assert!(covers(&usable, s) && s.start >= M && s.start.is_multiple_of(4 * K));
                    prop_assert_eq!(free.largest(s), 0, "taken twice");
                }
            }
        }
    }

    #[test]
    fn arm64_places_obey_every_rule(
        usable in arm64_memory(),
        page in prop_oneof![Just(4 * K), Just(16 * K), Just(64 * K)],
        kernel in 64u64..40 * M, more in 0u64..40 * M,
        initrd in prop::option::of(1u64..900 * M),
        anywhere: bool, text_offset in prop_oneof![Just(0u64), Just(0x8_0000)],
    ) {
        let usable: Vec<Span> = usable.iter()
            .map(|s| Span { start: s.start.next_multiple_of(page), end: s.end / page * page })
            .filter(|s| !s.is_empty()).collect();
        let header = Image { text_offset, image_size: kernel + more, anywhere };
        let ask = arm64::Ask { header, kernel, initrd, page };
        match arm64::arrange(&ask, Free::new(usable.clone())) {
            Err(error) => is_no_room(&error),
            Ok((places, free)) => {
                let base = places.kernel.start - text_offset;
                prop_assert!(base.is_multiple_of(2 * M));
                prop_assert!(places.kernel.len() >= kernel + more);
                prop_assert!(places.info.start.is_multiple_of(2 * M) && places.info.len() == 2 * M);
                prop_assert_eq!(places.initrd.map(|i| i.len()), initrd);
                if let Some(i) = places.initrd {
                    let start = i.start.min(places.kernel.start) / G * G;
                    let end = i.end.max(places.kernel.end).next_multiple_of(G);
                    prop_assert!(end - start <= 32 * G);
                }
                if !anywhere {
                    let lower = (0..base / (2 * M)).rev().take(4096)
                        .map(|n| Span { start: n * 2 * M + text_offset, end: n * 2 * M + text_offset + places.kernel.len() });
                    prop_assert!(lower.into_iter().all(|s| !covers(&usable, &s)), "a lower base was free");
                }
                let all: Vec<Span> = [places.kernel, places.info].into_iter().chain(places.initrd)
                    .map(|s| whole_pages(s, page)).collect();
                prop_assert!(overlap_free(&all));
                for s in &all {
                    prop_assert!(covers(&usable, s) && s.start.is_multiple_of(page));
                    prop_assert_eq!(free.largest(s), 0, "taken twice");
                }
            }
        }
    }
}

/// Some of the 2 MiB pages of `usable`, by the bits of `mask`.
fn some_pages(usable: &[Span], mask: &[bool]) -> Vec<Span> {
    let starts = usable
        .iter()
        .flat_map(|s| (s.start.div_ceil(2 * M)..s.end / (2 * M)).take(200).map(|n| n * 2 * M));
    let chosen = starts.zip(mask.iter().cycle()).filter(|(_, take)| **take);
    normalise(chosen.map(|(start, _)| Span {
        start,
        end: start + 2 * M,
    }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    /// What is read in place lies in the pages that can be had, and the rules are the same.
    #[test]
    fn what_stays_is_in_the_pages(
        usable in arm64_memory(), mask in prop::collection::vec(prop::bool::weighted(0.9), 64..256),
        kernel in 64u64..12 * M, more in 0u64..50 * M, initrd in prop::option::of(1u64..30 * M), arm: bool,
    ) {
        let pages = some_pages(&usable, &mask);
        let free = Free::with_pages(usable.clone(), pages.clone());
        let header = if arm {
            Header::Image(Image { text_offset: 0, image_size: kernel + more, anywhere: true })
        } else {
            Header::BzImage(BzImage { init_size: kernel + more, ..bzimage() })
        };
        let ask = Ask::new(&header, kernel, initrd, 4 * K);
        if let Ok((places, left)) = arrange(&ask, &free, &Regions::default()) {
            let resident = ask.resident_spans(&places);
            prop_assert_eq!(resident.len(), 2 + usize::from(initrd.is_some()));
            for span in &resident {
                prop_assert!(covers(&pages, span), "{span:x?} is not in {pages:x?}");
            }
            prop_assert!(covers(&usable, &places.kernel) && places.kernel.len() >= kernel + more);
            let all: Vec<Span> = [places.kernel, places.info].into_iter().chain(places.initrd).map(|s| whole_pages(s, 4 * K)).collect();
            prop_assert!(overlap_free(&all));
            for s in &all {
                prop_assert_eq!(left.largest(s), 0, "taken twice");
            }
        }
    }
}

fn region(size: u64, within: Span) -> Unplaced {
    Unplaced {
        name: "linux,cma".into(),
        is_default: false,
        size,
        align: 2 * M,
        within: vec![within],
    }
}

const ANYWHERE: Span = Span {
    start: 0,
    end: u64::MAX,
};

fn image(kernel: u64, initrd: u64) -> Ask {
    let header = Image {
        text_offset: 0,
        image_size: kernel,
        anywhere: true,
    };
    Ask::new(&Header::Image(header), kernel, Some(initrd), 4 * K)
}

fn spans(of: &[(u64, u64)]) -> Vec<Span> {
    normalise(of.iter().map(|(start, end)| Span {
        start: *start,
        end: *end,
    }))
}

/// 1 GiB, of which the main kernel takes 45 % in one piece: it does not go around a payload in the middle.
#[test]
fn a_payload_is_at_an_end_of_memory_where_the_kernel_wants_much_of_it() {
    let ram = spans(&[(G, 2 * G)]);
    let regions = Regions::of(vec![region(460 * M, ANYWHERE)], ram.clone());
    let ask = image(40 * M, 70 * M);
    let place = |pages: &[(u64, u64)]| arrange(&ask, &Free::with_pages(ram.clone(), spans(pages)), &regions);
    let middle = (G + 455 * M, G + 569 * M);
    let (places, _) = place(&[middle]).unwrap();
    let shortage = regions.beside(&places).unwrap_err().to_string();
    assert!(shortage.contains(r#"wants 460 MiB for "linux,cma", for which there is no room"#));
    for (low, high) in [(0, 150), (870, 1024)] {
        let (places, _) = place(&[middle, (G + low * M, G + high * M)]).unwrap();
        regions.beside(&places).unwrap();
    }
    // Copied, it goes to the top by itself.
    let (places, _) = arrange(&ask, &Free::new(ram.clone()), &regions).unwrap();
    assert!(places.kernel.start > 2 * G - 200 * M);

    // What has to be at the top, where the payload would be.
    let top = Span {
        start: G + 600 * M,
        end: 2 * G,
    };
    let regions = Regions::of(vec![region(400 * M, top)], ram.clone());
    let (places, _) = arrange(&ask, &Free::new(ram.clone()), &regions).unwrap();
    regions.beside(&places).unwrap();
    assert!(places.kernel.end <= 2 * G - 400 * M);
    // A kernel that has to be at the bottom of memory stays there.
    let low = Header::Image(Image {
        text_offset: 0,
        image_size: 40 * M,
        anywhere: false,
    });
    let low = Ask::new(&low, 40 * M, None, 4 * K);
    let bottom = Span {
        start: G,
        end: G + 400 * M,
    };
    let regions = Regions::of(vec![region(380 * M, bottom)], ram.clone());
    let (places, _) = arrange(&low, &Free::new(ram.clone()), &regions).unwrap();
    assert_eq!(places.kernel.start, G);
    // What has no room in any case is no reason for anything.
    let regions = Regions::of(vec![region(2 * G, ANYWHERE), region(16 * M, ANYWHERE)], ram.clone());
    let (places, _) = arrange(&ask, &Free::new(ram), &regions).unwrap();
    regions.beside(&places).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    /// The answer is another than that of a tree without regions only where it leaves them room and that one does not; and whatever
    /// boots without them boots with them.
    #[test]
    fn what_the_kernel_places_has_room(
        usable in arm64_memory(), sizes in prop::collection::vec((1u64..600 * M, 12u32..26, any::<bool>()), 0..4),
        kernel in 64u64..12 * M, initrd in prop::option::of(1u64..30 * M), mask in prop::collection::vec(any::<bool>(), 64..256),
        in_place: bool,
    ) {
        let low = Span { start: 0, end: usable.first().map_or(0, |span| span.start) + G };
        let wanted = sizes.iter().map(|(size, align, is_low)| Unplaced {
            align: 1 << align,
            ..region(*size, if *is_low { low } else { ANYWHERE })
        });
        let regions = Regions::of(wanted.collect(), usable.clone());
        let free = if in_place {
            Free::with_pages(usable.clone(), some_pages(&usable, &mask))
        } else {
            Free::new(usable.clone())
        };
        let header = Header::Image(Image { text_offset: 0, image_size: kernel, anywhere: true });
        let ask = Ask::new(&header, kernel, initrd, 4 * K);
        let plain = arrange(&ask, &free, &Regions::default());
        match (arrange(&ask, &free, &regions), plain) {
            (Ok((places, _)), Ok((plain, _))) => {
                prop_assert!(places == plain || regions.beside(&plain).is_err() && regions.beside(&places).is_ok());
            }
            (found, plain) => prop_assert!(found.is_err() && plain.is_err()),
        }
    }
}
