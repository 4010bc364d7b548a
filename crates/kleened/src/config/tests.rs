//! Tests of what the configuration accepts, and how it refuses the rest.

use super::*;

fn error(text: &str) -> String {
    let error = parse(text).expect_err(text);
    let error = ConfigError {
        file: "c.yaml".into(),
        ..error
    };
    error.to_string()
}

#[test]
fn nothing_is_the_default() {
    for text in ["", "# only a comment\n", "---\n", "{}"] {
        assert_eq!(parse(text).unwrap(), Config::default(), "{text:?}");
    }
    let socket = &Config::default().sockets[0];
    assert_eq!(socket.address.to_string(), "http:///var/run/kleened.sock");
}

#[test]
fn everything_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let cert = directory.path().join("cert.pem");
    std::fs::write(&cert, "").unwrap();
    let cert = cert.display();
    let config = parse(&format!(
        "kleene_root: zroot/kleene\n\
         storage_driver: zfs\n\
         enable_logging: true\n\
         log_level: notice\n\
         socket_group: 1001\n\
         oci_runtime: /usr/bin/crun\n\
         allow_host_commands: true\n\
         pf_config_path: /usr/local/etc/kleened/pf.conf\n\
         api_listening_sockets:\n\
         - http:///run/k.sock\n\
         - address: https://127.0.0.1:8085\n  \
           tlscert: {cert}\n  \
           tlsverify: true\n  \
           tlscacert: {cert}\n"
    ))
    .unwrap();
    assert_eq!(config.kleene_root, "zroot/kleene");
    assert_eq!(config.storage_driver, Driver::Zfs);
    assert_eq!(config.log_level, LevelFilter::INFO);
    assert_eq!(config.socket_group.as_deref(), Some("1001"));
    assert_eq!(
        config.oci_runtime.as_deref(),
        Some(Path::new("/usr/bin/crun"))
    );
    assert!(config.allow_host_commands);
    assert_eq!(config.notes.len(), 1);
    assert_eq!(config.sockets.len(), 2);
    let tls = config.sockets[1].tls.as_ref().unwrap();
    assert!(tls.key.is_none() && tls.client_ca.is_some());
}

#[test]
fn what_the_original_has_and_is_not_needed_is_noted() {
    let directory = tempfile::tempdir().unwrap();
    let cert = directory.path().join("cert.pem");
    std::fs::write(&cert, "").unwrap();
    let config = parse(&format!(
        "api_listening_sockets:\n\
         - address: https://127.0.0.1:8085\n  \
           tlscert: {}\n  \
           tlsdh: /usr/local/etc/kleened/dh.pem\n",
        cert.display()
    ))
    .unwrap();
    let [note] = config.notes.as_slice() else {
        panic!("{:?}", config.notes);
    };
    assert!(
        note.starts_with("'api_listening_sockets[0].tlsdh' is ignored"),
        "{note}"
    );
}

#[test]
fn registries() {
    let config = parse(
        "default_registry: registry.example\n\
         registries:\n\
         - name: docker.io\n  \
           mirrors: [https://mirror.example/hub, http://10.0.0.1:5000]\n\
         - name: registry.example:5000\n  \
           insecure: true\n  \
           ca_file: /etc/ssl/own.pem\n",
    )
    .unwrap();
    assert_eq!(config.registries.default.as_str(), "registry.example");
    let [hub, own] = config.registries.each.as_slice() else {
        panic!("{:?}", config.registries);
    };
    assert_eq!((hub.mirrors.len(), hub.insecure), (2, false));
    assert!(own.insecure && own.ca_file.is_some());
    for (text, part) in [
        ("registries:\n- mirrors: []\n", "'name' is missing"),
        ("registries:\n- name: a.b\n- name: a.b\n", "is there twice"),
        (
            "registries:\n- name: a.b\n  mirors: []\n",
            "did you mean 'mirrors'",
        ),
        (
            "registries:\n- name: a.b\n  mirrors: ['ftp://x']\n",
            "the form is",
        ),
        ("default_registry: a b\n", "default_registry"),
    ] {
        assert!(error(text).contains(part), "{text}: {}", error(text));
    }
}

#[test]
fn logging_can_be_switched_off() {
    let config = parse("enable_logging: false\nlog_level: debug\n").unwrap();
    assert_eq!(config.log_level, LevelFilter::OFF);
}

#[test]
fn errors_name_file_line_and_key() {
    let cases = [
        (
            "kleene_root: /k\nlog_levl: info\n",
            "c.yaml:2: unknown key 'log_levl': did you mean 'log_level'?",
        ),
        (
            "\n\nfoo: 1\n",
            "c.yaml:3: unknown key 'foo': the keys are allow_host_commands, api_listening_sockets, \
             default_registry, enable_logging, kleene_root, log_level, oci_runtime, pf_config_path, \
             pf_config_template_path, registries, socket_group, storage_driver",
        ),
        (
            "enable_logging: sure\n",
            "c.yaml:1: enable_logging: true or false is wanted here, not text",
        ),
        (
            "allow_host_commands: 1\n",
            "c.yaml:1: allow_host_commands: true or false is wanted here, not a number",
        ),
        (
            "# x\nkleene_root:\n",
            "c.yaml:2: kleene_root: text is wanted here, not nothing",
        ),
        (
            "kleene_root: 5\n",
            "c.yaml:1: kleene_root: text is wanted here, not a number",
        ),
        (
            "storage_driver: zsf\n",
            "c.yaml:1: storage_driver: 'zsf' is not known: did you mean 'zfs'?",
        ),
        (
            "log_level: verbose\n",
            "c.yaml:1: log_level: 'verbose' is not known: use one of trace, debug, info, notice, \
             warning, warn, error, critical, alert, emergency, none, off",
        ),
        (
            "api_listening_sockets:\n  - address: http:///x\n    tlskye: /k\n",
            "c.yaml:3: unknown key 'api_listening_sockets[0].tlskye': did you mean 'tlskey'?",
        ),
        (
            "api_listening_sockets:\n  - tlsverify: true\n",
            "c.yaml:2: api_listening_sockets[0]: the key 'address' is missing",
        ),
        (
            "api_listening_sockets:\n- http:///ok\n- address: https:///x\n",
            "c.yaml:3: api_listening_sockets[1]: 'https:///x' needs the key 'tlscert'",
        ),
        (
            "api_listening_sockets: http:///x\n",
            "c.yaml:1: api_listening_sockets: a list is wanted here, not text",
        ),
        (
            "pf_config_anything: relative\n",
            "c.yaml:1: pf_config_anything: 'relative' is not an absolute path",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(error(text), message);
    }
}

#[test]
fn errors_of_the_parser_have_a_line() {
    for (text, start) in [
        ("a: [1\nb: 2\n", "c.yaml:"),
        (
            "kleene_root: /a\nkleene_root: /b\n",
            "c.yaml:2: not valid YAML: ",
        ),
        ("- a\n", "c.yaml:1: "),
    ] {
        let message = error(text);
        assert!(message.starts_with(start), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("none.yaml");
    let message = load(Some(&missing)).unwrap_err().to_string();
    assert!(
        message.starts_with(&missing.display().to_string()),
        "{message}"
    );
    let message = load(Some(directory.path())).unwrap_err().to_string();
    assert!(message.contains("can't be read"), "{message}");
    let binary = directory.path().join("binary.yaml");
    std::fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
    assert!(
        load(Some(&binary))
            .unwrap_err()
            .to_string()
            .contains("UTF-8")
    );
}
