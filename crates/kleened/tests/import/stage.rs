//! What the original Kleene leaves behind: a database, and datasets that `zfs` tells of.

use std::path::{Path, PathBuf};

use kleene_command::{Answer, Scripted};
use kleene_store::Store;
use kleened::import::{self, ImportError, Machine, Options};
use rusqlite::Connection;
use serde_json::{Value, json};

/// An image without a parent.
pub const BASE: &str = "aaaa00000001";
/// An image that was built on it.
pub const BUILT: &str = "aaaa00000002";
/// A container of a build snapshot, with mounts and a network.
pub const WEB: &str = "cccc0000000a";
/// A container that boots.
pub const OTHER: &str = "cccc0000000b";

/// Name, origin and mount point of each dataset, beneath the root.
pub const LISTING: [(&str, &str, &str); 12] = [
    ("", "-", ""),
    ("container", "-", "container"),
    (
        "container/cccc0000000a",
        "image/aaaa00000002@6b3c821605d4",
        "container/cccc0000000a",
    ),
    (
        "container/cccc0000000b",
        "image/aaaa00000001@image",
        "container/cccc0000000b",
    ),
    ("image", "-", "image"),
    ("image/aaaa00000001", "-", "image/aaaa00000001"),
    ("image/aaaa00000001@image", "-", "-"),
    (
        "image/aaaa00000002",
        "image/aaaa00000001@image",
        "image/aaaa00000002",
    ),
    ("image/aaaa00000002@6b3c821605d4", "-", "-"),
    ("image/aaaa00000002@image", "-", "-"),
    ("volumes", "-", "volumes"),
    ("volumes/data", "-", "volumes/data"),
];

const ROOT: &str = "zroot/kleene";

/// The tables as the original makes them.
const SCHEMA: &str = "
    CREATE TABLE networks (id TEXT PRIMARY KEY, network TEXT);
    CREATE TABLE endpoint_configs (
        container_id TEXT, network_id TEXT, config TEXT, UNIQUE (container_id, network_id));
    CREATE TABLE images (id TEXT PRIMARY KEY, image TEXT);
    CREATE TABLE containers (id TEXT PRIMARY KEY, container TEXT);
    CREATE TABLE volumes (name TEXT PRIMARY KEY, volume TEXT);
    CREATE TABLE mounts (mount TEXT);
    CREATE VIEW api_list_containers AS SELECT containers.container FROM containers;
";

/// An image's record.
pub fn image(name: &str, tag: &str, dataset: Option<&str>) -> Value {
    json!({
        "name": name, "tag": tag, "user": "root", "cmd": ["/bin/sh", "/etc/rc"], "env": [],
        "instructions": [], "created": "2026-02-03T09:00:00.000001Z", "dataset": dataset,
    })
}

/// A container's record.
pub fn container(name: &str, image: &str) -> Value {
    json!({
        "name": name, "image_id": image, "cmd": ["/bin/sh", "/etc/rc"], "user": "root", "env": [],
        "network_driver": "host", "public_ports": [], "jail_param": [], "restart_policy": null,
        "persist": null, "created": "2026-02-03T11:00:00.5Z", "dataset": null, "running": false,
    })
}

/// A machine with what the original left.
pub struct Stage {
    directory: tempfile::TempDir,
    script: Scripted,
    /// Whether containers are jails.
    pub has_jails: bool,
}

impl Stage {
    /// A root without records, and a configuration.
    pub fn new() -> Self {
        let stage = Self {
            directory: tempfile::tempdir().unwrap(),
            script: Scripted::new(),
            has_jails: false,
        };
        std::fs::create_dir(stage.root()).unwrap();
        let config = format!(
            "kleene_root: \"{ROOT}\"\n\
             pf_config_template_path: \"/usr/local/etc/kleened/pf.conf.kleene\"\n\
             pf_config_path: \"/etc/pf.conf\"\n\
             api_listening_sockets:\n    - address: \"http://{}\"\n\
             enable_logging: true\nlog_level: \"info\"\n",
            stage.socket().display()
        );
        std::fs::write(stage.directory.path().join("config.yaml"), config).unwrap();
        stage
    }

    /// What its paths begin in.
    pub fn machine(&self) -> &Path {
        self.directory.path()
    }

    /// Where the root is mounted.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.root().join("metadata.sqlite")
    }

    /// Where the original listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("kleened.sock")
    }

    /// The database, opened as the original does.
    pub fn connection(&self) -> Connection {
        Connection::open(self.database()).unwrap()
    }

    /// The database, opened as we do.
    pub fn store(&self) -> Store {
        Store::open(&self.database()).unwrap()
    }

    /// Changes the database.
    pub fn sql(&self, statements: &str) {
        self.connection().execute_batch(statements).unwrap();
    }

    /// Adds a record.
    pub fn add(&self, table: &str, key: &str, record: &Value) {
        let sql = format!("INSERT INTO {table} VALUES (?, ?)");
        let text = record.to_string();
        self.connection().execute(&sql, [key, &text]).unwrap();
    }

    /// Adds a mount.
    pub fn mount(&self, container: &str, kind: &str, source: &str, destination: &str) {
        let mount = json!({
            "type": kind, "container_id": container, "source": source,
            "destination": destination, "read_only": kind == "nullfs",
        });
        let sql = "INSERT INTO mounts VALUES (?)";
        self.connection().execute(sql, [mount.to_string()]).unwrap();
    }

    /// The records that [`LISTING`] has the datasets of.
    pub fn usual(&self) {
        self.sql(SCHEMA);
        self.add("images", BASE, &image("FreeBSD", "14.2", None));
        let mut built = image("app", "latest", Some("zroot/kleene/image/aaaa00000002"));
        built["env"] = json!(["A=b=c"]);
        built["user"] = json!("www");
        built["created"] = json!("2026-02-03T10:00:00.123456Z");
        built["instructions"] = json!([["FROM FreeBSD:14.2", ""], ["RUN x", "@6b3c821605d4"]]);
        self.add("images", BUILT, &built);
        let mut web = container("web", BUILT);
        web["cmd"] = json!(["/usr/local/bin/www", "-f"]);
        web["network_driver"] = json!("ipnet");
        web["jail_param"] = json!(["allow.raw_sockets=true"]);
        web["restart_policy"] = json!("on-startup");
        web["persist"] = json!(true);
        web["public_ports"] = json!([{
            "interfaces": ["em0"], "host_port": "8080", "container_port": "80",
            "protocol": "tcp", "ip_address": "10.13.37.2", "ip_address6": "",
        }]);
        self.add("containers", WEB, &web);
        self.add("containers", OTHER, &container("/box", BASE));
        let volume = json!({
            "dataset": "zroot/kleene/volumes/data",
            "mountpoint": "/zroot/kleene/volumes/data", "created": "2026-02-03T08:00:00Z",
        });
        self.add("volumes", "data", &volume);
        self.mount(WEB, "volume", "data", "var/db");
        self.mount(WEB, "nullfs", "/home/me/www", "/www");
        // Updates of containers write mounts down again.
        self.mount(WEB, "volume", "data", "/var/db");
        let network = json!({"name": "testnet", "type": "loopback", "subnet": "10.13.37.0/24"});
        self.add("networks", "99aabbccddee", &network);
        let endpoint = json!({
            "id": "99aabbccddff", "network_id": "99aabbccddee", "container_id": WEB,
            "epair": null, "ip_address": "10.13.37.2", "ip_address6": "",
        });
        let sql = "INSERT INTO endpoint_configs VALUES (?, ?, ?)";
        self.connection()
            .execute(sql, [WEB, "99aabbccddee", &endpoint.to_string()])
            .unwrap();
    }

    /// Writes down a daemon's process id.
    pub fn pid(&self, pid: u32) {
        let run = self.directory.path().join("var/run");
        std::fs::create_dir_all(&run).unwrap();
        std::fs::write(run.join("kleened.pid"), format!("{pid}")).unwrap();
    }

    /// What `zfs` lists.
    pub fn lists(&self, datasets: &[(&str, &str, &str)]) -> &Self {
        let root = self.root();
        let beneath = |leaf: &str| match leaf {
            "-" => "-".to_owned(),
            "" => ROOT.to_owned(),
            leaf => format!("{ROOT}/{leaf}"),
        };
        let rows = datasets.iter().map(|(name, origin, mountpoint)| {
            let mountpoint = match *mountpoint {
                "-" => "-".to_owned(),
                "" => root.display().to_string(),
                leaf => root.join(leaf).display().to_string(),
            };
            format!(
                "{}\t{}\t{mountpoint}\n",
                beneath(name),
                beneath_origin(origin)
            )
        });
        let text: String = rows.collect();
        self.answers(
            &format!("zfs list -H -t filesystem,snapshot -o name,origin,mountpoint -r {ROOT}"),
            Answer::ok(text),
        )
    }

    /// What a command answers.
    pub fn answers(&self, line: &str, answer: Answer) -> &Self {
        let words: Vec<&str> = line.split(' ').collect();
        self.script.then(&words, answer);
        self
    }

    /// All files of the root with what is in them.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(self.root())
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let bytes = std::fs::read(entry.path()).unwrap_or_default();
                (entry.file_name().into_string().unwrap(), bytes)
            })
            .collect();
        files.sort();
        files
    }

    fn run(&self, yes: bool) -> (String, Result<(), ImportError>) {
        let machine = Machine {
            runner: &self.script,
            directory: self.directory.path(),
            is_root: true,
            has_jails: self.has_jails,
        };
        let options = Options {
            config: Some(self.directory.path().join("config.yaml")),
            from: None,
            yes,
        };
        let mut report = Vec::new();
        let result = import::run(&machine, &options, &mut report);
        self.script.finish().unwrap();
        let here = self.directory.path().to_str().unwrap();
        let report = String::from_utf8(report).unwrap().replace(here, "");
        (report, result)
    }

    /// The report of an import.
    pub fn report(&self, yes: bool) -> String {
        let (report, result) = self.run(yes);
        result.unwrap();
        report
    }

    /// Why an import is refused.
    pub fn refusal(&self, yes: bool) -> String {
        let mut error: &dyn std::error::Error = &self.run(yes).1.unwrap_err();
        let mut text = error.to_string();
        while let Some(cause) = error.source() {
            text = format!("{text}: {cause}");
            error = cause;
        }
        text
    }
}

fn beneath_origin(origin: &str) -> String {
    match origin {
        "-" => "-".to_owned(),
        origin => format!("{ROOT}/{origin}"),
    }
}
