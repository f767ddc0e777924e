//! The columns of a part, as Arrow and Parquet see them.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

/// Rows of the largest row group.
const MOST_GROUP_ROWS: usize = 64 * 1024;
/// Rows of one page, about; the finest piece that can be read by itself.
pub(super) const PAGE_ROWS: usize = 4 * 1024;
/// Rows that are decoded at a time.
pub(super) const BATCH_ROWS: usize = 4 * 1024;
/// What the name of a property's column begins with.
const SHREDDED: &str = "properties.";
/// The key of the row group index in the file's metadata.
pub(super) const INDEX_KEY: &str = "gristmill.row_groups";

/// The columns by name; the numbers are their places in the file.
pub(super) mod column {
    pub(in super::super) const PROJECT: usize = 0;
    pub(in super::super) const USER_ID: usize = 1;
    pub(in super::super) const TIME: usize = 2;
    pub(in super::super) const PARTITION: usize = 3;
    pub(in super::super) const OFFSET: usize = 4;
    pub(in super::super) const RECEIVED: usize = 5;
    pub(in super::super) const EVENT_UUID: usize = 6;
    pub(in super::super) const EVENT_ID: usize = 7;
    pub(in super::super) const SESSION_ID: usize = 8;
    pub(in super::super) const EVENT_TYPE: usize = 9;
    pub(in super::super) const SOURCE: usize = 10;
    pub(in super::super) const PAGE_URL: usize = 11;
    pub(in super::super) const ORIGIN: usize = 12;
    pub(in super::super) const PROPERTIES: usize = 13;
}

/// How much work a part is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// Little: the part is likely to be merged soon.
    Brief,
    /// Much: the part is likely to stay. It is compressed well, and properties get columns.
    Lasting,
}

impl Effort {
    /// Rows of one row group, about. Whoever reads a part holds the dictionaries of one row group
    /// in memory, and there may be many parts that were just sealed; of a part that stays, what is
    /// held is the description of every row group.
    pub(super) fn group_rows(self) -> usize {
        match self {
            Effort::Brief => 8 * 1024,
            Effort::Lasting => 32 * 1024,
        }
    }
}

/// How texts are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Texts {
    /// As they are.
    Plain,
    /// Repeated ones as codes into a dictionary.
    Coded,
}

/// The columns of a part; behind those that every part has, one for each of some properties.
pub(super) fn schema(texts: Texts, shredded: &[String]) -> SchemaRef {
    let repeated = &match texts {
        Texts::Plain => DataType::Utf8,
        Texts::Coded => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
    };
    let time = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let required = |name: &str, kind: DataType| Field::new(name, kind, false);
    let optional = |name: &str, kind: DataType| Field::new(name, kind, true);
    let mut fields = vec![
        required("project", repeated.clone()),
        required("user_id", repeated.clone()),
        required("time", time()),
        required("partition", DataType::UInt32),
        required("offset", DataType::UInt64),
        required("received", time()),
        optional("event_uuid", DataType::FixedSizeBinary(16)),
        optional("event_id", DataType::Utf8),
        optional("session_id", repeated.clone()),
        required("event_type", repeated.clone()),
        required("source", repeated.clone()),
        required("page_url", repeated.clone()),
        required("origin", DataType::UInt8),
        required("properties", DataType::Utf8),
    ];
    let shredded = shredded.iter().map(|name| format!("{SHREDDED}{name}"));
    fields.extend(shredded.map(|name| optional(&name, repeated.clone())));
    Arc::new(Schema::new(fields))
}

/// The names of the properties that have a column.
pub(super) fn shredded(schema: &Schema) -> Vec<String> {
    let names = schema.fields().iter().skip(column::PROPERTIES + 1).map(|field| field.name());
    names.map(|name| name.strip_prefix(SHREDDED).unwrap_or(name).to_owned()).collect()
}

/// Columns whose values, or those of their dictionaries, have little in common: a fast compression takes
/// long and makes them hardly smaller.
const UNLIKE: [&str; 5] = ["time", "offset", "event_id", "user_id", "session_id"];

pub(super) fn writer_properties(effort: Effort) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(Some(MOST_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS)
        .set_dictionary_page_size_limit(4 << 20)
        .set_column_compression(ColumnPath::from("event_uuid"), Compression::UNCOMPRESSED);
    for name in ["time", "offset", "event_uuid", "event_id", "properties"] {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    match effort {
        Effort::Brief => {
            for name in UNLIKE {
                let column = ColumnPath::from(name);
                builder = builder.set_column_compression(column, Compression::UNCOMPRESSED);
            }
            builder.set_compression(Compression::LZ4_RAW).build()
        }
        Effort::Lasting => builder.set_compression(Compression::ZSTD(ZstdLevel::default())).build(),
    }
}

pub(super) fn index_entry(json: String) -> KeyValue {
    KeyValue::new(INDEX_KEY.to_owned(), json)
}
