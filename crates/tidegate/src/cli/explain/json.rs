//! An explanation for programs.

use serde_json::{Map, Value, json};
use tidegate_http1::Fields;

use super::Explanation;
use super::request::{Answer, Explained, Line};

pub(super) fn of(explanation: &Explanation<'_>) -> Value {
    let mut all = Map::new();
    if let Some(explained) = &explanation.request {
        all.insert("request".into(), request(explained));
        let routes = explained.lines.iter().map(|line| route(explanation, line));
        all.insert("routes".into(), routes.collect());
        all.insert("answer".into(), answer(&explained.answer));
        let phases = explained.phases.iter().map(|(phase, what)| json!({ "phase": phase, "what": what }));
        all.insert("phases".into(), phases.collect());
    }
    if let Some(unreachable) = &explanation.unreachable {
        let each = unreachable.iter().map(|one| {
            let place = explanation.place(&one.route);
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
    let place = explanation.place(&line.route);
    match &line.verdict {
        Ok(rank) => json!({ "name": *line.route.name, "place": place, "taken": line.taken, "rank": rank }),
        Err(mismatch) => json!({ "name": *line.route.name, "place": place, "taken": false, "mismatch": mismatch }),
    }
}

fn answer(answer: &Answer) -> Value {
    match answer {
        Answer::Forwarded { route, services, head } => json!({
            "route": *route.name,
            "services": services,
            "sent": { "method": head.method.as_str(), "target": head.target, "headers": fields(&head.fields) },
        }),
        Answer::Replied { by, status, fields, bytes } => {
            json!({ "by": by, "status": status, "headers": fields, "bytes": bytes })
        }
        Answer::Refused(rejection) => json!({
            "status": rejection.status().as_u16(),
            "code": rejection.code,
            "detail": rejection.detail,
            "cause": rejection.cause,
            "headers": fields(&rejection.fields),
        }),
    }
}

fn fields(fields: &Fields) -> Vec<(String, String)> {
    fields.iter().map(|field| (field.name.to_owned(), String::from_utf8_lossy(field.value).into_owned())).collect()
}
