-- Everything of ours is in the schema `gristmill`, so that it meets nothing of others. What older
-- systems' SQL reads is in views under the names and columns that it knows.

-- Keys the hashes of identities, so that nobody can make two events collide. 128 bits.
CREATE TABLE gristmill.secret (key uuid NOT NULL);
INSERT INTO gristmill.secret
SELECT md5(gen_random_uuid()::text || gen_random_uuid()::text)::uuid;

-- The logs whose events are here. Positions of one say nothing about another.
CREATE TABLE gristmill.logs (
    number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE
);

-- How far each partition of a log has been taken in, and what became of its records.
CREATE TABLE gristmill.positions (
    log integer NOT NULL REFERENCES gristmill.logs,
    partition integer NOT NULL,
    next bigint NOT NULL DEFAULT 0,
    stored bigint NOT NULL DEFAULT 0,
    duplicate bigint NOT NULL DEFAULT 0,
    quarantined bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (log, partition)
) WITH (fillfactor = 50);

-- The identity (project, user, event id) of every event that was ever stored.
CREATE TABLE gristmill.identities (hash uuid PRIMARY KEY);

-- The events. The key is the order in which users are walked through. Times are microseconds since
-- 1970, because `timestamptz` holds less than a log may.
CREATE TABLE gristmill.events (
    id bigint GENERATED ALWAYS AS IDENTITY,
    project text COLLATE "C" NOT NULL,
    user_hash bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    time_us bigint NOT NULL,
    log integer NOT NULL,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    received_us bigint NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    session_id text COLLATE "C",
    event_type text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    page_url text COLLATE "C" NOT NULL,
    origin smallint NOT NULL,
    properties json NOT NULL,
    PRIMARY KEY (project, user_hash, user_id, time_us, log, log_partition, log_offset)
);
-- Events come roughly in order of time, so this costs next to nothing.
CREATE INDEX events_time ON gristmill.events USING brin (time_us) WITH (autosummarize = on);

-- A record's place in the log, by which windows of activity find what is new.
CREATE UNIQUE INDEX events_place ON gristmill.events (log, log_partition, log_offset);

-- Where the open window of activity begins, and how many events had been stored then.
CREATE TABLE gristmill.windows (
    log integer NOT NULL REFERENCES gristmill.logs,
    partition integer NOT NULL,
    next bigint NOT NULL,
    stored bigint NOT NULL,
    PRIMARY KEY (log, partition)
);

-- How many events a user made on a page. Pages are too long for an index, hashes are not.
CREATE TABLE gristmill.page_counts (
    hash uuid PRIMARY KEY,
    project text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    page_url text COLLATE "C" NOT NULL,
    events bigint NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX page_counts_user ON gristmill.page_counts (user_id);

-- What could not be processed, with its original bytes.
CREATE TABLE gristmill.quarantine (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    log integer NOT NULL REFERENCES gristmill.logs,
    log_partition integer NOT NULL,
    log_offset bigint NOT NULL,
    reason text NOT NULL,
    bytes bytea NOT NULL
);

-- Small texts beside the events. No version is given twice.
CREATE SEQUENCE gristmill.document_versions;
CREATE TABLE gristmill.documents (
    project text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (project, kind, id)
);

CREATE FUNCTION gristmill.moment(us bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT (timestamp '1970-01-01 00:00:00'
        + (us / 1000000) * interval '1 second' + (us % 1000000) * interval '1 microsecond')
        AT TIME ZONE 'UTC'
$$;

-- Where an older system's set-up made tables of these names, they keep their rows under another.
DO $$
DECLARE
    name text;
    kept text;
    number integer;
BEGIN
    FOREACH name IN ARRAY ARRAY['click_events', 'page_clicks', 'web_events'] LOOP
        CONTINUE WHEN to_regclass(name) IS NULL;
        kept := name || '_before_gristmill';
        number := 1;
        WHILE to_regclass(kept) IS NOT NULL LOOP
            number := number + 1;
            kept := name || '_before_gristmill_' || number;
        END LOOP;
        EXECUTE format('ALTER TABLE %I RENAME TO %I', name, kept);
    END LOOP;
END
$$;

-- One row for each window of activity. Older set-ups make the same table.
CREATE TABLE IF NOT EXISTS user_activity_metrics (
    id serial PRIMARY KEY,
    timestamp timestamp NOT NULL,
    unique_users integer NOT NULL,
    page_view_count bigint NOT NULL,
    created_at timestamp DEFAULT current_timestamp
);

CREATE VIEW click_events AS
SELECT event_id, user_id, event_type, page_url, gristmill.moment(time_us) AS time_stamp
FROM gristmill.events
WHERE project = 'default' AND page_url <> '';

CREATE VIEW page_clicks AS
SELECT user_id, page_url, events AS click_count
FROM gristmill.page_counts
WHERE project = 'default';

CREATE VIEW web_events AS
SELECT id, event_id, session_id, event_type, gristmill.moment(time_us) AS ts,
    jsonb_build_object(
        'eventId', event_id,
        'sessionId', session_id,
        'eventType', event_type,
        'payload', properties::text,
        'ts', to_char(gristmill.moment(time_us) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    ) AS payload
FROM gristmill.events
WHERE project = 'default' AND session_id IS NOT NULL;

-- Through a view, events could be removed whose identities and counts stay.
CREATE FUNCTION gristmill.refuse_write() RETURNS trigger LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION '% shows the events of gristmill and cannot be written to', TG_TABLE_NAME
        USING ERRCODE = 'feature_not_supported', HINT = 'Send events to gristmill instead.';
END
$$;
CREATE TRIGGER refuse_write INSTEAD OF INSERT OR UPDATE OR DELETE ON click_events
    FOR EACH ROW EXECUTE FUNCTION gristmill.refuse_write();
CREATE TRIGGER refuse_write INSTEAD OF INSERT OR UPDATE OR DELETE ON page_clicks
    FOR EACH ROW EXECUTE FUNCTION gristmill.refuse_write();
CREATE TRIGGER refuse_write INSTEAD OF INSERT OR UPDATE OR DELETE ON web_events
    FOR EACH ROW EXECUTE FUNCTION gristmill.refuse_write();
