//! `cargo xtask demo`: the whole thing once, for real. Builds components and host, starts the host with
//! the sandbox on a free loopback port, sends three orders through, shows their histories as they
//! grow, and what the payment gateway and the carrier did. Ends badly if an order does not end as told.
//!
//! [`server`] starts the host and stops it by its id, whatever ends the demo.

mod server;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use owo_colors::OwoColorize as _;
use serde_json::{Value, json};

use crate::step::{output, run_and_read, say};
use crate::{guests, place};
use server::Server;

/// How long one answer of the host may take.
const ANSWER: Duration = Duration::from_secs(30);

/// What the command takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    guests: guests::Args,

    /// Keep the data folder.
    #[arg(long)]
    keep: bool,

    /// Leave the host running until Ctrl-C, to try things yourself.
    #[arg(long)]
    keep_running: bool,
}

/// An order to send, and what will become of it.
struct Scenario {
    title: &'static str,
    payment_token: &'static str,
    postcode: &'static str,
    /// Whether the run completes; otherwise it fails, and what was done is undone.
    completes: bool,
}

const SCENARIOS: [Scenario; 3] = [
    Scenario {
        title: "a good order; the payment gateway fails once and is asked again",
        payment_token: "tok_flaky_1",
        postcode: "80331",
        completes: true,
    },
    Scenario {
        title: "the card is declined: the reservation is released",
        payment_token: "tok_declined",
        postcode: "80331",
        completes: false,
    },
    Scenario {
        title: "the carrier refuses the address after the payment: everything is undone",
        payment_token: "tok_ok",
        postcode: "REFUSED",
        completes: false,
    },
];

/// Runs the demonstration.
pub(crate) fn run(args: &Args) -> Result<()> {
    timed("the components are built", || guests::run(&args.guests))?;
    let binary = timed("the host is built", build_host)?;
    let component = place::components().join("order.wasm");
    ensure!(component.is_file(), "{} was not built", component.display());

    let server = timed("the host answers", || Server::start(&binary, args.keep))?;
    let demo = Demo { server, binary };
    heading("deploy the order workflows");
    demo.everfold(&["deploy"], &[&component])?;
    let mut orders = Vec::new();
    for scenario in &SCENARIOS {
        orders.push(demo.send(scenario)?);
    }
    demo.show_books()?;
    demo.replay(&orders[0], &component)?;
    demo.tell_what_next(args, &orders[2]);
    if args.keep_running {
        demo.server.run_until_interrupted();
    }
    demo.server.stop()
}

fn timed<T>(done: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    let value = step()?;
    say(format!("{done} ({:.1} s)", began.elapsed().as_secs_f64()));
    Ok(value)
}

fn heading(text: &str) {
    anstream::eprintln!("\n{}", format!("── {text} ──").cyan().bold());
}

/// Builds the host's binary and gives its path, wherever cargo put it.
fn build_host() -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--workspace", "--bin", "everfold", "--message-format=json-render-diagnostics"])
        .current_dir(place::root());
    let messages = run_and_read(&mut cargo)?;
    let mut executables = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_host = message["target"]["name"] == "everfold";
        message["executable"].as_str().filter(|_| is_host).map(PathBuf::from)
    });
    executables.next_back().context("cargo built no binary `everfold`")
}

struct Demo {
    server: Server,
    binary: PathBuf,
}

/// An order that was sent.
struct Sent {
    workflow_id: String,
}

impl Demo {
    /// The command line, talking to this demonstration's host and to no other.
    fn command(&self) -> Command {
        let mut command = server::clean(&self.binary);
        command.env("EVERFOLD_URL", self.server.url());
        command
    }

    fn everfold(&self, words: &[&str], paths: &[&Path]) -> Result<()> {
        anstream::eprintln!("{}", format!("$ everfold {} …", words.join(" ")).dimmed());
        let status = self.command().args(words).args(paths).status()?;
        ensure!(status.success(), "`everfold {}` failed ({status})", words.join(" "));
        Ok(())
    }

    /// Sends an order and shows its history until the run closes.
    fn send(&self, scenario: &Scenario) -> Result<Sent> {
        heading(scenario.title);
        let order = json!({
            "customer_id": 7,
            "items": [{ "sku": "book", "quantity": 2, "unit_price_cents": 1_250 }],
            "currency": "EUR",
            "payment_token": scenario.payment_token,
            "ship_to": { "name": "Ada", "country": "DE", "postcode": scenario.postcode },
        });
        anstream::eprintln!("{}", format!("POST /orders {order}").dimmed());
        let placed = self.post("/orders", &order)?;
        let text = |name: &str| {
            placed[name].as_str().map(str::to_owned).with_context(|| format!("no {name} in {placed}"))
        };
        let (order_id, workflow_id) = (text("order_id")?, text("workflow_id")?);
        anstream::eprintln!("{}", format!("$ everfold history {workflow_id} --follow").dimmed());
        let status = self.command().args(["history", &workflow_id, "--follow"]).status()?;
        let completed = match status.code() {
            Some(0) => true,
            Some(1) => false,
            _ => bail!("the history could not be followed ({status})"),
        };
        ensure!(
            completed == scenario.completes,
            "the run of this order should have {}",
            if scenario.completes { "completed" } else { "failed" }
        );
        let order = self.get(&format!("/orders/{order_id}"))?;
        anstream::eprintln!(
            "order {}: {}",
            order_id.dimmed(),
            order["status"].as_str().unwrap_or("?").bold()
        );
        Ok(Sent { workflow_id })
    }

    /// What the payment gateway and the carrier did.
    fn show_books(&self) -> Result<()> {
        heading("what the payment gateway and the carrier did, each effect once");
        let mut balance = 0;
        for path in ["/sandbox/payments", "/sandbox/shipments"] {
            let effects = self.get(path)?;
            let effects = effects.as_array().with_context(|| format!("{path} is no list: {effects}"))?;
            for effect in effects {
                let text = |name: &str| effect[name].as_str().unwrap_or_default();
                let cents = effect["amount_cents"].as_i64().unwrap_or_default();
                let amount = match text("kind") {
                    "charge" | "refund" => format!("{}.{:02}", cents / 100, cents % 100),
                    _ => String::new(),
                };
                match text("kind") {
                    "charge" => balance += cents,
                    "refund" => balance -= cents,
                    _ => {}
                }
                anstream::eprintln!(
                    "  {:<22} {amount:>8}  {}",
                    text("kind").bold(),
                    text("order_id").dimmed()
                );
            }
        }
        anstream::eprintln!("  charged less refunded: {}.{:02}", balance / 100, balance % 100);
        Ok(())
    }

    /// Replays a history offline, as anybody could on another machine.
    fn replay(&self, sent: &Sent, component: &Path) -> Result<()> {
        heading("export a history and replay it without the host");
        let exported = output(self.command().args(["export", &sent.workflow_id]))?;
        let file = self.server.data().join("history.json");
        std::fs::write(&file, exported)?;
        anstream::eprintln!("{}", "$ everfold replay history.json --with order.wasm".dimmed());
        let status = self.command().arg("replay").arg(&file).arg("--with").arg(component).status()?;
        ensure!(status.success(), "the replay did not hold ({status})");
        Ok(())
    }

    fn tell_what_next(&self, args: &Args, sent: &Sent) {
        heading("where to go next");
        if !args.keep_running {
            anstream::eprintln!(
                "  cargo xtask demo --keep-running    leaves the host up, so that you can try:"
            );
            anstream::eprintln!(
                "    everfold show ID                 how a run stands and what it waits for"
            );
            anstream::eprintln!(
                "    everfold history ID --follow     while you `kill -9` the host and start it again"
            );
            anstream::eprintln!("  cargo xtask test                   runs all tests");
            return;
        }
        let id = &sent.workflow_id;
        let binary = self.binary.display();
        anstream::eprintln!("  export EVERFOLD_URL={}", self.server.url());
        anstream::eprintln!("  {binary} show {id}");
        anstream::eprintln!("  {binary} export {id} > history.json");
        anstream::eprintln!("  {binary} replay history.json --with target/components/order.wasm");
        anstream::eprintln!(
            "  kill -9 {}    then start it again; it goes on where it was:",
            self.server.id()
        );
        anstream::eprintln!("  {}", self.server.command_line());
    }

    fn get(&self, path: &str) -> Result<Value> {
        let answer = server::agent(ANSWER).get(format!("{}{path}", self.server.url())).call();
        read("GET", path, answer)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let answer = server::agent(ANSWER).post(format!("{}{path}", self.server.url())).send_json(body);
        read("POST", path, answer)
    }
}

type Answer = Result<ureq::http::Response<ureq::Body>, ureq::Error>;

fn read(method: &str, path: &str, answer: Answer) -> Result<Value> {
    let mut answer = answer.with_context(|| format!("{method} {path}: no answer"))?;
    let body: Value = answer.body_mut().read_json().with_context(|| format!("{method} {path}: no JSON"))?;
    ensure!(answer.status().is_success(), "{method} {path}: {}: {body}", answer.status());
    Ok(body)
}
