//! Fair queuing of one priority level: which waiting request is served next.
//!
//! Pure: time comes in as an argument, and whatever wakes a waiting request is a `T` that is handed out when its turn
//! comes. Each queue gets the same share of the level's seats, in seat-seconds: a virtual clock `r` counts what a busy
//! queue should have got so far; the queue whose next request would be done first on that clock is served next.
//! Source: KEP-1040, "Fair Queuing for Server Requests".

use super::sharding;
use std::collections::VecDeque;
use std::time::Duration;

/// What a request is thought to take until it is known, seconds.
const GUESS_SECONDS: f64 = 0.003;

/// A point in time, nanoseconds since any fixed one.
pub type Nanos = u64;

/// What a request costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    pub initial_seats: u32,
    /// Held on after the answer for `additional_latency`: work that goes on, such as telling watchers.
    pub final_seats: u32,
    pub additional_latency: Duration,
}

impl Work {
    pub fn seats(n: u32) -> Work {
        Work { initial_seats: n.max(1), final_seats: 0, additional_latency: Duration::ZERO }
    }

    /// Both phases' seats are taken at once, so that the second phase never waits.
    pub fn seats_max(&self) -> u32 {
        self.initial_seats.max(self.final_seats).max(1)
    }

    /// Seat-seconds.
    fn total(&self) -> f64 {
        f64::from(self.initial_seats) * GUESS_SECONDS
            + f64::from(self.final_seats) * self.additional_latency.as_secs_f64()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The level doesn't queue, and has no seat left.
    ConcurrencyLimit,
    QueueFull,
    TimeOut,
    Cancelled,
}

impl Reason {
    pub const ALL: [Reason; 4] = [Reason::ConcurrencyLimit, Reason::QueueFull, Reason::TimeOut, Reason::Cancelled];

    pub fn as_str(self) -> &'static str {
        match self {
            Reason::ConcurrencyLimit => "concurrency-limit",
            Reason::QueueFull => "queue-full",
            Reason::TimeOut => "time-out",
            Reason::Cancelled => "cancelled",
        }
    }
}

/// Seats that are taken; given back with [`QueueSet::finish`].
#[derive(Debug)]
#[must_use]
pub struct Ticket {
    /// `usize::MAX`: of a level without queues.
    queue: usize,
    /// Queues that were made anew since know nothing of it.
    generation: u32,
    work: Work,
    started: Nanos,
}

/// A place in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    id: u64,
}

#[derive(Debug)]
pub enum Arrival {
    Execute(Ticket),
    Wait(Place),
    Reject(Reason),
}

/// How requests wait. No queues: they don't.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Queuing {
    pub queues: usize,
    pub hand_size: usize,
    pub queue_length_limit: usize,
}

struct Waiting<T> {
    id: u64,
    work: Work,
    wake: T,
}

struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    waiting_work: f64,
    executing: u32,
    seats_in_use: u32,
    /// The virtual clock at which its next request begins.
    next_dispatch_r: f64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue { waiting: VecDeque::new(), waiting_work: 0.0, executing: 0, seats_in_use: 0, next_dispatch_r: 0.0 }
    }
}

impl<T> Queue<T> {
    fn is_active(&self) -> bool {
        self.executing > 0 || !self.waiting.is_empty()
    }
}

/// Seats that were wanted (in use or waited for) over a period.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Demand {
    pub average: f64,
    pub deviation: f64,
    pub high: f64,
}

#[derive(Default)]
struct Integrator {
    since: Nanos,
    sum: f64,
    squares: f64,
    high: u64,
}

pub struct QueueSet<T> {
    queuing: Queuing,
    /// Seats.
    limit: u32,
    queues: Vec<Queue<T>>,
    seats_in_use: u32,
    seats_waiting: u64,
    executing: u32,
    waiting: usize,
    active: u32,
    r: f64,
    now: Nanos,
    robin: usize,
    next_id: u64,
    generation: u32,
    demand: Integrator,
}

/// A queue as the debug endpoint shows it.
pub struct QueueView<'a, T> {
    pub executing: u32,
    pub seats_in_use: u32,
    pub next_dispatch_r: f64,
    pub waiting: Vec<(Work, &'a T)>,
}

impl<T> QueueSet<T> {
    pub fn new(queuing: Queuing, limit: u32, now: Nanos) -> QueueSet<T> {
        QueueSet {
            queuing,
            limit,
            queues: (0..queuing.queues).map(|_| Queue::default()).collect(),
            seats_in_use: 0,
            seats_waiting: 0,
            executing: 0,
            waiting: 0,
            active: 0,
            r: 0.0,
            now,
            robin: 0,
            next_id: 0,
            generation: 0,
            demand: Integrator { since: now, ..Integrator::default() },
        }
    }

    pub fn limit(&self) -> u32 {
        self.limit
    }
    pub fn seats_in_use(&self) -> u32 {
        self.seats_in_use
    }
    pub fn executing(&self) -> u32 {
        self.executing
    }
    pub fn waiting(&self) -> usize {
        self.waiting
    }
    pub fn active_queues(&self) -> u32 {
        self.active
    }

    /// A request of a flow arrives. Whoever's turn has come by it is put into `woken`, possibly this request itself.
    pub fn arrive(
        &mut self,
        now: Nanos,
        flow: u64,
        work: Work,
        wake: impl FnOnce() -> T,
        woken: &mut Vec<(T, Ticket)>,
    ) -> Arrival {
        self.advance(now);
        if self.queues.is_empty() {
            return match self.fits(work.seats_max()) {
                true => Arrival::Execute(self.seat(usize::MAX, work)),
                false => Arrival::Reject(Reason::ConcurrencyLimit),
            };
        }
        let chosen = self.choose(flow);
        if self.waiting == 0 && self.fits(work.seats_max()) {
            self.activate(chosen);
            return Arrival::Execute(self.seat(chosen, work));
        }
        if self.queues[chosen].waiting.len() >= self.queuing.queue_length_limit {
            return Arrival::Reject(Reason::QueueFull);
        }
        self.activate(chosen);
        let id = self.next_id;
        self.next_id += 1;
        self.enqueue(chosen, Waiting { id, work, wake: wake() });
        self.dispatch(woken);
        Arrival::Wait(Place { id })
    }

    /// Leaves the queue. False: its turn has come already, and its ticket is on the way.
    pub fn leave(&mut self, now: Nanos, place: Place, woken: &mut Vec<(T, Ticket)>) -> bool {
        self.advance(now);
        for q in 0..self.queues.len() {
            let Some(i) = self.queues[q].waiting.iter().position(|w| w.id == place.id) else { continue };
            if let Some(w) = self.queues[q].waiting.remove(i) {
                self.forget(q, w.work);
            }
            if !self.queues[q].is_active() {
                self.active -= 1;
            }
            // A wide request that went may have held back others.
            self.dispatch(woken);
            return true;
        }
        false
    }

    /// A request is done; it took `service` until it was answered.
    pub fn finish(&mut self, now: Nanos, ticket: Ticket, service: Duration, woken: &mut Vec<(T, Ticket)>) {
        self.advance(now);
        let seats = ticket.work.seats_max();
        self.seats_in_use -= seats;
        self.executing -= 1;
        if ticket.generation == self.generation
            && let Some(queue) = self.queues.get_mut(ticket.queue)
        {
            queue.executing -= 1;
            queue.seats_in_use -= seats;
            // Charged is what it took, not what it was thought to take.
            queue.next_dispatch_r += (service.as_secs_f64() - GUESS_SECONDS) * f64::from(ticket.work.initial_seats);
            if !queue.is_active() {
                self.active -= 1;
            }
        }
        self.dispatch(woken);
    }

    pub fn set_limit(&mut self, now: Nanos, limit: u32, woken: &mut Vec<(T, Ticket)>) {
        self.advance(now);
        self.limit = limit;
        self.dispatch(woken);
    }

    /// Changes how requests wait. Those that wait go on waiting, in other queues where theirs are gone.
    pub fn set_queuing(&mut self, now: Nanos, queuing: Queuing, woken: &mut Vec<(T, Ticket)>) {
        self.advance(now);
        self.queuing.hand_size = queuing.hand_size;
        self.queuing.queue_length_limit = queuing.queue_length_limit;
        // Without queues there would be nowhere to wait: that takes effect once nobody does.
        let wanted = if queuing.queues == 0 && self.waiting > 0 { 1 } else { queuing.queues };
        if wanted != self.queues.len() {
            self.queuing.queues = wanted;
            self.generation += 1;
            let old: Vec<Queue<T>> = std::mem::take(&mut self.queues);
            let fresh = || Queue { next_dispatch_r: self.r, ..Queue::default() };
            self.queues = (0..wanted).map(|_| fresh()).collect();
            for (i, queue) in old.into_iter().enumerate().filter(|_| wanted > 0) {
                let to = &mut self.queues[i % wanted];
                to.waiting_work += queue.waiting_work;
                to.waiting.extend(queue.waiting);
            }
            self.active = self.queues.iter().filter(|q| q.is_active()).count() as u32;
        }
        self.dispatch(woken);
    }

    /// What was wanted since this was last asked.
    pub fn take_demand(&mut self, now: Nanos) -> Demand {
        self.advance(now);
        let present = u64::from(self.seats_in_use) + self.seats_waiting;
        let seconds = now.saturating_sub(self.demand.since) as f64 / 1e9;
        let (average, variance) = match seconds > 0.0 {
            true => {
                let average = self.demand.sum / seconds;
                (average, (self.demand.squares / seconds - average * average).max(0.0))
            }
            false => (present as f64, 0.0),
        };
        let high = self.demand.high.max(present) as f64;
        self.demand = Integrator { since: now, high: present, ..Integrator::default() };
        Demand { average, deviation: variance.sqrt(), high }
    }

    /// A request that found no seat and couldn't wait counts as demand, too.
    pub fn note_unmet(&mut self, seats: u32) {
        let wanted = u64::from(self.seats_in_use) + self.seats_waiting + u64::from(seats);
        self.demand.high = self.demand.high.max(wanted);
    }

    pub fn view(&self) -> Vec<QueueView<'_, T>> {
        let one = |q| {
            let q: &Queue<T> = q;
            QueueView {
                executing: q.executing,
                seats_in_use: q.seats_in_use,
                next_dispatch_r: q.next_dispatch_r,
                waiting: q.waiting.iter().map(|w| (w.work, &w.wake)).collect(),
            }
        };
        self.queues.iter().map(one).collect()
    }

    /// Brings the virtual clock to `now`.
    fn advance(&mut self, now: Nanos) {
        // Callers read the clock before they take the lock, so it may seem to go back a little.
        let seconds = now.saturating_sub(self.now) as f64 / 1e9;
        self.now = self.now.max(now);
        let wanted = u64::from(self.seats_in_use) + self.seats_waiting;
        let present = wanted as f64;
        self.demand.sum += present * seconds;
        self.demand.squares += present * present * seconds;
        if self.active > 0 {
            self.r += seconds * present.min(f64::from(self.limit)) / f64::from(self.active);
        }
    }

    fn wants_more(&mut self) {
        self.demand.high = self.demand.high.max(u64::from(self.seats_in_use) + self.seats_waiting);
    }

    fn fits(&self, seats: u32) -> bool {
        match seats > self.limit {
            // Wider than all there is: alone, so that it is served at all.
            true => self.executing == 0,
            false => self.seats_in_use + seats <= self.limit,
        }
    }

    /// The queue of the flow's hand that has the least to do.
    fn choose(&self, flow: u64) -> usize {
        let mut best = (f64::INFINITY, u32::MAX, 0);
        sharding::deal(flow, self.queues.len(), self.queuing.hand_size.max(1), |card| {
            let queue = &self.queues[card];
            if (queue.waiting_work, queue.seats_in_use) < (best.0, best.1) {
                best = (queue.waiting_work, queue.seats_in_use, card);
            }
        });
        best.2
    }

    /// An idle queue begins at the present: what it didn't use is not saved up.
    fn activate(&mut self, queue: usize) {
        let queue = &mut self.queues[queue];
        if !queue.is_active() {
            queue.next_dispatch_r = self.r;
            self.active += 1;
        }
    }

    fn enqueue(&mut self, queue: usize, w: Waiting<T>) {
        self.seats_waiting += u64::from(w.work.seats_max());
        self.waiting += 1;
        let queue = &mut self.queues[queue];
        queue.waiting_work += w.work.total();
        queue.waiting.push_back(w);
        self.wants_more();
    }

    /// A request waits no longer in this queue.
    fn forget(&mut self, queue: usize, work: Work) {
        self.seats_waiting -= u64::from(work.seats_max());
        self.waiting -= 1;
        let queue = &mut self.queues[queue];
        queue.waiting_work = if queue.waiting.is_empty() { 0.0 } else { queue.waiting_work - work.total() };
    }

    fn seat(&mut self, queue: usize, work: Work) -> Ticket {
        let seats = work.seats_max();
        self.seats_in_use += seats;
        self.executing += 1;
        if let Some(q) = self.queues.get_mut(queue) {
            q.executing += 1;
            q.seats_in_use += seats;
            q.next_dispatch_r += work.total();
        }
        self.wants_more();
        Ticket { queue, generation: self.generation, work, started: self.now }
    }

    /// Serves as many as there are seats for, in fair order.
    fn dispatch(&mut self, woken: &mut Vec<(T, Ticket)>) {
        while self.waiting > 0 {
            let n = self.queues.len();
            let mut best: Option<(f64, usize)> = None;
            for step in 1..=n {
                let i = (self.robin + step) % n;
                let Some(first) = self.queues[i].waiting.front() else { continue };
                let done = self.queues[i].next_dispatch_r + first.work.total();
                if best.is_none_or(|(least, _)| done < least) {
                    best = Some((done, i));
                }
            }
            let Some((_, i)) = best else { return };
            // A wide request isn't overtaken by narrow ones, else it might wait for ever.
            if !self.queues[i].waiting.front().is_some_and(|w| self.fits(w.work.seats_max())) {
                return;
            }
            self.robin = i;
            if let Some(w) = self.queues[i].waiting.pop_front() {
                self.forget(i, w.work);
                let ticket = self.seat(i, w.work);
                woken.push((w.wake, ticket));
            }
        }
    }
}

impl Ticket {
    pub fn work(&self) -> Work {
        self.work
    }

    pub fn started(&self) -> Nanos {
        self.started
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    const MS: u64 = 1_000_000;

    fn arrive(set: &mut QueueSet<u32>, now: u64, flow: u64, seats: u32, id: u32) -> Arrival {
        let mut woken = Vec::new();
        let a = set.arrive(now, flow, Work::seats(seats), || id, &mut woken);
        assert!(woken.is_empty());
        a
    }

    #[test]
    fn a_level_without_queues_takes_what_fits_and_refuses_the_rest() {
        let mut set = QueueSet::new(Queuing::default(), 2, 0);
        let Arrival::Execute(a) = arrive(&mut set, 0, 1, 1, 1) else { panic!() };
        let Arrival::Execute(_b) = arrive(&mut set, 0, 1, 1, 2) else { panic!() };
        assert!(matches!(arrive(&mut set, 0, 1, 1, 3), Arrival::Reject(Reason::ConcurrencyLimit)));
        set.finish(MS, a, Duration::from_millis(1), &mut Vec::new());
        assert!(matches!(arrive(&mut set, MS, 1, 1, 3), Arrival::Execute(_)));
    }

    #[test]
    fn queues_are_bounded() {
        let mut set = QueueSet::new(Queuing { queues: 1, hand_size: 1, queue_length_limit: 2 }, 1, 0);
        assert!(matches!(arrive(&mut set, 0, 1, 1, 0), Arrival::Execute(_)));
        assert!(matches!(arrive(&mut set, 0, 1, 1, 1), Arrival::Wait(_)));
        let Arrival::Wait(place) = arrive(&mut set, 0, 1, 1, 2) else { panic!() };
        assert!(matches!(arrive(&mut set, 0, 1, 1, 3), Arrival::Reject(Reason::QueueFull)));
        let mut woken = Vec::new();
        assert!(set.leave(0, place, &mut woken) && !set.leave(0, place, &mut woken));
        assert!(matches!(arrive(&mut set, 0, 1, 1, 4), Arrival::Wait(_)));
    }

    #[test]
    fn a_request_wider_than_the_level_is_served_alone() {
        let mut set = QueueSet::new(Queuing { queues: 4, hand_size: 2, queue_length_limit: 50 }, 2, 0);
        let Arrival::Execute(narrow) = arrive(&mut set, 0, 1, 1, 0) else { panic!() };
        assert!(matches!(arrive(&mut set, 0, 2, 10, 1), Arrival::Wait(_)));
        let mut woken = Vec::new();
        set.finish(MS, narrow, Duration::from_millis(1), &mut woken);
        assert_eq!(woken.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1]);
        assert_eq!(set.seats_in_use(), 10);
    }

    /// A level under load from several flows, each with a number of clients that ask again as soon as they are
    /// answered. Gives the seat-seconds that each flow got.
    fn contend(queuing: Queuing, limit: u32, flows: &[(u32, u32, u64)], seconds: u64) -> Vec<f64> {
        let mut set: QueueSet<usize> = QueueSet::new(queuing, limit, 0);
        let mut running: Vec<(u64, usize, Ticket)> = Vec::new();
        let mut got = vec![0.0; flows.len()];
        // (when, flow): arrivals to come.
        let mut asking: Vec<(u64, usize)> =
            flows.iter().enumerate().flat_map(|(f, (clients, ..))| (0..*clients).map(move |_| (0, f))).collect();
        loop {
            let next_end = running.iter().map(|(at, ..)| *at).min().unwrap_or(u64::MAX);
            let next_ask = asking.iter().map(|(at, _)| *at).min().unwrap_or(u64::MAX);
            let now = next_end.min(next_ask);
            if now > seconds * 1000 * MS {
                return got;
            }
            let mut woken = Vec::new();
            if next_ask <= next_end {
                let i = asking.iter().position(|(at, _)| *at == now).unwrap();
                let (_, flow) = asking.swap_remove(i);
                let (_, seats, took) = flows[flow];
                match set.arrive(now, flow as u64 * 7919, Work::seats(seats), || flow, &mut woken) {
                    Arrival::Execute(t) => running.push((now + took, flow, t)),
                    Arrival::Wait(_) => {}
                    Arrival::Reject(_) => asking.push((now + 10 * MS, flow)),
                }
            } else {
                let i = running.iter().position(|(at, ..)| *at == now).unwrap();
                let (_, flow, ticket) = running.swap_remove(i);
                let (_, seats, took) = flows[flow];
                got[flow] += f64::from(seats) * took as f64 / 1e9;
                set.finish(now, ticket, Duration::from_nanos(took), &mut woken);
                asking.push((now + 1000, flow));
            }
            for (flow, ticket) in woken {
                running.push((now + flows[flow].2, flow, ticket));
            }
            assert!(set.seats_in_use() <= limit.max(flows.iter().map(|f| f.1).max().unwrap_or(1)));
        }
    }

    #[test]
    fn a_flow_that_floods_gets_no_more_than_its_share() {
        let queuing = Queuing { queues: 64, hand_size: 1, queue_length_limit: 1000 };
        // 400 clients against 10 that could use the same share.
        let got = contend(queuing, 10, &[(400, 1, 5 * MS), (10, 1, 5 * MS)], 6);
        assert!((got[0] / got[1] - 1.0).abs() < 0.1, "{got:?}");
        // Slow requests and wide ones are charged for what they take.
        let got = contend(queuing, 10, &[(50, 1, 50 * MS), (50, 1, 2 * MS)], 6);
        assert!((got[0] / got[1] - 1.0).abs() < 0.15, "{got:?}");
        let got = contend(queuing, 12, &[(50, 4, 5 * MS), (50, 1, 5 * MS)], 6);
        assert!((got[0] / got[1] - 1.0).abs() < 0.25, "{got:?}");
    }

    #[test]
    fn a_small_flow_gets_all_it_asks_for() {
        let queuing = Queuing { queues: 64, hand_size: 1, queue_length_limit: 1000 };
        let got = contend(queuing, 10, &[(400, 1, 5 * MS), (1, 1, 5 * MS)], 6);
        // Its one client waits at most for one seat to come free each time.
        assert!(got[1] > 6.0 * 0.45, "{got:?}");
    }

    #[test]
    fn hands_of_several_queues_keep_a_mouse_alive() {
        let queuing = Queuing { queues: 64, hand_size: 6, queue_length_limit: 50 };
        let got = contend(queuing, 10, &[(1000, 1, 5 * MS), (2, 1, 5 * MS)], 6);
        assert!(got[1] > 6.0 * 0.4, "{got:?}");
    }

    /// Random histories: no seat is lost or given twice, and in the end everybody was served or left.
    #[test]
    fn no_seat_is_lost_whatever_happens() {
        for seed in 0..300u64 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut set: QueueSet<u32> = QueueSet::new(
                Queuing { queues: rng.random_range(0..6), hand_size: rng.random_range(1..4), queue_length_limit: 5 },
                rng.random_range(1..8),
                0,
            );
            let mut running: Vec<Ticket> = Vec::new();
            let mut places: Vec<(u32, Place)> = Vec::new();
            let mut now = 0;
            for step in 0..400u32 {
                now += rng.random_range(0..5 * MS);
                let mut woken = Vec::new();
                match rng.random_range(0..10) {
                    0..=4 => {
                        let work = Work {
                            initial_seats: rng.random_range(1..4),
                            final_seats: rng.random_range(0..10),
                            additional_latency: Duration::from_millis(5),
                        };
                        match set.arrive(now, rng.random_range(0..5), work, || step, &mut woken) {
                            Arrival::Execute(t) => running.push(t),
                            Arrival::Wait(p) => places.push((step, p)),
                            Arrival::Reject(_) => {}
                        }
                    }
                    5..=7 if !running.is_empty() => {
                        let t = running.swap_remove(rng.random_range(0..running.len()));
                        set.finish(now, t, Duration::from_nanos(rng.random_range(0..9 * MS)), &mut woken);
                    }
                    8 if !places.is_empty() => {
                        let (_, place) = places.swap_remove(rng.random_range(0..places.len()));
                        assert!(set.leave(now, place, &mut woken));
                    }
                    9 => match rng.random_range(0..3) {
                        0 => set.set_limit(now, rng.random_range(0..8), &mut woken),
                        1 => {
                            let queuing =
                                Queuing { queues: rng.random_range(0..6), hand_size: 2, queue_length_limit: 5 };
                            set.set_queuing(now, queuing, &mut woken);
                        }
                        _ => {
                            let d = set.take_demand(now);
                            assert!(d.high >= f64::from(set.seats_in_use()) && d.average <= d.high + 1e-9, "{d:?}");
                        }
                    },
                    _ => {}
                }
                for (id, ticket) in woken {
                    places.retain(|(p, _)| *p != id);
                    running.push(ticket);
                }
                assert_eq!(
                    set.seats_in_use(),
                    running.iter().map(|t| t.work().seats_max()).sum::<u32>(),
                    "seed {seed}"
                );
                assert_eq!((set.executing() as usize, set.waiting()), (running.len(), places.len()), "seed {seed}");
                let active = set.queues.iter().filter(|q| q.is_active()).count();
                assert_eq!(set.active as usize, active, "seed {seed} step {step}");
            }
            // Everybody is served in the end, however narrow the level.
            set.set_limit(now, 1, &mut Vec::new());
            let mut guard = 0;
            while !running.is_empty() || set.waiting() > 0 {
                let mut woken = Vec::new();
                now += MS;
                match running.pop() {
                    Some(t) => set.finish(now, t, Duration::from_millis(1), &mut woken),
                    None => set.set_limit(now, 1, &mut woken),
                }
                running.extend(woken.into_iter().map(|(_, t)| t));
                guard += 1;
                assert!(guard < 10_000, "seed {seed}: somebody starves");
            }
            assert_eq!((set.seats_in_use(), set.executing(), set.active, set.seats_waiting), (0, 0, 0, 0));
        }
    }
}
