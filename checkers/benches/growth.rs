//! How the cost of deciding linearizability grows: with the history, with the operations that were
//! never answered, and with the clients; of one register with unique values and of one with five
//! values, ours (through the checker and its defaults) beside porcupine-rs.
//!
//! `cargo bench -p checkers --bench growth` draws `docs/plots/*.svg` and prints what they show.
//! Every measurement is a process of its own, limited in time and memory; where one gave up, its
//! line ends. `-- five` draws only the figures with that in their names.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use checkers::{Checker, Event, F, History, Kind, Linearizable, Process, Value, Verdict};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use porcupine_rs::{CheckResult, model as theirs};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// What one measurement may take.
const SECONDS: u64 = 60;
const KIB: u64 = 8 << 20;

/// What a history looks like.
#[derive(Clone, Copy)]
struct Shape {
    ops: usize,
    clients: usize,
    /// Writes that are never answered, evenly spread.
    unanswered: usize,
    /// Values that are written over and over; `None` writes each value once.
    values: Option<usize>,
    /// Whether one read near the end is stale.
    stale: bool,
}

/// A figure: the same shape, with one thing growing.
struct Figure {
    file: &'static str,
    title: &'static str,
    along: &'static str,
    shapes: Vec<(usize, Shape)>,
}

fn figures() -> Vec<Figure> {
    let values = [
        (None, "unique", "each value is written once"),
        (Some(5), "five", "five values"),
    ];
    values.into_iter().flat_map(|(values, name, what)| {
        let files: [&'static str; 3] = match name {
            "unique" => ["growth-unique.svg", "unanswered-unique.svg", "clients-unique.svg"],
            _ => ["growth-five.svg", "unanswered-five.svg", "clients-five.svg"],
        };
        let base = Shape { ops: 1_000, clients: 5, unanswered: 0, values, stale: false };
        let lengths = [10_000, 100_000, 1_000_000, 10_000_000];
        let unanswered = [1, 2, 4, 8, 12, 16, 32, 64];
        let clients = [2, 4, 8, 12, 16, 24, 32, 64];
        let titles: [&'static str; 3] = match what {
            "five values" => [
                "Longer histories: 5 values, 5 clients",
                "More unanswered writes: 5 values, 5 clients, 1,000 operations, one stale read",
                "More clients: 5 values, 1,000 operations, one stale read",
            ],
            _ => [
                "Longer histories: unique values, 5 clients, 1 % unanswered",
                "More unanswered writes: unique values, 5 clients, 1,000 operations, one stale read",
                "More clients: unique values, 1,000 operations, one stale read",
            ],
        };
        let longer = lengths.map(|ops| {
            let unanswered = if values.is_none() { ops / 100 } else { 0 };
            (ops, Shape { ops, unanswered, ..base })
        });
        let pending = unanswered.map(|n| (n, Shape { unanswered: n, stale: true, ..base }));
        let crowd = clients.map(|n| (n, Shape { clients: n, stale: true, ..base }));
        [
            Figure { file: files[0], title: titles[0], along: "operations", shapes: longer.into() },
            Figure { file: files[1], title: titles[1], along: "unanswered writes", shapes: pending.into() },
            Figure { file: files[2], title: titles[2], along: "clients", shapes: crowd.into() },
        ]
    }).collect()
}

/// One measurement.
#[derive(Clone, Copy)]
enum Cost {
    Seconds(f64),
    /// Out of time, of memory, or of its own limits.
    GaveUp,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, child, who, figure, at] = args.as_slice()
        && child == "--measure"
    {
        let figure: usize = figure.parse().expect("a figure");
        let at: usize = at.parse().expect("a position");
        return measure(who, figures()[figure].shapes[at].1);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/plots");
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    let only = args.iter().skip(1).find(|arg| !arg.starts_with('-'));
    let wanted = |figure: &Figure| only.is_none_or(|only| figure.file.contains(only.as_str()));
    for (number, figure) in figures().iter().enumerate() {
        if !wanted(figure) {
            continue;
        }
        println!("{}", figure.title);
        println!(
            "{:>18}  {:>10}  {:>12}",
            figure.along, "ours s", "porcupine s"
        );
        let mut lines = [Vec::new(), Vec::new()];
        for (at, (x, _)) in figure.shapes.iter().enumerate() {
            for (who, line) in ["ours", "raw"].iter().zip(&mut lines) {
                // Who gave up before does not end later.
                if !matches!(line.last(), Some((_, Cost::GaveUp))) {
                    line.push((*x, in_child(who, number, at)));
                }
            }
            let shown = |line: &[(usize, Cost)]| match line.get(at) {
                Some((_, Cost::Seconds(s))) => format!("{s:.4}"),
                Some((_, Cost::GaveUp)) => "gave up".to_owned(),
                None => "-".to_owned(),
            };
            println!(
                "{x:>18}  {:>10}  {:>12}",
                shown(&lines[0]),
                shown(&lines[1])
            );
        }
        draw(&folder.join(figure.file), figure, &lines).expect("the figure can be drawn");
        println!();
    }
}

fn in_child(who: &str, figure: usize, at: usize) -> Cost {
    let exe = std::env::current_exe().expect("this program has a path");
    // The time is for deciding; making a history takes some, too.
    let limits = format!(
        "ulimit -v {KIB}; ulimit -t {}; exec \"$0\" \"$@\"",
        4 * SECONDS
    );
    let output = Command::new("sh")
        .args(["-c", &limits])
        .arg(exe)
        .args(["--measure", who, &figure.to_string(), &at.to_string()])
        .output()
        .expect("the child starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match text.trim().parse() {
        Ok(seconds) => Cost::Seconds(seconds),
        Err(_) => Cost::GaveUp,
    }
}

fn measure(who: &str, shape: Shape) {
    let elapsed = if who == "ours" {
        let history = history(&generate(shape));
        let (result, elapsed) = timed(|| Linearizable::default().check(&history));
        let expected = if shape.stale {
            Verdict::Invalid
        } else {
            Verdict::Valid
        };
        (result.verdict == expected).then_some(elapsed)
    } else {
        let ops = generate(shape);
        let (result, elapsed) = timed(|| raw(&ops));
        let expected = if shape.stale {
            CheckResult::Illegal
        } else {
            CheckResult::Ok
        };
        (result == expected).then_some(elapsed)
    };
    if let Some(elapsed) = elapsed.filter(|elapsed| elapsed.as_secs() < SECONDS) {
        println!("{}", elapsed.as_secs_f64());
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

/// A write or a read of one register; 0 is what it held first.
#[derive(Clone, Debug)]
struct RegisterOp {
    call: u64,
    end: Option<u64>,
    write: bool,
    value: i64,
    process: u64,
}

/// Clients take turns at random; operations take effect at a random instant while they are open.
fn generate(shape: Shape) -> Vec<RegisterOp> {
    struct Open {
        op: usize,
        done: bool,
        answered: bool,
    }
    let mut rng = SmallRng::seed_from_u64(1);
    let mut held = 0;
    let mut ops: Vec<RegisterOp> = Vec::with_capacity(shape.ops);
    let mut clients: Vec<Option<Open>> = (0..shape.clients).map(|_| None).collect();
    let mut processes: Vec<u64> = (0..shape.clients as u64).collect();
    let (mut now, mut unanswered) = (0, 0);
    while ops.len() < shape.ops || clients.iter().any(Option::is_some) {
        let c = rng.random_range(0..clients.len());
        match &mut clients[c] {
            None if ops.len() == shape.ops => continue,
            slot @ None => {
                let op = ops.len();
                // The first ones leave room for what they do to last.
                let lost = unanswered < shape.unanswered
                    && op * (shape.unanswered + 1) >= (unanswered + 1) * shape.ops * 9 / 10;
                unanswered += usize::from(lost);
                let write = lost || rng.random_bool(0.5);
                let value = match shape.values {
                    None => op as i64 + 1,
                    Some(values) => rng.random_range(1..=values as i64),
                };
                ops.push(RegisterOp {
                    call: now,
                    end: None,
                    write,
                    value,
                    process: processes[c],
                });
                *slot = Some(Open {
                    op,
                    done: false,
                    answered: !lost,
                });
            }
            Some(open) if !open.done => {
                let op = &mut ops[open.op];
                if !op.write {
                    op.value = held;
                } else if open.answered || rng.random_bool(0.5) {
                    held = op.value;
                }
                open.done = true;
                continue;
            }
            Some(open) => {
                if open.answered {
                    ops[open.op].end = Some(now);
                } else {
                    processes[c] += shape.clients as u64;
                }
                clients[c] = None;
            }
        }
        now += 1;
    }
    if shape.stale {
        make_stale(&mut ops, now);
    }
    ops
}

/// Appends a write, and a read of what was there before it.
fn make_stale(ops: &mut Vec<RegisterOp>, now: u64) {
    let steps = [(true, 1_000_001), (true, 1_000_002), (false, 1_000_001)];
    for (i, (write, value)) in steps.into_iter().enumerate() {
        let call = now + 2 * i as u64;
        let end = Some(call + 1);
        ops.push(RegisterOp {
            call,
            end,
            write,
            value,
            process: 1_000_000,
        });
    }
}

fn history(ops: &[RegisterOp]) -> History {
    let mut marks: Vec<(u64, usize, bool)> = Vec::with_capacity(2 * ops.len());
    for (i, op) in ops.iter().enumerate() {
        marks.push((op.call, i, false));
        marks.extend(op.end.map(|end| (end, i, true)));
    }
    marks.sort_unstable();
    let key = Value::str("x");
    let events = marks.into_iter().enumerate().map(|(index, (at, i, ends))| {
        let op = &ops[i];
        let kind = if ends { Kind::Ok } else { Kind::Invoke };
        let f = if op.write { F::Write } else { F::Read };
        let value = match (op.write || ends, op.value) {
            (false, _) | (_, 0) => Value::Nil,
            (true, value) => Value::Int(value),
        };
        let process = Process::Client(op.process);
        let mut event = Event::new(index as u64, at * 1_000, process, kind, f, value);
        event.key = Some(key.clone());
        event
    });
    History {
        events: events.collect(),
    }
}

/// The same operations in one call of porcupine-rs.
#[derive(Clone)]
struct Raw;

impl theirs::Model for Raw {
    type State = i64;
    type Op = (bool, i64);
    type Metadata = ();

    fn init() -> i64 {
        0
    }

    fn step(state: &i64, (write, value): &(bool, i64)) -> (bool, i64) {
        if *write {
            (true, *value)
        } else {
            (state == value, *state)
        }
    }
}

fn raw(ops: &[RegisterOp]) -> CheckResult {
    let ops: Vec<theirs::Operation<Raw>> = ops
        .iter()
        .map(|op| theirs::Operation {
            client_id: None,
            call_time: op.call as i64,
            return_time: op.end.map_or(i64::MAX, |end| end as i64),
            op: (op.write, op.value),
            metadata: None,
        })
        .collect();
    porcupine_rs::check_operations_timeout(&ops, Duration::from_secs(SECONDS))
}

const OURS: RGBColor = RGBColor(0, 114, 178);
const THEIRS: RGBColor = RGBColor(213, 94, 0);
const INK: RGBColor = RGBColor(60, 60, 60);
const GRID: RGBColor = RGBColor(228, 228, 228);

type Lines = [Vec<(usize, Cost)>; 2];

fn draw(file: &PathBuf, figure: &Figure, lines: &Lines) -> Result<(), Box<dyn std::error::Error>> {
    let first = figure.shapes.first().map_or(1, |(x, _)| *x) as f64;
    let last = figure.shapes.last().map_or(1, |(x, _)| *x) as f64;
    let limit = SECONDS as f64;
    let area = SVGBackend::new(file, (760, 440)).into_drawing_area();
    area.fill(&WHITE)?;
    let area = area.titled(figure.title, ("sans-serif", 18).into_font().color(&INK))?;
    // Room on the right for the names.
    let (low, high) = (1e-4_f64, 200.0_f64);
    let right = last * (last / first).powf(0.24);
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d((first..right).log_scale(), (low..high).log_scale())?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style(("sans-serif", 14, &INK))
        .x_desc(figure.along)
        .disable_x_mesh()
        .set_tick_mark_size(LabelAreaPosition::Bottom, 0)
        .x_label_formatter(&|_| String::new())
        .y_desc("seconds")
        .y_label_formatter(&|y| seconds(*y))
        .draw()?;
    // Where it was measured, and not at powers of ten.
    let center = Pos::new(HPos::Center, VPos::Top);
    let style = ("sans-serif", 14, &INK).into_text_style(&area).pos(center);
    for (x, _) in &figure.shapes {
        let x = *x as f64;
        chart.draw_series([PathElement::new([(x, low), (x, high)], GRID)])?;
        let label = Text::new(grouped(x), (0, 8), style.clone());
        chart.draw_series([EmptyElement::at((x, low)) + label])?;
    }
    chart.draw_series(DashedLineSeries::new(
        [(first, limit), (last, limit)],
        4,
        4,
        INK.mix(0.5).into(),
    ))?;
    for (line, (name, color)) in lines
        .iter()
        .zip([("Quorate", OURS), ("porcupine-rs", THEIRS)])
    {
        let points = line.iter().map(|(x, cost)| match cost {
            Cost::Seconds(s) => (*x as f64, s.clamp(low, limit)),
            Cost::GaveUp => (*x as f64, limit),
        });
        let points: Vec<(f64, f64)> = points.collect();
        chart.draw_series(LineSeries::new(
            points.iter().copied(),
            color.stroke_width(2),
        ))?;
        for ((_, cost), point) in line.iter().zip(&points) {
            if matches!(cost, Cost::Seconds(_)) {
                chart.draw_series([Circle::new(*point, 3, color.filled())])?;
            } else {
                chart.draw_series([Cross::new(*point, 5, color.stroke_width(2))])?;
            }
        }
        let Some(((_, cost), point)) = line.iter().zip(&points).next_back() else {
            continue;
        };
        let (label, shift) = match cost {
            Cost::Seconds(_) => (name.to_owned(), (10, -7)),
            Cost::GaveUp => (format!("{name} gave up"), (-30, -24)),
        };
        let style = ("sans-serif", 15, &color).into_text_style(&area);
        chart.draw_series([EmptyElement::at(*point) + Text::new(label, shift, style)])?;
    }
    area.present()?;
    Ok(())
}

/// `10,000`.
fn grouped(x: f64) -> String {
    let digits = format!("{x:.0}");
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn seconds(y: f64) -> String {
    match y {
        y if y >= 1.0 => format!("{y:.0} s"),
        y if y >= 1e-3 => format!("{:.0} ms", y * 1e3),
        y => format!("{:.1} ms", y * 1e3),
    }
}
