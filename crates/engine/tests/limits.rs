//! What containers may use, and changing them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use std::sync::Arc;

use kleene_doors::host::{HostError, Place};
use kleene_doors::storage::StorageError;
use kleene_engine::{
    ContainerChanges, ContainerState, Engine, EngineError, LimitChanges, NewContainer,
};
use kleene_host::fake::Op;
use kleene_storage::memory::Operation;
use kleene_types::{ByteSize, ContainerId, ExecId, Init, Limits, Resources};
use support::{World, actions, exec, named, on_freebsd, show, start};

fn size(text: &str) -> ByteSize {
    text.parse().unwrap()
}

/// There is no `/dev/shm` on FreeBSD.
fn shm_size() -> Option<ByteSize> {
    (!on_freebsd()).then(|| size("1M"))
}

fn limited() -> NewContainer {
    NewContainer {
        resources: Resources {
            limits: Limits {
                memory: Some(size("64M")),
                pids: Some(10),
                ..Limits::default()
            },
            ulimits: vec!["nofile=100".parse().unwrap()],
            shm_size: shm_size(),
            storage_quota: Some(size("1G")),
            log_limit: Some(size("2M")),
        },
        working_dir: Some(Some("/srv".parse().unwrap())),
        ..named("cc", &[])
    }
}

fn memory(text: &str) -> ContainerChanges {
    ContainerChanges {
        limits: LimitChanges {
            memory: Some(Some(size(text))),
            ..LimitChanges::default()
        },
        ..ContainerChanges::default()
    }
}

fn running() -> (World, Arc<Engine>, ContainerId, ExecId) {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(limited()).unwrap().id;
    let init = start(&engine, &id);
    (world, engine, id, init)
}

/// The memory that the host allows a container.
fn allowed(world: &World, init: &ExecId) -> Option<ByteSize> {
    world.host.seen(init).unwrap().limits.memory
}

fn recorded(engine: &Engine, id: &ContainerId) -> Resources {
    show(engine, id).record.resources
}

#[test]
fn limits_reach_the_host() {
    let (world, engine, id, init) = running();
    let wanted = limited().resources;
    assert_eq!(world.storage.quota(&id), wanted.storage_quota);
    let request = world.host.seen(&init).unwrap().request;
    let Place::New(setup) = &request.place else {
        panic!()
    };
    assert_eq!(setup.limits, wanted.limits);
    assert_eq!(setup.shm_size, wanted.shm_size);
    assert_eq!(setup.init, Init::None);
    assert_eq!(request.log_limit, 2 << 20);
    assert_eq!(request.process.ulimits, wanted.ulimits);
    assert_eq!(request.process.cwd.unwrap().as_str(), "/srv");
    let joined = exec(&engine, &id, &["sleep"]);
    engine
        .exec_start(joined.as_str(), support::DETACHED)
        .unwrap();
    let request = world.host.seen(&joined).unwrap().request;
    assert_eq!(request.process.ulimits, wanted.ulimits);
    assert_eq!(request.log_limit, 2 << 20);
}

#[test]
fn what_cannot_be_limited_is_said_before_anything_is_created() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let before = world.datasets();
    let refusal = HostError::Unsupported("the memory is 1G: 2G is too much".into());
    world.host.fail_next_with(Op::CheckLimits, refusal);
    let error = engine.container_create(limited()).unwrap_err();
    assert!(error.to_string().contains("too much"), "{error}");
    world.storage.without_quotas();
    let error = engine.container_create(limited()).unwrap_err();
    assert!(error.to_string().contains("storage quota"), "{error}");
    assert_eq!(world.datasets(), before);
    world
        .host
        .warn_of_limits(&["swap space isn't counted here"]);
    let mut new = limited();
    new.resources.storage_quota = None;
    let done = engine.container_create(new).unwrap();
    assert_eq!(done.warnings, ["swap space isn't counted here"]);
}

#[test]
fn a_quota_that_cannot_be_set_is_undone_with_the_container() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let before = world.datasets();
    world
        .storage
        .fail_next(Operation::SetQuota, StorageError::Invalid("full".into()));
    assert!(engine.container_create(limited()).is_err());
    assert_eq!(world.datasets(), before);
}

#[test]
fn who_is_the_first_process_depends_on_the_command() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let init = |cmd: &[&str], init: Option<Init>| {
        let new = NewContainer {
            cmd: cmd.iter().map(|&word| word.to_owned()).collect(),
            init,
            name: None,
            ..limited()
        };
        let id = engine.container_create(new).unwrap().id;
        show(&engine, &id).record.init
    };
    assert_eq!(init(&["/etc/rc"], None), Init::All);
    assert_eq!(init(&["/bin/sh", "/etc/rc"], None), Init::All);
    assert_eq!(init(&["sh", "/etc/rc"], None), Init::All);
    assert_eq!(init(&["/etc/rc", "-x"], None), Init::None);
    assert_eq!(init(&["sleep"], None), Init::None);
    assert_eq!(init(&["/etc/rc"], Some(Init::Main)), Init::Main);
}

#[test]
fn limits_of_a_running_container_change_at_once() {
    let (world, engine, id, init) = running();
    let done = engine.container_update("cc", memory("128M")).unwrap();
    assert_eq!(done.warnings, Vec::<String>::new());
    assert_eq!(allowed(&world, &init), Some(size("128M")));
    assert_eq!(recorded(&engine, &id).limits.memory, Some(size("128M")));
    assert_eq!(recorded(&engine, &id).limits.pids, Some(10), "untouched");
    let quota = |quota: Option<&str>| ContainerChanges {
        storage_quota: Some(quota.map(size)),
        ..ContainerChanges::default()
    };
    engine.container_update("cc", quota(Some("2G"))).unwrap();
    assert_eq!(world.storage.quota(&id), Some(size("2G")));
    engine.container_update("cc", quota(None)).unwrap();
    assert_eq!(world.storage.quota(&id), None);
    assert_eq!(recorded(&engine, &id).storage_quota, None);
    assert_eq!(
        actions(&engine, &id),
        ["create", "start", "update", "update", "update"]
    );
}

/// All or nothing: a name that is taken, a limit that can't be had, a quota that can't be set.
#[test]
fn changes_are_made_together_or_not_at_all() {
    let (world, engine, id, init) = running();
    engine.container_create(named("other", &[])).unwrap();
    let before = show(&engine, &id).record;
    let unchanged = |what: &str| {
        assert_eq!(show(&engine, &id).record, before, "{what}");
        assert_ne!(allowed(&world, &init), Some(size("128M")), "{what}");
        assert_eq!(world.storage.quota(&id), Some(size("1G")), "{what}");
    };
    let renamed = ContainerChanges {
        name: Some("other".parse().unwrap()),
        ..memory("128M")
    };
    let error = engine.container_update("cc", renamed).unwrap_err();
    assert!(matches!(error, EngineError::Conflict(_)), "{error}");
    unchanged("name");
    let all = || ContainerChanges {
        storage_quota: Some(Some(size("2G"))),
        ..memory("128M")
    };
    let refusal = HostError::Unsupported("100M are in use".into());
    world.host.fail_next_with(Op::UpdateLimits, refusal);
    let error = engine.container_update("cc", all()).unwrap_err();
    assert!(error.to_string().contains("100M are in use"), "{error}");
    unchanged("limit");
    world
        .storage
        .fail_next(Operation::SetQuota, StorageError::Invalid("full".into()));
    assert!(engine.container_update("cc", all()).is_err());
    unchanged("quota");
    engine.container_update("cc", all()).unwrap();
    assert_eq!(allowed(&world, &init), Some(size("128M")));
}

#[test]
fn what_counts_only_later_is_told() {
    let (_world, engine, id, _) = running();
    let changes = || ContainerChanges {
        cmd: Some(vec!["true".into()]),
        env: Some(vec!["A=b".parse().unwrap()]),
        user: Some("nobody".into()),
        jail_params: Some(vec!["allow.mlock".into()]),
        ulimits: Some(Vec::new()),
        shm_size: Some(None),
        persist: Some(true),
        stop_timeout: Some("3s".parse().unwrap()),
        ..ContainerChanges::default()
    };
    let done = engine.container_update("cc", changes()).unwrap();
    let mut told = vec![
        "the new command counts from the next start",
        "the new size of /dev/shm counts from the next start",
        "the new user counts for the container's own process from the next start",
        "the new environment counts for the container's own process from the next start",
        "the new jail parameters count from the next start",
        "the new ulimits count from the next start",
    ];
    // It had none before either.
    told.retain(|warning| shm_size().is_some() || !warning.contains("/dev/shm"));
    assert_eq!(done.warnings, told);
    let record = show(&engine, &id).record;
    assert_eq!((record.user.as_str(), record.persist), ("nobody", true));
    assert_eq!(record.resources.shm_size, None);
    let again = engine.container_update("cc", changes()).unwrap();
    assert_eq!(again.warnings, Vec::<String>::new(), "nothing is new");
    engine.container_stop("cc", None).unwrap();
    let done = engine.container_update(
        "cc",
        ContainerChanges {
            cmd: Some(vec!["false".into()]),
            ..ContainerChanges::default()
        },
    );
    assert_eq!(done.unwrap().warnings, Vec::<String>::new());
    assert_eq!(show(&engine, &id).state, ContainerState::Exited);
}

#[test]
fn renaming() {
    let (_world, engine, id, _) = running();
    let rename = |name: &str| ContainerChanges {
        name: Some(name.parse().unwrap()),
        ..ContainerChanges::default()
    };
    engine.container_update("cc", rename("dd")).unwrap();
    engine.container_update("dd", rename("dd")).unwrap();
    assert!(engine.container_inspect("cc").is_err());
    assert_eq!(actions(&engine, &id), ["create", "start", "rename"]);
    let error = engine
        .container_update("dd", rename("0123456789ab"))
        .unwrap_err();
    assert!(error.to_string().contains("form of an id"), "{error}");
}

/// A full id is looked for before a name, a name before the beginning of an id. Names that are so short
/// that every other id begins with them can be had.
#[test]
fn names_that_are_beginnings_of_ids() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(named("first", &[])).unwrap().id;
    let beginning = &id.as_str()[..3];
    let other = engine.container_create(named(beginning, &[])).unwrap().id;
    let found = |reference: &str| engine.container_inspect(reference).unwrap().record.id;
    assert_eq!(found(beginning), other);
    assert_eq!(found(&id.as_str()[..11]), id);
    assert_eq!(found(id.as_str()), id);
}

#[test]
fn sizes_are_told_when_asked_for() {
    let (_world, engine, id, _) = running();
    assert_eq!(show(&engine, &id).size, None);
    let options = kleene_engine::ListOptions {
        all: false,
        size: true,
    };
    let listed = engine.container_list(options).unwrap();
    assert!(listed[0].size.is_some());
}
