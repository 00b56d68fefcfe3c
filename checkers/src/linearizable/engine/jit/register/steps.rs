//! What may take effect when an operation completes.

use super::configuration::Configuration;
use super::plan::Kind;
use super::{Breadth, Search};

/// In a beam, how many pending operations may take effect at one completion.
const PENDING_AT_ONCE: u64 = 3;

/// Where operations take effect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the end of the last segment.
    Now,
    /// In a segment inserted before the last plain write: early operations only.
    Inserted,
}

/// When to stop following compare-and-sets.
#[derive(Clone, Copy, Default)]
struct Until<'r> {
    /// As soon as this is done.
    slot: Option<u32>,
    /// Where it can no more be done.
    reach: Option<&'r Reach>,
}

/// The values from which compare-and-sets can lead to where an operation can take effect.
pub(super) enum Reach {
    Any,
    Of(Vec<u32>),
}

impl Reach {
    fn has(&self, value: u32) -> bool {
        match self {
            Self::Any => true,
            Self::Of(values) => values.contains(&value),
        }
    }
}

impl<const N: usize> Search<'_, '_, N> {
    /// From where what completes can be reached.
    pub(super) fn reach(&self, kind: Kind) -> Reach {
        let target = match kind {
            Kind::Read(value) => value,
            Kind::Cas(set) => self.plan.sets[set as usize].0,
            Kind::Refused(_) | Kind::Write(_) => return Reach::Any,
        };
        let mut values = vec![target];
        let mut at = 0;
        while let Some(&value) = values.get(at) {
            at += 1;
            for &set in &self.live_sets {
                let (old, new) = self.plan.sets[set as usize];
                if new == value && !values.contains(&old) {
                    values.push(old);
                }
            }
        }
        Reach::Of(values)
    }

    /// Every way in which what completes can have taken effect by now.
    pub(super) fn expand(
        &mut self,
        c: &Configuration<N>,
        slot: u32,
        kind: Kind,
        reach: &Reach,
        out: &mut Vec<Configuration<N>>,
    ) {
        if let Breadth::Beam(_) = self.breadth {
            // Pending operations only where nothing else helps, and as few as do.
            let (before, all) = (out.len(), c.left_in_all());
            for used in 0..=all.min(PENDING_AT_ONCE) {
                self.dropped |= all > 0;
                self.expand_with(c, slot, kind, reach, all - used, out);
                if out.len() > before {
                    return;
                }
            }
            return;
        }
        self.expand_with(c, slot, kind, reach, 0, out);
    }

    /// Likewise, as long as more than `floor` pending operations are left.
    fn expand_with(
        &mut self,
        c: &Configuration<N>,
        slot: u32,
        kind: Kind,
        reach: &Reach,
        floor: u64,
        out: &mut Vec<Configuration<N>>,
    ) {
        if let Kind::Write(value) = kind {
            if c.early.has(slot) {
                self.overwritten(c, value, floor, out);
            }
            for mut end in self.ends(c, Until::default(), floor) {
                end.done.insert(slot);
                self.switch(&mut end, value);
                out.push(end);
            }
            return;
        }
        if c.early.has(slot) {
            self.insert_for(c, slot, reach, floor, out);
        }
        let mut until = Until {
            slot: Some(slot),
            reach: None,
        };
        let mut starts = Vec::new();
        for end in self.ends(c, until, floor) {
            if end.done.has(slot) {
                out.push(end);
                continue;
            }
            for value in self.writable(&end, Place::Now, floor, reach) {
                let mut start = end.clone();
                self.switch_to_one_of(&mut start, value);
                starts.push(start);
            }
        }
        if starts.len() > 8 {
            self.settle(&mut starts);
        }
        until.reach = Some(reach);
        let reached = self.follow(starts, Place::Now, until, floor);
        out.extend(reached.into_iter().filter(|c| c.done.has(slot)));
    }

    /// The segment of a free plain write that completes, inserted.
    fn overwritten(
        &mut self,
        c: &Configuration<N>,
        value: u32,
        floor: u64,
        out: &mut Vec<Configuration<N>>,
    ) {
        let mut start = c.clone();
        self.enter(&mut start, value, Place::Inserted);
        let reached = self.follow(vec![start], Place::Inserted, Until::default(), floor);
        out.extend(reached.into_iter().map(|mut end| {
            end.state = c.state;
            end
        }));
    }

    /// Inserted segments in which an early operation takes effect.
    fn insert_for(
        &mut self,
        c: &Configuration<N>,
        slot: u32,
        reach: &Reach,
        floor: u64,
        out: &mut Vec<Configuration<N>>,
    ) {
        let mut starts = Vec::new();
        for value in self.writable(c, Place::Inserted, floor, reach) {
            let mut start = c.clone();
            self.use_write(&mut start, value, Place::Inserted);
            self.enter(&mut start, value, Place::Inserted);
            starts.push(start);
        }
        let reached = self.follow(starts, Place::Inserted, Until::default(), floor);
        let serving = reached.into_iter().filter(|end| end.done.has(slot));
        out.extend(serving.map(|mut end| {
            end.state = c.state;
            end
        }));
    }

    /// The configuration, and those that compare-and-sets at the end of its last segment lead to, as
    /// far as they are of any use.
    fn ends(
        &mut self,
        c: &Configuration<N>,
        until: Until<'_>,
        floor: u64,
    ) -> Vec<Configuration<N>> {
        let mut ends = self.follow(vec![c.clone()], Place::Now, until, floor);
        // What only used pending operations up is no better than what it came from.
        let mut first = true;
        ends.retain(|end| std::mem::take(&mut first) || end.done != c.done);
        ends
    }

    /// The configurations, and all that chains of compare-and-sets lead to from them.
    fn follow(
        &mut self,
        mut found: Vec<Configuration<N>>,
        place: Place,
        until: Until<'_>,
        floor: u64,
    ) -> Vec<Configuration<N>> {
        if self.live_sets.is_empty() {
            return found;
        }
        let mut at = 0;
        while at < found.len() {
            let from = found[at].clone();
            at += 1;
            if at % 128 == 0 {
                self.look(found.len());
                if self.spent.is_some() {
                    return found;
                }
            }
            if until.slot.is_some_and(|slot| from.done.has(slot)) {
                continue;
            }
            for i in 0..self.live_sets.len() {
                let set = self.live_sets[i];
                if self.plan.sets[set as usize].0 == from.state {
                    self.follow_one(&from, set, place, until, floor, &mut found);
                }
            }
        }
        found
    }

    fn follow_one(
        &mut self,
        from: &Configuration<N>,
        set: u32,
        place: Place,
        until: Until<'_>,
        floor: u64,
        found: &mut Vec<Configuration<N>>,
    ) {
        let new = self.plan.sets[set as usize].1;
        let mut add = |search: &mut Self, mut next: Configuration<N>| {
            search.enter(&mut next, new, place);
            let done = until.slot.is_some_and(|slot| next.done.has(slot));
            let useful = done || until.reach.is_none_or(|reach| reach.has(new));
            search.made += 1;
            if useful && !found.iter().any(|f| search.covers(f, &next)) {
                found.push(next);
            }
        };
        let (early, late) = self.first_open(from, set);
        let early = early.filter(|e| place == Place::Inserted || late.is_none_or(|l| e.0 < l.0));
        let late = late.filter(|_| place == Place::Now);
        for (_, slot) in early.into_iter().chain(late) {
            let mut next = from.clone();
            next.done.insert(slot);
            add(self, next);
        }
        let Some(kind) = self
            .plan
            .pending_kind(Kind::Cas(set))
            .filter(|_| from.left_in_all() > floor)
        else {
            return;
        };
        let left = from.left[kind];
        let mut next = from.clone();
        let count = &mut next.left[kind];
        match place {
            _ if late.is_some() => return,
            Place::Now if left.late > 0 => count.late -= 1,
            _ if early.is_some() || left.early == 0 => return,
            Place::Now | Place::Inserted => count.early -= 1,
        }
        if self.breadth == Breadth::Relaxed {
            next.left[kind] = left;
        }
        add(self, next);
    }

    /// Whether a configuration found makes another one of the same segment superfluous.
    fn covers(&self, found: &Configuration<N>, next: &Configuration<N>) -> bool {
        let undone = next
            .done
            .without(found.done)
            .or(found.done.without(next.done));
        let reads = self.open.without(self.writes).without(self.cas);
        found.state == next.state
            && undone.without(reads).is_empty()
            && next.done.without(found.done).is_empty()
            && found.early == next.early
            && found
                .left
                .iter()
                .zip(&next.left)
                .all(|(a, b)| a.early >= b.early && a.all() >= b.all())
    }

    /// The open compare-and-sets of a kind that are not done and complete first: the first early
    /// and the first late one, as `(deadline, slot)`.
    #[expect(clippy::type_complexity, reason = "a pair of the same")]
    fn first_open(
        &self,
        c: &Configuration<N>,
        set: u32,
    ) -> (Option<(u32, u32)>, Option<(u32, u32)>) {
        let (mut early, mut late) = (None, None);
        for &(deadline, slot) in &self.sets[set as usize] {
            if c.done.has(slot) {
                continue;
            }
            let first = if c.early.has(slot) {
                &mut early
            } else {
                &mut late
            };
            first.get_or_insert((deadline, slot));
        }
        (early, late)
    }

    /// The values that a plain write which is not used yet could leave, of those in reach.
    fn writable(&self, c: &Configuration<N>, place: Place, floor: u64, reach: &Reach) -> Vec<u32> {
        let mut usable = self.writes.without(c.done);
        if place == Place::Inserted {
            usable = usable.and(c.early);
        }
        let mut values: Vec<u32> = Vec::new();
        for slot in usable.iter() {
            let value = self.value_of[slot as usize];
            if reach.has(value) && !values.contains(&value) {
                values.push(value);
            }
        }
        if c.left_in_all() > floor {
            for (kind, left) in self.plan.pending.iter().zip(&c.left) {
                let left = match place {
                    Place::Now => left.all(),
                    Place::Inserted => left.early,
                };
                if let Kind::Write(value) = *kind
                    && left > 0
                    && reach.has(value)
                    && !values.contains(&value)
                {
                    values.push(value);
                }
            }
        }
        values
    }

    /// Uses up a plain write of the value: the one that completes first.
    fn use_write(&self, c: &mut Configuration<N>, value: u32, place: Place) {
        let usable = |slot: u32| !c.done.has(slot) && (place == Place::Now || c.early.has(slot));
        let writes = &self.of[value as usize].writes;
        if let Some((_, slot)) = writes.iter().find(|(_, slot)| usable(*slot)) {
            c.done.insert(*slot);
        } else if let Some(kind) = self.plan.pending_kind(Kind::Write(value))
            && self.breadth != Breadth::Relaxed
        {
            c.left[kind].early = c.left[kind].early.saturating_sub(1);
        }
    }

    fn switch_to_one_of(&self, c: &mut Configuration<N>, value: u32) {
        self.begin_segment(c);
        self.use_write(c, value, Place::Now);
        self.enter(c, value, Place::Now);
    }

    /// A plain write takes effect now.
    fn switch(&self, c: &mut Configuration<N>, value: u32) {
        self.begin_segment(c);
        self.enter(c, value, Place::Now);
    }

    fn begin_segment(&self, c: &mut Configuration<N>) {
        c.early = self.open;
        for left in &mut c.left {
            left.early += left.late;
            left.late = 0;
        }
    }

    /// The value changes; what reads it takes effect.
    fn enter(&self, c: &mut Configuration<N>, value: u32, place: Place) {
        c.state = value;
        let of = &self.of[value as usize];
        let mut fits = self.refused;
        for slot in &of.refused {
            fits.remove(*slot);
        }
        for slot in &of.reads {
            fits.insert(*slot);
        }
        if place == Place::Inserted {
            fits = fits.and(c.early);
        }
        c.done = c.done.or(fits);
    }
}
