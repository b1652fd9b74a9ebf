//! A file with a list of endpoints. It is read every second and judged when its bytes differ, since notifications do not cross
//! network file systems and container mounts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_config::endpoint_list;

use super::{Context, Provider, Publisher};

const INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct File {
    path: PathBuf,
    context: Context,
    /// What was in it when it was judged last.
    last: Option<Vec<u8>>,
}

impl File {
    pub(super) fn new(path: &Path, context: &Context) -> Self {
        Self { path: path.to_owned(), context: context.clone(), last: None }
    }

    fn in_words(&self, why: impl std::fmt::Display) -> String {
        format!("{}: {why}", self.path.display())
    }
}

impl Provider for File {
    /// A bad or missing file is read every second like a good one, so that its correction takes effect at once.
    async fn ask(&mut self, news: &Publisher) -> Result<Duration, String> {
        let bytes = match self.context.read(&self.path).await {
            Ok(bytes) => bytes,
            Err(error) => {
                self.last = None;
                news.failed(self.in_words(error));
                return Ok(INTERVAL);
            }
        };
        if self.last.as_ref() == Some(&bytes) {
            return Ok(INTERVAL);
        }
        let list = std::str::from_utf8(&bytes).map_err(|_| "it is not UTF-8".to_owned()).and_then(endpoint_list);
        self.last = Some(bytes);
        match list {
            Ok(endpoints) => news.publish(endpoints),
            Err(why) => news.failed(self.in_words(why)),
        }
        Ok(INTERVAL)
    }
}
