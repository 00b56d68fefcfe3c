use super::*;
use crate::Kind;
use crate::format::{self, ReadOptions};
use crate::testing::{Script, ints};

fn history(text: &str) -> History {
    let report = format::read_bytes(text.as_bytes(), None, &ReadOptions::default());
    report.unwrap().history
}

/// Every micro-operation as text: numbers back to names.
fn shown(txns: &Transactions<'_>) -> Vec<String> {
    let name = |v: u32| txns.values[v as usize].to_string();
    let of = |txn: &Txn| {
        let mops = txns.mops_of(txn).iter().map(|mop| match *mop {
            Mop::Append { key, value } => format!("{}+{}", txns.keys[key as usize], name(value)),
            Mop::Write { key, value } => format!("{}:={}", txns.keys[key as usize], name(value)),
            Mop::Read { key, shown } => {
                let value = match shown {
                    Shown::Unknown => "?".to_owned(),
                    Shown::Nil => "nil".to_owned(),
                    Shown::Value(v) => name(v),
                    list @ Shown::List { .. } => {
                        let items = txns.list(list).iter().map(|&v| name(v));
                        format!("[{}]", items.collect::<Vec<_>>().join(" "))
                    }
                };
                format!("{}={value}", txns.keys[key as usize])
            }
        });
        mops.collect::<Vec<_>>().join(" ")
    };
    txns.txns.iter().map(of).collect()
}

#[test]
fn transactions_of_elle() {
    let h = history(
        "{:type :invoke :f :txn :process 0 :value [[:append 1 1] [:r 2 nil] [:r 1 nil]]}
         {:type :invoke :f :txn :process 1 :value [[:append 2 1] [:r 1 nil]]}
         {:type :ok :f :txn :process 0 :value [[:append 1 1] [:r 2 nil] [:r 1 [1 7000 1]]]}
         {:type :info :f :txn :process 1 :value [[:append 2 1] [:r 1 nil]]}
         {:type :invoke :f :txn :process 2 :value [[:append 1 7000]]}
         {:type :fail :f :txn :process 2 :value [[:append 1 7000]]}
         {:type :invoke :f :txn :process 3 :value nil}",
    );
    let txns = Transactions::of(&h, Shape::Lists).unwrap();
    let expected = ["1+1 2=nil 1=[1 7000 1]", "2+1 1=?", "1+7000", ""];
    assert_eq!(shown(&txns), expected);
    assert_eq!(txns.keys.len(), 2);
    assert_eq!(txns.values.len(), 3, "1 of key 1 is not 1 of key 2");
    let outcomes: Vec<_> = txns.txns.iter().map(|t| (t.outcome, t.completed)).collect();
    assert_eq!(outcomes[0], (Outcome::Ok, Some(2)));
    assert_eq!(outcomes[1], (Outcome::Info, None));
    assert_eq!(outcomes[2], (Outcome::Fail, Some(5)));
    assert_eq!(shape_of(&h), Shape::Lists);
}

#[test]
fn names_may_be_text_or_symbols() {
    let h = history(
        r#"[{"index":0,"process":1,"type":"invoke","value":[["w","x",1],["r","y",null]]},
            {"index":1,"process":1,"type":"ok","value":[["w","x",1],["r","y",[3]]]}]"#,
    );
    assert_eq!(shape_of(&h), Shape::Registers);
    let txns = Transactions::of(&h, Shape::Registers).unwrap();
    assert_eq!(shown(&txns), ["x:=1 y=[3]"]);
    let h = history("{:type :invoke :f :txn :process 0 :value [(r x nil) (w x 3)]}");
    let txns = Transactions::of(&h, Shape::Registers).unwrap();
    assert_eq!(shown(&txns), ["x=? x:=3"]);
}

#[test]
fn single_operations_are_transactions() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Append, 1)
        .op(1, Kind::Info, F::Read, Value::Nil)
        .op(2, Kind::Ok, F::Read, ints(&[1]))
        .op(2, Kind::Ok, F::Inspect, ints(&[]))
        .op(2, Kind::Fail, F::Add, 3);
    let h = s.history();
    let txns = Transactions::of(&h, Shape::Lists).unwrap();
    assert_eq!(shown(&txns), ["k+1", "k=?", "k=[1]"]);
    assert_eq!(shape_of(&h), Shape::Lists);
    let mut s = Script::new();
    let both = Value::Map([(Value::str("a"), 1.into()), (Value::str("b"), 2.into())].into());
    s.op(1, Kind::Ok, F::Cas, ints(&[1, 2]))
        .op(1, Kind::Fail, F::Write, 5)
        .op(1, Kind::Ok, F::Read, both);
    let h = s.history();
    let txns = Transactions::of(&h, Shape::Registers).unwrap();
    assert_eq!(shown(&txns), ["nil=1 nil:=2", "nil:=5", "a=1 b=2"]);
}

#[test]
fn what_cannot_be_read_is_a_reason() {
    let reason = |text: &str, shape| Transactions::of(&history(text), shape).unwrap_err();
    for value in [
        "3",
        "[3]",
        "[[:r]]",
        "[[:append 1]]",
        "[[:cas 1 2]]",
        "[[nil 1 2]]",
    ] {
        let text = format!("{{:type :invoke :f :txn :process 0 :value {value}}}");
        let reason = reason(&text, Shape::Lists);
        assert!(reason.starts_with("malformed-transaction: "), "{reason}");
    }
    let text = "{:type :invoke :f :txn :process 0 :value [[:r 1 nil]]}
                {:type :ok :f :txn :process 0 :value [[:r 1 3]]}";
    assert!(reason(text, Shape::Lists).contains("[:r 1 3]` at event 1"));
    let text = "{:type :invoke :f :transfer :process 0 :value 1}";
    let unknown = "unknown-function: `transfer` at event 0";
    assert_eq!(reason(text, Shape::Lists), unknown);
}

#[test]
fn small_and_large_values_have_one_number_each() {
    let mut values = Values {
        small: Vec::new(),
        other: FxHashMap::default(),
        names: Vec::new(),
    };
    let all: Vec<Value> = [900, 0, 17, 18, 19, 20, 40, 900, -1, 22, i64::MAX, 60]
        .map(Value::Int)
        .into_iter()
        .chain([Value::str("17"), Value::Nil])
        .collect();
    let mut numbers = FxHashMap::default();
    for _ in 0..3 {
        for key in [0, 5, 1] {
            for value in &all {
                let number = values.number(key, value);
                assert_eq!(*numbers.entry((key, value)).or_insert(number), number);
                assert_eq!(values.names[number as usize], value);
            }
        }
    }
    assert_eq!(values.names.len(), 3 * 13);
}
