//! Tests of reading usage.

use super::*;

#[test]
fn traffic_of_interfaces() {
    let text = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop
    lo:     100       2    0    0    0     0          0         0      100       2    0    0
  eth0:12345678    4321    1    0    0     0          0         0   876543    1234    0    0
nonsense
";
    let eth0 = InterfaceUsage {
        name: "eth0".into(),
        rx_bytes: 12_345_678,
        rx_packets: 4321,
        tx_bytes: 876_543,
        tx_packets: 1234,
    };
    assert_eq!(interfaces(text), [eth0]);
    assert_eq!(interfaces(""), []);
}

#[test]
fn input_and_output_of_all_disks() {
    let unified =
        "8:0 rbytes=4096 wbytes=512 rios=2 wios=1 dbytes=9 dios=9\n8:16 rbytes=4 wios=3\n";
    assert_eq!(
        unified_io(unified),
        IoUsage {
            read_bytes: 4100,
            write_bytes: 512,
            reads: 2,
            writes: 4,
        }
    );
    let legacy =
        "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 1\n8:0 Total 12288\n8:16 Read 4\nTotal 9\n";
    assert_eq!(legacy_io(legacy), (4100, 8192));
    assert_eq!(unified_io(""), IoUsage::default());
    assert_eq!(legacy_io("Total 0\n"), (0, 0));
}

#[test]
fn lines_of_names_and_numbers() {
    let stat = Keyed("usage_usec_more 11\nusage_usec 12\nodd line here\n\nalone\n".to_owned());
    assert_eq!(stat.get("usage_usec"), Some(12));
    assert_eq!(stat.get("odd"), None);
    assert_eq!(stat.get("alone"), None);
}

#[test]
fn what_nobody_counts_is_unknown() {
    let container = ContainerId::random();
    let stats = read(&Hierarchies::default(), &container, std::process::id());
    assert_eq!(stats, Stats::default());
}

#[test]
fn the_daemons_own_network_isnt_the_containers() {
    assert_eq!(network(std::process::id()), []);
    assert_eq!(network(u32::MAX), []);
}
