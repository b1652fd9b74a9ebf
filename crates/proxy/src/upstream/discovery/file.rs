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

#[cfg(test)]
mod tests {
    use tidegate_config::config::Discovery;

    use super::*;
    use crate::upstream::discovery::testing::{tell, tell_with};

    fn discovery() -> Discovery {
        Discovery::File("endpoints.yaml".into())
    }

    #[test]
    fn a_change_is_seen_within_a_second_and_the_same_again_is_no_news() {
        tell_with(&discovery(), &[("endpoints.yaml", "- http://a.test\n")], |world| async move {
            assert_eq!(world.endpoints().await, ["http://a.test 1 - 0"]);
            world.write("endpoints.yaml", "- {url: http://a.test, weight: 1}\n");
            world.pass(INTERVAL).await;
            world.write("endpoints.yaml", r#"[{"url": "https://b.test", "weight": 2, "zone": "z", "priority": 1}]"#);
            while world.is_quiet().await {
                world.pass(INTERVAL).await;
            }
            assert_eq!(world.endpoints().await, ["https://b.test 2 z 1"]);
        });
    }

    #[test]
    fn a_bad_file_changes_nothing_until_it_is_mended() {
        tell_with(&discovery(), &[("endpoints.yaml", "[http://a.test]")], |world| async move {
            assert_eq!(world.endpoints().await.len(), 1);
            world.write("endpoints.yaml", "[a.test, http://b.test]");
            world.pass(INTERVAL).await;
            assert_eq!(world.failure().await, "endpoints.yaml: line 1: `a.test` is not a URL");
            world.write("endpoints.yaml", "[http://b.test]");
            world.pass(INTERVAL).await;
            assert_eq!(world.endpoints().await, ["http://b.test 1 - 0"]);
        });
    }

    #[test]
    fn a_file_may_come_later_and_go_again() {
        tell(&discovery(), |world| async move {
            assert_eq!(world.failure().await, "endpoints.yaml: entity not found");
            world.write("endpoints.yaml", "[]");
            world.pass(INTERVAL).await;
            assert_eq!(world.endpoints().await, [""; 0]);
            world.files.lock().unwrap().clear();
            world.pass(INTERVAL).await;
            world.failure().await;
        });
    }
}
