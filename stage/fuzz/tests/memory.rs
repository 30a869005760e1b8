//! LM-2: each allocation of what reads an input fails, one at a time.
//!
//! Each try is a process of its own. It may end as without the failure, or with an error of its type, or in the abort of an
//! allocation that nothing can be put in place of (`memory allocation of N bytes failed`); not in a panic, by another signal or exit, and
//! not after its time. In the field such an abort ends a worker, and the next entry is tried; in PID 1 the kernel panics, and `panic=`
//! resets the machine.
#![expect(unsafe_code, reason = "a process that ends where it is")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "test helpers, and figures that are to be published"
)]

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::panic::{catch_unwind, set_hook};
use std::time::Duration;

use fuzz::Target;
use nix::libc::_exit;
use nix::sys::prctl;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, alarm, dup2_stderr, fork};

/// The first allocations of an input that all fail; of those behind them, at `n` one of `n / ALL + 1` does.
const ALL: usize = 300;
/// Seconds that a try may take, far more than any needs.
const MOST: u32 = 20;

/// Unpackers that panic where others abort, and what they say: in Cato, which unwinds nothing, that is an abort, too, and of a worker.
const UNPACKERS: [(&str, &str); 2] = [
    ("/ruzstd-", "\nAllocating new space for the ringbuffer failed\n"),
    ("/zlib-rs-", "\n  left: MemError\n right: Ok\n"),
];

/// Exit codes of a try.
const NOT_REACHED: i32 = 10;
const DONE: i32 = 11;
const PANICKED: i32 = 101;

/// How a try ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// It has fewer allocations.
    NotReached,
    /// With an answer.
    Done,
    /// In the abort that is allowed.
    Aborted,
    /// In that of an unpacker.
    Unpacker,
    /// What must not be, with what it said.
    Panicked(String),
    Hung(String),
    Other(WaitStatus, String),
}

/// Runs `target` on `input` in a process of its own, without its `nth` allocation; what that says is in `said`.
fn attempt(target: &Target, input: &[u8], nth: usize, seconds: u32, said: &mut File) -> End {
    said.set_len(0).unwrap();
    said.rewind().unwrap();
    // SAFETY: the only other thread is the harness's, which waits for this one, and the C library keeps its own locks whole.
    let child = match unsafe { fork() }.unwrap() {
        ForkResult::Child => run(target, input, nth, seconds, said),
        ForkResult::Parent { child } => child,
    };
    let status = waitpid(child, None).unwrap();
    let mut text = String::new();
    said.rewind().unwrap();
    said.read_to_string(&mut text).unwrap();
    match status {
        WaitStatus::Exited(_, NOT_REACHED) => End::NotReached,
        WaitStatus::Exited(_, DONE) => End::Done,
        WaitStatus::Exited(_, PANICKED) if is_of_unpacker(&text) => End::Unpacker,
        WaitStatus::Exited(_, PANICKED) => End::Panicked(text),
        WaitStatus::Signaled(_, Signal::SIGABRT, _) if is_of_memory(&text) => End::Aborted,
        WaitStatus::Signaled(_, Signal::SIGALRM, _) => End::Hung(text),
        status => End::Other(status, text),
    }
}

/// Whether that is all it said, but for how to get a backtrace.
fn is_of_memory(said: &str) -> bool {
    let (line, note) = said.split_once('\n').unwrap_or_default();
    let number = line.strip_prefix("memory allocation of ");
    let number = number.and_then(|rest| rest.strip_suffix(" bytes failed"));
    number.is_some_and(|number| number.parse::<usize>().is_ok()) && note.lines().all(|line| line.starts_with("note: "))
}

fn is_of_unpacker(said: &str) -> bool {
    let mut known = UNPACKERS.iter();
    known.any(|(path, words)| said.starts_with("panicked at ") && said.contains(path) && said.ends_with(words))
}

fn run(target: &Target, input: &[u8], nth: usize, seconds: u32, said: &File) -> ! {
    // No core files.
    prctl::set_dumpable(false).unwrap();
    dup2_stderr(said).unwrap();
    alarm::set(seconds);
    // SAFETY: no other thread has come along.
    unsafe { std::env::set_var("RUST_BACKTRACE", "0") };
    // The harness would keep it to itself.
    set_hook(Box::new(|panic| {
        let _ = writeln!(std::io::stderr(), "{panic}");
    }));
    let code = match catch_unwind(|| fuzz::run_without(target, input, nth)) {
        Ok(false) => NOT_REACHED,
        Ok(true) => DONE,
        Err(_) => PANICKED,
    };
    // SAFETY: nothing of the harness's is to be done twice.
    unsafe { _exit(code) }
}

/// Each way to be wrong is told.
fn check_that_what_is_wrong_is_found(said: &mut File) {
    fn is_refused() -> bool {
        Vec::<u8>::new().try_reserve_exact(64).is_err()
    }
    fn die(signal: Signal) {
        assert!(is_refused() && raise(signal).is_ok());
    }
    let mut end = |run| attempt(&Target::new("wrong", run), b"", 1, 2, said);
    let unwraps = end(|_| Vec::<u8>::new().try_reserve_exact(64).unwrap());
    assert!(
        matches!(&unwraps, End::Panicked(said) if said.contains("unwrap")),
        "{unwraps:?}"
    );
    let hangs = end(|_| {
        if is_refused() {
            loop {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    });
    assert!(matches!(hangs, End::Hung(_)), "{hangs:?}");
    for (signal, run) in [
        (Signal::SIGTERM, (|_| die(Signal::SIGTERM)) as fn(&[u8])),
        (Signal::SIGABRT, |_| die(Signal::SIGABRT)),
    ] {
        let dies = end(run);
        assert!(
            matches!(dies, End::Other(WaitStatus::Signaled(_, of, _), _) if of == signal),
            "{dies:?}"
        );
    }
    assert_eq!(end(|_| drop(vec![0_u8; 64])), End::Aborted);
    assert_eq!(end(|_| assert!(is_refused())), End::Done);
    assert_eq!(end(|_| ()), End::NotReached);
}

/// One test, and no other in this program: a process is only forked where no other thread works.
#[test]
fn an_allocation_that_fails_is_an_error_or_the_end_and_no_panic() {
    let mut said = tempfile::tempfile().unwrap();
    check_that_what_is_wrong_is_found(&mut said);
    let (mut inputs, mut aborted, mut unpackers, mut done) = (0, 0, 0, 0);
    for target in fuzz::targets() {
        for entry in fs::read_dir(fuzz::corpus(target)).unwrap() {
            let path = entry.unwrap().path();
            let input = fs::read(&path).unwrap();
            inputs += 1;
            let mut nth = 1;
            loop {
                match attempt(target, &input, nth, MOST, &mut said) {
                    End::NotReached => break,
                    End::Done => done += 1,
                    End::Aborted => aborted += 1,
                    End::Unpacker => unpackers += 1,
                    wrong => panic!("{}, allocation {nth}: {wrong:?}", path.display()),
                }
                nth += 1 + nth / ALL;
            }
        }
    }
    let failures = aborted + unpackers + done;
    println!(
        "{failures} of {failures} failed allocations in {inputs} inputs: {done} ended in an answer, {aborted} in the allowed abort, {unpackers} in that of an unpacker"
    );
}
