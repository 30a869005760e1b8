//! Whether memory is encrypted (x86_64), and by whom: a CPU that could is not enough. Pure but for [`running`].
//!
//! AMD64 Architecture Programmer's Manual, volume 3, Fn8000_001F; Intel TDX Module, "CPUID configuration", leaf 21H;
//! Documentation/arch/x86/amd-memory-encryption.rst.

use crate::sys::{cpuid, kernel_log};

/// By whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// The kernel, on a machine of its own (SME): user space sees plain text, and another mapping ciphertext.
    Own,
    /// The CPU, for this virtual machine and against its host. The page tables have to say which memory that is, and from SEV-ES and
    /// TDX on, CPUID and port I/O fault in what does not expect it.
    Guest(&'static str),
}

/// What the CPU says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cpu {
    /// It is a hypervisor's (leaf 1, ECX bit 31).
    is_virtual: bool,
    /// EAX of leaf 0x8000001f.
    amd: u32,
    /// Leaf 0x21 has the TDX module's name.
    is_tdx: bool,
}

impl Cpu {
    fn running() -> Self {
        let [_, name, more, rest] = cpuid::leaf(0x21);
        let name: Vec<u8> = [name, rest, more].iter().flat_map(|part| part.to_le_bytes()).collect();
        let [_, _, features, _] = cpuid::leaf(1);
        let [amd, ..] = cpuid::leaf(0x8000_001f);
        Self {
            is_virtual: features & 1 << 31 != 0,
            amd,
            is_tdx: name == b"IntelTDX    ",
        }
    }

    /// What it could be at most.
    fn may_be(self) -> Option<Encryption> {
        let has = |bit: u32| self.amd & 1 << bit != 0;
        let guest = [(4, "SEV-SNP"), (3, "SEV-ES"), (1, "SEV")];
        match guest.into_iter().find(|(bit, _)| has(*bit)) {
            _ if self.is_tdx => Some(Encryption::Guest("TDX")),
            Some((_, name)) if self.is_virtual => Some(Encryption::Guest(name)),
            _ if has(0) => Some(Encryption::Own),
            _ => None,
        }
    }
}

/// What the machine does that Cato runs on.
pub(crate) fn running() -> Option<Encryption> {
    of(Cpu::running(), || kernel_log::with(&[SAID, FIRST]))
}

/// A line of the kernel's, and the first one, without which its silence means nothing.
const SAID: &str = "Memory Encryption Features active:";
const FIRST: &str = "Linux version ";

/// The kernel has looked (`print_mem_encrypt_feature_info()`) and says it on its way, unless that is not remembered any more; only
/// where the CPU leaves it open is its log read.
fn of(cpu: Cpu, log: impl FnOnce() -> String) -> Option<Encryption> {
    let may_be = cpu.may_be()?;
    let log = log();
    let said = log.lines().find_map(|line| line.split_once(SAID));
    match said {
        Some((_, names)) => {
            let names: Vec<&str> = names.split_ascii_whitespace().collect();
            let guest = ["TDX", "SEV-SNP", "SEV-ES", "SEV"];
            let guest = guest.into_iter().find(|name| names.contains(name));
            Some(guest.map_or(Encryption::Own, Encryption::Guest))
        }
        None if log.contains(FIRST) => None,
        None => Some(may_be),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_counts_and_else_what_the_cpu_may_do() {
        use Encryption::{Guest, Own};
        let host = |amd| Cpu { amd, ..Cpu::default() };
        let guest = |amd| Cpu {
            is_virtual: true,
            ..host(amd)
        };
        let tdx = Cpu {
            is_tdx: true,
            ..guest(0)
        };
        let all = 0b11011;
        let lost = "usb 1-1: new high-speed USB device";
        let silent = "Linux version 6.12.57\nx86/mm: ...";
        for (cpu, log, found) in [
            // Every EPYC can, and few do.
            (host(all), silent, None),
            (host(all), "AMD Memory Encryption Features active: SME", Some(Own)),
            (host(all), "Memory Encryption Features active: AMD SME", Some(Own)),
            (host(all), lost, Some(Own)),
            (host(0b11010), lost, None),
            (
                guest(0b10),
                "Memory Encryption Features active: AMD SEV",
                Some(Guest("SEV")),
            ),
            (
                guest(0b1010),
                "AMD Memory Encryption Features active: SEV SEV-ES",
                Some(Guest("SEV-ES")),
            ),
            (
                guest(all),
                "Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP",
                Some(Guest("SEV-SNP")),
            ),
            (guest(0b10), lost, Some(Guest("SEV"))),
            (guest(0b1010), lost, Some(Guest("SEV-ES"))),
            (guest(all), lost, Some(Guest("SEV-SNP"))),
            // A guest that is told what its host could do for others.
            (guest(all), silent, None),
            (tdx, "Memory Encryption Features active: Intel TDX", Some(Guest("TDX"))),
            (tdx, lost, Some(Guest("TDX"))),
        ] {
            assert_eq!(of(cpu, || log.to_owned()), found, "{cpu:?}: {log}");
        }
        for cpu in [host(0), guest(0)] {
            assert_eq!(of(cpu, || unreachable!("nothing is open")), None);
        }
    }
}
