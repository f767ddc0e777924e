//! Speak: HTTP, status codes, SSE.
