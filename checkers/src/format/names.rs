//! What repeats on most lines of a history, kept once.

use std::hash::Hasher;
use std::sync::Arc;

use rustc_hash::FxHasher;

use crate::{Details, Event, Text, Value};

/// Texts (keys, functions, keywords) and details that were read lately. Bounded: what is new takes
/// the place of something older.
#[derive(Default)]
pub struct Names {
    texts: Vec<Option<Text>>,
    details: Vec<Arc<Details>>,
    fields: Vec<Arc<str>>,
    endings: Vec<Option<Ending>>,
    /// Room for the elements of collections that are being read.
    pub items: Vec<Value>,
    /// The same for the pairs of maps.
    pub pairs: Vec<(Value, Value)>,
}

/// The end of a line as it was written, and what it says.
struct Ending {
    written: Box<[u8]>,
    details: Option<Arc<Details>>,
}

impl Names {
    const TEXTS: usize = 1 << 12;
    const DETAILS: usize = 16;
    const FIELDS: usize = 64;
    const ENDINGS: usize = 1 << 8;
    /// Longer texts are data.
    const TEXT_LEN_MAX: usize = 32;
    const ENDING_LEN_MAX: usize = 256;

    /// The text of these bytes; `None` if they are not UTF-8.
    pub fn text(&mut self, bytes: &[u8]) -> Option<Text> {
        let new = || std::str::from_utf8(bytes).ok().map(Text::from);
        if bytes.len() > Self::TEXT_LEN_MAX {
            return new();
        }
        if self.texts.is_empty() {
            self.texts.resize(Self::TEXTS, None);
        }
        let slot = &mut self.texts[slot(bytes, Self::TEXTS)];
        if let Some(known) = slot
            && known.as_bytes() == bytes
        {
            return Some(known.clone());
        }
        let text = new()?;
        *slot = Some(text.clone());
        Some(text)
    }

    /// The name of a field that has no meaning here.
    pub fn field(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.fields.iter().find(|known| ***known == *name) {
            return known.clone();
        }
        let new: Arc<str> = name.into();
        if self.fields.len() < Self::FIELDS {
            self.fields.push(new.clone());
        }
        new
    }

    /// Lets an event share details with those before it that have the same ones.
    pub fn share_details(&mut self, event: &mut Event) {
        let Some(details) = event.details() else {
            return;
        };
        if !details.extra.is_empty() {
            return;
        }
        if let Some(known) = self.details.iter().find(|known| *known == details) {
            let known = known.clone();
            event.share_details(Some(known));
            return;
        }
        if self.details.len() == Self::DETAILS {
            self.details.remove(0);
        }
        let details = details.clone();
        self.details.push(details);
    }

    /// Gives an event the details that the end of its line says: known from before, or found out by
    /// `read`. `None` if it finds nothing out.
    pub fn ending(
        &mut self,
        written: &[u8],
        event: &mut Event,
        read: impl FnOnce() -> Option<Details>,
    ) -> Option<()> {
        if self.endings.is_empty() {
            self.endings.resize_with(Self::ENDINGS, || None);
        }
        let slot = &mut self.endings[slot(written, Self::ENDINGS)];
        if let Some(known) = slot
            && *known.written == *written
        {
            event.share_details(known.details.clone());
            return Some(());
        }
        event.set_details(read()?);
        if written.len() <= Self::ENDING_LEN_MAX {
            *slot = Some(Ending {
                written: written.into(),
                details: event.details().cloned(),
            });
        }
        Some(())
    }
}

fn slot(bytes: &[u8], slots: usize) -> usize {
    let mut hasher = FxHasher::default();
    hasher.write(bytes);
    hasher.finish() as usize % slots
}
