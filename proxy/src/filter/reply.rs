//! The proxy's own response to a request, where a filter has one for it.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

use crate::table::filter::error_pages::ErrorPages;
use crate::table::filter::replies::Page;
use crate::wire::reply::LocalReply;
use crate::wire::sink::Sink;

/// The response of a filter.
#[derive(Debug)]
pub(crate) struct FilterReply {
    reply: LocalReply,
    status: StatusCode,
    /// Beside those that every response of the proxy's own has.
    fields: Vec<(&'static str, Vec<u8>)>,
    /// In place of a sentence.
    page: Option<Arc<Page>>,
}

impl FilterReply {
    /// As everyone gets it for this reason.
    pub(super) fn new(reply: LocalReply) -> Self {
        Self {
            reply,
            status: reply.status(),
            fields: Vec::new(),
            page: None,
        }
    }

    /// With a status of the service's own.
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub(super) fn with_field(mut self, name: &'static str, value: Vec<u8>) -> Self {
        self.fields.push((name, value));
        self
    }

    pub(super) fn with_page(self, page: Option<Arc<Page>>) -> Self {
        Self { page, ..self }
    }

    /// Its reason.
    pub(super) fn reason(&self) -> LocalReply {
        self.reply
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Writes its header fields, and gives its body: its own page, or the one that is for errors like it.
    pub(super) fn write(&self, pages: &ErrorPages, json: bool, to: &mut impl Sink) -> Bytes {
        for (name, value) in &self.fields {
            to.add(name.as_bytes(), &[value]);
        }
        // A 204 has neither a body nor a length (RFC 9110, 8.6).
        if self.status == StatusCode::NO_CONTENT {
            self.reply.write_reason(to);
            return Bytes::new();
        }
        let Some(page) = &self.page else {
            return write(self.reply, pages.page(self.status), json, to);
        };
        if !page.body.is_empty() {
            to.add(b"content-type", &[page.content_type.as_bytes()]);
        }
        let mut digits = itoa::Buffer::new();
        let length = digits.format(page.body.len());
        to.add(b"content-length", &[length.as_bytes()]);
        self.reply.write_reason(to);
        page.body.clone()
    }
}

/// Writes the header fields of an error, and gives its body: a page of the service's own, but to those
/// who would like JSON and would not get it.
pub(super) fn write(
    reply: LocalReply,
    page: Option<&Arc<Page>>,
    json: bool,
    to: &mut impl Sink,
) -> Bytes {
    match page.filter(|page| !json || page.is_json()) {
        Some(page) => {
            reply.write_fields(&page.content_type, page.body.len(), to);
            page.body.clone()
        }
        None => reply.write(json, to).into(),
    }
}
