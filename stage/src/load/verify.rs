//! `Payload` → `Verified<Payload>`: the only way to have one.
//!
//! Given a payload with the record of every file that went into it; responsible for refusing it unless each of them was
//! read to the length it had when it was opened and has the SHA-256 the config names, and unless nothing is in the
//! payload that no file accounts for.

use std::ops::Deref;

use config::Sha256;

use super::payload::{Artefact, Payload, Role};
use crate::cause::Cause;

/// A value whose origin has been checked against what the config demands. Only [`verify`] makes one, and
/// [`place`](crate::place) takes nothing else:
///
/// ```compile_fail,E0603
/// fn boot(unchecked: stage::load::Payload) -> stage::verify::Verified<stage::load::Payload> {
///     stage::verify::Verified(unchecked)
/// }
/// ```
///
/// What has been verified cannot be changed afterwards either:
///
/// ```compile_fail,E0594
/// fn boot(mut checked: stage::verify::Verified<stage::load::Payload>) {
///     checked.initrd = None;
/// }
/// ```
#[derive(Debug)]
pub(crate) struct Verified<T>(T);

impl<T> Verified<T> {
    /// The value, for [`place`](crate::place), which moves its bytes into segments.
    pub(crate) fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Why a payload is not booted. Reads on after `entry "a": `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VerifyError {
    /// The file ended early, or went on past its end.
    #[error("{role}: {path}: read {read} bytes, but the file had {size} when it was opened; copy it again")]
    Size {
        /// Which artefact.
        role: Role,
        /// Its path in the source.
        path: String,
        /// Length when it was opened, bytes.
        size: u64,
        /// Bytes read.
        read: u64,
    },
    /// The file is another one than the config means.
    #[error("{role}: {path}: sha256 mismatch (want {want:.4}, got {got:.4})")]
    Sha256 {
        /// Which artefact.
        role: Role,
        /// Its path in the source.
        path: String,
        /// What the config names.
        want: Sha256,
        /// What was read.
        got: Sha256,
    },
    /// The config names a digest and nobody computed it.
    #[error("{role}: {path}: sha256 required ({want:.4}) but not computed: this is a bug in Cato, please report it")]
    Unchecked {
        /// Which artefact.
        role: Role,
        /// Its path in the source.
        path: String,
        /// What the config names.
        want: Sha256,
    },
    /// Bytes are in the payload that the files behind it do not explain, or the other way round.
    #[error(
        "{what}: {have} bytes in the payload, but {files} files of {read} bytes were read: this is a bug in Cato, please report it"
    )]
    Unaccounted {
        /// Which part of the payload.
        what: &'static str,
        /// Its bytes.
        have: u64,
        /// How many files it was made from.
        files: usize,
        /// Their bytes.
        read: u64,
    },
}

impl VerifyError {
    /// Its kind.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Size { .. } | Self::Sha256 { .. } => Cause::Verification,
            // Nothing in a file leads here.
            Self::Unchecked { .. } | Self::Unaccounted { .. } => Cause::Crash,
        }
    }
}

/// Checks every artefact of `payload`.
///
/// # Errors
/// Names the first artefact that is not what it has to be.
pub(crate) fn verify(payload: Payload) -> Result<Verified<Payload>, VerifyError> {
    payload.artefacts.iter().try_for_each(check)?;
    account(&payload)?;
    Ok(Verified(payload))
}

/// Size and digest of one file.
fn check(file: &Artefact) -> Result<(), VerifyError> {
    let (role, path) = (file.role, || file.path.clone());
    if file.read != file.size {
        return Err(VerifyError::Size {
            role,
            path: path(),
            size: file.size,
            read: file.read,
        });
    }
    match (file.wanted, file.sha256) {
        (None, _) => Ok(()),
        (Some(want), Some(got)) if want == got => Ok(()),
        (Some(want), Some(got)) => Err(VerifyError::Sha256 {
            role,
            path: path(),
            want,
            got,
        }),
        (Some(want), None) => Err(VerifyError::Unchecked {
            role,
            path: path(),
            want,
        }),
    }
}

/// Every part of the payload has its files, and every file its part.
fn account(payload: &Payload) -> Result<(), VerifyError> {
    let part = |what, bytes: Option<&[u8]>, of: fn(Role) -> bool, fits: fn(u64, u64) -> bool| {
        let files: Vec<&Artefact> = payload.artefacts.iter().filter(|a| of(a.role)).collect();
        let read = files.iter().fold(0_u64, |sum, a| sum.saturating_add(a.read));
        let have = bytes.map_or(0, |b| u64::try_from(b.len()).unwrap_or(u64::MAX));
        // Only an initrd is made from several files.
        let most = if what == "initrd" { usize::MAX } else { 1 };
        let explained = match bytes {
            None => files.is_empty(),
            Some(_) => (1..=most).contains(&files.len()) && fits(have, read),
        };
        explained.then_some(()).ok_or(VerifyError::Unaccounted {
            what,
            have,
            files: files.len(),
            read,
        })
    };
    // The kernel may have been unpacked, the initrds padded or taken out of U-Boot's header; the device tree is taken as it is.
    part(
        "kernel",
        Some(&payload.kernel.bytes),
        |role| role == Role::Kernel,
        |have, _| have > 0,
    )?;
    part(
        "initrd",
        payload.initrd.as_deref(),
        |role| matches!(role, Role::Initrd | Role::InitrdAt(_)),
        |have, _| have > 0,
    )?;
    part(
        "dtb",
        payload.dtb.as_deref(),
        |role| role == Role::Dtb,
        |have, read| have == read,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{Header, Image, Kernel};
    use config::Check;

    fn artefact(role: Role) -> Artefact {
        Artefact {
            role,
            path: format!("boot/{role}"),
            size: 8,
            read: 8,
            sha256: Some(Sha256([0x3f; 32])),
            wanted: Some(Sha256([0x3f; 32])),
        }
    }

    fn payload() -> Payload {
        Payload {
            kernel: Kernel {
                header: Header::Image(Image {
                    text_offset: 0,
                    image_size: 16,
                    anywhere: true,
                }),
                bytes: vec![1; 8].into(),
            },
            initrd: Some(vec![2; 16].into()),
            dtb: Some(vec![3; 8].into()),
            cmdline: "ro".into(),
            check: Check::default(),
            resident: None,
            notes: Vec::new(),
            arena: crate::load::ArenaKind::Segments(crate::load::WhyNot::Asked),
            artefacts: [Role::Kernel, Role::InitrdAt(0), Role::InitrdAt(1), Role::Dtb]
                .map(artefact)
                .to_vec(),
        }
    }

    #[test]
    fn what_was_read_whole_and_as_wanted_passes() {
        let checked = verify(payload()).unwrap();
        assert_eq!(checked.cmdline, "ro");
        let mut plain = payload();
        plain.initrd = None;
        plain.dtb = None;
        plain.artefacts.truncate(1);
        plain.artefacts[0].wanted = None;
        assert!(verify(plain).is_ok());
    }

    #[test]
    fn nothing_else_does() {
        type Spoil = fn(&mut Artefact);
        let spoils: [(Spoil, &str); 5] = [
            (
                |a| a.read = 7,
                "read 7 bytes, but the file had 8 when it was opened; copy it again",
            ),
            (
                |a| a.read = 9,
                "read 9 bytes, but the file had 8 when it was opened; copy it again",
            ),
            (
                |a| a.sha256 = Some(Sha256([0x77; 32])),
                "sha256 mismatch (want 3f3f.., got 7777..)",
            ),
            (
                |a| a.wanted = Some(Sha256([0; 32])),
                "sha256 mismatch (want 0000.., got 3f3f..)",
            ),
            (
                |a| a.sha256 = None,
                "sha256 required (3f3f..) but not computed: this is a bug in Cato, please report it",
            ),
        ];
        for which in 0..4 {
            for (spoil, text) in spoils {
                let mut payload = payload();
                spoil(&mut payload.artefacts[which]);
                let role = payload.artefacts[which].role;
                let error = verify(payload).unwrap_err().to_string();
                assert_eq!(error, format!("{role}: boot/{role}: {text}"));
            }
        }
    }

    #[test]
    fn the_digest_counts_to_its_last_bit() {
        for bit in 0..256 {
            let mut payload = payload();
            let mut digest = [0x3f; 32];
            digest[bit / 8] ^= 1 << (bit % 8);
            payload.artefacts[0].sha256 = Some(Sha256(digest));
            assert!(matches!(verify(payload), Err(VerifyError::Sha256 { .. })), "bit {bit}");
        }
    }

    #[test]
    fn every_part_has_its_files_and_every_file_its_part() {
        type Spoil = fn(&mut Payload);
        let spoils: [(Spoil, &str); 8] = [
            (|p| p.artefacts.retain(|a| a.role != Role::Kernel), "kernel"),
            (|p| p.artefacts.push(artefact(Role::Kernel)), "kernel"),
            (
                |p| p.artefacts.retain(|a| !matches!(a.role, Role::InitrdAt(_))),
                "initrd",
            ),
            (|p| p.initrd = None, "initrd"),
            (|p| p.initrd = Some(Vec::new().into()), "initrd"),
            (|p| p.artefacts.retain(|a| a.role != Role::Dtb), "dtb"),
            (|p| p.dtb = None, "dtb"),
            (|p| p.dtb = Some(vec![0; 9].into()), "dtb"),
        ];
        for (spoil, what) in spoils {
            let mut payload = payload();
            spoil(&mut payload);
            let error = verify(payload).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{what}: ")), "{error}");
        }
    }
}
