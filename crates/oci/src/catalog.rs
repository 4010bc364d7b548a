//! What a registry has: tags, searches, and whether it knows somebody.

use kleene_doors::distribution::{Credentials, DistributionError, Login, SearchResult};
use kleene_types::{Registry, RegistryRef, Repository};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::{StatusCode, header};

use crate::OciDistribution;
use crate::error::{Subject, Trouble, harmless};
use crate::wire::{self, Access, Ask, Endpoint, Session};

/// A page of a list.
const MAX_PAGE: u64 = 16 << 20;
const MAX_PAGES: usize = 100;
const PAGE: &str = "1000";

/// The tags of a repository.
pub(crate) fn tags(
    room: &OciDistribution,
    reference: &RegistryRef,
    credentials: Option<&Credentials>,
) -> Result<Vec<String>, DistributionError> {
    #[derive(Deserialize)]
    struct Page {
        tags: Option<Vec<String>>,
    }
    let session = Session::new(&room.config);
    let name = RegistryRef {
        tag: None,
        digest: None,
        ..reference.clone()
    };
    let what = format!("'{}'", name.familiar());
    let subject = Subject {
        what: &what,
        registry: &reference.registry,
        known: credentials.is_some(),
    };
    let access = Access::new(
        &session,
        room.wire(),
        Endpoint::registry(&room.config, &reference.registry),
        Some((&reference.repository, "pull")),
        credentials,
    );
    let first = wire::query(&access.path("tags/list"), &[("n", PAGE)]);
    let mut tags = Vec::new();
    let listed = pages(&access, first, |page: Page| {
        tags.extend(page.tags.unwrap_or_default());
        true
    });
    listed.map_err(|trouble| subject.explain(trouble))?;
    // What isn't a tag is nobody's.
    tags.retain(|tag| tag.parse::<kleene_types::ImageTag>().is_ok());
    Ok(tags)
}

/// Reads pages and follows their links until `take` has enough (distribution specification, "Listing
/// Tags").
fn pages<P: DeserializeOwned>(
    access: &Access<'_>,
    first: String,
    mut take: impl FnMut(P) -> bool,
) -> Result<(), Trouble> {
    let mut url = first;
    for _ in 0..MAX_PAGES {
        let (page, next) = access.session().persist(|| {
            let response = access.send(&Ask::get(url.as_str()))?;
            let link = wire::header(&response, header::LINK);
            let next = link.and_then(wire::next_page).map(str::to_owned);
            let text = wire::small_body(response, MAX_PAGE, "list")?;
            let page: P = serde_json::from_slice(&text).map_err(|error| {
                Trouble::content(format!("its list can't be understood: {error}"))
            })?;
            Ok((page, next))
        })?;
        if !take(page) {
            return Ok(());
        }
        match next {
            Some(next) => url = access.locate(&url, &next)?,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// Looks for images by a word.
pub(crate) fn search(
    room: &OciDistribution,
    registry: &Registry,
    word: &str,
    limit: usize,
    credentials: Option<&Credentials>,
) -> Result<Vec<SearchResult>, DistributionError> {
    let session = Session::new(&room.config);
    let what = format!("a search for '{}'", harmless(word));
    let subject = Subject {
        what: &what,
        registry,
        known: credentials.is_some(),
    };
    let endpoint = Endpoint::of_search(&room.config, registry);
    let access = Access::new(&session, room.wire(), endpoint, None, credentials);
    match by_index(&access, registry, word, limit) {
        Err(Trouble::Refused(refusal))
            if !registry.is_docker_hub() && is_absent(refusal.status) => {}
        result => return result.map_err(|trouble| subject.explain(trouble)),
    }
    let endpoint = Endpoint::registry(&room.config, registry);
    let access = Access::new(&session, room.wire(), endpoint, None, credentials)
        .with_scope("registry:catalog:*".to_owned());
    match by_catalog(&access, registry, word, limit) {
        Err(Trouble::Refused(refusal)) if is_absent(refusal.status) => {
            Err(DistributionError::Unsupported(format!(
                "{registry} can't be searched: look for images on its web pages"
            )))
        }
        result => result.map_err(|trouble| subject.explain(trouble)),
    }
}

/// Whether the registry doesn't know the request at all.
fn is_absent(status: StatusCode) -> bool {
    status.is_client_error()
        && !matches!(
            status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
        )
        || status.is_redirection()
        || status == StatusCode::NOT_IMPLEMENTED
}

/// Docker's old search.
fn by_index(
    access: &Access<'_>,
    registry: &Registry,
    word: &str,
    limit: usize,
) -> Result<Vec<SearchResult>, Trouble> {
    #[derive(Deserialize)]
    struct Page {
        results: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        name: String,
        description: Option<String>,
        #[serde(default)]
        star_count: i64,
        #[serde(default)]
        is_official: bool,
    }
    let count = limit.clamp(1, 100).to_string();
    let url = wire::query("/v1/search", &[("q", word), ("n", &count)]);
    let text = access.session().persist(|| {
        let response = access.send(&Ask::get(url.as_str()))?;
        wire::small_body(response, MAX_PAGE, "list")
    })?;
    let page: Page = serde_json::from_slice(&text)
        .map_err(|error| Trouble::content(format!("its list can't be understood: {error}")))?;
    let known = page.results.into_iter().filter_map(|entry| {
        Some(SearchResult {
            name: shown(registry, &entry.name)?,
            description: harmless(&entry.description.unwrap_or_default()),
            stars: u64::try_from(entry.star_count).unwrap_or(0),
            official: entry.is_official,
        })
    });
    Ok(known.take(limit).collect())
}

/// Searches the list of all repositories.
fn by_catalog(
    access: &Access<'_>,
    registry: &Registry,
    word: &str,
    limit: usize,
) -> Result<Vec<SearchResult>, Trouble> {
    #[derive(Deserialize)]
    struct Page {
        repositories: Option<Vec<String>>,
    }
    let first = wire::query("/v2/_catalog", &[("n", PAGE)]);
    let word = word.to_lowercase();
    let mut found = Vec::new();
    pages(access, first, |page: Page| {
        let repositories = page.repositories.unwrap_or_default();
        let hits = repositories.iter().filter(|name| name.contains(&word));
        found.extend(hits.filter_map(|name| {
            Some(SearchResult {
                name: shown(registry, name)?,
                description: String::new(),
                stars: 0,
                official: false,
            })
        }));
        found.len() < limit
    })?;
    found.truncate(limit);
    Ok(found)
}

/// A name as it can be pulled; `None` when it can't.
fn shown(registry: &Registry, name: &str) -> Option<String> {
    // Some registries answer with their own name in front.
    let own = name.strip_prefix(registry.as_str());
    let name = own.and_then(|rest| rest.strip_prefix('/')).unwrap_or(name);
    let repository: Repository = name.parse().ok()?;
    if registry.is_docker_hub() {
        return Some(repository.to_string());
    }
    Some(format!("{registry}/{repository}"))
}

/// Asks the registry whether it knows somebody.
pub(crate) fn check_login(
    room: &OciDistribution,
    registry: &Registry,
    credentials: &Credentials,
) -> Result<Login, DistributionError> {
    let session = Session::new(&room.config);
    let subject = Subject {
        what: "the login",
        registry,
        known: true,
    };
    let endpoint = Endpoint::registry(&room.config, registry);
    let access = Access::new(&session, room.wire(), endpoint, None, Some(credentials));
    match session.persist(|| access.log_in()) {
        Ok(identity_token) => Ok(Login { identity_token }),
        Err(trouble) => Err(subject.explain(trouble)),
    }
}
