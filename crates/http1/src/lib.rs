//! HTTP/1.0 and 1.1 as a pure, strict codec: bytes in, heads and body events out, and back. No sockets, no clock, no
//! tasks. What RFC 9112 lets a recipient repair is refused instead, because two parties that repair differently can
//! be played against each other.
//!
//! ```
//! use bytes::{Buf, BytesMut};
//! use tidegate_http1::{BodyEvent, BodyReader, HeadReader, Known, Limits, RequestHead, authority, request_framing};
//!
//! let mut buffer = BytesMut::from("POST /a HTTP/1.1\r\nHost: example.org\r\nContent-Length: 2\r\n\r\nhi");
//! let mut head = RequestHead::default();
//! let length = HeadReader::default().request(&buffer, &Limits::default(), &mut head)?.expect("all of it is here");
//! buffer.advance(length);
//! assert_eq!(authority(&head)?, Some("example.org"));
//! assert_eq!(head.fields.value(Known::ContentLength), Some(&b"2"[..]));
//!
//! let mut body = BodyReader::new(request_framing(&head)?);
//! assert_eq!(body.read(&mut buffer)?, BodyEvent::Data("hi".into()));
//! assert_eq!(body.read(&mut buffer)?, BodyEvent::End);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ascii;
mod body;
mod chunked;
pub mod encode;
mod error;
mod fields;
mod framing;
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod known;
mod lines;
mod reader;
mod request;
mod response;
mod section;
mod target;

pub use body::{BodyEvent, BodyReader, trailer_allowed};
pub use encode::{BodyWriter, Decimal, WrongLength, decimal};
pub use error::{BodyError, FieldLineError, RequestError, ResponseError};
pub use fields::{Field, FieldName, Fields, InvalidField, Iter, NameRef, Repeated, Tokens, Values};
pub use framing::{Framing, request_framing, request_keep_alive, response_framing, response_keep_alive};
pub use head::{Limits, RequestHead, ResponseHead, Version};
pub use known::{Known, Names};
pub use lines::{Lines, Value};
pub use reader::HeadReader;
pub use target::{Target, authority, is_authority};
