//! The result of `wx.getUserInfo`: plain data with a signature, and the same data encrypted with
//! the session key.

use aws_lc_rs::cipher::{AES_128, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::entropy;

use super::identifier::hex;
use super::{ControlError, Emulator};

/// The reply of `wx.getUserInfo`, in its own spelling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SealedUserData {
    /// AES-128-CBC with PKCS#7 under the session key, base64.
    pub encrypted_data: String,
    /// The initialization vector, base64.
    pub iv: String,
    /// The data that is not encrypted.
    pub raw_data: String,
    /// SHA-1 over `raw_data` and the session key's text, in hexadecimal.
    pub signature: String,
    /// The data's id in WeChat's cloud; the emulator has no endpoint for it.
    #[serde(rename = "cloudID")]
    pub cloud_id: String,
}

impl Emulator {
    /// Encrypts data with the session key of a person who logged in.
    ///
    /// An object gets the person's `openId`, `unionId` and `watermark`, unless it has its own. Text
    /// is encrypted unchanged. If `data` is absent, the person's profile is encrypted.
    ///
    /// # Errors
    /// [`ControlError`], [`ControlError::NoSessionKey`] among them.
    pub fn encrypt(
        &self,
        appid: &str,
        wxid: &str,
        data: Option<Value>,
    ) -> Result<SealedUserData, ControlError> {
        self.state.lock().check_person(appid, wxid)?;
        let key = self.session_key(appid, wxid).ok_or_else(|| ControlError::NoSessionKey(wxid.to_owned()))?;
        let data = data.unwrap_or_else(|| self.profile(wxid));
        let (raw_data, sealed) = match data {
            Value::Object(data) => (to_json(&data), to_json(&self.with_identity(appid, wxid, data))),
            Value::String(text) => (text.clone(), text),
            other => (other.to_string(), other.to_string()),
        };
        let iv = entropy::bytes::<16>(&*self.entropy)?;
        let cloud_id = URL_SAFE_NO_PAD.encode(entropy::bytes::<32>(&*self.entropy)?);
        Ok(SealedUserData {
            encrypted_data: seal(&key, iv, sealed.into_bytes()).ok_or(entropy::NoEntropy)?,
            iv: STANDARD.encode(iv),
            signature: signature(&raw_data, &key),
            raw_data,
            cloud_id: format!("66_{cloud_id}"),
        })
    }

    fn profile(&self, wxid: &str) -> Value {
        let state = self.state.lock();
        json!({
            "nickName": state.nickname(wxid),
            "gender": 0,
            "language": "zh_CN",
            "city": "",
            "province": "",
            "country": "",
            "avatarUrl": state.avatar(wxid),
        })
    }

    fn with_identity(&self, appid: &str, wxid: &str, mut data: Map<String, Value>) -> Map<String, Value> {
        let watermark = json!({ "timestamp": self.now().seconds(), "appid": appid });
        data.entry("openId").or_insert_with(|| self.openid(appid, wxid).into());
        if let Some(unionid) = self.unionid(appid, wxid) {
            data.entry("unionId").or_insert_with(|| unionid.into());
        }
        data.entry("watermark").or_insert(watermark);
        data
    }
}

fn to_json(data: &Map<String, Value>) -> String {
    serde_json::to_string(data).unwrap_or_default()
}

/// SHA-1 over the data and the session key as its base64 text.
pub(super) fn signature(raw_data: &str, session_key: &str) -> String {
    let signed = [raw_data, session_key].concat();
    hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, signed.as_bytes()).as_ref())
}

fn seal(session_key: &str, iv: [u8; 16], mut data: Vec<u8>) -> Option<String> {
    let key = UnboundCipherKey::new(&AES_128, &STANDARD.decode(session_key).ok()?).ok()?;
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).ok()?;
    key.less_safe_encrypt(&mut data, EncryptionContext::Iv128(iv.into())).ok()?;
    Some(STANDARD.encode(data))
}
