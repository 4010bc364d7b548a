//! Paths with a query string.

use crate::client::segment;

/// A path to which parameters are added.
pub(crate) struct Query(String);

impl Query {
    /// The path alone.
    pub(crate) fn new(path: &str) -> Self {
        Self(path.to_owned())
    }

    /// With one more parameter.
    pub(crate) fn text(mut self, name: &str, value: &str) -> Self {
        self.0.push(if self.0.contains('?') { '&' } else { '?' });
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(&segment(value));
        self
    }

    /// With one more parameter, if there is a value.
    pub(crate) fn optional(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// With a parameter that is `true` or `false`.
    pub(crate) fn flag(self, name: &str, value: bool) -> Self {
        self.text(name, if value { "true" } else { "false" })
    }

    /// Path and query.
    pub(crate) fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_values() {
        let query = Query::new("/a").flag("all", true).text("path", "/x y&z=é");
        let query = query.optional("none", None).optional("some", Some("1"));
        assert_eq!(
            query.finish(),
            "/a?all=true&path=%2Fx%20y%26z%3D%C3%A9&some=1"
        );
        assert_eq!(Query::new("/a").finish(), "/a");
    }
}
