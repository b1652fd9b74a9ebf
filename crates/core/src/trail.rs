//! What policies decided about one request, for its log line.

use std::fmt::{self, Write as _};
use std::sync::Arc;

/// Empty for most requests, and then it costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail {
    decided_by: Option<(&'static str, Arc<str>)>,
    shadows: Vec<(&'static str, Arc<str>, &'static str)>,
}

impl Trail {
    /// Forgets all of it.
    pub fn clear(&mut self) {
        self.decided_by = None;
        self.shadows.clear();
    }

    /// Whether nothing is to be told.
    pub fn is_empty(&self) -> bool {
        self.decided_by.is_none() && self.shadows.is_empty()
    }

    /// Notes which policy refused the request.
    pub fn decided(&mut self, policy: &'static str, name: &Arc<str>) {
        self.decided_by = Some((policy, Arc::clone(name)));
    }

    /// Notes that a policy in shadow mode would have refused the request, with this code.
    pub fn would_refuse(&mut self, policy: &'static str, name: &Arc<str>, code: &'static str) {
        self.shadows.push((policy, Arc::clone(name), code));
    }

    /// Who refused the request: `ip`, or `rate_limit:per_client` where there can be several.
    pub fn decided_by(&self) -> Option<impl fmt::Display + '_> {
        self.decided_by.as_ref().map(|(policy, name)| Place { policy, name })
    }

    /// Who would have refused the request, separated by commas, each as `rate_limit:per_client=rate_limited`; empty if nobody.
    pub fn shadows(&self) -> String {
        let mut text = String::new();
        for (policy, name, code) in &self.shadows {
            let comma = if text.is_empty() { "" } else { "," };
            // Writing to a String cannot fail.
            write!(text, "{comma}{}={code}", Place { policy, name }).ok();
        }
        text
    }
}

struct Place<'a> {
    policy: &'a str,
    name: &'a str,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.policy)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, ":{}", self.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shadows_are_told_with_their_codes() {
        let mut trail = Trail::default();
        assert_eq!(trail.shadows(), "");
        trail.would_refuse("ip", &"".into(), "ip_denied");
        trail.would_refuse("rate_limit", &"orders".into(), "rate_limited");
        assert_eq!(trail.shadows(), "ip=ip_denied,rate_limit:orders=rate_limited");
    }
}
