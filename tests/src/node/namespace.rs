//! A network namespace: a thread that lives in it and runs what it is given.

use std::any::Any;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::thread::{self, JoinHandle};

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use rtnetlink::LinkUnspec;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

type Job = Box<dyn FnOnce() -> LocalBoxFuture<'static, ()> + Send>;
type Outcome<T> = Result<T, Box<dyn Any + Send>>;

/// A network namespace of its own, with `lo` up.
///
/// It ends when this is dropped: its futures are dropped, its processes killed.
pub struct Namespace {
    /// `None` only while being dropped.
    jobs: Option<mpsc::UnboundedSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Namespace {
    /// # Errors
    /// `PermissionDenied` names what is missing.
    pub fn new() -> io::Result<Self> {
        let (jobs, queue) = mpsc::unbounded_channel();
        let (started, start) = std::sync::mpsc::channel();
        let thread = thread::Builder::new()
            .name("namespace".into())
            .spawn(move || {
                match enter_new() {
                    Ok(runtime) => {
                        // The starter waits below.
                        let _ = started.send(Ok(()));
                        LocalSet::new().block_on(&runtime, serve(queue));
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                }
            })?;
        let namespace = Self {
            jobs: Some(jobs),
            thread: Some(thread),
        };
        start.recv().map_err(io::Error::other)??;
        Ok(namespace)
    }

    /// Runs a future in the namespace and returns what it returns; a panic
    /// goes on in the caller. Dropping the returned future drops the work.
    ///
    /// Sockets made in there stay in the namespace and can be returned. The
    /// futures of one namespace share one thread, so none may block.
    pub async fn run<F, T>(&self, work: F) -> T
    where
        F: AsyncFnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (mut done, result) = oneshot::channel::<Outcome<T>>();
        let job: Job = Box::new(move || {
            async move {
                let work = AssertUnwindSafe(work()).catch_unwind();
                tokio::select! {
                    outcome = work => drop(done.send(outcome)),
                    () = done.closed() => {}
                }
            }
            .boxed_local()
        });
        let jobs = self.jobs.as_ref().expect("only drop takes it");
        jobs.send(job).expect("the thread runs until drop");
        match result.await.expect("a job ends by sending its outcome") {
            Ok(value) => value,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Starts a process in the namespace. It is killed when the child or the
    /// namespace is dropped, or this process ends in any way.
    pub async fn spawn(&self, mut command: Command) -> io::Result<Child> {
        command.kill_on_drop(true);
        // SAFETY: prctl is async-signal-safe, and the closure allocates nothing.
        unsafe {
            command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from))
        };
        self.run(async move || command.spawn()).await
    }

    /// The namespace as a file: what `setns` takes, or a link that is to move in.
    pub(super) async fn file(&self) -> io::Result<File> {
        self.run(async || File::open("/proc/thread-self/ns/net"))
            .await
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs = None;
        let thread = self.thread.take().expect("only drop takes it");
        // A namespace that its own work drops cannot wait for itself.
        if thread.thread().id() != thread::current().id() {
            // A panic outside of all jobs has been printed by its thread.
            let _ = thread.join();
        }
    }
}

/// A netlink handle for the network namespace of the calling task, for use in
/// [`Namespace::run`]. It fails every request once the namespace has gone.
pub fn netlink() -> io::Result<rtnetlink::Handle> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::task::spawn_local(connection);
    Ok(handle)
}

/// Moves the calling thread into a new namespace, with `lo` up.
fn enter_new() -> io::Result<tokio::runtime::Runtime> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| match error {
        Errno::EPERM => io::Error::new(
            io::ErrorKind::PermissionDenied,
            "network namespaces need CAP_SYS_ADMIN: run as root, or under `unshare -rn`",
        ),
        other => other.into(),
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        let up = LinkUnspec::new_with_name("lo").up().build();
        netlink()?
            .link()
            .change(up)
            .execute()
            .await
            .map_err(io::Error::other)
    })?;
    Ok(runtime)
}

/// Runs jobs side by side until nobody can send more; dropping the rest is
/// what ends them.
async fn serve(mut queue: mpsc::UnboundedReceiver<Job>) {
    while let Some(job) = queue.recv().await {
        // It catches its own panics and reports them to whoever waits for it.
        tokio::task::spawn_local(job());
    }
}
