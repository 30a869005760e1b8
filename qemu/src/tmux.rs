//! A terminal that a person could sit at: what a program paints in it can be read as text, and keys pressed.
//!
//! Given a command; responsible for a tmux of its own around it, which ends, with the command, when this is dropped.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

/// The terminal, and what runs in it.
#[derive(Debug)]
pub struct Tmux {
    folder: TempDir,
}

impl Tmux {
    /// Starts a command of the shell's in a terminal of that size.
    pub fn start(command: &str, (columns, rows): (u16, u16)) -> Result<Self> {
        // A socket's path is short, whatever the checkout's is.
        let tmux = Self {
            folder: tempfile::tempdir()?,
        };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        // What it says as it ends stays on the screen.
        let command = format!("{command}; exec sleep infinity");
        tmux.run(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &columns,
            "-y",
            &rows,
            &command,
        ])?;
        Ok(tmux)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("tmux")
    }

    fn run(&self, words: &[&str]) -> Result<String> {
        let output = Command::new("tmux")
            .arg("-S")
            .arg(self.socket())
            .args(words)
            // Its own terminal has UTF-8, whatever this program's has.
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .stdin(Stdio::null())
            .output()
            .context("can't start tmux")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tmux {}: {}", words.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Presses keys, by tmux's names: `Down`, `Enter`, `q`.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        self.run(&[&["send-keys"], keys].concat()).map(drop)
    }

    /// Makes it larger or smaller.
    pub fn resize(&self, (columns, rows): (u16, u16)) -> Result<()> {
        self.run(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()])
            .map(drop)
    }

    /// The rows of the screen, without what is blank at their ends and below the last.
    pub fn screen(&self) -> Result<Vec<String>> {
        self.captured(&[])
    }

    /// The rows that have an inverse bar, which is painted as the first thing of a row.
    pub fn bars(&self) -> Result<Vec<String>> {
        let mut rows = self.captured(&["-e"])?;
        rows.retain(|row| row.starts_with("\u{1b}[7m"));
        Ok(rows)
    }

    fn captured(&self, how: &[&str]) -> Result<Vec<String>> {
        let text = self.run(&[&["capture-pane", "-p"], how].concat())?;
        Ok(text.trim_end().lines().map(|row| row.trim_end().to_owned()).collect())
    }

    /// Waits until the screen is as it is asked for.
    pub fn wait_until(&self, within: Duration, is_so: impl Fn(&[String]) -> bool) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let screen = self.screen()?;
            if is_so(&screen) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "the screen is not so within {} s:\n{}",
                    within.as_secs(),
                    screen.join("\n")
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a row of the screen has this text.
    pub fn wait_for(&self, text: &str, within: Duration) -> Result<()> {
        self.wait_until(within, |rows| rows.iter().any(|row| row.contains(text)))
            .with_context(|| format!("{text:?} is not on the screen"))
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.run(&["kill-server"]);
    }
}
