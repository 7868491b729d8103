//! Shows the keys you press, and gives the terminal back whatever happens.
//!
//! `cargo run --example terminal`
//!
//! A program that puts the terminal into raw mode and then dies leaves a shell in which nothing
//! echoes. So the way back is an *emergency* hook: it runs like any other hook when the program
//! ends, and also when a second Ctrl-C ends a program that hangs. Press `h` to see that.
#![expect(clippy::print_stdout, reason = "an example speaks")]

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;
use std::{hint, thread};

use crossbeam_channel::{Receiver, select};
use rustix::stdio::stdin;
use rustix::termios::{
    LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use winddown::{HookOptions, ShutdownCoordinator, ShutdownHandle, Signal, StopReason};

fn main() -> ExitCode {
    ShutdownCoordinator::builder()
        // HUP as well: a terminal that went away is one more reason to end in order.
        .signals([Signal::INT, Signal::TERM, Signal::HUP])
        // Somebody sits in front of this and waits; 25 seconds are for servers.
        .grace_period(Duration::from_secs(5))
        .run(|shutdown| show_keys(shutdown))
}

fn show_keys(shutdown: &ShutdownHandle) -> Result<(), String> {
    let cooked = tcgetattr(stdin())
        .map_err(|error| format!("standard input is not a terminal ({error})"))?;
    let raw = raw_mode(&cooked);

    // The way back comes first: a signal between the two lines finds it registered, and cooking a
    // cooked terminal does no harm. The hook is one system call. It takes no lock, since on the
    // forced path the hung program may hold any.
    shutdown.hook_with(HookOptions::new("terminal").emergency(), move || {
        // `Now`, not `Drain`: a terminal stopped with Ctrl-S never drains.
        tcsetattr(stdin(), OptionalActions::Now, &cooked)
    });
    tcsetattr(stdin(), OptionalActions::Now, &raw)
        .map_err(|error| format!("no raw mode ({error})"))?;

    let token = shutdown.token();
    let told = token.on_stop(|reason| {
        if let StopReason::Signal(signal) = reason {
            // Not `println!`: it panics when the terminal is gone.
            let _ = writeln!(
                io::stdout(),
                "stopping: {signal}; a second Ctrl-C forces the end"
            );
        }
    });
    told.detach();

    println!("ready: press keys, q ends, h hangs, Ctrl-C stops");
    let keys = keys().map_err(|error| format!("no thread for the keys ({error})"))?;
    while !token.is_stopped() {
        select! {
            recv(token.receiver()) -> _ => {}
            recv(keys) -> key => match key {
                Ok(b'q') | Err(_) => break,
                Ok(b'h') => hang(),
                Ok(key) => writeln!(io::stdout(), "key {key:#04x} {:?}", char::from(key))
                    .map_err(|error| format!("cannot write ({error})"))?,
            },
        }
    }
    Ok(())
}

/// Raw, with three exceptions.
fn raw_mode(cooked: &Termios) -> Termios {
    let mut raw = cooked.clone();
    raw.make_raw();
    // ISIG stays on. Without it Ctrl-C is the byte 0x03, which only a program that still reads its
    // keys would notice; as a signal it also reaches one that hangs.
    raw.local_modes |= LocalModes::ISIG;
    // Of the keys that make signals only Ctrl-C is kept. Ctrl-Z and Ctrl-\ would leave a raw
    // terminal behind.
    raw.special_codes[SpecialCodeIndex::VSUSP] = libc::_POSIX_VDISABLE;
    raw.special_codes[SpecialCodeIndex::VQUIT] = libc::_POSIX_VDISABLE;
    // "\n" stays a new line: error messages and panics of the rest of the program know nothing of
    // raw mode.
    raw.output_modes |= OutputModes::OPOST;
    raw
}

/// Reads keys on a thread of its own.
///
/// A blocked `read` cannot be interrupted, so this thread is deliberately *not* registered with
/// `spawn`: the ending does not wait for it.
fn keys() -> io::Result<Receiver<u8>> {
    let (sender, keys) = crossbeam_channel::bounded(16);
    thread::Builder::new().name("keys".into()).spawn(move || {
        for key in io::stdin().lock().bytes().map_while(Result::ok) {
            if sender.send(key).is_err() {
                break;
            }
        }
    })?;
    Ok(keys)
}

/// What no program should do: a loop that never looks at its token.
fn hang() -> ! {
    println!("hanging");
    loop {
        hint::spin_loop();
    }
}
