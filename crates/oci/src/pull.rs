//! From a reference to an image's layers.

use kleene_doors::distribution::{
    Credentials, DistributionError, ImageConfig, ProgressSink, RemoteImage,
};
use kleene_types::{Digest, DigestAlgorithm, Platform, RegistryRef};
use ureq::http::{HeaderName, header};

use crate::OciDistribution;
use crate::download::{self, Wanted};
use crate::error::{Subject, Trouble};
use crate::hash::digest;
use crate::manifest::{self, Descriptor, Document, MAX_CONFIG, MAX_MANIFEST, Manifest};
use crate::parallel;
use crate::wire::{self, Access, Ask, Endpoint, Session};

/// An index may name indices, but not endlessly.
const MAX_DEPTH: usize = 3;

/// The ways to an image: mirrors first, and last the registry itself.
fn sources<'a>(
    room: &'a OciDistribution,
    session: &'a Session<'a>,
    reference: &RegistryRef,
    credentials: Option<&Credentials>,
) -> Vec<Access<'a>> {
    let config = &room.config;
    let own = config.registries.get(&reference.registry);
    let mirrors = own.map_or(&[][..], |own| &own.mirrors);
    let access = |endpoint, credentials| {
        let repository = Some((&reference.repository, "pull"));
        Access::new(session, room.wire(), endpoint, repository, credentials)
    };
    // What is known to the registry is nothing for somebody else's ears.
    let mirrors = mirrors
        .iter()
        .map(|mirror| access(Endpoint::mirror(config, mirror), None));
    let registry = Endpoint::registry(config, &reference.registry);
    mirrors.chain([access(registry, credentials)]).collect()
}

/// Reads manifest and configuration.
pub(crate) fn resolve(
    room: &OciDistribution,
    reference: &RegistryRef,
    platform: &Platform,
    credentials: Option<&Credentials>,
) -> Result<RemoteImage, DistributionError> {
    let session = Session::new(&room.config);
    let what = format!("'{}'", reference.familiar());
    let subject = Subject {
        what: &what,
        registry: &reference.registry,
        known: credentials.is_some(),
    };
    let sources = sources(room, &session, reference, credentials);
    let mut last = Trouble::Cancelled;
    for source in &sources {
        match Resolving::new(source, reference, platform).image() {
            Ok(image) => return Ok(image),
            // A mirror may lack what the registry has, whatever that is.
            Err(trouble) => last = trouble,
        }
    }
    Err(subject.explain(last))
}

/// Downloads layers.
pub(crate) fn fetch_layers(
    room: &OciDistribution,
    image: &RemoteImage,
    wanted: &[usize],
    credentials: Option<&Credentials>,
    progress: ProgressSink<'_>,
) -> Result<(), DistributionError> {
    let session = Session::new(&room.config);
    let what = format!("'{}'", image.reference.familiar());
    let subject = Subject {
        what: &what,
        registry: &image.reference.registry,
        known: credentials.is_some(),
    };
    let mut jobs: Vec<(Digest, u64, Wanted)> = Vec::new();
    for layer in wanted.iter().filter_map(|index| image.layers.get(*index)) {
        if jobs.iter().any(|(digest, ..)| *digest == layer.digest) {
            continue;
        }
        let wanted = Wanted {
            digest: layer.digest.clone(),
            size: layer.size,
        };
        jobs.push((layer.digest.clone(), layer.size, wanted));
    }
    // The largest take longest: they begin first.
    jobs.sort_by_key(|(_, size, _)| std::cmp::Reverse(*size));
    let result = parallel::run(&session, &jobs, progress, |wanted, reporter| {
        let sources = sources(room, &session, &image.reference, credentials);
        download::fetch(&session, &room.blobs, &sources, wanted, reporter)
    });
    result.map_err(|trouble| subject.explain(trouble))
}

/// One way from a reference to an image.
struct Resolving<'a, 's> {
    source: &'s Access<'a>,
    reference: &'s RegistryRef,
    platform: &'s Platform,
}

impl<'a, 's> Resolving<'a, 's> {
    fn new(source: &'s Access<'a>, reference: &'s RegistryRef, platform: &'s Platform) -> Self {
        Self {
            source,
            reference,
            platform,
        }
    }

    fn image(&self) -> Result<RemoteImage, Trouble> {
        let (document, digest) =
            self.document(&self.reference.wanted(), self.reference.digest.as_ref())?;
        let (manifest, manifest_digest, chosen) = match document {
            Document::Image(manifest) => (manifest, digest.clone(), false),
            Document::Index(entries) => {
                let (manifest, digest) = self.choose(entries, 1)?;
                (manifest, digest, true)
            }
        };
        let config_json = self.config(&manifest.config)?;
        let config = ImageConfig::from_json(&config_json).map_err(|error| {
            Trouble::content(format!("its configuration can't be understood: {error}"))
        })?;
        let own = config.platform();
        // An index has been believed already; and old tools wrote no platform.
        if !chosen && !own.os().is_empty() && self.platform.suits(&own).is_none() {
            return Err(self.no_platform(&[own]));
        }
        let layers = manifest.layers(&config).map_err(Trouble::content)?;
        Ok(RemoteImage {
            reference: self.reference.clone(),
            digest,
            manifest_digest,
            config_digest: manifest.config.digest,
            config_json,
            config,
            layers,
        })
    }

    fn choose(
        &self,
        entries: Vec<Descriptor>,
        depth: usize,
    ) -> Result<(Manifest, Digest), Trouble> {
        let chosen = manifest::choose(&entries, self.platform)
            .map_err(|none| self.no_platform(&none.offered))?;
        let digest = chosen.digest.clone();
        match self.document(digest.as_str(), Some(&digest))? {
            (Document::Image(manifest), _) => Ok((manifest, digest)),
            (Document::Index(entries), _) if depth < MAX_DEPTH => self.choose(entries, depth + 1),
            _ => Err(Trouble::content("its indices name each other without end")),
        }
    }

    fn no_platform(&self, offered: &[Platform]) -> Trouble {
        Trouble::Final(no_platform(
            &format!("'{}'", self.reference.familiar()),
            self.platform,
            offered,
        ))
    }

    fn document(
        &self,
        wanted: &str,
        expected: Option<&Digest>,
    ) -> Result<(Document, Digest), Trouble> {
        let ask = Ask::get(self.source.path(&format!("manifests/{wanted}")))
            .header(header::ACCEPT, manifest::accepted());
        self.source.session().persist(|| {
            let response = self.source.send(&ask)?;
            let name = HeaderName::from_static("docker-content-digest");
            let said: Option<Digest> =
                wire::header(&response, name).and_then(|text| text.parse().ok());
            let bytes = wire::small_body(response, MAX_MANIFEST, "manifest")?;
            // A registry that contradicts itself has been damaged on the way.
            let expected = expected.or(said.as_ref());
            let algorithm = expected.map_or(DigestAlgorithm::Sha256, Digest::algorithm);
            let digest = digest(algorithm, &bytes);
            if let Some(expected) = expected.filter(|expected| **expected != digest) {
                return Err(Trouble::content(format!(
                    "its manifest has the digest {digest} instead of {expected}"
                )));
            }
            let document = manifest::parse(&bytes).map_err(Trouble::content)?;
            Ok((document, digest))
        })
    }

    fn config(&self, config: &Descriptor) -> Result<Vec<u8>, Trouble> {
        let ask = Ask::get(self.source.path(&format!("blobs/{}", config.digest)));
        self.source.session().persist(|| {
            let response = self.source.send(&ask)?;
            let bytes = wire::small_body(response, MAX_CONFIG, "configuration")?;
            if bytes.len() as u64 != config.size
                || digest(config.digest.algorithm(), &bytes) != config.digest
            {
                return Err(Trouble::content(
                    "its configuration isn't the one that its manifest names",
                ));
            }
            Ok(bytes)
        })
    }
}

/// The error for an image that isn't there for the wanted platform.
pub(crate) fn no_platform(
    what: &str,
    wanted: &Platform,
    offered: &[Platform],
) -> DistributionError {
    let offered: Vec<String> = offered.iter().map(Platform::to_string).collect();
    let there = match offered.as_slice() {
        [] => "there is none that runs anywhere".to_owned(),
        offered => format!("there is {}", offered.join(", ")),
    };
    DistributionError::NoPlatform(format!("{what} isn't there for {wanted}: {there}"))
}
