//! Read buffers that idle connections give back, so that ten thousand silent clients cost next to nothing.

use std::cell::{Cell, RefCell};

use bytes::{Bytes, BytesMut};
use tidegate_config::config;
use tidegate_http1::{RequestHead, ResponseHead};

/// Buffers kept at most; beyond it they are freed.
const KEPT: usize = 64;

/// A head with more text than this is freed.
const HEAD_KEPT: usize = 4 * 1024;

/// A worker's spare buffers.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// Of a buffer that waits for a head, and of one that a body keeps filling: `server.buffers`.
    sizes: Cell<config::Buffers>,
    spare: RefCell<Vec<BytesMut>>,
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

    /// An empty buffer for reading.
    pub(crate) fn take(&self) -> BytesMut {
        self.spare.borrow_mut().pop().unwrap_or_else(|| BytesMut::with_capacity(self.head()))
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
