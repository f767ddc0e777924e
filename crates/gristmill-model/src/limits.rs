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
/// The most events in one message of gRPC, but for the batches of a stream.
pub const MESSAGE_EVENTS: usize = 1_000;
/// How many bytes of a stream's requests may be under way without an acknowledgement.
pub const STREAM_CREDIT_BYTES: usize = 4 * 1024 * 1024;
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

/// The largest message of a call, in bytes, before it is compressed and after that is undone.
pub const MESSAGE_BYTES: usize = 10 * 1024 * 1024;
/// The bytes of messages above 64 KiB that are being received at a time, all calls together.
pub const LARGE_MESSAGES_BYTES: usize = 64 * 1024 * 1024;

/// The largest body of one frame of the embedded log, in bytes.
pub const FRAME_BYTES: usize = 16 * 1024 * 1024;
/// The most partitions of a log.
pub const PARTITIONS: u32 = 256;
/// The most shards of a columnar store.
pub const SHARDS: u32 = 256;

/// The longest document beside the events, in bytes.
pub const DOCUMENT_BYTES: usize = 64 * 1024;
/// The most documents of a project and kind.
pub const DOCUMENTS: usize = 10_000;
/// The length of all documents of a store together, in bytes.
pub const ALL_DOCUMENTS_BYTES: usize = 64 * 1024 * 1024;

/// The longest text that is looked at as an API key, in bytes.
pub const KEY_BYTES: usize = 128;
/// The longest name of an API key, in bytes.
pub const KEY_NAME_BYTES: usize = 200;
/// The most API keys of a project, ended ones included; of these the oldest make room for new ones.
pub const PROJECT_KEYS: usize = 1_000;
/// The longest id of a project that an API key is made for, in bytes.
pub const PROJECT_ID_BYTES: usize = 64;
/// The shortest and the longest `server.admin_key`, in bytes.
pub const ADMIN_KEY_BYTES: std::ops::RangeInclusive<usize> = 32..=256;
/// The largest limit of an API key, in events or bytes.
pub const KEY_LIMIT: u64 = 1 << 50;
/// How many wrong API keys an address may try within a minute.
pub const WRONG_KEYS_A_MINUTE: u32 = 20;
/// How many addresses that tried wrong API keys are remembered.
pub const WRONG_KEY_ADDRESSES: usize = 4096;
/// How many answers about API keys a gateway remembers.
pub const GATEWAY_KEYS: usize = 1024;
/// The most origins of `server.cors_origins`.
pub const CORS_ORIGINS: usize = 100;

/// The longest key of a cache, in bytes.
pub const CACHE_KEY_BYTES: usize = 1024;
/// The longest value in a cache, in bytes.
pub const CACHE_VALUE_BYTES: usize = 1024 * 1024;
/// The longest text of a version in a cache, in bytes: some hundred logs and partitions.
pub const CACHE_VERSION_BYTES: usize = 4 * 1024;

/// The most points of a series.
pub const SERIES_POINTS: usize = 100_000;
/// The most distinct groups of a series.
pub const SERIES_GROUPS: usize = 1_000;
/// The most series of one question.
pub const SERIES: usize = 10;
/// The longest name of a series or formula, in bytes.
pub const SERIES_NAME_BYTES: usize = 100;
/// The most fields that series are grouped by.
pub const SERIES_GROUP_FIELDS: usize = 2;
/// The most groups that are put in order to find the top ones.
pub const SERIES_RANKED_GROUPS: usize = 1_000_000;
/// The most numbers that are kept for the percentiles of one question.
pub const SERIES_NUMBERS: usize = 20_000_000;
/// The most formulas of one question.
pub const FORMULAS: usize = 10;
/// The longest formula, in bytes.
pub const FORMULA_BYTES: usize = 1_000;
/// The deepest nesting of a formula.
pub const FORMULA_DEPTH: usize = 32;
/// The most values of a top list.
pub const TOP_VALUES: usize = 10_000;
/// The most different values that are held at a time to choose a top list from, once what walks have found is
/// joined; each takes about a hundred bytes and its text.
pub const TOP_DISTINCT_VALUES: usize = 2_000_000;
/// The most events in a user's history per answer.
pub const USER_EVENTS: usize = 10_000;
/// The most sessions of a user that are told one by one.
pub const USER_SESSIONS: usize = 1_000;
/// The most pages of a user that are told one by one.
pub const USER_PAGES: usize = 10;
/// The most users of a list per answer.
pub const LISTED_USERS: usize = 10_000;
/// The most event types of a summary that are compared with the range before.
pub const TOP_METRICS: usize = 100;
/// The most metrics that a question names.
pub const METRIC_NAMES: usize = 1_000;
/// The most different metrics, by name and unit, that the events of a question may carry.
pub const EVENT_METRICS: usize = 10_000;
/// The length of the names and units of these metrics together, in bytes.
pub const EVENT_METRICS_BYTES: usize = 16 * 1024 * 1024;
/// The most numbers that are kept for the percentiles of events' metrics; each takes 8 bytes.
pub const EVENT_METRIC_NUMBERS: usize = 20_000_000;
/// The most periods of stickiness.
pub const STICKINESS_PERIODS: usize = 400;
/// The most buckets of a lifecycle.
pub const LIFECYCLE_BUCKETS: usize = 1_000;
/// The most steps of a funnel.
pub const FUNNEL_STEPS: usize = 20;
/// The most exclusions of a funnel.
pub const FUNNEL_EXCLUSIONS: usize = 10;
/// The most times to convert of a funnel, which medians are found in; each takes 8 bytes.
pub const FUNNEL_TIMES: usize = 20_000_000;
/// The most groups that a funnel's breakdown lists.
pub const FUNNEL_GROUPS: usize = 1_000;
/// The most values that a funnel's breakdown tells apart.
pub const FUNNEL_VALUES: usize = 500_000;
/// The most users of a funnel's step per answer.
pub const FUNNEL_USERS: usize = 10_000;
/// The most buckets of a retention triangle.
pub const RETENTION_BUCKETS: usize = 400;
/// The most entry pages, exit pages or groups in an answer about sessions.
pub const SESSIONS_LISTED: usize = 1_000;
/// The most different entry pages, exit pages or groups of sessions that are counted.
pub const SESSION_VALUES: usize = 1_000_000;
/// The most sessions that last longer than a moment, whose durations are kept for quantiles.
pub const SESSIONS_TIMED: usize = 20_000_000;
/// The most steps of a path, beside the anchor.
pub const PATH_DEPTH: usize = 5;
/// The most values that are told apart on each level of paths.
pub const PATH_NODES: usize = 100;
/// The most different values of steps that are counted, those of each level for themselves.
pub const PATH_VALUES: usize = 1_000_000;
/// The most different conditions of a question, all its filters together.
pub const CONDITIONS: usize = 128;
/// The most values of an `in` condition.
pub const IN_VALUES: usize = 10_000;
/// The deepest nesting of a filter.
pub const FILTER_DEPTH: usize = 16;
/// The most parts of a question's filters, conditions and what puts them together.
pub const FILTER_PARTS: usize = 1_000;
/// The largest file of certificates or of a key, in bytes.
pub const PEM_FILE_BYTES: usize = 1024 * 1024;
/// The most subscriptions to live questions, all clients together.
pub const LIVE_SUBSCRIPTIONS: usize = 256;
/// The memory for what all live questions keep from one answer to the next, in bytes.
pub const RECALL_BYTES: usize = 64 * 1024 * 1024;
/// The longest window of what happened in the last seconds.
pub const REAL_TIME_SECONDS: i32 = 3_600;
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
