use super::*;

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
