//! Probing by `grpc.health.v1.Health/Check` (source: the gRPC health checking protocol).

use super::Outcome;
use std::time::Duration;
use tonic::codegen::http::uri::PathAndQuery;

#[derive(Clone, PartialEq, prost::Message)]
pub struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct HealthCheckResponse {
    /// 0 unknown, 1 serving, 2 not serving, 3 service unknown.
    #[prost(int32, tag = "1")]
    pub status: i32,
}

pub async fn check(host: &str, port: i32, service: &str, timeout: Duration) -> Outcome {
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let run = async {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{authority}"))
            .map_err(|e| e.to_string())?
            .connect_timeout(timeout);
        let channel = endpoint
            .connect()
            .await
            .map_err(|_| format!("timeout: failed to connect service \"{authority}\" within {}s", timeout.as_secs()))?;
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.map_err(|e| e.to_string())?;
        let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
        let request = tonic::Request::new(HealthCheckRequest { service: service.to_owned() });
        match client.unary(request, PathAndQuery::from_static("/grpc.health.v1.Health/Check"), codec).await {
            Ok(response) => match response.into_inner().status {
                1 => Ok(()),
                status => Err(format!(
                    "service unhealthy (responded with \"{}\")",
                    ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"].get(status as usize).unwrap_or(&"UNKNOWN")
                )),
            },
            Err(status) if status.code() == tonic::Code::Unimplemented => {
                Err("this server does not implement the grpc health protocol (grpc.health.v1.Health)".to_owned())
            }
            Err(status) => Err(format!("health rpc failed: {}", status.message())),
        }
    };
    match tokio::time::timeout(timeout, run).await {
        Ok(Ok(())) => Outcome::Success,
        Ok(Err(message)) => Outcome::Failure(message),
        Err(_) => Outcome::Failure(format!("timeout: health rpc did not complete within {}s", timeout.as_secs())),
    }
}
