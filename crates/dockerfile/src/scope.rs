//! The variables of a build: ARG and ENV (Dockerfile reference, "ARG", "ENV").

use std::collections::{BTreeMap, BTreeSet};

use crate::ast::{Arg, Dockerfile, Kind, Pair};
use crate::expand::ExpandError;
use crate::word::Word;

/// Build arguments that need no ARG, in either case. They aren't part of the image or of a cache's key.
const PROXIES: [&str; 5] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "all_proxy",
];

fn is_proxy(name: &str) -> bool {
    let uniform = name == name.to_ascii_lowercase() || name == name.to_ascii_uppercase();
    uniform && PROXIES.contains(&name.to_ascii_lowercase().as_str())
}

/// What the build is given from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildArgs {
    given: BTreeMap<String, String>,
    predefined: BTreeMap<String, String>,
}

impl BuildArgs {
    /// `given` are the user's; they count for declared variables (ARG) and for proxies only.
    /// `predefined` are the daemon's, `TARGETPLATFORM` and the like: FROM sees them, a stage after a
    /// bare ARG.
    pub fn new(
        given: impl IntoIterator<Item = (String, String)>,
        predefined: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        Self {
            given: given.into_iter().collect(),
            predefined: predefined.into_iter().collect(),
        }
    }

    /// The user's arguments that no ARG of the file declares: probably misspelt.
    pub fn undeclared(&self, file: &Dockerfile) -> Vec<&str> {
        fn declared(kind: &Kind) -> &[Arg] {
            match kind {
                Kind::Arg(args) => args,
                _ => &[],
            }
        }
        let instructions = file.stages.iter().flat_map(|stage| &stage.instructions);
        let names: BTreeSet<&str> = file
            .global_args
            .iter()
            .map(|args| args.kind.as_slice())
            .chain(instructions.map(|instruction| declared(&instruction.kind)))
            .flatten()
            .map(|arg| arg.name.as_str())
            .collect();
        let given = self.given.keys().map(String::as_str);
        given
            .filter(|name| !names.contains(name) && !is_proxy(name))
            .collect()
    }
}

/// The variables before the first FROM and in all FROMs.
#[derive(Debug, Clone)]
pub struct GlobalScope {
    build_args: BuildArgs,
    args: BTreeMap<String, String>,
}

impl GlobalScope {
    /// Without any ARG.
    pub fn new(build_args: BuildArgs) -> Self {
        Self {
            build_args,
            args: BTreeMap::new(),
        }
    }

    /// Carries out all ARGs before the first FROM.
    ///
    /// # Errors
    /// A default can't be expanded.
    pub fn of(file: &Dockerfile, build_args: BuildArgs) -> Result<Self, ExpandError> {
        let mut scope = Self::new(build_args);
        for instruction in &file.global_args {
            scope.declare(&instruction.kind)?;
        }
        Ok(scope)
    }

    /// Carries out one ARG, its variables in turn.
    ///
    /// # Errors
    /// A default can't be expanded.
    pub fn declare(&mut self, args: &[Arg]) -> Result<(), ExpandError> {
        for arg in args {
            let value = match (self.build_args.given.get(&arg.name), &arg.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand(default)?),
                (None, None) => None,
            };
            self.args
                .extend(value.map(|value| (arg.name.clone(), value)));
        }
        Ok(())
    }

    /// A variable's value.
    pub fn value(&self, name: &str) -> Option<String> {
        let args = self.args.get(name);
        args.or_else(|| self.build_args.predefined.get(name))
            .cloned()
    }

    /// A word's value.
    ///
    /// # Errors
    /// As those of [`Word::expand`].
    pub fn expand(&self, word: &Word) -> Result<String, ExpandError> {
        word.expand(&|name| self.value(name))
    }

    /// The scope of a stage that begins with an image whose environment is `env`. The global ARGs
    /// count from a bare `ARG NAME` on.
    pub fn stage(&self, env: impl IntoIterator<Item = (String, String)>) -> Scope {
        Scope {
            global: self.clone(),
            args: BTreeMap::new(),
            env: env.into_iter().collect(),
        }
    }
}

/// The variables in a stage. Cloning it gives the scope of a stage that begins with this one's end: it
/// inherits both ENV and ARG.
#[derive(Debug, Clone)]
pub struct Scope {
    global: GlobalScope,
    args: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
}

impl Scope {
    /// Carries out one ARG, its variables in turn. A user's build argument beats the default; without a
    /// default, the global ARG's value counts, then the predefined one.
    ///
    /// # Errors
    /// A default can't be expanded.
    pub fn declare(&mut self, args: &[Arg]) -> Result<(), ExpandError> {
        for arg in args {
            let value = match (self.global.build_args.given.get(&arg.name), &arg.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand(default)?),
                (None, None) => self.global.value(&arg.name),
            };
            self.args
                .extend(value.map(|value| (arg.name.clone(), value)));
        }
        Ok(())
    }

    /// Carries out one ENV and returns its pairs. All of them are expanded with the values from before
    /// the instruction.
    ///
    /// # Errors
    /// A name or value can't be expanded, or a name is empty or holds `=`.
    pub fn set_env(&mut self, pairs: &[Pair]) -> Result<Vec<(String, String)>, ExpandError> {
        let expanded = self.pairs(pairs)?;
        self.env.extend(expanded.iter().cloned());
        Ok(expanded)
    }

    /// The pairs of an ENV or LABEL, expanded.
    ///
    /// # Errors
    /// As those of [`Self::set_env`].
    pub fn pairs(&self, pairs: &[Pair]) -> Result<Vec<(String, String)>, ExpandError> {
        let pair = |pair: &Pair| {
            let name = self.expand(&pair.name)?;
            match name.is_empty() || name.contains('=') {
                true => Err(ExpandError::Name(name)),
                false => Ok((name, self.expand(&pair.value)?)),
            }
        };
        pairs.iter().map(pair).collect()
    }

    /// A variable's value: ENV beats ARG.
    pub fn value(&self, name: &str) -> Option<String> {
        let value = self.env.get(name).or_else(|| self.args.get(name));
        let proxy = || {
            let given = self.global.build_args.given.get(name);
            given.filter(|_| is_proxy(name))
        };
        value.or_else(proxy).cloned()
    }

    /// A word's value.
    ///
    /// # Errors
    /// As those of [`Word::expand`].
    pub fn expand(&self, word: &Word) -> Result<String, ExpandError> {
        word.expand(&|name| self.value(name))
    }

    /// The variables of ENV, which become part of the image, the base image's included.
    pub fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// The environment of RUN: proxies, ARG and ENV, where later ones beat earlier ones.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let given = self.global.build_args.given.iter();
        let proxies = given.filter(|(name, _)| is_proxy(name));
        owned(proxies.chain(&self.args).chain(&self.env))
    }

    /// The part of [`Self::environment`] that a cache's key depends on: without the proxies that no
    /// ARG declares.
    pub fn cache_environment(&self) -> BTreeMap<String, String> {
        owned(self.args.iter().chain(&self.env))
    }
}

fn owned<'a>(pairs: impl Iterator<Item = (&'a String, &'a String)>) -> BTreeMap<String, String> {
    pairs
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// Carries out a file's first stage and returns `FROM`'s image and the scope.
    fn run(text: &str, given: &[(&str, &str)]) -> (String, Scope) {
        let file = crate::parse(text).unwrap();
        let args = BuildArgs::new(pairs(given), pairs(&[("TARGETOS", "freebsd")]));
        let global = GlobalScope::of(&file, args).unwrap();
        let stage = &file.stages[0];
        let image = global.expand(&stage.from.kind.image).unwrap();
        let mut scope = global.stage(pairs(&[("PATH", "/bin")]));
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Arg(args) => scope.declare(args).unwrap(),
                Kind::Env(env) => drop(scope.set_env(env).unwrap()),
                _ => unreachable!(),
            }
        }
        (image, scope)
    }

    fn value(text: &str, given: &[(&str, &str)]) -> Option<String> {
        run(text, given).1.value("V")
    }

    #[test]
    fn values() {
        for (text, given, expected) in [
            ("FROM a", &[][..], None),
            ("FROM a", &[("V", "u")], None),
            ("FROM a\nARG V", &[("V", "u")], Some("u")),
            ("FROM a\nARG V", &[], None),
            ("FROM a\nARG V=d", &[], Some("d")),
            ("FROM a\nARG V=d", &[("V", "u")], Some("u")),
            ("FROM a\nARG V=d\nENV V=e", &[("V", "u")], Some("e")),
            ("FROM a\nENV V=e\nARG V=d", &[], Some("e")),
            ("ARG V=g\nFROM a", &[], None),
            ("ARG V=g\nFROM a\nARG V", &[], Some("g")),
            ("ARG V=g\nFROM a\nARG V", &[("V", "u")], Some("u")),
            ("ARG V=g\nFROM a\nARG V=d", &[], Some("d")),
            ("FROM a\nARG A=1 V=$A", &[], Some("1")),
            ("FROM a\nENV A=1\nENV A=2 V=$A", &[], Some("1")),
            ("FROM a\nENV V=$PATH:/x", &[], Some("/bin:/x")),
            (
                "FROM a\nARG TARGETOS\nENV V=$TARGETOS",
                &[],
                Some("freebsd"),
            ),
            ("FROM a\nENV V=$TARGETOS", &[], Some("")),
            (
                "FROM a\nENV V=$HTTP_PROXY",
                &[("HTTP_PROXY", "p")],
                Some("p"),
            ),
            (
                "FROM a\nENV V=$Http_Proxy",
                &[("Http_Proxy", "p")],
                Some(""),
            ),
            ("FROM a\nARG N=V\nENV $N=1", &[], Some("1")),
            ("FROM a\nENV V a b  'c'", &[], Some("a b  c")),
        ] {
            assert_eq!(value(text, given).as_deref(), expected, "{text} {given:?}");
        }
    }

    #[test]
    fn from_sees_global_args_and_predefined_ones() {
        for (text, given, expected) in [
            ("ARG V=1\nFROM a:$V", &[][..], "a:1"),
            ("ARG V=1\nFROM a:$V", &[("V", "2")], "a:2"),
            ("ARG V=1\nARG W=${V}0\nFROM a:$W", &[], "a:10"),
            ("FROM a:${V:-x}", &[("V", "2")], "a:x"),
            ("FROM a:$TARGETOS", &[], "a:freebsd"),
        ] {
            assert_eq!(run(text, given).0, expected, "{text}");
        }
    }

    #[test]
    fn environments() {
        let text = "FROM a\nARG A=1 B=2\nENV B=3";
        let (_, scope) = run(text, &[("no_proxy", "p"), ("X", "y")]);
        let expected = pairs(&[("A", "1"), ("B", "3"), ("PATH", "/bin")]);
        let cache: Vec<_> = scope.cache_environment().into_iter().collect();
        assert_eq!(cache, expected);
        let mut all = scope.environment();
        assert_eq!(all.remove("no_proxy").as_deref(), Some("p"));
        assert_eq!(all.into_iter().collect::<Vec<_>>(), expected);
        assert_eq!(scope.env().len(), 2);
    }

    #[test]
    fn misspelt_arguments_are_named() {
        let file = crate::parse("ARG A\nFROM a\nARG B C=1").unwrap();
        let given = pairs(&[("A", ""), ("C", ""), ("D", ""), ("HTTPS_PROXY", "")]);
        let args = BuildArgs::new(given, []);
        assert_eq!(args.undeclared(&file), ["D"]);
    }

    #[test]
    fn names_are_not_empty() {
        let file = crate::parse("FROM a\nENV $N=1").unwrap();
        let mut scope = GlobalScope::new(BuildArgs::default()).stage([]);
        let Kind::Env(env) = &file.stages[0].instructions[0].kind else {
            panic!("not ENV");
        };
        assert_eq!(scope.set_env(env), Err(ExpandError::Name(String::new())));
    }
}
