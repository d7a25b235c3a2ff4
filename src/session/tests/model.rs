//! Random histories against a model that is too simple to be wrong.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Open { who: usize },
    Check { session: usize },
    Refresh { session: usize, token: usize },
    RevokeSession { session: usize },
    RevokeSubject { who: usize },
    RevokeApp,
    RevokeBefore { minutes: u64 },
    Advance { minutes: u64 },
}

/// A session in the model. Instants are in minutes.
struct Modelled {
    who: usize,
    opened: OpenedSession,
    opened_at: u64,
    used_at: u64,
    is_ended: bool,
    ends_at: u64,
    tokens: Vec<(RefreshToken, u64)>,
}

const LIFETIME: u64 = 600;
const IDLE: u64 = 96;
/// Twice the time for which a use may stay unwritten. Later than that, no session is live.
const SLACK: u64 = 6;
const GRACE: u64 = 2;
const EVICTION: u64 = 3;
const MOST: usize = 2;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..2_usize).prop_map(|who| Step::Open { who }),
        6 => (0..16_usize).prop_map(|session| Step::Check { session }),
        6 => (0..16_usize, 0..3_usize).prop_map(|(session, token)| Step::Refresh { session, token }),
        2 => (0..16_usize).prop_map(|session| Step::RevokeSession { session }),
        1 => (0..2_usize).prop_map(|who| Step::RevokeSubject { who }),
        1 => Just(Step::RevokeApp),
        1 => (0..60_u64).prop_map(|minutes| Step::RevokeBefore { minutes }),
        6 => prop_oneof![0..5_u64, 30..120_u64].prop_map(|minutes| Step::Advance { minutes }),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn an_ended_session_is_never_believed_and_a_live_one_always_is(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(Node::with(modelled()), steps))?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn the_same_holds_on_disk(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let node = Node::durable(&folder, &ManualClock::start_now(), &modelled());
        runtime.block_on(run(node, steps))?;
    }
}

fn modelled() -> config::Sessions {
    config::Sessions {
        lifetime: seconds(60 * LIFETIME),
        idle_timeout: seconds(60 * IDLE),
        max_per_subject: MOST as u32,
        eviction_delay: seconds(60 * EVICTION),
        refresh_grace: seconds(60 * GRACE),
        ..config::Sessions::default()
    }
}

async fn run(node: Node, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let people = [person("alice"), person("bob")];
    let mut now = 0_u64;
    let mut sessions: Vec<Modelled> = Vec::new();
    for step in steps {
        match step {
            Step::Advance { minutes } => {
                now += minutes;
                node.clock.advance(Duration::from_secs(60 * minutes));
            }
            Step::Open { who } => {
                let opened = node.open(&people[who]).await;
                sessions.push(Modelled {
                    who,
                    opened_at: now,
                    used_at: now,
                    is_ended: false,
                    ends_at: now + LIFETIME,
                    tokens: vec![(opened.refresh_token.clone(), u64::MAX)],
                    opened,
                });
                // All that may count do here: so the model never says of one which was evicted that
                // it goes on.
                let count = |session: &&mut Modelled| session.who == who && session.is_alive_at_most(now);
                let mut counted: Vec<_> = sessions.iter_mut().filter(count).collect();
                let too_many = counted.len().saturating_sub(MOST);
                for session in counted.iter_mut().take(too_many) {
                    session.ends_at = session.ends_at.min(now + EVICTION);
                }
            }
            Step::Check { session } => {
                let Some(session) = sessions.get_mut(session) else { continue };
                let is_active = node.is_active(&people[session.who], &session.opened).await;
                judge(session, now, is_active)?;
            }
            Step::Refresh { session, token } => {
                let Some(session) = sessions.get_mut(session) else { continue };
                let index = session.tokens.len().saturating_sub(1 + token);
                let (token, spent_at) = session.tokens[index].clone();
                let result = node.refresh(&token).await;
                let is_current = index + 1 == session.tokens.len();
                let is_repeated = index + 2 == session.tokens.len() && now < spent_at.saturating_add(GRACE);
                match result {
                    Ok(refreshed) if is_current => {
                        judge(session, now, true)?;
                        session.tokens[index].1 = now;
                        session.tokens.push((refreshed.session.refresh_token, u64::MAX));
                    }
                    Ok(refreshed) => {
                        prop_assert!(is_repeated && session.is_alive_at_most(now));
                        let next = &session.tokens[index + 1].0;
                        prop_assert_eq!(refreshed.session.refresh_token.expose(), next.expose());
                    }
                    Err(RefreshError::Reused(_)) => {
                        prop_assert!(!is_current && !is_repeated);
                        session.is_ended = true;
                    }
                    Err(RefreshError::Invalid) => prop_assert!(!session.is_alive_at_least(now)),
                    Err(error) => return Err(TestCaseError::fail(error.to_string())),
                }
            }
            Step::RevokeSession { session } => {
                let Some(session) = sessions.get_mut(session) else { continue };
                node.revoke(SessionScope::Session(session.opened.id.clone())).await.unwrap();
                session.is_ended = true;
            }
            Step::RevokeSubject { who } => {
                node.revoke(SessionScope::Subject(people[who].subject.clone())).await.unwrap();
                sessions
                    .iter_mut()
                    .filter(|session| session.who == who)
                    .for_each(|session| session.is_ended = true);
            }
            Step::RevokeApp => {
                node.revoke(SessionScope::App(people[0].subject.appid.clone())).await.unwrap();
                sessions.iter_mut().for_each(|session| session.is_ended = true);
            }
            Step::RevokeBefore { minutes } => {
                let instant = Timestamp::from_millis(node.now().millis() - minutes * 60_000);
                node.revoke(SessionScope::OpenedBefore(instant)).await.unwrap();
                let before = now.saturating_sub(minutes);
                let is_before = |session: &&mut Modelled| session.opened_at < before || minutes == 0;
                sessions.iter_mut().filter(is_before).for_each(|session| session.is_ended = true);
            }
        }
    }
    Ok(())
}

impl Modelled {
    fn is_alive_at_least(&self, now: u64) -> bool {
        !self.is_ended && now < self.ends_at && now < self.used_at + IDLE
    }

    fn is_alive_at_most(&self, now: u64) -> bool {
        !self.is_ended && now < self.opened_at + LIFETIME && now <= self.used_at + IDLE + SLACK
    }
}

fn judge(session: &mut Modelled, now: u64, is_active: bool) -> Result<(), TestCaseError> {
    if is_active {
        prop_assert!(session.is_alive_at_most(now), "a dead session was let in");
        session.used_at = now;
    } else {
        prop_assert!(!session.is_alive_at_least(now), "a living session was refused");
        session.is_ended = true;
    }
    Ok(())
}
