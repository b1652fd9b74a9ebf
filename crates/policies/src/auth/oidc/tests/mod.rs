//! Logins through the whole chain of a route: a provider that may be hostile, and a browser with its cookies.

mod configuration;
mod login;
mod logout;
mod session;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use http::StatusCode;
use serde_json::{Value, json};
use tidegate_core::client::TlsFacts;
use tidegate_core::policy::{Answer, Call, CallError, Local};
use tidegate_core::query;
use tidegate_http1::{Fields, Known};

use crate::shared::signing::{Signer, key_set};
use crate::testing::{Gateway, Sent, WALL};

const ISSUER: &str = "https://idp.test/";

/// What a browser says when somebody opens a page.
const PAGE: &str = "Accept: text/html,*/*;q=0.8";

fn yaml(oidc: &str) -> String {
    yaml_with(oidc, "auth: login")
}

fn yaml_with(oidc: &str, route: &str) -> String {
    format!(
        "auth:
  login: {{ oidc: {{ issuer: '{ISSUER}', client_id: web, client_secret: a-secret-of-the-gateway, {oidc} }} }}
  keys: {{ api_key: {{ inline: [{{ key: a-key-of-the-build-machine, user: ci }}] }} }}
server: {{ host: 127.0.0.1 }}
services: {{ s: {{ url: http://127.0.0.1:9001 }} }}
routes: [{{ match: {{ path_prefix: / }}, service: s, {route} }}]"
    )
}

/// What makes an ID token of claims.
type Forge = Box<dyn Fn(&Value) -> String>;

/// A provider.
struct Idp {
    signer: Signer,
    down: bool,
    /// What it says of itself.
    metadata: Value,
    /// What it puts into the next ID token, and takes out where it is `Null`.
    claims: Value,
    /// What it answers instead of tokens.
    refusal: Option<(u16, &'static str)>,
    /// What makes the next ID token of its claims instead of its own key.
    forge: Option<Forge>,
    /// What its answers for tokens have besides.
    more: Value,
    userinfo: Value,
    /// The nonce of the login that is under way.
    nonce: String,
    /// What it was asked for tokens: the bodies, with `Authorization` before them.
    asked: Vec<String>,
    now: u64,
}

impl Idp {
    fn new() -> Self {
        let metadata = json!({
            "issuer": ISSUER,
            "authorization_endpoint": "https://idp.test/authorize",
            "token_endpoint": "https://idp.test/token",
            "userinfo_endpoint": "https://idp.test/userinfo",
            "jwks_uri": "https://idp.test/jwks",
            "end_session_endpoint": "https://idp.test/logout?from=web",
            "authorization_response_iss_parameter_supported": true,
        });
        Self {
            signer: Signer::new("ES256"),
            down: false,
            metadata,
            claims: json!({}),
            refusal: None,
            forge: None,
            more: json!({}),
            userinfo: json!({}),
            nonce: String::new(),
            asked: Vec::new(),
            now: WALL.as_secs(),
        }
    }

    fn answer(&mut self, service: &str, call: &Call<'_>) -> Result<Answer, CallError> {
        assert_eq!(service, "auth/login");
        if self.down {
            return Err(CallError::Down("it is down".to_owned()));
        }
        let (status, body) = match &*call.head.target {
            "/.well-known/openid-configuration" => (200, self.metadata.to_string()),
            "/jwks" => (200, key_set(&[self.signer.jwk("a")])),
            "/token" => self.tokens(call),
            "/userinfo" => {
                assert_eq!(call.head.fields.text(Known::Authorization), Some("Bearer an-access-token"));
                (200, self.userinfo.to_string())
            }
            other => panic!("{other}"),
        };
        Ok(Answer { status: StatusCode::from_u16(status).unwrap(), fields: Fields::new(), body: body.into() })
    }

    fn tokens(&mut self, call: &Call<'_>) -> (u16, String) {
        let credential = call.head.fields.text(Known::Authorization).unwrap_or("-");
        self.asked.push(format!("{credential} {}", std::str::from_utf8(&call.body).unwrap()));
        if let Some((status, body)) = self.refusal {
            return (status, body.to_owned());
        }
        let half = BASE64_URL_SAFE_NO_PAD.encode(&digest(&SHA256, b"an-access-token").as_ref()[..16]);
        let mut claims = json!({
            "iss": ISSUER, "aud": "web", "sub": "u1", "iat": self.now, "exp": self.now + 300, "nonce": self.nonce,
            "at_hash": half, "email": "ann@idp.test", "roles": ["admin"],
        });
        for (name, value) in self.claims.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let own = |claims: &Value| self.signer.token_with(&json!({ "kid": "a" }), claims);
        let id_token = self.forge.as_ref().map_or_else(|| own(&claims), |forge| forge(&claims));
        let mut body = json!({ "access_token": "an-access-token", "token_type": "Bearer", "id_token": id_token });
        for (name, value) in self.more.as_object().unwrap() {
            body[name] = value.clone();
        }
        (200, body.to_string())
    }
}

/// A gateway, its provider, and a browser.
struct Site {
    gateway: Gateway,
    idp: Rc<RefCell<Idp>>,
    jar: RefCell<BTreeMap<String, String>>,
}

impl Site {
    /// Where the provider was asked what it is.
    fn new(yaml: &str) -> Self {
        let site = Self::down(yaml, Idp::new());
        site.idp.borrow_mut().down = false;
        site.gateway.world.turn(&mut site.gateway.jobs());
        site
    }

    /// Where the provider is down.
    fn down(yaml: &str, idp: Idp) -> Self {
        let idp = Rc::new(RefCell::new(Idp { down: true, ..idp }));
        let asked = Rc::clone(&idp);
        let gateway = Gateway::of(yaml).answering(move |service, call| asked.borrow_mut().answer(service, call));
        Self { gateway, idp, jar: RefCell::default() }
    }

    fn over_tls(self) -> Self {
        Self {
            gateway: self.gateway.over(Some(Arc::new(TlsFacts {
                server_name: None,
                protocol: "TLSv1.3",
                client: None,
            }))),
            ..self
        }
    }

    fn reload(self, yaml: &str) -> Self {
        Self { gateway: self.gateway.reload(yaml), ..self }
    }

    fn with_cookies(&self, request: &str) -> String {
        let jar = self.jar.borrow();
        let cookies: Vec<_> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if cookies.is_empty() { request.to_owned() } else { format!("{request}\nCookie: {}", cookies.join("; ")) }
    }

    /// Sends a request as the browser does, and keeps the cookies.
    fn send(&self, request: &str) -> Sent {
        self.keep(self.gateway.send(&self.with_cookies(request)))
    }

    fn send_beside(&self, request: &str, jobs: &mut Vec<Local<'_, ()>>) -> Sent {
        self.keep(self.gateway.send_beside(&self.with_cookies(request), jobs))
    }

    fn keep(&self, sent: Sent) -> Sent {
        for line in &sent.exchange.cookies {
            let (name, rest) = line.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            if line.contains("Max-Age=0") {
                self.jar.borrow_mut().remove(name);
            } else {
                assert!(name.len() + value.len() <= 4000, "{}", name.len() + value.len());
                self.jar.borrow_mut().insert(name.to_owned(), value.to_owned());
            }
        }
        sent
    }

    /// Opens a page, and gives what the provider is told.
    fn open(&self, target: &str) -> Asked {
        let sent = self.send(&format!("GET {target}\n{PAGE}"));
        assert!(sent.said.starts_with("answer 302\n"), "{}", sent.said);
        let asked = Asked(location(&sent));
        self.idp.borrow_mut().nonce = asked.parameter("nonce");
        asked
    }

    /// Comes back with a code.
    fn come_back(&self, state: &str) -> Sent {
        self.send(&format!("GET /oauth2/callback?code=c1&state={state}&iss=https%3A%2F%2Fidp.test%2F\n{PAGE}"))
    }

    /// Logs in.
    fn log_in(&self) -> Sent {
        let asked = self.open("/page?a=b");
        let sent = self.come_back(&asked.parameter("state"));
        assert_eq!(location(&sent), "/page?a=b", "{}: {:?}", sent.said, sent.cause);
        sent
    }

    fn names(&self) -> Vec<String> {
        self.jar.borrow().keys().cloned().collect()
    }

    /// Who the browser is on a page, or what it is told.
    fn who(&self) -> String {
        who(&self.send(&format!("GET /page\n{PAGE}")))
    }

    fn asked(&self) -> usize {
        self.idp.borrow().asked.len()
    }

    fn advance(&self, seconds: u64) {
        self.gateway.world.advance(std::time::Duration::from_secs(seconds));
        self.idp.borrow_mut().now += seconds;
    }
}

/// Where a browser is sent by the provider's URL.
struct Asked(String);

impl Asked {
    fn parameter(&self, name: &str) -> String {
        let query = self.0.split_once('?').unwrap().1;
        query::values(query, name).next().unwrap_or_default().into_owned()
    }
}

fn location(sent: &Sent) -> String {
    let line = sent.said.lines().find_map(|line| line.strip_prefix("location: "));
    line.unwrap_or_else(|| panic!("no location: {} {:?}", sent.said, sent.cause)).to_owned()
}

fn who(sent: &Sent) -> String {
    let user = sent.exchange.identity.as_ref().and_then(|identity| identity.user.as_deref());
    user.map_or_else(|| sent.said.lines().next().unwrap_or_default().to_owned(), str::to_owned)
}
