//! No input makes the parser panic, and whatever it complains about can be drawn.

use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../boot.toml");

/// Reads `bytes`; where there are problems, checks that each has a place in the text and can be drawn.
fn survives(bytes: &[u8]) {
    let Err(problems) = config::parse_bytes(bytes) else {
        return;
    };
    let text = String::from_utf8_lossy(bytes);
    assert!(!problems.is_empty());
    let mut last = 0;
    for problem in &problems {
        let span = &problem.span;
        assert!(
            text.get(span.clone()).is_some(),
            "{span:?} of {} bytes: {problem}",
            text.len()
        );
        assert!(
            span.start >= last || problem.kind == config::Kind::TooMany,
            "not sorted: {problem}"
        );
        last = span.start;
        assert!(
            !problem.message.is_empty() && !problem.message.contains(char::is_control),
            "{problem:?}"
        );
    }
    let drawn = config::render("boot.toml", &text, &problems);
    for problem in &problems {
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
fn a_file_of_256_kib_is_read_and_one_byte_more_is_refused() {
    let padded = format!("{EXAMPLE}#{}", " ".repeat(config::MAX_BYTES - EXAMPLE.len() - 1));
    assert!(config::parse(&padded).is_ok());
    let longer = padded + " ";
    assert_eq!(config::parse(&longer).unwrap_err()[0].kind, config::Kind::Size);
    let not_text = [longer.as_bytes(), b"\xff"].concat();
    assert_eq!(config::parse_bytes(&not_text).unwrap_err()[0].kind, config::Kind::Size);
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
