//! The queue before the workers of one lane: who goes next, with whom, and who may not wait at all.
//!
//! Pure: it counts workers and holds jobs of any kind; time is an argument. Foreground work (queries, scoring) goes first
//! come, first served, and takes along what waits for the same model, as far as one engine call may hold. Background work
//! (training) starts only when nothing else waits, and never on the last free worker of a lane that has more than one.
//!
//! Invariants: never more running than workers, never more waiting than places; every job leaves exactly once, to a
//! worker or with its fate.

use std::collections::VecDeque;

use crate::ml::engine::Handle;
use crate::protocol::query::ITEMS_MAX;

/// Who yields to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Foreground,
    Background,
}

/// Jobs with equal keys may share one engine call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchKey {
    pub model: Handle,
    pub kind: &'static str,
}

/// A job in the queue.
#[derive(Debug)]
pub(super) struct Waiting<J> {
    pub class: Class,
    /// Whether it may be batched, and how many items of a call it takes.
    pub batch: Option<(BatchKey, usize)>,
    pub due_ms: u64,
    pub job: J,
}

/// Why a job leaves the queue without having run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Late,
    Cancelled,
}

/// The queue of one lane.
#[derive(Debug)]
pub(super) struct LaneQueue<J> {
    workers: usize,
    waiting_max: usize,
    foreground_running: usize,
    background_running: usize,
    foreground: VecDeque<Waiting<J>>,
    background: VecDeque<Waiting<J>>,
}

impl<J> LaneQueue<J> {
    pub fn new(workers: usize, waiting_max: usize) -> Self {
        Self {
            workers: workers.max(1),
            waiting_max,
            foreground_running: 0,
            background_running: 0,
            foreground: VecDeque::new(),
            background: VecDeque::new(),
        }
    }

    pub fn workers(&self) -> usize {
        self.workers
    }

    pub fn free(&self) -> usize {
        self.workers.saturating_sub(self.foreground_running + self.background_running)
    }

    pub fn training(&self) -> usize {
        self.background_running
    }

    pub fn waiting(&self) -> usize {
        self.foreground.len() + self.background.len()
    }

    /// Takes a job in, or gives it back when every place is taken. A job that a free worker can begin at once needs no
    /// place, so `waiting_max` may be 0.
    pub fn offer(&mut self, waiting: Waiting<J>) -> Result<(), Waiting<J>> {
        let places = self.waiting_max + self.free();
        if self.waiting() >= places {
            return Err(waiting);
        }
        match waiting.class {
            Class::Foreground => self.foreground.push_back(waiting),
            Class::Background => self.background.push_back(waiting),
        }
        Ok(())
    }

    /// Takes out what need not run any more.
    pub fn sweep(&mut self, now_ms: u64, cancelled: impl Fn(&J) -> bool) -> Vec<(J, Fate)> {
        let mut gone = Vec::new();
        for queue in [&mut self.foreground, &mut self.background] {
            let (keep, go): (Vec<_>, Vec<_>) =
                queue.drain(..).partition(|waiting| now_ms < waiting.due_ms && !cancelled(&waiting.job));
            queue.extend(keep);
            gone.extend(go.into_iter().map(|waiting| {
                let fate = if cancelled(&waiting.job) { Fate::Cancelled } else { Fate::Late };
                (waiting.job, fate)
            }));
        }
        gone
    }

    /// The next jobs for one worker, which is taken: one, or several that share an engine call. `None` when nobody is
    /// free or nothing may start.
    pub fn start(&mut self) -> Option<(Class, Vec<J>)> {
        if self.free() == 0 {
            return None;
        }
        if let Some(first) = self.foreground.pop_front() {
            self.foreground_running += 1;
            return Some((Class::Foreground, self.join(first)));
        }
        if self.free() < 2 && self.workers > 1 {
            return None;
        }
        let first = self.background.pop_front()?;
        self.background_running += 1;
        Some((Class::Background, vec![first.job]))
    }

    /// The job with those of equal key that wait behind it, in their order, up to the bound of one call.
    fn join(&mut self, first: Waiting<J>) -> Vec<J> {
        let mut jobs = vec![first.job];
        let Some((key, mut items)) = first.batch else { return jobs };
        let mut open = true;
        for waiting in std::mem::take(&mut self.foreground) {
            match waiting.batch {
                Some((other, more)) if open && other == key => {
                    // The first that does not fit closes the batch: nobody is overtaken by its own kind.
                    open = items + more <= ITEMS_MAX;
                    if open {
                        items += more;
                        jobs.push(waiting.job);
                    } else {
                        self.foreground.push_back(waiting);
                    }
                }
                _ => self.foreground.push_back(waiting),
            }
        }
        jobs
    }

    /// Its worker is free again.
    pub fn finish(&mut self, class: Class) {
        let running = match class {
            Class::Foreground => &mut self.foreground_running,
            Class::Background => &mut self.background_running,
        };
        *running = running.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::ids::Digest;

    fn key(model: u8) -> BatchKey {
        BatchKey { model: Digest([model; 32]), kind: "classify" }
    }

    fn query(job: u32, model: u8, items: usize) -> Waiting<u32> {
        Waiting { class: Class::Foreground, batch: Some((key(model), items)), due_ms: 1_000, job }
    }

    fn training(job: u32) -> Waiting<u32> {
        Waiting { class: Class::Background, batch: None, due_ms: 1_000, job }
    }

    fn offered(workers: usize, jobs: Vec<Waiting<u32>>) -> LaneQueue<u32> {
        let mut queue = LaneQueue::new(workers, 64);
        jobs.into_iter().for_each(|job| queue.offer(job).unwrap());
        queue
    }

    #[test]
    fn waiting_jobs_of_one_model_share_a_call() {
        let single = Waiting { batch: None, ..query(9, 0, 1) };
        let check = |jobs: Vec<Waiting<u32>>, expected: &[&[u32]]| {
            let mut queue = offered(9, jobs);
            let batches: Vec<Vec<u32>> = std::iter::from_fn(|| queue.start().map(|(_, jobs)| jobs)).collect();
            assert_eq!(batches, expected);
        };
        check(vec![query(1, 1, 1), query(2, 1, 1), query(3, 1, 1)], &[&[1, 2, 3]]);
        check(vec![query(1, 1, 1), query(2, 2, 1), query(3, 1, 1)], &[&[1, 3], &[2]]);
        check(vec![query(1, 1, 200), query(2, 1, 57), query(3, 1, 1)], &[&[1], &[2, 3]]);
        check(vec![query(1, 1, 200), query(2, 1, 56)], &[&[1, 2]]);
        check(vec![single, query(1, 1, 1), query(2, 1, 1)], &[&[9], &[1, 2]]);
    }

    #[test]
    fn training_yields() {
        let mut queue = offered(1, vec![training(1), query(2, 1, 1)]);
        assert_eq!(queue.start(), Some((Class::Foreground, vec![2])), "queries go first");
        assert_eq!(queue.start(), None);
        queue.finish(Class::Foreground);
        assert_eq!(queue.start(), Some((Class::Background, vec![1])), "a lane of one worker trains too");

        let mut queue = offered(3, vec![training(1), training(2), training(3)]);
        assert!(queue.start().is_some() && queue.start().is_some());
        assert_eq!(queue.start(), None, "the last free worker is kept for queries");
        queue.offer(query(4, 1, 1)).unwrap();
        assert_eq!(queue.start(), Some((Class::Foreground, vec![4])));
    }

    #[test]
    fn what_is_late_or_cancelled_never_runs() {
        let mut queue = offered(1, vec![query(1, 1, 1), Waiting { due_ms: 5, ..query(2, 1, 1) }, training(3)]);
        assert_eq!(queue.sweep(5, |&job| job == 3), [(2, Fate::Late), (3, Fate::Cancelled)]);
        assert_eq!(queue.start(), Some((Class::Foreground, vec![1])));
    }

    proptest! {
        #[test]
        fn every_job_leaves_once_and_no_bound_is_passed(
            workers in 1_usize..4, waiting_max in 0_usize..6,
            steps in proptest::collection::vec((0_u8..5, 0_u8..3, 1_usize..257), 1..200),
        ) {
            let mut queue = LaneQueue::new(workers, waiting_max);
            let (mut taken, mut left, mut running) = (0_u32, Vec::new(), Vec::new());
            for (now, (what, model, items)) in (0_u64..).zip(steps) {
                match what {
                    0 | 1 => {
                        let mut job = if what == 0 { query(taken, model, items) } else { training(taken) };
                        job.due_ms = now + items as u64 % 9;
                        if queue.offer(job).is_ok() { taken += 1; }
                    }
                    2 => left.extend(queue.sweep(now, |&job| job % 5 == 4).into_iter().map(|(job, _)| job)),
                    3 => if let Some((class, jobs)) = queue.start() {
                        running.push(class);
                        left.extend(jobs);
                    },
                    _ => if let Some(class) = running.pop() { queue.finish(class) },
                }
                prop_assert!(running.len() <= workers && queue.free() == workers - running.len());
                prop_assert!(queue.waiting() <= waiting_max + workers);
            }
            left.extend(queue.sweep(u64::MAX, |_| false).into_iter().map(|(job, _)| job));
            left.sort_unstable();
            prop_assert_eq!(left, (0..taken).collect::<Vec<_>>());
        }
    }
}
