//! The root file system of a container: one program and the libraries that it needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Context, Result};

/// What a program may look up.
const FILES: [&str; 2] = ["/etc/passwd", "/etc/group"];
const FOLDERS: [&str; 6] = ["dev", "proc", "sys", "run", "tmp", "etc"];

/// Creates the file system in a folder. The program has the same path in it.
pub(super) fn create(folder: &Path, program: &Path) -> Result<()> {
    for name in FOLDERS {
        let path = folder.join(name);
        fs::create_dir_all(&path).context(|| path.display().to_string())?;
    }
    let libraries = Command::new("ldd")
        .arg(program)
        .stdin(Stdio::null())
        .output()
        .context(|| "ldd".into())?;
    // A static program has none, which `ldd` reports as an error.
    let libraries = libraries_in(&String::from_utf8_lossy(&libraries.stdout));
    let files = FILES.iter().map(PathBuf::from);
    for file in libraries.into_iter().chain(files).chain([program.into()]) {
        copy(&file, folder)?;
    }
    Ok(())
}

fn copy(file: &Path, folder: &Path) -> Result<()> {
    let target = folder.join(file.strip_prefix("/").unwrap_or(file));
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).context(|| parent.display().to_string())?;
    }
    fs::copy(file, &target).context(|| file.display().to_string())?;
    Ok(())
}

/// The paths in lines `NAME => PATH (ADDRESS)` and `PATH (ADDRESS)`.
fn libraries_in(text: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let words = line.split_whitespace();
        words
            .filter(|word| word.starts_with('/'))
            .map(PathBuf::from)
            .next_back()
    };
    text.lines().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_the_output_of_ldd() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f0a)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f0b)\n";
        let want = [
            "/lib/x86_64-linux-gnu/libz.so.1",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(libraries_in(text), want.map(PathBuf::from));
        assert!(libraries_in("\tnot a dynamic executable\n").is_empty());
    }

    #[test]
    fn a_program_has_its_path_and_its_libraries() {
        let folder = tempfile::tempdir().unwrap();
        create(folder.path(), Path::new("/bin/true")).unwrap();
        for path in ["bin/true", "etc/passwd", "tmp"] {
            assert!(folder.path().join(path).exists(), "{path}");
        }
    }
}
