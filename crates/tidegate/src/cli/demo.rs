//! `tidegate demo`.

use std::io;

use super::{Console, Outcome};
use crate::demo::{Demo, Services};
use crate::operations::{Failure, Operations};
use crate::signals::Signals;

/// Start three small services and a gateway in front of them
///
/// Everything runs in this process and listens on this machine only. It prints the configuration, the addresses and five requests
/// worth trying, and serves until Ctrl-C.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The gateway's port; the next free one is taken when it is in use
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

pub(super) fn demo(args: &Args, console: &mut Console<'_>) -> io::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let signals = Signals::new()?;
        let services = Services::start()?;
        let demo = Demo::prepare(&services, args.port)?;
        match Operations::start(demo.origin(), console.color) {
            Ok(operations) => {
                introduce(&demo, &services, console)?;
                Ok(operations.run(signals, false).await.map_or(Outcome::Done, Outcome::Killed))
            }
            Err(Failure::Configuration(text) | Failure::Machine(text)) => {
                writeln!(console.err, "error: {text}")?;
                Ok(Outcome::Problems)
            }
        }
    })
}

fn introduce(demo: &Demo, services: &Services, console: &mut Console<'_>) -> io::Result<()> {
    let out = &mut console.out;
    writeln!(out, "# The configuration of this gateway. Your own goes into a file: tidegate run gateway.yaml\n")?;
    writeln!(out, "{}", demo.yaml)?;
    writeln!(out, "gateway   http://{}", demo.address)?;
    writeln!(out, "admin     http://{}", demo.admin)?;
    writeln!(out, "services  users {}, orders {}, echo {}\n", services.users, services.orders, services.echo)?;
    writeln!(out, "Try, in another terminal:\n")?;
    let all = demo.to_try();
    let width = all.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    for (command, about) in all {
        writeln!(out, "  {command:<width$}   # {about}")?;
    }
    writeln!(out, "\nCtrl-C ends it. Requests appear here:\n")?;
    out.flush()
}
