//! A logout: the browser forgets the session, and is sent to the provider, which ends its own (OpenID Connect RP-Initiated Logout 1.0). No page of
//! a stranger can log anybody out.

use std::time::Duration;

use http::StatusCode;
use tidegate_core::exchange::{Exchange, Reply};
use tidegate_core::policy::Stop;
use tidegate_core::rejection::{Rejection, RejectionKind};

use super::browser::{is_for_eyes, is_own_wish, own_origin};
use super::login::{redirect, with_query};
use super::session::Session;
use super::tokens::form;
use super::{Oidc, refused};
use crate::auth::way::Finding;

/// Bytes of an ID token that may stand in a URL.
const MOST_HINT: usize = 4096;

impl Oidc {
    /// What is said to somebody who logs out.
    pub(super) fn log_out(&self, exchange: &mut Exchange, now: Duration) -> Finding {
        if !is_own_wish(exchange) {
            let detail = "Only a page of this host may log you out";
            return refused(Rejection::new(RejectionKind::Forbidden, "logout_refused", detail));
        }
        let session = self.session(exchange);
        if let Some(session) = &session {
            self.ended.add(session.id(), session.latest_end(self.lifetimes), now);
        }
        let hint = session.as_ref().and_then(Session::id_token);
        self.cookies.forget_session(exchange);
        let reply = if is_for_eyes(exchange) { self.farewell(exchange, hint) } else { None };
        match reply {
            None => Finding::Answered(Box::new(Reply::new(StatusCode::NO_CONTENT))),
            Some(Stop::Answer(reply)) => Finding::Answered(reply),
            Some(Stop::Refuse(rejection)) => Finding::Refused(rejection),
        }
    }

    /// Where somebody is sent who has logged out; `None` is nowhere.
    fn farewell(&self, exchange: &Exchange, hint: Option<&str>) -> Option<Stop> {
        let after = self.paths.after_logout.as_deref();
        let known = self.provider.known();
        let Some(end_session) = known.as_ref().and_then(|known| known.end_session.as_deref()) else {
            return after.map(|after| redirect(StatusCode::SEE_OTHER, after));
        };
        let back = after.and_then(|after| Some(format!("{}{after}", own_origin(exchange)?)));
        let hint = hint.filter(|hint| hint.len() <= MOST_HINT);
        let said = [
            ("client_id", Some(&*self.provider.client.id)),
            ("id_token_hint", hint),
            ("post_logout_redirect_uri", back.as_deref()),
        ];
        let said = form(said.into_iter().filter_map(|(name, value)| Some((name, value?))));
        Some(redirect(StatusCode::SEE_OTHER, &with_query(end_session, &said)))
    }
}
