//! Sends an image to a registry (distribution specification, "Push").

use std::io::{self, Read, Seek, SeekFrom};

use kleene_doors::distribution::{
    BlobStep, Credentials, DistributionError, OutgoingImage, ProgressSink,
};
use kleene_types::{Digest, RegistryRef, Repository};
use ureq::Body;
use ureq::http::{HeaderName, Method, Response, StatusCode, header};

use crate::OciDistribution;
use crate::error::{Subject, Trouble};
use crate::manifest::{OCI_MANIFEST, Outgoing};
use crate::parallel::{self, Reporter};
use crate::wire::{self, Access, Ask, Endpoint, Payload, Session};

/// Pieces of a blob, where a registry doesn't take it whole and doesn't say how large they should be.
const CHUNK: u64 = 16 << 20;
/// Larger pieces than that aren't sent, whatever the registry says.
const MAX_CHUNK: u64 = 256 << 20;

/// Where a blob's bytes are.
enum Content<'c> {
    /// In the blob directory.
    Blob(u64),
    Bytes(&'c [u8]),
}

/// A blob to send.
struct Job<'c> {
    digest: Digest,
    content: Content<'c>,
}

/// An upload that the registry waits for.
struct Upload {
    url: String,
    /// The least size of pieces, when the registry wants pieces.
    least: Option<u64>,
}

/// How far a begun upload has led.
enum Begun {
    /// The registry had the blob in another repository.
    Mounted,
    Upload(Upload),
}

/// Sends an image: the answer is its manifest's digest.
pub(crate) fn push(
    room: &OciDistribution,
    reference: &RegistryRef,
    image: &OutgoingImage,
    credentials: Option<&Credentials>,
    progress: ProgressSink<'_>,
) -> Result<Digest, DistributionError> {
    let name = RegistryRef {
        digest: None,
        ..reference.clone()
    };
    let what = format!("'{}'", name.familiar());
    let outgoing = Outgoing::new(image)
        .map_err(|why| DistributionError::Invalid(format!("{what} can't be pushed: {why}")))?;
    let session = Session::new(&room.config);
    let subject = Subject {
        what: &what,
        registry: &reference.registry,
        known: credentials.is_some(),
    };
    let pushing = Pushing {
        room,
        session: &session,
        reference,
        related: related(reference, image),
        credentials,
    };
    let jobs = jobs(image, &outgoing);
    let sent = parallel::run(&session, &jobs, progress, |job, reporter| {
        pushing.blob(job, reporter)
    });
    sent.and_then(|()| pushing.manifest(&outgoing))
        .map_err(|trouble| subject.explain(trouble))?;
    Ok(outgoing.digest)
}

/// Other repositories of the same registry that may have layers.
fn related(reference: &RegistryRef, image: &OutgoingImage) -> Vec<Repository> {
    let mut related: Vec<Repository> = Vec::new();
    for other in &image.related {
        if other.registry == reference.registry
            && other.repository != reference.repository
            && !related.contains(&other.repository)
        {
            related.push(other.repository.clone());
        }
    }
    related
}

fn jobs<'i>(image: &'i OutgoingImage, outgoing: &Outgoing) -> Vec<(Digest, u64, Job<'i>)> {
    let mut jobs: Vec<(Digest, u64, Job<'_>)> = Vec::new();
    let config = (
        outgoing.config.clone(),
        Content::Bytes(&image.config_json),
        image.config_json.len() as u64,
    );
    let layers = image.layers.iter().map(|layer| {
        let content = Content::Blob(layer.size);
        (layer.digest.clone(), content, layer.size)
    });
    for (digest, content, size) in layers.chain([config]) {
        if jobs.iter().all(|(known, ..)| *known != digest) {
            let job = Job {
                digest: digest.clone(),
                content,
            };
            jobs.push((digest, size, job));
        }
    }
    jobs.sort_by_key(|(_, size, _)| std::cmp::Reverse(*size));
    jobs
}

struct Pushing<'p> {
    room: &'p OciDistribution,
    session: &'p Session<'p>,
    reference: &'p RegistryRef,
    related: Vec<Repository>,
    credentials: Option<&'p Credentials>,
}

impl Pushing<'_> {
    fn access(&self) -> Access<'_> {
        let endpoint = Endpoint::registry(&self.room.config, &self.reference.registry);
        Access::new(
            self.session,
            self.room.wire(),
            endpoint,
            Some((&self.reference.repository, "pull,push")),
            self.credentials,
        )
    }

    fn blob(&self, job: &Job<'_>, reporter: &Reporter) -> Result<(), Trouble> {
        let access = self.access();
        let mut pauses = self.session.config.pauses.iter();
        loop {
            let trouble = match self.attempt(&access, job, reporter) {
                Ok(step) => {
                    reporter.tell(step, self.size(job));
                    return Ok(());
                }
                Err(trouble) => trouble,
            };
            if trouble.may_pass() {
                reporter.tell(BlobStep::Retrying(trouble.short()), 0);
            }
            self.session
                .pause(&trouble, pauses.next())
                .ok_or(trouble)??;
        }
    }

    fn attempt(
        &self,
        access: &Access<'_>,
        job: &Job<'_>,
        reporter: &Reporter,
    ) -> Result<BlobStep, Trouble> {
        let path = access.path(&format!("blobs/{}", job.digest));
        let response = access.send(&Ask::new(Method::HEAD, path))?;
        match response.status() {
            StatusCode::OK => return Ok(BlobStep::Exists),
            StatusCode::NOT_FOUND => {}
            _ => return Err(wire::refusal(response)),
        }
        self.check(job)?;
        let upload = match self.begin(access, job)? {
            Begun::Mounted => return Ok(BlobStep::Mounted),
            Begun::Upload(upload) => upload,
        };
        reporter.tell(BlobStep::Uploading, 0);
        if upload.least.is_some() {
            return self.in_pieces(access, job, upload, reporter);
        }
        match self.whole(access, job, &upload, reporter) {
            Err(Trouble::Refused(refusal)) if wants_pieces(refusal.status) => {
                match self.begin(access, job)? {
                    Begun::Mounted => Ok(BlobStep::Mounted),
                    Begun::Upload(upload) => self.in_pieces(access, job, upload, reporter),
                }
            }
            result => result,
        }
    }

    /// Before anything is begun: what isn't here can't be sent.
    fn check(&self, job: &Job<'_>) -> Result<(), Trouble> {
        match job.content {
            Content::Blob(size) if !self.room.blobs.has(&job.digest, size) => {
                Err(Trouble::Final(missing(&job.digest)))
            }
            _ => Ok(()),
        }
    }

    /// Begins an upload, or saves it where another repository has the blob.
    fn begin(&self, access: &Access<'_>, job: &Job<'_>) -> Result<Begun, Trouble> {
        for repository in &self.related {
            let path = access.path("blobs/uploads/");
            let parameters = [
                ("mount", job.digest.as_str()),
                ("from", repository.as_str()),
            ];
            let url = wire::query(&path, &parameters);
            let ask = Ask::new(Method::POST, url.as_str()).payload(Payload::Bytes(&[]));
            let both = self
                .access()
                .with_scope(format!("repository:{repository}:pull"));
            let Ok(response) = both.send(&ask) else {
                // It was only an attempt to save work; the upload shows what is wrong.
                continue;
            };
            match response.status() {
                StatusCode::CREATED => return Ok(Begun::Mounted),
                // The registry has begun an upload instead.
                StatusCode::ACCEPTED => return upload(access, &url, &response).map(Begun::Upload),
                _ => {}
            }
        }
        let path = access.path("blobs/uploads/");
        let ask = Ask::new(Method::POST, path.as_str()).payload(Payload::Bytes(&[]));
        let response = access.send(&ask)?;
        match response.status() {
            StatusCode::ACCEPTED => upload(access, &path, &response).map(Begun::Upload),
            _ => Err(wire::refusal(response)),
        }
    }

    /// POST then PUT ("Pushing a blob monolithically").
    fn whole(
        &self,
        access: &Access<'_>,
        job: &Job<'_>,
        upload: &Upload,
        reporter: &Reporter,
    ) -> Result<BlobStep, Trouble> {
        let size = self.size(job);
        let open = || self.open(job, 0, size, reporter);
        let url = wire::query(&upload.url, &[("digest", job.digest.as_str())]);
        let ask = Ask::new(Method::PUT, url)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .payload(Payload::Stream(&open, size));
        done(access.send(&ask)?)
    }

    /// "Pushing a blob in chunks".
    fn in_pieces(
        &self,
        access: &Access<'_>,
        job: &Job<'_>,
        upload: Upload,
        reporter: &Reporter,
    ) -> Result<BlobStep, Trouble> {
        let size = self.size(job);
        let piece = upload.least.unwrap_or(CHUNK).clamp(CHUNK, MAX_CHUNK);
        let mut upload = upload;
        let mut start = 0;
        while start < size {
            let length = piece.min(size - start);
            let open = || self.open(job, start, length, reporter);
            let ask = Ask::new(Method::PATCH, &upload.url)
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .header(
                    header::CONTENT_RANGE,
                    format!("{start}-{}", start + length - 1),
                )
                .payload(Payload::Stream(&open, length));
            let response = access.send(&ask)?;
            if response.status() != StatusCode::ACCEPTED {
                return Err(wire::refusal(response));
            }
            upload = self::upload(access, &upload.url, &response)?;
            start += length;
        }
        let url = wire::query(&upload.url, &[("digest", job.digest.as_str())]);
        let ask = Ask::new(Method::PUT, url).payload(Payload::Bytes(&[]));
        done(access.send(&ask)?)
    }

    fn manifest(&self, outgoing: &Outgoing) -> Result<(), Trouble> {
        let access = self.access();
        let tag = self.reference.tag_or_latest();
        let ask = Ask::new(Method::PUT, access.path(&format!("manifests/{tag}")))
            .header(header::CONTENT_TYPE, OCI_MANIFEST)
            .payload(Payload::Bytes(&outgoing.manifest));
        self.session.persist(|| {
            let response = access.send(&ask)?;
            if !matches!(
                response.status(),
                StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED
            ) {
                return Err(wire::refusal(response));
            }
            let name = HeaderName::from_static("docker-content-digest");
            let said = wire::header(&response, name).and_then(|text| text.parse::<Digest>().ok());
            match said {
                Some(said) if said != outgoing.digest => Err(Trouble::content(format!(
                    "the registry has made another manifest of it, {said}"
                ))),
                _ => Ok(()),
            }
        })
    }

    fn size(&self, job: &Job<'_>) -> u64 {
        match job.content {
            Content::Blob(size) => size,
            Content::Bytes(bytes) => bytes.len() as u64,
        }
    }

    fn open<'o>(
        &self,
        job: &'o Job<'_>,
        start: u64,
        length: u64,
        reporter: &'o Reporter,
    ) -> Result<Box<dyn Read + 'o>, Trouble> {
        let content: Box<dyn Read + 'o> = match job.content {
            Content::Blob(_) => {
                let opened = self.room.blobs.open(&job.digest);
                let mut file = opened.map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => Trouble::Final(missing(&job.digest)),
                    _ => Trouble::local(format!("reading {}", job.digest), error),
                })?;
                let sought = file.seek(SeekFrom::Start(start));
                sought.map_err(|error| Trouble::local(format!("reading {}", job.digest), error))?;
                Box::new(file)
            }
            Content::Bytes(bytes) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX);
                Box::new(bytes.get(start..).unwrap_or_default())
            }
        };
        Ok(Box::new(Told {
            inner: content.take(length),
            position: start,
            reporter,
        }))
    }
}

/// A server that can't take a blob in one piece says one of these.
fn wants_pieces(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::LENGTH_REQUIRED
            | StatusCode::NOT_IMPLEMENTED
    )
}

fn upload(access: &Access<'_>, asked: &str, response: &Response<Body>) -> Result<Upload, Trouble> {
    let location = wire::header(response, header::LOCATION)
        .ok_or_else(|| Trouble::content("the registry doesn't say where to send blobs"))?;
    let least = HeaderName::from_static("oci-chunk-min-length");
    Ok(Upload {
        url: access.locate(asked, location)?,
        least: wire::header(response, least).and_then(|text| text.parse().ok()),
    })
}

fn done(response: Response<Body>) -> Result<BlobStep, Trouble> {
    match response.status() {
        StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => Ok(BlobStep::Done),
        _ => Err(wire::refusal(response)),
    }
}

fn missing(digest: &Digest) -> DistributionError {
    DistributionError::NotFound(format!("the layer {digest} isn't here any more"))
}

/// Tells how much has been sent.
struct Told<'t, R> {
    inner: R,
    position: u64,
    reporter: &'t Reporter,
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.position += read as u64;
        self.reporter.tell(BlobStep::Uploading, self.position);
        Ok(read)
    }
}
