//! Child processes that end with whoever started them, whatever thread that was on.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

type Birth = (Command, mpsc::Sender<io::Result<Child>>);

/// A thread that starts processes and lives as long as this does. Linux ties a
/// process's death signal to the thread that started it, and a test's thread
/// ends before what it shares with other tests.
pub(crate) struct Nursery(mpsc::Sender<Birth>);

impl Nursery {
    pub(crate) fn new() -> Self {
        let (births, queue) = mpsc::channel::<Birth>();
        thread::spawn(move || {
            for (mut command, born) in queue {
                // Whoever asked waits for it.
                let _ = born.send(command.spawn());
            }
        });
        Self(births)
    }

    /// Starts a process with its output in the file `log`.
    pub(crate) fn spawn(&self, mut command: Command, log: PathBuf) -> Process {
        let file = File::options().create(true).append(true).open(&log);
        let file = file.expect("a file for the log");
        let program = command.get_program().to_string_lossy().into_owned();
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file can be shared"))
            .stderr(file);
        // SAFETY: prctl is async-signal-safe, and the closure allocates nothing.
        unsafe {
            command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from))
        };
        let (born, birth) = mpsc::channel();
        self.0.send((command, born)).expect("the thread goes on");
        let child = birth.recv().expect("every birth is told of");
        let child = child.unwrap_or_else(|error| panic!("{program}: {error}"));
        Process { child, log }
    }
}

/// A temporary folder. It goes when this is dropped or this process ends in any
/// way: what is shared by all tests is never dropped.
pub(crate) struct Folder {
    path: PathBuf,
    janitor: Child,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let path = tempfile::tempdir().expect("a temporary folder").keep();
        let janitor = Command::new("sh")
            .args(["-c", "cat; rm -rf \"$0\""])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // An interrupt from the terminal is for this process alone.
            .process_group(0)
            .spawn();
        let janitor = janitor.expect("a shell");
        Self { path, janitor }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.janitor.stdin.take());
        // What it leaves is only untidy.
        let _ = self.janitor.wait();
    }
}

/// A running program, killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("Linux has no larger ones");
        kill(Pid::from_raw(pid), signal).expect("it has not been waited for");
    }

    /// Whether it has ended.
    pub(crate) fn ended(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child can be asked")
            .is_some()
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
