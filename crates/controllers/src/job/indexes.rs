//! Sets of completion indexes as a Job's status writes them: `0-2,5,7-9`.

use std::collections::BTreeSet;

/// Indexes below `completions`; whatever else the text holds is left out, since a status may be written by anybody.
pub fn parse(text: &str, completions: i32) -> BTreeSet<i32> {
    let mut out = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<i32>(), last.trim().parse::<i32>()) {
            out.extend(first.max(0)..=last.min(completions - 1));
        }
    }
    out
}

pub fn format(indexes: &BTreeSet<i32>) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for &i in indexes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == i => *last = i,
            _ => runs.push((i, i)),
        }
    }
    let shown = |(first, last): (i32, i32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    runs.into_iter().map(shown).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (text, completions, want) in [
            ("", 5, ""),
            ("0", 5, "0"),
            ("0,1", 5, "0,1"),
            ("0-2,4", 5, "0-2,4"),
            ("3,1,2", 5, "1-3"),
            ("0-100", 3, "0-2"),
            ("7", 5, ""),
            ("x,1-,-2,2", 5, "2"),
        ] {
            assert_eq!(format(&parse(text, completions)), want, "{text:?}");
        }
    }
}
