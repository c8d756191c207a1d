//! `AuthenticationConfiguration`: issuers of JSON Web Tokens, how their claims become users, and who may come without
//! credentials.
//!
//! In: the file's text, or upstream's older `--oidc-…` flags ([`from_flags`]). Out: [`AuthenticationConfiguration`],
//! checked, with its expressions compiled ([`Issuer`]). Pure. Source: KEP-3331, KEP-4633; errors as upstream words
//! them.

use super::expressions::{Claims, Expression};
use crate::config_file;
use meta::field::{Errors, Path};
use serde::Deserialize;
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
    let config: AuthenticationConfiguration = config_file::decode(text, KIND, &["v1", "v1beta1"])?;
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
        let url = &jwt.issuer.url;
        if !url.is_empty() && !urls.insert(url.clone()) {
            errors.duplicate(at.child("issuer").child("url"), url.clone());
        }
        if let Some(discovery) = &jwt.issuer.discovery_url
            && !discovery_urls.insert(discovery.clone())
        {
            errors.duplicate(at.child("issuer").child("discoveryURL"), discovery.clone());
        }
        check_issuer(&jwt.issuer, own_issuers, &at.child("issuer"), &mut errors);
        issuers.extend(compile_issuer(jwt, &at, &mut errors));
    }
    if let Some(anonymous) = &config.anonymous
        && !anonymous.enabled
        && !anonymous.conditions.is_empty()
    {
        let paths: Vec<String> = anonymous.conditions.iter().map(|c| c.path.clone()).collect();
        errors.invalid(
            Path::new("anonymous").child("conditions"),
            paths,
            "enabled should be set to true when conditions are defined",
        );
    }
    match errors.is_empty() {
        true => Ok(Compiled { issuers, anonymous: config.anonymous.clone() }),
        false => Err(errors),
    }
}

fn check_url(url: &str, at: &Path, errors: &mut Errors) {
    if url.is_empty() {
        return errors.required(at.clone(), "URL is required");
    }
    let fault = match url.parse::<http::Uri>() {
        Err(e) => e.to_string(),
        Ok(u) if u.scheme_str() != Some("https") => "URL scheme must be https".to_string(),
        Ok(u) if u.authority().is_some_and(|a| a.as_str().contains('@')) => {
            "URL must not contain a username or password".to_string()
        }
        Ok(u) if u.query().is_some() => "URL must not contain a query".to_string(),
        Ok(_) if url.contains('#') => "URL must not contain a fragment".to_string(),
        Ok(_) => return,
    };
    errors.invalid(at.clone(), url, fault);
}

fn check_issuer(issuer: &IssuerConfig, own_issuers: &[String], at: &Path, errors: &mut Errors) {
    let url_at = at.child("url");
    check_url(&issuer.url, &url_at, errors);
    if own_issuers.contains(&issuer.url) {
        let all = own_issuers.join(", ");
        errors.invalid(url_at, issuer.url.clone(), format!("URL must not overlap with disallowed issuers: {all}"));
    }
    if let Some(discovery) = &issuer.discovery_url {
        let at = at.child("discoveryURL");
        if discovery.trim_end_matches('/') == issuer.url.trim_end_matches('/') {
            errors.invalid(at, discovery.clone(), "discoveryURL must be different from URL");
        } else {
            check_url(discovery, &at, errors);
        }
    }
    let audiences_at = at.child("audiences");
    if issuer.audiences.is_empty() {
        errors.required(audiences_at.clone(), format!("at least one {audiences_at} is required"));
    }
    let mut seen = BTreeSet::new();
    for (i, audience) in issuer.audiences.iter().enumerate() {
        if audience.is_empty() {
            errors.required(audiences_at.index(i), "audience can't be empty");
        } else if !seen.insert(audience) {
            errors.duplicate(audiences_at.index(i), audience.clone());
        }
    }
    let (policy, policy_at) = (issuer.audience_match_policy.as_str(), at.child("audienceMatchPolicy"));
    if issuer.audiences.len() > 1 && policy != "MatchAny" {
        errors.invalid(policy_at, policy, "audienceMatchPolicy must be MatchAny for multiple audiences");
    } else if !matches!(policy, "" | "MatchAny") {
        errors.invalid(policy_at, policy, "audienceMatchPolicy must be empty or MatchAny for single audience");
    }
    if !issuer.certificate_authority.is_empty()
        && let Err(why) = super::x509::Verifier::new(&issuer.certificate_authority)
    {
        errors.invalid(at.child("certificateAuthority"), "<omitted>", why);
    }
    if let Some(kind) = issuer.egress_selector_type.as_deref().filter(|k| !k.is_empty()) {
        errors.invalid(at.child("egressSelectorType"), kind, "there is no egress selector here");
    }
}

/// A mapping or rule: its expression, compiled for claims, or a mistake noted at `at`.
fn expression(text: &str, kind: Claims, at: &Path, errors: &mut Errors) -> Option<Expression> {
    match Expression::compile(text.trim(), kind) {
        Ok(e) => Some(e),
        Err(why) => {
            errors.invalid(at.clone(), text, why);
            None
        }
    }
}

fn compile_issuer(jwt: &JwtAuthenticator, at: &Path, errors: &mut Errors) -> Option<Issuer> {
    let before = errors.0.len();
    let mappings = &jwt.claim_mappings;
    let mappings_at = at.child("claimMappings");

    let username_at = mappings_at.child("username");
    let username = prefixed(&mappings.username, &username_at, errors);
    if username.is_none() && mappings.username == PrefixedClaimOrExpression::default() {
        errors.required(username_at.clone(), "claim or expression is required");
    }
    let groups = prefixed(&mappings.groups, &mappings_at.child("groups"), errors);
    let uid = {
        let (m, at) = (&mappings.uid, mappings_at.child("uid"));
        let as_prefixed = PrefixedClaimOrExpression {
            claim: m.claim.clone(),
            prefix: (!m.claim.is_empty()).then(String::new),
            expression: m.expression.clone(),
        };
        prefixed(&as_prefixed, &at, errors)
    };

    let mut extra = Vec::new();
    let mut keys = BTreeSet::new();
    for (i, mapping) in mappings.extra.iter().enumerate() {
        let at = mappings_at.child("extra").index(i);
        check_extra_key(&mapping.key, &at.child("key"), errors);
        if !mapping.key.is_empty() && !keys.insert(&mapping.key) {
            errors.duplicate(at.child("key"), mapping.key.clone());
        }
        let at = at.child("valueExpression");
        if mapping.value_expression.trim().is_empty() {
            errors.required(at, "valueExpression is required");
        } else if let Some(e) = expression(&mapping.value_expression, Claims::Mapping, &at, errors) {
            extra.push((mapping.key.clone(), e));
        }
    }

    let mut claim_rules = Vec::new();
    let (mut claims, mut expressions) = (BTreeSet::new(), BTreeSet::new());
    for (i, rule) in jwt.claim_validation_rules.iter().enumerate() {
        let at = at.child("claimValidationRules").index(i);
        match (rule.claim.is_empty(), rule.expression.trim().is_empty()) {
            (true, true) => errors.required(at, "claim or expression is required"),
            (false, false) => errors.invalid(at, rule.claim.clone(), "claim and expression can't both be set"),
            (false, true) => {
                if !rule.message.is_empty() {
                    errors.invalid(at.child("message"), rule.message.clone(), "message can't be set when claim is set");
                }
                if !claims.insert(&rule.claim) {
                    errors.duplicate(at.child("claim"), rule.claim.clone());
                }
                claim_rules.push(ClaimRule::Required { claim: rule.claim.clone(), value: rule.required_value.clone() });
            }
            (true, false) => {
                if !rule.required_value.is_empty() {
                    errors.invalid(
                        at.child("requiredValue"),
                        rule.required_value.clone(),
                        "requiredValue can't be set when expression is set",
                    );
                }
                let at = at.child("expression");
                if !expressions.insert(&rule.expression) {
                    errors.duplicate(at.clone(), rule.expression.clone());
                }
                if let Some(expression) = expression(&rule.expression, Claims::Rule, &at, errors) {
                    claim_rules.push(ClaimRule::Expression { expression, message: rule.message.clone() });
                }
            }
        }
    }

    let mut user_rules = Vec::new();
    let mut expressions = BTreeSet::new();
    for (i, rule) in jwt.user_validation_rules.iter().enumerate() {
        let at = at.child("userValidationRules").index(i).child("expression");
        if rule.expression.trim().is_empty() {
            errors.required(at, "expression is required");
            continue;
        }
        if !expressions.insert(&rule.expression) {
            errors.duplicate(at.clone(), rule.expression.clone());
        }
        if let Some(e) = expression(&rule.expression, Claims::UserRule, &at, errors) {
            user_rules.push((e, rule.message.clone()));
        }
    }

    // Who may choose an address may choose anybody's, unless the issuer has verified it.
    if mentions(&mappings.username.expression, "email") {
        let checked = std::iter::once(&mappings.username.expression)
            .chain(mappings.extra.iter().map(|e| &e.value_expression))
            .chain(jwt.claim_validation_rules.iter().map(|r| &r.expression))
            .any(|e| mentions(e, "email_verified"));
        if !checked {
            errors.invalid(
                username_at.child("expression"),
                mappings.username.expression.clone(),
                "claims.email_verified must be used in claimMappings.username.expression or \
                 claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used \
                 in claimMappings.username.expression",
            );
        }
    }
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

/// Whether an expression reads this claim.
fn mentions(expression: &str, claim: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let dotted = [format!("claims.{claim}"), format!("claims.?{claim}")];
    let quoted = [format!("[\"{claim}\"]"), format!("['{claim}']"), format!("[?\"{claim}\"]"), format!("[?'{claim}']")];
    let squeezed: String = expression.chars().filter(|c| !c.is_whitespace()).collect();
    dotted.iter().any(|d| squeezed.match_indices(d.as_str()).any(|(i, m)| !squeezed[i + m.len()..].starts_with(word)))
        || quoted.iter().any(|q| squeezed.contains(q.as_str()))
}

fn prefixed(m: &PrefixedClaimOrExpression, at: &Path, errors: &mut Errors) -> Option<Source> {
    match (m.claim.is_empty(), m.expression.trim().is_empty()) {
        (true, true) => {
            if m.prefix.as_deref().is_some_and(|p| !p.is_empty()) {
                errors.required(at.child("claim"), "non-empty claim name is required when prefix is set");
            }
            None
        }
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
                errors.invalid(at.child("prefix"), prefix.clone(), "prefix can't be set when expression is set");
            }
            expression(&m.expression, Claims::Mapping, &at.child("expression"), errors).map(Source::Expression)
        }
    }
}

fn check_extra_key(key: &str, at: &Path, errors: &mut Errors) {
    if key.is_empty() {
        return errors.required(at.clone(), "key is required");
    }
    if key != key.to_lowercase() {
        errors.invalid(at.clone(), key, "key must be lowercase");
    }
    let domain = match key.split_once('/') {
        Some((domain, path)) if !path.is_empty() && meta::names::dns1123_subdomain(domain).is_empty() => domain,
        _ => return errors.invalid(at.clone(), key, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    };
    if RESERVED_DOMAINS.iter().any(|r| domain == *r || domain.ends_with(&format!(".{r}"))) {
        errors.invalid(at.clone(), key, "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use");
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
        load(&text, &["https://own".to_string()]).err().unwrap_or_default()
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
        for (from, to, expected) in [
            (
                "url: https://a",
                "url: http://a",
                r#"jwt[0].issuer.url: Invalid value: "http://a": URL scheme must be https"#,
            ),
            ("url: https://a", "url: ''", "jwt[0].issuer.url: Required value: URL is required"),
            (
                "url: https://a",
                "url: https://own",
                r#"jwt[0].issuer.url: Invalid value: "https://own": URL must not overlap with disallowed issuers: https://own"#,
            ),
            (
                "url: https://a",
                "url: https://a, discoveryURL: https://a",
                r#"jwt[0].issuer.discoveryURL: Invalid value: "https://a": discoveryURL must be different from URL"#,
            ),
            ("url: https://a", "urls: https://a", "strict decoding error: jwt[0].issuer.urls: unknown field `urls`"),
            (
                "audiences: [x]",
                "audiences: []",
                "jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required",
            ),
            (
                "audiences: [x]",
                "audiences: [x, z]",
                r#"jwt[0].issuer.audienceMatchPolicy: Invalid value: "": audienceMatchPolicy must be MatchAny for multiple audiences"#,
            ),
            (
                "audiences: [x]",
                "audiences: [x], certificateAuthority: junk",
                r#"jwt[0].issuer.certificateAuthority: Invalid value: "<omitted>": "#,
            ),
            (
                "claim: sub, prefix: ''",
                "claim: sub",
                "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing",
            ),
            (
                "claim: sub, prefix: ''",
                "",
                "jwt[0].claimMappings.username: Required value: claim or expression is required",
            ),
            ("{claim: sub, prefix: ''}", "{expression: claims.email}", "claims.email_verified must be used"),
            (
                "{claim: oid}",
                "{claim: oid, expression: claims.oid}",
                r#"jwt[0].claimMappings.uid: Invalid value: "": claim and expression can't both be set"#,
            ),
            (
                "example.org/team",
                "Team",
                r#"jwt[0].claimMappings.extra[0].key: Invalid value: "Team": key must be lowercase"#,
            ),
            (
                "example.org/team",
                "x.k8s.io/a",
                "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use",
            ),
            (
                "requiredValue: example.org",
                "message: x",
                "jwt[0].claimValidationRules[0].message: Invalid value: \"x\": message can't be set when claim is set",
            ),
            (
                "claims.exp - claims.nbf <= 86400",
                "claims.exp +",
                "jwt[0].claimValidationRules[1].expression: Invalid value: \"claims.exp +\": compilation failed",
            ),
            ("claims.exp - claims.nbf <= 86400", "1 + 1", "must evaluate to bool"),
            ("!user.username.startsWith('system:')", "user.name == ''", "jwt[0].userValidationRules[0].expression"),
            (
                "enabled: true",
                "enabled: false",
                "anonymous.conditions: Invalid value: [\"/livez\"]: enabled should be set to true when conditions are defined",
            ),
        ] {
            let got = with(from, to);
            assert!(got.contains(expected), "{to}: {got}");
        }
    }

    #[test]
    fn verified_addresses_are_recognized() {
        for (expression, yes) in [
            ("claims.email", true),
            ("claims['email']", true),
            ("claims.?email.orValue('')", true),
            ("claims . email + 'x'", true),
            ("claims.email_verified", false),
            ("claims.emails", false),
        ] {
            assert_eq!(mentions(expression, "email"), yes, "{expression}");
        }
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
