//! The field names that HTTP, proxies and browsers use all the time, as one byte each. Recognising one costs a
//! hash of four bytes and a comparison, and everything after that compares bytes instead of strings.

macro_rules! known {
    ($($variant:ident = $name:literal,)*) => {
        /// A well-known field name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Known {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Known {
            /// Every known name, in alphabetical order.
            pub const ALL: &[Known] = &[$(Known::$variant,)*];

            /// The name in lower case.
            #[inline]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Known::$variant => $name,)*
                }
            }
        }
    };
}

known! {
    Accept = "accept",
    AcceptCharset = "accept-charset",
    AcceptEncoding = "accept-encoding",
    AcceptLanguage = "accept-language",
    AcceptRanges = "accept-ranges",
    AccessControlAllowCredentials = "access-control-allow-credentials",
    AccessControlAllowHeaders = "access-control-allow-headers",
    AccessControlAllowMethods = "access-control-allow-methods",
    AccessControlAllowOrigin = "access-control-allow-origin",
    AccessControlExposeHeaders = "access-control-expose-headers",
    AccessControlMaxAge = "access-control-max-age",
    AccessControlRequestHeaders = "access-control-request-headers",
    AccessControlRequestMethod = "access-control-request-method",
    Age = "age",
    Allow = "allow",
    AltSvc = "alt-svc",
    AuthenticationInfo = "authentication-info",
    Authorization = "authorization",
    Baggage = "baggage",
    CacheControl = "cache-control",
    CacheStatus = "cache-status",
    Connection = "connection",
    ContentDisposition = "content-disposition",
    ContentEncoding = "content-encoding",
    ContentLanguage = "content-language",
    ContentLength = "content-length",
    ContentLocation = "content-location",
    ContentRange = "content-range",
    ContentSecurityPolicy = "content-security-policy",
    ContentType = "content-type",
    Cookie = "cookie",
    Date = "date",
    Dnt = "dnt",
    EarlyData = "early-data",
    ETag = "etag",
    Expect = "expect",
    Expires = "expires",
    Forwarded = "forwarded",
    From = "from",
    GrpcAcceptEncoding = "grpc-accept-encoding",
    GrpcEncoding = "grpc-encoding",
    GrpcMessage = "grpc-message",
    GrpcStatus = "grpc-status",
    GrpcTimeout = "grpc-timeout",
    Host = "host",
    Http2Settings = "http2-settings",
    IdempotencyKey = "idempotency-key",
    IfMatch = "if-match",
    IfModifiedSince = "if-modified-since",
    IfNoneMatch = "if-none-match",
    IfRange = "if-range",
    IfUnmodifiedSince = "if-unmodified-since",
    KeepAlive = "keep-alive",
    LastEventId = "last-event-id",
    LastModified = "last-modified",
    Link = "link",
    Location = "location",
    MaxForwards = "max-forwards",
    Origin = "origin",
    Pragma = "pragma",
    Priority = "priority",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthenticationInfo = "proxy-authentication-info",
    ProxyAuthorization = "proxy-authorization",
    ProxyConnection = "proxy-connection",
    Range = "range",
    Ratelimit = "ratelimit",
    RatelimitPolicy = "ratelimit-policy",
    Referer = "referer",
    RetryAfter = "retry-after",
    SecChUa = "sec-ch-ua",
    SecChUaMobile = "sec-ch-ua-mobile",
    SecChUaPlatform = "sec-ch-ua-platform",
    SecFetchDest = "sec-fetch-dest",
    SecFetchMode = "sec-fetch-mode",
    SecFetchSite = "sec-fetch-site",
    SecFetchUser = "sec-fetch-user",
    SecWebsocketAccept = "sec-websocket-accept",
    SecWebsocketExtensions = "sec-websocket-extensions",
    SecWebsocketKey = "sec-websocket-key",
    SecWebsocketProtocol = "sec-websocket-protocol",
    SecWebsocketVersion = "sec-websocket-version",
    Server = "server",
    ServerTiming = "server-timing",
    SetCookie = "set-cookie",
    StrictTransportSecurity = "strict-transport-security",
    Te = "te",
    Traceparent = "traceparent",
    Tracestate = "tracestate",
    Trailer = "trailer",
    TransferEncoding = "transfer-encoding",
    Upgrade = "upgrade",
    UpgradeInsecureRequests = "upgrade-insecure-requests",
    UserAgent = "user-agent",
    Vary = "vary",
    Via = "via",
    Warning = "warning",
    WwwAuthenticate = "www-authenticate",
    XApiKey = "x-api-key",
    XContentTypeOptions = "x-content-type-options",
    XCorrelationId = "x-correlation-id",
    XForwardedFor = "x-forwarded-for",
    XForwardedHost = "x-forwarded-host",
    XForwardedPort = "x-forwarded-port",
    XForwardedPrefix = "x-forwarded-prefix",
    XForwardedProto = "x-forwarded-proto",
    XForwardedServer = "x-forwarded-server",
    XFrameOptions = "x-frame-options",
    XGateway = "x-gateway",
    XRealIp = "x-real-ip",
    XRequestId = "x-request-id",
    XResponseTime = "x-response-time",
}

impl Known {
    /// The known name that these bytes spell, in whatever case.
    #[inline]
    pub fn from_bytes(name: &[u8]) -> Option<Known> {
        let ends = Ends::of(name)?;
        let slot = SLOTS.get(ends.slot()).and_then(Option::as_ref)?;
        (ends.spell(&slot.ends) && (name.len() <= 16 || same_middle(name, slot.known))).then_some(slot.known)
    }
}

/// A set of known names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names {
    first: u64,
    rest: u64,
}

impl Names {
    /// The empty set.
    pub const NONE: Self = Self { first: 0, rest: 0 };

    /// These names.
    pub const fn of(names: &[Known]) -> Self {
        let mut set = Self::NONE;
        let mut rest = names;
        while let [name, after @ ..] = rest {
            set.insert(*name);
            rest = after;
        }
        set
    }

    /// The names of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { first: self.first | other.first, rest: self.rest | other.rest }
    }

    /// Adds a name, and says whether it was there already.
    #[inline]
    pub const fn insert(&mut self, name: Known) -> bool {
        let had = self.contains(name);
        let bit = 1 << (name as u8 % 64);
        if (name as u8) < 64 {
            self.first |= bit;
        } else {
            self.rest |= bit;
        }
        had
    }

    /// Whether the name is among them.
    #[inline]
    pub const fn contains(self, name: Known) -> bool {
        let half = if (name as u8) < 64 { self.first } else { self.rest };
        half >> (name as u8 % 64) & 1 != 0
    }

    /// Whether any name is in both.
    #[inline]
    pub const fn meets(self, other: Self) -> bool {
        (self.first & other.first) | (self.rest & other.rest) != 0
    }
}

const _: () = assert!(Known::ALL.len() <= 128, "a set of known names has a bit for each");

/// The first and the last eight bytes, which overlap in shorter names, and the length: this tells all known names
/// apart, and is all there is to compare in names up to 16 bytes.
#[derive(Clone, Copy)]
struct Ends {
    first: u64,
    last: u64,
    length: u64,
}

/// In letters, the bit that makes them lower case; `-` and digits have it anyway.
const LOWER: u64 = u64::from_le_bytes([0x20; 8]);

impl Ends {
    #[inline]
    const fn of(name: &[u8]) -> Option<Self> {
        let (first, last) = if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
            (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
        } else if let (Some([a, b, c, d]), Some([e, f, g, h])) = (name.first_chunk(), name.last_chunk()) {
            let both = u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            (both, both)
        } else if let [a, b, .., c] | [a, b @ c] = name {
            let all = u64::from_le_bytes([*a, *b, *c, b'-', b'-', b'-', b'-', b'-']);
            (all, all)
        } else {
            return None;
        };
        Some(Self { first, last, length: name.len() as u64 })
    }

    /// A perfect hash: every known name has a slot of its own.
    #[inline]
    const fn slot(&self) -> usize {
        /// Found by trying random numbers until no two names shared a slot; `slots` does not compile with one that
        /// fails.
        const SEED: u64 = 0xa35a_b883_f09e_c36d;
        let key = ((self.first | LOWER) ^ (self.last | LOWER).rotate_left(23)).wrapping_add(self.length);
        (key.wrapping_mul(SEED) >> (u64::BITS - SLOT_BITS)) as usize
    }

    #[inline]
    fn spell(&self, lower: &Self) -> bool {
        let length = self.length ^ lower.length;
        length | difference(self.first, lower.first) | difference(self.last, lower.last) == 0
    }
}

/// 0 if the bytes of `word` are those of `lower` in any case. Ignoring the bit of the case alone would make CR a `-`;
/// so a byte must have that bit, or the next, which letters have.
#[inline]
const fn difference(word: u64, lower: u64) -> u64 {
    ((word | LOWER) ^ lower) | (!(word | word >> 1) & LOWER)
}

#[inline]
fn same_middle(name: &[u8], known: Known) -> bool {
    let middle = 8..name.len() - 8;
    match (name.get(middle.clone()), known.as_str().as_bytes().get(middle)) {
        (Some(name), Some(known)) => name.eq_ignore_ascii_case(known),
        _ => false,
    }
}

#[derive(Clone, Copy)]
struct Slot {
    ends: Ends,
    known: Known,
}

const SLOT_BITS: u32 = 9;

static SLOTS: [Option<Slot>; 1 << SLOT_BITS] = slots();

#[expect(clippy::indexing_slicing, clippy::panic, reason = "runs in the compiler only, as a check of the table")]
const fn slots() -> [Option<Slot>; 1 << SLOT_BITS] {
    let mut slots = [None; 1 << SLOT_BITS];
    let mut i = 0;
    while i < Known::ALL.len() {
        let known = Known::ALL[i];
        let Some(ends) = Ends::of(known.as_str().as_bytes()) else { panic!("a known name has two bytes at least") };
        let slot = ends.slot();
        assert!(slots[slot].is_none(), "two known names share a slot: choose another SEED");
        slots[slot] = Some(Slot { ends, known });
        i += 1;
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case() {
        for &known in Known::ALL {
            let name = known.as_str();
            assert_eq!(Known::from_bytes(name.as_bytes()), Some(known));
            assert_eq!(Known::from_bytes(name.to_uppercase().as_bytes()), Some(known));
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{name}");
        }
    }

    #[test]
    fn one_changed_byte_makes_a_name_unknown_or_another() {
        let places = Known::ALL.iter().flat_map(|&known| (0..known.as_str().len()).map(move |at| (known, at)));
        for (known, at) in places {
            for byte in 0..=255 {
                let mut name = known.as_str().as_bytes().to_vec();
                name[at] = byte;
                let same = name.eq_ignore_ascii_case(known.as_str().as_bytes());
                assert_eq!(Known::from_bytes(&name) == Some(known), same, "{known:?} {at} {byte:#x}");
            }
        }
    }

    #[test]
    fn empty_and_overlong_names_are_unknown() {
        assert_eq!(Known::from_bytes(b""), None);
        assert_eq!(Known::from_bytes(&[b'a'; 33]), None);
        assert_eq!(Known::from_bytes("a".repeat(70_000).as_bytes()), None);
    }
}
