//! What a provider publishes, fetched again and again: how it is asked, how long the pauses are, and the numbers that operators see. What it means,
//! and who wants it sooner, is for others to say.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use tidegate_core::policy::{Call, Gauge, Gauges, World};
use tidegate_http1::{Known, RequestHead};

/// Bytes of an answer.
pub(crate) const MOST_BYTES: usize = 256 * 1024;

/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Failures after which pauses grow no longer: a minute.
const MOST_DOUBLINGS: u32 = 6;

/// Something that is published.
pub(crate) struct Published<'a> {
    /// The service that is asked.
    pub(crate) service: &'a str,
    /// For which path and query.
    pub(crate) target: &'a str,
    /// How long an answer may take.
    pub(crate) timeout: Duration,
    /// How often it is fetched, a tenth more or less.
    pub(crate) refresh: Duration,
    /// No pause after a failure is longer, but for that tenth.
    pub(crate) longest_pause: Duration,
    pub(crate) numbers: &'a Numbers,
}

/// What operators see.
pub(crate) struct Numbers {
    last_success: Arc<Gauge>,
    failures: Arc<Gauge>,
}

impl Numbers {
    /// Those of a way, under these names: of the time of the last success, and of the number of failures.
    pub(crate) fn new(gauges: &Gauges, way: &Arc<str>, [last_success, failures]: [&'static str; 2]) -> Self {
        let labels = [("way", way)];
        Self { last_success: gauges.add(last_success, &labels), failures: gauges.add(failures, &labels) }
    }
}

/// How it goes.
pub(crate) struct Fetching<'a> {
    of: Published<'a>,
    /// The answer that was taken over last.
    known: Option<Bytes>,
    /// In all.
    failures: f64,
    /// Since the last success.
    failed: u32,
}

impl<'a> Fetching<'a> {
    /// Nothing was fetched yet.
    pub(crate) fn new(of: Published<'a>) -> Self {
        Self { of, known: None, failures: 0.0, failed: 0 }
    }

    /// Fetches once. An answer that is not the same as before is for `take_over`.
    ///
    /// # Errors
    /// Why there is no answer that can be used, and how many times in a row that was so.
    pub(crate) async fn once(
        &mut self,
        world: &dyn World,
        take_over: impl FnOnce(&[u8]) -> Result<(), String>,
    ) -> Result<(), (String, u32)> {
        let done = match self.of.fetch(world).await {
            Ok(body) if self.known.as_ref() == Some(&body) => Ok(()),
            Ok(body) => take_over(&body).map(|()| self.known = Some(body)),
            Err(reason) => Err(reason),
        };
        if done.is_ok() {
            self.failed = 0;
            self.of.numbers.last_success.set(world.wall().as_secs_f64());
        } else {
            (self.failed, self.failures) = (self.failed + 1, self.failures + 1.0);
            self.of.numbers.failures.set(self.failures);
        }
        done.map_err(|reason| (reason, self.failed))
    }

    /// When it is to be fetched again: a tenth sooner or later, so that gateways that were started together do not ask together.
    pub(crate) fn due(&self, world: &dyn World) -> Instant {
        let pause = match self.failed {
            0 => self.of.refresh,
            failed => self.of.longest_pause.min(FIRST_PAUSE * (1 << (failed - 1).min(MOST_DOUBLINGS))),
        };
        let thousandths = 900 + u32::try_from(world.random() % 201).unwrap_or_default();
        world.now() + pause * thousandths / 1000
    }
}

impl Published<'_> {
    async fn fetch(&self, world: &dyn World) -> Result<Bytes, String> {
        let mut head = RequestHead { target: self.target.to_owned(), ..RequestHead::default() };
        head.fields.append(Known::Accept, b"application/json").map_err(|error| error.to_string())?;
        let deadline = world.now() + self.timeout;
        let call = Call { head, body: Bytes::new(), deadline, retry: None, most: MOST_BYTES };
        let answer = world.call(self.service, call).await.map_err(|error| error.to_string())?;
        match answer.status {
            StatusCode::OK => Ok(answer.body),
            status => Err(format!("the answer is {}", status.as_u16())),
        }
    }
}
