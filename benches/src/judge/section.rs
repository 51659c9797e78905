//! The simulation's section of `RESULTS.md`: the last one. The benchmark, which writes the rest of
//! the file, keeps it.

const HEADING: &str = "## Verdicts\n";
/// The heading up to release 0.1.0.
const OLD_HEADING: &str = "## Judgement\n";

/// Replaces the section of a text.
pub(crate) fn put(text: &str, section: &str) -> String {
    let (before, _) = split(text);
    format!("{}\n\n{HEADING}\n{section}", before.trim_end())
}

/// Copies the section of the old text to the new one.
pub(crate) fn keep(old: &str, new: &str) -> String {
    match split(old) {
        (_, Some(section)) => put(new, section.trim_start()),
        (_, None) => new.to_owned(),
    }
}

fn split(text: &str) -> (&str, Option<&str>) {
    [HEADING, OLD_HEADING]
        .iter()
        .find_map(|heading| text.split_once(&format!("\n{heading}")))
        .map_or((text, None), |(before, section)| (before, Some(section)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_replaces_the_old_one_and_is_kept_by_the_benchmark() {
        let first = put("# Results\n\nSmall.\n", "One.\n");
        assert_eq!(first, "# Results\n\nSmall.\n\n## Verdicts\n\nOne.\n");
        let second = put(&first, "Two.\n");
        assert_eq!(second, "# Results\n\nSmall.\n\n## Verdicts\n\nTwo.\n");
        assert_eq!(
            keep(&second, "# Results\n\nLarge.\n"),
            "# Results\n\nLarge.\n\n## Verdicts\n\nTwo.\n"
        );
        assert_eq!(keep("# Results\n", "# New\n"), "# New\n");
        let old = second.replace(HEADING, OLD_HEADING);
        assert_eq!(put(&old, "Two.\n"), second);
    }
}
