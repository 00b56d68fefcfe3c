//! Transactions and transfers, as operations carry them.
//!
//! | function | value | an ok completion shows |
//! | --- | --- | --- |
//! | `txn` | micro-operations: `["r", k, nil]`, `["append", k, v]`, `["w", k, v]` | the same, with what each read showed |
//! | `transfer` | `{from, to, amount}` | the same |
//! | `read` without key | `nil`, or the accounts to be read | `{account balance, …}` |
//!
//! A key and an account is a whole number, or a text where a run keeps to keys of its own.

use checkers::{F, Value};

/// How many accounts a bank has: 0, 1, ….
pub const ACCOUNTS: i64 = 8;
/// What each of them holds before the first transfer.
pub const BALANCE: i64 = 10;
/// What they come to.
pub const TOTAL: i64 = ACCOUNTS * BALANCE;

/// The function of transactions.
pub fn txn() -> F {
    F::from_name("txn")
}

/// The function of transfers.
pub fn transfer() -> F {
    F::from_name("transfer")
}

/// What a transaction does to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Micro {
    /// Reads it.
    Read(Value),
    /// Appends an element to a list.
    Append(Value, Value),
    /// Overwrites a register.
    Write(Value, Value),
}

impl Micro {
    /// The micro-operations of a transaction; `None` if it is none.
    pub fn all(value: &Value) -> Option<Vec<Self>> {
        value.items()?.iter().map(Self::of).collect()
    }

    fn of(value: &Value) -> Option<Self> {
        let [Value::Str(name), key, argument] = value.items()? else {
            return None;
        };
        let (key, argument) = (key.clone(), argument.clone());
        match &**name {
            "r" => Some(Self::Read(key)),
            "append" => Some(Self::Append(key, argument)),
            "w" => Some(Self::Write(key, argument)),
            _ => None,
        }
    }

    /// As it is written in the value of a transaction, a read with what it showed (`nil` before).
    pub fn written(&self, shown: Value) -> Value {
        let (name, key, value) = match self {
            Self::Read(key) => ("r", key, shown),
            Self::Append(key, value) => ("append", key, value.clone()),
            Self::Write(key, value) => ("w", key, value.clone()),
        };
        [Value::str(name), key.clone(), value].into_iter().collect()
    }

    /// Its key.
    pub fn key(&self) -> &Value {
        match self {
            Self::Read(key) | Self::Append(key, _) | Self::Write(key, _) => key,
        }
    }

    /// Whether it reads.
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Read(_))
    }
}

/// A transfer between two accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Who gives.
    pub from: Value,
    /// Who takes.
    pub to: Value,
    /// How much, above 0.
    pub amount: i64,
}

impl Transfer {
    /// What the value of an operation asks for; `None` if it is no transfer.
    pub fn of(value: &Value) -> Option<Self> {
        let Value::Map(fields) = value else {
            return None;
        };
        let field = |name: &str| {
            let mut fields = fields.iter();
            let found = fields.find(|(field, _)| matches!(field, Value::Str(s) if &**s == name));
            Some(found?.1.clone())
        };
        Some(Self {
            from: field("from")?,
            to: field("to")?,
            amount: field("amount")?.as_int()?,
        })
    }

    /// As it is written.
    pub fn written(&self) -> Value {
        let fields = [
            ("from", self.from.clone()),
            ("to", self.to.clone()),
            ("amount", Value::Int(self.amount)),
        ];
        Value::Map(fields.map(|(name, value)| (Value::str(name), value)).into())
    }
}

/// The accounts that a read of a bank asks for: all of them if it names none.
pub fn accounts(asked: &Value) -> Vec<Value> {
    match asked.items() {
        Some(accounts) => accounts.to_vec(),
        None => (0..ACCOUNTS).map(Value::Int).collect(),
    }
}

/// Whether a transaction reads, and does nothing else.
pub fn only_reads(value: &Value) -> bool {
    Micro::all(value).is_some_and(|all| all.iter().all(Micro::is_read))
}

/// Whether a value can be what a transaction came to that asked for this: the same micro-operations
/// in the same order.
pub fn answers(asked: &Value, answered: &Value) -> bool {
    let same = |(asked, answered): (&Value, &Value)| {
        asked == answered
            || match (Micro::of(asked), Micro::of(answered)) {
                (Some(Micro::Read(asked)), Some(Micro::Read(answered))) => asked == answered,
                _ => false,
            }
    };
    let (Some(asked), Some(answered)) = (asked.items(), answered.items()) else {
        return false;
    };
    asked.len() == answered.len() && asked.iter().zip(answered).all(same)
}

/// The same operation with every key and account in its value called otherwise.
pub fn renamed(f: &F, value: &Value, name: impl Fn(&Value) -> Value) -> Value {
    match (f.name(), value) {
        ("txn", value) => {
            let Some(items) = value.items() else {
                return value.clone();
            };
            let renamed = |item: &Value| match item.items() {
                Some([what, key, argument]) => [what.clone(), name(key), argument.clone()]
                    .into_iter()
                    .collect(),
                _ => item.clone(),
            };
            items.iter().map(renamed).collect()
        }
        ("transfer", value) => match Transfer::of(value) {
            Some(transfer) => Transfer {
                from: name(&transfer.from),
                to: name(&transfer.to),
                ..transfer
            }
            .written(),
            None => value.clone(),
        },
        // What a read of a bank shows.
        ("read", Value::Map(balances)) => {
            let renamed = balances
                .iter()
                .map(|(account, balance)| (name(account), balance.clone()));
            Value::Map(renamed.collect())
        }
        ("read", value) => match value.items() {
            Some(accounts) => accounts.iter().map(name).collect(),
            None => value.clone(),
        },
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Value {
        serde_json::from_str(json).expect(json)
    }

    #[test]
    fn what_is_written_is_what_was_read() {
        let asked = value(r#"[["r", 1, null], ["append", 2, 7], ["w", "q-3", 8]]"#);
        let all = Micro::all(&asked).expect("micro-operations");
        let keys: Vec<_> = all.iter().map(Micro::key).cloned().collect();
        assert_eq!(keys, [Value::Int(1), Value::Int(2), Value::str("q-3")]);
        assert_eq!(
            all.iter().map(|m| m.written(Value::Nil)).collect::<Value>(),
            asked
        );
        assert!(!only_reads(&asked) && only_reads(&value(r#"[["r", 1, null]]"#)));
        for none in ["5", r#"[["r", 1]]"#, r#"[["x", 1, 2]]"#, r#"[1]"#] {
            assert_eq!(Micro::all(&value(none)), None, "{none}");
            assert!(!only_reads(&value(none)), "{none}");
        }
        let transfer = value(r#"{"from": 0, "to": 1, "amount": 5}"#);
        let read = Transfer::of(&transfer).expect("a transfer");
        assert_eq!((read.amount, read.written()), (5, transfer));
        assert_eq!(Transfer::of(&value(r#"{"from": 0, "amount": 5}"#)), None);
    }

    #[test]
    fn an_answer_has_the_micro_operations_that_were_asked_for() {
        let asked = value(r#"[["r", 1, null], ["append", 2, 7]]"#);
        for (answer, is) in [
            (r#"[["r", 1, [3, 4]], ["append", 2, 7]]"#, true),
            (r#"[["r", 1, null], ["append", 2, 7]]"#, true),
            (r#"[["r", 2, [3, 4]], ["append", 2, 7]]"#, false),
            (r#"[["r", 1, [3, 4]], ["append", 2, 8]]"#, false),
            (r#"[["r", 1, [3, 4]], ["w", 2, 7]]"#, false),
            (r#"[["r", 1, [3, 4]]]"#, false),
            (r#"[["append", 2, 7], ["r", 1, [3, 4]]]"#, false),
            ("null", false),
        ] {
            assert_eq!(answers(&asked, &value(answer)), is, "{answer}");
        }
    }

    #[test]
    fn keys_and_accounts_are_renamed_wherever_they_are() {
        let name = |key: &Value| Value::str(&format!("q-{key}"));
        let read = F::Read;
        for (f, before, after) in [
            (
                txn(),
                r#"[["r", 1, [3]], ["w", 2, 7]]"#,
                r#"[["r", "q-1", [3]], ["w", "q-2", 7]]"#,
            ),
            (
                transfer(),
                r#"{"from": 0, "to": 1, "amount": 5}"#,
                r#"{"from": "q-0", "to": "q-1", "amount": 5}"#,
            ),
            (read.clone(), "[0, 1]", r#"["q-0", "q-1"]"#),
            (read, r#"{"a": 10, "b": 11}"#, r#"{"q-a": 10, "q-b": 11}"#),
            (F::Append, "[1, 2]", "[1, 2]"),
        ] {
            assert_eq!(renamed(&f, &value(before), name), value(after));
        }
    }
}
