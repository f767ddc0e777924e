//! Who a request comes from.

use gristmill_model::ProjectId;
use http::Extensions;

/// The project of a request that nobody says anything else of.
const DEFAULT_PROJECT: &str = "default";

/// Who a request comes from, as the front door has found out. It stands in the request's extensions, where
/// no client can put one.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) project: ProjectId<'static>,
}

/// The project that a request belongs to; nothing in its body or its target can choose it.
pub(crate) fn project_of(extensions: &Extensions) -> ProjectId<'static> {
    let caller = extensions.get::<Caller>();
    caller.map_or(ProjectId::new(DEFAULT_PROJECT), |caller| caller.project.clone())
}
