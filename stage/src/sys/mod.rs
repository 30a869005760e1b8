//! System calls, one family a file; what is unsafe is here and nowhere else.

pub mod block;
pub mod child;
pub mod counter;
pub mod devmem;
pub mod dm;
pub mod hugepages;
pub mod kexec;
pub mod module;
pub mod mount;
pub mod netlink;
pub mod random;
pub mod read_at;
pub mod tty;
pub mod uevent;
