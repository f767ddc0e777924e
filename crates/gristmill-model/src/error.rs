//! Error codes: one table of facts that every protocol answers from.

/// A stable name for what went wrong, with the facts a client needs to react.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The body is not what its content type says.
    InvalidBody,
    /// A parameter of the request is wrong.
    InvalidArgument,
    /// The event is understood but not acceptable.
    InvalidEvent,
    /// The request has no API key, or none that is valid.
    Unauthenticated,
    /// The API key is valid and does not allow this.
    PermissionDenied,
    /// There is nothing at this path.
    NotFound,
    /// The path does not know this method.
    MethodNotAllowed,
    /// What should be changed has changed meanwhile, or is there already.
    Conflict,
    /// The body, one event or the batch is larger than allowed.
    TooLarge,
    /// The request target is longer than allowed.
    UriTooLong,
    /// The headers are larger or more than allowed.
    HeadersTooLarge,
    /// The content type, charset or content encoding is not known.
    UnsupportedMedia,
    /// The body did not come in time.
    RequestTimeout,
    /// This client sends more than its quota.
    QuotaExceeded,
    /// The server has as much in flight as it may hold.
    Overloaded,
    /// The log cannot take events now, for example because the disk is full.
    LogUnavailable,
    /// The server is starting or stopping, or its store is not available.
    NotReady,
    /// What was waited for did not happen in time.
    DeadlineExceeded,
    /// A fault of the server.
    Internal,
}

/// The gRPC status codes in use, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are those of the gRPC specification")]
pub enum GrpcCode {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Aborted = 10,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

struct Facts {
    name: &'static str,
    status: u16,
    grpc: GrpcCode,
    retryable: bool,
    no_side_effects: bool,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [ErrorCode; 19] = [
        ErrorCode::InvalidBody,
        ErrorCode::InvalidArgument,
        ErrorCode::InvalidEvent,
        ErrorCode::Unauthenticated,
        ErrorCode::PermissionDenied,
        ErrorCode::NotFound,
        ErrorCode::MethodNotAllowed,
        ErrorCode::Conflict,
        ErrorCode::TooLarge,
        ErrorCode::UriTooLong,
        ErrorCode::HeadersTooLarge,
        ErrorCode::UnsupportedMedia,
        ErrorCode::RequestTimeout,
        ErrorCode::QuotaExceeded,
        ErrorCode::Overloaded,
        ErrorCode::LogUnavailable,
        ErrorCode::NotReady,
        ErrorCode::DeadlineExceeded,
        ErrorCode::Internal,
    ];

    /// The name on the wire, in snake case.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The HTTP status.
    pub fn status(self) -> u16 {
        self.facts().status
    }

    /// The gRPC status code.
    pub fn grpc_code(self) -> GrpcCode {
        self.facts().grpc
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(self) -> bool {
        self.facts().retryable
    }

    /// Whether it is certain that nothing was accepted.
    pub fn has_no_side_effects(self) -> bool {
        self.facts().no_side_effects
    }

    #[rustfmt::skip]
    fn facts(self) -> Facts {
        use GrpcCode as G;
        let (name, status, grpc, retryable, no_side_effects) = match self {
            ErrorCode::InvalidBody      => ("invalid_body",       400, G::InvalidArgument,   false, true),
            ErrorCode::InvalidArgument  => ("invalid_argument",   400, G::InvalidArgument,   false, true),
            ErrorCode::InvalidEvent     => ("invalid_event",      422, G::InvalidArgument,   false, true),
            ErrorCode::Unauthenticated  => ("unauthenticated",    401, G::Unauthenticated,   false, true),
            ErrorCode::PermissionDenied => ("permission_denied",  403, G::PermissionDenied,  false, true),
            ErrorCode::NotFound         => ("not_found",          404, G::NotFound,          false, true),
            ErrorCode::MethodNotAllowed => ("method_not_allowed", 405, G::Unimplemented,     false, true),
            ErrorCode::Conflict         => ("conflict",           409, G::Aborted,           false, true),
            ErrorCode::TooLarge         => ("too_large",          413, G::ResourceExhausted, false, true),
            ErrorCode::UriTooLong       => ("uri_too_long",       414, G::InvalidArgument,   false, true),
            ErrorCode::HeadersTooLarge  => ("headers_too_large",  431, G::InvalidArgument,   false, true),
            ErrorCode::UnsupportedMedia => ("unsupported_media",  415, G::InvalidArgument,   false, true),
            ErrorCode::RequestTimeout   => ("request_timeout",    408, G::DeadlineExceeded,  true,  true),
            ErrorCode::QuotaExceeded    => ("quota_exceeded",     429, G::ResourceExhausted, true,  true),
            ErrorCode::Overloaded       => ("overloaded",         503, G::Unavailable,       true,  true),
            ErrorCode::LogUnavailable   => ("log_unavailable",    503, G::Unavailable,       true,  false),
            ErrorCode::NotReady         => ("not_ready",          503, G::Unavailable,       true,  true),
            ErrorCode::DeadlineExceeded => ("deadline_exceeded",  504, G::DeadlineExceeded,  true,  false),
            ErrorCode::Internal         => ("internal",           500, G::Internal,          true,  false),
        };
        Facts { name, status, grpc, retryable, no_side_effects }
    }
}

/// An error that knows its code. Its text is for the client and names the setting or field.
pub trait Coded: std::error::Error {
    /// What kind of error this is.
    fn code(&self) -> ErrorCode;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_only_transient_codes_are_retryable() {
        let names: std::collections::BTreeSet<_> = ErrorCode::ALL.map(ErrorCode::name).into();
        assert_eq!(names.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            let transient = matches!(code.status(), 408 | 429 | 500 | 503 | 504);
            assert_eq!(code.is_retryable(), transient, "{}", code.name());
        }
    }
}
