//! A rollout under a constant stream of orders, with the real binary: a new version is deployed, gets a
//! tenth of the orders, half of them, all of them, and is rolled back. No request fails, and every order
//! ends on the version that it began with.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and speak")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use everfold_core::ids::{Digest, WorkflowId};
use everfold_core::route::{Percent, Route};
use futures::future::join_all;
use serde_json::Value;
use support::server::{Server, order, text};
use support::{PATIENCE, component};

/// Orders under way at once.
const STREAMS: usize = 6;
/// Orders of each phase that count.
const ORDERS: usize = 120;

/// The phases, and the share of the new version in each.
const PHASES: [u8; 5] = [0, 10, 50, 100, 0];
/// The orders end; above it are the moments between two phases.
const OVER: u8 = 5;

/// An order, and the phase in which it was both asked for and accepted.
struct Seen {
    phase: Option<usize>,
    workflow_id: String,
}

/// Places orders one after the other until the last phase is over.
async fn stream(server: Arc<Server>, phase: Arc<AtomicU8>, counts: Arc<[AtomicUsize; 5]>) -> Vec<Seen> {
    let mut seen = Vec::new();
    loop {
        let before = phase.load(Ordering::SeqCst);
        if before == OVER {
            return seen;
        }
        let placed = server.order(&order("tok_ok", "10115")).await;
        let after = phase.load(Ordering::SeqCst);
        let phase = (before == after).then_some(usize::from(before)).filter(|phase| *phase < PHASES.len());
        if let Some(phase) = phase {
            counts[phase].fetch_add(1, Ordering::SeqCst);
        }
        seen.push(Seen { phase, workflow_id: placed.workflow_id });
    }
}

fn everfold(server: &Server, arguments: &[&str]) {
    let output = server.everfold(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
}

/// The version on which an order's run began, and the one that it is on, once it has ended.
async fn versions_of(server: &Server, workflow_id: &str) -> (Digest, Digest) {
    assert_eq!(server.end(workflow_id).await["status"], "completed", "{workflow_id}");
    let described = server.get(&format!("/api/v1/workflows/{workflow_id}")).await;
    let history = server.get(&format!("/api/v1/workflows/{workflow_id}/history")).await;
    let digest = |value: &Value| serde_json::from_value(value.clone()).unwrap();
    (digest(&history["events"][0]["attributes"]["digest"]), digest(&described["digest"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_ends_on_the_version_that_it_began_with() {
    let folder = tempfile::tempdir().unwrap();
    let server = Arc::new(Server::start(&folder.path().join("data")).await);
    let types = server.get("/api/v1/workflow-types/order-saga").await;
    let old: Digest = serde_json::from_value(types["versions"][0]["digest"].clone()).unwrap();

    let (phase, counts) =
        (Arc::new(AtomicU8::new(0)), Arc::new(std::array::from_fn(|_| AtomicUsize::new(0))));
    let streams: Vec<_> = (0..STREAMS)
        .map(|_| tokio::spawn(stream(Arc::clone(&server), Arc::clone(&phase), Arc::clone(&counts))))
        .collect();
    let enough = async |number: usize| {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while counts[number].load(Ordering::SeqCst) < ORDERS {
            assert!(tokio::time::Instant::now() < deadline, "phase {number}: no orders come");
            tokio::task::yield_now().await;
        }
    };
    // A phase begins when its route stands; what was under way meanwhile belongs to none.
    let next = |number: u8, arguments: &[&str]| {
        phase.store(u8::MAX - number, Ordering::SeqCst);
        everfold(&server, arguments);
        phase.store(number, Ordering::SeqCst);
    };

    enough(0).await;
    let new_file = folder.path().join("new.wasm");
    std::fs::write(&new_file, twin_of(component("order"))).unwrap();
    everfold(&server, &["deploy", new_file.to_str().unwrap()]);
    let types = server.get("/api/v1/workflow-types/order-saga").await;
    let new: Digest = serde_json::from_value(types["versions"][1]["digest"].clone()).unwrap();
    next(1, &["ramp", "order-saga", "10", "--to", &new.to_string()]);
    enough(1).await;
    next(2, &["ramp", "order-saga", "50"]);
    enough(2).await;
    next(3, &["promote", "order-saga"]);
    enough(3).await;
    next(4, &["rollback", "order-saga"]);
    enough(4).await;
    phase.store(OVER, Ordering::SeqCst);

    let mut on_new = [0_u32; 5];
    let mut of_phase = [0_u32; 5];
    for seen in join_all(streams).await.into_iter().flat_map(Result::unwrap) {
        let (began, ended) = versions_of(&server, &seen.workflow_id).await;
        assert_eq!(began, ended, "{}", seen.workflow_id);
        let Some(number) = seen.phase else { continue };
        let route = match PHASES[number] {
            0 => Route::to(old),
            100 => Route::to(new),
            share => Route::to(old).ramp(new, Percent::try_from(share).unwrap()).unwrap(),
        };
        assert_eq!(began, route.digest_for(&WorkflowId(seen.workflow_id.clone())), "phase {number}");
        of_phase[number] += 1;
        on_new[number] += u32::from(began == new);
    }
    for (number, share) in PHASES.into_iter().enumerate() {
        let (all, share) = (f64::from(of_phase[number]), f64::from(share) / 100.0);
        // Six standard deviations: once in half a thousand million runs.
        let (expected, bound) = (all * share, 6.0 * (all * share * (1.0 - share)).sqrt());
        let found = f64::from(on_new[number]);
        eprintln!("phase {number}: {found} of {all} on the new version, {expected} expected");
        assert!(
            (found - expected).abs() <= bound,
            "phase {number}: {found} of {all}, not {expected} ± {bound}"
        );
    }
}

/// The same code with other bytes: a custom section is appended.
fn twin_of(mut component: Vec<u8>) -> Vec<u8> {
    component.extend([0, 5, 4, b't', b'w', b'i', b'n']);
    component
}
