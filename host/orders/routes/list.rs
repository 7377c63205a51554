//! `GET /orders`.

use axum::Json;
use axum::extract::State;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use utoipa::ToSchema;

use super::view::View;
use super::{Found, Pairs, Routes};
use crate::orders::problem::Problem;
use crate::orders::records::Record;
use crate::orders::request::{self, ListQuery, page_token};

/// Rows that one request looks at, at most: how an order stands is in no index.
const MAX_SCANNED: usize = 500;
/// Rows that are read at once.
const CHUNK: usize = 50;
/// Runs that are asked at once.
const ASKED_AT_ONCE: usize = 8;

/// A page of the list of orders.
#[derive(Serialize, ToSchema)]
pub(super) struct OrderPage {
    /// The newest first.
    orders: Vec<View>,
    /// The `page_token` of the next page; null on the last one.
    next_page_token: Option<String>,
}

/// Lists orders, the newest first.
#[utoipa::path(
    get,
    path = "/orders",
    operation_id = "list_orders",
    tag = "orders",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of orders", body = OrderPage),
        (status = 400, description = "`invalid_input`: every fault is in `errors`", content_type = "application/problem+json"),
        (status = 503, description = "`busy`: try again later", content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(routes): State<Routes>,
    Pairs(query): Pairs,
) -> Result<Json<OrderPage>, Problem> {
    let wanted = request::read_query(&query, request::list)?;
    let (mut after, mut scanned) = (wanted.after, 0);
    let mut orders = Vec::new();
    loop {
        let mut records = routes.shop.orders(&wanted.filter, after.as_ref(), CHUNK + 1).await?;
        let has_more = records.len() > CHUNK;
        records.truncate(CHUNK);
        let last = records.last().map(Record::position);
        let mut found = stream::iter(records).map(|record| routes.with(record)).buffered(ASKED_AT_ONCE);
        while let Some(found) = found.try_next().await? {
            let position = found.record.position();
            if wanted.status.is_none_or(|status| status == found.status()) {
                orders.push(View::of(found));
            }
            if orders.len() == wanted.limit {
                let is_end = !has_more && last.as_ref() == Some(&position);
                let next_page_token = (!is_end).then(|| page_token(&position));
                return Ok(Json(OrderPage { orders, next_page_token }));
            }
        }
        scanned += CHUNK;
        after = last;
        if !has_more || scanned >= MAX_SCANNED {
            let next_page_token = after.filter(|_| has_more).as_ref().map(page_token);
            return Ok(Json(OrderPage { orders, next_page_token }));
        }
    }
}

impl Routes {
    /// What has come of an order.
    async fn with(&self, record: Record) -> Result<Found, Problem> {
        // The run first, as with a single order.
        let run = self.run(&record.order_id).await?;
        let progress = self.shop.progress(&record.order_id).await?;
        Ok(Found { record, progress, run })
    }
}
