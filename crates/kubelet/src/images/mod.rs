//! Images for containers: pull policy, back-off, credentials, events.

pub mod credentials;

use crate::events::{Recorder, Severity};
use cri::{AuthConfig, Image, ImageService};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

const BACKOFF_BASE: SignedDuration = SignedDuration::from_secs(10);
const BACKOFF_MAX: SignedDuration = SignedDuration::from_secs(300);

/// Why a container has no image; `reason` and `message` are what its status shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageError {
    pub reason: String,
    pub message: String,
    pub retry_at: Timestamp,
}

struct Backoff {
    delay: SignedDuration,
    until: Timestamp,
    failed_at: Timestamp,
    message: String,
}

pub struct Images {
    service: Arc<dyn ImageService>,
    recorder: Recorder,
    /// By pod uid and image.
    backoffs: Mutex<HashMap<(String, String), Backoff>>,
    /// One pull of an image at a time; whoever comes second finds it present.
    pulling: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// `Always` for `:latest` and untagged names, as the API's defaulting has it.
pub fn pull_policy<'a>(image: &str, policy: Option<&'a str>) -> &'a str {
    match policy.filter(|p| !p.is_empty()) {
        Some(policy) => policy,
        None if image.contains('@') => "IfNotPresent",
        None => match image.rsplit('/').next().unwrap_or(image).split_once(':') {
            None | Some((_, "latest")) => "Always",
            _ => "IfNotPresent",
        },
    }
}

/// Repository and tag obey the grammar of image references (source: distribution/reference).
pub fn is_valid_name(image: &str) -> bool {
    if let Some(hex) = image.strip_prefix("sha256:") {
        return hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    }
    let (name, digest) = image.split_once('@').map_or((image, None), |(n, d)| (n, Some(d)));
    let (repository, tag) = match name.rsplit_once(':') {
        Some((r, t)) if !t.contains('/') => (r, Some(t)),
        _ => (name, None),
    };
    let tag_ok = |t: &str| {
        !t.is_empty()
            && t.len() <= 128
            && !t.starts_with(['.', '-'])
            && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let digest_ok = |d: &str| {
        d.split_once(':').is_some_and(|(algorithm, hex)| {
            !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
        })
    };
    let mut parts: Vec<&str> = repository.split('/').collect();
    if parts.len() > 1
        && parts[0].bytes().any(|b| b == b'.' || b == b':' || b.is_ascii_uppercase()) | (parts[0] == "localhost")
    {
        let host = parts.remove(0);
        if host.is_empty() || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-[]".contains(&b)) {
            return false;
        }
    }
    let part_ok = |p: &&str| {
        !p.is_empty()
            && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
            && p.starts_with(|c: char| c.is_ascii_alphanumeric())
            && p.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    parts.iter().all(part_ok) && repository.len() <= 255 && tag.is_none_or(tag_ok) && digest.is_none_or(digest_ok)
}

impl Images {
    pub fn new(service: Arc<dyn ImageService>, recorder: Recorder) -> Images {
        Images { service, recorder, backoffs: Mutex::default(), pulling: Mutex::default() }
    }

    pub fn service(&self) -> &Arc<dyn ImageService> {
        &self.service
    }

    /// The image, pulled if the policy says so. Events go to `object`.
    pub async fn ensure(
        &self,
        pod_uid: &str,
        image: &str,
        policy: Option<&str>,
        auth: impl AsyncFnOnce() -> Vec<AuthConfig>,
        object: &ObjectReference,
    ) -> Result<Image, ImageError> {
        let now = Timestamp::now();
        let event =
            |severity, reason: &str, message: String| self.recorder.record(object.clone(), severity, reason, message);
        let fail = |reason: &str, message: String, retry_at: Timestamp| ImageError {
            reason: reason.to_owned(),
            message,
            retry_at,
        };
        let later = |t: Timestamp, d: SignedDuration| t.checked_add(d).unwrap_or(t);
        if !is_valid_name(image) {
            let message = format!(
                "Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": invalid reference format"
            );
            event(Severity::Warning, "InspectFailed", message.clone());
            return Err(fail("InvalidImageName", message, later(now, BACKOFF_MAX)));
        }
        let policy = pull_policy(image, policy);
        if policy != "Always" {
            match self.service.image_status(image).await {
                Ok(Some(found)) => {
                    event(
                        Severity::Normal,
                        "Pulled",
                        format!("Container image \"{image}\" already present on machine"),
                    );
                    return Ok(found);
                }
                Ok(None) if policy == "Never" => {
                    let message = format!("Container image \"{image}\" is not present with pull policy of Never");
                    event(Severity::Warning, "ErrImageNeverPull", message.clone());
                    event(Severity::Warning, "Failed", "Error: ErrImageNeverPull".into());
                    return Err(fail("ErrImageNeverPull", message, later(now, BACKOFF_BASE)));
                }
                Ok(None) => {}
                Err(error) => {
                    let message = format!("Failed to inspect image \"{image}\": {error}");
                    event(Severity::Warning, "InspectFailed", message.clone());
                    return Err(fail("ImageInspectError", message, later(now, BACKOFF_BASE)));
                }
            }
        }
        let key = (pod_uid.to_owned(), image.to_owned());
        let waiting = self.backoffs.lock().get(&key).filter(|b| b.until > now).map(|b| (b.until, b.message.clone()));
        if let Some((until, last)) = waiting {
            let message = format!("Back-off pulling image \"{image}\"");
            event(Severity::Normal, "BackOff", message.clone());
            event(Severity::Warning, "Failed", "Error: ImagePullBackOff".into());
            return Err(fail("ImagePullBackOff", format!("{message}: {last}"), until));
        }
        event(Severity::Normal, "Pulling", format!("Pulling image \"{image}\""));
        let asked = Instant::now();
        let lock = self.pulling.lock().entry(image.to_owned()).or_default().clone();
        let guard = lock.lock().await;
        let began = Instant::now();
        let auth = auth().await;
        let result = match self.service.pull_image(image, &auth).await {
            Ok(id) => match self.service.image_status(&id).await {
                Ok(Some(found)) => Ok(found),
                Ok(None) => Err(("ErrImagePull".to_owned(), format!("image {id} is gone right after its pull"))),
                Err(error) => Err(("ErrImagePull".to_owned(), error.to_string())),
            },
            Err(cri::Error::Pull { reason, message }) if !reason.is_empty() => Err((reason, message)),
            Err(error) => Err(("ErrImagePull".to_owned(), error.to_string())),
        };
        drop(guard);
        self.pulling
            .lock()
            .retain(|_, l| Arc::strong_count(l) > 1 || Arc::ptr_eq(l, &lock) && Arc::strong_count(l) > 2);
        match result {
            Ok(found) => {
                self.backoffs.lock().remove(&key);
                event(
                    Severity::Normal,
                    "Pulled",
                    format!(
                        "Successfully pulled image \"{image}\" in {} ({} including waiting). Image size: {} bytes.",
                        seconds(began.elapsed()),
                        seconds(asked.elapsed()),
                        found.size_bytes
                    ),
                );
                Ok(found)
            }
            Err((reason, message)) => {
                let now = Timestamp::now();
                event(Severity::Warning, "Failed", format!("Failed to pull image \"{image}\": {message}"));
                event(Severity::Warning, "Failed", format!("Error: {reason}"));
                let mut backoffs = self.backoffs.lock();
                let delay = match backoffs.get(&key) {
                    Some(b) if now.duration_since(b.failed_at) <= BACKOFF_MAX * 2 => (b.delay * 2).min(BACKOFF_MAX),
                    _ => BACKOFF_BASE,
                };
                backoffs.insert(
                    key,
                    Backoff {
                        delay,
                        until: later(now, delay),
                        failed_at: now,
                        message: format!("{reason}: {message}"),
                    },
                );
                // Soon again, only to say that it backs off.
                Err(fail(&reason, message, later(now, SignedDuration::from_secs(1))))
            }
        }
    }

    pub fn forget(&self, pod_uid: &str) {
        self.backoffs.lock().retain(|(uid, _), _| uid != pod_uid);
    }
}

/// As Go prints a duration rounded to milliseconds.
fn seconds(d: std::time::Duration) -> String {
    let ms = d.as_millis();
    match ms {
        0..1000 => format!("{ms}ms"),
        1000..60_000 => format!("{}s", (ms as f64) / 1000.0),
        _ => format!("{}m{}s", ms / 60_000, ((ms % 60_000) as f64) / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_policies() {
        for (image, valid, policy) in [
            ("nginx", true, "Always"),
            ("nginx:1.25", true, "IfNotPresent"),
            ("nginx:latest", true, "Always"),
            ("localhost:5000/a/b", true, "Always"),
            ("localhost:5000/a/b:1", true, "IfNotPresent"),
            ("skiff.local/hello:v1", true, "IfNotPresent"),
            ("a@sha256:0123456789012345678901234567890123456789012345678901234567890123", true, "IfNotPresent"),
            ("Bad Name", false, "Always"),
            ("UPPER", false, "Always"),
            ("a:", false, "IfNotPresent"),
            ("", false, "Always"),
            ("a//b", false, "Always"),
            ("a:b c", false, "IfNotPresent"),
        ] {
            assert_eq!((is_valid_name(image), pull_policy(image, None)), (valid, policy), "{image:?}");
        }
        assert_eq!(pull_policy("a:latest", Some("Never")), "Never");
    }
}
