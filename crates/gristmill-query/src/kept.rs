//! Texts that answer requests, kept under the hashes of their questions.
//!
//! A text is kept together with its question and given to nobody who asks another one, so two
//! questions with one hash do no harm.

use std::sync::{Mutex, PoisonError};

use bytes::{BufMut as _, Bytes, BytesMut};
use gristmill_model::limits;
use gristmill_store::Store;
use gristmill_store::cache::Entry;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_128;

use crate::Cost;
use crate::answers::{Answers, Question, Source};
use crate::page_count::RESERVED;

/// A text that answers a request.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The text.
    pub text: Bytes,
    /// What it took to come by it.
    pub cost: Cost,
    /// How it was come by; none where nothing is kept.
    pub source: Option<Source>,
}

/// What may not be kept.
enum Own<E> {
    /// No answer.
    Error(E),
    /// An answer that follows from more than the store.
    Text(Bytes, Cost),
}

pub(crate) async fn text<E, W>(
    store: &dyn Store,
    answers: Option<&Answers>,
    question: &[u8],
    work: impl Fn() -> W,
) -> Result<Kept, E>
where
    W: Future<Output = Result<(Bytes, Cost), E>>,
{
    let since = Instant::now();
    let present = match answers {
        // Whether the store can be asked is for the question itself to find out.
        Some(answers) => store.present().await.ok().flatten().map(|present| (answers, present)),
        None => None,
    };
    let Some((answers, present)) = present else {
        let (text, cost) = work().await?;
        return Ok(Kept { text, cost, source: None });
    };
    let key = format!("{RESERVED}answer:{:032x}", xxh3_128(question));
    let spent = Mutex::new(None);
    let work = || async {
        let (text, cost) = work().await.map_err(Own::Error)?;
        match cost.version().cloned() {
            Some(version) if text.len() + question.len() + 8 <= limits::CACHE_VALUE_BYTES => {
                *spent.lock().unwrap_or_else(PoisonError::into_inner) = Some(cost);
                Ok(Entry { version, value: with_question(question, &text) })
            }
            _ => Err(Own::Text(text, cost)),
        }
    };
    let asked = Question {
        present: &present,
        key: &key,
        identity: question,
        holds: |held: &Entry| {
            held.version == *present.version() && text_of(question, &held.value).is_some()
        },
    };
    let answered = answers.answer(asked, work).await;
    let spent = spent.into_inner().unwrap_or_else(PoisonError::into_inner);
    match answered {
        Ok((entry, source)) => {
            let text = text_of(question, &entry.value).unwrap_or_default();
            let answered = since.elapsed();
            let cost = spent.unwrap_or(Cost { answered, ..Cost::default() });
            Ok(Kept { text, cost, source: Some(source) })
        }
        Err(Own::Text(text, cost)) => Ok(Kept { text, cost, source: Some(Source::WorkedOut) }),
        Err(Own::Error(error)) => Err(error),
    }
}

fn with_question(question: &[u8], text: &[u8]) -> Bytes {
    let mut value = BytesMut::with_capacity(8 + question.len() + text.len());
    value.put_u64(question.len() as u64);
    value.put_slice(question);
    value.put_slice(text);
    value.freeze()
}

/// The text of a value, if it answers this question.
fn text_of(question: &[u8], value: &Bytes) -> Option<Bytes> {
    let (length, rest) = value.split_first_chunk::<8>()?;
    let is_same =
        u64::from_be_bytes(*length) == question.len() as u64 && rest.starts_with(question);
    is_same.then(|| value.slice(8 + question.len()..))
}
