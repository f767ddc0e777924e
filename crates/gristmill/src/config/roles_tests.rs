//! Which roles may be in a process, and what each needs.

use gristmill_server::Role;

use super::tests::{environment, error_of, from_file};
use super::*;

const GATEWAY: &str = "[gateway]\ningest = [\"http://a:50051\"]\nquery = [\"http://b:50051\"]\n";
const POSTGRES: &str = "[store]\nkind = \"postgres\"\nurl = \"postgres://h/d\"\n";

#[test]
fn roles_come_from_every_layer() {
    let roles_of = |settings: &Settings| settings.roles().into_iter().collect::<Vec<_>>();
    let settings = Settings::load(&Flags::default(), &HashMap::new()).unwrap();
    assert_eq!(roles_of(&settings), [Role::Ingest, Role::Process, Role::Query]);
    let variables = environment(&[
        ("GRISTMILL__ROLES", "gateway"),
        ("GRISTMILL__GATEWAY__INGEST", "http://a:1,http://b:2"),
        ("GRISTMILL__GATEWAY__QUERY", "http://[::1]:3/"),
        ("GRISTMILL__SERVER__GRPC_LISTEN", "127.0.0.1:50051"),
    ]);
    let settings = Settings::load(&Flags::default(), &variables).unwrap();
    assert_eq!(roles_of(&settings), [Role::Gateway]);
    let printed = |targets: &[Target]| targets.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(printed(&settings.gateway.ingest), ["http://a:1", "http://b:2"]);
    assert_eq!(printed(&settings.gateway.query), ["http://[::1]:3"]);
    assert_eq!(settings.server.grpc_listen.len(), 1);
    let (_dir, flags) = from_file(GATEWAY);
    let flags = Flags { roles: vec![RoleName(Role::Gateway)], ..flags };
    let settings = Settings::load(&flags, &HashMap::new()).unwrap();
    let (_dir, flags) = from_file(&settings.to_toml().unwrap());
    assert_eq!(
        Settings::load(&flags, &HashMap::new()).unwrap(),
        settings,
        "it prints as it is read"
    );
}

#[test]
fn who_speaks_to_clients_listens_for_grpc_unless_told_otherwise() {
    let ports = |flags: &Flags, variables: &[(&str, &str)]| {
        let environment = environment(variables);
        let settings = Settings::load(flags, &environment).unwrap();
        let is_default = Settings::listens_for_grpc_by_default(flags, &environment).unwrap();
        let ports: Vec<_> = settings.server.grpc_listen.iter().map(SocketAddr::port).collect();
        (ports, is_default)
    };
    assert_eq!(ports(&Flags::default(), &[]), (vec![50051], true));
    let (_dir, gateway) = from_file(GATEWAY);
    let with_role = |role| Flags { roles: vec![RoleName(role)], ..gateway.clone() };
    assert_eq!(ports(&with_role(Role::Gateway), &[]), (vec![50051], true));
    let shared = [("DATABASE_URL", "postgres://h/d"), ("KAFKA_BROKERS", "b:1")];
    for role in [Role::Ingest, Role::Process, Role::Query] {
        assert_eq!(ports(&with_role(role), &shared), (vec![], true), "{role}");
    }
    let variable = "GRISTMILL__SERVER__GRPC_LISTEN";
    assert_eq!(ports(&Flags::default(), &[(variable, "")]), (vec![], false));
    let two = (vec![1, 2], false);
    assert_eq!(ports(&Flags::default(), &[(variable, "127.0.0.1:1,127.0.0.1:2")]), two);
    let flags = Flags { grpc_listen: vec!["127.0.0.1:3".parse().unwrap()], ..Flags::default() };
    assert_eq!(ports(&flags, &[(variable, "")]), (vec![3], false));
    let (_dir, flags) = from_file("[server]\ngrpc_listen = []");
    assert_eq!(ports(&flags, &[]), (vec![], false));
    let (_dir, flags) = from_file("[server]\ngrpc_listen = [\"127.0.0.1:50051\"]");
    assert_eq!(ports(&flags, &[]), (vec![50051], false));
    let flags = Flags { preset: Some(Preset::Clicks), ..Flags::default() };
    assert_eq!(ports(&flags, &shared), (vec![50051], false));
}

#[test]
fn what_cannot_be_apart_is_refused_with_what_to_do() {
    for (file, names) in [
        ("roles = []", "roles"),
        ("roles = [\"cook\"]", "roles: \"cook\" is no role"),
        ("roles = [\"ingest\"]", "log.kind = \"kafka\""),
        ("roles = [\"process\", \"query\"]", "log.kind = \"kafka\""),
        ("roles = [\"gateway\"]", "gateway.ingest"),
        ("roles = [\"gateway\"]\n[gateway]\ningest = [\"http://a:1\"]", "gateway.query"),
        ("roles = [\"ingest\", \"process\", \"query\", \"gateway\"]", "leave `gateway` out"),
        ("[gateway]\nquery = [\"http://a\"]", "http://host:port"),
        ("[gateway]\nquery = [\"ftp://a:1\"]", "http://host:port"),
        ("[gateway]\nquery = [\"http://a:1/x\"]", "http://host:port"),
        ("[gateway]\nquery = [\"http://a:1?x\"]", "http://host:port"),
        ("[gateway]\nquery = [\"http://user:secret@a:1\"]", "http://host:port"),
        ("[process]\nworkers = 0", "process.workers"),
        ("[process]\nworkers = 2", "process.workers"),
    ] {
        let error = error_of(file, &[]);
        assert!(error.contains(names), "{file}: {error}");
    }
    // A store that is a server is not enough.
    let error = error_of(&format!("roles = [\"query\"]\n{POSTGRES}"), &[]);
    assert!(error.contains("log.kind") && error.contains("`query`"), "{error}");
    let zero = "roles = [\"gateway\"]\n[gateway]\ntries = 0\ningest = [\"http://a:1\"]\n\
                query = [\"http://a:1\"]";
    let error = error_of(zero, &[]);
    assert!(error.contains("gateway.tries"), "{error}");
    for (workers, names) in [("3", "NUM_WORKERS"), ("many", "NUM_WORKERS"), ("0", "NUM_WORKERS")] {
        let error = error_of(POSTGRES, &[("NUM_WORKERS", workers)]);
        assert!(error.contains(names), "{workers}: {error}");
    }
    let (_dir, flags) = from_file("[process]\nworkers = 1\n");
    let settings = Settings::load(&flags, &environment(&[("NUM_WORKERS", "3")])).unwrap();
    assert_eq!(settings.process.workers, 1, "the file wins over older systems' variables");
}
