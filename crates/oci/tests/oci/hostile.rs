//! Registries that send what isn't an image, or not the one that was asked for.

use kleene_doors::distribution::{Distribution, DistributionError};

use crate::common::{Answer, Room, Sample, Server, at, sha256};

/// What resolving says when the manifest is this.
fn refused(manifest: impl Into<Vec<u8>>) -> String {
    let mut sample = Sample::new(&[1000]);
    sample.manifest = manifest.into();
    let server = Server::start(move |request| sample.answer(request));
    let room = Room::new();
    let error = room.pull(&at(server.address)).unwrap_err();
    assert!(matches!(error, DistributionError::Invalid(_)), "{error:?}");
    assert_eq!(room.files().len(), 0);
    error.to_string()
}

#[test]
fn what_is_no_image_is_refused() {
    for (manifest, part) in [
        (
            r#"{"schemaVersion":1,"name":"x","fsLayers":[]}"#,
            "schema 1",
        ),
        ("<html>", "can't be understood"),
        (
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.artifact.manifest.v1+json","blobs":[]}"#,
            "isn't a container image",
        ),
    ] {
        let error = refused(manifest);
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn nobody_sends_a_manifest_without_end() {
    let error = refused(vec![b' '; (4 << 20) + 1]);
    assert!(error.contains("larger"), "{error}");
    let text = String::from_utf8(Sample::new(&[1000]).manifest).unwrap();
    let config = Sample::new(&[1000]).config_json.len();
    let huge = text.replacen(&format!("\"size\":{config}"), "\"size\":9999999999", 1);
    let error = refused(huge);
    assert!(error.contains("configuration is larger"), "{error}");
}

#[test]
fn another_configuration_than_named_is_refused() {
    let mut sample = Sample::new(&[1000]);
    let digest = sha256(&sample.config_json).to_string();
    let config = sample.blobs.get_mut(&digest).unwrap();
    // As long as the right one.
    *config = String::from_utf8(config.clone())
        .unwrap()
        .replace("/bin/sh", "/bin/su")
        .into_bytes();
    let server = Server::start(move |request| sample.answer(request));
    let error = Room::new().pull(&at(server.address)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("isn't the one that its manifest names"),
        "{error}"
    );
}

#[test]
fn a_manifest_with_another_digest_is_refused() {
    let sample = Sample::new(&[1000]);
    let wrong = format!("sha256:{}", "0".repeat(64));
    // The one that was asked for…
    let served = sample.clone();
    let server = Server::start(move |request| match request.path.contains("/manifests/") {
        true => Answer::ok(served.manifest.clone()),
        false => served.answer(request),
    });
    let named = format!("{}/team/app@{wrong}", server.address)
        .parse()
        .unwrap();
    let error = Room::new().pull(&named).unwrap_err();
    assert!(error.to_string().contains("instead of"), "{error}");
    let right = format!("{}/team/app:x@{}", server.address, sha256(&sample.manifest));
    let image = Room::new().pull(&right.parse().unwrap()).unwrap();
    assert_eq!(image.digest, sha256(&sample.manifest));
    // …or the one that the registry says it is.
    let served = sample.clone();
    let server = Server::start(move |request| match request.path.contains("/manifests/") {
        true => Answer::ok(served.manifest.clone()).header("Docker-Content-Digest", &wrong),
        false => served.answer(request),
    });
    let error = Room::new().pull(&at(server.address)).unwrap_err();
    assert!(error.to_string().contains("instead of"), "{error}");
}

/// A server with an index of the sample for these platforms; entries name `manifest`.
fn indexed(sample: &Sample, platforms: &[&str], damage: bool) -> Server {
    let entries: Vec<String> = platforms
        .iter()
        .map(|platform| {
            let parts: Vec<&str> = platform.split('/').collect();
            let variant = parts.get(2).map_or(String::new(), |v| format!(r#","variant":"{v}""#));
            format!(
                r#"{{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","size":{},"digest":"{}","platform":{{"os":"{}","architecture":"{}"{variant}}}}}"#,
                sample.manifest.len(),
                sha256(&sample.manifest),
                parts[0],
                parts[1],
            )
        })
        .collect();
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[{}]}}"#,
        entries.join(",")
    );
    let mut sample = sample.clone();
    if damage {
        sample.manifest.push(b' ');
    }
    Server::start(
        move |request| match request.path.ends_with("/manifests/1") {
            true => Answer::ok(index.clone()),
            false => sample.answer(request),
        },
    )
}

#[test]
fn the_platform_s_image_is_taken() {
    let sample = Sample::new(&[1000]);
    let server = indexed(
        &sample,
        &["unknown/unknown", "linux/arm64/v8", "linux/amd64"],
        false,
    );
    let room = Room::new();
    let image = room.pull(&at(server.address)).unwrap();
    assert_eq!(image.manifest_digest, sha256(&sample.manifest));
    assert_ne!(image.digest, image.manifest_digest);
    let freebsd = "freebsd/amd64".parse().unwrap();
    let error = room
        .oci
        .resolve(&at(server.address), &freebsd, None)
        .unwrap_err();
    let DistributionError::NoPlatform(message) = error else {
        panic!("{error:?}");
    };
    assert!(
        message.contains("there is linux/arm64, linux/amd64"),
        "{message}"
    );
    assert!(!message.contains("unknown"), "{message}");
}

#[test]
fn an_index_s_manifest_is_verified() {
    let sample = Sample::new(&[1000]);
    let server = indexed(&sample, &["linux/amd64"], true);
    let error = Room::new().pull(&at(server.address)).unwrap_err();
    assert!(error.to_string().contains("instead of"), "{error}");
}

#[test]
fn an_image_for_another_platform_says_which() {
    let sample = Sample::new(&[1000]);
    let server = Server::start(move |request| sample.answer(request));
    let arm64 = "linux/arm64".parse().unwrap();
    let error = Room::new()
        .oci
        .resolve(&at(server.address), &arm64, None)
        .unwrap_err();
    assert!(
        matches!(&error, DistributionError::NoPlatform(text) if text.contains("linux/amd64")),
        "{error:?}"
    );
}
