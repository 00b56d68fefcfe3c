use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::Value;
use crate::testing;

#[test]
fn formats_are_recognised_by_content() {
    for (start, format) in [
        (r#"{"index":0,"time":1}"#, Guess::Format(Format::Jsonl)),
        ("\n[\n {\n \"index\":0,", Guess::Format(Format::Json)),
        ("{\n  \"verdict\": 1", Guess::Format(Format::Jsonl)),
        ("; x\n\n [{:process 1}", Guess::Format(Format::Edn)),
        ("({:process 1", Guess::Format(Format::Edn)),
        ("{:index 0, :f :get, :key 1}", Guess::Format(Format::Edn)),
        ("#jepsen.history.Op{:index 1}", Guess::Format(Format::Edn)),
        (
            "{:process 1, :type :invoke, :f :get, :key \"9\", :value nil}",
            Guess::Format(Format::PorcupineKv),
        ),
        (
            "2026 INFO x\nINFO  jepsen.util - 0\t:invoke\t:read\tnil",
            Guess::Format(Format::JepsenLog),
        ),
        ("hello", Guess::Unknown),
        ("[main] hello", Guess::Unknown),
        (
            "[worker 0] INFO jepsen.util - 0 :invoke :read nil",
            Guess::Format(Format::JepsenLog),
        ),
        (
            "{:process 1, :type :ok, :f :append, :key \"9\", :value \"x\"}",
            Guess::Either(Format::PorcupineKv, Format::Edn),
        ),
        ("", Guess::Empty),
    ] {
        assert_eq!(detect(start.as_bytes()), format, "{start}");
    }
    for format in Format::ALL {
        assert_eq!(Format::from_name(format.name()), Some(format));
    }
}

#[test]
fn other_files_are_refused_and_empty_ones_are_empty_histories() {
    let error = read_bytes(b"hello\n", None, &ReadOptions::default()).unwrap_err();
    assert!(matches!(error, ReadError::UnknownFormat { .. }));
    let report = read_bytes(b"", None, &ReadOptions::default()).unwrap();
    assert_eq!(report.history, History::default());
    let missing = read_path(Path::new("/nowhere/x"), None, &ReadOptions::default());
    assert!(missing.unwrap_err().to_string().starts_with("/nowhere/x: "));
    let bad = read_bytes(b"[{:a\n\xff}]", Some(Format::Edn), &ReadOptions::default());
    assert_eq!(bad.unwrap_err().line(), Some(2));
}

/// Gives a few bytes at a time, as a pipe may.
struct Dribble<'a>(&'a [u8], usize);

impl io::Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = self.1 % 7 + 1;
        let n = self.1.min(buffer.len()).min(self.0.len());
        buffer[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// The same bytes, packed in every way that is known.
fn packed(bytes: &[u8]) -> Vec<Vec<u8>> {
    let zstd = |bytes| zstd::encode_all(bytes, 1).unwrap();
    let (one, two) = bytes.split_at(bytes.len() / 2);
    vec![
        bytes.to_vec(),
        [b"\xef\xbb\xbf", bytes].concat(),
        zstd(bytes),
        gzip(bytes),
        [zstd(one), zstd(two)].concat(),
        [gzip(one), gzip(two)].concat(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn streams_say_what_files_say(history in testing::any_history(), crlf: bool) {
        let mut history = history;
        for (position, event) in (0..).zip(&mut history.events) {
            event.index = position;
        }
        for format in [Format::Jsonl, Format::Json, Format::Edn, Format::JepsenLog] {
            let mut bytes = Vec::new();
            if write(&mut bytes, &history, format).is_err() {
                continue;
            }
            if crlf {
                bytes = String::from_utf8(bytes).unwrap().replace('\n', "\r\n").into_bytes();
            }
            let options = ReadOptions { independent: Some(format == Format::JepsenLog), ..ReadOptions::default() };
            let read = read_bytes(&bytes, Some(format), &options).unwrap();
            for packed in packed(&bytes) {
                let report = read_stream(Dribble(&packed, 0), "x", Some(format), &options).unwrap();
                prop_assert_eq!(&report.history, &read.history);
                prop_assert_eq!(&report.warnings, &read.warnings);
                let events = Events::new(Dribble(&packed, 3), "x", Some(format), &options).unwrap();
                let events: Vec<_> = events.collect::<Result<_, _>>().unwrap();
                prop_assert_eq!(&events, &read.history.events);
            }
        }
    }
}

#[test]
fn torn_and_corrupt_compression_is_told_apart() {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut text = Vec::new();
    for index in 0..30_000 {
        let value = Value::Int(rng.random());
        let process = crate::Process::Client(index % 10);
        let event = Event::new(
            index,
            index,
            process,
            crate::Kind::Invoke,
            crate::F::Write,
            value,
        );
        jsonl::write_event(&mut text, &event);
    }
    let mut edn = Vec::new();
    let whole = read_bytes(&text, None, &ReadOptions::default())
        .unwrap()
        .history;
    write(&mut edn, &whole, Format::Edn).unwrap();
    for (bytes, format) in [(&text, Format::Jsonl), (&edn, Format::Edn)] {
        for packed in [zstd::encode_all(&bytes[..], 1).unwrap(), gzip(bytes)] {
            let torn = &packed[..packed.len() / 2];
            let report = read_bytes(torn, None, &ReadOptions::default()).unwrap();
            assert_eq!(report.format, format);
            let events = &report.history.events;
            assert!(events.len() > 1_000 && events.len() < 29_000);
            assert_eq!(events[..], whole.events[..events.len()]);
            let torn = |w: &Warning| matches!(w, Warning::TornCompression { line } if *line == events.len() as u64);
            assert!(report.warnings.iter().any(torn), "{:?}", report.warnings);
            let mut corrupt = packed.clone();
            for byte in &mut corrupt[packed.len() / 2..][..40] {
                *byte ^= 0x55;
            }
            let error = read_bytes(&corrupt, None, &ReadOptions::default()).unwrap_err();
            assert_eq!(error.to_string().lines().count(), 1);
            let partial = ReadOptions {
                partial: true,
                ..ReadOptions::default()
            };
            let report = read_bytes(&corrupt, None, &partial).unwrap();
            assert!(report.cut.is_some());
        }
    }
}

#[test]
fn other_kinds_of_files_are_named() {
    for (bytes, expected) in [
        (
            &b"JEPSEN\0\0\0\x01\0\0"[..],
            "<bytes>: a store file of Jepsen, which only Jepsen reads; give the history.edn or history.txt beside it",
        ),
        (
            b"\xfd7zXZ\0\0",
            "<bytes>: compressed with xz; only zstd and gzip are read",
        ),
        (b"\xff\xfe{\0", "<bytes>: text in UTF-16; expected UTF-8"),
        (
            b"{:process 1, :type :ok, :f :append, :key \"9\", :value \"x\"}\n",
            "<bytes>: it may be `porcupine-kv` or `edn`; name the format",
        ),
    ] {
        let error = read_bytes(bytes, None, &ReadOptions::default()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}
