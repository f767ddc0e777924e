//! Saved sets of users.

use http::Method;
use http::header::{self, HeaderName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::asked::{Asked, encode};
use crate::call::{Call, JSON};
use crate::{Client, ClientError};

/// A cohort to be saved.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NewCohort {
    /// What filters call it; made of the name if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// For people; the id if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who belongs: a behaviour, or definitions put together, as `docs/http-api.md` says.
    pub definition: Value,
}

/// A saved cohort.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct Cohort {
    pub id: String,
    pub name: String,
    pub version: u64,
    pub definition: Value,
    /// How many users belong now, where that is told.
    pub size: Option<u64>,
}

/// All cohorts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CohortList {
    /// By id.
    pub cohorts: Vec<CohortName>,
}

/// A cohort of the list.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct CohortName {
    pub id: String,
    pub name: String,
    pub version: u64,
}

/// A page of the users who belong to a cohort.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CohortUsers {
    /// By user id.
    pub users: Vec<String>,
    /// How many belong in all.
    pub size: u64,
    /// What to give as `after` for the next page.
    pub next: Option<String>,
}

impl Client {
    /// Saves a cohort. It is asked once: after no answer it may have been saved all the same.
    pub async fn create_cohort(&self, cohort: &NewCohort) -> Result<Cohort, ClientError> {
        let body = self.json_body(cohort)?;
        let call = Call { method: Method::POST, path: "/v1/cohorts", headers: JSON, body };
        self.once(&call).await
    }

    /// Puts another name and definition in the place of a cohort's, if it still has this version.
    /// It is asked once.
    pub async fn replace_cohort(
        &self,
        id: &str,
        version: Option<u64>,
        cohort: &NewCohort,
    ) -> Result<Cohort, ClientError> {
        let version = version.map(|version| format!("\"{version}\""));
        let mut headers: Vec<(HeaderName, &str)> = JSON.to_vec();
        headers.extend(version.as_deref().map(|version| (header::IF_MATCH, version)));
        let (path, body) = (path_of(id), self.json_body(cohort)?);
        self.once(&Call { method: Method::PUT, path: &path, headers: &headers, body }).await
    }

    /// Removes a cohort; it is no error if there is none.
    pub async fn delete_cohort(&self, id: &str) -> Result<(), ClientError> {
        match self.delete(&path_of(id)).await {
            Err(ClientError::Refused { status: 404, .. }) => Ok(()),
            deleted => deleted,
        }
    }

    /// All cohorts.
    pub async fn cohorts(&self) -> Result<CohortList, ClientError> {
        self.get_json("/v1/cohorts").await
    }

    /// A cohort and how many users belong to it now.
    pub async fn cohort(&self, id: &str) -> Result<Cohort, ClientError> {
        self.get_json(&path_of(id)).await
    }

    /// Users who belong to a cohort now, `limit` of them, behind the one that `after` names.
    pub async fn cohort_users(
        &self,
        id: &str,
        limit: usize,
        after: Option<&str>,
    ) -> Result<CohortUsers, ClientError> {
        let asked = Asked::get(&format!("{}/users", path_of(id))).with("limit", &limit.to_string());
        self.get_json(&asked.with_some("after", after).target).await
    }

    async fn once<T: serde::de::DeserializeOwned>(
        &self,
        call: &Call<'_>,
    ) -> Result<T, ClientError> {
        let (reply, _) = self.exchange.attempt(call, None).await?;
        self.exchange.read_success(call.path, &reply)
    }
}

fn path_of(id: &str) -> String {
    let mut path = "/v1/cohorts/".to_owned();
    encode(id, &mut path);
    path
}
