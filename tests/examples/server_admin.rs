//! What `examples/server` shows of its shutdown: to a kubelet, to a script, to a person.

use std::env;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::process::{self, Process, until};
use crate::server::{Client, Server};
use crate::{FAR, example, start};

const GET: &str = "GET / HTTP/1.1\r\n\r\n";

/// Longer than the debounce window: what comes after it is a second signal (P7).
const DEBOUNCE: Duration = Duration::from_millis(400);

/// What a client asks for who wants to be somebody on the operator's page.
const HOSTILE: &str = "/?<script>document.title='owned'</script>&\"><b>";
const HARMLESS: &str =
    "/?&lt;script&gt;document.title=&#39;owned&#39;&lt;/script&gt;&amp;&quot;&gt;&lt;b&gt;";

struct Admin(SocketAddr);

struct Seen {
    status: u16,
    head: String,
    body: String,
}

impl Admin {
    /// A server with one.
    fn start(args: &[&str]) -> (Server, Self) {
        for _ in 0..5 {
            // Free now; by the time that the server asks for it, somebody else may have it.
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let addr = free.local_addr().unwrap();
            drop(free);
            let mut process = start("server", &[args, &["--admin", &addr.to_string()]].concat());
            until("the server to start", || {
                process.ended().is_some() || process.out.all().contains("\nlistening on ")
            });
            if process.ended().is_none() {
                return (Server::of(process), Self(addr));
            }
            process.err.line("cannot listen on");
        }
        panic!("no free port");
    }

    /// `None`: nobody answers any more.
    fn get(&self, path: &str, fields: &str) -> Option<Seen> {
        let mut stream = TcpStream::connect(self.0).ok()?;
        stream.set_read_timeout(Some(FAR)).unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{fields}\r\n",
            self.0
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some(Seen {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        })
    }

    fn see(&self, path: &str) -> Seen {
        self.get(path, "").expect("an answer")
    }

    /// A probe's status, and its word for people.
    fn says(&self, path: &str, status: u16, word: &str) {
        let seen = self.see(path);
        assert_eq!((seen.status, seen.body.trim_end()), (status, word));
    }

    fn waits_for_unready(&self) {
        until("the readiness to go", || self.see("/readyz").status != 200);
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.see("/shutdown.json").body).unwrap()
    }

    /// The snapshot in which `client` is seen to wait for the backend.
    fn json_with(&self, client: &Client) -> (Value, Value) {
        let name = format!("connection {}", client.local());
        let mut found = None;
        until("the request to be seen", || {
            let whole = self.json();
            let here = whole["holders"].as_array().unwrap().iter();
            let row = here.into_iter().find(|row| row["name"] == *name).cloned();
            found = row.map(|row| (whole, row));
            let said = found.as_ref().map(|(_, row)| &row["said"]["what"]);
            said.and_then(Value::as_str)
                .is_some_and(|what| what.ends_with("asks the backend"))
        });
        found.unwrap()
    }
}

#[test]
fn not_ready_comes_first_then_the_listener_and_liveness_stays() {
    let (mut server, admin) = Admin::start(&["--linger", "60", "--grace", "120"]);
    let page = format!("http://{}/shutdown", admin.0);
    assert!(server.process.out.all().contains(&page));
    admin.says("/readyz", 200, "ready");
    admin.says("/livez", 200, "ready");

    server.process.signal(Signal::SIGTERM);
    admin.waits_for_unready();
    admin.says("/readyz", 503, "lingering");
    admin.says("/livez", 200, "lingering");
    // Whoever comes now is served, and not sent away.
    let mut late = server.connect();
    let answer = late.ask(GET);
    assert_eq!((answer.status(), answer.connection()), (200, "keep-alive"));
    let lingers = admin.see("/shutdown").body;
    assert!(lingers.contains("The listener closes in "), "{lingers}");
    // Still: so all that was asked in between was answered during the linger.
    admin.says("/readyz", 503, "lingering");

    let mut half = server.connect();
    half.send("GET / HT");
    until("half a request to be seen", || {
        admin
            .see("/shutdown.txt")
            .body
            .contains("a part of a request")
    });
    thread::sleep(DEBOUNCE);
    server.process.signal(Signal::SIGTERM); // ends the linger
    server.refuses();
    admin.says("/readyz", 503, "draining");
    admin.says("/livez", 200, "draining");
    let answer = half.ask("TP/1.1\r\n\r\n");
    assert_eq!((answer.status(), answer.connection()), (200, "close"));

    assert_eq!(server.process.end().code(), Some(0));
    server.left_nothing_open();
    assert!(admin.get("/livez", "").is_none());
}

#[test]
fn liveness_is_there_as_long_as_the_process() {
    let (mut server, admin) = Admin::start(&["--work", "60000", "--grace", "2"]);
    let mut busy = server.connect();
    busy.send(GET);
    admin.json_with(&busy);
    server.process.signal(Signal::SIGTERM);
    let mut words = Vec::new();
    while let Some(seen) = admin.get("/livez", "") {
        let word = seen.body.trim_end().to_owned();
        // When the report is made, it has nothing left to do: whoever still finds it then may end
        // it.
        let expected = if word == "ended" { 503 } else { 200 };
        assert_eq!(seen.status, expected, "{word}");
        if words.last() != Some(&word) {
            words.push(word);
        }
    }
    assert!(words.contains(&"draining".to_owned()), "{words:?}");
    // Someone was left without an answer.
    assert_eq!(server.process.end().code(), Some(1));
}

#[test]
fn the_json_names_a_request_that_hangs() {
    let (server, admin) = Admin::start(&["--work", "60000", "--grace", "60"]);
    let running = admin.json();
    assert_eq!(running["phase"], "running");
    assert_eq!(running["holders"][0]["name"], "listener");

    let mut busy = server.connect();
    busy.send("GET /?slow HTTP/1.1\r\n\r\n");
    admin.json_with(&busy);
    server.process.signal(Signal::SIGTERM);
    server.refuses();
    let (whole, row) = admin.json_with(&busy);
    assert_eq!(whole["phase"], "draining");
    assert_eq!(whole["reason"]["signal"], "SIGTERM");
    assert!(whole["time_left_ms"].as_f64().unwrap() > 0.0, "{whole}");
    assert_eq!(row["kind"], "task");
    assert_eq!(row["said"]["what"], "GET /?slow: asks the backend");
    let place = &row["location"];
    let file = place["file"].as_str().unwrap();
    assert!(file.ends_with("examples/server/main.rs"), "{row}");
    let line = usize::try_from(place["line"].as_u64().unwrap()).unwrap();
    let source = example::source("server/main.rs");
    let line = source.lines().nth(line - 1).unwrap();
    assert!(line.contains(".spawn(format!(\"connection"), "{line}");
    if cfg!(target_os = "linux") {
        let state = row["thread"]["state"].as_str().unwrap();
        assert!(
            state.contains("recvfrom") && state.ends_with("a socket"),
            "{row}"
        );
    }
    let (_, later) = admin.json_with(&busy);
    let age = |row: &Value| row["age_ms"].as_f64().unwrap();
    assert!(age(&later) > age(&row), "{row} {later}");

    let asked = admin
        .get("/shutdown", "Accept: application/json\r\n")
        .unwrap();
    assert!(asked.head.contains("application/json"), "{}", asked.head);
    let asked: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(asked["phase"], "draining");
}

#[test]
fn a_page_shows_what_a_client_sent_as_text() {
    let (server, admin) = Admin::start(&["--work", "60000"]);
    let mut busy = server.connect();
    busy.send(&format!("GET {HOSTILE} HTTP/1.1\r\n\r\n"));
    let (_, row) = admin.json_with(&busy);
    assert_eq!(
        row["said"]["what"],
        format!("GET {HOSTILE}: asks the backend")
    );
    let page = admin.see("/shutdown");
    assert!(
        page.head.contains("text/html; charset=utf-8"),
        "{}",
        page.head
    );
    assert!(page.head.contains("no-store"), "{}", page.head);
    assert!(page.body.contains(HARMLESS), "{}", page.body);
    // Its own, and no other.
    assert_eq!(page.body.matches("<script").count(), 1, "{}", page.body);
    assert_eq!(page.body.matches("</script").count(), 1, "{}", page.body);
}

#[test]
fn says_what_there_is() {
    let (server, admin) = Admin::start(&[]);
    let elsewhere = admin.see("/");
    assert_eq!(elsewhere.status, 404);
    assert!(elsewhere.body.contains("/readyz"), "{}", elsewhere.body);
    // The probes are not on the other port.
    let mut client = server.connect();
    assert_eq!(client.ask("GET /livez HTTP/1.1\r\n\r\n").status(), 404);

    let taken = admin.0.to_string();
    let mut second = start("server", &["--admin", &taken]);
    assert_eq!(second.end().code(), Some(1));
    second.err.line(&format!("cannot listen on {taken}"));
    let mut nowhere = start("server", &["--admin", "127.0.0.1:0"]);
    assert_eq!(nowhere.end().code(), Some(2));
    nowhere.err.line("it needs a port of its own");
}

/// A browser that runs without a screen.
fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let path = env::var_os("PATH")?;
    let mut all = env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name)));
    all.find(|file| file.is_file())
}

/// The page as it stands after its script has looked a few times; `None` without a browser.
fn in_a_browser(addr: SocketAddr) -> Option<String> {
    let Some(browser) = browser() else {
        println!("skipped: there is no Chromium here");
        return None;
    };
    let profile = tempfile::tempdir().unwrap();
    let mut command = process::command(browser);
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args(["--virtual-time-budget=2000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("http://{addr}/shutdown"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut browser = Process::start(command);
    assert!(browser.end_by(FAR * 2, |_| {}).success());
    browser.out.last_line();
    Some(browser.out.all())
}

#[test]
fn a_browser_shows_who_is_still_here() {
    let (server, admin) = Admin::start(&["--linger", "60", "--grace", "120"]);
    server.process.signal(Signal::SIGTERM);
    admin.waits_for_unready();
    let half = server.connect();
    let name = format!("connection {}", half.local());
    until("the connection to be seen", || {
        admin.see("/shutdown.txt").body.contains(&name)
    });
    let Some(page) = in_a_browser(admin.0) else {
        return;
    };
    for seen in [
        &*format!("<bdi>{name}</bdi>"),
        "<title>lingering, 1 min ",
        "<h1>lingering",
        "role=\"progressbar\"",
        "left of 2 min 0 s",
        // By its script, which has brought it up to date.
        "<p id=\"seen\">as of ",
    ] {
        assert!(page.contains(seen), "no {seen:?} in {page}");
    }
}

#[test]
fn a_browser_says_that_the_process_has_gone() {
    let (server, admin) = Admin::start(&[]);
    let page = admin.see("/shutdown").body;
    drop(server);
    // Stands in for it, as it cannot end between two looks of a browser: the page, and then nothing.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let page = Arc::new(Mutex::new(Some(page)));
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let page = Arc::clone(&page);
            // Browsers connect ahead, and may have nothing to say.
            thread::spawn(move || {
                let asked = stream.read(&mut [0; 4096]).is_ok_and(|length| length > 0);
                if let Some(page) = asked.then(|| page.lock().unwrap().take()).flatten() {
                    let length = page.len();
                    let head = format!("Content-Type: text/html\r\nContent-Length: {length}");
                    let _ = write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n{page}");
                }
            });
        }
    });
    let Some(page) = in_a_browser(addr) else {
        return;
    };
    for seen in [
        "<title>no answer",
        "<body class=\"gone\">",
        "<p id=\"seen\">No answer: ",
        // What was seen last is still to be read.
        "<h1>running",
    ] {
        assert!(page.contains(seen), "no {seen:?} in {page}");
    }
}
