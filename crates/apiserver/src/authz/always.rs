//! AlwaysAllow and AlwaysDeny: for tests of everything else.

use super::rules::PolicyRule;
use super::{Attributes, Authorizer, Decision, UserRules};
use crate::authn::User;
use async_trait::async_trait;

pub struct AlwaysAllow;

#[async_trait]
impl Authorizer for AlwaysAllow {
    async fn authorize(&self, _: &Attributes) -> Decision {
        Decision::Allow(String::new())
    }

    fn rules_for(&self, _user: &User, _namespace: &str) -> UserRules {
        let urls = PolicyRule {
            non_resource_urls: vec!["*".to_string()],
            verbs: vec!["*".to_string()],
            ..PolicyRule::default()
        };
        UserRules { rules: vec![PolicyRule::on("*", "*", "*"), urls], ..UserRules::default() }
    }
}

pub struct AlwaysDeny;

#[async_trait]
impl Authorizer for AlwaysDeny {
    async fn authorize(&self, _: &Attributes) -> Decision {
        Decision::NoOpinion("Everything is forbidden.".to_string())
    }
}
