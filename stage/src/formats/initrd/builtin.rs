//! Which compressions a kernel has been built with, as far as it says so.
//!
//! Given the kernel's bytes; an arm64 Image has its config in it (CONFIG_IKCONFIG, kernel/configs.c) or at least its
//! version, a bzImage its version in the setup header.

use std::io::Read;

use flate2::bufread::GzDecoder;
use memchr::memmem;

use super::error::InitrdError;
use super::packing::Packing;

/// What a kernel says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BuiltIn {
    config: Option<String>,
    version: Option<(u16, u16)>,
}

/// Around the config, kernel/configs.c.
const CONFIG: &[u8] = b"IKCFG_ST";
/// init/version-timestamp.c
const BANNER: &[u8] = b"Linux version ";
/// Longest config that is read, bytes; Debian's have 300,000.
const CONFIG_MAX: u64 = 4 << 20;

impl BuiltIn {
    /// Of an uncompressed kernel.
    pub(crate) fn of_image(image: &[u8]) -> Self {
        let mut config = String::new();
        let packed = find(image, CONFIG).unwrap_or_default();
        // Half a config would lack what the kernel has.
        let whole = GzDecoder::new(packed)
            .take(CONFIG_MAX)
            .read_to_string(&mut config)
            .is_ok();
        let whole =
            whole && config.contains("CONFIG_") && u64::try_from(config.len()).is_ok_and(|len| len < CONFIG_MAX);
        Self {
            config: Some(config).filter(|_| whole),
            version: find(image, BANNER).and_then(version),
        }
    }

    /// Of a kernel of which only the version is known.
    pub(crate) fn of_version(version: Option<(u16, u16)>) -> Self {
        Self { config: None, version }
    }

    /// Whether the option is set, as far as that is known.
    pub(crate) fn may_have(&self, option: &str) -> bool {
        let set = |line: &str| line.strip_prefix(option) == Some("=y");
        self.config.as_ref().is_none_or(|config| config.lines().any(set))
    }

    /// Whether it reads initrds at all, as far as that is known.
    ///
    /// # Errors
    /// Where it certainly does not.
    pub(crate) fn takes_initrds(&self) -> Result<(), InitrdError> {
        if self.may_have("CONFIG_BLK_DEV_INITRD") {
            return Ok(());
        }
        Err(InitrdError::NoInitrds)
    }

    /// Whether it reads cpio archives with checksums, as far as that is known.
    ///
    /// # Errors
    /// Where it certainly does not.
    pub(crate) fn takes_sums(&self) -> Result<(), InitrdError> {
        match self.version {
            Some(version) if version < (5, 19) => Err(InitrdError::Sums(version)),
            _ => Ok(()),
        }
    }

    /// Whether it unpacks `packing`, as far as that is known.
    ///
    /// # Errors
    /// Where it certainly does not.
    pub(crate) fn unpacks(&self, packing: Packing) -> Result<(), InitrdError> {
        let option = format!("CONFIG_RD_{}", packing.name().to_uppercase());
        let why = match (&self.config, self.version) {
            (Some(_), _) if self.may_have(&option) => return Ok(()),
            (Some(_), _) => format!("{option} is not set"),
            (None, Some(version)) if version < packing.since() => {
                let (major, minor) = packing.since();
                format!("Linux {}.{}; support came with {major}.{minor}", version.0, version.1)
            }
            _ => return Ok(()),
        };
        Err(InitrdError::NotBuiltIn {
            packing: packing.name(),
            why,
        })
    }
}

/// What is behind the first `needle`.
fn find<'a>(bytes: &'a [u8], needle: &[u8]) -> Option<&'a [u8]> {
    let at = memmem::find(bytes, needle)?;
    bytes.get(at.saturating_add(needle.len())..)
}

/// `6.12` of `6.12.117+deb13-amd64 …`.
pub(in super::super) fn version(text: &[u8]) -> Option<(u16, u16)> {
    let text = text.get(..32).unwrap_or(text);
    let mut numbers = text
        .split(|b| !b.is_ascii_digit())
        .map(|digits| str::from_utf8(digits).ok()?.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::read::GzEncoder;

    fn image(config: &str, banner: &str) -> Vec<u8> {
        let mut packed = Vec::new();
        GzEncoder::new(config.as_bytes(), Compression::default())
            .read_to_end(&mut packed)
            .unwrap();
        [
            &[7; 1000],
            CONFIG,
            &packed,
            b"IKCFG_ED",
            &[9; 77],
            banner.as_bytes(),
            b" (x)",
        ]
        .concat()
    }

    #[test]
    fn the_config_says_it_else_the_version() {
        let said = |kernel: &BuiltIn, packing| kernel.unpacks(packing).map_err(|e| e.to_string());
        let kernel = BuiltIn::of_image(&image(
            "CONFIG_RD_GZIP=y\n# CONFIG_RD_ZSTD is not set\n",
            "Linux version 6.1.0",
        ));
        assert_eq!(kernel.version, Some((6, 1)));
        assert_eq!(said(&kernel, Packing::Gzip), Ok(()));
        assert_eq!(
            said(&kernel, Packing::Zstd).unwrap_err(),
            "compressed with zstd, which the kernel can't unpack (CONFIG_RD_ZSTD is not set); use another compression"
        );
        let old = BuiltIn::of_version(version(b"5.4.0-42-generic (build)"));
        assert_eq!(said(&old, Packing::Lz4), Ok(()));
        assert!(
            said(&old, Packing::Zstd)
                .unwrap_err()
                .contains("(Linux 5.4; support came with 5.9)")
        );
        let silent = BuiltIn::of_image(&[0; 5000]);
        assert_eq!(
            silent,
            BuiltIn {
                config: None,
                version: None
            }
        );
        assert_eq!(said(&silent, Packing::Zstd), Ok(()));
        // A damaged config says nothing.
        let mut damaged = image("CONFIG_RD_GZIP=y\n", "Linux version 6.1.0");
        damaged[1030] ^= 0xff;
        assert_eq!(BuiltIn::of_image(&damaged).config, None);
        for (text, want) in [
            (&b"6.12.117"[..], Some((6, 12))),
            (b"v6", None),
            (b"", None),
            (b"99999999.1", None),
        ] {
            assert_eq!(version(text), want);
        }
    }
}
