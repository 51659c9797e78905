//! The simulation's own section of `RESULTS.md`: the last one. The benchmark, which writes the
//! rest, leaves it as it is.

const HEADING: &str = "## Judgement\n";

/// The text with this section in place of the one that it had.
pub(crate) fn put(text: &str, section: &str) -> String {
    let (before, _) = split(text);
    format!("{}\n\n{HEADING}\n{section}", before.trim_end())
}

/// A new text with the section that the old one had.
pub(crate) fn keep(old: &str, new: &str) -> String {
    match split(old) {
        (_, Some(section)) => put(new, section.trim_start()),
        (_, None) => new.to_owned(),
    }
}

fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once(&format!("\n{HEADING}")) {
        Some((before, section)) => (before, Some(section)),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_is_put_in_place_of_the_old_one_and_kept_by_the_rest() {
        let first = put("# Results\n\nSmall.\n", "One.\n");
        assert_eq!(first, "# Results\n\nSmall.\n\n## Judgement\n\nOne.\n");
        let second = put(&first, "Two.\n");
        assert_eq!(second, "# Results\n\nSmall.\n\n## Judgement\n\nTwo.\n");
        assert_eq!(
            keep(&second, "# Results\n\nLarge.\n"),
            "# Results\n\nLarge.\n\n## Judgement\n\nTwo.\n"
        );
        assert_eq!(keep("# Results\n", "# New\n"), "# New\n");
    }
}
