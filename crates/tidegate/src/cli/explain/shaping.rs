//! What a route does to traffic besides sending it on: which part of a split the request belongs to, trouble on purpose, copies.

use std::sync::Arc;

use tidegate_config::config::{Fault, Mirror, Route, Split};
use tidegate_config::value::Duration;
use tidegate_core::exchange::Exchange;
use tidegate_core::shaping;

/// The services that may get the request, each as `name` shows it, with what decides between them.
pub(super) fn parts(
    split: &Split,
    route: &Route,
    exchange: &Exchange,
    name: impl Fn(&Arc<str>) -> String,
) -> Vec<String> {
    let number = |service: &Arc<str>| split.parts.iter().position(|part| part.service == *service).unwrap_or_default();
    let chooser = shaping::Split::new(split, number);
    let (by_condition, settled) = (
        chooser.by_condition(&exchange.head.fields),
        chooser.settled(exchange, &route.matches.path).and_then(|number| split.parts.get(number)),
    );
    if let Some(part) = settled {
        let why = if by_condition.is_some() { "its `when` holds" } else { "this client stays with it" };
        return vec![format!("{}, because {why}", name(&part.service))];
    }
    let total: u64 = split.parts.iter().map(|part| u64::from(part.weight)).sum();
    let with_weight = split.parts.iter().filter(|part| part.weight > 0);
    let share = |weight: u32| if u64::from(weight) < total { format!(", {weight} in {total}") } else { String::new() };
    with_weight.map(|part| format!("{}{}", name(&part.service), share(part.weight))).collect()
}

/// The trouble that may come first, if it comes to such requests.
pub(super) fn trouble(fault: &Fault, exchange: &Exchange) -> Option<String> {
    // The dice are on its side.
    if !shaping::is_faulty(fault, &exchange.head.fields, 0) {
        return None;
    }
    let delay = fault.delay.map(|delay| format!("wait {}", Duration(delay)));
    let abort = fault.abort.map(|status| format!("get {} instead of an answer", status.as_u16()));
    let what: Vec<_> = delay.into_iter().chain(abort).collect();
    Some(format!("trouble on purpose: {} such requests {}", of_all(fault.share), what.join(" and ")))
}

/// The copies that are made, if such requests are copied.
pub(super) fn copies(mirror: &Mirror, exchange: &Exchange, name: impl Fn(&Arc<str>) -> String) -> Option<String> {
    let copied = shaping::is_mirrored(mirror, &exchange.head.fields, 0);
    copied.then(|| format!("copied: {} such requests go to {} too", of_all(mirror.share), name(&mirror.service)))
}

/// `all`, or `12.5 % of`
fn of_all(share: f64) -> String {
    if share >= 1.0 {
        return "all".to_owned();
    }
    let percent = format!("{:.4}", share * 100.0);
    format!("{} % of", percent.trim_end_matches('0').trim_end_matches('.'))
}
