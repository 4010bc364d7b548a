//! Who asks: challenges, tokens, refusals.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kleene_doors::distribution::{Credentials, Distribution, DistributionError, Login};

use crate::common::{Answer, Room, Sample, Server, amd64, at, password};

/// A registry that takes the tokens of a service.
struct Guarded {
    registry: Server,
    tokens: Server,
}

impl Guarded {
    /// The service gives out `token0`, `token1`… to `kim` with the password `secret`, or who has the
    /// refresh token `refresh`; the registry takes those of `good`.
    fn start(sample: &Sample, good: &'static [&'static str]) -> Self {
        let given = AtomicUsize::new(0);
        let tokens = Server::start(move |request| {
            let basic = format!("Basic {}", STANDARD.encode("kim:secret"));
            let body = String::from_utf8(request.body.clone()).unwrap();
            let known = request.header("authorization") == Some(&basic)
                || body.contains("refresh_token=refresh");
            if !known {
                return Answer::new("401 Unauthorized", r#"{"details":"wrong password"}"#);
            }
            let number = given.fetch_add(1, Ordering::SeqCst);
            Answer::ok(format!(
                r#"{{"token":"token{number}","expires_in":300,"refresh_token":"kept"}}"#
            ))
        });
        let challenge = format!(
            r#"Bearer realm="http://{}/token?x=y",service="the registry",scope="repository:team/app:pull""#,
            tokens.address
        );
        let sample = sample.clone();
        let registry = Server::start(move |request| {
            let token = request.header("authorization").unwrap_or_default();
            if good.iter().any(|good| token == format!("Bearer {good}")) {
                return sample.answer(request);
            }
            Answer::new(
                "401 Unauthorized",
                r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#,
            )
            .header("WWW-Authenticate", &challenge)
        });
        Self { registry, tokens }
    }
}

#[test]
fn one_token_serves_a_whole_pull() {
    let sample = Sample::new(&[1000, 2000]);
    let guarded = Guarded::start(&sample, &["token0"]);
    let room = Room::new();
    let image = room
        .pull_as(&at(guarded.registry.address), Some(&password("secret")))
        .unwrap();
    assert_eq!(room.read(&image.layers[1]), sample.archives[1]);
    let asked = guarded.tokens.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].path,
        "/token?x=y&service=the%20registry&scope=repository%3Ateam%2Fapp%3Apull&account=kim"
    );
    // The password goes to the service only.
    for request in guarded.registry.requests() {
        let shown = request.header("authorization").unwrap_or_default();
        assert!(!shown.starts_with("Basic"), "{shown}");
    }
    // Somebody else isn't let in with it.
    let error = room
        .oci
        .resolve(&at(guarded.registry.address), &amd64(), None);
    assert!(
        matches!(error, Err(DistributionError::Denied(_))),
        "{error:?}"
    );
}

#[test]
fn refresh_tokens_are_posted() {
    let sample = Sample::new(&[1000]);
    let guarded = Guarded::start(&sample, &["token0"]);
    let who = Credentials::IdentityToken("refresh".to_owned());
    Room::new()
        .pull_as(&at(guarded.registry.address), Some(&who))
        .unwrap();
    let asked = guarded.tokens.requests();
    assert_eq!(asked[0].method, "POST");
    let body = String::from_utf8(asked[0].body.clone()).unwrap();
    for part in [
        "grant_type=refresh_token",
        "service=the%20registry",
        "scope=repository%3Ateam",
    ] {
        assert!(body.contains(part), "{body}");
    }
}

#[test]
fn a_token_that_has_ended_is_replaced_once() {
    let sample = Sample::new(&[1000]);
    // The first one is refused already.
    let guarded = Guarded::start(&sample, &["token1"]);
    let room = Room::new();
    let reference = at(guarded.registry.address);
    let who = password("secret");
    let error = room.pull_as(&reference, Some(&who)).unwrap_err();
    assert!(
        matches!(&error, DistributionError::Denied(text) if text.contains("klee image login")),
        "{error:?}"
    );
    assert_eq!(guarded.tokens.requests().len(), 1);
    room.pull_as(&reference, Some(&who)).unwrap();
    assert_eq!(guarded.tokens.requests().len(), 2);
}

#[test]
fn wrong_passwords_are_said_to_be_wrong() {
    let sample = Sample::new(&[1000]);
    let guarded = Guarded::start(&sample, &["token0"]);
    let room = Room::new();
    let reference = at(guarded.registry.address);
    let error = room
        .pull_as(&reference, Some(&password("nonsense")))
        .unwrap_err();
    assert!(
        matches!(&error, DistributionError::Denied(text) if text.contains("wrong password")),
        "{error:?}"
    );
    let error = room.pull(&reference).unwrap_err().to_string();
    assert!(
        error.contains("not found") && error.contains("klee image login"),
        "{error}"
    );

    let registry = &reference.registry;
    let login = room.oci.check_login(registry, &password("nonsense"));
    assert!(
        matches!(login, Err(DistributionError::Denied(_))),
        "{login:?}"
    );
    let login = room.oci.check_login(registry, &password("secret")).unwrap();
    assert_eq!(
        login,
        Login {
            identity_token: Some("kept".to_owned())
        }
    );
    let asked = guarded.tokens.requests();
    assert!(asked.last().unwrap().path.contains("offline_token=true"));
}

#[test]
fn basic_authentication() {
    let sample = Sample::new(&[1000]);
    let server = Server::start(move |request| {
        let basic = format!("Basic {}", STANDARD.encode("kim:secret"));
        match request.header("authorization") == Some(&basic) {
            true => sample.answer(request),
            false => {
                Answer::new("401 Unauthorized", "").header("WWW-Authenticate", r#"Basic realm="x""#)
            }
        }
    });
    let room = Room::new();
    let reference = at(server.address);
    room.pull_as(&reference, Some(&password("secret"))).unwrap();
    for who in [
        None,
        Some(password("nonsense")),
        Some(Credentials::IdentityToken("x".into())),
    ] {
        let error = room.pull_as(&reference, who.as_ref()).unwrap_err();
        assert!(matches!(error, DistributionError::Denied(_)), "{error:?}");
    }
    let registry = &reference.registry;
    room.oci.check_login(registry, &password("secret")).unwrap();
    assert!(
        room.oci
            .check_login(registry, &password("nonsense"))
            .is_err()
    );
}

#[test]
fn a_registry_s_own_token_is_sent_as_it_is() {
    let sample = Sample::new(&[1000]);
    let guarded = Guarded::start(&sample, &["mine"]);
    let who = Credentials::RegistryToken("mine".to_owned());
    Room::new()
        .pull_as(&at(guarded.registry.address), Some(&who))
        .unwrap();
    assert_eq!(guarded.tokens.requests().len(), 0);
}

#[test]
fn strange_challenges_and_tokens_are_refused() {
    let strange = Server::start(|_| Answer::ok(r#"{"token":"a b\r\nX: y"}"#));
    let empty = Server::start(|_| Answer::ok("{}"));
    let broken = Server::start(|_| Answer::ok("<html>"));
    for (challenge, part) in [
        ("Negotiate".to_owned(), "klee image login"),
        (r#"Bearer realm="nonsense""#.to_owned(), "isn't"),
        (r#"Bearer realm="file:///etc/passwd""#.to_owned(), "isn't"),
        (
            format!(r#"Bearer realm="http://{}/""#, strange.address),
            "no token",
        ),
        (
            format!(r#"Bearer realm="http://{}/""#, empty.address),
            "no token",
        ),
        (
            format!(r#"Bearer realm="http://{}/""#, broken.address),
            "understood",
        ),
    ] {
        let challenge = Arc::new(challenge);
        let shown = Arc::clone(&challenge);
        let server = Server::start(move |_| {
            Answer::new("401 Unauthorized", "").header("WWW-Authenticate", &shown)
        });
        let error = Room::new()
            .pull(&at(server.address))
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{challenge}: {error}");
    }
}
