//! Every hard limit, on one page. What an operator may tune is in `gristmill.default.toml`.

/// The longest event id, in bytes.
pub const EVENT_ID_BYTES: usize = 256;
/// The longest user or session id, in bytes.
pub const USER_ID_BYTES: usize = 512;
/// The longest event type, in bytes.
pub const EVENT_TYPE_BYTES: usize = 200;
/// The longest source, in bytes.
pub const SOURCE_BYTES: usize = 200;
/// The longest page, in bytes.
pub const PAGE_URL_BYTES: usize = 8 * 1024;
/// The longest text of an event's properties, in bytes.
pub const PROPERTIES_BYTES: usize = 64 * 1024;
/// The longest key in properties, in bytes.
pub const PROPERTY_KEY_BYTES: usize = 256;
/// The most keys in one object of properties.
pub const PROPERTY_KEYS: usize = 256;
/// The deepest nesting of JSON, counting the outermost value as 1.
pub const JSON_DEPTH: usize = 64;
/// The most events in one request.
pub const BATCH_EVENTS: usize = 10_000;
/// How far ahead of the server an event's time may lie, in microseconds: 24 hours.
pub const FUTURE_MICROS: i64 = 24 * 3_600 * 1_000_000;
/// The longest line of NDJSON, in bytes.
pub const LINE_BYTES: usize = 256 * 1024;

/// The longest request target, in bytes.
pub const URI_BYTES: usize = 8 * 1024;
/// The longest block of request headers, in bytes.
pub const HEADER_BYTES: usize = 16 * 1024;
/// The most request headers.
pub const HEADERS: usize = 100;
/// The largest JSON body of a query, in bytes.
pub const QUERY_BODY_BYTES: usize = 256 * 1024;

/// The largest body of one frame of the embedded log, in bytes.
pub const FRAME_BYTES: usize = 16 * 1024 * 1024;
/// The most partitions of a log.
pub const PARTITIONS: u32 = 256;

/// The longest document beside the events, in bytes.
pub const DOCUMENT_BYTES: usize = 64 * 1024;
/// The most documents of a project and kind.
pub const DOCUMENTS: usize = 10_000;
/// The length of all documents of a store together, in bytes.
pub const ALL_DOCUMENTS_BYTES: usize = 64 * 1024 * 1024;

/// The most points of a series.
pub const SERIES_POINTS: usize = 100_000;
/// The most distinct groups of a series.
pub const SERIES_GROUPS: usize = 1_000;
/// The most values of a top list.
pub const TOP_VALUES: usize = 10_000;
/// The most events in a user's history per answer.
pub const USER_EVENTS: usize = 10_000;
/// The most steps of a funnel.
pub const FUNNEL_STEPS: usize = 20;
/// The most buckets of a retention triangle.
pub const RETENTION_BUCKETS: usize = 400;
/// The most different conditions of a question, all its filters together.
pub const CONDITIONS: usize = 128;
/// The most values of an `in` condition.
pub const IN_VALUES: usize = 10_000;
/// The deepest nesting of a filter.
pub const FILTER_DEPTH: usize = 16;
/// The most parts of a question's filters, conditions and what puts them together.
pub const FILTER_PARTS: usize = 1_000;
/// The most regular expressions of a question.
pub const REGEXES: usize = 8;
/// The longest regular expression, in bytes.
pub const REGEX_BYTES: usize = 1_000;
/// The longest id of a cohort, in bytes.
pub const COHORT_ID_BYTES: usize = 64;
/// The longest name of a cohort, in bytes.
pub const COHORT_NAME_BYTES: usize = 200;
/// The most behaviours in a cohort's definition.
pub const COHORT_BEHAVIOURS: usize = 20;
/// The most users of a question's cohorts together.
pub const COHORT_USERS: usize = 5_000_000;
/// The length of the ids of these users together, in bytes.
pub const COHORT_USER_BYTES: usize = 256 * 1024 * 1024;
/// The most users in a list of a cohort's users.
pub const COHORT_PAGE: usize = 10_000;
