//! Who a request comes from.

use std::sync::Arc;

use gristmill_model::{ErrorCode, ProjectId, Scope, Scopes};
use http::Extensions;

use crate::keys::{Held, Need};
use crate::problem::Problem;

/// The project of a request that nobody says anything else of.
const DEFAULT_PROJECT: &str = "default";

/// Who a request comes from, as the front door has found out. It stands in the request's extensions, where
/// no client can put one.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) project: ProjectId<'static>,
    pub(crate) scopes: Scopes,
    pub(crate) who: Who,
}

/// How a caller is known.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    /// By nothing: there are no keys.
    Anyone,
    /// By the key of the settings.
    Operator,
    /// By a key of the store.
    Key(Arc<Held>),
}

impl Caller {
    /// Somebody, where there are no keys.
    pub(crate) fn anyone() -> Self {
        Self::whole(Who::Anyone)
    }

    /// Whoever has the key of the settings.
    pub(crate) fn operator() -> Self {
        Self::whole(Who::Operator)
    }

    /// Whoever has a key.
    pub(crate) fn with_key(project: ProjectId<'static>, scopes: Scopes, key: Arc<Held>) -> Self {
        Self { project, scopes, who: Who::Key(key) }
    }

    fn whole(who: Who) -> Self {
        let project = ProjectId::new(DEFAULT_PROJECT);
        Self { project, scopes: Scope::ALL.into_iter().collect(), who }
    }

    /// A project by its name. The usual one costs nothing to copy.
    pub(crate) fn project_named(name: &str) -> ProjectId<'static> {
        match name {
            DEFAULT_PROJECT => ProjectId::new(DEFAULT_PROJECT),
            name => ProjectId::new(name.to_owned()),
        }
    }

    /// Makes sure that the caller may do what needs this.
    pub(crate) fn check(&self, need: Need) -> Result<(), Problem> {
        let Need::Scope(scope) = need else { return Ok(()) };
        if self.scopes.allow(scope) {
            return Ok(());
        }
        let detail =
            format!("this needs an API key with the scope `{scope}`, which this one lacks");
        Err(Problem::new(ErrorCode::PermissionDenied, detail))
    }
}

/// How the caller of a request is known, if the front door has asked.
pub(crate) fn who_of(extensions: &Extensions) -> Option<Who> {
    extensions.get::<Caller>().map(|caller| caller.who.clone())
}

/// Who a request comes from. Nobody can say so where nobody has asked, as in a test of one route.
pub(crate) fn caller_of(extensions: &Extensions) -> Caller {
    extensions.get::<Caller>().cloned().unwrap_or_else(Caller::anyone)
}

/// The project that a request belongs to; nothing in its body or its target can choose it.
pub(crate) fn project_of(extensions: &Extensions) -> ProjectId<'static> {
    let caller = extensions.get::<Caller>();
    caller.map_or(ProjectId::new(DEFAULT_PROJECT), |caller| caller.project.clone())
}
