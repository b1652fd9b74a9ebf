//! What the policies on a request's way say to it. Each is asked by a chain of its own, so that what comes after a refusal can be told too;
//! the chain is the one that serves requests. No policy is known by name here.

use std::sync::Arc;

use tidegate_core::exchange::Exchange;
use tidegate_core::identity::Identity;
use tidegate_core::policy::{Chain, Link, Phase, Stop};
use tidegate_core::rejection::Rejection;

use super::still::Still;

/// A policy, and what it says.
pub(super) struct Decided {
    pub(super) link: Link,
    /// What it decides by.
    pub(super) words: String,
    pub(super) says: Says,
}

/// What a policy says to a request.
pub(super) enum Says {
    Pass,
    Refuse(Box<Rejection>),
    /// It answers itself, with this status.
    Answer(u16),
    /// These would have to answer first; nobody by name is somebody outside all the same.
    Unknown(Vec<String>),
    /// Who calls is taken as proved.
    Assumed,
    /// It is asked only when it is known who calls.
    Depends,
    /// The request does not come so far.
    NotReached,
}

/// What all links of the chain say, in their order, and what stops the request, if nothing has `stopped` it before. A caller who is `assumed` is who it is, whatever those say that
/// find it out.
pub(super) fn decide(
    chain: &Chain,
    exchange: &mut Exchange,
    assumed: Option<&Arc<Identity>>,
    mut stopped: Option<Stop>,
) -> (Vec<Decided>, Option<Stop>) {
    let (world, mut unknown) = (Still::now(), false);
    let mut decided = Vec::with_capacity(chain.links().len());
    for link in chain.links() {
        let says = if stopped.is_some() {
            Says::NotReached
        } else if unknown && link.phase > Phase::Authenticate {
            Says::Depends
        } else {
            let (says, stop) = ask(link, exchange, &world);
            if let Some(assumed) = assumed.filter(|_| link.phase == Phase::Authenticate) {
                exchange.identity = Some(Arc::clone(assumed));
                Says::Assumed
            } else {
                stopped = stop;
                says
            }
        };
        unknown |= link.phase == Phase::Authenticate && matches!(says, Says::Unknown(_));
        decided.push(Decided { link: link.clone(), words: link.gate.describe(exchange), says });
    }
    (decided, stopped)
}

fn ask(link: &Link, exchange: &mut Exchange, world: &Still) -> (Says, Option<Stop>) {
    // In shadow mode a chain keeps to itself what was said.
    let chain = Chain::new(vec![Link { shadow: false, ..link.clone() }]);
    match world.finish(chain.check(exchange, world)) {
        Err(asked) => (Says::Unknown(asked), None),
        Ok(Ok(())) => (Says::Pass, None),
        Ok(Err(Stop::Refuse(rejection))) => {
            let stop = (!link.shadow).then(|| Stop::Refuse(rejection.clone()));
            (Says::Refuse(rejection), stop)
        }
        Ok(Err(Stop::Answer(reply))) => (Says::Answer(reply.head.status.as_u16()), Some(Stop::Answer(reply))),
    }
}
