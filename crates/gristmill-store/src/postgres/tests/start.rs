//! Starting: at once, on databases that others have set up, and where it cannot work.

use super::super::migrate::migrate;
use super::super::session::Session;
use super::*;

/// What the older systems' set-up makes, each with a row.
const SEEDS: [&str; 4] = [
    "SELECT 1",
    "CREATE TABLE click_events (event_id TEXT PRIMARY KEY, user_id TEXT NOT NULL, \
        event_type TEXT NOT NULL, page_url TEXT NOT NULL, time_stamp TIMESTAMPTZ NOT NULL); \
     CREATE TABLE page_clicks (user_id TEXT NOT NULL, page_url TEXT NOT NULL, \
        click_count INT DEFAULT 0, PRIMARY KEY (user_id, page_url)); \
     INSERT INTO click_events VALUES ('old', 'u', 'click', '/', now()); \
     INSERT INTO page_clicks VALUES ('u', '/', 1);",
    "CREATE TABLE user_activity_metrics (id SERIAL PRIMARY KEY, timestamp TIMESTAMP NOT NULL, \
        unique_users INTEGER NOT NULL, page_view_count BIGINT NOT NULL, \
        created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP); \
     INSERT INTO user_activity_metrics (timestamp, unique_users, page_view_count) \
     VALUES (now(), 1, 1);",
    "CREATE TABLE web_events (id BIGSERIAL PRIMARY KEY, event_id VARCHAR(64), \
        session_id VARCHAR(128), event_type VARCHAR(64), ts TIMESTAMPTZ, payload JSONB); \
     CREATE INDEX idx_web_events_ts ON web_events (ts); \
     INSERT INTO web_events (event_id) VALUES ('old');",
];

#[tokio::test(flavor = "multi_thread")]
async fn replicas_start_at_once_on_databases_of_older_systems() {
    for seed in SEEDS {
        let database = TestDatabase::create().unwrap();
        database.run(seed).unwrap();
        let mut replicas = JoinSet::new();
        for _ in 0..8 {
            let mut open = Open::begin(&database.url(), "log");
            replicas.spawn(async move { open.reached().await.map(|()| open) });
        }
        let replicas = replicas.join_all().await;
        let first = replicas.into_iter().collect::<Result<Vec<_>, _>>().unwrap().remove(0);
        commit(&first.store, &records(0, 4)).await;
        assert_eq!(counted(&database), [4; 3]);
        let views = "SELECT count(*) FROM public.click_events UNION ALL \
                     SELECT count(*) FROM public.web_events";
        assert_eq!(database.run(views).unwrap(), [["4"], ["0"]]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_wait_for_the_one_that_makes_the_tables() {
    let database = TestDatabase::create().unwrap();
    let address = Address::parse(&database.url()).unwrap();
    let mut replicas = JoinSet::new();
    for _ in 0..8 {
        let address = address.clone();
        replicas.spawn(async move {
            let mut session = Session::open(&address, "").await?;
            migrate(&mut session.client).await
        });
    }
    replicas.join_all().await.into_iter().collect::<Result<Vec<()>, _>>().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_older_systems_are_kept() {
    let database = TestDatabase::create().unwrap();
    SEEDS.iter().for_each(|seed| drop(database.run(seed).unwrap()));
    database.run("CREATE TABLE web_events_before_gristmill ()").unwrap();
    Open::at(&database).await;
    for table in
        ["click_events_before_gristmill", "page_clicks_before_gristmill", "user_activity_metrics"]
    {
        let rows = database.run(&format!("SELECT count(*) FROM {table}")).unwrap();
        assert_eq!(rows, [["1"]], "{table}");
    }
    let old = database.run("SELECT event_id FROM web_events_before_gristmill_2").unwrap();
    assert_eq!(old, [["old"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_an_earlier_version_are_brought_up_to_date_with_their_rows() {
    let database = TestDatabase::create().unwrap();
    let open = Open::at(&database).await;
    commit(&open.store, &records(0, 20)).await;
    drop(open);
    // As they were before the page counts had one index, and events their identity as the key.
    let earlier = "ALTER TABLE gristmill.page_counts DROP CONSTRAINT page_counts_pkey; \
                   ALTER TABLE gristmill.page_counts ADD PRIMARY KEY (hash); \
                   CREATE INDEX page_counts_user ON gristmill.page_counts (user_id); \
                   ALTER TABLE gristmill.events DROP CONSTRAINT events_pkey; \
                   ALTER TABLE gristmill.events ADD PRIMARY KEY \
                       (project, user_hash, user_id, time_us, log, log_partition, log_offset); \
                   CREATE TABLE gristmill.identities (hash uuid PRIMARY KEY); \
                   DELETE FROM gristmill.migrations WHERE version >= 3";
    database.run(earlier).unwrap();
    let open = Open::at(&database).await;
    // Also for the events that were there, the key tells repeats.
    let outcomes = commit(&open.store, &batch(20, (10..50).map(event).collect())).await;
    assert_eq!(outcomes[..10], [Outcome::Duplicate; 10]);
    assert_eq!(counted(&database), [50; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_again_uses_up_no_numbers() {
    let database = TestDatabase::create().unwrap();
    for _ in 0..3 {
        Open::at(&database).await;
    }
    Open::begin(&database.url(), "another log").reached().await.unwrap();
    let numbers = database.run("SELECT number FROM gristmill.logs ORDER BY number").unwrap();
    assert_eq!(numbers, [["1"], ["2"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_a_newer_version_are_left_alone() {
    let database = TestDatabase::create().unwrap();
    Open::at(&database).await;
    database.run("INSERT INTO gristmill.migrations (version) VALUES (1000)").unwrap();
    let error = Open::begin(&database.url(), "log").reached().await.unwrap_err().to_string();
    assert!(error.contains("version 1000"), "{error}");
}
