//! The socket on which the kernel tells of devices that come and go.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, setsockopt, socket, sockopt,
};

use crate::sys::uevent::Event;

/// The multicast group of the kernel's own events; 2 is udevd's.
const KERNEL: u32 = 1;
/// No uevent is longer: UEVENT_BUFFER_SIZE plus the header (include/linux/kobject.h).
const LONGEST: usize = 8192;

/// A listener of kernel uevents.
#[derive(Debug)]
pub(crate) struct Uevents {
    socket: OwnedFd,
}

impl Uevents {
    /// Begins to listen; everything that happens from here on is heard.
    ///
    /// # Errors
    /// What socket(2) or bind(2) says: EPROTONOSUPPORT when the kernel has no CONFIG_NET.
    pub(crate) fn listen() -> nix::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkKObjectUEvent,
        )?;
        // Hundreds of devices may appear before the first look; without the privilege the default has to do.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &(1 << 20));
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL))?;
        Ok(Self { socket })
    }

    /// Takes every event that waits, without blocking; gives the block devices the kernel announced.
    ///
    /// # Errors
    /// What recvfrom(2) says.
    pub(crate) fn drain(&self) -> nix::Result<Vec<Event>> {
        let mut announced = Vec::new();
        let mut datagram = [0; LONGEST];
        loop {
            match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut datagram) {
                // Port 0 is the kernel; others can't be trusted.
                Ok((length, Some(from))) if from.pid() == 0 => {
                    let event = datagram.get(..length).and_then(Event::parse);
                    announced.extend(event.filter(Event::announces_block));
                }
                // ENOBUFS: some were lost. Every look is a whole one, so nothing is missed for longer than a moment.
                Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(Errno::EAGAIN) => return Ok(announced),
                Err(cause) => return Err(cause),
            }
        }
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
