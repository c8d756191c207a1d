//! What a signing request asks for, and whether one of the built-in signers may give it. Pure.
//! Source: "Certificates and Certificate Signing Requests", Kubernetes signers.

use api::validation::pem;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509CertificationRequest};

pub const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// Can't be asked for by `certificates.k8s.io/v1`; objects of older versions may have it.
pub const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";

const NODES: &str = "system:nodes";
const NODE_USER_PREFIX: &str = "system:node:";

/// The parts of a PKCS #10 request that signers look at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: usize,
    pub addresses: usize,
    pub emails: usize,
    pub uris: usize,
}

impl Request {
    pub fn parse(pem: &[u8]) -> Result<Request, String> {
        let text = String::from_utf8_lossy(pem);
        let block = pem::blocks(&text).next().filter(|b| b.label == "CERTIFICATE REQUEST");
        let block = block.ok_or("PEM block type must be CERTIFICATE REQUEST")?;
        let (_, parsed) = X509CertificationRequest::from_der(&block.der).map_err(|e| e.to_string())?;
        let info = &parsed.certification_request_info;
        let mut request = Request {
            common_name: info
                .subject
                .iter_common_name()
                .last()
                .and_then(|n| n.as_str().ok())
                .unwrap_or_default()
                .to_string(),
            organizations: info
                .subject
                .iter_organization()
                .filter_map(|o| o.as_str().ok().map(str::to_string))
                .collect(),
            ..Request::default()
        };
        for attribute in info.attributes() {
            let ParsedCriAttribute::ExtensionRequest(asked) = attribute.parsed_attribute() else { continue };
            for extension in &asked.extensions {
                let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else { continue };
                for name in &names.general_names {
                    match name {
                        GeneralName::DNSName(_) => request.dns_names += 1,
                        GeneralName::IPAddress(_) => request.addresses += 1,
                        GeneralName::RFC822Name(_) => request.emails += 1,
                        GeneralName::URI(_) => request.uris += 1,
                        other => return Err(format!("subjectAltName of an unsupported kind: {other}")),
                    }
                }
            }
        }
        Ok(request)
    }
}

/// Whether the signer may sign this. `None`: the signer is nobody we know.
pub fn check(signer: &str, request: &Request, usages: &[String]) -> Option<Result<(), String>> {
    match signer {
        CLIENT => Some(client_usages(usages)),
        KUBELET_CLIENT => Some(kubelet_client(request, usages)),
        KUBELET_SERVING => Some(kubelet_serving(request, usages)),
        LEGACY_UNKNOWN => Some(Ok(())),
        _ => None,
    }
}

fn client_usages(usages: &[String]) -> Result<(), String> {
    if let Some(other) =
        usages.iter().find(|u| !matches!(u.as_str(), "digital signature" | "key encipherment" | "client auth"))
    {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    match usages.iter().any(|u| u == "client auth") {
        true => Ok(()),
        false => Err("missing required usage for client certificate: client auth".to_string()),
    }
}

pub fn kubelet_client(request: &Request, usages: &[String]) -> Result<(), String> {
    if request.organizations != [NODES] {
        return Err("subject organization is not system:nodes".to_string());
    }
    for (count, kind) in
        [(request.dns_names, "DNS"), (request.emails, "Email"), (request.addresses, "IP"), (request.uris, "URI")]
    {
        if count > 0 {
            return Err(format!("{kind} subjectAltNames are not allowed"));
        }
    }
    node_user(request)?;
    exact_usages(usages, "client auth")
}

fn kubelet_serving(request: &Request, usages: &[String]) -> Result<(), String> {
    if request.organizations != [NODES] {
        return Err("subject organization is not system:nodes".to_string());
    }
    if request.dns_names + request.addresses == 0 {
        return Err("DNS or IP subjectAltName is required".to_string());
    }
    for (count, kind) in [(request.emails, "Email"), (request.uris, "URI")] {
        if count > 0 {
            return Err(format!("{kind} subjectAltNames are not allowed"));
        }
    }
    exact_usages(usages, "server auth")?;
    node_user(request)
}

fn node_user(request: &Request) -> Result<(), String> {
    match request.common_name.strip_prefix(NODE_USER_PREFIX) {
        Some(node) if !node.is_empty() => Ok(()),
        _ => Err("subject common name does not begin with system:node: ".to_string()),
    }
}

/// Exactly this purpose and `digital signature`; `key encipherment` only makes sense for RSA keys and may be left out.
fn exact_usages(usages: &[String], purpose: &str) -> Result<(), String> {
    let mut wanted = vec![purpose, "digital signature", "key encipherment"];
    let mut got: Vec<&str> = usages.iter().map(String::as_str).collect();
    wanted.sort_unstable();
    got.sort_unstable();
    got.dedup();
    let without: Vec<&str> = wanted.iter().copied().filter(|u| *u != "key encipherment").collect();
    if got == wanted || got == without {
        return Ok(());
    }
    Err(format!("usages did not match [{}]", wanted.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signers_sign_what_is_theirs() {
        let node =
            Request { common_name: "system:node:n1".into(), organizations: vec![NODES.into()], ..Request::default() };
        let serving = Request { dns_names: 1, addresses: 1, ..node.clone() };
        let jane = Request { common_name: "jane".into(), organizations: vec!["dev".into()], ..Request::default() };
        let full_client = ["client auth", "digital signature", "key encipherment"];
        let full_server = ["server auth", "digital signature", "key encipherment"];
        for (signer, request, usages, expected) in [
            (CLIENT, &jane, &["client auth"][..], ""),
            (CLIENT, &jane, &full_client, ""),
            (CLIENT, &jane, &["digital signature"], "missing required usage for client certificate: client auth"),
            (CLIENT, &jane, &["client auth", "server auth"], "invalid usage for client certificate: server auth"),
            (KUBELET_CLIENT, &node, &full_client, ""),
            (KUBELET_CLIENT, &node, &["client auth", "digital signature"], ""),
            (
                KUBELET_CLIENT,
                &node,
                &["client auth"],
                "usages did not match [client auth digital signature key encipherment]",
            ),
            (KUBELET_CLIENT, &jane, &full_client, "subject organization is not system:nodes"),
            (KUBELET_CLIENT, &serving, &full_client, "DNS subjectAltNames are not allowed"),
            (KUBELET_SERVING, &serving, &full_server, ""),
            (KUBELET_SERVING, &node, &full_server, "DNS or IP subjectAltName is required"),
            (
                KUBELET_SERVING,
                &serving,
                &full_client,
                "usages did not match [digital signature key encipherment server auth]",
            ),
            (LEGACY_UNKNOWN, &jane, &["any"], ""),
            ("example.org/mine", &jane, &full_client, "not ours"),
        ] {
            let usages: Vec<String> = usages.iter().map(|u| u.to_string()).collect();
            let got = match check(signer, request, &usages) {
                None => "not ours".to_string(),
                Some(Ok(())) => String::new(),
                Some(Err(why)) => why,
            };
            assert_eq!(got, expected, "{signer} {request:?} {usages:?}");
        }
        let named = |n: &str| Request { common_name: n.into(), ..node.clone() };
        let usages = full_client.map(str::to_string);
        for name in ["n1", "system:node:", "jane"] {
            assert!(kubelet_client(&named(name), &usages).is_err(), "{name}");
        }
    }

    #[test]
    fn requests_are_read_as_they_come() {
        let request = Request::parse(include_bytes!("../../../apiserver/src/pki/jane.csr")).unwrap();
        assert_eq!(request.common_name, "jane");
        assert_eq!(request.organizations, ["dev", "ops"]);
        assert_eq!((request.dns_names, request.addresses, request.emails, request.uris), (1, 1, 1, 0));
        for junk in ["", "junk", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"] {
            assert!(Request::parse(junk.as_bytes()).is_err(), "{junk}");
        }
    }
}
