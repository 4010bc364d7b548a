//! Builds over the rooms in memory, and images in registries that aren't there.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};

use kleene_doors::distribution::ImageConfig;
use kleene_doors::storage::{Dataset, Storage};
use kleene_engine::{
    BuildContainer, BuildContext, BuildFailed, BuildOutput, Cancel, DockerfileSource, Engine,
    EngineError, NewBuild, NewPull, PullPolicy, Secrets,
};
use kleene_host::fake::Program;
use kleene_store::NetworkDriver;
use kleene_types::{ImageId, ImageName, ImageTag, Platform, Resources};

use super::World;

/// Where contexts are.
pub const CONTEXT: &str = "/src";

/// What a build tells.
#[derive(Default)]
pub struct Told(Mutex<Vec<u8>>);

impl Told {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl BuildOutput for Told {
    fn started(&self, _image: &ImageId) {}

    fn text(&self, data: &[u8]) {
        self.0.lock().unwrap().extend_from_slice(data);
    }
}

pub fn name(text: &str) -> Option<(ImageName, ImageTag)> {
    Some((text.parse().unwrap(), "latest".parse().unwrap()))
}

pub fn new_build(dockerfile: &str) -> NewBuild {
    NewBuild {
        dockerfile: DockerfileSource::Text(dockerfile.to_owned()),
        context: BuildContext::Directory(CONTEXT.into()),
        name: name("app"),
        args: Default::default(),
        target: None,
        labels: Default::default(),
        no_cache: false,
        cleanup: false,
        quiet: false,
        secrets: Secrets::default(),
        pull: PullPolicy::Missing,
        credentials: Default::default(),
        from: None,
        container: BuildContainer {
            user: String::new(),
            env: Vec::new(),
            mounts: Vec::new(),
            jail_params: Vec::new(),
            network_driver: NetworkDriver::Host,
            resources: Resources::default(),
            init: Default::default(),
        },
    }
}

/// The image, and how many of its steps were known.
pub fn try_build(engine: &Engine, new: &NewBuild) -> Result<(ImageId, usize), BuildFailed> {
    let told = Told::default();
    let id = engine.image_build(new, &told, &Cancel::default())?;
    Ok((id, told.text().matches("--> Using cache").count()))
}

pub fn build(engine: &Engine, dockerfile: &str) -> (ImageId, usize) {
    try_build(engine, &new_build(dockerfile)).unwrap()
}

/// A world whose context has the files `a`, `b` and `dir/c`, and the program `work`.
pub fn world() -> (World, Arc<Engine>) {
    let world = World::new();
    furnish(&world);
    let (engine, _) = world.with_image();
    (world, engine)
}

pub fn furnish(world: &World) {
    let exits = Program::Exits {
        code: 0,
        output: b"done\n".to_vec(),
    };
    world.host.program("work", exits);
    for file in ["a", "b", "dir/c"] {
        write(world, file, file);
    }
}

pub fn write(world: &World, file: &str, content: &str) {
    let path = Path::new(CONTEXT).join(file);
    world.fs.create_dir_all(path.parent().unwrap());
    world.fs.write(&path, content.as_bytes());
}

pub fn in_image(world: &World, image: &ImageId, path: &str) -> Option<String> {
    let root = world.storage.mountpoint(&Dataset::Image(image.clone()));
    world.read(root.join(path).to_str().unwrap())
}

/// An archive of a layer with one file.
pub fn layer(name: &str) -> Vec<u8> {
    let mut header = [0; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", name.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend_from_slice(name.as_bytes());
    archive.resize(1024, 0);
    archive.resize(2048, 0);
    archive
}

pub fn remote_config() -> ImageConfig {
    let host = Platform::host();
    ImageConfig {
        os: host.os().to_owned(),
        architecture: host.architecture().to_owned(),
        ..ImageConfig::default()
    }
}

/// Puts an image of these layers into a registry.
pub fn offer(world: &World, reference: &str, layers: &[&str]) {
    let layers: Vec<Vec<u8>> = layers.iter().map(|name| layer(name)).collect();
    let reference = reference.parse().unwrap();
    world
        .distribution
        .add_image(&reference, &remote_config(), &layers);
}

pub fn pull(engine: &Engine, reference: &str) -> Result<ImageId, EngineError> {
    let pull = NewPull {
        reference: reference.to_owned(),
        platform: None,
        name: None,
        identity: None,
    };
    engine.image_pull(&pull, &mut |_| ControlFlow::Continue(()))
}
