//! `Max-Forwards`: how often a request may still be passed on (RFC 9110, 7.6.2). It counts for
//! two methods, and for others it is a field like any other.

use crate::wire::head::{Known, Message};
use crate::wire::reply::LocalReply;

/// Refuses a request that may go no further, as the recipient that it is meant for then.
pub(crate) fn check(request: Message<'_>) -> Result<(), LocalReply> {
    if !count_for(request.method()) {
        return Ok(());
    }
    let mut values = request.values(Known::MaxForwards);
    match (values.next(), values.next()) {
        (None, _) => Ok(()),
        (Some(value), None) => match number(value) {
            None => Err(LocalReply::BadSyntax),
            Some(0) if request.method() == b"TRACE" => Err(LocalReply::LastTrace),
            Some(0) => Err(LocalReply::LastOptions),
            Some(_) => Ok(()),
        },
        _ => Err(LocalReply::BadSyntax),
    }
}

/// What is left after this hop.
pub(crate) fn less_one(request: Message<'_>, value: &[u8]) -> Option<u64> {
    if count_for(request.method()) {
        number(value)?.checked_sub(1)
    } else {
        None
    }
}

fn count_for(method: &[u8]) -> bool {
    matches!(method, b"OPTIONS" | b"TRACE")
}

/// What is too large to count is as good as no limit.
fn number(value: &[u8]) -> Option<u64> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok()?;
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::h1::head::{MAX_FIELDS, read_request};
    use crate::wire::head::Head;

    #[track_caller]
    fn of(method: &str, lines: &str) -> (Result<(), LocalReply>, Option<u64>) {
        let text = format!("{method} / HTTP/1.1\r\n{lines}\r\n");
        let mut head = Head::default();
        read_request(text.as_bytes(), MAX_FIELDS, &mut head).unwrap();
        let request = head.over(text.as_bytes());
        let value = request.values(Known::MaxForwards).next();
        (check(request), less_one(request, value.unwrap_or_default()))
    }

    #[test]
    fn each_hop_takes_one_off_and_the_last_one_responds() {
        assert_eq!(of("OPTIONS", ""), (Ok(()), None));
        assert_eq!(of("OPTIONS", "max-forwards: 10\r\n"), (Ok(()), Some(9)));
        assert_eq!(of("TRACE", "Max-Forwards: 1\r\n"), (Ok(()), Some(0)));
        let huge = "max-forwards: 99999999999999999999\r\n";
        assert_eq!(of("TRACE", huge), (Ok(()), Some(u64::MAX - 1)));
        let zero = "max-forwards: 0\r\n";
        assert_eq!(of("OPTIONS", zero).0, Err(LocalReply::LastOptions));
        assert_eq!(of("TRACE", zero).0, Err(LocalReply::LastTrace));
        assert_eq!(of("GET", zero), (Ok(()), None), "it counts for two methods");
    }

    #[test]
    fn what_is_no_number_or_two_is_refused() {
        for bad in ["", "-1", "1.5", "one", "1, 2", "1\r\nmax-forwards: 1"] {
            let (outcome, _) = of("OPTIONS", &format!("max-forwards: {bad}\r\n"));
            assert_eq!(outcome, Err(LocalReply::BadSyntax), "{bad:?}");
        }
    }
}
