//! The scenarios, in the order in which they run.

mod aggregation;
mod api;
mod audit;
pub mod bad_input;
mod certificates;
mod clients;
mod custom_resources;
mod encodings;
pub mod encryption;
pub mod etcd;
mod external_signer;
pub mod fuzz;
mod golden;
mod guarding;
pub mod identity;
mod images;
mod job_rules;
mod jobs;
mod kills;
mod kubectl;
mod namespace;
mod network;
mod node_files;
mod pod_certificates;
mod pod_security;
mod pods;
mod policies;
mod proxies;
mod quota;
mod rbac;
mod registry;
mod restart;
pub mod robustness;
pub mod security;
mod semantics;
mod service_accounts;
pub mod shop;
mod stopping;
mod storage_migration;
mod streams;
mod supervision;
mod traces;
mod verbs;
mod webhooks;
mod workloads;

use crate::{On, Scenario};

/// Beginnings of the names of scenarios in which kubectl (or Helm) itself is tried.
pub const ABOUT_KUBECTL: &[&str] = &["shop/", "kubectl/", "helm/", "streams/"];

pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "shop/answers through its Service", on: On::Shared, run: shop::answers },
    Scenario { name: "shop/spreads requests over replicas", on: On::Shared, run: shop::spreads },
    Scenario {
        name: "shop/scales and rolls out without a failed request",
        on: On::Shared,
        run: shop::rolls_out_under_load,
    },
    Scenario { name: "shop/heals killed containers and deleted pods", on: On::Shared, run: shop::heals },
    Scenario { name: "shop/keeps its data when redis is replaced", on: On::Shared, run: shop::keeps_data },
    Scenario {
        name: "kubectl/creates with every generator, and describes",
        on: On::Shared,
        run: kubectl::creates_and_describes,
    },
    Scenario { name: "kubectl/lists every kind as a table", on: On::Shared, run: kubectl::lists_every_kind },
    Scenario { name: "kubectl/takes an object of every kind", on: On::Shared, run: kubectl::takes_every_kind },
    Scenario { name: "kubectl/selects, sorts, formats, watches", on: On::Shared, run: kubectl::selects_and_formats },
    Scenario { name: "kubectl/watches and waits", on: On::Shared, run: kubectl::watches_and_waits },
    Scenario { name: "kubectl/applies, diffs, replaces, prunes", on: On::Shared, run: kubectl::applies },
    Scenario {
        name: "kubectl/applies on the server, with conflicts",
        on: On::Shared,
        run: kubectl::applies_on_the_server,
    },
    Scenario { name: "kubectl/patches, edits, labels, sets", on: On::Shared, run: kubectl::patches_and_edits },
    Scenario { name: "kubectl/rolls out, undoes, pauses, scales", on: On::Shared, run: kubectl::rolls_out },
    Scenario { name: "kubectl/goes back to revisions", on: On::Shared, run: kubectl::goes_back },
    Scenario { name: "kubectl/deletes: grace, waiting, cascades", on: On::Shared, run: kubectl::deletes },
    Scenario { name: "kubectl/asks who may do what", on: On::Shared, run: kubectl::asks_for_permission },
    Scenario { name: "kubectl/binds tokens to objects", on: On::Shared, run: kubectl::binds_tokens },
    Scenario { name: "kubectl/discovers and explains", on: On::Shared, run: kubectl::discovers },
    Scenario { name: "kubectl/cordons, drains, taints", on: On::Shared, run: kubectl::empties_a_node },
    Scenario { name: "helm/installs, upgrades, rolls back, uninstalls", on: On::Shared, run: kubectl::helm },
    Scenario { name: "clients/the Python client", on: On::Shared, run: clients::python },
    Scenario { name: "clients/an operator on kopf", on: On::Shared, run: clients::kopf_operator },
    Scenario { name: "clients/an operator on kube", on: On::Shared, run: clients::kube_operator },
    Scenario { name: "kubectl/serves the API by its proxy", on: On::Shared, run: clients::kubectl_proxy },
    Scenario { name: "pods/get what they ask for", on: On::Shared, run: pods::gets_what_it_asks_for },
    Scenario { name: "pods/end as they should", on: On::Shared, run: pods::ends_as_it_should },
    Scenario { name: "pods/are probed", on: On::Shared, run: pods::is_probed },
    Scenario { name: "pods/are told before they end", on: On::Shared, run: pods::is_told_before_it_ends },
    Scenario { name: "pods/names and resolvers are upstream's", on: On::Shared, run: node_files::names_and_resolvers },
    Scenario { name: "pods/logs are rotated", on: On::Shared, run: node_files::logs_are_rotated },
    Scenario { name: "streams/logs", on: On::Shared, run: streams::logs },
    Scenario { name: "streams/logs of many", on: On::Shared, run: streams::logs_of_many },
    Scenario { name: "streams/more ways in", on: On::Shared, run: streams::more_ways_in },
    Scenario { name: "streams/exec, attach, cp", on: On::Shared, run: streams::exec_attach_cp },
    Scenario { name: "streams/port-forward", on: On::Shared, run: streams::port_forward },
    Scenario { name: "streams/run and debug", on: On::Shared, run: streams::run_and_debug },
    Scenario { name: "network/pods, Services and names", on: On::Shared, run: network::reaches },
    Scenario { name: "workloads/DaemonSets", on: On::Shared, run: workloads::daemons },
    Scenario { name: "workloads/ReplicationControllers", on: On::Shared, run: workloads::replication_controllers },
    Scenario { name: "workloads/Jobs run to their end", on: On::Shared, run: jobs::run_to_their_end },
    Scenario { name: "workloads/Jobs are led by hand", on: On::Shared, run: jobs::are_led_by_hand },
    Scenario { name: "workloads/CronJobs", on: On::Shared, run: jobs::cron },
    Scenario { name: "workloads/pods that nobody else removes", on: On::Shared, run: workloads::garbage },
    Scenario { name: "workloads/Jobs run by index", on: On::Shared, run: job_rules::indexed },
    Scenario { name: "workloads/Jobs fail by limit, deadline, policy", on: On::Shared, run: job_rules::fail },
    Scenario {
        name: "workloads/Jobs rest, resume, and go after their time",
        on: On::Shared,
        run: job_rules::rest_and_go,
    },
    Scenario { name: "admission/Pod Security refuses and warns", on: On::Shared, run: pod_security::labels_decide },
    Scenario { name: "admission/plugins are chosen by flags", on: On::Empty, run: pod_security::flags_choose },
    Scenario { name: "admission/kubectl shows warnings", on: On::Shared, run: pod_security::kubectl_shows_warnings },
    Scenario { name: "quota/counts objects and refuses more", on: On::Shared, run: quota::counts_objects },
    Scenario { name: "quota/counts what pods take", on: On::Shared, run: quota::counts_pods },
    Scenario { name: "quota/scopes decide who pays", on: On::Shared, run: quota::keeps_scopes_apart },
    Scenario { name: "quota/is an object with a status", on: On::Shared, run: quota::is_an_object },
    Scenario { name: "quota/LimitRanges fill in and bound", on: On::Shared, run: quota::limit_ranges },
    Scenario { name: "quota/what is in use stays", on: On::Shared, run: quota::in_use_stays },
    Scenario { name: "quota/disruption budgets hold evictions back", on: On::Shared, run: quota::disruption_budgets },
    Scenario { name: "policies/validate, and warn", on: On::Shared, run: policies::validates },
    Scenario { name: "policies/validate by parameters", on: On::Shared, run: policies::validates_by_params },
    Scenario { name: "policies/wrong expressions are told", on: On::Shared, run: policies::wrong_expressions },
    Scenario { name: "policies/costly expressions are stopped", on: On::Shared, run: policies::costly_expressions },
    Scenario { name: "policies/mutate", on: On::Shared, run: policies::mutates },
    Scenario { name: "policies/are objects", on: On::Shared, run: policies::policies_are_objects },
    Scenario { name: "policies/custom resources have rules", on: On::Shared, run: policies::custom_resource_rules },
    Scenario {
        name: "restart/containers outlive the server",
        on: On::Own,
        run: restart::containers_outlive_the_server,
    },
    Scenario { name: "restart/reset leaves nothing", on: On::Empty, run: restart::reset_leaves_nothing },
    Scenario {
        name: "bad input/manifests are refused as upstream does",
        on: On::Shared,
        run: bad_input::manifests_are_refused_as_upstream_does,
    },
    Scenario {
        name: "bad input/requests are refused with reasons",
        on: On::Shared,
        run: bad_input::requests_are_refused_with_reasons,
    },
    Scenario { name: "bad input/broken pods say why", on: On::Shared, run: bad_input::broken_pods_say_why },
    Scenario { name: "security/keys are private", on: On::Shared, run: security::keys_are_private },
    Scenario {
        name: "security/nobody sees health and version only",
        on: On::Shared,
        run: security::nobody_sees_health_and_version_only,
    },
    Scenario {
        name: "security/nodes read what their pods need",
        on: On::Shared,
        run: security::nodes_read_what_their_pods_need,
    },
    Scenario {
        name: "security/service accounts do what roles say",
        on: On::Shared,
        run: security::service_accounts_do_what_roles_say,
    },
    Scenario {
        name: "security/pods' tokens are bound to them",
        on: On::Shared,
        run: security::pods_tokens_are_bound_to_them,
    },
    Scenario {
        name: "certificates/a request becomes a client",
        on: On::Shared,
        run: certificates::a_request_becomes_a_client,
    },
    Scenario {
        name: "certificates/kubelets are approved unasked",
        on: On::Shared,
        run: certificates::kubelets_are_approved_unasked,
    },
    Scenario {
        name: "certificates/the API of signing requests",
        on: On::Shared,
        run: certificates::the_api_of_signing_requests,
    },
    Scenario {
        name: "pod certificates/the API of requests",
        on: On::Shared,
        run: pod_certificates::the_api_of_requests,
    },
    Scenario {
        name: "pod certificates/a pod is known by its certificate",
        on: On::Shared,
        run: pod_certificates::a_pod_is_known_by_its_certificate,
    },
    Scenario {
        name: "pod certificates/those of a running pod are renewed",
        on: On::Patient,
        run: pod_certificates::certificates_of_a_running_pod_are_renewed,
    },
    Scenario {
        name: "pod certificates/a pod reads trust bundles",
        on: On::Shared,
        run: pod_certificates::a_pod_reads_trust_bundles,
    },
    Scenario {
        name: "storage migration/the API of migrations",
        on: On::Shared,
        run: storage_migration::the_api_of_migrations,
    },
    Scenario {
        name: "storage migration/custom resources leave their old version",
        on: On::Shared,
        run: storage_migration::custom_resources_leave_their_old_version,
    },
    Scenario {
        name: "storage migration/a resource goes during its migration",
        on: On::Patient,
        run: storage_migration::a_resource_goes_during_its_migration,
    },
    Scenario {
        name: "storage migration/built-in resources migrate",
        on: On::Shared,
        run: storage_migration::built_in_resources_migrate,
    },
    Scenario {
        name: "certificates/are renewed while the server runs",
        on: On::Empty,
        run: certificates::renewed_while_the_server_runs,
    },
    Scenario { name: "identity/OpenID Connect", on: On::Empty, run: identity::openid_connect },
    Scenario { name: "identity/tokens of others", on: On::Empty, run: identity::tokens_of_others },
    Scenario { name: "identity/tokens in Secrets", on: On::Shared, run: identity::tokens_in_secrets },
    Scenario { name: "identity/people act as others", on: On::Shared, run: rbac::people_act_as_others },
    Scenario { name: "identity/rights to names", on: On::Shared, run: rbac::rights_to_names },
    Scenario { name: "identity/roles are reconciled", on: On::Shared, run: rbac::roles_are_reconciled },
    Scenario { name: "identity/an external signer", on: On::Empty, run: external_signer::signs_tokens },
    Scenario { name: "identity/authorization webhooks", on: On::Empty, run: identity::authorization_webhooks },
    Scenario {
        name: "identity/bad configurations are told",
        on: On::Empty,
        run: identity::bad_configurations_are_told,
    },
    Scenario {
        name: "service accounts/live from creation to deletion",
        on: On::Shared,
        run: service_accounts::live_from_creation_to_deletion,
    },
    Scenario {
        name: "service accounts/tokens are mounted as asked",
        on: On::Shared,
        run: service_accounts::tokens_are_mounted_as_asked,
    },
    Scenario {
        name: "service accounts/tokens can be verified by others",
        on: On::Shared,
        run: service_accounts::tokens_can_be_verified_by_others,
    },
    Scenario {
        name: "service accounts/reviews agree with what happens",
        on: On::Shared,
        run: service_accounts::reviews_agree_with_what_happens,
    },
    Scenario {
        name: "robustness/hostile peers disturb nobody",
        on: On::Shared,
        run: robustness::hostile_peers_disturb_nobody,
    },
    Scenario {
        name: "robustness/bad starts say what to do",
        on: On::Empty,
        run: robustness::bad_starts_say_what_to_do,
    },
    Scenario {
        name: "robustness/a full disk loses nothing",
        on: On::Empty,
        run: robustness::a_full_disk_loses_nothing,
    },
    Scenario { name: "robustness/pods outlive a full disk", on: On::Empty, run: robustness::pods_outlive_a_full_disk },
    Scenario {
        name: "robustness/a first start on a full disk can be repeated",
        on: On::Empty,
        run: robustness::a_first_start_on_a_full_disk_can_be_repeated,
    },
    Scenario {
        name: "robustness/kill -9 loses nothing acknowledged",
        on: On::Empty,
        run: robustness::kill_9_loses_nothing_acknowledged,
    },
    Scenario {
        name: "network/machines without routes, and moved ones",
        on: On::Empty,
        run: network::machines_without_routes,
    },
    Scenario {
        name: "robustness/kill -9 in the middle of pods leaves nothing",
        on: On::Empty,
        run: kills::nothing_is_left_of_what_was_cut_off,
    },
    Scenario {
        name: "robustness/kill -9 in the middle of imports leaves nothing",
        on: On::Empty,
        run: kills::imports_are_whole_or_absent,
    },
    Scenario { name: "images/archives, and what is none", on: On::Empty, run: images::archives },
    Scenario { name: "commands/reset asks; kubeconfig, version", on: On::Empty, run: images::other_commands },
    Scenario {
        name: "images/private ones are pulled with secrets and through mirrors",
        on: On::Empty,
        run: registry::private_images_are_pulled,
    },
    Scenario {
        name: "supervision/a part that ends is started again",
        on: On::Empty,
        run: supervision::a_part_that_ends_is_started_again,
    },
    Scenario { name: "etcd/the cluster lives in etcd", on: On::Empty, run: etcd::the_cluster_lives_in_etcd },
    Scenario { name: "webhooks/deny create, update, patch, delete", on: On::Shared, run: webhooks::deny },
    Scenario { name: "webhooks/time out as configured", on: On::Shared, run: webhooks::time_out },
    Scenario { name: "webhooks/fail closed", on: On::Shared, run: webhooks::fail_closed },
    Scenario { name: "webhooks/mutate in order, and defaults follow", on: On::Shared, run: webhooks::mutate },
    Scenario { name: "webhooks/list, update, delete configurations live", on: On::Shared, run: webhooks::live },
    Scenario { name: "webhooks/custom resources and definitions", on: On::Shared, run: webhooks::custom },
    Scenario { name: "webhooks/deny attach, change exec", on: On::Shared, run: webhooks::connect },
    Scenario { name: "webhooks/deny ports and proxies", on: On::Shared, run: webhooks::connect_to_ports },
    Scenario {
        name: "webhooks/never about their own configurations",
        on: On::Shared,
        run: webhooks::not_about_themselves,
    },
    Scenario { name: "webhooks/match conditions", on: On::Shared, run: webhooks::conditions },
    Scenario {
        name: "webhooks/discovery, warnings, dry runs, subresources, metrics",
        on: On::Shared,
        run: webhooks::details,
    },
    Scenario { name: "webhooks/before names, and of reviews", on: On::Shared, run: webhooks::before_completion },
    Scenario { name: "webhooks/run in pods behind a Service", on: On::Shared, run: webhooks::in_a_pod },
    Scenario { name: "aggregation/registers what is served here", on: On::Shared, run: aggregation::own_groups },
    Scenario { name: "aggregation/an extension server in a pod", on: On::Shared, run: aggregation::extension_server },
    Scenario { name: "aggregation/servers that aren't there", on: On::Shared, run: aggregation::unavailable },
    Scenario { name: "proxies/pods and Services", on: On::Shared, run: proxies::pods_and_services },
    Scenario { name: "proxies/errors in upstream's words", on: On::Shared, run: proxies::errors },
    Scenario { name: "proxies/nodes", on: On::Shared, run: proxies::nodes },
    Scenario { name: "api/lists in pages, of one revision", on: On::Shared, run: api::lists },
    Scenario { name: "api/watches from any revision", on: On::Shared, run: api::watches },
    Scenario { name: "api/keeps writers apart", on: On::Shared, run: api::keeps_writers_apart },
    Scenario { name: "api/refuses with upstream's words", on: On::Shared, run: api::refuses },
    Scenario { name: "api/speaks all formats", on: On::Shared, run: api::speaks_all_formats },
    Scenario { name: "api/every kind takes every verb", on: On::Shared, run: verbs::every_kind_takes_every_verb },
    Scenario { name: "api/keeps its promises", on: On::Shared, run: api::keeps_its_promises },
    Scenario {
        name: "custom resources/a definition is served at once, in all of discovery",
        on: On::Shared,
        run: custom_resources::is_discovered,
    },
    Scenario {
        name: "custom resources/schemas prune, default and validate",
        on: On::Shared,
        run: custom_resources::schemas_hold,
    },
    Scenario {
        name: "custom resources/unknown and duplicate fields",
        on: On::Shared,
        run: custom_resources::validates_fields,
    },
    Scenario {
        name: "custom resources/lists, watches and field selectors",
        on: On::Shared,
        run: custom_resources::lists_and_watches,
    },
    Scenario {
        name: "custom resources/definitions have status and collections",
        on: On::Shared,
        run: custom_resources::definitions_are_objects,
    },
    Scenario {
        name: "custom resources/status, scale and columns",
        on: On::Shared,
        run: custom_resources::has_subresources,
    },
    Scenario {
        name: "custom resources/versions come and go",
        on: On::Shared,
        run: custom_resources::versions_come_and_go,
    },
    Scenario { name: "custom resources/names conflict", on: On::Shared, run: custom_resources::names_conflict },
    Scenario {
        name: "custom resources/a definition takes its objects along",
        on: On::Shared,
        run: custom_resources::takes_its_objects_along,
    },
    Scenario {
        name: "custom resources/convert by webhook",
        on: On::Shared,
        run: custom_resources::conversion::converts_by_webhook,
    },
    Scenario {
        name: "custom resources/convert by webhook behind a Service",
        on: On::Shared,
        run: custom_resources::conversion::converts_behind_a_service,
    },
    Scenario {
        name: "custom resources/admission in the version asked for",
        on: On::Shared,
        run: custom_resources::conversion::is_admitted_in_the_version_asked_for,
    },
    Scenario {
        name: "custom resources/apply across versions",
        on: On::Shared,
        run: custom_resources::conversion::is_applied_across_versions,
    },
    Scenario {
        name: "custom resources/OpenAPI of open kinds",
        on: On::Shared,
        run: custom_resources::openapi::open_kinds,
    },
    Scenario {
        name: "custom resources/OpenAPI of several groups and kinds",
        on: On::Shared,
        run: custom_resources::openapi::groups_and_kinds,
    },
    Scenario {
        name: "custom resources/definitions come and go ten times",
        on: On::Shared,
        run: custom_resources::lifecycle::come_and_go,
    },
    Scenario {
        name: "custom resources/owners change their version",
        on: On::Shared,
        run: custom_resources::lifecycle::owners_change_version,
    },
    Scenario {
        name: "custom resources/definitions say who wrote them",
        on: On::Shared,
        run: custom_resources::behaviour::definitions_say_who_wrote_them,
    },
    Scenario {
        name: "custom resources/broken CA bundles",
        on: On::Shared,
        run: custom_resources::behaviour::broken_ca_bundles,
    },
    Scenario {
        name: "custom resources/requests in all forms",
        on: On::Shared,
        run: custom_resources::behaviour::requests,
    },
    Scenario {
        name: "custom resources/lists with keys",
        on: On::Shared,
        run: custom_resources::behaviour::lists_with_keys,
    },
    Scenario {
        name: "custom resources/selectable fields",
        on: On::Shared,
        run: custom_resources::behaviour::selectable_fields,
    },
    Scenario {
        name: "custom resources/readers outlive changes",
        on: On::Shared,
        run: custom_resources::behaviour::readers_outlive_changes,
    },
    Scenario {
        name: "custom resources/scope changes",
        on: On::Shared,
        run: custom_resources::behaviour::scope_changes,
    },
    Scenario {
        name: "custom resources/owners, quotas, roles and namespaces",
        on: On::Shared,
        run: custom_resources::lives_with_others,
    },
    Scenario { name: "custom resources/kubectl", on: On::Shared, run: custom_resources::kubectl_knows_them },
    Scenario { name: "custom resources/a restart", on: On::Own, run: custom_resources::outlives_a_restart },
    Scenario {
        name: "encodings/every kind in every format",
        on: On::Shared,
        run: encodings::every_kind_in_every_format,
    },
    Scenario { name: "encodings/upstream's golden objects, byte for byte", on: On::Empty, run: golden::golden_objects },
    Scenario { name: "encodings/ranges, weights, fallbacks, refusals", on: On::Shared, run: encodings::negotiates },
    Scenario { name: "encodings/tables and metadata alone", on: On::Shared, run: encodings::tables },
    Scenario {
        name: "semantics/pages outlive compaction",
        on: On::Empty,
        run: semantics::watches::pages_outlive_compaction,
    },
    Scenario { name: "semantics/watches begin, tell and end", on: On::Shared, run: semantics::watches::watches },
    Scenario { name: "semantics/watches agree", on: On::Shared, run: semantics::watches::watches_agree },
    Scenario {
        name: "semantics/stalled watchers cost nothing",
        on: On::Shared,
        run: semantics::watches::stalled_watchers_cost_nothing,
    },
    Scenario { name: "semantics/patches", on: On::Shared, run: semantics::patches::patches },
    Scenario { name: "semantics/server-side apply", on: On::Shared, run: semantics::apply::applies },
    Scenario {
        name: "semantics/managers of two versions",
        on: On::Shared,
        run: semantics::apply::managers_of_two_versions,
    },
    Scenario { name: "semantics/paths and methods", on: On::Shared, run: semantics::requests::methods },
    Scenario { name: "semantics/names that don't fit", on: On::Shared, run: semantics::requests::names },
    Scenario { name: "semantics/parts of objects", on: On::Shared, run: semantics::requests::parts },
    Scenario { name: "semantics/bodies and their edges", on: On::Shared, run: semantics::requests::bodies },
    Scenario {
        name: "semantics/fields of built-in kinds are validated",
        on: On::Shared,
        run: semantics::fields::fields_are_validated,
    },
    Scenario { name: "semantics/deletions and preconditions", on: On::Shared, run: semantics::deletion::deletes },
    Scenario { name: "semantics/garbage goes, orphans stay", on: On::Shared, run: semantics::deletion::garbage },
    Scenario { name: "semantics/namespaces live and end", on: On::Shared, run: semantics::deletion::namespaces },
    Scenario { name: "semantics/devices of administrators", on: On::Shared, run: semantics::devices::admin_access },
    Scenario { name: "semantics/discovery", on: On::Shared, run: semantics::discovery::discovery },
    Scenario {
        name: "guarding/priority and fairness limits who asks too much",
        on: On::Shared,
        run: guarding::fairness_limits_who_asks_too_much,
    },
    Scenario {
        name: "guarding/flow control objects are kept",
        on: On::Shared,
        run: guarding::flow_control_objects_are_kept,
    },
    Scenario { name: "guarding/FlowSchema API", on: On::Shared, run: guarding::flow_schema_api },
    Scenario {
        name: "guarding/PriorityLevelConfiguration API",
        on: On::Shared,
        run: guarding::priority_level_configuration_api,
    },
    Scenario { name: "guarding/requests have limits", on: On::Shared, run: guarding::requests_have_limits },
    Scenario { name: "guarding/health is told by name", on: On::Shared, run: guarding::health_is_told_by_name },
    Scenario {
        name: "guarding/audit records what the policy says",
        on: On::Empty,
        run: guarding::audit_records_what_the_policy_says,
    },
    Scenario {
        name: "guarding/Secrets are encrypted on disk",
        on: On::Empty,
        run: guarding::secrets_are_encrypted_on_disk,
    },
    Scenario { name: "guarding/open requests are finished", on: On::Own, run: stopping::open_requests_are_finished },
    Scenario { name: "guarding/kubectl comes again", on: On::Empty, run: stopping::kubectl_comes_again },
    Scenario { name: "audit/a webhook gets what happened", on: On::Empty, run: audit::a_webhook_gets_what_happened },
    Scenario { name: "audit/logs are rotated", on: On::Empty, run: audit::logs_are_rotated },
    Scenario { name: "traces/requests are traced", on: On::Empty, run: traces::requests_are_traced },
    Scenario { name: "encryption/turned on later", on: On::Empty, run: encryption::turned_on_later },
    Scenario {
        name: "encryption/a KMS plugin keeps the keys",
        on: On::Empty,
        run: encryption::a_kms_plugin_keeps_the_keys,
    },
    Scenario {
        name: "encryption/a migration leaves the old key",
        on: On::Empty,
        run: encryption::a_migration_leaves_the_old_key,
    },
    Scenario {
        name: "encryption/etcd holds what is sealed",
        on: On::Empty,
        run: encryption::etcd_holds_what_is_sealed,
    },
    Scenario {
        name: "guarding/stops break nobody's request",
        on: On::Empty,
        run: guarding::stops_break_nobodys_request,
    },
    Scenario { name: "fuzz/no request makes a 5xx", on: On::Empty, run: fuzz::no_request_makes_a_5xx },
];

#[cfg(test)]
mod tests {
    /// Backquoted names in the second column.
    #[test]
    fn the_conformance_table_names_scenarios() {
        let table = include_str!("../../../../docs/conformance.md");
        let mut named = 0;
        for row in table.lines().filter(|l| l.starts_with("| ") && l.contains('`')) {
            for name in row.split('`').skip(1).step_by(2) {
                assert!(super::SCENARIOS.iter().any(|s| s.name == name), "no scenario {name:?}: {row}");
                named += 1;
            }
        }
        assert!(named > 100, "only {named} scenarios are named");
    }
}
