//! The conformance suite must catch what is broken: one stage, sound, and its twins with one defect
//! each.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay::chunk::{Chunk, Element};
use forebay::error::Stop;
use forebay::mark::Mark;
use forebay::operator::{Context, Control, Demand, Fill, Held, Input, Operator};
use forebay::outcome::{Outcome, Reason};
use forebay::testkit::{Conformance, Conformed, Violation};
use forebay::topology::NodeSpec;

/// What is wrong with a twin.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Defect {
    Nothing,
    EmitsTwice,
    LosesElement,
    LosesReceipt,
    LosesWake,
    ExceedsDemand,
    EmitsUnasked,
    CallsFilteredDelivered,
    ForgetsHeldOnCancel,
    TellsNoCancel,
    TellsNoDrain,
    SwallowsBarrier,
    LetsBarrierOvertake,
    KeepsOldGeneration,
    SaysMoreWithoutElement,
    CountsHeldWrong,
    HoldsTooMany,
    SwallowsError,
    ErrorOvertakes,
    DependsOnChunks,
    IgnoresSeed,
}

use Defect as D;

/// Elements it keeps inside until later ones push them on, and the most it takes in.
const LAG: usize = 2;
const MOST: usize = 8;
/// The element it leaves out, as a filter would.
const LEFT_OUT: u64 = 5;
/// The element at which defects show that need only one.
const BAD: u64 = 3;

/// A delay line that leaves one element out.
struct Line {
    input: Input<u64>,
    buf: Chunk<u64>,
    inside: VecDeque<Element<u64>>,
    mark: Option<Mark>,
    failed: Option<Stop>,
    done: bool,
    slept: bool,
    defect: Defect,
}

impl Line {
    fn take_in(&mut self, cx: &mut Context<'_, '_>) {
        let size = self.buf.len() as u64;
        for mut element in self.buf.drain() {
            match element.value {
                LEFT_OUT => {
                    let outcome = match self.defect {
                        D::CallsFilteredDelivered => Outcome::Delivered,
                        _ => Outcome::Filtered(Reason::Predicate),
                    };
                    cx.settle(element.meta, outcome);
                    continue;
                }
                BAD => match self.defect {
                    D::EmitsTwice => self.inside.push_back(Element::new(BAD)),
                    D::LosesElement => continue,
                    D::LosesReceipt => drop(std::mem::take(&mut element.meta.receipt)),
                    _ => {}
                },
                _ => {}
            }
            if self.defect == D::DependsOnChunks && size == 1 {
                element.value += 1000;
            }
            self.inside.push_back(element);
        }
    }

    fn hand_on(&mut self, out: &mut Chunk<u64>, want: Demand) {
        let ending = self.done || self.mark.is_some();
        let keep = if ending { 0 } else { LAG };
        let room = match self.defect {
            D::ExceedsDemand if want.items > 0 => MOST,
            D::EmitsUnasked if want.is_none() => 1,
            _ => want.items,
        };
        while out.len() < room && self.inside.len() > keep {
            out.push(self.inside.pop_front().unwrap());
        }
    }

    fn take_mark(&mut self, cx: &mut Context<'_, '_>, mark: Mark) {
        if let Mark::Rewind(source, _) = &mark
            && self.defect != D::KeepsOldGeneration
        {
            for element in std::mem::take(&mut self.inside) {
                let standing = element.meta.receipt.standing();
                if standing.is_none_or(|standing| standing.source == *source) {
                    cx.settle(element.meta, Outcome::Cancelled(Reason::Rewound));
                } else {
                    self.inside.push_back(element);
                }
            }
        }
        if !(self.defect == D::SwallowsBarrier && matches!(mark, Mark::Barrier(_))) {
            self.mark = Some(mark);
        }
    }

    /// What may go before the elements inside.
    fn mark_passes(&self) -> bool {
        match &self.mark {
            None => false,
            Some(Mark::Rewind(..)) => true,
            Some(Mark::Barrier(_)) => {
                self.inside.is_empty() || self.defect == D::LetsBarrierOvertake
            }
        }
    }
}

/// Drawn from nowhere: two runs of one seed see different numbers.
static CHANCE: AtomicU64 = AtomicU64::new(0);

impl Operator<u64> for Line {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<u64>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        loop {
            if self.mark_passes() {
                return Ok(Fill::Mark(self.mark.take().unwrap()));
            }
            self.hand_on(out, want);
            if !out.is_empty() {
                return Ok(Fill::More);
            }
            if self.done && self.inside.is_empty() {
                return self.failed.take().map_or(Ok(Fill::Done), Err);
            }
            let most = match self.defect {
                D::HoldsTooMany => MOST * 8,
                D::IgnoresSeed => LAG + 1 + (CHANCE.fetch_add(1, Ordering::Relaxed) % 3) as usize,
                _ => MOST,
            };
            let room = most.saturating_sub(self.inside.len());
            if self.done || self.mark.is_some() || room == 0 {
                return Ok(Fill::Pending);
            }
            let filled = self.input.fill(cx, &mut self.buf, Demand::items(room));
            self.take_in(cx);
            match filled {
                Ok(Fill::More) if self.defect == D::SaysMoreWithoutElement => {
                    return Ok(Fill::More);
                }
                Ok(Fill::More) if self.defect == D::LosesWake && !self.slept => {
                    self.slept = true;
                    return Ok(Fill::Pending);
                }
                Ok(Fill::More) => {}
                Ok(Fill::Done) => self.done = true,
                Ok(Fill::Mark(mark)) => self.take_mark(cx, mark),
                Ok(Fill::Pending) if self.inside.len() > LAG && !want.is_none() => {}
                Ok(Fill::Pending) => return Ok(Fill::Pending),
                Err(_) if self.defect == D::SwallowsError => self.done = true,
                Err(stop) if self.defect == D::ErrorOvertakes => return Err(stop),
                Err(stop) => {
                    self.failed = Some(stop);
                    self.done = true;
                }
            }
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        match signal {
            Control::Cancel => {
                let outcome = cx.leftover();
                for element in self.inside.drain(..) {
                    if self.defect != D::ForgetsHeldOnCancel {
                        cx.settle(element.meta, outcome);
                    }
                }
                self.done = true;
                if self.defect == D::TellsNoCancel {
                    return;
                }
            }
            Control::Drain if self.defect == D::TellsNoDrain => return,
            _ => {}
        }
        self.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        let off = usize::from(self.defect == D::CountsHeldWrong && self.inside.len() == LAG);
        Held::items(self.inside.len() - off)
    }
}

fn conform(defect: Defect) -> Result<Conformed, Violation> {
    suite(defect).run()
}

fn suite(defect: Defect) -> Conformance<u64> {
    Conformance::new(
        "delay line",
        move |flow| {
            flow.stage(NodeSpec::new("line").holds(MOST), |input| Line {
                input,
                buf: Chunk::default(),
                inside: VecDeque::new(),
                mark: None,
                failed: None,
                done: false,
                slept: false,
                defect,
            })
        },
        |input| input.into_iter().filter(|n| *n != LEFT_OUT).collect(),
    )
}

/// The violation must name the stage and say what is wrong; the same seed must show it again.
#[track_caller]
fn caught(defect: Defect, what: &str) {
    let violation = conform(defect).expect_err("the defect was not caught");
    assert_eq!(violation.stage, "line", "{violation}");
    assert!(violation.to_string().contains(what), "{violation}");
    if defect != D::IgnoresSeed {
        assert_eq!(conform(defect).unwrap_err(), violation, "it shows again");
    }
}

#[test]
fn the_sound_stage_passes() {
    let done = conform(D::Nothing).unwrap();
    assert!(done.runs >= 24 * 8, "{done:?}");
    assert!(
        done.elements > 1000 && done.barriers > 100 && done.rewinds > 5,
        "{done:?}"
    );
}

macro_rules! catches {
    ($($name:ident: $defect:ident, $what:literal;)+) => {
        $(
            #[test]
            fn $name() {
                caught(Defect::$defect, $what);
            }
        )+
    };
}

catches! {
    an_element_emitted_twice: EmitsTwice, "1 elements too many";
    an_element_lost: LosesElement, "1 elements are missing";
    a_receipt_lost: LosesReceipt, "1 receipts were dropped, not settled";
    a_wake_up_lost: LosesWake, "nothing wakes what waits";
    more_than_was_asked: ExceedsDemand, "more elements than were asked for";
    elements_that_nobody_asked_for: EmitsUnasked, "although none were asked for";
    a_filtered_element_called_delivered: CallsFilteredDelivered, "calls elements delivered";
    what_it_holds_forgotten_on_cancel: ForgetsHeldOnCancel, "elements are missing";
    a_source_not_told_of_a_cancel: TellsNoCancel, "source was not told";
    a_source_not_told_of_a_drain: TellsNoDrain, "`drain`";
    a_barrier_swallowed: SwallowsBarrier, "barrier";
    a_barrier_that_overtakes: LetsBarrierOvertake, "of the";
    an_older_generation_kept: KeepsOldGeneration, "older generation";
    more_without_an_element: SaysMoreWithoutElement, "`More` without an element";
    held_miscounted: CountsHeldWrong, "elements are missing";
    more_held_than_declared: HoldsTooMany, "and declares 8";
    an_error_swallowed: SwallowsError, "`error`";
    an_error_that_overtakes: ErrorOvertakes, "`error`";
    a_result_that_depends_on_chunks: DependsOnChunks, "`model`";
    a_run_that_ignores_its_seed: IgnoresSeed, "one seed gave two runs";
}

#[test]
fn the_wall_clock_catches_as_well() {
    let on_threads = |defect| suite(defect).wall_clock().seeds(3).run();
    on_threads(D::Nothing).unwrap();
    for defect in [
        D::LosesElement,
        D::LosesReceipt,
        D::ExceedsDemand,
        D::SwallowsError,
    ] {
        let violation = on_threads(defect).expect_err("the defect was not caught");
        assert_eq!(violation.stage, "line", "{violation}");
    }
}

#[test]
fn elements_that_the_model_did_not_leave_out() {
    let conform = |model: fn(Vec<u64>) -> Vec<u64>| {
        let part = |flow: forebay::flow::Flow<u64>| {
            flow.try_map(|n| if n % 2 == 0 { Ok(*n) } else { Err("odd") })
                .or_discard()
        };
        let suite = Conformance::new("discards", part, model);
        suite.leaves_out(forebay::outcome::Kind::Shed).run()
    };
    conform(|input| input.into_iter().filter(|n| n % 2 == 0).collect()).unwrap();
    assert_eq!(conform(|input| input).unwrap_err().rule, "model");
}
