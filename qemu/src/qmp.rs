//! QEMU's monitor: what happens to a machine while it runs. A card comes, a disk grows, a device is plugged in.
//!
//! The protocol is QMP (docs/interop/qmp-spec of QEMU): one JSON object a line, each command answered in turn.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

/// For an answer; QEMU's main loop gives it between two others.
const ANSWER: Duration = Duration::from_secs(30);

/// A connection to the monitor of one machine.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
    _folder: TempDir,
}

impl Qmp {
    /// Connects to the socket of a machine that has just been started. `folder`, which holds it, goes with the connection.
    pub(crate) fn connect(folder: TempDir, socket: &Path) -> Result<Self> {
        let deadline = Instant::now() + ANSWER;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                Err(error) => return Err(error).context("QEMU's monitor does not answer"),
            }
        };
        stream.set_read_timeout(Some(ANSWER))?;
        let mut qmp = Self {
            stream: BufReader::new(stream),
            _folder: folder,
        };
        // Its greeting comes first, and is an answer to nothing.
        qmp.read()?;
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Any command of the monitor, such as `device_add`, with its arguments.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let line = json!({ "execute": command, "arguments": arguments });
        writeln!(self.stream.get_mut(), "{line}").with_context(|| format!("can't ask QEMU for {command}"))?;
        loop {
            let answer = self.read().with_context(|| format!("QEMU does not answer {command}"))?;
            // Events come in between.
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {line}: {error}");
            }
        }
    }

    /// Puts a raw image into drive `n` of [`crate::machine::Machine::drives`], in the place of what was in it.
    pub fn insert(&mut self, n: usize, image: &Path) -> Result<()> {
        let arguments = json!({ "device": format!("disk{n}"), "filename": image.to_string_lossy(), "format": "raw" });
        self.execute("blockdev-change-medium", &arguments).map(drop)
    }

    /// Takes the medium out of drive `n`.
    pub fn eject(&mut self, n: usize) -> Result<()> {
        let arguments = json!({ "device": format!("disk{n}"), "force": true });
        self.execute("eject", &arguments).map(drop)
    }

    /// Makes drive `n` larger. What has been appended to its image file by then is what the guest finds there.
    pub fn resize(&mut self, n: usize, bytes: u64) -> Result<()> {
        let arguments = json!({ "device": format!("disk{n}"), "size": bytes });
        self.execute("block_resize", &arguments).map(drop)
    }

    /// Where each CPU stands: its registers, for whoever asks why a machine says nothing more.
    pub fn registers(&mut self) -> Result<String> {
        let arguments = json!({ "command-line": "info registers -a" });
        let text = self.execute("human-monitor-command", &arguments)?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("QEMU has closed its monitor");
        }
        serde_json::from_str(&line).with_context(|| format!("QEMU's monitor said {line:?}"))
    }
}
