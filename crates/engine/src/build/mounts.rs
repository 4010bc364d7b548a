//! `RUN --mount`: files, caches and secrets that are there for one instruction.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use kleene_dockerfile::{
    BindMount, CacheMount, Instruction, Run, RunMount, SecretMount, Sharing, TmpfsMount,
};
use kleene_doors::host::Mount;
use kleene_doors::layers::{CopyIn, CopySource, Keep};
use kleene_types::{ContainerPath, ExecId};

use super::key::{Key, KeyBuilder};
use super::settings::invalid;
use super::stage::{Build, Stage};
use super::work::{CacheInUse, WorkDirectory};
use crate::EngineError;

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
            let RunMount::Bind(BindMount { source, from, .. }) = mount else {
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
                    let keep = |path: &Path, is_dir: bool| build.keep(path, is_dir);
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
                RunMount::Bind(bind) => Some(self.bind(build, instruction, bind, &mut mounted)?),
                RunMount::Cache(cache) => {
                    Some(self.cache(build, instruction, cache, &mut mounted)?)
                }
                RunMount::Tmpfs(tmpfs) => Some(temporary(build, tmpfs, &mut mounted)?),
                RunMount::Secret(it) => secret(build, instruction, it, &mut mounted)?,
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
                    nosuid: false,
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
        mount: &BindMount,
        mounted: &mut Mounted<'b>,
    ) -> Result<Shown, EngineError> {
        let directory = build.engine.work_directory()?;
        let source = mount.source.as_deref().unwrap_or("/");
        self.copy_for_mount(
            build,
            instruction,
            mount.from.as_deref(),
            source,
            &directory,
        )?;
        let shown = directory.path().join("x");
        mounted.directories.push(directory);
        Ok(Shown {
            source: shown,
            target: mount.target.clone(),
            read_only: !mount.writable,
        })
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
            let keep = |path: &Path, is_dir: bool| build.keep(path, is_dir);
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
        mount: &CacheMount,
        mounted: &mut Mounted<'b>,
    ) -> Result<Shown, EngineError> {
        let id = mount.id.clone();
        let id = id.unwrap_or_else(|| self.settings.absolute(&mount.target));
        let builds = &build.engine.builds;
        let mut name = blake3::hash(id.as_bytes()).to_hex().to_string();
        if mount.sharing == Sharing::Private && builds.uses_cache(&name) {
            name = ExecId::random().to_string();
        }
        let used = builds.use_cache(&name, mount.sharing == Sharing::Locked);
        let path = build.engine.cache_directory(&name)?;
        mounted.caches.push(used);
        let data = path.join("x");
        if !data.is_dir() {
            self.begin_cache(build, instruction, mount, &data)?;
        }
        Ok(Shown {
            source: data,
            target: mount.target.clone(),
            read_only: mount.read_only,
        })
    }

    /// Makes what a new cache begins with.
    fn begin_cache(
        &self,
        build: &Build<'_>,
        instruction: &Instruction,
        mount: &CacheMount,
        data: &Path,
    ) -> Result<(), EngineError> {
        let directory = build.engine.work_directory()?;
        let first = directory.path().join("x");
        match &mount.from {
            Some(from) => {
                let source = mount.source.as_deref().unwrap_or("/");
                self.copy_for_mount(build, instruction, Some(from), source, &directory)?;
                if !first.is_dir() {
                    let problem = "--mount: a cache begins with a directory, and this is none";
                    return Err(invalid(instruction, problem));
                }
            }
            None => fs::create_dir(&first).map_err(failed("beginning a cache"))?,
        }
        let mode = fs::Permissions::from_mode(mount.mode.unwrap_or(0o755));
        let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        fs::set_permissions(&first, mode)
            .and_then(|()| chown(&first, Some(uid), Some(gid)))
            .map_err(failed("beginning a cache"))?;
        match fs::rename(&first, data) {
            // Another build was quicker, and uses it already.
            Err(_) if data.is_dir() => Ok(()),
            renamed => renamed.map_err(failed("beginning a cache")),
        }
    }
}

/// An empty directory that is thrown away afterwards.
fn temporary(
    build: &Build<'_>,
    mount: &TmpfsMount,
    mounted: &mut Mounted<'_>,
) -> Result<Shown, EngineError> {
    let directory = build.engine.work_directory()?;
    let source = directory.path().to_owned();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o1777))
        .map_err(failed("making a temporary directory"))?;
    mounted.directories.push(directory);
    Ok(Shown {
        source,
        target: mount.target.clone(),
        read_only: false,
    })
}

fn secret(
    build: &Build<'_>,
    instruction: &Instruction,
    mount: &SecretMount,
    mounted: &mut Mounted<'_>,
) -> Result<Option<Shown>, EngineError> {
    let id = &mount.id;
    let Some(value) = build.new.secrets.0.get(id) else {
        return match mount.required {
            true => Err(invalid(
                instruction,
                &format!("the secret '{id}' is required: give it with --secret id={id},src=FILE"),
            )),
            false => Ok(None),
        };
    };
    if let Some(name) = &mount.env {
        let value = String::from_utf8(value.clone()).map_err(|_| {
            let problem = format!("the secret '{id}' is no text, which a variable needs");
            invalid(instruction, &problem)
        })?;
        mounted.env.push((name.clone(), value));
    }
    let Some(target) = &mount.target else {
        return Ok(None);
    };
    let directory = build.engine.work_directory()?;
    let file = directory.path().join("secret");
    let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
    let mode = fs::Permissions::from_mode(mount.mode.unwrap_or(0o400));
    fs::write(&file, value)
        .and_then(|()| chown(&file, Some(uid), Some(gid)))
        .and_then(|()| fs::set_permissions(&file, mode))
        .map_err(failed("writing a secret"))?;
    mounted.directories.push(directory);
    Ok(Some(Shown {
        source: file,
        target: target.clone(),
        read_only: true,
    }))
}

fn failed(what: &str) -> impl FnOnce(std::io::Error) -> EngineError {
    let context = format!("{what} for a build failed");
    move |error| EngineError::Internal {
        context: format!("{context}: {error}"),
        source: Box::new(error),
    }
}
