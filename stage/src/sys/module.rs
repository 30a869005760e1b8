//! Kernel modules.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;

use config::modules::Module;
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use crate::cause::Cause;
use crate::text::cmdline::module_parameters;

/// Known to every kernel for every module: its drivers are probed by workers, and finit_module(2) does not wait for
/// all of the kernel's asynchronous probing to end, which a single dead disk delays for ever
/// (kernel/module/main.c, do_init_module).
const ALWAYS: &str = "async_probe=1";

/// Why a module is not in the kernel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModuleError {
    /// Its file could not be opened.
    #[error("module {name}: {path}: {cause}")]
    Open {
        /// The module.
        name: String,
        /// Its file.
        path: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The kernel refused it.
    #[error("module {name} {}", refusal(*cause))]
    Refused {
        /// The module.
        name: String,
        /// What finit_module(2) said.
        cause: Errno,
    },
}

impl ModuleError {
    /// The module.
    pub(crate) fn name(&self) -> &str {
        let (Self::Open { name, .. } | Self::Refused { name, .. }) = self;
        name
    }

    /// What finit_module(2) said.
    pub(crate) fn errno(&self) -> Option<Errno> {
        match self {
            Self::Open { .. } => None,
            Self::Refused { cause, .. } => Some(*cause),
        }
    }

    /// Its kind.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Open { cause, .. } => Cause::of(cause),
            Self::Refused { cause, .. } => match cause {
                Errno::ENOEXEC => Cause::Format,
                Errno::ENOENT => Cause::Missing,
                Errno::EKEYREJECTED | Errno::ENOKEY => Cause::Verification,
                Errno::ENOMEM => Cause::Memory,
                _ => Cause::Io,
            },
        }
    }
}

fn refusal(cause: Errno) -> String {
    let why = match cause {
        Errno::ENOEXEC => {
            "is damaged, or built for another configuration of this kernel; pack this kernel's own modules"
        }
        Errno::EINVAL => "does not fit this kernel; pack this kernel's own modules",
        Errno::ENOENT => "needs a symbol or an algorithm that no loaded module provides; pack that module too",
        Errno::ENODEV => "has no hardware here",
        Errno::EKEYREJECTED | Errno::ENOKEY => "has no signature that the service kernel trusts",
        _ => return format!("refused by the kernel: {}", cause.desc()),
    };
    format!("{why} ({})", cause.desc())
}

/// Those of every module, then those that the kernel's command line has for this one.
fn parameters(cmdline: &str, name: &str) -> CString {
    let own = module_parameters(cmdline, name);
    let all = [ALWAYS.to_owned()].into_iter().chain(own).collect::<Vec<_>>().join(" ");
    CString::new(all).unwrap_or_default()
}

/// Puts one module into the kernel; one that is there already, or built in, is fine. Does not wait for its devices.
///
/// # Errors
/// See [`ModuleError`].
pub(crate) fn load(module: &Module) -> Result<(), ModuleError> {
    let Some(path) = module.path() else { return Ok(()) };
    let file = File::open(&path).map_err(|cause| ModuleError::Open {
        name: module.name.clone(),
        path,
        cause,
    })?;
    let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    match finit_module(&file, &parameters(&cmdline, &module.name), ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(cause) => Err(ModuleError::Refused {
            name: module.name.clone(),
            cause,
        }),
    }
}
