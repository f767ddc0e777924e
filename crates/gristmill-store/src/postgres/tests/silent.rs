//! Others that say nothing: frozen in the middle of something, or never answering.

use futures_util::SinkExt as _;
use gristmill_model::{Coded as _, ErrorCode};

use super::super::session::Session;
use super::proxy::{Mode, Proxy};
use super::*;
use crate::DocumentKey;

#[tokio::test(flavor = "multi_thread")]
async fn who_is_frozen_while_it_copies_is_ended() {
    let database = TestDatabase::create().unwrap();
    let open = Open::at(&database).await;
    commit(&open.store, &records(0, 1)).await;
    let frozen = Session::open(&Address::parse(&database.url()).unwrap(), "").await.unwrap();
    let lock = "SET statement_timeout = '1s'; SET idle_in_transaction_session_timeout = '1s'; \
                BEGIN; SELECT FROM gristmill.positions FOR UPDATE";
    frozen.client.batch_execute(lock).await.unwrap();
    let copy = "COPY gristmill.identities FROM STDIN";
    let mut copying = Box::pin(frozen.client.copy_in::<_, bytes::Bytes>(copy).await.unwrap());
    copying.send("0".into()).await.unwrap();

    let late = open.store.commit(records(1, 2)).await.unwrap_err();
    assert_eq!(late.code(), ErrorCode::NotReady);
    assert_eq!(commit(&open.store, &records(1, 2)).await, [Outcome::Stored]);
    assert_eq!(counted(&database), [2; 3]);
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
    let [statement, lock, check] = open.store.connection.with(limits).await.unwrap();
    assert_eq!([statement, lock], ["4500ms", "2500ms"]);
    assert!(["5s", ""].contains(&check.as_str()), "{check}");
}
