//! Debian's registry, and what skopeo and buildah put there and make of ours.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use kleene_doors::distribution::{
    BlobStep, Compression, Distribution, DistributionError, ImageConfig, OutgoingImage, RemoteImage,
};
use kleene_types::Platform;

use crate::common::{Registry, Room, go_on, noise, noting, password, run, tar_of};

/// An image of our own in a room: two layers, one of them large.
fn made(room: &Room, compression: Compression) -> OutgoingImage {
    let archives = [
        tar_of("etc/motd", b"hello\n"),
        tar_of("data", &noise(3_000_000, 1)),
    ];
    let layers: Vec<_> = archives
        .iter()
        .map(|archive| {
            room.oci
                .add_layer(compression, &mut |to| to.write_all(archive))
                .unwrap()
        })
        .collect();
    let config = ImageConfig {
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        env: vec!["PATH=/bin".to_owned(), "A=b c".to_owned()],
        cmd: Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), "x".to_owned()]),
        labels: [("maker".to_owned(), "us".to_owned())].into(),
        diff_ids: layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        ..ImageConfig::default()
    };
    OutgoingImage {
        config_json: config.to_json(),
        layers,
        related: Vec::new(),
    }
}

/// The image has the same configuration and the same content as ours.
fn same(room: &Room, pulled: &RemoteImage, ours: &OutgoingImage) {
    assert_eq!(pulled.config_json, ours.config_json);
    for (layer, own) in pulled.layers.iter().zip(&ours.layers) {
        assert_eq!(layer.diff_id, own.diff_id);
        room.read(layer);
    }
}

#[test]
fn what_we_push_is_understood() {
    let registry = Registry::start();
    for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
        let room = Room::new();
        let ours = made(&room, compression);
        let name = registry.image("team/app:1");
        let digest = room.oci.push(&name, &ours, None, &mut go_on).unwrap();
        let said = run(
            "skopeo",
            &[
                "inspect",
                "--tls-verify=false",
                &registry.docker("team/app:1"),
            ],
        );
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["Digest"], digest.as_str());
        assert_eq!(said["Env"][1], "A=b c");
        assert_eq!(said["Labels"]["maker"], "us");
        assert_eq!(said["Layers"][1], ours.layers[1].digest.as_str());
        let other = Room::new();
        let pulled = other.pull(&name).unwrap();
        assert_eq!(pulled.digest, digest);
        assert_eq!(pulled.layers, ours.layers);
        same(&other, &pulled, &ours);
    }
    // Another program reads every byte of it.
    let dir = tempfile::tempdir().unwrap();
    let copy = format!("dir:{}", dir.path().join("copy").display());
    let from = registry.docker("team/app:1");
    run(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            "-q",
            "--src-tls-verify=false",
            &from,
            &copy,
        ],
    );
}

#[test]
fn what_skopeo_pushes_is_understood() {
    let registry = Registry::start();
    let room = Room::new();
    let ours = made(&room, Compression::Gzip);
    let archive = room.path().join("image.tar");
    let mut file = fs::File::create(&archive).unwrap();
    room.oci
        .write_archive(&[(Vec::new(), ours.clone())], &mut file)
        .unwrap();
    let from = format!("oci-archive:{}", archive.display());
    for format in ["oci", "v2s2"] {
        let name = format!("sk/{format}:2");
        let to = registry.docker(&name);
        let words = [
            "--insecure-policy",
            "copy",
            "-q",
            "--dest-tls-verify=false",
            "--format",
            format,
        ];
        run("skopeo", &[&words[..], &[&from, &to]].concat());
        let other = Room::new();
        let pulled = other.pull(&registry.image(&name)).unwrap();
        assert_eq!(pulled.config.env, ["PATH=/bin", "A=b c"]);
        let diff_ids = ours.layers.iter().map(|layer| &layer.diff_id);
        assert!(
            pulled
                .layers
                .iter()
                .map(|layer| &layer.diff_id)
                .eq(diff_ids)
        );
        pulled
            .layers
            .iter()
            .for_each(|layer| drop(other.read(layer)));
        // By its digest, too.
        let by_digest = format!("{}@{}", registry.image(&name), pulled.digest);
        let again = other.pull(&by_digest.parse().unwrap()).unwrap();
        assert_eq!(again.digest, pulled.digest);
    }
}

/// buildah with storage of its own.
struct Buildah<'r> {
    root: String,
    registry: &'r Registry,
}

impl Buildah<'_> {
    fn run(&self, words: &[&str]) -> String {
        let (root, runroot) = (format!("{}/root", self.root), format!("{}/run", self.root));
        let own = [
            "--storage-driver",
            "vfs",
            "--root",
            &root,
            "--runroot",
            &runroot,
        ];
        run("buildah", &[&own[..], words].concat())
            .trim()
            .to_owned()
    }

    /// Makes an image that says what it is for.
    fn image(&self, name: &str, platform: &str, format: &str, file: &Path) {
        let (os, architecture) = platform.split_once('/').unwrap();
        let container = self.run(&["from", "--pull=never", "scratch"]);
        self.run(&[
            "copy",
            "-q",
            &container,
            &file.display().to_string(),
            "/file",
        ]);
        let settings = [
            "--os",
            os,
            "--arch",
            architecture,
            "--env",
            "X=y",
            "--cmd",
            "/file",
            "--port",
            "80/tcp",
            "--user",
            "www",
            "--volume",
            "/data",
            "--workingdir",
            "/srv",
            "--stop-signal",
            "SIGQUIT",
            "--healthcheck",
            "CMD /file",
            "--healthcheck-interval",
            "5s",
            "--label",
            "a=b",
        ];
        self.run(&[&["config"], &settings[..], &[&container]].concat());
        self.run(&["commit", "-q", "--rm", "--format", format, &container, name]);
    }

    fn push(&self, image: &str, name: &str, more: &[&str]) {
        let to = self.registry.docker(name);
        self.run(&[&["push", "-q", "--tls-verify=false"], more, &[image, &to]].concat());
    }
}

#[test]
fn what_buildah_makes_is_understood() {
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, noise(200_000, 5)).unwrap();
    let buildah = Buildah {
        root: dir.path().join("storage").display().to_string(),
        registry: &registry,
    };
    buildah.image("docker", "linux/amd64", "docker", &file);
    buildah.image("freebsd", "freebsd/amd64", "oci", &file);
    // With a file of its own: buildah sends nothing twice, in whatever form.
    let other = dir.path().join("other");
    fs::write(&other, noise(200_000, 6)).unwrap();
    buildah.image("zstd", "linux/amd64", "oci", &other);
    buildah.push("zstd", "b/zstd", &["--compression-format", "zstd"]);
    buildah.push("docker", "b/docker", &[]);
    buildah.run(&["manifest", "create", "list"]);
    for image in ["docker", "freebsd"] {
        buildah.run(&["manifest", "add", "list", image]);
    }
    let to = registry.docker("b/list");
    buildah.run(&[
        "manifest",
        "push",
        "-q",
        "--all",
        "--tls-verify=false",
        "list",
        &to,
    ]);

    let room = Room::new();
    let image = room.pull(&registry.image("b/docker")).unwrap();
    let config = &image.config;
    assert_eq!(
        (config.user.as_str(), config.working_dir.as_str()),
        ("www", "/srv")
    );
    assert_eq!(config.exposed_ports, BTreeSet::from(["80/tcp".to_owned()]));
    assert_eq!(config.volumes, BTreeSet::from(["/data".to_owned()]));
    assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
    assert_eq!(config.labels["a"], "b");
    let health = config.healthcheck.as_ref().unwrap();
    assert_eq!(health.test.last().unwrap(), "/file");
    assert_eq!(health.interval.unwrap().duration().as_secs(), 5);
    let archive = room.read(image.layers.last().unwrap());
    assert!(archive.len() > 200_000);

    let zstd = room.pull(&registry.image("b/zstd")).unwrap();
    assert_eq!(zstd.layers.last().unwrap().compression, Compression::Zstd);
    assert!(room.read(zstd.layers.last().unwrap()).len() > 200_000);

    let name = registry.image("b/list");
    let list = room.pull(&name).unwrap();
    assert_ne!(list.digest, list.manifest_digest);
    assert_eq!(list.config.os, "linux");
    let freebsd: Platform = "freebsd/amd64".parse().unwrap();
    assert_eq!(
        room.oci.resolve(&name, &freebsd, None).unwrap().config.os,
        "freebsd"
    );
    let error = room
        .oci
        .resolve(&name, &"linux/riscv64".parse().unwrap(), None)
        .unwrap_err();
    let DistributionError::NoPlatform(message) = error else {
        panic!("{error:?}");
    };
    assert!(
        message.contains("linux/amd64") && message.contains("freebsd/amd64"),
        "{message}"
    );
}

#[test]
fn only_who_is_known_is_let_in() {
    let registry = Registry::with_login();
    let room = Room::new();
    let ours = made(&room, Compression::Gzip);
    let name = registry.image("team/app:1");
    let (right, wrong) = (password("secret"), password("nonsense"));
    for who in [None, Some(&wrong)] {
        let error = room.oci.push(&name, &ours, who, &mut go_on).unwrap_err();
        assert!(matches!(error, DistributionError::Denied(_)), "{error:?}");
    }
    room.oci
        .push(&name, &ours, Some(&right), &mut go_on)
        .unwrap();
    let other = Room::new();
    let error = other.pull(&name).unwrap_err();
    assert!(
        matches!(&error, DistributionError::Denied(text) if text.contains("klee image login 127.0.0.1:")),
        "{error:?}"
    );
    other.pull_as(&name, Some(&right)).unwrap();
    room.oci.check_login(&name.registry, &right).unwrap();
    let error = room.oci.check_login(&name.registry, &wrong).unwrap_err();
    assert!(matches!(error, DistributionError::Denied(_)), "{error:?}");
}

#[test]
fn another_repository_s_layers_needn_t_be_sent() {
    let registry = Registry::start();
    let room = Room::new();
    let mut ours = made(&room, Compression::Gzip);
    let first = registry.image("team/base:1");
    room.oci.push(&first, &ours, None, &mut go_on).unwrap();
    ours.related.push(first.clone());
    let digests: Vec<_> = ours
        .layers
        .iter()
        .map(|layer| layer.digest.clone())
        .collect();
    let mut steps = Vec::new();
    let second = registry.image("team/other:1");
    room.oci
        .push(&second, &ours, None, &mut noting(&mut steps))
        .unwrap();
    assert!(steps.contains(&BlobStep::Mounted), "{steps:?}");
    assert!(!steps.contains(&BlobStep::Uploading), "{steps:?}");
    room.oci.discard(&digests).unwrap();
    // What the registry has needn't be here.
    room.oci
        .push(&registry.image("team/other:2"), &ours, None, &mut go_on)
        .unwrap();
    same(&room, &room.pull(&second).unwrap(), &ours);
}

#[test]
fn tags_and_searches() {
    let registry = Registry::start();
    let room = Room::new();
    let ours = made(&room, Compression::Gzip);
    for name in ["team/app:1", "team/app:2", "other:latest"] {
        room.oci
            .push(&registry.image(name), &ours, None, &mut go_on)
            .unwrap();
    }
    let mut tags = room.oci.tags(&registry.image("team/app"), None).unwrap();
    tags.sort();
    assert_eq!(tags, ["1", "2"]);
    let name = registry.image("x");
    let found = room.oci.search(&name.registry, "app", 10, None).unwrap();
    let names: Vec<&str> = found.iter().map(|result| result.name.as_str()).collect();
    assert_eq!(names, [format!("{}/team/app", registry.address)]);
    let error = room.oci.tags(&registry.image("none"), None).unwrap_err();
    assert!(matches!(error, DistributionError::NotFound(_)), "{error:?}");
    let error = room.pull(&registry.image("team/app:3")).unwrap_err();
    assert!(
        matches!(&error, DistributionError::NotFound(text) if text.contains("team/app:3")),
        "{error:?}"
    );
}
