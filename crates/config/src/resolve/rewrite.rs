//! `rewrite`: what the service sees instead of what the client sent.

use std::sync::Arc;

use crate::config::{PathRewrite, Rewrite};
use crate::file::{PrefixPath, RewriteFile};
use crate::problem::{Path, Problem};
use crate::resolve::Resolver;
use crate::value::{HostPattern, PathKind, PathPattern, Segment, Template, TemplatePart, Variable};

impl Resolver<'_> {
    pub(super) fn rewrite(&mut self, file: &RewriteFile, at: &Path, pattern: &PathPattern) -> Rewrite {
        let path = match (&file.strip_prefix, &file.path) {
            (Some(_), Some(_)) => {
                let problem =
                    Problem::error(at.join("path"), "`path` writes the whole path, so there is nothing to strip")
                        .on_key();
                self.push(problem.see(at.join("strip_prefix"), "the prefix is here").help("keep one of them"));
                None
            }
            (Some(PrefixPath(prefix)), None) => self.strip_prefix(prefix, &at.join("strip_prefix"), pattern),
            (None, Some(template)) => self.replace_path(template, &at.join("path"), pattern),
            (None, None) => None,
        };
        if let Some(host) = &file.host {
            self.check_host(host, &at.join("host"), pattern);
        }
        let query = file.query.as_ref();
        let set = query.and_then(|query| query.set.as_ref()).map(|set| set.0.as_slice()).unwrap_or_default();
        for (name, template) in set {
            self.check_variables(&at.join("query").join("set").join(name), template, pattern);
        }
        let removed = query.map(|query| query.remove.as_slice()).unwrap_or_default();
        Rewrite {
            path,
            host: file.host.clone(),
            query_set: set.iter().map(|(name, template)| (name.as_str().into(), template.clone())).collect(),
            query_remove: removed.iter().map(|name| name.as_str().into()).collect(),
        }
    }

    fn strip_prefix(&mut self, prefix: &PathPattern, path: &Path, pattern: &PathPattern) -> Option<PathRewrite> {
        let mut literals: Vec<&Arc<str>> = Vec::new();
        for segment in &prefix.segments {
            let Segment::Literal(text) = segment else {
                let problem = Problem::error(
                    path.clone(),
                    format!("`{prefix}` has a parameter, but a prefix to strip is a fixed text"),
                );
                self.push(problem.help("write the new path: `rewrite: { path: \"/{path.rest}\" }`"));
                return None;
            };
            literals.push(text);
        }
        if literals.is_empty() {
            self.push(Problem::error(path.clone(), "`/` takes nothing off").help("leave `strip_prefix` out"));
            return None;
        }
        if !may_begin_with(pattern, &literals) {
            let problem = Problem::warning(
                path.clone(),
                format!("the path `{pattern}` never begins with `{prefix}`, so nothing is taken off"),
            );
            self.push(problem);
        }
        Some(PathRewrite::StripPrefix(Arc::clone(&prefix.source)))
    }

    fn replace_path(&mut self, template: &Template, path: &Path, pattern: &PathPattern) -> Option<PathRewrite> {
        self.check_variables(path, template, pattern);
        let starts_well = match template.parts.first() {
            Some(TemplatePart::Literal(text)) => text.starts_with('/'),
            Some(TemplatePart::Value(variable)) => *variable == Variable::RequestPath,
            None => false,
        };
        if !starts_well {
            self.push(
                Problem::error(path.clone(), format!("the path `{template}` does not begin with `/`"))
                    .help(format!("write `/{template}`")),
            );
            return None;
        }
        let has_query =
            template.parts.iter().any(|part| matches!(part, TemplatePart::Literal(text) if text.contains(['?', '#'])));
        if has_query {
            self.push(
                Problem::error(path.clone(), "a path has no query")
                    .help("write `query: { set: { NAME: VALUE } }` beside it"),
            );
            return None;
        }
        Some(PathRewrite::Replace(template.clone()))
    }

    fn check_host(&mut self, host: &Template, path: &Path, pattern: &PathPattern) {
        self.check_variables(path, host, pattern);
        let Some(text) = host.as_literal() else { return };
        let (name, port) =
            text.rsplit_once(':').filter(|(name, _)| !name.contains(':') || name.ends_with(']')).unwrap_or((text, "1"));
        let is_name = matches!(name.parse::<HostPattern>(), Ok(HostPattern::Exact(_)));
        if !is_name || port.parse::<u16>().is_err() {
            self.push(
                Problem::error(path.clone(), format!("`{text}` is not a host"))
                    .help("write a name, or a name and a port"),
            );
        }
    }
}

/// Whether a path that fits the pattern may begin with these segments.
fn may_begin_with(pattern: &PathPattern, literals: &[&Arc<str>]) -> bool {
    for (position, literal) in literals.iter().enumerate() {
        match pattern.segments.get(position) {
            Some(Segment::Literal(text)) if text != *literal => return false,
            Some(Segment::Regex(_, regex)) if !regex.is_match(literal) => return false,
            Some(Segment::Rest(_)) => return true,
            Some(_) => {}
            None => return pattern.kind == PathKind::Prefix,
        }
    }
    true
}
