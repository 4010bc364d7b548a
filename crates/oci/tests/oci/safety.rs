//! Secrets stay where they belong; nobody is trusted who can't prove it.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kleene_doors::distribution::DistributionError;
use kleene_oci::{Config, RegistryConfig};
use kleene_types::RegistryRef;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::common::{Answer, Request, Room, Sample, Server, at, password, quick};

fn is_kim(request: &Request) -> bool {
    let basic = format!("Basic {}", STANDARD.encode("kim:secret"));
    request.header("authorization") == Some(&basic)
}

/// A registry that wants Basic authentication and sends layers from elsewhere.
fn redirecting(sample: &Sample, to: impl Fn(&Request) -> String + Send + Sync + 'static) -> Server {
    let sample = sample.clone();
    Server::start(move |request| {
        if request.path.starts_with("/elsewhere") {
            return match is_kim(request) {
                true => sample.answer(request),
                false => Answer::new("403 Forbidden", ""),
            };
        }
        if !is_kim(request) {
            return Answer::new("401 Unauthorized", "").header("WWW-Authenticate", "Basic");
        }
        match sample.is_layer(request) {
            true => Answer::redirect(&to(request)),
            false => sample.answer(request),
        }
    })
}

#[test]
fn another_host_doesn_t_see_who_asks() {
    let sample = Sample::new(&[100_000]);
    let served = sample.clone();
    let store = Server::start(move |request| served.answer(request));
    let address = store.address;
    let server = redirecting(&sample, move |request| {
        let digest = request.path.rsplit('/').next().unwrap();
        format!("http://{address}/store/{digest}?signature=x")
    });
    let room = Room::new();
    let image = room
        .pull_as(&at(server.address), Some(&password("secret")))
        .unwrap();
    assert_eq!(room.read(&image.layers[0]), sample.archives[0]);
    let asked = store.requests();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].path.ends_with("?signature=x"));
    assert_eq!(asked[0].header("authorization"), None);
}

#[test]
fn the_same_host_does() {
    let sample = Sample::new(&[1000]);
    let server = redirecting(&sample, |request| format!("/elsewhere{}", request.path));
    let room = Room::new();
    room.pull_as(&at(server.address), Some(&password("secret")))
        .unwrap();
    assert_eq!(server.count("GET /elsewhere"), 1);
}

#[test]
fn circles_and_nonsense_end() {
    for (to, part) in [
        ("/v2/team/app/manifests/1", "more than 5 times"),
        ("ftp://x/y", "isn't an HTTP URL"),
    ] {
        let server = Server::start(move |request| match request.path.as_str() {
            "/v2/" => Answer::ok("{}"),
            _ => Answer::redirect(to),
        });
        let error = Room::new()
            .pull(&at(server.address))
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{error}");
    }
}

/// A certificate for an address that isn't known to be on this host.
fn certificate() -> (String, Arc<rustls::ServerConfig>) {
    let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["0.0.0.0".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    (ca.pem(), Arc::new(config))
}

/// This host, by an address that doesn't say so.
fn abroad(address: SocketAddr) -> RegistryRef {
    format!("0.0.0.0:{}/team/app:1", address.port())
        .parse()
        .unwrap()
}

fn configured(reference: &RegistryRef, own: RegistryConfig) -> Config {
    let mut config = quick();
    config.registries.insert(reference.registry.clone(), own);
    config
}

#[test]
fn only_those_who_are_vouched_for_are_trusted() {
    let sample = Sample::new(&[1000]);
    let (ca, tls) = certificate();
    let server = Server::start_tls(tls, move |request| sample.answer(request));
    let reference = abroad(server.address);
    let error = Room::new().pull(&reference).unwrap_err();
    assert!(error.to_string().contains("can't be trusted"), "{error}");
    assert_eq!(server.requests().len(), 0);

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, ca).unwrap();
    let own = RegistryConfig {
        ca_file: Some(file.clone()),
        ..RegistryConfig::default()
    };
    Room::with(configured(&reference, own))
        .pull(&reference)
        .unwrap();
    let everybody = Config {
        ca_file: Some(file),
        ..quick()
    };
    Room::with(everybody).pull(&reference).unwrap();
    let own = RegistryConfig {
        insecure: true,
        ..RegistryConfig::default()
    };
    Room::with(configured(&reference, own))
        .pull(&reference)
        .unwrap();

    for (name, content) in [
        ("missing.pem", None),
        ("empty.pem", Some("no certificates")),
    ] {
        let file = dir.path().join(name);
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let own = RegistryConfig {
            ca_file: Some(file),
            ..RegistryConfig::default()
        };
        let error = Room::with(configured(&reference, own))
            .pull(&reference)
            .unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn without_encryption_only_where_that_is_allowed() {
    let sample = Sample::new(&[1000]);
    let server = Server::start(move |request| sample.answer(request));
    let reference = abroad(server.address);
    let error = Room::new().pull(&reference).unwrap_err();
    assert!(
        matches!(error, DistributionError::Unreachable(_)),
        "{error:?}"
    );
    assert_eq!(server.requests().len(), 0);
    let own = RegistryConfig {
        insecure: true,
        ..RegistryConfig::default()
    };
    Room::with(configured(&reference, own))
        .pull(&reference)
        .unwrap();
}

#[test]
fn a_safe_registry_leads_to_no_unsafe_place() {
    let sample = Sample::new(&[1000]);
    let (ca, tls) = certificate();
    let plain = Server::start(|_| Answer::ok("{}"));
    let address = plain.address;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, ca).unwrap();
    let config = Config {
        ca_file: Some(file),
        ..quick()
    };
    let served = sample.clone();
    let server = Server::start_tls(Arc::clone(&tls), move |request| {
        match served.is_layer(request) {
            true => Answer::redirect(&format!("http://{address}/x")),
            false => served.answer(request),
        }
    });
    let error = Room::with(config.clone())
        .pull(&abroad(server.address))
        .unwrap_err();
    assert!(error.to_string().contains("unencrypted"), "{error}");
    let server = Server::start_tls(tls, move |_| {
        let realm = format!(r#"Bearer realm="http://{address}/token""#);
        Answer::new("401 Unauthorized", "").header("WWW-Authenticate", &realm)
    });
    let error = Room::with(config)
        .pull_as(&abroad(server.address), Some(&password("secret")))
        .unwrap_err();
    assert!(error.to_string().contains("unencrypted"), "{error}");
    assert_eq!(plain.requests().len(), 0);
}

#[test]
fn nobody_there_is_said() {
    let gone = Server::start(|_| Answer::ok("")).address;
    let error = Room::new().pull(&at(gone)).unwrap_err();
    assert!(
        matches!(&error, DistributionError::Unreachable(text) if text.contains("refuses the connection")),
        "{error:?}"
    );
    let error = Room::new()
        .pull(&"registry.invalid/a".parse().unwrap())
        .unwrap_err();
    assert!(
        matches!(&error, DistributionError::Unreachable(_)),
        "{error:?}"
    );
}
