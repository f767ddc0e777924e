//! Where the server is, as operators write it.

use std::fmt::{self, Write as _};
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::session::{PATIENCE, chain};

/// A server that says nothing for this long is asked whether it is still there, so often.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

const NO_TLS: &str = "asks for TLS, which is not built in yet: leave `sslmode` out, or use disable \
                      or prefer, over a network that can be trusted";
const UNREADABLE: &str = "cannot be read, or names an option that does not exist: in a URL, special \
                          characters of user and password are written as %40 for `@` and so on; \
                          in the other form, values with spaces are in single quotes";

/// Where the server is, read from a URL like `postgres://user:password@host:5432/database`. Printed
/// without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Config);

impl Address {
    /// Reads a URL, or the `host=… dbname=…` form. The error says what is wrong, without any of
    /// the text, since a slip may have put a part of the password anywhere.
    pub fn parse(url: &str) -> Result<Self, String> {
        let is_url = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
        if is_url && url.matches('@').count() > 1 {
            return Err("has more than one `@`: those of user and password are written as %40, \
                        and so are those of options"
                .to_owned());
        }
        let config: Config = url.parse().map_err(|error| match chain(&error) {
            _ if url.contains("sslmode=verify-") => NO_TLS.to_owned(),
            // The names of options that exist are no secret.
            text if text.contains("invalid value for option") => text,
            _ => UNREADABLE.to_owned(),
        })?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(NO_TLS.to_owned());
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("names no host".to_owned());
        }
        Ok(Self(with_defaults(config)))
    }

    /// How to connect.
    pub(super) fn config(&self) -> &Config {
        &self.0
    }

    /// How long it may take until one of the hosts is connected to.
    pub(super) fn patience(&self) -> Duration {
        self.0.get_connect_timeout().map_or(PATIENCE, |each| *each * hosts(&self.0))
    }
}

/// What an operator left open.
fn with_defaults(mut config: Config) -> Config {
    if config.get_connect_timeout().is_none() {
        let each = PATIENCE / hosts(&config);
        config.connect_timeout(each);
    }
    if config.get_keepalives_idle() == Config::new().get_keepalives_idle() {
        config.keepalives_idle(KEEPALIVE_IDLE);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(KEEPALIVE_RETRIES);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(KEEPALIVE_IDLE + KEEPALIVE_INTERVAL * KEEPALIVE_RETRIES);
    }
    if config.get_application_name().is_none() {
        config.application_name("gristmill");
    }
    config
}

fn hosts(config: &Config) -> u32 {
    let hosts = config.get_hosts().len().max(config.get_hostaddrs().len());
    u32::try_from(hosts).unwrap_or(u32::MAX).max(1)
}

/// In the form that has a name for everything, so that nothing is taken for something else.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(config) = self;
        let host = |host: &Host| match host {
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        };
        let all = |texts: Vec<String>| (!texts.is_empty()).then(|| texts.join(","));
        let parts = [
            ("host", all(config.get_hosts().iter().map(host).collect())),
            ("hostaddr", all(config.get_hostaddrs().iter().map(ToString::to_string).collect())),
            ("port", all(config.get_ports().iter().map(ToString::to_string).collect())),
            ("dbname", config.get_dbname().map(str::to_owned)),
            ("user", config.get_user().map(str::to_owned)),
            ("password", config.get_password().map(|_| "***".to_owned())),
        ];
        let mut separator = "";
        for (name, text) in parts {
            let Some(text) = text else { continue };
            write!(f, "{separator}{name}=")?;
            write_value(f, &text)?;
            separator = " ";
        }
        Ok(())
    }
}

fn write_value(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    if !text.is_empty() && !text.contains([' ', '\'', '\\']) {
        return f.write_str(text);
    }
    f.write_char('\'')?;
    for char in text.chars() {
        if matches!(char, '\'' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(char)?;
    }
    f.write_char('\'')
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_with_a_reason_and_without_the_password() {
        for (url, names) in [
            ("postgres://u:hidden@h/d?sslmode=require", "TLS"),
            ("postgres://u:hidden@h/d?sslmode=verify-full", "TLS"),
            ("postgres://u:hidden@h/d?sslmode=sometimes", "`sslmode`"),
            ("postgres://u:hidden@h:x/d", "port"),
            ("postgres://u:secret@h/d?hidden=1", "option"),
            ("user=u password=hidden dbname=d", "host"),
            ("host=h password=se hidden=1", "quotes"),
            ("host=h password=se hidden", "quotes"),
            ("postgres://u:se@hidden@h/d", "%40"),
            ("postgres://u:se@hidden?x@h/d", "%40"),
            ("postgres://u:se@x/hidden@h/d", "%40"),
        ] {
            let error = Address::parse(url).unwrap_err();
            assert!(error.contains(names) && !error.contains("hidden"), "{url}: {error}");
        }
    }

    #[test]
    fn passwords_are_not_printed() {
        for (url, printed) in [
            ("postgres://h", "host=h port=5432"),
            ("postgresql://ada@db/e?sslmode=disable", "host=db port=5432 dbname=e user=ada"),
            (
                "postgres://ada:hidden@db:5433/events",
                "host=db port=5433 dbname=events user=ada password=***",
            ),
            ("postgres://ada:a%40hidden@db/e", "host=db port=5432 dbname=e user=ada password=***"),
            ("postgres://ada:a:hidden@db/e", "host=db port=5432 dbname=e user=ada password=***"),
            ("postgres://ada:a://hidden@db/e", "host=db port=5432 dbname=e user=ada password=***"),
            (
                "postgres://db/e?user=ada&password=hidden",
                "host=db port=5432 dbname=e user=ada password=***",
            ),
            ("postgres://a:1,b:2/e", "host=a,b port=1,2 dbname=e"),
            ("host=db user=ada password='hid@den'", "host=db user=ada password=***"),
            ("password = a://hidden host=db", "host=db password=***"),
            (r"host=db user='a b\'c'", r"host=db user='a b\'c'"),
        ] {
            let address = Address::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(address.to_string(), printed);
            assert_eq!(format!("{address:?}"), printed);
            assert_eq!(Address::parse(printed).unwrap().to_string(), printed);
        }
    }

    #[test]
    fn an_operator_decides_how_long_to_wait() {
        let of = |url| Address::parse(url).unwrap();
        let own = of("postgres://h?connect_timeout=9&keepalives_idle=70&keepalives_retries=8");
        assert_eq!(own.config().get_connect_timeout(), Some(&Duration::from_secs(9)));
        assert_eq!(own.config().get_keepalives_idle(), Duration::from_secs(70));
        assert_eq!(own.config().get_keepalives_retries(), Some(8));
        assert_eq!(own.patience(), Duration::from_secs(9));
        let two = of("postgres://a,b");
        assert_eq!(two.config().get_connect_timeout(), Some(&(PATIENCE / 2)));
        assert_eq!(two.patience(), PATIENCE);
    }
}
