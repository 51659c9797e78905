//! Secrets are files, and a variable of each container says where each of its files is.

/// The variable that tells a container where it finds a secret: `DB_PASSWORD_FILE`.
pub(crate) fn variable_of(secret: &str) -> String {
    let name = secret.to_ascii_uppercase().replace(['-', '.'], "_");
    format!("{name}_FILE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_by_a_variable() {
        assert_eq!(variable_of("db-password"), "DB_PASSWORD_FILE");
        assert_eq!(variable_of("tls.key"), "TLS_KEY_FILE");
    }
}
