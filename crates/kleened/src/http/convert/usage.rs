//! What containers use, as the contract shows it.

use kleene_api as api;
use kleene_doors::observe::{
    CpuUsage, InterfaceUsage, IoUsage, MemoryUsage, PidsUsage, ProcessInfo, Stats,
};
use kleene_engine::StatsView;

/// What a container has used.
pub fn stats(view: StatsView) -> api::ContainerStats {
    let Stats {
        cpu,
        memory,
        pids,
        io,
        network,
    } = view.stats;
    api::ContainerStats {
        id: view.id.to_string(),
        name: view.name.to_string(),
        read: view.read.to_string(),
        cpu: cpu.map(cpu_usage),
        memory: memory.map(memory_usage),
        pids: pids.map(|PidsUsage { current, limit }| api::PidsUsage { current, limit }),
        io: io.map(io_usage),
        network: network.into_iter().map(interface).collect(),
    }
}

fn cpu_usage(usage: CpuUsage) -> api::CpuUsage {
    let CpuUsage {
        total_us,
        user_us,
        system_us,
        throttled_us,
        online,
    } = usage;
    api::CpuUsage {
        total_us,
        user_us,
        system_us,
        throttled_us,
        online,
    }
}

fn memory_usage(usage: MemoryUsage) -> api::MemoryUsage {
    let MemoryUsage {
        used,
        reclaimable,
        peak,
        limit,
        oom_kills,
    } = usage;
    api::MemoryUsage {
        used,
        reclaimable,
        peak,
        limit,
        oom_kills,
    }
}

fn io_usage(usage: IoUsage) -> api::IoUsage {
    let IoUsage {
        read_bytes,
        write_bytes,
        reads,
        writes,
    } = usage;
    api::IoUsage {
        read_bytes,
        write_bytes,
        reads,
        writes,
    }
}

fn interface(usage: InterfaceUsage) -> api::InterfaceUsage {
    let InterfaceUsage {
        name,
        rx_bytes,
        rx_packets,
        tx_bytes,
        tx_packets,
    } = usage;
    api::InterfaceUsage {
        name,
        rx_bytes,
        rx_packets,
        tx_bytes,
        tx_packets,
    }
}

/// A process of a container.
pub fn process(process: ProcessInfo) -> api::ProcessInfo {
    let ProcessInfo {
        pid,
        inside_pid,
        parent,
        user,
        state,
        cpu_us,
        resident,
        started,
        terminal,
        command,
    } = process;
    api::ProcessInfo {
        pid,
        inside_pid,
        parent,
        user,
        state: state.to_string(),
        cpu_us,
        resident,
        started: started.to_string(),
        terminal,
        command,
    }
}
