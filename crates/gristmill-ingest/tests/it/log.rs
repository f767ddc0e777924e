//! A log that remembers what it was given and fails when it is told to.

use std::sync::Mutex;

use async_trait::async_trait;
use gristmill_log::{AppendError, Appended, EventLog, LogReader, ReadError, TrimError};
use gristmill_model::{Event, Partition, Positions};
use tokio::sync::Barrier;

pub(crate) struct ScriptedLog {
    pub(crate) appended: Vec<Mutex<Vec<Event<'static>>>>,
    pub(crate) failing: Mutex<Option<(Partition, AppendError)>>,
    /// Appends are answered only when this many are waiting.
    pub(crate) together: Barrier,
}

impl ScriptedLog {
    pub(crate) fn new(partitions: usize, together: usize) -> Self {
        Self {
            appended: (0..partitions).map(|_| Mutex::default()).collect(),
            failing: Mutex::default(),
            together: Barrier::new(together),
        }
    }

    pub(crate) fn events(&self, partition: Partition) -> Vec<Event<'static>> {
        self.appended[partition.0 as usize].lock().unwrap().clone()
    }
}

#[async_trait]
impl EventLog for ScriptedLog {
    fn partitions(&self) -> u32 {
        self.appended.len() as u32
    }

    async fn append(
        &self,
        partition: Partition,
        events: &[Event<'_>],
    ) -> Result<Appended, AppendError> {
        assert!(!events.is_empty());
        self.together.wait().await;
        if let Some((failing, error)) = &*self.failing.lock().unwrap()
            && *failing == partition
        {
            return Err(error.clone());
        }
        let mut log = self.appended[partition.0 as usize].lock().unwrap();
        let start = log.len() as u64;
        log.extend(events.iter().map(|event| event.clone().into_owned()));
        Ok(Appended { partition, offsets: (start..log.len() as u64).into() })
    }

    fn start(&self) -> Positions {
        Positions::start()
    }

    fn durable(&self) -> Positions {
        let lengths = self.appended.iter().map(|log| log.lock().unwrap().len() as u64);
        (0..).map(Partition).zip(lengths).collect()
    }

    async fn read_from(&self, _from: &Positions) -> Result<Box<dyn LogReader>, ReadError> {
        Err(ReadError::Closed)
    }

    async fn trim(&self, _below: &Positions) -> Result<(), TrimError> {
        Ok(())
    }
}
