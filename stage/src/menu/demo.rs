//! A machine that is made up: what the menu shows without one, for people who design with it, and for its tests.

use crate::cause::Cause;
use crate::state::{Because, Condition, Failing, Reset, Slot};
use crate::step::Step;

use super::view::{EntryView, Told, View, Wait};
use super::{Command, Millis, Topic, Use};

/// A machine with two slots and a rescue system.
#[derive(Debug, Clone)]
pub(crate) struct Demo {
    pub view: View,
}

/// What comes of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Came {
    /// A line for the log.
    Said(String),
    /// A text that was asked for.
    Text(Vec<Told>),
    /// The password is right.
    Admitted,
    /// The demonstration is over.
    Over(String),
}

fn slot(name: &str, condition: Condition, tries: u8, failure: Option<Failing>) -> Option<Slot> {
    Some(Slot {
        name: name.parse().ok()?,
        condition,
        tries,
        strikes: 0,
        failure,
    })
}

fn entry(name: &str, title: &str, slot: Option<Slot>) -> EntryView {
    EntryView {
        name: name.to_owned(),
        title: title.to_owned(),
        cmdline: format!("root=PARTLABEL=root-{name} ro console=ttyAMA0,115200"),
        source: format!("PARTLABEL=boot-{name}"),
        kernel: "Image".to_owned(),
        slot: slot.as_ref().map(|slot| slot.name.to_string()),
        condition: slot,
        failure: None,
        is_next: false,
    }
}

fn text(rows: &[&str]) -> Came {
    Came::Text(rows.iter().map(|row| (*row).to_owned().into()).collect())
}

fn leads(text: &str, to: &str) -> Told {
    Told {
        text: text.to_owned(),
        leads: Some(to.to_owned()),
    }
}

impl Demo {
    /// In which somebody has stopped the boot, or in which everything `failed`.
    pub(crate) fn new(failed: bool, now: Millis) -> Self {
        let hung = Failing::NotMarked(Reset::Watchdog);
        let a = slot("A", Condition::Good, 0, None);
        let b = slot("B", Condition::Bad(Because::Unproven), 0, Some(hung));
        let mut entries = vec![
            entry("a", "appliance 2.4.1", a),
            entry("b", "appliance 2.5.0", b),
            entry("rescue", "rescue system in the flash", None),
        ];
        let (mut why, mut wait) = ("Stopped at the console", 300_000);
        if failed {
            (why, wait) = ("Nothing could be booted", 60_000);
            let failures = [
                "kernel: sha256 mismatch (want 3fa9.., got 77c0..)",
                "source PARTLABEL=boot-b: not found within 10.0 s; seen: vda1 (vfat PARTLABEL=boot-a)",
                "step load did not end within 15 s",
            ];
            for (entry, failure) in entries.iter_mut().zip(failures) {
                entry.failure = Some(failure.to_owned());
            }
            if let Some(slot) = entries.first_mut().and_then(|entry| entry.condition.as_mut()) {
                slot.failure = Some(Failing::Stage(Step::Verify, Cause::Verification));
            }
        }
        if let Some(first) = entries.first_mut() {
            first.is_next = true;
        }
        let history = [
            "boot 41, 2310 ms, kernel 6.12: slot B entry \"b\" booted",
            "boot 42, 1120 ms, kernel 6.12: slot B booted, but not marked good: the watchdog reset the machine",
            "boot 42, 1120 ms, kernel 6.12: slot B given up: its tries are used up, and it was never marked good",
        ];
        Self {
            view: View {
                wait: Wait::Choice(now.saturating_add(wait)),
                why: why.to_owned(),
                has_failed: failed,
                entries,
                history: history.map(str::to_owned).to_vec(),
                has_shell: true,
            },
        }
    }

    /// Does what can be done without a machine.
    pub(crate) fn does(&mut self, now: Millis, command: Command) -> Option<Came> {
        let over = |text: &str| Some(Came::Over(format!("demo: {text}")));
        self.view.wait = Wait::Choice(now.saturating_add(300_000));
        match command {
            Command::Stop | Command::Attend => None,
            Command::Retry => over("everything would be tried again"),
            Command::Boot { entry, cmdline, stays } => {
                let cmdline = cmdline.map(|cmdline| format!(" with {cmdline:?}")).unwrap_or_default();
                let time = if stays { "from now on" } else { "this time" };
                over(&format!("{entry:?} would be booted{cmdline}, {time}"))
            }
            Command::Mark { slot, is_good } => {
                let is_it = |entry: &&mut EntryView| entry.condition.as_ref().is_some_and(|known| known.name == slot);
                let known = self.view.entries.iter_mut().find(is_it)?.condition.as_mut()?;
                let (condition, what) = if is_good {
                    (Condition::Good, "good")
                } else {
                    (Condition::Bad(Because::Marked), "bad")
                };
                (known.condition, known.failure) = (condition, None);
                Some(Came::Said(format!("slot {slot}: marked as {what}")))
            }
            Command::Plan(_) => Some(text(&[
                "segment                 start                end        bytes  purpose",
                "kernel             0x44e00000         0x471fc000     37732288  Image",
            ])),
            Command::Password(_) => Some(Came::Admitted),
            Command::Look(Topic::Machine) => Some(text(&[
                "machine   a board that is made up",
                "memory    40000000-bfffffff",
                "disk      mmcblk0 3.6 GiB",
            ])),
            Command::Look(Topic::Timeline) => Some(text(&[
                "  at, in s  for, in s  since the service kernel started",
                "     0.412  +0.020     PID 1 starts",
                "     0.432  +0.110     finding the state",
            ])),
            Command::Browse(at) if at.is_empty() => Some(Came::Text(vec![
                leads("mmcblk0p1       64 MiB vfat LABEL=EFI", "mmcblk0p1:"),
                leads("mmcblk0p2      512 MiB ext4 PARTLABEL=boot-a", "mmcblk0p2:"),
            ])),
            Command::Browse(at) if at.ends_with(':') => {
                let folder = leads("      folder  grub", &format!("{at}grub"));
                let files =
                    (1..=30).map(|n| leads(&format!("    120000{n:02}  vmlinuz-6.12.{n}"), &format!("{at}{n}")));
                Some(Came::Text([leads("..", ""), folder].into_iter().chain(files).collect()))
            }
            Command::Browse(at) => {
                let volume = at.split(':').next().unwrap_or_default();
                Some(Came::Text(vec![
                    leads("..", &format!("{volume}:")),
                    format!("{at}: 24 bytes").into(),
                    "default 2.4.1".to_owned().into(),
                ]))
            }
            Command::Look(_) => {
                let line = |n: u32| format!("cato[   1.{n:03}] demo: line {n} of a log").into();
                Some(Came::Text((1..=60).map(line).collect()))
            }
            Command::Lend(Use::Receive) => over("files would be received"),
            Command::Lend(Use::SendLog) => over("the log would be sent"),
            Command::Lend(Use::Shell) => over("a shell would be started"),
            Command::Reboot => over("the machine would be rebooted"),
            Command::PowerOff => over("the machine would be switched off"),
            Command::Leave => over("Cato would go on by itself"),
        }
    }
}
