//! A pseudo-terminal for a child: its keyboard, and all that was written to it.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::Command;

use nix::pty::{Winsize, openpty};
use nix::unistd::setsid;
use rustix::io::{FdFlags, fcntl_setfd};

use crate::process::{Process, Text, before_exec};

pub(crate) const CTRL_C: u8 = 0x03;

#[allow(dead_code, reason = "each test binary uses its own part")]
pub(crate) struct Pty {
    keyboard: File,
    /// Kept open, since a terminal that nobody has open is hung up.
    pub(crate) line: OwnedFd,
    pub(crate) screen: Text,
}

#[allow(dead_code, reason = "each test binary uses its own part")]
impl Pty {
    pub(crate) fn open() -> Self {
        Self::with_columns(100)
    }

    pub(crate) fn with_columns(columns: u16) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(Some(&size), None).unwrap();
        // A child gets the ends that it is given, as 0, 1 or 2, and no others.
        for end in [&pair.master, &pair.slave] {
            fcntl_setfd(end, FdFlags::CLOEXEC).unwrap();
        }
        let keyboard = File::from(pair.master);
        let screen = Text::read(keyboard.try_clone().unwrap());
        Self {
            keyboard,
            line: pair.slave,
            screen,
        }
    }

    /// In a session of its own, with this as the terminal whose Ctrl-C it gets, as after a login.
    pub(crate) fn start(&self, mut command: Command) -> Process {
        command
            .stdin(self.line.try_clone().unwrap())
            .stdout(self.line.try_clone().unwrap())
            .stderr(self.line.try_clone().unwrap());
        before_exec(&mut command, || {
            setsid()?;
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
            Ok(())
        });
        let mut process = Process::start(command);
        process.out = self.screen.clone();
        process
    }

    pub(crate) fn type_key(&mut self, key: u8) {
        self.keyboard.write_all(&[key]).unwrap();
    }
}
