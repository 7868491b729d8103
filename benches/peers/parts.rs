//! This executable as another process, that owns its signals: the parts that it can play.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::SIGTERM;
use winddown::{ShutdownCoordinator, StopToken};

use crate::{idle, signals};

/// The argument before the name of the part.
pub(crate) const FLAG: &str = "--part";

/// Who handles the signals.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Winddown,
    Bare,
    SignalMod,
    Ctrlc,
}

impl Who {
    pub(crate) const ALL: [Self; 4] = [Self::Winddown, Self::Bare, Self::SignalMod, Self::Ctrlc];

    fn name(self) -> &'static str {
        match self {
            Self::Winddown => "winddown",
            Self::Bare => "bare",
            Self::SignalMod => "signal-mod",
            Self::Ctrlc => "ctrlc",
        }
    }
}

/// A process that plays a part; it does not outlive this.
pub(crate) struct Part {
    child: Child,
}

impl Part {
    pub(crate) fn start(part: &str, who: Who, args: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([FLAG, part, who.name()]).args(args);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child }
    }

    pub(crate) fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// The next line that it says.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.child.stdout.as_mut().unwrap();
        // It says one line, and nothing of the next can be lost with this buffer.
        BufReader::new(stdout).read_line(&mut line).unwrap();
        line
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Nothing happens where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `main` does in such a process.
pub(crate) fn play(args: &[String]) {
    let who = |name: &str| Who::ALL.into_iter().find(|who| who.name() == name).unwrap();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["latency", name, lookers, samples] => {
            let (lookers, samples) = (lookers.parse().unwrap(), samples.parse().unwrap());
            signals::latency(who(name), lookers, samples);
        }
        ["exit", name] => signals::exit(who(name)),
        ["idle", name, seconds] => idle::part(who(name), seconds.parse().unwrap()),
        _ => unreachable!("no such part: {args:?}"),
    }
}

/// Says a line to whoever started this process.
pub(crate) fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").unwrap();
    stdout.flush().unwrap();
}

/// Somebody who has been installed, and is gone when this is dropped; but for `Flag`.
pub(crate) enum Installed {
    Winddown(ShutdownCoordinator),
    Flag(Arc<AtomicBool>),
    SignalMod(signal_mod::Coordinator),
}

/// What sees the signal.
#[derive(Clone)]
pub(crate) enum Look {
    Winddown(StopToken),
    Flag(Arc<AtomicBool>),
    SignalMod(signal_mod::ShutdownToken),
}

impl Installed {
    pub(crate) fn new(who: Who) -> Self {
        match who {
            Who::Winddown => Self::Winddown(ShutdownCoordinator::install().unwrap()),
            Who::SignalMod => {
                let coordinator = signal_mod::Coordinator::builder().build();
                coordinator.install().unwrap();
                Self::SignalMod(coordinator)
            }
            Who::Bare => {
                let flag = Arc::new(AtomicBool::new(false));
                signal_hook::flag::register(SIGTERM, Arc::clone(&flag)).unwrap();
                Self::Flag(flag)
            }
            Who::Ctrlc => {
                let flag = Arc::new(AtomicBool::new(false));
                let set = Arc::clone(&flag);
                ctrlc::set_handler(move || set.store(true, Ordering::Release)).unwrap();
                Self::Flag(flag)
            }
        }
    }

    pub(crate) fn look(&self) -> Look {
        match self {
            Self::Winddown(coordinator) => Look::Winddown(coordinator.token()),
            Self::Flag(flag) => Look::Flag(Arc::clone(flag)),
            Self::SignalMod(coordinator) => Look::SignalMod(coordinator.token()),
        }
    }

    /// As if no signal had come.
    pub(crate) fn again(self, who: Who) -> Self {
        if let Self::Flag(flag) = &self {
            flag.store(false, Ordering::Release);
            return self;
        }
        drop(self);
        Self::new(who)
    }
}

impl Look {
    #[inline]
    pub(crate) fn is_stopped(&self) -> bool {
        match self {
            Self::Winddown(token) => token.is_stopped(),
            Self::Flag(flag) => flag.load(Ordering::Acquire),
            Self::SignalMod(token) => token.is_initiated(),
        }
    }
}
