//! Active checks of an endpoint: each on a connection of its own, over the same code and the same TLS settings as traffic.

mod grpc;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use http::{Method, StatusCode};
use rustls::ClientConfig;
use tidegate_config::config::{self, HealthCheck, HttpProbe, Probe, ServiceTimeouts, UpstreamProtocol};
use tidegate_core::body::{Body, BodyError, Frame};
use tidegate_core::probing::Schedule;
use tidegate_http1::{Fields, InvalidField, Known, RequestHead, ResponseHead, Version};

use super::attempt::{Attempt, Reply};
use super::connect::{self, How, Opened};
use super::endpoint::{Checkout, Endpoint};
use super::means::Means;
use crate::alarm::{Alarm, pause, until};

/// Bytes of a reply's body that are read, and searched.
const BODY: usize = 64 * 1024;

/// What checks of a service's endpoints need.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) service: &'a config::Service,
    /// Present if any endpoint uses TLS.
    pub(crate) tls: Option<&'a Arc<ClientConfig>>,
    pub(crate) means: &'a Means,
}

/// Checks `endpoint` for as long as it is polled, at once and then by its schedule, and tells every result, a failure in words for
/// the operator. `seed` decides about the jitter.
pub(crate) async fn watch(
    health: &HealthCheck,
    endpoint: &config::Endpoint,
    context: Context<'_>,
    seed: u64,
    mut told: impl FnMut(Result<(), String>),
) -> Infallible {
    let target = target(health, endpoint, context.service.pool);
    let mut schedule = Schedule::new(health);
    let mut dice = fastrand::Rng::with_seed(seed);
    loop {
        let result = check(health, &target, context).await;
        let next = schedule.next(result.is_ok(), dice.u64(..));
        told(result);
        pause(&context.means.clock, next).await;
    }
}

/// What connections go to. It outlives the single check, so that the last good answer of the resolver is kept.
fn target(health: &HealthCheck, endpoint: &config::Endpoint, pool: config::Pool) -> Rc<Endpoint> {
    let mut config = endpoint.clone();
    if let Some(port) = health.port {
        let host = &*config.host;
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        config = config::Endpoint { port, authority: authority.into(), ..config };
    }
    // Neither the limits nor the numbers of the pool are those of traffic.
    let pool = config::Pool { max_idle: 0, max_connections: 0, ..pool };
    Endpoint::new(config, pool, &Arc::default())
}

/// One check, within its timeout.
async fn check(health: &HealthCheck, endpoint: &Rc<Endpoint>, context: Context<'_>) -> Result<(), String> {
    let at = context.means.clock.now() + health.timeout;
    let checking = async {
        match &health.probe {
            Probe::Http(probe) => http(probe, health, endpoint, context).await,
            Probe::Tcp => open(endpoint, UpstreamProtocol::Http1, context).await.map(drop),
            Probe::Grpc(service) => grpc(service, health, endpoint, context).await,
        }
    };
    until(&context.means.clock, at, checking)
        .await
        .unwrap_or_else(|| Err(format!("no answer within {:?}", health.timeout)))
}

async fn http(
    probe: &HttpProbe,
    health: &HealthCheck,
    endpoint: &Rc<Endpoint>,
    context: Context<'_>,
) -> Result<(), String> {
    let fields = http_fields(probe, endpoint.authority()).map_err(|_| "its fields cannot be sent".to_owned())?;
    let head =
        RequestHead { method: probe.method.clone(), target: probe.path.to_string(), version: Version::Http11, fields };
    let request = Request { head, body: Body::empty(), protocol: context.service.protocol };
    let (head, rest) = ask(request, health, endpoint, context).await?;
    if !probe.expect.contains(head.status.as_u16()) {
        return Err(format!("it replied {}", head.status.as_u16()));
    }
    let body = rest.map_err(|error| error.to_string())?.body;
    match probe.body.as_deref() {
        Some(text) if !contains(&body, text.as_bytes()) => Err("the reply does not hold the expected text".to_owned()),
        _ => Ok(()),
    }
}

fn http_fields(probe: &HttpProbe, authority: &str) -> Result<Fields, InvalidField> {
    let mut fields = Fields::default();
    for (name, value) in &probe.headers {
        fields.append(&**name, value.as_bytes())?;
    }
    for (name, value) in [(Known::Host, authority), (Known::UserAgent, USER_AGENT)] {
        if !fields.contains(name) {
            fields.append_text(name, value)?;
        }
    }
    Ok(fields)
}

const USER_AGENT: &str = "tidegate-health";

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}

async fn grpc(
    service: &str,
    health: &HealthCheck,
    endpoint: &Rc<Endpoint>,
    context: Context<'_>,
) -> Result<(), String> {
    let fields = grpc_fields(endpoint.authority()).map_err(|_| "its fields cannot be sent".to_owned())?;
    let head = RequestHead { method: Method::POST, target: grpc::METHOD.to_owned(), version: Version::Http2, fields };
    let body = Body::full(grpc::request(service));
    let request = Request { head, body, protocol: UpstreamProtocol::Http2 };
    let (head, rest) = ask(request, health, endpoint, context).await?;
    if head.status != StatusCode::OK {
        return Err(format!("it replied {}", head.status.as_u16()));
    }
    let rest = rest.map_err(|error| error.to_string())?;
    // A reply without a message says its status in its head.
    let status = rest.trailers.as_ref().unwrap_or(&head.fields).text(Known::GrpcStatus);
    grpc::verdict(status, &rest.body)
}

fn grpc_fields(authority: &str) -> Result<Fields, InvalidField> {
    let mut fields = Fields::default();
    fields.append_text(Known::Host, authority)?;
    fields.append_text(Known::ContentType, "application/grpc")?;
    fields.append("te", b"trailers")?;
    fields.append_text(Known::UserAgent, USER_AGENT)?;
    Ok(fields)
}

struct Request {
    head: RequestHead,
    body: Body,
    protocol: UpstreamProtocol,
}

/// What a reply said besides its head.
#[derive(Default)]
struct Rest {
    body: Vec<u8>,
    trailers: Option<Fields>,
}

/// Sends a request on a new connection and reads the reply. Redirects are replies like others.
async fn ask(
    request: Request,
    health: &HealthCheck,
    endpoint: &Rc<Endpoint>,
    context: Context<'_>,
) -> Result<(ResponseHead, Result<Rest, BodyError>), String> {
    let opened = open(endpoint, request.protocol, context).await?;
    let alarm = Rc::new(Alarm::new(&context.means.clock).into());
    // The check's own timeout comes first.
    let never = health.timeout.saturating_mul(2);
    let timeouts = ServiceTimeouts { connect: never, read: never, write: never };
    let mut attempt = Attempt::undriven(&request.head, request.body, timeouts, (context.means, &alarm));
    let replied = match opened {
        Opened::Http1(connection) => connection.exchange(&mut attempt).await,
        Opened::Http2(session) => session.exchange(&mut attempt).await,
    };
    let Reply { head, body, .. } = replied.map_err(|failure| failure.to_string())?;
    Ok((head, hear(body).await))
}

async fn hear(mut body: Body) -> Result<Rest, BodyError> {
    let mut rest = Rest::default();
    while rest.body.len() < BODY
        && let Some(frame) = std::future::poll_fn(|cx| body.poll_frame(cx)).await
    {
        match frame? {
            Frame::Data(data) => rest.body.extend(data.iter().take(BODY - rest.body.len())),
            Frame::Trailers(trailers) => rest.trailers = Some(trailers),
        }
    }
    Ok(rest)
}

/// A connection for one request.
async fn open(endpoint: &Rc<Endpoint>, protocol: UpstreamProtocol, context: Context<'_>) -> Result<Opened, String> {
    // A pool without limits that keeps nothing has nothing to offer but a new connection.
    let Checkout::Open(permit) = endpoint.checkout(&context.means.clock, true, false).await else {
        return Err("its connection is in use".to_owned());
    };
    let how = How {
        protocol,
        tls: context.tls,
        server_name: context.service.tls.server_name.as_deref(),
        clock: &context.means.clock,
        net: &context.means.net,
    };
    connect::open(endpoint, how, permit).await.map_err(|failure| failure.to_string())
}
