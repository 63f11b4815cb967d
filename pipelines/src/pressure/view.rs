//! What is shown in a terminal while runs go on.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Gauge, Paragraph, Row, Sparkline, Table};
use ratatui::{DefaultTerminal, Frame};

use crate::measure::Figures;
use crate::session::{Planned, Session};

/// How often it is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// What the runs have come to.
struct Shown {
    planned: Vec<Planned>,
    made: Vec<Figures>,
    thousandths: u64,
}

/// Makes all runs of a session and shows them. `q`, Escape and Ctrl-C end it after the present run.
pub(crate) fn make_all(session: Session, jobs: usize) -> Result<Vec<Figures>, String> {
    let planned = session.planned().to_vec();
    let progress = Arc::clone(session.progress());
    let made = Arc::new(Mutex::new(Vec::new()));
    let over = Arc::new(AtomicBool::new(false));
    let stop = Arc::new(AtomicBool::new(false));
    let runs = {
        let (made, over, stop) = (Arc::clone(&made), Arc::clone(&over), Arc::clone(&stop));
        thread::spawn(move || {
            let result = session.make_all(jobs, &stop, |figures| {
                let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
                made.push(figures);
                Ok(())
            });
            over.store(true, Ordering::Release);
            result
        })
    };
    let mut terminal = ratatui::try_init().map_err(|error| error.to_string())?;
    let drawn = watch(&mut terminal, &over, &stop, || Shown {
        planned: planned.clone(),
        made: made.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        thousandths: progress.load(Ordering::Relaxed),
    });
    ratatui::restore();
    stop.store(drawn.is_err(), Ordering::Release);
    runs.join().map_err(|_| "a run panicked".to_owned())??;
    drawn.map_err(|error| error.to_string())?;
    Ok(std::mem::take(
        &mut *made.lock().unwrap_or_else(PoisonError::into_inner),
    ))
}

fn watch(
    terminal: &mut DefaultTerminal,
    over: &AtomicBool,
    stop: &AtomicBool,
    shown: impl Fn() -> Shown,
) -> io::Result<()> {
    while !over.load(Ordering::Acquire) {
        let state = shown();
        terminal.draw(|frame| draw(frame, &state))?;
        if event::poll(FRAME)?
            && let Event::Key(key) = event::read()?
        {
            let interrupt =
                key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                stop.store(true, Ordering::Release);
            }
        }
    }
    Ok(())
}

/// Draws what is known: the present run, the last one over time, and the figures of all.
fn draw(frame: &mut Frame<'_>, shown: &Shown) {
    let [top, load, goodput, table] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(5),
        Constraint::Length(5),
        Constraint::Min(3),
    ])
    .areas(frame.area());
    let count = shown.planned.len();
    let title = shown.planned.get(shown.made.len()).map_or_else(
        || "all runs are made".to_owned(),
        |run| {
            let number = shown.made.len() + 1;
            format!(
                " {number} of {count}: {}, {}, seed {} ",
                run.name, run.system, run.seed
            )
        },
    );
    let gauge = Gauge::default()
        .block(Block::bordered().title(title))
        .gauge_style(Style::new().fg(Color::Cyan))
        .ratio((shown.thousandths as f64 / 1000.0).clamp(0.0, 1.0));
    frame.render_widget(gauge, top);
    let Some(last) = shown.made.last() else {
        let text = Line::from(" The first figures come with the end of the first run. q ends.");
        frame.render_widget(Paragraph::new(text), load);
        return;
    };
    let bins = &last.more.series.bins;
    let per_mille = |value: f64| (value * 1000.0) as u64;
    let offered: Vec<u64> = bins.iter().map(|bin| per_mille(bin.offered)).collect();
    let done: Vec<u64> = bins.iter().map(|bin| per_mille(bin.goodput)).collect();
    let name = format!("{}, {}", last.scenario, last.system);
    let line = |title: String, color| {
        Sparkline::default()
            .block(Block::bordered().title(title))
            .style(Style::new().fg(color))
    };
    let offers = line(format!(" offered: {name} "), Color::Yellow).data(&offered);
    frame.render_widget(offers, load);
    let in_time = line(format!(" done in time: {name} "), Color::Green).data(&done);
    frame.render_widget(in_time, goodput);
    frame.render_widget(figures(shown, table.height), table);
}

/// The last runs that fit.
fn figures(shown: &Shown, height: u16) -> Table<'static> {
    let room = usize::from(height.saturating_sub(3));
    let first = shown.made.len().saturating_sub(room);
    let rows = shown.made[first..].iter().map(|figures| {
        let missed = figures.gates.iter().filter(|gate| !gate.met).count();
        let p99 = figures.more.high_p99_us;
        let row = Row::new(vec![
            figures.scenario.clone(),
            figures.system.clone(),
            figures.seed.to_string(),
            format!("{:.3}", figures.goodput),
            format!("{:.5}", figures.more.high_loss),
            p99.map_or("-".to_owned(), |us| format!("{us:.0}")),
            figures.inversions.to_string(),
            format!("{missed} of {}", figures.gates.len()),
        ]);
        row.style(Style::new().fg(if figures.balanced {
            Color::Reset
        } else {
            Color::Red
        }))
    });
    let widths = [18, 30, 5, 10, 10, 12, 11, 13].map(Constraint::Length);
    let header = [
        "scenario",
        "system",
        "seed",
        "goodput/C",
        "HIGH loss",
        "HIGH p99 us",
        "inversions",
        "gates missed",
    ];
    Table::new(rows, widths)
        .header(Row::new(header.to_vec()).style(Style::new().fg(Color::Cyan)))
        .block(Block::bordered())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::refusal::Refusal;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    #[test]
    fn it_shows_the_present_run_and_the_figures_of_those_made() {
        let text = "name = \"tiny\"\nabout = \"b\"\nduration_ms = 50\nworkers = 1\nseeds = [1, 2]\n\
                    load.total = [{ shape = \"constant\", level = 2.0 }]\n\
                    [service]\nkind = \"constant\"\nmean_us = 1000\n";
        let scenario = crate::scenario::Scenario::parse(text).unwrap();
        let files = crate::scenario::Files::none();
        let loaded = vec![crate::session::Loaded { scenario, files }];
        let systems = ["fifo_4".to_owned()];
        let session = Session::new(loaded, &systems, Refusal::Declared).unwrap();
        let made = vec![session.make(0).unwrap()];
        let shown = Shown {
            planned: session.planned().to_vec(),
            made,
            thousandths: 500,
        };
        let mut terminal = Terminal::new(TestBackend::new(120, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &shown)).unwrap();
        let screen = terminal.backend().to_string();
        for wanted in [
            "2 of 2: tiny, fifo_4, seed 2",
            "50%",
            "goodput/C",
            "offered",
        ] {
            assert!(screen.contains(wanted), "{wanted} is not in\n{screen}");
        }
    }
}
