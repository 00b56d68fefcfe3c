//! As whom clients log in.

use std::fmt;

/// A user and a password; a store may want either, both or none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
}

impl fmt::Debug for Login {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let login = Login {
            user: Some("quorate".to_owned()),
            password: Some("secret".to_owned()),
        };
        let shown = format!("{login:?}");
        assert!(
            shown.contains("quorate") && !shown.contains("secret"),
            "{shown}"
        );
    }
}
