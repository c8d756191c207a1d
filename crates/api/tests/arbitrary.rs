//! No bytes make a decoder panic, whatever they are taken for.

use api::codec::{json, protobuf, yaml};
use api::facts::{facts, types};
use proptest::prelude::*;

fn kinds() -> Vec<meta::schema::TypeId> {
    facts().gvk.keys().copied().collect()
}

/// Bytes that look like protobuf more often than chance would have it.
fn wire() -> impl Strategy<Value = Vec<u8>> {
    let field = (1u8..20, 0u8..6, prop::collection::vec(any::<u8>(), 0..24)).prop_map(|(number, wire, content)| {
        let mut out = vec![number << 3 | wire];
        if wire == 2 {
            out.push(content.len() as u8);
        }
        out.extend(content);
        out
    });
    prop::collection::vec(field, 0..12).prop_map(|fields| fields.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..300), which in any::<prop::sample::Index>()) {
        let kinds = kinds();
        let ty = kinds[which.index(kinds.len())];
        let _ = json::decode(types(), ty, &bytes);
        let _ = json::parse(&bytes);
        let _ = yaml::decode(types(), ty, &bytes);
        let _ = protobuf::decode(ty, &bytes);
        let _ = protobuf::decode_raw(ty, &bytes);
    }

    #[test]
    fn what_is_read_of_odd_protobuf_can_be_written(bytes in wire(), which in any::<prop::sample::Index>()) {
        let kinds = kinds();
        let ty = kinds[which.index(kinds.len())];
        if let Ok(value) = protobuf::decode_raw(ty, &bytes) {
            let written = protobuf::encode_raw(ty, &value);
            prop_assert!(written.is_ok(), "{:?} of {}", written, value);
            let again = protobuf::decode_raw(ty, &written.unwrap_or_default());
            prop_assert!(again.is_ok(), "{:?}", again);
        }
    }

    #[test]
    fn text_that_is_nearly_json_is_refused_or_read(text in r#"[{}\[\]:,"a-c0-9\\tn. -]{0,60}"#, which in any::<prop::sample::Index>()) {
        let kinds = kinds();
        let ty = kinds[which.index(kinds.len())];
        let ours = json::parse(text.as_bytes());
        let theirs: Result<serde_json::Value, _> = serde_json::from_str(&text);
        prop_assert_eq!(ours.is_ok(), theirs.is_ok());
        if let (Ok((ours, _)), Ok(theirs)) = (ours, theirs) {
            prop_assert_eq!(ours, theirs);
        }
        let _ = json::decode(types(), ty, text.as_bytes());
        let _ = yaml::parse(text.as_bytes());
    }
}
