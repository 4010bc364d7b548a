//! Builds as the contract asks for them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kleene_api as api;
use kleene_engine::{
    BuildContainer, BuildContext, DockerfileSource, EngineError, NewBuild, PullPolicy, Secrets,
};
use kleene_store::NetworkDriver;
use kleene_types::Init;

use super::{environment, images, invalid, mount, name_and_tag, network_driver, settings};

/// An image to build.
///
/// # Errors
/// [`EngineError::Invalid`] naming what is wrong; [`EngineError::NotYet`] for networks.
pub fn new_build(
    config: api::ImageBuildConfig,
    context: BuildContext,
) -> Result<NewBuild, EngineError> {
    if !config.networks.is_empty() {
        return Err(EngineError::NotYet(
            "networks are not available yet: build with the network driver 'host' or 'disabled'"
                .to_owned(),
        ));
    }
    let name = Some(config.tag.as_str()).filter(|text| !text.is_empty());
    let from = config.container_config.image.clone();
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(NewBuild {
        dockerfile: match config.dockerfile_text {
            Some(text) => DockerfileSource::Text(text),
            None => DockerfileSource::InContext(config.dockerfile),
        },
        context,
        name: name.map(name_and_tag).transpose()?,
        args: config.buildargs,
        target: text(config.target),
        labels: config.labels,
        no_cache: config.no_cache,
        cleanup: config.cleanup,
        quiet: config.quiet,
        secrets: secrets(config.secrets)?,
        pull: match config.pull.as_deref() {
            None | Some("missing" | "") => PullPolicy::Missing,
            Some("always") => PullPolicy::Always,
            Some("never") => PullPolicy::Never,
            Some(other) => {
                return Err(invalid(format_args!(
                    "invalid field 'pull': '{other}': use missing, always or never"
                )));
            }
        },
        credentials: config
            .credentials
            .into_iter()
            .filter_map(|(registry, it)| Some((registry, images::credentials(it)?)))
            .collect(),
        from: from.and_then(text),
        container: container(config.container_config)?,
    })
}

fn secrets(
    secrets: impl IntoIterator<Item = (String, api::Secret)>,
) -> Result<Secrets, EngineError> {
    let decode = |(id, api::Secret(text)): (String, api::Secret)| {
        let value = BASE64_STANDARD.decode(text);
        let value = value.map_err(|_| invalid(format_args!("the secret '{id}' is not base64")))?;
        Ok((id, value))
    };
    secrets
        .into_iter()
        .map(decode)
        .collect::<Result<_, _>>()
        .map(Secrets)
}

/// What the build's containers are made with. What only makes sense for containers that stay is left
/// out of account: existing clients send it.
fn container(config: api::ContainerConfig) -> Result<BuildContainer, EngineError> {
    let resources = settings::resources(&config)?;
    if config.public_ports.is_some_and(|ports| !ports.is_empty()) {
        return Err(invalid("a build publishes no ports"));
    }
    let mounts = config.mounts.unwrap_or_default();
    let init = config.init.map(|text| text.parse().map_err(invalid));
    Ok(BuildContainer {
        user: config.user.unwrap_or_default(),
        env: environment(&config.env.unwrap_or_default())?,
        mounts: mounts.iter().map(mount).collect::<Result<_, _>>()?,
        jail_params: config.jail_param.unwrap_or_default(),
        // Networks of their own aren't there yet, and clients that name none mean no special one.
        network_driver: match config.network_driver.as_deref() {
            None | Some("" | "ipnet") => NetworkDriver::Host,
            Some(driver) => network_driver(driver)?,
        },
        resources,
        init: init.transpose()?.unwrap_or(Init::None),
    })
}
