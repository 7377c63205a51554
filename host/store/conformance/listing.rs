//! The list of runs by queries.

use everfold_core::attributes::{AttributeValue, Details, Memo, SearchAttributes};
use everfold_core::command::ParentClosePolicy;
use everfold_core::decision::{Decision, Kinship};
use everfold_core::event::ParentRun;
use everfold_core::ids::{EventId, Namespace, Timestamp};
use everfold_core::payload::Payload;
use everfold_core::query::Query;
use serde_json::json;

use super::Backend;
use super::fixtures::{
    DIGEST, advance, block, close, commit, commit_each, key, start, start_on, started_at, workflow_id,
};
use super::succession::next_run;
use crate::store::{RemovalBounds, RunPlace, Store, Verdict};

/// The numbers of the runs that a query finds, page by page.
async fn listed_by(store: &impl Store, query: &str, limit: usize) -> Vec<usize> {
    let query = Query::parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let rows = store.runs(&Namespace::default(), &query, after.as_ref(), limit).await.unwrap();
        found.extend(rows.iter().map(|row| usize::from(row.key.run_id.0[15])));
        after = rows.last().map(|row| RunPlace::of(row, query.order.by));
        if rows.len() < limit {
            return found;
        }
    }
}

async fn listed(store: &impl Store, query: &str) -> Vec<usize> {
    listed_by(store, query, 100).await
}

/// Six open runs, of which the second has completed and the fourth is blocked.
async fn six(store: &impl Store) {
    commit_each(store, (1..=6).map(start).collect()).await;
    commit_each(store, vec![close(2, EventId(2)), block(4, EventId(2), 0), advance(5, EventId(2), 3)]).await;
}

pub(crate) async fn each_field_is_compared_with_values_of_its_kind(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    six(&store).await;
    let (third, fifth) = (started_at(3), started_at(5));
    let cases: [(String, &[usize]); 21] = [
        (String::new(), &[6, 5, 4, 3, 2, 1]),
        ("status = 'completed'".to_owned(), &[2]),
        ("status != 'completed'".to_owned(), &[6, 5, 4, 3, 1]),
        ("status in ('completed', 'failed')".to_owned(), &[2]),
        ("status not in ('running')".to_owned(), &[2]),
        ("blocked = true".to_owned(), &[4]),
        ("not blocked = true".to_owned(), &[6, 5, 3, 2, 1]),
        (format!("workflow_id = '{}'", workflow_id(3)), &[3]),
        ("workflow_id starts_with 'order-'".to_owned(), &[6, 5, 4, 3, 2, 1]),
        ("workflow_id starts_with 'order-_'".to_owned(), &[]),
        ("workflow_id > 'order-4'".to_owned(), &[6, 5]),
        ("workflow_type = 'order-saga'".to_owned(), &[6, 5, 4, 3, 2, 1]),
        ("workflow_type = 'Order-Saga'".to_owned(), &[]),
        (format!("digest = '{DIGEST}' and history_length = 1"), &[6, 4, 3, 1]),
        ("history_length > 1 and history_length <= 4".to_owned(), &[5, 2]),
        (format!("run_id <= '{}'", key(2).run_id), &[2, 1]),
        (format!("start_time >= '{third}' and start_time < '{fifth}'"), &[4, 3]),
        ("close_time is null".to_owned(), &[6, 5, 4, 3, 1]),
        ("close_time is not null".to_owned(), &[2]),
        // What is not there compares to nothing.
        ("close_time > '1970-01-01T00:00:00Z' or not close_time > '1970-01-01T00:00:00Z'".to_owned(), &[2]),
        ("(blocked = true or status = 'completed') and not workflow_id = 'order-2'".to_owned(), &[4]),
    ];
    for (query, expected) in cases {
        assert_eq!(listed(&store, &query).await, expected, "{query}");
    }
    let elsewhere = Namespace("other".to_owned());
    assert_eq!(store.runs(&elsewhere, &Query::default(), None, 10).await.unwrap(), []);
}

/// The `n`th run, described by these search attributes.
fn described(n: usize, attributes: serde_json::Value) -> Decision {
    let values = attributes.as_object().unwrap().clone();
    let named = values.iter().map(|(name, value)| (name.as_str(), value));
    let mut details = Details::new();
    details.search_attributes.change(&SearchAttributes::read_changes(named).unwrap());
    let mut decision = start(n);
    decision.new_run.as_mut().unwrap().details = details.into_some();
    decision
}

pub(crate) async fn search_attributes_are_compared_with_values_of_their_type(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let runs = vec![
        described(1, json!({ "customer_id": 100, "total": 9.5, "paid": true, "city": "Ulm" })),
        described(2, json!({ "customer_id": 100, "total": 10, "paid": false, "tags": ["new", "vip"] })),
        described(3, json!({ "customer_id": "100", "due": "2026-01-31T08:00:00Z", "tags": ["new"] })),
        described(4, json!({ "customer_id": 7, "city": "Ulm", "tags": "vip" })),
        start(5),
    ];
    commit_each(&store, runs).await;
    let cases: [(&str, &[usize]); 31] = [
        ("customer_id = 100", &[2, 1]),
        ("customer_id = 100.0", &[2, 1]),
        ("customer_id = '100'", &[3]),
        ("customer_id != 100", &[4]),
        ("not customer_id = 100", &[4]),
        ("not customer_id != 100", &[2, 1]),
        ("customer_id in (7, 8)", &[4]),
        ("customer_id not in (7, 8)", &[2, 1]),
        ("customer_id is null", &[5]),
        ("customer_id is not null", &[4, 3, 2, 1]),
        ("total > 9", &[2, 1]),
        ("total >= 9.75", &[2]),
        ("not total > 9.75", &[1]),
        ("paid = true", &[1]),
        ("paid != true", &[2]),
        ("city starts_with 'U'", &[4, 1]),
        ("city > 'A' and city < 'V'", &[4, 1]),
        ("due < '2026-02-01T00:00:00Z'", &[3]),
        ("due = '2026-01-31T09:00:00+01:00'", &[3]),
        ("due starts_with '2026'", &[]),
        ("tags = 'vip'", &[4, 2]),
        ("tags != 'vip'", &[3]),
        ("tags in ('vip', 'old')", &[4, 2]),
        ("tags > 'old'", &[4, 2]),
        ("not tags > 'old'", &[3]),
        ("city = 'Ulm' and customer_id = 100", &[1]),
        ("city = 'Ulm' or tags = 'new'", &[4, 3, 2, 1]),
        ("city = 'Ulm' and workflow_id = 'order-4'", &[4]),
        ("customer_id = 100 order by start_time", &[1, 2]),
        ("status = 'running' and customer_id = 100 order by run_id", &[1, 2]),
        ("Customer_id = 100", &[]),
    ];
    for (query, expected) in cases {
        for limit in [1, 10] {
            assert_eq!(listed_by(&store, query, limit).await, expected, "{query}, {limit} a page");
        }
    }
}

pub(crate) async fn children_are_found_by_their_parent(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let child = |n, of: usize| {
        let mut decision = start(n);
        decision.new_run.as_mut().unwrap().parent = Some(ParentRun {
            workflow_id: workflow_id(of),
            run_id: key(of).run_id,
            command_event_id: EventId(2),
            close_policy: ParentClosePolicy::Abandon,
        });
        decision
    };
    commit_each(&store, vec![start(1), start(2), child(3, 1), child(4, 2), child(5, 1)]).await;
    let cases: [(String, &[usize]); 6] = [
        (format!("parent_run_id = '{}'", key(1).run_id), &[5, 3]),
        (format!("parent_run_id in ('{}') and status = 'running'", key(2).run_id), &[4]),
        ("parent_workflow_id = 'order-1' order by start_time".to_owned(), &[3, 5]),
        ("parent_workflow_id starts_with 'order-'".to_owned(), &[5, 4, 3]),
        ("not parent_workflow_id = 'order-1'".to_owned(), &[4]),
        ("parent_run_id is null".to_owned(), &[2, 1]),
    ];
    for (query, expected) in cases {
        assert_eq!(listed(&store, &query).await, expected, "{query}");
    }
}

pub(crate) async fn what_runs_are_described_by_is_changed_handed_over_and_removed(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let mut memo = Memo::new();
    memo.change(&vec![("note".to_owned(), Some(Payload::json_text(b"[1]".to_vec())))]);
    let mut first = described(1, json!({ "step": "new", "tags": ["a", "b", "b"] }));
    first.new_run.as_mut().unwrap().details.as_mut().unwrap().memo = memo.clone();
    let told = first.new_run.as_ref().unwrap().details.clone().unwrap();
    commit_each(&store, vec![first, start(2)]).await;
    let ids = [key(1).run_id, key(2).run_id, key(9).run_id];
    let all = store.details(&ids).await.unwrap();
    assert_eq!(all.into_iter().collect::<Vec<_>>(), [(key(1).run_id, *told)]);

    // A fenced step changes nothing.
    let mut changed = Details { memo, ..Details::new() };
    changed.search_attributes.set("step", AttributeValue::Integer(2));
    let step = |n, expected| Decision {
        details: Some(Box::new(changed.clone())),
        ..advance(n, EventId(expected), 1)
    };
    assert_eq!(commit(&store, step(1, 7)).await, Verdict::Fenced);
    assert_eq!(listed(&store, "step = 'new'").await, [1]);
    commit_each(&store, vec![step(1, 2)]).await;
    assert_eq!(listed(&store, "step = 'new' or tags is not null").await, [] as [usize; 0]);
    assert_eq!(listed(&store, "step = 2").await, [1]);
    assert_eq!(store.details(&ids).await.unwrap()[&key(1).run_id], changed);

    // A run that changes it in its first step, and one that another begins.
    let mut at_once = described(3, json!({ "step": "new" }));
    at_once.details = Some(Box::new(changed.clone()));
    let mut next = next_run(4, 4, Vec::new(), Kinship::Detached);
    next.new_run.details = Some(Box::new(changed.clone()));
    let begins = Decision { next_runs: vec![next], ..advance(2, EventId(2), 1) };
    commit_each(&store, vec![at_once, begins]).await;
    assert_eq!(listed(&store, "step = 2").await, [4, 3, 1]);

    commit_each(&store, vec![close(1, EventId(3))]).await;
    assert_eq!(listed(&store, "step = 2 and close_time is not null").await, [1]);
    let bounds = RemovalBounds { runs: 10, bytes: 1_000_000 };
    store.remove_closed(Timestamp(i64::MAX), bounds).await.unwrap();
    assert_eq!(listed(&store, "step = 2").await, [4, 3]);
    assert!(!store.details(&ids).await.unwrap().contains_key(&key(1).run_id));
}

pub(crate) async fn each_order_goes_both_ways_and_pages_join(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    let typed = |n, workflow_type| start_on(n, workflow_type, DIGEST);
    let mut late = start(4);
    // It started last, and has an early id.
    late.new_run.as_mut().unwrap().started_at = started_at(9);
    let runs: Vec<Decision> = vec![typed(1, "b"), typed(2, "a"), typed(3, "b"), late, typed(5, "a")];
    commit_each(&store, runs).await;
    commit_each(&store, vec![close(3, EventId(2)), close(1, EventId(2))]).await;
    let cases: [(&str, &[usize]); 8] = [
        ("order by run_id", &[1, 2, 3, 4, 5]),
        ("order by run_id desc", &[5, 4, 3, 2, 1]),
        ("order by start_time", &[1, 2, 3, 5, 4]),
        ("order by start_time desc", &[4, 5, 3, 2, 1]),
        ("order by workflow_id desc", &[5, 4, 3, 2, 1]),
        ("order by workflow_type asc", &[2, 5, 1, 3, 4]),
        // Both closed at the same time.
        ("close_time is not null order by close_time", &[1, 3]),
        ("close_time is not null order by close_time desc", &[3, 1]),
    ];
    for (query, expected) in cases {
        for limit in [1, 2, 3, 10] {
            assert_eq!(listed_by(&store, query, limit).await, expected, "{query}, {limit} a page");
        }
    }
}

pub(crate) async fn pages_stay_in_place_while_runs_come_and_go(backend: &impl Backend) {
    let store = backend.open().await.unwrap();
    commit_each(&store, (1..=4).map(start).collect()).await;
    let query = Query::parse("status = 'running' order by start_time desc").unwrap();
    let first = store.runs(&Namespace::default(), &query, None, 2).await.unwrap();
    let after = RunPlace::of(&first[1], query.order.by);
    // The last one of the page goes, and another one comes before all.
    commit_each(&store, vec![close(3, EventId(2)), start(5)]).await;
    let second = store.runs(&Namespace::default(), &query, Some(&after), 2).await.unwrap();
    let numbers = |rows: &[crate::store::RunRow]| {
        rows.iter().map(|row| usize::from(row.key.run_id.0[15])).collect::<Vec<_>>()
    };
    assert_eq!((numbers(&first), numbers(&second)), (vec![4, 3], vec![2, 1]));
}
