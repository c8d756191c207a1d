//! `/debug/api_priority_and_fairness/dump_*`: what is in the queues, as aligned columns separated by commas.
//! Source: "Flow control", "Debug endpoints".

use super::fairness::Fairness;
use super::queue_set::Reason;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

/// `None`: there is no such dump.
pub fn dump(fairness: &Fairness, which: &str, details: bool) -> Option<String> {
    match which {
        "dump_priority_levels" => Some(levels(fairness)),
        "dump_queues" => Some(queues(fairness)),
        "dump_requests" => Some(requests(fairness, details)),
        _ => None,
    }
}

fn levels(fairness: &Fairness) -> String {
    let mut counted: BTreeMap<String, [u64; 5]> = BTreeMap::new();
    for ((level, _), s) in fairness.stats() {
        let sums = counted.entry(level).or_default();
        sums[0] += s.dispatched.load(Relaxed);
        for (i, reason) in Reason::ALL.iter().enumerate() {
            sums[i + 1] += s.rejected(*reason);
        }
    }
    let mut rows = vec![row(&[
        "PriorityLevelName",
        "ActiveQueues",
        "IsIdle",
        "IsQuiescing",
        "WaitingRequests",
        "ExecutingRequests",
        "DispatchedRequests",
        "RejectedRequests",
        "TimedoutRequests",
        "CancelledRequests",
    ])];
    for level in fairness.levels() {
        let state = level.state.lock();
        let q = &state.queues;
        let [dispatched, limit, full, timed_out, cancelled] = counted.get(&level.name).copied().unwrap_or_default();
        rows.push(vec![
            level.name.clone(),
            q.active_queues().to_string(),
            (q.executing() == 0 && q.waiting() == 0).to_string(),
            state.quiescing.to_string(),
            q.waiting().to_string(),
            q.executing().to_string(),
            dispatched.to_string(),
            (limit + full).to_string(),
            timed_out.to_string(),
            cancelled.to_string(),
        ]);
    }
    table(&rows)
}

fn queues(fairness: &Fairness) -> String {
    let mut rows = vec![row(&[
        "PriorityLevelName",
        "Index",
        "PendingRequests",
        "ExecutingRequests",
        "SeatsInUse",
        "NextDispatchR",
        "InitialSeatsSum",
        "MaxSeatsSum",
    ])];
    for level in fairness.levels() {
        let state = level.state.lock();
        let queues = state.queues.view();
        if queues.is_empty() {
            let mut none = vec![level.name.clone()];
            none.extend(std::iter::repeat_n("<none>".to_string(), 7));
            rows.push(none);
        }
        for (i, q) in queues.iter().enumerate() {
            let sum = |f: fn(&super::queue_set::Work) -> u32| q.waiting.iter().map(|(w, _)| f(w)).sum::<u32>();
            rows.push(vec![
                level.name.clone(),
                i.to_string(),
                q.waiting.len().to_string(),
                q.executing.to_string(),
                q.seats_in_use.to_string(),
                format!("{:.8}ss", q.next_dispatch_r),
                sum(|w| w.initial_seats).to_string(),
                sum(|w| w.seats_max()).to_string(),
            ]);
        }
    }
    table(&rows)
}

fn requests(fairness: &Fairness, with_details: bool) -> String {
    let mut head = row(&[
        "PriorityLevelName",
        "FlowSchemaName",
        "QueueIndex",
        "RequestIndexInQueue",
        "FlowDistingsher",
        "ArriveTime",
        "InitialSeats",
        "FinalSeats",
        "AdditionalLatency",
    ]);
    if with_details {
        head.extend(row(&[
            "UserName",
            "Verb",
            "APIPath",
            "Namespace",
            "Name",
            "APIVersion",
            "Resource",
            "SubResource",
        ]));
    }
    let mut rows = vec![head];
    for level in fairness.levels() {
        let state = level.state.lock();
        for (i, q) in state.queues.view().iter().enumerate() {
            for (at, (work, waiter)) in q.waiting.iter().enumerate() {
                let d = waiter.details.clone();
                let mut one = vec![
                    level.name.clone(),
                    d.schema,
                    i.to_string(),
                    at.to_string(),
                    d.distinguisher,
                    d.arrived.to_string(),
                    work.initial_seats.to_string(),
                    work.final_seats.to_string(),
                    format!("{}ms", work.additional_latency.as_millis()),
                ];
                if with_details {
                    one.extend([d.user, d.verb, d.path, d.namespace, d.name, d.api_version, d.resource, d.subresource]);
                }
                rows.push(one);
            }
        }
    }
    table(&rows)
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|c| c.to_string()).collect()
}

fn table(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = (*w).max(cell.len() + 2);
        }
    }
    let mut out = String::new();
    for row in rows {
        let last = row.len().saturating_sub(1);
        for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // What users chose (names, paths) must not break the lines.
            let clean: String = cell.chars().filter(|c| !c.is_control()).collect();
            match i == last {
                true => out.push_str(&clean),
                false => out.push_str(&format!("{:<width$}", format!("{clean},"))),
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn levels_are_shown_in_columns() {
        let f = Fairness::new(600, Duration::from_secs(15), store::memory::open());
        let text = dump(&f, "dump_priority_levels", false).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..2],
            [
                "PriorityLevelName, ActiveQueues, IsIdle, IsQuiescing, WaitingRequests, ExecutingRequests, \
                 DispatchedRequests, RejectedRequests, TimedoutRequests, CancelledRequests",
                "catch-all,         0,            true,   false,       0,               0,                 0,                  \
                 0,                0,                0",
            ]
        );
        assert_eq!(lines.len(), 9);
        assert!(dump(&f, "dump_queues", false).unwrap().lines().count() > 400);
        assert_eq!(dump(&f, "dump_requests", true).unwrap().lines().count(), 1);
        assert!(dump(&f, "dump_other", false).is_none());
    }
}
