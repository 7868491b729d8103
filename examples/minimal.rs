//! The smallest program that ends well: run it, let it count, press Ctrl-C.
//!
//! `cargo run --example minimal`
#![expect(clippy::print_stdout, reason = "an example speaks")]

use std::{io, process::ExitCode, time::Duration};
use winddown::ShutdownCoordinator;

fn main() -> ExitCode {
    ShutdownCoordinator::builder().run(|shutdown| {
        shutdown.hook("lights", || println!("lights out"));

        let token = shutdown.token();
        let mut n = 0_u32;
        while !token.is_stopped() {
            n += 1;
            println!("round {n}");
            let _ = token.sleep(Duration::from_secs(1)); // ends early at the stop
        }
        Ok::<_, io::Error>(())
    })
}
