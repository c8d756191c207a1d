//! The scenarios, in the order in which they run.

pub mod fuzz;
mod kubectl;
mod namespace;
pub mod shop;

use crate::{On, Scenario};

pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "shop/answers through its Service", on: On::Shared, run: shop::answers },
    Scenario { name: "shop/spreads requests over replicas", on: On::Shared, run: shop::spreads },
    Scenario { name: "shop/scales and rolls out without a failed request", on: On::Shared, run: shop::rolls_out_under_load },
    Scenario { name: "shop/heals killed containers and deleted pods", on: On::Shared, run: shop::heals },
    Scenario { name: "shop/keeps its data when redis is replaced", on: On::Shared, run: shop::keeps_data },
    Scenario { name: "kubectl/creates with every generator, and describes", on: On::Shared, run: kubectl::creates_and_describes },
    Scenario { name: "kubectl/lists every kind as a table", on: On::Shared, run: kubectl::lists_every_kind },
    Scenario { name: "kubectl/selects, sorts, formats, watches", on: On::Shared, run: kubectl::selects_and_formats },
    Scenario { name: "kubectl/applies, diffs, replaces, prunes", on: On::Shared, run: kubectl::applies },
    Scenario { name: "kubectl/applies on the server, with conflicts", on: On::Shared, run: kubectl::applies_on_the_server },
    Scenario { name: "kubectl/patches, edits, labels, sets", on: On::Shared, run: kubectl::patches_and_edits },
    Scenario { name: "kubectl/rolls out, undoes, pauses, scales", on: On::Shared, run: kubectl::rolls_out },
    Scenario { name: "kubectl/deletes: grace, waiting, cascades", on: On::Shared, run: kubectl::deletes },
    Scenario { name: "kubectl/asks who may do what", on: On::Shared, run: kubectl::asks_for_permission },
    Scenario { name: "kubectl/discovers and explains", on: On::Shared, run: kubectl::discovers },
    Scenario { name: "kubectl/cordons, drains, taints", on: On::Shared, run: kubectl::empties_a_node },
    Scenario { name: "helm/installs, upgrades, rolls back, uninstalls", on: On::Shared, run: kubectl::helm },
    Scenario { name: "fuzz/no request makes a 5xx", on: On::Empty, run: fuzz::no_request_makes_a_5xx },
];
