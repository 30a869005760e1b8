use std::ffi::OsStr;

use super::*;

fn words(text: &str) -> Vec<&OsStr> {
    text.split_whitespace().map(OsStr::new).collect()
}

fn slot(name: &str) -> SlotName {
    name.parse().unwrap()
}

#[test]
fn commands_are_read() {
    let of = |text: &'static str| Command::of(&words(text)).unwrap();
    assert_eq!(of("mark-good"), Command::MarkGood { slot: None, on: None });
    assert_eq!(of("trial"), Command::Trial);
    assert_eq!(
        of("set-next --once B image"),
        Command::Change {
            slot: slot("B"),
            change: Change::Once,
            on: Some(Path::new("image")),
        }
    );
    assert_eq!(
        of("state init image A --force"),
        Command::Init {
            place: Path::new("image"),
            good: vec![slot("A")],
            force: true,
        }
    );
    assert_eq!(
        of("rauc set-state A bad"),
        Command::Rauc(Request::SetState(slot("A"), false))
    );
    for wrong in [
        "state",
        "state init",
        "state show a b",
        "mark-bad",
        "set-next",
        "set-next A b c",
        "mark-good a/b",
        "status extra",
        "rauc",
        "rauc set-state A maybe",
        "rauc get-state",
        "mark-good --once",
        "state init x --json",
        "state init x A A",
        "state init x A B C D E",
    ] {
        assert!(Command::of(&words(wrong)).is_err(), "{wrong}");
    }
}

/// What a factory and an updater do, on an image.
#[test]
fn an_image_is_made_changed_and_shown() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(1 << 20).unwrap();
    let place = image.path().to_str().unwrap();
    let run = |text: String| run(&Command::of(&words(&text)).unwrap());
    assert!(matches!(
        run(format!("state show {place}")),
        Err(SlotsError::Load { .. })
    ));
    run(format!("state init {place} A B")).unwrap();
    assert!(matches!(
        run(format!("state init {place}")),
        Err(SlotsError::Exists { .. })
    ));
    run(format!("mark-bad B {place}")).unwrap();
    let shown = run(format!("state show {place}")).unwrap();
    assert!(
        shown.starts_with("slot A: good\nslot B: bad: marked as bad\n"),
        "{shown}"
    );
    assert!(matches!(
        run(format!("set-next B {place} --once")),
        Err(SlotsError::Refused { why: Refusal::Bad, .. })
    ));
    assert!(matches!(
        run(format!("mark-bad C {place}")),
        Err(SlotsError::Refused {
            why: Refusal::Unknown,
            ..
        })
    ));
    run(format!("set-next B {place}")).unwrap();
    run(format!("set-next A {place} --once")).unwrap();
    let json = run(format!("state show --json {place}")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["slots"][0]["name"], "B");
    assert_eq!(value["slots"][0]["condition"], "untested");
    assert_eq!(value["once"], "A");
    assert_eq!(value["events"].as_array().unwrap().len(), 3);
    assert_eq!(value["damage"], serde_json::Value::Null);
    // One copy goes bad.
    std::os::unix::fs::FileExt::write_all_at(image.as_file(), b"x", 600).unwrap();
    let json = run(format!("state show --json {place}")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["damage"], "checksum mismatch");
    run(format!("state init {place} --force")).unwrap();
    let json = run(format!("state show --json {place}")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["primary"], serde_json::Value::Null);
}

/// Nothing would ever be booted again by itself.
#[test]
fn the_last_slot_is_marked_bad_by_force_only() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(8192).unwrap();
    let place = image.path().to_str().unwrap();
    let run = |text: String| run(&Command::of(&words(&text)).unwrap());
    run(format!("state init {place} A B")).unwrap();
    run(format!("mark-bad B {place}")).unwrap();
    assert!(matches!(
        run(format!("mark-bad A {place}")),
        Err(SlotsError::Refused { why: Refusal::Last, .. })
    ));
    // What is bad may be said to be so again.
    run(format!("mark-bad B {place}")).unwrap();
    run(format!("mark-bad --force A {place}")).unwrap();
    assert!(run(format!("state show {place}")).unwrap().starts_with("slot A: bad"));
}

/// Whatever is there is somebody's. A new state is newer than any before.
#[test]
fn only_force_makes_a_state_of_what_is_not_empty() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(1 << 20).unwrap();
    let place = image.path().to_str().unwrap();
    let run = |text: String| run(&Command::of(&words(&text)).unwrap());
    std::os::unix::fs::FileExt::write_all_at(image.as_file(), b"a file system", 1024).unwrap();
    let refused = run(format!("state init {place} A")).unwrap_err();
    assert!(matches!(refused, SlotsError::Foreign { .. }), "{refused}");
    // Where btrfs begins, behind the first copy; and where last words are.
    for at in [1 << 16, 1 << 18] {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(1 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(image.as_file(), b"_BHRfS_M", at).unwrap();
        let refused = run(format!("state init {} A", image.path().display())).unwrap_err();
        assert!(matches!(refused, SlotsError::NotEmpty { .. }), "{refused}");
    }
    run(format!("state init {place} A --force")).unwrap();
    for _ in 0..3 {
        run(format!("set-next A {place}")).unwrap();
    }
    let old = std::fs::read(place).unwrap();
    run(format!("state init {place} B --force")).unwrap();
    // The second copy is what it was before.
    std::os::unix::fs::FileExt::write_all_at(image.as_file(), &old[1 << 19..][..4096], 1 << 19).unwrap();
    assert!(run(format!("state show {place}")).unwrap().starts_with("slot B: good"));
}

/// Somebody else holds it, then lets go.
#[test]
fn one_command_at_a_time() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(8192).unwrap();
    let place = image.path().to_str().unwrap();
    let made = |text: String| run(&Command::of(&words(&text)).unwrap());
    made(format!("state init {place} A")).unwrap();
    let held = open(image.path(), true).unwrap();
    held.lock().unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| made(format!("set-next A {place}")));
        thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished());
        drop(held);
        waiting.join().unwrap().unwrap();
    });
    let _held = {
        let held = open(image.path(), true).unwrap();
        held.lock().unwrap();
        held
    };
    assert!(matches!(
        made(format!("set-next A {place}")),
        Err(SlotsError::Locked { .. })
    ));
}
