//! Settle: read the log in order, set poison aside, commit.
