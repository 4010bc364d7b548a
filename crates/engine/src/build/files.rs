//! COPY and ADD.

use std::path::Path;

use kleene_dockerfile::{Add, Copy, FileSource, Files, Instruction, Pattern, Remote, remote};
use kleene_doors::layers::{CopyIn, CopySource, Keep};
use kleene_doors::storage::Root;
use kleene_store::ImageSnapshot;
use kleene_types::Checksum;

use super::key::{Key, KeyBuilder};
use super::settings::{invalid, unexpanded};
use super::stage::{Build, Stage};
use super::work::WorkDirectory;
use crate::EngineError;

/// Files to copy, with all variables expanded.
struct Copying {
    sources: Sources,
    destination: String,
    owner: Option<String>,
    mode: Option<u32>,
    exclude: Vec<Pattern>,
    parents: bool,
    /// Whether archives are unpacked.
    unpack: bool,
    /// Whether downloaded archives are unpacked.
    unpack_downloads: bool,
}

/// Where they come from.
#[derive(Default)]
struct Sources {
    /// Paths and patterns in the context, a stage or an image.
    paths: Vec<String>,
    /// Files in the Dockerfile.
    inline: Vec<(String, Vec<u8>)>,
    /// Addresses.
    urls: Vec<String>,
}

/// The tree that paths are relative to.
enum From {
    Context,
    /// A stage's or image's files, and what they are known by.
    Tree(Key, Option<ImageSnapshot>),
}

impl Stage {
    pub(super) fn copy(
        &mut self,
        build: &Build<'_>,
        instruction: &Instruction,
        copy: &Copy,
    ) -> Result<(), EngineError> {
        let from = match &copy.from {
            None => From::Context,
            Some(word) => {
                let text = self.settings.scope.expand(word);
                let text = text.map_err(unexpanded(instruction))?;
                let (key, snapshot) = build.files_of(instruction, self.index, &text)?;
                From::Tree(key, snapshot)
            }
        };
        let mut copying = self.expand_files(instruction, &copy.files)?;
        copying.parents = copy.parents;
        let key = self.key.then("copy");
        let key = copying.key(build, key, &from);
        let key = key.map_err(refused(instruction))?;
        self.change(build, instruction, key, |_, root| {
            let copied = copying.carry_out(build, root, &from, &[]);
            copied.map_err(refused(instruction))
        })
    }

    pub(super) fn add(
        &mut self,
        build: &Build<'_>,
        instruction: &Instruction,
        add: &Add,
    ) -> Result<(), EngineError> {
        let mut copying = self.expand_files(instruction, &add.files)?;
        copying.unpack = add.unpack.unwrap_or(true);
        copying.unpack_downloads = add.unpack.unwrap_or(false);
        let checksum = match &add.checksum {
            None => None,
            Some(word) => {
                let text = self.settings.scope.expand(word);
                let text = text.map_err(unexpanded(instruction))?;
                let checksum = text.parse::<Checksum>();
                Some(checksum.map_err(|error| invalid(instruction, &error.to_string()))?)
            }
        };
        copying.sources.separate_urls(instruction)?;
        if checksum.is_some() && copying.sources.urls.len() != 1 {
            let problem = "--checksum goes with one address";
            return Err(invalid(instruction, problem));
        }
        let downloads = copying.sources.download(build, checksum.as_ref());
        let downloads = downloads.map_err(refused(instruction))?;
        let mut key = self.key.then("add");
        for download in &downloads {
            key = key.text(&download.name).text(&download.digest);
        }
        let key = copying.key(build, key, &From::Context);
        let key = key.map_err(refused(instruction))?;
        self.change(build, instruction, key, |_, root| {
            let copied = copying.carry_out(build, root, &From::Context, &downloads);
            copied.map_err(refused(instruction))
        })
    }

    fn expand_files(
        &self,
        instruction: &Instruction,
        files: &Files,
    ) -> Result<Copying, EngineError> {
        let scope = &self.settings.scope;
        let value = |name: &str| scope.value(name);
        let unexpanded = unexpanded(instruction);
        let text = |word| scope.expand(word).map_err(&unexpanded);
        let mut sources = Sources::default();
        for source in &files.sources {
            match source {
                FileSource::Path(word) => sources.paths.push(text(word)?),
                FileSource::Inline(heredoc) => {
                    let content = heredoc.expand(&value).map_err(&unexpanded)?;
                    let file = (heredoc.name.clone(), content.into_bytes());
                    sources.inline.push(file);
                }
            }
        }
        let destination = self.settings.absolute(&text(&files.destination)?);
        let several = files.sources.len() > 1;
        if several && !destination.ends_with('/') {
            return Err(invalid(
                instruction,
                "with several sources the destination is a directory: put a slash at its end",
            ));
        }
        let mode = match &files.chmod {
            None => None,
            Some(word) => {
                let mode = text(word)?;
                let bits = u32::from_str_radix(&mode, 8).ok();
                let bits = bits.filter(|bits| *bits <= 0o7777).ok_or_else(|| {
                    let problem = format!("'{mode}' is no mode: use octal digits, as in 0755");
                    invalid(instruction, &problem)
                })?;
                Some(bits)
            }
        };
        let exclude = files.exclude.iter().map(|word| {
            let pattern = Pattern::parse(&text(word)?);
            pattern.map_err(|error| invalid(instruction, &error.to_string()))
        });
        Ok(Copying {
            sources,
            destination,
            owner: files.chown.as_ref().map(text).transpose()?,
            mode,
            exclude: exclude.collect::<Result<_, _>>()?,
            parents: false,
            unpack: false,
            unpack_downloads: false,
        })
    }
}

/// A file that was downloaded for ADD.
struct Download {
    /// Keeps it.
    directory: WorkDirectory,
    name: String,
    digest: String,
}

impl Sources {
    /// Takes the addresses out of the paths.
    fn separate_urls(&mut self, instruction: &Instruction) -> Result<(), EngineError> {
        let mut paths = Vec::new();
        for path in std::mem::take(&mut self.paths) {
            match remote(&path) {
                None => paths.push(path),
                Some(Remote::Http) => self.urls.push(path),
                Some(Remote::Git) => {
                    let problem = format!(
                        "'{path}' is a repository, which can't be fetched: add an archive of it"
                    );
                    return Err(invalid(instruction, &problem));
                }
            }
        }
        self.paths = paths;
        Ok(())
    }

    fn download(
        &self,
        build: &Build<'_>,
        checksum: Option<&Checksum>,
    ) -> Result<Vec<Download>, EngineError> {
        let download = |url: &String| {
            let directory = build.engine.work_directory()?;
            let done =
                build
                    .engine
                    .userland
                    .download(url, checksum, directory.path(), &mut |_| {
                        build.cancel.flow()
                    })?;
            if let Some(modified) = done.last_modified {
                // A file's time isn't worth a failure.
                let _kept = std::fs::File::options()
                    .write(true)
                    .open(&done.path)
                    .and_then(|file| file.set_modified(modified));
            }
            Ok(Download {
                name: done.name,
                digest: done.sha256.to_string(),
                directory,
            })
        };
        self.urls.iter().map(download).collect()
    }
}

impl Copying {
    /// Completes the key: everything that has an influence on what is copied.
    fn key(&self, build: &Build<'_>, key: KeyBuilder, from: &From) -> Result<Key, EngineError> {
        let flags = [self.parents, self.unpack, self.unpack_downloads].map(u8::from);
        let mut key = key
            .texts(self.sources.paths.iter().map(String::as_str))
            .text(&self.destination)
            .text(self.owner.as_deref().unwrap_or_default())
            .text(&self.mode.map(|mode| mode.to_string()).unwrap_or_default())
            .texts(self.exclude.iter().map(Pattern::as_str))
            .bytes(&flags);
        for (name, content) in &self.sources.inline {
            key = key.text(name).bytes(content);
        }
        if self.sources.paths.is_empty() {
            return Ok(key.finish());
        }
        Ok(match from {
            From::Tree(tree, _) => key.text(tree.as_str()).finish(),
            From::Context => {
                let source = CopySource::Directory(build.new.context());
                let keep = |path: &Path, is_dir: bool| self.keep_of_context(build, path, is_dir);
                let digest =
                    build
                        .engine
                        .host
                        .digest_sources(&source, &self.sources.paths, &keep)?;
                key.bytes(&digest).finish()
            }
        })
    }

    fn carry_out(
        &self,
        build: &Build<'_>,
        root: &Root,
        from: &From,
        downloads: &[Download],
    ) -> Result<(), EngineError> {
        if !self.sources.paths.is_empty() {
            self.copy_paths(build, root, from)?;
        }
        if !self.sources.inline.is_empty() {
            let names: Vec<String> = self.sources.inline.iter().map(|it| it.0.clone()).collect();
            let source = CopySource::Inline(&self.sources.inline);
            self.copy_from(build, root, source, &names, &|_, _| Keep::Yes, false)?;
        }
        for download in downloads {
            let source = CopySource::Directory(download.directory.path());
            let names = [super::plan::literal(&download.name)];
            let unpack = self.unpack_downloads;
            self.copy_from(build, root, source, &names, &|_, _| Keep::Yes, unpack)?;
        }
        Ok(())
    }

    fn copy_paths(&self, build: &Build<'_>, root: &Root, from: &From) -> Result<(), EngineError> {
        let paths = &self.sources.paths;
        match from {
            From::Context => {
                let keep = |path: &Path, is_dir: bool| self.keep_of_context(build, path, is_dir);
                let source = CopySource::Directory(build.new.context());
                self.copy_from(build, root, source, paths, &keep, self.unpack)
            }
            From::Tree(_, snapshot) => {
                let keep = |path: &Path, _: bool| self.keep(path);
                let Some(snapshot) = snapshot else {
                    return Err(EngineError::Invalid(format!(
                        "there is nothing to copy: '{}' is in an empty tree",
                        paths.join("', '")
                    )));
                };
                build.engine.with_snapshot(snapshot, |tree| {
                    let source = CopySource::Root(tree);
                    self.copy_from(build, root, source, paths, &keep, self.unpack)
                })
            }
        }
    }

    fn copy_from(
        &self,
        build: &Build<'_>,
        root: &Root,
        from: CopySource<'_>,
        sources: &[String],
        keep: &dyn Fn(&Path, bool) -> Keep,
        unpack: bool,
    ) -> Result<(), EngineError> {
        build.engine.host.copy_in(&CopyIn {
            root,
            from,
            sources,
            destination: &self.destination,
            keep,
            owner: self.owner.as_deref(),
            mode: self.mode,
            parents: self.parents,
            unpack,
            progress: &|_| build.cancel.flow(),
        })?;
        Ok(())
    }

    /// What of a tree is copied: all but what is excluded.
    fn keep(&self, path: &Path) -> Keep {
        if self.exclude.is_empty() {
            return Keep::Yes;
        }
        let within = self.within_sources(&path.to_string_lossy());
        let excluded = |pattern: &Pattern| within.iter().any(|it| pattern.matches_or_parent(it));
        match self.exclude.iter().any(excluded) {
            true => Keep::No,
            false => Keep::Yes,
        }
    }

    /// A path relative to the sources that it is in, which is what `--exclude` speaks of. A source
    /// that is a file is known by its name.
    fn within_sources(&self, path: &str) -> Vec<String> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let sources = self.sources.paths.iter();
        let patterns = sources.filter_map(|source| Pattern::parse(source).ok());
        let within = patterns.filter_map(|pattern| {
            let depth = pattern
                .as_str()
                .split('/')
                .filter(|it| !it.is_empty())
                .count();
            let (above, below) = parts.split_at_checked(depth)?;
            let of_this = depth == 0 || pattern.matches(&above.join("/"));
            of_this.then(|| match below.is_empty() {
                true => above.last().copied().unwrap_or_default().to_owned(),
                false => below.join("/"),
            })
        });
        within.collect()
    }

    /// What of the context is copied: also without what its `.dockerignore` leaves out.
    fn keep_of_context(&self, build: &Build<'_>, path: &Path, is_dir: bool) -> Keep {
        match build.keep(path, is_dir) {
            Keep::Yes => self.keep(path),
            ignored => ignored,
        }
    }
}

impl Build<'_> {
    /// What of the context is there: all but what its `.dockerignore` leaves out.
    pub(super) fn keep(&self, path: &Path, is_dir: bool) -> Keep {
        let text = path.to_string_lossy();
        let ignore = &self.plan.ignore;
        match (ignore.is_ignored(&text), is_dir) {
            (false, _) => Keep::Yes,
            (true, true) if ignore.may_contain_exceptions_below(&text) => Keep::Descend,
            (true, _) => Keep::No,
        }
    }
}

/// Files that can't be copied are told with the line that names them.
fn refused(instruction: &Instruction) -> impl Fn(EngineError) -> EngineError + '_ {
    |error| match error {
        EngineError::Invalid(problem) => invalid(instruction, &problem),
        other => other,
    }
}
