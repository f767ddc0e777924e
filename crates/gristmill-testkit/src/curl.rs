//! Reads a `curl` command as a shell would and makes it a request, so that a test can hold the
//! very commands that people copy from a manual.

use anyhow::{Context, bail};

use crate::Request;

/// A `curl` command: where it goes and what it sends.
#[derive(Clone, Debug)]
pub struct Curl {
    /// The port of the URL.
    pub port: u16,
    /// What is sent.
    pub request: Request,
}

impl Curl {
    /// Reads a command of the flags `-X`, `-H`, `-d` and `-N` and a URL on localhost. What
    /// follows a pipe sign is left out.
    pub fn parse(command: &str) -> anyhow::Result<Self> {
        let mut words = split_words(command)?.into_iter();
        anyhow::ensure!(words.next().as_deref() == Some("curl"), "not a curl command: {command}");
        let (mut method, mut url, mut headers, mut body) = (None, None, Vec::new(), None);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} wants a value"));
            match word.as_str() {
                "-X" => method = Some(value()?),
                "-H" => {
                    let header = value()?;
                    let (name, text) = header.split_once(':').context("-H wants name: value")?;
                    headers.push((name.to_owned(), text.trim().to_owned()));
                }
                "-d" => body = Some(value()?),
                "-N" | "-i" | "-s" => {}
                "|" => break,
                flag if flag.starts_with('-') => bail!("the flag {flag} is not known here"),
                _ => url = Some(word),
            }
        }
        let url = url.context("no URL")?;
        let rest = url.strip_prefix("http://localhost:").context("not a URL on localhost")?;
        let (port, target) = rest.split_once('/').unwrap_or((rest, ""));
        let fallback = if body.is_some() { "POST" } else { "GET" };
        let mut request =
            Request::new(method.as_deref().unwrap_or(fallback), &format!("/{target}"))
                .header("Host", &format!("localhost:{port}"))
                .header("User-Agent", "curl/8.14.1")
                .header("Accept", "*/*");
        request.headers.extend(headers);
        Ok(Self { port: port.parse()?, request: request.body(body.unwrap_or_default()) })
    }
}

/// Splits as a POSIX shell does, as far as quotes and escaped characters go.
fn split_words(command: &str) -> anyhow::Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (Some('\''), inside) => word.get_or_insert_default().push(inside),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (_, '\\') => match characters.next().context("a lone backslash")? {
                '\n' => {}
                escaped => word.get_or_insert_default().push(escaped),
            },
            (None, space) if space.is_whitespace() => words.extend(word.take()),
            (_, inside) => word.get_or_insert_default().push(inside),
        }
    }
    anyhow::ensure!(quote.is_none(), "an open quote in: {command}");
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_continued_lines_and_defaults_are_those_of_the_shell_and_curl() {
        let curl = Curl::parse(
            "curl http://localhost:8081/events \\\n  -H 'Content-Type: application/json' \\\n  \
             -d '{\"payload\":\"{\\\"path\\\":\\\"/home\\\"}\"}' | jq",
        )
        .unwrap();
        assert_eq!((curl.port, curl.request.method.as_str()), (8081, "POST"));
        assert_eq!(curl.request.target, "/events");
        assert_eq!(curl.request.body, br#"{"payload":"{\"path\":\"/home\"}"}"#);
        let bytes = String::from_utf8(curl.request.to_bytes()).unwrap();
        assert!(bytes.starts_with("POST /events HTTP/1.1\r\nHost: localhost:8081\r\n"), "{bytes}");
        assert!(Curl::parse("curl 'http://localhost:1/").is_err());
        assert!(Curl::parse("wget http://localhost:1/").is_err());
    }
}
