//! Others that say nothing: frozen in the middle of something, or never answering.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::SinkExt as _;
use gristmill_model::{Coded as _, ErrorCode};
use tokio_postgres::CopyInSink;

use super::super::session::Session;
use super::proxy::{Mode, Proxy};
use super::*;
use crate::DocumentKey;

/// A session that holds all positions and says nothing more, in the middle of a `COPY`.
async fn freeze(database: &TestDatabase) -> (Session, Pin<Box<CopyInSink<Bytes>>>) {
    let session = Session::open(&Address::parse(&database.url()).unwrap(), "").await.unwrap();
    let lock = "SET statement_timeout = '1s'; SET idle_in_transaction_session_timeout = '1s'; \
                BEGIN; SELECT FROM gristmill.positions FOR UPDATE";
    session.client.batch_execute(lock).await.unwrap();
    let copy = "COPY gristmill.documents FROM STDIN";
    let mut copying = Box::pin(session.client.copy_in(copy).await.unwrap());
    copying.send("0".into()).await.unwrap();
    (session, copying)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_frozen_while_it_copies_is_ended() {
    let database = TestDatabase::create().unwrap();
    let open = Open::at(&database).await;
    commit(&open.store, &records(0, 1)).await;
    open.store.close();
    drop(open);
    let copy = database.copy().unwrap();
    let open = Open::at(&database).await;
    let _frozen = freeze(&database).await;
    let _elsewhere = freeze(&copy).await;

    let late = open.store.commit(records(1, 2)).await.unwrap_err();
    assert_eq!(late.code(), ErrorCode::NotReady);
    assert_eq!(commit(&open.store, &records(1, 2)).await, [Outcome::Stored]);
    assert_eq!(counted(&database), [2; 3]);
    let others = "SELECT count(*) FROM pg_stat_activity \
                  WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert_eq!(copy.run(others).unwrap()[0][0], "1", "who is frozen in a copy is let be");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_document_whose_answer_is_lost_may_have_been_made() {
    let database = TestDatabase::create().unwrap();
    let proxy = Proxy::before(&database.url(), Mode::Open).await;
    let mut open = Open::begin(&proxy.url(&database.url()), "log");
    open.reached().await.unwrap();
    let key = |id| DocumentKey { project: ProjectId::new("default"), kind: "cohort", id };
    open.store.put_document(key("a"), None, "1".to_owned()).await.unwrap();

    proxy.set(Mode::SilenceInsert);
    let error = open.store.put_document(key("b"), None, "2".to_owned()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Internal);
    assert!(error.to_string().contains("nobody knows"), "{error}");
    assert_eq!(open.store.document(key("b")).await.unwrap().unwrap().body, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_ends_in_the_server() {
    let database = TestDatabase::create().unwrap();
    let open = Open::at(&database).await;
    let limits = async |client: &mut tokio_postgres::Client| {
        let question = "SELECT current_setting('statement_timeout'), \
                        current_setting('lock_timeout'), \
                        current_setting('client_connection_check_interval', true)";
        let row = client.query_one(question, &[]).await.unwrap();
        Ok([
            row.get::<_, String>(0),
            row.get(1),
            row.get::<_, Option<String>>(2).unwrap_or_default(),
        ])
    };
    assert!(open.store.lookups.looks_up_by_key().await, "a look may walk through a table");
    let [statement, lock, check] = open.store.connection.with(limits).await.unwrap();
    assert_eq!([statement, lock], ["4500ms", "2500ms"]);
    assert!(["5s", ""].contains(&check.as_str()), "{check}");
}
