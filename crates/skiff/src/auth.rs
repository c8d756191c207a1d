//! Who and may: the flags of authentication and authorization, and what is made of them. Names are kube-apiserver's.

use crate::config::duration;
use anyhow::{Context, Result, anyhow, bail};
use apiserver::authn::anonymous::Anonymous;
use apiserver::authn::bearer::{Bearer, ForApiServer, TokenAuthenticator};
use apiserver::authn::config::{self, Compiled, OidcFlags};
use apiserver::authn::reload::Issuers;
use apiserver::authn::service_account::{ServiceAccountTokens, legacy};
use apiserver::authn::{self, bootstrap_token, request_header, token_file, x509};
use apiserver::authz;
use apiserver::metrics::figures::{AUTHENTICATION_RELOADS, AUTHORIZATION_RELOADS};
use apiserver::outbound::{self, Target};
use apiserver::pki::Pki;
use apiserver::reader::Reader;
use apiserver::tokens::external::Signer;
use apiserver::tokens::{self, TokenIssuer};
use arc_swap::ArcSwap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use stdx::Shutdown;
use stdx::file::WatchedFile;

#[derive(Clone, Debug, clap::Args)]
pub struct AuthArgs {
    /// PEM file of more authorities whose client certificates name users, beside the cluster's own.
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: Option<PathBuf>,
    /// PEM file of more authorities of front proxies, beside the cluster's own.
    #[arg(long, value_name = "FILE")]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of front proxies that are trusted.
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "front-proxy-client")]
    pub requestheader_allowed_names: Vec<String>,
    /// Headers in which front proxies name the user.
    #[arg(long, value_name = "HEADER", value_delimiter = ',', default_value = "X-Remote-User")]
    pub requestheader_username_headers: Vec<String>,
    /// Headers in which front proxies name the user's UID.
    #[arg(long, value_name = "HEADER", value_delimiter = ',', default_value = "X-Remote-Uid")]
    pub requestheader_uid_headers: Vec<String>,
    /// Headers in which front proxies name the user's groups.
    #[arg(long, value_name = "HEADER", value_delimiter = ',', default_value = "X-Remote-Group")]
    pub requestheader_group_headers: Vec<String>,
    /// Beginnings of headers in which front proxies tell more of the user.
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', default_value = "X-Remote-Extra-")]
    pub requestheader_extra_headers_prefix: Vec<String>,
    /// File of fixed tokens: token,user,uid,"group1,group2".
    #[arg(long, value_name = "FILE")]
    pub token_auth_file: Option<PathBuf>,
    /// Issuer of service-account tokens. The first is written into new tokens, all are accepted.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub service_account_issuer: Vec<String>,
    /// PEM file with the private key that signs service-account tokens; the cluster's own by default.
    #[arg(long, value_name = "FILE")]
    pub service_account_signing_key_file: Option<PathBuf>,
    /// Unix socket of a program that signs service-account tokens in place of the server (v1.ExternalJWTSigner).
    #[arg(long, value_name = "SOCKET")]
    pub service_account_signing_endpoint: Option<String>,
    /// PEM file with more keys whose service-account tokens are accepted.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    pub service_account_key_file: Vec<PathBuf>,
    /// Where others are told to find the keys of service-account tokens.
    #[arg(long, value_name = "URL")]
    pub service_account_jwks_uri: Option<String>,
    /// Longest life of a service-account token that can be asked for, such as 24h.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub service_account_max_token_expiration: Option<Duration>,
    /// Tokens of pods' volumes live a year, for programs that read the file only once.
    #[arg(long, value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub service_account_extend_token_expiration: bool,
    /// Audiences of tokens for the API server; the issuers by default.
    #[arg(long, value_name = "AUDIENCE", value_delimiter = ',')]
    pub api_audiences: Vec<String>,
    /// AuthenticationConfiguration: issuers of tokens, and who may be anonymous. Followed while the server runs.
    #[arg(long, value_name = "FILE")]
    pub authentication_config: Option<PathBuf>,
    /// Whether requests without credentials are taken as system:anonymous; by default for health and version only.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub anonymous_auth: Option<bool>,
    /// An OpenID Connect issuer whose tokens name users.
    #[arg(long, value_name = "URL")]
    pub oidc_issuer_url: Option<String>,
    /// Audience that its tokens must have.
    #[arg(long, value_name = "ID")]
    pub oidc_client_id: Option<String>,
    /// Claim that names the user.
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    pub oidc_username_claim: String,
    /// Put before user names; the issuer's URL and # by default, "-" for nothing.
    #[arg(long, value_name = "PREFIX")]
    pub oidc_username_prefix: Option<String>,
    /// Claim that names the user's groups.
    #[arg(long, value_name = "CLAIM")]
    pub oidc_groups_claim: Option<String>,
    /// Put before groups.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub oidc_groups_prefix: String,
    /// PEM file of authorities that the issuer's certificate may be of; those of this machine by default.
    #[arg(long, value_name = "FILE")]
    pub oidc_ca_file: Option<PathBuf>,
    /// Algorithms that its tokens may be signed with.
    #[arg(long, value_name = "ALG", value_delimiter = ',', default_value = "RS256")]
    pub oidc_signing_algs: Vec<String>,
    /// A claim that its tokens must have, with this value.
    #[arg(long, value_name = "CLAIM=VALUE", value_delimiter = ',')]
    pub oidc_required_claim: Vec<String>,
    /// Kubeconfig of a server that judges tokens.
    #[arg(long, value_name = "FILE")]
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    /// Version of the TokenReviews that it is sent: v1 or v1beta1.
    #[arg(long, value_name = "VERSION", default_value = "v1beta1", value_parser = ["v1", "v1beta1"])]
    pub authentication_token_webhook_version: String,
    /// How long its answers are remembered.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    pub authentication_token_webhook_cache_ttl: Duration,
    /// Who decides, in order: ABAC, AlwaysAllow, AlwaysDeny, Node, RBAC, Webhook.
    #[arg(long, value_name = "MODE", value_delimiter = ',')]
    pub authorization_mode: Vec<String>,
    /// AuthorizationConfiguration: authorizers in order. Followed while the server runs.
    #[arg(long, value_name = "FILE")]
    pub authorization_config: Option<PathBuf>,
    /// Policies, a JSON object a line, for the mode ABAC.
    #[arg(long, value_name = "FILE")]
    pub authorization_policy_file: Option<PathBuf>,
    /// Kubeconfig of a server that decides, for the mode Webhook.
    #[arg(long, value_name = "FILE")]
    pub authorization_webhook_config_file: Option<PathBuf>,
    /// Version of the SubjectAccessReviews that it is sent: v1 or v1beta1.
    #[arg(long, value_name = "VERSION", default_value = "v1beta1", value_parser = ["v1", "v1beta1"])]
    pub authorization_webhook_version: String,
    /// How long its permissions are remembered.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub authorization_webhook_cache_authorized_ttl: Duration,
    /// How long its refusals are remembered.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub authorization_webhook_cache_unauthorized_ttl: Duration,
}

/// Upstream's limits of `--service-account-max-token-expiration`, in seconds.
const TOKEN_EXPIRATION_SECONDS: std::ops::RangeInclusive<i64> = 3600..=1 << 32;

/// The longest that a webhook of the flags may take.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// What the flags say, made.
pub struct Auth {
    pub authn: authn::Chain,
    pub tokens: Arc<TokenIssuer>,
    pub authz: Arc<authz::Chain>,
    pub rbac: Arc<authz::rbac::Rbac>,
    /// Uses of tokens that are kept in Secrets, to be written down.
    pub legacy_uses: tokio::sync::mpsc::Receiver<legacy::Use>,
}

impl AuthArgs {
    /// `issuer`: of service-account tokens, unless the flags name others. What follows files does so until shutdown.
    pub async fn build(
        &self,
        pki: &Pki,
        reader: &Reader,
        client: &outbound::Client,
        issuer: &str,
        shutdown: &Shutdown,
    ) -> Result<Auth> {
        let external = self.external_signer().await?;
        if let Some(signer) = &external {
            tokio::spawn(signer.clone().keep(shutdown.clone()));
        }
        let tokens = Arc::new(self.token_issuer(pki, issuer, external)?);
        let (used, legacy_uses) = legacy::uses();
        let accounts = ServiceAccountTokens::new(tokens.clone(), reader.clone()).telling(used);
        let own = |kind: Arc<dyn TokenAuthenticator>| -> Arc<dyn TokenAuthenticator> {
            Arc::new(ForApiServer::new(kind, tokens.api_audiences()))
        };
        // Upstream's order.
        let mut kinds: Vec<Arc<dyn TokenAuthenticator>> = Vec::new();
        if let Some(path) = &self.token_auth_file {
            let file = token_file::TokenFile::parse(&read(path, "token-auth-file")?)
                .map_err(|e| anyhow!("--token-auth-file={}: {e}", path.display()))?;
            kinds.push(own(Arc::new(file)));
        }
        kinds.push(Arc::new(accounts));
        kinds.push(own(Arc::new(bootstrap_token::BootstrapTokens::new(reader.clone()))));
        let anonymous = Arc::new(ArcSwap::from_pointee(match self.anonymous_auth {
            None => Anonymous::default(),
            Some(true) => Anonymous::Everywhere,
            Some(false) => Anonymous::Nowhere,
        }));
        if let Some(issuers) = self.issuers(&tokens, client, &anonymous, shutdown)? {
            kinds.push(own(issuers));
        }
        if let Some(path) = &self.authentication_token_webhook_config_file {
            let flag = "authentication-token-webhook-config-file";
            let target = Target::from_kubeconfig(path).map_err(|e| anyhow!("--{flag}={}: {e}", path.display()))?;
            let ttl = self.authentication_token_webhook_cache_ttl;
            let version = &self.authentication_token_webhook_version;
            let webhook = authn::webhook::Webhook::new(target, client.clone(), version, tokens.api_audiences(), ttl);
            kinds.push(Arc::new(webhook));
        }

        let flag = "requestheader-client-ca-file";
        let proxies = self.with_own(&pki.front_proxy_ca.cert_pem, &self.requestheader_client_ca_file, flag)?;
        let lower = |names: &[String]| names.iter().map(|n| n.to_ascii_lowercase()).collect();
        let options = request_header::Options {
            allowed_names: self.requestheader_allowed_names.clone(),
            username_headers: lower(&self.requestheader_username_headers),
            uid_headers: lower(&self.requestheader_uid_headers),
            group_headers: lower(&self.requestheader_group_headers),
            extra_header_prefixes: lower(&self.requestheader_extra_headers_prefix),
        };
        let front_proxy =
            request_header::RequestHeader::new(&proxies, options).map_err(|e| anyhow!("--{flag}: {e}"))?;
        let clients = self.with_own(&pki.ca.cert_pem, &self.client_ca_file, "client-ca-file")?;
        let certificates = x509::ClientCertificates::new(&clients).map_err(|e| anyhow!("--client-ca-file: {e}"))?;
        let authn = authn::Chain::new(
            vec![Arc::new(front_proxy), Arc::new(certificates)],
            Arc::new(Bearer::new(kinds)),
            anonymous,
        );
        let (authz, rbac) = self.authorizers(reader, client, shutdown)?;
        Ok(Auth { authn, tokens, authz, rbac, legacy_uses })
    }

    /// Issuers of the configuration file or of the `--oidc-…` flags.
    fn issuers(
        &self,
        tokens: &TokenIssuer,
        client: &outbound::Client,
        anonymous: &Arc<ArcSwap<Anonymous>>,
        shutdown: &Shutdown,
    ) -> Result<Option<Arc<Issuers>>> {
        let start = |compiled: Compiled, from_file: bool| {
            Issuers::start(compiled, tokens.issuers(), client.clone(), anonymous.clone(), from_file)
        };
        if let Some(path) = &self.authentication_config {
            let fail = |e: String| anyhow!("--authentication-config={}: {e}", path.display());
            if self.oidc_issuer_url.is_some() || self.oidc_client_id.is_some() {
                return Err(fail("authentication-config file and oidc-* flags are mutually exclusive".to_string()));
            }
            let text = read(path, "authentication-config")?;
            let compiled = config::load(&text, tokens.issuers()).map_err(fail)?;
            if compiled.anonymous.is_some() && self.anonymous_auth.is_some() {
                return Err(fail(
                    "--anonymous-auth flag cannot be set when anonymous field is configured in authentication \
                     configuration file"
                        .to_string(),
                ));
            }
            let issuers = start(compiled, self.anonymous_auth.is_none()).map_err(fail)?;
            AUTHENTICATION_RELOADS.hold(&text);
            let file = WatchedFile::new(path, text.as_bytes());
            tokio::spawn(issuers.clone().follow(file, shutdown.clone()));
            return Ok(Some(issuers));
        }
        let (url, id) = match (&self.oidc_issuer_url, &self.oidc_client_id) {
            (None, None) => return Ok(None),
            (Some(url), Some(id)) => (url, id),
            _ => bail!("--oidc-issuer-url and --oidc-client-id must be specified together"),
        };
        let mut required_claims = std::collections::BTreeMap::new();
        for claim in &self.oidc_required_claim {
            let (name, value) =
                claim.split_once('=').with_context(|| format!("--oidc-required-claim={claim}: must be claim=value"))?;
            required_claims.insert(name.to_string(), value.to_string());
        }
        let flags = OidcFlags {
            issuer_url: url.clone(),
            client_id: id.clone(),
            username_claim: self.oidc_username_claim.clone(),
            username_prefix: self.oidc_username_prefix.clone(),
            groups_claim: self.oidc_groups_claim.clone(),
            groups_prefix: self.oidc_groups_prefix.clone(),
            ca_pem: self.oidc_ca_file.as_ref().map(|p| read(p, "oidc-ca-file")).transpose()?.unwrap_or_default(),
            signing_algorithms: self.oidc_signing_algs.clone(),
            required_claims,
        };
        let compiled = config::from_flags(&flags, tokens.issuers()).map_err(|e| anyhow!("--oidc-…: {e}"))?;
        start(compiled, false).map(Some).map_err(|e| anyhow!("--oidc-issuer-url={url}: {e}"))
    }

    fn authorizers(
        &self,
        reader: &Reader,
        client: &outbound::Client,
        shutdown: &Shutdown,
    ) -> Result<(Arc<authz::Chain>, Arc<authz::rbac::Rbac>)> {
        let rbac = Arc::new(authz::rbac::Rbac::new(reader.clone()));
        let parts = authz::config::Parts {
            node: Arc::new(authz::node::NodeAuthorizer::new(reader.clone())),
            rbac: rbac.clone(),
            client: client.clone(),
        };
        let policies = match &self.authorization_policy_file {
            None => None,
            Some(path) => {
                let flag = "authorization-policy-file";
                let text = read(path, flag)?;
                Some(authz::abac::load(&text).map_err(|e| anyhow!("--{flag}={}: {e}", path.display()))?)
            }
        };
        if let Some(path) = &self.authorization_config {
            let fail = |e: String| anyhow!("--authorization-config={}: {e}", path.display());
            let flags = !self.authorization_mode.is_empty() || self.authorization_webhook_config_file.is_some();
            if flags {
                return Err(fail(
                    "--authorization-config can not be specified when --authorization-mode or \
                     --authorization-webhook-* flags are defined"
                        .to_string(),
                ));
            }
            let text = read(path, "authorization-config")?;
            let policies = policies.map(Arc::new);
            let plans = authz::config::load(&text, policies.as_ref()).map_err(fail)?;
            let chain = Arc::new(authz::Chain::new(authz::config::build(&plans, &parts)));
            AUTHORIZATION_RELOADS.hold(&text);
            let file = WatchedFile::new(path, text.as_bytes());
            tokio::spawn(authz::config::follow(chain.clone(), plans, parts, file, shutdown.clone()));
            return Ok((chain, rbac));
        }
        let webhook = match &self.authorization_webhook_config_file {
            None => None,
            Some(path) => {
                let flag = "authorization-webhook-config-file";
                let target = Target::from_kubeconfig(path).map_err(|e| anyhow!("--{flag}={}: {e}", path.display()))?;
                Some(authz::webhook::Options {
                    name: "default".to_string(),
                    target,
                    version: self.authorization_webhook_version.clone(),
                    timeout: WEBHOOK_TIMEOUT,
                    authorized_ttl: self.authorization_webhook_cache_authorized_ttl,
                    unauthorized_ttl: self.authorization_webhook_cache_unauthorized_ttl,
                    failure_policy: authz::webhook::FailurePolicy::NoOpinion,
                    conditions: Vec::new(),
                })
            }
        };
        let modes = match self.authorization_mode.is_empty() {
            true => vec!["Node".to_string(), "RBAC".to_string()],
            false => self.authorization_mode.clone(),
        };
        let plans =
            authz::config::from_modes(&modes, webhook, policies).map_err(|e| anyhow!("--authorization-mode: {e}"))?;
        Ok((Arc::new(authz::Chain::new(authz::config::build(&plans, &parts))), rbac))
    }

    async fn external_signer(&self) -> Result<Option<Arc<Signer>>> {
        let Some(socket) = &self.service_account_signing_endpoint else { return Ok(None) };
        if self.service_account_signing_key_file.is_some() || !self.service_account_key_file.is_empty() {
            bail!(
                "can't set `--service-account-signing-key-file` and/or `--service-account-key-file` with \
                 `--service-account-signing-endpoint` (They are mutually exclusive)"
            );
        }
        let signer =
            Signer::connect(socket).await.map_err(|e| anyhow!("--service-account-signing-endpoint={socket}: {e}"))?;
        Ok(Some(signer))
    }

    fn token_issuer(&self, pki: &Pki, issuer: &str, external: Option<Arc<Signer>>) -> Result<TokenIssuer> {
        let mut options = tokens::Options::new(&pki.service_account_key_pem, issuer);
        if let Some(path) = &self.service_account_signing_key_file {
            options.signing_key_pem = read(path, "service-account-signing-key-file")?;
            // Tokens that were signed before the change stay good.
            options.key_pems.push(pki.service_account_key_pem.clone());
        }
        for path in &self.service_account_key_file {
            let pem = read(path, "service-account-key-file")?;
            apiserver::jwt::Key::all_from_pem(&pem)
                .map_err(|e| anyhow!("--service-account-key-file={}: {e}", path.display()))?;
            options.key_pems.push(pem);
        }
        if !self.service_account_issuer.is_empty() {
            options.issuers = self.service_account_issuer.clone();
        }
        for issuer in &options.issuers {
            // Issuers are URLs or plain strings without a colon (RFC 7519, StringOrURI).
            if issuer.is_empty() || (issuer.contains(':') && issuer.parse::<http::Uri>().is_err()) {
                bail!("--service-account-issuer={issuer}: must be a URL or a string without colons");
            }
        }
        options.api_audiences = self.api_audiences.clone();
        options.jwks_uri = self.service_account_jwks_uri.clone();
        options.extend_expiration = self.service_account_extend_token_expiration;
        if let Some(longest) = self.service_account_max_token_expiration {
            let seconds = longest.as_secs() as i64;
            if !TOKEN_EXPIRATION_SECONDS.contains(&seconds) {
                bail!("--service-account-max-token-expiration={longest:?}: must be between 1 hour and 2^32 seconds");
            }
            options.expiration_seconds_max = Some(seconds);
        }
        if let Some(signer) = &external {
            let most = signer.expiration_seconds_max;
            if let Some(longest) = options.expiration_seconds_max.filter(|s| *s > most) {
                bail!(
                    "service-account-max-token-expiration cannot be set longer than the token expiration supported by \
                     service-account-signing-endpoint: {longest}s > {most}s"
                );
            }
            options.expiration_seconds_max.get_or_insert(most);
        }
        options.external = external;
        TokenIssuer::new(options).map_err(|e| match &self.service_account_signing_key_file {
            Some(path) => anyhow!("--service-account-signing-key-file={}: {e}", path.display()),
            None => anyhow!("failed to read the token key: {e}"),
        })
    }

    /// The cluster's own authority, and those of the flag's file.
    pub fn with_own(&self, own_pem: &str, path: &Option<PathBuf>, flag: &str) -> Result<String> {
        let Some(path) = path else { return Ok(own_pem.to_string()) };
        let more = read(path, flag)?;
        // Checked by itself, so that the message names the file that is wrong.
        x509::Verifier::new(&more).map_err(|e| anyhow!("--{flag}={}: {e}", path.display()))?;
        Ok(format!("{}\n{more}", own_pem.trim_end()))
    }
}

pub fn read(path: &Path, flag: &str) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("--{flag}={}: failed to read the file", path.display()))
}
