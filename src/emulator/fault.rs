//! Injected faults: their effects, the calls they match, and how often they apply.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::{ByteSize, Duration};
use crate::entropy::{self, Entropy};

/// Something that goes wrong for the calls that match, until it is used up or cleared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InjectedFault {
    /// What goes wrong.
    pub effect: Effect,
    /// Only calls of this app; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appid: Option<String>,
    /// Only calls of this path; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How many matching calls pass unharmed first.
    #[serde(default)]
    pub skip: u32,
    /// How many calls are harmed; every call if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// In how many of a hundred matching calls the fault applies, at random.
    #[serde(default = "always")]
    pub percent: u8,
}

const fn always() -> u8 {
    100
}

impl InjectedFault {
    /// A fault of every call.
    pub const fn new(effect: Effect) -> Self {
        Self { effect, appid: None, path: None, skip: 0, times: None, percent: always() }
    }

    /// Only calls of this app.
    #[must_use]
    pub fn app(mut self, appid: impl Into<String>) -> Self {
        self.appid = Some(appid.into());
        self
    }

    /// Only calls of this path.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Only after so many matching calls.
    #[must_use]
    pub const fn skip(mut self, calls: u32) -> Self {
        self.skip = calls;
        self
    }

    /// Only so many calls.
    #[must_use]
    pub const fn times(mut self, calls: u32) -> Self {
        self.times = Some(calls);
        self
    }

    fn matches(&self, appid: Option<&str>, path: &str) -> bool {
        self.appid.as_deref().is_none_or(|wanted| Some(wanted) == appid)
            && self.path.as_deref().is_none_or(|wanted| wanted == path)
            && self.times != Some(0)
    }

    fn strikes(&mut self, entropy: &dyn Entropy) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if self.percent < 100 {
            let roll = entropy::bytes::<2>(entropy).map_or(0, u16::from_le_bytes) % 100;
            if roll >= u16::from(self.percent) {
                return false;
            }
        }
        self.times = self.times.map(|times| times.saturating_sub(1));
        true
    }
}

/// What goes wrong. "Before" and "after" are about the moment WeChat decides, which uses the code
/// up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Waits before WeChat decides. Real time, whatever the virtual clock says.
    DelayBefore(Duration),
    /// Waits after WeChat decided.
    DelayAfter(Duration),
    /// Closes the connection before WeChat decides: the code stays good.
    DropBefore,
    /// Closes the connection after WeChat decided: the lost reply. The code is used up.
    DropAfter,
    /// Resets the connection (RST) before WeChat decides.
    ResetBefore,
    /// Resets the connection (RST) after WeChat decided.
    ResetAfter,
    /// Answers with an errcode instead.
    Errcode(Errcode),
    /// Answers HTTP 502 with a page, before WeChat decides.
    BadGateway,
    /// Answers HTTP 200 with a page, as a captive portal does, before WeChat decides.
    HtmlPage,
    /// Revokes every access token of the app before WeChat decides, as if another server had
    /// requested one.
    RevokeToken,
    /// Answers with a redirect to the URL that was called, with its query, before WeChat decides.
    Redirect,
    /// Adds a member `target` with the URL that was called, with its query.
    EchoTarget,
    /// Sets members of a successful answer.
    Set(Map<String, Value>),
    /// Leaves members out of a successful answer.
    Omit(Vec<String>),
    /// Adds undocumented members to a successful answer.
    ExtraFields,
    /// Adds `"errcode":0,"errmsg":"ok"` to a successful answer.
    ErrcodeZero,
    /// Writes the errcode as text: `"errcode":"40029"`.
    ErrcodeAsText,
    /// Makes the session key of a successful answer a key of eight bytes.
    ShortSessionKey,
    /// Pads the answer with a member `padding` of this size.
    HugeBody(ByteSize),
    /// Sends the first half of the JSON as if it were all.
    TruncatedJson,
    /// Promises the whole body, sends half of it, and closes the connection.
    TruncatedBody,
    /// Sends a byte-order mark before the JSON.
    Bom,
    /// Sends a newline after the JSON.
    Newline,
    /// Sends the body compressed, asked for or not.
    Gzip,
    /// Sends the body in small chunks, without `Content-Length`.
    Chunked,
    /// Waits this long before each byte of the body.
    SlowBody(Duration),
}

/// `errcode`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Errcode {
    /// The number, with the text WeChat has for it.
    pub errcode: i64,
    /// Whether WeChat still decides the call, and so uses the code up.
    #[serde(default)]
    pub consume: bool,
}

impl Effect {
    /// Answers with an errcode and leaves the code as it is.
    pub const fn errcode(errcode: i64) -> Self {
        Self::Errcode(Errcode { errcode, consume: false })
    }

    /// Answers with an errcode and uses the code up.
    pub const fn errcode_consuming(errcode: i64) -> Self {
        Self::Errcode(Errcode { errcode, consume: true })
    }
}

/// The faults in force.
#[derive(Debug, Default)]
pub(super) struct Faults {
    list: Vec<InjectedFault>,
}

impl Faults {
    pub(super) fn inject(&mut self, fault: InjectedFault) {
        self.list.push(fault);
    }

    pub(super) fn clear(&mut self) -> usize {
        let cleared = self.list.len();
        self.list.clear();
        cleared
    }

    pub(super) fn to_vec(&self) -> Vec<InjectedFault> {
        self.list.clone()
    }

    /// What goes wrong for one call, in the order the faults were injected; they count the call.
    pub(super) fn strike(&mut self, appid: Option<&str>, path: &str, entropy: &dyn Entropy) -> Vec<Effect> {
        let mut effects = Vec::new();
        for fault in self.list.iter_mut().filter(|fault| fault.matches(appid, path)) {
            if fault.strikes(entropy) {
                effects.push(fault.effect.clone());
            }
        }
        self.list.retain(|fault| fault.times != Some(0));
        effects
    }
}
