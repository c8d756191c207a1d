//! What the fact tables cost: prints the time to parse them and the memory that they hold. Run with
//! `cargo test --release -p api --test footprint -- --nocapture`. A report, not a timed assert.

#[test]
fn facts_are_parsed_once_and_stay_small() {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        statm.split(' ').nth(1).and_then(|p| p.parse::<usize>().ok()).unwrap_or(0) * 4096
    };
    let before = resident();
    let start = std::time::Instant::now();
    let types = api::facts::types();
    let parsed = start.elapsed();
    let rows = api::catalogue::builtin();
    let built = start.elapsed();
    let grown = resident().saturating_sub(before);
    println!("{} types in {parsed:?}, {} rows in {built:?}, {} KiB", types.types.len(), rows.len(), grown / 1024);
    assert!(types.types.len() > 500);
    // A leak or a copy per row would show here long before it would matter to a user.
    assert!(grown < 16 << 20, "{grown} bytes");
    assert!(std::ptr::eq(types, api::facts::types()));
}
