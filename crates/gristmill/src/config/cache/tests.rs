use super::super::tests::{environment, error_of, from_file};
use super::super::{DEFAULTS, Settings};
use super::*;

fn of(file: &str, variables: &[(&str, &str)]) -> CacheSettings {
    let (_dir, flags) = from_file(file);
    Settings::load(&flags, &environment(variables)).unwrap().cache
}

fn url_of(settings: CacheSettings) -> String {
    let CacheSettings::Redis(redis) = settings else { panic!("{settings:?}") };
    redis.url.0.to_string()
}

#[test]
fn older_systems_variables_choose_redis_unless_something_else_does() {
    assert!(matches!(of("", &[("REDIS_PORT", "1")]), CacheSettings::Memory(_)));
    for (variables, url) in [
        (vec![("REDIS_ADDR", "cache:7")], "redis://cache:7"),
        (vec![("REDIS_ADDR", "cache:7"), ("REDIS_HOST", "other")], "redis://cache:7"),
        (vec![("REDIS_HOST", "cache")], "redis://cache:6379"),
        (vec![("REDIS_HOST", "::1"), ("REDIS_PORT", "7")], "redis://::1:7"),
        (vec![("REDIS_ADDR", "redis://u:p@cache/3")], "redis://u:***@cache:6379/3"),
    ] {
        assert_eq!(url_of(of("", &variables)), url);
    }
    let variables = [("REDIS_ADDR", "cache:7")];
    let file = "[cache]\nurl = \"redis://file:1\"\nkeep = \"2m\"\n";
    assert_eq!(url_of(of(file, &variables)), "redis://file:1");
    assert_eq!(of("[cache]\nkind = \"none\"", &variables), CacheSettings::None);
    assert!(matches!(of("[cache]\nkind = \"memory\"", &variables), CacheSettings::Memory(_)));
    let both = [variables[0], ("DATABASE_URL", "postgres://h/d")];
    assert_eq!(url_of(of("", &both)), "redis://cache:7");
}

#[test]
fn errors_name_the_setting_or_the_variable() {
    for (file, names) in [
        ("[cache]\nkind = \"disk\"", "disk"),
        ("[cache]\nkind = \"redis\"", "url"),
        ("[cache]\nkind = \"redis\"\nurl = \"http://h\"", "cache.url"),
        ("[cache]\nkind = \"redis\"\nurl = \"rediss://h\"", "cache.url"),
        ("[cache]\nkind = \"redis\"\nurl = \"redis://h\"\nbytes = \"1 MiB\"", "bytes"),
        ("[cache]\nkind = \"none\"\nkeep = \"1h\"", "keep"),
        ("[cache]\nkeep = \"0s\"", "cache.keep"),
    ] {
        let error = error_of(file, &[]);
        assert!(error.contains(names), "{file}: {error}");
    }
    for (variable, names) in [
        (("REDIS_ADDR", "cache:port"), "REDIS_ADDR"),
        (("REDIS_ADDR", "rediss://:hidden@cache"), "REDIS_ADDR"),
        (("REDIS_HOST", "a b"), "REDIS_HOST"),
    ] {
        let error = error_of("", &[variable]);
        assert!(error.contains(names) && !error.contains("hidden"), "{variable:?}: {error}");
    }
}

#[test]
fn a_password_is_not_printed() {
    let (_dir, flags) = from_file("[cache]\nkind = \"redis\"\nurl = \"redis://:hidden@h/2\"\n");
    let settings = Settings::load(&flags, &HashMap::new()).unwrap();
    let printed = settings.to_toml().unwrap();
    assert!(printed.contains("redis://:***@h:6379/2"), "{printed}");
    assert!(!format!("{printed}{settings:?}").contains("hidden"));
}

/// The manual's other section stands in it as comments.
#[test]
fn what_the_manual_says_of_redis_is_what_it_sets() {
    let (_, rest) = DEFAULTS.split_once("# [cache]\n").unwrap();
    let lines = rest.lines().take_while(|line| !line.is_empty());
    let text: Vec<_> = lines.map(|line| line.strip_prefix("# ").unwrap()).collect();
    let CacheSettings::Redis(redis) = of(&format!("[cache]\n{}", text.join("\n")), &[]) else {
        panic!("another kind");
    };
    assert_eq!(redis.keep, default_keep());
}
