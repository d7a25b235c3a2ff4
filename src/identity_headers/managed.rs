//! The class of a header name. Asked for each header of each forwarded request: one look into a
//! small table, and no hash.

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderName;

use super::names::{self, Class};
use super::pattern::NamePattern;

/// Every managed name, ready to be looked up.
#[derive(Debug)]
pub(super) struct ManagedNames {
    /// By the first and the third character of a name; in a bucket whole names first, then the
    /// longest beginning.
    buckets: Vec<Vec<Entry>>,
}

#[derive(Clone, Debug)]
struct Entry {
    text: Box<str>,
    is_prefix: bool,
    /// `None` if clients may send it.
    class: Option<Class>,
}

const BUCKETS: usize = 256;

impl ManagedNames {
    /// The class of a plain name; `None` if clients may send it.
    pub(super) fn class(&self, name: &str) -> Option<Class> {
        self.buckets.get(bucket(name))?.iter().find(|entry| entry.matches(name))?.class
    }
}

impl Entry {
    fn matches(&self, name: &str) -> bool {
        if self.is_prefix { name.starts_with(&*self.text) } else { name == &*self.text }
    }
}

fn bucket(name: &str) -> usize {
    let at = |place: usize| name.as_bytes().get(place).copied().unwrap_or_default();
    bucket_of(at(0), at(2))
}

fn bucket_of(first: u8, third: u8) -> usize {
    ((usize::from(first) * 8) ^ usize::from(third)) % BUCKETS
}

/// The buckets of all names that an entry means: a beginning of two characters does not say what
/// the third one is.
fn buckets_of(text: &str, is_prefix: bool) -> BTreeSet<usize> {
    match text.as_bytes() {
        [first, _] if is_prefix => (0..=u8::MAX).map(|third| bucket_of(*first, third)).collect(),
        _ => BTreeSet::from([bucket(text)]),
    }
}

/// The managed names while they are put together.
pub(super) struct NameClasses(BTreeMap<NamePattern, Option<Class>>);

impl NameClasses {
    /// What is managed whatever is configured.
    pub(super) fn listed() -> Self {
        let name = |(text, class): (&str, Class), is_prefix| {
            (NamePattern { text: text.to_owned(), is_prefix }, Some(class))
        };
        let names = names::listed().map(|listed| name(listed, false));
        Self(names.chain(names::families().map(|family| name(family, true))).collect())
    }

    /// The class of a plain name: its own, or that of the longest beginning.
    pub(super) fn class(&self, name: &str) -> Option<Class> {
        let matching = self.0.iter().filter(|(pattern, _)| pattern.matches(name));
        let nearest = matching.max_by_key(|(pattern, _)| (!pattern.is_prefix, pattern.text.len()));
        nearest.and_then(|(_, class)| *class)
    }

    /// What is said of exactly this name, or of exactly this beginning.
    pub(super) fn of_pattern(&self, pattern: &NamePattern) -> Option<Class> {
        self.0.get(pattern).copied().flatten()
    }

    /// Sets the class of a name or of a beginning.
    pub(super) fn set(&mut self, pattern: NamePattern, class: Class) {
        self.0.insert(pattern, Some(class));
    }

    /// Lets clients send what a pattern means, as far as the pattern may decide it; whether it
    /// changed anything.
    pub(super) fn release(&mut self, pattern: &NamePattern) -> bool {
        let is_removed = |class: Option<Class>| {
            matches!(class, Some(Class::Foreign | Class::Forwarding | Class::Removed | Class::Trace))
        };
        let mut changes = !pattern.is_prefix && is_removed(self.class(&pattern.text));
        for (known, class) in &mut self.0 {
            // A name that `remove` names itself stays removed.
            if *class != Some(Class::Removed) && is_removed(*class) && pattern.matches(&known.text) {
                *class = None;
                changes = true;
            }
        }
        changes |= pattern.is_prefix && is_removed(self.class(&pattern.text));
        if changes {
            self.0.insert(pattern.clone(), None);
        }
        changes
    }

    /// Whether clients may send what stands exactly so in the list, because it was released.
    pub(super) fn is_released(&self, name: &str) -> bool {
        self.0.get(&NamePattern { text: name.to_owned(), is_prefix: false }) == Some(&None)
    }

    /// The names that are managed, without beginnings.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter(|pattern| !pattern.is_prefix).map(|pattern| pattern.text.as_str())
    }

    /// The table to look names up in.
    pub(super) fn table(self) -> ManagedNames {
        let mut entries: Vec<Entry> = self
            .0
            .into_iter()
            .map(|(NamePattern { text, is_prefix }, class)| Entry { text: text.into(), is_prefix, class })
            .collect();
        entries.sort_by_key(|entry| (entry.is_prefix, std::cmp::Reverse(entry.text.len())));
        let mut buckets: Vec<Vec<Entry>> = std::iter::repeat_with(Vec::new).take(BUCKETS).collect();
        for entry in entries {
            for bucket in buckets_of(&entry.text, entry.is_prefix) {
                buckets.get_mut(bucket).into_iter().for_each(|bucket| bucket.push(entry.clone()));
            }
        }
        ManagedNames { buckets }
    }
}

/// Whether a header of the gateway's own needs a name as it stands.
pub(super) fn is_guarded(name: &HeaderName) -> bool {
    names::GUARDED.contains(&name.as_str())
}

/// Whether a pattern means a header that every client sends for itself.
pub(super) fn means_guarded(pattern: &NamePattern) -> bool {
    names::GUARDED.iter().any(|name| pattern.matches(name))
}
