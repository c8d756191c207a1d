//! `AuthenticationConfiguration`: issuers of JSON Web Tokens, how their claims become users, and who may come without
//! credentials.
//!
//! In: the file's text, or upstream's older `--oidc-…` flags ([`from_flags`]). Out: [`AuthenticationConfiguration`],
//! checked, with its expressions compiled ([`Issuer`]). Pure. Source: KEP-3331, KEP-4633; errors as upstream words
//! them.

use super::expressions::{Claims, Expression};
use crate::config_file;
use api::validation::values;
use meta::field::{Errors, Path};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const KIND: &str = "AuthenticationConfiguration";
const ISSUERS_MAX: usize = 64;
/// Extra keys that only the server itself sets.
const RESERVED_DOMAINS: [&str; 2] = ["kubernetes.io", "k8s.io"];

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct AuthenticationConfiguration {
    pub jwt: Vec<JwtAuthenticator>,
    pub anonymous: Option<AnonymousConfig>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct AnonymousConfig {
    pub enabled: bool,
    pub conditions: Vec<AnonymousCondition>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct AnonymousCondition {
    pub path: String,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct JwtAuthenticator {
    pub issuer: IssuerConfig,
    pub claim_validation_rules: Vec<ClaimValidationRule>,
    pub claim_mappings: ClaimMappings,
    pub user_validation_rules: Vec<UserValidationRule>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct IssuerConfig {
    pub url: String,
    #[serde(rename = "discoveryURL")]
    pub discovery_url: Option<String>,
    /// PEM; what this machine trusts by default.
    pub certificate_authority: String,
    pub audiences: Vec<String>,
    pub audience_match_policy: String,
    pub egress_selector_type: Option<String>,
}

impl IssuerConfig {
    /// Empty: where the issuer is.
    pub fn discovery_url(&self) -> &str {
        self.discovery_url.as_deref().unwrap_or_default()
    }
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ClaimValidationRule {
    pub claim: String,
    pub required_value: String,
    pub expression: String,
    pub message: String,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct UserValidationRule {
    pub expression: String,
    pub message: String,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ClaimMappings {
    pub username: PrefixedClaimOrExpression,
    pub groups: PrefixedClaimOrExpression,
    pub uid: ClaimOrExpression,
    pub extra: Vec<ExtraMapping>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct PrefixedClaimOrExpression {
    pub claim: String,
    pub prefix: Option<String>,
    pub expression: String,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ClaimOrExpression {
    pub claim: String,
    pub expression: String,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ExtraMapping {
    pub key: String,
    pub value_expression: String,
}

/// Where a part of the user comes from.
#[derive(Clone, Debug)]
pub enum Source {
    Claim { name: String, prefix: String },
    Expression(Expression),
}

#[derive(Clone, Debug)]
pub enum ClaimRule {
    Required { claim: String, value: String },
    Expression { expression: Expression, message: String },
}

/// One issuer, checked and compiled.
#[derive(Clone, Debug)]
pub struct Issuer {
    pub config: IssuerConfig,
    pub username: Source,
    pub groups: Option<Source>,
    pub uid: Option<Source>,
    pub extra: Vec<(String, Expression)>,
    pub claim_rules: Vec<ClaimRule>,
    pub user_rules: Vec<(Expression, String)>,
    /// Algorithms that tokens may be signed with.
    pub algorithms: Vec<crate::jwt::Algorithm>,
}

/// What a configuration comes to.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    pub issuers: Vec<Issuer>,
    pub anonymous: Option<AnonymousConfig>,
}

/// Reads and checks a file. `own_issuers`: those of service-account tokens, which nobody else may claim.
pub fn load(text: &str, own_issuers: &[String]) -> Result<Compiled, String> {
    let config: AuthenticationConfiguration = config_file::decode(text, KIND, &["v1", "v1beta1", "v1alpha1"])?;
    compile(&config, own_issuers).map_err(|e| e.joined())
}

pub fn compile(config: &AuthenticationConfiguration, own_issuers: &[String]) -> Result<Compiled, Errors> {
    let mut errors = Errors::default();
    let root = Path::new("jwt");
    if config.jwt.len() > ISSUERS_MAX {
        errors.too_many(root.clone(), config.jwt.len(), ISSUERS_MAX);
    }
    let (mut urls, mut discovery_urls) = (BTreeSet::new(), BTreeSet::new());
    let mut issuers = Vec::new();
    for (i, jwt) in config.jwt.iter().enumerate() {
        let at = root.index(i);
        issuers.extend(compile_issuer(jwt, own_issuers, &at, &mut errors));
        if !urls.insert(jwt.issuer.url.as_str()) {
            errors.duplicate(at.child("issuer").child("url"), jwt.issuer.url.clone());
        }
        let discovery = jwt.issuer.discovery_url();
        if !discovery.is_empty() && !discovery_urls.insert(discovery) {
            errors.duplicate(at.child("issuer").child("discoveryURL"), discovery);
        }
    }
    if let Some(anonymous) = &config.anonymous
        && !anonymous.enabled
        && !anonymous.conditions.is_empty()
    {
        let shown: Vec<Value> = anonymous.conditions.iter().map(|c| json!({"Path": c.path})).collect();
        errors.invalid(
            Path::new("anonymous").child("conditions"),
            shown,
            "enabled should be set to true when conditions are defined",
        );
    }
    match errors.is_empty() {
        true => Ok(Compiled { issuers, anonymous: config.anonymous.clone() }),
        false => Err(errors),
    }
}

fn check_url(url: &str, at: &Path, errors: &mut Errors) {
    let parsed = match url.parse::<http::Uri>() {
        Ok(parsed) => parsed,
        Err(e) => return errors.invalid(at.clone(), url, e.to_string()),
    };
    for (wrong, why) in [
        (parsed.scheme_str() != Some("https"), "URL scheme must be https"),
        (parsed.authority().is_some_and(|a| a.as_str().contains('@')), "URL must not contain a username or password"),
        (parsed.query().is_some_and(|q| !q.is_empty()), "URL must not contain a query"),
        (url.split_once('#').is_some_and(|(_, f)| !f.is_empty()), "URL must not contain a fragment"),
    ] {
        if wrong {
            errors.invalid(at.clone(), url, why);
        }
    }
}

fn check_issuer(issuer: &IssuerConfig, own_issuers: &[String], at: &Path, errors: &mut Errors) {
    let url_at = at.child("url");
    if issuer.url.is_empty() {
        errors.required(url_at, "");
    } else {
        if own_issuers.contains(&issuer.url) {
            let mut own = own_issuers.to_vec();
            own.sort();
            let why = format!("URL must not overlap with disallowed issuers: [{}]", own.join(" "));
            errors.invalid(url_at.clone(), issuer.url.clone(), why);
        }
        check_url(&issuer.url, &url_at, errors);
    }
    let discovery = issuer.discovery_url();
    if !discovery.is_empty() {
        let at = at.child("discoveryURL");
        if !issuer.url.is_empty() && discovery.trim_end_matches('/') == issuer.url.trim_end_matches('/') {
            errors.invalid(at.clone(), discovery, "discoveryURL must be different from URL");
        }
        check_url(discovery, &at, errors);
    }
    check_audiences(issuer, at, errors);
    if !issuer.certificate_authority.is_empty()
        && let Err(why) = super::x509::Verifier::new(&issuer.certificate_authority)
    {
        errors.invalid(at.child("certificateAuthority"), "<omitted>", why);
    }
    let selector = issuer.egress_selector_type.as_deref().unwrap_or_default();
    if !matches!(selector, "" | "controlplane" | "cluster") {
        let why = "egress selector must be either controlplane or cluster";
        errors.invalid(at.child("egressSelectorType"), selector, why);
    } else if !selector.is_empty() {
        errors.invalid(at.child("egressSelectorType"), selector, "there is no egress selector here");
    }
}

fn check_audiences(issuer: &IssuerConfig, at: &Path, errors: &mut Errors) {
    let audiences_at = at.child("audiences");
    if issuer.audiences.is_empty() {
        return errors.required(audiences_at.clone(), format!("at least one {audiences_at} is required"));
    }
    let mut seen = BTreeSet::new();
    for (i, audience) in issuer.audiences.iter().enumerate() {
        if audience.is_empty() {
            errors.required(audiences_at.index(i), "");
        }
        if !seen.insert(audience) {
            errors.duplicate(audiences_at.index(i), audience.clone());
        }
    }
    let (policy, policy_at) = (issuer.audience_match_policy.as_str(), at.child("audienceMatchPolicy"));
    if issuer.audiences.len() > 1 && policy != "MatchAny" {
        errors.invalid(policy_at, policy, "audienceMatchPolicy must be MatchAny for multiple audiences");
    } else if !matches!(policy, "" | "MatchAny") {
        errors.invalid(policy_at, policy, "audienceMatchPolicy must be empty or MatchAny for single audience");
    }
}

/// A mapping or rule: its expression, compiled for claims, or a mistake noted at `at`.
fn expression(text: &str, kind: Claims, at: &Path, errors: &mut Errors) -> Option<Expression> {
    match Expression::compile(text, kind) {
        Ok(e) => Some(e),
        Err(why) => {
            errors.invalid(at.clone(), text, why);
            None
        }
    }
}

fn compile_issuer(jwt: &JwtAuthenticator, own_issuers: &[String], at: &Path, errors: &mut Errors) -> Option<Issuer> {
    let before = errors.0.len();
    check_issuer(&jwt.issuer, own_issuers, &at.child("issuer"), errors);
    let claim_rules = claim_rules(&jwt.claim_validation_rules, &at.child("claimValidationRules"), errors);

    let (mappings, mappings_at) = (&jwt.claim_mappings, at.child("claimMappings"));
    let username_at = mappings_at.child("username");
    if mappings.username.claim.is_empty() && mappings.username.expression.is_empty() {
        errors.required(username_at.clone(), "claim or expression is required");
    }
    let username = prefixed(&mappings.username, &username_at, errors);
    let groups = prefixed(&mappings.groups, &mappings_at.child("groups"), errors);
    let uid = PrefixedClaimOrExpression {
        claim: mappings.uid.claim.clone(),
        prefix: (!mappings.uid.claim.is_empty()).then(String::new),
        expression: mappings.uid.expression.clone(),
    };
    let uid = prefixed(&uid, &mappings_at.child("uid"), errors);
    let extra = extra(&mappings.extra, &mappings_at.child("extra"), errors);

    // Who may choose an address may choose anybody's, unless the issuer has verified it.
    if let Some(Source::Expression(e)) = &username
        && e.reads_claim("email")
    {
        let rules = claim_rules.iter().filter_map(|r| match r {
            ClaimRule::Expression { expression, .. } => Some(expression),
            ClaimRule::Required { .. } => None,
        });
        let mut all = std::iter::once(e).chain(extra.iter().map(|(_, e)| e)).chain(rules);
        if !all.any(|e| e.reads_claim("email_verified")) {
            errors.invalid(
                username_at.child("expression"),
                mappings.username.expression.clone(),
                "claims.email_verified must be used in claimMappings.username.expression or \
                 claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used \
                 in claimMappings.username.expression",
            );
        }
    }
    let user_rules = user_rules(&jwt.user_validation_rules, &at.child("userValidationRules"), errors);
    if errors.0.len() > before {
        return None;
    }
    Some(Issuer {
        config: jwt.issuer.clone(),
        username: username?,
        groups,
        uid,
        extra,
        claim_rules,
        user_rules,
        algorithms: crate::jwt::Algorithm::ALL.to_vec(),
    })
}

fn claim_rules(rules: &[ClaimValidationRule], at: &Path, errors: &mut Errors) -> Vec<ClaimRule> {
    let mut out = Vec::new();
    let (mut claims, mut expressions) = (BTreeSet::new(), BTreeSet::new());
    for (i, rule) in rules.iter().enumerate() {
        let at = at.index(i);
        match (rule.claim.is_empty(), rule.expression.is_empty()) {
            (true, true) => errors.required(at, "claim or expression is required"),
            (false, false) => errors.invalid(at, rule.claim.clone(), "claim and expression can't both be set"),
            (false, true) => {
                if !rule.message.is_empty() {
                    let why = "may not be specified when claim is set";
                    errors.invalid(at.child("message"), rule.message.clone(), why);
                }
                if !claims.insert(&rule.claim) {
                    errors.duplicate(at.child("claim"), rule.claim.clone());
                }
                out.push(ClaimRule::Required { claim: rule.claim.clone(), value: rule.required_value.clone() });
            }
            (true, false) => {
                if !rule.required_value.is_empty() {
                    let why = "may not be specified when expression is set";
                    errors.invalid(at.child("requiredValue"), rule.required_value.clone(), why);
                }
                let at = at.child("expression");
                if !expressions.insert(&rule.expression) {
                    errors.duplicate(at, rule.expression.clone());
                } else if let Some(expression) = expression(&rule.expression, Claims::Rule, &at, errors) {
                    out.push(ClaimRule::Expression { expression, message: rule.message.clone() });
                }
            }
        }
    }
    out
}

fn user_rules(rules: &[UserValidationRule], at: &Path, errors: &mut Errors) -> Vec<(Expression, String)> {
    let mut out = Vec::new();
    let mut expressions = BTreeSet::new();
    for (i, rule) in rules.iter().enumerate() {
        let at = at.index(i).child("expression");
        if rule.expression.is_empty() {
            errors.required(at, "");
        } else if !expressions.insert(&rule.expression) {
            errors.duplicate(at, rule.expression.clone());
        } else if let Some(e) = expression(&rule.expression, Claims::UserRule, &at, errors) {
            out.push((e, rule.message.clone()));
        }
    }
    out
}

fn extra(mappings: &[ExtraMapping], at: &Path, errors: &mut Errors) -> Vec<(String, Expression)> {
    let mut out = Vec::new();
    let mut keys = BTreeSet::new();
    for (i, mapping) in mappings.iter().enumerate() {
        let at = at.index(i);
        let (key, key_at) = (mapping.key.as_str(), at.child("key"));
        values::domain_prefixed_path(key, &key_at, errors);
        if key != key.to_lowercase() {
            errors.invalid(key_at.clone(), key, "must be lowercase");
        }
        let domain = key.split_once('/').map_or("", |(domain, _)| domain);
        if RESERVED_DOMAINS.iter().any(|r| domain == *r || domain.ends_with(&format!(".{r}"))) {
            let why = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
            errors.invalid(key_at.clone(), key, why);
        }
        let at = at.child("valueExpression");
        if !keys.insert(key) {
            errors.duplicate(key_at, key);
        } else if mapping.value_expression.is_empty() {
            errors.required(at, "");
        } else if let Some(e) = expression(&mapping.value_expression, Claims::Mapping, &at, errors) {
            out.push((key.to_string(), e));
        }
    }
    out
}

fn prefixed(m: &PrefixedClaimOrExpression, at: &Path, errors: &mut Errors) -> Option<Source> {
    match (m.claim.is_empty(), m.expression.is_empty()) {
        (true, true) => None,
        (false, false) => {
            errors.invalid(at.clone(), "", "claim and expression can't both be set");
            None
        }
        (false, true) => match &m.prefix {
            Some(prefix) => Some(Source::Claim { name: m.claim.clone(), prefix: prefix.clone() }),
            None => {
                errors.required(
                    at.child("prefix"),
                    "prefix is required when claim is set. It can be set to an empty string to disable prefixing",
                );
                None
            }
        },
        (true, false) => {
            if let Some(prefix) = &m.prefix {
                errors.invalid(at.child("prefix"), prefix.clone(), "may not be specified when expression is set");
            }
            expression(&m.expression, Claims::Mapping, &at.child("expression"), errors).map(Source::Expression)
        }
    }
}

/// Upstream's `--oidc-…` flags.
#[derive(Clone, Debug, Default)]
pub struct OidcFlags {
    pub issuer_url: String,
    pub client_id: String,
    pub username_claim: String,
    /// `None`: the issuer's URL and `#`, unless the claim is `email`. `-`: no prefix.
    pub username_prefix: Option<String>,
    pub groups_claim: Option<String>,
    pub groups_prefix: String,
    pub ca_pem: String,
    pub signing_algorithms: Vec<String>,
    pub required_claims: BTreeMap<String, String>,
}

/// The one issuer that the flags describe.
pub fn from_flags(flags: &OidcFlags, own_issuers: &[String]) -> Result<Compiled, String> {
    let prefix = match flags.username_prefix.as_deref() {
        Some("-") => String::new(),
        Some(p) if !p.is_empty() => p.to_string(),
        _ if flags.username_claim == "email" => String::new(),
        _ => format!("{}#", flags.issuer_url),
    };
    let mut config = AuthenticationConfiguration {
        jwt: vec![JwtAuthenticator {
            issuer: IssuerConfig {
                url: flags.issuer_url.clone(),
                certificate_authority: flags.ca_pem.clone(),
                audiences: vec![flags.client_id.clone()],
                ..IssuerConfig::default()
            },
            claim_validation_rules: flags
                .required_claims
                .iter()
                .map(|(claim, value)| ClaimValidationRule {
                    claim: claim.clone(),
                    required_value: value.clone(),
                    ..ClaimValidationRule::default()
                })
                .collect(),
            ..JwtAuthenticator::default()
        }],
        anonymous: None,
    };
    let mappings = &mut config.jwt[0].claim_mappings;
    mappings.username =
        PrefixedClaimOrExpression { claim: flags.username_claim.clone(), prefix: Some(prefix), ..Default::default() };
    if let Some(claim) = &flags.groups_claim {
        mappings.groups = PrefixedClaimOrExpression {
            claim: claim.clone(),
            prefix: Some(flags.groups_prefix.clone()),
            ..Default::default()
        };
    }
    let mut compiled = compile(&config, own_issuers).map_err(|e| e.joined())?;
    let mut algorithms = Vec::new();
    for name in &flags.signing_algorithms {
        let known = crate::jwt::Algorithm::from_name(name);
        algorithms.push(known.ok_or_else(|| format!("signing algorithm {name:?} is unknown; known are RS256, RS384, RS512, ES256, ES384, ES512, PS256, PS384, PS512"))?);
    }
    for issuer in &mut compiled.issuers {
        issuer.algorithms = algorithms.clone();
    }
    Ok(compiled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        let text = format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n{text}");
        load(&text, &["https://own".to_string(), "https://other".to_string()]).err().unwrap_or_default()
    }

    const GOOD: &str = "
jwt:
- issuer: {url: https://a, audiences: [x]}
  claimMappings:
    username: {claim: sub, prefix: ''}
    groups: {expression: 'claims.roles.split(\",\")'}
    uid: {claim: oid}
    extra: [{key: example.org/team, valueExpression: claims.team}]
  claimValidationRules:
  - {claim: hd, requiredValue: example.org}
  - {expression: 'claims.exp - claims.nbf <= 86400', message: too long}
  userValidationRules: [{expression: \"!user.username.startsWith('system:')\", message: reserved}]
anonymous: {enabled: true, conditions: [{path: /livez}]}
";

    #[test]
    fn good_files_are_taken() {
        assert_eq!(check(GOOD), "");
        assert_eq!(check("anonymous: {enabled: false}"), "");
    }

    #[test]
    fn mistakes_are_told_by_field() {
        let with = |from: &str, to: &str| {
            assert!(GOOD.contains(from), "{from}");
            check(&GOOD.replace(from, to))
        };
        const URL: &str = "url: https://a";
        const AUDIENCES: &str = "audiences: [x]";
        const USERNAME: &str = "{claim: sub, prefix: ''}";
        const GROUPS: &str = "{expression: 'claims.roles.split(\",\")'}";
        const EXTRA: &str = "{key: example.org/team, valueExpression: claims.team}";
        const CLAIM: &str = "{claim: hd, requiredValue: example.org}";
        const RULE: &str = "{expression: 'claims.exp - claims.nbf <= 86400', message: too long}";
        const USER: &str = "{expression: \"!user.username.startsWith('system:')\", message: reserved}";
        let unverified = "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression";
        for (from, to, expected) in [
            (URL, "url: ''", "jwt[0].issuer.url: Required value"),
            (URL, "url: http://a", r#"jwt[0].issuer.url: Invalid value: "http://a": URL scheme must be https"#),
            (
                URL,
                "url: http://u:p@a?x=1#y",
                r#"[jwt[0].issuer.url: Invalid value: "http://u:p@a?x=1#y": URL scheme must be https, jwt[0].issuer.url: Invalid value: "http://u:p@a?x=1#y": URL must not contain a username or password, jwt[0].issuer.url: Invalid value: "http://u:p@a?x=1#y": URL must not contain a query, jwt[0].issuer.url: Invalid value: "http://u:p@a?x=1#y": URL must not contain a fragment]"#,
            ),
            (
                URL,
                "url: https://own",
                r#"jwt[0].issuer.url: Invalid value: "https://own": URL must not overlap with disallowed issuers: [https://other https://own]"#,
            ),
            (
                URL,
                "url: https://a, discoveryURL: https://a/",
                r#"jwt[0].issuer.discoveryURL: Invalid value: "https://a/": discoveryURL must be different from URL"#,
            ),
            // Where others' documents are found is nobody's issuer.
            (URL, "url: https://a, discoveryURL: https://own", ""),
            (URL, "url: https://a, discoveryURL: ''", ""),
            (
                URL,
                "url: https://a, discoveryURL: http://b",
                r#"jwt[0].issuer.discoveryURL: Invalid value: "http://b": URL scheme must be https"#,
            ),
            (URL, "urls: https://a", "strict decoding error: jwt[0].issuer.urls: unknown field `urls`"),
            (
                AUDIENCES,
                "audiences: []",
                "jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required",
            ),
            (AUDIENCES, "audiences: ['']", "jwt[0].issuer.audiences[0]: Required value"),
            (
                AUDIENCES,
                "audienceMatchPolicy: MatchAny, audiences: [x, z, x]",
                r#"jwt[0].issuer.audiences[2]: Duplicate value: "x""#,
            ),
            (
                AUDIENCES,
                "audiences: [x, z]",
                r#"jwt[0].issuer.audienceMatchPolicy: Invalid value: "": audienceMatchPolicy must be MatchAny for multiple audiences"#,
            ),
            (
                AUDIENCES,
                "audiences: [x], audienceMatchPolicy: MatchAll",
                r#"jwt[0].issuer.audienceMatchPolicy: Invalid value: "MatchAll": audienceMatchPolicy must be empty or MatchAny for single audience"#,
            ),
            (
                AUDIENCES,
                "audiences: [x], certificateAuthority: junk",
                r#"jwt[0].issuer.certificateAuthority: Invalid value: "<omitted>": "#,
            ),
            (
                AUDIENCES,
                "audiences: [x], egressSelectorType: moon",
                r#"jwt[0].issuer.egressSelectorType: Invalid value: "moon": egress selector must be either controlplane or cluster"#,
            ),
            (
                USERNAME,
                "{claim: sub}",
                "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing",
            ),
            (USERNAME, "{}", "jwt[0].claimMappings.username: Required value: claim or expression is required"),
            (
                USERNAME,
                "{claim: sub, expression: claims.sub}",
                r#"jwt[0].claimMappings.username: Invalid value: "": claim and expression can't both be set"#,
            ),
            (
                USERNAME,
                "{prefix: x, expression: claims.sub}",
                r#"jwt[0].claimMappings.username.prefix: Invalid value: "x": may not be specified when expression is set"#,
            ),
            (
                GROUPS,
                "{claim: a, expression: claims.sub}",
                r#"jwt[0].claimMappings.groups: Invalid value: "": claim and expression can't both be set"#,
            ),
            (GROUPS, "{prefix: 'x:'}", ""),
            (
                "{claim: oid}",
                "{claim: oid, expression: claims.oid}",
                r#"jwt[0].claimMappings.uid: Invalid value: "": claim and expression can't both be set"#,
            ),
            (EXTRA, "{key: '', valueExpression: claims.team}", "jwt[0].claimMappings.extra[0].key: Required value"),
            (
                EXTRA,
                "{key: Team, valueExpression: claims.team}",
                r#"[jwt[0].claimMappings.extra[0].key: Invalid value: "Team": must be a domain-prefixed path (such as "acme.io/foo"), jwt[0].claimMappings.extra[0].key: Invalid value: "Team": must be lowercase]"#,
            ),
            (
                EXTRA,
                "{key: x.k8s.io/a, valueExpression: claims.team}",
                r#"jwt[0].claimMappings.extra[0].key: Invalid value: "x.k8s.io/a": k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"#,
            ),
            (EXTRA, "{key: e.org/a}", "jwt[0].claimMappings.extra[0].valueExpression: Required value"),
            (
                EXTRA,
                "{key: e.org/a, valueExpression: claims.a}, {key: e.org/a, valueExpression: claims.b}",
                r#"jwt[0].claimMappings.extra[1].key: Duplicate value: "e.org/a""#,
            ),
            (
                CLAIM,
                "{claim: hd, message: x}",
                r#"jwt[0].claimValidationRules[0].message: Invalid value: "x": may not be specified when claim is set"#,
            ),
            (CLAIM, "{}", "jwt[0].claimValidationRules[0]: Required value: claim or expression is required"),
            (
                CLAIM,
                "{claim: hd, expression: 'true'}",
                r#"jwt[0].claimValidationRules[0]: Invalid value: "hd": claim and expression can't both be set"#,
            ),
            (
                CLAIM,
                "{expression: 'true', requiredValue: x}",
                r#"jwt[0].claimValidationRules[0].requiredValue: Invalid value: "x": may not be specified when expression is set"#,
            ),
            (RULE, "{claim: hd}", r#"jwt[0].claimValidationRules[1].claim: Duplicate value: "hd""#),
            (
                RULE,
                "{expression: 'true'}\n  - {expression: 'true'}",
                r#"jwt[0].claimValidationRules[2].expression: Duplicate value: "true""#,
            ),
            (
                RULE,
                "{expression: 'claims.exp +'}",
                r#"jwt[0].claimValidationRules[1].expression: Invalid value: "claims.exp +": compilation failed: ERROR: "#,
            ),
            (
                RULE,
                "{expression: '1 + 1'}",
                r#"jwt[0].claimValidationRules[1].expression: Invalid value: "1 + 1": must evaluate to bool"#,
            ),
            (USER, "{message: x}", "jwt[0].userValidationRules[0].expression: Required value"),
            (
                USER,
                "{expression: 'true'}, {expression: 'true'}",
                r#"jwt[0].userValidationRules[1].expression: Duplicate value: "true""#,
            ),
            (
                USER,
                "{expression: \"user.name == ''\"}",
                r#"jwt[0].userValidationRules[0].expression: Invalid value: "user.name == ''": compilation failed: "#,
            ),
            (
                "enabled: true",
                "enabled: false",
                r#"anonymous.conditions: Invalid value: [{"Path":"/livez"}]: enabled should be set to true when conditions are defined"#,
            ),
        ] {
            let got = with(from, to);
            assert!(got.starts_with(expected) && got.is_empty() == expected.is_empty(), "{to}: {got}");
        }
        for (expression, rule, good) in [
            ("claims.email", "'true'", false),
            ("claims.email_", "'true'", true),
            ("claims.emails", "'true'", true),
            ("claims.?email.orValue(\"\")", "'true'", false),
            ("has(claims.email) ? \"a\" : \"b\"", "'true'", false),
            ("[\"a\"].map(i, i + claims.email)[0]", "'true'", false),
            ("\"claims.email\"", "'true'", true),
            ("claims.email", "string(claims.email_verified) == \"true\"", true),
            ("claims.email", "claims.email_verified_ == \"true\"", false),
            ("claims.?email_verified.orValue(true) ? claims.email : claims.sub", "'true'", true),
        ] {
            let text = GOOD.replace(USERNAME, &format!("{{expression: '{expression}'}}")).replace(
                RULE,
                &format!("{{expression: {}}}", if rule == "'true'" { rule.to_string() } else { format!("'{rule}'") }),
            );
            let got = check(&text);
            assert_eq!(got.is_empty(), good, "{expression} {rule}: {got}");
            assert!(good || got.ends_with(unverified), "{got}");
        }
    }

    #[test]
    fn issuers_are_told_apart_by_their_urls() {
        let one = "- issuer: {url: https://a, audiences: [x], discoveryURL: https://d}\n  claimMappings: {username: {claim: sub, prefix: ''}}\n";
        let all = |n: usize| format!("jwt:\n{}", one.repeat(n));
        assert_eq!(check(&all(1)), "");
        assert_eq!(
            check(&all(2)),
            r#"[jwt[1].issuer.url: Duplicate value: "https://a", jwt[1].issuer.discoveryURL: Duplicate value: "https://d"]"#
        );
        assert!(check(&all(65)).starts_with("[jwt: Too many: 65: must have at most 64 items, "), "{}", check(&all(65)));
    }

    #[test]
    fn flags_describe_one_issuer() {
        let flags = OidcFlags {
            issuer_url: "https://a".into(),
            client_id: "c".into(),
            username_claim: "sub".into(),
            signing_algorithms: vec!["RS256".into()],
            ..OidcFlags::default()
        };
        let prefix = |flags: &OidcFlags| match &from_flags(flags, &[]).unwrap().issuers[0].username {
            Source::Claim { prefix, .. } => prefix.clone(),
            Source::Expression(_) => unreachable!(),
        };
        assert_eq!(prefix(&flags), "https://a#");
        assert_eq!(prefix(&OidcFlags { username_prefix: Some("-".into()), ..flags.clone() }), "");
        assert_eq!(prefix(&OidcFlags { username_prefix: Some("o:".into()), ..flags.clone() }), "o:");
        assert_eq!(prefix(&OidcFlags { username_claim: "email".into(), ..flags.clone() }), "");
        assert!(from_flags(&OidcFlags { signing_algorithms: vec!["HS256".into()], ..flags.clone() }, &[]).is_err());
        assert!(from_flags(&OidcFlags { issuer_url: "http://a".into(), ..flags }, &[]).is_err());
    }
}
