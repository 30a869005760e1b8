//! What happens to PID 1, and what it can do about it.

use std::time::Duration;

use config::Config;

use crate::menu::Command;
pub(super) use crate::menu::Millis;
use crate::menu::view::Told;
use crate::worker::message::{Job, Loan, Message};

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Time passed.
    Tick,
    /// Somebody at a console wants this.
    Wants(Command),
    /// Somebody at a console wants a child to have it for this.
    Asks(Loan),
    /// A valid `boot.toml` has come over a serial line.
    Config(Box<Config>),
    /// The child said something.
    Said(Message),
    /// The child ended.
    Gone(Exit),
    /// The child could not be started, and why.
    NotStarted(String),
}

/// What to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Print a line of this step.
    Log(&'static str, String),
    /// Show this to whoever has asked for it.
    Show(Vec<Told>),
    /// Whoever has the menu is to type the stop string again.
    Leave,
    /// Read this `boot.toml`; [`Event::Config`] follows if it is valid.
    Configure(String),
    /// Whoever typed the password may go on, or may not, and why.
    Admit(Result<(), String>),
    /// Give this to the child that has answered last, or to a new one.
    Give(Job),
    /// Kill the child; [`Event::Gone`] follows unless it is stuck in the kernel, or abandoned.
    Kill,
    /// Forget the child: it can't be killed.
    Abandon,
    /// Tell the worker to jump.
    Go,
    /// Open a watchdog, unless one is open.
    Arm,
    /// Give the watchdogs to the main system, which has this time to feed them.
    HandOff(Duration),
    /// Feed the watchdogs that nobody else feeds.
    Feed,
    /// Reset at once: sysrq-b, then `reboot(2)`, then wait for the watchdog.
    Reset,
}
