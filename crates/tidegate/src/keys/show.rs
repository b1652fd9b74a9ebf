//! A key as programs and people see it: everything but its secret and what is kept of that.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_core::keys::{KeyError, Record};

use super::moment;

/// All that is known of a key; nothing is `null`.
pub(crate) fn shown(record: &Record, now: Duration) -> Value {
    json!({
        "id": *record.id,
        "name": *record.name,
        "user": **record.user(),
        "roles": record.roles,
        "permissions": record.permissions,
        "scopes": record.scopes,
        "tenant": record.tenant,
        "rate": record.rate,
        "burst": record.burst,
        "state": state(record, now),
        "created": moment(record.created),
        "rotated": record.rotated.map(moment),
        "expires": record.expires.map(moment),
        "revoked": record.revoked.map(moment),
        "old_secret_until": record.former.as_ref().map(|former| moment(former.until)),
    })
}

fn state(record: &Record, now: Duration) -> &'static str {
    match record.validity(now) {
        Ok(()) => "valid",
        Err(KeyError::Expired) => "expired",
        Err(KeyError::Revoked | KeyError::Unknown) => "revoked",
    }
}
