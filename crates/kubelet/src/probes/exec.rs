//! Probing by a command in the container.

use super::Outcome;
use cri::RuntimeService;
use std::time::Duration;

const OUTPUT_MAX: usize = 10 * 1024;

pub async fn run(runtime: &dyn RuntimeService, container_id: &str, command: &[String], timeout: Duration) -> Outcome {
    match runtime.exec_sync(container_id, command, timeout).await {
        Ok(result) if result.exit_code == 0 => Outcome::Success,
        Ok(result) => {
            let mut output = [result.stdout, result.stderr].concat();
            output.truncate(OUTPUT_MAX);
            Outcome::Failure(String::from_utf8_lossy(&output).into_owned())
        }
        Err(cri::Error::DeadlineExceeded(_)) => Outcome::Failure(format!(
            "command timed out: {:?} timed out after {}s",
            command.join(" "),
            timeout.as_secs()
        )),
        Err(error) => Outcome::Failure(error.to_string()),
    }
}
