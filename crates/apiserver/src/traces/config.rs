//! TracingConfiguration (apiserver.config.k8s.io): where spans go, and of how many requests.

use crate::grpc::Peer;
use serde::Deserialize;

/// The collector's usual address.
const ENDPOINT: &str = "localhost:4317";
const MILLION: i32 = 1_000_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    endpoint: Option<String>,
    sampling_rate_per_million: Option<i32>,
}

/// What a configuration says.
pub struct Config {
    pub collector: Peer,
    pub endpoint: String,
    /// Of requests whose client doesn't decide it.
    pub per_million: u32,
}

impl Config {
    pub fn parse(text: &str) -> Result<Config, String> {
        let file: File = crate::config_file::decode(text, "TracingConfiguration", &["v1", "v1beta1", "v1alpha1"])?;
        let rate = file.sampling_rate_per_million.unwrap_or(0);
        let wrong = |why: &str| Err(format!("samplingRatePerMillion: Invalid value: {rate}: {why}"));
        if rate < 0 {
            return wrong("sampling rate must be positive");
        }
        if rate > MILLION {
            return wrong("sampling rate per million must be less than or equal to one million");
        }
        let endpoint = file.endpoint.unwrap_or_else(|| ENDPOINT.into());
        let collector = collector(&endpoint).map_err(|why| format!("endpoint: Invalid value: {endpoint:?}: {why}"))?;
        Ok(Config { collector, endpoint, per_million: rate as u32 })
    }
}

/// A name as gRPC has them: `host:port`, `dns:///host:port`, `unix:path`, `unix:///path`, `unix-abstract:name`.
fn collector(endpoint: &str) -> Result<Peer, String> {
    let (scheme, rest) = match endpoint.split_once(':') {
        Some((scheme @ ("unix" | "unix-abstract"), rest)) => (scheme, rest),
        // A port isn't what a scheme is followed by.
        Some((_, port)) if !port.starts_with('/') => ("dns", endpoint),
        Some((scheme, rest)) => (scheme, rest),
        None => ("dns", endpoint),
    };
    match scheme {
        "dns" => {
            // An authority, as in dns://server/host:port, would name another resolver.
            let name = match rest.strip_prefix("//") {
                Some(rest) => rest.split_once('/').map_or(rest, |(_, name)| name),
                None => rest,
            };
            Peer::at(name)
        }
        "unix" => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path.is_empty() { Err("a path is missing".into()) } else { Ok(Peer::on_socket(path)) }
        }
        "unix-abstract" => Ok(Peer::on_socket(&format!("@{rest}"))),
        other => Err(format!("unsupported scheme: {other}.  Options are none, dns, unix, or unix-abstract.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn configurations_are_checked() {
        let parse = |fields: &str| {
            let text = format!("apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\n{fields}");
            Config::parse(&text).map(|c| (c.endpoint, c.per_million))
        };
        assert_eq!(parse(""), Ok(("localhost:4317".into(), 0)));
        assert_eq!(parse("samplingRatePerMillion: 1000000"), Ok(("localhost:4317".into(), 1_000_000)));
        for endpoint in [
            "10.0.0.1:4317",
            "unix-gw:4317",
            "dns:///collector:4317",
            "unix:///run/otel.sock",
            "unix:otel.sock",
            "unix-abstract:x",
        ] {
            assert_eq!(parse(&format!("endpoint: {endpoint}")), Ok((endpoint.to_string(), 0)));
        }
        for (fields, want) in [
            ("samplingRatePerMillion: -1", "samplingRatePerMillion: Invalid value: -1: sampling rate must be positive"),
            (
                "samplingRatePerMillion: 1000001",
                "samplingRatePerMillion: Invalid value: 1000001: sampling rate per million must be less than or equal to one million",
            ),
            ("endpoint: http://x:1", "unsupported scheme: http.  Options are none, dns, unix, or unix-abstract."),
            ("endpoint: 'unix:'", "a path is missing"),
            ("endpont: x", "unknown field `endpont`"),
        ] {
            let got = parse(fields).unwrap_err();
            assert!(got.contains(want), "{got}");
        }
    }
}
