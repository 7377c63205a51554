//! A cart that lives on updates.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use everfold_guest::{Activity, Context, Failure, Stop};
use serde::{Deserialize, Serialize};

/// Prices an article.
const PRICE: Activity<str, u64> = Activity::new("price").start_to_close(Duration::from_secs(10));

#[derive(Serialize, Deserialize)]
pub(crate) struct Start {
    /// After how many changes to go on as a new run.
    #[serde(default)]
    continue_every: Option<NonZeroUsize>,
    /// Whether to take no update and go on as a new run, which does, when the signal `open` is there.
    #[serde(default)]
    closed_at_first: bool,
    /// What the runs before this one left in it.
    #[serde(default)]
    articles: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Change {
    article: String,
    /// How many more of it; negative for fewer.
    quantity: i64,
}

#[derive(Default)]
struct Cart {
    articles: BTreeMap<String, u64>,
    changes: usize,
    is_paid: bool,
}

impl Cart {
    fn quantity_after(&self, change: &Change) -> Result<u64, Failure> {
        let before = self.articles.get(&change.article).copied().unwrap_or(0);
        before.checked_add_signed(change.quantity).ok_or_else(|| {
            let message = format!("there are only {before} of {}", change.article);
            Failure::application("TooFew", message).non_retryable()
        })
    }

    fn apply(&mut self, change: &Change) -> Result<u64, Failure> {
        let quantity = self.quantity_after(change)?;
        self.articles.insert(change.article.clone(), quantity);
        self.changes += 1;
        Ok(quantity)
    }
}

/// Takes changes until it is checked out, and returns what is in it.
pub(crate) async fn cart(ctx: Context, start: Start) -> Result<BTreeMap<String, u64>, Stop> {
    let Start { continue_every, closed_at_first, articles } = start;
    let cart = Rc::new(RefCell::new(Cart { articles, ..Cart::default() }));
    if closed_at_first {
        ctx.signal::<()>("open").recv().await?;
        let articles = std::mem::take(&mut cart.borrow_mut().articles);
        return Err(ctx.continue_as_new(&Start { continue_every, closed_at_first: false, articles }).into());
    }
    let (validated, changed) = (Rc::clone(&cart), Rc::clone(&cart));
    ctx.on_validated_update(
        "change",
        move |change: &Change| validated.borrow().quantity_after(change).map(|_| ()),
        move |change: Change| {
            let cart = Rc::clone(&changed);
            async move { cart.borrow_mut().apply(&change) }
        },
    );
    let (pricing, priced) = (ctx.clone(), Rc::clone(&cart));
    ctx.on_update("check-out", move |pause_ms: Option<u64>| {
        check_out(pricing.clone(), Rc::clone(&priced), pause_ms)
    });
    ctx.on_query("articles", {
        let cart = Rc::clone(&cart);
        move |(): ()| cart.borrow().articles.clone()
    });
    let seen = Rc::clone(&cart);
    ctx.wait_condition(move || {
        let cart = seen.borrow();
        cart.is_paid || continue_every.is_some_and(|every| cart.changes >= every.get())
    })
    .await
    .map_err(Failure::from)?;
    if cart.borrow().is_paid {
        return Ok(cart.borrow().articles.clone());
    }
    let articles = cart.borrow().articles.clone();
    Err(ctx.continue_as_new(&Start { continue_every, closed_at_first, articles }).into())
}

/// Pauses if it is told so, prices each article, one after the other, and answers with the sum.
async fn check_out(ctx: Context, cart: Rc<RefCell<Cart>>, pause_ms: Option<u64>) -> Result<u64, Failure> {
    if let Some(pause_ms) = pause_ms {
        ctx.sleep(Duration::from_millis(pause_ms)).await?;
    }
    let articles = cart.borrow().articles.clone();
    let mut sum = 0;
    for (article, quantity) in &articles {
        sum += ctx.execute(PRICE, article.as_str()).await? * quantity;
    }
    cart.borrow_mut().is_paid = true;
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use everfold_guest::testing::{Closed, TestRun};
    use serde_json::json;

    use super::*;

    fn change(article: &str, quantity: i64) -> serde_json::Value {
        json!({ "article": article, "quantity": quantity })
    }

    #[test]
    fn a_cart_is_changed_priced_and_returned() {
        let mut run = TestRun::start(cart, &json!({}));
        run.update("1", "change", &change("tea", 2)).expect("there is room");
        run.update("2", "change", &change("tea", 1)).expect("there is room");
        assert_eq!(run.update_answer("2"), Some(Ok(json!(3))));
        let before = run.history();
        let refused = run.update("3", "change", &change("tea", -4)).expect_err("there are three");
        assert_eq!(refused.application_type(), Some("TooFew"));
        assert_eq!(run.history(), before, "a refusal leaves no trace");
        run.update("4", "check-out", &()).expect("it takes that");
        assert_eq!(run.update_answer("4"), None, "it asks for the price first");
        let price = run.open_activities()[0].id;
        run.complete(price, &5);
        assert_eq!(run.update_answer("4"), Some(Ok(json!(15))));
        assert_eq!(run.closed(), Some(Closed::Completed(json!({ "tea": 3 }))));
    }

    #[test]
    fn a_closed_cart_goes_on_with_the_updates_that_wait() {
        let mut run = TestRun::announcing("change").start(cart, &json!({ "closed_at_first": true }));
        run.update("1", "change", &change("tea", 1)).expect("it is announced");
        run.update("2", "change", &change("jam", -1)).expect("nobody validates yet");
        assert_eq!(run.unaccepted_updates().len(), 2);
        run.signal("open", &());
        let run = run.next_run(cart);
        assert_eq!(run.update_answer("1"), Some(Ok(json!(1))));
        assert_eq!(run.update_answer("2"), None, "it was refused: there is no jam");
        assert_eq!(run.query("articles", &()), Ok(json!({ "tea": 1 })));
    }

    #[test]
    fn every_few_changes_it_goes_on_as_a_new_run_with_what_it_has() {
        let mut run = TestRun::start(cart, &json!({ "continue_every": 1 }));
        run.update("1", "check-out", &json!(50)).expect("it takes that");
        run.update("2", "change", &change("tea", 1)).expect("there is room");
        assert_eq!(run.update_answer("1"), None, "it was not waited for");
        let Some(Closed::ContinuedAsNew { input, .. }) = run.closed() else { panic!("{run:?}") };
        assert_eq!(input, json!({ "continue_every": 1, "closed_at_first": false, "articles": { "tea": 1 } }));
    }
}
