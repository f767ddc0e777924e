//! A log whose appends wait until a test lets them go.

use std::sync::Arc;

use async_trait::async_trait;
use gristmill_log::{AppendError, Appended, EventLog, LogReader, MemoryLog, ReadError, TrimError};
use gristmill_model::{Event, Partition, Positions};
use tokio::sync::Semaphore;

pub(crate) struct HeldLog {
    pub(crate) log: Arc<MemoryLog>,
    /// As many appends run at a time.
    pub(crate) gate: Arc<Semaphore>,
}

#[async_trait]
impl EventLog for HeldLog {
    fn partitions(&self) -> u32 {
        self.log.partitions()
    }

    async fn append(
        &self,
        partition: Partition,
        events: &[Event<'_>],
    ) -> Result<Appended, AppendError> {
        let _turn = self.gate.acquire().await.unwrap();
        self.log.append(partition, events).await
    }

    fn start(&self) -> Positions {
        self.log.start()
    }

    fn durable(&self) -> Positions {
        self.log.durable()
    }

    async fn read_from(&self, from: &Positions) -> Result<Box<dyn LogReader>, ReadError> {
        self.log.read_from(from).await
    }

    async fn trim(&self, below: &Positions) -> Result<(), TrimError> {
        self.log.trim(below).await
    }
}
