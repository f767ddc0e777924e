//! The cache that the settings ask for.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use gristmill_store::cache::{Cache, MemoryCache, RedisCache, RedisConfig};

use crate::config::{CacheSettings, Settings, StoreSettings};

/// How long a question may wait for Redis, and for how long none does after that.
const PATIENCE: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_secs(5);

/// The cache for answers, if answers are kept.
pub(crate) fn open(settings: &Settings) -> anyhow::Result<Option<Arc<dyn Cache>>> {
    let is_columnar = matches!(settings.store, StoreSettings::Columnar(_));
    Ok(match &settings.cache {
        CacheSettings::Redis(_) if is_columnar => {
            tracing::info!("files are quick enough without a cache, so Redis is not used");
            None
        }
        CacheSettings::None => None,
        _ if is_columnar => None,
        CacheSettings::Memory(memory) => {
            Some(Arc::new(MemoryCache::new(memory.bytes.0, memory.keep.0)))
        }
        CacheSettings::Redis(redis) => {
            let config = RedisConfig {
                address: redis.url.0.clone(),
                keep: redis.keep.0,
                patience: PATIENCE,
                pause: PAUSE,
            };
            let cache = RedisCache::new(config).map_err(|reason| anyhow!("cache.url: {reason}"))?;
            Some(Arc::new(cache))
        }
    })
}
