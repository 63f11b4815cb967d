//! One page with everything: tables and plots, no script, no other file.

mod figure;
mod plot;

pub(crate) use figure::figure;

use std::fmt::Write as _;

use crate::compare::{AFTER_MEASURES, Comparison, MEASURES};
use crate::measure::Figures;
use crate::scenario::Scenario;
use plot::{Curve, Kind};

const STYLE: &str = "\
body{font:15px/1.45 system-ui,sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;color:#222}\
h1,h2,h3{line-height:1.2}table{border-collapse:collapse;margin:1em 0;display:block;overflow-x:auto}\
th,td{padding:.25em .7em;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}\
th:first-child,td:first-child,td:last-child,td:nth-last-child(2){text-align:left}\
.ours td{font-weight:600;background:#eef6ff}.missed{color:#b00020}.met{color:#0a7d32}\
.plots{display:flex;flex-wrap:wrap;gap:10px}.plots svg{max-width:100%;height:auto}";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The page for these runs.
pub(crate) fn page(scenarios: &[Scenario], made: &[Figures]) -> Result<String, String> {
    let comparison = Comparison::new(made);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>Pipelines under pressure</title><style>{STYLE}</style></head><body>\
         <h1>Pipelines under pressure</h1>\
         <p>{} runs. Medians over the seeds, with their least and most. Latency counts from the \
         intended start. Goodput is what was done within its deadline, against the capacity.</p>",
        made.len()
    );
    for (name, rows) in &comparison.scenarios {
        let plain = name.split('@').next().unwrap_or(name);
        let about = scenarios.iter().find(|scenario| scenario.name == plain);
        let _ = write!(
            html,
            "<h2 id=\"{0}\">{0}</h2><p>{1}</p><table><tr><th>system</th>",
            escape(name),
            about.map_or(String::new(), |scenario| escape(&scenario.about))
        );
        for measure in &MEASURES {
            let _ = write!(html, "<th>{}</th>", escape(measure.name));
        }
        for name in AFTER_MEASURES {
            let _ = write!(html, "<th>{name}</th>");
        }
        html.push_str("</tr>");
        for row in rows {
            let ours = row.system == "forebay";
            html.push_str(if ours { "<tr class=\"ours\">" } else { "<tr>" });
            for cell in row.cells() {
                let _ = write!(html, "<td>{}</td>", escape(&cell));
            }
            html.push_str("</tr>");
        }
        html.push_str("</table>");
        let runs: Vec<&Figures> = made.iter().filter(|run| run.scenario == *name).collect();
        by_class(&mut html, &runs);
        gates(&mut html, &runs);
        plots(&mut html, &runs)?;
    }
    html.push_str("</body></html>\n");
    Ok(html)
}

/// What became of each class in every system, in the run with the first seed.
fn by_class(html: &mut String, runs: &[&Figures]) {
    let Some(seed) = runs.first().map(|run| run.seed) else {
        return;
    };
    html.push_str(
        "<table><tr><th>system and class</th><th>offered</th><th>in time</th><th>late</th>\
         <th>given up</th><th>p50 us</th><th>p99 us</th><th>time to reject p50 us</th><th>p99 us</th>\
         <th>Jain's index of its producers</th></tr>",
    );
    for run in runs.iter().filter(|run| run.seed == seed) {
        for rank in crate::scenario::Rank::ALL {
            let class = run.classes.of(rank);
            let given_up = class.shed + class.expired + class.dead_lettered + class.failed;
            let shown =
                |value: Option<f64>| value.map_or("-".to_owned(), |value| value.to_string());
            let _ = write!(
                html,
                "<tr><td>{}, {}</td>",
                escape(&run.system),
                rank.name()
            );
            for count in [class.offered, class.in_deadline, class.late, given_up] {
                let _ = write!(html, "<td>{count}</td>");
            }
            for value in [
                class.latency_us.p50,
                class.latency_us.p99,
                class.time_to_reject_us.p50,
                class.time_to_reject_us.p99,
                class.jain,
            ] {
                let _ = write!(html, "<td>{}</td>", shown(value));
            }
            html.push_str("</tr>");
        }
    }
    html.push_str("</table>");
}

/// Every gate of forebay's runs, with its figure.
fn gates(html: &mut String, runs: &[&Figures]) {
    let ours: Vec<&&Figures> = runs.iter().filter(|run| run.system == "forebay").collect();
    if ours.is_empty() {
        return;
    }
    html.push_str(
        "<table><tr><th>gate of forebay</th><th>seed</th><th>limit</th><th>value</th><th></th></tr>",
    );
    for run in ours {
        for gate in &run.gates {
            let (class, said) = if gate.met {
                ("met", "met")
            } else {
                ("missed", "missed")
            };
            let value = escape(&gate.shown());
            let _ = write!(
                html,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{value}</td><td class=\"{class}\">{said}</td></tr>",
                escape(&gate.name),
                run.seed,
                gate.limit
            );
        }
    }
    html.push_str("</table>");
}

/// The plots of the first seed, systems side by side.
fn plots(html: &mut String, runs: &[&Figures]) -> Result<(), String> {
    let Some(seed) = runs.first().map(|run| run.seed) else {
        return Ok(());
    };
    html.push_str("<div class=\"plots\">");
    for run in runs.iter().filter(|run| run.seed == seed) {
        let series = &run.more.series;
        let bins = &series.bins;
        let load = [
            Curve::new(
                "offered",
                bins.iter().map(|bin| (bin.at_s, bin.offered)).collect(),
            ),
            Curve::new(
                "done in time",
                bins.iter().map(|bin| (bin.at_s, bin.goodput)).collect(),
            ),
        ];
        let title = format!("{}: load and goodput, x capacity", run.system);
        html.push_str(&plot::draw(&title, &load, Kind::Linear)?);
        let latency = crate::scenario::Rank::ALL.map(|rank| {
            let points = bins
                .iter()
                .filter_map(|bin| Some((bin.at_s, (*bin.p99_us.of(rank))?)))
                .collect();
            Curve::new(rank.name(), points)
        });
        let title = format!("{}: p99 by class, us", run.system);
        html.push_str(&plot::draw(&title, &latency, Kind::Logarithmic)?);
        for (what, points) in [
            ("limit", &series.limit),
            ("batch", &series.batch),
            ("reject ratio", &series.reject_ratio),
            ("breaker (0 closed, 1 half-open, 2 open)", &series.breaker),
        ] {
            if points.is_empty() {
                continue;
            }
            let title = format!("{}: {what}", run.system);
            let curve = [Curve::new(what, points.clone())];
            html.push_str(&plot::draw(&title, &curve, Kind::Linear)?);
        }
    }
    html.push_str("</div>");
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::refusal::Refusal;
    use crate::session::{Loaded, Session};

    #[test]
    fn a_page_has_a_section_a_scenario_and_plots_of_every_system() {
        let text = "name = \"tiny\"\nabout = \"less < more\"\nduration_ms = 50\nworkers = 1\nseeds = [1]\n\
                    load.sweep = [0.5, 2.0]\n[service]\nkind = \"constant\"\nmean_us = 1000\n";
        let scenario = Scenario::parse(text).unwrap();
        let files = crate::scenario::Files::none();
        let loaded = vec![Loaded {
            scenario: scenario.clone(),
            files,
        }];
        let systems = ["forebay".to_owned(), "fifo_4".to_owned()];
        let session = Session::new(loaded, &systems, Refusal::Declared).unwrap();
        let made: Vec<Figures> = (0..4).map(|number| session.make(number).unwrap()).collect();
        let page = page(&[scenario], &made).unwrap();
        assert_eq!(page.matches("<h2").count(), 2);
        assert_eq!(
            page.matches("<svg").count(),
            10,
            "two plots a run, and the breaker of forebay"
        );
        assert!(page.contains("less &lt; more") && page.contains("fifo_4: load and goodput"));
        for outside in ["<script", "src=", "href=", "http:", "https:"] {
            let found = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!found.contains(outside), "{outside}");
        }
    }
}
