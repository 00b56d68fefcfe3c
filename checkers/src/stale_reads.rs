//! Which reads missed writes acknowledged before they began, by how many versions and for how
//! long.
//!
//! Every ok read is judged, each key of a read of everything on its own.
//!
//! * **Lists, sets and texts**, exactly: an element misses from a read if it was acknowledged before
//!   the read began and the read does not show it. One that somebody may have begun to remove before
//!   the read ended does not miss.
//! * **Registers** whose every value is written once, and each field of a map: a write is missing if
//!   it was acknowledged before the read began, and the value returned (each of them, if the store
//!   keeps concurrent ones) was in place before the write began (its write, or any read that
//!   returned it, had ended; the initial `nil` always was). Reads that ended after somebody may have
//!   begun to remove the key or field are not judged.
//!
//! Counters and locks are not judged here.
//!
//! A missing write makes the read *stale* if some read that ends later does reflect it. If none
//! does, it may be lost rather than late, which is the matter of [`crate::lost_writes`]; such reads
//! are counted in `reads_missing_lost_writes`.
//!
//! Of a stale read, `versions` is how many such writes it misses, and `ms` the time from the oldest
//! acknowledgement among them to the invocation of the read. Distributions (nearest rank) are over
//! the stale reads.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::found::{LISTED_MAX, nearest_rank};
use crate::observe::{self, Family, KeyView};
use crate::registers::Register;
use crate::verdict::conclude;
use crate::{Anomaly, CheckResult, Checker, History, Operation, Value};

/// The checker; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct StaleReads;

impl Checker for StaleReads {
    fn name(&self) -> &'static str {
        "stale-reads"
    }

    fn check(&self, history: &History) -> CheckResult {
        let operations = match observe::known_operations(history) {
            Ok(operations) => operations,
            Err(reason) => return CheckResult::unknown(self.name(), reason),
        };
        let mut findings = Findings {
            operations: &operations,
            reads: 0,
            judged: 0,
            missing_lost: 0,
            stale: Vec::new(),
            reasons: BTreeMap::new(),
        };
        for (key, view) in observe::by_key(&operations) {
            findings.reads += view.reads.len() as u64;
            let judged = match view.family {
                Family::List | Family::Set | Family::Text => findings.collection(key, &view),
                Family::Register | Family::Map => findings.registers(key, &view),
                Family::Mixed => Err("mixed-functions"),
                Family::Counter | Family::Lock | Family::ReadOnly => Ok(()),
            };
            if let Err(reason) = judged {
                *findings.reasons.entry(reason).or_insert(0) += 1;
            }
        }
        findings.conclude(self.name())
    }
}

/// Not the number of any element: one that was never acknowledged.
const UNKNOWN: u32 = u32::MAX;

struct Stale {
    key: Option<Value>,
    read: usize,
    oldest_missed: usize,
    versions: u64,
    ms: f64,
}

struct Findings<'o, 'a> {
    operations: &'o [Operation<'a>],
    reads: u64,
    /// Reads that began after an acknowledgement: only those can be stale.
    judged: u64,
    missing_lost: u64,
    stale: Vec<Stale>,
    /// Why keys could not be judged, and how many.
    reasons: BTreeMap<&'static str, u64>,
}

/// Adds up what one read missed.
#[derive(Default)]
struct Missed {
    versions: u64,
    /// The one acknowledged first: when (ns), and which operation.
    oldest: Option<(u64, usize)>,
    lost: bool,
}

impl Missed {
    fn add(&mut self, operations: &[Operation<'_>], write: usize, reflected_later: bool) {
        if !reflected_later {
            self.lost = true;
            return;
        }
        self.versions += 1;
        let acked = operations[write].completed_at().unwrap_or(u64::MAX);
        if self.oldest.is_none_or(|(oldest, _)| acked < oldest) {
            self.oldest = Some((acked, write));
        }
    }
}

impl Findings<'_, '_> {
    fn began(&self, op: usize) -> usize {
        self.operations[op].invoked_position
    }

    fn ended(&self, op: usize) -> usize {
        self.operations[op].completed_position.unwrap_or(usize::MAX)
    }

    fn record(&mut self, key: Option<&Value>, read: usize, missed: &Missed) {
        self.missing_lost += u64::from(missed.lost);
        let Some((acked, oldest_missed)) = missed.oldest else {
            return;
        };
        let ns = self.operations[read].invoked_at().saturating_sub(acked);
        self.stale.push(Stale {
            key: key.cloned(),
            read,
            oldest_missed,
            versions: missed.versions,
            ms: ns as f64 / 1e6,
        });
    }

    fn collection(&mut self, key: Option<&Value>, view: &KeyView<'_>) -> Result<(), &'static str> {
        // The first acknowledged write of each element, in the order of acknowledgement.
        let mut acked: Vec<usize> = view.writes.clone();
        acked.retain(|&w| self.operations[w].is_ok());
        acked.sort_by_key(|&w| self.ended(w));
        let mut seen = FxHashSet::default();
        let written = |w: usize| observe::written(&self.operations[w]);
        acked.retain(|&w| written(w).is_some_and(|value| seen.insert(value)));
        let mut ids: FxHashMap<&Value, u32> = FxHashMap::default();
        ids.extend(
            acked
                .iter()
                .enumerate()
                .filter_map(|(i, &w)| Some((written(w)?, i as u32))),
        );
        let (removed, all_removed) = self.removed(view);
        // By element: from when on it may be gone, and the last end of a read that shows it.
        let gone: Vec<usize> = acked
            .iter()
            .map(|&w| written(w).and_then(|value| removed.get(value)))
            .map(|from| from.copied().unwrap_or(usize::MAX).min(all_removed))
            .collect();
        let mut last_shown: Vec<usize> = vec![0; acked.len()];

        // What the reads show, one after the other.
        let mut shown: Vec<u32> = Vec::new();
        let mut before: (usize, &[Value]) = (0, &[]);
        let mut reads: Vec<(usize, usize)> = Vec::with_capacity(view.reads.len());
        for read in &view.reads {
            let Some(items) = observe::elements(read.value) else {
                continue;
            };
            // Most of a read is what the one before showed.
            let common = observe::common_beginning(before.1, items);
            shown.extend_from_within(before.0..before.0 + common);
            let rest = items[common..].iter();
            shown.extend(rest.map(|value| ids.get(value).copied().unwrap_or(UNKNOWN)));
            before = (shown.len() - items.len(), items);
            reads.push((read.op, shown.len()));
        }
        let mut rest = &shown[..];
        let mut from = 0;
        for &(read, to) in &reads {
            let (items, others) = rest.split_at(to - from);
            (rest, from) = (others, to);
            let ended = self.ended(read);
            for &element in items {
                if let Some(last) = last_shown.get_mut(element as usize) {
                    *last = ended.max(*last);
                }
            }
        }
        // Elements that a read to come may miss and a later one show. What may be gone, and what
        // no read shows any more, stays so: of the latter it is enough to know for how long.
        let mut live: Vec<u32> = Vec::new();
        let (mut next, mut lost_until) = (0, 0);
        let mut shown_by: Vec<usize> = vec![usize::MAX; acked.len()];
        let mut from = 0;
        for &(read, to) in &reads {
            let (began, ended) = (self.began(read), self.ended(read));
            for &element in &shown[from..to] {
                if let Some(by) = shown_by.get_mut(element as usize) {
                    *by = read;
                }
            }
            from = to;
            let before = acked.partition_point(|&w| self.ended(w) < began);
            self.judged += u64::from(before > 0);
            live.extend((next..before).map(|element| element as u32));
            next = next.max(before);
            let mut missed = Missed::default();
            live.retain(|&element| {
                let element = element as usize;
                if last_shown[element] < began {
                    lost_until = gone[element].max(lost_until);
                    return false;
                }
                if shown_by[element] != read && gone[element] > ended {
                    let later = last_shown[element] > ended;
                    missed.add(self.operations, acked[element], later);
                }
                gone[element] > began
            });
            missed.lost |= lost_until > ended;
            self.record(key, read, &missed);
        }
        if reads.len() < view.reads.len() {
            return Err("unreadable-read");
        }
        Ok(())
    }

    /// From when on somebody may have removed each element, and all of them.
    fn removed<'v>(&self, view: &KeyView<'_>) -> (FxHashMap<&'v Value, usize>, usize)
    where
        Self: 'v,
    {
        let (mut each, mut all) = (FxHashMap::default(), usize::MAX);
        for op in view.removes.iter().map(|&r| &self.operations[r]) {
            if !observe::possible(op) {
                continue;
            }
            let from = op.invoked_position;
            if op.argument().is_nil() {
                all = all.min(from);
            } else {
                each.entry(op.argument()).or_insert(from);
            }
        }
        (each, all)
    }

    fn registers(&mut self, key: Option<&Value>, view: &KeyView<'_>) -> Result<(), &'static str> {
        let mut all = Ok(());
        let mut judged: Vec<usize> = Vec::new();
        Register::each(self.operations, view, |register| {
            if let Err(reason) = self.register(key, &register, &mut judged) {
                all = Err(reason);
            }
        })?;
        // A read of a map is one read, however many fields it shows.
        judged.sort_unstable();
        judged.dedup();
        self.judged += judged.len() as u64;
        all
    }

    fn register(
        &mut self,
        key: Option<&Value>,
        register: &Register<'_>,
        judged: &mut Vec<usize>,
    ) -> Result<(), &'static str> {
        let in_place = self.in_place(register)?;
        // The instant from which the value of a read was in place; the initial one is before all.
        let place = |shows: &[u32]| {
            let mut each = shows.iter().map(|&value| in_place[value as usize]);
            each.try_fold(0, |last, place| Some(last.max(place?)))
        };
        let places: Vec<Option<usize>> = register
            .reads
            .iter()
            .map(|(_, shows)| place(register.shows(*shows)))
            .collect();
        // For every instant, the last end of a read of a value in place only since then.
        let mut reflecting: Vec<(usize, usize)> = register
            .reads
            .iter()
            .zip(&places)
            .filter(|((_, shows), _)| !register.shows(*shows).is_empty())
            .filter_map(|((read, _), place)| Some(((*place)?, self.ended(*read))))
            .collect();
        reflecting.sort_unstable();
        for i in (1..reflecting.len()).rev() {
            reflecting[i - 1].1 = reflecting[i - 1].1.max(reflecting[i].1);
        }
        let last_reflected = |write: usize| {
            let from = reflecting.partition_point(|&(place, _)| place < self.began(write));
            reflecting.get(from).map(|&(_, ended)| ended)
        };
        let mut acked: Vec<usize> = register.writes.iter().map(|(w, _)| *w).collect();
        acked.retain(|&w| self.operations[w].is_ok());
        let first_ack = acked.iter().map(|&w| self.ended(w)).min();
        let removed_from = register.removals.from();
        let mut found = Vec::new();
        for ((read, shows), place) in register.reads.iter().zip(places) {
            let (began, ended) = (self.began(*read), self.ended(*read));
            if removed_from < ended {
                continue;
            }
            if first_ack.is_some_and(|first| first < began) {
                judged.push(*read);
            }
            let Some(place) = place else {
                continue;
            };
            let initial = register.shows(*shows).is_empty();
            let mut missed = Missed::default();
            let before = acked.partition_point(|&w| self.began(w) < began);
            for &write in acked[..before].iter().rev() {
                if !initial && self.began(write) < place {
                    break;
                }
                if self.ended(write) < began {
                    let later = last_reflected(write).is_some_and(|last| last > ended);
                    missed.add(self.operations, write, later);
                }
            }
            if missed.oldest.is_some() || missed.lost {
                found.push((*read, missed));
            }
        }
        for (read, missed) in found {
            self.record(key, read, &missed);
        }
        Ok(())
    }

    /// Since when each value that may have been written was in place.
    fn in_place(&self, register: &Register<'_>) -> Result<Vec<Option<usize>>, &'static str> {
        let mut in_place = vec![None; register.values.len()];
        for &(w, value) in &register.writes {
            if !observe::possible(&self.operations[w]) {
                continue;
            }
            let before = in_place[value as usize].replace(self.ended(w));
            if register.values[value as usize].is_nil() || before.is_some() {
                return Err("values-not-unique");
            }
        }
        for (read, shows) in &register.reads {
            for &value in register.shows(*shows) {
                if let Some(place) = &mut in_place[value as usize] {
                    *place = self.ended(*read).min(*place);
                }
            }
        }
        Ok(in_place)
    }

    fn conclude(self, checker: &str) -> CheckResult {
        let mut stale = self.stale;
        stale.sort_by(|a, b| (a.read, &a.key).cmp(&(b.read, &b.key)));
        let reasons = self
            .reasons
            .iter()
            .map(|(reason, keys)| format!("{reason} ({keys} keys)"));
        let verdict = conclude(!stale.is_empty(), self.judged, reasons.collect());
        let mut result = CheckResult::new(checker, verdict);
        result.judged = self.judged;
        result.figure("reads", self.reads);
        result.figure("stale", stale.len());
        result.figure("reads_missing_lost_writes", self.missing_lost);
        let mut versions: Vec<u64> = stale.iter().map(|s| s.versions).collect();
        let mut ms: Vec<f64> = stale.iter().map(|s| s.ms).collect();
        versions.sort_unstable();
        ms.sort_by(f64::total_cmp);
        for (name, percent) in [("p50", 50), ("p95", 95), ("p99", 99), ("max", 100)] {
            let versions = nearest_rank(&versions, percent);
            let ms = nearest_rank(&ms, percent);
            result.figure(&format!("versions_{name}"), versions);
            result.figure(&format!("ms_{name}"), ms);
        }
        result.anomalies = stale
            .into_iter()
            .take(LISTED_MAX as usize)
            .map(|stale| anomaly(self.operations, stale))
            .collect();
        result
    }
}

fn anomaly(operations: &[Operation<'_>], stale: Stale) -> Anomaly {
    let (read, missed) = (&operations[stale.read], &operations[stale.oldest_missed]);
    let node = read
        .node()
        .map_or_else(String::new, |n| format!(" from {n}"));
    let mut figures = serde_json::Map::new();
    figures.insert("versions".to_owned(), stale.versions.into());
    figures.insert("ms".to_owned(), stale.ms.into());
    if let Some(node) = read.node() {
        figures.insert("node".to_owned(), node.to_string().into());
    }
    let summary = format!(
        "a read of {} by process {}{node} misses {} write(s), the oldest ({} of {}) acknowledged \
         {:.3} ms before the read began",
        observe::key_name(stale.key.as_ref()),
        read.process(),
        stale.versions,
        missed.f().name(),
        observe::written(missed).unwrap_or(&Value::Nil),
        stale.ms,
    );
    Anomaly {
        class: "stale-read".to_owned(),
        key: stale.key,
        summary,
        ops: vec![missed.invoke.index, read.invoke.index],
        figures,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Script, ints};
    use crate::{F, Kind, Verdict};

    fn check(script: &Script) -> CheckResult {
        StaleReads.check(&script.history())
    }

    #[test]
    fn a_late_element_makes_a_read_stale_by_versions_and_time() {
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Ok, F::Append, 1)
            .op(1, Kind::Ok, F::Append, 2)
            .op(1, Kind::Ok, F::Append, 3)
            .op(2, Kind::Ok, F::Read, ints(&[1]))
            .op(2, Kind::Ok, F::Read, ints(&[1, 2, 3]));
        let result = check(&s);
        assert_eq!(result.verdict, Verdict::Invalid);
        let anomaly = &result.anomalies[0];
        assert_eq!(result.anomalies.len(), 1);
        assert_eq!(anomaly.ops, [2, 6]);
        assert_eq!(anomaly.figures["versions"], 2);
        // Acknowledged at 3 ms, read at 6 ms.
        assert_eq!(anomaly.figures["ms"], 3.0);
        assert_eq!(result.figures["reads"], 2);
        assert_eq!(result.figures["stale"], 1);
        assert_eq!(result.figures["versions_p99"], 2);
    }

    #[test]
    fn an_element_never_seen_again_is_not_late_but_lost() {
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Ok, F::Add, 1)
            .op(2, Kind::Ok, F::Read, ints(&[1]))
            .op(2, Kind::Ok, F::Read, ints(&[]))
            .op(2, Kind::Ok, F::Read, ints(&[]));
        let result = check(&s);
        assert_eq!(result.verdict, Verdict::Valid);
        assert_eq!(result.figures["reads_missing_lost_writes"], 2);
        assert_eq!(result.figures["ms_max"], serde_json::Value::Null);
    }

    #[test]
    fn concurrent_and_unacknowledged_writes_may_be_missed() {
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Ok, F::Add, 1)
            .client(2, Kind::Invoke, F::Add, 2)
            .client(3, Kind::Invoke, F::Read, Value::Nil)
            .client(2, Kind::Ok, F::Add, 2)
            .client(3, Kind::Ok, F::Read, ints(&[1]))
            .op(4, Kind::Info, F::Add, 3)
            .op(3, Kind::Ok, F::Read, ints(&[1, 2]))
            .op(3, Kind::Ok, F::Read, ints(&[1, 2, 3]));
        assert_eq!(check(&s).verdict, Verdict::Valid);
    }

    #[test]
    fn registers_count_the_writes_since_the_value_was_in_place() {
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Ok, F::Write, 1)
            .op(1, Kind::Ok, F::Write, 2)
            .op(1, Kind::Ok, F::Cas, ints(&[2, 3]))
            .op(2, Kind::Ok, F::Read, 1)
            .op(2, Kind::Ok, F::Read, Value::Nil)
            .op(2, Kind::Ok, F::Read, 3);
        let result = check(&s);
        assert_eq!(result.verdict, Verdict::Invalid);
        let versions: Vec<_> = result
            .anomalies
            .iter()
            .map(|a| &a.figures["versions"])
            .collect();
        assert_eq!(versions, [2, 3]);
        // Without a later read that reflects them, the writes may be lost instead.
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Ok, F::Write, 1)
            .op(1, Kind::Ok, F::Write, 2)
            .op(2, Kind::Ok, F::Read, 1);
        let result = check(&s);
        assert_eq!(result.verdict, Verdict::Valid);
        assert_eq!(result.figures["reads_missing_lost_writes"], 1);
    }

    #[test]
    fn a_read_of_a_pending_write_puts_its_value_in_place() {
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Info, F::Write, 1)
            .op(2, Kind::Ok, F::Read, 1)
            .op(3, Kind::Ok, F::Write, 2)
            .op(2, Kind::Ok, F::Read, 1)
            .op(2, Kind::Ok, F::Read, 2);
        let result = check(&s);
        assert_eq!(result.figures["stale"], 1);
        assert_eq!(result.anomalies[0].ops, [4, 6]);
    }

    #[test]
    fn reads_before_any_acknowledgement_prove_nothing() {
        let mut s = Script::new();
        s.key("k")
            .op(2, Kind::Ok, F::Read, ints(&[]))
            .op(1, Kind::Ok, F::Add, 1);
        assert_eq!(
            check(&s).verdict,
            Verdict::Unknown("nothing-to-judge".into())
        );
    }

    #[test]
    fn what_somebody_may_have_removed_does_not_miss() {
        for (kind, stale) in [(Kind::Info, 0), (Kind::Fail, 1)] {
            let mut s = Script::new();
            s.key("set")
                .op(1, Kind::Ok, F::Add, 1)
                .op(1, kind, F::Remove, 1)
                .op(2, Kind::Ok, F::Read, ints(&[]))
                .op(2, Kind::Ok, F::Read, ints(&[1]));
            assert_eq!(check(&s).figures["stale"], stale, "{kind:?}");
            let mut s = Script::new();
            s.key("register")
                .op(1, Kind::Ok, F::Write, 1)
                .op(1, kind, F::Remove, Value::Nil)
                .op(2, Kind::Ok, F::Read, Value::Nil)
                .op(2, Kind::Ok, F::Read, 1);
            assert_eq!(check(&s).figures["stale"], stale, "{kind:?}");
        }
    }

    #[test]
    fn a_read_of_siblings_is_as_new_as_the_newest() {
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Ok, F::Write, 1)
            .op(1, Kind::Ok, F::Write, 2)
            .op(2, Kind::Ok, F::Read, ints(&[1, 2]))
            .op(2, Kind::Ok, F::Read, ints(&[1]))
            .op(2, Kind::Ok, F::Read, ints(&[2]));
        let result = check(&s);
        assert_eq!(result.figures["stale"], 1);
        assert_eq!(result.anomalies[0].ops, [2, 6]);
    }

    #[test]
    fn inserted_elements_and_fields_are_late_like_others() {
        let pair = |a: Value, b: i64| -> Value { [a, Value::Int(b)].into_iter().collect() };
        let mut s = Script::new();
        s.key("text")
            .op(1, Kind::Ok, F::Insert, pair(Value::Nil, 1))
            .op(2, Kind::Ok, F::Read, ints(&[]))
            .op(2, Kind::Ok, F::Read, ints(&[1]));
        s.key("map")
            .op(1, Kind::Ok, F::Put, pair(Value::str("f"), 1))
            .op(2, Kind::Ok, F::Read, ints(&[]))
            .op(
                2,
                Kind::Ok,
                F::Read,
                [pair(Value::str("f"), 1)].into_iter().collect::<Value>(),
            );
        let result = check(&s);
        assert_eq!(result.figures["stale"], 2, "{result:?}");
    }
}
