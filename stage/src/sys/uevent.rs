//! The kernel's word that something came or went.
//!
//! Given one datagram of a NETLINK_KOBJECT_UEVENT socket; responsible for its fields
//! (`ACTION@DEVPATH`, then `KEY=VALUE`, each ended by a zero byte: lib/kobject_uevent.c).

/// One uevent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Event {
    /// `add`, `remove`, `change`, `bind`, …
    pub action: String,
    /// Below `/sys`, with its leading slash.
    pub devpath: String,
    /// `block`, `pci`, `scsi`, …; empty when the kernel named none.
    pub subsystem: String,
}

impl Event {
    /// None when the bytes are no kernel uevent (udevd's own begin with `libudev`).
    pub(crate) fn parse(datagram: &[u8]) -> Option<Self> {
        let mut fields = datagram.split(|b| *b == 0);
        let header = std::str::from_utf8(fields.next()?).ok()?;
        let (action, devpath) = header.split_once('@')?;
        if action.is_empty() || !devpath.starts_with('/') {
            return None;
        }
        let subsystem = fields
            .find_map(|field| field.strip_prefix(b"SUBSYSTEM="))
            .map(String::from_utf8_lossy);
        Some(Self {
            action: action.to_owned(),
            devpath: devpath.to_owned(),
            subsystem: subsystem.unwrap_or_default().into_owned(),
        })
    }

    /// Whether a disk or partition is ready to be read. The kernel says so after it has read the partition table, if it reads
    /// any, while the disk is in sysfs from before (block/genhd.c, device_add_disk).
    pub(crate) fn announces_block(&self) -> bool {
        self.subsystem == "block" && self.action == "add"
    }

    /// The device's own name.
    pub(crate) fn name(&self) -> &str {
        self.devpath.rsplit('/').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_kernel_datagram_is_understood() {
        let event = Event::parse(
            b"add@/devices/pci0000:00/0000:00:03.0/virtio0/block/vda\0ACTION=add\0\
              DEVPATH=/devices/pci0000:00/0000:00:03.0/virtio0/block/vda\0SUBSYSTEM=block\0MAJOR=254\0SEQNUM=1200\0",
        )
        .unwrap();
        assert_eq!(event.action, "add");
        assert_eq!(event.devpath, "/devices/pci0000:00/0000:00:03.0/virtio0/block/vda");
        assert_eq!(event.subsystem, "block");
        assert_eq!(event.name(), "vda");
        assert!(event.announces_block());
        let other = Event::parse(b"add@/module/virtio_blk\0SUBSYSTEM=module\0").unwrap();
        assert!(!other.announces_block());
        assert!(Event::parse(b"libudev\0\xfe\xed\xca\xfe").is_none());
        assert!(Event::parse(b"").is_none());
    }

    proptest! {
        #[test]
        fn what_was_sent_is_read(action in "[a-z]{1,8}", path in "/[a-z0-9:./-]{0,40}", subsystem in "[a-z_]{0,12}",
                                 other in "[A-Z]{1,8}") {
            prop_assume!(other != "SUBSYSTEM");
            let sent = format!("{action}@{path}\0{other}=x@y\0SUBSYSTEM={subsystem}\0");
            let event = Event::parse(sent.as_bytes()).unwrap();
            prop_assert_eq!(event, Event { action, devpath: path, subsystem });
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Event::parse(&bytes);
        }
    }
}
