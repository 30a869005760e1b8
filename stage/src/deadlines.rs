//! Every time limit of the stage, with its reason. Their dependencies are asserted below, so that one can't be changed
//! without a look at the others.

use std::time::Duration;

use crate::step::Step;

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

// PID 1: no wait of its own blocks it.

/// How long an opened watchdog waits for PID 1. Longer than what PID 1 does without a look at the clock, and than what a
/// disk's interrupt storm may keep it from running.
pub(crate) const HEARTBEAT: Duration = seconds(60);
/// Longest sleep of PID 1, and how often it feeds watchdogs: the shortest that hardware has are a few seconds.
pub(crate) const TICK: Duration = seconds(1);
/// How long a serial line gets to send why the machine is reset: 5 KiB at 115200 baud.
pub(crate) const LAST_WORDS: Duration = millis(500);
/// The same before a jump, which is not to wait for long, and with a quiet service kernel not at all.
pub(crate) const JUMP_WORDS: Duration = millis(100);
/// Between two looks at whether the last character has left: there is no event for it.
pub(crate) const SENT_LOOK: Duration = millis(1);
/// A console that hung up is readable for ever: this keeps PID 1 from spinning on it.
pub(crate) const HUNG_UP: Duration = millis(100);
/// At the prompt without a valid config to say how long: then the machine is reset.
pub(crate) const RETRY_WITHOUT_CONFIG: Duration = seconds(60);

/// Between a load that failed and the second try: some machines take only that one.
pub(crate) const LOAD_AGAIN: Duration = seconds(2);
/// The prompt's timer doubles up to this, unless `boot.toml` has a longer one.
pub(crate) const LONGEST_RETRY: Duration = seconds(15 * 60);

// PID 1's children.

/// Between `SIGKILL` and giving up on a child: one that is not gone by then is stuck in the kernel.
pub(crate) const KILL: Duration = seconds(2);
/// For reading a page or a byte in which the purgatory left a reason.
pub(crate) const REASON: Duration = seconds(2);
/// For looking at the machine, for somebody at the menu.
pub(crate) const SUMMARY: Duration = seconds(5);
/// For all of an entry but the hand-off, for somebody who wants to see what it comes to.
pub(crate) const PLAN: Duration = seconds(120);
/// For all disks to answer to somebody who wants to see them, or for another state where one is blank.
pub(crate) const LISTING: Duration = seconds(3);
/// For what is on one of them.
pub(crate) const FILES: Duration = seconds(40);
/// For files over a serial line, between two signs of life: the child gives up before.
pub(crate) const TRANSFER: Duration = seconds(150);
/// For all of them: 80 MB at 115200 baud.
pub(crate) const TRANSFERS: Duration = seconds(2 * 3600);
/// For somebody in a shell, who may have gone.
pub(crate) const SHELL: Duration = seconds(3600);
/// For a password to be checked, on a slow CPU with a costly hash.
pub(crate) const PASSWORD: Duration = seconds(30);
/// Before the next one is taken after a wrong one; doubles up to [`LONGEST_DENIAL`].
pub(crate) const DENIAL: Duration = seconds(1);
pub(crate) const LONGEST_DENIAL: Duration = seconds(60);
/// For somebody to type the password, before the boot that they stopped goes on.
pub(crate) const LOGIN: Duration = seconds(60);
/// For dropping a loaded image: the kernel frees up to half of the memory.
pub(crate) const UNLOAD: Duration = seconds(10);
/// For `reboot(2)` to leave: drivers shut their devices down.
pub(crate) const REBOOT: Duration = seconds(10);
/// For loading a watchdog's driver.
pub(crate) const WATCHDOG: Duration = seconds(10);
/// For the driver of the records that earlier kernels left in memory, which looks for them by itself.
pub(crate) const PSTORE: Duration = seconds(2);
/// Between two looks at whether it has.
pub(crate) const PSTORE_LOOK: Duration = millis(2);
/// For finding the state and reading it, as long as a source may take.
pub(crate) const STATE: Duration = seconds(40);
/// For writing the state, or what a kernel said as it died.
pub(crate) const ACCOUNT: Duration = seconds(10);
/// For another command that changes the state to be done with it.
pub(crate) const LOCK: Duration = seconds(5);
/// Between two tries of a main system to note that its trial is over.
pub(crate) const JUDGE_AGAIN: Duration = seconds(10);
/// Between two looks at whether it is.
pub(crate) const LOCK_LOOK: Duration = millis(20);
/// For `kexec_load` where the kernel copies the payload. One that looked for pages in the kernel's list of them was measured at
/// 97 s; in place it is 160 ms.
pub(crate) const COPY: Duration = seconds(300);
/// For all of one entry, whatever its progress.
pub(crate) const ENTRY: Duration = seconds(660);
/// For all entries that are tried one after the other. Those that are left then have a chance all the same: what is slow may be the
/// disk of those before them.
pub(crate) const STAGE: Duration = seconds(2 * 660);
pub(crate) const ENTRY_AT_LEAST: Duration = seconds(330);

/// What is left for one entry, when the first of them was begun so long ago.
pub(crate) fn entry(begun: Duration) -> Duration {
    STAGE.saturating_sub(begun).clamp(ENTRY_AT_LEAST, ENTRY)
}

/// For a step; [`Step::Load`]'s and [`Step::Probe`]'s start again at each sign of life.
pub(crate) const fn step(step: Step) -> Duration {
    match step {
        Step::Select | Step::Verify | Step::Jump => seconds(10),
        // The kernel may have to make room for huge pages, and clears each of them.
        Step::Probe | Step::Reserve | Step::Kexec => seconds(30),
        Step::Budget | Step::Load => seconds(15),
        // Work of the CPU alone: what it has to know of a payload is counted while that is read.
        Step::LayOut => seconds(60),
        // Four writes of 4 KiB, on a card that may be tidying up.
        Step::Account => ACCOUNT,
        Step::Quiesce => seconds(40),
        Step::Loaded => seconds(5),
    }
}

// The worker: how long it waits for what may never come.

/// For a source to appear, besides what is lost on devices that never answer.
pub(crate) const DEVICE_WAIT: Duration = seconds(10);
/// For one device to be bound before the next one gets its turn. It may still finish later.
pub(crate) const BIND_SHARE: Duration = seconds(3);
/// The same when so many were late that there is likely something wrong with what they all hang on.
pub(crate) const SHORT_SHARE: Duration = seconds(1);
/// For one disk to be read before the search goes on without it. It is read again if it answers later.
pub(crate) const READ_SHARE: Duration = seconds(2);
/// By how much devices that are late may move the deadline, all together: what they take is not taken from the others.
/// Each of them is said, and that is a sign of life to PID 1.
pub(crate) const LATE_SHARE: Duration = seconds(20);
/// Events can get lost; nobody waits longer than this without a look.
pub(crate) const SAFETY_LOOK: Duration = seconds(1);
/// For a driver to let go of a device, and for all of them.
pub(crate) const UNBIND: Duration = seconds(2);
pub(crate) const UNBIND_ALL: Duration = seconds(30);
/// For detaching what an earlier worker left mounted. It is out of the way at once; what may take for ever is the kernel
/// waiting for the last reads of a disk that died.
pub(crate) const DETACH: Duration = seconds(1);
/// For a device that another file system or mapping has: after an unmount, the kernel gives it back a little later.
pub(crate) const BUSY: Duration = seconds(2);
/// Between two looks at whether it is free: there is no event for it.
pub(crate) const BUSY_LOOK: Duration = millis(50);
/// For the kernel to make huge pages: after this it is quicker to let it copy the payload.
pub(crate) const HUGE_PAGES: Duration = seconds(3);
/// Between two signs of life while the payload is read.
pub(crate) const PROGRESS: Duration = millis(250);

const _: () = {
    // Between two lines of a search goes no more than the wait and one device's share: PID 1 does not give up first.
    assert!(DEVICE_WAIT.as_millis() * 2 < step(Step::Probe).as_millis());
    assert!(DEVICE_WAIT.as_millis() + LATE_SHARE.as_millis() < STATE.as_millis());
    assert!(DEVICE_WAIT.as_millis() + BIND_SHARE.as_millis() + DETACH.as_millis() < step(Step::Probe).as_millis());
    assert!(DEVICE_WAIT.as_millis() + LATE_SHARE.as_millis() < FILES.as_millis());
    // Several devices get their turn within the wait, and one that is late has to be known as such within it.
    assert!(BIND_SHARE.as_millis() * 3 < DEVICE_WAIT.as_millis());
    assert!(READ_SHARE.as_millis() * 3 < DEVICE_WAIT.as_millis());
    assert!(SHORT_SHARE.as_millis() < BIND_SHARE.as_millis());
    assert!(SHORT_SHARE.as_millis() < READ_SHARE.as_millis());
    assert!(SAFETY_LOOK.as_millis() <= SHORT_SHARE.as_millis());
    assert!(BUSY.as_millis() * 3 < step(Step::Probe).as_millis() && BUSY_LOOK.as_millis() < BUSY.as_millis());
    assert!(HUGE_PAGES.as_millis() * 2 < step(Step::Reserve).as_millis());
    assert!(PROGRESS.as_millis() * 10 < step(Step::Load).as_millis());
    // A device that is late does not cost the entry.
    assert!(LATE_SHARE.as_millis() + step(Step::Probe).as_millis() < ENTRY.as_millis());
    // An entry whose every step takes all of its time is still ended by the step.
    let (mut sum, mut left) = (0, Step::ALL.as_slice());
    while let [first, others @ ..] = left {
        sum += step(*first).as_millis();
        left = others;
    }
    assert!(sum + COPY.as_millis() + LATE_SHARE.as_millis() < ENTRY.as_millis());
    // In the time that is left, a payload can be copied.
    assert!(COPY.as_millis() < ENTRY_AT_LEAST.as_millis() && ENTRY_AT_LEAST.as_millis() < ENTRY.as_millis());
    assert!(BIND_SHARE.as_millis() * 3 < WATCHDOG.as_millis());
    assert!((UNBIND_ALL.as_millis() + UNBIND.as_millis()) < step(Step::Quiesce).as_millis());
    assert!(TICK.as_millis() * 10 < HEARTBEAT.as_millis());
    // PID 1 is never away for longer than it feeds watchdogs.
    assert!(LAST_WORDS.as_millis() < TICK.as_millis());
    assert!(JUMP_WORDS.as_millis() + HUNG_UP.as_millis() < TICK.as_millis());
    assert!(TICK.as_millis() <= KILL.as_millis());
};
