//! Finds the libraries that a program is loaded with, in the order in which the system's loader
//! looks for them.
//!
//! Sources: ld.so(8) of glibc, rtld(1) of FreeBSD. Left out on purpose: `LD_*` variables and
//! `ld.so.preload` (they belong to the host's environment), and `glibc-hwcaps` directories (the
//! loader falls back to the plain library, which is always there).

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::elf::{self, Elf};
use super::loader_conf;

/// A library that isn't there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    /// The library or loader.
    pub name: PathBuf,
    /// The file that asks for it.
    pub needed_by: PathBuf,
}

/// Everything that one program is loaded with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Closure {
    /// The loader and the libraries, as the loader names them.
    pub files: Vec<PathBuf>,
    /// What wasn't found.
    pub missing: Vec<Missing>,
    /// Whether a library lies where the loader only looks because it is configured to.
    pub needs_configuration: bool,
}

/// The loader's search.
pub(crate) struct Loader {
    /// Directories from the loader's configuration.
    configured: Vec<PathBuf>,
    /// Directories that the loader knows without being told.
    built_in: Vec<PathBuf>,
    known: HashMap<PathBuf, Option<Rc<Elf>>>,
}

/// A loaded file whose own needs come next.
struct Loaded {
    path: PathBuf,
    elf: Rc<Elf>,
    /// The `DT_RPATH` directories of the files that led here.
    inherited: Rc<Vec<PathBuf>>,
}

impl Loader {
    /// The loader of this host.
    pub fn of_host() -> Self {
        Self::new(loader_conf::configured_dirs(), loader_conf::built_in_dirs())
    }

    /// A loader that looks in these directories.
    pub fn new(configured: Vec<PathBuf>, built_in: Vec<PathBuf>) -> Self {
        Self {
            configured,
            built_in,
            known: HashMap::new(),
        }
    }

    /// Follows the needs of `program`, whose path must be free of links, breadth first as the
    /// loader does: a library that was loaded for one file serves the others too.
    pub fn closure(&mut self, program: &Path) -> Closure {
        let mut closure = Closure::default();
        let Some(elf) = self.elf(program) else {
            return closure;
        };
        let mut names: HashSet<OsString> = HashSet::new();
        if let Some(interpreter) = &elf.interpreter {
            names.extend(interpreter.file_name().map(OsStr::to_owned));
            if interpreter.is_file() {
                closure.files.push(interpreter.clone());
            } else {
                let needed_by = program.to_owned();
                closure.missing.push(Missing {
                    name: interpreter.clone(),
                    needed_by,
                });
            }
        }
        let path = program.to_owned();
        let mut queue = VecDeque::from([Loaded {
            path,
            elf,
            inherited: Rc::default(),
        }]);
        while let Some(file) = queue.pop_front() {
            for name in &file.elf.needed {
                if !names.insert(name.clone()) {
                    continue;
                }
                let Some((path, elf)) = self.find(&file, name, &mut closure) else {
                    let needed_by = file.path.clone();
                    closure.missing.push(Missing {
                        name: name.into(),
                        needed_by,
                    });
                    continue;
                };
                names.extend(elf.soname.clone());
                closure.files.push(path.clone());
                let inherited = self.inherited(&file);
                queue.push_back(Loaded {
                    path,
                    elf,
                    inherited,
                });
            }
        }
        closure
    }

    /// Finds a library by name alone, for code like that of `target`.
    pub fn library(&mut self, name: &OsStr, target: elf::Target) -> Option<PathBuf> {
        let dirs: Vec<PathBuf> = self
            .built_in
            .iter()
            .chain(&self.configured)
            .cloned()
            .collect();
        self.first_fitting(&dirs, name, target)
            .map(|(path, _)| path)
    }

    /// The ELF file at `path`, which is read once.
    pub fn elf(&mut self, path: &Path) -> Option<Rc<Elf>> {
        if let Some(known) = self.known.get(path) {
            return known.clone();
        }
        let elf = match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => elf::read(path).ok().flatten().map(Rc::new),
            _ => None,
        };
        self.known.insert(path.to_owned(), elf.clone());
        elf
    }

    fn find(
        &mut self,
        file: &Loaded,
        name: &OsStr,
        closure: &mut Closure,
    ) -> Option<(PathBuf, Rc<Elf>)> {
        let target = file.elf.target;
        if name.as_bytes().contains(&b'/') {
            let path = self
                .expand(name, file)
                .into_iter()
                .find(|path| path.is_absolute())?;
            let elf = self.elf(&path).filter(|elf| elf.target == target)?;
            return Some((path, elf));
        }
        let mut own = Vec::new();
        match &file.elf.runpath {
            Some(runpath) => own.extend(self.search_path(runpath, file)),
            None => own.extend(self.inherited(file).iter().cloned()),
        }
        if let Some(found) = self.first_fitting(&own, name, target) {
            return Some(found);
        }
        if file.elf.no_default_dirs {
            return None;
        }
        let built_in = self.built_in.clone();
        let configured = self.configured.clone();
        let found = self.first_fitting(&configured, name, target);
        let found = found.or_else(|| self.first_fitting(&built_in, name, target))?;
        let dir = found.0.parent().unwrap_or(Path::new("/"));
        closure.needs_configuration |= !built_in.iter().any(|known| known == dir);
        Some(found)
    }

    fn first_fitting(
        &mut self,
        dirs: &[PathBuf],
        name: &OsStr,
        target: elf::Target,
    ) -> Option<(PathBuf, Rc<Elf>)> {
        dirs.iter().find_map(|dir| {
            let path = dir.join(name);
            let elf = self.elf(&path).filter(|elf| elf.target == target)?;
            Some((path, elf))
        })
    }

    /// The `DT_RPATH` directories for the needs of `file` and of what it needs. A file with a
    /// `DT_RUNPATH` has its own `DT_RPATH` ignored.
    fn inherited(&self, file: &Loaded) -> Rc<Vec<PathBuf>> {
        match (&file.elf.rpath, &file.elf.runpath) {
            (Some(rpath), None) => {
                let mut dirs = self.search_path(rpath, file);
                dirs.extend(file.inherited.iter().cloned());
                Rc::new(dirs)
            }
            _ => Rc::clone(&file.inherited),
        }
    }

    fn search_path(&self, text: &OsStr, file: &Loaded) -> Vec<PathBuf> {
        let parts = text.as_bytes().split(|&byte| byte == b':');
        parts
            .flat_map(|part| self.expand(OsStr::from_bytes(part), file))
            .filter(|dir| dir.is_absolute())
            .collect()
    }

    /// Replaces `$ORIGIN` by the file's directory and `$LIB` by each directory name that it can
    /// stand for. Texts with other tokens name nothing here.
    fn expand(&self, text: &OsStr, file: &Loaded) -> Vec<PathBuf> {
        let origin = file
            .path
            .parent()
            .unwrap_or(Path::new("/"))
            .as_os_str()
            .as_bytes();
        let text = replace_token(text.as_bytes(), b"ORIGIN", origin);
        let libs = self
            .built_in
            .iter()
            .filter_map(|dir| dir.strip_prefix("/usr").ok());
        let variants: Vec<Vec<u8>> = if text.contains(&b'$') {
            libs.map(|lib| replace_token(&text, b"LIB", lib.as_os_str().as_bytes()))
                .collect()
        } else {
            vec![text]
        };
        let path = |bytes| PathBuf::from(OsString::from_vec(bytes));
        variants
            .into_iter()
            .filter(|text| !text.contains(&b'$'))
            .map(path)
            .collect()
    }
}

/// Replaces `$NAME` and `${NAME}`.
fn replace_token(text: &[u8], name: &[u8], value: &[u8]) -> Vec<u8> {
    let braced = [b"${", name, b"}"].concat();
    let bare = [b"$", name].concat();
    let mut replaced = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let token = rest
            .strip_prefix(&*braced)
            .or_else(|| rest.strip_prefix(&*bare));
        if let Some(after) = token {
            replaced.extend_from_slice(value);
            rest = after;
        } else {
            replaced.push(first);
            rest = after;
        }
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_replaced() {
        assert_eq!(
            replace_token(b"$ORIGIN/../lib", b"ORIGIN", b"/opt/x"),
            b"/opt/x/../lib"
        );
        assert_eq!(replace_token(b"a/${LIB}/b", b"LIB", b"lib64"), b"a/lib64/b");
        assert_eq!(replace_token(b"$PLATFORM", b"LIB", b"lib64"), b"$PLATFORM");
    }

    #[test]
    fn closure_of_a_program_of_this_host() {
        let mut loader = Loader::of_host();
        let shell = fs::canonicalize("/bin/sh").unwrap();
        let closure = loader.closure(&shell);
        assert_eq!(closure.missing, []);
        assert!(!closure.needs_configuration);
        let has = |part: &str| {
            closure
                .files
                .iter()
                .any(|f| f.to_string_lossy().contains(part))
        };
        assert!(has("ld-"), "{closure:?}");
        assert!(has("libc."), "{closure:?}");
    }

    #[test]
    fn missing_libraries_are_named() {
        let mut loader = Loader::new(Vec::new(), Vec::new());
        let shell = fs::canonicalize("/bin/sh").unwrap();
        let closure = loader.closure(&shell);
        assert!(!closure.missing.is_empty());
        assert!(
            closure
                .missing
                .iter()
                .all(|missing| missing.needed_by == shell)
        );
    }

    #[test]
    fn libraries_in_configured_directories_ask_for_the_configuration() {
        let elsewhere = tempfile::tempdir().unwrap();
        let shell = fs::canonicalize("/bin/sh").unwrap();
        for library in Loader::of_host().closure(&shell).files {
            fs::copy(
                &library,
                elsewhere.path().join(library.file_name().unwrap()),
            )
            .unwrap();
        }
        let mut loader = Loader::new(vec![elsewhere.path().to_owned()], Vec::new());
        let closure = loader.closure(&shell);
        assert_eq!(closure.missing, []);
        assert!(closure.needs_configuration);
    }
}
