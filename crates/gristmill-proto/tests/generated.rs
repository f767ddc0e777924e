//! What is committed is what `proto/` says; what clients know of it stays; and it keeps to the rules of the
//! field (those of buf's category STANDARD that the two older systems' names allow).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use prost_types::{FileDescriptorProto, FileDescriptorSet};

#[path = "../examples/generate.rs"]
#[allow(dead_code, reason = "`main` is the example's")]
mod generate;

fn descriptors() -> FileDescriptorSet {
    generate::generate(tempfile::tempdir().unwrap().path()).unwrap()
}

fn is_ours(file: &&FileDescriptorProto) -> bool {
    !file.package().starts_with("google.")
}

#[test]
fn generated_code_is_what_the_proto_files_say() -> anyhow::Result<()> {
    let anew = tempfile::tempdir()?;
    generate::generate(anew.path())?;
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated");
    let mut count = 0;
    for entry in fs::read_dir(anew.path())? {
        let name = entry?.file_name();
        let is_same = fs::read(anew.path().join(&name))? == fs::read(committed.join(&name))?;
        assert!(
            is_same,
            "{} is older than proto/: run `cargo run -p gristmill-proto --example generate`",
            name.display()
        );
        count += 1;
    }
    assert_eq!(count, fs::read_dir(&committed)?.count(), "a file too many in src/generated");
    Ok(())
}

#[test]
fn nothing_that_clients_know_has_changed() -> anyhow::Result<()> {
    let now = generate::wire(&descriptors());
    let text = fs::read_to_string(generate::proto_folder().join("wire.txt"))?;
    let known: BTreeSet<_> = text.lines().map(str::to_owned).collect();
    let gone: Vec<_> = known.difference(&now).collect();
    assert!(gone.is_empty(), "changed or gone: {gone:#?}");
    let new: Vec<_> = now.difference(&known).collect();
    assert!(
        new.is_empty(),
        "not in proto/wire.txt: {new:#?}: run `cargo run -p gristmill-proto --example generate`"
    );
    Ok(())
}

#[test]
fn files_lie_where_their_packages_say() {
    for file in descriptors().file.iter().filter(is_ours) {
        let folder = file.package().replace('.', "/");
        let is_there = file.name().rsplit_once('/').is_some_and(|(parent, _)| parent == folder);
        assert!(is_there, "{} has the package {}", file.name(), file.package());
    }
}

#[test]
fn names_are_as_usual() {
    let is_snake = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let descriptors = descriptors();
    for file in descriptors.file.iter().filter(is_ours) {
        for service in file.service.iter().filter(|_| file.package().starts_with("analytics")) {
            assert!(service.name().ends_with("Service"), "{}", service.name());
        }
        for message in &file.message_type {
            for field in &message.field {
                assert!(is_snake(field.name()), "{}.{}", message.name(), field.name());
            }
        }
        for choice in &file.enum_type {
            let mut prefix = String::new();
            for letter in choice.name().chars() {
                if letter.is_ascii_uppercase() && !prefix.is_empty() {
                    prefix.push('_');
                }
                prefix.push(letter.to_ascii_uppercase());
            }
            for value in &choice.value {
                assert!(value.name().starts_with(&format!("{prefix}_")), "{}", value.name());
            }
            let zero = choice.value.first().map(|value| (value.number(), value.name()));
            assert_eq!(zero, Some((0, format!("{prefix}_UNSPECIFIED").as_str())));
        }
    }
}

#[test]
fn services_and_methods_are_described() {
    // The path of a comment: 6 is a file's services, 2 a service's methods.
    for file in descriptors().file.iter().filter(is_ours) {
        let info = file.source_code_info.as_ref();
        let described: BTreeSet<_> = info
            .into_iter()
            .flat_map(|info| &info.location)
            .filter(|location| location.leading_comments.is_some())
            .map(|location| location.path.clone())
            .collect();
        for (number, service) in (0..).zip(&file.service) {
            if !file.package().ends_with(".v1") {
                continue;
            }
            for (method_number, method) in (0..).zip(&service.method) {
                let path = vec![6, number, 2, method_number];
                assert!(described.contains(&path), "{}/{}", service.name(), method.name());
            }
        }
    }
}
