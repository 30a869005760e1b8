//! What takes long says so at once, and every ten seconds that it goes on.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How often it is said.
const EVERY: Duration = Duration::from_secs(10);

/// Does `work`, which is `what`: such as `fetching a kernel`.
pub fn during<T>(what: &str, work: impl FnOnce() -> T) -> T {
    during_with(what, String::new, work)
}

/// The same, where more is known: `far` says how far it is.
pub fn during_with<T>(what: &str, far: impl Fn() -> String + Send, work: impl FnOnce() -> T) -> T {
    eprintln!("{what} ...");
    let say = move |so_far: Duration| {
        let far = Some(far()).filter(|far| !far.is_empty());
        let far = far.map(|far| format!(", {far}")).unwrap_or_default();
        eprintln!("  {what}: {} s so far{far}", so_far.as_secs());
    };
    every(EVERY, say, work)
}

fn every<T>(pause: Duration, say: impl Fn(Duration) + Send, work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    thread::scope(|scope| {
        // Dropped when the work is done, also by a panic.
        let (_working, is_over) = channel::<()>();
        scope.spawn(move || {
            while is_over.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                say(begin.elapsed());
            }
        });
        work()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_until_the_work_is_done() {
        let (tell, told) = channel();
        let say = move |so_far: Duration| tell.send(so_far).unwrap();
        let first = every(Duration::from_millis(1), say, || told.recv().unwrap());
        assert!(first >= Duration::from_millis(1));
        // The thread that says it is gone: so is its end of the channel.
        assert!(told.iter().count() < 10_000);
        every(Duration::from_mins(5), |_| panic!("too early"), || ());
    }
}
