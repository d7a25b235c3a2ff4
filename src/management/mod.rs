//! What operators and programs of the business ask for: sessions and people are listed, ended,
//! blocked, bound.
//!
//! Decides what each page answers, and writes each request to the logs with who asked. `control`
//! and `internal` decide who may ask for which page.

mod answer;
mod audit;
mod binding;
mod body;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod hash;
mod media_type;
mod page;
mod people;
mod person;
mod person_name;
mod requester;
mod scope_request;
mod session;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;

pub use self::answer::ManagementAnswer;
pub use self::body::{ManagementBodyError, read_body};
pub use self::media_type::read_json;
pub use self::page::ManagementPage;
pub use self::requester::{Door, Requester};
use crate::runtime::{Runtime, Shared};

/// Answers the pages about sessions and people.
pub struct Management {
    shared: Shared,
    current: Box<dyn Fn() -> Arc<Runtime> + Send + Sync>,
}

impl Management {
    /// Makes the service; `current` returns the running configuration.
    pub fn new(shared: Shared, current: impl Fn() -> Arc<Runtime> + Send + Sync + 'static) -> Self {
        Self { shared, current: Box::new(current) }
    }

    /// What outlives a reload.
    pub const fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The configuration in use.
    pub fn runtime(&self) -> Arc<Runtime> {
        (self.current)()
    }

    /// The answer of a page. The body is read only if the page changes something.
    ///
    /// # Errors
    /// The answer to a request that is refused.
    pub async fn answer(
        &self,
        page: ManagementPage,
        request: &Parts,
        requester: &Requester,
        body: impl Future<Output = Result<Bytes, ManagementBodyError>>,
    ) -> Result<ManagementAnswer, ManagementAnswer> {
        page.check_method(&request.method)?;
        let query = request.uri.query().unwrap_or_default();
        let body = if page.is_change() { read_json(request, body).await? } else { Bytes::new() };
        match page {
            ManagementPage::Sessions => self.list_sessions(query, requester).await,
            ManagementPage::RevokeSessions => self.revoke_sessions(&body, requester).await,
            ManagementPage::Blocked => self.list_blocked(query, requester).await,
            ManagementPage::Block => self.change_block(true, &body, requester).await,
            ManagementPage::Unblock => self.change_block(false, &body, requester).await,
            ManagementPage::Bound => self.show_binding(query, requester).await,
            ManagementPage::Bind => self.bind(&body, requester).await,
            ManagementPage::Unbind => self.unbind(&body, requester).await,
            ManagementPage::Hash => self.show_hash(query, requester).await,
            ManagementPage::Bindings => self.list_bindings(query, requester).await,
            ManagementPage::Person => self.show_person(query, requester).await,
            ManagementPage::Erase => self.erase_person(&body, requester).await,
        }
    }
}

impl fmt::Debug for Management {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Management").finish_non_exhaustive()
    }
}
