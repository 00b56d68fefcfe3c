//! How fast recorded histories are read, and what an event costs in memory.
//!
//! `cargo bench -p checkers --bench formats`; `-- large` adds 10^7 operations from a compressed
//! file. Every measurement is a process of its own, so that its peak memory (`VmHWM` of Linux) is
//! its own. The baseline is `serde_json` reading each line into its own `Value`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use checkers::format::{self, Events, ReadOptions};
use checkers::{Event, F, Format, History, Kind, Process, Value};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const CLIENTS: usize = 100;
const OPS: usize = 1_000_000;
const OPS_LARGE: usize = 10_000_000;

/// A file of the same history, and how it is read.
const CASES: [(&str, &str); 11] = [
    ("serde_json a line", "history.jsonl"),
    ("jsonl", "history.jsonl"),
    ("jsonl, other order", "other.jsonl"),
    ("jsonl.zst", "history.jsonl.zst"),
    ("jsonl.gz", "history.jsonl.gz"),
    ("jsonl.zst, streamed", "history.jsonl.zst"),
    ("json", "history.json"),
    ("edn lines", "lines.edn"),
    ("edn vector", "vector.edn"),
    ("jepsen log", "jepsen.log"),
    ("jsonl.zst, paired", "history.jsonl.zst"),
];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, child, what, file] = args.as_slice()
        && child == "--measure"
    {
        return measure(what, Path::new(file));
    }
    let folder = std::env::temp_dir().join(format!("formats-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for the files");
    println!("reading {OPS} operations of {CLIENTS} clients:");
    write_files(&folder, OPS);
    table(&folder, &CASES);
    if args.iter().any(|arg| arg == "large") {
        println!("reading {OPS_LARGE} operations of {CLIENTS} clients:");
        for file in fs::read_dir(&folder)
            .expect("the folder is there")
            .flatten()
        {
            let _ = fs::remove_file(file.path());
        }
        write_zst(&folder.join("history.jsonl.zst"), OPS_LARGE);
        let large: Vec<_> = CASES
            .into_iter()
            .filter(|(_, file)| *file == "history.jsonl.zst")
            .collect();
        table(&folder, &large);
    }
    let _ = fs::remove_dir_all(folder);
}

fn table(folder: &Path, cases: &[(&str, &str)]) {
    println!(
        "{:>20}  {:>9} {:>8} {:>8}  {:>12}  {:>11} {:>12}",
        "", "file MiB", "seconds", "cpu s", "events/s", "peak MiB", "bytes/event"
    );
    for (what, file) in cases {
        let path = folder.join(file);
        let mib = fs::metadata(&path).map_or(0, |m| m.len()) as f64 / 1_048_576.0;
        let measured = in_child(what, &path);
        println!(
            "{what:>20}  {mib:>9.1} {:>8.2} {:>8.2}  {:>12.0}  {:>11.0} {:>12.0}",
            measured.seconds,
            measured.cpu_seconds,
            measured.events / measured.seconds,
            measured.peak_mib,
            measured.peak_mib * 1_048_576.0 / measured.events,
        );
    }
}

struct Measured {
    seconds: f64,
    cpu_seconds: f64,
    events: f64,
    peak_mib: f64,
}

fn in_child(what: &str, path: &Path) -> Measured {
    let exe = std::env::current_exe().expect("this program has a path");
    let output = Command::new(exe)
        .arg("--measure")
        .arg(what)
        .arg(path)
        .output()
        .expect("the child starts");
    assert!(
        output.status.success(),
        "{what}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text
        .split_whitespace()
        .map(|n| n.parse().expect("a number"));
    let mut next = || numbers.next().expect("four numbers");
    Measured {
        seconds: next(),
        cpu_seconds: next(),
        events: next(),
        peak_mib: next(),
    }
}

fn measure(what: &str, path: &Path) {
    let options = ReadOptions::default();
    let read = || format::read_path(path, None, &options).expect("the file was just written");
    let (events, elapsed) = match what {
        "serde_json a line" => {
            let file = BufReader::new(File::open(path).expect("the file is there"));
            timed(|| {
                let values = file.split(b'\n').map(|line| {
                    let line = line.expect("the file can be read");
                    serde_json::from_slice::<serde_json::Value>(&line).expect("a line is JSON")
                });
                values.collect::<Vec<_>>().len()
            })
        }
        "jsonl.zst, streamed" => timed(|| {
            let events = Events::of_path(path, None, &options).expect("the file is there");
            events.fold(0, |n, event| n + usize::from(event.is_ok()))
        }),
        "jsonl.zst, paired" => timed(|| {
            let history = read().history;
            let paired = history.paired().expect("it pairs");
            assert!(paired.len() * 2 >= history.events.len());
            history.events.len()
        }),
        _ => timed(|| read().history.events.len()),
    };
    let (wall, cpu) = (elapsed.as_secs_f64(), cpu_seconds());
    println!("{wall} {cpu} {events} {}", peak_mib());
    // Giving back the memory is not reading.
    std::process::exit(0);
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

/// Of all threads, from the start of the process.
fn cpu_seconds() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    let ticks: f64 = ticks.filter_map(|t| t.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}

fn peak_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// The history of a register with compare-and-set, one in a hundred operations unanswered.
fn events(ops: usize) -> impl Iterator<Item = Event> {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut open: Vec<Option<(F, Value)>> = vec![None; CLIENTS];
    let mut processes: Vec<u64> = (0..CLIENTS as u64).collect();
    let (mut index, mut begun, mut held) = (0, 0, 0);
    std::iter::from_fn(move || {
        let client = loop {
            let client = rng.random_range(0..CLIENTS);
            if open[client].is_some() || begun < ops {
                break client;
            }
            if open.iter().all(Option::is_none) {
                return None;
            }
        };
        let process = Process::Client(processes[client]);
        let (kind, f, value) = match open[client].take() {
            None => {
                begun += 1;
                let (f, value) = match rng.random_range(0..4) {
                    0 => (F::Write, Value::Int(begun as i64)),
                    1 => {
                        let pair = [Value::Int(held), Value::Int(begun as i64)];
                        (F::Cas, pair.into_iter().collect())
                    }
                    _ => (F::Read, Value::Nil),
                };
                open[client] = Some((f.clone(), value.clone()));
                (Kind::Invoke, f, value)
            }
            Some((f, value)) => {
                let kind = if rng.random_bool(0.01) {
                    processes[client] += CLIENTS as u64;
                    Kind::Info
                } else {
                    Kind::Ok
                };
                if let Value::Int(n) = value {
                    held = n;
                }
                let value = match f {
                    F::Read => Value::Int(held),
                    _ => value,
                };
                (kind, f, value)
            }
        };
        let mut event = Event::new(index, index * 7_919, process, kind, f, value);
        index += 1;
        event.key = Some(Value::str("k1"));
        event.node = Some(["n1", "n2", "n3"][client % 3].into());
        if kind == Kind::Ok {
            event.role = Some("leader".into());
            event.epoch = Some(1);
        } else if kind == Kind::Info {
            event.error = Some("timeout".into());
        }
        Some(event)
    })
}

fn write_zst(path: &Path, ops: usize) {
    let file = File::create(path).expect("the folder can be written");
    let mut out = zstd::Encoder::new(file, 3).expect("an encoder");
    let mut buffer = Vec::new();
    for event in events(ops) {
        format::jsonl::write_event(&mut buffer, &event);
        if buffer.len() > 1 << 20 {
            out.write_all(&buffer).expect("the file can be written");
            buffer.clear();
        }
    }
    out.write_all(&buffer).expect("the file can be written");
    out.finish().expect("the file can be written");
}

fn write_files(folder: &Path, ops: usize) {
    let history = History {
        events: events(ops).collect(),
    };
    let create = |name: &str| {
        let path: PathBuf = folder.join(name);
        BufWriter::new(File::create(path).expect("the folder can be written"))
    };
    for (name, format) in [
        ("history.jsonl", Format::Jsonl),
        ("history.json", Format::Json),
        ("lines.edn", Format::Edn),
        ("jepsen.log", Format::JepsenLog),
    ] {
        format::write(&mut create(name), &history, format).expect("it can be written");
    }
    write_zst(&folder.join("history.jsonl.zst"), ops);
    let plain = fs::read(folder.join("history.jsonl")).expect("it was just written");
    let level = flate2::Compression::default();
    let mut out = flate2::write::GzEncoder::new(create("history.jsonl.gz"), level);
    out.write_all(&plain).expect("it can be written");
    out.finish().expect("it can be written");
    // As Python would write it, with the fields in the order of Jepsen's maps.
    let mut other = create("other.jsonl");
    for event in &history.events {
        let value = serde_json::to_string(&event.value).expect("a value is JSON");
        writeln!(
            other,
            "{{\"type\": \"{}\", \"f\": \"{}\", \"value\": {value}, \"process\": {}, \"time\": {}, \
             \"index\": {}, \"key\": \"k1\"}}",
            event.kind.name(),
            event.f.name(),
            event.process,
            event.time,
            event.index,
        )
        .expect("it can be written");
    }
    let lines = fs::read(folder.join("lines.edn")).expect("it was just written");
    let mut vector = create("vector.edn");
    vector.write_all(b"[").expect("it can be written");
    vector.write_all(&lines).expect("it can be written");
    vector.write_all(b"]\n").expect("it can be written");
}
