//! An explanation for people.

use std::fmt::Write;

use tidegate_http1::{Fields, RequestHead};

use super::policies::{Decided, Says};
use super::request::{Answer, Caller, Explained, Line};
use super::{Explanation, Unreachable};

pub(super) fn of(explanation: &Explanation<'_>) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    write(&mut out, explanation).ok();
    out
}

fn write(out: &mut String, explanation: &Explanation<'_>) -> std::fmt::Result {
    if let Some(explained) = &explanation.request {
        request(out, explanation, explained)?;
    }
    if let Some(all) = &explanation.unreachable {
        if explanation.request.is_some() {
            writeln!(out)?;
        }
        unreachable(out, explanation, all)?;
    }
    Ok(())
}

fn request(out: &mut String, explanation: &Explanation<'_>, explained: &Explained) -> std::fmt::Result {
    let asked = &explained.request;
    writeln!(out, "{} {}", asked.method, asked.url)?;
    writeln!(
        out,
        "  host {:?}, path {:?}, client {}, listener `{}`\n",
        asked.host, asked.path, asked.client, asked.listener
    )?;
    if !explained.lines.is_empty() {
        writeln!(out, "Routes, in the order of the file:")?;
        routes(out, explanation, &explained.lines)?;
        writeln!(out)?;
    }
    if let Some(known) = &explained.caller {
        caller(out, known)?;
    }
    policies(out, explanation, &explained.policies)?;
    let is_open = |decided: &Decided| !decided.link.shadow && matches!(decided.says, Says::Unknown(_) | Says::Depends);
    answer(out, &explained.answer, explained.policies.iter().any(is_open))?;
    if !explained.phases.is_empty() {
        writeln!(out, "\nOn the way:")?;
    }
    let mut last = "";
    for (phase, what) in &explained.phases {
        let shown = if *phase == last { "" } else { phase };
        writeln!(out, "  {shown:<10} {what}")?;
        last = phase;
    }
    if let Answer::Forwarded { head, reply, .. } = &explained.answer {
        sent(out, head)?;
        if !reply.is_empty() {
            writeln!(out, "\nWhat the gateway says in the reply:")?;
            fields(out, reply)?;
        }
    }
    Ok(())
}

fn routes(out: &mut String, explanation: &Explanation<'_>, lines: &[Line]) -> std::fmt::Result {
    let name_width = lines.iter().map(|line| line.route.name.len()).max().unwrap_or_default();
    let places: Vec<_> = lines.iter().map(|line| explanation.place(&line.route.at)).collect();
    let place_width = places.iter().map(String::len).max().unwrap_or_default();
    for (line, place) in lines.iter().zip(&places) {
        let mark = if line.taken { '>' } else { ' ' };
        write!(out, "{mark} {:<name_width$}  {place:<place_width$}  ", line.route.name)?;
        match &line.verdict {
            Ok(rank) if line.taken => writeln!(out, "taken: {rank}")?,
            Ok(rank) => writeln!(out, "fits too: {rank}")?,
            Err(mismatch) => writeln!(out, "no: {mismatch}")?,
        }
    }
    Ok(())
}

fn caller(out: &mut String, caller: &Caller) -> std::fmt::Result {
    let Caller { assumed, is_asked } = caller;
    writeln!(out, "The caller, by --as, read as {}:", assumed.reading)?;
    let who = &assumed.identity;
    let texts = [("way", Some(&who.way)), ("user", who.user.as_ref()), ("tenant", who.tenant.as_ref())];
    for (name, text) in texts {
        writeln!(out, "  {name:<12} {}", text.map_or("", |text| text))?;
    }
    for (name, list) in [("roles", &who.roles), ("permissions", &who.permissions), ("scopes", &who.scopes)] {
        writeln!(out, "  {name:<12} {}", list.join(", "))?;
    }
    if !is_asked {
        writeln!(out, "  This is not used: on this route nobody asks who calls.")?;
    }
    writeln!(out)
}

fn policies(out: &mut String, explanation: &Explanation<'_>, all: &[Decided]) -> std::fmt::Result {
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out, "Policies, in the order in which they are asked:")?;
    let mut last = "";
    for Decided { link, words, says } in all {
        let phase = link.phase.as_str();
        let shown = if phase == last { "" } else { phase };
        last = phase;
        let name = if link.name.is_empty() { link.policy.to_owned() } else { format!("{}:{}", link.policy, link.name) };
        let (place, level) = (explanation.place(&link.at), explanation.document.level(&link.at));
        let shadow = if link.shadow { ", in shadow mode" } else { "" };
        writeln!(out, "  {shown:<13} {name}  {place}, {level}{shadow}")?;
        if !words.is_empty() {
            writeln!(out, "                  {words}")?;
        }
        said(out, says, link.shadow)?;
    }
    writeln!(out)
}

fn said(out: &mut String, says: &Says, shadow: bool) -> std::fmt::Result {
    write!(out, "                  -> ")?;
    match says {
        Says::Pass => writeln!(out, "passes"),
        Says::Refuse(rejection) => {
            let refuses = if shadow { "would refuse, and lets pass" } else { "refuses" };
            writeln!(out, "{refuses}: {} {}: {}", rejection.status().as_u16(), rejection.code, rejection.detail)?;
            match &rejection.cause {
                Some(cause) => writeln!(out, "                     because {cause}"),
                None => Ok(()),
            }
        }
        Says::Answer(status) => writeln!(out, "answers: {status}"),
        Says::Unknown(asks) if asks.is_empty() => {
            writeln!(out, "would wait for somebody outside, who is not asked here")
        }
        Says::Unknown(asks) => writeln!(out, "would ask {}, which is not asked here", asks.join(", then ")),
        Says::Assumed => writeln!(out, "taken as proved"),
        Says::Depends => writeln!(out, "depends on who calls: say it with --as"),
        Says::NotReached => writeln!(out, "not reached"),
    }
}

/// `is_open`: somebody was not asked who may be against it.
fn answer(out: &mut String, answer: &Answer, is_open: bool) -> std::fmt::Result {
    let word = if is_open { "Answer, if nobody who was not asked is against it" } else { "Answer" };
    match answer {
        Answer::Forwarded { route, services, .. } => {
            let one_of = if services.len() > 1 { "one of: " } else { "" };
            writeln!(out, "{word}: route `{}` sends it to {one_of}{}", route.name, services.join("; "))
        }
        Answer::Replied { by, status, fields: all, bytes } => {
            writeln!(out, "{word}: {status} by {by}")?;
            fields(out, all)?;
            if *bytes > 0 { writeln!(out, "  ({bytes} bytes)") } else { Ok(()) }
        }
        Answer::Refused(rejection) => {
            writeln!(out, "{word}: {} {}: {}", rejection.status().as_u16(), rejection.code, rejection.detail)?;
            fields(out, &rejection.fields)?;
            match &rejection.cause {
                Some(cause) => writeln!(out, "  because {cause}"),
                None => Ok(()),
            }
        }
    }
}

fn fields(out: &mut String, fields: &Fields) -> std::fmt::Result {
    for field in fields {
        writeln!(out, "  {}: {}", field.name, String::from_utf8_lossy(field.value))?;
    }
    Ok(())
}

fn sent(out: &mut String, head: &RequestHead) -> std::fmt::Result {
    writeln!(out, "\nWhat the service gets (the request id is made anew each time):")?;
    writeln!(out, "  {} {} HTTP/1.1", head.method, head.target)?;
    fields(out, &head.fields)
}

fn unreachable(out: &mut String, explanation: &Explanation<'_>, all: &[Unreachable]) -> std::fmt::Result {
    if all.is_empty() {
        return writeln!(out, "Every route can be reached.");
    }
    writeln!(out, "Routes that no request reaches:")?;
    for Unreachable { route, by } in all {
        let (place, other) = (explanation.place(&route.at), explanation.place(&by.at));
        writeln!(out, "  {} ({place}): `{}` ({other}) takes all that it matches", route.name, by.name)?;
    }
    Ok(())
}
