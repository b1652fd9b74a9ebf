//! A client's body whose trailers cannot say what only the gateway may say to services.

use std::rc::Rc;
use std::task::{Context, Poll};

use super::{Body, BodyError, Frame, Stream};
use crate::policy::Guarded;

/// See the module.
pub struct GuardedBody {
    body: Body,
    guarded: Rc<Guarded>,
}

impl GuardedBody {
    /// `body` without trailers of guarded names.
    pub fn new(body: Body, guarded: Rc<Guarded>) -> Self {
        Self { body, guarded }
    }
}

impl Stream for GuardedBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let mut polled = self.body.poll_frame(cx);
        if let Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) = &mut polled {
            self.guarded.strip(trailers);
        }
        polled
    }

    fn poll_progress(&mut self, cx: &mut Context<'_>) {
        self.body.poll_progress(cx);
    }

    fn limit(&mut self, bytes: Option<u64>) {
        self.body.limit(bytes);
    }

    fn length(&self) -> Option<u64> {
        self.body.length()
    }

    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tidegate_http1::Fields;

    use super::*;

    struct Trailing(Option<Fields>);

    impl Stream for Trailing {
        fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
            Poll::Ready(self.0.take().map(|trailers| Ok(Frame::Trailers(trailers))))
        }
    }

    #[test]
    fn a_trailer_cannot_say_what_only_the_gateway_may() {
        let mut trailers = Fields::new();
        for name in ["x_user", "x-checksum"] {
            trailers.append(name, b"1").unwrap();
        }
        let mut body = GuardedBody::new(Body::stream(Trailing(Some(trailers))), Rc::new(Guarded::new(["x-user"])));
        let polled = body.poll_frame(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Some(Ok(Frame::Trailers(left)))) = polled else { panic!("{polled:?}") };
        assert_eq!(left.iter().map(|field| field.name).collect::<Vec<_>>(), ["x-checksum"]);
    }
}
