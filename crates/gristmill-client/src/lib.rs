//! The client library: pooling, batching, retries.
