//! One request on its way down and its reply on its way up: what every stage of the gateway reads and adds to.

use std::any::Any;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use tidegate_config::config::RequestId as RequestIdRule;
use tidegate_http1::{Known, RequestHead, ResponseHead, Target, authority};

use crate::body::{Body, BodyError};
use crate::client::{Peer, Scheme, TrustedProxies, client_address, client_scheme, host_of};
use crate::identity::Identity;
use crate::limiter::Standing;
use crate::path::canonicalize;
use crate::rejection::{Rejection, RejectionKind};
use crate::request_id::RequestId;
use crate::route::Params;
use crate::trail::Trail;

/// One request and all that is known about it.
#[derive(Debug)]
pub struct Exchange {
    /// Method, target and fields. The target is in origin form, its path canonical, once the exchange is open.
    pub head: RequestHead,
    /// The request's body; whoever sends it on takes it.
    pub body: Body,
    /// Who is at the other end of the connection.
    pub peer: Rc<Peer>,
    /// The client's address after trusted proxies were believed.
    pub client: IpAddr,
    /// What the client used, after trusted proxies were believed.
    pub scheme: Scheme,
    /// The host asked for: lower case, without the port; empty if the request names none.
    pub host: String,
    /// The request's identifier, as both sides are told.
    pub request_id: RequestId,
    /// What the route's pattern found in the path.
    pub params: Params,
    /// When the first byte of the head arrived.
    pub started: Instant,
    /// Who sent it, once a gate has found out.
    pub identity: Option<Arc<Identity>>,
    /// What policies decided about it.
    pub trail: Trail,
    /// Fields that the service is told, in place of any of the same name: nothing that the client sends can change them.
    pub told: Vec<(Arc<str>, Vec<u8>)>,
    /// How the client stands with the limits that it was told of.
    pub limits: Vec<Standing>,
    /// Values of `Set-Cookie` for the reply, whatever it will be.
    pub cookies: Vec<String>,
    /// What is kept until the exchange has ended, such as a place among those that are served at the same time.
    pub held: Vec<Box<dyn Any>>,
    path_length: usize,
    /// The target and its path's length before it was rewritten.
    asked: Option<(String, usize)>,
}

/// What opening an exchange needs to know of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// Whose word is taken for the client's address.
    pub trusted: &'a TrustedProxies,
    /// Where the request's identifier is, and from whom it is taken over.
    pub request_id: &'a RequestIdRule,
    /// 128 random bits, for an identifier.
    pub random: u128,
    /// When the first byte of the head arrived.
    pub now: Instant,
}

impl Exchange {
    /// Opens an exchange of its own. It is returned even when the request is refused, so that the refusal can be told and logged.
    pub fn open(head: RequestHead, body: Body, peer: Rc<Peer>, opening: Opening<'_>) -> (Self, Result<(), Rejection>) {
        let mut exchange = Self::vacant(Rc::clone(&peer), opening.now);
        let settled = exchange.begin((head, body), peer, opening);
        (exchange, settled)
    }

    /// An exchange that has not begun. One can serve request after request: it is large, and is better neither moved nor made anew.
    pub fn vacant(peer: Rc<Peer>, now: Instant) -> Self {
        Self {
            head: RequestHead::default(),
            body: Body::default(),
            client: peer.address,
            scheme: Scheme::Http,
            peer,
            host: String::new(),
            request_id: RequestId::default(),
            params: Params::default(),
            started: now,
            identity: None,
            trail: Trail::default(),
            told: Vec::new(),
            limits: Vec::new(),
            cookies: Vec::new(),
            held: Vec::new(),
            path_length: 0,
            asked: None,
        }
    }

    /// Settles what everything later relies on: the one canonical path, the host, who the client is and the request's id. The exchange
    /// is vacant.
    ///
    /// # Errors
    /// What the request is refused for. It has begun nevertheless, so that the refusal can be told and logged.
    pub fn begin(
        &mut self,
        (head, body): (RequestHead, Body),
        peer: Rc<Peer>,
        opening: Opening<'_>,
    ) -> Result<(), Rejection> {
        let Opening { trusted, request_id, random, now } = opening;
        let peer = peer.as_seen_by(trusted);
        let name = &*request_id.header;
        self.request_id.choose((request_id.accept, peer.trusted), &head.fields, name, random);
        self.client = if peer.trusted { client_address(peer.address, trusted, &head.fields) } else { peer.address };
        self.scheme = client_scheme(&peer, &head.fields);
        self.started = now;
        self.head = head;
        self.body = body;
        self.peer = peer;
        self.settle().inspect_err(|_| self.leave_as_asked())
    }

    /// A target that is refused is logged all the same: what is its query must be known as such, for credentials may be in it.
    #[cold]
    fn leave_as_asked(&mut self) {
        let target = Target::of(&self.head.target);
        self.path_length = target.path.len();
        if target.authority.is_some() {
            self.head.target =
                target.query.map_or_else(|| target.path.to_owned(), |query| format!("{}?{query}", target.path));
        }
    }

    /// Forgets everything about the request, keeps memory, and returns the head, for reuse. Only the peer stays until the next one.
    pub fn vacate(&mut self) -> RequestHead {
        // Each by its name, so that none can be forgotten; what is not here, `begin` sets always.
        let Self {
            head,
            body,
            peer: _,
            client: _,
            scheme: _,
            host,
            request_id: _,
            params,
            started: _,
            identity,
            trail,
            told,
            limits,
            cookies,
            held,
            path_length,
            asked,
        } = self;
        *body = Body::default();
        host.clear();
        params.clear();
        *identity = None;
        trail.clear();
        told.clear();
        limits.clear();
        cookies.clear();
        held.clear();
        *path_length = 0;
        *asked = None;
        std::mem::take(head)
    }

    fn settle(&mut self) -> Result<(), Rejection> {
        if self.head.method == http::Method::CONNECT {
            return Err(Rejection::new(
                RejectionKind::MethodNotAllowed,
                "connect_refused",
                "CONNECT is not supported: this is a gateway, not a forward proxy",
            ));
        }
        if !self.head.fields.tokens(Known::Expect).all(|wish| wish.eq_ignore_ascii_case(b"100-continue")) {
            return Err(Rejection::new(
                RejectionKind::ExpectationFailed,
                "expectation_failed",
                "The only expectation that can be met is `100-continue`",
            ));
        }
        let authority = authority(&self.head).map_err(|error| Rejection::from(error).closing())?;
        if let Some(authority) = authority {
            host_of(authority, &mut self.host);
        }
        if !self.head.target.starts_with('/') && self.head.target != "*" {
            self.reduce_absolute();
        }
        self.path_length = canonicalize(&mut self.head.target)?;
        Ok(())
    }

    /// `http://host/path?query` becomes `/path?query` and its host the Host field (RFC 9112, 3.2.2).
    fn reduce_absolute(&mut self) {
        let target = Target::of(&self.head.target);
        let authority = target.authority.unwrap_or_default().to_owned();
        let path = match (target.path, target.query) {
            // The server as a whole is asked about (RFC 9112, 3.2.4).
            ("", None) if self.head.method == http::Method::OPTIONS => "*",
            ("", _) => "/",
            (path, _) => path,
        };
        let reduced = match target.query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        self.head.target = reduced;
        // Cannot fail: the authority was checked to be one.
        self.head.fields.set("host", authority.as_bytes()).ok();
    }

    /// The canonical path.
    pub fn path(&self) -> &str {
        self.head.target.get(..self.path_length).unwrap_or_default()
    }

    /// What follows the `?`; empty if there is nothing.
    pub fn query(&self) -> &str {
        self.head.target.get(self.path_length + 1..).unwrap_or_default()
    }

    /// Sees to it that the body is not longer than this. One that says how long it is, is refused before any of it is read; another one
    /// while it is.
    pub fn limit_body(&mut self, limit: Option<u64>) -> Result<(), Rejection> {
        if let (Some(length), Some(limit)) = (self.body.length(), limit)
            && length > limit
        {
            return Err(BodyError::TooLarge.into());
        }
        self.body.limit(limit);
        Ok(())
    }

    /// Replaces the target by what the service shall see; it must be canonical, its path `path_length` bytes long.
    pub fn rewrite(&mut self, target: String, path_length: usize) {
        let asked = std::mem::replace(&mut self.head.target, target);
        self.asked.get_or_insert((asked, self.path_length));
        self.path_length = path_length;
    }

    /// The canonical path that the client asked for, whatever was made of it since.
    pub fn asked_path(&self) -> &str {
        match &self.asked {
            Some((target, length)) => target.get(..*length).unwrap_or_default(),
            None => self.path(),
        }
    }

    /// The query that the client asked for, whatever was made of it since.
    pub fn asked_query(&self) -> &str {
        match &self.asked {
            Some((target, length)) => target.get(length + 1..).unwrap_or_default(),
            None => self.query(),
        }
    }
}

/// A reply on its way up.
#[derive(Debug, Default)]
pub struct Reply {
    /// Status and fields.
    pub head: ResponseHead,
    /// The body, and with it the rest of the call that it comes from.
    pub body: Body,
}

impl Reply {
    /// A reply with this status, no fields and no body.
    pub fn new(status: StatusCode) -> Self {
        Self { head: ResponseHead { status, ..ResponseHead::default() }, body: Body::empty() }
    }
}
