//! What the checks of the manifest's parts have in common.

use admin_api::strict::InputError;

/// The error of `field` where something does not hold.
pub(super) fn ensure(
    holds: bool,
    field: impl FnOnce() -> String,
    message: &str,
) -> Result<(), InputError> {
    if holds {
        Ok(())
    } else {
        Err(InputError::of_field(field(), message))
    }
}

/// Checks every entry of a list, and names the one that is wrong.
pub(super) fn check_each<T, U>(
    list: &str,
    entries: Vec<T>,
    check: impl Fn(T) -> Result<U, InputError>,
) -> Result<Vec<U>, InputError> {
    let entries = entries.into_iter().enumerate();
    let checked = entries.map(|(index, entry)| {
        check(entry).map_err(|error| {
            let key = error.field.unwrap_or_default();
            InputError::of_field(format!("{list}[{index}].{key}"), error.message)
        })
    });
    checked.collect()
}
