//! The codes that one node got lately, with their outcomes, in memory of bounded size.

use std::collections::{HashMap, VecDeque};
use std::hash::Hasher as _;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::{Claimed, Claims, SignInResult};
use crate::clock::{Clock, Timestamp};
use crate::entropy::{self, Entropy, NoEntropy};
use crate::identity::AppId;
use crate::sign_in::error::SignInError;
use crate::single_flight::{Follower, Leader, pair};
use crate::wechat::Code;

/// An outcome that is good until a certain time.
pub(in crate::sign_in) trait Expiring: Clone {
    /// When the outcome is no answer any more.
    fn good_until(&self) -> Timestamp;
}

/// The codes that were sent lately, with their outcomes.
pub(in crate::sign_in) struct CodeMemory<T> {
    keys: [u64; 2],
    window: Duration,
    capacity: usize,
    table: Mutex<CodeTable<T>>,
}

/// One code of one client, in the memory of this node.
pub(in crate::sign_in) struct MemoryClaims<'a, T> {
    memory: &'a Arc<CodeMemory<T>>,
    code: CodeKey,
    client: ClientFingerprint,
    clock: &'a dyn Clock,
}

/// The right to exchange a code; dropped without an outcome, it leaves the code as if it was never
/// sent.
pub(in crate::sign_in) struct MemoryClaim<T> {
    memory: Arc<CodeMemory<T>>,
    code: CodeKey,
    number: u64,
    leader: Option<Leader<SignInResult<T>>>,
}

/// A code of an app, as a keyed hash: memory holds no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct CodeKey(u128);

/// The client that sends a code, as a keyed hash of address and user agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ClientFingerprint(u128);

struct CodeTable<T> {
    entries: HashMap<CodeKey, CodeEntry<T>>,
    /// Settled codes, oldest first, with the entry's number: a code may have been forgotten and
    /// sent again since.
    settled: VecDeque<(CodeKey, u64)>,
    next_number: u64,
}

struct CodeEntry<T> {
    number: u64,
    client: ClientFingerprint,
    state: CodeState<T>,
}

enum CodeState<T> {
    UnderWay(Follower<SignInResult<T>>),
    Settled { outcome: SignInResult<T>, until: Timestamp },
}

impl<T: Expiring> CodeMemory<T> {
    /// Makes an empty memory.
    ///
    /// `window` is how long an outcome is kept, `capacity` how many are.
    pub(in crate::sign_in) fn new(
        window: Duration,
        capacity: usize,
        entropy: &dyn Entropy,
    ) -> Result<Self, NoEntropy> {
        let keys = [entropy::bytes(entropy)?, entropy::bytes(entropy)?].map(u64::from_le_bytes);
        let table = CodeTable { entries: HashMap::new(), settled: VecDeque::new(), next_number: 0 };
        Ok(Self { keys, window, capacity, table: Mutex::new(table) })
    }

    /// A code of an app; `client_fields` tell one client from another.
    pub(in crate::sign_in) fn claims<'a>(
        self: &'a Arc<Self>,
        app: &AppId,
        code: &Code,
        client_fields: &[impl AsRef<[u8]>],
        clock: &'a dyn Clock,
    ) -> MemoryClaims<'a, T> {
        let code = CodeKey(self.hash(&[app.as_str().as_bytes(), code.expose().as_bytes()]));
        MemoryClaims { memory: self, code, client: ClientFingerprint(self.hash(client_fields)), clock }
    }

    /// Forgets the codes whose outcome is meant.
    pub(in crate::sign_in) fn forget(&self, is_meant: impl Fn(&T) -> bool) {
        self.table.lock().entries.retain(|_, entry| match &entry.state {
            CodeState::Settled { outcome: Ok(outcome), .. } => !is_meant(outcome),
            CodeState::Settled { outcome: Err(_), .. } | CodeState::UnderWay(_) => true,
        });
    }

    /// How long an outcome is kept.
    pub(in crate::sign_in) const fn window(&self) -> Duration {
        self.window
    }

    /// Whether another memory may be used in place of this one.
    pub(in crate::sign_in) fn has_limits_of(&self, other: &Self) -> bool {
        self.window == other.window && self.capacity == other.capacity
    }

    #[cfg(test)]
    pub(in crate::sign_in) fn len(&self) -> usize {
        self.table.lock().entries.len()
    }

    fn claim(
        self: &Arc<Self>,
        code: CodeKey,
        client: ClientFingerprint,
        now: Timestamp,
    ) -> Claimed<T, MemoryClaim<T>, Follower<SignInResult<T>>> {
        let mut table = self.table.lock();
        if let Some(entry) = table.entries.get(&code) {
            match &entry.state {
                CodeState::Settled { until, .. } if *until <= now => {}
                _ if entry.client != client => return Claimed::OfOtherClient,
                CodeState::UnderWay(follower) => return Claimed::UnderWay(follower.clone()),
                CodeState::Settled { outcome, .. } => return Claimed::Settled(outcome.clone()),
            }
        }
        let number = table.next_number;
        table.next_number += 1;
        let (leader, follower) = pair();
        table.entries.insert(code, CodeEntry { number, client, state: CodeState::UnderWay(follower) });
        Claimed::First(MemoryClaim { memory: Arc::clone(self), code, number, leader: Some(leader) })
    }

    /// Each field with its length before it, so that none can reach into the next.
    fn hash(&self, fields: &[impl AsRef<[u8]>]) -> u128 {
        let [first, second] = self.keys;
        let mut hasher = SipHasher13::new_with_keys(first, second);
        for field in fields {
            let field = field.as_ref();
            hasher.write_usize(field.len());
            hasher.write(field);
        }
        hasher.finish128().as_u128()
    }
}

impl<T: Expiring + Send + Sync> Claims<T> for MemoryClaims<'_, T> {
    type Claim = MemoryClaim<T>;
    type Pending = Follower<SignInResult<T>>;

    async fn claim(&self) -> SignInResult<Claimed<T, Self::Claim, Self::Pending>> {
        Ok(self.memory.claim(self.code, self.client, self.clock.now()))
    }

    async fn wait(&self, pending: Self::Pending) -> SignInResult<T> {
        // The exchange gives no outcome only if its task panicked.
        pending.wait().await.unwrap_or(Err(SignInError::Internal))
    }

    async fn settle(&self, claim: MemoryClaim<T>, outcome: &SignInResult<T>) {
        claim.settle(outcome, self.clock.now());
    }
}

impl<T: Expiring> MemoryClaim<T> {
    fn settle(mut self, outcome: &SignInResult<T>, now: Timestamp) {
        let end = now.plus(self.memory.window);
        let until = match outcome {
            Ok(grant) => Some(end.min(grant.good_until())),
            Err(error) => error.is_settled().then_some(end),
        };
        let mut table = self.memory.table.lock();
        match until {
            Some(until) => {
                table.keep(self.code, self.number, outcome.clone(), until);
                table.shrink(self.memory.capacity, now);
            }
            // Before the answer is given: the client may send the code again at once, and it must
            // be exchanged again.
            None => table.forget(self.code, self.number),
        }
        drop(table);
        if let Some(leader) = self.leader.take() {
            leader.answer(outcome.clone());
        }
    }
}

impl<T> Drop for MemoryClaim<T> {
    fn drop(&mut self) {
        let mut table = self.memory.table.lock();
        let entry = table.entries.get(&self.code).filter(|entry| entry.number == self.number);
        if entry.is_some_and(|entry| matches!(entry.state, CodeState::UnderWay(_))) {
            table.forget(self.code, self.number);
        }
    }
}

impl<T> CodeTable<T> {
    fn keep(&mut self, code: CodeKey, number: u64, outcome: SignInResult<T>, until: Timestamp) {
        if let Some(entry) = self.entries.get_mut(&code).filter(|entry| entry.number == number) {
            entry.state = CodeState::Settled { outcome, until };
            self.settled.push_back((code, number));
        }
    }

    fn forget(&mut self, code: CodeKey, number: u64) {
        if self.entries.get(&code).is_some_and(|entry| entry.number == number) {
            self.entries.remove(&code);
        }
    }

    /// Makes room: removes what is out of date, and the oldest beyond `capacity`.
    fn shrink(&mut self, capacity: usize, now: Timestamp) {
        while let Some(&(code, number)) = self.settled.front() {
            let entry = self.entries.get(&code).filter(|entry| entry.number == number);
            let is_current = entry
                .is_some_and(|entry| matches!(entry.state, CodeState::Settled { until, .. } if now < until));
            if is_current && self.settled.len() <= capacity {
                return;
            }
            self.settled.pop_front();
            self.forget(code, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
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

    fn memory() -> Arc<CodeMemory> {
        Arc::new(CodeMemory::new(Duration::from_secs(60), 1, &SystemEntropy).unwrap())
    }

    #[test]
    fn bytes_moved_from_one_field_to_the_next_are_another_key() {
        let memory = memory();
        let spellings: [&[&[u8]]; 5] =
            [&[b"ab", b"c"], &[b"a", b"bc"], &[b"abc"], &[b"abc", b""], &[b"", b"abc"]];

        let keys: BTreeSet<u128> = spellings.iter().map(|fields| memory.hash(fields)).collect();

        assert_eq!(keys.len(), spellings.len());
    }

    #[test]
    fn keys_differ_from_one_gateway_to_the_next() {
        assert_ne!(memory().hash(&[b"code"]), memory().hash(&[b"code"]));
    }

    #[test]
    fn a_code_to_be_exchanged_again_is_forgotten_before_its_client_gets_the_answer() {
        struct SendsAgain(Arc<CodeMemory>, Mutex<Option<bool>>);
        impl Wake for SendsAgain {
            fn wake(self: Arc<Self>) {
                let claimed = self.0.claim(CodeKey(1), ClientFingerprint(1), Timestamp::from_seconds(1));
                *self.1.lock() = Some(matches!(claimed, Claimed::First(_)));
            }
        }
        let memory = memory();
        let now = Timestamp::from_seconds(1);
        let Claimed::First(claim) = memory.claim(CodeKey(1), ClientFingerprint(1), now) else {
            panic!("not first")
        };
        let Claimed::UnderWay(pending) = memory.claim(CodeKey(1), ClientFingerprint(1), now) else {
            panic!("not under way")
        };
        let client = Arc::new(SendsAgain(Arc::clone(&memory), Mutex::new(None)));
        let waker = Arc::clone(&client).into();
        let mut waiting = Box::pin(pending.wait());
        assert!(waiting.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());

        claim.settle(&Err(SignInError::WeChatBusy), now);

        assert_eq!(*client.1.lock(), Some(true));
    }

    #[tokio::test]
    async fn a_claim_dropped_without_an_outcome_leaves_the_code_as_if_never_sent() {
        let memory = memory();
        let (code, now) = (CodeKey(1), Timestamp::from_seconds(1));
        let Claimed::First(claim) = memory.claim(code, ClientFingerprint(1), now) else {
            panic!("not first")
        };
        let Claimed::UnderWay(pending) = memory.claim(code, ClientFingerprint(1), now) else {
            panic!("not under way")
        };

        drop(claim);

        assert!(pending.wait().await.is_none());
        assert!(matches!(memory.claim(code, ClientFingerprint(2), now), Claimed::First(_)));
    }
}
