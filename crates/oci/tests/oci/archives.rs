//! Image archives: ours, skopeo's, and hostile ones.

use std::fs;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::Path;

use kleene_doors::distribution::{
    ArchivedImage, Compression, Distribution, DistributionError, ImageConfig, OutgoingImage,
};
use tar::{EntryType, Header};

use crate::common::{Room, amd64, gzip, noise, run, sha256, tar_of};

fn image(room: &Room, seed: u64, compression: Compression) -> OutgoingImage {
    let archives = [tar_of("a", b"the same"), tar_of("b", &noise(300_000, seed))];
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
        author: Some(format!("number {seed}")),
        diff_ids: layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        ..ImageConfig::default()
    };
    OutgoingImage {
        config_json: config.to_json(),
        layers,
        related: Vec::new(),
    }
}

fn read(room: &Room, mut archive: &[u8]) -> Result<Vec<ArchivedImage>, DistributionError> {
    room.oci
        .read_archive(&mut archive, Some(&amd64()), &mut |_| {
            ControlFlow::Continue(())
        })
}

/// Why an archive is refused. Nothing of it stays.
fn refused(archive: &[u8]) -> String {
    let room = Room::new();
    let error = read(&room, archive).unwrap_err();
    assert!(matches!(error, DistributionError::Invalid(_)), "{error:?}");
    assert_eq!(room.files(), [] as [&Path; 0]);
    error.to_string()
}

fn same(room: &Room, read: &ArchivedImage, written: &OutgoingImage) {
    assert_eq!(read.config_json, written.config_json);
    assert_eq!(read.config_digest, sha256(&written.config_json));
    for (layer, own) in read.layers.iter().zip(&written.layers) {
        assert_eq!(layer.diff_id, own.diff_id);
        room.read(layer);
    }
}

#[test]
fn what_was_written_is_read() {
    let room = Room::new();
    let (one, two) = (
        image(&room, 1, Compression::Gzip),
        image(&room, 2, Compression::Zstd),
    );
    let names: Vec<kleene_types::RegistryRef> = vec![
        "debian:12".parse().unwrap(),
        "h.example:5000/x/y".parse().unwrap(),
    ];
    let images = [(names.clone(), one.clone()), (Vec::new(), two.clone())];
    let (mut archive, mut again) = (Vec::new(), Vec::new());
    room.oci.write_archive(&images, &mut archive).unwrap();
    room.oci.write_archive(&images, &mut again).unwrap();
    assert!(archive == again);
    for packed in [
        archive.clone(),
        gzip(&archive),
        xz(&archive),
        zstd::encode_all(&*archive, 1).unwrap(),
    ] {
        let other = Room::new();
        let read = read(&other, &packed).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].names[0], names[0]);
        // Archives have tags.
        assert_eq!(read[0].names[1].to_string(), "h.example:5000/x/y:latest");
        assert_eq!((read[1].names.len(), read[1].label.as_deref()), (0, None));
        assert_eq!(read[0].layers, one.layers);
        same(&other, &read[0], &one);
        same(&other, &read[1], &two);
    }
    room.oci.discard(&[one.layers[1].digest.clone()]).unwrap();
    let mut untouched = Vec::new();
    let error = room.oci.write_archive(&images, &mut untouched).unwrap_err();
    assert!(matches!(error, DistributionError::NotFound(_)), "{error:?}");
    assert!(untouched.is_empty());
}

fn xz(data: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn skopeo(from: &str, to: &str) {
    run("skopeo", &["--insecure-policy", "copy", "-q", from, to]);
}

#[test]
fn others_read_ours_and_we_read_theirs() {
    let room = Room::new();
    let ours = image(&room, 1, Compression::Gzip);
    let path = |name: &str| room.path().join(name).display().to_string();
    let mut file = fs::File::create(path("ours.tar")).unwrap();
    let name: kleene_types::RegistryRef = "team/app:1".parse().unwrap();
    room.oci
        .write_archive(&[(vec![name.clone()], ours.clone())], &mut file)
        .unwrap();
    let as_oci = format!("oci-archive:{}", path("ours.tar"));
    let as_docker = format!("docker-archive:{}", path("ours.tar"));
    for from in [&as_oci, &as_docker] {
        let said = run("skopeo", &["inspect", "--config", from]);
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["author"], "number 1");
    }
    skopeo(
        &as_oci,
        &format!(
            "oci-archive:{}:docker.io/team/app:1",
            path("theirs-oci.tar")
        ),
    );
    skopeo(
        &as_docker,
        &format!(
            "docker-archive:{}:docker.io/team/app:1",
            path("theirs-docker.tar")
        ),
    );
    for theirs in ["theirs-oci.tar", "theirs-docker.tar"] {
        let other = Room::new();
        let read = read(&other, &fs::read(path(theirs)).unwrap()).unwrap();
        assert_eq!(read.len(), 1, "{theirs}");
        assert_eq!(read[0].names, std::slice::from_ref(&name), "{theirs}");
        assert_eq!(read[0].config.author.as_deref(), Some("number 1"));
        for (layer, own) in read[0].layers.iter().zip(&ours.layers) {
            assert_eq!(layer.diff_id, own.diff_id);
            other.read(layer);
        }
    }
    // A name that is none is told as it is.
    skopeo(
        &as_oci,
        &format!("oci-archive:{}:latest", path("label.tar")),
    );
    let read = read(&Room::new(), &fs::read(path("label.tar")).unwrap()).unwrap();
    assert_eq!(
        (read[0].names.len(), read[0].label.as_deref()),
        (0, Some("latest"))
    );
}

/// An archive of these entries: type, name, link's target, content.
fn archive(entries: &[(EntryType, &str, &str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, link, content) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        // Past the library's own checks.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn docker_config(layers: &[&[u8]]) -> Vec<u8> {
    let config = ImageConfig {
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        diff_ids: layers.iter().map(|layer| sha256(layer)).collect(),
        ..ImageConfig::default()
    };
    config.to_json()
}

#[test]
fn old_archives_with_links_between_layers_are_read() {
    let layer = tar_of("x", b"y");
    let config = docker_config(&[&layer, &layer]);
    let list = br#"[{"Config":"c.json","RepoTags":["old:1","not a name"],"Layers":["one/layer.tar","two/layer.tar"]}]"#;
    let packed = archive(&[
        (EntryType::Directory, "one/", "", b""),
        (EntryType::Regular, "one/VERSION", "", b"1.0"),
        (EntryType::Symlink, "two/layer.tar", "../one/layer.tar", b""),
        (EntryType::Regular, "./one/layer.tar", "", &layer),
        (EntryType::Regular, "c.json", "", &config),
        (EntryType::Regular, "repositories", "", b"{}"),
        (EntryType::Regular, "manifest.json", "", list),
    ]);
    let room = Room::new();
    let images = read(&room, &packed).unwrap();
    assert_eq!(images[0].names.len(), 1);
    assert_eq!(images[0].names[0].familiar(), "old:1");
    assert_eq!(images[0].layers.len(), 2);
    assert_eq!(room.read(&images[0].layers[1]), layer);
    assert_eq!(room.files().len(), 1);
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    let layer = tar_of("x", &noise(100_000, 1));
    let config = docker_config(&[&layer]);
    let list = br#"[{"Config":"c.json","RepoTags":null,"Layers":["l.tar"]}]"#;
    let good: Vec<(EntryType, &str, &str, &[u8])> = vec![
        (EntryType::Regular, "c.json", "", &config),
        (EntryType::Regular, "l.tar", "", &layer),
        (EntryType::Regular, "manifest.json", "", list),
    ];
    assert_eq!(read(&Room::new(), &archive(&good)).unwrap().len(), 1);
    let with = |more: (EntryType, &'static str, &'static str, &'static [u8])| {
        let mut entries = good.clone();
        entries.push(more);
        archive(&entries)
    };
    let other = docker_config(&[b"another"]);
    for (packed, part) in [
        (with((EntryType::Regular, "../x", "", b"x")), "leads out"),
        (with((EntryType::Regular, "/etc/x", "", b"x")), "leads out"),
        (
            with((EntryType::Symlink, "x", "/etc/passwd", b"")),
            "leads out",
        ),
        (
            with((EntryType::Symlink, "a/x", "../../y", b"")),
            "leads out",
        ),
        (with((EntryType::Link, "x", "../y", b"")), "leads out"),
        (with((EntryType::Char, "null", "", b"")), "neither a file"),
        (with((EntryType::Fifo, "pipe", "", b"")), "neither a file"),
        (
            with((EntryType::Regular, "index.json", "", b"{}")),
            "can't be understood",
        ),
        (archive(&good[..2]), "holds neither"),
        (archive(&good[1..]), "lacks 'c.json'"),
        (archive(&[good[0], good[2]]), "lacks 'l.tar'"),
        (
            archive(&[(EntryType::Regular, "c.json", "", &other), good[1], good[2]]),
            "is damaged",
        ),
        (
            archive(&[
                (EntryType::Symlink, "c.json", "c.json", b""),
                good[1],
                good[2],
            ]),
            "lacks 'c.json'",
        ),
        (b"no tar archive".to_vec(), "no tar archive"),
        (Vec::new(), "holds neither"),
    ] {
        let error = refused(&packed);
        assert!(error.contains(part), "{part}: {error}");
    }
    // Cut short in the middle of the layer.
    let whole = archive(&good);
    let error = refused(&whole[..50_000]);
    assert!(error.contains("damaged"), "{error}");
    // A size that nobody has.
    let mut header = Header::new_gnu();
    header.set_path("huge").unwrap();
    header.set_size(u64::MAX >> 1);
    header.set_cksum();
    let mut huge = header.as_bytes().to_vec();
    huge.extend(noise(5000, 1));
    refused(&huge);
}

#[test]
fn damaged_blobs_are_refused() {
    let room = Room::new();
    let ours = image(&room, 1, Compression::None);
    let mut packed = Vec::new();
    room.oci
        .write_archive(&[(Vec::new(), ours)], &mut packed)
        .unwrap();
    // Into the noise of the large layer.
    let middle = packed.len() / 2;
    packed[middle] ^= 1;
    let error = refused(&packed);
    assert!(error.contains("damaged"), "{error}");
}

#[test]
fn a_digest_is_no_name_in_an_archive() {
    let room = Room::new();
    let ours = image(&room, 1, Compression::Gzip);
    let digest = &ours.layers[0].digest;
    let names = ["debian", "debian:12"].map(|name| format!("{name}@{digest}").parse().unwrap());
    let mut packed = Vec::new();
    let images = [(names.to_vec(), ours.clone())];
    room.oci.write_archive(&images, &mut packed).unwrap();
    let images = read(&Room::new(), &packed).unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].names, ["debian:12".parse().unwrap()]);
    let mut packed = Vec::new();
    let images = [(names[..1].to_vec(), ours)];
    room.oci.write_archive(&images, &mut packed).unwrap();
    assert_eq!(read(&Room::new(), &packed).unwrap()[0].names, []);
}

#[test]
fn another_platform_s_image_says_so() {
    let room = Room::new();
    let ours = image(&room, 1, Compression::Gzip);
    let mut packed = Vec::new();
    let name = "team/app:1".parse().unwrap();
    room.oci
        .write_archive(&[(vec![name], ours)], &mut packed)
        .unwrap();
    let other = Room::new();
    let error = other
        .oci
        .read_archive(
            &mut packed.as_slice(),
            Some(&"freebsd/amd64".parse().unwrap()),
            &mut |_| ControlFlow::Continue(()),
        )
        .unwrap_err();
    assert!(
        matches!(&error, DistributionError::NoPlatform(text) if text.contains("'team/app:1'") && text.contains("linux/amd64")),
        "{error:?}"
    );
    assert_eq!(other.files(), [] as [&Path; 0]);
}

/// Fails after so many bytes.
struct Broken<'b>(&'b [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into)? {
            0 => Err(io::Error::other("the cable is cut")),
            read => Ok(read),
        }
    }
}

#[test]
fn whoever_sends_the_archive_may_go_away() {
    let room = Room::new();
    let ours = image(&room, 1, Compression::Gzip);
    let mut packed = Vec::new();
    room.oci
        .write_archive(&[(Vec::new(), ours)], &mut packed)
        .unwrap();
    let other = Room::new();
    let mut broken = Broken(&packed[..200_000]);
    let error = other
        .oci
        .read_archive(&mut broken, Some(&amd64()), &mut |_| {
            ControlFlow::Continue(())
        });
    let Err(DistributionError::Failed { source, .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(source.to_string(), "the cable is cut");
    let mut told = 0;
    let error = other
        .oci
        .read_archive(&mut packed.as_slice(), Some(&amd64()), &mut |read| {
            told = read;
            if read > 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
    assert!(
        matches!(error, Err(DistributionError::Cancelled)),
        "{error:?}"
    );
    assert!(told > 0);
    assert_eq!(other.files(), [] as [&Path; 0]);
}

#[test]
fn a_layer_that_can_t_be_made_leaves_nothing() {
    let room = Room::new();
    let error = room.oci.add_layer(Compression::Gzip, &mut |to| {
        to.write_all(&noise(300_000, 1))?;
        Err(io::Error::other("no such file"))
    });
    let Err(DistributionError::Failed { source, .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(source.to_string(), "no such file");
    assert_eq!(room.files(), [] as [&Path; 0]);
}

#[test]
fn the_same_archive_makes_the_same_layer() {
    let archive = tar_of("x", &noise(100_000, 1));
    let made = |compression| {
        let room = Room::new();
        let layer = room
            .oci
            .add_layer(compression, &mut |to| to.write_all(&archive))
            .unwrap();
        assert_eq!(layer.size, fs::metadata(&room.files()[0]).unwrap().len());
        assert_eq!(room.read(&layer), archive);
        layer
    };
    for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
        let layer = made(compression);
        assert_eq!(layer, made(compression));
        assert_eq!(layer.diff_id, sha256(&archive));
        assert_eq!(
            layer.digest == layer.diff_id,
            compression == Compression::None
        );
    }
}
