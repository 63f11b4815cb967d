//! A stage of one's own: merges runs of equal values into one element with a count.
//!
//! It gathers, so it shows all of the contract: what it holds is counted, a barrier makes it hand on
//! its remainder, a rewind makes it drop what it holds of that source, and a cancellation settles it.
//!
//! `cargo run --example own_stage`

use std::task::Poll;

use forebay::chunk::{Chunk, Element, Meta};
use forebay::error::Stop;
use forebay::mark::Mark;
use forebay::operator::{Context, Control, Demand, Fill, Held, Input, Operator};
use forebay::outcome::{Outcome, Reason};
use forebay::source;

/// Merges neighbours that are equal, at most `limit` of them.
struct RunLengths<T> {
    input: Input<T>,
    buf: Chunk<T>,
    limit: usize,
    value: Option<T>,
    parts: Vec<Meta>,
    /// The mark or the end that waits behind what is held.
    then: Option<Fill>,
}

impl<T: PartialEq> RunLengths<T> {
    /// The element of the run that ends here.
    fn close(&mut self, cx: &mut Context<'_, '_>) -> Option<Element<(T, usize)>> {
        let value = self.value.take()?;
        let parts = std::mem::take(&mut self.parts);
        let count = parts.len();
        Some(Element {
            value: (value, count),
            meta: cx.merge(parts),
        })
    }
}

impl<T: PartialEq + Send> Operator<(T, usize)> for RunLengths<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<(T, usize)>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        loop {
            if let Some(then) = self.then.take() {
                if self.value.is_none() {
                    return Ok(then);
                }
                self.then = Some(then);
                if want.is_none() {
                    return Ok(Fill::Pending);
                }
                out.extend(self.close(cx));
                return Ok(Fill::More);
            }
            // Each element that comes closes one run at most.
            let fill = self.input.fill(cx, &mut self.buf, want)?;
            let mut buf = std::mem::take(&mut self.buf);
            for element in buf.drain() {
                let same = self
                    .value
                    .as_ref()
                    .is_some_and(|value| *value == element.value);
                if !same || self.parts.len() == self.limit {
                    out.extend(self.close(cx));
                    self.value = Some(element.value);
                }
                self.parts.push(element.meta);
            }
            self.buf = buf;
            match fill {
                Fill::Mark(Mark::Rewind(source, generation)) => {
                    let of = |meta: &Meta| {
                        meta.receipt
                            .standing()
                            .is_none_or(|standing| standing.source == source)
                    };
                    let (gone, kept) = self.parts.drain(..).partition(of);
                    self.parts = kept;
                    let gone: Vec<Meta> = gone;
                    for meta in gone {
                        cx.settle(meta, Outcome::Cancelled(Reason::Rewound));
                    }
                    if self.parts.is_empty() {
                        self.value = None;
                    }
                    return Ok(Fill::Mark(Mark::Rewind(source, generation)));
                }
                Fill::Mark(_) | Fill::Done => {
                    self.then = Some(fill);
                    if !out.is_empty() {
                        return Ok(Fill::More);
                    }
                }
                Fill::More if out.is_empty() => {}
                fill => return Ok(fill),
            }
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        if signal == Control::Cancel {
            self.value = None;
            for meta in self.parts.drain(..) {
                let outcome = cx.leftover();
                cx.settle(meta, outcome);
            }
        }
        self.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::items(self.parts.len())
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.input.poll_close(cx)
    }
}

/// Runs the stage and checks its account.
#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut running = source::iter("aaabccccd".chars())
        .stage("run_lengths", |input| RunLengths {
            input,
            buf: Chunk::default(),
            limit: 3,
            value: None,
            parts: Vec::new(),
            then: None,
        })
        .collect()
        .run()?;
    let runs = running.join().await?;
    assert_eq!(runs, [('a', 3), ('b', 1), ('c', 3), ('c', 1), ('d', 1)]);
    let account = running.snapshot();
    account.check().map_err(|wrong| format!("{wrong:?}"))?;
    eprintln!("{runs:?}\n{account}");
    Ok(())
}
