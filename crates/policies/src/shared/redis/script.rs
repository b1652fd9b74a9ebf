//! The scripts that decide inside the server, and how they are called: by their hash, in one round trip. A server that does not know a
//! script yet is told its text, which takes a second one.

use std::sync::LazyLock;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind};

/// A script with the time in front. The time is the server's, so that it does not matter what gateways believe; `must` is set for
/// what was admitted already.
pub(super) struct Script {
    text: String,
    hash: String,
}

/// Token buckets.
pub(super) static BUCKET: LazyLock<Script> = LazyLock::new(|| Script::new(NOW, include_str!("bucket.lua")));
/// Sliding and fixed windows.
pub(super) static WINDOWS: LazyLock<Script> = LazyLock::new(|| Script::new(NOW, include_str!("windows.lua")));
/// Logs.
pub(super) static LOG: LazyLock<Script> = LazyLock::new(|| Script::new(NOW, include_str!("log.lua")));

/// In microseconds since 1970, which a double holds exactly. No key lasts longer than a hundred years, in milliseconds.
const NOW: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local must = ARGV[1] == '1'
local longest = 3155760000000
";

impl Script {
    pub(super) fn new(time: &str, text: &str) -> Self {
        let text = format!("{time}{text}");
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Self { text, hash }
    }

    /// Calls it for one key.
    pub(super) async fn call(
        &self,
        connection: &mut MultiplexedConnection,
        key: &[u8],
        arguments: &[u64],
    ) -> Result<Vec<u64>, RedisError> {
        let called = self.call_by_hash(key, arguments).query_async(connection).await;
        match called {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                called_with("EVAL", &self.text, key, arguments).query_async(connection).await
            }
            called => called,
        }
    }

    /// The call for a server that knows it.
    pub(super) fn call_by_hash(&self, key: &[u8], arguments: &[u64]) -> Cmd {
        called_with("EVALSHA", &self.hash, key, arguments)
    }

    /// Makes the server know it.
    pub(super) fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(&self.text);
        command
    }
}

fn called_with(how: &str, which: &str, key: &[u8], arguments: &[u64]) -> Cmd {
    let mut command = redis::cmd(how);
    command.arg(which).arg(1).arg(key);
    for argument in arguments {
        command.arg(*argument);
    }
    command
}
