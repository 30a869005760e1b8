use proptest::prelude::*;

use super::super::record::tests::sample;
use super::*;

/// A counter of 1 MHz that began at power-on, 499_750 ms before the service kernel's clock; so its ticks are microseconds.
const HZ: u64 = 1_000_000;

fn handover() -> Handover {
    Handover {
        counter: Some(Anchor {
            at: 1_000_000,
            us: 500_250,
        }),
        ..sample()
    }
}

fn stamps() -> Record {
    Record {
        jump: 2_620_000,
        hz: HZ,
        entered: 2_628_000,
        checked: 2_663_000,
        left: 2_665_000,
        bytes: 101_800_000,
        flags: 1,
        ..Record::default()
    }
}

/// 10 s after its clock began, which was 100 ms after the purgatory left.
fn main() -> Main {
    Main {
        counter: 2_765_000 + 10_000_000,
        hz: None,
        uptime_us: 10_000_000,
        error_us: 10,
        pid1: Some(Pid1 {
            us: 1_400_000,
            by: "by the log",
        }),
    }
}

fn names(timeline: &Timeline) -> Vec<&str> {
    timeline.spans.iter().map(|s| s.name.as_str()).collect()
}

fn near(a: i64, b: i64) -> bool {
    (a - b).abs() < 2
}

#[test]
fn a_jump_later_than_any_boot_is_left_out() {
    let late = Record {
        jump: u64::MAX / 2,
        ..stamps()
    };
    let t = Timeline::new(&late, &handover(), Some(&main()));
    assert!(t.total_us() < MOST_US && t.span("between").is_none(), "{t:?}");
    assert!(t.missing.iter().any(|what| what.starts_with("leave: ")), "{t:?}");
}

#[test]
fn a_clock_that_runs_for_ever_is_no_panic() {
    let endless = Main {
        counter: 1_000_000,
        uptime_us: i64::MAX,
        ..main()
    };
    let none = Record {
        hz: HZ,
        ..Record::default()
    };
    let t = Timeline::new(&none, &handover(), Some(&endless));
    assert!(t.span("main").is_none(), "{t:?}");
}

#[test]
fn the_whole_chain_is_on_one_axis() {
    let t = Timeline::new(&stamps(), &handover(), Some(&main()));
    assert_eq!(t.missing, [""; 0]);
    assert_eq!(
        names(&t),
        [
            "firmware", "service", "start", "select", "probe", "budget", "reserve", "load", "verify", "layout",
            "kexec", "leave", "check", "exit", "early", "main"
        ]
    );
    let took = |name: &str| t.span(name).unwrap().took_us();
    for (name, us) in [
        ("firmware", 499_750),
        ("service", 1_500_125),
        ("load", 300_000),
        ("kexec", 10_250),
        ("leave", 8_000),
        ("check", 35_000),
        ("exit", 2_000),
        ("early", 100_000),
        ("main", 1_400_000),
    ] {
        assert!(near(took(name), us), "{name}: {}", took(name));
    }
    assert!(t.from_power_on && near(t.spans[0].start_us, 0));
    assert!(near(t.total_us(), 4_165_000), "{}", t.total_us());
    assert!(t.spans.windows(2).all(|w| near(w[0].end_us, w[1].start_us)));
    assert_eq!(t.span("check").unwrap().note, "101.8 MB, 2909 MB/s");
    assert_eq!(t.span("load").unwrap().note, "80.0 MB read from the source");
}

#[test]
fn without_power_on_zero_is_the_service_kernel_s() {
    let t = Timeline::new(
        &stamps(),
        &Handover {
            firmware_us: None,
            ..handover()
        },
        Some(&main()),
    );
    assert!(!t.from_power_on && names(&t)[0] == "service" && near(t.spans[0].start_us, 0));
    assert!(t.missing[0].starts_with("firmware: "), "{:?}", t.missing);
}

#[test]
fn a_purgatory_that_stamped_nothing_is_one_span() {
    let bare = Record {
        jump: stamps().jump,
        hz: HZ,
        ..Record::default()
    };
    let t = Timeline::new(&bare, &handover(), Some(&main()));
    assert_eq!(names(&t)[10..], ["kexec", "between", "main"]);
    assert!(near(t.span("between").unwrap().took_us(), 145_000));
    assert!(
        t.missing.iter().any(|m| m.contains("wrote no stamps")),
        "{:?}",
        t.missing
    );
}

/// With segments the record is copied before the jump, and ends in the phase that lays them out.
#[test]
fn what_a_copied_record_could_not_say_is_no_phase_of_cato_s() {
    let mut copied = Handover {
        copied: 101_700_000,
        counter: Some(Anchor {
            at: 2_604_000,
            us: 2_104_250,
        }),
        ..handover()
    };
    copied.phases.retain(|phase| phase.name != "kexec");
    let t = Timeline::new(&Record { jump: 0, ..stamps() }, &copied, Some(&main()));
    assert_eq!(names(&t)[9..], ["layout", "hand-off", "check", "exit", "early", "main"]);
    assert!(near(t.span("layout").unwrap().took_us(), 3_250));
    let handed = t.span("hand-off").unwrap();
    assert!(
        near(handed.took_us(), 24_000) && handed.owner == Owner::Service,
        "{handed:?}"
    );
    assert_eq!(handed.note, "101.7 MB to copy and the purgatory");
    assert!(t.missing[0].starts_with("leave: "), "{:?}", t.missing);
    // Entered before the record's last word: that can't be, and no span begins before the one in front of it.
    let early = Record {
        jump: 0,
        entered: 2_603_000,
        ..stamps()
    };
    let t = Timeline::new(&early, &copied, Some(&main()));
    assert!(t.span("check").is_none() && t.spans.windows(2).all(|w| w[0].end_us <= w[1].start_us + 2));
    assert!(t.missing.iter().any(|m| m.contains("contradict")), "{:?}", t.missing);
}

#[test]
fn what_contradicts_itself_is_left_out_and_said() {
    let all = Timeline::new(&stamps(), &handover(), Some(&main()));
    let said = |stamps: Record, handover: Handover, main: Main, word: &str| {
        let t = Timeline::new(&stamps, &handover, Some(&main));
        assert!(t.missing.iter().any(|m| m.contains(word)), "{word}: {:?}", t.missing);
        assert!(t.spans.len() < all.spans.len());
        t
    };
    let s = stamps();
    said(Record { hz: 0, ..s }, handover(), main(), "frequency");
    // Another kernel an hour later.
    let hour = Main {
        counter: main().counter + 3_600 * HZ,
        ..main()
    };
    let t = said(s, handover(), hour, "an earlier boot");
    assert!(t.span("main").is_none() && t.span("early").is_none());
    said(
        s,
        Handover {
            counter: None,
            ..handover()
        },
        main(),
        "frequency",
    );
    for bad in [
        Record {
            entered: s.jump - 1,
            ..s
        },
        Record {
            checked: s.left + 1,
            ..s
        },
        Record { left: u64::MAX, ..s },
        Record { entered: 0, ..s },
    ] {
        let t = said(bad, handover(), main(), "contradict");
        assert_eq!(t.span("check"), None);
    }
    said(
        Record { jump: 1, ..s },
        Handover {
            phases: vec![],
            ..handover()
        },
        main(),
        "phases",
    );
    let t = said(
        s,
        handover(),
        Main {
            counter: 1000,
            ..main()
        },
        "counter was reset",
    );
    assert_eq!(t.spans.last().unwrap().name, "exit", "when `early` ended is not known");
    said(
        s,
        handover(),
        Main {
            uptime_us: 1_000_000_000,
            ..main()
        },
        "counter was reset",
    );
    said(
        s,
        handover(),
        Main {
            error_us: 500_000,
            ..main()
        },
        "sooner after boot",
    );
    let t = said(s, handover(), Main { pid1: None, ..main() }, "main: nothing says");
    assert_eq!(t.spans.last().unwrap().name, "early");
    let mut late = handover();
    late.phases[2].us = 5_000;
    assert!(said(s, late, main(), "select: began before").span("select").is_none());
}

#[test]
fn the_main_kernel_s_own_rate_counts_for_its_own_time() {
    // This kernel found that the counter is a part in ten thousand quicker.
    let uptime_us = 3_600_000_000;
    let main = Main {
        counter: stamps().left + 100_000 + 3_600_360_000,
        hz: Some(1_000_100),
        uptime_us,
        ..main()
    };
    let t = Timeline::new(&stamps(), &handover(), Some(&main));
    assert!(
        (t.span("early").unwrap().took_us() - 100_000).abs() < 100,
        "{:?}",
        t.span("early")
    );
}

#[test]
fn a_clock_that_began_at_once_is_not_before_its_kernel() {
    let main = Main {
        counter: stamps().left + 10_000_000,
        uptime_us: 10_000_400,
        ..main()
    };
    let t = Timeline::new(&stamps(), &handover(), Some(&main));
    assert!(near(t.span("early").unwrap().took_us(), 0));
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(u64::MAX), 0..10_000_000u64, any::<u64>()]
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(-1), 0..5_000_000_i64, any::<i64>()]
}

proptest! {
    #[test]
    fn whatever_is_in_the_record_spans_are_in_order(
        words in prop::array::uniform7(number()),
        anchor in prop::option::of((number(), time())),
        firmware_us in prop::option::of(time()),
        phases in prop::collection::vec((".{0,8}", time()), 0..80),
        main in prop::option::of((number(), prop::option::of(number()), time(), time(), prop::option::of(time()))),
    ) {
        let [jump, hz, entered, checked, left, bytes, flags] = words;
        let stamps = Record { jump, hz, entered, checked, left, bytes, flags, ..Record::default() };
        let handover = Handover {
            counter: anchor.map(|(at, us)| Anchor { at, us }),
            firmware_us,
            phases: phases.into_iter().map(|(name, us)| Phase { name, us }).collect(),
            ..Handover::default()
        };
        let main = main.map(|(counter, hz, uptime_us, error_us, pid1)| Main {
            counter, hz, uptime_us, error_us, pid1: pid1.map(|us| Pid1 { us, by: "x" }),
        });
        let t = Timeline::new(&stamps, &handover, main.as_ref());
        for span in &t.spans {
            prop_assert!(span.start_us >= 0 && span.took_us() >= 0, "{:?}", span);
        }
        prop_assert!(t.spans.windows(2).all(|w| w[0].end_us <= w[1].start_us + 1), "{:?}", t.spans);
    }
}
