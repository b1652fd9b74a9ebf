//! An explanation for people.

use std::fmt::Write;

use tidegate_http1::RequestHead;

use super::request::{Answer, Explained, Line};
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
    answer(out, &explained.answer)?;
    if !explained.phases.is_empty() {
        writeln!(out, "\nOn the way:")?;
    }
    let mut last = "";
    for (phase, what) in &explained.phases {
        let shown = if *phase == last { "" } else { phase };
        writeln!(out, "  {shown:<10} {what}")?;
        last = phase;
    }
    if let Answer::Forwarded { head, .. } = &explained.answer {
        sent(out, head)?;
    }
    Ok(())
}

fn routes(out: &mut String, explanation: &Explanation<'_>, lines: &[Line]) -> std::fmt::Result {
    let name_width = lines.iter().map(|line| line.route.name.len()).max().unwrap_or_default();
    let places: Vec<_> = lines.iter().map(|line| explanation.place(&line.route)).collect();
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

fn answer(out: &mut String, answer: &Answer) -> std::fmt::Result {
    match answer {
        Answer::Forwarded { route, services, .. } => {
            let one_of = if services.len() > 1 { "one of: " } else { "" };
            writeln!(out, "Answer: route `{}` sends it to {one_of}{}", route.name, services.join("; "))
        }
        Answer::Replied { by, status, fields, bytes } => {
            writeln!(out, "Answer: {status} by {by}")?;
            for (name, value) in fields {
                writeln!(out, "  {name}: {value}")?;
            }
            if *bytes > 0 { writeln!(out, "  ({bytes} bytes)") } else { Ok(()) }
        }
        Answer::Refused(rejection) => {
            writeln!(out, "Answer: {} {}: {}", rejection.status().as_u16(), rejection.code, rejection.detail)?;
            for field in &*rejection.fields {
                writeln!(out, "  {}: {}", field.name, String::from_utf8_lossy(field.value))?;
            }
            match &rejection.cause {
                Some(cause) => writeln!(out, "  because {cause}"),
                None => Ok(()),
            }
        }
    }
}

fn sent(out: &mut String, head: &RequestHead) -> std::fmt::Result {
    writeln!(out, "\nWhat the service gets (the request id is made anew each time):")?;
    writeln!(out, "  {} {} HTTP/1.1", head.method, head.target)?;
    for field in &head.fields {
        writeln!(out, "  {}: {}", field.name, String::from_utf8_lossy(field.value))?;
    }
    Ok(())
}

fn unreachable(out: &mut String, explanation: &Explanation<'_>, all: &[Unreachable]) -> std::fmt::Result {
    if all.is_empty() {
        return writeln!(out, "Every route can be reached.");
    }
    writeln!(out, "Routes that no request reaches:")?;
    for Unreachable { route, by } in all {
        let (place, other) = (explanation.place(route), explanation.place(by));
        writeln!(out, "  {} ({place}): `{}` ({other}) takes all that it matches", route.name, by.name)?;
    }
    Ok(())
}
