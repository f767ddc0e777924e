-- When the last window of activity was closed, by whichever of the processes that share a log.
ALTER TABLE gristmill.logs ADD COLUMN window_closed timestamptz NOT NULL DEFAULT now();

-- A record's place in the log, by which its outcome is found.
CREATE INDEX quarantine_place ON gristmill.quarantine (log, log_partition, log_offset);
