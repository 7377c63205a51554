//! The real binary in a process of its own: started, killed, started again on the same folder.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{PATIENCE, root};

/// A served data folder.
pub struct Server {
    child: Child,
    folder: PathBuf,
    port: u16,
    environment: Vec<(String, String)>,
    /// Bytes of the log that were there before the last start.
    said_before: usize,
    pub http: reqwest::Client,
}

impl Server {
    /// Serves `folder` with the sandbox on a free loopback port and deploys the order component.
    pub async fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[]).await
    }

    /// The same with variables in the server's environment.
    pub async fn start_with(folder: &Path, environment: &[(&str, &str)]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let http =
            reqwest::Client::builder().timeout(PATIENCE).tls_certs_only([]).no_proxy().build().unwrap();
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let child = spawn(folder, port, &environment);
        let mut server = Self { child, folder: folder.to_owned(), port, environment, said_before: 0, http };
        server.ready().await;
        let deployed =
            server.everfold(&["deploy", root().join("target/components/order.wasm").to_str().unwrap()]);
        assert!(deployed.status.success(), "{}", text(&deployed));
        server
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Kills the process as a power cut does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to stop.
    pub fn terminate(&self) {
        let killed = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().unwrap();
        assert!(killed.success());
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory of the process that the kernel cannot take back, in bytes: without what is mapped of files.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Deploys a built component.
    pub fn deploy(&self, name: &str) {
        let path = root().join("target/components").join(name).with_extension("wasm");
        let deployed = self.everfold(&["deploy", path.to_str().unwrap()]);
        assert!(deployed.status.success(), "{}", text(&deployed));
    }

    /// Waits until the process takes requests, or for its end.
    pub async fn is_ready_again(&mut self) {
        self.ready().await;
    }

    /// Waits for the process's end.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Waits until a line of the log since the last start contains `text`.
    pub async fn says(&self, text: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.log()[self.said_before..].contains(text) {
            assert!(tokio::time::Instant::now() < deadline, "`{text}` is not in the log: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Serves the same folder on the same port again.
    pub async fn restart(&mut self) {
        self.said_before = self.log().len();
        self.child = spawn(&self.folder, self.port, &self.environment);
        self.ready().await;
    }

    /// Runs the command line against this server.
    pub fn everfold(&self, arguments: &[&str]) -> Output {
        command().args(arguments).env("EVERFOLD_URL", self.url("")).stdin(Stdio::null()).output().unwrap()
    }

    /// Gets JSON; the server must be there.
    pub async fn get(&self, path: &str) -> Value {
        let response = self.http.get(self.url(path)).send().await.unwrap();
        let (status, body) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "GET {path}: {status} {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Places an order that must be accepted; gives its ids.
    pub async fn order(&self, order: &Value) -> Placed {
        let response = self.http.post(self.url("/orders")).json(order).send().await.unwrap();
        let (status, body) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, 201, "{body}");
        Placed::from_json(&serde_json::from_str(&body).unwrap())
    }

    /// Waits for a run's end.
    pub async fn end(&self, workflow_id: &str) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE * 2;
        loop {
            let result = self.get(&format!("/api/v1/workflows/{workflow_id}/result?wait=20s")).await;
            if result["status"] != "running" {
                return result;
            }
            assert!(tokio::time::Instant::now() < deadline, "{workflow_id} does not end");
        }
    }

    /// The types of the activities that a run scheduled, in order.
    pub async fn scheduled(&self, workflow_id: &str) -> Vec<String> {
        let history = self.get(&format!("/api/v1/workflows/{workflow_id}/history")).await;
        let events = history["events"].as_array().unwrap();
        let of = |event: &Value| event["attributes"]["activity_type"].as_str().map(str::to_owned);
        events.iter().filter(|event| event["type"] == "ActivityScheduled").filter_map(of).collect()
    }

    async fn ready(&mut self) {
        for _ in 0..600 {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", self.log());
            }
            if self.http.get(self.url("/readyz")).send().await.is_ok_and(|answer| answer.status() == 200) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server does not get ready: {}", self.log());
    }

    /// Everything that it has logged, over all its processes.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_file(&self.folder)).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(4_000);
            eprintln!(
                "--- the end of the server's log\n{}",
                String::from_utf8_lossy(&log.as_bytes()[from..])
            );
        }
    }
}

/// An accepted order.
#[derive(Clone, Debug)]
pub struct Placed {
    pub order_id: String,
    pub workflow_id: String,
}

impl Placed {
    pub fn from_json(body: &Value) -> Self {
        let of = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("{name} in {body}")).to_owned();
        Self { order_id: of("order_id"), workflow_id: of("workflow_id") }
    }
}

/// An order of two books for 25.00, steered by its token and postcode.
pub fn order(payment_token: &str, postcode: &str) -> Value {
    json!({
        "customer_id": 100,
        "items": [{ "sku": "book", "quantity": 2, "unit_price_cents": 1_250 }],
        "currency": "EUR",
        "payment_token": payment_token,
        "ship_to": { "name": "Ada", "country": "DE", "postcode": postcode },
    })
}

/// What a command printed.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The binary under test.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everfold"));
    command.env("NO_COLOR", "1");
    command
}

fn log_file(folder: &Path) -> PathBuf {
    folder.with_extension("log")
}

fn spawn(folder: &Path, port: u16, environment: &[(String, String)]) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log_file(folder)).unwrap();
    command()
        .args(["serve", "--sandbox", "--listen", &format!("127.0.0.1:{port}"), "--data"])
        .arg(folder)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}
