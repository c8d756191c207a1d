//! How many replicas each of a Deployment's sets gets. Upstream: `rolling.go`, `recreate.go` and `sync.go`.

use super::revision::*;
use super::status;
use super::{Action, Observed};
use crate::{ownership, pods};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use std::time::Duration;

/// A plan in the making: the world as it will be once the actions are done.
pub struct Work<'a> {
    now: Timestamp,
    observed: &'a Observed,
    /// With the status and annotations to write.
    d: Deployment,
    /// Oldest first.
    sets: Vec<ReplicaSet>,
    /// The set of the present template.
    new: Option<usize>,
    actions: Vec<Action>,
    again: Option<Duration>,
}

impl<'a> Work<'a> {
    pub fn new(now: Timestamp, observed: &'a Observed) -> Work<'a> {
        let mut sets = observed.sets.clone();
        sets.sort_by_key(|s| (s.creation_timestamp(), s.name_any()));
        Work { now, observed, d: observed.deployment.clone(), sets, new: None, actions: Vec::new(), again: None }
    }

    pub fn finish(mut self) -> (Vec<Action>, Option<Duration>) {
        let old = &self.observed.deployment;
        if self.d.status != old.status || self.d.metadata.annotations != old.metadata.annotations {
            self.actions.push(Action::Status(Box::new(self.d)));
        }
        (self.actions, self.again)
    }

    fn old(&self) -> impl Iterator<Item = usize> + use<> {
        let new = self.new;
        (0..self.sets.len()).filter(move |i| Some(*i) != new)
    }

    fn total(&self) -> i32 {
        self.sets.iter().map(size).sum()
    }

    fn want(&self) -> i32 {
        replicas(&self.d)
    }

    /// Whether the Deployment was scaled since its sets were.
    pub fn was_resized(&self) -> bool {
        self.sets.iter().any(|s| size(s) > 0 && desired_then(s).is_some_and(|then| then != self.want()))
    }

    /// Says in the Progressing condition that time stands still while the Deployment is paused.
    pub fn note_pause(&mut self) {
        if !status::has_deadline(&self.d) {
            return;
        }
        let paused = is_paused(&self.d);
        let s = self.d.status.get_or_insert_default();
        let reason = status::find(s, "Progressing").and_then(|c| c.reason.as_deref());
        if reason == Some("ProgressDeadlineExceeded") {
            return;
        }
        let said = reason == Some("DeploymentPaused");
        let note = match (paused, said) {
            (true, false) => ("DeploymentPaused", "Deployment is paused"),
            (false, true) => ("DeploymentResumed", "Deployment is resumed"),
            _ => return,
        };
        status::set_condition(s, status::condition(self.now, "Progressing", "Unknown", note.0, note.1));
    }

    /// Finds the set of the present template, makes it when asked to, and keeps revisions in order.
    pub fn find_new(&mut self, create: bool) {
        self.new = self.sets.iter().position(|s| same_template(&self.d, s));
        let newest_old = self.old().map(|i| revision(self.sets[i].annotations())).max().unwrap_or(0);
        let number = newest_old + 1;
        let note = match self.new {
            Some(i) => {
                let min_ready = self.d.spec.as_ref().and_then(|s| s.min_ready_seconds);
                let mut set = self.sets[i].clone();
                let mut changed = annotate(&self.d, &mut set, number);
                if let Some(spec) = set.spec.as_mut()
                    && spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0)
                {
                    spec.min_ready_seconds = min_ready;
                    changed = true;
                }
                if changed {
                    self.write(i, set);
                }
                let known = status::find(self.d.status.get_or_insert_default(), "Progressing").is_some();
                (!known).then(|| ("FoundNewReplicaSet", format!("Found new replica set {:?}", self.sets[i].name_any())))
            }
            None if create => {
                let size = self.new_size(0);
                let set = new_set(&self.d, size, number);
                let name = set.name_any();
                self.actions.push(Action::Create(Box::new(set.clone())));
                if size > 0 {
                    self.tell_scaled("up", &name, 0, size);
                }
                self.sets.push(set);
                self.new = Some(self.sets.len() - 1);
                Some(("NewReplicaSetCreated", format!("Created new replica set {name:?}")))
            }
            None => None,
        };
        if let Some(i) = self.new {
            let number = revision(self.sets[i].annotations()).to_string();
            if self.d.annotations().get(REVISION) != Some(&number) {
                self.d.annotations_mut().insert(REVISION.into(), number);
            }
        }
        if let Some((reason, message)) = note
            && status::has_deadline(&self.d)
        {
            let s = self.d.status.get_or_insert_default();
            status::set_condition(s, status::condition(self.now, "Progressing", "True", reason, &message));
        }
    }

    /// Replaces a set in the world to come; an update that is planned already is amended, so that each set is written once.
    fn write(&mut self, i: usize, set: ReplicaSet) {
        let name = set.metadata.name.clone();
        let planned = self.actions.iter_mut().find_map(|a| match a {
            Action::Update(s) | Action::Create(s) if s.metadata.name == name => Some(s),
            _ => None,
        });
        match planned {
            Some(p) => **p = set.clone(),
            None => self.actions.push(Action::Update(Box::new(set.clone()))),
        }
        self.sets[i] = set;
    }

    fn tell_scaled(&mut self, direction: &str, name: &str, from: i32, to: i32) {
        let message = format!("Scaled {direction} replica set {name} from {from} to {to}");
        self.actions.push(Action::Event { warning: false, reason: "ScalingReplicaSet", message });
    }

    /// Gives a set its size, and notes for which size of the Deployment.
    fn resize(&mut self, i: usize, to: i32) -> bool {
        let mut set = self.sets[i].clone();
        let from = size(&set);
        let noted = annotate_size(&self.d, &mut set);
        if from == to && !noted {
            return false;
        }
        if let Some(spec) = set.spec.as_mut() {
            spec.replicas = Some(to);
        }
        let name = set.name_any();
        self.write(i, set);
        if from != to {
            self.tell_scaled(if to > from { "up" } else { "down" }, &name, from, to);
        }
        from != to
    }

    /// As [`Work::resize`], leaving a set of the right size alone.
    fn resize_if_needed(&mut self, i: usize, to: i32) -> bool {
        size(&self.sets[i]) != to && self.resize(i, to)
    }

    /// How large the new set may be now, given its present size.
    fn new_size(&self, present: i32) -> i32 {
        if recreates(&self.d) {
            return self.want();
        }
        let most = self.want() + max_surge(&self.d);
        let all = self.total();
        if all >= most { present } else { present + (most - all).min(self.want() - present) }
    }

    pub fn roll(&mut self) {
        self.find_new(true);
        if self.grow_new() || self.shrink_old() {
            return;
        }
        self.clean_up_when_complete();
    }

    pub fn recreate(&mut self) {
        self.find_new(false);
        let mut shrunk = false;
        for i in self.old().collect::<Vec<_>>() {
            shrunk |= self.resize_if_needed(i, 0);
        }
        if shrunk || self.old_pods_run() {
            return;
        }
        self.find_new(true);
        if let Some(i) = self.new {
            self.resize_if_needed(i, self.want());
        }
        self.clean_up_when_complete();
    }

    /// Two versions must never run at the same time: even terminating pods of old sets count until they are gone.
    fn old_pods_run(&self) -> bool {
        let new = self.new.map(|i| &self.sets[i].metadata);
        self.observed
            .pods
            .iter()
            .any(|p| !pods::is_finished(p) && !new.is_some_and(|n| ownership::is_controlled_by(&p.metadata, n)))
    }

    fn grow_new(&mut self) -> bool {
        let Some(i) = self.new else { return false };
        let present = size(&self.sets[i]);
        if present == self.want() {
            return false;
        }
        let to = if present > self.want() { self.want() } else { self.new_size(present) };
        self.resize_if_needed(i, to)
    }

    fn shrink_old(&mut self) -> bool {
        let old: Vec<usize> = self.old().filter(|i| size(&self.sets[*i]) > 0).collect();
        if old.is_empty() {
            return false;
        }
        let least = self.want() - max_unavailable(&self.d);
        let new_unavailable = self.new.map_or(0, |i| size(&self.sets[i]) - status::available(&self.sets[i]));
        let may_go = self.total() - least - new_unavailable;
        if may_go <= 0 {
            return false;
        }
        // First those that serve nobody.
        let mut shrunk = false;
        let mut left = may_go;
        for &i in &old {
            let (has, up) = (size(&self.sets[i]), status::available(&self.sets[i]));
            let take = left.min(has - up);
            if take > 0 {
                left -= take;
                shrunk |= self.resize_if_needed(i, has - take);
            }
        }
        let up: i32 = self.sets.iter().map(status::available).sum();
        let mut left = up - least;
        for &i in &old {
            let take = left.min(size(&self.sets[i]));
            if take > 0 {
                left -= take;
                let to = size(&self.sets[i]) - take;
                shrunk |= self.resize_if_needed(i, to);
            }
        }
        shrunk
    }

    /// Spreads a change of the Deployment's size over its sets, in proportion, so that a rollout under way keeps its risk.
    pub fn scale(&mut self) {
        let active: Vec<usize> = (0..self.sets.len()).filter(|i| size(&self.sets[*i]) > 0).collect();
        let only = match active.as_slice() {
            [] => self.new.or_else(|| self.sets.len().checked_sub(1)),
            [one] => Some(*one),
            _ => None,
        };
        if let Some(i) = only {
            self.resize(i, self.want());
            return;
        }
        if active.is_empty() {
            return;
        }
        let saturated = self.new.is_some_and(|i| {
            let set = &self.sets[i];
            size(set) == self.want() && desired_then(set) == Some(self.want()) && status::available(set) == self.want()
        });
        if saturated {
            for i in self.old().collect::<Vec<_>>() {
                self.resize_if_needed(i, 0);
            }
            return;
        }
        if recreates(&self.d) {
            return;
        }
        let allowed = if self.want() > 0 { self.want() + max_surge(&self.d) } else { 0 };
        let to_add = allowed - self.total();
        let mut order = active;
        // Larger first; among equals the newer grows first, the older shrinks first.
        if to_add > 0 {
            order.reverse();
        }
        order.sort_by_key(|i| std::cmp::Reverse(size(&self.sets[*i])));
        let mut added = 0;
        let mut sizes = Vec::new();
        for &i in &order {
            let share = self.share(i, to_add, added);
            added += share;
            sizes.push(size(&self.sets[i]) + share);
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        for (i, to) in order.into_iter().zip(sizes) {
            self.resize(i, to);
        }
    }

    fn share(&self, i: usize, to_add: i32, added: i32) -> i32 {
        let set = &self.sets[i];
        if size(set) == 0 || to_add == 0 || to_add == added {
            return 0;
        }
        let fraction = if self.want() == 0 {
            -size(set)
        } else {
            let then = max_then(set).or_else(|| self.d.status.as_ref()?.replicas).unwrap_or(0);
            if then == 0 {
                0
            } else {
                let most = self.want() + max_surge(&self.d);
                let to = f64::from(size(set)) * f64::from(most) / f64::from(then);
                to.round() as i32 - size(set)
            }
        };
        let left = to_add - added;
        if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
    }

    fn clean_up_when_complete(&mut self) {
        let s = status::count(self.now, &self.d, &self.sets, self.new.map(|i| &self.sets[i]));
        if status::is_complete(&self.d, &s) {
            self.clean_up();
        }
    }

    /// Removes the oldest empty sets beyond the history limit.
    pub fn clean_up(&mut self) {
        let Some(limit) = self.d.spec.as_ref().and_then(|s| s.revision_history_limit) else { return };
        let mut old: Vec<usize> = self.old().filter(|i| self.sets[*i].metadata.deletion_timestamp.is_none()).collect();
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        old.sort_by_key(|i| revision(self.sets[*i].annotations()));
        for i in old.into_iter().take(surplus) {
            let set = &self.sets[i];
            let observed = set.status.as_ref().and_then(|s| s.observed_generation) >= set.metadata.generation;
            if status::actual(set) == 0 && size(set) == 0 && observed {
                self.actions.push(Action::Delete(Box::new(set.clone())));
            }
        }
    }

    pub fn sync_status(&mut self) {
        let new = self.new.map(|i| &self.sets[i]);
        self.d.status = Some(status::count(self.now, &self.d, &self.sets, new));
    }

    pub fn sync_rollout_status(&mut self) {
        let new = self.new.map(|i| &self.sets[i]);
        let (s, again) = status::of_rollout(self.now, &self.d, &self.sets, new);
        self.d.status = Some(s);
        self.again = again;
    }
}
