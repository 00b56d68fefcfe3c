//! [`OwnKeys`]: keeps a run to keys of its own, so that it finds them empty in a store that others
//! have written to.

use checkers::{F, Outcome, Value};
use workloads::client::At;
use workloads::{Client, Completion, Invocation, transaction};

/// A client that puts a prefix before every key and account in the store, and takes it away from what
/// the store shows.
#[derive(Debug)]
pub struct OwnKeys<C> {
    client: C,
    prefix: String,
}

impl<C> OwnKeys<C> {
    /// With this prefix.
    pub fn new(client: C, prefix: String) -> Self {
        Self { client, prefix }
    }

    /// What does the work.
    #[cfg(feature = "k8s")]
    pub fn client(&self) -> &C {
        &self.client
    }

    fn name(&self, key: &Value) -> Value {
        Value::str(&format!("{}{}", self.prefix, text(key)))
    }

    /// The same operation on keys of this run. A read without a key is of a bank, whose accounts have to
    /// be named then: the store may hold those of other runs.
    fn asked(&self, invocation: &Invocation) -> Invocation {
        let mut asked = invocation.clone();
        if let Some(key) = &mut asked.key {
            *key = self.name(key);
            return asked;
        }
        if asked.f == F::Read {
            asked.value = transaction::accounts(&asked.value).into_iter().collect();
        }
        asked.value = transaction::renamed(&asked.f, &asked.value, |key| self.name(key));
        asked
    }

    /// What came of it, in the words of whoever asked.
    fn told(&self, invocation: &Invocation, asked: &Invocation, done: Completion) -> Completion {
        if invocation.key.is_some() {
            return done;
        }
        let value = match (&invocation.f, done.outcome) {
            (F::Read, Outcome::Ok) => {
                let accounts = transaction::accounts(&invocation.value);
                let bare = |shown: &Value| {
                    let own = |account: &&Value| self.name(account) == *shown;
                    accounts.iter().find(own).unwrap_or(shown).clone()
                };
                transaction::renamed(&F::Read, &done.value, bare)
            }
            (f, Outcome::Ok) if *f == transaction::txn() => {
                match shown(&invocation.value, asked, &done) {
                    Some(value) => value,
                    None => {
                        return Completion {
                            error: Some("bad-response".into()),
                            ..Completion::new(Outcome::Info, invocation.value.clone())
                        };
                    }
                }
            }
            // What did not succeed has shown nothing, and a transfer shows itself.
            (F::Read, _) => invocation.value.clone(),
            (f, _) if *f == transaction::txn() || *f == transaction::transfer() => {
                invocation.value.clone()
            }
            // Anything else without a key, as what a node holds, is told as it is.
            _ => return done,
        };
        Completion { value, ..done }
    }
}

/// A transaction under its own keys, with what its reads showed.
fn shown(original: &Value, asked: &Invocation, done: &Completion) -> Option<Value> {
    if !transaction::answers(&asked.value, &done.value) {
        return None;
    }
    let micro = transaction::Micro::all(original)?;
    let answers = done.value.items()?;
    let shown = |answer: &Value| answer.items().and_then(|items| items.get(2)).cloned();
    let written = micro
        .iter()
        .zip(answers)
        .map(|(micro, answer)| Some(micro.written(shown(answer)?)));
    written.collect()
}

/// A key as it is written.
fn text(key: &Value) -> String {
    match key {
        Value::Str(text) => text.to_string(),
        other => other.to_string(),
    }
}

impl<C: Client> Client for OwnKeys<C> {
    async fn invoke(&self, at: At<'_>, invocation: &Invocation) -> Completion {
        let asked = self.asked(invocation);
        let done = self.client.invoke(at, &asked).await;
        self.told(invocation, &asked, done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Value {
        serde_json::from_str(json).unwrap()
    }

    fn client() -> OwnKeys<()> {
        OwnKeys::new((), "q-".to_owned())
    }

    fn done(outcome: Outcome, json: &str) -> Completion {
        Completion::new(outcome, value(json))
    }

    #[test]
    fn the_store_sees_the_prefix_and_the_history_does_not() {
        let invocation = Invocation::new(
            transaction::txn(),
            None,
            value(r#"[["r", 1, null], ["append", 2, 7]]"#),
        );
        let asked = client().asked(&invocation);
        assert_eq!(
            asked.value,
            value(r#"[["r", "q-1", null], ["append", "q-2", 7]]"#)
        );
        let told = |outcome, json: &str| client().told(&invocation, &asked, done(outcome, json));
        let ok = told(Outcome::Ok, r#"[["r", "q-1", [3]], ["append", "q-2", 7]]"#);
        assert_eq!(ok.value, value(r#"[["r", 1, [3]], ["append", 2, 7]]"#));
        // Not what was asked for: nobody knows what was done.
        let other = told(Outcome::Ok, r#"[["r", "q-2", [3]], ["append", "q-2", 7]]"#);
        assert_eq!(
            (other.outcome, other.value),
            (Outcome::Info, invocation.value.clone())
        );
        let failed = told(Outcome::Fail, "null");
        assert_eq!(failed.value, invocation.value);
    }

    #[test]
    fn a_bank_has_accounts_of_its_own() {
        let read = Invocation::new(F::Read, None, Value::Nil);
        let asked = client().asked(&read);
        let items = asked.value.items().unwrap();
        assert_eq!((items.len(), &items[0]), (8, &Value::str("q-0")));
        // Those of others are not made to look like its own.
        let told = client().told(&read, &asked, done(Outcome::Ok, r#"{"q-0": 9, "0": 1}"#));
        let pairs = [
            (Value::Int(0), Value::Int(9)),
            (Value::str("0"), Value::Int(1)),
        ];
        assert_eq!(told.value, Value::Map(pairs.into()));

        let transfer = value(r#"{"from": 0, "to": 1, "amount": 5}"#);
        let transfer = Invocation::new(transaction::transfer(), None, transfer);
        let asked = client().asked(&transfer);
        assert_eq!(
            asked.value,
            value(r#"{"from": "q-0", "to": "q-1", "amount": 5}"#)
        );
        let completion = Completion::new(Outcome::Ok, asked.value.clone());
        let told = client().told(&transfer, &asked, completion);
        assert_eq!(told.value, transfer.value);
    }

    #[test]
    fn what_a_node_holds_is_shown_as_it_is() {
        let inspect = Invocation::new(F::Inspect, None, Value::Nil);
        let asked = client().asked(&inspect);
        assert_eq!(asked, inspect);
        let told = client().told(&inspect, &asked, done(Outcome::Ok, r#"{"k1": [1]}"#));
        assert_eq!(told.value, value(r#"{"k1": [1]}"#));
    }

    #[test]
    fn what_one_key_holds_is_shown_as_it_is() {
        let read = Invocation::new(F::Read, Some(Value::str("k1")), Value::Nil);
        let asked = client().asked(&read);
        assert_eq!(asked.key, Some(Value::str("q-k1")));
        let told = client().told(&read, &asked, done(Outcome::Ok, "[1, 2]"));
        assert_eq!(told.value, value("[1, 2]"));
    }
}
