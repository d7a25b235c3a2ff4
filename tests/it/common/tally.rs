//! What a suite of attacks tried, how much of it reached a backend, and how it was answered.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::http2::Outcome;

/// The counts of one suite.
#[derive(Debug, Default)]
pub struct Tally {
    pub inputs: usize,
    pub reached: usize,
    answered: BTreeMap<String, usize>,
    /// What else there is to say, such as how others fared meanwhile.
    pub remark: String,
}

/// How an input was answered.
pub struct Class(String);

impl Tally {
    /// So many inputs, none of which is answered by itself.
    pub fn of(inputs: usize, remark: String) -> Self {
        Self { inputs, remark, ..Self::default() }
    }

    /// Counts one input, and how many requests the backend had of it.
    pub fn add(&mut self, answered: impl Into<Class>, reached: usize) {
        self.inputs += 1;
        self.reached += reached;
        *self.answered.entry(answered.into().0).or_default() += 1;
    }

    /// How many inputs were answered so.
    pub fn answered(&self, class: impl Into<Class>) -> usize {
        self.answered.get(&class.into().0).copied().unwrap_or_default()
    }

    /// Prints the counts, and leaves them for `scripts/test`, which shows those of all suites. No
    /// two suites have one name.
    pub fn report(&self, suite: &str) {
        let Self { inputs, reached, answered, remark } = self;
        assert!(*inputs > 0, "{suite} tried nothing");
        let mut said: Vec<String> =
            answered.iter().map(|(class, count)| format!("{class}: {count}")).collect();
        said.extend((!remark.is_empty()).then(|| remark.clone()));
        let said = said.join(", ");
        println!("{suite}: {inputs} inputs, {reached} reached the backend, answered {said}");
        if let Some(folder) = std::env::var_os("MENSHEN_TEST_COUNTS") {
            let name = suite.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            fs::write(Path::new(&folder).join(name), format!("{suite}\t{inputs}\t{reached}\t{said}\n"))
                .unwrap();
        }
    }
}

/// A status; 0 where the connection was closed without one.
impl From<u16> for Class {
    fn from(status: u16) -> Self {
        Self(if status == 0 { "closed".into() } else { status.to_string() })
    }
}

/// The statuses of all answers over one connection.
impl From<&[u16]> for Class {
    fn from(statuses: &[u16]) -> Self {
        match statuses {
            [] => 0.into(),
            _ => Self(statuses.iter().map(u16::to_string).collect::<Vec<_>>().join("+")),
        }
    }
}

impl From<&Outcome> for Class {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Answered(status, _) => (*status).into(),
            Outcome::Reset(_) => Self("reset".into()),
            Outcome::GoneAway(_) => Self("gone away".into()),
            Outcome::Closed => 0.into(),
        }
    }
}

impl From<&str> for Class {
    fn from(class: &str) -> Self {
        Self(class.to_owned())
    }
}
