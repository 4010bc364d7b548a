//! `RUN --mount`: files, caches and secrets that are there for one instruction.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use kleene_dockerfile::{Instruction, Run, RunMount, Sharing};
use kleene_doors::host::Mount;
use kleene_doors::layers::{CopyIn, CopySource, Keep};
use kleene_types::ContainerPath;

use super::key::{Key, KeyBuilder};
use super::settings::invalid;
use super::stage::{Build, Stage};
use super::work::{CacheInUse, WorkDirectory};
use crate::EngineError;

/// Where secrets are when nobody says so.
const SECRETS: &str = "/run/secrets";

/// What the mounts of an instruction are made of, as long as this is kept.
#[derive(Default)]
pub(super) struct Mounted<'b> {
    pub(super) mounts: Vec<Mount>,
    /// Variables with secrets.
    pub(super) env: Vec<(String, String)>,
    directories: Vec<WorkDirectory>,
    caches: Vec<CacheInUse<'b>>,
}

/// What a mount shows, at its place.
struct Shown {
    source: PathBuf,
    target: String,
    read_only: bool,
}

impl Stage {
    /// The mounts of an instruction with their variables expanded.
    pub(super) fn run_mounts(
        &self,
        instruction: &Instruction,
        run: &Run,
    ) -> Result<Vec<RunMount>, EngineError> {
        let value = |name: &str| self.settings.scope.value(name);
        let mounts = run.mounts.iter().map(|mount| mount.resolve(&value));
        mounts
            .collect::<Result<_, _>>()
            .map_err(|error| invalid(instruction, &error.to_string()))
    }

    /// What the mounts add to an instruction's key. Caches and secrets have no influence: that is what
    /// they are for.
    pub(super) fn key_of_mounts(
        &self,
        build: &Build<'_>,
        instruction: &Instruction,
        mounts: &[RunMount],
        mut key: KeyBuilder,
    ) -> Result<Key, EngineError> {
        for mount in mounts {
            let RunMount::Bind { source, from, .. } = mount else {
                continue;
            };
            key = match from {
                Some(from) => {
                    let (tree, _) = build.files_of(instruction, self.index, from)?;
                    key.text(tree.as_str())
                }
                None => {
                    let sources = [source.clone().unwrap_or_else(|| "/".to_owned())];
                    let context = CopySource::Directory(build.new.context());
                    let keep = |path: &Path, is_dir: bool| keep(build, path, is_dir);
                    let digest = build
                        .engine
                        .host
                        .digest_sources(&context, &sources, &keep)?;
                    key.bytes(&digest)
                }
            };
        }
        Ok(key.finish())
    }

    /// Makes what the mounts of an instruction show.
    pub(super) fn make_mounts<'b>(
        &self,
        build: &Build<'b>,
        instruction: &Instruction,
        mounts: &[RunMount],
    ) -> Result<Mounted<'b>, EngineError> {
        let mut mounted = Mounted::default();
        for mount in mounts {
            let shown = match mount {
                RunMount::Bind { .. } => self.bind(build, instruction, mount, &mut mounted)?,
                RunMount::Cache { .. } => self.cache(build, instruction, mount, &mut mounted)?,
                RunMount::Tmpfs { target, .. } => {
                    let directory = build.engine.work_directory()?;
                    let source = directory.path().to_owned();
                    fs::set_permissions(&source, fs::Permissions::from_mode(0o1777))
                        .map_err(failed("making a temporary directory"))?;
                    mounted.directories.push(directory);
                    Some(Shown {
                        source,
                        target: target.clone(),
                        read_only: false,
                    })
                }
                RunMount::Secret { .. } => secret(build, instruction, mount, &mut mounted)?,
            };
            if let Some(shown) = shown {
                let target = self.settings.absolute(&shown.target);
                let destination: ContainerPath = target
                    .parse()
                    .map_err(|error| invalid(instruction, &format!("--mount: {error}")))?;
                mounted.mounts.push(Mount {
                    source: shown.source,
                    destination,
                    read_only: shown.read_only,
                });
            }
        }
        Ok(mounted)
    }

    /// A copy of files: what is written to it is thrown away, and nothing in it leads out.
    fn bind<'b>(
        &self,
        build: &Build<'b>,
        instruction: &Instruction,
        mount: &RunMount,
        mounted: &mut Mounted<'b>,
    ) -> Result<Option<Shown>, EngineError> {
        let RunMount::Bind {
            target,
            source,
            from,
            writable,
        } = mount
        else {
            return Ok(None);
        };
        let directory = build.engine.work_directory()?;
        let source = source.as_deref().unwrap_or("/");
        self.copy_for_mount(build, instruction, from.as_deref(), source, &directory)?;
        let shown = directory.path().join("x");
        mounted.directories.push(directory);
        Ok(Some(Shown {
            source: shown,
            target: target.clone(),
            read_only: !writable,
        }))
    }

    /// Copies a file or directory to `x` in a directory.
    fn copy_for_mount(
        &self,
        build: &Build<'_>,
        instruction: &Instruction,
        from: Option<&str>,
        source: &str,
        directory: &WorkDirectory,
    ) -> Result<(), EngineError> {
        let root = directory.root();
        let sources = [super::plan::literal(source)];
        let copy = |from: CopySource<'_>, keep: &dyn Fn(&Path, bool) -> Keep| {
            let copied = build.engine.host.copy_in(&CopyIn {
                root: &root,
                from,
                sources: &sources,
                destination: "/x",
                keep,
                owner: None,
                mode: None,
                parents: false,
                unpack: false,
                progress: &|_| build.cancel.flow(),
            });
            copied.map(drop).map_err(EngineError::from)
        };
        let Some(from) = from else {
            let keep = |path: &Path, is_dir: bool| keep(build, path, is_dir);
            return copy(CopySource::Directory(build.new.context()), &keep);
        };
        let (_, snapshot) = build.files_of(instruction, self.index, from)?;
        let snapshot = snapshot
            .ok_or_else(|| invalid(instruction, &format!("--mount: '{from}' holds no files")))?;
        build.engine.with_snapshot(&snapshot, |tree| {
            copy(CopySource::Root(tree), &|_, _| Keep::Yes)
        })
    }

    /// A directory that outlives the build.
    fn cache<'b>(
        &self,
        build: &Build<'b>,
        instruction: &Instruction,
        mount: &RunMount,
        mounted: &mut Mounted<'b>,
    ) -> Result<Option<Shown>, EngineError> {
        let RunMount::Cache {
            target,
            id,
            source,
            from,
            sharing,
            read_only,
            mode,
            uid,
            gid,
        } = mount
        else {
            return Ok(None);
        };
        let id = id.clone().unwrap_or_else(|| self.settings.absolute(target));
        let mut name = blake3::hash(id.as_bytes()).to_hex().to_string();
        if *sharing == Sharing::Private && build.engine.builds.uses_cache(&name) {
            name = kleene_types::ExecId::random().to_string();
        }
        let used = build
            .engine
            .builds
            .use_cache(&name, *sharing == Sharing::Locked);
        let (path, new) = build.engine.cache_directory(&name)?;
        mounted.caches.push(used);
        let data = path.join("x");
        if new || !data.is_dir() {
            match from {
                Some(from) => {
                    let directory = build.engine.work_directory()?;
                    let source = source.as_deref().unwrap_or("/");
                    self.copy_for_mount(build, instruction, Some(from), source, &directory)?;
                    fs::rename(directory.path().join("x"), &data)
                        .map_err(failed("beginning a cache"))?;
                }
                None => fs::create_dir(&data).map_err(failed("beginning a cache"))?,
            }
            let mode = fs::Permissions::from_mode(mode.unwrap_or(0o755));
            fs::set_permissions(&data, mode)
                .and_then(|()| chown(&data, Some(uid.unwrap_or(0)), Some(gid.unwrap_or(0))))
                .map_err(failed("beginning a cache"))?;
        }
        Ok(Some(Shown {
            source: data,
            target: target.clone(),
            read_only: *read_only,
        }))
    }
}

fn secret<'b>(
    build: &Build<'b>,
    instruction: &Instruction,
    mount: &RunMount,
    mounted: &mut Mounted<'b>,
) -> Result<Option<Shown>, EngineError> {
    let RunMount::Secret {
        id,
        target,
        env,
        required,
        mode,
        uid,
        gid,
    } = mount
    else {
        return Ok(None);
    };
    let Some(value) = build.new.secrets.0.get(id) else {
        return match required {
            true => Err(invalid(
                instruction,
                &format!("the secret '{id}' is required: give it with --secret id={id},src=FILE"),
            )),
            false => Ok(None),
        };
    };
    if let Some(name) = env {
        let value = String::from_utf8(value.clone()).map_err(|_| {
            let problem = format!("the secret '{id}' is no text, which a variable needs");
            invalid(instruction, &problem)
        })?;
        mounted.env.push((name.clone(), value));
    }
    let target = match (target, env) {
        (Some(target), _) => target.clone(),
        (None, Some(_)) => return Ok(None),
        (None, None) => format!("{SECRETS}/{id}"),
    };
    let directory = build.engine.work_directory()?;
    let file = directory.path().join("secret");
    let owner = (Some(uid.unwrap_or(0)), Some(gid.unwrap_or(0)));
    fs::write(&file, value)
        .and_then(|()| chown(&file, owner.0, owner.1))
        .and_then(|()| {
            let mode = fs::Permissions::from_mode(mode.unwrap_or(0o400));
            fs::set_permissions(&file, mode)
        })
        .map_err(failed("writing a secret"))?;
    mounted.directories.push(directory);
    Ok(Some(Shown {
        source: file,
        target,
        read_only: true,
    }))
}

/// What of the context is shown.
fn keep(build: &Build<'_>, path: &Path, is_dir: bool) -> Keep {
    let text = path.to_string_lossy();
    let ignore = &build.plan.ignore;
    match (ignore.is_ignored(&text), is_dir) {
        (false, _) => Keep::Yes,
        (true, true) if ignore.may_contain_exceptions_below(&text) => Keep::Descend,
        (true, _) => Keep::No,
    }
}

fn failed(what: &str) -> impl FnOnce(std::io::Error) -> EngineError {
    let context = format!("{what} for a build failed");
    move |error| EngineError::Internal {
        context: format!("{context}: {error}"),
        source: Box::new(error),
    }
}
