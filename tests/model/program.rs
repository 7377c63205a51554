//! What a random test does: programs of a few runs, and what is done to them and to their host meanwhile. All of it follows from a seed.

use everfold::testing::Restart;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

/// The input of the one activity of all programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) id: u32,
    /// Attempts that fail before one does not.
    pub(crate) fails: u32,
    /// How long an attempt takes.
    pub(crate) takes_ms: u64,
    /// Whether it fails for good in the end.
    pub(crate) is_refused: bool,
}

/// A step of a program; the sample workflow `program` knows them by these names.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    Run(Task),
    Shielded(Task),
    Together(Vec<Task>),
    Race(Task, u64),
    Sleep(u64),
    Take(String),
    TakeWithin(String, u64),
    Version(String),
    Tell { to: String, name: String, value: u64 },
    Child { id: String, steps: Vec<Self> },
    GoOn,
}

impl Step {
    /// The tasks that it runs.
    pub(crate) fn tasks(&self) -> &[Task] {
        match self {
            Self::Run(task) | Self::Shielded(task) | Self::Race(task, _) => std::slice::from_ref(task),
            Self::Together(tasks) => tasks,
            Self::Sleep(_)
            | Self::Take(_)
            | Self::TakeWithin(..)
            | Self::Version(_)
            | Self::Tell { .. }
            | Self::Child { .. }
            | Self::GoOn => &[],
        }
    }
}

/// What is done to the runs and to their host. Runs are meant by their place in the plan.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Move {
    /// The next signal of a run is sent.
    Send(usize),
    /// The last one is sent again.
    SendAgain(usize),
    /// The next one is sent while the host is killed, and again to the next host.
    SendAndKill(usize),
    /// Time moves by so many milliseconds.
    Advance(u64),
    /// All that goes on comes to wait.
    Settle,
    Restart(Restart),
    /// The run's instance is dropped.
    Evict(usize),
    Cancel(usize),
    /// The run gets an input of its history again.
    DeliverAgain(usize, u64),
    /// The run goes on from an earlier event of its history.
    Reset(usize, u64),
}

/// A random test.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) programs: Vec<Vec<Step>>,
    pub(crate) moves: Vec<Move>,
    /// One transaction of so many is rolled back.
    pub(crate) rolls_back_one_in: Option<u64>,
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
        let runs = 1 + dice.below(3) as usize;
        let mut next_task = 0;
        let programs = (0..runs).map(|run| program(&mut dice, run, runs, &mut next_task)).collect();
        let moves = (0..dice.below(14)).map(|_| dice.a_move(runs)).collect();
        let rolls_back_one_in = dice.once_in(3).then(|| 2 + dice.below(12));
        Self { programs, moves, rolls_back_one_in }
    }

    /// Whether neither host nor store fails, and nobody cancels or resets anything.
    pub(crate) fn is_calm(&self) -> bool {
        let is_calm = |step: &Move| match step {
            Move::Restart(_) | Move::SendAndKill(_) | Move::Cancel(_) | Move::Reset(..) => false,
            Move::Send(_)
            | Move::SendAgain(_)
            | Move::Advance(_)
            | Move::Settle
            | Move::Evict(_)
            | Move::DeliverAgain(..) => true,
        };
        self.rolls_back_one_in.is_none() && self.moves.iter().all(is_calm)
    }

    /// Whether somebody asks the run to cancel.
    pub(crate) fn cancels(&self, run: usize) -> bool {
        self.moves.iter().any(|step| matches!(step, Move::Cancel(other) if *other == run))
    }

    /// Whether the run goes back at some time, so that it asks for things again.
    pub(crate) fn resets(&self, run: usize) -> bool {
        self.moves.iter().any(|step| matches!(step, Move::Reset(other, _) if *other == run))
    }

    /// The signals of a run, in the order in which they are sent: as many of each name as its program may take.
    pub(crate) fn signals(&self, run: usize) -> Vec<(String, u64)> {
        let mut sent: Vec<(String, u64)> = Vec::new();
        for step in &self.programs[run] {
            if let Step::Take(name) | Step::TakeWithin(name, _) = step {
                let before = sent.iter().filter(|(other, _)| other == name).count() as u64;
                sent.push((name.clone(), before));
            }
        }
        sent
    }
}

/// The workflow id of a run.
pub(crate) fn workflow_id(run: usize) -> String {
    format!("run-{run}")
}

fn program(dice: &mut Dice, run: usize, runs: usize, next_task: &mut u32) -> Vec<Step> {
    let mut told = 0;
    let mut task = |dice: &mut Dice| dice.a_task(next_task);
    let steps = 1 + dice.below(8);
    let name = |dice: &mut Dice| if dice.once_in(2) { "a" } else { "b" }.to_owned();
    (0..steps)
        .map(|_| match dice.below(13) {
            0..=2 => Step::Run(task(dice)),
            3 => Step::Shielded(task(dice)),
            4 => Step::Together((0..=dice.below(4)).map(|_| task(dice)).collect()),
            5 => Step::Race(task(dice), 1 + dice.below(30_000)),
            6 => Step::Sleep(1 + dice.below(100_000)),
            7 => Step::Take(name(dice)),
            8 => Step::TakeWithin(name(dice), 1 + dice.below(20_000)),
            9 => Step::Version(format!("change-{}", dice.below(3))),
            10 => {
                told += 1;
                let to = workflow_id(dice.below(runs as u64) as usize);
                Step::Tell { to, name: format!("told-{run}"), value: told }
            }
            11 => {
                Step::Child { id: workflow_id(runs + task(dice).id as usize), steps: child(dice, &mut task) }
            }
            _ => Step::GoOn,
        })
        .collect()
}

/// What a child does: nobody sends it anything.
fn child(dice: &mut Dice, task: &mut impl FnMut(&mut Dice) -> Task) -> Vec<Step> {
    (0..dice.below(4))
        .map(|_| match dice.below(5) {
            0 | 1 => Step::Run(task(dice)),
            2 => Step::Sleep(1 + dice.below(50_000)),
            3 => Step::Together((0..=dice.below(3)).map(|_| task(dice)).collect()),
            _ => Step::GoOn,
        })
        .collect()
}

struct Dice(ChaCha8Rng);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn a_task(&mut self, next_task: &mut u32) -> Task {
        *next_task += 1;
        Task {
            id: *next_task,
            fails: if self.once_in(3) { 1 + self.below(3) as u32 } else { 0 },
            takes_ms: if self.once_in(2) { 1 + self.below(20_000) } else { 0 },
            is_refused: self.once_in(6),
        }
    }

    fn a_move(&mut self, runs: usize) -> Move {
        let run = self.below(runs as u64) as usize;
        match self.below(20) {
            0..=5 => Move::Send(run),
            6 => Move::SendAgain(run),
            7 => Move::SendAndKill(run),
            8..=11 => Move::Advance(1 + self.below(30_000)),
            12 | 13 => Move::Settle,
            14 => Move::Restart(Restart::Killed),
            15 => Move::Restart(Restart::InOrder),
            16 => Move::Evict(run),
            17 if self.once_in(2) => Move::Cancel(run),
            17..=18 => Move::DeliverAgain(run, self.0.next_u64()),
            19 => Move::Reset(run, self.0.next_u64()),
            _ => Move::Evict(run),
        }
    }
}
