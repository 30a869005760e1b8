//! System calls, one family a file; what is unsafe is here and nowhere else.

pub(crate) mod block;
pub(crate) mod child;
pub(crate) mod counter;
pub(crate) mod cpuid;
pub(crate) mod devmem;
pub(crate) mod dm;
pub(crate) mod hugepages;
pub(crate) mod kernel_log;
pub(crate) mod kexec;
pub(crate) mod module;
pub(crate) mod mount;
pub(crate) mod netlink;
pub(crate) mod random;
pub(crate) mod read_at;
pub(crate) mod tty;
pub(crate) mod uevent;
pub(crate) mod watchdog;
