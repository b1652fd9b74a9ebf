//! Read buffers that idle connections give back, so that ten thousand silent clients cost next to nothing.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use tidegate_config::config;
use tidegate_http1::{RequestHead, ResponseHead};

/// Buffers kept at most; beyond it they are freed.
const KEPT: usize = 64;

/// A head with more text than this is freed.
const HEAD_KEPT: usize = 4 * 1024;

/// Room of a wide buffer, in bytes.
const WIDE: usize = 128 * 1024;

/// Wide buffers of a worker at most: what clients do not take of their bodies holds no more of them than this.
const WIDE_AT_MOST: usize = 8;

/// A worker's spare buffers.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// Of a buffer that waits for a head, and of one that a body keeps filling: `server.buffers`.
    sizes: Cell<config::Buffers>,
    spare: RefCell<Vec<BytesMut>>,
    /// The last one that was used is the last here, and is used next: the processor still has it in its cache.
    spare_wide: RefCell<Vec<BytesMut>>,
    /// Wide buffers that are lent.
    lent_wide: Cell<usize>,
    spare_out: RefCell<Vec<Vec<u8>>>,
    spare_heads: RefCell<Vec<RequestHead>>,
    spare_replies: RefCell<Vec<ResponseHead>>,
}

impl Buffers {
    /// Buffers of these sizes.
    pub(crate) fn new(sizes: config::Buffers) -> Self {
        Self {
            sizes: Cell::new(sizes),
            spare: RefCell::default(),
            spare_wide: RefCell::default(),
            lent_wide: Cell::new(0),
            spare_out: RefCell::default(),
            spare_heads: RefCell::default(),
            spare_replies: RefCell::default(),
        }
    }

    /// Buffers made from now on have these sizes.
    pub(crate) fn resize(&self, sizes: config::Buffers) {
        self.sizes.set(sizes);
        self.spare.borrow_mut().clear();
    }

    /// Room for a read when a head is awaited, in bytes.
    #[inline]
    pub(crate) fn head(&self) -> usize {
        self.sizes.get().head
    }

    /// Room for a read of a body, of which `remaining` bytes are known to be still to come.
    #[inline]
    pub(crate) fn body(&self, remaining: Option<u64>) -> usize {
        let most = self.sizes.get().body;
        let wanted = remaining.and_then(|remaining| usize::try_from(remaining).ok()).unwrap_or(most);
        wanted.clamp(self.head().min(most), most)
    }

    /// A buffer for reading a body of which `remaining` bytes are known to be still to come, in few large pieces, if it is that large
    /// and such a buffer is free: one of which no piece waits to be written any more.
    pub(crate) fn widen(self: &Rc<Self>, remaining: Option<u64>) -> Option<Wide> {
        if self.sizes.get().body >= WIDE || remaining.is_some_and(|remaining| remaining <= self.body(None) as u64) {
            return None;
        }
        let mut spare = self.spare_wide.borrow_mut();
        let bytes = match spare.iter_mut().rposition(|bytes| bytes.try_reclaim(WIDE)) {
            Some(free) => spare.remove(free),
            None if spare.len() + self.lent_wide.get() < WIDE_AT_MOST => BytesMut::with_capacity(WIDE),
            None => return None,
        };
        self.lent_wide.set(self.lent_wide.get() + 1);
        Some(Wide { bytes, home: Rc::clone(self) })
    }

    /// An empty buffer for reading.
    pub(crate) fn take(&self) -> BytesMut {
        self.spare.borrow_mut().pop().unwrap_or_else(|| made(self.head()))
    }

    /// Takes a buffer back once nothing is left in it. One that others still hold parts of, or that has grown, is freed.
    pub(crate) fn put(&self, mut buffer: BytesMut) {
        debug_assert!(buffer.is_empty(), "bytes would be lost");
        let size = self.head();
        let mut spare = self.spare.borrow_mut();
        if spare.len() < KEPT && buffer.try_reclaim(size) && buffer.capacity() < 2 * size {
            spare.push(buffer);
        }
    }

    /// Takes back the buffer in which `data` lies, if nobody else holds any of it.
    #[inline]
    pub(crate) fn reclaim(&self, data: Bytes) {
        if let Ok(mut buffer) = data.try_into_mut() {
            buffer.clear();
            self.put(buffer);
        }
    }

    /// An empty head, with the memory of one that has served.
    pub(crate) fn take_head(&self) -> RequestHead {
        self.spare_heads.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a head back; one that has grown is freed.
    pub(crate) fn put_head(&self, mut head: RequestHead) {
        let mut spare = self.spare_heads.borrow_mut();
        if spare.len() < KEPT && head.fields.capacity() <= HEAD_KEPT {
            head.clear();
            spare.push(head);
        }
    }

    /// The same for a reply's head.
    pub(crate) fn take_reply(&self) -> ResponseHead {
        self.spare_replies.borrow_mut().pop().unwrap_or_default()
    }

    /// The same for a reply's head.
    pub(crate) fn put_reply(&self, mut head: ResponseHead) {
        let mut spare = self.spare_replies.borrow_mut();
        if spare.len() < KEPT && head.fields.capacity() <= HEAD_KEPT {
            head.clear();
            spare.push(head);
        }
    }

    /// An empty buffer for writing.
    pub(crate) fn take_out(&self) -> Vec<u8> {
        self.spare_out.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(2048))
    }

    /// Takes a buffer back; one that has grown is freed.
    pub(crate) fn put_out(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut spare = self.spare_out.borrow_mut();
        if spare.len() < KEPT && buffer.capacity() != 0 && buffer.capacity() <= 32 * 1024 {
            spare.push(buffer);
        }
    }
}

/// Its memory is shared from the start: otherwise every freezing of what was read would allocate what counts who shares it.
fn made(capacity: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(capacity);
    drop(buffer.split());
    buffer
}

/// A wide buffer, lent until it is dropped.
#[derive(Debug)]
pub(crate) struct Wide {
    pub(crate) bytes: BytesMut,
    home: Rc<Buffers>,
}

impl Drop for Wide {
    fn drop(&mut self) {
        self.bytes.clear();
        self.home.lent_wide.set(self.home.lent_wide.get() - 1);
        self.home.spare_wide.borrow_mut().push(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: config::Buffers = config::Buffers { head: 4 * 1024, body: 48 * 1024 };

    fn read(wide: &mut Wide, length: usize) -> Bytes {
        wide.bytes.extend_from_slice(&vec![b'x'; length]);
        wide.bytes.split().freeze()
    }

    #[test]
    fn a_wide_buffer_serves_the_next_body_once_nothing_of_it_waits() {
        let buffers = Rc::new(Buffers::new(SIZES));
        let mut wide = buffers.widen(None).unwrap();
        let (place, part) = (wide.bytes.as_ptr(), read(&mut wide, 100_000));
        drop(wide);
        let mut other = buffers.widen(None).unwrap();
        assert_ne!(other.bytes.as_ptr(), place, "a part of it still waits");
        assert!(read(&mut other, WIDE).iter().all(|byte| *byte == b'x'));
        drop(part);
        let again = buffers.widen(None).unwrap();
        assert_eq!((again.bytes.as_ptr(), again.bytes.len(), again.bytes.capacity()), (place, 0, WIDE));
    }

    #[test]
    fn what_waits_holds_no_more_wide_buffers_than_there_may_be() {
        let buffers = Rc::new(Buffers::new(SIZES));
        let mut parts: Vec<Bytes> = (0..WIDE_AT_MOST).map(|_| read(&mut buffers.widen(None).unwrap(), 1)).collect();
        assert!(buffers.widen(None).is_none());
        parts.pop();
        let lent = buffers.widen(None).unwrap();
        assert!(buffers.widen(None).is_none());
        drop(lent);
        assert!(buffers.widen(None).is_some());
    }

    #[test]
    fn a_body_that_an_ordinary_read_takes_gets_no_wide_buffer() {
        let buffers = Rc::new(Buffers::new(SIZES));
        assert!(buffers.widen(Some(48 * 1024)).is_none());
        assert!(buffers.widen(Some(48 * 1024 + 1)).is_some());
        buffers.resize(config::Buffers { body: 256 * 1024, ..SIZES });
        assert!(buffers.widen(None).is_none(), "an ordinary read takes more");
    }
}
