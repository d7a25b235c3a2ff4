//! One code, one exchange, one answer: for codes sent twice at once, or again after a lost reply.
//!
//! WeChat takes a code once and a mini program in the background loses replies, so its second try must find the answer
//! of the first. The answer holds a token, so only the client that sent the code first is given it. Refusals that
//! cannot change are remembered too; what may be better next time is not.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use std::hash::Hasher as _;
use tokio::sync::watch;

use super::error::SignInError;
use crate::address::client_network;
use crate::clock::Timestamp;
use crate::entropy::{self, Entropy, NoEntropy};
use crate::identity::AppId;
use crate::wechat::Code;

/// How a login ended, as everybody is told who sent its code.
pub(super) type SignInResult<G> = Result<G, SignInError>;

/// What a login gives, and may be given again.
pub(super) trait Expiring: Clone {
    /// When it is no answer any more.
    fn good_until(&self) -> Timestamp;
}

/// The codes of the last while, with their answers; of bounded size.
pub(super) struct CodeMemory<G> {
    keys: [u64; 2],
    window: Duration,
    capacity: usize,
    memory: Mutex<Memory<G>>,
}

/// A code of an app, as a keyed hash: memory holds no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CodeKey(u128);

/// Who sends a code, as a keyed hash of address and user agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientKey(u128);

/// What is to be done with a code.
pub(super) enum Turn<G> {
    /// Nobody sent it before: exchange it.
    First(Flight<G>),
    /// The same client sent it and it is being exchanged.
    UnderWay(Landing<G>),
    /// The same client sent it and this came of it.
    Known(SignInResult<G>),
    /// Somebody else sent it.
    OtherClient,
}

struct Memory<G> {
    entries: HashMap<CodeKey, Entry<G>>,
    /// Answered codes, oldest first, with the entry's number: a code may have been forgotten and sent again since.
    answered: VecDeque<(CodeKey, u64)>,
    next_number: u64,
}

struct Entry<G> {
    number: u64,
    client: ClientKey,
    state: State<G>,
}

enum State<G> {
    UnderWay(watch::Receiver<Option<SignInResult<G>>>),
    Answered { outcome: SignInResult<G>, until: Timestamp },
}

impl<G: Expiring> CodeMemory<G> {
    /// Makes an empty memory.
    pub(super) fn new(window: Duration, capacity: usize, entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        let keys = [entropy::bytes(entropy)?, entropy::bytes(entropy)?].map(u64::from_le_bytes);
        let memory = Memory { entries: HashMap::new(), answered: VecDeque::new(), next_number: 0 };
        Ok(Self { keys, window, capacity, memory: Mutex::new(memory) })
    }

    /// The key of a code.
    pub(super) fn code(&self, app: &AppId, code: &Code) -> CodeKey {
        CodeKey(self.hash(&[app.as_str().as_bytes(), code.expose().as_bytes()]))
    }

    /// Who sends this, by [`client_fields`].
    pub(super) fn client(&self, fields: &[&[u8]]) -> ClientKey {
        ClientKey(self.hash(fields))
    }

    /// Takes a turn with a code.
    pub(super) fn turn(self: &Arc<Self>, code: CodeKey, client: ClientKey, now: Timestamp) -> Turn<G> {
        let mut memory = self.memory.lock();
        if let Some(entry) = memory.entries.get(&code) {
            let is_same_client = entry.client == client;
            match &entry.state {
                State::Answered { until, .. } if *until <= now => {}
                _ if !is_same_client => return Turn::OtherClient,
                State::UnderWay(outcome) => return Turn::UnderWay(Landing(outcome.clone())),
                State::Answered { outcome, .. } => return Turn::Known(outcome.clone()),
            }
        }
        let number = memory.next_number;
        memory.next_number += 1;
        let (sender, receiver) = watch::channel(None);
        memory.entries.insert(code, Entry { number, client, state: State::UnderWay(receiver) });
        Turn::First(Flight { replay: Arc::clone(self), code, number, outcome: sender })
    }

    /// How long an answer is remembered.
    pub(super) const fn window(&self) -> Duration {
        self.window
    }

    /// Whether another memory may go on in place of this one.
    pub(super) fn has_limits_of(&self, other: &Self) -> bool {
        self.window == other.window && self.capacity == other.capacity
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.memory.lock().entries.len()
    }

    /// Each field with its length before it, so that none can reach into the next.
    fn hash(&self, fields: &[&[u8]]) -> u128 {
        let [first, second] = self.keys;
        let mut hasher = SipHasher13::new_with_keys(first, second);
        for field in fields {
            hasher.write_usize(field.len());
            hasher.write(field);
        }
        hasher.finish128().as_u128()
    }
}

/// What tells one client from another: its address, where IPv6 gives each customer a whole /64, and its user agents.
pub(super) fn client_fields<'a>(address: &'a [u8; 16], headers: &'a HeaderMap) -> Vec<&'a [u8]> {
    let agents = headers.get_all(header::USER_AGENT).iter().map(HeaderValue::as_bytes);
    [&address[..]].into_iter().chain(agents).collect()
}

/// A client's address as [`client_fields`] takes it.
pub(super) fn client_address(client: IpAddr) -> [u8; 16] {
    match client_network(client) {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

impl<G> Memory<G> {
    fn remember(&mut self, code: CodeKey, number: u64, outcome: SignInResult<G>, until: Timestamp) {
        if let Some(entry) = self.entries.get_mut(&code).filter(|entry| entry.number == number) {
            entry.state = State::Answered { outcome, until };
            self.answered.push_back((code, number));
        }
    }

    fn forget(&mut self, code: CodeKey, number: u64) {
        if self.entries.get(&code).is_some_and(|entry| entry.number == number) {
            self.entries.remove(&code);
        }
    }

    /// Makes room: drops what is out of date, and the oldest beyond `capacity`.
    fn shrink(&mut self, capacity: usize, now: Timestamp) {
        while let Some(&(code, number)) = self.answered.front() {
            let entry = self.entries.get(&code).filter(|entry| entry.number == number);
            let is_current = entry
                .is_some_and(|entry| matches!(entry.state, State::Answered { until, .. } if now < until));
            if is_current && self.answered.len() <= capacity {
                return;
            }
            self.answered.pop_front();
            self.forget(code, number);
        }
    }
}

/// The one exchange of a code; dropped without an outcome, it leaves the code as if never sent.
pub(super) struct Flight<G> {
    replay: Arc<CodeMemory<G>>,
    code: CodeKey,
    number: u64,
    outcome: watch::Sender<Option<SignInResult<G>>>,
}

impl<G: Expiring> Flight<G> {
    /// Where this flight's outcome arrives.
    pub(super) fn landing(&self) -> Landing<G> {
        Landing(self.outcome.subscribe())
    }

    /// Tells everybody who waits, and remembers what cannot change.
    pub(super) fn land(self, outcome: SignInResult<G>, now: Timestamp) {
        let end = now.plus(self.replay.window);
        let until = match &outcome {
            Ok(grant) => Some(end.min(grant.good_until())),
            Err(error) => error.is_settled().then_some(end),
        };
        let mut memory = self.replay.memory.lock();
        match until {
            Some(until) => {
                memory.remember(self.code, self.number, outcome.clone(), until);
                memory.shrink(self.replay.capacity, now);
            }
            // Before anybody is told: whoever is told may send the code again at once, and it must be tried anew.
            None => memory.forget(self.code, self.number),
        }
        drop(memory);
        self.outcome.send_replace(Some(outcome));
    }
}

impl<G> Drop for Flight<G> {
    fn drop(&mut self) {
        let mut memory = self.replay.memory.lock();
        let entry = memory.entries.get(&self.code).filter(|entry| entry.number == self.number);
        if entry.is_some_and(|entry| matches!(entry.state, State::UnderWay(_))) {
            memory.forget(self.code, self.number);
        }
    }
}

/// Where the outcome of a flight arrives.
pub(super) struct Landing<G>(watch::Receiver<Option<SignInResult<G>>>);

impl<G: Expiring> Landing<G> {
    /// Waits for the outcome.
    pub(super) async fn wait(mut self) -> SignInResult<G> {
        let outcome = self.0.wait_for(Option::is_some).await;
        // The sender is gone without a word only when its task panicked.
        outcome.ok().and_then(|outcome| outcome.clone()).unwrap_or(Err(SignInError::Internal))
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::task::Wake;

    use super::*;
    use crate::entropy::SystemEntropy;

    type CodeMemory = super::CodeMemory<Nothing>;

    #[derive(Clone, Debug)]
    struct Nothing;

    impl Expiring for Nothing {
        fn good_until(&self) -> Timestamp {
            Timestamp::from_millis(u64::MAX)
        }
    }

    #[test]
    fn bytes_moved_from_one_field_to_the_next_are_another_key() {
        let replay = CodeMemory::new(Duration::from_secs(60), 1, &SystemEntropy).unwrap();
        let spellings: [&[&[u8]]; 5] =
            [&[b"ab", b"c"], &[b"a", b"bc"], &[b"abc"], &[b"abc", b""], &[b"", b"abc"]];

        let keys: std::collections::BTreeSet<u128> =
            spellings.iter().map(|fields| replay.hash(fields)).collect();

        assert_eq!(keys.len(), spellings.len());
    }

    #[test]
    fn keys_differ_from_one_gateway_to_the_next() {
        let new = || CodeMemory::new(Duration::from_secs(60), 1, &SystemEntropy).unwrap();

        assert_ne!(new().hash(&[b"code"]), new().hash(&[b"code"]));
    }

    #[test]
    fn a_code_to_be_tried_anew_is_forgotten_before_anybody_is_told() {
        struct SendsAgain(Arc<CodeMemory>, Mutex<Option<bool>>);
        impl Wake for SendsAgain {
            fn wake(self: Arc<Self>) {
                let turn = self.0.turn(CodeKey(1), ClientKey(1), Timestamp::from_seconds(1));
                *self.1.lock() = Some(matches!(turn, Turn::First(_)));
            }
        }
        let replay = Arc::new(CodeMemory::new(Duration::from_secs(60), 1, &SystemEntropy).unwrap());
        let now = Timestamp::from_seconds(1);
        let Turn::First(flight) = replay.turn(CodeKey(1), ClientKey(1), now) else { panic!("not the first") };
        let client = Arc::new(SendsAgain(Arc::clone(&replay), Mutex::new(None)));
        let waker = Arc::clone(&client).into();
        let mut waiting = Box::pin(flight.landing().wait());
        assert!(waiting.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());

        flight.land(Err(SignInError::WeChatBusy), now);

        assert_eq!(*client.1.lock(), Some(true));
    }

    #[tokio::test]
    async fn a_flight_that_never_lands_leaves_the_code_as_if_never_sent() {
        let replay = Arc::new(CodeMemory::new(Duration::from_secs(60), 1, &SystemEntropy).unwrap());
        let (code, client, now) = (CodeKey(1), ClientKey(1), Timestamp::from_seconds(1));
        let Turn::First(flight) = replay.turn(code, client, now) else { panic!("not the first") };
        let landing = flight.landing();

        drop(flight);

        assert_eq!(landing.wait().await.unwrap_err(), SignInError::Internal);
        assert!(matches!(replay.turn(code, ClientKey(2), now), Turn::First(_)));
    }
}
