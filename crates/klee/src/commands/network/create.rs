//! `klee network create`.

use clap::Args;
use kleene_api::NetworkConfig;

use crate::commands::Session;
use crate::error::{CommandError, CommandResult, Exit};

/// Create a network
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  klee network create --subnet 10.13.37.0/24 testnet
  klee network create -t bridge --subnet 10.2.0.0/24 --nat-if em0 vnet-net")]
pub struct Options {
    /// What kind of network
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "loopback",
          value_parser = ["bridge", "loopback", "custom"])]
    kind: String,

    /// Name of the interface on the host, for type `custom` an existing one [default: generated]
    #[arg(short, long, default_value = "", hide_default_value = true)]
    interface: String,

    /// IPv4 subnet in CIDR notation
    #[arg(long, default_value = "", hide_default_value = true)]
    subnet: String,

    /// IPv6 subnet in CIDR notation
    #[arg(long, default_value = "", hide_default_value = true)]
    subnet6: String,

    /// Type `bridge`: IPv4 gateway of containers with driver `vnet`; `auto` is the first address of
    /// the subnet, an empty text none
    #[arg(long, value_name = "ADDRESS", default_value = "auto")]
    gw: String,

    /// Type `bridge`: IPv6 gateway, likewise
    #[arg(long, value_name = "ADDRESS", default_value = "auto")]
    gw6: String,

    /// Translate the addresses of outgoing connections (the default)
    #[arg(long, overrides_with = "no_nat")]
    nat: bool,

    /// Don't translate addresses
    #[arg(long, overrides_with = "nat")]
    no_nat: bool,

    /// Interface that addresses are translated to [default: that of the host's gateway]
    #[arg(long, value_name = "INTERFACE")]
    nat_if: Option<String>,

    /// Let containers of the network reach each other (the default)
    #[arg(long, overrides_with = "no_icc")]
    icc: bool,

    /// Keep containers of the network from reaching each other
    #[arg(long, overrides_with = "icc")]
    no_icc: bool,

    /// Cut the network off from the outside
    #[arg(long)]
    internal: bool,

    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
}

/// Creates the network and prints its id.
///
/// # Errors
/// When the request fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let config = config(options);
    match session.client().await?.network_create(&config).await {
        Ok(id) => session.ui.line(&id)?,
        Err(error) => return Err(CommandError::about("network", &config.name, error)),
    }
    Ok(Exit::Success)
}

fn config(options: Options) -> NetworkConfig {
    let bridge = options.kind == "bridge";
    let gateway = |given: String| match given.as_str() {
        _ if !bridge => String::new(),
        "auto" => "<auto>".to_owned(),
        _ => given,
    };
    NetworkConfig {
        gateway: gateway(options.gw),
        gateway6: gateway(options.gw6),
        nat: match options.nat_if {
            _ if options.no_nat => String::new(),
            Some(interface) => interface,
            None => "<host-gateway>".to_owned(),
        },
        icc: !options.no_icc,
        internal: options.internal,
        name: options.name,
        kind: options.kind,
        interface: options.interface,
        subnet: options.subnet,
        subnet6: options.subnet6,
    }
}
