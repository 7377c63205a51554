//! What every store must do, as tests that know nothing of the store's kind.
//!
//! A backend implements [`Backend`] and calls [`conformance_suite!`] in its tests. A new case is a
//! function here and its name in the list below.

pub(crate) mod attention;
pub(crate) mod children;
pub(crate) mod components;
pub(crate) mod fixtures;
pub(crate) mod history;
pub(crate) mod listing;
pub(crate) mod messages;
pub(crate) mod ownership;
pub(crate) mod removal;
pub(crate) mod resets;
pub(crate) mod runs;
pub(crate) mod schedules;
pub(crate) mod succession;
pub(crate) mod versions;
pub(crate) mod waiting;

use super::{Store, StoreError};

/// A place for one store, empty at first. It lives as long as the test.
pub(crate) trait Backend: Sync {
    /// The store that lives there.
    type Store: Store;

    /// Opens the store, or opens it again.
    fn open(&self) -> impl Future<Output = Result<Self::Store, StoreError>> + Send;
}

/// Makes one test of each case; the argument makes a new, empty [`Backend`].
macro_rules! conformance_suite {
    ($backend:expr) => {
        $crate::store::conformance::conformance_suite! { $backend;
            runs: a_new_run_is_found_by_its_key_and_by_its_workflow_id;
            runs: every_namespace_is_for_itself;
            runs: a_step_moves_the_fence;
            runs: a_step_at_the_wrong_place_is_fenced;
            runs: a_step_of_an_unknown_run_is_fenced;
            runs: a_closed_run_is_fenced;
            runs: a_refused_decision_leaves_nothing_and_disturbs_no_other;
            runs: steps_of_one_run_in_one_batch_work_in_order;
            runs: a_workflow_id_has_one_open_run;
            runs: a_run_id_is_never_used_twice;
            runs: a_run_may_close_in_its_first_step;
            runs: the_latest_run_is_the_open_one_else_the_last;
            runs: a_request_makes_one_run;
            runs: a_request_of_another_workflow_id_is_another;
            runs: every_outcome_reads_back;
            runs: a_large_outcome_reads_back_and_lists_leave_it_out;
            runs: a_block_is_set_replaced_and_cleared;
            runs: closing_ends_a_block;
            runs: an_empty_batch_is_nothing;
            runs: many_commits_in_flight_all_arrive;
            history: it_reads_back_as_it_was_written;
            history: pages_are_whole_rows_of_about_the_limit;
            history: it_can_be_read_from_the_middle_of_a_row;
            history: behind_the_end_there_is_nothing;
            history: every_run_has_its_own;
            waiting: the_inbox_keeps_the_order_of_commits;
            waiting: inputs_that_were_taken_are_gone;
            waiting: an_inbox_row_of_another_run_cannot_be_taken;
            waiting: attempts_are_replaced_and_deleted;
            waiting: a_deep_failure_reads_back;
            waiting: large_inputs_failures_and_details_read_back;
            waiting: an_open_run_is_read_with_all_that_waits_for_it;
            waiting: closing_deletes_what_waits;
            waiting: a_closing_step_leaves_nothing_that_waits;
            waiting: timers_come_in_order_and_in_pages;
            waiting: timers_that_closed_are_gone;
            waiting: a_timer_taken_back_in_its_own_step_never_was;
            attention: open_activities_need_attention;
            attention: an_inbox_needs_attention_until_it_is_empty;
            attention: a_blocked_run_needs_attention;
            attention: a_closed_run_needs_none;
            attention: it_is_listed_in_pages_by_key;
            attention: open_runs_are_counted_by_type_and_component;
            components: a_component_reads_back;
            components: the_same_component_twice_changes_nothing;
            components: a_type_stays_with_its_first_component;
            components: components_come_oldest_first;
            components: namespaces_share_bytes_only;
            succession: a_successor_begins_with_what_waited;
            succession: a_fenced_step_begins_no_run;
            succession: a_detached_run_begins_unless_its_workflow_id_is_taken;
            succession: a_request_is_done_once_for_each_operation;
            listing: each_field_is_compared_with_values_of_its_kind;
            listing: search_attributes_are_compared_with_values_of_their_type;
            listing: children_are_found_by_their_parent;
            listing: what_runs_are_described_by_is_changed_handed_over_and_removed;
            listing: each_order_goes_both_ways_and_pages_join;
            listing: pages_stay_in_place_while_runs_come_and_go;
            messages: a_message_is_in_one_inbox_and_its_answer_in_the_other;
            messages: a_message_to_a_run_that_is_not_open_is_refused_in_the_same_step;
            messages: a_message_of_a_fenced_step_is_not_sent;
            messages: a_step_that_closes_its_run_hears_no_answers;
            messages: a_run_does_not_close_on_what_it_has_not_seen;
            messages: what_a_step_begins_is_there_for_what_it_sends;
            messages: a_full_inbox_takes_no_messages;
            children: a_child_is_begun_and_its_parent_told;
            children: a_childs_id_is_used_again_or_not;
            children: the_end_of_a_child_is_told_to_an_open_parent;
            children: a_closing_parent_leaves_each_child_to_its_policy;
            children: a_child_waits_for_one_of_its_id_that_is_being_terminated;
            children: a_child_that_goes_on_takes_its_parent_and_its_end_along;
            children: a_child_is_asked_to_cancel_whichever_run_it_is_at;
            resets: an_open_run_closes_and_the_new_one_has_what_it_takes_over;
            resets: a_fenced_reset_begins_nothing;
            resets: a_long_history_is_taken_over_whole;
            resets: children_of_before_the_boundary_go_over_and_later_ones_are_left;
            resets: what_became_of_children_and_requests_meanwhile_is_told;
            resets: a_reset_is_done_once_and_names_the_new_run;
            succession: a_closed_runs_id_is_used_again_or_not;
            succession: a_start_that_uses_the_open_run_is_remembered;
            succession: a_start_that_was_done_by_a_signal_begins_nothing;
            versions: a_types_first_version_is_current;
            versions: a_route_reads_back;
            versions: routed_components_are_those_of_all_namespaces;
            versions: a_route_is_changed_from_its_last_revision_only;
            versions: versions_count_their_runs;
            versions: versions_without_runs_come_oldest_first;
            versions: a_component_stands_to_each_type_for_itself;
            versions: a_version_in_use_is_not_retired;
            versions: a_retired_version_is_no_way_back;
            versions: the_same_bytes_bring_a_retired_version_back;
            versions: open_runs_come_in_pages_by_workflow_id;
            versions: open_runs_are_filtered;
            versions: closed_runs_are_listed_by_their_end;
            versions: a_step_moves_its_run;
            versions: a_refused_step_moves_nothing;
            versions: a_divergence_goes_with_its_block;
            removal: runs_that_closed_before_a_time_are_removed_with_all_that_names_them;
            removal: a_workflow_id_goes_on_with_the_runs_that_stay;
            removal: removals_come_in_batches_the_earliest_first;
            removal: a_long_history_goes_in_pieces_and_its_run_at_once;
            removal: many_requests_go_in_pieces_before_their_run;
            schedules: a_schedule_is_written_from_its_last_revision_only;
            schedules: schedules_are_found_by_id_by_time_and_by_their_runs;
            ownership: one_store_at_a_time;
            ownership: the_epoch_grows_with_every_opening;
            ownership: a_stop_in_order_is_remembered_once;
            ownership: a_closed_store_takes_no_more_but_can_be_read;
            ownership: reopening_keeps_everything;
        }
    };
    ($backend:expr; $($module:ident: $case:ident;)+) => {$(
        #[tokio::test]
        async fn $case() {
            $crate::store::conformance::$module::$case(&$backend).await;
        }
    )+};
}

pub(crate) use conformance_suite;
