//! What comes over a serial line: files, and with them an entry, or another `boot.toml` for this start.

use std::time::Duration;

use config::paths::RECEIVED;
use config::{Access, Config, Entry};

use super::asking::{Then, words};
use super::{Action, Millis, Phase, Policy};
use crate::cause::{Cause, Failure};
use crate::deadlines;
use crate::worker::message::{Answer, Lent, Loan, Question, Received, ReceivedKind};

/// What the entry for received files is called.
/// No entry of a `boot.toml` can have that name.
const NAME: &str = "received files";
/// What it is called in the text that it is made of.
const KEY: &str = "received";

/// What somebody does next who has it lent.
pub(super) fn advice(Loan { tty, what }: &Loan) -> String {
    let minutes = |time: Duration| time.as_secs() / 60;
    match what {
        Lent::Receive => format!("{tty}: send the files now, with YMODEM (sb FILE...); Ctrl-X twice stops it"),
        Lent::Send(_) => format!("{tty}: receive the log now, with YMODEM (rb); Ctrl-X twice stops it"),
        Lent::Shell => format!(
            "{tty}: a shell; `exit` ends it, and so does Cato after {} min",
            minutes(deadlines::SHELL)
        ),
    }
}

impl Policy {
    /// The console is Cato's again.
    pub(super) fn line_over(tty: &str, answer: Result<Answer, Failure>) -> Vec<Action> {
        // What is still typed there, or sent, is not for the menu.
        let is_noisy = matches!(
            &answer,
            Err(Failure {
                cause: Cause::Timeout | Cause::Crash,
                ..
            })
        );
        let text = match answer {
            Ok(Answer::Done) => "done".to_owned(),
            other => words(other),
        };
        let leave = is_noisy.then_some(Action::Leave);
        let log = Action::Log("prompt", format!("{tty}: {text}"));
        leave.into_iter().chain([log]).collect()
    }

    /// Files have come, in place of those before them, or none.
    pub(super) fn received(&mut self, tty: &str, answer: Result<Answer, Failure>) -> Vec<Action> {
        if let Some(config) = &mut self.config {
            config.entries.retain(|entry| entry.name != NAME);
        }
        // There never was a boot.toml.
        self.config = self.config.take().filter(|config| !config.entries.is_empty());
        let files = match answer {
            Ok(Answer::Received(files)) => files,
            other => {
                self.received.clear();
                return Self::line_over(tty, other);
            }
        };
        let mut actions = Vec::new();
        for Received { name, bytes, kind } in &files {
            actions.push(Action::Log(
                "prompt",
                format!("{tty}: received {name} ({bytes} bytes): {kind}"),
            ));
        }
        let of = |kind| files.iter().filter(move |file| file.kind == kind);
        if of(ReceivedKind::Initrd).next().is_some() && of(ReceivedKind::Kernel).next().is_none() {
            let text =
                format!("{tty}: no kernel was among them, so there is nothing to boot; send all of it at a time");
            actions.push(Action::Log("prompt", text));
        }
        let mut configs = of(ReceivedKind::Config).map(|file| Action::Configure(format!("{RECEIVED}/{}", file.name)));
        // The latest, as of what is sent under one name.
        actions.extend(configs.next_back());
        self.received = files;
        self.offer_received();
        actions
    }

    /// An entry of what has come, beside those of `boot.toml`. It is never booted by itself where those are.
    fn offer_received(&mut self) {
        let usual = self
            .config
            .as_ref()
            .and_then(|config| config.entry(config.order.first()?));
        let Some((mut alone, entry)) = entry(&self.received, usual) else {
            return;
        };
        if let Some(config) = &mut self.config {
            config.entries.push(entry);
        } else {
            alone.console = self.console.clone();
            self.config = Some(alone);
        }
    }

    /// What has come is a valid `boot.toml`: it holds for this start. Nothing is written down of its slots, and who may use the
    /// console, and how, stays; so does a watchdog that runs.
    pub(super) fn configured(&mut self, now: Millis, mut config: Config, retry: Millis) -> Vec<Action> {
        config.console = self.console.clone();
        config.entries.iter_mut().for_each(|entry| entry.slot = None);
        let before = self.config.as_ref().and_then(|config| config.watchdog);
        config.watchdog = config.watchdog.or(before);
        let is_new = config.watchdog.is_some() && before.is_none();
        self.config = Some(config);
        self.offer_received();
        self.failures.clear();
        let text = "the received boot.toml holds until the machine is reset; its slots are not counted";
        let mut actions = vec![Action::Log("prompt", text.to_owned())];
        if is_new {
            actions.push(self.ask(now, Question::Watchdog, Then::Prompt { retry }));
        } else {
            self.phase = Phase::Prompt { retry };
        }
        actions
    }

    /// Whether somebody at a console may have it lent for that: the menu offers nothing else.
    pub(super) fn may(&self, loan: &Loan) -> bool {
        match self.console.access {
            Access::Open | Access::Password(_) => true,
            Access::Menu => matches!(loan.what, Lent::Send(_)),
            Access::Locked => false,
        }
    }
}

/// A configuration with nothing but what was received, and its entry, with the command line of the `usual` one.
fn entry(received: &[Received], usual: Option<&Entry>) -> Option<(Config, Entry)> {
    let of = |kind| {
        received
            .iter()
            .filter(move |file| file.kind == kind)
            .map(|file| file.name.as_str())
    };
    let initrds: Vec<&str> = of(ReceivedKind::Initrd).collect();
    let mut text = format!(
        "version = 1\norder = [\"{KEY}\"]\n[entry.{KEY}]\ntitle = \"received on the console\"\nsource = \"{RECEIVED}\"\n\
         kernel = \"{}\"\ninitrd = {initrds:?}\n",
        of(ReceivedKind::Kernel).next_back()?
    );
    text.extend(
        of(ReceivedKind::DeviceTree)
            .next_back()
            .map(|dtb| format!("dtb = \"{dtb}\"\n")),
    );
    let mut config = config::parse(&text).ok()?;
    config.order = vec![NAME.to_owned()];
    let entry = config.entries.first_mut()?;
    NAME.clone_into(&mut entry.name);
    if let Some(usual) = usual {
        entry.cmdline.clone_from(&usual.cmdline);
    }
    let entry = entry.clone();
    Some((config, entry))
}
