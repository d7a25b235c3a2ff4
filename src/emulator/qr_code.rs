//! QR codes of website sign-ins: the state of each, which the browser's page polls.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;

use crate::clock::Timestamp;
use crate::config::Duration;

use super::authorization::Authorization;

/// A QR code that a page shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QrCode {
    /// Its name, in the address that it encodes.
    pub uuid: String,
    /// The website.
    pub appid: String,
    /// The `state` that the website sent; empty if it sent none.
    pub state: String,
    /// What the phone did with it.
    #[serde(flatten)]
    pub step: QrCodeStep,
}

/// What the phone did with a QR code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "step")]
pub enum QrCodeStep {
    /// Nothing yet.
    Waiting,
    /// A person scanned the code and has not answered yet.
    Scanned {
        /// The person.
        wxid: String,
    },
    /// The person agreed.
    Confirmed {
        /// The person.
        wxid: String,
        /// The code for the website's server.
        code: String,
    },
    /// The person refused; the code may be scanned again.
    Cancelled,
    /// Its time ran out.
    Expired,
}

/// Why a phone cannot do something with a QR code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QrCodeError {
    /// No page shows it, or its time ran out.
    #[error("the QR code has expired or never existed: open the page again")]
    Expired,
    /// It must be scanned first.
    #[error("the QR code has not been scanned: scan it first")]
    NotScanned,
    /// A person has scanned or confirmed it.
    #[error("the QR code has been scanned already")]
    AlreadyScanned,
}

impl QrCodeStep {
    /// The number that the page's poll answers.
    pub(super) const fn errcode(&self) -> u16 {
        match self {
            Self::Waiting => 408,
            Self::Scanned { .. } => 404,
            Self::Confirmed { .. } => 405,
            Self::Cancelled => 403,
            Self::Expired => 402,
        }
    }
}

/// Every QR code that still matters.
#[derive(Debug)]
pub(super) struct QrCodes {
    lifetime: Duration,
    by_uuid: HashMap<String, ShownQrCode>,
    in_order: VecDeque<String>,
}

#[derive(Debug)]
struct ShownQrCode {
    authorization: Authorization,
    issued: Timestamp,
    step: QrCodeStep,
}

impl QrCodes {
    pub(super) fn new(lifetime: Duration) -> Self {
        Self { lifetime, by_uuid: HashMap::new(), in_order: VecDeque::new() }
    }

    pub(super) fn insert(&mut self, uuid: String, authorization: Authorization, now: Timestamp) {
        self.forget(now);
        self.in_order.push_back(uuid.clone());
        self.by_uuid.insert(uuid, ShownQrCode { authorization, issued: now, step: QrCodeStep::Waiting });
    }

    /// What the phone did with the code; an unknown code counts as expired.
    pub(super) fn step(&self, uuid: &str, now: Timestamp) -> QrCodeStep {
        match self.by_uuid.get(uuid) {
            None => QrCodeStep::Expired,
            Some(ShownQrCode {
                step: step @ (QrCodeStep::Confirmed { .. } | QrCodeStep::Expired), ..
            }) => step.clone(),
            Some(shown) if now.since(shown.issued) >= *self.lifetime => QrCodeStep::Expired,
            Some(shown) => shown.step.clone(),
        }
    }

    /// The sign-in that the code was shown for.
    pub(super) fn authorization(&self, uuid: &str) -> Option<&Authorization> {
        self.by_uuid.get(uuid).map(|shown| &shown.authorization)
    }

    /// Records what the phone did.
    pub(super) fn set(&mut self, uuid: &str, step: QrCodeStep) {
        if let Some(shown) = self.by_uuid.get_mut(uuid) {
            shown.step = step;
        }
    }

    /// All that are remembered, oldest first.
    pub(super) fn to_vec(&self, now: Timestamp) -> Vec<QrCode> {
        let shown = |uuid: &String| {
            let Authorization { appid, state, .. } = self.authorization(uuid)?.clone();
            Some(QrCode { step: self.step(uuid, now), uuid: uuid.clone(), appid, state })
        };
        self.in_order.iter().filter_map(shown).collect()
    }

    fn forget(&mut self, now: Timestamp) {
        while let Some(uuid) = self.in_order.front() {
            if self.by_uuid.get(uuid).is_some_and(|shown| now.since(shown.issued) < 2 * *self.lifetime) {
                return;
            }
            self.by_uuid.remove(uuid);
            self.in_order.pop_front();
        }
    }
}
