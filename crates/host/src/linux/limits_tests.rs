//! Tests of what is refused and what is warned of.

use super::*;
use crate::shared::limits::LEAST_MEMORY;
use kleene_types::SwapLimit;

fn machine() -> Machine {
    Machine {
        memory: 1 << 30,
        swap: 0,
        processors: vec![0, 1],
        pid_max: 32_768,
        nr_open: 1_048_576,
        bfq: false,
        raises_limits: true,
    }
}

fn checked(limits: &Limits) -> Result<Vec<String>, String> {
    let groups = Hierarchies::discover().unwrap();
    check(&groups, &machine(), limits, None, &[]).map_err(|error| error.to_string())
}

fn refusal(limits: Limits) -> String {
    checked(&limits).unwrap_err()
}

fn memory(size: &str) -> Limits {
    Limits {
        memory: Some(size.parse().unwrap()),
        ..Limits::default()
    }
}

#[test]
fn nothing_asked_nothing_said() {
    assert_eq!(checked(&Limits::default()), Ok(Vec::new()));
}

#[test]
fn memory_is_within_what_makes_sense() {
    assert!(refusal(memory("5m")).contains("6m"));
    let error = refusal(memory("2g"));
    assert!(
        error.contains("--memory 2g") && error.contains("1073741824"),
        "{error}"
    );
    let swap = |memory: Option<&str>, swap| Limits {
        memory: memory.map(|size| size.parse().unwrap()),
        memory_swap: Some(swap),
        ..Limits::default()
    };
    let total = |size: &str| SwapLimit::Total(size.parse().unwrap());
    assert!(refusal(swap(None, total("1g"))).contains("needs --memory"));
    assert!(refusal(swap(None, SwapLimit::Unlimited)).contains("needs --memory"));
    let error = refusal(swap(Some("64m"), total("32m")));
    assert!(error.contains("32m is less than --memory 64m"), "{error}");
}

#[test]
fn processors_are_there() {
    let cpus = |text: &str| Limits {
        cpus: Some(text.parse().unwrap()),
        ..Limits::default()
    };
    let error = refusal(cpus("2.001"));
    assert!(
        error.contains("2.001") && error.contains("2 processors"),
        "{error}"
    );
    assert_eq!(check_cpus(&machine(), "2".parse().unwrap()).ok(), Some(()));
    let set = Limits {
        cpuset: Some("0,4096".parse().unwrap()),
        ..Limits::default()
    };
    let error = refusal(set);
    assert!(
        error.contains("processor 4096") && error.contains("only 0"),
        "{error}"
    );
}

#[test]
fn processes_are_possible() {
    let pids = |number| Limits {
        pids: Some(number),
        ..Limits::default()
    };
    assert!(refusal(pids(0)).contains("no process"));
    let error = refusal(pids(40_000));
    assert!(
        error.contains("40000") && error.contains("32768"),
        "{error}"
    );
}

#[test]
fn shared_memory_has_a_size() {
    let groups = Hierarchies::default();
    for (size, word) in [("0", "no shared memory"), ("2g", "1073741824")] {
        let size = Some(size.parse().unwrap());
        let refused = check(&groups, &machine(), &Limits::default(), size, &[]);
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn limits_without_control_groups_are_refused() {
    let groups = Hierarchies::default();
    let refused = check(&groups, &machine(), &memory("64m"), None, &[]);
    let error = refused.unwrap_err().to_string();
    assert!(
        error.contains("--memory") && error.contains("controller 'memory'"),
        "{error}"
    );
}

#[test]
fn swap_space_that_isnt_counted_is_told() {
    let groups = Hierarchies::default();
    let swap = Machine {
        swap: 1,
        ..machine()
    };
    assert!(swap_warning(&groups, &swap, &memory("64m")).is_some());
    assert_eq!(swap_warning(&groups, &machine(), &memory("64m")), None);
}

#[test]
fn ulimits_above_what_can_be_given_are_told() {
    let ulimit = |text: &str| text.parse::<Ulimit>().unwrap();
    let warning = ulimit_warning(&machine(), &ulimit("nofile=unlimited")).unwrap();
    assert!(
        warning.contains("nofile") && warning.contains("1048576"),
        "{warning}"
    );
    let bound = Machine {
        raises_limits: false,
        ..machine()
    };
    assert_eq!(ulimit_warning(&bound, &ulimit("nofile=1")), None);
    if let Some(own) = getrlimit(rustix::process::Resource::Nproc).maximum {
        let above = ulimit(&format!("nproc={}", own + 1));
        let warning = ulimit_warning(&bound, &above).unwrap();
        assert!(warning.contains(&own.to_string()), "{warning}");
        assert_eq!(ulimit_warning(&machine(), &above), None);
    }
}

#[test]
fn this_machine_has_something() {
    let machine = Machine::look();
    assert!(machine.memory > LEAST_MEMORY.bytes() && machine.memory < u64::MAX);
    assert!(!machine.processors.is_empty());
    assert!(machine.pid_max > 300);
}

#[test]
fn sizes_of_memory_are_in_kibibytes() {
    let text = "MemTotal:       24683880 kB\nSwapTotal:             0 kB\nHugePages_Total:    7\n";
    assert_eq!(kibibytes(text, "MemTotal:"), Some(24_683_880 * 1024));
    assert_eq!(kibibytes(text, "SwapTotal:"), Some(0));
    assert_eq!(kibibytes(text, "HugePages_Total:"), None);
}
