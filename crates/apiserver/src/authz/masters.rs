//! `system:masters` may do everything, so that nobody can lock the cluster's owner out.

use super::{Attributes, Authorizer, Decision, UserRules};
use crate::authn::{MASTERS, User};
use async_trait::async_trait;

pub struct Masters;

#[async_trait]
impl Authorizer for Masters {
    async fn authorize(&self, a: &Attributes) -> Decision {
        if a.user.in_group(MASTERS) { Decision::Allow(String::new()) } else { Decision::NoOpinion(String::new()) }
    }

    fn rules_for(&self, user: &User, _namespace: &str) -> UserRules {
        use super::rules::PolicyRule;
        if !user.in_group(MASTERS) {
            return UserRules::default();
        }
        let urls = PolicyRule {
            non_resource_urls: vec!["*".to_string()],
            verbs: vec!["*".to_string()],
            ..PolicyRule::default()
        };
        UserRules { rules: vec![PolicyRule::on("*", "*", "*"), urls], ..UserRules::default() }
    }
}
