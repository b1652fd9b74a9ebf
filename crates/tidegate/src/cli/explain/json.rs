//! An explanation for programs.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tidegate_core::rejection::Rejection;
use tidegate_http1::Fields;

use super::Explanation;
use super::policies::{Decided, Says};
use super::request::{Answer, Caller, Explained, Line};

pub(super) fn of(explanation: &Explanation<'_>) -> Value {
    let mut all = Map::new();
    if let Some(explained) = &explanation.request {
        all.insert("request".into(), request(explained));
        let routes = explained.lines.iter().map(|line| route(explanation, line));
        all.insert("routes".into(), routes.collect());
        if let Some(known) = &explained.caller {
            all.insert("caller".into(), caller(known));
        }
        all.insert("policies".into(), explained.policies.iter().map(|decided| policy(explanation, decided)).collect());
        all.insert("answer".into(), answer(&explained.answer));
        let phases = explained.phases.iter().map(|(phase, what)| json!({ "phase": phase, "what": what }));
        all.insert("phases".into(), phases.collect());
    }
    if let Some(unreachable) = &explanation.unreachable {
        let each = unreachable.iter().map(|one| {
            let place = explanation.place(&one.route.at);
            json!({ "name": *one.route.name, "place": place, "by": *one.by.name })
        });
        all.insert("unreachable".into(), each.collect());
    }
    Value::Object(all)
}

fn request(explained: &Explained) -> Value {
    let asked = &explained.request;
    json!({
        "method": asked.method,
        "url": asked.url,
        "host": asked.host,
        "path": asked.path,
        "client": asked.client.to_string(),
        "listener": *asked.listener,
    })
}

fn route(explanation: &Explanation<'_>, line: &Line) -> Value {
    let place = explanation.place(&line.route.at);
    match &line.verdict {
        Ok(rank) => json!({ "name": *line.route.name, "place": place, "taken": line.taken, "rank": rank }),
        Err(mismatch) => json!({ "name": *line.route.name, "place": place, "taken": false, "mismatch": mismatch }),
    }
}

fn caller(caller: &Caller) -> Value {
    let Caller { assumed, is_asked } = caller;
    let who = &assumed.identity;
    let list = |texts: &[Arc<str>]| texts.iter().map(|text| json!(**text)).collect::<Value>();
    json!({
        "read_as": assumed.reading.to_string(),
        "is_asked": is_asked,
        "way": *who.way,
        "user": who.user.as_deref(),
        "roles": list(&who.roles),
        "permissions": list(&who.permissions),
        "scopes": list(&who.scopes),
        "tenant": who.tenant.as_deref(),
    })
}

fn policy(explanation: &Explanation<'_>, decided: &Decided) -> Value {
    let Decided { link, words, says } = decided;
    let (says, more) = match says {
        Says::Pass => ("pass", json!({})),
        Says::Refuse(rejection) => ("refuse", refusal(rejection)),
        Says::Answer(status) => ("answer", json!({ "status": status })),
        Says::Unknown(asks) => ("unknown", json!({ "asks": asks })),
        Says::Assumed => ("assumed", json!({})),
        Says::Depends => ("depends_on_caller", json!({})),
        Says::NotReached => ("not_reached", json!({})),
    };
    let mut all = json!({
        "phase": link.phase.as_str(),
        "policy": link.policy,
        "name": *link.name,
        "place": explanation.place(&link.at),
        "level": explanation.document.level(&link.at),
        "shadow": link.shadow,
        "decides_by": words,
        "says": says,
    });
    if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
        all.extend(more);
    }
    all
}

fn refusal(rejection: &Rejection) -> Value {
    json!({
        "status": rejection.status().as_u16(),
        "code": rejection.code,
        "detail": rejection.detail,
        "cause": rejection.cause,
        "headers": fields(&rejection.fields),
    })
}

fn answer(answer: &Answer) -> Value {
    match answer {
        Answer::Forwarded { route, services, head, reply } => json!({
            "route": *route.name,
            "services": services,
            "sent": { "method": head.method.as_str(), "target": head.target, "headers": fields(&head.fields) },
            "added_to_reply": fields(reply),
        }),
        Answer::Replied { by, status, fields: all, bytes } => {
            json!({ "by": by, "status": status, "headers": fields(all), "bytes": bytes })
        }
        Answer::Refused(rejection) => refusal(rejection),
    }
}

fn fields(fields: &Fields) -> Vec<(String, String)> {
    fields.iter().map(|field| (field.name.to_owned(), String::from_utf8_lossy(field.value).into_owned())).collect()
}
