//! Where the program runs: a tree, and what becomes of it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::process::Process;
use crate::{example, process};

/// No disk holds it and no processor gets through it while a test runs; as a file without content it costs nothing.
pub(crate) const ENDLESS: u64 = 1 << 40;

/// What to hash, and where the manifest goes.
pub(crate) const HASH_TREE: [&str; 3] = ["tree", "--out", "out"];

/// A directory to work in: the tree is `tree`, the manifest is `out`, both as the program is told them.
pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::in_directory(TempDir::new().unwrap())
    }

    /// For large files without content. In memory they are read without a page being kept; elsewhere the page cache
    /// fills with zeros, which takes most of the time.
    pub(crate) fn in_memory() -> Self {
        let directory = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new());
        Self::in_directory(directory.unwrap())
    }

    fn in_directory(directory: TempDir) -> Self {
        let place = Self { directory };
        fs::create_dir(place.tree()).unwrap();
        place
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.path("tree")
    }

    /// A file in the tree that was last written to a while ago, as most have been.
    pub(crate) fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.tree().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        age(&File::options().write(true).open(&path).unwrap());
    }

    /// A long file without content.
    pub(crate) fn sparse(&self, name: impl AsRef<Path>, length: u64) {
        let file = File::create(self.tree().join(name)).unwrap();
        file.set_len(length).unwrap();
        age(&file);
    }

    pub(crate) fn manifest(&self) -> Vec<u8> {
        fs::read(self.path("out")).unwrap()
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.path("out.partial").exists()
    }

    /// What lies here.
    pub(crate) fn names(&self) -> Vec<OsString> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap()
    }

    /// The program, to be run here with these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(example::binary("checksum"), arguments)
    }

    pub(crate) fn command_of(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
        let mut command = process::command(program);
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.path("stderr")).unwrap());
        command
    }

    /// The program that hashes the tree, with these options.
    pub(crate) fn hash(&self, options: &[&str]) -> Command {
        self.command(&[&HASH_TREE, options].concat())
    }

    pub(crate) fn start(&self, options: &[&str]) -> Process {
        Process::start(self.hash(options))
    }

    /// Runs to the end.
    pub(crate) fn complete(&self, options: &[&str]) -> Vec<u8> {
        let status = self.start(options).end();
        assert!(status.success(), "{status}: {}", self.stderr());
        assert!(
            !self.is_interrupted(),
            "a complete manifest has no side file"
        );
        self.manifest()
    }

    /// What the manifest must be, found by other means.
    pub(crate) fn expected(&self) -> Vec<u8> {
        let mut files = Vec::new();
        files_below(&self.tree(), Path::new("tree"), &mut files);
        files.sort();
        let mut manifest = Vec::new();
        for path in files {
            let digest = Sha256::digest(fs::read(self.path(&path)).unwrap());
            let name = path.as_bytes();
            if name.iter().any(|byte| b"\\\n\r".contains(byte)) {
                manifest.push(b'\\');
            }
            for byte in digest {
                write!(manifest, "{byte:02x}").unwrap();
            }
            manifest.extend_from_slice(b"  ");
            for byte in name {
                match byte {
                    b'\\' => manifest.extend_from_slice(br"\\"),
                    b'\n' => manifest.extend_from_slice(br"\n"),
                    b'\r' => manifest.extend_from_slice(br"\r"),
                    _ => manifest.push(*byte),
                }
            }
            manifest.push(b'\n');
        }
        manifest
    }

    /// `sha256sum` says that every line is true.
    pub(crate) fn assert_accepted(&self) {
        if self.manifest().is_empty() || !has("sha256sum") {
            return;
        }
        let checked = Command::new("sha256sum")
            .args(["--strict", "--quiet", "-c", "out"])
            .current_dir(self.directory.path())
            .output()
            .unwrap();
        assert!(checked.status.success(), "{checked:?}");
    }
}

fn files_below(directory: &Path, name: &Path, files: &mut Vec<OsString>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = name.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_below(&entry.path(), &name, files);
        } else if kind.is_file() {
            files.push(name.into_os_string());
        }
    }
}

/// The same for all: so no test can pass because of the modification time alone.
fn age(file: &File) {
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000))
        .unwrap();
}

pub(crate) fn lines(manifest: &[u8]) -> Vec<&[u8]> {
    manifest.split_inclusive(|byte| *byte == b'\n').collect()
}

/// Every line of an interrupted manifest is one of the complete one, in its order.
pub(crate) fn assert_part_of(part: &[u8], whole: &[u8]) {
    let mut whole = lines(whole).into_iter();
    for line in lines(part) {
        assert!(
            whole.any(|other| other == line),
            "{:?} is not in its place",
            String::from_utf8_lossy(line)
        );
    }
}

/// Small files, and enough large ones for a run to take some tenths of a second.
pub(crate) fn grove() -> Place {
    let place = Place::in_memory();
    for number in 0..200 {
        place.file(
            format!("{}/small {number}", number % 7),
            format!("{number}").repeat(number),
        );
    }
    for number in 0..24 {
        place.sparse(format!("{}/large {number}", number % 7), (8 << 20) + number);
    }
    place
}

/// A few files, and then one that never ends.
pub(crate) fn endless() -> (Place, Vec<u8>) {
    let place = Place::in_memory();
    for name in ["a", "b", "c/d"] {
        place.file(name, name);
    }
    let finished = place.expected();
    place.sparse("endless", ENDLESS);
    (place, finished)
}

fn has(tool: &str) -> bool {
    let found = Command::new(tool)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped, since there is no {tool} here");
    }
    found
}
