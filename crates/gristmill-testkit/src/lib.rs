//! Help for tests, never shipped.
