//! Tokens that openssl made, and the tricks that forgers try.

use super::*;

/// (algorithm, public key as PEM, token) of each line.
fn fixtures() -> Vec<(Algorithm, String, &'static str)> {
    include_str!("tokens.txt")
        .lines()
        .filter(|l| !l.starts_with('#'))
        .map(|line| {
            let parts: Vec<&str> = line.split(' ').collect();
            let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", parts[1]);
            (Algorithm::from_name(parts[0]).unwrap(), pem, parts[2])
        })
        .collect()
}

fn verified(token: &str, keys: &[Key]) -> Result<bool, Error> {
    Token::parse(token)?.verified_by(keys)
}

#[test]
fn tokens_of_every_algorithm_verify_with_their_own_key_only() {
    let all = fixtures();
    assert_eq!(all.len(), Algorithm::ALL.len());
    for (algorithm, pem, token) in &all {
        let mut keys = Key::all_from_pem(pem).unwrap();
        keys[0].id = None;
        assert_eq!(verified(token, &keys), Ok(true), "{algorithm:?}");
        // By way of a JSON Web Key it is the same key.
        let again = Key::from_jwk(&keys[0].to_jwk());
        let restricted = keys[0].default_algorithm();
        assert_eq!(again, Some(Key { algorithm: Some(restricted), ..keys[0].clone() }));
        assert_eq!(verified(token, &[again.unwrap()]), Ok(restricted == *algorithm), "{algorithm:?}");
        // Changed in its signature or payload it is nobody's.
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[7] ^= 1;
        let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&bytes));
        assert_eq!(verified(&forged, &keys), Ok(false), "{algorithm:?}");
        let (header, _) = signed.split_once('.').unwrap();
        let forged = format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(r#"{"sub":"root"}"#));
        assert_eq!(verified(&forged, &keys), Ok(false), "{algorithm:?}");
        for (other, other_pem, _) in &all {
            let mut others = Key::all_from_pem(other_pem).unwrap();
            others[0].id = None;
            assert_eq!(verified(token, &others), Ok(pem == other_pem), "{algorithm:?} {other:?}");
        }
    }
}

/// `alg: none`, an HMAC made with the public key, and headers that ask for other keys.
#[test]
fn forgers_get_nowhere() {
    let (_, pem, token) = fixtures().remove(0);
    let mut keys = Key::all_from_pem(&pem).unwrap();
    keys[0].id = Some("k1".into());
    let payload = token.split('.').nth(1).unwrap();
    let with = |header: Value, signature: &[u8]| {
        format!("{}.{payload}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(signature))
    };
    for alg in ["none", "None", "NONE", "", "HS256", "HS512", "EdDSA", "RSA-OAEP"] {
        let signed = format!("{}.{payload}", URL_SAFE_NO_PAD.encode(json!({"alg": alg, "kid": "k1"}).to_string()));
        let hmac_key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, pem.as_bytes());
        let mac = ring::hmac::sign(&hmac_key, signed.as_bytes());
        for signature in [mac.as_ref(), b""] {
            let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
            assert_eq!(verified(&forged, &keys), Err(Error::Algorithm(alg.into())), "{alg}");
        }
    }
    let good = URL_SAFE_NO_PAD.decode(token.rsplit('.').next().unwrap()).unwrap();
    for kid in ["k2", "../../../etc/passwd", "' OR 1=1 --", "https://evil.example.org/jwks", "K1"] {
        assert_eq!(verified(&with(json!({"alg": "RS256", "kid": kid}), &good), &keys), Ok(false), "{kid}");
    }
    // A key that the token brings along is not looked at.
    let brought = json!({"alg": "RS256", "kid": "k1", "jwk": keys[0].to_jwk(), "jku": "https://evil", "x5u": "x"});
    assert_eq!(verified(&with(brought, &good), &keys), Ok(false));
    assert_eq!(verified(&with(json!({"alg": "RS256", "crit": ["x"]}), &good), &keys), Err(Error::Malformed));
    assert_eq!(verified(&with(json!({"alg": 5}), &good), &keys), Err(Error::Malformed));
    for junk in ["", ".", "..", "...", "a.b", "a.b.c", "e30.e30.", "W10.W10.W10", &"x".repeat(TOKEN_BYTES_MAX + 1)] {
        assert!(verified(junk, &keys).is_err(), "{junk:.20}");
    }
}

#[test]
fn what_is_signed_verifies_whatever_the_key() {
    let ecdsa = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
    for (pem, algorithm) in [(ecdsa.as_str(), "ES256"), (&p384, "ES384"), (include_str!("rsa.pem"), "RS256")] {
        let key = SigningKey::from_pem(pem).unwrap();
        let token = key.sign(br#"{"iss":"me"}"#).unwrap();
        let parsed = Token::parse(&token).unwrap();
        assert_eq!((parsed.issuer(), parsed.alg.as_str()), ("me", algorithm));
        assert_eq!(parsed.verified_by(&[key.public()]), Ok(true), "{algorithm}");
        // A file with the private key names the same public one, id and all.
        assert_eq!(Key::all_from_pem(pem).unwrap(), [key.public()]);
    }
    let key = SigningKey::from_pem(&ecdsa).unwrap().public();
    let by_rcgen = rcgen::PublicKeyData::subject_public_key_info(&rcgen::KeyPair::from_pem(&ecdsa).unwrap());
    assert_eq!(key.der(), by_rcgen);
    // The id of an RSA key, as openssl and sha256sum have it.
    let rsa = Key::all_from_pem(include_str!("rsa.pem")).unwrap();
    assert_eq!(rsa[0].id.as_deref(), Some(include_str!("rsa.kid").trim()));
    // The older formats of openssl.
    assert_eq!(SigningKey::from_pem(include_str!("ec1.pem")).unwrap().public().default_algorithm(), Algorithm::Es256);
}

#[test]
fn unusable_keys_are_refused() {
    for pem in ["", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        assert!(Key::all_from_pem(pem).is_err() && SigningKey::from_pem(pem).is_err(), "{pem}");
    }
    let small = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xff; 128]), "e": "AQAB"});
    let rsa = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xff; 256]), "e": "AQAB"});
    assert!(Key::from_jwk(&rsa).is_some());
    let encryption = json!({"use": "enc", "kty": "RSA", "n": rsa["n"], "e": "AQAB"});
    let hmac = json!({"kty": "oct", "k": "c2VjcmV0"});
    let short = json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"});
    let strange = json!({"kty": "RSA", "alg": "HS256", "n": rsa["n"], "e": "AQAB"});
    let set = json!({"keys": [small, encryption, hmac, short, strange, {}, "x", rsa]});
    assert_eq!(Key::set_from(&set).len(), 1);
    assert_eq!(Key::set_from(&json!("x")), []);
}
