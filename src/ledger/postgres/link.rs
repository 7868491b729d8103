//! A connection, and transactions on it that end in time.
//!
//! 1. The wait ends here, by our clock, whatever becomes of the server or the network: then the
//!    connection is closed, and as the commit was never sent nothing has happened. The one
//!    exception, a commit without an answer, is told apart (`may_be_done`).
//! 2. It ends there a little earlier, by the server's timeouts: so who waits for a lock hears that
//!    it was a lock, and nothing stays locked by somebody who has been stopped in the middle.
//! 3. Nothing runs between two operations: no thread of ours, no timer.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout_at;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, IsolationLevel, NoTls};

use super::error::{Failure, Refusal};
use super::{Done, Turn};

/// How much earlier the server gives up than we do, at most: its answer has to be here in time, also
/// from a busy machine, or nobody knows that it was a lock that was waited for.
pub(super) const EARLIER: Duration = Duration::from_millis(250);

const LATE: &str = "no answer in time";

/// Where the server is.
pub(super) struct Address {
    config: Config,
    /// Without the password.
    name: String,
}

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self, Failure> {
        let Ok(mut config) = url.parse::<Config>() else {
            // What it is that does not fit may be a part of the password.
            let what = "this is no address of a PostgreSQL server";
            return Err(Failure::new("connect", Refusal::Other, &what));
        };
        if config.get_application_name().is_none() {
            config.application_name("winddown");
        }
        let ports = config.get_ports();
        let port = |place: usize| ports.get(place).or(ports.first()).copied().unwrap_or(5432);
        let hosts = config.get_hosts().iter().enumerate();
        let hosts = hosts.map(|(place, host)| match host {
            Host::Tcp(host) => format!("{host}:{}", port(place)),
            Host::Unix(path) => format!("{}:{}", path.display(), port(place)),
        });
        let name = hosts.collect::<Vec<_>>().join(",");
        Ok(Self { config, name })
    }

    pub(super) fn failure(&self, refusal: Refusal, message: &impl ToString) -> Failure {
        Failure::new(&self.name, refusal, message)
    }

    pub(super) fn connect(&self, until: Instant) -> Result<Link, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| self.failure(Refusal::Other, &error))?;
        let opened =
            runtime.block_on(async { timeout_at(until.into(), self.config.connect(NoTls)).await });
        // Before anything is returned: it may be dropped where nobody may block.
        let mut link = Link {
            runtime: Some(runtime),
            client: None,
        };
        match opened {
            Ok(Ok((client, connection))) => {
                if let Some(runtime) = &link.runtime {
                    drop(runtime.spawn(connection));
                }
                link.client = Some(client);
                Ok(link)
            }
            Ok(Err(error)) => Err(Failure::of(&self.name, &error, false)),
            Err(_late) => Err(self.failure(Refusal::Unreachable, &LATE)),
        }
    }
}

/// A connection.
pub(super) struct Link {
    /// Drives the connection, while somebody waits.
    runtime: Option<Runtime>,
    client: Option<Client>,
}

impl Link {
    pub(super) fn transact<T>(
        &mut self,
        address: &Address,
        until: Instant,
        is_again: bool,
        f: &impl AsyncFn(&Turn<'_>) -> Done<T>,
    ) -> Result<T, Failure> {
        let (Some(runtime), Some(client)) = (&self.runtime, &mut self.client) else {
            return Err(address.failure(Refusal::Unreachable, &"not connected"));
        };
        let is_committing = Cell::new(false);
        let transaction = async {
            let begin = client.build_transaction();
            let tx = begin
                .isolation_level(IsolationLevel::ReadCommitted)
                .read_only(false)
                .start()
                .await?;
            tx.batch_execute(&limits(until)).await?;
            let turn = Turn {
                tx,
                is_again,
                is_undone: Cell::new(false),
            };
            match f(&turn).await {
                Ok(done) if turn.is_undone.get() => {
                    let _ = turn.tx.rollback().await;
                    Ok(done)
                }
                Ok(done) => {
                    is_committing.set(true);
                    turn.tx.commit().await?;
                    Ok(done)
                }
                Err(error) => {
                    let _ = turn.tx.rollback().await;
                    Err(error)
                }
            }
        };
        match runtime.block_on(async { timeout_at(until.into(), transaction).await }) {
            Ok(done) => {
                done.map_err(|error| Failure::of(&address.name, &error, is_committing.get()))
            }
            Err(_late) => {
                let mut late = address.failure(Refusal::Unreachable, &LATE);
                late.may_be_done = is_committing.get();
                Err(late)
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A name that is still being looked up would be waited for; and within somebody's runtime
        // waiting is a panic.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The server's, for this transaction.
fn limits(until: Instant) -> String {
    let left = until.saturating_duration_since(Instant::now());
    let left = left.saturating_sub(EARLIER.min(left / 10)).as_millis();
    // None is for ever.
    let left = left.clamp(1, 86_400_000);
    format!(
        "SET LOCAL lock_timeout = {left}; SET LOCAL statement_timeout = {left}; \
         SET LOCAL idle_in_transaction_session_timeout = {left}"
    )
}
