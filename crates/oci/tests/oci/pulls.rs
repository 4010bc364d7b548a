//! Pulling from registries that fail.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kleene_doors::distribution::{BlobStep, Distribution, DistributionError};
use kleene_oci::RegistryConfig;
use kleene_types::{Digest, DigestAlgorithm};

use crate::common::{Answer, Room, Sample, Server, amd64, at, go_on, noise, noting, quick, sha256};

/// A server that has the sample, but does something else for the first requests of a layer.
fn faulty(sample: &Sample, faults: Vec<fn(Answer) -> Answer>) -> Server {
    let (sample, count) = (sample.clone(), AtomicUsize::new(0));
    Server::start(move |request| {
        let answer = sample.answer(request);
        if !sample.is_layer(request) {
            return answer;
        }
        match faults.get(count.fetch_add(1, Ordering::SeqCst)) {
            Some(fault) => fault(answer),
            None => answer,
        }
    })
}

#[test]
fn an_image_comes_whole() {
    let sample = Sample::new(&[100_000, 0, 3_000_000]);
    let served = sample.clone();
    let server = Server::start(move |request| served.answer(request));
    let room = Room::new();
    let image = room.pull(&at(server.address)).unwrap();
    assert_eq!(image.digest, sha256(&sample.manifest));
    assert_eq!(image.config_json, sample.config_json);
    assert_eq!(
        image.size(),
        sample.layers.iter().map(|l| l.len() as u64).sum::<u64>()
    );
    for (layer, archive) in image.layers.iter().zip(&sample.archives) {
        assert!(room.oci.has_blob(&layer.digest));
        assert_eq!(room.read(layer), *archive);
    }
    // Nothing is downloaded twice.
    let before = server.requests().len();
    let mut steps = Vec::new();
    room.oci
        .fetch_layers(&image, &[0, 1, 2, 0], None, &mut noting(&mut steps))
        .unwrap();
    assert_eq!(server.requests().len(), before);
    assert_eq!(steps, [BlobStep::Waiting, BlobStep::Exists]);
    let digests: Vec<_> = image
        .layers
        .iter()
        .map(|layer| layer.digest.clone())
        .collect();
    room.oci.discard(&digests).unwrap();
    assert_eq!(room.files(), [] as [&std::path::Path; 0]);
    assert!(matches!(
        room.oci.open_layer(&image.layers[0]),
        Err(DistributionError::NotFound(_))
    ));
}

#[test]
fn a_broken_connection_is_continued() {
    let sample = Sample::new(&[1_000_000]);
    let server = faulty(
        &sample,
        vec![|answer| answer.cut_after(400_000), |answer| {
            answer.cut_after(300_000)
        }],
    );
    let room = Room::new();
    let image = room
        .oci
        .resolve(&at(server.address), &amd64(), None)
        .unwrap();
    let mut steps = Vec::new();
    room.oci
        .fetch_layers(&image, &[0], None, &mut noting(&mut steps))
        .unwrap();
    assert_eq!(room.read(&image.layers[0]), sample.archives[0]);
    let requests = server.requests();
    let ranges: Vec<_> = requests
        .iter()
        .filter(|r| sample.is_layer(r))
        .map(|r| r.range())
        .collect();
    assert_eq!(ranges, [None, Some(400_000), Some(700_000)]);
    assert!(
        steps
            .iter()
            .any(|step| matches!(step, BlobStep::Retrying(_))),
        "{steps:?}"
    );
    assert_eq!(steps.last(), Some(&BlobStep::Done));
}

#[test]
fn a_later_attempt_goes_on() {
    let sample = Sample::new(&[1_000_000]);
    let fault: fn(Answer) -> Answer = |answer| answer.cut_after(100_000);
    let server = faulty(&sample, vec![fault; 4]);
    let room = Room::new();
    let error = room.pull(&at(server.address)).unwrap_err();
    assert!(
        matches!(error, DistributionError::Unreachable(_)),
        "{error:?}"
    );
    let room = room.again();
    let image = room.pull(&at(server.address)).unwrap();
    assert_eq!(room.read(&image.layers[0]), sample.archives[0]);
    let requests = server.requests();
    let last = requests
        .iter()
        .rfind(|request| sample.is_layer(request))
        .unwrap();
    assert_eq!(last.range(), Some(400_000));
}

#[test]
fn a_server_without_ranges_starts_over() {
    let sample = Sample::new(&[1_000_000]);
    let (served, count) = (sample.clone(), AtomicUsize::new(0));
    let server = Server::start(move |request| {
        if !served.is_layer(request) {
            return served.answer(request);
        }
        let whole = Answer::ok(served.layers[0].clone());
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => whole.cut_after(400_000),
            _ => whole,
        }
    });
    let room = Room::new();
    let image = room.pull(&at(server.address)).unwrap();
    assert_eq!(room.read(&image.layers[0]), sample.archives[0]);
}

#[test]
fn another_part_than_asked_for_starts_over() {
    let sample = Sample::new(&[1_000_000]);
    let (served, count) = (sample.clone(), AtomicUsize::new(0));
    let server = Server::start(move |request| {
        if !served.is_layer(request) {
            return served.answer(request);
        }
        let size = served.layers[0].len();
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::ok(served.layers[0].clone()).cut_after(400_000),
            1 => Answer::new("206 Partial Content", &served.layers[0][5..])
                .header("Content-Range", &format!("bytes 5-{}/{size}", size - 1)),
            _ => Answer::part(request, &served.layers[0]),
        }
    });
    let room = Room::new();
    let image = room.pull(&at(server.address)).unwrap();
    assert_eq!(room.read(&image.layers[0]), sample.archives[0]);
}

#[test]
fn a_wrong_beginning_is_thrown_away() {
    let sample = Sample::new(&[1_000_000]);
    let served = sample.clone();
    let server = Server::start(move |request| served.answer(request));
    let room = Room::new();
    let digest = sha256(&sample.layers[0]);
    let directory = room.path().join("oci/blobs/sha256");
    std::fs::create_dir_all(&directory).unwrap();
    let part = directory.join(format!("{}.part", digest.hex()));
    std::fs::write(&part, noise(5000, 9)).unwrap();
    let image = room.pull(&at(server.address)).unwrap();
    assert_eq!(room.read(&image.layers[0]), sample.archives[0]);
    // So is one that is too long.
    room.oci.discard(&[digest]).unwrap();
    std::fs::write(&part, noise(2_000_000, 9)).unwrap();
    room.pull(&at(server.address)).unwrap();
    assert_eq!(room.read(&image.layers[0]), sample.archives[0]);
}

#[test]
fn damaged_layers_are_refused() {
    let sample = Sample::new(&[100_000]);
    for (change, part) in [
        ((|layer| layer[5000] ^= 1) as fn(&mut Vec<u8>), "is damaged"),
        (|layer| layer.push(0), "instead of"),
        (|layer| layer.truncate(10), "instead of"),
    ] {
        let mut served = sample.clone();
        change(
            served
                .blobs
                .get_mut(sha256(&sample.layers[0]).as_str())
                .unwrap(),
        );
        let server = Server::start(move |request| served.answer(request));
        let room = Room::new();
        let error = room.pull(&at(server.address)).unwrap_err();
        let DistributionError::Invalid(message) = error else {
            panic!("{error:?}");
        };
        assert!(message.contains(part), "{message}");
        assert!(!room.oci.has_blob(&sha256(&sample.layers[0])));
        // Not even the beginning of it.
        for file in room.files() {
            assert_eq!(
                std::fs::metadata(&file).unwrap().len(),
                0,
                "{}",
                file.display()
            );
        }
    }
}

#[test]
fn more_than_announced_is_not_taken() {
    let sample = Sample::new(&[100_000]);
    let served = sample.clone();
    // Without a length, only counting helps.
    let server = Server::start(move |request| {
        if !served.is_layer(request) {
            return served.answer(request);
        }
        let mut chunks = format!("{:x}\r\n", 5_000_000).into_bytes();
        chunks.extend(vec![7; 5_000_000]);
        chunks.extend(b"\r\n0\r\n\r\n");
        Answer::ok(chunks).header("Transfer-Encoding", "chunked")
    });
    let room = Room::new();
    let error = room.pull(&at(server.address)).unwrap_err().to_string();
    assert!(error.contains("more of"), "{error}");
}

#[test]
fn a_blob_with_another_content_than_the_image_says_is_found_out() {
    // The blob's digest is right, but the configuration is about another layer.
    let sample = Sample::new(&[1000]);
    let other = Sample::new(&[2000]);
    let text = String::from_utf8(sample.manifest.clone()).unwrap();
    let config = |sample: &Sample| {
        let size = sample.config_json.len();
        format!(
            r#""digest":"{}","size":{size}"#,
            sha256(&sample.config_json)
        )
    };
    let mut served = sample.clone();
    served.manifest = text.replace(&config(&sample), &config(&other)).into_bytes();
    served.blobs.extend(other.blobs);
    let server = Server::start(move |request| served.answer(request));
    let room = Room::new();
    let image = room.pull(&at(server.address)).unwrap();
    let error = room
        .oci
        .open_layer(&image.layers[0])
        .unwrap()
        .finish()
        .unwrap_err();
    assert!(error.to_string().contains("but the image says"), "{error}");
}

#[test]
fn a_blob_that_the_disk_has_damaged_is_removed() {
    let sample = Sample::new(&[100_000]);
    let served = sample.clone();
    let server = Server::start(move |request| served.answer(request));
    let room = Room::new();
    let image = room.pull(&at(server.address)).unwrap();
    let path = room.files().pop().unwrap();
    let mut content = std::fs::read(&path).unwrap();
    content[50_000] ^= 1;
    std::fs::write(&path, content).unwrap();
    let error = room
        .oci
        .open_layer(&image.layers[0])
        .unwrap()
        .finish()
        .unwrap_err();
    assert!(error.to_string().contains("try again"), "{error}");
    room.pull(&at(server.address)).unwrap();
    assert_eq!(room.read(&image.layers[0]), sample.archives[0]);
    // One that is too short isn't even opened.
    std::fs::write(&path, "short").unwrap();
    assert!(room.oci.open_layer(&image.layers[0]).is_err());
    room.pull(&at(server.address)).unwrap();
    assert_eq!(room.read(&image.layers[0]), sample.archives[0]);
}

#[test]
fn refusals_say_what_to_do() {
    for (status, part) in [
        ("404 Not Found", "klee image login"),
        ("403 Forbidden", "klee image login"),
        ("500 Internal Server Error", "try again later"),
        ("418 I'm a teapot", "418"),
    ] {
        let server = Server::start(move |request| match request.path.as_str() {
            "/v2/" => Answer::ok("{}"),
            _ => Answer::new(
                status,
                r#"{"errors":[{"code":"X","message":"said\nthe \u001b[1mserver"}]}"#,
            ),
        });
        let error = Room::new()
            .pull(&at(server.address))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(part) && error.contains("/team/app:1"),
            "{error}"
        );
        assert!(error.contains("said the  [1mserver"), "{error:?}");
    }
}

#[test]
fn too_many_requests_are_waited_out_if_it_is_not_long() {
    let sample = Sample::new(&[1000]);
    let server = faulty(
        &sample,
        vec![|_| Answer::new("429 Too Many Requests", "").header("Retry-After", "1")],
    );
    let room = Room::new();
    let start = Instant::now();
    room.pull(&at(server.address)).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));

    let server = faulty(
        &sample,
        vec![|_| Answer::new("429 Too Many Requests", "").header("Retry-After", "3600")],
    );
    let error = Room::new()
        .pull(&at(server.address))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("in 3600 s") && error.contains("klee image login"),
        "{error}"
    );
    assert_eq!(server.count("GET /v2/team/app/blobs/"), 2);
}

#[test]
fn cancelling_does_not_wait_for_a_silent_server() {
    let sample = Sample::new(&[1_000_000, 1_000_000]);
    let fault: fn(Answer) -> Answer = |answer| answer.stall_after(100_000);
    let server = faulty(&sample, vec![fault; 2]);
    let room = Room::new();
    let image = room
        .oci
        .resolve(&at(server.address), &amd64(), None)
        .unwrap();
    let start = Instant::now();
    let mut told = 0;
    let error = room
        .oci
        .fetch_layers(&image, &[0, 1], None, &mut |progress| {
            if progress.done >= 100_000 {
                told += 1;
            }
            // The heartbeat goes on although nothing comes any more.
            if told > 3 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
    assert!(
        matches!(error, Err(DistributionError::Cancelled)),
        "{error:?}"
    );
    assert!(start.elapsed() < Duration::from_secs(10));
    // What has arrived isn't lost.
    let sizes = room
        .files()
        .iter()
        .map(|file| std::fs::metadata(file).unwrap().len())
        .max();
    assert!(sizes.unwrap() >= 100_000);
}

#[test]
fn one_layer_is_downloaded_once_by_two_at_once() {
    let sample = Sample::new(&[2_000_000]);
    let served = sample.clone();
    let server = Server::start(move |request| served.answer(request));
    let room = Room::new();
    let reference = at(server.address);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| room.pull(&reference).unwrap());
        }
    });
    assert_eq!(
        server
            .requests()
            .iter()
            .filter(|request| sample.is_layer(request))
            .count(),
        1
    );
}

#[test]
fn mirrors_come_first_and_needn_t_work() {
    let sample = Sample::new(&[100_000]);
    let served = sample.clone();
    let registry = Server::start(move |request| served.answer(request));
    let served = sample.clone();
    let good = Server::start(move |request| served.answer(request));
    let served = sample.clone();
    let damaged = Server::start(move |request| match served.is_layer(request) {
        true => Answer::ok(noise(served.layers[0].len(), 3)),
        false => served.answer(request),
    });
    let broken = Server::start(|_| Answer::new("500 Internal Server Error", ""));
    let with = |mirrors: &[&Server]| {
        let mut config = quick();
        let own = RegistryConfig {
            mirrors: mirrors
                .iter()
                .map(|server| format!("http://{}/cache", server.address).parse().unwrap())
                .collect(),
            ..RegistryConfig::default()
        };
        config.registries.insert(at(registry.address).registry, own);
        Room::with(config)
    };
    let who = crate::common::password("secret");
    let image = with(&[&good])
        .pull_as(&at(registry.address), Some(&who))
        .unwrap();
    assert_eq!(image.reference, at(registry.address));
    assert_eq!(registry.requests().len(), 0);
    assert_eq!(good.count("GET /v2/cache/team/app/"), 3);
    assert!(
        good.requests()
            .iter()
            .all(|request| request.header("authorization").is_none())
    );

    let room = with(&[&broken, &damaged]);
    let image = room.pull(&at(registry.address)).unwrap();
    assert_eq!(room.read(&image.layers[0]), sample.archives[0]);
    assert!(broken.requests().len() > 1);
    assert_eq!(
        registry
            .requests()
            .iter()
            .filter(|request| sample.is_layer(request))
            .count(),
        1
    );
}

#[test]
fn only_what_is_wanted_is_fetched() {
    let sample = Sample::new(&[1000, 2000]);
    let served = sample.clone();
    let server = Server::start(move |request| served.answer(request));
    let room = Room::new();
    let image = room
        .oci
        .resolve(&at(server.address), &amd64(), None)
        .unwrap();
    room.oci
        .fetch_layers(&image, &[1], None, &mut go_on)
        .unwrap();
    assert!(!room.oci.has_blob(&image.layers[0].digest));
    assert!(room.oci.has_blob(&image.layers[1].digest));
    let collected = room.oci.collect(&[], Duration::ZERO).unwrap();
    assert_eq!(
        (collected.blobs, collected.bytes),
        (1, image.layers[1].size)
    );
}

#[test]
fn a_mirror_without_the_platform_is_passed_over() {
    let sample = Sample::new(&[1000]);
    let served = sample.clone();
    let registry = Server::start(move |request| served.answer(request));
    let mut other = sample.clone();
    let text = String::from_utf8(other.config_json.clone()).unwrap();
    let arm64 = text.replace("amd64", "arm64").into_bytes();
    let manifest = String::from_utf8(other.manifest.clone()).unwrap();
    let manifest = manifest.replace(sha256(&other.config_json).as_str(), sha256(&arm64).as_str());
    other.manifest = manifest.into_bytes();
    other.blobs.insert(sha256(&arm64).to_string(), arm64);
    let mirror = Server::start(move |request| other.answer(request));
    let mut config = quick();
    let own = RegistryConfig {
        mirrors: vec![format!("http://{}", mirror.address).parse().unwrap()],
        ..RegistryConfig::default()
    };
    config.registries.insert(at(registry.address).registry, own);
    let image = Room::with(config).pull(&at(registry.address)).unwrap();
    assert_eq!(image.config_json, sample.config_json);
    assert_eq!(mirror.count("GET /v2/team/app/manifests/"), 1);
}

#[test]
fn the_longer_digests_are_verified_as_well() {
    let sample = Sample::new(&[50_000]);
    let sha512 = |data: &[u8]| {
        let hash = ring::digest::digest(&ring::digest::SHA512, data);
        Digest::of_hash(DigestAlgorithm::Sha512, hash.as_ref())
    };
    let text = String::from_utf8(sample.manifest.clone()).unwrap();
    let long = sha512(&sample.layers[0]);
    let manifest = text.replace(sha256(&sample.layers[0]).as_str(), long.as_str());
    for damage in [false, true] {
        let mut served = sample.clone();
        served.manifest = manifest.clone().into_bytes();
        let mut layer = sample.layers[0].clone();
        if damage {
            layer[20_000] ^= 1;
        }
        served.blobs.insert(long.to_string(), layer);
        let digest = sha512(&served.manifest);
        let server = Server::start(move |request| match request.path.contains("/manifests/") {
            true => Answer::ok(served.manifest.clone()),
            false => served.answer(request),
        });
        let reference = format!("{}/team/app@{digest}", server.address);
        let room = Room::new();
        let result = room.pull(&reference.parse().unwrap());
        if damage {
            assert!(
                matches!(result, Err(DistributionError::Invalid(_))),
                "{result:?}"
            );
            continue;
        }
        let image = result.unwrap();
        assert_eq!(image.layers[0].digest, long);
        assert_eq!(room.read(&image.layers[0]), sample.archives[0]);
        assert_eq!(
            room.oci
                .collect(std::slice::from_ref(&long), Duration::ZERO)
                .unwrap()
                .blobs,
            0
        );
        assert_eq!(room.oci.collect(&[], Duration::ZERO).unwrap().blobs, 1);
    }
}
