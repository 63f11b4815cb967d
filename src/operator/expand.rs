//! `expand`: more elements of each, for as long as downstream asks and nothing newer has come.

use std::task::Poll;

use super::intake::{Intake, Took};
use super::pace::Patience;
use super::{Context, Control, Demand, Fill, Held, Input, Operator, guard};
use crate::chunk::{Chunk, Element};
use crate::error::{Cause, Stop};
use crate::outcome::{Outcome, Reason};

pub(crate) struct Expand<T, I, F> {
    intake: Intake<T>,
    buf: Chunk<T>,
    f: F,
    /// What the last element is expanded to.
    rest: Option<I>,
}

impl<T, I, F> Expand<T, I, F> {
    pub(crate) fn new(input: Input<T>, f: F) -> Self {
        Expand {
            intake: Intake::new(input),
            buf: Chunk::default(),
            f,
            rest: None,
        }
    }
}

impl<T, U, I, F> Expand<T, I, F>
where
    I: Iterator<Item = U>,
    F: FnMut(T) -> I,
{
    /// Expands the element that has come. Its first value stands for it and bears its receipt.
    fn begin(&mut self, cx: &mut Context<'_, '_>, out: &mut Chunk<U>) {
        let Some(Element { value, meta }) = self.buf.drain().next() else {
            return;
        };
        let expanded = guard(|| {
            let mut values = (self.f)(value);
            let first = values.next();
            (first, values)
        });
        self.rest = None;
        match expanded {
            Ok((Some(value), rest)) => {
                out.push(Element { value, meta });
                self.rest = Some(rest);
            }
            Ok((None, _)) => cx.settle(meta, Outcome::Filtered(Reason::Empty)),
            Err(_) => cx.settle(meta, Outcome::Failed(Reason::Panicked)),
        }
    }

    /// One more value of the last element, if it has more.
    fn repeat(&mut self, cx: &mut Context<'_, '_>, out: &mut Chunk<U>) -> Result<(), Stop> {
        let Some(rest) = &mut self.rest else {
            return Ok(());
        };
        let next = guard(|| rest.next());
        match next.map_err(|message| Stop::cause(Cause::Panicked(message)))? {
            Some(value) => out.push(Element {
                value,
                meta: cx.make(),
            }),
            None => self.rest = None,
        }
        Ok(())
    }
}

impl<T, U, I, F> Operator<U> for Expand<T, I, F>
where
    T: Send,
    U: Send,
    I: Iterator<Item = U> + Send,
    F: FnMut(T) -> I + Send,
{
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<U>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut patience = Patience::default();
        loop {
            if self.intake.is_due(true) {
                self.rest = None;
                return self.intake.deliver(out);
            }
            // One at a time: what is asked for next may be a newer one's.
            let ask = Demand::items(want.items.min(1));
            let took = self.intake.fill(cx, &mut self.buf, ask);
            if self.buf.is_empty() {
                match took {
                    Took::Ended | Took::Rewound(_) => continue,
                    _ if want.is_none() => return Ok(Fill::Pending),
                    _ => self.repeat(cx, out)?,
                }
            } else {
                self.begin(cx, out);
            }
            if !out.is_empty() {
                return Ok(Fill::More);
            }
            if took == Took::Pending || patience.is_over(cx) {
                return Ok(Fill::Pending);
            }
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        if signal == Control::Cancel {
            self.rest = None;
        }
        self.intake.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.intake.poll_close(cx)
    }
}
