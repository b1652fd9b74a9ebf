//! `tidegate keys`: the keys in a file, whether or not a gateway follows it at the same time.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_config::value;
use tidegate_core::clock::Clock;
use tidegate_core::keys::Record;

use super::check::Format;
use super::{Console, Outcome};
use crate::keys::{Draft, Ends, Issued, Refused, Store, moment_of, shown};

/// Make, list, rotate and revoke API keys
///
/// Keys are kept in a file, each as a line with the SHA-256 of the key and what is known of its owner. Several processes may use the
/// file at once: a gateway that follows it knows of a change within a second, without a reload. The key itself is printed when it is
/// made or rotated, and never again.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_long_help = "Examples:
  tidegate keys create keys.db --name ci --role deploy --expires 90d
  tidegate keys list keys.db
  tidegate keys rotate keys.db 4x7qk2mh --grace 24h    # the old one works for another day
  tidegate keys revoke keys.db 4x7qk2mh

Exit codes:
  0  done
  1  there is no such key, or what was asked for makes no sense
  2  the command line is wrong, or the file cannot be read or written"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a key and print it, this once
    ///
    /// The key goes to standard output, everything else to standard error. The file is made, for its owner alone, if there is none:
    /// give it to the user that the gateway runs as.
    #[command(after_long_help = "Examples:
  tidegate keys create keys.db --name ci --role deploy --role read
  tidegate keys create keys.db --name acme --tenant acme --scope orders --rate 100/s --expires 90d
  KEY=$(tidegate keys create keys.db --name ci)")]
    Create {
        #[command(flatten)]
        file: FileArg,
        #[command(flatten)]
        draft: Draft,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Show all keys
    ///
    /// Revoked keys are among them until the file is written anew, which is when more than a thousand of its lines, and more than
    /// half, say nothing any more.
    List {
        #[command(flatten)]
        file: FileArg,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Show all that is known of a key
    Show {
        #[command(flatten)]
        key: KeyArgs,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Give a key a new secret and print it, this once
    ///
    /// Its id and all that is known of it stay as they are.
    Rotate {
        #[command(flatten)]
        key: KeyArgs,
        /// For how long the old secret stays valid. One that was replaced before that ends now
        #[arg(long, value_name = "TIME", default_value = "0s")]
        grace: value::Duration,
        #[command(flatten)]
        format: FormatArg,
    },
    /// End a key for good
    Revoke {
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Say when a key ends
    ///
    /// A key that has ended lives again if its new end is ahead; one that was revoked does not.
    #[command(after_long_help = "Examples:
  tidegate keys expire keys.db 4x7qk2mh --in 30d
  tidegate keys expire keys.db 4x7qk2mh --at 2027-01-31
  tidegate keys expire keys.db 4x7qk2mh --never")]
    Expire {
        #[command(flatten)]
        key: KeyArgs,
        #[command(flatten)]
        end: EndArgs,
    },
}

#[derive(Debug, clap::Args)]
struct FileArg {
    /// The file of keys
    #[arg(value_name = "FILE")]
    path: PathBuf,
}

#[derive(Debug, clap::Args)]
struct KeyArgs {
    #[command(flatten)]
    file: FileArg,

    /// The key's id: the eight characters after `tg_`
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Debug, clap::Args)]
struct FormatArg {
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct EndArgs {
    /// After this time from now: 12h, 30d
    #[arg(long = "in", value_name = "TIME")]
    after: Option<value::Duration>,

    /// At this moment: 2027-01-31, which is its beginning in UTC, or 2027-01-31T12:00:00Z
    #[arg(long, value_name = "DATE", value_parser = parse_moment)]
    at: Option<u64>,

    /// Not at all
    #[arg(long)]
    never: bool,
}

pub(super) fn keys(args: &Args, console: &mut Console<'_>) -> io::Result<Outcome> {
    perform(&args.command, Clock::System.wall(), console)
}

fn perform(command: &Command, now: Duration, console: &mut Console<'_>) -> io::Result<Outcome> {
    let path = match command {
        Command::Create { file, .. } | Command::List { file, .. } => &file.path,
        Command::Show { key, .. }
        | Command::Rotate { key, .. }
        | Command::Revoke { key }
        | Command::Expire { key, .. } => &key.file.path,
    };
    let store = Store { path, wait: true, now };
    let done = match command {
        Command::Create { draft, format, .. } => {
            store.create(draft).map(|issued| tell_key(&issued, (format.format, now), console))
        }
        Command::Rotate { key, grace, format } => {
            store.rotate(&key.id, grace.0).map(|issued| tell_key(&issued, (format.format, now), console))
        }
        Command::List { format, .. } => list(&store, format.format, console),
        Command::Show { key, format } => {
            store.one(&key.id).map(|record| tell_record(&record, (format.format, now), console))
        }
        Command::Revoke { key } => {
            store.revoke(&key.id).map(|record| writeln!(console.out, "{} is revoked", called(&record)))
        }
        Command::Expire { key, end } => store.expire(&key.id, end.ends()).map(|record| tell_end(&record, now, console)),
    };
    match done {
        Ok(written) => written.map(|()| Outcome::Done),
        Err(refused) => refuse(path, &refused, console),
    }
}

impl EndArgs {
    fn ends(&self) -> Ends {
        let after = self.after.map(|time| Ends::In(time.0));
        self.at.map(Ends::At).or(after).unwrap_or_default()
    }
}

fn parse_moment(text: &str) -> Result<u64, &'static str> {
    moment_of(text).ok_or("expected a date such as `2027-01-31`, or `2027-01-31T12:00:00Z`")
}

/// The one time that a key is shown.
fn tell_key(issued: &Issued, (format, now): (Format, Duration), console: &mut Console<'_>) -> io::Result<()> {
    let Issued { key, record } = issued;
    if format == Format::Json {
        let mut value = shown(record, now);
        if let Some(object) = value.as_object_mut() {
            object.insert("key".into(), (&**key).into());
        }
        return writeln!(console.out, "{value:#}");
    }
    writeln!(console.out, "{key}")?;
    writeln!(console.err, "This is {}. Keep it now: it is not shown again.", called(record))
}

fn list(store: &Store<'_>, format: Format, console: &mut Console<'_>) -> Result<io::Result<()>, Refused> {
    let journal = store.all()?;
    let records = journal.index().records();
    let values: Vec<Value> = records.into_iter().map(|record| shown(record, store.now)).collect();
    let written = match format {
        Format::Json => writeln!(console.out, "{:#}", json!({ "keys": values })),
        Format::Text => write_table(&values, console),
    };
    let warned = journal.broken().iter().try_for_each(|broken| {
        let (file, line, why) = (store.path.display(), broken.line, &broken.why);
        writeln!(console.err, "warning: {file}:{line}: the line cannot be read and does not count: {why}")
    });
    Ok(written.and(warned))
}

const COLUMNS: [&str; 7] = ["id", "name", "user", "roles", "state", "expires", "created"];

/// Each column as wide as its longest value.
fn write_table(values: &[Value], console: &mut Console<'_>) -> io::Result<()> {
    let head = COLUMNS.map(str::to_uppercase);
    let rows: Vec<_> = values.iter().map(|value| COLUMNS.map(|column| words(value.get(column)))).collect();
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|word| word.chars().count()).max();
    let widths: Vec<_> = (0..COLUMNS.len()).filter_map(width).collect();
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(word, width)| format!("{word:width$}")).collect();
        writeln!(console.out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

fn tell_record(record: &Record, (format, now): (Format, Duration), console: &mut Console<'_>) -> io::Result<()> {
    let value = shown(record, now);
    if format == Format::Json {
        return writeln!(console.out, "{value:#}");
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        writeln!(console.out, "{:17} {}", format!("{}:", name.replace('_', " ")), words(Some(value)))?;
    }
    Ok(())
}

/// A value in a line of text; `-` is nothing.
fn words(value: Option<&Value>) -> String {
    let text = match value {
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        Some(Value::String(text)) => text.clone(),
        Some(value @ (Value::Number(_) | Value::Bool(_) | Value::Object(_))) => value.to_string(),
        Some(Value::Null) | None => String::new(),
    };
    if text.is_empty() { "-".into() } else { text }
}

fn tell_end(record: &Record, now: Duration, console: &mut Console<'_>) -> io::Result<()> {
    let value = shown(record, now);
    match value.get("expires").and_then(Value::as_str) {
        None => writeln!(console.out, "{} does not end", called(record)),
        Some(end) if record.validity(now).is_ok() => writeln!(console.out, "{} ends at {end}", called(record)),
        Some(end) => writeln!(console.out, "{} ended at {end}", called(record)),
    }
}

/// `the key 4x7qk2mh of ci`.
fn called(record: &Record) -> String {
    format!("the key {} ({})", record.id, record.name)
}

fn refuse(path: &Path, refused: &Refused, console: &mut Console<'_>) -> io::Result<Outcome> {
    let file = path.display();
    match refused {
        Refused::File(_) => {
            writeln!(console.err, "error: {file}: {refused}")?;
            Ok(Outcome::Usage)
        }
        Refused::NoSuchKey => {
            writeln!(console.err, "error: {refused} in {file}; `tidegate keys list {file}` shows what there is")?;
            Ok(Outcome::Problems)
        }
        Refused::Ended(_) | Refused::Wrong(_) | Refused::Busy | Refused::NoRandomness => {
            writeln!(console.err, "error: {refused}")?;
            Ok(Outcome::Problems)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;
    use crate::cli::{self, Cli};
    use crate::keys::tests::{Folder, told};

    /// What a command wrote and how it ended.
    struct Ran {
        out: String,
        err: String,
        outcome: Outcome,
    }

    /// `tidegate keys COMMAND FILE ARGS` at a second of 1970.
    fn keys(second: u64, command: &str, file: &Path, args: &[&str]) -> Ran {
        let file = file.to_str().expect("a plain path");
        let line = ["tidegate", "keys", command, file].into_iter().chain(args.iter().copied());
        let cli = Cli::try_parse_from(line).expect("a valid command line");
        let cli::Command::Keys(args) = cli.command else { panic!("{command}") };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console { out: Box::new(&mut out), err: Box::new(&mut err), color: false };
        let outcome = perform(&args.command, Duration::from_secs(second), &mut console).expect("written to memory");
        drop(console);
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Ran { out: text(out), err: text(err), outcome }
    }

    fn json(ran: &Ran) -> Value {
        assert_eq!((&*ran.err, ran.outcome), ("", Outcome::Done));
        serde_json::from_str(&ran.out).expect("JSON")
    }

    #[test]
    fn a_key_is_printed_once_and_alone() {
        let folder = Folder::new("cli-once");
        let file = folder.file();
        let ran = keys(100, "create", &file, &["--name", "ci", "--role", "deploy", "--role", "read"]);
        let key = ran.out.trim_end();
        let record = told(&file, key, 100).expect("it is valid");
        assert_eq!(record.roles.iter().map(|role| &**role).collect::<Vec<_>>(), ["deploy", "read"]);
        assert_eq!(ran.err, format!("This is the key {} (ci). Keep it now: it is not shown again.\n", record.id));
        let id = &*record.id;
        for (command, args) in [("list", &[][..]), ("show", &[id]), ("expire", &[id, "--in", "1d"]), ("revoke", &[id])]
        {
            let ran = keys(100, command, &file, args);
            assert_eq!(ran.outcome, Outcome::Done, "{}", ran.err);
            assert!(ran.out.contains(id) && !ran.out.contains(&key[12..]), "{}", ran.out);
        }
        assert!(!fs::read_to_string(&file).expect("a file").contains(&key[12..]));
    }

    #[test]
    fn all_that_was_said_of_a_key_is_kept() {
        let folder = Folder::new("cli-all");
        let file = folder.file();
        let args = [
            "--name",
            "acme",
            "--user",
            "acme-api",
            "--role",
            "r",
            "--permission",
            "p",
            "--scope",
            "s",
            "--tenant",
            "t",
            "--rate",
            "100",
            "--burst",
            "200",
            "--expires",
            "90d",
            "--format",
            "json",
        ];
        let made = json(&keys(86_400, "create", &file, &args));
        let id = made["id"].as_str().expect("an id");
        assert!(told(&file, made["key"].as_str().expect("a key"), 86_400).is_ok());
        let expected = json!({
            "id": id, "name": "acme", "user": "acme-api", "roles": ["r"], "permissions": ["p"], "scopes": ["s"], "tenant": "t",
            "rate": "100/s", "burst": 200, "state": "valid", "created": "1970-01-02T00:00:00Z", "rotated": null,
            "expires": "1970-04-02T00:00:00Z", "revoked": null, "old_secret_until": null,
        });
        assert_eq!(json(&keys(86_400, "show", &file, &[id, "--format", "json"])), expected);
        assert_eq!(json(&keys(86_400, "list", &file, &["--format", "json"])), json!({ "keys": [expected] }));
        let text = keys(86_400, "show", &file, &[id]).out;
        assert!(text.contains("rate:             100/s\n") && text.contains("revoked:          -\n"), "{text}");
    }

    #[test]
    fn a_list_says_of_each_key_how_it_stands() {
        let folder = Folder::new("cli-list");
        let file = folder.file();
        let made = |second, name, more: &[&str]| {
            let ran = keys(second, "create", &file, &[&["--name", name], more].concat());
            ran.out.get(3..11).expect("an id").to_owned()
        };
        let (lasting, ending) =
            (made(0, "lasting", &["--role", "a", "--role", "b"]), made(1, "ending", &["--expires", "10s"]));
        let revoked = made(2, "revoked", &[]);
        keys(3, "revoke", &file, &[&revoked]);
        fs::write(&file, fs::read_to_string(&file).expect("a file") + "rubbish\n").expect("written");
        let ran = keys(11, "list", &file, &[]);
        let expected = format!(
            "ID        NAME     USER     ROLES  STATE    EXPIRES               CREATED\n\
             {lasting}  lasting  lasting  a, b   valid    -                     1970-01-01T00:00:00Z\n\
             {ending}  ending   ending   -      expired  1970-01-01T00:00:11Z  1970-01-01T00:00:01Z\n\
             {revoked}  revoked  revoked  -      revoked  -                     1970-01-01T00:00:02Z\n",
        );
        assert_eq!(ran.out, expected);
        let warning = format!("warning: {}:5: the line cannot be read and does not count: ", file.display());
        assert!(ran.err.starts_with(&warning), "{}", ran.err);
        assert_eq!(ran.outcome, Outcome::Done);
    }

    #[test]
    fn a_rotated_key_is_a_new_one_of_the_same_id() {
        let folder = Folder::new("cli-rotate");
        let file = folder.file();
        let first = keys(0, "create", &file, &["--name", "ci"]).out;
        let id = &first[3..11];
        let second = keys(10, "rotate", &file, &[id, "--grace", "1h"]).out;
        assert_ne!(first, second);
        assert!(told(&file, first.trim_end(), 3_609).is_ok() && told(&file, first.trim_end(), 3_610).is_err());
        let third = json(&keys(20, "rotate", &file, &[id, "--format", "json"]));
        assert_eq!((&third["id"], &third["rotated"]), (&id.into(), &"1970-01-01T00:00:20Z".into()));
        assert!(
            told(&file, second.trim_end(), 20).is_err()
                && told(&file, third["key"].as_str().expect("a key"), 20).is_ok()
        );
    }

    #[test]
    fn an_end_can_be_moved_in_both_directions() {
        let folder = Folder::new("cli-end");
        let file = folder.file();
        let key = keys(0, "create", &file, &["--name", "ci"]).out;
        let id = &key[3..11];
        for (args, told) in [
            (&["--in", "1m"][..], "ends at 1970-01-01T00:01:10Z"),
            (&["--at", "1970-01-02"], "ends at 1970-01-02T00:00:00Z"),
            (&["--in", "0s"], "ended at 1970-01-01T00:00:10Z"),
            (&["--never"], "does not end"),
        ] {
            let ran = keys(10, "expire", &file, &[&[id], args].concat());
            assert_eq!(ran.out, format!("the key {id} (ci) {told}\n"), "{}", ran.err);
        }
    }

    #[test]
    fn what_cannot_be_done_is_told_with_its_exit_code() {
        let folder = Folder::new("cli-errors");
        let file = folder.file();
        let ran = keys(0, "list", &file, &[]);
        assert_eq!(
            (ran.outcome, ran.err),
            (Outcome::Usage, format!("error: {}: there is no such file\n", file.display()))
        );
        assert_eq!(keys(0, "create", &file, &["--name", ""]).outcome, Outcome::Problems);
        let key = keys(0, "create", &file, &["--name", "ci"]).out;
        let ran = keys(0, "show", &file, &["aaaaaaaa"]);
        let list = format!("`tidegate keys list {}` shows what there is\n", file.display());
        assert!(ran.outcome == Outcome::Problems && ran.err.ends_with(&list), "{}", ran.err);
        assert_eq!(keys(0, "revoke", &file, &[&key[3..11]]).outcome, Outcome::Done);
        let ran = keys(0, "revoke", &file, &[&key[3..11]]);
        let why = "error: the key was revoked, which is for good: make a new one\n";
        assert_eq!((ran.outcome, &*ran.err), (Outcome::Problems, why));
    }

    #[test]
    fn a_command_line_that_makes_no_sense_is_refused_before_anything_is_read() {
        for line in [
            "create f",
            "create f --name ci --rate 5/x",
            "create f --name ci --expires soon",
            "expire f id",
            "expire f id --never --in 1d",
            "expire f id --at tomorrow",
            "rotate f id --grace 5",
            "keys",
        ] {
            assert!(Cli::try_parse_from(["tidegate", "keys"].into_iter().chain(line.split(' '))).is_err(), "{line}");
        }
    }
}
