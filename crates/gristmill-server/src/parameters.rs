//! Query parameters, taken one by one so that what is left over is known to be unknown.

use axum::extract::Query;
use http::Uri;

use crate::problem::Problem;

/// The most parameters of a query.
const MOST: usize = 256;

/// The parameters of a query that have not been taken yet.
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// The parameters of a target.
    pub(crate) fn of(uri: &Uri) -> Result<Self, Problem> {
        if uri.query().is_none() {
            return Ok(Self(Vec::new()));
        }
        let query = Query::<Vec<(String, String)>>::try_from_uri(uri);
        let Query(pairs) = query.map_err(|_| Problem::argument("the query cannot be read"))?;
        if pairs.len() > MOST {
            return Err(Problem::argument(format!("the query has more than {MOST} parameters")));
        }
        Ok(Self(pairs))
    }

    /// Parameters that are known by their names and values.
    pub(crate) fn given(pairs: impl IntoIterator<Item = (&'static str, Option<String>)>) -> Self {
        let pairs = pairs.into_iter();
        Self(pairs.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }

    /// The value of a parameter that may be given once.
    pub(crate) fn take(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let mut values = self.take_all(name);
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(Problem::argument(format!("`{name}` is given more than once"))),
        }
    }

    /// All values of a parameter, in order.
    pub(crate) fn take_all(&mut self, name: &str) -> Vec<String> {
        self.extract(|given| given == name).into_iter().map(|(_, value)| value).collect()
    }

    /// All parameters `PREFIX.KEY=VALUE` and `PREFIX[KEY]=VALUE`, as keys and values.
    pub(crate) fn take_map(&mut self, prefix: &str) -> Vec<(String, String)> {
        let key = |name: &str| {
            let rest = name.strip_prefix(prefix)?;
            let key = match rest.strip_prefix('.') {
                Some(key) => key,
                None => rest.strip_prefix('[')?.strip_suffix(']')?,
            };
            (!key.is_empty()).then(|| key.to_owned())
        };
        let entries = self.extract(|name| key(name).is_some());
        entries.into_iter().filter_map(|(name, value)| Some((key(&name)?, value))).collect()
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut names: Vec<_> = self.0.iter().map(|(name, _)| format!("`{name}`")).collect();
        names.dedup();
        Err(Problem::argument(format!("unknown parameters: {}", names.join(", "))))
    }

    fn extract(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(|(n, _)| wanted(n));
        self.0 = left;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(query: &str) -> Parameters {
        Parameters::of(&format!("/x?{query}").parse().unwrap()).unwrap()
    }

    #[test]
    fn parameters_are_taken_once_in_lists_and_in_maps() {
        let mut all = parameters("a=1&b=2&b=3&f.x=y%20z&f[u%20v]=w&left=1&f=0");
        assert_eq!(all.take("a").unwrap().as_deref(), Some("1"));
        assert!(all.take("a").unwrap().is_none());
        assert_eq!(all.take_all("b"), ["2", "3"]);
        let filters = [("x".into(), "y z".into()), ("u v".into(), "w".into())];
        assert_eq!(all.take_map("f"), filters);
        let left = all.finish().unwrap_err();
        assert_eq!(left.detail(), "unknown parameters: `left`, `f`");
        assert!(parameters("a=1&a=2").take("a").is_err());
    }
}
