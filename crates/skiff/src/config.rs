//! Flags of `skiff server`. Each is also a key of the configuration file (`/etc/skiff/config.yaml`), whose values
//! stand in front of the command line's, so that flags win. Names are k3s's where it has the thing.

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub const CONFIG_FILE: &str = "/etc/skiff/config.yaml";

#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// YAML file whose keys are these flags without the dashes.
    #[arg(long, short = 'c', value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Everything that must survive a restart.
    #[arg(long, short = 'd', default_value = crate::layout::DATA_DIR)]
    pub data_dir: PathBuf,
    /// Where the administrator's kubeconfig is written.
    #[arg(long, short = 'o', value_name = "FILE")]
    pub write_kubeconfig: Option<PathBuf>,
    /// Mode of that file, octal.
    #[arg(long, default_value = "600")]
    pub write_kubeconfig_mode: String,
    /// Address that the API server listens on.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    #[arg(long, default_value_t = 6443)]
    pub https_listen_port: u16,
    /// Address that other nodes and pods reach the API server by; the node's by default.
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    /// More names and addresses for the API server's certificate.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub tls_san: Vec<String>,
    /// How long the cluster's own certificates live; they are renewed while the server runs, when a quarter is left.
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = duration)]
    pub certificate_lifetime: Duration,
    /// Addresses of pods.
    #[arg(long, default_value = "10.42.0.0/16")]
    pub cluster_cidr: IpNet,
    /// Addresses of Services.
    #[arg(long, default_value = "10.43.0.0/16")]
    pub service_cidr: IpNet,
    #[arg(long, default_value = "30000-32767", value_parser = port_range)]
    pub service_node_port_range: (u16, u16),
    /// Address of the cluster DNS; the tenth of the service range by default.
    #[arg(long)]
    pub cluster_dns: Option<IpAddr>,
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// The host's name by default.
    #[arg(long)]
    pub node_name: Option<String>,
    /// The address of the default route's interface by default.
    #[arg(long)]
    pub node_ip: Option<IpAddr>,
    /// key=value
    #[arg(long, value_name = "LABEL", value_delimiter = ',')]
    pub node_label: Vec<String>,
    /// key=value:effect
    #[arg(long, value_name = "TAINT", value_delimiter = ',')]
    pub node_taint: Vec<String>,
    #[arg(long, default_value_t = 10250)]
    pub kubelet_port: u16,
    #[arg(long, default_value_t = 110)]
    pub max_pods: u32,
    /// When the node is under pressure and takes no more pods: signal<quantity or signal<percentage%, comma-separated.
    #[arg(long, value_name = "THRESHOLDS")]
    pub eviction_hard: Option<String>,
    /// Where pods with dnsPolicy Default, and the cluster DNS, find their name servers.
    #[arg(long, default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
    /// Comma-separated https://host:port of etcd; the embedded store by default.
    #[arg(long, value_name = "URL")]
    pub datastore_endpoint: Option<String>,
    #[arg(long, value_name = "FILE")]
    pub datastore_cafile: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    pub datastore_certfile: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    pub datastore_keyfile: Option<PathBuf>,
    /// How long history is kept for watches and chunked lists, seconds or a duration such as 5m; 0: for ever.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub etcd_compaction_interval: Duration,
    /// Parts to leave out: dns, proxy, scheduler, controllers.
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    pub disable: Vec<String>,
    /// Control plane only: run no pods here.
    #[arg(long)]
    pub disable_agent: bool,
    /// Credentials and mirrors of registries (YAML).
    #[arg(long, value_name = "FILE", default_value = "/etc/skiff/registries.yaml")]
    pub private_registry: PathBuf,
    /// Requests that read and are served at once; with the next one, the seats that priority and fairness shares out.
    #[arg(long, value_name = "N", default_value_t = 400)]
    pub max_requests_inflight: usize,
    /// The same for requests that write.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
    /// Off: the two limits above, each for itself, and no queues.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub enable_priority_and_fairness: bool,
    /// No request but watches and streams takes longer.
    #[arg(long, value_name = "DURATION", default_value = "1m0s", value_parser = duration)]
    pub request_timeout: Duration,
    /// How long to go on serving, not ready any more, before stopping.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub shutdown_delay_duration: Duration,
    /// While stopping, answer requests on open connections with 429.
    #[arg(long)]
    pub shutdown_send_retry_after: bool,
    #[command(flatten)]
    pub audit: crate::audit::AuditArgs,
    /// Where traces of requests are sent, and of how many (TracingConfiguration). Nowhere without it.
    #[arg(long, value_name = "FILE")]
    pub tracing_config_file: Option<PathBuf>,
    #[command(flatten)]
    pub auth: crate::auth::AuthArgs,
    /// Admission plugins to run beside those that run by default.
    #[arg(long, value_name = "PLUGIN", value_delimiter = ',')]
    pub enable_admission_plugins: Vec<String>,
    /// Admission plugins that run by default and shall not.
    #[arg(long, value_name = "PLUGIN", value_delimiter = ',')]
    pub disable_admission_plugins: Vec<String>,
    /// AdmissionConfiguration (YAML) of plugins that can be configured.
    #[arg(long, value_name = "FILE")]
    pub admission_control_config_file: Option<PathBuf>,
    #[command(flatten)]
    pub encryption: crate::encryption::EncryptionArgs,
    /// More logs.
    #[arg(long, short = 'v')]
    pub debug: bool,
    #[arg(long)]
    pub log_json: bool,
    /// All of the above as they are in force, for `/flagz`.
    #[arg(skip)]
    pub flags: BTreeMap<String, String>,
}

const PARTS: [&str; 4] = ["dns", "proxy", "scheduler", "controllers"];

impl ServerArgs {
    /// What clap can't check by itself.
    pub fn check(&self) -> Result<()> {
        for part in &self.disable {
            if !PARTS.contains(&part.as_str()) {
                bail!("--disable={part}: unknown part; the parts are {}", PARTS.join(", "));
            }
        }
        let overlap = self.cluster_cidr.contains(&self.service_cidr) || self.service_cidr.contains(&self.cluster_cidr);
        if overlap {
            bail!(
                "--cluster-cidr={} and --service-cidr={} overlap; give pods and Services ranges of their own",
                self.cluster_cidr,
                self.service_cidr
            );
        }
        if let Some(dns) = self.cluster_dns
            && !self.service_cidr.contains(&dns)
        {
            bail!("--cluster-dns={dns} lies outside --service-cidr={}", self.service_cidr);
        }
        if self.certificate_lifetime < Duration::from_secs(10) {
            bail!("--certificate-lifetime={:?}: must be at least 10s", self.certificate_lifetime);
        }
        crate::node::labels(&self.node_label)?;
        for t in &self.node_taint {
            crate::node::taint(t)?;
        }
        for e in self.datastore_endpoint.iter().flat_map(|e| e.split(',')) {
            if !e.starts_with("http://") && !e.starts_with("https://") {
                bail!("--datastore-endpoint={e}: must be https://host:port of etcd (or http:// on a trusted machine)");
            }
        }
        self.audit.check()?;
        if self.request_timeout.is_zero() {
            bail!("--request-timeout must be more than zero");
        }
        u32::from_str_radix(&self.write_kubeconfig_mode, 8)
            .with_context(|| format!("--write-kubeconfig-mode={} is no octal mode", self.write_kubeconfig_mode))?;
        Ok(())
    }

    pub fn disabled(&self, part: &str) -> bool {
        self.disable.iter().any(|p| p == part)
    }

    /// The n-th address of the service range.
    pub fn service_address(&self, n: u32) -> Result<IpAddr> {
        match self.service_cidr {
            IpNet::V4(net) => Ok(IpAddr::V4(std::net::Ipv4Addr::from(u32::from(net.network()) + n))),
            IpNet::V6(net) => Ok(IpAddr::V6(std::net::Ipv6Addr::from(u128::from(net.network()) + u128::from(n)))),
        }
    }

    pub fn cluster_dns(&self) -> Result<IpAddr> {
        match self.cluster_dns {
            Some(ip) => Ok(ip),
            None => self.service_address(10),
        }
    }
}

/// Go's durations, of which whole hours, minutes, seconds and milliseconds count here, and bare seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let parsed: Option<jiff::SignedDuration> = text.parse().ok();
    parsed.and_then(|d| d.try_into().ok()).ok_or_else(|| format!("{text:?} is no duration such as 90s, 5m or 1h30m"))
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let parsed = text.split_once('-').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match parsed {
        Some((a, b)) if a <= b => Ok((a, b)),
        _ => Err(format!("{text:?} is no range of ports such as 30000-32767")),
    }
}

/// Puts the configuration file's settings in front of the command line's.
pub fn with_config_file(args: Vec<OsString>) -> Result<Vec<OsString>> {
    if args.get(1).is_none_or(|c| c != "server") {
        return Ok(args);
    }
    let mut named = None;
    let mut it = args.iter().skip(2);
    while let Some(a) = it.next() {
        let a = a.to_string_lossy();
        if a == "--config" || a == "-c" {
            named = it.next().map(PathBuf::from);
        } else if let Some(v) = a.strip_prefix("--config=") {
            named = Some(PathBuf::from(v));
        }
    }
    let path = named.clone().unwrap_or_else(|| PathBuf::from(CONFIG_FILE));
    let text = match std::fs::read_to_string(&path) {
        Ok(t) => t,
        Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => return Ok(args),
        Err(e) => return Err(e).with_context(|| format!("failed to read configuration file {}", path.display())),
    };
    let flags = flags_of(&text)
        .and_then(|f| check_flags(&f).map(|()| f))
        .with_context(|| format!("configuration file {}", path.display()))?;
    let mut out = args[..2].to_vec();
    out.extend(flags.into_iter().map(OsString::from));
    out.extend_from_slice(&args[2..]);
    Ok(out)
}

/// `key: value` as `--key=value`; lists repeat the flag; `true` is the bare flag.
fn flags_of(text: &str) -> Result<Vec<String>> {
    let parsed: serde_json::Value = serde_saphyr::from_str(text).context("not valid YAML")?;
    let map = match parsed {
        serde_json::Value::Null => return Ok(Vec::new()),
        serde_json::Value::Object(m) => m,
        _ => bail!("must be a mapping of flags to values"),
    };
    let plain = |v: &serde_json::Value| match v {
        serde_json::Value::String(s) => s.clone(),
        other => other.to_string(),
    };
    let mut out = Vec::new();
    for (key, value) in map {
        match value {
            serde_json::Value::Bool(true) => out.push(format!("--{key}")),
            // A switch that is off isn't named; a setting that is on by default has to be.
            serde_json::Value::Bool(false) if takes_value(&key) => out.push(format!("--{key}=false")),
            serde_json::Value::Bool(false) | serde_json::Value::Null => {}
            serde_json::Value::Array(items) => out.extend(items.iter().map(|i| format!("--{key}={}", plain(i)))),
            serde_json::Value::Object(_) => bail!("key {key:?}: a nested mapping is no flag's value"),
            v => out.push(format!("--{key}={}", plain(&v))),
        }
    }
    Ok(out)
}

/// Every flag with its value, whoever set it; what nobody set is empty.
pub fn in_force(matches: &clap::ArgMatches) -> BTreeMap<String, String> {
    let command = <ServerArgs as clap::Args>::augment_args(clap::Command::new("skiff"));
    let value = |id: &clap::Id| -> String {
        let values = matches.try_get_raw(id.as_str()).ok().flatten();
        values.into_iter().flatten().map(|v| v.to_string_lossy()).collect::<Vec<_>>().join(",")
    };
    command.get_arguments().filter_map(|a| Some((a.get_long()?.to_string(), value(a.get_id())))).collect()
}

fn takes_value(flag: &str) -> bool {
    let command = <ServerArgs as clap::Args>::augment_args(clap::Command::new("skiff"));
    command.get_arguments().any(|a| a.get_long() == Some(flag) && a.get_action().takes_values())
}

/// Tries each setting on its own, so that a mistake is told with the key that has it.
fn check_flags(flags: &[String]) -> Result<()> {
    let command = <ServerArgs as clap::Args>::augment_args(clap::Command::new("skiff").no_binary_name(true));
    for flag in flags {
        let (name, value) = match flag.trim_start_matches("--").split_once('=') {
            Some((n, v)) => (n, Some(v)),
            None => (flag.trim_start_matches("--"), None),
        };
        let Some(known) = command.get_arguments().find(|a| a.get_long() == Some(name)) else {
            bail!("key {name:?} is unknown; the keys are the flags of \"skiff server --help\" without their dashes");
        };
        match (known.get_action().takes_values(), value) {
            (false, Some(v)) => bail!("key {name:?}: {v:?} is neither true nor false"),
            (true, None) if known.get_num_args().is_some_and(|n| n.min_values() == 0) => {}
            (true, None) => bail!("key {name:?}: true is no value for it; see \"skiff server --help\""),
            _ => {}
        }
        if let Err(e) = command.clone().try_get_matches_from([flag]) {
            let told = e.to_string();
            let line = told.lines().next().unwrap_or_default();
            bail!("key {name:?}: {}", line.strip_prefix("error: ").unwrap_or(line));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        server: ServerArgs,
    }

    /// `docs/configuration.md` has a row for every flag, with its default, and none that doesn't exist.
    #[test]
    fn flags_in_force_are_all_of_them() {
        let command = <ServerArgs as clap::Args>::augment_args(clap::Command::new("skiff").no_binary_name(true));
        let matches =
            command.try_get_matches_from(["--tls-san=a", "--tls-san=b,c", "--https-listen-port", "6444"]).unwrap();
        let flags = in_force(&matches);
        for (flag, value) in [
            ("tls-san", "a,b,c"),
            ("https-listen-port", "6444"),
            ("service-cidr", "10.43.0.0/16"),
            ("debug", "false"),
            ("node-name", ""),
        ] {
            assert_eq!(flags.get(flag).map(String::as_str), Some(value), "{flag}");
        }
    }

    #[test]
    fn every_flag_is_documented() {
        let doc = include_str!("../../../docs/configuration.md");
        let rows: std::collections::BTreeMap<&str, &str> = doc
            .lines()
            .filter_map(|l| l.strip_prefix("| `")?.split_once('`'))
            .filter(|(_, rest)| rest.starts_with(" |"))
            .collect();
        let command = <Flags as clap::CommandFactory>::command();
        let mut flags = Vec::new();
        for arg in command.get_arguments() {
            let Some(flag) = arg.get_long() else { continue };
            flags.push(flag);
            let row = rows.get(flag).unwrap_or_else(|| panic!("docs/configuration.md lacks `{flag}`"));
            for value in arg.get_default_values().iter().filter(|_| arg.get_action().takes_values()) {
                let default = format!("`{}`", value.to_string_lossy());
                assert!(row.contains(&default), "docs/configuration.md: `{flag}` has the default {default}");
            }
        }
        let strangers: Vec<_> = rows.keys().filter(|k| !flags.contains(k)).collect();
        assert!(strangers.is_empty(), "docs/configuration.md has flags that don't exist: {strangers:?}");
    }

    #[test]
    fn keys_become_flags() {
        let got = flags_of("https-listen-port: 7443\ntls-san:\n- a\n- b\ndisable-agent: true\ndebug: false\n").unwrap();
        assert_eq!(
            got,
            ["--debug", "--disable-agent", "--https-listen-port=7443", "--tls-san=a", "--tls-san=b"]
                .iter()
                .filter(|f| **f != "--debug")
                .map(|s| s.to_string())
                .collect::<Vec<_>>()
        );
        assert!(flags_of("- a").is_err());
        assert!(flags_of("a: {b: c}").is_err());
        assert!(flags_of("").unwrap().is_empty());
    }

    #[test]
    fn mistakes_name_the_key() {
        let check = |text: &str| check_flags(&flags_of(text).unwrap()).map_err(|e| e.to_string());
        assert_eq!(check("https-listen-port: 7443\ndisable-agent: true\nnode-label: [a=b]\n"), Ok(()));
        for (text, want) in [
            ("bogus: 1", "key \"bogus\" is unknown"),
            ("https-listen-port: abc", "key \"https-listen-port\": invalid value 'abc'"),
            ("https-listen-port: true", "key \"https-listen-port\": true is no value"),
            ("disable-agent: \"maybe\"", "key \"disable-agent\": \"maybe\" is neither true nor false"),
            ("cluster-cidr: 10.0.0.0/99", "key \"cluster-cidr\": invalid value"),
        ] {
            let got = check(text).unwrap_err();
            assert!(got.starts_with(want), "{text}: {got}");
        }
    }
}
