//! What a test is told of the door's use.

/// The operations of the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// [`Host::check_jail_params`](kleene_doors::host::Host::check_jail_params)
    CheckJailParams,
    /// [`Host::hooks`](kleene_doors::host::Host::hooks)
    Hooks,
    /// [`Host::run_host_command`](kleene_doors::host::Host::run_host_command)
    RunHostCommand,
    /// [`Host::check_limits`](kleene_doors::host::Host::check_limits)
    CheckLimits,
    /// [`Host::update_limits`](kleene_doors::host::Host::update_limits)
    UpdateLimits,
    /// [`Host::pause`](kleene_doors::host::Host::pause)
    Pause,
    /// [`Host::unpause`](kleene_doors::host::Host::unpause)
    Unpause,
    /// [`Host::stats`](kleene_doors::host::Host::stats)
    Stats,
    /// [`Host::processes`](kleene_doors::host::Host::processes)
    Processes,
    /// [`Host::log`](kleene_doors::host::Host::log)
    Log,
    /// [`Host::follow`](kleene_doors::host::Host::follow)
    Follow,
    /// [`Host::stat_path`](kleene_doors::host::Host::stat_path)
    StatPath,
    /// [`Host::read_archive`](kleene_doors::host::Host::read_archive)
    ReadArchive,
    /// [`Host::write_archive`](kleene_doors::host::Host::write_archive)
    WriteArchive,
    /// [`Host::instances`](kleene_doors::host::Host::instances)
    Instances,
    /// [`Host::inspect_source`](kleene_doors::host::Host::inspect_source)
    InspectSource,
    /// [`Host::check_destination`](kleene_doors::host::Host::check_destination)
    CheckDestination,
    /// [`Host::copy_up`](kleene_doors::host::Host::copy_up)
    CopyUp,
    /// [`Host::recover_copy_up`](kleene_doors::host::Host::recover_copy_up)
    RecoverCopyUp,
    /// [`Host::apply_layer`](kleene_doors::host::Host::apply_layer)
    ApplyLayer,
    /// [`Host::pack_layer`](kleene_doors::host::Host::pack_layer)
    PackLayer,
    /// [`Host::copy_in`](kleene_doors::host::Host::copy_in)
    CopyIn,
    /// [`Host::digest_sources`](kleene_doors::host::Host::digest_sources)
    DigestSources,
    /// [`Host::start`](kleene_doors::host::Host::start)
    Start,
    /// [`Host::attach`](kleene_doors::host::Host::attach)
    Attach,
    /// [`Host::probe`](kleene_doors::host::Host::probe)
    Probe,
    /// [`Host::signal`](kleene_doors::host::Host::signal)
    Signal,
    /// [`Host::send_signal`](kleene_doors::host::Host::send_signal)
    SendSignal,
    /// [`Host::end_session`](kleene_doors::host::Host::end_session)
    EndSession,
    /// [`Host::terminate`](kleene_doors::host::Host::terminate)
    Terminate,
    /// [`Host::kill`](kleene_doors::host::Host::kill)
    Kill,
    /// [`Host::forget`](kleene_doors::host::Host::forget)
    Forget,
    /// [`Host::clean`](kleene_doors::host::Host::clean)
    Clean,
}

/// One call of the door, whether it succeeded or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The operation.
    pub op: Op,
    /// What it was done to: an id, a path, or words one by one with spaces between.
    pub object: String,
}
