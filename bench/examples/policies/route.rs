//! A route of a configuration with its policies, and a request that comes to it: everything that decides whether a service is asked.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use anyhow::{Result, anyhow, bail, ensure};
use tidegate_config::{Config, Inputs, Memory, load};
use tidegate_core::body::Body;
use tidegate_core::client::{Peer, TrustedProxies};
use tidegate_core::exchange::{Exchange, Opening};
use tidegate_core::policy::{Policies, Shared, Table, World};
use tidegate_http1::{HeadReader, Limits, RequestHead, ResponseHead};
use tidegate_policies::{TABLE, VOCABULARY};

use super::world::Thread;

pub(crate) struct Route {
    config: Config,
    policies: Policies,
    request: String,
}

impl Route {
    /// The only route of `config`, and a request with the field `Authorization` or whatever `field` is.
    pub(crate) fn of(config: &str, files: &Memory, field: &str) -> Result<Self> {
        let file = Path::new("gateway.yaml");
        let source = files.clone().with(file, config);
        let loaded = load(&Inputs { file, source: &source, env: &[], vocabulary: &VOCABULARY });
        let config = loaded.map_err(|failure| anyhow!("{:?}", failure.problems))?.config;
        let (policies, found) = TABLE.build(&config, &Arc::new(Shared::default()));
        let (policies, _) = found.into_result(policies).map_err(|problems| anyhow!("{problems:?}"))?;
        let request = format!(
            "GET /orders/1234 HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: wrk/4\r\nAccept: */*\r\n{field}\r\n\r\n"
        );
        Ok(Self { config, policies, request })
    }

    /// A request as it comes to the route.
    pub(crate) fn request(&self) -> Result<Exchange> {
        let mut head = RequestHead::default();
        let read = HeadReader::default().request(self.request.as_bytes(), &Limits::default(), &mut head);
        ensure!(read == Ok(Some(self.request.len())), "the request is well formed");
        let trusted = TrustedProxies::default();
        let peer = Peer::new(([192, 0, 2, 1], 50_000).into(), "default".into(), 80, &trusted);
        let request_id = &self.config.server.request_id;
        let opening = Opening { trusted: &trusted, request_id, random: Thread.random(), now: Thread.now() };
        let (exchange, settled) = Exchange::open(head, Body::full(Vec::new()), Rc::new(peer), opening);
        settled.map_err(|rejection| anyhow!("{rejection:?}"))?;
        Ok(exchange)
    }

    /// Lets it pass, and its reply back.
    pub(crate) fn pass(&self, mut request: Exchange) -> Result<()> {
        let [chain] = self.policies.routes.as_slice() else { bail!("there is one route") };
        self.policies.guarded.strip(&mut request.head.fields);
        let checked = pin!(chain.check(&mut request, &Thread)).poll(&mut Context::from_waker(Waker::noop()));
        match checked {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(stop)) => bail!("it passes: {stop:?}"),
            Poll::Pending => bail!("nothing waits"),
        }
        chain.reply(&request, &mut ResponseHead::default());
        Ok(())
    }
}
