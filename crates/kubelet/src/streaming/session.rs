//! Joins a runtime's session (exec or attach) to a client, whatever protocol the client speaks.

use bytes::Bytes;
use cri::{Session, TerminalSize};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

const CHUNK: usize = 32 * 1024;
/// For output to drain once the process has ended; a grandchild may hold the pipe open for ever.
const DRAIN: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    Stdout(Bytes),
    Stderr(Bytes),
    /// The last: how it ended, as a metav1.Status.
    End(Value),
}

pub struct ClientIo {
    /// Closed: end of input.
    pub stdin: mpsc::Receiver<Bytes>,
    pub resize: mpsc::Receiver<TerminalSize>,
    /// Closed: the client has gone.
    pub output: mpsc::Sender<Output>,
}

/// As clients read exit codes: cause `ExitCode` of reason `NonZeroExitCode`.
pub fn status(result: &cri::Result<i32>) -> Value {
    match result {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: command terminated with exit code {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]}
        }),
        Err(error) => failure(&error.to_string()),
    }
}

pub fn failure(message: &str) -> Value {
    json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "message": format!("Internal error occurred: {message}"), "details": {"causes": [{"message": message}]}, "code": 500})
}

/// To attach is to watch: it succeeds however the container ends, whose exit code is in the pod's status.
pub fn attach_status(result: &cri::Result<i32>) -> Value {
    match result {
        Ok(_) => status(&Ok(0)),
        Err(_) => status(result),
    }
}

/// `conclude` words the end for the client. Until the process has ended and its output is sent, or the client goes away (then an exec'd process is killed).
pub async fn run(session: Session, mut client: ClientIo, conclude: fn(&cri::Result<i32>) -> Value) {
    let Session { stdin, stdout, stderr, resize, mut exit, .. } = session;
    let input = async {
        let mut stdin = stdin;
        while let Some(data) = client.stdin.recv().await {
            if let Some(s) = &mut stdin
                && (s.write_all(&data).await.is_err() || s.flush().await.is_err())
            {
                stdin = None;
            }
        }
        // End of input reaches the process.
        if let Some(mut s) = stdin {
            let _ = s.shutdown().await;
        }
        std::future::pending::<()>().await
    };
    let sizes = async {
        while let Some(size) = client.resize.recv().await {
            if let Some(r) = &resize {
                let _ = r.send(size).await;
            }
        }
        std::future::pending::<()>().await
    };
    let output = client.output.clone();
    let mut pumps = std::pin::pin!(async {
        tokio::join!(pump(stdout, &output, Output::Stdout), pump(stderr, &output, Output::Stderr))
    });
    let gone = client.output.clone();
    let mut drained = false;
    let work = async {
        loop {
            tokio::select! {
                _ = &mut pumps, if !drained => drained = true,
                result = &mut exit => {
                    if !drained {
                        let _ = tokio::time::timeout(DRAIN, &mut pumps).await;
                    }
                    return result.unwrap_or_else(|_| Err(cri::Error::Internal("the session was lost".into())));
                }
            }
        }
    };
    let result = tokio::select! {
        result = work => result,
        _ = input => return,
        _ = sizes => return,
        _ = gone.closed() => return,
    };
    let _ = client.output.send(Output::End(conclude(&result))).await;
}

async fn pump(
    source: Option<std::pin::Pin<Box<dyn AsyncRead + Send>>>,
    output: &mpsc::Sender<Output>,
    wrap: fn(Bytes) -> Output,
) {
    let Some(mut source) = source else { return };
    let mut buffer = vec![0; CHUNK];
    while let Ok(n) = source.read(&mut buffer).await {
        if n == 0 || output.send(wrap(Bytes::copy_from_slice(&buffer[..n]))).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_as_clients_read_them() {
        assert_eq!(status(&Ok(0))["status"], "Success");
        let s = status(&Ok(7));
        assert_eq!(
            (
                s["reason"].as_str(),
                s["details"]["causes"][0]["reason"].as_str(),
                s["details"]["causes"][0]["message"].as_str()
            ),
            (Some("NonZeroExitCode"), Some("ExitCode"), Some("7"))
        );
        assert_eq!(attach_status(&Ok(7))["status"], "Success");
        assert_eq!(attach_status(&Err(cri::Error::Internal("lost".into())))["status"], "Failure");
    }
}
