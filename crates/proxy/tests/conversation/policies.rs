//! Policies between a request and its target: in their order, with replies and refusals passing them on the way up.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use tidegate_config::Config;
use tidegate_config::problem::{Path, Problems};
use tidegate_core::exchange::{Exchange, Reply};
use tidegate_core::policy::{
    Call, CallError, Chain, Decision, Gate, Guarded, Job, Link, Local, Phase, Policies, Shared, Stop, Table, World,
};
use tidegate_core::rejection::{Rejection, RejectionKind};
use tidegate_http1::{RequestHead, ResponseHead};

use super::world::{settle, tell_by};

const TWO: &str = "
services: { one: { url: http://one.test:80, retry: off }, judge: { url: http://judge.test:80, retry: off } }
routes:
  - { name: a, match: { path: /a, methods: [PUT] }, service: one }
  - { name: shadowed, match: { path: /shadowed }, service: one }
";

/// Routes have a gate that does what the field `x-do` asks for, and so have replies of the router; the route `shadowed` has it
/// in shadow mode.
struct Obliging;

struct Gatekeeper;

impl Table for Obliging {
    fn build(&self, config: &Config, shared: &Arc<Shared>) -> (Policies, Problems) {
        let chain = |name: &Arc<str>| {
            let link = Link {
                phase: Phase::Edge,
                policy: "obey",
                name: "".into(),
                gate: Arc::new(Gatekeeper),
                shadow: **name == *"shadowed",
                tally: shared.tally((Arc::clone(name), "obey", "".into())),
                at: Path::root(),
            };
            Arc::new(Chain::new(vec![link]))
        };
        let policies = Policies {
            routes: config.routes.iter().map(|route| chain(&route.name)).collect(),
            router: chain(&"".into()),
            guarded: Guarded::new(["x-user"]),
            jobs: vec![shared.keep("asking", || Asking) as Arc<dyn Job>],
        };
        (policies, Problems::new())
    }
}

impl Gate for Gatekeeper {
    fn check<'a>(&'a self, exchange: &'a mut Exchange, world: &'a dyn World) -> Decision<'a> {
        match exchange.head.fields.text("x-do") {
            Some("refuse") => Decision::refuse(Rejection::new(RejectionKind::Forbidden, "told_so", "As you wish")),
            Some("answer") => Decision::Ready(Err(Stop::Answer(Box::new(Reply::new(StatusCode::NO_CONTENT))))),
            Some("tell") => {
                exchange.told.push(("x-user".into(), b"real".to_vec()));
                Decision::PASS
            }
            Some("ask") => Decision::Wait(Box::pin(ask(world))),
            Some("wait") => Decision::Wait(Box::pin(async {
                world.sleep(world.now() + Duration::from_secs(3)).await;
                Ok(())
            })),
            _ => Decision::PASS,
        }
    }

    fn answers_preflights(&self) -> bool {
        true
    }

    fn reply(&self, _: &Exchange, reply: &mut ResponseHead) {
        reply.fields.append("x-seen", b"1").unwrap();
    }
}

async fn ask(world: &dyn World) -> Result<(), Stop> {
    let head = RequestHead { method: Method::POST, target: "/verify".into(), ..RequestHead::default() };
    let deadline = world.now() + Duration::from_secs(2);
    let call = Call { head, body: Bytes::from_static(b"who?"), deadline, retry: None, most: 16 };
    match world.call("judge", call).await {
        Ok(answer) if answer.body == "pass" => Ok(()),
        Ok(answer) => Err(Rejection::new(RejectionKind::Forbidden, "judged", answer.status.to_string()).into()),
        Err(error) => {
            let code = match error {
                CallError::Down(_) => "judge_down",
                CallError::Odd(_) => "judge_odd",
                CallError::Unasked(_) => "judge_unasked",
            };
            Err(Rejection::new(RejectionKind::Unavailable, code, "Nobody can tell").cause(error.to_string()).into())
        }
    }
}

/// Asks the judge every minute.
struct Asking;

impl Job for Asking {
    fn run<'a>(&'a self, world: &'a dyn World) -> Local<'a, ()> {
        Box::pin(async {
            loop {
                world.sleep(world.now() + Duration::from_mins(1)).await;
                ask(world).await.ok();
            }
        })
    }
}

fn request(path: &str, fields: &str) -> String {
    format!("PUT {path} HTTP/1.1\r\nHost: x.test\r\nConnection: close\r\n{fields}\r\n")
}

#[test]
fn a_gate_refuses_and_its_own_fields_are_on_the_refusal() {
    tell_by(TWO, &Obliging, |world| async move {
        let mut client = world.client();
        client.say(&request("/a", "x-do: refuse\r\n")).await;
        let answer = client.answer().await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(answer.contains("told_so") && answer.contains("x-seen: 1"), "{answer}");
        assert!(!world.was_called().await);
        let refusals = "tidegate_policy_refusals_total{route=\"a\",policy=\"obey\",name=\"\"}";
        assert_eq!(world.metric(refusals).as_deref(), Some("1"));
    });
}

#[test]
fn a_gate_answers_instead_of_the_service() {
    tell_by(TWO, &Obliging, |world| async move {
        let mut client = world.client();
        client.say(&request("/a", "x-do: answer\r\n")).await;
        assert!(client.answer().await.starts_with("HTTP/1.1 204"));
        assert!(!world.was_called().await);
    });
}

#[test]
fn what_a_gate_in_shadow_mode_would_refuse_passes_and_is_counted() {
    tell_by(TWO, &Obliging, |world| async move {
        let mut client = world.client();
        client.say(&request("/shadowed", "x-do: refuse\r\n")).await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        endpoint.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        assert!(client.answer().await.starts_with("HTTP/1.1 200"));
        let would = "tidegate_policy_would_refuse_total{route=\"shadowed\",policy=\"obey\",name=\"\"}";
        assert_eq!(world.metric(would).as_deref(), Some("1"));
    });
}

#[test]
fn replies_that_the_router_makes_pass_the_policies_of_the_whole_gateway() {
    tell_by(TWO, &Obliging, |world| async move {
        let mut client = world.client();
        client.say(&request("/nowhere", "")).await;
        let answer = client.answer().await;
        assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("x-seen: 1"), "{answer}");
        let mut client = world.client();
        client.say(&request("/nowhere", "x-do: refuse\r\n")).await;
        assert!(client.answer().await.starts_with("HTTP/1.1 403"));
    });
}

#[test]
fn a_preflight_is_for_the_route_of_the_request_that_it_asks_about() {
    tell_by(TWO, &Obliging, |world| async move {
        // The router's own answer to OPTIONS tells the methods.
        for (asked, by_route) in [("PUT", true), ("POST", false)] {
            let mut client = world.client();
            let wish = if by_route { "x-do: answer\r\n" } else { "" };
            let fields = format!("Origin: http://b\r\nAccess-Control-Request-Method: {asked}\r\n{wish}");
            client.say(&request("/a", &fields).replace("PUT /a", "OPTIONS /a")).await;
            let answer = client.answer().await.to_lowercase();
            assert!(answer.starts_with("http/1.1 204"), "{answer}");
            assert_eq!(!answer.contains("allow:"), by_route, "{asked}: {answer}");
        }
    });
}

#[test]
fn what_services_are_told_cannot_be_forged_or_dropped_by_the_client() {
    tell_by(TWO, &Obliging, |world| async move {
        let mut client = world.client();
        let forged = "x-user: a\r\nX_User: b\r\nx.user: c\r\nConnection: x-user\r\n";
        client.say(&request("/a", &format!("x-do: tell\r\n{forged}"))).await;
        let mut endpoint = world.endpoint().await;
        let head = endpoint.head().await.to_lowercase();
        assert!(head.contains("x-user: real\r\n"), "{head}");
        assert!(!head.contains("x_user") && !head.contains("x.user") && head.matches("x-user").count() == 1, "{head}");
    });
}

#[test]
fn a_trailer_cannot_say_who_the_caller_is() {
    tell_by(TWO, &Obliging, |world| async move {
        let mut client = world.client();
        let body = "3\r\nabc\r\n0\r\nx_user: forged\r\nx-checksum: 1\r\n\r\n";
        client.say(&format!("{}{body}", request("/a", "Transfer-Encoding: chunked\r\nTE: trailers\r\n"))).await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        let body = endpoint.hear_until("\r\n\r\n").await;
        assert!(body.contains("x-checksum: 1") && !body.contains("forged"), "{body}");
    });
}

#[test]
fn a_gate_asks_a_service_and_goes_by_its_answer() {
    tell_by(TWO, &Obliging, |world| async move {
        let mut client = world.client();
        client.say(&request("/a", "x-do: ask\r\nCookie: secret\r\n")).await;
        let (authority, mut judge) = world.called().await;
        assert_eq!(authority, "judge.test");
        let asked = judge.hear_until("who?").await;
        assert!(asked.starts_with("POST /verify HTTP/1.1\r\n") && asked.contains("content-length: 4"), "{asked}");
        assert!(!asked.contains("secret"), "{asked}");
        judge.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npass").await;
        let (authority, _one) = world.called().await;
        assert_eq!(authority, "one.test");
    });
}

#[test]
fn a_service_that_does_not_answer_a_gate_in_time_is_not_waited_for() {
    tell_by(TWO, &Obliging, |world| async move {
        let mut client = world.client();
        client.say(&request("/a", "x-do: ask\r\n")).await;
        let (_, mut judge) = world.called().await;
        judge.hear_until("who?").await;
        world.pass(Duration::from_secs(2)).await;
        let answer = client.answer().await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("judge_down"), "{answer}");
    });
}

#[test]
fn an_answer_longer_than_a_gate_wants_is_not_taken() {
    tell_by(TWO, &Obliging, |world| async move {
        let mut client = world.client();
        client.say(&request("/a", "x-do: ask\r\n")).await;
        let (_, mut judge) = world.called().await;
        judge.hear_until("who?").await;
        judge.say("HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\naaaaaaaaaaaaaaaaa").await;
        assert!(client.answer().await.contains("judge_odd"));
    });
}

#[test]
fn an_answer_that_is_no_answer_is_no_outage() {
    for said in ["HTTP/1.1 401 No\r\nContent-Length: 9\r\n\r\npa", "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n"] {
        tell_by(TWO, &Obliging, move |world| async move {
            let mut client = world.client();
            client.say(&request("/a", "x-do: ask\r\n")).await;
            let (_, mut judge) = world.called().await;
            judge.hear_until("who?").await;
            judge.say(said).await;
            world.pass(Duration::from_secs(2)).await;
            let answer = client.answer().await;
            assert!(answer.contains("judge_odd"), "{said}: {answer}");
        });
    }
}

#[test]
fn a_service_that_has_no_room_for_a_question_is_no_outage() {
    let one_at_once = TWO.replace("judge.test:80, ", "judge.test:80, concurrency: { max: 1, queue: 0 }, ");
    tell_by(&one_at_once, &Obliging, |world| async move {
        let (mut first, mut second) = (world.client(), world.client());
        first.say(&request("/a", "x-do: ask\r\n")).await;
        let (_, mut judge) = world.called().await;
        judge.hear_until("who?").await;
        second.say(&request("/a", "x-do: ask\r\n")).await;
        let answer = second.answer().await;
        assert!(answer.contains("judge_unasked"), "{answer}");
        judge.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno").await;
        assert!(first.answer().await.contains("judged"));
    });
}

#[test]
fn a_gate_can_let_a_request_wait() {
    tell_by(TWO, &Obliging, |world| async move {
        let mut client = world.client();
        client.say(&request("/a", "x-do: wait\r\n")).await;
        assert!(!world.was_called().await);
        world.pass(Duration::from_secs(3)).await;
        assert!(world.was_called().await);
    });
}

#[test]
fn a_job_goes_on_over_a_reload_that_keeps_it() {
    tell_by(TWO, &Obliging, |world| async move {
        settle().await;
        world.pass(Duration::from_secs(30)).await;
        world.reload(TWO);
        world.pass(Duration::from_secs(30)).await;
        assert!(world.endpoint_of("judge.test").await.is_some());
    });
}
