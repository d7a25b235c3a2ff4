//! WeChat's identifiers. Those of persons are derived from the seed; codes, keys and tokens are
//! random.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::clock::Timestamp;
use crate::entropy::{self, Entropy, NoEntropy};

const CODE_ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Derives every identifier that must be the same on every run.
#[derive(Debug)]
pub(super) struct Identifiers {
    key: hmac::Key,
}

impl Identifiers {
    pub(super) fn new(seed: &str) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, seed.as_bytes()) }
    }

    /// A person's openid in one app: 28 characters, the first `o`.
    pub(super) fn openid(&self, wxid: &str, appid: &str) -> String {
        self.person(&format!("openid|{wxid}|{appid}"))
    }

    /// A person's unionid in all apps of one Open Platform account: 28 characters, the first `o`.
    pub(super) fn unionid(&self, wxid: &str, open_platform: &str) -> String {
        self.person(&format!("union|{wxid}|{open_platform}"))
    }

    /// The openid that a visitor of a snapshot page gets in one app.
    pub(super) fn snapshot_openid(&self, wxid: &str, appid: &str) -> String {
        self.person(&format!("snapshot|{wxid}|{appid}"))
    }

    /// The unionid that all visitors of snapshot pages share. A server that keys accounts on it
    /// merges different people.
    pub(super) fn snapshot_unionid(&self, open_platform: &str) -> String {
        self.person(&format!("snapshot union|{open_platform}"))
    }

    /// The address of a picture for a person without a configured one.
    pub(super) fn avatar(&self, wxid: &str) -> String {
        let picture: String =
            URL_SAFE_NO_PAD.encode(self.tag(&format!("avatar|{wxid}"))).chars().take(32).collect();
        format!("https://thirdwx.qlogo.cn/mmopen/vi_32/{picture}/132")
    }

    /// A mobile number for a person without a configured one: 11 digits.
    pub(super) fn phone(&self, wxid: &str) -> String {
        let tag = self.tag(&format!("phone|{wxid}"));
        let digits = tag.as_ref().iter().take(8).map(|byte| char::from(b'0' + byte % 10));
        "138".chars().chain(digits).collect()
    }

    /// The request id at the end of every errmsg: the second in hex, then two words that differ by
    /// call.
    pub(super) fn rid(&self, now: Timestamp, call: u64) -> String {
        let tag = self.tag(&format!("rid|{call}"));
        let mut words = tag.as_ref().chunks_exact(4).map(hex);
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        format!("{:08x}-{first}-{second}", now.seconds())
    }

    fn person(&self, what: &str) -> String {
        let text = URL_SAFE_NO_PAD.encode(self.tag(what));
        "o".chars().chain(text.chars().take(27)).collect()
    }

    fn tag(&self, what: &str) -> hmac::Tag {
        hmac::sign(&self.key, what.as_bytes())
    }
}

/// A code of `wx.login`: 32 characters `[0-9A-Za-z]`.
pub(super) fn login_code(entropy: &dyn Entropy) -> Result<String, NoEntropy> {
    let random: [u8; 64] = entropy::bytes(entropy)?;
    let (pairs, _) = random.as_chunks::<2>();
    // Sixteen bits a character keep the bias of the scaling below one in a thousand.
    let character = |pair: &[u8; 2]| {
        let place = (usize::from(u16::from_le_bytes(*pair)) * CODE_ALPHABET.len()) >> 16;
        CODE_ALPHABET.get(place).copied().map_or('0', char::from)
    };
    Ok(pairs.iter().map(character).collect())
}

/// The name of a QR code: 16 characters `[0-9A-Za-z]`.
pub(super) fn uuid(entropy: &dyn Entropy) -> Result<String, NoEntropy> {
    Ok(login_code(entropy)?.chars().take(16).collect())
}

/// A code of the `getPhoneNumber` event: 64 hexadecimal digits.
pub(super) fn phone_code(entropy: &dyn Entropy) -> Result<String, NoEntropy> {
    Ok(hex(&entropy::bytes::<32>(entropy)?))
}

/// A session key: 16 random bytes as base64 text, 24 characters.
pub(super) fn session_key(entropy: &dyn Entropy) -> Result<String, NoEntropy> {
    Ok(STANDARD.encode(entropy::bytes::<16>(entropy)?))
}

/// A server's access token: a small number, `_`, 130 characters of base64url.
pub(super) fn access_token(entropy: &dyn Entropy) -> Result<String, NoEntropy> {
    let text = URL_SAFE_NO_PAD.encode(entropy::bytes::<98>(entropy)?);
    Ok("66_".chars().chain(text.chars().take(130)).collect())
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
