//! `menshen person`: blocks people, binds them to users, shows and erases them.

mod binding;
mod block;
mod data;
mod hash;

use std::path::Path;

use clap::Subcommand;

use self::binding::BindArgs;
use self::block::{BlockedArgs, PeopleArgs, PersonArgs};
use self::data::PersonListArgs;
use super::CommandOutcome;
use super::control::{ANSWER_TIMEOUT, ask};

#[derive(Debug, Subcommand)]
pub(super) enum PersonCommand {
    #[command(flatten)]
    Change(PersonChange),
    /// Print the hash that stands for a person in the logs, also while no gateway runs
    Hash(PeopleArgs),
    /// Show what the store knows about a person: menshen person show --app shop --openid o6_bmj…
    Show(PeopleArgs),
    /// Print what the store knows about a person, as JSON
    Export(PeopleArgs),
    /// Erase a person: sessions, profile and bindings in every app. A block stays
    Erase(PeopleArgs),
    /// List who is bound to a user: menshen person list --user 42
    List(PersonListArgs),
}

/// The commands that `menshen session` has as well.
#[derive(Debug, Subcommand)]
pub(super) enum PersonChange {
    /// Block a person: their sessions are not valid, and they cannot sign in
    Block(PeopleArgs),
    /// Unblock a person: their sessions are valid again
    Unblock(PeopleArgs),
    /// List the blocked people
    Blocked(BlockedArgs),
    /// Bind a person to a user: menshen person bind --app shop --openid o6_bmj… --user 42 --claim
    /// role=editor
    Bind(BindArgs),
    /// Unbind a person from their user, or every person from a user
    Unbind(PeopleArgs),
    /// Show the user that a person is bound to
    Bound(PersonArgs),
}

impl PersonCommand {
    pub(super) fn run(&self, config: &Path) -> CommandOutcome {
        match self {
            Self::Change(change) => change.run(config),
            Self::Hash(people) => hash::run(people, config),
            Self::Show(people) => data::show(people, config),
            Self::Export(people) => data::export(people, config),
            Self::Erase(people) => data::erase(people, config),
            Self::List(list) => data::list(list, config),
        }
    }
}

impl PersonChange {
    pub(super) fn run(&self, config: &Path) -> CommandOutcome {
        let (request, json) = match self {
            Self::Block(person) => (person.request("/people/block"), person.json),
            Self::Unblock(person) => (person.request("/people/unblock"), person.json),
            Self::Blocked(blocked) => (block::list_request(), blocked.json),
            Self::Bind(bind) => (bind.request(), bind.person.json),
            Self::Unbind(person) => (person.request("/people/unbind"), person.json),
            Self::Bound(person) => (person.query("/people/bound"), person.json),
        };
        let answer = match ask(config, request, ANSWER_TIMEOUT) {
            Ok(answer) => answer,
            Err(outcome) => return outcome,
        };
        match self {
            _ if json => CommandOutcome::answer(String::from_utf8_lossy(&answer)),
            Self::Block(_) => block::format_change(&answer, "blocked", "was already blocked"),
            Self::Unblock(_) => block::format_change(&answer, "unblocked", "was not blocked"),
            Self::Blocked(_) => block::format_list(&answer),
            Self::Bind(_) => block::format_change(&answer, "bound", "was already bound to this user"),
            Self::Unbind(_) => block::format_change(&answer, "unbound", "was not bound"),
            Self::Bound(_) => binding::format_binding(&answer),
        }
    }
}
