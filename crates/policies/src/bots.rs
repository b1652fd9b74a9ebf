//! `bots`: clients that are refused by the name they give themselves in `User-Agent`. It keeps out who does not hide, and nobody else.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::policy::{Place, Reading};
use tidegate_config::problem::{Path, Problem};
use tidegate_config::value::Pattern;
use tidegate_core::exchange::Exchange;
use tidegate_core::policy::{Decision, Gate, Phase, World};
use tidegate_core::rejection::{Rejection, RejectionKind};
use tidegate_http1::Known;

use crate::patterns::Patterns;
use crate::policy::{Policy, Setup};

/// The policy.
pub(crate) struct Bots;

/// Who may call, by `User-Agent`. Upper and lower case are the same.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BotsFile {
    /// These may not: regular expressions, which may match anywhere.
    #[serde(default)]
    deny: Vec<Pattern>,
    /// These may all the same, whatever `deny` says.
    #[serde(default)]
    allow: Vec<Pattern>,
    /// What becomes of clients that say nothing about themselves.
    empty: Option<Empty>,
}

/// What becomes of requests without `User-Agent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Empty {
    /// They pass.
    Allow,
    /// They are refused.
    Deny,
}

/// Who is refused.
#[derive(Debug)]
pub(crate) struct Rules {
    deny: Patterns,
    allow: Patterns,
    refuses_empty: bool,
}

impl Policy for Bots {
    const KEY: &'static str = "bots";
    const PLACE: Place = Place::Route;
    const BUILT_IN: &'static str = "empty: allow\n";
    const EXAMPLE: &'static str = "\
services: { shop: { url: http://127.0.0.1:9001 } }
routes:
  - match: { path_prefix: / }
    service: shop
    bots: { deny: [bot, crawler, '^python-requests/'], allow: [Googlebot], empty: deny }
";
    type File = BotsFile;
    type Meaning = Arc<Rules>;

    fn mean(file: BotsFile, reading: &mut Reading<'_, '_>) -> Option<Arc<Rules>> {
        let path = reading.path();
        let refuses_empty = file.empty == Some(Empty::Deny);
        if file.deny.is_empty() && !refuses_empty && !reading.is_excused(&path) {
            let problem = Problem::error(path.clone(), "`bots` refuses nobody");
            reading.report(problem.help("write `deny`, as regular expressions such as `crawler`, or `empty: deny`"));
        }
        let mut patterns = |key: &str, list: &[Pattern]| {
            let sources: Vec<&str> = list.iter().map(|pattern| pattern.0.as_str()).collect();
            Patterns::new(&sources, true).map_err(|invalid| reading.invalid(&path.join(key), invalid)).ok()
        };
        let (deny, allow) = (patterns("deny", &file.deny)?, patterns("allow", &file.allow)?);
        Some(Arc::new(Rules { deny, allow, refuses_empty }))
    }

    fn build(meaning: Option<&Arc<Rules>>, at: &Path, setup: &mut Setup<'_>) {
        if let Some(rules) = meaning {
            setup.gate((Phase::Edge, Self::KEY), &"".into(), at, Arc::<Rules>::clone(rules));
        }
    }
}

impl Rules {
    /// Whether a client of this name is refused.
    fn refuses(&self, agent: &[u8]) -> bool {
        if agent.is_empty() { self.refuses_empty } else { self.deny.has(agent) && !self.allow.has(agent) }
    }
}

impl Gate for Rules {
    fn check<'a>(&'a self, exchange: &'a mut Exchange, _: &'a dyn World) -> Decision<'a> {
        let fields = &exchange.head.fields;
        // Whoever gives several names is refused for any of them.
        let is_refused = if fields.contains(Known::UserAgent) {
            fields.values(Known::UserAgent).any(|agent| self.refuses(agent))
        } else {
            self.refuses(b"")
        };
        if is_refused {
            return Decision::refuse(Rejection::new(
                RejectionKind::Forbidden,
                "bot_refused",
                "This client is not allowed here",
            ));
        }
        Decision::PASS
    }

    fn describe(&self, _: &Exchange) -> String {
        let lists = [("refuses names with", &self.deny), ("but not with", &self.allow)];
        let lists = lists.into_iter().filter(|(_, patterns)| !patterns.sources().is_empty());
        let lists = lists.map(|(words, patterns)| format!("{words} {}", patterns.sources().join(", ")));
        let empty = self.refuses_empty.then(|| "refuses clients without a name".to_owned());
        lists.chain(empty).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{check, problems};

    fn yaml(bots: &str) -> String {
        format!(
            "services: {{ a: {{ url: http://127.0.0.1:9001 }} }}\n\
             routes: [{{ match: {{ path_prefix: / }}, service: a, bots: {bots} }}]"
        )
    }

    fn said(bots: &str, agents: &[&str]) -> String {
        let lines = agents.iter().map(|agent| format!("User-Agent: {agent}"));
        check(&yaml(bots), &["GET /".to_owned()].into_iter().chain(lines).collect::<Vec<_>>().join("\n"))
    }

    const REFUSED: &str = "403 bot_refused: This client is not allowed here";

    #[test]
    fn clients_are_refused_by_the_name_they_give() {
        let bots = "{ deny: [bot, '^python-requests/'], allow: [Googlebot] }";
        for agent in ["EvilBot/1.0", "Mozilla/5.0 (compatible; bingbot/2.0)", "python-requests/2.32"] {
            assert_eq!(said(bots, &[agent]), REFUSED, "{agent}");
        }
        for agent in
            ["Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (compatible; Googlebot/2.1)", "my python-requests/2"]
        {
            assert_eq!(said(bots, &[agent]), "pass", "{agent}");
        }
    }

    #[test]
    fn a_second_name_hides_nobody() {
        let bots = "{ deny: [bot], allow: [Googlebot] }";
        assert_eq!(said(bots, &["Mozilla/5.0", "evilbot"]), REFUSED);
        assert_eq!(said(bots, &["Googlebot", "evilbot"]), REFUSED);
    }

    #[test]
    fn clients_without_a_name_pass_unless_they_shall_not() {
        assert_eq!(said("{ deny: [bot] }", &[]), "pass");
        assert_eq!(said("{ empty: deny }", &[]), REFUSED);
        assert_eq!(said("{ empty: deny }", &[""]), REFUSED);
        assert_eq!(said("{ empty: deny }", &["curl/8"]), "pass");
    }

    #[test]
    fn an_expression_that_others_take_for_ever_for_takes_no_time() {
        let agent = "a".repeat(8000);
        assert_eq!(said("{ deny: ['^(a+)+$b', '(x+x+)+y'] }", &[&agent]), "pass");
    }

    #[test]
    fn a_policy_that_refuses_nobody_is_a_mistake() {
        assert!(problems(&yaml("{ allow: [Googlebot] }")).contains("`bots` refuses nobody"));
        assert!(problems(&yaml("{ deny: ['(?=x)'] }")).contains("look-around"));
    }
}
