//! What the filters of a service make of a request's head: whatever they write is strictly valid, and
//! says what they are to say.

use std::cell::LazyCell;

use proxy::fuzz::{FilteredHead, Filters};

use crate::strict::{self, End, LineEnd};

/// Services with filters, whose values have parts of what the client sent.
const SERVICES: [&str; 6] = [
    r#"{"name":"a","headers":{"request":{"set":{"x-all":"$host $path $query $http_x_a","x-b":"${cookie_c}"},
        "add":{"x-own":"1"},"remove":["x-c"]},"response":{"set":{"x-for":"$request_method $request_uri"}}}}"#,
    r#"{"name":"b","redirect":{"to":"https://$host$request_uri","status":308}}"#,
    r#"{"name":"c","path":{"regex":"/u/(?<id>[^/]*)/?(?<rest>.*)"},
        "redirect":{"to":"https://b.test/v2/$match_id/x/$match_rest?$query"}}"#,
    r#"{"name":"d","path":{"regex":"/u/(?<id>[^/]*)/?(?<rest>.*)"},
        "rewrite":{"path":"/own/$match_id/x/$match_rest"},"request_id":{"accept":"always"}}"#,
    r#"{"name":"e","cors":{"origins":["https://*.b.test"],"headers":["*"],"credentials":true},
        "error_pages":{"4xx":{"body":"no"}},"access":{"deny":["10.0.0.0/8"]}}"#,
    r#"{"name":"f","hosts":["~(?<t>[^.]*)\\..*"],"rewrite":{"path":"/t/$match_t$path"},
        "basic_auth":{"users":"a:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"}}"#,
];

thread_local! {
    static FILTERS: LazyCell<Vec<Filters>> = const {
        LazyCell::new(|| SERVICES.iter().map(|json| Filters::new(json).expect("a service")).collect())
    };
}

/// The first byte says which filters; then comes a head.
pub fn check_filters(input: &[u8]) {
    let [which, head @ ..] = input else { return };
    FILTERS.with(|all| {
        let filters = &all[usize::from(*which) % all.len()];
        match filters.apply(head) {
            None => {}
            Some(FilteredHead::Forwarded { request, response }) => {
                check_request(head, &request);
                let read = strict::response_head(&response, true, LineEnd::Crlf);
                read.unwrap_or_else(|fault| panic!("{fault:?}: {}", response.escape_ascii()));
            }
            Some(FilteredHead::Replied { response }) => check_reply(&response),
        }
    });
}

/// What goes on is one request, framed as it came, for a path without dot segments.
fn check_request(came: &[u8], sent: &[u8]) {
    let shown = sent.escape_ascii();
    let (after, end) =
        strict::request_head(sent).unwrap_or_else(|fault| panic!("{fault:?}: {shown}"));
    assert_eq!(end, sent.len(), "{shown}");
    let Ok((before, _)) = strict::request_head(came) else {
        return;
    };
    assert_eq!(before.method, after.method, "{shown}");
    let end = |end: End| match end {
        End::Length(0) => End::Empty,
        end => end,
    };
    assert_eq!(end(before.end), end(after.end), "{shown}");
    // Another authority in the target outranks it, and HTTP/1.0 may have none.
    let host = strict::values(&before.fields, "host");
    if before.target.starts_with(b"/") && !host.is_empty() {
        assert_eq!(host, strict::values(&after.fields, "host"), "{shown}");
    }
    let path = after.target.split(|byte| *byte == b'?').next();
    let path = path.unwrap_or_default();
    if path.starts_with(b"/own/") || path.starts_with(b"/t/") {
        assert!(!strict::has_dots(path), "{shown}");
    }
}

/// A response of a filter is one, and leads to no other host.
fn check_reply(response: &[u8]) {
    let shown = response.escape_ascii();
    let read = strict::response_head(response, true, LineEnd::Crlf);
    let (head, end) = read.unwrap_or_else(|fault| panic!("{fault:?}: {shown}"));
    assert_eq!(end, response.len(), "{shown}");
    for location in strict::values(&head.fields, "location") {
        assert!(location.starts_with(b"https://"), "{shown}");
        assert!(
            location.iter().all(|byte| (b'!'..=b'~').contains(byte)),
            "{shown}"
        );
    }
    for origin in strict::values(&head.fields, "access-control-allow-origin") {
        assert!(origin.ends_with(b".b.test"), "{shown}");
    }
}
