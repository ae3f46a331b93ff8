//! Runs a program as an ordinary user where this process is root.

use std::{os::unix::process::CommandExt, path::Path, process::Command};

/// A command that runs as another user where this process is root, and without the caller's `PG*`
/// variables.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = other_user() {
        command.uid(user).gid(group);
    }
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C");
    command
}

/// The user id and group id to run postgres with, if this process is root.
pub(crate) fn other_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    Some(user_ids(&users, "postgres").or_else(|| user_ids(&users, "nobody")).unwrap_or((65534, 65534)))
}

fn user_ids(passwd: &str, user: &str) -> Option<(u32, u32)> {
    let fields: Vec<&str> =
        passwd.lines().map(|line| line.split(':')).find(|line| line.clone().next() == Some(user))?.collect();
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_by_the_whole_user_name() {
        let passwd = "postgres2:x:7:8::/:/bin/sh\npostgres:x:101:104:,,,:/var:/bin/bash\n";
        assert_eq!(user_ids(passwd, "postgres"), Some((101, 104)));
        assert_eq!(user_ids(passwd, "nobody"), None);
    }
}
