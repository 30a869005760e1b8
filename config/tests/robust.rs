//! No input makes the parser panic, and whatever it complains about can be drawn.

use config::DiagnosticKind;
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../boot.toml");

/// Reads `bytes`; where there are problems, checks that each has a place in the text and can be drawn.
fn survives(bytes: &[u8]) {
    let config::Reading {
        config,
        diagnostics: problems,
        text,
    } = config::read(bytes);
    assert_eq!(config.is_none(), problems.iter().any(|p| !p.is_warning()));
    let mut last = 0;
    for problem in &problems {
        let span = &problem.span;
        assert!(
            text.get(span.clone()).is_some(),
            "{span:?} of {} bytes: {problem}",
            text.len()
        );
        assert!(span.start >= last, "not sorted: {problem}");
        last = span.start;
        assert!(
            !problem.message.is_empty() && !problem.message.contains(char::is_control),
            "{problem:?}"
        );
    }
    let drawn = config::render("boot.toml", &text, &problems);
    let acts = |c: char| (c.is_control() && c != '\n') || ('\u{2028}'..='\u{202e}').contains(&c) || c == '\u{feff}';
    assert!(!drawn.contains(acts), "{drawn:?}");
    assert!(drawn.len() / 3000 <= problems.len(), "{} bytes", drawn.len());
    for problem in problems.iter().take(10) {
        let (line, column) = config::line_column(&text, problem.span.start);
        let place = format!(" boot.toml:{line}:{column}\n");
        assert!(drawn.contains(&place), "no {place:?} in\n{drawn}");
    }
}

#[test]
fn the_example_is_good_and_any_part_of_it_is_survived() {
    assert!(config::parse(EXAMPLE).is_ok());
    for end in 0..EXAMPLE.len() {
        survives(EXAMPLE.as_bytes().get(..end).unwrap());
    }
    for start in 0..EXAMPLE.len() {
        survives(EXAMPLE.as_bytes().get(start..).unwrap());
    }
}

#[test]
fn every_byte_of_the_example_may_flip() {
    let mut bytes = EXAMPLE.as_bytes().to_vec();
    for at in 0..bytes.len() {
        for flipped in [b'\0', b'\n', b'"', b'[', b'{', b'=', b'.', b'\\', 0x80, 0xff] {
            let was = std::mem::replace(&mut bytes[at], flipped);
            survives(&bytes);
            bytes[at] = was;
        }
    }
}

#[test]
fn large_and_deep_inputs_end_soon() {
    let size = config::MAX_BYTES;
    for unit in [
        "[",
        "{",
        "a.",
        "\"",
        "=\n",
        "[[a]]\n",
        "[a.b]\n",
        "a={b=",
        "x\n",
        "'''",
        "\\u",
        "\u{feff}",
        "\u{202e}",
        "é",
        "order=[\"a\"]\n",
        ",",
        "\t",
        "\0",
    ] {
        survives(unit.repeat(size / unit.len()).as_bytes());
        survives(format!("order = [{}", unit.repeat(size / unit.len() - 20)).as_bytes());
        survives(format!("version = \"{}", unit.repeat(size / unit.len() - 20)).as_bytes());
    }
    let many = (0..size / 8)
        .map(|n| format!("\"{n:04x}\","))
        .collect::<Vec<_>>()
        .concat();
    survives(format!("order = [{}]", many.get(..size - 40).unwrap_or(&many)).as_bytes());
    let keys = (0..size / 16)
        .map(|n| format!("key{n:08}=1\n"))
        .collect::<Vec<_>>()
        .concat();
    survives(keys.get(..size).unwrap_or(&keys).as_bytes());
}

#[test]
fn no_more_than_a_hundred_errors_are_listed_and_as_many_warnings() {
    let errors = |count: usize| {
        (0..count)
            .map(|n| format!("k{n:03} = 1\n"))
            .collect::<Vec<_>>()
            .concat()
    };
    let all = config::parse(&format!("{EXAMPLE}{}", errors(100))).unwrap_err();
    assert!(all.len() == 100 && all.iter().all(|p| p.kind == DiagnosticKind::UnknownKey));
    let all = config::parse(&format!("{EXAMPLE}{}", errors(1000))).unwrap_err();
    assert!(all.len() == 101 && all[99].message.contains("k099"), "{}", all[99]);
    assert_eq!(all[100].message, "only the first 100 errors are listed");

    let dashes = EXAMPLE.replace("rescue console", &"\u{2013}".repeat(101));
    let reading = config::read(dashes.as_bytes());
    assert!(reading.config.is_some() && reading.diagnostics.iter().all(config::Diagnostic::is_warning));
    assert_eq!(reading.diagnostics.len(), 101);
    assert_eq!(
        reading.diagnostics[100].message,
        "only the first 100 warnings are listed"
    );

    let flood = config::parse(&"=\n".repeat(1000)).unwrap_err();
    let last = flood.last().unwrap();
    assert!(
        last.message.starts_with("only the first ") && flood.len() <= 101,
        "{last}"
    );
}

/// A quadratic path takes minutes here; the bound is generous, for a slow and busy host.
#[test]
fn no_file_costs_more_than_its_length() {
    let list = |before: &str, unit: &str, after: &str| {
        let room = config::MAX_BYTES - before.len() - after.len();
        format!("{before}{}{after}", unit.repeat(room / unit.len()))
    };
    let numbered = |unit: &str| {
        let all: String = (0..60_000).map(|n| unit.replace('#', &n.to_string())).collect();
        all.get(..config::MAX_BYTES).unwrap_or(&all).to_owned()
    };
    let name = "a".repeat(config::MAX_BYTES / 2);
    for text in [
        list("order=[", "1,", "]"),
        list("order=[", "\"\",", "]"),
        list("order=[", "\"\",", ""),
        list("order=[", "a=1 b=2 ", ""),
        list("[entry.a]\ninitrd=[", "1,", "]"),
        list("[entry.a]\ncmdline='", "\u{2013}", "'"),
        list("[entry.a]\ncmdline=\"", "\u{e0} ' ", "\""),
        list("version=\"\"\"", "\r", ""),
        list("version=\"", "\\u", ""),
        list("version=\"", "a", "\"\n[a]\n[a]\n[a]\n"),
        list(&format!("[{name}]\n"), "[a]\n", ""),
        list(&format!("[{name}]\n"), "a=1\n", ""),
        numbered("k#=1\n"),
        numbered("[entry.e#]\ncheck=\"sha25\"\n"),
        numbered("entry.e#.source=\"PARTLABL=x\"\n"),
        list("", "a\r", ""),
        list("", "\r", ""),
        list("", "=\n", ""),
        list("", "x=[1,\n", ""),
        list("", "kernel=1\n", ""),
        list("", "[entry.a]\nx=1\n", ""),
        list("", "a.", ""),
        list("", "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a=1\n", ""),
        list("", "\n\u{feff}", ""),
    ] {
        let began = std::time::Instant::now();
        survives(text.as_bytes());
        let took = began.elapsed();
        assert!(took < std::time::Duration::from_secs(10), "{took:?}: {text:.40}");
    }
}

#[test]
fn a_file_of_256_kib_is_read_and_one_byte_more_is_refused() {
    let padded = format!("{EXAMPLE}#{}", " ".repeat(config::MAX_BYTES - EXAMPLE.len() - 1));
    assert!(config::parse(&padded).is_ok());
    let longer = padded + " ";
    assert_eq!(config::parse(&longer).unwrap_err()[0].kind, DiagnosticKind::Size);
    let not_text = [longer.as_bytes(), b"\xff"].concat();
    assert_eq!(config::read(&not_text).diagnostics[0].kind, DiagnosticKind::Size);
}

/// A change to a file: bytes cut out at a place and others put in.
fn edits() -> impl Strategy<Value = Vec<(usize, usize, Vec<u8>)>> {
    let pieces = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..4),
        prop::sample::select(vec![
            "\"",
            "'",
            "\"\"\"",
            "'''",
            "[",
            "]",
            "[[",
            "]]",
            "{",
            "}",
            "=",
            ",",
            ".",
            "\n",
            "\r\n",
            "\r",
            "#",
            "\\",
            "\\u",
            "0x",
            "1e9",
            "inf",
            "1979-05-27",
            "true",
            "[entry.a]\n",
            "kernel",
            "entry.a.kernel = 1\n",
            "é",
            "\u{1f600}",
            "\u{feff}",
            "\t",
            "\0",
        ])
        .prop_map(|s| s.as_bytes().to_vec()),
    ];
    prop::collection::vec((0..EXAMPLE.len(), 0_usize..20, pieces), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        survives(&bytes);
    }

    #[test]
    fn any_text(text in "(?s).{0,200}") {
        survives(text.as_bytes());
    }

    #[test]
    fn toml_like_text(text in r#"([a-z]{1,3}|[\[\]{}=,."'#\n\r\t\\ -]|[0-9]|entry|version|order|\u{FEFF}|é){0,80}"#) {
        survives(text.as_bytes());
    }

    #[test]
    fn a_changed_example(edits in edits()) {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        for (at, cut, put) in edits {
            let at = at.min(bytes.len());
            let end = at.saturating_add(cut).min(bytes.len());
            bytes.splice(at..end, put);
        }
        survives(&bytes);
    }
}
