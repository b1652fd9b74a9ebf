//! The fast way to the route of greatest rank: hosts in tables, paths in a tree of segments, and every rule numbered by its rank,
//! so that whole branches that cannot win are passed over.
//!
//! A lookup enters each node of a tree at most once, and only where the path leads, so its cost is bounded by the length of
//! the path times the kinds of segments, and never more than the tree, whatever a client sends.

use std::cmp::Reverse;

use tidegate_config::value::{HostPattern, PathKind, Segment};

use super::Head;
use super::find::{Found, without_route};
use super::methods::Methods;
use super::rule::{Rule, matches_segment, rank_of_host};
use super::table::Table;

/// Trees of paths by host.
#[derive(Debug, Default)]
pub(super) struct Index {
    exact: Table<Node>,
    /// By suffix, with its dot.
    wildcard: Table<Node>,
    any: Node,
}

/// What may follow the path that led here.
#[derive(Debug)]
struct Node {
    /// The best place of all rules here and below.
    best: u32,
    literals: Table<Node>,
    /// Segments with a regex, or with a literal beside a parameter.
    partial: Vec<(Segment, Node)>,
    param: Option<Box<Node>>,
    /// Rules whose path ends here.
    ends: Vec<Candidate>,
    /// Rules for one character or more below this.
    rest: Vec<Candidate>,
    /// Rules for this and all below.
    prefix: Vec<Candidate>,
}

/// A rule for one host. The places of all candidates are distinct: by rank, then by the order written; 0 is the best.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    place: u32,
    rule: u32,
}

const NO_PLACE: u32 = u32::MAX;

impl Index {
    pub(super) fn of(rules: &[Rule]) -> Self {
        let mut all: Vec<_> = rules
            .iter()
            .enumerate()
            .flat_map(|(number, rule)| rule.hosts().iter().map(move |host| (number, rule, host)))
            .collect();
        all.sort_by_key(|&(number, rule, host)| (Reverse(rule.rank_with(rank_of_host(host))), number));
        let mut index = Self::default();
        for ((number, rule, host), place) in all.into_iter().zip(0..NO_PLACE) {
            if let Some(tree) = index.tree(host) {
                tree.insert(rule, Candidate { place, rule: u32::try_from(number).unwrap_or(u32::MAX) });
            }
        }
        index.exact.values_mut().chain(index.wildcard.values_mut()).chain([&mut index.any]).for_each(|tree| {
            tree.note_best();
        });
        index
    }

    pub(super) fn find(&self, rules: &[Rule], head: &Head<'_>) -> Found {
        let mut search = Search { rules, head, best: NO_PLACE, rule: 0, missed_method: false, allowed: None };
        self.search(&mut search);
        if search.best != NO_PLACE {
            return Found::Route(search.rule as usize);
        }
        if !search.missed_method {
            return without_route(head, &Methods::default());
        }
        search.allowed = Some(Methods::default());
        self.search(&mut search);
        without_route(head, &search.allowed.unwrap_or_default())
    }

    fn search(&self, search: &mut Search<'_>) {
        let host = search.head.host.as_bytes();
        let Some(path) = search.head.path.as_bytes().strip_prefix(b"/") else { return };
        if let Some(tree) = self.exact.lookup(host) {
            search.enter(tree, Some(path));
        }
        if !self.wildcard.is_empty() {
            self.search_wildcards(host, path, search);
        }
        search.enter(&self.any, Some(path));
    }

    /// Every suffix that begins with a dot, the longest first.
    fn search_wildcards(&self, host: &[u8], path: &[u8], search: &mut Search<'_>) {
        for (at, _) in host.iter().enumerate().skip(1).filter(|&(_, &byte)| byte == b'.') {
            if let Some(tree) = host.get(at..).and_then(|suffix| self.wildcard.lookup(suffix)) {
                search.enter(tree, Some(path));
            }
        }
    }

    fn tree(&mut self, host: &HostPattern) -> Option<&mut Node> {
        match host {
            HostPattern::Exact(name) => self.exact.entry(name.as_bytes()),
            HostPattern::Wildcard(suffix) => self.wildcard.entry(suffix.as_bytes()),
            HostPattern::Any => Some(&mut self.any),
        }
    }
}

/// One lookup under way.
struct Search<'a> {
    rules: &'a [Rule],
    head: &'a Head<'a>,
    best: u32,
    rule: u32,
    /// A rule would match but for its methods.
    missed_method: bool,
    /// Collects the methods of such rules instead of looking for the best.
    allowed: Option<Methods>,
}

impl Search<'_> {
    /// `path` is what is left, without its slash; `None` at the end.
    fn enter(&mut self, node: &Node, path: Option<&[u8]>) {
        if node.best >= self.best {
            return;
        }
        match path {
            None => self.consider(&node.ends),
            Some(path) => self.descend(node, path),
        }
        self.consider(&node.prefix);
    }

    fn descend(&mut self, node: &Node, path: &[u8]) {
        let length = path.iter().position(|&byte| byte == b'/').unwrap_or(path.len());
        let (segment, after) = (path.get(..length).unwrap_or_default(), path.get(length + 1..));
        if let Some(child) = node.literals.lookup(segment) {
            self.enter(child, after);
        }
        if !segment.is_empty() {
            self.enter_partial(node, segment, after);
            if let Some(child) = &node.param {
                self.enter(child, after);
            }
        }
        if !path.is_empty() {
            self.consider(&node.rest);
        }
    }

    fn enter_partial(&mut self, node: &Node, segment: &[u8], after: Option<&[u8]>) {
        if node.partial.is_empty() {
            return;
        }
        let Ok(text) = std::str::from_utf8(segment) else { return };
        for (expected, child) in &node.partial {
            if child.best < self.best && matches_segment(expected, text) {
                self.enter(child, after);
            }
        }
    }

    /// Candidates lie in order of their places, so the first that fits is the best of them.
    fn consider(&mut self, candidates: &[Candidate]) {
        let best = self.best;
        for candidate in candidates.iter().take_while(|candidate| candidate.place < best) {
            let Some(rule) = self.rules.get(candidate.rule as usize) else { continue };
            let takes = rule.takes(self.head);
            if takes && (rule.plain || rule.failing(self.head).is_none()) {
                (self.best, self.rule) = (candidate.place, candidate.rule);
                return;
            }
            if !takes {
                self.note_methods(rule);
            }
        }
    }

    fn note_methods(&mut self, rule: &Rule) {
        self.missed_method = true;
        if let Some(allowed) = &mut self.allowed
            && rule.failing(self.head).is_none()
        {
            allowed.extend(&rule.methods);
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self {
            best: NO_PLACE,
            literals: Table::default(),
            partial: Vec::new(),
            param: None,
            ends: Vec::new(),
            rest: Vec::new(),
            prefix: Vec::new(),
        }
    }
}

impl Node {
    /// Candidates come in the order of their places.
    fn insert(&mut self, rule: &Rule, candidate: Candidate) {
        let pattern = &rule.route.matches.path;
        let mut node = self;
        for segment in &pattern.segments {
            node = match segment {
                Segment::Literal(text) => match node.literals.entry(text.as_bytes()) {
                    Some(child) => child,
                    None => return,
                },
                Segment::Param(_) => node.param.get_or_insert_default(),
                Segment::Regex(..) | Segment::Mixed(_) => node.partial(segment),
                Segment::Rest(_) => return node.rest.push(candidate),
            };
        }
        match pattern.kind {
            PathKind::Exact => node.ends.push(candidate),
            PathKind::Prefix => node.prefix.push(candidate),
        }
    }

    /// The child for a segment with a regex or literals; one that asks for the same, under whatever name, is shared.
    fn partial(&mut self, segment: &Segment) -> &mut Node {
        let known = self.partial.iter().position(|(other, _)| same_condition(other, segment));
        let at = known.unwrap_or_else(|| {
            self.partial.push((segment.clone(), Node::default()));
            self.partial.len() - 1
        });
        match self.partial.get_mut(at) {
            Some((_, child)) => child,
            None => self.param.get_or_insert_default(),
        }
    }

    fn note_best(&mut self) -> u32 {
        let here = [&self.ends, &self.rest, &self.prefix].into_iter().filter_map(|list| list.first());
        let here = here.map(|candidate| candidate.place).min().unwrap_or(NO_PLACE);
        let partial = self.partial.iter_mut().map(|(_, child)| child);
        let children = self.literals.values_mut().chain(partial).chain(self.param.as_deref_mut());
        self.best = children.map(Self::note_best).fold(here, u32::min);
        self.best
    }
}

/// Whether two segments match the same texts, as far as can be told from how they are written.
pub(super) fn same_condition(one: &Segment, other: &Segment) -> bool {
    match (one, other) {
        (Segment::Literal(one), Segment::Literal(other)) => one == other,
        (Segment::Param(_), Segment::Param(_)) | (Segment::Rest(_), Segment::Rest(_)) => true,
        (Segment::Regex(_, one), Segment::Regex(_, other)) => one.as_str() == other.as_str(),
        (Segment::Mixed(one), Segment::Mixed(other)) => {
            one.prefix == other.prefix
                && one.suffix == other.suffix
                && one.regex.as_ref().map(regex::Regex::as_str) == other.regex.as_ref().map(regex::Regex::as_str)
        }
        _ => false,
    }
}
