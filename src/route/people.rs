//! Which signed-in people a route permits: by lists of unionids and of openids in one app, and by
//! the claims of the user that a person is bound to.
//!
//! Lists are read when a configuration is built. A reload reads their files again, and a list that
//! cannot be parsed keeps the old configuration. `authn` has decided before who the caller is.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use crate::config::{self, Access, Findings, UnknownUnionId};
use crate::identity::{AppId, ClaimName, ClaimValue, Identity, OpenId, Subject, UnionId, User};

/// Largest file of members: half a million of them.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Most lines of one file that are reported.
const MOST_COMPLAINTS: usize = 10;

/// Every list of people, by its name.
#[derive(Debug, Default)]
pub struct Lists(BTreeMap<String, Arc<People>>);

/// The people of one list.
#[derive(Default)]
struct People {
    unionids: HashSet<UnionId>,
    subjects: HashSet<Subject>,
}

/// Which signed-in people a route permits.
#[derive(Debug)]
pub struct Rules {
    deny: Vec<Arc<People>>,
    /// Whether a person may be on a deny list without the gateway knowing it.
    refuse_unknown_unionid: bool,
    require_unionid: bool,
    require_user: bool,
    require_claims: Vec<RequiredClaim>,
    /// `None` permits every person. Otherwise a person must be on one of the lists, which may all
    /// be empty.
    allow: Option<Vec<Arc<People>>>,
}

/// A claim that must have one of these values.
#[derive(Debug)]
struct RequiredClaim {
    name: ClaimName,
    values: Vec<ClaimValue>,
}

/// Why a signed-in person may not call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The person is on a deny list.
    ByList,
    /// The person's unionid is not known, and the route requires one or denies some.
    UnionIdUnknown,
    /// The route requires a user of the business, and the person is bound to none.
    UserUnbound,
    /// The route requires a claim that the user does not have, or has with another value.
    ClaimMissing,
    /// The person is on none of the allow lists.
    NotOnList,
}

impl Denied {
    /// The word in the access log, the metrics and the answer.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ByList => "denied_by_list",
            Self::UnionIdUnknown => "unionid_unknown",
            Self::UserUnbound => "user_unbound",
            Self::ClaimMissing => "claim_missing",
            Self::NotOnList => "not_on_list",
        }
    }
}

impl Rules {
    /// Decides whether a person may call who is bound to this user, or to none.
    ///
    /// # Errors
    /// [`Denied`]. A deny list takes precedence over allow lists. A list can match a person by
    /// unionid only if the unionid is known; if it is not, a deny list refuses the person.
    pub fn permits(&self, person: &Identity, user: Option<&User>) -> Result<(), Denied> {
        if self.deny.iter().any(|people| people.include(person)) {
            return Err(Denied::ByList);
        }
        if (self.require_unionid || self.refuse_unknown_unionid) && person.unionid.is_none() {
            return Err(Denied::UnionIdUnknown);
        }
        if self.require_user && user.is_none() {
            return Err(Denied::UserUnbound);
        }
        if !self.require_claims.iter().all(|claim| claim.is_of(user)) {
            return Err(Denied::ClaimMissing);
        }
        match &self.allow {
            Some(lists) if !lists.iter().any(|people| people.include(person)) => Err(Denied::NotOnList),
            _ => Ok(()),
        }
    }

    /// Builds the rules of one route; findings for names without a list, and for rules that have no
    /// effect.
    pub(super) fn build(
        config: &config::Route,
        at: &str,
        apps: &BTreeMap<String, config::App>,
        lists: &Lists,
        findings: &mut Findings,
    ) -> Self {
        let keys =
            [("allow_lists", !config.allow_lists.is_empty()), ("deny_lists", !config.deny_lists.is_empty())];
        let keys = keys.into_iter().chain([
            ("unknown_unionid", config.unknown_unionid.is_some()),
            ("require_unionid", config.require_unionid),
            ("require_user", config.require_user),
            ("require_claims", !config.require_claims.is_empty()),
        ]);
        for (key, _) in keys.filter(|(_, is_given)| *is_given && config.access == Access::Public) {
            findings
                .error(
                    format!("{at}.{key}"),
                    "a public route checks no identity, so it cannot permit or refuse single people",
                )
                .hint(format!("write `access: authenticated` or `access: optional`, or remove `{key}`"));
        }
        let deny = lists.find(&config.deny_lists, &format!("{at}.deny_lists"), findings);
        let allow = lists.find(&config.allow_lists, &format!("{at}.allow_lists"), findings);
        for (position, name) in config.allow_lists.iter().enumerate().filter(|(_, name)| lists.is_empty(name))
        {
            findings
                .warning(
                    format!("{at}.allow_lists[{position}]"),
                    format!("list `{name}` is empty, so it permits no caller"),
                )
                .hint(format!("add `members` or a `file` to `lists.{name}`, or remove it here"));
        }
        let denies_unionids = deny.iter().any(|people| !people.unionids.is_empty());
        warn_of_unknown_unionids(config, at, apps, denies_unionids, findings);
        refuse_required_unionid_of_nobody(config, at, apps, findings);
        Self {
            deny,
            refuse_unknown_unionid: denies_unionids && !admits_unknown_unionid(config),
            require_unionid: config.require_unionid,
            require_user: config.require_user,
            require_claims: RequiredClaim::build(&config.require_claims, at, findings),
            allow: (!config.allow_lists.is_empty()).then_some(allow),
        }
    }
}

fn admits_unknown_unionid(config: &config::Route) -> bool {
    config.unknown_unionid == Some(UnknownUnionId::Admit)
}

/// Refuses a route that requires a unionid if WeChat gives none for users of any app of the route:
/// no user could pass.
fn refuse_required_unionid_of_nobody(
    config: &config::Route,
    at: &str,
    apps: &BTreeMap<String, config::App>,
    findings: &mut Findings,
) {
    let is_permitted = |name: &String| config.apps.is_empty() || config.apps.contains(name);
    let permitted: Vec<_> = apps.iter().filter(|(name, _)| is_permitted(name)).collect();
    let is_unreachable = !permitted.is_empty() && permitted.iter().all(|(_, app)| app.gives_no_unionid());
    if !config.require_unionid || !is_unreachable || config.access == Access::Public {
        return;
    }
    let names: Vec<String> = permitted.iter().map(|(name, _)| format!("`{name}`")).collect();
    let names = names.join(", ");
    let key = format!("{at}.require_unionid");
    let finding = if config.access == Access::Authenticated {
        let reason =
            format!("no user can pass: with `snsapi_base`, WeChat gives no unionid of users of {names}");
        findings.error(key, reason)
    } else {
        let reason = format!(
            "no signed-in user can pass: with `snsapi_base`, WeChat gives no unionid of users of {names}"
        );
        findings.warning(key, reason)
    };
    finding.hint("write `scope: snsapi_userinfo` for these apps, name other `apps`, or remove it");
}

/// Warns of a route that denies unionids, for the apps whose users have none: it refuses all of
/// them, or lets in who is on the list.
fn warn_of_unknown_unionids(
    config: &config::Route,
    at: &str,
    apps: &BTreeMap<String, config::App>,
    denies_unionids: bool,
    findings: &mut Findings,
) {
    let is_permitted = |name: &String| config.apps.is_empty() || config.apps.contains(name);
    let silent = apps.iter().filter(|(name, app)| is_permitted(name) && app.gives_no_unionid());
    let silent: Vec<String> = silent.map(|(name, _)| format!("`{name}`")).collect();
    let (route, silent) = (config.full_name(), silent.join(", "));
    let key = format!("{at}.unknown_unionid");
    match (denies_unionids, admits_unknown_unionid(config), silent.as_str()) {
        (true, true, "") => {
            findings
                .warning(
                    key,
                    format!("route `{route}` lets in people on a deny list whose unionid is not known"),
                )
                .hint("remove it, unless every app is bound to your Open Platform account");
        }
        (true, true, silent) => {
            findings
                .warning(
                    key,
                    format!("route `{route}` lets in people on a deny list: no unionid is known of users of {silent}"),
                )
                .hint("remove it, or write `scope: snsapi_userinfo` for these apps");
        }
        (true, false, silent) if !silent.is_empty() => {
            findings
                .warning(
                    format!("{at}.deny_lists"),
                    format!(
                        "route `{route}` refuses every user of {silent}: no unionid is known of them, and a list here denies unionids"
                    ),
                )
                .hint("write `scope: snsapi_userinfo` for these apps, or name other `apps` on this route");
        }
        (false, true, _) => {
            findings
                .warning(key, "no list in `deny_lists` has a unionid, so it has no effect")
                .hint("remove it");
        }
        _ => {}
    }
}

impl RequiredClaim {
    fn is_of(&self, user: Option<&User>) -> bool {
        user.and_then(|user| user.claim(&self.name)).is_some_and(|value| self.values.contains(value))
    }

    /// Builds the claims of one route; findings for claims that no user can have. After an error
    /// the result is never used.
    fn build(config: &BTreeMap<String, Vec<String>>, at: &str, findings: &mut Findings) -> Vec<Self> {
        let mut claims = Vec::with_capacity(config.len());
        for (name, values) in config {
            let at = format!("{at}.require_claims.{name}");
            if values.is_empty() {
                findings
                    .error(&at, "no value is listed, so the route would permit no user")
                    .hint("list the permitted values of the claim");
            }
            let mut parsed = Vec::with_capacity(values.len());
            for (position, value) in values.iter().enumerate() {
                match ClaimValue::parse(value) {
                    Ok(value) => parsed.push(value),
                    Err(error) => _ = findings.error(format!("{at}[{position}]"), error.to_string()),
                }
            }
            match ClaimName::parse(name) {
                Ok(name) => claims.push(Self { name, values: parsed }),
                Err(error) => _ = findings.error(at, error.to_string()),
            }
        }
        claims
    }
}

impl Lists {
    /// Reads every list; a finding for each invalid member, and for each file that cannot be read.
    pub fn build(lists: &BTreeMap<String, config::List>, findings: &mut Findings) -> Self {
        let read = |(name, config): (&String, &config::List)| {
            (name.clone(), Arc::new(People::build(config, &format!("lists.{name}"), findings)))
        };
        Self(lists.iter().map(read).collect())
    }

    /// The lists with these names. A missing list is an error, after which the result is never
    /// used.
    fn find(&self, names: &[String], at: &str, findings: &mut Findings) -> Vec<Arc<People>> {
        let mut found = Vec::with_capacity(names.len());
        for (position, name) in names.iter().enumerate() {
            match self.0.get(name) {
                Some(people) => found.push(Arc::clone(people)),
                None => {
                    findings
                        .error(format!("{at}[{position}]"), format!("list `{name}` is not defined"))
                        .did_you_mean(name, self.0.keys().map(String::as_str));
                }
            }
        }
        found
    }

    fn is_empty(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|people| people.unionids.is_empty() && people.subjects.is_empty())
    }
}

impl People {
    fn include(&self, person: &Identity) -> bool {
        self.subjects.contains(&person.subject)
            || person.unionid.as_ref().is_some_and(|unionid| self.unionids.contains(unionid))
    }

    fn build(config: &config::List, at: &str, findings: &mut Findings) -> Self {
        let mut people = Self::default();
        for (position, member) in config.members.iter().enumerate() {
            if people.add(member).is_none() {
                // The member itself is not shown: logs must not contain a person's id.
                findings
                    .error(
                        format!("{at}.members[{position}]"),
                        "this is neither a unionid nor `appid:openid`",
                    )
                    .hint(HOW_TO_WRITE);
            }
        }
        if let Some(path) = &config.file {
            people.add_file(path, &format!("{at}.file"), findings);
        }
        people
    }

    fn add_file(&mut self, path: &Path, at: &str, findings: &mut Findings) {
        let shown = path.display();
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                findings
                    .error(at, format!("file `{shown}` is larger than 16 MiB"))
                    .hint("keep such a long list in the backend");
                return;
            }
            Err(error) => {
                findings
                    .error(at, format!("file `{shown}` cannot be read: {error}"))
                    .of_surroundings()
                    .hint("check the path and its permissions");
                return;
            }
        };
        let mut complaints = 0_usize;
        // Editors of some systems begin a file with a byte order mark.
        let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            if self.add_line(line).is_some() {
                continue;
            }
            complaints += 1;
            if complaints <= MOST_COMPLAINTS {
                let number = index + 1;
                findings
                    .error(at, format!("line {number} of `{shown}` is neither a unionid nor `appid:openid`"))
                    .hint(HOW_TO_WRITE);
            }
        }
        if complaints > MOST_COMPLAINTS {
            let more = complaints - MOST_COMPLAINTS;
            findings.error(at, format!("{more} more lines of `{shown}` are neither"));
        }
    }

    /// Adds the member of a line, if there is one; `None` if the line is not valid.
    fn add_line(&mut self, line: &[u8]) -> Option<()> {
        let line = str::from_utf8(line).ok()?;
        let member = line.split_once('#').map_or(line, |(member, _)| member).trim();
        if member.is_empty() { Some(()) } else { self.add(member) }
    }

    /// Adds a member. `:` is in neither alphabet, so it shows which of the two is written.
    fn add(&mut self, member: &str) -> Option<()> {
        match member.split_once(':') {
            Some((appid, openid)) => {
                let (appid, openid) = (AppId::parse(appid).ok()?, OpenId::parse(openid).ok()?);
                self.subjects.insert(Subject { appid, openid });
            }
            None => {
                self.unionids.insert(UnionId::parse(member).ok()?);
            }
        }
        Some(())
    }
}

/// Shows the number of members, not the members.
impl std::fmt::Debug for People {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "People({} unionids, {} subjects)", self.unionids.len(), self.subjects.len())
    }
}

const HOW_TO_WRITE: &str = "write a unionid, or an appid and an openid as `wx0123456789abcdef:oXyz`";

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
