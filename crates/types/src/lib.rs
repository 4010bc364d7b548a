//! Values that parse, validate and print themselves. No input or output happens here.
//!
//! Text from outside becomes one of these types at the border; behind it nobody checks again. Every
//! type's `FromStr` error is a sentence for the person who typed the text.

mod checksum;
mod digest;
mod env;
mod id;
mod image_ref;
mod init;
mod limits;
mod mount;
mod name;
mod path;
mod platform;
mod registry;
mod restart;
mod signal;
mod size;
mod span;
mod text;
mod time;

pub use checksum::{Algorithm, Checksum, ChecksumError};
pub use digest::{Digest, DigestAlgorithm, DigestError};
pub use env::{EnvError, EnvVar, merge_env};
pub use id::{ContainerId, ExecId, IdError, IdPrefix, ImageId, NetworkId};
pub use image_ref::{ImageName, ImageRef, ImageRefError, ImageTag, SnapshotName};
pub use init::{Init, InitError};
pub use limits::{
    CpuSet, Cpus, HealthCheck, IoWeight, LimitError, Limits, Resource, Resources, SwapLimit, Ulimit,
};
pub use mount::{MountKind, MountSpec, MountSpecError};
pub use name::{ContainerName, NameError, VolumeName};
pub use path::{ContainerPath, HostPath, PathError};
pub use platform::{Platform, PlatformError};
pub use registry::{Registry, RegistryRef, RegistryRefError, Repository};
pub use restart::{RestartPolicy, RestartPolicyError};
pub use signal::{Signal, SignalError};
pub use size::{ByteSize, SizeError};
pub use span::{Span, SpanError};
pub use time::Timestamp;
