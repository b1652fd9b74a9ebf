//! `tidegate explain`: what the gateway would do with a request, by the very code that does it, without sending anything.

mod json;
mod policies;
mod request;
mod shaping;
mod still;
mod text;

use std::fs;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};
use tidegate_config::config::Route;
use tidegate_config::{Disk, Document, Failure, Inputs, Loaded, Problems, problem};
use tidegate_core::policy::Table as _;
use tidegate_core::query;
use tidegate_core::route::Router;
use tidegate_policies::{TABLE, VOCABULARY};

use super::check::Format;
use super::input::{self, Kept};
use super::{Console, Outcome};
use request::{Explained, Gateway};

/// Say which route a request takes, why no other, and what its policies decide
///
/// Shows every route with its rank, or the one condition that the request does not meet; the route that is taken; each of its policies,
/// with where it was written and what it says to this request; what is done on the way; and the request as the service gets it. Nothing
/// is sent, and nobody is asked: where a policy would ask a service, that is said, and it goes on as if the answer were yes. The code is
/// the one that serves requests.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  tidegate explain gateway.yaml GET https://api.example.com/users/7
  tidegate explain gateway.yaml GET /users/7 -H 'Host: api.example.com' -H 'x-beta: v2'
  tidegate explain gateway.yaml GET /admin --client-ip 10.1.2.3
  tidegate explain gateway.yaml GET /orders --as caller.json
  echo '{\"user\": \"ann\", \"roles\": [\"admin\"]}' | tidegate explain gateway.yaml GET /orders --as -
  tidegate explain gateway.yaml --all               # the routes that no request can reach

Exit codes:
  0  explained, whatever the answer is
  1  the configuration has problems
  2  the command line is wrong, or the file cannot be read")]
pub(super) struct Args {
    /// The configuration file, YAML or JSON
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The request's method
    #[arg(required_unless_present = "all", requires = "url")]
    method: Option<String>,

    /// The request's URL; a path alone goes to the first listener, with `Host: localhost` unless a header says otherwise
    #[arg(required_unless_present = "all")]
    url: Option<String>,

    /// A header of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,

    /// The address that the connection comes from
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    client_ip: IpAddr,

    /// The listener that the connection comes to; without it, the first that speaks the URL's scheme
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,

    /// A JSON file (`-` is standard input) with the caller, who is taken as proved whatever the request shows
    ///
    /// An object that has only keys out of `user`, `roles`, `permissions`, `scopes`, `tenant`, `claims`, `way`, `expires` and `rate` is the
    /// caller's identity. Any other object is the claims of a token: the first `jwt` way of the route says which claim means what.
    #[arg(long = "as", value_name = "FILE", requires = "url")]
    caller: Option<PathBuf>,

    /// List the routes that no request can reach: dead ones, and those behind one of higher priority
    #[arg(long)]
    all: bool,

    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

pub(super) fn explain(args: &Args, environment: &[(String, String)], console: &mut Console<'_>) -> io::Result<Outcome> {
    let source = Kept::new(&args.file, Disk);
    if let Some(outcome) = input::unreadable(&args.file, &source, console)? {
        return Ok(outcome);
    }
    let loaded =
        tidegate_config::load(&Inputs { file: &args.file, source: &source, env: environment, vocabulary: &VOCABULARY });
    let Loaded { config, document, .. } = match loaded {
        Ok(loaded) => loaded,
        Err(Failure { document, problems, .. }) => return refuse(args, &document, &problems, console),
    };
    // Routes that can never match are problems to `check`; here they are part of what is to be explained.
    let (router, _) = Router::build(&config.routes);
    let (policies, problems) = TABLE.build(&config, &Arc::default());
    if problems.has_errors() {
        return refuse(args, &document, &problems, console);
    }
    let gateway = Gateway { config: &config, router: &router, policies: &policies };
    let caller = args.caller.as_deref().map(caller).transpose();
    let request = match caller.and_then(|caller| request::explain(args, caller, &gateway)) {
        Ok(request) => request,
        Err(why) => {
            writeln!(console.err, "error: {why}")?;
            return Ok(Outcome::Usage);
        }
    };
    let unreachable = args.all.then(|| unreachable(&router));
    let explanation = Explanation { document: &document, request, unreachable };
    let told = match args.format {
        Format::Text => text::of(&explanation),
        Format::Json => format!("{:#}\n", json::of(&explanation)),
    };
    console.out.write_all(covered(told, document.from_files()).as_bytes())?;
    Ok(Outcome::Done)
}

/// The explanation without what came from files (`${file:...}`), in every spelling that it may have got on the way: explanations are passed
/// on. The longest first, for one may be a part of another.
fn covered(told: String, secrets: &[String]) -> String {
    let mut spellings = Vec::new();
    for secret in secrets {
        let mut encoded = String::new();
        query::encode(secret.as_bytes(), &mut encoded);
        let quoted = Value::from(secret.as_str()).to_string();
        spellings.extend([secret.clone(), encoded, quoted.trim_matches('"').to_owned()]);
    }
    spellings.sort_unstable_by_key(|spelling| std::cmp::Reverse(spelling.len()));
    spellings.iter().fold(told, |told, spelling| told.replace(spelling, "***"))
}

fn refuse(args: &Args, document: &Document, problems: &Problems, console: &mut Console<'_>) -> io::Result<Outcome> {
    writeln!(console.err, "{}", document.render(problems, console.color).trim_end())?;
    writeln!(console.err, "\n{}", input::summary(&args.file, document, problems))?;
    Ok(Outcome::Problems)
}

/// The object in a file.
fn caller(file: &Path) -> Result<Map<String, Value>, String> {
    let read = if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(file)
    };
    let text = read.map_err(|error| format!("--as {}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("--as {} is no JSON object: {error}", file.display()))
}

/// All that is to be said.
struct Explanation<'a> {
    document: &'a Document,
    request: Option<Explained>,
    unreachable: Option<Vec<Unreachable>>,
}

/// A route that no request reaches.
struct Unreachable {
    route: Arc<Route>,
    by: Arc<Route>,
}

impl Explanation<'_> {
    /// `gateway.yaml:12`
    fn place(&self, at: &problem::Path) -> String {
        self.document.locate(at).map_or_else(|| "environment".to_owned(), |location| location.to_string())
    }
}

fn unreachable(router: &Router) -> Vec<Unreachable> {
    let all = router.shadowed().into_iter();
    all.map(|one| Unreachable { route: Arc::clone(one.route), by: Arc::clone(one.by) }).collect()
}
