use proptest::prelude::*;

use std::sync::Arc;

use super::parse::DEPTH_MAX;
use super::*;
use crate::format::Warning;
use crate::format::names::Names;
use crate::testing;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

fn read_text(text: &str) -> Result<ReadReport, ReadError> {
    read(text, "x.edn", &ReadOptions::default())
}

#[test]
fn reads_lines_vectors_and_lists_of_operations() {
    let lines = "; a comment\n\
                 {:index 3, :time 10, :process 1, :type :invoke, :f :read, :value nil}\n\
                 #jepsen.history.Op{:index 4, :time 12, :process 1, :type :ok, :f :read, :value 7, :error [:x 1]}\n\
                 {:index 5 :time 13 :process :nemesis :type :info :f :start :value {:a #{1 2}} :extra 1.5}\n";
    let report = read_text(lines).unwrap();
    assert_eq!(report.warnings, []);
    let events = &report.history.events;
    assert_eq!(events[1].error.as_deref(), Some("[:x 1]"));
    assert_eq!(events[2].process, Process::Nemesis);
    let extra: Vec<(Arc<str>, Value)> = vec![("extra".into(), Value::Float(1.5))];
    assert_eq!(events[2].extra, extra);
    let body = lines.trim_start_matches("; a comment\n");
    for wrapped in [format!("[{body}]"), format!("; c\n({body})\n")] {
        assert_eq!(read_text(&wrapped).unwrap().history, report.history);
    }
    let mut out = Vec::new();
    write(&mut out, &report.history).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains(":error [:x 1]"), "{text}");
    assert_eq!(read_text(&text).unwrap().history, report.history);
}

#[test]
fn missing_and_disordered_indexes_and_times_are_reported() {
    let report = read_text("[{:process 1 :type :invoke :f :read}]").unwrap();
    assert_eq!(report.warnings, [Warning::Renumbered, Warning::NoTimes]);
    let text = "{:index 0 :time 9 :process 1 :type :invoke :f :read}\n\
                {:index 1 :time 7 :process 2 :type :invoke :f :read}\n";
    let report = read_text(text).unwrap();
    let back = Warning::TimesGoBack {
        first: 1,
        events: 1,
    };
    assert_eq!(report.warnings, [back]);
    assert_eq!(report.history.events[1].time, 7);
    assert!(report.history.operations().is_ok());
    let mut out = Vec::new();
    write(&mut out, &report.history).unwrap();
    assert_eq!(
        read_text(std::str::from_utf8(&out).unwrap())
            .unwrap()
            .history,
        report.history
    );
}

#[test]
fn tuples_of_independent_are_split_if_all_say_so() {
    let independent = "{:process 1 :type :invoke :f :read :value [:k nil]}\n\
                       {:process 2 :type :invoke :f :cas :value #clojure.lang.MapEntry[:k [1 2]]}\n\
                       {:process 1 :type :ok :f :read :value [:k 5]}\n\
                       {:process 2 :type :info :f :cas :value nil}\n";
    let events = read_text(independent).unwrap().history.events;
    let key = Some(Value::Keyword("k".into()));
    assert!(events[..3].iter().all(|e| e.key == key));
    assert_eq!(events[1].value, testing::ints(&[1, 2]));
    assert_eq!(events[2].value, Value::Int(5));
    let single = "{:process 1 :type :invoke :f :read :value nil}\n\
                  {:process 2 :type :invoke :f :cas :value [1 2]}\n";
    let events = read_text(single).unwrap().history.events;
    assert_eq!(events[1].key, None);
    let options = ReadOptions {
        independent: Some(false),
        ..ReadOptions::default()
    };
    let events = read(independent, "x", &options).unwrap().history.events;
    assert!(events.iter().all(|e| e.key.is_none()));
}

#[test]
fn bad_events_name_line_and_field_and_torn_ones_are_left_out() {
    let good = "{:process 1 :type :invoke :f :read}\n";
    for (bad, field) in [
        ("{:process 1.5 :type :ok :f :read}", Some("process")),
        ("{:process 1 :type :okay :f :read}", Some("type")),
        ("{:process 1 :type :ok :f 3}", Some("f")),
        ("{:process 1 :type :ok :f :read :time -3}", Some("time")),
        ("{:process 1 :f :read}", None),
        ("{:process}", None),
        ("17", None),
        ("}", None),
    ] {
        let error = read_text(&format!("{good}{bad}\n{good}")).unwrap_err();
        let ReadError::Corrupt {
            line, field: of, ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!((*line, of.as_deref()), (2, field), "{bad}: {error}");
    }
    let report = read_text(&format!("[{good}{{:process 1 :type :o")).unwrap();
    assert_eq!(report.history.events.len(), 1);
    assert!(report.warnings.contains(&Warning::TornLastLine { line: 2 }));
    let deep = format!("{{:process 1 :type :ok :value {}", "[".repeat(100_000));
    let error = read_text(&deep).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("deeper than {DEPTH_MAX}"))
    );
}

#[test]
fn odd_literals_stay_what_they_are() {
    for text in [
        r"\a",
        r"\newline",
        r"\(",
        "1/2",
        "1.5M",
        "123456789012345678901234567890N",
        "##Inf",
        "foo/bar",
        "-",
        "+x",
        ":a.b/c",
        r#""\"\\\n""#,
        "#inst \"2026-01-01\"",
        "#{}",
        "()",
        "{}",
        "{:a 1, nil [2]}",
    ] {
        let value = Parser::new(text).value().unwrap();
        let mut out = String::new();
        print::value(&mut out, &value);
        assert_eq!(out, text);
    }
    assert_eq!(Parser::new("#_ [1 2] 3").value(), Ok(Value::Int(3)));
    assert_eq!(Parser::new("12N").value(), Ok(Value::Int(12)));
    assert_eq!(Parser::new(r#""\u00e9""#).value(), Ok(Value::str("é")));
}

/// An operation as somebody might write it.
fn odd_operation(rng: &mut SmallRng) -> String {
    const VALUES: [&str; 30] = [
        "nil",
        "0",
        "1",
        "+1",
        "-1",
        "-0",
        "007",
        "1N",
        "1.5",
        "1e3",
        "1/2",
        "99999999999999999999",
        "true",
        ":kw",
        ":",
        ":a/b",
        "sym",
        "\"text\"",
        "\"t\\\"x\"",
        "\"ключ\"",
        "[1 2]",
        "[:append 3 4]",
        "()",
        "#{1 2}",
        "{:a 1}",
        "{:a}",
        "#tag 1",
        "#_ 7 8",
        "\\a",
        "#quorate/keyword \"a b\"",
    ];
    const NAMES: [&str; 20] = [
        ":index",
        ":time",
        ":process",
        ":type",
        ":f",
        ":value",
        ":key",
        ":node",
        ":role",
        ":epoch",
        ":error",
        ":extra",
        "\"index\"",
        "sym",
        "3",
        ":",
        ":process",
        ":type",
        ":f",
        ":value",
    ];
    let usual = |rng: &mut SmallRng, name: &str| match name {
        ":type" => [":invoke", ":ok", ":fail", ":info", "\"ok\""]
            .choose(rng)
            .unwrap()
            .to_string(),
        ":process" => ["0", "1", "17", ":nemesis", "\"w\""]
            .choose(rng)
            .unwrap()
            .to_string(),
        ":f" => [":read", ":write", ":txn", "\"cas\""]
            .choose(rng)
            .unwrap()
            .to_string(),
        ":index" | ":time" | ":epoch" => rng.random_range(0..999).to_string(),
        _ => VALUES.choose(rng).unwrap().to_string(),
    };
    let mut fields = Vec::new();
    for name in [":type", ":process", ":f", ":value"] {
        if rng.random_bool(0.95) {
            fields.push(format!("{name} {}", usual(rng, name)));
        }
    }
    for _ in 0..rng.random_range(0..4) {
        let name = NAMES.choose(rng).unwrap();
        let value = if rng.random_bool(0.8) {
            usual(rng, name)
        } else {
            VALUES.choose(rng).unwrap().to_string()
        };
        fields.push(format!(
            "{name}{}{value}",
            [" ", "  ", ",", "\n"][rng.random_range(0..4)]
        ));
    }
    let head = [
        "",
        "",
        "",
        "#jepsen.history.Op",
        "#op ",
        "#quorate/tagged ",
        "^:m ",
    ][rng.random_range(0..7)];
    let mut text = format!(
        "{head}{{{}}}",
        fields.join([", ", " ", "\n", " ; c\n"][rng.random_range(0..4)])
    );
    if rng.random_bool(0.1) {
        let at = rng.random_range(0..=text.len());
        if text.is_char_boundary(at) {
            text.insert_str(
                at,
                ["}", "{", "\"", " ", "x", "#_", ":"][rng.random_range(0..7)],
            );
        }
    }
    text
}

/// What is read field by field is what its map would say.
#[test]
fn operations_are_read_as_their_maps_are() {
    let mut rng = SmallRng::seed_from_u64(9);
    let (mut quick, mut slow, mut refused) = (0, 0, 0);
    // Endings that are known are taken from memory: the same names all the time.
    let mut names = Names::default();
    for _ in 0..100_000 {
        let text = odd_operation(&mut rng);
        let mut parser = Parser::with(&text, names);
        let found = parser.operation();
        let end = parser.position();
        names = parser.into_names();
        let mut parser = Parser::new(&text);
        let value = parser.value().map(|mut value| {
            while let Value::Tagged(tagged) = value {
                value = tagged.1.clone();
            }
            value
        });
        let expected = value
            .ok()
            .and_then(|value| fields::event(&value, parser.names()).ok());
        match (found, expected) {
            (Some(found), Some(expected)) => {
                assert_eq!(found, expected, "{text}");
                assert_eq!(end, parser.position(), "{text}");
                quick += 1;
            }
            (Some(found), None) => panic!("{text}: {found:?}"),
            (None, Some(_)) => slow += 1,
            (None, None) => refused += 1,
        }
    }
    assert!(
        quick > 20_000 && slow > 5_000 && refused > 10_000,
        "{quick}, {slow}, {refused}"
    );
}

/// Where the text is cut to be read side by side need not be where an operation begins.
#[test]
fn lines_that_only_look_like_operations_are_none() {
    let op = "{:process 1 :type :info :f :x}";
    let mut text = String::new();
    let mut values = Vec::new();
    for n in 0..200 {
        let value = match n % 5 {
            0 => Value::str(&format!("{n}\n{op}\n{op}\n")),
            1 => Value::str(&"{\n#\n".repeat(n)),
            _ => Value::Int(n as i64),
        };
        let discarded = ["", "", "#_\n", "; c\n"][n % 4];
        if !discarded.is_empty() && discarded != "; c\n" {
            text.extend([discarded, op, "\n"]);
        }
        let mut written = String::new();
        print::value(&mut written, &value);
        // As it is in a file that somebody wrote by hand.
        let written = written.replace("\\n", "\n");
        let process = n.to_string();
        text.extend(["{:process ", &process, " :type :invoke :f :write\n"]);
        text.extend([":value ", &written, "}\n"]);
        values.push(value);
    }
    for text in [text.clone(), format!("[{text}]")] {
        let events = read_text(&text).unwrap().history.events;
        let read: Vec<Value> = events.into_iter().map(|event| event.value).collect();
        assert_eq!(read, values);
    }
}

#[test]
fn tuples_may_be_tagged() {
    let text = "{:process 1 :type :invoke :f :read :value #jepsen.independent/tuple [:k nil]}\n\
                {:process 1 :type :ok :f :read :value #jepsen.independent.Tuple [:k 5]}\n";
    let events = read_text(text).unwrap().history.events;
    let key = Some(Value::Keyword("k".into()));
    assert!(events.iter().all(|e| e.key == key));
    assert_eq!(events[1].value, Value::Int(5));
}

#[test]
fn what_is_discarded_and_does_not_end_is_no_torn_line() {
    let good = "{:process 1 :type :invoke :f :read}\n";
    let error = read_text(&format!("{good}#_{{:a\n{good}{good}")).unwrap_err();
    assert_eq!(error.line(), Some(2), "{error}");
    let long = format!("{good}{{:process 1 :value \"{}", "x".repeat(3 << 20));
    let error = read_text(&long).unwrap_err();
    assert_eq!(
        error.to_string(),
        "x.edn:2: longer than 1 MiB, expected an operation"
    );
}

proptest! {
    #[test]
    fn values_come_back(value in testing::any_value()) {
        let mut out = String::new();
        print::value(&mut out, &value);
        prop_assert_eq!(Parser::new(&out).value(), Ok(value), "{}", out);
    }

    #[test]
    fn histories_come_back(history in testing::any_history()) {
        let mut out = Vec::new();
        write(&mut out, &history).unwrap();
        let text = String::from_utf8(out).unwrap();
        let report = read_text(&text).unwrap();
        prop_assert_eq!(report.history, history, "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused_without_panic(text in "[\\[\\]{}()#^:;\\\\\"a-z0-9 \n_]{0,60}") {
        let _ = read_text(&text);
    }
}
