//! One call from arrival to outcome: the faults that apply to it, and WeChat's decision between
//! them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::Emulator;
use super::answer::{CallOutcome, Reply, Surface, WeChatAnswer};
use super::errcode::WeChatRefusal;
use super::fault::{Effect, Errcode};
use super::request::Request;
use super::transfer;

impl Emulator {
    /// Handles a call, and logs it.
    pub(super) async fn exchange(&self, request: &Request) -> CallOutcome {
        let (call, effects) = self.arrive(request);
        let outcome = self.play(request, call, &effects).await;
        self.state.lock().calls.depart(call, &outcome);
        outcome
    }

    fn arrive(&self, request: &Request) -> (u64, Vec<Effect>) {
        let now = self.now();
        let mut state = self.state.lock();
        let appid = self.app_of(&state, request);
        let effects = state.faults.strike(appid.as_deref(), &request.path, &*self.entropy);
        if let Some(appid) = appid.filter(|_| effects.contains(&Effect::RevokeToken)) {
            state.tokens.revoke(&appid, now);
            state.grants.revoke(&appid);
        }
        (state.calls.arrive(request, effects.clone(), now), effects)
    }

    /// The calling app, by its appid in the query or the body, or by its token.
    fn app_of(&self, state: &super::EmulatorState, request: &Request) -> Option<String> {
        let named = request.parameter("appid").map(str::to_owned);
        let posted = || Some(request.json()?.get("appid")?.as_str()?.to_owned());
        let token = || request.parameter("access_token");
        let by_token = || state.tokens.app_of(token()?, self.now()).ok();
        let by_grant = || Some(state.grants.of(token()?, self.now()).ok()?.appid.clone());
        named.or_else(posted).or_else(by_token).or_else(by_grant)
    }

    async fn play(&self, request: &Request, call: u64, effects: &[Effect]) -> CallOutcome {
        pause(effects.iter().filter_map(Effect::wait_before)).await;
        if let Some(outcome) = effects.iter().find_map(Effect::loss_before) {
            return outcome;
        }
        let reply = match effects.iter().find_map(Effect::page) {
            Some(page) => page,
            None => self.answer(request, call, effects),
        };
        pause(effects.iter().filter_map(Effect::wait_after)).await;
        if let Some(outcome) = effects.iter().find_map(Effect::loss_after) {
            return outcome;
        }
        CallOutcome::Reply(transport(reply, effects))
    }

    fn answer(&self, request: &Request, call: u64, effects: &[Effect]) -> Reply {
        if let Some(page) = self.page(request) {
            return page;
        }
        if effects.contains(&Effect::Redirect) {
            return Reply::page(StatusCode::FOUND, "302 Found").with(LOCATION, whole_target(request));
        }
        let instead = effects.iter().find_map(Effect::instead);
        if instead.is_none()
            && let Some(file) = self.media_file(request, call)
        {
            return file;
        }
        let mut answer = match instead {
            Some(Errcode { errcode, consume }) => {
                if consume {
                    self.decide(request, call);
                }
                let rid = self.state.lock().identifiers.rid(self.now(), call);
                WeChatAnswer::new(Surface::of(&request.path), Err(WeChatRefusal::of(errcode)), &rid)
            }
            None => match self.decide(request, call) {
                Some(answer) => answer,
                None => return Reply::page(StatusCode::NOT_FOUND, "404 Not Found"),
            },
        };
        let succeeded = answer.errcode() == 0;
        for effect in effects {
            effect.edit(&mut answer, succeeded);
        }
        if effects.contains(&Effect::EchoTarget) {
            answer.set("target", whole_target(request).to_str().unwrap_or_default().into());
        }
        answer.into_reply()
    }

    /// WeChat's own decision, which uses codes up; a path it does not have is `None`.
    fn decide(&self, request: &Request, call: u64) -> Option<WeChatAnswer> {
        let now = self.now();
        let mut state = self.state.lock();
        let decision = state.decide(request, now, &*self.entropy)?;
        let rid = state.identifiers.rid(now, call);
        let answer = WeChatAnswer::new(Surface::of(&request.path), decision, &rid);
        state.calls.decide(call, answer.errcode());
        Some(answer)
    }
}

/// The URL that was called, with all that is in its query.
fn whole_target(request: &Request) -> HeaderValue {
    let target = format!("https://{}{}?{}", request.host, request.path, request.raw_query);
    HeaderValue::from_str(&target).unwrap_or(HeaderValue::from_static("/"))
}

async fn pause(waits: impl Iterator<Item = Duration>) {
    let total: Duration = waits.sum();
    if !total.is_zero() {
        tokio::time::sleep(total).await;
    }
}

/// The changes of the effects to the bytes of a reply and to their transfer.
fn transport(mut reply: Reply, effects: &[Effect]) -> Reply {
    let has = |effect: &Effect| effects.contains(effect);
    let mut body = reply.body.to_vec();
    if has(&Effect::TruncatedJson) {
        body.truncate(body.len() / 2);
    }
    if has(&Effect::Bom) {
        body.splice(..0, *b"\xEF\xBB\xBF");
    }
    if has(&Effect::Newline) {
        body.push(b'\n');
    }
    reply.body = Bytes::from(body);
    reply.gzip = has(&Effect::Gzip);
    reply.transfer = transfer::Transfer {
        chunked: has(&Effect::Chunked),
        cut: has(&Effect::TruncatedBody),
        pace: effects.iter().find_map(|effect| match effect {
            Effect::SlowBody(pace) => Some(**pace),
            _ => None,
        }),
    };
    reply
}

impl Effect {
    fn wait_before(&self) -> Option<Duration> {
        if let Self::DelayBefore(wait) = self { Some(**wait) } else { None }
    }

    fn wait_after(&self) -> Option<Duration> {
        if let Self::DelayAfter(wait) = self { Some(**wait) } else { None }
    }

    const fn loss_before(&self) -> Option<CallOutcome> {
        match self {
            Self::DropBefore => Some(CallOutcome::Closed),
            Self::ResetBefore => Some(CallOutcome::Reset),
            _ => None,
        }
    }

    const fn loss_after(&self) -> Option<CallOutcome> {
        match self {
            Self::DropAfter => Some(CallOutcome::Closed),
            Self::ResetAfter => Some(CallOutcome::Reset),
            _ => None,
        }
    }

    fn page(&self) -> Option<Reply> {
        match self {
            Self::BadGateway => Some(Reply::page(StatusCode::BAD_GATEWAY, "502 Bad Gateway")),
            Self::HtmlPage => Some(Reply::page(StatusCode::OK, "Please sign in to this network")),
            _ => None,
        }
    }

    const fn instead(&self) -> Option<Errcode> {
        if let Self::Errcode(errcode) = self { Some(*errcode) } else { None }
    }

    /// Changes the members of an answer; most effects change a successful one only.
    fn edit(&self, answer: &mut WeChatAnswer, succeeded: bool) {
        match self {
            Self::Set(members) if succeeded => {
                members.iter().for_each(|(name, value)| answer.set(name, value.clone()));
            }
            Self::Omit(names) if succeeded => answer.members.retain(|(name, _)| !names.contains(name)),
            Self::ExtraFields if succeeded => {
                answer.set("expires_in", 7200.into());
                answer.set("reserved", json!({ "文": [null, true, 1.5, { "openid": "not this one" }] }));
            }
            Self::ErrcodeZero if succeeded => {
                answer.set("errcode", 0.into());
                answer.set("errmsg", "ok".into());
            }
            Self::ShortSessionKey if succeeded => {
                answer.set("session_key", STANDARD.encode(b"8 bytes!").into());
            }
            Self::ErrcodeAsText => {
                let errcode = answer.members.iter_mut().filter(|(name, _)| name == "errcode");
                errcode.for_each(|(_, value)| *value = Value::String(value.to_string()));
            }
            Self::HugeBody(size) => answer.set("padding", "x".repeat(size.as_usize()).into()),
            _ => {}
        }
    }
}
