//! Which Skiff, and which Kubernetes it is.

pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The API level that is served.
pub const KUBERNETES: &str = "v1.36.0";

/// `/version`, `nodeInfo.kubeletVersion` and friends: `v1.36.0+skiff0.1.0`.
pub fn git_version() -> String {
    format!("{KUBERNETES}+skiff{VERSION}")
}

/// The document at `/version` (`version.Info`).
pub fn info() -> serde_json::Value {
    let mut parts = KUBERNETES.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or("1"), parts.next().unwrap_or("0"));
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    serde_json::json!({
        "major": major,
        "minor": minor,
        // Upstream can stand in for an older version; here it is always this one, and what was stored by the one before.
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": minor.parse().unwrap_or(1u32).saturating_sub(1).to_string(),
        "gitVersion": git_version(),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none (Rust)",
        "compiler": "rustc",
        "platform": format!("linux/{arch}"),
    })
}
