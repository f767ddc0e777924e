//! Newline-delimited JSON.

use memchr::memchr_iter;

/// The lines that hold something, without their ends and the blanks around them.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = memchr_iter(b'\n', text).chain([text.len()]);
    let lines = ends.scan(0, |start, end| {
        let line = text.get(*start..end);
        *start = end + 1;
        line
    });
    lines.map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_and_blanks_around_lines_are_left_out() {
        let of = |text: &'static str| -> Vec<&[u8]> { lines(text.as_bytes()).collect() };
        assert_eq!(of("{}\r\n\r\n \t\n\n {\"a\": 1} "), [&b"{}"[..], b"{\"a\": 1}"]);
        assert_eq!(of("a\nb\n"), [b"a", b"b"]);
        assert_eq!(of("\na"), [b"a"]);
        assert!(of("").is_empty() && of("\n").is_empty());
    }
}
