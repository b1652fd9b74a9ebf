//! What is decided about traffic besides its route: which part of a split a request belongs to, whether it is copied, whether
//! it meets trouble on purpose. Nothing here acts on a decision.

mod split;

use tidegate_config::config::{Fault, Mirror, When};
use tidegate_http1::Fields;

pub use split::{Choice, Split};

use crate::route::{cookie_holds, header_holds};

/// The field that marks a mirror's copy, with the value `1`.
pub const MIRRORED: &str = "x-tidegate-mirror";

/// Whether a request with these fields, as its client sent them, meets the condition.
pub fn holds(when: &When, fields: &Fields) -> bool {
    when.headers.iter().all(|wanted| header_holds(wanted, fields))
        && when.cookies.iter().all(|wanted| cookie_holds(wanted, fields))
}

/// Whether this request is one of those that are copied. A copy is not copied again, so that mirrors that lead back to their
/// gateway end.
pub fn is_mirrored(mirror: &Mirror, fields: &Fields, random: u64) -> bool {
    in_share(mirror.share, random) && !fields.contains(MIRRORED)
}

/// Whether this request is one of those that meet trouble.
pub fn is_faulty(fault: &Fault, fields: &Fields, random: u64) -> bool {
    in_share(fault.share, random) && fault.when.as_ref().is_none_or(|when| holds(when, fields))
}

/// Whether `random` falls into a share (0 to 1) of all numbers; never for 0, always for 1.
fn in_share(share: f64, random: u64) -> bool {
    const BITS: u32 = 53;
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    let at = (random >> (u64::BITS - BITS)) as f64 / (1_u64 << BITS) as f64;
    at < share
}
