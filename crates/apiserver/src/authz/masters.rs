//! `system:masters` may do everything, so that nobody can lock the cluster's owner out.

use super::{Attributes, Authorizer, Decision};
use crate::authn::MASTERS;
use async_trait::async_trait;

pub struct Masters;

#[async_trait]
impl Authorizer for Masters {
    async fn authorize(&self, a: &Attributes) -> Decision {
        if a.user.in_group(MASTERS) { Decision::Allow(String::new()) } else { Decision::NoOpinion(String::new()) }
    }
}
