//! Pushing to registries with a will of their own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kleene_doors::distribution::{
    BlobStep, Compression, Distribution, DistributionError, ImageConfig, OutgoingImage,
};

use crate::common::{Answer, Request, Room, Server, at, go_on, noting, sha256, tar_of};

/// What a registry has been given.
#[derive(Default)]
struct Store {
    blobs: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<String, Vec<u8>>,
    begun: usize,
    manifests: BTreeMap<String, Vec<u8>>,
}

/// How it differs from others.
#[derive(Default, Clone, Copy)]
struct Habits {
    least: Option<usize>,
    refuses_whole: bool,
    mounts: bool,
}

fn parameter<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    let (_, query) = request.path.split_once('?')?;
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn decoded(text: &str) -> String {
    text.replace("%3A", ":").replace("%2F", "/")
}

impl Store {
    fn answer(&mut self, habits: Habits, request: &Request) -> Answer {
        let path = request.path.split('?').next().unwrap().to_owned();
        let last = path.rsplit('/').next().unwrap().to_owned();
        match request.method.as_str() {
            "GET" => Answer::ok("{}"),
            "HEAD" => match self.blobs.contains_key(&last) {
                true => Answer::ok(""),
                false => Answer::not_found(),
            },
            "POST" => self.begin(habits, request),
            "PATCH" => {
                let upload = self.uploads.get_mut(&last).unwrap();
                let range = request.header("content-range").unwrap();
                let expected =
                    format!("{}-{}", upload.len(), upload.len() + request.body.len() - 1);
                if range != expected {
                    return Answer::new("416 Range Not Satisfiable", "");
                }
                upload.extend(&request.body);
                Answer::new("202 Accepted", "").header("Location", &path)
            }
            "PUT" if path.contains("/manifests/") => {
                self.manifests.insert(last, request.body.clone());
                Answer::new("201 Created", "")
                    .header("Docker-Content-Digest", sha256(&request.body).as_str())
            }
            "PUT" => {
                if habits.refuses_whole && !request.body.is_empty() {
                    return Answer::new("413 Payload Too Large", "");
                }
                let mut content = self.uploads.remove(&last).unwrap();
                content.extend(&request.body);
                let digest = decoded(parameter(request, "digest").unwrap());
                if sha256(&content).as_str() != digest {
                    return Answer::new(
                        "400 Bad Request",
                        r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#,
                    );
                }
                self.blobs.insert(digest, content);
                Answer::new("201 Created", "")
            }
            other => panic!("{other}"),
        }
    }

    fn upload(&mut self) -> String {
        let name = format!("u{}", self.begun);
        self.begun += 1;
        self.uploads.insert(name.clone(), Vec::new());
        name
    }

    fn begin(&mut self, habits: Habits, request: &Request) -> Answer {
        if let Some(digest) = parameter(request, "mount")
            && habits.mounts
        {
            assert_eq!(parameter(request, "from"), Some("team%2Fbase"));
            self.blobs.insert(decoded(digest), Vec::new());
            return Answer::new("201 Created", "");
        }
        let name = self.upload();
        // Relative, as it may be.
        let answer = Answer::new("202 Accepted", "").header("Location", &name);
        match habits.least {
            Some(least) => answer.header("OCI-Chunk-Min-Length", &least.to_string()),
            None => answer,
        }
    }
}

fn registry(habits: Habits) -> (Server, Arc<Mutex<Store>>) {
    let store = Arc::new(Mutex::new(Store::default()));
    let shared = Arc::clone(&store);
    let server = Server::start(move |request| shared.lock().unwrap().answer(habits, request));
    (server, store)
}

/// An image whose layers are archives with files of these sizes.
fn image(room: &Room, sizes: &[usize]) -> OutgoingImage {
    let layers: Vec<_> = sizes
        .iter()
        .map(|size| {
            let archive = tar_of("file", &vec![7; *size]);
            room.oci
                .add_layer(Compression::None, &mut |to| to.write_all(&archive))
                .unwrap()
        })
        .collect();
    let config = ImageConfig {
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        diff_ids: layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        ..ImageConfig::default()
    };
    OutgoingImage {
        config_json: config.to_json(),
        layers,
        related: Vec::new(),
    }
}

#[test]
fn blobs_go_whole_and_only_once() {
    let (server, store) = registry(Habits::default());
    let room = Room::new();
    let image = image(&room, &[100_000, 200_000, 100_000]);
    let digest = room
        .oci
        .push(&at(server.address), &image, None, &mut go_on)
        .unwrap();
    let store = store.lock().unwrap();
    assert_eq!(sha256(&store.manifests["1"]), digest);
    assert_eq!(store.blobs.len(), 3);
    drop(store);
    assert_eq!(server.count("PUT /v2/team/app/blobs/"), 3);
    let mut steps = Vec::new();
    room.oci
        .push(&at(server.address), &image, None, &mut noting(&mut steps))
        .unwrap();
    assert_eq!(server.count("PUT /v2/team/app/blobs/"), 3);
    assert!(!steps.contains(&BlobStep::Uploading), "{steps:?}");
    assert!(steps.contains(&BlobStep::Exists), "{steps:?}");
}

#[test]
fn blobs_go_in_pieces_where_that_is_wanted() {
    for habits in [
        Habits {
            least: Some(20 << 20),
            ..Habits::default()
        },
        Habits {
            refuses_whole: true,
            ..Habits::default()
        },
    ] {
        let (server, store) = registry(habits);
        let room = Room::new();
        let image = image(&room, &[21 << 20, 10]);
        room.oci
            .push(&at(server.address), &image, None, &mut go_on)
            .unwrap();
        let store = store.lock().unwrap();
        assert_eq!(store.blobs.len(), 3);
        let size = store.blobs[image.layers[0].digest.as_str()].len() as u64;
        assert_eq!(size, image.layers[0].size);
        // Two pieces of the large one, one of each of the others.
        assert_eq!(server.count("PATCH"), 4);
    }
}

#[test]
fn what_another_repository_has_is_mounted() {
    let (server, store) = registry(Habits {
        mounts: true,
        ..Habits::default()
    });
    let room = Room::new();
    let mut image = image(&room, &[1000]);
    image.related = vec![
        "elsewhere.example/team/base".parse().unwrap(),
        format!("{}/team/base:9", server.address).parse().unwrap(),
    ];
    let mut steps = Vec::new();
    room.oci
        .push(&at(server.address), &image, None, &mut noting(&mut steps))
        .unwrap();
    assert!(steps.contains(&BlobStep::Mounted), "{steps:?}");
    assert_eq!(store.lock().unwrap().manifests.len(), 1);
    // A registry that can't begins an upload instead, which isn't wasted.
    let (server, store) = registry(Habits::default());
    let mut image = self::image(&room, &[2000]);
    image.related = vec![format!("{}/team/base", server.address).parse().unwrap()];
    room.oci
        .push(&at(server.address), &image, None, &mut go_on)
        .unwrap();
    assert_eq!(server.count("POST"), 2);
    assert!(store.lock().unwrap().uploads.is_empty());
}

#[test]
fn a_failing_upload_is_tried_again() {
    let (store, failures) = (Mutex::new(Store::default()), Mutex::new(2));
    let server = Server::start(move |request| {
        let mut left = failures.lock().unwrap();
        if request.method == "PUT" && *left > 0 {
            *left -= 1;
            return Answer::new("503 Service Unavailable", "");
        }
        store.lock().unwrap().answer(Habits::default(), request)
    });
    let room = Room::new();
    let image = image(&room, &[100_000]);
    let mut steps = Vec::new();
    room.oci
        .push(&at(server.address), &image, None, &mut noting(&mut steps))
        .unwrap();
    assert!(
        steps
            .iter()
            .any(|step| matches!(step, BlobStep::Retrying(_))),
        "{steps:?}"
    );
}

#[test]
fn uploads_elsewhere_don_t_see_who_asks() {
    let (elsewhere, store) = registry(Habits::default());
    let (address, uploads) = (elsewhere.address, Arc::clone(&store));
    let server = Server::start(move |request| match request.method.as_str() {
        "GET" => Answer::ok("{}"),
        "HEAD" => Answer::not_found(),
        "PUT" => Answer::new("201 Created", ""),
        _ if request.header("authorization").is_none() => {
            Answer::new("401 Unauthorized", "").header("WWW-Authenticate", "Basic")
        }
        _ => {
            let name = uploads.lock().unwrap().upload();
            Answer::new("202 Accepted", "")
                .header("Location", &format!("http://{address}/up/{name}"))
        }
    });
    let room = Room::new();
    let image = image(&room, &[1000]);
    let who = crate::common::password("secret");
    room.oci
        .push(&at(server.address), &image, Some(&who), &mut go_on)
        .unwrap();
    let requests = elsewhere.requests();
    assert_eq!(requests.len(), 2);
    assert!(
        requests
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
    assert_eq!(store.lock().unwrap().blobs.len(), 2);
}

#[test]
fn what_can_t_be_pushed_is_said_before() {
    let (server, _) = registry(Habits::default());
    let room = Room::new();
    let whole = image(&room, &[1000]);
    let missing = OutgoingImage {
        layers: Vec::new(),
        ..whole.clone()
    };
    let error = room
        .oci
        .push(&at(server.address), &missing, None, &mut go_on)
        .unwrap_err();
    assert!(matches!(error, DistributionError::Invalid(_)), "{error:?}");
    assert_eq!(server.requests().len(), 0);
    room.oci.discard(&[whole.layers[0].digest.clone()]).unwrap();
    let error = room
        .oci
        .push(&at(server.address), &whole, None, &mut go_on)
        .unwrap_err();
    assert!(matches!(error, DistributionError::NotFound(_)), "{error:?}");
    let server = Server::start(|request| match request.method.as_str() {
        "GET" => Answer::ok("{}"),
        "HEAD" => Answer::not_found(),
        _ => Answer::new("403 Forbidden", ""),
    });
    let image = image(&room, &[1000]);
    let error = room
        .oci
        .push(&at(server.address), &image, None, &mut go_on)
        .unwrap_err();
    assert!(
        matches!(&error, DistributionError::Denied(text) if text.contains("klee image login")),
        "{error:?}"
    );
}

#[test]
fn cancelling_a_push_ends_it() {
    let (server, store) = registry(Habits::default());
    let room = Room::new();
    let image = image(&room, &[3_000_000]);
    let error = room.oci.push(
        &at(server.address),
        &image,
        None,
        &mut |progress| match progress.step {
            BlobStep::Uploading => std::ops::ControlFlow::Break(()),
            _ => std::ops::ControlFlow::Continue(()),
        },
    );
    assert!(
        matches!(error, Err(DistributionError::Cancelled)),
        "{error:?}"
    );
    assert!(store.lock().unwrap().manifests.is_empty());
}
