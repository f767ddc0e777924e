//! Entries in a Redis.
//!
//! An entry is two strings: under its key the value as it is, for whoever else reads it, and in a
//! companion the version and a hash of the value. They are read at one moment and written by a
//! script, which does nothing if a later version is there. A value that does not go with its
//! companion, because somebody else has written it or one of them was dropped, is a miss.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Script};
use xxhash_rust::xxh3::xxh3_64;

use super::link::Link;
use super::{Cache, CacheStats, Entry, fits};
use crate::Version;

/// What the name of a companion begins with; the rest is the key that it goes with. Keys that
/// begin with this are not to be used.
const COMPANION: &str = "gristmill:version:";

/// Takes a key and its companion, a value and what the companion says, and a time in milliseconds.
/// The companion begins with the lineage and the number of records. A string of another program in
/// its place says nothing; a value that is no string makes way as well.
const PUT: &str = r"
    local pattern = '^(%x+):(%d+):'
    local held = redis.pcall('GET', KEYS[2])
    if type(held) == 'string' then
        local lineage, records = string.match(held, pattern)
        local new_lineage, new_records = string.match(ARGV[2], pattern)
        if lineage == new_lineage and tonumber(records) > tonumber(new_records) then
            return 0
        end
    end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
    redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
    return 1";

/// Where a Redis is and how it is used.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Where it is.
    pub address: RedisAddress,
    /// How long nothing is kept longer than.
    pub keep: Duration,
    /// How long to wait for it at most, connecting included.
    pub patience: Duration,
    /// For how long it is left alone after it was slow or gone.
    pub pause: Duration,
}

/// Where a Redis is, with what it takes to be let in. Shown without the password.
#[derive(Clone)]
pub struct RedisAddress(ConnectionInfo);

/// A cache that several processes share.
pub struct RedisCache {
    link: Link,
    put: Script,
    keep: Duration,
}

impl RedisAddress {
    /// Reads `redis://[user:password@]host[:port][/number]`. The error says what is wrong, without
    /// the password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let info = text.into_connection_info().map_err(|_| {
            "no address of a Redis: write redis://user:password@host:6379/0".to_owned()
        })?;
        match info.addr() {
            ConnectionAddr::Tcp(..) | ConnectionAddr::Unix(_) => Ok(Self(info)),
            _ => Err("asks for TLS, which is not supported yet: use redis://".to_owned()),
        }
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let redis = self.0.redis_settings();
        let scheme = match self.0.addr() {
            ConnectionAddr::Unix(_) => "redis+unix://",
            _ => "redis://",
        };
        f.write_str(scheme)?;
        if redis.username().is_some() || redis.password().is_some() {
            let password = redis.password().map_or("", |_| ":***");
            write!(f, "{}{password}@", redis.username().unwrap_or_default())?;
        }
        write!(f, "{}", self.0.addr())?;
        if redis.db() == 0 { Ok(()) } else { write!(f, "/{}", redis.db()) }
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for RedisAddress {
    fn eq(&self, other: &Self) -> bool {
        let (one, two) = (self.0.redis_settings(), other.0.redis_settings());
        self.to_string() == other.to_string() && one.password() == two.password()
    }
}

impl Eq for RedisAddress {}

impl RedisCache {
    /// A cache that has not reached its server. Must be used within a tokio runtime.
    pub fn new(config: RedisConfig) -> Result<Self, String> {
        let RedisConfig { address, keep, patience, pause } = config;
        let client = Client::open(address.0).map_err(|error| error.to_string())?;
        Ok(Self { link: Link::new(client, patience, pause), put: Script::new(PUT), keep })
    }
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, key: &str) -> Option<Entry> {
        let names = [key, &companion_of(key)];
        let (value, says) = self
            .link
            .ask(async |mut connection| {
                redis::cmd("MGET").arg(&names).query_async::<Held>(&mut connection).await
            })
            .await?;
        entry_of(value?, &says?)
    }

    async fn put(&self, key: &str, entry: Entry) {
        let version = entry.version.to_string();
        if !fits(key, &entry.value, &version) {
            return;
        }
        let says = format!("{version} {:016x}", xxh3_64(&entry.value));
        let keep = u64::try_from(self.keep.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut put = self.put.key(key);
        put.key(companion_of(key)).arg(&*entry.value).arg(says).arg(keep);
        self.link.ask(async |mut connection| put.invoke_async::<i64>(&mut connection).await).await;
    }

    fn stats(&self) -> CacheStats {
        let (errors, is_shunned) = (self.link.errors(), self.link.is_shunned());
        CacheStats { errors, is_shunned, bytes: 0 }
    }
}

type Held = (Option<Vec<u8>>, Option<Vec<u8>>);

fn companion_of(key: &str) -> String {
    format!("{COMPANION}{key}")
}

/// The entry of a value and what its companion says, if they go together.
fn entry_of(value: Vec<u8>, says: &[u8]) -> Option<Entry> {
    let (version, hash) = std::str::from_utf8(says).ok()?.split_once(' ')?;
    let version: Version = version.parse().ok()?;
    let goes_together = u64::from_str_radix(hash, 16).ok()? == xxh3_64(&value);
    goes_together.then(|| Entry { version, value: Bytes::from(value) })
}
