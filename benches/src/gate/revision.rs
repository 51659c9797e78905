//! The revisions that are compared, and their programs, built with the `dist` profile.
//!
//! A program is kept by a hash of the sources that it is built from and of the compiler. So two
//! commits with the same sources of the proxy share one program.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};

/// What the program is built from, as paths in the repository.
const SOURCES: [&str; 6] = [
    "proxy",
    "admin-api",
    "Cargo.lock",
    "Cargo.toml",
    "rust-toolchain.toml",
    ".cargo",
];
const PROGRAM: &str = "crossfade-proxy";

/// A state of the sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Revision {
    /// Its name in the table.
    pub(super) name: String,
    /// Its tree in git.
    tree: String,
}

/// The git repository.
#[derive(Debug)]
pub(super) struct Repository {
    root: PathBuf,
}

impl Repository {
    /// Finds the repository of the current folder.
    pub(super) fn find() -> Result<Self> {
        let root = output(Command::new("git").args(["rev-parse", "--show-toplevel"]))?;
        Ok(Self { root: root.into() })
    }

    /// The base, and the revision to compare with it: the working tree if files are changed,
    /// otherwise HEAD.
    pub(super) fn revisions(&self, base: &str) -> Result<(Revision, Revision)> {
        let head = self.revision("HEAD")?;
        let tree = self.working_tree()?;
        let this = match tree == head.tree {
            true => head,
            false => Revision {
                name: "working tree".into(),
                tree,
            },
        };
        Ok((self.revision(base)?, this))
    }

    /// The program of a revision. It is built if it is not in the cache.
    pub(super) fn program(&self, revision: &Revision, cache: &Path) -> Result<PathBuf> {
        let folder = cache.join(self.key(revision)?);
        let program = folder.join(PROGRAM);
        if program.is_file() {
            return Ok(program);
        }
        println!("gate: building {}", revision.name);
        let sources = cache.join("sources");
        self.extract(revision, &sources)?;
        let built = build(&sources, &cache.join("build"))?;
        fs::create_dir_all(&folder).context(|| folder.display().to_string())?;
        fs::copy(&built, &program).context(|| program.display().to_string())?;
        Ok(program)
    }

    /// A hash of the sources of a revision and of the compiler.
    pub(super) fn key(&self, revision: &Revision) -> Result<String> {
        let mut listing = self.git_with(&["ls-tree", &revision.tree, "--"], &SOURCES)?;
        listing.push_str(&output(
            Command::new("rustc").arg("-vV").current_dir(&self.root),
        )?);
        hash(listing.as_bytes())
    }

    fn revision(&self, name: &str) -> Result<Revision> {
        let commit = self.git(&[
            "rev-parse",
            "--short",
            "--verify",
            &format!("{name}^{{commit}}"),
        ])?;
        let tree = self.git(&["rev-parse", "--verify", &format!("{name}^{{tree}}")])?;
        Ok(Revision { name: commit, tree })
    }

    /// The tree of the working tree, with new files. It uses an index of its own.
    fn working_tree(&self) -> Result<String> {
        let folder = tempfile::tempdir().context(|| "a temporary folder".into())?;
        let index = folder.path().join("index");
        let own = self
            .root
            .join(self.git(&["rev-parse", "--git-path", "index"])?);
        fs::copy(&own, &index).context(|| own.display().to_string())?;
        let git = |arguments: &[&str]| {
            let mut command = self.command(arguments);
            output(command.env("GIT_INDEX_FILE", &index))
        };
        git(&["add", "--all"])?;
        git(&["write-tree"])
    }

    /// Extracts a revision, in place of an earlier one.
    fn extract(&self, revision: &Revision, folder: &Path) -> Result<()> {
        let context = || folder.display().to_string();
        if folder.exists() {
            fs::remove_dir_all(folder).context(context)?;
        }
        fs::create_dir_all(folder).context(context)?;
        let archive = folder.with_extension("tar");
        self.git_with(
            &["archive", "--output"],
            &[archive.as_os_str(), OsStr::new(&revision.tree)],
        )?;
        // With the present as their time: cargo builds what is newer than the last build.
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--touch", "--file"]).arg(&archive);
        output(tar.arg("--directory").arg(folder))?;
        fs::remove_file(&archive).context(|| archive.display().to_string())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.root).args(arguments);
        command
    }

    fn git(&self, arguments: &[&str]) -> Result<String> {
        output(&mut self.command(arguments))
    }

    fn git_with<T: AsRef<OsStr>>(&self, arguments: &[&str], more: &[T]) -> Result<String> {
        output(self.command(arguments).args(more))
    }
}

/// The compiler of the current folder, and the machine that it builds for.
pub(super) fn compiler() -> Result<String> {
    let text = output(Command::new("rustc").arg("-vV"))?;
    let version = text.lines().next().unwrap_or_default();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(format!("{version} for {}", host.unwrap_or_default()))
}

/// A hash of the running program, which counts the instructions.
pub(super) fn hash_of_this_program() -> Result<String> {
    let this = std::env::current_exe().context(|| "this program's path".into())?;
    hash(&fs::read(&this).context(|| this.display().to_string())?)
}

fn hash(bytes: &[u8]) -> Result<String> {
    let folder = tempfile::tempdir().context(|| "a temporary folder".into())?;
    let file = folder.path().join("bytes");
    fs::write(&file, bytes).context(|| file.display().to_string())?;
    let hash = output(
        Command::new("git")
            .args(["hash-object", "--no-filters"])
            .arg(&file),
    )?;
    Ok(hash.chars().take(16).collect())
}

/// Builds the proxy. Returns the path that cargo reports.
fn build(sources: &Path, target: &Path) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo
        .args([
            "build",
            "--profile",
            "dist",
            "--package",
            "proxy",
            "--bin",
            PROGRAM,
        ])
        .args(["--locked", "--message-format", "json-render-diagnostics"])
        .env("CARGO_TARGET_DIR", target)
        // They would replace the flags of the sources' .cargo/config.toml.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(sources)
        .stderr(Stdio::inherit());
    let messages = output(&mut cargo)?;
    executable(&messages).ok_or_else(|| Error::Program {
        name: "cargo build".into(),
        why: format!("no {PROGRAM} was built"),
    })
}

/// The program in cargo's messages, which are JSON objects, one on each line.
fn executable(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .find(|path| path.file_name() == Some(OsStr::new(PROGRAM)))
}

/// Runs a command, and returns its output without the last line break.
fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .context(|| name.clone())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned());
    }
    let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    Err(Error::Program {
        name: format!("{name} {}", arguments.join(" ")),
        why: String::from_utf8_lossy(&output.stderr)
            .trim_end()
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repository with a commit for each text of `proxy`.
    struct TestRepository {
        folder: tempfile::TempDir,
        repository: Repository,
    }

    impl TestRepository {
        fn new(texts: &[&str]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let repository = Repository {
                root: folder.path().to_owned(),
            };
            let test = Self { folder, repository };
            test.git(&["init", "--quiet"]);
            for text in texts {
                test.write("proxy", text);
                test.git(&["add", "--all"]);
                test.git(&[
                    "commit",
                    "--quiet",
                    "--allow-empty",
                    "--message",
                    "a change",
                ]);
            }
            test
        }

        fn git(&self, arguments: &[&str]) {
            let identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"];
            let arguments = [&identity, arguments].concat();
            self.repository.git(&arguments).unwrap();
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.folder.path().join(name), text).unwrap();
        }

        fn revisions(&self) -> (Revision, Revision) {
            self.repository.revisions("HEAD^").unwrap()
        }

        fn file(&self, revision: &Revision, path: &str) -> String {
            let file = format!("{}:{path}", revision.tree);
            self.repository.git(&["show", &file]).unwrap()
        }

        fn text(&self, revision: &Revision) -> String {
            self.file(revision, "proxy")
        }
    }

    #[test]
    fn head_is_compared_with_the_base() {
        let test = TestRepository::new(&["one", "two"]);
        let (base, this) = test.revisions();
        assert_eq!(test.text(&base), "one");
        assert_eq!(test.text(&this), "two");
    }

    #[test]
    fn changed_and_new_files_are_compared_with_the_base() {
        let test = TestRepository::new(&["one", "two"]);
        test.write("new", "file");
        let (base, this) = test.revisions();
        assert_eq!(test.text(&base), "one");
        assert_eq!(this.name, "working tree");
        assert_eq!(test.file(&this, "new"), "file");
        // The index of the repository is left as it was.
        let status = test.repository.git(&["status", "--porcelain"]).unwrap();
        assert_eq!(status, "?? new");
    }

    #[test]
    fn a_base_that_does_not_exist_is_named() {
        let test = TestRepository::new(&["one"]);
        let error = test.repository.revisions("HEAD^").unwrap_err().to_string();
        assert!(error.contains("HEAD^"), "{error}");
    }

    #[test]
    fn the_same_sources_have_the_same_key() {
        let test = TestRepository::new(&["one", "two"]);
        let (base, this) = test.revisions();
        let key = |revision| test.repository.key(revision).unwrap();
        assert_ne!(key(&base), key(&this));
        test.write("README.md", "no source");
        let (_, changed) = test.revisions();
        assert_eq!(key(&changed), key(&this));
    }

    #[test]
    fn a_revision_is_extracted_in_place_of_another() {
        let test = TestRepository::new(&["one", "two"]);
        let (base, this) = test.revisions();
        let folder = tempfile::tempdir().unwrap();
        let sources = folder.path().join("sources");
        for (revision, want) in [(&this, "two"), (&base, "one")] {
            test.repository.extract(revision, &sources).unwrap();
            let text = fs::read_to_string(sources.join("proxy")).unwrap();
            assert_eq!(text, want);
        }
    }

    #[test]
    fn the_program_is_found_in_cargos_messages() {
        let messages = concat!(
            "{\"reason\":\"compiler-artifact\",\"executable\":null}\n",
            "{\"reason\":\"compiler-artifact\",\"executable\":\"/t/dist/crossfade-proxy\"}\n",
            "not JSON\n",
        );
        assert_eq!(executable(messages), Some("/t/dist/crossfade-proxy".into()));
        assert_eq!(executable("{}"), None);
    }
}
