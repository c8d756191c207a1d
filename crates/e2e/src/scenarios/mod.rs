//! The scenarios, in the order in which they run.

pub mod fuzz;
pub mod shop;

use crate::{On, Scenario};

pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "shop/answers through its Service", on: On::Shared, run: shop::answers },
    Scenario { name: "shop/spreads requests over replicas", on: On::Shared, run: shop::spreads },
    Scenario { name: "shop/scales and rolls out without a failed request", on: On::Shared, run: shop::rolls_out_under_load },
    Scenario { name: "shop/heals killed containers and deleted pods", on: On::Shared, run: shop::heals },
    Scenario { name: "shop/keeps its data when redis is replaced", on: On::Shared, run: shop::keeps_data },
    Scenario { name: "fuzz/no request makes a 5xx", on: On::Empty, run: fuzz::no_request_makes_a_5xx },
];
