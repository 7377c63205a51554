//! Faults of the disk under load, in the real binary: a full disk, writes and flushes that fail, a write that
//! is done half, a disk that is slow.
//!
//! What was acknowledged is there in every case, and nothing recorded changes. A full disk heals without a
//! restart. Where the host cannot know what is on disk it ends with exit code 70, and the next one can.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and speak")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use support::disk::{Disk, FOR_EVER, Fault, ORDERS, ORDERS_LOG, STORE, STORE_LOG};
use support::load::{EVENTS, Load, assert_completed, assert_kept, histories, refusal};
use support::server::{Placed, Server, order};

/// Connections that start runs.
const SENDERS: usize = 8;
/// The exit code of a host that cannot go on.
const FATAL: i32 = 70;

/// The real binary on a disk that is well yet, and its folder.
async fn serve() -> (tempfile::TempDir, Disk, Server) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (disk, server) = serve_on(&data).await;
    (folder, disk, server)
}

async fn serve_on(data: &Path) -> (Disk, Server) {
    let disk = Disk::below(data);
    let server = Server::start_with(data, &disk.environment()).await;
    server.deploy("samples");
    (disk, server)
}

/// What `/readyz` refuses with; absent when the host is ready.
async fn unready(server: &Server) -> Option<Value> {
    let response = server.http.get(server.url("/readyz")).send().await.unwrap();
    if response.status() == 200 { None } else { refusal(response).await }
}

async fn place(server: &Server) -> Placed {
    server.order(&order("tok_ok", "10115")).await
}

fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_new_work_and_heals_without_a_restart() {
    let (_folder, disk, mut server) = serve().await;
    let load = Load::begin(&server, "run", SENDERS);
    load.is_acknowledged(20).await;
    let orders = join_all((0..10).map(|_| place(&server))).await;

    disk.fails(Fault::Full, STORE_LOG | STORE, 0, FOR_EVER);
    load.is_refused(50).await;
    let before = histories(&server, &load.acknowledged()).await;
    let problem = loop {
        if let Some(problem) = unready(&server).await {
            break problem;
        }
    };
    assert!(problem["detail"].as_str().unwrap().contains("full"), "{problem}");
    let refused =
        server.http.post(server.url("/orders")).json(&order("tok_ok", "10115")).send().await.unwrap();
    refusal(refused).await.unwrap();
    assert_eq!(server.get("/healthz").await["status"], "ok");
    // It tries again by itself, and says it once each time: a log that begins anew has room for a moment.
    disk.strikes(4).await;
    let log = server.log();
    let (refused, again) = ("the store cannot be written", "the store can be written again");
    let (refused, again) = (count(&log, refused), count(&log, again));
    assert!(refused > 0 && refused - again <= 1, "{log}");

    disk.heals();
    server.is_ready_again().await;
    server.says("the store can be written again").await;
    load.is_acknowledged(20).await;
    let ids = load.end().await;
    assert_completed(&server, &ids).await;
    assert_kept(&server, &before).await;
    for placed in &orders {
        assert_eq!(server.end(&placed.workflow_id).await["status"], "completed");
    }
    assert_effects_once(&server, orders.len()).await;
    let metrics = server.http.get(server.url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("everfold_refused_total{reason=\"store\"}"), "{metrics}");
}

/// Each order was paid and shipped once, by the keys of the effects.
async fn assert_effects_once(server: &Server, orders: usize) {
    for (path, kind) in [("/sandbox/payments", "charge"), ("/sandbox/shipments", "shipment")] {
        let effects = server.get(path).await;
        let effects = effects.as_array().unwrap();
        let keys: BTreeSet<_> =
            effects.iter().map(|effect| effect["idempotency_key"].as_str().unwrap()).collect();
        assert_eq!((effects.len(), keys.len()), (orders, orders), "{path}: {effects:?}");
        assert!(effects.iter().all(|effect| effect["kind"] == kind), "{effects:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_grow_begins_anew_while_the_database_has_room() {
    let (_folder, disk, mut server) = serve().await;
    let load = Load::begin(&server, "run", SENDERS);
    load.is_acknowledged(20).await;
    disk.fails(Fault::Full, STORE_LOG, 0, FOR_EVER);
    load.is_refused(1).await;
    // Nobody makes room: what is in the log goes into the database.
    load.is_acknowledged(20).await;
    disk.heals();
    let ids = load.end().await;
    assert_completed(&server, &ids).await;
    server.kill();
    server.restart().await;
    assert_completed(&server, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_does_not_fit_is_made_later() {
    let (_folder, disk, server) = serve().await;
    disk.fails(Fault::Full, STORE, 0, FOR_EVER);
    fill_the_log(&server).await;
    server.says("the write-ahead log cannot go into the database").await;
    // The log takes what comes; nobody notices.
    assert_eq!(unready(&server).await, None);
    disk.strikes(3).await;
    assert_eq!(count(&server.log(), "the write-ahead log cannot go into the database"), 1);
    let load = Load::begin(&server, "run", SENDERS);
    load.is_acknowledged(20).await;
    assert_eq!(load.refused(), 0);
    disk.heals();
    server.says("the write-ahead log goes into the database again").await;
    assert_completed(&server, &load.end().await).await;
}

/// Letters and digits that compression makes nothing of.
fn incompressible(length: usize) -> String {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = |_| {
        // xorshift64 (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from_digit((state >> 32) as u32 % 36, 36).unwrap()
    };
    (0..length).map(next).collect()
}

/// Starts runs with large inputs until a checkpoint is due.
async fn fill_the_log(server: &Server) {
    let input = incompressible(1_500_000);
    let start = |n: usize| {
        let body = json!({ "workflow_type": "echo", "workflow_id": format!("large-{n}"), "input": input });
        server.http.post(server.url("/api/v1/workflows")).json(&body).send()
    };
    for n in 0..24 {
        // The host may end with the checkpoint.
        let Ok(response) = start(n).await else { return };
        assert_eq!(response.status(), 201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_ends_the_host() {
    ends_and_goes_on(|disk| disk.fails(Fault::Write, STORE_LOG, 25, 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_fails_once_ends_the_host() {
    ends_and_goes_on(|disk| disk.fails(Fault::Flush, STORE_LOG, 5, 1)).await;
}

/// The host ends when the disk fails under load; the next one has everything that was acknowledged.
async fn ends_and_goes_on(fails: impl FnOnce(&Disk)) {
    let (_folder, disk, mut server) = serve().await;
    let load = Load::begin(&server, "run", SENDERS);
    load.is_acknowledged(20).await;
    let acknowledged = load.acknowledged();
    let before = histories(&server, &acknowledged).await;
    fails(&disk);
    assert_eq!(server.wait().code(), Some(FATAL));
    server.says("the host cannot go on").await;
    server.says("disk I/O error").await;
    let acknowledged = load.acknowledged();

    disk.heals();
    server.restart().await;
    assert_completed(&server, &acknowledged).await;
    assert_kept(&server, &before).await;
    load.is_acknowledged(20).await;
    assert_completed(&server, &load.end().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_of_a_checkpoint_that_fails_ends_the_host() {
    let (_folder, disk, mut server) = serve().await;
    disk.fails(Fault::Flush, STORE, 0, 1);
    fill_the_log(&server).await;
    assert_eq!(server.wait().code(), Some(FATAL));
    server.says("a flush of the database failed").await;
    server.restart().await;
    assert_eq!(server.end("large-0").await["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_done_half_is_as_good_as_none() {
    let (_folder, disk, mut server) = serve().await;
    for round in 0..3 {
        let load = Load::begin(&server, &format!("run-{round}"), SENDERS);
        load.is_acknowledged(20).await;
        // Another place in the log each time: a page, and the header before it.
        disk.fails(Fault::Torn, STORE_LOG, 10 + round, 1);
        disk.strikes(1).await;
        let acknowledged = load.acknowledged();
        server.kill();
        disk.heals();
        server.restart().await;
        assert_completed(&server, &acknowledged).await;
        assert_completed(&server, &load.end().await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_fail_are_told_and_no_run_is_lost() {
    let (_folder, disk, server) = serve().await;
    let load = Load::begin(&server, "run", SENDERS);
    load.is_acknowledged(20).await;
    let ids = load.end().await;
    assert_completed(&server, &ids).await;
    disk.fails(Fault::Read, STORE_LOG | STORE, 0, FOR_EVER);
    let looked = server.http.get(server.url(&format!("/api/v1/workflows/{}", ids[0]))).send().await.unwrap();
    let status = looked.status();
    let problem: Value = serde_json::from_str(&looked.text().await.unwrap()).unwrap();
    assert!(status == 200 || (status == 500 && problem["code"] == "internal"), "{status} {problem}");
    disk.heals();
    assert_completed(&server, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_makes_batches_larger_and_refuses_nothing() {
    let (_folder, disk, server) = serve().await;
    disk.flushes_take(Duration::from_millis(50));
    let (flushes, began) = (disk.flushes(), Instant::now());
    let load = Load::begin(&server, "run", 64);
    load.is_acknowledged(300).await;
    assert_eq!(load.refused(), 0);
    let ids = load.end().await;
    assert_completed(&server, &ids).await;
    let (flushes, decisions) = (disk.flushes() - flushes, (ids.len() * EVENTS / 2) as u64);
    assert!(flushes * 4 < decisions, "{flushes} flushes for {decisions} decisions in {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_orders_tables_refuses_orders_and_loses_none() {
    let (_folder, disk, server) = serve().await;
    server.order(&order("tok_ok", "10115")).await;
    disk.fails(Fault::Full, ORDERS_LOG | ORDERS, 0, FOR_EVER);
    // Those under way when it is noticed are on disk in their runs.
    let place = || server.http.post(server.url("/orders")).json(&order("tok_ok", "10115")).send();
    let mut placed = Vec::new();
    loop {
        let response = place().await.unwrap();
        if response.status() != 201 {
            let problem = refusal(response).await.unwrap();
            assert!(problem["detail"].as_str().unwrap().contains("order database"), "{problem}");
            break;
        }
        let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        placed.push(body);
    }
    assert!(!placed.is_empty(), "the first one is on disk in its run");
    // Runs of other types know nothing of it.
    assert_eq!(unready(&server).await, None);
    disk.heals();
    for placed in &placed {
        let id = placed["workflow_id"].as_str().unwrap();
        assert_eq!(server.end(id).await["status"], "completed");
    }
    // Their rows are written once the file takes them again.
    let deadline = Instant::now() + support::PATIENCE;
    loop {
        let listed = server.get("/orders").await;
        if listed["orders"].as_array().unwrap().len() == 1 + placed.len() {
            break;
        }
        assert!(Instant::now() < deadline, "{listed}");
    }
    server.order(&order("tok_ok", "10115")).await;
}
