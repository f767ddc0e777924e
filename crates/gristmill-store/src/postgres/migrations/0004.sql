-- The identity of an event is its key, so that no other table has to say which events are there. What a
-- user did is put in order of time when it is read. The time is in the index for questions that need
-- nothing else.
ALTER TABLE gristmill.events DROP CONSTRAINT events_pkey;
ALTER TABLE gristmill.events ADD PRIMARY KEY (project, user_hash, user_id, event_id) INCLUDE (time_us);
DROP TABLE gristmill.identities;
