//! An HTTP service on axum that ends with every answer given.
//!
//! ```text
//! cargo run --features tokio --example axum_server -- --addr 127.0.0.1:8080 --admin 127.0.0.1:8081
//! curl http://127.0.0.1:8080/hello
//! curl http://127.0.0.1:8081/readyz
//! ```
//!
//! At `SIGTERM` the readiness goes, and for a while (`--linger`) requests are still accepted: load
//! balancers are told late. Then the listener closes, what is in flight is answered, the meter takes
//! its last reading, and a hook that is a future closes the pool that the requests shared. Ctrl-C
//! does the same without the linger. What is not done within `--grace` is left behind, by name.

use std::future::IntoFuture as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::yield_now;
use tokio::time::{interval, sleep};
use tracing::info;
use winddown::{FutureExt as _, ShutdownCoordinator, ShutdownHandle, StopToken, Stopped};

/// An HTTP service on axum that ends with every answer given
#[derive(Parser)]
struct Args {
    /// Address of the service; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    addr: SocketAddr,
    /// Address of /livez, /readyz and /shutdown: open to the end, and not for the public network
    #[arg(long, default_value = "127.0.0.1:0")]
    admin: SocketAddr,
    /// Seconds that the ending may take, from the signal on; the linger is a part of them
    #[arg(long, default_value = "25", value_parser = seconds)]
    grace: Duration,
    /// Seconds to go on accepting after SIGTERM, with /readyz at 503
    #[arg(long, default_value = "5", value_parser = seconds)]
    linger: Duration,
    /// Seconds that a query takes
    #[arg(long, default_value = "0.02", value_parser = seconds)]
    work: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    ShutdownCoordinator::builder()
        .grace_period(args.grace)
        .linger(args.linger)
        .run_async(|shutdown| serve(shutdown, args))
}

#[derive(Clone)]
struct Service {
    shutdown: ShutdownHandle,
    pool: Arc<Pool>,
    answered: Arc<AtomicU64>,
    work: Duration,
}

async fn serve(shutdown: ShutdownHandle, args: Args) -> io::Result<()> {
    let service = Service {
        shutdown: shutdown.clone(),
        pool: Arc::new(Pool::open(16)),
        answered: Arc::default(),
        work: args.work,
    };
    // Hooks run when all that is registered has ended: by then nobody uses the pool any more.
    let pool = Arc::clone(&service.pool);
    shutdown.hook_async("pool", async move { pool.close().await });
    let answered = Arc::clone(&service.answered);
    shutdown
        .spawn_async_vital("meter", |token| meter(answered, token))
        .map_err(io::Error::other)?;

    // A bare task, which the drain does not wait for: probes are answered until the process ends.
    let admin = TcpListener::bind(args.admin).await?;
    say(&format!("probes on {}", admin.local_addr()?))?;
    tokio::spawn(axum::serve(admin, probes(shutdown.clone())).into_future());

    let listener = TcpListener::bind(args.addr).await?;
    say(&format!("listening on {}", listener.local_addr()?))?;
    let app = Router::new().fallback(answer).with_state(service);
    let token = shutdown.token();
    // At the stop it closes the listener, and returns when the last connection has gone: this is
    // the owner, for which the drain waits.
    axum::serve(listener, app)
        .with_graceful_shutdown(async move { drop(token.stopped().await) })
        .await
}

async fn answer(State(service): State<Service>, uri: Uri) -> Response {
    let path = uri.path();
    // Has a name in the snapshot, and in the report where it has to be left behind. None after the
    // stop: a request that was on its way by then is covered by the server's own future.
    let _hold = service.shutdown.hold(format!("GET {path}")).ok();
    info!("GET {path}");
    let Some(connection) = service.pool.get().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let found = connection.query(path, service.work).await;
    service.answered.fetch_add(1, Ordering::Relaxed);
    if service.shutdown.readiness().is_ready() {
        found.into_response()
    } else {
        // A client that keeps its connection is to open the next one elsewhere.
        ([(header::CONNECTION, "close")], found).into_response()
    }
}

/// For the kubelet, the load balancer, and whoever wants to know what it still waits for.
fn probes(shutdown: ShutdownHandle) -> Router {
    let status = |good| {
        if good {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    let ready = async move |State(shutdown): State<ShutdownHandle>| {
        let readiness = shutdown.readiness();
        (status(readiness.is_ready()), format!("{readiness}\n"))
    };
    let live = async move |State(shutdown): State<ShutdownHandle>| status(shutdown.is_live());
    let snapshot =
        async |State(shutdown): State<ShutdownHandle>| format!("{}\n", shutdown.snapshot());
    Router::new()
        .route("/readyz", get(ready))
        .route("/livez", get(live))
        .route("/shutdown", get(snapshot))
        .with_state(shutdown)
}

/// Says every second how much there was to do, and at the stop once more.
async fn meter(answered: Arc<AtomicU64>, token: StopToken) -> Result<(), Stopped> {
    let mut second = interval(Duration::from_secs(1));
    loop {
        let stopped = second.tick().until_stopped(&token).await;
        info!("{} answered", answered.swap(0, Ordering::Relaxed));
        stopped?;
    }
}

/// Connections to a database, or what stands for one here.
struct Pool {
    size: usize,
    free: Arc<Semaphore>,
}

impl Pool {
    fn open(size: usize) -> Self {
        let free = Arc::new(Semaphore::new(size));
        Self { size, free }
    }

    /// `None`: the pool is closed.
    async fn get(&self) -> Option<Connection> {
        let free = Arc::clone(&self.free);
        free.acquire_owned().await.ok().map(Connection)
    }

    /// Says goodbye on each connection that is there. One that a hung request has kept is not waited
    /// for.
    async fn close(&self) -> io::Result<()> {
        self.free.close();
        let there = self.free.available_permits();
        for _ in 0..there {
            yield_now().await;
        }
        let in_use = self.size - there;
        say(&format!("pool closed, {in_use} still in use"))
    }
}

struct Connection(#[expect(dead_code, reason = "given back by its drop")] OwnedSemaphorePermit);

impl Connection {
    async fn query(&self, path: &str, takes: Duration) -> String {
        sleep(takes).await;
        // Long enough to be cut in half by a server that does not wait.
        format!("you asked for {path}\n").repeat(1000)
    }
}

/// Not `println!`, which panics when nobody reads any more.
fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}
