//! The list of runs by queries.

use everfold_core::decision::Decision;
use everfold_core::ids::{EventId, Namespace};
use everfold_core::query::Query;

use super::Backend;
use super::fixtures::{
    DIGEST, advance, block, close, commit_each, key, start, start_on, started_at, workflow_id,
};
use crate::store::{RunPlace, Store};

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
