//! Sets of methods, as routes name them and `Allow` tells them.

use http::Method;
use tidegate_config::config::Route;

/// A set of methods. The empty set is no method at all, and no condition where a route has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Methods {
    /// One bit for each of [`COMMON`].
    common: u16,
    /// All others, such as `PROPFIND`, sorted.
    other: Vec<Method>,
}

const COMMON: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::TRACE,
    Method::CONNECT,
];

impl Methods {
    /// These methods, and `HEAD` where there is `GET` (RFC 9110 9.3.2).
    pub fn of(methods: &[Method]) -> Self {
        let mut set = Self::default();
        for method in methods {
            set.insert(method);
        }
        if set.contains(&Method::GET) {
            set.insert(&Method::HEAD);
        }
        set
    }

    /// What services commonly know.
    pub fn common() -> Self {
        Self::of(&[Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
    }

    /// Those that a route takes: the ones that it names, or what services commonly know.
    pub fn of_route(route: &Route) -> Self {
        if route.matches.methods.is_empty() { Self::common() } else { Self::of(&route.matches.methods) }
    }

    /// Adds one method.
    pub fn insert(&mut self, method: &Method) {
        match bit(method) {
            0 => {
                if let Err(at) = self.other.binary_search_by(|known| known.as_str().cmp(method.as_str())) {
                    self.other.insert(at, method.clone());
                }
            }
            bit => self.common |= bit,
        }
    }

    /// Adds all methods of another set.
    pub fn extend(&mut self, other: &Self) {
        self.common |= other.common;
        for method in &other.other {
            self.insert(method);
        }
    }

    /// Whether the method is in the set.
    #[inline]
    pub fn contains(&self, method: &Method) -> bool {
        match bit(method) {
            0 => self.other.contains(method),
            bit => self.common & bit != 0,
        }
    }

    /// Whether every method of `other` is in this set.
    pub fn covers(&self, other: &Self) -> bool {
        other.common & !self.common == 0 && other.other.iter().all(|method| self.other.contains(method))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.common == 0 && self.other.is_empty()
    }

    /// The value of `Allow` (RFC 9110 10.2.1): the methods of the set, and `OPTIONS`, which is always answered.
    pub fn allow(&self) -> String {
        let mut all = self.clone();
        all.insert(&Method::OPTIONS);
        all.to_string()
    }

    fn iter(&self) -> impl Iterator<Item = &Method> {
        COMMON.iter().filter(|method| self.common & bit(method) != 0).chain(&self.other)
    }
}

impl std::fmt::Display for Methods {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (position, method) in self.iter().enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            write!(f, "{comma}{method}")?;
        }
        Ok(())
    }
}

#[inline]
fn bit(method: &Method) -> u16 {
    match *method {
        Method::GET => 1,
        Method::HEAD => 1 << 1,
        Method::POST => 1 << 2,
        Method::PUT => 1 << 3,
        Method::PATCH => 1 << 4,
        Method::DELETE => 1 << 5,
        Method::OPTIONS => 1 << 6,
        Method::TRACE => 1 << 7,
        Method::CONNECT => 1 << 8,
        _ => 0,
    }
}
