//! `/metrics`: what is published of each root, and what happened since the start, in OpenMetrics
//! for who asks for that and in the older text format of Prometheus for everybody else.
//!
//! Nothing is kept up to date for it: figures are read when they are asked for. Labels are roots,
//! and words of this program. A gauge of roots is a line in [`GAUGES`].

use super::State;
use super::answer::{fresh, problem};
use crate::agent::published::View;
use crate::agent::readiness::{Level, of_root, of_store};
use crate::agent::window::Pane;
use crate::model::bytes::Bytes;
use crate::model::plan::Rule;
use crate::model::time::Time;
use crate::model::watcher::Backend;
use crate::telemetry::counts::{Count, REACTION_BOUNDS, REASONS};
use axum::extract::State as Given;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is answered to who understands it, and to everybody else.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a root is at present.
struct Gauge {
    name: &'static str,
    unit: Option<Unit>,
    help: &'static str,
    /// `None`: it has no value now.
    value: fn(&Pane, &View) -> Option<f64>,
}

const fn gauge(
    name: &'static str,
    unit: Option<Unit>,
    help: &'static str,
    value: fn(&Pane, &View) -> Option<f64>,
) -> Gauge {
    Gauge {
        name,
        unit,
        help,
        value,
    }
}

fn bytes(bytes: Bytes) -> Option<f64> {
    Some(bytes.0 as f64)
}

fn number(number: u64) -> Option<f64> {
    Some(number as f64)
}

fn truth(truth: bool) -> Option<f64> {
    Some(f64::from(u8::from(truth)))
}

fn moment(time: Option<Time>) -> Option<f64> {
    time.map(|time| time.timestamp_millis() as f64 / 1000.0)
}

const GAUGES: &[Gauge] = &[
    gauge(
        "root_usage",
        Some(Unit::Bytes),
        "What counts against the limit.",
        |_, view| bytes(view.figures.bytes),
    ),
    gauge(
        "root_apparent",
        Some(Unit::Bytes),
        "The lengths of all files of sessions.",
        |_, view| bytes(view.figures.apparent),
    ),
    gauge(
        "root_allocated",
        Some(Unit::Bytes),
        "What the file system has allocated for the files of sessions.",
        |_, view| bytes(view.figures.allocated),
    ),
    gauge(
        "root_unowned",
        Some(Unit::Bytes),
        "What lies in the root and belongs to no session.",
        |_, view| bytes(view.figures.unowned_bytes),
    ),
    gauge(
        "root_limit",
        Some(Unit::Bytes),
        "The limit by size; absent where there is none.",
        |pane, _| pane.root.limits.max_size.and_then(bytes),
    ),
    gauge(
        "root_headroom",
        Some(Unit::Bytes),
        "What is kept free ahead of the limit at present.",
        |_, view| bytes(view.figures.headroom),
    ),
    gauge(
        "root_still_over",
        Some(Unit::Bytes),
        "What is too much and cannot go at present.",
        |_, view| bytes(view.figures.still_over),
    ),
    gauge(
        "root_peak",
        Some(Unit::Bytes),
        "The most that was in use since the start, with the trash.",
        |_, view| bytes(view.figures.peak),
    ),
    gauge(
        "root_trash",
        Some(Unit::Bytes),
        "What lies in the trash, with what is kept there.",
        |_, view| bytes(view.figures.trash_bytes),
    ),
    gauge(
        "root_kept",
        Some(Unit::Bytes),
        "What lies in the trash and can be restored.",
        |_, view| bytes(view.figures.kept_bytes),
    ),
    gauge("root_sessions", None, "Sessions.", |_, view| {
        number(view.figures.n_sessions)
    }),
    gauge("root_files", None, "Files of sessions.", |_, view| {
        number(view.figures.n_files)
    }),
    gauge("root_directories", None, "Directories.", |_, view| {
        number(view.figures.n_dirs)
    }),
    gauge(
        "root_unwatched_directories",
        None,
        "Directories without a watch: changes there are seen by scans only.",
        |_, view| number(view.figures.n_unwatched),
    ),
    gauge("root_watches", None, "Watches in use.", |pane, _| {
        number(pane.watches.load(Ordering::Relaxed) as u64)
    }),
    gauge("root_pins", None, "Pins that hold.", |_, view| {
        number(view.figures.n_pins)
    }),
    gauge(
        "root_held",
        None,
        "1: a first plan takes more than half and waits to be accepted.",
        |_, view| truth(view.figures.held),
    ),
    gauge(
        "root_unmet",
        None,
        "1: what may go is not enough to meet a limit.",
        |_, view| truth(view.figures.unmet),
    ),
    gauge(
        "root_scan_duration",
        Some(Unit::Seconds),
        "How long the last full scan took.",
        |_, view| {
            let duration = view.figures.scan_duration.as_secs_f64();
            view.figures.scan_ended.map(|_| duration)
        },
    ),
    gauge(
        "root_scan_drift",
        Some(Unit::Bytes),
        "By how much the last full scan found the figures wrong.",
        |_, view| {
            let ended = view.figures.scan_ended;
            ended.and_then(|_| bytes(view.figures.scan_drift))
        },
    ),
    gauge(
        "root_scan_ended_timestamp",
        Some(Unit::Seconds),
        "When the last full scan ended.",
        |_, view| moment(view.scan_ended),
    ),
    gauge(
        "root_scan_next_timestamp",
        Some(Unit::Seconds),
        "When the next full scan is due.",
        |_, view| moment(view.scan_next),
    ),
];

/// Everything at one moment.
#[derive(Debug)]
struct Snapshot {
    state: Arc<State>,
    roots: Vec<(Pane, View, Count)>,
}

impl Snapshot {
    fn new(state: &Arc<State>) -> Self {
        let panes = state.window.panes();
        let counts = state.window.counts();
        counts.keep(|name| panes.iter().any(|pane| pane.root.name == name));
        let root = |pane: &Pane| (pane.clone(), pane.view(), counts.of(&pane.root.name));
        Self {
            roots: panes.iter().map(root).collect(),
            state: state.clone(),
        }
    }

    /// One family of gauges or counters: for each root any number of values with a second label.
    fn by<'a>(
        &'a self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help, kind): (&str, &str, MetricType),
        unit: Option<&Unit>,
        label: &str,
        values: impl Fn(&'a (Pane, View, Count)) -> Vec<(&'static str, u64)>,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, unit, kind)?;
        for root in &self.roots {
            for (value, n) in values(root) {
                let labels = [("root", root.0.root.name.as_str()), (label, value)];
                say(&mut family.encode_family(&labels)?, kind, n)?;
            }
        }
        Ok(())
    }

    /// The same with one value for each root.
    fn each(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help, kind): (&str, &str, MetricType),
        value: impl Fn(&(Pane, View, Count)) -> u64,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for root in &self.roots {
            let labels = [("root", root.0.root.name.as_str())];
            say(&mut family.encode_family(&labels)?, kind, value(root))?;
        }
        Ok(())
    }

    fn gauges(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for gauge in GAUGES {
            let unit = gauge.unit.as_ref();
            let mut family =
                encoder.encode_descriptor(gauge.name, gauge.help, unit, MetricType::Gauge)?;
            // Of a root that nobody looks after nothing is known.
            for (pane, view, _) in self.roots.iter().filter(|root| root.1.figures.scanned) {
                let Some(value) = (gauge.value)(pane, view) else {
                    continue;
                };
                let labels = [("root", pane.root.name.as_str())];
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    fn counters(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counter = MetricType::Counter;
        self.by(
            encoder,
            (
                "root_pruned_sessions",
                "Sessions that went, by rule.",
                counter,
            ),
            None,
            "rule",
            |(_, _, count)| {
                let of = |rule| count.pruned.get(&rule).map_or(0, |(n, _)| *n);
                Rule::ALL.map(|rule| (rule.name(), of(rule))).to_vec()
            },
        )?;
        self.by(
            encoder,
            (
                "root_pruned",
                "Bytes of sessions that went, by rule.",
                counter,
            ),
            Some(&Unit::Bytes),
            "rule",
            |(_, _, count)| {
                let of = |rule| count.pruned.get(&rule).map_or(0, |(_, n)| *n);
                Rule::ALL.map(|rule| (rule.name(), of(rule))).to_vec()
            },
        )?;
        self.by(
            encoder,
            (
                "root_skipped_sessions",
                "Sessions that were to go and were passed over, by reason.",
                counter,
            ),
            None,
            "reason",
            |(_, _, count)| {
                let of = |why| count.skipped.get(why).copied().unwrap_or(0);
                REASONS.map(|why| (why, of(why))).to_vec()
            },
        )?;
        self.each(
            encoder,
            (
                "root_unmet_targets",
                "How often a limit could not be met.",
                counter,
            ),
            |(_, _, count)| count.n_unmet,
        )?;
        self.each(
            encoder,
            (
                "root_lock_busy",
                "How often another pruner held the lock that was wanted.",
                counter,
            ),
            |(_, _, count)| count.n_busy,
        )?;
        self.each(
            encoder,
            ("root_watch_losses", "How often hints were lost.", counter),
            |(_, view, _)| view.figures.n_losses,
        )?;
        self.each(
            encoder,
            ("root_scans", "Full scans that ended.", counter),
            |(_, view, _)| view.n_scans,
        )
    }

    fn words(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let gauge = MetricType::Gauge;
        self.each(
            encoder,
            ("root_ready", "1: it does what it is for.", gauge),
            |(pane, view, _)| {
                let findings = of_root(&pane.root, view);
                let is_well = findings.iter().all(|finding| finding.level == Level::Ok);
                let stuck = self.state.watchman.stuck(&pane.root.name);
                u64::from(is_well && stuck.is_none())
            },
        )?;
        self.each(
            encoder,
            (
                "root_enforcing",
                "1: what its limits say is done; 0: it is only watched.",
                gauge,
            ),
            |(pane, _, _)| u64::from(pane.enforces),
        )?;
        self.by(
            encoder,
            (
                "root_anomalies",
                "What is wrong, by kind, as of the last full scan.",
                MetricType::Gauge,
            ),
            None,
            "kind",
            |(_, view, _)| {
                let mut kinds = BTreeMap::new();
                for row in view.figures.anomalies.iter() {
                    *kinds.entry(row.kind.name()).or_default() += 1;
                }
                kinds.into_iter().collect()
            },
        )?;
        self.by(
            encoder,
            (
                "root_watch_backend",
                "1: this one gives the hints.",
                MetricType::Gauge,
            ),
            None,
            "backend",
            |(_, view, _)| {
                let is = |backend: Backend| u64::from(view.backend == Some(backend));
                Backend::ALL
                    .map(|backend| (backend.name(), is(backend)))
                    .to_vec()
            },
        )
    }

    fn reactions(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "From the first hint that is heard of to the rename that it led to.";
        let (unit, kind) = (Unit::Seconds, MetricType::Histogram);
        let mut family = encoder.encode_descriptor("root_reaction", help, Some(&unit), kind)?;
        for (pane, _, count) in &self.roots {
            let reactions = &count.reactions;
            let bounds = REACTION_BOUNDS.iter().map(|bound| *bound as f64 / 1e6);
            let classes: Vec<_> = bounds
                .chain([f64::INFINITY])
                .zip(reactions.classes)
                .collect();
            let (sum, n) = (
                reactions.total.as_secs_f64(),
                reactions.classes.iter().sum(),
            );
            let labels = [("root", pane.root.name.as_str())];
            let mut series = family.encode_family(&labels)?;
            series.encode_histogram::<NoLabelSet>(sum, n, &classes, None)?;
        }
        Ok(())
    }

    fn agent(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let info = [("version", env!("CARGO_PKG_VERSION"))];
        encoder
            .encode_descriptor("build", "The program.", None, MetricType::Info)?
            .encode_info(&info)?;
        let store = self.state.window.store();
        let is_well = u64::from(of_store(&store).level == Level::Ok);
        let (hits, misses) = self.state.ready.counted();
        let gauge = MetricType::Gauge;
        let counter = MetricType::Counter;
        for (name, help, kind, value) in [
            (
                "store_ready",
                "1: the store can be used, or is off.",
                gauge,
                is_well,
            ),
            (
                "store_backlog_rows",
                "Rows of the audit that wait to be written.",
                gauge,
                store.backlog,
            ),
            (
                "ready_cache_hits",
                "Questions after readiness for which no disk was asked.",
                counter,
                hits,
            ),
            (
                "ready_cache_misses",
                "Questions after readiness for which disks were asked.",
                counter,
                misses,
            ),
        ] {
            say(
                &mut encoder.encode_descriptor(name, help, None, kind)?,
                kind,
                value,
            )?;
        }
        Ok(())
    }
}

fn say(encoder: &mut MetricEncoder<'_>, kind: MetricType, value: u64) -> fmt::Result {
    match kind {
        MetricType::Counter => encoder.encode_counter::<NoLabelSet, _, f64>(&value, None),
        _ => encoder.encode_gauge(&(value as f64)),
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.agent(&mut encoder)?;
        self.gauges(&mut encoder)?;
        self.words(&mut encoder)?;
        self.counters(&mut encoder)?;
        self.reactions(&mut encoder)
    }
}

pub(super) async fn metrics(Given(state): Given<Arc<State>>, headers: HeaderMap) -> Response {
    let mut registry = Registry::with_prefix("housekeeper");
    registry.register_collector(Box::new(Snapshot::new(&state)));
    let mut text = String::new();
    if encode(&mut text, &registry).is_err() {
        return problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the figures cannot be written",
        );
    }
    let accepts = headers.get_all(header::ACCEPT).iter();
    let is_open = accepts
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("application/openmetrics-text"));
    let (kind, text) = match is_open {
        true => (OPEN_METRICS, text),
        false => (TEXT, older(&text)),
    };
    fresh(StatusCode::OK, HeaderValue::from_static(kind), text)
}

/// The older text format: a counter has the name of its series, units have no lines, and there
/// is no end.
fn older(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut help = "";
    for line in text.lines() {
        if let Some(said) = line.strip_prefix("# HELP ") {
            help = said.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some(said) = line.strip_prefix("# TYPE ") {
            let (name, kind) = said.split_once(' ').unwrap_or((said, "untyped"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                kind => ("", kind),
            };
            out.push_str(&format!(
                "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"
            ));
        } else if !line.starts_with("# ") {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}
