//! The guest. See the library for what it is for.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod arch;

#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    eprintln!("guest-entry is a kernel: it runs on no operating system");
    std::process::ExitCode::FAILURE
}
