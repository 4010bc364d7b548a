//! `kleened import` of a database as the original Kleene writes it, with datasets that are made of the
//! answers of `zfs`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod stage;

use std::os::unix::fs::PermissionsExt;

use kleene_command::Answer;
use kleene_store::{ImageSnapshot, NetworkDriver, Store};
use kleene_types::{ImageName, Init, RestartPolicy};
use serde_json::{Value, json};

use stage::{BASE, BUILT, LISTING, OTHER, Stage, WEB, container, image};

fn image_id(text: &str) -> kleene_types::ImageId {
    text.parse().unwrap()
}

#[test]
fn a_dry_run_only_tells() {
    let stage = Stage::new();
    stage.usual();
    let before = stage.files();
    let report = stage.lists(&LISTING).report(false);
    let wanted = format!(
        "\
found      2 images, 2 containers, 1 volume, 3 mounts, 1 network in /root/metadata.sqlite
image      {BASE} FreeBSD:14.2
image      {BUILT} app:latest
volume     data
container  {WEB} web, 2 mounts
container  {OTHER} box, 0 mounts
network    testnet: kept until there are networks
network    addresses and published ports of 1 container: kept until then
note       container {WEB}: its network driver is 'ipnet': it can be started once there are networks
nothing was changed: `kleened import --yes` takes this over
"
    );
    assert_eq!(report, wanted);
    assert_eq!(stage.files(), before);
}

#[test]
fn everything_is_taken_over() {
    let stage = Stage::new();
    stage.usual();
    let original = std::fs::read(stage.database()).unwrap();
    let report = stage.lists(&LISTING).report(true);
    assert!(
        report.contains("done       2 images, 2 containers, 1 volume taken over\n"),
        "{report}"
    );
    let kept = stage.root().join("metadata.sqlite.original");
    assert_eq!(std::fs::read(&kept).unwrap(), original);
    for private in [&kept, &stage.database()] {
        let mode = std::fs::metadata(private).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", private.display());
    }
    let store = Store::open(&stage.database()).unwrap();
    let built = store.image(&image_id(BUILT)).unwrap().unwrap();
    let (name, tag) = built.reference.clone().unwrap();
    assert_eq!((name.as_str(), tag.as_str()), ("app", "latest"));
    assert_eq!(built.config.env[0].as_str(), "A=b=c");
    assert_eq!(built.config.user, "www");
    assert_eq!(built.created.to_string(), "2026-02-03T10:00:00.123456Z");
    let parent = ImageSnapshot {
        image: image_id(BASE),
        snapshot: "image".parse().unwrap(),
    };
    assert_eq!(built.parent, Some(parent));
    let snapshots: Vec<Option<&str>> = built
        .instructions
        .iter()
        .map(|(_, snapshot)| snapshot.as_ref().map(|name| name.as_str()))
        .collect();
    assert_eq!(snapshots, [None, Some("6b3c821605d4")]);

    let web = store.container_by_name("web").unwrap().unwrap();
    assert_eq!(web.id.as_str(), WEB);
    assert_eq!(web.image, image_id(BUILT));
    assert_eq!(web.snapshot.unwrap().snapshot.as_str(), "6b3c821605d4");
    assert_eq!(web.jail_params, ["allow.raw_sockets=true"]);
    assert_eq!(web.restart_policy, RestartPolicy::OnStartup);
    assert_eq!(web.network_driver, NetworkDriver::Ipnet);
    assert!(web.persist && web.last_run.is_none());
    let mounts: Vec<String> = web.mounts.iter().map(ToString::to_string).collect();
    assert_eq!(mounts, ["data:/var/db", "/home/me/www:/www:ro"]);
    let boxed = store.container_by_name("box").unwrap().unwrap();
    assert_eq!((boxed.init, boxed.snapshot), (Init::All, None));
    let volumes = store.volumes().unwrap();
    assert!(volumes[0].populated, "nothing may be copied over its data");
    assert!(store.journal().unwrap().is_empty());

    let later = stage.root().join("metadata/networks.original.json");
    let later: Value = serde_json::from_slice(&std::fs::read(later).unwrap()).unwrap();
    assert_eq!(later["networks"][0]["name"], "testnet");
    assert_eq!(later["networks"][0]["id"], "99aabbccddee");
    assert_eq!(later["endpoints"][0]["ip_address"], "10.13.37.2");
    assert_eq!(later["public_ports"][WEB][0]["host_port"], "8080");
}

#[test]
fn the_second_time_there_is_nothing_to_do() {
    let stage = Stage::new();
    stage.usual();
    stage.lists(&LISTING).report(true);
    let before = stage.files();
    let report = stage.lists(&LISTING).report(true);
    assert!(
        report.starts_with("there      the original's records were taken over"),
        "{report}"
    );
    assert_eq!(stage.files(), before);
}

#[test]
fn our_store_keeps_its_hands_off_the_originals_database() {
    let stage = Stage::new();
    stage.usual();
    let before = stage.files();
    let error = Store::open(&stage.database()).unwrap_err().to_string();
    assert!(error.contains("`kleened import`"), "{error}");
    assert_eq!(stage.files(), before);
    stage.sql("DROP TABLE mounts");
    let error = Store::open(&stage.database()).unwrap_err().to_string();
    assert!(
        error.contains("is not Kleene's: it has the tables containers (container, id)"),
        "{error}"
    );
}

#[test]
fn a_write_ahead_log_belongs_to_the_records() {
    let stage = Stage::new();
    stage.usual();
    // A database that its daemon has not closed: the last record is in its log only.
    let open = stage.connection();
    open.pragma_update(None, "journal_mode", "WAL").unwrap();
    open.execute(
        "INSERT INTO volumes VALUES ('late', ?)",
        [json!({"created": "2026-02-03T10:00:00Z"}).to_string()],
    )
    .unwrap();
    let killed = Stage::new();
    for suffix in ["", "-wal"] {
        let name = format!("metadata.sqlite{suffix}");
        std::fs::copy(stage.root().join(&name), killed.root().join(&name)).unwrap();
    }
    drop(open);
    let listing = [&LISTING[..], &[("volumes/late", "-", "volumes/late")]].concat();
    let before = killed.files();
    let report = killed.lists(&listing).report(false);
    assert!(report.contains("volume     late\n"), "{report}");
    assert_eq!(killed.files(), before, "a look changes nothing");
    killed.lists(&listing).report(true);
    let left: Vec<String> = killed.files().into_iter().map(|(name, _)| name).collect();
    assert!(!left.iter().any(|name| name.contains("-wal")), "{left:?}");
    assert_eq!(killed.store().volumes().unwrap().len(), 2);
    // The kept one is whole in one file.
    let kept = killed.root().join("metadata.sqlite.original");
    let kept = rusqlite::Connection::open(kept).unwrap();
    let volumes: i64 = kept
        .query_row("SELECT count(*) FROM volumes", [], |row| row.get(0))
        .unwrap();
    assert_eq!(volumes, 2);
}

#[test]
fn what_cannot_be_taken_over_is_named_with_the_reason() {
    let stage = Stage::new();
    stage.usual();
    let none = json!({});
    for (table, key, record) in [
        ("images", "123456789012", image("old", "1", None)),
        ("images", "bbbb00000001", image("gone", "1", None)),
        ("images", "bbbb00000002", image("bare", "1", None)),
        ("images", "bbbb00000003", image("app", "latest", None)),
        (
            "containers",
            "cccc00000001",
            container("lost", "bbbb00000001"),
        ),
        ("containers", "cccc00000002", container("web", BASE)),
        ("containers", "cccc00000003", container("x y", BASE)),
        ("containers", "cccc00000004", container("moved", BASE)),
        ("containers", "cccc00000005", container("odd", BASE)),
        ("volumes", "a b", none.clone()),
        ("volumes", "away", none),
    ] {
        stage.add(table, key, &record);
    }
    stage.mount("cccc00000005", "volume", "a b", "/x");
    stage.mount("dddd00000000", "nullfs", "/a", "/b");
    stage.sql("INSERT INTO networks VALUES ('bad', '{')");
    let mut listing = LISTING.to_vec();
    let base = format!("image/{BASE}@image");
    for leaf in [
        "image/bbbb00000002",
        "image/bbbb00000003",
        "image/bbbb00000003@image",
        "image/eeee00000000",
    ] {
        listing.push((leaf, "-", leaf));
    }
    for leaf in ["container/cccc00000002", "container/cccc00000003"] {
        listing.push((leaf, &base, leaf));
    }
    listing.push(("container/cccc00000004", &base, "elsewhere"));
    listing.push(("container/cccc00000005", &base, "container/cccc00000005"));
    let report = stage.lists(&listing).report(true);
    for line in [
        "not taken  image 123456789012: '123456789012' is not an id",
        "not taken  image bbbb00000001: its dataset zroot/kleene/image/bbbb00000001 is not there\n",
        "not taken  image bbbb00000002: its dataset zroot/kleene/image/bbbb00000002 has no snapshot \
         @image",
        "note       image bbbb00000003: the name app:latest is another image's: it has none\n",
        "not taken  container cccc00000001 (lost): its image \"bbbb00000001\" isn't taken over\n",
        "note       container cccc00000002: its name \"web\" is another container's: it is named \
         web-cccc00000002\n",
        "note       container cccc00000003: its name \"x y\" is not a name: it is named \
         cccc00000003\n",
        "not taken  container cccc00000004 (moved): its dataset zroot/kleene/container/cccc00000004 \
         has the mount point '/root/elsewhere' in place of '/root/container/cccc00000004': put that \
         right with `zfs inherit mountpoint zroot/kleene/container/cccc00000004`\n",
        "not taken  container cccc00000005 (odd): its mount of a b on /x can't be made: invalid \
         volume name",
        "not taken  volume a b: invalid volume name",
        "not taken  volume away: its dataset zroot/kleene/volumes/away is not there\n",
        "not taken  bad in the table networks: its record is no JSON\n",
        "note       the mount of /a on /b belongs to no container: it is left out\n",
        "note       the dataset zroot/kleene/image/eeee00000000 has no record: it stays as it is\n",
        "done       3 images, 4 containers, 1 volume taken over\n",
        "note       9 not taken",
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }
    let store = stage.store();
    assert!(
        store
            .container_by_name("web-cccc00000002")
            .unwrap()
            .is_some()
    );
    let name: ImageName = "app".parse().unwrap();
    let app = store
        .image_by_tag(&name, &"latest".parse().unwrap())
        .unwrap();
    assert_eq!(app.unwrap().id.as_str(), BUILT);
}

/// The root was renamed while the records still name the old one.
#[test]
fn datasets_elsewhere_in_the_pool_are_renamed() {
    let (old, new) = ("zroot/old/aaaa00000009", "zroot/kleene/image/aaaa00000009");
    let add = |stage: &Stage, dataset: &str| {
        stage.usual();
        stage.add("images", "aaaa00000009", &image("far", "1", Some(dataset)));
    };
    let elsewhere = format!("{old}\t-\t/{old}\n{old}@image\t-\t-\n");
    let list = format!("zfs list -H -t filesystem,snapshot -o name,origin,mountpoint -r {old}");
    let rename = format!("zfs rename {old} {new}");

    let stage = Stage::new();
    add(&stage, old);
    let report = stage
        .lists(&LISTING)
        .answers(&list, Answer::ok(elsewhere.clone()))
        .report(false);
    assert!(
        report.contains(&format!("rename     {old} to {new}\n")),
        "{report}"
    );
    stage
        .lists(&LISTING)
        .answers(&list, Answer::ok(elsewhere.clone()))
        .answers(&rename, Answer::ok(""))
        .report(true);
    assert_eq!(stage.store().images().unwrap().len(), 3);

    // One that fails leaves all as it was.
    let stage = Stage::new();
    add(&stage, old);
    let before = std::fs::read(stage.database()).unwrap();
    let refusal = stage
        .lists(&LISTING)
        .answers(&list, Answer::ok(elsewhere))
        .answers(&rename, Answer::fail(1, "cannot rename: dataset is busy"))
        .refusal(true);
    assert!(refusal.contains("dataset is busy"), "{refusal}");
    assert_eq!(std::fs::read(stage.database()).unwrap(), before);

    let stage = Stage::new();
    add(&stage, "tank/image/aaaa00000009");
    let report = stage.lists(&LISTING).report(false);
    assert!(
        report.contains("is in another pool than zroot/kleene"),
        "{report}"
    );
}

#[test]
fn datasets_get_their_names_back_when_the_records_cannot_be_written() {
    let (old, new) = ("zroot/old/aaaa00000009", "zroot/kleene/image/aaaa00000009");
    let stage = Stage::new();
    stage.usual();
    stage.add("images", "aaaa00000009", &image("far", "1", Some(old)));
    // A directory where our database is to be made.
    std::fs::create_dir_all(stage.root().join("metadata.sqlite.importing/x")).unwrap();
    let before = std::fs::read(stage.database()).unwrap();
    stage
        .lists(&LISTING)
        .answers(
            &format!("zfs list -H -t filesystem,snapshot -o name,origin,mountpoint -r {old}"),
            Answer::ok(format!("{old}\t-\t/{old}\n{old}@image\t-\t-\n")),
        )
        .answers(&format!("zfs rename {old} {new}"), Answer::ok(""))
        .answers(&format!("zfs rename {new} {old}"), Answer::ok(""))
        .refusal(true);
    assert_eq!(std::fs::read(stage.database()).unwrap(), before);
}

#[test]
fn nobody_may_work_with_the_records() {
    let stage = Stage::new();
    stage.usual();
    stage.pid(4711);
    let beam = "/usr/local/libexec/kleened/erts-15.0/bin/beam.smp -- -root /usr/local/libexec\n";
    let ps = "ps -o command= -p 4711";
    let refusal = stage
        .lists(&LISTING)
        .answers(ps, Answer::ok(beam))
        .refusal(true);
    assert!(
        refusal.contains("kleened runs as process 4711"),
        "{refusal}"
    );
    // A look is possible meanwhile.
    let report = stage
        .lists(&LISTING)
        .answers(ps, Answer::ok(beam))
        .report(false);
    assert!(
        report.contains("first      kleened runs as process 4711"),
        "{report}"
    );
    // The number has come to somebody else.
    stage
        .lists(&LISTING)
        .answers(ps, Answer::ok("/bin/sh\n"))
        .report(true);

    let stage = Stage::new();
    stage.usual();
    let _listener = std::os::unix::net::UnixListener::bind(stage.socket()).unwrap();
    let refusal = stage.lists(&LISTING).refusal(true);
    assert!(
        refusal.contains("somebody listens at http:///"),
        "{refusal}"
    );

    let stage = Stage::new();
    stage.usual();
    std::fs::create_dir(stage.root().join("metadata")).unwrap();
    let _lock = kleened::lock::DaemonLock::take(&stage.root().join("metadata")).unwrap();
    let refusal = stage.lists(&LISTING).refusal(true);
    assert!(refusal.contains("another kleened"), "{refusal}");
}

#[test]
fn containers_that_run_are_named() {
    let mut stage = Stage::new();
    stage.has_jails = true;
    stage.usual();
    let jails = json!({"jail-information": {"jail": [
        {"jid": 3, "name": WEB, "path": "/zroot/kleene/container/x"},
        {"jid": 4, "name": "other", "path": "/jails/other"},
    ]}});
    let refusal = stage
        .lists(&LISTING)
        .answers("jls -v --libxo json", Answer::ok(jails.to_string()))
        .refusal(true);
    assert!(
        refusal.contains(&format!(
            "container {WEB} runs: stop it with `jail -r {WEB}`"
        )),
        "{refusal}"
    );
    assert!(!stage.root().join("metadata.sqlite.original").exists());
}

#[test]
fn unknown_things_are_refused() {
    let stage = Stage::new();
    stage.usual();
    stage.sql("ALTER TABLE images ADD COLUMN layer TEXT");
    let refusal = stage.lists(&LISTING).refusal(true);
    assert!(refusal.contains("images (id, image, layer)"), "{refusal}");

    let stage = Stage::new();
    std::fs::write(stage.database(), "not a database, for sure; it is a text").unwrap();
    let refusal = stage.lists(&LISTING).refusal(true);
    assert!(
        refusal.contains("metadata.sqlite' can't be opened"),
        "{refusal}"
    );

    let stage = Stage::new();
    let refusal = stage.lists(&LISTING).refusal(true);
    assert!(
        refusal.contains("there are no records of the original Kleene"),
        "{refusal}"
    );

    let stage = Stage::new();
    stage.usual();
    std::fs::write(stage.root().join("metadata.sqlite.original"), "other").unwrap();
    let refusal = stage.lists(&LISTING).refusal(true);
    assert!(refusal.contains("holds other records"), "{refusal}");

    let stage = Stage::new();
    let refusal = stage
        .answers(
            "zfs list -H -t filesystem,snapshot -o name,origin,mountpoint -r zroot/kleene",
            Answer::fail(1, "cannot open 'zroot/kleene': dataset does not exist"),
        )
        .refusal(true);
    assert!(
        refusal.contains("listing the datasets of zroot/kleene failed: "),
        "{refusal}"
    );
    assert!(refusal.ends_with("dataset does not exist"), "{refusal}");
}

/// The original looks for its records beneath `/`, wherever its root is mounted.
#[test]
fn records_beside_the_root() {
    let stage = Stage::new();
    stage.usual();
    let beside = stage.machine().join("zroot/kleene");
    std::fs::create_dir_all(&beside).unwrap();
    std::fs::rename(stage.database(), beside.join("metadata.sqlite")).unwrap();
    stage.lists(&LISTING).report(true);
    assert_eq!(stage.store().images().unwrap().len(), 2);
    assert!(beside.join("metadata.sqlite").exists());
    let report = stage.lists(&LISTING).report(true);
    assert!(report.starts_with("there"), "{report}");
}
