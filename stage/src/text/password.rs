//! The console's password: argon2id (RFC 9106), as a PHC string.

use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

/// The longest that is looked at, bytes.
pub(crate) const MOST: usize = 128;

/// Whether `typed` has this hash. Takes the time and memory that the hash asks for, within the bounds that `boot.toml` has for it.
pub(crate) fn fits(typed: &str, hash: &str) -> bool {
    typed.len() <= MOST && Argon2::default().verify_password(typed.as_bytes(), hash).is_ok()
}

/// The hash of `password` with this salt: 19 MiB, two passes, one lane, as OWASP's Password Storage Cheat Sheet has it.
pub(crate) fn hash(password: &str, salt: [u8; 16]) -> Option<String> {
    let params = Params::new(
        Params::DEFAULT_M_COST,
        Params::DEFAULT_T_COST,
        Params::DEFAULT_P_COST,
        None,
    )
    .ok()?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password_with_salt(password.as_bytes(), &salt).ok()?;
    Some(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_fits_its_hash_and_no_other_does() {
        let hash = hash("correct horse", [7; 16]).unwrap();
        assert!(fits("correct horse", &hash));
        assert!(!fits("correct horsf", &hash));
        assert!(!fits("correct horse", "$argon2id$v=19$m=8,t=1,p=1$AAAA$AAAA"));
        let config = format!(
            "version=1\norder=[\"a\"]\nentry.a={{source=\"/a\",kernel=\"k\"}}\n[console]\naccess=\"password\"\npassword={hash:?}"
        );
        let config = config::parse(&config).unwrap();
        assert_eq!(config.console.access, config::Access::Password(hash));
    }

    /// `echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -e` of the reference implementation (its README.md).
    #[test]
    fn a_hash_of_another_implementation_fits() {
        let hash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(fits("password", hash));
        assert!(!fits("passwore", hash));
    }
}
