//! The layers, and what each error names.

use std::collections::BTreeSet;
use std::time::Duration;

use gristmill_server::Role;

use super::*;

pub(super) fn environment(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(super) fn from_file(text: &str) -> (tempfile::TempDir, Flags) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gristmill.toml");
    std::fs::write(&path, text).unwrap();
    (dir, Flags { config: Some(path), ..Flags::default() })
}

pub(super) fn error_of(file: &str, variables: &[(&str, &str)]) -> String {
    let (_dir, flags) = from_file(file);
    format!("{:#}", Settings::load(&flags, &environment(variables)).unwrap_err())
}

#[test]
fn the_defaults_are_whole_and_print_as_they_are_read() {
    let settings = Settings::load(&Flags::default(), &HashMap::new()).unwrap();
    assert_eq!(settings.server.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(settings.log_dir(), PathBuf::from("./data/log"));
    let (_dir, flags) = from_file(&settings.to_toml().unwrap());
    assert_eq!(Settings::load(&flags, &HashMap::new()).unwrap(), settings);
}

#[test]
fn a_later_layer_wins() {
    let (_dir, mut flags) =
        from_file("data_dir = \"/file\"\n[store]\nshards = 2\nseal_age = \"1m\"\nslice_days = 3\n");
    let variables = environment(&[
        ("GRISTMILL__STORE__SHARDS", "4"),
        ("GRISTMILL__STORE__SEAL_BYTES", "1 MiB"),
        ("GRISTMILL__LOG__SEGMENT_BYTES", "134217728"),
        ("GRISTMILL__DATA_DIR", "/environment"),
        ("GRISTMILL__SERVER__LISTEN", "127.0.0.1:1,[::1]:2"),
        ("GRISTMILL_DATA_DIR", "not a setting"),
    ]);
    let settings = Settings::load(&flags, &variables).unwrap();
    let StoreSettings::Columnar(store) = &settings.store else { panic!("{settings:?}") };
    assert_eq!((store.shards, store.slice_days), (4, 3));
    assert_eq!(store.seal_age, Span(Duration::from_secs(60)));
    assert_eq!(store.seal_bytes, ByteSize(1 << 20));
    let LogSettings::Embedded(log) = &settings.log else { panic!("{settings:?}") };
    assert_eq!(log.segment_bytes, ByteSize(128 << 20));
    assert_eq!(settings.data_dir, PathBuf::from("/environment"));
    assert_eq!(settings.server.listen.len(), 2);

    flags.data_dir = Some("/flag".into());
    flags.listen = vec!["127.0.0.1:9".parse().unwrap()];
    let settings = Settings::load(&flags, &variables).unwrap();
    assert_eq!(settings.data_dir, PathBuf::from("/flag"));
    assert_eq!(settings.server.listen, flags.listen);
}

#[test]
fn errors_name_the_setting() {
    for (file, names) in [
        ("[server]\nlisten = [\"localhost\"]", "server.listen"),
        ("[store]\nseal_bytes = \"lots\"", "seal_bytes"),
        ("[query]\ndeadline = 30", "query.deadline"),
        ("[query]\nthreads = \"many\"", "query.threads"),
        ("[ingest]\nmax_body = \"1 MiB\"", "max_body"),
        ("[sever]\nlisten = []", "sever"),
        ("[log]\nkind = \"floppy\"", "floppy"),
        ("[log]\npartitions = 0", "log.partitions"),
        ("[log]\nkind = \"kafka\"\ntopic = \"a b\"", "log.topic"),
        ("[log]\nkind = \"kafka\"\nbrokers = \"\"", "log.brokers"),
        ("[log]\nkind = \"kafka\"\npartitions = 1000", "log.partitions"),
        ("[log]\nkind = \"kafka\"\nsegment_bytes = \"64 MiB\"", "segment_bytes"),
        ("[store]\nshards = 1000", "store.shards"),
        ("[server]\nlisten = []", "server.listen"),
        ("[store]\nkind = \"postgres\"", "url"),
        ("[store]\nkind = \"postgres\"\nurl = \"postgres://h/d?sslmode=require\"", "store.url"),
        ("[store]\nkind = \"postgres\"\nurl = \"postgres://h\"\nshards = 2", "shards"),
        (
            "[store]\nkind = \"postgres\"\nurl = \"postgres://h\"\nconnections = 0",
            "store.connections",
        ),
        ("[telemetry]\nformat = \"xml\"", "telemetry.format"),
        ("[ingest]\nmax_in_flight_bytes = \"1 KiB\"", "ingest.max_in_flight_bytes"),
    ] {
        let error = error_of(file, &[]);
        assert!(error.contains(names), "{file}: {error}");
    }
    let error = error_of("", &[("GRISTMILL__STORE__SHARDS", "x")]);
    assert!(error.contains("store"), "{error}");
    let error = error_of("", &[("GRISTMILL__STOER__SHARDS", "1")]);
    assert!(error.contains("stoer"), "{error}");
}

#[test]
fn a_variable_is_a_number_only_where_one_is_expected() {
    let (_dir, flags) = from_file("[log]\nkind = \"kafka\"\nbrokers = \"b:1\"");
    let variables = environment(&[
        ("GRISTMILL__LOG__TOPIC", "007"),
        ("GRISTMILL__LOG__GROUP", "TRUE"),
        ("GRISTMILL__LOG__PARTITIONS", "12"),
        ("GRISTMILL__TELEMETRY__OTLP_SAMPLE_RATIO", "0.25"),
        ("GRISTMILL__SERVER__INSECURE_NO_AUTH", "true"),
    ]);
    let settings = Settings::load(&flags, &variables).unwrap();
    let LogSettings::Kafka(log) = &settings.log else { panic!("{settings:?}") };
    assert_eq!((log.topic.as_str(), log.group.as_str(), log.partitions), ("007", "TRUE", 12));
    assert_eq!(settings.telemetry.otlp_sample_ratio, Ratio(0.25));
    assert!(settings.server.insecure_no_auth);
    let error = error_of("", &[("GRISTMILL__STORE__SEAL_AGE", "10")]);
    assert!(
        error.contains("`10` is not a length of time") && error.contains("seal_age"),
        "{error}"
    );
    let error = error_of("", &[("GRISTMILL__QUERY__THREADS", "x")]);
    assert!(error.contains("query.threads"), "{error}");
}

#[test]
fn variables_of_all_lists_are_lists() {
    let defaults: toml::Table = DEFAULTS.parse().unwrap();
    let (sections, top): (Vec<_>, Vec<_>) =
        defaults.iter().partition(|(_, value)| value.is_table());
    let within = sections.iter().flat_map(|(section, values)| {
        let values = values.as_table().into_iter().flatten();
        values.map(move |(name, value)| (format!("{section}.{name}"), value))
    });
    let all = within.chain(top.into_iter().map(|(name, value)| (name.clone(), value)));
    let lists = all.filter(|(_, value)| value.is_array()).map(|(name, _)| name);
    assert_eq!(BTreeSet::from_iter(lists), BTreeSet::from(LISTS.map(str::to_owned)));
    let none = environment(&[("gristmill__server__cors_origins", "")]);
    let settings = Settings::load(&Flags::default(), &none).unwrap();
    assert!(settings.server.cors_origins.is_empty());
}

#[test]
fn older_systems_variables_choose_the_store_unless_something_else_does() {
    let variables = [("DATABASE_URL", "postgres://ada:hidden@db/events")];
    let settings = Settings::load(&Flags::default(), &environment(&variables)).unwrap();
    let StoreSettings::Postgres(store) = &settings.store else { panic!("{settings:?}") };
    assert_eq!(store.connections, 8);
    let printed = settings.to_toml().unwrap();
    assert!(printed.contains("host=db port=5432 dbname=events user=ada password=***"), "{printed}");
    assert!(!format!("{printed}{settings:?}").contains("hidden"));

    let (_dir, flags) = from_file("[store]\nurl = \"postgres://file/d\"\nconnections = 3\n");
    let variables = [variables[0], ("FLUSH_INTERVAL_SEC", "7"), ("BATCH_SIZE", "5")];
    let settings = Settings::load(&flags, &environment(&variables)).unwrap();
    let StoreSettings::Postgres(store) = &settings.store else { panic!("{settings:?}") };
    assert_eq!((store.flush_interval.0, store.flush_events), (Duration::from_secs(7), 5));
    assert_eq!(
        (store.url.0.to_string().as_str(), store.connections),
        ("host=file port=5432 dbname=d", 3)
    );

    for chosen in ["[store]\nkind = \"columnar\"", "[store]\nkind = \"columnar\"\nshards = 2"] {
        let (_dir, flags) = from_file(chosen);
        let settings = Settings::load(&flags, &environment(&variables)).unwrap();
        assert!(matches!(settings.store, StoreSettings::Columnar(_)), "{settings:?}");
    }
}

#[test]
fn older_systems_name_the_parts_of_an_address_too() {
    let of = |pairs: &[(&str, &str)]| {
        let settings = Settings::load(&Flags::default(), &environment(pairs)).unwrap();
        match settings.store {
            StoreSettings::Postgres(store) => Some(store.url.0.to_string()),
            StoreSettings::Columnar(_) => None,
        }
    };
    assert_eq!(of(&[("DB_PORT", "1"), ("DB_NAME", "x"), ("BATCH_SIZE", "0")]), None);
    assert_eq!(
        of(&[("DB_HOST", "db")]).unwrap(),
        "host=db port=5432 dbname=analytics user=postgres password=***"
    );
    let all = [
        ("DB_HOST", "db"),
        ("DB_PORT", "6"),
        ("DB_USER", "a'b"),
        ("DB_PASSWORD", r"p\ @://hidden"),
        ("DB_NAME", "d"),
    ];
    assert_eq!(of(&all).unwrap(), r"host=db port=6 dbname=d user='a\'b' password=***");
    let both = [("DATABASE_URL", "postgres://h/d"), ("DB_HOST", "other")];
    assert_eq!(of(&both).unwrap(), "host=h port=5432 dbname=d");
}

#[test]
fn errors_name_the_older_systems_variable() {
    let chosen = ("DB_HOST", "db");
    for (variable, names) in [
        (("FLUSH_INTERVAL_SEC", "10s"), "FLUSH_INTERVAL_SEC: \"10s\""),
        (("FLUSH_INTERVAL_SEC", "0"), "FLUSH_INTERVAL_SEC"),
        (("BATCH_SIZE", "0"), "BATCH_SIZE"),
        (("DB_PORT", "x"), "DB_PORT"),
        (("DATABASE_URL", "postgres://h/d?sslmode=require"), "DATABASE_URL: asks for TLS"),
    ] {
        let error = error_of("", &[chosen, variable]);
        assert!(error.contains(names), "{variable:?}: {error}");
    }
    // What is set elsewhere is not asked for.
    let (_dir, flags) = from_file("[store]\nurl = \"postgres://file/d\"\nflush_events = 3\n");
    let variables = environment(&[("DATABASE_URL", "postgres://h:x"), ("BATCH_SIZE", "0")]);
    Settings::load(&flags, &variables).unwrap();
}

/// The manual's other sections stand in it as comments.
#[test]
fn what_the_manual_says_of_postgres_is_what_it_sets() {
    let (_, rest) = DEFAULTS.split_once("# [store]\n").unwrap();
    let lines = rest.lines().take_while(|line| !line.is_empty());
    let text: Vec<_> = lines.map(|line| line.strip_prefix("# ").unwrap()).collect();
    let (_dir, flags) = from_file(&format!("[store]\n{}", text.join("\n")));
    let settings = Settings::load(&flags, &HashMap::new()).unwrap();
    let StoreSettings::Postgres(store) = &settings.store else { panic!("{settings:?}") };
    assert_eq!(store.connections, default_connections());
    assert_eq!(store.flush_interval, default_flush_interval());
    assert_eq!(store.flush_events, default_flush_events());
}

#[test]
fn other_machines_are_kept_out_unless_let_in_by_name() {
    let mut flags = Flags { listen: vec!["0.0.0.0:8080".parse().unwrap()], ..Flags::default() };
    let demands =
        |flags: &Flags| Settings::load(flags, &HashMap::new()).unwrap().server.demands_keys();
    assert_eq!(demands(&flags).unwrap(), "server.listen: 0.0.0.0:8080");
    flags.insecure_no_auth = true;
    assert_eq!(demands(&flags), None);
    let mut flags = Flags { grpc_listen: vec!["[::]:1".parse().unwrap()], ..Flags::default() };
    assert_eq!(demands(&flags).unwrap(), "server.grpc_listen: [::]:1");
    flags.grpc_listen = vec!["[::1]:1".parse().unwrap()];
    assert_eq!(demands(&flags), None);
}

#[test]
fn the_admin_key_is_long_and_shown_to_nobody() {
    let key = "0123456789abcdef0123456789abcdef";
    let load =
        |variables: &[(&str, &str)]| Settings::load(&Flags::default(), &environment(variables));
    let settings = load(&[("GRISTMILL__SERVER__ADMIN_KEY", key)]).unwrap();
    assert!(settings.server.admin_key().unwrap().is_some());
    let shown = format!("{settings:?} {}", settings.to_toml().unwrap());
    assert!(!shown.contains(key), "{shown}");
    assert!(load(&[]).unwrap().server.admin_key().unwrap().is_none());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, format!("{key}\n")).unwrap();
    let path = ("GRISTMILL__SERVER__ADMIN_KEY_FILE", file.to_str().unwrap());
    assert!(load(&[path]).unwrap().server.admin_key().unwrap().is_some());
    let error = |variables: &[(&str, &str)]| format!("{:#}", load(variables).unwrap_err());
    for short in ["short", "0123456789abcdef 0123456789abcdef"] {
        let said = error(&[("GRISTMILL__SERVER__ADMIN_KEY", short)]);
        assert!(said.contains("server.admin_key") && !said.contains(short), "{said}");
    }
    let both = error(&[path, ("GRISTMILL__SERVER__ADMIN_KEY", key)]);
    assert!(both.contains("both set") && !both.contains(key), "{both}");
    std::fs::write(&file, "").unwrap();
    assert!(error(&[path]).contains("is empty"));
    std::fs::remove_file(&file).unwrap();
    assert!(error(&[path]).contains("server.admin_key_file"));
}

#[test]
fn origins_are_whole_and_no_patterns() {
    for origin in ["*", "example.com", "https://example.com/x", "https://*.example.com", "null"] {
        let variables = [("GRISTMILL__SERVER__CORS_ORIGINS", origin)];
        let loaded = Settings::load(&Flags::default(), &environment(&variables));
        let said = format!("{:#}", loaded.unwrap_err());
        assert!(said.contains("server.cors_origins"), "{said}");
    }
    let two = [("GRISTMILL__SERVER__CORS_ORIGINS", "https://a.example,http://localhost:3000")];
    let settings = Settings::load(&Flags::default(), &environment(&two)).unwrap();
    assert_eq!(settings.server.cors_origins, ["https://a.example", "http://localhost:3000"]);
}

fn kafka(flags: &Flags, variables: &[(&str, &str)]) -> KafkaSettings {
    match Settings::load(flags, &environment(variables)).unwrap().log {
        LogSettings::Kafka(kafka) => *kafka,
        LogSettings::Embedded(_) => panic!("the log is embedded"),
    }
}

#[test]
fn older_systems_environments_choose_a_topic() {
    let none = Flags::default();
    let chosen = kafka(&none, &[("KAFKA_BROKER", "b:1")]);
    assert_eq!(chosen, KafkaSettings { brokers: "b:1".to_owned(), ..KafkaSettings::default() });
    let variables = [
        ("KAFKA_BROKERS", "a:1,b:2"),
        ("KAFKA_BROKER", "c:3"),
        ("KAFKA_TOPIC", "clicks"),
        ("KAFKA_GROUP_ID", "readers"),
    ];
    let chosen = kafka(&none, &variables);
    assert_eq!(chosen.brokers, "a:1,b:2");
    assert_eq!((chosen.topic.as_str(), chosen.group.as_str()), ("clicks", "readers"));

    // What a file says wins, its kind as well.
    let (_dir, flags) = from_file("[log]\ntopic = \"mine\"");
    assert_eq!(kafka(&flags, &variables).topic, "mine");
    let (_dir, flags) = from_file("[log]\nkind = \"embedded\"");
    let settings = Settings::load(&flags, &environment(&variables)).unwrap();
    assert!(matches!(settings.log, LogSettings::Embedded(_)), "{settings:?}");
    // A topic alone chooses nothing.
    let settings = Settings::load(&none, &environment(&[("KAFKA_TOPIC", "t")])).unwrap();
    assert!(matches!(settings.log, LogSettings::Embedded(_)), "{settings:?}");
}

#[test]
fn presets_lie_between_the_defaults_and_everything_else() {
    for (preset, topic, group, partitions, is_postgres) in [
        (Preset::Clicks, "clicks", "click-processor-group", 1, true),
        (Preset::Platform, "analytics-events", "analytics-consumer-group", 3, false),
        (Preset::Activity, "incoming.user_activity", "user-activity-consumer-group", 3, true),
        (Preset::Sessions, "events", "processor", 6, true),
    ] {
        let flags = Flags { preset: Some(preset), ..Flags::default() };
        let found = kafka(&flags, &[]);
        let told = (found.topic.as_str(), found.group.as_str(), found.partitions);
        assert_eq!(told, (topic, group, partitions));
        let settings = Settings::load(&flags, &HashMap::new()).unwrap();
        assert_eq!(matches!(settings.store, StoreSettings::Postgres(_)), is_postgres);
        let found = kafka(&flags, &[("KAFKA_BROKERS", "b:1"), ("KAFKA_TOPIC", "t")]);
        assert_eq!((found.brokers.as_str(), found.topic.as_str()), ("b:1", "t"));
        assert_eq!(found.group, group);
    }
    let (_dir, flags) = from_file("[log]\nkind = \"embedded\"\n[store]\nkind = \"columnar\"");
    let flags = Flags { preset: Some(Preset::Clicks), ..flags };
    let settings = Settings::load(&flags, &HashMap::new()).unwrap();
    assert!(matches!(settings.log, LogSettings::Embedded(_)), "{settings:?}");
    assert_eq!(settings.server.listen.len(), 2);
}

#[test]
fn a_preset_gives_each_role_the_addresses_of_its_service() {
    let database = environment(&[("DATABASE_URL", "postgres://h/d")]);
    let addresses = |preset, roles: &[Role]| {
        let roles = roles.iter().copied().map(RoleName).collect();
        let flags = Flags { preset: Some(preset), roles, ..Flags::default() };
        let settings = Settings::load(&flags, &database).unwrap();
        let ports = |addresses: &[SocketAddr]| addresses.iter().map(SocketAddr::port).collect();
        let ports: [Vec<u16>; 2] =
            [&settings.server.listen, &settings.server.grpc_listen].map(|it| ports(it));
        ports
    };
    use Role::{Gateway, Ingest, Process, Query};
    assert_eq!(addresses(Preset::Clicks, &[]), [vec![8080, 8081], vec![50051]]);
    assert_eq!(addresses(Preset::Clicks, &[Query]), [vec![8082], vec![50051]]);
    assert_eq!(addresses(Preset::Clicks, &[Gateway]), [vec![8081], vec![50053]]);
    assert_eq!(addresses(Preset::Platform, &[Process]), [vec![8082], vec![50052]]);
    assert_eq!(addresses(Preset::Sessions, &[Process, Ingest]), [vec![8081, 8082], vec![50051]]);
    for preset in [Preset::Clicks, Preset::Platform, Preset::Activity, Preset::Sessions] {
        // On one machine no two of them want the same port, and the gateway finds the others.
        let apart = [Ingest, Process, Query, Gateway].map(|role| addresses(preset, &[role]));
        let mut ports: Vec<_> = apart.iter().flatten().flatten().copied().collect();
        let count = ports.len();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), count, "{preset:?}: {apart:?}");
        let flags =
            Flags { preset: Some(preset), roles: vec![RoleName(Gateway)], ..Flags::default() };
        let gateway = Settings::load(&flags, &database).unwrap().gateway;
        for (targets, role) in [(&gateway.ingest, &apart[0]), (&gateway.query, &apart[2])] {
            assert_eq!(targets[0].to_string(), format!("http://127.0.0.1:{}", role[1][0]));
        }
    }
}

#[test]
fn opentelemetrys_variables_name_the_collector_unless_a_setting_does() {
    let variables =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318"), ("OTEL_SERVICE_NAME", "ours")];
    let settings = Settings::load(&Flags::default(), &environment(&variables)).unwrap();
    assert_eq!(settings.telemetry.otlp_endpoint, "http://a:4318");
    assert_eq!(settings.telemetry.otlp_service_name, "ours");
    let (_dir, flags) = from_file("[telemetry]\notlp_endpoint = \"https://b\"\n");
    let settings = Settings::load(&flags, &environment(&variables)).unwrap();
    assert_eq!(settings.telemetry.otlp_endpoint, "https://b");
    let error = error_of("[telemetry]\notlp_sample_ratio = 1.5\n", &[]);
    assert!(error.contains("1.5 is not between 0.0 and 1.0"), "{error}");
}
